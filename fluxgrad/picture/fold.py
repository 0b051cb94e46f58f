"""Which scopes of a record the op view draws as boxes around their operations, and which it folds to one card."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
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

FEW = 6
"""Of so few cards one should not hold all that there is to see."""


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
    beyond: list[Step]  # left out, since they lead only to operands that have no mark
    fans: dict[Tensor, list[int]]  # of a result of many operands, those that have a mark
    folds: list[Fold]  # first opened first
    inside: dict[Tensor, Fold]  # which fold made a tensor
    cards: int
    home: dict[Tensor, Opened]  # in which scope a tensor was made
    names: dict[Opened, str]


def plan(flows: Flows, most: int = style.OPERATIONS, fan: int = style.FAN) -> Plan:
    """The last operations of a record, or, where its scopes help, all of them, folded as little as that allows."""
    home = {t: where for t in flows.tensors if (where := scope.of(t)) is not None}
    names = _named([home[s.output] for s in reversed(flows.steps) if s.output in home])
    folded = _folding(flows.steps, home, most) if len(flows.steps) > most and names else {}
    fans = {
        s.output: strongest([[] if sent is None else [sent] for sent in s.contributions], fan - 1)
        for s in flows.steps
        if len(s.parents) > fan and s.output not in folded
    }

    wanted, passed = {flows.root}, set[Tensor | None]()
    drawn: dict[Tensor | Opened, None] = {}  # latest first
    kept: list[Step] = []
    earlier: list[Step] = []
    beyond: list[Step] = []
    for s in flows.steps:
        card = folded.get(s.output, s.output)
        if s.output in wanted and (card in drawn or len(drawn) < most):
            drawn[card] = None
            kept.append(s)
            wanted.update(
                p for i, p in enumerate(s.parents) if p is not None and i in fans.get(s.output, range(len(s.parents)))
            )
        elif s.output in wanted or s.output in passed:
            earlier.append(s)
            passed.update(s.parents)
        else:
            beyond.append(s)
    folds: dict[Opened, Fold] = {}
    for card in reversed(drawn):
        if isinstance(card, Opened):
            folds[card] = Fold(f"f{len(folds)}", names[card], _path(card, names), card.outer)
    inside = {}
    for s in kept:
        if s.output in folded:
            inside[s.output] = folds[folded[s.output]]
            inside[s.output].steps.append(s)
    _ends(flows, inside)
    single = [s for s in kept if s.output not in inside]
    return Plan(single, earlier, beyond, fans, list(folds.values()), inside, len(drawn), home, names)


def strongest(sent: Iterable[list[Array]], most: int) -> list[int]:
    """Which operands are sent the most, in their order; one may be sent several things, or nothing."""
    sizes = [joined(arrays)[1] if arrays else -1.0 for arrays in sent]
    order = sorted(range(len(sizes)), key=lambda i: -math.inf if math.isnan(sizes[i]) else -sizes[i])
    return sorted(order[:most])


def _folding(steps: list[Step], home: dict[Tensor, Opened], most: int) -> dict[Tensor, Opened]:
    """Which scope each result is folded into: the deepest that leave no more cards than may be, and of those above
    them that are not alike, what can be opened still. One card alone is no picture: it is opened, whatever is in it."""
    folded: dict[Tensor, Opened] = {}
    for depth in range(1000):
        deeper = _at_depth(steps, home, depth)
        if depth and _cards(steps, deeper) > most and not _alone(steps, folded):
            break
        folded = deeper
        if not deeper:
            break
    alike: dict[str, set[Opened]] = {}
    for where in folded.values():
        alike.setdefault(re.sub(r"\d+", "0", where.name), set()).add(where)

    def opening(group: set[Opened]) -> dict[Tensor, Opened | None]:
        return {t: deeper.get(t) if where in group else where for t, where in folded.items()}

    fewest_first = sorted(alike.values(), key=lambda group: _cards(steps, opening(group)))
    for group in fewest_first if len(alike) > 1 else []:
        opened = opening(group)
        if _cards(steps, opened) <= most:
            folded = {t: where for t, where in opened.items() if where is not None}
    alone = Counter(folded.values())
    return {t: where for t, where in folded.items() if alone[where] > 1}  # one operation shows more than its scope


def _cards(steps: list[Step], folded: Mapping[Tensor, Opened | None]) -> int:
    return len({folded.get(s.output) or s.output for s in steps})


def _alone(steps: list[Step], folded: dict[Tensor, Opened]) -> bool:
    """Is there one fold, and little else?"""
    return sum(n > 1 for n in Counter(folded.values()).values()) == 1 and _cards(steps, folded) <= FEW


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


def _ends(flows: Flows, inside: dict[Tensor, Fold]) -> None:
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
