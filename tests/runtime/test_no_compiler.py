"""Devices that are not there: what is asked for amiss, and compilers that are not installed, are one line."""

from importlib.util import find_spec

import pytest

from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from ctcd_jax.runtime.absent_devices import TARGETS, absent_devices
from ctcd_jax.runtime.hardware import PEAK_FLOPS


def missing(package, *values):
    return pytest.param(*values, marks=pytest.mark.skipif(find_spec(package) is not None, reason=f"{package} is there"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no target ''; known: "),
        ("a100:8", "no target 'a100'; there are a100-40 and a100-80; known: "),
        ("h10:8", r"no target 'h10' \(did you mean 'h100'\?\); known: a100-40, a100-80, h100, h200, v4, v5e, v5p, v6e"),
        ("h100:2x4", "give how many, as in h100:8; above 8 a multiple of 8"),
        ("h100:0", "give how many"),
        ("h100:12", "give how many, as in h100:8; above 8 a multiple of 8"),
        ("v5e", "give the shape of the slice, as in v5e:2x2"),
        ("v5p:8", "give the shape of the slice, as in v5p:2x2x1"),
        missing("libtpu", "v5e:2x2", r"it takes Google's compiler: pip install 'ctcd-jax\[plan-tpu\]'"),
        missing("jax_cuda13_plugin", "h100:8", r"it takes NVIDIA's compiler: pip install 'ctcd-jax\[plan-gpu\]'"),
    ],
)
def test_one_line_says_what_to_do(spec, message):
    with pytest.raises(UserError, match=rf"^--on {spec}: {message}"):
        absent_devices(spec)


@pytest.mark.parametrize("arguments", [["--config", "ctcd:smoke"], ["--plan"]])
def test_it_goes_with_a_plan_of_a_config(arguments, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--on", "h100:8", "--workdir", str(tmp_path / "run"), *arguments])
    assert ended.value.code == 2
    assert "--on TARGET goes with --plan and --config" in capsys.readouterr().err


def test_of_every_gpu_the_peak_is_known():
    for name, target in TARGETS.items():
        if target.gpu:
            assert any(target.gpu.name.startswith(kind) for kind in PEAK_FLOPS), name
