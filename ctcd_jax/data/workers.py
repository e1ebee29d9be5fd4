"""The same function over many tasks, in this process or in several, with one progress display for all of them."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from ctcd_jax.duration import duration
from ctcd_jax.errors import UserError

Task = TypeVar("Task")

_FLUSH_SENTENCES = 1000
_LOOK_EVERY, _LINE_EVERY = 0.5, 10.0  # seconds


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Progress:
    """Where a task counts its work; the sums of all processes are what is displayed.

    Attributes:
      totals: [units, sentences] of all processes; a unit is what the display's percentage goes by.
    """

    def __init__(self, totals):
        """Takes a shared array of two floats with a lock."""
        self.totals = totals
        self._position = self._units = 0.0
        self._sentences = 0

    def at(self, position: float, sentences: int) -> None:
        """Says how many units of the current file have been done, and counts more sentences."""
        self._units += position - self._position
        self._position = position
        self._count(sentences)

    def finished(self, size: float) -> None:
        """Ends a file of `size` units."""
        self.at(size, 0)
        self._position = 0.0
        self.flush()

    def sentences(self, count: int) -> None:
        """Counts sentences that are units, too."""
        self._units += count
        self._count(count)

    def flush(self) -> None:
        """Adds to the totals what has not been added."""
        with self.totals.get_lock():
            self.totals[0] += self._units
            self.totals[1] += self._sentences
        self._units, self._sentences = 0.0, 0

    def _count(self, sentences: int) -> None:
        self._sentences += sentences
        if self._sentences >= _FLUSH_SENTENCES:
            self.flush()


def run_tasks(
    function: Callable[..., None],
    tasks: Sequence[Task],
    workers: int,
    *,
    label: str,
    units: float,
    log: Callable[[str], None],
) -> None:
    """Calls `function(task, progress=...)` for every task, in `workers` processes; for one, in this one.

    Args:
      label: what is being done, for the display.
      units: of all tasks together.

    Raises:
      UserError: of a task, or when a process was killed. The other processes are stopped first.
    """
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    progress = Progress(context.Array("d", 2))
    with _Display(progress.totals, label, units, log) as display:
        workers = min(workers, len(tasks))
        if workers == 1:
            with display.in_thread():
                for task in tasks:
                    function(task, progress=progress)
                    progress.flush()
            return
        pool = ProcessPoolExecutor(workers, context, _start_worker, (progress.totals,))
        try:
            _watch([pool.submit(_call, function, task) for task in tasks], display)
            pool.shutdown()
        except BrokenProcessPool as error:
            raise UserError(
                f"--workers {workers}: a process was killed, as the system does when memory runs out; run the same"
                " command again, with fewer workers"
            ) from error
        finally:
            for process in (pool._processes or {}).values():  # a stopped run must not go on behind the user's back
                process.kill()
            pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future], display: "_Display") -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, _LOOK_EVERY, FIRST_EXCEPTION)
        for future in done:
            future.result()
        display.show()


_progress: Progress


def _start_worker(totals) -> None:
    global _progress
    _progress = Progress(totals)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for every core already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(function: Callable[..., None], task: Task) -> None:
    function(task, progress=_progress)
    _progress.flush()


class _Display:
    """A bar on a terminal, else a line about every ten seconds: share done, sentences, sentences/s and time left."""

    def __init__(self, totals, label: str, units: float, log: Callable[[str], None]):
        self._totals, self._label, self._units, self._log = totals, label, max(units, 1), log
        self._began = self._said = time.monotonic()
        self._bar = None

    def __enter__(self) -> "_Display":
        if sys.stderr.isatty():
            layout = "{desc}: {percentage:3.0f}%|{bar}| {unit} [{elapsed}<{remaining}]"
            self._bar = tqdm(total=1.0, desc=self._label, unit="", bar_format=layout, leave=False)
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self) -> None:
        """Brings the bar up to date, or says a line if it is time to."""
        share = min(self._totals[0] / self._units, 1.0)
        now = time.monotonic()
        rate = self._totals[1] / max(now - self._began, 1e-9)
        counts = f"{self._totals[1]:,.0f} sentences, {rate:,.0f}/s"
        if self._bar is not None:
            self._bar.unit = counts
            self._bar.n = share
            self._bar.refresh()
        elif now - self._said > _LINE_EVERY:
            left = (now - self._began) * (1 / share - 1) if share else 0
            self._log(f"{self._label}: {share:.0%} | {counts} | {duration(left)} left")
            self._said = now

    def in_thread(self) -> "_Ticker":
        """Returns a context in which a thread calls `show` now and then."""
        return _Ticker(self.show)


class _Ticker:
    def __init__(self, tick: Callable[[], None]):
        self._tick, self._stop = tick, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY):
            self._tick()
