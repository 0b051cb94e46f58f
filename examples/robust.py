"""What do a few wrong numbers do to a fit, and which loss can live with them: MSE, MAE or Huber?

Mean squared error, mean absolute error and Huber are those of the paper's §2 to §4. The data are scikit-learn's
`load_diabetes`: 442 real patients, ten measurements each, and how far their disease had gone a year later. We spoil a
share of the targets to learn from as a slipped decimal point would: they become ten times too large. The targets to be
tested on stay as they are.
"""

import matplotlib
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import fluxgrad as fg

matplotlib.use("Agg")  # draw into files: no screen is needed
import matplotlib.pyplot as plt

SPLITS, STEPS = 20, 400
SHARES = [0, 0.05, 0.1, 0.15, 0.2]  # of the training targets, spoilt
LOSSES = {"MSE": fg.losses.mse_loss, "MAE": fg.losses.l1_loss, "Huber": fg.losses.huber_loss}
STYLES = {
    "MSE": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "MAE": {"color": "#009E73", "linestyle": ":", "marker": "^"},
    "Huber": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
}

diabetes = load_diabetes()
inputs = diabetes.data / diabetes.data.std(axis=0)
print("data set: scikit-learn's load_diabetes, 331 patients to learn from, 111 to be tested on")
print(f"compared: a linear model under three losses, the mean over {SPLITS} random splits")

errors = {name: np.zeros((len(SHARES), SPLITS)) for name in LOSSES}
loudness = {name: np.zeros((len(SHARES), SPLITS)) for name in LOSSES}
runs = [(k, split, name) for k in range(len(SHARES)) for split in range(SPLITS) for name in LOSSES]
with tqdm(runs, desc="fitting", unit="fit") as bar:
    for k, split, name in bar:
        x, x_test, y, y_test = train_test_split(inputs, diabetes.target, test_size=0.25, random_state=split)
        spoilt = np.random.default_rng(split).permutation(len(y)) < round(SHARES[k] * len(y))
        y = np.where(spoilt, 10 * y, y)
        # Centre and scale by medians, which a few spoilt ones hardly move. So Huber's δ = 1 is about a usual error.
        middle = np.median(y)
        spread = 1.48 * np.median(np.abs(y - middle))
        target = (y - middle) / spread

        # If everybody is predicted to be in the middle: how much of the signal comes from the spoilt ones?
        guess = fg.Tensor(np.zeros(len(y)), requires_grad=True)
        LOSSES[name](guess, target).backward()
        loudness[name][k, split] = np.sum(np.abs(guess.grad[spoilt])) / np.sum(np.abs(guess.grad))

        model = fg.nn.Linear(10, 1, seed=split)
        optimiser = fg.optim.Adam(model.parameters())
        for step in range(STEPS):
            optimiser.lr = 0.05 * (1 - step / STEPS)  # ever smaller steps, since the MAE's signal never gets smaller
            loss = LOSSES[name](model(x)[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        errors[name][k, split] = np.mean(np.abs(model(x_test).data[:, 0] * spread + middle - y_test))
        bar.set_postfix(loss=name, spoilt=f"{SHARES[k]:.0%}", error=f"{errors[name][k, split]:.0f}")

print("mean absolute error on the test patients, whose targets run from 25 to 346:")
for k in (0, 2, 4):
    figures = "   ".join(f"{name} {errors[name][k].mean():5.1f}" for name in LOSSES)
    print(f"  {SHARES[k]:3.0%} of the training targets spoilt:   {figures}")
figures = ", ".join(f"{name} {loudness[name][2].mean():.0%}" for name in LOSSES)
print(f"share of the first signal that comes from the spoilt 10%: {figures}")
print(
    "So Huber is as good as MSE where nothing is wrong, and bears some wrong targets nearly as well as MAE; "
    "where many are wrong, MAE is better."
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, style in STYLES.items():
    distance = fg.Tensor(np.linspace(-3, 3, 601), requires_grad=True)
    LOSSES[name](distance, np.zeros(601), reduction="sum").backward()
    left.plot(distance.data, distance.grad, **style, linewidth=2, markevery=(50, 100), label=name)
    right.plot(100 * np.array(SHARES), errors[name].mean(axis=1), **style, linewidth=2, label=name)
left.set(title="What the loss sends back: MSE knows no limit", xlabel="ŷ − y: how far off a prediction is")
left.set(ylabel=r"the signal $\dot{L}_{\hat{y}}$ of one example", ylim=(-4, 4))
right.set(title="So a few wrong targets ruin MSE, not Huber", xlabel="spoilt training targets (%)")
right.set(ylabel="mean absolute error, clean test data", yscale="log", xticks=range(0, 21, 5))
right.set_yticks([50, 100, 200], ["50", "100", "200"])
right.set_yticks([], minor=True)
for axes in (left, right):
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure.savefig("robust.svg")
print("wrote robust.svg: what each loss sends back, and the error as more targets are spoilt")
