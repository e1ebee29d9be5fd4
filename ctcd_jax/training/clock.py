"""How long a run has trained, and how fast it goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts the seconds of training from now on, without pauses. The start-up of a session says nothing of its speed.

    Attributes:
      seconds: of training, over all sessions and up to the last lap.
    """

    def __init__(self, seconds: float, step: int):
        """Takes the seconds of the sessions before, and the updates done."""
        self.seconds = seconds
        self._since, self._paused, self._start_up = time.perf_counter(), 0.0, 0.0  # of the open lap
        self._untimed = 0  # tokens of the open lap that were not trained on in timed seconds
        self._first, self._timed = step, 0.0  # updates done where timing began, and seconds timed since

    def skip(self, seconds: float) -> None:
        """Leaves out seconds that were not spent on training."""
        self._paused += seconds

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves out what the block takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.skip(time.perf_counter() - begun)

    def started(self, step: int, tokens: int) -> None:
        """Ends the start-up: the first step of a session, which compiles.

        Args:
          step: updates done.
          tokens: real ones since the last line of the log, of earlier sessions, too.
        """
        self._start_up = time.perf_counter() - self._since - self._paused
        self._first, self._untimed = step, tokens

    def lap(self, step: int, tokens: int) -> tuple[float | None, float | None]:
        """Returns (tokens a second of the lap, seconds a step of the session), None where no step was timed.

        Args:
          step: updates done.
          tokens: real ones since the last line of the log, of earlier sessions, too.
        """
        now = time.perf_counter()
        seconds = now - self._since - self._paused
        timed = seconds - self._start_up
        self.seconds, self._timed = self.seconds + seconds, self._timed + timed
        rate = (tokens - self._untimed) / timed if tokens > self._untimed else None
        self._since, self._paused, self._start_up, self._untimed = now, 0.0, 0.0, 0
        return rate, self._timed / (step - self._first) if step > self._first else None
