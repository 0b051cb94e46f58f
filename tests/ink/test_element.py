"""One element of an array expression: the number is that element's, and the terms are those that one would write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.ink.element import element
from fluxgrad.ink.operand import symbol
from fluxgrad.ink.printers import notation

rng = np.random.default_rng(7)
x = symbol("x", rng.standard_normal((2, 3)))
w = symbol("w", rng.standard_normal((3, 4)))
b = symbol("b", rng.standard_normal(4))
v = symbol("v", rng.standard_normal(7))
s = symbol("s", 2.0)
t = symbol("t", np.eye(3, dtype=bool))
np_: Any = np

WRITTEN = [
    (x @ w + b, (1, 2), "x[1, 0]·w[0, 2] + x[1, 1]·w[1, 2] + x[1, 2]·w[2, 2] + b[2]"),
    (np_.matmul(v, v), (), "v[0]² + v[1]² + … + v[6]²"),
    (np_.dot(x, x[0]), (1,), "x[1, 0]·x[0, 0] + x[1, 1]·x[0, 1] + x[1, 2]·x[0, 2]"),
    (np_.sum(v), (), "v[0] + v[1] + … + v[6]"),
    (np_.sum(v[:6]), (), "v[0] + v[1] + v[2] + v[3] + v[4] + v[5]"),
    (np_.matmul(v[:4], v[3:]), (), "v[0]·v[3] + v[1]·v[4] + v[2]·v[5] + v[3]·v[6]"),
    (np_.matmul(v[:5], v[2:]), (), "v[0]·v[2] + v[1]·v[3] + … + v[4]·v[6]"),
    (x.astype(np.float32), (1, 0), "x[1, 0]"),
    (t.astype(np.float32), (1, 0), "t[1, 0]"),
    (np_.sum(x, axis=0, keepdims=True), (0, 2), "x[0, 2] + x[1, 2]"),
    (np_.mean(x, axis=0), (1,), "(x[0, 1] + x[1, 1])/len(x)"),
    (np_.transpose(x), (2, 1), "x[1, 2]"),
    (np_.swapaxes(x, 0, 1), (2, 1), "x[1, 2]"),
    (np_.reshape(x, (3, 2)), (2, 0), "x[1, 1]"),
    (np_.expand_dims(v, 1) * b, (2, 3), "v[2]·b[3]"),
    (np_.squeeze(np_.expand_dims(v, 0)), (2,), "v[2]"),
    (np_.broadcast_to(b, (3, 4)), (2, 1), "b[1]"),
    (np_.flip(v), (0,), "v[6]"),
    (np_.roll(v, 2), (0,), "v[5]"),
    (x[0], (2,), "x[0, 2]"),
    (v[1:4], (2,), "v[3]"),
    (x[np.array([0, 1]), np.array([1, 2])], (1,), "x[1, 2]"),
    (np_.concatenate([x, np_.transpose(w)]), (3, 1), "w[1, 1]"),
    (np_.stack([v, v * 2]), (1, 3), "2·v[3]"),
    (np_.pad(x, 1), (1, 1), "x[0, 0]"),
    (np_.pad(x, 1), (0, 0), "0"),
    (np_.take_along_axis(x, np_.argsort(-x * 0), -1), (0, 2), "x[0, 2]"),
    (np_.cumsum(v), (3,), "v[0] + v[1] + v[2] + v[3]"),
    (np_.trace(w[:, :3]), (), "w[0, 0] + w[1, 1] + w[2, 2]"),
    (fg.rules["scatter"](v, index=np.array([0, 0, 1, 1, 2, 2, 2]), shape=(4,)), (2,), "v[4] + v[5] + v[6]"),
    (x * s - 1, (0, 1), "x[0, 1]·s − 1"),
    (fg.sigmoid(x), (0, 0), "σ(x[0, 0])"),
    (symbol("one", [[3.0]]) * b, (0, 1), "one·b[1]"),
    (np_.transpose(t) * x[0], (1, 2), "t[2, 1]·x[0, 2]"),
]


@pytest.mark.parametrize(("expr", "index", "text"), WRITTEN, ids=[text for *_, text in WRITTEN])
def test_it_is_written_as_by_hand(expr, index, text):
    found = element(expr, index)
    assert notation(found) == text
    assert found.sample == pytest.approx(expr.sample[index], rel=1e-12)


def test_where_chooses_by_its_sample():
    e = np_.where(x > 0, x, -x)
    for index in np.ndindex(2, 3):
        sign = "" if x.sample[index] > 0 else "−"
        assert notation(element(e, index)) == f"{sign}x[{index[0]}, {index[1]}]"


def test_a_softmax_row_and_its_pull():
    row = fg.rules["softmax"]
    y, g = symbol("y", fg.softmax(x.sample)), symbol("g", rng.standard_normal((2, 3)))
    found = element(row.pull(0, g, y, [x], {}), (1, 2))
    assert notation(found) == "y[1, 2]·(g[1, 2] − g[1, 0]·y[1, 0] − g[1, 1]·y[1, 1] − g[1, 2]·y[1, 2])"


@pytest.mark.parametrize(
    "expr", [np_.max(x, axis=1), np_.sort(v), np_.linalg.inv(symbol("a", np.eye(3) + 0.1)), np_.einsum("ij,jk->ik", x, w),
             np_.median(x, axis=1), np_.sort(symbol("u", [2.0, 1.0, 3.0]))]
)  # fmt: skip
def test_what_is_neither_stays_a_call_with_its_number(expr):
    index = (0,) * expr.ndim
    found = element(expr, index)
    assert found.op == "getitem" and found.args[0] is expr and found.sample == expr.sample[index]


def test_a_long_sum_is_cut_in_print_and_right_in_number():
    long = symbol("u", np.arange(1000.0))
    found = element(np_.sum(long * long), ())
    assert notation(found) == "u[0]² + u[1]² + … + u[999]²"
    assert found.sample == pytest.approx(np.sum(np.arange(1000.0) ** 2))


def test_every_rule_of_every_row_is_followed_to_the_number():
    """Each element of what each built-in row sends back, at the row's own sample of operands."""
    from fluxgrad.ink.reading import Reading

    seen = 0
    for row in fg.rules.values():
        for _, told in Reading(row).rules:
            if told is None or not hasattr(told, "sample"):
                continue
            for index in list(np.ndindex(told.sample.shape))[:3]:
                found = element(told, index)
                np.testing.assert_allclose(found.sample, told.sample[index], rtol=1e-9, err_msg=row.name)
                seen += 1
    assert seen > 200


def test_no_such_element():
    for index in ((2, 0), (0,), (0, 0, 0), (0, -4)):
        with pytest.raises(IndexError, match="no element"):
            element(x, index)
    assert notation(element(x, (-1, -1))) == "x[1, 2]"
