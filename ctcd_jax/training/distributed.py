"""Joins the other processes of a run, if there are any: under SLURM, or where the launcher says so."""

import os

import jax


def start_processes() -> None:
    """Initialises `jax.distributed` when this process is one of several.

    `CTCD_COORDINATOR=host:port`, `CTCD_PROCESSES` and `CTCD_PROCESS` (as `launch/local.py` sets them) name the others
    outright; under `srun` JAX finds them by itself. A batch script without `srun` is a single process: SLURM then sets
    the number of tasks but no step.
    """
    if "CTCD_COORDINATOR" in os.environ:
        jax.distributed.initialize(
            os.environ["CTCD_COORDINATOR"], int(os.environ["CTCD_PROCESSES"]), int(os.environ["CTCD_PROCESS"])
        )
    elif int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ:
        jax.distributed.initialize()
