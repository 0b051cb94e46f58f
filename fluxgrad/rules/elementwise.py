"""The elementwise rows: y, and ẏ_x for each input, in the output y where that reads better.

A row's value is NumPy's own function wherever NumPy has it. `choice` is what we chose at a kink.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fluxgrad.rules.kinds import Constant, elementwise, one, part, stands_for, zeros

PI = Constant("π", math.pi)
LN2 = Constant("ln 2", math.log(2))
LN10 = Constant("ln 10", math.log(10))
DEGREE = Constant("π/180", math.pi / 180)
RADIAN = Constant("180/π", 180 / math.pi)
SQRT_2_OVER_PI = Constant("√(2/π)", math.sqrt(2 / math.pi))


def nothing(y: Any, *inputs: Any) -> int:
    """The local fluxion of what stays put when its input wiggles."""
    return 0


# ----- Steps: flat between their jumps -----

_flat = "0 at a jump, as everywhere"
sign = elementwise("sign x", np.sign, nothing, choice=_flat)
floor = elementwise("⌊x⌋", np.floor, nothing, choice=_flat)
ceil = elementwise("⌈x⌉", np.ceil, nothing, choice=_flat)
trunc = elementwise("trunc x", np.trunc, nothing, choice=_flat)
rint = elementwise("rint x", np.rint, nothing, choice=_flat)
floor_divide = elementwise("⌊x/w⌋", np.floor_divide, nothing, nothing, choice=_flat)
heaviside = elementwise("H(x, w)", np.heaviside, nothing, lambda y, x, w: x == 0, choice=_flat)
round_ = elementwise("round x", lambda x, decimals=0: np.round(x, decimals), lambda y, x, decimals=0: 0, choice=_flat)


def _share(x: Any, w: Any) -> Any:
    above = np.greater(x, w).astype(np.result_type(x, w))
    return np.where(x == w, above + 0.5, above)


share = elementwise("share(x, w)", _share, nothing, nothing, choice="½ each at a tie")

# ----- Arithmetic (add, subtract, negative are linear rows) -----

multiply = elementwise("x·w", np.multiply, lambda y, x, w: w, lambda y, x, w: x)
divide = elementwise("x/w", np.divide, lambda y, x, w: 1 / w, lambda y, x, w: -y / w)
square = elementwise("x²", np.square, lambda y, x: 2 * x)
reciprocal = elementwise("1/x", np.reciprocal, lambda y, x: -y * y)
sqrt = elementwise("√x", np.sqrt, lambda y, x: 0.5 / y, choice="+∞ at 0, its one-sided value")
cbrt = elementwise("∛x", np.cbrt, lambda y, x: 1 / (3 * y * y), choice="+∞ at 0")


def _power_x(y: Any, x: Any, w: Any) -> Any:
    return w * np.power(np.where(np.logical_and(x == 0, w == 0), 1, x), w - 1)


def _power_w(y: Any, x: Any, w: Any) -> Any:
    return np.where(x == 0, 0, y * np.log(np.where(x == 0, 1, x)))


power = elementwise("x^w", np.power, _power_x, _power_w, choice="ẏ_x = 0 at x = w = 0; ẏ_w = 0 at x = 0")
float_power = elementwise("x^w", np.float_power, _power_x, _power_w, choice=power.choice)
remainder = elementwise("x mod w", np.remainder, lambda y, x, w: 1, lambda y, x, w: -np.floor_divide(x, w),
                        choice="from above at a jump")  # fmt: skip
fmod = elementwise("fmod(x, w)", np.fmod, lambda y, x, w: 1, lambda y, x, w: np.rint((y - x) / w),
                   choice="from above at a jump")  # fmt: skip

# ----- Exponentials and logarithms -----

exp = elementwise("exp x", np.exp, lambda y, x: y)
exp2 = elementwise("2^x", np.exp2, lambda y, x: y * LN2)
expm1 = elementwise("exp x − 1", np.expm1, lambda y, x: y + 1)
log = elementwise("ln x", np.log, lambda y, x: 1 / x)
log2 = elementwise("log₂ x", np.log2, lambda y, x: 1 / (x * LN2))
log10 = elementwise("log₁₀ x", np.log10, lambda y, x: 1 / (x * LN10))
log1p = elementwise("ln(1 + x)", np.log1p, lambda y, x: 1 / (1 + x))
logaddexp = elementwise("ln(exp x + exp w)", np.logaddexp, lambda y, x, w: np.exp(x - y), lambda y, x, w: np.exp(w - y))
logaddexp2 = elementwise(
    "log₂(2^x + 2^w)", np.logaddexp2, lambda y, x, w: np.exp2(x - y), lambda y, x, w: np.exp2(w - y),
)  # fmt: skip

# ----- Trigonometric and hyperbolic, and their inverses -----


_tanh_of, _subtract = np.tanh, np.subtract  # bound once: NumPy's module takes its time to find a name


def _tanh(x: Any) -> tuple[Any, Any]:
    y = _tanh_of(x)
    return y, (y if x.ndim else None)


def _tanh_back(g: Any, y: Any, room: Any) -> Any:
    """In place, which takes half the time."""
    d = y * y
    _subtract(one[d.dtype], d, d)
    d *= g
    return d


sin = elementwise("sin x", np.sin, lambda y, x: np.cos(x))
cos = elementwise("cos x", np.cos, lambda y, x: -np.sin(x))
tan = elementwise("tan x", np.tan, lambda y, x: 1 + y * y)
arcsin = elementwise("arcsin x", np.arcsin, lambda y, x: 1 / np.sqrt(1 - x * x))
arccos = elementwise("arccos x", np.arccos, lambda y, x: -1 / np.sqrt(1 - x * x))
arctan = elementwise("arctan x", np.arctan, lambda y, x: 1 / (1 + x * x))
arctan2 = elementwise(
    "arctan2(x, w)", np.arctan2, lambda y, x, w: w / (x * x + w * w), lambda y, x, w: -x / (x * x + w * w),
)  # fmt: skip
sinh = elementwise("sinh x", np.sinh, lambda y, x: np.cosh(x))
cosh = elementwise("cosh x", np.cosh, lambda y, x: np.sinh(x))
tanh = elementwise("tanh x", np.tanh, lambda y, x: 1 - y * y, kernel=(_tanh, [_tanh_back]))
arcsinh = elementwise("arcsinh x", np.arcsinh, lambda y, x: 1 / np.sqrt(1 + x * x))
arccosh = elementwise("arccosh x", np.arccosh, lambda y, x: 1 / np.sqrt(x * x - 1))
arctanh = elementwise("arctanh x", np.arctanh, lambda y, x: 1 / (1 - x * x))
degrees = elementwise("x in degrees", np.degrees, lambda y, x: RADIAN)
rad2deg = elementwise("x in degrees", np.rad2deg, lambda y, x: RADIAN)
radians = elementwise("x in radians", np.radians, lambda y, x: DEGREE)
deg2rad = elementwise("x in radians", np.deg2rad, lambda y, x: DEGREE)


def _sinc_x(y: Any, x: Any) -> Any:
    """(cos πx − sinc x)/x; near 0, where that cancels, its series, so that every further fluxion is right there too."""
    near = np.abs(x) < 0.5
    away = np.where(near, 1, x)
    u = part("u", np.where(near, PI * x, 0))
    series, term = 0 * u, -u / 3 * PI
    for k in range(1, 16):
        series = series + term
        term = -term * (u * u) * (k + 1) / (k * (2 * k + 2) * (2 * k + 3))
    return np.where(near, part("s", series), (np.cos(PI * away) - np.sinc(away)) / away)


sinc = elementwise("sin πx / πx", np.sinc, _sinc_x)
hypot = elementwise(
    "√(x² + w²)", np.hypot,
    lambda y, x, w: x / np.where(y == 0, np.inf, y),
    lambda y, x, w: w / np.where(y == 0, np.inf, y), choice="0 at (0, 0)",
)  # fmt: skip

# ----- Kinks -----

absolute = elementwise("|x|", np.absolute, lambda y, x: np.sign(x), choice="0 at 0")
fabs = elementwise("|x|", np.fabs, lambda y, x: np.sign(x), choice="0 at 0")
copysign = elementwise("copysign(x, w)", np.copysign, lambda y, x, w: np.sign(x) * np.copysign(1, w), nothing,
                       choice="0 at x = 0")  # fmt: skip
maximum = elementwise("max(x, w)", np.maximum, lambda y, x, w: share(x, w), lambda y, x, w: share(w, x),
                      choice="½ each at a tie")  # fmt: skip
minimum = elementwise("min(x, w)", np.minimum, lambda y, x, w: share(w, x), lambda y, x, w: share(x, w),
                      choice="½ each at a tie")  # fmt: skip
fmax = elementwise(
    "fmax(x, w)", np.fmax,
    lambda y, x, w: np.where(np.isnan(w), 1, share(x, w)),
    lambda y, x, w: np.where(np.isnan(x), 1, share(w, x)), choice="½ each at a tie; NaN never wins",
)  # fmt: skip
fmin = elementwise(
    "fmin(x, w)", np.fmin,
    lambda y, x, w: np.where(np.isnan(w), 1, share(w, x)),
    lambda y, x, w: np.where(np.isnan(x), 1, share(x, w)), choice="½ each at a tie; NaN never wins",
)  # fmt: skip
clip = elementwise(
    "clip(x, a, b)", np.clip,
    lambda y, x, a, b: np.logical_and(a <= x, x <= b),
    lambda y, x, a, b: np.logical_and(x < a, a <= b),
    lambda y, x, a, b: np.logical_or(x > b, a > b), choice="ẏ_x = 1 on a bound",
)  # fmt: skip

# ----- What NumPy lacks -----


def _relu(x: Any) -> Any:
    return np.maximum(x, 0)


def _relu_forward(x: Any) -> tuple[Any, Any]:
    """Against kept zeros of x's own shape, which takes a third of the time that the number 0 takes."""
    y = np.maximum(x, zeros(x.shape, x.dtype) if x.size <= 2**17 else 0)
    return y, (y if x.ndim else None)


def _relu_back(g: Any, y: Any, room: Any) -> Any:
    """Through a mask of floats: a product with bools converts them one by one."""
    mask = (y > 0).astype(g.dtype)
    mask *= g
    return mask


def _sigmoid(x: Any) -> Any:
    e = part("e", np.exp(-np.abs(x)))  # never above 1: nothing overflows, and the small side keeps its digits
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu_gate(x: Any) -> Any:
    return np.tanh(SQRT_2_OVER_PI * x * (1 + 0.044715 * x * x))


def _gelu_x(y: Any, x: Any) -> Any:
    h = part("h", _gelu_gate(x))
    return 0.5 * (1 + h) + 0.5 * x * (1 - h * h) * (SQRT_2_OVER_PI * (1 + 0.044715 * (3 * x * x)))


relu = elementwise("relu x", _relu, lambda y, x: x > 0, choice="0 at 0",
                   kernel=(_relu_forward, [_relu_back]))  # fmt: skip
sigmoid = elementwise("σ(x)", _sigmoid, lambda y, x: y * (1 - y), name="sigmoid")
softplus = elementwise("softplus x", _softplus, lambda y, x: sigmoid(x))
gelu = elementwise("gelu x", lambda x: 0.5 * x * (1 + part("h", _gelu_gate(x))), _gelu_x)

stands_for(np.round, np.around)(round_)


@stands_for(np.fix)
def fix(x: Any) -> Any:
    return np.trunc(x)


@stands_for(np.clip)
def clip_(x: Any, a_min: Any = None, a_max: Any = None, **named: Any) -> Any:
    a = named.pop("min", a_min)
    b = named.pop("max", a_max)
    if named:
        raise TypeError(f"np.clip: {', '.join(named)}= has no fluxion here; leave it out")
    least, most = (-np.inf, np.inf) if x.dtype.kind == "f" else (int(np.iinfo(x.dtype).min), int(np.iinfo(x.dtype).max))
    return clip(x, least if a is None else a, most if b is None else b)


@stands_for(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    largest = np.finfo(x.dtype).max
    x = np.where(np.isnan(x), nan, x)
    x = np.where(np.isposinf(x), float(largest) if posinf is None else posinf, x)
    return np.where(np.isneginf(x), -float(largest) if neginf is None else neginf, x)


@stands_for(np.real, np.real_if_close, np.conj, np.copy)
def itself(x: Any, **how: Any) -> Any:
    return +x


@stands_for(np.divmod)
def divmod_(x: Any, w: Any) -> Any:
    return np.floor_divide(x, w), np.remainder(x, w)
