"""One function over many parts of a corpus, in this process or in several, and how far it is."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ctcd_jax.errors import UserError
from ctcd_jax.jobs.pool import PoolError, each_result
from ctcd_jax.jobs.progress import Display

Task = TypeVar("Task")

_LINE_EVERY = 10.0  # seconds
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}  # there is a process for every core already


class Progress:
    """Where a task counts its work.

    Attributes:
      done: of the task's units, by which the display's percentage goes.
      sentences: so far.
    """

    def __init__(self, tell: Callable[[tuple[float, int]], None]):
        self.done, self.sentences, self._tell = 0.0, 0, tell

    def at(self, done: float, sentences: int = 0) -> None:
        """Says how many units have been done, and counts more sentences."""
        self.done = done
        self.sentences += sentences
        self._tell((self.done, self.sentences))


def run_tasks(
    function: Callable[..., None],
    tasks: Sequence[Task],
    workers: int,
    *,
    label: str,
    units: Callable[[Task], float],
    log: Callable[[str], None],
) -> None:
    """Calls `function(task, progress=...)` for every task, in `workers` processes; for one, in this one.

    Args:
      label: what is being done, for the display.
      units: of a task.

    Raises:
      UserError: of a task, or when a process was killed. The other processes are stopped first.
    """
    environments = [_ENVIRONMENT] * workers if min(workers, len(tasks)) > 1 else []
    jobs = [(units(task), task) for task in tasks]
    sentences = 0  # of the tasks that have ended

    def look(running: Mapping[int, tuple[float, int]]) -> None:
        done, counted = (sum(column) for column in zip((0.0, sentences), *running.values(), strict=True))
        display.look(done, counted)

    cost = sum(size for size, _ in jobs)
    with Display(len(jobs), cost, log, label=label, unit="sentences", every=_LINE_EVERY) as display:
        try:
            for size, counted in each_result(functools.partial(_call, function), jobs, environments, look):
                sentences += counted
                display.ended(size)
        except PoolError as error:
            raise UserError(f"--workers {workers}: {error}; run the same command again, with fewer workers") from error


def _call(function: Callable[..., None], job: tuple[float, Task], tell: Callable[[Any], None]) -> tuple[float, int]:
    """Returns the units of the job's task, and how many sentences were counted."""
    size, task = job
    progress = Progress(tell)
    function(task, progress=progress)
    return size, progress.sentences
