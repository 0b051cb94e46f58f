"""A row read on paper: its value, and what each input sends or receives, from calling the row itself with Ink.

tanh x:  ẏ_x = 1 − y²                 an elementwise row gives its local fluxions
x @ w:  L̇_x = L̇_y @ wᵀ, …            a linear or fused row what it sends back
(p − t)²:  L̇_p = 2·(p − t), …         a loss's output is L itself: what it sends back is its signal
"""

from __future__ import annotations

import unicodedata
from inspect import signature
from typing import Any

import numpy as np

from fluxgrad.ink.names import L_DOT
from fluxgrad.ink.operand import Ink, Length, number, symbol
from fluxgrad.ink.printers import Ascii, Latex, Printer, Source, can_print, identifier, in_ascii
from fluxgrad.rules.kinds import Constant, Elementwise, Row, letters

MOST = 5000  # so large may a formula be, written out


class Reading:
    """The expressions of a row: `value`, and for each input a left side and what it equals."""

    def __init__(self, row: Row, larger: bool = False) -> None:
        numbers, plain = row.example()
        if larger:
            numbers = [np.resize(x, [n + 1 for n in x.shape]) for x in numbers]
        given = row.sample[1] if row.sample else {}
        names = _names(row, len(numbers))
        self.row = row
        self.inputs = [symbol(name, x) for name, x in zip(names, numbers, strict=True)]
        self.options = {k: symbol(given[k][0], v) if _is_letter(given[k]) else v for k, v in plain.items()}
        value = self._value()
        self.value: Ink = value if isinstance(value, Ink) else number(value)
        self.y = symbol(row.output, self.value.sample)
        self.rules: list[tuple[str, Any]] = []
        for i, name in enumerate(names):
            if isinstance(row, Elementwise):
                told = row.fluxions[i](self.y, *self.inputs, **self.options)
                self.rules.append((f"ẏ_{name}", told))
            else:
                g = number(1) if row.output == "L" else symbol(f"{L_DOT}_{row.output}", np.ones(self.value.shape))
                told = _signal(row.pull(i, g, self.y, self.inputs, self.options))
                self.rules.append((f"{L_DOT}_{name}", told))
        self._name_what_is_shared()

    def _name_what_is_shared(self) -> None:
        """Where a definition uses its own results again and again, a formula would double with each: they get names."""
        roots = [self.value, *(told for _, told in self.rules)]
        order, uses = _in_order(roots)
        size: dict[int, int] = {}
        for e in order:
            size[id(e)] = 1 + sum(size[id(x)] for x in _inside(e))
        if sum(size.get(id(e), 0) for e in roots) < MOST:
            return
        new: dict[int, Ink] = {}
        count = 0
        for e in order:
            made = Ink(e.op, _replaced(e.args, new), e.sample, _replaced(e.options, new))
            if uses[id(e)] > 1 and e.op not in ("symbol", "number", "part") and size[id(e)] > 5:
                count += 1
                made = Ink("part", (made,), e.sample, {"name": f"v{count}"})
            new[id(e)] = made
        self.value, *told = _replaced(roots, new)
        self.rules = [(left, right) for (left, _), right in zip(self.rules, told, strict=True)]

    def _value(self) -> Any:
        try:
            return self.row.value(*self.inputs, **self.options)
        except TypeError:  # it looks inside its operands: one step, by its name
            return self.row(*self.inputs, **self.options)

    def text(self, printer: Printer) -> str:
        """The whole rule on one line."""
        head, value = printer.head(self.row, self.inputs, self.value), printer(self.value)
        if self.value.op != self.row.name and value != head:
            head = f"{head} = {value}"
        told = [f"{printer.symbol(left)} = {printer(right)}" for left, right in self.rules if right is not None]
        named = [f"{printer.symbol(name)} = {printer(e)}" for name, e in self.parts.items()]
        text = f"{head}{printer.colon}{', '.join(told)}" + (printer.where + "; ".join(named) if named else "")
        return unicodedata.normalize("NFC", text)

    @property
    def parts(self) -> dict[str, Ink]:
        """What stands behind the names that a definition gives to its parts, each after those that it is made of."""
        return {name: e for root in (self.value, *(right for _, right in self.rules)) for name, e in _parts(root)}

    def source(self) -> str:
        """The rule as NumPy code: a function for the value, and one for what each input is sent; dL_dy is L̇_y. What a rule
        is given besides its operands is an option where it stands for any value, else written into the code."""
        names = [e.args[0] for e in self.inputs]
        free = {k: v for k, v in self.options.items() if isinstance(v, Ink)}
        swap = {v.args[0]: k for k, v in free.items()}
        options = [k if v.sample.ndim else f"{k}={v.sample.item()!r}" for k, v in free.items()]
        star = ["*"] * bool(options)
        name = identifier(self.row.name)
        blocks = [_function(name, [*names, *star, *options], self.value, swap)]
        for letter, (_, told) in zip(names, self.rules, strict=True):
            if told is None:
                continue
            if isinstance(self.row, Elementwise):
                told = symbol(f"{L_DOT}_y", np.ones(self.y.sample.shape)) * told
            takes = [*([f"{L_DOT}_y"] if self.row.output != "L" else []), self.row.output, *names, *star, *options]
            blocks.append(_function(f"{name}_{letter}", takes, told, swap))
        imports = "import numpy as np\n" + "import fluxgrad as fg\n" * any("fg." in b for b in blocks)
        return imports + "\n\n" + "\n\n\n".join(blocks) + "\n"


def _names(row: Row, n: int) -> list[str]:
    """What the inputs are called: as in the form, where it shows them all, else as in the code. y is the output, n a count."""
    names = letters(row.form)
    if len(names) < n and not row.variadic and not isinstance(row.value, np.ufunc):
        own = [p.name for p in signature(row.value).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        names = own if len(own) >= n and not row._builtin else names
    spare = (c for c in (*"xwuv", *(f"x{k}" for k in range(1, n + 1))) if c not in names)
    names = [next(spare) if c in ("y", "n", "L") else c for c in names[:n]]
    return [*names, *(next(spare) for _ in range(n - len(names)))]


def _is_letter(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)


def _signal(e: Any) -> Any:
    """Without the 1 that the loss itself receives."""
    while isinstance(e, Ink) and e.op == "multiply" and _is_one(e.args[0]):
        e = e.args[1]
    return e


def _is_one(e: Any) -> bool:
    while isinstance(e, Ink) and e.op == "expand_dims":
        e = e.args[0]
    return isinstance(e, Ink) and e.op == "number" and e.args[0] == 1


def _parts(e: Any) -> list[tuple[str, Ink]]:
    """The named parts of an expression, the inner ones first."""
    found: dict[int, tuple[str, Ink]] = {}
    for x in _in_order(e)[0]:
        if x.op == "part":
            found[id(x)] = (x.options["name"], x.args[0])
    return list(found.values())


def _inside(x: Any) -> list[Ink]:
    """The expressions that an expression is made of."""
    if isinstance(x, Ink):
        return [e for y in (*x.args, *x.options.values()) for e in ([y] if isinstance(y, Ink) else _inside(y))]
    if isinstance(x, slice):
        x = [x.start, x.stop, x.step]
    if isinstance(x, Length):
        x = [x.of] if x.made is None else list(x.made[1:])
    return [e for y in x for e in ([y] if isinstance(y, Ink) else _inside(y))] if isinstance(x, tuple | list) else []


def _replaced(x: Any, new: dict[int, Ink]) -> Any:
    if isinstance(x, Ink):
        return new.get(id(x), x)
    if isinstance(x, dict):
        return {k: _replaced(v, new) for k, v in x.items()}
    return type(x)(_replaced(y, new) for y in x) if type(x) in (tuple, list) else x


def _in_order(root: Any) -> tuple[list[Ink], dict[int, int]]:
    """Every expression inside of another, after those that it is made of, and how often each is used."""
    uses: dict[int, int] = {}
    order: list[Ink] = []
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        e, done = waiting.pop()
        if isinstance(e, Length):
            e = e.of if e.made is None else list(e.made[1:])
        if isinstance(e, slice):
            e = [e.start, e.stop, e.step]
        if isinstance(e, tuple | list):
            waiting += [(x, False) for x in reversed(e)]
        elif isinstance(e, Ink) and done:
            order.append(e)
        elif isinstance(e, Ink):
            uses[id(e)] = uses.get(id(e), 0) + 1
            if uses[id(e)] == 1:
                waiting.append((e, True))
                waiting += [(x, False) for x in reversed((*e.args, *e.options.values()))]
    return order, uses


def _function(name: str, takes: list[str], body: Any, swap: dict[str, str]) -> str:
    """Straight-line code: what is used twice is computed once, what has a name keeps it."""
    order, uses = _in_order(body)
    takes = [t if "=" in t or t == "*" else identifier(t) for t in takes]
    taken = {*takes, *(t.partition("=")[0] for t in takes)}
    code = _Straight(swap)
    lines = []
    for e in order:
        if e.op == "part" or (uses[id(e)] > 1 and e is not body and e.op not in ("symbol", "number")):
            text = code.ink(e)
            mine = identifier(e.options["name"]) if e.op == "part" else f"t{len(code.names) + 1}"
            while mine in taken:
                mine += "_"
            taken.add(mine)
            code.names[id(e)] = mine
            lines.append(f"    {mine} = {_bare(text)}")
    return "\n".join([f"def {name}({', '.join(takes)}):", *lines, f"    return {_bare(code.code(body))}"])


def _bare(text: str) -> str:
    """Without the brackets that enclose the whole."""
    depth = 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and k < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") and not text.endswith(",)") else text


class _Straight(Source):
    """Source in which what has a name already is called by it."""

    def __init__(self, swap: dict[str, str]) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        self.swap = swap

    def ink(self, e: Ink) -> str:
        if id(e) in self.names:
            return self.names[id(e)]
        if e.op == "symbol" and e.args[0] in self.swap:
            return self.swap[e.args[0]]
        return super().ink(e)


def _counted(reading: Reading) -> str:
    """The shapes that a reading holds for alone, where a loop over x, or len(x), which is no ink, made it depend on them."""
    if reading.source() == Reading(reading.row, larger=True).source():
        return ""
    return " and ".join(dict.fromkeys("×".join(map(str, map(int, e.sample.shape))) for e in reading.inputs))


def read(row: Row, form: str) -> str:
    """A row as "notation", "latex", "ascii" or "source"; as "text" in notation where that can be printed, else in ASCII."""
    reading = Reading(row)
    if form == "text":
        form = "notation" if can_print() else "ascii"
    counted = "" if row._builtin else _counted(reading)  # (the tests run a built-in row's source at another shape)
    if form == "source":
        only = f"# For inputs of {in_ascii(counted)} only: a length was counted.\n" if counted else ""
        return only + reading.source()
    text = reading.text({"notation": Printer, "latex": Latex, "ascii": Ascii}[form]())
    if not counted:
        return text
    if form == "latex":
        return rf"{text}\quad \mathrm{{({counted}\ only)}}"
    return f"{text}  ({in_ascii(counted) if form == 'ascii' else counted} only)"


__all__ = ["Constant", "Reading", "read"]
