"""Can a network find out without labels which images belong together? Contrast alone, by NT-Xent.

The data are scikit-learn's `load_digits`. Each image is shown twice, shifted by a pixel and noised anew; the network
puts both views on a plane, and must tell which of the 511 other views is of the same image (the paper's §9:
cross-entropy over similarities). The labels are used only at the end, to ask whether neighbours on the plane are the
same digit.
"""

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from tqdm import trange

import fluxgrad as fg

matplotlib.use("Agg")  # draw into files: no screen is needed
import matplotlib.pyplot as plt

threadpool_limits(1)  # so small a matrix is multiplied faster by one thread than by two that wait for each other

EPOCHS, BATCH = 150, 256

digits = load_digits()
images = (digits.data / 16).astype(np.float32)  # pixels run from 0 to 16
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=0.25, stratify=digits.target, random_state=0)
print(f"data set: scikit-learn's load_digits, {len(x)} images to learn from, no labels, {len(x_test)} to be tested on")

encoder = fg.nn.MLP(64, [256, 128, 2], seed=0)
# NT-Xent compares directions, and those of a plane all lie on one circle. So the loss looks at what a second network,
# which is thrown away afterwards, makes of the plane.
head = fg.nn.MLP(2, [64, 32], seed=1)
optimiser = fg.optim.Adam([*encoder.parameters(), *head.parameters()])
chance = np.random.default_rng(0)


def view(x):
    """The images, each shifted by up to one pixel each way, and with noise of its own."""
    padded = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    rows, columns = np.arange(8) + chance.integers(0, 3, (2, len(x), 1))
    shifted = padded[np.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return shifted.reshape(len(x), 64) + chance.normal(0, 0.2, (len(x), 64))


def neighbours_agree(plane, plane_test):
    """The share of test images whose digit is that of most of the ten nearest images learnt from."""
    return KNeighborsClassifier(10).fit(plane, y).score(plane_test, y_test)


untrained = neighbours_agree(encoder(x).data, encoder(x_test).data)
batches = len(x) // BATCH
with trange(EPOCHS, desc="training", unit="epoch") as epochs:
    for epoch in epochs:
        optimiser.lr = 0.01 * (1 - epoch / EPOCHS)  # large steps first, then ever smaller ones
        for batch in chance.permutation(len(x))[: batches * BATCH].reshape(batches, BATCH):
            loss = fg.losses.nt_xent(head(encoder(view(x[batch]))), head(encoder(view(x[batch]))), temperature=0.2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        epochs.set_postfix(loss=f"{loss.item():.3f}")

pca = PCA(2).fit(x)
planes = {"PCA": pca.transform(x_test), "NT-Xent": encoder(x_test).data}
agreement = {
    "PCA": neighbours_agree(pca.transform(x), planes["PCA"]),
    "NT-Xent": neighbours_agree(encoder(x).data, planes["NT-Xent"]),
}
print("compared: images on a plane; how often the 10 nearest neighbours name the digit of a test image rightly")
print(f"  the network, untrained           {untrained:.3f}")
print(f"  PCA, what varies most            {agreement['PCA']:.3f}")
print(f"  the network, after NT-Xent       {agreement['NT-Xent']:.3f}")
print(f"  for comparison, all 64 pixels    {neighbours_agree(x, x_test):.3f}")
print(
    "So a network that only learns to know an image again puts alike images side by side, and mostly these are the "
    "same digit, though nobody told it the digits. Two numbers still know less than 64."
)

# Each image is drawn as its digit, so that the colours need not be told apart.
colours = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#B8A800", "#0072B2", "#D55E00", "#CC79A7", "#777777", "#7B3F00"]
figure, panels = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for axes, (name, plane) in zip(panels, planes.items(), strict=True):
    for digit, colour in enumerate(colours):
        of_digit = plane[y_test == digit]
        axes.scatter(*of_digit.T, s=36, color=colour, marker=f"${digit}$", linewidth=0.3)
    axes.set(title=f"{name}: neighbours are right for {agreement[name]:.0%}", xticks=[], yticks=[])
    axes.set(xlabel="first coordinate", ylabel="second coordinate")
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("contrast.svg")
print("wrote contrast.svg: the test images on the plane, by PCA and by contrast")
