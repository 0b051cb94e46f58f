"""The wiggle test: is this rule right? And if it is not, what does it look like?

    ẏ_x ≈ (y(x + o) − y(x − o)) / 2o        L̇_x = Σ L̇_y · ẏ_x

Each number in x is moved by a moment o either way; how y answers, times a random L̇_y, must be what the sweep gives (a
L̇_y of ones hides mistakes: softmax sums to 1, so its true L̇_x is 0). The next order is the same test of the pulled
function (L̇_y, x) → L̇_x, whose own fluxions are the second ones.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fluxgrad.rules.kinds import Linear, Row, implementations, rules
from fluxgrad.rules.linear import unstretch
from fluxgrad.sweep import jvp, leaves, like, no_grad, vjp
from fluxgrad.sweep import order as latest_first
from fluxgrad.tensor import Array, Tensor

_NEAR, _FAR = 1e-5, 1e-4  # two moments, each times max(1, |x|): together they cancel o², and show their own error
_CLOSE = 1e-6
_DOTS = ("L", "L\u0307", "L\u0308", "L\u20db", "L\u20dc")  # L̇, L̈, …

_STATE = "it is right only the first time: something is kept from call to call"
_STRETCHED = "it was not summed over the axes along which the input was stretched (broadcast)"
_NO_FACTOR = "no constant factor: a term (a path) is missing, or one is too many"
_PATHS = (
    "\n  every rule on the way is right by itself: a path is cut (.data, .detach(), no_grad, a plain number), "
    "or where paths meet they are not added up (= for +=)"
)


def check_grads(f: Callable[..., Any], *args: Any, modes: Sequence[str] = ("fwd", "rev"), order: int = 2) -> list[str]:
    """Test the fluxions of f at the point `args` against what small wiggles do.

        Σ L̇_y · (y(x + o) − y(x − o)) / 2o  =  L̇_x

    f is a function (in plain NumPy; arguments and result may be nests) or a rule (`np.tanh`, `fg.softmax`,
    `fg.rules["tanh"]`). Every number is taken as float64 and wiggled; masks, None and text stay. The reverse sweep
    ("rev") and the forward sweep ("fwd") are tested, against the differences and each other, with a random L̇_y, twice
    that, none, once more, and at a second point near by; then their own fluxions, up to `order` (at most 4). That takes
    four values of f for each number in args, and as many sweeps for each further order.

    Raises AssertionError where a fluxion is wrong: of which rule, by which input, both numbers, and what it looks like.
    At a kink, where the slopes on the two sides differ, there is no right or wrong: what comes back is the list of the
    places that were left out. (A slope that changes altogether within 1e-4 of the point counts as one; slopes of less
    than 1e-10 cannot be told from 0.) Raises FloatingPointError where f is not finite within a moment of the point,
    TypeError where nothing can be wiggled or f answers in float32, ValueError for unknown modes or order.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.check_grads(np.tanh, 0.5)
    []
    >>> cube = fg.elementwise("cube x", lambda x: x**3, lambda y, x: 6 * x**2)
    >>> fg.check_grads(cube, 1.0)
    Traceback (most recent call last):
    AssertionError: L̇_x is wrong for rule 'cube'.   your rule: 4.175   wiggle: 2.088   ratio 2.00
      looks like: the fluxion was counted twice
      at x = 1.000, L̇_y = 0.6959
    """
    if not callable(f):
        raise TypeError(f"check_grads(f, *args): f is a function or a rule (fg.rules['tanh']); given {f!r}")
    if not modes or not {"fwd", "rev"} >= set(modes) or not 1 <= order < len(_DOTS):
        raise ValueError(f"check_grads: modes of 'fwd' and 'rev', order of 1 to 4; given {modes!r} and {order!r}")
    rule = f if isinstance(f, Row) else implementations.get(f) if isinstance(f, Hashable) else None
    if isinstance(rule, Row):
        operands, options = rule.bind(args, {})
        for name, option in options.items():
            forgotten = inspect.signature(rule.value).parameters[name].default is inspect.Parameter.empty
            if forgotten and not rule._builtin and np.asarray(option).dtype.kind == "f":
                raise AssertionError(
                    f"rule {rule.name!r} has no fluxion for {name}, so 0 would flow to it; give it one, "
                    f"or a default where it is an option"
                )
        case = _of_row(rule, operands, options)
    else:
        case = _of_function(f, args)
    try:
        with np.errstate(all="ignore"):
            return _run(case, modes, order)
    except _Wrong as wrong:
        raise AssertionError(str(wrong)) from None


def check_rule(rule: str | Row, modes: Sequence[str] = ("fwd", "rev"), order: int = 2) -> list[str]:
    """`check_grads` of one rule alone, by its name in `fg.rules` or the rule itself, at an example of its own.

    Raises KeyError where there is no such rule, AssertionError as `check_grads` does.

    >>> import fluxgrad as fg
    >>> fg.check_rule("tanh")
    []
    """
    row = rule if isinstance(rule, Row) else rules.get(rule)
    if row is None:
        raise KeyError(f"check_rule: no rule is called {rule!r}; fg.rules lists them")
    operands, options = row.example()
    options = {
        k: np.dtype(float) if isinstance(v, np.dtype) else v for k, v in options.items()
    }  # a wiggle needs its digits
    given = row.sample[0] if row.sample else ()
    moving = [k for k in range(len(operands)) if k >= len(given) or not isinstance(given[k], np.ndarray)]  # not labels
    left_out = []
    try:
        with np.errstate(all="ignore"):
            left_out += _run(_of_row(row, operands, options, moving), modes, order)
            mixed = [x * _signs(x.shape) if k in moving else x for k, x in enumerate(operands)]
            if np.isfinite(row.value(*mixed, **options)).all():  # log has no value there
                left_out += _run(_of_row(row, mixed, options, moving), modes, order)
    except _Wrong as wrong:
        raise AssertionError(str(wrong)) from None
    return left_out


def _run(first: _Case, modes: Sequence[str], order: int) -> list[str]:
    left_out: list[str] = []
    case = first
    for n in range(1, order + 1):
        try:
            test = _Test(case)
            if "rev" in modes:
                test.reverse()
            if "fwd" in modes:
                test.forward(against_reverse="rev" in modes)
        except _Wrong as wrong:
            if first.row is not None:
                raise
            kinks = _blame(first, modes, n)
            if kinks and not first.moved:  # those of its rules may hide each other: is it wrong near by, too?
                x = [a + 1e-3 * np.maximum(1, abs(a)) * _random(3, a.size).reshape(a.shape) for a in first.x]
                return kinks + _run(first._replace(x=x, moved=True), modes, order)
            raise _Wrong(f"{wrong}{_PATHS}") from None
        except FloatingPointError as nowhere:
            if not left_out:
                raise
            return [*left_out, f"{nowhere}, left out"]  # beyond a kink
        left_out += test.left_out()
        case = _next(case, "rev" in modes, test.outputs)
    return left_out


def _blame(case: _Case, modes: Sequence[str], order: int) -> list[str]:
    """Test each rule of a wrong function at the numbers that it met there: the one to blame speaks for itself."""
    left_out = []
    values = case.f(*(Tensor(x, requires_grad=True) for x in case.x))
    for t in latest_first(*(y for y in values if isinstance(y, Tensor))):
        if t.row is not None:
            moving = [k for k, p in enumerate(t.operands) if isinstance(p, Tensor) and p.requires_grad]
            with contextlib.suppress(FloatingPointError):
                left_out += _run(_of_row(t.row, t.inputs, t.options, moving, f" in {case.title}"), modes, order)
    return left_out


class _Wrong(AssertionError):
    """A fluxion is wrong: what check_grads raises as an AssertionError."""


# ----- What is tested -----


class _Case(NamedTuple):
    """A function of arrays that gives a list, the point, and what the inputs are called."""

    f: Callable[..., list[Any]]
    x: list[Array]
    names: list[str]
    title: str
    row: tuple[Row, list[Any], dict[str, Any], list[int]] | None = None  # a rule, its operands, options, which move
    order: int = 1
    moved: bool = False


def _of_row(
    row: Row, operands: Sequence[Any], options: dict[str, Any], moving: list[int] | None = None, within: str = ""
) -> _Case:
    movable, x = _movable(operands, moving)
    first = {"elementwise": 1, "linear": 1}.get(row.kind, 2) + row.variadic  # what a fluxion takes before the inputs
    names = _parameters(row.fluxions, len(operands), first)
    f = lambda *xs: [row(*_filled(operands, movable, xs), **options)]
    parts = (row, list(operands), options, movable)
    return _Case(f, x, [names[k] for k in movable], f"rule {row.name!r}{within}", parts)


def _of_function(f: Callable[..., Any], args: tuple[Any, ...]) -> _Case:
    parts = leaves(args)
    movable, x = _movable(parts)
    names = [n for a, name in zip(args, _parameters([f], len(args)), strict=True) for n in _paths(a, name)]
    flat = lambda *xs: leaves(f(*like(args, iter(_filled(parts, movable, xs)))))
    return _Case(flat, x, [names[k] for k in movable], f"function {getattr(f, '__name__', type(f).__name__)!r}")


def _next(case: _Case, reverse: bool, outputs: Sequence[Array]) -> _Case:
    """The pulled function (L̇_y, x) → L̇_x, or the pushed one (ẋ, x) → ẏ: its fluxions are those of the next order."""
    f, shapes = case.f, outputs if reverse else case.x
    n = len(shapes)
    if reverse:
        g: Callable[..., list[Any]] = lambda *xs: list(vjp(f, *xs[n:])[1](list(xs[:n])))
        names = [f"({_DOTS[case.order]}_y{f'[{k}]' if n > 1 else ''})" for k in range(n)]
    else:
        g = lambda *xs: list(jvp(f, xs[n:], xs[:n])[1])
        names = [f"({name}'s velocity)" for name in case.names]
    along = _cut(_random(1, sum(a.size for a in shapes)), shapes)
    return _Case(g, along + case.x, names + case.names, case.title, None, case.order + 1)


def _movable(parts: Sequence[Any], among: list[int] | None = None) -> tuple[list[int], list[Array]]:
    """Which parts are numbers that can be wiggled, and these as float64."""
    arrays = [np.asarray(p.data if isinstance(p, Tensor) else p) for p in parts]
    movable = [k for k, a in enumerate(arrays) if a.dtype.kind in "fiu"] if among is None else among
    if not movable:
        raise TypeError("check_grads: there is no real number among the arguments, so nothing to wiggle")
    return movable, [np.array(arrays[k], float) for k in movable]


def _filled(parts: Sequence[Any], movable: Sequence[int], values: Sequence[Any]) -> list[Any]:
    new = dict(zip(movable, values, strict=True))
    return [new.get(k, p) for k, p in enumerate(parts)]


def _parameters(functions: Sequence[Callable[..., Any]], n: int, first: int = 0) -> list[str]:
    """What n inputs are called by the function that names most of them."""
    names: list[str] = []
    for f in functions:
        with contextlib.suppress(ValueError):  # a built-in function may have no signature
            given = list(inspect.signature(f).parameters.values())[first : first + n]
            named = [p.name for p in itertools.takewhile(lambda p: p.kind is not p.VAR_POSITIONAL, given)]
            names = max(names, named, key=len)
    return names + ["xw"[k] if n < 3 else f"x{k}" for k in range(len(names), n)]


def _paths(nest: Any, name: str) -> Iterator[str]:
    """What the leaves of a nest are called: params['w'][0]."""
    if isinstance(nest, tuple | list | dict):
        for key, part in nest.items() if isinstance(nest, dict) else enumerate(nest):
            yield from _paths(part, f"{name}[{key!r}]")
    elif nest is not None:
        yield name


def _random(seed: int, n: int) -> Array:
    """Numbers of both signs, none near 0 or ±1."""
    return np.random.default_rng(seed).uniform(0.25, 0.95, n) * (-1.0) ** np.arange(n)


def _signs(shape: tuple[int, ...]) -> Array:
    return np.where(np.arange(math.prod(shape)) % 2, 1.0, -1.0).reshape(shape)


def _flat(arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)])


def _cut(flat: Array, shapes: Sequence[Array]) -> list[Array]:
    """A flat array as arrays of those shapes."""
    parts = np.split(flat, np.cumsum([a.size for a in shapes]))
    return [p.reshape(a.shape) for p, a in zip(parts, shapes, strict=False)]


# ----- The test -----


def _wiggle(f: Callable[[Array], Array], x: Array, y: Array, place: Callable[[int], str]) -> list[Array]:
    """The slopes ẏ_x, their doubt, and whether a kink is there: a row for each number in x, a column for each in y.

    Two moments. A smooth slope is nearly the same by both, and its bend is in proportion to o; at a kink it is not, and
    at a jump the slope grows.
    """
    rows, ratio = [], _FAR / _NEAR
    for k, size in enumerate(np.maximum(1, abs(x))):
        slopes, bends = [], []
        for o in (_FAR * size, _NEAR * size):
            after, before = (f(np.where(np.arange(len(x)) == k, x + d, x)) for d in (o, -o))
            slopes.append((after - before) / (2 * o))
            bends.append((after - 2 * y + before) / o)
            if not np.isfinite(bends).all():
                raise FloatingPointError(f"{place(k)}: not finite within {o:.0e} of it; test at another point")
        (far, near), (far_bend, bend) = slopes, bends
        rounding = 1e-15 / (_NEAR * size) * abs(y).max(initial=1) + 1e-9 * abs(near).max(initial=0)
        doubt = abs(near - far) + _CLOSE * abs(near) + rounding
        bent = abs(far_bend - ratio * bend) > 0.3 * abs(far_bend) + doubt + ratio * rounding
        steep = (abs(near) > 1.5 * abs(far)) & (abs(near) > doubt)
        rows.append((near + (near - far) / (ratio**2 - 1), doubt, bent | steep))
    return [np.array([row[i] for row in rows]).reshape(len(x), len(y)) for i in range(3)]


class _Test:
    """One function at one point: its value, its slopes, and what is asked of its fluxions."""

    def __init__(self, case: _Case) -> None:
        self.case = case
        self.dot = _DOTS[case.order]
        self.x = _flat(case.x)
        self.places = [(i, at) for i, a in enumerate(case.x) for at in np.ndindex(a.shape)]
        self.input = np.array([i for i, _ in self.places], int)
        self.outputs = self.values(self.x)
        self.y = _flat(self.outputs).astype(float)
        for a in self.outputs:
            if a.dtype.kind == "f" and a.dtype.itemsize < 8:
                raise TypeError(f"{case.title} answers in {a.dtype}: too few digits; let it compute in float64")
        if not np.isfinite(self.y).all():
            what = f"{_DOTS[case.order - 1]} of " if case.order > 1 else ""
            raise FloatingPointError(f"{what}{case.title} is not finite at this point; test at another")
        if not np.array_equal(self.y, self.numbers(self.x)):
            raise AssertionError(f"{case.title} gives another value for the same input: it is random, or keeps a state")
        told = lambda k: f"{case.title} at {self.place(k)}"
        self.slope, self.slope_doubt, self.kink = _wiggle(self.numbers, self.x, self.y, told)
        self.smooth = ~self.kink.any(axis=1)
        self.g, self.v = _random(0, self.y.size), _random(2, self.x.size)
        self.want = self.slope @ self.g
        self.doubt = np.where(self.smooth, self.slope_doubt @ abs(self.g), np.inf)  # nothing is asked at a kink
        self.value()

    def values(self, flat: Array) -> list[Array]:
        """f in numbers: a rule in arrays, so by its definition; a function in tensors that nothing flows to."""
        xs = _cut(flat, self.case.x)
        with no_grad():
            ys = self.case.f(*(xs if self.case.row else map(Tensor, xs)))
        return [y.data if isinstance(y, Tensor) else np.asarray(y) for y in ys]

    def numbers(self, flat: Array) -> Array:
        return _flat(self.values(flat)).astype(float)

    def place(self, k: int) -> str:
        i, at = self.places[k]
        return f"{self.case.names[i]}{list(at) if at else ''} = {self.case.x[i][at]:#.4g}"

    def left_out(self) -> list[str]:
        kinks = map(int, np.flatnonzero(~self.smooth))
        return [f"{self.case.title}: a kink at {self.place(k)}, its {self.dot} left out" for k in kinks]

    def wrong(self, what: str, numbers: str, looks: str, place: str = "") -> _Wrong:
        return _Wrong(f"{what} is wrong for {self.case.title}.   {numbers}\n  looks like: {looks}{place}")

    def require(
        self,
        got: Array,
        want: Array,
        doubt: Array,
        looks: str | Callable[[int], str],
        what: str = "",
        by: str = "wiggle",
    ) -> None:
        """The one comparison: of the fluxions by x, or of `what`. It tells the first wrong input's worst number."""
        off = np.where(np.isposinf(doubt), 0, abs(got - want))
        bad = np.flatnonzero(~(off <= doubt))
        if bad.size:
            bad = bad if what else bad[self.input[bad] == self.input[bad[0]]]
            k = int(bad[np.argmax(np.nan_to_num(off[bad], nan=np.inf))])
            true = 0.0 if abs(want[k]) <= doubt[k] else want[k]
            who = "your rule" if self.case.title.startswith("rule") else "fluxgrad"
            numbers = f"{who}: {got[k]:#.4g}   {by}: {true:#.4g}" + (f"   ratio {got[k] / true:.2f}" if true else "")
            above = f", {_DOTS[self.case.order]}_y = {self.g[0]:#.4g}" if len(self.g) == 1 else ""
            place = "" if what else f"\n  at {self.place(k)}{above}"
            raise self.wrong(what or self.told(k), numbers, looks if isinstance(looks, str) else looks(k), place)

    def told(self, k: int) -> str:
        return f"{self.dot}_{self.case.names[self.input[k]]}"

    def value(self) -> None:
        """A graph's numbers come from the kernel where a rule has one; what is wiggled is its definition."""
        got = _flat(vjp(self.case.f, *self.case.x)[0])
        what = "the value" if self.case.order == 1 else f"{_DOTS[self.case.order - 1]}, read as a graph,"
        looks = "the kernel and the definition of a rule disagree"
        self.require(got, self.y, 1e-9 + _CLOSE * abs(self.y), looks, what, "in numbers")

    def pull(self, xs: list[Array]) -> Callable[[Array], Array]:
        """The reverse sweep at xs, from a flat L̇_y to a flat L̇_x, of which each has its input's own shape and dtype."""
        pull = vjp(self.case.f, *xs)[1]

        def sent(g: Array) -> Array:
            try:
                fluxions = pull(_cut(g, self.outputs))
            except ValueError as error:
                raise self.wrong("a shape", str(error), self.misfit()) from error
            for name, c, x in zip(self.case.names, fluxions, xs, strict=True):
                if (c.shape, c.dtype) != (x.shape, x.dtype):
                    numbers = f"{c.dtype} of shape {c.shape}, for {name}: {x.dtype} of shape {x.shape}"
                    looks = _STRETCHED if c.shape != x.shape else "the dtype is lost"
                    raise self.wrong(f"{self.dot}_{name}", numbers, looks)
            return _flat(fluxions)

        return sent

    def reverse(self) -> None:
        sent, g, want, doubt = self.pull(self.case.x), self.g, self.want, self.doubt
        got, again = sent(g), self.pull(self.case.x)(g)
        self.require(got, want, doubt, lambda k: self.looks_like(got, again, int(self.input[k])))
        self.require(again, want, doubt, _STATE)
        self.require(sent(2 * g), 2 * want, 2 * doubt, "it is not linear in L̇_y: right once, wrong for twice as much")
        self.require(sent(0 * g), 0 * want, doubt, "a part ignores the upstream fluxion: where L̇_y is 0, L̇_x is not")
        self.second_point()
        self.require(sent(g), want, doubt, _STATE)
        if self.case.row:
            self.pull([x.astype(np.float32) for x in self.case.x])(g)

    def second_point(self) -> None:
        """Near by, along one direction. What a rule kept from the first point is wrong here."""
        along = np.where(self.smooth, self.v * np.maximum(1, abs(self.x)), 0)
        x = self.x + 1e-3 * along
        try:
            slope, doubt, kink = _wiggle(lambda t: self.numbers(x + t * along), np.zeros(1), self.numbers(x), str)
        except FloatingPointError:
            return
        if not kink.any():
            got = self.pull(_cut(x, self.case.x))(self.g)
            got, along = got[self.smooth], along[self.smooth]
            within = doubt @ abs(self.g) + _CLOSE * (abs(along) @ abs(got))
            self.require(np.array([along @ got]), slope @ self.g, within, _STATE, f"{self.dot} at a second point")

    def forward(self, against_reverse: bool) -> None:
        def push(v: Array) -> Array:
            return _flat(jvp(self.case.f, self.case.x, _cut(v, self.case.x))[1])

        def looks(got: Array, want: Array, doubt: Array) -> str:
            row = self.case.row and self.case.row[0]
            if against_reverse and row and row.kernel:
                return "the kernel is right, the definition (which a push reads) is not"
            if against_reverse and isinstance(row, Linear):
                return "the operation is not linear, f(u + v) = f(u) + f(v), in the way that its rule says (jointly=)"
            found = [text for text, guess in _factors(want) if (abs(guess - got) <= 10 * doubt).all()]
            return found[0] if found else _NO_FACTOR

        both_ways = (
            (1, -1) if self.case.row and isinstance(self.case.row[0], Linear) else (1,)
        )  # relu is linear one way
        for (i, name), way in itertools.product(enumerate(self.case.names), both_ways):
            v = np.where((self.input == i) & self.smooth, way * self.v, 0)
            got, want, doubt = push(v), v @ self.slope, abs(v) @ self.slope_doubt
            doubt[self.kink[self.input == i].any(axis=0)] = np.inf
            self.require(got, want, doubt, looks(got, want, doubt), f"the push ẏ of {name}'s velocity")
        if against_reverse:
            velocity, fluxion = push(self.v), self.pull(self.case.x)(self.g)
            a, b = np.array([velocity @ self.g]), np.array([fluxion @ self.v])
            doubt = 1e-10 + _CLOSE * np.array([abs(velocity) @ abs(self.g) + abs(fluxion) @ abs(self.v)])
            doubt[~np.isfinite(a - b)] = np.inf
            self.require(a, b, doubt, "forward and reverse disagree", "Σ L̇_y · ẏ, forward,", "Σ L̇_x · ẋ")

    # ----- What a mistake looks like -----

    def looks_like(self, got: Array, again: Array, i: int) -> str:
        """Every known mistake that would give just these numbers for input i."""
        mine = self.input == i
        got, again, want, doubt = got[mine], again[mine], self.want[mine], 10 * self.doubt[mine]

        doubt = np.where(np.isposinf(doubt), np.inf, np.minimum(doubt, 0.01 * abs(want).max(initial=0) + 1e-9))

        def same(a: Any, b: Array) -> bool:
            return np.size(a) == b.size and bool(np.all(abs(np.ravel(a) - b) <= doubt))

        if np.isnan(got).any():
            return "not a number: 0/0, 0·∞ or ∞ − ∞ in the rule"
        if not same(again, got):
            return _STATE
        found = [text for text, guess in itertools.chain(_factors(want), self.guesses(i)) if same(guess, got)]
        found += [text for text, repaired in self.repairs(i) if same(_shaped(repaired, self.case.x[i].shape), want)]
        if not found and same((ratio := got @ want / (want @ want or 1)) * want, got):
            found = [f"a constant factor, {ratio:.4g}"]
        if not found and same(abs(want), abs(got)):
            found = ["the sign is wrong, for some of the numbers"]
        return "; or: ".join(dict.fromkeys(found)) or _NO_FACTOR

    def guesses(self, i: int) -> Iterator[tuple[str, Any]]:
        """What a wrong rule would send to input i, made from the true slopes."""
        x, y, mine = self.case.x[i], self.outputs[0], self.input == i
        want, slope = self.want[mine], self.slope[mine]
        for n in {x.size, *x.shape, y.size, *y.shape} - {0, 1, 2}:
            yield f"a mean was taken for a sum: 1/n too many, n = {n}", want / n
            yield f"a sum was taken for a mean: 1/n is missing, n = {n}", want * n
        yield "the upstream fluxion L̇_y is ignored (not multiplied in)", slope.sum(axis=1)
        for m, name in enumerate(self.case.names):
            if m != i:
                yield f"the inputs are swapped: this is the fluxion by {name}", self.want[self.input == m]
        if x.size == self.y.size > 1:
            yield "the paths from each number to the other outputs are missing", slope.diagonal() * self.g
        lead = y.ndim - x.ndim
        if len(self.outputs) == 1 and (y.ndim == 0 or lead >= 0):
            g = self.g.reshape(y.shape)
            yield "the local fluxion is ignored: this is L̇_y itself", _shaped(g, x.shape)
            stretched = tuple(a for a in range(y.ndim) if a < lead or x.shape[a - lead] < y.shape[a])
            if stretched:
                yield f"{_STRETCHED}, but averaged", want * x.size / y.size
                for end in (0, -1):
                    at = tuple(end if a in stretched else slice(None) for a in range(y.ndim))
                    one = np.zeros(y.shape)
                    one[at] = g[at]
                    yield _STRETCHED, slope @ one.ravel()

    def repairs(self, i: int) -> Iterator[tuple[str, Any]]:
        """What a rule would send to input i if one thing in it were otherwise."""
        if self.case.row is None:
            return
        row, _, _, moving = self.case.row
        x = dict(zip(moving, self.case.x, strict=True))
        k = moving[i]
        yield "the input was used for the output", self.contribution(k, new={k: self.outputs[0]})
        yield "the output was used for the input", self.contribution(k, y=x[k])
        for m in moving:
            if m != k:
                yield "the inputs are swapped in the rule", self.contribution(k, new={k: x[m], m: x[k]})
        if row.kernel:
            yield "the kernel is wrong, its definition is right", self.contribution(k)

    def misfit(self) -> str:
        """What a contribution looks like whose shape no broadcasting explains."""
        for name, x, k in zip(self.case.names, self.case.x, self.case.row[3] if self.case.row else (), strict=False):
            c = self.contribution(k)
            if c is not None and _shaped(c, x.shape) is None:
                swapped = "the inputs are swapped: " if any(c.shape == w.shape for w in self.case.x) else ""
                return f"{swapped}{self.dot}_{name} must have {name}'s shape, {x.shape}"
        return "a shape that does not belong to its input"

    def contribution(self, k: int, y: Any = None, new: dict[int, Array] | None = None) -> Array | None:
        """What the rule sends to operand k, from another y or other operands where given; None where it cannot."""
        assert self.case.row is not None
        row, operands, options, moving = self.case.row
        inputs = _filled(operands, moving, self.case.x)
        inputs = [np.asarray((new or {}).get(m, p)) for m, p in enumerate(inputs)]
        g, y = self.g.reshape(self.outputs[0].shape), self.outputs[0] if y is None else y
        try:
            return np.asarray(row.pull(k, g, y, inputs, options))
        except Exception:  # they were not meant for it
            return None


def _factors(want: Array) -> list[tuple[str, Array]]:
    return [
        ("a path is missing: nothing arrives", 0 * want),
        ("the sign is wrong", -want),
        ("the fluxion was counted twice", 2 * want),
        ("half of it is missing: one of two equal paths, or a factor of 2", want / 2),
    ]


def _shaped(c: Any, shape: tuple[int, ...]) -> Array | None:
    """A contribution summed to an input's shape, or one number spread over it; None where it does not fit."""
    if c is None or np.ndim(c) == 0:
        return None if c is None else np.broadcast_to(c, shape)
    try:
        fitted: Array = unstretch(np.asarray(c), shape)
    except ValueError:
        return None
    return fitted
