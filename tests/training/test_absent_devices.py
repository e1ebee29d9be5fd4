"""The step compiles for devices that are not there: whatever depends on the platform asks the mesh."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from ctcd_jax.runtime.hardware import default_dtype, peak_flops
from ctcd_jax.training.sharding import batch_sharding, make_mesh
from ctcd_jax.training.state import abstract_state
from ctcd_jax.training.step import make_train_step
from tests.training.helpers import LENGTH, experiment, masker

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
assert jax.default_backend() == "cpu" and {device.platform for device in devices} == {"tpu"}
mesh = make_mesh(2, 2, devices=devices)
settings = experiment(dropout=0.1, dtype=default_dtype(devices[0].platform))
rows = jax.ShapeDtypeStruct((settings.batch_size, LENGTH), jnp.int32, sharding=batch_sharding(mesh))
step = make_train_step(settings, masker(), mesh)
compiled = step.lower(abstract_state(settings, mesh), {}, {"input_ids": rows}).compile()
print(compiled.memory_analysis().temp_size_in_bytes, "bf16" in compiled.as_text(), "all-reduce" in compiled.as_text())
print(peak_flops("bfloat16", devices))
"""


@pytest.mark.slow
def test_the_step_compiles_for_tpus_that_are_not_there():
    root = Path(__file__).parents[2]
    compiler = root / ".venv/libtpu"
    if not compiler.is_dir():
        pytest.skip("no .venv/libtpu, which `make test-all` installs")
    settings = {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    environment = os.environ | settings | {"PYTHONPATH": f"{root}{os.pathsep}{compiler}"}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    compiled, peak = done.stdout.splitlines()
    temporaries, *found = compiled.split()
    assert int(temporaries) > 0
    assert found == ["True", "True"]
    assert float(peak) == 4 * 197e12
