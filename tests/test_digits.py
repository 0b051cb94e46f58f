"""The digits of the losses: value and gradient of every one, in ULP of the truth.

There are two truths. One is the loss's own row, its definition, read with `Exact`: it holds the kernel, which computes the
numbers, and the definition, which everything else reads, together. The other is the formulas of benchmarks/digits.py,
which share nothing with the rows, on the benchmark's own grid.

A row loses digits where it subtracts: 1 − p of a margin d is exp(−d), so that d/ln 10 digits go, and a divergence of nearly
equal logits loses twice what they share, 32. `enough` adds both to 60, and stops at 800: what 800 digits lose is less than
1e-700, which is 0 in float64. At a masked class (z = −∞) the truth is the row without it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import Exact, digits, mp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fluxgrad as fg
from fluxgrad import losses
from fluxgrad.rules import losses as rows

ROOT = Path(__file__).parents[1]


def _benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_of_digits", ROOT / "benchmarks" / "digits.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


bench = _benchmark()
Truth = bench.Truth
DTYPES = [np.float32, np.float64]
GAMMAS = bench.GAMMAS
RNG = np.random.default_rng(0)

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def near(ours: Any, truth: Any, dtype: Any, bound: float, what: str, inputs: Any = ()) -> None:
    """Within the bound in ULP, those of numbers below the normal range too; the same ∞, and never NaN; 0 only for 0."""
    ours = ours.data if isinstance(ours, fg.Tensor) else np.asarray(ours)
    assert ours.dtype == dtype, f"{what}: {ours.dtype}"
    error = bench.ulps(ours, truth, dtype)
    assert error.shape == truth.high.shape, f"{what}: {error.shape}"
    worst = np.unravel_index(np.argmax(error), error.shape) if error.size else ()
    where = [x[i].tolist() for i in worst[:1] for x in inputs if len(x) == len(error) and x[i].size <= 10]
    told = f"{what}: {error[worst]:.3g} ULP (allowed: {bound:g}): {ours[worst]!r}, the truth is {truth.high[worst]!r}"
    assert error.size == 0 or error[worst] <= bound, f"{told}, for {where} at {worst}"


def exact(x: Any) -> Any:
    return bench.numbers(x)


def bounds(dtype: Any, in_float64: float, in_float32: float = 1) -> float:
    return in_float64 if dtype is np.float64 else in_float32


# ----- The benchmark's grid, against formulas of its own -----


@each_dtype
@pytest.mark.parametrize("family", bench.families(), ids=lambda family: family.title)
def test_value_and_gradient_on_the_grid(family: Any, dtype: Any):
    engine = bench.by_fluxgrad(family.loss)
    for batch in family.batches(dtype, small=True):
        L, g = engine(batch)
        near(L, batch.value, dtype, family.allowed(dtype) * batch.logit, "value", batch.args)
        near(g, batch.grad, dtype, family.allowed(dtype) * batch.logit, "gradient", batch.args)
        if family.divergence:
            assert (L >= 0).all()


# ----- The rows' own definitions -----


def enough(*logits: Any) -> int:
    """Digits to read a row with."""
    finite = [x[np.isfinite(x)] for x in map(np.asarray, logits) if x.dtype.kind == "f"]
    span = max((float(np.max(x)) - float(np.min(x)) for x in finite if x.size), default=0.0)
    most = max((float(np.max(np.abs(x))) for x in finite if x.size), default=0.0)
    return int(min(800, 60 + 32 + max(span, min(most, 1e4)) / math.log(10)))


def read(row: Any, arrays: Any, options: dict[str, Any], which: int = 0) -> tuple[Any, Any]:
    """The value of each example and the gradient of their sum, exactly."""
    with digits(enough(*arrays)):
        xs = [Exact(x) if x.dtype.kind == "f" else x for x in arrays]
        y = row.value(*xs, **options)
        g = row.pull(which, Exact(np.ones(y.shape)), y, xs, options)
        return y.numbers, np.broadcast_to(Exact(g).numbers, arrays[which].shape)


def by_example(row: Any, arrays: Any, options: dict[str, Any], which: int = 0) -> tuple[Any, Any]:
    """The same, of one example at a time, so that each is read with the digits that it needs; masked classes left out."""
    values, grads = [], []
    for one in zip(*arrays, strict=True):
        one = [np.asarray(x) for x in one]
        if one[0].ndim == 0:
            v, g = read(row, [x[None] for x in one], options, which)
            values.append(v[0])
            grads.append(g[0])
            continue
        keep = np.flatnonzero(~np.isneginf(one[-1] if row is rows.kl_logits else one[0]))
        short = [np.searchsorted(keep, x)[None] if x.dtype.kind == "i" else x[keep][None] for x in one]
        v, g = read(row, short, options, which)
        full = np.full(one[which].shape, mp.mpf(0), dtype=object)
        full[keep] = g[0]
        values.append(v[0])
        grads.append(full)
    return np.array(values, dtype=object), np.array(grads, dtype=object)


def binary_logits(dtype: Any) -> tuple[Any, Any]:
    z = np.array([0, 1e-8, 0.3, 1, 4, 17, 40, 88.5, 100, 300, 720, 1e4, 1e30])
    z = np.concatenate([z, -z]).astype(dtype)
    return np.concatenate([z, z]), np.repeat([0.0, 1.0], len(z)).astype(dtype)


def class_logits(dtype: Any) -> list[tuple[Any, Any]]:
    """Rows with labels: near, far, sure, masked; two rows of 100 classes and one of 1,000."""
    rng = np.random.default_rng(10)
    found = []
    for K, n in ((2, 2), (3, 1), (10, 1), (100, 1), (1000, 1)):
        few = [rng.normal(size=(n, K)) * scale for scale in ((1e-8, 1.0, 30.0, 1e3) if K < 10 else (3.0,))]
        margins = (17, 40, 100, 300, 700, 1e4, 1e30) if K == 2 else (40, 300) if K < 100 else ()
        few += [np.full((1, K), 1e8) + rng.normal(size=K)] if K < 100 else []
        few += [rng.normal(size=(1, K)) + d * (np.arange(K) == K // 2) for d in margins]
        if 2 < K < 1000:
            masked = rng.normal(size=(1, K)) * 5
            masked[:, 1::2] = -np.inf
            few.append(masked)
        z = np.concatenate(few).astype(dtype)
        last = np.array([np.flatnonzero(row > -np.inf)[-1] for row in z])
        found.append((z, np.argmax(z, axis=1)))
        if K < 1000:
            found.append((z, last))
    return found


def check(loss: Any, row: Any, arrays: Any, dtype: Any, bound: float, options: dict[str, Any], **sizes: Any) -> None:
    """Value, gradient, and what a random upstream makes of it."""
    values, grads = by_example(row, arrays, options)
    size = sizes.get("grad")
    first, *rest = arrays
    always = {"alpha": None} if "focal" in loss.__name__ else {}
    near(
        loss(first, *rest, reduction="none", **options, **always),
        Truth(values, sizes.get("value")),
        dtype,
        bound,
        "value",
        arrays,
    )
    x = fg.Tensor(first, requires_grad=True)
    loss(x, *rest, reduction="sum", **options, **always).backward()
    near(x.grad, Truth(grads, size), dtype, bound, "gradient", arrays)
    up = np.random.default_rng(11).normal(size=len(first)).astype(dtype)
    x = fg.Tensor(first, requires_grad=True)
    loss(x, *rest, reduction="none", **options, **always).backward(up)
    by = exact(up)[:, None] if grads.ndim == 2 else exact(up)
    near(
        x.grad, Truth(grads * by, None if size is None else size * abs(by)), dtype, bound + 0.5, "with upstream", arrays
    )


@each_dtype
@pytest.mark.parametrize("name", bench.REGRESSION)
def test_regression_and_its_definition(name: str, dtype: Any):
    p, t = bench.residuals(dtype, True, 1e18 if name == "mse_loss" else 1e30)
    options: list[dict[str, Any]] = [{}]
    if name in ("huber_loss", "smooth_l1_loss"):
        options = [{"delta" if name == "huber_loss" else "beta": d} for d in (1.0, 0.1, 1e-10, 100.0)]
    for chosen in options:
        check(getattr(losses, name), fg.rules[name], (p, t), dtype, 3, chosen)


@each_dtype
def test_two_classes_and_their_definition(dtype: Any):
    z, t = binary_logits(dtype)
    check(losses.binary_cross_entropy_with_logits, rows.logistic, (z, t), dtype, bounds(dtype, 8), {})


@each_dtype
def test_two_classes_with_soft_targets_and_their_definition(dtype: Any):
    z, _ = binary_logits(dtype)
    t = RNG.random(len(z)).astype(dtype)
    t[::2] = 1 / (1 + np.exp(-np.clip(z[::2], -80, 80)))  # where the two nearly cancel
    size = np.array([max(bench.halves(a)[0], b) for a, b in zip(exact(z), exact(t), strict=True)])
    check(losses.binary_cross_entropy_with_logits, rows.logistic, (z, t), dtype, bounds(dtype, 8), {}, grad=size)


@each_dtype
def test_probabilities_and_their_definition(dtype: Any):
    p = np.concatenate([np.logspace(-30, -0.01, 12), 1 - np.logspace(-7, -1, 5)]).astype(dtype)
    for t in (0, 1, 0.3):
        y = np.full_like(p, t)
        size = np.array([max((1 - b) / (1 - a), b / a) for a, b in zip(exact(p), exact(y), strict=True)])
        check(losses.binary_cross_entropy, rows.bernoulli, (p, y), dtype, bounds(dtype, 8), {}, grad=size)


@each_dtype
@pytest.mark.parametrize("gamma", GAMMAS)
def test_sigmoid_focal_and_its_definition(gamma: float, dtype: Any):
    z, t = binary_logits(dtype)
    check(losses.sigmoid_focal_loss, rows.focal, (z, t), dtype, bounds(dtype, 4 + 3 * gamma), {"gamma": gamma})


@each_dtype
def test_labels_and_their_definition(dtype: Any):
    for z, t in class_logits(dtype):
        check(losses.cross_entropy, rows.surprise, (z, t), dtype, bounds(dtype, 8), {})


@each_dtype
@pytest.mark.parametrize("gamma", GAMMAS)
def test_softmax_focal_and_its_definition(gamma: float, dtype: Any):
    for z, t in class_logits(dtype)[:: 1 if gamma == 2 else 2]:
        if z.shape[1] < 1000 or gamma == 2:
            check(losses.focal_loss, rows.softmax_focal, (z, t), dtype, bounds(dtype, 8 + 4 * gamma), {"gamma": gamma})


def sizes(z: Any, y: Any) -> Any:
    """The larger of p Σy and y, of each class."""
    found = []
    for row, target in zip(z, y, strict=True):
        y = exact(target)
        found.append([max(sum(y) * p, a) for p, a in zip(bench.Row(row).p, y, strict=True)])
    return np.array(found, dtype=object)


@each_dtype
def test_soft_targets_and_their_definition(dtype: Any):
    for z, _ in class_logits(dtype)[::2]:
        y = bench.targets(z)
        check(losses.cross_entropy, rows.surprise, (z, y), dtype, bounds(dtype, 8), {}, grad=sizes(z, y))


@each_dtype
@pytest.mark.parametrize("log_target", [False, True])
def test_divergence_element_by_element_and_its_definition(log_target: bool, dtype: Any):
    """t (ln t − x): an error counts in ULP of the larger term, since what they share, the caller has lost before."""
    x = -np.exp(RNG.uniform(-12, 6, 30)).astype(dtype)
    t = -np.exp(RNG.uniform(-12, 5, 30)).astype(dtype)
    t[::2] = x[::2] * dtype(1 + 1e-6)
    if log_target:
        check(losses.kl_div, Chosen(rows.kl_log), (x, t), dtype, bounds(dtype, 8), {"log_target": True})
        return
    t = np.exp(np.maximum(t, -80))  # 0 is no number for the definition
    size = np.array([b * max(abs(mp.log(b)), abs(a)) for a, b in zip(exact(x), exact(t), strict=True)])
    check(losses.kl_div, rows.kl, (x, t), dtype, bounds(dtype, 8), {}, value=size)


class Chosen:
    """A row that its loss takes for an option, which the row itself does not know."""

    def __init__(self, row: Any) -> None:
        self.row = row

    def value(self, *xs: Any, log_target: bool) -> Any:
        return self.row.value(*xs)

    def pull(self, i: int, g: Any, y: Any, xs: Any, options: dict[str, Any]) -> Any:
        return self.row.pull(i, g, y, xs, {})


@each_dtype
@pytest.mark.parametrize("kind", ["apart", "near", "confident", "masked"])
def test_divergence_of_logits_and_its_definition(kind: str, dtype: Any):
    for z, w in bench.pairs(dtype, True, kind):
        some = slice(None) if z.shape[1] < 10 else slice(None, None, 5)
        if z.shape[1] > 10 and kind != "near":
            continue
        z, w = z[some], w[some]
        if kind == "masked":
            w = np.where(np.isneginf(z), -np.inf, w).astype(dtype)
            z = np.where(np.isneginf(w), -np.inf, z).astype(dtype)
        size = np.array([[max(p, q) for p, q in zip(bench.Row(a).p, bench.Row(b).p, strict=True)] for a, b in zip(z, w, strict=True)])  # fmt: skip
        check(losses.kl_div_with_logits, rows.kl_logits, (z, w), dtype, bounds(dtype, 8), {}, grad=size)


# ----- Weights, smoothing, temperature: what stands around the rows -----


def gradient(loss: Any, first: Any, *rest: Any, **options: Any) -> Any:
    x = fg.Tensor(first, requires_grad=True)
    loss(x, *rest, reduction="sum", **options).backward()
    return x.grad


def everyday_rows(dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(12)
    z = np.concatenate([rng.normal(size=(3, 5)) * scale for scale in (1e-6, 1, 30, 1000)])
    z[::3] += 60 * (np.arange(5) == 2)
    return z.astype(dtype), rng.integers(5, size=len(z))


@each_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labelled", [True, False])
def test_cross_entropy_with_class_weights_and_smoothing(labelled: bool, weighted: bool, smoothing: float, dtype: Any):
    z, t = everyday_rows(dtype)
    K = z.shape[1]
    w = np.array([0.3, 2.0, 1.7, 0.0, 11.0]) if weighted else np.ones(K)
    eps = mp.mpf(smoothing)
    target = t if labelled else bench.targets(z)
    y = [[mp.mpf(int(j == k)) for j in range(K)] for k in t] if labelled else exact(target)
    y = [[mp.mpf(float(c)) * ((1 - eps) * a + eps / K) for a, c in zip(row, w, strict=True)] for row in y]
    hard = labelled and not smoothing
    found = [bench.Row(row).soft(a) for row, a in zip(z, y, strict=True)]
    size = None if hard else [s for _, _, s in found]
    grads = [g for _, g, _ in found]
    if hard:
        grads = [[mp.mpf(float(w[k])) * g for g in bench.Row(row).label(k)[1]] for row, k in zip(z, t, strict=True)]
    options = {"label_smoothing": smoothing, "weight": w if weighted else None}
    L = losses.cross_entropy(z, target, reduction="none", **options)
    near(L, Truth([v for v, _, _ in found]), dtype, bounds(dtype, 8), "value", (z, t))
    g = gradient(losses.cross_entropy, z, target, **options)
    near(g, Truth(grads, size), dtype, bounds(dtype, 8), "gradient", (z, t))
    total = mp.fsum(v for v, _, _ in found)
    count = mp.fsum(mp.mpf(float(w[k])) for k in t) if labelled else len(z)
    near(losses.cross_entropy(z, target, **options), Truth(total / count), dtype, bounds(dtype, 8), "mean")


@each_dtype
def test_binary_with_weights(dtype: Any):
    z, _ = binary_logits(dtype)
    rng = np.random.default_rng(13)
    t = rng.choice([0, 1, 0.25], size=len(z)).astype(dtype)
    w, pos = rng.random(len(z)) * 3, rng.random(len(z)) * 5
    values, grads, size = [], [], []
    for s, y, a, b in zip(exact(z), exact(t), exact(w), exact(pos), strict=True):
        p, q, c = bench.halves(s)
        values.append(a * (bench.times(b * y, c) + bench.times(1 - y, bench.halves(-s)[2])))
        grads.append(a * ((1 - y) * p - b * y * q))
        size.append(a * max((1 - y) * p, b * y * q) if y in (0, 1) else a * max(b, 1) * max(p, y))
    options = {"weight": w, "pos_weight": pos}
    L = losses.binary_cross_entropy_with_logits(z, t, reduction="none", **options)
    near(L, Truth(values), dtype, bounds(dtype, 8), "value", (z, t))
    g = gradient(losses.binary_cross_entropy_with_logits, z, t, **options)
    near(g, Truth(grads, size), dtype, bounds(dtype, 8), "gradient", (z, t, w, pos))


@each_dtype
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_with_alpha(gamma: float, dtype: Any):
    z, t = binary_logits(dtype)
    alpha = [mp.mpf(0.3) if y else 1 - mp.mpf(0.3) for y in t]
    halves = [bench.halves(s if y else -s) for s, y in zip(exact(z), t, strict=True)]
    values = [a * bench.times(bench.power(q, gamma), c) for a, (_, q, c) in zip(alpha, halves, strict=True)]
    L = losses.sigmoid_focal_loss(z, t, alpha=0.3, gamma=gamma, reduction="none")
    near(L, Truth(values), dtype, bounds(dtype, 4 + 3 * gamma), "value", (z, t))
    grads = [(1 - 2 * int(y)) * a * bench.power(q, gamma) * (gamma * bench.times(p, c) + q) for y, a, (p, q, c) in zip(t, alpha, halves, strict=True)]  # fmt: skip
    g = gradient(losses.sigmoid_focal_loss, z, t, alpha=0.3, gamma=gamma)
    near(g, Truth(grads), dtype, bounds(dtype, 4 + 3 * gamma), "gradient", (z, t))

    z, t = everyday_rows(dtype)
    alpha = np.array([0.1, 0.9, 0.5, 0.0, 1.0])
    found = [bench.Row(row).focal(k, gamma) for row, k in zip(z, t, strict=True)]
    scale = exact(alpha[t])
    L = losses.focal_loss(z, t, alpha=alpha, gamma=gamma, reduction="none")
    near(L, Truth(scale * [v for v, _ in found]), dtype, bounds(dtype, 8 + 4 * gamma), "value", (z, t))
    g = gradient(losses.focal_loss, z, t, alpha=alpha, gamma=gamma)
    near(g, Truth(scale[:, None] * [g for _, g in found]), dtype, bounds(dtype, 8 + 4 * gamma), "gradient", (z, t))


@each_dtype
def test_divergence_with_temperature(dtype: Any):
    """z/T is rounded: of close rows that costs digits which T = 1 keeps, so these are apart."""
    rng = np.random.default_rng(14)
    z, w = (rng.normal(size=(6, 4)) * 5).astype(dtype), (rng.normal(size=(6, 4)) * 5).astype(dtype)
    for T in (0.5, 3.0):
        found = [bench.divergence(a, b) for a, b in zip(exact(z) / mp.mpf(T), exact(w) / mp.mpf(T), strict=True)]
        values, grads, size = zip(*found, strict=True)
        L = losses.kl_div_with_logits(z, w, temperature=T, reduction="none")
        near(L, Truth(values), dtype, bounds(dtype, 8), f"value, T = {T}", (z, w))
        g = gradient(losses.kl_div_with_logits, z, w, temperature=T)
        by = 1 / mp.mpf(T)
        near(g, Truth(np.array(grads) * by, np.array(size) * by), dtype, bounds(dtype, 8), "gradient", (z, w))


# ----- What goes to the target -----


@each_dtype
def test_the_gradient_of_a_target(dtype: Any):
    """A difference again, so that an error counts in ULP of the larger term."""
    rng = np.random.default_rng(16)
    p, t = rng.random(20).astype(dtype), rng.random(20).astype(dtype)
    z, w = (rng.normal(size=(2, 4, 5)) * 4).astype(dtype)
    soft = bench.targets(z)
    a, b, x = exact(p), exact(t), -np.abs(exact(z[0]))

    def logs(*xs: Any) -> Any:
        return np.max([[abs(mp.log(v)) for v in x] for x in xs], axis=0)

    q = [(bench.Row(i), bench.Row(j)) for i, j in zip(z, w, strict=True)]
    u = np.array([[max(c, d) for c, d in zip(s.c, r.c, strict=True)] for s, r in q]) * [r.p for _, r in q]
    calls: list[Any] = [
        (losses.binary_cross_entropy_with_logits, rows.logistic, (z[0], t[:5]), {}, None),
        (losses.binary_cross_entropy, rows.bernoulli, (p, t), {}, logs(a, 1 - a)),
        (losses.cross_entropy, rows.surprise, (z, soft), {}, None),
        (losses.kl_div, rows.kl, (-np.abs(z[0]), t[:5]), {}, np.maximum(logs(b[:5]), abs(x) + 1)),
        (losses.kl_div, Chosen(rows.kl_log), (-np.abs(z[0]), -p[:5]), {"log_target": True}, abs(x) + 1),
        (losses.kl_div_with_logits, rows.kl_logits, (z, w), {}, u),
    ]
    for loss, row, (first, second), options, size in calls:
        y = fg.Tensor(second, requires_grad=True)
        loss(first, y, reduction="sum", **options).backward()
        _, grads = by_example(row, (first, second), options, 1)
        near(y.grad, Truth(grads, size), dtype, bounds(dtype, 8), loss.__name__, (first, second))


# ----- Masks -----


@each_dtype
@pytest.mark.parametrize("masked", [1, 3, 4])
def test_masked_classes_are_as_if_left_out(masked: int, dtype: Any):
    """Value and gradient, to the last digit but the order of a sum; the gradient at a mask is 0."""
    rng = np.random.default_rng(15)
    z = (rng.normal(size=(4, 5)) * 6).astype(dtype)
    off = rng.permutation(5)[:masked]
    keep = np.delete(np.arange(5), off)
    z[:, off] = -np.inf
    label = np.full(4, keep[0])
    y = bench.targets(z)
    w = np.where(np.isneginf(z), -np.inf, rng.normal(size=z.shape)).astype(dtype)
    calls: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        (losses.cross_entropy, label, np.zeros(4, int), {}),
        (losses.cross_entropy, y, y[:, keep], {}),
        (losses.cross_entropy, y, y[:, keep], {"weight": np.arange(5) + 0.5}),
        (losses.kl_div_with_logits, w, w[:, keep], {}),
        (losses.kl_div_with_logits, w, w[:, keep], {"temperature": 2.0}),
    ]
    if masked < 4:
        calls += [(losses.focal_loss, label, np.zeros(4, int), {"gamma": g}) for g in GAMMAS]
    for loss, second, short, options in calls:
        fewer = {k: v[keep] if k == "weight" else v for k, v in options.items()}
        told = f"{loss.__name__} {options}"
        ours, theirs = (
            loss(z, second, reduction="none", **options).data,
            loss(z[:, keep], short, reduction="none", **fewer).data,
        )
        assert np.allclose(ours, theirs, 8 * np.finfo(dtype).eps, 0), told
        g = gradient(loss, z, second, **options)
        assert (g[:, off] == 0).all(), told
        assert np.allclose(g[:, keep], gradient(loss, z[:, keep], short, **fewer), 8 * np.finfo(dtype).eps, 1e-300), (
            told
        )


@each_dtype
def test_a_masked_label_is_infinitely_surprising(dtype: Any):
    """The signal stays finite: p − y, since p = 0 there."""
    z = np.array([[0.5, -np.inf, 2.0]], dtype)
    p = bench.Row(z[0]).p
    grads = Truth([[p[0], mp.mpf(-1), p[2]]])
    calls = [(losses.cross_entropy, {})] + [(losses.focal_loss, {"gamma": g}) for g in GAMMAS]
    for loss, options in calls:
        assert loss(z, [1], reduction="none", **options).data == np.inf
        near(gradient(loss, z, [1], **options), grads, dtype, bounds(dtype, 8), loss.__name__, (z,))
    y = np.array([[0.0, 1.0, 0.0]], dtype)
    assert losses.cross_entropy(z, y, reduction="none").data == np.inf
    near(gradient(losses.cross_entropy, z, y), grads, dtype, bounds(dtype, 8), "soft", (z,))


@each_dtype
def test_an_infinite_logit_of_two_classes(dtype: Any):
    z, t = np.array([np.inf, -np.inf, np.inf, -np.inf], dtype), np.array([1, 0, 0, 1], dtype)
    calls = [(losses.binary_cross_entropy_with_logits, {})]
    calls += [(losses.sigmoid_focal_loss, {"alpha": None, "gamma": g}) for g in GAMMAS]
    for loss, options in calls:
        assert loss(z, t, reduction="none", **options).data.tolist() == [0, 0, np.inf, np.inf]
        assert gradient(loss, z, t, **options).tolist() == [0, 0, 1, -1]


@each_dtype
def test_what_the_teacher_excludes_and_what_only_the_student_does(dtype: Any):
    z, w = np.array([[0.0, 1.0, 2.0]], dtype), np.array([[0.5, -np.inf, 0.0]], dtype)
    value, grads, size = bench.divergence(z[0], w[0])
    near(losses.kl_div_with_logits(z, w, reduction="none"), Truth([value]), dtype, bounds(dtype, 8), "value")
    near(gradient(losses.kl_div_with_logits, z, w), Truth([grads], [size]), dtype, bounds(dtype, 8), "gradient")
    assert losses.kl_div_with_logits(w, z, reduction="none").data == np.inf
    p, q = bench.Row(z[0]).p, bench.Row(w[0]).p
    grads = [[b - a for a, b in zip(p, q, strict=True)]]
    near(
        gradient(losses.kl_div_with_logits, w, z),
        Truth(grads, [list(map(max, p, q))]),
        dtype,
        bounds(dtype, 8),
        "infinite",
    )


# ----- Contrast -----


@each_dtype
@pytest.mark.parametrize("name", ["info_nce", "nt_xent"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_contrast(name: str, reduction: str, dtype: Any):
    """16 ULP per unit of logit; what is summed has both signs, so the gradient's count in ULP of its largest term."""
    engine = bench.by_fluxgrad(name)
    for batch in bench.contrast(name, reduction)(dtype, True):
        if reduction == "none":
            batch.options.pop("reduction")
        L, g = engine(batch)
        near(L, batch.value, dtype, bounds(dtype, 16) * batch.logit, "value", batch.args)
        near(g, batch.grad, dtype, bounds(dtype, 16) * batch.logit, "gradient", batch.args)


# ----- Any numbers, and the program -----

numbers = st.one_of(
    st.floats(-50, 50), st.floats(-800, 800), st.floats(-1e30, 1e30), st.sampled_from([0.0, -0.0, 1e-300])
)


@given(st.lists(numbers, min_size=2, max_size=6), st.integers(0, 5), st.sampled_from(GAMMAS), st.sampled_from(DTYPES))
@settings(max_examples=60, deadline=None)
def test_any_row(z: list[float], label: int, gamma: float, dtype: Any):
    x = np.array([z], dtype)
    t = label % len(z)
    row = bench.Row(x[0])
    value, grads = row.label(t)
    near(losses.cross_entropy(x, [t], reduction="none"), Truth([value]), dtype, bounds(dtype, 8), "value", (x,))
    near(gradient(losses.cross_entropy, x, [t]), Truth([grads]), dtype, bounds(dtype, 8), "gradient", (x,))
    value, grads = row.focal(t, gamma)
    bound = bounds(dtype, 8 + 4 * gamma)
    near(losses.focal_loss(x, [t], gamma=gamma, reduction="none"), Truth([value]), dtype, bound, "focal", (x,))
    near(gradient(losses.focal_loss, x, [t], gamma=gamma), Truth([grads]), dtype, bound, "focal gradient", (x,))


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=6), st.sampled_from(DTYPES))
@settings(max_examples=60, deadline=None)
def test_any_divergence(pairs: list[tuple[float, float]], dtype: Any):
    z, w = np.array(pairs, dtype).T
    # A p below the normal range has few digits left, and u = 1e28 would make them large again: e⁻⁷⁴² · 1e28 is 1e-294.
    p = Truth(bench.Row(w).p).high
    assume(not np.any((p < 1e-307) & np.isfinite(w)))
    away = np.abs(w.astype(float) - z)
    assume(not np.any((away > 0) & (away < 1e-30)))  # whose square would need more digits than the truth has
    value, grads, size = bench.divergence(z, w)
    near(
        losses.kl_div_with_logits(z[None], w[None], reduction="none"),
        Truth([value]),
        dtype,
        bounds(dtype, 8),
        "value",
        (z[None], w[None]),
    )
    g = gradient(losses.kl_div_with_logits, z[None], w[None])
    near(g, Truth([grads], [size]), dtype, bounds(dtype, 8), "gradient", (z[None], w[None]))


@pytest.mark.parametrize("offset", [-1e4, -760, -745, -740, -720, -650, -300, 300, 600, 700, 709, 720, 1e4])
def test_logits_whose_exponential_is_no_number(offset: float):
    """What runs without the largest logit, and what cannot, give the same; exp(−740) has two digits left."""
    z = (np.array([[0.0, -1.25, -20.0], [-20.0, 0.0, -1.5]]) + offset).astype(np.float32)
    for labels in ([0, 1], [2, 0]):
        for loss in (losses.cross_entropy, losses.focal_loss):
            want = loss(z.astype(float) - offset, labels, reduction="none").data.astype(np.float32)
            np.testing.assert_array_max_ulp(loss(z, labels, reduction="none").data, want, 1)
            truth = gradient(loss, z.astype(float) - offset, labels).astype(np.float32)
            np.testing.assert_array_max_ulp(gradient(loss, z, labels), truth, 1)


def test_the_program_starts(tmp_path: Path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "digits.py", "--small", "--no-peers", "--only", "mse"],
        env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[3:]] == [
        ["mse_loss", "float32"],
        ["mse_loss", "float64"],
    ]
    assert not done.stderr
