"""Interleaved timing, and the figures of a model made of it."""

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

WARM_UP_ROUNDS = 3


def time_rounds(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    synchronize: Callable[[], object] = lambda: None,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, np.ndarray]:
    """Times one call of every model in each round, forwards and backwards through the list in turn.

    A machine that slows down for a while so slows all of them, and a ratio within a round hardly changes.

    Args:
      calls: {name: runs one batch}.
      rounds: timed rounds, after a few that are not timed.
      synchronize: waits until the device has done all it was given.
      watch: shows progress over the rounds it is given, and yields them.

    Returns:
      {name: float64[rounds]}, seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in watch(range(WARM_UP_ROUNDS + rounds)):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            synchronize()
            start = time.perf_counter()
            calls[name]()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[WARM_UP_ROUNDS:]) for name, values in seconds.items()}


def statistics(
    seconds: np.ndarray, reference: np.ndarray | None, batch_size: int, length: int
) -> dict[str, float | None]:
    """Returns a model's figures in one setting.

    Args:
      seconds: float[rounds], of the model.
      reference: float[rounds], of the reference in the same rounds; None where it cannot be run.
      batch_size: sequences a batch.
      length: tokens a sequence.
    """
    median = float(np.median(seconds))
    return {
        "p50_ms": 1000 * median,
        "p95_ms": 1000 * float(np.percentile(seconds, 95)),
        "sequences_per_second": batch_size / median,
        "tokens_per_second": batch_size * length / median,
        "speedup": None if reference is None else float(np.median(reference / seconds)),
    }
