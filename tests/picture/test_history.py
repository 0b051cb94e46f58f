"""fg.History: training does not notice it, what it keeps is bounded and right, and its page goes forth and back."""

from __future__ import annotations

import gc
import json
import random
import re
import tracemalloc
import weakref
from base64 import b64decode

import numpy as np
import pytest
from browser import Window, chromium  # noqa: F401

import fluxgrad as fg
from fluxgrad.picture.history import CANDIDATES, FRAMES, GRID, kilobytes
from fluxgrad.picture.neuron import strongest
from fluxgrad.picture.page import part

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([[0.0], [1.0], [1.0], [0.0]])


def mlp(n_in=2, sizes=(4, 1), **more):
    return fg.nn.MLP(n_in, list(sizes), activation=fg.nn.Tanh, seed=0, **more)


def train(model, x, y, steps, history=None, loss=fg.losses.mse_loss, by_hand=False, lr=0.05):
    adam = fg.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        L = loss(model(x), y)
        model.zero_grad()
        L.backward()
        losses.append(L.item())
        if history is not None:
            history.log(L)
        if by_hand:
            for p in model.parameters():
                p.data -= lr * p.grad
        else:
            adam.step()
    return losses


def played(model=None, x=X, y=Y, steps=21, every=2, loss=None):
    model = model or mlp()
    history = fg.History(model, x, y, loss, every=every)
    train(model, x, y, steps, history, loss or fg.losses.mse_loss)
    return history


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html, re.S)[1])


def numbers(data, name, width):
    a = np.frombuffer(b64decode(data[name]), dtype="<f4")
    return a.reshape(len(data["steps"]), -1, width)


# ----- Training does not notice -----


@pytest.mark.parametrize("by_hand", [False, True], ids=["adam", "by hand"])
@pytest.mark.parametrize("every", [1, 3])
def test_training_is_the_same_to_the_last_bit(every, by_hand):
    alone, watched = mlp(), mlp()
    history = fg.History(watched, X, Y, every=every)
    assert train(alone, X, Y, 30, by_hand=by_hand) == train(watched, X, Y, 30, history, by_hand=by_hand)
    for p, q in zip(alone.parameters(), watched.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        np.testing.assert_array_equal(p.grad, q.grad)


class Noisy(fg.nn.Module):
    """Draws at random whatever the mode."""

    def __init__(self):
        self.layer = fg.nn.Linear(2, 1, seed=0)
        self.drop = fg.nn.Dropout(0.5, seed=1)
        self.rng = np.random.default_rng(2)
        self.seen = []

    def forward(self, x):
        self.seen.append(self.training)
        noise = self.rng.normal() + np.random.normal() + random.random()  # noqa: NPY002
        return self.layer(self.drop(fg.Tensor(x) if isinstance(x, np.ndarray) else x)) + noise


def test_no_grad_mode_or_random_state_is_touched():
    model = Noisy()
    model.drop.training = False
    history = fg.History(model, X, Y)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    states = model.rng.bit_generator.state, model.drop._rng.bit_generator.state
    everyone, python = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    model.layer.weight.grad = np.ones((1, 2))
    history.log(1.0)
    assert (model.rng.bit_generator.state, model.drop._rng.bit_generator.state) == states
    np.testing.assert_array_equal(np.random.get_state()[1], everyone)  # noqa: NPY002
    assert random.getstate() == python
    assert model.training and model.layer.training and not model.drop.training
    assert set(model.seen) == {False}
    np.testing.assert_array_equal(model.layer.weight.grad, np.ones((1, 2)))
    assert model.layer.bias.grad is None


def test_modes_come_back_where_the_model_fails():
    class Fails(Noisy):
        def forward(self, x):
            raise RuntimeError("no")

    model = Fails()
    with pytest.raises(RuntimeError, match="no"):
        fg.History(model, X, Y).log(1.0)
    assert model.training and model.drop.training


def test_no_graph_is_kept():
    kept = []

    class Watched(fg.nn.Module):
        def __init__(self):
            self.layer = fg.nn.Linear(2, 1, seed=0)

        def forward(self, x):
            out = self.layer(x)
            kept.append(weakref.ref(out._value))
            return out

    gc.disable()
    try:
        model = Watched()
        history = fg.History(model, X, Y)
        L = fg.losses.mse_loss(model(X), Y)
        history.log(L)
        del L
        assert len(kept) >= 3 and not any(ref() is not None for ref in kept)
    finally:
        gc.enable()


def test_it_works_under_no_grad_and_with_a_plain_number():
    model = mlp()
    history = fg.History(model, X, Y)
    with fg.no_grad():
        history.log(0.5)
        assert not (model(X)).requires_grad
    norms = numbers(data_of(history.play()), "norms", 2)
    assert (norms[0, :, 1] > 0).all()
    assert model(X).requires_grad


def test_the_steps_between_only_count():
    class Counts(fg.nn.Module):
        calls = 0

        def __init__(self):
            self.layer = fg.nn.Linear(3, 1, seed=0)

        def forward(self, x):
            Counts.calls += 1
            return self.layer(x)

    history = fg.History(Counts(), np.ones((2, 3)), np.ones((2, 1)), every=5)
    for _ in range(11):
        history.log(1.0)
    assert Counts.calls == 3 and history.steps == (0, 5, 10)


def test_the_batch_is_its_own():
    x, y = X.copy(), Y.copy()
    model = mlp()
    history = fg.History(model, x, y)
    history.log(1.0)
    x[:], y[:] = 7.0, 7.0
    history.log(1.0)
    first, second = data_of(history.play())["loss"]
    assert first == second


# ----- What is kept is right -----


def test_frames_hold_what_a_backward_gives():
    model = mlp()
    history = fg.History(model, X, Y)
    expected = []
    for k in range(3):
        history.log(10.0 + k)
        model.zero_grad()
        L = fg.losses.mse_loss(model(X), Y)
        L.backward()
        w = {name: (p.data.copy(), p.grad.copy()) for name, p in model.named_parameters()}
        expected.append((L.item(), w))
        for p in model.parameters():
            p.data -= 0.1 * p.grad
    data = data_of(history.play())
    assert data["steps"] == [0, 1, 2] and data["logged"] == [10, 11, 12]
    assert data["loss"] == pytest.approx([L for L, _ in expected])
    norms, weights, units = numbers(data, "norms", 2), numbers(data, "weights", 2), numbers(data, "units", 3)
    for k, (_, w) in enumerate(expected):
        for name, of in zip(data["names"], norms[k], strict=True):
            assert of == pytest.approx([np.linalg.norm(a) for a in w[name]], rel=1e-5)
        for title, of in zip(data["edges"], weights[k], strict=True):
            name, to, at = re.fullmatch(r"\S+ → \S+: (\S+)\[(\d+),(\d+)\]", title).groups()
            assert of == pytest.approx([a[int(to), int(at)] for a in w[name]], rel=1e-5)
    assert len(data["edges"]) == 12 and [name for name, _ in data["nodes"]] == [
        *("x[0]", "x[1]", "h1[0]", "h1[1]", "h1[2]", "h1[3]", "ŷ")
    ]
    assert units[0, 0, 0] == pytest.approx(0.5)


def test_the_map_is_what_the_model_says():
    model = mlp()
    history = fg.History(model, X, Y)
    history.log(1.0)
    field = np.frombuffer(b64decode(data_of(history.play())["plane"]), np.uint8).reshape(GRID, GRID)
    at = -0.15 + 1.3 * (np.arange(GRID) + 0.5) / GRID
    for row, column in [(0, 0), (5, 30), (39, 2)]:
        out = model(np.array([[at[column], at[row]]])).item()
        assert field[row, column] == pytest.approx(127 + 127 * np.clip((out - 0.5) / 0.5, -1, 1), abs=0.51)


def test_the_map_of_classes_is_the_largest_output():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.integers(0, 3, 30)
    model = mlp(2, (5, 3))
    history = fg.History(model, x, y, fg.losses.cross_entropy)
    history.log(1.0)
    page = history.play()
    field = np.frombuffer(b64decode(data_of(page)["plane"]), np.uint8)
    left, right, bottom, top = history._plane.box
    at = (np.arange(GRID) + 0.5) / GRID
    across, up = np.meshgrid(left + at * (right - left), bottom + at * (top - bottom))
    out = model(np.column_stack([across.ravel(), up.ravel()])).data
    np.testing.assert_array_equal(field >> 5, out.argmax(axis=1))
    assert "y = 0" in page.html and "y = 2" in page.html and "class of the largest output" in page.html
    hot = fg.History(model, x, np.eye(3)[y], fg.losses.cross_entropy)
    hot.log(1.0)
    assert data_of(hot.play())["plane"] == data_of(page)["plane"]


@pytest.mark.parametrize(
    "loss, says",
    [(None, "above 0.5, the boundary"), (fg.losses.binary_cross_entropy_with_logits, "above 0, the boundary")],
)
def test_the_boundary_of_one_output_is_where_the_loss_has_it(loss, says):
    assert says in played(loss=loss).play().html


def test_small_fluxions_stay_and_are_no_zero():
    model = mlp(dtype=np.float64)
    history = fg.History(model, X, Y, loss=lambda out, y: 1e-60 * fg.losses.mse_loss(out, y))
    history.log(1.0)
    assert (numbers(data_of(history.play()), "weights", 2)[0, :, 1] != 0).all()


# ----- Bounds -----


def test_when_it_is_full_every_second_frame_goes():
    model = mlp(3, (2, 1))
    history = fg.History(model, np.ones((2, 3)), np.ones((2, 1)), every=2)
    for k in range(5 * FRAMES):
        history.log(float(k))
        assert len(history) <= FRAMES
    assert history.every == 8 and history.steps == tuple(range(0, 5 * FRAMES, 8))
    data = data_of(history.play())
    assert data["logged"] == [float(s) for s in history.steps]  # each still with its own numbers
    words = "every 8th step of 1,000, from 0 to 992 (every 2nd step at first, then half as often: 200 frames are kept)"
    assert words in repr(history) and words in history.play().html


def test_memory_and_size_are_said_and_bounded():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 300)), rng.integers(0, 10, 8)
    model = mlp(300, (200, 10))
    history = fg.History(model, x, y, fg.losses.cross_entropy)
    for _ in range(3):
        history.log(1.0)
    page = history.play()
    data = data_of(page)
    assert len(data["edges"]) == 250 and len(history._plan.candidates) == CANDIDATES
    assert all(sum(f"layers.{k}." in e for e in data["edges"]) >= 62 for k in (0, 2))
    a_frame = (history.memory - history._x.nbytes - history._y.nbytes) / 3
    assert a_frame < 16_000 and sum(p.size for p in model.parameters()) * 4 > 240_000
    said = f"{kilobytes(history.memory)} of memory, {kilobytes(len(page.html.encode()))} as a page"
    assert repr(history) == f"<History: 3 frames, every step of 3, from 0 to 2; {said}>"
    assert f"this page {kilobytes(len(page.html.encode()))}." in page.html
    assert "Drawn are 250 of 62,000 weights" in page.html and "among the 1,000" in page.html


def test_what_it_says_of_its_memory_is_what_it_takes():
    model = mlp(2, (8, 8, 1))
    history = fg.History(model, X, Y)
    history.log(1.0)
    before = history.memory
    tracemalloc.start()
    try:
        began = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            history.log(1.0)
        gc.collect()
        took = tracemalloc.get_traced_memory()[0] - began
    finally:
        tracemalloc.stop()
    assert history.memory - before == pytest.approx(took, rel=0.1)


def test_a_full_history_of_a_plane_is_a_page_of_bounded_size():
    rng = np.random.default_rng(0)
    model = mlp(2, (16, 16, 1))
    history = fg.History(model, rng.normal(size=(100, 2)), rng.normal(size=(100, 1)))
    for _ in range(FRAMES):
        history.log(1.0)
    assert history.memory < 1_200_000 and len(history.play().html.encode()) < 1_300_000


def test_the_strongest_have_some_of_each_layer():
    large, small = np.arange(100.0).reshape(10, 10) + 1000, np.arange(20.0).reshape(2, 10)
    chosen = strongest([large, small], 40)
    assert len(chosen) == len(set(chosen)) == 40 and chosen == sorted(chosen)
    assert sum(k == 1 for k, _, _ in chosen) == 10 and (1, 1, 9) in chosen and (0, 9, 9) in chosen
    assert len(strongest([np.ones((2, 2))], 250)) == 4


# ----- The page as text -----


def test_the_shell_is_small_and_the_page_needs_no_other():
    page = played().play().html
    drawings = sum(len(svg.encode()) for svg in re.findall(r"<svg.*?</svg>", page, re.S))
    told = re.search(r'id="data">(.*?)</script>', page, re.S)[1] + re.search(r"<tbody.*?</tbody>", page, re.S)[0]
    assert len(page.encode()) - drawings - len(told.encode()) <= 15_000
    assert "default-src 'none'" in page and "script-src 'sha256-" in page
    for outside in ("http:", "https:", "@import", "url(", "<link", "<img", "<iframe"):
        assert outside not in page
    assert "innerHTML" not in part("rewind.js") and "setInterval" not in part("rewind.js")
    assert "animation" not in part("rewind.css") and "transition" not in part("rewind.css")


def test_the_same_history_gives_the_same_bytes():
    one, other = played(), played()
    assert one.play().html == one.play().html == other.play().html


def test_a_page_stays_as_it_was_when_training_goes_on(tmp_path):
    history = played()
    page = history.play()
    frames = len(history)
    train(history._model, X, Y, 4, history)
    assert len(history) > frames and len(data_of(page)["steps"]) == frames
    page.save(tmp_path / "training.html")
    assert (tmp_path / "training.html").read_text(encoding="utf-8") == page.html
    with pytest.raises(ValueError, match=r"\.html"):
        page.save(tmp_path / "training.gif")
    assert "sandbox" in page._repr_html_() and "21 frames" not in repr(page) and "11 frames" in repr(page)


HOSTILE = '</script><b onclick="x">&\u202e'


class Hostile(fg.nn.Module):
    def __init__(self):
        setattr(self, HOSTILE, fg.nn.Linear(2, 1, seed=0))

    def forward(self, x):
        return getattr(self, HOSTILE)(x)


def test_hostile_names_are_text():
    def loss(out, y):
        return fg.losses.mse_loss(out, y)

    loss.__name__ = HOSTILE
    page = played(Hostile(), loss=loss).play()
    assert "<b onclick" not in page.html and "\u202e" not in page.html
    assert page.html.count("</script>") == 2
    assert data_of(page)["names"] == ['</script><b onclick="x">&.weight', '</script><b onclick="x">&.bias']


def test_names_that_are_cut_alike_stay_apart():
    class Long(fg.nn.Module):
        def __init__(self):
            setattr(self, "a" * 50, fg.Tensor(1.0, requires_grad=True))
            setattr(self, "a" * 51, fg.Tensor(2.0, requires_grad=True))

        def forward(self, x):
            for p in self.parameters():
                x = x * p
            return x

    names = data_of(played(Long(), np.ones((2, 1)), np.ones((2, 1)), steps=2).play())["names"]
    assert len(set(names)) == 2


# ----- What goes wrong -----


def test_a_loss_that_is_no_number_is_marked():
    history = fg.History(mlp(), X, Y)
    for loss in (1.0, float("nan"), float("inf"), -float("inf"), 0.5):
        history.log(loss)
    page = history.play()
    assert data_of(page)["logged"] == [1.0, "NaN", "Infinity", "-Infinity", 0.5]
    assert page.html.count('class="nan"') == 3 and "× marks NaN or inf" in page.html


def test_a_training_that_blows_up_is_kept_without_a_warning():
    model = mlp()
    history = fg.History(model, X, Y)
    for value in (1.0, 1e30, np.nan, np.inf):
        for p in model.parameters():
            p.data = np.full(p.shape, value)
        history.log(np.float32(value))
    page = history.play()
    data = data_of(page)
    assert data["loss"][2] == "NaN" and np.isnan(numbers(data, "weights", 2)[2]).any()
    assert 'class="wild"' in page.html and "grey: NaN" in page.html


class Scaled(fg.nn.Module):
    def __init__(self):
        self.scale = fg.Tensor(np.ones(2), requires_grad=True)

    def forward(self, x):
        return x * self.scale


def test_a_model_without_a_chain_of_layers_has_bars():
    y = np.array([[1.0, 2.0]] * 4)
    page = played(Scaled(), X + 1, y).play()
    assert "no chain of Linear layers" in page.html and data_of(page)["edges"] == []
    assert '<g class="bars">' in page.html and 'id="curve"' in page.html


def test_a_model_that_takes_no_other_batch_goes_without_the_map():
    class Fixed(fg.nn.Module):
        def __init__(self):
            self.layer = fg.nn.Linear(2, 1, seed=0)

        def forward(self, x):
            return self.layer(x) + np.zeros((4, 1))

    page = played(Fixed()).play()
    assert "No decision boundary" in page.html and "plane" not in data_of(page)


def test_a_model_that_changes_is_refused():
    model = mlp()
    history = fg.History(model, X, Y)
    history.log(1.0)
    model.layers.append(fg.nn.Linear(1, 1, seed=0))
    with pytest.raises(ValueError, match="at step 1 the model has not the layers"):
        history.log(1.0)


@pytest.mark.parametrize(
    "arguments, error, says",
    [
        ({"every": 0}, ValueError, "every must be at least 1.*given 0"),
        ({"every": 2.5}, TypeError, "whole number of steps; given 2.5"),
        ({"x": X[:3]}, ValueError, r"3 rows of x \(shape \(3, 2\)\) and 4 of y \(shape \(4, 1\)\)"),
        ({"model": np.tanh}, TypeError, "takes an fg.nn.Module"),
        ({"model": fg.nn.Sequential(fg.nn.Tanh())}, ValueError, "no parameter that requires grad"),
    ],
)
def test_what_is_wrong_is_said_at_once(arguments, error, says):
    with pytest.raises(error, match=says):
        fg.History(**({"model": mlp(), "x": X, "y": Y} | arguments))


def test_play_before_any_log_says_what_to_do():
    history = fg.History(mlp(), X, Y, every=3)
    with pytest.raises(ValueError, match=r"call history\.log\(loss\) in the training loop first"):
        history.play()
    assert repr(history) == "<History: nothing logged yet; log(loss) will keep every 3rd step>"
    with pytest.raises(ValueError, match=r"takes one number; given shape \(4, 1\)"):
        history.log(Y)
    history.log(fg.Tensor([2.0], requires_grad=True))
    assert len(history) == 1


def test_one_frame_is_a_page_too():
    history = fg.History(mlp(), X, Y)
    history.log(0)
    assert data_of(history.play())["logged"] == [0]


# ----- In the browser -----


@pytest.fixture
def opened(chromium, tmp_path):  # noqa: F811
    """Opens a page; whatever it asks the network for, or writes to the console, fails the test."""
    windows = []

    def open_(page, **more):
        path = tmp_path / f"page{len(windows)}.html"
        page.save(path)
        windows.append(Window(chromium, path, **({"width": 1000} | more)))
        return windows[-1].page

    yield open_
    for window in windows:
        window.context.close()
        assert window.said == [] and len(window.asked) == 1


STATE = """() => {
  const pixels = document.getElementById("field")
  return document.querySelector("main").outerHTML + (pixels ? pixels.toDataURL() : "") +
    document.getElementById("at").value
}"""


def test_forth_and_back_give_the_same_state(opened):
    history = played(steps=24)
    tab = opened(history.play())
    last = len(history) - 1
    states = [tab.evaluate(STATE)]
    for _ in range(last):
        tab.click("#back")
        states.insert(0, tab.evaluate(STATE))
    assert len(set(states)) == last + 1
    tab.click("#back", force=True)  # there is nothing before the first
    assert tab.evaluate(STATE) == states[0]
    for k in range(1, last + 1):
        tab.click("#forth")
        assert tab.evaluate(STATE) == states[k]
    for k in (3, 0, last, 5):
        tab.evaluate(
            "k => { at_ = document.getElementById('at'); at_.value = k; at_.dispatchEvent(new Event('input')) }", k
        )
        assert tab.evaluate(STATE) == states[k]


@pytest.mark.parametrize("focus", ["body", "#at", "#back", "#forth", "summary"])
def test_arrows_step_once_wherever_the_focus_is(opened, focus):
    tab = opened(played().play())
    tab.focus(focus)
    seen = []
    for key in ("ArrowLeft", "ArrowLeft", "ArrowRight", "Home", "ArrowRight", "End", "ArrowRight", "Alt+ArrowLeft"):
        if key != "Alt+ArrowLeft":
            tab.keyboard.press(key)
        seen.append(tab.evaluate("Number(document.getElementById('at').value)"))
    assert seen == [9, 8, 9, 0, 1, 10, 10, 10]


def test_the_keyboard_alone_reaches_all(opened):
    tab = opened(played().play())
    met = []
    for _ in range(4):
        tab.keyboard.press("Tab")
        met.append(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert met == ["back", "at", "forth", "SUMMARY"]
    tab.focus("#back")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Space")
    assert tab.input_value("#at") == "8" and tab.evaluate("document.activeElement.id") == "back"
    tab.focus("summary")
    tab.keyboard.press("Enter")
    assert tab.is_visible("#rows")


def test_one_live_region_tells_the_step_its_loss_and_the_largest_fluxion(opened):
    history = played()
    tab = opened(history.play())
    data = data_of(history.play())
    tab.keyboard.press("Home")
    assert tab.locator("[aria-live]").count() == 1
    said = tab.inner_text("[aria-live]")
    norms = numbers(data, "norms", 2)[0, :, 1]
    name = data["names"][int(np.argmax(norms))]
    assert said.startswith("Step 0, frame 1 of 11: loss ")
    loss, most = re.fullmatch(r".*: loss (\S+) as logged, .*largest ‖L̇_W‖ (\S+) \((.*)\)\.", said).group(1, 2)
    assert float(loss) == pytest.approx(data["logged"][0], rel=5e-3)
    assert float(most) == pytest.approx(norms.max(), rel=5e-3) and f"({name})" in said
    assert tab.get_attribute("#at", "aria-valuetext") == "step 0"


def test_lines_and_numbers_are_those_of_the_frame(opened):
    history = played()
    data = data_of(history.play())
    weights = numbers(data, "weights", 2)
    tab = opened(history.play())
    for k in (10, 0, 4):
        tab.evaluate("k => show(k)", k)
        lines = tab.evaluate(
            "[...document.querySelectorAll('.edges path')].map(p => [p.getAttribute('class'), "
            "Number(p.getAttribute('stroke-width')), p.textContent, getComputedStyle(p).strokeDasharray])"
        )
        labels = tab.evaluate("[...document.querySelectorAll('.labels text')].map(t => t.textContent)")
        low, high, thin, thick = data["scale"]
        for (sign, width, title, dash), (w, g), label in zip(lines, weights[k], labels, strict=True):
            assert (sign, dash) == (("plus", "none") if g > 0 else ("minus", "6px, 3px"))
            share = np.clip((np.log10(abs(g)) - low) / (high - low), 0, 1)
            assert width == pytest.approx(thin + share * (thick - thin), rel=0.01)
            told = [float(n.replace("−", "-")) for n in re.findall(r"= ([+−]?[\d.]+(?:e−?\d+)?)", title)]
            assert told == pytest.approx([w, g], rel=5e-3, abs=1e-12)
            assert float(label.replace("−", "-")) == pytest.approx(g, rel=5e-3)


def test_the_page_is_whole_before_its_script_has_run(opened):
    """What Python draws of the last frame and what the script sets for it are the same."""
    page = played().play()
    drawn = re.findall(r'<path class="(\w+)" stroke-width="([\d.]+)" d="M[^"]*"><title>', page.html)
    tab = opened(page)
    found = tab.evaluate(
        "[...document.querySelectorAll('.edges path')].map(p => [p.getAttribute('class'), p.getAttribute('stroke-width')])"
    )
    assert [(sign, float(w)) for sign, w in drawn] == [(sign, pytest.approx(float(w), rel=0.01)) for sign, w in found]
    for selector, pattern in (
        (".labels text", r'<text class="(?:plus|minus)" [^>]*>([^<]*)</text>'),
        (".units .num", r'<text class="num" y="9">([^<]*)</text>'),
        (".sizes .num", r'<tspan class="num">([^<]*)</tspan>'),
    ):
        assert tab.locator(selector).all_text_contents() == re.findall(pattern, page.html)


def test_numbers_in_the_script_are_those_of_the_pictures(opened):
    from fluxgrad.picture.scene import shown

    tab = opened(played().play())
    for x in (0.0, 1.0, -0.5, 1234.0, 999.7, 123456.0, 2e6, 1.2345e-5, 0.00012345, 1e-30, 3e30, -7e-7, 0.1 + 0.2):
        assert tab.evaluate("x => shown(x)", x) == shown(x)
        assert tab.evaluate("x => shown(x, true)", x) == shown(x, plus=True)
    assert tab.evaluate("[shown(NaN), shown(Infinity), shown(-Infinity)]") == ["NaN", "inf", "−inf"]


def test_light_and_dark_draw_with_their_own_colours(opened):
    page = played().play()
    shots = {}
    for theme in ("light", "dark"):
        tab = opened(page, dark=theme == "dark")
        shots[theme] = tab.evaluate("getComputedStyle(document.querySelector('.plus')).stroke"), tab.evaluate(STATE)
        assert tab.evaluate("getComputedStyle(document.querySelector('.minus')).strokeDasharray") == "6px, 3px"
    assert shots["light"][0] == "rgb(0, 114, 178)" and shots["dark"][0] != shots["light"][0]
    assert shots["light"][1] != shots["dark"][1]
    tab.emulate_media(color_scheme="light")
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert tab.evaluate(STATE) == shots["light"][1]  # the raster is painted again


def test_nothing_moves_by_itself(opened):
    for still in (True, False):
        tab = opened(played().play(), still=still)
        before = tab.evaluate(STATE)
        assert tab.evaluate("document.getAnimations().length") == 0
        tab.wait_for_timeout(300)
        tab.keyboard.press("ArrowLeft")
        assert tab.evaluate("document.getAnimations().length") == 0
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(STATE) == before


def test_a_deep_network_has_the_whole_width(opened):
    page = played(mlp(2, (3,) * 16 + (1,)), steps=3).play()
    assert "The last 12 layers; 5 earlier ones are left out." in page.html
    assert sorted({e.partition("[")[0] for e in data_of(page)["edges"]})[0] == "h10"
    tab = opened(page)
    assert tab.locator("#flow").bounding_box()["width"] > 900
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1000


@pytest.mark.parametrize("width", [380, 1000])
def test_it_fits_the_screen(opened, width):
    rng = np.random.default_rng(0)
    history = played(mlp(2, (8, 8, 3)), rng.normal(size=(40, 2)), rng.integers(0, 3, 40), loss=fg.losses.cross_entropy)
    tab = opened(history.play(), width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("back", "at", "forth", "flow", "curve", "plane"):
        box = tab.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert tab.locator("#at").bounding_box()["y"] < 100  # the slider stays in sight


def test_a_click_on_the_curve_goes_there(opened):
    tab = opened(played().play())
    box = tab.locator("#curve").bounding_box()
    x = data_of(played().play())["curve"][4][0]
    tab.mouse.click(box["x"] + x / 440 * box["width"], box["y"] + box["height"] / 2)
    assert tab.input_value("#at") == "4"


@pytest.mark.parametrize("kind", ["hostile", "bars", "blown up", "one frame", "wide", "classes"])
def test_every_kind_of_page_runs_without_a_complaint(opened, kind):
    rng = np.random.default_rng(0)
    if kind == "hostile":
        history = played(Hostile())
    elif kind == "bars":
        history = played(Scaled(), X + 1, np.array([[1.0, 2.0]] * 4))
    elif kind == "wide":
        history = played(
            mlp(64, (120, 10)), rng.normal(size=(9, 64)), rng.integers(0, 10, 9), loss=fg.losses.cross_entropy
        )
    elif kind == "classes":
        history = played(mlp(2, (4, 12)), rng.normal(size=(9, 2)), rng.integers(0, 12, 9), loss=fg.losses.cross_entropy)
    else:
        model = mlp()
        history = fg.History(model, X, Y)
        for value in (1.0, np.nan, np.inf)[: 1 if kind == "one frame" else 3]:
            for p in model.parameters():
                p.data = np.full(p.shape, value)
            history.log(value)
    tab = opened(history.play())
    states = {tab.evaluate(STATE)}
    for _ in range(len(history) - 1):
        tab.keyboard.press("ArrowLeft")
        states.add(tab.evaluate(STATE))
    assert len(states) == len(history)
    assert tab.locator("b[onclick]").count() == 0
