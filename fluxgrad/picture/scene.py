"""What a picture is made of, before it has a place or a colour: nodes, edges, lines of text, numbers.

A view turns a record of the backward sweep into a `Scene`; everything after it (layout, SVG, DOT) reads only that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fluxgrad.picture import style

Sign = Literal["plus", "minus", "zero", "mixed", "wild", "none"]


class Run(NamedTuple):
    """A stretch of text in one style. "dot" is an L that gets its dot drawn; "name" is italic, "sub" lowered."""

    style: Literal["plain", "name", "dot", "sub", "quiet", "strong"]
    text: str


Line = tuple[Run, ...]


def plain(text: str) -> Line:
    return (Run("plain", text),)


class Flow(NamedTuple):
    """How much fluxion, and which way: |L̇| for a number, the norm for an array."""

    sign: Sign
    size: float


class Cell(NamedTuple):
    """A line of text in a row of the layer view, `x` from the left edge of its box."""

    x: float
    line: Line


class Bar(NamedTuple):
    """A filled bar in a row of the layer view, from the left edge and the middle of its box."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Node:
    key: str
    title: str
    story: str  # what more there is to say, in words
    kind: str  # "leaf", "op", "root", "constant", "again", "more", "cut", "unit", "dead", "layer", "folded"
    lines: tuple[Line, ...]
    flow: Flow
    width: float
    height: float
    at: tuple[float, float] | None = None  # pinned by the view, or left to Graphviz
    fill: float = 0.0  # a unit's activation, 0 to 1
    beside: bool = False  # a small unit's text stands to its right
    cells: tuple[Cell, ...] = ()  # a row of the layer view: `lines` in their places, the last of them L̇
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    tail: str
    head: str
    title: str
    flow: Flow
    label: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A titled box around cards of the op view: a scope that is drawn open."""

    title: str
    name: Line
    keys: tuple[str, ...]  # the cards that lie in it, and in none of the boxes in it
    outer: int | None  # the box around it, by its position


@dataclass(frozen=True, slots=True)
class Scene:
    view: Literal["op", "neuron", "layer"]
    title: str
    story: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    notes: tuple[Line, ...]
    heading: Line = ()
    texts: tuple[tuple[float, float, Line], ...] = ()  # headings of a pinned view, centred
    clusters: tuple[Cluster, ...] = ()  # outer before inner

    @property
    def pinned(self) -> bool:
        return all(node.at is not None for node in self.nodes)

    @property
    def dense(self) -> bool:
        """Are there so many weights that not every number finds room?"""
        return self.view == "neuron" and len(self.edges) > style.LABELLED


# Numbers


def flow(array: Any) -> Flow:
    """The size and sign of a fluxion; None is one that was never sent."""
    if array is None:
        return Flow("none", 0.0)
    a = np.asarray(array, dtype=np.float64)
    size = norm(a)
    if not math.isfinite(size):
        return Flow("wild", math.inf)
    if size == 0:
        return Flow("zero", 0.0)
    if a.min() >= 0:
        return Flow("plus", size)
    return Flow("minus" if a.max() <= 0 else "mixed", size)


def norm(a: np.ndarray[Any, Any]) -> float:
    """The length of all entries together, without overflow on the way; NaN or inf where an entry is."""
    a = np.abs(np.asarray(a, dtype=np.float64))
    top = float(a.max()) if a.size else 0.0
    if top == 0 or not math.isfinite(top):
        return math.nan if np.isnan(a).any() else top
    return min(top * math.sqrt(float(np.sum(np.square(a / top)))), np.finfo(np.float64).max.item())


def number(x: float, digits: int = 3) -> str:
    """A number to so many digits, as a program reads it.

    >>> number(-0.00012345), number(1234.0), number(1e9), number(float("nan"))
    ('-0.000123', '1234', '1e+09', 'nan')
    """
    if x == 0:
        return "0"
    text = f"{x:.{digits}g}"
    return f"{x:.0f}" if "e+" in text and abs(x) < 1e6 else text


def shown(x: float, plus: bool = False) -> str:
    """The same as people read it: a true minus, on request a plus.

    >>> shown(-2.0), shown(0.5, plus=True), shown(1e-7)
    ('−2', '+0.5', '1e−7')
    """
    if math.isnan(x):
        return "NaN"
    text = number(x).replace("e-0", "e-").replace("e+0", "e+").replace("e+", "e").replace("-", "−")
    return "+" + text if plus and x > 0 else text


def single(a: Any) -> bool:
    return np.size(a) == 1


def scalar(a: Any) -> float:
    return float(np.ravel(a)[0])


def shape(a: Any) -> str:
    """32×64; of a vector (64,), of a number nothing."""
    return str(np.shape(a)) if np.ndim(a) == 1 else "×".join(map(str, np.shape(a)))


def value_title(name: str, a: Any) -> str:
    """`x = 3`, or of an array its shape and norm: `W = 2×2, norm 5`."""
    if single(a):
        tail = "" if np.ndim(a) == 0 else f" ({shape(a)})" if np.ndim(a) > 1 else f" {shape(a)}"
        return f"{name} = {number(scalar(a), 6)}{tail}"
    return f"{name} = {shape(a)}, norm {number(norm(a))}"


def fluxion_title(name: str, a: Any, digits: int = 6) -> str:
    """`L̇_x = 6`, or of an array its norm; a long name is not said again."""
    what = f"L̇_{name}" if len(name) <= style.SPOKEN else "L̇"
    return f"{what} = {number(scalar(a), digits)}" if single(a) else f"‖{what}‖ = {number(norm(a), digits)}"


def fluxion_line(name: str, a: Any, parts: Sequence[float] = ()) -> Line:
    """L̇_x = 6 in runs, with the contributions that add up to it where there are several; without a name L̇ = 6."""
    sub = (Run("sub", name),) if 0 < len(name) <= style.SUBSCRIPT else ()
    if not single(a):
        return (Run("plain", "‖"), Run("dot", "L"), *sub, Run("plain", f"‖ = {shown(norm(a))}"))
    total = shown(scalar(a))
    if len(parts) > 1:
        terms = " + ".join(map(shown, parts)).replace("+ −", "− ")
        total = f"{terms} = {total}"
    return (Run("dot", "L"), *sub, Run("plain", f" = {total}"))


# Text


def run_width(run: Run, size: float = style.SIZE) -> float:
    small = run.style in ("sub", "quiet")
    slanted = 1.12 if run.style in ("name", "sub", "strong") else 1.0
    return slanted * style.width(run.text, style.SMALL if small else size)


def text_width(line: Line, size: float = style.SIZE) -> float:
    return sum(run_width(run, size) for run in line)


def card(lines: tuple[Line, ...]) -> tuple[float, float]:
    """The width and height that a card needs for its lines."""
    return (
        math.ceil(max(map(text_width, lines)) + 2 * style.PAD_X),
        len(lines) * style.LINE + 2 * style.PAD_Y,
    )
