"""Pictures of a recorded graph: the wiggle-flow, drawn.

A view (`op`, `neuron`) turns a record of the backward sweep into a `Scene`; `layout` gives everything its place,
`svg` draws it. Graphviz is loaded when a picture is laid out, not before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fluxgrad.ink.names import clean
from fluxgrad.losses import mse_loss
from fluxgrad.picture.layout import Placed, place
from fluxgrad.picture.neuron import neuron_scene
from fluxgrad.picture.op import op_scene
from fluxgrad.picture.scene import Scene
from fluxgrad.picture.svg import render
from fluxgrad.sweep import flows
from fluxgrad.tensor import Tensor

__all__ = ["Picture", "draw", "draw_network"]


class Picture:
    """A picture: `.svg` and `.dot` are text, `.save(path)` writes either; a notebook shows it by itself."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @cached_property
    def _placed(self) -> Placed:
        return place(self._scene)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text, the same bytes for the same graph.

        Raises ImportError, with what to install, where Graphviz is needed and not there.
        """
        return render(self._scene, self._placed)

    @property
    def dot(self) -> str:
        """The graph as Graphviz's DOT text."""
        return self._placed.dot

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, as its suffix says: .svg or .dot. Raises ValueError for any other."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (".svg", ".dot"):
            raise ValueError(f"a picture is saved as .svg or .dot; {path.name!r} ends in neither")
        path.write_text(self.svg if suffix == ".svg" else self.dot, encoding="utf-8", newline="\n")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<{self._scene.title}>"


def draw(L: Tensor, view: str | None = None) -> Picture:
    """Draw the graph that made L: the value and L̇ of everything in it, and on each edge what it contributes.

    A graph of more than 60 operations shows the last 60 and says how many were left out.
    Raises ValueError for a view other than "op", and where L depends on nothing that requires grad.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> picture = fg.draw(x * x)
    >>> picture
    <Wiggle-flow of L: L = 9>
    >>> picture.svg.count("<title>x → x·x: contributes 3</title>")
    2
    """
    if view not in (None, "op"):
        raise ValueError(f'draw(L) has the view "op"; given {view!r} (for a network: draw_network(model, x, y))')
    return Picture(op_scene(flows(L)))


def draw_network(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable[..., Any] | None = None,
    view: str | None = None,
) -> Picture:
    """Draw a network as people do, a circle per unit, and on each weight how the loss answers it on this batch.

    Runs the model (in eval mode, so that nothing random happens) on x, and the loss (`mse_loss` unless another is
    given) on its output and y; touches no `.grad`. Without y, L is loss(output), or the sum of the output. Of more
    than 250 weights the strongest 250 are drawn. `view="op"` draws the same run operation by operation.

    Raises ValueError for another view, and for a model whose Linear layers do not follow one another.

    >>> import numpy as np, fluxgrad as fg
    >>> model = fg.nn.MLP(2, [3, 1], seed=0)
    >>> picture = fg.draw_network(model, np.array([[0.5, -1.0]]), np.array([[1.0]]))
    >>> picture.svg.count('<g class="edge')
    9
    """
    if view not in (None, "neuron", "op"):
        raise ValueError(f'draw_network has the views "neuron" and "op"; given {view!r}')
    paths = {t: name for name, t in model.named_parameters()}
    dtype = next((t.dtype for t in paths), None)
    numbers = np.array(x.data if isinstance(x, Tensor) else x, dtype=dtype)
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        prediction = model(Tensor(numbers, requires_grad=True, name="x"))
    finally:
        for part, mode in modes:
            part.training = mode
    if y is None:
        L, what = (np.sum(prediction), "Σ ŷ") if loss is None else (loss(prediction), f"{_called(loss)}(ŷ)")
    else:
        loss = loss or mse_loss
        L, what = loss(prediction, y), f"{_called(loss)}(ŷ, y)"
    record = flows(L)
    return Picture(op_scene(record, paths) if view == "op" else neuron_scene(record, paths, prediction, what))


def _called(loss: Callable[..., Any]) -> str:
    return clean(getattr(loss, "__name__", "")) or "loss"
