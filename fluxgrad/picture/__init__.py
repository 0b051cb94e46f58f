"""Pictures of a recorded graph: the wiggle-flow, drawn.

A view (`op`, `neuron`, `layer`) turns a record of the backward sweep into a `Scene`; `layout` gives everything its place,
`svg` draws it. Graphviz is loaded when a picture is laid out, not before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fluxgrad.ink.names import clean
from fluxgrad.losses import mse_loss
from fluxgrad.picture import style
from fluxgrad.picture.layer import Layer, layer_scene, weights_of
from fluxgrad.picture.layout import Placed, place
from fluxgrad.picture.model import undisturbed
from fluxgrad.picture.neuron import layers_of, neuron_scene
from fluxgrad.picture.op import op_scene
from fluxgrad.picture.page import page
from fluxgrad.picture.save import typeset
from fluxgrad.picture.scene import Line, Run, Scene
from fluxgrad.picture.svg import render
from fluxgrad.picture.tikz import tikz
from fluxgrad.scope import scope
from fluxgrad.sweep import Flows, flows
from fluxgrad.tensor import Tensor

__all__ = ["Picture", "draw", "draw_network"]


class Picture:
    """A picture: `.svg` and `.dot` are text, `.save(path)` writes a file; a notebook shows it by itself.

    `print(picture)` gives its numbers as lines of text.
    """

    def __init__(self, scene: Scene, fewer: Callable[[int, int], Scene] | None = None) -> None:
        self._scene = scene
        self._fewer = fewer  # the scene of so many operations, where more are so many pixels wide

    @cached_property
    def _placed(self) -> Placed:
        placed = place(self._scene)
        wide, most = math.ceil(placed.width), style.OPERATIONS
        while self._fewer is not None and wide > style.WIDEST and most > 8:
            most = most * 3 // 4
            scene = self._fewer(most, wide)
            smaller = place(scene)
            if smaller.width <= style.WIDEST or (most <= 8 and smaller.width < wide / 2):
                self._scene = scene
                return smaller
        return placed  # where it is the cards that are wide, fewer are of no use

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text, the same bytes for the same graph.

        Raises ImportError, with what to install, where Graphviz is needed and not there.
        """
        placed = self._placed  # this settles the scene
        return render(self._scene, placed)

    @property
    def dot(self) -> str:
        """The graph as Graphviz's DOT text."""
        return self._placed.dot

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file, as its suffix says, always the same bytes on one machine.

        .svg and .dot are what `.svg` and `.dot` give; .html is a page of its own; .tex is a LaTeX document with the
        picture in TikZ; .png has two pixels for each of the SVG's, on white; .pdf has its lines and letters.

        Raises ValueError for another suffix, and ImportError, with what to install, where Graphviz is needed and not
        there, or Typst, which makes .png and .pdf.

        >>> import pathlib, tempfile, fluxgrad as fg
        >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "square.tex")
        ...     fg.draw(x * x).save(path)
        ...     print(path.read_text("utf-8")[:25])
        % Wiggle-flow of L: L = 9
        """
        path = Path(path)
        makers: dict[str, Callable[[], str | bytes]] = {
            ".html": self._page,
            ".pdf": lambda: typeset(self.svg, self._scene.title, self._scene.story, "pdf"),
            ".png": lambda: typeset(self.svg, self._scene.title, self._scene.story, "png"),
            ".tex": lambda: tikz(self.svg),
            ".svg": lambda: self.svg,
            ".dot": lambda: self.dot,
        }
        make = makers.get(path.suffix.lower())
        if make is None:
            raise ValueError(f"a picture is saved as .html, .pdf, .png, .tex, .svg or .dot; {path.name!r} ends in none")
        made = make()
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    def _page(self) -> str:
        return page(self._scene.title, f"<main>\n{self.svg}</main>", None, "", "main{padding:1rem}")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """For a notebook: HTML, in which one can point at marks and select text, before the SVG, which it shows as an
        image; and text where neither is trusted."""
        return {"text/html": self.svg, "image/svg+xml": self.svg, "text/plain": str(self)}

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<{self._scene.title}>"

    def __str__(self) -> str:
        marks = [f"{node.title}; {node.story}" for node in self._scene.nodes]
        marks += [edge.title for edge in self._scene.edges]
        more = [f"… and {len(marks) - 60:,} more"] if len(marks) > 60 else []
        return "\n  ".join([self._scene.title, *marks[:60], *more])


def draw(L: Tensor, view: str | None = None, limit: int | None = None) -> Picture:
    """Draw the graph that made L, in one of three views; which was chosen, and how to get another, stands below it.

    `view="op"`: the value and L̇ of everything, and on each edge what it contributes. What was made in an `fg.scope`
    has a box around it. Of more than 60 operations the scopes fold to a card each; without scopes the last 60 are
    drawn, or fewer where that would be too wide; and of more than 16 operands of one operation the strongest. It says
    what was left out; `limit` draws so many operations and operands, however large that is.
    `view="neuron"`: a circle per unit, a line per weight; for Linear layers that follow one another.
    `view="layer"`: a box per layer with ‖W‖, ‖L̇_W‖, dead units and spread: where fluxions vanish or explode.

    Without `view`: op up to 60 nodes, or where there are scopes; for larger networks neuron up to 300 units, else layer.
    A graph knows no modules: a layer is a matrix that requires grad and multiplies. To see modules as scopes, run
    the model in `with fg.scope(model):`, or use `draw_network`, which does.

    `picture.save("f.svg")` writes it, or .png, .pdf, .tex, .html, .dot.

    Raises ValueError for another view, for one that this graph does not have, for a limit below 1, and where L depends on
    nothing that requires grad; TypeError where L is no tensor.

    >>> import fluxgrad as fg
    >>> x = fg.Tensor(3.0, requires_grad=True, name="x")
    >>> picture = fg.draw(x * x)
    >>> picture
    <Wiggle-flow of L: L = 9>
    >>> picture.svg.count("<title>x → x·x: contributes 3</title>")
    2
    """
    _check(view, "draw(L)")
    _check_limit(limit)
    if not isinstance(L, Tensor):
        raise TypeError(f"draw(L): L is a tensor; given {type(L).__name__}")
    record = flows(L)
    layers = weights_of(record)
    why: Line = ()
    if view is None:
        view, why = _chosen(record, layers)
    if view == "op":
        return _operations(record, None, why, limit)
    if view == "layer":
        return Picture(layer_scene(record, caption=why))
    prediction = layers[-1].out if layers else None
    leaves = {t: t.name or "" for t in record.tensors if t.row is None}
    what = "ŷ" if prediction is L else f"{L.row.name}(ŷ, …)" if L.row else "L"
    return Picture(neuron_scene(record, leaves, L if prediction is None else prediction, what, why))


def draw_network(
    model: Any,
    x: Any,
    y: Any = None,
    loss: Callable[..., Any] | None = None,
    view: str | None = None,
    limit: int | None = None,
) -> Picture:
    """Draw a network as people do, a circle per unit, and on each weight how the loss answers it on this batch.

    Runs the model (in eval mode, so that nothing random happens) on x, and the loss (`mse_loss` unless another is
    given) on its output and y; touches no `.grad`. Without y, L is loss(output), or the sum of the output. Of more
    than 250 weights the strongest 250 are drawn. `view="op"` draws the same run operation by operation, each module a
    scope, and `view="layer"` a box per layer, which is also chosen beyond about 300 units or 36 layers. `draw` says more.

    Raises ValueError for another view, and, for circles, where the Linear layers do not follow one another.

    >>> import numpy as np, fluxgrad as fg
    >>> model = fg.nn.MLP(2, [3, 1], seed=0)
    >>> picture = fg.draw_network(model, np.array([[0.5, -1.0]]), np.array([[1.0]]))
    >>> picture.svg.count('<g class="edge')
    9
    """
    _check(view, "draw_network")
    _check_limit(limit)
    if not hasattr(model, "named_parameters"):
        raise TypeError(
            f"draw_network(model, x, y): model is an nn.Module; given {type(model).__name__}. "
            f"A loss L that is computed otherwise is drawn by draw(L)"
        )
    paths = {t: name for name, t in model.named_parameters()}
    dtype = next((t.dtype for t in paths), None)
    numbers = np.array(x.data if isinstance(x, Tensor) else x, dtype=dtype)
    with undisturbed(model), scope(model):
        prediction = model(Tensor(numbers, requires_grad=True, name="x"))
    if y is None:
        L, what = (np.sum(prediction), "Σ ŷ") if loss is None else (loss(prediction), f"{_called(loss)}(ŷ)")
    else:
        try:
            L = (loss or mse_loss)(prediction, y)
        except ValueError as error:
            raise ValueError(f"{error}{style.NO_LOSS if loss is None else ''}") from None
        what = f"{_called(loss or mse_loss)}(ŷ, y)"
    record = flows(L)
    why: Line = ()
    if view is None:
        layers = weights_of(record)
        units = _units(layers)
        far = len(layers) > 3 * style.LAYERS or units > style.NEURONS
        view = "layer" if layers and far else "neuron"
        others = 'view="op" or view="neuron"' if far else 'view="op" or view="layer"'
        size = f"{len(layers)} layer{'s' * (len(layers) != 1)}, {units:,} units"
        why = (Run("quiet", f"{view.capitalize()} view, chosen because of its size ({size}). {others} for another."),)
        if view == "neuron":
            try:
                return Picture(neuron_scene(record, paths, prediction, what, why))
            except ValueError:
                view, other = ("layer", "op") if layers else ("op", "layer")
                words = "its Linear layers do not follow one another, as circles would show them"
                why = (Run("quiet", f'{view.capitalize()} view, chosen because {words}. view="{other}" for another.'),)
    if view == "op":
        return _operations(record, paths, why, limit)
    if view == "layer":
        return Picture(layer_scene(record, paths, why))
    return Picture(neuron_scene(record, paths, prediction, what, why))


def _check(view: str | None, who: str) -> None:
    if view not in (None, "op", "neuron", "layer"):
        raise ValueError(f'{who} has view "neuron", view "layer" and view "op"; given {view!r}')


def _check_limit(limit: int | None) -> None:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise TypeError(f"draw: limit is a whole number, how many operations are drawn at the most; given {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"draw: limit, how many operations are drawn at the most, is at least 1; given {limit!r}")


def _operations(record: Flows, paths: dict[Tensor, str] | None, why: Line, limit: int | None) -> Picture:
    if limit is not None:
        return Picture(op_scene(record, paths, why, limit))
    return Picture(op_scene(record, paths, why), lambda most, wide: op_scene(record, paths, why, most, wide))


def _units(layers: list[Layer]) -> int:
    """How many circles the neuron view would draw: of a wide layer at most some."""
    widths = [layer.weight.shape[1] for layer in layers[:1]] + [layer.units for layer in layers]
    return sum(min(n, style.UNITS) for n in widths)


def _chosen(record: Flows, layers: list[Layer]) -> tuple[str, Line]:
    """The view that suits a graph's size, and the sentence that says so."""
    nodes, operations, units = len(record.tensors), len(record.steps), _units(layers)
    size = f"{nodes:,} node{'s' * (nodes != 1)}"
    uses = sum(len(layer.steps) for layer in layers)
    view = "op"
    also: tuple[str, ...]
    if nodes <= style.OPERATIONS:
        why, also = f"it is small ({size})", ("neuron", "layer")
    elif any((where := scope.of(s.output)) and where.owned is None for s in record.steps):
        why, also = f"it has scopes ({size})", ("neuron", "layer")
    elif len(layers) > 1 and operations <= 10 * uses:
        view = (
            "neuron"
            if units <= style.NEURONS and len(layers) <= style.LAYERS and _is_chain(record, layers)
            else "layer"
        )
        why = f"of its size ({size}, {len(layers)} layers)"
        also = ("op", "layer" if view == "neuron" else "neuron")
    else:
        why, also = f"it has no layers or scopes to go by ({size})", ()
    others = " or ".join(f'view="{v}"' for v in also) if layers else ""
    says = f"{view.capitalize()} view, chosen because {why}." + (f" {others} for another." if others else "")
    if not layers and nodes <= style.OPERATIONS:
        says += ' A network has view="neuron" and view="layer" too.'
    return view, (Run("quiet", says),)


def _is_chain(record: Flows, layers: list[Layer]) -> bool:
    names = {t: "x" for t in record.tensors if t.row is None}
    try:
        return layers[-1].out is not None and bool(layers_of(record, names, layers[-1].out))
    except ValueError:
        return False


def _called(loss: Callable[..., Any]) -> str:
    return clean(getattr(loss, "__name__", "")) or "loss"
