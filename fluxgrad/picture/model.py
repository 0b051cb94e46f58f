"""A model that is run for a picture: whoever trains it does not notice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_one_at_a_time = threading.RLock()  # two at once would each take the other's eval mode for the model's own


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """In eval mode, and afterwards every mode and every random state is as it was."""
    with _one_at_a_time:
        parts = list(model.modules())
        modes = [(part, part.training) for part in parts]
        own = {id(v): v for part in parts for v in vars(part).values() if isinstance(v, np.random.Generator)}
        states = [(g.bit_generator, g.bit_generator.state) for g in own.values()]
        everyone, python = np.random.get_state(), random.getstate()  # noqa: NPY002 - a model may draw from it all the same
        model.eval()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode
            for generator, state in states:
                generator.state = state
            np.random.set_state(everyone)  # noqa: NPY002 - and then finds its draws where they were
            random.setstate(python)
