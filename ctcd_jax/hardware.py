"""What the machine can do: the compute dtype that suits it, and its peak where a data sheet gives one."""

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


def peak_flops(dtype: str) -> float | None:
    """Returns the peak FLOP/s of all devices together, or None where it is not known (CPUs, float32)."""
    if dtype not in ("bfloat16", "float16"):
        return None
    kind = jax.devices()[0].device_kind
    return next((jax.device_count() * peak for name, peak in PEAK_FLOPS.items() if kind.startswith(name)), None)
