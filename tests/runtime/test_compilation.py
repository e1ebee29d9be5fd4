"""Where compiled programs are kept, and that a run does without."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ctcd_jax.runtime.compilation import cpu_model, keep_programs, prune
from tests.small import ctcd


@pytest.fixture
def start(config_file, corpus, tmp_path):
    """Runs a step in a process of its own, as a user without any setting does, and returns it."""

    def run(name, **settings):
        ours = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
        environment = {key: value for key, value in os.environ.items() if key not in ours}
        done = ctcd(
            *("train", "--config", f"{config_file}:student", "--workdir", tmp_path / name),
            *(f"--config.data.corpus={corpus}", "--config.train.steps=1"),
            env=environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")} | settings,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def counts(done):
    """Returns (programs, found) of the line after the first step."""
    (found,) = re.findall(r"first step after [\d.]+ s \([\d.]+ s of it for (\d+) programs, (\d+) of them", done.stdout)
    return tuple(map(int, found))


@pytest.mark.slow
def test_the_second_run_finds_every_program_of_the_first(start, tmp_path):
    first, second = counts(start("first")), counts(start("second"))
    assert first[0] == second[0] == second[1] > 0
    (host,) = (tmp_path / "cache/ctcd_jax/xla").iterdir()
    assert re.fullmatch(r"cpu-cpu-[0-9a-f]{8}", host.name)
    assert any("train_step" in path.name for path in host.iterdir())


def test_a_notebook_that_has_compiled_something_keeps_programs_from_then_on(tmp_path):
    code = """
import jax
jax.jit(lambda x: x + 1)(1.0)
from ctcd_jax.runtime.compilation import keep_programs
keep_programs(print)
jax.jit(lambda x: x * 3)(1.0)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 9.0)
keep_programs(print)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
"""
    ours = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "9.0\n"  # what a user has set stays
    assert any(path.is_file() for path in (tmp_path / "ctcd_jax/xla").rglob("*"))


@pytest.mark.slow
def test_jax_settings_are_respected(start, tmp_path):
    start("chosen", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert any("train_step" in path.name for path in (tmp_path / "mine").iterdir())
    assert counts(start("disabled", JAX_ENABLE_COMPILATION_CACHE="false"))[1] == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "setting", ["XDG_CACHE_HOME", pytest.param("JAX_COMPILATION_CACHE_DIR", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_a_directory_that_cannot_be_written_is_one_line(start, tmp_path, setting):
    (tmp_path / "file").write_text("")
    said = start("run", **{setting: str(tmp_path / "file/below")}).stderr
    assert said.count("\n") == 1, said
    assert "WARNING: compiled programs are not kept" in said
    assert "Not a directory" in said


def test_the_files_used_least_recently_are_pruned(tmp_path):
    (tmp_path / "host").mkdir()
    for day, name in enumerate(("a", "b", "c")):
        path = tmp_path / "host" / name
        path.write_bytes(bytes(10))
        os.utime(path, (day, day))
    os.utime(tmp_path / "host/a", (9, 0))  # made first, used last
    prune(tmp_path, 25)
    assert {path.name for path in (tmp_path / "host").iterdir()} == {"a", "c"}


def test_a_cpu_is_its_model_and_features(tmp_path):
    def described(flags="fpu avx512f", mhz="2000", cores=2):
        core = f"processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t\t: {mhz}\nflags\t\t: {flags}\n\n"
        (tmp_path / "cpuinfo").write_text(core * cores)
        return cpu_model(tmp_path / "cpuinfo")

    assert described() == described(mhz="3000", cores=4)
    assert described() != described("fpu avx512f amx_bf16")
    assert cpu_model(tmp_path / "none")


def test_without_a_home_directory_nothing_is_kept_and_it_is_said(monkeypatch):
    """As in a container whose user id has no name."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    before = jax.config.jax_enable_compilation_cache, jax.config.jax_compilation_cache_dir
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    said = []
    try:
        keep_programs(said.append)
        assert not jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", before[0])
        jax.config.update("jax_compilation_cache_dir", before[1])
    assert said == ["compiled programs are not kept: there is no home directory; set JAX_COMPILATION_CACHE_DIR"]
