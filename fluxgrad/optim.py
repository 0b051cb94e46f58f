"""Optimisers: all parameters stepped in a few NumPy calls.

Small parameters of one dtype live side by side in one flat buffer, so that a step is a handful of ufuncs over it, however
many layers there are; a large one has a buffer of its own, and its gradient is read where it lies. There are two
buffers: a step reads the values from one, writes the new ones into the other, and rebinds the parameters to it. So what
an older graph has saved stays as it was. Where a graph still holds the other buffer, a new one is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from fluxgrad.tensor import _ALONE, Array, Tensor, _holders

LARGE = 2**15  # elements; from here on the copy into a shared buffer costs more than a ufunc call saves


class _Buffers:
    """Parameters of one dtype side by side: the values now, room for the next ones, and the optimiser's own state."""

    def __init__(self, params: Sequence[Tensor], states: int) -> None:
        self.params = params
        self.orders = ["F" if p._data.flags.f_contiguous and p.ndim > 1 else "C" for p in params]
        ends = np.cumsum([p.size for p in params]).tolist()
        self.slices = [slice(e - p.size, e) for p, e in zip(params, ends, strict=True)]
        self.size, self.dtype = ends[-1], params[0].dtype
        self.now, self.now_views = self._new()
        self.next, self.next_views = self._new()
        self.alone = (getrefcount(self.next), [getrefcount(v) for v in self.next_views])
        self.fluxion = np.empty(self.size, self.dtype)
        self.scratch = np.empty(self.size, self.dtype)
        self.states = [np.zeros(self.size, self.dtype) for _ in range(states)]
        self.counts = [0] * len(params)
        for p, v in zip(params, self.now_views, strict=True):
            v.flags.writeable = True
            v[...] = p._data
            v.flags.writeable = False
            if _holders(p) == _ALONE:
                p._data = v

    def _new(self) -> tuple[Array, list[Array]]:
        buffer = np.zeros(self.size, self.dtype)
        views = [buffer[s].reshape(p.shape, order=o) for p, s, o in zip(self.params, self.slices, self.orders, strict=True)]
        for v in views:
            v.flags.writeable = False
        return buffer, views

    def step(self, update: Any) -> None:
        """Update all parameters at once, or one by one where some have no fluxion."""
        for p, v, s, o in zip(self.params, self.now_views, self.slices, self.orders, strict=True):
            if p._data is not v:  # set by the user, a state_dict or another optimiser
                self.now[s] = p._data.ravel(o)
        held = [getrefcount(v) for v in self.next_views]
        if (getrefcount(self.next), held) != self.alone:
            self.next, self.next_views = self._new()
        grads = [p._grad for p in self.params]
        if None not in [g if g is None else 0 for g in grads] and len(set(self.counts)) == 1:
            flat = [g.ravel(o) for g, o in zip(grads, self.orders, strict=True)]  # type: ignore[union-attr]
            g = flat[0] if len(flat) == 1 else np.concatenate(flat, out=self.fluxion)
            self.counts = [self.counts[0] + 1] * len(grads)
            update(self.now, self.next, g, self.scratch, self.states, self.counts[0])
        else:
            for k, (grad, s, o) in enumerate(zip(grads, self.slices, self.orders, strict=True)):
                if grad is None:
                    self.next[s] = self.now[s]
                else:
                    self.counts[k] += 1
                    states = [state[s] for state in self.states]
                    update(self.now[s], self.next[s], grad.ravel(o), self.scratch[s], states, self.counts[k])
        self.now, self.next = self.next, self.now
        self.now_views, self.next_views = self.next_views, self.now_views
        for p, old, new in zip(self.params, self.next_views, self.now_views, strict=True):
            if p._data is not old and p._data.base is None and p._data.flags.writeable and _holders(p) > _ALONE:
                np.copyto(p._data, new)  # the user keeps this array as the parameter's
            else:
                p._data = new


class Optimizer:
    """What SGD, Adam and AdamW share: which parameters, `step()` and `zero_grad()`."""

    _states = 0

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        if isinstance(params, Tensor):
            raise TypeError("an optimiser takes an iterable of parameters: [w], or model.parameters()")
        unique = list(dict.fromkeys(params))
        if not unique:
            raise ValueError("an optimiser needs at least one parameter; given none (was the iterator used up?)")
        for p in unique:
            if not isinstance(p, Tensor) or p.row is not None or not p.requires_grad:
                raise TypeError(f"an optimiser steps leaf tensors that require grad; given {p!r}")
        if not lr >= 0:
            raise ValueError(f"lr must not be negative; given {lr!r}")
        self.lr = lr
        self.params = unique
        small: dict[np.dtype[Any], list[Tensor]] = {}
        groups = []
        for p in unique:
            if p.size >= LARGE:
                groups.append([p])
            else:
                small.setdefault(p.dtype, []).append(p)
        self._buffers = [_Buffers(g, self._states) for g in [*groups, *small.values()]]

    def zero_grad(self) -> None:
        """Forget the fluxions: each .grad is None again, and the next sweep stores into it."""
        for p in self.params:
            p._grad = None

    def step(self) -> None:
        """Move each parameter that has a .grad."""
        for buffers in self._buffers:
            buffers.step(self._update)

    def _update(self, now: Array, new: Array, g: Array, scratch: Array, states: list[Array], count: int) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """w ← w − lr·(L̇_w + weight_decay·w); with momentum μ: v ← μ·v + …, w ← w − lr·v (nesterov: w − lr·(… + μ·v)).

    PyTorch's SGD. Raises ValueError for a negative lr, or for nesterov without momentum.

    >>> import fluxgrad as fg
    >>> w = fg.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimiser = fg.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimiser.step()
    >>> w.data
    array([0.8, 1.6])
    """

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
        self._states = 1 if momentum else 0
        super().__init__(params, lr)

    def _update(self, now: Array, new: Array, g: Array, scratch: Array, states: list[Array], count: int) -> None:
        if self.weight_decay:
            np.multiply(now, float(self.weight_decay), scratch)
            g = np.add(scratch, g, scratch)
        if self.momentum:
            v = states[0]
            np.multiply(v, float(self.momentum), v)
            np.add(v, g, v)
            if self.nesterov:
                np.multiply(v, float(self.momentum), new)
                g = np.add(new, g, scratch)
            else:
                g = v
        np.multiply(g, float(self.lr), new)
        np.subtract(now, new, new)


class Adam(Optimizer):
    """m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², w ← w − lr·m̂/(√v̂ + ε), m̂ and v̂ corrected for their start at 0.

    PyTorch's Adam; weight_decay is added to the fluxion. Raises ValueError for a negative lr or betas outside [0, 1).

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
