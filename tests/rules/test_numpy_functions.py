"""`import numpy as np` differentiates: each line below is ordinary NumPy code, run on Tensors.

The value is NumPy's own for the same arrays, in shape, dtype and number; the fluxions are held against central
differences with random upstream fluxions; nothing comes back detached, and nothing as an array of objects.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.tensor import PLAIN, Tensor

_rng = np.random.default_rng(7)


def _array(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return _rng.uniform(low, high, shape)


ARRAYS: dict[str, np.ndarray] = {
    "s": _array(),
    "v": _array(4),
    "u": _array(4),
    "w3": _array(3),
    "x3": _array(3),
    "a": _array(3, 4),
    "b": _array(3, 4),
    "r": _array(4, 3),
    "c": _array(2, 3, 4),
    "d": _array(2, 4, 3),
    "q": _array(2, 3, 2, 2),
    "m": _array(3, 3) + 3 * np.eye(3),
    "n": _array(3, 3) - 3 * np.eye(3),
    "mm": _array(2, 3, 3) + 3 * np.eye(3),
    "p": _array(3, 4, low=0.5, high=2.0),
    "pv": _array(4, low=0.5, high=2.0),
    "t": _array(3, 4, low=-0.9, high=0.9),
    "z": np.array([[0.0, 1.5, 0.0], [0.5, -1.25, 2.0]]),
    "hole": np.array([[1.0, np.nan, -2.0], [np.nan, 0.5, 3.0]]),
    "one": _array(1, 3, 1),
    "cov": _array(3, 3),
}
"""What a line may name: each that it names is differentiated."""

FIXED: dict[str, Any] = {
    "np": np,
    "mask": np.array([[True, False, True, False], [False] * 4, [True, True, True, False]]),
    "vmask": np.array([True, False, True, True]),
    "rows": np.array([2, 0, 2, 2]),
    "order": np.array([[3, 0], [1, 1], [2, 0]]),
    "ints": np.arange(12).reshape(3, 4),
    "fixed": _array(3, 4),
    "cov2": _array(3, 3),
}

ONE = """
    sin cos arctan sinh cosh tanh arcsinh exp exp2 expm1 absolute abs fabs negative positive square degrees radians
    deg2rad
    rad2deg sinc sign floor ceil trunc rint real conj conjugate nan_to_num real_if_close copy
"""
POSITIVE = "sqrt cbrt log log2 log10 log1p reciprocal"
UNIT = "arcsin arccos arctanh tan"
TWO = "add subtract multiply maximum minimum fmax fmin arctan2 hypot logaddexp logaddexp2 copysign heaviside"
TWO_POSITIVE = "divide true_divide power float_power mod remainder fmod floor_divide"
REDUCTIONS = "sum mean max min prod var std amax amin ptp"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\n", " ").split(";")]


if np.lib.NumpyVersion(np.__version__) < "2.5.0":  # from there on np.fix is deprecated, and a warning is an error here
    ONE += "fix"

LINES = [
    *[f"np.{f}({x})" for f in ONE.split() for x in ("a", "s")],
    *[f"np.{f}({x})" for f in POSITIVE.split() for x in ("p", "pv")],
    *[f"np.{f}({x})" for f in UNIT.split() for x in ("t",)],
    *[
        f"np.{f}({x})"
        for f in TWO.split()
        for x in ("a, b", "a, v", "s, a", "v, 0.5", "0.5, v", "a, fixed", "fixed, a")
    ],
    *[f"np.{f}({x})" for f in TWO_POSITIVE.split() for x in ("p, pv", "pv, p", "p, 1.5", "2.5, p")],
    *_lines(
        """
        np.arccosh(p + 1); np.power(a, 3); a**2; a**2.0; p**-1.5; 2**a; p**pv; a % 1.5; np.square(a) ** 0.5; a**0;
        np.power(a, ints); -a; +a; abs(a); a + 1; 1 - a; a * 2; 2 / p; p / 2; a // 1.5; a @ v; fixed @ v; v @ fixed.T;
        a @ r; divmod(a, 1.5); np.divmod(a, 1.5); np.round(a, 1); np.around(a); np.round(a, decimals=2); abs(-a);
        np.clip(a, -1, 1); np.clip(a, v - 3, None); np.clip(a, a_min=-0.5, a_max=None); np.clip(a, None, 0.5);
        np.clip(a, b, b + 1); np.clip(a, min=-0.5, max=0.25); np.clip(fixed, a, 1.5); a.clip(-1, 1);
        np.clip(a, fixed - 1, fixed); np.where(a > 0, a, 0); np.where(mask, a, b); np.where(mask, a, s);
        np.where(mask, 0.5, v); np.where(vmask, a, b); np.where(a > b, a, fixed);
        np.select([a > 1, a > 0], [a, a * b], 0.0); np.select([mask], [a], default=s); np.where(mask, np.exp(a), -1);
        np.nan_to_num(hole); np.nan_to_num(hole, nan=1.5); np.where(np.isnan(hole), 0, hole)
        """
    ),
    # ----- reductions -----
    *[
        f"np.{f}({x})"
        for f in REDUCTIONS.split()
        for x in _lines(
            "a; a, axis=0; a, 1; c, axis=(0, -1); c, axis=(1,), keepdims=True; c, keepdims=True; c, axis=(2, 0)"
        )
    ],
    *[f"np.{f}(v)" for f in REDUCTIONS.split()],
    *_lines(
        """
        np.var(a, ddof=1); np.std(a, axis=0, ddof=1); np.std(a, 0, ddof=1, keepdims=True);
        np.var(c, axis=(0, 2), ddof=2); np.var(a, axis=1, correction=1); np.prod(z); np.prod(z, axis=0);
        np.prod(z, axis=1, keepdims=True); a.sum(); a.sum(axis=0); a.mean(axis=1, keepdims=True); a.max(0); a.min();
        a.prod(); a.var(axis=0, ddof=1); a.std(); a.sum(axis=(0, 1)); np.cumsum(a); np.cumsum(a, axis=0);
        np.cumsum(a, 1); np.cumsum(c, axis=-2); a.cumsum(1); np.cumprod(a); np.cumprod(a, axis=1);
        np.cumprod(z, axis=0); np.cumulative_sum(v); np.cumulative_sum(a, axis=1); np.cumulative_prod(a, axis=0);
        np.average(a); np.average(a, axis=0); np.average(a, weights=p); np.average(a, axis=1, weights=pv);
        np.average(a, 0, p); np.average(fixed, axis=1, weights=pv); np.average(a, axis=1, weights=pv, keepdims=True);
        np.average(a, axis=0, weights=[1, 2, 3]); np.median(a); np.median(a, axis=0);
        np.median(a, axis=1, keepdims=True); np.median(c, axis=(0, 2)); np.median(v); np.nansum(hole);
        np.nansum(hole, axis=0); np.nanmean(hole); np.nanmean(hole, axis=1); np.nanmax(hole, axis=1); np.nanmin(hole);
        np.nanmean(hole, axis=0, keepdims=True); np.nansum(a, axis=1)
        """
    ),
    # ----- products -----
    *_lines(
        """
        np.matmul(a, r); np.matmul(a, v); np.matmul(v, r); np.matmul(v, u); np.matmul(c, d); np.matmul(c, r);
        np.matmul(a, d); c @ v; v @ d; np.dot(a, r); np.dot(v, u); np.dot(a, v); np.dot(s, a); np.dot(a, 2.0);
        np.dot(c, d); np.dot(v, d); np.dot(fixed, v); np.dot(c, v); np.dot(c, r); a.dot(r); np.inner(v, u);
        np.inner(a, b); np.inner(c, v); np.inner(s, a); np.inner(a, fixed); np.outer(v, w3); np.outer(a, v);
        np.outer(v, [1.0, 2.0]); np.linalg.outer(v, w3); np.vdot(v, u); np.vdot(a, b); np.vecdot(a, b);
        np.vecdot(a, v); np.linalg.vecdot(a, b, axis=0); np.matvec(a, v); np.vecmat(v, r); np.matvec(c, v);
        np.vecmat(w3, a); np.tensordot(a, r, 1); np.tensordot(a, b); np.tensordot(a, b, 2);
        np.tensordot(c, d, ([1, 2], [2, 1])); np.tensordot(a, r, axes=0); np.tensordot(c, r, axes=([2], [0]));
        np.tensordot(c, a, axes=((-1, 1), (1, 0))); np.linalg.tensordot(a, r, axes=1); np.tensordot(v, u, 1);
        np.tensordot(fixed, r, axes=(1, 0)); np.einsum('ij,jk->ik', a, r); np.einsum('ij->j', a); np.einsum('ii', m);
        np.einsum('ii->i', m); np.einsum('ij,ij', a, b); np.einsum('i,j,k->kij', w3, v, x3);
        np.einsum('...i,...i->...', c, v); np.einsum('bij,bjk->bik', c, d); np.einsum('ij,jk', a, r, optimize=True);
        np.einsum('ij,kj->', a, fixed); np.einsum('i...->...', c); np.einsum('ij,i->', a, w3); np.kron(a, r);
        np.kron(v, w3); np.kron(a, v); np.kron(v, a); np.kron(fixed, v); np.kron(c, a); np.cross(w3, x3);
        np.cross(r, r + 1); np.cross(m, w3); np.cross(m, n, axis=0); np.cross(m, n, axisa=0, axisb=1);
        np.cross(m, n, 0, 1, 0); np.linalg.cross(m, n); np.linalg.cross(m, n, axis=0); np.linalg.matmul(a, r);
        np.linalg.multi_dot([a, r, a]); np.linalg.multi_dot((v, r, m))
        """
    ),
    # ----- shapes -----
    *_lines(
        """
        np.reshape(a, (2, 6)); np.reshape(a, -1); np.reshape(a, [6, 2]); np.reshape(a, shape=(4, 3)); a.reshape(2, 6);
        a.reshape((6, 2)); a.reshape(-1); np.ravel(a); a.ravel(); a.flatten(); np.transpose(a);
        np.transpose(c, (2, 0, 1)); np.transpose(c, axes=(1, 0, 2)); np.permute_dims(c, (2, 0, 1)); a.T; a.mT;
        c.transpose(1, 0, 2); c.transpose((1, 2, 0)); c.transpose(); np.matrix_transpose(c);
        np.linalg.matrix_transpose(c); np.swapaxes(c, 0, 2); np.swapaxes(c, -1, 0); c.swapaxes(0, 1);
        np.moveaxis(c, 0, -1); np.moveaxis(c, (0, 1), (2, 0)); np.moveaxis(c, [0, -1], [-1, 0]); np.rollaxis(c, 2);
        np.rollaxis(c, 1, 3); np.rollaxis(c, -1, 1); np.expand_dims(a, 0); np.expand_dims(a, (0, -1));
        np.expand_dims(a, axis=1); np.squeeze(one); np.squeeze(one, 0); np.squeeze(one, axis=(0, 2)); one.squeeze();
        np.atleast_1d(s); np.atleast_2d(v); np.atleast_3d(a); np.atleast_3d(v); np.atleast_2d(a, v);
        np.atleast_1d(s, v); np.atleast_3d(s); np.broadcast_to(v, (3, 4)); np.broadcast_to(s, 3);
        np.broadcast_to(one, shape=(2, 3, 4)); np.broadcast_arrays(a, v); np.concatenate([a, b]);
        np.concatenate((a, r.T), axis=1); np.concatenate([a, v], axis=None); np.concatenate([a, fixed], -1);
        np.concat([a, b], axis=0); np.stack([a, b]); np.stack((a, b), axis=-1); np.stack([s, s * 2]);
        np.stack([a, fixed], 1); np.vstack([a, v]); np.vstack((v, u)); np.hstack([v, w3]); np.hstack([a, b]);
        np.dstack([a, b]); np.dstack((v, u)); np.column_stack([v, u]); np.column_stack((a, w3)); np.append(a, v);
        np.append(a, b, axis=0); np.append(v, 1.0); np.append(a, b, 1); np.append(fixed, a); np.split(a, 3);
        np.split(a, 2, axis=1); np.split(a, [1, 3], axis=-1); np.split(v, [1]); np.array_split(v, 3);
        np.array_split(a, 2); np.array_split(a, 3, axis=1); np.array_split(a, [1, 2], axis=0); np.hsplit(a, 2);
        np.hsplit(v, 2); np.vsplit(a, 3); np.dsplit(c, 2); np.unstack(a); np.unstack(a, axis=1); np.tile(v, 3);
        np.tile(a, (2, 1)); np.tile(a, (2, 1, 1)); np.tile(c, 2); np.tile(v, np.array([2, 2])); np.tile(s, 3);
        np.repeat(a, 2); np.repeat(a, 2, axis=0); np.repeat(a, [1, 0, 2], axis=0);
        np.repeat(v, np.array([1, 2, 0, 1])); a.repeat(2, 1); np.repeat(a, 2, axis=-1); np.roll(a, 1);
        np.roll(a, -2, axis=1); np.roll(a, (1, 2), axis=(0, 1)); np.roll(a, [1, 1], [0, 1]); np.roll(a, 3, (0, 1));
        np.flip(a); np.flip(a, 0); np.flip(c, (0, -1)); np.fliplr(a); np.flipud(a); np.rot90(a); np.rot90(a, 2);
        np.rot90(a, -1); np.rot90(c, k=3, axes=(1, 2)); np.rot90(c, 1, (0, 2)); np.pad(a, 1); np.pad(a, (1, 2));
        np.pad(a, ((1, 2), (0, 1))); np.pad(a, ((1, 0),), mode='constant'); np.pad(v, 2, constant_values=1.5);
        np.pad(a, 1, 'edge'); np.pad(a, 2, mode='reflect'); np.pad(v, (1, 2), 'symmetric');
        np.pad(a, ((1, 1), (2, 0)), 'wrap'); np.pad(v, 1, constant_values=(1, 2));
        np.pad(a, 1, constant_values=((1, 2), (3, 4))); np.diag(v); np.diag(v, 1); np.diag(v, k=-2); np.diag(a);
        np.diag(a, 1); np.diag(a, -1); np.diagflat(a); np.diagflat(v, 1); np.diagonal(a); np.diagonal(c, 1, 1, 2);
        np.diagonal(c, offset=-1, axis1=0, axis2=2); np.linalg.diagonal(c); np.linalg.diagonal(c, offset=1);
        c.diagonal(0, 1, 2); np.trace(m); np.trace(a, 1); np.trace(c, 0, 1, 2);
        np.trace(c, offset=-1, axis1=0, axis2=1); np.linalg.trace(c); np.linalg.trace(c, offset=1); m.trace();
        np.tril(a); np.triu(a); np.tril(a, -1); np.triu(c, 1); np.tril(m, k=1); np.triu(v); np.tril(v); np.triu(v, 1);
        np.tril(v, -1); np.full_like(a, s); np.astype(a, np.float64); a.astype(float); a.copy()
        """
    ),
    # ----- choosing -----
    *_lines(
        """
        np.take(a, 2); np.take(a, rows); np.take(a, rows, axis=0); np.take(a, [[0, 1], [1, 1]], axis=1);
        a.take(rows, 0); np.take(a, [5, -1], mode='wrap', axis=1); np.take(a, 1, axis=-1);
        np.take_along_axis(a, order, 1); np.take_along_axis(a, order, axis=-1);
        np.take_along_axis(a, np.array([[2, 0, 1, 1]]), axis=0); np.take_along_axis(a, np.array([[1], [0], [3]]), 1);
        np.take_along_axis(a, np.array([[2, 0]]), axis=1); np.take_along_axis(a, rows, None);
        np.take_along_axis(a, np.argsort(a, axis=0), axis=0); np.take_along_axis(c, np.array([[[1], [0], [3]]]), 2);
        np.compress(vmask, a, axis=1); np.compress([True, False, True], a, 0); np.compress(vmask, a);
        np.extract(mask, a); np.extract(a > 0, a); np.delete(a, 1, axis=0); np.delete(a, [0, 2], 1); np.delete(a, 3);
        np.delete(a, slice(0, 2), axis=1); np.insert(v, 1, 5.0); np.choose(np.array([0, 1, 0, 1]), [v, u]); np.sort(a);
        np.sort(a, axis=0); np.sort(a, axis=None); np.sort(a, 0); np.sort(a, kind='stable'); np.partition(v, 2);
        np.partition(a, 1, axis=0); np.partition(a, 1); np.diff(v); np.diff(a); np.diff(a, axis=0); np.diff(a, 2);
        np.diff(a, n=2, axis=1); np.diff(v, prepend=0.0); np.diff(v, append=u); np.diff(a, prepend=b, axis=0);
        np.diff(v, 0); np.ediff1d(a); np.gradient(v); np.gradient(v, 0.5); np.gradient(a); np.gradient(a, axis=1);
        np.gradient(a, 2.0, 3.0); np.gradient(a, 0.5, axis=(0, 1)); np.gradient(a, axis=(1,)); np.trapezoid(v);
        np.trapezoid(a, dx=0.5); np.trapezoid(a, axis=0); np.trapezoid(v, u); np.trapezoid(a, x=w3, axis=0);
        np.trapezoid(a, b); np.trapezoid(fixed, v); np.trapezoid(a, [0, 1, 3, 4]); np.linspace(s, 2.0, 5);
        np.linspace(v, u, 4); np.linspace(0, s, num=3, endpoint=False); np.linspace(v, 1.0, 3); np.polyval(v, s);
        np.polyval(v, a); np.polyval([1.0, 2.0, 3.0], a); np.polyval(v, [0.5, 1.5]);
        np.interp(0.5, [0.0, 1.0], [1.0, 2.0]) * s; np.convolve(v, w3); np.correlate(v, w3)
        """
    ),
    # ----- linear algebra -----
    *_lines(
        """
        np.linalg.norm(v); np.linalg.norm(a); np.linalg.norm(c); np.linalg.norm(a, axis=0); np.linalg.norm(a, None, 1);
        np.linalg.norm(a, axis=1, keepdims=True); np.linalg.norm(a, 'fro'); np.linalg.norm(a, 'fro', (0, 1), True);
        np.linalg.norm(c, axis=(1, 2)); np.linalg.norm(c, 'fro', axis=(0, -1)); np.linalg.norm(v, 1);
        np.linalg.norm(v, 2); np.linalg.norm(v, 3); np.linalg.norm(v, np.inf); np.linalg.norm(v, -np.inf);
        np.linalg.norm(a, 2, axis=1); np.linalg.norm(a, 2.5, axis=0); np.linalg.norm(a, ord=1, axis=0);
        np.linalg.norm(v, 0); np.linalg.norm(v, -1); np.linalg.norm(p, -2, axis=1); np.linalg.norm(a, 1);
        np.linalg.norm(a, -1); np.linalg.norm(a, np.inf); np.linalg.norm(a, -np.inf);
        np.linalg.norm(c, 1, axis=(2, 0)); np.linalg.norm(c, np.inf, (1, 2), True); np.linalg.norm(a, axis=(0,));
        np.linalg.vector_norm(a); np.linalg.vector_norm(a, axis=1); np.linalg.vector_norm(a, axis=(0, 1), ord=3);
        np.linalg.vector_norm(a, ord=1); np.linalg.vector_norm(c, axis=(0, 2), keepdims=True, ord=np.inf);
        np.linalg.vector_norm(v, ord=-np.inf); np.linalg.vector_norm(c, axis=1, ord=2); np.linalg.matrix_norm(c);
        np.linalg.matrix_norm(a, ord=1); np.linalg.matrix_norm(c, keepdims=True, ord=np.inf); np.linalg.inv(m);
        np.linalg.inv(mm); np.linalg.det(m); np.linalg.det(mm); np.linalg.slogdet(m)[1]; np.linalg.slogdet(mm)[1];
        np.linalg.slogdet(m).logabsdet; np.linalg.solve(m, w3); np.linalg.solve(m, r.T[:3]); np.linalg.solve(mm, w3);
        np.linalg.solve(mm, d.swapaxes(1, 2)[:, :, :3]); np.linalg.solve(m, np.ones(3)); np.linalg.solve(cov2, w3);
        np.linalg.solve(mm, m); np.linalg.pinv(a); np.linalg.pinv(r); np.linalg.pinv(c); np.linalg.matrix_power(m, 3);
        np.linalg.matrix_power(m, -2); np.linalg.matrix_power(mm, 1); np.trace(np.linalg.inv(m) @ n);
        np.linalg.norm(a - b)
        """
    ),
    # ----- indexing -----
    *_lines(
        """
        a[0]; a[-1]; a[1, 2]; a[1:]; a[:, 1]; a[::-1, ::2]; a[..., 0]; c[..., 1, :]; a[None]; a[:, None, 1:3];
        a[np.newaxis, ..., np.newaxis]; s[()]; s[None]; s[...]; v[[0, 2, 2, 0]]; a[rows]; a[[0, 0], [1, 1]];
        a[[[0, 1], [1, 1]]]; a[:, rows]; a[rows, 1:]; a[1, rows]; c[:, [0, 0], 1:]; c[[0, 1], :, [2, 2]];
        c[0, [0, 0], 1]; c[[1, 1], [0, 0], [2, 2]]; a[mask]; a[:, vmask]; a[[True, False, True]]; a[a > 0]; c[:, mask];
        c[1, mask]; a[np.ix_([0, 2], [1, 1, 3])]; a[[]]; a[2:1]; v[np.array(1)]; a[np.int64(1)]; a[1][2];
        a[np.argmax(a, axis=0), np.arange(4)]; a[:, ::-1][0]; c[..., [0, 1, 0]]; a[slice(None), 1]; list(a);
        [row * 2 for row in a]; a[-1:, -2:]; c[:, -1]; a[np.array([], int)]; a[np.array([-1, -1, 0])]; v[v > 5]
        """
    ),
    # ----- what NumPy lacks, and whole programs -----
    *_lines(
        """
        fg.relu(a); fg.sigmoid(a); fg.softplus(a); fg.gelu(a); fg.softmax(a); fg.softmax(a, axis=0);
        fg.log_softmax(a, -1); fg.logsumexp(a); fg.logsumexp(a, axis=1); fg.logsumexp(c, axis=(0, 1), keepdims=True);
        np.tanh(a @ r + w3).sum(); np.mean((np.exp(-a) * b) ** 2, axis=0); np.sqrt(np.sum(np.square(a - v), axis=-1));
        np.sum(np.where(a > 0, np.log1p(np.abs(a)), b))
        """
    ),
]

OWN = {  # what NumPy lacks, spelled for arrays by other means
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "gelu": lambda x: x / (1 + np.exp(-2 * float(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3))),
    "softmax": lambda x, axis=-1: np.exp(x) / np.exp(x).sum(axis, keepdims=True),
    "log_softmax": lambda x, axis=-1: np.log(np.exp(x) / np.exp(x).sum(axis, keepdims=True)),
    "logsumexp": lambda x, axis=None, keepdims=False: np.log(np.exp(x).sum(axis, keepdims=keepdims)),
}

# Functions that HIPS autograd does not differentiate either: a refusal by name is enough.
REFUSED = ("np.insert", "np.choose", "np.convolve", "np.correlate")


class Plainly:
    """`fg.relu(a)` of an array, in NumPy."""

    def __getattr__(self, name: str) -> Any:
        return OWN[name]


def read(line: str) -> tuple[list[str], Any, Any]:
    """The names that a line differentiates, the line as a function of them on tensors, and on arrays."""
    code = compile(line, line, "eval")
    names = [n for n in ARRAYS if n in code.co_names or f"{n}[" in line or f" {n} " in f" {line} "]
    names = [n for n in names if n in code.co_names]

    def run(fg_: Any) -> Any:
        return eval(f"lambda {', '.join(names)}: {line}", {**FIXED, "fg": fg_})

    return names, run(fg), run(Plainly())


def leaves(y: Any) -> list[Any]:
    """One result, or the results, of a function that gives several."""
    return [part for each in y for part in leaves(each)] if isinstance(y, list | tuple) else [y]


def built(y: Any, parts: list[Any]) -> Any:
    return type(y)(parts) if isinstance(y, list | tuple) else parts[0]


def dot(a: Any, b: Any) -> float:
    return float(sum(np.sum(np.asarray(x) * y) for x, y in zip(leaves(a), b, strict=True)))


@pytest.mark.parametrize("line", [x for x in LINES if not x.startswith(REFUSED)])
def test_differentiates(line: str):
    names, ours, numpys = read(line)
    arrays = [ARRAYS[n] for n in names]
    expected = numpys(*arrays)
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    found = ours(*tensors)
    assert type(found) in (Tensor, type(expected)), f"{type(found)} where NumPy gives {type(expected)}"
    assert len(leaves(found)) == len(leaves(expected))
    for y, theirs in zip(leaves(found), leaves(expected), strict=True):
        theirs = np.asarray(theirs)
        assert isinstance(y, Tensor) and y.requires_grad, f"detached: {y!r}"
        assert y.shape == theirs.shape and y.dtype == theirs.dtype, (
            f"{y.dtype} {y.shape}, NumPy {theirs.dtype} {theirs.shape}"
        )
        np.testing.assert_allclose(y.numpy(), theirs, rtol=1e-12, atol=1e-12)

    rng = np.random.default_rng(len(line))
    value, pull = fg.vjp(ours, *arrays)
    gs = [rng.normal(size=np.shape(y)) for y in leaves(value)]
    fluxions = pull(built(value, gs))
    vs = [rng.normal(size=x.shape) for x in arrays]
    for x, c in zip(arrays, fluxions, strict=True):
        assert type(c) is np.ndarray and c.shape == x.shape and c.dtype == x.dtype
    h = 1e-5
    ends = [dot(numpys(*(x + k * h * v for x, v in zip(arrays, vs, strict=True))), gs) for k in (1, -1, 2, -2)]
    quotient = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * h)
    pulled = float(sum(np.sum(c * v) for c, v in zip(fluxions, vs, strict=True) if np.all(np.isfinite(c))))
    pushed = dot(fg.jvp(ours, arrays, vs)[1], gs)
    if "hole" in names:
        quotient = pushed  # a difference through NaN is NaN; the rules' own samples hold these
    assert np.isclose(pulled, quotient, rtol=1e-6, atol=1e-6), (
        f"{line}: {pulled} by the rule, {quotient} by differences"
    )
    assert np.isclose(pulled, pushed, rtol=1e-9, atol=1e-9), f"{line}: {pulled} pulled, {pushed} pushed"


@pytest.mark.parametrize("line", [x for x in LINES if not x.startswith(REFUSED)])
def test_float32_stays(line: str):
    """NumPy's own dtype for float32 operands, and a float32 fluxion for each."""
    if "fixed" in line or "astype" in line or "cov2" in line or "np.ones" in line:
        return
    names, ours, numpys = read(line)
    arrays = [ARRAYS[n].astype(np.float32) for n in names]
    expected = [np.asarray(y) for y in leaves(numpys(*arrays))]
    value, pull = fg.vjp(ours, *arrays)
    assert [y.dtype for y in leaves(value)] == [y.dtype for y in expected]
    gs = [np.ones_like(y) for y in leaves(value)]
    fluxions = pull(built(value, gs))
    assert {c.dtype for c in fluxions} == {np.dtype(np.float32)}


@pytest.mark.parametrize("line", [x for x in LINES if x.startswith(REFUSED)])
def test_refused_by_name(line: str):
    names, ours, _ = read(line)
    with pytest.raises(TypeError, match=line.split("(")[0].replace(".", r"\.") + " has no rule"):
        ours(*(Tensor(ARRAYS[n], requires_grad=True) for n in names))


# ----- Every public function of NumPy -----


def _functions() -> Iterator[tuple[str, Any]]:
    for where, module in (("np", np), ("np.linalg", np.linalg)):
        for name in sorted(module.__all__):
            f = getattr(module, name)
            if callable(f) and not isinstance(f, type) and f"{where}.{name}" not in NOT_ASKED:
                yield f"{where}.{name}", f


NOT_ASKED = {
    "np.test",
    "np.info",
    "np.show_config",
    "np.show_runtime",
    "np.get_include",
    "np.seterrcall",
    "np.setbufsize",
    "np.printoptions",
    "np.linalg.test",
    "np.empty",
}
"""They print, change NumPy's settings, or give what the memory held."""

NO_OPERANDS = _lines(
    """
    np.arange; np.array_equal; np.bartlett; np.base_repr; np.binary_repr; np.blackman; np.bmat; np.broadcast_shapes;
    np.diag_indices; np.eye; np.format_float_positional; np.format_float_scientific; np.frombuffer; np.fromfile;
    np.fromfunction; np.fromiter; np.frompyfunc; np.fromregex; np.fromstring; np.full; np.genfromtxt; np.getbufsize;
    np.geterr; np.geterrcall; np.get_printoptions; np.hamming; np.hanning; np.identity; np.indices; np.isdtype;
    np.isscalar; np.issubdtype; np.iterable; np.kaiser; np.load; np.loadtxt; np.mask_indices; np.mintypecode;
    np.nested_iters; np.ones; np.promote_types; np.set_printoptions; np.seterr; np.tri; np.tril_indices;
    np.triu_indices; np.typename; np.zeros
    """
)
"""They make arrays of a size, read files, look at types: a tensor has no business in them."""

SQUARE = np.array([[2.0, 0.5, 0.25], [0.5, 3.0, -0.5], [0.25, -0.5, 4.0]])
CALLS = [
    eval(f"lambda t, u: ({arguments})", {"np": np})
    for arguments in _lines(
        """
        t,; t, u; t, 1; [t, u],; t, 1, 1; t, u, 1; "ij,jk", t, u; t, (3, 3); 1, t; (3, 3), t; t, t, t; t > 0, t;
        t > 0, [t, u];
        t, np.ones((3, 3), int); t, np.zeros((3, 3), int), 0; t, -1, 0; [t > 0], [t]; (lambda x: x), 0, t;
        np.sum, t, (0,);
        t, t > 0, t; t, (3, 3), 1; t, np.zeros((3, 3), int), t; t[0],; t[0], u[0]; t[0], t[0], t[0]; t, float;
        np.ones((3, 3)), t; np.ones((3, 3)), t > 0, t; np.zeros((3, 3), int), [t, u, t]; t[0, 0],; t[0, 0], u[0, 0];
        np.arange(3), t; t, [t > 0], [0.0]; np.arange(3), t[0]; t[0], np.arange(3.0), t[0]
        """
    )
]
"""Arguments that every function is tried with."""


def _parts(y: Any) -> list[Any]:
    return [part for part in leaves(y) if isinstance(part, Tensor | np.ndarray | np.generic | float)]


@pytest.mark.parametrize(("name", "f"), list(_functions()), ids=lambda x: x if isinstance(x, str) else "")
def test_no_function_of_numpy_detaches(name: str, f: Any, tmp_path: Any, monkeypatch: Any):
    """On a tensor that requires grad it gives a connected result, or a plain one that stands still when it moves,
    or is one of the documented functions that only look, or raises a TypeError that names it. Never an object array."""
    monkeypatch.chdir(tmp_path)
    outcomes = set()
    for k, arguments in enumerate(CALLS):

        def call(step: float, arguments: Any = arguments) -> Any:
            moved = [
                SQUARE + step * np.cos(np.arange(9)).reshape(3, 3),
                SQUARE * 2 + step * np.sin(np.arange(9)).reshape(3, 3),
            ]
            return f(*arguments(*(Tensor(x, requires_grad=True) for x in moved)))

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                y, after = call(0.0), call(1e-3)
        except TypeError as error:
            told, bare = str(error), name.split(".")[-1]
            if "has no rule" in told or "requires grad" in told or f"np.{bare}" in told or f"{f.__name__}" in told:
                outcomes.add("told")
            continue
        except Exception:
            continue  # NumPy's own, about its arguments
        for part, then in zip(_parts(y), _parts(after), strict=True):
            if np.asarray(0 if isinstance(part, Tensor) else part).dtype == object:
                theirs = f(*arguments(SQUARE, SQUARE))  # NumPy itself takes a type for an object
                assert any(np.asarray(z).dtype == object for z in _parts(theirs)), (
                    f"{name}, call {k}: an array of objects"
                )
                continue
            if isinstance(part, Tensor):
                assert part.requires_grad or not np.any(part.data != then.data), f"{name}, call {k}: a detached Tensor"
                outcomes.add("connected")
                continue
            stands = np.asarray(part).dtype.kind == "U" or np.array_equal(part, then, equal_nan=True)
            assert stands or f in PLAIN, f"{name}, call {k}: a detached {type(part).__name__}: {part!r}, then {then!r}"
            outcomes.add("plain" if f in PLAIN else "steady")
        if f in PLAIN:
            outcomes.add("plain")
    if name not in NO_OPERANDS:
        assert outcomes & {"connected", "plain", "told"}, f"{name}: no call reached it ({outcomes})"


def test_plain_functions_give_plain_arrays():
    t = Tensor(SQUARE, requires_grad=True)
    for f in PLAIN:
        if isinstance(f, np.ufunc):
            y = f(*[t] * f.nin)
            assert type(y) in (np.ndarray, np.bool_) and y.dtype == bool
    assert type(np.argsort(t)) is np.ndarray and np.shape(t) == (3, 3) and np.ndim(t) == 2 and np.size(t) == 9
    assert type(np.zeros_like(t)) is np.ndarray


def test_every_built_function_takes_what_numpy_takes():
    """The names of the parameters that we take are NumPy's, so that a keyword works as NumPy spells it."""
    from fluxgrad.rules.kinds import Row, implementations

    ours_only = set()
    for function, rule in implementations.items():
        if isinstance(function, np.ufunc):
            continue
        try:
            theirs = set(inspect.signature(function).parameters)
        except ValueError:
            continue
        if isinstance(rule, Row):
            mine = set(rule.options)
        else:
            mine = {
                p.name
                for p in inspect.signature(rule).parameters.values()
                if p.kind is p.KEYWORD_ONLY or p.default is not p.empty
            }
        if "kwargs" not in theirs and not mine <= theirs:
            ours_only.add((function.__name__, *sorted(mine - theirs)))
    assert ours_only == {("where", "w"), ("cross", "axisa", "axisb", "axisc")} | ({("reshape", "newshape")} & ours_only)


OUT_OF_RANGE = _lines(
    """
    np.sum(a, axis=2); np.max(a, axis=-3); np.prod(a, axis=5); np.diff(a, axis=4); np.median(a, axis=4);
    np.split(a, 2, axis=5);
    np.swapaxes(a, 0, 5); np.tensordot(a, a, axes=((5,), (0,))); np.unstack(a, axis=4); np.take(a, [0], axis=2);
    np.moveaxis(a, 0, 5); np.trapezoid(a, axis=3); np.repeat(a, 2, axis=3); np.sort(a, axis=5); np.average(a, axis=4);
    np.gradient(a, axis=4); np.array_split(a, 2, axis=-3); np.linalg.norm(a, axis=4); np.flip(a, 4);
    np.roll(a, 1, axis=5);
    np.take_along_axis(a, order, axis=3); np.delete(a, 0, axis=4); np.cumprod(a, axis=2)
    """
)


@pytest.mark.parametrize("line", OUT_OF_RANGE)
def test_an_axis_out_of_range_is_an_error(line: str):
    """Never another axis, taken silently."""
    names, ours, numpys = read(line)
    arrays = [ARRAYS[n] for n in names]
    with pytest.raises((ValueError, IndexError)):
        numpys(*arrays)
    with pytest.raises((ValueError, IndexError)):
        ours(*(Tensor(x, requires_grad=True) for x in arrays))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("np.where(mask, a)", "both x and y"),
        ("np.diag(c)", "1- or 2-dimensional"),
        ("np.cumulative_sum(a)", "axis="),
        ("np.split(v, 3)", "3 equal parts"),
        ("np.cross(v, u)", "3 components"),
        ("np.linalg.norm(a, 'nuc')", "singular values"),
        ("np.linalg.norm(a, 2)", "singular values"),
        ("np.linalg.norm(c, 3)", "over 3 axes"),
        ("np.pad(a, 1, constant_values=s)", "constant_values"),
        ("np.pad(a, 1, mode='linear_ramp')", "linear_ramp"),
        ("np.reshape(a, (2, 6), order='F')", "order"),
        ("np.einsum(a, [0, 1], [1])", "subscripts"),
        ("np.gradient(v, np.arange(4.0))", "spacing"),
        ("np.sum(a, dtype=np.float32)", "dtype"),
        ("np.sum(a, where=mask)", "where"),
        ("np.max(a, initial=0.0)", "initial"),
        ("np.var(a, where=mask)", "where"),
        ("np.exp(a, where=mask)", "where"),
        ("np.add.reduce(a)", "np.sum"),
        ("np.exp(a, out=fixed)", "out"),
        ("np.sum([v, u], axis=0)", "np.stack"),
        ("np.array([v, u])", "np.stack"),
    ],
)
def test_refusals_say_why(line: str, told: str):
    names, ours, _ = read(line)
    with pytest.raises((TypeError, ValueError), match=told):
        ours(*(Tensor(ARRAYS[n], requires_grad=True) for n in names))
