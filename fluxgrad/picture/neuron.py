"""The neuron view: a network as people draw it, a circle per unit, and on each weight how L answers it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.scene import Edge, Line, Node, Run, Scene, clean, flow, norm, number, shown, text_width

Array = np.ndarray[Any, Any]


class Layer(NamedTuple):
    """A Linear layer of the record: the step that ran it, and what its units came to after the activation."""

    step: Any
    weight: Any
    out: Any
    activation: str
    blocked: Array  # per unit, the share of the batch that a ReLU blocked


class Column(NamedTuple):
    letter: str
    heading: str
    values: Array  # per unit, the mean over the batch
    fluxions: Array  # per unit, summed over the batch
    blocked: Array


def layers_of(flows: Any, weights: dict[Any, str], prediction: Any) -> list[Layer]:
    """The Linear layers that a record ran one after the other. Raises ValueError where they are no chain."""
    made_by = {s.output: s for s in flows.steps}
    found = [(s, _weight(s, made_by, weights)) for s in reversed(flows.steps)]
    linear = [(s, weight) for s, weight in found if weight is not None]
    if not linear:
        raise ValueError("draw_network found no Linear layer in what the model ran; draw(L) draws any graph")
    ends = [s.parents[0] for s, _ in linear[1:]] + [prediction]
    layers = []
    for (s, weight), end in zip(linear, ends, strict=True):
        n, t = s.output.shape[-1], end
        out, names, blocked = s.output, [], np.zeros(n)
        while t is not s.output:  # back through what runs between two layers
            step = made_by.get(t)
            parents = [p for p in step.parents if p in made_by] if step is not None else []
            if len(parents) != 1:
                raise ValueError(
                    f"draw_network draws Linear layers that follow one another; what {weights[weight]} gives "
                    f"does not go on to the next layer alone. draw(L) draws any graph"
                )
            if t.shape[-1:] == (n,):
                out = t if out is s.output else out
                if step.row.name == "relu":
                    blocked = np.mean(_rows(flows.value(t), n) == 0, axis=0)
            if step.row.name != "add":
                names.append(step.row.name)
            t = parents[0]
        layers.append(Layer(s, weight, out, ", ".join(reversed(names)), blocked))
    return layers


def _weight(step: Any, made_by: dict[Any, Any], weights: dict[Any, str]) -> Any:
    """The parameter that a step multiplies its first operand by, of shape (out, in), or None."""
    if len(step.parents) < 2:
        return None
    weight = step.parents[1]
    turned = made_by.get(weight)
    if turned is not None and turned.row.name == "transpose":  # a Linear without bias is x @ weight.T
        weight = turned.parents[0]
    fits = weight in weights and len(weight.shape) == 2
    return weight if fits and (step.output.shape[-1:], step.inputs[0].shape[-1:]) == (
        weight.shape[:1],
        weight.shape[1:],
    ) else None


def _rows(a: Array, n: int) -> Array:
    return np.asarray(a, dtype=np.float64).reshape(-1, n)


def neuron_scene(flows: Any, parameters: dict[str, Any], prediction: Any, what: str) -> Scene:
    """A model's last run as a scene; `what` tells in words how L came out of the prediction."""
    weights = {t: clean(name) for name, t in parameters.items()}
    layers = layers_of(flows, weights, prediction)
    skipped = max(0, len(layers) - style.LAYERS)
    layers = layers[skipped:]
    columns = _columns(flows, layers, skipped)
    batch = layers[0].step.inputs[0].size // layers[0].step.inputs[0].shape[-1]

    # Which weights: the strongest of all.
    fluxions = [np.asarray(flows[layer.weight], dtype=np.float64) for layer in layers]
    total = sum(g.size for g in fluxions)
    strength = np.concatenate([np.abs(g).ravel() for g in fluxions])
    strength[np.isnan(strength)] = np.inf
    chosen = np.argsort(-strength, kind="stable")[: style.WEIGHTS]
    labelled = set(chosen[:10].tolist()) if total > style.LABELLED else set(range(total))
    starts = np.cumsum([0] + [g.size for g in fluxions])
    drawn: list[tuple[int, int, int, bool]] = []  # layer, to, from, is it labelled?
    for flat in np.sort(chosen).tolist():
        k = int(np.searchsorted(starts, flat, side="right")) - 1
        to, source = divmod(flat - int(starts[k]), fluxions[k].shape[1])
        drawn.append((k, to, source, flat in labelled))

    # Which units: all, or where they are very many, those that a drawn weight touches.
    units = [list(range(len(c.values))) for c in columns]
    for k, column in enumerate(columns):
        if len(column.values) > style.UNITS:
            touched = {source for j, _, source, _ in drawn if j == k} | {to for j, to, _, _ in drawn if j + 1 == k}
            units[k] = sorted(touched)[: style.UNITS]
    places, texts = _places(columns, units, [_heading(layer, weights, g) for layer, g in zip(layers, fluxions, strict=True)])

    nodes = []
    for k, column in enumerate(columns):
        bias = _bias(layers[k - 1], flows, weights) if k else None
        for i in units[k]:
            nodes.append(_unit(k, i, column, places[k, i], batch, bias))
    edges = []
    for k, to, source, label in drawn:
        if (k, source) in places and (k + 1, to) in places:
            w = float(flows.value(layers[k].weight)[to, source])
            g = float(fluxions[k][to, source])
            name = f"{weights[layers[k].weight]}[{to},{source}]"
            title = (
                f"{_unit_name(columns[k], source)} → {_unit_name(columns[k + 1], to)}: "
                f"{name} = {number(w, 6)}, L̇_{name} = {number(g, 6)}"
            )
            text: Line = (Run("plain", shown(g, plus=True)),)
            edges.append(Edge(f"u{k}_{source}", f"u{k + 1}_{to}", title, flow(g), (text,), label))

    notes: list[Line] = []
    value = flows.value(flows.root)
    of_batch = f" for a batch of {batch:,}" if batch > 1 else ""
    notes.append((Run("strong", f"L = {what} = {shown(float(value))}"), Run("plain", f"{of_batch}.")))
    notes.append((Run("dot", "L"), Run("sub", "w"), Run("plain", " = ∂L/∂w, the .grad of w: each line is a weight w.")))
    circle = "its mean value and its fluxion summed over the batch" if batch > 1 else "its value and its fluxion"
    notes.append((Run("plain", f"Each circle is a unit: {circle}; where it is small, shaded by the value."),))
    if len(edges) < total:
        notes.append((Run("strong", f"The strongest {len(edges):,} of {total:,} weights drawn."),))
    story = [f"L = {what} = {number(float(value))} for a batch of {batch:,}."]
    story.append("Layers: " + "; ".join(f"{c.heading}, {len(c.values):,} units" for c in columns) + ".")
    for flat in chosen[:5].tolist():
        k = int(np.searchsorted(starts, flat, side="right")) - 1
        to, source = divmod(flat - int(starts[k]), fluxions[k].shape[1])
        g = float(fluxions[k][to, source])
        way = "rises" if g > 0 else "falls" if g < 0 else "stays"
        story.append(f"L {way} if {weights[layers[k].weight]}[{to},{source}] rises: its L̇ is {number(g)}.")
    dead = [(k, i) for k, c in enumerate(columns) for i in units[k] if c.blocked[i] == 1]
    if dead:
        which = ", ".join(_unit_name(columns[k], i) for k, i in dead[:12]) + (", …" if len(dead) > 12 else "")
        notes.append((Run("plain", f"✕ {len(dead)} dead: a ReLU that gives 0 for the whole batch sends nothing back."),))
        story.append(f"Dead for the whole batch, they send nothing back: {which}.")
    if skipped:
        notes.append((Run("plain", f"The last {len(layers)} layers; {skipped} earlier ones are left out."),))
    return Scene(
        view="neuron",
        title=f"Wiggle-flow of a network: L = {number(float(value))}",
        story=" ".join(story),
        nodes=tuple(nodes),
        edges=tuple(edges),
        notes=tuple(notes),
        texts=texts,
    )


def _columns(flows: Any, layers: list[Layer], skipped: int) -> list[Column]:
    first = layers[0].step
    x, n = first.parents[0], first.inputs[0].shape[-1]
    there = x in set(flows.tensors)
    columns = [
        Column(
            "x" if not skipped else f"h{skipped}",
            "input" if not skipped else f"hidden {skipped}",
            _rows(first.inputs[0], n).mean(axis=0),
            _rows(flows[x], n).sum(axis=0) if there else np.full(n, np.nan),
            np.zeros(n),
        )
    ]
    for k, layer in enumerate(layers, start=skipped + 1):
        n = layer.step.output.shape[-1]
        last = layer is layers[-1]
        heading = ("output" if last else f"hidden {k}") + (f" · {layer.activation}" if layer.activation else "")
        values, fluxions = _rows(flows.value(layer.out), n), _rows(flows[layer.out], n)
        columns.append(Column("ŷ" if last else f"h{k}", heading, values.mean(axis=0), fluxions.sum(axis=0), layer.blocked))
    return columns


def _unit_name(column: Column, i: int) -> str:
    return column.letter if len(column.values) == 1 else f"{column.letter}[{i}]"


def _bias(layer: Layer, flows: Any, weights: dict[Any, str]) -> tuple[str, Array, Array] | None:
    parents = layer.step.parents
    if len(parents) < 3 or parents[2] not in weights:
        return None
    return weights[parents[2]], flows.value(parents[2]), flows[parents[2]]


def _unit(k: int, i: int, column: Column, place: tuple[float, float, float], batch: int, bias: Any) -> Node:
    x, y, r = place
    name, a, g = _unit_name(column, i), float(column.values[i]), float(column.fluxions[i])
    title = f"{name} = {number(a, 6)}, L̇_{name} = {number(g, 6)}"
    if batch > 1:
        title += f" (mean and sum of {batch:,})"
    if bias is not None:
        title += f"; {bias[0]}[{i}] = {number(float(bias[1][i]), 6)}, L̇_{bias[0]}[{i}] = {number(float(bias[2][i]), 6)}"
    dead = column.blocked[i] == 1
    if dead:
        title += "; dead: blocked for the whole batch"
    elif column.blocked[i] > 0 and batch > 1:
        title += f"; blocked for {round(column.blocked[i] * batch):,} of {batch:,}"
    top = float(np.max(np.abs(column.values))) or 1.0
    lines: tuple[Line, ...] = (
        (Run("plain", shown(a)),),
        (Run("dot", "L"), Run("plain", f" = {shown(g)}")),
        (Run("name", name),),
    )
    beside = column.letter == "ŷ" and r < 20
    return Node(f"u{k}_{i}", title, "dead" if dead else "unit", lines, flow(g), 2 * r, 2 * r, (x, y), abs(a) / top, beside)


def _heading(layer: Layer, weights: dict[Any, str], g: Array) -> tuple[Line, Line]:
    return (
        (Run("quiet", weights[layer.weight]),),
        (Run("plain", "‖"), Run("dot", "L"), Run("plain", f"‖ = {shown(norm(g))}")),
    )


ROOMY = 84
"""From this many pixels a unit on, its value is written inside with its name, its L̇ below."""


def _places(
    columns: list[Column], units: list[list[int]], headings: list[tuple[Line, Line]]
) -> tuple[dict[tuple[int, int], tuple[float, float, float]], tuple[tuple[float, float, Line], ...]]:
    """Where each unit stands, how large it is, and what stands above the columns."""
    most = max(map(len, units))
    tall = min(max(most * 18, min(most * ROOMY, 480), 200), 640)
    top, left = 52.0, 50.0
    step = max(90.0, (style.PAGE - 2 * left - 120) / (len(columns) - 1)) if most > 8 else 210.0
    places: dict[tuple[int, int], tuple[float, float, float]] = {}
    texts: list[tuple[float, float, Line]] = []
    for k, column in enumerate(columns):
        gap = min(tall / max(len(units[k]), 1), 110.0)
        r = 27.0 if gap >= ROOMY else min(max(gap * 0.36, 2.5), 14.0)
        x = left + k * step
        for row, i in enumerate(units[k]):
            places[k, i] = (x, top + tall / 2 + (row - (len(units[k]) - 1) / 2) * gap, r)
        texts.append((x, 10, (Run("strong", column.heading),)))
        count = f"{len(column.values):,}" + ("" if len(units[k]) == len(column.values) else f", {len(units[k])} drawn")
        texts.append((x, 26, (Run("quiet", count),)))
        if k:
            for i, line in enumerate(headings[k - 1]):
                if text_width(line, style.SMALL) < step - 20:
                    texts.append((x - step / 2, 10 + 16 * i, line))
    return places, tuple(texts)

