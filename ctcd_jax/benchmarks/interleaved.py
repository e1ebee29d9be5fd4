"""Timing in separate processes that take turns, and ratios taken within a turn.

A machine that is shared slows down for seconds at a time. Variants that take turns are slowed more or less alike, so a
ratio of two neighbouring times is better than one of two averages. It is no cure: libraries whose threads wait
differently suffer differently, and a ratio between them needs a quiet machine. Each variant has a process of its own,
so that none inherits another's memory pools, threads or compiled code.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import IO, Any, TextIO, cast

from ctcd_jax.errors import first_line

WARM_UP_ROUNDS = 2

SCREENING_ROUNDS = 3

# What every worker is given over the shell's own variables; `bench.json` and the tables repeat it.
ENVIRONMENT = {
    # Several processes may share one GPU, of whose memory JAX would otherwise take most for the first.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # The time to compile is one of the figures.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}
NOTHING_MORE: Mapping[str, Mapping[str, str]] = {}


@dataclass(frozen=True)
class WorkerMeasurements:
    """What a worker said of itself when it was ready, and the seconds of its step in each round.

    A rival has the seconds of its screening besides; one that was not the fastest has no others.
    """

    facts: dict
    seconds: Sequence[float]
    screening: Sequence[float] = ()


def serve(step: Callable[[], object], report: Callable[[], dict], requests: Iterable[str], answers: TextIO) -> None:
    """The worker's side: compiles, says its facts in one line of JSON, then answers every "go" with a step's seconds.

    Args:
      step: does one step and returns when it is finished. If the first fails, its error is the reason to refuse.
      report: returns the facts, after the first step; "compile_seconds", which that took, is added.
      requests: lines; anything but "go" is an error.
      answers: gets a line for the facts and one for every step.
    """
    try:
        compile_seconds = seconds(step)
    except Exception as error:  # no compiler, no memory: the others are timed without it
        refuse(f"its first step failed: {type(error).__name__}: {first_line(error)}", answers)
        return
    print(json.dumps(report() | {"compile_seconds": compile_seconds}), file=answers, flush=True)
    for line in requests:
        if line.strip() != "go":
            raise ValueError(f"a worker's requests are 'go', not {line!r}")
        print(seconds(step), file=answers, flush=True)


def seconds(step: Callable[[], object]) -> float:
    """Returns what a call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def refuse(reason: str, answers: TextIO) -> None:
    """The worker's side, where it cannot serve here: why."""
    print(json.dumps({"error": reason}), file=answers, flush=True)


def interleave(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    warm_up: int = WARM_UP_ROUNDS,
    rivals: Sequence[str] = (),
    environments: Mapping[str, Mapping[str, str]] = NOTHING_MORE,
) -> tuple[dict[str, WorkerMeasurements], dict[str, str]]:
    """Starts one worker a command, one after another, and times their steps in turn, forwards and backwards.

    Args:
      commands: {variant: arguments of a program that calls `serve` on its stdin and stdout}.
      rounds: timed rounds.
      warm_up: rounds before them that are not timed.
      rivals: those of the variants of which the fastest alone is measured. They start first, take turns for `warm_up`
        and SCREENING_ROUNDS rounds, and all but the one of the least median end before the others start.
      environments: {variant: variables of its worker}, over ENVIRONMENT, which is over the variables of this process.

    Returns:
      {variant: WorkerMeasurements}, and {variant: reason} of those that could not start; the others were timed without
      them.

    Raises:
      RuntimeError: a worker ended in the middle; what it said of the reason is on stderr.
    """
    facts, refused, screening = {}, {}, {}
    with ExitStack() as running:
        workers = {}

        def start(names: Iterable[str]) -> None:
            for name in names:
                worker = running.enter_context(ExitStack())
                variables = {**ENVIRONMENT, **environments.get(name, {})}
                go, answer = worker.enter_context(_worker(name, commands[name], variables))
                try:
                    said = json.loads(answer())
                except RuntimeError as error:
                    said = {"error": str(error)}
                if "error" in said:
                    refused[name] = said["error"]
                else:
                    workers[name], facts[name] = _Running(go, answer, worker.close), said

        start(name for name in commands if name in rivals)
        if len(workers) > 1:
            screening = _take_turns(workers, warm_up, SCREENING_ROUNDS)
            fastest = min(workers, key=lambda name: median(screening[name]))
            for name in set(workers) - {fastest}:
                workers.pop(name).end()
        start(name for name in commands if name not in rivals)
        workers = {name: workers[name] for name in commands if name in workers}
        times = _take_turns(workers, warm_up, rounds)
    return {
        name: WorkerMeasurements(facts[name], times.get(name, []), screening.get(name, []))
        for name in commands
        if name in facts
    }, refused


@dataclass(frozen=True)
class _Running:
    """A worker: how to ask it for a step, how to read its next line, and how to end it."""

    go: Callable[[], None]
    answer: Callable[[], str]
    end: Callable[[], None]


def _take_turns(workers: Mapping[str, _Running], warm_up: int, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each worker's steps in rounds that go forwards and backwards, without the warm-up."""
    times = {name: [] for name in workers}
    for number in range(warm_up + rounds):
        for name in list(workers) if number % 2 == 0 else reversed(list(workers)):
            workers[name].go()
            times[name].append(float(workers[name].answer()))
    return {name: taken[warm_up:] for name, taken in times.items()}


def ratio(
    measured: Mapping[str, WorkerMeasurements], numerator: Sequence[str], denominator: Sequence[str]
) -> dict[str, Any]:
    """Returns {"rounds", "median", "min", "max"} of the quotient of two sums of seconds, taken round by round.

    Args:
      measured: by name, of equally many rounds.
      numerator, denominator: names whose seconds are added up.
    """
    above, below = (
        [sum(times) for times in zip(*(measured[name].seconds for name in names), strict=True)]
        for names in (numerator, denominator)
    )
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    return {"rounds": rounds, **spread(rounds)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, least and greatest of `values`."""
    return {"median": median(values), "min": min(values), "max": max(values)}


@contextmanager
def _worker(
    name: str, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[Callable[[], None], Callable[[], str]]]:
    """Yields (go, answer): how to ask the worker for a step, and how to read its next line."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | environment
    ) as process:
        questions, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

        def go() -> None:
            with suppress(BrokenPipeError):  # it has ended, as its missing answer will say
                questions.write("go\n")

        def answer() -> str:
            line = answers.readline()
            if not line:
                raise RuntimeError(f"the worker '{name}' ended with code {process.wait()}; see above")
            return line

        try:
            yield go, answer
        finally:
            process.kill()  # it has nothing to save, and may be in the middle of compiling
            with suppress(BrokenPipeError):  # of a "go" that it did not live to read
                questions.close()


def python_module(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module in this Python."""
    return [sys.executable, "-m", module, *arguments]
