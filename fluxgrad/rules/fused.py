"""The fused rows: operations that contract axes and keep what their pull needs. Each gives its pull per input,
L̇_x from L̇_y, y and the inputs; its push is the pull of the pull. The losses are fused rows too, in losses.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxgrad.rules.kinds import fused, made, ones, part, sample, stands_for
from fluxgrad.rules.linear import _array, _axes, count, spread

# ----- Extremes, spread and products along axes -----


def _extreme_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    hit = np.where(x == spread(y, x, axis, keepdims), np.ones_like(x), 0)
    return spread(g, x, axis, keepdims) * (hit / np.sum(hit, axis=axis, keepdims=True))


max_ = fused("max x", lambda x, axis=None, keepdims=False: np.max(x, axis=axis, keepdims=keepdims), _extreme_x,
             choice="ties share equally")  # fmt: skip
min_ = fused("min x", lambda x, axis=None, keepdims=False: np.min(x, axis=axis, keepdims=keepdims), _extreme_x,
             choice="ties share equally")  # fmt: skip


def _others(x: Any) -> Any:
    """For each element of the last axis the product of all the others: exact where elements are 0."""
    n = x.shape[-1]
    rest = np.where(made(np.eye, n, dtype=bool), 1, np.expand_dims(x, -2))
    return part("others", np.prod(rest, axis=-1))


def _last(reduced: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """The order of axes that puts the reduced ones last."""
    return tuple(k for k in range(ndim) if k not in reduced) + reduced


def _as_one(x: Any, axis: Any) -> Any:
    """x with its reduced axes as one, the last."""
    reduced = _axes(axis, x.ndim)
    x = np.transpose(x, _last(reduced, x.ndim))
    return np.reshape(x, (*x.shape[: x.ndim - len(reduced)], count(x, range(-len(reduced), 0))))


def _prod_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    order = _last(_axes(axis, x.ndim), x.ndim)
    rest = np.reshape(_others(_as_one(x, axis)), tuple(x.shape[k] for k in order))
    return spread(g, x, axis, keepdims) * np.transpose(rest, np.argsort(order) if order else None)


def _prod(x: Any, axis: Any = None, keepdims: bool = False) -> tuple[Any, Any]:
    y = np.prod(x, axis=axis, keepdims=keepdims)
    return y, ((x, y, axis, keepdims) if x.ndim else None)


def _prod_back(g: Any, saved: Any, room: Any) -> Any:
    x, y, axis, keepdims = saved
    m = np.abs(y)
    if (m >= np.finfo(m.dtype).tiny).all() and (m < np.inf).all():
        return spread(g * y, x, axis, keepdims) / x  # one division an element, where y is neither 0 nor out of range
    return _prod_x(g, y, x, axis, keepdims)


prod = fused("Π x", lambda x, axis=None, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims), _prod_x,
             kernel=(_prod, [_prod_back]), name="prod")  # fmt: skip


def _var(x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Any:
    return np.var(x, axis=axis, keepdims=keepdims, ddof=ddof)


def _std(x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Any:
    return np.std(x, axis=axis, keepdims=keepdims, ddof=ddof)


def _var_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Any:
    centred = x - np.mean(x, axis=axis, keepdims=True)
    return 2 * spread(g, x, axis, keepdims) * centred / (count(x, axis) - ddof)


def _std_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Any:
    return _var_x(g * 0.5 / np.where(y == 0, np.inf, y), y, x, axis, keepdims, ddof)


var = fused("var x", _var, _var_x)
std = fused("std x", _std, _std_x, choice="0 where all are equal")

# ----- Softmax and its kin -----


def _logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = part("m", np.where(np.isfinite(top), top, 0))
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, _axes(axis, x.ndim))


def _softmax(x: Any, axis: Any = -1) -> Any:
    e = part("e", np.exp(x - np.max(x, axis=axis, keepdims=True)))
    return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(x: Any, axis: Any = -1) -> Any:
    away = part("d", x - np.max(x, axis=axis, keepdims=True))
    return away - np.log(np.sum(np.exp(away), axis=axis, keepdims=True))


def _logsumexp_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    top = spread(y, x, axis, keepdims)
    return spread(g, x, axis, keepdims) * np.exp(x - np.where(np.isneginf(top), 0, top))


logsumexp = fused("logsumexp x", _logsumexp, _logsumexp_x)


def _softmax_pass(x: Any, axis: Any = -1) -> tuple[Any, Any]:
    y = _softmax(x, axis)
    return y, ((y, axis) if isinstance(axis, int) and x.ndim else None)


def _softmax_back(g: Any, saved: Any, room: Any) -> Any:
    """y·(g − Σ g·y), of g less that of the likeliest: where y is nearly 1, 1 − y would have no digits."""
    y, axis = saved
    g = g - np.take_along_axis(g, np.argmax(y, axis, keepdims=True), axis) if y.shape[axis] else g
    return y * (g - np.sum(g * y, axis=axis, keepdims=True))


softmax = fused("softmax x", _softmax, lambda g, y, x, axis=-1: y * (g - np.sum(g * y, axis=axis, keepdims=True)),
                kernel=(_softmax_pass, [_softmax_back]))  # fmt: skip
log_softmax = fused("log_softmax x", _log_softmax,
                    lambda g, y, x, axis=-1: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))  # fmt: skip

# ----- Order -----


def _sort_x(g: Any, y: Any, x: Any, axis: int = -1) -> Any:
    rank = np.argsort(np.argsort(x, axis=axis, kind="stable"), axis=axis, kind="stable")
    return np.take_along_axis(g, rank, axis)


sort_ = fused("sort x", lambda x, axis=-1: np.sort(x, axis=axis, kind="stable"), _sort_x,
              choice="a tie keeps its order")  # fmt: skip

# ----- A layer -----


def _affine(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    """One product and one addition in place; `dot` is twice as fast as `@` on small matrices."""
    if x.ndim != 2 or w.ndim != 2 or b.ndim != 1 or len(b) != len(w) or not x.dtype is w.dtype is b.dtype:
        return np.matmul(x, w.T) + b, None
    y = x.dot(w.T)
    y += b if len(b) > 1 else b.squeeze()  # to stretch a single number costs more than to add it
    return y, (x, w)


def _affine_w(g: Any, saved: Any, room: Any) -> Any:
    """Laid out as the weight is: stored (in, out)."""
    if room is not None:
        try:
            saved[0].T.dot(g, room.T)
            return room
        except ValueError:  # the room is laid out otherwise
            pass
    return saved[0].T.dot(g).T


def _rows(x: Any) -> Any:
    """All but the last axis as one."""
    return np.reshape(x, (count(x, tuple(range(x.ndim - 1))), x.shape[-1]))


affine = fused(
    "x @ wᵀ + b", lambda x, w, b: np.matmul(x, np.transpose(w)) + b,
    lambda g, y, x, w, b: np.matmul(g, w),
    lambda g, y, x, w, b: np.matmul(np.transpose(_rows(g)), _rows(x)),
    lambda g, y, x, w, b: g,
    kernel=(_affine, [lambda g, saved, room: g.dot(saved[1]), _affine_w,
                      lambda g, saved, room: ones(len(g), g.dtype).dot(g, room)]),
    name="affine",
)  # fmt: skip

# ----- Linear algebra -----


def _t(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def _solve_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    return np.linalg.solve(_t(a), g) if b.ndim > 1 else np.squeeze(np.linalg.solve(_t(a), np.expand_dims(g, -1)), -1)


def _solve_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    s = _solve_b(g, y, a, b)
    return -(s @ _t(y)) if b.ndim > 1 else -(np.expand_dims(s, -1) * np.expand_dims(y, -2))


def _scaled(g: Any, a: Any) -> Any:
    return np.expand_dims(np.expand_dims(g, -1), -1) * _t(np.linalg.inv(a))


def _pinv_x(g: Any, y: Any, a: Any) -> Any:
    """The inverse's, and what leaks from the two null spaces."""
    h, yt = _t(g), _t(y)
    return (h - a @ (y @ h)) @ y @ yt + yt @ y @ (h - (h @ y) @ a) - yt @ g @ yt


inv = fused("x⁻¹", np.linalg.inv, lambda g, y, a: -np.matmul(np.matmul(_t(y), g), _t(y)), name="inv")
pinv = fused("x⁺", np.linalg.pinv, _pinv_x, name="pinv")
det = fused("det x", np.linalg.det, lambda g, y, a: _scaled(g * y, a))
logabsdet = fused("ln |det x|", lambda a: np.linalg.slogdet(a)[1], lambda g, y, a: _scaled(g, a), name="logabsdet")
solve = fused("solve(x, w)", np.linalg.solve, _solve_a, _solve_b)


def _norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _norm_x(g: Any, y: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return spread(g / np.where(y == 0, np.inf, y), x, axis, keepdims) * x


norm = fused("‖x‖", _norm, _norm_x, name="norm", choice="0 at 0")

# ----- How they are written down -----

sample(affine, (4, 3), (2, 3), (2,))
sample(prod, (3,))
for _row in (inv, pinv, det, logabsdet):
    sample(_row, (2, 2))
sample(solve, (2, 2), (2, 3))

# ----- NumPy's functions that are built from these rows -----

stands_for(np.max, np.amax)(max_)
stands_for(np.min, np.amin)(min_)
stands_for(np.prod)(prod)


@stands_for(np.var)
def var_(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False, correction: Any = None) -> Any:
    return var(x, axis=axis, keepdims=keepdims, ddof=ddof if correction is None else correction)


@stands_for(np.std)
def std_(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False, correction: Any = None) -> Any:
    return std(x, axis=axis, keepdims=keepdims, ddof=ddof if correction is None else correction)


@stands_for(np.ptp)
def ptp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.max(x, axis=axis, keepdims=keepdims) - np.min(x, axis=axis, keepdims=keepdims)


@stands_for(np.average)
def average(x: Any, axis: Any = None, weights: Any = None, *, keepdims: bool = False) -> Any:
    if weights is None:
        return np.mean(x, axis=axis, keepdims=keepdims)
    x, weights = _array(x), _array(weights)
    if weights.shape != x.shape and axis is not None:
        reduced = _axes(axis, x.ndim)
        weights = np.reshape(weights, tuple(n if k in reduced else 1 for k, n in enumerate(x.shape)))
        weights = np.broadcast_to(weights, x.shape)
    return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)


@stands_for(np.cumprod)
def cumprod(x: Any, axis: int | None = None) -> Any:
    if axis is None:
        x, axis = np.ravel(x), 0
    x = np.moveaxis(x, axis, -1)
    so_far = np.where(np.tri(x.shape[-1], dtype=bool), np.expand_dims(x, -2), 1)
    return np.moveaxis(np.prod(so_far, axis=-1), -1, axis)


def _one_axis(x: Any, axis: int | None, name: str) -> None:
    if axis is None and x.ndim > 1:
        raise ValueError(f"np.cumulative_{name}: axis= is needed for an array of {x.ndim} dimensions")


@stands_for(np.cumulative_sum)
def cumulative_sum(x: Any, *, axis: int | None = None) -> Any:
    _one_axis(x, axis, "sum")
    return np.cumsum(x, axis=axis)


@stands_for(np.cumulative_prod)
def cumulative_prod(x: Any, *, axis: int | None = None) -> Any:
    _one_axis(x, axis, "prod")
    return np.cumprod(x, axis=axis)


@stands_for(np.sort)
def sort(x: Any, axis: int | None = -1, kind: Any = None, *, stable: Any = None) -> Any:
    return sort_(np.ravel(x), axis=0) if axis is None else sort_(x, axis=axis)


@stands_for(np.partition)
def partition(x: Any, kth: Any, axis: int | None = -1) -> Any:
    if axis is None:
        x, axis = np.ravel(x), 0
    return np.take_along_axis(x, np.argpartition(x, kth, axis), axis)


@stands_for(np.median)
def median(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    n, ordered = count(x, axis), np.sort(_as_one(x, axis), axis=-1)
    middle = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    middle = np.where(np.isnan(ordered[..., -1]), np.nan, middle)  # NaN sorts last
    return np.expand_dims(middle, _axes(axis, x.ndim)) if keepdims else middle


@stands_for(np.nansum)
def nansum(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(np.where(np.isnan(x), 0, x), axis=axis, keepdims=keepdims)


@stands_for(np.nanmean)
def nanmean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    valid = np.sum(~np.isnan(x), axis=axis, keepdims=keepdims)
    return np.nansum(x, axis=axis, keepdims=keepdims) / valid.astype(x.dtype)


@stands_for(np.nanmax)
def nanmax(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.max(np.where(np.isnan(x), -np.inf, x), axis=axis, keepdims=keepdims)


@stands_for(np.nanmin)
def nanmin(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.min(np.where(np.isnan(x), np.inf, x), axis=axis, keepdims=keepdims)


@stands_for(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return type(np.linalg.slogdet(np.eye(1)))(np.linalg.slogdet(_numbers(a))[0], logabsdet(a))


def _numbers(a: Any) -> Any:
    return a if isinstance(a, np.ndarray) else a.data


@stands_for(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a, n = np.linalg.inv(a), -n
    y = np.eye(a.shape[-1], dtype=a.dtype)
    for _ in range(n):
        y = np.matmul(y, a)
    return y if n else np.broadcast_to(y, a.shape) + 0 * a


@stands_for(np.linalg.multi_dot)
def multi_dot(arrays: Any) -> Any:
    y, *rest = arrays
    for x in rest:
        y = np.matmul(y, x)
    return y


stands_for(np.linalg.matmul)(lambda x, w: np.matmul(x, w))


@stands_for(np.linalg.vector_norm)
def vector_norm(x: Any, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    if ord == 2:
        return norm(x, axis=axis, keepdims=keepdims)
    if abs(ord) == np.inf:
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum(np.abs(np.sign(x)), axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    total = np.sum(np.power(np.abs(x), ord), axis=axis, keepdims=keepdims)
    return np.where(total == 0, 0, np.power(np.where(total == 0, 1, total), 1 / ord))  # 0 at 0, its fluxion too


@stands_for(np.linalg.norm)
def norm_(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    reduced = _axes(axis, x.ndim)
    if ord is None or (len(reduced) == 2 and ord == "fro"):
        return norm(x, axis=axis, keepdims=keepdims)
    if len(reduced) == 1 and not isinstance(ord, str):
        return np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    if len(reduced) == 2 and ord in (1, -1, np.inf, -np.inf):
        over, then = reduced if abs(ord) == 1 else reduced[::-1]
        sums = np.sum(np.abs(x), axis=over, keepdims=True)
        most = (np.max if ord > 0 else np.min)(sums, axis=then, keepdims=True)
        return most if keepdims else np.squeeze(most, reduced)
    raise TypeError(
        f"np.linalg.norm: ord={ord!r} over {len(reduced)} axes has no rule here. One axis takes a number; two take "
        f"None, 'fro', ±1 or ±inf (the others need singular values)"
    )


@stands_for(np.linalg.matrix_norm)
def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return np.linalg.norm(x, ord, (-2, -1), keepdims)
