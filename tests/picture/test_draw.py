"""fg.draw: the marks that a program can read, the numbers on them, names, size, depth, the same bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.picture import Picture

SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(0)


def leaf(value, name=None):
    return fg.Tensor(value, requires_grad=True, name=name)


def marks(picture, kind):
    """The groups of one kind: (title, visible texts) of each."""
    groups = [g for g in ET.fromstring(picture.svg).iter(f"{SVG}g") if {*kind.split()} <= {*g.get("class", "").split()}]
    assert all(g[0].tag == f"{SVG}title" for g in groups)
    return [(g[0].text, ["".join(t.itertext()) for t in g.iter(f"{SVG}text")]) for g in groups]


def titles(picture, kind):
    return [title for title, _ in marks(picture, kind)]


def told(picture, kind="node"):
    """What each node of a kind says: its title, and its story."""
    groups = [g for g in ET.fromstring(picture.svg).iter(f"{SVG}g") if {kind, "node"} <= {*g.get("class", "").split()}]
    assert all(g[1].tag == f"{SVG}desc" and g[1].text for g in groups)
    return [f"{g[0].text}; {g[1].text}" for g in groups]


# ----- What is on it -----


def test_a_square_has_two_edges_whose_contributions_add_up():
    x = leaf(3.0, "x")
    picture = fg.draw(x * x)
    edges = marks(picture, "edge")
    assert [title for title, _ in edges] == ["x → x·x: contributes 3"] * 2
    assert all("+3" in texts and "1 × 3" in texts for _, texts in edges)
    nodes = dict(marks(picture, "node"))
    assert list(nodes) == ["x = 3, L̇_x = 6", "L = 9, L̇_L = 1"]
    assert told(picture) == [
        "x = 3, L̇_x = 6; L rises if it rises",
        "L = 9, L̇_L = 1; by multiply; L rises if it rises",
    ]
    assert "Lx = 3 + 3 = 6" in nodes["x = 3, L̇_x = 6"]  # the dot of L̇ is drawn, not typed
    assert x.grad is None


def test_contributions_at_a_fork_sum_to_the_fluxion():
    a, b = leaf(0.7, "a"), leaf(-1.3, "b")
    h = np.tanh(a * b)
    h.name = "h"
    L = h * b + np.exp(h) * a + b / a
    picture, record = fg.draw(L), fg.flows(L)
    sums: dict[str, float] = {}
    for title in titles(picture, "edge"):
        name, contribution = re.fullmatch(r"(.+?) → .+: contributes (.+)", title).groups()
        sums[name] = sums.get(name, 0.0) + float(contribution)
    for name, t in (("a", a), ("b", b), ("h", h)):
        assert sums[name] == pytest.approx(record[t].item(), rel=1e-4)
        assert any(title.startswith(f"{name} = ") and f"L̇_{name} = " in title for title in titles(picture, "node"))


def test_the_numbers_are_those_of_the_record():
    w, x, b = leaf(0.5, "w"), leaf(-1.2, "x"), leaf(0.1, "b")
    L = fg.losses.mse_loss(np.tanh(w * x + b), fg.Tensor(0.8, name="y"))
    picture, record = fg.draw(L), fg.flows(L)
    for name, t in (("w", w), ("x", x), ("b", b)):
        title = next(title for title in titles(picture, "node") if title.startswith(f"{name} = "))
        assert float(title.rpartition("= ")[2]) == pytest.approx(record[t].item(), rel=1e-5)
    assert "y = 0.8; a constant: no fluxion" in told(picture)


def test_arrays_show_shape_and_norm():
    W = leaf(np.array([[3.0, 0.0], [0.0, 4.0]]), "W")
    picture = fg.draw(np.sum(W * W))
    title = titles(picture, "node")[0]
    assert title == "W = 2×2, norm 5, ‖L̇_W‖ = 10"
    shown = marks(picture, "node")[0][1]
    assert any("2×2" in text for text in shown) and any("= 10" in text for text in shown)
    assert "W → W·W: contributes ‖·‖ = 5 (+)" in titles(picture, "edge")


def test_signs_zero_and_wild_values_have_their_own_marks():
    x, y, z, s = leaf(2.0, "x"), leaf(3.0, "y"), leaf(1.0, "z"), leaf(0.0, "s")
    with np.errstate(divide="ignore"):
        picture = fg.draw(x - y + z * 0.0 + np.sqrt(s))
    for title, kind in (("x → ", "plus"), ("y → ", "minus"), ("z → ", "zero"), ("s → ", "wild")):
        assert any(t.startswith(title) for t in titles(picture, f"edge {kind}"))
    mixed = fg.draw(np.sum(leaf(np.ones(2), "m") * np.array([1.0, -1.0])))
    assert any(t.startswith("m → ") for t in titles(mixed, "edge mixed"))
    assert (
        "stroke-dasharray" in picture.svg
        and "NaN or inf" in picture.svg
        and "+ means L rises if this rises" in picture.svg
    )


def test_constants_are_nodes_without_a_fluxion():
    picture = fg.draw(leaf(2.0, "x") * 5.0)
    assert told(picture, "constant") == ["5; a constant: no fluxion"]
    assert "5 → x·5: a constant, no fluxion" in titles(picture, "edge")


def test_unnamed_tensors_are_numbered_as_they_were_made_and_the_root_is_L():
    a, taken = leaf(2.0), leaf(1.0, "v1")
    picture = fg.draw(np.exp(a * taken) + 1.0)
    assert [t.partition(" = ")[0] for t in titles(picture, "node")][:5] == ["x1", "v1", "v2", "v3", "L"]
    loss = a * 2.0
    loss.name = "loss"
    named = fg.draw(loss)
    root = ET.fromstring(named.svg)
    assert "loss" in root.find(f"{SVG}title").text and "loss = x1·2 has" in root.find(f"{SVG}desc").text


def test_a_leaf_alone_and_an_array_as_root():
    assert titles(fg.draw(leaf(3.0, "x")), "node") == ["x = 3, L̇_x = 1"]
    assert len(titles(fg.draw(leaf(np.ones(3), "x") * 2.0), "edge")) == 2
    assert "L̇" in fg.draw(np.sum(leaf(np.zeros((0, 2)), "empty"))).svg


def test_a_users_own_rule_is_drawn_with_its_form():
    bent = fg.elementwise("bent x", lambda x: x * x, lambda y, x: 2 * x)
    picture = fg.draw(bent(leaf(2.0, "a")))
    assert titles(picture, "edge") == ["a → bent a: contributes 4"]


# ----- Large and deep -----


def test_of_a_deep_graph_the_last_sixty_operations_are_drawn():
    x = leaf(0.5, "x")
    t = x
    for _ in range(5_000):
        t = np.tanh(t * 1.01)
    started = time.perf_counter()
    picture = fg.draw(t)
    svg = picture.svg
    assert time.perf_counter() - started < 5
    assert "The last 60 of 10,000 operations" in svg and "9,940 earlier ones are left out" in svg
    assert sum("; by tanh" in t or "; by multiply" in t for t in told(picture)) == 60
    assert titles(picture, "cut") and "x = 0.5" not in svg
    assert int(ET.fromstring(svg).get("width")) < 1200


def test_in_a_large_graph_a_leaf_with_many_uses_is_drawn_again_at_each():
    x, y = leaf(0.9, "x"), leaf(1.1, "y")
    t = x
    for k in range(20):
        t = np.tanh(t * y) + (x if k % 2 else y)
    picture = fg.draw(t)
    again, edges = titles(picture, "again"), titles(picture, "edge")
    sums = {name: sum(float(e.rpartition(" ")[2]) for e in edges if e.startswith(f"{name} → ")) for name in "xy"}
    record = fg.flows(t)
    assert sums == pytest.approx({"x": record[x].item(), "y": record[y].item()}, rel=1e-4)
    assert len(again) == 10 + 1 + 30 and all(t.endswith("; drawn again") for t in told(picture, "again"))
    assert len([n for n in titles(picture, "leaf") if n[0] in "xy"]) == 2
    assert int(ET.fromstring(picture.svg).get("width")) < 1000


def chain(n, shape):
    t = leaf(RNG.normal(size=shape), "x")
    for k in range(n):
        w = leaf(RNG.normal(size=shape), f"weight_{k}")
        t = np.tanh(t * w) if k % 2 else t + w
    return np.sum(t)


def fan(n, shape):
    return np.sum(np.stack([leaf(RNG.normal(size=shape) * 1e-5) for _ in range(n)]))


def wide(n, shape):
    return np.sum(np.stack([np.tanh(leaf(RNG.normal(size=shape)) * leaf(RNG.normal(size=shape))) for _ in range(n)]))


def network(units, layers, out=1, bias=True):
    sizes = [3, *[units] * layers, out]
    parts = []
    for k, (a, b) in enumerate(pairwise(sizes)):
        parts += [fg.nn.Linear(a, b, bias=bias, seed=k), fg.nn.Tanh()]
    return fg.nn.Sequential(*parts[:-1])


def small_enough(picture):
    """The bytes that each mark takes, without the 6 kB that a picture may take by itself."""
    drawn = len(titles(picture, "node")) + len(titles(picture, "edge"))
    return (len(picture.svg.encode()) - 6000) / drawn <= 350


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)], ids=str)
def test_bytes_per_mark_are_bounded_in_the_op_view(shape):
    for n in (1, 2, 8, 24, 60, 90):
        for graph in (chain, fan, wide):
            assert small_enough(fg.draw(graph(n, shape), view="op")), (graph, n)
    assert small_enough(fg.draw(fan(300, shape), view="op", limit=40))


def test_bytes_per_mark_are_bounded_in_the_other_views():
    x = RNG.normal(size=(7, 3))
    for units, out in ((1, 1), (8, 10), (30, 100), (100, 100), (300, 1)):
        for layers in (0, 1, 2, 6):
            assert small_enough(fg.draw_network(network(units, layers, out), x, view="neuron")), (units, layers)
    assert small_enough(fg.draw_network(fg.nn.Linear(1, 100, seed=0), x[:, :1], view="neuron"))
    for layers in (1, 5, 12, 13, 49, 50, 51, 52, 100, 600):
        for view in ("layer", "op"):
            assert small_enough(fg.draw_network(network(16, layers), x, view=view)), (view, layers)


def test_bytes_per_mark_are_bounded_where_scopes_fold():
    for scopes, operations in ((2, 40), (20, 1), (20, 40), (58, 10), (100, 10)):
        t = leaf(np.ones(3), "x")
        for k in range(scopes):
            w = leaf(RNG.normal(size=3), f"w{k}")
            with fg.scope("block"):
                for _ in range(operations):
                    t = np.tanh(t * w)
        assert small_enough(fg.draw(np.sum(t))), (scopes, operations)


# ----- Not metres wide -----


def extent(picture):
    root = ET.fromstring(picture.svg)
    return int(root.get("width")), int(root.get("height"))


@pytest.mark.parametrize("n", [2, 16, 17, 30, 2000])
def test_of_many_operands_the_strongest_are_drawn_and_the_rest_told(n):
    leaves = [leaf(float((7 * k) % n), f"p{k}") for k in range(n)]
    picture = fg.draw(np.sum(np.square(np.stack(leaves))), view="op")
    operands = [t for t in titles(picture, "edge") if t.startswith("p")]
    assert max(extent(picture)) < 2500
    if n <= 16:
        assert len(operands) == n and not titles(picture, "more")
        return
    assert len(operands) == 15
    sent = [float(t.rpartition(" ")[2]) for t in operands]
    assert sorted(sent) == [2.0 * k for k in range(n - 15, n)]
    (rest,) = told(picture, "more")
    others = np.sqrt(sum((2.0 * k) ** 2 for k in range(n - 15)))
    assert rest.startswith(f"{n - 15:,} more, ‖L̇‖ sent = ") and "without a mark of their own" in rest
    assert float(rest.partition(";")[0].rpartition(" ")[2]) == pytest.approx(others, rel=1e-4)
    assert "Of more than 16 operands the strongest are drawn." in picture.svg and f"With limit={n}" in picture.svg
    if n == 30:
        whole = fg.draw(np.sum(np.square(np.stack(leaves))), view="op", limit=30)
        assert len([t for t in titles(whole, "edge") if t.startswith("p")]) == 30 and not titles(whole, "more")
        assert "limit=" not in whole.svg


def test_what_leads_only_to_operands_without_a_mark_is_left_out_and_counted():
    picture = fg.draw(wide(30, ()), view="op")
    assert "; 30 operations lead to others alone, and are left out." in picture.svg
    assert sum("; by tanh" in t for t in told(picture)) == 15
    assert extent(picture)[0] < 1600


def test_two_folded_scopes_that_share_many_leaves():
    leaves = [leaf(float(k), f"p{k}") for k in range(100)]
    folds = []
    for name in ("a", "b"):
        with fg.scope(name):
            t = np.stack(leaves)
            for _ in range(60):
                t = np.tanh(t)
        folds.append(t)
    picture = fg.draw(np.sum(folds[0] * folds[1]))
    assert max(extent(picture)) < 3500 and small_enough(picture)
    assert [t.partition(",")[0] for t in titles(picture, "more")] == ["85 more", "85 more"]
    assert "Of more than 16 operands the strongest are drawn." in picture.svg
    record = fg.flows(np.sum(folds[0] * folds[1]))
    for t in titles(picture, "leaf"):
        name = t.partition(" ")[0]
        assert float(t.rpartition(" ")[2]) == pytest.approx(record[leaves[int(name[1:])]].item(), rel=1e-5)


def bushy(n):
    """A network of two layers, number by number, as micrograd has it."""
    x = [leaf(1.0), leaf(2.0)]
    for width in (n, n, 1):
        x = [np.tanh(sum((leaf(RNG.normal()) * xi for xi in x), leaf(0.1))) for _ in range(width)]
    return x[0]


def test_where_the_cards_are_wide_fewer_of_them_are_of_no_use():
    name = "数" * 39
    t = leaf(1.0, name + "x")
    for k in range(30):
        t = t + leaf(1.0, f"{name[:36]}{k}")
        t.name = f"{k}{name[:36]}"
    picture = fg.draw(t)
    assert sum("; by add" in words for words in told(picture)) >= 22 and extent(picture)[0] < 1700


def test_long_names_leave_a_picture_small_enough():
    t = leaf(np.ones(3), "q" * 38)
    for k in range(60):
        t = np.tanh(t * leaf(RNG.normal(size=3), f"{'q' * 30}{k}")) if k % 2 else t + leaf(np.ones(3), f"{k}{'p' * 30}")
        t.name = f"{k}{'r' * 30}"
    assert small_enough(fg.draw(np.sum(t)))


@pytest.mark.parametrize("n", [4, 16])
def test_a_graph_that_would_be_too_wide_is_drawn_with_fewer_operations(n):
    L = bushy(n)
    picture = fg.draw(L)
    assert extent(picture)[0] < 1700
    last = int(re.search(r"The last (\d+) of", picture.svg)[1])
    assert 8 <= last < 60 and sum("; by " in t for t in told(picture)) == last
    assert re.search(r"More operations would make it [\d,]+ pixels wide\.", picture.svg)
    asked = fg.draw(L, limit=60)
    assert extent(asked)[0] > 1700 and "The last 60 of" in asked.svg
    for limit in (2.5, "all", True):
        with pytest.raises(TypeError, match="limit is a whole number"):
            fg.draw(L, limit=limit)
    for limit in (0, -3):
        with pytest.raises(ValueError, match="at least 1"):
            fg.draw(L, limit=limit)


# ----- Names -----

HOSTILE = [
    "",
    "  ",
    "\x00\x07\x1b[31m",
    "<script>alert(1)</script>",
    "\"><a href='javascript:alert(1)'>",
    "]]>&amp;&#0;",
    "%3",
    "\\N\\G\\L{|}<b>",
    "a\nb\r\nc\u2028d",
    "\u202egnp\u202c\ud800\ufffe",
    "q" * 10_000,
    "a" + "\u0301" * 5000,
    "数据" * 30,
    "digraph { }; --> /* */ #",
    "L",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_come_out_as_text(name):
    L = leaf(3.0, name) * leaf(2.0, name)
    L.name = name
    picture = fg.draw(L)
    root = ET.fromstring(picture.svg)  # it parses
    for e in root.iter():
        assert e.tag.removeprefix(SVG) in {
            "svg",
            "title",
            "desc",
            "style",
            "rect",
            "g",
            "path",
            "circle",
            "text",
            "tspan",
        }
        for key, value in e.attrib.items():
            assert not key.startswith("on") and "href" not in key and "javascript" not in value
        assert e.tag.endswith("desc") or len(e.text or "") < 200 or e.tag.endswith("style")
    assert len(titles(picture, "node")) == 3 and len(titles(picture, "edge")) == 2
    picture.svg.encode("utf-8"), picture.dot.encode("utf-8")


def test_two_tensors_of_one_name_are_told_apart():
    x, other, same = leaf(2.0, "x"), leaf(3.0, "x"), fg.Tensor(np.ones(2), name="x")
    picture = fg.draw(np.sum(x * other * same))
    assert [t.partition(" = ")[0] for t in titles(picture, "node")] == ["x", "x_2", "v1", "v2", "L", "x_3"]
    assert {"x → x·x_2: contributes 6", "x_2 → x·x_2: contributes 4"} <= {*titles(picture, "edge")}
    long = [leaf(1.0, "q" * 60 + end) for end in "ab"]
    names = [t.partition(" = ")[0] for t in titles(fg.draw(long[0] * long[1]), "leaf")]
    assert len({*names}) == 2 and all(len(name) == 40 for name in names)
    twins = leaf(np.ones((2, 2)), "W"), leaf(np.ones((2, 2)), "W")
    L = np.sum(np.tanh(fg.Tensor(np.ones((1, 2))) @ twins[0].T) @ twins[1].T)
    for view, kind in (("layer", "node"), ("neuron", "edge")):
        assert sum("W_2" in t for t in titles(fg.draw(L, view=view), kind)) == {"node": 1, "edge": 4}[kind]


def test_a_name_is_cut_to_forty_letters():
    title = titles(fg.draw(leaf(1.0, "q" * 99) * 1.0), "node")[0]
    assert title.partition(" = ")[0] == "q" * 39 + "…"


# ----- Files, DOT, the terminal -----


def test_dot_and_save(tmp_path):
    picture = fg.draw(leaf(3.0, "x") * 2.0)
    assert isinstance(picture, Picture) and picture.dot.startswith("digraph") and "x = 3" in picture.dot
    for suffix, text in ((".svg", picture.svg), (".dot", picture.dot)):
        picture.save(tmp_path / f"p{suffix}")
        assert (tmp_path / f"p{suffix}").read_text(encoding="utf-8") == text
    assert picture._repr_svg_() == picture.svg
    with pytest.raises(ValueError, match=r"\.svg or \.dot; 'p\.bmp'"):
        picture.save(tmp_path / "p.bmp")
    with pytest.raises(ValueError, match="view \"op\"; given 'cube'"):
        fg.draw(leaf(1.0), view="cube")
    with pytest.raises(ValueError, match="requires grad"):
        fg.draw(fg.Tensor(1.0))


PROGRAM = """
import sys, numpy as np, fluxgrad as fg
a, b, W = (fg.Tensor(v, requires_grad=True, name=n) for v, n in ((0.7, "a"), (-1.3, None), (np.ones((2, 3)), "W")))
L = np.tanh(a * b) * b + np.sum(W @ np.ones(3)) * a
net = fg.draw_network(fg.nn.MLP(2, [3, 1], seed=0), np.array([[0.5, -1.0]]), np.array([[1.0]]))
sys.stdout.buffer.write((fg.draw(L).svg + fg.draw(L).dot + net.svg + net.dot).encode())
"""


def run(seed):
    root = Path(fg.__file__).parents[1]
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, check=True)


def test_same_bytes_in_every_process_and_nothing_on_stderr():
    one, other = run("0"), run("4711")
    assert one.stdout == other.stdout and one.stdout
    assert one.stderr == other.stderr == b""


def test_nothing_reaches_the_terminal_at_c_level(capfd):
    fg.draw(leaf(3.0, "ŷ̇數" * 9) * 2.0).svg  # noqa: B018  Graphviz finds this too wide and has no font for it
    assert capfd.readouterr() == ("", "")


def test_graphviz_is_loaded_only_when_a_picture_is_laid_out():
    program = (
        "import sys, fluxgrad as fg; x = fg.Tensor(3.0, requires_grad=True); p = fg.draw(x * x);"
        "assert not {'graphviz', 'pygraphviz'} & set(sys.modules); p.svg; assert 'pygraphviz' in sys.modules"
    )
    root = Path(fg.__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(root)}, check=True)


def test_without_graphviz_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImportError, match="pip install graphviz pygraphviz"):
        fg.draw(leaf(1.0) * 2.0).svg  # noqa: B018


def test_a_dot_on_the_path_serves_where_pygraphviz_is_missing(monkeypatch, tmp_path):
    L = leaf(3.0, "x") * 2.0
    expected = fg.draw(L).svg
    stand_in = tmp_path / "dot"
    stand_in.write_text(
        f"#!{sys.executable}\nimport sys, pygraphviz\n"
        "sys.stdout.buffer.write(pygraphviz.AGraph(string=sys.stdin.read()).draw(format='json0', prog='dot'))\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fg.draw(L).svg == expected


def test_a_stack_of_numbers_is_drawn():
    a, b = leaf(1.0, "a"), leaf(2.0, "b")
    picture = fg.draw(np.sum(np.stack([a, b])))
    assert "a → stack(a, b): contributes 1" in titles(picture, "edge")
    assert fg.flows(np.stack([a, b])[0])[a] == 1
