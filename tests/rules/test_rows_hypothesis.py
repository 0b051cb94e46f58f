"""Shapes, axes, subscripts, indices and values that hypothesis finds. The truth is NumPy's value on the same numbers: a
linear operation's adjoint must satisfy ⟨g, A v⟩ = ⟨Aᵀ g, v⟩, any other is held against central differences or mpmath.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exact import Exact
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rule_samples import reference

import fluxgrad as fg

settings.register_profile("rules", max_examples=150, deadline=None, derandomize=True, database=None)
rules = settings.get_profile("rules")


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


seeds = st.integers(0, 2**20)


def holds(f: Any, *arrays: np.ndarray, seed: int) -> None:
    """f(…) linear in each: its value is NumPy's, and ⟨g, f(…, v, …)⟩ = ⟨L̇_x, v⟩ for each operand."""
    expected = f(*arrays)
    value, pull = fg.vjp(f, *arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-13)
    (g,) = normal(seed, np.shape(expected))
    for i, (x, c) in enumerate(zip(arrays, pull(g), strict=True)):
        assert c.shape == x.shape
        (v,) = normal(seed + 1, x.shape)
        sent = np.sum(g * f(*arrays[:i], v, *arrays[i + 1 :]))
        assert np.isclose(sent, np.sum(c * v), rtol=1e-9, atol=1e-9), f"operand {i}: {sent} and {np.sum(c * v)}"


# ----- Broadcasting -----

BINARY = {
    "add": 0.0, "subtract": 0.0, "multiply": 0.0, "divide": 3.0, "maximum": 0.0, "minimum": 0.0, "fmax": 0.0,
    "arctan2": 3.0,
    "hypot": 3.0, "logaddexp": 0.0, "logaddexp2": 0.0, "power": 3.0, "copysign": 0.0,
}  # fmt: skip


@rules
@given(
    st.sampled_from(sorted(BINARY)),
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    seeds,
)
def test_broadcasting(name: str, shapes: Any, seed: int):
    x, w = (np.abs(z) + BINARY[name] / 3 if BINARY[name] else z for z in normal(seed, *shapes.input_shapes))
    f, wide = getattr(np, name), shapes.result_shape
    y, pull = fg.vjp(f, x, w)
    assert y.shape == wide
    (g,) = normal(seed + 1, wide)
    X, W = (np.broadcast_to(z, wide) for z in (x, w))
    h = 1e-6
    slopes = (f(X + h, W) - f(X - h, W)) / (2 * h), (f(X, W + h) - f(X, W - h)) / (2 * h)
    for z, c, slope in zip((x, w), pull(g), slopes, strict=True):
        each = g * slope
        each = each.sum(axis=tuple(range(each.ndim - z.ndim)))
        each = each.sum(axis=tuple(k for k, n in enumerate(z.shape) if n == 1), keepdims=True)
        assert c.shape == z.shape
        np.testing.assert_allclose(c, each, rtol=1e-6, atol=1e-6)


# ----- Reductions -----


@st.composite
def reductions(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=3))
    n = len(shape)
    axis = draw(st.none() | st.integers(-n, n - 1) | hnp.valid_tuple_axes(n, min_size=1))
    return shape, axis


REDUCTIONS = ["sum", "mean", "max", "min", "prod", "var", "std", "norm", "logsumexp", "softmax", "log_softmax"]


@rules
@given(st.sampled_from(REDUCTIONS), reductions(), st.booleans(), seeds)
def test_reductions(name: str, where: Any, keepdims: bool, seed: int):
    shape, axis = where
    options = {"axis": axis} if "softmax" in name else {"axis": axis, "keepdims": keepdims}
    if "softmax" in name and axis is None:
        return
    (x,) = normal(seed, shape)
    f, theirs = fg.rules[name], reference(name)
    if name == "std" and np.any(theirs(x, axis=axis) < 1e-3):
        return  # at its kink
    y, pull = fg.vjp(lambda z: f(z, **options), x)
    np.testing.assert_allclose(y, theirs(x, **options), rtol=1e-12, atol=1e-12)
    g, v = normal(seed + 1, y.shape, shape)
    h = 1e-6
    quotient = np.sum(g * (theirs(x + h * v, **options) - theirs(x - h * v, **options))) / (2 * h)
    assert np.isclose(np.sum(pull(g)[0] * v), quotient, rtol=1e-5, atol=1e-5)
    pushed = fg.jvp(lambda z: f(z, **options), (x,), (v,))[1]
    assert np.isclose(np.sum(g * pushed), quotient, rtol=1e-5, atol=1e-5)


@rules
@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), st.data(), seeds)
def test_sums_that_run(shape: Any, data: Any, seed: int):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    holds(lambda x: np.cumsum(x, axis=axis), *normal(seed, shape), seed=seed)


# ----- einsum and matmul -----


@st.composite
def contractions(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    sizes = {c: draw(st.integers(1, 3)) for c in "ijkl"}
    terms = draw(st.lists(st.text("ijkl", min_size=0, max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    output = "".join(draw(st.lists(st.sampled_from(used), unique=True))) if used else ""
    spelled = ",".join(terms) + draw(st.sampled_from([f"->{output}", ""]))
    return spelled, [tuple(sizes[c] for c in term) for term in terms]


@rules
@given(contractions(), seeds)
def test_einsum(contraction: Any, seed: int):
    subscripts, shapes = contraction
    holds(lambda *xs: np.einsum(subscripts, *xs), *normal(seed, *shapes), seed=seed)


@rules
@given(hnp.mutually_broadcastable_shapes(signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, max_side=3), seeds)
def test_matmul(shapes: Any, seed: int):
    holds(np.matmul, *normal(seed, *shapes.input_shapes), seed=seed)


# ----- Indexing -----


@rules
@given(hnp.array_shapes(max_dims=4, max_side=4, min_side=0), st.data(), seeds)
def test_basic_indices(shape: Any, data: Any, seed: int):
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    holds(lambda x: x[index], *normal(seed, shape), seed=seed)


@rules
@given(hnp.array_shapes(max_dims=3, max_side=4), st.data(), seeds)
def test_integer_arrays_with_repeats(shape: Any, data: Any, seed: int):
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=5)))
    holds(lambda x: x[index], *normal(seed, shape), seed=seed)


@rules
@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), st.data(), seeds)
def test_masks_and_mixtures(shape: Any, data: Any, seed: int):
    k = data.draw(st.integers(1, len(shape)))
    mask = data.draw(hnp.arrays(bool, shape[:k]))
    rest = [(), (None,), (...,), (slice(None),), (np.array([0, 0]),)][
        data.draw(st.integers(0, 4 if k < len(shape) else 2))
    ]
    index = (mask, *rest)
    try:
        np.empty(shape)[index]
    except IndexError:
        return  # the mask's places do not broadcast with the rest
    holds(lambda x: x[index], *normal(seed, shape), seed=seed)


# ----- Moving -----


@rules
@given(hnp.array_shapes(min_dims=2, max_dims=3, max_side=3), st.data(), seeds)
def test_moving(shape: Any, data: Any, seed: int):
    n = len(shape)
    axes = st.integers(-n, n - 1)
    a, b = data.draw(axes), data.draw(axes)
    order = data.draw(st.permutations(range(n)))
    shift = data.draw(st.integers(-4, 4))
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape]
    reps = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    offset = data.draw(st.integers(-2, 2))
    for f in [
        lambda x: np.transpose(x, order),
        lambda x: np.swapaxes(x, a, b),
        lambda x: np.moveaxis(x, a, b),
        lambda x: np.flip(x, a),
        lambda x: np.roll(x, shift, a),
        lambda x: np.pad(x, widths),
        lambda x: np.tile(x, reps),
        lambda x: np.repeat(x, abs(shift), axis=a),
        lambda x: np.expand_dims(x, (n // 2, n + 1)),
        lambda x: np.diff(x, axis=a),
        lambda x: np.triu(x, offset),
        lambda x: np.concatenate([x, 2 * x, x], axis=a),
        lambda x: np.stack([x, -x], axis=a),
        lambda x: np.take(x, [0, -1, 0], axis=a),
        lambda x: np.diagonal(x, offset, 0, 1),
        lambda x: np.rot90(x, shift, (0, 1)),
    ]:
        holds(f, *normal(seed, shape), seed=seed)


# ----- Values -----

WIDE = {
    "exp": (-300, 300), "expm1": (-40, 40), "exp2": (-300, 300), "log": (1e-300, 1e300), "log1p": (-0.99, 1e6),
    "log2": (1e-6, 1e6), "log10": (1e-6, 1e6),
    "sin": (-100, 100), "cos": (-100, 100), "tan": (-1.5, 1.5), "arctan": (-1e6, 1e6), "arcsinh": (-1e6, 1e6),
    "tanh": (-50, 50), "sinh": (-50, 50),
    "cosh": (-50, 50), "arcsin": (-0.999, 0.999), "arccos": (-0.999, 0.999), "arctanh": (-0.999, 0.999),
    "arccosh": (1.001, 1e6), "sqrt": (1e-6, 1e6),
    "cbrt": (1e-6, 1e6), "square": (-1e6, 1e6), "reciprocal": (1e-3, 1e3), "sinc": (-20, 20),
    "sigmoid": (-300, 300), "softplus": (-300, 300),
    "gelu": (-50, 50), "absolute": (-1e6, 1e6), "relu": (-1e6, 1e6), "degrees": (-1e3, 1e3), "radians": (-1e3, 1e3),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
@settings(rules, max_examples=40)
@given(st.data())
def test_values_and_fluxions_over_the_whole_domain(name: str, data: Any):
    row = fg.rules[name]
    low, high = WIDE[name]
    x = np.array(data.draw(st.floats(low, high, allow_subnormal=False)))
    y, pull = fg.vjp(row, x)
    truth = row(Exact(x))
    fluxion = Exact(row.pull(0, Exact(1.0), truth, [Exact(x)], {})).float64()
    np.testing.assert_allclose(y, truth.float64(), rtol=1e-13, atol=1e-15)
    slack = 1e-13 * max(1.0, abs(float(fluxion)))
    assert abs(float(pull(np.array(1.0))[0]) - fluxion) <= slack * (
        1000 if name in ("arcsin", "arccos", "arctanh", "arccosh", "sinc") else 1
    )
