"""Scopes: names for stretches of a computation, which a picture draws as boxes and folds where a graph is large.

No tensor knows its scope. Tensors are numbered as they are made, so a scope is remembered as an interval of numbers: a
line of time on which something is noted only where a scope opens or closes, or where another thread or asyncio task goes
on while one is open. Outside of scopes nothing is noted, and nothing costs more.
"""

from __future__ import annotations

import functools
import inspect
import threading
from bisect import bisect_right
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from fluxgrad import tensor
from fluxgrad.nn import Module
from fluxgrad.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

KEPT = 1 << 15
"""So many marks are kept, and at most twice as many: of older tensors the scope is forgotten."""


class Opened:
    """One time that a scope was opened. `owned` are the ids of the parameters, where it is a module's."""

    __slots__ = ("closed", "name", "outer", "owned")

    def __init__(self, name: str, outer: Opened | None, owned: frozenset[int] | None = None) -> None:
        self.name = name
        self.outer = outer
        self.owned = owned
        self.closed = False

    def __repr__(self) -> str:
        names = [self.name]
        while self.outer is not None:
            self = self.outer
            names.append(self.name)
        return f"<scope {'/'.join(reversed(names))}>"


_own: ContextVar[Opened | None] = ContextVar("fluxgrad scope", default=None)
"""The innermost that this thread, or this asyncio task, is in. A task begins in those of the task that made it."""

_lock = threading.Lock()
_count = tensor._stamp
_marks: list[int] = []  # rising: from this number on, what the next list says
_within: list[Opened | None] = []
_open = 0  # scopes that are open, in any thread or task


def _innermost() -> Opened | None:
    """Where this thread or task is; what it is in may have been closed by the task that opened it."""
    where = _own.get()
    while where is not None and where.closed:
        where = where.outer
    return where


def _stamp() -> int:
    """The next number, while a scope is open: if who draws it is elsewhere than the last, that is noted."""
    with _lock:
        number = _count()
        if not _within or _innermost() is not _within[-1]:
            _note(number)
        return number


def _note(number: int) -> None:
    """From this number on, tensors are made where this thread or task is. Needs the lock."""
    if len(_marks) >= 2 * KEPT:
        del _marks[:KEPT], _within[:KEPT]
    _marks.append(number)
    _within.append(_innermost())


class scope:
    """A name for all that is computed within it: `with fg.scope("encoder"): …`, or `@fg.scope("encoder")` above a function.

    `fg.draw` draws it as a box around its operations, and folds it to one card where the graph is large. Scopes nest;
    each time that one is opened counts as another box; threads do not mix, nor do asyncio tasks.
    `fg.scope(model)` of an `nn.Module` opens one for each call of the model and of every module in it, until the block ends.

    Raises TypeError for what is neither a name nor a module, or above a generator.

    >>> import numpy as np, fluxgrad as fg
    >>> x = fg.Tensor(0.5, requires_grad=True, name="x")
    >>> with fg.scope("wave"):
    ...     y = np.sin(x) * np.exp(x)
    >>> [where.name if (where := fg.scope.of(t)) else None for t in (x, y, y + 1)]
    [None, 'wave', None]
    """

    def __init__(self, name: str | Module) -> None:
        if not isinstance(name, str | Module):
            raise TypeError(f"scope(name): a name is a string, or an nn.Module; given {type(name).__name__}")
        self.name = name
        self._owned: frozenset[int] | None = None
        self._kinds: list[tuple[Module, type[Module]]] = []
        self._opened: list[Opened] = []

    @staticmethod
    def of(t: Tensor) -> Opened | None:
        """The innermost scope in which a tensor was made (its `.name`, and in `.outer` the one around it), or None.

        Only of tensors that require grad: others are part of no graph.
        """
        with _lock:
            k = bisect_right(_marks, t.index) - 1
            return _within[k] if k >= 0 and t.index < tensor.NEVER else None

    def __enter__(self) -> None:
        if isinstance(self.name, Module):
            self._kinds += _watch(self.name)
        else:
            self._enter(self.name)

    def _enter(self, name: str) -> None:
        global _open
        with _lock:
            opened = Opened(name, _innermost(), self._owned)
            self._opened.append(opened)
            _own.set(opened)
            _open += 1
            tensor._stamp = _stamp
            _note(_count())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _open
        if isinstance(self.name, Module):
            while self._kinds:
                part, own = self._kinds.pop()
                object.__setattr__(part, "__class__", own)
            return
        with _lock:
            mine = _own.get()
            while mine is not None and (mine.closed or mine not in self._opened):
                mine = mine.outer
            opened = mine or self._opened[-1]  # a generator may be closed elsewhere than it was opened
            self._opened.remove(opened)
            opened.closed = True
            _own.set(_innermost())
            _open -= 1
            _note(_count())
            if not _open:
                tensor._stamp = _count

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        late = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        if any(is_so(f) for is_so in late):  # it runs after the call is over
            raise TypeError(f"scope() above {f.__name__}, a generator or async: write `with fg.scope(…):` inside it")

        @functools.wraps(f)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with scope(self.name):
                return f(*args, **kwargs)

        return wrapped


def _watch(model: Module) -> list[tuple[Module, type[Module]]]:
    """Give every module of a model a class that opens a scope around its call; also what they were."""
    made: list[tuple[Module, type[Module], type[Module]]] = []
    for part, name in _named(model):
        own = type(part)
        if "_fluxgrad_own" in vars(own):  # it is watched already
            continue
        watched = type(own.__name__, (own,), {"__call__": _called(own, name), "_fluxgrad_own": own})
        watched.__module__, watched.__qualname__ = own.__module__, own.__qualname__
        made.append((part, own, watched))
    for part, _, watched in made:  # all or none: a class may refuse to be subclassed
        object.__setattr__(part, "__class__", watched)
    return [(part, own) for part, own, _ in made]


def _named(model: Module) -> list[tuple[Module, str]]:
    """Every module once, with the name that its owner has for it; the model itself has that of its class."""
    found, met = [(model, type(model).__name__)], {id(model)}
    for owner, _ in found:
        for name, part in owner._parts():
            if isinstance(part, Module) and id(part) not in met:
                met.add(id(part))
                found.append((part, f"{name} · {type(part).__name__}"))
    return found


def _called(own: type[Module], name: str) -> Callable[..., Any]:
    def call(self: Module, *args: Any, **kwargs: Any) -> Any:
        around = scope(name)
        around._owned = frozenset(id(p) for p in self.parameters())
        with around:
            return own.__call__(self, *args, **kwargs)

    return call
