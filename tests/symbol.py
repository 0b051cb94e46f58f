"""`Symbol`: the least operand that a rule may be read with. It carries a name and a sample array, writes down what was
done to it, and answers NumPy's protocols and nothing else: it has no truth, no float, no array. What comes of a
comparison is a symbol too.

A rule that works with it can be read by any operand, known or to come. The trace also shows the dtype of every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from operators import give_operators

from fluxgrad.rules.kinds import Constant, Row


class Line(NamedTuple):
    """One line of a trace: name = text, of this dtype."""

    name: str
    text: str
    dtype: np.dtype[Any]


class Trace:
    """What was done to the symbols of one reading, in order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def symbol(self, name: str, sample: Any) -> Symbol:
        return Symbol(name, np.asarray(sample), self)

    def record(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        call = function.value if isinstance(function, Row) else function
        found = call(*_nest(args, _sample), **{k: _nest(v, _sample) for k, v in kwargs.items()})
        name = function.name if isinstance(function, Row) else function.__name__
        said = [_said(x) for x in args] + [f"{k}={_said(v)}" for k, v in kwargs.items()]
        return self._named(found, f"{name}({', '.join(said)})")

    def _named(self, found: Any, text: str) -> Any:
        if isinstance(found, tuple | list) and any(isinstance(x, np.ndarray | np.generic) for x in found):
            return [self._named(x, f"{text}[{k}]") for k, x in enumerate(found)]
        if not isinstance(found, np.ndarray | np.generic):
            return found  # a shape, a dtype
        line = Line(f"t{len(self.lines)}", text, found.dtype)
        self.lines.append(line)
        return Symbol(line.name, np.asarray(found), self)


def _nest(x: Any, f: Any) -> Any:
    return type(x)(_nest(part, f) for part in x) if type(x) in (tuple, list) else f(x)


def _sample(x: Any) -> Any:
    return x._sample if isinstance(x, Symbol) else x.value if isinstance(x, Constant) else x


def _said(x: Any) -> str:
    return x._name if isinstance(x, Symbol) else str(x.shape) if isinstance(x, np.ndarray) else repr(x)


class Symbol:
    """A name, a sample, and the trace that it is written in; see above."""

    __slots__ = ("_name", "_sample", "_trace")

    def __init__(self, name: str, sample: Any, trace: Trace) -> None:
        self._name, self._sample, self._trace = name, sample, trace

    @property
    def shape(self) -> tuple[int, ...]:
        return self._sample.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self._sample.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self._sample.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._sample.dtype  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Any:
        return self._trace._named(self._sample.astype(dtype), f"astype({self._name}, {dtype})")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, Symbol) or (isinstance(index, tuple) and any(isinstance(part, Symbol) for part in index)):
            raise TypeError("indexing by a Symbol")
        return self._trace._named(self._sample[index], f"{self._name}[…]")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            raise TypeError(f"np.{ufunc.__name__}.{method}({', '.join(kwargs)}) of a Symbol")
        return self._trace.record(ufunc, inputs, {})

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if "out" in kwargs:
            raise TypeError(f"{function.__name__}(out=) of a Symbol")
        return self._trace.record(function, args, kwargs)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"a rule looked inside of {self!r}: it has no truth, no length, and is no array")

    __bool__ = __float__ = __int__ = __index__ = __len__ = __array__ = __contains__ = __setitem__ = _refuse

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"a rule walked through {self!r}")

    def __repr__(self) -> str:
        return f"Symbol({self._name})"

    __hash__ = None  # type: ignore[assignment]

    def __invert__(self) -> Any:
        return np.logical_not(self)  # type: ignore[call-overload]


def _record(ufunc: Any, *operands: Any) -> Any:
    trace = next(x._trace for x in operands if isinstance(x, Symbol))
    return trace.record(ufunc, operands, {})


give_operators(Symbol, _record)

__all__ = ["Line", "Symbol", "Trace"]
