"""The losses: PyTorch's numbers, the paper's signals, and no silent broadcast."""

from __future__ import annotations

import gc
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fluxgrad as fg
from fluxgrad import losses


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")


def leaf(data, **how):
    return fg.Tensor(data, requires_grad=True, **how)


RNG = np.random.default_rng(0)
P, T = RNG.normal(size=(5, 3)) * 2, RNG.normal(size=(5, 3))
Z, Y = RNG.normal(size=(5, 3)) * 4, (RNG.random((5, 3)) > 0.5).astype(float)
SOFT = RNG.random((5, 3))
WEIGHT = RNG.random((5, 3)) * 2
REDUCTIONS = ["mean", "sum", "none"]


def focal_by_torch(torch):
    def focal(z, t, alpha=0.25, gamma=2.0, reduction="mean"):
        ls = torch.nn.functional.logsigmoid
        p_t = torch.sigmoid(z) * t + torch.sigmoid(-z) * (1 - t)
        L = -((1 - p_t) ** gamma) * (ls(z) * t + ls(-z) * (1 - t))
        L = L if alpha is None else L * (alpha * t + (1 - alpha) * (1 - t))
        return {"mean": L.mean, "sum": L.sum, "none": lambda: L}[reduction]()

    return focal


def softmax_focal_by_torch(torch):
    def focal(z, t, alpha=None, gamma=2.0, reduction="mean", ignore_index=-100):
        valid = t != ignore_index
        safe = torch.where(valid, t, 0)
        log_p = torch.log_softmax(z, 1).gather(1, safe.unsqueeze(1)).squeeze(1)
        L = -((1 - log_p.exp()) ** gamma) * log_p * (1 if alpha is None else alpha[safe]) * valid
        return {"mean": lambda: L.sum() / valid.sum(), "sum": L.sum, "none": lambda: L}[reduction]()

    return focal


def kl_by_torch(torch):
    def kl(student, teacher, temperature=1.0, reduction="mean"):
        log_q, log_p = (torch.log_softmax(x / temperature, 1) for x in (student, teacher))
        L = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
        return {"mean": L.mean, "sum": L.sum, "none": lambda: L}[reduction]()

    return kl


def info_nce_by_torch(torch):
    F = torch.nn.functional

    def info_nce(query, positive_key, negative_keys=None, temperature=0.1, reduction="mean", similarity="cosine"):
        unit = (lambda x: F.normalize(x, dim=-1)) if similarity == "cosine" else (lambda x: x)
        q, k = unit(query), unit(positive_key)
        if negative_keys is None:
            return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q)), reduction=reduction)
        n = unit(negative_keys)
        away = q @ n.T if n.ndim == 2 else (q[:, None] * n).sum(-1)
        z = torch.cat([(q * k).sum(1, keepdim=True), away], 1)
        return F.cross_entropy(z / temperature, torch.zeros(len(q), dtype=torch.long), reduction=reduction)

    return info_nce


def nt_xent_by_torch(torch):
    F = torch.nn.functional

    def nt_xent(z_i, z_j, temperature=0.5, reduction="mean", similarity="cosine"):
        z = torch.cat([z_i, z_j])
        z = F.normalize(z, dim=-1) if similarity == "cosine" else z
        s = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=bool), -torch.inf)
        return F.cross_entropy(s, torch.arange(len(z)).roll(len(z_i)), reduction=reduction)

    return nt_xent


BY_TORCH = {
    "sigmoid_focal_loss": focal_by_torch,
    "focal_loss": softmax_focal_by_torch,
    "kl_div_with_logits": kl_by_torch,
    "info_nce": info_nce_by_torch,
    "nt_xent": nt_xent_by_torch,
}
"""What PyTorch has not, written with it as the paper writes it."""


def peer(torch, name):
    return BY_TORCH[name](torch) if name in BY_TORCH else getattr(torch.nn.functional, name)


N = np.log(SOFT / SOFT.sum(1, keepdims=True))
LABELS = np.array([0, 2, 1, 1, 0])
SOME = np.array([0, -100, 1, 2, -100])
CLASS_WEIGHT = np.array([0.5, 2.0, 1.25])
CASES = {
    "mse": ("mse_loss", P, T, {}),
    "mse weighted": ("mse_loss", P, T, {"weight": WEIGHT}),
    "l1": ("l1_loss", P, T, {}),
    "l1 weighted": ("l1_loss", P, T, {"weight": WEIGHT}),
    "huber": ("huber_loss", P, T, {}),
    "huber 0.3": ("huber_loss", P, T, {"delta": 0.3}),
    "huber 5": ("huber_loss", P, T, {"delta": 5.0}),
    "huber ∞": ("huber_loss", P, T, {"delta": np.inf}),
    "huber weighted": ("huber_loss", P, T, {"weight": WEIGHT, "delta": 0.7}),
    "smooth l1": ("smooth_l1_loss", P, T, {}),
    "smooth l1 0.3": ("smooth_l1_loss", P, T, {"beta": 0.3}),
    "smooth l1 0": ("smooth_l1_loss", P, T, {"beta": 0}),
    "bce": ("binary_cross_entropy_with_logits", Z, Y, {}),
    "bce soft": ("binary_cross_entropy_with_logits", Z, SOFT, {}),
    "bce weighted": ("binary_cross_entropy_with_logits", Z, SOFT, {"weight": WEIGHT}),
    "bce weighted by row": ("binary_cross_entropy_with_logits", Z, SOFT, {"weight": WEIGHT[:, :1]}),
    "bce pos_weight": ("binary_cross_entropy_with_logits", Z, Y, {"pos_weight": CLASS_WEIGHT}),
    "bce soft, both weights": (
        "binary_cross_entropy_with_logits",
        Z,
        SOFT,
        {"pos_weight": WEIGHT, "weight": CLASS_WEIGHT},
    ),
    "bce pos_weight 0": ("binary_cross_entropy_with_logits", Z, Y, {"pos_weight": np.array(0.0)}),
    "bce of p": ("binary_cross_entropy", SOFT, Y, {}),
    "bce of p, soft, weighted": ("binary_cross_entropy", SOFT, SOFT[::-1].copy(), {"weight": WEIGHT}),
    "ce": ("cross_entropy", Z, LABELS, {}),
    "ce one": ("cross_entropy", Z[0], np.array(2), {}),
    "ce two classes": ("cross_entropy", Z[:, :2], np.array([0, 1, 1, 1, 0]), {}),
    "ce one class": ("cross_entropy", Z[:, :1], np.zeros(5, int), {}),
    "ce image": ("cross_entropy", RNG.normal(size=(2, 4, 3, 2)), RNG.integers(0, 4, (2, 3, 2)), {}),
    "ce sequence": ("cross_entropy", RNG.normal(size=(2, 4, 3)), RNG.integers(0, 4, (2, 3)), {}),
    "ce many classes": ("cross_entropy", RNG.normal(size=(4, 100)), RNG.integers(0, 100, 4), {}),
    "ce weighted": ("cross_entropy", Z, LABELS, {"weight": CLASS_WEIGHT}),
    "ce one, weighted": ("cross_entropy", Z[0], np.array(2), {"weight": CLASS_WEIGHT}),
    "ce smoothed": ("cross_entropy", Z, LABELS, {"label_smoothing": 0.1}),
    "ce smoothed 1": ("cross_entropy", Z, LABELS, {"label_smoothing": 1.0}),
    "ce smoothed, weighted": ("cross_entropy", Z, LABELS, {"label_smoothing": 0.3, "weight": CLASS_WEIGHT}),
    "ce ignoring": ("cross_entropy", Z, SOME, {}),
    "ce ignoring a class": ("cross_entropy", Z, LABELS, {"ignore_index": 1}),
    "ce ignoring, all": (
        "cross_entropy",
        Z,
        SOME,
        {"label_smoothing": 0.3, "weight": CLASS_WEIGHT, "ignore_index": -100},
    ),
    "ce image ignoring": (
        "cross_entropy",
        RNG.normal(size=(2, 3, 2, 2)),
        np.array([[[0, -1], [2, 1]], [[-1, -1], [1, 1]]]),
        {"ignore_index": -1, "weight": CLASS_WEIGHT},
    ),
    "ce soft": ("cross_entropy", Z, SOFT, {}),
    "ce soft one": ("cross_entropy", Z[0], SOFT[0], {}),
    "ce soft image": ("cross_entropy", RNG.normal(size=(2, 3, 2)), RNG.random((2, 3, 2)), {}),
    "ce soft many classes": ("cross_entropy", RNG.normal(size=(4, 100)), RNG.random((4, 100)), {}),
    "ce soft, all": ("cross_entropy", Z, SOFT, {"label_smoothing": 0.3, "weight": CLASS_WEIGHT}),
    "focal": ("sigmoid_focal_loss", Z, Y, {}),
    "focal 0": ("sigmoid_focal_loss", Z, Y, {"gamma": 0.0}),
    "focal ½": ("sigmoid_focal_loss", Z, Y, {"gamma": 0.5, "alpha": 0.6}),
    "focal no alpha": ("sigmoid_focal_loss", Z, Y, {"alpha": None, "gamma": 3.0}),
    "softmax focal": ("focal_loss", Z, LABELS, {}),
    "softmax focal 0": ("focal_loss", Z, LABELS, {"gamma": 0.0}),
    "softmax focal ½": ("focal_loss", Z, LABELS, {"gamma": 0.5, "alpha": np.array([0.25, 1.0, 0.5])}),
    "softmax focal 5": ("focal_loss", Z, SOME, {"gamma": 5.0, "alpha": np.array([0.25, 1.0, 0.5])}),
    "softmax focal image": ("focal_loss", RNG.normal(size=(2, 4, 3)), RNG.integers(0, 4, (2, 3)), {"gamma": 1.0}),
    "softmax focal many classes": ("focal_loss", RNG.normal(size=(4, 100)), RNG.integers(0, 100, 4), {}),
    "kl": ("kl_div", N, SOFT, {}),
    "kl log": ("kl_div", N, N[::-1].copy(), {"log_target": True}),
    "kl logits": ("kl_div_with_logits", Z, Z[::-1].copy(), {}),
    "kl logits, close": ("kl_div_with_logits", Z, Z + 0.01 * P, {}),
    "kl logits, T": ("kl_div_with_logits", Z, P, {"temperature": 3.0}),
    "kl logits, many classes": ("kl_div_with_logits", RNG.normal(size=(4, 100)), RNG.normal(size=(4, 100)), {}),
    "infonce": ("info_nce", P, T, {}),
    "infonce, dot": ("info_nce", P, T, {"similarity": "dot", "temperature": 2.0}),
    "infonce, negatives": ("info_nce", P, T, {"negative_keys": RNG.normal(size=(4, 3))}),
    "infonce, its own negatives": ("info_nce", P, T, {"negative_keys": RNG.normal(size=(5, 4, 3))}),
    "nt-xent": ("nt_xent", P, T, {}),
    "nt-xent, dot": ("nt_xent", P, T, {"similarity": "dot", "temperature": 2.0}),
}


def into_torch(torch, x, dtype=None):
    return torch.tensor(x if dtype is None else x.astype(dtype)) if isinstance(x, np.ndarray) else x


@pytest.mark.filterwarnings("ignore:reduction. 'mean':UserWarning")  # PyTorch's, of kl_div
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "p", "t", "how"), CASES.values(), ids=CASES)
def test_values_fluxions_and_second_fluxions_are_pytorchs(torch, name, p, t, how, reduction):
    loss, want = getattr(losses, name), peer(torch, name)
    a, b = leaf(p), torch.tensor(p, requires_grad=True)
    L = loss(a, t, reduction=reduction, **how)
    M = want(b, into_torch(torch, t), reduction=reduction, **{k: into_torch(torch, v) for k, v in how.items()})
    assert L.shape == tuple(M.shape) and L.dtype == np.float64
    np.testing.assert_allclose(L.data, M.detach().numpy(), rtol=1e-13, atol=1e-15)
    c = np.cos(np.arange(L.size, dtype=float)).reshape(L.shape)
    v = np.sin(np.arange(p.size, dtype=float)).reshape(p.shape)
    (L * c).sum().backward()
    (g,) = torch.autograd.grad((M * torch.tensor(c)).sum(), b, create_graph=True)
    assert a.grad.shape == p.shape
    np.testing.assert_allclose(a.grad, g.detach().numpy(), rtol=1e-12, atol=1e-14)

    reduced = lambda x: np.sum(loss(x, t, reduction=reduction, **how) * c)
    np.testing.assert_allclose(fg.grad(reduced)(p), a.grad, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(fg.jvp(reduced, (p,), (v,))[1], np.sum(a.grad * v), rtol=1e-12, atol=1e-14)
    (h,) = torch.autograd.grad((g * torch.tensor(v)).sum(), b, allow_unused=True) if g.requires_grad else (None,)
    h = np.zeros_like(p) if h is None else h.numpy(force=True)
    hv = fg.grad(lambda x: np.sum(fg.grad(reduced)(x) * v))(p)
    np.testing.assert_allclose(hv, h, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(fg.jvp(fg.grad(reduced), (p,), (v,))[1], h, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("name", "p", "t", "how"), CASES.values(), ids=CASES)
def test_float32_stays_float32(name, p, t, how):
    loss = getattr(losses, name)
    exact = loss(p, t, reduction="none", **how).data
    for target in (t, t if t.dtype == int else t.astype(np.float32), fg.Tensor(t)):
        a = leaf(p.astype(np.float32))
        for reduction in REDUCTIONS:
            L = loss(a, target, reduction=reduction, **how)
            assert L.dtype == np.float32
            a.grad = None
            L.sum().backward()
            assert a.grad.dtype == np.float32
        np.testing.assert_allclose(loss(a, target, reduction="none", **how).data, exact, rtol=2e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:reduction. 'mean':UserWarning")  # PyTorch's, of kl_div
def test_the_targets_fluxions(torch):
    names = [
        "mse", "mse weighted", "l1", "huber", "huber 0.3", "huber weighted", "smooth l1 0.3", "bce soft", "bce weighted",
        "bce soft, both weights", "bce of p, soft, weighted", "ce soft", "ce soft image", "ce soft many classes", "ce soft, all",
        "kl", "kl log", "kl logits", "kl logits, close", "kl logits, T", "kl logits, many classes", "infonce", "nt-xent",
    ]  # fmt: skip
    for name, p, t, how in map(CASES.get, names):
        for reduction in REDUCTIONS:
            a, b = leaf(p), torch.tensor(p, requires_grad=True)
            s, u = leaf(t), torch.tensor(t, requires_grad=True)
            getattr(losses, name)(a, s, reduction=reduction, **how).sum().backward()
            M = peer(torch, name)(b, u, reduction=reduction, **{k: into_torch(torch, v) for k, v in how.items()})
            M.sum().backward()
            np.testing.assert_allclose(s.grad, u.grad.numpy(), rtol=1e-12, atol=1e-14, err_msg=name)
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12, atol=1e-14, err_msg=name)
            only = leaf(t)
            getattr(losses, name)(p, only, reduction=reduction, **how).sum().backward()
            np.testing.assert_array_equal(only.grad, s.grad)


def test_a_target_that_cannot_answer_is_refused():
    t = leaf([0.0, 1.0])
    with pytest.raises(ValueError, match=r"sigmoid_focal_loss: target must be 0 or 1 and cannot require grad"):
        losses.sigmoid_focal_loss([1.0, 2.0], t)
    with pytest.raises(ValueError, match="integers"):
        losses.focal_loss([[1.0, 2.0]] * 2, t)


# ----- Closed forms -----


def test_mse():
    y = leaf([1.0, 3.0])
    L = losses.mse_loss(y, [1.0, 1.0])
    L.backward()
    assert L.item() == 2 and y.grad.tolist() == [0, 2]
    assert losses.mse_loss([1.0, 3.0], [1.0, 1.0], "sum").item() == 4
    assert losses.mse_loss([1.0, 3.0], [1.0, 1.0], reduction="none").tolist() == [0, 4]
    assert losses.mse_loss(3.0, 1.0).item() == 4
    assert fg.hessian(lambda y: losses.mse_loss(y, [1.0, 1.0]))(np.array([1.0, 3.0])).tolist() == [[1, 0], [0, 1]]


def test_huber_on_both_sides_and_on_the_edge():
    y = leaf([0.5, 10.0, 1.0, -1.0, -3.0, 0.0])
    L = losses.huber_loss(y, np.zeros(6), reduction="none")
    assert L.tolist() == [0.125, 9.5, 0.5, 0.5, 2.5, 0]
    L.sum().backward()
    assert y.grad.tolist() == [0.5, 1, 1, -1, -1, 0]
    y.grad = None
    losses.huber_loss(y, np.zeros(6), reduction="sum", delta=2).backward()
    assert y.grad.tolist() == [0.5, 2, 1, -1, -2, 0]
    inside = fg.grad(fg.grad(lambda r: losses.huber_loss(r, 0.0)))
    assert inside(0.5) == 1 and inside(3.0) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logistic_at_the_far_ends_loses_no_digit(dtype):
    z = np.array([0.0, 40.0, -40.0, 80.0, -80.0, 1e4, -1e4, 1e-8], dtype)
    for target in (0.0, 1.0):
        a = leaf(z)
        L = losses.binary_cross_entropy_with_logits(a, np.full(8, target), reduction="none")
        s = (1 if target == 0 else -1) * z.astype(np.longdouble)
        value = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))
        signal = (1 if target == 0 else -1) * np.where(s >= 0, 1 / (1 + np.exp(-s)), np.exp(s) / (1 + np.exp(s)))
        L.sum().backward()
        eps = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(L.data, value.astype(dtype), rtol=eps, atol=0)
        np.testing.assert_allclose(a.grad, signal.astype(dtype), rtol=eps, atol=np.finfo(dtype).tiny)


def test_cross_entropy_is_the_surprise_at_the_label():
    z = leaf([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]])
    L = losses.cross_entropy(z, [2, 0], reduction="none")
    p = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    np.testing.assert_allclose(L.data, [-math.log(p[2]), 0], rtol=1e-14)
    L.sum().backward()
    np.testing.assert_allclose(z.grad, [[p[0], p[1], p[2] - 1], [0, 0, 0]], rtol=1e-14, atol=1e-15)
    assert losses.cross_entropy([0.0, 0.0], 1).item() == pytest.approx(math.log(2))
    assert losses.cross_entropy(np.array([[0.0, -np.inf, 0.0]]), [0]).item() == pytest.approx(math.log(2))


def test_cross_entropy_takes_labels_of_every_integer_kind():
    z = np.array([[1.0, 2.0], [3.0, 0.0]])
    want = losses.cross_entropy(z, [1, 0]).item()
    for labels in (
        [1, 0],
        (1, 0),
        np.array([1, 0], np.uint8),
        np.array([1, 0], np.int16),
        np.array([1, 0], np.uint64),
        fg.Tensor([1, 0]),
    ):
        assert losses.cross_entropy(z, labels).item() == want


def test_focal_is_bce_at_gamma_zero_and_its_signal_vanishes_on_easy_ones():
    for alpha in (None, 0.5):
        a, b = leaf(Z), leaf(Z)
        L = losses.sigmoid_focal_loss(a, Y, alpha=alpha, gamma=0.0)
        M = losses.binary_cross_entropy_with_logits(b, Y) * (1 if alpha is None else alpha)
        L.backward()
        M.backward()
        assert L.item() == pytest.approx(M.item(), rel=1e-14)
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-12, atol=1e-16)
    z = leaf([20.0, -20.0])
    losses.sigmoid_focal_loss(z, [1.0, 1.0], reduction="sum").backward()
    assert abs(z.grad[0]) < 1e-20 and z.grad[1] == pytest.approx(-0.25, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(float, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-6, 6)),
    st.sampled_from(["mse_loss", "huber_loss", "binary_cross_entropy_with_logits", "sigmoid_focal_loss"]),
    st.sampled_from(REDUCTIONS),
)
def test_the_signal_is_the_slope_at_any_shape(z, name, reduction):
    t = (np.cos(np.arange(z.size, dtype=float)).reshape(z.shape) > 0).astype(float)
    loss = lambda x: np.sum(getattr(losses, name)(x, t, reduction=reduction))
    v, h = np.sin(np.arange(z.size, dtype=float) + 1).reshape(z.shape), 1e-5
    slope = (loss(z + h * v).item() - loss(z - h * v).item()) / (2 * h)
    assert np.sum(fg.grad(loss)(z) * v) == pytest.approx(slope, rel=1e-4, abs=1e-5)
    each = getattr(losses, name)(z, t, reduction="none")
    assert each.shape == z.shape
    assert getattr(losses, name)(z, t).item() == pytest.approx(each.data.mean(), rel=1e-13)
    assert getattr(losses, name)(z, t, reduction="sum").item() == pytest.approx(each.data.sum(), rel=1e-13)


MASKED = np.array([[0.5, -np.inf, 2.0, -1.0], [-np.inf, 3.0, -np.inf, 2.0], [0.0, -np.inf, -np.inf, -np.inf]])
OPEN = [[0, 2, 3], [1, 3], [0]]
FIRST = np.array([2, 1, 0])


def test_a_mask_takes_its_class_out_value_and_signal():
    """−∞ is exact: the rest is, to the last digit, what it would be without the masked classes."""
    rng = np.random.default_rng(1)
    soft = np.where(np.isneginf(MASKED), 0, rng.random(MASKED.shape))
    teacher = np.where(np.isneginf(MASKED), -np.inf, rng.normal(size=MASKED.shape))
    for dtype in (np.float64, np.float32):
        z = MASKED.astype(dtype)
        for loss, target, pick in (
            (losses.cross_entropy, FIRST, lambda t, n, k: k.index(t[n])),
            (losses.cross_entropy, soft, lambda t, n, k: t[n][k]),
            (losses.kl_div_with_logits, teacher, lambda t, n, k: t[n][k]),
            (lambda *a, **o: losses.focal_loss(*a, gamma=0.5, **o), FIRST, lambda t, n, k: k.index(t[n])),
            (losses.focal_loss, FIRST, lambda t, n, k: k.index(t[n])),
        ):
            a = leaf(z)
            L = loss(a, target, reduction="none")
            L.sum().backward()
            assert np.isfinite(L.data).all() and np.isfinite(a.grad).all()
            assert (a.grad[np.isneginf(z)] == 0).all()
            for n, k in enumerate(OPEN):
                if len(k) == 1:  # nothing else is left: it is certain
                    assert L.data[n] == 0 and (a.grad[n] == 0).all()
                    continue
                b = leaf(z[n][k])
                M = loss(b.reshape(1, -1), np.expand_dims(pick(target, n, k), 0))
                M.backward()
                np.testing.assert_allclose(L.data[n], M.data, rtol=4 * np.finfo(dtype).eps)
                np.testing.assert_allclose(a.grad[n][k], b.grad, rtol=4 * np.finfo(dtype).eps, atol=1e-16)


def test_what_is_masked_on_the_label_itself_is_infinite_and_still_sends_a_signal():
    a = leaf([[0.0, -np.inf]])
    L = losses.cross_entropy(a, [1])
    L.backward()
    assert L.item() == np.inf and a.grad.tolist() == [[1, -1]]
    a = leaf([[0.0, -np.inf]])
    L = losses.kl_div_with_logits(a, [[0.0, 0.0]])
    L.backward()
    assert L.item() == np.inf and a.grad.tolist() == [[0.5, -0.5]]
    a = leaf([[0.0, -np.inf]])
    L = losses.kl_div_with_logits(a, [[3.0, -np.inf]])
    L.backward()
    assert L.item() == 0 and a.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize("z", [[np.inf, -np.inf], [-np.inf, np.inf], [1e30, -1e30], [-1e30, 1e30], [800.0, -800.0]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_logits_that_are_sure_and_right_cost_nothing_and_wrong_ones_what_they_are(z, dtype):
    z = np.array(z, dtype)
    for gamma in (0, 0.5, 2):
        for loss in (
            losses.binary_cross_entropy_with_logits,
            lambda *a, **o: losses.binary_cross_entropy_with_logits(*a, pos_weight=1.0, **o),
            lambda *a, gamma=gamma, **o: losses.sigmoid_focal_loss(*a, None, gamma, **o),
        ):  # fmt: skip
            for right in (True, False):
                a = leaf(z)
                L = loss(a, (z > 0) == right, reduction="none")
                L.sum().backward()
                assert L.tolist() == ([0, 0] if right else np.abs(z).tolist())
                assert a.grad.tolist() == ([0, 0] if right else np.sign(z).tolist())


def test_what_an_ignored_row_holds_reaches_nothing():
    for bad in (np.nan, np.inf, -np.inf):
        for loss, how in (
            (losses.cross_entropy, {}), (losses.cross_entropy, {"label_smoothing": 0.1, "weight": [1.0, 2.0, 3.0]}),
            (losses.focal_loss, {}), (losses.focal_loss, {"alpha": [0.5, 0.25, 1.0]}),
        ):  # fmt: skip
            for reduction in REDUCTIONS:
                a, b = leaf([[1.0, 2.0, 0.5], [bad] * 3, [0.0, 1.0, 0.0]]), leaf([[1.0, 2.0, 0.5], [0.0, 1.0, 0.0]])
                L = loss(a, [0, -100, 2], reduction=reduction, **how)
                M = loss(b, [0, 2], reduction=reduction, **how)
                L.sum().backward()
                M.sum().backward()
                assert L.tolist() == (M.tolist() if reduction != "none" else [M.tolist()[0], 0, M.tolist()[1]])
                assert a.grad.tolist() == [b.grad.tolist()[0], [0, 0, 0], b.grad.tolist()[1]]


def test_nothing_that_counts_is_one_answer():
    """The mean of nothing is NaN, the sum 0, and what it sends back 0."""
    z = [[1.0, 2.0], [0.0, 1.0]]
    for act in (
        lambda a, how: losses.cross_entropy(a, [-100, -100], reduction=how),
        lambda a, how: losses.cross_entropy(a, [-100, -100], reduction=how, label_smoothing=0.1),
        lambda a, how: losses.cross_entropy(a, [0, 1], weight=[0.0, 0.0], reduction=how),
        lambda a, how: losses.focal_loss(a, [-100, -100], reduction=how),
        lambda a, how: losses.focal_loss(a, [-100, -100], alpha=[0.5, 0.5], reduction=how),
        lambda a, how: losses.mse_loss(a, z, weight=np.zeros((2, 2)), reduction=how),
    ):
        for how in REDUCTIONS:
            a = leaf(z)
            L = act(a, how)
            L.sum().backward()
            assert np.isnan(L.item()) if how == "mean" else (L.data == 0).all()
            assert (a.grad == 0).all()
    for name, p, t, how in CASES.values():
        if name in ("info_nce", "nt_xent") and "negative_keys" in how:
            continue  # (negatives of its own have a batch as well)
        if p.ndim < 2:
            continue
        how = {k: v[:0] if np.shape(v)[:1] == p.shape[:1] else v for k, v in how.items()}
        for reduction in REDUCTIONS:
            a = leaf(p[:0])
            L = getattr(losses, name)(a, t[:0], reduction=reduction, **how)
            L.sum().backward()
            assert L.shape == ((0, *t.shape[1:]) if reduction == "none" else ()) or name in (
                "kl_div_with_logits",
                "info_nce",
                "nt_xent",
                "cross_entropy",
            )
            assert a.grad.shape == p[:0].shape
            assert reduction == "none" or (np.isnan(L.item()) if reduction == "mean" else L.item() == 0)


def test_a_row_of_nothing_but_masks_or_with_nan_is_nan():
    for z in ([-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]):
        with np.errstate(invalid="ignore"):
            for loss in (losses.cross_entropy, losses.focal_loss):
                a = leaf([z])
                L = loss(a, [0])
                L.backward()
                assert np.isnan(L.item()) and np.isnan(a.grad).any()
    for name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"):
        a = leaf([np.nan, 1.0])
        getattr(losses, name)(a, [0.0, 0.0]).backward()
        assert np.isnan(a.grad[0]) and np.isfinite(a.grad[1])  # (PyTorch's l1 hides it)


def test_numbers_at_the_edge_of_their_dtype():
    f32 = np.float32
    far = fg.grad(lambda z: losses.huber_loss(z, f32(0), delta=np.inf, reduction="sum"))
    with np.errstate(over="ignore"):  # (the value is too large for the dtype)
        assert (
            far(f32(1e20)) == f32(1e20) and fg.grad(lambda z: losses.huber_loss(z, 0.0, delta=np.inf))(1e160) == 1e160
        )
    with np.errstate(over="ignore"):  # its sum is no float32, its mean is
        assert losses.mse_loss(np.full(10, 1e19, f32), np.zeros(10, f32)).item() == pytest.approx(1e38)
    assert losses.l1_loss(np.full(3, 3e38, f32), np.zeros(3, f32)).item() == pytest.approx(3e38)
    np.testing.assert_array_max_ulp(losses.l1_loss(np.full(127, 0.1, f32), np.zeros(127, f32)).data, f32(0.1), 1)
    for beta in (1e-50, 1e-45, 0.0):
        assert losses.smooth_l1_loss(np.ones(2, f32), np.array([0, 1], f32), beta=beta, reduction="none").tolist() == [
            1,
            0,
        ]
    assert losses.smooth_l1_loss(np.ones(2, np.float16), [0.0, 1.0], beta=1e-8, reduction="none").tolist() == [1, 0]
    for w in (1e-50, 1e50):
        assert losses.l1_loss(np.full(2, 3, f32), np.zeros(2), weight=[w, w]).item() == pytest.approx(3)
    assert losses.mse_loss(np.full(10, 200, np.float16), np.zeros(10), weight=np.full(10, 2.0)).item() == 40000
    for size in (1e200, 1e-200):
        a = leaf(np.eye(3) * size)
        L = losses.info_nce(a, np.eye(3) * size)
        assert L.item() == pytest.approx(losses.info_nce(np.eye(3), np.eye(3)).item(), rel=1e-12)
        L.backward()
        assert np.isfinite(a.grad).all()


@pytest.mark.skipif(np.finfo(np.longdouble).eps == np.finfo(float).eps, reason="longdouble is float64 here")
def test_longdouble_is_not_rounded_on_the_way():
    z = np.array([["5000", "0"]]).astype(np.longdouble)
    plain = losses.cross_entropy(z, [0])
    for how in ({"weight": [1.0, 1.0]}, {"weight": [2.0, 3.0]}):
        weighted = losses.cross_entropy(z, [0], **how)
        assert weighted.dtype == np.longdouble and plain.data == weighted.data > 0


def test_smoothing_many_classes_costs_no_square():
    z = np.zeros((2, 60_000), np.float32)
    assert losses.cross_entropy(z, [0, 59_999], label_smoothing=0.1).item() == pytest.approx(math.log(60_000), rel=1e-6)
    assert losses.smooth_labels([59_999], 60_000).shape == (1, 60_000)


def test_the_curvature_of_a_sure_row_keeps_its_digits():
    q = math.exp(-40)
    H = fg.hessian(lambda z: losses.cross_entropy(z, 0))(np.array([40.0, 0.0]))
    np.testing.assert_allclose(H, q * np.array([[1, -1], [-1, 1]]), rtol=1e-12)
    H = fg.hessian(lambda z: losses.cross_entropy(z, 0))(np.array([20.0, 0.0], np.float32))
    np.testing.assert_allclose(H, math.exp(-20) * np.array([[1, -1], [-1, 1]]), rtol=1e-5)


def test_kl_is_never_negative():
    rng = np.random.default_rng(2)
    for scale in (1e-12, 1e-6, 1e-3, 1, 30):
        for dtype in (np.float64, np.float32):
            z = rng.normal(size=(200, 5)).astype(dtype) * 10
            w = (z + rng.normal(size=z.shape) * scale).astype(dtype)
            assert (losses.kl_div_with_logits(z, w, reduction="none").data >= 0).all()
            a = leaf(z)
            L = losses.kl_div_with_logits(a, z)
            L.backward()
            assert L.item() == 0 and (a.grad == 0).all()


# ----- Where we differ from PyTorch, and mean to -----


def test_torch_clamps_the_surprise_of_a_probability(torch):
    p = torch.tensor([0.0, 1e-50], dtype=torch.float64)
    theirs = torch.nn.functional.binary_cross_entropy(p, torch.ones(2, dtype=torch.float64), reduction="none")
    assert theirs.tolist() == [100, 100]
    with np.errstate(divide="ignore"):
        ours = losses.binary_cross_entropy(p.numpy(), [1.0, 1.0], reduction="none")
    assert ours.tolist() == [np.inf, pytest.approx(50 * math.log(10))]


def test_torch_takes_a_target_outside_of_0_to_1(torch):
    F = torch.nn.functional
    assert F.binary_cross_entropy_with_logits(torch.tensor([1.0]), torch.tensor([2.0])).item() < 0
    assert torch.isfinite(F.cross_entropy(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])))
    for act in (
        lambda: losses.binary_cross_entropy_with_logits([1.0], [2.0]), lambda: losses.cross_entropy([[1.0, 2.0]], [[3.0, -1.0]]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"target must lie in \[0, 1\]"):
            act()


def test_torch_broadcasts_and_only_warns(torch):
    with pytest.warns(UserWarning, match="broadcasting"):
        torch.nn.functional.mse_loss(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(3, 1\) and target \(3,\)"):
        losses.mse_loss(np.zeros((3, 1)), np.zeros(3))


def test_torch_ignores_a_negative_smoothing(torch):
    z, t = torch.tensor([[1.0, 2.0]]), torch.tensor([0])
    F = torch.nn.functional
    assert F.cross_entropy(z, t, label_smoothing=-0.1) == F.cross_entropy(z, t)
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\]; given -0.1"):
        losses.cross_entropy([[1.0, 2.0]], [0], label_smoothing=-0.1)


def test_torch_loses_the_tail(torch):
    z = torch.tensor([[40.0, 0.0]], dtype=torch.float64, requires_grad=True)
    L = torch.nn.functional.cross_entropy(z, torch.tensor([0]))
    L.backward()
    assert L.item() == 0 and z.grad[0, 0] == 0
    a = leaf([[40.0, 0.0]])
    M = losses.cross_entropy(a, [0])
    M.backward()
    assert M.item() == pytest.approx(math.exp(-40), rel=1e-15) and a.grad[0, 0] == pytest.approx(
        -math.exp(-40), rel=1e-15
    )


def test_torch_lets_an_ignored_row_and_a_mask_spoil_the_signal(torch):
    z = torch.tensor([[1.0, 2.0], [math.nan, 0.0]], requires_grad=True)
    torch.nn.functional.cross_entropy(z, torch.tensor([0, -100])).backward()
    assert torch.isnan(z.grad).any()
    masked, hot = torch.tensor([[0.0, -math.inf]]), torch.tensor([[1.0, 0.0]])
    assert torch.isnan(torch.nn.functional.cross_entropy(masked, hot))
    assert losses.cross_entropy(masked.numpy(), hot.numpy()).item() == 0


def test_torch_gives_a_negative_divergence(torch):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100, 5)).astype(np.float32) * 10
    w = (z + rng.normal(size=z.shape).astype(np.float32) * 1e-4).astype(np.float32)
    ls = torch.log_softmax
    theirs = torch.nn.functional.kl_div(
        ls(torch.tensor(z), 1), ls(torch.tensor(w), 1), reduction="none", log_target=True
    )
    assert (theirs.sum(1) < 0).any()
    assert (losses.kl_div_with_logits(z, w, reduction="none").data >= 0).all()


def test_torch_wants_int64_labels(torch):
    with pytest.raises(RuntimeError):
        torch.nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([1], dtype=torch.int32))
    for dtype in "bBhHiIlLqQ":
        assert losses.cross_entropy([[0.0, 0.0]], np.array([1], dtype)).item() == math.log(2)


def test_the_same_data_as_labels_and_as_probabilities_has_two_means():
    """PyTorch's rule, and ours: Σ w·L / Σ w of labels, Σ w·L / N of probabilities; Huber's Σ w·L / n."""
    w = [1.0, 3.0]
    z, L = [[0.0, 0.0], [0.0, 0.0]], math.log(2)
    assert losses.cross_entropy(z, [0, 1], weight=w).item() == pytest.approx(L)
    assert losses.cross_entropy(z, [[1.0, 0.0], [0.0, 1.0]], weight=w).item() == pytest.approx(2 * L)
    assert losses.mse_loss([1.0, 1.0], [0.0, 0.0], weight=w).item() == 1
    assert losses.huber_loss([1.0, 1.0], [0.0, 0.0], weight=w).item() == 1  # ½ · (1 + 3) / 2


# ----- hypothesis, with PyTorch where it is right -----

rows_of = hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_classes_anywhere_agree_with_pytorch(data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")
    z = data.draw(hnp.arrays(float, rows_of, elements=st.floats(-8, 8)))
    left, K = z.shape[:1] + z.shape[2:], z.shape[1]
    t = data.draw(hnp.arrays(np.int64, left, elements=st.sampled_from([-100, *range(K)])))
    how = {
        "weight": data.draw(st.none() | hnp.arrays(float, K, elements=st.floats(0.125, 4))),
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": data.draw(st.sampled_from(REDUCTIONS)),
    }
    if (t == -100).all() and how["reduction"] == "mean":
        t.flat[0] = 0
    c = np.cos(np.arange(t.size)).reshape(left) if how["reduction"] == "none" else np.ones(())
    a, b = leaf(z), torch.tensor(z, requires_grad=True)
    L = losses.cross_entropy(a, t, **how)
    M = torch.nn.functional.cross_entropy(b, torch.tensor(t), **{k: into_torch(torch, v) for k, v in how.items()})
    np.testing.assert_allclose(L.data, M.detach().numpy(), rtol=1e-12, atol=1e-14)
    (L * c).sum().backward()
    (M * torch.tensor(c)).sum().backward()
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-11, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_two_classes_anywhere_agree_with_pytorch(data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")
    z = data.draw(hnp.arrays(float, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-8, 8)))
    numbers = lambda low, high: hnp.arrays(float, z.shape, elements=st.floats(low, high))
    t = data.draw(numbers(0, 1))
    how = {"weight": data.draw(st.none() | numbers(0, 4)), "pos_weight": data.draw(st.none() | numbers(0, 4))}
    c = np.cos(np.arange(z.size)).reshape(z.shape)
    a, b = leaf(z), torch.tensor(z, requires_grad=True)
    s, u = leaf(t), torch.tensor(t, requires_grad=True)
    L = losses.binary_cross_entropy_with_logits(a, s, reduction="none", **how)
    M = torch.nn.functional.binary_cross_entropy_with_logits(
        b, u, reduction="none", **{k: into_torch(torch, v) for k, v in how.items()}
    )
    np.testing.assert_allclose(L.data, M.detach().numpy(), rtol=1e-12, atol=1e-14)
    (L * c).sum().backward()
    (M * torch.tensor(c)).sum().backward()
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(s.grad, u.grad.numpy(), rtol=1e-10, atol=1e-12)


# ----- Around the rows -----


@pytest.mark.parametrize(
    "name", ["mse_loss", "huber_loss", "binary_cross_entropy_with_logits", "sigmoid_focal_loss", "cross_entropy"]
)
def test_arrays_lists_and_tensors_on_either_side(name):
    loss = getattr(losses, name)
    p, t = [[0.5, 1.5], [1.0, -1.0]], [1, 0] if name == "cross_entropy" else [[1.0, 0.0], [0.0, 1.0]]
    want = loss(np.array(p), np.array(t))
    assert isinstance(want, fg.Tensor) and not want.requires_grad
    for a in (p, np.array(p), fg.Tensor(p), leaf(p)):
        for b in (t, np.array(t), fg.Tensor(t)):
            L = loss(a, b)
            assert L.item() == want.item() and L.requires_grad == (isinstance(a, fg.Tensor) and a.requires_grad)


@pytest.mark.parametrize("name", ["mse_loss", "huber_loss", "binary_cross_entropy_with_logits", "sigmoid_focal_loss"])
@pytest.mark.parametrize(
    ("a", "b"), [((4, 1), (4,)), ((4,), (4, 1)), ((4,), ()), ((2, 3), (3, 2)), ((3,), (4,)), ((1, 4), (4,)), ((0,), ())]
)
def test_shapes_never_broadcast(name, a, b):
    for p, t in (
        (np.zeros(a), np.zeros(b)),
        (leaf(np.zeros(a)), fg.Tensor(np.zeros(b))),
        (np.zeros(a), leaf(np.zeros(b))),
    ):
        with pytest.raises(ValueError) as info:
            getattr(losses, name)(p, t)
        for word in (name, "input", "target", str(a), str(b)):
            assert word in str(info.value)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: losses.mse_loss([1.0], [1.0], reduction="avg"), ["reduction", "'avg'", "mean", "sum", "none"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], reduction="batchmean"), ["reduction", "'batchmean'"]),
        (lambda: losses.sigmoid_focal_loss([1.0], [1.0], reduction=None), ["reduction", "None"]),
        (lambda: losses.huber_loss([1.0], [1.0], reduction="Mean"), ["reduction", "'Mean'"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [1.0], reduction=""), ["reduction", "''"]),
        (lambda: losses.huber_loss([1.0], [1.0], delta=0), ["huber_loss", "delta", "0"]),
        (lambda: losses.huber_loss([1.0], [1.0], delta=-1.0), ["delta", "-1.0"]),
        (lambda: losses.huber_loss([1.0], [1.0], delta=float("nan")), ["delta", "nan"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [2.0]), ["target", "[0, 1]", "2.0"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [-0.5]), ["target", "-0.5"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [float("nan")]), ["target", "nan"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0, 2.0], [1.0, 1.0], weight=[1.0, 2.0, 3.0]), ["weight",
        "(3,)", "(2,)"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [1.0], weight=[[1.0], [2.0]]), ["weight", "(2, 1)",
        "(1,)"]),
        (lambda: losses.sigmoid_focal_loss([1.0], [0.5]), ["target", "0", "1", "0.5"]),
        (lambda: losses.sigmoid_focal_loss([1.0], [1.0], gamma=-1), ["gamma", "-1"]),
        (lambda: losses.sigmoid_focal_loss([1.0], [1.0], gamma=float("nan")), ["gamma", "nan"]),
        (lambda: losses.sigmoid_focal_loss([1.0], [1.0], alpha=1.5), ["alpha", "1.5"]),
        (lambda: losses.smooth_l1_loss([1.0], [1.0], beta=-0.5), ["smooth_l1_loss", "beta", "-0.5"]),
        (lambda: losses.mse_loss([1.0], [1.0], weight=[1.0, 2.0]), ["mse_loss", "weight", "(2,)", "(1,)"]),
        (lambda: losses.l1_loss([1.0], [1.0], weight=[np.nan]), ["l1_loss", "weight", "nan", "finite"]),
        (lambda: losses.huber_loss([1.0], [1.0], weight=leaf([1.0])), ["huber_loss", "weight", "require grad"]),
        (lambda: losses.binary_cross_entropy_with_logits([1.0], [1.0], pos_weight=[np.inf]), ["pos_weight", "inf"]),
        (lambda: losses.binary_cross_entropy([1.5], [1.0]), ["binary_cross_entropy", "input", "[0, 1]", "1.5"]),
        (lambda: losses.binary_cross_entropy([np.nan], [1.0]), ["input", "[0, 1]", "nan"]),
        (lambda: losses.binary_cross_entropy([0.5], [-1.0]), ["target", "[0, 1]", "-1.0"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], weight=[1.0]), ["cross_entropy", "weight", "(1,)", "(2,)"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], weight=[1.0, np.nan]), ["weight", "nan"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], label_smoothing=1.5), ["label_smoothing", "[0, 1]", "1.5"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], label_smoothing=np.nan), ["label_smoothing", "nan"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0], ignore_index=1.5), ["ignore_index", "integer", "1.5"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0.5, 0.5]], ignore_index=1), ["ignore_index", "probabilities"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0.5, np.nan]]), ["target", "[0, 1]", "nan"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0.5, -0.5]]), ["target", "[0, 1]", "-0.5"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0, 1]]), ["labels", "(1, 2)", "(1,)", "probabilities"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0.5, 0.5, 0.0]]), ["target", "integers"]),
        (lambda: losses.focal_loss([[1.0, 2.0]], [0], gamma=-1), ["focal_loss", "gamma", "-1"]),
        (lambda: losses.focal_loss([[1.0, 2.0]], [0], gamma=np.inf), ["gamma", "inf"]),
        (lambda: losses.focal_loss([[1.0, 2.0]], [0], alpha=0.25), ["alpha", "()", "(2,)"]),
        (lambda: losses.focal_loss([[1.0, 2.0]], [0], alpha=[0.5, 1.5]), ["alpha", "[0, 1]", "1.5"]),
        (lambda: losses.focal_loss([[1.0]], [0]), ["focal_loss", "two classes", "(1, 1)"]),
        (lambda: losses.focal_loss([[1.0, 2.0]], [2]), ["focal_loss", "label", "2"]),
        (lambda: losses.kl_div([[0.0, -1.0]], [[1.0]]), ["kl_div", "(1, 2)", "(1, 1)"]),
        (lambda: losses.kl_div([0.0], [1.5]), ["kl_div", "target", "[0, 1]", "1.5"]),
        (lambda: losses.kl_div([0.0], [np.nan], log_target=True), ["kl_div", "target", "nan"]),
        (lambda: losses.kl_div([0.0], [1.0], reduction="avg"), ["batchmean", "'avg'"]),
        (lambda: losses.kl_div_with_logits([[1.0, 2.0]], [[1.0, 2.0]], temperature=0), ["temperature", "0"]),
        (lambda: losses.kl_div_with_logits([[1.0, 2.0]], [[1.0, 2.0]], temperature=-1.0), ["temperature", "-1.0"]),
        (lambda: losses.kl_div_with_logits([[1.0, 2.0]], [[1.0]]), ["student", "teacher", "(1, 2)", "(1, 1)"]),
        (lambda: losses.info_nce([[1.0, 2.0]], [[1.0, 2.0]], temperature=0), ["info_nce", "temperature", "0"]),
        (lambda: losses.info_nce([1.0, 2.0], [1.0, 2.0]), ["info_nce", "query", "(2,)", "(N, D)"]),
        (lambda: losses.info_nce([[1.0, 2.0]], [[1.0, 2.0, 3.0]]), ["positive_key", "(1, 3)", "(1, 2)"]),
        (lambda: losses.info_nce([[1.0, 2.0]], [[1.0, 2.0]], [[1.0]]), ["negative_keys", "1", "2"]),
        (lambda: losses.info_nce([[1.0]] * 2, [[1.0]] * 2, np.zeros((3, 4, 1))), ["negative_keys", "(3, 4, 1)"]),
        (lambda: losses.info_nce([[1.0]], [[1.0]], similarity="l2"), ["similarity", "'l2'", "cosine", "dot"]),
        (lambda: losses.nt_xent([[1.0]], [[1.0], [2.0]]), ["nt_xent", "z_i", "z_j", "(1, 1)", "(2, 1)"]),
        (lambda: losses.nt_xent([[1.0]], [[1.0]], temperature=np.nan), ["nt_xent", "temperature", "nan"]),
        (lambda: losses.nt_xent([[1.0]], [[1.0]], reduction="avg"), ["reduction", "'avg'"]),
        (lambda: losses.smooth_labels([3], 3), ["smooth_labels", "label", "3"]),
        (lambda: losses.smooth_labels([0], 3, 2.0), ["label_smoothing", "2.0"]),
        (lambda: losses.smooth_labels([0.5], 3), ["labels", "float64"]),
        (lambda: losses.huber_loss([0.0], [1.0], delta=None), ["huber_loss", "delta", "None"]),
        (lambda: losses.huber_loss([0.0], [1.0], delta=np.ones(1)), ["delta", "array([1.])"]),
        (lambda: losses.huber_loss([0.0], [1.0], delta=leaf(1.0)), ["delta", "Tensor"]),
        (lambda: losses.sigmoid_focal_loss([0.0], [1.0], gamma="2"), ["gamma", "'2'"]),
        (lambda: losses.sigmoid_focal_loss([0.0], [np.inf]), ["target", "0 or 1", "inf"]),
        (lambda: losses.cross_entropy([[0.0, 1.0]], [0], label_smoothing="a"), ["label_smoothing", "'a'"]),
        (lambda: losses.cross_entropy([[0.0, 1.0]], [0], reduction=["mean"]), ["reduction", "['mean']"]),
        (lambda: losses.nt_xent(np.eye(2), np.eye(2), temperature=10**400), ["temperature", "1000"]),
        (lambda: losses.smooth_labels([1], 3.0), ["num_classes", "3.0"]),
        (lambda: losses.smooth_labels([1], 3, dtype=int), ["dtype", "int64"]),
        (lambda: losses.cross_entropy([[0.0, 1.0]] * 2, np.array([1, 2**64 - 100], np.uint64)), ["18446744073709551516"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]] * 2, np.array([[0.5, 0.5]])), ["probabilities", "(1, 2)", "(2, 2)"]),
        (lambda: losses.cross_entropy(1.0, 0), ["cross_entropy", "classes"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [2]), ["label", "2", "0 to 1"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [-1]), ["label", "-1"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [-100], ignore_index=-1), ["label", "-100"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0.0]), ["labels", "integers", "float64"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [True]), ["labels", "bool"]),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [[0]]), ["labels", "(1, 1)", "(1,)"]),
        (lambda: losses.cross_entropy([[1.0, 2.0], [1.0, 2.0]], [0]), ["labels", "(1,)", "(2,)"]),
        (lambda: losses.cross_entropy([1.0, 2.0], [0]), ["labels", "(1,)", "()"]),
        (lambda: losses.cross_entropy(np.zeros((2, 3, 4)), np.zeros((2, 3), int)), ["labels", "(2, 3)", "(2, 4)"]),
        (lambda: losses.mse_loss([1, 2], [1, 2]), ["mse_loss", "input", "int64"]),
        (lambda: losses.cross_entropy([[1, 2]], [0]), ["input", "int64"]),
        (lambda: losses.mse_loss([1.0], [1j]), ["mse_loss", "target", "complex"]),
        (lambda: losses.mse_loss([1j], [1.0]), ["mse_loss", "input", "complex"]),
        (lambda: losses.mse_loss([1.0], None), ["mse_loss", "target", "None"]),
        (lambda: losses.mse_loss(None, [1.0]), ["mse_loss", "input", "None"]),
        (lambda: losses.mse_loss([1.0], ["a"]), ["mse_loss", "target", "'a'"]),
        (lambda: losses.cross_entropy(np.zeros((2, 0)), [0, 0]), ["cross_entropy", "0", "classes"]),
    ],
)  # fmt: skip
def test_refusals_name_the_argument_and_what_was_given(act, words):
    numbers = not {"complex", "None", "'a'"} & set(words)
    with pytest.raises(ValueError if numbers else (TypeError, ValueError)) as info:
        act()
    for word in words:
        assert word in str(info.value), f"{word!r} is not in: {info.value}"


def test_a_target_that_would_need_a_fluxion_it_has_not():
    with pytest.raises(ValueError, match="grad"):
        losses.sigmoid_focal_loss([1.0], leaf([1.0]))
    for labels in (leaf([0.0]), leaf([0.0]) * 1):
        with pytest.raises(ValueError, match="labels"):
            losses.cross_entropy([[1.0, 2.0]], labels)


def test_a_weight_that_requires_grad_gets_its_fluxion_or_is_refused():
    w, z = leaf([1.0, 2.0]), leaf([0.5, -1.0])
    try:
        losses.binary_cross_entropy_with_logits(z, [1.0, 0.0], weight=w, reduction="sum").backward()
    except (TypeError, ValueError) as error:
        assert "grad" in str(error)
    else:
        np.testing.assert_allclose(w.grad, [np.log1p(np.exp(-0.5)), np.log1p(np.exp(-1.0))], rtol=1e-14)


def test_no_examples_at_all(torch):
    """An empty batch: as in PyTorch, nothing to sum, and a mean of nothing that is nan, without a warning."""
    for name, p, t in (
        ("mse_loss", (0, 2), None), ("huber_loss", (0,), None), ("binary_cross_entropy_with_logits", (0, 1), None),
        ("cross_entropy", (0, 3), np.zeros(0, int)), ("sigmoid_focal_loss", (0,), None),
    ):  # fmt: skip
        t = np.zeros(p) if t is None else t
        a = leaf(np.zeros(p))
        total = getattr(losses, name)(a, t, reduction="sum")
        total.backward()
        assert total.item() == 0 and a.grad.shape == p
        assert getattr(losses, name)(a, t, reduction="none").shape == t.shape
        mean = getattr(losses, name)(a, t)
        assert np.isnan(mean.item())
        assert np.isnan(peer(torch, name)(torch.zeros(p), torch.tensor(t)).item())


def test_large_integers_and_float16_targets_are_cast_to_the_predictions_dtype():
    L = losses.mse_loss(leaf(np.zeros(2, np.float32)), np.array([1, 2], np.int64))
    assert L.dtype == np.float32 and L.item() == 2.5
    assert losses.mse_loss(leaf(np.zeros(2)), np.array([1, 2], np.float16)).dtype == np.float64


@pytest.mark.parametrize(("name", "p", "t", "how"), CASES.values(), ids=CASES)
def test_memory_stays_flat_and_a_second_sweep_gives_the_same(name, p, t, how):
    a = leaf(p)
    for reduction in REDUCTIONS:
        L = getattr(losses, name)(a, t, reduction=reduction, **how).sum()
        a.grad = None
        L.backward()
        first = a.grad
        a.grad = None
        L.backward()
        np.testing.assert_array_equal(a.grad, first)
        np.testing.assert_array_equal(fg.flows(L)[a], first)

    def once():
        for reduction in REDUCTIONS:
            L = getattr(losses, name)(a, t, reduction=reduction, **how)
            L.backward(np.ones(L.shape))
        a.grad = None

    del L
    for _ in range(20):
        once()
    gc.collect()
    gc.disable()
    try:
        grown = []
        for _ in range(3):
            before = sys.getallocatedblocks()
            for _ in range(200):
                once()
            assert gc.collect() == 0
            grown.append(sys.getallocatedblocks() - before)
        assert min(grown) < 300, grown  # a leak would be 600 or more each time; another thread's objects are not
    finally:
        gc.enable()


@pytest.mark.parametrize(("name", "p", "t", "how"), CASES.values(), ids=CASES)
def test_who_writes_to_a_gradient_changes_no_later_sweep(name, p, t, how):
    for reduction in REDUCTIONS:
        a = leaf(p)
        L = getattr(losses, name)(a, t, reduction=reduction, **how)
        L.backward(np.ones(L.shape))
        first = a.grad.copy()
        a.grad[...] = 7
        a.grad = None
        L.backward(np.ones(L.shape))
        np.testing.assert_array_equal(a.grad, first)


SINGLE = {
    name: CASES[name]
    for name in CASES
    if CASES[name][0] not in ("info_nce", "nt_xent") and not {"weight", "alpha", "pos_weight"} & CASES[name][3].keys()
}


@pytest.mark.parametrize(("name", "p", "t", "how"), SINGLE.values(), ids=SINGLE)
@pytest.mark.parametrize("factor", [np.float32(0.3), np.float32(2.0**100), np.float32(-1)])
def test_what_multiplies_a_loss_costs_it_no_digits(name, p, t, how, factor):
    """c·L sends back c·L̇, rounded once: no gradient is rounded, or lost below the normal range, before it is multiplied."""
    p, t = p.astype(np.float32), t.astype(np.float32) if t.dtype.kind == "f" else t
    shift = np.zeros_like(p)
    if name in ("cross_entropy", "focal_loss", "kl_div_with_logits") and p.ndim > 1:
        shift[:, 0] = -95  # of this class p is 1e-41 or less, of which float32 holds few digits
    single, double = leaf(p + shift), leaf((p + shift).astype(np.float64))
    loss = getattr(losses, name)
    (loss(single, t, **how) * factor).backward()
    (loss(double, t, **how) * np.float64(factor)).backward()
    regression = name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
    np.testing.assert_allclose(single.grad, double.grad, rtol=3.6e-7 if regression else 6e-8, atol=1e-45)
    assert single.grad.dtype == np.float32


@pytest.mark.parametrize(("name", "p", "t"), [
    ("binary_cross_entropy_with_logits", (40_000,), "soft"), ("sigmoid_focal_loss", (40_000,), "hard"),
    ("binary_cross_entropy", (40_000,), "soft"), ("kl_div", (40_000,), "soft"), ("cross_entropy", (1_100, 1_000), "labels"),
    ("cross_entropy", (60_000, 20), "labels"), ("focal_loss", (1_100, 1_000), "labels"), ("kl_div_with_logits", (1_100, 100), "logits"),
    ("huber_loss", (40_000,), "logits"),
])  # fmt: skip
def test_many_examples_are_computed_as_few_are(name, p, t):
    """What is computed piece by piece equals what is computed of a part alone."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=p).astype(np.float32) * 3
    if name in ("binary_cross_entropy", "kl_div"):
        z = rng.random(p).astype(np.float32)
    t = {
        "soft": lambda: rng.random(p).astype(np.float32), "hard": lambda: rng.integers(0, 2, p).astype(np.float32),
        "labels": lambda: rng.integers(0, p[-1], p[0]), "logits": lambda: rng.normal(size=p).astype(np.float32),
    }[t]()  # fmt: skip
    loss = getattr(losses, name)
    whole, each = leaf(z), leaf(z)
    loss(whole, t, reduction="mean").backward()
    n = z.size if z.shape == t.shape and name != "kl_div_with_logits" else len(z)
    upstream = rng.normal(size=len(z)).astype(np.float32)
    values = loss(each, t, reduction="none")
    values.backward(upstream)
    cuts = [0, 7, len(z) // 2 + 3, len(z) - 5, len(z)]
    for a, b in pairwise(cuts):
        if b - a > 1_000:
            a = b - 1_000
        part = leaf(z[a:b])
        L = loss(part, t[a:b], reduction="none")
        np.testing.assert_allclose(values.data[a:b], L.data, rtol=2e-7)
        L.backward(np.ones_like(L.data))
        np.testing.assert_allclose(whole.grad[a:b], part.grad.astype(float) / n, rtol=2e-7, atol=1e-45)
        part.grad = None
        L.backward(upstream[a:b])
        np.testing.assert_allclose(each.grad[a:b], part.grad, rtol=2e-7, atol=1e-45)


def test_a_write_to_targets_weights_or_labels_between_forward_and_sweep():
    for name, p, t, how in CASES.values():
        for reduction in REDUCTIONS:
            clean, a = leaf(p), leaf(p)
            loss = getattr(losses, name)
            loss(clean, t, reduction=reduction, **how).sum().backward()
            target, settings_ = t.copy(), {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in how.items()}
            given_, held = target[:] if t.ndim else target, a.data[:] if p.ndim > 1 else a.data
            L = loss(a, given_, reduction=reduction, **settings_).sum()
            target[...] = 0
            held[...] = 0.125
            for v in settings_.values():
                if isinstance(v, np.ndarray):
                    v[...] = 100
            L.backward()
            np.testing.assert_array_equal(a.grad, clean.grad, err_msg=name)
            as_tensor, b = fg.Tensor(t), leaf(p)
            view = as_tensor.data[...]
            L = loss(b, as_tensor, reduction=reduction, **how).sum()
            view[...] = 0
            L.backward()
            np.testing.assert_array_equal(b.grad, clean.grad, err_msg=name)


def test_the_loss_of_a_model_descends():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2))
    label = (x[:, 0] * x[:, 1] > 0).astype(int)
    for loss, width, target in (
        (losses.cross_entropy, 2, label), (losses.binary_cross_entropy_with_logits, 1, label[:, None]),
        (losses.sigmoid_focal_loss, 1, label[:, None]), (losses.mse_loss, 1, label[:, None]),
        (losses.huber_loss, 1, label[:, None]),
    ):  # fmt: skip
        model = fg.nn.MLP(2, [16, 16, width], activation=fg.nn.Tanh, seed=0)
        optimiser = fg.optim.Adam(model.parameters(), lr=0.02)
        first = loss(model(x), target).item()
        for _ in range(150):
            optimiser.zero_grad()
            L = loss(model(x), target)
            L.backward()
            optimiser.step()
        assert L.item() < 0.2 * first


# ----- No examples, and very many in half precision -----


def test_the_mean_over_no_examples_sweeps_back_nothing():
    z = leaf(np.zeros((0, 3)))
    L = losses.cross_entropy(z, np.zeros(0, int))
    assert np.isnan(L.item())
    L.backward()
    assert z.grad.shape == (0, 3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_mean_over_very_many_in_half_precision():
    n = 70_000  # more than the largest float16
    z = leaf(np.zeros((n, 2), np.float16))
    np.testing.assert_allclose(losses.cross_entropy(z, np.zeros(n, int)).item(), math.log(2), rtol=1e-3)
    p = leaf(np.full(n, 3.0, np.float16))
    np.testing.assert_allclose(losses.mse_loss(p, np.zeros(n, np.float16)).item(), 9.0, rtol=1e-3)
    x = leaf(np.ones((n, 2), np.float16))
    np.sum(np.mean(x, axis=0)).backward()
    np.testing.assert_allclose(x.grad, 1 / n, rtol=1e-2)
