"""`Exact`: mpmath numbers in an object array, answering NumPy's protocols: a rule is read with it to 50 digits.

    >>> x = Exact([0.5, 2.0])
    >>> np.exp(x)[0].number()
    mpf('1.6487212707001281468486507878141635716537761007101479')

Ufuncs and linear algebra are spelled by mpmath. A NumPy function that only moves, adds, multiplies or compares numbers
runs on the object array itself; our own rules run their value (of a fused rule the definition); another NumPy function
runs if it is built from rules. Everything else is a TypeError: what NumPy would compute with a float's π, or by casting
to float, never runs here. Floats that meet an Exact are taken for what they are, a Constant (π, ln 2, …) for what it
means.

`with digits(800): …` works with more of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import mpmath
import numpy as np
from operators import give_operators

from fluxgrad.rules.kinds import Constant, Row, implementations, rules

mp = mpmath.MPContext()  # ours alone: another test's mpmath.mp.dps does not reach us
mp.dps = 50


def digits(n: int) -> AbstractContextManager[Any]:
    """Work with n decimal digits."""
    return mp.workdps(n)  # type: ignore[no-any-return]


CONSTANTS: dict[str, Callable[[], Any]] = {
    "π": lambda: +mp.pi,
    "ln 2": lambda: mp.log(2),
    "ln 10": lambda: mp.log(10),
    "π/180": lambda: mp.pi / 180,
    "180/π": lambda: 180 / mp.pi,
    "√(2/π)": lambda: mp.sqrt(2 / mp.pi),
}
"""What each named Constant of the rules means, by its name."""


def _number(x: Any) -> Any:
    """One number, exactly as it is."""
    if isinstance(x, bool | np.bool_):
        return mp.mpf(int(x))
    if isinstance(x, int | np.integer):
        return mp.mpf(int(x))
    if isinstance(x, float | np.floating):
        return mp.mpf(float(x))
    if isinstance(x, mpmath.mpf | mp.mpf):
        return mp.convert(x)
    raise TypeError(f"Exact holds real numbers; given {x!r} ({type(x).__name__})")


def _each(f: Callable[..., Any], *arrays: Any) -> Any:
    return np.asarray(np.frompyfunc(f, len(arrays), 1)(*arrays), dtype=object)


def _numbers(x: Any) -> Any:
    """The object array of an operand."""
    if isinstance(x, Exact):
        return x.numbers
    if isinstance(x, Constant):
        return np.asarray(CONSTANTS[x.name](), dtype=object)
    return _each(_number, np.asarray(x, dtype=object))


def _argument(x: Any) -> Any:
    """An argument of a function that moves numbers: floats become exact; integers stay, since they may be axes."""
    if isinstance(x, Exact | Constant | float | np.floating):
        return _numbers(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fO":
        return _numbers(x)
    return type(x)(map(_argument, x)) if type(x) in (list, tuple) else x


def _result(y: Any) -> Any:
    """What NumPy made of object arrays, as Exact. A float in it would show that digits were lost on the way."""
    if isinstance(y, list | tuple):
        return type(y)(map(_result, y))
    if isinstance(y, np.ndarray) and y.dtype.kind in "biu":
        return y
    if isinstance(y, np.ndarray) and y.dtype != object:
        raise TypeError(f"an exact computation fell back to {y.dtype}")
    for number in np.asarray(y, dtype=object).flat:
        if not isinstance(number, int | np.integer | mp.mpf):
            raise TypeError(f"an exact computation fell back to {type(number).__name__}: {number!r}")
    return Exact(y)


# ----- Ufuncs, one number at a time -----


def _real(f: Callable[..., Any]) -> Callable[..., Any]:
    """mpmath answers in complex numbers outside of a real domain; we in NaN, as NumPy does."""

    def real(*xs: Any) -> Any:
        y = f(*xs)
        return y if isinstance(y, mp.mpf) else mp.nan if isinstance(y, mp.mpc) else mp.mpf(y)

    return real


def _divide(x: Any, w: Any) -> Any:
    if w == 0:
        return mp.nan if x == 0 or mp.isnan(x) else mp.inf * mp.sign(x)
    return x / w


def _power(x: Any, w: Any) -> Any:
    if x == 0 and w < 0:
        return mp.inf
    return mp.mpf(1) if w == 0 else mp.power(x, w)


def _extreme(better: Callable[[Any, Any], bool], nan_wins: bool) -> Callable[[Any, Any], Any]:
    def choose(x: Any, w: Any) -> Any:
        if mp.isnan(x) or mp.isnan(w):
            return mp.nan if nan_wins else w if mp.isnan(x) else x
        return x if better(x, w) else w

    return choose


def _trunc(x: Any) -> Any:
    return mp.floor(x) if x >= 0 else mp.ceil(x)


def _logaddexp(x: Any, w: Any) -> Any:
    m = max(x, w)
    return m + mp.log1p(mp.exp(min(x, w) - m)) if mp.isfinite(m) else m


NUMBERS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: _divide,
    np.negative: operator.neg,
    np.positive: operator.pos,
    np.conjugate: operator.pos,
    np.absolute: abs,
    np.fabs: abs,
    np.square: lambda x: x * x,
    np.reciprocal: lambda x: _divide(mp.one, x),
    np.power: _power,
    np.float_power: _power,
    np.sqrt: mp.sqrt,
    np.cbrt: lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    np.exp: mp.exp,
    np.exp2: lambda x: mp.power(2, x),
    np.expm1: mp.expm1,
    np.log: mp.log,
    np.log2: lambda x: mp.log(x) / mp.log(2),
    np.log10: lambda x: mp.log(x) / mp.log(10),
    np.log1p: mp.log1p,
    np.logaddexp: _logaddexp,
    np.logaddexp2: lambda x, w: _logaddexp(x * mp.log(2), w * mp.log(2)) / mp.log(2),
    np.sin: mp.sin,
    np.cos: mp.cos,
    np.tan: mp.tan,
    np.arcsin: mp.asin,
    np.arccos: mp.acos,
    np.arctan: mp.atan,
    np.arctan2: mp.atan2,
    np.sinh: mp.sinh,
    np.cosh: mp.cosh,
    np.tanh: mp.tanh,
    np.arcsinh: mp.asinh,
    np.arccosh: mp.acosh,
    np.arctanh: mp.atanh,
    np.degrees: lambda x: x * 180 / mp.pi,
    np.rad2deg: lambda x: x * 180 / mp.pi,
    np.radians: lambda x: x * mp.pi / 180,
    np.deg2rad: lambda x: x * mp.pi / 180,
    np.hypot: mp.hypot,
    np.sign: mp.sign,
    np.floor: mp.floor,
    np.ceil: mp.ceil,
    np.trunc: _trunc,
    np.rint: mp.nint,
    np.floor_divide: lambda x, w: mp.floor(_divide(x, w)),
    np.remainder: lambda x, w: x - w * mp.floor(x / w),
    np.fmod: lambda x, w: x - w * _trunc(x / w),
    np.copysign: lambda x, w: -abs(x) if w < 0 else abs(x),
    np.heaviside: lambda x, w: w if x == 0 else mp.mpf(x > 0),
    np.maximum: _extreme(operator.ge, True),
    np.minimum: _extreme(operator.le, True),
    np.fmax: _extreme(operator.ge, False),
    np.fmin: _extreme(operator.le, False),
}

QUESTIONS: dict[Any, Callable[..., bool]] = {
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.isnan: mp.isnan,
    np.isinf: mp.isinf,
    np.isfinite: mp.isfinite,
    np.isposinf: lambda x: x == mp.inf,
    np.isneginf: lambda x: x == -mp.inf,
    np.signbit: lambda x: x < 0,
    np.logical_and: lambda x, w: x != 0 and w != 0,
    np.logical_or: lambda x, w: x != 0 or w != 0,
    np.logical_not: lambda x: x == 0,
}
"""What gives a plain array of bools."""

# ----- Functions -----

MOVING = frozenset(
    [
        *(
            np.sum,
            np.prod,
            np.cumsum,
            np.max,
            np.min,
            np.amax,
            np.amin,
            np.einsum,
            np.sort,
            np.argsort,
            np.argmax,
            np.argmin,
        ),
        *(
            np.reshape,
            np.transpose,
            np.expand_dims,
            np.squeeze,
            np.broadcast_to,
            np.flip,
            np.roll,
            np.concatenate,
            np.stack,
        ),
        *(
            np.where,
            np.pad,
            np.swapaxes,
            np.moveaxis,
            np.ravel,
            np.take,
            np.take_along_axis,
            np.repeat,
            np.tile,
            np.diagonal,
        ),
        *(np.zeros_like, np.ones_like, np.shape, np.ndim, np.size, np.copy, np.tril, np.triu, np.trace, np.atleast_1d),
    ]
)
"""NumPy functions that only move, add, multiply or compare what is in the object array."""


def _var(x: Exact, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    away = x - _mean(x, axis, True)
    n = np.divide(x.size, max(_mean(x, axis).size, 1))
    return np.sum(away * away, axis=axis, keepdims=keepdims) / (n - ddof)


def _mean(x: Exact, axis: Any = None, keepdims: bool = False) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / (x.size // max(total.size, 1))


def _sinc(x: Exact) -> Exact:
    return Exact(_each(lambda a: mp.sincpi(a), x.numbers))


def _round(x: Exact, decimals: int = 0) -> Exact:
    tens = mp.power(10, decimals)
    return Exact(_each(lambda a: mp.nint(a * tens) / tens, x.numbers))


def _stacked(f: Callable[[Any], Any], a: Exact) -> Any:
    """f of each matrix of a stack."""
    lead = a.shape[:-2]
    matrices = a.numbers.reshape(-1, *a.shape[-2:])
    found = [np.asarray(f(mp.matrix(m.tolist())), dtype=object) for m in matrices]
    return Exact(np.stack(found).reshape(lead + found[0].shape))


def _from_matrix(m: Any) -> Any:
    return np.array([[m[i, j] for j in range(m.cols)] for i in range(m.rows)], dtype=object)


def _inv(a: Exact) -> Any:
    return _stacked(lambda m: _from_matrix(mp.inverse(m)), a)


def _solve(a: Any, b: Any) -> Any:
    y = _inv(Exact(a)) @ (np.expand_dims(b, -1) if np.ndim(b) == 1 else b)
    return np.squeeze(y, -1) if np.ndim(b) == 1 else y


def _pinv(a: Exact) -> Any:
    t = np.swapaxes(a, -1, -2)  # of full rank
    return _inv(t @ a) @ t if a.shape[-2] >= a.shape[-1] else t @ _inv(a @ t)


SPELLED: dict[Any, Callable[..., Any]] = {
    np.mean: _mean,
    np.var: _var,
    np.std: lambda x, **options: np.sqrt(_var(x, **options)),
    np.sinc: _sinc,
    np.round: _round,
    np.clip: lambda x, a, b: np.minimum(np.maximum(x, a), b),
    np.result_type: lambda *xs: np.dtype(float),
    np.linalg.inv: _inv,
    np.linalg.pinv: _pinv,
    np.linalg.det: lambda a: _stacked(mp.det, a),
    np.linalg.slogdet: lambda a: (np.sign(np.linalg.det(a)), np.log(np.abs(np.linalg.det(a)))),
    np.linalg.solve: _solve,
}
"""NumPy functions that compute, in mpmath."""

ON_OBJECTS = {"scatter"}
"""Rows whose value assigns into an array of its own: it holds numbers of any kind."""


class Exact:
    """mpmath numbers in an object array (`numbers`); see above."""

    __slots__ = ("numbers",)

    def __init__(self, values: Any) -> None:
        self.numbers = values.numbers if isinstance(values, Exact) else _numbers(values)

    # ----- What rules may ask -----

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.numbers.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.numbers.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(float)

    def astype(self, dtype: Any) -> Any:
        """Itself for a floating dtype: rounding is what Exact does not do."""
        kind = np.dtype(dtype).kind
        if kind == "b":
            return np.not_equal(self, 0)
        if kind != "f":
            raise TypeError(f"Exact.astype({dtype}): it would lose digits")
        return self

    def __getitem__(self, index: Any) -> Exact:
        return _result(self.numbers[index])  # type: ignore[no-any-return]

    # ----- The way out, by name only -----

    def number(self) -> Any:
        """The one mpf that it holds."""
        return self.numbers.item()

    def float64(self) -> Any:
        """Rounded to float64."""
        return self.numbers.astype(float)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("an Exact does not become floats silently; use .float64()")

    def __bool__(self) -> bool:
        raise TypeError("a rule asked for the truth of an Exact: use np.where")

    def __repr__(self) -> str:
        return f"Exact({self.numbers})"

    # ----- NumPy's protocols -----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise TypeError(f"np.{ufunc.__name__}.{method}({', '.join(kwargs)}) has no exact spelling")
        if ufunc is np.matmul:
            return _result(np.asarray(np.matmul(*map(_numbers, inputs)), dtype=object))
        if ufunc in QUESTIONS:
            return self.__array_function__(ufunc, (), inputs, {})
        if ufunc in NUMBERS:
            return Exact(_each(_real(NUMBERS[ufunc]), *map(_numbers, inputs)))
        raise TypeError(f"np.{ufunc.__name__} has no exact spelling")

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if isinstance(function, Row):
            operands, options = function.bind(args, kwargs)
            if function.name in ON_OBJECTS and rules[function.name] is function:
                assigned = function.value(*map(_numbers, operands), **options)  # a 0-d array is put in as it is
                return _result(_each(lambda v: v.item() if isinstance(v, np.ndarray) else v, assigned))
            return function.value(*map(Exact, operands), **options)
        if function in QUESTIONS:
            return np.asarray(np.frompyfunc(QUESTIONS[function], len(args), 1)(*map(_numbers, args))).astype(bool)
        if function in SPELLED:
            return SPELLED[function](*args, **kwargs)
        if function in MOVING:
            return _result(function(*map(_argument, args), **{k: _argument(v) for k, v in kwargs.items()}))
        rule = implementations.get(function)
        if rule is not None and not isinstance(rule, Row):
            return rule(*args, **kwargs)
        raise TypeError(f"np.{function.__name__} has no exact spelling")

    __hash__ = None  # type: ignore[assignment]


# A Constant has no place in NumPy's own dispatch, so it is made exact first.
give_operators(Exact, lambda ufunc, *operands: ufunc(*map(Exact, operands)))

__all__ = ["CONSTANTS", "Exact", "digits", "mp"]
