"""The neuron view: a network as people draw it, a circle per unit, and on each weight how L answers it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fluxgrad.ink.names import clean, names_of
from fluxgrad.picture import style
from fluxgrad.picture.scene import (
    Edge,
    Line,
    Node,
    Run,
    Scene,
    flow,
    norm,
    number,
    plain,
    shown,
    text_width,
)
from fluxgrad.rules.kinds import Elementwise
from fluxgrad.sweep import Flows, Step
from fluxgrad.tensor import Array, Tensor


class Layer(NamedTuple):
    """A Linear layer of the record: the step that ran it, and what its units came to after the activation."""

    step: Step
    weight: Tensor
    out: Tensor
    activation: str
    blocked: Array  # per unit, the share of the batch that a ReLU blocked


class Column(NamedTuple):
    """The units between two layers, or at an end."""

    letter: str
    heading: str
    activation: str
    values: Array  # per unit, the mean over the batch
    fluxions: Array  # per unit, summed over the batch
    blocked: Array
    bias: tuple[str, Array, Array] | None  # its name, its values and their fluxions

    def name(self, i: int) -> str:
        return self.letter if len(self.values) == 1 else f"{self.letter}[{i}]"


Weight = tuple[int, int, int]
"""Which layer, to which unit, from which unit."""


def neuron_scene(flows: Flows, paths: dict[Tensor, str], prediction: Tensor, what: str, caption: Line = ()) -> Scene:
    """A model's run as a scene. `paths` names its parameters; `what` tells how L came out of the prediction, and
    `caption` is a note below.

    Raises ValueError where the Linear layers do not follow one another.
    """
    names = {t: name for t, name in names_of(flows, clean, paths).items() if t in paths}
    layers = layers_of(flows, names, prediction)
    skipped = max(0, len(layers) - style.LAYERS)
    layers = layers[skipped:]
    columns = _columns(flows, names, layers, skipped)
    fluxions = [np.asarray(flows[layer.weight], dtype=np.float64) for layer in layers]
    total = sum(g.size for g in fluxions)
    x = layers[0].step.inputs[0]
    batch = x.size // x.shape[-1]

    chosen, least = _drawn(fluxions)
    units = [list(range(len(c.values))) for c in columns]
    for k, column in enumerate(columns):
        if len(column.values) > style.UNITS:  # only those that a drawn weight touches
            units[k] = sorted({i for j, _, i in chosen if j == k} | {i for j, i, _ in chosen if j + 1 == k})
    places, texts = _places(columns, units, [(names[la.weight], g) for la, g in zip(layers, fluxions, strict=True)])

    told = _beside(columns[-1], {i: y for (k, i), (_, y, _) in places.items() if k == len(layers)})
    nodes = [
        _unit(k, i, c, places[k, i], batch, k == len(layers) and i in told)
        for k, c in enumerate(columns)
        for i in units[k]
    ]
    edges, spoken = [], {}
    for weight in sorted(chosen):
        k, to, source = weight
        g = float(fluxions[k][to, source])
        name = f"{names[layers[k].weight]}[{to},{source}]"
        w = float(flows.value(layers[k].weight)[to, source])
        title = (
            f"{columns[k].name(source)} → {columns[k + 1].name(to)}: {name} = {number(w, 4)}, L̇_{name} = {number(g, 6)}"
        )
        label = (plain(shown(g, plus=True)),)
        edges.append(Edge(f"u{k}_{source}", f"u{k + 1}_{to}", title, flow(g), label))
        spoken[weight] = f"{name} has L̇ = {number(g)}"

    value = float(flows.value(flows.root).sum())
    dead = [c.name(i) for k, c in enumerate(columns) for i in units[k] if c.blocked[i] == 1]
    notes: list[Line] = [(Run("strong", f"L = {what} = {shown(value)}"), Run("plain", f" for a batch of {batch:,}."))]
    notes.append((Run("dot", "L"), Run("sub", "w"), Run("plain", " = ∂L/∂w, the .grad of w: each line is a weight w.")))
    circle = "mean value, and fluxion summed over the batch" if batch > 1 else "value and fluxion"
    notes.append(plain(f"Each circle is a unit with its {circle}; a small one is shaded by its value."))
    story = [
        f"L = {what} = {number(value)} for a batch of {batch:,}.",
        "Layers: " + "; ".join(f"{c.heading}, {len(c.values):,} units" for c in columns) + ".",
        "The weights that move L most: " + "; ".join(spoken[weight] for weight in chosen[:5]) + ".",
    ]
    if len(edges) < total:
        also = f", at least {least} of each layer" if least else ""
        notes.append((Run("strong", f"The strongest {len(edges):,} of {total:,} weights drawn{also}."),))
    if len(edges) > style.LABELLED or len(told) < len(units[-1]):
        notes.append(plain("Numbers stand where they have room, the strongest first; the others show when pointed at."))
    if dead:
        notes.append(plain(f"✕ marks {len(dead)} dead: a ReLU that is 0 for the whole batch sends nothing back."))
        story.append(f"Dead for the whole batch: {', '.join(dead[:12])}{', …' if len(dead) > 12 else ''}.")
    if skipped:
        notes.append(plain(f"The last {len(layers)} layers; {skipped:,} earlier ones are left out."))
    if caption:
        notes.append(caption)
    return Scene(
        view="neuron",
        title=f"Wiggle-flow of a network: L = {number(value)}",
        story=" ".join(story),
        nodes=tuple(nodes),
        edges=tuple(edges),
        notes=tuple(notes),
        texts=texts,
    )


# What ran


def layers_of(flows: Flows, names: dict[Tensor, str], prediction: Tensor) -> list[Layer]:
    """The Linear layers that a record ran one after the other. Raises ValueError where they are no chain."""
    made_by = {s.output: s for s in flows.steps}
    found = [(s, _weight(s, made_by, names)) for s in reversed(flows.steps)]
    linear = [(s, weight) for s, weight in found if weight is not None]
    if not linear:
        raise ValueError("the neuron view found no Linear layer in this graph; draw(L, view='op') draws any graph")
    ends = [s.parents[0] for s, _ in linear[1:]] + [prediction]
    before = linear[0][0].parents[0]
    while before in made_by:  # its inputs are inputs, and not what a frozen layer made of them
        step = made_by[before]
        if step.row.name in ("affine", "matmul"):
            raise ValueError(
                "the neuron view draws layers that learn, from the first on; this model begins with one that is frozen. "
                "view='layer' draws the layers that learn, view='op' any graph"
            )
        before = next((p for p in step.parents if p in made_by), None)
    layers = []
    for (s, weight), end in zip(linear, ends, strict=True):
        between = _between(s.output, end, made_by)
        if between is None:
            raise ValueError(
                f"the neuron view draws Linear layers that follow one another; what {names[weight]} gives does not "
                f"go on to the next layer alone. view='layer' draws the layers of any graph, view='op' any graph"
            )
        n = s.output.shape[-1]
        between = [b for b in between if b.output.shape[-1:] == (n,) and b.row.name != "add"]
        out = between[-1].output if between else s.output
        relus = [b.output for b in between if b.row.name == "relu"]
        blocked = mean_of(rows_of(flows.value(relus[-1]), n) == 0) if relus else np.zeros(n)
        layers.append(Layer(s, weight, out, ", ".join(b.row.name for b in between), blocked))
    return layers


def _weight(step: Step, made_by: dict[Tensor, Step], names: dict[Tensor, str]) -> Tensor | None:
    """The parameter of shape (out, in) that a step multiplies its first operand by, if it does."""
    weight = step.parents[1] if len(step.parents) > 1 else None
    if weight in made_by and made_by[weight].row.name == "transpose":  # a Linear without bias is x @ weight.T
        weight = made_by[weight].parents[0]
    if weight is None or weight not in names:
        return None
    return weight if weight.shape == (*step.output.shape[-1:], *step.inputs[0].shape[-1:]) else None


def _between(start: Tensor, end: Tensor | None, made_by: dict[Tensor, Step]) -> list[Step] | None:
    """The steps from one tensor to another where each takes only what the one before gave; else None."""
    steps = []
    while end is not start:
        if end not in made_by:
            return None
        steps.append(made_by[end])
        if not (isinstance(steps[-1].row, Elementwise) or "softmax" in steps[-1].row.name):
            return None  # it may mix the units, or be a layer that is frozen
        made = [p for p in steps[-1].parents if p in made_by]
        if len(made) != 1:
            return None
        end = made[0]
    return steps[::-1]


def mean_of(a: Array) -> Array:
    """Over the batch; of an empty one NaN, and no warning."""
    return a.mean(axis=0) if len(a) else np.full(a.shape[1], np.nan)


def rows_of(a: Array, n: int) -> Array:
    return np.asarray(a, dtype=np.float64).reshape(-1, n)


def _columns(flows: Flows, names: dict[Tensor, str], layers: list[Layer], skipped: int) -> list[Column]:
    first = layers[0].step
    x, n = first.parents[0], first.inputs[0].shape[-1]
    fluxions = rows_of(flows[x], n).sum(axis=0) if x is not None else np.full(n, np.nan)
    letter, heading = (f"h{skipped}", f"hidden {skipped}") if skipped else ("x", "input")
    columns = [Column(letter, heading, "", mean_of(rows_of(first.inputs[0], n)), fluxions, np.zeros(n), None)]
    for k, layer in enumerate(layers, start=skipped + 1):
        letter, heading = ("ŷ", "output") if layer is layers[-1] else (f"h{k}", f"hidden {k}")
        values = mean_of(rows_of(flows.value(layer.out), layer.step.output.shape[-1]))
        fluxions = rows_of(flows[layer.out], layer.step.output.shape[-1]).sum(axis=0)
        b = layer.step.parents[2] if len(layer.step.parents) > 2 else None
        bias = (names[b], flows.value(b), flows[b]) if b in names else None
        columns.append(Column(letter, heading, layer.activation, values, fluxions, layer.blocked, bias))
    return columns


def strongest(sizes: list[Array], most: int, some: bool = True) -> list[Weight]:
    """The largest of several layers, with `some` of each at the least; in the order of the layers."""
    least = most // (2 * len(sizes)) if some else 0
    found: list[tuple[float, Weight]] = []
    kept: list[Weight] = []
    for k, g in enumerate(sizes):
        a = np.abs(np.asarray(g, dtype=np.float64))
        flat = np.where(np.isnan(a), np.inf, a).ravel()
        order = np.argsort(-flat, kind="stable")[:most].tolist()
        mine = [(float(flat[i]), (k, *divmod(i, a.shape[1]))) for i in order]
        kept += [w for _, w in mine[:least]]
        found += mine[least:]
    found.sort(key=lambda pair: -pair[0])
    return sorted(kept + [w for _, w in found[: most - len(kept)]])


def _drawn(fluxions: list[Array]) -> tuple[list[Weight], int]:
    """The weights to draw, strongest first; and how many of each layer that is at the least, where it makes a difference."""

    def size(weight: Weight) -> float:
        g = abs(float(fluxions[weight[0]][weight[1:]]))
        return np.inf if np.isnan(g) else g

    chosen = strongest(fluxions, style.WEIGHTS)
    alike = chosen == strongest(fluxions, style.WEIGHTS, some=False)
    return sorted(chosen, key=lambda w: -size(w)), 0 if alike else style.WEIGHTS // (2 * len(fluxions))


# How it looks


def _beside(column: Column, heights: dict[int, float]) -> set[int]:
    """Of the units of the last column, those whose numbers have room beside them, the strongest first."""
    strength = np.nan_to_num(np.abs(column.fluxions), nan=np.inf)
    told: set[int] = set()
    for i in sorted(heights, key=lambda i: -strength[i]):
        if all(abs(heights[i] - heights[j]) >= style.LINE - 4 for j in told):
            told.add(i)
    return told


def _unit(k: int, i: int, column: Column, place: tuple[float, float, float], batch: int, beside: bool) -> Node:
    x, y, r = place
    name, value, fluxion = column.name(i), float(column.values[i]), float(column.fluxions[i])
    title = f"{name} = {number(value, 6)}, L̇_{name} = {number(fluxion, 6)}"
    story = [f"mean and sum of {batch:,}"] if batch > 1 else ["value and fluxion"]
    if column.bias is not None:
        b, values, fluxions = column.bias
        story.append(f"{b}[{i}] = {number(float(values[i]), 6)}, L̇_{b}[{i}] = {number(float(fluxions[i]), 6)}")
    if column.blocked[i] == 1:
        story.append("dead: blocked for the whole batch")
    elif column.blocked[i] > 0:
        story.append(f"blocked for {round(column.blocked[i] * batch):,} of {batch:,}")
    top = float(np.max(np.abs(column.values)))
    return Node(
        key=f"u{k}_{i}",
        title=title,
        story="; ".join(story),
        kind="dead" if column.blocked[i] == 1 else "unit",
        lines=(
            plain(shown(value)),
            (Run("dot", "L"), Run("plain", f" = {shown(fluxion)}")),
            (Run("name", name),),
        ),
        flow=flow(fluxion),
        width=2 * r,
        height=2 * r,
        at=(x, y),
        fill=abs(value) / top if top > 0 else 0.0,
        beside=beside and r < style.ROOMY_RADIUS,
    )


def _places(
    columns: list[Column], units: list[list[int]], weights: list[tuple[str, Array]]
) -> tuple[dict[tuple[int, int], tuple[float, float, float]], tuple[tuple[float, float, Line], ...]]:
    """Where each unit stands and how large it is; and what stands above the columns, and between them."""
    most = max(map(len, units))
    tall = min(max(most * 18, min(most * style.ROOMY, 480), 200), 640)
    top, left = 52.0, 50.0
    roomy = min(tall / most, 110.0) >= style.ROOMY  # circles so large need room between them for the numbers
    step = max(125.0 if roomy else 90.0, (style.PAGE - 2 * left - 120) / len(weights))
    step = min(step, 210.0) if most <= 8 else step
    places: dict[tuple[int, int], tuple[float, float, float]] = {}
    texts: list[tuple[float, float, Line]] = []
    for k, column in enumerate(columns):
        x, n, drawn = left + k * step, len(column.values), len(units[k])
        gap = min(tall / max(drawn, 1), 110.0)
        r = style.ROOMY_RADIUS if gap >= style.ROOMY and drawn == n else min(max(gap * 0.36, 1.5), 14.0)
        for row, i in enumerate(units[k]):
            places[k, i] = (x, top + tall / 2 + (row - (drawn - 1) / 2) * gap, r)
        heading: Line = (Run("strong", column.heading),)
        activated: Line = (Run("strong", f"{column.heading} · {column.activation}"),)
        room = step - (text_width(plain(weights[0][0]), style.SMALL) if step > 150 else 0)
        fits = column.activation and text_width(activated, style.SMALL) < room
        texts.append((x, 10, activated if fits else heading))
        texts.append((x, 26, (Run("quiet", f"{n:,}" + (f", {drawn:,} drawn" if drawn < n else "")),)))
        if k and step > 150:
            name, g = weights[k - 1]
            texts.append((x - step / 2, 10, (Run("quiet", name),)))
            texts.append(
                (
                    x - step / 2,
                    26,
                    (Run("plain", "‖"), Run("dot", "L"), Run("plain", f"‖ = {shown(norm(g))}")),
                )
            )
    return places, tuple(texts)
