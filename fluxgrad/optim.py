"""Optimisers: all parameters stepped in a few NumPy calls.

Small parameters of one dtype live side by side in one flat buffer, so that a step is a handful of ufuncs over it, however
many layers there are; a large one has a buffer of its own, and its gradient is read where it lies. There are two
buffers: a step reads the values from one, writes the new ones into the other, and rebinds the parameters to it. So what
an older graph has saved stays as it was. Where a graph still holds the other buffer, a new one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from fluxgrad.rules.kinds import number
from fluxgrad.tensor import _ALONE, Array, Tensor, _holders

Update = Callable[[Array, Array, Array, Array, list[Array], int], None]
LARGE = 2**15  # elements; from here on the copy into a shared buffer costs more than a ufunc call saves


class _Flat:
    """A flat buffer, and each parameter's view of it in its own shape and memory order."""

    def __init__(self, params: Sequence[Tensor], orders: Sequence[Any], writeable: bool = False) -> None:
        self.flat = np.zeros(sum(p.size for p in params), params[0].dtype)
        self.slices: list[slice] = []
        self.views: list[Array] = []
        start = 0
        for p, order in zip(params, orders, strict=True):
            self.slices.append(slice(start, start + p.size))
            self.views.append(self.flat[self.slices[-1]].reshape(p.shape, order=order))
            self.views[-1].flags.writeable = writeable
            start += p.size
        self.pairs = list(zip(params, self.views, strict=True))  # (to zip anew takes longer than to go through them)
        self.arrays = [self.flat, *self.views]
        self.count()

    def count(self) -> None:
        """Note how many hold it now."""
        self.alone: list[int] | None = list(map(getrefcount, self.arrays))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "alone": None}  # a copy's views are views no more: it is made anew when it is used

    def is_held(self) -> bool:
        """Whether a graph, or somebody who took a view, still reads it."""
        return list(map(getrefcount, self.arrays)) != self.alone


class _Group:
    """Parameters of one dtype side by side: the values now, room for the next ones and for the fluxions, and the
    optimiser's own state."""

    def __init__(self, params: Sequence[Tensor], states: int) -> None:
        self.params = params
        self.orders: list[Any] = ["F" if p._value.flags.f_contiguous and p.ndim > 1 else "C" for p in params]
        self.now, self.next = _Flat(params, self.orders), _Flat(params, self.orders)
        self.fluxion = self._fluxion()
        self.scratch = np.empty_like(self.now.flat)
        self.states = [np.zeros_like(self.now.flat) for _ in range(states)]
        self.together, self.counts = True, [0]

    def zero_grad(self) -> None:
        for p, v in self.fluxion.pairs:
            p._grad = None
            p._room = v
        del v  # it would count as a holder
        if self.fluxion.is_held():  # somebody keeps a .grad of the last step
            self.fluxion = self._fluxion()

    def _fluxion(self) -> _Flat:
        """Room for the fluxions, which the next sweep writes into."""
        fluxion = _Flat(self.params, self.orders, writeable=True)
        for p, v in fluxion.pairs:
            p._room = v
        del v
        fluxion.count()
        return fluxion

    def step(self, update: Update) -> None:
        """Update all parameters at once, or one by one where some have no fluxion."""
        now, new, fluxion, in_place = self.now, self.next, self.fluxion, self.together
        if new.is_held():
            new = _Flat(self.params, self.orders)
        for p, v in now.pairs:
            if p._value is not v:
                in_place = False
        for p, f in fluxion.pairs:
            if p._grad is not f:
                in_place = False
        if in_place:
            self.counts[0] += 1
            update(now.flat, new.flat, fluxion.flat, self.scratch, self.states, self.counts[0])
            for p, v in new.pairs:
                p._value = v
        else:
            self._step_gathered(update, new)
        self.now, self.next = new, now

    def _step_gathered(self, update: Update, new: _Flat) -> None:
        """The same where values or fluxions lie elsewhere: set by the user, a state_dict, another optimiser; or missing.
        One that has no fluxion stays where it is, and from then on each has its own count of steps."""
        params, orders = self.params, self.orders
        now = np.concatenate([p._value.ravel(o) for p, o in zip(params, orders, strict=True)])
        missing = [p._grad is None for p in params]
        if self.together and not any(missing):
            g = np.concatenate([p._grad.ravel(o) for p, o in zip(params, orders, strict=True)])  # type: ignore[union-attr]  # none is missing
            self.counts[0] += 1
            update(now, new.flat, g, self.scratch, self.states, self.counts[0])
        elif not all(missing):
            if self.together:
                self.together, self.counts = False, self.counts * len(params)
            new.flat[...] = now
            for k, (p, s, o) in enumerate(zip(params, new.slices, orders, strict=True)):
                if p._grad is not None:
                    self.counts[k] += 1
                    states = [state[s] for state in self.states]
                    update(now[s], new.flat[s], p._grad.ravel(o), self.scratch[s], states, self.counts[k])
        else:
            return
        for p, v in new.pairs:
            if p._value.base is None and p._value.flags.writeable and _holders(p) > _ALONE:
                np.copyto(p._value, v)  # the user keeps this array as the parameter's
            else:
                p._value = v


class Optimizer:
    """What SGD, Adam and AdamW share: which parameters, `step()` and `zero_grad()`."""

    _states = 0

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        if isinstance(params, Tensor):
            raise TypeError("an optimiser takes an iterable of parameters: [w], or model.parameters()")
        given = list(params)
        if not given:
            raise ValueError("an optimiser needs at least one parameter; given none (was the iterator used up?)")
        for p in given:
            if not isinstance(p, Tensor) or p.row is not None or not p.requires_grad:
                raise TypeError(f"an optimiser steps leaf tensors that require grad; given {p!r}")
        unique = list(dict.fromkeys(given))
        _not_negative(lr=lr)
        self.lr = lr
        self.params = unique
        small: dict[np.dtype[Any], list[Tensor]] = {}
        groups = []
        for p in unique:
            if p.size >= LARGE:
                groups.append([p])
            else:
                small.setdefault(p.dtype, []).append(p)
        self._groups = [_Group(g, self._states) for g in [*groups, *small.values()]]

    def zero_grad(self) -> None:
        """Forget the fluxions: each .grad is None again, and the next sweep stores into it."""
        for group in self._groups:
            group.zero_grad()

    def step(self) -> None:
        """Move each parameter that has a .grad."""
        for group in self._groups:
            group.step(self._update)

    def _update(self, now: Array, new: Array, g: Array, scratch: Array, states: list[Array], count: int) -> None:
        raise NotImplementedError


def _not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative; given {value!r}")


class SGD(Optimizer):
    """w ← w − lr·(L̇_w + weight_decay·w); with momentum μ: v ← μ·v + …, w ← w − lr·v (nesterov: w − lr·(… + μ·v)).

    PyTorch's SGD. Raises ValueError for a negative setting, or for nesterov without momentum.

    >>> import fluxgrad as fg
    >>> w = fg.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimiser = fg.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimiser.step()
    >>> w.data
    array([0.8, 1.6])
    """

    _states = 1

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum > 0:
            raise ValueError("SGD: nesterov needs a momentum")
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        _not_negative(momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, lr)

    def _update(self, now: Array, new: Array, g: Array, scratch: Array, states: list[Array], count: int) -> None:
        if self.weight_decay:
            np.multiply(now, number(float(self.weight_decay), now.dtype), scratch)
            g = np.add(scratch, g, scratch)
        if self.momentum:
            v = states[0]
            momentum = number(float(self.momentum), v.dtype)
            np.multiply(v, momentum, v)
            np.add(v, g, v)
            if self.nesterov:
                np.multiply(v, momentum, new)
                g = np.add(new, g, scratch)
            else:
                g = v
        np.multiply(g, number(float(self.lr), g.dtype), new)
        np.subtract(now, new, new)


class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², w ← w − lr·m̂/(√v̂ + ε), m̂ and v̂ corrected for their start at 0.

    PyTorch's Adam; weight_decay is added to the fluxion. Raises ValueError for a negative setting or betas outside [0, 1).

    >>> import fluxgrad as fg
    >>> w = fg.Tensor([1.0], requires_grad=True)
    >>> optimiser = fg.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimiser.step()
    >>> w.data
    array([0.9])
    """

    _states = 2
    _decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"{type(self).__name__}: betas must lie in [0, 1); given {betas!r}")
        _not_negative(eps=eps, weight_decay=weight_decay)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        super().__init__(params, lr)

    def _update(self, now: Array, new: Array, g: Array, scratch: Array, states: list[Array], count: int) -> None:
        (b1, b2), lr, decay = self.betas, float(self.lr), float(self.weight_decay)
        m, v = states
        if decay and not self._decoupled:
            np.multiply(now, decay, new)
            g = np.add(new, g, new)
        np.multiply(m, b1, m)
        np.multiply(g, 1 - b1, scratch)
        np.add(m, scratch, m)
        np.multiply(v, b2, v)
        np.multiply(g, g, scratch)
        np.multiply(scratch, 1 - b2, scratch)
        np.add(v, scratch, v)
        np.sqrt(v, scratch)
        np.multiply(scratch, (1 - b2**count) ** -0.5, scratch)
        np.add(scratch, float(self.eps), scratch)
        np.divide(m, scratch, scratch)
        np.multiply(scratch, lr / (1 - b1**count), scratch)
        if decay and self._decoupled:
            np.multiply(now, 1 - lr * decay, new)
            np.subtract(new, scratch, new)
        else:
            np.subtract(now, scratch, new)


class AdamW(Adam):
    """Adam whose weight_decay shrinks the parameter itself, w ← w·(1 − lr·weight_decay), apart from the fluxion."""

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
