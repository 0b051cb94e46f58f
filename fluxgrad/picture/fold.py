"""Which scopes of a record the op view draws as boxes around their operations, and which it folds to one card."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from fluxgrad.ink.names import LENGTH, clean
from fluxgrad.picture import style
from fluxgrad.picture.scene import Flow, flow, norm
from fluxgrad.scope import Opened, scope
from fluxgrad.sweep import Flows, Step
from fluxgrad.tensor import Array, Tensor

DEEPEST = 8
"""So many boxes lie in one another at the most."""


@dataclass(eq=False, slots=True)
class Fold:
    """A scope on one card."""

    key: str
    name: str
    path: str  # the name after those of the scopes around it: no two alike
    home: Opened | None  # the scope around it
    steps: list[Step] = field(default_factory=list)  # latest first
    outputs: list[Tensor] = field(default_factory=list)  # what is used outside
    leaves: list[Tensor] = field(default_factory=list)  # what is used here alone, and not drawn


@dataclass(frozen=True, slots=True)
class Plan:
    """What the op view draws of a record."""

    steps: list[Step]  # one by one, latest first
    earlier: list[Step]  # left out
    folds: list[Fold]  # first opened first
    inside: dict[Tensor, Fold]  # which fold made a tensor
    cards: int
    home: dict[Tensor, Opened]  # in which scope a tensor was made
    names: dict[Opened, str]


def plan(flows: Flows, most: int = style.OPERATIONS) -> Plan:
    """The last operations of a record, or, where its scopes help, all of them, folded as little as that allows."""
    steps = flows.steps
    home = {t: where for t in flows.tensors if (where := scope.of(t)) is not None}
    names = _named([home[s.output] for s in reversed(steps) if s.output in home])
    if len(steps) <= most or not names:
        return Plan(steps[:most], steps[most:], [], {}, len(steps[:most]), home, names)
    folded: dict[Tensor, Opened] = {}
    for depth in range(1000):
        wanted = _at_depth(steps, home, depth)
        cards = len({wanted.get(s.output, s.output) for s in steps})
        if depth and cards > most:
            break
        folded = wanted
        if not wanted:
            break
    alone = Counter(folded.values())
    folded = {t: where for t, where in folded.items() if alone[where] > 1}  # one operation shows more than its scope

    order = list(dict.fromkeys(folded.get(s.output, s.output) for s in steps))  # latest first
    drawn = set(order[:most])
    kept = [s for s in steps if folded.get(s.output, s.output) in drawn]
    earlier = [s for s in steps if folded.get(s.output, s.output) not in drawn]
    folds: dict[Opened, Fold] = {}
    for card in reversed(order[:most]):
        if isinstance(card, Opened):
            folds[card] = Fold(f"f{len(folds)}", names[card], _path(card, names), card.outer)
    inside = {}
    for s in kept:
        if s.output in folded:
            inside[s.output] = folds[folded[s.output]]
            inside[s.output].steps.append(s)
    _ends(flows, inside, earlier)
    single = [s for s in kept if s.output not in inside]
    return Plan(single, earlier, list(folds.values()), inside, len(drawn), home, names)


def _at_depth(steps: list[Step], home: dict[Tensor, Opened], depth: int) -> dict[Tensor, Opened]:
    """Each result's scope at a depth (0 is outermost), where it is in one so deep."""
    at: dict[Opened, Opened | None] = {}
    for where in home.values():
        if where not in at:
            above = around(where)
            at[where] = above[depth] if depth < len(above) else None
    found = ((s.output, at[home[s.output]]) for s in steps if s.output in home)
    return {t: where for t, where in found if where is not None}


def around(where: Opened | None) -> list[Opened]:
    """A scope and those around it, outermost first."""
    found = []
    while where is not None:
        found.append(where)
        where = where.outer
    return found[::-1]


def _named(inner: list[Opened]) -> dict[Opened, str]:
    """What each scope is called; of those with one name in the same place, the second is `name (2)`."""
    names: dict[Opened, str] = {}
    met: Counter[tuple[Opened | None, str]] = Counter()
    for where in dict.fromkeys(inner):
        for one in around(where):
            if one not in names:
                name = clean(one.name) or "scope"
                met[one.outer, name] += 1
                again = met[one.outer, name]
                names[one] = name if again == 1 else f"{name} ({again})"
    return names


def _path(where: Opened, names: dict[Opened, str]) -> str:
    path = "/".join(names[one] for one in around(where))
    return path if len(path) <= LENGTH else "…" + path[1 - LENGTH :]


def _ends(flows: Flows, inside: dict[Tensor, Fold], earlier: list[Step]) -> None:
    """Find what leaves each fold, and which leaves are its alone. A few of those are drawn, many are only counted."""
    users: dict[Tensor, set[Fold | None]] = {}
    for s in flows.steps:
        for p in s.parents:
            if p is not None:
                users.setdefault(p, set()).add(inside.get(s.output))
    for t in flows.tensors:
        used = users.get(t, set())
        if t in inside:
            if t is flows.root or used - {inside[t]}:
                inside[t].outputs.append(t)
        elif t.row is None and len(used) == 1:
            (only,) = used
            if only is not None:
                only.leaves.append(t)
    for f in set(inside.values()):
        if len(f.leaves) <= 2:
            f.leaves = []


def joined(sent: list[Array]) -> tuple[Flow, float]:
    """The flow of several contributions to different tensors, and the norm of all their entries together."""
    if len(sent) == 1:
        return flow(sent[0]), norm(sent[0])
    flows = [flow(a) for a in sent]
    size = norm(np.array([norm(a) for a in sent]))
    signs = {f.sign for f in flows} - {"zero"}
    if not math.isfinite(size):
        return Flow("wild", math.inf), size
    if not signs:
        return Flow("zero", 0.0), 0.0
    return Flow(signs.pop() if len(signs) == 1 else "mixed", size), size
