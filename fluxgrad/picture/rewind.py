"""The page of a history: the network's flows, the loss curve and the input plane, all of one frame, under one slider.

Here everything is drawn once, with the last frame in it; `rewind.js` then only sets widths, classes and numbers from the
data. So a frame is a function of its number, and back and forth agree.
"""

from __future__ import annotations

import html
import math
from base64 import b64encode
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxgrad.picture import style
from fluxgrad.picture.history import GRID, NO_NUMBER, Column, Frame, History, Plan, Plane, kilobytes
from fluxgrad.picture.layout import crossing
from fluxgrad.picture.neuron import Weight, strongest
from fluxgrad.picture.page import Page, page, part
from fluxgrad.picture.scene import flow, plain, shown, text_width
from fluxgrad.picture.svg import Scale
from fluxgrad.tensor import Array

if TYPE_CHECKING:
    Point = tuple[float, float]

WIDE = 440
"""The width of each drawing: on a narrow screen it is shown as large as it is drawn, on a wide one larger."""

TALL = 190
LABELLED = 12
ROOM = (54.0, 15.0)
"""What a number on a line takes, whatever it comes to."""

DENSE = (0.3, 2.0)
DEEP = (
    ' style="display:block"',
    ' style="display:grid;grid-template:auto/repeat(auto-fit,minmax(330px,1fr));gap:0 1.5rem"',
)
"""A network of many layers has the whole width, and the rest below it."""

LISTED = 40
POINTS = 300
SIZE = 12
SMALL = 11

SIZE_HERE = "\0"  # where the page tells its own size: no name holds one
SIGNS = ("plus", "minus", "zero", "wild")
MARKS = (
    "M-3.5,0a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0z",  # a disc
    "M-3.2,-3.2h6.4v6.4h-6.4z",  # a square
    "M0,-4.2L4,3H-4z",  # a triangle
    "M0,-4.6L4.6,0L0,4.6L-4.6,0z",  # a diamond
    "M0,4.2L4,-3H-4z",  # a triangle upside down
    "M-1.4,-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",  # a cross
    "M-4,-2h8v4h-8z",  # lying
    "M-2,-4h4v8h-4z",  # standing
)


class Rewind(Page):
    """Training to rewind, as a page: `.html` is its text, `.save(path)` writes it; a notebook shows it."""

    def __init__(self, history: History) -> None:
        super().__init__(f"Training to rewind: {history.told()}", height=900)
        self._parts = _Parts(history)

    @cached_property
    def html(self) -> str:
        """The page as text: one file that needs no other, the same bytes for the same history."""
        text = self._parts.page(self._title)
        told = size = ""
        while told != (size := kilobytes(len(text.replace(SIZE_HERE, told).encode()))):  # saying it may make it longer
            told = size
        return text.replace(SIZE_HERE, told)


class _Scale(Scale):
    """One for all frames. Its upper end is higher than that of a single picture: the first frames have the largest
    fluxions, and shall not all be as thick as can be."""

    PERCENTILES = (5, 99)

    def __init__(self, fluxions: Array, widths: tuple[float, float]) -> None:
        self.thin, self.thick = widths
        a = np.abs(fluxions.astype(np.float64))
        sizes = np.log10(a[np.isfinite(a) & (a > 0)])
        self.any = sizes.size > 0
        low, self.high = np.percentile(sizes, self.PERCENTILES).tolist() if self.any else (0.0, 0.0)
        self.low = min(low, self.high - style.SPAN)
        self.widened = low > self.low


class _Parts:
    """What a history held when it was asked to play."""

    def __init__(self, history: History) -> None:
        assert history._plan is not None
        self.told, self.memory = history.told(), history.memory
        self.frames: tuple[Frame, ...] = tuple(history._frames)
        self.plan: Plan = history._plan
        self.plane: Plane | None = history._plane
        self.x, self.y, self.notes = history._x, history._y, list(history._notes)
        self.loss = history._loss
        self.names = list(self.plan.shapes)

        self.norms = np.stack([f.norms for f in self.frames])
        weights = np.stack([f.weights for f in self.frames])
        units = np.stack([f.units for f in self.frames])
        self.drawn, kept = self._drawn(weights)
        self.weights = weights[:, kept]
        self.total = sum(math.prod(self.plan.shapes[name]) for name in self.plan.weights)
        touched = {(k, at) for k, _, at in self.drawn} | {(k + 1, to) for k, to, _ in self.drawn}
        stand = [n for n, (k, i) in enumerate(self.plan.units) if self._narrow(k) or (k, i) in touched]
        self.units = [self.plan.units[n] for n in stand]
        self.states = units[:, stand]
        sizes = self.weights[..., 1] if self.plan.columns else self.norms[..., 1]
        dense = len(self.drawn) > style.LABELLED
        widths = (DENSE if dense else style.WIDTHS["neuron"]) if self.plan.columns else (4.0, 200.0)
        self.scale = _Scale(sizes, widths)

    def _narrow(self, k: int) -> bool:
        return self.plan.columns[k].size <= style.UNITS

    def _drawn(self, weights: Array) -> tuple[list[Weight], list[int]]:
        """Of the weights whose numbers were kept, those that are strongest in any frame, some of each layer."""
        candidates = list(self.plan.candidates)
        if len(candidates) <= style.WEIGHTS:
            return candidates, list(range(len(candidates)))
        top = np.max(np.where(np.isfinite(weights[..., 1]), np.abs(weights[..., 1]), 0.0), axis=0)
        layers: list[list[int]] = [[] for _ in self.plan.weights]
        for n, (k, _, _) in enumerate(candidates):
            layers[k].append(n)
        chosen = strongest([top[mine][None, :] for mine in layers], style.WEIGHTS)
        kept = sorted(layers[k][n] for k, _, n in chosen)
        return [candidates[n] for n in kept], kept

    # ----- All of it -----

    def page(self, title: str) -> str:
        """The text, with a mark where its own size is to be told."""
        curve, places, log = self._curve()
        data: dict[str, Any] = {
            "steps": [f.step for f in self.frames],
            "logged": [_number(f.logged) for f in self.frames],
            "loss": [_number(f.loss) for f in self.frames],
            "names": self.names,
            "layers": [self.names.index(name) for name in self.plan.weights],
            "norms": _packed(self.norms),
            "weights": _packed(self.weights),
            "units": _packed(self.states),
            "scale": [self.scale.low, self.scale.high, self.scale.thin, self.scale.thick],
            "edges": [self._called(w) for w in self.drawn],
            "nodes": [[self.plan.columns[k].name(i), top] for (k, i), top in zip(self.units, self._tops, strict=True)],
            "curve": places,
        }
        plane = ""
        if self.plane is not None:
            planes = np.stack([f.plane for f in self.frames if f.plane is not None])
            data["plane"] = b64encode(planes.tobytes()).decode()
            data["kind"] = self.plane.kind
            data["grid"] = GRID
            plane = self._map(self.plane)
        flows = self._network() if self.plan.columns else self._bars()
        last = len(self.frames) - 1
        deep = DEEP if len(self.plan.columns) > 5 else ("", "")
        notes = [*self._said(), *self.notes]
        notes.append(f"Kept: {self.told}; {kilobytes(self.memory)} of memory, this page {SIZE_HERE}.")
        body = f"""<main>
<h1>Training to rewind</h1>
<div class="bar">
<div class="keys"><button id="back">← <span>Step back</span></button>
<input type="range" id="at" min="0" max="{last}" value="{last}" aria-label="Step of the training">
<button id="forth"><span>Step forward</span> →</button></div>
<p id="told" aria-hidden="true">step <b class="num" id="step"></b> · loss <b class="num" id="logged"></b>
· <span>largest ‖<i class="dot">L</i><sub>W</sub>‖ <b class="num" id="most"></b></span></p>
<p id="say" class="off" role="status" aria-live="polite"></p>
</div>
<noscript><p>This is the last frame. Without its script the page does not step.</p></noscript>
<div class="panes"{deep[0]}>
<figure><figcaption>{"How the loss answers each " + ("weight" if self.drawn else "parameter")}</figcaption>
{flows}</figure>
<div{deep[1]}>
<figure><figcaption>Loss{", log scale" if log else ""}</figcaption>
{curve}</figure>
{plane}</div>
</div>
<details><summary>Each parameter at this step</summary>
{self._table()}</details>
{"".join(f'<p class="note">{_text(note)}</p>' for note in notes)}
</main>"""
        return page(title, body, data, part("rewind.js"), part("rewind.css"))

    def _said(self) -> list[str]:
        here = f"{self.loss_name}(ŷ, y) of a batch of {len(self.x) if self.x.ndim else 1:,}, the same in all frames"
        notes = [f"L is {here}. ← and → step; Home and End go to either end."]
        if self.drawn and len(self.drawn) < self.total:
            few = len(self.plan.candidates)
            kept = f" among the {few:,} largest of the first" if few < self.total else ""
            notes.append(
                f"Drawn are {len(self.drawn):,} of {self.total:,} weights: the largest fluxions in any frame{kept}, "
                f"some of each layer."
            )
        if self.plan.columns and self.plan.columns[0].letter != "x":
            skipped = self.plan.columns[0].letter.removeprefix("h")
            notes.append(f"The last {len(self.plan.weights)} layers; {skipped} earlier ones are left out.")
        if not self.drawn:
            notes.append("The model is no chain of Linear layers, so each parameter is drawn as one bar.")
        return notes

    @property
    def loss_name(self) -> str:
        from fluxgrad.ink.names import clean

        return clean(getattr(self.loss, "__name__", "")) or "loss"

    def _called(self, weight: Weight) -> str:
        k, to, at = weight
        ends = f"{self.plan.columns[k].name(at)} → {self.plan.columns[k + 1].name(to)}"
        return f"{ends}: {self.plan.weights[k]}[{to},{at}]"

    @cached_property
    def _tops(self) -> list[float]:
        """Of each unit's column, the largest mean value in any frame: what full shade stands for."""
        sizes = np.where(np.isfinite(self.states[..., 0]), np.abs(self.states[..., 0]), 0.0).max(axis=0, initial=0.0)
        tops: dict[int, float] = {}
        for (k, _), size in zip(self.units, sizes.tolist(), strict=True):
            tops[k] = max(tops.get(k, 0.0), size)
        return [float(f"{tops[k]:.4g}") for k, _ in self.units]

    # ----- The flows -----

    def _network(self) -> str:
        columns = self.plan.columns
        standing = [[i for j, i in self.units if j == k] for k in range(len(columns))]
        most = max(map(len, standing))
        tall = min(max(most * 56.0, 200.0), 400.0)
        step = min(max((WIDE - 110) / (len(columns) - 1), 100.0), 165.0)
        wide = max(WIDE, step * (len(columns) - 1) + 110)
        left, top = (wide - step * (len(columns) - 1)) / 2, 44.0
        places: dict[tuple[int, int], tuple[float, float, float]] = {}
        texts: list[str] = []
        for k, column in enumerate(columns):
            x, n = left + k * step, len(standing[k])
            gap = min(tall / n, 84.0)
            r = 20.0 if gap >= 48 else min(max(gap * 0.36, 1.5), 12.0)
            for row, i in enumerate(standing[k]):
                places[k, i] = (x, top + tall / 2 + (row - (n - 1) / 2) * gap, r)
            heading = column.heading
            if text_width(plain(heading), SIZE) > step:
                heading = heading.partition(" · ")[0]
            texts.append(_at(x, 14, heading, "b"))
            texts.append(_at(x, 29, f"{column.size:,}" + (f", {n:,} drawn" if n < column.size else ""), "q"))
        low = top + tall + 18
        for k, name in enumerate(self.plan.weights):
            x = left + (k + 0.5) * step
            texts.append(_at(x, low, _fitting(name, step - 6), "q"))
            size = self.norms[-1, self.names.index(name), 1]
            texts.append(f'<g transform="translate({_n(x - 38)} {_n(low + 16)})">{_size(size)}</g>')
        edges, labels = self._edges(places)
        circles = [self._unit(n, columns[k], i, places[k, i]) for n, (k, i) in enumerate(self.units)]
        legend, bottom = self._legend(wide, low + 44)
        names = "; ".join(f"{c.heading}, {c.size:,} units" for c in columns)
        described = f"A line per weight, its width and dashes as the loss answers it at this step. Layers: {names}."
        inside = [
            f'<g class="edges">{"".join(edges)}</g>',
            f'<g class="units">{"".join(circles)}</g>',
            f'<g class="labels">{"".join(labels)}</g>',
            f'<g class="sizes">{"".join(texts)}</g>',
            legend,
        ]
        return _svg("flow", wide, bottom, "Wiggle-flow of the network", described, inside)

    def _edges(self, places: dict[tuple[int, int], tuple[float, float, float]]) -> tuple[list[str], list[str]]:
        edges, labels = [], []
        taken = [(x, y, 2 * r, 2 * r) for x, y, r in places.values()]
        lines = [(places[k, at][:2], places[k + 1, to][:2]) for k, to, at in self.drawn]
        for (k, to, at), (_, g) in zip(self.drawn, self.weights[-1].tolist(), strict=True):
            (x0, y0, r0), (x1, y1, r1) = places[k, at], places[k + 1, to]
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            a, b = (x0 + ux * r0, y0 + uy * r0), (x1 - ux * r1, y1 - uy * r1)
            f = flow(g)
            width = f"{self.scale(f):.3g}"
            line = f"M{_n(a[0])},{_n(a[1])}L{_n(b[0])},{_n(b[1])}"
            edges.append(f'<path class="{f.sign}" stroke-width="{width}" d="{line}"><title></title></path>')
            if len(self.drawn) <= LABELLED:
                x, y = _free(a, b, taken, lines)
                taken.append((x, y, *ROOM))
                labels.append(f'<text class="{f.sign}" x="{_n(x)}" y="{_n(y + 4)}">{shown(g, plus=True)}</text>')
        return edges, labels

    def _unit(self, n: int, column: Column, i: int, place: tuple[float, float, float]) -> str:
        x, y, r = place
        value, fluxion, blocked = self.states[-1, n].tolist()
        top = self._tops[n]
        shade = min(abs(value) / top, 1.0) if top > 0 and math.isfinite(value) else 0.0
        sign = flow(fluxion).sign
        name = column.name(i)
        body = f'<title></title><circle class="ground" r="{_n(r)}"/>'
        body += f'<circle class="own {sign}" r="{_n(r)}" fill-opacity="{shade * 0.45:.2f}"/>'
        if r >= 20:
            body += f'{_at(0, -3, name, "fi")}<text class="num" y="9">{shown(value)}</text>'
        elif column.letter in "xŷ" and r > 4:
            body += f'<text class="{"fi end" if column.letter == "x" else "fi start"}" '
            body += f'x="{_n(-r - 5 if column.letter == "x" else r + 5)}" y="4">{_text(name)}</text>'
        if (self.states[:, n, 2] == 1).any():
            d, away = (4.0, r * 0.8) if r >= 20 else (r * 0.7, 0.0)  # a large one, which holds text, has it on its rim
            line = f"M{_n(away - d)},{_n(-away - d)}l{_n(2 * d)},{_n(2 * d)}m0,{_n(-2 * d)}l{_n(-2 * d)},{_n(2 * d)}"
            body += f'<g class="cross"><circle cx="{_n(away)}" cy="{_n(-away)}" r="{_n(d + 3)}"/><path d="{line}"/></g>'
        kinds = ["dead"] * (blocked == 1) + ["tiny"] * (r <= 5)
        look = f' class="{" ".join(kinds)}"' if kinds else ""
        return f'<g{look} transform="translate({_n(x)} {_n(y)})">{body}</g>'

    def _legend(self, wide: float, y: float) -> tuple[str, float]:
        """What lines mean and how wide they are, and where that ends."""
        parts = ['<g class="legend">']
        g = self.weights[..., 1]
        signs = {"zero"} if (g == 0).any() else set()
        signs |= set() if np.isfinite(g).all() else {"wild"}
        words = {
            "plus": "+ L rises if this weight rises",
            "minus": "− L falls if this weight rises",
            "zero": "exactly zero",
            "wild": "NaN or inf",
        }
        x = 12.0
        for sign in SIGNS if self.drawn else ():
            if sign in ("plus", "minus") or sign in signs:
                needed = 40 + text_width(plain(words[sign]), SMALL)
                if x > 12 and x + needed > wide:
                    x, y = 12.0, y + 18
                parts.append(f'<path class="{sign}" stroke-width="3" d="M{_n(x)},{_n(y - 4)}h26"/>')
                parts.append(f'<text x="{_n(x + 32)}" y="{_n(y)}">{words[sign]}</text>')
                x += needed + 12
        if self.scale.any:
            y, x = y + 20 if self.drawn else y, 12.0
            for share in (0.0, 0.5, 1.0):
                size = 10 ** (self.scale.low + share * (self.scale.high - self.scale.low))
                width = self.scale.thin + share * (self.scale.thick - self.scale.thin)
                if self.drawn:
                    parts.append(f'<path class="mixed" stroke-width="{width:.3g}" d="M{_n(x)},{_n(y - 4)}h26"/>')
                    parts.append(f'<text x="{_n(x + 32)}" y="{_n(y)}">{shown(size)}</text>')
                    x += 44 + text_width(plain(shown(size)), SMALL)
            ends = f"{shown(10**self.scale.low)} to {shown(10**self.scale.high)}"
            lines = ["one scale in all frames: the log of the fluxion's size,"]
            lines.append(
                "spread to half a decade" if self.scale.widened else "from the 5th to the 99th percentile of all frames"
            )
            if not self.drawn:
                lines[1] = f"from {ends}"
            if (self.states[..., 2] == 1).any():
                lines.append("× dead: a ReLU that is 0 for the whole batch sends nothing back")
            for line in lines:
                y += 16
                parts.append(f'<text x="12" y="{_n(y)}">{line}</text>')
        parts.append("</g>")
        return "".join(parts), y + 10

    def _bars(self) -> str:
        """Each parameter as a bar: what there is to see where the layers are no chain."""
        rows = []
        for n, name in enumerate(self.names[:LISTED]):
            y = 24 + 30 * n
            size = float(self.norms[-1, n, 1])
            width = 0.0 if size == 0 else self.scale(flow(size))
            rows.append(
                f'<g transform="translate(12 {y})"><text class="start">{_text(_fitting(name, 200))}</text>'
                f'<rect y="5" width="{width:.3g}" height="8"/>'
                f'<g transform="translate(240 0)">{_size(size)}</g></g>'
            )
        more = len(self.names) - LISTED
        tall = 24 + 30 * min(len(self.names), LISTED)
        if more > 0:
            rows.append(f'<text class="q start" x="12" y="{tall}">and {more:,} more</text>')
        legend, bottom = self._legend(WIDE, tall + (20.0 if more > 0 else 0.0))
        inside = [f'<g class="bars">{"".join(rows)}</g>', legend]
        described = "A bar per parameter: the norm of its fluxion at this step."
        return _svg("flow", WIDE, bottom, "The fluxion of each parameter", described, inside)

    def _table(self) -> str:
        size = '<th>‖<i class="dot">L</i>‖</th>'
        rows = [
            f'<tr><th scope="row">{_text(name)}</th><td>{_shape(self.plan.shapes[name])}</td><td></td><td></td></tr>'
            for name in self.names[:LISTED]
        ]
        more = len(self.names) - LISTED
        tail = f'<p class="note">{more:,} more parameters are not listed.</p>' if more > 0 else ""
        head = f"<tr><th>parameter</th><th>shape</th><th>‖value‖</th>{size}</tr>"
        return f'<div class="scroll"><table><thead>{head}</thead><tbody id="rows">{"".join(rows)}</tbody></table></div>{tail}'

    # ----- The loss -----

    def _curve(self) -> tuple[str, list[list[float]], bool]:
        """The drawing, and of each frame its place: across, and how high the two losses stand."""
        logged, own = [f.logged for f in self.frames], [f.loss for f in self.frames]
        finite = [v for v in (*logged, *own) if math.isfinite(v)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        log = low > 0 and high / low >= 30
        convert = math.log10 if log else float
        if not log and low > 0:
            low = 0.0
        bottom, top = convert(low), convert(high)
        if not top > bottom:
            bottom, top = bottom - 0.5, top + 0.5
        x0, x1, y0, y1 = 52.0, WIDE - 14.0, 12.0, TALL - 34.0
        first, last = self.frames[0].step, self.frames[-1].step

        def across(step: float) -> float:
            return x0 + (x1 - x0) * ((step - first) / (last - first) if last > first else 0.5)

        def up(v: float) -> float:
            return y1 - (y1 - y0) * (convert(v) - bottom) / (top - bottom) if math.isfinite(v) else y0

        places = [[_round(across(f.step)), _round(up(f.logged)), _round(up(f.loss))] for f in self.frames]
        parts = ['<g class="axes">']
        for v, name in _log_ticks(low, high) if log else _ticks(low, high):
            y = up(v)
            parts.append(
                f'<path d="M{_n(x0)},{_n(y)}H{_n(x1)}"/><text class="end" x="{_n(x0 - 6)}" y="{_n(y + 4)}">{name}</text>'
            )
        for v, _ in _ticks(first, last, 4):
            if v == int(v):
                parts.append(_at(across(v), y1 + 16, f"{int(v):,}"))
        parts.append(f"{_at((x0 + x1) / 2, TALL - 4, 'step')}</g>")
        for values, kind, place in ((own, "own", 2), (logged, "logged", 1)):
            line, pen = "", "M"
            for v, at in zip(values, places, strict=True):
                if math.isfinite(v):
                    line += f"{pen}{_n(at[0])},{_n(at[place])}"
                    pen = "L"
                else:
                    pen = "M"
                    parts.append(f'<path class="nan" d="M{_n(at[0] - 3)},{_n(y0 - 3)}l6,6m0,-6l-6,6"/>')
            parts.append(f'<path class="{kind}" d="{line}"/>')
        parts.append(f'<path id="now" d="M0,{_n(y0)}V{_n(y1)}"/>')
        parts.append('<circle id="dot-own" r="4.5"/><circle id="dot-logged" class="logged" r="4.5"/>')
        scale = ", log scale" if log else ""
        legend = (
            '<p class="keyline"><svg width="26" height="8" aria-hidden="true"><path class="logged" d="M0,4h26"/></svg> '
            'as logged <b class="num" id="is-logged"></b> '
            '<svg width="26" height="8" aria-hidden="true"><path class="own" d="M0,4h26"/></svg> '
            'on the batch of this page <b class="num" id="is-own"></b>'
            f"{'. × marks NaN or inf' if len(finite) < 2 * len(self.frames) else ''}</p>"
        )
        described = (
            f"From step {first} to {last}: logged {shown(logged[0])} at first, {shown(logged[-1])} at last{scale}."
        )
        return _svg("curve", WIDE, TALL, "Loss curve", described, parts) + legend, places, log

    # ----- The input plane -----

    def _map(self, plane: Plane) -> str:
        left, right, bottom, top = plane.box
        x0, wide = 52.0, WIDE - 66.0
        tall = wide * min(max((top - bottom) / (right - left), 0.55), 0.9)
        y0 = 6.0
        every = -(-len(self.x) // POINTS)
        parts = [f'<rect class="frame" x="{_n(x0)}" y="{_n(y0)}" width="{_n(wide)}" height="{_n(tall)}"/>']
        steps = f"translate({_n(x0)} {_n(y0 + tall)}) scale({wide / GRID:.5g} {-tall / GRID:.5g})"
        parts.append(f'<path id="edge" vector-effect="non-scaling-stroke" transform="{steps}"/><g class="points">')
        targets = self.y.reshape(len(self.y), -1).astype(np.float64)
        one_hot = plane.kind == "classes" and targets.shape[1] > 1
        met: set[int] = set()
        for (a, b), t in zip(self.x[::every].tolist(), targets[::every], strict=True):
            if not (math.isfinite(a) and math.isfinite(b)):
                continue
            x, y = x0 + wide * (a - left) / (right - left), y0 + tall * (top - b) / (top - bottom)
            v = float(np.argmax(t)) if one_hot else float(t[0])
            if plane.classes:
                c = plane.classes.index(v) if v in plane.classes else 0
                met.add(c)
                look = f'class="c{c % 8}" d="{MARKS[c % 8]}"'
            else:
                share = min(max((v - plane.level) / plane.span, -1.0), 1.0)
                look = f'class="c{int(share > 0)} of" fill-opacity="{abs(share):.2f}" d="{MARKS[0]}"'
            parts.append(f'<path transform="translate({_n(x)} {_n(y)})" {look}/>')
        parts.append('</g><g class="axes">')
        for v, name in _ticks(left, right, 4):
            parts.append(_at(x0 + wide * (v - left) / (right - left), y0 + tall + 15, name))
        for v, name in _ticks(bottom, top, 4):
            y = y0 + tall * (top - v) / (top - bottom)
            parts.append(f'<text class="end" x="{_n(x0 - 6)}" y="{_n(y + 4)}">{name}</text>')
        parts.append(_at(x0 + wide / 2, y0 + tall + 30, "x[0]", "fi"))
        parts.append(f"{_at(12, y0 + tall / 2, 'x[1]', 'fi')}</g>")
        height = y0 + tall + 36
        spot = (100 * x0 / WIDE, 100 * y0 / height, 100 * wide / WIDE, 100 * tall / height)
        place = "left:{:.3f}%;top:{:.3f}%;width:{:.3f}%;height:{:.3f}%".format(*spot)
        described = (
            f"The plane of the two inputs, coloured by what the model gives at this step, and the batch. {plane.what}."
        )
        svg = _svg("plane", WIDE, height, "The input plane", described, parts)
        marks = "".join(
            f'<span><svg width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true" class="points">'
            f'<path class="c{c % 8}" d="{MARKS[c % 8]}"/></svg> y = {plane.classes[c]:g}</span> '
            for c in sorted(met)
        )
        if any((f.plane == NO_NUMBER).any() for f in self.frames if f.plane is not None):
            marks += "<span>grey: NaN</span> "
        less = f" Every {every}th point of the batch is drawn." if every > 1 else ""
        return (
            f"<figure><figcaption>What the model says of each input</figcaption>"
            f'<div class="map"><canvas id="field" aria-hidden="true" width="{GRID}" height="{GRID}" style="{place}"></canvas>{svg}</div>'
            f'<p class="keyline">{marks}{_text(plane.what)}.{less}</p></figure>\n'
        )


# Small things


def _size(value: float) -> str:
    """‖L̇‖ = 0.5, its dot drawn: few fonts can set it."""
    number = f'<tspan class="num">{shown(float(value))}</tspan>'
    return f'<text class="start">‖L‖ = {number}</text><circle cx="8.6" cy="-10.6" r="1.1"/>'


def _svg(name: str, width: float, height: float, title: str, described: str, parts: Sequence[str]) -> str:
    return (
        f'<svg id="{name}" role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {_n(width)} {_n(math.ceil(height))}" '
        f'style="min-width:{width * 0.75:.0f}px">'
        f'<title id="{name}-t">{_text(title)}</title><desc id="{name}-d">{_text(described)}</desc>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _at(x: float, y: float, text: str, kind: str = "") -> str:
    look = f' class="{kind}"' if kind else ""
    return f'<text{look} x="{_n(x)}" y="{_n(y)}">{_text(text)}</text>'


def _fitting(name: str, room: float) -> str:
    while len(name) > 1 and text_width(plain(name), SMALL) > room:
        name = name.removesuffix("…")[:-1] + "…"
    return name


def _free(
    a: Point, b: Point, taken: list[tuple[float, float, float, float]], lines: list[tuple[Point, Point]]
) -> Point:
    """Of some points along a line, the one where a number lies freest of units, other numbers and other lines."""
    best, least = a, math.inf
    for share in (0.5, 0.44, 0.56, 0.38, 0.62, 0.32, 0.68, 0.26, 0.74, 0.2, 0.8):
        x, y = a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
        covered = 20 * abs(share - 0.5)
        for tx, ty, tw, th in taken:
            wide, high = (ROOM[0] + tw) / 2 - abs(x - tx), (ROOM[1] + th) / 2 - abs(y - ty)
            covered += 4 * wide * high if wide > 0 and high > 0 else 0.0
        for p, q in lines:  # its own counts alike everywhere
            low, high = crossing(p, q, (x, y), ROOM)
            covered += 4 * (high - low) * math.dist(p, q)
        if covered < least:
            best, least = (x, y), covered
    return best


def _ticks(low: float, high: float, about: float = 3) -> list[tuple[float, str]]:
    """Round numbers within a span.

    >>> _ticks(0.0, 0.9, 2)
    [(0.0, '0'), (0.5, '0.5')]
    """
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [(low, shown(low))]
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * size for m in (1, 2, 5, 10) if span / (m * size) <= about + 1.5)
    return [(k * step, shown(k * step)) for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / 4))
    return [(10.0**k, shown(10.0**k)) for k in range(first, last + 1, every)]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _number(x: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return x if math.isfinite(x) else "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def _packed(a: Array) -> str:
    return b64encode(np.ascontiguousarray(a, dtype="<f4").tobytes()).decode()


def _round(x: float) -> float:
    return round(x, 1)


def _n(x: float) -> str:
    text = f"{x:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _text(text: str) -> str:
    return html.escape(text)
