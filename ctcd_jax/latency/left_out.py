"""Models that cannot be run, or not with a runtime: left out and said, while the others are measured."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ctcd_jax.artifacts.latency import NotMeasured
from ctcd_jax.errors import UserError, first_line, is_out_of_memory

_ANSI = re.compile(r"\x1b\[[0-9;]*m")  # the ONNX exporter colours its messages


class LeftOutModels:
    """Collects what is left out.

    Attributes:
      entries: of latency.json: model, runtime (None: all of them), reason.
    """

    def __init__(self, warn: Callable[[str], None]):
        self.entries: list[NotMeasured] = []
        self._warn = warn

    @contextmanager
    def unless_it_runs(self, model: str, runtime: str | None = None) -> Iterator[None]:
        """Leaves `model` out if the block fails.

        A model's own code may fail in any way; out of memory is no matter of the model, and goes on up.
        """
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = _ANSI.sub("", first_line(error))
            if not isinstance(error, UserError):
                reason = f"it cannot be run ({type(error).__name__}: {reason})"
            # What the line of a UserError begins with, the entry says already.
            for option in ("--model ", "--runtime "):
                reason = reason.partition(": ")[2] if reason.startswith(option) else reason
            self.entries.append({"model": model, "runtime": runtime, "reason": reason})
            self._warn(f"{model}: left out{f' of {runtime}' if runtime else ''}: {reason}")

    def holds(self, model: str, runtime: str | None = None) -> bool:
        """Whether `model` is left out, altogether or of `runtime`."""
        return any(entry["model"] == model and entry["runtime"] in (None, runtime) for entry in self.entries)

    def error(self, directories: dict) -> UserError:
        """Returns the error for when nothing is left to measure.

        Args:
          directories: {model: its directory}.
        """
        first, *others = self.entries
        option = f"--runtime {first['runtime']}" if first["runtime"] else f"--model {directories[first['model']]}"
        more = f"; {len(others)} more cannot be measured either" if others else ""
        return UserError(f"{option}: {first['reason']}{more}")
