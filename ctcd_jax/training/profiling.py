"""`train.profile_steps`: a trace of some steps, by `jax.profiler`."""

import time
from collections.abc import Callable
from pathlib import Path

import jax

from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import disk_errors
from ctcd_jax.training.state import TrainState

PROFILE = "profile"


class Profiler:
    """Traces the steps from one number of steps done to another, on every process into a directory of its own.

    A session that goes on between the two traces what is left. Its first step, which compiles, is never traced.
    """

    def __init__(self, steps: tuple[int, int] | None, workdir: Path, log: Callable[[str], None]):
        self._start, self._stop = steps or (0, 0)
        self._directory, self._log = workdir / PROFILE, log
        self._from: int | None = None  # where the trace under way began
        self._done = 0

    def before_step(self, done: int, state: TrainState) -> float:
        """Begins the trace if the next step is to be traced, and returns the seconds that this took.

        Args:
          done: how many steps are done.
          state: that they led to; the trace begins when it is there.
        """
        if self._from is not None or not self._start <= done < self._stop:
            return 0.0
        jax.block_until_ready(state)
        begun = time.perf_counter()
        own = self._directory / f"process-{jax.process_index()}"
        with disk_errors(own):
            own.mkdir(parents=True, exist_ok=True)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of every function slows the host down, and buries the rest
        jax.profiler.start_trace(own, profiler_options=options)
        self._from = self._done = done
        return time.perf_counter() - begun

    def after_step(self, done: int, state: TrainState) -> float:
        """Ends the trace after its last step, and returns the seconds that writing it took. Arguments: `before_step`.

        Raises:
          UserError: the trace cannot be written.
        """
        self._done = done
        if self._from is None or done < self._stop:
            return 0.0
        jax.block_until_ready(state)
        begun = time.perf_counter()
        self.close()
        return time.perf_counter() - begun

    def close(self) -> None:
        """Ends a trace that is under way. Raises UserError if it cannot be written."""
        if self._from is None:
            return
        first, self._from = self._from + 1, None
        try:
            jax.profiler.stop_trace()
        except jax.errors.JaxRuntimeError as error:
            raise UserError(
                f"train.profile_steps: the trace cannot be written ({first_line(error)}); make room, or use None"
            ) from error
        self._log(
            f"steps {first:,} to {self._done:,} are traced in {self._directory}: open a .trace.json.gz from there at "
            f"https://ui.perfetto.dev, or see all of it with `pip install xprof; xprof --logdir {self._directory}`"
        )
