"""The program of the step, made while something else is done: both take seconds, and each leaves a core idle."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
from jax.sharding import Mesh

from ctcd_jax.config import Experiment
from ctcd_jax.training.sharding import batch_sharding, placed
from ctcd_jax.training.state import abstract_frozen, abstract_state


@contextmanager
def compiling(train_step: Any, experiment: Experiment, mesh: Mesh, batch: Callable[[], dict]) -> Iterator[None]:
    """Compiles a step in a thread while the block runs, and waits for it: the first call finds it made.

    Processes of one run do not: they compile together, in the order in which they come to it.

    Args:
      train_step: of `make_train_step`.
      experiment: that it is of.
      mesh: of devices.
      batch: gives the first batch, {"input_ids": int32[B, L]}.
    """
    if jax.process_count() > 1:
        yield
        return

    def compile_step() -> None:
        with suppress(Exception):  # whatever it is, the first step will say it
            rows = batch_sharding(mesh)
            first = {name: placed(values, rows) for name, values in batch().items()}
            train_step.lower(abstract_state(experiment, mesh), abstract_frozen(experiment, mesh), first).compile()

    thread = threading.Thread(target=compile_step)
    thread.start()
    try:
        yield
    finally:
        thread.join()
