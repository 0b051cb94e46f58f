"""Layers: modules that hold parameters and call rows. Names and shapes are PyTorch's; parameters are float32 unless asked.

A weight has shape (out, in) and is stored (in, out), as a transposed view, so that the forward product runs along memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxgrad.rules.elementwise import gelu, relu, sigmoid, tanh
from fluxgrad.rules.fused import affine
from fluxgrad.rules.linear import matmul
from fluxgrad.tensor import Array, Tensor, _fixed, _kind_of, _leaf, _ndarray, apply1, apply2, apply3, quiet, recording

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import DTypeLike

    Seed = int | np.random.Generator | None


class Module:
    """A part of a model. Subclass it, keep Tensors and Modules as attributes (or in lists), write `forward`.

    >>> import numpy as np, fluxgrad as fg
    >>> class Scale(fg.nn.Module):
    ...     def __init__(self):
    ...         self.factor = fg.Tensor(2.0, requires_grad=True)
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> [name for name, p in Scale().named_parameters()]
    ['factor']
    """

    training = True

    def __init_subclass__(cls) -> None:
        if "forward" in vars(cls) and "__call__" not in vars(cls):
            cls.__call__ = Module.__call__  # type: ignore[method-assign]  # not that of a layer which is called directly

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "forward" and type(self).__call__ is not Module.__call__:
            raise TypeError(f"{type(self).__name__}.forward cannot be replaced on one instance; subclass it")
        super().__setattr__(name, value)

    def forward(self, *args: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no forward(self, x)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def _parts(self) -> Iterator[tuple[str, Module | Tensor]]:
        """The modules and leaf tensors among the attributes, in lists, tuples and dicts too."""
        waiting = list(vars(self).items())
        while waiting:
            name, part = waiting.pop(0)
            if isinstance(part, list | tuple):
                waiting[:0] = [(f"{name}.{k}", p) for k, p in enumerate(part)]
            elif isinstance(part, dict):
                waiting[:0] = [(f"{name}.{k}", p) for k, p in part.items()]
            elif isinstance(part, Module) or (isinstance(part, Tensor) and part.row is None):
                yield name, part

    def modules(self) -> Iterator[Module]:
        """This module and every one inside it."""
        yield self
        for _, part in self._parts():
            if isinstance(part, Module):
                yield from part.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) pairs, as in `layers.0.weight`, of what requires grad; a parameter that is shared comes once."""
        return ((name, p) for name, p in self._tensors(prefix) if p.requires_grad)

    def _tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        met: set[int] = set()
        for name, p in self._named(prefix):
            if id(p) not in met:
                met.add(id(p))
                yield name, p

    def _named(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, part in self._parts():
            if isinstance(part, Module):
                yield from part._named(f"{prefix}{name}.")
            else:
                yield prefix + name, part

    def parameters(self) -> Iterator[Tensor]:
        return (p for _, p in self.named_parameters())

    def zero_grad(self) -> None:
        for p in self.parameters():
            p.grad = None

    def state_dict(self) -> dict[str, Array]:
        """The numbers of every tensor in it, frozen ones too, by name and copied: `np.savez(path, **model.state_dict())`."""
        return {name: p._value.copy() for name, p in self._tensors()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the numbers of a `state_dict()`, or of `np.load(path)`. Raises KeyError or ValueError where names or shapes differ."""
        own = dict(self._tensors())
        if set(own) != set(state):
            missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {extra}")
        arrays = {name: np.asarray(state[name]) for name in own}
        for name, p in own.items():
            if arrays[name].shape != p.shape:
                raise ValueError(f"load_state_dict: {name} has shape {p.shape}; given {arrays[name].shape}")
        for name, p in own.items():
            new = np.empty_like(p._value)  # in the parameter's own memory layout
            new[...] = arrays[name]
            p.data = new

    def train(self, mode: bool = True) -> Self:
        for m in self.modules():
            m.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def _settings(self) -> str:
        return ""

    def __repr__(self) -> str:
        parts = [(name, p) for name, p in self._parts() if isinstance(p, Module)]
        if not parts:
            return f"{type(self).__name__}({self._settings()})"
        inside = "".join(f"  ({name}): {part!r}\n".replace("\n", "\n  ").rstrip(" ") for name, part in parts)
        return f"{type(self).__name__}(\n{inside})"


def _input(x: Any, dtype: np.dtype[Any]) -> Tensor:
    """A layer's input in its parameters' dtype."""
    if type(x) is _ndarray and x.dtype is dtype and (not quiet or recording.on):
        return _fixed(x.copy())  # a graph saves it, and its owner may write to it
    if isinstance(x, Tensor):
        return x.astype(dtype)
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"a layer's input must be real numbers; given {_kind_of(x)} (dtype {x.dtype})")
    return _fixed(np.array(x, dtype, copy=recording.on or None))


class Linear(Module):
    """y = x @ Wᵀ + b, weight of shape (out_features, in_features), bias (out_features,).

    Both start uniform in ±1/√in_features. Raises ValueError where x's last axis is not in_features.

    >>> import numpy as np, fluxgrad as fg
    >>> layer = fg.nn.Linear(3, 2, seed=0)
    >>> layer(np.ones((5, 3))).shape, layer.weight.shape
    ((5, 2), (2, 3))
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, seed: Seed = None, dtype: DTypeLike = np.float32
    ) -> None:
        rng = np.random.default_rng(seed)
        bound = 1 / np.sqrt(max(in_features, 1))
        self.weight = Tensor(rng.uniform(-bound, bound, (in_features, out_features)).astype(dtype).T, True, "W")
        self.bias = Tensor(rng.uniform(-bound, bound, out_features), True, "b", dtype) if bias else None

    def forward(self, x: Any) -> Tensor:
        weight, bias = self.weight, self.bias
        dtype = weight._value.dtype
        if type(x) is not Tensor or x._value.dtype is not dtype:
            x = _input(x, dtype)
        try:
            if bias is None:
                return apply2(matmul, x, weight.T)
            return apply3(affine, x, weight, bias)
        except (ValueError, IndexError):
            raise ValueError(f"{self!r} takes inputs of shape (…, {weight.shape[1]}); given {x.shape}") from None

    __call__ = forward

    def _settings(self) -> str:
        out, into = self.weight.shape
        return f"{into}, {out}" + ("" if self.bias is not None else ", bias=False")


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Any) -> Any:
        return apply1(relu, x) if type(x) is Tensor else relu(x)

    __call__ = forward  # (so that a call is one call, here and below)


class Tanh(Module):
    """tanh x"""

    def forward(self, x: Any) -> Any:
        return apply1(tanh, x) if type(x) is Tensor else tanh(x)

    __call__ = forward


class Sigmoid(Module):
    """σ(x) = 1/(1 + exp −x)"""

    def forward(self, x: Any) -> Any:
        return sigmoid(x)


class GELU(Module):
    """The tanh form of GELU, ½x(1 + tanh(√(2/π)(x + 0.044715x³))); raises ValueError for another `approximate`."""

    def __init__(self, approximate: str = "tanh") -> None:
        if approximate != "tanh":
            raise ValueError(f"GELU(approximate={approximate!r}): only 'tanh' is here, since NumPy has no erf")

    def forward(self, x: Any) -> Any:
        return gelu(x)


class Dropout(Module):
    """In training, each element is 0 with probability p and x/(1 − p) otherwise; in eval, x."""

    def __init__(self, p: float = 0.5, seed: Seed = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must lie in [0, 1); given {p!r}")
        self.p = p
        self._rng = np.random.default_rng(seed)

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        x = x if isinstance(x, Tensor) else _leaf(np.asarray(x))
        keep = (self._rng.random(x.shape) >= self.p) / (1 - self.p)
        return x * keep.astype(x.dtype)

    def _settings(self) -> str:
        return f"p={self.p}"


class Sequential(Module):
    """The layers, one after the other; `layers` is the list of them.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.nn.Sequential(fg.nn.Linear(2, 4), fg.nn.Tanh(), fg.nn.Linear(4, 1))(np.zeros((3, 2))).shape
    (3, 1)
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        layer: Any
        for layer in self.layers:
            x = layer.__call__(x)  # as layer(x), which looks for the same function in more time
        return x

    __call__ = forward

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return iter(self.layers)

    def __getitem__(self, k: int) -> Callable[..., Any]:
        return self.layers[k]


class MLP(Sequential):
    """MLP(2, [16, 16, 1]): 2 inputs, two hidden layers of 16, 1 output, an activation after each hidden layer.

    >>> import fluxgrad as fg
    >>> fg.nn.MLP(2, [16, 1], activation=fg.nn.Tanh, seed=0)
    MLP(
      (layers.0): Linear(2, 16)
      (layers.1): Tanh()
      (layers.2): Linear(16, 1)
    )
    """

    def __init__(
        self,
        n_in: int,
        sizes: Sequence[int],
        activation: Callable[[], Module] = ReLU,
        seed: Seed = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if not sizes:
            raise ValueError("MLP(n_in, sizes): sizes needs at least the number of outputs, as in MLP(2, [16, 1])")
        rng = np.random.default_rng(seed)
        widths = [n_in, *sizes]
        layers: list[Module] = []
        for k in range(len(sizes)):
            layers += [activation()] if k else []
            layer = Linear(widths[k], widths[k + 1], seed=rng, dtype=dtype)
            for p in layer.parameters():
                p.name = f"{p.name}{k + 1}"  # W1, b1, W2, … on the page
            layers.append(layer)
        super().__init__(*layers)
