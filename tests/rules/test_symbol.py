"""Any operand that answers NumPy's protocols can read a rule: every value and every fluxion is read with a symbol that
has no truth, no length and is no array, and gives what the numbers give. In its trace no step of a float32 reading is
wider.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_samples import SAMPLES, Sample
from symbol import Symbol, Trace

from fluxgrad.rules.kinds import Elementwise, chain

OPAQUE = {"scatter"}
"""Rows whose value is an operation that NumPy lacks: like NumPy's own functions they are one step of any reading."""

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)


def value_of(sample: Sample, xs: list[Any]) -> Any:
    return sample.row.value(*xs, **sample.options)


def fluxion_of(sample: Sample, i: int, g: Any, y: Any, xs: list[Any]) -> Any:
    return sample.row.pull(i, g, y, xs, sample.options)


def reading(sample: Sample, dtype: Any) -> tuple[Trace, list[np.ndarray], list[Symbol]]:
    trace = Trace()
    arrays = sample.cast(dtype)
    return trace, arrays, [trace.symbol(f"x{k}", x) for k, x in enumerate(arrays)]


def same(read: Any, plain: Any) -> None:
    assert isinstance(read, Symbol), f"the reading ended in a {type(read).__name__}"
    assert read._sample.shape == np.shape(plain) and read.dtype == np.asarray(plain).dtype
    np.testing.assert_allclose(read._sample, plain, rtol=1e-6, atol=1e-6)


@every_sample
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_rule_is_read_by_a_symbol(sample: Sample, dtype: Any):
    trace, arrays, symbols = reading(sample, dtype)
    plain_y = value_of(sample, arrays)
    if not isinstance(sample.row.value, np.ufunc) and sample.name not in OPAQUE:
        same(value_of(sample, symbols), plain_y)
    same(sample.row(*symbols, **sample.options), plain_y)  # a row inside of another's definition is one step

    rng = np.random.default_rng(3)
    g = np.asarray(rng.normal(size=np.shape(plain_y)), np.asarray(plain_y).dtype)
    y = trace.symbol("y", plain_y)
    for i in sample.flows:
        same(fluxion_of(sample, i, trace.symbol("g", g), y, symbols), fluxion_of(sample, i, g, plain_y, arrays))
        if isinstance(sample.row, Elementwise):
            local = sample.row.fluxions[i](y, *symbols, **sample.options)
            plain = sample.row.fluxions[i](plain_y, *arrays, **sample.options)
            same(chain(trace.symbol("g", g), local), chain(g, plain))

    if dtype == np.float32 and sample.name not in ("float_power", "astype"):
        wide = [line for line in trace.lines if line.dtype.kind == "f" and line.dtype != dtype]
        assert not wide, f"{sample.row} leaves float32: {wide}"


@every_sample
def test_only_the_fluxion_may_be_foreign(sample: Sample):
    """In a sweep that is recorded the fluxion is a Tensor and the inputs may be arrays; and the other way round."""
    trace, arrays, symbols = reading(sample, np.float64)
    plain_y = np.asarray(value_of(sample, arrays))
    g = np.random.default_rng(3).normal(size=plain_y.shape)
    for i in sample.flows:
        plain = fluxion_of(sample, i, g, plain_y, arrays)
        same(fluxion_of(sample, i, trace.symbol("g", g), plain_y, arrays), plain)
        other = fluxion_of(sample, i, g, trace.symbol("y", plain_y), symbols)
        np.testing.assert_allclose(other._sample if isinstance(other, Symbol) else other, plain, rtol=1e-12, atol=1e-12)


@every_sample
def test_mixed_dtypes_widen_only_where_numpy_does(sample: Sample):
    """A float32 operand beside float64 ones: the value has NumPy's dtype, and no step is wider than that."""
    if len(sample.inputs) < 2 or sample.name == "scatter":
        return
    trace = Trace()
    arrays = [x if x.dtype == bool else x.astype([np.float16, np.float32][k % 2]) for k, x in enumerate(sample.inputs)]
    if sample.name == "solve":
        arrays = [x.astype(np.float32) for x in sample.inputs]
    y = sample.row(*(trace.symbol(f"x{k}", x) for k, x in enumerate(arrays)), **sample.options)
    if sample.name != "float_power":
        assert y.dtype == np.result_type(*(x for x in arrays if x.dtype != bool))
        assert all(line.dtype != np.float64 for line in trace.lines)


# ----- The stand-in itself -----


def test_a_symbol_is_no_array_and_has_no_truth():
    x = Trace().symbol("x", np.array([1.0, 2.0]))
    for misuse in (
        lambda: bool(x > 1),
        lambda: np.asarray(x),
        lambda: float(x),
        lambda: len(x),
        lambda: list(x),
        lambda: np.zeros(2)[x],
    ):
        with pytest.raises((TypeError, IndexError)):
            misuse()
    with pytest.raises(AttributeError):
        x.data  # noqa: B018
    assert isinstance(x > 1, Symbol) and (x > 1).dtype == bool


def test_a_symbol_catches_a_rule_that_looks_inside():
    import fluxgrad as fg

    rows = [
        fg.elementwise("looks_at_data x", np.negative, lambda y, x: x.data * 0 - 1, name="looks_at_data"),
        fg.elementwise(
            "asks_for_truth x", np.negative, lambda y, x: -1 if (x > 0).all() else -1.0, name="asks_for_truth"
        ),
        fg.elementwise(
            "makes_an_array x", np.negative, lambda y, x: -np.ones_like(np.asarray(x)), name="makes_an_array"
        ),
    ]
    try:
        for row in rows:
            sample = Sample(row.name, (np.array([1.0, 2.0]),), {}, None, (0,))
            trace, _, symbols = reading(sample, np.float64)
            with pytest.raises((TypeError, AttributeError)):
                fluxion_of(sample, 0, trace.symbol("g", np.ones(2)), symbols[0], symbols)
    finally:
        for row in rows:
            del fg.rules[row.name]


def test_the_trace_shows_a_promotion():
    trace = Trace()
    x = trace.symbol("x", np.ones(2, np.float32))
    _ = x * np.float64(2.0) * 1
    assert [line.dtype for line in trace.lines] == [np.float64, np.float64]
