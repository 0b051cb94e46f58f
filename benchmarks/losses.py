"""What the losses cost, forward and backward together, beside PyTorch's and beside the plain NumPy form of the paper.

    python benchmarks/losses.py

float32, one thread, in turns over many short rounds; the CPU time of the process counts, of the rounds the fastest. First
all must agree. PyTorch (where installed) takes its fused loss where it has one; sigmoid focal loss is torchvision's formula.
The NumPy form is the paper's, value and signal, shifted so that nothing overflows: what a student would write, digits lost.

The command exits with 1 where a target is missed: faster than PyTorch for the first of each, and not slower than 2.5 times
the NumPy form (3.5 above 64 classes, 8 for the divergence), which is what the digits may cost.
"""

import argparse
import importlib.util
import sys

from turns import ONE_THREAD, fastest, with_settings

with_settings(ONE_THREAD)

import numpy as np  # noqa: E402  (the settings come first)

import fluxgrad as fg  # noqa: E402  (the settings come first)

ROUND = 0.004  # seconds of CPU time that one round takes, at least


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def numpy_cross_entropy(z, t):
    p, rows = softmax(z), np.arange(len(t))
    loss = -np.log(p[rows, t]).mean()
    p[rows, t] -= 1
    return loss, p / np.float32(len(t))


def numpy_huber(p, t):
    r = p - t
    loss = np.where(np.abs(r) < 1, 0.5 * r * r, np.abs(r) - 0.5).mean()
    return loss, np.where(np.abs(r) < 1, r, np.sign(r)) / np.float32(r.size)


def numpy_mse(p, t):
    r = p - t
    return (r * r).mean(), r * np.float32(2 / r.size)


def numpy_logistic(z, t):
    p = 1 / (1 + np.exp(-z))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), (p - t) / np.float32(z.size)


def numpy_focal(z, t):
    s = np.where(t == 1, z, -z)
    p = 1 / (1 + np.exp(-s))
    loss = -((1 - p) ** 2) * np.log(p)
    by_p = -((1 - p) ** 2 / p - 2 * (1 - p) * np.log(p))
    alpha = np.where(t == 1, np.float32(0.25), np.float32(0.75))
    return (alpha * loss).mean(), alpha * by_p * p * (1 - p) * np.where(t == 1, 1, -1).astype(z.dtype) / np.float32(
        z.size
    )


def numpy_softmax_focal(z, t):
    p, rows = softmax(z), np.arange(len(t))
    p_t = p[rows, t]
    loss = (-((1 - p_t) ** 2) * np.log(p_t)).mean()
    w = (1 - p_t) ** 2 - 2 * p_t * (1 - p_t) * np.log(p_t)
    p[rows, t] -= 1
    return loss, w[:, None] * p / np.float32(len(t))


def numpy_divergence(z, w):
    lq, lp = (x - x.max(axis=1, keepdims=True) for x in (z, w))
    lq, lp = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (lq, lp))
    p, q = np.exp(lp), np.exp(lq)
    return (p * (lp - lq)).sum(axis=1).mean(), (q - p) / np.float32(len(z))


def numpy_smoothed(z, t):
    p, k = softmax(z), z.shape[1]
    y = np.full(z.shape, np.float32(0.1 / k))
    y[np.arange(len(t)), t] += np.float32(0.9)
    return -(y * np.log(p)).sum(axis=1).mean(), (p - y) / np.float32(len(t))


def numpy_weighted(z, t):
    p, rows, w = softmax(z), np.arange(len(t)), weights(z.shape[1])[t]
    loss = -(w * np.log(p[rows, t])).sum() / w.sum()
    p[rows, t] -= 1
    return loss, (w / w.sum())[:, None] * p


def numpy_ignoring(z, t):
    keep, signal = t % 4 > 0, np.zeros_like(z)
    loss, signal[keep] = numpy_cross_entropy(z[keep], t[keep])
    return loss, signal


def numpy_bernoulli(p, t):
    loss = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    return loss, ((1 - t) / (1 - p) - t / p) / np.float32(p.size)


def smoothed(z, t):
    return fg.losses.cross_entropy(z, t, label_smoothing=0.1)


def weighted(z, t):
    return fg.losses.cross_entropy(z, t, weight=weights(z.shape[1]))


def ignoring(z, t):
    return fg.losses.cross_entropy(z, np.where(t.data % 4 > 0, t.data, -100))


def weights(k):
    return np.linspace(0.5, 2, k, dtype=np.float32)


def torch_focal(F, torch):
    def loss(z, t):
        p = torch.sigmoid(z)
        ce = F.binary_cross_entropy_with_logits(z, t, reduction="none")
        p_t = p * t + (1 - p) * (1 - t)
        return ((0.25 * t + 0.75 * (1 - t)) * ce * (1 - p_t) ** 2).mean()

    return loss


def torch_divergence(F, torch):
    def loss(z, w):
        return F.kl_div(F.log_softmax(z, 1), F.log_softmax(w, 1), reduction="batchmean", log_target=True)

    return loss


def labels(rng, n, k):
    return (rng.normal(size=(n, k)) * 3).astype(np.float32), rng.integers(0, k, n)


def numbers(rng, n):
    return (rng.normal(size=n) * 2).astype(np.float32), rng.normal(size=n).astype(np.float32)


def sides(rng, n):
    return (rng.normal(size=n) * 3).astype(np.float32), (rng.random(n) < 0.5).astype(np.float32)


def shares(rng, n):
    return (rng.normal(size=n) * 3).astype(np.float32), rng.random(n).astype(np.float32)


def chances(rng, n):
    return rng.uniform(0.01, 0.99, n).astype(np.float32), (rng.random(n) < 0.5).astype(np.float32)


def two(rng, n, k):
    return labels(rng, n, k)[0], labels(rng, n, k)[0]


CASES = {
    # what: (data, loss of fluxgrad, NumPy form, PyTorch's, at most this beside PyTorch, and beside NumPy)
    "cross_entropy (128, 10)": (lambda r: labels(r, 128, 10), fg.losses.cross_entropy, numpy_cross_entropy, "cross_entropy", 1.0, 2.5),
    "cross_entropy (4096, 1000)": (lambda r: labels(r, 4096, 1000), fg.losses.cross_entropy, numpy_cross_entropy, "cross_entropy", 1.0, 3.5),
    "focal_loss (128, 10)": (lambda r: labels(r, 128, 10), fg.losses.focal_loss, numpy_softmax_focal, None, None, 2.5),
    "huber_loss 100,000": (lambda r: numbers(r, 100_000), fg.losses.huber_loss, numpy_huber, "huber_loss", 1.0, 2.5),
    "mse_loss 100,000": (lambda r: numbers(r, 100_000), fg.losses.mse_loss, numpy_mse, "mse_loss", None, 2.5),
    "sigmoid_focal_loss 100,000": (lambda r: sides(r, 100_000), fg.losses.sigmoid_focal_loss, numpy_focal, torch_focal, 1.0, 2.5),
    "bce with logits 100,000": (
        lambda r: sides(r, 100_000), fg.losses.binary_cross_entropy_with_logits, numpy_logistic,
        "binary_cross_entropy_with_logits", None, 2.5,
    ),
    "bce with logits, soft, 100,000": (
        lambda r: shares(r, 100_000), fg.losses.binary_cross_entropy_with_logits, numpy_logistic,
        "binary_cross_entropy_with_logits", None, 2.5,
    ),
    "binary_cross_entropy 100,000": (
        lambda r: chances(r, 100_000), fg.losses.binary_cross_entropy, numpy_bernoulli, "binary_cross_entropy", None, 2.5,
    ),
    "smoothed (1024, 1000)": (lambda r: labels(r, 1024, 1000), smoothed, numpy_smoothed, None, None, 3.5),
    "weighted (1024, 1000)": (lambda r: labels(r, 1024, 1000), weighted, numpy_weighted, None, None, 3.5),
    "ignoring (1024, 1000)": (lambda r: labels(r, 1024, 1000), ignoring, numpy_ignoring, None, None, 3.5),
    "kl_div_with_logits (1024, 100)": (lambda r: two(r, 1024, 100), fg.losses.kl_div_with_logits, numpy_divergence, torch_divergence, None, 8.0),
}  # fmt: skip


def of_fluxgrad(loss, a, b):
    x, b = fg.Tensor(a, requires_grad=True), fg.Tensor(b)

    def step():
        x.grad = None
        L = loss(x, b)
        L.backward()
        return L.data, x.grad

    return step


def of_torch(how, a, b):
    import torch

    torch.set_num_threads(1)
    F = torch.nn.functional
    loss = getattr(F, how) if isinstance(how, str) else how(F, torch)
    x, y = torch.tensor(a, requires_grad=True), torch.tensor(b)

    def step():
        x.grad = None
        L = loss(x, y)
        L.backward()
        return L.detach().numpy(), x.grad.numpy()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each step (60)")
    rounds = parser.parse_args().rounds
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        print("PyTorch is not installed: its column is left out")
    missed = 0
    print(
        f"{'forward and backward, CPU time':<34}{'fluxgrad':>10}{'/ NumPy':>9}{'target':>8}{'/ PyTorch':>11}{'target':>8}"
    )
    for what, (data, loss, by_hand, peer, at_most, at_most_hand) in CASES.items():
        a, b = data(np.random.default_rng(0))
        steps = [of_fluxgrad(loss, a, b), lambda f=by_hand, a=a, b=b: f(a, b)]
        if torch and peer:
            steps.append(of_torch(peer, a, b))
        for other in steps[1:]:
            for ours, theirs in zip(steps[0](), other(), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6, err_msg=what)
        ours, hand, *theirs = fastest(rounds, *steps, least=ROUND)
        line = f"{what:<34}{ours * 1e6:>7.0f} µs{ours / hand:>9.2f}{at_most_hand:>8.2f}"
        late = ours / hand > at_most_hand
        if theirs:
            line += f"{ours / theirs[0]:>11.2f}" + (f"{at_most:>8.2f}" if at_most else "")
            late |= bool(at_most) and ours / theirs[0] > at_most
        print(line + "  over its target" * late)
        missed += late
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
