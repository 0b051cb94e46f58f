"""What the tensors of a record are called, in a derivation and in a picture."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from fluxgrad.sweep import Flows
from fluxgrad.tensor import Tensor

DOT = "\u0307"
L_DOT = "L" + DOT
LENGTH = 40


def names_of(
    record: Flows, spell: Callable[[str], str] | None = None, paths: Mapping[Tensor, str] | None = None
) -> dict[Tensor, str]:
    """A name for every tensor of a record, no two alike; also for its constant arrays. A single constant has its number.

    `spell` makes a given name fit (`word` unless another is given); `paths` are names that go before the tensors' own.
    """
    spell, paths = spell or word, paths or {}
    constants = [p for s in reversed(record.steps) for p in s.output.operands if p not in record]
    given = {t: spell(paths.get(t) or t.name or "") for t in (record.root, *record.tensors, *constants)}
    names = numbered(record, {t: name for t, name in given.items() if name or t in record or t.size != 1})
    taken, met = set(names.values()), Counter[str]()
    for t, name in names.items():
        met[name] += 1
        if met[name] > 1:
            while (alike := _with(name, f"_{met[name]}")) in taken:
                met[name] += 1
            taken.add(alike)
            names[t] = alike
    return names


def _with(name: str, tail: str) -> str:
    """The name with a tail: of a name in quotes within them, of one that was cut to its length no longer than it."""
    if name.endswith("”"):
        return f"{_with(name[:-1], tail)}”"
    return f"{name[: LENGTH - len(tail) - 1]}…{tail}" if name.endswith("…") else name + tail


def numbered(record: Flows, given: dict[Tensor, str]) -> dict[Tensor, str]:
    """Each its given name; who has none: L for the root, x1, x2, … for leaves, v1, v2, … for results, c1, c2, … for
    constants, in the order given, without what is a name already."""
    taken = {*given.values(), "L"}

    def unused(letter: str) -> Iterator[str]:
        return (name for k in count(1) if (name := f"{letter}{k}") not in taken)

    leaves, results, constants = map(unused, "xvc")

    def own(t: Tensor) -> str:
        return "L" if t is record.root else next(constants if t not in record else leaves if t.row is None else results)

    return {t: name or own(t) for t, name in given.items()}


def clean(name: str) -> str:
    """A name fit to be shown: one line, no control or invisible characters, at most 40 letters."""
    kept = "".join(" " if c.isspace() else c for c in name[:4096] if c.isspace() or unicodedata.category(c)[0] != "C")
    kept = " ".join(unicodedata.normalize("NFC", kept).split())
    return kept if len(kept) <= LENGTH else kept[: LENGTH - 1] + "…"


def word(name: str) -> str:
    """A name fit to stand in a formula: a clean one, in quotes where it could be taken for more."""
    kept = clean(name)
    dotted = any(mark in unicodedata.normalize("NFD", kept) for mark in (DOT, "\u0308"))
    if not kept or (re.fullmatch(r"[^\W\d](\w|\.(?=\w)|[\u0300-\u036f])*", kept) and kept != "n" and not dotted):
        return kept
    return "“" + re.sub("[“”]", "'", kept) + "”"


__all__ = ["DOT", "L_DOT", "clean", "names_of", "numbered", "word"]
