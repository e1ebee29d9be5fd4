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
from ctcd_jax.training.describe import epochs
from ctcd_jax.training.masking import make_masker
from ctcd_jax.training.run import changes, existing_run, known_shapes, run_content
from ctcd_jax.training.sharding import make_mesh, place_rows
from ctcd_jax.training.state import init_state, scratch_params
from ctcd_jax.training.step import make_train_step

TIMED_STEPS = 3


def plan(
    config: ConfigDict, log: Callable[[str], None] = print, workdir: str | Path | None = None, change: bool = False
) -> dict:
    """Prints members, parameters, memory, rows, steps, epochs, tokens and projected hours, and returns them.

    The time is that of a few real steps on this machine, without evaluation and saving; members that would be loaded
    take random weights, which cost the same. Nothing is written but compiled programs (`keep_programs`).

    Args:
      config: as `load_config` returns it.
      log: called with each line.
      workdir, change: as for `train`: of a run that is there what is left to do is said, too.

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
    mesh = make_mesh(*experiment.mesh)
    part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = TrainBatches(corpus, experiment.batch_size, experiment.seed, **part)
    log = log if jax.process_index() == 0 else lambda _: None
    frozen = {name: scratch_params(experiment, name) for name in experiment.cohort.frozen}
    state = init_state(experiment, mesh)
    parameters = {name: parameter_count(experiment.models[name]) for name in (*state.members, *frozen)}

    step = make_train_step(experiment, make_masker(experiment, corpus), mesh)
    longest = max(range(min(batches.steps_per_epoch, 64)), key=lambda n: batches[n]["input_ids"].shape[1])
    rows = place_rows(batches[longest], mesh)
    compiled = step.lower(state, frozen, rows).compile()
    memory: Any = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    seconds = _time(compiled, state, frozen, rows)

    steps = experiment.train.steps
    rows_seen = steps * experiment.batch_size
    share = corpus.manifest["splits"]["train"]["tokens"] / corpus.rows("train")
    figures = {
        "members": parameters,
        "rows": corpus.rows("train"),
        "steps": steps,
        "epochs": steps / batches.steps_per_epoch,
        "tokens": round(rows_seen * share),
        "bytes_per_device": used,
        "seconds_per_step": seconds,
        "hours": steps * seconds / 3600,
    }
    for name, count in parameters.items():
        model, kind = experiment.models[name], "frozen" if name in frozen else "trainable"
        log(f"{name}: {model.layers} layers, hidden {model.hidden}, {count:,} parameters, {kind}")
    log(f"memory: {used / 2**30:.2f} GiB a device (state, batch and temporaries of one step)")
    log(
        f"{figures['rows']:,} rows: {steps:,} steps of {experiment.batch_size} = {epochs(steps, batches)}, "
        f"{figures['tokens']:,} tokens"
    )
    log(f"time: {seconds:.3f} s a step here, {duration(steps * seconds)} in all ({experiment.train.dtype})")
    if saved:
        left = steps - saved[-1]
        log(f"of these {saved[-1]:,} steps are done: {left:,} to go, {duration(left * seconds)}")
    return figures


def _time(step, state, frozen, rows) -> float:
    """Returns the fastest of a few steps, in seconds."""
    times = []
    for _ in range(TIMED_STEPS):
        start = time.perf_counter()
        state, result = step(state, frozen, rows)
        jax.block_until_ready(result)
        times.append(time.perf_counter() - start)
    return min(times)
