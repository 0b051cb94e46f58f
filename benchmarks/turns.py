"""Steps measured in turns, on one thread: what the benchmarks share."""

import os
import sys
import time

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""A ratio should not depend on how many cores a BLAS finds."""


def with_settings(settings):
    """Start the program again with them, unless it has them: they are read when a process starts or NumPy is loaded."""
    if any(os.environ.get(name) != value for name, value in settings.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **settings})


def fastest(rounds, *steps, least):
    """The CPU time of one call of each step, the best of `rounds` rounds in turns, each of `least` seconds or more."""
    clock = time.process_time
    calls = []
    for step in steps:
        step()
        start = clock()
        step()
        calls.append(max(1, round(least / max(clock() - start, 1e-6))))
    best = [float("inf")] * len(steps)
    for _ in range(rounds):
        for i, step in enumerate(steps):
            turns = range(calls[i])
            start = clock()
            for _ in turns:
                step()
            best[i] = min(best[i], (clock() - start) / len(turns))
    return best
