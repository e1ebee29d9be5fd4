"""The step compiles for devices that are not there, and what it sends between them is as little as it can be."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctcd_jax.runtime.no_devices import NO_DEVICES

ROOT = Path(__file__).parents[2]
COMPILERS = [
    pytest.param("v5e:2x4", ".venv/libtpu", marks=pytest.mark.slow, id="tpu"),
    pytest.param("h100:8", ".venv/nvidia", marks=pytest.mark.nvidia, id="nvidia"),
]
# Of a step on eight devices: bytes of its parameters, of those that are split, of kernels among these, and of its
# collectives by kind.
CODE = """
import sys
import jax, jax.numpy as jnp
from ctcd_jax.runtime.absent_devices import absent_devices
from ctcd_jax.runtime.collectives import collectives
from ctcd_jax.runtime.hardware import default_dtype, peak_flops
from ctcd_jax.training.sharding import batch_sharding, make_mesh
from ctcd_jax.training.state import abstract_state
from ctcd_jax.training.step import make_train_step
from tests.training.helpers import LENGTH, experiment, masker

devices = absent_devices(sys.argv[1]).devices
assert jax.default_backend() == "cpu" and {device.platform for device in devices} == {sys.argv[3]}
assert peak_flops("bfloat16", devices) > 8e14
mesh = make_mesh(-1, int(sys.argv[2]), devices=devices)
settings = experiment(dropout=0.1, dtype=default_dtype(devices[0].platform))
state = abstract_state(settings, mesh)
rows = jax.ShapeDtypeStruct((settings.batch_size, LENGTH), jnp.int32, sharding=batch_sharding(mesh))
compiled = make_train_step(settings, masker(), mesh).lower(state, {}, {"input_ids": rows}).compile()
assert compiled.memory_analysis().temp_size_in_bytes > 0 and "bf16" in compiled.as_text()
leaves = jax.tree.leaves_with_path(state.params)
split = {path: leaf for path, leaf in leaves if not leaf.sharding.is_fully_replicated}
print(sum(4 * leaf.size for _, leaf in leaves))
print(sum(4 * leaf.size for leaf in split.values()))
print(sum(4 * leaf.size for path, leaf in split.items() if path[-1].key == "kernel"))
for kind in ("all-reduce", "reduce-scatter", "all-gather", "all-to-all"):
    print(sum(each.size for each in collectives(compiled.as_text(), len(devices)) if each.kind == kind))
"""


def run(compiler, *arguments):
    if not (ROOT / compiler).is_dir():
        pytest.skip(f"no {compiler}, which `make test-all` or `make test-nvidia` installs")
    environment = os.environ | NO_DEVICES | {"XLA_FLAGS": "", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / compiler}"}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("spec", "compiler"), COMPILERS)
@pytest.mark.parametrize("fsdp", [1, 8])
def test_gradients_travel_once_and_sharded_ones_are_scattered(spec, compiler, fsdp):
    platform = "tpu" if compiler.endswith("tpu") else "gpu"
    parameters, split, kernels, *moved = map(int, run(compiler, "-c", CODE, spec, str(fsdp), platform).split())
    summed, scattered, gathered, exchanged = moved
    # Of a tied embedding one gradient, not two; and losses, norms and counts.
    assert 0.9 * parameters < summed + scattered <= parameters + 1024
    assert exchanged == 0
    if fsdp == 1:
        assert scattered == gathered == 0
    else:
        assert gathered == split - kernels // 2  # where they are used, in the bfloat16 of the products
        if platform == "gpu":  # TPUs' compiler sums arrays as small as these whole
            assert summed <= parameters - split + 1024


# Of a step whose loss is taken in chunks: bytes of the state on a device, of it what is updated in place, and the most
# tokens of which logits exist at once.
HELD = """
import dataclasses, math, re, sys
import jax, jax.numpy as jnp
from ctcd_jax.distill import Cohort, Edge
from ctcd_jax.runtime.absent_devices import absent_devices
from ctcd_jax.training.sharding import batch_sharding, make_mesh
from ctcd_jax.training.state import abstract_state
from ctcd_jax.training.step import make_train_step
from tests.training.helpers import CTCD, LENGTH, VOCABULARY, experiment, masker

if sys.argv[1] == "here":
    jax.config.update("jax_num_cpu_devices", 8)
devices = jax.devices() if sys.argv[1] == "here" else absent_devices(sys.argv[1]).devices
mesh = make_mesh(-1, int(sys.argv[2]), devices=devices)
made = experiment(Cohort(CTCD.members, tuple(dataclasses.replace(edge, positions="attended") for edge in CTCD.edges)))
made = dataclasses.replace(made, train=dataclasses.replace(made.train, loss_chunk=20))
state = abstract_state(made, mesh)
rows = jax.ShapeDtypeStruct((made.batch_size, LENGTH), jnp.int32, sharding=batch_sharding(mesh))
compiled = make_train_step(made, masker(), mesh).lower(state, {}, {"input_ids": rows}).compile()
print(sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * 4 for leaf in jax.tree.leaves(state)
          if leaf.dtype in (jnp.float32, jnp.int32)))
print(compiled.memory_analysis().alias_size_in_bytes)
shapes = [[int(n) for n in shape.split(",")] for shape in re.findall(r"\\w+\\[([\\d,]+)\\]", compiled.as_text())]
print(max(math.prod(shape) // VOCABULARY for shape in shapes if VOCABULARY in shape))
"""


@pytest.mark.parametrize(("spec", "compiler"), [*COMPILERS, pytest.param("here", "ctcd_jax", id="cpu")])
@pytest.mark.parametrize("fsdp", [1, 8])
def test_the_state_is_updated_in_place_and_logits_are_never_all_there(spec, compiler, fsdp):
    state, in_place, tokens = map(int, run(compiler, "-c", HELD, spec, str(fsdp)).split())
    assert in_place >= state
    assert 16 <= tokens < 2 * 24  # a chunk, or the width of the embedding; of a device's two rows of 24


SCATTERS = """
import dataclasses, re
import jax, jax.numpy as jnp
from ctcd_jax.runtime.absent_devices import absent_devices
from ctcd_jax.training.sharding import batch_sharding, make_mesh
from ctcd_jax.training.state import abstract_state
from ctcd_jax.training.step import make_train_step
from tests.training.helpers import LENGTH, experiment, masker

mesh = make_mesh(-1, 1, devices=absent_devices("h100:1").devices)
made = experiment(dtype="bfloat16")
state = abstract_state(made, mesh)
rows = jax.ShapeDtypeStruct((made.batch_size, LENGTH), jnp.int32, sharding=batch_sharding(mesh))
for asked in (False, True):
    made = dataclasses.replace(made, train=dataclasses.replace(made.train, deterministic=asked))
    text = make_train_step(made, masker(), mesh).lower(state, {}, {"input_ids": rows}).compile().as_text()
    scatters = re.findall(r" scatter[(].*", text)
    print(len(scatters), sum("unique_indices=true" in line for line in scatters))
"""


@pytest.mark.nvidia
def test_what_is_to_be_deterministic_adds_nothing_in_the_order_of_threads():
    """A scatter to indices that may be equal adds atomically, in whatever order."""
    (some, ordered), (as_many, all_of_them) = (
        map(int, line.split()) for line in run(".venv/nvidia", "-c", SCATTERS).splitlines()
    )
    assert some > 0
    assert ordered == 0
    assert as_many == all_of_them > 0


@pytest.mark.parametrize(("spec", "compiler"), COMPILERS)
def test_a_plan_for_devices_that_are_not_there(spec, compiler, corpus):
    arguments = ["-m", "ctcd_jax", "train", "--plan", "--on", spec, "--config", "ctcd:smoke"]
    said = run(compiler, *arguments, f"--config.data.corpus={corpus}", "--config.data.batch_size=128")
    (parameters,) = {sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) parameters", said))}
    (moved,) = re.findall(r"collectives: \d+ all-reduce of ([\d.]+) MB$", said, re.MULTILINE)
    assert float(moved) == pytest.approx(4 * parameters / 1e6, abs=0.1)
    assert re.search(rf"{spec}: 8 x .*, mesh data 8 x fsdp 1, bfloat16, 128 rows of 32; compiled in \d+ s", said)
    assert re.search(r"GiB a device \([\d.]+ held, [\d.]+ temporary\): fits; about [\d,]+ rows would", said)
    assert re.search(r"time: at best [\d,]+ tokens/s, .* for 60 steps", said)
