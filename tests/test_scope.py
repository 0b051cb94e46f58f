"""fg.scope: what belongs to it, nesting, errors, threads, modules; and that outside of it nothing is noted."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import re
import threading
import time

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad import tensor
from fluxgrad.scope import KEPT, _marks


def leaf(value, name=None):
    return fg.Tensor(value, requires_grad=True, name=name)


def path(t):
    """The names of the scopes that a tensor was made in, outermost first."""
    names, where = [], fg.scope.of(t)
    while where is not None:
        names.append(where.name)
        where = where.outer
    return "/".join(reversed(names))


def test_what_is_made_inside_belongs_to_it_and_scopes_nest():
    x = leaf(1.0)
    with fg.scope("a"):
        y = x * 2.0
        with fg.scope("b"):
            z = y * 2.0
            inner = leaf(3.0)
        w = z * 2.0
    u = w * 2.0
    assert [path(t) for t in (x, y, z, inner, w, u)] == ["", "a", "a/b", "a/b", "a", ""]
    assert fg.scope.of(fg.Tensor(1.0)) is None


def test_each_opening_is_another_box():
    x = leaf(1.0)
    step = fg.scope("step")
    with step:
        a = x * 2.0
        with step:
            b = a * 2.0
    with step:
        c = b * 2.0
    assert [path(t) for t in (a, b, c)] == ["step", "step/step", "step"]
    assert fg.scope.of(a) is not fg.scope.of(c)


def test_as_a_decorator():
    @fg.scope("wave")
    def wave(t):
        """Up and down."""
        return np.sin(t)

    assert path(wave(leaf(1.0))) == "wave" and wave.__doc__ == "Up and down."
    with pytest.raises(TypeError, match="generator"):

        @fg.scope("late")
        def late():
            yield 1

    with pytest.raises(TypeError, match=r"a name is a string, or an nn\.Module; given int"):
        fg.scope(3)


def test_an_exception_closes_it():
    x = leaf(1.0)
    with pytest.raises(KeyError), fg.scope("a"), fg.scope("b"):
        raise KeyError
    assert path(x * 2.0) == "" and isinstance(tensor._stamp.__self__, itertools.count)


def test_threads_do_not_mix():
    turn = threading.Barrier(3)
    made = {name: [] for name in ("a", "b", "")}

    def work(name):
        t = leaf(1.0)
        for _ in range(50):
            turn.wait()
            if name:
                with fg.scope(name):
                    turn.wait()
                    for _ in range(20):
                        t = t * 1.01
                        made[name].append(t)
                    turn.wait()
            else:
                turn.wait()
                for _ in range(20):
                    t = t * 1.01
                    made[name].append(t)
                turn.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, tensors in made.items():
        assert {path(t) for t in tensors} == {name} and len(tensors) == 1000
    assert isinstance(tensor._stamp.__self__, itertools.count)


def test_a_thread_that_starts_inside_has_its_own():
    found = []
    with fg.scope("outer"):
        thread = threading.Thread(target=lambda: found.append(leaf(1.0) * 2.0))
        thread.start()
        thread.join()
        mine = leaf(1.0) * 2.0
    assert path(found[0]) == "" and path(mine) == "outer"


def test_asyncio_tasks_do_not_mix():
    made = {}

    async def work(name, inner):
        t = leaf(1.0)
        with fg.scope(name):
            for _ in range(5):
                await asyncio.sleep(0)
                t = t * 1.01
                made.setdefault(name, []).append(t)
                with fg.scope(inner):
                    await asyncio.sleep(0)
                    t = t * 1.01
                    made.setdefault(f"{name}/{inner}", []).append(t)
        await asyncio.sleep(0)
        made.setdefault("", []).append(t * 1.01)

    async def late():
        await asyncio.sleep(0.01)
        made["late"] = [leaf(1.0) * 2.0]

    async def main():
        with fg.scope("opened by whom it comes from, and closed by then"):
            task = asyncio.create_task(late())
        await asyncio.gather(work("a", "x"), work("b", "y"))
        with fg.scope("another"):
            await task

    asyncio.run(main())
    assert made.keys() == {"a", "b", "a/x", "b/y", "", "late"}
    for name, tensors in made.items():
        assert {path(t) for t in tensors} == {name if name != "late" else ""}
    assert isinstance(tensor._stamp.__self__, itertools.count)


def test_a_scope_that_is_closed_elsewhere_is_closed():
    def inside():
        with fg.scope("a"):
            yield leaf(1.0) * 2.0

    here = inside()
    assert path(next(here)) == "a"
    contextvars.Context().run(here.close)
    assert path(leaf(1.0) * 2.0) == "" and isinstance(tensor._stamp.__self__, itertools.count)


def test_nothing_is_noted_outside_and_not_much_is_kept():
    x = leaf(1.0)
    before = len(_marks)
    for _ in range(100):
        x = x * 1.0
    assert len(_marks) == before
    for _ in range(2 * KEPT):
        with fg.scope("s"):
            pass
    with fg.scope("last"):
        y = x * 2.0
    assert len(_marks) <= 2 * KEPT and path(y) == "last" and _marks == sorted(_marks)


class Block(fg.nn.Module):
    def __init__(self):
        self.inner = fg.nn.Linear(2, 2, seed=0)
        self.scale = leaf(np.ones(2, np.float32))

    def forward(self, x):
        return np.tanh(self.inner(x)) * self.scale


def test_the_modules_of_a_model_are_scopes():
    model = fg.nn.Sequential(Block(), fg.nn.ReLU(), fg.nn.Linear(2, 1, seed=1))
    kinds = [type(part) for part in model.modules()]
    with fg.scope(model):
        assert "ReLU()" in repr(model)
        y = model(np.ones((3, 2)))
    assert [type(part) for part in model.modules()] == kinds
    seen = [path(t) for t in fg.flows(np.sum(y)).tensors if t.row is not None]
    first = "Sequential/layers.0 · Block"
    assert seen == [
        f"{first}/inner · Linear",
        first,
        first,
        "Sequential/layers.1 · ReLU",
        "Sequential/layers.2 · Linear",
        "",
    ]
    assert path(np.sum(model(np.ones((3, 2))))) == ""
    with pytest.raises(ValueError), fg.scope(model):
        model(np.ones((3, 5)))
    assert [type(part) for part in model.modules()] == kinds


def test_scopes_that_share_leaves_are_laid_out_in_time():
    w, u, b, h = (fg.Tensor(v, requires_grad=True, name=n) for v, n in ((0.5, "w"), (0.3, "u"), (0.1, "b"), (0.0, "h")))
    for t in range(60):
        with fg.scope("step"):
            h = np.tanh(w * h + u * float(t) + b)
    start = time.perf_counter()
    picture = fg.draw(h).svg
    assert time.perf_counter() - start < 5  # it takes a quarter of a second; once it took minutes
    assert int(re.search(r'width="(\d+)"', picture)[1]) < 1500 and "drawn again" in picture


def test_a_model_that_cannot_be_watched_stays_as_it_was():
    class Tagged(fg.nn.Module):
        def __init_subclass__(cls, *, tag):
            super().__init_subclass__()

    class Part(Tagged, tag="x"):
        def forward(self, x):
            return x

    model = fg.nn.Sequential(fg.nn.Linear(2, 2, seed=0), Part())
    with pytest.raises(TypeError), fg.scope(model):
        pass
    assert type(model) is fg.nn.Sequential and type(next(model.modules())) is fg.nn.Sequential
    assert [type(m) for m in model.modules()] == [fg.nn.Sequential, fg.nn.Linear, Part]
