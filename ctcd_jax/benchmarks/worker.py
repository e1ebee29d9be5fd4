"""One variant in a process of its own: `python -m ctcd_jax.benchmarks.worker VARIANT PRESET`, see `interleaved.serve`.

VARIANT is a cohort of `workload.COHORTS`, or "ctcd-torch" for the same objective in eager PyTorch.
"""

import sys
from collections.abc import Callable

import jax

from ctcd_jax.allocator import keep_freed_memory
from ctcd_jax.benchmarks import workload
from ctcd_jax.benchmarks.interleaved import refuse, serve
from ctcd_jax.config import Experiment
from ctcd_jax.errors import UserError
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.sharding import make_mesh, place_rows
from ctcd_jax.training.state import scratch_params

Step = Callable[[], object]


def main(variant: str, preset: str) -> None:
    """Serves the variant on stdin and stdout."""
    try:
        step, facts = eager(preset) if variant == "ctcd-torch" else ours(variant, preset)
    except UserError as error:
        refuse(error, sys.stdout)
    else:
        serve(step, facts, sys.stdin, sys.stdout)


def ours(cohort: str, preset: str) -> tuple[Step, dict]:
    """Returns the step of a cohort as `ctcd train` runs it, from the rows on the host to the updated state, and
    its facts: device, dtype, and the `workload.counts` of a step.
    """
    experiment, batch = workload.experiment(cohort, preset), workload.batch(preset)
    mesh = make_mesh()
    train_step = make_train_step(experiment, workload.MASKER, mesh)
    frozen = {name: scratch_params(experiment, name) for name in experiment.cohort.frozen}
    state = init_state(experiment, mesh)

    def step() -> None:
        nonlocal state
        state, _ = train_step(state, frozen, place_rows(batch, mesh))
        jax.block_until_ready(state)

    return step, facts(experiment, batch)


def eager(preset: str) -> tuple[Step, dict]:
    """Returns the step of CTCD in eager PyTorch, and its facts. Its batch is masked beforehand, at no cost to it.

    Raises UserError if PyTorch has no such device as JAX: the comparison would be of machines.
    """
    import torch

    from ctcd_jax.benchmarks.peers.eager import EagerCTCD, as_tensors, model

    backend = jax.default_backend()
    if backend != "cpu" and not (backend == "gpu" and torch.cuda.is_available()):
        raise UserError(
            f"JAX runs on {backend}, and PyTorch cannot; install a PyTorch that can, or compare on the CPU with "
            "JAX_PLATFORMS=cpu"
        )
    experiment, batch = workload.experiment("ctcd", preset), workload.batch(preset)
    made = as_tensors(workload.masked(experiment, batch["input_ids"]))
    models = {name: model(config) for name, config in experiment.models.items()}
    peer = EagerCTCD(experiment, models, "cuda" if backend == "gpu" else "cpu")
    return lambda: peer.step(made), facts(experiment, batch)


def facts(experiment: Experiment, batch: dict) -> dict:
    """Returns what a worker says of itself."""
    described = {"device": jax.devices()[0].device_kind, "dtype": experiment.train.dtype}
    return described | workload.counts(experiment, batch["input_ids"])


if __name__ == "__main__":
    keep_freed_memory()  # as `ctcd`; for PyTorch, too: allocators are not what is compared
    main(*sys.argv[1:])
