"""The linear rows: arithmetic that adds, products that are linear in each operand, and everything that moves,
copies or gathers numbers. Each gives its adjoint: what L̇_y sends back to each operand.

The second half builds the rest of NumPy's functions of this sort from these rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from fluxgrad.rules.kinds import Each, Linear, is_foreign, linear, ones, sample, stands_for

# ----- Adding -----

add = linear("x + w", np.add, lambda g, x, w: g, lambda g, x, w: g)
subtract = linear("x − w", np.subtract, lambda g, x, w: g, lambda g, x, w: -g)
negative = linear("−x", np.negative, lambda g, x: -g)
positive = linear("+x", np.positive, lambda g, x: g)


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of non-negative axes; None is all of them."""
    return tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)


def spread(g: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """A reduction's fluxion, stretched again over the axes of x that were reduced."""
    if not keepdims and g.ndim:
        g = np.expand_dims(g, _axes(axis, x.ndim))
    return np.broadcast_to(g, x.shape)


def over(g: Any, n: int) -> Any:
    """g/n, where n may be more than float16 can hold."""
    return g * (1 / n) if g.dtype == np.float16 else g / n


def count(x: Any, axis: Any = None) -> int:
    """How many elements a reduction over `axis` runs through."""
    n = 1
    for a in _axes(axis, x.ndim):
        n *= x.shape[a]
    return n


def _filled(x: Any, value: float) -> Any:
    array = np.empty(x.shape, x.dtype)
    array.fill(value)
    return array


_add: Any = np.add.reduce


def _sum(x: Any, axis: Any = None, keepdims: bool = False) -> tuple[Any, Any]:
    """np.sum without its wrapper; the fluxion of a whole sum is one number, filled in."""
    return _add(x, axis, keepdims=keepdims), (x, axis, keepdims, 1)


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> tuple[Any, Any]:
    n = x.size if axis is None else count(x, axis)
    if x.dtype == np.float16 or n == 0:  # np.mean sums float16 in float32, and warns of an empty mean
        return np.mean(x, axis, keepdims=keepdims), (x, axis, keepdims, n)
    return _add(x, axis, keepdims=keepdims) / n, (x, axis, keepdims, n)


def _sum_back(g: Any, saved: Any, room: Any) -> Any:
    x, axis, keepdims, n = saved
    if g.ndim:
        return spread(over(g, n), x, axis, keepdims)
    return _filled(x, g.item() / n if n else 0.0)


sum_ = linear("Σ x", lambda x, axis=None, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims), spread,
              kernel=(_sum, [_sum_back]), name="sum")  # fmt: skip
mean = linear(
    "mean x", lambda x, axis=None, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    lambda g, x, axis=None, keepdims=False: spread(over(g, count(x, axis)), x, axis, keepdims), kernel=(_mean, [_sum_back]),
)  # fmt: skip


def _cumsum_x(g: Any, x: Any, axis: int | None = None) -> Any:
    if axis is None:
        return np.reshape(np.flip(np.cumsum(np.flip(g))), x.shape)
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


cumsum = linear("cumsum x", lambda x, axis=None: np.cumsum(x, axis=axis), _cumsum_x)

# ----- Products, linear in each operand -----

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _matmul_x(g: Any, x: Any, w: Any) -> Any:
    if w.ndim == 1:
        return np.expand_dims(g, -1) * w
    if x.ndim == 1:
        return np.squeeze(np.matmul(w, np.expand_dims(g, -1)), -1)
    return np.matmul(g, np.swapaxes(w, -1, -2))


def _matmul_w(g: Any, x: Any, w: Any) -> Any:
    if x.ndim == 1:
        return np.expand_dims(g, -1) * x if w.ndim == 1 else np.expand_dims(x, -1) * np.expand_dims(g, -2)
    if w.ndim == 1:
        return np.squeeze(np.matmul(np.swapaxes(x, -1, -2), np.expand_dims(g, -1)), -1)
    return np.matmul(np.swapaxes(x, -1, -2), g)


matmul = linear("x @ w", np.matmul, _matmul_x, _matmul_w, jointly=False)


def _einsum_terms(subscripts: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """The subscripts of each operand and of the output, with every `...` spelled out in unused capital letters."""
    given = subscripts.replace(" ", "")
    left, arrow, output = given.partition("->")
    terms = left.split(",")
    hidden = [x.ndim - len(t) + 3 if "..." in t else 0 for t, x in zip(terms, operands, strict=True)]
    letters = "".join([c for c in _LETTERS[26:] if c not in given][: max(hidden)])
    spelled = [t.replace("...", letters[len(letters) - n :]) for t, n in zip(terms, hidden, strict=True)]
    if not arrow:
        named = "".join(terms).replace(".", "")
        output = "..." + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    return spelled, output.replace("...", letters)


def _einsum_operand(i: int, g: Any, *operands: Any, subscripts: str) -> Any:
    """L̇ for operand i: the same contraction with L̇_y in its place. An index that only this operand has was summed
    away, so ones stretch it again; an index that it has twice was a diagonal, so an identity puts it there."""
    terms, output = _einsum_terms(subscripts, operands)
    x, mine = operands[i], ""
    factors = [(output, g)] + [(t, w) for k, (t, w) in enumerate(zip(terms, operands, strict=True)) if k != i]
    fresh = iter(c for c in _LETTERS if c not in "".join([output, *terms]))
    for c, n in zip(terms[i], x.shape, strict=True):
        if c in mine:
            twin = next(fresh)
            factors.append((c + twin, np.eye(n, dtype=x.dtype)))
            c = twin
        elif not any(c in t for t, _ in factors):
            factors.append((c, np.ones(n, dtype=x.dtype)))
        mine += c
    return np.einsum(",".join(t for t, _ in factors) + "->" + mine, *(w for _, w in factors))


_einsum = linear("einsum", lambda *xs, subscripts: np.einsum(subscripts, *xs), _einsum_operand,
                 jointly=False, variadic=True)  # fmt: skip

# ----- Moving -----

reshape = linear("reshape x", lambda x, shape: np.reshape(x, shape), lambda g, x, shape: np.reshape(g, x.shape))
expand_dims = linear("expand_dims x", lambda x, axis: np.expand_dims(x, axis),
                     lambda g, x, axis: np.reshape(g, x.shape))  # fmt: skip
squeeze = linear("squeeze x", lambda x, axis=None: np.squeeze(x, axis), lambda g, x, axis=None: np.reshape(g, x.shape))


def _transpose_x(g: Any, x: Any, axes: Any = None) -> Any:
    return np.transpose(g) if axes is None else np.transpose(g, np.argsort(_axes(tuple(axes), x.ndim)))


transpose = linear("xᵀ", lambda x, axes=None: np.transpose(x, axes), _transpose_x, name="transpose")
flip = linear("flip x", lambda x, axis=None: np.flip(x, axis), lambda g, x, axis=None: np.flip(g, axis))
roll = linear(
    "roll x", lambda x, shift, axis=None: np.roll(x, shift, axis),
    lambda g, x, shift, axis=None: np.roll(g, np.negative(shift), axis),
)  # fmt: skip


def unstretch(g: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting: sum over the axes along which `shape` was stretched."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    if lead < 0 or any(n not in (m, 1) for n, m in zip(shape, g.shape[lead:], strict=True)):
        raise ValueError(f"a fluxion of shape {g.shape} does not come from an input of shape {shape} by broadcasting")
    if lead == 1 and type(g) is np.ndarray and g.shape[1:] == shape and g.ndim == 2:
        return ones(len(g), g.dtype).dot(g)  # a bias: one product is five times faster than sum(axis=0)
    stretched = tuple(k for k, n in enumerate(shape) if n == 1 and g.shape[k + lead] != 1)
    g = np.sum(g, axis=tuple(range(lead)) + tuple(k + lead for k in stretched)) if lead or stretched else g
    return np.reshape(g, shape) if g.shape != shape else g


broadcast_to = linear("broadcast x", lambda x, shape: np.broadcast_to(x, shape),
                      lambda g, x, shape: unstretch(g, x.shape), name="broadcast_to")  # fmt: skip


def _window(i: int, xs: Sequence[Any], axis: int) -> tuple[slice, ...]:
    axis %= xs[i].ndim
    start = sum(x.shape[axis] for x in xs[:i])
    return (slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)


def _concatenated(*xs: Any, axis: int = 0) -> tuple[Any, Any]:
    """Where each operand starts is added up once, not once for each."""
    y = np.concatenate(xs, axis)
    same = all(x.dtype is y.dtype for x in xs)
    return y, (axis % y.ndim, np.cumsum([0, *(x.shape[axis] for x in xs)]).tolist()) if same else None


def _piece(i: int, g: Any, saved: Any) -> Any:
    axis, ends = saved
    return g[(slice(None),) * axis + (slice(ends[i], ends[i + 1]),)]


_concatenate = linear(
    "concatenate", lambda *xs, axis=0: np.concatenate(xs, axis),
    lambda i, g, *xs, axis=0: g[_window(i, xs, axis)], variadic=True, kernel=(_concatenated, Each(_piece)),
)  # fmt: skip
_stack = linear(
    "stack", lambda *xs, axis=0: np.stack(xs, axis),
    lambda i, g, *xs, axis=0: g[(slice(None),) * (axis % g.ndim) + (i,)], variadic=True,
    kernel=(lambda *xs, axis=0: (np.stack(xs, axis), (axis,) if len({x.dtype for x in xs}) == 1 else None),
            Each(lambda i, g, saved: g[(slice(None),) * (saved[0] % g.ndim) + (i,)])),
)  # fmt: skip
_where = linear(
    "where", lambda x, w, condition: np.where(condition, x, w),
    lambda g, x, w, condition: np.where(condition, g, 0),
    lambda g, x, w, condition: np.where(condition, 0, g),
)  # fmt: skip
_pad = linear(
    "pad x", lambda x, width: np.pad(x, width),
    lambda g, x, width: g[tuple(slice(a, a + n) for (a, _), n in zip(width, x.shape, strict=True))],
)  # fmt: skip
astype = linear("astype x", lambda x, dtype: x.astype(dtype), lambda g, x, dtype: g.astype(x.dtype))

# ----- Gathering and scattering: each is the other's adjoint -----


def _picks_once(index: Any) -> bool:
    """Whether no element can be picked twice: slices, integers, None, `...`, one mask, or numbers of rows in their order."""
    parts = index if isinstance(index, tuple) else (index,)
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        i = parts[0]
        return i.dtype == bool or (
            i.ndim == 1 and i.dtype.kind == "i" and bool(np.all(i[1:] > i[:-1]) and np.all(i[:1] >= 0))
        )
    return all(p is None or p is Ellipsis or isinstance(p, slice | int | np.integer) for p in parts)


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    z = np.zeros(shape, g.dtype)
    if _picks_once(index):
        z[index] = g
    else:
        np.add.at(z, index, g)  # an element that was picked twice gets both
    return z


getitem = linear("x[…]", lambda x, index: x[index],
                 lambda g, x, index: scatter(g, index=index, shape=x.shape), name="getitem")  # fmt: skip
scatter: Linear = linear("scatter x", _scatter, lambda g, x, index, shape: g[index])

# ----- How they are written down -----

sample(matmul, (2, 3), (3, 4))
sample(_einsum, (2, 3), (3, 4), subscripts="ij,jk->ik")
sample(reshape, (2, 3), shape=("s", (3, 2)))
sample(expand_dims, (2, 3), axis=0)
sample(squeeze, (2, 1, 3))
sample(cumsum, (3,), axis=0)
sample(roll, (2, 3), shift=("k", 1))
sample(broadcast_to, (3,), shape=("s", (2, 3)))
sample(_concatenate, (2, 3), (4, 3))
sample(_stack, (2, 3), (2, 3))
sample(_where, (2, 3), (2, 3), condition=("c", [[True, False, True], [False, True, False]]))
sample(_pad, (2, 3), width=("k", ((1, 1), (0, 2))))
sample(astype, (2, 3), dtype=np.dtype(np.float32))
sample(getitem, (4, 3), index=("i", [2, 0]))
sample(scatter, (2, 3), index=("i", [2, 0]), shape=("s", (4, 3)))

# ----- NumPy's functions that are built from these rows -----

stands_for(np.sum)(sum_)
stands_for(np.mean)(mean)
stands_for(np.cumsum)(cumsum)
stands_for(np.expand_dims)(expand_dims)
stands_for(np.squeeze)(squeeze)
stands_for(np.transpose)(transpose)
stands_for(np.flip)(flip)
stands_for(np.roll)(roll)


def plain(x: Any) -> Any:
    """The numbers of an operand that only chooses (a condition, an index, a count)."""
    return x.data if is_foreign(x) else x


@stands_for(np.reshape)
def reshape_(x: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    if order != "C":
        raise TypeError(f"np.reshape: order={order!r} has no rule here; transpose first, then reshape")
    shape = newshape if shape is None else shape
    return reshape(x, shape=tuple(shape) if isinstance(shape, tuple | list) else (shape,))


@stands_for(np.broadcast_to)
def broadcast_to_(x: Any, shape: Any) -> Any:
    return broadcast_to(x, shape=tuple(shape) if isinstance(shape, tuple | list) else (shape,))


@stands_for(np.full_like)
def full_like(x: Any, fill_value: Any) -> Any:
    return np.broadcast_to(_array(fill_value), x.shape).astype(x.dtype)


@stands_for(np.astype)
def astype_(x: Any, dtype: Any, /, *, copy: bool = True) -> Any:
    return x.astype(dtype)


@stands_for(np.broadcast_arrays)
def broadcast_arrays(*xs: Any) -> tuple[Any, ...]:
    shape = np.broadcast_shapes(*map(np.shape, xs))
    return tuple(np.broadcast_to(x, shape) for x in xs)


@stands_for(np.where)
def where(condition: Any, x: Any = None, w: Any = None) -> Any:
    condition = plain(condition)
    if x is None and w is None:
        return np.nonzero(condition)
    if x is None or w is None:
        raise ValueError("np.where(condition, x, y): give both x and y, or neither")
    return _where(x, w, condition=condition)


@stands_for(np.concatenate)
def concatenate(arrays: Any, axis: int | None = 0) -> Any:
    arrays = tuple(arrays)
    return _concatenate(*map(np.ravel, arrays), axis=0) if axis is None else _concatenate(*arrays, axis=axis)


@stands_for(np.stack)
def stack(arrays: Any, axis: int = 0) -> Any:
    return _stack(*arrays, axis=axis)


@stands_for(np.einsum)
def einsum(*args: Any, optimize: Any = False) -> Any:
    if not isinstance(args[0], str):
        raise TypeError("np.einsum: write the subscripts as a string first, as in np.einsum('ij,jk', a, b)")
    return _einsum(*args[1:], subscripts=args[0])


@stands_for(np.dot)
def dot(x: Any, w: Any) -> Any:
    x, w = _array(x), _array(w)
    if x.ndim == 0 or w.ndim == 0:
        return np.multiply(x, w)
    return np.matmul(x, w) if w.ndim <= 2 else np.tensordot(x, w, ((-1,), (-2,)))


def _array(x: Any) -> Any:
    return x if hasattr(x, "ndim") else np.asarray(x)


@stands_for(np.inner)
def inner(x: Any, w: Any) -> Any:
    x, w = _array(x), _array(w)
    return np.multiply(x, w) if x.ndim == 0 or w.ndim == 0 else np.tensordot(x, w, ((-1,), (-1,)))


@stands_for(np.outer, np.linalg.outer)
def outer(x: Any, w: Any) -> Any:
    return np.multiply(np.reshape(x, (-1, 1)), np.reshape(w, (1, -1)))


@stands_for(np.vdot)
def vdot(x: Any, w: Any) -> Any:
    return np.matmul(np.ravel(x), np.ravel(w))


@stands_for(np.vecdot, np.linalg.vecdot)
def vecdot(x: Any, w: Any, axis: int = -1) -> Any:
    return np.sum(x * w, axis=axis)


@stands_for(np.matvec)
def matvec(x: Any, w: Any) -> Any:
    return np.squeeze(np.matmul(x, np.expand_dims(w, -1)), -1)


@stands_for(np.vecmat)
def vecmat(x: Any, w: Any) -> Any:
    return np.squeeze(np.matmul(np.expand_dims(x, -2), w), -2)


@stands_for(np.tensordot, np.linalg.tensordot)
def tensordot(x: Any, w: Any, axes: Any = 2) -> Any:
    x, w = _array(x), _array(w)
    if isinstance(axes, int | np.integer):
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    a, b = _axes(axes[0], x.ndim), _axes(axes[1], w.ndim)
    keep_x = tuple(k for k in range(x.ndim) if k not in a)
    keep_w = tuple(k for k in range(w.ndim) if k not in b)
    shape = tuple(x.shape[k] for k in keep_x) + tuple(w.shape[k] for k in keep_w)
    n = count(x, a)
    left = np.reshape(np.transpose(x, keep_x + a), (count(x, keep_x), n))
    right = np.reshape(np.transpose(w, b + keep_w), (n, count(w, keep_w)))
    return np.reshape(np.matmul(left, right), shape)


@stands_for(np.kron)
def kron(x: Any, w: Any) -> Any:
    x, w = _array(x), _array(w)
    n = max(x.ndim, w.ndim)
    xs, ws = (1,) * (n - x.ndim) + x.shape, (1,) * (n - w.ndim) + w.shape
    product = np.reshape(x, tuple(k for m in xs for k in (m, 1))) * np.reshape(w, tuple(k for m in ws for k in (1, m)))
    return np.reshape(product, tuple(a * b for a, b in zip(xs, ws, strict=True)))


@stands_for(np.cross, np.linalg.cross)
def cross(x: Any, w: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    x, w = np.moveaxis(x, axisa, -1), np.moveaxis(w, axisb, -1)
    if x.shape[-1] != 3 or w.shape[-1] != 3:
        raise ValueError(f"np.cross: both need 3 components; given {x.shape[-1]} and {w.shape[-1]}")
    (a, b, c), (d, e, f) = ([v[..., k] for k in range(3)] for v in (x, w))
    return np.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=axisc)


@stands_for(np.ravel)
def ravel(x: Any, order: str = "C") -> Any:
    return reshape_(x, (-1,), order)


@stands_for(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    axes, (a, b) = list(range(x.ndim)), (normalize_axis_index(k, x.ndim) for k in (axis1, axis2))
    axes[a], axes[b] = b, a
    return np.transpose(x, axes)


@stands_for(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


@stands_for(np.moveaxis)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    return np.transpose(x, _moved(x.ndim, source, destination))


def _moved(ndim: int, source: Any, destination: Any) -> tuple[int, ...]:
    return tuple(np.moveaxis(np.empty(tuple(range(ndim))), source, destination).shape)


@stands_for(np.rollaxis)
def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    return np.transpose(x, np.rollaxis(np.empty(tuple(range(x.ndim))), axis, start).shape)


@stands_for(np.fliplr)
def fliplr(x: Any) -> Any:
    return np.flip(x, 1)


@stands_for(np.flipud)
def flipud(x: Any) -> Any:
    return np.flip(x, 0)


@stands_for(np.rot90)
def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    for _ in range(k % 4):
        x = np.flip(np.swapaxes(x, *axes), axes[0])
    return x


@stands_for(np.atleast_1d)
def atleast_1d(*xs: Any) -> Any:
    return _each(lambda x: np.reshape(x, (1,)) if x.ndim == 0 else x, xs)


@stands_for(np.atleast_2d)
def atleast_2d(*xs: Any) -> Any:
    return _each(lambda x: np.reshape(x, (1,) * (2 - x.ndim) + x.shape), xs)


@stands_for(np.atleast_3d)
def atleast_3d(*xs: Any) -> Any:
    shapes: dict[int, Any] = {0: lambda s: (1, 1, 1), 1: lambda s: (1, *s, 1), 2: lambda s: (*s, 1)}
    return _each(lambda x: np.reshape(x, shapes[x.ndim](x.shape)) if x.ndim < 3 else x, xs)


def _each(f: Any, xs: Sequence[Any]) -> Any:
    ys = tuple(f(_array(x)) for x in xs)
    return ys[0] if len(ys) == 1 else ys


@stands_for(np.vstack)
def vstack(arrays: Any) -> Any:
    return np.concatenate([np.atleast_2d(x) for x in arrays], 0)


@stands_for(np.hstack)
def hstack(arrays: Any) -> Any:
    arrays = [np.atleast_1d(x) for x in arrays]
    return np.concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@stands_for(np.dstack)
def dstack(arrays: Any) -> Any:
    return np.concatenate([np.atleast_3d(x) for x in arrays], 2)


@stands_for(np.column_stack)
def column_stack(arrays: Any) -> Any:
    arrays = [_array(x) for x in arrays]
    return np.concatenate([np.reshape(x, (-1, 1)) if x.ndim < 2 else x for x in arrays], 1)


@stands_for(np.append)
def append(x: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([np.ravel(x), np.ravel(values)]) if axis is None else np.concatenate([x, values], axis)


@stands_for(np.array_split)
def array_split(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    axis = normalize_axis_index(axis, x.ndim)
    pieces = np.array_split(np.arange(x.shape[axis]), sections)
    bounds = [(int(p[0]), int(p[-1]) + 1) if len(p) else (0, 0) for p in pieces]
    return [x[(slice(None),) * axis + (slice(*ends),)] for ends in bounds]


@stands_for(np.split)
def split(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    n = x.shape[normalize_axis_index(axis, x.ndim)]
    if isinstance(sections, int | np.integer) and n % sections:
        raise ValueError(f"np.split: axis {axis} of length {n} does not divide into {sections} equal parts")
    return list(np.array_split(x, sections, axis))


@stands_for(np.unstack)
def unstack(x: Any, *, axis: int = 0) -> tuple[Any, ...]:
    axis = normalize_axis_index(axis, x.ndim)
    return tuple(x[(slice(None),) * axis + (k,)] for k in range(x.shape[axis]))


@stands_for(np.hsplit)
def hsplit(x: Any, sections: Any) -> list[Any]:
    return list(np.split(x, sections, 0 if x.ndim == 1 else 1))


@stands_for(np.vsplit)
def vsplit(x: Any, sections: Any) -> list[Any]:
    return list(np.split(x, sections, 0))


@stands_for(np.dsplit)
def dsplit(x: Any, sections: Any) -> list[Any]:
    return list(np.split(x, sections, 2))


@stands_for(np.take)
def take(x: Any, indices: Any, axis: int | None = None, out: None = None, mode: str = "raise") -> Any:
    if axis is None:
        x, axis = np.ravel(x), 0
    picked = np.take(np.arange(x.shape[axis]), plain(indices), mode=mode)  # type: ignore[call-overload]
    return x[(slice(None),) * normalize_axis_index(axis, x.ndim) + (picked,)]


@stands_for(np.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        x, axis = np.ravel(x), 0
    index: list[Any] = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    index[axis] = plain(indices)
    return x[tuple(index)]


@stands_for(np.compress)
def compress(condition: Any, x: Any, axis: int | None = None) -> Any:
    return np.take(x, np.flatnonzero(plain(condition)), axis)


@stands_for(np.extract)
def extract(condition: Any, x: Any) -> Any:
    return np.compress(np.ravel(plain(condition)), x)


@stands_for(np.delete)
def delete(x: Any, obj: Any, axis: int | None = None) -> Any:
    n = x.size if axis is None else x.shape[axis]
    return np.take(x, np.delete(np.arange(n), plain(obj)), axis)


@stands_for(np.repeat)
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    n = x.size if axis is None else x.shape[axis]
    return np.take(x, np.repeat(np.arange(n), plain(repeats)), axis)


@stands_for(np.tile)
def tile(x: Any, reps: Any) -> Any:
    reps = tuple(np.atleast_1d(plain(reps)).tolist())
    n = max(len(reps), x.ndim)
    shape, reps = (1,) * (n - x.ndim) + x.shape, (1,) * (n - len(reps)) + reps
    rows = np.reshape(x, tuple(k for m in shape for k in (1, m)))
    rows = np.broadcast_to(rows, tuple(k for r, m in zip(reps, shape, strict=True) for k in (r, m)))
    return np.reshape(rows, tuple(r * m for r, m in zip(reps, shape, strict=True)))


@stands_for(np.pad)
def pad(x: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    width = np.empty((x.ndim, 2), int)
    width[...] = pad_width
    if mode == "constant":
        border = options.pop("constant_values", 0)
        if is_foreign(border):
            raise TypeError("np.pad: constant_values= must be plain numbers; join tensors by np.concatenate")
        padded = _pad(x, width=tuple((int(a), int(b)) for a, b in width))
        if np.any(border):
            padded = padded + np.pad(np.zeros(x.shape, x.dtype), width, constant_values=border)
    elif mode in ("edge", "reflect", "symmetric", "wrap"):
        padded = x
        for axis, ends in enumerate(width):
            padded = np.take(padded, np.pad(np.arange(x.shape[axis]), ends, mode=mode), axis)  # type: ignore[call-overload]
    else:
        raise TypeError(f"np.pad: mode={mode!r} has no rule here; use constant, edge, reflect, symmetric or wrap")
    if options:
        raise TypeError(f"np.pad: {', '.join(options)}= has no fluxion here; leave it out")
    return padded


@stands_for(np.diagonal)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = np.moveaxis(x, (axis1, axis2), (-2, -1))
    k = np.arange(len(np.diagonal(np.empty(x.shape[-2:]), offset)))
    return x[..., k + max(-offset, 0), k + max(offset, 0)]


@stands_for(np.diag)
def diag(x: Any, k: int = 0) -> Any:
    if x.ndim == 2:
        return np.diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"np.diag: x must be 1- or 2-dimensional; given shape {x.shape}")
    n, at = x.shape[0] + abs(k), np.arange(x.shape[0])
    return scatter(x, index=(at + max(-k, 0), at + max(k, 0)), shape=(n, n))


@stands_for(np.diagflat)
def diagflat(x: Any, k: int = 0) -> Any:
    return np.diag(np.ravel(x), k)


@stands_for(np.trace)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return np.sum(np.diagonal(x, offset, axis1, axis2), axis=-1)


stands_for(np.linalg.diagonal)(lambda x, *, offset=0: np.diagonal(x, offset, -2, -1))
stands_for(np.linalg.trace)(lambda x, *, offset=0: np.trace(x, offset, -2, -1))


def _below(x: Any, k: int) -> Any:
    """Where the last two axes of x lie on its k-th diagonal or below; a vector is taken for every row of a square."""
    rows, columns = (x.shape[-1], *x.shape)[-2:]
    return np.tri(rows, columns, k, dtype=bool)


@stands_for(np.tril)
def tril(x: Any, k: int = 0) -> Any:
    return np.where(_below(x, k), x, 0)


@stands_for(np.triu)
def triu(x: Any, k: int = 0) -> Any:
    return np.where(_below(x, k - 1), 0, x)


@stands_for(np.diff)
def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    x = _array(x)
    lead = (slice(None),) * normalize_axis_index(axis, x.ndim)
    edge = (*x.shape[: len(lead)], 1, *x.shape[len(lead) + 1 :])
    if prepend is not None or append is not None:
        parts = [_array(p) for p in (prepend, x, append) if p is not None]
        x = np.concatenate([p if p.ndim else np.broadcast_to(p, edge) for p in parts], axis)
    for _ in range(n):
        x = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
    return x


@stands_for(np.ediff1d)
def ediff1d(x: Any) -> Any:
    return np.diff(np.ravel(x))


@stands_for(np.gradient)
def gradient(x: Any, *spacing: float, axis: Any = None) -> Any:
    axes = _axes(axis, x.ndim)
    steps = spacing * len(axes) if len(spacing) == 1 else spacing or (1.0,) * len(axes)
    slopes = []
    for a, h in zip(axes, steps, strict=True):
        if np.ndim(h):
            raise TypeError("np.gradient: an array of coordinates has no rule here; give the spacing as a number")

        def part(i: Any, j: Any, a: int = a) -> Any:
            return x[(slice(None),) * a + (slice(i, j),)]

        ends = (part(1, 2) - part(0, 1)) / h, (part(-1, None) - part(-2, -1)) / h
        slopes.append(np.concatenate([ends[0], (part(2, None) - part(None, -2)) / (2 * h), ends[1]], a))
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


@stands_for(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    y = _array(y)
    axis = normalize_axis_index(axis, y.ndim)
    lead = (slice(None),) * axis
    width: Any = dx
    if x is not None:
        x = _array(x)
        x = x if x.ndim > 1 else np.reshape(x, (-1,) + (1,) * (y.ndim - 1 - axis))
        width = np.diff(x, axis=axis - y.ndim)
    return np.sum((y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]) / 2 * width, axis=axis)


@stands_for(np.linspace)
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True) -> Any:
    start, stop = (x if isinstance(x, int | float) else _array(x) for x in (start, stop))
    dtype = np.result_type(1.0, *(getattr(x, "dtype", x) for x in (start, stop)))
    n, k = max(num - endpoint, 1), np.arange(num).astype(dtype)
    k = np.reshape(k, (-1,) + (1,) * max(np.ndim(start), np.ndim(stop)))
    return (start * (n - k) + stop * k) / n


@stands_for(np.select)
def select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    chosen = default
    for condition, choice in zip(reversed(list(conditions)), reversed(list(choices)), strict=True):
        chosen = np.where(condition, choice, chosen)
    return chosen


@stands_for(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    p, x = _array(p), _array(x)
    y = 0 * x
    for k in range(p.shape[0]):
        y = y * x + p[k]
    return y
