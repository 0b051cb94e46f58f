"""One renderer: a placed scene becomes SVG text. Attributes hold all that matters; CSS adds the dark theme."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.layout import Curve, Placed, Point, crossing, label_size
from fluxgrad.picture.scene import Edge, Flow, Line, Node, Run, Scene, run_width, shown, text_width

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
    body.append('<g fill="none" text-anchor="middle">')
    edges = list(zip(scene.edges, placed.curves, strict=True))
    if scene.pinned:  # lines cross: the strong ones on top, whatever their sign
        edges.sort(key=lambda pair: (scale.share(pair[0].flow) if pair[0].flow.size else -1, pair[0].flow.size))
    body.extend(_edge(e, c, scale) for e, c in edges)
    body.append("</g>")
    body.extend(_node(n, placed.centres[n.key], scale) for n in scene.nodes)
    for x, y, line in scene.texts:
        body.append(_line(line, x - text_width(line, style.SMALL) / 2, y, style.SMALL))
    body.append("</g>")
    body.append(f'<g transform="translate({MARGIN} {_n(top + placed.height + MARGIN)})">{"".join(legend)}</g>')

    inside = "\n".join(body)
    mark = "fg-" + hashlib.sha256((scene.title + scene.story + inside).encode()).hexdigest()[:8]
    size = f"{math.ceil(width)} {math.ceil(height)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{mark}" role="img" aria-labelledby="{mark}-t {mark}-d" '
        f'width="{math.ceil(width)}" height="{math.ceil(height)}" viewBox="0 0 {size}" '
        f'font-family="{style.FONT}" font-size="{style.SIZE}" fill="{style.LIGHT["ink"]}">'
        f'<title id="{mark}-t">{_escape(scene.title)}</title><desc id="{mark}-d">{_escape(scene.story)}</desc>'
        f"<style>{_css('#' + mark, _signs(scene))}</style>"
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


def _line(line: Line, x: float, y: float, size: float = style.SIZE, colour: str = "", more: str = "") -> str:
    parts, dots = [], []
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
            dots.append(f'<circle cx="{_n(at + 0.36 * size)}" cy="{_n(y - 0.9 * size)}" r="{0.09 * size:.1f}"{colour}/>')
        elif run.style == "name":
            attributes += ' class="fi"'
        elif run.style == "quiet":
            attributes += f' class="fq" font-size="{style.SMALL}" fill="{style.LIGHT["quiet"]}"'
        elif run.style == "strong":
            attributes += ' font-weight="bold"'
        text = _escape(run.text)
        parts.append(f"<tspan{attributes}>{text}</tspan>" if attributes else text)
        at += run_width(run, size)
    font = f' font-size="{size}"' if size != style.SIZE else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{font}{colour}{more}>{"".join(parts)}</text>{"".join(dots)}'


# Edges


def _edge(e: Edge, c: Curve, scale: Scale) -> str:
    sign, path, w = e.flow.sign, _path(c.points, _gap(e, c)), scale(e.flow)
    colour = style.LIGHT[sign]
    look = f'stroke="{colour}" stroke-width="{w:.2g}"'
    if sign in style.DASH:
        look += f' stroke-dasharray="{style.DASH[sign]}"'
    line = f'<path {look} d="{path}"/>'
    if sign == "wild":  # a double line
        line += f'<path class="gap" stroke="{style.LIGHT["paper"]}" stroke-width="{_n(w - 3)}" d="{path}"/>'
    if c.arrow is not None:
        line += _arrow(c.arrow, c.points[0], w, colour)
    texts = ""
    if e.label and c.label is not None:
        x, y = c.label
        y += (4 if len(c.points) == 2 else 2) - 7 * (len(e.label) - 1)
        hidden = "" if e.shown else ' opacity="0"'
        for i, words in enumerate(e.label):
            fill = style.LIGHT["quiet" if i else _TEXT.get(sign, sign)]
            second = ' class="fq"' if i else ""
            texts += (
                f'<text x="{_n(x)}" y="{_n(y + 13 * i)}" font-size="{style.SMALL - i}" fill="{fill}"{second}{hidden}>'
                f'{_escape("".join(r.text for r in words))}</text>'
            )
    return f'<g class="edge {sign}"><title>{_escape(e.title)}</title>{line}{texts}</g>'


def _gap(e: Edge, c: Curve) -> tuple[float, float]:
    """The share of a straight line that its label covers, from where to where: there the line is left out."""
    if len(c.points) != 2 or c.label is None or not e.shown:
        return 0.0, 0.0
    w, h = label_size(e)
    return crossing(*c.points, c.label, (w - 2, h - 2))


def _path(points: list[Point], gap: tuple[float, float]) -> str:
    flat = [f"{_n(x)},{_n(y)}" for x, y in points]
    if len(points) != 2:
        return f"M{flat[0]}C{' '.join(flat[1:])}"
    low, high = gap
    if high <= low:
        return f"M{flat[0]}L{flat[1]}"
    (x0, y0), (x1, y1) = points
    cut = [f"{_n(x0 + t * (x1 - x0))},{_n(y0 + t * (y1 - y0))}" for t in gap]
    return f"M{flat[0]}L{cut[0]}M{cut[1]}L{flat[1]}"


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


def _node(n: Node, centre: tuple[float, float], scale: Scale) -> str:
    body = _unit(n, centre, scale) if n.kind in ("unit", "dead") else _card(n, centre)
    kind = {"op": "", "dead": " unit dead"}.get(n.kind, f" {n.kind}")
    return f'<g class="node{kind}"><title>{_escape(n.title)}</title>{body}</g>'


def _card(n: Node, centre: tuple[float, float]) -> str:
    x, y = centre[0] - n.width / 2, centre[1] - n.height / 2
    if n.kind == "constant":
        return _line(n.lines[0], x + style.PAD_X / 2, y + n.height / 2 + 4)
    frame = style.LIGHT["ink" if n.kind == "root" else "frame"]
    edge = {"root": ' stroke-width="2"', "cut": ' stroke-dasharray="4 3"', "leaf": ' stroke-width="1.5"'}.get(n.kind, "")
    fill = style.LIGHT["paper" if n.kind == "leaf" else "card"]
    body = [
        f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(n.width)}" height="{_n(n.height)}" '
        f'rx="{style.LINE if n.kind == "leaf" else 6}" fill="{fill}" stroke="{frame}"{edge}/>'
    ]
    for i, line in enumerate(n.lines):
        colour = ""
        if i == len(n.lines) - 1:
            colour = f' class="t-{n.flow.sign}" fill="{style.LIGHT[_TEXT.get(n.flow.sign, n.flow.sign)]}"'
        body.append(_line(line, x + style.PAD_X, y + style.PAD_Y + style.LINE * (i + 0.73), colour=colour))
    return "".join(body)


def _unit(n: Node, centre: tuple[float, float], scale: Scale) -> str:
    x, y = centre
    r = n.width / 2
    roomy = r > 20
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
    if n.kind == "dead":
        d = r * 0.7
        body.append(
            f'<path class="zero" stroke="{style.LIGHT["zero"]}" stroke-width="1.5" '
            f'd="M{_n(x - d)},{_n(y - d)}l{_n(2 * d)},{_n(2 * d)}m0,{_n(-2 * d)}l{_n(-2 * d)},{_n(2 * d)}"/>'
        )
    value, fluxion, name = n.lines
    colour = f' class="t-{sign}" fill="{style.LIGHT[_TEXT.get(sign, sign)]}"'
    half = text_width(fluxion, style.SMALL) / 2
    if roomy:
        body.append(_line(name, x - text_width(name, style.SMALL) / 2, y - 4, style.SMALL))
        body.append(_line(value, x - text_width(value, style.SMALL) / 2, y + 10, style.SMALL))
        body.append(_line(fluxion, x - half, y + r + 16, style.SMALL, colour))
    elif n.beside:
        body.append(_line(name, x + r + 8, y + 4, style.SMALL))
        body.append(_line(fluxion, x + r + 14 + text_width(name, style.SMALL), y + 4, style.SMALL, colour))
    else:
        words = _escape(fluxion[-1].text.removeprefix(" = "))
        body.append(f'<text x="{_n(x + r)}" y="{_n(y - r)}"{colour} opacity="0">{words}</text>')
    return "".join(body)


# The legend


def _signs(scene: Scene) -> set[str]:
    return {"plus", "minus", "mixed", *(e.flow.sign for e in scene.edges), *(n.flow.sign for n in scene.nodes)}


def _legend(scene: Scene, scale: Scale, room: float) -> tuple[list[str], float, float]:
    """Its markup, its width and its height."""
    present = {e.flow.sign for e in scene.edges} | {n.flow.sign for n in scene.nodes}
    what = "this weight" if scene.view == "neuron" else "this"
    entries = [("plus", f"+ means L rises if {what} rises"), ("minus", f"− means L falls if {what} rises")]
    entries += [
        (sign, words)
        for sign, words in (
            ("mixed", "an array with both signs"),
            ("zero", "exactly zero"),
            ("none", "a constant, no fluxion"),
            ("wild", "NaN or inf"),
        )
        if sign in present
    ]
    parts: list[str] = []
    x, y, widest = 0.0, 12.0, 0.0

    def put(swatch: str, line: Line, span: float) -> None:
        nonlocal x, y, widest
        indent = span + 8 if swatch else 0
        needed = indent + text_width(line, style.SMALL)
        if x and x + needed > room:
            x, y = 0.0, y + style.LINE
        parts.append(swatch.format(x=_n(x), x2=_n(x + span), y=_n(y - 4)))
        parts.append(_line(line, x + indent, y, style.SMALL))
        widest = max(widest, x + needed)
        x += needed + 22

    for sign, words in entries:
        colour = style.LIGHT[sign]
        dash = f' stroke-dasharray="{style.DASH[sign]}"' if sign in style.DASH else ""
        thick = 5 if sign == "wild" else 3
        swatch = f'<path class="{sign}" stroke="{colour}" stroke-width="{thick}"{dash} d="M{{x}},{{y}}H{{x2}}"/>'
        if sign == "wild":
            swatch += (
                f'<path class="gap" stroke="{style.LIGHT["paper"]}" stroke-width="2" d="M{{x}},{{y}}H{{x2}}"/>'
            )
        put(swatch, (Run("plain", words),), 26)
    x, y = 0.0, y + style.LINE
    if scale.any:
        for share in (0.0, 0.5, 1.0):
            size = 10 ** (scale.low + share * (scale.high - scale.low))
            w = scale.thin + share * (scale.thick - scale.thin)
            swatch = f'<path class="mixed" stroke="{style.LIGHT["mixed"]}" stroke-width="{_n(w)}" d="M{{x}},{{y}}H{{x2}}"/>'
            put(swatch, (Run("plain", shown(size)),), 26)
        what = "fluxion" if scene.view == "neuron" else "contribution"
        here = "" if scale.widened else ", from the 5th to the 95th percentile here"
        put("", (Run("plain", f"width: log of the {what}'s size{here}"),), 0)
        x, y = 0.0, y + style.LINE
    for note in scene.notes:
        parts.append(_line(note, 0, y, style.SMALL))
        widest = max(widest, text_width(note, style.SMALL))
        y += style.LINE
    return parts, widest, y - style.LINE + 6


def _css(mark: str, signs: set[str]) -> str:
    """What CSS adds: serif names, a halo behind numbers on edges, numbers on pointing, the dark theme."""
    dark = style.DARK
    rules = [
        "{max-width:100%;height:auto}",
        f" .fi{{font-family:{style.SERIF};font-style:italic}}",
        " .edge text{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}",
        " .edge:hover text," + mark + " .node:hover text{opacity:1}",
        " .unit text[class]{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}",
        *_edge_text(style.LIGHT, mark, signs),
    ]
    night = [
        f"{{fill:{dark['ink']}}}",
        f" .paper{{fill:{dark['paper']}}}",
        f" .node rect{{fill:{dark['card']};stroke:{dark['frame']}}}",
        f" .leaf rect{{fill:{dark['paper']}}}",
        f" .root rect{{stroke:{dark['ink']}}}",
        f" .fq{{fill:{dark['quiet']}}}",
        f" .edge>.gap,{mark} .gap{{stroke:{dark['paper']}}}",
    ]
    for sign in sorted(signs):
        c, t = dark[sign], dark[_TEXT.get(sign, sign)]
        night.append(f" path.{sign},{mark} .{sign}>path{{stroke:{c}}}")
        night.append(f" .{sign}>.head{{fill:{c};stroke:none}}")
        night.append(f" circle.{sign}{{stroke:{c};fill:{dark['card']}}}")
        night.append(f" .t-{sign}{{fill:{t}}}")
    night += _edge_text(dark, mark, signs)
    return (
        "".join(mark + r for r in rules)
        + "@media(prefers-color-scheme:dark){"
        + "".join(mark + r for r in night)
        + "}"
    )


def _edge_text(theme: dict[str, str], mark: str, signs: set[str]) -> list[str]:
    return [
        f" .edge text,{mark} .unit text[class]{{stroke:{theme['paper']}}}",
        *(f" .edge.{k} text{{fill:{theme[_TEXT.get(k, k)]}}}" for k in sorted(signs)),
        f" .edge text.fq{{fill:{theme['quiet']}}}",
    ]
