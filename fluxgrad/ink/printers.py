"""The printers: an expression as fluxion notation, as LaTeX, as ASCII, and as NumPy source.

Sums and products are put in order first, as a teacher would write them: y·y is y², −(−x) is x, ½·2 is 1. What is not
arithmetic is written as its row writes itself: the form of the row, its letters replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from fluxgrad.ink.operand import Ink, Length
from fluxgrad.rules.kinds import LETTER, Constant, Row, letters, rules

Values = Mapping[str, str] | None
Factors = list[tuple[Ink, int]]

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SILENT = ("expand_dims", "squeeze", "broadcast_to", "astype", "positive")  # they move numbers and change none
_RELATIONS = {
    "greater": ">", "less": "<", "greater_equal": "≥", "less_equal": "≤", "equal": "=", "not_equal": "≠",
    "logical_and": "and", "logical_or": "or",
}  # fmt: skip
_ASCII_RELATIONS = {"≥": ">=", "≤": "<=", "=": "==", "≠": "!=", "and": "&", "or": "|"}

# ----- Putting in order -----


def key(x: Any) -> Any:
    """What two expressions have in common when they are the same."""
    if isinstance(x, Ink):
        return x.op, tuple(map(key, x.args)), tuple((k, key(v)) for k, v in x.options.items())
    if isinstance(x, tuple | list):
        return tuple(map(key, x))
    return (type(x).__name__, repr(x))


def _plain_number(e: Ink) -> bool:
    return (
        e.op == "number"
        and isinstance(e.args[0], int | float | np.integer | np.floating)
        and not isinstance(e.args[0], Length)
    )


def _fraction(value: Any) -> Fraction | float:
    exact = Fraction(value) if np.isfinite(value) else None
    return exact if exact is not None and exact.denominator <= 64 else float(value)


def factors(e: Ink) -> tuple[Fraction | float, Factors]:
    """A product: its number, and its factors with their whole exponents. Nothing is cancelled: x/x is not 1 at 0."""
    if _plain_number(e):
        return _fraction(e.args[0]), []
    if e.op == "negative":
        c, fs = factors(e.args[0])
        return -c, fs
    if e.op in ("multiply", "divide") and len(e.args) == 2:
        (c, fs), (d, gs) = factors(_ink(e.args[0])), factors(_ink(e.args[1]))
        if e.op == "multiply":
            return c * d, _merged(fs + gs)
        if d != 0 and not isinstance(d, float) and not isinstance(c, float):
            return c / d, _merged(fs + [(g, -k) for g, k in gs])
        return c, _merged([*fs, (_ink(e.args[1]), -1)])
    if e.op in ("square", "reciprocal") or (e.op == "power" and _whole(e.args[1])):
        n = 2 if e.op == "square" else -1 if e.op == "reciprocal" else int(e.args[1].args[0])
        c, fs = factors(e.args[0])
        if c == 1 and n:
            return Fraction(1), [(f, k * n) for f, k in fs]
        if c == -1 and n:
            return Fraction((-1) ** n), [(f, k * n) for f, k in fs]
        return Fraction(1), [(e.args[0], n)] if n else []
    if e.op in _SILENT:
        return factors(e.args[0])
    return Fraction(1), [(e, 1)]


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


def terms(e: Ink) -> list[tuple[Fraction | float, Factors]]:
    """A sum: its products, the plain numbers among them added up where they first stand."""
    if e.op in ("add", "subtract") and len(e.args) == 2:
        left, right = terms(_ink(e.args[0])), terms(_ink(e.args[1]))
        found = left + ([(-c, fs) for c, fs in right] if e.op == "subtract" else right)
    elif e.op == "negative":
        found = [(-c, fs) for c, fs in terms(e.args[0])]
    elif e.op in _SILENT:
        return terms(e.args[0])
    else:
        c, fs = factors(e)
        if c == 0:
            return [(Fraction(0), [])]
        if len(fs) == 1 and fs[0][1] == 1 and fs[0][0].op in ("add", "subtract") and abs(c) == 1:
            return [(c * d, gs) for d, gs in terms(fs[0][0])]
        return [(c, fs)]
    numbers = [c for c, fs in found if not fs]
    out = []
    for c, fs in found:
        if fs:
            out.append((c, fs))
        elif numbers:
            total = sum(numbers)
            numbers = []
            if total:
                out.append((total, fs))
    return [t for t in out if t[0]] or [(Fraction(0), [])]


def given(e: Any, condition: Any, holds: bool) -> Any:
    """e where it is known whether the condition holds: a case that asks for it again is decided."""
    if not isinstance(e, Ink) or e.op in ("symbol", "number"):
        return e
    if e.op == "where" and key(e.args[0]) == key(condition):
        return given(e.args[1 if holds else 2], condition, holds)
    return Ink(e.op, [given(x, condition, holds) for x in e.args], e.sample, e.options)


def _ink(x: Any) -> Ink:
    return x if isinstance(x, Ink) else Ink("number", (x,), getattr(x, "value", x))


# ----- Writing down: what the four have in common, and where they differ -----


class Printer:
    """Writes an expression in fluxion notation; the other three change what differs."""

    times, minus, plus, over = "·", "−", "+", "/"
    colon, where = ":  ", "  where "

    def head(self, row: Row, names: list[str]) -> str:
        """What a rule is headed by: its form."""
        return row.form

    def __init__(self, values: Values = None) -> None:
        self.values = values or {}

    def __call__(self, e: Any) -> str:
        e = _ink(e)
        if e.op in _RELATIONS:
            return self.truth(e)
        out = ""
        found = terms(e)
        for c, fs in found:
            negative = c < 0
            text = self.product(-c if negative else c, fs, len(found) == 1 and not negative)
            if not out:
                out = f"{self.minus}{text}" if negative else text
            else:
                out += f" {self.minus if negative else self.plus} {text}"
        return out

    def truth(self, e: Ink) -> str:
        """A condition as a number."""
        return f"{{ 1 if {self.node(e)}, else 0 }}"

    def product(self, c: Fraction | float, fs: Factors, whole: bool = True) -> str:
        above = [(f, k) for f, k in fs if k > 0]
        below = [(f, -k) for f, k in fs if k < 0]
        number, divisor = (c.numerator, c.denominator) if isinstance(c, Fraction) else (c, 1)
        if isinstance(c, Fraction) and not below and divisor != 1:
            head, divisor = self.fraction(c), 1
        else:
            head = self.number(number) if number != 1 or not above else ""
        tail = self.number(divisor) if divisor != 1 else ""
        alone = len(above) + bool(head) == 1 and not below and not tail
        alone = alone and (whole or above[0][0].op not in _RELATIONS if above else True)
        up = [head] * bool(head) + [self.power(f, k, alone) for f, k in above]
        down = [tail] * bool(tail) + [self.power(f, k, False) for f, k in below]
        return self.divided(up, down) if down else self.times.join(up)

    def divided(self, up: list[str], down: list[str]) -> str:
        below = self.times.join(down)
        return f"{self.times.join(up)}{self.over}{f'({below})' if len(down) > 1 else below}"

    def power(self, f: Ink, k: int, alone: bool) -> str:
        text = self.atom(f) if k != 1 or not alone else self.node(f)
        return text if k == 1 else self.raised(text, k)

    def raised(self, text: str, k: int) -> str:
        return text + str(k).translate(_SUPERSCRIPTS)

    def atom(self, e: Ink) -> str:
        """One factor: in brackets where it would run together with its neighbours."""
        if len(ts := terms(e)) > 1 or ts[0][0] < 0:
            return f"({self(e)})"
        if e.op in _RELATIONS:
            return f"[{self.node(e)}]"
        text = self.node(e)
        return f"({text})" if self.is_open(e) else text

    def is_open(self, e: Ink) -> bool:
        """Whether its form has an operator or a word before its letter, as x @ w and exp x have."""
        if e.op in ("symbol", "number", "where", "getitem"):
            return (
                e.op == "symbol" and e.args[0] in self.values and not re.fullmatch(r"[\w.ᵀ]+", self.values[e.args[0]])
            )
        return self.in_words(e) and e.op != "power" and bool(re.search(r"[·/^@+−]| mod ", rules[e.op].form))

    def in_words(self, e: Ink) -> bool:
        """Whether it is written as its row's form."""
        return e.op in rules and bool(letters(rules[e.op].form))

    def node(self, e: Ink) -> str:
        if e.op == "symbol":
            return self.values.get(e.args[0]) or self.symbol(e.args[0])
        if e.op == "number":
            return self.number(e.args[0])
        if e.op == "part":
            return self.symbol(e.options["name"])
        if e.op in _RELATIONS:
            left, right = (self.node(x) if isinstance(x, Ink) and x.op in _RELATIONS else self(x) for x in e.args)
            return f"{left} {self.relation(_RELATIONS[e.op])} {right}"
        if e.op == "where":
            return self.cases(*e.args)
        if e.op == "getitem":
            return f"{self.atom(e.args[0])}[{self.index(e.options['index'])}]"
        if e.op == "power":
            return self.exponential(*e.args)
        if e.op in ("add", "subtract", "multiply", "divide", "negative", "square", "reciprocal", *_SILENT):
            return self(e)
        return self.call(e)

    def exponential(self, base: Ink, exponent: Ink) -> str:
        up = self(exponent)
        return f"{self.atom(base)}^{up if up.isalnum() else f'({up})'}"

    def call(self, e: Ink) -> str:
        """A row's own form, its letters replaced; what has none, as a function of its operands."""
        operands: list[Any] = [
            x for arg in e.args for x in (arg if isinstance(arg, tuple | list) else (arg,)) if isinstance(x, Ink | str)
        ]
        if e.op == "swapaxes" and operands:
            return f"{self.atom(operands[0])}{self.transposed}"
        if not self.in_words(e):
            return f"{e.op}({', '.join(x if isinstance(x, str) else self(x) for x in operands)})"
        form = rules[e.op].form
        out, at = "", 0
        by_letter = dict(zip(letters(form), operands, strict=False))
        for m in re.finditer(LETTER, form):
            if m[0] not in by_letter:
                continue
            before, after = form[: m.start()].rstrip(), form[m.end() :].lstrip()
            enclosed = (before[-1:] in "(|⌊‖," and before != "") and after[:1] in (")", "|", "⌋", "‖", ",")
            x = by_letter[m[0]]
            text = self(x) if enclosed else self.atom(x)
            if not enclosed and form[m.end() : m.end() + 1].strip(" ,") and " " in text and not text.startswith("("):
                text = f"({text})"
            gap = form[at : m.start()]
            if (
                gap.endswith(" ")
                and before
                and before[-1].isalpha()
                and (text.startswith("(") or x.op not in ("symbol", "number"))
            ):
                gap, text = gap.rstrip(), text if text.startswith("(") else f"({text})"
            out += self.words(gap) + text
            at = m.end()
        return out + self.words(form[at:])

    transposed = "ᵀ"

    def words(self, text: str) -> str:
        return text

    def cases(self, condition: Any, a: Any, b: Any) -> str:
        a, b = given(a, condition, True), given(b, condition, False)
        return f"{{ {self(a)} if {self.condition(condition)}, else {self(b)} }}"

    def condition(self, e: Any) -> str:
        return self.node(e) if isinstance(e, Ink) else self.number(e)

    def relation(self, sign: str) -> str:
        return sign

    def index(self, index: Any) -> str:
        parts = index if isinstance(index, tuple) else (index,)
        return ", ".join(self.part(p) for p in parts)

    def part(self, p: Any) -> str:
        if isinstance(p, slice):
            ends = ["" if x is None else self.number(x) for x in (p.start, p.stop)]
            return ":".join(ends) + (f":{self.number(p.step)}" if p.step is not None else "")
        return (
            "…" if p is Ellipsis else "None" if p is None else self.number(p) if isinstance(p, int) else self.indices(p)
        )

    def indices(self, p: Any) -> str:
        return "i" if not isinstance(p, Ink) else self(p)

    def symbol(self, name: str) -> str:
        return name

    def number(self, value: Any) -> str:
        if isinstance(value, Length):
            return self.length(value)
        if isinstance(value, Constant):
            return value.name
        if isinstance(value, np.ndarray):
            return "…"
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            value = int(value)
        text = repr(value) if isinstance(value, int) else f"{value:.12g}"
        return text.replace("-", self.minus).replace("inf", "∞")

    def length(self, n: Length) -> str:
        """n for all the elements; else whose length it is."""
        if n.made is None:
            assert n.of is not None
            return "n" if n.axis is None else f"len({self(n.of)})" if n.axis == 0 else f"{self(n.of)}.shape[{n.axis}]"
        sign, a, b = n.made
        if sign == "*":
            return "n"
        if a == 0 and sign == "+" and not isinstance(a, Length):
            return self.number(b)
        if b == 0 and not isinstance(b, Length):
            return self.number(a)
        return f"{self.number(a)} {self.minus if sign == '-' else sign} {self.number(b)}"

    def fraction(self, c: Fraction) -> str:
        common = {Fraction(1, 2): "½", Fraction(1, 4): "¼", Fraction(3, 4): "¾"}
        return common.get(c) or f"{float(c):.12g}"


class Latex(Printer):
    """LaTeX that KaTeX and matplotlib's mathtext both read."""

    times, minus, over = r" \cdot ", "-", "/"
    transposed = r"^{T}"

    def divided(self, up: list[str], down: list[str]) -> str:
        return rf"\frac{{{self.times.join(up)}}}{{{self.times.join(down)}}}"

    def raised(self, text: str, k: int) -> str:
        return f"{{{text}}}^{{{k}}}"

    def exponential(self, base: Ink, exponent: Ink) -> str:
        return f"{{{self.atom(base)}}}^{{{self(exponent)}}}"

    def fraction(self, c: Fraction) -> str:
        return rf"\frac{{{c.numerator}}}{{{c.denominator}}}"

    def cases(self, condition: Any, a: Any, b: Any) -> str:
        a, b = given(a, condition, True), given(b, condition, False)
        return rf"\left\{{ {self(a)}\ \mathrm{{if}}\ {self.condition(condition)},\ \mathrm{{else}}\ {self(b)} \right\}}"

    def relation(self, sign: str) -> str:
        return {"≥": r"\geq", "≤": r"\leq", "≠": r"\neq", "and": r"\ \mathrm{and}\ ", "or": r"\ \mathrm{or}\ "}.get(
            sign, sign
        )

    def symbol(self, name: str) -> str:
        return latex_name(name)

    def number(self, value: Any) -> str:
        text = super().number(value)
        if isinstance(value, Constant) and value.name[0] in "ln√":
            return {"ln 2": r"\ln 2", "ln 10": r"\ln 10"}.get(value.name, r"\sqrt{2/\pi}")
        return text.replace("∞", r"\infty").replace("π", r"\pi").replace("…", r"\ldots").replace("e-", r"\times 10^{-")

    def words(self, text: str) -> str:
        return latex_words(text)

    colon, where = r":\quad ", r"\quad \mathrm{where}\ "

    def head(self, row: Row, names: list[str]) -> str:
        return latex_words(row.form)

    def length(self, n: Length) -> str:
        if n.made is None and n.axis is not None:
            assert n.of is not None
            return rf"\mathrm{{len}}_{{{n.axis}}}({self(n.of)})"
        return super().length(n)


_LATEX = {
    "√": r"\sqrt ", "∛": r"\sqrt[3] ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "‖": r"\Vert ", "Σ": r"\Sigma ", "Π": r"\Pi ",
    "σ": r"\sigma ", "π": r"\pi ", "δ": r"\delta ", "γ": r"\gamma ", "α": r"\alpha ", "β": r"\beta ", "τ": r"\tau ",
    "ᵀ": "^{T}", "⁻¹": "^{-1}", "⁺": "^{+}", "²": "^{2}", "₂": "_{2}", "₁₀": "_{10}", "·": r" \cdot ", "−": "-",
    "@": r"\,", "|": r"\vert ", "…": r"\ldots ", "ε": r"\varepsilon ",
}  # fmt: skip


def latex_words(text: str) -> str:
    """What stands between the letters of a form."""
    text = re.sub(r"[a-zA-Z_]{2,}", lambda m: rf"\mathrm{{{m[0].replace('_', chr(92) + '_')}}}", text)
    for sign, command in _LATEX.items():
        text = text.replace(sign, command)
    return text


def latex_name(name: str) -> str:
    """L̇_x as \\dot{L}_{x}; a plain name as itself, with nothing in it that LaTeX would read as a command."""
    letter, _, rest = name.partition("_")
    dots = {"\u0307": r"\dot", "\u0308": r"\ddot"}
    for mark, command in dots.items():
        if letter.endswith(mark):
            letter = f"{command}{{{letter[:-1]}}}"
            break
    else:
        precomposed = {"ẏ": r"\dot{y}", "ẋ": r"\dot{x}", "ẇ": r"\dot{w}", "ÿ": r"\ddot{y}", "ŷ": r"\hat{y}"}
        letter = precomposed.get(letter) or (_safe(letter) if len(letter) == 1 else rf"\mathrm{{{_safe(letter)}}}")
    return f"{letter}_{{{_safe(rest)}}}" if rest else letter


def _safe(text: str) -> str:
    text = re.sub(r"[\\{}$&#^%~]", "", text).replace("_", r"\_")
    for sign, command in _LATEX.items():
        text = text.replace(sign, command)
    return text


class Ascii(Printer):
    """Plain ASCII, which Python reads as well: dL/dy*(1 - y**2)."""

    times, minus = "*", "-"
    transposed = ".T"

    def raised(self, text: str, k: int) -> str:
        return f"{text}**{k}"

    def divided(self, up: list[str], down: list[str]) -> str:
        return f"{self.times.join(up)}/{f'({self.times.join(down)})' if len(down) > 1 else down[0]}"

    def exponential(self, base: Ink, exponent: Ink) -> str:
        return f"{self.atom(base)}**({self(exponent)})"

    def in_words(self, e: Ink) -> bool:
        return False

    def head(self, row: Row, names: list[str]) -> str:
        return f"{row.name}({', '.join(map(self.symbol, names))})"

    def length(self, n: Length) -> str:
        if n.made is None:
            assert n.of is not None
            return f"{self.atom(n.of)}.size" if n.axis is None else f"{self.atom(n.of)}.shape[{n.axis}]"
        return f"({self.plain(n.made[1])} {n.made[0]} {self.plain(n.made[2])})"

    def plain(self, x: Any) -> str:
        """An argument as Python reads it."""
        if isinstance(x, Ink):
            return self(x)
        if isinstance(x, tuple | list):
            inside = ", ".join(map(self.plain, x))
            return f"({inside}{',' * (len(x) == 1)})" if isinstance(x, tuple) else f"[{inside}]"
        return self.number(x) if isinstance(x, Length | Constant | np.ndarray) else repr(x)

    def is_open(self, e: Ink) -> bool:
        return e.op == "symbol" and e.args[0] in self.values and not re.fullmatch(r"[\w.]+", self.values[e.args[0]])

    def call(self, e: Ink) -> str:
        if e.op == "matmul":
            return f"({self.atom(e.args[0])} @ {self.atom(e.args[1])})"
        if e.op == "swapaxes":
            return super().call(e)
        options = [f"{k}={self.plain(v)}" for k, v in e.options.items() if v is not None and v is not False]
        return f"{e.op}({', '.join([*map(self.plain, e.args), *options])})"

    def cases(self, condition: Any, a: Any, b: Any) -> str:
        a, b = given(a, condition, True), given(b, condition, False)
        return f"where({self.condition(condition)}, {self(a)}, {self(b)})"

    def truth(self, e: Ink) -> str:
        return self.node(e)

    def relation(self, sign: str) -> str:
        return _ASCII_RELATIONS.get(sign, sign)

    def node(self, e: Ink) -> str:
        if e.op in ("logical_and", "logical_or"):
            return f" {self.relation(_RELATIONS[e.op])} ".join(f"({self(x)})" for x in e.args)
        return super().node(e)

    def atom(self, e: Ink) -> str:
        return f"({self.node(e)})" if e.op in _RELATIONS else super().atom(e)

    def part(self, p: Any) -> str:
        return "..." if p is Ellipsis else super().part(p)

    def symbol(self, name: str) -> str:
        return ascii_name(name)

    def number(self, value: Any) -> str:
        if isinstance(value, Constant):
            return {
                "π": "pi",
                "√(2/π)": "sqrt(2/pi)",
                "π/180": "(pi/180)",
                "180/π": "(180/pi)",
                "ln 2": "log(2)",
                "ln 10": "log(10)",
            }[value.name]
        return super().number(value).replace("∞", "inf").replace("…", "...")

    def fraction(self, c: Fraction) -> str:
        return f"{float(c):.12g}"


_UNCOMPOSED = {"ẏ": "y\u0307", "ẋ": "x\u0307", "ẇ": "w\u0307", "ÿ": "y\u0308", "ŷ": "y_hat"}


def ascii_name(name: str) -> str:
    """L̇_x as dL/dx, ẏ_x as dy/dx, ẋ as x', ÿ_x as d2y/dx2."""
    bare = "".join(_UNCOMPOSED.get(c, c) for c in name)
    letter, _, rest = bare.partition("_")
    if letter.endswith("\u0307"):
        return f"d{letter[:-1]}/d{_plain_ascii(rest)}" if rest else f"{letter[:-1]}'"
    if letter.endswith("\u0308"):
        return f"d2{letter[:-1]}/d{_plain_ascii(rest)}2"
    return _plain_ascii(bare)


_GREEK = {
    "δ": "delta",
    "γ": "gamma",
    "α": "alpha",
    "β": "beta",
    "σ": "sigma",
    "τ": "tau",
    "ε": "epsilon",
    "π": "pi",
    "ŷ": "y_hat",
}


def _plain_ascii(text: str) -> str:
    for sign, word in _GREEK.items():
        text = text.replace(sign, word)
    return text.encode("ascii", "replace").decode()


class Source(Printer):
    """NumPy, to be run: nothing silent, nothing put in another order than the rule has it."""

    def __call__(self, e: Any) -> str:
        return self.code(e)

    def code(self, x: Any) -> str:
        if isinstance(x, Length):
            return self.length(x)
        if isinstance(x, Constant):
            return {"π": "np.pi", "ln 2": "np.log(2)", "ln 10": "np.log(10)"}.get(x.name) or (
                "(np.pi / 180)" if x.name == "π/180" else "(180 / np.pi)" if x.name == "180/π" else "np.sqrt(2 / np.pi)"
            )
        if isinstance(x, tuple | list):
            inside = ", ".join(map(self.code, x))
            return f"({inside}{',' * (len(x) == 1)})" if isinstance(x, tuple) else f"[{inside}]"
        if isinstance(x, slice):
            return f"slice({self.code(x.start)}, {self.code(x.stop)}, {self.code(x.step)})"
        if isinstance(x, np.ndarray):
            return f"np.array({x.tolist()!r})"
        if x is Ellipsis:
            return "..."
        if not isinstance(x, Ink):
            return (
                repr(x.item() if isinstance(x, np.generic) else x)
                if x not in (np.inf, -np.inf)
                else f"{'-' * (x < 0)}np.inf"
            )
        return self.ink(x)

    def length(self, n: Length) -> str:
        if n.made is not None:
            sign, a, b = n.made
            return f"({self.code(a)} {sign} {self.code(b)})"
        assert n.of is not None
        return f"{self.code(n.of)}.size" if n.axis is None else f"{self.code(n.of)}.shape[{n.axis}]"

    _INFIX = {  # noqa: RUF012  (operators of the language, not of any row)
        "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "matmul": "@", "floor_divide": "//",
        "remainder": "%", "greater": ">", "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==",
        "not_equal": "!=",
    }  # fmt: skip

    def ink(self, e: Ink) -> str:
        if e.op == "symbol":
            return re.sub(r"\W", "_", ascii_name(e.args[0]).replace("/", "_"))
        if e.op == "number":
            return self.code(e.args[0])
        if e.op == "part":
            return self.code(e.args[0])
        if e.op in self._INFIX:
            a, b = map(self.code, e.args)
            return f"({a} {self._INFIX[e.op]} {b})"
        if e.op == "negative":
            return f"(-{self.code(e.args[0])})"
        if e.op == "getitem":
            return f"{self.code(e.args[0])}[{self.code(e.options['index'])}]"
        given = [*map(self.code, e.args), *(f"{k}={self.code(v)}" for k, v in e.options.items())]
        home = "np." if hasattr(np, e.op) else "np.linalg." if hasattr(np.linalg, e.op) else "rules"
        name = f"{home}{e.op}" if home != "rules" else f'fg.rules["{e.op}"]'
        return f"{name}({', '.join(given)})"


# ----- The four, as functions -----


def notation(e: Any, values: Values = None) -> str:
    """In fluxion notation: 1 − y²."""
    return Printer(values)(e)


def ascii(e: Any, values: Values = None) -> str:
    """In ASCII: 1 - y**2."""
    return Ascii(values)(e)


def latex(e: Any, values: Values = None) -> str:
    """In LaTeX: 1 - {y}^{2}."""
    return Latex(values)(e)


def source(e: Any) -> str:
    """As NumPy source: (1 - (y * y))."""
    return Source()(e)


FORMS: dict[str, Callable[..., str]] = {"notation": notation, "ascii": ascii, "latex": latex, "source": source}
