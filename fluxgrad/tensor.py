"""Tensor: a value that remembers how it was made.

A tensor is a node of the graph: its value (an ndarray), the row that made it, and the operands that the row was
given, in position. A leaf has no row. It answers NumPy's protocols, so ``np.exp(t)``, ``t @ w`` and ``np.sum(t, axis=0)``
look up the row of that function and record it.

Saved arrays never change. What a graph has saved is never written to: a leaf's array becomes read-only when it is
recorded, and asking for ``w.data`` afterwards hands out a copy to which w is rebound; a plain array is copied; where
somebody else may hold a leaf's array (its reference count shows that), a copy is saved.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from sys import getrefcount
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fluxgrad.rules import elementwise as _el
from fluxgrad.rules import linear as _li
from fluxgrad.rules.kinds import Constant, Fused, Row, implementations

Array = NDArray[Any]


class _Recording(threading.local):
    """Whether operations are recorded: a state of the thread, so that one thread's no_grad hides nothing in another."""

    on = True


recording = _Recording()
_stamp = itertools.count().__next__
_MANY = object()  # marks a node of more than two operands: they are a tuple in the first slot
_ndarray = np.ndarray
_asarray = np.asarray

_HINT = (
    "{what} needs plain numbers, and this tensor requires grad: the result would be cut off from the graph. "
    "Use t.data (or t.item() for one number) if no fluxion shall flow, np.stack([...]) to join tensors, "
    "and NumPy's functions (np.exp(t), not math.exp(t)) to compute with them"
)


class Tensor:
    """An array that remembers how it was made, so that fluxions can flow back through it.

    Tensor(data, requires_grad=False, name=None, dtype=None) copies `data`. Real numbers only; integers never require grad.
    Raises TypeError for complex or object data, or for integers that should require grad.

    >>> import numpy as np, fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> L = x * x
    >>> L.backward()
    >>> x.grad
    array(6.)
    """

    __slots__ = ("_a", "_b", "_data", "_extra", "_grad", "_requires", "index", "name", "row")

    _a: Any
    _b: Any
    _data: Array
    _extra: tuple[dict[str, Any], Any, tuple[Any, ...] | None] | None
    _grad: Array | None
    _requires: bool
    index: int
    name: str | None
    row: Row | None

    def __init__(
        self, data: Any, requires_grad: bool = False, name: str | None = None, dtype: DTypeLike | None = None
    ) -> None:
        if isinstance(data, Tensor):
            raise TypeError(
                "Tensor(t) of a tensor: use t.detach() for its numbers alone, or t itself to let fluxions through"
            )
        array = np.array(data, dtype=dtype)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds real numbers; given {_kind_of(array)} (dtype {array.dtype})")
        self._data = array
        self.row = self._a = self._b = self._extra = self._grad = None
        self._requires = False
        self.name = name
        self.index = _stamp()
        if requires_grad:
            self.requires_grad = True

    # ----- How it was made -----

    @property
    def operands(self) -> tuple[Any, ...]:
        """What the row was given, in position: Tensors, and arrays for what was plain. A leaf has none."""
        if self._b is _MANY:
            return self._a  # type: ignore[no-any-return]
        if self._b is None:
            return () if self.row is None else (self._a,)
        return (self._a, self._b)

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The operands' values as they were when the operation was recorded."""
        kept = self._extra and self._extra[2]
        values = tuple(p._data if type(p) is Tensor else p for p in self.operands)
        if kept:
            return tuple(v if k is None else k for k, v in zip(kept, values, strict=True))
        return values

    @property
    def options(self) -> dict[str, Any]:
        """What the row was given besides its operands (axis=, an index, …)."""
        return self._extra[0] if self._extra else {}

    # ----- The numbers -----

    @property
    def data(self) -> Array:
        """The value. A leaf's is writable and settable, and what a graph has saved stays as it was; that of an
        operation's result is read-only."""
        if self.row is not None:
            self._data.flags.writeable = False
        elif self._data.base is not None or not self._data.flags.writeable:
            # An optimiser's buffer holds it, or a graph saved it. Alone with it, we may simply have it back.
            if self._data.base is None and _holders(self) == _ALONE:
                self._data.flags.writeable = True
            else:
                self._data = self._data.copy("K")
        return self._data

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if self.row is not None:
            raise TypeError(
                f"the value of {self._told()} is the result of {self.row.name} and is saved by its graph; "
                f"only a leaf's data can be set (t.detach() makes a leaf)"
            )
        array = _asarray(_plain(value, "t.data = …"), self._data.dtype)
        if array.shape != self._data.shape:
            raise ValueError(f"data of shape {array.shape} set on {self._told()} of shape {self._data.shape}")
        if array.base is not None or not array.flags.writeable:
            array = array.copy("K")
        self._data = array

    @property
    def grad(self) -> Array | None:
        """L̇ of this leaf, summed over the sweeps since it was last None: ∂L/∂t, an ndarray of its shape and dtype."""
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is None:
            self._grad = None
            return
        array = _asarray(_plain(value, "t.grad = …"), self._data.dtype)
        if array.shape != self._data.shape:
            raise ValueError(f"grad of shape {array.shape} set on {self._told()} of shape {self._data.shape}")
        self._grad = array

    fluxion = grad

    @property
    def requires_grad(self) -> bool:
        """Whether fluxions flow to this tensor."""
        return self._requires

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.row is not None:
            if not value:
                raise TypeError(f"{self._told()} is the result of {self.row.name}; use t.detach() to cut it off from its graph")
            return
        if value and self._data.dtype.kind != "f":
            raise TypeError(
                f"only real floating numbers can require grad: {self._told()} has dtype {self._data.dtype}. "
                f"Give floats (3.0, not 3), or dtype=float"
            )
        self._requires = bool(value)

    def _told(self) -> str:
        return f"tensor {self.name!r}" if self.name else "this tensor"

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        return apply(_li.transpose, (self,), {})

    @property
    def mT(self) -> Any:
        return _li.matrix_transpose(self)

    def item(self) -> float:
        """The one number that it holds, as a Python number."""
        return self._data.item()  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self._data.tolist()

    def numpy(self) -> Array:
        """The value as an ndarray: `data`."""
        return self.data

    def detach(self) -> Tensor:
        """A leaf of the same value through which nothing flows."""
        self._data.flags.writeable = False  # two tensors share it now; asking either for .data gives it its own
        return _leaf(self._data)

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Sweep back from here: add L̇_x to the .grad of every leaf x that requires it (paper §13.2).

        `gradient` is L̇ of this tensor itself: 1 for a scalar, and of its shape otherwise. Nothing is released, so a
        second call adds again. Raises ValueError where nothing requires grad, or for a gradient of another shape.
        """
        sweep.backward(self, gradient)

    # ----- Operators -----

    def __add__(self, other: Any) -> Tensor:
        return apply2(_li.add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply2(_li.add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply2(_li.subtract, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply2(_li.subtract, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply2(_el.multiply, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply2(_el.multiply, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply2(_el.divide, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply2(_el.divide, other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return apply2(_el.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return apply2(_el.floor_divide, other, self)

    def __mod__(self, other: Any) -> Tensor:
        return apply2(_el.remainder, self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return apply2(_el.remainder, other, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, other: Any) -> Tensor:
        return apply2(_el.power, self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return apply2(_el.power, other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return apply2(_li.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply2(_li.matmul, other, self)

    def __neg__(self) -> Tensor:
        return apply(_li.negative, (self,), {})

    def __pos__(self) -> Tensor:
        return apply(_li.positive, (self,), {})

    def __abs__(self) -> Tensor:
        return apply(_el.absolute, (self,), {})

    def __round__(self, decimals: int = 0) -> Tensor:
        return apply(_el.round_, (self,), {"decimals": decimals})

    def _in_place(self, operation: str, result: Any) -> Tensor:
        """`t += …` rebinds the name t to a new tensor. For a leaf that requires grad that is never what was meant."""
        if self.row is not None or not self._requires:
            return result  # type: ignore[no-any-return]
        if recording.on:
            raise TypeError(
                f"{self._told()} {operation} …: a leaf that requires grad cannot be changed in place, since the graph would "
                f"take the change for a part of the model. Update its numbers: t.data {operation} …  "
                f"(or do it under `with fg.no_grad():`)"
            )
        self.data = result._data
        return self

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place("+=", self + other)

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place("-=", self - other)

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place("*=", self * other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place("/=", self / other)

    def __eq__(self, other: Any) -> Any:
        return np.equal(self._data, _plain(other))

    def __ne__(self, other: Any) -> Any:
        return np.not_equal(self._data, _plain(other))

    def __lt__(self, other: Any) -> Any:
        return np.less(self._data, _plain(other))

    def __le__(self, other: Any) -> Any:
        return np.less_equal(self._data, _plain(other))

    def __gt__(self, other: Any) -> Any:
        return np.greater(self._data, _plain(other))

    def __ge__(self, other: Any) -> Any:
        return np.greater_equal(self._data, _plain(other))

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Tensor:
        return apply(_li.getitem, (self,), {"index": _index(index)})

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"t[…] = … on {self._told()}: what a graph may have saved cannot be assigned to. "
            f"Build the new value (np.where(mask, value, t), np.concatenate, np.stack), "
            f"or write t.data[…] = … to change a leaf's numbers between graphs"
        )

    # ----- Turning into plain numbers: only where nothing is lost -----

    def _converted(self, what: str) -> Array:
        if self._requires:
            raise TypeError(_HINT.format(what=what))
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._converted("np.asarray(t)"), dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self._converted("float(t)").item())

    def __int__(self) -> int:
        return int(self._converted("int(t)").item())

    def __index__(self) -> int:
        return self._converted("indexing with t").__index__()

    def __complex__(self) -> complex:
        raise TypeError("complex(t): fluxgrad knows real numbers only")

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[k] for k in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return _plain(x) in self._data

    def __repr__(self) -> str:
        value = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=100)
        parts = [value]
        if self._data.dtype not in (np.dtype(float), np.dtype(int), np.dtype(bool)):
            parts.append(f"dtype={self._data.dtype}")
        if self._requires:
            parts.append("requires_grad=True" if self.row is None else f"made by {self.row.name}")
        if self.name:
            parts.append(f"name={self.name!r}")
        return f"Tensor({', '.join(parts)})"

    def __format__(self, spec: str) -> str:
        return format(self._data.item() if spec and self.size == 1 else self, spec) if spec else repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.row is not None:
            raise TypeError(
                f"{self._told()} is the result of {self.row.name}: only a leaf can be copied or pickled (t.detach() is one)"
            )
        return _restore, (self._data.copy("K"), self._requires, self.name, self._grad)

    # ----- NumPy's protocols -----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = f"np.{ufunc.__name__}"
        if method != "__call__":
            raise TypeError(f"{name}.{method} has no rule for a Tensor; use np.sum, np.prod, np.max, np.cumsum, np.outer, …")
        if "out" in kwargs:
            raise TypeError(
                f"{name}(…, out=…): an array cannot remember how its numbers were made, so nothing could flow back. "
                f"Use the value that {name} returns (y = y + t, not y += t on an array)"
            )
        if kwargs:
            raise TypeError(f"{name} on a Tensor: {', '.join(kwargs)}= has no fluxion here; leave it out (np.where chooses)")
        rule = implementations.get(ufunc)
        if type(rule) is not Fused and isinstance(rule, Row):
            return apply(rule, inputs, {}) if len(inputs) != 2 else apply2(rule, *inputs)
        if rule is not None:
            return rule(*inputs)
        if ufunc in PLAIN:
            return ufunc(*map(_plain, inputs))
        raise TypeError(_unknown(name))

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(function, Row):
            return apply(function, args, kwargs)
        name = f"np.{'linalg.' if 'linalg' in function.__module__ else ''}{function.__name__}"
        rule = implementations.get(function)
        if rule is not None:
            if kwargs.get("out", self) is None:
                kwargs = {k: v for k, v in kwargs.items() if k != "out"}
            if "out" in kwargs:
                raise TypeError(f"{name}(…, out=…): an array cannot remember how its numbers were made; use what {name} returns")
            if isinstance(rule, Row):
                return apply(rule, args, kwargs)
            try:
                inspect.signature(rule).bind(*args, **kwargs)
            except TypeError as error:
                takes = inspect.signature(rule).replace(return_annotation=inspect.Signature.empty)
                raise TypeError(f"{name} on a Tensor: {error}. It takes {_bare(takes)}") from None
            return rule(*args, **kwargs)
        if function in PLAIN:
            return function(*_plain_nest(args), **{k: _plain_nest(v) for k, v in kwargs.items()})
        raise TypeError(_unknown(name))

    # ----- Methods that NumPy's arrays have -----

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply(_li.sum_, (self,), _given(axis, keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply(_li.mean, (self,), _given(axis, keepdims))

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.max(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload, no-any-return]

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.min(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload, no-any-return]

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.prod(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload, no-any-return]

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return np.var(self, axis=axis, ddof=ddof, keepdims=keepdims)  # type: ignore[call-overload, no-any-return]

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return np.std(self, axis=axis, ddof=ddof, keepdims=keepdims)  # type: ignore[call-overload, no-any-return]

    def cumsum(self, axis: int | None = None) -> Tensor:
        return np.cumsum(self, axis=axis)  # type: ignore[arg-type, return-value]

    def reshape(self, *shape: Any) -> Tensor:
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        return apply(_li.reshape, (self,), {"shape": tuple(shape)})

    def transpose(self, *axes: Any) -> Tensor:
        axes = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)) else axes
        return apply(_li.transpose, (self,), {"axes": tuple(axes)} if axes else {})

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        return _li.swapaxes(self, axis1, axis2)  # type: ignore[no-any-return]

    def squeeze(self, axis: Any = None) -> Tensor:
        return apply(_li.squeeze, (self,), {"axis": axis})

    def ravel(self) -> Tensor:
        return self.reshape(-1)

    flatten = ravel

    def dot(self, other: Any) -> Tensor:
        return _li.dot(self, other)  # type: ignore[no-any-return]

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        return _el.clip_(self, min, max)  # type: ignore[no-any-return]

    def round(self, decimals: int = 0) -> Tensor:
        return self.__round__(decimals)

    def take(self, indices: Any, axis: int | None = None) -> Tensor:
        return _li.take(self, indices, axis)  # type: ignore[no-any-return]

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        return _li.repeat(self, repeats, axis)  # type: ignore[no-any-return]

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return _li.trace(self, offset, axis1, axis2)  # type: ignore[no-any-return]

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        return _li.diagonal(self, offset, axis1, axis2)  # type: ignore[no-any-return]

    def copy(self) -> Tensor:
        return +self

    def astype(self, dtype: DTypeLike) -> Tensor:
        """The same numbers as another dtype. Floating: fluxions flow through. Otherwise plain: rounding stands still."""
        dtype = np.dtype(dtype)
        if dtype.kind == "c":
            raise TypeError(f"astype({dtype}): fluxgrad knows real numbers only")
        return apply(_li.astype, (self,), {"dtype": dtype}) if dtype.kind == "f" else _leaf(self._data.astype(dtype))

    def argmax(self, axis: int | None = None) -> Any:
        return self._data.argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        return self._data.argmin(axis)

    def argsort(self, axis: int = -1) -> Any:
        return self._data.argsort(axis)

    def all(self, axis: Any = None) -> Any:
        return self._data.all(axis)

    def any(self, axis: Any = None) -> Any:
        return self._data.any(axis)


# ----- Recording -----


def _holders(leaf: Tensor) -> int:
    return getrefcount(leaf._data)


_ALONE = _holders(Tensor(0.0))  # what that count is where only the tensor holds its array


def _freeze(leaf: Tensor) -> Array:
    """The leaf's array for a graph to save: itself, read-only from now on, or a copy where somebody else may write to it."""
    array = leaf._data
    if array.flags.writeable:
        del array
        if _holders(leaf) > _ALONE:
            return leaf._data.copy("K")
        leaf._data.flags.writeable = False
    return leaf._data


def _leaf(array: Array) -> Tensor:
    t = Tensor.__new__(Tensor)
    t._data = array if type(array) is _ndarray else _asarray(array)
    t.row = t._a = t._b = t._extra = t._grad = t.name = None
    t._requires = False
    t.index = _stamp()
    return t


def _restore(array: Array, requires_grad: bool, name: str | None, grad: Array | None) -> Tensor:
    t = _leaf(array)
    t._requires, t.name, t._grad = requires_grad, name, grad
    return t


_constants: dict[tuple[type, Any, np.dtype[Any]], Array] = {}


def _constant(value: Any, dtype: np.dtype[Any]) -> Array:
    """A Python number as a 0-d array of the dtype that it would take anyway (NEP 50): a ufunc of it is twice as fast."""
    key = (type(value), value, dtype)
    array = _constants.get(key)
    if array is None:
        array = np.array(value, dtype)
        array.flags.writeable = False
        if value:  # 0.0 and −0.0 are one key
            if len(_constants) > 1000:
                _constants.clear()
            _constants[key] = array
    return array


def _operand(x: Any, dtype: np.dtype[Any] | None, row: Row) -> Any:
    """A plain operand as an array; a Python number takes `dtype`, that of its company."""
    kind = type(x)
    if kind is _ndarray:
        array = x
    elif kind is float or kind is int or kind is bool:
        return _constant(x, dtype) if dtype is not None and dtype.kind == "f" else _asarray(x)
    elif kind is Constant:
        return _constant(x.value, dtype) if dtype is not None else _asarray(x.value)
    elif isinstance(x, Tensor):
        raise TypeError(f"{row.name}: a subclass of Tensor is not an operand")
    elif not isinstance(x, np.ndarray) and hasattr(kind, "__array_function__"):
        raise TypeError(f"{row.name}: a Tensor beside a {kind.__name__}; convert one of them first")
    elif x is None or isinstance(x, str | dict | set):
        raise TypeError(f"{row.name}: an operand must be a Tensor, an array or a number; given {x!r}")
    else:
        array = _asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{row.name}: fluxgrad knows real numbers only; given {_kind_of(array)} (dtype {array.dtype})")
    return array


def _misfit(row: Row, arrays: Sequence[Any], error: Exception) -> Exception:
    shapes = " and ".join(str(np.shape(x)) for x in arrays)
    return type(error)(f"{row.name} ({row.form}) of shape{'s' * (len(arrays) > 1)} {shapes}: {error}")


def apply2(row: Row, a: Any, b: Any) -> Tensor:
    """Record a row of two operands and no options: `apply` on its fastest path."""
    live = False
    if type(a) is Tensor:
        x = a._data
        live = a._requires
        if type(b) is Tensor:
            w = b._data
            live = live or b._requires
        else:
            w = b = _operand(b, x.dtype, row)
            if live and w.ndim and recording.on:
                b = w = w.copy()
    elif type(b) is Tensor:
        w = b._data
        live = b._requires
        x = a = _operand(a, w.dtype, row)
        if live and x.ndim and recording.on:
            a = x = x.copy()
    else:
        return apply(row, (a, b), {})
    try:
        y = row.value(x, w)
    except ValueError as error:
        raise _misfit(row, (x, w), error) from None
    if type(y) is not _ndarray:
        y = _asarray(y)
    t = _new(Tensor)
    t._data = y
    t.index = _stamp()
    t._grad = t.name = None
    if live and recording.on:
        t.row = row
        t._a = a
        t._b = b
        t._requires = True
        ka = _freeze(a) if type(a) is Tensor and a.row is None else None
        kb = _freeze(b) if type(b) is Tensor and b.row is None else None
        t._extra = None if ka is None and kb is None else (_NONE, None, (ka, kb))
    else:
        t.row = t._a = t._b = t._extra = None
        t._requires = False
    return t


_new = object.__new__
_NONE: dict[str, Any] = {}


def apply(row: Row, args: Sequence[Any], options: dict[str, Any]) -> Tensor:
    """Compute a row's value for operands of which some are tensors, and record how it was made if a fluxion can flow."""
    operands, options = row.bind(args, options) if options or len(args) != len(row.fluxions) else (tuple(args), options)
    live = False
    dtype: Any = None
    for p in operands:
        if type(p) is Tensor:
            live = live or p._requires
            dtype = p._data.dtype if dtype is None else np.promote_types(dtype, p._data.dtype)
    live = live and recording.on
    arrays: list[Any] = []
    given: list[Any] = []
    kept: list[Any] | None = None
    for i, p in enumerate(operands):
        if type(p) is Tensor:
            arrays.append(p._data)
            given.append(p)
            if live and p.row is None:
                kept = kept or [None] * len(operands)
                kept[i] = _freeze(p)
        else:
            x = _operand(p, dtype, row)
            x = x.copy() if live and x.ndim else x
            arrays.append(x)
            given.append(x)
    if options:
        options = {k: _plain_option(v, live) for k, v in options.items()}
    pull = None
    try:
        if type(row) is Fused and row.kernel is not None:
            y, pull = row.kernel(*arrays, **options)
        else:
            y = row.value(*arrays, **options)
    except ValueError as error:
        raise _misfit(row, arrays, error) from None
    t = _leaf(y)
    if live:
        t.row = row
        t._requires = True
        if len(given) <= 2:
            t._a = given[0]
            t._b = given[1] if len(given) == 2 else None
        else:
            t._a, t._b = tuple(given), _MANY
        if options or pull or kept:
            t._extra = (options, pull, None if kept is None else tuple(kept))
    return t


def _plain(x: Any, what: str | None = None) -> Any:
    if isinstance(x, Tensor):
        return x._data
    return x


def _plain_nest(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.data
    return type(x)(map(_plain_nest, x)) if type(x) in (tuple, list) else x


def _plain_option(x: Any, live: bool) -> Any:
    """An option as plain numbers; one that a graph saves gets its own copy."""
    if isinstance(x, Tensor):
        x = x._data
    if live and type(x) is _ndarray:
        return x.copy()
    return type(x)(_plain_option(v, live) for v in x) if type(x) in (tuple, list) else x


def _index(index: Any) -> Any:
    """An index in a form that says the same when it is read again: lists as arrays, tensors as their numbers."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, Tensor):
        index = index._data
    if isinstance(index, list):
        index = _asarray(index if index else np.empty(0, int))
    return index


def _given(axis: Any, keepdims: bool) -> dict[str, Any]:
    options = {} if axis is None else {"axis": axis}
    return {**options, "keepdims": True} if keepdims else options


def _kind_of(array: Array) -> str:
    kinds = {"c": "complex numbers", "O": "Python objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
    return kinds.get(array.dtype.kind, "something else")


def _bare(signature: inspect.Signature) -> str:
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters))


def _unknown(name: str) -> str:
    return (
        f"{name} has no rule, so no fluxion could flow through it. Write it with functions that have one (fg.rules lists them), "
        f"give it one with fg.elementwise, fg.linear or fg.fused, or call it on t.data if no fluxion shall flow"
    )


# Functions whose value stands still when its input wiggles, or that only look at shapes: they give plain arrays.
PLAIN: frozenset[Any] = frozenset(
    [
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.signbit, np.isclose, np.allclose),
        *(np.array_equal, np.array_equiv, np.isreal, np.iscomplex, np.isrealobj, np.iscomplexobj, np.all, np.any),
        *(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.argwhere, np.nonzero),
        *(np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize, np.lexsort, np.isin),
        *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type, np.shares_memory),
        *(np.zeros_like, np.ones_like, np.empty_like, np.may_share_memory, np.tril_indices_from),
        *(np.triu_indices_from, np.array_repr, np.array_str, np.array2string, np.save, np.savez, np.savetxt),
    ]
)

from fluxgrad import sweep  # noqa: E402  (Tensor.backward is a sweep, and a sweep knows Tensor)

__all__ = ["Array", "Tensor", "apply", "recording"]
