"""Draw the gallery again: docs/gallery.md, and its pictures in docs/pictures, or in the folder given.

    python docs/gallery.py

The two pages in it are photographed by Chromium; where there is none, their pictures stay as they are.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fluxgrad as fg

ROOT = Path(__file__).resolve().parents[1]


def leaf(value, name):
    return fg.Tensor(value, requires_grad=True, name=name)


def fork():
    x, w = leaf(3.0, "x"), leaf(0.5, "w")
    a = w * x
    a.name = "a"
    return fg.draw(a * a - x)


def scopes():
    x, y = fg.Tensor(2.0, name="x"), fg.Tensor(1.0, name="y")
    w, b = leaf(0.5, "w"), leaf(-0.25, "b")
    with fg.scope("neuron"):
        p = np.tanh(w * x + b)
    with fg.scope("loss"):
        return fg.draw(fg.losses.mse_loss(p, y))


def surprise():
    z = leaf(np.array([[2.0, 0.5, -1.0]]), "z")
    p = fg.softmax(z)
    p.name = "p"
    return fg.draw(-np.log(p)[0, 1])


def fused():
    return fg.draw(fg.losses.cross_entropy(leaf(np.array([[2.0, 0.5, -1.0]]), "z"), [1]))


def deep(activation):
    rng = np.random.default_rng(0)
    model = fg.nn.MLP(8, [16] * 19 + [1], activation=activation, seed=0)
    for p in model.parameters():
        p.data *= 6**0.5  # He's size: a ReLU passes half
    return fg.draw_network(model, rng.normal(size=(32, 8)), rng.normal(size=(32, 1)), view="layer")


def read_digits():
    """A small network that reads most digits, and a batch of them."""
    digits = load_digits()
    x, y = digits.data / 16, digits.target
    model = fg.nn.MLP(64, [16, 10], seed=0)
    optimiser = fg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    order = np.random.default_rng(0)
    for _ in range(300):
        batch = order.choice(len(x), 32, replace=False)
        loss = fg.losses.cross_entropy(model(x[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, x[:32], y[:32]


def exclusive_or(lr):
    """A network of eight hidden units after a hundred steps."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    model = fg.nn.MLP(2, [8, 1], seed=3)
    optimiser = fg.optim.SGD(model.parameters(), lr=lr)
    for _ in range(100):
        loss = fg.losses.mse_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return fg.draw_network(model, x, y)


def moons():
    """A network that learns to tell two half moons apart, to be rewound."""
    rng = np.random.default_rng(0)
    angle = np.pi * rng.random(160)
    y = np.repeat([0.0, 1.0], 80)[:, None]
    x = (
        np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 - 2 * y)
        + y * [1.0, 0.4]
        + 0.12 * rng.normal(size=(160, 2))
    )
    model = fg.nn.MLP(2, [8, 8, 1], seed=0)
    optimiser = fg.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    history = fg.History(model, x, y, loss=fg.losses.binary_cross_entropy_with_logits, every=4)
    for _ in range(400):
        loss = fg.losses.binary_cross_entropy_with_logits(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        history.log(loss)
        optimiser.step()
    return history.play()


def fork_played():
    a = leaf(1.0, "a")
    b = a * 1
    c, d = b + 1, b * 2
    for name, t in zip("bcd", (b, c, d), strict=True):
        t.name = name
    return fg.play(c + d)


PAGES = {"training": (moons, 1000, 960, "ArrowLeft", 85), "play": (fork_played, 1000, 700, "ArrowRight", 7)}


def photograph(folder):
    """The two pages, some steps on."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print("no Chromium, or no Playwright: training.png and play.png stay as they are")
        return
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, (make, width, height, key, times) in PAGES.items():
            file = Path(place, f"{name}.html")
            make().save(file)
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(file.as_uri())
            for _ in range(times):
                page.keyboard.press(key)
            page.screenshot(path=folder / f"{name}.png")
        chromium.close()


def pictures():
    model, x, y = read_digits()
    see = lambda view: fg.draw_network(model, x, y, loss=fg.losses.cross_entropy, view=view)
    return {
        "fork": fork(),
        "scopes": scopes(),
        "surprise": surprise(),
        "fused": fused(),
        "digits-neuron": see("neuron"),
        "digits-layer": see("layer"),
        "digits-op": see("op"),
        "deep-sigmoid": deep(fg.nn.Sigmoid),
        "deep-relu": deep(fg.nn.ReLU),
        "xor-right": exclusive_or(0.2),
        "xor-too-large": exclusive_or(1.0),
    }


PAGE = """# Gallery

The pictures are drawn by the programs in `docs/`: most by `gallery.py`, the first by `pictures.py`, the last by `losses.py`. Solid blue: L rises if this rises; dashed orange: L falls; the thicker the line, the stronger. L̇_x is ∂L/∂x, the `.grad` of x.

## One neuron

```python
import numpy as np
import fluxgrad as fg

x, y = fg.Tensor(2.0, name="x"), fg.Tensor(1.0, name="y")
w = fg.Tensor(0.5, requires_grad=True, name="w")
b = fg.Tensor(-0.25, requires_grad=True, name="b")
fg.draw(fg.losses.mse_loss(np.tanh(w * x + b), y)).save("neuron.svg")
```

![One neuron: a card for every value, and on every arrow what flows back along it](pictures/neuron.svg)

## A fork

x feeds two operations, and a feeds one of them twice. Two arrows come back to each, and its card shows their sum.

![Two arrows from one product back to the same value: the two contributions add up there](pictures/fork.svg)

## Surprise, step by step and in one

The surprise at class 1, as the book has it: softmax, logarithm, the entry of class 1, minus. Then the same as one operation, `cross_entropy`, whose signal is p − t. Both send the same back: ‖L̇_z‖ = 1.14.

![Softmax, a logarithm and a minus: what flows back through each of them to the logits](pictures/surprise.svg)

![The same as one operation, which sends p minus the label straight to the logits](pictures/fused.svg)

## A network that reads digits, in three views

It is smaller than the README's: 64 pixels, 16 hidden units, 10 digits.

Neurons: each line is a weight, and shows how the loss of 32 images would answer it. Only the 250 strongest are drawn; a crossed circle is a dead unit.

![The 250 weights of the digits network that the loss answers most, drawn from pixel to unit to digit](pictures/digits-neuron.svg)

Layers: a row for each, with the size of its weights and of its fluxion, and how many units are dead.

![The layers of the digits network, one row each, with a bar for the size of its fluxion](pictures/digits-layer.svg)

Operations: what ran, with the rule of each.

![The operations of the digits network, from the pixels to the loss, each with its rule](pictures/digits-op.svg)

## Twenty layers deep

With sigmoids, what flows back shrinks at each layer. With ReLUs it arrives. (The weights are of the same size in both, He's: a variance of 2/inputs. Activations are numbered too, so the twenty layers are layers.0, layers.2, … layers.38.)

![Twenty layers of sigmoids: the bars shrink from the last layer to the first, over many powers of ten](pictures/deep-sigmoid.svg)

![Twenty layers of ReLUs: the bars differ by less than a factor of ten](pictures/deep-relu.svg)

## Scopes

`with fg.scope("name"):` puts operations into a box; `with fg.scope(model):` a box around each module. In a graph of more than 60 operations boxes fold into one card.

```python
with fg.scope("neuron"):
    p = np.tanh(w * x + b)
with fg.scope("loss"):
    L = fg.losses.mse_loss(p, y)
fg.draw(L).save("scopes.svg")
```

![The neuron again, in two boxes: one called neuron, one called loss](pictures/scopes.svg)

## Step by step

`fg.play` makes one page that steps through the values, then back through the fluxions, and back and forth as you like, by button, key or slider. At a fork it waits until all contributions have come, and says so. Nothing is loaded from elsewhere.

(The picture is of a fork; the program plays the neuron above.)

![The player: the graph of a fork, a slider, and the line of the step that it is at](pictures/play.png)

```python
page = fg.play(L)
page.save("play.html")
fg.play(L, predict=True).save("predict.html")  # guess each sign before it is shown
```

## Training to rewind

`fg.History` looks at a training from time to time, without touching it, and makes a page with a slider over the training: what flows, the loss, and (for two inputs) what the model says of each point, together.

(The picture is of two half moons; the program is shorter.)

![Training to rewind: the network with what flows back through it, the loss over the steps, and the map of its answers](pictures/training.png)

```python
points = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
targets = np.array([[0.0], [1.0], [1.0], [0.0]])
model = fg.nn.MLP(2, [8, 1], seed=3)
optimiser = fg.optim.SGD(model.parameters(), lr=0.2)
history = fg.History(model, points, targets, every=5)
for step in range(200):
    loss = fg.losses.mse_loss(model(points), targets)
    optimiser.zero_grad()
    loss.backward()
    history.log(loss)  # before the step: the page shows what this step answers
    optimiser.step()
history.play().save("training.html")
print(len(history), "frames")
```

```text
40 frames
```

## A learning rate that is right, and one that is too large

Exclusive or, a hundred steps. At 0.2 five of the eight units work, and little flows back, since little is wrong. At 1.0 the first steps threw most units out of reach: they are 0 for all four inputs, so nothing flows back through them, although the loss is large. (The ring of a dead unit is the L̇ that arrives at it; it goes no further.)

![The exclusive-or network after training at 0.2: weights with small fluxions](pictures/xor-right.svg)

![The same at 1.0: most hidden units are crossed out, dead for the whole batch](pictures/xor-too-large.svg)

## Each loss's signal

[Every loss](losses.md) has its curve and its signal side by side. For instance Huber's:

![Huber's loss on the left, its signal on the right: the error, capped at δ](pictures/loss-huber_loss.svg)
"""


def main(page, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        picture.save(folder / f"{name}.svg")
    photograph(folder.resolve())
    page.write_text(PAGE, "utf-8")


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    main(place / "gallery.md", place / "pictures")
