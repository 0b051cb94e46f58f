"""Not only MLPs: models in plain `import numpy as np`, their fluxions against PyTorch's and along a direction."""

from __future__ import annotations

import numpy as np
import pytest

import fluxgrad as fg


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: no peer to compare with")


# ----- A Gaussian process: the negative log marginal likelihood, by solve and slogdet -----

RNG = np.random.default_rng(0)
GP_X, GP_Y = RNG.uniform(-2, 2, (25, 3)), RNG.normal(size=25)
GP = {
    "log length": np.array([0.1, -0.3, 0.5]),
    "log signal": np.array(0.2),
    "log noise": np.array(-1.0),
    "mean": np.array(0.3),
}


def gaussian_process(p):
    x = GP_X / np.exp(p["log length"])
    distance = np.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1)
    k = np.exp(2 * p["log signal"]) * np.exp(-0.5 * distance) + np.exp(2 * p["log noise"]) * np.eye(len(x))
    r = GP_Y - p["mean"]
    _, logdet = np.linalg.slogdet(k)
    return 0.5 * r @ np.linalg.solve(k, r) + 0.5 * logdet + 0.5 * len(x) * np.log(2 * np.pi)


def gaussian_process_by_torch(torch, p):
    x = torch.tensor(GP_X) / torch.exp(p["log length"])
    distance = ((x[:, None, :] - x[None, :, :]) ** 2).sum(-1)
    k = torch.exp(2 * p["log signal"]) * torch.exp(-0.5 * distance) + torch.exp(2 * p["log noise"]) * torch.eye(
        len(x), dtype=x.dtype
    )
    r = torch.tensor(GP_Y) - p["mean"]
    return 0.5 * r @ torch.linalg.solve(k, r) + 0.5 * torch.linalg.slogdet(k)[1] + 0.5 * len(x) * np.log(2 * np.pi)


# ----- A recurrent network over 200 steps, and what it read out at the end and on the way -----

RNN_X, RNN_Y = RNG.normal(size=(200, 4, 3)), RNG.normal(size=(200, 4, 2))
RNN = {
    "in": RNG.normal(size=(3, 8)) * 0.5, "hidden": RNG.normal(size=(8, 8)) * 0.4, "bias": RNG.normal(size=8) * 0.1,
    "out": RNG.normal(size=(8, 2)) * 0.5, "start": RNG.normal(size=(1, 8)) * 0.5,
}  # fmt: skip


def recurrent(p):
    h = np.broadcast_to(p["start"], (4, 8))
    outputs = []
    for x in RNN_X:
        h = np.tanh(x @ p["in"] + h @ p["hidden"] + p["bias"])
        outputs.append(h @ p["out"])
    return np.mean((np.stack(outputs) - RNN_Y) ** 2)


def recurrent_by_torch(torch, p):
    h = p["start"].expand(4, 8)
    outputs = []
    for x in torch.tensor(RNN_X):
        h = torch.tanh(x @ p["in"] + h @ p["hidden"] + p["bias"])
        outputs.append(h @ p["out"])
    return ((torch.stack(outputs) - torch.tensor(RNN_Y)) ** 2).mean()


# ----- A block of attention: layer norms by mean and var, heads by einsum, a causal mask, a GELU layer, residuals -----

SEQ = RNG.normal(size=(2, 6, 8))
NEXT = RNG.integers(0, 5, (2, 6))
MASK = np.triu(np.ones((6, 6), bool), 1)
BLOCK = {
    **{k: RNG.normal(size=(8, 8)) / 3 for k in ("query", "key", "value", "mix")},
    "up": RNG.normal(size=(8, 16)) / 3, "down": RNG.normal(size=(16, 8)) / 4, "read": RNG.normal(size=(8, 5)) / 3,
    "norms": [(RNG.normal(size=8), RNG.normal(size=8)) for _ in range(2)],
}  # fmt: skip


def attention(p):
    def layer_norm(x, scale_shift):
        scale, shift = scale_shift
        return (x - np.mean(x, axis=-1, keepdims=True)) / np.sqrt(
            np.var(x, axis=-1, keepdims=True) + 1e-5
        ) * scale + shift

    x = layer_norm(SEQ, p["norms"][0])
    q, k, v = ((x @ p[name]).reshape(2, 6, 2, 4) for name in ("query", "key", "value"))
    score = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(4.0)
    score = np.where(MASK, -np.inf, score)
    weight = np.exp(score - np.max(score, axis=-1, keepdims=True))
    weight = weight / np.sum(weight, axis=-1, keepdims=True)
    x = SEQ + np.einsum("bhij,bjhd->bihd", weight, v).reshape(2, 6, 8) @ p["mix"]
    h = layer_norm(x, p["norms"][1]) @ p["up"]
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    logits = (x + h @ p["down"]) @ p["read"]
    surprise = np.log(np.sum(np.exp(logits), axis=-1)) - np.take_along_axis(logits, NEXT[..., None], axis=-1)[..., 0]
    return np.mean(surprise)


def attention_by_torch(torch, p):
    F = torch.nn.functional
    s = torch.tensor(SEQ)
    x = F.layer_norm(s, (8,), *p["norms"][0])
    q, k, v = ((x @ p[name]).reshape(2, 6, 2, 4) for name in ("query", "key", "value"))
    score = torch.einsum("bihd,bjhd->bhij", q, k) / 2
    weight = torch.softmax(score.masked_fill(torch.tensor(MASK), -torch.inf), -1)
    x = s + torch.einsum("bhij,bjhd->bihd", weight, v).reshape(2, 6, 8) @ p["mix"]
    h = F.gelu(F.layer_norm(x, (8,), *p["norms"][1]) @ p["up"], approximate="tanh")
    logits = (x + h @ p["down"]) @ p["read"]
    return F.cross_entropy(logits.reshape(-1, 5), torch.tensor(NEXT).reshape(-1))


# ----- A state that is estimated: a Kalman filter, all linear algebra, with inv, det and many small matrices -----

EYE = np.eye(2)
KALMAN_Y = RNG.normal(size=(30, 1))
KALMAN = {"turn": np.array(0.3), "decay": np.array(0.9), "noise": np.array([0.2, 0.1]), "look": np.array([[1.0, 0.3]])}


def kalman(p, np=np, eye=EYE, ys=KALMAN_Y):
    c, s = np.cos(p["turn"]) * p["decay"], np.sin(p["turn"]) * p["decay"]
    a = np.stack([np.stack([c, -s]), np.stack([s, c])])
    q, h = p["noise"] ** 2 * eye, p["look"]
    mean, cov, total = 0 * p["noise"], eye, 0.0
    for y in ys:
        mean, cov = a @ mean, a @ cov @ a.T + q
        seen = h @ cov @ h.T + 0.25
        gain = cov @ h.T @ np.linalg.inv(seen)
        miss = y - h @ mean
        total = total + 0.5 * np.log(np.linalg.det(seen)) + 0.5 * miss @ np.linalg.solve(seen, miss)
        mean, cov = mean + gain @ miss, cov - gain @ seen @ gain.T
    return total


def kalman_by_torch(torch, p):
    return kalman(p, torch, torch.eye(2, dtype=torch.float64), torch.tensor(KALMAN_Y))


MODELS = {
    "Gaussian process": (gaussian_process, gaussian_process_by_torch, GP),
    "RNN of 200 steps": (recurrent, recurrent_by_torch, RNN),
    "attention": (attention, attention_by_torch, BLOCK),
    "Kalman filter": (kalman, kalman_by_torch, KALMAN),
}
each = pytest.mark.parametrize(("f", "peer", "p"), MODELS.values(), ids=MODELS)


def mapped(f, nest):
    if isinstance(nest, dict):
        return {k: mapped(f, v) for k, v in nest.items()}
    return type(nest)(mapped(f, v) for v in nest) if isinstance(nest, list | tuple) else f(nest)


def arrays(nest):
    if isinstance(nest, dict):
        return [a for v in nest.values() for a in arrays(v)]
    return [a for v in nest for a in arrays(v)] if isinstance(nest, list | tuple) else [nest]


def moved(nest, direction, h):
    steps = iter(arrays(direction))
    return mapped(lambda a: a + h * next(steps), nest)


@each
def test_fluxions_are_pytorchs(torch, f, peer, p):
    value, g = fg.value_and_grad(f)(p)
    theirs = mapped(lambda a: torch.tensor(a, requires_grad=True), p)
    want = peer(torch, theirs)
    want.backward()
    assert value == pytest.approx(want.item(), rel=1e-12)
    assert value == f(p), "inside the transform the same code gives the same number"
    for mine, other, given in zip(arrays(g), arrays(theirs), arrays(p), strict=True):
        assert type(mine) is np.ndarray and mine.shape == given.shape and mine.dtype == np.float64
        np.testing.assert_allclose(mine, other.grad.numpy(), rtol=1e-10, atol=1e-10 * np.abs(other.grad.numpy()).max())


@each
def test_fluxions_along_a_random_direction(f, peer, p):
    """Without a peer: the slope of the value itself, by a central difference; and the forward sweep's."""
    rng = np.random.default_rng(1)
    g = arrays(fg.grad(f)(p))
    for _ in range(2):
        direction = mapped(lambda a: rng.normal(size=a.shape), p)
        h = 1e-5
        up, down = (f(moved(p, direction, s)) for s in (h, -h))
        slope = sum(np.sum(a * d) for a, d in zip(g, arrays(direction), strict=True))
        assert slope == pytest.approx((up - down) / (2 * h), rel=1e-6)
        assert fg.jvp(f, (p,), (direction,))[1] == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in MODELS if "RNN" not in name])  # (it has a test of its own below)
def test_second_fluxions_are_pytorchs(torch, name):
    f, peer, p = MODELS[name]
    rng = np.random.default_rng(2)
    direction = mapped(lambda a: rng.normal(size=a.shape), p)
    mine = fg.jvp(fg.grad(f), (p,), (direction,))[1]
    theirs = mapped(lambda a: torch.tensor(a, requires_grad=True), p)
    first = torch.autograd.grad(peer(torch, theirs), arrays(theirs), create_graph=True)
    along = sum((g * torch.tensor(d)).sum() for g, d in zip(first, arrays(direction), strict=True))
    for a, b in zip(arrays(mine), torch.autograd.grad(along, arrays(theirs)), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-8, atol=1e-9 * np.abs(b.numpy()).max())


def test_second_fluxions_through_time():
    def short(w):
        h = np.zeros(8)
        for x in RNN_X[:12, 0]:
            h = np.tanh(x @ RNN["in"] + h @ w + RNN["bias"])
        return np.sum(h * h)

    w, v = RNN["hidden"], np.random.default_rng(3).normal(size=(8, 8))
    by_jvp = fg.jvp(fg.grad(short), (w,), (v,))[1]
    by_grad = fg.grad(lambda u: np.sum(fg.grad(short)(u) * v))(w)
    np.testing.assert_allclose(by_jvp, by_grad, rtol=1e-11, atol=1e-13)
    h = 1e-5
    np.testing.assert_allclose(
        by_jvp, (fg.grad(short)(w + h * v) - fg.grad(short)(w - h * v)) / (2 * h), rtol=1e-6, atol=1e-8
    )


@each
def test_the_old_way_gives_the_same(f, peer, p):
    """Tensors and backward() instead of a transform."""
    tensors = mapped(lambda a: fg.Tensor(a, requires_grad=True), p)
    f(tensors).backward()
    for t, g in zip(arrays(tensors), arrays(fg.grad(f)(p)), strict=True):
        np.testing.assert_allclose(t.grad, g, rtol=1e-13, atol=1e-15)


@each
def test_float32_parameters_get_float32_fluxions(f, peer, p):
    g32 = fg.grad(f)(mapped(lambda a: a.astype(np.float32), p))
    for a, b in zip(arrays(g32), arrays(fg.grad(f)(p)), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3 * np.abs(b).max())


def test_a_gaussian_process_learns():
    p, first = GP, float(gaussian_process(GP))
    step = fg.value_and_grad(gaussian_process)
    for _ in range(40):
        _, g = step(p)
        p = {k: p[k] - 0.02 * g[k] for k in p}
    assert gaussian_process(p) < first - 3
