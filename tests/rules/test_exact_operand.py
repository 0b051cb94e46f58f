"""`Exact` itself: 50 digits in, 50 digits out, and never a float on the way."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from exact import NUMBERS, QUESTIONS, Exact, digits, mp

import fluxgrad as fg
from fluxgrad.rules.kinds import Constant

THIRD = "0.33333333333333333333333333333333333333333333333333"


def test_fifty_digits_and_more():
    third = Exact(1) / Exact(3)
    assert mp.nstr(third.number(), 50) == THIRD
    with digits(100):
        root = np.sqrt(Exact(2)).number()
        assert abs(root * root - 2) < mp.mpf(10) ** -98
    assert abs(np.exp(Exact(1)).number() - mp.e) < mp.mpf(10) ** -48


def test_floats_are_taken_for_what_they_are():
    assert Exact(0.1).number() == mp.mpf(0.1) != mp.mpf("0.1")
    assert (Exact(0) + np.float32(0.1)).number() == mp.mpf(float(np.float32(0.1)))


def test_another_precision_elsewhere_changes_nothing():
    with mpmath.workdps(5):
        assert mp.nstr((Exact(1) / 3).number(), 50) == THIRD
        assert Exact(mpmath.mpf(1)).number() == 1


def test_every_ufunc_agrees_with_numpy():
    samples = {1: [0.3], 2: [0.7, 1.9]}
    for ufunc, f in {**NUMBERS, **QUESTIONS}.items():
        if not isinstance(ufunc, np.ufunc):
            continue
        xs = [x + (1 if ufunc is np.arccosh else 0) for x in samples[ufunc.nin]]
        ours = ufunc(*map(Exact, xs))
        plain = ours.float64() if isinstance(ours, Exact) else ours
        assert np.allclose(plain, ufunc(*xs), rtol=1e-15, atol=1e-15), (ufunc, f)


@pytest.mark.parametrize("ufunc", [np.divide, np.power, np.log, np.sqrt, np.maximum, np.fmax, np.arcsin, np.logaddexp])
def test_the_edges_are_numpys(ufunc: Any):
    edges = [0.0, 1.0, -1.0, 2.0, np.inf, -np.inf]
    if ufunc is np.power:
        edges = edges[:4]
    for x in edges:
        for w in edges if ufunc.nin == 2 else [0]:
            xs = (x, w)[: ufunc.nin]
            with np.errstate(all="ignore"):
                assert np.allclose(ufunc(*map(Exact, xs)).float64(), ufunc(*xs), 1e-15, 0, equal_nan=True), (ufunc, xs)


REFUSED = [
    lambda x: np.i0(x),
    lambda x: np.fft.fft(x),
    lambda x: np.linalg.svd(x),
    lambda x: np.linalg.eigvalsh(x),
    lambda x: np.add.reduce(x),
    lambda x: np.nextafter(x, x),
    lambda x: np.cov(x),
    lambda x: np.asarray(x),
    lambda x: np.array([x, x]),
    lambda x: np.zeros(2) + np.asarray(x),
    lambda x: float(x),
    lambda x: bool(x),
    lambda x: x.astype(int),
    lambda x: Exact(1j),
    lambda x: Exact("1"),
    lambda x: x * Constant("a name without a meaning", 1.0),
    lambda x: fg.elementwise("through_floats x", lambda z: np.sin(z.float64()), lambda y, x: y)(x) + Exact(mp.mpc(1)),
]


@pytest.mark.parametrize("f", REFUSED)
def test_what_would_compute_in_floats_is_refused(f: Any):
    try:
        with pytest.raises((TypeError, KeyError)):
            f(Exact([[1.0, 2.0], [3.0, 4.0]]))
    finally:
        fg.rules.pop("through_floats", None)


def test_a_float_in_a_result_is_found():
    class Leaky:
        """An element whose sum is a float: what a lost digit looks like."""

        def __add__(self, other: Any) -> float:
            return 0.5

        __radd__ = __add__

    x = Exact([1.0, 2.0])
    x.numbers[:] = [Leaky(), Leaky()]
    with pytest.raises(TypeError, match="fell back to float"):
        np.sum(x)


def test_moving_keeps_every_digit():
    x = Exact([[1, 2, 3], [4, 5, 6]]) / 7
    for f in (
        lambda z: np.concatenate([z, z], axis=1)[:, 3:],
        lambda z: np.moveaxis(np.stack([z, z]), 0, -1)[..., 1],
        lambda z: np.roll(np.roll(z, 2, axis=1), -2, axis=1),
        lambda z: np.einsum("ij,jk->ik", z, np.eye(3)),
        lambda z: np.where(np.array([[True], [False]]), z, z),
        lambda z: np.take_along_axis(z, np.argsort(z, axis=1), axis=1),
        lambda z: np.max(np.stack([z, -z]), axis=0),
        lambda z: np.linalg.solve(np.eye(2), z),
        lambda z: z @ np.linalg.inv(np.eye(3)),
    ):
        assert np.all(f(x) == x)


def test_linear_algebra():
    a = Exact(np.array([[[2.0, 1.0], [1.0, 3.0]], [[0.0, 1.0], [-2.0, 5.0]]]))
    identity = np.linalg.inv(a) @ a
    assert float(np.max(abs((identity - np.eye(2)).float64()))) < 1e-45
    assert np.all(np.abs(np.linalg.det(a) - [5.0, 2.0]) < 1e-45)
    assert np.allclose(np.linalg.slogdet(a)[1].float64(), np.linalg.slogdet(a.float64())[1])
    b = Exact([1.0, 2.0])
    assert np.all(np.abs(np.sum(a * np.expand_dims(np.linalg.solve(a, b), 1), axis=-1) - b) < 1e-45)
    tall = a[0][:, :1]
    assert np.all(np.abs(np.linalg.pinv(tall) @ tall - 1) < 1e-45)
