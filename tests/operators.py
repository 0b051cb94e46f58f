"""Python's signs, for an operand that answers NumPy's protocols: each is a ufunc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ARITHMETIC = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power, "mod": np.remainder,
    "floordiv": np.floor_divide, "matmul": np.matmul,
}  # fmt: skip
COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
OF_ONE = {"neg": np.negative, "pos": np.positive, "abs": np.absolute}


def give_operators(kind: type, call: Callable[..., Any]) -> None:
    """Let x + w of this kind be call(np.add, x, w), and so on; also with a plain number on the left."""
    for name, ufunc in (ARITHMETIC | COMPARISONS).items():
        setattr(kind, f"__{name}__", lambda x, w, u=ufunc: call(u, x, w))
    for name, ufunc in ARITHMETIC.items():
        setattr(kind, f"__r{name}__", lambda x, w, u=ufunc: call(u, w, x))
    for name, ufunc in OF_ONE.items():
        setattr(kind, f"__{name}__", lambda x, u=ufunc: call(u, x))
