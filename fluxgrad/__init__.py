"""fluxgrad: an operation is one row, and the same row is read as numbers, as a new graph, as a forward push, as ink and as source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxgrad import losses, nn, optim
from fluxgrad.rules.elementwise import gelu, relu, sigmoid, softplus
from fluxgrad.rules.fused import log_softmax, logsumexp, softmax
from fluxgrad.rules.kinds import elementwise, fused, linear, rules, seal
from fluxgrad.scope import scope
from fluxgrad.sweep import Flows, Step, flows, grad, hessian, jacobian, jvp, no_grad, value_and_grad, vjp
from fluxgrad.tensor import Tensor

if TYPE_CHECKING:
    from fluxgrad import design
    from fluxgrad.check import check_grads, check_rule
    from fluxgrad.design import loss_from_signal
    from fluxgrad.ink.explain import explain
    from fluxgrad.ink.wiggle import wiggle
    from fluxgrad.picture import draw, draw_network
    from fluxgrad.picture.history import History
    from fluxgrad.picture.player import play

seal()  # the names so far are built in

_LATER = {
    "check_grads": "check",
    "check_rule": "check",
    "explain": "ink.explain",
    "wiggle": "ink.wiggle",
    "draw": "picture",
    "draw_network": "picture",
    "play": "picture.player",
    "History": "picture.history",
    "loss_from_signal": "design",
}


def __getattr__(name: str) -> Any:
    """Load what computing does not need when it is first asked for."""
    if name in _LATER or name == "design":
        from importlib import import_module

        module = import_module(f"fluxgrad.{_LATER.get(name, name)}")
        return module if name == "design" else getattr(module, name)
    raise AttributeError(f"module 'fluxgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What a learner should find, what comes later too."""
    return sorted([*__all__, "__version__"])


# fmt: off
__all__ = [
    "Tensor", "no_grad",
    "grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian",
    "flows", "Flows", "Step", "rules", "elementwise", "linear", "fused", "check_grads", "check_rule", "explain", "wiggle",
    "relu", "sigmoid", "softplus", "gelu", "logsumexp", "softmax", "log_softmax",
    "losses", "loss_from_signal", "design", "nn", "optim", "scope", "draw", "draw_network", "play", "History",
]
# fmt: on

__version__ = "0.1.0"
