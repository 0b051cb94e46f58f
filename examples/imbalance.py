"""One example in 28 is what we look for: does the focal loss keep the many easy ones from drowning it?

The data are scikit-learn's `load_digits`: find the eights. Of those to learn from only 30 are kept, beside 811 other
digits; among those to be tested on, about one in ten is an eight. Focal loss (the paper's §7) multiplies cross-entropy
by (1 − p_t)^γ, where p_t is the probability that the network gives to the truth. γ = 2 here, and α is left out, so that
this factor is all that differs. A third network gets cross-entropy with ten times the weight on eights (`pos_weight`).
"""

from functools import partial

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fluxgrad as fg

matplotlib.use("Agg")  # draw into files: no screen is needed
import matplotlib.pyplot as plt

threadpool_limits(1)  # so small a matrix is multiplied faster by one thread than by two that wait for each other

SPLITS, EPOCHS, BATCH = 8, 100, 32
LOSSES = {
    "cross-entropy": fg.losses.binary_cross_entropy_with_logits,
    "weighted": partial(fg.losses.binary_cross_entropy_with_logits, pos_weight=[10.0]),
    "focal": partial(fg.losses.sigmoid_focal_loss, alpha=None, gamma=2.0),
}
STYLES = {
    "cross-entropy": {"color": "#D55E00", "linestyle": "--"},
    "weighted": {"color": "#009E73", "linestyle": ":"},
    "focal": {"color": "#0072B2", "linestyle": "-"},
}

digits = load_digits()
images = (digits.data / 16).astype(np.float32)  # pixels run from 0 to 16
is_eight = (digits.target == 8).astype(np.float32)
print("data set: scikit-learn's load_digits, 30 eights and 811 other digits to learn from")
print(f"compared: one network under three losses, the mean over {SPLITS} random splits, after {EPOCHS} epochs")

easy_share = {name: np.zeros((SPLITS, EPOCHS)) for name in LOSSES}
average_precision = {name: np.zeros((SPLITS, EPOCHS)) for name in LOSSES}
easy, precision, recall = ({name: np.zeros(SPLITS) for name in LOSSES} for _ in range(3))
with tqdm([(split, name) for split in range(SPLITS) for name in LOSSES], desc="training", unit="network") as bar:
    for split, name in bar:
        x, x_test, y, y_test = train_test_split(
            images, is_eight, test_size=0.5, stratify=digits.target, random_state=split
        )
        kept = np.concatenate([np.flatnonzero(y == 1)[:30], np.flatnonzero(y == 0)])
        x, y = x[kept], y[kept]
        model = fg.nn.MLP(64, [32, 1], seed=split)
        optimiser = fg.optim.Adam(model.parameters(), lr=0.003)
        shuffle = np.random.default_rng(split)
        for epoch in range(EPOCHS):
            order = shuffle.permutation(len(x))
            for start in range(0, len(x), BATCH):
                batch = order[start : start + BATCH]
                loss = LOSSES[name](model(x[batch])[:, 0], y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

            # What does each training example send back now, and how much of all that comes from the easy ones?
            z = fg.Tensor(model(x).data[:, 0], requires_grad=True)
            LOSSES[name](z, y).backward()
            p_true = fg.sigmoid(np.where(y == 1, z.data, -z.data))
            signal = np.abs(z.grad)
            easy_share[name][split, epoch] = np.sum(signal[p_true > 0.9]) / np.sum(signal)
            score = model(x_test).data[:, 0]
            average_precision[name][split, epoch] = average_precision_score(y_test, score)

        found = score > 0  # a probability above ½
        easy[name][split] = np.mean(p_true > 0.9)
        precision[name][split] = np.mean(y_test[found])
        recall[name][split] = np.mean(found[y_test == 1])
        bar.set_postfix(loss=name, average_precision=f"{average_precision[name][split, -1]:.3f}")

for name in LOSSES:
    print(
        f"  {name:13}   easy examples (p_t > 0.9) sent {easy_share[name].mean():3.0%} of the signal, over all epochs; "
        f"in the end {easy[name].mean():.0%} are easy"
    )
for name in LOSSES:
    print(
        f"  {name:13}   on the test images: average precision {average_precision[name][:, -1].mean():.3f}   "
        f"precision {precision[name].mean():.3f}   recall {recall[name].mean():.3f}"
    )
better = np.sum(average_precision["focal"][:, -1] > average_precision["cross-entropy"][:, -1])
print(f"average precision is better with focal loss than with cross-entropy in {better} of the {SPLITS} splits")
print(
    "So focal loss keeps the easy ones quiet, and here it ranks best; for the highest recall weigh the eights, at the "
    "price of precision (nearly all are easy then, so these send most). Cross-entropy is slower, and may yet catch up."
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
epochs = range(1, EPOCHS + 1)
for name, style in STYLES.items():
    left.plot(epochs, 100 * easy_share[name].mean(axis=0), **style, linewidth=2, label=name)
    right.plot(epochs, average_precision[name].mean(axis=0), **style, linewidth=2, label=name)
left.set(title="Focal loss: the easy ones are quiet", xlabel="epoch", ylim=(0, 100))
left.set(ylabel="easy examples' share of the signal (%)")
right.set(title="And it ranks the eights best", xlabel="epoch", ylabel="average precision (test)", ylim=(0.6, 0.95))
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure.savefig("imbalance.svg")
print("wrote imbalance.svg: who sends the signal, and how well the eights are found, epoch by epoch")
