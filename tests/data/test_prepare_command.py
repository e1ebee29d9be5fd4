"""`ctcd prepare` as it is typed, and as the SLURM script types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctcd_jax.cli import main
from tests.data.test_parallel import content

ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(library, vocabulary):
    return ["--source", f"text:{library}/**/*.txt", "--tokenizer", str(vocabulary), "--length", "48"]


def test_a_recipe_is_a_file_or_options(tmp_path, library, vocabulary, options, capsys):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from ctcd_jax.config import recipe\n"
        "def get_config(preset=''):\n"
        f"    sources = {{'one': 'text:nowhere', 'two': 'text:{library}/b.txt'}}\n"
        f"    return recipe(sources, tokenizer={str(vocabulary)!r}, length=64, validation=0.2)\n"
    )
    config = ["--config", str(recipe), f"--config.sources.one=text:{library}/a.txt,share=0.5", "--config.length=48"]
    assert main(["prepare", *config, "--out", str(tmp_path / "file"), "--workers", "1"]) == 0
    sources = [f"text:{library}/a.txt,share=0.5", f"text:{library}/b.txt"]
    given = [part for source in sources for part in ("--source", source)] + options[2:] + ["--validation", "0.2"]
    assert main(["prepare", *given, "--out", str(tmp_path / "options"), "--workers", "1"]) == 0
    assert content(tmp_path / "file") == content(tmp_path / "options")
    capsys.readouterr()
    for arguments, message in (
        ([*config, "--length", "32"], "--length: a recipe is given with --config; set its fields with --config.NAME"),
        ([*config, "--config.lenght=3"], "lenght: no field 'lenght' (did you mean 'length'?)"),
        ([], "--source: give at least one"),
    ):
        assert main(["prepare", *arguments, "--out", str(tmp_path / "none")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_an_unknown_field_of_a_recipe_is_named(tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from ml_collections import ConfigDict\ndef get_config(_=''): return ConfigDict(dict(sources={}, pack=''))"
    )
    assert main(["prepare", "--config", str(recipe), "--out", str(tmp_path / "none")]) == 2
    assert "a recipe has no field 'pack' (did you mean 'packing'?)" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["3/3", "1", "a/b", "-1/3"])
def test_a_shard_is_one_of_n(tmp_path, options, shard, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["prepare", *options, "--out", str(tmp_path / "out"), f"--shard={shard}"])
    assert caught.value.code == 2
    assert f"'{shard}' is not I/N with I from 0 to N - 1" in capsys.readouterr().err


def test_the_papers_corpus_is_a_recipe_whose_sources_can_be_replaced(tmp_path, library, vocabulary):
    arguments = ["--config", str(ROOT / "configs/corpora/wiki_books.py"), f"--config.tokenizer={vocabulary}"]
    arguments += [f"--config.sources.wikipedia=text:{library}/a.txt", f"--config.sources.books=text:{library}/b.txt"]
    arguments += ["--config.validation=0.2", "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(["prepare", *arguments]) == 0


def test_names_of_any_bytes_in_any_locale_make_the_same_corpus(tmp_path, library, vocabulary):
    text, out = tmp_path / "é[1], a=b\udcff.txt", tmp_path / "ü\udcff"
    text.write_bytes((library / "a.txt").read_bytes())
    command = [sys.executable, "-m", "ctcd_jax", "prepare", "--source", f"text:{text}", "--out", str(out)]
    command += ["--tokenizer", str(vocabulary), "--validation", "0.2", "--workers", "1"]
    made = []
    for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | locale
        result = subprocess.run(command, env=environment, capture_output=True)
        assert (result.returncode, result.stderr) == (0, b"")
        made.append(content(out))
        again = subprocess.run(command, env=environment, capture_output=True)
        assert b"already prepared" in again.stdout
        out.rename(tmp_path / f"made{len(made)}")
    assert made[0] == made[1]


def test_home_is_a_tilde_everywhere(tmp_path, monkeypatch, library, vocabulary):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "recipe.py").write_text(
        "from ctcd_jax.config import recipe\n"
        "def get_config(preset=''):\n"
        "    return recipe({'one': 'text:~/a.txt'}, tokenizer='~/vocab.txt', validation=0.2)\n"
    )
    for name, source in (("a.txt", library / "a.txt"), ("vocab.txt", vocabulary)):
        (tmp_path / name).write_bytes(source.read_bytes())
    assert main(["prepare", "--config", "~/recipe.py", "--out", "~/out", "--workers", "1"]) == 0
    assert (tmp_path / "out/corpus.json").is_file()


def test_a_job_array_and_one_more_job_make_the_corpus(tmp_path, options):
    """With `srun` replaced by a command that takes its one option and runs the rest, and the script as it is."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text('#!/bin/bash\n[ "$1" = --cpus-per-task=1 ] || exit 1\nexec "${@:2}"\n')
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "ctcd").write_text(f'#!/bin/bash\nexec {sys.executable} -m ctcd_jax "$@"\n')
    for path in (commands / "srun", tmp_path / ".venv" / "bin" / "ctcd"):
        path.chmod(0o755)
    arguments = [*options, "--validation", "0.2"]
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(ROOT)}

    def job(out, **more):
        environment = os.environ | slurm | more | {"PATH": f"{commands}:{os.environ['PATH']}"}
        script = ["bash", str(ROOT / "launch/slurm/prepare.sbatch"), *arguments, "--out", str(out)]
        return subprocess.run(script, env=environment, capture_output=True, text=True)

    early = job(tmp_path / "array")
    assert early.returncode == 2
    assert "parts are missing" in early.stderr
    for task in range(2):
        result = job(tmp_path / "array", SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="2")
        assert result.returncode == 0, result.stderr
        assert f"shard {task}/2 is done" in result.stdout
    assert job(tmp_path / "array").returncode == 0
    assert main(["prepare", *arguments, "--out", str(tmp_path / "alone"), "--workers", "1"]) == 0
    assert content(tmp_path / "array") == content(tmp_path / "alone")
