"""What the rows of a record write, as expressions: what each step sent back, how it moved, how its value was made."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fluxgrad.ink.element import element, summed
from fluxgrad.ink.names import DOT, L_DOT, names_of
from fluxgrad.ink.operand import Ink, number, symbol
from fluxgrad.ink.printers import Printer, settled
from fluxgrad.ink.wiggle import Check
from fluxgrad.rules.kinds import Elementwise, Fused, chain
from fluxgrad.rules.linear import unstretch
from fluxgrad.sweep import Flows, Step
from fluxgrad.tensor import Array, Tensor

Index = tuple[int, ...]


class Term(NamedTuple):
    """One contribution: who sent it, and its expression, in arrays and for one element."""

    sender: Tensor | None
    whole: Any
    worked: Ink


class Line(NamedTuple):
    """One thing that is worked out: its symbol, its value, which element of it, and what it is the sum of."""

    tensor: Tensor
    symbol: str
    value: Array
    at: Index
    terms: tuple[Term, ...]
    feeds: tuple[str, ...] = ()
    end: bool = False
    check: Check | None = None

    @property
    def every(self) -> bool:
        """Whether it is given, as 1 for every element of an array."""
        return not self.terms and self.value.size > 1 and bool((self.value == 1).all())


class Book:
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

    def pulled(self, step: Step, i: int, at: Index) -> tuple[Any, Ink]:
        """What a step sends back to its operand i: all of it, and its element `at`."""
        row, (y, inputs), shape = step.row, self.operands(step), step.inputs[i].shape
        root = step.output is self.record.root
        g: Any = Ink("number", (1,), step.fluxion) if root else symbol(self.fluxion(step.output), step.fluxion)

        def sent() -> Any:
            if isinstance(row, Elementwise):
                c = chain(g, row.fluxions[i](y, *inputs, **step.options))
            else:
                c = row.pull(i, g, y, inputs, step.options)
            return self._apart(settled(unstretch(c if isinstance(c, Ink) else number(c), shape)))

        whole, unread = reads(sent), self.unread(step, step.contributions[i])
        whole = unread if whole is None else whole
        worked = reads(lambda: element(whole, at))
        return whole, element(unread, at) if worked is None else worked

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
                return None, self._apart(settled(total))
            whole = row.push(moving, y, inputs, step.options)
            if isinstance(whole, Ink) and whole.op == row.name and not isinstance(row.value, np.ufunc):
                named = whole
                opened = reads(lambda: row.value(*named.args, **named.options))
                whole = named if opened is None else opened
            whole = whole if np.shape(whole) == y.sample.shape else np.broadcast_to(whole, y.sample.shape)
            whole = self._apart(settled(whole))
            return whole, element(whole, at)

        found = reads(moves)
        return found or (None, element(self.unread(step, v), at))

    def computed(self, step: Step) -> Any:
        """How the output was made: a sum or a short loss opened to what it is, any other row by its name."""
        row, (_, inputs) = step.row, self.operands(step)
        opened = None if isinstance(row, Elementwise) else reads(lambda: row.value(*inputs, **step.options))
        if opened is None or (isinstance(row, Fused) and len(printed(Printer(), opened)) > 60):
            opened = reads(lambda: row(*inputs, **step.options))
        return self._apart(settled(opened))

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


def reads(expression: Callable[[], Any]) -> Any:
    """What calling a rule with Ink gives; None where the rule looks inside its operands."""
    try:
        with np.errstate(all="ignore"):
            return expression()
    except Exception:
        return None


def printed(printer: Printer, e: Any) -> str:
    text = reads(lambda: printer(e))
    return text if isinstance(text, str) else getattr(e, "op", "?")


def symbols_of(e: Any) -> Iterator[Ink]:
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


def parts_of(e: Any) -> Iterator[tuple[str, Ink]]:
    """The named parts of an expression, the inner ones first."""
    if isinstance(e, Ink):
        for x in e.args:
            yield from parts_of(x)
        if e.op == "part":
            yield e.options["name"], e.args[0]


def split(name: str) -> tuple[str, str]:
    """A symbol's name without, and the index that it ends in, if any. (A tensor's own name with brackets is in quotes.)"""
    base = re.sub(r"\[[\d, ]+\]$", "", name)
    return base, name[len(base) :]
