"""The wheel: what `pip install` puts on a machine that has no checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_shipped_configs(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("ctcd_jax-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, cwd=tmp_path)
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import pkgutil
import ctcd_jax
from ctcd_jax.config.file import load_config
assert ctcd_jax.__file__.startswith(sys.argv[1]), ctcd_jax.__file__
print(*sorted(module.name for module in pkgutil.walk_packages(ctcd_jax.__path__, "ctcd_jax.")), sep="\\n")
from ctcd_jax.page.style import STYLE
assert ":root" in STYLE
print(load_config("ctcd:tiny").members.teacher.layers, list(load_config("corpora/wiki_books").sources))
"""
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "site")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    assert said.pop() == "6 ['books', 'wikipedia']"
    files = [*ROOT.glob("ctcd_jax/*/**/*.py"), *ROOT.glob("ctcd_jax/*.py")]
    paths = {path.relative_to(ROOT).with_suffix("") for path in files if "configs" not in path.parts}
    names = {".".join(path.parts).removesuffix(".__init__") for path in paths} - {"ctcd_jax"}
    assert {name for name in said if ".configs" not in name} == names
