"""What is printed is what ran: of every rule the source and the ASCII are run, at random points and at another shape than
the rule was read with, and give the rule's own numbers; the LaTeX is laid out by matplotlib; and a dozen rules read as a
teacher would write them.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rules.rule_samples import ELEMENTWISE, elementwise_inputs

import fluxgrad as fg
from fluxgrad.ink.operand import Ink, symbol
from fluxgrad.ink.printers import ascii, latex, notation, source
from fluxgrad.ink.reading import Reading
from fluxgrad.rules.kinds import Elementwise, Row, implementations

BUILT_IN = [row for row in fg.rules.values() if row._builtin]
every_row = pytest.mark.parametrize("row", BUILT_IN, ids=lambda row: row.name)


@pytest.fixture
def own_rules() -> Iterator[None]:
    """The rules that a test makes, and the fluxions that it swaps, go with it."""
    tables = [(table, dict(table)) for table in (fg.rules, implementations)]
    kept = {row: (row.fluxions, row.kernel) for row in fg.rules.values()}
    yield
    for table, before in tables:
        table.clear()
        table.update(before)
    for row, (fluxions, kernel) in kept.items():
        if row.fluxions is not fluxions:
            row.fluxions = fluxions
            row.kernel = kernel  # which the swap took away


# ----- A call of every rule, at another shape than the one that it was read with -----

RNG = np.random.default_rng(20260714)
LARGER = {1: 1, 2: 4, 3: 5, 4: 6}
OPTIONS: dict[str, dict[str, Any]] = {
    "reshape": {"shape": (10, 2)},
    "expand_dims": {"axis": 0},
    "cumsum": {"axis": 0},
    "einsum": {"subscripts": "ij,jk->ik"},
    "roll": {"shift": 2},
    "broadcast_to": {"shape": (7, 5)},
    "where": {"condition": RNG.random((4, 5)) < 0.5},
    "pad": {"width": ((2, 1), (0, 3))},
    "astype": {"dtype": np.dtype(np.float32)},
    "getitem": {"index": [1, 0, 1]},
    "scatter": {"index": [1, 0, 1, 5], "shape": (6, 5)},
    "huber_loss": {"delta": 0.3},
    "smooth_l1_loss": {"beta": 0.3},
    "focal_loss": {"gamma": 1.5},
    "sigmoid_focal_loss": {"gamma": 1.5, "alpha": 0.3},
}


def call(row: Row) -> tuple[list[Any], dict[str, Any]]:
    operands, options = row.example()
    assert options.keys() == OPTIONS.get(row.name, {}).keys(), f"{row.name}: options for the tests of what is printed"
    shapes = [tuple(LARGER[n] for n in x.shape) for x in operands]
    if isinstance(row, Elementwise):
        return elementwise_inputs(row.name, shapes, "printed"), {}
    if row.name == "sigmoid_focal_loss":
        return [RNG.normal(size=5), RNG.integers(0, 2, 5).astype(float)], OPTIONS[row.name]
    if row.name in ("cross_entropy", "focal_loss"):
        return [RNG.normal(size=(4, 5)), np.eye(5, dtype=int)[[2, 0, 4, 1]]], OPTIONS.get(row.name, {})
    if row.name in ("binary_cross_entropy", "kl_div"):
        return [RNG.uniform(0.1, 0.9, size=5), RNG.uniform(0.1, 0.9, size=5)], {}
    xs = [RNG.normal(size=shape) for shape in shapes]
    return [x + 3 * np.eye(*x.shape) if x.ndim == 2 and len({*x.shape}) == 1 else x for x in xs], OPTIONS.get(
        row.name, {}
    )


def same(found: Any, truth: Any, what: str) -> None:
    found = np.asarray(found, float)
    truth = np.asarray(truth, float)
    np.testing.assert_allclose(np.broadcast_to(found, truth.shape), truth, rtol=1e-9, atol=1e-11, err_msg=what)


def upstream(row: Row, y: Any) -> Any:
    return np.ones(np.shape(y)) if row.output == "L" else RNG.normal(size=np.shape(y))


@every_row
def test_the_source_runs_and_gives_the_rule(row: Row):
    xs, options = call(row)
    namespace: dict[str, Any] = {}
    exec(row.source, namespace)
    made = {name: f for name, f in namespace.items() if callable(f)}
    taken = {k: options[k] for k in options if k in made[row.name].__code__.co_varnames}
    y = row.value(*xs, **options)
    g = upstream(row, y)
    same(made.pop(row.name)(*xs, **taken), y, row.source)
    assert len(made) == len(xs)
    for i, pull in enumerate(made.values()):
        received = [y] if row.output == "L" else [g, y]
        same(pull(*received, *xs, **taken), row.pull(i, g, y, xs, options), row.source)


def split(text: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Head, rules, and named parts of a rule in ASCII."""
    head, _, told = text.partition(":  ")
    told, _, parts = told.partition("  where ")
    rules = dict(rule.split(" = ", 1) for rule in re.split(r", (?=d[Ly]/d\w+ = )", told))
    return head, rules, dict(part.split(" = ", 1) for part in parts.split("; ")) if parts else {}


@every_row
def test_python_reads_the_ascii_and_finds_the_rule(row: Row):
    xs, options = call(row)
    reading = Reading(row)
    assert row.ascii.isascii()
    head, rules, parts = split(row.ascii)
    y = row.value(*xs, **options)
    g = upstream(row, y)
    names: dict[str, Any] = {**{r.name: r for r in BUILT_IN}, **vars(np.linalg), **vars(np)}
    names.update(zip((e.args[0] for e in reading.inputs), xs, strict=True))
    for name, letter in reading.options.items():
        if isinstance(letter, Ink):
            value = options[name]
            names[ascii(letter)] = np.asarray(value) if isinstance(value, list | tuple) else value
    names |= {"y": y, "dL_dy": g}

    def read(text: str) -> Any:
        with np.errstate(all="ignore"):
            return eval(text.replace("dL/dy", "dL_dy"), names)

    for name, text in parts.items():
        names[name] = read(text)
    call_, _, value = head.partition(" = ") if "=" in re.sub(r"\([^()]*\)", "", head) else (head, "", "")
    same(read(value or call_), y, head)
    assert len(rules) == len(xs)
    for i, (left, right) in enumerate(rules.items()):
        with np.errstate(all="ignore"):
            truth = row.fluxions[i](y, *xs) if isinstance(row, Elementwise) else row.pull(i, g, y, xs, options)
        assert left == f"d{'y' if isinstance(row, Elementwise) else 'L'}/d{ascii(reading.inputs[i])}"
        same(read(right), truth, row.ascii)


@every_row
def test_latex_is_balanced_and_laid_out_by_matplotlib(row: Row):
    text = row.latex
    assert row._repr_latex_() == f"${text}$"
    depth = 0
    for c in re.sub(r"\\[{}]", "", text):
        depth += (c == "{") - (c == "}")
        assert depth >= 0, text
    assert depth == 0 and text.count(r"\left") == text.count(r"\right"), text
    assert "  " not in text and "cases" not in text and not re.search(r"mathrm{[^}]* ", text), text
    assert not re.search(r"\\frac{\([^()]*\)}|\\frac{[^{}]*}{\([^()]*\)}", text), f"brackets in a fraction: {text}"
    assert text.isascii(), text
    lay_out(text)


def lay_out(text: str) -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext")
    box = mathtext.MathTextParser("path").parse(f"${text}$")
    assert box.width > 0 and box.glyphs


@every_row
def test_text_is_composed_and_tidy(row: Row):
    text = str(row)
    for form in (text, row.latex, row.ascii, row.source):
        assert unicodedata.is_normalized("NFC", form)
    assert "\n" not in text and len(text) < 300
    assert text.replace("  where ", " ").count("  ") == text.count(":  ") == 1
    assert not re.search(r"\(\([^()]*\)\)", text) and "array" not in text and "None" not in text
    for i, name in enumerate(Reading(row).inputs):
        left = "ẏ" if isinstance(row, Elementwise) else "L̇"
        assert f"{left}_{name} = " in text, (i, text)


# ----- As a teacher would write it -----

BY_HAND = {
    "tanh": "tanh x:  ẏ_x = 1 − y²",
    "multiply": "x·w:  ẏ_x = w, ẏ_w = x",
    "divide": "x/w:  ẏ_x = 1/w, ẏ_w = −y/w",
    "sqrt": "√x:  ẏ_x = 1/(2·y)",
    "square": "x²:  ẏ_x = 2·x",
    "exp": "exp x:  ẏ_x = y",
    "log2": "log₂ x:  ẏ_x = 1/(x·ln 2)",
    "cos": "cos x:  ẏ_x = −sin x",
    "arcsin": "arcsin x:  ẏ_x = 1/√(1 − x²)",
    "power": "x^w:  ẏ_x = w·{ 1 if x = 0 and w = 0, else x }^(w − 1), ẏ_w = { 0 if x = 0, else y·ln x }",
    "hypot": "√(x² + w²):  ẏ_x = { 0 if y = 0, else x/y }, ẏ_w = { 0 if y = 0, else w/y }",
    "absolute": "|x|:  ẏ_x = sign x",
    "relu": "relu x = max(x, 0):  ẏ_x = { 1 if x > 0, else 0 }",
    "sigmoid": "σ(x) = { 1 if x ≥ 0, else e }/(1 + e):  ẏ_x = y·(1 − y)  where e = exp(−|x|)",
    "softplus": "softplus x = max(x, 0) + ln(1 + exp(−|x|)):  ẏ_x = σ(x)",
    "gelu": "gelu x = ½·x·(1 + h):  ẏ_x = ½·(1 + h) + ½·√(2/π)·x·(1 − h²)·(1 + 0.134145·x²)"
            "  where h = tanh(√(2/π)·x·(1 + 0.044715·x²))",
    "subtract": "x − w:  L̇_x = L̇_y, L̇_w = −L̇_y",
    "sum": "Σ x:  L̇_x = L̇_y",
    "mean": "mean x:  L̇_x = L̇_y/n",
    "matmul": "x @ w:  L̇_x = L̇_y @ wᵀ, L̇_w = xᵀ @ L̇_y",
    "affine": "x @ wᵀ + b:  L̇_x = L̇_y @ w, L̇_w = (L̇_y)ᵀ @ x, L̇_b = L̇_y",
    "reshape": "reshape(x, s):  L̇_x = reshape(L̇_y, x.shape)",
    "roll": "roll(x, k):  L̇_x = roll(L̇_y, −k)",
    "where": "{ x if c, else w }:  L̇_x = { L̇_y if c, else 0 }, L̇_w = { 0 if c, else L̇_y }",
    "concatenate": "concatenate(x, w):  L̇_x = L̇_y[0:len(x)], L̇_w = L̇_y[len(x):len(x) + len(w)]",
    "getitem": "x[i]:  L̇_x = scatter(L̇_y, i, x.shape)",
    "max": "max x:  L̇_x = L̇_y·[x = y]/(Σ [x = y])",
    "softmax": "softmax x = e/(Σ e):  L̇_x = y·(L̇_y − Σ(L̇_y·y))  where e = exp(x − max x)",
    "log_softmax": "log_softmax x = d − ln(Σ exp d):  L̇_x = L̇_y − exp(y)·Σ L̇_y  where d = x − max x",
    "norm": "‖x‖ = √(Σ x²):  L̇_x = { 0 if y = 0, else L̇_y·x/y }",
    "inv": "x⁻¹:  L̇_x = −yᵀ @ L̇_y @ yᵀ",
    "det": "det x:  L̇_x = L̇_y·y·(x⁻¹)ᵀ",
    "mse_loss": "(p − t)²:  L̇_p = 2·(p − t), L̇_t = −2·(p − t)",
    "huber_loss": "huber(p − t) = { ½·r² if |r| < δ, else δ·|r| − ½·δ² }:  L̇_p = { r if |r| < δ, else δ·sign r }, "
                  "L̇_t = −{ r if |r| < δ, else δ·sign r }  where r = p − t",
    "binary_cross_entropy_with_logits": "logistic(z, t) = t·softplus(−z) + (1 − t)·softplus z:  "
                                        "L̇_z = (1 − t)·p − t·q, L̇_t = −z  where p = σ(z); q = σ(−z)",
    "cross_entropy": "cross_entropy(z, t) = Σ(t·(logsumexp z − { 0 if t = 0, else z })):  "
                     "L̇_z = p − t, L̇_t = logsumexp z − z  where p = softmax z",
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_rules_as_a_teacher_would_write_them(name: str):
    assert str(fg.rules[name]) == unicodedata.normalize("NFC", BY_HAND[name])


def test_the_other_forms_by_hand():
    assert fg.rules["tanh"].latex == r"\tanh x:\quad \dot{y}_{x} = 1 - y^{2}"
    assert fg.rules["tanh"].ascii == "tanh(x):  dy/dx = 1 - y**2"
    assert fg.rules["log1p"].latex == r"\ln(1 + x):\quad \dot{y}_{x} = \frac{1}{1 + x}"
    assert fg.rules["arcsin"].latex == r"\arcsin x:\quad \dot{y}_{x} = \frac{1}{\sqrt{1 - x^{2}}}"
    assert fg.rules["matmul"].ascii == "matmul(x, w):  dL/dx = dL/dy @ w.T, dL/dw = x.T @ dL/dy"
    assert fg.rules["det"].latex == r"\det x:\quad \dot{L}_{x} = \dot{L}_{y} \cdot y \cdot (x^{-1})^{T}"
    assert fg.rules["tanh"].source == (
        "import numpy as np\n\n\n"
        "def tanh(x):\n    return np.tanh(x)\n\n\n"
        "def tanh_x(dL_dy, y, x):\n    return dL_dy * (1 - (y * y))\n"
    )


A, B, C = symbol("a", 0.3), symbol("b", 0.7), symbol("c", 0.2)
V, M = symbol("v", np.array([0.1, 0.4, 0.9])), symbol("m", np.arange(12.0).reshape(3, 4) / 10)
EXPRESSIONS: dict[str, tuple[Any, str, str]] = {
    "a power of a word": (np.sin(A) ** 2, "sin(a)²", "sin(a)**2"),
    "a word before a product": (np.exp(A) * B, "exp(a)·b", "exp(a)*b"),
    "a word after a product": (B * np.exp(A), "b·exp a", "b*exp(a)"),
    "a word of a word": (np.log(np.sin(A)), "ln(sin a)", "log(sin(a))"),
    "a word of a power": (np.exp(A * A), "exp(a²)", "exp(a**2)"),
    "a word below": (A / np.log(B), "a/ln(b)", "a/log(b)"),
    "minus a sum": (A - (B + C), "a − b − c", "a - b - c"),
    "a difference of differences": (A - (B - C), "a − b + c", "a - b + c"),
    "minus minus": (np.negative(-A), "a", "a"),
    "a quotient below": (A / (B / C), "a·c/b", "a*c/b"),
    "a product below": (A / (B * C), "a/(b·c)", "a/(b*c)"),
    "a sum to a power": ((A + B) ** 2, "(a + b)²", "(a + b)**2"),
    "numbers": (0.5 * A * 2 * 3, "3·a", "3*a"),
    "a third": (A / 3, "a/3", "a/3"),
    "a power below": (A / (B * B), "a/b²", "a/b**2"),
    "a power of a power": ((A**B) ** C, "(a^b)^c", "(a**b)**c"),
    "a negative base": ((-A) ** (C * 10), "(−a)^(10·c)", "(-a)**(10*c)"),
    "roots": (np.sqrt(A * B) * np.sqrt(C), "√(a·b)·√c", "sqrt(a*b)*sqrt(c)"),
    "a truth in a sum": (A + (B > C), "a + [b > c]", "a + where(b > c, 1, 0)"),
    "cases in cases": (
        np.where(A > 0, A, np.where(B > 0, B, C)),
        "{ a if a > 0, b if b > 0, else c }",
        "where(a > 0, a, where(b > 0, b, c))",
    ),
    "mod": ((A % B) * C, "(a mod b)·c", "remainder(a, b)*c"),
    "a product of matrices among numbers": ((M @ np.transpose(M)) * A, "(m @ mᵀ)·a", "(m @ m.T)*a"),
    "a sum of a product": (np.sum(V * V) * A, "(Σ v²)·a", "sum(v**2)*a"),
    "an outer product": (
        np.expand_dims(V, -1) * np.expand_dims(V, -2),
        "v ⊗ v",
        "expand_dims(v, -1)*expand_dims(v, -2)",
    ),
    "an axis that only lines up": (np.expand_dims(V, -1) * M, "v·m", "expand_dims(v, -1)*m"),
    "a transposition that is none": (np.transpose(M, (0, 1)), "m", "transpose(m, (0, 1))"),
    "another order of axes": (
        np.transpose(np.reshape(M, (3, 2, 2)), (0, 2, 1)),
        "transpose(reshape(m, (3, 2, 2)), (0, 2, 1))",
        "transpose(reshape(m, (3, 2, 2)), (0, 2, 1))",
    ),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_brackets_where_they_are_needed(case: str):
    """Each in notation and in ASCII; and Python finds the sample again."""
    e, written, plain = EXPRESSIONS[case]
    assert notation(e) == written
    assert ascii(e) == plain
    names = {"a": 0.3, "b": 0.7, "c": 0.2, "v": V.sample, "m": M.sample}
    found = eval(plain, {**vars(np), **names})
    np.testing.assert_allclose(found, e.sample, rtol=1e-12)
    np.testing.assert_allclose(eval(source(e), {"np": np, **names}), e.sample, rtol=1e-12)
    lay_out(latex(e))


def test_values_stand_for_symbols_in_brackets_where_needed():
    e = 1 - A * B**2
    assert notation(e, {"a": "−1.5", "b": "0.25"}) == "1 − (−1.5)·0.25²"
    assert ascii(e, {"a": "-1.5", "b": "-2"}) == "1 - (-1.5)*(-2)**2"


def test_names_in_every_form():
    for name, in_latex, in_ascii in [
        ("L̇_x", r"\dot{L}_{x}", "dL/dx"), ("ẏ_x", r"\dot{y}_{x}", "dy/dx"), ("ẋ", r"\dot{x}", "x'"),
        ("ÿ_x", r"\ddot{y}_{x}", "d2y/dx2"), ("L̇_ŷ", r"\dot{L}_{\hat{y}}", "dL/dy_hat"), ("δ", r"\delta", "delta"),
        ("W1", r"\mathrm{W1}", "W1"), ("my weight", r"\mathrm{my\ weight}", "my weight"),
        ("hidden_w", r"\mathrm{hidden}_{w}", "hidden_w"), ("w[0, 2]", "w[0, 2]", "w[0, 2]"),
        ("100%", r"\mathrm{100}", "100%"), ("ω", r"\omega", "omega"),
    ]:  # fmt: skip
        e = symbol(unicodedata.normalize("NFC", name), 1.0)
        assert (latex(e), ascii(e)) == (in_latex, in_ascii)
        lay_out(latex(e))


# ----- One spelling -----


@pytest.mark.usefixtures("own_rules")
def test_a_rule_that_is_swapped_changes_everything():
    row = fg.rules["tanh"]

    def everything() -> list[str]:
        x = fg.Tensor(0.7, requires_grad=True, name="x")
        L = np.tanh(x)
        L.backward()
        found = [
            str(x.grad), str(fg.jvp(np.tanh, (0.7,), (1.0,))[1]), str(row), row.ascii, row.latex, row.source,
            fg.draw(L).svg,
        ]  # fmt: skip
        return found + ([str(fg.explain(L))] if hasattr(fg, "explain") else [])

    before = everything()
    row.fluxions = (lambda y, x: 3 - y * y * x,)
    after = everything()
    assert not any(a == b for a, b in zip(before, after, strict=True))
    assert str(row) == unicodedata.normalize("NFC", "tanh x:  ẏ_x = 3 − y²·x")
    value = 3 - np.tanh(0.7) ** 2 * 0.7
    assert np.isclose(float(after[0]), value) and np.isclose(float(after[1]), value)
    namespace: dict[str, Any] = {}
    exec(row.source, namespace)
    assert np.isclose(namespace["tanh_x"](1.0, np.tanh(0.7), 0.7), value)


@pytest.mark.usefixtures("own_rules")
def test_a_rule_of_ones_own_prints_like_ours():
    swish = fg.elementwise(
        "swish x", lambda x: x / (1 + np.exp(-x)), lambda y, x: (y + (1 - y) / (1 + np.exp(-x)))
    )  # fmt: skip
    shear = fg.linear("shear x", lambda x, by: x + by * np.flip(x, -1), lambda g, x, by: g + by * np.flip(g, -1))
    energy = fg.fused("energy(x, w)", lambda x, w: np.sum(swish(x) * w * w),
                      lambda g, y, x, w: g * w * w * 2 * x, lambda g, y, x, w: 2 * g * swish(x) * w)  # fmt: skip
    from fluxgrad.rules.kinds import sample

    sample(shear, (2, 3), by=("b", 0.5))
    assert str(swish) == unicodedata.normalize("NFC", "swish x = x/(1 + exp(−x)):  ẏ_x = y + (1 − y)/(1 + exp(−x))")
    assert str(shear) == "shear x = x + b·flip x:  L̇_x = L̇_y + b·flip(L̇_y)"
    assert str(energy) == "energy(x, w) = Σ(swish(x)·w²):  L̇_x = 2·L̇_y·w²·x, L̇_w = 2·L̇_y·swish(x)·w"
    for row in (swish, shear, energy):
        lay_out(row.latex)
        namespace: dict[str, Any] = {}
        exec(row.source, namespace)
    x, w = RNG.normal(size=(2, 4, 5))
    same(namespace["energy"](x, w), energy(x, w), energy.source)
    same(namespace["energy_w"](0.7, None, x, w), 2 * 0.7 * swish(x) * w, energy.source)
    assert "by=0.5" in shear.source and "shear_x(dL_dy, y, x, *, by=0.5)" in shear.source


@pytest.mark.usefixtures("own_rules")
def test_a_rule_named_like_a_function_of_numpy_is_ours_in_the_source():
    median = fg.fused("median x", lambda x: np.sum(x) / 2, lambda g, y, x: g * np.ones_like(x) / 2, name="median")
    twice = fg.fused("twice x", lambda x: 2 * median(x), lambda g, y, x: g * np.ones_like(x))
    namespace: dict[str, Any] = {}
    exec(twice.source, namespace)
    assert namespace["twice"](np.arange(4.0)) == 6.0


@pytest.mark.usefixtures("own_rules")
def test_a_loop_prints_its_steps_by_name():
    """Written out, it would have two to the twentieth letters."""

    def newton(x: Any) -> Any:
        y = x
        for _ in range(20):
            y = 0.5 * (y + x / y)
        return y

    row = fg.elementwise("newton x", newton, lambda y, x: 0.5 / y)
    assert len(str(row)) < 1500 and len(row.source) < 1500
    assert str(row).startswith(
        "newton x = ½·(v19 + x/v19):  ẏ_x = 1/(2·y)  where v1 = ½·(x + x/x); v2 = ½·(v1 + x/v1); "
    )
    namespace: dict[str, Any] = {}
    exec(row.source, namespace)
    assert namespace["newton"](2.0) == newton(2.0)
    head, _, parts = split(row.ascii)
    names = {"x": 2.0}
    for name, text in parts.items():
        names[name] = eval(text, names)
    assert np.isclose(eval(head.split(" = ")[1], names), np.sqrt(2))


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize("form", ["f x", "f(x)", "f3 x", "f_a(x)"])
def test_a_function_may_be_called_by_one_letter(form: str):
    row = fg.elementwise(form, lambda x: x**3, lambda y, x: 3 * x * x)
    assert str(row) == unicodedata.normalize("NFC", f"{form} = x³:  ẏ_x = 3·x²")
    lay_out(row.latex)


@pytest.mark.usefixtures("own_rules")
def test_printing_calls_a_rule_at_two_shapes_and_with_nothing_large():
    met: list[Any] = []

    def fluxion(y: Any, x: Any) -> Any:
        met.append(x)
        return 2 * x

    row = fg.elementwise("counted x", lambda x: x * x, fluxion)
    assert not met
    assert str(row) == unicodedata.normalize("NFC", "counted x = x²:  ẏ_x = 2·x")
    assert len(met) == 2 and all(isinstance(x, Ink) and x.sample.size < 20 for x in met)


def test_an_expression_has_no_truth_and_is_no_array():
    for misuse in (lambda: bool(A > 1), lambda: float(A), lambda: np.asarray(A), lambda: np.zeros(2)[V]):
        with pytest.raises((TypeError, IndexError)):
            misuse()


# ----- Nothing is known by name -----

LANGUAGE = {
    **dict.fromkeys(["add", "subtract", "multiply", "divide", "negative", "positive", "power", "floor_divide",
                     "remainder", "matmul"], "what Python has an operator for: it is written as that"),
    **dict.fromkeys(["square", "reciprocal"], "x² and 1/x: they take part in the ordering of products"),
    **dict.fromkeys(["where"], "cases"),
    **dict.fromkeys(["getitem"], "x[i], which Python writes with brackets"),
    **dict.fromkeys(["transpose"], "xᵀ of the operand's own .T"),
    **dict.fromkeys(["reshape", "expand_dims", "squeeze", "broadcast_to", "astype"],
                    "they change no number: notation leaves them out where that cannot mislead"),
    **dict.fromkeys(["sum", "mean"], "element.py writes out the terms of a sum"),
}  # fmt: skip


def test_ink_knows_no_row_by_name():
    import fluxgrad.ink

    names = {row.name for row in BUILT_IN}
    found: dict[str, str] = {}
    for file in Path(fluxgrad.ink.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names:
                found[node.value] = f"{file.name}:{node.lineno}"
    foreign = {name: where for name, where in found.items() if name not in LANGUAGE}
    assert not foreign, f"ink names a row, but must not know any: {foreign}"


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_a_length_that_was_counted_is_told(own_rules):
    """len(x) and a loop are plain numbers before they come to paper."""
    counted = fg.fused("middle x", lambda x: np.sum(x) / len(x), lambda g, y, x: g / len(x) * np.ones_like(x))
    assert str(counted) == nfc("middle x = ½·Σ x:  L̇_x = ½·L̇_y  (2×3 only)")
    assert counted.ascii.endswith("(2x3 only)") and counted.latex.endswith(r"\quad \mathrm{(2×3\ only)}")
    assert counted.source.startswith("# For inputs of 2x3 only: a length was counted.\n")
    asked = fg.fused("middle x", lambda x: np.sum(x) / x.shape[0], lambda g, y, x: g / x.shape[0] * np.ones_like(x))
    assert str(asked) == nfc("middle x = (Σ x)/len(x):  L̇_x = L̇_y/len(x)")


def test_inputs_are_called_as_in_the_form_or_in_the_code(own_rules):
    rules = [
        (lambda X, w: X / w, "scale(X, w)", "scale(X, w) = X/w:  ẏ_X = 1/w, ẏ_w = −y/w"),
        (lambda x, y: x / y, "ratio(x, y)", "ratio(x, w) = x/w:  ẏ_x = 1/w, ẏ_w = −y/w"),  # y is the output
        (lambda a1, a2: a1 / a2, "over(a1, a2)", "over(a1, a2) = a1/a2:  ẏ_a1 = 1/a2, ẏ_a2 = −y/a2"),
    ]
    for value, form, told in rules:
        row = fg.elementwise(form, value, lambda y, a, b: 1 / b, lambda y, a, b: -y / b)
        assert str(row) == nfc(told)
        exec(row.source, {})
    product = fg.linear(
        "A @ x", lambda A, x: A @ x, lambda g, A, x: g @ x.T, lambda g, A, x: A.T @ g, jointly=False, name="product"
    )
    assert str(product) == nfc("A @ x:  L̇_A = L̇_y @ xᵀ, L̇_x = Aᵀ @ L̇_y")  # and of a shape that fits


def test_constants_of_every_kind_and_methods(own_rules):
    rules: dict[str, tuple[Any, str | None]] = {
        "alt x": (lambda x: (-2) ** x, nfc("alt x = (−2)^x:  ẏ_x = 1")),
        "a x": (lambda x: np.int64(3) + x, nfc("a x = 3 + x:  ẏ_x = 1")),
        "b x": (lambda x: x * np.float32(0.5) * np.array(3.0), nfc("b x = 1.5·x:  ẏ_x = 1")),
        "c x": (lambda x: 2 - np.expm1(x), nfc("c x = 2 − (exp x − 1):  ẏ_x = 1")),
        "d x": (lambda x: -np.expm1(x), nfc("d x = −(exp x − 1):  ẏ_x = 1")),
        "e x": (lambda x: x.clip(0, 1) + x.reshape(x.shape[0], -1), None),
        "f x": (lambda x: 3.0, nfc("f x = 3:  ẏ_x = 1")),
    }
    for form, (value, told) in rules.items():
        row = fg.elementwise(form, value, lambda y, x: 1)
        assert told is None or str(row) == told
        namespace: dict[str, Any] = {}
        exec(row.source, namespace)
        x = np.arange(6.0).reshape(2, 3)
        same(namespace[row.name](x), np.broadcast_to(value(x), x.shape), row.source)


def test_a_terminal_without_dots_gets_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert str(fg.rules["tanh"]) == fg.rules["tanh"].ascii == "tanh(x):  dy/dx = 1 - y**2"


def test_computing_needs_no_paper():
    program = (
        "import sys, numpy as np, fluxgrad as fg\n"
        "x = fg.Tensor([1.0, 2.0], requires_grad=True)\n"
        "fg.losses.mse_loss(np.tanh(x), [0.0, 1.0]).backward()\n"
        "assert not [m for m in sys.modules if m.startswith('fluxgrad.ink')], sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], timeout=60)


def test_every_elementwise_rule_has_an_interval():
    assert {row.name for row in BUILT_IN if isinstance(row, Elementwise)} <= set(ELEMENTWISE)
