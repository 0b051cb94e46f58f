"""The checker, checked: wrong rules are planted, and it must catch each and say what it looks like; right ones pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fluxgrad as fg
from fluxgrad import check, sweep
from fluxgrad.rules.kinds import implementations

x1, w1 = np.array([0.3, -1.2, 2.1]), np.array([1.7, 0.6, -0.8])
x2, w2 = np.array([[0.4, -1.1, 0.9], [1.6, 0.2, -0.7]]), np.array([[0.5, 1.3], [-0.9, 0.8], [1.1, -0.4]])
square = np.array([[0.9, -0.3], [0.7, 1.4]])


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Rows stay registered; those that a test plants go with it."""
    kept, stood = dict(fg.rules), dict(implementations)
    yield
    for table, before in ((fg.rules, kept), (implementations, stood)):
        table.clear()
        table.update(before)


def told(f: Any, *args: Any, **how: Any) -> str:
    """What the checker says of a wrong rule."""
    with pytest.raises(AssertionError) as caught:
        fg.check_grads(f, *args, **how)
    return str(caught.value)


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


# ----- Planted mistakes -----


def sq_loss(p: Any, t: Any) -> Any:
    return np.mean((p - t) ** 2)


def matmul_x(g: Any, x: Any, w: Any) -> Any:
    return np.matmul(g, np.swapaxes(w, -1, -2))


def matmul_w(g: Any, x: Any, w: Any) -> Any:
    return np.matmul(np.swapaxes(x, -1, -2), g)


def kernel(forward: Callable[..., Any], back: Callable[..., Any]) -> Any:
    """A kernel of one input, which it saves."""
    return lambda x: (forward(x), x), [lambda g, x, room: back(g, x)]


class Planted(NamedTuple):
    """A wrong rule: what it must look like, in which fluxion, how it is made, where it is tested."""

    looks: str
    told: str
    make: Callable[..., Any]
    parts: tuple[Callable[..., Any], ...]
    at: tuple[Any, ...] = (x1,)
    how: dict[str, Any] | None = None

    def row(self) -> Any:
        return self.make("bad x", *self.parts, name="bad", **(self.how or {}))


el, li, fu = fg.elementwise, fg.linear, fg.fused
multiply, quotient, plus_b = (lambda x, w: x * w), (lambda x, w: x / w), (lambda x, b: x + b)
cube, total, energy = (lambda x: x * x * x), (lambda x: np.sum(x)), (lambda x: np.sum(x * x))
thrice, mean, turned = (lambda x: 3 * x), (lambda x: np.mean(x)), (lambda x: np.transpose(x))
same = lambda g, *inputs: g

PLANTED = {
    # elementwise: value, then ẏ_x(y, x, w), ẏ_w(y, x, w)
    "sign": Planted("the sign is wrong", "L̇_x", el, (np.cos, lambda y, x: np.sin(x))),
    "factor 2": Planted("counted twice", "L̇_x", el, (np.square, lambda y, x: 4 * x)),
    "half": Planted("half of it is missing", "L̇_x", el, (np.square, lambda y, x: x)),
    "another factor": Planted("a constant factor, 0.7", "L̇_x", el, (np.sin, lambda y, x: 0.7 * np.cos(x))),
    "swapped": Planted("inputs are swapped", "L̇_x", el, (multiply, lambda y, x, w: x, lambda y, x, w: w), (x1, w1)),
    "swapped within": Planted(
        "inputs are swapped in the rule", "L̇_x", el, (quotient, lambda y, x, w: 1 / x, lambda y, x, w: -y / w), (x1, w1)
    ),
    "only the second": Planted(
        "the sign is wrong", "L̇_w", el, (quotient, lambda y, x, w: 1 / w, lambda y, x, w: y / w), (x1, w1)
    ),
    "input for output": Planted("the input was used for the output", "L̇_x", el, (np.tanh, lambda y, x: 1 - x * x)),
    "exp by its input": Planted("the input was used for the output", "L̇_x", el, (np.exp, lambda y, x: x)),
    "output for input": Planted("the output was used for the input", "L̇_x", el, (np.sin, lambda y, x: np.cos(y))),
    "local ignored": Planted("the local fluxion is ignored", "L̇_x", el, (np.tanh, lambda y, x: 1)),
    "nothing arrives": Planted("a path is missing", "L̇_x", el, (np.tanh, lambda y, x: 0)),
    "a term missing": Planted(
        "a term (a path) is missing", "L̇_x", el, (lambda x: x * np.sin(x), lambda y, x: np.sin(x))
    ),
    "a sign lost": Planted("sign is wrong, for some", "L̇_x", el, (lambda x: x**4, lambda y, x: 4 * np.abs(x) ** 3)),
    # linear: value, then the adjoints (g, x, w)
    "linear sign": Planted("the sign is wrong", "L̇_w", li, (lambda x, w: x - w, same, lambda g, x, w: g), (x1, w1)),
    "linear factor": Planted("counted twice", "L̇_x", li, (thrice, lambda g, x: 6 * g)),
    "mean for sum": Planted(
        "a mean was taken for a sum", "L̇_x", li, (total, lambda g, x: np.broadcast_to(g / x.size, x.shape))
    ),
    "sum for mean": Planted(
        "a sum was taken for a mean", "L̇_x", li, (mean, lambda g, x: np.broadcast_to(g, x.shape))
    ),
    "linear local": Planted("the local fluxion is ignored", "L̇_x", li, (thrice, lambda g, x: g)),
    "linear upstream": Planted(
        "the upstream fluxion L̇_y is ignored", "L̇_x", li, (thrice, lambda g, x: 3 * np.ones_like(x))
    ),
    "linear swapped": Planted(
        "the inputs are swapped", "L̇_x", li,
        (np.matmul, matmul_w, matmul_x), (square, square.T + 1), {"jointly": False}
    ),
    "other shapes swapped": Planted(
        "the inputs are swapped", "a shape", li,
        (np.matmul, matmul_w, matmul_x), (x2, np.ones((3, 4))), {"jointly": False}
    ),
    "not summed": Planted("not summed over the axes", "L̇_b", li, (plus_b, same, lambda g, x, b: g[0]), (x2, x1)),
    "averaged": Planted(
        "not summed over the axes", "L̇_b", li, (plus_b, same, lambda g, x, b: np.mean(g, axis=0)), (x2, x1)
    ),
    "transposed": Planted("this is L̇_y itself", "L̇_x", li, (turned, same), (square,)),
    "not jointly linear": Planted(
        "the operation is not linear", "the push ẏ", li, (np.matmul, matmul_x, matmul_w), (x2, w2)
    ),
    "not linear": Planted("the operation is not linear", "the push ẏ", li, (lambda x: 3 * x + 1, lambda g, x: 3 * g)),
    "not in each": Planted(
        "the operation is not linear", "the push ẏ", li, (plus_b, same, same), (x1, w1), {"jointly": False}
    ),
    "not linear in L̇_y": Planted(
        "it is not linear in L̇_y", "L̇_x", li, (thrice, lambda g, x: np.where(np.abs(g) < 1, 3 * g, 0))
    ),
    "not 0 with L̇_y": Planted(
        "a part ignores the upstream", "L̇_x", li, (thrice, lambda g, x: np.where(g == 0, 1, 3 * g))
    ),
    # fused: value, then the pulls (g, y, x, w)
    "fused sign": Planted("the sign is wrong", "L̇_x", fu, (energy, lambda g, y, x: -2 * g * x)),
    "fused half": Planted("half of it is missing", "L̇_x", fu, (energy, lambda g, y, x: g * x)),
    "fused upstream": Planted("the upstream fluxion L̇_y is ignored", "L̇_x", fu, (energy, lambda g, y, x: 2 * x)),
    "fused local": Planted(
        "the local fluxion is ignored", "L̇_x", fu, (energy, lambda g, y, x: np.broadcast_to(g, x.shape))
    ),
    "fused mean": Planted("a mean was taken for a sum", "L̇_x", fu, (energy, lambda g, y, x: 2 * g * x / x.size)),
    "a loss without its 1/n": Planted(
        "a sum was taken for a mean", "L̇_t", fu,
        (sq_loss, lambda g, y, p, t: 2 * g * (p - t) / p.size, lambda g, y, p, t: -2 * g * (p - t)), (x1, w1),
    ),
    "fused swapped": Planted(
        "the inputs are swapped", "L̇_p", fu,
        (lambda p, t: np.sum(p * p * t), lambda g, y, p, t: g * p * p, lambda g, y, p, t: 2 * g * p * t), (x1, w1),
    ),
    "fused not summed": Planted(
        "not summed over the axes", "L̇_b", fu,
        (lambda x, b: x * b, lambda g, y, x, b: g * b, lambda g, y, x, b: (g * x)[-1]), (x2, x1),
    ),
    "fused input for output": Planted(
        "the input was used for the output", "L̇_x", fu,
        (softmax, lambda g, y, x: x * (g - np.sum(g * x, axis=-1, keepdims=True))), (x2,),
    ),
    "softmax, its diagonal alone": Planted(
        "the paths from each number to the other outputs are missing", "L̇_x", fu,
        (softmax, lambda g, y, x: y * (1 - y) * g)
    ),
    "fused shape": Planted(
        "L̇_x must have x's shape, (2, 3)", "a shape", fu,
        (lambda x: np.sum(x * x, axis=1), lambda g, y, x: 2 * g * np.sum(x, axis=1)), (x2,),
    ),
    "a kernel's pull": Planted(
        "the kernel is wrong, its definition is right", "L̇_x", fu, (cube, lambda g, y, x: 3 * g * x * x), (x1,),
        {"kernel": kernel(cube, lambda g, x: 3 * g * x)},
    ),
    "a kernel's value": Planted(
        "the kernel and the definition of a rule disagree", "the value", fu,
        (cube, lambda g, y, x: 3 * g * x * x), (x1,),
        {"kernel": kernel(np.square, lambda g, x: 3 * g * x * x)},
    ),
    "a definition's pull": Planted(
        "the kernel is right, the definition", "the push ẏ", fu, (cube, lambda g, y, x: g * x * x), (x1,),
        {"kernel": kernel(cube, lambda g, x: 3 * g * x * x)},
    ),
    "second order": Planted(
        "a path is missing", "L̈_x", el, (np.exp, lambda y, x: np.exp(x.data if isinstance(x, fg.Tensor) else x))
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_mistake_is_caught_and_named(kind: str) -> None:
    planted = PLANTED[kind]
    first, _, rest = told(planted.row(), *planted.at).partition("\n")
    assert first.startswith(planted.told)
    assert " is wrong for rule 'bad'.   " in first
    assert rest.startswith("  looks like: ")
    assert planted.looks in rest


def test_a_rule_that_is_right_only_the_first_time() -> None:
    calls = itertools.count(1)
    assert "right only the first time" in told(
        el("bad x", np.sin, lambda y, x: np.cos(x) * next(calls), name="bad"), x1
    )


def test_a_rule_that_remembers_the_first_point() -> None:
    kept: list[Any] = []

    def fluxion(y: Any, x: Any) -> Any:
        kept.append(np.cos(x))
        return kept[0]

    message = told(el("bad x", np.sin, fluxion, name="bad"), x1)
    assert message.startswith("L̇ at a second point is wrong for rule 'bad'.")
    assert "right only the first time" in message


def test_a_kernel_that_keeps_its_input_where_the_next_call_puts_its_own() -> None:
    kept: dict[str, Any] = {}

    def forward(x: Any) -> Any:
        kept["x"] = x
        return x * x

    bad = fu(
        "bad x",
        np.square,
        lambda g, y, x: 2 * g * x,
        kernel=kernel(forward, lambda g, x: 2 * g * kept["x"]),
        name="bad",
    )
    assert "right only the first time" in told(bad, x1)


def test_the_message_in_full() -> None:
    bad = el("bad x", lambda x, w: x * w, lambda y, x, b: b, lambda y, x, b: 2 * x)
    assert told(bad, 3.0, 2.0) == (
        "L̇_b is wrong for rule 'bad'.   your rule: 4.175   wiggle: 2.088   ratio 2.00\n"
        "  looks like: the fluxion was counted twice\n"
        "  at b = 2.000, L̇_y = 0.6959"
    )


def test_what_the_definition_of_a_kernel_gets_wrong_is_caught_at_second_order() -> None:
    """No numbers of first order come from it: only the further fluxions do, and the push."""

    def plant(definition: Callable[..., Any]) -> Any:
        return fu("bad x", lambda x: x * x, definition, kernel=kernel(np.square, lambda g, x: 2 * g * x))

    wrong = plant(lambda g, y, x: 3 * g * x)
    assert fg.check_grads(wrong, x1, modes=["rev"], order=1) == []
    assert "L̇, read as a graph, is wrong for rule 'bad'" in told(wrong, x1, modes=["rev"])
    cut = plant(lambda g, y, x: 2 * g * (x.data if isinstance(x, fg.Tensor) else x))
    assert "L̈_x is wrong for rule 'bad'" in told(cut, x1)
    assert fg.check_grads(plant(lambda g, y, x: 2 * g * x), x1) == []


def test_softmax_with_its_diagonal_alone_passes_where_the_upstream_is_ones_but_not_here() -> None:
    """p(1 − p)·g: after `.sum()` the truth is 0, and so every test that sums first is blind to the other paths."""
    bad = fu("bad x", softmax, lambda g, y, x: y * (1 - y) * g)
    for f in (bad, lambda x: bad(x), lambda x: np.sum(bad(x) * np.arange(3.0))):
        message = told(f, x1)
        assert "rule 'bad'" in message
        assert "paths from each number to the other outputs are missing" in message


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_each_mode_alone_catches_a_wrong_rule(mode: str) -> None:
    bad = el("bad x", np.cos, lambda y, x: np.sin(x), name="bad")
    assert "sign" in told(bad, x1, modes=[mode])
    assert "sign" in told(bad, x1, modes=[mode], order=1)


# ----- Functions -----


def test_in_a_function_the_wrong_rule_is_found() -> None:
    bad = el("bad x", np.tanh, lambda y, x: 1 - x * x, name="bad")

    def model(p: dict[str, Any], x: Any) -> Any:
        return np.mean((bad(x @ p["w"] + p["b"]) - 0.3) ** 2)

    message = told(model, {"w": w2, "b": np.array([0.1, -0.2])}, x2)
    assert message.startswith("L̇_x is wrong for rule 'bad' in function 'model'.   your rule: ")
    assert "the input was used for the output" in message


def test_a_path_that_a_function_cuts_is_told_by_its_place_in_the_nest() -> None:
    def loss(p: dict[str, Any]) -> Any:
        return np.sum(p["w"] * 2) + np.sum(p["b"][0].detach() ** 2)

    message = told(loss, {"w": x1, "b": [x1, w1]})
    assert message.startswith("L̇_p['b'][0] is wrong for function 'loss'.   fluxgrad: 0.000   wiggle: ")
    assert "a path is missing: nothing arrives" in message
    assert "every rule on the way is right by itself: a path is cut (.data, .detach()" in message


def test_one_of_two_equal_paths_is_half() -> None:
    assert "half of it is missing" in told(lambda x: x * x.data, x1)


def test_a_function_that_is_random_or_counts_its_calls() -> None:
    calls = itertools.count()
    assert "gives another value for the same input" in told(lambda x: x * next(calls), x1)


def test_the_names_of_inputs() -> None:
    def f(first: Any, *rest: Any) -> Any:
        return first + rest[0] * rest[1].data

    assert told(f, x1, x1, w1).startswith("L̇_x2 is wrong for function 'f'.")
    several = fg.linear(
        "bad xs", lambda *xs, axis=0: np.concatenate(xs, axis), lambda i, g, *xs, axis=0: 0 * xs[i], variadic=True
    )
    assert told(several, x1, w1, x1).startswith("L̇_x0 is wrong for rule 'bad'.")
    assert told(el("bad x", np.multiply, *[lambda y, *inputs: y] * 2, name="bad"), x1, w1).startswith("L̇_x is wrong")


# ----- The engine itself -----


def test_equals_where_paths_meet_instead_of_plus_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_sum", lambda a, b: b)
    assert "half of it is missing" in told(lambda x: x * x, 3.0)
    message = told(lambda x: np.tanh(x) * x, x1)
    assert "a term (a path) is missing" in message
    assert "they are not added up (= for +=)" in message


def test_broadcasting_that_is_not_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_fit", lambda c, x, row: c)
    message = told(np.multiply, x2, x1)
    assert "L̇_w is wrong for rule 'multiply'.   float64 of shape (2, 3), for w: float64 of shape (3,)" in message
    assert "not summed over the axes" in message


def test_a_fluxion_of_another_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_fit", lambda c, x, row: c)
    promoting = el("bad x", lambda x: x * x, lambda y, x: np.float64(2) * x)
    assert "float64 of shape (3,), for x: float32 of shape (3,)\n  looks like: the dtype is lost" in told(promoting, x1)


def test_a_built_in_rule_that_is_broken_at_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fg.rules["multiply"], "kernel", None)  # first, so that it comes back last
    monkeypatch.setattr(fg.rules["multiply"], "fluxions", (lambda y, x, w: w, lambda y, x, w: 2 * x))
    assert told(np.multiply, 3.0, 2.0).startswith("L̇_w is wrong for rule 'multiply'.")
    assert "rule 'multiply' in function '<lambda>'" in told(lambda x: np.exp(x) * x, x1)


# ----- No false alarm -----

DOMAIN = {
    **dict.fromkeys(["arcsin", "arccos", "arctanh"], (-0.9, 0.9)),
    **dict.fromkeys(["log", "log2", "log10", "sqrt", "power", "float_power"], (0.1, 3.0)),
    "arccosh": (1.1, 4.0),
    "log1p": (-0.8, 3.0),
}
ELEMENTWISE = [name for name, row in fg.rules.items() if row.kind == "elementwise"]


def inside(name: str, n: int, rng: np.random.Generator) -> list[Any]:
    low, high = DOMAIN.get(name, (-2.0, 2.0))
    return [rng.uniform(low, high, shape) for shape in [(2, 3), (3,), (2, 1)][:n]]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_rule_is_right(name: str) -> None:
    row = fg.rules[name]
    args = inside(name, len(row.fluxions), np.random.default_rng(3))
    assert fg.check_grads(row, *args, order=2 if len(args) > 1 else 3) == []


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), corner=st.booleans())
def test_every_elementwise_rule_is_right_at_any_point(name: str, seed: int, corner: bool) -> None:
    """Also at ties and at round numbers, where most kinks are."""
    row = fg.rules[name]
    args = inside(name, len(row.fluxions), np.random.default_rng(seed))
    if corner and name not in DOMAIN and name not in ("reciprocal", "divide", "floor_divide", "remainder", "fmod"):
        args = [np.round(x) for x in args]
    fg.check_grads(row, *args)


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "softmax": (fg.softmax, (x2,)),
    "log_softmax": (fg.log_softmax, (x2,)),
    "logsumexp": (lambda x: fg.logsumexp(x, axis=1), (x2,)),
    "matmul": (np.matmul, (x2, w2)),
    "a stack of matrices by one": (np.matmul, (np.stack([x2, x2 + 1]), w2)),
    "norm": (np.linalg.norm, (x2,)),
    "solve": (np.linalg.solve, (square, np.array([1.0, 2.0]))),
    "det": (np.linalg.det, (square,)),
    "prod": (np.prod, (x2,)),
    "max": (lambda x: np.max(x, axis=0), (x2,)),
    "sort": (np.sort, (x2,)),
    "var": (lambda x: np.var(x, axis=1, ddof=1), (x2,)),
    "where": (lambda c, x, w: np.where(c, x, w), (x2 > 0, x2, x1)),
    "an index twice": (lambda x: x[np.array([0, 0, 2])], (x1,)),
    "einsum": (lambda x, w: np.einsum("ij,jk->ki", x, w), (x2, w2)),
    "concatenate": (lambda x, w: np.concatenate([x, w, x]), (x1, w1)),
    "a gradient": (fg.grad(lambda x: np.sum(np.tanh(x) ** 2)), (x1,)),
    "integers": (np.multiply, (3, np.array([1, 2]))),
    "float32": (np.tanh, (x1.astype(np.float32),)),
    "Tensors": (np.multiply, (fg.Tensor(x1, requires_grad=True), fg.Tensor(w1))),
    "a nest": (
        lambda p: {"y": p["w"] @ p["b"][0], "none": None, "z": (np.exp(p["b"][1]),)},
        ({"w": x2, "b": [x1, 0.3]},),
    ),
    "an output that stands still": (lambda x: (x * x, np.argmax(x), 3.0), (x1,)),
    "an input that is ignored": (lambda x, w: x + 0, (x1, w1)),
    "empty": (np.tanh, (np.zeros((0, 3)),)),
    "large and small": (lambda x: np.log(x), (np.array([1e-3, 1.0, 1e6]),)),
    "saturated": (lambda x: (np.tanh(x), fg.sigmoid(x), np.expm1(x)), (np.array([-17.1, 26.5, 42.0]),)),
    "an inflexion": (np.sin, (np.array([0.0, np.pi]),)),
    "an offset": (lambda x: np.sin(x) + 1e6, (x1,)),
    "stationary": (lambda x: x * x + np.cos(x), (np.zeros(2),)),
    "mse_loss": (fg.losses.mse_loss, (x2, x2[::-1])),
    "huber_loss": (fg.losses.huber_loss, (x2, x2[::-1])),
    "cross_entropy": (lambda z: fg.losses.cross_entropy(z, np.array([0, 2])), (x2,)),
    "bce": (lambda z: fg.losses.binary_cross_entropy_with_logits(z, np.array([0.0, 1.0, 1.0])), (x1,)),
    "focal": (lambda z: fg.losses.sigmoid_focal_loss(z, np.array([0.0, 1.0, 1.0])), (x1,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    f, args = RIGHT[name]
    assert fg.check_grads(f, *args) == []


def test_a_network_passes() -> None:
    def mlp(params: list[dict[str, Any]], x: Any) -> Any:
        for layer in params:
            x = np.tanh(x @ layer["w"] + layer["b"])
        return np.mean(x * x)

    rng = np.random.default_rng(0)
    sizes = itertools.pairwise([3, 5, 4, 1])
    params = [{"w": rng.normal(size=(n, m)), "b": rng.normal(size=m)} for n, m in sizes]
    assert fg.check_grads(mlp, params, rng.normal(size=(6, 3))) == []
    model = fg.nn.MLP(3, [4, 1])
    with pytest.raises(TypeError, match="float32"):
        fg.check_grads(model, x2)


KINKS = {
    "relu": (fg.relu, np.array([0.0, 1.0, -1.0])),
    "absolute": (np.abs, np.array([0.0, 1.0, -1.0])),
    "sign": (np.sign, np.array([0.0, 1.0, -1.0])),
    "floor": (np.floor, np.array([0.5, 1.0, -0.5])),
    "max of ties": (np.max, np.array([1.0, 1.0, 0.0])),
    "norm at 0": (np.linalg.norm, np.zeros(2)),
    "on a clip's bound": (lambda x: np.clip(x, -1, 1), np.array([0.0, 1.0])),
    "nearer than a moment": (np.abs, np.array([3e-6, 7e-6, 9e-6, 2e-5, 9e-5, -3e-6, 0.5])),
    "huber's delta": (lambda x: fg.losses.huber_loss(x, np.zeros(2)), np.array([1.0, 0.2])),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_left_out_and_told(name: str) -> None:
    f, x = KINKS[name]
    left_out = fg.check_grads(f, x)
    assert all("a kink at " in place for place in left_out)
    assert left_out


def test_kinks_that_hide_each_other() -> None:
    """relu(x) − relu(−x) is x, smooth; what its rules chose at 0 adds up to 0. Nothing is wrong near by."""
    left_out = fg.check_grads(lambda x: fg.relu(x) - fg.relu(-x), np.array([0.0, 1.0]))
    assert any("rule 'relu' in function '<lambda>': a kink at x[0] = 0.000" in place for place in left_out)
    cut = told(lambda x: fg.relu(x) - fg.relu(-x) + x.data, np.array([0.0, 1.0]))
    assert "a path is cut" in cut


def test_a_wrong_rule_is_caught_beside_a_kink() -> None:
    bad = el("bad x", lambda x: np.maximum(x, 0), lambda y, x: 2 * (x > 0))
    assert fg.check_grads(bad, np.zeros(2))
    assert "at x[1] = 1.000" in told(bad, np.array([0.0, 1.0]))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.float64, (2, 3), elements=st.floats(-3, 3)), arrays(np.float64, (3,), elements=st.floats(-3, 3)))
def test_no_false_alarm_and_none_missed(x: Any, b: Any) -> None:
    """Any numbers, kinks and ties among them: the right function passes; with one sign turned it does not."""
    fg.check_grads(lambda x, b: fg.relu(x * b) + np.maximum(x, b) * np.abs(b), x, b)
    fg.check_grads(fg.softmax, x)
    bad = el("bad x", np.sin, lambda y, x: -np.cos(x), name="bad")
    assert "sign" in told(bad, x)


# ----- What it cannot test -----


def test_points_where_nothing_can_be_measured() -> None:
    with pytest.raises(FloatingPointError, match=r"rule 'sqrt' at x\[1\] = 0.000: not finite within 1e-04 of it"):
        fg.check_grads(np.sqrt, np.array([1.0, 0.0]))
    with pytest.raises(FloatingPointError, match="rule 'log' is not finite at this point"):
        fg.check_grads(np.log, 0.0)
    bad = el("bad x", lambda x: x * x, lambda y, x: np.full_like(x, np.nan))
    assert "your rule: nan" in told(bad, x1)


def test_what_is_not_a_test_is_refused() -> None:
    with pytest.raises(TypeError, match="f is a function or a rule"):
        fg.check_grads("tanh", 0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nothing to wiggle"):
        fg.check_grads(lambda x: x, np.array([True]))
    with pytest.raises(ValueError, match="modes of 'fwd' and 'rev'"):
        fg.check_grads(np.tanh, 0.5, modes=["both"])
    with pytest.raises(ValueError, match="order of 1 to 4"):
        fg.check_grads(np.tanh, 0.5, order=0)


def test_the_arguments_are_not_changed_and_no_grad_is_touched() -> None:
    x, t = x1.copy(), fg.Tensor(w1, requires_grad=True)
    fg.check_grads(np.multiply, x, t)
    assert (x == x1).all()
    assert x.flags.writeable
    assert t.grad is None


def test_deep_functions_do_not_recurse() -> None:
    def deep(x: Any) -> Any:
        for _ in range(2000):
            x = x * 1.0001
        return x

    assert fg.check_grads(deep, 0.5, order=1) == []
    assert check._DOTS[1] == "L̇"


# ----- No false alarm -----


@pytest.mark.parametrize("name", sorted(fg.rules))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_no_built_in_row_is_accused(name: str, seed: int):
    """Ten random points near each row's own example, 1,000 and more in all: of kinks it may speak, of wrong rules never."""
    row, rng = fg.rules[name], np.random.default_rng(seed)
    operands, options = row.example()
    options = {k: np.dtype(float) if k == "dtype" else v for k, v in options.items()}  # a wiggle needs its digits
    fixed = [isinstance(x, np.ndarray) for x in (row.sample[0] if row.sample else [None] * len(operands))]
    # Upwards only, by up to a fifth: arccosh's example begins near 1, where its domain ends.
    near = [
        x if still else x * (1 + 0.2 * rng.uniform(0, 1, x.shape)) for x, still in zip(operands, fixed, strict=True)
    ]
    moving = [k for k, still in enumerate(fixed) if not still]

    def f(*xs: Any) -> Any:
        given_now = dict(zip(moving, xs, strict=True))
        return row(*(given_now.get(k, x) for k, x in enumerate(near)), **options)

    fg.check_grads(f, *(near[k] for k in moving), order=1)


# ----- One rule alone -----


@pytest.mark.parametrize("name", [row.name for row in fg.rules.values() if row._builtin])
def test_each_rule_alone(name: str) -> None:
    left_out = fg.check_rule(name)
    assert all("at a kink" in line for line in left_out)


def test_a_rule_by_its_name_or_itself() -> None:
    bad = el("bad x", lambda x: x * x, lambda y, x: x)
    for rule in (bad, "bad"):
        with pytest.raises(AssertionError, match="wrong for rule 'bad'"):
            fg.check_rule(rule)
    with pytest.raises(KeyError, match="no rule is called 'good'"):
        fg.check_rule("good")


# ----- A rule of which a part is forgotten -----


def test_an_input_without_a_fluxion_is_refused() -> None:
    with pytest.raises(TypeError, match=r"value takes \(x, w\), but 1 fluxion is given; give one for each input"):
        el("mulq x·w", lambda x, w: x * w, lambda y, x, w: w)
    mull = li("mull x·w", lambda x, w: x * w, lambda g, x, w: g * w, jointly=False)
    with pytest.raises(TypeError, match="w is an option of this rule, which has no fluxion for it"):
        fg.grad(mull, (0, 1))(2.0, 3.0)
    with pytest.raises(AssertionError, match="no fluxion for w, so 0 would flow to it"):
        fg.check_grads(mull, 2.0, 3.0)


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match=r"rule 'bad': fluxion 1 must take \(y, x\): too many positional arguments"):
        el("bad x", lambda x: x * x, lambda x: 2 * x)
    with pytest.raises(TypeError, match=r"value takes \(x\), but 2 fluxions are given"):
        el("bad x", lambda x: x * x, lambda y, x: 2 * x, lambda y, x: x)
    for form in ("", np.sin):
        with pytest.raises(TypeError, match="begins with its form"):
            el(form, np.sin, lambda y, x: np.cos(x))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the name 'tanh' belongs to a built-in rule .*by name="):
        el("tanh2 x", np.tanh, lambda y, x: 1 - y * y)


def test_relu_is_not_linear() -> None:
    bent = li("bent x", lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0))
    for x in ([1.0, -2.0], [-1.0, 2.0], [3.0], [-3.0]):
        with pytest.raises(AssertionError, match=r"bent'[\s\S]*not linear|rule 'bent'"):
            fg.check_grads(bent, np.array(x))


@pytest.mark.parametrize(
    ("value", "fluxion"),
    [
        (np.abs, lambda y, x: 1),
        (lambda x: np.where(x > 0, x, 0.1 * x), lambda y, x: 1),
        (lambda x: abs(x) * x, lambda y, x: 2 * x),
    ],
)
def test_a_rule_alone_is_tested_below_zero_too(value: Any, fluxion: Any) -> None:
    with pytest.raises(AssertionError, match="wrong for rule 'half'"):
        fg.check_rule(el("half x", lambda x: value(x), fluxion))


def test_parts_that_fit_though_they_are_written_otherwise() -> None:
    class Cube:
        def __call__(self, x: Any) -> Any:
            return x**3

    for rule, inputs in (
        (el("times x·w", lambda *xs: xs[0] * xs[1], lambda y, *xs: xs[1], lambda y, x, w: x), (2.0, 3.0)),
        (el("cubed x", Cube(), lambda y, x: 3 * x**2), (2.0,)),
        (el("raised x", lambda x, *, k=2: x**k, lambda y, x, k=2: k * x ** (k - 1)), (2.0,)),
        (el("exponential x", lambda x, **options: np.exp(x), lambda y, x, **options: y), (2.0,)),
        (fu("picked x", lambda x, axis: np.sum(x * x, axis), lambda g, y, x, axis: 2 * g * x), (np.ones(2), 0)),
        (li("total x", lambda x: np.sum(x), lambda g, x: np.broadcast_to(g, x.shape)), (np.array([2.0, 3.0]),)),
    ):
        assert fg.check_grads(rule, *inputs) == []
