"""Every rule is tested by being in the table (rule_samples.py): its fluxions against mpmath, its numbers against NumPy,
its push against its pull, its second and third fluxions, broadcasting, dtypes, empty arrays.

The truth is the rule's own value read with `Exact`, and its difference quotient; a value is held against NumPy's own.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from exact import CONSTANTS, Exact, digits, mp
from rule_samples import ELEMENTWISE, SAMPLES, TABLE, Sample, elementwise_inputs, reference

import fluxgrad as fg
from fluxgrad.rules import elementwise as elementwise_rules
from fluxgrad.rules.kinds import Constant, Elementwise

BUILT_IN = {name: row for name, row in fg.rules.items() if row._builtin}
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
every_elementwise = pytest.mark.parametrize("name", ELEMENTWISE)


def test_no_rule_escapes():
    assert set(BUILT_IN) == set(TABLE), "a rule without samples, or samples without a rule (rule_samples.py)"
    elementwise = {name for name, row in BUILT_IN.items() if isinstance(row, Elementwise)}
    assert elementwise <= set(ELEMENTWISE), "an elementwise rule without its intervals (rule_samples.ELEMENTWISE)"


# ----- Read with mpmath -----


def random(shape: tuple[int, ...], seed: Any) -> np.ndarray:
    """An upstream fluxion or a direction: random, never ones; short fractions, the same in every dtype."""
    return np.random.default_rng(seed).integers(-255, 255, shape) / 128 + 1 / 256


def summed(c: Any, shape: tuple[int, ...]) -> Any:
    """A contribution in its input's shape: the sum over the axes that broadcasting stretched."""
    c = np.sum(c, axis=tuple(range(c.ndim - len(shape))))
    stretched = tuple(k for k, n in enumerate(shape) if n == 1 and c.shape[k] != 1)
    return np.sum(c, axis=stretched, keepdims=True) if stretched else c


def contributions(sample: Sample, g: Exact, xs: Sequence[Exact]) -> list[Exact]:
    y = sample.row(*xs, **sample.options)
    sent = [sample.row.pull(i, g, y, xs, sample.options) for i in sample.flows]
    return [summed(Exact(c), xs[i].shape) for i, c in zip(sample.flows, sent, strict=True)]


def moved(sample: Sample, directions: Sequence[Any], step: Any) -> list[Exact]:
    """The inputs, moved by step × direction."""
    xs = [Exact(x) for x in sample.inputs]
    for i, v in zip(sample.flows, directions, strict=True):
        xs[i] = xs[i] + Exact(v) * Exact(step)
    return xs


def dot(a: Any, b: Any) -> Any:
    return np.sum(Exact(a) * Exact(b))


@functools.cache
def exact_reading(number: int) -> tuple[Exact, Exact, list[Exact]]:
    """(y, a random L̇_y, the fluxions L̇_x) of a sample."""
    sample = SAMPLES[number]
    xs = [Exact(x) for x in sample.inputs]
    y = sample.row(*xs, **sample.options)
    y = y if isinstance(y, Exact) else Exact(y)
    g = Exact(random(y.shape, number))
    return y, g, contributions(sample, g, xs)


@every_sample
def test_fluxions_equal_the_difference_quotient_to_20_digits(sample: Sample):
    _, g, fluxions = exact_reading(SAMPLES.index(sample))
    h = mp.mpf(10) ** -15
    for i, fluxion in zip(sample.flows, fluxions, strict=True):
        assert fluxion.shape == sample.inputs[i].shape
        for place in np.ndindex(*sample.inputs[i].shape):
            ends = []
            for step in (h, -h):
                xs = [Exact(x) for x in sample.inputs]
                xs[i].numbers[place] += step
                ends.append(dot(g, sample.row(*xs, **sample.options)).number())
            quotient = (ends[0] - ends[1]) / (2 * h)
            found = fluxion[place].number()
            assert abs(found - quotient) <= mp.mpf(10) ** -20 * max(1, abs(quotient)), (
                f"{sample.row}: fluxion {i} at {place} is {float(found)!r}, the difference quotient {float(quotient)!r}"
            )


@every_sample
def test_values_and_fluxions_in_numbers(sample: Sample):
    """float64 and float32 against the exact reading, within rounding; the value against NumPy's own."""
    y, g, fluxions = exact_reading(SAMPLES.index(sample))
    assert sample.reference is not None
    for dtype in (np.float64, np.float32):
        arrays = sample.cast(dtype)
        eps = 64 * np.finfo(dtype).eps
        value, pull = fg.vjp(sample.among(arrays), *(arrays[i] for i in sample.flows))
        theirs = np.asarray(sample.reference(*arrays, **sample.options))
        assert type(value) is np.ndarray
        assert value.shape == theirs.shape
        if sample.name != "astype":
            assert value.dtype == theirs.dtype
        assert np.allclose(value, theirs, rtol=eps, atol=eps), f"{sample.row}: {value} where NumPy has {theirs}"
        plainly = sample.row(*arrays, **sample.options)
        assert np.allclose(plainly, value, rtol=eps, atol=eps) and plainly.dtype == value.dtype, (
            "a Tensor and an array give two values"
        )
        near(value, y, eps, f"{sample.row} in {dtype.__name__}")
        for i, ours, truth in zip(sample.flows, pull(g.float64().astype(value.dtype)), fluxions, strict=True):
            assert ours.dtype == arrays[i].dtype
            near(ours, truth, eps, f"fluxion {i} of {sample.row} in {dtype.__name__}")


def near(ours: np.ndarray, truth: Exact, eps: float, what: str) -> None:
    assert ours.shape == truth.shape, what
    if ours.size:
        scale = max(1.0, float(np.max(abs(truth.float64()))))
        off = float(np.max(abs(ours - truth.float64())))
        assert off <= eps * scale, f"{what}: off by {off:.3g}\n{ours}\n{truth.float64()}"


# ----- Push, and further fluxions -----


@every_sample
def test_push_is_the_transpose_of_pull(sample: Sample):
    number = SAMPLES.index(sample)
    f = sample.among(sample.inputs)
    xs = [sample.inputs[i] for i in sample.flows]
    y, pull = fg.vjp(f, *xs)
    for trial in range(2):
        g = random(y.shape, [number, trial])
        vs = [random(x.shape, [number, trial, k]) for k, x in enumerate(xs)]
        value, velocity = fg.jvp(f, xs, vs)
        assert velocity.shape == y.shape and velocity.dtype == y.dtype
        assert np.array_equal(value, y)
        pushed = np.sum(g * velocity)
        pulled = sum(np.sum(c * v) for c, v in zip(pull(g), vs, strict=True))
        assert np.isclose(pushed, pulled, rtol=1e-11, atol=1e-11), f"{sample.row}: {pushed} pushed, {pulled} pulled"


@every_sample
def test_second_and_third_fluxions(sample: Sample):
    """S(x) = ⟨u, L̇_x⟩ for a random u; its derivative along v four ways, and the next one, against the exact
    reading's."""
    number = SAMPLES.index(sample)
    f = sample.among(sample.inputs)
    xs = [sample.inputs[i] for i in sample.flows]
    _, exact_g, _ = exact_reading(number)
    g = exact_g.float64()
    us, vs = ([random(x.shape, [number, k, way]) for k, x in enumerate(xs)] for way in (7, 8))
    h = mp.mpf(10) ** -12
    before, here, after = (
        sum(
            dot(u, c).number()
            for u, c in zip(us, contributions(sample, exact_g, moved(sample, vs, k * h)), strict=True)
        )
        for k in (-1, 0, 1)
    )
    second, third = float((after - before) / (2 * h)), float((after - 2 * here + before) / h**2)

    def reverse(*at: Any) -> Any:
        return sum(np.sum(u * c) for u, c in zip(us, fg.vjp(f, *at)[1](g), strict=True))

    def forward(*at: Any) -> Any:
        return np.sum(g * fg.jvp(f, at, us)[1])

    everything = tuple(range(len(xs)))
    found = {
        "push of pull": fg.jvp(reverse, xs, vs)[1],
        "push of push": fg.jvp(forward, xs, vs)[1],
        "pull of pull": sum(np.sum(c * v) for c, v in zip(fg.grad(reverse, everything)(*xs), vs, strict=True)),
        "pull of push": sum(np.sum(c * v) for c, v in zip(fg.grad(forward, everything)(*xs), vs, strict=True)),
    }
    for way, ours in found.items():
        assert np.isclose(ours, second, rtol=1e-10, atol=1e-9), f"{sample.row}, {way}: {ours}, and {second} exactly"

    def along(*at: Any) -> Any:
        return fg.jvp(reverse, at, vs)[1]

    ours = fg.jvp(along, xs, vs)[1]
    assert np.isclose(ours, third, rtol=1e-9, atol=1e-7), f"{sample.row}, third: {ours}, and {third} exactly"


# ----- Broadcasting and dtypes -----

SHAPES = {
    1: [((3, 4),), ((),)],
    2: [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ()), ((1,), (2, 3))],
    3: [((3, 4), (4,), (3, 1)), ((3, 1), (1, 4), ()), ((), (2, 3), (3,))],
}
DTYPES = {1: ["f", "d", "e"], 2: ["ff", "dd", "ee", "fd", "df", "ed", "ef"], 3: ["fff", "fdf", "dff", "eee"]}


def tolerance(*arrays: np.ndarray) -> float:
    return 64 * max(float(np.finfo(x.dtype).eps) for x in arrays)


@every_elementwise
def test_broadcasting_and_dtypes(name: str):
    """Each fluxion has its own input's shape and dtype: the sum of what each copy of a stretched number would get."""
    row, n = fg.rules[name], len(ELEMENTWISE[name])
    for shapes in SHAPES[n]:
        wide = np.broadcast_shapes(*shapes)
        for codes in DTYPES[n]:
            xs = [x.astype(code) for x, code in zip(elementwise_inputs(name, shapes, "broadcast"), codes, strict=True)]
            y, pull = fg.vjp(row, *xs)
            assert y.shape == wide
            assert y.dtype == np.result_type(*xs, *([float] if name == "float_power" else []))
            g = random(wide, 5).astype(y.dtype)
            copies = [np.broadcast_to(x, wide).astype(float) for x in xs]
            truth = fg.vjp(row, *copies)[1](g.astype(float))
            velocity = fg.jvp(row, xs, [np.ones_like(x) for x in xs])[1]
            assert velocity.shape == wide and velocity.dtype == y.dtype
            for x, ours, theirs in zip(xs, pull(g), truth, strict=True):
                assert ours.shape == x.shape and ours.dtype == x.dtype, (
                    f"{row} on {shapes} {codes}: {ours.shape} {ours.dtype}"
                )
                theirs = summed(theirs, x.shape)
                eps = (
                    tolerance(*xs) * max(1.0, np.abs(theirs).max(initial=0), np.abs(truth).max()) * max(1, len(g.flat))
                )
                assert np.allclose(ours, theirs, rtol=eps, atol=eps), f"{row} on {shapes} {codes}"


@every_sample
def test_dtype_stays(sample: Sample):
    """float32 and float16 in, the same out: value, fluxions, velocity, and the second fluxions."""
    for dtype in (np.float32, np.float16):
        if dtype == np.float16 and sample.name in {"inv", "pinv", "det", "logabsdet", "solve"}:
            continue  # NumPy's linear algebra has none
        if sample.name == "astype":
            continue
        arrays = sample.cast(dtype)
        xs = [arrays[i] for i in sample.flows]
        f = sample.among(arrays)
        y, pull = fg.vjp(f, *xs)
        assert y.dtype == (np.float64 if sample.name == "float_power" else dtype)
        g = random(y.shape, 3).astype(y.dtype)
        assert [c.dtype for c in pull(g)] == [dtype] * len(xs)
        assert fg.jvp(f, xs, xs)[1].dtype == y.dtype

        def loss(*at: Any, f: Any = f, g: Any = g) -> Any:
            return np.sum(fg.vjp(f, *at)[1](g)[0])

        assert [c.dtype for c in fg.grad(loss, tuple(range(len(xs))))(*xs)] == [dtype] * len(xs)


class Watched(np.ndarray):
    """An array that notes the dtype of whatever a ufunc makes of it: what a kernel does inside."""

    seen: set[np.dtype[Any]] = set()  # noqa: RUF012

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = tuple(o.view(np.ndarray) for o in kwargs["out"])
        plain = [x.view(np.ndarray) if isinstance(x, Watched) else x for x in inputs]
        y = getattr(ufunc, method)(*plain, **kwargs)
        Watched.seen.add(np.asarray(y).dtype)
        return y.view(Watched) if isinstance(y, np.ndarray) else y


every_kernel = pytest.mark.parametrize("sample", [s for s in SAMPLES if s.row.kernel], ids=str)


@every_kernel
def test_kernels_stay_in_float32(sample: Sample):
    Watched.seen = set()
    forward, backs = sample.row.kernel
    y, saved = forward(*(x.view(Watched) for x in sample.cast(np.float32)), **sample.options)
    if saved is not None:  # else the kernel leaves these operands to the definition
        g = random(np.shape(y), 3).astype(np.float32).view(Watched)
        found = [backs[i](g, saved, None) for i in sample.flows]
        assert {np.asarray(c).dtype for c in [y, *found]} == {np.dtype(np.float32)}
    # Concatenate and stack compute nothing: they move.
    assert Watched.seen or sample.row.variadic, "nothing was watched"
    assert np.dtype(np.float64) not in Watched.seen or sample.name in ROUNDED_ONCE


ROUNDED_ONCE = {
    "binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss", "cross_entropy", "focal_loss", "kl_div",
    "kl_div_log_target", "kl_div_with_logits", "l1_loss",
}  # fmt: skip
"""The losses of classification, whose kernels compute in float64 to lose no digit of float32; and a plain sum, taken in it."""


@every_kernel
def test_a_kernel_is_its_definition_and_writes_only_to_its_room(sample: Sample):
    """Value and fluxions are the definition's but for last digits, with and without room; nothing else is touched."""
    forward, backs = sample.row.kernel
    arrays = [x.copy() for x in sample.inputs]
    for x in arrays:
        x.flags.writeable = False
    y, saved = forward(*arrays, **sample.options)
    definition = np.asarray(sample.row.value(*arrays, **sample.options))
    assert np.allclose(y, definition, rtol=1e-14, atol=1e-14)
    if saved is None:
        return
    g = np.asarray(random(np.shape(y), 3))
    g.flags.writeable = False
    for i in sample.flows:
        truth = sample.row.pull(i, g, definition, arrays, sample.options)
        room = np.full(arrays[i].shape, np.nan)
        for c in (backs[i](g, saved, None), backs[i](g, saved, room), backs[i](g, saved, None)):
            assert np.shape(c) == arrays[i].shape, "a kernel gives its input's own shape"
            assert np.allclose(c, summed(np.asarray(truth), arrays[i].shape), rtol=1e-13, atol=1e-13)


# ----- Nothing, and next to nothing -----

NOTHING: dict[str, list[tuple[tuple[tuple[int, ...], ...], dict[str, Any]]]] = {
    "sum": [(((0,),), {}), (((2, 0),), {"axis": 0}), (((2, 0),), {"axis": 1}), (((),), {}), (((),), {"axis": ()})],
    "mean": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1, "keepdims": True})],
    "max": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1, "keepdims": True})],
    "min": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1, "keepdims": True})],
    "prod": [(((0,),), {}), (((2, 0),), {"axis": 0}), (((2, 0),), {"axis": 1}), (((),), {})],
    "norm": [(((0,),), {}), (((2, 0),), {"axis": 1}), (((),), {})],
    "var": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1})],
    "std": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1})],
    "logsumexp": [(((2, 0),), {"axis": 0}), (((),), {}), (((0, 3),), {"axis": 1, "keepdims": True})],
    "softmax": [(((0, 3),), {}), (((2, 0),), {"axis": 0})],
    "log_softmax": [(((0, 3),), {}), (((2, 0),), {"axis": 0})],
    "cumsum": [(((0,),), {}), (((2, 0),), {"axis": 0}), (((),), {})],
    "sort": [(((0,),), {}), (((2, 0),), {"axis": 0}), (((0, 3),), {"axis": -1})],
    "matmul": [
        (((2, 0), (0, 3)), {}),
        (((0, 2), (2, 3)), {}),
        (((0,), (0,)), {}),
        (((2, 3), (3, 0)), {}),
        (((0, 2, 3), (3,)), {}),
    ],
    "einsum": [
        (((2, 0), (0, 3)), {"subscripts": "ij,jk"}),
        (((0, 2),), {"subscripts": "ij->j"}),
        (((), ()), {"subscripts": ","}),
    ],
    "reshape": [(((0, 3),), {"shape": (3, 0)}), (((),), {"shape": (1, 1)}), (((1,),), {"shape": ()})],
    "expand_dims": [(((),), {"axis": 0}), (((0,),), {"axis": -1})],
    "squeeze": [(((1, 0),), {}), (((),), {})],
    "transpose": [(((0, 3),), {}), (((),), {})],
    "flip": [(((0, 3),), {}), (((),), {})],
    "roll": [(((0, 3),), {"shift": 1}), (((0,),), {"shift": 1, "axis": 0})],
    "broadcast_to": [(((0,),), {"shape": (2, 0)}), (((1,),), {"shape": (0,)}), (((3,),), {"shape": (0, 3)})],
    "concatenate": [(((0,), (2,)), {}), (((0, 3), (0, 3)), {"axis": 1})],
    "stack": [(((0,), (0,)), {}), (((), ()), {})],
    "where": [(((0,), ()), {"condition": np.zeros(0, bool)}), (((), ()), {"condition": np.array(False)})],
    "pad": [(((0,),), {"width": ((1, 2),)}), (((0, 2),), {"width": ((0, 1), (1, 0))})],
    "astype": [(((0,),), {"dtype": np.dtype(float)}), (((),), {"dtype": np.dtype(float)})],
    "getitem": [
        (((0, 3),), {"index": (slice(None), 1)}),
        (((),), {"index": ()}),
        (((),), {"index": None}),
        (((),), {"index": ...}),
    ],
    "scatter": [(((0,),), {"index": np.zeros(0, int), "shape": (3,)}), (((),), {"index": (), "shape": ()})],
    "affine": [(((0, 4), (2, 4), (2,)), {}), (((2, 0, 4), (2, 4), (2,)), {})],
    "inv": [(((0, 2, 2),), {}), (((0, 0),), {})],
    "pinv": [(((0, 3, 2),), {})],
    "det": [(((0, 2, 2),), {}), (((0, 0),), {})],
    "logabsdet": [(((0, 2, 2),), {})],
    "solve": [(((0, 2, 2), (0, 2, 3)), {}), (((0, 0), (0,)), {}), (((2, 3, 3), (3, 0)), {})],
    "huber_loss": [(((0,), (0,)), {"delta": 1.0}), (((), ()), {"delta": 1.0})],
    "smooth_l1_loss": [(((0,), (0,)), {"beta": 1.0}), (((), ()), {"beta": 1.0})],
    "kl_div_with_logits": [(((0, 3), (0, 3)), {})],
    "focal_loss": [(((0, 3), (0, 3)), {"gamma": 2.0})],
    "sigmoid_focal_loss": [(((0,), (0,)), {"gamma": 2.0})],
    "cross_entropy": [(((0, 3), (0, 3)), {})],
}


def test_every_rule_meets_an_empty_array():
    assert set(NOTHING) | set(ELEMENTWISE) == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(set(NOTHING) | set(ELEMENTWISE)))
def test_empty_and_0d(name: str):
    n = len(ELEMENTWISE.get(name, ()))
    cases = NOTHING.get(name) or [((shape,) * n, {}) for shape in [(0,), (2, 0), ()]]
    for shapes, options in cases:
        for dtype in (np.float64, np.float32):
            if name in ELEMENTWISE:
                xs = [x.astype(dtype) for x in elementwise_inputs(name, shapes)]
            else:
                xs = [random(shape, k).astype(dtype) for k, shape in enumerate(shapes)]
                if name in ("inv", "det", "solve") and xs[0].size:
                    xs[0] = xs[0] + 5 * np.eye(3, dtype=dtype)
            flows = tuple(range(len(xs) - (name in ("sigmoid_focal_loss", "focal_loss"))))
            sample = Sample(name, tuple(xs), options, None, flows)
            f, moving = sample.among(xs), [xs[i] for i in flows]
            expected = np.asarray(reference(name)(*xs, **options))
            y, pull = fg.vjp(f, *moving)
            assert type(y) is np.ndarray and y.shape == expected.shape
            assert np.allclose(y, expected, rtol=1e-5, atol=1e-6)
            g = random(y.shape, 1).astype(y.dtype)
            found = pull(g)
            assert [(c.shape, c.dtype) for c in found] == [
                (x.shape, x.dtype if name != "astype" else dtype) for x in moving
            ]
            velocity = fg.jvp(f, moving, moving)[1]
            assert (velocity.shape, velocity.dtype) == (y.shape, y.dtype)
            assert np.isclose(
                np.sum(g * velocity),
                sum(np.sum(c * x) for c, x in zip(found, moving, strict=True)),
                rtol=1e-4,
                atol=1e-5,
            )
            second = fg.grad(lambda *at, f=f, g=g: np.sum(fg.vjp(f, *at)[1](g)[0]), flows)(*moving)
            assert [c.shape for c in second] == [x.shape for x in moving]


# ----- Constants, and what runs far out -----


def _constants() -> list[Constant]:
    from fluxgrad.rules import fused, linear

    modules = (elementwise_rules, linear, fused, fg.losses)
    return [c for module in modules for c in vars(module).values() if isinstance(c, Constant)]


def test_constants_mean_what_their_names_say():
    constants = _constants()
    assert constants
    for c in constants:
        with digits(60):
            assert abs(CONSTANTS[c.name]() - mp.mpf(c.value)) <= abs(np.spacing(c.value)) * 0.51


@pytest.mark.parametrize(
    "name",
    ["sigmoid", "softplus", "relu", "gelu", "tanh", "arctan", "logaddexp", "softmax", "log_softmax", "logsumexp"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_nothing_overflows(name: str, dtype: Any):
    """Values and fluxions of ±1000 are finite and right, without a warning (a warning is an error here)."""
    row = fg.rules[name]
    x = np.array([-1000.0, -80.5, 0.0, 80.5, 1000.0], dtype)
    xs = [x, x[::-1].copy()] if name == "logaddexp" else [x]
    y, pull = fg.vjp(row, *xs)
    g = random(y.shape, 2).astype(dtype)
    e = [Exact(v) for v in xs]
    with digits(1000):
        truth = row(*e)
        fluxions = [row.pull(i, Exact(g), truth, e, {}) for i in range(len(xs))]
    assert np.allclose(y, truth.float64(), rtol=1e-5, atol=1e-30)
    for ours, theirs in zip(pull(g), fluxions, strict=True):
        assert np.all(np.isfinite(ours))
        assert np.allclose(ours, Exact(theirs).float64(), rtol=1e-5, atol=1e-5)


def test_warnings_are_errors():
    with pytest.raises(RuntimeWarning), warnings.catch_warnings():
        np.log(np.zeros(()))
