"""Sample inputs and options for every built-in rule: what the tests of the rules run over. A rule without fails them.

All numbers are short binary fractions, the same in float16, float32 and float64, so that one exact reading is the truth
for all three; no two are equal, and none is an integer or zero, so that no sample sits on a kink unless it says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fluxgrad as fg

GRID = 512


@dataclass(frozen=True, eq=False)
class Sample:
    """One call of a rule. `flows`: the inputs whose fluxions are looked at (all, unless given)."""

    name: str
    inputs: tuple[np.ndarray, ...]
    options: dict[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    flows: tuple[int, ...] = ()
    number: int = 0

    def __str__(self) -> str:
        return f"{self.name}-{self.number}"

    @property
    def row(self) -> Any:
        return fg.rules[self.name]

    def cast(self, dtype: Any) -> list[np.ndarray]:
        """The inputs as another dtype; a mask stays one."""
        return [x if x.dtype == bool else x.astype(dtype) for x in self.inputs]

    def among(self, inputs: Sequence[Any]) -> Callable[..., Any]:
        """The rule as a function of the inputs that flow; the others are held."""

        def f(*moving: Any) -> Any:
            xs = list(inputs)
            for i, x in zip(self.flows, moving, strict=True):
                xs[i] = x
            return self.row(*xs, **self.options)

        return f


def draw(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...], i: int = 0) -> np.ndarray:
    """Distinct numbers (4k + r)/512 in (low, high); r tells the inputs apart, so that no two of them meet."""
    r = (1, 3, 2)[i % 3]
    ks = np.arange(np.ceil((low * GRID - r) / 4), np.floor((high * GRID - r) / 4) + 1)
    n = int(np.prod(shape))
    picked = rng.choice(ks, n, replace=n > len(ks))
    return ((4 * picked + r) / GRID).reshape(shape)


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# ----- Elementwise: the interval of each input -----

R = (-2.0, 2.0)
PLAIN = """
    sign floor ceil trunc rint round square exp exp2 expm1 sin cos arctan sinh cosh tanh arcsinh degrees rad2deg radians
    deg2rad sinc absolute fabs relu sigmoid softplus gelu negative positive
"""
POSITIVE = "reciprocal sqrt cbrt log log2 log10"
PAIRS = """
    share multiply logaddexp logaddexp2 arctan2 hypot copysign maximum minimum fmax fmin add subtract heaviside mse_loss
    l1_loss kl_div_log_target
"""
ELEMENTWISE: dict[str, tuple[tuple[float, float], ...]] = {
    **dict.fromkeys(PLAIN.split(), (R,)),
    **dict.fromkeys(POSITIVE.split(), ((0.25, 3.0),)),
    **dict.fromkeys(PAIRS.split(), (R, R)),
    **dict.fromkeys(("floor_divide", "remainder", "fmod"), ((-3.5, 3.5), (0.75, 1.5))),
    "log1p": ((-0.75, 3.0),),
    "tan": ((-1.25, 1.25),),
    "arcsin": ((-0.875, 0.875),),
    "arccos": ((-0.875, 0.875),),
    "arctanh": ((-0.875, 0.875),),
    "arccosh": ((1.25, 3.0),),
    "divide": (R, (0.5, 2.0)),
    "power": ((0.25, 2.0), R),
    "float_power": ((0.25, 2.0), R),
    "clip": ((-3.0, 3.0), (-2.0, -0.5), (0.5, 2.0)),
    "binary_cross_entropy_with_logits": (R, (0.125, 0.875)),
    "binary_cross_entropy": ((0.125, 0.875), (0.125, 0.875)),
    "kl_div": (R, (0.125, 0.875)),
}
"""Rules that work element by element and broadcast (the losses among them are fused rows, but read alike)."""


def elementwise_inputs(name: str, shapes: Sequence[tuple[int, ...]], salt: str = "") -> list[np.ndarray]:
    rng = _rng(name + salt)
    return [draw(rng, *span, shape, i) for i, (span, shape) in enumerate(zip(ELEMENTWISE[name], shapes, strict=True))]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _softmax(x: Any) -> Any:
    return np.exp(x) / np.sum(np.exp(x), -1, keepdims=True)


def _reduced(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A loss as the paper writes it, and its reduction."""

    def f(*xs: Any, reduction: str = "none", **options: Any) -> Any:
        value = loss(*xs, **options)
        return np.mean(value) if reduction == "mean" else np.sum(value) if reduction == "sum" else value

    return f


LOSSES: dict[str, Callable[..., Any]] = {
    name: _reduced(loss)
    for name, loss in {
        "mse_loss": lambda p, t: np.square(p - t),
        "l1_loss": lambda p, t: abs(p - t),
        "smooth_l1_loss": lambda p, t, beta: np.where(
            abs(p - t) < beta, (p - t) ** 2 / 2 / beta, abs(p - t) - beta / 2
        ),
        "binary_cross_entropy": lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)),
        "kl_div": lambda x, t: t * np.log(t) - t * x,
        "kl_div_log_target": lambda x, t: np.exp(t) * t - np.exp(t) * x,
        "kl_div_with_logits": lambda z, w: np.sum(_softmax(w) * np.log(_softmax(w) / _softmax(z)), -1),
        "focal_loss": lambda z, t, gamma: (
            -((1 - np.sum(t * _softmax(z), -1)) ** gamma) * np.log(np.sum(t * _softmax(z), -1))
        ),
        "binary_cross_entropy_with_logits": lambda z, t: -(t * np.log(_sigmoid(z)) + (1 - t) * np.log(1 - _sigmoid(z))),
        "huber_loss": lambda p, t, delta: np.where(
            abs(p - t) < delta, (p - t) ** 2 / 2, delta * (abs(p - t) - delta / 2)
        ),
        "sigmoid_focal_loss": lambda z, t, gamma, alpha=None: (
            -((1 - _sigmoid((2 * t - 1) * z)) ** gamma)
            * np.log(_sigmoid((2 * t - 1) * z))
            * (1 if alpha is None else np.where(t == 1, z.dtype.type(alpha), z.dtype.type(1 - alpha)))
        ),
        "cross_entropy": lambda z, t: -np.sum(t * np.log(_softmax(z)), -1),
    }.items()
}

REFERENCE: dict[str, Callable[..., Any]] = {
    "share": lambda x, w: np.heaviside(x - w, x.dtype.type(0.5)),
    "relu": lambda x: np.clip(x, 0, None),
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
    "gelu": lambda x: x * _sigmoid(2 * float(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3)),
    **LOSSES,
    "sum": np.sum,
    "einsum": lambda *xs, subscripts: np.einsum(subscripts, *xs),
    "concatenate": lambda *xs, axis=0: np.concatenate(xs, axis),
    "stack": lambda *xs, axis=0: np.stack(xs, axis),
    "where": lambda x, w, condition: np.where(condition, x, w),
    "pad": lambda x, width: np.pad(x, width),
    "astype": lambda x, dtype: np.asarray(x, dtype),
    "getitem": lambda x, index: x[index],
    "logsumexp": lambda x, axis=None, keepdims=False: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
    "softmax": lambda x, axis=-1: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True),
    "log_softmax": lambda x, axis=-1: np.log(np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)),
    "affine": lambda x, w, b: x @ w.T + b,
    "inv": np.linalg.inv,
    "pinv": np.linalg.pinv,
    "det": np.linalg.det,
    "solve": np.linalg.solve,
    "logabsdet": lambda a: np.log(abs(np.linalg.det(a))),
    "norm": lambda x, axis=None, keepdims=False: np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims)),
}
"""What a rule's value shall be, where NumPy has no function of its name."""


def _scatter(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    y = np.zeros(shape, g.dtype)
    places = np.arange(y.size).reshape(shape)[index]
    for place, number in zip(np.ravel(places), np.ravel(g), strict=True):
        y.reshape(-1)[place] += number
    return y


REFERENCE["scatter"] = _scatter


def reference(name: str) -> Callable[..., Any]:
    return REFERENCE.get(name) or getattr(np, name)


# ----- The table -----

TABLE: dict[str, list[Sample]] = {}


def _enter(name: str, *inputs: Any, flows: Sequence[int] | None = None, **options: Any) -> None:
    samples = TABLE.setdefault(name, [])
    rng = _rng(f"{name} {len(samples)}")
    arrays = tuple(draw(rng, -2, 2, x, i) if isinstance(x, tuple) else np.asarray(x) for i, x in enumerate(inputs))
    moving = tuple(range(len(arrays))) if flows is None else tuple(flows)
    samples.append(Sample(name, arrays, options, reference(name), moving, len(samples)))


for _name, _spans in ELEMENTWISE.items():
    _enter(_name, *elementwise_inputs(_name, [(2, 3)] * len(_spans)))

_grid = np.array([[-7.0, 3.0, 20.0], [-30.0, 1.0, 9.0]]) + 1 / 512
for _name in ["round"]:
    _enter(_name, _grid / 8, decimals=1)
for _name in ["sigmoid", "softplus", "relu", "gelu", "arcsinh", "arctan", "tanh", "absolute", "sinc"]:
    _enter(_name, _grid / 4)
_enter("power", -elementwise_inputs("power", [(2, 3)] * 2)[0], np.array([3.0, 2.0, -1.0]), flows=[0])
_enter("divide", elementwise_inputs("divide", [(2, 3)] * 2)[0], -elementwise_inputs("divide", [(2, 3)] * 2)[1])
for _name in ["remainder", "fmod", "floor_divide"]:
    _x, _w = elementwise_inputs(_name, [(2, 3)] * 2)
    _enter(_name, _x, -_w)

_REDUCTIONS: list[dict[str, Any]] = [
    {},
    {"axis": 1},
    {"axis": (0, -1)},
    {"axis": -2, "keepdims": True},
    {"axis": (2, 0, 1)},
    {"axis": ()},
]
for _name in ["sum", "mean", "max", "min", "prod", "norm", "logsumexp", "var", "std"]:
    for _options in _REDUCTIONS:
        if _name in ("var", "std") and _options.get("axis") == ():
            continue  # no spread: the kinks have that
        _enter(_name, (2, 3, 2), **_options)
for _name in ["var", "std"]:
    _enter(_name, (3, 4), axis=1, ddof=1)
    _enter(_name, (2, 3), ddof=0.5, keepdims=True)
_enter("prod", np.array([[0.0, 1.5, 2.0], [0.0, 0.0, -1.5], [0.25, -3.0, 1.25]]), axis=1)
_enter("prod", np.array([0.0, 1.5, 2.0]))
for _name in ["softmax", "log_softmax"]:
    for _options in [{}, {"axis": 0}, {"axis": (0, 1)}]:
        _enter(_name, (3, 4), **_options)
    _enter(_name, (4,))
for _options in [{}, {"axis": 0}, {"axis": -1}]:
    _enter("cumsum", (3, 4), **_options)
for _options in [{}, {"axis": 0}, {"axis": -2}]:
    _enter("sort", (3, 4), **_options)

for _shapes in [
    ((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((3, 4), (4, 2)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
    ((2, 3, 4), (4, 2)),
    ((3, 4), (2, 4, 2)), ((2, 3, 4), (2, 4, 2)), ((2, 1, 3, 4), (3, 4, 2)), ((1, 3, 4), (2, 4, 1)),
]:  # fmt: skip
    _enter("matmul", *_shapes)

for _subscripts, *_shapes in [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("i,i->", (3,), (3,)),
    ("i,i", (3,), (3,)),
    ("i,j->ji", (2,), (3,)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ji", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("iij->j", (2, 2, 3)),
    ("iii->i", (3, 3, 3)), ("ii,i->i", (3, 3), (3,)), ("ii,ii->i", (3, 3), (3, 3)), ("ij,k->ik", (2, 3), (2,)),
    ("ij,kj->", (2, 3), (4, 3)),
    ("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)), ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 2)),
    ("...ij,jk", (2, 2, 3), (3, 2)), ("i...->...", (3, 2)), ("...,...", (2, 3), (3,)), ("...i,...i->...", (2, 1, 3),
    (4, 3)),
    ("ij, jk -> ik", (2, 3), (3, 4)), (",ij->ji", (), (2, 3)), ("ii,jj->ij", (2, 2), (3, 3)), ("i,i,i->i", (3,),
    (3,), (3,)),
]:  # fmt: skip
    _enter("einsum", *_shapes, subscripts=_subscripts)

for _shape in [(3, 2), (-1,), (1, 6, 1), (2, -1)]:
    _enter("reshape", (2, 3), shape=_shape)
for _axis in [0, -1, (0, 2)]:
    _enter("expand_dims", (2, 3), axis=_axis)
for _options in [{}, {"axis": 0}, {"axis": (0, -1)}]:
    _enter("squeeze", (1, 3, 1), **_options)
for _options in [{}, {"axes": (1, 2, 0)}, {"axes": [-1, 0, 1]}]:
    _enter("transpose", (2, 3, 4), **_options)
for _options in [{}, {"axis": 1}, {"axis": (0, -1)}]:
    _enter("flip", (2, 3, 2), **_options)
for _options in [
    {"shift": 2},
    {"shift": -1, "axis": 1},
    {"shift": (1, -2), "axis": (0, 1)},
    {"shift": [1, 1], "axis": [0, 0]},
]:
    _enter("roll", (2, 3), **_options)
for _from, _to in [((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1, 3), (2, 4, 3)), ((2, 3), (2, 3))]:
    _enter("broadcast_to", _from, shape=_to)
_enter("concatenate", (2, 3), (1, 3), (2, 3))
_enter("concatenate", (2, 1), (2, 3), axis=-1)
_enter("concatenate", (2,))
_enter("stack", (2, 3), (2, 3), (2, 3))
_enter("stack", (2, 3), (2, 3), axis=-1)
_enter("stack", (), ())
_mask = np.array([[True, False, True], [False, False, True]])
_enter("where", (2, 3), (2, 3), condition=_mask)
_enter("where", (3,), (), condition=_mask)
_enter("where", (2, 1), (2, 3), condition=np.array(True))
_enter("pad", (2, 3), width=((1, 2), (0, 1)))
_enter("astype", (2, 3), dtype=np.dtype(np.float64))
for _k, _index in enumerate([
    1, -1, slice(None, None, -1), (slice(0, 2), 1), (None, 0, ..., None), (..., 0), np.array([0, 2, 0, 0]),
    (np.array([[0, 1], [1, 0]]), slice(1, None)),
    (np.array([0, 0]), np.array([1, 1])), (np.array([0, 0]), slice(None), np.array([1, 1])), (slice(None),
    np.array([True, False, True, True])),
    (np.arange(3) > 0), (slice(None), np.array([1, 1]), 0), (np.array(1), slice(None, 2)), np.zeros((0,), int), True,
    (slice(1, 1),), np.arange(24).reshape(3, 4, 2) % 3 == 0, (0, 1, 1), (np.array([-1, 2, -1]), ..., 0),
]):  # fmt: skip
    _enter("getitem", (3, 4, 2), index=_index)
    _picked = np.empty((3, 4, 2))[_index].shape
    _enter("scatter", _picked, index=_index, shape=(3, 4, 2))

_enter("affine", (3, 4), (2, 4), (2,))
_enter("affine", (4,), (2, 4), (2,))
_enter("affine", (2, 3, 4), (2, 4), (2,))
_enter("affine", (1, 4), (1, 4), (1,))

_strong = 2.5 * np.eye(3)  # keeps the matrices far from singular
_a = draw(_rng("a"), -1, 1, (3, 3)) + _strong
_aa = draw(_rng("aa"), -1, 1, (2, 3, 3)) - _strong
for _name in ["inv", "det", "logabsdet"]:
    _enter(_name, _a)
    _enter(_name, _aa)
_enter("det", _aa.reshape(2, 1, 3, 3)[:, :, :2, :2])
for _m, _shape in [
    (_a, (3,)),
    (_a, (3, 2)),
    (_aa, (3,)),
    (_aa, (2, 3, 2)),
    (_aa, (3, 2)),
    (_a, (2, 3, 2)),
    (_a, (1, 3, 1)),
]:
    _enter("solve", _m, _shape)
_enter("pinv", _a[:, :2])
_enter("pinv", _a[:2])
_enter("pinv", _aa[:, :, :2])

_elementwise_losses = [
    "mse_loss", "l1_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "kl_div", "kl_div_log_target",
]  # fmt: skip
_sides = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
_soft = draw(_rng("soft"), 0.125, 0.875, (2, 3))
_hot = np.array([[False, True, False], [True, False, False]])
for _options in [{}, {"reduction": "mean"}, {"reduction": "sum"}]:
    for _name in _elementwise_losses:
        _enter(_name, *elementwise_inputs(_name, [(2, 3)] * 2), **_options)
    _enter("huber_loss", (3, 4), (3, 4), delta=1.0, **_options)
    _enter("smooth_l1_loss", (3, 4), (3, 4), beta=1.0, **_options)
    _enter("sigmoid_focal_loss", (2, 3), _sides, flows=[0], gamma=2.0, **_options)
    _enter("cross_entropy", (2, 3), _soft, **_options)
    _enter("cross_entropy", (2, 3), _hot, flows=[0], **_options)
    _enter("cross_entropy", (3,), _hot[0], flows=[0], **_options)
    _enter("focal_loss", (2, 3), _hot, flows=[0], gamma=2.0, **_options)
    _enter("focal_loss", (3,), _hot[0], flows=[0], gamma=2.0, **_options)
    _enter("kl_div_with_logits", (2, 3), (2, 3), **_options)
    _enter("kl_div_with_logits", (3,), (3,), **_options)
_enter("huber_loss", (3, 4), (3, 4), delta=0.3)
_enter("smooth_l1_loss", (3, 4), (3, 4), beta=0.3)
_enter("focal_loss", (2, 3), _hot, flows=[0], gamma=0.5)
_enter("focal_loss", (2, 3), _hot.astype(float), flows=[0], gamma=5.0)
_enter("sigmoid_focal_loss", (2, 3), _sides, flows=[0], gamma=0.5)
_enter("sigmoid_focal_loss", (2, 3), _sides, flows=[0], gamma=2.0, alpha=0.25)

SAMPLES = [sample for samples in TABLE.values() for sample in samples]
