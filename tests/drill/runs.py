"""The runs of the drill, and what is demanded of them."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from ctcd_jax.training.checkpoint import load_member, saved_steps
from tests.small import CONFIG_FILE, config, make_corpus

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 60, 7


class Failed(Exception):
    """Something is not as it should be."""


@dataclass
class Count:
    """What came of one kind of trouble.

    Attributes:
      tried: times.
      seen: what was noted of each, counted.
      failed: what was not as it should be.
    """

    tried: int = 0
    seen: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Counts one time; what fails in the block is kept, and the others are tried all the same."""
        self.tried += 1
        try:
            yield
        except Failed as error:
            self.failed.append(str(error))
            print(f"FAILED: {error}", flush=True)


class Drill:
    """The runs and what they are held against."""

    def __init__(self, place: Path, share: float, seed: int):
        self.place, self.share, self.rng = place, share, random.Random(seed)
        (place / "text").mkdir(parents=True)
        self.corpus = make_corpus(place / "text", validation=0.5)  # so that evaluations are struck, too
        self.config = place / "small.py"
        self.config.write_text(CONFIG_FILE)
        self.undisturbed = self.to_the_end("undisturbed")
        begun = time.perf_counter()
        same(self.to_the_end("again"), self.undisturbed)
        self.seconds = time.perf_counter() - begun  # of a command whose programs are compiled already

    def times(self, all_of_them: int) -> range:
        return range(max(1, round(self.share * all_of_them)))

    def command(self, workdir: Path, launcher: tuple[str, ...] = ("-m", "ctcd_jax"), **fields) -> list[str]:
        given = {"data.corpus": self.corpus, "train.steps": STEPS, "train.checkpoint_every": EVERY} | fields
        config = [f"--config.{name.replace('__', '.')}={value}" for name, value in given.items()]
        return [sys.executable, *launcher, "train", "--config", str(self.config), "--workdir", str(workdir), *config]

    def start(self, command: list[str], devices: int = 1) -> subprocess.Popen:
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, command: list[str], expected: int = 0, devices: int = 1) -> str:
        """Returns what a command said, which must end with a code."""
        process = self.start(command, devices)
        said = process.communicate()[0]
        demand(process.returncode == expected, f"code {process.returncode} and not {expected}: {said[-500:]}")
        return said

    def to_the_end(self, name: str, **options) -> Path:
        self.run(self.command(self.place / name, **options))
        return self.place / name

    def unused(self, name: str) -> Path:
        """A place where nothing is any more."""
        shutil.rmtree(self.place / name, ignore_errors=True)
        return self.place / name

    def copy(self, name: str) -> Path:
        """The finished run again, its saved steps and all."""
        return Path(shutil.copytree(self.undisturbed, self.unused(name)))

    def finished_before(self, count: Count, run: Path, whole: Path) -> None:
        """Counts a run that was not struck, holds it against a whole one, and makes room for the next."""
        count.seen["it was done before"] += 1
        same(Path(shutil.move(run, self.unused("finished"))), whole)

    def strike(self, process: subprocess.Popen, blow: Callable[[], None], longest: float) -> None:
        """Waits for a moment of the run and strikes, unless the run is done by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.rng.uniform(0.3, longest))
        if process.poll() is None:
            blow()


def demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def same(run: Path, whole: Path) -> None:
    """Demands that a run has ended as another: bytes of its metrics, bits of its parameters."""
    ours, theirs = ((place / "metrics.jsonl").read_bytes() for place in (run, whole))
    demand(ours == theirs, f"{run}: metrics.jsonl differs from the undisturbed run's")
    steps_once(run)
    for member in json.loads((whole / "config.json").read_text())["members"]:
        for mine, other in zip(*(leaves(place, member) for place in (run, whole)), strict=True):
            demand(mine.tobytes() == other.tobytes(), f"{run}: parameters of {member} differ")


def leaves(run: Path, member: str) -> list[np.ndarray]:
    return jax.tree.leaves(load_member(run, member)[1])


def steps_once(run: Path) -> None:
    """Demands that every step that is logged or evaluated is there once, in order, up to the last."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for kind in ("train", "validation"):
        steps = [line["step"] for line in lines if line["kind"] == kind]
        demand(steps == sorted(set(steps)) and steps[-1] == STEPS, f"{run}: {kind} lines of steps {steps}")


class Moments:
    """Tells what a command is at that is about to be started, as the run's directory shows it."""

    def __init__(self, run: Path):
        self._run, self._begun, self._from = run, time.time(), max(saved_steps(run), default=0)

    def phase(self) -> str:
        metrics = self._run / "metrics.jsonl"
        if not metrics.is_file() or metrics.stat().st_mtime < self._begun:
            return "before its first line"
        *lines, _ = metrics.read_text().split("\n")  # the last may just be written
        last = json.loads(lines[-1]) if lines else {"step": 0}
        if last["step"] <= self._from:  # what was there; it was cut after that step
            return "before its first line"
        if list((self._run / "checkpoints").glob("*tmp*")):
            return "while a step is saved"
        evaluates = last["kind"] == "train" and last["step"] % config(self._run).train.eval_every == 0
        return "while it is evaluated" if evaluates else "between these"
