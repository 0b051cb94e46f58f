"""Does a network know how sure it may be? Label smoothing against over-confidence.

The data are scikit-learn's `load_digits`, but only 200 images to learn from, and 3 in 10 of their labels drawn at
random: a large network that is trained long learns the wrong labels by heart, and is sure of itself. The test labels
are all right. Label smoothing ε (the paper's §11) asks for probability 1 − ε + ε/10 at the label, and for ε/10 at each
other digit. A network is calibrated if it is right in 80% of the cases where it says "80%".
"""

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fluxgrad as fg

matplotlib.use("Agg")  # draw into files: no screen is needed
import matplotlib.pyplot as plt

threadpool_limits(1)  # so small a matrix is multiplied faster by one thread than by two that wait for each other

SPLITS, EPOCHS, BATCH, BINS = 3, 200, 50, 10
SMOOTHING = [0, 0.05, 0.1, 0.2, 0.3]
NOISE = {"3 in 10 labels drawn at random": 0.3, "all labels right": 0.0}

digits = load_digits()
images = (digits.data / 16).astype(np.float32)  # pixels run from 0 to 16
print("data set: scikit-learn's load_digits, 200 images to learn from, 1597 to be tested on")
print(f"compared: cross-entropy with more and more label smoothing, the mean over {SPLITS} random splits")

# For each bin of confidence: how many test images fall into it, the sum of their confidence, and how many are right.
counts, sure, correct = np.zeros((3, 2, len(SMOOTHING), SPLITS, BINS))
runs = [(noise, k, split) for noise in range(2) for k in range(len(SMOOTHING)) for split in range(SPLITS)]
with tqdm(runs, desc="training", unit="network") as bar:
    for noise, k, split in bar:
        x, x_test, y, y_test = train_test_split(
            images, digits.target, train_size=200, stratify=digits.target, random_state=split
        )
        chance = np.random.default_rng(split)
        y = np.where(chance.random(len(y)) < [*NOISE.values()][noise], chance.integers(0, 10, len(y)), y)

        model = fg.nn.MLP(64, [256, 256, 10], seed=split)
        optimiser = fg.optim.Adam(model.parameters())
        for _ in range(EPOCHS):
            order = chance.permutation(len(x))
            for start in range(0, len(x), BATCH):
                batch = order[start : start + BATCH]
                loss = fg.losses.cross_entropy(model(x[batch]), y[batch], label_smoothing=SMOOTHING[k])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

        p = fg.softmax(model(x_test).data, axis=1)
        confidence = p.max(axis=1)
        hit = p.argmax(axis=1) == y_test
        bins = np.minimum((BINS * confidence).astype(int), BINS - 1)
        counts[noise, k, split] = np.bincount(bins, minlength=BINS)
        sure[noise, k, split] = np.bincount(bins, confidence, minlength=BINS)
        correct[noise, k, split] = np.bincount(bins, hit, minlength=BINS)
        bar.set_postfix(smoothing=SMOOTHING[k], confidence=f"{confidence.mean():.2f}", accuracy=f"{hit.mean():.2f}")

# The expected calibration error: how far confidence and accuracy are apart, bin by bin, weighted by the images in it.
calibration_error = np.mean(np.sum(np.abs(sure - correct), axis=-1) / np.sum(counts, axis=-1), axis=-1)
confidence = np.mean(np.sum(sure, axis=-1) / np.sum(counts, axis=-1), axis=-1)
accuracy = np.mean(np.sum(correct, axis=-1) / np.sum(counts, axis=-1), axis=-1)
for noise, what in enumerate(NOISE):
    print(f"{what}, tested on right ones:")
    for k, eps in enumerate(SMOOTHING):
        print(
            f"  smoothing {eps:<4}   accuracy {accuracy[noise, k]:.3f}   mean confidence {confidence[noise, k]:.3f}"
            f"   expected calibration error {calibration_error[noise, k]:.3f}"
        )
print(
    "So where a network is too sure of itself, a little smoothing makes it honest, and too much makes it too modest; "
    "where it was honest already, smoothing costs calibration (and gains a little accuracy)."
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
left.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="calibrated")
for k, verdict, color, line, marker in (
    (0, "too sure", "#D55E00", "--", "s"),
    (1, "honest", "#0072B2", "-", "o"),
    (4, "too modest", "#009E73", ":", "^"),
):
    images_in, sure_of, right_about = (np.sum(each[0, k], axis=0) for each in (counts, sure, correct))
    enough = images_in >= 30  # the share of a handful says little
    sure_of, right_about = sure_of[enough] / images_in[enough], right_about[enough] / images_in[enough]
    style = {"color": color, "linestyle": line, "marker": marker, "linewidth": 2}
    left.plot(sure_of, right_about, **style, label=f"ε = {SMOOTHING[k]}: {verdict}")
left.set(title="A little smoothing mends over-confidence", xlabel="how sure the network is")
left.set(ylabel="how often it is right", xlim=(0, 1), ylim=(0, 1), aspect="equal")
for noise, (what, style) in enumerate(zip(NOISE, ("-o", "--D"), strict=True)):
    right.plot(SMOOTHING, calibration_error[noise], style, color=("#0072B2", "#CC79A7")[noise], linewidth=2, label=what)
right.set(title="Where nothing was wrong, it does harm", xlabel="label smoothing ε")
right.set(ylabel="expected calibration error (test)", ylim=(0, None))
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
left.legend(frameon=False, title="3 in 10 labels random", alignment="left")
right.legend(frameon=False)
figure.savefig("calibration.svg")
print("wrote calibration.svg: the reliability diagram, and the calibration error as smoothing grows")
