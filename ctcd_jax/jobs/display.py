"""How far a matrix is: a bar on a terminal, else a line a finished cell or five minutes, with the time that is left."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from ctcd_jax.jobs.duration import duration

_LINE_EVERY = 300.0  # seconds


class Display:
    """Counts cells and their costs; time left is in proportion to the cost."""

    def __init__(self, cells: int, cost: float, log: Callable[[str], None]):
        self._cells, self._cost, self._log = cells, max(cost, 1e-9), log
        self._ended, self._spent, self._running = 0, 0.0, 0.0
        self._began = self._said = time.monotonic()
        self._bar = None

    def __enter__(self) -> "Display":
        if self._cells and sys.stderr.isatty():
            layout = "{percentage:3.0f}%|{bar}| {unit}"
            self._bar = tqdm(total=1.0, unit="", bar_format=layout, leave=False)
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()

    def look(self, running: float) -> None:
        """Takes the cost of what the running cells have done."""
        self._running = running
        self._refresh()
        if self._bar is None and time.monotonic() - self._said > _LINE_EVERY:
            self._say(f"{self._share():.0%}")

    def ended(self, line: str, cost: float) -> None:
        """Says the line of a cell that has ended."""
        self._ended += 1
        self._spent += cost
        self._running = max(self._running - cost, 0.0)
        self._say(line)
        self._refresh()

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        text = f"{line}  [{self._ended}/{self._cells}, {self._left()} left]"
        if self._bar is None:
            self._log(text)
        else:
            self._bar.write(text)

    def _left(self) -> str:
        share = self._share()
        return duration((time.monotonic() - self._began) * (1 / share - 1)) if share else "?"

    def _share(self) -> float:
        return min((self._spent + self._running) / self._cost, 1.0)

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.unit = f"{self._ended}/{self._cells} cells, {self._left()} left"
            self._bar.n = self._share()
            self._bar.refresh()
