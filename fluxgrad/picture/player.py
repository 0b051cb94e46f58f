"""The player: a page on which the sweep is stepped through, forwards and then back, one operation at a time.

Its picture is the op view and its lines are those of `explain`; here they are only put in order: which card and which
edges belong to which step, and what the card of each value says when so many contributions have come.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from fluxgrad.ink.book import Line as Worked
from fluxgrad.ink.explain import explain
from fluxgrad.ink.names import L_DOT, LENGTH
from fluxgrad.ink.pen import Pen, Row, listed
from fluxgrad.picture import style
from fluxgrad.picture.layout import place
from fluxgrad.picture.op import op_scene
from fluxgrad.picture.page import Page, page, part
from fluxgrad.picture.scene import Node, Run, Scene, card, norm, scalar, shape, shown, single
from fluxgrad.picture.svg import ENTRIES, MARGIN, render
from fluxgrad.sweep import Flows, Step, flows
from fluxgrad.tensor import Array, Tensor

__all__ = ["Player", "play"]

ALL = 10**9
"""The page scrolls, and tells of every operand: each has its mark."""


class Player(Page):
    """The page of `play`: `.html` is its text, `.save(path)` writes it, a notebook shows it in a frame of its own."""

    def __init__(self, L: Tensor, predict: bool = False) -> None:
        self._script = _Script(L)
        self._predict = predict
        super().__init__(f"Wiggle-flow of {self._script.names[L]}, step by step", height=760)

    @cached_property
    def html(self) -> str:
        """The page as text: one file that needs no other, the same bytes for the same graph.

        Raises ImportError, with what to install, where Graphviz is needed and not there.
        """
        script, predict = self._script, self._predict
        body = _body(self._title, script, predict)
        return page(self._title, body, script.data | {"predict": predict}, part("player.js"), part("player.css"))


def play(L: Tensor, predict: bool = False) -> Player:
    """A page to step through the graph that made L: its values forwards, then L̇ of each of them backwards.

    Each step has the line of `explain` beside the picture; at a fork the page says what is still waited for. Keys, buttons
    and a slider go back and forth. With `predict=True` a fluxion is hidden until the reader has guessed its sign. Of more
    than 60 operations the last 60 are played. Touches no `.grad`.

    Raises TypeError for what is not a tensor, and ValueError where L depends on nothing that requires grad.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> player = fg.play(x * x)
    >>> player
    <Wiggle-flow of L, step by step>
    >>> "x gets upstream 1 × local 3 = 3" in player.html
    True
    """
    if not isinstance(L, Tensor):
        raise TypeError(f"play(L): L is a tensor; given {type(L).__name__}")
    return Player(L, predict)


class _Script:
    """What happens at each step, as data for the page, and the scene that it happens in."""

    def __init__(self, L: Tensor) -> None:
        self.record = record = flows(L)
        self.steps = record.steps[: style.OPERATIONS]
        count, more = len(self.steps), len(record.steps) - len(self.steps)
        total = f"{len(record.steps):,} operations; {more:,} earlier ones are left out."
        self.left_out = f"These are the last {count} of {total}" if more else ""
        edges = sum(len(s.parents) for s in self.steps)
        derivation = explain(L, limit=max(40, 3 * edges // 2 + 3))  # it shows two thirds of them from the start
        self.pen, book = Pen(derivation._book, "notation"), derivation._book
        self.names = book.names
        self.lines = {line.tensor: line for line in derivation._lines}
        self.turn = {s.output: len(self.steps) + 2 + j for j, s in enumerate(self.steps)}  # when each sends back
        self.made = {s.output: k for k, s in enumerate(reversed(self.steps), 1)}
        self.senders: dict[Tensor, list[tuple[Step, Array]]] = defaultdict(list)
        for s in record.steps:
            for p, c in zip(s.parents, s.contributions, strict=True):
                if p is not None and c is not None:
                    self.senders[p].append((s, c))

        # Only what is played is drawn, so nothing folds; a quoted name that is too long for a card has no quotes there.
        met = {record.root} | {t for s in self.steps for t in (s.output, *s.parents) if t is not None}
        drawn = Flows(record.root, self.steps, {t: record[t] for t in record.tensors if t in met})
        names = {t: n if len(n) <= LENGTH else n[1:-1] for t, n in self.names.items()}
        plain_scene = op_scene(drawn, names, limit=ALL)
        key = {t: f"n{i}" for i, t in enumerate(drawn.tensors)}
        tensor = {name: t for t, name in key.items()}
        cards = [self._card(n, tensor[n.key]) if n.key in tensor else (n, None) for n in plain_scene.nodes]
        self.forks = any(told is not None and "notes" in told for _, told in cards)
        self.index = {tensor[n.key]: i for i, n in enumerate(plain_scene.nodes) if n.key in tensor}
        self.scene = replace(
            plain_scene,
            story="What happens in it is told step by step, below.",
            nodes=tuple(n for n, _ in cards),
            edges=tuple(replace(e, title=e.title.partition(": ")[0]) for e in plain_scene.edges),
        )
        root = self.names[record.root]
        self.data: dict[str, Any] = {
            "about": f"{L_DOT}_x is ∂L/∂x, the .grad of x" + f"; here L is {root}" * (root != "L") + ".",
            "forward": len(self.steps),
            "nodes": [told for _, told in cards],
            "edges": self._edges(key),
            "steps": [self._start(), *map(self._forwards, reversed(self.steps)), self._seed(), *self._backwards()],
        }

    # The cards and the edges

    def _card(self, node: Node, t: Tensor) -> tuple[Node, dict[str, Any]]:
        """A card with room for all that it says in its turn, and that."""
        compact = len(self.steps) > style.COMPACT
        fluxion = node.lines[-1]
        end, wants = fluxion[-1].text, len(self.senders[t])
        came = sorted(k for s, _ in self.senders[t] if (k := self.turn.get(s.output)))
        sent = [c for s, c in self.senders[t] if s.output in self.turn]
        if t is self.record.root:
            came, wants, sums = [len(self.steps) + 1], 1, [": not yet", end]
        else:
            bar = "" if single(self.record[t]) else "‖"
            sums = [f"{bar}: not yet"] + [_so_far(sent[:m], bar, wants, compact) for m in range(1, len(sent) + 1)]
            if len(sent) == wants:
                sums[-1] = end
        told: dict[str, Any] = {
            "made": self.made.get(t, 0),
            "came": came,
            "wants": wants,
            "sums": sums,
            "apart": len(node.lines) > 2,
        }
        lines = node.lines[:-1]
        choices = [(*fluxion[:-1], Run("plain", text)) for text in sums]
        if wants > 1:
            told["notes"] = [_waiting(m, wants) for m in range(len(sent) + 1)]
            choices += [(Run("quiet", text),) for text in told["notes"]]
            lines += ((Run("quiet", told["notes"][-1]),),)
        lines += ((*fluxion[:-1], Run("plain", sums[-1])),)
        story = f"made by {t.row.name}" if t.row is not None else "given"
        width, height = card((*lines, *choices))[0], card(lines)[1]
        kind = "cut" if t.row is not None and t not in self.made else node.kind
        return replace(node, lines=lines, title=self.names[t], story=story, kind=kind, width=width, height=height), told

    def _edges(self, key: dict[Tensor, str]) -> list[dict[str, int]]:
        """For each edge of the scene: at which step it lights forwards and backwards (0: never), and to which card."""
        found: dict[tuple[str, str], list[dict[str, int]]] = defaultdict(list)
        for s in reversed(self.steps):
            head = key[s.output]
            for i, (p, c) in enumerate(zip(s.parents, s.contributions, strict=True)):
                told = {"forward": self.made[s.output], "back": 0, "to": -1}
                if p is not None and p in self.index:
                    told |= {"back": self.turn[s.output] if c is not None else 0, "to": self.index[p]}
                    found[key[p], head].append(told)
                found[f"{head}_{i}", head].append(told)  # a constant, or a leaf that is drawn again
        return [found[e.tail, e.head].pop(0) for e in self.scene.edges]

    # The steps

    def _start(self) -> dict[str, Any]:
        lead = "Nothing is computed yet: only what was given has a value. Step forward."
        return {"node": -1, "lead": lead, "gets": [], "lines": []}

    def _forwards(self, s: Step) -> dict[str, Any]:
        of = listed(list(dict.fromkeys(self.names[p] for p in s.parents if p is not None)))
        lead = f"{self.names[s.output]} is computed, from {of}."
        node = self.index[s.output]
        return {"node": node, "lead": lead, "gets": [], "lines": [{"node": node, "rows": _rows(self.pen.made(s))}]}

    def _seed(self) -> dict[str, Any]:
        root = self.record.root
        name = self.names[root]
        every = " for each element" if root.size > 1 else ""
        lead = f"All values are there. The sweep back starts at {name}: moved by 1, it moves by 1."
        row = Row(f"{L_DOT}_{name}", "", "", "1", f"given{every}")
        node = self.index[root]
        return {"node": node, "lead": lead, "gets": [], "lines": [{"node": node, "rows": _rows([row])}]}

    def _backwards(self) -> list[dict[str, Any]]:
        came = Counter[Tensor]()
        waiting, found = {self.record.root}, []
        for s in self.steps:
            waiting.discard(s.output)
            others = sorted(waiting, key=lambda t: -t.index)
            reached = [p for p, c in zip(s.parents, s.contributions, strict=True) if p is not None and c is not None]
            came.update(reached)
            waiting.update(p for p in reached if p.row is not None)
            told = {"node": self.index[s.output], "lead": self._lead(s, others), "gets": self._gets(s)}
            found.append(told | {"lines": [self._line(p, s, came[p]) for p in dict.fromkeys(reached)]})
        return found

    def _lead(self, s: Step, others: list[Tensor]) -> str:
        """Whose turn it is, and why."""
        name = self.names[s.output]
        sends = "sends back" if any(c is not None for c in s.contributions) else "has nothing to send back"
        if not others:
            return f"{L_DOT}_{name} is complete, so {name} {sends}."
        waiting = listed([self.names[t] for t in (s.output, *others)])
        return (
            f"Of {waiting}, {name} was made last: all that it feeds has sent its part. "
            f"So {L_DOT}_{name} is complete, and {name} {sends}."
        )

    def _gets(self, s: Step) -> list[dict[str, Any]]:
        """What each operand gets: upstream × local = contribution."""
        found = []
        for i, (p, c) in enumerate(zip(s.parents, s.contributions, strict=True)):
            if p is not None:
                text = "nothing" if c is None else self._product(s, i, c)
                found.append({"node": self.index[p], "text": f"{self.names[p]} gets {text}"})
        return found

    def _product(self, s: Step, i: int, c: Array) -> str:
        figure = self.pen.figure
        if not single(c):
            return f"an array {shape(c)}, of norm {figure(norm(c))}"
        local = self._local(s, i)
        if local is None:
            return f"the contribution {figure(scalar(c))}"
        return f"upstream {figure(scalar(s.fluxion))} × local {_apart(figure(local))} = {figure(scalar(c))}"

    def _local(self, s: Step, i: int) -> float | None:
        """ẏ_x of numbers: as recorded or, of a row that tells only what it sends, what it sends for L̇_y = 1."""
        if not (single(s.fluxion) and single(s.inputs[i])):
            return None
        local = s.locals[i]
        if local is None:
            y = self.record.value(s.output)
            local = s.row.pull(i, np.ones_like(s.fluxion), y, s.inputs, s.options)
        return None if local is None else scalar(local)

    def _line(self, p: Tensor, s: Step, came: int) -> dict[str, Any]:
        """The line of an operand: of `explain` where its fluxion is complete, else what it waits for."""
        name, wants = self.names[p], len(self.senders[p])
        told: dict[str, Any] = {"node": self.index[p], "rows": []}
        if came < wants:
            parts = [c for _, c in self.senders[p]]
            rest = list(dict.fromkeys(self.names[x.output] for x, _ in self.senders[p][came:]))
            have = "has" if came == 1 else "have"
            so_far = self.pen.figure(scalar(np.sum(parts[:came], axis=0))) if single(parts[0]) else ""
            told["waits"] = (
                f"{name} waits: {came:,} of {wants:,} contributions {have} come{f', {so_far} so far' * bool(so_far)}; "
                f"{listed(rest)} {'has' if len(rest) == 1 else 'have'} yet to send."
            )
            return told
        line = self.lines.get(p)
        if line is None or not line.value.size:
            return told
        rows = self.pen.rows(line)
        told["rows"] = _rows(rows)
        x = float(line.value[line.at])
        if not math.isnan(x):
            told["sign"] = "+" if x > 0 else "−" if x < 0 else "0"
            told["what"] = next(r.label for r in rows if r.result)
            told["why"] = self._why(p, s, line)
        return told

    def _why(self, p: Tensor, s: Step, line: Worked) -> str:
        sent = self.senders[p]
        if len(sent) == 1 and single(sent[0][1]):
            i = next(i for i, x in enumerate(s.parents) if x is p)
            return f"{self._product(s, i, sent[0][1])}."
        _, numbers, result = self.pen.worked(line)
        return f"{numbers} = {result}." if numbers else f"it is {result}."


# ----- Words and rows -----


def _so_far(sent: Sequence[Array], bar: str, wants: int, compact: bool) -> str:
    """The end of a card's last line when so much has come, and more is to come."""
    total = np.sum(sent, axis=0)
    if bar:
        return f"{bar} = {shown(norm(total))} + …"
    terms = [shown(scalar(c)) for c in sent] if wants <= 3 and not compact else [shown(scalar(total))]
    return f" = {' + '.join(terms)} + …".replace("+ −", "− ")


def _waiting(came: int, wants: int) -> str:
    if came == 0:
        return f"a fork: feeds {wants:,}"
    if came < wants:
        return f"waits for {wants - came:,} more"
    return "both have come" if wants == 2 else f"all {wants:,} have come"


def _apart(figure: str) -> str:
    return f"({figure})" if figure.startswith("−") else figure


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of a derivation for the page; `asked` is what may be seen before the sign is guessed: no number."""
    found = []
    for r in rows:
        symbols = r.symbols if re.search(r"[^\W\d]", r.symbols) else ""
        asked = [symbols] * bool(symbols) + ["?"] * bool(r.result or not symbols)
        cells = list(filter(None, r[1:4]))
        more: dict[str, Any] = {"remark": r.remark} if r.remark else {}
        found.append({"label": r.label, "cells": cells, "asked": asked} | more | ({"inner": True} if r.inner else {}))
    return found


# ----- The page -----


def _body(title: str, script: _Script, predict: bool) -> str:
    svg, width, height = _bare(script.scene)
    signs = {e.flow.sign for e in script.scene.edges} | {n.flow.sign for n in script.scene.nodes} | {"plus", "minus"}
    entries = [(s, words.format(what="this")) for s, words in ENTRIES.items() if s in signs and s != "none"]
    entries.append(("later", "not computed yet"))
    entries += [("waits", "waits for more")] * script.forks
    key = "".join(f'<li><b class="{sign}"></b>{html.escape(words)}</li>' for sign, words in entries)
    guesses = "".join(
        f'<button value="{sign}" aria-label="{name}">{sign}</button>'
        for sign, name in (("+", "plus"), ("−", "minus"), ("0", "zero"), ("skip", "skip"))
    )
    look = ("tall" if height > 0.8 * width else "wide") + " predict" * predict
    return (
        f'<main class="{look}">\n'
        f'<header><h1>{html.escape(title)}</h1><p id="about"></p><p>{html.escape(script.left_out)}</p></header>\n'
        '<div id="view" tabindex="0" role="region" aria-label="picture" '
        f'style="--w:{width}px;--ratio:{width / height:.3f}">{svg}</div>\n'
        '<div id="dock"><nav aria-label="steps"><button id="back"><span aria-hidden="true">← </span>step back</button>'
        '<input id="at" type="range" min="0" max="1" value="0" aria-label="step">'
        '<button id="forth">step forward<span aria-hidden="true"> →</span></button></nav>\n'
        '<div id="tell" tabindex="0" role="status" aria-live="polite" aria-atomic="true"></div>\n'
        f'<fieldset id="ask" hidden><legend class="off">the sign</legend>{guesses}</fieldset>\n'
        f'<p id="score"{" hidden" * (not predict)}></p>\n'
        f'<ul class="key" aria-label="key">{key}</ul>\n'
        "<noscript><p>This is the finished picture. To step through it takes JavaScript.</p></noscript></div>\n</main>"
    )


def _bare(scene: Scene) -> tuple[str, int, int]:
    """The picture without its legend, which the page has as text, and its width and height."""
    placed = place(scene)
    head, _, rest = render(scene, placed).rpartition("<g transform=")[0].strip().partition(" width=")
    size = re.compile(r'^"(\d+)" height="\d+" viewBox="[^"]*"')
    drawn = size.match(rest)
    assert drawn is not None
    left = (int(drawn[1]) - placed.width) / 2 - MARGIN
    width, height = math.ceil(placed.width + 2 * MARGIN), math.ceil(placed.height + 2 * MARGIN)
    box = f' width="{width}" height="{height}" viewBox="{left:.1f} 0 {width} {height}"'
    return f"{head}{box}{size.sub('', rest)}</svg>", width, height
