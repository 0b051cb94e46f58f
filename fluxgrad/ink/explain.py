"""The worked derivation: each step of a sweep as symbol = symbols = numbers = result, to be followed with a pencil.

It reads the record of the sweep (`fg.flows`), and its formulas come from calling the rows of that record with Ink. So what
stands here is what ran, and a rule that is swapped at run time reads differently here too. Of an array one element is
worked out, and of what that came from, the element that it came from.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fluxgrad.ink.element import REST, element, label, summed
from fluxgrad.ink.operand import Ink, number, symbol
from fluxgrad.ink.printers import Ascii, Latex, Printer
from fluxgrad.ink.wiggle import Check, can_print, check, element_of, in_ascii
from fluxgrad.rules.kinds import Elementwise, Fused, chain
from fluxgrad.rules.linear import unstretch
from fluxgrad.sweep import Flows, Step, push_step, flows
from fluxgrad.tensor import Array, Tensor

Form = Literal["notation", "ascii", "latex"]
Index = tuple[int, ...]

DOT = "\u0307"
L_DOT = "L" + DOT
_WIDE = 38  # what is longer stands on a line of its own
_TERMS = 4  # so many contributions are added up in full

# ----- Names -----


def names_of(flows: Flows) -> dict[Tensor, str]:
    """A name for every tensor of a record, no two alike: its own; else L for the root, x1, x2, … for leaves, v1, v2, …
    for results, c1, c2, … for constant arrays, in the order in which they were made. A single constant has its number."""
    constants: dict[Tensor, None] = {}
    for s in reversed(flows.steps):
        for p, parent in zip(s.output.operands, s.parents, strict=True):
            if parent is None or parent not in flows:
                constants[p] = None
    given = {t: _word(t.name or "") for t in (*flows.tensors, *constants)}
    taken = {*given.values(), "L"} - {""}
    used: set[str] = set()
    counts = Counter[str]()
    names: dict[Tensor, str] = {}
    given[flows.root] = given[flows.root] or "L"
    for t in (flows.root, *flows.tensors, *constants):
        if t in names or (t in constants and not given[t] and t.size == 1):
            continue
        name = given[t]
        while not name:
            letter = "c" if t in constants else "x" if t.row is None else "v"
            counts[letter] += 1
            name = f"{letter}{counts[letter]}"
            name = "" if name in taken else name
        alike, k = name, 1
        while alike in used or (k > 1 and alike in taken):
            k += 1
            alike = f"{name}_{k}"
        used.add(alike)
        names[t] = alike
    return names


def _word(name: str) -> str:
    """A name fit to stand in a formula: one line of at most 40 letters; in quotes where it could be taken for more."""
    kept = "".join(" " if c.isspace() else c for c in name[:4096] if c.isspace() or unicodedata.category(c)[0] != "C")
    kept = " ".join(unicodedata.normalize("NFC", kept).split())
    kept = kept if len(kept) <= 40 else kept[:39] + "…"
    dotted = any(mark in unicodedata.normalize("NFD", kept) for mark in (DOT, "\u0308"))
    if not kept or (re.fullmatch(r"[^\W\d](\w|\.(?=\w)|[\u0300-\u036f])*", kept) and kept != "n" and not dotted):
        return kept
    return "“" + re.sub("[“”]", "'", kept) + "”"


# ----- What the rows of a record write -----


def _reads(expression: Callable[[], Any]) -> Any:
    """What calling a rule with Ink gives; None where the rule looks inside its operands."""
    try:
        with np.errstate(all="ignore"):
            return expression()
    except Exception:
        return None


class _Book:
    """Symbols for the tensors of one record, and the expressions that its rows make of them."""

    def __init__(self, record: Flows) -> None:
        self.record = record
        self.names = names_of(record)
        self.flows: dict[str, Tensor] = {}  # whose fluxion or velocity a symbol is
        self.dotted: dict[str, str] = {}  # a velocity's symbol, and the name that carries the dot

    def fluxion(self, t: Tensor) -> str:
        name = f"{L_DOT}_{self.names[t]}"
        self.flows[name] = t
        return name

    def velocity(self, t: Tensor) -> str:
        """ẋ: the dot on the first letter of a short name, behind any other."""
        name = self.names[t]
        short = re.fullmatch(r"[A-Za-z]\d*", name)
        text = unicodedata.normalize("NFC", name[0] + DOT + name[1:]) if short else f"{name}˙"
        self.flows[text], self.dotted[text] = t, name
        return text

    def operands(self, step: Step) -> tuple[Ink, list[Ink]]:
        """y, and what it was made of."""
        inputs = [
            symbol(self.names[p], x) if p in self.names else number(x.reshape(-1)[0].item())
            for p, x in zip(step.output.operands, step.inputs, strict=True)
        ]
        return symbol(self.names[step.output], step.output._value), inputs

    def pulled(self, step: Step, i: int) -> Any:
        """What a step sends back to its operand i."""
        row, (y, inputs), shape = step.row, self.operands(step), step.inputs[i].shape
        root = step.output is self.record.root
        g: Any = Ink("number", (1,), step.fluxion) if root else symbol(self.fluxion(step.output), step.fluxion)

        def sent() -> Any:
            if isinstance(row, Elementwise):
                c = chain(g, row.fluxions[i](y, *inputs, **step.options))
            else:
                c = row.pull(i, g, y, inputs, step.options)
            return self._apart(unstretch(c if isinstance(c, Ink) else number(c), shape))

        found = _reads(sent)
        return self.unread(step, step.contributions[i]) if found is None else found

    def pushed(self, step: Step, velocities: Sequence[Array | None], v: Array, at: Index) -> tuple[Any, Any]:
        """How the output moves where its operands do: all of it, and its element `at`."""
        row: Any = step.row
        y, inputs = self.operands(step)
        moving: list[Any] = [
            None if v is None else symbol(self.velocity(p), v)
            for p, v in zip(step.output.operands, velocities, strict=True)
        ]

        def moves() -> tuple[Any, Any]:
            if isinstance(row, Fused):  # its pull, read the other way: how element `at` answers each number that moves
                one = np.zeros(y.sample.shape)
                one[at] = 1
                g = one if one.ndim else number(1)
                total: Any = None
                for i, v in enumerate(moving):
                    if v is not None:
                        term: Any = summed(unstretch(row.pull(i, g, y, inputs, step.options), v.sample.shape) * v)
                        total = term if total is None else total + term
                return None, self._apart(total)
            whole = row.push(moving, y, inputs, step.options)
            if isinstance(whole, Ink) and whole.op == row.name and not isinstance(row.value, np.ufunc):
                named = whole
                opened = _reads(lambda: row.value(*named.args, **named.options))
                whole = named if opened is None else opened
            whole = self._apart(whole if np.shape(whole) == y.sample.shape else np.broadcast_to(whole, y.sample.shape))
            return whole, element(whole, at)

        found = _reads(moves)
        return found or (None, element(self.unread(step, v), at))

    def computed(self, step: Step) -> Any:
        """How the output was made: a sum or a short loss opened to what it is, any other row by its name."""
        row, (_, inputs) = step.row, self.operands(step)
        opened = None if isinstance(row, Elementwise) else _reads(lambda: row.value(*inputs, **step.options))
        if opened is None or (isinstance(row, Fused) and len(_printed(Printer(), opened)) > 60):
            opened = _reads(lambda: row(*inputs, **step.options))
        return self._apart(opened)

    def unread(self, step: Step, value: Any) -> Ink:
        return symbol(f"“what {step.row.name} gives”", value)

    def _apart(self, e: Any) -> Any:
        """An expression whose named parts (p = σ(z)) go by no tensor's name."""
        if not isinstance(e, Ink) or e.op in ("symbol", "number"):
            return tuple(map(self._apart, e)) if type(e) is tuple else e
        args, options, taken = tuple(map(self._apart, e.args)), e.options, self.names.values()
        if e.op == "part" and options["name"] in taken:
            options = {"name": next(n for k in range(len(taken) + 1) if (n := f"{options['name']}{k}") not in taken)}
        same = options is e.options and all(a is b for a, b in zip(args, e.args, strict=True))
        return e if same else Ink(e.op, args, e.sample, options)


def _printed(printer: Printer, e: Any) -> str:
    text = _reads(lambda: printer(e))
    return text if isinstance(text, str) else getattr(e, "op", "?")


def _symbols(e: Any) -> Iterator[Ink]:
    """The symbols of an expression, from left to right."""
    waiting = [e]
    while waiting:
        e = waiting.pop()
        if isinstance(e, Ink):
            if e.op == "symbol":
                yield e
            waiting += [*e.options.values(), *reversed(e.args)]
        elif isinstance(e, tuple | list):
            waiting += reversed(e)


# ----- The lines of a derivation, before they are put into words -----


class _Term(NamedTuple):
    """One contribution: who sent it, and its expression, in arrays and for one element."""

    sender: Tensor | None
    whole: Any
    worked: Ink


class _Line(NamedTuple):
    """One thing that is worked out: its symbol, its value, which element of it, and what it is the sum of."""

    tensor: Tensor
    symbol: str
    value: Array
    at: Index
    terms: tuple[_Term, ...]
    feeds: tuple[str, ...] = ()
    end: bool = False
    check: Check | None = None


class _Chooser:
    """Which element of each array is worked out: the given one; else the one that something worked out before came from;
    else the largest. It is asked last line first, so that in print each number comes from one above."""

    def __init__(self, book: _Book, given: dict[Tensor, Index]) -> None:
        self.book, self.chosen = book, dict(given)

    def __call__(self, t: Tensor, value: Array) -> Index:
        if t not in self.chosen:
            size = np.nan_to_num(np.abs(value.astype(np.float64)), nan=np.inf)
            largest = np.unravel_index(int(size.argmax()), value.shape) if size.size else (0,) * value.ndim
            self.chosen[t] = tuple(map(int, largest))
        return self.chosen[t]

    def met(self, worked: Sequence[Ink]) -> None:
        largest: dict[Tensor, tuple[float, Index]] = {}
        for s in (s for e in worked for s in _symbols(e)):
            base, at = _split(s.args[0])
            t = self.book.flows.get(base)
            if t is not None and at and abs(float(s.sample)) > largest.get(t, (-1.0, ()))[0]:
                largest[t] = abs(float(s.sample)), tuple(map(int, at[1:-1].split(",")))
        self.chosen = {t: at for t, (_, at) in largest.items()} | self.chosen


def _split(name: str) -> tuple[str, str]:
    """A symbol's name without, and the index that it ends in, if any. (A tensor's own name with brackets is in quotes.)"""
    base = re.sub(r"\[[\d, ]+\]$", "", name)
    return base, name[len(base) :]


def _completed(record: Flows, wrt: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in the order in which their fluxions become complete, each when the last that it feeds has sent its
    part; of those that lie on the way to `wrt`, if there are such."""
    within = set(wrt or record.tensors)
    for s in reversed(record.steps):
        if not within.isdisjoint(p for p in s.parents if p is not None):
            within.add(s.output)
    sent = [
        p
        for s in record.steps
        for p, c in zip(s.parents, s.contributions, strict=True)
        if p is not None and c is not None
    ]
    last = {p: k for k, p in enumerate(sent)}
    return [p for k, p in enumerate(sent) if last[p] == k and p in within]


def _cut(found: list[Any], limit: int) -> tuple[list[Any], int, int]:
    """At most so many, from both ends; how many come before the gap, and how many are left out."""
    left = max(0, len(found) - limit)
    first = limit - limit // 3 if left else len(found)
    return found[:first] + found[first + left :], first, left


def _backwards(
    book: _Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int, checked: bool
) -> tuple[list[_Line], int, int]:
    record, ends = book.record, set(wrt)
    tensors, first, left = _cut(_completed(record, wrt), limit)
    sent: dict[Tensor, list[tuple[Step, int]]] = {t: [] for t in tensors}
    for s in reversed(record.steps):  # so the senders stand in the order in which they were made
        for i, (p, c) in enumerate(zip(s.parents, s.contributions, strict=True)):
            if p in sent and c is not None:
                sent[p].append((s, i))
    choose, lines = _Chooser(book, at), []
    for t in reversed(tensors):
        value, parts = record[t], sent[t]
        index, end = choose(t, value), t in ends if ends else t.row is None
        terms: list[_Term] = []
        held = None
        if value.size:
            for s, i in parts if len(parts) <= _TERMS else [*parts[:2], parts[-1]]:
                whole = book.pulled(s, i)
                worked = _reads(lambda whole=whole: element(whole, index))  # type: ignore[misc]  # noqa: B023
                if worked is None:
                    worked = element(book.unread(s, s.contributions[i]), index)
                terms.append(_Term(s.output, whole, worked))
            if len(parts) > _TERMS:
                rest = symbol(REST, sum(s.contributions[i][index] for s, i in parts[2:-1]))  # type: ignore[index]
                terms.insert(2, _Term(None, rest, rest))
            if checked and end:
                held = check(record.root, t, index, float(record.value(t)[index]), float(value[index]))
        choose.met([x.worked for x in terms])
        feeds = tuple(book.names[s.output] for s, _ in parts)
        lines.append(_Line(t, book.fluxion(t), value, index, tuple(terms), feeds, end, held))
    return lines[::-1], first, left


def _forwards(book: _Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int) -> tuple[list[_Line], int, int]:
    """The push: every leaf, or the given ones, moves with velocity 1; of an array with `at`, that element alone."""
    record = book.record
    velocities: dict[Tensor, Any] = {}
    for t in wrt or [t for t in record.tensors if t.row is None]:
        velocities[t] = np.ones(t.shape, t.dtype)
        if t in at:
            velocities[t] *= 0
            velocities[t][at[t]] = 1
    found: list[tuple[Tensor, Step | None, list[Any]]] = [(t, None, []) for t in velocities]
    for s in reversed(record.steps):
        moving = [velocities.get(p) for p in s.output.operands]
        if s.output not in velocities and any(v is not None for v in moving):
            v = push_step(s.output, moving, False)
            if v is not None:
                velocities[s.output] = np.broadcast_to(np.asarray(v, s.output.dtype), s.output.shape)
                found.append((s.output, s, moving))
    found, first, left = _cut(found, limit)
    choose, lines = _Chooser(book, at), []
    for t, step, moving in reversed(found):
        value = velocities[t]
        index = choose(t, value)
        terms: tuple[_Term, ...] = ()
        if step is not None and value.size:
            terms = (_Term(t, *book.pushed(step, moving, value, index)),)
            choose.met([terms[0].worked])
        lines.append(_Line(t, book.velocity(t), value, index, terms))
    return lines[::-1], first, left


# ----- Into words -----


class _Row(NamedTuple):
    """A line of text, in columns: label = symbols = numbers = result, and a remark."""

    label: str
    symbols: str = ""
    numbers: str = ""
    result: str = ""
    remark: str = ""
    inner: bool = False


class _Pen:
    """Writes the lines of a derivation in one form."""

    def __init__(self, book: _Book, form: Form) -> None:
        self.book, self.form = book, form
        self.minus = "−" if form == "notation" else "-"
        self.times = {"notation": "·", "ascii": "*", "latex": r" \cdot "}[form]

    def words(self, text: str) -> str:
        return text if self.form == "notation" else in_ascii(text) if self.form == "ascii" else _upright(text)

    def symbol(self, name: str) -> str:
        """A symbol's name in this form."""
        base, at = _split(name)
        own = self.book.dotted.get(base)
        if self.form == "notation":
            return name
        if self.form == "ascii":
            base = f"{own}'" if own else base.replace(f"{L_DOT}_", "dL/d")
            return in_ascii(base) + at
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
            digits, power = f"{size / 10.0**power:.2f}".rstrip("0").rstrip("."), power
            exponent = str(power).replace("-", self.minus)
            text = rf"{digits}\mathrm{{e}}{{{exponent}}}" if self.form == "latex" else f"{digits}e{exponent}"
        return f"{self.minus}{text}" if float(x) < 0 else text

    # An expression, in symbols and in numbers

    def printer(self, values: dict[str, str] | None = None) -> Printer:
        printer = {"notation": Printer, "ascii": Ascii, "latex": Latex}[self.form](values)
        printer.symbol = self.symbol  # type: ignore[method-assign]
        return printer

    def symbols(self, e: Any) -> str:
        return self._spaced(_printed(self.printer(), e), e, None)

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
            steps = _steps(x)
            if x.sample.dtype == bool or any(np.ndim(a.sample) for a in x.args if isinstance(a, Ink)):
                return known(f"#{id(x)}", x.sample)  # a condition is 1 or 0; a call of whole arrays is its number
            if (
                beside
                and not product
                and x.op != "negative"
                and not self._flow(x)
                and (steps > 1 or not hasattr(np, x.op))
            ):
                return known(f"#{id(x)}", x.sample)
            return Ink(x.op, [walk(a, product and (beside or self._flow(x))) for a in x.args], x.sample, x.options)

        told = walk(e, False)
        text = _printed(self.printer(values), told)
        minus = re.escape(self.minus)
        below = rf"{minus}[\d.]+(?:e{minus}?\d+)?"
        text = re.sub(rf"^\(({below}|[\d.]+e{minus}\d+)\)(?=·|\*(?!\*)|/| \\cdot)", r"\1", text)
        text = re.sub(rf"(?:(?<=[+{self.minus}] )|(?<={self.minus}))({below})", r"(\1)", text)
        return self._spaced(text, e, values.get(next((s.args[0] for s in _symbols(told)), "")))

    def _flow(self, e: Ink) -> bool:
        """Whether a fluxion or a velocity is in it."""
        return any(_split(s.args[0])[0] in self.book.flows for s in _symbols(e))

    def _spaced(self, text: str, e: Any, first: str | None) -> str:
        """L̇_y · ẏ_x: what came in stands apart from what it meets."""
        lead = next((s for s in _symbols(e)), None)
        if self.form == "notation" and lead is not None and _split(lead.args[0])[0] in self.book.flows:
            lead_text = f"{first or lead.args[0]}·"
            if text.startswith(lead_text):
                return f"{lead_text[:-1]} · {text[len(lead_text) :]}"
        return text

    def joined(self, texts: Sequence[str]) -> str:
        """Terms added up."""
        out = texts[0]
        for text in texts[1:]:
            number = re.fullmatch(rf"{re.escape(self.minus)}[\d.]+", text)
            take = text.startswith(self.minus) and not number
            out += f" {self.minus} {text[1:]}" if take else f" + ({text})" if number else f" + {text}"
        return out

    def worked(self, line: _Line) -> tuple[str, str, str]:
        """Symbols, numbers and result of the chosen element; what would be said twice, once."""
        if not line.terms:
            return "", "", self.figure(line.value[line.at])
        symbols = self.joined([self.symbols(x.worked) for x in line.terms])
        numbers = self.joined([self.numbers(x.worked) for x in line.terms])
        return _once(symbols, numbers, self.figure(line.value[line.at]))

    # Rows

    def shape(self, value: Array) -> str:
        return self.words(f"array {value.shape if value.ndim == 1 else '×'.join(map(str, value.shape))}")

    def rows(self, line: _Line) -> list[_Row]:
        if line.value.size == 0:
            return [_Row(self.symbol(line.symbol), remark=self.shape(line.value))]
        rows, inner = [], line.value.size > 1 and bool(line.terms)
        if inner:
            whole = [x.whole for x in line.terms]
            text = "" if whole[0] is None else self.joined([self.symbols(e) for e in whole])
            rows.append(_Row(self.symbol(line.symbol), text, remark=self.shape(line.value)))
        all_move = not line.terms and bool((line.value == 1).all())
        name = self.symbol(line.symbol if all_move else label(line.symbol, line.at, line.value.size))
        rows.append(_Row(name, *self.worked(line), self.words(self.remark(line)), inner))
        for part, inside in dict(p for x in line.terms for p in _parts(x.worked)).items():
            cells = _once(self.symbols(inside), self.numbers(inside), self.figure(inside.sample))
            rows.append(_Row(self.symbol(part), *cells, inner=True))
        if line.check is not None:
            o, predicted, happened = map(self.figure, line.check[:3])
            said = {"right": "right", "wrong": "WRONG", "kink": "a kink, where its two sides differ"}.get(
                line.check.verdict
            )
            said = (
                self.words("L moved by ") + happened + self.words(f": {said}")
                if said
                else self.words("L is not finite here")
            )
            product = f"{self.figure(line.value[line.at])}{self.times}{o}"
            rows.append(_Row(f"{name}{self.times}o", product, "", predicted, said, True))
        return rows

    def remark(self, line: _Line) -> str:
        """What a line waited for, and what it says."""
        said, feeds = [], list(dict.fromkeys(line.feeds))
        if len(feeds) > 1:
            said.append(f"waits for {_listed(feeds)}")
        elif len(line.feeds) > 1:
            said.append(f"feeds {feeds[0]} {'twice' if len(line.feeds) == 2 else f'{len(line.feeds)} times'}")
        if not line.terms:
            said.append("given, for every element" if line.value.size > 1 and (line.value == 1).all() else "given")
        elif line.end and not math.isnan(x := float(line.value[line.at])):
            name = label(self.book.names[line.tensor], line.at, line.value.size)
            said.append(f"raise {name} and L {'rises' if x > 0 else 'falls'}" if x else f"L does not answer {name}")
        return "; ".join(said)

    def made(self, step: Step) -> list[_Row]:
        """How a value was computed, and the named parts of that."""
        name, value, e = self.symbol(self.book.names[step.output]), step.output._value, self.book.computed(step)
        parts = [_Row(self.symbol(part), self.symbols(x), inner=True) for part, x in dict(_parts(e)).items()]
        if value.size != 1:
            return [_Row(name, self.symbols(e), remark=self.shape(value)), *parts]
        worked = _reads(lambda: element(e, (0,) * value.ndim))
        cells = _once(self.symbols(e), "" if worked is None else self.numbers(worked), self.figure(value.item()))
        return [_Row(name, *cells), *parts]


def _once(symbols: str, numbers: str, result: str) -> tuple[str, str, str]:
    return "" if symbols == result else symbols, "" if numbers in (result, symbols) else numbers, result


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else [*names]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _steps(e: Any) -> int:
    """How many operations lie one within the other; a square is one."""
    if not isinstance(e, Ink) or e.op in ("symbol", "number", "part"):
        return 0
    return 1 + max((_steps(x) for x in e.args), default=0)


def _parts(e: Any) -> Iterator[tuple[str, Ink]]:
    """The named parts of an expression, the inner ones first."""
    if isinstance(e, Ink):
        for x in e.args:
            yield from _parts(x)
        if e.op == "part":
            yield e.options["name"], e.args[0]


_IN_LATEX = {
    "\\": r"\backslash ",
    "^": r"\wedge ",
    "~": r"\sim ",
    "…": r"\ldots ",
    "|": r"\vert ",
    "×": r"\times ",
    "`": "'",
}


def _upright(text: str) -> str:
    r"""Words in LaTeX, with nothing in them that is a command."""
    inside = "".join(_IN_LATEX.get(c) or (f"\\{c}" if c in " {}_%#&$" else c) for c in text)
    return rf"\mathrm{{{inside}}}" if text else ""


def _latex(name: str) -> str:
    """A name in LaTeX: w, v_{1}, and words upright."""
    numbered = re.fullmatch(r"([^\W\d_])(\d*)", name)
    if numbered is None:
        return _upright(name)
    return f"{numbered[1]}_{{{numbered[2]}}}" if numbered[2] else name


def _width(text: str) -> int:
    """How many columns a terminal gives it."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _aligned(rows: Sequence[_Row | str]) -> list[str]:
    """Rows in columns; what is too wide for its column goes on below, under its equals sign."""
    flat = [r for r in rows if isinstance(r, _Row) and max(_width(r.symbols), _width(r.numbers)) <= _WIDE]
    labels = max((_width(r.label) + 2 * r.inner for r in rows if isinstance(r, _Row)), default=0)
    widths = [max((_width(cells[k]) for _, *cells, _, _ in flat), default=0) for k in range(3)]
    out = []
    for r in rows:
        if isinstance(r, str):
            out.append(f"  {r}")
            continue
        head = "  " + _pad("  " * r.inner + r.label, labels)
        cells = [c for c in (r.symbols, r.numbers, r.result) if c]
        if r in flat:
            if len(cells) > 1:  # each in its own column
                cells = [r.symbols, r.numbers, r.result]
            line = "".join(
                f"{' = ' if c else '   '}{_pad(c, w)}" for c, w in zip(cells or [""], widths, strict=False) if w
            )
            out.append(f"{head}{line}   {r.remark}".rstrip())
        else:
            out += [f"{head if k == 0 else ' ' * (labels + 2)} = {cell}" for k, cell in enumerate(cells)]
            out[-1] += f"   {r.remark}" if r.remark else ""
    return out


def _in_math(r: _Row | str, equals: str = " = ") -> str:
    """A row in LaTeX."""
    if isinstance(r, str):
        return _upright(r)
    return equals.join([r.label, " = ".join(filter(None, r[1:4]))]) if any(r[1:4]) else r.label


# ----- The derivation -----


class Worked(NamedTuple):
    """One step of a derivation, as data; its texts are in the derivation's form."""

    tensor: Tensor
    name: str
    symbol: str
    """What is worked out: `L̇_w`, or of an array one element, `L̇_w[0, 2]`."""
    symbols: str
    numbers: str
    """Empty where they would say what the symbols, or the result, say."""
    result: float
    value: Array
    """All of it: L̇_w (of a push ẇ), of w's shape."""
    at: tuple[int, ...]
    waits_for: tuple[str, ...]
    """What w feeds, if it is more than one: L̇_w is complete when each has sent its part."""
    remark: str
    check: Check | None


@dataclass(frozen=True, eq=False, repr=False)
class Derivation:
    """A worked derivation: print it, look at its `steps`, or let a notebook show it."""

    _book: _Book
    _lines: list[_Line]
    _first: int
    _left: int
    _mode: str
    _wrt: Sequence[Tensor]
    form: Form

    @property
    def steps(self) -> list[Worked]:
        """The steps as data, in the order in which they run."""
        pen, out = _Pen(self._book, self.form), []
        for line in self._lines:
            if line.value.size:
                feeds = tuple(dict.fromkeys(line.feeds))
                what = pen.symbol(label(line.symbol, line.at, line.value.size))
                symbols, numbers, result = pen.worked(line)
                told = Worked(line.tensor, self._book.names[line.tensor], what, symbols or result, numbers,
                              float(line.value[line.at]), line.value, line.at, feeds if len(feeds) > 1 else (),
                              pen.remark(line), line.check)  # fmt: skip
                out.append(told)
        return out

    def _blocks(self, pen: _Pen) -> list[tuple[str, list[_Row | str]]]:
        """The values that the sweep speaks of, and the sweep; each with its title."""
        record, names = self._book.record, self._book.names
        root, told = names[record.root], _listed([names[w] for w in self._wrt]) if self._wrt else ""
        shown = {x.sender for line in self._lines for x in line.terms} | {x.tensor for x in self._lines} | {record.root}
        values: list[_Row | str] = [r for s in reversed(record.steps) if s.output in shown for r in pen.made(s)]
        sweep: list[_Row | str] = []
        for k, line in enumerate(self._lines):
            if self._left and k == self._first:
                dots = "..." if pen.form == "ascii" else "…"
                sweep.append(f"{dots} {self._left:,} steps are left out {dots}")
            sweep += pen.rows(line)
        if self._mode == "push":
            title = f"The push{' from ' * bool(told)}{told}, earliest first (ẋ is the velocity of x):"
        else:
            start = (
                f"L is {root}; " * (root != "L") + f"{L_DOT}_{root} = 1" + " for each element" * (record.root.size > 1)
            )
            title = f"The sweep back{' to ' * bool(told)}{told}, latest first ({start}; {L_DOT}_x is ∂L/∂x, the .grad of x):"
        if pen.form == "ascii":
            title = title.replace("ẋ", "x'").replace(f"{L_DOT}_x is ∂L/∂x,", "dL/dx is").replace(f"{L_DOT}_", "dL/d")
            title = in_ascii(title)
        return [("The values, as they were made:", values), (title, sweep)]

    def text(self, form: Form) -> str:
        """The derivation in one of the three forms."""
        blocks = self._blocks(_Pen(self._book, form))
        if form != "latex":
            return "\n\n".join("\n".join([title, *_aligned(rows)]) for title, rows in blocks)
        remarks = [
            (r, rf" \quad {r.remark}" if isinstance(r, _Row) and r.remark else "") for _, rows in blocks for r in rows
        ]
        lines = " \\\\\n".join(_in_math(r, " &= ") + remark for r, remark in remarks)
        return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"

    def __str__(self) -> str:
        return self.text("ascii" if self.form == "notation" and not can_print() else self.form)

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.text('latex')}$"

    def _repr_markdown_(self) -> str:
        out = []
        titles = [title for title, _ in self._blocks(_Pen(self._book, "notation"))]
        for title, (_, rows) in zip(titles, self._blocks(_Pen(self._book, "latex")), strict=True):
            out += [re.sub(r"([\\`*_{}\[\]<>|$#])", r"\\\1", title), "", "| | |", "|---|---|"]
            for r in rows:
                remark = f"${r.remark}$" if isinstance(r, _Row) and r.remark else ""
                out.append(f"| $\\displaystyle {_in_math(r)}$ | {remark} |")
            out.append("")
        return "\n".join(out)


def explain(
    L: Tensor,
    *wrt: Tensor,
    mode: Literal["pull", "push"] = "pull",
    at: int | Sequence[int] | None = None,
    check: bool = False,
    limit: int = 40,
    form: Form = "notation",
) -> Derivation:
    """The worked derivation of L̇: each step of the backward sweep as symbol = symbols = numbers = result.

    `explain(L, w)` shows only the paths to w. Of an array one element is worked out: `at` of w (without w: of every array
    that has it), else the largest, and then those that it came from. `check=True` moves each leaf by a small o, and puts
    what happened to L beside what L̇_w·o predicts. `mode="push"` is the forward sweep: w, or every leaf, moves with velocity
    1 (`at`: that element alone). Of more than `limit` steps the first and last are shown. `form` is "notation", "ascii" or
    "latex"; where the terminal cannot print a dot, notation becomes ASCII. Touches no `.grad`.

    Raises ValueError where L depends on nothing that requires grad or no path leads to w, and for an unknown mode or form;
    IndexError for an element that is nowhere.

    >>> import fluxgrad as fg
    >>> from fluxgrad.ink.explain import explain
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> print(explain(x * x))
    The values, as they were made:
      L = x² = 3² = 9
    <BLANKLINE>
    The sweep back, latest first (L̇_L = 1; L̇_x is ∂L/∂x, the .grad of x):
      L̇_x = x + x = 3 + 3 = 6   feeds L twice; raise x and L rises
    """
    if not isinstance(L, Tensor) or not all(isinstance(w, Tensor) for w in wrt):
        raise TypeError("explain(L, *wrt): L and what to explain it by are tensors of one graph")
    if mode not in ("pull", "push"):
        raise ValueError(f'explain: mode is "pull" or "push"; given {mode!r}')
    if form not in ("notation", "ascii", "latex"):
        raise ValueError(f'explain: form is "notation", "ascii" or "latex"; given {form!r}')
    if limit < 1:
        raise ValueError(f"explain: limit must be at least 1; given {limit!r}")
    record = flows(L)
    for w in wrt:
        if w not in record:
            raise ValueError(f"explain: no path leads from L to {w!r}; it must be in L's graph and require grad")
    book = _Book(record)
    given: dict[Tensor, Index] = {}
    if at is not None:
        for t in wrt or record.tensors:
            try:
                given[t] = element_of(record[t], at, "explain")
            except IndexError:
                if wrt:
                    raise
        if not given:
            raise IndexError(f"explain: at={at!r} is no element of any array here")
    if mode == "push":
        lines, first, left = _forwards(book, wrt, given, limit)
    else:
        lines, first, left = _backwards(book, wrt, given, limit, check)
    return Derivation(book, lines, first, left, mode, wrt, form)


__all__ = ["Derivation", "Worked", "explain", "names_of"]
