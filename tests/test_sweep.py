"""The two sweeps and the transforms: order, depth, memory, and every way to nest them."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import math
import sys
import tracemalloc
from collections import namedtuple
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import without_collector

import fluxgrad as fg


def leaf(data, **how):
    return fg.Tensor(data, requires_grad=True, **how)


@contextmanager
def refused(kind, *words):
    with pytest.raises(kind) as info:
        yield info
    assert all(w in str(info.value) for w in words), f"{words} are not all in: {info.value}"


# ----- Order -----


def test_a_value_used_at_two_depths_is_complete_before_it_flows_on():
    a = leaf(1.0)
    b = a * 1
    c = b + 1
    d = b * 2
    e = c + d
    e.backward()
    assert a.grad == 3


def test_a_value_made_early_and_used_late():
    a = leaf(2.0)
    early = a * a
    late = early
    for _ in range(10):
        late = late * 1.5 + early
    late.backward()
    factor = 1.5**10 + sum(1.5**k for k in range(10))
    assert a.grad == pytest.approx(factor * 4, rel=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from("+*-")), min_size=1, max_size=25))
def test_any_graph_of_two_operand_nodes(recipe):
    """Against forward differentiation by hand: a pair (value, velocity) for each node."""
    x = [leaf(0.7), leaf(-1.1), leaf(0.4)]
    duals = [(t.item(), np.eye(3)[k]) for k, t in enumerate(x)]
    nodes = list(x)
    for i, j, op in recipe:
        i, j = i % len(nodes), j % len(nodes)
        (a, da), (b, db) = duals[i], duals[j]
        if op == "+":
            nodes.append(nodes[i] + nodes[j])
            duals.append((a + b, da + db))
        elif op == "-":
            nodes.append(nodes[i] - nodes[j])
            duals.append((a - b, da - db))
        else:
            nodes.append(np.tanh(nodes[i]) * nodes[j])
            duals.append((math.tanh(a) * b, (1 - math.tanh(a) ** 2) * b * da + math.tanh(a) * db))
    nodes[-1].backward()
    got = np.array([0.0 if t.grad is None else t.grad for t in x])
    np.testing.assert_allclose(got, duals[-1][1], rtol=1e-9, atol=1e-9)


def test_the_same_operand_twice_is_two_edges():
    x = leaf(3.0)
    L = x * x
    record = fg.flows(L)
    assert [float(c) for c in record.steps[0].contributions] == [3, 3]
    assert record[x] == 6 and record[L] == 1
    y = np.stack([x, x, x]).sum() + np.where([True, False], x, x).sum()
    y.backward()
    assert x.grad == 5


def test_a_fluxion_that_cancels_is_zero_and_not_none():
    x = leaf(3.0)
    (x - x).backward()
    assert x.grad == 0


# ----- Depth -----


def test_a_chain_of_a_million_operations():
    """Forward, backward, and dropped: no recursion anywhere, and the fluxion right."""
    x = leaf(1.0)
    with without_collector():
        y = x
        for _ in range(500_000):
            y = y * 1.000001 + x
        y.backward()
        del y  # recursion here would crash the interpreter
    q = 1.000001
    assert x.grad == pytest.approx(q**500_000 + (q**500_000 - 1) / (q - 1), rel=1e-9)


def test_deep_chains_of_every_sort_of_node():
    """Three operands in a tuple, a kernel's closure, options, jvp, second fluxions: as deep."""
    n = 4_000
    with without_collector():
        x = leaf(np.array([0.5, 0.25]))
        y = x
        for _ in range(15 * n):
            y = np.clip(y, -1.0, 1.0)
        for _ in range(n):
            y = np.sort(y)[::-1]
            y = fg.softmax(y) * 0 + y
        y.sum().backward()
        assert x.grad.tolist() == [1, 1]
        del y

        def deep(v):
            for _ in range(n):
                v = np.sin(v) * 0.0 + v * 1.0
            return v

        value, velocity = fg.jvp(deep, (0.5,), (2.0,))
        assert (value, velocity) == (0.5, 2)
        assert fg.grad(lambda v: deep(v * v))(0.5) == 1
        assert fg.grad(fg.grad(lambda v: deep(v) ** 2))(0.5) == 2
        record = fg.flows(deep(leaf(0.5)))
        assert len(record.steps) == 4 * n
        del record


# ----- Memory -----


def blocks_of(once, times=2000):
    """How many blocks of memory `times` more runs leave behind, with the collector off; and what it then finds."""
    for _ in range(50):
        once()
    with without_collector():
        before = sys.getallocatedblocks()
        for _ in range(times):
            once()
        unreachable = gc.collect()  # which empties Python's own stocks of free tuples, too
        return sys.getallocatedblocks() - before, unreachable


W = leaf(np.array([0.5, -1.0, 2.0]))
B = np.array([1.0, 2.0, 3.0])
ONCE = {
    "backward": lambda: (np.exp(W) * B).sum().backward(),
    "flows": lambda: fg.flows((np.exp(W) * B).sum()),
    "fresh leaf": lambda: np.sum(leaf(B) ** 2).backward(),
    "grad": lambda: fg.grad(lambda x: np.sum(x**3))(B),
    "grad with a closure": lambda: fg.grad(lambda x: np.sum(x**3 * W))(B),
    "value_and_grad": lambda: fg.value_and_grad(lambda p: np.sum(p["a"] * p["b"]))({"a": B, "b": B}),
    "jvp": lambda: fg.jvp(lambda x: np.sum(fg.softmax(x) * x), (B,), (B,)),
    "vjp": lambda: fg.vjp(lambda x: x * x, B)[1](B),
    "no_grad": lambda: _quiet(),
    "errors": lambda: _wrong(),
}
ONCE_SLOW = {
    "hessian": lambda: fg.hessian(lambda x: np.sum(x**3))(B),
    "jacobian of jacobian": lambda: fg.jacobian(fg.jacobian(lambda x: np.sum(x**3)))(B),
    "penalty": lambda: np.sum(fg.grad(lambda x: np.sum(np.tanh(x * W)))(B) ** 2).backward(),
    "grad of jvp": lambda: fg.grad(lambda x: fg.jvp(lambda u: np.sum(np.exp(u)), (x,), (B,))[1])(B),
}


def _quiet():
    with fg.no_grad():
        return np.sum(np.exp(W) * B)


def _wrong():
    for act in (
        lambda: W + np.ones(7),
        lambda: (W * 1).backward(),
        lambda: np.asarray(W),
        lambda: fg.grad(lambda x: x)(3),
    ):
        with pytest.raises((TypeError, ValueError)):
            act()
    with pytest.raises(ZeroDivisionError):
        fg.grad(lambda x: x / (1 // 0))(1.0)


@pytest.mark.parametrize("once", ONCE.values(), ids=ONCE)
def test_memory_stays_flat_without_the_collector(once):
    times = 300 if once is ONCE["errors"] else 2000
    left, unreachable = blocks_of(once, times)
    if once is ONCE["errors"]:  # pytest.raises keeps tracebacks in a cycle of its own
        return
    W.grad = None
    assert left < times / 5, f"{left} blocks left behind by {times} runs"
    assert unreachable == 0, f"{unreachable} objects in cycles after {times} runs"


@pytest.mark.parametrize("once", ONCE_SLOW.values(), ids=ONCE_SLOW)
def test_memory_stays_flat_through_nested_transforms(once):
    left, unreachable = blocks_of(once, 300)
    W.grad = None
    assert left < 200 and unreachable == 0


def test_errors_leave_no_graph_behind():
    def once():
        with contextlib.suppress(ValueError):
            (np.exp(W) * B).backward()
        with contextlib.suppress(ValueError):
            fg.grad(lambda x: np.sum(x) + np.ones(3) @ np.ones(4))(B)

    left, unreachable = blocks_of(once, 500)
    assert left < 200 and unreachable == 0


def test_two_thousand_training_steps_are_flat_in_bytes():
    """Arrays too, which the count of blocks does not see."""
    model = fg.nn.MLP(64, [64, 64, 10], seed=0)
    optimiser = fg.optim.Adam(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(32, 64)).astype(np.float32), rng.integers(0, 10, 32)

    def once():
        optimiser.zero_grad()
        fg.losses.cross_entropy(model(x), labels).backward()
        optimiser.step()

    left, unreachable = blocks_of(once)
    assert left < 400 and unreachable == 0
    with without_collector():
        tracemalloc.start()
        try:
            for _ in range(20):
                once()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(200):
                once()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 20_000
    assert peak - before < 8 * sum(p.data.nbytes for p in model.parameters())


def test_a_chain_of_100_000_nodes_costs_at_most_350_bytes_a_node():
    x = leaf(1.0)
    with without_collector():
        tracemalloc.start()
        try:
            y = x * 1.5
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10_000):
                y = y * 0.5 + 0.5 - x
            per_node = (tracemalloc.get_traced_memory()[0] - before) / 30_000
        finally:
            tracemalloc.stop()
    assert per_node <= 350


# ----- backward -----


def test_backward_adds_again_and_zeroing_is_the_callers():
    x = leaf([1.0, 2.0])
    L = (x * x).sum()
    L.backward()
    L.backward()
    assert x.grad.tolist() == [4, 8]
    x.grad = None
    L.backward()
    assert x.grad.tolist() == [2, 4]


def test_backward_errors_say_what_to_do():
    x = leaf([1.0, 2.0], name="x")
    with refused(ValueError, "(2,)", "sum()", "gradient="):
        (x * 2).backward()
    with refused(ValueError, "requires_grad=True"):
        fg.Tensor(1.0).backward()
    with refused(ValueError, "requires_grad=True", ".detach()"):
        (x.detach() * 2).sum().backward()
    with refused(ValueError, "(3,)", "(2,)"):
        (x * 2).backward(np.ones(3))
    with fg.no_grad():
        y = (x * x).sum()
    with refused(ValueError, "no_grad"):
        y.backward()
    assert x.grad is None


def test_backward_from_a_vector_and_from_a_leaf():
    x = leaf(np.array([1.0, 2.0], np.float32))
    (x * x).backward([1, 10])
    assert x.grad.tolist() == [2, 40] and x.grad.dtype == np.float32
    s = leaf(3.0)
    s.backward()
    assert s.grad == 1
    one = leaf([[2.0]])
    (one * 3).backward()
    assert one.grad.tolist() == [[3]]
    empty = leaf(np.zeros((0, 2)))
    (empty * 2).backward(np.zeros((0, 2)))
    assert empty.grad.shape == (0, 2)


def test_backward_inside_no_grad_sweeps_what_was_recorded():
    x = leaf(3.0)
    L = x * x * x
    with fg.no_grad():
        L.backward()
    assert x.grad == 27


def test_interior_fluxions_are_not_kept_but_flows_has_them():
    x = leaf(2.0)
    h = x * x
    L = h * h
    L.backward()
    assert h.grad is None
    record = fg.flows(L)
    assert record[h] == 8 and record[x] == 32 and x.grad == 32
    assert [s.row.name for s in record.steps] == ["multiply", "multiply"]
    assert record.tensors == [x, h, L] and x in record and leaf(1.0) not in record
    with refused(KeyError, "no fluxion"):
        record[leaf(1.0)]
    with refused(ValueError, "requires_grad"):
        fg.flows(fg.Tensor(1.0))


def test_flows_leaves_the_callers_gradient_alone():
    x, g = leaf([1.0, 2.0]), np.ones(2)
    record = fg.flows(x * 2, g)
    g[0] = 5
    assert record[x].tolist() == [2, 2] and x.grad is None


def test_the_steps_of_flows_add_up_to_the_sweep():
    w, x = leaf([[0.5, -1.0], [2.0, 0.25]]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    h = fg.relu(x @ w + w[0])
    L = fg.losses.mse_loss(np.where(h > 1, h, h * h) + w.mean(), np.zeros((3, 2)))
    record, total = fg.flows(L), {}
    for step in record.steps:
        for p, c, x_, local in zip(step.parents, step.contributions, step.inputs, step.locals, strict=True):
            if p is not None:
                assert c.shape == p.shape == x_.shape
                total[p] = total.get(p, 0) + c
                if local is not None and local.shape == step.fluxion.shape == c.shape:
                    np.testing.assert_allclose(step.fluxion * local, c, rtol=1e-15)
    L.backward()
    np.testing.assert_array_equal(total[w], w.grad)
    for t in record.tensors:
        if t is not L:
            np.testing.assert_array_equal(total[t], record[t])


# ----- no_grad -----


def test_no_grad_is_a_context_and_a_decorator():
    x = leaf(3.0)
    context = fg.no_grad()
    with context:
        assert not (x * x).requires_grad
        with context:
            assert not np.exp(x).requires_grad
        assert not (x * x).requires_grad
    assert (x * x).requires_grad

    @fg.no_grad()
    def f(v, *, times=1):
        "the doc"
        return v * times

    assert f.__name__ == "f" and f.__doc__ == "the doc"
    assert not f(x, times=2).requires_grad and (x * 2).requires_grad

    @fg.no_grad()
    def recursive(k):
        return x * k if k == 0 else recursive(k - 1) + x * k

    assert not recursive(3).requires_grad and (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), fg.no_grad():
        1 // 0  # noqa: B018
    assert (x * x).requires_grad


def test_no_grad_within_a_transform_is_a_constant():
    def f(x):
        with fg.no_grad():
            frozen = np.exp(x)
        return x * frozen

    assert fg.grad(f)(1.0) == math.e
    assert fg.jvp(f, (1.0,), (1.0,))[1] == math.e
    assert fg.grad(fg.grad(f))(1.0) == 0


def test_transforms_work_under_no_grad():
    with fg.no_grad():
        assert fg.grad(lambda x: x**3)(2.0) == 12
        assert fg.grad(fg.grad(lambda x: x**3))(2.0) == 12
        assert fg.jvp(lambda x: x**3, (2.0,), (1.0,))[1] == 12
        assert fg.hessian(lambda x: np.sum(x**3))(np.array([2.0])) == 12
        assert fg.vjp(lambda x: x**3, 2.0)[1](1.0) == (12,)
        assert not (leaf(1.0) * 2).requires_grad
        w = leaf(3.0)
        g = fg.grad(lambda x: x * x * w)(2.0)
        assert not isinstance(g, fg.Tensor) and g == 12


# ----- grad and its kin: shapes in and out -----


def test_arrays_in_arrays_out():
    for x in (2.0, np.float64(2.0), np.array(2.0), np.float32(2), fg.Tensor(2.0)):
        g = fg.grad(lambda v: v * v * v)(x)
        assert type(g) is np.ndarray and g.shape == () and g == 12
    value, g = fg.value_and_grad(lambda v: np.sum(v * v))(np.array([1.0, 2.0], np.float32))
    assert type(value) is np.ndarray and value == 5 and value.dtype == g.dtype == np.float32
    assert fg.jacobian(lambda v: v * v)(np.array([1, 2], np.float32)).dtype == np.float32
    assert fg.hessian(lambda v: np.sum(v**3))(np.array([1, 2], np.float32)).dtype == np.float32
    y, v = fg.jvp(lambda v: v * v, (np.array([1, 2], np.float32),), (np.array([1, 1]),))
    assert y.dtype == v.dtype == np.float32 and type(v) is np.ndarray
    y, pull = fg.vjp(lambda v: v * v, np.array([1, 2], np.float32))
    assert pull(np.ones(2))[0].dtype == np.float32


def test_mixed_dtypes_keep_each_its_own():
    a, b = np.array([1, 2], np.float32), np.array([3.0, 4.0])
    ga, gb = fg.grad(lambda a, b: np.sum(a * b), argnums=(0, 1))(a, b)
    assert (ga.dtype, gb.dtype) == (np.float32, np.float64)
    _, v = fg.jvp(lambda a, b: a * b, (a, b), (a, b))
    assert v.dtype == np.float64


def test_argnums():
    def f(a, b, c):
        return a * b**2 * c**3

    assert fg.grad(f)(2.0, 3.0, 1.0) == 9
    assert fg.grad(f, 1)(2.0, 3.0, 1.0) == 12
    assert fg.grad(f, -1)(2.0, 3.0, 1.0) == 54
    assert fg.grad(f, argnums=(2, 0))(2.0, 3.0, 1.0) == (54, 9)
    assert fg.grad(f, argnums=(0,))(2.0, 3.0, 1.0) == (9,)
    assert fg.grad(f, argnums=[-1])(2.0, 3.0, 1.0) == (54,)
    assert fg.value_and_grad(f, (-2, -1))(2.0, 3.0, 1.0) == (18, (12, 54))
    assert fg.grad(f, np.int64(1))(2.0, 3.0, 1.0) == 12
    assert fg.grad(lambda k, x: x**k, 1)(3, 2.0) == 12  # the integer is no variable
    for wrong in (3, -4, (0, 3)):
        with refused(ValueError, "argnums", "3"):
            fg.grad(f, wrong)(2.0, 3.0, 1.0)


def test_an_argument_named_twice_is_refused_or_right():
    for numbers in ((0, 0), (0, -2)):
        try:
            got = fg.grad(lambda x, w: x * w, argnums=numbers)(2.0, 3.0)
        except ValueError as error:
            assert "argnums" in str(error)
        else:
            assert got == (3, 3)


def test_kwargs_and_other_arguments_pass_through():
    def f(x, *, scale, how="sum"):
        return getattr(np, how)(x) * scale

    assert fg.grad(f)(np.ones(2), scale=3.0).tolist() == [3, 3]
    assert fg.grad(f)(np.ones(2), scale=3.0, how="mean").tolist() == [1.5, 1.5]
    w = leaf(2.0)
    g = fg.grad(f)(np.ones(2), scale=w)
    g.sum().backward()
    assert w.grad == 2
    named = functools.partial(f, scale=2.0)
    assert fg.grad(named)(np.ones(1)).tolist() == [2]
    assert fg.grad(f).__name__ == "f"
    assert fg.jacobian(f)(np.ones(1), scale=2.0).tolist() == [2]
    assert fg.hessian(lambda x, k: k * x**2)(3.0, 5) == 10


def test_callables_of_every_sort():
    model = fg.nn.Linear(2, 1, seed=0, dtype=float)
    assert fg.jacobian(model)(np.ones(2)).shape == (1, 2)
    assert fg.grad(np.tanh)(0.0) == 1
    assert fg.grad(fg.rules["tanh"])(0.0) == 1
    assert fg.grad(abs)(-2.0) == -1


Point = namedtuple("Point", "x y")


def test_nests_of_every_build():
    def f(p):
        a, [b, c], d = p["t"]
        return np.sum(a * b) * c + d.x * d.y**2 + p["deep"]["er"][0]

    p = {
        "t": (np.array([1.0, 2.0]), [np.array([3.0, 4.0]), 2.0], Point(5.0, 6.0)),
        "deep": {"er": [np.float32(1)]},
        "none": None,
    }
    g = fg.grad(f)(p)
    assert list(g) == ["t", "deep", "none"] and g["none"] is None
    a, (b, c), d = g["t"]
    assert a.tolist() == [6, 8] and b.tolist() == [2, 4] and c == 11
    assert type(g["t"][1]) is list and type(d) is Point and d == (36, 60)
    assert g["deep"]["er"][0] == 1 and g["deep"]["er"][0].dtype == np.float32
    y, pull = fg.vjp(lambda q: {"s": q[0] + q[1], "both": (q[0] * 2, [q[1]])}, (1.0, 2.0))
    assert y == {"s": 3, "both": (2, [2])}
    assert pull({"s": 1.0, "both": (10.0, [100.0])}) == ((21, 101),)
    y, v = fg.jvp(lambda q: Point(q["a"] * q["b"], q["a"]), ({"a": 2.0, "b": 3.0},), ({"a": 1.0, "b": 10.0},))
    assert type(v) is Point and v == (23, 1)
    j = fg.jacobian(lambda q: (q["a"] * 2, [q["b"] * q["a"]]))({"a": np.array([1.0, 2.0]), "b": 3.0})
    assert j[0]["a"].tolist() == [[2, 0], [0, 2]] and j[0]["b"].tolist() == [0, 0]
    assert j[1][0]["a"].tolist() == [[3, 0], [0, 3]] and j[1][0]["b"].tolist() == [1, 2]
    h = fg.hessian(lambda q: q[0] ** 2 * q[1])((2.0, 3.0))
    assert np.array(h).tolist() == [[6, 4], [4, 0]]
    h = fg.hessian(lambda x, w: x**2 * w, argnums=(0, 1))(2.0, 3.0)
    assert np.array(h).tolist() == [[6, 4], [4, 0]]


def test_dicts_are_matched_by_key_not_by_order():
    def f(p):
        return {"a": p["x"] * 2, "b": p["w"] * 3}

    _, pull = fg.vjp(f, {"x": 1.0, "w": 1.0})
    assert pull({"b": 10.0, "a": 1.0}) == ({"x": 2, "w": 30},)
    _, v = fg.jvp(f, ({"x": 1.0, "w": 1.0},), ({"w": 10.0, "x": 1.0},))
    assert v == {"a": 2, "b": 30}


@pytest.mark.parametrize(
    ("primals", "tangents"),
    [
        (((1.0, (2.0, 3.0)),), (((1.0, 2.0), 3.0),)), (({"a": 1.0, "b": 2.0},), ({"a": 1.0, "c": 2.0},)),
        ((1.0, 2.0), (1.0,)), ((1.0,), (1.0, 2.0)), (((1.0, 2.0),), ((1.0,),)), ((np.ones(2),), (np.ones(3),)),
        ((np.ones(2),), (np.ones((2, 1)),)), ((np.ones(2),), (1.0,)), (1.0, 1.0), ((1.0,), (None,)),
        (({"a": 1.0, "b": 2.0},), ((1.0, 2.0),)),
    ],
)  # fmt: skip
def test_tangents_of_another_build_are_refused(primals, tangents):
    with refused(ValueError, "jvp"):
        fg.jvp(lambda *p: 0.0, primals, tangents)


@pytest.mark.parametrize(
    "fluxion", [1.0, (1.0,), (1.0, 2.0, 3.0), (1.0, [2.0]), {"a": 1.0, "b": 2.0}, (np.ones(2), 1.0), (1.0, None)]
)
def test_a_fluxion_of_another_build_is_refused_by_pull(fluxion):
    _, pull = fg.vjp(lambda x: (x, x * 2), 1.0)
    with refused(ValueError):
        pull(fluxion)


def test_what_f_ignores_gets_zeros():
    f = lambda a, b: np.sum(a * 2)
    a, b = np.ones(2), np.ones((2, 3), np.float32)
    g = fg.grad(f, 1)(a, b)
    assert g.shape == (2, 3) and g.dtype == np.float32 and not g.any()
    assert not fg.vjp(f, a, b)[1](1.0)[1].any()
    assert fg.jvp(f, (a, b), (a, b))[1] == 4
    assert fg.jacobian(f, 1)(a, b).shape == (2, 3)
    assert not fg.hessian(f)(a, b).any() and fg.hessian(f, 1)(a, b).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("constant", [3.0, 3, np.float64(3), np.array(3.0), fg.Tensor(3.0), leaf(3.0)], ids=repr)
def test_f_that_gives_a_constant(constant):
    f = lambda x: constant
    with fg.no_grad():
        value, g = fg.value_and_grad(f)(np.ones(2))
    assert value == 3 and g.tolist() == [0, 0] and type(g) is np.ndarray
    assert fg.grad(f)(np.ones(2)).tolist() == [0, 0]
    y, v = fg.jvp(f, (np.ones(2),), (np.ones(2),))
    assert y.item() == 3 and v == 0
    assert fg.vjp(f, np.ones(2))[1](1.0)[0].tolist() == [0, 0]
    assert fg.jacobian(f)(np.ones(2)).tolist() == [0, 0]
    assert fg.hessian(f)(np.ones(2)).tolist() == [[0, 0], [0, 0]]


def test_several_outputs_some_of_them_constant():
    f = lambda x: (x * 2, 5.0, np.ones(2), x, x)
    y, pull = fg.vjp(f, 3.0)
    assert y[:2] == (6, 5) and y[3] == 3
    assert pull((1.0, 9.0, np.ones(2), 10.0, 100.0)) == (112,)
    _, v = fg.jvp(f, (3.0,), (1.0,))
    assert v[0] == 2 and v[1] == 0 and v[2].tolist() == [0, 0] and v[3] == v[4] == 1
    j = fg.jacobian(f)(3.0)
    assert j[0] == 2 and j[1] == 0 and j[2].shape == (2,) and j[3] == j[4] == 1


def test_f_that_gives_its_own_argument():
    assert fg.grad(lambda x: x)(3.0) == 1
    assert fg.grad(fg.grad(lambda x: x))(3.0) == 0
    x = np.ones(2)
    y, pull = fg.vjp(lambda v: v, x)
    y[0] = 9
    g = np.ones(2)
    pull(g)[0][0] = 7
    assert x.tolist() == [1, 1] and g.tolist() == [1, 1]
    assert fg.jvp(lambda v: v, (3.0,), (2.0,)) == (3, 2)


def test_what_is_handed_out_is_the_callers():
    """Writing to a result changes neither an argument nor a later result."""
    x = np.array([1.0, 2.0])
    y, pull = fg.vjp(lambda v: np.reshape(v, (2, 1)) * 1, x)
    first = pull(np.ones((2, 1)))[0]
    y[...] = 100
    first[...] = 100
    assert pull(np.ones((2, 1)))[0].tolist() == [1, 1] and x.tolist() == [1, 2]
    _, pull = fg.vjp(lambda v: v * v, x)
    x[...] = 50
    assert pull(np.ones(2))[0].tolist() == [2, 4]
    t = np.array([1.0, 1.0])
    _, v = fg.jvp(lambda u: u, (x,), (t,))
    v[0] = 9
    assert t.tolist() == [1, 1]


def test_errors_of_the_transforms():
    with refused(TypeError, "int64", "3.0"):
        fg.grad(lambda x: x)(3)
    with refused(TypeError, "complex"):
        fg.grad(lambda x: x)(3j)
    with refused(TypeError, "(2,)", "jacobian"):
        fg.grad(lambda x: x * 2)(np.ones(2))
    with refused(TypeError, "(1,)"):
        fg.grad(lambda x: x)(np.ones(1))
    with refused(TypeError, "tuple"):
        fg.grad(lambda x: (x, x))(1.0)
    with refused(TypeError, "None"):
        fg.grad(lambda x: None)(1.0)
    with refused(ValueError, "(3,)", "(2,)"):
        fg.vjp(lambda x: x, np.ones(2))[1](np.ones(3))
    with refused(TypeError, "np.fft.fft"):
        fg.grad(lambda x: np.sum(np.abs(np.fft.fft(x))))(np.ones(4))
    with refused(TypeError, "math.exp"):
        fg.grad(math.exp)(1.0)


# ----- Nesting -----


def test_perturbation_confusion():
    assert fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    D = lambda f: lambda x: fg.jvp(f, (x,), (1.0,))[1]
    for inner, outer in itertools.product((D, fg.grad), repeat=2):
        assert outer(lambda x, inner=inner: x * inner(lambda y: x + y)(1.0))(1.0) == 1
        assert outer(lambda x, inner=inner: x * inner(lambda y: x * y)(2.0))(3.0) == 6
        assert outer(lambda x, inner=inner: inner(lambda y: x * y * y)(x))(3.0) == 12
        assert outer(lambda x, inner=inner: inner(lambda y: np.sin(x) * y**2)(x) * x)(1.0) == pytest.approx(
            2 * math.cos(1) + 4 * math.sin(1), rel=1e-14
        )  # fmt: skip


def test_the_function_that_escapes_from_its_transform():
    """Manzyuk's amazing bug: a derivative of a function that gives a function."""
    s = lambda u: lambda f: lambda x: f(x + u)
    for shift in (
        lambda f: lambda x: fg.jvp(lambda u: s(u)(f)(x), (0.0,), (1.0,))[1],
        lambda f: lambda x: fg.grad(lambda u: s(u)(f)(x))(0.0),
    ):
        got = shift(shift(lambda x: x**3))(2.0)
        assert got.item() == pytest.approx(12, rel=1e-14)
        assert type(got) is np.ndarray


def by_grad(f):
    return fg.grad(f)


def by_jvp(f):
    return lambda x: fg.jvp(f, (x,), (1.0,))[1]


def by_vjp(f):
    def g(x):
        y, pull = fg.vjp(f, x)
        return pull(np.ones(np.shape(y)))[0]

    return g


def by_jacobian(f):
    return fg.jacobian(f)


def by_value_and_grad(f):
    return lambda x: fg.value_and_grad(f)(x)[1]


WAYS = [by_grad, by_jvp, by_vjp, by_jacobian, by_value_and_grad]
SCALAR = {  # a function and its third fluxion at 0.7
    "x⁴": (lambda x: x**4, 24 * 0.7),
    "exp sin": (
        lambda x: np.exp(np.sin(x)),
        math.exp(math.sin(0.7)) * math.cos(0.7) * (math.cos(0.7) ** 2 - 3 * math.sin(0.7) - 1),
    ),
    "tanh": (lambda x: np.tanh(x), (lambda t: -2 * (1 - t * t) * (1 - 3 * t * t))(math.tanh(0.7))),
    "fused": (
        lambda x: fg.logsumexp(np.stack([x, 0 * x])),
        (lambda s: s * (1 - s) * (1 - 2 * s))(1 / (1 + math.exp(-0.7))),
    ),
}


@pytest.mark.parametrize(
    "ways", list(itertools.product(WAYS, repeat=3)), ids=lambda w: "∘".join(f.__name__[3:] for f in w)
)
def test_third_fluxions_by_any_three_transforms(ways):
    a, b, c = ways
    for f, want in SCALAR.values():
        got = a(b(c(f)))(0.7)
        assert type(got) is np.ndarray and got.shape == ()
        assert got == pytest.approx(want, rel=1e-12)


def vector(x):
    return np.sum(np.tanh(x) * x[::-1] ** 2) + np.prod(x) + fg.logsumexp(x * 2) * np.max(x)


X = np.array([0.3, -0.8, 1.2])
V = np.array([1.0, 2.0, -0.5])


def test_second_fluxions_of_a_vector_by_every_route():
    h = fg.hessian(vector)(X)
    np.testing.assert_allclose(h, h.T, rtol=1e-12, atol=1e-14)
    e, step = np.eye(3), 1e-5
    for k in range(3):
        slope = (fg.grad(vector)(X + step * e[k]) - fg.grad(vector)(X - step * e[k])) / (2 * step)
        np.testing.assert_allclose(h[k], slope, rtol=1e-7, atol=1e-8)
    routes = {
        "grad of jvp": fg.grad(lambda x: fg.jvp(vector, (x,), (V,))[1])(X),
        "jvp of grad": fg.jvp(fg.grad(vector), (X,), (V,))[1],
        "jvp of vjp": fg.jvp(lambda x: fg.vjp(vector, x)[1](1.0)[0], (X,), (V,))[1],
        "vjp of jvp": fg.vjp(lambda x: fg.jvp(vector, (x,), (V,))[1], X)[1](1.0)[0],
        "vjp of grad": fg.vjp(fg.grad(vector), X)[1](V)[0],
        "grad of grad·v": fg.grad(lambda x: np.sum(fg.grad(vector)(x) * V))(X),
        "jacobian of grad": fg.jacobian(fg.grad(vector))(X) @ V,
        "jacobian of jacobian": fg.jacobian(fg.jacobian(vector))(X) @ V,
        "jvp of jvp": np.array(
            [fg.jvp(lambda x, k=k: fg.jvp(vector, (x,), (e[k],))[1], (X,), (V,))[1] for k in range(3)]
        ),
        "grad of flows' like": fg.jacobian(lambda x: fg.vjp(vector, x)[1](np.float64(1))[0])(X) @ V,
    }
    for name, got in routes.items():
        np.testing.assert_allclose(got, h @ V, rtol=1e-12, atol=1e-13, err_msg=name)


def test_third_fluxions_of_a_vector():
    third = fg.jacobian(fg.hessian(vector))(X)
    assert third.shape == (3, 3, 3)
    np.testing.assert_allclose(third, np.transpose(third, (2, 1, 0)), rtol=1e-11, atol=1e-12)
    step = 1e-5
    slope = (fg.hessian(vector)(X + step * V) - fg.hessian(vector)(X - step * V)) / (2 * step)
    np.testing.assert_allclose(third @ V, slope, rtol=1e-6, atol=1e-7)
    along = fg.jvp(fg.hessian(vector), (X,), (V,))[1]
    np.testing.assert_allclose(along, third @ V, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(fg.hessian(fg.grad(lambda t: vector(X + t * V)))(0.0), np.einsum("ijk,i,j,k", third,
    V, V, V),
                               rtol=1e-10)  # fmt: skip


def test_the_pull_is_differentiable_in_its_fluxion():
    f = lambda x: np.tanh(x) * x
    _, pull = fg.vjp(f, X)
    double = fg.jacobian(lambda g: pull(g)[0])(V)
    assert type(double) is np.ndarray
    np.testing.assert_allclose(double, np.diag(fg.grad(lambda x: np.sum(f(x)))(X)), rtol=1e-14)
    np.testing.assert_allclose(fg.jvp(lambda g: pull(g)[0], (V,), (V,))[1], pull(V)[0], rtol=1e-14)
    assert type(pull(V)[0]) is np.ndarray
    with fg.no_grad():
        assert type(pull(fg.Tensor(V))[0]) is np.ndarray


def test_the_tangent_is_differentiable():
    got = fg.grad(lambda v: np.sum(fg.jvp(lambda x: np.tanh(x) * x, (X,), (v,))[1] ** 2))(V)
    assert type(got) is np.ndarray
    d = np.tanh(X) + X * (1 - np.tanh(X) ** 2)
    np.testing.assert_allclose(got, 2 * d * d * V, rtol=1e-13)


def test_transforms_of_a_function_that_uses_backward():
    """The old way inside the new: a sweep within f adds to .grad of its own leaves and disturbs nothing."""
    w = leaf(2.0)

    def f(x):
        inner = leaf(3.0)
        (inner * inner * w).backward()
        return x * x * float(inner.grad)

    assert fg.grad(f)(1.0) == 24 and w.grad == 9


# ----- Through a closure -----


def test_gradient_penalty_reaches_the_weights_in_the_closure():
    w, x = leaf([0.5, -1.0]), np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
    critic = lambda v: np.sum(np.tanh(v @ w))
    g = fg.grad(critic)(x)
    assert isinstance(g, fg.Tensor)
    penalty = np.sum((np.sqrt(np.sum(g * g, axis=1)) - 1) ** 2)
    penalty.backward()

    def by_hand(weights):
        s = 1 - np.tanh(x @ weights) ** 2
        return np.sum((np.sqrt(np.sum((s[:, None] * weights) ** 2, axis=1)) - 1) ** 2)

    np.testing.assert_allclose(penalty.item(), by_hand(w.data), rtol=1e-14)
    for k in range(2):
        e = np.eye(2)[k] * 1e-6
        assert w.grad[k] == pytest.approx((by_hand(w.data + e) - by_hand(w.data - e)) / 2e-6, rel=1e-7)


def test_gradient_penalty_through_a_model():
    model = fg.nn.MLP(2, [8, 1], activation=fg.nn.Tanh, seed=0, dtype=float)
    x = np.array([[1.0, 2.0], [3.0, -1.0]])

    def loss():
        value, g = fg.value_and_grad(lambda v: np.sum(model(v)))(x)
        return value + np.mean(np.square(g))

    loss().backward()
    for p in model.parameters():
        assert p.grad is not None or p is model.layers[2].bias
        kept, flat = p.data.copy(), p.data.reshape(-1).copy()
        for k in range(min(3, flat.size)):
            ends = []
            for h in (1e-6, -1e-6):
                moved = flat.copy()
                moved[k] += h
                p.data = moved.reshape(p.shape)
                ends.append(loss().item())
            p.data = kept
            assert p.grad.reshape(-1)[k] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-9)


def test_every_transform_gives_tensors_where_a_closure_is_recorded():
    w = leaf(2.0)
    f = lambda x: x * x * w
    for got, want in (
        (fg.grad(f)(3.0), 6), (fg.value_and_grad(f)(3.0)[0], 9), (fg.jvp(f, (3.0,), (1.0,))[1], 6),
        (fg.jvp(f, (3.0,), (1.0,))[0], 9),
        (fg.vjp(f, 3.0)[0], 9), (fg.vjp(f, 3.0)[1](1.0)[0], 6), (fg.jacobian(f)(3.0), 6), (fg.hessian(f)(3.0), 2),
        (fg.grad(lambda v: fg.jvp(f, (3.0,), (v,))[1])(1.0), 6),
    ):  # fmt: skip
        w.grad = None
        got.backward()
        assert w.grad == want
    assert type(fg.grad(lambda x: x * x * w.detach())(3.0)) is np.ndarray
    assert type(fg.grad(lambda x: x * x * w.data)(3.0)) is np.ndarray


def test_a_tensor_argument_is_differentiated_and_stays_in_its_graph():
    w = leaf(3.0, name="w")
    h = w * w
    g = fg.grad(lambda v: v**2)(h)
    g.backward()
    assert g.item() == 18 and w.grad == 12
    w.grad = None
    y, v = fg.jvp(lambda a: a * a, (h,), (w,))
    (y + v).backward()
    assert w.grad == 4 * 27 + 6 * 9
    assert h.requires_grad and h.name is None


def test_a_transform_does_not_touch_grad():
    w = leaf(3.0)
    fg.grad(lambda x: x * w)(1.0)
    fg.grad(lambda v: v * v)(w)
    fg.hessian(lambda v: v * v * w)(2.0)
    assert w.grad is None


def test_what_leaks_out_of_a_function_is_of_no_harm():
    kept = []

    def f(x):
        kept.append(x * x)
        return np.sum(kept[0]) + x * 3

    assert fg.grad(f)(2.0) == 7
    g = fg.grad(f)(5.0)  # kept[0] belongs to the first run: for this one a constant
    assert float(g.data if isinstance(g, fg.Tensor) else g) == 3


def test_an_exception_leaves_recording_as_it_was():
    with fg.no_grad():
        with pytest.raises(ZeroDivisionError):
            fg.grad(lambda x: x / (1 // 0))(1.0)
        assert not (leaf(1.0) * 2).requires_grad
    assert (leaf(1.0) * 2).requires_grad


# ----- Shapes at the edge -----


def test_zero_dimensional_and_empty():
    assert fg.jacobian(lambda x: x)(np.zeros(0)).shape == (0, 0)
    assert fg.jacobian(lambda x: x[:, None] * np.ones(2))(np.ones(3)).shape == (3, 2, 3)
    assert fg.jacobian(lambda x: x[:0])(np.ones(3)).shape == (0, 3)
    assert fg.grad(np.sum)(np.zeros((0, 2))).shape == (0, 2)
    assert fg.hessian(np.sum)(np.zeros(0)).shape == (0, 0)
    y, v = fg.jvp(lambda x: np.exp(x), (np.zeros((2, 0)),), (np.zeros((2, 0)),))
    assert y.shape == v.shape == (2, 0)
    assert fg.grad(lambda x: x[()] * 2)(np.array(1.0)).shape == ()
    assert fg.grad(lambda p: 3.0)(()) == ()


def test_forward_and_reverse_agree_on_a_jacobian():
    f = lambda x: np.concatenate(
        [np.sort(x) * x[0], np.cumsum(fg.softmax(x)), np.stack([np.var(x), np.linalg.norm(x)])]
    )
    j = fg.jacobian(f)(X)
    forward = np.stack([fg.jvp(f, (X,), (e,))[1] for e in np.eye(3)], axis=1)
    np.testing.assert_allclose(j, forward, rtol=1e-13, atol=1e-14)


# ----- Writes, wrong rules and swapped rules -----


@pytest.mark.parametrize(
    "read",
    [lambda x: x * x, lambda x: x @ x, lambda x: np.prod(np.stack([x, x]), axis=0), lambda x: np.tanh(x) * x],
    ids=["product", "matmul", "stack", "two rows"],
)
def test_a_write_to_the_argument_inside_a_transform_changes_no_fluxion(read):
    def f(x):
        y = read(x)
        with contextlib.suppress(ValueError, TypeError):
            x.data[...] = 100.0
        return np.sum(y)

    at = np.array([3.0])
    want = fg.grad(lambda x: np.sum(read(x)))(at)
    np.testing.assert_array_equal(fg.grad(f)(at), want)


def test_a_local_fluxion_of_another_shape_than_the_output_is_refused():
    """Were it summed as if the input had been stretched, the fluxion would be five times too large."""
    row = fg.elementwise("hostile_shape x", lambda x: x + 0.0, lambda y, x: np.ones((5, *x.shape)))
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match="hostile_shape"):
        np.sum(row(x)).backward()


def test_where_a_rule_sends_nothing_nothing_is_pushed_either():
    row = fg.fused("hostile_none x w", lambda x, w: np.sum(x) + np.sum(w), lambda g, y, x, w: g * np.ones_like(x),
                   lambda g, y, x, w: None)  # fmt: skip
    x, w = np.ones(2), np.ones(3)
    np.testing.assert_array_equal(fg.grad(row)(x, w), [1.0, 1.0])
    np.testing.assert_array_equal(fg.jvp(row, (x, w), (x, w))[1], 2.0)


@pytest.mark.parametrize("name", ["tanh", "relu", "sum"])
def test_a_rule_swapped_at_run_time_changes_pull_and_push_together(name):
    row, t = fg.rules[name], leaf([0.5, 1.0])
    old = row.fluxions
    swapped = {"elementwise": lambda y, x: 7.0 + 0 * x, "linear": lambda g, x, **how: 7.0 * g + 0 * x}
    try:
        row.fluxions = (swapped[row.kind],)
        y = row(t)
        y.backward(np.ones(y.shape))
        np.testing.assert_array_equal(t.grad, [7.0, 7.0])
    finally:
        row.fluxions = old


def test_a_write_to_what_flows_hands_out_changes_no_later_sweep():
    x = leaf([1.0, 2.0])
    L = np.sum(np.exp(x * 2.0) ** 2.0)
    L.backward()
    want, x.grad = x.grad, None
    for step in fg.flows(L).steps:
        for array in (*step.inputs, step.fluxion, *step.contributions):
            with contextlib.suppress(ValueError, TypeError):
                array[...] = 9.0
    L.backward()
    np.testing.assert_array_equal(x.grad, want)


def test_a_record_tells_its_steps():
    x = fg.Tensor(2.0, requires_grad=True)
    record = fg.flows(x * x)
    assert list(record) == record.steps and repr(record) == "<sweep back from L, 1 step: multiply>"
    long = x
    for _ in range(20):
        long = long + 1
    long.name = "root"
    assert repr(fg.flows(long)) == f"<sweep back from root, 20 steps: {'add, ' * 8}…>"
