"""Pictures of a recorded graph: the wiggle-flow, drawn.

A view (`op`, `neuron`) turns a record of the backward sweep into a `Scene`; `layout` gives it places, `svg` draws it.
Graphviz is loaded when a picture is laid out, not before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fluxgrad.losses import mse_loss
from fluxgrad.sweep import flows
from fluxgrad.tensor import Tensor
from fluxgrad.picture.layout import Placed, place
from fluxgrad.picture.neuron import neuron_scene
from fluxgrad.picture.op import op_scene
from fluxgrad.picture.scene import Scene, clean
from fluxgrad.picture.svg import render


class Picture:
    """A picture: `.svg` and `.dot` are text, `.save(path)` writes either; a notebook shows it by itself."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @cached_property
    def _placed(self) -> Placed:
        return place(self._scene)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text: the same bytes for the same graph."""
        return render(self._scene, self._placed)

    @property
    def dot(self) -> str:
        """The graph as Graphviz's DOT text."""
        return self._placed.dot

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, as its suffix says: .svg or .dot. Raises ValueError for any other."""
        path = Path(path)
        texts = {".svg": lambda: self.svg, ".dot": lambda: self.dot}
        if path.suffix.lower() not in texts:
            raise ValueError(f"a picture is saved as .svg or .dot; {path.name!r} has neither suffix")
        path.write_text(texts[path.suffix.lower()](), encoding="utf-8", newline="\n")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<{self._scene.title}>"


def draw(L: Any, view: str | None = None) -> Picture:
    """Draw the graph that made L: the value and L̇ of everything in it, and on each edge what it contributes.

    A graph of more than 60 operations shows the last 60 and says how many were left out.
    Raises ValueError for a view that is not "op", TypeError or ValueError as `flows` does.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> picture = fg.draw(x * x)
    >>> "<title>x → x·x: contributes 3</title>" in picture.svg
    True
    """
    if view not in (None, "op"):
        raise ValueError(f'draw(L) knows the view "op"; {view!r} was given (a network: draw_network(model, x, y))')
    return Picture(op_scene(flows(L)))


def draw_network(
    model: Any, x: Any, y: Any = None, loss: Callable[..., Any] | None = None, view: str | None = None
) -> Picture:
    """Draw a network as people do, a circle per unit, and on each weight how the loss answers it on this batch.

    Runs the model on x and the loss (`mse_loss` unless another is given) on its output and y; no `.grad` is
    touched. Without y the loss is called on the output alone, or is the sum of the output. Of more than 250 weights
    the strongest 250 are drawn. `view="op"` draws the same run operation by operation, as `draw` does.

    Raises ValueError for another view, and for a model whose Linear layers do not follow one another.

    >>> import numpy as np, fluxgrad as fg
    >>> model = fg.nn.MLP(2, [3, 1])
    >>> picture = fg.draw_network(model, np.array([[0.5, -1.0]]), np.array([[1.0]]))
    >>> picture.svg.count('<g class="edge">')
    9
    """
    if view not in (None, "neuron", "op"):
        raise ValueError(f'draw_network knows the views "neuron" and "op"; {view!r} was given')
    parameters = dict(model.named_parameters())
    dtype = next(iter(parameters.values())).dtype if parameters else None
    batch = Tensor(np.array(x.data if isinstance(x, Tensor) else x, dtype=dtype), requires_grad=True, name="x")
    modes = [(part, part.training) for part in model.modules()]
    model.eval()  # a picture draws no random numbers
    prediction = model(batch)
    for part, mode in modes:
        part.training = mode
    if y is None:
        L = np.sum(prediction) if loss is None else loss(prediction)
        what = "the sum of the output" if loss is None else f"{_name_of(loss)}(ŷ)"
    else:
        if loss is None:
            loss = mse_loss
        L, what = loss(prediction, y), f"{_name_of(loss)}(ŷ, y)"
    record = flows(L)
    return Picture(op_scene(record) if view == "op" else neuron_scene(record, parameters, prediction, what))


def _name_of(f: Any) -> str:
    return clean(getattr(f, "__name__", "loss"))
