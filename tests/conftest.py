"""Tests run on CPUs: virtual devices to shard over, no hub, and a compilation cache shared by all of them."""

import functools
import gc
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The workers share the cores: threads of PyTorch that wait for one another would only keep each other from working.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "ctcd_jax-test-compilation-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# The programs here run for milliseconds and compile for seconds: optimising them is more than half of the tests' time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import orbax.checkpoint as ocp
import pytest

from ctcd_jax.training import held_out, loop
from ctcd_jax.training.sharding import make_mesh
from tests.exports import export_model, models  # noqa: F401  fixtures for every test
from tests.small import config_file, corpus  # noqa: F401
from tests.smoke import smoke  # noqa: F401

jax.config.update("jax_num_cpu_devices", 8)
# Orbax would cut each of a state's small arrays into eight, one for every device to write: a quarter of a run's time.
ocp.type_handlers.get_type_handler(jax.Array)._min_slice_bytes_for_replica_parallel = 2**20
# Traced programs are a million objects, none of them garbage, through which Python would look again and again.
gc.set_threshold(100_000, 50, 100)


PROGRAMS_KEPT = 32
# What a program is not made of, beside seeds and places: when something is written.
_NOT_COMPILED = {
    "log_every": 1, "eval_every": 1, "checkpoint_every": 1, "keep_checkpoints": 1, "keep_best": None,
    "early_stopping": None, "profile_steps": None,
}  # fmt: skip


def kept(make):
    """`make_train_step` or `make_evaluation` that returns what it made before of an equal experiment, corpus and mesh.

    Most runs of the tests are one experiment, begun again and again: tracing and lowering it was half of their time.
    """
    made = {}

    @functools.wraps(make)
    def keeping(experiment, masker, mesh):
        train = replace(experiment.train, **_NOT_COMPILED)
        known = replace(experiment, train=train, seed=0, sources={}, evaluation_corpora=(), projects={})
        frequencies = None if masker.frequencies is None else bytes(masker.frequencies)
        key = repr((known, masker.vocab_size, masker.special_ids, masker.rate, masker.smoothing, frequencies, mesh))
        made[key] = made.pop(key, None) or make(experiment, masker, mesh)
        while len(made) > PROGRAMS_KEPT:
            del made[next(iter(made))]
        return made[key]

    return keeping


def on_two_devices(data: int, fsdp: int):
    """The mesh of a run that asks for none on a machine of two devices: what is there to shard takes all eight."""
    return make_mesh(data, fsdp, devices=jax.devices()[:2] if (data, fsdp) == (-1, 1) else None)


@pytest.fixture(scope="session", autouse=True)
def runs_are_quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", on_two_devices)
        patch.setattr(loop, "make_train_step", kept(loop.make_train_step))
        patch.setattr(held_out, "make_evaluation", kept(held_out.make_evaluation))
        yield
