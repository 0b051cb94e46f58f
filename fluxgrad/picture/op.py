"""The op view: one card per value, one edge per operand, and on each edge what it sends back."""

from __future__ import annotations

import inspect
import unicodedata
from collections import Counter
from itertools import accumulate, groupby
from typing import Any

import numpy as np

from fluxgrad.ink.names import clean, names_of
from fluxgrad.picture import style
from fluxgrad.picture.fold import DEEPEST, Fold, Plan, around, joined, plan, strongest
from fluxgrad.picture.scene import (
    Cluster,
    Edge,
    Flow,
    Line,
    Node,
    Run,
    Scene,
    card,
    flow,
    fluxion_line,
    fluxion_title,
    norm,
    number,
    plain,
    scalar,
    shape,
    shown,
    single,
    value_title,
)
from fluxgrad.rules.kinds import Fused, Row
from fluxgrad.scope import Opened
from fluxgrad.sweep import Flows, Step
from fluxgrad.tensor import Array, Tensor

NOTES: list[Line] = [
    plain("Values run forwards; fluxions flow back along the arrows and add up where they meet."),
    (Run("dot", "L"), Run("sub", "x"), Run("plain", " is the fluxion of L by x, ∂L/∂x, the .grad of x.")),
]


def op_scene(
    flows: Flows,
    paths: dict[Tensor, str] | None = None,
    caption: Line = (),
    limit: int | None = None,
    wide: int = 0,
) -> Scene:
    """The last operations of a record, as a scene; `paths` are names that go before the tensors' own.

    Scopes are boxes; in a record of too many operations they fold. `caption` is a note below, `limit` how many operations,
    and operands of one, are drawn at the most; `wide` tells that it is so few because more took that many pixels.
    """
    fan = style.FAN if wide or not limit else max(limit, style.FAN)
    planned = plan(flows, limit or style.OPERATIONS, fan)
    steps, earlier, inside = planned.steps, planned.earlier, planned.inside
    compact = planned.cards > style.COMPACT
    names = names_of(flows, clean, paths)
    key = {t: inside[t].key if t in inside else f"n{i}" for i, t in enumerate(flows.tensors)}
    root = names[flows.root]
    names |= {t: f.path for t, f in inside.items()}
    hidden = {t for f in planned.folds for t in f.leaves}
    forms: dict[Tensor, str] = {}
    parts: dict[Tensor, list[Array]] = {}  # what each tensor is sent
    nodes: list[Node] = []
    edges: list[Edge] = []
    small: list[Node] = []  # constants, and leaves that are drawn again
    uses = Counter(p for s in steps for p in s.parents if p is not None and p.row is None)
    shared = {p for p, n in uses.items() if n > style.USES} if compact else set()

    for s in reversed(steps):  # forwards: so constant arrays are numbered as the values were computed
        y = key[s.output]
        operands = []
        for given, parent, x in zip(s.output.operands, s.parents, s.inputs, strict=True):
            operands.append(names.get(given if parent is None else parent) or shown(scalar(x)))
        form = forms[s.output] = expression(s.row, operands)
        into = min(form, names[s.output], key=len) if compact or form.endswith("…") else form
        marked = planned.fans.get(s.output, range(len(operands)))
        if len(marked) < len(operands):
            left = [sent for i, sent in enumerate(s.contributions) if i not in marked]
            node, edge = _rest(f"{y}_more", into, left)
            small.append(node)
            edges.append(edge)
        for i, (parent, x, sent) in enumerate(zip(s.parents, s.inputs, s.contributions, strict=True)):
            if i not in marked:
                continue
            if parent in key:
                label, words = _contribution(s, i, compact)
                tail = key[parent]
                if parent in shared:
                    tail = f"{y}_{i}"
                    small.append(_again(tail, operands[i], x, flows[parent]))
                edges.append(Edge(tail, y, f"{operands[i]} → {into}: {words}", flow(sent), label))
                if parent not in inside:
                    parts.setdefault(parent, []).extend([] if sent is None else [sent])
            else:
                small.append(_constant(f"{y}_{i}", operands[i], x))
                edges.append(Edge(f"{y}_{i}", y, f"{operands[i]} → {into}: a constant, no fluxion", flow(None), ()))

    outside = [
        {p for s in f.steps for p in s.parents if p is not None and p.row is None} - hidden for f in planned.folds
    ]
    met = Counter(p for leaves in outside for p in leaves)
    again = {p for p, n in met.items() if n > style.USES}
    shared |= again
    fans = [len(s.parents) for s in steps if s.output in planned.fans]
    partial = {p for s in steps if s.output in planned.fans for p in s.parents}  # they are sent more than is drawn
    for f in planned.folds:
        arriving: dict[str, dict[Tensor, Array]] = {}
        silent: dict[str, Tensor] = {}
        for s in f.steps:
            for parent, sent in zip(s.parents, s.contributions, strict=True):
                if parent is None or parent in hidden or inside.get(parent) is f:
                    continue
                silent.setdefault(key[parent], parent)
                if sent is not None:
                    given = arriving.setdefault(key[parent], {})
                    given[parent] = given[parent] + sent if parent in given else sent
        leaves = {tail: list(arriving.get(tail, {}).values()) for tail, p in silent.items() if p.row is None}
        if len(leaves) > fan:
            fans.append(len(leaves))
            kept = strongest(leaves.values(), fan - 1)
            rest = [tail for i, tail in enumerate(leaves) if i not in kept]
            node, edge = _rest(f"{f.key}_more", f.path, [leaves[tail][0] if leaves[tail] else None for tail in rest])
            small.append(node)
            edges.append(edge)
            partial |= {silent.pop(tail) for tail in rest}
        for tail, parent in silent.items():
            given = arriving.get(tail, {})
            if parent not in inside:
                parts.setdefault(parent, []).extend(map(np.asarray, given.values()))
            if parent in again:
                tail = f"{f.key}_{tail}"
                small.append(_again(tail, names[parent], flows.value(parent), flows[parent]))
            edges.append(_crossing(tail, f, names[parent], list(given.values())))

    used = set(forms) | set(parts) | ({flows.root} - set(inside))
    undrawn = [*earlier, *planned.beyond]
    partial |= {p for s in undrawn for p in s.parents}
    made = {s.output for s in undrawn}
    drawn = [t for t in flows.tensors if t in used]
    for t in drawn:
        sent = [] if t in partial or compact else parts.get(t, [])
        nodes.append(_node(key[t], t, flows, names[t], forms.get(t), sent, compact, cut=t in made))
    nodes += [_folded(f, flows) for f in planned.folds]

    effects = [_effect(names[t], flows[t]) for t in drawn if t.row is None]
    story = _first([_told(s, names, forms[s.output]) for s in steps], 400) + _first(effects, 200)
    extra: list[Line] = []
    if root != "L":
        extra.append((Run("plain", "Here L is "), Run("name", root), Run("plain", ".")))
    if flows.root in inside:
        extra.append(
            (Run("name", root), Run("plain", " is what "), Run("strong", names[flows.root]), Run("plain", " gives."))
        )
        story.insert(0, f"{root} is what {names[flows.root]} gives.")
    if shared:
        extra.append(plain("A name without a card is a leaf drawn again: its card has the sum."))
    heading: Line = ()
    if planned.folds:
        count = sum(len(f.steps) for f in planned.folds)
        total = f"{len(flows.steps):,} operations, of which {count:,} are folded into {len(planned.folds)} scopes"
        story.append(f"{total}.")
        heading = (Run("strong", total),)
        if earlier:
            story.append(f"{len(earlier):,} earlier operations are left out.")
            heading += (Run("plain", f"; {len(earlier):,} earlier ones are left out."),)
    elif earlier:
        story.append(f"{len(earlier):,} earlier operations are left out.")
        heading = (
            Run("strong", f"The last {len(steps)} of {len(flows.steps):,} operations"),
            Run("plain", f"; {len(earlier):,} earlier ones are left out."),
        )
    if wide:
        extra.append(plain(f"More operations would make it {wide:,} pixels wide."))
    if fans:
        words = f"Of more than {fan} operands the strongest are drawn"
        behind = f"; {len(planned.beyond):,} operations lead to others alone, and are left out" * bool(planned.beyond)
        extra.append(plain(f"{words}{behind}."))
        story.append(f"{words}{behind}.")
    if undrawn or fans:
        whole = max(len(flows.steps), *fans, 0)
        extra.append(plain(f"With limit={whole} all is drawn."))
    if caption:
        extra.append(caption)
    return Scene(
        view="op",
        title=f"Wiggle-flow of {root}: {value_title(root, flows.value(flows.root))}",
        story=" ".join(story),
        nodes=(*nodes, *small),
        edges=tuple(edges),
        notes=(*NOTES, *extra),
        heading=heading,
        clusters=_clusters(planned, {t: key[t] for t in drawn}, [n.key for n in small], edges),
    )


def _rest(key: str, into: str, given: list[Array | None]) -> tuple[Node, Edge]:
    """One mark for the operands that have none of their own, and what they are sent together."""
    sent = [c for c in given if c is not None]
    name = f"{len(given):,} more"
    both, size = joined(sent) if sent else (flow(None), 0.0)
    nothing = len(given) - len(sent)
    words = "operands without a mark of their own" + f"; {nothing:,} of them get nothing" * bool(nothing)
    title = f"{name}, ‖L̇‖ sent = {number(size, 6)}"
    label: tuple[Line, ...] = (plain(f"‖·‖ {shown(size)}"),) if sent else ()
    says = f"contributes ‖·‖ = {number(size, 6)}" if sent else "no fluxion"
    node = _small(key, "more", (Run("quiet", f"and {name}"),), title, words)
    return node, Edge(key, key.removesuffix("_more"), f"{name} → {into}: {says}", both, label)


# Scopes


def _crossing(tail: str, f: Fold, name: str, sent: list[Array]) -> Edge:
    """What a fold sends back to one of its operands."""
    title = f"{name} → {f.path}: contributes"
    if not sent:
        return Edge(tail, f.key, f"{title} nothing", flow(None), ())
    both, size = joined(sent)
    if len(sent) == 1 and single(sent[0]):
        x = scalar(sent[0])
        return Edge(tail, f.key, f"{title} {number(x, 6)}", both, (plain(shown(x, plus=True)),))
    return Edge(tail, f.key, f"{title} ‖·‖ = {number(size, 6)}", both, (plain(f"‖·‖ {shown(size)}"),))


def _folded(f: Fold, flows: Flows) -> Node:
    """The card of a folded scope: how much is in it, what it gives, and how L answers that."""
    fluxions = [flows[t] for t in f.outputs]
    count = f"{len(f.steps):,} operations"
    lines: list[Line] = [(Run("strong", f.name), Run("quiet", f"\u2002{count}"))]
    if len(f.outputs) == 1:
        value = flows.value(f.outputs[0])
        title = f"{value_title(f.path, value)}, {fluxion_title(f.path, fluxions[0])}"
        amount = f"= {shown(scalar(value))}" if single(value) else f"‖·‖ = {shown(norm(value))}"
        lines.append(plain(f"{amount}\u2002{shape(value)}".strip()))
        last = fluxion_line("", fluxions[0])
    else:
        size = joined(fluxions)[1]
        title = f"{f.path} = {len(f.outputs)} results, ‖L̇_{f.path}‖ = {number(size, 6)}"
        lines.append(plain(f"{len(f.outputs)} results"))
        last = (Run("plain", "‖"), Run("dot", "L"), Run("plain", f"‖ = {shown(size)}"))
    story = f"{count} folded"
    if f.leaves:
        size = joined([flows[t] for t in f.leaves])[1]
        story += f"; {len(f.leaves)} leaves in it, ‖L̇‖ = {number(size, 6)}"
        lines.append((Run("dot", "L"), Run("plain", f" of {len(f.leaves)} leaves: ‖·‖ = {shown(size)}")))
    lines.append(last)
    width, height = card(tuple(lines))
    return Node(f.key, title, story, "folded", tuple(lines), joined(fluxions)[0], width, height)


def _clusters(planned: Plan, key: dict[Tensor, str], small: list[str], edges: list[Edge]) -> tuple[Cluster, ...]:
    """The scopes that are open, as boxes: around what was made in them, and what is used in them alone where that is
    a constant, or a parameter of their module."""
    place: dict[str, Opened] = {}
    for t, k in key.items():
        if t in planned.home:
            place[k] = planned.home[t]
    for f in planned.folds:
        if f.home is not None:
            place[f.key] = f.home
    heads: dict[str, set[str]] = {}
    for e in edges:
        heads.setdefault(e.tail, set()).add(e.head)
    for k in small:
        (head,) = heads[k]
        if head in place:
            place[k] = place[head]
    for t, k in key.items():
        if t.row is None and k not in place and heads.get(k):
            homes = {place.get(head) for head in heads[k]}
            where = homes.pop() if len(homes) == 1 else None
            while where is not None and id(t) not in (where.owned or ()):
                where = where.outer
            if where is not None:
                place[k] = where
    inside: dict[Opened, list[str]] = {}
    for k, where in place.items():
        inside.setdefault(where, []).append(k)
    every: dict[Opened, int] = {}  # how many cards lie in a scope, at any depth
    for where, keys in inside.items():
        for outer in around(where):
            every[outer] = every.get(outer, 0) + len(keys)
    for where in list(inside):  # a module of one operation is no box of its own
        if where.owned is not None and every[where] == 1 and where.outer is not None:
            inside.setdefault(where.outer, []).extend(inside.pop(where))
    found: dict[Opened, int] = {}
    clusters: list[Cluster] = []
    for where, keys in inside.items():
        for depth, one in enumerate(around(where)[:DEEPEST]):
            if one not in found and (depth or one.owned is None or every[one] > 1):
                found[one] = len(clusters)
                name = planned.names.get(one) or clean(one.name)
                clusters.append(Cluster(name, (Run("strong", name),), (), found.get(one.outer) if one.outer else None))
        home = next((found[one] for one in reversed(around(where)) if one in found), None)
        if home is not None:
            c = clusters[home]
            clusters[home] = Cluster(c.title, c.name, (*c.keys, *keys), c.outer)
    return tuple(clusters)


# Words


def expression(row: Row, operands: list[str]) -> str:
    """A row's form with the operands' own names in it: "x·w" of v1 and b is v1·b.

    Which letters stand for the operands is read from the row's own functions; where the form does not show
    them all, it comes out as name(operands).
    """
    operands = [f"({o})" if o.startswith("−") else o for o in operands]
    first = 2 if isinstance(row, Fused) else 1  # (L̇_y, y, *inputs); (y, *inputs), (L̇_y, *inputs)
    words = ["".join(group) for _, group in groupby(row.form, key=_in_word)]
    for f in row.fluxions:
        letters = list(inspect.signature(f).parameters)[first : first + len(operands)]
        if len(letters) == len(operands) and set(letters) <= set(words):
            mine = dict(zip(letters, operands, strict=True))
            return clean("".join(mine.get(word, word) for word in words))
    return clean(f"{row.name}({', '.join(operands)})")


def _in_word(c: str) -> bool:
    return c == "_" or unicodedata.category(c) in ("Ll", "Lu")


def _told(step: Step, names: dict[Tensor, str], form: str) -> str:
    """One step of the sweep as a sentence."""
    sent = [
        f"{number(scalar(c)) if single(c) else 'norm ' + number(norm(c))} to {names[p]}"
        for p, c in zip(step.parents, step.contributions, strict=True)
        if p is not None and c is not None
    ]
    name = names[step.output]
    does = f"sends {' and '.join(sent)}" if sent else "sends nothing on"
    return f"{name} = {form} has {fluxion_title(name, step.fluxion)} and {does}."


def _first(sentences: list[str], room: int) -> list[str]:
    """The first of them, in about so many letters: whom a picture is read to is told more by each mark's own words."""
    ends = accumulate(map(len, sentences))
    told = [sentence for sentence, end in zip(sentences, ends, strict=True) if end <= room] or sentences[:1]
    return [*told, "…"] if len(told) < len(sentences) else told


def _effect(name: str, fluxion: Array) -> str:
    """What a leaf's fluxion says, as a sentence."""
    says = _answer(fluxion, name) if single(fluxion) or not np.any(fluxion) else ""
    return f"{fluxion_title(name, fluxion)}{': ' * bool(says)}{says}."


def _answer(fluxion: Array, name: str = "it") -> str:
    """What a sign says, in words; nothing of an array with both."""
    says = {
        "plus": f"L rises if {name} rises",
        "minus": f"L falls if {name} rises",
        "zero": f"L does not answer {name}",
    }
    return says.get(flow(fluxion).sign, "")


def _contribution(step: Step, i: int, compact: bool) -> tuple[tuple[Line, ...], str]:
    """What an edge shows, and its words: the contribution, and of numbers upstream × local."""
    sent, local = step.contributions[i], step.locals[i]
    if sent is None:
        return (), "contributes nothing"
    if not single(sent):
        size = norm(sent)
        rise, fall = int(np.sum(sent > 0)), int(np.sum(sent < 0))
        signs = " (+)" * (not fall) + " (−)" * (not rise) if bool(rise) != bool(fall) else ""
        if rise and fall and not compact:
            signs = f" ({rise:,} +, {fall:,} −)"
        return (plain(f"‖·‖ {shown(size)}"),), f"contributes ‖·‖ = {number(size, 4 if compact else 6)}{signs}"
    lines = [plain(shown(scalar(sent), plus=True))]
    if local is not None and single(local) and not compact:
        lines.append((Run("quiet", f"{shown(scalar(step.fluxion))} × {shown(scalar(local))}"),))
    return tuple(lines), f"contributes {number(scalar(sent), 6)}"


# Cards


def _node(
    key: str,
    t: Tensor,
    flows: Flows,
    name: str,
    form: str | None,
    sent: list[Array],
    compact: bool,
    cut: bool,
) -> Node:
    """A tensor's card: how it was made, its value, its fluxion and, of numbers, the sum that this is."""
    value, fluxion = flows.value(t), flows[t]
    own = f"{name} = {shape(value)}" if compact and not single(value) else value_title(name, value)
    title = f"{own}, {fluxion_title(name, fluxion, 4 if compact and not single(value) else 6)}"
    head: Line = (Run("name", name),)
    story = [_answer(fluxion)]
    if form is not None and t.row is not None:
        story.insert(0, f"by {t.row.name}")
        made = f"{name} = {form}"
        head = (Run("name", made if len(made) <= style.HEAD else f"{made[: style.HEAD - 1]}…"),)
    if cut:
        story.insert(0, "made by operations that are left out")
    if single(value):
        amount: Line = plain(f"= {shown(scalar(value))}")
    else:
        amount = plain(f"‖·‖ = {shown(norm(value))}")
    after = f"{shape(value)}{' …' * cut}".strip()
    if after:
        amount = plain(f"{amount[0].text}\u2002{after}")
    one_line = single(value) and (compact or form is None)
    numbers = [scalar(c) for c in sent] if len(sent) <= 3 and all(map(single, sent)) else []
    lines = (
        *((head + plain(" ") + amount,) if one_line else (head, amount)),
        fluxion_line("" if compact else name, fluxion, numbers),
    )
    kind = "root" if t is flows.root else "cut" if cut else "leaf" if form is None else "op"
    width, height = card(lines)
    words = "; ".join(filter(None, story)) or "both signs"
    return Node(key, title, words, kind, lines, flow(fluxion), width, height)


def _constant(key: str, name: str, x: Any) -> Node:
    if not single(x):
        text, title = f"{name}\u2002{shape(x)}", value_title(name, x)
    elif name == shown(scalar(x)):
        text = title = name
    else:
        text, title = f"{name} = {shown(scalar(x))}", value_title(name, x)
    return _small(key, "constant", (Run("quiet", text),), title, "a constant: no fluxion")


def _again(key: str, name: str, value: Array, fluxion: Array) -> Node:
    """A leaf of many uses, once more where it is used."""
    title = f"{value_title(name, value)}, {fluxion_title(name, fluxion)}"
    return _small(key, "again", (Run("name", name),), title, "drawn again")


def _small(key: str, kind: str, line: Line, title: str, story: str) -> Node:
    """A node of one line without a frame."""
    width, _ = card((line,))
    return Node(key, title, story, kind, (line,), Flow("none", 0.0), width - style.PAD_X, style.LINE + 2)
