"""What is around a measurement and moves it: variables that libraries read, and how PyTorch's threads wait."""

import os
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from ctcd_jax.benchmarks.interleaved import interleave
from ctcd_jax.runtime.cores import available_cores

# Of OpenMP (GNU's and Intel's), BLAS, XLA, JAX, PyTorch, CUDA and glibc's allocator.
PREFIXES = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "XLA_", "JAX_", "TORCH", "PYTORCH_", "CUDA_", "NVIDIA_"),
    *("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"),
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
POLICY = "OMP_WAIT_POLICY"
POLICIES = {"asleep": {POLICY: "PASSIVE"}, "PyTorch's own way": {}}
PROBE_ROUNDS, PROBE_WARM_UP = 3, 1


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the variables that can change a figure."""
    return {name: value for name, value in sorted(environment.items()) if name.startswith(PREFIXES)}


def waiting(command: Sequence[str], log: Callable[[str], None]) -> tuple[dict[str, str], dict[str, dict]]:
    """Finds how PyTorch's threads wait best here: between two operations they spin, by default, or sleep.

    Where another program holds one of two cores, spinning threads make every operation wait for a time slice (a step
    took 14 s instead of 1.3); on a quiet machine sleeping ones have to be woken. The faster is for every PyTorch peer.

    Args:
      command: of the worker that tries both.

    Returns:
      (variables for PyTorch's workers, {way: {"seconds", "chosen"}}); no figures where the shell has set a policy,
      which is left alone, or where nothing could be tried.
    """
    for name in THREADS:
        if os.environ.get(name, str(available_cores())) != str(available_cores()):
            log(f"note: {name}={os.environ[name]} holds PyTorch to that many threads, and not JAX; unset it to compare")
    if POLICY in os.environ:
        log(f"{POLICY}={os.environ[POLICY]} is the shell's, and is left as it is")
        return {}, {}
    log(f"how PyTorch's threads wait best here: 2 processes, {PROBE_ROUNDS} rounds")
    try:
        measured, _ = interleave(dict.fromkeys(POLICIES, command), PROBE_ROUNDS, PROBE_WARM_UP, environments=POLICIES)
    except RuntimeError:  # its blocks will say why
        measured = {}
    if not measured:
        return {}, {}
    best = min(measured, key=lambda way: median(measured[way].seconds))
    each = ", ".join(f"{way} {1e3 * median(m.seconds):,.1f} ms" for way, m in measured.items())
    log(f"{each}: {best} ({POLICY} {POLICIES[best].get(POLICY, 'not set')}) for every PyTorch peer\n")
    return POLICIES[best], {way: {"seconds": m.seconds, "chosen": way == best} for way, m in measured.items()}
