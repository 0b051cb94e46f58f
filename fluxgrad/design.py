"""A loss from the signal that you want (paper §12.2): say what each prediction shall hear, and integrate.

A loss is the signal that it sends back. So write the signal, plain NumPy of prediction and target; its integral is the loss.
Three that the paper asks for: `emphasise_hard`, `cap_outliers`, `calibrate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxgrad.ink.printers import can_print, in_ascii
from fluxgrad.losses import Reduction, _not_negative, _positive, _prediction, _reduction, _share, _target
from fluxgrad.rules.elementwise import sigmoid
from fluxgrad.rules.fused import softmax
from fluxgrad.rules.kinds import Row, is_foreign, part, sample
from fluxgrad.rules.losses import loss as loss_row
from fluxgrad.sweep import grad, jacobian
from fluxgrad.tensor import apply

Array = NDArray[Any]
Signal = Callable[[Any, Any], Any]

TOLERANCE = 1e-11
FAR = np.linspace(-10, 10, 2001)
"""Where the curvature is looked at: how far the prediction is from the target."""


class DesignedLoss:
    """A loss made of its signal: call it as any other, `loss(input, target, reduction="mean")`; print it to read its rule.

    `row` is its rule: a row like the built-in ones. `concave` lists where the loss is curved the wrong way, so that of two
    predictions the worse one hears less: intervals (from, to) of ŷ − y; or, of a signal of several outputs, (prediction,
    target, curvature) where one was met.
    """

    def __init__(self, row: Row, concave: list[Any], coupled: bool) -> None:
        self.row = row
        self.concave = concave
        self.coupled = coupled

    def __call__(self, input: Any, target: Any, reduction: Reduction = "mean") -> Any:
        name = self.row.name
        p = _prediction(input, name)
        t = _target(target, p, name)
        if self.coupled and p.ndim not in (1, 2):
            raise ValueError(
                f"{name}: input must have shape (K,) or (N, K), since its signal has several outputs; given {p.shape}"
            )
        return apply(self.row, (p, t), _reduction(reduction))

    def __str__(self) -> str:
        if not self.concave:
            return str(self.row)
        if self.coupled:
            where = ", ".join(f"at ŷ = {_list(at[0])}, y = {_list(at[1])}" for at in self.concave)
        else:
            where = " and ".join(f"from {_number_of(low)} to {_number_of(high)}" for low, high in self.concave)
            where = where.replace("from ", "from ŷ − y = ", 1) + " (looked at: −10 to 10)"
        text = f"{self.row}\n  curved the wrong way (the farther off, the weaker the signal) {where}"
        return text if can_print() else in_ascii(text)

    def __repr__(self) -> str:
        return f"<loss from its signal: {self.row}>"

    def _repr_latex_(self) -> str:
        return self.row._repr_latex_()


def loss_from_signal(signal: Signal, breaks: Sequence[float] = (), name: str = "designed") -> DesignedLoss:
    """The loss that sends back the wanted signal: its gradient is the signal, to the last digit, and its value the integral.

        L̇_ŷ = s(ŷ, y)        L = ∫ s(x, y) dx from y to ŷ, so that L = 0 where ŷ = y

    `signal(ŷ, y)`: plain NumPy of prediction and target, of their shape. Either each output depends on its own prediction
    alone, or a row of them on a row of predictions, as `fg.softmax(z) - y`: the last axis then. `breaks`: the ŷ − y at which
    the signal has a kink or a jump, so that the integral keeps its digits there. The integral is SciPy's, to 1e-11.

    Raises ValueError for a signal of another shape; for one of several outputs that no loss can have, since the order of two
    wiggles does not matter to a loss, ∂s_i/∂ŷ_j = ∂s_j/∂ŷ_i; for one that mixes the examples of a batch; and where the
    integral does not settle; and for one that pushes the wrong way, since a signal is ∂L/∂ŷ, positive where ŷ is too high, and
    training steps against it. A target that requires grad is refused, except where the signal depends on ŷ − y alone.
    What a signal is like is asked at some dozen points, from 0.1 to 1,000 away: what it does elsewhere nobody sees. A spike
    much narrower than its distance from y needs `breaks` around it.

    >>> import numpy as np, fluxgrad as fg
    >>> capped = fg.loss_from_signal(lambda p, y: np.clip(p - y, -1, 1), breaks=(-1, 1), name="capped")
    >>> print(capped)
    capped(p, t):  L̇_p = clip(p − t, −1, 1), L̇_t = −clip(p − t, −1, 1)
    >>> p = fg.Tensor([0.5, 10.0], requires_grad=True)
    >>> L = capped(p, [0.0, 0.0], reduction="sum")
    >>> L.backward()
    >>> p.grad, bool(np.isclose(L.data, fg.losses.huber_loss([0.5, 10.0], [0.0, 0.0], "sum").data, rtol=1e-12))
    (array([0.5, 1. ]), True)
    """
    if not callable(signal):
        raise ValueError(f"loss_from_signal: signal must be a function of prediction and target; given {signal!r}")
    if not (isinstance(name, str) and name):
        raise ValueError(f"loss_from_signal: name must be a word; given {name!r}")
    try:
        breaks = tuple(sorted(map(float, np.ravel(np.asarray(breaks, float)))))
    except (TypeError, ValueError):
        raise ValueError(f"loss_from_signal: breaks must be finite numbers; given {breaks!r}") from None
    if not all(map(np.isfinite, breaks)):
        raise ValueError(f"loss_from_signal: breaks must be finite numbers; given {breaks}")
    coupled, of_difference = _structure(signal)
    if _backwards(signal, coupled):
        raise ValueError(
            "loss_from_signal: the signal leads away from the target everywhere. A signal is ∂L/∂ŷ, positive where ŷ is too high; "
            "training steps against it. Did you mean ŷ − y instead of y − ŷ?"
        )

    def value(p: Any, t: Any) -> Any:
        if is_foreign(p) or is_foreign(t):
            raise TypeError("the integral of a signal is computed in numbers")  # and is written by its name
        return _integral(signal, p, t, breaks, coupled)

    def to_target(p: Any, t: Any) -> Any:
        if of_difference:
            return -signal(p, t)
        if hasattr(type(t), "__part__"):  # on paper
            return None
        raise ValueError(
            f"{name}: target cannot require grad: only a signal of ŷ − y alone says how it answers its target"
        )

    row = loss_row(f"{name}(p, t)", value, signal, to_target, classes=coupled, name=name)
    shape = (2, 3) if coupled else (3,)
    sample(row, shape, shape if of_difference else np.resize(HOT, shape), output="L")
    return DesignedLoss(row, _concave(signal, coupled, of_difference), coupled)


# ----- What a signal is like: it is asked at some points -----

HOT = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def _probes() -> list[tuple[Array, Array]]:
    """Predictions and targets: probabilities, and numbers of any sign and size; targets of 0 and 1, and any."""
    rng = np.random.default_rng(0)
    some = [
        rng.uniform(0.1, 0.9, (2, 3)),
        *(rng.uniform(-size, size, (2, 3)) for size in (0.1, 1, 4, 10, 30, 100, 1000)),
    ]
    return [(p, t) for p in some for t in (HOT, rng.uniform(0.1, 0.9, (2, 3)), p + rng.uniform(-3, 3, (2, 3)))]


SHIFTS = (0.375, -0.7390851, 12.9129, -1234.5)
"""A signal of ŷ − y alone does not notice that both are moved."""


def _structure(signal: Signal) -> tuple[bool, bool]:
    """Does a signal couple the outputs of a row? Does it depend on ŷ − y alone? A signal that is no loss's is refused."""
    coupled, of_difference, asked = False, True, 0
    for p, t in _probes():
        with np.errstate(all="ignore"):
            s = np.asarray(signal(p.copy(), t.copy()))
            if s.shape != p.shape or s.dtype.kind != "f":
                raise ValueError(
                    f"loss_from_signal: a signal has one number for each of prediction's; given {s.dtype} of shape {s.shape} "
                    f"for shape {p.shape}"
                )
            J = jacobian(lambda x, t=t: signal(x, t))(p)
            moved = [np.asarray(signal(p + by, t + by)) for by in SHIFTS]
            others = [signal(p[1:], t[1:]), np.asarray(signal(np.concatenate([t, p]), np.concatenate([p, t])))[3:]]
        if not (np.isfinite(J).all() and np.isfinite(s).all()):
            continue  # it has no value there
        asked += 1
        size = 1e-9 * max(1.0, float(np.abs(J).max()))
        near = 1e-9 * max(1.0, float(np.abs(p).max()), *map(abs, SHIFTS)) * max(1.0, float(np.abs(J).max()))
        of_difference &= all(bool(np.allclose(m, s, rtol=1e-9, atol=near)) for m in moved)
        mixed = not all(np.shape(o) == (1, 3) and np.allclose(o, s[1:], rtol=1e-9, atol=1e-9) for o in others)
        if mixed or np.abs(J[0, :, 1]).max() > size or np.abs(J[1, :, 0]).max() > size:
            raise ValueError(
                "loss_from_signal: the signal of one example depends on another example; a loss is one of each example"
            )
        for row in range(2):
            each = J[row, :, row]
            coupled |= bool(np.abs(each - np.diag(np.diag(each))).max() > size)
            i, j = np.unravel_index(np.argmax(np.abs(each - each.T)), each.shape)
            if abs(each[i, j] - each[j, i]) > size:
                raise ValueError(
                    f"loss_from_signal: no loss has this signal. Of a loss the order of two wiggles does not matter, "
                    f"∂s_i/∂ŷ_j = ∂s_j/∂ŷ_i; here ∂s_{i}/∂ŷ_{j} = {each[i, j]:.6g} and ∂s_{j}/∂ŷ_{i} = {each[j, i]:.6g} "
                    f"at ŷ = {_list(p[row])}, y = {_list(t[row])}"
                )
    if not asked:
        raise ValueError(
            "loss_from_signal: the signal is not finite at any of the predictions and targets that it was asked for"
        )
    return coupled, of_difference


def _number_of(x: float) -> str:
    return f"{x:.4g}".replace("-", "−")


def _backwards(signal: Signal, coupled: bool) -> bool:
    """Does a signal lead away from the target wherever it was asked?"""
    if coupled:
        return False
    with np.errstate(all="ignore"):
        towards = [np.sign(np.asarray(signal(FAR + y, np.full(len(FAR), y)))) * np.sign(FAR) for y in (0.0, 1.0)]
    return all(bool((t <= 0).all() and (t < 0).any()) for t in towards)


def _list(x: Array) -> str:
    return f"[{', '.join(f'{v:.3g}' for v in x)}]"


def _concave(signal: Signal, coupled: bool, of_difference: bool) -> list[Any]:
    with np.errstate(all="ignore"):
        if coupled:
            for p, t in _probes():
                for row, each in enumerate(jacobian(lambda x, t=t: signal(x, t))(p)[(0, 1), :, (0, 1)]):
                    curvature = np.linalg.eigvalsh(each) if np.isfinite(each).all() else np.zeros(1)
                    if curvature[0] < -1e-9 * max(1.0, float(np.abs(curvature).max())):
                        return [(p[row], t[row], float(curvature[0]))]
            return []
        wrong = np.zeros(len(FAR), bool)
        for y in (0.0,) if of_difference else (0.0, 1.0):
            slope = grad(lambda p, y=y: np.sum(signal(p, np.full(len(FAR), y))))(FAR + y)
            wrong |= slope < -1e-9 * max(1.0, float(np.abs(slope[np.isfinite(slope)]).max(initial=0)))
    ends = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]]).astype(int)))
    return [(round(float(FAR[a]), 2), round(float(FAR[b - 1]), 2)) for a, b in zip(ends[::2], ends[1::2], strict=True)]


# ----- Its integral -----


def _integral(signal: Signal, p: Any, t: Any, breaks: Sequence[float], coupled: bool) -> Any:
    """∫ s(y + u·r, y)·r du from 0 to 1, r = ŷ − y, in the pieces between the breaks, b = u·r. A long way has more pieces: what
    a signal does, it does near y, and from 1e5 away one would step over it."""
    try:
        from scipy.integrate import quad_vec
    except ImportError:
        raise ImportError(
            "the value of a loss from its signal is an integral, by SciPy: pip install 'fluxgrad[design]'"
        ) from None
    dtype = np.result_type(p, t)
    p, t = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(t, np.float64))
    r = p - t
    far = ~np.isfinite(r)
    r = np.where(far, 0, r)
    way = float(np.abs(r).max(initial=0))
    stops = (
        [side * 4.0**k for k in range(1, 1 + max(0, math.ceil(math.log(way, 4)))) for side in (-1, 1)]
        if way > 4
        else []
    )
    with np.errstate(over="ignore"):
        at = [np.clip(b / np.where(r == 0, np.inf, r), 0, 1) for b in (*breaks, *stops)]
    if coupled:  # one path for the row: each of its outputs may meet a break on it
        at = [x[..., k, None] for x in at for k in range(x.shape[-1])]
    like = at[0] if at else r
    ends = np.sort(np.stack([np.zeros_like(like), *at, np.ones_like(like)]), axis=0)

    def along(u: float) -> Any:
        total = np.zeros(r.shape)
        for start, end in pairwise(ends):
            total += np.asarray(signal(t + (start + u * (end - start)) * r, t)) * r * (end - start)
        return np.sum(total, axis=-1) if coupled else total

    L, error = along(0.5), 0.0
    if r.size:
        with np.errstate(all="ignore"):  # where it does not settle, that is told below
            L, error = quad_vec(along, 0, 1, epsabs=TOLERANCE, epsrel=TOLERANCE, norm="max")
    if not error <= 1e-9 * max(1.0, float(np.abs(L).max(initial=0))):
        raise ValueError(
            f"the integral of the signal does not settle (it is known to {error:.1g}): is it finite between y and ŷ, and are "
            f"its kinks and jumps among the breaks ({breaks or 'none were given'})?"
        )
    if far.any():
        with np.errstate(invalid="ignore"):
            out = np.asarray(signal(p, t)) * (p - t)  # ∞ where it goes on, NaN where it has ended
        L = np.where(far.any(-1), np.sum(out, -1), L) if coupled else np.where(far, out, L)
    return np.asarray(L).astype(dtype)


# ----- Three that the paper asks for -----


def emphasise_hard(gamma: float = 2.0) -> DesignedLoss:
    """Emphasise hard examples (paper §7.3, §12.2): for a logit z and y = 0 or 1, the signal of cross-entropy times q^γ.

        L̇_z = |r|^γ r,  r = p − y = (1 − y)·σ(z) − y·σ(−z),  p = σ(z)

    q = |p − y| is 1 − p_t, so that this loss does what the table of §7.3 says of focal loss: at p_t = 0.9 its signal is 100
    times smaller than p − y. Raises ValueError for γ < 0.

    >>> import fluxgrad as fg
    >>> z = fg.Tensor(2.1972245773362196, requires_grad=True)  # p = 0.9
    >>> fg.design.emphasise_hard()(z, 1.0).backward()
    >>> float(z.grad.round(9))
    -0.001
    """
    gamma = _not_negative(gamma, "emphasise_hard", "gamma")

    def signal(z: Any, y: Any) -> Any:
        r = part("r", (1 - y) * sigmoid(z) - y * sigmoid(-z))  # p − y, with no digit lost as p nears y
        return np.abs(r) ** gamma * r

    return loss_from_signal(signal, name="emphasise_hard")


def cap_outliers(limit: float = 1.0) -> DesignedLoss:
    """Cap what an outlier may say (paper §4, §12.2): Huber's loss, from its signal.

        L̇_ŷ = clip(ŷ − y, −limit, limit)

    Raises ValueError for limit ≤ 0.

    >>> import fluxgrad as fg
    >>> fg.design.cap_outliers(2.0)([0.0, 100.0], [1.0, 1.0], reduction="none")
    Tensor([  0.5, 196. ])
    """
    limit = _positive(limit, "cap_outliers", "limit")
    if limit == np.inf:
        raise ValueError("cap_outliers: limit must be finite; without one, it is half of mse_loss")
    return loss_from_signal(lambda p, y: np.clip(p - y, -limit, limit), breaks=(-limit, limit), name="cap_outliers")


def calibrate(label_smoothing: float = 0.1) -> DesignedLoss:
    """Calibrate (paper §11, §12.2): for logits z and one-hot y, cross-entropy's signal towards a target with some doubt left.

        L̇_z = softmax(z) − ((1 − ε)·y + ε/K)

    The classes are the last axis. Raises ValueError for ε outside [0, 1].

    >>> import numpy as np, fluxgrad as fg
    >>> z = fg.Tensor(np.log([[0.025, 0.925, 0.025, 0.025]]), requires_grad=True)
    >>> fg.design.calibrate()(z, [[0.0, 1.0, 0.0, 0.0]]).backward()
    >>> bool(np.allclose(z.grad, 0))
    True
    """
    label_smoothing = _share(label_smoothing, "calibrate", "label_smoothing")
    keep = 1 - label_smoothing
    return loss_from_signal(
        lambda z, y: softmax(z) - keep * y - label_smoothing / np.sum(np.ones_like(z), axis=-1, keepdims=True),
        name="calibrate",
    )


__all__ = ["DesignedLoss", "calibrate", "cap_outliers", "emphasise_hard", "loss_from_signal"]
