"""fg.draw_network: every weight drawn or counted, its numbers those of a backward, dead units, errors."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from picture.test_draw import SVG, marks, titles, told

import fluxgrad as fg
from fluxgrad.picture import style

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 2)), RNG.normal(size=(5, 1))
EDGE = re.compile(r"(\S+) → (\S+): (\S+)\[(\d+),(\d+)\] = (\S+), L̇_\3\[\4,\5\] = (\S+)")


@pytest.mark.parametrize("bias", [True, False])
def test_every_weight_of_a_small_mlp_has_its_value_and_fluxion(bias):
    model = fg.nn.Sequential(fg.nn.Linear(2, 3, bias=bias, seed=1), fg.nn.Tanh(), fg.nn.Linear(3, 1, bias=bias, seed=2))
    picture = fg.draw_network(model, X, Y)
    assert all(p.grad is None for p in model.parameters())
    fg.losses.mse_loss(model(X), Y).backward()
    parameters = dict(model.named_parameters())
    seen = set()
    for title, texts in marks(picture, "edge"):
        tail, head, name, to, source, value, fluxion = EDGE.fullmatch(title).groups()
        w, at = parameters[name], (int(to), int(source))
        assert float(value) == pytest.approx(w.data[at].item(), rel=1e-3)
        assert float(fluxion) == pytest.approx(w.grad[at].item(), rel=1e-5)
        assert float(texts[0].replace("−", "-")) == pytest.approx(w.grad[at].item(), rel=5e-3)
        ends = {"layers.0.weight": (f"x[{source}]", f"h1[{to}]"), "layers.2.weight": (f"h1[{source}]", "ŷ")}
        assert (tail, head) == ends[name]
        seen.add((name, at))
    assert len(seen) == 2 * 3 + 3 * 1
    assert len(titles(picture, "node")) == 2 + 3 + 1


def test_units_show_mean_value_and_summed_fluxion_and_their_bias():
    model = fg.nn.MLP(2, [3, 1], activation=fg.nn.Tanh, seed=1)
    h = np.tanh(model.layers[0](X))
    L = fg.losses.mse_loss(model.layers[2](h), Y)
    L.backward()
    record = fg.flows(L)
    title = next(t for t in told(fg.draw_network(model, X, Y)) if t.startswith("h1[1]"))
    numbers = [float(n) for n in re.findall(r"= (-?[\d.e-]+)", title)]
    bias = model.layers[0].bias
    expected = [h.data[:, 1].mean(), record[h][:, 1].sum(), bias.data[1], bias.grad[1]]
    assert numbers == pytest.approx(expected, rel=1e-4)
    assert "; mean and sum of 5; " in title and "layers.0.bias[1]" in title


def test_dead_units_are_marked():
    model = fg.nn.MLP(2, [4, 1], seed=3)
    model.layers[0].bias.data[:] = [-100, 5, 5, 5]
    picture = fg.draw_network(model, X, Y)
    assert [t.partition(" ")[0] for t in titles(picture, "dead")] == ["h1[0]"]
    assert "✕ marks 1 dead" in picture.svg and "Dead for the whole batch: h1[0]" in picture.svg
    assert len([t for t in titles(picture, "edge zero") if "h1[0]" in t]) == 3  # both into it, and the one out of it


def test_of_many_weights_the_strongest_are_drawn():
    model = fg.nn.MLP(64, [32, 10], seed=0)
    x, y = RNG.normal(size=(20, 64)), RNG.integers(0, 10, 20)
    picture = fg.draw_network(model, x, y, loss=fg.losses.cross_entropy)
    edges = titles(picture, "edge")
    assert len(edges) == 250 and "The strongest 250 of 2,368 weights drawn" in picture.svg
    assert len(titles(picture, "node")) == 64 + 32 + 10
    fg.losses.cross_entropy(model(x), y).backward()
    drawn = {}
    for title in edges:
        name, fluxion = EDGE.fullmatch(title).group(3, 7)
        drawn.setdefault(name, []).append(abs(float(fluxion)))
    for name, p in model.named_parameters():
        if name in drawn:  # within a layer, the strongest
            assert min(drawn[name]) == pytest.approx(np.sort(np.abs(p.grad).ravel())[-len(drawn[name])], rel=1e-4)
            assert len(drawn[name]) >= 62
    root = ET.fromstring(picture.svg)
    assert int(root.get("width")) <= 920 and len(picture.svg) <= 350 * (250 + 106) + 6000


def test_deep_and_wide_networks_stay_on_the_page():
    deep = fg.draw_network(fg.nn.MLP(4, [6] * 30 + [1], seed=0), RNG.normal(size=(3, 4)), np.ones((3, 1)))
    assert "The last 12 layers; 19 earlier ones are left out" in deep.svg
    wide = fg.draw_network(fg.nn.MLP(784, [128, 1], seed=0), RNG.normal(size=(3, 784)), np.ones((3, 1)))
    for picture in (deep, wide):
        assert int(ET.fromstring(picture.svg).get("width")) < 1400
    assert re.search(r"784, \d+ drawn", wide.svg)


def test_losses_views_and_modes():
    model = fg.nn.Sequential(
        fg.nn.Linear(2, 3, seed=0), fg.nn.ReLU(), fg.nn.Dropout(0.5, seed=0), fg.nn.Linear(3, 1, seed=1)
    )
    assert fg.draw_network(model, X, Y).svg == fg.draw_network(model, fg.Tensor(X), Y).svg  # nothing random
    assert all(m.training for m in model.modules())
    assert "L = mse_loss(ŷ, y) = " in fg.draw_network(model, X, Y).svg
    assert "L = huber_loss(ŷ, y) = " in fg.draw_network(model, X, Y, fg.losses.huber_loss).svg
    assert "L = Σ ŷ = " in fg.draw_network(model, X).svg
    assert "layers.0.weight = 3×2, norm " in fg.draw_network(model, X, Y, view="op").svg
    assert "neato" in fg.draw_network(model, X, Y).dot
    with pytest.raises(ValueError, match="given 'cube'"):
        fg.draw_network(model, X, Y, view="cube")


def test_a_batch_that_goes_wrong_is_still_drawn():
    model = fg.nn.MLP(2, [3, 1], seed=0)
    with np.errstate(all="ignore"):
        picture = fg.draw_network(model, np.array([[np.inf, 1.0]]), np.array([[1.0]]))
    ET.fromstring(picture.svg)
    assert "NaN or inf" in picture.svg and len(titles(picture, "edge")) == 9


@pytest.mark.filterwarnings("error")
def test_an_empty_batch_is_drawn_without_a_warning():
    model = fg.nn.MLP(2, [3, 1], seed=0)
    L = np.sum(model(np.zeros((0, 2))))
    assert "NaN" in fg.draw(L, view="neuron").svg
    with pytest.raises(TypeError, match=r"model is an nn\.Module; given int"):
        fg.draw_network(3, X)


class TwoBranches(fg.nn.Module):
    def __init__(self):
        self.a, self.b, self.c = (fg.nn.Linear(2, 2, seed=k) for k in range(3))

    def forward(self, x):
        return self.c(np.tanh(self.a(x)) + np.tanh(self.b(x)))


class NoLayer(fg.nn.Module):
    def __init__(self):
        self.w = fg.Tensor(np.ones(2), requires_grad=True)

    def forward(self, x):
        return x * self.w


@pytest.mark.parametrize("model, says", [(TwoBranches(), "follow one another"), (NoLayer(), "no Linear layer")])
def test_what_is_no_chain_of_layers_is_refused(model, says):
    with pytest.raises(ValueError, match=says):
        fg.draw_network(model, X, view="neuron")
    picture = fg.draw_network(model, X)  # where nobody asked for circles, another view is chosen, and told
    assert "do not follow one another" in picture.svg and len(titles(picture, "node")) > 1


class Reversed(TwoBranches):
    def forward(self, x):
        return self.c(np.tanh(self.a(x))[:, ::-1])


def test_what_mixes_units_between_layers_and_frozen_layers_are_no_chain():
    frozen = fg.nn.MLP(2, [4, 4, 1], seed=0)
    list(frozen.parameters())[2].requires_grad = False
    first = fg.nn.MLP(2, [4, 1], seed=0)
    next(first.parameters()).requires_grad = False
    for model in (Reversed(), frozen, first):
        with pytest.raises(ValueError, match="neuron view"):
            fg.draw_network(model, X, view="neuron")
        assert "do not follow one another" in fg.draw_network(model, X).svg
        fg.History(model, X, np.zeros((len(X), 1)), loss=lambda z, y: np.sum(z)).log(1.0)


def test_threads_that_draw_leave_the_model_in_its_mode():
    import threading

    model = fg.nn.MLP(2, [3, 1], seed=0)
    threads = [threading.Thread(target=lambda: [fg.draw_network(model, X) for _ in range(15)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(part.training for part in model.modules())


def test_the_marks_of_a_unit_are_circles():
    root = ET.fromstring(fg.draw_network(fg.nn.MLP(2, [3, 1], seed=0), X, Y).svg)
    units = [g for g in root.iter(f"{SVG}g") if "node" in g.get("class", "").split()]
    assert all(g.find(f"{SVG}circle") is not None for g in units)


def visible(picture):
    """Of each edge, where its number stands and how large it is, if it is in view: the strongest first."""
    found = []
    for g in ET.fromstring(picture.svg).iter(f"{SVG}g"):
        if g.get("class", "").startswith("edge"):
            text = g.find(f"{SVG}text")
            strength = abs(float(g[0].text.rpartition(" ")[2]))
            found.append((strength, text.get("opacity") != "0", float(text.get("x")), float(text.get("y")), text.text))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("widths, least", [([4, 8, 8, 2], 60), ([64, 16, 10], 40), ([3, 8, 100], 30)], ids=str)
def test_of_many_weights_as_many_numbers_stand_as_have_room(widths, least):
    model = fg.nn.MLP(widths[0], widths[1:], seed=0)
    picture = fg.draw_network(model, RNG.normal(size=(7, widths[0])), RNG.normal(size=(7, widths[-1])), view="neuron")
    edges = visible(picture)
    assert all(text for *_, text in edges)
    places = [(x, y, style.width(text, 9)) for _, shown, x, y, text in edges if shown]
    assert len(places) >= least
    for k, (x, y, w) in enumerate(places):
        assert all(abs(y - v) > 8 or abs(x - u) > (w + z) / 2 for u, v, z in places[:k])
    assert "Numbers stand where they have room" in picture.svg


def test_of_a_hundred_outputs_those_with_room_have_their_numbers_beside_them():
    model = fg.nn.MLP(3, [8, 100], seed=0)
    picture = fg.draw_network(model, RNG.normal(size=(7, 3)), RNG.normal(size=(7, 100)), view="neuron")
    beside, strength = [], {}
    for g in ET.fromstring(picture.svg).iter(f"{SVG}g"):
        if g.get("class", "").startswith("node") and g[0].text.startswith("ŷ["):
            strength[g[0].text.partition(" ")[0]] = abs(float(g[0].text.rpartition(" ")[2]))
            texts = [t for t in g.iter(f"{SVG}text") if t.get("opacity") != "0"]
            assert "".join("".join(t.itertext()) for t in g.iter(f"{SVG}text"))
            beside += [("".join(t.itertext()), float(t.get("y"))) for t in texts[:1]]
    heights = sorted(y for _, y in beside)
    assert len(strength) == 100 and 25 <= len(beside) <= 50
    assert min(b - a for a, b in pairwise(heights)) >= 13
    assert max(strength, key=strength.get) in {name for name, _ in beside}
