"""Jobs in worker processes, several at once, which hear of no signal and do not outlive whoever started them.

`run_jobs` collects failures: a job that fails or dies takes nothing else along. `each_result` raises the first.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

from tqdm import tqdm

from ctcd_jax.errors import UserError, one_line
from ctcd_jax.runtime.cores import available_cores
from ctcd_jax.runtime.stopping import SIGNALS, held_back

GIGABYTES_A_JOB = 3  # what a BERT-base and its optimizer take
_LOOK_EVERY = 0.5  # seconds

# Called with a job and a function that takes how far it is, in whatever terms `look` understands.
Work = Callable[[Any, Callable[[Any], None]], Any]
Environments = Sequence[Mapping[str, str]]
Look = Callable[[Mapping[int, Any]], None]


class PoolError(UserError):
    """A process could not be started, or was killed while it was at a job."""


class Outcome(NamedTuple):
    """How a job ended; `error` is the line that says why it failed."""

    job: Any
    result: Any
    error: str | None


def run_jobs(
    work: Work,
    jobs: Sequence[Any],
    environments: Environments,
    look: Look,
    *,
    log_of: Callable[[Any], Path | None] = lambda job: None,
    setup: Callable[[], Any] | None = None,
) -> Generator[Outcome, None, None]:
    """Yields the outcomes of all jobs as they end.

    Args:
      work: a function of a module, called in another process.
      jobs: what it is called with.
      environments: one process for each, with these variables; none: all jobs run in this process, to be debugged.
      look: called every half second with {index of a running job: what its `work` has last reported}.
      log_of: the file, in a folder that is there, that takes what the job prints, and the traceback of one that fails;
        None: the job prints where this process does.
      setup: a function of a module, called first in every process.

    Raises:
      PoolError: a process cannot be started.
    """
    if not environments:
        for index, job in enumerate(jobs):
            yield Outcome(job, *_attempt(work, job, lambda progress, index=index: look({index: progress})))
        return
    waiting = list(enumerate(jobs))[::-1]
    # None has a process yet: whatever stops us while they start, those that have are known and ended.
    workers = [_Worker(work, environment, setup) for environment in environments[: len(jobs)]]
    try:
        while waiting or any(worker.job is not None for worker in workers):
            for worker in workers:
                if worker.job is None and waiting:
                    index, job = waiting.pop()
                    worker.give(index, job, log_of(job))
            wait([worker.pipe for worker in workers if worker.job is not None], _LOOK_EVERY)
            yield from [outcome for worker in workers if (outcome := worker.look())]
            reporting = [worker for worker in workers if worker.job is not None and worker.progress is not None]
            look({worker.index: worker.progress for worker in reporting})
    finally:
        for worker in workers:
            worker.kill()  # a stopped run must not go on behind the user's back


def each_result(work: Work, jobs: Sequence[Any], environments: Environments, look: Look) -> Iterator[Any]:
    """Yields what `work` returns for each job as it ends; args as for `run_jobs`.

    Raises:
      PoolError: a process cannot be started, or was killed.
      Exception: what a job has raised, with its traceback as a note. The other processes are ended first.
    """
    if not environments:
        for index, job in enumerate(jobs):
            yield work(job, _seldom(lambda progress, index=index: look({index: progress})))
        return
    with contextlib.closing(run_jobs(functools.partial(_caught, work), jobs, environments, look)) as outcomes:
        for _, result, death in outcomes:
            if death:
                raise PoolError(f"a job failed: {death}")
            value, error = result
            if error is not None:
                raise error
            yield value


def _caught(work: Work, job: Any, progress: Callable[[Any], None]) -> tuple[Any, Exception | None]:
    try:
        return work(job, progress), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception with arguments of its own
            return None, RuntimeError(traceback.format_exc())
        return None, error


def _attempt(work: Work, job: Any, progress: Callable[[Any], None]) -> tuple[Any, str | None]:
    """Returns (result, None) or, with the traceback printed, (None, what went wrong in one line)."""
    try:
        return work(job, _seldom(progress)), None
    except Exception as error:
        with contextlib.suppress(OSError):  # where there is no room for it, the line below is all there is
            traceback.print_exc()
        return None, f"{type(error).__name__}: {one_line(error, lines=None)}"


def environments(jobs: int | None, count: int) -> list[dict[str, str]]:
    """Returns the variables of each of the worker processes that `count` jobs of fine-tuning want; none for `jobs` 0.

    Args:
      jobs: processes; None: one a GPU or, on CPUs, one a core as far as memory allows.
    """
    import psutil
    import torch

    cores = available_cores()
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(index) for index in range(gpus)]
        jobs = gpus if jobs is None else jobs
        return [{"CUDA_VISIBLE_DEVICES": devices[index % gpus], **_on_cores(cores, jobs)} for index in range(jobs)]
    if jobs is None:
        room = int(psutil.virtual_memory().available / 1e9 / GIGABYTES_A_JOB)
        jobs = max(1, min(cores, count, room))
    return [_on_cores(cores, jobs)] * jobs


def _on_cores(cores: int, jobs: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(max(1, cores // max(jobs, 1))), "TOKENIZERS_PARALLELISM": "false"}


class _Worker:
    """A process and the job it is at; a process that died is replaced when there is another job for it."""

    def __init__(self, work: Work, environment: Mapping[str, str], setup: Callable[[], Any] | None):
        self._arguments = work, dict(environment), setup
        self.job, self.index, self.progress = None, -1, None
        self._process = None

    def give(self, index: int, job: Any, log: Path | None) -> None:
        if self._process is None or not self._process.is_alive():
            self._start()
        self.index, self.job, self.progress = index, job, None
        with contextlib.suppress(OSError):  # it has died meanwhile, which `look` will find
            self.pipe.send((job, log))

    def look(self) -> Outcome | None:
        """Reads what the process has said; returns the outcome if its job has ended."""
        while self.job is not None and self.pipe.poll():
            try:
                kind, value = self.pipe.recv()
            except (EOFError, OSError):
                process = cast("Any", self._process)  # it has a job, so it was started
                process.join()
                return self._ended(None, _death(process.exitcode))
            if kind == "done":
                if value[1] is not None:
                    self.kill()  # a GPU's error stays in the process, and would fail every job that follows
                return self._ended(*value)
            self.progress = value
        return None

    def kill(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.kill()
            self._process.join()

    def _ended(self, result: Any, error: str | None) -> Outcome:
        job, self.job = self.job, None
        return Outcome(job, result, error)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        resource_tracker.ensure_running()  # by itself it would let the signals through again
        # Ctrl-C goes to all processes of a terminal: the new one must not hear of it before it is ready to ignore it,
        # and one whose start is broken off says so with a traceback, and is known to nobody.
        try:
            with held_back():
                self._process.start()
        except OSError as error:
            raise PoolError(f"a process cannot be started ({error.strerror or error})") from error
        theirs.close()  # so that its end is noticed here


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{hint}"
    return f"its process ended with code {code}"


def _serve(pipe: Connection, work: Work, environment: Mapping[str, str], setup: Callable[[], Any] | None) -> None:
    os.environ.update(environment)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent stops its workers itself
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Its own lock is a semaphore of the system, and of one that a killed process leaves behind Python complains.
    tqdm.set_lock(threading.RLock())
    if setup:
        setup()
    while True:
        job, log = pipe.recv()
        try:
            with _printing_to(log) if log else contextlib.nullcontext():
                outcome = _attempt(work, job, lambda progress: pipe.send(("progress", progress)))
        except OSError as error:
            outcome = None, f"{log}: {error.strerror}"
        pipe.send(("done", outcome))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _seldom(report: Callable[[Any], None]) -> Callable[[Any], None]:
    last = 0.0

    def report_seldom(progress: Any) -> None:
        nonlocal last
        if time.monotonic() - last > _LOOK_EVERY:
            last = time.monotonic()
            report(progress)

    return report_seldom


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Sends both standard streams to a file, what libraries written in C print included."""
    with path.open("w") as file:
        kept = [os.dup(stream) for stream in (1, 2)]
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            _flush_or_drop()
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def _flush_or_drop() -> None:
    """Writes out what was printed; what a full disk does not take is lost, and no reason to lose a result."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), number)
            stream.flush()
