"""At a kink the fluxion is a choice: it is written beside the rule (`choice`), and held here, one line a choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fluxgrad as fg

NAN, INF = np.nan, np.inf
G = np.array([1.75, -0.625, 2.5, 0.375, -3.25])  # upstream fluxions, never ones

# rule, inputs, options, and per input the factor that the upstream fluxion is multiplied by
ELEMENTWISE: list[tuple[str, list[Any], list[Any]]] = [
    *[(name, [[0.0, -0.0, 1.0]], [[0, 0, 0]]) for name in ["sign", "floor", "ceil", "trunc"]],
    *[(name, [[0.5, -1.5, 2.0]], [[0, 0, 0]]) for name in ["rint", "round"]],
    ("floor_divide", [[3.0, -1.5], [1.5, 0.5]], [[0, 0], [0, 0]]),
    ("heaviside", [[0.0, 1.0], [0.25, 0.25]], [[0, 0], [1, 0]]),
    ("relu", [[0.0, -0.0, 2.0, -2.0]], [[0, 0, 1, 0]]),
    ("absolute", [[0.0, -0.0, 2.0, -2.0]], [[0, 0, 1, -1]]),
    ("fabs", [[0.0, -0.0, 2.0, -2.0]], [[0, 0, 1, -1]]),
    ("share", [[1.0, 1.0], [1.0, 2.0]], [[0, 0], [0, 0]]),
    ("copysign", [[0.0, -2.0, 2.0], [-1.0, 3.0, -3.0]], [[0, -1, -1], [0, 0, 0]]),
    ("maximum", [[1.0, 2.0, 0.0], [1.0, 1.0, 3.0]], [[0.5, 1, 0], [0.5, 0, 1]]),
    ("minimum", [[1.0, 2.0, 0.0], [1.0, 1.0, 3.0]], [[0.5, 0, 1], [0.5, 1, 0]]),
    ("fmax", [[1.0, NAN, 2.0], [1.0, 1.0, NAN]], [[0.5, 0, 1], [0.5, 1, 0]]),
    ("fmin", [[1.0, NAN, 2.0], [1.0, 1.0, NAN]], [[0.5, 0, 1], [0.5, 1, 0]]),
    ("clip", [[1.0, 2.0, 0.0, 3.0, 1.5], [1.0] * 5, [2.0] * 5], [[1, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]),
    ("clip", [[0.0, 1.5, 3.0], [2.0] * 3, [1.0] * 3], [[0, 0, 0], [0, 0, 0], [1, 1, 1]]),  # a > b: NumPy gives b
    ("hypot", [[0.0, 3.0], [0.0, 4.0]], [[0, 0.6], [0, 0.8]]),
    ("sinc", [[0.0, 1.0]], [[0, -1]]),
    ("power", [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 0.0]], [[0, 1, 0, 0], [0, 0, 0, 0]]),
    ("float_power", [[0.0, 0.0], [0.0, 1.0]], [[0, 1], [0, 0]]),
    ("remainder", [[3.0, -3.0, 2.9], [1.5, 1.5, 1.5]], [[1, 1, 1], [-2, 2, -1]]),
    ("fmod", [[3.0, -3.0, 2.9], [1.5, 1.5, 1.5]], [[1, 1, 1], [-2, 2, -1]]),
    ("sqrt", [[0.0, 4.0]], [[INF, 0.25]]),
    ("cbrt", [[0.0, -8.0]], [[INF, 1 / 12]]),
    ("logaddexp", [[1.0, -1000.0], [1.0, 1000.0]], [[0.5, 0], [0.5, 1]]),
    ("huber_loss", [[1.0, -1.0, 0.5, 9.0], [0.0] * 4], [[1, -1, 0.5, 1], [-1, 1, -0.5, -1]]),
    ("l1_loss", [[0.0, 2.0, -2.0], [0.0] * 3], [[0, 1, -1], [0, -1, 1]]),
    ("smooth_l1_loss", [[2.0, -2.0, 0.5, 9.0], [0.0] * 4], [[1, -1, 0.25, 1], [-1, 1, -0.25, -1]]),
    ("sigmoid_focal_loss", [[0.0, 0.0], [0.0, 1.0]], [None, [0, 0]]),
]  # fmt: skip
OPTIONS = {"huber_loss": {"delta": 1.0}, "smooth_l1_loss": {"beta": 2.0}, "sigmoid_focal_loss": {"gamma": 2.0}}


@pytest.mark.parametrize(("name", "inputs", "factors"), ELEMENTWISE, ids=[case[0] for case in ELEMENTWISE])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_elementwise(name: str, inputs: list[Any], factors: list[Any], dtype: Any):
    xs = [np.array(x, dtype) for x in inputs]
    g = G[: len(xs[0])].astype(dtype)
    with np.errstate(divide="ignore"):
        fluxions = fg.vjp(lambda *at: fg.rules[name](*at, **OPTIONS.get(name, {})), *xs)[1](g)
    for ours, factor in zip(fluxions, factors, strict=True):
        if factor is not None:
            np.testing.assert_allclose(ours, g * np.array(factor), rtol=1e-6, atol=1e-7)


# rule, x, options, L̇_y, L̇_x
REDUCTIONS: list[tuple[str, Any, dict[str, Any], Any, Any]] = [
    ("max", [3.0, 1.0, 3.0], {}, 2.5, [1.25, 0, 1.25]),
    ("max", [[3.0, 1.0], [3.0, 1.0], [3.0, 0.0]], {"axis": 0}, [1.5, -3.0], [[0.5, -1.5], [0.5, -1.5], [0.5, 0]]),
    ("max", [[2.0, 2.0], [2.0, 2.0]], {"axis": (0, 1), "keepdims": True}, [[2.0]], [[0.5, 0.5], [0.5, 0.5]]),
    ("min", [3.0, 1.0, 1.0], {}, 2.5, [0, 1.25, 1.25]),
    ("min", [[-INF, -INF], [0.0, 1.0]], {"axis": 1}, [1.5, 0.5], [[0.75, 0.75], [0.5, 0]]),
    ("sort", [2.0, 1.0, 2.0, 1.0], {}, [1.0, 2.0, 3.0, 4.0], [3.0, 1.0, 4.0, 2.0]),
    ("norm", [0.0, 0.0], {}, 2.5, [0, 0]),
    ("norm", [[0.0, 0.0], [3.0, 4.0]], {"axis": 1}, [2.5, 1.5], [[0, 0], [0.9, 1.2]]),
    ("var", [2.0, 2.0, 2.0], {}, 2.5, [0, 0, 0]),
    ("std", [2.0, 2.0, 2.0], {}, 2.5, [0, 0, 0]),
    ("std", [[2.0, 2.0], [1.0, 3.0]], {"axis": 1, "ddof": 1}, [2.5, 2.0], [[0, 0], [-np.sqrt(2), np.sqrt(2)]]),
    ("prod", [0.0, 3.0, 2.0], {}, 2.5, [15.0, 0, 0]),
    ("prod", [0.0, 0.0, 2.0], {}, 2.5, [0, 0, 0]),
    ("softmax", [0.0, -INF, 0.0], {}, [2.0, 3.0, 1.0], [0.25, 0, -0.25]),
    ("logsumexp", [0.0, -INF, 0.0], {}, 2.5, [1.25, 0, 1.25]),
    ("logsumexp", [[-INF, -INF], [0.0, 0.0]], {"axis": 1}, [1.5, 2.5], [[0, 0], [1.25, 1.25]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "x", "options", "g", "expected"), REDUCTIONS, ids=[case[0] for case in REDUCTIONS])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_reductions(name: str, x: Any, options: dict[str, Any], g: Any, expected: Any, dtype: Any):
    with np.errstate(divide="ignore"):
        (ours,) = fg.vjp(lambda at: fg.rules[name](at, **options), np.array(x, dtype))[1](np.array(g, dtype))
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, np.array(expected), rtol=1e-6, atol=1e-7)


def test_every_choice_is_held_here():
    held = {case[0] for case in [*ELEMENTWISE, *REDUCTIONS]}
    chosen = {name for name, row in fg.rules.items() if row.choice and row._builtin}
    assert chosen <= held, f"a choice without a line here: {chosen - held}"


SECOND: list[tuple[Any, Any, float]] = [
    (lambda x: fg.relu(x), 0.0, 0.0),
    (lambda x: np.abs(x), 0.0, 0.0),
    (lambda x: np.linalg.norm(np.stack([x, 0.0])), 0.0, 0.0),
    (lambda x: np.hypot(x, 0.0), 0.0, 0.0),
    (lambda x: np.std(x * np.array([1.0, 1.0])), 2.0, 0.0),
    (lambda x: np.sinc(x), 0.0, -(np.pi**2) / 3),
    (lambda x: x**2, 0.0, 2.0),
    (lambda x: np.power(x, 3.0), 0.0, 0.0),
    (lambda x: np.max(np.stack([x, x]) ** 2), 3.0, 2.0),
    (lambda x: np.maximum(x * x, x * x), 3.0, 2.0),
    (lambda x: np.prod(np.stack([x, x, 2.0 + x])), 0.0, 4.0),
    (lambda x: np.clip(x, 0.0, 1.0) ** 2, 1.0, 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("f", "x", "second"), SECOND)
def test_second_fluxions_at_a_kink(f: Any, x: Any, second: float):
    at = np.array(x)
    assert np.isclose(fg.grad(fg.grad(f))(at), second)
    assert np.isclose(fg.jvp(lambda z: fg.jvp(f, (z,), (1.0,))[1], (at,), (1.0,))[1], second)
    assert np.isclose(fg.jvp(fg.grad(f), (at,), (1.0,))[1], second)


def test_third_fluxion_of_a_cube_at_0():
    assert fg.grad(fg.grad(fg.grad(lambda x: x**3)))(0.0) == 6.0


def test_prod_out_of_range():
    """Where the product itself underflows or overflows, the products of the others may be plain numbers."""
    for x in ([1e-200, 1e-200, 1.0], [1e-300, 1e-20, 3.0], [1e200, 1e200, 1e-300]):
        with np.errstate(over="ignore", under="ignore"):
            fluxion = fg.grad(np.prod)(np.array(x))
            others = [np.prod([float(v) for k, v in enumerate(x) if k != j]) for j in range(3)]
        np.testing.assert_allclose(fluxion, others, rtol=1e-12)


def test_norms_of_nothing():
    for order in (None, 1, 2, 3, 1.5, np.inf):
        np.testing.assert_array_equal(fg.grad(lambda x, n=order: np.linalg.norm(x, n))(np.zeros(3)), np.zeros(3))


def test_fmod_counts_exactly_where_the_quotient_rounds():
    """x = 3w less one last digit: x/w rounds to 3, but two whole w fit."""
    w = 1 + 2.0**-52
    x = np.nextafter(3 * w, 0)
    while x / w != 3 or np.fmod(x, w) < 0.5:
        w += 2.0**-52
        x = np.nextafter(3 * w, 0)
        assert w < 1.001
    assert fg.grad(np.fmod, 1)(x, w) == -2
    assert fg.grad(np.remainder, 1)(x, w) == -2


def test_what_is_masked_sends_nothing_back():
    x = np.array([np.nan, 1.0, np.inf, -np.inf])
    g = fg.grad(lambda t: np.sum(np.nan_to_num(t, posinf=0.0) * np.array([2.0, 3.0, 4.0, 0.0])))(x)
    np.testing.assert_array_equal(g, [0, 3, 0, 0])
    np.testing.assert_array_equal(fg.grad(np.nansum)(np.array([np.nan, 1.0])), [0, 1])
    np.testing.assert_array_equal(fg.grad(np.nanmax)(np.array([np.nan, 1.0, 1.0])), [0, 0.5, 0.5])
    assert np.isnan(np.median(fg.Tensor([1.0, np.nan, 3.0])).item())
