"""The printers: an expression as fluxion notation, as LaTeX, as ASCII, and as NumPy source.

Sums and products are put in order first, as a teacher would write them: y·y is y², −(−x) is x, ½·2 is 1. What is not
arithmetic is written as its row writes itself: the form of the row, its letters replaced. Nothing is known of a row by
its name but what Python itself has a sign for (+, @, x[i], …) and what only gives an array another shape.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from inspect import signature
from keyword import iskeyword
from typing import Any

import numpy as np

from fluxgrad.ink.names import L_DOT
from fluxgrad.ink.operand import Ink, Length
from fluxgrad.rules.kinds import LETTER, Constant, Row, letters, rules

Values = Mapping[str, str] | None
Factors = list[tuple[Ink, int]]
Terms = list[tuple[Fraction | float, Factors]]
Text = tuple[str, int]
"""What was written, and how firmly it holds together: one of the five that follow."""

SUM, PRODUCT, WORD, POWER, ATOM = range(5)
"""a + b, a·b, ln a, a², a: what stands where a firmer one is asked for goes into brackets."""

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_RELATIONS = {
    "greater": ">", "less": "<", "greater_equal": "≥", "less_equal": "≤", "equal": "=", "not_equal": "≠",
    "logical_and": "and", "logical_or": "or",
}  # fmt: skip
_ASCII_RELATIONS = {"≥": ">=", "≤": "<=", "=": "==", "≠": "!=", "and": "&", "or": "|"}
_ARITHMETIC = ("add", "subtract", "multiply", "divide", "negative", "square", "reciprocal")
OPERATORS = {  # of the language, not of any row
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "matmul": "@", "floor_divide": "//",
    "remainder": "%", "greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==",
    "not_equal": "!=",
}  # fmt: skip
_HIDDEN = ("axis", "axis1", "axis2", "keepdims", "kind", "stable", "decimals", "dtype")
"""What notation leaves out of a call: which axis, and how. ASCII and source have it."""

_CONSTANTS = {  # in source, in LaTeX, and how firmly they hold together
    "π": ("pi", r"\pi", ATOM),
    "√(2/π)": ("sqrt(2 / pi)", r"\sqrt{2/\pi}", POWER),
    "π/180": ("(pi / 180)", r"\frac{\pi}{180}", PRODUCT),
    "180/π": ("(180 / pi)", r"\frac{180}{\pi}", PRODUCT),
    "ln 2": ("log(2)", r"\ln 2", WORD),
    "ln 10": ("log(10)", r"\ln 10", WORD),
}

# ----- Expressions -----


def key(x: Any) -> Any:
    """What two expressions have in common when they are the same."""
    if isinstance(x, Ink):
        return x.op, tuple(map(key, x.args)), tuple((k, key(v)) for k, v in x.options.items())
    if isinstance(x, tuple | list):
        return tuple(map(key, x))
    return (type(x).__name__, repr(x))


def _ink(x: Any) -> Ink:
    return x if isinstance(x, Ink) else Ink("number", (x,), getattr(x, "value", x))


def _plain_number(e: Ink) -> bool:
    x = e.args[0] if e.op == "number" else None
    return isinstance(x, int | float | np.integer | np.floating) and not isinstance(x, Length)


def _is_number(x: Any, value: float) -> bool:
    return _plain_number(e := _ink(x)) and bool(e.args[0] == value)


def _fraction(value: Any) -> Fraction | float:
    exact = Fraction(value) if np.isfinite(value) else None
    return exact if exact is not None and exact.denominator <= 64 else float(value)


def _whole(e: Any) -> bool:
    return isinstance(e, Ink) and _plain_number(e) and float(e.args[0]).is_integer() and 0 < abs(e.args[0]) < 10


def _merged(fs: Factors) -> Factors:
    """Equal factors as one power, above the line and below it apart."""
    out: Factors = []
    for f, k in fs:
        for i, (g, j) in enumerate(out):
            if j * k > 0 and key(f) == key(g):
                out[i] = (g, j + k)
                break
        else:
            out.append((f, k))
    return out


def given(e: Any, condition: Any, holds: bool) -> Any:
    """e where it is known whether the condition holds: a case that asks for it again is decided."""
    if not isinstance(e, Ink) or e.op in ("symbol", "number"):
        return e
    if e.op == "where":
        c, a, b = branches(e)
        if key(c) == key(condition):
            return given(a if holds else b, condition, holds)
    return Ink(e.op, [given(x, condition, holds) for x in e.args], e.sample, e.options)


def settled(e: Any) -> Any:
    """An expression in which what known numbers decide is decided: 2 = 0 is false, so is all that asks for it too; a
    case is the one that holds; an exponent 3 − 1 is 2."""
    met: dict[int, Any] = {}

    def of(x: Any) -> Any:
        if type(x) in (tuple, list):
            return type(x)(map(of, x))
        if not isinstance(x, Ink) or x.op in ("symbol", "number"):
            return x
        if id(x) not in met:
            args = tuple(map(of, x.args))
            options = {k: of(v) if isinstance(v, Ink) else v for k, v in x.options.items()}
            same = all(a is b for a, b in zip((*args, *options.values()), (*x.args, *x.options.values()), strict=True))
            met[id(x)] = _decided(x if same else Ink(x.op, args, x.sample, options))
        return met[id(x)]

    return of(e)


def _decided(e: Ink) -> Ink:
    if e.op in _RELATIONS:
        if e.op.startswith("logical"):
            for x, other in (e.args, e.args[::-1]):
                if _plain_number(x := _ink(x)):  # true and c is c, false and c is false
                    return _like(e, other if bool(x.args[0]) == (_RELATIONS[e.op] == "and") else x)
        elif all(_plain_number(_ink(x)) for x in e.args):
            return _like(e, bool(e.sample.flat[0])) if e.sample.size else e
    if e.op == "where" and (len(e.args) == 3 or "condition" in e.options):
        condition, a, b = branches(e)
        if _plain_number(c := _ink(condition)):
            return _like(e, a if c.args[0] else b)
    if e.op == "power":
        base, n = map(_ink, e.args)
        if n.op in _ARITHMETIC and not n.sample.ndim and all(_plain_number(_ink(x)) for x in n.args):
            n = Ink("number", (n.sample.item(),), n.sample)
        if _is_number(n, 0) or _is_number(n, 1):
            return _like(e, base if _is_number(n, 1) else 1)
        return e if n is e.args[1] else Ink(e.op, (base, n), e.sample, e.options)
    return e


def _like(e: Ink, x: Any) -> Ink:
    """x in e's place, where that is of its shape."""
    x = _ink(x)
    if x.op == "number":
        return Ink("number", x.args, e.sample)
    return x if x.sample.shape == e.sample.shape else e


def whole_shape(x: Any) -> Ink | None:
    """Of what these lengths are the shape."""
    of = [n.of for n in x if isinstance(n, Length) and n.of is not None]
    if not of or not len(of) == len(x) == of[0].sample.ndim or any(key(e) != key(of[0]) for e in of):
        return None
    return of[0] if [n.axis for n in x] == list(range(len(x))) else None


def branches(e: Ink) -> tuple[Any, Any, Any]:
    """The condition, what holds where it does, and what holds where not."""
    condition, a, b = e.args if len(e.args) == 3 else (e.options["condition"], *e.args)
    return condition, a, b


@lru_cache(256)
def _parameters(name: str) -> tuple[str, ...]:
    """What the arguments of a function are called."""
    row = rules.get(name)
    for function in (getattr(np, name, None), getattr(np.linalg, name, None), row and row.value):
        try:
            if callable(function) and not isinstance(function, np.ufunc):
                return tuple(signature(function).parameters)
        except (TypeError, ValueError):
            continue
    return ()


# ----- Writing down: what the three have in common, and where they differ -----


class Printer:
    """Writes an expression in fluxion notation; LaTeX and ASCII change what differs.

    `values` says what stands for a symbol: a number, where a formula is shown with its numbers.
    """

    times, minus, over, plus = "·", "−", "/", "+"
    colon, where = ":  ", "  where "
    below = POWER  # what stands below a line
    most = 6  # so many terms of a sum are written; of a longer one the first three

    def __init__(self, values: Values = None) -> None:
        self.values = values or {}

    def __call__(self, e: Any) -> str:
        return self.at(e, SUM)

    def at(self, e: Any, level: int) -> str:
        """An expression, in brackets where it would run together with its neighbours."""
        text, own = self.write(_ink(e), level)
        return text if own >= level else f"({text})"

    def head(self, row: Row, inputs: Sequence[Ink], value: Ink) -> str:
        """What a rule is headed by: its form, or its call where that shows more."""
        if value.op == row.name and value.op not in _ARITHMETIC:
            shown = self._arguments(value)
            if len(shown) > len(inputs) or not letters(row.form):
                return self.node(value, SUM)[0]
        shown = letters(row.form)
        if len(shown) < len(inputs):  # the others have their names from the code
            shown = [x.args[0] for x in inputs]
        return self.formed(row.form, dict(zip(shown, inputs, strict=False)), SUM)[0]

    # ----- Sums and products -----

    def through(self, e: Ink) -> Any:
        """What stands behind a function that only gives an array another shape; None for all others."""
        if e.op in ("broadcast_to", "astype", "positive", "expand_dims", "squeeze"):
            return e.args[0]
        if e.op == "reshape" and isinstance(e.args[0], Ink) and e.args[0].sample.shape == e.sample.shape:
            return e.args[0]
        return e.args[0] if e.op == "transpose" and self.axes(e) == list(range(e.sample.ndim)) else None

    def axes(self, e: Ink) -> list[int]:
        """The order in which a transposition puts the axes."""
        n = e.sample.ndim
        for order in (*e.args[1:], e.options.get("axes")):
            if order is not None and np.size(order):
                return [int(k) % n for k in order]
        return list(range(n))[::-1]

    def factors(self, e: Ink) -> tuple[Fraction | float, Factors]:
        """A product: its number, and its factors with their whole exponents. Nothing is cancelled: x/x is not 1 at 0."""
        if _plain_number(e):
            return _fraction(e.args[0]), []
        if e.op == "negative":
            c, fs = self.factors(_ink(e.args[0]))
            return -c, fs
        if e.op in ("multiply", "divide") and len(e.args) == 2 and not self.outer(e):
            (c, fs), (d, gs) = map(self.factors, map(_ink, e.args))
            if e.op == "multiply":
                return c * d, _merged(fs + gs)
            if d != 0 and not isinstance(d, float) and not isinstance(c, float):
                return c / d, _merged(fs + [(g, -k) for g, k in gs])
            return c, _merged([*fs, (_ink(e.args[1]), -1)])
        if e.op in ("square", "reciprocal") or (e.op == "power" and _whole(e.args[1])):
            n = 2 if e.op == "square" else -1 if e.op == "reciprocal" else int(e.args[1].args[0])
            c, fs = self.factors(_ink(e.args[0]))
            if abs(c) == 1:
                return Fraction(int(c) ** abs(n)), _merged([(f, k * n) for f, k in fs])
            return Fraction(1), [(_ink(e.args[0]), n)]
        behind = self.through(e)
        return (Fraction(1), [(e, 1)]) if behind is None else self.factors(_ink(behind))

    def terms(self, e: Ink) -> Terms:
        """A sum: its products, the plain numbers among them added up where the first of them stands."""
        if e.op in ("add", "subtract") and len(e.args) == 2:
            left, right = map(self.terms, map(_ink, e.args))
            found = left + ([(-c, fs) for c, fs in right] if e.op == "subtract" else right)
        elif e.op == "negative":
            found = [(-c, fs) for c, fs in self.terms(_ink(e.args[0]))]
        elif (behind := self.through(e)) is not None:
            return self.terms(_ink(behind))
        else:
            c, fs = self.factors(e)
            if len(fs) == 1 and fs[0][1] == 1 and fs[0][0].op in ("add", "subtract") and abs(c) == 1:
                return [(c * d, gs) for d, gs in self.terms(fs[0][0])]
            return [(c, fs)] if c else [(Fraction(0), [])]
        total: Any = sum(c for c, fs in found if not fs)
        out, told = [], False
        for c, fs in found:
            if fs:
                out.append((c, fs))
            elif not told:
                out.append((total, fs))
                told = True
        return [t for t in out if t[0]] or [(Fraction(0), [])]

    def write(self, e: Ink, level: int) -> Text:
        found = self.terms(e)
        if len(found) == 1 and found[0][0] >= 0:
            c, fs = found[0]
            return self.product(c, fs, level)
        shown = found if len(found) <= self.most else found[:3]
        out = ""
        for c, fs in shown:
            sign = self.minus if c < 0 else self.plus
            text, own = self.product(-c if c < 0 else c, fs, PRODUCT)
            text = f"({text})" if c < 0 and own == SUM else text
            out += f" {sign} {text}" if out else f"{self.minus * (c < 0)}{text}"
        return out + (f" {self.plus} {self.rest}" if len(shown) < len(found) else ""), SUM

    rest = "…"

    def product(self, c: Fraction | float, fs: Factors, level: int) -> Text:
        if c == 1 and len(fs) == 1 and fs[0][1] == 1:
            return self.node(fs[0][0], level)
        for i, (f, k) in enumerate(fs):
            if k == -1 and f.op == "where" and _is_number(branches(f)[1], np.inf):
                condition, _, b = branches(f)  # x/{ ∞ if c, else y } is { 0 if c, else x/y }
                inner = self.product(c, [*fs[:i], *fs[i + 1 :], (_ink(b), -1)], SUM)[0]
                return self.chosen([(self.number(0), condition)], inner), ATOM
        fs = sorted(fs, key=lambda f: not (f[0].op == "number" and str(f[0].args[0])[0] in "π√"))
        above, below = [f for f in fs if f[1] > 0], [(f, -k) for f, k in fs if f is not None and k < 0]
        number, divisor = (c.numerator, c.denominator) if isinstance(c, Fraction) else (c, 1)
        if divisor != 1 and not below and 64 % divisor == 0:
            head, divisor = self.fraction(c), 1
        else:
            head = self.number(number) if number != 1 or not above else ""
        up, down = [head] * bool(head), [self.number(divisor)] * (divisor != 1)
        open_ended = not below and not down
        for j, (f, k) in enumerate(above):
            alone = len(above) == 1 and not head and (self.braced or not below)
            last = j == len(above) - 1 and open_ended
            up.append(self.power(f, k, SUM if alone and self.braced and not open_ended else WORD if last else POWER))
        for j, (f, k) in enumerate(below):
            alone = len(below) == 1 and not down
            last = j == len(below) - 1 and not alone
            down.append(self.power(f, k, SUM if alone and self.braced else WORD if last else self.below))
        if down:
            return self.divided(up, down), PRODUCT
        if len(up) > 1:
            return self.times.join(up), PRODUCT
        return up[0], POWER if above else ATOM

    braced = False  # whether a line of a fraction stands for brackets

    def divided(self, up: list[str], down: list[str]) -> str:
        below = self.times.join(down)
        return f"{self.times.join(up)}{self.over}{f'({below})' if len(down) > 1 else below}"

    def power(self, f: Ink, k: int, level: int) -> str:
        return self.at(f, level) if k == 1 else self.raised(self.at(f, ATOM), k)

    def raised(self, text: str, k: int) -> str:
        return text + str(k).translate(_SUPERSCRIPTS)

    def outer(self, e: Ink) -> bool:
        """Whether a product pairs every number of the one with every number of the other."""
        if e.op != "multiply" or not all(isinstance(x, Ink) for x in e.args):
            return False
        ends = [self._expanded(x) for x in e.args]
        a, b = (x.sample for x in e.args)
        return (ends[0] == -1 and (b.ndim < a.ndim or ends[1] == -2)) or (
            ends[1] == -1 and (a.ndim < b.ndim or ends[0] == -2)
        )

    def _expanded(self, e: Ink) -> int:
        """At which axis, from the last, an operand was made longer by one; 0 if it was not."""
        if e.op != "expand_dims" or not isinstance(e.args[0], Ink) or not e.args[0].sample.ndim:
            return 0
        axis = _ink((*e.args, e.options.get("axis"))[1]).args[0]
        return axis - e.sample.ndim if isinstance(axis, int) and axis >= 0 else axis if isinstance(axis, int) else 0

    # ----- Everything else -----

    def node(self, e: Ink, level: int) -> Text:
        """What is no sum and no product."""
        if e.op == "symbol":
            return self.named(e.args[0])
        if e.op == "number":
            return self.constant(e.args[0])
        if e.op == "part":
            return self.named(e.options["name"])
        if e.op in _RELATIONS:
            return self.truth(e, level), ATOM
        if e.op == "where":
            return self.cases(e, level), ATOM
        if e.op == "getitem":
            return f"{self.at(e.args[0], POWER)}[{self.index(e.options.get('index'))}]", ATOM
        if e.op == "power":
            return self.exponential(*map(_ink, e.args)), POWER
        if self.outer(e):
            return self.crossed.join(self.at(x.args[0] if self._expanded(x) else x, POWER) for x in e.args), PRODUCT
        if e.op in _ARITHMETIC:
            return self.write(e, level)
        if self.transposes(e):
            return f"{self.at(e.args[0], ATOM)}{self.transposed}", POWER
        return self.call(e, level)

    crossed, transposed = " ⊗ ", "ᵀ"

    def transposes(self, e: Ink) -> bool:
        if e.op == "swapaxes":
            return {int(_ink(x).args[0]) % e.sample.ndim for x in e.args[1:]} == {e.sample.ndim - 1, e.sample.ndim - 2}
        return e.op == "transpose" and self.axes(e) == list(range(e.sample.ndim))[::-1]

    def named(self, name: str) -> Text:
        """A symbol: what stands for it, or its name."""
        if name in self.values:
            text = self.values[name]
            return text, ATOM if re.fullmatch(r"[\w.ᵀ…]+|\([^()]*\)", text) else SUM
        return self.symbol(name), POWER if "_" in name else ATOM

    def exponential(self, base: Ink, exponent: Ink) -> str:
        up = self(exponent)
        return f"{self.at(base, ATOM)}^{up if up.isalnum() else f'({up})'}"

    def _arguments(self, e: Ink) -> list[Any]:
        """What of a call is shown: its operands, and what it cannot be understood without."""
        names = _parameters(e.op)
        out: list[Any] = []
        for k, x in enumerate(e.args):
            if x is None or (k < len(names) and names[k] in _HIDDEN and not _has_letter(x)):
                continue
            if isinstance(x, tuple | list) and x and all(isinstance(y, Ink) for y in x):
                out += x
            else:
                out.append(x)
        shown = [v for k, v in e.options.items() if _has_letter(v) or (k not in _HIDDEN and isinstance(v, tuple | str))]
        return out + shown

    def call(self, e: Ink, level: int) -> Text:
        """A row's own form, its letters replaced; what has none, as a function of its operands."""
        shown = self._arguments(e)
        row = rules.get(e.op)
        if row is not None and len(letters(row.form)) == len(shown) and all(isinstance(x, Ink) for x in shown):
            return self.formed(row.form, dict(zip(letters(row.form), shown, strict=True)), level)
        if e.op == "logical_not":
            return f"{self.words('not ')}{self.condition(shown[0], ATOM)}", WORD
        return f"{self.words(e.op)}({', '.join(map(self.argument, shown))})", ATOM

    def argument(self, x: Any) -> str:
        if isinstance(x, Ink):
            return self(x)
        if isinstance(x, tuple | list):
            if (of := whole_shape(x)) is not None:
                return self.shape(of)
            return f"({', '.join(map(self.argument, x))}{',' * (len(x) == 1)})"
        return self.words(x) if isinstance(x, str) else self.number(x)

    def shape(self, e: Ink) -> str:
        return f"{self.at(e, POWER)}.shape"

    def formed(self, form: str, operands: Mapping[str, Ink], level: int) -> Text:
        """A form with its letters replaced: `exp x` with −x is exp(−x)."""
        own = _firmness(form)
        out, at = "", 0
        for m in re.finditer(LETTER, form):
            if m[0] not in operands:
                continue
            gap, x = form[at : m.start()], operands[m[0]]
            before, after = form[: m.start()], form[m.end() :].lstrip()[:1]
            last = before.rstrip()[-1:]
            if self.encloses(last) or (last in tuple("(|⌊⌈‖,") and after in tuple(")|⌋⌉‖,")):
                text = self(x)
                if self.encloses(last):
                    text = f"({text})"
            elif re.search(_WORD, before) and not (at and gap[:1] == " "):
                text = self.at(x, ATOM)
                simple = x.op in ("symbol", "part") or text[:1] in "|‖⌊⌈"
                if not simple or (level > WORD and own == WORD) or text[:1] == "(":
                    gap, text, own = gap.rstrip(), f"({self(x)})", ATOM if own == WORD else own
            else:
                text = self.at(x, self.slot(last, after, x))
                gap = gap.rstrip() if text[:1] == "(" and last in tuple("ΣΠ√∛") else gap
            out += self.words(gap) + text
            at = m.end()
        return self.finished(out + self.words(form[at:])), own

    def slot(self, before: str, after: str, x: Ink) -> int:
        """How firm an operand must be between these two signs of a form."""
        if before in tuple("^√∛") or after in tuple("^ᵀ⁻⁺²³["):
            return ATOM
        if before in tuple("ΣΠ"):
            return WORD
        if before in tuple("+−") or after in tuple("+−"):
            return PRODUCT if before else SUM
        return PRODUCT if after == "@" and x.op == "matmul" else POWER

    def encloses(self, before: str) -> bool:
        return False

    def finished(self, text: str) -> str:
        return text

    def words(self, text: str) -> str:
        return text

    # ----- Conditions -----

    def truth(self, e: Ink, level: int) -> str:
        """A condition as a number."""
        if (labels := _one_hot(e)) is not None:
            return f"{self.words('one_hot')}({self(labels)})"
        if level > SUM:
            return f"[{self.condition(e)}]"
        return self.chosen([(self.number(1), e)], self.number(0))

    def cases(self, e: Ink, level: int = SUM) -> str:
        chain, last = [], e
        while isinstance(last, Ink) and last.op == "where":
            condition, a, b = branches(last)
            if _is_number(a, 1) and _is_number(b, 0) and _ink(condition).op in _RELATIONS:
                last = _ink(condition)
                break
            chain.append((self.branch(given(a, condition, True)), condition))
            last = given(b, condition, False)
        return self.chosen(chain, self.branch(last)) if chain else self.truth(last, level)

    def branch(self, e: Any) -> str:
        while (behind := self.through(_ink(e))) is not None:
            e = behind
        return self.at(e, PRODUCT) if _ink(e).op in _RELATIONS else self(e)

    def chosen(self, chain: list[tuple[str, Any]], last: str) -> str:
        return f"{{ {', '.join(f'{a} if {self.condition(c)}' for a, c in chain)}, else {last} }}"

    def condition(self, e: Any, level: int = SUM) -> str:
        e = _ink(e)
        if e.op not in _RELATIONS:
            return self.argument(e.args[0]) if e.op == "number" else self.at(e, level)
        joins = e.op.startswith("logical")
        sides = [
            (f"({self.condition(x)})" if joins and x.op != e.op and x.op.startswith("logical") else self.condition(x))
            if _ink(x).op in _RELATIONS
            else self(x)
            for x in e.args
        ]
        text = re.sub(" +", " ", f"{sides[0]} {self.relation(_RELATIONS[e.op])} {sides[1]}")
        return text if level == SUM else f"({text})"

    def relation(self, sign: str) -> str:
        return sign

    # ----- Names, numbers, indices -----

    def index(self, index: Any) -> str:
        parts = index if isinstance(index, tuple) else (index,)
        return ", ".join(map(self.place, parts))

    def place(self, p: Any) -> str:
        if isinstance(p, slice):
            start, stop = ("" if x is None else self.argument(x) for x in (p.start, p.stop))
            return f"{start}:{stop}" + (f":{self.argument(p.step)}" if p.step is not None else "")
        return self.rest if p is Ellipsis else "None" if p is None else self.argument(p)

    def symbol(self, name: str) -> str:
        return name

    def constant(self, value: Any) -> Text:
        text = self.number(value)
        if isinstance(value, Constant):
            return text, _CONSTANTS[value.name][2] if value.name in _CONSTANTS else WORD
        if isinstance(value, Length) and (value.made is not None) and text != "n":
            return text, SUM
        return text, SUM if text.startswith(self.minus) else ATOM

    def number(self, value: Any) -> str:
        if isinstance(value, Length):
            return self.length(value)
        if isinstance(value, Constant):
            return self.letter(value)
        if isinstance(value, np.ndarray | slice) or value is Ellipsis:
            return self.rest
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            value = int(value)
        text = f"{value:.12g}" if isinstance(value, float) else str(value)
        return text.replace("-", self.minus).replace("inf", self.infinity)

    infinity = "∞"

    def letter(self, constant: Constant) -> str:
        return constant.name

    def length(self, n: Length) -> str:
        """n for how many there are; else whose length it is."""
        if n.made is None:
            assert n.of is not None
            return "n" if n.axis is None else f"len({self(n.of)})" if n.axis == 0 else f"{self.shape(n.of)}[{n.axis}]"
        sign, a, b = n.made
        if sign in ("*", "//"):
            return "n"
        return f"{self.number(a)} {self.minus if sign == '-' else sign} {self.number(b)}"

    def fraction(self, c: Any) -> str:
        common = {Fraction(1, 2): "½", Fraction(1, 4): "¼", Fraction(3, 4): "¾"}
        return common.get(c) or f"{float(c):.12g}"


def _one_hot(e: Ink) -> Any:
    """What is compared, number by number, with all of 0, 1, 2, …; None where another thing is."""
    if _RELATIONS[e.op] != "=" or not e.sample.ndim:
        return None
    x, k = e.args
    n = e.sample.shape[-1]
    plain = k.args[0] if isinstance(k, Ink) and k.op == "number" else k
    every = isinstance(plain, np.ndarray) and np.array_equal(plain, np.arange(n))
    return x.args[0] if every and isinstance(x, Ink) and x.op == "expand_dims" and x.sample.shape[-1] == 1 else None


def _has_letter(x: Any) -> bool:
    """Whether there is a symbol, or a length, in an argument."""
    if isinstance(x, tuple | list):
        return any(map(_has_letter, x))
    return isinstance(x, Length) or (isinstance(x, Ink) and not _plain_number(x))


@lru_cache(256)
def _firmness(form: str) -> int:
    """How firmly a form holds together: tanh x is a word, x @ w a product."""
    bare = form
    while bare != (bare := re.sub(r"\([^()]*\)|\|[^|]*\||⌊[^⌋]*⌋|⌈[^⌉]*⌉|‖[^‖]*‖|\[[^]]*\]", "()", bare)):
        pass
    if re.search(r"\S [+−] |^[+−]", bare):
        return SUM
    if re.search(rf"[·/@]|(?:{LETTER}|\)) \S", bare):
        return PRODUCT
    if re.match(r"[^\W\d]\w*[₀-₉]* ?\S|[ΣΠ]", bare) and (" " in bare or bare[0] in "ΣΠ"):
        return WORD
    return POWER if re.search(r"^[√∛]|[\^ᵀ⁻⁺²³]", bare) else ATOM


class Latex(Printer):
    """LaTeX that KaTeX and matplotlib's mathtext both read."""

    times, minus, infinity, rest = r" \cdot ", "-", r"\infty", r"\ldots"
    colon, where = r":\quad ", r"\quad \mathrm{where}\ "
    crossed, transposed = r" \otimes ", "^{T}"
    braced = True

    def divided(self, up: list[str], down: list[str]) -> str:
        return rf"\frac{{{self.times.join(up)}}}{{{self.times.join(down)}}}"

    def raised(self, text: str, k: int) -> str:
        return f"{text}^{{{k}}}"

    def exponential(self, base: Ink, exponent: Ink) -> str:
        return f"{self.at(base, ATOM)}^{{{self(exponent)}}}"

    def named(self, name: str) -> Text:
        text, own = super().named(name)
        return text, ATOM if name not in self.values else own

    def fraction(self, c: Any) -> str:
        return rf"\frac{{{c.numerator}}}{{{c.denominator}}}"

    def chosen(self, chain: list[tuple[str, Any]], last: str) -> str:
        cases = r",\ ".join(rf"{a}\ \mathrm{{if}}\ {self.condition(c)}" for a, c in chain)
        return rf"\left\{{ {cases},\ \mathrm{{else}}\ {last} \right\}}"

    def relation(self, sign: str) -> str:
        joined = {"and": r"\ \mathrm{and}\ ", "or": r"\ \mathrm{or}\ "}
        return {"≥": r"\geq", "≤": r"\leq", "≠": r"\neq", **joined}.get(sign, sign)

    def symbol(self, name: str) -> str:
        return latex_name(name)

    def number(self, value: Any) -> str:
        return re.sub(r"e([+-]?)0*(\d+)$", lambda m: rf" \times 10^{{{m[1].strip('+')}{m[2]}}}", super().number(value))

    def letter(self, constant: Constant) -> str:
        return _CONSTANTS[constant.name][1] if constant.name in _CONSTANTS else latex_words(constant.name)

    def length(self, n: Length) -> str:
        if n.made is None and n.axis is not None:
            assert n.of is not None
            return rf"\mathrm{{len}}_{{{n.axis}}}({self(n.of)})"
        return super().length(n)

    def shape(self, e: Ink) -> str:
        return rf"\mathrm{{shape}}({self(e)})"

    def words(self, text: str) -> str:
        return latex_words(text)

    def encloses(self, before: str) -> bool:
        return before in tuple("√∛^")

    def finished(self, text: str) -> str:
        """Roots and exponents, which a form writes before brackets, as LaTeX encloses them."""
        for sign, command in {"√": r"\sqrt", "∛": r"\sqrt[3]", "^": "^"}.items():
            while m := re.search(rf"{re.escape(sign)}\s*\(", text):
                depth, end = 1, m.end()
                while depth and end < len(text):
                    depth += (text[end] == "(") - (text[end] == ")")
                    end += 1
                text = f"{text[: m.start()]}{command}{{{text[m.end() : end - 1]}}}{text[end:]}"
        return re.sub(r" {2,}", " ", text).strip()


_LATEX = {
    "⌊": r"\lfloor ", "⌋": r" \rfloor", "⌈": r"\lceil ", "⌉": r" \rceil", "‖": r"\Vert ", "Σ": r"\Sigma ", "Π": r"\Pi ",
    "σ": r"\sigma ", "π": r"\pi ", "δ": r"\delta ", "γ": r"\gamma ", "α": r"\alpha ", "β": r"\beta ", "τ": r"\tau ",
    "λ": r"\lambda ", "μ": r"\mu ", "θ": r"\theta ", "η": r"\eta ", "ρ": r"\rho ", "φ": r"\varphi ", "ω": r"\omega ",
    "ᵀ": "^{T}", "⁻¹": "^{-1}", "⁺": "^{+}", "²": "^{2}", "³": "^{3}", "₂": "_{2}", "₁₀": "_{10}", "·": r" \cdot ",
    "−": "-", "@": r"\,", "|": r"\vert ", "…": r"\ldots ", "ε": r"\varepsilon ", "ŷ": r"\hat{y}", "->": r"\to ",
}  # fmt: skip
_WORD = r"(^|[(\s])[^\W\dΣΠ]\w*[₀-₉]* $"  # right before its operand: the exp of "exp x"
_COMMANDS = re.compile("arc(cos|sin|tan)|(cos|sin|tan)h?|det|exp|ln|log|max|min")  # that LaTeX has itself


def latex_words(text: str) -> str:
    """What stands between the letters of a form."""

    def word(text: str) -> str:
        upright = text.replace("_", r"\_")
        return rf"\{text} " if _COMMANDS.fullmatch(text) else rf"\mathrm{{{upright}}}"

    text = re.sub(r"^([a-z]) $", r"\1\\ ", re.sub(r"[\\{}$#%~]", "", text))
    parts = re.split(r"([A-Za-z_][A-Za-z_0-9]+)", text)
    spaced = re.match(r" [A-Za-z]", text) is not None  # a word between its operands: x mod w
    out = ""
    for k, piece in enumerate(parts):
        if k % 2:
            out += word(piece)
        else:
            for sign, command in _LATEX.items():
                piece = piece.replace(sign, command)
            between = piece == " " and (spaced or (k and not _COMMANDS.fullmatch(parts[k - 1])))
            out += r"\ " if between and len(parts) > 1 else piece
    return re.sub(r" {2,}", " ", re.sub(r" (?=[_(])", "", out))


def latex_name(name: str) -> str:
    """L̇_x as \\dot{L}_{x}; a plain name as itself, with nothing in it that LaTeX would read as a command."""
    if m := re.fullmatch(r"([^[]+)(\[.*\])", name):
        return latex_name(m[1])[:-1] + m[2] + "}" if "_" in m[1] else latex_name(m[1]) + m[2]
    letter, _, rest = name.partition("_")
    bare = unicodedata.normalize("NFD", letter)
    for mark, command in {"\u0307": r"\dot", "\u0308": r"\ddot", "\u0302": r"\hat"}.items():
        if len(bare) == 2 and bare.endswith(mark):
            letter = f"{command}{{{bare[0]}}}"
            break
    else:
        letter = _upright(letter)
    return f"{letter}_{{{_upright(rest)}}}" if rest else letter


def _upright(text: str) -> str:
    safe = re.sub(r"[\\{}$&#^%~√∛]", "", text).replace("_", r"\_").replace(" ", r"\ ")
    for sign, command in _LATEX.items():
        safe = safe.replace(sign, command)
    return safe.strip() if len(text) < 2 or "\\hat" in safe else rf"\mathrm{{{safe.strip()}}}"


class Ascii(Printer):
    """Plain ASCII, which Python reads as well: dL/dy*(1 - y**2)."""

    times, minus, infinity, rest = "*", "-", "inf", "..."
    transposed = ".T"
    below = ATOM
    most = 10**6

    def through(self, e: Ink) -> Any:
        if e.op in ("broadcast_to", "astype", "positive"):
            return e.args[0]
        return e.args[0] if e.op == "expand_dims" and not _ink(e.args[0]).sample.ndim else None

    def outer(self, e: Ink) -> bool:
        return False

    def head(self, row: Row, inputs: Sequence[Ink], value: Ink) -> str:
        if value.op == row.name and value.op not in OPERATORS and value.op not in _ARITHMETIC:
            return self.node(value, SUM)[0]
        return f"{row.name}({', '.join(map(self, inputs))})"

    def product(self, c: Fraction | float, fs: Factors, level: int) -> Text:
        if any(k == -1 and f.op == "where" for f, k in fs):
            fs = [(Ink("part", (f,), f.sample, {"name": self(f)}), k) if f.op == "where" else (f, k) for f, k in fs]
        return super().product(c, fs, level)

    def raised(self, text: str, k: int) -> str:
        return f"{text}**{k}"

    def exponential(self, base: Ink, exponent: Ink) -> str:
        return f"{self.at(base, ATOM)}**{self.at(exponent, ATOM)}"

    def transposes(self, e: Ink) -> bool:
        return e.sample.ndim == 2 and super().transposes(e)

    def call(self, e: Ink, level: int) -> Text:
        if e.op == "matmul":
            left, right = map(_ink, e.args)
            return f"{self.at(left, PRODUCT if left.op == e.op else POWER)} @ {self.at(right, POWER)}", PRODUCT
        if e.op == "astype":
            return f"{self.at(e.args[0], ATOM)}.astype({np.dtype((*e.args, e.options.get('dtype'))[1]).name})", ATOM
        options = [f"{k}={self.plain(v)}" for k, v in e.options.items() if v is not None and v is not False]
        args = [*e.args]
        while args and args[-1] is None:
            args.pop()
        return f"{e.op}({', '.join([*map(self.plain, args), *options])})", ATOM

    def plain(self, x: Any) -> str:
        """An argument as Python reads it."""
        if isinstance(x, Ink):
            return self(x)
        if isinstance(x, tuple | list):
            if (of := whole_shape(x)) is not None:
                return f"{self.at(of, ATOM)}.shape"
            inside = ", ".join(map(self.plain, x))
            return f"({inside}{',' * (len(x) == 1)})" if isinstance(x, tuple) else f"[{inside}]"
        if isinstance(x, np.ndarray):
            return str(x.tolist())
        return x.__name__ if isinstance(x, type) else self.number(x) if isinstance(x, Length | Constant) else repr(x)

    argument = plain

    def truth(self, e: Ink, level: int) -> str:
        return f"where({self.condition(e)}, 1, 0)"

    def cases(self, e: Ink, level: int = SUM) -> str:
        condition, a, b = branches(e)
        a, b = given(a, condition, True), given(b, condition, False)
        return f"where({self.condition(condition)}, {self(a)}, {self(b)})"

    def condition(self, e: Any, level: int = SUM) -> str:
        e = _ink(e)
        if e.op in ("logical_and", "logical_or"):
            return f" {_ASCII_RELATIONS[_RELATIONS[e.op]]} ".join(f"({self.condition(x)})" for x in e.args)
        return super().condition(e, level)

    def relation(self, sign: str) -> str:
        return _ASCII_RELATIONS.get(sign, sign)

    def symbol(self, name: str) -> str:
        return ascii_name(name)

    def named(self, name: str) -> Text:
        text, own = super().named(name)
        return text, own if name in self.values else POWER if "/" in text else ATOM

    def letter(self, constant: Constant) -> str:
        return _CONSTANTS[constant.name][0] if constant.name in _CONSTANTS else repr(constant.value)

    def constant(self, value: Any) -> Text:
        return (self.number(value), ATOM) if isinstance(value, Constant | Length) else super().constant(value)

    def length(self, n: Length) -> str:
        if n.made is None:
            assert n.of is not None
            return f"{self.at(n.of, ATOM)}.size" if n.axis is None else f"{self.at(n.of, ATOM)}.shape[{n.axis}]"
        return f"({self.plain(n.made[1])} {n.made[0]} {self.plain(n.made[2])})"

    def fraction(self, c: Any) -> str:
        return f"{float(c):.12g}"


def can_print() -> bool:
    """Whether a dot can be printed where print writes to."""
    try:
        f"{L_DOT}ẏ·−".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def ascii_name(name: str) -> str:
    """L̇_x as dL/dx, ẏ_x as dy/dx, ẋ as x', ÿ_x as d2y/dx2."""
    letter, _, rest = name.partition("_")
    bare = unicodedata.normalize("NFD", letter)
    if len(bare) == 2 and bare.endswith("\u0307"):
        return f"d{bare[0]}/d{in_ascii(rest)}" if rest else f"{bare[0]}'"
    if len(bare) == 2 and bare.endswith("\u0308"):
        return f"d2{bare[0]}/d{in_ascii(rest)}2" if rest else f"{bare[0]}''"
    return in_ascii(name)


_IN_ASCII = {"…": "...", "−": "-", "×": "x", "·": "*", "“": '"', "”": '"', "∂": "d", "Σ": "sum"}


def in_ascii(text: str) -> str:
    """Letters by their names: δ is delta, ŷ y_hat, é e; of what has no such letters the number."""

    def spelled(c: str) -> str:
        if c.isascii():
            return c
        if c in _IN_ASCII:
            return _IN_ASCII[c]
        bare = unicodedata.normalize("NFKD", c)
        if bare[0].isascii():
            return "".join(filter(str.isascii, bare)) + "_hat" * ("\u0302" in bare)
        if unicodedata.combining(c):
            return ""
        name = re.search(r"(CAPITAL|SMALL) LETTER (?:FINAL )?(\w+)", unicodedata.name(c, ""))
        return f"u{ord(c):04x}" if name is None else name[2].lower() if name[1] == "SMALL" else name[2].capitalize()

    return "".join(map(spelled, unicodedata.normalize("NFC", text).replace(f"{L_DOT}_", "dL/d")))


class Source(Printer):
    """NumPy, to be run: nothing left out, nothing put in another order than the rule has it."""

    def __call__(self, e: Any) -> str:
        return self.code(e)

    def code(self, x: Any) -> str:
        if isinstance(x, Ink):
            return self.ink(x)
        if isinstance(x, Length):
            return self.length(x)
        if isinstance(x, Constant):
            known = _CONSTANTS.get(x.name, (repr(x.value),))[0]
            return re.sub(r"(pi|log|sqrt)\b", r"np.\1", known)
        if isinstance(x, tuple | list):
            if (of := whole_shape(x)) is not None:
                return f"{self.code(of)}.shape"
            inside = ", ".join(map(self.code, x))
            return f"({inside}{',' * (len(x) == 1)})" if isinstance(x, tuple) else f"[{inside}]"
        if isinstance(x, slice):
            return f"slice({self.code(x.start)}, {self.code(x.stop)}, {self.code(x.step)})"
        if isinstance(x, np.ndarray):
            return f"np.array({x.tolist()!r})"
        if isinstance(x, np.dtype):
            return f"np.{x.name}"
        if isinstance(x, type) and issubclass(x, np.generic):
            return f"np.{x.__name__}"
        if isinstance(x, type):
            return x.__name__
        x = x.item() if isinstance(x, np.generic) else x
        if isinstance(x, float) and not np.isfinite(x):
            return "np.nan" if np.isnan(x) else "np.inf" if x > 0 else "-np.inf"
        return "..." if x is Ellipsis else repr(x)

    def length(self, n: Length) -> str:
        if n.made is not None:
            sign, a, b = n.made
            return f"({self.code(a)} {sign} {self.code(b)})"
        assert n.of is not None
        return f"{self.code(n.of)}.size" if n.axis is None else f"{self.code(n.of)}.shape[{n.axis}]"

    def ink(self, e: Ink) -> str:
        if e.op == "symbol":
            return identifier(e.args[0])
        if e.op == "number":
            return self.code(e.args[0])
        if e.op == "part":
            return self.code(e.args[0])
        if e.op in OPERATORS:
            a, b = map(self.code, e.args)
            a = f"({a})" if a.startswith("-") else a  # −2 ** x is −(2 ** x)
            return f"({a} {OPERATORS[e.op]} {b})"
        if e.op == "negative":
            return f"(-{self.code(e.args[0])})"
        if e.op == "getitem" and "index" in e.options:
            return f"{self.code(e.args[0])}[{self.subscript(e.options['index'])}]"
        if e.op == "astype":
            return f"{self.code(e.args[0])}.astype({self.code((*e.args, e.options.get('dtype'))[1])})"
        args = branches(e) if e.op == "where" else e.args
        options = {} if e.op == "where" else e.options
        given = [*map(self.code, args), *(f"{k}={self.code(v)}" for k, v in options.items())]
        return f"{home(e.op)}({', '.join(given)})"

    def subscript(self, index: Any) -> str:
        if isinstance(index, tuple) and index:
            return ", ".join(map(self.subscript, index)) + "," * (len(index) == 1)
        if isinstance(index, slice):
            start, stop = ("" if x is None else self.code(x) for x in (index.start, index.stop))
            return f"{start}:{stop}" + (f":{self.code(index.step)}" if index.step is not None else "")
        return self.code(index)


def home(name: str) -> str:
    """Where a function is found in a program: at NumPy, else in the table of rules."""
    row = rules.get(name)
    if row is None or row._builtin:
        for where, module in (("np", np), ("np.linalg", np.linalg)):
            if hasattr(module, name):
                return f"{where}.{name}"
    return f'fg.rules["{name}"]'


def identifier(name: str) -> str:
    """A name as Python takes it: dL_dy for L̇_y."""
    name = re.sub(r"\W", "_", re.sub(r"^(?=\d)", "_", ascii_name(name).replace("/", "_")))
    return name + "_" * iskeyword(name)


# ----- The four, as functions -----


def notation(e: Any, values: Values = None) -> str:
    """In fluxion notation: 1 − y²."""
    return Printer(values)(e)


def ascii(e: Any, values: Values = None) -> str:
    """In ASCII: 1 - y**2."""
    return Ascii(values)(e)


def latex(e: Any, values: Values = None) -> str:
    """In LaTeX: 1 - y^{2}."""
    return Latex(values)(e)


def source(e: Any, values: Values = None) -> str:
    """As NumPy source: (1 - (y * y)). It has names, no numbers, for its symbols."""
    return Source()(e)


FORMS: dict[str, Callable[..., str]] = {"notation": notation, "ascii": ascii, "latex": latex, "source": source}
