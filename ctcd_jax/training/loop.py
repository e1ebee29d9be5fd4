"""The training loop: thin wiring of corpus, step, metrics and checkpoints. Kill it at any moment and run it again."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from ctcd_jax.artifacts.overfitting import Overfitting, teach_each_other
from ctcd_jax.artifacts.runs import LOCK, METRICS, MetricLine
from ctcd_jax.config import Experiment, corpus_directory, resolve
from ctcd_jax.data import Corpus, TrainBatches, prefetch
from ctcd_jax.distill.objective import Terms
from ctcd_jax.errors import NonFinite, Stopped, UserError, warn
from ctcd_jax.files import locked
from ctcd_jax.runtime.compilation import CompilationCount, keep_programs
from ctcd_jax.runtime.distributed import on_leader, stop_requests
from ctcd_jax.runtime.hardware import peak_bytes, peak_flops
from ctcd_jax.runtime.stopping import interruptible
from ctcd_jax.stores import is_remote, working_copy
from ctcd_jax.training.ahead import compiling
from ctcd_jax.training.best import describe_end, ends_early, evaluated
from ctcd_jax.training.checkpoint import Checkpoints
from ctcd_jax.training.clock import Clock
from ctcd_jax.training.console import Bar, Console, above_the_bar, describe_hard
from ctcd_jax.training.describe import describe_little_learnt, describe_run
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.held_out import Evaluation, open_others
from ctcd_jax.training.masking import make_masker
from ctcd_jax.training.metrics import Writers, last_seconds, read_lines, record, with_optimizers
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
from ctcd_jax.training.sharding import PlacedRows, make_mesh
from ctcd_jax.training.state import TrainState, reset_window
from ctcd_jax.training.step import make_train_step

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
    on_saved: Callable[[], None] = lambda: None,
) -> MetricLine:
    """Trains a cohort, or goes on where it stopped, and returns the last validation record.

    Compiled programs are kept for the next run (`keep_programs`), from Python as from the command line.

    Args:
      config: as `load_config` returns it.
      workdir: of the run, made if it is not there; or a folder of a store, gs://BUCKET/RUN: a copy is worked in, and
        sent whenever a step has been saved.
      log: called with each line of progress.
      start: time.perf_counter() at the start of the command, for the log; None for now.
      change: whether the config may extend or repair the run that is there (`history`).
      warn: called with a line about what may be wrong.
      on_line: called on the leading process with each line of metrics.jsonl, "train" and "validation", right after it
        is written; training waits for it. What it raises ends the session; the next goes on from the newest saved step.
      on_saved: called in the background on the leading process whenever a step has been saved.

    Raises:
      UserError: a user error, in one line.
      NonFinite, Stopped: see there.
    """
    start = time.perf_counter() if start is None else start
    if is_remote(workdir):
        if jax.process_count() > 1:
            raise UserError(f"--workdir {workdir}: several processes need a disk that all see; mount the bucket there")
        with working_copy(str(workdir), log, warn) as copy:

            def sent() -> None:
                copy.send_soon()
                on_saved()

            return train(config, copy.directory, log, start, change, warn, on_line, sent)
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
    others = open_others(experiment, corpus)
    content = run_content(config, experiment, corpus)
    check_processes(content, change)
    with contextlib.ExitStack() as held, CompilationCount() as compiled:
        # The others must not look into a directory that is still being made: they wait for the leading process.
        opened = share(on_leader(lambda: _open(content, corpus, experiment, workdir, change, log, warn, held)))
        run = _Run(experiment, corpus, others, workdir, opened, log, warn, on_line, on_saved, primary)
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
        others: Mapping[str, Corpus],
        workdir: Path,
        opened: OpenedRun,
        log,
        warn,
        on_line,
        on_saved,
        primary: bool,
    ):
        self.signals = contextlib.ExitStack()
        self.on_terminal = primary and sys.stderr.isatty()
        if self.on_terminal:
            log, warn = above_the_bar(log), above_the_bar(warn)
        self.experiment, self.log, self.warn, self.on_line = experiment, log, warn, on_line
        self.mesh = make_mesh(*experiment.mesh)
        part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        self.batches = TrainBatches(corpus, experiment.batch_size, experiment.seed, **part)
        self.evaluation = Evaluation(experiment, corpus, others, self.mesh)
        self.train_step = make_train_step(experiment, make_masker(experiment, corpus), self.mesh)
        steps = experiment.train.steps
        self.learning_rates = {name: learning_rate(of, steps) for name, of in experiment.optimizers.items()}
        self.peak = peak_flops(experiment.train.dtype, list(self.mesh.devices.flat))
        self.console = Console(log, steps, has_mfu=self.peak is not None)

        self.profiler = Profiler(experiment.train.profile_steps, workdir, self.log)
        kept = experiment.train.keep_checkpoints, experiment.train.keep_every
        self.checkpoints = Checkpoints(workdir, *kept, on_saved, warn)
        meanwhile = compiling(self.train_step, experiment, self.mesh, lambda: self.batches[0])
        self.step, self.state, self.tokens, self.frozen, self.best = begin_or_resume(
            experiment, workdir, opened, self.checkpoints, self.mesh, self.evaluation, meanwhile, log, warn
        )
        self.taken = 0  # tokens of the open window that are in self.tokens already
        self.taken_every = max(1, MOST_TOKENS // (experiment.batch_size * corpus.max_length))
        self.writers = on_leader(lambda: Writers(workdir, self.step, experiment.projects, opened.content, warn))
        taught = teach_each_other((edge.source, edge.target) for edge in experiment.cohort.edges)
        self.overfitting = Overfitting(read_lines(workdir / METRICS, warn) if self.writers else (), taught)
        self.seconds = last_seconds(workdir, warn) if primary else 0.0  # of the sessions before
        for line in describe_run(experiment, corpus, self.batches, self.mesh):
            self.log(line)

    def finish(self, started: Callable[[], str]) -> MetricLine:
        """Trains to the last step and returns the last validation record.

        Between two lines of the log nothing here waits for the device, or asks it anything: step follows step.

        Args:
          started: what to say after the first step.
        """
        with contextlib.closing(Bar(self.experiment.train.steps, self.step, self.on_terminal)) as bar:
            last = self._train(started, bar)
        last = last or self._evaluate(write=False)  # the run had been finished before
        if self.writers:
            for said in describe_little_learnt(last, self.experiment.cohort.trainable, self.overfitting.lowest):
                self.warn(said)
        return last

    def _train(self, started: Callable[[], str], bar: Bar) -> MetricLine | None:
        settings = self.experiment.train
        last, first = None, self.step
        self.clock = Clock(self.seconds, first)
        ended = first < settings.steps and ends_early(self.best, settings)
        for step, batch in prefetch(PlacedRows(self.batches, self.mesh), first, first if ended else settings.steps):
            if step == first:
                # XLA compiles for minutes and looks at no signal: until there is something to save, they end it all.
                first_result = interruptible(partial(self._first_step, batch))
                self.state, result = jax.block_until_ready(first_result)
                self.log(started())
                stop_requested = self.signals.enter_context(stop_requests())
            else:
                self.clock.skip(self.profiler.before_step(step, self.state))
                with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
                    self.state, result = self.train_step(self.state, self.frozen, batch)
            self.step = step + 1
            self.clock.skip(self.profiler.after_step(self.step, self.state))
            bar.dispatched(result["finite"])
            if self.step % self.taken_every == 0:
                self._take_tokens()
            final = self.step == settings.steps
            stop = self.checkpoints.reached_preemption(self.step) or stop_requested()
            logs, evaluates, saves = (
                final or self.step % every == 0
                for every in (settings.log_every, settings.eval_every, settings.checkpoint_every)
            )
            if step == first:
                self._begin_timing(say=not logs)
            if logs or evaluates or saves or stop:
                self._check(result["finite"])
            if logs:
                bar.show(describe_hard(self._log_line(result["gradient_norms"])["members"], {}))
            elif stop:  # the next session counts on from here
                self._time(*self._measured())
            with self.clock.pause():
                if evaluates:
                    last = self._evaluate()
                ended = evaluates and not final and ends_early(self.best, settings)
                is_best = self.best is not None and self.best["step"] == self.step
                if saves or stop or is_best or ended:
                    self.checkpoints.save(self.step, self.state, self.tokens, self.best)
            if ended:
                break
            if stop and not final:
                raise Stopped(f"stopped at step {self.step:,} of {settings.steps:,}; run the same command to go on")
        if ended and self.best:
            self.log(describe_end(self.best, settings, self.step))
        return last

    def _first_step(self, batch: dict, watched: Callable) -> tuple[TrainState, dict]:
        del watched  # it iterates over nothing
        return self.train_step(self.state, self.frozen, batch)

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

    def _begin_timing(self, say: bool) -> None:
        """Ends the start-up, after the first step of a session; `say`: its figures, without waiting for a line's."""
        window, tokens = self._measured()
        self.clock.started(self.step, tokens)
        if say:
            line = self._record(window)
            self.console.train(line, None, None, None)

    def _log_line(self, gradient_norms: dict) -> MetricLine:
        window, tokens = self._measured()
        self._take_tokens()
        self.state = reset_window(self.state)
        self.taken = 0
        line = self._record(window)
        rates = {name: np.asarray(rate(self.step - 1)).item() for name, rate in self.learning_rates.items()}
        line = with_optimizers(line, rates, jax.device_get(gradient_norms))
        self._write(line)
        self.console.train(line, *self._time(window, tokens))
        return line

    def _record(self, window: Terms) -> MetricLine:
        experiment = self.experiment
        return record("train", self.step, self.tokens, window, experiment.cohort, experiment.train.steps)

    def _write(self, line: MetricLine) -> None:
        if self.writers:
            self.writers.metrics(line)
            if said := self.overfitting.take(line):
                self.warn(said)
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

    def _time(self, window: Terms, tokens: int) -> tuple[float | None, float | None, float | None]:
        """Writes down how long it took since the last line, and returns (tokens a second, MFU, seconds to go)."""
        rate, pace = self.clock.lap(self.step, tokens)
        predicted = next(iter(window.accuracy.values())).weight
        cost = flops_per_token(self.experiment, float(predicted) / max(tokens, 1))
        mfu = rate * cost / self.peak if self.peak and rate is not None else None
        eta = None if pace is None else (self.experiment.train.steps - self.step) * pace
        if self.writers:
            self.writers.timing(
                {
                    "step": self.step,
                    "seconds": self.clock.seconds,
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
        line = self.evaluation.line(params, self.step, self.tokens + int(self.state.tokens))
        if write:
            self._write(line)
            if member := self.experiment.train.keep_best:
                self.best = evaluated(self.best, member, self.step, line["members"][member].get("hard"))
        self.console.validation(line)
        return line


def _silent(text: str) -> None:
    del text
