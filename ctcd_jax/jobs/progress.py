"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from ctcd_jax.jobs.duration import duration

T = TypeVar("T")

_LINE_EVERY = 10.0  # seconds


class Display:
    """How far jobs are: a bar on a terminal, else a line now and then; the time left is in proportion to the cost.

    Args:
      jobs: how many there are.
      cost: of all of them, in any unit.
      log: takes a line.
      label: what is being done, the beginning of the lines that are said now and then.
      unit: what `look` counts besides, e.g. "sentences"; its rate is shown.
      every: seconds without a line after which there is one.
    """

    def __init__(
        self,
        jobs: int,
        cost: float,
        log: Callable[[str], None],
        *,
        label: str = "",
        unit: str = "",
        every: float = 300.0,
    ):
        self._jobs, self._cost, self._log = jobs, max(cost, 1e-9), log
        self._label, self._unit, self._every = label and f"{label}: ", unit, every
        self._ended, self._spent, self._running, self._count = 0, 0.0, 0.0, 0
        self._began = self._said = time.monotonic()
        self._bar = None

    def __enter__(self) -> "Display":
        if self._jobs and sys.stderr.isatty():
            layout = "{desc}{percentage:3.0f}%|{bar}| {unit}"
            self._bar = tqdm(total=1.0, desc=self._label, unit="", bar_format=layout, leave=False)
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()

    def look(self, running: float, count: int = 0) -> None:
        """Takes the cost of what the running jobs have done, and how many units all jobs have."""
        self._running, self._count = running, count
        self._refresh()
        if self._bar is None and time.monotonic() - self._said > self._every:
            self.say(f"{self._label}{self._share():.0%}")

    def ended(self, cost: float, line: str | None = None) -> None:
        """Counts a job that has ended, and says its line."""
        self._ended += 1
        self._spent += cost
        self._running = max(self._running - cost, 0.0)
        if line is not None:
            self.say(line)
        self._refresh()

    def say(self, line: str) -> None:
        """Says a line, and how far all is."""
        self._said = time.monotonic()
        text = f"{line}  [{self._state()}]"
        if self._bar is None:
            self._log(text)
        else:
            self._bar.write(text)

    def _state(self) -> str:
        """Returns e.g. "3/12, 1h05m left"."""
        passed, share = time.monotonic() - self._began, self._share()
        counted = f"{self._count:,} {self._unit}, {self._count / max(passed, 1e-9):,.0f}/s, " if self._unit else ""
        left = duration(passed * (1 / share - 1)) if share else "?"
        return f"{self._ended}/{self._jobs}, {counted}{left} left"

    def _share(self) -> float:
        return min((self._spent + self._running) / self._cost, 1.0)

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.unit = self._state()
            self._bar.n = self._share()
            self._bar.refresh()


def watch(items: Iterable[T], label: str, unit: str, log: Callable[[str], None]) -> Iterator[T]:
    """Yields `items`, showing a tqdm bar if stderr is a terminal, else a line through `log` about every ten seconds.

    Args:
      items: of any number.
      label: what is being done.
      unit: of the items, a plural.
      log: takes a line.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, unit=f" {unit}", leave=False)
        return
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > _LINE_EVERY:
            log(f"{label}: {count:,} {unit}")
            last = time.monotonic()
