"""The two sweeps over a recorded graph, and the transforms that are made of them.

    pull (reverse)   L̇_x = Σ L̇_y · ẏ_x   over every y that x feeds, latest y first
    push (forward)   ẏ   = Σ ẏ_x · ẋ     over every x that feeds y, earliest y first

Both read the same rows over the same record, in the order in which it was made. A sweep runs in numbers; where its
result must itself be differentiable (a transform inside a transform, a gradient penalty) the very same rows are given
tensors instead, and the sweep is recorded like any other computation.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence, Set
from heapq import heappop, heappush, heappushpop
from sys import getrefcount
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from fluxgrad.rules.kinds import Elementwise, Fused, Row, chain, one
from fluxgrad.rules.linear import astype, unstretch
from fluxgrad.tensor import _MANY, Array, Tensor, _own, quiet, recording

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_ndarray = np.ndarray
P = ParamSpec("P")
R = TypeVar("R")
_NOTHING: Any = ({}, None, None)

# ----- Order -----


def order(*roots: Tensor, since: int = -1) -> Iterator[Tensor]:
    """Every tensor that fluxions from the roots reach, the latest made first.

    What a tensor feeds was made after it, so each comes after all of its consumers: its fluxion is complete before it
    flows on. (Plain recursion gets this wrong as soon as a value is used twice at different depths.) Tensors made
    before the stamp `since` are left out.
    """
    waiting: list[tuple[int, Tensor]] = []
    met = set()
    for root in roots:
        if root._requires and root.index > since and root not in met:
            met.add(root)
            heappush(waiting, (-root.index, root))
    while waiting:
        t = heappop(waiting)[1]
        yield t
        for p in t.operands:
            if since < p.index < t.index and p not in met:
                met.add(p)
                heappush(waiting, (-p.index, p))


# ----- Pull -----


def _fit(c: Any, x: Array, t: Tensor) -> Any:
    """A contribution in its input's own shape and dtype: the one place where stretched axes are summed."""
    if type(c) is not _ndarray and type(c) is not Tensor:
        c = np.asarray(c)
    if c.shape != x.shape:
        row: Any = t.row
        lead = c.ndim - x.ndim
        if c.shape != t.shape if isinstance(row, Elementwise) else lead > 0 and c.shape[:lead] != t.shape[:lead]:
            raise ValueError(
                f"the rule {row.name} ({row.form}) gives a fluxion of shape {c.shape} for an output of shape {t.shape}"
            )
        try:
            c = unstretch(c, x.shape)
        except ValueError as error:
            raise ValueError(f"the rule {row.name} ({row.form}) gives a wrong shape: {error}") from None
    if c.dtype != x.dtype:
        c = astype(c, dtype=x.dtype)
    return c if type(c) is Tensor else np.asarray(c)


def _sum(a: Any, b: Any) -> Any:
    """Where paths meet, contributions add up: into a new array, since either may be in use elsewhere."""
    total = a + b
    return total if type(total) is _ndarray or type(total) is Tensor else np.asarray(total)


def _as_tensors(t: Tensor) -> tuple[Any, ...]:
    """A tensor's operands to be read as a new graph; a leaf that was given other numbers since cannot be."""
    for p, x in zip(t.operands, t.inputs, strict=True):
        if p._value is not x and not np.array_equal(p._value, x, equal_nan=True):
            raise RuntimeError(
                f"the data of {p._told()} were changed after {t.row.name} was recorded, so further fluxions "  # type: ignore[union-attr]
                f"cannot be taken through it; compute the value again, then differentiate"
            )
    return t.operands


def pull(
    fluxions: dict[Tensor, Any],
    ends: Set[Tensor] = frozenset(),
    since: int = -1,
    graph: bool = False,
    seen: Callable[[Tensor, Any, dict[int, Any]], None] | None = None,
    rooms: bool = False,
) -> dict[Tensor, Any]:
    """Sweep back from the tensors in `fluxions` to the leaves, or to the `ends`, whichever come first; return their
    fluxions. The order is that of `order`: of those that wait the latest made goes next, so its fluxion is complete.
    In numbers, or, for a `graph`, in tensors. `seen` is told each step: the tensor, its fluxion, what went to each operand.
    With `rooms`, a leaf's first fluxion may be written where its optimiser has room for it.
    """
    waiting: list[tuple[int, Tensor]] = []
    ahead = None  # one of those that wait: in a chain it is the only one, and the heap stays empty
    for t in fluxions:
        if t.row is not None and t not in ends:
            if ahead is None:
                ahead = t
            else:
                heappush(waiting, (-t.index, t))
    bounded = since >= 0
    sent: dict[int, Any] = {}
    while True:
        if waiting:
            ahead = (heappop(waiting) if ahead is None else heappushpop(waiting, (-ahead.index, ahead)))[1]
        if ahead is None:
            return fluxions
        t, ahead = ahead, None
        g = fluxions.pop(t)
        stamp = t.index
        row: Any = t.row
        a, b = t._a, t._b
        extra: Any = t._extra
        operands = a if b is _MANY else (a, b) if b is not None else (a,)
        options, saved, inputs = extra or _NOTHING
        kernel = None if saved is None or graph else row.kernel
        if kernel is not None:
            backs, trusted = kernel[1], row._builtin
        else:
            backs, trusted = None, False
            y: Any = t._value
            if graph:
                y, inputs = t, _as_tensors(t)
            elif inputs is None:
                inputs = (a._value,) if b is None else (a._value, b._value)
            plain = type(row) is Elementwise and not options
        for i, p in enumerate(operands):
            if p.index >= stamp or (bounded and p.index <= since):
                continue
            met = p in fluxions
            if backs is not None:
                c = backs[i](g, saved, p._room if rooms and not met and p.row is None else None)
            elif plain:  # what row.pull does, without the call
                local = row.fluxions[i](y, *inputs)
                c = chain(g, local) if type(local) is int else g * local
            else:
                c = row.pull(i, g, y, inputs, options)
            if not trusted:
                x = p._value
                if type(c) is not _ndarray or c.dtype is not x.dtype or c.shape != x.shape:
                    if c is None:
                        continue
                    c = _fit(c, x, t)
            if met:
                fluxions[p] = _sum(fluxions[p], c)
            else:
                fluxions[p] = c
                if p.row is not None and p not in ends:
                    if ahead is None:
                        ahead = p
                    else:
                        heappush(waiting, (-p.index, p))
            if seen is not None:
                sent[i] = c
        if seen is not None:
            seen(t, g, sent)
            sent = {}


def _seed(root: Tensor, gradient: Any, who: str) -> Any:
    if not root._requires:
        raise ValueError(
            f"{who}: {root._told()} does not depend on anything that requires grad, so there is nothing to flow back to. "
            f"Give requires_grad=True to a leaf (before it is used), and look for .data, .detach() or no_grad on the way"
        )
    if gradient is None:
        if root.size != 1:
            raise ValueError(
                f"{who}: a fluxion flows from one number, and {root._told()} has shape {root.shape}. Reduce it first "
                f"(L.sum() or L.mean()), or pass gradient= of that shape"
            )
        return one[root._value.dtype] if root._value.ndim == 0 else np.ones(root.shape, root.dtype)
    g = _own(gradient, root.dtype, f"{who}: gradient")
    if g.shape != root.shape:
        raise ValueError(f"{who}: gradient of shape {g.shape} for a value of shape {root.shape}")
    return g


def backward(root: Tensor, gradient: ArrayLike | None = None) -> None:
    """Tensor.backward: add to the .grad of every leaf."""
    plain = gradient is None and root._requires and root._value.ndim == 0
    seed = one[root._value.dtype] if plain else _seed(root, gradient, "backward()")
    _sweeping.append(None)
    try:
        fluxions = pull({root: seed}, rooms=len(_sweeping) == 1)
        for t, g in fluxions.items():
            if t._grad is not None:
                t._grad = _sum(t._grad, g)
            elif g is t._room:
                t._room = None
                t._grad = g
            else:
                # Another .grad, the caller or a kernel may have this very array.
                t._grad = g.copy("K") if _is_shared(fluxions, t) else g
    finally:
        _sweeping.pop()


_sweeping: list[None] = []  # one for each backward() that runs, in any thread: the rooms are the first one's


def _holders(fluxions: dict[Any, Array], t: Any) -> tuple[int, int]:
    """How many hold a fluxion, and the array that it is a view of."""
    g = fluxions[t]
    return getrefcount(g), 0 if g.base is None else getrefcount(g.base)


def _is_shared(fluxions: dict[Any, Array], t: Any) -> bool:
    held, base_held = _holders(fluxions, t)
    return held > _ALONE[0] or base_held > _ALONE[1] or not fluxions[t].flags.writeable


# What those counts are in a loop like that of `backward`, of a view that nothing but the dict holds.
_ALONE = min(_holders(d, None) for _ in range(5) for d in ({None: np.zeros(2)[:1]},) for _, g in d.items())


class Step(NamedTuple):
    """One operation of the backward sweep: L̇_y (`fluxion`) came in to its `output` y; each operand (`parents`, None for a
    constant) with its value at the time (`inputs`) got its contribution, L̇_y · ẏ_x where elementwise (`locals`: the ẏ_x)."""

    output: Tensor
    row: Row
    parents: tuple[Tensor | None, ...]
    inputs: tuple[Array, ...]
    options: dict[str, Any]
    fluxion: Array
    locals: tuple[Array | None, ...]
    contributions: tuple[Array | None, ...]


class Flows:
    """The record of one backward sweep: its steps in the order in which they ran, and L̇_t for every tensor t.

    `flows[t]` is L̇_t, interior tensors too; `flows.value(t)` is t's value as it was when recorded; `flows.tensors` are
    all that fluxions reach, in the order in which they were made. To iterate gives the steps.

    >>> import numpy as np, fluxgrad as fg
    >>> w = fg.Tensor(0.5, requires_grad=True, name="w")
    >>> fg.flows(np.tanh(w * 2) + 1)
    <sweep back from L, 3 steps: add, tanh, multiply>
    """

    def __init__(self, root: Tensor, steps: list[Step], fluxions: dict[Tensor, Array]) -> None:
        self.root = root
        self.steps = steps
        self._fluxions = fluxions
        self._values = {p: x for s in steps for p, x in zip(s.parents, s.inputs, strict=True) if p is not None}
        self.tensors = sorted(fluxions, key=lambda t: t.index)

    def __getitem__(self, t: Tensor) -> Array:
        if t not in self._fluxions:
            raise KeyError(f"no fluxion reaches {t!r} from {self.root!r}")
        return self._fluxions[t]

    def __contains__(self, t: object) -> bool:
        return t in self._fluxions

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __repr__(self) -> str:
        rows = [s.row.name for s in self.steps[:8]] + ["…"] * (len(self.steps) > 8)
        return f"<sweep back from {self.root.name or 'L'}, {len(self.steps)} step{'s' * (len(self.steps) != 1)}: {', '.join(rows)}>"

    def value(self, t: Tensor) -> Array:
        return self._values.get(t, t._value)


def flows(L: Tensor, gradient: ArrayLike | None = None) -> Flows:
    """The record of the backward sweep from L, without touching any .grad.

    Raises ValueError where nothing requires grad, or for a gradient of another shape than L's. `gradient` is L̇_L,
    of L itself: ones, unless given.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> record = fg.flows(x * x)
    >>> [c.item() for c in record.steps[0].contributions], record[x].item()
    ([3.0, 3.0], 6.0)
    """
    seed = _seed(L, np.ones(L.shape) if gradient is None else gradient, "flows()")
    steps: list[Step] = []
    every = {L: seed}

    def seen(t: Tensor, g: Array, sent: dict[int, Array]) -> None:
        row, inputs, operands = t.row, t.inputs, t.operands
        assert row is not None
        g = every[t] = np.asarray(g)  # (what NumPy gave may be a scalar)
        sent = {i: np.asarray(c) for i, c in sent.items()}
        parents = tuple(p if p.index < t.index else None for p in operands)
        local: list[Array | None] = [None] * len(operands)
        for i in sent if isinstance(row, Elementwise) else ():
            local[i] = np.broadcast_to(np.asarray(row.fluxions[i](t._value, *inputs, **t.options), t.dtype), t.shape)
        parts = tuple(map(sent.get, range(len(operands))))
        steps.append(Step(t, row, parents, inputs, t.options, g, tuple(local), parts))
        for x in inputs:
            x.flags.writeable = False

    every |= {t: np.asarray(g) for t, g in pull({L: seed}, seen=seen).items()}
    for g in every.values():
        g.flags.writeable = False
    return Flows(L, steps, every)


# ----- Push -----


def _transpose(linear: Callable[[Any], Any], like: Array, cotangent: Any, graph: bool) -> Any:
    """Apply the adjoint of a linear function: a forward rule for free, since a pull is linear in what it pulls."""
    g = Tensor(np.zeros_like(like), requires_grad=True)
    with _recorded():
        out = linear(g)
    if not (isinstance(out, Tensor) and out._requires):
        return None
    return pull({out: cotangent}, {g}, g.index - 1, graph).get(g)


def push_step(t: Tensor, velocities: Sequence[Any], graph: bool) -> Any:
    row = t.row
    y, inputs = (t, _as_tensors(t)) if graph else (t._value, t.inputs)
    if not isinstance(row, Fused):
        return row.push(velocities, y, inputs, t.options)  # type: ignore[union-attr]
    total = None
    for i, v in enumerate(velocities):
        if v is None:
            continue

        def pull_of(g: Any, i: int = i) -> Any:
            c = row.pull(i, g, y, inputs, t.options)
            return None if c is None else _fit(c, t.inputs[i], t)

        term = _transpose(pull_of, t._value, v, graph)
        if term is not None:
            total = term if total is None else total + term
    return total


def push(root: Tensor, velocities: dict[Tensor, Any], since: int, graph: bool = False) -> Any:
    """Sweep forward: the velocity of root, given those of some leaves; None where nothing moves it."""
    velocities = dict(velocities)
    for t in reversed(list(order(root, since=since))):
        if t.row is None or t in velocities:
            continue
        moving = [velocities.get(p) for p in t.operands]
        if all(v is None for v in moving):
            continue
        v = push_step(t, moving, graph)
        if v is not None:
            if type(v) is not Tensor:
                v = np.asarray(v)
            if v.shape != t.shape:
                v = np.broadcast_to(v, t.shape)
            velocities[t] = v if v.dtype == t.dtype else astype(v, dtype=t.dtype)
    return velocities.get(root)


# ----- Recording or not -----


class _Switch:
    """A context, and a decorator, that turns recording on or off for its thread."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __enter__(self) -> None:
        recording.before.append(recording.on)
        recording.on = self._on
        if not self._on:
            quiet.append(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recording.on = recording.before.pop() if recording.before else True
        if not self._on:
            quiet.pop()

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        if (
            f.__code__.co_flags & 0x20 if hasattr(f, "__code__") else False
        ):  # a generator: it runs after the call is over
            raise TypeError(f"no_grad() above the generator {f.__name__}: write `with fg.no_grad():` inside it")

        @functools.wraps(f)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with _Switch(self._on):
                return f(*args, **kwargs)

        return wrapped


def no_grad() -> _Switch:
    """Within it nothing is recorded: `with fg.no_grad(): …`, or `@fg.no_grad()` above a function.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True)
    >>> with fg.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return _Switch(False)


def _recorded() -> _Switch:
    return _Switch(True)


# ----- Nests of arrays -----


def leaves(nest: Any, build: Any = None, who: str = "") -> list[Any]:
    """The arrays in a nest of tuples, lists and dicts, in order: in that of `build`, where one is given, and then the nest
    must have the same structure."""
    if build is None:
        build = nest
    kind = type(build)
    if isinstance(build, tuple | list | dict):
        if (
            type(nest) is not kind
            or len(nest) != len(build)
            or (isinstance(build, dict) and nest.keys() != build.keys())
        ):
            raise ValueError(f"{who}: the build differs: {_build(nest)} where {_build(build)} is expected")
        keys = build if isinstance(build, dict) else range(len(build))
        return [x for k in keys for x in leaves(nest[k], build[k], who)]
    if build is None or isinstance(nest, tuple | list | dict) or nest is None:
        if nest is not build:
            raise ValueError(f"{who}: the build differs: {_build(nest)} where {_build(build)} is expected")
        return []
    return [nest]


def _build(nest: Any) -> str:
    if isinstance(nest, dict):
        return f"a dict with {sorted(map(str, nest))}"
    if isinstance(nest, tuple | list):
        return f"a {type(nest).__name__} of {len(nest)}"
    return "None" if nest is None else "an array"


def like(nest: Any, values: Iterator[Any]) -> Any:
    """The same structure (tuple, list, dict), its arrays replaced by the next values."""
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(like(part, values) for part in nest))
    if isinstance(nest, tuple | list):
        return type(nest)(like(part, values) for part in nest)
    if isinstance(nest, dict):
        return {k: like(part, values) for k, part in nest.items()}
    return None if nest is None else next(values)


# ----- The transforms -----


def _variable(x: Any) -> Tensor:
    """A fresh variable of x's value: a leaf, or, of a tensor that fluxions flow to, a new end of its graph."""
    if isinstance(x, Tensor) and x._requires:
        t = +x
        t.name = x.name
        return t
    array = np.array(x._value if isinstance(x, Tensor) else x)
    if array.dtype.kind in "iub":
        raise TypeError(
            f"only real floating numbers have fluxions: given {x!r} (dtype {array.dtype}). Give floats (3.0, not 3), "
            f"or choose the arguments to differentiate by argnums="
        )
    t = Tensor(array, requires_grad=True)
    t._extra = _ACTIVE
    return t


_ACTIVE: Any = ({}, None, None)  # marks a variable of a transform whose function is running,
_ENDED: Any = ({}, None, None)  # and one of a transform that is through with it: nobody outside differentiates by it


class _Run:
    """A function's run on fresh variables: what it gave, and whether that depends on anything else that fluxions flow to."""

    def __init__(
        self, f: Callable[..., Any], args: Sequence[Any], argnums: Sequence[int], kwargs: dict[str, Any]
    ) -> None:
        outer = recording.on
        self.nests = [args[k] for k in argnums]
        with _recorded():
            given = list(args)
            self.variables = [[_variable(x) for x in leaves(nest)] for nest in self.nests]
            for k, nest, fresh in zip(argnums, self.nests, self.variables, strict=True):
                given[k] = like(nest, iter(fresh))
            flat = [t for part in self.variables for t in part]
            self.since = min((t.index for t in flat), default=0) - 1
            try:
                self.value = f(*given, **kwargs)
            finally:
                for t in flat:
                    if t.row is None:
                        t._extra = _ENDED
        self.fresh = set(flat)
        self.outputs = leaves(self.value)
        self.roots = [y for y in self.outputs if isinstance(y, Tensor) and y._requires]
        self.graph = outer and self._reaches_out()

    def _reaches_out(self) -> bool:
        """Whether fluxions flow on from the outputs, past our own variables, to what somebody outside differentiates by."""
        outside = [root for root in self.roots if root.index <= self.since]
        for t in order(*self.roots, since=self.since):
            if t.row is None and t not in self.fresh:
                outside.append(t)
            outside += [p for p in t.operands if p.index <= self.since]
        return any(t.row is None and t._extra is not _ENDED for t in order(*outside))

    def plain(self, y: Any) -> Any:
        """A value as it is handed out: an array, or a tensor where something outside still differentiates it."""
        if isinstance(y, Tensor):
            return y if self.graph and y._requires else y._value.copy()
        return np.asarray(y)

    def result(self) -> Any:
        return like(self.value, map(self.plain, self.outputs))

    def pull(self, cotangents: Sequence[Any], graph: bool | None = None) -> list[Any]:
        """The fluxions of the variables, one nest an argument, for those of the outputs."""
        graph = self.graph if graph is None else graph
        seeds: dict[Tensor, Any] = {}
        for y, g in zip(self.outputs, cotangents, strict=True):
            if isinstance(y, Tensor) and y._requires and y.index > self.since:
                if not isinstance(g, Tensor):
                    g = np.asarray(g, y.dtype)
                elif not graph:
                    g = g._value
                if g.shape != y.shape:
                    raise ValueError(f"a fluxion of shape {g.shape} for an output of shape {y.shape}")
                seeds[y] = seeds[y] + g if y in seeds else g
        with _Switch(graph):
            found = pull(seeds, self.fresh, self.since, graph)
        out = []
        for nest, fresh in zip(self.nests, self.variables, strict=True):
            values = []
            for t in fresh:
                g = found.get(t)
                values.append(np.zeros_like(t._value) if g is None else g if isinstance(g, Tensor) else np.array(g))
            out.append(like(nest, iter(values)))
        return out


def _numbers(argnums: Any, given: int) -> tuple[bool, list[int]]:
    """Whether `argnums` is one number, and the positions that it names among so many arguments."""
    one_only = not isinstance(argnums, tuple | list)
    numbers = [operator.index(k) for k in ([argnums] if one_only else argnums)]
    for k in numbers:
        if not -given <= k < given:
            raise ValueError(f"argnums={k} of a function that was given {given} arguments")
    positions = [k % given for k in numbers]
    if len(set(positions)) < len(positions):
        raise ValueError(f"argnums={argnums} names an argument twice")
    return one_only, positions


def _one_output(run: _Run, who: str) -> Any:
    if len(run.outputs) != 1 or isinstance(run.value, tuple | list | dict):
        raise TypeError(f"{who}: the function must give one value; it gave {type(run.value).__name__}")
    y = run.outputs[0]
    if np.size(y) != 1 or np.ndim(y):
        raise TypeError(
            f"{who}: the function must give one number; it gave shape {np.shape(y)}. Reduce it (np.sum, np.mean), "
            f"or use fg.jacobian or fg.vjp"
        )
    return y


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., tuple[Any, Any]]:
    """A function that gives f's value and the fluxions of its arguments `argnums`: (L, L̇_x), or (L, (L̇_x, L̇_w)).

    f gives one number. Arrays in, arrays out; an argument may be a nest of tuples, lists and dicts of arrays, and so is
    its fluxion. Nestable. Raises TypeError if f gives anything but one number, or if an argument is not floating.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.value_and_grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    (array(9.), array([ 3., 12.]))
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        one_only, positions = _numbers(argnums, len(args))
        run = _Run(f, args, positions, kwargs)
        y = _one_output(run, "grad")
        fluxions = run.pull([np.ones((), np.result_type(y))])
        return run.plain(y), fluxions[0] if one_only else tuple(fluxions)

    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives L̇_x, the fluxion of f by its argument `argnums` (∂f/∂x), as `value_and_grad` does.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.grad(np.tanh)(0.5)
    array(0.78644773)
    >>> fg.grad(fg.grad(fg.grad(np.sin)))(0.0)
    array(-1.)
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapped


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """(y, pull): f's value, and the function that pulls L̇_y, built like y, back to a tuple of one L̇_x for each primal.

        pull(L̇_y) = (L̇_y · ẏ_x, …)

    An input that f ignores gets zeros. Raises ValueError for a fluxion of another shape than y's.

    >>> import numpy as np, fluxgrad as fg
    >>> y, pull = fg.vjp(lambda x, w: x * w, np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    >>> pull(np.array([1.0, 0.0]))
    (array([3., 0.]), array([1., 0.]))
    """
    run = _Run(f, primals, range(len(primals)), {})

    def pull_back(fluxion: Any) -> tuple[Any, ...]:
        given = leaves(fluxion, run.value, "pull")
        live = recording.on and any(isinstance(g, Tensor) and g._requires for g in given)
        return tuple(run.pull(given, run.graph or live))

    return run.result(), pull_back


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(y, ẏ): f's value at the primals, and its velocity where they move with the tangents (a forward sweep).

        ẏ = Σ ẏ_x · ẋ

    Raises ValueError where the tangents do not have the primals' structure (tuple, list, dict) and shapes.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.jvp(lambda x: x**2, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list) or len(primals) != len(tangents):
        raise ValueError("jvp(f, primals, tangents): two tuples of the same length, one tangent for each primal")
    run = _Run(f, primals, range(len(primals)), {})
    variables = [t for part in run.variables for t in part]
    moves = [v for tangent, primal in zip(tangents, primals, strict=True) for v in leaves(tangent, primal, "jvp")]
    graph = run.graph or (recording.on and any(isinstance(v, Tensor) and v._requires for v in moves))
    velocities = {}
    for t, v in zip(variables, moves, strict=True):
        v = v if isinstance(v, Tensor) and graph else np.asarray(v.data if isinstance(v, Tensor) else v, t.dtype)
        if v.shape != t.shape:
            raise ValueError(f"jvp: a tangent of shape {v.shape} for a primal of shape {t.shape}")
        velocities[t] = v
    out = []
    with _Switch(graph):
        for y in run.outputs:
            v = push(y, velocities, run.since, graph) if isinstance(y, Tensor) else None
            out.append(
                np.zeros(np.shape(y), np.result_type(y)) if v is None else v if isinstance(v, Tensor) else np.array(v)
            )
    return run.result(), like(run.value, iter(out))


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives ∂y/∂x, of shape y.shape + x.shape: one pull for each element of y.

    Where y or x is a nest, the result has the same structure (tuple, list, dict) as y, and each part of it that of x.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        one_only, positions = _numbers(argnums, len(args))
        run = _Run(f, args, positions, kwargs)
        blocks = []
        for k, y in enumerate(run.outputs):
            rows = []
            for j in range(np.size(y)):
                unit = np.zeros(np.shape(y))
                unit.flat[j] = 1
                cotangents = [unit if m == k else np.zeros(np.shape(z)) for m, z in enumerate(run.outputs)]
                rows.append(leaves(run.pull(cotangents)))
            flat = [t for part in run.variables for t in part]
            columns = [
                np.reshape(np.stack([row[i] for row in rows]), np.shape(y) + t.shape)
                if rows
                else np.zeros(np.shape(y) + t.shape, t.dtype)
                for i, t in enumerate(flat)
            ]
            filled = iter(columns)
            parts = [like(nest, filled) for nest in run.nests]
            blocks.append(parts[0] if one_only else tuple(parts))
        return like(run.value, iter(blocks))

    return wrapped


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives the second fluxions ∂²f/∂x∂x of a function that gives one number.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return jacobian(grad(f, argnums), argnums)
