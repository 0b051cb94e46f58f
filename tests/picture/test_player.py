"""fg.play: what the page says, its bytes, its safety; and, in a real browser, how it steps, looks and is used."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import Window, chromium  # noqa: F401

import fluxgrad as fg
from fluxgrad.picture import style
from fluxgrad.picture.page import page, part


def leaf(value, name=None):
    return fg.Tensor(value, requires_grad=True, name=name)


def named(**tensors):
    for name, t in tensors.items():
        t.name = name


def fork():
    """docs/order.md: b waits for c and d."""
    a = leaf(1.0, "a")
    b = a * 1
    c = b + 1
    d = b * 2
    e = c + d
    named(b=b, c=c, d=d, e=e)
    return e


def neuron():
    w, x, b = leaf(0.5, "w"), leaf(-1.2, "x"), leaf(0.1, "b")
    h = np.tanh(w * x + b)
    h.name = "h"
    return h * w + fg.losses.mse_loss(h, fg.Tensor(0.8, name="y"))


def arrays():
    W = leaf([[1.0, 2.0], [3.0, 4.0]], "W")
    y = W @ fg.Tensor([1.0, -1.0], name="x")
    y.name = "y"
    return np.sum(np.tanh(y) * y - y)


def signs():
    """A fluxion of each sign, one exactly zero, one that is no number."""
    p, m, z, s = leaf(2.0, "p"), leaf(3.0, "m"), leaf(1.0, "z"), leaf(0.0, "s")
    return p - m + z * 0.0 + s * np.nan


def long():
    x, y = leaf(0.9, "x"), leaf(1.1, "y")
    t = x
    for k in range(5_000):
        t = np.tanh(t * y) + (x if k % 2 else y)
    return t


def scoped():
    model = fg.nn.MLP(2, [3, 1], seed=0)
    with fg.scope(model):
        return fg.losses.mse_loss(model(np.array([[0.5, -1.0]])), np.array([[1.0]]))


GRAPHS = {f.__name__: f for f in (fork, neuron, arrays, signs, scoped)}


def data(player):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', player.html, re.S)[1])


def told(step):
    return [step["lead"], *(x["text"] for x in step["gets"]), *(x["waits"] for x in step["lines"] if "waits" in x)]


# ----- What it says -----


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_its_lines_are_those_of_explain(graph):
    L = graph()
    lines = [
        [row["label"], *row["cells"]] for s in data(fg.play(L))["steps"] for line in s["lines"] for row in line["rows"]
    ]
    printed = re.sub(r"\s+", " ", fg.explain(L).text("notation"))
    root = L.name or "L"
    assert lines and all(" = ".join(cells) in printed for cells in lines if cells != [f"L̇_{root}", "1"])
    for step in fg.explain(L).steps:
        assert any(cells[0] == step.symbol for cells in lines)


def test_a_fork_waits_until_all_have_come_and_says_so():
    steps = data(fg.play(fork()))["steps"]
    assert len(steps) == 10
    assert told(steps[7]) == [
        "Of d and c, d was made last: all that it feeds has sent its part. So L̇_d is complete, and d sends back.",
        "b gets upstream 1 × local 2 = 2",
        "b waits: 1 of 2 contributions has come, 2 so far; c has yet to send.",
    ]
    (line,) = steps[8]["lines"]
    assert line["rows"][0]["cells"] == ["L̇_c + 2·L̇_d", "1 + 2·1", "3"]
    card = data(fg.play(fork()))["nodes"][1]
    assert card["came"] == [7, 8] and card["sums"] == [": not yet", " = 2 + …", " = 1 + 2 = 3"]
    assert card["notes"] == ["a fork: feeds 2", "waits for 1 more", "both have come"]


def test_every_contribution_is_upstream_times_local():
    texts = [t["text"] for s in data(fg.play(neuron()))["steps"] for t in s["gets"]]
    pattern = r"\w+ gets upstream ([^ ]+) × local \(?([^ )]+)\)? = ([^ ]+)"
    found = [re.fullmatch(pattern, text.replace("−", "-")).groups() for text in texts]
    assert len(found) == 10
    for u, local, c in found:
        assert float(u) * float(local) == pytest.approx(float(c), rel=0.01, abs=1e-3)


def test_what_is_not_computed_is_not_zero():
    found = data(fg.play(signs()))
    sums = {tuple(n["sums"]) for n in found["nodes"] if n}
    assert (": not yet", " = 0") in sums and (": not yet", " = NaN") in sums
    assert {x.get("sign") for s in found["steps"] for x in s["lines"]} >= {"+", "−", "0", None}


def test_of_a_deep_graph_the_last_sixty_operations_are_played():
    for L in (long(), scopes_around_long()):
        started = time.perf_counter()
        player = fg.play(L)
        text = player.html
        assert time.perf_counter() - started < 5
        assert "These are the last 60 of 15,000 operations; 14,940 earlier ones are left out." in text
        found = data(player)
        assert len(found["steps"]) == 122 and found["forward"] == 60
        x = next(n for n in found["nodes"] if n and len(n["came"]) > 5)
        assert x["wants"] > len(x["came"]) and x["sums"][-1].endswith("+ …")


def scopes_around_long():
    with fg.scope("all of it"):
        return long()


def test_a_leaf_and_an_empty_array_have_a_page():
    assert len(data(fg.play(leaf(3.0, "x")))["steps"]) == 2
    assert data(fg.play(np.sum(leaf(np.zeros((0, 2)), "empty"))))["steps"][-1]["lines"][0]["rows"] == []


def test_grad_is_left_alone_and_what_cannot_be_played_is_refused():
    x = leaf(3.0)
    fg.play(x * x).html  # noqa: B018
    assert x.grad is None
    with pytest.raises(TypeError, match=r"play\(L\): L is a tensor; given float"):
        fg.play(3.0)
    with pytest.raises(ValueError, match="requires grad"):
        fg.play(fg.Tensor(1.0))


# ----- The file -----


def test_save_and_the_frame_of_a_notebook(tmp_path):
    player = fg.play(fork())
    player.save(tmp_path / "fork.HTML")
    assert (tmp_path / "fork.HTML").read_bytes() == player.html.encode()
    with pytest.raises(ValueError, match=r"saved as \.html; 'fork\.svg' does not"):
        player.save(tmp_path / "fork.svg")
    frame = player._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == player.html
    assert frame.startswith('<iframe title="Wiggle-flow of e, step by step" sandbox="allow-scripts"')
    assert repr(player) == "<Wiggle-flow of e, step by step>"


def test_every_operand_of_many_is_played():
    leaves = [leaf(float(k), f"p{k}") for k in range(40)]
    assert len(data(fg.play(np.sum(np.stack(leaves))))["nodes"]) == 42


def test_the_shell_is_small():
    for graph in GRAPHS.values():
        text = fg.play(graph(), predict=True).html
        picture = re.search(r"<svg.*</svg>", text, re.S)[0]
        told = re.search(r'id="data">(.*?)</script>', text, re.S)[1]
        assert len(text.encode()) - len(picture.encode()) - len(told.encode()) <= 15_000


def test_the_policy_names_the_script_by_its_hash_and_nothing_comes_from_outside():
    text = fg.play(fork()).html
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert scripts == [part("player.js")]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert not re.search(r"\b(src|href)=|url\(|@import|innerHTML|eval\(", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_script_that_would_end_its_element_is_refused():
    with pytest.raises(ValueError, match="would end it"):
        page("t", "", None, "'</SCRIPT>'")
    with pytest.raises(ValueError):
        page("t", "", float("nan"), "")


PROGRAM = """
import sys
sys.path.insert(0, "tests/picture")
from test_player import GRAPHS, fg
sys.stdout.buffer.write("".join(fg.play(f(), k % 2 == 0).html for k, f in enumerate(GRAPHS.values())).encode())
"""


def test_the_same_bytes_in_every_process():
    root = Path(fg.__file__).parents[1]
    texts = []
    for seed in ("0", "4711"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, env=env, capture_output=True, check=True)
        assert ran.stderr == b""
        texts.append(ran.stdout)
    assert texts[0] == texts[1] and texts[0]


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><a href='javascript:alert(1)'>",
    "</script><img src=x onerror=alert(1)>",
    "%3",
    "\x00\x07\x1b[31m",
    "a\nb\r\nc\u2028d",
    "]]>&amp;&#0; --> <!--",
    "q" * 10_000,
    "\u202egnp\u202c\ud800\ufffe",
    "“L̇_x”",
]


def hostile(name):
    L = leaf(3.0, name) * leaf(2.0, name)
    L.name = name
    return L


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_come_out_as_text(name):
    player = fg.play(hostile(name), predict=True)
    tags, values = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            values.extend(attrs)

    Reader().feed(player.html)
    assert tags.count("script") == 2 and not {"img", "a", "iframe", "link"} & set(tags)
    assert not any(key.startswith("on") or key in ("href", "src") for key, _ in values)
    assert "q" * 41 not in player.html and "\x1b" not in player.html
    player.html.encode()
    assert all(len(row["label"]) <= 50 for s in data(player)["steps"] for x in s["lines"] for row in x["rows"])


def test_contrast_of_what_is_lit():
    css = part("player.css")
    light, dark = re.findall(r"--lit:(#\w+);--lit-card:(#\w+)", css)
    for theme, lit in ((style.LIGHT, light), (style.DARK, dark)):
        for ground in (*lit, theme["paper"], theme["card"]):
            assert style.contrast(theme["ink"], ground) >= 4.5
        for colour in ("plus", "minus", "mixed", "frame"):
            assert style.contrast(theme[colour], theme["paper"]) >= 3
        for colour in ("plus text", "minus text", "quiet"):
            assert style.contrast(theme[colour], lit[1]) >= 4.5


# ----- In a browser -----


@pytest.fixture
def window(chromium, tmp_path):  # noqa: F811
    """Opens players; at the end every console must be empty, and nothing but the file asked for."""
    opened = []

    def open_(L, predict=False, **more):
        file = tmp_path / f"{len(opened)}.html"
        fg.play(L, predict).save(file)
        opened.append(Window(chromium, file, **more))
        return opened[-1]

    yield open_
    for w in opened:
        w.context.close()
        assert w.said == [] and len(w.asked) == 1


def state(w):
    """All that the page shows."""
    return w.page.evaluate(
        "() => [document.querySelector('#view svg').outerHTML, document.getElementById('tell').innerHTML,"
        " document.getElementById('at').value, document.getElementById('ask').hidden]"
    )


def visible(w):
    """The texts of the picture that can be seen."""
    return w.page.evaluate(
        "() => [...document.querySelectorAll('#view text')].filter(t => t.checkVisibility()).map(t => t.textContent).join()"
    )


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("predict", [False, True])
def test_forth_and_back_agree_wherever_the_focus_is(window, graph, predict):
    w = window(graph(), predict)
    last = int(w.page.locator("#at").get_attribute("max"))
    seen = [state(w)]
    for k in range(last):
        w.page.locator(("#forth", "#back", "#at", "#view", "#tell")[k % 5]).focus()
        w.press("ArrowRight")
        seen.append(state(w))
    assert len({json.dumps(s) for s in seen}) == last + 1
    w.press("ArrowRight")
    assert state(w) == seen[-1]
    for k in reversed(range(last)):
        w.page.locator(("#forth", "#back", "#at", "#view", "#tell")[k % 5]).focus()
        w.press("ArrowLeft")
        assert state(w) == seen[k]


def test_a_fork_in_the_picture(window):
    w = window(fork())
    w.press(*["ArrowRight"] * 7)
    cards = w.page.locator("g.node")
    assert "waits for 1 more" in cards.nth(1).text_content() and "waits" in cards.nth(1).get_attribute("class")
    assert "= 2 + …" in cards.nth(1).text_content() and ": not yet" in cards.nth(0).text_content()
    assert w.page.locator("g.edge.on").count() == 1
    w.shoot("fork-waits")
    w.press("ArrowRight")
    assert "both have come" in cards.nth(1).text_content() and "= 1 + 2 = 3" in cards.nth(1).text_content()
    assert "waits" not in cards.nth(1).get_attribute("class")


def test_by_the_keyboard_alone(window):
    w = window(fork())
    w.press("Tab", "Tab")
    assert w.page.evaluate("document.activeElement.textContent").strip() == "← step back"
    w.press("Tab", "End")
    assert w.text("#tell h2") == "Step 9 of 9, backwards"
    w.press("Home", "Tab", "Enter", "Space")
    assert w.text("#tell h2") == "Step 2 of 9, forwards"
    w.press("Shift+Tab", "Shift+Tab", "Enter")
    assert w.text("#tell h2") == "Step 1 of 9, forwards"
    outline = w.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    w.press("Enter", "Enter")  # at the start nothing is lost: the focus stays
    assert w.page.evaluate("document.activeElement.id") == "back" and w.text("#tell h2") == "Step 0 of 9"


def test_for_a_screen_reader(window):
    w = window(fork())
    assert w.page.locator("[aria-live]").count() == 1
    w.page.get_by_role("button", name="step forward", exact=True).click(click_count=8)
    w.page.get_by_role("button", name="step back", exact=True).click()
    said = w.page.get_by_role("status")
    assert "Step 7 of 9, backwards" in said.inner_text() and "upstream 1 × local 2 = 2" in said.inner_text()
    assert said.get_by_role("img", name="L-dot of d").count() == 1
    slider = w.page.get_by_role("slider", name="step")
    assert slider.get_attribute("aria-valuetext") == "step 7 of 9, backwards"
    assert w.page.get_by_role("img", name="Wiggle-flow of e").count() == 1


def test_the_text_of_a_line_is_the_text_of_explain(window):
    L = neuron()
    w = window(L)
    printed = re.sub(r"\s+", " ", fg.explain(L).text("notation"))
    w.press(*["ArrowRight"] * 10)
    shown = w.page.locator("#tell .row").first.text_content()
    assert " ".join(shown.split()) in printed and "L̇_h = L̇_v3" in shown


def test_a_guess(window):
    w = window(neuron(), predict=True)
    w.press(*["ArrowRight"] * 8)  # L sends to h·w and to the loss: both are asked, one after the other
    hidden = visible(w)
    assert w.text("#tell").endswith("What is the sign of L̇_v3?") and "gets" not in w.text("#tell")
    w.shoot("predict-asks")
    w.press("-")
    assert "Wrong, it is +, not −: upstream 1 × local 1 = 1." in w.text("#tell")
    assert w.text("#tell").endswith("What is the sign of L̇_v4?")
    w.page.get_by_role("button", name="plus").click()
    assert "Right, it is +" in w.text("#tell") and w.text("#score") == "1 of 2 guessed right"
    assert not w.page.locator("#ask").is_visible() and w.page.evaluate("document.activeElement.id") == "forth"
    assert visible(w) != hidden
    w.press("ArrowRight", "ArrowRight")
    assert "What is the sign of L̇_h?" in w.text("#tell") and "w waits" in w.text("#tell")
    w.page.get_by_role("button", name="skip").click()
    assert "−2.024" in w.text("#tell") and w.text("#score") == "1 of 2 guessed right"
    w.press("ArrowRight", "0")
    assert "Wrong, it is −, not 0" in w.text("#tell") and w.text("#score") == "1 of 3 guessed right"


def test_nothing_of_a_fluxion_is_to_be_seen_before_the_guess(window):
    w = window(fork(), predict=True)
    w.press(*["ArrowRight"] * 8)
    assert "3" not in visible(w) + w.text("#tell")
    w.press("+")
    assert "3" in visible(w) and "3" in w.text("#tell")


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark(window, dark):
    w = window(arrays(), dark=dark, still=True)
    paper = "rgb(17, 24, 39)" if dark else "rgb(255, 255, 255)"
    assert w.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == paper
    w.press(*["ArrowRight"] * 8)
    w.shoot("dark" if dark else "light")


def test_nothing_moves_by_itself(window):
    for still in (False, True):
        w = window(fork(), still=still)
        w.press("ArrowRight")
        before = state(w)
        assert w.page.evaluate("document.getAnimations().length") == 0
        w.page.wait_for_timeout(300)
        assert state(w) == before


def test_in_a_narrow_window_nothing_sticks_out_and_what_is_lit_is_in_view(window):
    w = window(neuron(), width=380, height=740)
    assert w.page.evaluate("document.documentElement.scrollWidth") <= 380
    last = int(w.page.locator("#at").get_attribute("max"))
    for _ in range(last):
        w.press("ArrowRight")
        card, view = w.page.locator("g.node.on rect").bounding_box(), w.page.locator("#view").bounding_box()
        assert view["x"] - 1 <= card["x"] and card["x"] + card["width"] <= view["x"] + view["width"] + 1
        assert view["y"] - 1 <= card["y"] and card["y"] + card["height"] <= view["y"] + view["height"] + 1
    w.shoot("narrow")


def test_several_players_in_one_notebook_do_not_collide(chromium, tmp_path):  # noqa: F811
    frames = fg.play(fork())._repr_html_() + fg.play(fork(), predict=True)._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><title>n</title>{frames}", encoding="utf-8")
    with Window(chromium, tmp_path / "notebook.html", height=1600) as w:
        one, other = (w.page.frame_locator("iframe").nth(i) for i in (0, 1))
        one.get_by_role("button", name="step forward").click()
        w.press("ArrowRight")
        other.get_by_role("button", name="step forward").click()
        assert one.locator("#tell h2").inner_text() == "Step 2 of 9, forwards"
        assert other.locator("#tell h2").inner_text() == "Step 1 of 9, forwards"
        assert w.said == []


def test_the_policy_lets_no_other_script_run(chromium, tmp_path):  # noqa: F811
    text = fg.play(fork()).html.replace("<h1>", "<script>document.title = 'ran'</script><img src=x onerror=1><h1>")
    (tmp_path / "p.html").write_text(text, encoding="utf-8")
    with Window(chromium, tmp_path / "p.html") as w:
        assert w.page.title() == "Wiggle-flow of e, step by step"
        assert w.said and all("Content Security Policy" in line for line in w.said)
        w.press("ArrowRight")
        assert w.text("#tell h2") == "Step 1 of 9, forwards"


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_in_the_browser(window, name):
    w = window(hostile(name))
    w.press(*["ArrowRight"] * 3)
    assert w.page.locator("#tell .row").count() == 2
