"""The worked derivation: its numbers are those of a pencil, its text comes from the rules that ran."""

from __future__ import annotations

import io
import math
import re
import sys
import unicodedata

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.ink.explain import explain, names_of
from fluxgrad.ink.operand import Ink
from fluxgrad.ink.reading import Reading
from fluxgrad.tensor import apply

LD = "L\u0307"


def leaf(value, name=None):
    return fg.Tensor(value, requires_grad=True, name=name)


@pytest.fixture
def neuron():
    w, b = leaf(0.5, "w"), leaf(-0.25, "b")
    u = w * fg.Tensor(2.0, name="x") + b
    u.name = "u"
    y = np.tanh(u)
    y.name = "y"
    return fg.losses.mse_loss(y, fg.Tensor(1.0, name="t")), w, b


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    W, b = leaf(rng.standard_normal((3, 4)).round(1), "W"), leaf(rng.standard_normal(4).round(1), "b")
    z = fg.Tensor(rng.standard_normal((5, 3)).round(1), name="X") @ W + b
    z.name = "z"
    return fg.losses.cross_entropy(z, np.array([0, 1, 2, 3, 0])), W, b, z


def difference(f, x, index, o=1e-5):
    up, down = np.array(x), np.array(x)
    up[index] += o
    down[index] -= o
    return (f(up) - f(down)) / (2 * o)


# ----- Worked examples -----


def test_one_neuron_is_printed_as_a_teacher_writes_it(neuron):
    L, w, b = neuron
    y = math.tanh(0.75)
    assert [s.symbol for s in explain(L).steps] == [f"{LD}_{n}" for n in ("y", "u", "v1", "b", "w")]
    assert [s.result for s in explain(L).steps] == pytest.approx(
        [2 * (y - 1), *[2 * (y - 1) * (1 - y * y)] * 3, 4 * (y - 1) * (1 - y * y)]
    )
    assert str(explain(L)) == (
        "The values, as they were made:\n"
        "  v1 = w·x            = 0.5·2        = 1\n"
        "  u  = v1 + b         = 1 + (−0.25)  = 0.75\n"
        "  y  = tanh u         = tanh 0.75    = 0.635\n"
        "  L  = mean((y − t)²) = (0.635 − 1)² = 0.133\n\n"
        f"The sweep back, latest first ({LD}_L = 1; {LD}_x is ∂L/∂x, the .grad of x):\n"
        f"  {LD}_y  = 2·(y − t)/n    = 2·(0.635 − 1)/1 = −0.73\n"
        f"  {LD}_u  = {LD}_y · (1 − y²) = −0.73 · 0.597   = −0.435\n"
        f"  {LD}_v1 = {LD}_u                              = −0.435\n"
        f"  {LD}_b  = {LD}_u                              = −0.435   raise b and L falls\n"
        f"  {LD}_w  = {LD}_v1 · x       = −0.435 · 2      = −0.871   raise w and L falls"
    )
    assert w.grad is None and b.grad is None


def test_a_fork_is_added_up_term_by_term():
    x = leaf(3.0, "x")
    (step,) = explain(x * x).steps
    assert (step.symbols, step.numbers, step.result) == ("x + x", "3 + 3", 6.0)
    assert step.remark == "feeds L twice; raise x and L rises" and step.waits_for == ()


def test_it_says_which_values_waited_for_which():
    a = leaf(1.0, "a")
    b = a * 1
    c, d = b + 1, b * 2
    e = c + d
    b.name, c.name, d.name, e.name = "bcde"
    steps = {s.name: s for s in explain(e).steps}
    assert list(steps) == ["c", "d", "b", "a"]
    assert steps["b"].waits_for == ("c", "d") and steps["b"].remark == "waits for c and d"
    assert (steps["b"].symbols, steps["b"].numbers, steps["a"].result) == (f"{LD}_c + 2·{LD}_d", "1 + 2·1", 3.0)
    assert f"L is e; {LD}_e = 1" in str(explain(e))


def test_a_value_that_feeds_many_shows_the_first_two_and_the_last():
    x = leaf(2.0, "x")
    L = sum((x * k for k in range(1, 9)), 0 * x)
    step = explain(L).steps[-1]
    assert step.name == "x" and step.result == 36.0 and step.symbols.count("…") == 1
    assert "and 6 more" in step.remark


def test_only_the_paths_to_w(neuron, layer):
    L, _w, b = neuron
    assert [s.name for s in explain(L, b).steps] == ["y", "u", "b"]
    assert "sweep back to b" in str(explain(L, b))
    L, W, b, z = layer
    assert [s.name for s in explain(L, W).steps] == ["z", "v1", "W"]
    assert [s.name for s in explain(L, z).steps] == ["z"]
    assert explain(L, z).steps[0].remark.startswith("raise z[")


# ----- Arrays -----


def test_each_element_can_be_followed_by_hand(layer):
    L, W, b, _z = layer
    X, labels, classes = np.random.default_rng(0), np.array([0, 1, 2, 3, 0]), 4
    for i, j in np.ndindex(3, 4):
        step = explain(L, W, at=(i, j)).steps[-1]
        assert step.symbol == f"{LD}_W[{i}, {j}]" and step.at == (i, j)
        assert step.symbols.startswith(f"X[0, {i}]·{LD}_v1[0, {j}]")
        assert step.value.shape == (3, 4)

    def f(w):
        logits = L_x @ w + b.data
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]))

    X.standard_normal((3, 4)), X.standard_normal(classes)
    L_x = X.standard_normal((5, 3)).round(1)
    for index in [(0, 0), (2, 3)]:
        assert explain(L, W, at=index).steps[-1].result == pytest.approx(difference(f, W.data, index), rel=1e-6)


def test_what_is_worked_out_comes_from_what_is_worked_out_above(layer):
    L, W, *_ = layer
    z, v1, w = explain(L, W, at=(2, 3)).steps
    assert v1.at[1] == z.at[1] == 3 and v1.at == z.at
    assert f"{LD}_v1[{v1.at[0]}, 3]" in w.symbols


def test_the_numbers_are_those_of_the_symbols(layer):
    """The printed numbers, added up, are the printed result, as far as they are rounded."""
    L, _W, b, _ = layer
    for step in explain(L, b, at=1).steps:
        numbers = step.numbers.replace("−", "-").replace("·", "*").replace("²", "**2")
        if numbers and "…" not in numbers:
            assert eval(numbers) == pytest.approx(step.result, rel=0.02)


def test_named_parts_are_worked_out_below(layer):
    L, *_ = layer
    text = str(explain(L))
    p = re.search(r"p\[(\d), (\d)\] += softmax\(z\)\[\1, \2\] += ([\d.]+)", text)
    assert p is not None
    z = layer[3]._value
    assert float(p[3]) == pytest.approx(fg.softmax(z)[int(p[1]), int(p[2])], rel=0.01)


def test_a_fluxion_of_ones_and_the_parts_of_a_value():
    w = leaf([[0.2, 0.5], [1.0, -1.0]], "w")
    text = str(explain(np.sum(fg.softmax(w)[:, 0])))
    assert "= 1[" not in text and re.search(r"L̇_v2\[0\] += 1$", text, re.M)


def test_a_part_never_has_the_name_of_a_tensor():
    p = leaf([0.2, 2.0], "r")
    text = str(explain(fg.losses.huber_loss(p, [0.0, 0.0])))
    assert "r0[1]" in text and re.search(r"r0\[1\] += r\[1\] − c1\[1\] += 2 − 0 += 2", text)


def test_no_number_and_one_number():
    empty = leaf(np.zeros((0, 3)), "w")
    assert "array 0×3" in str(explain(np.sum(empty * 2)))
    assert explain(np.sum(empty * 2)).steps == []
    one = leaf([[2.0]], "w")
    (step,) = explain(np.square(one)).steps
    assert (step.symbol, step.symbols, step.result) == (f"{LD}_w", "2·w", 4.0)


def test_a_root_that_is_an_array():
    x = leaf([1.0, 2.0], "x")
    y = x * x * 1.5
    text = str(explain(y))
    assert f"{LD}_L = 1 for each element" in text
    assert explain(y).steps[-1].result == 6.0


# ----- The rules that ran -----


def test_a_swapped_rule_is_what_is_printed(neuron, monkeypatch):
    L, w, _ = neuron
    tanh = fg.rules["tanh"]
    monkeypatch.setattr(tanh, "kernel", None)  # first, so that it comes back last: swapped fluxions drop the kernel
    monkeypatch.setattr(tanh, "fluxions", (lambda y, x: 7 * x * y,))
    step = next(s for s in explain(L, w).steps if s.name == "u")
    assert step.symbols == f"{LD}_y · 7·y·u" or step.symbols == f"7·{LD}_y·u·y" or "7" in step.symbols
    moved = next(s for s in explain(L, w, mode="push").steps if s.name == "y")
    assert "7" in moved.symbols and "u" in moved.symbols


def test_a_rule_of_ones_own_and_one_that_looks_inside(monkeypatch):
    rules = dict(fg.rules)
    try:
        swish = fg.elementwise("swish x", lambda x: x / (1 + np.exp(-x)), lambda y, x: y + (1 - y) / (1 + np.exp(-x)))
        rude = fg.elementwise("rude x", lambda x: 2 * x, lambda y, x: 2.0 * (float(np.sum(x)) > -9))
        x = leaf(0.5, "x")
        step = explain(swish(x)).steps[0]
        assert step.symbols == "L + (1 − L)/(1 + exp(−x))"
        assert step.result == pytest.approx(float(fg.grad(swish)(0.5)))
        step = explain(np.sin(rude(x))).steps[-1]
        assert "what rude gives" in step.symbols and step.result == pytest.approx(2 * math.cos(1.0))
        str(explain(np.sin(rude(x)), form="latex")), str(explain(np.sin(rude(x)), mode="push"))
    finally:
        fg.rules.clear()
        fg.rules.update(rules)


@pytest.mark.parametrize("name", sorted(set(fg.rules) - {"astype"}))
def test_every_row_can_be_explained_both_ways_and_holds_against_the_world(name):
    reading = Reading(fg.rules[name])
    leaves = [leaf(e.sample, e.args[0]) if e.sample.dtype.kind == "f" else fg.Tensor(e.sample) for e in reading.inputs]
    options = {k: v.sample.item() if isinstance(v, Ink) and not v.ndim else v for k, v in reading.options.items()}
    options = {k: v.sample if isinstance(v, Ink) else v for k, v in options.items()}
    y = apply(fg.rules[name], tuple(leaves), options)
    L = np.sum(y * np.linspace(0.5, 1.5, y.size).reshape(y.shape))
    pulled, pushed = explain(L, check=True), explain(L, mode="push")
    record = fg.flows(L)
    total = sum(float(record[x].sum()) for x in leaves if x in record)
    assert pushed.steps[-1].result == pytest.approx(total, rel=1e-6, abs=1e-9)
    assert {s.check.verdict for s in pulled.steps if s.check} <= {"right"}
    for line in (*pulled._lines, *pushed._lines):
        if line.terms:
            worked = sum(float(x.worked.sample) for x in line.terms)
            assert worked == pytest.approx(float(line.value[line.at]), rel=1e-6, abs=1e-9), line.symbol
    for form in ("notation", "ascii", "latex"):
        for text in (pulled.text(form), pushed.text(form)):
            assert "?" not in text and "gives" not in text and (form != "latex" or balanced(text))


def test_options_and_recorded_values():
    x = leaf(3.0, "x")
    y = x * 2
    x.data = 5.0
    L = y * x
    step = explain(L).steps[-1]
    assert (step.symbols, step.numbers, step.result) == (f"2·{LD}_v1 + v1", "2·5 + 6", 16.0)


LOSSES = {
    "mse_loss": np.array([[0.5, -1.0], [2.0, 0.0], [0.1, 0.2], [1.0, 1.5]]),
    "huber_loss": np.array([[0.5, -1.0], [2.0, 0.0], [0.1, 0.2], [1.0, 1.5]]),
    "binary_cross_entropy_with_logits": np.eye(2)[[0, 1, 1, 0]],
    "sigmoid_focal_loss": np.eye(2)[[0, 1, 1, 0]],
    "cross_entropy": np.array([0, 1, 1, 0]),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_explained_in_every_precision(name, dtype):
    X, target = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype), LOSSES[name]
    W = leaf(np.random.default_rng(1).normal(size=(3, 2)).astype(dtype), "W")
    L = getattr(fg.losses, name)(fg.Tensor(X) @ W, target.astype(dtype) if target.dtype.kind == "f" else target)
    for mode in ("pull", "push"):
        for form in ("notation", "ascii", "latex"):
            derivation = explain(L, mode=mode, form=form)
            assert "gives" not in str(derivation) and derivation.steps[-1].value.dtype == dtype
            derivation._repr_markdown_()
    assert explain(L, check=True).steps[-1].check.verdict == "right"


def test_labels_are_one_hot_and_each_is_told():
    z = leaf(np.array([[0.1, 2.0], [1.0, -1.0]], np.float32), "z")
    text = str(explain(fg.losses.cross_entropy(z, np.array([0, 1])), z, at=(1, 0)))
    assert "t = one_hot(c1)" in text and re.search(r"t\[1, 0\] += \{ 1 if c1\[1\] = 0, else 0 \} += 0", text)


@pytest.mark.parametrize(
    ("power", "symbols", "numbers"),
    [(3, "3·a²", "3·2²"), (2, "2·a", "2·2"), (1, "1", ""), (0, "0", ""), (-1, "−1/a²", "−1/2²"), (0.5, "½·a^(−½)", "½·2^(−½)"),
     (12, "12·a^11", "12·2^11")],
)  # fmt: skip
def test_a_known_power_is_written_as_by_hand(power, symbols, numbers):
    (step,) = explain(leaf(2.0, "a") ** power).steps
    assert (step.symbols, step.numbers) == (symbols, numbers)
    assert step.result == pytest.approx(power * 2.0 ** (power - 1))
    A = leaf([1.0, 2.0], "a")
    text = str(explain(np.sum(A**power), form="ascii"))
    assert " if " not in text and "where" not in text
    for mode in ("pull", "push"):
        for line in explain(np.sum(A**power), mode=mode)._lines:
            for x in line.terms:
                assert float(x.worked.sample) == pytest.approx(float(line.value[line.at]))


def test_what_is_not_known_is_left_to_be_seen():
    a, b = leaf([1.0, 2.0], "a"), leaf(3.0, "b")
    assert "{ 1 if a = 0 and b = 0, else a }^(b − 1)" in str(explain(np.sum(a**b), a))


def test_a_leaf_was_given():
    w = leaf(3.0, "w")
    assert str(explain(w)) == str(explain(w, w, check=True)) == f"w was given, not computed: {LD}_w = 1"
    assert str(explain(w, form="ascii")) == "w was given, not computed: dL/dw = 1"
    assert str(explain(w, mode="push")) == "w was given, not computed: ẇ = 1"
    assert str(explain(leaf([1.0, 2.0], "w"))).endswith("= 1 for each element")
    assert balanced(str(explain(w, form="latex"))) and balanced(explain(w)._repr_markdown_())


def test_it_says_what_o_is_once():
    a, k = leaf(2.0, "a"), leaf(3.0, "k")
    text = str(explain(a * k, check=True))
    assert text.count("o = 0.001 is a small move of x") == 1
    assert "; o is a small move of x)" in str(explain(a * leaf(1e5, "k"), check=True))
    assert "small move" not in str(explain(a * k))


def test_it_says_that_one_element_was_chosen(layer, neuron):
    L, W, *_ = layer
    assert "Of an array one element is worked out" in str(explain(L, W)) and "at= picks another:" in str(explain(L, W))
    assert "picks" not in str(explain(L, W, at=(0, 0))) and "picks" not in str(explain(neuron[0]))


def test_six_contributions_are_all_shown():
    x = leaf(2.0, "x")
    L = sum((x * k for k in range(2, 7)), 1 * x)
    step = explain(L).steps[-1]
    assert len(step.symbols.split(" + ")) == 6 and "…" not in step.symbols and step.result == 21.0


def test_a_single_result_has_its_equals_sign():
    assert f"  {LD}_a = 1   raise a" in str(explain(leaf(2.0, "a") * 1))


# ----- Push -----


def test_the_push_has_bare_dots_and_the_same_result(neuron):
    L, w, _ = neuron
    steps = explain(L, w, mode="push").steps
    assert [s.symbol for s in steps] == [unicodedata.normalize("NFC", s) for s in ("ẇ", "v̇1", "u̇", "ẏ", "L̇")]
    assert steps[3].symbols == "u̇ · (1 − y²)"
    assert steps[-1].result == pytest.approx(explain(L, w).steps[-1].result)


@pytest.mark.parametrize("at", [(0, 0), (2, 3)])
def test_a_push_of_one_element_is_its_pull(layer, at):
    L, W, *_ = layer
    assert explain(L, W, mode="push", at=at).steps[-1].result == pytest.approx(explain(L, W, at=at).steps[-1].result)


def test_a_push_through_rows_of_every_kind():
    x, w = leaf([0.2, 0.5, -0.3], "x"), leaf([1.0, 2.0, 0.5], "w")
    s = fg.softmax(x * w)
    L = np.sum(np.where(np.array([True, False, True]), s, 0.0) ** 2) + np.concatenate([x, w]).mean() + np.max(w)
    total = sum(float(fg.flows(L)[t].sum()) for t in (x, w))
    assert explain(L, mode="push").steps[-1].result == pytest.approx(total)
    assert "?" not in str(explain(L, mode="push")) and "gives" not in str(explain(L, mode="push"))


# ----- The world -----


def test_check_puts_what_happened_beside_it(neuron, layer):
    L, *_ = neuron
    assert [s.check.verdict for s in explain(L, check=True).steps if s.check] == ["right", "right"]
    assert "L moved by −8.71e−5: right" in str(explain(L, check=True))
    L, _W, _b, z = layer
    assert [s.name for s in explain(L, check=True).steps if s.check] == ["b", "W"]
    held = explain(L, z, check=True).steps[0].check
    assert held.verdict == "right" and held.happened == pytest.approx(held.predicted, rel=1e-4)


def test_check_finds_a_wrong_rule_and_a_kink(neuron, monkeypatch):
    _L, _w, _ = neuron
    monkeypatch.setattr(fg.rules["tanh"], "kernel", None)
    monkeypatch.setattr(fg.rules["tanh"], "fluxions", (lambda y, x: 1 + y * y,))
    fresh = np.tanh(leaf(0.5, "x"))
    assert explain(fresh, check=True).steps[0].check.verdict == "wrong" and "WRONG" in str(explain(fresh, check=True))
    assert "a kink" in str(explain(np.abs(leaf(0.0, "x")), check=True))


# ----- Names -----

HOSTILE = [
    "a + b",
    "w[0]",
    "\\input{x}$",
    "n",
    "w",
    "w",
    "L",
    f"{LD}_w",
    "ẇ",
    "重み",
    "1",
    "x y",
    "…",
    "“q”",
    "%",
    "\n\x00",
    "é" * 90,
]


@pytest.mark.parametrize("form", ["notation", "ascii", "latex"])
def test_hostile_names_are_told_apart_and_break_nothing(form):
    leaves = [leaf(float(k + 1), name) for k, name in enumerate(HOSTILE)]
    L = leaves[0]
    for t in leaves[1:]:
        L = L * t
    text = str(explain(L, form=form))
    assert text.isascii() or form != "ascii"
    assert not any(unicodedata.category(c) == "Cc" for c in text.replace("\n", ""))
    names = names_of(fg.flows(L))
    assert len(set(names.values())) == len(names)
    for step in explain(L, form=form).steps:
        assert step.result == pytest.approx(float(fg.flows(L)[step.tensor]))
    if form == "latex":
        assert balanced(text)


def test_unnamed_tensors_are_named_as_they_were_made():
    x, y = leaf(1.0), leaf(2.0, "x1")
    L = np.sum((x + y) * np.array([1.0, 2.0]) * np.array([3.0, 4.0]))
    assert set(names_of(fg.flows(L)).values()) == {"x2", "x1", "v1", "v2", "v3", "c1", "c2", "L"}


# ----- Large graphs -----


def test_ten_thousand_operations_do_not_recurse_and_what_is_left_out_is_said():
    x = leaf(0.7, "x")
    L = x
    for _ in range(10_000):
        L = np.sin(L)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        text = str(explain(L, limit=9, check=True))
    finally:
        sys.setrecursionlimit(limit)
    assert "… 9,991 steps are left out …" in text and text.count("\n") < 30
    assert "raise x and L rises" in text and ": right" in text
    assert len(explain(L, limit=9).steps) == 9
    assert "left out" not in str(explain(np.sin(x)))


# ----- Forms -----


def balanced(text):
    depth = 0
    for part in re.sub(r"\\[{}]", "", text):
        depth += (part == "{") - (part == "}")
        assert depth >= 0
    return depth == 0 and text.count("\\left") == text.count("\\right")


def examples():
    rng = np.random.default_rng(1)
    v = leaf([0.2, 0.5, -0.3], "v_1")
    yield np.tanh(v).sum()
    yield fg.losses.huber_loss(v, np.zeros(3))
    yield fg.losses.sigmoid_focal_loss(v, np.array([1.0, 0.0, 1.0]))
    yield -np.log(fg.softmax(v)[1]) / np.sqrt(np.sum(v * v))
    yield fg.losses.mse_loss(fg.nn.MLP(3, [4, 2], seed=0)(rng.standard_normal((6, 3))), np.zeros((6, 2)))
    yield np.maximum(v, 0.1).prod() * np.exp(v[0]) * 1e-9 + np.abs(v).mean()


@pytest.mark.parametrize("L", list(examples()))
def test_latex_is_balanced_and_parses(L):
    mathtext = pytest.importorskip("matplotlib.mathtext")
    text = str(explain(L, form="latex", check=True))
    assert balanced(text) and text.startswith("\\begin{aligned}\n") and text.endswith("\n\\end{aligned}")
    parser = mathtext.MathTextParser("path")
    for line in text.splitlines()[1:-1]:
        parser.parse(f"${line.removesuffix(chr(92) * 2).replace('&', '')}$")
    notebook = explain(L)
    assert notebook._repr_latex_().startswith("$\\displaystyle") and balanced(notebook._repr_latex_())
    for row in notebook._repr_markdown_().splitlines():
        assert row.count("|") == 3 or not row.startswith("|")


@pytest.mark.parametrize("L", list(examples()))
@pytest.mark.parametrize("mode", ["pull", "push"])
def test_every_form_is_complete(L, mode):
    text, plain = str(explain(L, mode=mode)), str(explain(L, mode=mode, form="ascii"))
    assert plain.isascii() and len(plain.splitlines()) >= len(text.splitlines()) - 3
    assert text == unicodedata.normalize("NFC", text)
    for line in text.splitlines():
        assert line == line.rstrip() and "#" not in line


def test_ascii_by_itself_where_a_dot_cannot_be_printed(neuron, monkeypatch):
    L, *_ = neuron
    for encoding in ("ascii", "cp1252", "latin-1"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        print(explain(L))
        assert "dL/du  = dL/dy*(1 - y**2)" in str(explain(L))
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert f"{LD}_u" in str(explain(L))


def test_refusals(neuron):
    L, w, _ = neuron
    for call, error, says in [
        (lambda: explain(L, leaf(1.0, "other")), ValueError, "no path"),
        (lambda: explain(fg.Tensor(1.0)), ValueError, "requires grad"),
        (lambda: explain(3.0), TypeError, "tensors"),
        (lambda: explain(L, "w"), TypeError, "tensors"),
        (lambda: explain(L, mode="sideways"), ValueError, "pull"),
        (lambda: explain(L, form="word"), ValueError, "ascii"),
        (lambda: explain(L, limit=0), ValueError, "limit"),
        (lambda: explain(L, w, at=(0, 1)), IndexError, "at="),
        (lambda: explain(L, at=(0, 1)), IndexError, "at="),
    ]:
        with pytest.raises(error, match=says):
            call()


def test_a_number_that_asks_for_its_fluxion_midway():
    w, x = fg.Tensor(2.0), leaf(3.0, "x")
    y = w * x
    w.requires_grad = True
    assert explain(y * w).steps[-1].result == fg.flows(y * w)[x]
