"""The losses, each a fused row: its value for one example, and the signal L̇_ŷ (or L̇_z of a logit) that it sends back.

A row is the core alone. What acts around it (checks, one-hot labels, weights, the reduction) is written once, here, and
shows as steps of its own. Names, argument order and defaults are PyTorch's. Sections are those of the paper,
*Loss Functions via the Method of Fluxions*.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from fluxgrad.rules.elementwise import sigmoid, softplus
from fluxgrad.rules.fused import logsumexp, softmax
from fluxgrad.rules.kinds import Pull, fused
from fluxgrad.tensor import Array, Tensor, _leaf, apply

Reduction = Literal["mean", "sum", "none"]

# ----- The rows: value, signal, and what goes to the target -----


def _squared_kernel(p: Array, t: Array) -> tuple[Array, Pull]:
    e = p - t
    return e * e, lambda i, g: 2 * g * e if i == 0 else -2 * g * e


squared_error = fused(
    "(p − t)²", lambda p, t: (p - t) * (p - t),
    lambda g, L, p, t: g * (2 * (p - t)),
    lambda g, L, p, t: g * (-2 * (p - t)), kernel=_squared_kernel, name="squared_error",
)  # fmt: skip


def _huber_signal(p: Any, t: Any, delta: float) -> Any:
    r = p - t
    return np.where(np.abs(r) < delta, r, delta * np.sign(r))


def _huber(p: Any, t: Any, delta: float) -> Any:
    r = p - t
    return np.where(np.abs(r) < delta, 0.5 * r * r, delta * np.abs(r) - 0.5 * delta * delta)


def _huber_kernel(p: Array, t: Array, delta: float) -> tuple[Array, Pull]:
    r = p - t
    d = np.clip(r, -delta, delta)  # the signal; a `where` on an unpredictable mask costs thirty times as much
    return d * (r - 0.5 * d), lambda i, g: g * d if i == 0 else -g * d


huber = fused(
    "huber(p − t)", _huber,
    lambda g, L, p, t, delta: g * _huber_signal(p, t, delta),
    lambda g, L, p, t, delta: -g * _huber_signal(p, t, delta), kernel=_huber_kernel,
    choice="at |p − t| = δ both sides agree",
)  # fmt: skip

logistic = fused(
    "logistic(z, t)", lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    lambda g, L, z, t: g * ((1 - t) * sigmoid(z) - t * sigmoid(-z)),  # p − t, with no digit lost as p nears t
    lambda g, L, z, t: -g * z,
)  # fmt: skip


def _focal(z: Any, t: Any, gamma: float) -> Any:
    s = (2 * t - 1) * z  # the logit of the true class
    return np.exp(-gamma * softplus(s)) * softplus(-s)


def _focal_signal(z: Any, t: Any, gamma: float) -> Any:
    side = 2 * t - 1
    s = side * z
    p, q, c = sigmoid(s), sigmoid(-s), softplus(-s)
    return -side * (np.exp(-gamma * softplus(s)) * (gamma * p * c + q))


sigmoid_focal = fused(
    "focal(z, t)", _focal,
    lambda g, L, z, t, gamma: g * _focal_signal(z, t, gamma),
    lambda g, L, z, t, gamma: None,  # t chooses a side
    name="sigmoid_focal",
)  # fmt: skip


def _cross_entropy_kernel(z: Array, t: Array) -> tuple[Array, Pull]:
    """One hot target a row: c = (m − z_t) + ln Σ exp(z − m), signal exp(z − m)/Σ − t, with the classes first, since
    NumPy reduces along the first axis several times faster than along a short last one."""
    if t.dtype != bool or z.ndim != 2:
        return _cross_entropy(z, t), lambda i, g: _cross_entropy_z(g, None, z, t) if i == 0 else _cross_entropy_t(g, None, z, t)
    e = z.T.copy()
    m = np.maximum.reduce(e, axis=0)
    np.subtract(e, np.where(np.isfinite(m), m, 0) if not np.isfinite(m).all() else m, e)
    n = e.shape[1]
    at = np.flatnonzero(t)
    at = (at % t.shape[1]) * n + at // t.shape[1]
    c = -e.take(at)
    np.exp(e, e)
    total = np.add.reduce(e, axis=0)
    c += np.log(total)

    def pull(i: int, g: Array) -> Any:
        if i == 1:
            return _cross_entropy_t(g, None, z, t)
        signal = e / total
        signal.ravel()[at] -= 1
        signal *= g
        return signal.T

    return c, pull


def _cross_entropy(z: Any, t: Any) -> Any:
    """Σ −t ln p over the classes, in logits: (Σt) ln Σ exp z − Σ t z; a masked class (z = −∞, t = 0) counts for nothing."""
    return np.sum(t * np.expand_dims(logsumexp(z, axis=-1), -1) - np.where(t == 0, 0, t * np.where(t == 0, 0, z)), axis=-1)


def _cross_entropy_z(g: Any, L: Any, z: Any, t: Any) -> Any:
    return np.expand_dims(g, -1) * (np.sum(t, axis=-1, keepdims=True) * softmax(z) - t)


def _cross_entropy_t(g: Any, L: Any, z: Any, t: Any) -> Any:
    return np.expand_dims(g, -1) * (np.expand_dims(logsumexp(z, axis=-1), -1) - z)


cross_entropy_row = fused("cross_entropy(z, t)", _cross_entropy, _cross_entropy_z, _cross_entropy_t,
                          kernel=_cross_entropy_kernel)  # fmt: skip

# ----- Around the rows: checks, labels, reduction -----


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; given {reduction!r}")


def _prediction(x: Any, loss: str) -> Tensor:
    t = x if isinstance(x, Tensor) else Tensor(x)
    if t.dtype.kind != "f":
        raise ValueError(f"{loss}: input must be floating; given dtype {t.dtype}")
    return t


def _target(x: Any, like: Tensor, loss: str) -> Tensor:
    """The target as a tensor of the prediction's dtype and shape; it never broadcasts."""
    t = x if isinstance(x, Tensor) else _leaf(np.array(x, like.dtype))
    if t.shape != like.shape:
        raise ValueError(f"{loss}: input has shape {like.shape} and target {t.shape}; they must be the same (nothing is broadcast)")
    return t if t.dtype == like.dtype else t.astype(like.dtype)


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
    return _reduced(apply(squared_error, (p, _target(target, p, "mse_loss")), {}), reduction)


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
    return _reduced(apply(huber, (p, _target(target, p, "huber_loss")), {"delta": float(delta)}), reduction)


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
    losses = apply(logistic, (z, t), {})
    return _reduced(losses if weight is None else losses * np.asarray(weight, z.dtype), reduction)


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
    if t.requires_grad or not np.isin(t.data, (0, 1)).all():
        raise ValueError("sigmoid_focal_loss: targets must be 0 or 1, and cannot require grad")
    losses = apply(sigmoid_focal, (z, t), {"gamma": float(gamma)})
    return _reduced(losses if alpha is None else losses * (alpha * t + (1 - alpha) * (1 - t)).data, reduction)


def _one_hot(labels: Any, classes: int, shape: tuple[int, ...], loss: str) -> Tensor:
    """Labels as one True a row."""
    t = labels.data if isinstance(labels, Tensor) else np.asarray(labels)
    if t.dtype.kind not in "iu" and t.size:
        raise ValueError(f"{loss}: labels must be integers; given dtype {t.dtype}")
    if t.shape != shape:
        raise ValueError(f"{loss}: labels of shape {t.shape} where the logits ask for {shape}")
    flat = t.reshape(-1).astype(np.intp, copy=False)
    if flat.size and (flat.min() < 0 or flat.max() >= classes):
        wrong = flat[(flat < 0) | (flat >= classes)][0]
        raise ValueError(f"{loss}: label {wrong} is out of range for {classes} classes (0 to {classes - 1})")
    hot = np.zeros((flat.size, classes), bool)
    hot.reshape(-1)[np.arange(0, hot.size, classes) + flat] = True
    return _leaf(hot)


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
    if z.ndim == 0:
        raise ValueError("cross_entropy: logits need an axis of classes; given one number")
    shape = z.shape[:1] + z.shape[2:] if z.ndim > 1 else ()
    classes = z.shape[1] if z.ndim > 1 else z.shape[0]
    hot = _one_hot(target, classes, shape, "cross_entropy")
    rows = z if z.ndim == 2 else (z if z.ndim == 1 else np.moveaxis(z, 1, -1)).reshape(-1, classes)  # type: ignore[arg-type, call-overload]
    losses = apply(cross_entropy_row, (rows, hot), {})
    return _reduced(losses if z.ndim == 2 else losses.reshape(shape), reduction)
