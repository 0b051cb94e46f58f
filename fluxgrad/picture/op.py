"""The op view: one card per value, one edge per operand, and on each edge what it sends back."""

from __future__ import annotations

import inspect
import unicodedata
from itertools import groupby
from typing import Any

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.scene import (
    Edge,
    Flow,
    Line,
    Node,
    Run,
    Scene,
    card,
    clean,
    flow,
    fluxion_line,
    fluxion_title,
    norm,
    number,
    shape,
    shown,
    single,
    value_title,
)


def names(flows: Any) -> dict[Any, str]:
    """A name for every tensor: its own, L for the root, else x1, x2, … for leaves and v1, v2, … for results."""
    given = {t: clean(t.name) for t in flows.tensors if t.name}
    taken = {*given.values(), "L"}
    counts = {"x": 0, "v": 0}
    out = {}
    for t in flows.tensors:
        name = given.get(t) or ("L" if t is flows.root else "")
        while not name:
            letter = "v" if t.row is not None else "x"
            counts[letter] += 1
            name = f"{letter}{counts[letter]}"
            name = "" if name in taken else name
        out[t] = name
    return out


def expression(row: Any, operands: list[str]) -> str:
    """A row's form with the operands' own names in it: "x·w" of v1 and b is v1·b.

    Which letters stand for the operands is read from the row's own functions; where the form does not show
    them all, it comes out as name(operands).
    """
    operands = [f"({o})" if o.startswith("−") else o for o in operands]
    skip = {"elementwise": 1, "linear": 1, "fused": 2}.get(row.kind, 1)  # (y, …), (L̇_y, …), (L̇_y, y, …)
    words = ["".join(g) for _, g in groupby(row.form, key=_in_word)]
    for f in row.fluxions:
        try:
            letters = list(inspect.signature(f).parameters)[skip : skip + len(operands)]
        except (TypeError, ValueError):
            continue
        if len(letters) == len(operands) and set(letters) <= set(words):
            mine = dict(zip(letters, operands, strict=True))
            return clean("".join(mine.get(w, w) for w in words))
    return clean(f"{row.name}({', '.join(operands)})")


def _in_word(c: str) -> bool:
    return c == "_" or unicodedata.category(c) in ("Ll", "Lu")


def op_scene(flows: Any) -> Scene:
    """The last operations of a record, as a scene."""
    steps = flows.steps[: style.OPERATIONS]
    left_out = len(flows.steps) - len(steps)
    compact = len(steps) > style.COMPACT
    named = names(flows)
    key = {t: f"n{i}" for i, t in enumerate(flows.tensors)}
    made_here = {s.output: s for s in steps}

    nodes: list[Node] = []
    edges: list[Edge] = []
    parts: dict[Any, list[float]] = {}  # the contributions of a number that has only numbers coming in
    partial: set[Any] = set()
    told: list[str] = []
    used: dict[Any, None] = dict.fromkeys([flows.root])
    forms: dict[Any, str] = {}
    constants = 0

    for s in reversed(steps):  # forwards, so that the picture reads and numbers its constants as it was computed
        labels = []
        for parent, given, x in zip(s.parents, s.output.operands, s.inputs, strict=True):
            if parent in key:
                labels.append(named[parent])
                used[parent] = None
            elif single(x):
                labels.append(shown(float(np.ravel(x)[0])))
            else:
                constants += 1
                own = clean(getattr(given, "name", None) or "")
                labels.append(own or f"c{constants}")
        form = forms[s.output] = expression(s.row, labels)
        used[s.output] = None
        y = key[s.output]
        for i, (parent, x, sent) in enumerate(zip(s.parents, s.inputs, s.contributions, strict=True)):
            if parent in key:
                line, words = _contribution(s, i, compact)
                title = f"{named[parent]} → {form}: {words}"
                edges.append(Edge(key[parent], y, title, flow(sent), line))
                if sent is not None:
                    parts.setdefault(parent, []).append(float(np.ravel(sent)[0]) if single(sent) else np.nan)
            else:
                c = f"{y}_{i}"
                nodes.append(_constant(c, labels[i], x))
                edges.append(Edge(c, y, f"{labels[i]} → {form}: a constant, no fluxion", flow(None), ()))

    for s in flows.steps[len(steps) :]:
        partial.update(p for p in s.parents if p in used)
    for t in used:
        nodes.append(_node(t, flows, named[t], key[t], forms.get(t), None if t in partial else parts.get(t), compact,
                           cut=t.row is not None and t not in made_here))  # fmt: skip
    for s in steps[:20]:
        told.append(_told(s, named, key, forms[s.output], flows))
    leaves = [t for t in used if t.row is None and t in key]
    for t in leaves[:12]:
        told.append(_effect(named[t], flows[t]))

    root = named[flows.root]
    order = {k: i for i, k in enumerate(key.values())}
    nodes.sort(key=lambda n: (order[n.key.partition("_")[0]], n.key))
    notes: list[Line] = [
        (Run("plain", "Values run forwards; fluxions flow back along the arrows and add up where they meet."),),
        (Run("dot", "L"), Run("sub", "x"), Run("plain", " is the fluxion of L by x, ∂L/∂x, the .grad of x."),),
    ]
    if root != "L":
        notes.append((Run("plain", "Here L is "), Run("name", root), Run("plain", ".")))
    heading: Line = ()
    if left_out:
        heading = (Run("strong", f"The last {len(steps)} of {len(flows.steps):,} operations"),
                   Run("plain", f"; {left_out:,} earlier ones are left out."))  # fmt: skip
        told.append(f"{left_out:,} earlier operations are left out.")
    return Scene(
        view="op",
        title=f"Wiggle-flow of {root}: {value_title(root, flows.value(flows.root))}",
        story=" ".join(told),
        nodes=tuple(nodes),
        edges=tuple(edges),
        notes=tuple(notes),
        heading=heading,
    )


def _node(
    t: Any, flows: Any, name: str, key: str, form: str | None, parts: list[float] | None, compact: bool, cut: bool
) -> Node:
    value, fluxion = flows.value(t), flows[t]
    title = f"{value_title(name, value)}, {fluxion_title(name, fluxion)}"
    if form is not None:
        title += f"; {t.row.name}: {form}"
    elif cut:
        title += f"; {t.row.name}, made by operations that are left out"
    amount = shown(float(np.ravel(value)[0])) if single(value) else shown(norm(value))
    head: Line = (Run("name", name),)
    if form is not None:
        head += (Run("plain", " = "), Run("name", form))
    if single(value):
        amounts: Line = (Run("plain", f"= {amount}"),)
    else:
        amounts = (Run("plain", "‖"), Run("name", name if len(name) <= 8 else "·"), Run("plain", f"‖ = {amount}"))
    if np.ndim(value):
        amounts += (Run("quiet", f"\u2002{shape(value)}"),)
    if cut:
        amounts += (Run("quiet", "\u2002…"),)
    lines = [head + (Run("plain", " "),) + amounts] if single(value) and (compact or form is None) else [head, amounts]
    short = parts if parts and len(parts) <= 3 and not np.isnan(parts).any() and not compact else None
    lines.append(fluxion_line(name, fluxion, short))
    kind = "root" if t is flows.root else "cut" if cut else "leaf" if form is None else "op"
    w, h = card(tuple(lines))
    return Node(key, title, kind, tuple(lines), flow(fluxion), w, h)


def _constant(key: str, name: str, x: Any) -> Node:
    if single(x):
        line: Line = (Run("quiet", name),)
        title = f"{name}, a constant: no fluxion"
    else:
        line = (Run("quiet", f"{name}\u2002{shape(x)}"),)
        title = f"{value_title(name, x)}, a constant: no fluxion"
    w, _ = card((line,))
    return Node(key, title, "constant", (line,), Flow("none", 0.0), w - style.PAD_X, style.LINE + 2)


def _contribution(step: Any, i: int, compact: bool) -> tuple[tuple[Line, ...], str]:
    """What an edge shows, and its words: the contribution, and for numbers upstream × local."""
    sent, local = step.contributions[i], step.locals[i]
    if sent is None:
        return (), "contributes nothing"
    if not single(sent):
        size = norm(sent)
        rising, falling = int(np.sum(sent > 0)), int(np.sum(sent < 0))
        return (
            ((Run("plain", f"‖·‖ {shown(size)}"),),),
            f"contributes ‖·‖ = {number(size, 6)} ({rising:,} entries +, {falling:,} −)",
        )
    c = float(np.ravel(sent)[0])
    lines: list[Line] = [(Run("plain", shown(c, plus=True)),)]
    if local is not None and single(local) and single(step.fluxion) and not compact:
        up, by = float(np.ravel(step.fluxion)[0]), float(np.ravel(local)[0])
        lines.append((Run("quiet", f"{shown(up)} × {shown(by)}"),))
    return tuple(lines), f"contributes {number(c, 6)}"


def _told(step: Any, named: Any, key: Any, form: str, flows: Any) -> str:
    """One step of the sweep as a sentence."""
    sent = [
        f"{number(float(np.ravel(c)[0])) if single(c) else 'norm ' + number(norm(c))} to {named[p]}"
        for p, c in zip(step.parents, step.contributions, strict=True)
        if p in key and c is not None
    ]
    gives = f"sends {' and '.join(sent)}" if sent else "sends nothing on"
    return f"{named[step.output]} = {form} has {fluxion_title(named[step.output], step.fluxion)} and {gives}."


def _effect(name: str, fluxion: Any) -> str:
    sign = flow(fluxion).sign
    then = {"plus": f": L rises if {name} rises", "minus": f": L falls if {name} rises"}
    zero = f": L does not answer {name}" if sign == "zero" else ""
    return f"{fluxion_title(name, fluxion)}{then.get(sign, zero) if single(fluxion) else zero}."
