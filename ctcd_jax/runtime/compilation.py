"""Compiled programs are kept for the next run, and what compiling cost is counted.

JAX keeps them itself, in JAX_COMPILATION_CACHE_DIR; without it they go into the user's cache directory.
"""

import contextlib
import hashlib
import os
import platform
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

# CTCD at `small` keeps 2 MB, so this is hundreds of configs, and nobody's home directory is filled.
KEPT_BYTES = 2**30
JAX_SECONDS = 1.0  # JAX's own: what compiles faster is not kept


def keep_programs(warn: Callable[[str], None]) -> None:
    """Lets JAX keep compiled programs, unless JAX_ENABLE_COMPILATION_CACHE=false; after `cluster.join`.

    `train` and `plan` call it, so that it holds for notebooks, too; a setting made through `jax.config` stays. A
    directory that cannot be written is a warning, and the run goes on without.
    """
    config: Any = jax.config  # its fields are made when it is imported
    if not config.jax_enable_compilation_cache:
        return
    chosen = config.jax_compilation_cache_dir
    if chosen and "://" in chosen:
        return
    try:
        directory = Path(chosen) if chosen else cache_root() / host_type()
    except RuntimeError:  # of Path.home()
        warn("compiled programs are not kept: there is no home directory; set JAX_COMPILATION_CACHE_DIR")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
        if not chosen:
            prune(cache_root(), KEPT_BYTES)
    except OSError as error:
        warn(f"compiled programs are not kept, {directory}: {error.strerror}; set JAX_COMPILATION_CACHE_DIR")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if not chosen:
        jax.config.update("jax_compilation_cache_dir", str(directory))
        # Whether it keeps programs JAX decides once, when it compiles its first: in a notebook that is long ago.
        compilation_cache.reset_cache()
    untouched = config.jax_persistent_cache_min_compile_time_secs == JAX_SECONDS
    if untouched and "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # JAX's second would leave out all that start-up is made of but the step.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cache_root() -> Path:
    """Returns $XDG_CACHE_HOME/ctcd_jax/xla, by default below ~/.cache. RuntimeError if there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctcd_jax" / "xla"


def host_type() -> str:
    """Returns a name for machines that can run each other's programs, e.g. `cpu-cpu-0a1b2c3d`.

    Home directories are shared, and XLA compiles for the CPU it runs on: with AMX or AVX-512, a program from one node
    is an illegal instruction on another.
    """
    device = f"{jax.default_backend()}-{jax.devices()[0].device_kind}"
    return re.sub(r"[^a-z0-9]+", "-", device.lower()) + "-" + hashlib.sha256(cpu_model().encode()).hexdigest()[:8]


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns what the system says of the first core's model and features (x86 and Arm), or else the architecture."""
    if not cpuinfo.is_file():
        return f"{platform.machine()} {platform.processor()}"
    names = "vendor_id|cpu family|model|model name|flags|CPU implementer|CPU architecture|CPU variant|CPU part|Features"
    first_core = cpuinfo.read_text().partition("\n\n")[0]
    return "\n".join(re.findall(rf"^(?:{names})\s*:.*$", first_core, re.MULTILINE))


def prune(root: Path, limit: int) -> None:
    """Removes the files used least recently until the rest have `limit` bytes.

    Not JAX's own limit (jax_compilation_cache_max_size): it takes a lock for every read, which network file systems do
    badly, and a process killed between an entry and its time stamp makes every later write fail.
    """
    files = []
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another run prunes, too
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                files.append((max(found.st_atime, found.st_mtime), found.st_size, path))
    kept = 0
    for _, size, path in sorted(files, reverse=True):
        kept += size
        if kept > limit:
            path.unlink(missing_ok=True)


class CompilationCount:
    """Counts the programs JAX compiles, or finds compiled, while it is entered.

    Attributes:
      programs, found: programs made ready to run, and those of them that came from the cache.
      seconds: that this took, without tracing.
    """

    def __init__(self):
        self.programs, self.found, self.seconds = 0, 0, 0.0

    def __enter__(self) -> "CompilationCount":
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        jax.monitoring.register_event_listener(self._event)
        return self

    def __exit__(self, *_) -> None:
        jax.monitoring.unregister_event_duration_listener(self._duration)
        jax.monitoring.unregister_event_listener(self._event)

    def __str__(self):
        return f"{self.seconds:.1f} s of it for {self.programs} programs, {self.found} of them from the cache"

    def _duration(self, event: str, duration_secs: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # what is found in the cache counts, too
            self.programs += 1
            self.seconds += duration_secs

    def _event(self, event: str, **_) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            self.found += 1
