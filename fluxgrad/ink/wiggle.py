"""Wiggle it: move one thing by a moment o, and hold what L̇_w predicts against what happened.

    L(w + o) − L(w)  ≈  L̇_w · o

The value is computed again in float64, a recorded one by its own rows, in the order in which they ran.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fluxgrad.ink.element import label
from fluxgrad.ink.names import L_DOT, word
from fluxgrad.ink.printers import can_print, in_ascii
from fluxgrad.sweep import flows, order, value_and_grad
from fluxgrad.tensor import Array, Tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def again(L: Tensor, moved: Tensor, moment: Any) -> Array:
    """L's value in float64 with `moment` added to one tensor of its graph: the rows, run once more from what they saved.

    Choices made while it was recorded (an index, the condition of a `where`) stay as they were; to round to float32 was none.
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
                values[t] = t.row.value(*inputs, **{k: _unrounded(o) for k, o in t.options.items()})
    return np.asarray(values[L])


def _precise(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _unrounded(option: Any) -> Any:
    return np.dtype(np.float64) if isinstance(option, np.dtype) and option.kind == "f" else option


Verdict = Literal["right", "wrong", "kink", "nowhere"]
""""right", "wrong", "kink" (the two sides differ), or "nowhere" (L is not finite beside the point)."""


class Wiggle(NamedTuple):
    """What a wiggle did: the change that L̇_w predicts, the one that happened, and their difference."""

    predicted: float
    actual: float
    name: str
    by: Any
    fluxion: float | None
    """L̇_w of the one number that moved; None where several did."""
    verdict: Verdict
    root: str = "L"
    noise: float = 0.0
    """What rounding alone may make of the difference."""

    @property
    def difference(self) -> float:
        return self.actual - self.predicted

    def __str__(self) -> str:
        o = f" = {_g(self.by)}" if np.ndim(self.by) == 0 else ", each by its own"
        if self.fluxion is None:
            moved, prediction = f"every number of {self.name} moves by o{o}", f"Σ {L_DOT}_{self.name}·o"
        else:
            factor = f"({_g(self.by)})" if self.by < 0 else _g(self.by)
            moved = f"{self.name} moves by o{o}"
            prediction = f"{L_DOT}_{self.name}·o = {_g(self.fluxion)} · {factor}"
        moved += f"; L is {self.root}" * (self.root != "L")
        width = max(len(prediction), len("L moved by") + 1)
        lines = [
            moved,
            f"  predicted   {prediction:<{width}} = {_g(self.predicted)}",
            f"  happened    {'L moved by':<{width - 1}} = {_g(self.actual)}",
            f"  difference  {'':<{width - 1}} = {_g(0 if self._nothing else self.difference, 2)}   {self._said}",
        ]
        text = "\n".join(lines)
        return text if can_print() else in_ascii(text)

    def __repr__(self) -> str:
        return str(self)

    @property
    def _nothing(self) -> bool:
        return abs(self.difference) <= self.noise

    @property
    def _said(self) -> str:
        if self.verdict == "right":
            return "right" if self._nothing else "right: L bends on the way"
        return {"wrong": "WRONG: a smaller o does not mend it", "kink": "a kink, where its two sides differ"}.get(
            self.verdict, "L is not finite here"
        )


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
    number, for all of w or for its element `at`, or an array like w, a direction. Where L̇_w is right, the difference is how
    L bends on the way: a tenth of o leaves a hundredth of it. The verdict is "right", "wrong", "kink" or "nowhere" (not
    finite); smaller steps both ways tell. Touches no `.grad`. Raises ValueError where L is not one number or does not
    depend on w, or where `by` has another shape; IndexError for an element that w does not have.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.wiggle(lambda x: x * x, 3.0, by=0.001)
    x moves by o = 0.001
      predicted   L̇_x·o = 6 · 0.001 = 0.006
      happened    L moved by        = 0.006001
      difference                    = 1e−6   right: L bends on the way
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
        root, eps = word(L.name or "") or "L", float(np.finfo(w.dtype).eps)
        move: Callable[[Any], Any] = lambda o: again(L, leaf, o)
    else:
        f = L_of
        value = _precise(np.asarray(w.data if isinstance(w, Tensor) else w, None))
        value = value if value.dtype.kind == "f" else value.astype(np.float64)
        _, fluxion = value_and_grad(f)(value)
        root, eps = "L", 0.0
        move = lambda o: _plain(f(value + o))
    moment, element = _moment(value, by, at)
    o = moment[element] if element is not None else moment
    at_rest = np.asarray(move(0 * moment))
    before, after = (float(np.reshape(x, ())) for x in (at_rest, move(moment)))
    slope = np.asarray(fluxion, np.float64)
    predicted = float(np.sum(slope * moment))
    size = float(np.max(np.abs(moment), initial=0))
    step = moment * (_suitable(float(np.max(np.abs(value[moment != 0]), initial=0))) / size if size else 0.0)
    own = float(np.finfo(at_rest.dtype if at_rest.dtype.kind == "f" else np.float64).eps)

    def beside(k: float) -> float:
        try:
            with np.errstate(all="ignore"):
                return float(np.reshape(move(k * step), ()))
        except Exception:  # it takes nothing there
            return math.nan

    eps = max(own, eps)
    doubt = 30 * eps * float(np.sum(np.abs(slope * step)))
    held = _held(beside, float(np.sum(slope * step)), eps, doubt, 8 * own * abs(before))
    noise = 8 * (own * max(abs(before), abs(after)) + eps * float(np.sum(np.abs(slope * moment))))
    one = None if element is None else float(fluxion[element])
    moved = label(name, element, value.size) if element is not None else name
    by = by if element is None else float(o)
    noise = noise if math.isfinite(noise) else 0.0
    return Wiggle(predicted, after - before, moved, by, one, held.verdict, root, noise)


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
    verdict: Verdict


def check(L: Tensor, t: Tensor, at: tuple[int, ...], value: float, fluxion: float) -> Check:
    """Move one element of t by a moment that suits its size, either way."""
    o, moment = _suitable(value), np.zeros(t.shape)
    moment[at] = o
    held = _held(lambda k: float(np.sum(again(L, t, k * moment))), fluxion * o, float(np.finfo(t.dtype).eps))
    return held._replace(moment=o * held.moment)


def _suitable(value: float) -> float:
    """A moment that suits the size of what it moves."""
    return 10.0 ** (max(-4, math.floor(math.log10(abs(value)))) - 3) if value and math.isfinite(value) else 1e-3


def _held(
    moved: Callable[[float], float], predicted: float, eps: float, doubt: float = 0.0, noise: float = 0.0
) -> Check:
    """A prediction held against L moved by a step and by half of it, either way; where that fails, by smaller ones, as
    long as they can be told from rounding, which may add `noise` to L and `doubt` to the prediction."""
    here = moved(0.0)
    noise += 1e-12 * max(1.0, abs(here))
    first = None
    for k in (1.0, 1e-2, 1e-4):
        told = predicted * k
        (up, down), (half_up, half_down) = ((moved(o) - here, here - moved(-o)) for o in (k, k / 2))
        happened, size = (up + down) / 2, max(abs(told), abs((up + down) / 2))
        close = max(1e-4, 30 * eps) * size + doubt * k + noise
        bend, half_bend = abs(up - down), abs(half_up - half_down)
        finer = (4 * (half_up + half_down) - happened) / 3  # the two together cancel what is left of the curve
        verdict: Verdict = "right" if abs(finer - told) <= close else "wrong"
        if verdict == "wrong":  # x·|x| bends at once, and yet what is left falls like o²; a wrong fluxion's like o
            miss, half, eighth = abs(happened - told), (half_up + half_down) / 2, (moved(k / 8) - moved(-k / 8)) / 2
            if abs(half - told / 2) <= miss / 3 and abs(eighth - told / 8) <= miss / 30 + noise:
                verdict = "right"
        if not math.isfinite(happened):
            verdict = "nowhere"
        elif bend > close and half_bend > bend / 3:  # a curve's bend would be a quarter
            verdict = "kink"
        found = Check(k, told, happened, verdict)
        first = first or found
        if verdict == "right" and (k == 1 or size > 1e4 * noise):
            return found
    assert first is not None
    return first


__all__ = ["Check", "Wiggle", "again", "check", "wiggle"]
