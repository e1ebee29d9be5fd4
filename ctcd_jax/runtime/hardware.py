"""What devices can do: the compute dtype that suits them, and their peak where a data sheet gives one.

Everything is asked of the devices that a program is for: they need not be those of this process, nor be there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


Devices = Sequence[Any]
"""Of `jax.Device`, which type checkers know nothing of."""


def default_dtype(platform: str) -> str:
    """Returns "bfloat16" for accelerators and CPUs that multiply it in hardware (AMX, AVX-512 BF16), else "float32".

    The CTCD step of the `small` preset on 2 cores of an AMD EPYC with AVX-512 BF16: 0.83 s in float32, 0.56 s in
    bfloat16.
    """
    if platform != "cpu":
        return "bfloat16"
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(known) else "float32"


def peak_flops(dtype: str, devices: Devices) -> float | None:
    """Returns the peak FLOP/s of the devices together, or None where it is not known (CPUs, float32)."""
    if dtype not in ("bfloat16", "float16"):
        return None
    kind = devices[0].device_kind
    return next((len(devices) * peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)


def peak_bytes(devices: Devices) -> int | None:
    """Returns the most memory that one of the devices of this process has had in use, None where it is not counted."""
    here = [device.memory_stats() for device in devices if device.process_index == jax.process_index()]
    counted = [stats["peak_bytes_in_use"] for stats in here if stats and "peak_bytes_in_use" in stats]
    return max(counted, default=None)
