"""How many digits of a loss, and of its gradient, are right: fluxgrad and its peers, held against mpmath.

    python benchmarks/digits.py
    python benchmarks/digits.py --write

The truth has 80 digits and formulas of its own, in which nothing cancels. An error is counted in ULP, units in the last
place of the true number: 0.5 is as good as rounding can be, 2²⁴ (float32) or 2⁵³ (float64) means that no digit is right.
A peer that is not installed is left out, and the last lines say so. `--write` puts the table into docs/digits.md.
"""

import argparse
import importlib
import importlib.metadata
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

import fluxgrad as fg

mp = mpmath.MPContext()  # ours alone
mp.dps = 80  # logits of 1e30 and 1e-8 side by side take 38 of them, a divergence of nearly equal rows 40

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
REGRESSION = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")


# --- truths: lists of mpf, and for what is a difference the size of what was subtracted


class Truth:
    """Exact numbers as two floats each, high + low; `size`: an error counts in ULP of it, where it is given."""

    def __init__(self, numbers: Any, size: Any = None) -> None:
        numbers = np.asarray(numbers, dtype=object)
        self.high = np.array([rounded(x) for x in numbers.flat]).reshape(numbers.shape)
        pairs = zip(numbers.flat, self.high.flat, strict=True)
        low = [rounded(x - mp.mpf(h)) if math.isfinite(h) else 0.0 for x, h in pairs]
        self.low = np.array(low).reshape(numbers.shape)
        self.size = None
        if size is not None:
            size = np.asarray(size, dtype=object)
            self.size = np.array([rounded(x) for x in size.flat]).reshape(size.shape)


def rounded(x: Any) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf


def ulps(ours: Any, truth: Truth, dtype: Any) -> Any:
    """The error in ULP of each number; infinite for NaN, for ∞ where the truth is finite, and the other way round."""
    kind = np.finfo(dtype)
    with np.errstate(all="ignore"):
        size = np.abs(truth.high if truth.size is None else truth.size)
        unit = np.spacing(np.maximum(size, kind.tiny).astype(dtype)).astype(float)
        small = size < kind.tiny
        unit = np.where(small, float(kind.smallest_subnormal), unit)
        error = np.abs((np.asarray(ours, float) - truth.high) - truth.low) / unit
        beyond = np.abs(truth.high) > float(kind.max)
        same = np.asarray(ours, float) == np.where(beyond, np.copysign(math.inf, truth.high), truth.high)
    return np.where(same & (beyond | (truth.low == 0)), 0.0, np.where(np.isnan(error), math.inf, error))


@dataclass
class Score:
    """The largest error, and how often the answer was 0, or was not finite, or negative, where the truth is not."""

    ulp: float = 0.0
    zeros: int = 0
    failed: int = 0
    negative: int = 0

    def add(self, ours: Any, truth: Truth, dtype: Any, logit: float = 1.0, never_negative: bool = False) -> None:
        ours = np.asarray(ours)
        kind = np.finfo(dtype)
        size = np.abs(truth.high)
        finite = size <= float(kind.max)
        bad = ~np.isfinite(ours) & finite
        normal = (
            finite & ~bad & ((size >= float(kind.tiny)) | (truth.high == 0))
        )  # (some flush what is smaller, by intent)
        error = np.where(normal, ulps(ours, truth, dtype), 0.0) / logit
        self.ulp = max(self.ulp, float(np.max(error, initial=0.0)))
        self.zeros += int(np.sum(normal & (ours == 0) & (truth.high != 0) & (error > 1)))
        self.failed += int(np.sum(bad))
        if never_negative:
            self.negative += int(np.sum(finite & (ours < 0)))

    def __str__(self) -> str:
        told = [f"{n}×{what}" for n, what in ((self.zeros, "fz"), (self.failed, "nf"), (self.negative, "neg")) if n]
        return " ".join([short(self.ulp), *told])


def short(x: float) -> str:
    if x < 999.5:
        return f"{x:.1f}" if x < 99.5 else f"{x:.0f}"
    mantissa, _, exponent = f"{x:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if math.isfinite(x) else "∞"


@dataclass
class Batch:
    """Arguments of one call, and the truth of each example and of what goes to the first argument."""

    args: tuple[Any, ...]
    value: Truth
    grad: Truth
    options: dict[str, Any] = field(default_factory=dict)
    logit: float = 1.0  # errors count for a logit of this size


# --- the definitions again, in mpmath, so that no term is lost: 1 − p is never computed


def numbers(x: Any) -> Any:
    return np.frompyfunc(lambda v: v if isinstance(v, mp.mpf) else mp.mpf(float(v)), 1, 1)(np.asarray(x))


def halves(s: Any) -> tuple[Any, Any, Any]:
    """σ(s), σ(−s) and −ln σ(s)."""
    t = mp.exp(-abs(s))
    larger = 1 / (1 + t)
    p, q = (larger, t * larger) if s >= 0 else (t * larger, larger)
    return p, q, max(-s, 0) + mp.log1p(t)


def power(q: Any, gamma: float) -> Any:
    return mp.mpf(1) if gamma == 0 else mp.sqrt(q) if gamma == 0.5 else mp.power(q, gamma)


def times(a: Any, b: Any) -> Any:
    """A product in which 0 · ∞ is 0."""
    return mp.mpf(0) if a == 0 or b == 0 else a * b


class Row:
    """The softmax of one row of logits: p and −ln p of each class, 1 − p as the sum of the others. Masked classes have 0."""

    def __init__(self, z: Any) -> None:
        z = numbers(z)
        m = max(z)
        top = int(np.argmax(z == m))
        e = [mp.exp(x - m) if x > -mp.inf else mp.mpf(0) for x in z]
        R = mp.fsum(x for j, x in enumerate(e) if j != top)
        S = 1 + R
        self.p = [x / S for x in e]
        self.c = [(m - x) + mp.log1p(R) for x in z]
        self.q = [(R if j == top else S - x) / S for j, x in enumerate(e)]  # (S − x is no less than 1)

    def label(self, t: int) -> tuple[Any, Any]:
        return self.c[t], [-self.q[t] if j == t else x for j, x in enumerate(self.p)]

    def focal(self, t: int, gamma: float) -> tuple[Any, Any]:
        q, p, c = self.q[t], self.p[t], self.c[t]
        w = power(q, gamma) * (q + gamma * times(p, c))
        return times(power(q, gamma), c), [-w if j == t else times(w, x / q if q else 0) for j, x in enumerate(self.p)]

    def soft(self, y: Any) -> tuple[Any, Any, Any]:
        total = mp.fsum(y)
        value = mp.fsum(times(a, c) for a, c in zip(y, self.c, strict=True))
        pairs = [(total * p, a) for p, a in zip(self.p, y, strict=True)]
        return value, [p - a for p, a in pairs], [max(p, a) for p, a in pairs]


def divergence(z: Any, w: Any) -> tuple[Any, Any, Any]:
    """KL of the teacher's w from the student's z: Σ p (u + exp(−u) − 1) with u = ln p − ln q."""
    student, teacher = Row(z), Row(w)
    value, grad, size = mp.mpf(0), [], []
    for p, q, cp, cq in zip(teacher.p, student.p, teacher.c, student.c, strict=True):
        u = cq - cp if p and q else None
        value += (q if q else mp.mpf(0)) if not p else mp.inf if u is None else p * (u + mp.expm1(-u))
        grad.append(q - p if u is None else p * mp.expm1(-u))
        size.append(max(p, q))
    return value, grad, size


# --- the grid


def distances(dtype: Any, small: bool) -> Any:
    """Logits of two classes."""
    far = [0, 1e-30, 87, 88.5, 95, 103, 150, 300, 500, 708, 720, 745, 1e3, 1e6, 1e30]
    z = np.concatenate([np.logspace(-8, 4, 13 if small else 61), far])
    return np.unique(np.concatenate([-z, z]).astype(dtype))


def table_rows(dtype: Any, small: bool) -> Iterator[Any]:
    """Logits of many classes, a table of rows of each kind and number of classes."""
    rng = np.random.default_rng(0)
    for K, n in ((2, 3), (3, 2), (10, 3), (100, 2), (1000, 1)):
        few = 1 if small else n
        quick = small and K > 10
        rows: list[Any] = []
        for scale in (1.0, 30.0) if quick else (1e-8, 1e-3, 1.0, 30.0, 1e3, 1e4):
            rows += list(rng.normal(size=(few, K)) * scale)
        rows += list(np.exp(rng.uniform(-18, 9, (few, K))) * rng.choice([-1, 1], (few, K)))
        for margin in (3, 17, 40, 87, 100, 300, 700, 1e4):
            rows += [
                row + margin * (np.arange(K) == rng.integers(K)) for row in rng.normal(size=(1 if K > 10 else few, K))
            ]
        for offset in (1e2, 1e5, 1e8):
            rows.append(rng.normal(size=K) + offset)
        huge = rng.normal(size=K)
        huge[rng.integers(K)] = 1e30
        rows += [huge] if quick else [huge, -huge, np.zeros(K), np.full(K, -1e30)]
        if K > 2:
            masked = rng.normal(size=(few, K)) * 5
            masked[:, rng.permutation(K)[: K // 2]] = -np.inf
            rows += list(masked)
            alone = np.full(K, -np.inf)
            alone[rng.integers(K)] = rng.normal()
            rows += [] if quick else [alone]
        yield np.array(rows).astype(dtype)


@cache
def with_labels(dtype: Any, small: bool) -> list[tuple[Any, Any, list[Row]]]:
    """Each row with its likeliest class, its least likely that is not masked, and another as labels."""
    rng, found = np.random.default_rng(1), []
    for z in table_rows(dtype, small):
        truths = [Row(row) for row in z]
        least = np.argmin(np.where(np.isneginf(z), np.inf, z), axis=1)
        other = np.array([rng.choice(np.flatnonzero(row > -np.inf)) for row in z])
        labels = [np.argmax(z, axis=1), least, other]
        found.append((np.concatenate([z] * 3), np.concatenate(labels), truths * 3))
    return found


def pairs(dtype: Any, small: bool, kind: str) -> Iterator[tuple[Any, Any]]:
    """Logits of a student and a teacher."""
    rng = np.random.default_rng(2)
    for K in (2, 3, 10, 100) if small else (2, 3, 10, 100, 1000):
        n = 1 if K > 100 else 2
        z: list[Any] = []
        w: list[Any] = []
        if kind == "apart":
            for scale in (1e-8, 1e-3, 1.0, 5.0, 30.0):
                z += list(rng.normal(size=(n, K)) * scale)
                w += list(rng.normal(size=(n, K)) * scale)
        elif kind == "near":
            for scale in (1.0, 10.0):
                for step in (1e-1, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15):
                    z += list(rng.normal(size=(n, K)) * scale)
                    w += [row + step * rng.normal(size=K) for row in z[-n:]]
            z.append(z[-1])
            w.append(z[-1])
        elif kind == "confident":
            for a, b in (
                (20, 25),
                (40, 39),
                (80, 60),
                (200, 100),
                (300, 500),
                (700, 650),
                (1e4, 30),
                (1e30, 20),
                (20, 1e30),
            ):
                one = np.arange(K) == rng.integers(K)
                z.append(rng.normal(size=K) + a * one)
                w.append(rng.normal(size=K) + b * one)
            for a, b in ((10, 10.5), (20, 20.5), (50, 50.5), (1e30, 1e30)):  # sure of different classes
                z.append(rng.normal(size=K) + a * (np.arange(K) == 0))
                w.append(rng.normal(size=K) + b * (np.arange(K) == 1))
        elif kind == "masked" and K > 2:
            for both in (True, True, False):
                a, b = rng.normal(size=(2, K)) * 3
                off = rng.permutation(K)[: max(K // 3, 1)]
                b[off] = -np.inf
                if both:
                    a[off] = -np.inf
                z.append(a)
                w.append(b)
        if z:
            yield np.array(z).astype(dtype), np.array(w).astype(dtype)


def targets(z: Any) -> Any:
    """Probabilities for rows of logits, by turns: any, one class alone, a few classes; none at a masked class."""
    rng = np.random.default_rng(3)
    y = rng.random(z.shape) ** 3
    y[1::3] = np.eye(z.shape[1])[rng.integers(z.shape[1], size=len(z))][1::3]
    y[2::3] *= rng.random(y[2::3].shape) < 0.3
    y[np.isneginf(z)] = 0
    total = y.sum(axis=1, keepdims=True)
    return (y / np.where(total == 0, 1, total)).astype(z.dtype)


def residuals(dtype: Any, small: bool, most: float = 1e30) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    r = np.concatenate([np.logspace(-10, 4, 15 if small else 71), [0, 0.1, 1, 10, 1e6, 1e18, 1e30]])
    r = np.concatenate([r, -r])[np.concatenate([r, r]) <= most]
    t = np.where(rng.random(r.shape) < 0.5, 0, rng.normal(size=r.shape)).astype(dtype)
    return (r + t).astype(dtype), t


# --- the families


def by_label(gamma: float | None) -> Callable[..., Iterator[Batch]]:
    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        options = {} if gamma is None else {"gamma": gamma}
        for z, t, rows in with_labels(dtype, small):
            found = [row.label(k) if gamma is None else row.focal(k, gamma) for row, k in zip(rows, t, strict=True)]
            yield Batch((z, t), Truth([v for v, _ in found]), Truth([g for _, g in found]), options)

    return batches


def soft(smoothing: float | None) -> Callable[..., Iterator[Batch]]:
    """Probabilities as targets; or labels, smoothed: masked classes would make that infinite, so they are left out."""

    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        for z, t, rows in with_labels(dtype, small):
            K = z.shape[1]
            keep = np.flatnonzero(np.isfinite(z).all(axis=1)) if smoothing else np.arange(len(z))
            if smoothing:
                eps = mp.mpf(smoothing)
                y = [[(1 - eps) * int(j == k) + eps / K for j in range(K)] for k in t[keep]]
                second, options = t[keep], {"label_smoothing": smoothing}
            else:
                second, options = targets(z), {}
                y = numbers(second)
            found = [rows[i].soft(a) for i, a in zip(keep, y, strict=True)]
            values, grads, sizes = zip(*found, strict=True)
            yield Batch((z[keep], second), Truth(values), Truth(grads, sizes), options)

    return batches


def binary(gamma: float | None, kind: str = "hard") -> Callable[..., Iterator[Batch]]:
    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        z = distances(dtype, small)
        rng = np.random.default_rng(5)
        if kind == "soft":
            z = np.concatenate([z] * 3)
            y = rng.random(len(z)).astype(dtype)
            near = len(z) // 3
            y[:near] = 1 / (1 + np.exp(-np.clip(z[:near].astype(float), -700, 700)))  # where the two nearly cancel
        else:
            z = np.array([-np.inf, np.inf], dtype) if kind == "infinite" else z
            y = np.concatenate([np.zeros(len(z)), np.ones(len(z))]).astype(dtype)
            z = np.concatenate([z, z])
        values, grads, sizes = [], [], []
        for s, a in zip(numbers(z), numbers(y), strict=True):
            p, q, c = halves(s)
            if kind == "soft":
                values.append(times(a, c) + times(1 - a, halves(-s)[2]))
                grads.append((1 - a) * p - a * q)
                sizes.append(max(p, a))
                continue
            side = 2 * a - 1
            p, q, c = halves(side * s)
            far = power(q, gamma or 0)
            values.append(times(far, c))
            grads.append(-side * far * ((gamma or 0) * times(p, c) + q))
        options = {} if gamma is None else {"gamma": gamma}
        yield Batch((z, y), Truth(values), Truth(grads, sizes or None), options)

    return batches


def of_probability(dtype: Any, small: bool) -> Iterator[Batch]:
    rng = np.random.default_rng(6)
    p = np.concatenate([np.logspace(-30, -0.01, 10 if small else 40), 1 - np.logspace(-7, -0.3, 10), rng.random(20)])
    p = np.concatenate([p] * 3).astype(dtype)
    y = np.repeat([0.0, 1.0, 2.0], len(p) // 3)
    y = np.where(y == 2, rng.random(len(p)), y).astype(dtype)
    values, grads, sizes = [], [], []
    for a, b in zip(numbers(p), numbers(y), strict=True):
        away, to = ((1 - b) / (1 - a) if b < 1 else mp.mpf(0)), (b / a if b else mp.mpf(0))
        values.append((-b * mp.log(a) if b else 0) + (-(1 - b) * mp.log1p(-a) if b < 1 else 0))
        grads.append(away - to)
        sizes.append(max(away, to))
    yield Batch((p, y), Truth(values), Truth(grads, sizes))


def kl_pointwise(log_target: bool) -> Callable[..., Iterator[Batch]]:
    """t (ln t − x). The caller's x is rounded, so that the difference may have no digits: an error counts in ULP of the
    larger of |t ln t| and |t x|."""

    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        rng = np.random.default_rng(7)
        n = 40 if small else 200
        x = -np.exp(rng.uniform(-12, 6, n)).astype(dtype)
        t = np.exp(np.where(np.arange(n) % 2, x + rng.normal(size=n) * 1e-6, -np.exp(rng.uniform(-12, 5, n))))
        t = np.minimum(t, 1)
        x, t = np.append(x, [-np.inf, -1.0]), np.append(t, [0.0, 0.0])
        if log_target:
            with np.errstate(divide="ignore"):
                t = np.log(t)
        x, t = x.astype(dtype), t.astype(dtype)
        values, grads, sizes = [], [], []
        for a, b in zip(numbers(x), numbers(t), strict=True):
            p = mp.exp(b) if log_target else b
            ln_p = (b if log_target else mp.log(b)) if p else mp.mpf(0)
            values.append(p * (ln_p - a) if p else mp.mpf(0))
            grads.append(-p)
            sizes.append(max(abs(times(p, ln_p)), abs(times(p, a))))
        options = {"log_target": True} if log_target else {}
        yield Batch((x, t), Truth(values, None if log_target else sizes), Truth(grads), options)

    return batches


def kl_logits(kind: str) -> Callable[..., Iterator[Batch]]:
    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        for z, w in pairs(dtype, small, kind):
            values, grads, sizes = zip(*(divergence(a, b) for a, b in zip(z, w, strict=True)), strict=True)
            yield Batch((z, w), Truth(values), Truth(grads, sizes))

    return batches


def regression(name: str) -> Callable[..., Iterator[Batch]]:
    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        p, t = residuals(dtype, small, 1e18 if name == "mse_loss" else 1e30)
        option = {"huber_loss": "delta", "smooth_l1_loss": "beta"}.get(name)
        for d in (1.0, 0.1, 1e-10, 100.0) if option else (1.0,):
            values, grads = [], []
            for r in numbers(p) - numbers(t):
                inside, side = abs(r) < d, mp.sign(r)
                if name == "mse_loss":
                    v, g = r * r, 2 * r
                elif name == "l1_loss":
                    v, g = abs(r), side
                else:
                    v, g = (r * r / 2, r) if inside else (d * (abs(r) - mp.mpf(d) / 2), d * side)
                    v, g = (v / d, g / d) if option == "beta" else (v, g)
                values.append(v)
                grads.append(g)
            yield Batch((p, t), Truth(values), Truth(grads), {option: d} if option else {})

    return batches


def contrast(name: str, reduction: str = "mean") -> Callable[..., Iterator[Batch]]:
    """Two views of N things. A gradient's error counts in ULP of the largest term that is summed, since the terms have both
    signs and their sum may be small."""

    def batches(dtype: Any, small: bool) -> Iterator[Batch]:
        rng = np.random.default_rng(8)
        for n, width, tau, noise in ((2, 3, 1.0, 1.0), (4, 8, 0.1, 0.3), (8, 16, 0.5, 1.0), (6, 32, 0.05, 0.01), (3, 8, 0.02, 0.0)):  # fmt: skip
            a = rng.normal(size=(n, width)).astype(dtype)
            b = (a + noise * rng.normal(size=a.shape)).astype(dtype)
            values, grads, sizes = contrast_truth(name, numbers(a), numbers(b), tau)
            if reduction == "mean":
                values, grads, sizes = (x / mp.mpf(len(values)) for x in (np.sum(values), grads, sizes))
            options = {"temperature": tau, "reduction": reduction}
            yield Batch((a, b), Truth(values), Truth(grads, sizes), options, 1 / tau if dtype is np.float64 else 1.0)

    return batches


def contrast_truth(name: str, a: Any, b: Any, tau: float) -> tuple[Any, Any, Any]:
    """The losses, the gradient of their sum with respect to a, and the size of its terms."""
    n, x = len(a), np.concatenate([a, b])
    lengths = np.array([mp.sqrt(mp.fsum(v * v for v in row)) for row in x], dtype=object)[:, None]
    unit = x / lengths
    s = unit @ unit.T / mp.mpf(tau)
    G = np.full((2 * n, 2 * n), mp.mpf(0), dtype=object)
    if name == "info_nce":
        found = [Row(row).label(k) for k, row in enumerate(s[:n, n:])]
        G[:n, n:] = np.array([g for _, g in found], dtype=object)
    else:
        s[np.eye(2 * n, dtype=bool)] = -mp.inf
        found = [Row(row).label((k + n) % (2 * n)) for k, row in enumerate(s)]
        G[:] = np.array([g for _, g in found], dtype=object)
    G = (G + G.T)[:n] / mp.mpf(tau) / lengths[:n]
    sent = [sum(g * (unit[j] - unit[i] * np.dot(unit[i], unit[j])) for j, g in enumerate(G[i])) for i in range(n)]
    size = np.abs(G).max(axis=1, keepdims=True) + 0 * a
    return np.array([v for v, _ in found], dtype=object), np.array(sent, dtype=object), size


# --- who computes


Answer = tuple[Any, Any]  # values and gradients
Engine = Callable[[Batch], Answer]


def by_fluxgrad(name: str) -> Engine:
    loss = getattr(fg.losses, name)
    always = {"alpha": None} if "focal" in name else {}

    def answer(batch: Batch) -> Answer:
        first, *rest = batch.args
        x = fg.Tensor(first, requires_grad=True)
        loss(x, *rest, **{**always, "reduction": "sum", **batch.options}).backward()
        return loss(first, *rest, **{**always, "reduction": "none", **batch.options}).data, x.grad

    return answer


def by_torch(loss: Callable[..., Any]) -> Engine:
    def answer(batch: Batch) -> Answer:
        import torch

        x, *rest = [torch.tensor(a) for a in batch.args]
        x.requires_grad_()
        L = loss(x, *rest, **batch.options)
        L.sum().backward()
        return L.detach().numpy(), x.grad.numpy()

    return answer


def by_optax(loss: Callable[..., Any]) -> Engine:
    def answer(batch: Batch) -> Answer:
        import jax

        x, *rest = [jax.numpy.asarray(a) for a in batch.args]
        L = loss(x, *rest, **batch.options)
        return np.asarray(L), np.asarray(jax.grad(lambda z: loss(z, *rest, **batch.options).sum())(x))

    return answer


def torch_peers() -> dict[str, Callable[..., Any]]:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)

    def none(loss: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: loss(*args, reduction="none", **options)

    def kl_with_logits(z: Any, w: Any) -> Any:
        z, w = F.log_softmax(z, 1), F.log_softmax(w, 1)
        return F.kl_div(z, w, reduction="none", log_target=True).sum(1)

    names = ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy",
             "cross_entropy", "kl_div")  # fmt: skip
    return {name: none(getattr(F, name)) for name in names} | {"kl_div_with_logits": kl_with_logits}


def torchvision_peers() -> dict[str, Callable[..., Any]]:
    from torchvision.ops import sigmoid_focal_loss

    return {"sigmoid_focal_loss": lambda z, y, gamma: sigmoid_focal_loss(z, y, alpha=-1, gamma=gamma)}


def kornia_peers() -> dict[str, Callable[..., Any]]:
    from kornia.losses import binary_focal_loss_with_logits, focal_loss

    def sigmoid_focal(z: Any, y: Any, gamma: float) -> Any:
        return binary_focal_loss_with_logits(z[:, None], y[:, None], alpha=None, gamma=gamma, reduction="none")[:, 0]

    def focal(z: Any, t: Any, gamma: float) -> Any:
        return focal_loss(z, t, alpha=None, gamma=gamma, reduction="none").sum(1)  # of other classes it is 0

    return {"sigmoid_focal_loss": sigmoid_focal, "focal_loss": focal}


def optax_peers() -> dict[str, Callable[..., Any]]:
    import jax
    import optax.losses as of

    jax.config.update("jax_enable_x64", True)
    nn, jnp = jax.nn, jax.numpy

    def cross_entropy(z: Any, t: Any, label_smoothing: float = 0.0) -> Any:
        if t.ndim == 1 and not label_smoothing:
            return of.softmax_cross_entropy_with_integer_labels(z, t)
        if t.ndim == 1:
            t = of.smooth_labels(nn.one_hot(t, z.shape[1], dtype=z.dtype), label_smoothing)
        return of.softmax_cross_entropy(z, t)

    def kl_div(x: Any, t: Any, log_target: bool = False) -> Any:
        loss = of.kl_divergence_with_log_targets if log_target else of.kl_divergence
        return loss(x[:, None], t[:, None])

    def nt_xent(a: Any, b: Any, temperature: float, reduction: str) -> Any:
        return of.ntxent(jnp.concatenate([a, b]), jnp.tile(jnp.arange(len(a)), 2), temperature)

    return {
        "mse_loss": of.squared_error,
        "huber_loss": of.huber_loss,
        "binary_cross_entropy_with_logits": of.sigmoid_binary_cross_entropy,
        "sigmoid_focal_loss": of.sigmoid_focal_loss,
        "cross_entropy": cross_entropy,
        "kl_div": kl_div,
        "kl_div_with_logits": lambda z, w: of.kl_divergence_with_log_targets(nn.log_softmax(z), nn.log_softmax(w)),
        "nt_xent": nt_xent,
    }


PEERS: dict[str, tuple[Callable[[], dict[str, Callable[..., Any]]], Callable[..., Engine]]] = {
    "torch": (torch_peers, by_torch),
    "torchvision": (torchvision_peers, by_torch),
    "kornia": (kornia_peers, by_torch),
    "optax": (optax_peers, by_optax),
}


# --- the table


@dataclass
class Family:
    title: str
    loss: str
    batches: Callable[..., Iterator[Batch]]
    bound: float = 8  # in float64; in float32 it is 1, of regression 3
    divergence: bool = False  # never negative

    def allowed(self, dtype: Any) -> float:
        if dtype is np.float64:
            return self.bound
        return 3 if self.loss in REGRESSION else 1


def families() -> list[Family]:
    bce, focal, ce = "binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy"
    found = [Family(name, name, regression(name)) for name in REGRESSION]
    found += [
        Family("BCE with logits, y 0 or 1", bce, binary(None)),
        Family("BCE with logits, z = ±∞", bce, binary(None, "infinite")),
        Family("BCE with logits, soft y", bce, binary(None, "soft")),
        Family("BCE of probabilities", "binary_cross_entropy", of_probability),
    ]
    found += [Family(f"sigmoid focal, γ = {g:g}", focal, binary(g), 4 + 3 * g) for g in GAMMAS]
    found += [Family(f"sigmoid focal, γ = {g:g}, z = ±∞", focal, binary(g, "infinite"), 4 + 3 * g) for g in (0.5, 2.0)]
    found += [
        Family("cross-entropy, labels", ce, by_label(None)),
        Family("cross-entropy, label smoothing 0.1", ce, soft(0.1)),
        Family("cross-entropy, soft targets", ce, soft(None)),
    ]
    found += [Family(f"softmax focal, γ = {g:g}", "focal_loss", by_label(g), 8 + 4 * g) for g in GAMMAS]
    found += [
        Family("KL, element by element", "kl_div", kl_pointwise(False)),
        Family("KL, log target", "kl_div", kl_pointwise(True)),
    ]
    for kind in ("apart", "near", "confident", "masked"):
        found.append(Family(f"KL of logits, {kind}", "kl_div_with_logits", kl_logits(kind), divergence=True))
    found += [Family(name, name, contrast(name), 16) for name in ("info_nce", "nt_xent")]
    return found


def score(family: Family, batches: list[Batch], engine: Engine, dtype: Any) -> tuple[Score, Score]:
    value, grad = Score(), Score()
    for batch in batches:
        L, g = engine(batch)
        value.add(L, batch.value, dtype, batch.logit, family.divergence)
        grad.add(g, batch.grad, dtype, batch.logit)
    return value, grad


def load_peers() -> tuple[dict[str, dict[str, Engine]], dict[str, str], list[str]]:
    """What each peer computes each loss with, their versions, and the names of those that are left out."""
    found: dict[str, dict[str, Engine]] = {}
    versions: dict[str, str] = {}
    absent: list[str] = []
    for name, (peers, by) in PEERS.items():
        try:
            found[name] = {loss: by(f) for loss, f in peers().items()}
            versions[name] = importlib.metadata.version(name)
        except (ImportError, RuntimeError):  # (of torchvision beside another build of PyTorch: RuntimeError)
            absent.append(name)
    if "optax" in found:
        versions["jax"] = importlib.metadata.version("jax")
    return found, versions, absent


def measure(small: bool, peers: dict[str, dict[str, Engine]], only: str = "") -> Iterator[list[str]]:
    """The lines of the table: loss, dtype, bound, and a cell for fluxgrad and each peer."""
    for family in (f for f in families() if only in f.title):
        for dtype in (np.float32, np.float64):
            batches = list(family.batches(dtype, small))
            cells = [told(score(family, batches, by_fluxgrad(family.loss), dtype))]
            for engines in peers.values():
                engine = engines.get(family.loss)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    cells.append(told(score(family, batches, engine, dtype)) if engine else "")
            yield [family.title, dtype.__name__, f"{family.allowed(dtype):g}", *cells]


def told(scores: tuple[Score, Score]) -> str:
    return " | ".join(map(str, scores))


PAGE = """# How many digits are right

A gradient that should be 4·10⁻¹⁸ and is 0 stops learning where it should go on, and nobody sees it. So the losses are measured: each value and each gradient
against mpmath, with 80 digits. This page is written by `python benchmarks/digits.py --write`, and the table is what it found in that run.

```python
import numpy as np
import fluxgrad as fg

z = fg.Tensor([[40.0, 0.0]], requires_grad=True)  # sure of class 0, and right
loss = fg.losses.cross_entropy(z, [0])
loss.backward()
print(f"loss {{loss.item():.3e}}, signal {{z.grad[0, 0]:.3e}}")

p = np.exp(40.0) / (np.exp(40.0) + np.exp(0.0))  # the same by the book
print(f"loss {{-np.log(p):.3e}}, signal {{p - 1:.3e}}")
```

```text
loss 4.248e-18, signal -4.248e-18
loss -0.000e+00, signal 0.000e+00
```

## What is measured

- **Logits** from 0 to ±10³⁰; rows of 2, 3, 10, 100 and 1,000 classes, of many sizes, nearly equal or sure of one class, with an offset of up to 10⁸, with masked classes
  (−∞). Each row is asked for its likeliest class, its least likely, and another. Pairs of rows for the divergence: far apart, nearly equal, both sure, masked.
- **Both dtypes**: the inputs are rounded to the dtype first, and the truth is that of the rounded inputs.
- **What counts** is the worst of all cases, in ULP (units in the last place): 0.5 is as good as rounding can be. 10⁷ in float32, or 10¹⁶ in float64, means that no digit is right.
- What is a difference of two known numbers counts in ULP of the larger: gradients p − y of soft targets and q − p of a divergence, and t·ln t − t·x element by element. Near the optimum
  such a difference can have no digits of its own. The contrastive losses count per unit of logit in float64, and their gradients in ULP of the largest term of the sum.

## How to read it

Each cell is *value | gradient*, the largest errors. Behind them, where there are any: **fz**, false zeros: 0 where the truth is a normal number; **nf**, not finite: NaN or ∞ where the truth
is finite; **neg**, a negative divergence. These are counted too: how many numbers of the grid. *Bound* is what fluxgrad promises, and what its tests hold it to. Truths too small to be
normal numbers are left out here, since XLA flushes them to 0 by intent. No cell: the peer has no such loss, or none that gives one value an example.

{table}

{versions}

## What it means

{fair}Read the large numbers in the first table with care. They are *relative* errors, of results that are small. Cross-entropy as ln Σ exp z − z_t is off by about one ULP of the
larger of the two, however small the difference; a sum over a batch with one hard example in it does not notice, and most training is no worse for it. The digits matter where the small
numbers are all there is: in a gradient check, in a focal loss, in the distillation of a student that is nearly its teacher, at the end of a line search, in rows that should sum
to 0. NaN is another matter: it ends the training.

Losses of logits never compute 1 − p. They add up the other classes, Q = Σ exp z over all but the true one, and 1 − p is Q/S. Classification in float32 is computed in float64 and rounded once; regression stays in its own dtype.
[Every rule](rules.md) has the definitions that are held against these kernels, number by number, in the tests.
"""


FEW = 50  # ULP


def as_good(header: list[str], lines: list[list[str]]) -> dict[str, list[str]]:
    """The losses of which a peer loses no more than a few ULP in both dtypes, as the table has it."""
    found: dict[str, list[str]] = {name: [] for name in header[4:]}
    for one, two in zip(lines[::2], lines[1::2], strict=True):
        for i, name in enumerate(header[4:], 4):
            if one[i] and not any(loses(line[i]) for line in (one, two)):
                found[name].append(one[0])
    return found


def loses(cell: str) -> bool:
    return "×" in cell or max(float(part) for part in cell.replace("∞", "inf").split(" | ")) > FEW


def markdown(header: list[str], lines: list[list[str]]) -> str:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([row(header), row(["---"] * len(header)).replace("\\", ""), *map(row, lines)])


def plain(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in [header, *lines]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/digits.md")
    parser.add_argument("--small", action="store_true", help="fewer numbers")
    parser.add_argument("--no-peers", action="store_true", help="fluxgrad alone")
    parser.add_argument("--only", default="", help="losses with this in their title")
    options = parser.parse_args()
    peers, versions, absent = ({}, {}, []) if options.no_peers else load_peers()
    header = ["loss", "dtype", "bound", "fluxgrad", *peers]
    lines = list(measure(options.small, peers, options.only))
    print("largest errors in ULP, value | gradient; fz: false zeros, nf: not finite, neg: negative\n")
    print(plain(header, lines))
    for name in absent:
        print(f"{name} is not installed (or does not load): left out")
    if options.write:
        versions = {"NumPy": np.__version__, **versions, "mpmath": mpmath.__version__}
        told_versions = "Measured with " + ", ".join(f"{name} {v}" for name, v in versions.items()) + "."
        told_versions += " (torchvision loads only beside the build of PyTorch that it was made for.)"
        if absent:
            told_versions += f" Not installed, so left out: {', '.join(absent)}."
        page = PAGE.format(
            table=markdown(header, lines), versions=told_versions, fair=fair(peers, as_good(header, lines))
        )
        (Path(__file__).parents[1] / "docs" / "digits.md").write_text(page, "utf-8")
    return 0


def fair(peers: dict[str, dict[str, Engine]], within: dict[str, list[str]]) -> str:
    """Where the peers are as good, and what their large errors are in absolute numbers."""
    lines = [f"- {name}: {'; '.join(titles) or 'none'}." for name, titles in within.items()]
    said = f"Of these losses a peer is off by no more than {FEW} ULP in both dtypes, and nothing is false, not finite or negative:"
    text = "\n".join([said, "", *lines, ""]) if lines else ""
    if "torch" not in peers:
        return text
    rows = []
    for margin in (2, 5, 10, 16, 20):
        z = np.zeros((1, 10), np.float32)
        z[0, 3] = margin
        value, grad = Row(z[0]).label(3)
        batch = Batch((z, np.array([3])), Truth([value]), Truth([grad]))
        told = [f"{margin}", f"{rounded(value):.3e}"]
        for engine in (peers["torch"]["cross_entropy"], by_fluxgrad("cross_entropy")):
            off = abs(float(engine(batch)[0][0]) - rounded(value))
            told.append(f"{off / rounded(value):.0e} | {off:.0e}")
        rows.append(told)
    header = ["margin", "the loss", "PyTorch's error: relative | absolute", "fluxgrad's: relative | absolute"]
    return (
        text
        + "\nThe cross-entropy of ten classes in float32, the logit of the label larger than the others by a margin:\n\n"
        + markdown(header, rows)
        + "\n\n"
    )


if __name__ == "__main__":
    sys.exit(main())
