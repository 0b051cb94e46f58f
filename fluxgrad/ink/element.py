"""One element of an array expression, as an expression of numbers: what one would work out with a pencil.

`(x @ w)[0, 2]` is `x[0, 0]·w[0, 2] + x[0, 1]·w[1, 2]`. Arithmetic goes down to the element of each operand, products and
sums to their terms. What only moves, copies or picks numbers (reshape, transpose, an index, concatenate, …) is asked where
it takes each number from, by having it move some numbers that give their own place away; what only adds them up is asked
which. So no such function is known by name, and a rule of one's own is followed like ours. What is none of this stays a
call, with its number.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from fluxgrad.ink.operand import Ink, Length, number, symbol
from fluxgrad.ink.printers import notation
from fluxgrad.rules.kinds import Constant, Elementwise, rules

SHOWN = 6
"""So many terms of a sum are written out; of a longer one the first two and the last, with REST between."""
PRODUCTS = 4
"""So many of a product of matrices, whose terms are twice as wide."""
REST = "…"
_TRACED = 64  # of how many numbers a sum may be taken apart by asking, one at a time

Index = tuple[int, ...]


def element(expr: Ink, index: int | Sequence[int] = ()) -> Ink:
    """The scalar expression of one element of an array expression; its sample is that element's number.

    A symbol becomes the symbol of its element. A named part stays, by its name. The terms that a long sum leaves out
    are one symbol, `…`, whose sample is their sum. Raises IndexError for an element that the expression does not have.

    >>> import numpy as np
    >>> x, w = symbol("x", np.ones((2, 3))), symbol("w", np.ones((3, 2)))
    >>> element(x @ w, (1, 0))
    x[1, 0]·w[0, 0] + x[1, 1]·w[1, 0] + x[1, 2]·w[2, 0]
    """
    given = tuple(map(operator.index, index if isinstance(index, Iterable) else (index,)))
    shape = expr.sample.shape
    if len(given) != len(shape) or not all(-n <= i < n for i, n in zip(given, shape, strict=True)):
        raise IndexError(f"no element {list(given)} in an expression of shape {shape}")
    found: Ink = _Elements().of(expr, tuple(i % n for i, n in zip(given, shape, strict=True)))
    return found


def summed(expr: Ink) -> Ink:
    """The sum of an expression's elements, of those that are not 0."""
    elements, values = _Elements(), expr.sample.reshape(-1)
    used = np.flatnonzero(values)

    def term(k: int) -> Any:
        return elements.of(expr, tuple(map(int, np.unravel_index(used[k], expr.sample.shape))))

    found: Ink = elements.total(values[used], term)
    return found


def label(name: str, index: Index, size: int) -> str:
    """What an element is called: `w[0, 2]`; the only one of an array as the array itself."""
    return f"{name}[{', '.join(map(str, index))}]" if index and size > 1 else name


class _Elements:
    """The elements of one expression that were met so far: what is used twice is worked out once."""

    def __init__(self) -> None:
        self._met: dict[tuple[int, Index], tuple[Ink, Ink]] = {}
        self._lengths: dict[str, int] = {}

    def of(self, e: Any, index: Index) -> Any:
        """The element of an operand; the index may be that of a larger array, to which the operand was stretched."""
        if isinstance(e, Length):
            return self._length(e)
        if not isinstance(e, Ink):
            return number(e if isinstance(e, Constant) else np.asarray(e)[_fit(index, np.shape(e))].item())
        index = _fit(index, e.sample.shape)
        if (id(e), index) not in self._met:
            self._met[id(e), index] = e, self._worked(e, index)  # e stays alive, so that its id stays its own
        return self._met[id(e), index][1]

    def _worked(self, e: Ink, index: Index) -> Any:
        sample = e.sample[index]
        if e.op == "symbol":
            return symbol(label(e.args[0], index, e.sample.size), sample)
        if e.op == "number":
            return self._length(e.args[0]) if isinstance(e.args[0], Length) else Ink("number", e.args, sample)
        if e.op == "part":
            inside = self.of(e.args[0], index)
            return Ink("part", (inside,), sample, {"name": label(e.options["name"], index, e.sample.size)})
        if e.op == "where" and len(e.args) == 3:
            condition, a, b = e.args
            taken = condition.sample if isinstance(condition, Ink) else np.asarray(condition)
            return self.of(a if taken[_fit(index, taken.shape)] else b, index)
        if _is_elementwise(e) or e.op == "astype":
            operands = [self.of(x, index) if _is_operand(x) else x for x in e.args]
            return Ink(e.op, operands, sample, e.options)
        if e.op in ("sum", "mean"):
            return self._sum(e, index)
        if e.op in ("matmul", "dot") and all(1 <= np.ndim(_sample(x)) <= 2 or e.op == "matmul" for x in e.args[:2]):
            return self._product(e, index)
        traced = self._traced(e, index)
        if traced is not None:
            return traced
        return Ink("getitem", (e,), sample, {"index": index}) if index else e

    def _length(self, n: Length) -> Ink:
        """A length by its name, n or len(x); one that has no short name, or another's, by its number."""
        name = notation(number(n))
        if not re.fullmatch(r"\w+|len\(\w+\)", name) or self._lengths.setdefault(name, int(n)) != n:
            return symbol(str(int(n)), int(n)) if n != 1 else number(1)
        return symbol(name, int(n))

    def total(self, values: Any, term: Callable[[int], Any], shown: int = SHOWN) -> Any:
        """A sum of terms, of which these are the values."""
        values = np.asarray(values)
        n = values.size
        if n == 0:
            return number(0)
        if n <= shown:
            return reduce(operator.add, map(term, range(n)))
        return term(0) + term(1) + symbol(REST, values[2:-1].sum()) + term(n - 1)

    def _sum(self, e: Ink, index: Index) -> Any:
        x, axis, keepdims = _bound(e)
        ndim = x.sample.ndim
        axes = tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)
        kept = iter([i for k, i in enumerate(index) if k not in axes] if keepdims else index)
        start = [0 if k in axes else next(kept) for k in range(ndim)]
        here = tuple(slice(None) if k in axes else i for k, i in enumerate(start))
        lengths = [x.sample.shape[a] for a in axes]

        def term(k: int) -> Any:
            at = dict(zip(axes, map(int, np.unravel_index(k, lengths)) if lengths else (), strict=True))
            return self.of(x, tuple(at.get(a, i) for a, i in enumerate(start)))

        total = self.total(x.sample[here].reshape(-1), term)
        if e.op == "sum":
            return total
        count = reduce(operator.mul, (x.shape[a] for a in axes), 1)
        return total / (self._length(count) if isinstance(count, Length) else number(count))

    def _product(self, e: Ink, index: Index) -> Any:
        x, w = e.args[:2]
        xs, ws = _sample(x), _sample(w)
        batch = list(index)
        column = [batch.pop()] if ws.ndim > 1 else []
        row = [batch.pop()] if xs.ndim > 1 else []
        left, right = _fit(tuple(batch), xs.shape[:-2]), _fit(tuple(batch), ws.shape[:-2])
        values = xs[(*left, *row)] * ws[(*right, slice(None), *column)]
        return self.total(values, lambda k: self.of(x, (*left, *row, k)) * self.of(w, (*right, k, *column)), PRODUCTS)

    def _traced(self, e: Ink, index: Index) -> Any:
        """The element of a function that only moves numbers, or adds some up, found out by asking it."""
        function, operands = _function(e), _operands(e)
        floats = [x for x in operands if _sample(x).dtype.kind == "f"] or operands
        if not floats:
            return number(e.sample[index].item())  # it is made of numbers alone
        if function is None:
            return None
        sizes = [_sample(x).size for x in floats]
        ends = [0, *itertools.accumulate(sizes)]

        def ask(labels: Any) -> Any:
            given = {
                id(x): labels[a:b].reshape(_sample(x).shape) for x, a, b in zip(floats, ends, ends[1:], strict=False)
            }
            return np.asarray(_called(function, e, given))[index]

        def place(k: int) -> Any:
            i = int(np.searchsorted(ends, k, "right")) - 1
            at = np.unravel_index(k - ends[i], _sample(floats[i]).shape)
            return self.of(floats[i], tuple(map(int, at)))

        try:
            places = np.random.default_rng(0).standard_normal(ends[-1])
            rounds = [places, np.roll(places, 1), -places]
            answers = [ask(labels) for labels in rounds]
            found = np.flatnonzero(places == answers[0])
            if found.size == 1 and all(labels[found[0]] == a for labels, a in zip(rounds, answers, strict=True)):
                return place(int(found[0]))
            if len(set(map(float, answers))) == 1:
                return number(e.sample[index].item())  # it stands still whatever they are
            if places.size > _TRACED or ask(0 * places) != 0:
                return None
            counts = np.array([ask(one) for one in np.eye(places.size)])
            if not np.isin(counts, (-1, 0, 1)).all() or not np.isclose(counts @ places, answers[0], rtol=1e-9, atol=0):
                return None
            used = np.flatnonzero(counts)
            values = counts[used] * np.concatenate([_sample(x).reshape(-1) for x in floats])[used]
            return self.total(values, lambda k: place(int(used[k])) if counts[used[k]] > 0 else -place(int(used[k])))
        except (TypeError, ValueError, IndexError, ArithmeticError, np.linalg.LinAlgError):
            return None


def _fit(index: Index, shape: tuple[int, ...]) -> Index:
    """The element of an operand of this shape that broadcasting takes to `index`."""
    return tuple(0 if n == 1 else i for i, n in zip(index[len(index) - len(shape) :], shape, strict=True))


def _sample(x: Any) -> Any:
    return x.sample if isinstance(x, Ink) else np.asarray(x.value if isinstance(x, Constant) else x)


def _is_operand(x: Any) -> bool:
    return isinstance(x, Ink | np.ndarray | np.generic | int | float | Constant)


def _is_elementwise(e: Ink) -> bool:
    function = getattr(np, e.op, None)
    if isinstance(function, np.ufunc):
        return function.signature is None and e.op not in ("matmul",)
    return isinstance(rules.get(e.op), Elementwise)


def _operands(e: Ink) -> list[Any]:
    """The arrays that a function was given, in lists too (as concatenate takes them)."""
    nests = [x if type(x) in (tuple, list) else [x] for x in (*e.args, *e.options.values())]
    return [x for nest in nests for x in nest if isinstance(x, Ink) and x.op != "number"]


def _called(function: Callable[..., Any], e: Ink, given: dict[int, Any]) -> Any:
    def plain(x: Any) -> Any:
        if type(x) in (tuple, list):
            return type(x)(map(plain, x))
        if isinstance(x, slice):
            return slice(plain(x.start), plain(x.stop), plain(x.step))
        if isinstance(x, Ink):
            return given.get(id(x), x.sample)
        return int(x) if isinstance(x, Length) else x.value if isinstance(x, Constant) else x

    with np.errstate(all="ignore"):
        return function(*map(plain, e.args), **{k: plain(v) for k, v in e.options.items()})


def _function(e: Ink) -> Callable[..., Any] | None:
    """The function that a node is a call of: whichever of its name gives the node's sample again."""
    row = rules.get(e.op)
    for function in (getattr(np, e.op, None), getattr(np.linalg, e.op, None), row and row.value):
        try:
            if callable(function) and np.array_equal(_called(function, e, {}), e.sample, equal_nan=True):
                return function
        except (TypeError, ValueError, IndexError, ArithmeticError, np.linalg.LinAlgError):
            continue
    return None


def _bound(e: Ink) -> tuple[Ink, Any, bool]:
    """What a sum is taken of, over which axes, and whether these stay."""
    x, *rest = e.args
    plain = [r.args[0] if isinstance(r, Ink) else r for r in rest]
    axis = plain[0] if plain else e.options.get("axis")
    x = x if isinstance(x, Ink) else number(x)
    return x, axis, bool(e.options.get("keepdims", False))


__all__ = ["REST", "SHOWN", "element", "label", "summed"]
