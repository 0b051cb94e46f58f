"""Training to rewind: while a model learns, keep of every k-th step what a page can show, and no more.

`History` runs the model on a batch of its own and keeps numbers only: no graph, no parameter of a large model. What
it holds is bounded, for when it is full it drops every second frame and goes on half as often. `rewind` makes the page.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxgrad.ink.names import clean
from fluxgrad.losses import mse_loss
from fluxgrad.picture import style
from fluxgrad.picture.model import undisturbed
from fluxgrad.picture.neuron import Layer, Weight, layers_of, mean_of, rows_of, strongest
from fluxgrad.picture.scene import norm
from fluxgrad.sweep import Flows, _recorded, flows, no_grad
from fluxgrad.tensor import Array, Tensor

if TYPE_CHECKING:
    from fluxgrad.picture.rewind import Rewind

FRAMES = 200
"""The most frames that are kept. Even, so that after every second one is dropped the next falls into step."""

CANDIDATES = 1000
"""Of so many weights the numbers are kept, to choose those that are drawn when all frames are known."""

GRID = 40
"""The input plane is asked at so many points by so many."""

OVERHEAD = 650
"""The bytes that Python takes around the numbers of a frame: its tuple, and the heads of four arrays."""

CLASSES = 8
STRENGTHS = 31
NO_NUMBER = 255
"""A byte of the map: of classes 32·class + strength; of a value 0 to 254, 127 at the level; 255 for NaN."""

FULL = 4.0
"""A difference of logits at which a colour is full: the odds are 55 to 1."""


class Column(NamedTuple):
    letter: str
    heading: str
    size: int

    def name(self, i: int) -> str:
        return self.letter if self.size == 1 else f"{self.letter}[{i}]"


class Plan(NamedTuple):
    """What every frame keeps, settled at the first one, so that the numbers of all frames stand in the same place."""

    shapes: dict[str, tuple[int, ...]]  # of each parameter, by its clean name
    weights: tuple[str, ...]  # of each layer that is drawn, the name of its weight; none where they are no chain
    columns: tuple[Column, ...]
    candidates: tuple[Weight, ...]
    units: tuple[tuple[int, int], ...]  # the column and the place in it


class Plane(NamedTuple):
    """How the input plane is coloured: by the largest of several outputs, or by how far one is from a level."""

    kind: str  # "classes" or "value"
    box: tuple[float, float, float, float]  # left, right, bottom, top
    level: float
    span: float  # so far from the level, or from the next class, the colour is full
    what: str
    classes: tuple[float, ...]  # the labels, where the points are of classes


class Frame(NamedTuple):
    """The numbers of one step, in float32 but for the losses."""

    step: int
    logged: float
    loss: float
    norms: Array  # (parameters, 2): ‖θ‖ and ‖L̇_θ‖
    weights: Array  # (candidates, 2): w and L̇_w
    units: Array  # (units, 3): the mean value, the summed fluxion, the share of the batch that a ReLU blocked
    plane: Array | None  # (GRID * GRID,) bytes, rows from the bottom


class History:
    """Keeps what a model does while it learns, to be played back and forth.

    Call `history.log(loss)` once in every step of the loop, best between the loss and the optimiser's step: then the loss
    and the parameters belong together. At every k-th call the model is run, in eval mode, on the batch (x, y) given
    here, and the loss (`mse_loss` unless another is given) on its output and y. Training does not notice: no `.grad`, no
    parameter, no random state is touched, and a call in between only counts. Choose a batch of a few hundred rows.

    At most 200 frames are kept. When they are full every second one is dropped, and `every` doubles. `repr(history)`
    says how many there are, how much memory they take, and how large the page will be.

    Raises ValueError for `every` below 1, and where x and y have not as many rows.

    >>> import numpy as np, fluxgrad as fg
    >>> model = fg.nn.MLP(2, [4, 1], activation=fg.nn.Tanh, seed=0)
    >>> x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])
    >>> history, adam = fg.History(model, x, y, every=10), fg.optim.Adam(model.parameters(), lr=0.1)
    >>> for step in range(101):
    ...     loss = fg.losses.mse_loss(model(x), y)
    ...     adam.zero_grad()
    ...     loss.backward()
    ...     history.log(loss)
    ...     adam.step()
    >>> len(history), history.steps[-1]
    (11, 100)
    >>> page = history.play()  # page.save("training.html")
    """

    def __init__(self, model: Any, x: Any, y: Any, loss: Callable[..., Any] | None = None, every: int = 1) -> None:
        if not (hasattr(model, "named_parameters") and hasattr(model, "modules")):
            raise TypeError(f"History(model, x, y) takes an fg.nn.Module as its model; given {type(model).__name__}")
        try:
            self.every = operator.index(every)
        except TypeError:
            raise TypeError(f"History: every must be a whole number of steps; given {every!r}") from None
        if self.every < 1:
            raise ValueError(f"History: every must be at least 1, to keep every so many-th step; given {every!r}")
        dtype = next((p.dtype for p in model.parameters()), None)
        if dtype is None:
            raise ValueError("History: the model has no parameter that requires grad, so it cannot learn")
        self._x = np.array(x._value if isinstance(x, Tensor) else x, dtype=dtype)
        self._y = np.array(y._value if isinstance(y, Tensor) else y)
        if self._x.ndim and self._y.ndim and len(self._x) != len(self._y):
            raise ValueError(
                f"History: x and y are one batch, a row of y for each of x; given {len(self._x):,} rows of x "
                f"(shape {self._x.shape}) and {len(self._y):,} of y (shape {self._y.shape})"
            )
        if loss is not None and not callable(loss):
            raise TypeError(f"History: loss is a function, as fg.losses.cross_entropy; given {loss!r}")
        self._model = model
        self._loss = loss or mse_loss
        self._calls = 0
        self._frames: list[Frame] = []
        self._plan: Plan | None = None
        self._plane: Plane | None = None
        self._grid: Array | None = None
        self._notes: list[str] = []
        self._first = self.every

    # ----- In the loop -----

    def log(self, loss: Any) -> None:
        """Count a step of the training; at every k-th one run the model on the batch and keep what the page shows.

        `loss` is the training loss of this step: a number, or a tensor of one number; NaN and inf are kept and marked.
        Raises ValueError where it is no single number, and where the model's layers are not those of the first frame.
        """
        step = self._calls
        if step % self.every == 0:
            self._keep(step, loss)
        self._calls = step + 1

    def _keep(self, step: int, loss: Any) -> None:
        logged = _single(loss)
        if len(self._frames) == FRAMES:
            del self._frames[1::2]
            self.every *= 2
            if step % self.every:
                return
        with undisturbed(self._model), np.errstate(all="ignore"):  # what overflows is marked on the page
            self._frames.append(self._taken(step, logged))

    def _taken(self, step: int, logged: float) -> Frame:
        paths = _named(self._model)
        with _recorded():
            prediction = self._model(Tensor(self._x, requires_grad=self._x.dtype.kind == "f", name="x"))
            try:
                record = flows(self._loss(prediction, self._y))
            except ValueError as error:
                hint = style.NO_LOSS if self._loss is mse_loss else ""
                raise ValueError(f"{error}{hint}") from None
        try:
            found = layers_of(record, paths, prediction)
        except ValueError:
            found = []
        layers = found[-style.LAYERS :]
        if self._plan is None or not self._frames:
            self._plan = self._planned(record, paths, layers, len(found) - len(layers))
            self._plane, self._grid = self._asked(prediction)
        plan = self._plan
        if {n: p.shape for p, n in paths.items()} != plan.shapes or tuple(
            paths[la.weight] for la in layers
        ) != plan.weights:
            raise ValueError(
                f"History: at step {step} the model has not the layers that it had at step {self._frames[0].step}; "
                f"a history is of one model. Start another: fg.History(model, x, y)"
            )
        pairs = [(p._value, record[p] if p in record else np.zeros(1)) for p in paths]
        values, fluxions, blocked = _columns(record, layers)
        weights = [(np.asarray(record.value(la.weight)), np.asarray(record[la.weight])) for la in layers]
        return Frame(
            step,
            logged,
            float(np.sum(record.value(record.root), dtype=np.float64)),
            _single_precision([(norm(value), norm(g)) for value, g in pairs], 2),
            _single_precision([(weights[k][0][to, at], weights[k][1][to, at]) for k, to, at in plan.candidates], 2),
            _single_precision([(values[k][i], fluxions[k][i], blocked[k][i]) for k, i in plan.units], 3),
            None if self._plane is None else self._coloured(self._plane),
        )

    def _planned(self, record: Flows, paths: dict[Tensor, str], layers: list[Layer], first: int) -> Plan:
        shapes = {name: p.shape for p, name in paths.items()}
        if not layers:
            return Plan(shapes, (), (), (), ())
        letter, heading = (f"h{first}", f"hidden {first}") if first else ("x", "input")
        columns = [Column(letter, heading, layers[0].step.inputs[0].shape[-1])]
        for k, layer in enumerate(layers, start=first + 1):
            letter, heading = ("ŷ", "output") if layer is layers[-1] else (f"h{k}", f"hidden {k}")
            activation = f" · {layer.activation}" if layer.activation else ""
            columns.append(Column(letter, heading + activation, layer.step.output.shape[-1]))
        candidates = strongest([np.asarray(record[layer.weight]) for layer in layers], CANDIDATES)
        units = []
        for k, column in enumerate(columns):
            places = set(range(column.size))
            if column.size > style.UNITS:  # of a wide layer only those that a weight touches which may be drawn
                places = {at for j, _, at in candidates if j == k} | {to for j, to, _ in candidates if j + 1 == k}
            units += [(k, i) for i in sorted(places)]
        return Plan(shapes, tuple(paths[la.weight] for la in layers), tuple(columns), tuple(candidates), tuple(units))

    # ----- The input plane -----

    def _asked(self, prediction: Tensor) -> tuple[Plane | None, Array | None]:
        """How to colour the plane of two inputs, and its points; nothing for other inputs."""
        x, y, out = self._x, self._y, prediction._value
        if x.ndim != 2 or x.shape[1] != 2 or not np.isfinite(x).any(axis=0).all() or out.shape[:1] != x.shape[:1]:
            return None, None
        box = []
        for column in x.T.astype(np.float64):
            seen = column[np.isfinite(column)]
            low, high = float(seen.min()), float(seen.max())
            margin = 0.15 * (high - low) or 1.0
            box += [low - margin, high + margin]
        left, right, bottom, top = box
        centres = (np.arange(GRID) + 0.5) / GRID
        across, up = np.meshgrid(left + centres * (right - left), bottom + centres * (top - bottom))
        grid = np.column_stack([across.ravel(), up.ravel()]).astype(x.dtype)
        try:
            with no_grad():
                asked = np.asarray(self._model(Tensor(grid))._value)
        except Exception as error:
            # A model may take no batch but its own, and one picture less is no reason to stop the training.
            self._notes = [
                f"No decision boundary; asked at {GRID * GRID:,} points, the model says: {clean(str(error))}"
            ]
            return None, None
        if asked.shape[:1] != grid.shape[:1]:
            return None, None
        return _plane(y, out, (left, right, bottom, top), getattr(self._loss, "__name__", "")), grid

    def _coloured(self, plane: Plane) -> Array:
        assert self._grid is not None
        with no_grad():
            out = np.asarray(self._model(Tensor(self._grid))._value, dtype=np.float64)
        out = out.reshape(len(self._grid), -1)
        if plane.kind == "classes":
            top = np.argmax(np.where(np.isnan(out), -np.inf, out), axis=1)
            two = np.sort(out, axis=1)[:, -2:]
            margin = np.clip((two[:, 1] - two[:, 0]) / plane.span, 0, 1)
            strength = np.where(np.isnan(margin), 1.0, margin) * (STRENGTHS - 1)
            colour = top % CLASSES * (STRENGTHS + 1) + np.rint(strength)
        else:
            colour = 127 + np.rint(127 * np.clip((out[:, 0] - plane.level) / plane.span, -1, 1))
        found: Array = np.where(np.isnan(out).any(axis=1), NO_NUMBER, colour).astype(np.uint8)
        return found

    # ----- Afterwards -----

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the frames, counted from 0: the first call of log is step 0."""
        return tuple(f.step for f in self._frames)

    @property
    def memory(self) -> int:
        """The bytes of all that is kept, the batch among it."""
        arrays = [self._x, self._y, *([] if self._grid is None else [self._grid])]
        for f in self._frames:
            arrays += [f.norms, f.weights, f.units, *([] if f.plane is None else [f.plane])]
        return sum(a.nbytes for a in arrays) + OVERHEAD * len(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def play(self) -> Rewind:
        """The page: `.html` is its text, `.save(path)` writes it, a notebook shows it.

        Raises ValueError where nothing has been logged.
        """
        if not self._frames:
            raise ValueError("history.play(): nothing is logged yet; call history.log(loss) in the training loop first")
        from fluxgrad.picture.rewind import Rewind

        return Rewind(self)

    def __repr__(self) -> str:
        if not self._frames:
            return f"<History: nothing logged yet; log(loss) will keep {_each(self.every)}>"
        size = f"{kilobytes(self.memory)} of memory, {kilobytes(len(self.play().html.encode()))} as a page"
        return f"<History: {self.told()}; {size}>"

    def told(self) -> str:
        """How many frames of which steps, and what was dropped."""
        first, last = self.steps[0], self.steps[-1]
        frames = f"{len(self):,} frame{'s' * (len(self) > 1)}, {_each(self.every)} of {self._calls:,}"
        dropped = f" ({_each(self._first)} at first, then half as often: {FRAMES} frames are kept)"
        return f"{frames}, from {first:,} to {last:,}{dropped if self.every != self._first else ''}"


def _each(every: int) -> str:
    if every == 1:
        return "every step"
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"every {every:,}{'th' if 10 < every % 100 < 14 else ends.get(every % 10, 'th')} step"


def kilobytes(size: int) -> str:
    """
    >>> kilobytes(345), kilobytes(34_567), kilobytes(3_456_789)
    ('0.3 kB', '35 kB', '3,457 kB')
    """
    return f"{size / 1000:.1f} kB" if size < 10_000 else f"{round(size / 1000):,} kB"


def _named(model: Any) -> dict[Tensor, str]:
    """The parameters with names fit to be shown, no two alike."""
    names: dict[Tensor, str] = {}
    taken: set[str] = set()
    for path, p in model.named_parameters():
        name = alike = clean(path)
        k = 1
        while alike in taken:
            k += 1
            alike = f"{name}_{k}"
        taken.add(alike)
        names[p] = alike
    return names


def _single(loss: Any) -> float:
    a = np.asarray(loss._value if isinstance(loss, Tensor) else loss)
    if a.size != 1 or a.dtype.kind not in "fiub":
        raise ValueError(f"history.log(loss) takes one number; given shape {a.shape}, dtype {a.dtype}")
    return float(a.ravel()[0])


def _single_precision(rows: list[Any], width: int) -> Array:
    """In float32, where what is not zero, or not infinite, stays so."""
    a = np.array(rows, dtype=np.float64).reshape(-1, width)
    info = np.finfo(np.float32)
    finite = np.isfinite(a)
    size = np.where(finite & (a != 0), np.clip(np.abs(a), float(info.smallest_subnormal), float(info.max)), np.abs(a))
    return np.copysign(size, a).astype(np.float32)


def _columns(record: Flows, layers: list[Layer]) -> tuple[list[Array], list[Array], list[Array]]:
    """Of the units of each column: their values, meant over the batch; fluxions, summed; the share that was blocked."""
    if not layers:
        return [], [], []
    x = layers[0].step.parents[0]
    n = layers[0].step.inputs[0].shape[-1]
    values = [mean_of(rows_of(layers[0].step.inputs[0], n))]
    fluxions = [rows_of(record[x], n).sum(axis=0) if x is not None and x in record else np.full(n, np.nan)]
    blocked = [np.zeros(n)]
    for layer in layers:
        n = layer.step.output.shape[-1]
        values.append(mean_of(rows_of(record.value(layer.out), n)))
        fluxions.append(rows_of(record[layer.out], n).sum(axis=0))
        blocked.append(layer.blocked)
    return values, fluxions, blocked


def _plane(y: Array, out: Array, box: tuple[float, float, float, float], loss: str) -> Plane | None:
    """What to colour by, as the targets tell: labels or one-hot rows by class, else the first output by its value."""
    outputs = out.reshape(len(out), -1).shape[1]
    targets = y.reshape(len(y), -1) if y.ndim and len(y) == len(out) else np.zeros((len(out), 1))
    if outputs > 1:
        labels = targets.shape[1] == 1 and y.dtype.kind in "iub"
        one_hot = targets.shape[1] == outputs and np.isin(targets, (0, 1)).all() and (targets.sum(axis=1) == 1).all()
        if labels or one_hot:
            what = f"colour: the class of the largest output; full where it leads by {FULL:g} or more"
            if outputs > CLASSES:
                what += f"; {outputs} classes share {CLASSES} colours"
            return Plane("classes", box, 0.0, FULL, what, tuple(map(float, range(outputs))))
    seen = np.unique(targets[:, 0][np.isfinite(targets[:, 0])]).astype(np.float64).tolist()
    low, high = (seen[0], seen[-1]) if seen else (0.0, 0.0)
    level, span = (0.0, max(-low, high)) if low < 0 < high else ((low + high) / 2, (high - low) / 2)
    name = "ŷ" if outputs == 1 else "ŷ[0]"
    if len(seen) == 2 and "logits" in loss:
        level, span = 0.0, FULL
    span = span if span > 0 and math.isfinite(span) else 1.0
    edge = "boundary" if len(seen) == 2 else "line"
    what = f"blue where {name} is above {level:.3g}, the {edge}, vermillion below; full from {span:.3g} away"
    return Plane("value", box, level, span, what.replace("-", "−"), tuple(seen) if len(seen) == 2 else ())
