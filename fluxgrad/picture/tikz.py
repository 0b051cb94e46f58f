"""The picture for a paper: the SVG, mark by mark, as TikZ. So both have the same places, colours, widths and texts."""

from __future__ import annotations

import re
import unicodedata
import xml.etree.ElementTree as ET
from itertools import cycle, takewhile
from typing import NamedTuple

from fluxgrad.picture import style
from fluxgrad.picture.layout import Point

SVG = "{http://www.w3.org/2000/svg}"

_TOP = r"""\documentclass[tikz]{standalone}
\usepackage[T1]{fontenc}
\usepackage{lmodern,amsmath,textcomp}
\newcommand\fgsize[1]{\fontsize{#1bp}{#1bp}\selectfont}
\newcommand\fgname{\rmfamily\itshape}
% A text at its place; one that its card is too narrow for is squeezed.
\newcommand\fgtext[4][]{\path (#2,#3) node[anchor=base west,inner sep=0pt,outer sep=0pt,#1] {#4};}
\newsavebox\fgbox
\newcommand\fgfit[2]{\sbox\fgbox{#2}\ifdim\wd\fgbox>#1\resizebox{#1}{\height}{\usebox\fgbox}\else\usebox\fgbox\fi}
"""


def tikz(svg: str) -> str:
    """A drawn picture as a LaTeX document that stands alone, in ASCII but for its comments.

    Raises ValueError for a mark that it has no TikZ for: the SVG of a picture has none.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> r"$\\dot{L}_{x}$" in tikz(fg.draw(x * 2.0).svg)
    True
    """
    root = ET.fromstring(svg)
    pen = _Pen(root)
    pen.group(root, {"fill": style.LIGHT["ink"], "font-size": str(style.SIZE)}, (0.0, 0.0), _Room())
    pen.colour(style.LIGHT["ink"])
    colours = "".join(f"\\definecolor{{{name}}}{{HTML}}{{{hexa[1:]}}}\n" for hexa, name in pen.colours.items())
    # One unit is one pixel of the SVG, of which CSS puts 96 in an inch; y runs downwards there.
    lines = [
        f"% {_comment(root[0].text)}\n{_TOP}{colours}\\begin{{document}}\\sffamily",
        f"\\begin{{tikzpicture}}[x=0.75bp,y=-0.75bp,text={pen.colour(style.LIGHT['ink'])},font=\\fgsize{{{_bp(style.SIZE)}}}]",
        f"\\path (0,0) rectangle ({root.get('width')},{root.get('height')});",
        *pen.lines,
        "\\end{tikzpicture}\n\\end{document}\n",
    ]
    return "\n".join(lines)


# ----- The marks -----

Look = dict[str, str]
_INHERITED = {"color", "fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "font-size"}
_INHERITED |= {"font-style", "font-weight", "text-anchor"}
_ANCHORS = {"middle": "anchor=base", "end": "anchor=base east"}


class _Room(NamedTuple):
    """What a node leaves for its text: the right end of its card, or the middle of its circle."""

    right: float | None = None
    middle: float | None = None


class _Pen:
    def __init__(self, root: ET.Element) -> None:
        self.lines: list[str] = []
        self.colours: dict[str, str] = {}
        self._looks = looks(root)
        self._nodes = 0

    def group(self, g: ET.Element, look: Look, at: Point, room: _Room) -> None:
        """A group and all in it; `at` is where its origin lies in the picture."""
        look = self._heir(look, g)
        if moved := re.fullmatch(r"translate\(([-\d.]+)[ ,]([-\d.]+)\)", g.get("transform", "translate(0 0)")):
            at = (at[0] + float(moved[1]), at[1] + float(moved[2]))
        else:
            raise ValueError(f"tikz: the transform {g.get('transform')!r} is not a translation")
        marks = list(g)
        shape = _shape(marks) if "node" in g.get("class", "").split() else None
        self._nodes += shape is not None
        for i, mark in enumerate(marks):
            kind = mark.tag.removeprefix(SVG)
            own = self._heir(look, mark)
            if kind == "title" and g.tag != f"{SVG}svg":
                self.lines.append(f"% {_comment(mark.text)}")
            elif mark.get("opacity") == "0" or kind in ("title", "desc", "style"):
                continue  # to be read on pointing at it, or not drawn at all
            elif kind == "g":
                self.group(mark, look, at, room)
            elif kind == "text":
                dots = [float(c.get("cx", "0")) for c in takewhile(_is_dot, marks[i + 1 :])]
                self._text(mark, own, at, dots, room, alone=mark is shape)
            elif kind == "rect" and mark.get("class") != "paper":  # a page has its own
                room = self._rect(mark, own, at, mark is shape) or room
            elif kind == "circle" and not _is_dot(mark):
                room = self._circle(mark, own, at, mark is shape) or room
            elif kind == "path":
                self._draw(_path(mark.get("d", ""), at), mark, own)
            elif kind not in ("rect", "circle"):
                raise ValueError(f"tikz: no TikZ for <{kind}>")

    def _heir(self, look: Look, mark: ET.Element) -> Look:
        """What a mark looks like: as the one around it, but for its own attributes, and these but for the style sheet."""
        own = look | {k: v for k, v in (mark.attrib | self._looks[mark]).items() if k in _INHERITED}
        size = own["font-size"]
        if size.endswith("em"):
            own["font-size"] = f"{float(look['font-size']) * float(size[:-2]):g}"
        else:
            own["font-size"] = size.removesuffix("px")
        return own | {k: own["color"] for k in ("fill", "stroke") if own.get(k) == "currentColor"}

    def _rect(self, mark: ET.Element, own: Look, at: Point, node: bool) -> _Room | None:
        x, y, w, h = (float(mark.get(key, "0")) for key in ("x", "y", "width", "height"))
        x, y = x + at[0], y + at[1]
        corner = min(float(mark.get("rx", "0")), w / 2, h / 2)
        round_ = [f"rounded corners={_bp(corner)}bp"] if corner else []
        if not node:
            self._draw(f"({_n(x)},{_n(y)}) rectangle ({_n(x + w)},{_n(y + h)})", mark, own, *round_)
            return None
        self._node(mark, own, (x + w / 2, y + h / 2), (w, h), *round_)
        return _Room(right=x + w)

    def _circle(self, mark: ET.Element, own: Look, at: Point, node: bool) -> _Room | None:
        x, y, r = (float(mark.get(key, "0")) for key in ("cx", "cy", "r"))
        x, y = x + at[0], y + at[1]
        if not node:
            self._draw(f"({_n(x)},{_n(y)}) circle[radius={_bp(r)}bp]", mark, own)
            return None
        self._node(mark, own, (x, y), (2 * r, 2 * r), "circle")
        return _Room(middle=x)

    def _node(self, mark: ET.Element, own: Look, middle: Point, size: Point, *more: str) -> None:
        options = [
            *more,
            *self._options(mark, own),
            "inner sep=0pt",
            f"minimum width={_bp(size[0])}bp",
            f"minimum height={_bp(size[1])}bp",
        ]
        self.lines.append(f"\\node[{','.join(options)}] (n{self._nodes}) at ({_n(middle[0])},{_n(middle[1])}) {{}};")

    def _draw(self, path: str, mark: ET.Element, own: Look, *more: str) -> None:
        self.lines.append(f"\\path[{','.join([*self._options(mark, own), *more])}] {path};")

    def _options(self, mark: ET.Element, own: Look) -> list[str]:
        options = []
        stroke = own.get("stroke", "none")
        fill = own["fill"]
        if stroke != "none":
            options += [f"draw={self.colour(stroke)}", f"line width={_bp(float(own.get('stroke-width', '1')))}bp"]
            if (dash := own.get("stroke-dasharray", "none")) != "none":
                words = (
                    f"{word} {_bp(float(n))}bp" for word, n in zip(cycle(("on", "off")), dash.split(), strict=False)
                )
                options.append(f"dash pattern={' '.join(words)}")
                options += ["line cap=round"] * (own.get("stroke-linecap") == "round")
        if fill != "none":
            options.append(f"fill={self.colour(fill)}")
            options += [f"fill opacity={mark.get('fill-opacity')}"] if mark.get("fill-opacity") else []
        return options

    def colour(self, hexa: str) -> str:
        """The name of a colour: what it is called in the style, without the space."""
        names = (f"fg{name}".replace(" ", "") for name, value in style.LIGHT.items() if value == hexa)
        return self.colours.setdefault(hexa, next(names, f"fg{hexa[1:]}"))

    # Text

    def _text(
        self, mark: ET.Element, own: Look, at: Point, dots: list[float], room: _Room, alone: bool = False
    ) -> None:
        anchor, y = own.get("text-anchor", "start"), float(mark.get("y", "0")) + at[1]
        same = [_ANCHORS[anchor]] if anchor in _ANCHORS else []
        if own["fill"] != style.LIGHT["ink"]:
            same.append(f"text={self.colour(own['fill'])}")
        if own["font-size"] != str(style.SIZE):
            same.append(f"font=\\fgsize{{{_bp(float(own['font-size']))}}}")
        if "paint-order" in self._looks[mark]:
            same.append(f"fill={self.colour(style.LIGHT['paper'])}")
        for x, words in self._pieces(mark, own, dots):
            x += at[0]
            options = same
            if anchor == "start":
                if room.middle is not None and x < room.middle:  # it was centred by the width of another font
                    x, options = room.middle, [_ANCHORS["middle"], *same]
                elif room.right is not None:
                    words = f"\\fgfit{{{_bp(room.right - x - 4)}bp}}{{{words}}}"
            if alone:  # a node without a frame is its text
                options = ["anchor=base west", *options, "inner sep=0pt"]
                self.lines.append(f"\\node[{','.join(options)}] (n{self._nodes}) at ({_n(x)},{_n(y)}) {{{words}}};")
                alone = False
            else:
                given = f"[{','.join(options)}]" if options else ""
                self.lines.append(f"\\fgtext{given}{{{_n(x)}}}{{{_n(y)}}}{{{words}}}")

    def _pieces(self, mark: ET.Element, own: Look, dots: list[float]) -> list[tuple[float, str]]:
        """The runs of a text, apart where one has a place of its own. An L whose dot is drawn above it becomes
        \\dot{L}, and what is lowered after it its index."""
        first = tex(mark.text or "")
        if first and own.get("font-style") == "italic":
            first = f"{{\\fgname {first}}}"
        pieces: list[tuple[float, list[str]]] = [(float(mark.get("x", "0")), [first])]
        tops = [cx - 0.36 * float(own["font-size"]) for cx in dots]
        for span in mark:
            text, look = span.text or "", self._heir(own, span)
            slanted = look.get("font-style") == "italic"
            out = pieces[-1][1]
            x = float(span.get("x", "nan" if any(out) else pieces[-1][0]))
            if slanted and text == "L" and any(abs(x - top) < 1 for top in tops):
                out.append(r"$\dot{L}$")
            elif span.get("dy", "").startswith("3"):
                index = text if re.fullmatch("[A-Za-z]", text) else f"\\text{{\\fgname {tex(text)}}}"
                if out[-1].endswith(r"\dot{L}$"):
                    out[-1] = f"{out[-1][:-1]}_{{{index}}}$"
                else:
                    out.append(f"$_{{{index}}}$")
            else:
                if span.get("x"):
                    out = []
                    pieces.append((x, out))
                words = "\\fgname " if slanted else "\\bfseries " if look.get("font-weight") == "bold" else ""
                words += f"\\color{{{self.colour(look['fill'])}}}" if look["fill"] != own["fill"] else ""
                words += f"\\fgsize{{{_bp(float(look['font-size']))}}}" if look["font-size"] != own["font-size"] else ""
                out.append(f"{{{words}{tex(text)}}}" if words else tex(text))
            if span.tail:
                out.append(tex(span.tail))
        whole = [(x, "".join(out)) for x, out in pieces if any(out)]
        return [(x, f"\\textbf{{{words}}}" if own.get("font-weight") == "bold" else words) for x, words in whole]


def _shape(marks: list[ET.Element]) -> ET.Element:
    """What a node is in TikZ: its frame, of several rectangles the one in front; without a frame its text."""
    for kind, which in (("rect", -1), ("circle", 0), ("text", 0)):
        if found := [mark for mark in marks if mark.tag == f"{SVG}{kind}" and not _is_dot(mark)]:
            return found[which]
    raise ValueError("tikz: a node with neither a frame nor a text")


def _is_dot(mark: ET.Element) -> bool:
    """The dot of an L̇: a circle with nothing but a place and a size, and perhaps the class of its text."""
    return mark.tag == f"{SVG}circle" and list(mark.keys())[-3:] == ["cx", "cy", "r"] and mark.get("class", "t") == "t"


def looks(root: ET.Element) -> dict[ET.Element, Look]:
    """What the style sheet of a picture says of each of its marks, by day and not pointed at."""
    sheet = (root.findtext(f"{SVG}style") or "").partition("@media")[0]
    rules: list[tuple[tuple[int, int], _Chain, Look]] = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet):
        look = dict(part.split(":", 1) for part in body.split(";"))
        for one in selectors.split(","):
            chain = [
                (by, set(re.findall(r"\.?\w+", word))) for by, word in re.findall(r"(>?)([.\w]+)", _ID.sub("", one))
            ]
            named = [name for _, names in chain for name in names]
            classes = sum(name[0] == "." for name in named)
            if chain and ":" not in one:
                rules.append(((classes, len(named) - classes), chain, look))
    rules.sort(key=lambda rule: rule[0])
    found: dict[ET.Element, Look] = {}

    def walk(element: ET.Element, above: list[set[str]]) -> None:
        mine = {element.tag.removeprefix(SVG), *(f".{name}" for name in element.get("class", "").split())}
        line = [*above, mine]
        found[element] = {}
        for _, chain, look in rules:
            if _matches(chain, line):
                found[element] |= look
        for child in element:
            walk(child, line)

    walk(root, [])
    return found


_ID = re.compile(r"#\w+")
_Chain = list[tuple[str, set[str]]]


def _matches(chain: _Chain, line: list[set[str]]) -> bool:
    """Does a selector mean the last in a line of elements, each within the one before?"""
    *above, (by, names) = chain
    if not line or not names <= line[-1]:
        return False
    around = [line[:-1]] if by else [line[:k] for k in range(1, len(line))]
    return not above or any(_matches(above, rest) for rest in around)


def _path(d: str, at: Point) -> str:
    """An SVG path in TikZ's words: lines, cubic curves, and a closed end."""
    out: list[str] = []
    x = y = 0.0
    start = (0.0, 0.0)

    def point(px: float, py: float) -> str:
        return f"({_n(px + at[0])},{_n(py + at[1])})"

    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        kind = command.upper()
        if kind == "Z":
            out.append("-- cycle")
            x, y = start
            continue
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", rest)]
        step = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6}.get(kind, 0)
        if not step or not numbers or len(numbers) % step:
            raise ValueError(f"tikz: no TikZ for the path {d!r}")
        for k in range(0, len(numbers), step):
            piece = numbers[k : k + step]
            fx, fy = (x, y) if command.islower() else (0.0, 0.0)  # from where they count
            if kind == "H":
                ends = [(fx + piece[0], y)]
            elif kind == "V":
                ends = [(x, fy + piece[0])]
            else:
                ends = [(fx + px, fy + py) for px, py in zip(piece[::2], piece[1::2], strict=True)]
            x, y = ends[-1]
            *bends, end = (point(*p) for p in ends)
            if kind == "M" and k == 0:
                start = (x, y)
                out.append(end)
            else:
                out.append(f".. controls {' and '.join(bends)} .. {end}" if bends else f"-- {end}")
    return " ".join(out)


def _n(x: float) -> str:
    text = f"{x:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _bp(pixels: float) -> str:
    """Pixels in big points."""
    return f"{pixels * 0.75:.3f}".rstrip("0").rstrip(".")


def _comment(text: str | None) -> str:
    return " ".join((text or "").split())


# ----- The letters -----

_WORDS = r"""
\ \textbackslash{}  ^ \textasciicircum{}  ~ \textasciitilde{}  ` \textasciigrave{}  ' \textquotesingle{}
" \textquotedbl{}  < \textless{}  > \textgreater{}  | \textbar{}
{ \{  } \}  $ \$  & \&  # \#  _ \_  % \%  … \ldots{}  ⁄ /  “ \textquotedblleft{}  ” \textquotedblright{}
‘ \textquoteleft{}  ’ \textquoteright{}  – \textendash{}  — \textemdash{}  § \S{}  ¶ \P{}  ° \textdegree{}
© \textcopyright{}  £ \pounds{}  « \guillemotleft{}  » \guillemotright{}  ¿ \textquestiondown{}  ¡ \textexclamdown{}
• \textbullet{}  ß \ss{}  æ \ae{}  Æ \AE{}  œ \oe{}  Œ \OE{}  ø \o{}  Ø \O{}  ł \l{}  Ł \L{}  đ \dj{}  Đ \DJ{}
ð \dh{}  Ð \DH{}  þ \th{}  Þ \TH{}  ŋ \ng{}  Ŋ \NG{}  ı \i{}  ȷ \j{}
Α A  Β B  Ε E  Ζ Z  Η H  Ι I  Κ K  Μ M  Ν N  Ο O  Ρ P  Τ T  Χ X  ο o
"""
_SIGNS = r"""
− -  · \cdot  × \times  ÷ \div  ± \pm  ∓ \mp  ∗ \ast  ∘ \circ  √ \surd  ∛ {}^{3}\!\surd  ‖ \Vert  ∥ \parallel
∂ \partial  ∇ \nabla  ∑ \Sigma  ∏ \Pi  ∫ \textstyle\int  ∞ \infty  ⊙ \odot  ⊗ \otimes  ⊕ \oplus  ≈ \approx  ≠ \neq
≤ \leq  ≥ \geq  ≡ \equiv  ∼ \sim  ≪ \ll  ≫ \gg  ∝ \propto  ∈ \in  ∉ \notin  ⊂ \subset  ⊆ \subseteq  ∪ \cup  ∩ \cap
∅ \emptyset  ∀ \forall  ∃ \exists  ¬ \neg  ∧ \wedge  ∨ \vee  → \rightarrow  ← \leftarrow  ↑ \uparrow  ↓ \downarrow
↔ \leftrightarrow  ⇒ \Rightarrow  ⇐ \Leftarrow  ⇔ \Leftrightarrow  ↦ \mapsto  ⟨ \langle  ⟩ \rangle  ⌊ \lfloor
⌋ \rfloor  ⌈ \lceil  ⌉ \rceil  ′ {}'  ″ {}''  ℓ \ell  ħ \hbar  ✕ \times  ℜ \Re  ℑ \Im
α \alpha  β \beta  γ \gamma  δ \delta  ε \varepsilon  ζ \zeta  η \eta  θ \theta  ι \iota  κ \kappa  λ \lambda  μ \mu
ν \nu  ξ \xi  π \pi  ρ \rho  ς \varsigma  σ \sigma  τ \tau  υ \upsilon  φ \varphi  χ \chi  ψ \psi  ω \omega
ϵ \epsilon  ϑ \vartheta  ϖ \varpi  ϱ \varrho  ϕ \phi  Γ \Gamma  Δ \Delta  Θ \Theta  Λ \Lambda  Ξ \Xi  Π \Pi  Σ \Sigma
Υ \Upsilon  Φ \Phi  Ψ \Psi  Ω \Omega
"""


def _table(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


_TEX = _table(_WORDS) | {c: f"\\ensuremath{{{sign}}}" for c, sign in _table(_SIGNS).items()} | {"\u2002": r"\enspace{}"}
_ABOVE = {
    "\u0300": "grave",
    "\u0301": "acute",
    "\u0302": "hat",
    "\u0303": "tilde",
    "\u0304": "bar",
    "\u0305": "bar",
    "\u0306": "breve",
    "\u0307": "dot",
    "\u0308": "ddot",
    "\u030a": "mathring",
    "\u030c": "check",
    "\u20d7": "vec",
}
_BELOW = {"\u0323": "d", "\u0327": "c", "\u0328": "k", "\u0331": "b"}
_RAISED = {"<super>": r"\textsuperscript", "<sub>": r"\textsubscript"}


def tex(text: str) -> str:
    """Text as LaTeX sets it as text, in ASCII; a letter that it has no word for is its code point.

    >>> print(tex("50% of σ₂"), tex("ẋ\\\\y"), tex("数"))
    50\\% of \\ensuremath{\\sigma}\\textsubscript{2} \\ensuremath{\\dot{\\text{x}}}\\textbackslash{}y {\\tiny U+6570}
    """
    clusters: list[str] = []
    for c in unicodedata.normalize("NFC", text):
        if unicodedata.combining(c) and clusters:
            clusters[-1] += c
        else:
            clusters.append(c)
    words = re.sub("([-,])(?=[-,])", r"\1{}", "".join(map(_cluster, clusters)))  # no ligatures
    return re.sub("^ | $", r"\\ ", words)  # TeX drops a space at an end


def _cluster(cluster: str) -> str:
    """A letter with its marks."""
    bare = unicodedata.normalize("NFD", cluster)
    if cluster[0] not in _TEX and (bare[0] in _TEX or bare[0].isascii()):  # else its code point is that of the whole
        cluster = bare
    letter, above = _letter(cluster[0]), ""
    for mark in cluster[1:4]:  # a fourth would leave the line
        if mark in _ABOVE:
            above = f"\\{_ABOVE[mark]}{{{above}"
        elif mark in _BELOW and re.fullmatch("[A-Za-z]", letter):
            letter = f"\\{_BELOW[mark]}{{{letter}}}"
        else:
            letter += _code(mark)
    return f"\\ensuremath{{{above}\\text{{{letter}}}{'}' * above.count('{')}}}" if above else letter


def _letter(c: str) -> str:
    if c in _TEX:
        return _TEX[c]
    if " " <= c <= "~":
        return c
    kind, *parts = unicodedata.decomposition(c).split() or [""]
    if not kind.startswith("<"):
        return _code(c)
    words = "".join(_letter(chr(int(part, 16))) for part in parts)  # ², ₂, ﬁ, ½ and their like
    return f"{_RAISED[kind]}{{{words}}}" if kind in _RAISED else words


def _code(c: str) -> str:
    return f"{{\\tiny U+{ord(c):04X}}}"
