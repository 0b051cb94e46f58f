"""A loss from its signal: the gradient is the signal, the value its integral, and what is no loss is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fluxgrad as fg
from fluxgrad.design import calibrate, cap_outliers, emphasise_hard, loss_from_signal

RNG = np.random.default_rng(0)
P, T = RNG.normal(size=(5, 3)) * 3, RNG.normal(size=(5, 3))
Z, HOT = RNG.normal(size=(4, 3)) * 3, np.eye(3)[[0, 2, 1, 1]]


@pytest.fixture(autouse=True)
def own_rules():
    before = dict(fg.rules)
    yield
    fg.rules.clear()
    fg.rules.update(before)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


CLOSED = {
    "squared": (lambda p, y: 2 * (p - y), (), lambda r: r * r),
    "absolute": (lambda p, y: np.sign(p - y), (0,), np.abs),
    "huber": (lambda p, y: np.clip(p - y, -1, 1), (-1, 1), lambda r: np.where(abs(r) < 1, r * r / 2, abs(r) - 0.5)),
    "huber, breaks unsaid": (lambda p, y: np.clip(p - y, -1, 1), (), lambda r: np.where(abs(r) < 1, r * r / 2, abs(r) - 0.5)),
    "log cosh": (lambda p, y: np.tanh(p - y), (), lambda r: np.log(np.cosh(r))),
    "cubic": (lambda p, y: (p - y) * np.abs(p - y), (0,), lambda r: abs(r) ** 3 / 3),
    "cauchy": (lambda p, y: (p - y) / (1 + (p - y) ** 2), (), lambda r: np.log1p(r * r) / 2),
    "pinball": (lambda p, y: np.where(p > y, 0.1, -0.9), (0,), lambda r: np.where(r > 0, 0.1 * r, -0.9 * r)),
    "dead zone": (
        lambda p, y: np.sign(p - y) * np.maximum(np.abs(p - y) - 0.5, 0), (-0.5, 0.5),
        lambda r: np.maximum(abs(r) - 0.5, 0) ** 2 / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("signal", "breaks", "closed"), CLOSED.values(), ids=CLOSED)
def test_the_gradient_is_the_signal_and_the_value_the_closed_form(signal, breaks, closed):
    loss = loss_from_signal(signal, breaks=breaks)
    g = RNG.normal(size=P.shape)
    for dtype in (np.float64, np.float32):
        p, t = P.astype(dtype), T.astype(dtype)
        a = fg.Tensor(p, requires_grad=True)
        L = loss(a, t, reduction="none")
        assert L.dtype == dtype
        np.testing.assert_allclose(
            L.data,
            closed(P - T),
            rtol=1e-9 if dtype == np.float64 else 1e-5,
            atol=1e-9 if dtype == np.float64 else 1e-6,
        )
        L.sum().backward()
        np.testing.assert_array_equal(a.grad, np.asarray(signal(p, t), dtype))
    a = fg.Tensor(P, requires_grad=True)
    (loss(a, T, reduction="none") * g).sum().backward()
    np.testing.assert_array_equal(a.grad, g * signal(P, T))
    assert loss(P, T).item() == pytest.approx(loss(P, T, "none").data.mean(), rel=1e-14)
    assert loss(P, T, "sum").item() == pytest.approx(loss(P, T, "none").data.sum(), rel=1e-14)
    b, c = fg.Tensor(P, requires_grad=True), fg.Tensor(T, requires_grad=True)
    loss(b, c).backward()
    np.testing.assert_allclose(b.grad, signal(P, T) / P.size, rtol=1e-15)
    np.testing.assert_array_equal(c.grad, -b.grad)  # all of these depend on ŷ − y alone


def test_huber_again_and_its_second_fluxion():
    capped = loss_from_signal(lambda p, y: np.clip(p - y, -1, 1), breaks=(-1, 1), name="capped")
    np.testing.assert_allclose(capped(P, T, "none").data, fg.losses.huber_loss(P, T, "none").data, rtol=1e-12)
    h = fg.hessian(lambda p: capped(p, T[0], "sum"))(P[0])
    np.testing.assert_array_equal(h, np.diag((np.abs(P[0] - T[0]) < 1).astype(float)))
    assert fg.jvp(lambda p: capped(p, T, "sum"), (P,), (P,))[1] == pytest.approx(np.sum(np.clip(P - T, -1, 1) * P))


def test_a_signal_of_several_outputs():
    loss = loss_from_signal(lambda z, y: fg.softmax(z) - y, name="surprised")
    L = loss(Z, HOT, "none").data
    labels = HOT.argmax(1)
    ours, at_target = (fg.losses.cross_entropy(x, labels, reduction="none").data for x in (Z, HOT))
    np.testing.assert_allclose(L, ours - at_target, rtol=1e-9)  # 0 where ŷ = y
    a = fg.Tensor(Z, requires_grad=True)
    loss(a, HOT).backward()
    np.testing.assert_array_equal(a.grad, (fg.softmax(Z) - HOT) / 4)
    assert loss(Z[0], HOT[0]).item() == pytest.approx(L[0], rel=1e-12)
    p = fg.softmax(Z[0])
    np.testing.assert_allclose(fg.hessian(lambda z: loss(z, HOT[0]))(Z[0]), np.diag(p) - np.outer(p, p), atol=1e-15)
    radial = loss_from_signal(lambda p, y: (p - y) / np.sqrt(1 + np.sum((p - y) ** 2, axis=-1, keepdims=True)))
    np.testing.assert_allclose(radial(P, T, "none").data, np.sqrt(1 + np.sum((P - T) ** 2, -1)) - 1, rtol=1e-9)
    kinked = loss_from_signal(lambda p, y: np.sign(p - y) * np.sum(np.abs(p - y), -1, keepdims=True), breaks=[0])
    np.testing.assert_allclose(kinked(P, T, "none").data, np.sum(np.abs(P - T), -1) ** 2 / 2, rtol=1e-9)


def test_of_a_logit():
    loss = loss_from_signal(lambda z, y: fg.sigmoid(z) - y)
    z, y = np.linspace(-5, 5, 11), np.tile([0.0, 1.0], 6)[:11]
    bce = lambda z: fg.losses.binary_cross_entropy_with_logits(z, y, reduction="none").data
    np.testing.assert_allclose(loss(z, y, "none").data, bce(z) - bce(y), rtol=1e-9)


def test_it_is_checked_printed_explained_and_drawn_like_the_others():
    loss = loss_from_signal(lambda p, y: np.tanh(p - y), name="lncosh")
    assert str(loss) == "lncosh(p, t):  L̇_p = tanh(p − t), L̇_t = −tanh(p − t)"
    assert fg.rules["lncosh"] is loss.row and "lncosh" in repr(loss)
    assert loss.row.ascii == "lncosh(p, t):  dL/dp = tanh(p - t), dL/dt = -tanh(p - t)"
    assert "np.tanh((p - t))" in loss.row.source and loss._repr_latex_().startswith("$")
    assert fg.check_rule("lncosh") == []
    assert fg.check_grads(lambda p: loss(p, T), P) == []
    p = fg.Tensor(P, requires_grad=True, name="p")
    L = loss(p, T)
    assert "tanh(p[" in str(fg.explain(L)) and "lncosh" in fg.draw(L).svg
    assert fg.explain(L, check=True).steps[-1].check.verdict == "right"


@pytest.mark.parametrize("make", [emphasise_hard, cap_outliers, calibrate])
def test_the_three_that_ship(make):
    loss = make()
    assert fg.check_rule(loss.row) == [] and loss.concave == [] and make.__name__ in str(loss)
    assert "only" not in str(loss)


def test_emphasise_hard_is_what_the_table_of_the_paper_says():
    z = np.log(np.array([9.0, 1.0, 1 / 9]))  # p = 0.9, 0.5, 0.1
    signal = fg.grad(lambda z: emphasise_hard()(z, np.ones(3), "sum"))(z)
    plain = fg.grad(lambda z: fg.losses.binary_cross_entropy_with_logits(z, np.ones(3), reduction="sum"))(z)
    np.testing.assert_allclose(plain / signal, [100, 4, 1 / 0.81], rtol=1e-12)


def test_calibrate_is_cross_entropy_smoothed():
    ours = fg.grad(lambda z: calibrate(0.2)(z, HOT))(Z)
    theirs = fg.grad(lambda z: fg.losses.cross_entropy(z, HOT.argmax(1), label_smoothing=0.2))(Z)
    np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_it_shows_where_it_is_curved_the_wrong_way():
    tukey = loss_from_signal(
        lambda p, y: np.where(np.abs(p - y) < 3, (p - y) * (1 - ((p - y) / 3) ** 2) ** 2, 0), breaks=(-3, 3)
    )
    (a, b), (c, d) = tukey.concave  # the slope is negative beyond 3/√5 = 1.342
    assert (a, b, c, d) == (-2.99, -1.35, 1.35, 2.99)
    assert "curved the wrong way" in str(tukey) and "from ŷ − y = −2.99 to −1.35 and from 1.35 to 2.99" in str(tukey)
    saddle = loss_from_signal(lambda p, y: (p - y)[..., ::-1] * 1.0)
    (p, t, curvature) = saddle.concave[0]
    assert p.shape == t.shape == (3,) and curvature == pytest.approx(-1) and "curved" in str(saddle)


REFUSED = {
    "backwards": (lambda p, y: y - p, ["leads away", "∂L/∂ŷ", "Did you mean"]),
    "backwards sign": (lambda p, y: np.sign(y - p), ["leads away"]),
    "no loss": (lambda z, y: np.cumsum(z, axis=-1) - y, ["no loss has this signal", "∂s_0/∂ŷ_1 = 0 and ∂s_1/∂ŷ_0 = 1"]),
    "p log p": (lambda z, y: fg.softmax(z) * z - y, ["no loss has this signal", "∂s_"]),
    "of the batch": (lambda p, y: p - np.mean(p, axis=0, keepdims=True), ["depends on another example"]),
    "first target": (lambda p, y: p - y[:1], ["depends on another example"]),
    "one number": (lambda p, y: np.sum(p - y), ["one number for each", "()", "(2, 3)"]),
    "integers": (lambda p, y: (p > y).astype(int), ["one number for each", "int64"]),
    "nowhere": (lambda p, y: p * np.nan, ["not finite"]),
}  # fmt: skip


@pytest.mark.parametrize(("signal", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_loss_is_refused(signal, words):
    with pytest.raises(ValueError) as info:
        loss_from_signal(signal)
    for word in words:
        assert word in str(info.value)


def test_other_refusals():
    loss = loss_from_signal(lambda p, y: p - y)
    with pytest.raises(ValueError, match=r"input has shape \(2,\) and target \(1,\)"):
        loss([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="reduction must be"):
        loss([1.0], [1.0], reduction="avg")
    with pytest.raises(ValueError, match="breaks must be finite"):
        loss_from_signal(lambda p, y: p - y, breaks=[np.nan])
    with pytest.raises(ValueError, match="belongs to a built-in rule"):
        loss_from_signal(lambda p, y: p - y, name="tanh")
    with pytest.raises(ValueError, match="target cannot require grad"):
        emphasise_hard()(0.5, fg.Tensor(1.0, requires_grad=True)).backward()
    with pytest.raises(ValueError, match=r"\(K,\) or \(N, K\)"):
        calibrate()(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="does not settle"):
        loss_from_signal(lambda p, y: 1 / np.where(p == y, 1, p - y))(1.0, 0.0)
    with pytest.raises(ValueError, match="without one, it is half of mse_loss"):
        cap_outliers(np.inf)
    with pytest.raises(TypeError, match="spline"):
        loss_from_signal(lambda p, y: spline(p))
    for make, bad, word in (
        (emphasise_hard, -1, "gamma"),
        (cap_outliers, 0, "limit"),
        (calibrate, 1.5, "label_smoothing"),
    ):
        with pytest.raises(ValueError, match=word):
            make(bad)


def spline(p):
    raise TypeError("spline")


def test_far_out_and_nothing_at_all():
    capped = cap_outliers()
    np.testing.assert_allclose(
        capped([np.inf, -np.inf, 2.0], [0.0] * 3, "none").data, [np.inf, np.inf, 1.5], rtol=1e-15
    )
    assert np.isnan(capped([np.nan], [0.0]).item())
    assert np.isnan(capped([], []).item()) and capped([], [], "sum").item() == 0
    assert capped(3.0, 1.0).item() == pytest.approx(1.5, rel=1e-15)
    ended = loss_from_signal(lambda p, y: np.where(np.abs(p - y) < 1, p - y, 0), breaks=(-1, 1))
    assert ended(5.0, 0.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("far", [10.0, 1e3, 1e4, 1e5, 1e8])
def test_nothing_is_stepped_over_on_a_long_way(far):
    welsch = loss_from_signal(lambda p, y: (p - y) * np.exp(-((p - y) ** 2)))
    np.testing.assert_allclose(
        welsch([far, 1.0, -3 * far], [0.0] * 3, "none").data, [0.5, (1 - np.exp(-1)) / 2, 0.5], rtol=1e-9
    )
    for gamma in (0.0, 2.0):
        hard = emphasise_hard(gamma)
        near = hard([40.0], [1.0], "sum").item()
        assert hard([far], [1.0], "sum").item() == pytest.approx(
            near if far > 40 else hard([far], [1.0], "sum").item(), rel=1e-9
        )
    z = np.array([far, 0.0, 0.0])
    want = [fg.losses.cross_entropy(x, 0, label_smoothing=0.1).item() for x in (z, np.array([1.0, 0.0, 0.0]))]
    assert calibrate()(z, [1.0, 0.0, 0.0]).item() == pytest.approx(want[0] - want[1], rel=1e-9)


def test_a_signal_that_is_of_the_difference_here_and_there_only():
    for signal in (
        lambda p, y: np.clip(p - y, -1 - np.maximum(np.abs(y) - 6, 0), 1 + np.maximum(np.abs(y) - 6, 0)),
        lambda p, y: (p - y) * (2 + np.sin(2 * np.pi * y / 0.375)),
    ):
        loss = loss_from_signal(signal)
        with pytest.raises(ValueError, match="target cannot require grad"):
            loss([2.0], fg.Tensor([0.5], requires_grad=True)).backward()
    with pytest.raises(ValueError, match="depends on another example"):
        loss_from_signal(lambda p, y: p - y - np.where(np.abs(p).max() > 5, np.mean(p), 0.0))
    with pytest.raises(ValueError, match="depends on another example"):
        loss_from_signal(lambda p, y: (p - y) * (1.0 + (len(p) > 2 if np.ndim(p) > 1 else 0)))
    with pytest.raises(ValueError, match="no loss has this signal"):
        loss_from_signal(lambda z, y: fg.softmax(z) - y + np.where(z[..., :1] > 5, 1.0, 0.0) * z[..., 1:2] * 0.1)


def test_the_tail_of_emphasise_hard_keeps_its_digits():
    for gamma, z in ((2.0, 20.0), (0.0, 40.0)):
        loss = emphasise_hard(gamma)
        signal = fg.grad(lambda z, loss=loss: loss(z, np.ones(1), "sum"))(np.array([z]))
        q = 1 / (1 + np.exp(z))
        np.testing.assert_allclose(signal, [-(q ** (gamma + 1))], rtol=1e-12)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"signal": 3}, "signal"),
        ({"breaks": ("a",)}, "breaks"),
        ({"breaks": None}, "breaks"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
    ],
)
def test_arguments_of_another_kind(how, word):
    with pytest.raises(ValueError, match=f"{word} must be"):
        loss_from_signal(**{"signal": lambda p, y: p - y, **how})


def test_the_integral_asks_for_scipy(monkeypatch):
    loss = cap_outliers()
    monkeypatch.setitem(sys.modules, "scipy.integrate", None)
    with pytest.raises(ImportError, match=r"fluxgrad\[design\]"):
        loss(1.0, 0.0)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(float, hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(-50, 50)), st.floats(0.1, 10))
def test_the_value_is_the_integral_at_any_distance(p, limit):
    loss = loss_from_signal(lambda p, y: np.clip(p - y, -limit, limit), breaks=(-limit, limit))
    want = fg.losses.huber_loss(p, np.zeros_like(p), "none", delta=limit).data
    np.testing.assert_allclose(loss(p, np.zeros_like(p), "none").data, want, rtol=1e-9, atol=1e-12)
