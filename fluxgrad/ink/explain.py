"""The worked derivation: each step of a sweep as symbol = symbols = numbers = result, to be followed with a pencil.

It reads the record of the sweep (`fg.flows`), and its formulas come from calling the rows of that record with Ink. So what
stands here is what ran, and a rule that is swapped at run time reads differently here too. Of an array one element is
worked out, and of what that came from, the element that it came from.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fluxgrad.ink.element import REST, element, label
from fluxgrad.ink.operand import Ink, Length, number, symbol
from fluxgrad.ink.printers import Ascii, Latex, Printer
from fluxgrad.ink.wiggle import Check, check, element_of
from fluxgrad.rules.kinds import Elementwise, Fused, Row, chain, rules
from fluxgrad.rules.linear import unstretch
from fluxgrad.sweep import Flows, Step, _push_step, flows
from fluxgrad.tensor import Array, Tensor

Form = Literal["notation", "ascii", "latex"]
Index = tuple[int, ...]

DOT = "\u0307"
L_DOT = "L" + DOT
_WIDE = 46  # what is longer stands on a line of its own
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


# ----- The lines of a derivation, before they are put into words -----


class _Term(NamedTuple):
    """One contribution: who sent it, as an expression of arrays, and of the numbers of one element."""

    sender: Tensor | None
    whole: Any
    worked: Ink | None
    number: float


class _Line(NamedTuple):
    """One thing that is worked out: what it is called, its value, which element, what it is the sum of, and remarks."""

    tensor: Tensor
    symbol: str
    value: Array
    at: Index
    terms: tuple[_Term, ...]
    senders: tuple[str, ...]
    says: Literal["effect", "given", "moves", ""]
    check: Check | None


class Worked(NamedTuple):
    """One step of a derivation, as data; the texts are in the derivation's form."""

    tensor: Tensor
    name: str
    symbol: str
    """What is worked out: `L̇_w`, of an array one element, `L̇_w[0, 2]`."""
    symbols: str
    numbers: str
    result: float
    value: Array
    """All of it: L̇_w (or ẇ), of the tensor's shape."""
    at: tuple[int, ...]
    waits_for: tuple[str, ...]
    """The values that w feeds: L̇_w is complete when each has sent its part."""
    remark: str
    check: Check | None


def _reads(expression: Callable[[], Any]) -> Any:
    """An expression from calling a rule with Ink; None where the rule looks inside its operands."""
    try:
        with np.errstate(all="ignore"):
            return expression()
    except Exception:
        return None


class _Book:
    """Symbols for the tensors of one record, and what its rows write with them."""

    def __init__(self, record: Flows) -> None:
        self.record = record
        self.names = names_of(record)
        self.flow: dict[str, Tensor] = {}  # whose fluxion or velocity a symbol is
        self.velocity: dict[str, str] = {}  # a velocity's symbol, and whose name carries the dot
        self.taken = set(self.names.values())

    def inputs(self, step: Step) -> list[Ink]:
        return [
            symbol(self.names[p], x) if p in self.names else number(x.reshape(-1)[0].item())
            for p, x in zip(step.output.operands, step.inputs, strict=True)
        ]

    def output(self, step: Step) -> Ink:
        return symbol(self.names[step.output], step.output._value)

    def fluxion(self, t: Tensor) -> str:
        name = f"{L_DOT}_{self.names[t]}"
        self.flow[name] = t
        return name

    def dotted(self, t: Tensor) -> str:
        """ẋ: the dot on the first letter of a short name, behind any other."""
        name = self.names[t]
        short = re.fullmatch(r"[A-Za-z]\d*", name)
        text = unicodedata.normalize("NFC", name[0] + DOT + name[1:]) if short else f"{name}˙"
        self.flow[text], self.velocity[text] = t, name
        return text

    def pulled(self, step: Step, i: int) -> Any:
        """What a step sends back to its operand i."""
        row, y, inputs = step.row, self.output(step), self.inputs(step)
        root = step.output is self.record.root
        g = Ink("number", (1,), step.fluxion) if root else symbol(self.fluxion(step.output), step.fluxion)

        def sent() -> Any:
            if isinstance(row, Elementwise):
                c = chain(g, row.fluxions[i](y, *inputs, **step.options))
            else:
                c = row.pull(i, g, y, inputs, step.options)
            c = c if isinstance(c, Ink) else number(c)
            return self.apart(unstretch(c, step.inputs[i].shape))

        return _reads(sent)

    def pushed(self, step: Step, velocities: Sequence[Array | None], at: Index) -> Any:
        """How the output moves where its operands do."""
        row, y, inputs = step.row, self.output(step), self.inputs(step)
        moving = [
            None if v is None else symbol(self.dotted(p), v)
            for p, v in zip(step.output.operands, velocities, strict=True)
        ]

        def moves() -> Any:
            if isinstance(row, Fused):  # its pull, read the other way: how element `at` answers each number that moves
                g = np.zeros(y.sample.shape)
                g[at] = 1
                total = None
                for i, v in enumerate(moving):
                    if v is not None:
                        answers = unstretch(row.pull(i, g if g.ndim else number(1), y, inputs, step.options), v.sample.shape)
                        term = np.sum(answers * v)  # type: ignore[operator]
                        total = term if total is None else total + term
            else:
                total = row.push(moving, y, inputs, step.options)
                if isinstance(total, Ink) and total.op == row.name and not isinstance(row.value, np.ufunc):
                    total = row.value(*total.args, **total.options)
                if np.shape(total) != y.sample.shape:
                    total = np.broadcast_to(total, y.sample.shape)
            return self.apart(total)

        return _reads(moves)

    def computed(self, step: Step) -> Any:
        """How the output came from the operands: a sum or a loss opened to what it is, any other row by its name."""
        row, inputs = step.row, self.inputs(step)
        opened = None if isinstance(row, Elementwise) else _reads(lambda: row.value(*inputs, **step.options))
        if opened is None or (isinstance(row, Fused) and len(_text(Printer(), opened)) > 60):
            opened = _reads(lambda: row(*inputs, **step.options))
        return self.apart(opened)

    def apart(self, e: Any) -> Any:
        """An expression whose named parts (p = σ(z)) have no tensor's name."""
        if not isinstance(e, Ink) or e.op in ("symbol", "number"):
            return tuple(map(self.apart, e)) if type(e) is tuple else e
        options = e.options
        if e.op == "part" and options["name"] in self.taken:
            k = next(k for k in range(len(self.taken) + 1) if f"{options['name']}{k}" not in self.taken)
            options = {"name": f"{options['name']}{k}"}
        args = tuple(map(self.apart, e.args))
        if options is e.options and all(a is b for a, b in zip(args, e.args, strict=True)):
            return e
        return Ink(e.op, args, e.sample, options)


def _text(printer: Printer, e: Any) -> str:
    text = _reads(lambda: printer(e))
    return text if isinstance(text, str) else getattr(e, "op", "?")


# ----- Which lines there are -----


def _reach(record: Flows, wrt: Sequence[Tensor]) -> set[Tensor]:
    """What lies on a path from one of these to the root."""
    found = set(wrt)
    for s in reversed(record.steps):
        if any(p in found for p in s.parents if p is not None):
            found.add(s.output)
    return found


def _completed(record: Flows, within: set[Tensor]) -> list[Tensor]:
    """The tensors in the order in which their fluxions become complete: each when the last of what it feeds has sent."""
    sent = [[p for p, c in zip(s.parents, s.contributions, strict=True) if p is not None and c is not None] for s in record.steps]
    waiting = Counter(p for parts in sent for p in parts)
    done = []
    for parts in sent:
        for p in parts:
            waiting[p] -= 1
            if not waiting[p] and p in within:
                done.append(p)
    return done


def _cut(found: list[Any], limit: int) -> tuple[list[Any], int, int]:
    """At most so many: the first two thirds, and the last; how many come first, and how many are left out between."""
    if len(found) <= limit:
        return found, len(found), 0
    first = limit - limit // 3
    return found[:first] + found[len(found) - limit // 3 :], first, len(found) - limit


def _largest(value: Array) -> Index:
    """Where the largest entry stands, the first of equals."""
    size = np.nan_to_num(np.abs(value.astype(np.float64)), nan=np.inf)
    return tuple(map(int, np.unravel_index(int(size.argmax()), value.shape))) if size.size else (0,) * value.ndim


def _symbols(e: Any) -> Iterator[Ink]:
    waiting = [e]
    while waiting:
        e = waiting.pop()
        if isinstance(e, Ink):
            if e.op == "symbol":
                yield e
            waiting += [*e.args, *e.options.values()]
        elif isinstance(e, tuple | list):
            waiting += e


class _Chooser:
    """Which element of each array is worked out: the given one; else the one that what is worked out already came from;
    else the largest. So it is asked in the order against that in which they are printed."""

    def __init__(self, given: dict[Tensor, Index]) -> None:
        self.chosen = dict(given)

    def __call__(self, t: Tensor, value: Array) -> Index:
        return self.chosen.setdefault(t, _largest(value))

    def met(self, book: _Book, worked: Sequence[Any]) -> None:
        largest: dict[Tensor, tuple[float, Index]] = {}
        for e in worked:
            for s in _symbols(e):
                base, _, rest = s.args[0].rpartition("[")
                t = book.flow.get(base)
                if t is not None and t not in self.chosen:
                    at, size = tuple(map(int, rest[:-1].split(","))), abs(float(s.sample))
                    if t not in largest or size > largest[t][0]:
                        largest[t] = size, at
        self.chosen |= {t: at for t, (_, at) in largest.items()}


def _backwards(
    book: _Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int, checked: bool
) -> tuple[list[_Line], int, int]:
    record = book.record
    within = _reach(record, wrt) if wrt else set(record.tensors)
    tensors, first, left = _cut(_completed(record, within), limit)
    steps: dict[Tensor, list[tuple[Step, int]]] = {t: [] for t in tensors}
    for s in reversed(record.steps):  # the senders, in the order in which they were made
        for i, (p, c) in enumerate(zip(s.parents, s.contributions, strict=True)):
            if p in steps and c is not None:
                steps[p].append((s, i))
    choose, lines = _Chooser(at), []
    for t in reversed(tensors):
        value = record[t]
        index = choose(t, value)
        sent = steps[t]
        shown = sent if len(sent) <= _TERMS else [*sent[:2], sent[-1]]
        terms = []
        for s, i in shown:
            whole = book.pulled(s, i)
            worked = _reads(lambda whole=whole, index=index: element(whole, index)) if isinstance(whole, Ink) else None  # type: ignore[misc]
            c = s.contributions[i]
            terms.append(_Term(s.output, whole, worked, float(c[index]) if c is not None and c.size else math.nan))
        if len(shown) < len(sent):
            rest = float(sum(s.contributions[i][index] for s, i in sent[2:-1]))  # type: ignore[index]
            terms.insert(2, _Term(None, symbol(REST, rest), symbol(REST, rest), rest))
        choose.met(book, [x.worked for x in terms])
        senders = tuple(dict.fromkeys(book.names[s.output] for s, _ in sent)) if len(sent) > 1 else ()
        ends = t.row is None or t in wrt
        held = None
        if checked and (t in wrt if wrt else t.row is None) and value.size:
            held = check(record.root, t, index, float(record.value(t)[index]), float(value[index]))
        lines.append(_Line(t, book.fluxion(t), value, index, tuple(terms), senders, "effect" if ends else "", held))
    return lines[::-1], first, left


def _forwards(
    book: _Book, wrt: Sequence[Tensor], at: dict[Tensor, Index], limit: int
) -> tuple[list[_Line], int, int]:
    """The push: every leaf, or the given ones, moves with velocity 1, of an array with `at` that element alone."""
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
        if s.output in velocities or all(v is None for v in moving):
            continue
        v = _push_step(s.output, moving, False)
        if v is not None:
            velocities[s.output] = np.broadcast_to(np.asarray(v, s.output.dtype), s.output.shape)
            found.append((s.output, s, moving))
    found, first, left = _cut(found, limit)
    choose, lines = _Chooser(at), []
    for t, step, moving in reversed(found):
        value = velocities[t]
        index = choose(t, value)
        terms: tuple[_Term, ...] = ()
        if step is not None:
            whole = book.pushed(step, moving, index)
            fused = isinstance(step.row, Fused)  # then what was written is the chosen element
            worked = _reads(lambda: element(whole, () if fused else index)) if isinstance(whole, Ink) else None  # noqa: B023
            terms = (_Term(t, None if fused and value.size > 1 else whole, worked, float(value[index])),)
            choose.met(book, [worked])
        says: Any = "given" if step is None else "moves" if t is record.root else ""
        lines.append(_Line(t, book.dotted(t), value, index, terms, (), says, None))
    return lines[::-1], first, left


# ----- Into words -----


class _Row(NamedTuple):
    """A line of text, in columns."""

    label: str
    symbols: str
    numbers: str
    result: str
    remark: str
    inner: bool = False


class _Pen:
    """Writes a derivation's lines in one form."""

    def __init__(self, book: _Book, form: Form) -> None:
        self.book, self.form = book, form
        self.ascii, self.latex = form == "ascii", form == "latex"
        self.minus = "−" if form == "notation" else "-"
        self.times = {"notation": "·", "ascii": "*", "latex": r" \cdot "}[form]

    def printer(self, values: dict[str, str] | None = None) -> Printer:
        printer = {"notation": Printer, "ascii": Ascii, "latex": Latex}[self.form](values)
        printer.symbol = self.symbol  # type: ignore[method-assign]
        return printer

    def symbol(self, name: str) -> str:
        """A symbol's name in this form."""
        if self.form == "notation":
            return name
        base, bracket, rest = name.partition("[") if name[:1] not in "“" and f"{L_DOT}_“" not in name else (name, "", "")
        if base in self.book.velocity:
            own = self.book.velocity[base]
            if self.ascii:
                return f"{_ascii(own)}'{bracket}{rest}"
            return rf"\dot{{{_latex(own[:1] if base[-1] != '˙' else own)}}}{_index(own[1:] if base[-1] != '˙' else '')}{bracket}{rest}"
        if base.startswith(L_DOT + "_"):
            own = base[len(L_DOT) + 1 :]
            return f"dL/d{_ascii(own)}{bracket}{rest}" if self.ascii else rf"\dot{{L}}_{{{_latex(own)}{bracket}{rest}}}"
        if name == REST:
            return "..." if self.ascii else r"\ldots"
        return f"{_ascii(base) if self.ascii else _latex(base)}{bracket}{rest}"

    def figure(self, x: Any) -> str:
        """A number as one writes it down: three digits behind the point, or three that count."""
        x = float(x)
        size = abs(x)
        if not math.isfinite(x):
            text = "NaN" if math.isnan(x) else "inf" if self.ascii else "∞" if not self.latex else r"\infty"
            return (self.minus if x < 0 else "") + (rf"\mathrm{{{text}}}" if self.latex and text == "NaN" else text)
        if size == 0 or 1e-4 <= size < 1e6:
            digits = 0 if size == 0 or size >= 1000 else 3 - math.floor(math.log10(size)) if size >= 1 else 2 - math.floor(math.log10(size))
            digits = min(digits, 3) if size >= 0.1 else digits
            text = f"{size:.{digits}f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
        else:
            mantissa, _, power = f"{size:.2e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
            sign = self.minus if power[0] == "-" else ""
            power = sign + power[1:].lstrip("0")
            text = rf"{mantissa}\mathrm{{e}}{{{power}}}" if self.latex else f"{mantissa}e{power}"
        return (self.minus if x < 0 and text.strip("0.") else "") + text

    # ----- An expression in symbols, and in numbers -----

    def symbols(self, e: Any) -> str:
        text = _text(self.printer(), e)
        upstream = re.match(rf"({L_DOT}_[^\s·]+|[^\s·\[]+˙|{self._dots()})(\[[\d, ]+\])?·", text) if self.form == "notation" else None
        if upstream and upstream[0].count("“") == upstream[0].count("”"):
            text = f"{upstream[0][:-1]} · {text[upstream.end() :]}"
        return text

    def _dots(self) -> str:
        return "|".join(map(re.escape, self.book.velocity)) or "(?!)"

    def numbers(self, e: Ink) -> str:
        """The same expression with its numbers. Beside a fluxion, what takes more than a step is worked out."""
        values: dict[str, str] = {}

        def known(value: Any) -> Ink:
            name = f"#{len(values)}"
            values[name] = self.figure(value)
            return symbol(name, value)

        met: dict[str, Ink] = {}

        def walk(e: Any, flow: bool) -> Any:
            if not isinstance(e, Ink) or e.op == "number":
                return e
            if e.op == "symbol" and e.args[0] == REST:
                return e
            if e.op in ("symbol", "part"):
                name = e.options.get("name") or e.args[0]
                if name not in met:
                    met[name] = known(e.sample)
                return met[name]
            if any(np.ndim(x.sample) for x in e.args if isinstance(x, Ink)):
                return known(e.sample)  # a call of whole arrays
            product = e.op in ("multiply", "divide")
            flow = flow or (product and self._flows(e))
            args = []
            for x in e.args:
                worked_out = isinstance(x, Ink) and flow and product and not self._flows(x)
                worked_out = worked_out and x.op not in ("multiply", "divide", "negative") and (x.sample.dtype == bool or _depth(x) > 1)
                args.append(known(x.sample) if worked_out else walk(x, flow))
            return Ink(e.op, args, e.sample, e.options)

        text = _text(self.printer(values), walk(e, False))
        if any(self._flows(s) for s in _symbols(e)) and self.form == "notation":
            first = next(iter(values.values()), None)
            for head in (f"({first})·", f"{first}·"):
                if first and text.startswith(head):
                    text = f"{head[:-1]} · {text[len(head) :]}"
                    break
        minus = re.escape(self.minus)
        number = rf"{minus}[\d.]+(?:e{minus}?\d+)?"
        text = re.sub(rf"^\(({number})\)(?=\s?·|\s?\*(?!\*)|/| \\cdot)", r"\1", text)
        return re.sub(rf"(?<=[+{self.minus}] )({number})", r"(\1)", text)

    def _flows(self, e: Any) -> bool:
        return any(s.args[0].rpartition("[")[0] in self.book.flow or s.args[0] in self.book.flow for s in _symbols(e))

    # ----- Rows -----

    def joined(self, texts: Sequence[str]) -> str:
        """Terms added up."""
        out = texts[0]
        for text in texts[1:]:
            out += f" {self.minus} {text[1:].lstrip()}" if text.startswith(self.minus) else f" + {text}"
        return out

    def told(self, term: _Term, worked: bool) -> str:
        e = term.worked if worked else term.whole
        if isinstance(e, Ink):
            return self.symbols(e)
        assert term.sender is not None
        words = f"what {self.book.names[term.sender]} sends"
        return rf"\mathrm{{{_latex_words(words)}}}" if self.latex else f"[{words}]"

    def worked(self, line: _Line) -> tuple[str, str]:
        """Symbols and numbers of the chosen element."""
        if not line.terms:
            return "", ""
        symbols = self.joined([self.told(x, True) for x in line.terms])
        parts = [
            self.figure(x.number) if x.worked is None else _ellipsis(self) if x.sender is None else self.numbers(x.worked)
            for x in line.terms
        ]
        if len(line.terms) > 1:
            parts = [f"({p})" if p.startswith(self.minus) and k and re.fullmatch(r"\S[\d.]+", p) else p for k, p in enumerate(parts)]
        return symbols, self.joined(parts)

    def rows(self, line: _Line) -> list[_Row]:
        single = line.value.size <= 1
        remark = self.remark(line)
        rows = []
        if not single:
            whole = self.joined([self.told(x, False) for x in line.terms]) if line.terms and line.terms[0].whole is not None else ""
            rows.append(_Row(self.symbol(line.symbol), whole, "", "", self.shape(line.value), False))
        if line.value.size == 0:
            return [_Row(self.symbol(line.symbol), "", "", self.words("empty"), remark)]
        name = label(line.symbol, line.at, line.value.size)
        symbols, numbers = self.worked(line)
        result = self.figure(line.value[line.at])
        rows.append(_Row(self.symbol(name), *_said_once(symbols, numbers, result), remark, not single))
        parts: dict[str, Ink] = {}
        for x in line.terms:
            _parts(x.worked, parts)
        for part, inside in parts.items():
            inner = _said_once(self.symbols(inside), self.numbers(inside), self.figure(inside.sample))
            rows.append(_Row(self.symbol(part), *inner, self.words(f"in {self.symbol(name)}") if not self.latex else "", True))
        if line.check is not None:
            rows.append(self.held(line, name))
        return rows

    def shape(self, value: Array) -> str:
        text = f"({value.size},)" if value.ndim == 1 else "×".join(map(str, value.shape))
        return self.words(f"array {text}".replace("×", "x" if self.ascii else "×"))

    def words(self, text: str) -> str:
        return rf"\mathrm{{{_latex_words(text)}}}" if self.latex else text

    def remark(self, line: _Line) -> str:
        said = []
        if len(line.senders) > 1:
            said.append(f"waits for {_listed(line.senders)}")
        elif line.senders:
            said.append(f"feeds {line.senders[0]} {_times(len(line.terms))}")
        if line.says == "effect" and line.value.size:
            name = label(self.book.names[line.tensor], line.at, line.value.size)
            x = float(line.value[line.at])
            does = f"raise {name} and L rises" if x > 0 else f"raise {name} and L falls" if x < 0 else f"L does not answer {name}"
            said.append(does if math.isfinite(x) else "")
        if line.says == "given":
            said.append("given")
        text = "; ".join(filter(None, said))
        if not text:
            return ""
        return self.words(_ascii(text) if self.ascii else text)

    def held(self, line: _Line, name: str) -> _Row:
        held = line.check
        assert held is not None
        o = self.figure(held.moment)
        fluxion = self.figure(line.value[line.at])
        happened = self.figure(held.happened)
        said = {
            "right": f"L moved by {happened}: right",
            "wrong": f"L moved by {happened}: WRONG",
            "kink": f"L moved by {happened} on average: a kink, where the two sides differ",
            "nowhere": "L is not finite beside the point",
        }[held.verdict]
        if self.latex:
            said = rf"\mathrm{{{_latex_words(said.partition(happened)[0])}}}" + (
                happened + rf"\mathrm{{{_latex_words(said.partition(happened)[2])}}}" if happened in said else ""
            )
        symbols = f"{fluxion}{self.times}{o}"
        return _Row(f"{self.symbol(name)}{self.times}o", symbols, "", self.figure(held.predicted), said, True)

    def made(self, step: Step) -> list[_Row]:
        """How a value was computed."""
        name, value = self.book.names[step.output], step.output._value
        e = self.book.computed(step)
        if value.size != 1:
            return [_Row(self.symbol(name), self.symbols(e), "", "", self.shape(value))]
        worked = _reads(lambda: element(e, (0,) * value.ndim)) if isinstance(e, Ink) else None
        numbers = self.numbers(worked) if worked is not None else ""
        return [_Row(self.symbol(name), *_said_once(self.symbols(e), numbers, self.figure(value.item())), "")]


def _said_once(symbols: str, numbers: str, result: str) -> tuple[str, str, str]:
    """Numbers that say no more than the result, or than the symbols, are left out."""
    numbers = "" if numbers in (result, symbols) else numbers
    return ("" if symbols == result else symbols), numbers, result


def _ellipsis(pen: _Pen) -> str:
    return pen.symbol(REST) if pen.form != "notation" else REST


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _times(n: int) -> str:
    return {2: "twice", 3: "three times"}.get(n, f"{n} times")


def _depth(e: Any) -> int:
    """How many operations lie one within the other; a square is one."""
    if not isinstance(e, Ink) or e.op in ("symbol", "number", "part"):
        return 0
    return 1 + max((_depth(x) for x in e.args), default=0)


def _parts(e: Any, found: dict[str, Ink]) -> None:
    """The named parts of an expression, the inner ones first."""
    if isinstance(e, Ink):
        for x in e.args:
            _parts(x, found)
        if e.op == "part":
            found.setdefault(e.options["name"], e.args[0])


_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")


def _ascii(text: str) -> str:
    """In plain ASCII: α is alpha, é is e, and of what has no such letters the number."""
    out = []
    for c in text:
        if c.isascii():
            out.append(c)
        elif c in "“”":
            out.append('"')
        elif greek := _GREEK.match(unicodedata.name(c, "")):
            out.append(greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize())
        else:
            plain = unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode()
            out.append(plain or {"…": "...", "−": "-", "×": "x", "·": "*"}.get(c) or ("" if unicodedata.combining(c) else f"u{ord(c):x}"))
    return "".join(out)


def _latex_words(text: str) -> str:
    r"""Words within \mathrm: nothing in them is a command."""
    escaped = {"\\": r"\backslash ", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$",
               "^": r"\wedge ", "~": r"\sim ", " ": r"\ ", "…": r"\ldots ", "|": r"\vert "}  # fmt: skip
    return "".join(escaped.get(c, c) for c in text)


def _latex(name: str) -> str:
    """A name in LaTeX: w, v_{1}, \\alpha, and words upright."""
    if len(name) == 1 and (greek := _GREEK.match(unicodedata.name(name, ""))):
        command = greek[2].lower() if greek[1] == "SMALL" else greek[2].capitalize()
        return rf"\{command.replace('lamda', 'lambda')}" if command.isalpha() and command not in ("Alpha", "Beta", "omicron") else name
    if numbered := re.fullmatch(r"([A-Za-z])(\d+)", name):
        return f"{numbered[1]}_{{{numbered[2]}}}"
    return name if re.fullmatch(r"[A-Za-z]", name) else rf"\hat{{y}}" if name == "ŷ" else rf"\mathrm{{{_latex_words(name)}}}"


def _index(text: str) -> str:
    return f"_{{{text}}}" if text else ""


def _width(text: str) -> int:
    """How many columns a terminal gives it."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _aligned(rows: Sequence[_Row | str]) -> list[str]:
    """Rows in columns; what is too wide for its column goes on below, under its equals sign."""
    flat = [r for r in rows if isinstance(r, _Row) and max(_width(r.symbols), _width(r.numbers)) <= _WIDE]
    all_rows = [r for r in rows if isinstance(r, _Row)]
    labels = max((_width(r.label) + 2 * r.inner for r in all_rows), default=0)
    widths = [max((_width(r[k]) for r in flat if r.numbers or r.result or k != 1), default=0) for k in (1, 2, 3)]
    out = []
    for r in rows:
        if isinstance(r, str):
            out.append(r)
            continue
        head = _pad("  " * r.inner + r.label, labels)
        cells = [r.symbols, r.numbers, r.result]
        if r in flat:
            line = f"  {head}"
            if not r.numbers and not r.result:
                line += f" = {r.symbols}" if r.symbols else ""
                out.append(f"{line}   {r.remark}".rstrip())
                continue
            gap = False
            for cell, width in zip(cells, widths, strict=True):
                line += f" {'=' if cell and not gap else ' '} {_pad(cell, width)}" if width else ""
            out.append(f"{line}   {r.remark}".rstrip())
        else:
            shown = [c for c in cells if c]
            for k, cell in enumerate(shown):
                left = head if k == 0 else " " * labels
                out.append(f"  {left} = {cell}" + (f"   {r.remark}" if k == len(shown) - 1 and r.remark else ""))
    return out


class Derivation:
    """A worked derivation: `print` it, look at its `steps`, or let a notebook show it."""

    def __init__(self, book: _Book, lines: list[_Line], first: int, left: int, mode: str, form: Form, wrt: Sequence[Tensor]) -> None:
        self._book, self._lines, self._first, self._left = book, lines, first, left
        self._mode, self._form, self._wrt = mode, form, wrt

    @property
    def steps(self) -> list[Worked]:
        """The steps as data, in the order in which they run."""
        pen = _Pen(self._book, self._form)
        out = []
        for line in self._lines:
            symbols, numbers = pen.worked(line) if line.value.size else ("", "")
            name = label(line.symbol, line.at, line.value.size)
            result = float(line.value[line.at]) if line.value.size else math.nan
            waits = line.senders if len(line.senders) > 1 else ()
            out.append(Worked(line.tensor, self._book.names[line.tensor], pen.symbol(name), symbols, numbers, result, line.value, line.at, waits, pen.remark(line), line.check))
        return out

    # ----- As text -----

    def _values(self, pen: _Pen) -> list[_Row]:
        """How the values came about that the lines speak of."""
        root = self._book.record.root
        shown = {x.sender for line in self._lines for x in line.terms} | {line.tensor for line in self._lines} | {root}
        return [r for s in reversed(self._book.record.steps) if s.output in shown for r in pen.made(s)]

    def _rows(self, pen: _Pen) -> list[_Row | str]:
        rows: list[_Row | str] = []
        for k, line in enumerate(self._lines):
            if self._left and k == self._first:
                rows.append(f"  … {self._left:,} steps are left out here …" if not pen.ascii else f"  ... {self._left:,} steps are left out here ...")
            rows += pen.rows(line)
        return rows

    def _heads(self, pen: _Pen) -> tuple[str, str]:
        """What stands above the values, and above the sweep."""
        root = self._book.names[self._book.record.root]
        name = root if pen.form == "notation" else _ascii(root)
        one = f"{L_DOT}_{root} = 1" if not pen.ascii else f"dL/d{name} = 1"
        here = f"L is {name}; " if root != "L" else ""
        if self._mode == "push":
            return "The values, as they were made:", "The push, earliest first (ẋ is the velocity of x):" if not pen.ascii else "The push, earliest first (x' is the velocity of x):"
        dot = f"{L_DOT}_x is ∂L/∂x" if not pen.ascii else "dL/dx is the .grad of x"
        grad = ", the .grad of x" if not pen.ascii else ""
        return f"The values, as they were made:", f"The sweep back, latest first ({here}{one}; {dot}{grad}):"

    def text(self, form: Form) -> str:
        """The derivation in one of the three forms."""
        if form == "latex":
            return self._aligned_latex()
        pen = _Pen(self._book, form)
        above, below = self._heads(pen)
        out = [above, *_aligned(self._values(pen)), "", below, *_aligned(self._rows(pen))]
        text = "\n".join(out)
        return _ascii(text) if form == "ascii" else text

    def _aligned_latex(self) -> str:
        pen = _Pen(self._book, "latex")
        lines = [_latex_row(r, " &= ") for r in (*self._values(pen), *self._rows(pen))]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def __str__(self) -> str:
        return self.text("ascii" if self._form == "notation" and not _can_print() else self._form)

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self._aligned_latex()}$"

    def _repr_markdown_(self) -> str:
        pen = _Pen(self._book, "latex")
        out = []
        for title, rows in zip(self._heads(_Pen(self._book, "notation")), (self._values(pen), self._rows(pen)), strict=True):
            out += [f"**{_escaped(title)}**", "", "| | |", "|---|---|"]
            for r in rows:
                if isinstance(r, str):
                    out.append(f"| {r.strip()} | |")
                else:
                    math_ = _latex_row(r._replace(remark=""), " = ").replace("|", r"\vert ")
                    out.append(f"| $\\displaystyle {math_}$ | {f'${r.remark}$' if r.remark else ''} |")
            out.append("")
        return "\n".join(out)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|$#])", r"\\\1", text)


def _latex_row(r: _Row | str, equals: str) -> str:
    if isinstance(r, str):
        return rf"\mathrm{{{_latex_words(r.strip())}}}"
    cells = " = ".join(c for c in (r.symbols, r.numbers, r.result) if c)
    return (f"{r.label}{equals}{cells}" if cells else r.label) + (rf" \quad {r.remark}" if r.remark else "")


def _can_print() -> bool:
    """Whether what is printed can have dots."""
    try:
        f"{L_DOT}·−".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


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
    return Derivation(book, lines, first, left, mode, form, wrt)


__all__ = ["Derivation", "Worked", "explain", "names_of"]
