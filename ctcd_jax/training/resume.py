"""What a session of training goes on from: the newest saved step of its run, or the members' first parameters."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from ctcd_jax.artifacts.runs import CONFIG, Best, RunConfig
from ctcd_jax.config import Experiment
from ctcd_jax.files import write_json
from ctcd_jax.runtime.distributed import on_leader
from ctcd_jax.training import history
from ctcd_jax.training.best import going_on
from ctcd_jax.training.checkpoint import Checkpoints, Saved
from ctcd_jax.training.frozen import load_frozen
from ctcd_jax.training.held_out import Evaluation
from ctcd_jax.training.members import check_sources, load_initial_weights, probe, report_probe, warn_of_twins
from ctcd_jax.training.run import OpenedRun
from ctcd_jax.training.sharding import place, replicated
from ctcd_jax.training.state import Params, TrainState, abstract_state, init_state


class Start(NamedTuple):
    """Where a session starts.

    Attributes:
      step: updates done.
      state: that they led to, on the devices.
      tokens: real ones seen that the state does not count any more.
      frozen: {member: its parameters}, on the devices.
      best: evaluation so far of the member that `train.keep_best` names.
    """

    step: int
    state: TrainState
    tokens: int
    frozen: Params
    best: Best | None


def begin_or_resume(
    experiment: Experiment,
    workdir: Path,
    opened: OpenedRun,
    checkpoints: Checkpoints,
    mesh: Mesh,
    evaluation: Evaluation,
    meanwhile: AbstractContextManager,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> Start:
    """Returns what a session starts from. All processes of a run call it.

    Args:
      experiment: of the run.
      workdir: of the run.
      opened: the run; its `content` is written where a changed run goes on.
      checkpoints: of the run.
      mesh: to train on.
      evaluation: of the run: frozen members are asked about its first batch.
      meanwhile: entered while a new run's state is made.
      log: called with a line about every frozen member, and about what is resumed.
      warn: called with a line about what may be wrong.

    Raises:
      UserError: no saved step can be read, or a member's source cannot, or it is not what the run began with.
    """
    primary = jax.process_index() == 0
    resumed = _restore(experiment, opened.content, checkpoints, mesh, warn)
    # After that: where the checkpoint cannot be read, nobody waits for frozen members.
    if resumed:
        initial, frozen = None, {name: load_frozen(workdir, name) for name in experiment.cohort.frozen}
        on_leader(lambda: check_sources(experiment, workdir, opened, frozen, warn))
    else:
        initial = load_initial_weights(experiment, workdir, primary, warn)
        frozen = initial.frozen
    whole = replicated(mesh)
    placed = {name: place(tree, jax.tree.map(lambda _: whole, tree)) for name, tree in frozen.items()}
    for name in experiment.cohort.frozen:
        found = probe(experiment, evaluation.masker, name, placed[name], next(evaluation.own.batches()))
        report_probe(name, *found, evaluation.own.unigram, log, warn)
    if initial:
        warn_of_twins(experiment, initial.trained, warn)
        with meanwhile:
            return Start(0, init_state(experiment, mesh, initial.trained), 0, placed, None)
    assert resumed
    step, state, tokens, best = resumed
    log(f"resumed at step {step:,} of {experiment.train.steps:,}")
    if opened.before and opened.changed:
        for line in history.describe_change(opened.before, opened.content, opened.changed, step):
            log(line)
    if primary:
        _write_config(workdir, opened.content, step)
    keep_best = experiment.train.keep_best
    if best and best["member"] != keep_best:
        log(
            f"train.keep_best is {keep_best}: step {best['step']:,}, the best of '{best['member']}', is not kept longer"
        )
    return Start(step, state, tokens, placed, going_on(best, keep_best, step, opened.content.get("history", [])))


def _restore(
    experiment: Experiment, content: RunConfig, checkpoints: Checkpoints, mesh: Mesh, warn: Callable[[str], None]
) -> Saved | None:
    """Returns the newest step, which may have been computed in another dtype; None if nothing was saved."""

    def saved(step: int) -> TrainState:
        dtype = history.dtype_at(content.get("history", []), step, experiment.train.dtype)
        return abstract_state(history.with_dtype(experiment, dtype), mesh)

    restored = checkpoints.restore(saved, warn)
    if restored is None:
        return None
    return restored._replace(state=history.adapted(restored.state, abstract_state(experiment, mesh)))


def _write_config(workdir: Path, content: RunConfig, step: int) -> None:
    """Writes the config.json of a run that goes on from `step`, which may be earlier than its newest was."""
    if "history" in content:
        content["history"] = history.going_on_from(content["history"], step)
    write_json(workdir / CONFIG, content)
