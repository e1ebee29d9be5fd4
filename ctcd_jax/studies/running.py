"""Runs what is missing of a study, each run in a process of its own that leaves a log."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ctcd_jax import __version__
from ctcd_jax.artifacts.runs import TIMING
from ctcd_jax.artifacts.studies import (
    CELL,
    CELL_FORMAT,
    CORPORA,
    FAILED,
    LOG,
    RUN,
    CellFacts,
    read_cell,
    validation_lines,
)
from ctcd_jax.data import Corpus
from ctcd_jax.errors import NonFinite, UserError, did_you_mean
from ctcd_jax.files import write_json
from ctcd_jax.jobs.pool import run_jobs
from ctcd_jax.jobs.progress import Display
from ctcd_jax.runtime.allocator import keep_freed_memory
from ctcd_jax.studies.cells import Cell, Matrix, finished, is_settled, trials
from ctcd_jax.studies.definition import Study
from ctcd_jax.training.metrics import read_lines

_LINE_EVERY = 60.0  # seconds


@dataclass
class State:
    """What has become of the runs of a study.

    Attributes:
      cells: all that can be named yet, tuning first; arms may have runs in common (`runs`).
      chosen: {arm: setting}, of the arms that are tuned and have been.
      failed: {key: reason}, of this session, in which they are not tried again.
    """

    cells: list[Cell]
    chosen: dict[str, dict[str, Any]]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> list[Cell]:
        """Of cells with the same content the first: one run is all of them."""
        return list({cell.key: cell for cell in reversed(self.cells)}.values())[::-1]

    def missing(self) -> list[Cell]:
        """Returns the runs that are neither settled nor have failed, and those that one of them starts from, which
        have to be here."""
        left = {cell.key for cell in self.cells if not is_settled(cell)}
        for cell in reversed(self.cells):  # from ends to beginnings
            if cell.key in left:
                left |= {needed.key for needed in cell.needs if not is_here(needed)}
        return [cell for cell in self.runs if cell.key in left and cell.key not in self.failed]


def is_here(cell: Cell) -> bool:
    """Whether a run has been trained to its end on this machine, so that others can start from it."""
    return read_cell(cell.directory) is not None


def look(study: Study, make: Callable[[Mapping], Matrix], failed: Mapping[str, str] | None = None) -> State:
    """Returns the state of a study's runs, in an order in which they can be run.

    Args:
      study: whose runs they are.
      make: gives the matrix for {arm: chosen setting}.
      failed: {key: reason}.
    """
    chosen: dict[str, dict[str, Any]] = {}
    cells: dict[tuple, Cell] = {}
    waiting = list(study.arms)
    while waiting:
        matrix = make(chosen)
        settled = []
        for name in waiting:
            arm = study.arms[name]
            if not all(map(matrix.is_settled, arm.needs)):
                continue
            tuning = matrix.tuning(name)
            _add(cells, tuning)
            if tuning:
                _check_judged(name, arm.judged, tuning[0].trained)
                setting = choose(arm.judged, tuning, trials(arm))
                if setting is None:
                    continue
                chosen[name] = setting
                matrix = make(chosen)
            settled.append(name)
            _add(cells, [matrix.cell(name, seed) for seed in range(1, study.seeds + 1)])
        if not settled:
            break
        waiting = [name for name in waiting if name not in settled]
    check_claims(study, cells.values())
    return State(list(cells.values()), chosen, dict(failed or {}))


def check_claims(study: Study, cells: Iterable[Cell]) -> None:
    """Raises UserError where a claim is about a member that its arm, one of those that have cells, does not train."""
    trained = {cell.arm: cell.trained for cell in cells}  # of arms that wait for tuning not known yet
    for number, claim in enumerate(study.claims):
        for model in (claim.better, *claim.than, *(claim.beyond or ())):
            arm, _, member = model.partition("#")
            if arm in trained and member not in trained[arm]:
                hint = did_you_mean(member, trained[arm])
                raise UserError(f"claims[{number}]: '{model}': arm '{arm}' trains no member '{member}'{hint}")


def _check_judged(arm: str, judged: str | None, trained: Sequence[str]) -> None:
    if judged is None and len(trained) > 1:
        raise UserError(f"arms.{arm}.judged: name the member that tuning looks at: {' or '.join(trained)}")
    if judged is not None and judged not in trained:
        raise UserError(f"arms.{arm}.judged: it trains no member '{judged}'{did_you_mean(judged, trained)}")


def _add(cells: dict[tuple, Cell], more: Sequence[Cell]) -> None:
    for cell in more:
        _add(cells, cell.needs)
        # By its arm, too: a tuned arm may choose what another arm is.
        cells.setdefault((cell.arm, cell.seed, cell.trial is None, cell.key), cell)


def choose(judged: str | None, tuning: Sequence[Cell], settings: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the setting with the lowest held-out loss at its best step.

    A setting whose training diverged has lost; None while another one has not been tried, or where all diverged.

    Args:
      judged: the member that counts; None for the only one that learns.
      tuning: the runs, in the order of `settings`.
      settings: that are tried.
    """
    if not all(map(is_settled, tuning)):
        return None
    losses = [best_loss(facts, judged or cell.trained[0]) if (facts := finished(cell)) else math.inf for cell in tuning]
    return settings[losses.index(min(losses))] if min(losses) < math.inf else None


def best_loss(facts: CellFacts, member: str) -> float:
    """Returns the lowest held-out loss of a member of a finished run, nats."""
    return min(line["members"][member]["hard"] for line in facts["validation"])


def run_missing(
    study: Study,
    make: Callable[[Mapping], Matrix],
    state: State,
    share: tuple[int, int],
    jobs: int,
    check: Callable[[], None],
    log: Callable[[str], None],
) -> State:
    """Runs all that can be run, and returns what has become of it.

    Args:
      study: whose runs they are.
      make: gives the matrix for {arm: chosen setting}.
      state: of its runs.
      share: (i, n): every n-th seed, from the i-th; what starts from a run of a seed stays with it.
      jobs: runs at once, each in a process, so that what it takes along is its own, and its log; 0: one, in this one.
      check: called now and then; what it raises ends all.
      log: takes a line.

    Raises:
      PoolError: a process cannot be started.
    """
    index, count = share
    while True:
        mine = [cell for cell in state.missing() if cell.seed % count == index]
        # Seed by seed, so that a study that is stopped has comparisons to show.
        ready = sorted((c for c in mine if all(map(is_here, c.needs))), key=lambda cell: cell.seed)
        if not ready:
            return state
        for cell in ready:
            cell.directory.mkdir(parents=True, exist_ok=True)
        costs = {cell.key: cell.flops for cell in ready}
        with Display(len(ready), sum(costs.values()), log, label="study", every=_LINE_EVERY) as display:

            def watch(running: Mapping[int, float], display: Display = display) -> None:
                check()
                display.look(sum(running.values()))

            # Without the setup, a `tiny` CTCD run takes 1.38 times as long on two cores (three interleaved pairs).
            outcomes = run_jobs(run_cell, ready, [{}] * jobs, watch, log_of=_log_of, setup=keep_freed_memory)
            for cell, _, error in outcomes:
                if error is not None:
                    state.failed[cell.key] = error
                    _write_down(cell, error)
                    display.ended(costs[cell.key], f"{cell.title}  FAILED: {error}; see {_log_of(cell)}")
                else:
                    display.ended(costs[cell.key], f"{cell.title}  {_said(cell)}")
        state = look(study, make, state.failed)


def _write_down(cell: Cell, reason: str) -> None:
    """Keeps for other sessions why a run has failed, unless it has itself, or there is no room: the others go on."""
    if not (known := cell.directory / FAILED).is_file():
        with contextlib.suppress(OSError):
            write_json(known, {"reason": reason, "diverged": False})


def run_cell(cell: Cell, report: Callable[[float], None]) -> None:
    """Trains a run of a study, or goes on with it, and writes `cell.json` when it is finished.

    Args:
      cell: the run.
      report: takes how much of its cost is done.
    """
    (cell.directory / FAILED).unlink(missing_ok=True)
    import jax

    from ctcd_jax.config.file import load_config
    from ctcd_jax.training import train
    from ctcd_jax.training.run import existing_run

    config = load_config(cell.spec, cell.overrides)
    workdir = cell.directory / RUN
    # Begun on a machine that multiplies in another precision, it goes on in that one.
    before, dtype, settings = existing_run(workdir), cell.dtype, cast("Any", config.train)
    if before and settings.dtype == "auto":
        settings.dtype = dtype = before["resolved"]["dtype"]
    try:
        train(
            config,
            workdir,
            start=time.perf_counter(),
            on_line=lambda line: report(cell.flops * line["step"] / cell.steps),
        )
    except NonFinite as error:  # to the pool an error that says all there is to say
        write_json(cell.directory / FAILED, {"reason": str(error), "diverged": True})
        raise UserError(str(error)) from error
    write_json(
        cell.directory / CELL,
        {
            "format": CELL_FORMAT,
            "key": cell.key,
            "content": dict(cell.content),
            "seconds": read_lines(workdir / TIMING)[-1]["seconds"],
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "dtype": dtype,
            "version": __version__,
            "validation": validation_lines(workdir, lambda name: cell.evaluated.get(name) or _hash_beside(cell, name)),
        },
    )


def _hash_beside(cell: Cell, name: str) -> str | None:
    """The `content_hash` of a corpus that a session before knew by another name, for its text lay elsewhere then."""
    try:
        return Corpus(cell.directory.parents[1] / CORPORA / name).content_hash
    except UserError:
        return None


def _log_of(cell: Cell) -> Path:
    return cell.directory / LOG


def _said(cell: Cell) -> str:
    facts = finished(cell)
    assert facts is not None
    losses = ", ".join(f"{name} {best_loss(facts, name):.4f}" for name in cell.trained)
    return f"lowest held-out loss: {losses} nats"
