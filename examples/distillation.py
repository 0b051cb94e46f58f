"""What can a small network learn from a large one that the labels do not tell it?

The data are scikit-learn's `load_digits`. The teacher, 256 and 256 hidden units, has seen all 1,347 labelled images.
The student, 16 hidden units, is given 30 to 400 of them: alone it learns from their labels, distilled also from what
the teacher thinks of the same images: a 3, but something like an 8. The loss is the paper's §8: KL(teacher ‖ student),
both softened by a temperature T, which makes the teacher's small probabilities large enough to be heard.
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

SPLITS, SIZES = 3, [30, 50, 100, 200, 400]
T = 4.0

digits = load_digits()
images = (digits.data / 16).astype(np.float32)  # pixels run from 0 to 16
print("data set: scikit-learn's load_digits, 1347 images for the teacher, 450 to be tested on")


def train(model, x, loss_of, steps, seed, batch_size=32):
    """`loss_of` takes the logits of a batch, and which images these are."""
    optimiser = fg.optim.SGD(model.parameters(), momentum=0.9)
    choose = np.random.default_rng(seed)
    for step in range(steps):
        optimiser.lr = 0.1 * (1 - step / steps)  # large steps first, then ever smaller ones
        batch = choose.choice(len(x), min(batch_size, len(x)), replace=False)
        loss = loss_of(model(x[batch]), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def labels(z, batch):
    return fg.losses.cross_entropy(z, y[batch])


def soft(z, batch):
    return fg.losses.kl_div_with_logits(z, teacher_z[batch], temperature=T)


# The signal of the softened loss is (q − p)/T, and at a high temperature q − p is itself about 1/T of what it was.
# So it shrinks with T²: unless we multiply by T², the labels (weight 0.1) are louder than the teacher (0.9).
WAYS = {
    "alone": labels,
    "distilled": lambda z, batch: 0.1 * labels(z, batch) + 0.9 * T**2 * soft(z, batch),
    "without T²": lambda z, batch: 0.1 * labels(z, batch) + 0.9 * soft(z, batch),
}
STYLES = {
    "alone": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "distilled": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    "without T²": {"color": "#009E73", "linestyle": ":", "marker": "^"},
}

teacher_accuracy = np.zeros(SPLITS)
accuracy = {way: np.zeros((len(SIZES), SPLITS)) for way in WAYS}
with tqdm(total=SPLITS * (1 + len(SIZES) * len(WAYS)), desc="training", unit="network") as bar:
    for split in range(SPLITS):
        x, x_test, y, y_test = train_test_split(
            images, digits.target, test_size=0.25, stratify=digits.target, random_state=split
        )
        teacher = train(fg.nn.MLP(64, [256, 256, 10], seed=split), x, labels, 600, split, batch_size=64)
        teacher_z = teacher(x).data
        teacher_accuracy[split] = np.mean(teacher(x_test).data.argmax(axis=1) == y_test)
        bar.update()
        for k, size in enumerate(SIZES):
            for way, loss_of in WAYS.items():
                student = train(fg.nn.MLP(64, [16, 10], seed=split), x[:size], loss_of, 1000, split)
                accuracy[way][k, split] = np.mean(student(x_test).data.argmax(axis=1) == y_test)
                bar.set_postfix(images=size, student=way, accuracy=f"{accuracy[way][k, split]:.3f}")
                bar.update()

print(f"compared: test accuracy, the mean over {SPLITS} random splits; the teacher's is {teacher_accuracy.mean():.3f}")
for k, size in enumerate(SIZES):
    figures = "   ".join(f"{way} {accuracy[way][k].mean():.3f}" for way in WAYS)
    print(f"  student of {size:3} images:   {figures}")
print(
    "So the student learns more from what the teacher thinks of an image than from its label alone, above all where it "
    "has few images: the teacher passes on what it learnt from all the others."
)

# An image in which the teacher, sure as it is, sees something else too: T = 4 brings that out.
p, p_soft = fg.softmax(teacher_z, axis=1), fg.softmax(teacher_z / T, axis=1)
second = np.sort(p_soft, axis=1)[:, -2]
shown = np.argmax(np.where((p.max(axis=1) > 0.98) & (p.argmax(axis=1) == y), second, 0))
other = np.argsort(p_soft[shown])[-2]

figure, (picture, left, right) = plt.subplots(1, 3, figsize=(10, 4), width_ratios=[1, 2, 2.5], layout="constrained")
picture.imshow(x[shown].reshape(8, 8), cmap="gray_r")
picture.set(title="One image", xticks=[], yticks=[])
bars = np.arange(10)
left.bar(bars - 0.2, p[shown], 0.4, color="#D55E00", label="T = 1")
left.bar(bars + 0.2, p_soft[shown], 0.4, color="#0072B2", hatch="//", edgecolor="white", label=f"T = {T:.0f}")
left.set(title=f"Teacher: a {y[shown]}, somewhat like a {other}", xlabel="digit", ylabel="probability", xticks=bars)
for way, style in STYLES.items():
    right.plot(SIZES, accuracy[way].mean(axis=1), **style, linewidth=2, label=f"student, {way}")
right.axhline(teacher_accuracy.mean(), color="#999999", linewidth=1, label="teacher")
right.set(
    title="Such hints help most where images are few", xlabel="images the student is given", ylabel="test accuracy"
)
right.set(xscale="log")
right.set_xticks(SIZES, SIZES)
right.set_xticks([], minor=True)
for axes in (left, right):
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure.savefig("distillation.svg")
print("wrote distillation.svg: the teacher's thoughts about one image, and what they do for the student")
