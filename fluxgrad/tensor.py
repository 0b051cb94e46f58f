"""Tensor: a value that remembers how it was made.

A tensor is a node of the graph: its value (an ndarray), the row that made it, and the operands that the row was
given, in position. A leaf has no row. It answers NumPy's protocols, so ``np.exp(t)``, ``t @ w`` and ``np.sum(t, axis=0)``
look up the row of that function and record it.

Saved arrays never change. What a graph has saved is never written to: a leaf's array becomes read-only when it is
recorded, and asking for ``w.data`` afterwards hands out a copy to which w is rebound; a plain array is copied; where
somebody else may hold a leaf's array (its reference count shows that), a copy is saved.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxgrad.rules import elementwise as _el
from fluxgrad.rules import linear as _li
from fluxgrad.rules.kinds import Constant, Row, implementations

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray  # numpy.typing takes as long to load as the rest of this package


class _Recording(threading.local):
    """Whether operations are recorded: a state of the thread, so that one thread's no_grad hides nothing in another."""

    def __init__(self) -> None:
        self.on = True
        self.before: list[bool] = []


recording = _Recording()
quiet: list[None] = []  # one for each no_grad that is open, in any thread: while it is empty, nobody need ask its own
_stamp = itertools.count().__next__  # tensors that require grad are numbered as they are made, or begin to
NEVER = 2**62  # the number of those that do not
_MANY = object()  # marks a node of more than two operands: they are a tuple in the first slot
_new = object.__new__
_ndarray = np.ndarray
_asarray = np.asarray

_HINT = (
    "{what} needs plain numbers, and this tensor requires grad: the result would be cut off from the graph. "
    "Use t.data (or t.item() for one number) if no fluxion shall flow, np.stack([...]) to join tensors, "
    "NumPy's functions (np.exp(t), not math.exp(t)) to compute with them, and a plain array in place of a MaskedArray"
)


def _own(x: Any, dtype: DTypeLike | None, what: str) -> Array:
    """An array of its own of x's numbers, which must be real."""
    array = x._value if isinstance(x, Tensor) else _asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} holds real numbers; given {_kind_of(array)} (dtype {array.dtype})")
    return np.array(array, array.dtype.char if dtype is None else dtype)  # (a pickled dtype is another object)


def _kind_of(array: Array) -> str:
    kinds = {"c": "complex numbers", "O": "Python objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}
    return kinds.get(array.dtype.kind, "something else")


def _binary(row: Row) -> tuple[Callable[[Tensor, Any], Tensor], Callable[[Tensor, Any], Tensor]]:
    """An operator and its reflected one."""
    return lambda self, other: apply2(row, self, other), lambda self, other: apply2(row, other, self)


def _in_place(symbol: str, operation: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Tensor]:
    """`t += …` rebinds the name t to a new tensor. For a leaf that requires grad that is never what was meant."""

    def update(self: Tensor, other: Any) -> Tensor:
        result: Tensor = operation(self, other)
        if self.row is not None or not self._requires:
            return result
        if recording.on:
            raise TypeError(
                f"{self._told()} {symbol} …: a leaf that requires grad cannot be changed in place, since the graph would "
                f"take the change for a part of the model. Update its numbers: t.data {symbol} …  "
                f"(or do it under `with fg.no_grad():`)"
            )
        self.data = result._value
        return self

    return update


def _comparison(operation: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    return lambda self, other: operation(self._value, _plain(other))


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

    __slots__ = ("_a", "_b", "_extra", "_grad", "_requires", "_room", "_value", "index", "name", "row")

    _a: Any
    _b: Any
    _value: Array
    _extra: tuple[dict[str, Any], Any, Sequence[Array] | None] | None
    _grad: Array | None
    _requires: bool
    _room: Array | None  # of a leaf: a view of an optimiser's buffer that the next fluxion may be written to
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
        self._value = _own(data, dtype, "a Tensor")
        self.row = self._a = self._b = self._extra = self._grad = self._room = None
        self._requires = False
        self.name = name
        self.index = NEVER
        if requires_grad:
            self.requires_grad = True

    # ----- How it was made -----

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What the row was given, in position; what was plain is a tensor that requires no grad. A leaf has none."""
        b = self._b
        if b is _MANY:
            return self._a  # type: ignore[no-any-return]
        if b is None:
            return () if self.row is None else (self._a,)
        return (self._a, b)

    @property
    def inputs(self) -> tuple[Array, ...]:
        """The operands' values as they were when the operation was recorded."""
        a, b, extra = self._a, self._b, self._extra
        if extra is not None and extra[2] is not None:
            return tuple(extra[2])
        if b is _MANY:
            return tuple([p._value for p in a])
        if b is None:
            return () if self.row is None else (a._value,)
        return (a._value, b._value)

    @property
    def options(self) -> dict[str, Any]:
        """What the row was given besides its operands (axis=, an index, …)."""
        return self._extra[0] if self._extra else {}

    # ----- The numbers -----

    @property
    def data(self) -> Array:
        """The value. A leaf's is writable and settable, and what a graph has saved stays as it was; that of an
        operation's result is read-only."""
        if self.row is not None or self._extra is _FIXED:
            self._value.flags.writeable = False
        elif self._value.base is not None or not self._value.flags.writeable:
            # An optimiser's buffer holds it, or a graph saved it. Alone with it, we may simply have it back.
            if self._value.base is None and _holders(self) == _ALONE:
                self._value.flags.writeable = True
            else:
                self._value = self._value.copy("K")
        return self._value

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if self._extra is _FIXED:
            raise TypeError("a constant of a graph cannot be set")
        if self.row is not None:
            raise TypeError(
                f"the value of {self._told()} is the result of {self.row.name} and is saved by its graph; "
                f"only a leaf's data can be set (t.detach() makes a leaf)"
            )
        if value is self._value:
            return
        array = _own(value, self._value.dtype, f"data of {self._told()}")
        if array.shape != self._value.shape:
            raise ValueError(f"data of shape {array.shape} set on {self._told()} of shape {self._value.shape}")
        self._value = array

    @property
    def grad(self) -> Array | None:
        """L̇_x of this leaf x, summed over the sweeps since it was last None: ∂L/∂x, an ndarray of its shape and dtype."""
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is None or value is self._grad:
            self._grad = value
            return
        array = _own(value, self._value.dtype, f"grad of {self._told()}")
        if array.shape != self._value.shape:
            raise ValueError(f"grad of shape {array.shape} set on {self._told()} of shape {self._value.shape}")
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
                raise TypeError(
                    f"{self._told()} is the result of {self.row.name}; use t.detach() to cut it off from its graph"
                )
            return
        if value and self._value.dtype.kind != "f":
            raise TypeError(
                f"only real floating numbers can require grad: {self._told()} has dtype {self._value.dtype}. "
                f"Give floats (3.0, not 3), or dtype=float"
            )
        if bool(value) != self._requires:
            self._requires = bool(value)
            if value:  # what was recorded while it stood still is not its business
                self.index = _stamp() if self._b is None else self._b
            else:
                self._b, self.index = self.index, NEVER

    def _told(self) -> str:
        return f"tensor {self.name!r}" if self.name else "this tensor"

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape

    @property
    def ndim(self) -> int:
        return self._value.ndim

    @property
    def size(self) -> int:
        return self._value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._value.dtype

    @property
    def T(self) -> Tensor:
        return apply1(_li.transpose, self)

    @property
    def mT(self) -> Any:
        return _li.matrix_transpose(self)

    def item(self) -> float:
        """The one number that it holds, as a Python number."""
        return self._value.item()  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self._value.tolist()

    def numpy(self) -> Array:
        """The value as an ndarray: `data`."""
        return self.data

    def detach(self) -> Tensor:
        """A leaf of the same value through which nothing flows."""
        if self.row is None and self._value.base is None and self._value.flags.writeable and _holders(self) > _ALONE:
            return _leaf(self._value.copy("K"))
        self._value.flags.writeable = False  # two tensors share it now; asking either for .data gives it its own
        return _leaf(self._value)

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Sweep back from here: add L̇_x to the .grad of every leaf x that requires it.

        `gradient` is L̇_y of this tensor y itself: 1 for a scalar, and of its shape otherwise. Nothing is released, so a
        second call adds again. Raises ValueError where nothing requires grad, or for a gradient of another shape.
        """
        sweep.backward(self, gradient)

    # ----- Operators -----

    __add__, __radd__ = _binary(_li.add)
    __sub__, __rsub__ = _binary(_li.subtract)
    __mul__, __rmul__ = _binary(_el.multiply)
    __truediv__, __rtruediv__ = _binary(_el.divide)
    __floordiv__, __rfloordiv__ = _binary(_el.floor_divide)
    __mod__, __rmod__ = _binary(_el.remainder)
    __pow__, __rpow__ = _binary(_el.power)
    __matmul__, __rmatmul__ = _binary(_li.matmul)

    def __neg__(self) -> Tensor:
        return apply1(_li.negative, self)

    def __pos__(self) -> Tensor:
        return apply1(_li.positive, self)

    def __abs__(self) -> Tensor:
        return apply1(_el.absolute, self)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __round__(self, decimals: int = 0) -> Tensor:
        return apply(_el.round_, (self,), {"decimals": decimals})

    __iadd__ = _in_place("+=", operator.add)
    __isub__ = _in_place("-=", operator.sub)
    __imul__ = _in_place("*=", operator.mul)
    __itruediv__ = _in_place("/=", operator.truediv)
    __ifloordiv__ = _in_place("//=", operator.floordiv)
    __imod__ = _in_place("%=", operator.mod)
    __ipow__ = _in_place("**=", operator.pow)
    __imatmul__ = _in_place("@=", operator.matmul)

    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
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
        return bool(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[k] for k in range(len(self)))

    def __contains__(self, x: Any) -> bool:
        return _plain(x) in self._value

    def __repr__(self) -> str:
        value = np.array2string(self._value, separator=", ", prefix="Tensor(", threshold=100)
        parts = [value]
        if self._value.dtype not in (np.dtype(float), np.dtype(int), np.dtype(bool)):
            parts.append(f"dtype={self._value.dtype}")
        if self._requires:
            parts.append("requires_grad=True" if self.row is None else f"made by {self.row.name}")
        if self.name:
            parts.append(f"name={self.name!r}")
        return f"Tensor({', '.join(parts)})"

    def __format__(self, spec: str) -> str:
        return format(self._value.item() if self.size == 1 else self._value, spec) if spec else repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.row is not None:
            raise TypeError(
                f"{self._told()} is the result of {self.row.name}: only a leaf can be copied or pickled (t.detach() is one)"
            )
        grad = None if self._grad is None else self._grad.copy("K")
        return _restore, (self._value.copy("K"), self._requires, self.name, grad)

    # ----- NumPy's protocols -----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = f"np.{ufunc.__name__}"
        if method != "__call__":
            raise TypeError(
                f"{name}.{method} has no rule for a Tensor; use np.sum, np.prod, np.max, np.cumsum, np.outer, …"
            )
        if "out" in kwargs:
            raise TypeError(
                f"{name}(…, out=…): an array cannot remember how its numbers were made, so nothing could flow back. "
                f"Use the value that {name} returns (y = y + t, not y += t on an array)"
            )
        if kwargs:
            raise TypeError(
                f"{name} on a Tensor: {', '.join(kwargs)}= has no fluxion here; leave it out (np.where chooses)"
            )
        rule = implementations.get(ufunc)
        if isinstance(rule, Row):
            return apply2(rule, *inputs) if len(inputs) == 2 else bind(rule, inputs, kwargs)
        if rule is not None:
            return rule(*inputs)
        if ufunc in PLAIN:
            return ufunc(*map(_plain, inputs))
        raise TypeError(_unknown(name))

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(function, Row):
            return bind(function, args, kwargs)
        name = f"{function.__module__.replace('numpy', 'np')}.{function.__name__}"
        rule = implementations.get(function)
        if rule is not None:
            if kwargs.get("out", self) is None:
                kwargs = {k: v for k, v in kwargs.items() if k != "out"}
            if "out" in kwargs:
                raise TypeError(
                    f"{name}(…, out=…): an array cannot remember how its numbers were made; use what {name} returns"
                )
            if isinstance(rule, Row):
                return bind(rule, args, kwargs, name)
            _check_call(name, rule, args, kwargs)
            return rule(*args, **kwargs)
        if function in PLAIN:
            return function(*_plain_nest(args), **{k: _plain_nest(v) for k, v in kwargs.items()})
        raise TypeError(_unknown(name))

    # ----- Methods that NumPy's arrays have -----

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        if axis is None and not keepdims:
            return apply1(_li.sum_, self)
        return apply(_li.sum_, (self,), {"axis": axis, "keepdims": keepdims})

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        if axis is None and not keepdims:
            return apply1(_li.mean, self)
        return apply(_li.mean, (self,), {"axis": axis, "keepdims": keepdims})

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.max(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.min(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return np.prod(self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return np.var(self, axis=axis, ddof=ddof, keepdims=keepdims)  # type: ignore[no-any-return]

    def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
        return np.std(self, axis=axis, ddof=ddof, keepdims=keepdims)  # type: ignore[no-any-return]

    def cumsum(self, axis: int | None = None) -> Tensor:
        return np.cumsum(self, axis=axis)  # type: ignore[return-value]

    def reshape(self, *shape: Any) -> Tensor:
        return apply(_li.reshape, (self,), {"shape": _unpacked(shape)})

    def transpose(self, *axes: Any) -> Tensor:
        axes = _unpacked(axes) if axes != (None,) else ()
        return apply(_li.transpose, (self,), {"axes": axes} if axes else {})

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
        return apply(_li.astype, (self,), {"dtype": dtype}) if dtype.kind == "f" else _leaf(self._value.astype(dtype))

    def argmax(self, axis: int | None = None) -> Any:
        return self._value.argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        return self._value.argmin(axis)

    def argsort(self, axis: int = -1) -> Any:
        return self._value.argsort(axis)

    def all(self, axis: Any = None) -> Any:
        return self._value.all(axis)

    def any(self, axis: Any = None) -> Any:
        return self._value.any(axis)


# ----- Recording -----


def _holders(leaf: Tensor) -> int:
    return getrefcount(leaf._value)


_ALONE = _holders(Tensor(0.0))  # what that count is where only the tensor holds its array


def _stands_still(*operands: Tensor) -> None:
    """A graph is made of these: a leaf among them that requires no grad is a constant of it, and stays one even if it
    requires grad again later (`_b` of a leaf holds its number from before it stood still)."""
    for p in operands:
        if not p._requires and p._extra is not _FIXED and p.row is None:
            p._b = None


def _freeze(leaf: Tensor) -> Array:
    """The leaf's array for a graph to save: itself, read-only from now on, or a copy where somebody else may write to it."""
    if leaf._value.base is None and leaf._value.flags.writeable:  # (what has a base is an optimiser's, and read-only)
        if _holders(leaf) > _ALONE:
            return leaf._value.copy("K")
        leaf._value.flags.writeable = False
    return leaf._value


def _leaf(array: Array) -> Tensor:
    t = Tensor.__new__(Tensor)
    t._value = array if type(array) is _ndarray else _asarray(array)
    t.row = t._a = t._b = t._extra = t._grad = t._room = t.name = None
    t._requires = False
    t.index = NEVER
    return t


def _restore(array: Array, requires_grad: bool, name: str | None, grad: Array | None) -> Tensor:
    t = _leaf(np.array(array, array.dtype.char, copy=None))
    t.requires_grad, t.name, t._grad = requires_grad, name, grad
    return t


_NONE: dict[str, Any] = {}
_FIXED: tuple[dict[str, Any], Any, None] = ({}, None, None)
"""Marks a constant that nobody outside can reach or write to."""
_constants: dict[tuple[float, np.dtype[Any]], Tensor] = {}


def _constant(value: float, dtype: np.dtype[Any]) -> Tensor:
    """A Python number as a 0-d constant of the dtype that it takes in such company (NEP 50): a ufunc of it is twice as fast."""
    t = _fixed(np.array(value, dtype))
    t._value.flags.writeable = False
    if value and dtype.kind == "f":  # 0.0 and −0.0 would be one key
        if len(_constants) > 1000:
            _constants.clear()
        _constants[value, dtype] = t
    return t


_latest: tuple[Any, Any, Any] = (None, None, None)  # (number, dtype, its constant), of the last that was asked for


def _fixed(array: Array) -> Tensor:
    t = _new(Tensor)
    t._value = array
    t.row = t._a = t._b = t._grad = t._room = t.name = None
    t._extra = _FIXED
    t._requires = False
    t.index = NEVER
    return t


def _operand(x: Any, dtype: np.dtype[Any] | None, row: Row) -> Tensor:
    """A plain operand as a constant; a Python number takes `dtype`, that of its company. An array is copied, since a graph
    may save it and its owner may write to it."""
    kind = type(x)
    if kind is float or kind is int or kind is bool or kind is Constant:
        global _latest
        x = x.value if kind is Constant else x
        if dtype is None or (dtype.kind != "f" and not (dtype.kind in "iu" and kind is int)):
            return _fixed(_asarray(x))
        constant = _constants.get((x, dtype)) if dtype.kind == "f" else None  # (as integers, 2 and 2.0 are not one)
        if constant is None:
            return _constant(x, dtype)
        _latest = x, dtype, constant
        return constant
    if kind is not _ndarray and hasattr(kind, "__array_function__") and not isinstance(x, np.generic):
        raise TypeError(f"{row.name}: a Tensor beside a {kind.__name__}; convert it to an array or a Tensor first")
    if x is None or isinstance(x, str | dict | set):
        raise TypeError(f"{row.name}: an operand must be a Tensor, an array or a number; given {x!r}")
    return _fixed(_own(x, None, f"{row.name}: an operand"))


def _misfit(row: Row, operands: Sequence[Tensor], error: Exception) -> Exception:
    shapes = " and ".join(str(p.shape) for p in operands)
    said = str(error).removeprefix(f"{row.name}: ")
    return type(error)(f"{row.name} ({row.form}) of shape{'s' * (len(operands) > 1)} {shapes}: {said}")


def apply1(row: Row, a: Tensor) -> Tensor:
    """`apply` of one tensor and no options."""
    live = a._requires and (not quiet or recording.on)
    x = a._value
    saved = kept = None
    if live and a.row is None:
        x = _freeze(a)
        kept = (x,)
    try:
        if row.kernel is None:
            y = row.value(x)
        else:
            y, saved = row.kernel[0](x)
    except ValueError as error:
        raise _misfit(row, (a,), error) from None
    t = _new(Tensor)
    t._value = y if type(y) is _ndarray else _asarray(y)
    t._grad = t._b = t.name = None
    if live:
        t.row = row
        t._a = a
        t._requires = True
        t.index = _stamp()
        t._extra = None if saved is None and kept is None else (_NONE, saved, kept)
        return t
    return _plain_result(t, (a,))


def apply2(row: Row, a: Any, b: Any) -> Tensor:
    """`apply` of two operands, of which one is a tensor, and no options."""
    if row.kernel is not None:
        return apply(row, (a, b))
    if type(b) is not Tensor:
        number, dtype, constant = _latest  # in a loop it is the same number again
        b = constant if b is number and a._value.dtype is dtype else _operand(b, a._value.dtype, row)
    elif type(a) is not Tensor:
        a = _operand(a, b._value.dtype, row)
    live = (a._requires or b._requires) and (not quiet or recording.on)
    extra = None
    if live and ((a.row is None and a._extra is not _FIXED) or (b.row is None and b._extra is not _FIXED)):
        x = _freeze(a) if a.row is None else a._value
        w = _freeze(b) if b.row is None else b._value
        extra = (_NONE, None, (x, w))
        if not (a._requires and b._requires):
            _stands_still(a, b)
    else:
        x, w = a._value, b._value
    try:
        y = row.value(x, w)
    except ValueError as error:
        raise _misfit(row, (a, b), error) from None
    t = _new(Tensor)
    t._value = y if type(y) is _ndarray else _asarray(y)
    t._grad = t.name = None
    t._extra = extra
    if live:
        t.row = row
        t._a = a
        t._b = b
        t._requires = True
        t.index = _stamp()
        return t
    return _plain_result(t, (a, b))


def apply3(row: Row, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """`apply` of three tensors and no options to a row that has a kernel: a layer."""
    on = not quiet or recording.on
    try:
        # What has a base is an optimiser's, and read-only: the weights of a model in training.
        x, w, v = a._value, b._value, c._value
        if x.base is None and a.row is None and a._extra is not _FIXED and on:
            x = _freeze(a)
        if w.base is None and b.row is None and b._extra is not _FIXED and on:
            w = _freeze(b)
        if v.base is None and c.row is None and c._extra is not _FIXED and on:
            v = _freeze(c)
    except AttributeError:  # one is not a tensor
        return apply(row, (a, b, c))
    try:
        y, saved = row.kernel[0](x, w, v) if row.kernel is not None else (row.value(x, w, v), None)
    except ValueError as error:
        raise _misfit(row, (a, b, c), error) from None
    t = _new(Tensor)
    t._value = y if type(y) is _ndarray else _asarray(y)
    t._grad = t.name = None
    if on and (a._requires or b._requires or c._requires):
        if not (b._requires and c._requires):
            _stands_still(a, b, c)
        t.row = row
        t._a = (a, b, c)
        t._b = _MANY
        t._requires = True
        t.index = _stamp()
        t._extra = (_NONE, saved, (x, w, v))
        return t
    return _plain_result(t, (a, b, c))


def _plain_result(t: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """A result through which nothing flows: a leaf, with an array of its own, since anybody may write to that."""
    if t._value.base is not None or any(t._value is p._value for p in operands):
        t._value = t._value.copy("K")
    t.row = t._a = t._b = t._extra = t._room = None
    t._requires = False
    t.index = NEVER
    return t


def apply(row: Row, args: tuple[Any, ...], options: dict[str, Any] = _NONE) -> Tensor:
    """Compute a row's value for operands of which some are tensors, and record how it was made if a fluxion can flow.
    The options are the row's own, and nobody else's (`bind` sees to that for a caller outside)."""
    on = not quiet or recording.on
    live = still = False
    arrays = []
    try:
        for p in args:
            if p._requires:
                live = on
            elif p._extra is not _FIXED:
                still = True
            arrays.append(
                _freeze(p) if p.row is None and p._extra is not _FIXED and on and p._value.base is None else p._value
            )
    except AttributeError:  # one is not a tensor
        dtypes = [p._value.dtype for p in args if type(p) is Tensor]
        dtype = np.result_type(*dtypes) if dtypes else None
        return apply(row, tuple([p if type(p) is Tensor else _operand(p, dtype, row) for p in args]), options)
    saved = None
    try:
        if row.kernel is None:
            y = row.value(*arrays, **options)
        else:
            y, saved = row.kernel[0](*arrays, **options)
    except ValueError as error:
        raise _misfit(row, args, error) from None
    t = _new(Tensor)
    t._value = y if type(y) is _ndarray else _asarray(y)
    t._grad = t.name = None
    if live:
        if still:
            _stands_still(*args)
        t.row = row
        t._a = args
        t._b = _MANY
        t._requires = True
        t.index = _stamp()
        t._extra = (options, saved, arrays)
        return t
    return _plain_result(t, args)


def bind(row: Row, args: Sequence[Any], options: dict[str, Any], name: str | None = None) -> Tensor:
    """`apply` for a caller outside: sort operands from options, check their names, and copy what could be written to."""
    operands, options = row.bind(args, options, name)
    for key, option in options.items():
        if isinstance(option, Tensor) and option._requires:
            raise TypeError(
                f"{name or row.name}: {key} is an option of this rule, which has no fluxion for it, but it was given a tensor that "
                f"requires grad; give the rule a fluxion for {key}, or give it {key}.data"
            )
    return apply(row, operands, {k: _plain_option(v) for k, v in options.items()} if options else options)


def _unpacked(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    """reshape(2, 3) and reshape((2, 3)) are one."""
    return tuple(numbers[0]) if len(numbers) == 1 and isinstance(numbers[0], tuple | list) else numbers


def _plain(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x._value
    return x


def _plain_nest(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.data
    return type(x)(map(_plain_nest, x)) if type(x) in (tuple, list) else x


def _plain_option(x: Any) -> Any:
    """An option as plain numbers of its own."""
    if isinstance(x, Tensor):
        return x._value.copy()
    if type(x) is _ndarray:
        return x.copy()
    return type(x)(map(_plain_option, x)) if type(x) in (tuple, list) else x


def _index(index: Any) -> Any:
    """An index in a form that says the same when it is read again: lists as arrays, tensors as their numbers, arrays copied."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, list):
        return np.array(index if index else np.empty(0, int))
    return _plain_option(index)


def _check_call(name: str, rule: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Refuse arguments that the function built from rows does not take, saying what it takes."""
    from inspect import Parameter, Signature, signature

    takes = signature(rule)
    try:
        takes.bind(*args, **kwargs)
    except TypeError as error:
        bare = [p.replace(annotation=Parameter.empty) for p in takes.parameters.values()]
        raise TypeError(f"{name} on a Tensor: {error}. It takes {Signature(bare)}") from None


def _unknown(name: str) -> str:
    return (
        f"{name} has no rule, so no fluxion could flow through it. Write it with functions that have one (fg.rules lists them), "
        f"give it one with fg.elementwise, fg.linear or fg.fused, or call it on t.data if no fluxion shall flow"
    )


# Functions whose value stands still when its input wiggles, or that only look at shapes: they give plain arrays.
PLAIN: frozenset[Any] = frozenset(
    [
        *(np.imag, np.angle, np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
        *(np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.signbit, np.isclose, np.allclose),
        *(np.array_equal, np.array_equiv, np.isreal, np.iscomplex, np.isrealobj, np.iscomplexobj, np.all, np.any),
        *(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.argwhere, np.nonzero),
        *(np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize, np.lexsort, np.isin),
        *(
            np.shape,
            np.ndim,
            np.size,
            np.result_type,
            np.can_cast,
            np.common_type,
            np.min_scalar_type,
            np.shares_memory,
        ),
        *(np.zeros_like, np.ones_like, np.empty_like, np.may_share_memory, np.tril_indices_from),
        *(np.triu_indices_from, np.array_repr, np.array_str, np.array2string, np.save, np.savez, np.savetxt),
    ]
)

from fluxgrad import sweep  # noqa: E402  (Tensor.backward is a sweep, and a sweep knows Tensor)
