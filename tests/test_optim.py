"""Optimisers: PyTorch's steps to the last digits, whatever a user does between them."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.optim import LARGE, SGD, Adam, AdamW


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")


def leaf(data, **how):
    return fg.Tensor(data, requires_grad=True, **how)


SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.0}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.02}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.0)}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "betas": (0.5, 0.9)}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.0}),
]
SHAPES = [(3, 4), (4,), (), (2, 1, 3), (1,), (0,), (0, 3)]
IDS = [f"{n} {' '.join(f'{k}={v}' for k, v in h.items())}" for n, h in SETTINGS]


def pair(torch, name, how, shapes=SHAPES, dtypes=(np.float64,), seed=0):
    """The same parameters and the same optimiser, ours and theirs."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=s)).astype(dtypes[k % len(dtypes)]) for k, s in enumerate(shapes)]
    mine, theirs = [leaf(a) for a in arrays], [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
    return mine, theirs, getattr(fg.optim, name)(mine, **how), getattr(torch.optim, name)(theirs, foreach=False, **how)


def set_grads(torch, rng, mine, theirs, missing=()):
    for k, (p, q) in enumerate(zip(mine, theirs, strict=True)):
        g = np.asarray(rng.normal(size=p.shape)).astype(p.dtype)
        p.grad, q.grad = (None, None) if k in missing else (g, torch.tensor(g.copy()))


def agree(mine, theirs):
    for p, q in zip(mine, theirs, strict=True):
        got, want = p.data, q.detach().numpy()
        assert got.dtype == want.dtype and got.shape == want.shape
        eps = np.finfo(got.dtype).eps
        np.testing.assert_allclose(got, want, rtol=30 * eps, atol=30 * eps)


def step_together(torch, rng, mine, theirs, ours, peer, missing=()):
    set_grads(torch, rng, mine, theirs, missing)
    ours.step()
    peer.step()
    agree(mine, theirs)


# ----- PyTorch's numbers -----


@pytest.mark.parametrize("dtypes", [(np.float64,), (np.float32,), (np.float32, np.float64)], ids=["f64", "f32", "both"])
@pytest.mark.parametrize(("name", "how"), SETTINGS, ids=IDS)
def test_the_steps_are_pytorchs(torch, name, how, dtypes):
    mine, theirs, ours, peer = pair(torch, name, how, dtypes=dtypes)
    rng = np.random.default_rng(1)
    for _ in range(12):
        step_together(torch, rng, mine, theirs, ours, peer)


@pytest.mark.parametrize(("name", "how"), SETTINGS, ids=IDS)
def test_steps_on_which_some_have_no_fluxion(torch, name, how):
    mine, theirs, ours, peer = pair(torch, name, how, dtypes=(np.float64, np.float32))
    rng = np.random.default_rng(1)
    for missing in [(), (0, 2), (1,), (), range(7), (), (0,), (0,), (), (3, 4, 5, 6), (), ()]:
        step_together(torch, rng, mine, theirs, ours, peer, missing)


@pytest.mark.parametrize(("name", "how"), SETTINGS, ids=IDS)
def test_a_parameter_whose_first_fluxion_comes_late(torch, name, how):
    mine, theirs, ours, peer = pair(torch, name, how)
    rng = np.random.default_rng(1)
    for k in range(8):
        step_together(torch, rng, mine, theirs, ours, peer, missing=(1, 3) if k < 4 else ())


@pytest.mark.parametrize(
    ("name", "how"), [SETTINGS[k] for k in (0, 4, 5, 10, 14)], ids=[IDS[k] for k in (0, 4, 5, 10, 14)]
)
def test_large_parameters_beside_small_ones(torch, name, how):
    mine, theirs, ours, peer = pair(
        torch, name, how, shapes=[(LARGE,), (3,), (2, LARGE // 2 + 1), (5, 2)], dtypes=(np.float32,)
    )
    rng = np.random.default_rng(1)
    for missing in [(), (), (0,), (1,), (), (2, 3), ()]:
        step_together(torch, rng, mine, theirs, ours, peer, missing)


@pytest.mark.parametrize(("name", "how"), SETTINGS, ids=IDS)
def test_the_settings_can_be_changed_on_the_way(torch, name, how):
    mine, theirs, ours, peer = pair(torch, name, how)
    rng = np.random.default_rng(1)
    for k in range(8):
        set_grads(torch, rng, mine, theirs)
        ours.lr = peer.param_groups[0]["lr"] = 0.1 / (k + 1)
        if k == 4:
            ours.weight_decay = peer.param_groups[0]["weight_decay"] = 0.1
        ours.step()
        peer.step()
        agree(mine, theirs)


def test_momentum_may_be_switched_on_late(torch):
    mine, theirs, ours, peer = pair(torch, "SGD", {"lr": 0.1})
    rng = np.random.default_rng(1)
    for k in range(6):
        set_grads(torch, rng, mine, theirs)
        if k == 2:
            ours.momentum = peer.param_groups[0]["momentum"] = 0.9
        ours.step()
        peer.step()
        agree(mine, theirs)


def test_training_a_real_model_as_pytorch_does(torch):
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(32, 3)), rng.normal(size=(32, 2))
    for name, how in (SETTINGS[5], SETTINGS[10], SETTINGS[13]):
        theirs = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
        mine = fg.nn.MLP(3, [8, 2], activation=fg.nn.Tanh, dtype=float)
        mine.load_state_dict({f"layers.{k}": v.numpy() for k, v in theirs.state_dict().items()})
        ours, peer = (
            getattr(fg.optim, name)(mine.parameters(), **how),
            getattr(torch.optim, name)(theirs.parameters(), **how),
        )
        for _ in range(25):
            ours.zero_grad()
            peer.zero_grad()
            L = fg.losses.mse_loss(mine(x), t)
            M = torch.nn.functional.mse_loss(theirs(torch.tensor(x)), torch.tensor(t))
            L.backward()
            M.backward()
            ours.step()
            peer.step()
            assert L.item() == pytest.approx(M.item(), rel=1e-11)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-8, atol=1e-10)


# ----- By hand, without a peer -----


def by_hand(name, how, w, grads):
    how = {"lr": 1e-3, "momentum": 0.0, "nesterov": False, "betas": (0.9, 0.999), "eps": 1e-8,
           "weight_decay": 1e-2 if name == "AdamW" else 0.0, **how}  # fmt: skip
    w, v, m, s = w.copy(), 0 * w, 0 * w, 0 * w
    for t, g in enumerate(grads, 1):
        if name == "AdamW":
            w = w * (1 - how["lr"] * how["weight_decay"])
        else:
            g = g + how["weight_decay"] * w
        if name == "SGD":
            v = how["momentum"] * v + g
            w = w - how["lr"] * (g + how["momentum"] * v if how["nesterov"] else v)
        else:
            (b1, b2) = how["betas"]
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g * g
            w = w - how["lr"] * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + how["eps"])
    return w


@pytest.mark.parametrize(("name", "how"), SETTINGS, ids=IDS)
def test_the_steps_are_the_formulas(name, how):
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=(3, 2)), rng.normal(size=(10, 3, 2))
    w = leaf(start)
    optimiser = getattr(fg.optim, name)([w], **how)
    for g in grads:
        w.grad = g
        optimiser.step()
    np.testing.assert_allclose(w.data, by_hand(name, how, start, grads), rtol=1e-13)


ALL = [lambda ps: SGD(ps, lr=0.1), lambda ps: SGD(ps, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
       lambda ps: Adam(ps, lr=0.1), lambda ps: AdamW(ps, lr=0.1)]  # fmt: skip
ALL_IDS = ["SGD", "momentum", "Adam", "AdamW"]
each = pytest.mark.parametrize("make", ALL, ids=ALL_IDS)


def run(make, steps, between=lambda k, w, b: None, start=None):
    """A small training by `make`, with something done before each step; the numbers at the end."""
    w, b = start or (leaf([[0.5, -1.0], [2.0, 1.5]]), leaf([0.25, 0.5]))
    optimiser = make([w, b])
    x = np.array([[1.0, 2.0], [-1.0, 0.5], [0.25, 1.0]])
    for k in range(steps):
        between(k, w, b)
        optimiser.zero_grad()
        np.sum(np.tanh(x @ w + b) ** 2).backward()
        optimiser.step()
    return w.data.copy(), b.data.copy()


def check(make, between, steps=6):
    for got, want in zip(run(make, steps, between), run(make, steps), strict=True):
        np.testing.assert_array_equal(got, want)


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_dtype_and_shape_are_kept(make, dtype):
    w = leaf(np.ones((2, 3), dtype))
    optimiser = make([w])
    for k in range(3):
        w.grad = None if k == 1 else np.full((2, 3), 0.5, dtype)
        optimiser.step()
        assert w.dtype == dtype and w.shape == (2, 3) and w.data.dtype == dtype
    assert np.all(w.data < 1) and np.ptp(w.data) == 0


# ----- Whatever a user does between the steps -----


@each
def test_reading_and_holding_the_data_changes_nothing(make):
    held = []
    check(make, lambda k, w, b: held.append((w.data, b.data[:], w.data.T, w.detach(), b.numpy())))
    check(make, lambda k, w, b: held.append(w.data) if k == 2 else None)
    check(make, lambda k, w, b: [w.data, b.data].clear())


@each
def test_a_held_array_is_one_thing_or_the_other(make):
    """An array that the user took as w.data is either the parameter's, always, or never again: no mixture."""
    w = leaf([1.0, 2.0])
    optimiser = make([w])
    mine = w.data
    view = mine[:1]
    seen = []
    for _ in range(4):
        w.grad = [1.0, 1.0]
        optimiser.step()
        seen.append((np.array_equal(mine, w._value), view[0] == mine[0]))
    assert all(same for _, same in seen)
    assert len({follows for follows, _ in seen}) == 1
    mine[...] = 50
    assert w.tolist() == ([50, 50] if seen[0][0] else w.tolist())


@each
def test_data_set_between_steps(make):
    """p.data = …, in place, through load and through no_grad: the next step starts from there."""

    def same_numbers(k, w, b):
        if k == 1:
            w.data = w.data.copy()
        elif k == 2:
            w.data[...] = w.data + 0.0
            b.data = b.tolist()
        elif k == 3:
            with fg.no_grad():
                w += 0.0
        elif k == 4:
            b.data *= 1.0
            w.data = np.asfortranarray(w.data)

    check(make, same_numbers)


@pytest.mark.parametrize("way", ["set", "in place", "no_grad", "view", "load", "+="])
@each
def test_data_set_to_other_numbers_between_steps(make, way):
    model = fg.nn.Linear(2, 1, bias=False, seed=0, dtype=float)
    w, new = model.weight, np.array([[10.0, 20.0]])
    optimiser = make([w])
    view = None
    for k in range(4):
        if k == 2:
            if way == "set":
                w.data = new
            elif way == "in place":
                w.data[...] = new
            elif way == "view":
                view = w.data[:, :]
                view[...] = new
            elif way == "load":
                model.load_state_dict({"weight": new})
            elif way == "+=":
                w.data += new - w.data
            else:
                with fg.no_grad():
                    w -= w.data - new
            np.testing.assert_allclose(w.data, new, rtol=1e-14)
        w.grad = [[1.0, 1.0]]
        before = w.data.copy()
        optimiser.step()
        assert 0.01 < (before - w.data).max() < 0.8
    assert 9 < w.data[0, 0] < 10 and 19 < w.data[0, 1] < 20
    np.testing.assert_array_equal(new, [[10, 20]]) if way != "set" else None


@each
def test_the_array_that_a_user_set_is_the_parameter_or_untouched(make):
    start = np.array([1.0, 2.0])
    w = leaf([0.0, 0.0])
    w.data = start
    optimiser = make([w])
    for _ in range(3):
        w.grad = [1.0, 1.0]
        optimiser.step()
    assert start.tolist() == [1, 2] or np.array_equal(start, w.data)


def test_two_optimisers_over_one_parameter(torch):
    mine, theirs, ours, peer = pair(torch, "SGD", {"lr": 0.1, "momentum": 0.9})
    ours2, peer2 = Adam(mine[:3], lr=0.05), torch.optim.Adam(theirs[:3], lr=0.05)
    rng = np.random.default_rng(1)
    for k in range(10):
        set_grads(torch, rng, mine, theirs)
        for a, b in ((ours, peer), (ours2, peer2)) if k % 3 else ((ours2, peer2), (ours, peer), (ours, peer)):
            a.step()
            b.step()
            agree(mine, theirs)


def test_a_new_optimiser_in_the_middle_and_an_old_one_dropped():
    w = leaf([1.0, 2.0])
    first = SGD([w], lr=0.5)
    w.grad = [1.0, 1.0]
    first.step()
    assert w.tolist() == [0.5, 1.5]
    second = SGD([w], lr=1.0)
    del first
    gc.collect()
    second.step()
    assert w.tolist() == [-0.5, 0.5]
    del second
    w.data[0] = 3
    assert w.tolist() == [3, 0.5]
    (w * w).sum().backward()
    assert w.grad.tolist() == [7, 2]


@each
def test_a_kept_old_loss_stays_as_it_was(make):
    """Steps rebind; what an older graph saved is never written over, however many graphs are kept."""
    w, b = leaf([[0.5, -1.0], [2.0, 1.5]]), leaf([0.25, 0.5])
    x = np.array([[1.0, 2.0], [-1.0, 0.5]])
    optimiser = make([w, b])
    kept = []
    for k in range(6):
        optimiser.zero_grad()
        h = x @ w + b
        L = np.sum(np.tanh(h) * np.exp(b) + fg.softmax(w))
        L.backward()
        if k % 4 != 3:
            kept.append((L, w.data.copy(), b.data.copy(), w.grad.copy(), b.grad.copy(), L.item(), np.reshape(w, 4)))
        optimiser.step()
    for L, at_w, at_b, gw, gb, value, view in kept:
        w.grad = b.grad = None
        L.backward()
        np.testing.assert_array_equal(w.grad, gw)
        np.testing.assert_array_equal(b.grad, gb)
        record = fg.flows(L)
        np.testing.assert_array_equal(record.value(w), at_w)
        np.testing.assert_array_equal(record.value(b), at_b)
        np.testing.assert_array_equal(record[w], gw)
        assert L.item() == value
        np.testing.assert_array_equal(view.data, at_w.reshape(4))


@each
def test_a_step_between_forward_and_sweep(make):
    x = np.array([[1.0, 2.0], [-1.0, 0.5]])
    for model in (fg.nn.MLP(2, [3, 1], activation=fg.nn.Tanh, seed=0), fg.nn.MLP(2, [3, 1], seed=0, dtype=float)):
        params = list(model.parameters())
        optimiser = make(params)
        for _ in range(4):
            optimiser.zero_grad()
            L = np.sum(model(x) ** 2)
            L.backward()
            want = [p.grad for p in params]
            L2 = np.sum(model(x) ** 2)
            for p in params:
                p.grad = np.ones(p.shape)
            optimiser.step()
            optimiser.step()
            optimiser.zero_grad()
            L2.backward()
            for p, g in zip(params, want, strict=True):
                np.testing.assert_array_equal(p.grad, g)


@each
def test_what_is_saved_is_kept_by_a_view_a_detached_twin_or_a_copy(make):
    w = leaf([1.0, 2.0])
    optimiser = make([w])
    for _ in range(3):
        with fg.no_grad():
            view, row = w.reshape(2, 1), w[:1]
        twin, graph_view, numbers = w.detach(), w.reshape(2, 1), np.array(w.tolist())
        w.grad = [1.0, 1.0]
        for _ in range(3):
            optimiser.step()
        for kept, want in (
            (twin, numbers),
            (graph_view, numbers[:, None]),
            (view, numbers[:, None]),
            (row, numbers[:1]),
        ):
            np.testing.assert_array_equal(kept._value, want)


@each
def test_a_target_network_is_a_copy(make):
    online, target = fg.nn.Linear(2, 1, seed=0), fg.nn.Linear(2, 1, seed=1)
    optimiser = make(online.parameters())
    target.load_state_dict(online.state_dict())
    before = target.state_dict()
    for _ in range(3):
        online(np.ones(2)).sum().backward()
        optimiser.step()
    for name, p in target.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])
    for p, q in zip(target.parameters(), online.parameters(), strict=True):
        p.data = 0.9 * p.data + 0.1 * q.data
    assert not np.array_equal(target.weight.data, online.weight.data)


# ----- The fluxions that it is given -----


@each
def test_an_in_place_change_of_grad_reaches_the_optimiser(make):
    w, twin = leaf([3.0, -4.0]), leaf([3.0, -4.0])
    a, b = make([w]), make([twin])
    for _ in range(3):
        a.zero_grad()
        (w * w).sum().backward()
        norm = np.linalg.norm(w.grad)
        w.grad *= 0.1 / norm
        w.grad[1] = 0.5
        np.clip(w.grad, -0.05, 0.05, out=w.grad)
        twin.grad = w.grad.copy()
        a.step()
        b.step()
        np.testing.assert_array_equal(w.data, twin.data)


@each
def test_a_grad_that_the_caller_kept_never_changes(make):
    w, b = leaf([3.0, -4.0]), leaf(np.ones(LARGE))
    optimiser = make([w, b])
    kept = []
    for _ in range(5):
        optimiser.zero_grad()
        ((w * w).sum() + (b * b).sum()).backward()
        kept.append((w.grad, w.grad.copy(), b.grad, b.grad.copy(), w.grad[:1], w.grad[:1].copy()))
        optimiser.step()
        (w * 3).sum().backward()
    for g, g0, h, h0, v, v0 in kept:
        np.testing.assert_array_equal(g, g0)
        np.testing.assert_array_equal(h, h0)
        np.testing.assert_array_equal(v, v0)


@each
def test_grads_of_any_layout(make):
    rng = np.random.default_rng(0)
    g = rng.normal(size=(3, 4))
    results = []
    for layout in (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.broadcast_to(a, (2, 3, 4))[1],
        lambda a: np.flip(np.flip(a).copy()),
    ):
        w, f = leaf(np.ones((3, 4))), leaf(np.ones((4, 3)).T)
        optimiser = make([w, f])
        for _ in range(3):
            w.grad = layout(g)
            f.grad = layout(g)
            optimiser.step()
        results += [w.data, f.data]
    for r in results:
        np.testing.assert_array_equal(r, results[0])


@each
def test_zero_grad_forgets_and_accumulation_adds(make):
    w, twin = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    a, b = make([w]), make([twin])
    for _ in range(2):
        a.zero_grad()
        assert w.grad is None
        for part in (0, 1):
            (w[part] * w[part]).backward()
        b.zero_grad()
        (twin * twin).sum().backward()
        a.step()
        b.step()
    np.testing.assert_array_equal(w.data, twin.data)


@each
def test_a_step_without_any_fluxion_changes_nothing(make):
    w = leaf([1.0, 2.0])
    optimiser = make([w])
    for _ in range(3):
        optimiser.step()
    assert w.tolist() == [1, 2] and w.grad is None
    w.grad = [0.5, 0.5]
    optimiser.step()
    twin = leaf([1.0, 2.0])
    other = make([twin])
    twin.grad = [0.5, 0.5]
    other.step()
    np.testing.assert_array_equal(w.data, twin.data)


# ----- Any sequence of all that -----


class Shadow:
    """What a training should hold, in plain NumPy beside it: values, fluxions, states, and all that was kept."""

    x = np.array([[1.0, 2.0], [-1.0, 0.5], [0.25, 1.0]])

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.layer = fg.nn.Linear(2, 3, seed=seed, dtype=float)
        self.params = [self.layer.weight, self.layer.bias]
        self.values = [np.array(p.tolist()) for p in self.params]
        self.grads = [None, None]
        self.eras = [0, 0]  # a new one whenever .grad is another array
        how = [
            {"lr": 0.1},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True},
            {"lr": 0.05},
            {"lr": 0.05, "weight_decay": 0.1},
        ]
        names = ["SGD", "SGD", "Adam", "AdamW"]
        self.optimisers, self.histories, self.settings = [], [], []
        for k in (seed % 4, (seed // 4) % 4):
            self.optimisers.append(getattr(fg.optim, names[k])(self.params, **how[k]))
            self.settings.append((names[k], how[k]))
            self.histories.append([{}, {}])
        self.losses, self.kept, self.held = [], [], []

    def slopes(self, w, b):
        t = np.tanh(self.x @ w.T + b)
        g = 2 * t * (1 - t * t)
        return [g.T @ self.x, g.sum(0)]

    def forward(self):
        at = [v.copy() for v in self.values]
        self.losses.append((np.sum(np.tanh(self.layer(self.x)) ** 2), at))
        if len(self.losses) > 4:
            self.losses.pop(self.rng.integers(4))

    def backward(self):
        if not self.losses:
            return
        L, at = self.losses[self.rng.integers(len(self.losses)) if self.rng.random() < 0.3 else -1]
        L.backward()
        for k, g in enumerate(self.slopes(*at)):
            self.grads[k] = g if self.grads[k] is None else self.grads[k] + g
            self.eras[k] += 1

    def flows(self):
        for L, at in self.losses:
            record = fg.flows(L)
            for p, g, value in zip(self.params, self.slopes(*at), at, strict=True):
                np.testing.assert_allclose(record[p], g, rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(record.value(p), value, rtol=1e-12)

    def keep_grad(self):
        k = self.rng.integers(2)
        if self.grads[k] is not None:
            kept = self.params[k].grad
            self.kept.append((kept[...] if self.rng.random() < 0.5 else kept, kept.copy(), k, self.eras[k]))

    def drop_kept(self):
        self.kept = self.kept[len(self.kept) // 2 :]
        self.held = self.held[len(self.held) // 2 :]

    def clip(self):
        k = self.rng.integers(2)
        if self.grads[k] is not None:
            self.params[k].grad *= 0.5
            self.grads[k] = self.grads[k] * 0.5
            for _, copied, j, era in self.kept:
                if (j, era) == (k, self.eras[k]):
                    copied *= 0.5

    def set_grad(self):
        k = self.rng.integers(2)
        g = self.rng.normal(size=self.values[k].shape)
        self.params[k].grad, self.grads[k] = g, g.copy()
        self.eras[k] += 1

    def zero(self):
        way = self.rng.integers(4)
        if way < 2:
            self.optimisers[way].zero_grad()
        elif way == 2:
            self.layer.zero_grad()
        else:
            for p in self.params:
                p.grad = None
        self.grads = [None, None]
        self.eras = [e + 1 for e in self.eras]

    def step(self):
        i = int(self.rng.random() < 0.25)
        self.optimisers[i].step()
        name, how = self.settings[i]
        for k, g in enumerate(self.grads):
            if g is not None:
                self.values[k] = self.moved(name, how, self.histories[i][k], self.values[k], g)

    @staticmethod
    def moved(name, how, past, w, g):
        if name == "SGD":
            if "momentum" not in how:
                return w - how["lr"] * g
            past["v"] = 0.9 * past.get("v", 0) + g
            return w - how["lr"] * (g + 0.9 * past["v"])
        past["t"] = past.get("t", 0) + 1
        past["m"] = 0.9 * past.get("m", 0) + 0.1 * g
        past["s"] = 0.999 * past.get("s", 0) + 0.001 * g * g
        m, s = past["m"] / (1 - 0.9 ** past["t"]), past["s"] / (1 - 0.999 ** past["t"])
        return w * (1 - how["lr"] * how.get("weight_decay", 0)) - how["lr"] * m / (np.sqrt(s) + 1e-8)

    def set_data(self):
        k, way = self.rng.integers(2), self.rng.integers(4)
        new = self.rng.normal(size=self.values[k].shape)
        if way == 0:
            self.params[k].data = new
        elif way == 1:
            self.params[k].data[...] = new
        elif way == 2:
            self.layer.load_state_dict({**self.layer.state_dict(), ("weight", "bias")[k]: new})
        else:
            self.params[k].data -= self.params[k].data - new
        self.values[k] = new.copy()

    def hold(self):
        k = self.rng.integers(2)
        mine = self.params[k].data
        self.held.append(
            (k, [mine, mine[:1], mine.T, self.params[k].detach(), self.params[k].reshape(-1)][self.rng.integers(5)])
        )

    def write_to_what_is_held(self):
        """It is the parameter's own array, or not; but no loss that was computed may change."""
        for k, array in self.held:
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = 7
                self.values[k] = np.array(self.params[k].tolist())

    def copy(self):
        twin = copy.deepcopy(self.layer)
        twin.weight.data[...] = 0
        fg.optim.Adam(twin.parameters()).zero_grad()

    def check(self):
        for p, v, g in zip(self.params, self.values, self.grads, strict=True):
            np.testing.assert_allclose(p.tolist(), v, rtol=1e-9, atol=1e-11)
            assert (p.grad is None) == (g is None)
            if g is not None:
                np.testing.assert_allclose(p.grad, g, rtol=1e-9, atol=1e-11)
        for kept, copied, _, _ in self.kept:
            np.testing.assert_array_equal(kept, copied)
        for L, at in self.losses:
            assert L.item() == pytest.approx(np.sum(np.tanh(self.x @ at[0].T + at[1]) ** 2), rel=1e-12)


@pytest.mark.parametrize("seed", range(64))
def test_any_sequence_of_a_users_moves(seed):
    shadow = Shadow(seed)
    often = ["forward", "backward", "step", "zero"] * 3
    moves = [
        *often,
        "keep_grad",
        "clip",
        "set_grad",
        "set_data",
        "hold",
        "write_to_what_is_held",
        "flows",
        "copy",
        "drop_kept",
    ]
    done = []
    for _ in range(80):
        done.append(moves[shadow.rng.integers(len(moves))])
        getattr(shadow, done[-1])()
        try:
            shadow.check()
        except AssertionError as error:
            raise AssertionError(f"after {' '.join(done[-8:])}") from error


# ----- Copies of a whole training -----


@each
@pytest.mark.parametrize("again", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copied_training_goes_on_as_the_original(make, again):
    model = fg.nn.MLP(2, [3, 1], activation=fg.nn.Tanh, seed=0, dtype=float)
    optimiser = make(model.parameters())
    x = np.array([[1.0, 2.0], [-1.0, 0.5]])

    def train(model, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            np.sum(model(x) ** 2).backward()
            optimiser.step()

    train(model, optimiser, 3)
    twin, its = again((model, optimiser))
    assert its.params[0] is twin[0].weight
    train(model, optimiser, 4)
    train(twin, its, 4)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


# ----- Refusals -----


def test_what_an_optimiser_takes():
    w = leaf([1.0])
    for params, kind, word in (
        (w, TypeError, "iterable"), ([], ValueError, "at least one"), (iter(()), ValueError, "at least one"),
        ([w * 2], TypeError, "leaf"), ([fg.Tensor([1.0])], TypeError, "require grad"),
        ([np.ones(2)], TypeError, "leaf"), ([1.0], TypeError, "leaf"),
    ):  # fmt: skip
        for optimiser in (SGD, Adam, AdamW):
            with pytest.raises(kind, match=word):
                optimiser(params, lr=0.1)
    assert SGD([w, w], lr=1.0).params == [w]
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="lr"):
            SGD([w], lr=wrong)
    with pytest.raises(ValueError, match="nesterov"):
        SGD([w], lr=0.1, nesterov=True)
    for betas in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9)):
        with pytest.raises(ValueError, match="betas"):
            Adam([w], betas=betas)


def test_negative_settings_are_refused():
    w = leaf([1.0])
    for how in ({"momentum": -0.5}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(how))):
            SGD([w], lr=0.1, **how)
    for how in ({"eps": -1.0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(how))):
            AdamW([w], **how)


def test_a_parameter_given_twice_moves_once():
    w = leaf([1.0])
    optimiser = SGD([w, w], lr=1.0)
    w.grad = [0.25]
    optimiser.step()
    assert w.tolist() == [0.75]


def test_numpy_scalars_as_settings_keep_float32():
    w = leaf(np.ones(3, np.float32))
    optimiser = AdamW(
        [w],
        lr=np.float64(0.1),
        betas=(np.float64(0.9), np.float64(0.99)),
        eps=np.float64(1e-8),
        weight_decay=np.float64(0.1),
    )
    w.grad = np.ones(3)
    optimiser.step()
    optimiser.lr = np.float32(0.05)
    optimiser.step()
    assert w.dtype == np.float32
    w = leaf(np.ones(3, np.float32))
    optimiser = SGD([w], lr=np.float64(0.1), momentum=np.float64(0.9), weight_decay=np.float64(0.1))
    w.grad = np.ones(3)
    optimiser.step()
    assert w.dtype == np.float32


def test_evaluating_between_steps_under_no_grad():
    def evaluate(k, w, b):
        with fg.no_grad():
            np.sum(np.tanh(w + b))

    for make in ALL:
        check(make, evaluate)


def test_few_arrays_are_made_in_a_step():
    """A step is a handful of ufuncs over one buffer, however many layers there are."""
    deep = [leaf(np.ones((4, 4), np.float32)) for _ in range(40)]
    optimiser = Adam(deep, lr=0.1)
    calls = []
    update = type(optimiser)._update
    optimiser._update = lambda *args: (calls.append(1), update(optimiser, *args))[1]
    for p in deep:
        p.grad = np.ones((4, 4))
    optimiser.step()
    assert len(calls) == 1


# ----- What a search over such sequences found -----


def test_weights_set_in_another_memory_order_are_not_scrambled():
    """A weight lies (in, out) in memory; the array that a user sets may not."""
    for make in ALL:
        for order in "CF":
            layer = fg.nn.Linear(2, 3, seed=0, dtype=float)
            optimiser = make(layer.parameters())
            new = np.arange(6.0).reshape(3, 2).copy(order)
            kept = []
            for k in range(6):
                kept.append(layer([[1.0, 2.0]]).sum())
                if k == 2:
                    layer.weight.data = new.copy(order)
                for p in layer.parameters():
                    p.grad = np.zeros(p.shape) if k else None
                optimiser.lr = 0.0
                optimiser.step()
            np.testing.assert_allclose(layer.weight.data, new)


@pytest.mark.parametrize("make", ALL[2:], ids=ALL_IDS[2:])
def test_every_parameter_counts_its_own_steps(make):
    """A step on which one parameter, or none, had a fluxion; then sweeps and steps as ever."""
    for missing in ((), (0,), (1,), (0, 1)):
        a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
        optimiser, grads = make([a, b]), ([], [])
        for k in range(5):
            optimiser.zero_grad()
            parts = [p for j, p in enumerate((a, b)) if k != 1 or j not in missing]
            if parts:
                sum((np.sum(p * p) for p in parts), 0.0).backward()
            for p, seen in zip((a, b), grads, strict=True):
                if p.grad is not None:
                    seen.append(p.grad.copy())
            optimiser.step()
        name, how = ("Adam", {"lr": 0.1}) if make is ALL[2] else ("AdamW", {"lr": 0.1})
        for p, seen in zip((a, b), grads, strict=True):
            np.testing.assert_allclose(p.data, by_hand(name, how, np.array([1.0, 2.0]), seen), rtol=1e-12)


def test_a_kept_loss_survives_a_set_and_a_second_optimiser():
    """A step gathers what was set by hand; the buffer that it gathers into may be saved by an older graph."""
    for move in ("set", "in place", "no_grad", "second optimiser", "missing"):
        for make in ALL:
            w, b = leaf([1.0, 2.0]), leaf([3.0])
            optimiser, other = make([w, b]), SGD([w, b], lr=0.5)
            w.grad, b.grad = [1.0, 1.0], [1.0]
            optimiser.step()
            L, at = (w * w).sum() * (b * b).sum(), (np.array(w.tolist()), np.array(b.tolist()))
            view = np.reshape(w, (2, 1))
            if move == "set":
                w.data = [5.0, 5.0]
            elif move == "in place":
                w.data[...] = 5
            elif move == "no_grad":
                with fg.no_grad():
                    w -= 5.0
            elif move == "second optimiser":
                other.step()
            else:
                b.grad = None
            for _ in range(3):
                optimiser.step()
            w.grad = b.grad = None
            L.backward()
            np.testing.assert_allclose(w.grad, 2 * at[0] * np.sum(at[1] ** 2), rtol=1e-14, err_msg=move)
            np.testing.assert_allclose(b.grad, 2 * at[1] * np.sum(at[0] ** 2), rtol=1e-14, err_msg=move)
            np.testing.assert_array_equal(view.tolist(), at[0][:, None])
            np.testing.assert_array_equal(fg.flows(L).value(w), at[0])


# ----- Two sweeps at once -----


def test_a_sweep_inside_a_sweep_does_not_write_over_it():
    """As two threads over one model do: each sweep is given the same room for the same parameter's fluxion."""
    x = np.arange(6.0).reshape(2, 3)

    def run(prepare):
        model = fg.nn.MLP(3, [4, 2], activation=fg.nn.Tanh, seed=0, dtype=float)
        prepare(model)

        def pull(g, y, h):
            np.sum(model(3 * x) ** 2).backward()
            return g

        row = fg.fused("hostile_nested x", lambda h: h * 1, pull)
        first, squash, last = model
        np.sum(last(squash(row(first(x)))) ** 2).backward()
        return [p.grad for p in model.parameters()]

    want = run(lambda model: None)
    got = run(lambda model: SGD(model.parameters(), 0.1).zero_grad())
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
