"""What fluxgrad costs beside the same training step written by hand in NumPy.

    python benchmarks/steps.py

Each engine (fluxgrad, and PyTorch and HIPS autograd where installed) is measured in a process of its own,
on one thread, in turns with the hand-written step: hand, engine, hand, engine, ... over many short rounds.
The clock is the CPU time of the process, so that other programs on the machine disturb little; of the
rounds, the fastest counts; and what is printed is the ratio of the two, 1.00 being the hand-written speed.
Before the clock starts, engine and hand train side by side for some steps and must agree.

The command exits with 1 where fluxgrad misses a target.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from itertools import cycle, pairwise

from turns import ONE_THREAD, fastest, with_settings

# glibc hands freed memory back to the system and page-faults it in again, or does not, depending on what
# ran before. Keeping 64 MB makes both sides read the same each time.
with_settings({**ONE_THREAD, "MALLOC_TOP_PAD_": str(64 * 2**20)})

import numpy as np  # noqa: E402  (the settings come first)

ROWS = {
    "T1": ("MLP 2-16-16-1 tanh, batch 64, mse", 0.85),
    "T2": ("MLP 64-128-10 relu, batch 128, cross-entropy", 0.95),
    "T3": ("MLP 784-256-128-10 relu, batch 256, cross-entropy", 1.10),
    "T5": ("value and gradient of sum(a*b + a), 10 elements", 2.60),
    "T4": ("chain of 100,000 x = x * 1.000001, per node", 2.20),
}
BYTES_PER_NODE = 350
IMPORT = 1.20
LR = 0.01
CHAIN = 100_000
ROUND = 0.003  # seconds of CPU time that one round of one step takes, at least


# --- the same by hand: plain expressions, as a student would write them


def hand_t1(weights, feed):
    W1, b1, W2, b2, W3, b3 = params = [p.T.copy() for p in weights]

    def step():
        x, y = next(feed)
        h1 = np.tanh(x @ W1 + b1)
        h2 = np.tanh(h1 @ W2 + b2)
        e = h2 @ W3 + b3 - y
        loss = np.mean(e * e)
        d3 = (2 / e.size) * e
        d2 = (d3 @ W3.T) * (1 - h2 * h2)
        d1 = (d2 @ W2.T) * (1 - h1 * h1)
        grads = [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0), h2.T @ d3, d3.sum(axis=0)]
        for p, g in zip(params, grads, strict=True):
            p -= LR * g
        return (loss,)

    return step


def softmax_signal(z, y):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    return loss, p / len(y)


def hand_t2(weights, feed):
    W1, b1, W2, b2 = params = [p.T.copy() for p in weights]

    def step():
        x, y = next(feed)
        h1 = np.maximum(x @ W1 + b1, 0)
        loss, d2 = softmax_signal(h1 @ W2 + b2, y)
        d1 = (d2 @ W2.T) * (h1 > 0)
        grads = [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0)]
        for p, g in zip(params, grads, strict=True):
            p -= LR * g
        return (loss,)

    return step


def hand_t3(weights, feed):
    W1, b1, W2, b2, W3, b3 = params = [p.T.copy() for p in weights]

    def step():
        x, y = next(feed)
        h1 = np.maximum(x @ W1 + b1, 0)
        h2 = np.maximum(h1 @ W2 + b2, 0)
        loss, d3 = softmax_signal(h2 @ W3 + b3, y)
        d2 = (d3 @ W3.T) * (h2 > 0)
        d1 = (d2 @ W2.T) * (h1 > 0)
        grads = [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0), h2.T @ d3, d3.sum(axis=0)]
        for p, g in zip(params, grads, strict=True):
            p -= LR * g
        return (loss,)

    return step


def hand_product(a, b):
    def step():
        value = np.sum(a * b + a)
        g = np.ones_like(a)
        return value, g * b + g, g * a

    return step


def hand_chain(x0, n):
    def step():
        x = x0
        values = [x]
        for _ in range(n):
            x = x * 1.000001
            values.append(x)
        g = np.ones_like(x)
        for _ in reversed(values[1:]):
            g = g * 1.000001
        return x.sum(), g

    return step


# --- the engines: for each row, (initial weights, a maker of steps) as a user of the engine would write it


class Fluxgrad:
    def __init__(self):
        import fluxgrad

        self.fg = fluxgrad

    def mlp(self, sizes, loss):
        fg = self.fg
        activation = fg.nn.Tanh if loss == "mse" else fg.nn.ReLU
        loss_of = fg.losses.mse_loss if loss == "mse" else fg.losses.cross_entropy

        def new():
            return fg.nn.MLP(sizes[0], sizes[1:], activation=activation, seed=0)

        def make(feed):
            model = new()
            optimiser = fg.optim.SGD(model.parameters(), lr=LR)

            def step():
                x, y = next(feed)
                optimiser.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                optimiser.step()
                return (loss,)

            return step

        return [p.detach().numpy() for p in new().parameters()], make

    def product(self, a, b):
        a, b = (self.fg.Tensor(v, requires_grad=True) for v in (a, b))

        def step():
            a.grad = b.grad = None
            value = (a * b + a).sum()
            value.backward()
            return value, a.grad, b.grad

        return step

    def chain(self, x0, n):
        leaf = self.fg.Tensor(x0, requires_grad=True)

        def step():
            leaf.grad = None
            x = leaf
            for _ in range(n):
                x = x * 1.000001
            value = x.sum()
            value.backward()
            return value, leaf.grad

        return step

    def bytes_per_node(self, x0, n):
        """What a node of the living chain holds, its value included."""
        import tracemalloc

        leaf = x = self.fg.Tensor(x0, requires_grad=True)
        x = x * 1.000001  # what the first call loads or keeps is not the chain's
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(n):
            x = x * 1.000001
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert leaf.grad is None
        return (after - before) / n


class Torch:
    def __init__(self):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.torch = torch

    def mlp(self, sizes, loss):
        torch, nn = self.torch, self.torch.nn
        activation = nn.Tanh if loss == "mse" else nn.ReLU
        loss_of = nn.functional.mse_loss if loss == "mse" else nn.functional.cross_entropy
        first, *rest = pairwise(sizes)
        layers = [nn.Linear(*first)]
        for pair in rest:
            layers += [activation(), nn.Linear(*pair)]
        weights = [p.detach().numpy().copy() for p in nn.Sequential(*layers).parameters()]

        def make(feed):
            model = nn.Sequential(*layers)
            with torch.no_grad():
                for p, w in zip(model.parameters(), weights, strict=True):
                    p.copy_(torch.from_numpy(w))
            optimiser = torch.optim.SGD(model.parameters(), lr=LR)
            batches = {}

            def step():
                x, y = next(feed)
                if id(x) not in batches:  # PyTorch's own batches, made once
                    batches[id(x)] = torch.from_numpy(x), torch.from_numpy(y)
                x, y = batches[id(x)]
                optimiser.zero_grad()
                loss = loss_of(model(x), y)
                loss.backward()
                optimiser.step()
                return (loss,)

            return step

        return weights, make

    def product(self, a, b):
        a, b = (self.torch.tensor(v, requires_grad=True) for v in (a, b))

        def step():
            a.grad = b.grad = None
            value = (a * b + a).sum()
            value.backward()
            return value, a.grad, b.grad

        return step

    def chain(self, x0, n):
        leaf = self.torch.tensor(x0, requires_grad=True)

        def step():
            leaf.grad = None
            x = leaf
            for _ in range(n):
                x = x * 1.000001
            value = x.sum()
            value.backward()
            return value, leaf.grad

        return step


class Autograd:
    def __init__(self):
        import autograd
        import autograd.numpy

        self.value_and_grad = autograd.value_and_grad
        self.np = autograd.numpy

    def mlp(self, sizes, loss):
        anp = self.np
        random = np.random.default_rng(0)
        weights = []
        for n_in, n_out in pairwise(sizes):
            bound = n_in**-0.5
            weights += [random.uniform(-bound, bound, (n_out, n_in)), random.uniform(-bound, bound, n_out)]
        weights = [w.astype(np.float32) for w in weights]

        def loss_of(params, x, y):
            for i in range(0, len(params) - 2, 2):
                x = x @ params[i] + params[i + 1]
                x = anp.tanh(x) if loss == "mse" else anp.maximum(x, 0)
            z = x @ params[-2] + params[-1]
            if loss == "mse":
                e = z - y
                return anp.mean(e * e)
            z = z - anp.max(z, axis=1, keepdims=True)
            return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[anp.arange(len(y)), y])

        value_and_grad = self.value_and_grad(loss_of)

        def make(feed):
            params = [w.T.copy() for w in weights]

            def step():
                loss, grads = value_and_grad(params, *next(feed))
                for p, g in zip(params, grads, strict=True):
                    p -= LR * g
                return (loss,)

            return step

        return weights, make

    def product(self, a, b):
        value_and_grad = self.value_and_grad(lambda a, b: self.np.sum(a * b + a), (0, 1))

        def step():
            value, (a_grad, b_grad) = value_and_grad(a, b)
            return value, a_grad, b_grad

        return step

    def chain(self, x0, n):
        def value_of(x):
            for _ in range(n):
                x = x * 1.000001
            return self.np.sum(x)

        value_and_grad = self.value_and_grad(value_of)
        return lambda: value_and_grad(x0)


ENGINES = {"fluxgrad": Fluxgrad, "torch": Torch, "autograd": Autograd}


# --- measuring


def batches(n_in, n_out, size, labels):
    """Two batches to take in turns, so that nobody gains by remembering the last one."""
    random = np.random.default_rng(1)
    both = []
    for _ in range(2):
        x = random.standard_normal((size, n_in), dtype=np.float32)
        y = random.integers(n_out, size=size) if labels else np.sin(x.sum(axis=1, keepdims=True))
        both.append((x, y))
    return both


def as_array(value):
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def must_agree(row, hand, engine, steps):
    for i in range(steps):
        for expected, given in zip(hand(), engine(), strict=True):
            expected, given = as_array(expected), as_array(given)
            if given.dtype != expected.dtype or given.shape != expected.shape:
                forms = [f"{v.dtype}{v.shape}" for v in (expected, given)]
                sys.exit(f"{row}: by hand {forms[0]}, the engine gave {forms[1]}")
            if not np.allclose(given, expected, rtol=1e-4, atol=0):
                sys.exit(f"{row}: at step {i} by hand {expected}, the engine gave {given}")


def measure(name, rounds):
    """All rows of one engine: {row: (seconds by hand, seconds of the engine)}, per node for the chain."""
    engine = ENGINES[name]()
    result = {}

    x0, few = np.ones(4), max(3, rounds // 10)  # the chain first: it suffers most from a heap that has lived
    must_agree("T4", hand_chain(x0, 1000), engine.chain(x0, 1000), steps=2)
    times = fastest(few, hand_chain(x0, CHAIN), engine.chain(x0, CHAIN), least=ROUND)
    result["T4"] = [t / CHAIN for t in times]

    a, b = np.random.default_rng(2).standard_normal((2, 10), dtype=np.float32)
    must_agree("T5", hand_product(a, b), engine.product(a, b), steps=2)
    result["T5"] = fastest(rounds, hand_product(a, b), engine.product(a, b), least=ROUND)

    for row, hand, sizes, size, loss in (
        ("T1", hand_t1, [2, 16, 16, 1], 64, "mse"),
        ("T2", hand_t2, [64, 128, 10], 128, "cross_entropy"),
        ("T3", hand_t3, [784, 256, 128, 10], 256, "cross_entropy"),
    ):
        weights, make = engine.mlp(sizes, loss)
        both = batches(sizes[0], sizes[-1], size, labels=loss == "cross_entropy")
        must_agree(row, hand(weights, cycle(both)), make(cycle(both)), steps=10)
        result[row] = fastest(rounds, hand(weights, cycle(both)), make(cycle(both)), least=ROUND)

    if name == "fluxgrad":
        result["bytes"] = engine.bytes_per_node(x0, CHAIN)
    return result


def measure_apart(name, rounds):
    command = [sys.executable, __file__, "--only", name, "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def import_times(rounds):
    """The CPU seconds of `import numpy` and `import fluxgrad`, without the interpreter's own start."""
    from resource import RUSAGE_CHILDREN, getrusage  # finer than os.times, and not on Windows

    def used():
        usage = getrusage(RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    with tempfile.TemporaryDirectory() as cache:
        # Compiled modules at hand, as after pip install; kept apart, so that a checkout stays clean.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        best = {"pass": float("inf"), "import numpy": float("inf"), "import fluxgrad": float("inf")}
        for _ in range(rounds):
            for code in best:
                before = used()
                subprocess.run([sys.executable, "-c", code], check=True, env=environment)
                best[code] = min(best[code], used() - before)
    return best["import numpy"] - best["pass"], best["import fluxgrad"] - best["pass"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="rounds of each step (100)")
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch and HIPS autograd out")
    parser.add_argument("--only", choices=ENGINES, help="the raw times of one engine, as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.rounds)))
        return 0

    ours = measure_apart("fluxgrad", options.rounds)
    peers = {
        name: measure_apart(name, options.rounds)
        for name in ("torch", "autograd")
        if not options.no_peers and importlib.util.find_spec(name)
    }
    rows = []
    for row, (what, target) in ROWS.items():
        by_hand, seconds = ours[row]
        beside = [f"{t / hand:.2f}" for hand, t in (peer[row] for peer in peers.values())]
        rows.append((f"{row} {what}", f"{by_hand * 1e6:.2f} µs", seconds / by_hand, target, ".2f", beside))
    rows.append(("   bytes per node of that chain", "", ours["bytes"], BYTES_PER_NODE, ".0f", []))
    numpy_time, fluxgrad_time = import_times(max(5, options.rounds // 5))
    label = "import fluxgrad, beside import numpy"
    rows.append((label, f"{numpy_time * 1e3:.0f} ms", fluxgrad_time / numpy_time, IMPORT, ".2f", []))

    print(f"{'CPU time; ratios to the same by hand':<54}{'hand':>11}{'fluxgrad':>10}{'target':>8}", end="")
    print("".join(f"{name:>10}" for name in peers))
    for label, by_hand, figure, target, form, beside in rows:
        missed = "" if figure <= target else "  over its target"
        print(f"{label:<54}{by_hand:>11}{figure:>10{form}}{target:>8{form}}", end="")
        print("".join(f"{ratio:>10}" for ratio in beside) + missed)
    return int(any(figure > target for _, _, figure, target, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
