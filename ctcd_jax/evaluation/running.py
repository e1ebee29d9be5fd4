"""Runs the cells of a fine-tuning matrix in worker processes, keeps their lines, and says how they fare."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ctcd_jax.artifacts.results import FAILED, LOG, PREDICTIONS, Result, append_result
from ctcd_jax.evaluation.baselines import metrics_text
from ctcd_jax.evaluation.cell import Progress, run_cell
from ctcd_jax.evaluation.matrix import Cell
from ctcd_jax.evaluation.tables.selection import cut_text, was_cut
from ctcd_jax.jobs.pool import Outcome, environments, run_jobs
from ctcd_jax.jobs.progress import Display
from ctcd_jax.runtime.allocator import keep_freed_memory


def run_cells(
    pending: Sequence[Cell],
    done: dict[tuple, Result],
    results: Path,
    jobs: int | None,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> list[Cell]:
    """Runs cells, those that start from an intermediate task last, and returns those that failed.

    Args:
      pending: the cells.
      done: lines of results.jsonl by the keys of their cells; those of these cells are added.
      results: the results.jsonl, which gets the lines, too.
      jobs: of `GlueOptions`.
      log, warn: take a line.
    """
    warn_once = functools.cache(warn)  # what is cut does not depend on the seed
    first = [cell for cell in pending if cell.intermediate is None]
    second = [cell for cell in pending if cell.intermediate is not None]
    with Display(len(pending), sum(cell.cost for cell in pending), log) as display:
        stages = [_run_stage(stage, done, results, jobs, display, warn_once) for stage in (first, second)]
        return [cell for stage in stages for cell in stage]


def _run_stage(
    cells: Sequence[Cell],
    done: dict[tuple, Result],
    results: Path,
    jobs: int | None,
    display: Display,
    warn: Callable[[str], None],
) -> Iterator[Cell]:
    """Runs cells that do not wait for one another, and yields those that fail."""
    epochs = _Epochs(display, printed=jobs == 0)

    def look(running: Mapping[int, Progress]) -> None:
        for index, progress in running.items():
            epochs.say(cells[index], progress.epochs)
        display.look(sum(cells[index].cost * progress.share for index, progress in running.items()))

    for cell in cells:
        cell.folder.mkdir(parents=True, exist_ok=True)
        for file in (FAILED, LOG):
            (cell.folder / file).unlink(missing_ok=True)
    wanted = environments(jobs, len(cells))
    outcomes = run_jobs(run_cell, cells, wanted, look, log_of=lambda cell: cell.folder / LOG, setup=keep_freed_memory)
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            if outcome.error is None:
                row, lines = outcome.result
                epochs.say(outcome.job, lines)
                outcome = outcome._replace(result=row)
            yield from _ended(outcome, done, results, display, warn)


class _Epochs:
    """Says each line of each cell's epochs once, whether it comes while the cell runs or with its result.

    Args:
      display: where they are said.
      printed: whether the cells, which run in this process, have printed them here already.
    """

    def __init__(self, display: Display, printed: bool):
        self._display, self._printed = display, printed
        self._said: dict[Path, int] = {}

    def say(self, cell: Cell, lines: Sequence[str]) -> None:
        """Takes all lines of a cell up to now."""
        for line in () if self._printed else lines[self._said.get(cell.folder, 0) :]:
            self._display.say(line)
        self._said[cell.folder] = len(lines)


def _ended(
    outcome: Outcome, done: dict[tuple, Result], results: Path, display: Display, warn: Callable[[str], None]
) -> list[Cell]:
    cell, row, error = outcome
    if error is None:
        row["predictions"] = str((cell.folder / PREDICTIONS).relative_to(results.parent))
        append_result(results, row)
        done[cell.key] = row
        text = f"{metrics_text(row['metrics'])}  {row['seconds']:.0f} s"
    else:
        with contextlib.suppress(OSError):  # a full disk, of which the line below is the reason
            (cell.folder / FAILED).write_text(f"{error}\n")
        text = f"FAILED: {error}"
    display.ended(cell.cost, f"{cell.title}  {text}")
    if row and was_cut(row):
        warn(f"cut: {cut_text(row)}")
    return [cell] if error else []
