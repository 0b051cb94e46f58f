"""Write the page of the losses again, into docs/losses.md and docs/pictures or the folder given.

    python docs/losses.py

The signals are printed by the rules themselves, the second fluxions are compared with fg.hessian before they are
written, and the curves are drawn from what runs.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fluxgrad as fg
from fluxgrad.ink.printers import Printer
from fluxgrad.ink.reading import Reading

ROOT = Path(__file__).resolve().parents[1]
BLUE, VERMILLION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#555555"  # told apart by the colour-blind too
COLOURS, DASHES = (BLUE, VERMILLION, GREEN), ("-", "--", ":")


class Entry(NamedTuple):
    """What the page says of a loss, and the curves: for each label a function of one number, whose fluxion is the signal."""

    section: str
    call: str
    means: str
    use: str
    fails: str
    second: str
    axis: str
    curves: dict
    span: tuple = (-3, 3)
    kink: str = ""


def regression(name, **options):
    return lambda r: getattr(fg.losses, name)(r, 0.0, **options)


def binary(name, **options):
    return lambda z: getattr(fg.losses, name)(z, 1.0, **options)


def classes(name, **options):
    return lambda gap: getattr(fg.losses, name)(np.stack([gap, 0 * gap, 0 * gap]), 0, **options)


def taught(p, **options):
    teacher = np.array([np.log(p / (1 - p)), 0.0])
    return lambda z: fg.losses.kl_div_with_logits(np.stack([z, 0 * z]), teacher, **options)


def pointwise(t):
    return lambda x: fg.losses.kl_div(x, t)


def towards(name, **options):
    def loss(angle):
        turned = np.stack([np.cos(angle), np.sin(angle)])
        views = np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
        if name == "nt_xent":
            return fg.losses.nt_xent(np.stack([turned, *views[1:]]), views, reduction="none", **options)[0]
        return fg.losses.info_nce(np.expand_dims(turned, 0), views[:1], views[1:], **options)

    return loss


ENTRIES = {
    "mse_loss": Entry(
        "§2", 'mse_loss(input, target, reduction="mean", weight=None)',
        "The signal grows with the error: twice as far, twice as loud.",
        "Errors that look like normal noise, where a large one is to be trusted as much as a small one.",
        "A few outliers: an error of 10 sends as much as a hundred of 0.1.",
        "L̈ = 2", "error p − t", {"": regression("mse_loss")},
    ),
    "l1_loss": Entry(
        "§3", 'l1_loss(input, target, reduction="mean", weight=None)',
        "The signal tells the side, not the distance.",
        "Outliers, or when the median is wanted rather than the mean.",
        "Close to the target: the signal does not fade, so that steps of one size jump to and fro.",
        "L̈ = 0", "error p − t", {"": regression("l1_loss")},
    ),
    "huber_loss": Entry(
        "§4", 'huber_loss(input, target, reduction="mean", delta=1.0, weight=None)',
        "The signal is the error, capped at δ.",
        "Regression in general: as smooth as mse_loss near the target, as deaf to outliers as l1_loss far from it.",
        "δ is in the target's units, and has to be chosen; beyond it nothing bends (L̈ = 0).",
        "L̈ = 1 if |p − t| < δ, else 0", "error p − t",
        {f"δ = {d}": regression("huber_loss", delta=d) for d in (0.5, 1.0, 2.0)},
    ),
    "smooth_l1_loss": Entry(
        "§4", 'smooth_l1_loss(input, target, reduction="mean", beta=1.0)',
        "Huber's signal divided by its threshold: ±1 far away, whatever β is.",
        "As huber_loss, where the signal far away should not depend on the threshold. β = 0 is l1_loss.",
        "Easily taken for huber_loss, which is β times it.",
        "L̈ = 1/β if |p − t| < β, else 0", "error p − t",
        {f"β = {b}": regression("smooth_l1_loss", beta=b) for b in (0.5, 1.0, 2.0)},
    ),
    "binary_cross_entropy_with_logits": Entry(
        "§5", 'binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None)',
        "The signal is p − t: how much too high the probability is. It is at most 1, however wrong the logit.",
        "Yes or no; several labels at once.",
        "Given a probability instead of a logit, it runs and learns badly, and nothing warns. Wrong labels: it never stops to pull.",
        "L̈ = p·(1 − p)", "logit z, t = 1",
        {"pos_weight = 1": binary("binary_cross_entropy_with_logits"), "pos_weight = 3": binary("binary_cross_entropy_with_logits", pos_weight=3.0)},
        (-6, 6),
    ),
    "binary_cross_entropy": Entry(
        "§5", 'binary_cross_entropy(input, target, weight=None, reduction="mean")',
        "The signal by the probability itself: −1/p where t = 1, without bound.",
        "Only where a probability is all that there is.",
        "p = 0 where t = 1 costs ∞ (PyTorch stops at 100), and a float32 p cannot come closer to 1 than 6e-8. Use the logits.",
        "L̈ = (1 − t)/(1 − p)² + t/p²", "probability p, t = 1", {"": binary("binary_cross_entropy")}, (0.06, 0.97),
    ),
    "cross_entropy": Entry(
        "§6, §11", 'cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0)',
        "The signal is p − t, one number a class: what is too likely is pushed down, the label is pulled up.",
        "One class out of many. With label_smoothing, where the labels are not wholly trusted, or the confidence should mean something.",
        "Many easy examples drown few hard ones; wrong labels pull without end (smooth them).",
        "L̈ = diag(p) − p pᵀ", "lead of the label's logit, 3 classes",
        {"ε = 0": classes("cross_entropy"), "ε = 0.1": classes("cross_entropy", label_smoothing=0.1)}, (-6, 8),
    ),
    "sigmoid_focal_loss": Entry(
        "§7", 'sigmoid_focal_loss(input, target, alpha=0.25, gamma=2.0, reduction="mean")',
        "Cross-entropy's signal, turned down where the example is easy; at γ = 2 it is at most 1.22 times as loud, where it is hard.",
        "One object among ten thousand places where none is.",
        "Probabilities come out too modest; γ and α have to be tried together. The mean over all places is small: detectors take the sum over the count of objects.",
        "L̈ = p·q^γ·(q·(1 + 2·γ − γ·c) + γ²·p·c), negative where z is far on the wrong side: there the signal levels off",
        "logit z, t = 1", {f"γ = {g:g}": binary("sigmoid_focal_loss", alpha=None, gamma=g) for g in (0.0, 0.5, 2.0)}, (-6, 6),
    ),
    "focal_loss": Entry(
        "§7", 'focal_loss(input, target, alpha=None, gamma=2.0, reduction="mean", ignore_index=-100)',
        "The same for many classes: w·(softmax of the others − t), where w says how hard the label still is.",
        "Rare classes among many; `alpha` weighs them one by one.",
        "Probabilities come out too modest; γ and alpha have to be tried together.", "L̈ = a·(t − π)(t − π)ᵀ + w·(diag(π) − π πᵀ), π the softmax of the others, a the line above at their lead",
        "lead of the label's logit, 3 classes",
        {f"γ = {g:g}": classes("focal_loss", gamma=g) for g in (0.0, 0.5, 2.0)}, (-6, 8),
    ),
    "kl_div": Entry(
        "§8", 'kl_div(input, target, reduction="mean", log_target=False)',
        "Each class hears −t, whatever it says itself: only normalised log-probabilities make that a balance.",
        "Where log-probabilities are given. `reduction=\"batchmean\"` is the divergence of the definition, \"mean\" is over all elements.",
        "Arguments the other way round than in KL(P ‖ Q), and only one is a logarithm; where both nearly agree the digits cancel.",
        "L̈ = 0", "input x = ln q", {f"t = {t}": pointwise(t) for t in (0.2, 0.5, 0.9)}, (-3, 0),
    ),
    "kl_div_with_logits": Entry(
        "§8", 'kl_div_with_logits(student, teacher, temperature=1.0, reduction="mean")',
        "The signal is q − p, the student's probabilities less the teacher's; 0 only where they agree.",
        "Distillation (times T²), or staying close to another model. Never negative, and no digit lost where both nearly agree.",
        "The teacher's tail pulls as well: a class it gives 0 must get 0.",
        "L̈ = (diag(q) − q qᵀ)/T²", "student's logit, 2 classes",
        {f"p = {p}": taught(p) for p in (0.5, 0.9, 0.99)}, (-4, 8),
    ),
    "info_nce": Entry(
        "§9", 'info_nce(query, positive_key, negative_keys=None, temperature=0.1, reduction="mean", similarity="cosine")',
        "Cross-entropy over similarities: the keys that the query mistakes for its own push it, its own key pulls, each by 1/τ.",
        "Pairs that belong together: picture and caption, question and answer.",
        "τ too small: only the hardest negative counts, and the signal is 1/τ loud; τ too large: it fades as 1/τ. Negatives that are none.",
        "L̈_s = (diag(p) − p pᵀ)/τ² by the similarities", "angle between query and its key",
        {f"τ = {t}": towards("info_nce", temperature=t) for t in (0.1, 0.5, 1.0)}, (-3.1, 3.1),
    ),
    "nt_xent": Entry(
        "§9", 'nt_xent(z_i, z_j, temperature=0.5, reduction="mean", similarity="cosine")',
        "The same among 2N views, each against all others but itself.",
        "Learning without labels, from two views of each thing.",
        "Small batches have few negatives; two things of one kind push each other away.",
        "L̈_s = (diag(p) − p pᵀ)/τ² by the similarities", "angle between the two views",
        {f"τ = {t}": towards("nt_xent", temperature=t) for t in (0.1, 0.5, 1.0)}, (-3.1, 3.1),
    ),
}  # fmt: skip

ROWS = {"info_nce": "cross_entropy", "nt_xent": "cross_entropy"}
"""Losses that are another's row, of similarities."""

HEAD = """# Every loss as a signal

This page is written by `python docs/losses.py`. A loss is what it sends back (paper §1, §12): L̇_ŷ, ∂L/∂ŷ in everyday notation, tells each prediction how the loss answers it.
The signals below are printed by the rules that run; p (or z, if it is a logit) is the prediction, t the target. [The paper](paper.md) is walked through on a page of its own, and [the digits](digits.md) are measured on another.

```python
import numpy as np
import fluxgrad as fg

z = fg.Tensor([[2.0, 0.5, -1.0]], requires_grad=True, name="z")
L = fg.losses.cross_entropy(z, [1])
L.backward()
print(fg.softmax(z).data.round(4), "is p; the label is 1")
print(z.grad.round(4), "is what the logits hear: p − t")
```

```text
[[0.7856 0.1753 0.0391]] is p; the label is 1
[[ 0.7856 -0.8247  0.0391]] is what the logits hear: p − t
```

## All of them at a glance

The summary of the paper's §10, with what was missing there. These are the signals of one example: the mean of n divides them by n.

"""

AFTER = """
## What all of them share

**Shapes.** `input` and `target` have one shape; nothing is broadcast. For many classes the class axis is 1 (0 for a single example), and labels have the shape that is left. The target is cast to the prediction's dtype. A target that requires grad gets its fluxion, or is refused.

**The mean** follows PyTorch, also where PyTorch disagrees with itself:

| loss | `weight` is | "mean" divides by |
|---|---|---|
| `mse_loss`, `l1_loss` | one number an element | the sum of the weights |
| `huber_loss` | one number an element | the count of elements |
| `binary_cross_entropy`, `binary_cross_entropy_with_logits` | one number an element, or broadcast | the count of elements |
| `cross_entropy` of labels | one number a class | the sum of the weights of the labels that count |
| `cross_entropy` of probabilities | one number a class | the count of rows |
| `focal_loss` | one number a class (`alpha`) | the count of rows that count |
| `kl_div` | none | the count of elements; "batchmean": of rows |

So the same data, as labels and one-hot, give two means once there are weights:

```python
z, w = np.array([[1.0, 0.0], [0.0, 0.0]]), [1.0, 3.0]
print(f"{fg.losses.cross_entropy(z, [0, 1], weight=w).item():.4f} as labels")
print(f"{fg.losses.cross_entropy(z, [[1.0, 0.0], [0.0, 1.0]], weight=w).item():.4f} as probabilities")
```

```text
0.5982 as labels
1.1964 as probabilities
```

To add gradients over micro-batches, divide sums by the *total* that counts: [the paper's §13.2](paper.md#gradients-over-micro-batches).

**Masks.** A logit of −∞ takes its class out: it gets probability 0, no signal, and no NaN. (If the target gives it a share, as label smoothing does, the loss is ∞.) A row whose label is `ignore_index` reaches nothing, whatever it holds:

```python
z = fg.Tensor([[2.0, -np.inf, 0.0], [np.nan, 1.0, 0.0]], requires_grad=True)
L = fg.losses.cross_entropy(z, [0, -100])
L.backward()
print(f"{L.item():.4f}")
print(z.grad.round(4))
```

```text
0.1269
[[-0.1192  0.      0.1192]
 [ 0.      0.      0.    ]]
```

**Nothing at all.** An empty batch, only ignored rows, weights that the mean divides by and that are all 0: the mean is NaN, the sum 0, and the signal 0.

**At a kink** there is no right or wrong: |p − t| sends 0 where p = t; Huber's two sides agree at δ.

## Second fluxions

They come by themselves, from the signals, to any order. (The last digits that kernels win are those of value and signal; a second fluxion of a float32 loss has float32's.) The curvature of cross-entropy is diag(p) − p pᵀ: all of it is in p, and none in the label.

```python
z = np.array([2.0, 0.5, -1.0])
p = fg.softmax(z)
H = fg.hessian(lambda z: fg.losses.cross_entropy(z, 1))(z)
print(H.round(4))
print("diag(p) − p pᵀ:", np.allclose(H, np.diag(p) - np.outer(p, p)))
```

```text
[[ 0.1684 -0.1377 -0.0307]
 [-0.1377  0.1446 -0.0069]
 [-0.0307 -0.0069  0.0376]]
diag(p) − p pᵀ: True
```

Each formula below was compared with `fg.hessian` before this page was written:

| loss | second fluxion of one example |
|---|---|
"""

DESIGN = """
## A loss from the signal that you want

Turn it round (paper §12.2): say what signal each prediction should get, and take the integral. Below is Huber's loss from its signal; `breaks` says where that has kinks.

```python
capped = fg.loss_from_signal(lambda p, t: np.clip(p - t, -1, 1), breaks=(-1, 1), name="capped")
print(capped)
error = np.array([0.5, 3.0])
print(capped(error, np.zeros(2), reduction="none").data, "is the integral")
print(fg.losses.huber_loss(error, np.zeros(2), reduction="none").data, "is Huber's loss")
```

```text
capped(p, t):  L̇_p = clip(p − t, −1, 1), L̇_t = −clip(p − t, −1, 1)
[0.125 2.5  ] is the integral
[0.125 2.5  ] is Huber's loss
```

Not every signal has a loss. Of several outputs, ∂s_i/∂z_j must equal ∂s_j/∂z_i, since a loss does not care which of two wiggles comes first:

```python
try:
    fg.loss_from_signal(lambda z, t: np.cumsum(z, axis=-1) - t)
except ValueError as error:
    print(str(error).partition(";")[0])
```

```text
loss_from_signal: no loss has this signal. Of a loss the order of two wiggles does not matter, ∂s_i/∂ŷ_j = ∂s_j/∂ŷ_i
```

And a signal that falls off with the distance bends its loss the wrong way: what is farther off is corrected less.

```python
deaf = fg.loss_from_signal(lambda p, t: (p - t) / (1 + (p - t) ** 2), name="deaf")
print(deaf)
```

```text
deaf(p, t):  L̇_p = (p − t)/(1 + (p − t)²), L̇_t = −(p − t)/(1 + (p − t)²)
  curved the wrong way (the farther off, the weaker the signal) from ŷ − y = −10 to −1.01 and from 1.01 to 10 (looked at: −10 to 10)
```

Three come with fluxgrad: `fg.design.emphasise_hard(gamma)`, `cap_outliers(limit)` and `calibrate(label_smoothing)`.
"""


def signal_of(name):
    """What a rule prints for its first input, and what stands behind its names."""
    reading, printer = Reading(fg.rules[ROWS.get(name, name)]), Printer()
    left, right = reading.rules[0]
    text = printer(right)
    parts = {k: printer(e) for k, e in reading.parts.items()}
    needed = {k for k in parts if k in symbols(text)}
    for k in reversed(parts):
        if k in needed:
            needed |= {j for j in parts if j in symbols(parts[k])}
    where = "; ".join(f"{k} = {e}" for k, e in parts.items() if k in needed)
    return printer.symbol(left), text, where


def symbols(text):
    import re

    return set(re.findall(r"[A-Za-z_]+", text))


def value_of(name):
    reading, printer = Reading(fg.rules[ROWS.get(name, name)]), Printer()
    row = reading.row
    head, value = printer.head(row, reading.inputs, reading.value), printer(reading.value)
    return head if head == value or reading.value.op == row.name else f"{head} = {value}"


def focal_second(p, gamma):
    """L̈ and w = −L̇ by the logit of the true class."""
    q, c = 1 - p, -np.log(p)
    return p * q**gamma * (q * (1 + 2 * gamma - gamma * c) + gamma**2 * p * c), q**gamma * (gamma * p * c + q)


def focal_hessian(z, label, gamma):
    t = np.arange(len(z)) == label
    others = fg.softmax(np.where(t, -np.inf, z))
    a, w = focal_second(fg.softmax(z)[label], gamma)
    return a * np.outer(t - others, t - others) + w * (np.diag(others) - np.outer(others, others))


def check_second():
    """The second fluxions that the page states, held against fg.hessian."""
    p, t = np.array([0.3, -2.0, 0.7]), np.array([0.0, 0.5, 0.25])
    r, z, s = p - t, np.array([2.0, 0.5, -1.0]), 1 / (1 + np.exp(-p))
    soft = fg.softmax(z)
    q, u = np.array([0.2, 0.5, 0.9]), fg.softmax(z / 2)
    spread = np.diag(soft) - np.outer(soft, soft)
    stated = {
        "mse_loss": (lambda x: fg.losses.mse_loss(x, t, "sum"), p, np.full(3, 2.0)),
        "l1_loss": (lambda x: fg.losses.l1_loss(x, t, "sum"), p, np.zeros(3)),
        "huber_loss": (lambda x: fg.losses.huber_loss(x, t, "sum"), p, np.abs(r) < 1),
        "smooth_l1_loss": (lambda x: fg.losses.smooth_l1_loss(x, t, "sum", beta=0.4), p, (np.abs(r) < 0.4) / 0.4),
        "binary_cross_entropy_with_logits": (
            lambda x: fg.losses.binary_cross_entropy_with_logits(x, t, reduction="sum"), p, s * (1 - s)),
        "binary_cross_entropy": (
            lambda x: fg.losses.binary_cross_entropy(x, t, reduction="sum"), q, (1 - t) / (1 - q) ** 2 + t / q**2),
        "cross_entropy": (lambda x: fg.losses.cross_entropy(x, 1), z, spread),
        "sigmoid_focal_loss": (
            lambda x: fg.losses.sigmoid_focal_loss(x, np.ones(3), None, 2.0, "sum"), p, focal_second(s, 2.0)[0]),
        "focal_loss": (lambda x: fg.losses.focal_loss(x, 1), z, focal_hessian(z, 1, 2.0)),
        "kl_div": (lambda x: fg.losses.kl_div(x, t, "sum"), p, np.zeros(3)),
        "kl_div_with_logits": (
            lambda x: fg.losses.kl_div_with_logits(x, p, temperature=2.0), z, (np.diag(u) - np.outer(u, u)) / 4),
        "info_nce": (lambda s: fg.losses.cross_entropy(s / 0.5, 0), z * 0.5, spread / 0.25),
        "nt_xent": (lambda s: fg.losses.cross_entropy(s / 0.5, 0), z * 0.5, spread / 0.25),
    }  # fmt: skip
    for name, (loss, at, want) in stated.items():
        want = np.asarray(want, float)
        np.testing.assert_allclose(
            fg.hessian(loss)(at), want if want.ndim == 2 else np.diag(want), atol=1e-12, err_msg=name
        )
    return stated.keys()


def page():
    verified = check_second()
    lines = [HEAD, "| loss | signal | where | best for |\n|---|---|---|---|\n"]
    for name, entry in ENTRIES.items():
        left, signal, where = signal_of(name)
        by = " of the similarities, over τ" if name in ROWS else ""
        cells = f"`{left} = {signal}`".replace("|", "\\|"), (f"`{where}`" if where else "").replace("|", "\\|")
        lines.append(
            f"| [`{name}`](#{name}) | {cells[0]}{by} | {cells[1]} | {entry.use.partition('.')[0].partition(';')[0]} |\n"
        )
    lines.append("| label smoothing | `L̇_z = p − t`, t smoothed: (1 − ε)·t + ε/K | | Calibration |\n")
    for name, entry in ENTRIES.items():
        left, signal, where = signal_of(name)
        choice = fg.rules[ROWS.get(name, name)].choice
        over = "cross-entropy of the similarities s/τ, at the positive: " if name in ROWS else ""
        lines += [
            f"\n## `{name}`\n\n",
            f"`fg.losses.{entry.call}` · paper {entry.section}\n\n",
            f"![{name} on the left, its signal on the right, drawn over the {entry.axis}](pictures/loss-{name}.svg)\n\n",
            f"- **Value**: {over}`{value_of(name)}`\n",
            f"- **Signal**: `{left} = {signal}`" + (f" where `{where}`" if where else "") + "\n",
            f"- **It means**: {entry.means}\n",
            f"- **At its kinks**: {choice}.\n" if choice else "",
            f"- **Use it for**: {entry.use}\n- **It fails at**: {entry.fails}\n",
        ]
    lines.append(AFTER)
    lines += [
        f"| `{name}` | {entry.second} |\n".replace("|p − t|", "\\|p − t\\|")
        for name, entry in ENTRIES.items()
        if name in verified
    ]
    lines.append(DESIGN)
    return "".join(lines)


def draw(folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"svg.hashsalt": "fluxgrad", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    with plt.rc_context({**style, "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}):
        for name, entry in ENTRIES.items():
            x = np.linspace(*entry.span, 241)
            figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.7), layout="constrained")
            for (label, loss), colour, dash in zip(entry.curves.items(), COLOURS, DASHES, strict=False):
                both = [fg.value_and_grad(loss)(at) for at in x]
                values, signals = (np.array([float(b[k]) for b in both]) for k in (0, 1))
                jumps = np.flatnonzero(np.abs(np.diff(signals)) > 0.9) if name == "l1_loss" else []
                left.plot(x, values, dash, color=colour, label=label or None, lw=1.8)
                right.plot(np.insert(x, jumps + 1, np.nan) if len(jumps) else x,
                           np.insert(signals, jumps + 1, np.nan) if len(jumps) else signals,
                           dash, color=colour, label=label or None, lw=1.8)  # fmt: skip
            if name == "l1_loss":
                right.plot([0], [0], "o", color=COLOURS[0], ms=4)
            for axes, title in (
                (left, "loss L"),
                (right, "signal by the angle" if name in ROWS else "signal: how L answers"),
            ):
                axes.set_title(title, fontsize=10, color="#333333")
                axes.set_xlabel(entry.axis)
                axes.axhline(0, color=BLACK, lw=0.8)
                axes.grid(color="#dddddd", lw=0.6)
                axes.set_axisbelow(True)
            if len(entry.curves) > 1:
                left.legend(frameon=False, handlelength=2.6)
            figure.savefig(folder / f"loss-{name}.svg", metadata={"Date": None})
            plt.close(figure)


def main(page_path, folder):
    folder.mkdir(parents=True, exist_ok=True)
    page_path.write_text(page(), "utf-8")
    draw(folder)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    main(place / "losses.md", place / "pictures")
