"""The rows of the losses: a loss's value for one example, and the signal L̇_ŷ (L̇_z of a logit) that it sends back.

A row is the core of a loss: `value(ŷ, y)`, one `signal(ŷ, y)` per input, and the reduction, an option that `loss` writes
once for all. Checks, labels, weights, masks and smoothing act around the row, in fluxgrad/losses.py.

The definition is what the paper writes, in the logits where there are logits. Most rows have a core kernel too, for the
last digits: it never computes 1 − p, which is 0 long before it should be, nor q to the power γ − 1, which is infinite there.
Of classes it sums all but the true one, Q = Σ exp(z − m) over the others, so that 1 − p is Q/S; of two it takes σ(−z).
Classification is computed in float64 and rounded once; regression stays in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluxgrad.rules.elementwise import sigmoid, softplus
from fluxgrad.rules.fused import log_softmax, logsumexp, softmax
from fluxgrad.rules.kinds import Fused, Kernel, fused, part, sample
from fluxgrad.rules.linear import over

Array = NDArray[Any]

# ----- A loss from its core -----


def loss(
    form: str,
    value: Callable[..., Any],
    *signals: Callable[..., Any],
    core: Kernel | None = None,
    classes: bool = False,
    name: str,
    choice: str | None = None,
) -> Fused:
    """A loss's row: the value and the signals of one example, and the reduction, which every loss shares.

    `classes`: an example is a row of classes, not one number. `core` is a kernel of it where digits or speed ask for one:
    forward gives the value of each example as two factors (a, b), or (a, None), and back(g, saved, room) takes one number
    or one an example for g. The values may have more digits than the input: they are rounded here.
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
            s = signal(*inputs, **options)
            return None if s is None else g * s

        return pull

    def forward(*arrays: Array, reduction: str = "none", **options: Any) -> tuple[Any, Any]:
        (a, b), saved = core[0](*arrays, **options)  # type: ignore[index]  # (a kernel where there is a core)
        n = None
        dtype = a.dtype if saved is None else arrays[0].dtype
        if reduction == "none":
            total = a if b is None else a * b
        else:
            n = a.size
            if a.dtype == np.float16:  # whose sums run over
                a, b = (a if b is None else a * b).astype(np.float32), None
            if b is None:
                total = np.add.reduce(a, None)
            elif n <= 1024:
                flat = a.reshape(-1)  # (a long sum keeps more digits where NumPy adds in pairs)
                total = flat.dot(flat if a is b else b.reshape(-1))
            else:
                total = np.add.reduce(a * b, None)
            if reduction == "mean":
                total = total / n if n else np.full((), np.nan, dtype)
            else:
                n = 1
        return total if total.dtype is dtype else total.astype(dtype), saved and (saved, n)

    def back(send: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def scaled(g: Any, saved: Any, room: Any) -> Any:
            saved, n = saved
            c = send(g if n is None else g.item() / max(n, 1), saved, room)
            return c if type(c) is np.ndarray else np.asarray(c)

        return scaled

    kernel = (forward, list(map(back, core[1]))) if core else None
    row = fused(form, reduced, *map(pull_of, signals), kernel=kernel, name=name, choice=choice)
    code = value.__code__
    row._options = ("reduction", *code.co_varnames[len(signals) : code.co_argcount])
    return row


# ----- Regression -----


def _alike(p: Array, t: Array) -> bool:
    """What kernels are for: nothing is stretched, and all of one dtype."""
    return p.dtype is t.dtype and p.shape == t.shape


def _squared(p: Array, t: Array) -> tuple[Any, Any]:
    e = p - t
    return (e, e), (e,) if _alike(p, t) else None


def _absolute(p: Array, t: Array) -> tuple[Any, Any]:
    e = p - t
    return (np.abs(e), None), (np.sign(e),) if _alike(p, t) else None


def _clipped(p: Array, t: Array, delta: float) -> tuple[Any, Any]:
    """d = clip(r, −δ, δ) is the signal, and L = d·(r − d/2) on both sides of δ."""
    r = p - t
    d = np.clip(r, -delta, delta)  # (`where` on an unpredictable mask costs thirty times as much)
    return (d, r - 0.5 * d), (d,) if _alike(p, t) else None


def _smoothed(p: Array, t: Array, beta: float) -> tuple[Any, Any]:
    r = p - t
    d = np.clip(r, -beta, beta)
    s = d / beta  # before r² is made, which could underflow
    return (s, r - 0.5 * d), (s,) if _alike(p, t) else None


def _forwards(g: Any, saved: Any, room: Any) -> Any:
    return saved[0] * g


def _backwards(g: Any, saved: Any, room: Any) -> Any:
    return saved[0] * -g


def _huber(p: Any, t: Any, delta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < delta, 0.5 * r * r, delta * np.abs(r) - 0.5 * delta * delta)


def _huber_signal(p: Any, t: Any, delta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < delta, r, delta * np.sign(r))


def _smooth(p: Any, t: Any, beta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < beta, 0.5 * r * r / beta, np.abs(r) - 0.5 * beta)


def _smooth_signal(p: Any, t: Any, beta: float) -> Any:
    r = part("r", p - t)
    return np.where(np.abs(r) < beta, r / beta, np.sign(r))


mse = loss("(p − t)²", lambda p, t: (p - t) * (p - t), lambda p, t: 2 * (p - t), lambda p, t: -2 * (p - t),
           core=(_squared, [lambda g, saved, room: saved[0] * (g + g), lambda g, saved, room: saved[0] * (-g - g)]), name="mse_loss")  # fmt: skip
l1 = loss("|p − t|", lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t), lambda p, t: -np.sign(p - t),
          core=(_absolute, [_forwards, _backwards]), name="l1_loss", choice="0 at p = t")  # fmt: skip
huber = loss("huber(p − t)", _huber, _huber_signal, lambda p, t, delta: -_huber_signal(p, t, delta),
             core=(_clipped, [_forwards, _backwards]), name="huber_loss",
             choice="at |p − t| = δ both sides agree")  # fmt: skip
smooth_l1 = loss("smooth_l1(p − t)", _smooth, _smooth_signal, lambda p, t, beta: -_smooth_signal(p, t, beta),
                 core=(_smoothed, [_forwards, _backwards]), name="smooth_l1_loss",
                 choice="at |p − t| = β both sides agree")  # fmt: skip

# ----- Two classes: everything from one exponential, of −|z| -----


def _wide(x: Array) -> Array:
    """As float64, or more; a copy only where it must be."""
    return x.astype(np.float64) if x.dtype.itemsize < 8 else x


def _in_float64(core: Callable[..., Any]) -> Callable[..., Any]:
    """A core of one example computed with more digits than it was given: saved is the dtype to round to, and the rest."""

    def wide(z: Array, t: Array, **options: Any) -> tuple[Any, Any]:
        value, saved = core(_wide(z), _wide(t), **options)
        if _alike(z, t):
            return (value, None), (z.dtype, *saved)
        return (value.astype(np.result_type(z, t)), None), None

    return wide


def _rounded(send: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
    """What a signal of many digits sends back, rounded once."""

    def back(g: Any, saved: Any, room: Any) -> Any:
        dtype, *saved = saved
        return (send(*saved) * g).astype(dtype, copy=False)

    return back


def _halves(z: Array) -> tuple[Array, Array, Array]:
    """σ(|z|), σ(−|z|) and softplus(−|z|)."""
    e = np.exp(-np.abs(z))
    larger = 1 / (1 + e)
    return larger, e * larger, np.log1p(e)


@_in_float64
def _logistic(z: Array, t: Array) -> tuple[Any, Any]:
    """L = w|z| + softplus(−|z|), with w the weight of the side that z is not on."""
    p, q, l = _halves(z)
    up = z > 0
    w = np.where(up, 1 - t, t)
    away = w * np.abs(np.where(w == 0, 0, z))  # (0 · ∞ is 0 here)
    s = w * p - (1 - w) * q
    return away + l, (np.where(up, s, -s), z)


logistic = loss(
    "logistic(z, t)", lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    lambda z, t: (1 - t) * part("p", sigmoid(z)) - t * part("q", sigmoid(-z)),  # p − t, with no digit lost as p nears t
    lambda z, t: -z,
    core=(_logistic, [_rounded(lambda s, z: s), _rounded(lambda s, z: -z)]), name="binary_cross_entropy_with_logits",
)  # fmt: skip


@_in_float64
def _bernoulli(p: Array, t: Array) -> tuple[Any, Any]:
    """0 · ln 0 and 0/0 are 0: what cannot happen does not count."""
    p0, p1 = np.where(t == 0, 1, p), np.where(t == 1, 0, p)
    with np.errstate(divide="ignore"):  # at p = 0 or 1 with the other label L is infinite, and so is its signal
        return -(t * np.log(p0)) - (1 - t) * np.log1p(-p1), ((1 - t) / (1 - p1) - t / p0, p)


def _log_odds(s: Array, p: Array) -> Any:
    with np.errstate(divide="ignore"):
        return np.log1p(-p) - np.log(p)


bernoulli = loss(
    "bernoulli(p, t)", lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)),
    lambda p, t: (1 - t) / (1 - p) - t / p, lambda p, t: np.log(1 - p) - np.log(p),
    core=(_bernoulli, [_rounded(lambda s, p: s), _rounded(_log_odds)]), name="binary_cross_entropy",
)  # fmt: skip


def _focal(z: Any, t: Any, gamma: float) -> Any:
    s = part("s", (2 * t - 1) * z)  # the logit of the true class
    return np.exp(-gamma * softplus(s)) * softplus(-s)


def _focal_s(z: Any, t: Any, gamma: float) -> Any:
    s = part("s", (2 * t - 1) * z)
    p, q, c = part("p", sigmoid(s)), part("q", sigmoid(-s)), part("c", softplus(-s))
    return -np.exp(-gamma * softplus(s)) * (gamma * p * c + q)


def _power(q: Array, gamma: float) -> Any:
    """q to the power γ, the usual ones without the cost of `power`."""
    if gamma == 2:
        return q * q
    if gamma in (0, 1):
        return q if gamma else 1.0
    return np.sqrt(q) if gamma == 0.5 else np.power(q, gamma)


@_in_float64
def _focal_pass(z: Array, t: Array, gamma: float) -> tuple[Any, Any]:
    side = 2 * t - 1
    s = side * z
    larger, smaller, l = _halves(s)
    up = s > 0
    p, q = np.where(up, larger, smaller), np.where(up, smaller, larger)
    c = np.maximum(-s, 0) + l
    far = _power(q, gamma)
    return far * c, (-far * (gamma * (p * np.minimum(c, 1e300)) + q), side, z)  # (0 · ∞ is 0 here)


focal = loss(
    "focal(z, t)", _focal,
    lambda z, t, gamma: (2 * t - 1) * _focal_s(z, t, gamma),
    lambda z, t, gamma: 2 * z * _focal_s(z, t, gamma),
    core=(_focal_pass, [_rounded(lambda s, side, z: s * side), _rounded(lambda s, side, z: 2 * z * s)]),
    name="sigmoid_focal_loss",
)  # fmt: skip

# ----- Many classes: the sum over all but the true one -----


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
FEW = 64  # classes: NumPy reduces along the first axis several times faster than along a short last one


@lru_cache(16)
def _count(n: int) -> Array:
    return np.arange(n)


class _Classes:
    """The logits of rows of classes, laid out for speed (few classes go first), and exp(z − m), m the largest of a row.

    For float64 it makes good what z − m lost, which exp would make large: at a distance of 100 it is 50 units in the last
    place. A masked class, z = −∞, has exp(−∞) = 0.
    """

    __slots__ = ("axis", "d", "dtype", "e", "n", "shape")

    def __init__(self, z: Array) -> None:
        self.dtype, self.n, self.shape = z.dtype, len(z), z.shape
        self.axis = 0 if z.shape[1] <= FEW else 1
        z = self.laid(z)
        m = np.maximum.reduce(z, self.axis, keepdims=True, initial=-np.inf)
        self.d = d = z - m
        self.e = e = np.exp(d)
        if self.dtype.itemsize >= 8:
            with np.errstate(invalid="ignore"):  # (−∞ − −∞)
                back = d - z
                np.add(e, e * ((z - (d - back)) - (m + back)), e, where=e > 0)

    def laid(self, x: Array) -> Array:
        wide = np.promote_types(x.dtype, np.float64)
        return x.T.astype(wide, order="C") if self.axis == 0 else x.astype(wide, copy=False)

    def at(self, labels: Array) -> Array:
        """Where each row has its label, in the flat array."""
        n, rows = self.n, _count(self.n)
        at: Array = rows * self.shape[1] + labels if self.axis else labels * n + rows
        return at

    def sum(self, x: Array) -> Array:
        return np.add.reduce(x, self.axis)  # type: ignore[no-any-return]

    def along(self, x: Any) -> Any:
        """One number a row, to go with rows of classes."""
        return x[:, None] if self.axis and isinstance(x, np.ndarray) else x

    def sent(self, s: Array) -> Array:
        """In the shape and dtype of the logits, rounded once."""
        return (s if self.axis else s.T).astype(self.dtype, copy=False)


def _one_aside(z: Array, t: Array) -> tuple[Any, ...]:
    """The surprise c = (m − z_t) + ln Σ exp(z − m) of each label, from Q, the sum without the label's own; no digit is lost
    where the label has nearly all of the probability, since Q is a sum of small numbers then, and exp(z_t − m) is 1."""
    rows = _Classes(z)
    at = rows.at(t)
    mine = rows.e.take(at)
    rows.e.put(at, 0)
    Q = rows.sum(rows.e)
    return rows, at, Q, mine, np.log1p(Q + (mine - 1)) - rows.d.take(at)


def _labels_fit(z: Array, t: Array) -> bool:
    return t.dtype is _INTP and t.ndim == 1 and z.ndim == 2


def _one_pass(z: Array, t: Array) -> tuple[Any, Any]:
    """The signal is exp(z − m)/S, and −Q/S at the label."""
    if _labels_fit(z, t):
        rows, at, Q, mine, c = _one_aside(z, t)
        return (c, None), (_to_label, rows, at, Q, 1 / (Q + mine))
    if z.ndim == 2 and _alike(z, t):
        return _soft_pass(z, t)
    return (_surprise(z, t), None), None


def _to_label(g: Any, rows: _Classes, at: Array, Q: Array, scale: Array) -> Array:
    scale = scale * g
    s = rows.e * rows.along(scale)
    s.put(at, -Q * scale)
    return rows.sent(s)


def _soft_pass(z: Array, t: Array) -> tuple[Any, Any]:
    """p·Σt − t, as ((Σt − t)·exp(z − m) − t·Q)/S, Q being the sum over the other classes."""
    rows = _Classes(z)
    e, d, t = rows.e, rows.d, rows.laid(t)
    R, top = _all_but_the_largest(rows)
    Q = (1 + rows.along(R)) - e
    Q.put(top, R)
    total = rows.sum(t)
    c = rows.sum(t * np.where(t == 0, 0, -d)) + total * np.log1p(R)
    s = ((rows.along(total) - t) * e - t * Q) / (1 + rows.along(R))
    return (c, None), (_to_soft, rows, s, R)


def _all_but_the_largest(rows: _Classes) -> tuple[Array, Array]:
    """R = Σ exp(z − m) − 1, and where the largest are."""
    top = rows.at(np.argmax(rows.d, rows.axis))
    largest = rows.e.take(top)
    rows.e.put(top, 0)
    R = rows.sum(rows.e)
    rows.e.put(top, largest)
    return R, top


def _to_soft(g: Any, rows: _Classes, s: Array, R: Array) -> Array:
    return rows.sent(s * rows.along(g))


def _one_pass_z(g: Any, saved: Any, room: Any) -> Any:
    return saved[0](g, *saved[1:])


def _one_pass_t(g: Any, saved: Any, room: Any) -> Any:
    _, rows, _, R = saved
    return rows.sent((rows.along(np.log1p(R)) - rows.d) * rows.along(g))


surprise = loss("cross_entropy(z, t)", _surprise, _surprise_z, _surprise_t, core=(_one_pass, [_one_pass_z, _one_pass_t]),
                classes=True, name="cross_entropy")  # fmt: skip


def _focal_parts(z: Any, t: Any) -> tuple[Any, Any, Any, Any]:
    """One-hot labels, the logits without the true class, l = ln(1 − p_t) and c = −ln p_t."""
    hot, every = _hot(t, z), logsumexp(z, axis=-1, keepdims=True)
    others = part("others", np.where(hot == 1, -np.inf, z))
    l = part("l", logsumexp(others, axis=-1, keepdims=True) - every)
    return hot, others, l, part("c", every - np.sum(hot * np.where(hot == 0, 0, z), axis=-1, keepdims=True))


def _softmax_focal(z: Any, t: Any, gamma: float) -> Any:
    _, _, l, c = _focal_parts(z, t)
    return np.squeeze(np.exp(gamma * l) * c, -1)


def _softmax_focal_z(z: Any, t: Any, gamma: float) -> Any:
    hot, others, l, c = _focal_parts(z, t)
    p, q = part("p", np.exp(-c)), part("q", np.exp(l))
    return np.exp(gamma * l) * (q + gamma * p * c) * (softmax(others) - hot)


def _softmax_focal_pass(z: Array, t: Array, gamma: float) -> tuple[Any, Any]:
    """The signal is w·exp(z − m)/Q, and −w at the label, w = q^γ (q + γ p_t c); w/Q = q^γ (1 + γ c exp(z_t − m)/Q)/S."""
    if not _labels_fit(z, t):
        return (np.asarray(_softmax_focal(z, t, gamma)), None), None
    rows, at, Q, mine, c = _one_aside(z, t)
    S = Q + mine
    far = _power(Q / S, gamma)
    alone = Q == 0
    ratio = np.where(alone, 1, mine * np.minimum(c, 1e300) / np.where(alone, 1, Q))  # (0 · ∞ is 0 here)
    return (far * c, None), (rows, at, Q, far * (1 + gamma * ratio) / S)


def _softmax_focal_t(z: Any, t: Any, gamma: float) -> Any:
    return -np.exp(gamma * _focal_parts(z, t)[2]) * z


softmax_focal = loss(
    "softmax_focal(z, t)", _softmax_focal, _softmax_focal_z, _softmax_focal_t,
    core=(_softmax_focal_pass, [lambda g, saved, room: _to_label(g, *saved)]), classes=True, name="focal_loss",
)  # fmt: skip

# ----- Divergence -----


@_in_float64
def _pointwise(x: Array, t: Array) -> tuple[Any, Any]:
    """0 · ln 0 is 0, also where x is −∞."""
    never = t == 0
    return t * (np.log(np.where(never, 1, t)) - np.where(never, 0, x)), (x, t)


def _pointwise_t(x: Array, t: Array) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):  # at t = 0 it is −∞
        return np.log(t) + 1 - x


@_in_float64
def _pointwise_log(x: Array, t: Array) -> tuple[Any, Any]:
    p = np.exp(t)
    never = p == 0
    u = np.where(never, 0, t) - np.where(never, 0, x)
    return p * u, (p, u)


kl = loss("kl_div(x, t)", lambda x, t: t * (np.log(t) - x), lambda x, t: -t, lambda x, t: np.log(t) + 1 - x,
          core=(_pointwise, [_rounded(lambda x, t: -t), _rounded(_pointwise_t)]), name="kl_div")  # fmt: skip
kl_log = loss("kl_div_log_target(x, t)", lambda x, t: np.exp(t) * (t - x), lambda x, t: -np.exp(t), lambda x, t: np.exp(t) * (t - x + 1),
              core=(_pointwise_log, [_rounded(lambda p, u: -p), _rounded(lambda p, u: p * (u + 1))]),
              name="kl_div_log_target")  # fmt: skip


def _kl_logits(z: Any, w: Any) -> Any:
    return np.sum(part("p", softmax(w)) * (log_softmax(w) - log_softmax(z)), axis=-1)


def _kl_logits_z(z: Any, w: Any) -> Any:
    return part("q", softmax(z)) - part("p", softmax(w))


def _kl_logits_w(z: Any, w: Any) -> Any:
    p, u = part("p", softmax(w)), part("u", log_softmax(w) - log_softmax(z))
    return p * (u - np.sum(p * u, axis=-1, keepdims=True))


SERIES = [1.0 / (1 if n % 2 == 0 else -1) / float(np.prod(np.arange(1.0, n + 3))) for n in range(15)]


def _excess(u: Array) -> Array:
    """u + exp(−u) − 1 ≥ 0, to the last digit near 0 too, where it is u²/2 − u³/6 + …"""
    small = np.clip(u, -0.5, 0.5)
    near = np.full_like(u, SERIES[-1])
    for c in SERIES[-2::-1]:
        near *= small
        near += c
    return np.where(np.abs(u) <= 0.5, near * small * small, u + np.expm1(-np.maximum(u, -2)))


def _divergence(z: Array, w: Array) -> tuple[Any, Any]:
    """Σ p u with u = ln p − ln q, as Σ p (u + exp(−u) − 1), which adds Σ (q − p) = 0: no term is negative then, and none
    cancels. With x = w − z, less that of the likeliest class, u is x − ln Σ q exp x: near p = q all is as small as x."""
    if z.ndim != 2 or not _alike(z, w):
        return (_kl_logits(z, w), None), None
    student, teacher = _Classes(z), _Classes(w)
    along, total = student.along, student.sum
    Rq, _ = _all_but_the_largest(student)
    Rp, _ = _all_but_the_largest(teacher)
    q, p = student.e / (1 + along(Rq)), teacher.e / (1 + along(Rp))
    a, b = teacher.laid(w), student.laid(z)
    with np.errstate(invalid="ignore", over="ignore"):  # (of masked classes; and of rows where the other form is taken)
        x = a - b
        back = x - a
        lost = (a - (x - back)) - (b + back)
        likeliest = student.at(np.argmax(student.d + teacher.d, student.axis))
        x = (x - along(x.take(likeliest))) + (lost - along(lost.take(likeliest)))
        x = np.where(np.isneginf(a), -np.inf, x)
        x[(p == 0) & (q == 0)] = 0
        close = np.all((np.abs(x) < 500) | (p == 0), student.axis)
        near = x - along(np.log1p(total(q * np.expm1(x))))
        far = (teacher.d - along(np.log1p(Rp))) - (student.d - along(np.log1p(Rq)))
        u = np.where(along(close), near, far)
        u[(p == 0) & (q == 0)] = 0
        u = np.where(p == 0, -np.inf, u)
        terms = np.where(u < -1, q * (1 + np.exp(u) * (np.maximum(u, -1e3) - 1)), p * _excess(u))
    L = total(np.where(p == 0, q, terms))
    return (L, None), (student, teacher, p, q, u, L)


def _divergence_z(g: Any, saved: Any, room: Any) -> Any:
    rows, _, p, q, u, _ = saved
    s = np.where(u > 0, p * np.expm1(-np.abs(u)), -q * np.expm1(-np.abs(u)))
    return rows.sent(s * rows.along(g))


def _divergence_w(g: Any, saved: Any, room: Any) -> Any:
    _, rows, p, _, u, L = saved
    return rows.sent(p * (np.where(p == 0, 0, u) - rows.along(L)) * rows.along(g))


kl_logits = loss("kl(z, w)", _kl_logits, _kl_logits_z, _kl_logits_w, core=(_divergence, [_divergence_z, _divergence_w]),
                 classes=True, name="kl_div_with_logits")  # fmt: skip

# ----- How they are written down -----

for _row in (mse, l1, bernoulli, logistic, kl, kl_log):
    sample(_row, (3,), (3,), output="L")
sample(huber, (3,), (3,), output="L", delta=("δ", 1.0))
sample(smooth_l1, (3,), (3,), output="L", beta=("β", 1.0))
sample(focal, (3,), np.array([1.0, 0.0, 1.0]), output="L", gamma=("γ", 2.0))
sample(surprise, (2, 3), np.eye(2, 3, dtype=int), output="L")
sample(softmax_focal, (2, 3), np.eye(2, 3, dtype=int), output="L", gamma=("γ", 2.0))
sample(kl_logits, (2, 3), (2, 3), output="L")
