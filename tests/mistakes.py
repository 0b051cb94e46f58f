"""Programs that students write. Importing this module runs none of them.

`right` holds those that must end in the right number: each gives (what came out, what is right).
`refused` holds those that must end in our own message: with the kind of error, and the words that it must say:
what was given and what to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fluxgrad as fg

Pair = tuple[Any, Any]


class Refused(NamedTuple):
    program: Callable[[], Any]
    kind: type[Exception]
    words: tuple[str, ...]


right: list[Callable[[], Pair]] = []
refused: list[Refused] = []


def ends_right(program: Callable[[], Pair]) -> Callable[[], Pair]:
    right.append(program)
    return program


def is_refused(kind: type[Exception], *words: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def enter(program: Callable[[], Any]) -> Callable[[], Any]:
        refused.append(Refused(program, kind, words))
        return program

    return enter


def weights(*numbers: Any, **how: Any) -> fg.Tensor:
    return fg.Tensor(numbers[0] if len(numbers) == 1 else list(numbers), requires_grad=True, **how)


def try_to_write(array: Any, value: Any) -> None:
    """NumPy may refuse (read-only): then the mistake did no harm either."""
    try:
        array[...] = value
    except ValueError as error:
        if "read-only" not in str(error):
            raise


# ----- Numbers written between the forward run and the sweep -----


@ends_right
def write_to_data_before_the_sweep() -> Pair:
    """w.data is changed after the loss was computed and before backward(): the sweep is that of the loss as it was."""
    w = weights(1.0, 2.0)
    loss = np.sum(w**2)
    w.data[:] = 100
    loss.backward()
    return w.grad, [2, 4]


@ends_right
def write_to_an_older_view_of_data() -> Pair:
    """A view of w.data, taken long before, is written to between forward and sweep."""
    w = weights(1.0, 2.0)
    first = w.data[:1]
    loss = np.sum(w * w)
    try_to_write(first, 100)
    loss.backward()
    return w.grad, [2, 4]


@ends_right
def write_to_an_older_array_of_a_layer() -> Pair:
    """The array kept from layer.weight.data is zeroed ("re-initialised") between forward and sweep."""
    layer = fg.nn.Linear(2, 1, seed=0, dtype=float)
    x = weights([[1.0, 2.0]])
    kept = layer.weight.data
    was = kept.copy()
    loss = layer(x).sum()
    try_to_write(kept, 0)
    loss.backward()
    return x.grad, was


@ends_right
def write_to_ones_own_array() -> Pair:
    """The array of data is used again for the next batch before the sweep of this one."""
    batch = np.array([1.0, 2.0])
    w = weights(3.0, 4.0)
    loss = np.sum(w * batch)
    batch[:] = 0
    loss.backward()
    return w.grad, [1, 2]


@ends_right
def refill_the_batch_that_a_model_was_given() -> Pair:
    """A float32 buffer is filled with the next batch while the loss of this one still waits for its sweep."""
    buffer = np.ones((8, 2), np.float32)
    layer = fg.nn.Linear(2, 1, seed=0)
    loss = layer(buffer[:4]).sum()
    buffer[...] = 0
    loss.backward()
    return layer.weight.grad, [[4, 4]]


@ends_right
def scale_a_zero_dimensional_array() -> Pair:
    """A 0-d array as a running scale, halved in place between forward and sweep."""
    w, scale = weights(3.0), np.array(2.0)
    loss = w * scale
    scale *= 0.5
    loss.backward()
    return w.grad, 2


@ends_right
def change_an_index_afterwards() -> Pair:
    """The index array is shuffled in place for the next epoch."""
    w, index = weights(1.0, 2.0, 3.0), np.array([0, 0, 2])
    loss = np.sum(w[index])
    index[:] = 1
    loss.backward()
    return w.grad, [2, 0, 1]


@ends_right
def change_a_mask_afterwards() -> Pair:
    """The mask of np.where is inverted in place."""
    w, mask = weights(1.0, 2.0), np.array([True, False])
    loss = np.sum(np.where(mask, w, 10 * w))
    np.logical_not(mask, out=mask)
    loss.backward()
    return w.grad, [1, 10]


@ends_right
def change_the_targets_afterwards() -> Pair:
    """The targets are standardised in place after the loss was computed."""
    w, target = weights(1.0, 2.0), np.array([0.0, 0.0])
    loss = fg.losses.mse_loss(w, target, reduction="sum")
    target -= 5
    loss.backward()
    return w.grad, [2, 4]


@ends_right
def change_a_constant_tensor_through_a_view() -> Pair:
    """The data set is one Tensor, a batch a slice of it; the data are changed before the sweep."""
    data, w = fg.Tensor([[1.0, 2.0], [3.0, 4.0]]), weights(1.0, 1.0)
    batch = data[0]
    loss = np.sum(w * batch)
    data.data[:] = 0
    loss.backward()
    return w.grad, [1, 2]


@ends_right
def step_before_the_sweep() -> Pair:
    """optimiser.step() stands before loss.backward(): the sweep is still that of the loss as it was."""
    w = weights(3.0)
    optimiser = fg.optim.SGD([w], lr=0.5)
    w.grad = 1.0
    loss = w * w
    optimiser.step()
    optimiser.zero_grad()
    loss.backward()
    return w.grad, 6


@ends_right
def set_data_to_a_result() -> Pair:
    """w.data = y of another computation, then w.data is changed: y keeps its numbers."""
    x, w = weights(0.0, 1.0), weights(0.0, 0.0)
    y = np.exp(x)
    w.data = y
    w.data[:] = 100
    np.sum(y).backward()
    return x.grad, np.exp([0.0, 1.0])


@ends_right
def two_parameters_from_one_array() -> Pair:
    """Both are set to the same array of zeros; they must not become one parameter."""
    zeros = np.zeros(2)
    a, b = weights(1.0, 1.0), weights(1.0, 1.0)
    a.data = zeros
    b.data = zeros
    optimiser = fg.optim.SGD([a, b], lr=1.0)
    np.sum(a + 2 * b).backward()
    optimiser.step()
    return [a.tolist(), b.tolist()], [[-1, -1], [-2, -2]]


# ----- The training loop -----


@ends_right
def update_by_hand() -> Pair:
    """loss.backward(); w.data -= lr·w.grad. That is the update by hand, and it works."""
    w = weights(4.0)
    for _ in range(3):
        loss = w * w
        w.grad = None
        loss.backward()
        w.data -= 0.25 * w.grad
    return w.data, 0.5


@ends_right
def look_at_an_old_loss_after_the_step() -> Pair:
    """The record of a loss is asked for after the weights moved: it shows the loss as it was."""
    w = weights(3.0)
    loss = w * w
    loss.backward()
    w.data -= 0.5 * w.grad
    record = fg.flows(loss)
    return [loss.item(), record.value(w), record[w]], [9, 3, 6]


@ends_right
def look_at_old_losses_after_optimiser_steps() -> Pair:
    """Losses are kept in a list over the epochs (for a plot), and swept again at the end."""
    w = weights(1.0, 2.0)
    optimiser = fg.optim.Adam([w], lr=0.5)
    losses, wanted, got = [], [], []
    for _ in range(5):
        optimiser.zero_grad()
        losses.append(np.sum(w**3))
        losses[-1].backward()
        wanted.append(w.grad)
        optimiser.step()
    for loss in losses:
        w.grad = None
        loss.backward()
        got.append(w.grad)
    return got, wanted


@ends_right
def second_backward() -> Pair:
    """backward() twice on one loss: it adds again."""
    w = weights(3.0)
    loss = w * w
    loss.backward()
    loss.backward()
    return w.grad, 12


@ends_right
def forgotten_zero_grad() -> Pair:
    """zero_grad() is forgotten: the fluxions add up over the steps, exactly."""
    w = weights(1.0)
    total = 0.0
    for k in range(4):
        (w * k).backward()
        total += k
    return w.grad, total


@ends_right
def keep_a_gradient() -> Pair:
    """A gradient is kept for comparison; later sweeps and steps must not change it."""
    w = weights(3.0)
    optimiser = fg.optim.SGD([w], lr=0.1)
    (w * w).backward()
    kept = w.grad
    (w * 10).backward()
    optimiser.step()
    optimiser.zero_grad()
    (w * 7).backward()
    return kept, 6


@ends_right
def clip_the_gradient_in_place() -> Pair:
    """np.clip(w.grad, …, out=w.grad): the optimiser steps with the clipped numbers."""
    w = weights(10.0, -10.0)
    optimiser = fg.optim.SGD([w], lr=1.0)
    np.sum(w * w).backward()
    np.clip(w.grad, -1, 1, out=w.grad)
    optimiser.step()
    return w.data, [9, -9]


@ends_right
def one_gradient_clipped_and_not_the_other() -> Pair:
    """a + b sends the same numbers to both; scaling a.grad in place must leave b.grad alone."""
    a, b = weights(1.0, 2.0), weights(3.0, 4.0)
    np.sum(a + b).backward()
    a.grad *= 10
    return b.grad, [1, 1]


@ends_right
def rebind_the_parameters_in_a_loop() -> Pair:
    """for p in model.parameters(): p = p − …: only the loop's own name is rebound. The model stays, nothing breaks."""
    layer = fg.nn.Linear(1, 1, seed=0)
    before = layer.weight.data.copy()
    layer([[1.0]]).sum().backward()
    for p in layer.parameters():
        p = p - 0.1 * p.grad
    return layer.weight.data, before


@ends_right
def minus_equals_under_no_grad() -> Pair:
    """with fg.no_grad(): w −= lr·w.grad, as in PyTorch's tutorials: w itself moves, and still requires grad."""
    w = weights(4.0)
    same = w
    (w * w).backward()
    with fg.no_grad():
        w -= 0.25 * w.grad
    w.grad = None
    (same * 3).backward()
    return [w.item(), w.grad, w is same], [2, 3, True]


@is_refused(TypeError, "'w'", "-=", ".data", "no_grad")
def minus_equals_outside_no_grad() -> None:
    """w −= lr·w.grad without no_grad: it would make w a result of itself."""
    w = weights(4.0, name="w")
    (w * w).backward()
    w -= 0.25 * w.grad


@is_refused(TypeError, "**=", ".data")
def power_in_place() -> None:
    """w **= 2 on a parameter."""
    w = weights(4.0)
    w **= 2


@is_refused(TypeError, "leaf", "require")
def an_optimiser_of_results() -> None:
    """The optimiser is given w·2 in place of w."""
    w = weights(1.0)
    fg.optim.SGD([w * 2], lr=0.1)


@is_refused(ValueError, "at least one", "iterator")
def an_optimiser_of_a_used_up_iterator() -> None:
    """model.parameters() is an iterator, counted first, then given to the optimiser, empty."""
    parameters = fg.nn.Linear(1, 1).parameters()
    sum(p.size for p in parameters)
    fg.optim.Adam(parameters)


@ends_right
def requires_grad_too_late() -> Pair:
    """b requires grad only after b·2 was computed: its fluxion is whole or none, never a part."""
    a, b = weights(2.0), fg.Tensor(3.0)
    y = a * b + a * (b * 2)
    b.requires_grad = True
    y.backward()
    return 6.0 if b.grad is None else b.grad, 6


# ----- Assigning into tensors, and tensors into arrays -----


@is_refused(TypeError, "t[", "np.where", ".data")
def assign_to_an_element() -> None:
    """t[0] = 5 on a tensor."""
    t = weights(1.0, 2.0)
    t[0] = 5.0


@is_refused(TypeError, ".data", ".item()", "np.stack")
def assign_a_tensor_to_an_element() -> None:
    """out[0] = t collects results in an array: the results would be cut off."""
    t, out = weights(1.0, 2.0), np.zeros(2)
    for k in range(2):
        out[k] = t[k] ** 2


@is_refused(TypeError, ".data", "np.stack")
def assign_a_tensor_to_a_slice() -> None:
    """A tensor into a slice of an array."""
    out = np.zeros(2)
    out[:] = weights(1.0, 2.0)


@is_refused(TypeError, "np.add", "out", "y = y + t")
def add_a_tensor_to_an_array_in_place() -> None:
    """arr += t with a plain array as the accumulator."""
    total = np.zeros(2)
    total += weights(1.0, 2.0)


@is_refused(TypeError, "np.multiply", "out")
def out_is_a_tensor() -> None:
    """np.multiply(a, b, out=t)."""
    np.multiply(np.ones(2), np.ones(2), out=weights(1.0, 2.0))


@is_refused(TypeError, ".data", "np.stack")
def an_array_of_tensors() -> None:
    """np.array([t, u]) would be an array of objects, or of cut-off numbers."""
    t, u = weights(1.0), weights(2.0)
    np.array([t * 2, u * 3])


@is_refused(TypeError, "np.asarray(t)", ".data")
def asarray_of_a_tensor() -> None:
    """np.asarray(t), as every plotting function calls it."""
    np.asarray(weights(1.0, 2.0))


@is_refused(TypeError, ".data", "requires grad")
def an_array_indexed_by_a_tensor() -> None:
    """arr[t] with a tensor of floats that requires grad."""
    np.arange(5.0)[weights(1.0)]


@is_refused(TypeError, "float(t)", ".item()")
def float_of_a_tensor() -> None:
    """total = total + float(loss), then total.backward(): cut off at float()."""
    float(weights(2.0) * 2)


@is_refused(TypeError, "np.exp(t)", "math.exp(t)")
def math_exp_of_a_tensor() -> None:
    """math.exp(t) in place of np.exp(t)."""
    math.exp(weights(1.0))


@is_refused(TypeError, "math.exp(t)")
def math_exp_in_a_transform() -> None:
    """math.exp inside a function that is differentiated."""
    fg.grad(lambda x: math.exp(x) * x)(1.0)


@is_refused(TypeError, "np.fft.fft", "no rule", "fg.rules")
def a_function_without_a_rule() -> None:
    """np.fft.fft of a tensor."""
    np.sum(np.abs(np.fft.fft(weights(1.0, 2.0))))


@is_refused(TypeError, "np.linalg.svd", "no rule", ".data")
def a_decomposition_without_a_rule() -> None:
    """np.linalg.svd of a tensor."""
    np.linalg.svd(weights([[1.0, 2.0]]))


@is_refused(TypeError, "np.add.reduce", "np.sum")
def a_ufuncs_method() -> None:
    """np.add.reduce(t) in place of np.sum(t)."""
    np.add.reduce(weights(1.0, 2.0))


@is_refused(TypeError, "np.sum", "dtype")
def an_option_without_a_fluxion() -> None:
    """np.sum(t, dtype=…)."""
    np.sum(weights(1.0, 2.0), dtype=np.float32)


# ----- Kinds of numbers -----


@ends_right
def float64_into_a_float32_model() -> Pair:
    """NumPy's arrays are float64, the model float32: all stays float32."""
    model = fg.nn.MLP(2, [3, 1], seed=0)
    y = model(np.ones((4, 2)))
    fg.losses.mse_loss(y, np.zeros((4, 1))).backward()
    kinds = [y.dtype, *(p.dtype for p in model.parameters()), *(p.grad.dtype for p in model.parameters())]
    return [str(k) for k in kinds], ["float32"] * len(kinds)


@is_refused(TypeError, "int64", "3.0")
def an_integer_that_requires_grad() -> None:
    """Tensor([1, 2, 3], requires_grad=True)."""
    fg.Tensor([1, 2, 3], requires_grad=True)


@is_refused(TypeError, "int64", "3.0", "argnums")
def an_integer_argument() -> None:
    """fg.grad(f)(3)."""
    fg.grad(lambda x: x * x)(3)


@is_refused(TypeError, "real", "complex")
def a_complex_operand() -> None:
    """A tensor times 1j."""
    weights(1.0) * 1j


@is_refused(TypeError, "complex")
def a_complex_batch() -> None:
    """A complex batch into a real model: half of it would be thrown away."""
    fg.nn.Linear(2, 1)(np.array([[1.0 + 2.0j, 3.0]]))


@ends_right
def a_zero_dimensional_chain() -> Pair:
    """NumPy turns 0-d results into scalars; through a chain of them the fluxion must still flow."""
    x = weights(0.5)
    y = np.float64(2.0) * x
    for _ in range(3):
        y = np.sin(y) + np.array(1.0) * y - np.float64(0.5)
    y.backward()
    v, slope = 1.0, 2.0
    for _ in range(3):
        v, slope = math.sin(v) + v - 0.5, slope * (math.cos(v) + 1)
    return x.grad, slope


@is_refused(TypeError, "Masked")
def a_masked_array() -> None:
    """A masked array beside a tensor: neither may be cut off."""
    product = np.ma.array([1.0, 2.0], mask=[False, True]) * weights(1.0, 2.0)
    np.sum(product).backward()


# ----- Where fluxions do not flow -----


@is_refused(ValueError, "(2,)", "sum()", "mean()", "gradient=")
def backward_from_a_vector() -> None:
    """The loss was not reduced."""
    (weights(1.0, 2.0) * 2).backward()


@is_refused(ValueError, "requires grad", "requires_grad=True")
def backward_with_nothing_to_flow_to() -> None:
    """requires_grad=True was forgotten."""
    w = fg.Tensor([1.0, 2.0])
    np.sum(w * w).backward()


@is_refused(ValueError, ".data", ".detach()", "no_grad")
def a_path_cut_by_data() -> None:
    """y.data on the way: the loss does not depend on w any more."""
    w = weights(1.0, 2.0)
    y = w * 3
    np.sum(fg.Tensor(y.data) ** 2).backward()


@is_refused(ValueError, "no_grad")
def backward_of_an_evaluation() -> None:
    """The forward run was made under no_grad."""
    w = weights(1.0)
    with fg.no_grad():
        loss = w * w
    loss.backward()


@is_refused(TypeError, "(2,)", "np.sum", "jacobian")
def grad_of_a_vector() -> None:
    """fg.grad of a function that gives an array."""
    fg.grad(lambda x: x * 2)(np.ones(2))


@is_refused(TypeError, "NoneType")
def a_forgotten_return() -> None:
    """The function that is differentiated returns nothing."""

    def loss(x: Any) -> None:
        np.sum(x * x)

    fg.grad(loss)(np.ones(2))


@is_refused(TypeError, "multiply", "detach")
def set_the_data_of_a_result() -> None:
    """y.data = … where y is a result."""
    y = weights(1.0) * 2
    y.data = 5.0


# ----- Losses and layers -----


@is_refused(ValueError, "mse_loss", "(4, 1)", "(4,)", "target")
def a_column_against_a_vector() -> None:
    """Prediction (n, 1) against target (n,): NumPy would make it (n, n)."""
    fg.losses.mse_loss(fg.nn.Linear(2, 1)(np.ones((4, 2))), np.zeros(4))


@is_refused(ValueError, "label 3", "3 classes", "0 to 2")
def labels_counted_from_one() -> None:
    """Labels 1 … K in place of 0 … K − 1."""
    fg.losses.cross_entropy(weights([[0.0, 1.0, 2.0]] * 3), [1, 2, 3])


@is_refused(ValueError, "label -1", "0 to 1")
def a_label_minus_one() -> None:
    """−1 for "unknown": NumPy would take the last class."""
    fg.losses.cross_entropy(weights([[0.0, 1.0]]), [-1])


@is_refused(ValueError, "labels", "integers", "float64")
def labels_as_floats() -> None:
    """Labels read from a file as floats."""
    fg.losses.cross_entropy(weights([[0.0, 1.0]]), np.array([1.0]))


@is_refused(ValueError, "labels", "(2, 2)", "(2,)")
def one_hot_labels() -> None:
    """Labels given one-hot where indices are asked for."""
    fg.losses.cross_entropy(weights([[0.0, 1.0], [1.0, 0.0]]), np.eye(2, dtype=int))


@is_refused(ValueError, "target", "[0, 1]", "2")
def targets_outside_of_probability() -> None:
    """Targets of ±1 or 0 … 2 where a probability is asked for."""
    fg.losses.binary_cross_entropy_with_logits(weights(0.5, 0.5), [1.0, 2.0])


@ends_right
def a_logit_that_is_already_squashed() -> Pair:
    """Probabilities go where logits are asked for: nobody can tell, but the fluxion is that of those "logits"."""
    z = weights(0.0)
    p = fg.sigmoid(z)
    fg.losses.binary_cross_entropy_with_logits(p, 1.0).backward()
    return z.grad, (1 / (1 + math.exp(-0.5)) - 1) * 0.25


@is_refused(ValueError, "reduction", "'avg'", "'mean'")
def an_unknown_reduction() -> None:
    """A reduction of another name."""
    fg.losses.mse_loss(weights(1.0), 1.0, reduction="avg")


@is_refused(ValueError, "Linear", "3", "(5, 2)")
def a_batch_of_the_wrong_width() -> None:
    """Two features into a layer for three."""
    fg.nn.Linear(3, 1)(np.ones((5, 2)))


@is_refused(ValueError, "matmul", "(2, 3)", "(2, 2)")
def a_product_of_the_wrong_shapes() -> None:
    """A forgotten transpose."""
    weights(np.ones((2, 3))) @ np.ones((2, 2))


@is_refused(KeyError, "missing", "layers.2.weight")
def a_state_of_another_model() -> None:
    """The weights of a smaller model are loaded."""
    fg.nn.MLP(2, [4, 1]).load_state_dict(fg.nn.MLP(2, [1]).state_dict())


# ----- Order and nesting -----


@ends_right
def a_value_used_at_two_depths() -> Pair:
    """Plain recursion in the order of use gives 2 or 4."""
    a = weights(1.0)
    b = a * 1
    c = b + 1
    d = b * 2
    e = c + d
    e.backward()
    return a.grad, 3


@ends_right
def a_derivative_inside_a_derivative() -> Pair:
    """Perturbation confusion: the inner variable is not the outer one."""
    return fg.grad(lambda x: x * fg.grad(lambda y: x + y)(1.0))(1.0), 1


@ends_right
def a_dict_in_another_order() -> Pair:
    """The tangents come in a dict whose keys stand in another order."""
    f = lambda p: p["w"] * 2 + p["b"] * 3
    return fg.jvp(f, ({"w": 1.0, "b": 1.0},), ({"b": 0.0, "w": 1.0},))[1], 2
