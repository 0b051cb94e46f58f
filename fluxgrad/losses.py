"""The losses, each a fused row: its value for one example, and the signal L̇_ŷ (or L̇_z of a logit) that it sends back.

A loss is written as its core, for one example: `value(ŷ, y)` and one `signal(ŷ, y)` per input. What every loss shares is
written once: the reduction (an option of the row, in `_loss`), checks, labels, weights. Names, argument order and
defaults are PyTorch's. Sections are those of the paper, *Loss Functions via the Method of Fluxions*.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fluxgrad.rules.elementwise import sigmoid, softplus
from fluxgrad.rules.fused import logsumexp, softmax
from fluxgrad.rules.kinds import Fused, Kernel, fused, part, sample
from fluxgrad.rules.linear import moveaxis, over
from fluxgrad.tensor import Array, Tensor, _fixed, _kind_of, apply

Reduction = Literal["mean", "sum", "none"]

# ----- A loss from its core -----


def _loss(
    form: str,
    value: Callable[..., Any],
    *signals: Callable[..., Any],
    core: Kernel | None = None,
    classes: bool = False,
    name: str,
    choice: str | None = None,
) -> Fused:
    """A loss's row: the value and the signals of one example, and the reduction, which every loss shares.

    `classes`: an example is a row of classes, not one number. `core` is a kernel of it where digits or speed
    ask for one: forward gives the value of each example as two factors (a, b), or (a, None), and back(g, saved, room) takes
    one number or one an example for g.
    """

    def examples(x: Array) -> int:
        return x.size // x.shape[-1] if classes and x.size else x.size

    def reduced(*inputs: Any, reduction: str = "none", **options: Any) -> Any:
        losses = value(*inputs, **options)
        if reduction == "mean":
            return np.mean(losses) if losses.size else np.sum(losses) * np.nan
        return np.sum(losses) if reduction == "sum" else losses

    def pull_of(signal: Callable[..., Any]) -> Callable[..., Any]:
        def pull(g: Any, L: Any, *inputs: Any, reduction: str = "none", **options: Any) -> Any:
            if reduction == "mean":
                g = over(g, max(examples(inputs[0]), 1))
            if reduction == "none" and classes:
                g = np.expand_dims(g, -1)
            return g * signal(*inputs, **options)

        return pull

    def forward(*arrays: Array, reduction: str = "none", **options: Any) -> tuple[Any, Any]:
        (a, b), saved = core[0](*arrays, **options)  # type: ignore[index]  # (a kernel where there is a core)
        if a.dtype == np.float16 and reduction != "none":  # whose sums run over
            a, b = (a if b is None else a * b).astype(np.float32), None
            total, saved = forward_sum(a, b, reduction, saved)
            return total.astype(np.float16), saved
        return forward_sum(a, b, reduction, saved)

    def forward_sum(a: Any, b: Any, reduction: str, saved: Any) -> tuple[Any, Any]:
        if reduction == "none":
            return a if b is None else a * b, saved and (saved, None)
        if b is None:
            total = np.add.reduce(a, None)
        elif a.size <= 1024:
            flat = a.reshape(-1)  # (a long sum keeps more digits where NumPy adds in pairs)
            total = flat.dot(flat if a is b else b.reshape(-1))
        else:
            total = np.add.reduce(a * b, None)
        if reduction == "sum":
            return total, saved and (saved, 1)
        n = a.size
        return total / n if n else np.full((), np.nan, a.dtype), saved and (saved, n)

    def back(send: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def scaled(g: Any, saved: Any, room: Any) -> Any:
            saved, n = saved
            if n is not None:
                return send(g.item() / max(n, 1), saved, room)
            return send(g[..., None] if classes else g, saved, room)

        return scaled

    kernel = (forward, list(map(back, core[1]))) if core else None
    row = fused(form, reduced, *map(pull_of, signals), kernel=kernel, name=name, choice=choice)
    code = value.__code__
    row._options = ("reduction", *code.co_varnames[len(signals) : code.co_argcount])
    return row


# ----- The cores: value, signal to the prediction, signal to the target -----


def _fits(p: Array, t: Array) -> bool:
    return p.dtype is t.dtype and p.shape == t.shape != ()


def _squared(p: Array, t: Array) -> tuple[Any, Any]:
    e = p - t
    return (e, e), (e,) if _fits(p, t) else None


mse = _loss("(p − t)²", lambda p, t: (p - t) * (p - t), lambda p, t: 2 * (p - t), lambda p, t: -2 * (p - t),
            core=(_squared, [lambda g, saved, room: saved[0] * (g + g), lambda g, saved, room: saved[0] * (-g - g)]), name="mse_loss")  # fmt: skip


def _huber(p: Any, t: Any, delta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < delta, 0.5 * r * r, delta * np.abs(r) - 0.5 * delta * delta)


def _huber_signal(p: Any, t: Any, delta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < delta, r, delta * np.sign(r))


def _clipped(p: Array, t: Array, delta: float) -> tuple[Any, Any]:
    r = p - t
    d = np.clip(r, -delta, delta)  # the signal; `where` on an unpredictable mask costs thirty times as much
    return (d, r - 0.5 * d), (d,) if _fits(p, t) else None


huber = _loss("huber(p − t)", _huber, _huber_signal, lambda p, t, delta: -_huber_signal(p, t, delta),
              core=(_clipped, [lambda g, saved, room: saved[0] * g, lambda g, saved, room: saved[0] * -g]), name="huber_loss",
              choice="at |p − t| = δ both sides agree")  # fmt: skip

logistic = _loss(
    "logistic(z, t)", lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    lambda z, t: (1 - t) * part("p", sigmoid(z)) - t * part("q", sigmoid(-z)),  # p − t, with no digit lost as p nears t
    lambda z, t: -z, name="binary_cross_entropy_with_logits",
)  # fmt: skip


def _focal(z: Any, t: Any, gamma: float) -> Any:
    s = part("s", (2 * t - 1) * z)  # the logit of the true class
    return np.exp(-gamma * softplus(s)) * softplus(-s)


def _focal_s(z: Any, t: Any, gamma: float) -> Any:
    s = part("s", (2 * t - 1) * z)
    p, q, c = part("p", sigmoid(s)), part("q", sigmoid(-s)), part("c", softplus(-s))
    return -np.exp(-gamma * softplus(s)) * (gamma * p * c + q)


focal = _loss(
    "focal(z, t)", _focal,
    lambda z, t, gamma: (2 * t - 1) * _focal_s(z, t, gamma),
    lambda z, t, gamma: 2 * z * _focal_s(z, t, gamma), name="sigmoid_focal_loss",
)  # fmt: skip


def _hot(t: Any, z: Any) -> Any:
    """Labels as rows of one 1 each; probabilities, and labels that are so already, as they are."""
    if t.dtype.kind in "iu" and t.ndim < z.ndim:
        t = part("t", np.expand_dims(t, -1) == np.arange(z.shape[-1]))
    return t if t.dtype.kind == "f" else t.astype(z.dtype)


def _surprise(z: Any, t: Any) -> Any:
    """(Σt) ln Σ exp z − Σ t z; a masked class (z = −∞, t = 0) counts for nothing."""
    t = _hot(t, z)
    return np.sum(t * (logsumexp(z, axis=-1, keepdims=True) - np.where(t == 0, 0, z)), axis=-1)


def _surprise_z(z: Any, t: Any) -> Any:
    p, hot = part("p", softmax(z)), _hot(t, z)
    return p - hot if t.dtype.kind in "iu" else np.sum(hot, axis=-1, keepdims=True) * p - hot  # of labels, Σt is 1


def _surprise_t(z: Any, t: Any) -> Any:
    return logsumexp(z, axis=-1, keepdims=True) - z


_INTP = np.dtype(np.intp)


@lru_cache(16)
def _rows(n: int) -> Array:
    return np.arange(n)


def _one_pass(z: Array, t: Array) -> tuple[Any, Any]:
    """Labels: c = (m − z_t) + ln Σ exp(z − m), signal exp(z − m)/Σ − t. The classes go first, since NumPy reduces along the
    first axis several times faster than along a short last one."""
    if t.dtype is not _INTP or t.ndim != 1 or z.ndim != 2:
        return (_surprise(z, t), None), None
    e = z.T.copy()
    at = t * len(t)
    at += _rows(len(t))
    np.subtract(e, np.maximum.reduce(e, 0), e)
    c = e.take(at)
    np.exp(e, e)
    total = np.add.reduce(e, 0)
    return (np.subtract(np.log(total), c, c), None), (e, total, at)


def _one_pass_back(g: Any, saved: Any, room: Any) -> Any:
    e, total, at = saved
    g = g[:, 0] if isinstance(g, np.ndarray) else g
    s = e * (g / total)
    s.reshape(-1)[at] -= g
    return s.T


surprise = _loss("cross_entropy(z, t)", _surprise, _surprise_z, _surprise_t, core=(_one_pass, [_one_pass_back]),
                 classes=True, name="cross_entropy")  # fmt: skip

# ----- How they are written down -----

sample(mse, (3,), (3,), output="L")
sample(huber, (3,), (3,), output="L", delta=("δ", 1.0))
sample(logistic, (3,), (3,), output="L")
sample(focal, (3,), np.array([1.0, 0.0, 1.0]), output="L", gamma=("γ", 2.0))
sample(surprise, (2, 3), np.eye(2, 3, dtype=int), output="L")

# ----- Around the cores: checks, labels, weights -----


_REDUCTIONS = {how: {"reduction": how} for how in ("mean", "sum", "none")}


def _reduction(reduction: str) -> dict[str, Any]:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; given {reduction!r}")
    return _REDUCTIONS[reduction]


def _weighted(losses: Tensor, weight: Any, reduction: str) -> Tensor:
    """The weighted losses of single examples, reduced: the mean is over all of them (PyTorch's)."""
    losses = losses * weight
    if reduction == "mean":
        return losses.mean() if losses.size else losses.sum() * np.nan
    return losses.sum() if reduction == "sum" else losses


def _real(x: Any, loss: str, argument: str) -> Array:
    """An argument's own array, if it holds real numbers."""
    array = np.asarray(x)
    if x is None or array.dtype.kind not in "fiub":
        given = repr(x) if x is None or isinstance(x, str | list) else _kind_of(array)
        raise TypeError(
            f"{loss}: {argument} must be a Tensor or an array of real numbers; given {given} (dtype {array.dtype})"
        )
    return array


def _prediction(x: Any, loss: str) -> Tensor:
    t = x if type(x) is Tensor else Tensor(_real(x, loss, "input"))
    if t._value.dtype.kind != "f":
        raise ValueError(f"{loss}: input must be floating; given dtype {t.dtype}")
    return t


def _target(x: Any, like: Tensor, loss: str) -> Tensor:
    """The target as a tensor of the prediction's dtype and shape; it never broadcasts."""
    dtype = like._value.dtype
    if type(x) is Tensor:
        t = x
    elif type(x) is np.ndarray and x.dtype is dtype:
        t = _fixed(x.copy())
    else:
        t = _fixed(np.array(_real(x, loss, "target"), dtype))
    if t._value.shape != like._value.shape:
        raise ValueError(
            f"{loss}: input has shape {like.shape} and target {t.shape}; they must be the same (nothing is broadcast)"
        )
    return t if t._value.dtype is dtype else t.astype(dtype)


def mse_loss(input: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Mean squared error, the mean over all elements (paper §2).

        L = (1/n) Σ (ŷ − y)²        L̇_ŷ = (2/n)(ŷ − y)

    `input` and `target` of one shape, Tensor or array. Raises ValueError where the shapes differ.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([1.0, 3.0], requires_grad=True)
    >>> fg.losses.mse_loss(y, [1.0, 1.0]).backward()
    >>> y.grad
    array([0., 2.])
    """
    p = _prediction(input, "mse_loss")
    return apply(mse, (p, _target(target, p, "mse_loss")), _reduction(reduction))


def huber_loss(input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Tensor:
    """Huber: squared near the target, linear far from it (paper §4).

        L = ½r² if |r| < δ, else δ|r| − ½δ²        L̇_ŷ = r if |r| < δ, else δ·sign(r)        r = ŷ − y

    Raises ValueError where the shapes differ, or for δ ≤ 0.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([0.5, 10.0], requires_grad=True)
    >>> fg.losses.huber_loss(y, [0.0, 0.0], reduction="sum").backward()
    >>> y.grad
    array([0.5, 1. ])
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive; given {delta!r}")
    p = _prediction(input, "huber_loss")
    options = {"delta": float(delta), **_reduction(reduction)}
    return apply(huber, (p, _target(target, p, "huber_loss")), options)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy of a logit z, with p = σ(z) (paper §5).

        L = −[y ln p + (1 − y) ln(1 − p)]        L̇_z = p − y

    `target` in [0, 1]; `weight` scales each element. Raises ValueError where the shapes differ or a target is outside.

    >>> import fluxgrad as fg
    >>> z = fg.Tensor([0.0, 40.0], requires_grad=True)
    >>> fg.losses.binary_cross_entropy_with_logits(z, [1.0, 1.0], reduction="sum").backward()
    >>> z.grad
    array([-5.00000000e-01, -4.24835426e-18])
    """
    name = "binary_cross_entropy_with_logits"
    z = _prediction(input, name)
    t = _target(target, z, name)
    outside = ~((t.data >= 0) & (t.data <= 1)) if t.row is None else np.zeros(0, bool)
    if outside.any():
        raise ValueError(f"{name}: target must lie in [0, 1]; given {t.data[outside].flat[0]}")
    options = _reduction(reduction)
    if weight is None:
        return apply(logistic, (z, t), options)
    weights = np.array(_real(weight, name, "weight"), z.dtype)
    if weights.ndim > z.ndim or any(n not in (1, m) for n, m in zip(weights.shape[::-1], z.shape[::-1], strict=False)):
        raise ValueError(f"{name}: weight of shape {weights.shape} does not broadcast to input's {z.shape}")
    return _weighted(apply(logistic, (z, t)), weights, reduction)


def sigmoid_focal_loss(
    input: Any, target: Any, alpha: float | None = 0.25, gamma: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """Focal loss of a logit z: easy examples send back little (paper §7).

        L = −α_t (1 − p_t)^γ ln p_t        p_t = σ(z) for y = 1, σ(−z) for y = 0

    α_t is α for y = 1 and 1 − α for y = 0; α = None is 1 for both. torchvision's defaults, but the mean is taken, as in
    the other losses. Raises ValueError where shapes differ, for targets other than 0 and 1, γ < 0, or α outside [0, 1].

    >>> import fluxgrad as fg
    >>> fg.losses.sigmoid_focal_loss([0.0], [1.0], alpha=None, gamma=0.0)
    Tensor(0.69314718)
    """
    if not gamma >= 0:
        raise ValueError(f"sigmoid_focal_loss: gamma must not be negative; given {gamma!r}")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"sigmoid_focal_loss: alpha must lie in [0, 1], or be None; given {alpha!r}")
    z = _prediction(input, "sigmoid_focal_loss")
    t = _target(target, z, "sigmoid_focal_loss")
    other = t._value[(t._value != 0) & (t._value != 1)]
    if t.requires_grad or other.size:
        given = f"{other.flat[0]}" if other.size else "one that requires grad"
        raise ValueError(f"sigmoid_focal_loss: target must be 0 or 1 and cannot require grad; given {given}")
    options = _reduction(reduction)
    if alpha is None:
        return apply(focal, (z, t), {"gamma": float(gamma), **options})
    losses = apply(focal, (z, t), {"gamma": float(gamma)})
    return _weighted(losses, (alpha * t + (1 - alpha) * (1 - t)).data, reduction)


def _labels(labels: Any, classes: int, shape: tuple[int, ...], loss: str) -> Tensor:
    """Labels in a row of their own, checked."""
    t = labels._value if isinstance(labels, Tensor) else _real(labels, loss, "labels")
    if t.dtype.kind not in "iu" and t.size:
        raise ValueError(f"{loss}: labels must be integers; given dtype {t.dtype}")
    if t.shape != shape:
        raise ValueError(f"{loss}: labels of shape {t.shape} where the logits ask for {shape}")
    flat = t.reshape(-1).astype(_INTP)
    if flat.size and flat.view(np.uintp).max() >= classes:  # a negative one looks enormous
        wrong = flat[(flat < 0) | (flat >= classes)][0]
        raise ValueError(f"{loss}: label {wrong} is out of range for {classes} classes (0 to {classes - 1})")
    return _fixed(flat)


def cross_entropy(input: Any, target: Any, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of logits z with labels: the surprise at the true class (paper §6).

        L = −ln p_target,  p = softmax(z)        L̇_z = p − y, y one-hot

    `input`: logits of shape (K,), (N, K) or (N, K, …), the classes on axis 1; `target`: integer labels of the shape that
    is left, 0 ≤ label < K. Raises ValueError for labels of another shape or kind, or out of range.

    >>> import numpy as np, fluxgrad as fg
    >>> z = fg.Tensor(np.zeros((1, 4)), requires_grad=True)
    >>> fg.losses.cross_entropy(z, [2]).backward()
    >>> z.grad
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    z = _prediction(input, "cross_entropy")
    shape = z._value.shape
    n = len(shape)
    if n == 0 or shape[min(n - 1, 1)] == 0:
        raise ValueError(
            f"cross_entropy: input needs an axis of classes, and at least one class (not 0); given shape {shape}"
        )
    classes = shape[1] if n > 1 else shape[0]
    left = shape[:1] + shape[2:] if n > 1 else ()
    labels = _labels(target, classes, left, "cross_entropy")
    rows = z if n == 2 else moveaxis(z, 1, -1).reshape(-1, classes) if n > 2 else z.reshape(1, classes)
    losses = apply(surprise, (rows, labels), _reduction(reduction))
    return losses.reshape(left) if reduction == "none" and n != 2 else losses
