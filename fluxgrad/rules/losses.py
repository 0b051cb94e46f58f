"""The rows of the losses: a loss's value for one example, and the signal L̇_ŷ (L̇_z of a logit) that it sends back.

A row is the core of a loss: `value(ŷ, y)`, one `signal(ŷ, y)` per input (in code p or z, and t), and the reduction, an option
that `loss` writes once for all. Checks, labels, weights, masks and smoothing act around the row, in fluxgrad/losses.py.

The definition is what the paper writes, in the logits where there are logits. Every row has a core kernel too, for speed and
the last digits: of logits it never computes 1 − p, which is 0 long before it should be, nor q to the power γ − 1, which is infinite there.
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
from fluxgrad.rules.kinds import Fused, Kernel, fused, number, part, sample
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
    forward(*arrays, summed, **options) gives the losses of the examples, or their sum, and back(g, saved, room) takes one number
    or one an example for g (and no use of the room). The losses may have more digits than the input: they are rounded here.
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

    run: Any = core[0] if core else None  # (asked only where there is a core)

    def forward(z: Array, t: Array, reduction: str = "none", **options: Any) -> tuple[Any, Any]:
        n = None
        if reduction == "none":
            L, saved = run(z, t, False, **options)
        else:
            n = 1
            L, saved = run(z, t, True, **options)
            if reduction == "mean":
                n = examples(z) if classes else z.size
                L = L / n if n else np.full((), np.nan, L.dtype)
        dtype = z.dtype if saved is not None or t.dtype.kind != "f" else np.result_type(z, t)
        return L if L.dtype is dtype else L.astype(dtype), saved and (saved, n)

    def back(send: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def scaled(g: Any, saved: Any, room: Any) -> Any:
            saved, n = saved
            c = send(g if n is None else g.item() / (n or 1), saved, room)
            return c if type(c) is np.ndarray else np.asarray(c)

        return scaled

    kernel = (forward, list(map(back, core[1]))) if core else None
    row = fused(form, reduced, *map(pull_of, signals), kernel=kernel, name=name, choice=choice)
    code = value.__code__
    row._options = ("reduction", *code.co_varnames[len(signals) : code.co_argcount])
    return row


RUN = 1024  # so many products are added one after the other; more, in pairs of such sums, which keeps their digits


def _dot(a: Array, b: Array) -> Any:
    """Σ a·b. What float32 cannot hold, a mean may still: then it is added in float64, as float16 always is."""
    if a.dtype.char == "e":
        a, b = a.astype(np.float32), b.astype(np.float32)
    same, a = a is b, a.ravel()
    b = a if same else b.ravel()
    if a.size <= RUN:
        total = a.dot(b)
    else:
        n = a.size - a.size % RUN
        runs = np.vecdot(a[:n].reshape(-1, RUN), b[:n].reshape(-1, RUN))
        total = np.add.reduce(runs, None, np.promote_types(a.dtype, np.float64)) + a[n:].dot(b[n:])
    return total if abs(total) < np.inf or a.dtype.itemsize >= 8 else a.astype(np.float64).dot(b.astype(np.float64))


def _total(a: Array) -> Any:
    return np.add.reduce(a, None, np.promote_types(a.dtype, np.float64))


# ----- Regression -----


def _alike(p: Array, t: Array) -> bool:
    """What kernels are for: nothing is stretched, and all of one dtype."""
    return p.dtype is t.dtype and p.shape == t.shape


def _squared(p: Array, t: Array, summed: bool) -> tuple[Any, Any]:
    e = p - t
    return _dot(e, e) if summed else e * e, (e,) if p.dtype is t.dtype and p.shape == t.shape else None


def _absolute(p: Array, t: Array, summed: bool) -> tuple[Any, Any]:
    e = p - t
    L = np.abs(e)
    return _total(L) if summed else L, (np.sign(e),) if _alike(p, t) else None


def _clipped(p: Array, t: Array, summed: bool, delta: float) -> tuple[Any, Any]:
    """d = clip(r, −δ, δ) is the signal, and L = d·(r − d/2) on both sides of δ."""
    r = p - t
    d = np.clip(r, -delta, delta)  # (`where` on an unpredictable mask costs thirty times as much)
    return _less_half(d, d, r, summed), (d,) if _alike(p, t) else None


def _smoothed(p: Array, t: Array, summed: bool, beta: float) -> tuple[Any, Any]:
    """s = d/β is the signal, d = clip(r, −β, β), and L = s·(r − d/2): r² is not made, which could underflow."""
    r = p - t
    d = np.clip(r, -beta, beta)
    s = d / beta
    return _less_half(s, d, r, summed), (s,) if _alike(p, t) else None


def _less_half(s: Array, d: Array, r: Array, summed: bool) -> Any:
    """s·(r − d/2), or its sum."""
    if summed:
        with np.errstate(over="ignore", invalid="ignore"):
            total = _dot(s, r) - 0.5 * _dot(s, d)
        if total < np.inf:  # else ∞ − ∞ may be what is left of a finite sum
            return total
    each = s * (r - 0.5 * d)
    return _total(each) if summed else each


def _times(factor: int) -> Callable[[Any, Any, Any], Any]:
    """What is sent back, from the signal up to a factor."""

    def back(g: Any, saved: Any, room: Any) -> Any:
        s = saved[0]
        return s * (number(factor * g, s.dtype) if type(g) is float else factor * g)

    return back


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
           core=(_squared, [_times(2), _times(-2)]), name="mse_loss")  # fmt: skip
l1 = loss("|p − t|", lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t), lambda p, t: -np.sign(p - t),
          core=(_absolute, [_times(1), _times(-1)]), name="l1_loss", choice="0 at p = t")  # fmt: skip
huber = loss("huber(p − t)", _huber, _huber_signal, lambda p, t, delta: -_huber_signal(p, t, delta),
             core=(_clipped, [_times(1), _times(-1)]), name="huber_loss",
             choice="at |p − t| = δ both sides agree")  # fmt: skip
smooth_l1 = loss("smooth_l1(p − t)", _smooth, _smooth_signal, lambda p, t, beta: -_smooth_signal(p, t, beta),
                 core=(_smoothed, [_times(1), _times(-1)]), name="smooth_l1_loss",
                 choice="at |p − t| = β both sides agree")  # fmt: skip

# ----- In float64, and rounded once -----

PIECE = 15000  # numbers at once: what is computed of them stays in a cache
ROWS = 48000  # the same for rows of classes, of which less is kept at once


def _exact(
    core: Callable[..., Any], to_target: Callable[..., Any], otherwise: Callable[..., Any] | None = None
) -> Kernel:
    """The kernel of a core that computes with more digits than it is given, piece by piece.

    core(z, t, **options) gives the value of each example; the signal; and None, or a number for each row by which its signal is
    still to be multiplied. to_target(z, t, **options) gives the signal to the target, which few ask for. Both see flat arrays
    of one shape; or, where there is an `otherwise`, which computes what does not fit, rows of classes, and rows or labels.
    """
    classes = otherwise is not None

    def forward(z: Array, t: Array, summed: bool, **options: Any) -> tuple[Any, Any]:
        fits = _alike(z, t)
        if otherwise is None:
            x, y = (z, t) if fits else np.broadcast_arrays(z, t)
            value, signal, scale = pieces(x.reshape(-1), y.reshape(-1), PIECE, summed, options)
            value = value if summed else value.reshape(x.shape)
            return value, (signal.reshape(z.shape), scale, z, t, options) if fits else None
        if z.ndim != 2 or not (fits or (t.dtype is _INTP and t.ndim == 1)):
            value = np.asarray(otherwise(z, t, **options))
            return _total(value) if summed else value, None
        value, signal, scale = pieces(z, t, ROWS // (z.shape[1] or 1) or 1, summed, options)
        return value, (signal, scale, z, t, options)

    def pieces(z: Array, t: Array, step: int, summed: bool, options: dict[str, Any]) -> tuple[Any, Array, Any]:
        n = len(z)
        if n <= step:
            value, signal, scale = core(z, t, **options)
            return _total(value) if summed else value, signal, scale
        wide = np.promote_types(z.dtype, np.float64)
        values, signal = np.empty(-(-n // step) if summed else n, wide), np.empty(z.shape, wide)
        scale = np.empty(n, wide) if classes else None
        for i, k in enumerate(range(0, n, step)):
            part = slice(k, k + step)
            value, signal[part], by = core(z[part], t[part], **options)
            values[i if summed else part] = _total(value) if summed else value
            if scale is not None:
                scale[part] = by
        return _total(values) if summed else values, signal, scale

    def back(g: Any, saved: Any, room: Any) -> Array:
        signal, scale, z, _, _ = saved
        return _rounded(signal, g if scale is None else scale * g, z)

    def back_to_target(g: Any, saved: Any, room: Any) -> Array:
        *_, z, t, options = saved
        return _rounded(to_target(z if classes else _wide(z), t, **options), g, z)

    return forward, [back, back_to_target]


def _wide(x: Array) -> Array:
    """As float64, or more; a copy only where it must be."""
    return x.astype(np.float64) if x.dtype.itemsize < 8 else x


def _rounded(signal: Array, g: Any, like: Array) -> Array:
    """A signal of many digits, times what arrives, rounded to the dtype of the input."""
    if type(g) is float:
        g = number(g, signal.dtype)  # (a ufunc takes a kept array in half the time of a Python number)
    elif 0 < g.ndim < signal.ndim:
        g = g[..., None]  # one of each row
    rounded: Array = np.multiply(signal, g, np.empty_like(signal, like.dtype))
    return rounded


# ----- Two classes -----


@lru_cache(16)
def _zeros(n: int) -> Array:
    return np.zeros(n)


def _sides(z: Array) -> tuple[Array, Array, Array, Array, Array]:
    """max(z, 0), min(z, 0), exp of the smaller of z and 0, of −z and 0, and e = exp(−|z|), their product.

    (No `where`, which costs more on an unpredictable mask than the exponential that it would save; and an array of zeros,
    since NumPy's maximum with a plain 0 takes three times as long.)
    """
    zeros = _zeros(len(z))
    up, down = np.maximum(z, zeros), np.minimum(z, zeros)
    p, q = np.exp(down), np.exp(-up)  # one of them is 1; over 1 + e they are σ(z) and σ(−z)
    return up, down, p, q, p * q


def _logistic(z: Array, t: Array) -> tuple[Any, ...]:
    z, t = _wide(z), _wide(t)
    up, down, p, q, e = _sides(z)
    l, rest = np.log1p(e), 1 - t
    e += 1
    p *= rest
    q *= t
    p -= q
    p /= e
    with np.errstate(invalid="ignore"):
        up *= rest
        down *= t
        l += up
        l -= down
        if np.isnan(np.add.reduce(l)):  # something is infinite
            l[np.isinf(z) & (t == (z > 0))] = 0  # 0 · ∞ is 0 here
    return l, p, None


logistic = loss(
    "logistic(z, t)", lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    lambda z, t: (1 - t) * part("p", sigmoid(z)) - t * part("q", sigmoid(-z)),  # p − t, with no digit lost as p nears t
    lambda z, t: -z, core=_exact(_logistic, lambda z, t: -z), name="binary_cross_entropy_with_logits",
)  # fmt: skip


def _bernoulli(p: Array, t: Array) -> tuple[Any, ...]:
    """0 · ln 0 and 0/0 are 0: what cannot happen does not count."""
    p, t = _wide(p), _wide(t)
    p0, p1 = np.where(t == 0, 1, p), np.where(t == 1, 0, p)
    with np.errstate(divide="ignore"):  # at p = 0 or 1 with the other label L is infinite, and so is its signal
        return -(t * np.log(p0)) - (1 - t) * np.log1p(-p1), (1 - t) / (1 - p1) - t / p0, None


def _log_odds(p: Array, t: Array) -> Any:
    with np.errstate(divide="ignore"):
        return np.log1p(-p) - np.log(p)


bernoulli = loss(
    "bernoulli(p, t)", lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)),
    lambda p, t: (1 - t) / (1 - p) - t / p, lambda p, t: np.log(1 - p) - np.log(p),
    core=_exact(_bernoulli, _log_odds), name="binary_cross_entropy",
)  # fmt: skip


def _focal(z: Any, t: Any, gamma: float, alpha: float | None = None) -> Any:
    s = part("s", (2 * t - 1) * z)  # the logit of the true class
    L = np.exp(-gamma * softplus(s)) * softplus(-s)
    return L if alpha is None else part("a", alpha * t + (1 - alpha) * (1 - t)) * L


def _focal_s(z: Any, t: Any, gamma: float, alpha: float | None = None) -> Any:
    s = part("s", (2 * t - 1) * z)
    p, q, c = part("p", sigmoid(s)), part("q", sigmoid(-s)), part("c", softplus(-s))
    by_s = -np.exp(-gamma * softplus(s)) * (gamma * p * c + q)
    return by_s if alpha is None else part("a", alpha * t + (1 - alpha) * (1 - t)) * by_s


def _focal_t(z: Any, t: Any, gamma: float, alpha: float | None = None) -> Any:
    by_t = 2 * z * _focal_s(z, t, gamma, alpha)
    return by_t if alpha is None else by_t + (2 * alpha - 1) * _focal(z, t, gamma)


def _power(q: Array, gamma: float) -> Any:
    """q to the power γ, the usual ones without the cost of `power`."""
    if gamma == 2:
        return q * q
    if gamma in (0, 1):
        return q.copy() if gamma else np.ones_like(q)
    return np.sqrt(q) if gamma == 0.5 else np.power(q, gamma)


def _focal_pass(z: Array, t: Array, gamma: float, alpha: float | None = None) -> tuple[Any, ...]:
    """α_t q^γ c, and the signal −(2t − 1) α_t q^γ (γ p c + q); (1 − α) − t is α_t in size, with the sign of 1 − 2t."""
    side = t + t - 1
    _, down, p, q, e = _sides(_wide(side * z))
    c = np.log1p(e)
    c -= down  # softplus(−s)
    e += 1
    q /= e
    p /= e
    far = _power(q, gamma)
    if alpha is None:
        far *= -side
    else:
        far *= (1 - alpha) - _wide(t)
    with np.errstate(invalid="ignore"):
        p *= c
        if np.isnan(np.add.reduce(p)):  # something is infinite
            p[np.isinf(down)] = 0  # 0 · ∞ is 0 here
    p *= gamma
    p += q
    p *= far
    c *= np.abs(far, far)
    return c, p, None


focal = loss(
    "focal(z, t)", _focal,
    lambda z, t, gamma, alpha=None: (2 * t - 1) * _focal_s(z, t, gamma, alpha),
    lambda z, t, gamma, alpha=None: _focal_t(z, t, gamma, alpha),
    core=_exact(_focal_pass, lambda z, t, gamma, alpha=None: _focal_t(z, t, gamma, alpha)), name="sigmoid_focal_loss",
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
    """Rows of logits in float64, laid out for speed (few classes go first): d = z − m and e = exp(d), m the largest of a row.

    For float64 it makes good what z − m lost, which exp would make large: at a distance of 100 it is 50 units in the last
    place. A masked class, z = −∞, has exp(−∞) = 0.
    """

    __slots__ = ("axis", "d", "e", "n", "shape", "z")

    def __init__(self, z: Array) -> None:
        self.n, self.shape = z.shape
        self.axis = 0 if self.shape <= FEW else 1
        doubled = z.dtype.itemsize >= 8
        self.z = z = self.laid(z)
        m = np.maximum.reduce(z, self.axis, keepdims=True, initial=-np.inf)
        self.d = d = z - m
        self.e = e = np.exp(d)
        if doubled:
            with np.errstate(invalid="ignore"):  # (−∞ − −∞)
                back = d - z
                np.add(e, e * ((z - (d - back)) - (m + back)), e, where=e > 0)

    def laid(self, x: Array) -> Array:
        wide = np.promote_types(x.dtype, np.float64) if x.dtype.itemsize > 8 else np.float64
        return x.T.astype(wide, order="C") if self.axis == 0 else x.astype(wide, copy=False)

    def at(self, labels: Array) -> Array:
        """Where each row has its label, in the flat array."""
        n, rows = self.n, _count(self.n)
        at: Array = rows * self.shape + labels if self.axis else labels * n + rows
        return at

    def sum(self, x: Array) -> Array:
        total: Array = np.add.reduce(x, self.axis)
        return total

    def along(self, x: Any) -> Any:
        """One number a row, to go with rows of classes."""
        return x[:, None] if self.axis else x

    def signal(self, s: Array) -> Array:
        return s if self.axis else s.T

    def all_but_the_largest(self) -> tuple[Array, Array]:
        """R = Σ exp(z − m) − 1, and where the largest are."""
        top = self.at(np.argmax(self.d, self.axis))
        largest = self.e.take(top)
        self.e.put(top, 0)
        R = self.sum(self.e)
        self.e.put(top, largest)
        return R, top


def _one_aside(z: Array, t: Array) -> tuple[Any, ...]:
    """For each label Q, the sum of exp(z − m) without the label's own, which is `mine`; S = Q + mine; and the surprise c.

    No digit is lost where the label has nearly all of the probability: Q is a sum of small numbers then, and c is ln(1 + Q/mine).
    The signal is exp(z − m)/S, but −Q/S at the label: it comes without the 1/S, in rows.

    float32 does not need m: in float64, exp of most logits neither overflows nor comes near to 0. Where one does, S/mine and
    1/mine tell (which are NaN, too, where there is an ∞), and it is done again with m.
    """
    n, k = z.shape
    few = k <= FEW
    if z.dtype.itemsize < 8:
        e = z.T.astype(np.float64, order="C") if few else z.astype(np.float64)
        at = t * n + _count(n) if few else _count(n) * k + t
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            np.exp(e, e)
            mine = e.take(at)
            e.put(at, 0)
            Q = np.add.reduce(e, 0 if few else 1)
            S, less = Q + mine, np.reciprocal(mine)
            if (S + number(1e-80, S.dtype)).dot(less) < 1e200:
                e.put(at, -Q)
                return e.T if few else e, Q, mine, S, np.log1p(Q * less)
    rows = _Classes(z)
    at = rows.at(t)
    mine = rows.e.take(at)
    rows.e.put(at, 0)
    Q = rows.sum(rows.e)
    rows.e.put(at, -Q)
    return rows.signal(rows.e), Q, mine, Q + mine, np.log1p(Q + (mine - 1)) - rows.d.take(at)


def _one_pass(z: Array, t: Array) -> tuple[Any, ...]:
    if t.ndim == 2:
        return _soft_pass(z, t)
    signal, _, _, S, c = _one_aside(z, t)
    return c, signal, np.reciprocal(S)


def _soft_pass(z: Array, t: Array) -> tuple[Any, ...]:
    """The signal is p·Σt − t, as ((Σt − t)·exp(z − m) − t·Q)/S, Q being the sum over the other classes."""
    rows = _Classes(z)
    e, d, t = rows.e, rows.d, rows.laid(t)
    R, top = rows.all_but_the_largest()
    Q = rows.along(1 + R) - e
    Q.put(top, R)
    total = rows.sum(t)
    c = rows.sum(t * np.where(t == 0, 0, -d)) + total * np.log1p(R)
    return c, rows.signal((rows.along(total) - t) * e - t * Q), 1 / (1 + R)


def _soft_target(z: Array, t: Array) -> Array:
    rows = _Classes(z)
    return rows.signal(rows.along(np.log1p(rows.all_but_the_largest()[0])) - rows.d)


surprise = loss("cross_entropy(z, t)", _surprise, _surprise_z, _surprise_t,
                core=_exact(_one_pass, _soft_target, otherwise=_surprise), classes=True, name="cross_entropy")  # fmt: skip


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


def _softmax_focal_t(z: Any, t: Any, gamma: float) -> Any:
    return -np.exp(gamma * _focal_parts(z, t)[2]) * z


def _softmax_focal_pass(z: Array, t: Array, gamma: float) -> tuple[Any, ...]:
    """The signal is w·exp(z − m)/Q, and −w at the label, w = q^γ (q + γ p_t c); w/Q = q^γ (1 + γ c exp(z_t − m)/Q)/S."""
    if t.ndim == 2:
        return _softmax_focal(z, t, gamma), _softmax_focal_z(z, t, gamma), np.ones(len(z))
    signal, Q, mine, S, c = _one_aside(z, t)
    far = _power(Q / S, gamma)
    alone = Q == 0
    ratio = np.where(alone, 1, mine * np.minimum(c, 1e300) / np.where(alone, 1, Q))  # (0 · ∞ is 0 here)
    return far * c, signal, far * (1 + gamma * ratio) / S


softmax_focal = loss(
    "softmax_focal(z, t)", _softmax_focal, _softmax_focal_z, _softmax_focal_t,
    core=_exact(_softmax_focal_pass, _softmax_focal_t, otherwise=_softmax_focal), classes=True, name="focal_loss",
)  # fmt: skip

# ----- Divergence -----


def _pointwise(x: Array, t: Array) -> tuple[Any, ...]:
    """0 · ln 0 is 0, also where x is −∞."""
    x, t = _wide(x), _wide(t)
    never = t == 0
    return t * (np.log(np.where(never, 1, t)) - np.where(never, 0, x)), -t, None


def _pointwise_t(x: Array, t: Array) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):  # at t = 0 it is −∞
        return np.log(_wide(t)) + 1 - x


def _log_parts(x: Array, t: Array) -> tuple[Array, Array]:
    x, t = _wide(x), _wide(t)
    p = np.exp(t)
    never = p == 0
    return p, np.where(never, 0, t) - np.where(never, 0, x)


def _pointwise_log(x: Array, t: Array) -> tuple[Any, ...]:
    p, u = _log_parts(x, t)
    return p * u, -p, None


def _pointwise_log_t(x: Array, t: Array) -> Any:
    p, u = _log_parts(x, t)
    return p * (u + 1)


kl = loss("kl_div(x, t)", lambda x, t: t * (np.log(t) - x), lambda x, t: -t, lambda x, t: np.log(t) + 1 - x,
          core=_exact(_pointwise, _pointwise_t), name="kl_div")  # fmt: skip
kl_log = loss("kl_div_log_target(x, t)", lambda x, t: np.exp(t) * (t - x), lambda x, t: -np.exp(t), lambda x, t: np.exp(t) * (t - x + 1),
              core=_exact(_pointwise_log, _pointwise_log_t), name="kl_div_log_target")  # fmt: skip


def _kl_logits(z: Any, w: Any) -> Any:
    return np.sum(part("p", softmax(w)) * (log_softmax(w) - log_softmax(z)), axis=-1)


def _kl_logits_z(z: Any, w: Any) -> Any:
    return part("q", softmax(z)) - part("p", softmax(w))


def _kl_logits_w(z: Any, w: Any) -> Any:
    p, u = part("p", softmax(w)), part("u", log_softmax(w) - log_softmax(z))
    return p * (u - np.sum(p * u, axis=-1, keepdims=True))


# 1/2!, −1/3!, 1/4!, …: (u + exp(−u) − 1)/u²
SERIES = [1.0 / (1 if n % 2 == 0 else -1) / float(np.prod(np.arange(1.0, n + 3))) for n in range(15)]


def _excess(u: Array, terms: int) -> Array:
    """u + exp(−u) − 1 ≥ 0, to the last digit near 0 too, where it is u²/2 − u³/6 + …"""
    small = np.clip(u, -0.5, 0.5)
    near = np.full_like(u, SERIES[terms - 1])
    for c in SERIES[terms - 2 :: -1]:
        near *= small
        near += c
    near *= small
    near *= small
    away = np.abs(u) > 0.5
    return np.where(away, u + np.expm1(-np.maximum(u, -2)), near) if away.any() else near


TINY = float(np.finfo(np.float64).tiny)


def _compared(z: Array, w: Array) -> tuple[Any, ...]:
    """q, p, u = ln p − ln q, and where u was found without cancelling. With x = w − z, less that of the likeliest class k, u is
    x − ln Z, Z = Σ q exp x = q_k/p_k: near p = q all is as small as x. Far from it ln p − ln q loses less: of the two, the one
    whose terms are smaller is taken, class by class."""
    student, teacher = _Classes(z), _Classes(w)
    along = student.along
    (Rq, _), (Rp, _) = student.all_but_the_largest(), teacher.all_but_the_largest()
    q, p = student.e / along(1 + Rq), teacher.e / along(1 + Rp)
    ln_q, ln_p = student.d - along(np.log1p(Rq)), teacher.d - along(np.log1p(Rp))
    a, b = teacher.z, student.z
    x = a - b
    k = student.at(np.argmax(student.d + teacher.d, student.axis))
    back = x - a
    lost = (a - (x - back)) - (b + back)  # what a − b lost in rounding
    lost -= along(lost.take(k))
    x -= along(x.take(k))
    x += lost
    never = p == 0
    masked = never.any()
    away = np.where(never, -1, np.expm1(x)) if masked else np.expm1(x)
    more = student.sum(q * away)  # Z − 1
    bound = np.abs(x) * np.maximum(away + 1, 1)
    if masked:
        bound[never] = 0
    wrong = student.sum(q * (3 * np.abs(away) + bound))  # in ULP of 1
    ln_qk, ln_pk = ln_q.take(k), ln_p.take(k)
    near = wrong <= (1 + more) * (np.abs(ln_qk) + np.abs(ln_pk))
    if np.min(q, initial=1) < TINY:  # of a class too small for q, exp x could be anything
        near &= ~((q < TINY) & ~never).any(student.axis)
    ln_Z = np.where(near, np.log1p(np.where(near, more, 0)), ln_qk - ln_pk)
    size = np.abs(x) + along(np.abs(ln_Z))
    straight = size < -(ln_p + ln_q)
    u = x - along(ln_Z)
    if not straight.all():
        u = np.where(straight, u, ln_p - ln_q)
    if masked:
        u[never] = -np.inf
    return student, q, p, u, size < 1


def _divergence(z: Array, w: Array) -> tuple[Any, ...]:
    """Σ p u, as Σ p (u + exp(−u) − 1), which adds Σ (q − p) = 0: no term is negative then, and none cancels. Where u < −1, p is
    small beside q, and a term is q + p (u − 1)."""
    # (What is ignored are masked classes, and rows that are not close.)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        rows, q, p, u, close = _compared(z, w)
        terms = p * _excess(u, 15 if z.dtype.itemsize >= 8 else 8)
        below = u < -1
        if below.any():
            terms = np.where(below, q + p * (np.maximum(u, -1e300) - 1), terms)
        s = q - p
        if close.any():  # there they may nearly agree
            fall = np.expm1(-np.abs(u))
            s = np.where(close, np.where(u > 0, p, -q) * fall, s)
    return rows.sum(terms), rows.signal(s), np.ones(rows.n)


def _divergence_w(z: Array, w: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        rows, _, p, u, _ = _compared(z, w)
        u = np.where(p == 0, 0, u)
        s: Array = rows.signal(p * (u - rows.along(_divergence(z, w)[0])))
        return s


kl_logits = loss("kl(z, w)", _kl_logits, _kl_logits_z, _kl_logits_w,
                 core=_exact(_divergence, _divergence_w, otherwise=_kl_logits), classes=True, name="kl_div_with_logits")  # fmt: skip

# ----- How they are written down -----

for _row in (mse, l1, bernoulli, logistic, kl, kl_log):
    sample(_row, (3,), (3,), output="L")
sample(huber, (3,), (3,), output="L", delta=("δ", 1.0))
sample(smooth_l1, (3,), (3,), output="L", beta=("β", 1.0))
sample(focal, (3,), np.array([1.0, 0.0, 1.0]), output="L", gamma=("γ", 2.0), alpha=("α", 0.25))
sample(surprise, (2, 3), np.eye(2, 3, dtype=int), output="L")
sample(softmax_focal, (2, 3), np.eye(2, 3, dtype=int), output="L", gamma=("γ", 2.0))
sample(kl_logits, (2, 3), (2, 3), output="L")
