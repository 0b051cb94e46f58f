"""One renderer: a placed scene becomes SVG text.

What each mark has of its own (place, width) is in its attributes; what marks of a kind share (colour, dash, font) is said
once, in a style sheet, which also has the dark theme. So a large picture stays a small file.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.layout import Curve, Placed, Point, crossing, label_size
from fluxgrad.picture.scene import Cluster, Edge, Flow, Line, Node, Scene, plain, run_width, shown, text_width

MARGIN = 16
SWATCH = 34
TINY = 12
SMALL = ("constant", "again", "more")
"""The kinds of nodes that have no frame."""

KINDS = {"name": "i", "dot": "i", "sub": "s", "quiet": "q", "strong": "b"}
"""What the style sheet calls the styles of text."""

_TEXT = {"plus": "plus text", "minus": "minus text"}


class Scale:
    """Width by log|L̇|, from the 5th to the 95th percentile of the picture's own."""

    def __init__(self, flows: Iterable[Flow], widths: tuple[float, float]) -> None:
        self.thin, self.thick = widths
        sizes = [math.log10(f.size) for f in flows if f.sign in ("plus", "minus", "mixed")]
        self.any = bool(sizes)
        low, high = np.percentile(sizes, [5, 95]).tolist() if sizes else (0.0, 0.0)
        self.low, self.high = min(low, high - style.SPAN), high
        self.widened = low > self.low

    def __call__(self, f: Flow) -> float:
        if f.sign == "wild":
            return self.thick
        if f.sign in ("zero", "none"):
            return style.ZERO if f.sign == "zero" else style.NONE
        return self.thin + (self.thick - self.thin) * self.share(f)

    def share(self, f: Flow) -> float:
        """0 for the thinnest, 1 for the thickest."""
        if f.sign in ("zero", "none", "wild"):
            return 1.0
        return min(max((math.log10(f.size) - self.low) / (self.high - self.low), 0.0), 1.0)


def render(scene: Scene, placed: Placed) -> str:
    """The whole picture. The same scene gives the same bytes."""
    scale = Scale((e.flow for e in scene.edges), style.WIDTHS["dense" if scene.dense else scene.view])
    legend, wide, tall = _legend(scene, scale, max(placed.width, 560.0))
    width = max(placed.width, wide, text_width(scene.heading)) + 2 * MARGIN
    left = (width - placed.width) / 2
    top = MARGIN + (1.5 * style.LINE if scene.heading else 0)
    height = top + placed.height + tall + 1.5 * MARGIN

    body: list[str] = []
    if scene.heading:
        body.append(_line(scene.heading, MARGIN, MARGIN + 10))
    body.append(f'<g transform="translate({_n(left)} {_n(top)})">')
    body.extend(_cluster(c, box) for c, box in zip(scene.clusters, placed.boxes, strict=False))
    small = style.TINY if scene.dense else style.SMALL
    body.append(f'<g text-anchor="middle" font-size="{small}">')
    edges = list(zip(scene.edges, placed.curves, strict=True))
    if scene.view == "neuron":  # lines cross: the strong ones on top, whatever their sign
        edges.sort(key=lambda pair: (scale.share(pair[0].flow) if pair[0].flow.size else -1, pair[0].flow.size))
    body.extend(_edge(e, c, scale, small) for e, c in edges)
    body.append("</g>")
    body.extend(_card(n, placed.centres[n.key]) for n in scene.nodes if not scene.pinned)
    if scene.pinned:
        body.append(f'<g font-size="{style.SMALL}">')
        if scene.view == "layer":
            body.extend(_row(n, placed.centres[n.key]) for n in scene.nodes)
        else:
            body.extend(_unit(n, placed.centres[n.key], scale) for n in scene.nodes)
        body.extend(_small(line, x - text_width(line, style.SMALL) / 2, y) for x, y, line in scene.texts)
        body.append("</g>")
    body.append("</g>")
    below = f'<g transform="translate({MARGIN} {_n(top + placed.height + MARGIN)})" font-size="{style.SMALL}">'
    body.append(f"{below}{''.join(legend)}</g>")

    inside = "\n".join(body)
    mark = "f" + hashlib.sha256((scene.title + scene.story + inside).encode()).hexdigest()[:6]
    size = f"{math.ceil(width)} {math.ceil(height)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{mark}" role="img" aria-labelledby="{mark}-t {mark}-d" '
        f'width="{math.ceil(width)}" height="{math.ceil(height)}" viewBox="0 0 {size}" '
        f'font-family="{style.FONT}" font-size="{style.SIZE}" fill="{style.LIGHT["ink"]}">'
        f'<title id="{mark}-t">{_escape(scene.title)}</title><desc id="{mark}-d">{_escape(scene.story)}</desc>'
        f"<style>{_css('#' + mark, scene)}</style>"
        f'<rect class="paper" width="100%" height="100%" fill="{style.LIGHT["paper"]}"/>\n'
        f"{inside}\n</svg>\n"
    )


def _n(x: float) -> str:
    """A coordinate to a tenth of a pixel.

    >>> _n(12.0), _n(-0.04), _n(3.26)
    ('12', '0', '3.3')
    """
    text = f"{x:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _escape(text: str) -> str:
    return text.translate(_ENTITIES)


_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;"}


# Text, with the dot of L̇ drawn: few fonts can set it


def _line(line: Line, x: float, y: float, size: int = style.SIZE, kind: str = "", around: int = style.SIZE) -> str:
    """One line of text, and after it the dots of its L̇; `around` is the size that it would inherit."""
    round_ = kind and around == style.SMALL  # in a circle
    parts: list[str] = []
    dots: list[str] = []
    own = f' class="{kind}"' if kind else ""
    lowered = False
    at = x
    for run in line:
        look = f' class="{KINDS[run.style]}"' if run.style in KINDS else ""
        look += ' dy="3"' if run.style == "sub" else ' dy="-3"' if lowered else ""
        lowered = run.style == "sub"
        if run.style == "dot":
            start = round(at) if parts else at
            look += f' x="{start:.0f}"' if parts else ""
            middle = f'cx="{start + 0.36 * size:.0f}" cy="{y - 0.9 * size:.0f}"'
            dots.append(f'<circle{own if round_ else ""} {middle} r="{0.09 * size:.1f}"/>')
        text = _escape(run.text)
        parts.append(f"<tspan{look}>{text}</tspan>" if look else text)
        at += run_width(run, size)
    if len(line) == 1 and line[0].style in KINDS and not kind:  # one look for all of it
        own, parts = f' class="{KINDS[line[0].style]}"', [_escape(line[0].text)]
    font = f' font-size="{size}"' if size != around else ""
    return f'<text{own} x="{_n(x)}" y="{_n(y)}"{font}>{"".join(parts)}</text>{"".join(dots)}'


def _small(line: Line, x: float, y: float, kind: str = "") -> str:
    """A line among others of the small size."""
    return _line(line, x, y, style.SMALL, kind, around=style.SMALL)


# Edges


def _edge(e: Edge, c: Curve, scale: Scale, size: int) -> str:
    sign, path, w = e.flow.sign, _path(c.points, _gap(e, c, size)), scale(e.flow)
    line = f'<path stroke-width="{w:.2g}" d="{path}"/>'
    if sign == "wild":  # a double line
        line += f'<path class="gap" stroke-width="{_n(max(w - 3, w / 3))}" d="{path}"/>'
    if c.arrow is not None:
        line += _arrow(c.arrow, c.points[0], w)
    texts = ""
    if e.label and c.label is not None:
        x, y = c.label
        y += (4 if len(c.points) == 2 else 2) - 7 * (len(e.label) - 1)
        for i, words in enumerate(e.label):
            look = ' class="q"' if i else "" if c.shown else ' opacity="0"'
            texts += f'<text x="{x:.0f}" y="{y + 13 * i:.0f}"{look}>{_escape("".join(r.text for r in words))}</text>'
    return f'<g class="edge {sign}"><title>{_escape(e.title)}</title>{line}{texts}</g>'


def _gap(e: Edge, c: Curve, size: int) -> tuple[float, float]:
    """The share of a straight line that its label covers, from where to where: there the line is left out."""
    if len(c.points) != 2 or c.label is None or not c.shown:
        return 0.0, 0.0
    w, h = label_size(e, size)
    return crossing(c.points[0], c.points[1], c.label, (w - 2, h - 2))


def _path(points: list[Point], gap: tuple[float, float]) -> str:
    if len(points) != 2:
        return _curve(points)
    a, b = (f"{_n(x)},{_n(y)}" for x, y in points)
    low, high = gap
    if high <= low:
        return f"M{a}L{b}"
    (x0, y0), (x1, y1) = points
    cut = [f"{_n(x0 + t * (x1 - x0))},{_n(y0 + t * (y1 - y0))}" for t in gap]
    return f"M{a}L{cut[0]}M{cut[1]}L{b}"


def _curve(points: list[Point]) -> str:
    """Cubic pieces in whole pixels, each relative to where it starts: the shortest way to write a long one. A piece of a
    few pixels, which Graphviz puts where it clips a curve at a card, is left to its neighbour."""
    whole = [(round(x), round(y)) for x, y in points]
    if len(whole) > 4 and math.dist(whole[0], whole[3]) < TINY:
        del whole[1:4]
    if len(whole) > 4 and math.dist(whole[-4], whole[-1]) < TINY:
        del whole[-4:-1]
    x, y = whole[0]
    steps = []
    for k in range(1, len(whole), 3):
        steps += [str(step) for px, py in whole[k : k + 3] for step in (px - x, py - y)]
        x, y = whole[k + 2]
    return f"M{whole[0][0]},{whole[0][1]}c{_joined(steps)}"


def _joined(numbers: Iterable[str]) -> str:
    """Numbers of a path, as short as they can be read.

    >>> _joined(["1", "-2", "0.5"])
    '1-2 .5'
    """
    return re.sub(r"\b0\.", ".", " ".join(numbers)).replace(" -", "-")


def _arrow(tip: tuple[float, float], base: tuple[float, float], width: float) -> str:
    """A filled head whose tip is at the operand."""
    (x, y), (bx, by) = tip, base
    length = math.hypot(bx - x, by - y) or 1.0
    ux, uy = (bx - x) / length, (by - y) / length
    half = 2.5 + width / 2
    sides = bx - x - uy * half, by - y + ux * half, 2 * uy * half, -2 * ux * half
    return f'<path class="h" d="M{x:.0f},{y:.0f}l{_joined(map(_n, sides))}z"/>'


# Nodes


def _node(n: Node, *body: str) -> str:
    kind = {"op": "", "layer": "", "dead": " unit dead"}.get(n.kind, f" {n.kind}")
    words = f"<title>{_escape(n.title)}</title><desc>{_escape(n.story)}</desc>"
    return f'<g class="node{kind} {n.flow.sign}">{words}{"".join(body)}</g>'


def _cluster(c: Cluster, box: tuple[float, float, float, float]) -> str:
    x, y, x1, y1 = (round(v) for v in box)
    words = _small(c.name, x + 8, y + 15)
    frame = f'<rect x="{x}" y="{y}" width="{x1 - x}" height="{y1 - y}" rx="8"/>'
    return f'<g class="cluster"><title>{_escape(c.title)}</title>{frame}{words}</g>'


def _card(n: Node, centre: tuple[float, float]) -> str:
    x, y = round(centre[0] - n.width / 2), round(centre[1] - n.height / 2)
    if n.kind in SMALL:
        return _node(n, *(_line(line, x + style.PAD_X / 2, y + 14 + style.LINE * i) for i, line in enumerate(n.lines)))
    corner = style.LINE if n.kind == "leaf" else 6
    wide, tall = round(n.width), round(n.height)
    body = [f'<rect x="{x}" y="{y}" width="{wide}" height="{tall}" rx="{corner}"/>']
    if n.kind == "folded":  # a stack of cards
        body.append(f'<path d="M{x + 5},{y + tall}v4h{wide - 1}v{4 - tall}h-4"/>')
    for i, line in enumerate(n.lines):
        kind = "t" if i == len(n.lines) - 1 else ""
        body.append(_line(line, x + style.PAD_X, y + style.PAD_Y + style.LINE * i + 13, kind=kind))
    return _node(n, *body)


def _unit(n: Node, centre: tuple[float, float], scale: Scale) -> str:
    x, y = centre
    r = n.width / 2
    roomy = r >= style.ROOMY_RADIUS
    width = _n(1 + scale(n.flow) / 2 if roomy else min(1.5, r / 3))
    whole = ' class="whole"' if n.flow.sign in style.LINES and r <= 5 else ""
    body = [f'<circle{whole} cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" stroke-width="{width}"/>']
    if not roomy and n.fill >= 0.05:
        body.append(f'<circle class="shade" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r - 1)}" fill-opacity="{n.fill:.1g}"/>')
    if n.kind == "dead":  # crossed out; a large unit, which holds text, has the cross on its rim
        cx, cy, d = (x + r * 0.74, y - r * 0.74, 4.0) if roomy else (x, y, r * 0.7)
        if roomy:
            body.append(f'<circle class="zero" cx="{_n(cx)}" cy="{_n(cy)}" r="8"/>')
        cross = f"M{_n(cx - d)},{_n(cy - d)}l{_n(2 * d)},{_n(2 * d)}m0,{_n(-2 * d)}l{_n(-2 * d)},{_n(2 * d)}"
        body.append(f'<path stroke-width="1.5" d="{cross}"/>')
    value, fluxion, name = n.lines
    half = text_width(fluxion, style.SMALL) / 2
    if roomy:
        body.append(_small(name, x - text_width(name, style.SMALL) / 2, y - 4))
        body.append(_small(value, x - text_width(value, style.SMALL) / 2, y + 10))
        body.append(_small(fluxion, x - half, y + r + 16, "t"))
    elif n.beside:
        body.append(_small(name, x + r + 8, y + 4))
        body.append(_small(fluxion, x + r + 14 + text_width(name, style.SMALL), y + 4, "t"))
    else:
        words = _escape(fluxion[-1].text.removeprefix(" = "))
        body.append(f'<text x="{x + r:.0f}" y="{y - r:.0f}" opacity="0">{words}</text>')
    return _node(n, *body)


def _row(n: Node, centre: tuple[float, float]) -> str:
    """A box of the layer view: its cells in one line of text, L̇ in one of its own, its bars in one path."""
    left, middle = round(centre[0] - n.width / 2), round(centre[1])
    wide, tall = round(n.width), round(n.height)
    parts = [f'<path class="box" d="M{left},{middle - tall // 2}h{wide}v{tall}h-{wide}z"/>']
    runs = ""
    for x, line in n.cells[:-1]:
        for k, run in enumerate(line):
            look = {"name": ' class="i"', "quiet": ' class="q"'}.get(run.style, "")
            look += "" if k else f' x="{left + x:.0f}"'
            runs += f"<tspan{look}>{_escape(run.text)}</tspan>" if look else _escape(run.text)
    parts.append(f'<text y="{middle + 4}">{runs}</text>')
    x, line = n.cells[-1]
    parts.append(f'<text class="t" x="{left + x:.0f}" y="{middle + 4}">{_escape(line[0].text)}</text>')
    if n.bars:
        d = "".join(f"M{left + b.x:.0f},{middle + b.y:.0f}h{_n(b.width)}v{b.height:.0f}h{_n(-b.width)}" for b in n.bars)
        parts.append(f'<path d="{d}"/>')
    return _node(n, *parts)


# The legend


ENTRIES = {
    "plus": "+ means L rises if {what} rises",
    "minus": "− means L falls if {what} rises",
    "mixed": "an array with both signs",
    "zero": "exactly zero",
    "none": "a constant, no fluxion",
    "wild": "NaN or inf",
}


def _legend(scene: Scene, scale: Scale, room: float) -> tuple[list[str], float, float]:
    """Its markup, its width and its height."""
    present = _signs(scene)
    what = "this weight" if scene.view == "neuron" else "this"
    parts: list[str] = []
    x, y, widest = 0.0, 12.0, 0.0

    def put(swatch: str, line: Line, span: float) -> None:
        nonlocal x, y, widest
        indent = span + 8 if swatch else 0
        needed = indent + text_width(line, style.SMALL)
        if x and x + needed > room:
            x, y = 0.0, y + style.LINE
        parts.append(swatch.format(x=_n(x), x2=_n(x + span), y=_n(y - 4)))
        parts.append(_small(line, x + indent, y))
        widest = max(widest, x + needed)
        x += needed + 22

    for sign, words in ENTRIES.items():
        if sign not in present | {"plus", "minus"}:
            continue
        thick = {"wild": 5, "zero": style.ZERO, "none": style.NONE}.get(sign, 3)
        swatch = f'<path stroke-width="{thick}" d="M{{x}},{{y}}H{{x2}}"/>'
        if sign == "wild":
            swatch += '<path class="gap" stroke-width="2" d="M{x},{y}H{x2}"/>'
        swatch = f'<g class="{sign}">{swatch}</g>'
        put(swatch, plain(words.format(what=what)), SWATCH)
    x, y = 0.0, y + style.LINE
    if scale.any:
        for share in (0.0, 0.5, 1.0):
            size = 10 ** (scale.low + share * (scale.high - scale.low))
            w = scale.thin + share * (scale.thick - scale.thin)
            swatch = f'<g class="mixed"><path stroke-width="{_n(w)}" d="M{{x}},{{y}}H{{x2}}"/></g>'
            put(swatch, plain(shown(size)), SWATCH)
        what = "fluxion" if scene.view == "neuron" else "contribution"
        here = "" if scale.widened else ", from the 5th to the 95th percentile here"
        put("", plain(f"width: log of the {what}'s size{here}"), 0)
        x, y = 0.0, y + style.LINE
    for note in scene.notes:
        parts.append(_small(note, 0, y))
        widest = max(widest, text_width(note, style.SMALL))
        y += style.LINE
    return parts, widest, y - style.LINE + 6


def _signs(scene: Scene) -> set[str]:
    return {e.flow.sign for e in scene.edges} | {n.flow.sign for n in scene.nodes}


def _css(mark: str, scene: Scene) -> str:
    """The style sheet: how every kind of mark looks, and once more its colours for the dark."""
    rules = [
        "".join(
            f"{','.join(f'{mark} {one}' for one in kinds.split(','))}{{{look}}}"
            for kinds, colours, shape in _looks(scene, theme)
            if (look := ";".join(filter(None, (colours, shape if theme is style.LIGHT else ""))))
        )
        for theme in (style.LIGHT, style.DARK)
    ]
    pointed = f"{mark} :hover>text{{opacity:1}}" if scene.view == "neuron" else ""
    dark = f"{mark}{{fill:{style.DARK['ink']}}}{rules[1]}"
    return f"{mark}{{max-width:100%;height:auto}}{rules[0]}{pointed}@media(prefers-color-scheme:dark){{{dark}}}"


def _looks(scene: Scene, theme: dict[str, str]) -> list[tuple[str, str, str]]:
    """Of each kind of mark: its selectors, its colours in a theme, and the rest of its look. A later one overrules."""
    paper, card, frame, ink, quiet = (theme[name] for name in ("paper", "card", "frame", "ink", "quiet"))
    halo = f"stroke:{paper}", "paint-order:stroke;stroke-width:4px"
    rules = [
        (".paper", f"fill:{paper}", ""),
        (".i,.s", "", f"font-family:{style.SERIF};font-style:italic"),
        (".s", "", "font-size:.75em"),
        (".b", "", "font-weight:bold"),
        ("path", "", "stroke:currentColor;fill:none"),
        (".h", "", "fill:currentColor;stroke:none"),
        (".edge text", *halo),
        (".edge text,.node>.t", "", "fill:currentColor"),
    ]
    signs = sorted(_signs(scene) | {"plus", "minus", "mixed"})
    for sign in signs:
        rules.append((f".{sign}", f"color:{theme[sign]}", ""))
        if sign in _TEXT:
            rules.append((f".edge.{sign} text,.{sign}>.t", f"fill:{theme[_TEXT[sign]]}", ""))
        if sign in style.LINES:
            look = ";".join(f"{name}:{value}" for name, value in style.LINES[sign].items())
            rules.append((f".{sign}>path" + f",.{sign}>circle" * (scene.view == "neuron"), "", look))
    rules.append((".edge text.q,.q", f"fill:{quiet}", f"font-size:{style.SMALL}px"))
    if "wild" in signs:
        rules.append((".gap", f"stroke:{paper}", ""))
    if scene.view == "op":
        rules += [
            (".node rect", f"fill:{card};stroke:{frame}", ""),
            (".leaf rect", f"fill:{paper}", "stroke-width:1.5"),
            (".root rect", f"stroke:{ink}", "stroke-width:2"),
            (".node>circle", "", "fill:currentColor"),
        ]
        if any(n.kind == "cut" for n in scene.nodes):
            rules.append((".cut rect", "", "stroke-dasharray:4 3"))
        if scene.clusters or any(n.kind == "folded" for n in scene.nodes):
            rules += [
                (".cluster rect,.folded>path", f"stroke:{frame}", "fill:none;stroke-dasharray:none"),
                (".cluster text", "", f"font-size:{style.SMALL}px"),
            ]
    elif scene.view == "layer":
        rules += [
            (".node>path", f"fill:{theme['mixed']}", "stroke:none"),
            (".node>.t", f"fill:{ink}", ""),
            (".wild>.t,.node.wild>path", f"fill:{theme['wild']}", ""),
            (".node>.box", f"fill:{card};stroke:{frame}", "stroke-dasharray:none"),
            (".root>.box", f"fill:{paper};stroke:{ink}", ""),
        ]
    else:
        zero = theme["zero"]
        rules += [
            (".unit>circle", f"fill:{card}", "stroke:currentColor"),
            (".unit>circle.shade", f"fill:{theme['none']}", "stroke:none"),
            (".unit>circle.zero", f"stroke:{zero}", "stroke-dasharray:none"),
            (".unit>circle.whole", "", "stroke-dasharray:none"),
            (".unit>circle.t", "", "fill:currentColor;stroke:none"),
            (".unit>path", f"stroke:{zero}", "fill:none;stroke-dasharray:none"),
            (".unit>text.t", *halo),
        ]
    return rules
