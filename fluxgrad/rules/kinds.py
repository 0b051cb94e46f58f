"""The three kinds of row.

An operation is one row: its name, its value, and how it answers a wiggle, written once in plain NumPy.

    kind          a row gives, per input x                  pull (reverse)          push (forward)
    elementwise   the local fluxion ẏ_x = f(y, *inputs)     L̇_x = L̇_y · ẏ_x         ẏ = Σ ẏ_x · ẋ
    linear        the adjoint L̇_x = f(L̇_y, *inputs)         as given                ẏ = y(ẋ)
    fused         the pull L̇_x = f(L̇_y, y, *inputs)         as given                the pull of the pull

Rows know nothing of tensors, graphs or pictures. Called with ndarrays, a row gives its value; called with any
other operand that answers NumPy's protocols (a Tensor, a symbol, a high-precision number) it hands itself over
to that operand's ``__array_function__``, as NumPy's own functions do, and the operand decides how it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

Kernel = tuple[Callable[..., tuple[Any, Any]], Any]  # (forward, [back, …])

Sample = tuple[Sequence[Any], dict[str, Any]]


class _Rules(dict[str, "Row"]):
    def __missing__(self, name: str) -> Any:
        from difflib import get_close_matches

        close = get_close_matches(str(name), self, 3)
        more = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        if name in ("info_nce", "nt_xent"):
            more = ": it is cross_entropy, of similarities"
        raise KeyError(f"no rule is called {name!r}{more}")


rules: dict[str, Row] = _Rules()
"""Every row by its name: ``fg.rules["tanh"]``."""

implementations: dict[Callable[..., Any], Callable[..., Any]] = {}
"""What stands for a NumPy function when an operand is not an ndarray: a row, or a function built from rows."""


LETTER = r"(?<![A-Za-z_])[a-z](?![A-Za-z_0-9(]| [a-z](?![A-Za-z_]))"  # not the f of "f(x)" and "f x"


def letters(form: str) -> list[str]:
    """The names of the operands that a form shows, in order: x and w of "x·w", z and t of "focal(z, t)"."""
    return list(dict.fromkeys(re.findall(LETTER, form)))


def is_foreign(x: Any) -> bool:
    return not isinstance(x, np.ndarray | np.generic) and hasattr(type(x), "__array_function__")


class Row:
    """What an operation knows about its own wiggle. Made by `elementwise`, `linear` or `fused`."""

    __slots__ = (
        "_builtin",
        "_options",
        "choice",
        "fluxions",
        "form",
        "kernel",
        "name",
        "output",
        "sample",
        "value",
        "variadic",
    )

    kind = "row"

    def __init__(
        self,
        form: str,
        value: Callable[..., Any],
        fluxions: Sequence[Callable[..., Any]],
        name: str,
        choice: str | None = None,
        variadic: bool = False,
        kernel: Kernel | None = None,
    ) -> None:
        if not fluxions or not all(map(callable, [value, *fluxions])):
            raise TypeError(f"a rule needs a value and one fluxion per input, all callable; given for {form!r}")
        self.form = form
        self.value = value
        self.fluxions = tuple(fluxions)
        self.name = name
        self.choice = choice
        self.variadic = variadic
        self.kernel = kernel
        self.sample: Sample | None = None
        self.output = "y"
        self._options: tuple[str, ...] | None = None
        self._builtin = False

    def __setattr__(self, name: str, value: Any) -> None:
        """A row that is given another value or other fluxions loses its kernel, which would still compute the old ones."""
        super().__setattr__(name, value)
        if name in ("value", "fluxions"):
            super().__setattr__("kernel", None)

    def __repr__(self) -> str:
        return f"<{self.kind} rule {self.name}: {self.form}>"

    def __str__(self) -> str:
        return self._read("text")

    @property
    def latex(self) -> str:
        """The rule in LaTeX."""
        return self._read("latex")

    @property
    def ascii(self) -> str:
        """The rule in ASCII."""
        return self._read("ascii")

    @property
    def source(self) -> str:
        """The rule as NumPy code: the backprop that one would have to write by hand."""
        return self._read("source")

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"

    def example(self) -> tuple[list[Any], dict[str, Any]]:
        """Operands and options to read the row with where nobody gives any: `sample` says which. The numbers lie between
        0 and 1, or 1 higher where the row has no value there; a square matrix is far from singular."""
        if self.sample is not None:
            return self._example(*self.sample)
        n = 2 if self.variadic else len(self.fluxions)
        for shape in ((2, 3), (3, 3), (3,)):
            try:
                return self._example([shape] * n, {})
            except (ValueError, IndexError):
                continue
        raise ValueError(
            f"rule {self.name!r} does not take inputs of shape (2, 3), (3, 3) or (3,), so it cannot be read; "
            f"say which shapes fit, as in fg.rules[{self.name!r}].sample = ([(2, 3), (3, 4)], {{}})"
        )

    def _example(self, shapes: Sequence[Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        options = {k: v[1] if isinstance(v, tuple) and v and isinstance(v[0], str) else v for k, v in options.items()}
        operands = []
        for k, shape in enumerate(shapes):
            if isinstance(shape, np.ndarray):
                operands.append(shape)
                continue
            n = math.prod(shape)
            x = (0.2 + 0.6 * ((np.arange(n) * 0.618 + 0.3 * k) % 1.0)).reshape(shape)
            operands.append(x + 2 * np.eye(*shape) if len(shape) == 2 and shape[0] == shape[1] else x)
        with np.errstate(all="ignore"):
            if np.isfinite(self.value(*operands, **options)).all():
                return operands, options
        return [1 + x for x in operands], options

    def _read(self, form: str) -> str:
        from fluxgrad.ink.reading import read  # paper is not needed to compute

        return read(self, form)

    def pull(self, i: int, g: Any, y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """What the fluxion g of y sends to operand i: the engine's half of a rule. It asks `fluxions` each time, so a rule
        that is swapped at run time changes it."""
        raise NotImplementedError

    @property
    def options(self) -> tuple[str, ...]:
        """The names of what a row takes besides its operands, in order, read from its value's own signature."""
        if self._options is None:
            if isinstance(self.value, np.ufunc):
                self._options = ()
            else:
                from inspect import Parameter as kinds
                from inspect import signature

                parameters = list(signature(self.value).parameters.values())
                operands = 0 if self.variadic else len(self.fluxions)
                self._options = tuple(
                    p.name for p in parameters[operands:] if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
                )
        return self._options

    def bind(
        self, args: Sequence[Any], options: dict[str, Any], name: str | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sort a call into operands and options; refuse what the row does not take, in the caller's own name for it."""
        name = name or self.name
        n = len(args) if self.variadic else len(self.fluxions)
        if len(args) == n and not options:
            return tuple(args), options
        names = self.options
        if len(args) < n:
            from inspect import signature

            missing = [] if isinstance(self.value, np.ufunc) else list(signature(self.value).parameters)[len(args) : n]
            if not missing or any(p not in options for p in missing):
                raise TypeError(f"{name} takes {n} operand{'s' * (n > 1)}, {len(args)} given")
            args = [*args, *map(options.get, missing)]
            options = {k: v for k, v in options.items() if k not in missing}
        if len(args) - n > len(names):
            raise TypeError(f"{name} takes {n} operands and {len(names)} options, {len(args)} arguments given")
        if len(args) > n:
            options = {**dict(zip(names, args[n:], strict=False)), **options}
        for key in options:
            if key not in names:
                takes = ", ".join(names) if names else "no options"
                raise TypeError(
                    f"{name}: {key}= has no fluxion here (this rule takes {takes}); "
                    f"leave it out, or compute it with NumPy on .data if no fluxion shall flow"
                )
        return tuple(args[:n]), options

    def __call__(self, *args: Any, **options: Any) -> Any:
        for x in args:
            if type(x) is not np.ndarray and is_foreign(x):
                return x.__array_function__(self, (type(x),), args, options)
        return self.value(*args, **options)


R = TypeVar("R", bound=Row)


class Elementwise(Row):
    """y = f(x, w, …) element by element, with broadcasting; one local fluxion ẏ_x = f(y, *inputs) per input."""

    __slots__ = ()
    kind = "elementwise"

    def pull(self, i: int, g: Any, y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """L̇_x = L̇_y · ẏ_x, not yet summed over the axes along which x was stretched."""
        return chain(g, self.fluxions[i](y, *inputs, **options))

    def push(self, velocities: Sequence[Any], y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """ẏ = Σ ẏ_x · ẋ over the inputs that move."""
        total = None
        for f, v in zip(self.fluxions, velocities, strict=True):
            if v is not None:
                term = chain(v, f(y, *inputs, **options))
                total = term if total is None else total + term
        return total


def chain(fluxion: Any, local: Any) -> Any:
    """The product of the chain rule. A local fluxion that is literally 0 or 1 needs no arithmetic (and 0 · inf is 0)."""
    if type(local) is int:
        if local == 1:
            return fluxion
        if local == 0:
            return np.zeros_like(fluxion)
    return fluxion * local


class Linear(Row):
    """A linear operation: the adjoint L̇_x = f(L̇_y, *inputs) per input; its push is the operation itself.

    Linear *jointly* (sum, concatenate, where: y(ẋ, ẇ), a resting input has velocity 0) or *in each* operand
    (matmul, einsum: Σ y(…, ẋᵢ, …)); for a single operand the two agree.
    """

    __slots__ = ("jointly",)
    kind = "linear"

    def __init__(self, *args: Any, jointly: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.jointly = jointly

    def pull(self, i: int, g: Any, y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        if self.variadic:
            return self.fluxions[0](i, g, *inputs, **options)
        return self.fluxions[i](g, *inputs, **options)

    def push(self, velocities: Sequence[Any], y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """The operation itself, of the velocities."""
        if self.jointly:
            moving = [np.zeros_like(x) if v is None else v for v, x in zip(velocities, inputs, strict=True)]
            return self(*moving, **options)
        total = None
        for i, v in enumerate(velocities):
            if v is not None:
                term = self(*inputs[:i], v, *inputs[i + 1 :], **options)
                total = term if total is None else total + term
        return total


class Fused(Row):
    """An operation that contracts axes and keeps intermediates (softmax, norm, solve, a loss).

    Its *definition* is `value` and one pull L̇_x = f(L̇_y, y, *inputs) per input. Its push is the pull of the pull,
    since a pull is linear in L̇_y: no forward rule is written.

    Any row may have a `kernel` where speed or digits ask for it, (forward, [back, …]): forward(*arrays, **options) gives
    (y, saved) in one pass; for each input its back(L̇_y, saved, room) gives what goes to it, of its own shape and dtype, in a new array or in
    `room`, where that is not None and fits. Saved is None where the kernel does not suit the operands. Numbers come from
    the kernel, further fluxions and all other readings from the definition.
    """

    __slots__ = ()
    kind = "fused"

    def pull(self, i: int, g: Any, y: Any, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        if self.variadic:
            return self.fluxions[0](i, g, y, *inputs, **options)
        return self.fluxions[i](g, y, *inputs, **options)


def sample(row_: Any, *shapes: Any, output: str = "y", **options: Any) -> Any:
    """Say with which operands a row is written down and checked: their shapes (or an array), and options (of a pair
    (letter, number), the letter is written)."""
    row_.sample = (shapes or [(2, 3)] * len(row_.fluxions), options)
    row_.output = output
    return row_


def part(name: str, value: Any) -> Any:
    """Name a part of a definition, as in p = σ(z): on paper it is written by its name, and what it is behind "where"."""
    return value.__part__(name) if hasattr(type(value), "__part__") else value


def made(function: Callable[..., Any], n: int, **options: Any) -> Any:
    """An array that a definition makes for a length, np.eye(n): on paper it is written as it was made, not in numbers."""
    how = getattr(n, "__made__", None)
    return function(n, **options) if how is None else how(function, (n,), options)


_sealed = False


def seal() -> None:
    """From here on the names so far belong to built-in rules."""
    global _sealed
    _sealed = True
    for row in rules.values():
        row._builtin = True


def _register(row: R, of: Callable[..., Any]) -> R:
    """Enter a row by its name, and for the NumPy function that it stands for."""
    known = rules.get(row.name)
    if known is not None and known._builtin:
        how = "choose another first word" if _first_word(row.form) == row.name else "choose another, by name='…'"
        raise ValueError(f"the name {row.name!r} belongs to a built-in rule ({known.form}); {how}")
    if _sealed:
        _refuse_misfits(row)
    rules[row.name] = row
    if isinstance(of, np.ufunc) or (getattr(of, "__module__", "") or "").split(".")[0] == "numpy":
        implementations.setdefault(of, row)
    return row


def _refuse_misfits(row: Row) -> None:
    """An input that has no fluxion would get a wrong one, 0; and a fluxion of the wrong inputs fails far from here."""
    from inspect import Parameter, signature

    if row.variadic or isinstance(row.value, np.ufunc):
        return
    try:
        parameters = list(signature(row.value).parameters.values())
    except ValueError:  # a function written in C may not tell
        return
    plain = [p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is Parameter.empty and p.kind not in several]
    n, takes = len(row.fluxions), ", ".join(p.name for p in plain)
    if len(plain) == len(parameters) and (len(plain) < n or (row.kind == "elementwise" and len(needed) > n)):
        raise TypeError(
            f"rule {row.name!r}: its value takes ({takes}), but {n} fluxion{'s are' * (n > 1) or ' is'} given; give one for each input"
        )
    inputs = [p.name for p in plain[:n]] + [f"x{k}" for k in range(len(plain), n)]  # of lambda *inputs: no names
    called = [*{"elementwise": ["y"], "linear": ["g"]}.get(row.kind, ["g", "y"]), *inputs]
    for i, f in enumerate(row.fluxions):
        try:
            signature(f).bind(*called, **dict.fromkeys(needed[n:]))
        except TypeError as error:
            raise TypeError(f"rule {row.name!r}: fluxion {i + 1} must take ({', '.join(called)}): {error}") from None
        except ValueError:
            continue


def _named(form: str, value: Callable[..., Any]) -> str:
    """A row's name: its NumPy function's, else the first word of its form."""
    if not isinstance(form, str) or not form.split():
        raise TypeError(f"a rule begins with its form, as in elementwise('swish x', value, *fluxions); given {form!r}")
    if isinstance(value, np.ufunc) or (getattr(value, "__module__", "") or "").split(".")[0] == "numpy":
        return str(value.__name__)
    return _first_word(form)


def _first_word(form: str) -> str:
    return form.split()[0].split("(")[0]


def elementwise(
    form: str,
    value: Callable[..., Any],
    *fluxions: Callable[..., Any],
    kernel: Kernel | None = None,
    name: str | None = None,
    choice: str | None = None,
) -> Elementwise:
    """A rule for an elementwise operation y = value(*inputs): one local fluxion ẏ_x = fluxion(y, *inputs) per input.

    Write it in the output where you can. Plain NumPy; inputs may broadcast. The engine multiplies by what comes
    from above, sums over stretched axes and accumulates. `choice` says what was chosen at a kink. The rule's name
    is its NumPy function's, else the first word of the form; one that is run again replaces itself.

    Raises ValueError for the name of a built-in rule, TypeError if a part is not callable.

    >>> import numpy as np, fluxgrad as fg
    >>> swish = fg.elementwise("swish x", lambda x: x / (1 + np.exp(-x)),
    ...                        lambda y, x: (1 + np.exp(-x) * (1 + x)) / (1 + np.exp(-x)) ** 2)
    >>> fg.grad(lambda x: swish(x))(0.0)
    array(0.5)
    """
    return _register(Elementwise(form, value, fluxions, name or _named(form, value), choice, kernel=kernel), value)


def linear(
    form: str,
    value: Callable[..., Any],
    *adjoints: Callable[..., Any],
    jointly: bool = True,
    kernel: Kernel | None = None,
    name: str | None = None,
    variadic: bool = False,
) -> Linear:
    """A rule for a linear operation y = value(*inputs, **options): one adjoint L̇_x = adjoint(L̇_y, *inputs, **options)
    per input, of the input's own shape (or of a shape that broadcasting stretched it to).

    `jointly=False`: linear in each operand with the others held (a product). A `variadic` rule takes any number of
    operands and has one adjoint, whose first argument is the operand's position. Raises as `elementwise`.

    >>> import numpy as np, fluxgrad as fg
    >>> double = fg.linear("double x", lambda x: 2 * x, lambda g, x: 2 * g)
    >>> fg.grad(lambda x: np.sum(double(x) ** 2))(np.array([1.0, 3.0]))
    array([ 8., 24.])
    """
    row = Linear(form, value, adjoints, name or _named(form, value), None, variadic, kernel, jointly=jointly)
    return _register(row, value)


def fused(
    form: str,
    value: Callable[..., Any],
    *pulls: Callable[..., Any],
    kernel: Kernel | None = None,
    name: str | None = None,
    choice: str | None = None,
    variadic: bool = False,
) -> Fused:
    """A rule for an operation y = value(*inputs, **options) that contracts axes or is worth fusing: one
    pull L̇_x = pull(L̇_y, y, *inputs, **options) per input, linear in L̇_y. Raises as `elementwise`.

    >>> import numpy as np, fluxgrad as fg
    >>> energy = fg.fused("energy x", lambda x: np.sum(x * x), lambda g, y, x: 2 * g * x)
    >>> fg.hessian(energy)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 2.]])
    """
    row = Fused(form, value, pulls, name or _named(form, value), choice, variadic, kernel)
    return _register(row, value)


def stands_for(*functions: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a row, or a function built from rows, answer for NumPy functions."""

    def enter(f: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            implementations[function] = f
        return f

    return enter


class Each:
    """The backs of a variadic row's kernel: one function, told the operand's position."""

    def __init__(self, back: Callable[[int, Any, Any], Any]) -> None:
        self.back = back

    def __getitem__(self, i: int) -> Callable[[Any, Any, Any], Any]:
        return lambda g, saved, room: self.back(i, g, saved)


@lru_cache(256)
def ones(n: int, dtype: np.dtype[Any]) -> Any:
    """A row of ones, kept: making one costs more than the product with it."""
    row = np.ones(n, dtype)
    row.flags.writeable = False
    return row


@lru_cache(16)
def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Zeros, kept."""
    array = np.zeros(shape, dtype)
    array.flags.writeable = False
    return array


@lru_cache(64)
def number(value: float, dtype: np.dtype[Any]) -> Any:
    """A number as a 0-d array, kept: a ufunc takes it in half the time that it takes a Python number."""
    array = np.array(value, dtype)
    array.flags.writeable = False
    return array


class _Ones(dict[Any, Any]):
    def __missing__(self, dtype: np.dtype[Any]) -> Any:
        array = self[dtype] = number(1, dtype)
        return array


one = _Ones()
"""1 by its dtype: a dict answers in half the time that a cached function takes."""


class Constant:
    """A named number in a rule (π, ln 2, √2): each reading reads it its own way.

    With arrays it is a Python float, so that float32 stays float32; printed it is its name; a reading with more
    digits than a float has looks the name up.
    """

    __array_ufunc__ = None  # let ndarray operators defer to ours
    __slots__ = ("name", "value")

    def __init__(self, name: str, value: float) -> None:
        self.name = name
        self.value = value

    def __repr__(self) -> str:
        return self.name

    def __float__(self) -> float:
        return self.value

    def __mul__(self, x: Any) -> Any:
        return NotImplemented if is_foreign(x) else self.value * x

    def __truediv__(self, x: Any) -> Any:
        return NotImplemented if is_foreign(x) else self.value / x

    def __rmul__(self, x: Any) -> Any:
        return x * self.value

    def __rtruediv__(self, x: Any) -> Any:
        return x / self.value
