"""One variant in a process of its own: `python -m ctcd_jax.benchmarks.worker WHO CASE`, see `interleaved.serve`.

WHO is in WORKERS; CASE is a `workload.Case` as JSON.
"""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from ctcd_jax.benchmarks import environment, workload
from ctcd_jax.benchmarks.interleaved import refuse, serve
from ctcd_jax.benchmarks.steps import PEERS
from ctcd_jax.benchmarks.workload import Case
from ctcd_jax.config import Experiment
from ctcd_jax.distill import objective
from ctcd_jax.errors import UserError
from ctcd_jax.ops import linear
from ctcd_jax.runtime.allocator import keep_freed_memory
from ctcd_jax.runtime.cores import available_cores
from ctcd_jax.runtime.hardware import default_dtype, peak_flops
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.optimizer import make_optimizer
from ctcd_jax.training.sharding import make_mesh, place_rows
from ctcd_jax.training.state import abstract_state, scratch_params
from ctcd_jax.training.step import update

HOST_STEPS = 5
MATMUL = {"cpu": 2048, "gpu": 8192}  # rows and columns, large enough for the device's full rate

# A worker is a step, which returns when it is finished, and a report of it, which is asked for after the first step.
Worker = tuple[Callable[[], object], Callable[[], dict]]


def main(who: str, text: str, allocator: dict[str, int]) -> None:
    """Serves a case on stdin and stdout.

    Args:
      who: of `WORKERS`.
      text: the case, as `Case.written` returns it.
      allocator: what this process has set of the allocator of memory.
    """
    case, around = Case.read(text), {"environment": environment.variables(), "allocator": allocator}
    try:
        on_host = who.startswith("torch")  # JAX then only makes the batch
        if on_host or case.backend == "cpu":
            jax.config.update("jax_platforms", "cpu")
        elif case.backend == "gpu" and jax.default_backend() != "gpu":
            raise UserError(f"--suite gpu: JAX runs on {jax.default_backend()}; install 'ctcd-jax[gpu]' on a GPU")
        step, report = WORKERS[who](case)
    except UserError as error:
        refuse(str(error), sys.stdout)
    else:
        serve(step, lambda: {"threads": available_cores()} | report() | around, sys.stdin, sys.stdout)


def ours(case: Case) -> Worker:
    """The step as `ctcd train` runs it, on one device, from the rows on the host to the updated state."""
    experiment, batch, mesh = workload.experiment(case), workload.batch(case), _mesh()
    train_step = _train_step(case, experiment, mesh)
    frozen = {name: scratch_params(experiment, name) for name in experiment.cohort.frozen}
    state = init_state(experiment, mesh)

    def dispatch(rows: dict) -> None:
        nonlocal state
        state, _ = train_step(state, frozen, place_rows(rows, mesh))

    def step() -> None:
        dispatch(batch)
        jax.block_until_ready(state)

    def host_seconds() -> list[float]:
        """The host's part of a step: to fetch rows and to dispatch, the device being idle.

        Both backends compute in threads of their own, and the call returns before they have finished.
        """
        batches, taken = workload.loader(case), []
        for number in range(HOST_STEPS):
            start = time.perf_counter()
            dispatch(batches[number])
            taken.append(time.perf_counter() - start)
            jax.block_until_ready(state)
        return taken[1:]  # the first fetch is a warm-up

    def report() -> dict:
        compiled = train_step.lower(state, frozen, place_rows(batch, mesh)).compile()  # the one that runs
        host = host_seconds()
        return _facts(experiment, batch) | _of_compiler(compiled) | _jax_peak() | {"host_seconds": host}

    return step, report


def compiled(case: Case) -> Worker:
    """The step's compilation, without a run: it needs the memory of none."""
    experiment, batch, mesh = workload.experiment(case), workload.batch(case), _mesh()
    train_step = _train_step(case, experiment, mesh)
    frozen = {name: jax.eval_shape(partial(scratch_params, experiment, name)) for name in experiment.cohort.frozen}
    program = None

    def compile() -> None:
        nonlocal program
        program = train_step.lower(abstract_state(experiment, mesh), frozen, batch).compile()

    return compile, lambda: _facts(experiment, batch) | _of_compiler(program)


def updates(case: Case) -> Worker:
    """The optimizer's part of the step alone: clipping and AdamW of every member."""
    experiment = workload.experiment(case)
    optimizers = {name: make_optimizer(experiment.optimizers[name], 1000) for name in experiment.cohort.trainable}
    members = init_state(experiment, _mesh()).members
    gradients = {name: jax.tree.map(lambda x: 1e-4 * jnp.ones_like(x), m.params) for name, m in members.items()}

    @partial(jax.jit, donate_argnums=0)
    def run(members, gradients):
        return {name: update(m, gradients[name], optimizers[name], m.loss_scale)[0] for name, m in members.items()}

    def step() -> None:
        nonlocal members
        members = jax.block_until_ready(run(members, gradients))

    return step, lambda: _device(experiment.train.dtype) | _jax_peak()


def matmul(case: Case) -> Worker:
    """A large product in the case's dtype, accumulated in float32: the rate that no step can exceed."""
    dtype = jnp.dtype(default_dtype(jax.devices()[0].platform) if case.dtype == "auto" else case.dtype)
    size = MATMUL.get(jax.default_backend(), MATMUL["gpu"])
    left, right = jax.random.normal(jax.random.key(0), (2, size, size)).astype(dtype)
    run = jax.jit(lambda left, right: linear(left, right, jnp.zeros(size), dtype))

    def report() -> dict:
        peak = peak_flops(dtype.name, jax.devices())
        sheet = {"sheet_flops": peak and peak / jax.device_count(), "size": size}
        return _device(dtype.name) | sheet | {"flops": 2.0 * size**3}

    return lambda: jax.block_until_ready(run(left, right)), report


def in_torch(who: str, case: Case) -> Worker:
    """CTCD in PyTorch. Its batch is masked beforehand, at no cost to it."""
    import torch

    from ctcd_jax.benchmarks.peers.compiled import CompiledCTCD, CompiledLayersCTCD
    from ctcd_jax.benchmarks.peers.eager import EagerCTCD, as_tensors, model

    gpu = case.backend == "gpu"
    if gpu and not torch.cuda.is_available():
        raise UserError("PyTorch sees no GPU; install its CUDA build to compare with it")
    experiment, batch = workload.experiment(case), workload.batch(case)
    tensors = as_tensors(workload.masked(experiment, batch["input_ids"]))
    models = {name: model(cast("Any", config)) for name, config in experiment.models.items()}
    made = {
        "torch-eager-full": partial(EagerCTCD, full=True),
        "torch-eager": EagerCTCD,
        "torch-eager-fused": partial(EagerCTCD, fused=True),
        "torch-compiled-layers": CompiledLayersCTCD,
        "torch-compiled": CompiledCTCD,
    }
    peer = made[who](experiment, models, "cuda" if gpu else "cpu")

    def report() -> dict:
        # Its own tokens are counted: a ratio is of the same objective only where ours has as many.
        tokens, predicted = int((tensors["segment_ids"] > 0).sum()), int((tensors["labels"] >= 0).sum())
        facts = _facts(experiment, batch) | {"tokens": tokens, "predicted": predicted}
        facts["threads"] = torch.get_num_threads()
        if not gpu:
            return facts | _resident()
        peak = {"peak_bytes": torch.cuda.max_memory_allocated(), "peak_of": "device memory"}
        return facts | peak | {"device": torch.cuda.get_device_name()}

    return lambda: peer.step(tensors), report


def _train_step(case: Case, experiment: Experiment, mesh):
    losses = objective.cohort_losses if case.loss == "dense" else None
    return make_train_step(experiment, workload.MASKER, mesh, losses)


def _mesh():
    return make_mesh(devices=jax.devices()[:1])


def _device(dtype: str) -> dict:
    return {"device": jax.devices()[0].device_kind, "dtype": dtype}


def _facts(experiment: Experiment, batch: dict) -> dict:
    return _device(experiment.train.dtype) | workload.counts(experiment, batch["input_ids"])


def _of_compiler(compiled) -> dict:
    """Its count of operations, in which the body of a loop counts once, and the temporaries that it plans."""
    return {
        "compiler_flops": compiled.cost_analysis().get("flops"),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


def _jax_peak() -> dict:
    statistics = jax.devices()[0].memory_stats()
    if not statistics:  # the CPU keeps none
        return _resident()
    return {"peak_bytes": statistics["peak_bytes_in_use"], "peak_of": "device memory"}


def _resident() -> dict:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_bytes": peak, "peak_of": "process, compiler and libraries included"}


WORKERS = {
    "ours": ours,
    "compiled": compiled,
    "update": updates,
    "matmul": matmul,
    **{who: partial(in_torch, who) for who in PEERS},
}


if __name__ == "__main__":
    # As `ctcd` does it; for PyTorch, too: allocators are not what is compared.
    main(*sys.argv[1:], allocator=keep_freed_memory())
