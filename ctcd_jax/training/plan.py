"""`ctcd train --plan`: what a run would cost, before it costs anything."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ctcd_jax.config import corpus_directory, resolve
from ctcd_jax.data import Corpus, TrainBatches
from ctcd_jax.errors import warn
from ctcd_jax.jobs.duration import duration
from ctcd_jax.models.registry import parameter_count
from ctcd_jax.runtime.compilation import keep_programs
from ctcd_jax.training.checkpoint import saved_steps
from ctcd_jax.training.describe import describe_members, epochs
from ctcd_jax.training.masking import make_masker
from ctcd_jax.training.run import changes, existing_run, known_shapes, run_content
from ctcd_jax.training.sharding import make_mesh, place_rows
from ctcd_jax.training.state import init_state, scratch_params
from ctcd_jax.training.step import make_train_step

TIMED_STEPS = 5


def plan(
    config: ConfigDict, log: Callable[[str], None] = print, workdir: str | Path | None = None, change: bool = False
) -> dict:
    """Prints members, edges, rows, steps, epochs, tokens, memory and projected hours, each as it is known.

    The time is that of the fastest and the slowest of a few real steps on this machine; members that would be loaded
    take random weights, which cost the same. Nothing is written but compiled programs (`keep_programs`).

    Args:
      config: as `load_config` returns it.
      log: called with each line.
      workdir, change: as for `train`: of a run that is there what is left to do is said, too.

    Returns:
      The figures; "seconds_per_step" and "hours" are (low, high).

    Raises:
      UserError: as `train`.
    """
    keep_programs(warn)
    corpus = Corpus.open(corpus_directory(config))
    place = Path(workdir) if workdir else None
    before = existing_run(place) if place else None
    known = known_shapes(before, config, place) if place else {}
    experiment = resolve(config, corpus, jax.devices(), known)
    saved = saved_steps(place) if place and before else []
    if place and before and saved:
        changes(before, run_content(config, experiment, corpus), place, change)
    log = log if jax.process_index() == 0 else lambda _: None
    for line in describe_members(experiment):
        log(line)
    part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = TrainBatches(corpus, experiment.batch_size, experiment.seed, **part)
    steps = experiment.train.steps
    share = corpus.manifest["splits"]["train"]["tokens"] / corpus.rows("train")
    figures: dict[str, Any] = {
        "members": {name: parameter_count(model) for name, model in experiment.models.items()},
        "rows": corpus.rows("train"),
        "steps": steps,
        "epochs": steps / batches.steps_per_epoch,
        "tokens": round(steps * experiment.batch_size * share),
    }
    log(
        f"{figures['rows']:,} rows: {steps:,} steps of {experiment.batch_size} = {epochs(steps, batches)}, "
        f"{figures['tokens']:,} tokens"
    )

    mesh = make_mesh(*experiment.mesh)
    frozen = {name: scratch_params(experiment, name) for name in experiment.cohort.frozen}
    state = init_state(experiment, mesh)
    step = make_train_step(experiment, make_masker(experiment, corpus), mesh)
    longest = max(range(min(batches.steps_per_epoch, 64)), key=lambda n: batches[n]["input_ids"].shape[1])
    rows = place_rows(batches[longest], mesh)
    compiled = step.lower(state, frozen, rows).compile()
    memory: Any = compiled.memory_analysis()
    figures["bytes_per_device"] = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    log(f"memory: {figures['bytes_per_device'] / 2**30:.2f} GiB a device (state, batch and temporaries of one step)")
    times = _time(compiled, state, frozen, rows)
    low, high = min(times), max(times)
    figures |= {"seconds_per_step": (low, high), "hours": (steps * low / 3600, steps * high / 3600)}
    log(
        f"time: {low:.3f} to {high:.3f} s a step here, {duration(steps * low)} to {duration(steps * high)} in all "
        f"({experiment.train.dtype}), without the start, evaluation and saving"
    )
    if saved:
        left = steps - saved[-1]
        log(f"of these {saved[-1]:,} steps are done: {left:,} to go, {duration(left * low)} to {duration(left * high)}")
    return figures


def _time(step, state, frozen, rows) -> list[float]:
    """Returns what each of a few steps takes, in seconds."""
    times = []
    for _ in range(TIMED_STEPS + 1):
        start = time.perf_counter()
        state, result = step(state, frozen, rows)
        jax.block_until_ready(result)
        times.append(time.perf_counter() - start)
    return times[1:]  # the first one also fills caches
