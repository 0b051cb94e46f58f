"""Wiggle it: what L̇ predicts, and what happened."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.ink.wiggle import again, check, wiggle


def test_a_square_by_hand():
    """(3 + o)² − 9 = 6o + o²."""
    found = wiggle(lambda x: x * x, 3.0, by=0.01)
    assert found.predicted == pytest.approx(0.06)
    assert found.actual == pytest.approx(0.0601)
    assert found.difference == pytest.approx(0.0001)
    assert "6 · 0.01" in str(found)


def test_a_recorded_loss_one_element_and_a_direction():
    w = fg.Tensor([[0.5, -1.0], [2.0, 0.3]], requires_grad=True, name="w")
    x = np.array([1.0, 2.0])
    L = np.sum(np.tanh(w @ x) ** 2)
    f = lambda a: float(np.sum(np.tanh(a @ x) ** 2))
    step = np.zeros((2, 2))
    step[0, 1] = 1e-4
    one = wiggle(L, w, by=1e-4, at=(0, 1))
    assert one.actual == pytest.approx(f(w.data + step) - f(w.data), rel=1e-9)
    assert one.predicted == pytest.approx(one.actual, rel=1e-3)
    direction = np.array([[1e-4, -2e-4], [3e-4, 0.0]])
    many = wiggle(L, w, by=direction)
    assert many.predicted == pytest.approx(float(np.sum(fg.flows(L)[w] * direction)))
    assert many.actual == pytest.approx(f(w.data + direction) - f(w.data), rel=1e-9)
    assert wiggle(L, w, by=1e-4).predicted == pytest.approx(1e-4 * fg.flows(L)[w].sum())
    assert w.grad is None


def test_it_moves_the_value_that_was_recorded():
    w = fg.Tensor(3.0, requires_grad=True, name="w")
    L = w * w
    w.data = 100.0
    assert wiggle(L, w, by=1.0).actual == pytest.approx(7.0)
    assert again(L, w, 1.0) == 16.0


def test_float32_is_computed_again_in_float64():
    w = fg.Tensor(np.float32(0.5), requires_grad=True)
    assert again(np.tanh(w), w, 1e-9) - again(np.tanh(w), w, 0.0) == pytest.approx(1e-9 * (1 - np.tanh(0.5) ** 2))


@pytest.mark.parametrize(
    ("L", "x", "verdict"),
    [
        (lambda x: x**3, 0.0, "right"),
        (lambda x: x**5 + x, 1.0, "right"),
        (np.abs, 0.0, "kink"),
        (lambda x: np.maximum(x, 2.0) * 3, 2.0, "kink"),
        (lambda x: np.log(x) * 1e3, 1e-5, "right"),
        (np.sqrt, 0.0, "nowhere"),
        (np.exp, 50.0, "right"),
        (lambda x: np.sin(1e3 * x), 1.0, "right"),
    ],
)
def test_the_verdict(L, x, verdict):
    leaf = fg.Tensor(x, requires_grad=True)
    with np.errstate(all="ignore"):
        root = L(leaf)
        assert check(root, leaf, (), x, float(fg.flows(root)[leaf])).verdict == verdict


def test_a_wrong_fluxion_is_wrong():
    x = fg.Tensor(0.5, requires_grad=True)
    for factor in (-1, 1.01, 0, 1e3):
        assert check(np.sin(x), x, (), 0.5, factor * np.cos(0.5)).verdict == "wrong"
    assert check(np.sin(1e3 * x), x, (), 0.5, 990 * np.cos(500)).verdict == "wrong"


def test_what_cancels_is_no_error():
    w = fg.Tensor(np.linspace(0, 1, 12, dtype=np.float32), requires_grad=True, name="w")
    found = wiggle(np.var(w), w)
    assert found.verdict == "right" and "= 0   right" in str(found)


@pytest.mark.parametrize(
    ("f", "x", "by", "verdict", "said"),
    [
        (lambda x: 3 * x, 0.1, 0.1, "right", "= 0   right"),
        (lambda x: 1 + 0.1 * x, 0.7, 0.3, "right", "= 0   right"),
        (lambda x: x * x, 3.0, 1e-3, "right", "right: L bends on the way"),
        (np.tanh, 0.3, 2.0, "right", "right: L bends on the way"),
        (np.abs, 0.0, 1e-3, "kink", "a kink"),
        (lambda x: np.maximum(x, 0.0), 5e-4, -1e-3, "right", "bends on the way"),
        (np.sqrt, 0.0, 1e-3, "nowhere", "not finite"),
        (lambda x: np.sum(np.square(x.astype(np.float32))), np.array([1.0, 2.0]), 1e-2, "right", "right"),
        (lambda x: x * x, 3.0, 0.0, "right", "= 0   right"),
        (lambda x: np.sin(1e3 * x), 1.0, 1e-3, "right", "bends on the way"),
        (np.log, 1e-7, 1e-8, "right", "bends on the way"),
        (lambda x: np.abs(np.sin(1e3 * x)), 0.0, 1e-3, "kink", "a kink"),
    ],
)
def test_it_says_whether_the_fluxion_is_right(f, x, by, verdict, said):
    with np.errstate(all="ignore"):
        found = wiggle(f, x, by=by)
    assert found.verdict == verdict and said in str(found)


def test_a_wrong_rule_is_found_by_a_wiggle(monkeypatch):
    monkeypatch.setattr(fg.rules["tanh"], "kernel", None)
    monkeypatch.setattr(fg.rules["tanh"], "fluxions", (lambda y, x: 1 + y * y,))
    w = fg.Tensor([0.5, 0.2], requires_grad=True, name="w")
    for found in (wiggle(np.tanh, 0.5), wiggle(np.sum(np.tanh(w)), w), wiggle(np.sum(np.tanh(w)), w, at=1)):
        assert found.verdict == "wrong" and "WRONG" in str(found)


def test_a_function_that_refuses_the_other_side():
    def f(x):
        if x < 1:
            raise ValueError("below 1")
        return x * x

    assert wiggle(f, 1.0).verdict == "nowhere"


def test_a_root_of_another_name_is_told():
    w = fg.Tensor(3.0, requires_grad=True, name="w")
    e = w * 2
    assert "L is" not in str(wiggle(e, w))
    e.name = "e"
    assert str(wiggle(e, w)).startswith("w moves by o = 0.001; L is e\n")


def test_refusals():
    w = fg.Tensor([1.0, 2.0], requires_grad=True, name="w")
    with pytest.raises(ValueError, match="one number"):
        wiggle(w * 2, w)
    with pytest.raises(ValueError, match="no path"):
        wiggle(np.sum(w), fg.Tensor(1.0, requires_grad=True, name="other"))
    with pytest.raises(ValueError, match="shape"):
        wiggle(np.sum(w), w, by=np.ones(3))
    with pytest.raises(IndexError, match="at=2"):
        wiggle(np.sum(w), w, at=2)


def test_a_terminal_without_dots(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    text = str(wiggle(lambda x: -x, 3.0))
    assert text.isascii() and "dL/dx*o = -1 * 0.001" in text


@pytest.mark.parametrize(
    "L_of", [lambda x: np.square(fg.relu(x)), lambda x: x * np.abs(x), lambda x: np.abs(x) ** 1.5 * x]
)
def test_a_corner_in_the_slope_is_no_mistake(L_of):
    """L itself is smooth there, though what is left of the difference does not cancel between the two sides."""
    x = fg.Tensor(0.0, requires_grad=True, name="x")
    assert fg.wiggle(L_of, 0.0).verdict == "right"
    assert fg.explain(L_of(x), x, check=True).steps[-1].check.verdict == "right"


def test_a_small_wrong_fluxion_is_still_wrong(monkeypatch):
    monkeypatch.setattr(fg.rules["absolute"], "kernel", None)
    monkeypatch.setattr(fg.rules["absolute"], "fluxions", (lambda y, x: np.sign(x) + 0.01,))
    assert fg.wiggle(lambda x: x * np.abs(x) + np.abs(x + 1), 0.0).verdict == "wrong"
