"""Where things go. The `graphviz` package writes the DOT; Graphviz, bundled in pygraphviz, lays it out in process."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.scene import Edge, Line, Scene, text_width

Point = tuple[float, float]

NEEDED = (
    "laying out a picture needs Graphviz: pip install graphviz pygraphviz "
    "(or, where pygraphviz has no wheel, put Graphviz's dot on the PATH)"
)


class Curve(NamedTuple):
    points: list[Point]  # a start, then three points per cubic piece, from operand to operation
    arrow: Point | None  # the tip of the arrow at the operand
    label: Point | None
    shown: bool = True  # is the label to be read at once, or when pointed at?


class Placed(NamedTuple):
    dot: str
    width: float
    height: float
    centres: dict[str, Point]
    curves: list[Curve]
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # of each cluster: left, top, right, bottom


def place(scene: Scene) -> Placed:
    """Give every node and edge its place.

    A view that has pinned its nodes (columns of units need no search) keeps them, with straight edges.
    Else Graphviz's dot lays out from left to right, or downwards where that would be wider than a page.

    Raises ImportError where neither pygraphviz nor a `dot` is installed.
    """
    if scene.view == "layer":
        return _rows(scene)
    if scene.pinned:
        return _columns(scene)
    best = _graphviz(scene, "LR")
    if best.width > style.WIDE:
        down = _graphviz(scene, "TB")
        best = min(best, down, key=lambda p: p.width)
    return best


def to_dot(scene: Scene, rankdir: str = "LR") -> str:
    """The scene as DOT, to be laid out by `dot`, or by `neato -n` where it is pinned."""
    try:
        import graphviz
    except ImportError:
        raise ImportError(NEEDED) from None
    inch = 1 / 72
    g = graphviz.Digraph("wiggle-flow")
    if scene.pinned:
        g.attr("graph", layout="neato", splines="line")
        g.attr("edge", dir="none")
    else:
        spread = {"LR": ("0.25", "0.2"), "TB": ("0.35", "0.3")}[rankdir]
        g.attr("graph", rankdir=rankdir, nodesep=spread[0], ranksep=spread[1])
        g.attr("edge", dir="back", arrowsize="0.7")
    g.attr("node", shape="box", fixedsize="true", fontsize="10")
    g.attr("edge", fontsize="10")
    for n in scene.nodes:
        more = {}
        if n.at is not None:
            more = {
                "pos": f"{n.at[0]:.1f},{-n.at[1]:.1f}!",
                "shape": "box" if n.kind in ("layer", "root") else "circle",
                "tooltip": graphviz.escape(n.title),
            }
        label = graphviz.escape("\n".join(map(_plain, n.lines))) if n.at is None else ""
        g.node(
            n.key,
            label.replace("\n", r"\n"),
            width=f"{n.width * inch:.4f}",
            height=f"{n.height * inch:.4f}",
            **more,
        )
    for c in _nested(scene, g, graphviz.escape):
        g.subgraph(c)
    kinds = {n.key: n.kind for n in scene.nodes}
    lines = {"minus": "dashed", "zero": "dotted", "none": "dotted"}
    for i, e in enumerate(scene.edges):
        more = {"label": _table(e)} if e.label and not scene.pinned else {}
        if e.flow.sign == "none":
            more["arrowtail"] = "none"
        elif not scene.pinned:
            more["weight"] = {"leaf": "2", "again": "1"}.get(kinds[e.tail], "20")  # results stand in line
        g.edge(
            e.tail,
            e.head,
            id=f"e{i}",
            color=style.LIGHT[e.flow.sign],
            style=lines.get(e.flow.sign, "solid"),
            **more,
        )
    return str(g.source)


def _nested(scene: Scene, g: Any, escape: Callable[[str], str]) -> list[Any]:
    """The outermost clusters as subgraphs, with the inner ones in them."""
    graphs: list[Any] = []
    for i, c in enumerate(scene.clusters):
        sub = type(g)(f"cluster_{i}")
        w, h = math.ceil(text_width(c.name, style.SMALL)) + 12, style.LINE
        room = (
            f'<<table border="0" cellpadding="0" cellspacing="0" fixedsize="true" width="{w}" height="{h}">'
            f"<tr><td></td></tr></table>>"
        )
        sub.attr(label=room, labeljust="l", margin="10", tooltip=escape(c.title))
        for key in c.keys:
            sub.node(key)
        graphs.append(sub)
    for i in reversed(range(len(graphs))):  # an inner one is complete before it goes into the one around it
        outer = scene.clusters[i].outer
        if outer is not None:
            graphs[outer].subgraph(graphs[i])
    return [sub for sub, c in zip(graphs, scene.clusters, strict=True) if c.outer is None]


def _plain(line: Line) -> str:
    return "".join("L̇" if r.style == "dot" else f"_{r.text}" if r.style == "sub" else r.text for r in line)


def label_size(edge: Edge, size: int = style.SMALL) -> Point:
    """The room that an edge's label takes, in letters of a size."""
    widest = max((style.width(_plain(line), size) for line in edge.label), default=0.0)
    if size < style.SMALL:
        return math.ceil(widest) + 4, size + 2
    return math.ceil(widest) + 8, 14 * len(edge.label) + 5


def _table(edge: Edge) -> str:
    """A label of a size that depends on no font: ours are numbers only, so markup is safe here."""
    w, h = label_size(edge)
    rows = "<br/>".join(map(_plain, edge.label))
    return (
        f'<<table border="0" cellpadding="0" cellspacing="0" fixedsize="true" width="{w:.0f}" height="{h:.0f}">'
        f"<tr><td>{rows}</td></tr></table>>"
    )


def _graphviz(scene: Scene, rankdir: str) -> Placed:
    dot = to_dot(scene, rankdir)
    found = json.loads(_run(dot))
    left, low, right, high = map(float, found["bb"].split(","))

    def point(text: str) -> Point:
        x, y = map(float, text.split(","))
        return x - left, high - y

    centres = {o["name"]: point(o["pos"]) for o in found.get("objects", ()) if "pos" in o}
    drawn = {o["name"]: list(map(float, o["bb"].split(","))) for o in found.get("objects", ()) if "bb" in o}
    boxes = [drawn[f"cluster_{i}"] for i in range(len(scene.clusters))]
    curves: list[Curve] = [Curve([], None, None)] * len(scene.edges)
    for e in found.get("edges", ()):
        arrow, points = None, []
        for text in e["pos"].split():
            if text[0] == "s":
                arrow = point(text[2:])
            else:
                points.append(point(text))
        curves[int(e["id"][1:])] = Curve(points, arrow, point(e["lp"]) if "lp" in e else None)
    inner = tuple((x0 - left, high - y1, x1 - left, high - y0) for x0, y0, x1, y1 in boxes)
    return Placed(dot, right - left, high - low, centres, curves, inner)


def _columns(scene: Scene) -> Placed:
    nodes = {n.key: n for n in scene.nodes}
    centres = {n.key: n.at for n in scene.nodes if n.at is not None}
    ends = []
    for e in scene.edges:
        (x0, y0), (x1, y1) = centres[e.tail], centres[e.head]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        r0, r1 = nodes[e.tail].width / 2, nodes[e.head].width / 2
        ends.append(((x0 + ux * r0, y0 + uy * r0), (x1 - ux * r1, y1 - uy * r1)))
    if scene.dense:
        curves = _with_room(scene, ends, _texts(scene, centres))
    else:
        curves = []
        taken = [(*centres[n.key], n.width, n.height + 30) for n in scene.nodes if n.width > 40]
        lines = [(centres[e.tail], centres[e.head]) for e in scene.edges]
        for e, (a, b) in zip(scene.edges, ends, strict=True):
            label = _free(a, b, label_size(e), taken, lines)
            taken.append((*label, *label_size(e)))
            curves.append(Curve([a, b], None, label))
    width = max(x + nodes[k].width / 2 for k, (x, _) in centres.items())
    height = max(y + nodes[k].height / 2 for k, (_, y) in centres.items())
    return Placed(
        to_dot(scene),
        width + (130 if any(n.beside for n in scene.nodes) else 50),
        height + 24,
        centres,
        curves,
    )


GUTTER = 80
"""Left of the boxes of the layer view: room for an arrow from row to row, and its number."""


def _rows(scene: Scene) -> Placed:
    """Boxes where the view has put them; each edge an arrow upwards in the gutter, above the box that it comes from."""
    nodes = {n.key: n for n in scene.nodes}
    centres = {n.key: n.at for n in scene.nodes if n.at is not None}
    curves = []
    for e in scene.edges:
        (_, above), (x, y) = centres[e.tail], centres[e.head]
        step = y - above if above < y else nodes[e.head].height + 3
        x += 10 - nodes[e.head].width / 2 - GUTTER
        w, _ = label_size(e)
        points = [(x, y - step + 9), (x, y + 2)]
        curves.append(Curve(points, (x, y - step + 3), (x + 8 + w / 2, y - step / 2)))
    width = max(x + nodes[k].width / 2 for k, (x, _) in centres.items())
    height = max(y + nodes[k].height / 2 for k, (_, y) in centres.items())
    return Placed(to_dot(scene), width, height, centres, curves)


def _free(
    a: Point,
    b: Point,
    size: Point,
    taken: list[tuple[float, float, float, float]],
    lines: list[tuple[Point, Point]],
) -> Point:
    """Of some points along a straight edge, the one where a label lies freest of labels, units and other lines."""
    best, least = a, math.inf
    for share in (0.5, 0.44, 0.56, 0.38, 0.62, 0.32, 0.68, 0.26, 0.74, 0.2, 0.8, 0.14, 0.86):
        x, y = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
        covered = abs(share - 0.5) * 20
        for tx, ty, tw, th in taken:
            wide = (size[0] + tw) / 2 - abs(x - tx)
            high = (size[1] + th) / 2 - abs(y - ty)
            covered += 4 * wide * high if wide > 0 and high > 0 else 0.0
        covered += sum(4 * _inside(p, q, (x, y), size) for p, q in lines)  # its own counts alike everywhere
        if covered < least:
            best, least = (x, y), covered
    return best


ALONG = np.linspace(0.08, 0.92, 29)
"""The shares of a line at which its number may stand, where there are many lines."""


def _texts(scene: Scene, centres: dict[str, Point]) -> list[tuple[float, float, float, float]]:
    """The boxes that the units of a network take, and the L̇ below the large ones."""
    boxes = [(*centres[n.key], n.width + 4, n.height + 4) for n in scene.nodes]
    for n in scene.nodes:
        if n.width >= 2 * style.ROOMY_RADIUS:
            (x, y), wide = centres[n.key], text_width(n.lines[1], style.SMALL)
            boxes.append((x, y + n.height / 2 + 12, wide + 4, 16))
    return boxes


def _with_room(
    scene: Scene, ends: list[tuple[Point, Point]], taken: list[tuple[float, float, float, float]]
) -> list[Curve]:
    """The lines of a dense network, and on as many as have room their numbers, the strongest first: where a number
    covers a few weaker lines at the most, and is covered by none, for the strong are drawn over the weak."""
    a, b = (np.array([pair[k] for pair in ends]) for k in (0, 1))
    boxes = np.array(taken)
    curves = [Curve([p, q], None, ((p[0] + q[0]) / 2, (p[1] + q[1]) / 2), False) for p, q in ends]
    weakest_first = sorted(range(len(ends)), key=lambda i: scene.edges[i].flow.size)
    for k in reversed(range(len(ends))):
        i = weakest_first[k]
        size = np.array(label_size(scene.edges[i], style.TINY))
        at = a[i] + ALONG[:, None] * (b[i] - a[i])
        through = _crossed(at, size, a, b)
        near = np.abs(at[:, None] - boxes[None, :, :2]) < (size + boxes[:, 2:]) / 2
        bad = near.all(axis=2).any(axis=1) | through[:, weakest_first[k + 1 :]].any(axis=1)
        crossed = np.where(bad, np.inf, through.sum(axis=1) - 1 + np.abs(ALONG - 0.5))
        best = int(np.argmin(crossed))
        if crossed[best] < style.CROSSED + 1:
            x, y = at[best].tolist()
            boxes = np.vstack([boxes, [x, y, *size]])
            curves[i] = curves[i]._replace(label=(x, y), shown=True)
    return curves


def _crossed(at: Any, size: Any, a: Any, b: Any) -> Any:
    """Which of the lines from a to b go through a box of a size around each of some points."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = ((at[:, None] + s * size / 2 - a) / (b - a) for s in (-1, 1))
    low, high = np.fmax(np.fmin(one, other), 0).max(axis=2), np.fmin(np.fmax(one, other), 1).min(axis=2)
    return low < high


def _inside(p: Point, q: Point, centre: Point, size: Point) -> float:
    """How much of the line from p to q lies in a box, in pixels."""
    low, high = crossing(p, q, centre, size)
    return (high - low) * math.hypot(q[0] - p[0], q[1] - p[1])


def crossing(p: Point, q: Point, centre: Point, size: Point) -> tuple[float, float]:
    """Where the line from p (0) to q (1) enters a box and where it leaves it; the same twice where it misses."""
    low, high = 0.0, 1.0
    for axis in (0, 1):
        step = q[axis] - p[axis]
        near, far = centre[axis] - size[axis] / 2 - p[axis], centre[axis] + size[axis] / 2 - p[axis]
        if abs(step) < 1e-9:
            if near > 0 or far < 0:
                return 0.0, 0.0
        else:
            one, other = sorted((near / step, far / step))
            low, high = max(low, one), min(high, other)
    return (low, high) if low < high else (0.0, 0.0)


# Graphviz itself

_lock = threading.Lock()


def _run(dot: str) -> bytes:
    """json0 of a DOT text: node positions, edge splines, label positions."""
    try:
        import pygraphviz
    except ImportError:
        return _run_program(dot)
    with _lock, _hushed():
        return bytes(pygraphviz.AGraph(string=dot).draw(format="json0", prog="dot"))


def _run_program(dot: str) -> bytes:
    import shutil
    import subprocess

    program = shutil.which("dot")
    if program is None:
        raise ImportError(NEEDED)
    done = subprocess.run([program, "-Tjson0"], input=dot.encode(), capture_output=True, check=True, timeout=120)
    return done.stdout


@contextmanager
def _hushed() -> Iterator[None]:
    """Graphviz and Fontconfig write their warnings to C's stderr; send that nowhere while they work."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # no stderr to hush
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
