"""The lines of a derivation in words: in the notation, in ASCII or in LaTeX, and in columns."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fluxgrad.ink.book import Book, Line, parts_of, printed, reads, split, symbols_of
from fluxgrad.ink.element import REST, element, label
from fluxgrad.ink.names import L_DOT
from fluxgrad.ink.operand import Ink, symbol
from fluxgrad.ink.printers import Ascii, Latex, Printer, in_ascii
from fluxgrad.sweep import Step
from fluxgrad.tensor import Array

Form = Literal["notation", "ascii", "latex"]
_WIDE = 38  # what is longer stands on a line of its own
_MOST = 12  # terms of one sum: its elements are cut before


class Row(NamedTuple):
    """A line of text, in columns: label = symbols = numbers = result, and a remark."""

    label: str
    symbols: str = ""
    numbers: str = ""
    result: str = ""
    remark: str = ""
    inner: bool = False


class Pen:
    """Writes the lines of a derivation in one form."""

    def __init__(self, book: Book, form: Form) -> None:
        self.book, self.form = book, form
        self.minus = "−" if form == "notation" else "-"
        self.times = {"notation": "·", "ascii": "*", "latex": r" \cdot "}[form]

    def words(self, text: str) -> str:
        return text if self.form == "notation" else in_ascii(text) if self.form == "ascii" else upright(text)

    def symbol(self, name: str) -> str:
        """A symbol's name in this form."""
        base, at = split(name)
        own = self.book.dotted.get(base)
        if self.form == "notation":
            return name
        if self.form == "ascii":
            return in_ascii(f"{own}'" if own else base) + at
        if own:
            short = not base.endswith("˙")
            return rf"\dot{{{own[0]}}}_{{{own[1:]}}}{at}" if short and own[1:] else rf"\dot{{{_latex(own)}}}{at}"
        if base.startswith(f"{L_DOT}_"):
            return rf"\dot{{L}}_{{{_latex(base[3:])}{at}}}"
        return r"\ldots" if name == REST else _latex(base) + at

    def figure(self, x: Any) -> str:
        """A number as one writes it down: three digits behind the point, or three that count."""
        size = abs(float(x))
        if math.isnan(size):
            return self.words("NaN")
        power = math.floor(math.log10(size)) if 0 < size < math.inf else 0
        if math.isinf(size):
            text = {"notation": "∞", "ascii": "inf", "latex": r"\infty"}[self.form]
        elif -4 <= power < 6:
            text = f"{size:.{3 if power == -1 else max(0, (3 if power >= 0 else 2) - power)}f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
        else:
            digits = f"{size / 10.0**power:.2f}".rstrip("0").rstrip(".")
            exponent = str(power).replace("-", self.minus)
            text = rf"{digits}\mathrm{{e}}{{{exponent}}}" if self.form == "latex" else f"{digits}e{exponent}"
        return f"{self.minus}{text}" if float(x) < 0 else text

    # An expression, in symbols and in numbers

    def printer(self, values: dict[str, str] | None = None) -> Printer:
        printer = {"notation": Printer, "ascii": Ascii, "latex": Latex}[self.form](values)
        printer.symbol = self.symbol  # type: ignore[method-assign]  # this derivation's names, whatever the form
        printer.most = max(printer.most, _MOST)
        return printer

    def symbols(self, e: Any) -> str:
        return self._spaced(printed(self.printer(), e), e)

    def numbers(self, e: Ink) -> str:
        """The same expression with its numbers. Beside a fluxion, what takes more than one step is worked out."""
        values: dict[str, str] = {}
        met: dict[str, Ink] = {}

        def known(name: str, value: Any) -> Ink:
            if name not in met:
                met[name] = symbol(f"#{len(met)}", value)
                values[met[name].args[0]] = self.figure(value)
            return met[name]

        def walk(x: Any, beside: bool) -> Any:
            if not isinstance(x, Ink) or x.op == "number" or x.args[0] is REST:
                return x
            if x.op in ("symbol", "part"):
                return known(x.options.get("name") or x.args[0], x.sample)
            product = x.op in ("multiply", "divide")
            flows = self._flow(x)
            deep = any(isinstance(a, Ink) and a.op not in ("symbol", "number", "part") for a in x.args)
            apart = beside and not product and x.op != "negative" and not flows
            whole = any(np.ndim(a.sample) for a in x.args if isinstance(a, Ink))
            if x.sample.dtype == bool or whole or (apart and (deep or not hasattr(np, x.op))):
                return known(f"#{id(x)}", x.sample)  # a condition is 1 or 0; a call of whole arrays is its number
            return Ink(x.op, [walk(a, product and (beside or flows)) for a in x.args], x.sample, x.options)

        told = walk(e, False)
        text = printed(self.printer(values), told)
        minus = re.escape(self.minus)
        below = rf"{minus}[\d.]+(?:e{minus}?\d+)?"
        text = re.sub(rf"^\(({below}|[\d.]+e{minus}\d+)\)(?=·|\*(?!\*)|/| \\cdot)", r"\1", text)
        text = re.sub(rf"(?:(?<=[+{self.minus}] )|(?<={self.minus}))({below})", r"(\1)", text)
        return self._spaced(text, e, values.get(next((s.args[0] for s in symbols_of(told)), ""), ""))

    def _flow(self, e: Ink) -> bool:
        """Whether a fluxion or a velocity is in it."""
        return any(split(s.args[0])[0] in self.book.flows for s in symbols_of(e))

    def _spaced(self, text: str, e: Any, first: str = "") -> str:
        """L̇_y · ẏ_x: what came in stands apart from what it meets."""
        lead = next(symbols_of(e), None)
        if self.form == "notation" and lead is not None and self._flow(lead):
            first = first or lead.args[0]
            if text.startswith(f"{first}·"):
                return f"{first} · {text[len(first) + 1 :]}"
        return text

    def joined(self, texts: Sequence[str]) -> str:
        """Terms added up."""
        out = texts[0]
        for text in texts[1:]:
            number = re.fullmatch(rf"{re.escape(self.minus)}[\d.]+", text)
            take = text.startswith(self.minus) and not number
            out += f" {self.minus} {text[1:]}" if take else f" + ({text})" if number else f" + {text}"
        return out

    def worked(self, line: Line) -> tuple[str, str, str]:
        """Symbols, numbers and result of the chosen element; what would be said twice, once."""
        if not line.terms:
            return "", "", self.figure(line.value[line.at])
        symbols = self.joined([self.symbols(x.worked) for x in line.terms])
        numbers = self.joined([self.numbers(x.worked) for x in line.terms])
        return _once(symbols, numbers, self.figure(line.value[line.at]))

    # Rows

    def shape(self, value: Array) -> str:
        return self.words(f"array {value.shape if value.ndim == 1 else '×'.join(map(str, value.shape))}")

    def rows(self, line: Line) -> list[Row]:
        if line.value.size == 0:
            return [Row(self.symbol(line.symbol), remark=self.shape(line.value))]
        rows, inner = [], line.value.size > 1 and bool(line.terms)
        if inner:
            whole = [x.whole for x in line.terms]
            text = "" if whole[0] is None else self.joined([self.symbols(e) for e in whole])
            rows.append(Row(self.symbol(line.symbol), text, remark=self.shape(line.value)))
        name = self.symbol(line.symbol if line.every else label(line.symbol, line.at, line.value.size))
        rows.append(Row(name, *self.worked(line), self.words(self.remark(line)), inner))
        for part, inside in dict(p for x in line.terms for p in parts_of(x.worked)).items():
            if inside.sample.ndim:  # of a call that is not taken apart
                rows.append(Row(self.symbol(part), self.symbols(inside), remark=self.shape(inside.sample), inner=True))
                continue
            cells = _once(self.symbols(inside), self.numbers(inside), self.figure(inside.sample))
            rows.append(Row(self.symbol(part), *cells, inner=True))
        if line.check is not None:
            o, predicted, happened = map(self.figure, line.check[:3])
            verdict = {"right": "right", "wrong": "WRONG", "kink": "a kink, where its two sides differ"}
            said = self.words("L is not finite here")
            if line.check.verdict in verdict:
                said = self.words("L moved by ") + happened + self.words(f": {verdict[line.check.verdict]}")
            product = f"{self.figure(line.value[line.at])}{self.times}{o}"
            rows.append(Row(f"{name}{self.times}o", product, "", predicted, said, True))
        return rows

    def remark(self, line: Line) -> str:
        """What a line waited for, and what it says."""
        said, feeds = [], list(dict.fromkeys(line.feeds))
        if len(feeds) > 1:
            said.append(f"waits for {listed(feeds)}")
        elif len(line.feeds) > 1:
            said.append(f"feeds {feeds[0]} {'twice' if len(line.feeds) == 2 else f'{len(line.feeds)} times'}")
        if not line.terms:
            said.append("given, for every element" if line.every else "given")
        elif line.end and not math.isnan(x := float(line.value[line.at])):
            name = label(self.book.names[line.tensor], line.at, line.value.size)
            said.append(f"raise {name} and L {'rises' if x > 0 else 'falls'}" if x else f"L does not answer {name}")
        return "; ".join(said)

    def made(self, step: Step) -> list[Row]:
        """How a value was computed, and the named parts of that."""
        name, value, e = self.symbol(self.book.names[step.output]), step.output._value, self.book.computed(step)
        parts = [Row(self.symbol(part), self.symbols(x), inner=True) for part, x in dict(parts_of(e)).items()]
        if value.size != 1:
            return [Row(name, self.symbols(e), remark=self.shape(value)), *parts]
        worked = reads(lambda: element(e, (0,) * value.ndim))
        cells = _once(self.symbols(e), "" if worked is None else self.numbers(worked), self.figure(value.item()))
        return [Row(name, *cells), *parts]


def _once(symbols: str, numbers: str, result: str) -> tuple[str, str, str]:
    return "" if symbols == result else symbols, "" if numbers in (result, symbols) else numbers, result


def listed(names: Sequence[str]) -> str:
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else [*names]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


_IN_LATEX = {
    "\\": r"\backslash ",
    "^": r"\wedge ",
    "~": r"\sim ",
    "…": r"\ldots ",
    "|": r"\vert ",
    "×": r"\times ",
    "`": "'",
}


def upright(text: str) -> str:
    r"""Words in LaTeX, with nothing in them that is a command."""
    inside = "".join(_IN_LATEX.get(c) or (f"\\{c}" if c in " {}_%#&$" else c) for c in text)
    return rf"\mathrm{{{inside}}}" if text else ""


def _latex(name: str) -> str:
    """A name in LaTeX: w, v_{1}, and words upright."""
    numbered = re.fullmatch(r"([^\W\d_])(\d*)", name)
    if numbered is None:
        return upright(name)
    return f"{numbered[1]}_{{{numbered[2]}}}" if numbered[2] else name


def _width(text: str) -> int:
    """How many columns a terminal gives it."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def aligned(rows: Sequence[Row | str]) -> list[str]:
    """Rows in columns; what is too wide for its column goes on below, under its equals sign."""
    flat = [r for r in rows if isinstance(r, Row) and max(_width(r.symbols), _width(r.numbers)) <= _WIDE]
    labels = max((_width(r.label) + 2 * r.inner for r in rows if isinstance(r, Row)), default=0)
    widths = [max((_width(cells[k]) for _, *cells, _, _ in flat), default=0) for k in range(3)]
    out = []
    for r in rows:
        if isinstance(r, str):
            out.append(f"  {r}")
            continue
        head = "  " + _pad("  " * r.inner + r.label, labels)
        cells = list(filter(None, r[1:4]))
        if r in flat:
            columns = [c for c, w in zip(r[1:4], widths, strict=True) if w] if len(cells) > 1 else cells or [""]
            line = "".join(
                f"{' = ' if c else '   '}{_pad(c, w)}" for c, w in zip(columns, filter(None, widths), strict=False)
            )
            out.append(f"{head}{line}   {r.remark}".rstrip())
        else:
            out += [f"{' ' * (labels + 2) if k else head} = {cell}" for k, cell in enumerate(cells)]
            out[-1] += f"   {r.remark}" if r.remark else ""
    return out


def in_math(r: Row | str, equals: str = " = ") -> str:
    """A row in LaTeX, without its remark."""
    return upright(r) if isinstance(r, str) else equals.join(filter(None, [r.label, " = ".join(filter(None, r[1:4]))]))


def remark(r: Row | str, frame: str) -> str:
    return frame.format(r.remark) if isinstance(r, Row) and r.remark else ""
