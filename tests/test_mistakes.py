"""Each of the programs that students write ends in the right number or in our own message."""

from __future__ import annotations

import subprocess
import sys

import mistakes
import numpy as np
import pytest


@pytest.mark.parametrize("program", mistakes.right, ids=lambda f: f.__name__)
def test_it_ends_in_the_right_number(program):
    got, want = program()
    assert np.shape(got) == np.shape(want)
    if np.asarray(want).dtype.kind in "US":
        assert list(got) == list(want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize(("program", "kind", "words"), mistakes.refused, ids=lambda f: getattr(f, "__name__", ""))
def test_it_ends_in_our_own_message(program, kind, words):
    """NumPy wraps what we raise while it fills an array ("setting an array element …"): ours is the cause."""
    with pytest.raises((kind, ValueError)) as info:
        program()
    error = info.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, kind), f"{type(error).__name__}: {error}"
    assert [w for w in words if w not in str(error)] == [], f"not said in: {error}"


def test_there_are_enough_of_them_and_each_says_what_the_mistake_is():
    programs = [*mistakes.right, *(r.program for r in mistakes.refused)]
    assert len(mistakes.right) >= 25 and len(mistakes.refused) >= 25
    assert len({p.__name__ for p in programs}) == len(programs)
    assert all(p.__doc__ and len(p.__doc__) > 10 for p in programs)
    assert all(r.words for r in mistakes.refused)


def test_importing_them_runs_nothing():
    program = (
        "import sys, numpy, fluxgrad\n"
        "made = []\n"
        "first = fluxgrad.Tensor.__init__\n"
        "fluxgrad.Tensor.__init__ = lambda self, *a, **k: (made.append(a), first(self, *a, **k))[1]\n"
        "import mistakes\n"
        "assert not made, made\n"
    )
    folder = mistakes.__file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{folder!r}]\n{program}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
