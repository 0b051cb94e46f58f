"""Ink: an operand that is written down instead of computed.

A rule called with Ink gives an expression: a tree of what the rule would do. It answers NumPy's protocols, so it knows
no row by name: what NumPy, or a row, is called with becomes a node of that name. It carries a sample array, since rules
ask for shapes; its lengths are written down too, so that what is printed holds at any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fluxgrad.rules.kinds import Constant, Row


class Ink:
    """An expression: `op` is "symbol" (args: its name), "number" (args: its value), or the name of a function of `args`.

    `args` are Ink, or plain where a function takes what is no operand (an axis, an index, a shape); `options` are its
    keyword arguments. `sample` is the value that the expression has for the samples of its symbols.

    >>> import numpy as np
    >>> x = symbol("x", 2.0)
    >>> 1 - x * x
    1 − x²
    """

    __slots__ = ("args", "op", "options", "sample")

    def __init__(self, op: str, args: Sequence[Any], sample: Any, options: dict[str, Any] | None = None) -> None:
        self.op = op
        self.args = tuple(args)
        self.options = options or {}
        self.sample = np.asarray(sample)

    # ----- What rules ask for -----

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(Length(n, self, k) for k, n in enumerate(self.sample.shape))

    @property
    def ndim(self) -> int:
        return self.sample.ndim

    @property
    def size(self) -> int:
        return Length(self.sample.size, self)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.sample.dtype

    @property
    def data(self) -> Ink:
        return self

    @property
    def T(self) -> Any:
        return written("transpose", np.transpose, (self,), {})

    def astype(self, dtype: Any) -> Ink:
        dtype = np.dtype(dtype)
        if dtype == self.sample.dtype:
            return self
        return Ink("astype", (self,), self.sample.astype(dtype), {"dtype": dtype})

    def __part__(self, name: str) -> Ink:
        return Ink("part", (self,), self.sample, {"name": name})

    def __getattr__(self, name: str) -> Any:
        """A method that arrays have too, x.sum(): NumPy's function of that name, of x."""
        function = getattr(np, name, None)
        if name.startswith("_") or not callable(function) or not hasattr(np.ndarray, name):
            raise AttributeError(f"an expression has no {name!r}")

        def method(*args: Any, **options: Any) -> Any:
            together = name in ("reshape", "transpose") and len(args) > 1  # x.reshape(2, 3)
            return function(self, args, **options) if together else function(self, *args, **options)

        return method

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, index: Any) -> Ink:
        return Ink("getitem", (self,), self.sample[_nest(index, _sample)], {"index": index})

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth: write np.where(condition, a, b), not if")

    def __float__(self) -> float:
        raise TypeError("an expression is no number")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("an expression is no array: a rule must not look inside its operands")

    def __repr__(self) -> str:
        from fluxgrad.ink.printers import notation

        return notation(self)

    # ----- NumPy's protocols -----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{ufunc.__name__} with {method if method != '__call__' else list(kwargs)} cannot be written down"
            )
        return written(ufunc.__name__, ufunc, inputs, {})

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if function is np.result_type:
            return np.result_type(*map(_sample, args))
        if isinstance(function, Row):
            return written(function.name, function.value, args, kwargs)
        if function in (np.shape, np.ndim, np.size):
            return getattr(args[0], function.__name__)
        if function in (np.zeros_like, np.ones_like) and not kwargs:
            return Ink("number", (0 if function is np.zeros_like else 1,), function(args[0].sample))
        return written(function.__name__, function, args, kwargs)


def symbol(name: str, sample: Any) -> Ink:
    """A named operand."""
    return Ink("symbol", (name,), np.asarray(sample))


def number(value: Any) -> Ink:
    """A number, or a named constant, in an expression."""
    if isinstance(value, np.generic | np.ndarray):
        return Ink("number", (value.item(),), value)
    return Ink("number", (value,), value.value if isinstance(value, Constant) else value)


def written(name: str, function: Callable[..., Any], args: Sequence[Any], options: dict[str, Any]) -> Any:
    """The node of a function that was called: its operands as Ink, what it gave for the samples as its own."""
    with np.errstate(all="ignore"):
        found = function(*_nest(args, _sample), **{k: _nest(v, _sample) for k, v in options.items()})
    operands = tuple(
        number(x)
        if (isinstance(x, int | float | Constant | np.generic) and not isinstance(x, Length))
        or (isinstance(x, np.ndarray) and not x.ndim)
        else x
        for x in args
    )
    if isinstance(found, tuple | list):
        whole = Ink(name, operands, np.zeros(()), options)
        return [Ink("getitem", (whole,), part, {"index": k}) for k, part in enumerate(found)]
    return Ink(name, operands, found, options)


def _nest(x: Any, f: Callable[[Any], Any]) -> Any:
    if isinstance(x, slice):
        return slice(_nest(x.start, f), _nest(x.stop, f), _nest(x.step, f))
    return type(x)(_nest(part, f) for part in x) if type(x) in (tuple, list) else f(x)


def _sample(x: Any) -> Any:
    return x.sample if isinstance(x, Ink) else x.value if isinstance(x, Constant) else x


class Length(int):
    """A length that remembers where it comes from: an int to compute with, `x.shape[0]` on paper."""

    of: Ink | None
    axis: int | None
    made: tuple[str, Any, Any] | None

    def __new__(cls, n: int, of: Ink | None = None, axis: int | None = None, made: Any = None) -> Length:
        self = super().__new__(cls, n)
        self.of, self.axis, self.made = of, axis, made
        return self

    def _with(self, sign: str, a: Any, b: Any, n: int) -> Length:
        return Length(n, made=(sign, a, b))

    def __made__(self, function: Callable[..., Any], lengths: Sequence[int], options: dict[str, Any]) -> Ink:
        """An array that a rule makes for a length, np.eye(n), as it was made."""
        return Ink(function.__name__, lengths, function(*map(int, lengths), **options), options)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 0) else self._with("+", self, other, int(self) + int(other))

    def __radd__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 0) else self._with("+", other, self, int(other) + int(self))

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 0) else self._with("-", self, other, int(self) - int(other))

    def __rsub__(self, other: Any) -> Any:
        return self._with("-", other, self, int(other) - int(self)) if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 1) else self._with("*", self, other, int(self) * int(other))

    def __rmul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 1) else self._with("*", other, self, int(other) * int(self))

    def __floordiv__(self, other: Any) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        return self if _is_plain(other, 1) else self._with("//", self, other, int(self) // int(other))

    def __hash__(self) -> int:
        return hash(int(self))


def _is_plain(n: int, value: int) -> bool:
    return not isinstance(n, Length) and n == value


def _binary(ufunc: np.ufunc) -> tuple[Any, Any]:
    return lambda self, other: ufunc(self, _known(other)), lambda self, other: ufunc(_known(other), self)


def _known(x: Any) -> Any:
    return number(x) if isinstance(x, Constant | np.generic) else x


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "matmul": np.matmul, "and": np.logical_and, "or": np.logical_or,
}.items():  # fmt: skip
    _forward, _reflected = _binary(_ufunc)
    setattr(Ink, f"__{_name}__", _forward)
    setattr(Ink, f"__r{_name}__", _reflected)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _forward, _ = _binary({"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
                           "ge": np.greater_equal}[_name])  # fmt: skip
    setattr(Ink, f"__{_name}__", _forward)
for _name, _ufunc in {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.logical_not}.items():
    setattr(Ink, f"__{_name}__", lambda self, _ufunc=_ufunc: _ufunc(self))
del _name, _ufunc, _forward, _reflected
