"""The parts of a picture: numbers, names, expressions, colours, label places."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.ink.names import clean
from fluxgrad.picture import style
from fluxgrad.picture.layout import crossing
from fluxgrad.picture.op import expression
from fluxgrad.picture.scene import Flow, flow, norm, number, shown
from fluxgrad.picture.svg import Scale

INKS = ["frame", "ink", "quiet", "plus", "minus", "zero", "mixed", "wild", "none", "plus text", "minus text"]


@pytest.mark.parametrize("theme", [style.LIGHT, style.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "card"])
def test_every_ink_is_seen_on_every_ground(theme, ground):
    for ink in INKS:
        assert style.contrast(theme[ink], theme[ground]) >= 3.0, ink
    for text in ("ink", "quiet", "plus text", "minus text", "wild", "mixed"):
        assert style.contrast(theme[text], theme[ground]) >= 4.5, text


def test_the_themes_have_the_same_inks_and_the_agreed_pair():
    assert style.LIGHT.keys() == style.DARK.keys() == {"paper", "card", *INKS}
    assert (style.LIGHT["plus"], style.LIGHT["minus"]) == ("#0072B2", "#D55E00")
    looks = [str(style.LINES.get(sign)) for sign in ("plus", "minus", "zero", "none")]
    assert len({*looks}) == 4 and looks[0] == "None"  # told apart without colour


@pytest.mark.parametrize(
    "x, text",
    [
        *((3.0, "3"), (-0.5, "−0.5"), (0.0, "0"), (-0.0, "0"), (1234.5, "1234"), (999.7, "1000"), (2e6, "2e6")),
        *((1.2345e-5, "1.23e−5"), (math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "−inf"), (1e-300, "1e−300")),
    ],
)
def test_numbers_as_people_read_them(x, text):
    assert shown(x) == text


def test_numbers_as_programs_read_them():
    for x in (-0.00123456, 1234567.0, 999999.0, 1e-20, -7.0):
        assert float(number(x, 6)) == pytest.approx(x, rel=1e-5)


def test_norms_do_not_overflow_or_vanish():
    assert norm(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert norm(np.array([3e-200, 4e-200])) == pytest.approx(5e-200)
    assert norm(np.zeros((0, 3))) == 0
    assert math.isnan(norm(np.array([np.inf, np.nan]))) and norm(np.array([-np.inf, 1.0])) == math.inf


@pytest.mark.parametrize(
    "array, sign",
    [
        *((None, "none"), (0.0, "zero"), (2.0, "plus"), (-2.0, "minus"), ([0.0, 1.0], "plus"), ([0.0, -1.0], "minus")),
        *(([1.0, -1.0], "mixed"), ([1.0, np.nan], "wild"), (-np.inf, "wild"), (np.zeros(0), "zero")),
    ],
)
def test_signs(array, sign):
    assert flow(array).sign == sign


@pytest.mark.parametrize(
    "name, text",
    [
        ("w", "w"),
        ("a\n b\t\x00c", "a b c"),
        ("e\u0301", "é"),
        ("\u202e", ""),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
    ],
)
def test_clean_names(name, text):
    assert clean(name) == text


@pytest.mark.parametrize(
    "rule, operands, text",
    [
        ("multiply", ["x", "x"], "x·x"),
        ("subtract", ["a", "−2"], "a − (−2)"),
        ("tanh", ["v1"], "tanh v1"),
        ("exp", ["x1"], "exp x1"),
        ("square", ["w"], "w²"),
        ("affine", ["x", "W", "b"], "x @ Wᵀ + b"),
        ("sinc", ["a"], "sinc(a)"),  # its form writes πx, where no operand stands alone
        ("concatenate", ["a", "b", "c"], "concatenate(a, b, c)"),
    ],
)
def test_a_form_speaks_of_the_operands(rule, operands, text):
    assert expression(fg.rules[rule], operands) == text


def test_every_row_has_an_expression_that_names_all_its_operands():
    for row in fg.rules.values():
        operands = [f"operand{k}" for k in range(2 if row.variadic else len(row.fluxions))]
        text = expression(row, operands)
        words = re.findall(r"operand\d", text)
        assert set(words) == set(operands) or text.endswith("…"), (row.name, text)


def test_widths_follow_the_percentiles_of_the_picture():
    scale = Scale([Flow("plus", 10.0**-k) for k in range(21)], (1.0, 5.0))
    assert (scale.low, scale.high) == (-19.0, -1.0)
    assert [scale(Flow("plus", 10.0**k)) for k in (-30, -19, -10, -1, 3)] == pytest.approx([1, 1, 3, 5, 5])
    alike = Scale([Flow("plus", 1.0), Flow("minus", 1.1)], (1.0, 5.0))  # nearly the same, so drawn nearly the same
    assert alike(Flow("minus", 1.1)) - alike(Flow("plus", 1.0)) < 0.5


def test_a_line_through_a_box():
    assert crossing((0, 0), (10, 0), (5, 0), (2, 2)) == pytest.approx((0.4, 0.6))
    assert crossing((0, 0), (0, 10), (5, 5), (2, 2)) == (0.0, 0.0)
