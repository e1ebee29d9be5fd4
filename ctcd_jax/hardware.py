"""What the machine can do: the compute dtype that suits it, and its peak where a data sheet gives one."""

import ctypes
import sys
from pathlib import Path

import jax

# Dense bfloat16 / float16 FLOP/s of one device, from the makers' data sheets, by the start of `device_kind`.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def default_dtype() -> str:
    """Returns "bfloat16" on accelerators and on CPUs with AMX matrix units, else "float32"."""
    if jax.default_backend() != "cpu":
        return "bfloat16"
    cpuinfo = Path("/proc/cpuinfo")
    return "bfloat16" if cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text() else "float32"


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed for the next step instead of giving it back to the system; CPUs on Linux only.

    XLA's CPU backend allocates every temporary anew, and the pages of large ones are zeroed by the system each time.
    Measured on 2 cores, CTCD step of the `tiny` preset: 0.91 s without, 0.74 s with.
    """
    if sys.platform != "linux" or jax.default_backend() != "cpu":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # of glibc's malloc.h
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28), (arena_max, 1)):
        mallopt(option, value)


def peak_flops(dtype: str) -> float | None:
    """Returns the peak FLOP/s of all devices together, or None where it is not known (CPUs, float32)."""
    if dtype not in ("bfloat16", "float16"):
        return None
    kind = jax.devices()[0].device_kind
    return next((jax.device_count() * peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)
