"""The worked derivation: each step of a sweep as symbol = symbols = numbers = result, to be followed with a pencil.

It reads the record of the sweep (`fg.flows`), and its formulas come from calling the rows of that record with Ink. So what
stands here is what ran, and a rule that is swapped at run time reads differently here too. Of an array one element is
worked out, and of what that came from, the element that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fluxgrad.ink.book import Book, Index, Line, Term, split, symbols_of
from fluxgrad.ink.element import REST, label
from fluxgrad.ink.names import L_DOT, names_of
from fluxgrad.ink.operand import Ink, symbol
from fluxgrad.ink.pen import Form, Pen, Row, aligned, in_math, listed, remark
from fluxgrad.ink.printers import can_print, in_ascii
from fluxgrad.ink.wiggle import Check, check, element_of
from fluxgrad.sweep import Flows, Step, flows, push_step
from fluxgrad.tensor import Array, Tensor

_TERMS = 6  # so many contributions are added up in full

# ----- The lines -----


class _Chooser:
    """Which element of each array is worked out: the given one; else the one that something worked out before came from;
    else the largest. It is asked last line first, so that in print each number comes from one above."""

    def __init__(self, book: Book, given: dict[Tensor, Index]) -> None:
        self.book, self.chosen = book, dict(given)

    def __call__(self, t: Tensor, value: Array) -> Index:
        if t not in self.chosen:
            size = np.nan_to_num(np.abs(value.astype(np.float64)), nan=np.inf)
            largest = np.unravel_index(int(size.argmax()), value.shape) if size.size else (0,) * value.ndim
            self.chosen[t] = tuple(map(int, largest))
        return self.chosen[t]

    def met(self, worked: Sequence[Ink]) -> None:
        largest: dict[Tensor, tuple[float, Index]] = {}
        for s in (s for e in worked for s in symbols_of(e)):
            base, at = split(s.args[0])
            t = self.book.flows.get(base)
            if t is not None and at and abs(float(s.sample)) > largest.get(t, (-1.0, ()))[0]:
                largest[t] = abs(float(s.sample)), tuple(map(int, at[1:-1].split(",")))
        self.chosen = {t: at for t, (_, at) in largest.items()} | self.chosen


def _completed(record: Flows, wrt: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in the order in which their fluxions become complete, each when the last that it feeds has sent its
    part; of those that lie on the way to `wrt`, if there are such."""
    within = set(wrt or record.tensors)
    for s in reversed(record.steps):
        if not within.isdisjoint(p for p in s.parents if p is not None):
            within.add(s.output)
    sent = [
        p
        for s in record.steps
        for p, c in zip(s.parents, s.contributions, strict=True)
        if p is not None and c is not None
    ]
    last = {p: k for k, p in enumerate(sent)}
    return [p for k, p in enumerate(sent) if last[p] == k and p in within]


def _cut(found: list[Any], limit: int) -> tuple[list[Any], int, int]:
    """At most so many, from both ends; how many come before the gap, and how many are left out."""
    left = max(0, len(found) - limit)
    first = limit - limit // 3 if left else len(found)
    return found[:first] + found[first + left :], first, left


def _backwards(
    book: Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int, checked: bool
) -> tuple[list[Line], int, int]:
    record, ends = book.record, set(wrt)
    tensors, first, left = _cut(_completed(record, wrt), limit)
    sent: dict[Tensor, list[tuple[Step, int]]] = {t: [] for t in tensors}
    for s in reversed(record.steps):  # so the senders stand in the order in which they were made
        for i, (p, c) in enumerate(zip(s.parents, s.contributions, strict=True)):
            if p in sent and c is not None:
                sent[p].append((s, i))
    choose, lines = _Chooser(book, at), []
    for t in reversed(tensors):
        value, parts = record[t], sent[t]
        index, end = choose(t, value), t in ends if ends else t.row is None
        terms: list[Term] = []
        held = None
        if value.size:
            for s, i in parts if len(parts) <= _TERMS else [*parts[:2], parts[-1]]:
                terms.append(Term(s.output, *book.pulled(s, i, index)))
            if len(parts) > _TERMS:
                others = (s.contributions[i] for s, i in parts[2:-1])
                rest = symbol(REST, sum(c[index] for c in others if c is not None))
                terms.insert(2, Term(None, rest, rest))
            if checked and end:
                held = check(record.root, t, index, float(record.value(t)[index]), float(value[index]))
        choose.met([x.worked for x in terms])
        feeds = tuple(book.names[s.output] for s, _ in parts)
        lines.append(Line(t, book.fluxion(t), value, index, tuple(terms), feeds, end, held))
    return lines[::-1], first, left


def _forwards(book: Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int) -> tuple[list[Line], int, int]:
    """The push: every leaf, or the given ones, moves with velocity 1; of an array with `at`, that element alone."""
    record = book.record
    velocities: dict[Tensor, Any] = {}
    for t in wrt or [t for t in record.tensors if t.row is None]:
        velocities[t] = np.ones(t.shape, t.dtype)
        if t in at:
            velocities[t] *= 0
            velocities[t][at[t]] = 1
    found: list[tuple[Tensor, Step | None, list[Any]]] = [(t, None, []) for t in velocities]
    for s in reversed(record.steps):
        moving = [velocities.get(p) for p in s.output.operands]
        if s.output not in velocities and any(v is not None for v in moving):
            v = push_step(s.output, moving, False)
            if v is not None:
                velocities[s.output] = np.broadcast_to(np.asarray(v, s.output.dtype), s.output.shape)
                found.append((s.output, s, moving))
    found, first, left = _cut(found, limit)
    choose, lines = _Chooser(book, at), []
    for t, step, moving in reversed(found):
        value = velocities[t]
        index = choose(t, value)
        terms: tuple[Term, ...] = ()
        if step is not None and value.size:
            terms = (Term(t, *book.pushed(step, moving, value, index)),)
            choose.met([terms[0].worked])
        lines.append(Line(t, book.velocity(t), value, index, terms))
    return lines[::-1], first, left


# ----- The derivation -----


class Worked(NamedTuple):
    """One step of a derivation, as data; its texts are in the derivation's form."""

    tensor: Tensor
    name: str
    symbol: str
    """What is worked out: `L̇_w`, or of an array one element, `L̇_w[0, 2]`."""
    symbols: str
    numbers: str
    """Empty where they would say what the symbols, or the result, say."""
    result: float
    value: Array
    """All of it: L̇_w (of a push ẇ), of w's shape."""
    at: tuple[int, ...]
    waits_for: tuple[str, ...]
    """What w feeds, if it is more than one: L̇_w is complete when each has sent its part."""
    remark: str
    check: Check | None


@dataclass(frozen=True, eq=False, repr=False)
class Derivation:
    """A worked derivation: print it, look at its `steps`, or let a notebook show it."""

    _book: Book
    _lines: list[Line]
    _first: int
    _left: int
    _mode: str
    _wrt: Sequence[Tensor]
    _at: bool
    form: Form

    @property
    def steps(self) -> list[Worked]:
        """The steps as data, in the order in which they run."""
        pen, out = Pen(self._book, self.form), []
        for line in self._lines:
            if line.value.size:
                feeds = tuple(dict.fromkeys(line.feeds))
                what = pen.symbol(label(line.symbol, line.at, line.value.size))
                symbols, numbers, result = pen.worked(line)
                told = Worked(line.tensor, self._book.names[line.tensor], what, symbols or result, numbers,
                              float(line.value[line.at]), line.value, line.at, feeds if len(feeds) > 1 else (),
                              pen.remark(line), line.check)  # fmt: skip
                out.append(told)
        return out

    def _titles(self, form: Form) -> tuple[str, str]:
        names, root = self._book.names, self._book.record.root
        L, told = names[root], listed([names[w] for w in self._wrt]) if self._wrt else ""
        if self._mode == "push":
            title = f"The push{' from ' * bool(told)}{told}, earliest first (ẋ is the velocity of x)"
        else:
            start = f"L is {L}; " * (L != "L") + f"{L_DOT}_{L} = 1" + " for each element" * (root.size > 1)
            start += f"; {L_DOT}_x is ∂L/∂x, the .grad of x"
            moments = [*{x.check.moment for x in self._lines if x.check is not None}]
            if moments:
                start += f"; o{f' = {moments[0]:.6g}' * (len(moments) == 1)} is a small move of x"
            title = f"The sweep back{' to ' * bool(told)}{told}, latest first ({start})"
        if not self._at and any(x.terms and x.value.size > 1 for x in self._lines):
            title += ".\nOf an array one element is worked out, the largest or one that it came from; at= picks another"
        title += ":"
        if form == "ascii":
            title = title.replace("ẋ", "x'").replace(f"{L_DOT}_x is ∂L/∂x,", "dL/dx is")
            title = in_ascii(title)
        return "The values, as they were made:", title

    def _given(self, form: Form) -> str:
        """Of a root that is a leaf: that there is nothing to work out."""
        pen, root, name = Pen(self._book, form), self._book.record.root, self._book.names[self._book.record.root]
        own = self._book.velocity(root) if self._mode == "push" else self._book.fluxion(root)
        said = pen.words(" was given, not computed: "), pen.words(" for each element" * (root.size > 1))
        return f"{pen.symbol(name)}{said[0]}{pen.symbol(own)} = 1{said[1]}"

    def _blocks(self, form: Form) -> tuple[list[Row | str], list[Row | str]]:
        """The values that the sweep speaks of, and the sweep."""
        pen, record = Pen(self._book, form), self._book.record
        shown = {x.sender for line in self._lines for x in line.terms} | {x.tensor for x in self._lines} | {record.root}
        values: list[Row | str] = [r for s in reversed(record.steps) if s.output in shown for r in pen.made(s)]
        sweep: list[Row | str] = []
        for k, line in enumerate(self._lines):
            if self._left and k == self._first:
                dots = "..." if form == "ascii" else "…"
                sweep.append(f"{dots} {self._left:,} steps are left out {dots}")
            sweep += pen.rows(line)
        return values, sweep

    def text(self, form: Form) -> str:
        """The derivation in one of the three forms."""
        if not self._book.record.steps:
            given = self._given(form)
            return f"\\begin{{aligned}}\n{given}\n\\end{{aligned}}" if form == "latex" else given
        values, sweep = self._blocks(form)
        if form != "latex":
            above, title = self._titles(form)
            return "\n".join([above, *aligned(values), "", title, *aligned(sweep)])
        lines = " \\\\\n".join(in_math(r, " &= ") + remark(r, r" \quad {}") for r in values + sweep)
        return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"

    def __str__(self) -> str:
        return self.text("ascii" if self.form == "notation" and not can_print() else self.form)

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.text('latex')}$"

    def _repr_markdown_(self) -> str:
        if not self._book.record.steps:
            return self._repr_latex_()
        out = []
        for title, rows in zip(self._titles("notation"), self._blocks("latex"), strict=True):
            out += [re.sub(r"([\\`*_{}\[\]<>|$#])", r"\\\1", title), "", "| | |", "|---|---|"]
            out += [f"| $\\displaystyle {in_math(r)}$ | {remark(r, '${}$')} |" for r in rows] + [""]
        return "\n".join(out)


def explain(
    L: Tensor,
    *wrt: Tensor,
    mode: Literal["pull", "push"] = "pull",
    at: int | Sequence[int] | None = None,
    check: bool = False,
    limit: int = 40,
    form: Form = "notation",
) -> Derivation:
    """The worked derivation of L̇_x for every x: each step of the backward sweep as symbol = symbols = numbers = result.

    `explain(L, w)` shows only the paths to w. Of an array one element is worked out: `at` of w (without w: of every array
    that has it), else the largest, and then those that it came from. `check=True` moves each leaf by a small o, and puts
    what happened to L beside what L̇_w·o predicts. `mode="push"` is the forward sweep: w, or every leaf, moves with velocity
    1 (`at`: that element alone). Of more than `limit` steps the first and last are shown. `form` is "notation", "ascii" or
    "latex"; where the terminal cannot print a dot, notation becomes ASCII. Touches no `.grad`.

    Raises ValueError where L depends on nothing that requires grad or no path leads to w, and for an unknown mode or form;
    IndexError for an element that is nowhere.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> print(fg.explain(x * x))
    The values, as they were made:
      L = x² = 3² = 9
    <BLANKLINE>
    The sweep back, latest first (L̇_L = 1; L̇_x is ∂L/∂x, the .grad of x):
      L̇_x = x + x = 3 + 3 = 6   feeds L twice; raise x and L rises
    """
    if not isinstance(L, Tensor) or not all(isinstance(w, Tensor) for w in wrt):
        raise TypeError("explain(L, *wrt): L and what to explain it by are tensors of one graph")
    if mode not in ("pull", "push"):
        raise ValueError(f'explain: mode is "pull" or "push"; given {mode!r}')
    if form not in ("notation", "ascii", "latex"):
        raise ValueError(f'explain: form is "notation", "ascii" or "latex"; given {form!r}')
    if limit < 1:
        raise ValueError(f"explain: limit must be at least 1; given {limit!r}")
    record = flows(L)
    for w in wrt:
        if w not in record:
            raise ValueError(f"explain: no path leads from L to {w!r}; it must be in L's graph and require grad")
    book = Book(record)
    given: dict[Tensor, Index] = {}
    if at is not None:
        for t in wrt or record.tensors:
            try:
                given[t] = element_of(record[t], at, "explain")
            except IndexError:
                if wrt:
                    raise
        if not given:
            raise IndexError(f"explain: at={at!r} is no element of any array here")
    if mode == "push":
        lines, first, left = _forwards(book, wrt, given, limit)
    else:
        lines, first, left = _backwards(book, wrt, given, limit, check)
    return Derivation(book, lines, first, left, mode, wrt, at is not None, form)


__all__ = ["Derivation", "Worked", "explain", "names_of"]
