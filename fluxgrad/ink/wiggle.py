"""Wiggle it: move one thing by a moment o, and hold what L̇ predicts against what happened.

    L(w + o) − L(w)  ≈  L̇_w · o

The value is computed again in float64, a recorded one by its own rows, in the order in which they ran.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxgrad.ink.element import label
from fluxgrad.ink.printers import can_print, in_ascii
from fluxgrad.sweep import flows, order, value_and_grad
from fluxgrad.tensor import Array, Tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def again(L: Tensor, moved: Tensor, moment: Any) -> Array:
    """L's value in float64 with `moment` added to one tensor of its graph: the rows, run once more from what they saved.

    Choices made while it was recorded (an index, the condition of a `where`) stay as they were.
    """
    values: dict[Tensor, Any] = {}
    for t in reversed(list(order(L))):
        if t is moved:
            values[t] = _precise(t._value) + moment  # of a leaf, what each row saved is asked below
        elif t.row is not None:
            inputs = [
                _precise(x) + moment if p is moved else values.get(p, _precise(x))
                for p, x in zip(t.operands, t.inputs, strict=True)
            ]
            with np.errstate(all="ignore"):
                values[t] = t.row.value(*inputs, **t.options)
    return np.asarray(values[L])


def _precise(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


class Wiggle(NamedTuple):
    """What a wiggle did: the change that L̇ predicts, the one that happened, and their difference."""

    predicted: float
    actual: float
    name: str
    by: Any
    fluxion: float | None
    """L̇ of the one number that moved; None where several did."""

    @property
    def difference(self) -> float:
        return self.actual - self.predicted

    def __str__(self) -> str:
        o = f" = {_g(self.by)}" if np.ndim(self.by) == 0 else ", each by its own"
        if self.fluxion is None:
            moved, prediction = f"every number of {self.name} moves by o{o}", f"Σ L\u0307_{self.name}·o"
        else:
            factor = f"({_g(self.by)})" if self.by < 0 else _g(self.by)
            moved = f"{self.name} moves by o{o}"
            prediction = f"L\u0307_{self.name}·o = {_g(self.fluxion)} · {factor}"
        width = max(len(prediction), len("L moved by") + 1)
        lines = [
            moved,
            f"  predicted   {prediction:<{width}} = {_g(self.predicted)}",
            f"  happened    {'L moved by':<{width - 1}} = {_g(self.actual)}",
            f"  difference  {'':<{width - 1}} = {_g(self.difference, 2)}",
        ]
        text = "\n".join(lines)
        return text if can_print() else in_ascii(re.sub("L\u0307_", "dL/d", text))

    def __repr__(self) -> str:
        return str(self)


def _g(x: float, digits: int = 6) -> str:
    return f"{float(x):.{digits}g}".replace("e-0", "e-").replace("-", "−")


def wiggle(
    L_of: Tensor | Callable[[Any], Any],
    w: Tensor | ArrayLike,
    by: ArrayLike = 1e-3,
    at: int | Sequence[int] | None = None,
) -> Wiggle:
    """Move w by a moment o, and compare how L changes with what L̇_w predicts.

        L(w + o) − L(w)  ≈  L̇_w · o

    `L_of` is a function of an array that gives one number, or a recorded loss L with w in its graph. `by` is o: one
    number, for all of w or for its element `at`, or an array like w, a direction. The difference is the curve's bend: a
    tenth of o leaves a hundredth of it. Touches no `.grad`. Raises ValueError where L is not one number or does not
    depend on w, or where `by` has another shape; IndexError for an element that w does not have.

    >>> import numpy as np, fluxgrad as fg
    >>> from fluxgrad.ink.wiggle import wiggle
    >>> wiggle(lambda x: x * x, 3.0, by=0.001)
    x moves by o = 0.001
      predicted   L̇_x·o = 6 · 0.001 = 0.006
      happened    L moved by        = 0.006001
      difference                    = 1e−6
    """
    name = w.name if isinstance(w, Tensor) and w.name else "w" if isinstance(L_of, Tensor) else _argument(L_of)
    if isinstance(L_of, Tensor):
        if L_of.size != 1:
            raise ValueError(f"wiggle: L must be one number; it has shape {L_of.shape}. Reduce it first (L.sum())")
        record = flows(L_of)
        if not isinstance(w, Tensor) or w not in record:
            raise ValueError(
                f"wiggle: no path leads from L to {name}; w must be a tensor of L's graph that requires grad"
            )
        value, fluxion, leaf, L = record.value(w), record[w], w, L_of
        move: Callable[[Any], Any] = lambda o: again(L, leaf, o)
    else:
        f = L_of
        value = _precise(np.asarray(w.data if isinstance(w, Tensor) else w, None))
        value = value if value.dtype.kind == "f" else value.astype(np.float64)
        _, fluxion = value_and_grad(f)(value)
        move = lambda o: _plain(f(value + o))
    moment, element = _moment(value, by, at)
    o = moment[element] if element is not None else moment
    before, after = (float(np.reshape(move(m), ())) for m in (0 * moment, moment))
    predicted = float(np.sum(np.asarray(fluxion, np.float64) * moment))
    one = None if element is None else float(fluxion[element])
    moved = label(name, element, value.size) if element is not None else name
    return Wiggle(predicted, after - before, moved, by if element is None else float(o), one)


def _plain(x: Any) -> Any:
    return x._value if isinstance(x, Tensor) else x


def _argument(f: Callable[..., Any]) -> str:
    """What a function calls its first argument."""
    code = getattr(f, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else "x"


def _moment(value: Array, by: ArrayLike, at: int | Sequence[int] | None) -> tuple[Array, tuple[int, ...] | None]:
    """The moment as an array of the value's shape, and the element that it moves, where it is one."""
    o = np.asarray(by, np.float64)
    if at is None:
        if o.ndim and o.shape != value.shape:
            raise ValueError(
                f"wiggle: by= has shape {o.shape}, and what it moves {value.shape}: give one number, or as many"
            )
        moment = np.broadcast_to(o, value.shape).copy()
        return moment, (0,) * value.ndim if value.size == 1 else None
    if o.ndim:
        raise ValueError(f"wiggle: at= names one element, so by= must be one number; given shape {o.shape}")
    index = element_of(value, at, "wiggle")
    moment = np.zeros(value.shape)
    moment[index] = o
    return moment, index


def element_of(value: Array, at: Any, who: str) -> tuple[int, ...]:
    """`at` as the indices of one element of an array."""
    given = tuple(map(operator.index, at if isinstance(at, Iterable) else (at,)))
    if len(given) != value.ndim or not all(-n <= i < n for i, n in zip(given, value.shape, strict=True)):
        raise IndexError(f"{who}: at={at!r} is no element of an array of shape {value.shape}")
    return tuple(i % n for i, n in zip(given, value.shape, strict=True))


class Check(NamedTuple):
    """A prediction L̇_w·o held against the world: how L moved, the mean of o one way and the other."""

    moment: float
    predicted: float
    happened: float
    verdict: str
    """"right", "wrong", "kink" (the two sides differ), or "nowhere" (L is not finite beside the point)."""


def check(L: Tensor, t: Tensor, at: tuple[int, ...], value: float, fluxion: float) -> Check:
    """Move one element of t by a moment that suits its size, either way."""
    o = 10.0 ** (max(-4, math.floor(math.log10(abs(value)))) - 3) if value and math.isfinite(value) else 1e-3
    moment = np.zeros(t.shape)

    def change(size: float) -> tuple[float, float]:
        """How L moves for o, and for −o the other way."""
        moment[at] = size
        up, here, down = (float(np.sum(again(L, t, sign * moment))) for sign in (1, 0, -1))
        return up - here, here - down

    (up, down), (half_up, half_down) = change(o), change(o / 2)
    predicted, happened = fluxion * o, (up + down) / 2
    if not math.isfinite(happened):
        return Check(o, predicted, happened, "nowhere")
    noise = 1e-12 * max(1.0, abs(float(np.sum(again(L, t, 0 * moment)))))
    close = max(1e-4, 30 * float(np.finfo(t.dtype).eps)) * max(abs(predicted), abs(happened)) + noise
    bend, half_bend = abs(up - down), abs(half_up - half_down)
    if bend > close and half_bend > bend / 3:  # a curve's bend would be a quarter
        return Check(o, predicted, happened, "kink")
    finer = (4 * (half_up + half_down) - happened) / 3  # the two together cancel what is left of the curve
    return Check(o, predicted, happened, "right" if abs(finer - predicted) <= close else "wrong")


__all__ = ["Check", "Wiggle", "again", "check", "wiggle"]
