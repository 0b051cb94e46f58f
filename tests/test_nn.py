"""Layers and models: shapes, dtypes, seeds, and every way to copy, save and load them."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad import nn


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")


def same(a, b):
    """Two models of the same parameters, to the bit."""
    a, b = dict(a.named_parameters()), dict(b.named_parameters())
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name].data, b[name].data)


# ----- Shapes -----


def test_an_mlp_is_two_hidden_layers_of_sixteen_and_one_output():
    model = nn.MLP(2, [16, 16, 1], seed=0)
    assert [(n, p.shape) for n, p in model.named_parameters()] == [
        ("layers.0.weight", (16, 2)), ("layers.0.bias", (16,)), ("layers.2.weight", (16, 16)), ("layers.2.bias", (16,)),
        ("layers.4.weight", (1, 16)), ("layers.4.bias", (1,)),
    ]  # fmt: skip
    assert all(p.dtype == np.float32 and p.requires_grad for p in model.parameters())
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert len(model) == 5 and model[0].weight is next(model.parameters())
    assert model(np.zeros((7, 2))).shape == (7, 1)
    assert nn.MLP(3, [1], seed=0)(np.zeros(3)).shape == (1,)
    assert [type(m).__name__ for m in nn.MLP(2, [4, 1], activation=nn.Tanh, seed=0)] == ["Linear", "Tanh", "Linear"]
    with pytest.raises(ValueError, match="sizes"):
        nn.MLP(2, [])


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (2, 1, 5, 3), (0, 3), (1, 3)])
def test_linear_takes_any_leading_axes_and_is_right(shape):
    layer = nn.Linear(3, 2, seed=0, dtype=float)
    x = fg.Tensor(np.cos(np.arange(np.prod(shape), dtype=float)).reshape(shape), requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 2)
    np.testing.assert_allclose(y.data, x.data @ layer.weight.data.T + layer.bias.data, rtol=1e-14)
    c = np.sin(np.arange(y.size, dtype=float)).reshape(y.shape)
    (y * c).sum().backward()
    flat, rows = c.reshape(-1, 2), x.data.reshape(-1, 3)
    for p, want in ((x, c @ layer.weight.data), (layer.weight, flat.T @ rows), (layer.bias, flat.sum(0))):
        assert p.grad.shape == p.shape
        np.testing.assert_allclose(p.grad, want, rtol=1e-13, atol=1e-14)


def test_a_layer_agrees_with_its_definition_to_every_order():
    """The kernel against the row written out: values, fluxions, second fluxions, push."""
    layer, x = nn.Linear(3, 2, seed=0, dtype=float), np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]])
    w, b = layer.weight.data.copy(), layer.bias.data.copy()
    by_layer = lambda w, b, x: np.sum(np.tanh(nn.Linear.forward(_with(w, b), x)) ** 2)
    by_hand = lambda w, b, x: np.sum(np.tanh(x @ w.T + b) ** 2)
    for k in range(3):
        np.testing.assert_allclose(fg.grad(by_layer, k)(w, b, x), fg.grad(by_hand, k)(w, b, x), rtol=1e-13)
        np.testing.assert_allclose(
            fg.hessian(by_layer, k)(w, b, x), fg.hessian(by_hand, k)(w, b, x), rtol=1e-12, atol=1e-13
        )
    np.testing.assert_allclose(fg.jvp(by_layer, (w, b, x), (w * 2, b + 1, x - 1))[1],
                               fg.jvp(by_hand, (w, b, x), (w * 2, b + 1, x - 1))[1], rtol=1e-13)  # fmt: skip


def _with(w, b):
    layer = nn.Linear(1, 1)
    layer.weight, layer.bias = (p if isinstance(p, fg.Tensor) else fg.Tensor(p) for p in (w, b))
    return layer


def test_without_a_bias():
    layer = nn.Linear(3, 2, bias=False, seed=0)
    assert layer.bias is None and [n for n, _ in layer.named_parameters()] == ["weight"]
    x = np.ones((4, 3), np.float32)
    y = layer(x)
    np.testing.assert_allclose(y.data, x @ layer.weight.data.T, rtol=1e-6)
    y.sum().backward()
    assert layer.weight.grad.shape == (2, 3) and layer.weight.grad.tolist() == [[4, 4, 4], [4, 4, 4]]
    assert "bias=False" in repr(layer)


def test_a_wrong_input_is_refused_by_shape():
    layer = nn.Linear(3, 2, seed=0)
    for x in (np.zeros((5, 4)), np.zeros(2), np.float32(1), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"3") as info:
            layer(x)
        assert str(np.shape(x)) in str(info.value) and "Linear" in str(info.value)


def test_complex_text_and_none_as_input_are_refused():
    layer = nn.Linear(2, 1, seed=0)
    with pytest.raises((TypeError, ValueError), match="complex"):
        layer(np.array([[1 + 2j, 1]]))
    for x in (["a", "b"], None):
        with pytest.raises((TypeError, ValueError)):
            layer(x)


# ----- dtypes -----


@pytest.mark.parametrize("x", [np.ones((2, 3)), np.ones((2, 3), int), np.ones((2, 3), bool), [[1, 2, 3]], np.ones((2,
3), np.float16)],
                         ids=["float64", "int", "bool", "list", "float16"])  # fmt: skip
def test_an_array_is_cast_to_the_parameters_dtype(x):
    model = nn.MLP(3, [4, 2], seed=0)
    for given in (x, fg.Tensor(x)):
        y = model(given)
        assert y.dtype == np.float32
        for p in model.parameters():
            p.grad = None
        y.sum().backward()
        assert all(p.grad.dtype == np.float32 for p in model.parameters())
    double = nn.MLP(3, [4, 2], seed=0, dtype=np.float64)
    assert double(np.ones(3, np.float32)).dtype == np.float64
    assert all(p.dtype == np.float64 for p in double.parameters())


def test_a_float64_tensor_into_a_float32_model_gets_its_own_fluxion_back():
    model, x = nn.Linear(2, 1, seed=0), fg.Tensor([[1.0, 2.0]], requires_grad=True)
    model(x).sum().backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad, model.weight.data)


def test_float16_and_longdouble_models():
    for dtype in (np.float16, np.longdouble):
        model = nn.MLP(2, [3, 1], seed=0, dtype=dtype)
        y = model(np.ones((4, 2)))
        y.sum().backward()
        assert y.dtype == dtype and all(p.dtype == p.grad.dtype == dtype for p in model.parameters())


# ----- Seeds -----


def test_seeds():
    same(nn.MLP(2, [8, 1], seed=3), nn.MLP(2, [8, 1], seed=3))
    a, b = nn.MLP(2, [8, 1], seed=3), nn.MLP(2, [8, 1], seed=4)
    assert not np.array_equal(a[0].weight.data, b[0].weight.data)
    c, d = nn.MLP(2, [8, 1]), nn.MLP(2, [8, 1])
    assert not np.array_equal(c[0].weight.data, d[0].weight.data)
    rng = np.random.default_rng(0)
    e, f = nn.Linear(3, 3, seed=rng), nn.Linear(3, 3, seed=rng)
    assert not np.array_equal(e.weight.data, f.weight.data)
    deep = nn.MLP(4, [4, 4], seed=0)
    assert not np.array_equal(deep[0].weight.data, deep[2].weight.data)


def test_the_start_lies_within_pytorchs_bound():
    layer = nn.Linear(100, 200, seed=0)
    for p in layer.parameters():
        assert np.abs(p.data).max() <= 0.1
        assert np.abs(p.data).max() > 0.095 and abs(p.data.mean()) < 0.01
        assert p.data.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1)


# ----- Activations and dropout -----


def test_activations_are_pytorchs(torch):
    x = np.linspace(-6, 6, 41)
    for mine, theirs in (
        (nn.ReLU(), torch.nn.ReLU()), (nn.Tanh(), torch.nn.Tanh()), (nn.Sigmoid(), torch.nn.Sigmoid()),
        (nn.GELU(), torch.nn.GELU(approximate="tanh")),
    ):  # fmt: skip
        a, b = fg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, want = mine(a), theirs(b)
        np.testing.assert_allclose(y.data, want.detach().numpy(), rtol=1e-13, atol=1e-15)
        y.sum().backward()
        want.sum().backward()
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12, atol=1e-14)
        assert list(mine.parameters()) == []
        np.testing.assert_array_equal(mine(x), y.data)


def test_another_gelu_is_refused_by_name():
    with pytest.raises(ValueError, match=r"none.*tanh"):
        nn.GELU(approximate="none")


def test_dropout():
    x = np.ones(20_000, np.float32)
    layer = nn.Dropout(0.25, seed=0)
    t = fg.Tensor(x, requires_grad=True)
    y = layer(t)
    assert y.dtype == np.float32
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(y.data == 0) == pytest.approx(0.25, abs=0.02)
    y.sum().backward()
    np.testing.assert_array_equal(t.grad, y.data)  # the mask that was drawn, scaled
    again = nn.Dropout(0.25, seed=0)
    np.testing.assert_array_equal(again(x).data, y.data)
    assert not np.array_equal(again(x).data, y.data)
    layer.eval()
    np.testing.assert_array_equal(getattr(layer(x), "_data", layer(x)), x)
    assert layer.train()(x).data.min() == 0
    np.testing.assert_array_equal(getattr(nn.Dropout(0.0)(x), "_data", nn.Dropout(0.0)(x)), x)
    for p in (-0.1, 1.0, 2, float("nan")):
        with pytest.raises(ValueError, match="p must"):
            nn.Dropout(p)
    assert "p=0.25" in repr(layer)


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(
        nn.Linear(2, 2, seed=0), nn.Sequential(nn.Dropout(0.5, seed=0), nn.ReLU()), nn.Dropout(0.5, seed=1)
    )
    assert model.eval() is model
    assert [m.training for m in model.modules()] == [False] * 6
    x = np.ones((4, 2))
    np.testing.assert_array_equal(model(x).data, model(x).data)
    assert model.train() is model and all(m.training for m in model.modules())
    assert nn.Linear(1, 1).training


# ----- Modules of one's own -----


class Block(nn.Module):
    def __init__(self):
        self.first = nn.Linear(2, 3, seed=0)
        self.scale = fg.Tensor(2.0, requires_grad=True, dtype=np.float32)
        self.frozen = fg.Tensor(1.0)
        self.rest = [nn.Linear(3, 3, seed=1), nn.ReLU()]
        self.pair = (fg.Tensor([1.0], requires_grad=True), "text")
        self.number = 3

    def forward(self, x, times=1):
        return self.rest[1](self.rest[0](self.first(x))) * self.scale * times


def test_a_module_of_ones_own():
    model = Block()
    assert [n for n, _ in model.named_parameters()] == [
        "first.weight", "first.bias", "scale", "rest.0.weight", "rest.0.bias", "pair.0"
    ]  # fmt: skip
    model(np.ones(2)).sum().backward()
    assert model.scale.grad.shape == () and model.first.weight.grad is not None
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(TypeError, match=r"Empty.*forward"):
        type("Empty", (nn.Module,), {})()(1)


def test_a_modules_forward_takes_keywords():
    model = Block()
    np.testing.assert_array_equal(model(np.ones(2), times=3).data, model(np.ones(2), 3).data)


def test_parameters_in_a_dict_or_a_nested_list_are_found():
    """A parameter that is not found is not trained, and nobody says so."""

    class Model(nn.Module):
        def __init__(self):
            self.heads = {"a": nn.Linear(1, 1, seed=0), "b": fg.Tensor(1.0, requires_grad=True)}
            self.grid = [[nn.Linear(1, 1, seed=0)], [nn.Linear(1, 1, seed=1)]]

    assert len(list(Model().parameters())) == 7


def test_tied_parameters_come_once_and_add_up():
    a = nn.Linear(2, 2, seed=0, dtype=float)
    model = nn.Sequential(a, nn.Tanh(), a)
    assert [n for n, _ in model.named_parameters()] == ["layers.0.weight", "layers.0.bias"]
    other = nn.Sequential(copy.deepcopy(a), nn.Tanh(), copy.deepcopy(a))
    x = np.array([[0.5, -1.0]])
    model(x).sum().backward()
    other(x).sum().backward()
    np.testing.assert_allclose(a.weight.grad, other[0].weight.grad + other[2].weight.grad, rtol=1e-14)
    again = copy.deepcopy(model)
    assert again[0] is again[2] and again[0] is not a
    tied = nn.Linear(3, 3, seed=0)
    tied.twin = nn.Linear(3, 3, seed=1)
    tied.twin.weight = tied.weight
    assert [n for n, _ in tied.named_parameters()] == ["weight", "bias", "twin.bias"]
    loaded = pickle.loads(pickle.dumps(tied))
    assert loaded.twin.weight is loaded.weight
    optimiser = fg.optim.SGD(model.parameters(), lr=0.1)
    before, g = a.weight.data.copy(), a.weight.grad.copy()
    optimiser.step()
    np.testing.assert_allclose(a.weight.data, before - 0.1 * g, rtol=1e-15)


def test_a_parameter_replaced_by_another_tensor():
    model = nn.Linear(2, 1, seed=0)
    model.weight = fg.Tensor([[1.0, 2.0]], requires_grad=True, dtype=np.float32)
    model.bias = fg.Tensor([0.5], requires_grad=True, dtype=np.float32)
    y = model([1.0, 1.0])
    y.sum().backward()
    assert y.tolist() == [3.5] and model.weight.grad.tolist() == [[1, 1]]


def test_print():
    model = nn.Sequential(nn.MLP(2, [4, 1], seed=0), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)))
    assert repr(model) == (
        "Sequential(\n"
        "  (layers.0): MLP(\n"
        "    (layers.0): Linear(2, 4)\n"
        "    (layers.1): ReLU()\n"
        "    (layers.2): Linear(4, 1)\n"
        "  )\n"
        "  (layers.1): Sequential(\n"
        "    (layers.0): ReLU()\n"
        "    (layers.1): Dropout(p=0.5)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Linear(2, 3)) == "Linear(2, 3)" and repr(nn.Sequential()) == "Sequential()"


# ----- Copy, save, load -----


def trained():
    model = nn.MLP(2, [4, 1], seed=0)
    optimiser = fg.optim.Adam(model.parameters(), lr=0.1)
    x = np.random.default_rng(0).normal(size=(8, 2))
    for _ in range(3):
        optimiser.zero_grad()
        fg.losses.mse_loss(model(x), np.float32(x[:, :1])).backward()
        optimiser.step()
    return model, optimiser, x


def test_deepcopy_and_pickle_of_a_trained_model():
    model, optimiser, x = trained()
    want = model(x).data.copy()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(model, again)
        np.testing.assert_array_equal(again(x).data, want)
        assert repr(again) == repr(model) and all(p.requires_grad for p in again.parameters())
        for p in again.parameters():
            p.data[...] = 0
        assert model(x).data.any()
        again(x).sum().backward()
        own = fg.optim.SGD(again.parameters(), lr=0.1)
        own.step()
        np.testing.assert_array_equal(model(x).data, want)
    model(x).sum().backward()
    optimiser.step()
    assert not np.array_equal(model(x).data, want)


def test_state_dict_is_a_copy_by_name():
    model, _, _ = trained()
    state = model.state_dict()
    assert list(state) == ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert all(type(a) is np.ndarray and a.flags.writeable for a in state.values())
    kept = {k: v.copy() for k, v in state.items()}
    for p in model.parameters():
        p.data[...] += 1
    for k in state:
        np.testing.assert_array_equal(state[k], kept[k])
    state["layers.0.bias"][...] = 7
    assert not np.any(model[0].bias.data == 7)
    model.load_state_dict(kept)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, kept[name])
    kept["layers.0.bias"][...] = 9
    assert not np.any(model[0].bias.data == 9)


def test_savez_and_load(tmp_path):
    model, _, x = trained()
    np.savez(tmp_path / "model.npz", **model.state_dict())
    other = nn.MLP(2, [4, 1], seed=99)
    with np.load(tmp_path / "model.npz") as kept:
        other.load_state_dict(kept)
    same(model, other)
    np.testing.assert_array_equal(other(x).data, model(x).data)
    double = nn.MLP(2, [4, 1], seed=1, dtype=float)
    double.load_state_dict(model.state_dict())
    assert double[0].weight.dtype == np.float64


def test_frozen_parameters_are_saved_too():
    """Fine-tuning freezes the first layer; what is saved must still make the model again."""
    model, other = nn.MLP(2, [4, 1], seed=0), nn.MLP(2, [4, 1], seed=1)
    for p in model[0].parameters():
        p.requires_grad = False
    state = model.state_dict()
    assert "layers.0.weight" in state
    other.load_state_dict(state)
    x = np.ones((3, 2))
    np.testing.assert_array_equal(other(x).data, model(x).data)
    assert [n for n, _ in model.named_parameters()] in (
        ["layers.2.weight", "layers.2.bias"],
        ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"],
    )
    model(x).sum().backward()
    assert model[0].weight.grad is None and model[2].weight.grad is not None


def test_load_state_dict_refuses_what_does_not_fit_and_changes_nothing():
    model, _, _ = trained()
    state = model.state_dict()
    wrong = {**state, "layers.2.bias": np.zeros(3)}
    with pytest.raises(ValueError, match=r"layers\.2\.bias.*\(1,\).*\(3,\)"):
        model.load_state_dict(wrong)
    with pytest.raises(KeyError, match=r"layers\.0\.weight"):
        model.load_state_dict({k: v for k, v in state.items() if k != "layers.0.weight"})
    with pytest.raises(KeyError, match="extra"):
        model.load_state_dict({**state, "extra": np.zeros(1)})
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, state[name])


def test_loading_a_pytorch_state(torch):
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    mine = nn.MLP(3, [4, 2], activation=nn.Tanh, dtype=float)
    mine.load_state_dict({f"layers.{k}": v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 3))
    y, want = mine(x), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.data, want.detach().numpy(), rtol=1e-13)
    np.sum(y**2).backward()
    (want**2).sum().backward()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-12)


def test_weights_loaded_between_forward_and_sweep_change_no_fluxion():
    x = np.array([[0.5, -1.0], [2.0, 1.0]])
    clean, model = (nn.MLP(2, [4, 1], activation=nn.Tanh, seed=0) for _ in range(2))
    np.sum(clean(x)).backward()
    L = np.sum(model(x))
    model.load_state_dict(nn.MLP(2, [4, 1], seed=5).state_dict())
    L.backward()
    for p, q in zip(model.parameters(), clean.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_a_model_in_a_transform():
    """The parameters as an argument: a nest in, a nest out."""
    model, x = nn.MLP(2, [3, 1], activation=nn.Tanh, seed=0, dtype=float), np.array([[0.5, -1.0]])
    state = model.state_dict()

    def loss(weights):
        h = np.tanh(x @ weights["layers.0.weight"].T + weights["layers.0.bias"])
        return np.sum(h @ weights["layers.2.weight"].T + weights["layers.2.bias"])

    g = fg.grad(loss)(state)
    model(x).sum().backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(g[name], p.grad, rtol=1e-14)


def test_evaluation_under_no_grad_keeps_nothing():
    model, x = nn.MLP(2, [4, 1], seed=0), np.ones((3, 2))
    model(x)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o) is fg.Tensor for o in gc.get_objects())
        with fg.no_grad():
            for _ in range(50):
                y = model(x)
        assert not y.requires_grad
        del y
        assert sum(type(o) is fg.Tensor for o in gc.get_objects()) == before
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_weight_is_laid_out_for_the_forward_product():
    model, optimiser, _ = trained()
    for layer in (model[0], model[2]):
        assert layer.weight.data.T.flags.c_contiguous
    model.load_state_dict({k: np.ascontiguousarray(v) for k, v in model.state_dict().items()})
    assert model[0].weight.data.T.flags.c_contiguous
    for p in optimiser.params:
        p.grad = np.ones(p.shape)
    optimiser.step()
    assert model[0].weight.data.T.flags.c_contiguous
    assert pickle.loads(pickle.dumps(model))[0].weight.data.T.flags.c_contiguous


# ----- Layers that a user takes apart -----


@pytest.mark.parametrize("shape", [(), (1,), (1, 2), (5, 2)])
def test_a_bias_of_another_shape_is_refused_or_gets_its_own_fluxion(shape):
    layer = nn.Linear(3, 2, seed=0, dtype=float)
    layer.bias = fg.Tensor(np.zeros(shape), requires_grad=True)
    x = np.ones((5, 3))
    try:
        y = layer(x)
    except ValueError:
        return
    np.sum(y).backward()
    bias = fg.Tensor(np.zeros(shape), requires_grad=True)
    np.sum(x @ layer.weight.data.T + bias).backward()
    assert layer.bias.grad.shape == shape
    np.testing.assert_array_equal(layer.bias.grad, bias.grad)


def test_a_plain_array_as_bias_is_a_constant_or_refused():
    layer = nn.Linear(3, 2, seed=0, dtype=float)
    layer.bias = np.ones(2)
    try:
        y = layer(np.zeros((5, 3)))
    except (TypeError, ValueError):
        return
    np.testing.assert_array_equal(y.data, np.ones((5, 2)))


def test_a_module_that_has_its_own_call_keeps_it():
    class Tenfold(nn.Module):
        def __call__(self, x):
            return 10 * self.forward(x)

        def forward(self, x):
            return 2 * x

    assert Tenfold()(1.0) == 20.0
