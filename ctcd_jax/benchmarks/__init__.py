"""`ctcd bench`: how fast it is on this machine, and against what."""

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax.benchmarks import cpu, data, gpu, memory, plot
from ctcd_jax.benchmarks.environment import variables
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.files import write_json
from ctcd_jax.latency.encoders import cpu_name
from ctcd_jax.runtime.cores import available_cores

__all__ = ["bench"]

FORMAT = 4
SUITES = {"cpu": cpu, "gpu": gpu, "memory": memory, "data": data}
BUSY = 0.25  # load a core above which the user is warned
PACKAGES = ("jax", "flax", "optax", "torch", "transformers", "tokenizers", "numpy")


def bench(suite: str, full: bool = False, out: Path | None = None, log: Callable[[str], None] = print) -> dict:
    """Runs a suite, prints its table and returns its figures.

    Args:
      suite: "cpu" or "gpu" (whole training steps there), "memory" (temporaries of a step) or "data" (loader and
        `prepare`).
      full: whether to measure more shapes, dtypes and opponents, for longer.
      out: directory of `bench.json`, which holds what is returned, and of the plot `bench.png`; None writes nothing.
      log: called with the tables, and with each line of progress.

    Returns:
      format, suite, command, python, versions, processor, cores (that this process may use), load (average of the
      minute before), environment (variables of the shell that libraries read), device, shapes, variants {name:
      {"seconds": [...], ...}}, one entry a round, and ratios {name: {"rounds": [...], "median", "min", "max", ...}};
      see the suites.

    Raises:
      UserError: no such suite, a library or the device is missing, nothing could be measured, or `out` cannot be
        written.
    """
    if suite not in SUITES:
        raise UserError(f"--suite: no suite '{suite}'{did_you_mean(suite, SUITES)}")
    if out is not None:
        _make(out)  # before the minutes of measuring, not after
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        log(f"note: load {load:.1f} on {os.cpu_count()} cores before the start; other work blurs every figure below")
    result = {
        "format": FORMAT,
        "suite": suite,
        "command": f"ctcd bench --suite {suite}" + " --full" * full,
        "python": platform.python_version(),
        "versions": _versions(),
        "processor": cpu_name(),
        "cores": available_cores(),
        "load": load,
        "environment": variables(),
    } | SUITES[suite].suite(log, full)
    if out is not None:
        write_json(out / "bench.json", result)
        _draw(SUITES[suite].panels(result), out / "bench.png", log)
    return result


def _draw(panels: Sequence[plot.Panel], path: Path, log: Callable[[str], None]) -> None:
    if not panels:
        log(f"{path} is not drawn: none of our own steps was measured")
    elif importlib.util.find_spec("matplotlib"):
        plot.draw(panels, path)
    else:
        log(f"{path} is not drawn: run pip install 'ctcd-jax[torch]', which brings matplotlib")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be made ({error.strerror}); choose another directory") from error
    if not os.access(directory, os.W_OK):
        raise UserError(f"--out {directory}: cannot be written to; choose another directory")


def _versions() -> dict[str, str]:
    installed = {distribution.name.lower(): distribution.version for distribution in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
