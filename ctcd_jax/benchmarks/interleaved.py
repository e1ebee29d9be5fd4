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
from typing import TextIO

WARM_UP_ROUNDS = 2

ENVIRONMENT = {
    # Several processes may share one GPU, of whose memory JAX would otherwise take most for the first.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # PyTorch's OpenMP threads spin while they wait. Where another program holds one of two cores, every operation then
    # waits for a time slice: a step took 14 s instead of 1.3. Asleep, it took 1.3 on the same machine when quiet.
    "OMP_WAIT_POLICY": "PASSIVE",
    # The time to compile is one of the figures.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}


@dataclass(frozen=True)
class Measured:
    """What a worker said of itself when it was ready, and the seconds of its step in each round."""

    facts: dict
    seconds: Sequence[float]


def serve(step: Callable[[], object], report: Callable[[], dict], requests: Iterable[str], answers: TextIO) -> None:
    """The worker's side: compiles, says its facts in one line of JSON, then answers every "go" with a step's seconds.

    Args:
      step: does one step and returns when it is finished.
      report: returns the facts, after the first step; "compile_seconds", which that took, is added.
      requests: lines; anything but "go" is an error.
    """
    compile_seconds = seconds(step)
    print(json.dumps(report() | {"compile_seconds": compile_seconds}), file=answers, flush=True)
    for line in requests:
        if line.strip() != "go":
            raise ValueError(f"a worker is told 'go', not {line!r}")
        print(seconds(step), file=answers, flush=True)


def seconds(step: Callable[[], object]) -> float:
    """Returns what a call takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def refuse(reason: str, answers: TextIO) -> None:
    """The worker's side, where it cannot serve here: why."""
    print(json.dumps({"error": reason}), file=answers, flush=True)


def interleave(
    commands: Mapping[str, Sequence[str]], rounds: int, warm_up: int = WARM_UP_ROUNDS
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Starts one worker a command, one after another, and times their steps in turn, forwards and backwards.

    Args:
      commands: {variant: arguments of a program that calls `serve` on its stdin and stdout}.
      rounds: timed rounds, after `warm_up` that are not timed.

    Returns:
      {variant: Measured}, and {variant: reason} of those that could not start; the others were timed without them.

    Raises:
      RuntimeError: a worker ended in the middle; what it said of the reason is on stderr.
    """
    facts, refused = {}, {}
    with ExitStack() as running:
        workers = {}
        for name, command in commands.items():
            go, answer = running.enter_context(_worker(name, command))
            try:
                said = json.loads(answer())
            except RuntimeError as error:
                said = {"error": str(error)}
            if "error" in said:
                refused[name] = said["error"]
            else:
                workers[name], facts[name] = (go, answer), said
        times = {name: [] for name in workers}
        for number in range(warm_up + rounds):
            for name in list(workers) if number % 2 == 0 else reversed(workers):
                go, answer = workers[name]
                go()
                times[name].append(float(answer()))
    return {name: Measured(facts[name], times[name][warm_up:]) for name in workers}, refused


def ratio(
    measured: Mapping[str, Measured], numerator: Sequence[str], denominator: Sequence[str]
) -> dict[str, float | list[float]]:
    """Returns {"rounds", "median", "min", "max"} of the quotient of two sums of seconds, taken round by round."""
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
def _worker(name: str, command: Sequence[str]) -> Iterator[tuple[Callable[[], None], Callable[[], str]]]:
    """Yields (go, answer): how to ask the worker for a step, and how to read its next line."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | ENVIRONMENT
    ) as process:

        def go() -> None:
            with suppress(BrokenPipeError):  # it has ended, as its missing answer will say
                process.stdin.write("go\n")

        def answer() -> str:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the worker '{name}' ended with code {process.wait()}; see above")
            return line

        try:
            yield go, answer
        finally:
            process.kill()  # it has nothing to save, and may be in the middle of compiling
            with suppress(BrokenPipeError):  # of a "go" that it did not live to read
                process.stdin.close()


def python_module(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module in this Python."""
    return [sys.executable, "-m", module, *arguments]
