"""The layer view: one box per layer, and ‖L̇_W‖ of all of them as bars on one log scale.

A layer is a weight: a matrix that requires grad and multiplies something (`affine`, x @ Wᵀ, x @ W, W @ x). So this view
needs no model, only the record; what a user wrote by hand is a layer too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fluxgrad.ink.names import clean, names_of
from fluxgrad.picture import style
from fluxgrad.picture.layout import GUTTER
from fluxgrad.picture.scene import (
    Bar,
    Cell,
    Edge,
    Flow,
    Line,
    Node,
    Run,
    Scene,
    flow,
    fluxion_title,
    norm,
    number,
    plain,
    shape,
    shown,
    single,
    text_width,
    value_title,
)
from fluxgrad.rules.kinds import Elementwise
from fluxgrad.sweep import Flows, Step
from fluxgrad.tensor import Array, Tensor


@dataclass(slots=True)
class Layer:
    """A weight, the steps that multiply by it, and what became of their results."""

    weight: Tensor
    steps: list[Step]
    given: list[int] = field(default_factory=list)  # per step, which operand is the layer's input
    bias: Tensor | None = None
    activation: str = ""
    out: Tensor | None = None  # of its last step, after the activation
    dead: float | None = None  # after a ReLU, the share of units that are 0 for the whole batch
    units: int = 0

    @property
    def input(self) -> Tensor | None:
        return self.steps[0].parents[self.given[0]]


def weights_of(flows: Flows) -> list[Layer]:
    """The layers of a record, in the order in which they ran; none where no matrix multiplies."""
    made_by = {s.output: s for s in flows.steps}
    users: dict[Tensor, list[Step]] = {}
    layers: dict[Tensor, Layer] = {}
    for s in reversed(flows.steps):
        for p in {p for p in s.parents if p is not None}:
            users.setdefault(p, []).append(s)
        found = _multiplied(s, made_by)
        if found is not None:
            weight, given = found
            layer = layers.setdefault(weight, Layer(weight, []))
            layer.steps.append(s)
            layer.given.append(given)
    ours = {id(s) for layer in layers.values() for s in layer.steps}
    for layer in layers.values():
        _activated(layer, users, ours, flows)
    return list(layers.values())


def _multiplied(s: Step, made_by: dict[Tensor, Step]) -> tuple[Tensor, int] | None:
    """The weight that a step multiplies by, and the position of what it multiplies."""
    if s.row.name not in ("affine", "matmul"):
        return None
    for i, given in ((1, 0), (0, 1)):  # x @ W before W @ x: where both are leaves, the first is the data
        p = s.parents[i]
        if p in made_by and made_by[p].row.name == "transpose":
            p = made_by[p].parents[0]
        if p is not None and p.row is None and p.ndim == 2:
            return p, given
    return None


def _activated(layer: Layer, users: dict[Tensor, list[Step]], ours: set[int], flows: Flows) -> None:
    """Follow each result through its bias to its activation."""
    blocked = None
    for s, given in zip(layer.steps, layer.given, strict=True):
        if len(s.parents) > 2:
            layer.bias = s.parents[2]
        out, relu = s.output, False
        while len(next_ := users.get(out, [])) == 1 and id(c := next_[0]) not in ours and c.output.shape == out.shape:
            others = [p for p in c.parents if p is not out]
            if c.row.name == "add" and len(others) == 1 and (others[0] is None or others[0].row is None):
                layer.bias = others[0] or layer.bias
                out = c.output
                continue
            floor = c.row.name == "maximum" and any(single(x) and not np.any(x) for x in c.inputs)
            if floor or (len(c.parents) == 1 and (isinstance(c.row, Elementwise) or "softmax" in c.row.name)):
                relu = floor or c.row.name == "relu"
                layer.activation = "relu" if relu else c.row.name
                out = c.output
            break
        layer.out = out
        axis = out.ndim - 1 if given == 0 or out.ndim == 1 else out.ndim - 2
        layer.units = out.shape[axis] if out.ndim else 1
        if relu:
            zero = np.all(np.moveaxis(flows.value(out), axis, -1).reshape(-1, layer.units) == 0, axis=0)
            blocked = zero if blocked is None or blocked.shape != zero.shape else blocked & zero
    if blocked is not None and blocked.size:
        layer.dead = float(np.mean(blocked))


# ----- The scene -----


class Axis(NamedTuple):
    """A log scale from one power of ten to another."""

    low: float
    high: float

    def __call__(self, size: float) -> float:
        """0 at the low end, 1 at the high end."""
        return min(max((math.log10(size) - self.low) / (self.high - self.low), 0.0), 1.0) if size > 0 else 0.0


def axis(sizes: Iterable[float], decades: float) -> Axis:
    """Whole decades around the sizes, at least so many: what is alike shall look alike.

    >>> axis([0.02, 0.5], 4)
    Axis(low=-4.0, high=0.0)
    """
    logs = [math.log10(s) for s in sizes if s > 0 and math.isfinite(s)]
    if not logs:
        return Axis(-decades, 0.0)
    high = float(math.ceil(max(logs)))
    return Axis(min(float(math.floor(min(logs))), high - decades), high)


class Form(NamedTuple):
    """Where the cells of a box begin, from its left edge, and how high a row is."""

    step: float  # from one row to the next
    tall: float  # the box
    wide: float
    name: float
    shape: float | None
    size: float
    bars: tuple[float, float]
    value: float
    dead: float
    spread: tuple[float, float]


ONE = Form(20, 17, 806, 8, 148, 292, (346, 572), 580, 644, (690, 796))
FEW = ONE._replace(step=32, tall=24)
TWO = Form(20, 17, 400, 6, None, 84, (124, 226), 231, 290, (324, 394))
TOP = 50.0
L_W: Line = (Run("dot", "L"), Run("sub", "W"))


def layer_scene(flows: Flows, paths: dict[Tensor, str] | None = None, caption: Line = ()) -> Scene:
    """A record's layers as a scene; `paths` are names that go before the tensors' own, `caption` a note below.

    Raises ValueError where nothing is a layer.
    """
    layers = weights_of(flows)
    if not layers:
        raise ValueError(
            "the layer view found no layer: no matrix that requires grad and multiplies something. "
            'draw(L, view="op") draws any graph'
        )
    names = names_of(flows, clean, paths)
    names |= {layer.weight: _short(names[layer.weight]) for layer in layers}  # a box is a layer, and has its name
    rank = {id(layer): k for k, layer in enumerate(layers)}
    sizes = [norm(flows[layer.weight]) for layer in layers]
    drawn = layers
    if len(layers) > style.LISTED:
        drawn = layers[: style.LISTED // 2] + layers[-(style.LISTED // 2) :]
    two = len(drawn) > style.LISTED // 2
    form = TWO if two else FEW if len(drawn) <= 12 else ONE
    per = math.ceil((len(drawn) + 1) / 2) if two else len(drawn) + 1
    bars = axis(sizes, 4)
    spreads = {id(layer): _spread(flows[layer.weight]) for layer in drawn}
    middles = [s.median for s in spreads.values() if s.median > 0]
    lows = [max(s.least, s.median / 1e3) for s in spreads.values() if s.median > 0]
    wide = axis([*lows, *middles, *(s.most for s in spreads.values())], 2)

    nodes: list[Node] = []
    edges: list[Edge] = []
    root = names[flows.root]
    before: tuple[int, Layer, str] | None = None
    for row, layer in enumerate(drawn):
        name, key = names[layer.weight], f"w{rank[id(layer)]}"
        nodes.append(_box(key, row, layer, flows, names, form, per, (bars, wide, spreads[id(layer)])))
        if before and rank[id(layer)] == before[0] + 1 and _feeds(before[1], layer, flows):
            sent = layer.steps[0].contributions[layer.given[0]]
            edges.append(_edge(f"w{before[0]}", key, before[2], name, sent))
        before = (rank[id(layer)], layer, name)
    nodes.append(_root(flows, root, len(drawn), form, per))
    out = drawn[-1].out
    if out is not None and out in flows:
        edges.append(_edge(f"w{rank[id(drawn[-1])]}", "L", names[drawn[-1].weight], root, flows[out]))

    heading, verdict = _verdict(sizes, [_short(names[layer.weight]) for layer in layers])
    alike = {(layer.weight.shape, layer.activation) for layer in layers[:-1]}
    notes: list[Line] = []
    if root != "L":
        notes.append((Run("plain", "Here L is "), Run("name", root), Run("plain", ".")))
    ends = [f"log scale from {shown(10**a.low)} to {shown(10**a.high)}" for a in (bars, wide)]
    notes += [
        (*L_W, Run("plain", f" = ∂L/∂W, the .grad of W. Bars: its norm over all entries, {ends[0]}.")),
        plain(f"Spread: its least, median (tick) and largest entry by size, without zeros, {ends[1]}."),
        plain("Values run down, fluxions up: at each arrow the norm of what a layer sends back to its input."),
    ]
    if any(layer.dead is not None for layer in layers):
        notes.append(plain("Dead: the share of a layer's units that its ReLU holds at 0 for the whole batch."))
    if two and len(alike) == 1:
        (size, activation), *_ = alike
        also = f", {activation}" if activation else ""
        notes.append(plain(f"All layers but the last: {size[0]}×{size[1]}{also}."))
    if len(drawn) < len(layers):
        left = len(layers) - len(drawn)
        half = style.LISTED // 2
        notes.append((Run("strong", f"The first {half} and the last {half} of {len(layers):,} layers"),))
        notes[-1] += plain(f"; {left:,} between them are left out.")
    if caption:
        notes.append(caption)
    story = [f"{len(layers):,} layers. {verdict}"]
    story += [
        f"{names[layer.weight]}: {fluxion_title(names[layer.weight], flows[layer.weight])}." for layer in drawn[:12]
    ]
    return Scene(
        view="layer",
        title=f"Wiggle-flow of {root}, layer by layer: {value_title(root, flows.value(flows.root))}",
        story=" ".join(story),
        nodes=tuple(nodes),
        edges=tuple(edges),
        notes=tuple(notes),
        heading=heading,
        texts=_headings(form, 2 if two else 1, bars, wide, any(layer.dead is not None for layer in drawn)),
    )


def _feeds(one: Layer, other: Layer, flows: Flows) -> bool:
    """Does the input of a layer come from the one before it?"""
    start, since = one.steps[0].output, one.steps[0].output.index
    waiting, met = [other.input], set()
    while waiting:
        t = waiting.pop()
        if t is start:
            return True
        if t is not None and t.index > since and t not in met:
            met.add(t)
            waiting.extend(t.operands)
    return False


def _verdict(sizes: list[float], names: list[str]) -> tuple[Line, str]:
    """What the bars show, in words: as a heading, and as text."""
    usable = [(s, n) for s, n in zip(sizes, names, strict=True) if s > 0 and math.isfinite(s)]
    wild = sum(not math.isfinite(s) for s in sizes)
    if wild:
        words = f"{wild} of {len(sizes)} layers have a fluxion that is NaN or inf."
        return (Run("strong", words),), words
    silent = sum(s == 0 for s in sizes)
    if silent:
        words = f" is exactly zero in {silent} of {len(sizes)} layers: nothing reaches them."
        return (*L_W, Run("strong", words)), f"L̇_W{words}"
    if len(usable) < 2:
        return (), ""
    (first, a), (last, b) = usable[0], usable[-1]
    ratio = first / last
    each = ratio ** (1 / (len(usable) - 1))
    factor = max(s for s, _ in usable) / min(s for s, _ in usable)
    if ratio < 1e-3:
        says = f" vanishes: from {b} back to {a} its norm falls {_fold(1 / ratio)}, ×{shown(each)} per layer."
    elif ratio > 1e3:
        says = f" explodes: from {b} back to {a} its norm grows {_fold(ratio)}, ×{shown(each)} per layer."
    elif max(s for s, _ in usable) > 1e3:
        most, where = max(usable)
        says = f" explodes: its norm reaches {shown(most)} (in {where})."
    elif max(s for s, _ in usable) < 1e-8:
        most, where = max(usable)
        says = f" vanishes everywhere: its norm is {shown(most)} at most (in {where})."
    else:
        says = f" reaches every layer: the norms differ by a factor of {shown(factor)} at most."
    return (*L_W, Run("strong", says)), f"L̇_W{says}"


def _fold(ratio: float) -> str:
    return f"{shown(float(f'{ratio:.2g}'))}-fold"


# ----- Boxes -----


class Spread(NamedTuple):
    least: float
    median: float
    most: float


def _spread(g: Array) -> Spread:
    """Of |g|; the least that is not 0."""
    a = np.abs(np.asarray(g, dtype=np.float64)).ravel()
    positive = a[(a > 0) & np.isfinite(a)]
    if not positive.size or not np.isfinite(a).all():
        return Spread(0.0, 0.0, 0.0)
    return Spread(float(positive.min()), float(np.median(positive)), float(positive.max()))


def _at(row: int, form: Form, per: int) -> tuple[float, float]:
    """The centre of a row's box."""
    column, k = divmod(row, per)
    x = GUTTER + column * (GUTTER + form.wide + 8) + form.wide / 2
    return x, TOP + (k + 0.5) * form.step


def _short(path: str) -> str:
    return path.removesuffix(".weight")


def _cut(text: str, room: float, size: float = style.SMALL) -> str:
    """A text cut to the room that it has: the end is what tells layers apart, so the middle goes."""
    if style.width(text, size) <= room:
        return text
    for keep in range(len(text) - 1, 0, -1):
        short = text[: keep // 3] + "…" + text[len(text) - (keep - keep // 3) :]
        if style.width(short, size) <= room:
            return short
    return "…"


def _box(
    key: str,
    row: int,
    layer: Layer,
    flows: Flows,
    names: dict[Tensor, str],
    form: Form,
    per: int,
    scales: tuple[Axis, Axis, Spread],
) -> Node:
    name, g, w = names[layer.weight], flows[layer.weight], flows.value(layer.weight)
    bars, wide, spread = scales
    size = norm(g)
    title = f"{name} = {shape(w)}, norm {number(norm(w), 4)}, ‖L̇_{name}‖ = {number(size, 4)}"
    few = form is FEW  # in many rows, what can be seen is not said again
    uses = f" ×{len(layer.steps)}" if len(layer.steps) > 1 else ""
    story = [layer.activation or "no activation"]
    if few:
        entries = (number(s, 2) for s in (spread.least, spread.most, spread.median))
        story.insert(0, "entries {} to {}, median {}".format(*entries))
    if layer.dead is not None:
        story.append(f"{number(100 * layer.dead)} % dead")

    fluxion: Line = plain(shown(size))
    cells = [Cell(form.name, (Run("name", _cut(_short(name), (form.shape or form.size) - form.name - 8)),))]
    if form.shape is not None:
        about = f"{shape(w)}{uses}" + (f" · {layer.activation}" if layer.activation else "")
        cells.append(Cell(form.shape, plain(_cut(about, form.size - form.shape - 8))))
    cells.append(Cell(form.size, plain(shown(norm(w)))))
    if layer.dead is not None:
        cells.append(Cell(form.dead, plain(f"{100 * layer.dead:.0f} %")))
    half = form.tall / 2
    marks = []
    left, right = form.bars
    if not math.isfinite(size):
        marks.append(Bar(left, -4, right - left, 8))
    elif size > 0:
        marks.append(Bar(left, -4, max(bars(size) * (right - left), 1.5), 8))
    if spread.most > 0:
        left, right = form.spread
        a, m, b = (left + wide(s) * (right - left) for s in spread)
        marks.append(Bar(a, -1, max(b - a, 1.0), 2))
        if spread.median > 0:
            marks.append(Bar(m - 1.5, -min(5, half - 3), 3, 2 * min(5, half - 3)))
    return Node(
        key=key,
        title=title,
        story="; ".join(story),
        kind="layer",
        lines=(*(c.line for c in cells), fluxion),
        flow=Flow("wild", math.inf) if not math.isfinite(size) else flow(g),
        width=form.wide,
        height=form.tall,
        at=_at(row, form, per),
        cells=(*cells, Cell(form.value, fluxion)),
        bars=tuple(marks),
    )


def _root(flows: Flows, name: str, row: int, form: Form, per: int) -> Node:
    value, g = flows.value(flows.root), flows[flows.root]
    what = f" = {shown(float(np.ravel(value)[0]))}" if single(value) else f"\u2002{shape(value)}"
    line: Line = (Run("name", _cut(name, 150)), Run("plain", what))
    one = shown(float(np.ravel(g)[0]) if single(g) else norm(g))
    fluxion: Line = plain(one)
    return Node(
        key="L",
        title=f"{value_title(name, value)}, {fluxion_title(name, g)}",
        story="here the sweep back begins",
        kind="root",
        lines=(line, fluxion),
        flow=flow(g),
        width=form.wide,
        height=form.tall,
        at=_at(row, form, per),
        cells=(Cell(form.name, line), Cell(form.value, fluxion)),
    )


def _edge(tail: str, head: str, name: str, other: str, sent: Array | None) -> Edge:
    if sent is None:
        return Edge(tail, head, f"{name} → {other}: contributes nothing", flow(None), ())
    size = norm(sent)
    amount = f"‖·‖ = {number(size)}" if not single(sent) else number(float(np.ravel(sent)[0]), 4)
    return Edge(tail, head, f"{name} → {other}: contributes {amount}", flow(sent), (plain(shown(size)),))


def _headings(form: Form, columns: int, bars: Axis, wide: Axis, dead: bool) -> tuple[tuple[float, float, Line], ...]:
    """What stands above each column of boxes: the names of the cells, and the decades of both scales."""
    texts: list[tuple[float, float, Line]] = []
    norm_of: Line = (Run("plain", "‖"), *L_W, Run("plain", "‖, log scale"))
    spread: Line = (*L_W, Run("plain", ", spread"))
    for k in range(columns):
        left = GUTTER + k * (GUTTER + form.wide + 8)

        def put(x: float, y: float, line: Line, left: float = left) -> None:
            """From a left edge, as the cells are; the renderer centres."""
            texts.append((left + x + text_width(line, style.SMALL) / 2, y, line))

        put(form.name, 24, (Run("strong", "layer"),))
        put(form.size, 24, plain("‖W‖"))
        if dead:
            put(form.dead, 24, plain("dead"))
        put(8 - GUTTER, 24, (Run("plain", "‖"), Run("dot", "L"), Run("plain", "‖ sent")))
        for line, scale, (low, high) in ((norm_of, bars, form.bars), (spread, wide, form.spread)):
            put(low, 24, line)
            span = scale.high - scale.low
            most = max(1, int((high - low) // 52))
            every = max(1, math.ceil(span / most))
            for decade in range(int(scale.low), int(scale.high) + 1, every):
                x = low + (decade - scale.low) / span * (high - low)
                texts.append((left + x, 42, plain(shown(10.0**decade))))
    return tuple(texts)
