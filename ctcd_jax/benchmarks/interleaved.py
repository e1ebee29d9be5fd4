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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TextIO

from ctcd_jax.errors import UserError

WARM_UP_ROUNDS = 3

ENVIRONMENT = {
    # Several processes may share one GPU, of whose memory JAX would otherwise take most for the first.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # PyTorch's OpenMP threads spin while they wait. Where another program holds one of two cores, every operation then
    # waits for a time slice: a step took 14 s instead of 1.3. Asleep, it took 1.3 on the same machine when quiet.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Measured:
    """What a worker said of itself when it was ready, and the seconds of its step in each round."""

    facts: dict
    seconds: Sequence[float]


def serve(step: Callable[[], object], facts: dict, requests: Iterable[str], answers: TextIO) -> None:
    """The worker's side: compiles, says its facts in one line of JSON, then answers every "go" with a step's seconds.

    Args:
      step: does one step and returns when it is finished.
      requests: lines; anything but "go" is an error.
    """
    step()
    print(json.dumps(facts), file=answers, flush=True)
    for line in requests:
        if line.strip() != "go":
            raise ValueError(f"a worker is told 'go', not {line!r}")
        began = time.perf_counter()
        step()
        print(time.perf_counter() - began, file=answers, flush=True)


def interleave(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Measured]:
    """Starts one worker a command and times their steps in turn, forwards and backwards through the list.

    Args:
      commands: {variant: arguments of a program that calls `serve` on its stdin and stdout}.
      rounds: timed rounds, after a few that are not timed.

    Raises:
      UserError: a worker cannot do its work here.
      RuntimeError: a worker ended; what it said of the reason is on stderr.
    """
    with ExitStack() as running:
        workers = {name: running.enter_context(_worker(name, command)) for name, command in commands.items()}
        facts = {name: _facts(answer()) for name, (_, answer) in workers.items()}
        seconds = {name: [] for name in workers}
        for number in range(WARM_UP_ROUNDS + rounds):
            for name in list(workers) if number % 2 == 0 else reversed(workers):
                go, answer = workers[name]
                go()
                seconds[name].append(float(answer()))
    return {name: Measured(facts[name], seconds[name][WARM_UP_ROUNDS:]) for name in workers}


def refuse(error: UserError, answers: TextIO) -> None:
    """The worker's side, where it cannot serve: the user's process raises the error."""
    print(json.dumps({"error": str(error)}), file=answers, flush=True)


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


def _facts(line: str) -> dict:
    facts = json.loads(line)
    if "error" in facts:
        raise UserError(facts["error"])
    return facts


@contextmanager
def _worker(name: str, command: Sequence[str]) -> Iterator[tuple[Callable[[], None], Callable[[], str]]]:
    """Yields (go, answer): how to ask the worker for a step, and how to read its next line."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | ENVIRONMENT
    ) as process:

        def go() -> None:
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


def python_module(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module in this Python."""
    return [sys.executable, "-m", module, *arguments]
