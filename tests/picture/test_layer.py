"""The layer view, the choice of views, scopes as boxes and folded."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from picture.test_draw import HOSTILE, SVG, leaf, marks, titles, told

import fluxgrad as fg
from fluxgrad.picture.fold import joined
from fluxgrad.picture.layer import Axis, axis, weights_of
from fluxgrad.picture.scene import norm

RNG = np.random.default_rng(0)


def deep(layers, activation, gain, width=16):
    model = fg.nn.MLP(4, [width] * (layers - 1) + [1], activation=activation, seed=0)
    for p in model.parameters():
        if p.ndim == 2:
            p.data = RNG.normal(size=p.shape) * gain / np.sqrt(p.shape[1])
    return model


def loss(model, n=16):
    return fg.losses.mse_loss(model(RNG.normal(size=(n, 4))), np.ones((n, 1)))


def widths(picture):
    """The length of each layer's bar, as drawn."""
    nodes = [g for g in ET.fromstring(picture.svg).iter(f"{SVG}g") if "node" in g.get("class", "").split()]
    paths = [g.findall(f"{SVG}path")[-1] for g in nodes[:-1]]
    return [float(re.match(r"M\S+?h([\d.]+)v8", p.get("d")).group(1)) for p in paths]


# ----- The layer view -----


def test_each_layer_is_a_box_with_its_numbers():
    model = deep(5, fg.nn.ReLU, 1.4)
    model.layers[0].bias.data[:4] = -100
    L = loss(model)
    picture = fg.draw(L, view="layer")
    L.backward()
    nodes = marks(picture, "node")
    assert len(nodes) == 6 and nodes[-1][0].startswith("L = ")
    stories = told(picture)
    for k, (title, texts) in enumerate(nodes[:-1]):
        w = model.layers[2 * k].weight
        begins = rf"W{k + 1} = (\d+×\d+), norm (\S+), ‖L̇_W{k + 1}‖ = (\S+)"
        size, length, fluxion = re.fullmatch(begins, title).groups()
        assert size == f"{w.shape[0]}×{w.shape[1]}"
        assert float(length) == pytest.approx(norm(w.data), rel=5e-3)
        assert float(fluxion) == pytest.approx(norm(w.grad), rel=1e-3)
        assert float(texts[-1]) == pytest.approx(norm(w.grad), rel=5e-3)  # visible, in a text of its own
    assert "25 %" in nodes[0][1][0] and "25 % dead" in stories[0]
    a = np.abs(model.layers[0].weight.grad)
    least, most, median = map(float, re.search(r"entries (\S+) to (\S+), median ([^\s;]+)", stories[0]).groups())
    assert [least, most, median] == pytest.approx([a[a > 0].min(), a.max(), np.median(a[a > 0])], rel=0.06)


def test_arrows_carry_what_a_layer_sends_to_the_one_before():
    model = deep(3, fg.nn.Tanh, 1.0)
    L = loss(model)
    record = fg.flows(L)
    sent = [norm(s.contributions[0]) for s in record.steps if s.row.name == "affine"][::-1]
    edges = marks(fg.draw(L, view="layer"), "edge")
    assert [t.partition(":")[0] for t, _ in edges] == ["W1 → W2", "W2 → W3", "W3 → L"]
    for (title, texts), size in zip(edges[:2], sent[1:], strict=True):
        assert float(title.rpartition(" ")[2]) == pytest.approx(size, rel=6e-3)
        assert float(texts[0]) == pytest.approx(size, rel=6e-3)


def test_vanishing_is_seen_and_so_is_its_cure():
    bad, good = fg.draw(loss(deep(20, fg.nn.Sigmoid, 1.0))), fg.draw(loss(deep(20, fg.nn.ReLU, 2**0.5)))
    bars = widths(bad)
    assert len(bars) == 20 and bars[0] < 0.05 * bars[-1] and all(a <= b + 5 for a, b in pairwise(bars))
    assert min(widths(good)) > 0.4 * max(widths(good))
    assert re.search(r"vanishes: from W20 back to W1 its norm falls \S+-fold, ×0\.\d+ per layer", bad.svg)
    assert "reaches every layer" in good.svg
    assert "explodes: its norm reaches" in fg.draw(loss(deep(20, fg.nn.ReLU, 3.0))).svg


def test_a_hundred_layers_fit_on_a_page():
    started = time.perf_counter()
    picture = fg.draw(loss(deep(100, fg.nn.ReLU, 1.4)))
    svg = picture.svg
    assert time.perf_counter() - started < 2
    root = ET.fromstring(svg)
    assert int(root.get("width")) <= 1020 and int(root.get("height")) <= 1300
    assert len(titles(picture, "node")) == 101 and len(titles(picture, "edge")) == 100
    assert len(svg.encode()) <= 350 * 201 + 6000
    more = fg.draw(loss(deep(150, fg.nn.ReLU, 1.4)))
    assert "The first 50 and the last 50 of 150 layers" in more.svg and "50 between them are left out" in more.svg
    assert int(ET.fromstring(more.svg).get("width")) <= 1020


def test_zero_and_wild_layers_have_their_own_marks():
    model = deep(4, fg.nn.ReLU, 1.4)
    model.layers[0].bias.data[:] = -100
    dead = fg.draw(loss(model), view="layer")
    assert titles(dead, "node")[0].endswith("‖L̇_W1‖ = 0") and "100 % dead" in told(dead)[0]
    model.layers[2].weight.data[0, 0] = np.nan
    with np.errstate(all="ignore"):
        wild = fg.draw(loss(model), view="layer")
    assert "NaN or inf" in wild.svg and "layers have a fluxion that is NaN or inf" in wild.svg
    assert len(titles(wild, "node wild")) > 1


def test_layers_by_hand_shared_and_branching():
    x = fg.Tensor(RNG.normal(size=(5, 3)), name="x")
    W, V, U = leaf(RNG.normal(size=(3, 3)), "W"), leaf(RNG.normal(size=(3, 3)), "V"), leaf(RNG.normal(size=(2, 5)), "U")
    h = np.maximum(x @ W, 0.0)
    h = np.tanh(h @ W) + np.tanh(x @ V.T)
    L = np.sum(U @ h)
    layers = weights_of(fg.flows(L))
    assert [(layer.weight.name, len(layer.steps), layer.activation) for layer in layers] == [
        ("W", 2, "tanh"),
        ("V", 1, "tanh"),
        ("U", 1, ""),
    ]
    assert layers[0].dead is not None and layers[2].units == 2
    picture = fg.draw(L, view="layer")
    assert "×2" in marks(picture, "node")[0][1][0]
    assert [t.partition(":")[0] for t in titles(picture, "edge")] == ["V → U", "U → L"]  # W does not feed V


def test_scales_are_whole_decades():
    assert axis([3.0, 0.002], 2) == Axis(-3.0, 1.0) and axis([], 4) == Axis(-4.0, 0.0)
    assert Axis(-3.0, 1.0)(0.1) == 0.5 and Axis(-3.0, 1.0)(0.0) == 0.0


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_of_layers_and_scopes(name):
    W = leaf(np.ones((2, 2)), name)
    with fg.scope(name), fg.scope(name):
        L = np.sum(np.tanh(W @ np.ones(2)))
        for _ in range(70):
            L = np.tanh(L * 1.01)
    for view in ("layer", "op"):
        picture = fg.draw(L * 1.0, view=view)
        root = ET.fromstring(picture.svg)
        assert not {e.tag.removeprefix(SVG) for e in root.iter()} & {"script", "a", "foreignObject", "image"}
        assert all(not key.startswith("on") and "href" not in key for e in root.iter() for key in e.attrib)
        picture.dot.encode("utf-8")


def test_same_bytes():
    L = loss(deep(30, fg.nn.Tanh, 1.0))
    assert fg.draw(L).svg == fg.draw(L).svg and fg.draw(L).dot.startswith("digraph")


# ----- Which view -----


def test_a_view_is_chosen_by_size_and_says_so():
    x = leaf(3.0, "x")
    assert "Op view, chosen because it is small (2 nodes)." in fg.draw(x * x).svg
    small = loss(deep(3, fg.nn.Tanh, 1.0))
    assert "view=&quot;neuron&quot; or view=&quot;layer&quot; for another." in fg.draw(small).svg
    large = fg.draw(loss(deep(30, fg.nn.Tanh, 1.0)))
    assert "Layer view, chosen because of its size (120 nodes, 30 layers)." in large.svg
    assert "view=&quot;op&quot; or view=&quot;neuron&quot; for another." in large.svg
    assert "chosen" not in fg.draw(small, view="op").svg
    t = x
    for _ in range(100):
        t = np.tanh(t)
    assert "Op view, chosen because it has no layers or scopes to go by (101 nodes)." in fg.draw(t).svg


def test_every_view_of_a_small_network_on_request():
    model = deep(3, fg.nn.Tanh, 1.0, width=3)
    L = loss(model)
    record = fg.flows(L)
    neuron = fg.draw(L, view="neuron")
    assert len(titles(neuron, "node")) == 4 + 3 + 3 + 1 and len(titles(neuron, "edge")) == 12 + 9 + 3
    g = record[model.layers[0].weight]
    assert any(t.startswith("x[1] → h1[2]: W1[2,1]") and f"{g[2, 1]:.3g}"[:4] in t for t in titles(neuron, "edge"))
    assert len(titles(fg.draw(L, view="layer"), "node")) == 4
    with pytest.raises(ValueError, match=r'"neuron".*"layer".*"op"; given \'cube\''):
        fg.draw(L, view="cube")
    for view in ("neuron", "layer"):
        with pytest.raises(ValueError, match=r"no (Linear )?layer"):
            fg.draw(leaf(1.0) * 2.0, view=view)


def test_draw_network_starts_with_neurons_and_goes_on_to_layers():
    x = RNG.normal(size=(4, 4))
    small = fg.draw_network(deep(3, fg.nn.Tanh, 1.0), x)
    assert "Neuron view, chosen because of its size (3 layers, 37 units)" in small.svg
    large = fg.draw_network(deep(40, fg.nn.Tanh, 1.0, width=3), x)
    assert "Layer view, chosen because of its size (40 layers" in large.svg
    assert titles(large, "node")[1].startswith("layers.2 = 3×3, norm ")
    drawn = len(titles(large, "node")) + len(titles(large, "edge"))
    assert len(large.svg.encode()) <= 350 * drawn + 6000
    assert len(titles(fg.draw_network(deep(3, fg.nn.Tanh, 1.0), x, view="layer"), "node")) == 4


# ----- Scopes -----


def scoped(blocks, operations):
    t = leaf(np.ones(3), "x")
    for k in range(blocks):
        w = leaf(RNG.normal(size=3), f"w{k}")
        with fg.scope("block"):
            for _ in range(operations // 2):
                t = np.tanh(t * w)
    return np.sum(t)


def test_a_small_graph_has_a_box_around_each_scope():
    x = leaf(2.0, "x")
    with fg.scope("outer"):
        y = x * 3.0
        with fg.scope("inner"):
            z = np.tanh(y)
    picture = fg.draw(z * y)
    root = ET.fromstring(picture.svg)
    boxes = [g for g in root.iter(f"{SVG}g") if g.get("class") == "cluster"]
    assert [g[0].text for g in boxes] == ["outer", "inner"]
    frames = [[float(g.find(f"{SVG}rect").get(k)) for k in ("x", "y", "width", "height")] for g in boxes]
    (x0, y0, w0, h0), (x1, y1, w1, h1) = frames
    assert x0 < x1 and y0 < y1 and x1 + w1 < x0 + w0 and y1 + h1 < y0 + h0
    assert "subgraph cluster_0" in picture.dot
    assert len(titles(picture, "node")) == 5  # x, 3, and three results: nothing is folded


def test_in_a_large_graph_scopes_fold_and_contributions_still_add_up():
    L = scoped(10, 18)
    picture, record = fg.draw(L), fg.flows(L)
    assert "181 operations, of which 180 are folded into 10 scopes" in picture.svg
    folded = titles(picture, "folded")
    assert [t.partition(" = ")[0] for t in folded] == ["block", *(f"block ({k})" for k in range(2, 11))]
    assert all("18 operations folded" in t for t in told(picture, "folded"))
    w3 = next(t for t in record.tensors if t.name == "w3")
    sent = next(t for t in titles(picture, "edge") if t.startswith("w3 → block (4): contributes"))
    assert float(re.search(r"= (\S+)$", sent).group(1)) == pytest.approx(norm(record[w3]), rel=1e-5)
    last = [t for t in record.tensors if t.row is not None][-2]  # what the last block gives
    assert float(folded[-1].rpartition(" = ")[2]) == pytest.approx(norm(record[last]), rel=1e-5)
    assert f"contributes ‖·‖ = {norm(record[last]):.6g}" in titles(picture, "edge")[0]
    assert len(titles(picture, "leaf")) == 11


def test_scopes_fold_only_as_far_as_they_must():
    t = leaf(0.5, "x")
    for _ in range(4):
        with fg.scope("outer"):
            for _ in range(3):
                with fg.scope("inner"):
                    for _ in range(10):
                        t = np.tanh(t)
    picture = fg.draw(t)
    names = [title.partition(" = ")[0] for title in titles(picture, "folded")]
    assert len(names) == len(set(names)) == 12 and names[1] == "outer/inner (2)" and names[3] == "outer (2)/inner"
    assert picture.svg.count('<g class="cluster">') == 4


def test_a_root_that_is_folded_is_still_the_root():
    t = leaf(0.5, "x")
    for name in ("a", "b"):
        with fg.scope(name):
            for _ in range(60):
                t = np.tanh(t)
    for given, root in ((None, "L"), ("loss", "loss")):
        t.name = given
        picture = fg.draw(t)
        top = ET.fromstring(picture.svg)
        assert top[0].text.startswith(f"Wiggle-flow of {root}: {root} = ")
        assert f"{root} is what b gives." in top[1].text and f"{root} is what b gives." in "".join(top.itertext())
    assert titles(picture, "folded")[1].startswith("b = ")


def test_one_scope_around_everything_is_opened():
    t = leaf(0.5, "x")
    with fg.scope("all"):
        for _ in range(100):
            t = np.tanh(t)
        with fg.scope("end"):
            for _ in range(100):
                t = np.tanh(t)
    picture = fg.draw(t * 1.0)
    assert [title.partition(" = ")[0] for title in titles(picture, "folded")] == ["all/end"]
    assert len(titles(picture, "op")) == 0 and sum("; by tanh" in title for title in told(picture)) == 58
    assert "41 earlier ones are left out" not in picture.svg and "42 earlier ones are left out" in picture.svg
    with fg.scope("all"), fg.scope("of it"):
        for _ in range(100):
            t = np.tanh(t)
    picture = fg.draw(t)
    assert [title.partition(" = ")[0] for title in titles(picture, "folded")] == ["all", "all (2)"]
    t = leaf(0.5, "x")
    with fg.scope("all"), fg.scope("of it"):
        for _ in range(100):
            t = np.tanh(t)
    picture = fg.draw(t)
    assert not titles(picture, "folded") and "The last 60 of 100 operations" in picture.svg
    assert picture.svg.count('<g class="cluster">') == 2


def test_a_small_scope_beside_a_large_one_is_drawn_open():
    t = leaf(0.5, "x")
    for name, operations in (("large", 90), ("small", 5), ("block 1", 40), ("block 2", 40)):
        with fg.scope(name):
            for _ in range(operations):
                t = np.tanh(t)
    picture = fg.draw(t)
    assert [title.partition(" = ")[0] for title in titles(picture, "folded")] == ["large", "block 1", "block 2"]


def test_large_and_deep_with_scopes():
    started = time.perf_counter()
    picture = fg.draw(scoped(100, 20))
    svg = picture.svg
    assert time.perf_counter() - started < 2
    assert len(titles(picture, "folded")) == 59 and "820 earlier ones are left out" in svg
    t = leaf(0.5, "x")
    for _ in range(5_000):
        with fg.scope("s"):
            t = np.tanh(t * 1.01)
    assert int(ET.fromstring(fg.draw(t).svg).get("width")) < 1200


def test_a_scope_with_many_leaves_counts_them_and_one_with_many_results_too():
    x = leaf(1.0, "x")
    with fg.scope("wide"):
        parts = [np.tanh(x * leaf(float(k))) for k in range(40)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    with fg.scope("tail"):
        for _ in range(5):
            total = np.tanh(total)
    picture = fg.draw(total, limit=60)
    (first,) = titles(picture, "folded")  # the small scope has room, and is drawn open
    assert (
        first.startswith("wide = 40 results, ‖L̇_wide‖ = ")
        and "80 operations folded; 41 leaves in it" in told(picture, "folded")[0]
    )
    assert not titles(picture, "leaf")


def test_the_modules_of_a_network_are_boxes():
    picture = fg.draw_network(fg.nn.MLP(2, [3, 1], seed=0), RNG.normal(size=(5, 2)), np.ones((5, 1)), view="op")
    boxes = [g[0].text for g in ET.fromstring(picture.svg).iter(f"{SVG}g") if g.get("class") == "cluster"]
    assert boxes == ["MLP", "layers.0 · Linear", "layers.2 · Linear"]


def test_flows_of_many_together():
    assert joined([np.array([3.0]), np.array([4.0])])[1] == 5.0
    assert [joined([np.array(a), np.array(b)])[0].sign for a, b in ((1, 2), (1, -1), (0, -1), (0, 0), (1, np.nan))] == [
        *("plus", "mixed", "minus", "zero", "wild")
    ]


def test_layers_that_get_exactly_zero_are_the_headline():
    model = fg.nn.MLP(2, [4] * 6 + [1], seed=0)
    dict(model.named_parameters())["layers.6.bias"].data[...] = -100
    svg = fg.draw_network(model, np.ones((3, 2)), np.ones((3, 1)), view="layer").svg
    assert "exactly zero in 5 of 7 layers" in svg and "reaches every layer" not in svg
