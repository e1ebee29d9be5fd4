"""The same function over many tasks, in this process or in several, with one progress display for all of them."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from ctcd_jax.errors import UserError
from ctcd_jax.jobs.duration import duration
from ctcd_jax.jobs.parent import end_with_parent
from ctcd_jax.runtime.stopping import SIGNALS

Task = TypeVar("Task")
Result = TypeVar("Result")

_FLUSH_SENTENCES = 1000
_LOOK_EVERY, _LINE_EVERY = 0.5, 10.0  # seconds


class Progress:
    """Where a task counts its work; the sums of all processes are what is displayed.

    Attributes:
      totals: [units, sentences] of all processes; a unit is what the display's percentage goes by.
    """

    def __init__(self, totals):
        """Takes an array of two floats with `get_lock`, shared where there are several processes."""
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


class _Totals(list):
    """What `multiprocessing.Array` is to several processes, to the threads of this one; it needs no /dev/shm."""

    def __init__(self):
        super().__init__((0.0, 0.0))
        self._lock = threading.Lock()

    def get_lock(self) -> threading.Lock:
        return self._lock


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
    workers = min(workers, len(tasks))
    if workers == 1:
        progress = Progress(_Totals())
        with _Display(progress.totals, label, units, log) as display, display.in_thread():
            for task in tasks:
                function(task, progress=progress)
                progress.flush()
        return
    context = multiprocessing.get_context("spawn")
    with _starting(workers):
        totals = context.Array("d", 2)
        pool = ProcessPoolExecutor(workers, context, _start_worker, (totals,))
    with _Display(totals, label, units, log) as display:
        try:
            with _starting(workers), _signals_held_back():
                futures = [pool.submit(_call, function, task) for task in tasks]
            _watch(futures, display)
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


def interruptible(function: Callable[[Callable[[Iterable], Iterator]], Result]) -> Result:
    """Returns `function(watched)`, called in a thread: a signal that comes while it is in native code need not wait.

    Args:
      function: passes what it iterates over through `watched`, by which it ends soon after it is no longer waited for.
    """
    abandoned, result = threading.Event(), Future()

    def watched(items: Iterable) -> Iterator:
        for item in items:
            if abandoned.is_set():
                raise KeyboardInterrupt
            yield item

    def call() -> None:
        try:
            result.set_result(function(watched))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        return result.result()
    finally:
        abandoned.set()
        thread.join(1.0)


@contextmanager
def _starting(workers: int) -> Iterator[None]:
    """Tells what is amiss where processes cannot be started, or have nothing to share memory in."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workers {workers}: several processes cannot be started ({error.strerror or error}; they share memory in"
            " /dev/shm, which must be writable and have room); mend that, or give --workers 1"
        ) from error


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keeps SIGTERM and Ctrl-C from processes that are started in the block, for good: the parent stops them itself.

    A handler of their own would come too late: a signal while they import would be a traceback. What comes to this
    process meanwhile is delivered at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    end_with_parent()


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
