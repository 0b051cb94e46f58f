"""Every loss of the paper, *Loss Functions via the Method of Fluxions*: its value, and the signal L̇_ŷ (L̇_z of a logit) that it
sends back.

What a loss computes is a row, in rules/losses.py. Here is what stands around the rows: checks, labels, weights, masks,
smoothing. Names, argument order and defaults are PyTorch's, where PyTorch has the loss. What all share:

- `input` is the prediction ŷ, or logits z; `target` is y. Each is a Tensor, an array or a list. The shapes must agree:
  nothing is broadcast. The target is cast to the prediction's dtype, and the loss has that dtype.
- `reduction`: "none" gives the loss of each example, "sum" their sum, "mean" their mean. The mean of nothing (an empty
  batch, all rows ignored, weights that it divides by and that are all 0) is NaN, the sum 0, and what it sends back 0.
- A target that requires grad gets its fluxion, or is refused; a weight that requires grad is refused.
- Wrong arguments raise ValueError, which names the argument and what was given; what holds no numbers, TypeError.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fluxgrad.rules import losses as rows
from fluxgrad.rules.elementwise import softplus
from fluxgrad.rules.kinds import Row
from fluxgrad.rules.linear import moveaxis, scatter
from fluxgrad.tensor import Tensor, _fixed, _kind_of, apply

Array = NDArray[Any]
Reduction = Literal["mean", "sum", "none"]
Similarity = Literal["cosine", "dot"]

# ----- Around the rows: checks, labels, weights -----


_WIDE = {"wide": True}  # what is weighed is rounded once, at the end
_REDUCTIONS = {how: {"reduction": how} for how in ("mean", "sum", "none")}


def _reduction(reduction: str) -> dict[str, Any]:
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; given {reduction!r}")
    return _REDUCTIONS[reduction]


def _reduced(losses: Tensor, reduction: str, count: float) -> Tensor:
    """Losses of single examples, reduced; the mean is over `count`, of weights perhaps. The mean of nothing is NaN."""
    if reduction != "mean":
        return losses.sum() if reduction == "sum" else losses
    if count == losses.size > 0:
        return losses.mean()
    return losses.sum() / count if count else losses.reshape(-1)[:0].sum() * np.nan


def _real(x: Any, loss: str, argument: str) -> Array:
    """An argument's own array, if it holds real numbers."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{loss}: {argument} is a masked array, whose mask would be lost; give {argument}.filled(…)")
    array = np.asarray(x)
    if x is None or array.dtype.kind not in "fiub":
        given = repr(x) if x is None or isinstance(x, str | list) else _kind_of(array)
        raise TypeError(
            f"{loss}: {argument} must be a Tensor or an array of real numbers; given {given} (dtype {array.dtype})"
        )
    return array


def _prediction(x: Any, loss: str, argument: str = "input") -> Tensor:
    t = x if type(x) is Tensor else Tensor(_real(x, loss, argument))
    if t._value.dtype.kind != "f":
        raise ValueError(f"{loss}: {argument} must be floating; given dtype {t.dtype}")
    return t


def _target(x: Any, like: Tensor, loss: str, argument: str = "target", beside: str = "input") -> Tensor:
    """The target as a tensor of the prediction's dtype and shape; it never broadcasts."""
    dtype = like._value.dtype
    if type(x) is Tensor:
        t = x
    elif type(x) is np.ndarray and x.dtype is dtype:
        t = _fixed(x.copy())
    else:
        t = _fixed(np.array(_real(x, loss, argument), dtype))
    if t._value.shape != like._value.shape:
        raise ValueError(
            f"{loss}: {beside} has shape {like.shape} and {argument} {t.shape}; they must be the same (nothing is broadcast)"
        )
    return t if t._value.dtype is dtype else t.astype(dtype)


def _within(t: Tensor, loss: str, low: float = 0, high: float = 1, argument: str = "target") -> None:
    """Refuse a number outside of [low, high], and what is no number."""
    x = t._value
    if x.size and not (np.min(x) >= low and np.max(x) <= high):
        outside = x[~((x >= low) & (x <= high))].flat[0]
        if math.isinf(high):
            raise ValueError(f"{loss}: {argument} must hold numbers; given {outside}")
        raise ValueError(f"{loss}: {argument} must lie in [{low}, {high}]; given {outside}")


def _number(x: Any, loss: str, argument: str) -> float:
    try:
        if isinstance(x, Tensor | np.ndarray | str):
            raise TypeError
        return float(x)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{loss}: {argument} must be a number; given {_told(x)}") from None


def _told(x: Any) -> str:
    return f"{x!r}" if len(repr(x)) < 60 else f"{repr(x)[:60]}…"


def _positive(x: Any, loss: str, argument: str) -> float:
    if not (value := _number(x, loss, argument)) > 0:
        raise ValueError(f"{loss}: {argument} must be positive; given {x!r}")
    return value


def _not_negative(x: Any, loss: str, argument: str) -> float:
    if not 0 <= (value := _number(x, loss, argument)) < math.inf:
        raise ValueError(f"{loss}: {argument} must be a number that is not negative; given {x!r}")
    return value


def _share(x: Any, loss: str, argument: str) -> float:
    if not 0 <= (value := _number(x, loss, argument)) <= 1:
        raise ValueError(f"{loss}: {argument} must lie in [0, 1]; given {x!r}")
    return value


def _wide(t: Tensor) -> Tensor:
    """In float64, or more: what is weighed is rounded once, at the end."""
    return t if t.dtype.itemsize >= 8 else t.astype(np.float64)


def _weights(x: Any, shape: tuple[int, ...], loss: str, argument: str = "weight", broadcast: bool = False) -> Array:
    """Weights, checked: of `shape`, or, for `broadcast`, stretched to it. In float64, since what they weigh is rounded once."""
    if isinstance(x, Tensor) and x.requires_grad:
        raise ValueError(
            f"{loss}: {argument} must not require grad; given one that does. Give its numbers, {argument}.data; or, to learn "
            f"weights, take reduction='none' and multiply the losses by them"
        )
    w = np.array(_real(x.data if isinstance(x, Tensor) else x, loss, argument), np.float64)
    if not np.isfinite(w).all():
        raise ValueError(f"{loss}: {argument} must hold finite numbers; given {w[~np.isfinite(w)].flat[0]}")
    if (
        broadcast
        and w.ndim <= len(shape)
        and all(n in (1, m) for n, m in zip(w.shape[::-1], shape[::-1], strict=False))
    ):
        return np.broadcast_to(w, shape)
    if w.shape != shape:
        how = f"does not broadcast to input's {shape}" if broadcast else f"where {shape} is needed"
        raise ValueError(f"{loss}: {argument} of shape {w.shape} {how}")
    return w


# ----- Regression (paper §2 to §4) -----


def _regression(row: Row, input: Any, target: Any, reduction: str, weight: Any, **options: Any) -> Tensor:
    """`weight`: the mean is Σ w·L / Σ w, but of Huber Σ w·L / n, as PyTorch has it."""
    p = _prediction(input, row.name)
    t, reduce = _target(target, p, row.name), _reduction(reduction)
    if weight is None:
        return apply(row, (p, t), {**options, **reduce} if options else reduce)
    w = _weights(weight, p.shape, row.name)
    losses = apply(row, (_wide(p), _wide(t)), options) * w
    return _rounded(losses, p, reduction, losses.size if row is rows.huber else float(np.sum(w)))


def mse_loss(input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None) -> Tensor:
    """Mean squared error, the mean over all elements (paper §2).

        L = (1/n) Σ (ŷ − y)²        L̇_ŷ = (2/n)(ŷ − y)

    `weight`, of input's shape: the mean is Σ w·L / Σ w then. Raises ValueError where shapes differ.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([1.0, 3.0], requires_grad=True)
    >>> fg.losses.mse_loss(y, [1.0, 1.0]).backward()
    >>> y.grad
    array([0., 2.])
    """
    return _regression(rows.mse, input, target, reduction, weight)


def l1_loss(input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None) -> Tensor:
    """Mean absolute error: the signal has the same size at any distance (paper §3).

        L = (1/n) Σ |ŷ − y|        L̇_ŷ = (1/n) sign(ŷ − y), 0 where ŷ = y

    `weight`, of input's shape: the mean is Σ w·L / Σ w then. Raises ValueError where shapes differ.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([1.0, 3.0, -9.0], requires_grad=True)
    >>> fg.losses.l1_loss(y, [1.0, 1.0, 1.0], reduction="sum").backward()
    >>> y.grad
    array([ 0.,  1., -1.])
    """
    return _regression(rows.l1, input, target, reduction, weight)


def huber_loss(
    input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0, weight: Any = None
) -> Tensor:
    """Huber: squared near the target, linear far from it (paper §4; Huber, 1964).

        L = ½r² if |r| < δ, else δ|r| − ½δ²        L̇_ŷ = r if |r| < δ, else δ·sign(r)        r = ŷ − y

    `weight`, of input's shape: the mean is Σ w·L / n (over n, not over Σ w: PyTorch's choice, for this loss alone).
    Raises ValueError where shapes differ, or for δ ≤ 0. δ = ∞ is ½r² everywhere.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([0.5, 10.0], requires_grad=True)
    >>> fg.losses.huber_loss(y, [0.0, 0.0], reduction="sum").backward()
    >>> y.grad
    array([0.5, 1. ])
    """
    delta = _positive(delta, "huber_loss", "delta")
    p = _prediction(input, "huber_loss")
    delta = min(delta, float(np.finfo(p.dtype).max))  # no r is farther out, and 0 · ∞ is not met
    return _regression(rows.huber, p, target, reduction, weight, delta=delta)


def smooth_l1_loss(input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0) -> Tensor:
    """Huber's loss divided by its threshold: |r| far from the target, at any β (paper §4 knows only β = 1).

        L = ½r²/β if |r| < β, else |r| − ½β        L̇_ŷ = r/β if |r| < β, else sign(r)        r = ŷ − y

    β = 0 is `l1_loss`. Raises ValueError where shapes differ, or for β < 0.

    >>> import fluxgrad as fg
    >>> y = fg.Tensor([0.5, 10.0], requires_grad=True)
    >>> fg.losses.smooth_l1_loss(y, [0.0, 0.0], reduction="sum", beta=2.0).backward()
    >>> y.grad
    array([0.25, 1.  ])
    """
    if _number(beta, "smooth_l1_loss", "beta") != 0:
        beta = _positive(beta, "smooth_l1_loss", "beta")
    p = _prediction(input, "smooth_l1_loss")
    if p.dtype.type(min(beta, 1.0)) < np.finfo(p.dtype).tiny:  # as good as 0: no r is that near, but 0
        return _regression(rows.l1, p, target, reduction, None)
    return _regression(rows.smooth_l1, p, target, reduction, None, beta=min(beta, float(np.finfo(p.dtype).max)))


# ----- Two classes (paper §5, §7) -----


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None
) -> Tensor:
    """Binary cross-entropy of a logit z, with p = σ(z) (paper §5).

        L = −[y ln p + (1 − y) ln(1 − p)]        L̇_z = p − y

    `target` in [0, 1]; `weight` scales each element, `pos_weight` w what is positive, −w y ln p; both broadcast to input's
    shape. The mean is over all elements, weighted or not. Raises ValueError where shapes differ, or for a target outside.

    >>> import fluxgrad as fg
    >>> z = fg.Tensor([0.0, 40.0], requires_grad=True)
    >>> fg.losses.binary_cross_entropy_with_logits(z, [1.0, 1.0], reduction="sum").backward()
    >>> z.grad
    array([-5.00000000e-01, -4.24835426e-18])
    """
    name = "binary_cross_entropy_with_logits"
    z = _prediction(input, name)
    t = _target(target, z, name)
    _within(t, name)
    if weight is None and pos_weight is None:
        return apply(rows.logistic, (z, t), _reduction(reduction))
    scale: Any = 1.0 if weight is None else _weights(weight, z.shape, name, broadcast=True)
    if pos_weight is None:
        return _rounded(apply(rows.logistic, (z, t), _WIDE) * scale, z, reduction)
    x, y = _wide(z), _wide(t)
    positive = _weights(pos_weight, z.shape, name, "pos_weight", broadcast=True)
    up: Any = x
    down: Any = x
    if not y.requires_grad and np.isinf(x._value).any():  # 0 · ∞ is 0 here
        up, down = np.where(y._value == 0, 0, x), np.where(y._value == 1, 0, x)
    return _rounded((positive * y * softplus(-up) + (1 - y) * softplus(down)) * scale, z, reduction)


def _rounded(losses: Tensor, z: Tensor, reduction: str, count: float | None = None) -> Tensor:
    """Losses in float64, reduced, in the dtype of the logits."""
    _reduction(reduction)
    total = _reduced(losses, reduction, losses.size if count is None else count)
    return total if total.dtype == z.dtype else total.astype(z.dtype)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean") -> Tensor:
    """Binary cross-entropy of a probability p (paper §5). Of a logit, `binary_cross_entropy_with_logits` keeps more digits.

        L = −[y ln p + (1 − y) ln(1 − p)]        L̇_p = (1 − y)/(1 − p) − y/p

    `input` and `target` in [0, 1]; `weight` scales each element, and broadcasts. At p = 0 with y > 0, or p = 1 with y < 1,
    the loss is infinite, and so is its signal: nothing is clamped (PyTorch stops at 100). Raises ValueError where shapes
    differ, or for an input or a target outside.

    >>> import fluxgrad as fg
    >>> p = fg.Tensor([0.5, 0.1], requires_grad=True)
    >>> fg.losses.binary_cross_entropy(p, [1.0, 1.0], reduction="sum").backward()
    >>> p.grad
    array([ -2., -10.])
    """
    name = "binary_cross_entropy"
    p = _prediction(input, name)
    t = _target(target, p, name)
    _within(p, name, argument="input")
    _within(t, name)
    if weight is None:
        return apply(rows.bernoulli, (p, t), _reduction(reduction))
    w = _weights(weight, p.shape, name, broadcast=True)
    return _rounded(apply(rows.bernoulli, (p, t), _WIDE) * w, p, reduction)


def sigmoid_focal_loss(
    input: Any, target: Any, alpha: float | None = 0.25, gamma: float = 2.0, reduction: Reduction = "mean"
) -> Tensor:
    """Focal loss of a logit z: easy examples send back little (paper §7; Lin et al., 2017).

        L = −α_t (1 − p_t)^γ ln p_t        p_t = σ(z) for y = 1, σ(−z) for y = 0

    α_t is α for y = 1 and 1 − α for y = 0; α = None is 1 for both. torchvision's defaults, but the mean is taken, as in
    the other losses. Raises ValueError where shapes differ, for targets other than 0 and 1, γ < 0, or α outside [0, 1].

    >>> import fluxgrad as fg
    >>> fg.losses.sigmoid_focal_loss([0.0], [1.0], alpha=None, gamma=0.0)
    Tensor(0.69314718)
    """
    name = "sigmoid_focal_loss"
    gamma = _not_negative(gamma, name, "gamma")
    alpha = None if alpha is None else _share(alpha, name, "alpha")
    z = _prediction(input, name)
    t = _target(target, z, name)
    hard = (t._value == 0) | (t._value == 1)
    if t.requires_grad or not hard.all():
        given = "one that requires grad" if hard.all() else f"{t._value[~hard].flat[0]}"
        raise ValueError(f"{name}: target must be 0 or 1 and cannot require grad; given {given}")
    options = {"gamma": gamma, **_reduction(reduction)}
    return apply(rows.focal, (z, t), options if alpha is None else {**options, "alpha": alpha})


# ----- Many classes (paper §6, §7, §11) -----


def surprise(p: Any) -> Any:
    """−ln p, in nats: how surprising is what had the probability p? (paper §5.4). Cross-entropy is its mean.

    >>> import fluxgrad as fg
    >>> [round(fg.losses.surprise(p), 6) for p in (0.99, 0.01)]
    [0.01005, 4.60517]
    """
    if isinstance(p, Tensor):
        return -np.log(p)
    with np.errstate(divide="ignore"):  # what cannot happen is infinitely surprising
        s = -np.log(_real(p, "surprise", "p"))
    return s if s.ndim else float(s)


def smooth_labels(target: Any, num_classes: int, label_smoothing: float = 0.1, dtype: Any = np.float64) -> Array:
    """Labels as probabilities that keep a little doubt (paper §11.1; Szegedy et al., 2016): an array (…, K).

        y_smooth = (1 − ε)·y + ε/K

    `target`: integer labels of any shape, 0 ≤ label < K. Raises ValueError for other labels, or ε outside [0, 1].

    >>> import fluxgrad as fg
    >>> fg.losses.smooth_labels([2], num_classes=4)
    array([[0.025, 0.025, 0.925, 0.025]])
    """
    eps = _share(label_smoothing, "smooth_labels", "label_smoothing")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise ValueError(f"smooth_labels: num_classes must be a positive integer; given {num_classes!r}")
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"smooth_labels: dtype must be floating; given {np.dtype(dtype)}")
    labels = np.asarray(_integers(target, "smooth_labels"))
    flat, _ = _checked(labels, int(num_classes), "smooth_labels")
    return _smooth_hot(flat, int(num_classes), eps).reshape(*labels.shape, num_classes).astype(dtype)


def _smooth(y: Any, eps: float) -> Any:
    return (1 - eps) * y + eps / y.shape[-1]


def _smooth_hot(labels: Array, classes: int, eps: float) -> Array:
    """The same of labels, (N, K)."""
    y = np.full((len(labels), classes), eps / classes)
    y[np.arange(len(labels)), labels] += 1 - eps
    return y


def _integers(target: Any, loss: str) -> Array:
    t = target._value if isinstance(target, Tensor) else _real(target, loss, "target")
    if t.dtype.kind not in "iu" and t.size:
        raise ValueError(f"{loss}: target holds labels, which are integers; given dtype {t.dtype}")
    return t


def _checked(labels: Array, classes: int, loss: str, ignore: int | None = None) -> tuple[Array, Array | None]:
    """Labels in a row of their own, each one of a class or `ignore`; and which are not ignored, None where all are not."""
    flat = labels.reshape(-1).astype(np.intp)
    if labels.dtype == np.uint64 and (flat < 0).any():  # more than an index can be: not to be taken for a negative one
        large = labels.reshape(-1)[(flat < 0) & (labels.reshape(-1) != (-1 if ignore is None else ignore))]
        if large.size:
            raise ValueError(
                f"{loss}: target holds the label {large[0]}, out of range for {classes} classes (0 to {classes - 1})"
            )
        ignore = -1
        flat[flat < 0] = ignore
    sizes = flat.view(np.uintp)  # (a negative one looks enormous)
    inside = not flat.size or sizes[sizes.argmax()] < classes  # (`max` takes twice as long)
    if inside and (ignore is None or not 0 <= ignore < classes):
        return flat, None
    wrong = flat[((flat < 0) | (flat >= classes)) & (flat != ignore)]
    if wrong.size:
        but = "" if ignore is None else f", or ignore_index ({ignore})"
        raise ValueError(
            f"{loss}: target holds the label {wrong[0]}, out of range for {classes} classes (0 to {classes - 1}{but})"
        )
    return flat, np.flatnonzero(flat != ignore)


def _logits(input: Any, loss: str, argument: str = "input") -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Logits; the same as rows of classes; and the shape without the axis of classes, which is 1 (0 of a single row)."""
    z = _prediction(input, loss, argument)
    shape = z._value.shape
    n = len(shape)
    if n == 0 or shape[min(n - 1, 1)] == 0:
        raise ValueError(
            f"{loss}: {argument} needs an axis of classes, and at least one class (not 0); given shape {shape}"
        )
    left = shape[:1] + shape[2:] if n > 1 else ()
    return z, _as_rows(z), left


def _as_rows(z: Tensor) -> Tensor:
    if z.ndim == 2:
        return z
    return moveaxis(z, 1, -1).reshape(-1, z.shape[1]) if z.ndim > 2 else z.reshape(1, z.size)


def _labels(target: Any, z: Tensor, left: tuple[int, ...], ignore_index: int, loss: str) -> tuple[Array, Array | None]:
    """Labels in a row, and which of them count."""
    classes = z.shape[1] if z.ndim > 1 else z.shape[0]
    floating = getattr(target, "dtype", None) is not None and target.dtype.kind == "f"
    if floating and np.ndim(target.data if isinstance(target, Tensor) else target) == z.ndim > 0 and target.size:
        raise ValueError(
            f"{loss}: target holds probabilities of shape {target.shape}, and input has shape {z.shape}; they must be the same "
            f"(labels would be integers, of shape {left})"
        )
    labels = _integers(target, loss)
    if labels.shape != left:
        hint = "; probabilities have input's shape, and are floating" if labels.shape == z.shape else ""
        raise ValueError(f"{loss}: target has labels of shape {labels.shape} where the logits ask for {left}{hint}")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
        raise ValueError(f"{loss}: ignore_index must be an integer; given {ignore_index!r}")
    return _checked(labels, classes, loss, int(ignore_index))


def _shaped(losses: Tensor, reduction: str, left: tuple[int, ...], keep: Array | None = None) -> Tensor:
    """The losses of single rows, in the shape that is left; of ignored ones 0."""
    if reduction != "none":
        return losses
    if keep is not None:
        losses = scatter(losses, index=keep, shape=(math.prod(left),))
    return losses if losses.shape == left else losses.reshape(left)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits z with labels, or with probabilities: the surprise at the true class (paper §6, §11).

        L = −ln p_target = −Σ y ln p,  p = softmax(z)        L̇_z = p·Σy − y, which is p − y for labels

    `input`: logits of shape (K,), (N, K) or (N, K, …), the classes on axis 1. `target`: integer labels of the shape that is
    left, 0 ≤ label < K; or floating probabilities in [0, 1], of input's shape. Rows whose label is `ignore_index` are
    left out, whatever they hold. `label_smoothing` ε gives each class ε/K of the target. `weight`, one number a class, scales y.
    The mean over labels is Σ L / Σ weight[label], over the rows that count; over probabilities, it is over all rows
    (PyTorch's rules, which differ for the same data). A logit of −∞ masks its class
    (unless the target gives that class a share, as `label_smoothing` does: then the loss is ∞).
    Raises ValueError for a target of another shape or kind, or out of range, and ε outside [0, 1].

    >>> import numpy as np, fluxgrad as fg
    >>> z = fg.Tensor(np.zeros((1, 4)), requires_grad=True)
    >>> fg.losses.cross_entropy(z, [2]).backward()
    >>> z.grad
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    name = "cross_entropy"
    z, flat_z, left = _logits(input, name)
    classes, eps = flat_z.shape[1], _share(label_smoothing, name, "label_smoothing")
    w = None if weight is None else _weights(weight, (classes,), name)
    soft = target if isinstance(target, Tensor) else np.asarray(target)
    if soft.dtype.kind == "f" and soft.shape == z.shape:
        if ignore_index != -100:
            raise ValueError(f"{name}: ignore_index={ignore_index!r} is a label, but target holds probabilities")
        y = _target(target, z, name)
        _within(y, name)
        y = _as_rows(y)
        if eps == 0 and w is None:
            return _shaped(apply(rows.surprise, (flat_z, y), _reduction(reduction)), reduction, left)
        y = _smooth(_wide(y), eps) * (1.0 if w is None else w)
        return _shaped(apply(rows.surprise, (flat_z, y), _reduction(reduction)), reduction, left)
    labels, keep = _labels(target, z, left, ignore_index, name)
    if keep is not None:
        flat_z, labels = flat_z[keep], labels[keep]
    t = _fixed(_smooth_hot(labels, classes, eps) * (1.0 if w is None else w) if eps else labels)
    if w is None:
        return _shaped(apply(rows.surprise, (flat_z, t), _reduction(reduction)), reduction, left, keep)
    scale = w[labels]
    losses = apply(rows.surprise, (flat_z, t), _WIDE)
    if not eps:
        losses = losses * scale
    return _shaped(_rounded(losses, z, reduction, float(np.sum(scale))), reduction, left, keep)


def focal_loss(
    input: Any,
    target: Any,
    alpha: Any = None,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Focal loss of logits z with labels: easy examples send back little (paper §7; Lin et al., 2017, with a softmax).

        L = −α_t (1 − p_t)^γ ln p_t,  p = softmax(z), p_t that of the label
        L̇_z = α_t q^γ (q + γ p_t (−ln p_t)) · (p/q, but −1 at the label),  q = 1 − p_t

    `input`, `target` and `ignore_index` as in `cross_entropy`, labels only; `alpha`: one number in [0, 1] a class, or None
    for 1. The mean is over the rows that count, not over their α. Raises ValueError for labels of another shape or kind, or
    out of range, γ < 0, α outside [0, 1], or a single class.

    >>> import numpy as np, fluxgrad as fg
    >>> z = fg.Tensor(np.log([[0.9, 0.1]]), requires_grad=True)
    >>> fg.losses.focal_loss(z, [0]).backward()
    >>> z.grad.round(6)  # cross-entropy sends back 0.1, 34.5 times as much
    array([[-0.002896,  0.002896]])
    """
    name = "focal_loss"
    gamma = _not_negative(gamma, name, "gamma")
    z, flat_z, left = _logits(input, name)
    if flat_z.shape[1] < 2:
        raise ValueError(f"{name}: input needs at least two classes; given shape {z.shape}")
    scale = None if alpha is None else _weights(alpha, flat_z.shape[1:], name, "alpha")
    if scale is not None and not ((scale >= 0) & (scale <= 1)).all():
        raise ValueError(f"{name}: alpha must lie in [0, 1]; given {scale[~((scale >= 0) & (scale <= 1))][0]}")
    labels, keep = _labels(target, z, left, ignore_index, name)
    if keep is not None:
        flat_z, labels = flat_z[keep], labels[keep]
    if scale is None:
        options = {"gamma": gamma, **_reduction(reduction)}
        return _shaped(apply(rows.softmax_focal, (flat_z, _fixed(labels)), options), reduction, left, keep)
    losses = apply(rows.softmax_focal, (flat_z, _fixed(labels)), {"gamma": gamma, **_WIDE})
    return _shaped(_rounded(losses * scale[labels], z, reduction), reduction, left, keep)


# ----- Divergence (paper §8) -----


def kl_div(
    input: Any,
    target: Any,
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback–Leibler divergence KL(target ‖ exp(input)), element by element (paper §8).

        L = y (ln y − x), or exp(y) (y − x) with `log_target`        L̇_x = −y, or −exp(y)

    `input` x holds the logarithms of probabilities, `target` y probabilities, of input's shape; with `log_target` their
    logarithms. "mean" is over all elements, as in PyTorch; "batchmean", Σ L / N, is the divergence. Of two sets of
    logits, `kl_div_with_logits` keeps more digits. Raises ValueError where shapes differ, or for a target outside [0, 1].

    >>> import numpy as np, fluxgrad as fg
    >>> fg.losses.kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]], reduction="batchmean")
    Tensor(0.69314718)
    """
    if reduction not in (*_REDUCTIONS, "batchmean"):
        raise ValueError(f"reduction must be 'mean', 'batchmean', 'sum' or 'none'; given {reduction!r}")
    x = _prediction(input, "kl_div")
    t = _target(target, x, "kl_div")
    _within(t, "kl_div", -math.inf if log_target else 0, math.inf if log_target else 1)
    row = rows.kl_log if log_target else rows.kl
    if reduction != "batchmean":
        return apply(row, (x, t), _REDUCTIONS[reduction])
    n = len(x._value) if x.ndim else 1
    return _reduced(apply(row, (x, t), _REDUCTIONS["sum"]).reshape(1), "mean", n)


def kl_div_with_logits(student: Any, teacher: Any, temperature: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Kullback–Leibler divergence KL(p ‖ q) of two sets of logits (paper §8): never negative, and 0 where they agree.

        L = Σ p (ln p − ln q),  p = softmax(teacher/T), q = softmax(student/T)        L̇_student = (q − p)/T

    Both of one shape, (K,), (N, K) or (N, K, …), the classes on axis 1; the mean is over the rows. For distillation multiply
    by T², so that the signal does not shrink with T. Raises ValueError where shapes differ, or for T ≤ 0.

    >>> import fluxgrad as fg
    >>> z = fg.Tensor([[1e-9, 0.0]], requires_grad=True)
    >>> fg.losses.kl_div_with_logits(z, [[0.0, 0.0]]).backward()
    >>> z.grad
    array([[ 2.5e-10, -2.5e-10]])
    """
    name = "kl_div_with_logits"
    T = _temperature(temperature, name)
    z, flat_z, left = _logits(student, name, "student")
    flat_w = _as_rows(_target(teacher, z, name, "teacher", "student"))
    if T == 1:
        return _shaped(apply(rows.kl_logits, (flat_z, flat_w), _reduction(reduction)), reduction, left)
    losses = apply(rows.kl_logits, (_wide(flat_z) / T, _wide(flat_w) / T))
    return _shaped(_rounded(losses, z, reduction), reduction, left)


def _temperature(T: float, loss: str) -> float:
    if not 0 < (value := _number(T, loss, "temperature")) < math.inf:
        raise ValueError(f"{loss}: temperature must be positive and finite; given {T!r}")
    return value


# ----- Contrast (paper §9): cross-entropy over similarities -----


def _vectors(x: Any, like: Tensor | None, loss: str, argument: str, shape: str = "(N, D)") -> Tensor:
    t = _prediction(x, loss, argument)
    if t.ndim != 2 and not (t.ndim == 3 and argument == "negative_keys"):
        raise ValueError(f"{loss}: {argument} must have shape {shape}; given {t.shape}")
    if like is not None and t.shape[-1] != like.shape[-1]:
        raise ValueError(
            f"{loss}: {argument} has vectors of {t.shape[-1]} numbers, and the first argument of {like.shape[-1]}"
        )
    return _wide(t)


def _alike(similarity: str, loss: str, *vectors: Tensor) -> list[Tensor]:
    """Vectors whose products are their similarities: of length 1 for the cosine. A vector 0 stays 0, and gets no signal."""
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"{loss}: similarity must be 'cosine' or 'dot'; given {similarity!r}")
    if similarity == "dot":
        return list(vectors)
    largest = [np.max(np.abs(x._value), axis=-1, keepdims=True, initial=0) for x in vectors]
    vectors = tuple(
        x / np.where(m == 0, 1, m) for x, m in zip(vectors, largest, strict=True)
    )  # whose squares are numbers
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in vectors]
    return [x / np.where(n._value == 0, np.inf, n) for x, n in zip(vectors, lengths, strict=True)]


def info_nce(
    query: Any,
    positive_key: Any,
    negative_keys: Any = None,
    temperature: float = 0.1,
    reduction: Reduction = "mean",
    similarity: Similarity = "cosine",
) -> Tensor:
    """InfoNCE: which of these keys belongs to the query? (paper §9; van den Oord et al., 2018)

        L = −ln( exp(s⁺/τ) / Σ exp(s/τ) ),  s = similarity(query, key)        L̇_s = (p − y)/τ

    `query`, `positive_key`: (N, D), row by row. `negative_keys`: (M, D) for all queries, or (N, M, D) for each its own; if
    None, the other rows' keys. The positive counts once. The mean is over the queries; to have it both ways, add the loss
    with query and key exchanged. Raises ValueError where shapes do not fit, or for τ ≤ 0.

    >>> import numpy as np, fluxgrad as fg
    >>> same = np.eye(3)
    >>> fg.losses.info_nce(same, same, temperature=1.0)  # ln(1 + 2/e)
    Tensor(0.55144471)
    """
    name = "info_nce"
    T = _temperature(temperature, name)
    like = _prediction(query, name, "query")
    q = _vectors(like, None, name, "query")
    k = _vectors(_target(positive_key, like, name, "positive_key", "query"), q, name, "positive_key")
    if negative_keys is None:
        q, k = _alike(similarity, name, q, k)
        z: Any = q @ k.T
        labels = np.arange(len(q), dtype=np.intp)
    else:
        shape = f"(M, {q.shape[1]}) or ({q.shape[0]}, M, {q.shape[1]})"
        others = _vectors(negative_keys, q, name, "negative_keys", shape)
        if others.ndim == 3 and len(others) != len(q):
            raise ValueError(f"{name}: negative_keys must have shape {shape}; given {others.shape}")
        q, k, others = _alike(similarity, name, q, k, others)
        away = q @ others.T if others.ndim == 2 else np.sum(q.reshape(len(q), 1, -1) * others, axis=-1)
        z = np.concatenate([np.sum(q * k, axis=-1, keepdims=True), away], axis=1)
        labels = np.zeros(len(q), np.intp)
    return _rounded(apply(rows.surprise, (z / T, _fixed(labels))), like, reduction)


def nt_xent(
    z_i: Any, z_j: Any, temperature: float = 0.5, reduction: Reduction = "mean", similarity: Similarity = "cosine"
) -> Tensor:
    """NT-Xent: two views of each of N things, which of the other 2N − 1 views is of the same? (paper §9; Chen et al., 2020)

        L = −ln( exp(s⁺/τ) / Σ exp(s/τ) ),  s over all views but the view itself        L̇_s = (p − y)/τ

    `z_i`, `z_j`: (N, D), row by row the two views. The mean is over all 2N, "none" gives them, z_i's first. Raises
    ValueError where shapes differ, or for τ ≤ 0.

    >>> import numpy as np, fluxgrad as fg
    >>> fg.losses.nt_xent(np.eye(2), np.eye(2), temperature=1.0)  # ln(1 + 2/e)
    Tensor(0.55144471)
    """
    name = "nt_xent"
    T = _temperature(temperature, name)
    like = _prediction(z_i, name, "z_i")
    views = [_vectors(like, None, name, "z_i"), _vectors(_target(z_j, like, name, "z_j", "z_i"), None, name, "z_j")]
    both: Any = np.concatenate(views)
    (z,) = _alike(similarity, name, both)
    n = len(z)
    s = np.where(np.eye(n, dtype=bool), -np.inf, z @ z.T / T)
    labels = (np.arange(n, dtype=np.intp) + n // 2) % max(n, 1)
    return _rounded(apply(rows.surprise, (s, _fixed(labels))), like, reduction)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "focal_loss", "huber_loss", "info_nce",
    "kl_div", "kl_div_with_logits", "l1_loss", "mse_loss", "nt_xent", "sigmoid_focal_loss", "smooth_l1_loss",
    "smooth_labels", "surprise",
]  # fmt: skip
