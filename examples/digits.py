"""Teach a small network to read handwritten digits, then draw what would teach it more.

The data are scikit-learn's `load_digits`: 1,797 real images, 8 pixels by 8, shipped with the package.
"""

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import trange

import fluxgrad as fg

matplotlib.use("Agg")  # draw into files: no screen is needed
import matplotlib.pyplot as plt

EPOCHS, BATCH = 40, 32

digits = load_digits()
images = (digits.data / 16).astype(np.float32)  # pixels run from 0 to 16
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=0.25, stratify=digits.target, random_state=0)
print(f"data set: scikit-learn's load_digits, {len(x)} images to learn from, {len(x_test)} to be tested on")

model = fg.nn.MLP(64, [48, 10], seed=0)  # 64 pixels in, 48 hidden units, a score for each of 10 digits out
optimiser = fg.optim.SGD(model.parameters(), momentum=0.9, weight_decay=0.002)
shuffle = np.random.default_rng(0)


@fg.no_grad()
def accuracy(x, y):
    """The share of images whose highest score is the right digit."""
    return float(np.mean(model(x).data.argmax(axis=1) == y))


losses, accuracies = [], []
with trange(EPOCHS, desc="training", unit="epoch") as epochs:
    for epoch in epochs:
        optimiser.lr = 0.1 * (1 - epoch / EPOCHS)  # large steps first, then ever smaller ones
        order = shuffle.permutation(len(x))
        epoch_losses = []
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            loss = fg.losses.cross_entropy(model(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            epoch_losses.append(loss.item())
        losses.append(np.mean(epoch_losses))
        accuracies.append(accuracy(x_test, y_test))
        epochs.set_postfix(loss=f"{losses[-1]:.4f}", accuracy=f"{accuracies[-1]:.3f}")

print(f"test accuracy {accuracies[-1]:.2f}")

# Which weights would move the loss of these images, which way, and how much?
flow = fg.draw_network(model, x_test[:BATCH], y_test[:BATCH], loss=fg.losses.cross_entropy)
flow.save("digits-flow.svg")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.semilogy(range(1, EPOCHS + 1), losses)
left.set(title="loss on the training images", xlabel="epoch", ylabel="cross-entropy")
right.plot(range(1, EPOCHS + 1), accuracies)
right.set(title="accuracy on the test images", xlabel="epoch", ylim=(0.8, 1))
figure.savefig("digits-curve.svg")

print("wrote digits-flow.svg: the wiggle-flow through the trained network")
print("wrote digits-curve.svg: how the training went")
