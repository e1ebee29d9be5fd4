"""The training loop: thin wiring of corpus, step, metrics and checkpoints. Kill it at any moment and run it again."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from ctcd_jax.compilation import CompilationCount
from ctcd_jax.config import Experiment, corpus_directory, resolve
from ctcd_jax.data import Corpus, TrainBatches, ValidationBatches, prefetch
from ctcd_jax.errors import NonFinite, Stopped
from ctcd_jax.hardware import peak_flops
from ctcd_jax.initial import read_run
from ctcd_jax.stopping import handling
from ctcd_jax.training.checkpoint import Checkpoints
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.masking import Masker
from ctcd_jax.training.members import frozen_params, probe, report_probe, trained_params, warn_of_twins
from ctcd_jax.training.metrics import Writers, describe, last_seconds, progress, record
from ctcd_jax.training.run import open_run
from ctcd_jax.training.sharding import PlacedRows, make_mesh, place, place_rows, replicated
from ctcd_jax.training.state import TrainState, abstract_state, init_state, parameter_count, reset_window
from ctcd_jax.training.step import make_evaluation, make_train_step


def train(
    config: ConfigDict,
    workdir: str | Path,
    log: Callable[[str], None] = print,
    began: float | None = None,
) -> dict:
    """Trains a cohort, or goes on where it stopped, and returns the last validation record.

    Args:
      began: time.perf_counter() at the start of the command, for the log; None for now.

    Raises:
      UserError: something the user can mend, in one line.
      NonFinite, Stopped: see there.
    """
    began = time.perf_counter() if began is None else began
    workdir = Path(workdir)
    corpus = Corpus.open(corpus_directory(config))
    begun = read_run(workdir)["resolved"]["models"] if (workdir / "config.json").is_file() else None
    experiment = resolve(config, corpus, jax.device_count(), begun)
    leads = jax.process_index() == 0
    content = open_run(config, experiment, corpus, workdir, leads)
    if jax.process_count() > 1:  # the others must not look into a directory that is still being made
        multihost_utils.sync_global_devices("run opened")
    with _stop_requests() as stop_requested, CompilationCount() as compiled:
        run = _Run(experiment, corpus, workdir, content, log if leads else _silent, leads)
        try:
            return run.finish(
                stop_requested, lambda: f"first step after {time.perf_counter() - began:.1f} s ({compiled})"
            )
        finally:
            run.close()


# Real tokens are counted on the device in an int32, which goes no further; the host takes over before.
MOST_TOKENS = 2**31 - 1


def make_masker(experiment: Experiment, corpus: Corpus) -> Masker:
    """Returns the masker of a run on a corpus."""
    return Masker(
        corpus.vocab_size,
        corpus.special_ids,
        rate=experiment.masking_rate,
        frequencies=corpus.token_frequencies,
        smoothing=experiment.masking_smoothing,
    )


class _Run:
    """A run under way: what the loop holds between two steps."""

    def __init__(self, experiment: Experiment, corpus: Corpus, workdir: Path, content: dict, log, leads: bool):
        self.on_terminal = leads and sys.stderr.isatty()
        self.experiment, self.log = experiment, _above_the_bar(log) if self.on_terminal else log
        self.mesh = make_mesh(*experiment.mesh)
        part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        self.batches = TrainBatches(corpus, experiment.batch_size, experiment.seed, **part)
        self.validation = ValidationBatches(corpus, experiment.batch_size, **part)
        masker = make_masker(experiment, corpus)
        self.train_step = make_train_step(experiment, masker, self.mesh)
        # Always 15 %, chosen uniformly, whatever the run trains with: every run answers the same questions.
        asking = Masker(corpus.vocab_size, corpus.special_ids)
        self.evaluation = make_evaluation(experiment, asking, self.mesh)
        self.peak = peak_flops(experiment.train.dtype)

        self.checkpoints = Checkpoints(workdir, experiment.train.keep_checkpoints)
        whole = replicated(self.mesh)
        frozen = frozen_params(experiment, workdir, self.checkpoints.begun, leads)
        self.frozen = {name: place(tree, jax.tree.map(lambda _: whole, tree)) for name, tree in frozen.items()}
        for name in experiment.cohort.frozen:
            batch = place_rows(self.validation[0], self.mesh)
            report_probe(name, *probe(experiment, asking, name, self.frozen[name], batch), log, _warner(log))

        restored = None
        if self.checkpoints.begun:
            restored = self.checkpoints.restore(abstract_state(experiment, self.mesh), _warner(log))
        if restored is None:
            params = trained_params(experiment, frozen)
            warn_of_twins(experiment, params, _warner(log))
            self.step, self.state, self.tokens = 0, init_state(experiment, self.mesh, params), 0
        else:
            self.step, self.state, self.tokens = restored
            log(f"resumed at step {self.step:,} of {experiment.train.steps:,}")
        self.untimed_tokens = int(self.state.tokens)  # of the open window, before a restart
        self.taken = 0  # tokens of the open window that are in self.tokens already
        self.taken_every = max(1, MOST_TOKENS // (experiment.batch_size * corpus.max_length))
        self.writers = Writers(workdir, self.step, experiment.wandb_project, content) if leads else None
        self.seconds = last_seconds(workdir) if leads else 0.0
        self._announce(corpus)

    def finish(self, stop_requested: Callable[[], bool], started: Callable[[], str]) -> dict:
        """Trains to the last step and returns the last validation record.

        Between two lines of the log nothing here waits for the device, or asks it anything: step follows step.

        Args:
          started: what to say after the first step.
        """
        settings = self.experiment.train
        bar = tqdm(total=settings.steps, initial=self.step, unit="step", disable=not self.on_terminal)
        began, paused = time.perf_counter(), 0.0
        last, first = None, self.step
        for step, batch in prefetch(PlacedRows(self.batches, self.mesh), first, settings.steps):
            self.state, result = self.train_step(self.state, self.frozen, batch)
            self.step = step + 1
            if step == first:
                jax.block_until_ready(result)
                self.log(started())
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
                self._log_line(time.perf_counter() - began - paused)
                began, paused = time.perf_counter(), 0.0
            elif stop:  # the next session counts on from here
                self._time(time.perf_counter() - began - paused, *self._measured())
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

    def close(self) -> None:
        if self.writers:
            self.writers.close()
        self.checkpoints.close()

    def _check(self, finite) -> None:
        if not bool(finite):
            raise NonFinite(
                f"step {self.step:,}: the loss or a gradient is not finite; the last good checkpoint is kept. Lower "
                "optimizer.learning_rate, or use --config.train.dtype=float32"
            )

    def _log_line(self, seconds: float) -> None:
        window, tokens = self._measured()
        self._take_tokens()
        self.state = reset_window(self.state)
        self.taken = 0
        line = record("train", self.step, self.tokens, window)
        if self.writers:
            self.writers.metrics(line)
        rate, mfu, eta = self._time(seconds, window, tokens)
        self.untimed_tokens = 0
        far, fast = progress(self.step, self.experiment.train.steps, rate, mfu, eta)
        self.log(f"{far} | {describe(line)} | {fast}")

    def _measured(self) -> tuple[dict, int]:
        """Returns the summed terms of the open window, and its tokens."""
        window, tokens = jax.device_get((self.state.window, self.state.tokens))
        return window, self.taken + int(tokens)

    def _take_tokens(self) -> None:
        """Moves the device's count of tokens to the host."""
        tokens = int(self.state.tokens)
        self.tokens, self.taken = self.tokens + tokens, self.taken + tokens
        self.state = self.state.replace(tokens=jax.numpy.zeros_like(self.state.tokens))

    def _time(self, seconds: float, window: dict, tokens: int) -> tuple[float, float | None, float]:
        """Counts the open window's `seconds`, writes them down and returns (tokens a second, MFU, seconds to go)."""
        self.seconds += seconds
        rate = (tokens - self.untimed_tokens) / seconds
        predicted = next(weight for name, (_, weight) in window.items() if name.startswith("accuracy/"))
        cost = flops_per_token(self.experiment, float(predicted) / max(tokens, 1))
        mfu = rate * cost / self.peak if self.peak else None
        eta = (self.experiment.train.steps - self.step) * self.seconds / self.step
        if self.writers:
            self.writers.timing(
                {"step": self.step, "seconds": self.seconds, "tokens_per_second": rate, "mfu": mfu, "eta_seconds": eta}
                | {"device": jax.devices()[0].device_kind, "devices": jax.device_count()}
            )
        return rate, mfu, eta

    def _evaluate(self, write: bool = True) -> dict:
        params = {name: member.params for name, member in self.state.members.items()} | self.frozen
        batches = (place_rows(self.validation[index], self.mesh) for index in range(len(self.validation)))
        terms = self.evaluation(params, batches)
        line = record("validation", self.step, self.tokens + int(self.state.tokens), jax.device_get(terms))
        if write and self.writers:
            self.writers.metrics(line)
        self.log(f"step {self.step:,} validation | {describe(line)}")
        return line

    def _announce(self, corpus: Corpus) -> None:
        settings = self.experiment.train
        for line in describe_members(self.experiment, self.state, self.frozen):
            self.log(line)
        self.log(
            f"corpus {corpus.directory}: {corpus.rows('train'):,} rows; {settings.steps:,} steps of "
            f"{self.experiment.batch_size} rows = {epochs(settings.steps, self.batches)}; "
            f"{settings.dtype} on {jax.device_count()} x {jax.devices()[0].device_kind}, "
            f"mesh {dict(self.mesh.shape)}"
        )


def epochs(steps: int, batches: TrainBatches) -> str:
    """Returns how often `steps` go through the rows, and what an epoch leaves out."""
    text = f"{steps / batches.steps_per_epoch:.2f} epochs"
    if left := batches.left_out:
        text += f" (each leaves out {left:,} row{'s' if left > 1 else ''}, others every time: they fill no batch)"
    return text


def describe_members(experiment: Experiment, state: TrainState, frozen: dict) -> list[str]:
    """Returns a line for every member and one for the edges."""
    lines = []
    for name, model in experiment.models.items():
        params = frozen[name] if name in frozen else state.members[name].params
        kind = "frozen" if name in frozen else "trainable"
        lines.append(
            f"{name}: {model.layers} layers, hidden {model.hidden}, {parameter_count(params):,} parameters, {kind}"
        )
    if experiment.cohort.edges:
        lines.append("edges: " + ", ".join(f"{edge.name} x {edge.weight:g}" for edge in experiment.cohort.edges))
    return lines


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


def _warner(log: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: log(f"WARNING: {text}")


def _silent(text: str) -> None:
    del text
