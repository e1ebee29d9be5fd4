"""The training loop: thin wiring of corpus, step, metrics and checkpoints. Kill it at any moment and run it again."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ctcd_jax.artifacts.runs import LOCK, MetricLine
from ctcd_jax.config import Experiment, corpus_directory, resolve
from ctcd_jax.data import Corpus, TrainBatches, ValidationBatches, prefetch
from ctcd_jax.distill.objective import Terms
from ctcd_jax.errors import NonFinite, Stopped, UserError, warn
from ctcd_jax.files import locked
from ctcd_jax.runtime.compilation import CompilationCount, keep_programs
from ctcd_jax.runtime.distributed import on_leader
from ctcd_jax.runtime.hardware import peak_bytes, peak_flops
from ctcd_jax.runtime.stopping import handling, interruptible
from ctcd_jax.training.checkpoint import Checkpoints
from ctcd_jax.training.describe import describe_run
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.masking import Masker, make_masker
from ctcd_jax.training.metrics import Writers, describe, last_seconds, progress, record, with_optimizers
from ctcd_jax.training.optimizer import learning_rate
from ctcd_jax.training.profiling import Profiler
from ctcd_jax.training.resume import begin_or_resume
from ctcd_jax.training.run import (
    OpenedRun,
    check_place,
    check_processes,
    existing_run,
    known_shapes,
    open_corpus,
    open_run,
    run_content,
    share,
)
from ctcd_jax.training.sharding import PlacedRows, make_mesh, place_rows
from ctcd_jax.training.state import TrainState, reset_window
from ctcd_jax.training.step import make_evaluation, make_train_step

# Real tokens are counted on the device in an int32, which goes no further; the host takes over before.
MOST_TOKENS = 2**31 - 1


def train(
    config: ConfigDict,
    workdir: str | Path,
    log: Callable[[str], None] = print,
    start: float | None = None,
    change: bool = False,
    warn: Callable[[str], None] = warn,
    on_line: Callable[[MetricLine], None] | None = None,
) -> MetricLine:
    """Trains a cohort, or goes on where it stopped, and returns the last validation record.

    Compiled programs are kept for the next run (`keep_programs`), from Python as from the command line.

    Args:
      config: as `load_config` returns it.
      workdir: of the run; made if it is not there.
      log: called with each line of progress.
      start: time.perf_counter() at the start of the command, for the log; None for now.
      change: whether the config may extend or repair the run that is there (`history`).
      warn: called with a line about what may be wrong.
      on_line: called on the leading process with each line of metrics.jsonl, "train" and "validation", right after it
        is written; training waits for it. What it raises ends the session; the next goes on from the newest saved step.

    Raises:
      UserError: a user error, in one line.
      NonFinite, Stopped: see there.
    """
    start = time.perf_counter() if start is None else start
    workdir = Path(workdir)
    primary = jax.process_index() == 0
    log, warn = (log, warn) if primary else (_silent, _silent)
    keep_programs(warn)
    check_place(workdir)
    corpus = open_corpus(corpus_directory(config))
    before = existing_run(workdir)
    if change and before is None:
        raise UserError(f"{workdir}: there is no run to change; leave out --change to begin one")
    experiment = resolve(config, corpus, jax.devices(), known_shapes(before, config, workdir))
    content = run_content(config, experiment, corpus)
    check_processes(content, change)
    with contextlib.ExitStack() as held, CompilationCount() as compiled:
        # The others must not look into a directory that is still being made: they wait for the leading process.
        opened = share(on_leader(lambda: _open(content, corpus, experiment, workdir, change, log, warn, held)))
        run = _Run(experiment, corpus, workdir, opened, log, warn, on_line, primary)
        try:
            return run.finish(lambda: f"first step after {time.perf_counter() - start:.1f} s ({compiled})")
        finally:
            run.close()


def _open(content, corpus, experiment, workdir, change, log, warn, held) -> OpenedRun:
    """Opens the run and locks its directory until `held` is closed."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(workdir / LOCK, str(workdir), warn=warn))
    except OSError as error:
        raise UserError(f"{workdir}: cannot be written ({error.strerror}); use another --workdir") from error
    return open_run(content, corpus, experiment, workdir, change, log)


class _Run:
    """A run under way: what the loop holds between two steps."""

    def __init__(
        self,
        experiment: Experiment,
        corpus: Corpus,
        workdir: Path,
        opened: OpenedRun,
        log,
        warn,
        on_line,
        primary: bool,
    ):
        self.signals = contextlib.ExitStack()
        self.on_terminal = primary and sys.stderr.isatty()
        self.experiment, self.log = experiment, _above_the_bar(log) if self.on_terminal else log
        self.on_line = on_line
        self.mesh = make_mesh(*experiment.mesh)
        part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        self.batches = TrainBatches(corpus, experiment.batch_size, experiment.seed, **part)
        self.validation = ValidationBatches(corpus, experiment.batch_size, **part)
        masker = make_masker(experiment, corpus)
        self.train_step = make_train_step(experiment, masker, self.mesh)
        # Always 15 %, chosen uniformly, whatever the run trains with: every run answers the same questions.
        validation_masker = Masker(corpus.vocab_size, corpus.special_ids)
        self.evaluation = make_evaluation(experiment, validation_masker, self.mesh)
        steps = experiment.train.steps
        self.learning_rates = {name: learning_rate(of, steps) for name, of in experiment.optimizers.items()}
        self.peak = peak_flops(experiment.train.dtype, list(self.mesh.devices.flat))

        self.profiler = Profiler(experiment.train.profile_steps, workdir, self.log)
        self.checkpoints = Checkpoints(workdir, experiment.train.keep_checkpoints)
        first_batch = place_rows(self.validation[0], self.mesh)
        self.step, self.state, self.tokens, self.frozen = begin_or_resume(
            experiment, workdir, opened, self.checkpoints, self.mesh, validation_masker, first_batch, log, warn
        )
        self.untimed_tokens = int(self.state.tokens)  # of the open window, before a restart
        self.taken = 0  # tokens of the open window that are in self.tokens already
        self.taken_every = max(1, MOST_TOKENS // (experiment.batch_size * corpus.max_length))
        self.writers = on_leader(lambda: Writers(workdir, self.step, experiment.projects, opened.content, warn))
        self.seconds = last_seconds(workdir, warn) if primary else 0.0
        for line in describe_run(experiment, corpus, self.batches, self.mesh):
            self.log(line)

    def finish(self, started: Callable[[], str]) -> MetricLine:
        """Trains to the last step and returns the last validation record.

        Between two lines of the log nothing here waits for the device, or asks it anything: step follows step.

        Args:
          started: what to say after the first step.
        """
        settings = self.experiment.train
        bar = tqdm(total=settings.steps, initial=self.step, unit="step", disable=not self.on_terminal)
        start, paused = time.perf_counter(), 0.0
        last, first = None, self.step
        for step, batch in prefetch(PlacedRows(self.batches, self.mesh), first, settings.steps):
            if step == first:
                # XLA compiles for minutes and looks at no signal: until there is something to save, they end it all.
                self.state, result = interruptible(partial(self._first_step, batch))
                self.log(started())
                stop_requested = self.signals.enter_context(_stop_requests())
            else:
                paused += self.profiler.before_step(step, self.state)
                with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
                    self.state, result = self.train_step(self.state, self.frozen, batch)
            self.step = step + 1
            paused += self.profiler.after_step(self.step, self.state)
            bar.update()
            if self.step % self.taken_every == 0:
                self._take_tokens()
            final = self.step == settings.steps
            stop = self.checkpoints.reached_preemption(self.step) or stop_requested()
            logs, evaluates, saves = (
                final or self.step % every == 0
                for every in (settings.log_every, settings.eval_every, settings.checkpoint_every)
            )
            if logs or evaluates or saves or stop:
                self._check(result["finite"])
            if logs:
                self._log_line(time.perf_counter() - start - paused, result["gradient_norms"])
                start, paused = time.perf_counter(), 0.0
            elif stop:  # the next session counts on from here
                self._time(time.perf_counter() - start - paused, *self._measured())
            pause = time.perf_counter()
            if evaluates:
                last = self._evaluate()
            if saves or stop:
                self.checkpoints.save(self.step, self.state, self.tokens)
            paused += time.perf_counter() - pause
            if stop and not final:
                bar.close()
                raise Stopped(f"stopped at step {self.step:,} of {settings.steps:,}; run the same command to go on")
        bar.close()
        if last is None:  # the run had been finished before
            last = self._evaluate(write=False)
        return last

    def _first_step(self, batch: dict, watched: Callable) -> tuple[TrainState, dict]:
        del watched  # it iterates over nothing
        return jax.block_until_ready(self.train_step(self.state, self.frozen, batch))

    def close(self) -> None:
        # A second signal must not cut a checkpoint short. What is entered last is closed first, whatever fails.
        with self.signals, contextlib.ExitStack() as closing:
            closing.callback(self.checkpoints.close)
            if self.writers:
                closing.callback(self.writers.close)
            closing.callback(self.profiler.close)

    def _check(self, finite) -> None:
        if bool(finite):
            return
        advice = "a lower --config.optimizer.learning_rate or --config.optimizer.clip_norm"
        if self.experiment.train.dtype != "float32":
            advice += ", or --config.train.dtype=float32"
        saved = self.checkpoints.newest
        end = (
            "no step had been saved, so the run begins again: use "
            if saved is None
            else f"the last good checkpoint, step {saved:,}, is kept. Go on from it with --change and "
        )
        raise NonFinite(f"step {self.step:,}: the loss or a gradient is not finite; {end}{advice}")

    def _log_line(self, seconds: float, gradient_norms: dict) -> None:
        window, tokens = self._measured()
        self._take_tokens()
        self.state = reset_window(self.state)
        self.taken = 0
        line = record("train", self.step, self.tokens, window, self.experiment.cohort)
        rates = {name: np.asarray(rate(self.step - 1)).item() for name, rate in self.learning_rates.items()}
        line = with_optimizers(line, rates, jax.device_get(gradient_norms))
        self._write(line)
        rate, mfu, eta = self._time(seconds, window, tokens)
        self.untimed_tokens = 0
        far, fast = progress(self.step, self.experiment.train.steps, rate, mfu, eta)
        self.log(f"{far} | {describe(line)} | {fast}")

    def _write(self, line: MetricLine) -> None:
        if self.writers:
            self.writers.metrics(line)
            if self.on_line:
                self.on_line(line)

    def _measured(self) -> tuple[Terms, int]:
        """Returns the summed terms of the open window, and its tokens."""
        window, tokens = jax.device_get((self.state.window, self.state.tokens))
        return window, self.taken + int(tokens)

    def _take_tokens(self) -> None:
        """Moves the device's count of tokens to the host."""
        tokens = int(self.state.tokens)
        self.tokens, self.taken = self.tokens + tokens, self.taken + tokens
        self.state = self.state.replace(tokens=jax.numpy.zeros_like(self.state.tokens))

    def _time(self, seconds: float, window: Terms, tokens: int) -> tuple[float, float | None, float]:
        """Counts the open window's `seconds`, writes them down and returns (tokens a second, MFU, seconds to go)."""
        self.seconds += seconds
        rate = (tokens - self.untimed_tokens) / seconds
        predicted = next(iter(window.accuracy.values())).weight
        cost = flops_per_token(self.experiment, float(predicted) / max(tokens, 1))
        mfu = rate * cost / self.peak if self.peak else None
        eta = (self.experiment.train.steps - self.step) * self.seconds / self.step
        if self.writers:
            self.writers.timing(
                {
                    "step": self.step,
                    "seconds": self.seconds,
                    "tokens_per_second": rate,
                    "mfu": mfu,
                    "eta_seconds": eta,
                    "device": jax.devices()[0].device_kind,
                    "devices": jax.device_count(),
                    "peak_bytes": peak_bytes(list(self.mesh.devices.flat)),
                }
            )
        return rate, mfu, eta

    def _evaluate(self, write: bool = True) -> MetricLine:
        params = {**self.state.params, **self.frozen}
        batches = (place_rows(self.validation[index], self.mesh) for index in range(len(self.validation)))
        terms = self.evaluation(params, batches)
        tokens = self.tokens + int(self.state.tokens)
        line = record("validation", self.step, tokens, jax.device_get(terms), self.experiment.cohort)
        if write:
            self._write(line)
        self.log(f"step {self.step:,} validation | {describe(line)}")
        return line


@contextmanager
def _stop_requests():
    """Gives a function that says whether SIGTERM or SIGINT has come: the step under way is finished and saved first.

    A distributed run leaves SIGTERM to JAX, which makes all processes agree on the step to stop at.
    """
    asked = []
    if jax.distributed.is_initialized():
        stopping = handling(lambda *_: os.kill(os.getpid(), signal.SIGTERM), [signal.SIGINT])
    else:
        stopping = handling(lambda *_: asked.append(True))
    with stopping:
        yield lambda: bool(asked)


def _above_the_bar(log: Callable[[str], None]) -> Callable[[str], None]:
    def write(text: str) -> None:
        with tqdm.external_write_mode():
            log(text)

    return write


def _silent(text: str) -> None:
    del text
