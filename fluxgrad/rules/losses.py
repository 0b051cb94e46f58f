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
from fluxgrad.rules.kinds import Fused, fused, number, ones, part, sample
from fluxgrad.rules.linear import over

Array = NDArray[Any]
Core = Callable[..., tuple[Any, Any]]
_INTP, _SINGLE, _DOUBLE = np.dtype(np.intp), np.dtype(np.float32), np.dtype(np.float64)

# ----- A loss from its core -----


def loss(
    form: str,
    value: Callable[..., Any],
    *signals: Callable[..., Any],
    core: Core | None = None,
    to_target: Callable[..., Any] | None = None,
    classes: bool = False,
    name: str,
    choice: str | None = None,
) -> Fused:
    """A loss's row: the value and the signals of one example, and the reduction, which every loss shares.

    `classes`: an example is a row of classes, not one number. `core` computes both at once where digits or speed ask for it,
    of arrays of one shape and dtype: core(z, t, by, **options) gives the sum of the losses, and the signal times `by`, in z's
    dtype; for by = None the loss of each example, and the signal, both perhaps with more digits than z has (the option `wide`
    hands the losses out with them). to_target(z, t, **options) is the target's signal, where it is not just the other's,
    turned round.
    """

    def examples(x: Array) -> int:
        return x.size // x.shape[-1] if classes and x.size else x.size

    def reduced(*inputs: Any, reduction: str = "none", wide: bool = False, **options: Any) -> Any:
        losses = value(*inputs, **options)
        if reduction == "mean":
            return np.mean(losses) if losses.size else np.sum(losses) * np.nan
        return np.sum(losses) if reduction == "sum" else losses

    def pull_of(signal: Callable[..., Any]) -> Callable[..., Any]:
        def pull(g: Any, L: Any, *inputs: Any, reduction: str = "none", wide: bool = False, **options: Any) -> Any:
            if reduction == "mean":
                g = over(g, max(examples(inputs[0]), 1))
            if reduction == "none" and classes:
                g = np.expand_dims(g, -1)
            s = signal(*inputs, **options)
            return None if s is None else g * s

        return pull

    run: Any = core  # (asked only where there is one)

    def forward(z: Array, t: Array, reduction: str = "none", wide: bool = False, **options: Any) -> tuple[Any, Any]:
        if classes:
            fits = z.ndim == 2 and (
                t.ndim == 1 if t.dtype is _INTP else z.shape == t.shape and t.dtype in (z.dtype, _DOUBLE)
            )
        else:
            fits = z.dtype is t.dtype and z.shape == t.shape
        if not fits:
            return reduced(z, t, reduction=reduction, **options), None
        by = None if reduction == "none" else 1.0
        if reduction == "mean":
            n = examples(z)
            by = 1 / (n or 1)
        L, signal = run(z, t, by, **options)
        if reduction == "mean":
            L = L / n if n else L * np.nan
        if not wide and L.dtype is not z.dtype:
            L = L.astype(z.dtype)
        return L, ([signal], by, z, t, options)

    def back(g: Any, saved: Any, room: Any) -> Array:
        ready, by, z, t, options = saved
        if by is None:
            return _rounded(ready[0], g, z)
        g = g.item() * by
        # It is given away once, since it may be written to; and for another factor a rounded product is not rounded again.
        signal = ready.pop() if ready and g == by else run(z, t, g, **options)[1]
        return signal if type(signal) is np.ndarray else np.asarray(signal, z.dtype)

    def back_to_target(g: Any, saved: Any, room: Any) -> Array:
        _, by, z, t, options = saved
        if to_target is None:
            return np.negative(back(g, saved, room))
        return _rounded(to_target(z, t, **options), g if by is None else g.item() * by, t)

    kernel = (forward, [back, back_to_target]) if core else None
    row = fused(form, reduced, *map(pull_of, signals), kernel=kernel, name=name, choice=choice)
    code = value.__code__
    row._options = ("reduction", *code.co_varnames[len(signals) : code.co_argcount])
    return row


def _rounded(signal: Array, g: Any, like: Array) -> Array:
    """A signal, perhaps of more digits, times what arrives, rounded to the dtype of the input."""
    if type(g) is float:
        g = number(g, signal.dtype)  # (a ufunc takes a kept array in half the time of a Python number)
    rounded: Array = np.empty_like(signal, like.dtype)
    if 0 < g.ndim < signal.ndim:
        _send(signal, g, rounded)
    else:
        np.multiply(signal, g, rounded)
    return rounded


def _send(signal: Array, by: Array, out: Array) -> None:
    """Signals in rows, each times its own number, rounded to the dtype of `out`."""
    if signal.shape[1] <= FEW:
        np.multiply(signal, by[:, None], out)
        return
    with np.errstate():
        _one_row_at_once(signal.shape[1])
        np.multiply(signal, by[:, None], out)


def _one_row_at_once(k: int) -> None:
    """NumPy copies one number a row to the length of as many rows as fit its buffer, which costs more than the product: now one
    row fits, until `errstate` puts the size back."""
    if FEW < k < np.getbufsize():
        np.setbufsize(-(-k // 16) * 16)


RUN = 1024  # so many products are added one after the other; more, in pairs of such sums, which keeps their digits


def _dot(a: Array, b: Array) -> Any:
    """Σ a·b. What float32 cannot hold, a mean may still: then it is added in float64, as float16 always is."""
    if a.dtype.char == "e":
        a, b = a.astype(np.float32), b.astype(np.float32)
    if a.size <= RUN:
        total = np.vdot(a, b)
    else:
        same, a = a is b, a.ravel()
        b = a if same else b.ravel()
        n = a.size - a.size % RUN
        runs = np.vecdot(a[:n].reshape(-1, RUN), b[:n].reshape(-1, RUN))
        total = np.add.reduce(runs, None, np.promote_types(a.dtype, np.float64)) + a[n:].dot(b[n:])
    if not abs(total) < np.inf and a.dtype.itemsize < 8:
        total = np.vdot(a.astype(np.float64), b.astype(np.float64))
    return total


def _scaled(s: Any, by: float | None) -> Any:
    """A fresh signal times `by`, if there is one; in float16 the factor of a mean would soon be 0."""
    if by is not None:
        s *= number(by, s.dtype if s.dtype.itemsize > 2 else _SINGLE)
    return s


def _total(a: Array) -> Any:
    if a.size <= RUN and a.dtype is _DOUBLE:  # (for few, `reduce` takes three times as long)
        return a.ravel().dot(ones(a.size, a.dtype))
    return np.add.reduce(a, None, np.promote_types(a.dtype, np.float64))


# ----- Regression -----


def _squared(p: Array, t: Array, by: float | None) -> tuple[Any, Any]:
    e = p - t
    if by is None:
        return e * e, 2 * e
    total = _dot(e, e)
    return total, _scaled(e, 2 * by)


def _absolute(p: Array, t: Array, by: float | None) -> tuple[Any, Any]:
    e = p - t
    L = np.abs(e)
    return L if by is None else _total(L), _scaled(np.sign(e), by)


def _clipped(p: Array, t: Array, by: float | None, delta: float) -> tuple[Any, Any]:
    """d = clip(r, −δ, δ) is the signal, and L = d·(r − d/2) on both sides of δ."""
    r = p - t
    d = r.clip(-delta, delta)  # (`where` on an unpredictable mask costs thirty times as much)
    L = _less_half(d, d, r, by is not None)
    return L, _scaled(d, by)


def _smoothed(p: Array, t: Array, by: float | None, beta: float) -> tuple[Any, Any]:
    """s = d/β is the signal, d = clip(r, −β, β), and L = s·(r − d/2): r² is not made, which could underflow."""
    r = p - t
    d = r.clip(-beta, beta)
    s = d / beta
    L = _less_half(s, d, r, by is not None)
    return L, _scaled(s, by)


def _less_half(s: Array, d: Array, r: Array, summed: bool) -> Any:
    """s·(r − d/2), or its sum."""
    if summed:
        with np.errstate(over="ignore", invalid="ignore"):
            total = _dot(s, r) - 0.5 * _dot(s, d)
        if total < np.inf:  # else ∞ − ∞ may be what is left of a finite sum
            return total
    each = s * (r - 0.5 * d)
    return _total(each) if summed else each


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
           core=_squared, name="mse_loss")  # fmt: skip
l1 = loss("|p − t|", lambda p, t: np.abs(p - t), lambda p, t: np.sign(p - t), lambda p, t: -np.sign(p - t),
          core=_absolute, name="l1_loss", choice="0 at p = t")  # fmt: skip
huber = loss("huber(p − t)", _huber, _huber_signal, lambda p, t, delta: -_huber_signal(p, t, delta),
             core=_clipped, name="huber_loss", choice="at |p − t| = δ both sides agree")  # fmt: skip
smooth_l1 = loss("smooth_l1(p − t)", _smooth, _smooth_signal, lambda p, t, beta: -_smooth_signal(p, t, beta),
                 core=_smoothed, name="smooth_l1_loss", choice="at |p − t| = β both sides agree")  # fmt: skip

# ----- In float64, and rounded once -----


def _wide(x: Array) -> Array:
    """As float64, or more; a copy only where it must be."""
    return x.astype(np.float64) if x.dtype.itemsize < 8 else x


def _exact(core: Callable[..., Any], piece: int = 16_000, classes: bool = False) -> Core:
    """A core that computes with more digits than it is given, so many numbers at a time, so that they stay in a cache (and
    16,000 of them in 128 kB: for more, malloc may ask the system anew each time).

    core(z, t, by, out, **options) gives the loss of each example, and writes the signal times `by` to `out`, which rounds it.
    It sees flat arrays of one shape, or rows of classes, and rows or labels.
    """

    def run(z: Array, t: Array, by: float | None, **options: Any) -> tuple[Any, Array]:
        x, y = (z, t) if classes else (z.reshape(-1), t.reshape(-1))
        n, wide = len(x), np.promote_types(z.dtype, np.float64)
        dtype, factor = (wide, 1.0) if by is None else (z.dtype, by)
        few = classes and z.shape[1] <= FEW
        signal = np.empty(x.shape[::-1], dtype).T if few else np.empty(x.shape, dtype)
        step = max(piece // max(z.shape[1], 1), 1) if classes else piece
        if n <= step:
            values = core(x, y, factor, signal, **options)
        else:
            values = np.empty(n, wide)
            for k in range(0, n, step):
                part = slice(k, k + step)
                values[part] = core(x[part], y[part], factor, signal[part], **options)
        if by is not None:
            values = _total(values)
        elif not classes:
            values = values.reshape(z.shape)
        return values, signal if classes else signal.reshape(z.shape)

    return run


# ----- Two classes -----


FAR = 700.0  # exp of it is not infinite


def _odds(away: Array) -> tuple[Array, Array, Array]:
    """Of −s, s the logit of the true class: exp(−s), the odds against it; 1 + exp(−s); and c = ln(1 + exp(−s)), its surprise."""
    e = _wide(np.clip(away, None, FAR))
    np.exp(e, e)
    return e, e + 1, np.log1p(e)


def _beyond(c: Array, away: Array) -> None:
    """There exp(−s) is infinite, and c is −s."""
    beyond = away > FAR
    if beyond.any():
        c[beyond] = away[beyond]


def _logistic(z: Array, t: Array, by: float, out: Array) -> Any:
    """From the nearer label, 0 or 1, of which t is at most ½ away, by d: L is the surprise at the label, less d·z, and the signal
    that of the label, less d. All but d·z and the exponential is exact in the dtype of the input. Labels have no d."""
    label = np.rint(t.clip(0, 1))
    d = t - label
    side = 1 - (label + label)
    away = z * side
    e, more, c = _odds(away)
    e /= more
    e *= _wide(side)
    soft = d.any()
    if soft:
        d = _wide(d)
        e -= d
    np.multiply(e, by, out)
    _beyond(c, away)
    if soft and np.isfinite(z).all():
        d *= _wide(z)
        c -= d
    elif soft:  # 0 · ∞ is 0 here
        finite = np.isfinite(z)
        c[finite] -= (d * np.where(finite, z, 0))[finite]
        c[~finite & (d != 0)] = np.inf
    return c


logistic = loss(
    "logistic(z, t)", lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    lambda z, t: (1 - t) * part("p", sigmoid(z)) - t * part("q", sigmoid(-z)),  # p − t, with no digit lost as p nears t
    lambda z, t: -z, core=_exact(_logistic), to_target=lambda z, t: -z, name="binary_cross_entropy_with_logits",
)  # fmt: skip


def _bernoulli(p: Array, t: Array, by: float, out: Array) -> Any:
    """At p = 0 or 1, 0 · ln 0 and 0/0 are 0, since what cannot happen does not count."""
    p, t = _wide(p), _wide(t)
    q, rest = 1 - p, 1 - t
    both = p * q
    if both.min(initial=1) > 0:
        np.divide(p - t, both, both)
        np.multiply(both, by, out)
        q = np.log(p, q)
        q *= t
        rest *= np.log1p(-p)
        q += rest
        return np.negative(q, q)
    p, q, low = np.where(t == 0, 1, p), np.where(t == 1, 1, q), np.where(t == 1, 0, p)
    with np.errstate(divide="ignore"):  # with the other label L is infinite, and so is its signal
        np.multiply(rest / q - t / p, by, out)
        return -(t * np.log(p)) - rest * np.log1p(-low)


def _log_odds(p: Array, t: Array) -> Any:
    p = _wide(p)
    with np.errstate(divide="ignore"):
        return np.log1p(-p) - np.log(p)


bernoulli = loss(
    "bernoulli(p, t)", lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)),
    lambda p, t: (1 - t) / (1 - p) - t / p, lambda p, t: np.log(1 - p) - np.log(p),
    core=_exact(_bernoulli), to_target=_log_odds, name="binary_cross_entropy",
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


def _focal_pass(z: Array, t: Array, by: float, out: Array, gamma: float, alpha: float | None = None) -> Any:
    """With s = (2t − 1)z, p = 1/(1 + exp(−s)) and q = p exp(−s): α_t q^γ c, and the signal (1 − 2t) α_t q^γ (γ p c + q).
    α_t (1 − 2t) is (1 − α) − t."""
    side = 1 - (t + t)
    away = z * side
    e, more, c = _odds(away)
    p = number(1, e.dtype) / more
    q = np.multiply(p, e, e)
    far = _power(q, gamma)
    far *= _wide(side) if alpha is None else (1 - alpha) - _wide(t)
    p *= c
    p *= gamma
    p += q
    p *= far
    np.multiply(p, by, out)
    _beyond(c, away)
    c *= np.abs(far, far)
    return c


focal = loss(
    "focal(z, t)", _focal,
    lambda z, t, gamma, alpha=None: (2 * t - 1) * _focal_s(z, t, gamma, alpha),
    lambda z, t, gamma, alpha=None: _focal_t(z, t, gamma, alpha),
    core=_exact(_focal_pass), to_target=lambda z, t, gamma, alpha=None: _focal_t(_wide(z), t, gamma, alpha), name="sigmoid_focal_loss",
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


MANY = 512_000  # numbers at once of rows of classes: what an outer cache holds; less costs more in calls than it saves
FEW = 64  # classes: NumPy reduces along the first axis several times faster than along a short last one


@lru_cache(16)
def _count(n: int) -> Array:
    return np.arange(n)


def _plain_rows(x: Array) -> Array:
    """A copy in float64, few classes first in memory, since NumPy then has one long loop a class instead of many short ones."""
    return x.T.astype(np.float64, order="C").T if x.shape[1] <= FEW else x.astype(np.float64)


def _at(labels: Array, n: int, k: int) -> Array:
    """Where each of n rows has its label, in memory that is laid out so."""
    return labels * n + _count(n) if k <= FEW else _count(n) * k + labels


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
        return _at(labels, self.n, self.shape)

    def sum(self, x: Array) -> Array:
        total: Array = np.add.reduce(x, self.axis)
        return total

    def along(self, x: Any) -> Any:
        """One number a row, to go with rows of classes."""
        return x[:, None] if self.axis else x

    def unlaid(self, x: Array) -> Array:
        return x if self.axis else x.T

    def all_but_the_largest(self) -> tuple[Array, Array]:
        """R = Σ exp(z − m) − 1, and where the largest are."""
        top = self.at(np.argmax(self.d, self.axis))
        largest = self.e.take(top)
        self.e.put(top, 0)
        R = self.sum(self.e)
        self.e.put(top, largest)
        return R, top


def _sure(value: Array, terms: Any, *sums: Array) -> Array:
    """Values, but NaN where they are less than 1e-7 of the terms that they are a sum of, or a sum of exponentials is near the
    ends of float64."""
    fine = value > 1e-7 * terms
    for S in sums:
        fine &= (S > 1e-140) & (S < 1e140)
    value[~fine] = np.nan
    return value


def _size(x: Array) -> float:
    return max(float(x.max(initial=0)), -float(x.min(initial=0)))


def _sparing(plain: Callable[..., Array], careful: Callable[..., Array]) -> Callable[..., Array]:
    """Of float32 rows, first as a formula stands there, in float64. That says NaN where too few of its digits are left for
    float32: of rows that nearly agree, and where an exponential is no normal number. Those are computed again with care."""

    def core(z: Array, t: Array, by: float, out: Array) -> Array:
        if z.dtype.itemsize >= 8:
            return careful(z, t, by, out)
        with np.errstate(all="ignore"):
            _one_row_at_once(z.shape[1])
            value = plain(z, t, by, out)
        again = np.flatnonzero(np.isnan(value))
        if again.size:
            part = np.empty((again.size, z.shape[1]), out.dtype)
            value[again] = careful(z[again], t[again], by, part)
            out[again] = part
        return value

    return core


def _one_aside(z: Array, t: Array) -> tuple[Any, ...]:
    """For each label Q, the sum of exp(z − m) without the label's own, which is `mine`; S = Q + mine; and the surprise c.

    No digit is lost where the label has nearly all of the probability: Q is a sum of small numbers then, and c is ln(1 + Q/mine).
    The signal is exp(z − m)/S, but −Q/S at the label: it comes without the 1/S, in rows.

    float32 does not need m: in float64, exp of most logits neither overflows nor comes near to 0. Where one does, S/mine and
    1/mine tell (which are NaN, too, where there is an ∞), and it is done again with m.
    """
    n, k = z.shape
    if z.dtype.itemsize < 8:
        e, at = _plain_rows(z), _at(t, n, k)
        laid = e.T if k <= FEW else e
        with np.errstate(all="ignore"):
            np.exp(laid, laid)
            mine = laid.take(at)
            laid.put(at, 0)
            Q = e.dot(ones(k, e.dtype))
            S, less = Q + mine, np.reciprocal(mine)
            if (S + number(1e-40, S.dtype)).dot(less) < 1e200:
                laid.put(at, -Q)
                less *= Q
                return e, Q, mine, S, np.log1p(less)
    rows = _Classes(z)
    at = rows.at(t)
    mine = rows.e.take(at)
    rows.e.put(at, 0)
    Q = rows.sum(rows.e)
    rows.e.put(at, -Q)
    return rows.unlaid(rows.e), Q, mine, Q + mine, np.log1p(Q + (mine - 1)) - rows.d.take(at)


def _soft_to_the_digit(z: Array, t: Array, by: float, out: Array) -> Any:
    """The signal is p·Σt − t, as ((Σt − t)·exp(z − m) − t·Q)/S, Q being the sum over the other classes."""
    rows = _Classes(z)
    e, d, t = rows.e, rows.d, rows.laid(t)
    R, top = rows.all_but_the_largest()
    Q = rows.along(1 + R) - e
    Q.put(top, R)
    total = rows.sum(t)
    _send(rows.unlaid((rows.along(total) - t) * e - t * Q), by / (1 + R), out)
    return rows.sum(t * np.where(t == 0, 0, -d)) + total * np.log1p(R)


def _soft_pass(z: Array, t: Array, by: float, out: Array) -> Array:
    """(Σt) ln S − Σ t z, S = Σ exp z, and p·Σt − t as they stand there."""
    a, t, each = _plain_rows(z), _plain_rows(t), ones(z.shape[1], _DOUBLE)
    e = np.exp(a)
    S, total = e.dot(each), t.dot(each)
    e *= (total / S)[:, None]
    e -= t
    np.multiply(e, by, out)
    a *= t
    return _sure(total * np.log(S) - a.dot(each), (1 + _size(z)) * total, S)


_soft = _sparing(_soft_pass, _soft_to_the_digit)


def _one_pass(z: Array, t: Array, by: float, out: Array) -> Any:
    if t.ndim == 2:
        return _soft(z, t, by, out)
    signal, _, _, S, c = _one_aside(z, t)
    _send(signal, by / S, out)
    return c


def _soft_target(z: Array, t: Array) -> Array:
    rows = _Classes(z)
    return rows.unlaid(rows.along(np.log1p(rows.all_but_the_largest()[0])) - rows.d)


surprise = loss("cross_entropy(z, t)", _surprise, _surprise_z, _surprise_t, core=_exact(_one_pass, MANY, True),
                to_target=_soft_target, classes=True, name="cross_entropy")  # fmt: skip


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


def _softmax_focal_pass(z: Array, t: Array, by: float, out: Array, gamma: float) -> Any:
    """The signal is w·exp(z − m)/Q, and −w at the label, w = q^γ (q + γ p_t c); w/Q = q^γ (1 + γ c exp(z_t − m)/Q)/S."""
    if t.ndim == 2:
        np.multiply(_softmax_focal_z(z, t, gamma), by, out)
        return _softmax_focal(z, t, gamma)
    signal, Q, mine, S, c = _one_aside(z, t)
    far = _power(Q / S, gamma)
    alone = Q == 0
    ratio = np.where(alone, 1, mine * np.minimum(c, 1e300) / np.where(alone, 1, Q))  # (0 · ∞ is 0 here)
    _send(signal, by * far * (1 + gamma * ratio) / S, out)
    return far * c


softmax_focal = loss(
    "softmax_focal(z, t)", _softmax_focal, _softmax_focal_z, _softmax_focal_t,
    core=_exact(_softmax_focal_pass, MANY, True), to_target=_softmax_focal_t, classes=True, name="focal_loss",
)  # fmt: skip

# ----- Divergence -----


def _pointwise(x: Array, t: Array, by: float, out: Array) -> Any:
    """0 · ln 0 is 0, also where x is −∞."""
    all_happen = t.min(initial=1) > 0
    x, t = _wide(x), _wide(t)
    np.multiply(t, -by, out)
    if all_happen:
        u = np.log(t)
        u -= x
    else:
        never = t == 0
        u = np.log(np.where(never, 1, t)) - np.where(never, 0, x)
    u *= t
    return u


def _pointwise_t(x: Array, t: Array) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):  # at t = 0 it is −∞
        return np.log(_wide(t)) + 1 - x


def _log_parts(x: Array, t: Array) -> tuple[Array, Array]:
    x, t = _wide(x), _wide(t)
    p = np.exp(t)
    if p.min(initial=1) > 0:
        return p, t - x
    never = p == 0
    return p, np.where(never, 0, t) - np.where(never, 0, x)


def _pointwise_log(x: Array, t: Array, by: float, out: Array) -> Any:
    p, u = _log_parts(x, t)
    np.multiply(p, -by, out)
    return p * u


def _pointwise_log_t(x: Array, t: Array) -> Any:
    p, u = _log_parts(x, t)
    return p * (u + 1)


kl = loss("kl_div(x, t)", lambda x, t: t * (np.log(t) - x), lambda x, t: -t, lambda x, t: np.log(t) + 1 - x,
          core=_exact(_pointwise), to_target=_pointwise_t, name="kl_div")  # fmt: skip
kl_log = loss("kl_div_log_target(x, t)", lambda x, t: np.exp(t) * (t - x), lambda x, t: -np.exp(t), lambda x, t: np.exp(t) * (t - x + 1),
              core=_exact(_pointwise_log), to_target=_pointwise_log_t, name="kl_div_log_target")  # fmt: skip


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


def _to_the_digit(z: Array, w: Array, by: float, out: Array) -> Any:
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
    np.multiply(s, by, out if rows.axis else out.T)
    return rows.sum(terms)


def _apart(z: Array, w: Array, by: float, out: Array) -> Array:
    """Σ p u and q − p as they stand there."""
    a, b, each = _plain_rows(z), _plain_rows(w), ones(z.shape[1], _DOUBLE)
    q, p = np.exp(a), np.exp(b)
    Sq, Sp = q.dot(each), p.dot(each)
    b -= a
    b -= np.log(Sp / Sq)[:, None]
    p *= (1 / Sp)[:, None]
    q *= (1 / Sq)[:, None]
    q -= p
    np.multiply(q, by, out)
    b *= p
    return _sure(b.dot(each), 1 + _size(z) + _size(w), Sq, Sp)


_divergence = _sparing(_apart, _to_the_digit)


def _divergence_w(z: Array, w: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        rows, _, p, u, _ = _compared(z, w)
        u = np.where(p == 0, 0, u)
        s: Array = rows.unlaid(p * (u - rows.along(_divergence(z, w, 1.0, np.empty_like(z)))))
        return s


kl_logits = loss("kl(z, w)", _kl_logits, _kl_logits_z, _kl_logits_w, core=_exact(_divergence, 100_000, True),
                 to_target=_divergence_w, classes=True, name="kl_div_with_logits")  # fmt: skip

# ----- How they are written down -----

for _row in (mse, l1, bernoulli, logistic, kl, kl_log):
    sample(_row, (3,), (3,), output="L")
sample(huber, (3,), (3,), output="L", delta=("δ", 1.0))
sample(smooth_l1, (3,), (3,), output="L", beta=("β", 1.0))
sample(focal, (3,), np.array([1.0, 0.0, 1.0]), output="L", gamma=("γ", 2.0), alpha=("α", 0.25))
sample(surprise, (2, 3), np.eye(2, 3, dtype=int), output="L")
sample(softmax_focal, (2, 3), np.eye(2, 3, dtype=int), output="L", gamma=("γ", 2.0))
sample(kl_logits, (2, 3), (2, 3), output="L")
