"""One renderer: a placed scene becomes SVG text. Attributes hold all that matters; CSS adds the dark theme."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.layout import Curve, Placed, Point, crossing, label_size
from fluxgrad.picture.scene import Cluster, Edge, Flow, Line, Node, Scene, plain, run_width, shown, text_width

MARGIN = 16
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
            return 1.2
        return self.thin + (self.thick - self.thin) * self.share(f)

    def share(self, f: Flow) -> float:
        """0 for the thinnest, 1 for the thickest."""
        if f.sign in ("zero", "none", "wild"):
            return 1.0
        return min(max((math.log10(f.size) - self.low) / (self.high - self.low), 0.0), 1.0)


def render(scene: Scene, placed: Placed) -> str:
    """The whole picture. The same scene gives the same bytes."""
    dense = scene.view == "neuron" and len(scene.edges) > style.LABELLED
    scale = Scale((e.flow for e in scene.edges), style.WIDTHS["dense" if dense else scene.view])
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
    body.append(f'<g fill="none" text-anchor="middle" font-size="{style.SMALL}">')
    edges = list(zip(scene.edges, placed.curves, strict=True))
    if scene.view == "neuron":  # lines cross: the strong ones on top, whatever their sign
        edges.sort(key=lambda pair: (scale.share(pair[0].flow) if pair[0].flow.size else -1, pair[0].flow.size))
    body.extend(_edge(e, c, scale) for e, c in edges)
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
    mark = "fg-" + hashlib.sha256((scene.title + scene.story + inside).encode()).hexdigest()[:8]
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


def _line(
    line: Line, x: float, y: float, size: float = style.SIZE, colour: str = "", around: float = style.SIZE
) -> str:
    """One line of text; `around` is the size that it would inherit."""
    parts: list[str] = []
    dots: list[str] = []
    lowered = False
    at = x
    for run in line:
        attributes = ""
        if lowered:
            attributes += ' dy="-3"'
        lowered = run.style == "sub"
        if run.style == "sub":
            attributes += f' dy="3" class="fi" font-size="{size - 3}"'
        elif run.style == "dot":
            attributes += ' class="fi"' + (f' x="{_n(at)}"' if parts else "")
            dots.append(f'<circle cx="{_n(at + 0.36 * size)}" cy="{_n(y - 0.9 * size)}" r="{0.09 * size:.1f}"/>')
        elif run.style == "name":
            attributes += ' class="fi"'
        elif run.style == "quiet":
            attributes += f' class="fq" font-size="{style.SMALL}" fill="{style.LIGHT["quiet"]}"'
        elif run.style == "strong":
            attributes += ' font-weight="bold"'
        text = _escape(run.text)
        parts.append(f"<tspan{attributes}>{text}</tspan>" if attributes else text)
        at += run_width(run, size)
    font = f' font-size="{size}"' if size != around else ""
    text = f'<text x="{_n(x)}" y="{_n(y)}"{font}>{"".join(parts)}</text>{"".join(dots)}'
    return f"<g{colour}>{text}</g>" if colour else text


def _small(line: Line, x: float, y: float, colour: str = "") -> str:
    """A line among others of the small size."""
    return _line(line, x, y, style.SMALL, colour, around=style.SMALL)


# Edges


def _edge(e: Edge, c: Curve, scale: Scale) -> str:
    sign, path, w = e.flow.sign, _path(c.points, _gap(e, c)), scale(e.flow)
    colour = style.LIGHT[sign]
    look = f'stroke="{colour}" stroke-width="{w:.2g}"'
    if sign in style.DASH:
        look += f' stroke-dasharray="{style.DASH[sign]}"'
    line = f'<path {look} d="{path}"/>'
    if sign == "wild":  # a double line
        line += f'<path class="gap" stroke="{style.LIGHT["paper"]}" stroke-width="{_n(max(w - 3, w / 3))}" d="{path}"/>'
    if c.arrow is not None:
        line += _arrow(c.arrow, c.points[0], w, colour)
    texts = ""
    if e.label and c.label is not None:
        x, y = c.label
        y += (4 if len(c.points) == 2 else 2) - 7 * (len(e.label) - 1)
        for i, words in enumerate(e.label):
            look = f'fill="{style.LIGHT[_TEXT.get(sign, sign)]}"'
            if i:
                look = f'fill="{style.LIGHT["quiet"]}" class="fq" font-size="{style.SMALL - 1}"'
            if not e.shown:
                look = 'opacity="0"'
            texts += f'<text x="{x:.0f}" y="{y + 13 * i:.0f}" {look}>{_escape("".join(r.text for r in words))}</text>'
    return f'<g class="edge {sign}"><title>{_escape(e.title)}</title>{line}{texts}</g>'


def _gap(e: Edge, c: Curve) -> tuple[float, float]:
    """The share of a straight line that its label covers, from where to where: there the line is left out."""
    if len(c.points) != 2 or c.label is None or not e.shown:
        return 0.0, 0.0
    w, h = label_size(e)
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
    """Cubic pieces in whole pixels, each relative to where it starts: the shortest way to write a long one."""
    whole = [(round(x), round(y)) for x, y in points]
    x, y = whole[0]
    steps = []
    for k in range(1, len(whole), 3):
        steps += [f"{px - x},{py - y}" for px, py in whole[k : k + 3]]
        x, y = whole[k + 2]
    return f"M{whole[0][0]},{whole[0][1]}c{' '.join(steps)}"


def _arrow(tip: tuple[float, float], base: tuple[float, float], width: float, colour: str) -> str:
    """A filled head whose tip is at the operand."""
    (x, y), (bx, by) = tip, base
    length = math.hypot(bx - x, by - y) or 1.0
    ux, uy = (bx - x) / length, (by - y) / length
    half = 2.5 + width / 2
    return (
        f'<path class="head" fill="{colour}" d="M{_n(x)},{_n(y)}L{_n(bx - uy * half)},{_n(by + ux * half)} '
        f'{_n(bx + uy * half)},{_n(by - ux * half)}z"/>'
    )


# Nodes


def _node(n: Node, *body: str) -> str:
    kind = {"op": "", "layer": "", "dead": " unit dead"}.get(n.kind, f" {n.kind}")
    return f'<g class="node{kind}"><title>{_escape(n.title)}</title>{"".join(body)}</g>'


def _cluster(c: Cluster, box: tuple[float, float, float, float]) -> str:
    x, y, x1, y1 = (round(v) for v in box)
    words = _line(c.name, x + 8, y + 15, style.SMALL)
    return (
        f'<g class="cluster"><title>{_escape(c.title)}</title><rect x="{x}" y="{y}" width="{x1 - x}" '
        f'height="{y1 - y}" rx="8" fill="none" stroke="{style.LIGHT["frame"]}"/>{words}</g>'
    )


def _card(n: Node, centre: tuple[float, float]) -> str:
    x, y = round(centre[0] - n.width / 2), round(centre[1] - n.height / 2)
    if n.kind in ("constant", "again"):
        return _node(n, _line(n.lines[0], x + style.PAD_X / 2, y + 14))
    frame = style.LIGHT["ink" if n.kind == "root" else "frame"]
    look = {"root": ' stroke-width="2"', "cut": ' stroke-dasharray="4 3"', "leaf": ' stroke-width="1.5"'}
    fill = style.LIGHT["paper" if n.kind == "leaf" else "card"]
    behind = ""
    if n.kind == "folded":  # a stack of cards
        behind = (
            f'<rect x="{_n(x + 4)}" y="{_n(y + 4)}" width="{_n(n.width)}" height="{_n(n.height)}" rx="6" '
            f'fill="{fill}" stroke="{frame}"/>'
        )
    body = [
        f'{behind}<rect x="{_n(x)}" y="{_n(y)}" width="{_n(n.width)}" height="{_n(n.height)}" '
        f'rx="{style.LINE if n.kind == "leaf" else 6}" fill="{fill}" stroke="{frame}"{look.get(n.kind, "")}/>'
    ]
    for i, line in enumerate(n.lines):
        colour = ""
        if i == len(n.lines) - 1:
            colour = f' class="t-{n.flow.sign}" fill="{style.LIGHT[_TEXT.get(n.flow.sign, n.flow.sign)]}"'
        body.append(_line(line, x + style.PAD_X, y + style.PAD_Y + style.LINE * i + 13, colour=colour))
    return _node(n, *body)


def _unit(n: Node, centre: tuple[float, float], scale: Scale) -> str:
    x, y = centre
    r = n.width / 2
    roomy = r >= style.ROOMY_RADIUS
    sign = n.flow.sign
    width = _n(1 + scale(n.flow) / 2 if roomy else min(1.5, r / 3))
    dash = f' stroke-dasharray="{style.DASH[sign]}"' if sign in style.DASH and r > 5 else ""
    body = [
        f'<circle class="{sign}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" fill="{style.LIGHT["card"]}" '
        f'stroke="{style.LIGHT[sign]}" stroke-width="{width}"{dash}/>'
    ]
    if not roomy and n.fill >= 0.05:
        body.append(
            f'<circle class="t-none" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r - 1)}" fill="{style.LIGHT["none"]}" '
            f'fill-opacity="{n.fill:.1g}"/>'
        )
    if n.kind == "dead":  # crossed out; a large unit, which holds text, has the cross on its rim
        cx, cy, d = (x + r * 0.74, y - r * 0.74, 4.0) if roomy else (x, y, r * 0.7)
        zero = style.LIGHT["zero"]
        if roomy:
            body.append(
                f'<circle class="zero" cx="{_n(cx)}" cy="{_n(cy)}" r="8" fill="{style.LIGHT["card"]}" stroke="{zero}"/>'
            )
        body.append(
            f'<path class="zero" stroke="{zero}" stroke-width="1.5" '
            f'd="M{_n(cx - d)},{_n(cy - d)}l{_n(2 * d)},{_n(2 * d)}m0,{_n(-2 * d)}l{_n(-2 * d)},{_n(2 * d)}"/>'
        )
    value, fluxion, name = n.lines
    colour = f' class="t-{sign}" fill="{style.LIGHT[_TEXT.get(sign, sign)]}"'
    half = text_width(fluxion, style.SMALL) / 2
    if roomy:
        body.append(_small(name, x - text_width(name, style.SMALL) / 2, y - 4))
        body.append(_small(value, x - text_width(value, style.SMALL) / 2, y + 10))
        body.append(_small(fluxion, x - half, y + r + 16, colour))
    elif n.beside:
        body.append(_small(name, x + r + 8, y + 4))
        body.append(_small(fluxion, x + r + 14 + text_width(name, style.SMALL), y + 4, colour))
    else:
        words = _escape(fluxion[-1].text.removeprefix(" = "))
        body.append(f'<text x="{x + r:.0f}" y="{y - r:.0f}" opacity="0">{words}</text>')
    return _node(n, *body)


def _row(n: Node, centre: tuple[float, float]) -> str:
    """A box of the layer view: its cells in one line of text, L̇ in one of its own, its bars in one path."""
    left, middle = centre[0] - n.width / 2, round(centre[1])
    root = n.kind == "root"
    fill, frame = (style.LIGHT[c] for c in (("paper", "ink") if root else ("card", "frame")))
    wide, tall = round(n.width), round(n.height)
    parts = [f'<path d="M{left:.0f},{middle - tall // 2}h{wide}v{tall}h-{wide}z" fill="{fill}" stroke="{frame}"/>']
    runs = ""
    for x, line in n.cells[:-1]:
        for k, run in enumerate(line):
            look = "" if k else f' x="{_n(left + x)}"'
            if run.style in ("name", "quiet"):
                look += ' class="fi"' if run.style == "name" else f' class="fq" fill="{style.LIGHT["quiet"]}"'
            runs += f"<tspan{look}>{_escape(run.text)}</tspan>" if look else _escape(run.text)
    parts.append(f'<text y="{middle + 4}">{runs}</text>')
    x, line = n.cells[-1]
    wild = n.flow.sign == "wild"
    colour = style.LIGHT["wild" if wild else "mixed"]
    look = f' class="t-wild" fill="{colour}"' if wild else ""
    parts.append(f'<text x="{_n(left + x)}" y="{middle + 4}"{look}>{_escape(line[0].text)}</text>')
    if n.bars:
        d = "".join(f"M{left + b.x:.0f},{middle + b.y:.0f}h{_n(b.width)}v{b.height:.0f}h{_n(-b.width)}" for b in n.bars)
        own = ' class="t-wild"' if wild else ""
        parts.append(f'<path{own} fill="{colour}" d="{d}"/>')
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
        colour = style.LIGHT[sign]
        dash = f' stroke-dasharray="{style.DASH[sign]}"' if sign in style.DASH else ""
        thick = 5 if sign == "wild" else 3
        swatch = f'<path class="{sign}" stroke="{colour}" stroke-width="{thick}"{dash} d="M{{x}},{{y}}H{{x2}}"/>'
        if sign == "wild":
            swatch += f'<path class="gap" stroke="{style.LIGHT["paper"]}" stroke-width="2" d="M{{x}},{{y}}H{{x2}}"/>'
        put(swatch, plain(words.format(what=what)), 26)
    x, y = 0.0, y + style.LINE
    if scale.any:
        for share in (0.0, 0.5, 1.0):
            size = 10 ** (scale.low + share * (scale.high - scale.low))
            w = scale.thin + share * (scale.thick - scale.thin)
            swatch = (
                f'<path class="mixed" stroke="{style.LIGHT["mixed"]}" stroke-width="{_n(w)}" d="M{{x}},{{y}}H{{x2}}"/>'
            )
            put(swatch, plain(shown(size)), 26)
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
    """What CSS adds: serif names, a halo behind numbers on lines, numbers on pointing, the dark theme."""
    dark, cards = style.DARK, scene.view != "neuron"
    signs = sorted(_signs(scene) | {"plus", "minus", "mixed"})
    halo = ".edge text" if cards else f".edge text,{mark} .unit g text"
    rules = [
        "{max-width:100%;height:auto}",
        f" .fi{{font-family:{style.SERIF};font-style:italic}}",
        f" {halo}{{paint-order:stroke;stroke:{style.LIGHT['paper']};stroke-width:4px}}",
        *(f" .edge.{s} text{{fill:{style.LIGHT[_TEXT.get(s, s)]}}}" for s in signs if not cards),
        *([] if cards else [" :hover>text{opacity:1}"]),
    ]
    night = [
        f"{{fill:{dark['ink']}}}",
        f" .paper{{fill:{dark['paper']}}}",
        f" {halo},{mark} .edge>.gap,{mark} .gap{{stroke:{dark['paper']}}}",
    ]
    for sign in signs:
        c, t = dark[sign], dark[_TEXT.get(sign, sign)]
        night.append(f" path.{sign},{mark} .{sign}>path{{stroke:{c}}}")
        night.append(f" .t-{sign},{mark} .edge.{sign} text{{fill:{t}}}")
        night.append(
            f" .{sign}>.head{{fill:{c};stroke:none}}" if cards else f" circle.{sign}{{stroke:{c};fill:{dark['card']}}}"
        )
    if cards:
        night += [
            f" .node rect{{fill:{dark['card']};stroke:{dark['frame']}}}",
            f" .leaf rect{{fill:{dark['paper']}}}",
            f" .root rect{{stroke:{dark['ink']}}}",
        ]
        if scene.view == "layer":  # of a row's paths, the first is its box
            night += [
                f" .node path{{fill:{dark['mixed']}}}",
                f" .node title+path{{fill:{dark['card']};stroke:{dark['frame']}}}",
                f" .root title+path{{stroke:{dark['ink']}}}",
                f" .node path.t-wild{{fill:{dark['wild']}}}",
            ]
        night += [f" .cluster rect{{stroke:{dark['frame']}}}"] if scene.clusters else []
    night.append(f" text.fq,{mark} .edge text.fq,{mark} .fq{{fill:{dark['quiet']}}}")
    light, deep = ("".join(mark + rule for rule in group) for group in (rules, night))
    return f"{light}@media(prefers-color-scheme:dark){{{deep}}}"
