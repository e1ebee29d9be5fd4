"""A run's directory: whose it is, what may be in it, that one works there at a time, and what is damaged in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.files import locked
from ctcd_jax.training import metrics, train
from ctcd_jax.training.checkpoint import load_member, saved_steps
from ctcd_jax.training.metrics import Writers, cut_after, last_seconds
from ctcd_jax.training.run import check_place
from tests.small import config

ROOT = Path(__file__).parents[2]


def small(corpus, **train):
    return config(corpus, ("student",), **{"steps": 4, "log_every": 2, "eval_every": 4, "checkpoint_every": 2} | train)


def silent(text):
    del text


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    train(small(corpus), workdir, log=silent)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "copy"))


# Names.


def test_any_name_will_do_also_one_that_looks_like_a_pattern(run, corpus, tmp_path):
    workdir = tmp_path / "[1] *?** ü # %20 {} $x '\" \n" / "run"
    train(small(corpus), workdir, log=silent)
    said = []
    train(small(corpus), workdir, log=said.append)
    assert "resumed at step 4 of 4" in said
    jax.tree.map(np.testing.assert_array_equal, load_member(workdir, "student")[1], load_member(run, "student")[1])


@pytest.mark.parametrize("name", [b"back\\slash", b"latin-\xe9"])
def test_a_name_that_cannot_is_refused_at_once(name, corpus, tmp_path):
    workdir = tmp_path / os.fsdecode(name)
    with pytest.raises(UserError, match=r"checkpoints cannot be written below a \\ or bytes that are not UTF-8"):
        train(small(corpus), workdir)
    assert not workdir.exists()


# What may be in a new directory.


def test_logs_and_what_the_file_system_puts_there_are_no_content(tmp_path):
    for name in ("train.log", "nohup.out", "slurm-123.out", ".nfs0001", "config.json.17.partial"):
        (tmp_path / name).write_text("")
    (tmp_path / "lost+found").mkdir()
    check_place(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"not empty and not a run \('thesis\.tex', and no config\.json\)"):
        check_place(tmp_path)


# One at a time.


def test_the_error_of_a_second_process_names_the_first(corpus, copy):
    code = "import pathlib, sys\nfrom ctcd_jax.files import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1]), 'x'): print(flush=True); input()"
    command = [sys.executable, "-c", code, str(copy / "lock")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        before = (copy / "metrics.jsonl").read_bytes()
        with pytest.raises(UserError, match=rf"copy: process {other.pid} on .* is at work there; wait until it has"):
            train(small(corpus), copy)
        assert (copy / "metrics.jsonl").read_bytes() == before
        assert load_member(copy, "student")  # reading is no work
        other.communicate("\n")
    train(small(corpus), copy, log=silent)


def test_the_lock_is_free_when_a_run_has_ended(run):
    with locked(run / "lock", "here"):
        pass


# Damage.


def test_damaged_lines_are_left_out_and_said(tmp_path):
    path, said = tmp_path / "metrics.jsonl", []
    good = '{"kind": "train", "step": %d, "tokens": 7, "members": {"a": {}}}\n'
    lines = [good % 5, "\x00\x01\n", '{"kind": "train", "step": 7}\n', "[5]\n", good % 10, good % 15, '{"ste']
    path.write_text("".join(lines))
    cut_after(path, 10, said.append)
    assert path.read_text() == good % 5 + good % 10
    assert said == [f"{path}: 3 damaged and left out (line 2, 3, 4)"]


def test_damaged_seconds_are_left_out(tmp_path):
    said = []
    (tmp_path / "timing.jsonl").write_text('{"step": 5, "seconds": 1.5}\n{"step": 10, "sec\x00nds": 2}\n{"step": 5\n')
    assert last_seconds(tmp_path, said.append) == 1.5
    assert len(said) == 1


def test_a_run_goes_on_past_damaged_lines(corpus, copy):
    whole = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join([whole[0], "{damaged\n", *whole[1:]]))
    (copy / "timing.jsonl").write_bytes(b"\xff\xfe\n")
    said = []
    train(small(corpus), copy, log=silent, warn=said.append)
    assert (copy / "metrics.jsonl").read_text() == "".join(whole)
    assert any("metrics.jsonl: 1 damaged and left out (line 2)" in line for line in said)
    assert any("timing.jsonl: 1 damaged and left out (line 1)" in line for line in said)


@pytest.mark.parametrize("history", ["x", [{}], [{"from_step": 1, "changed": None}], 3])
def test_a_damaged_history_is_one_line(history, corpus, copy):
    run = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(run | {"history": history}))
    with pytest.raises(UserError, match=r"config\.json: damaged"):
        train(small(corpus), copy, log=silent)


@pytest.mark.parametrize(
    "path",
    ["seed", "members student init", "edges", "resolved models student hidden", "optimizer", "resolved", "members"],
)
def test_a_config_json_without_something_is_one_line(path, corpus, copy):
    run = json.loads((copy / "config.json").read_text())
    *parents, last = path.split()
    place = run
    for parent in parents:
        place = place[parent]
    place["dam\x01ged"] = place.pop(last)
    (copy / "config.json").write_text(json.dumps(run))
    with pytest.raises(
        UserError, match=r"config\.json: (damaged|not the config of a run|resolved\.models\.student is damaged)"
    ) as error:
        train(small(corpus), copy, log=silent)
    assert "\n" not in str(error.value)


def test_the_reason_of_a_damaged_checkpoint_is_a_line_and_nothing_else_is_said(corpus, copy, capfd):
    for path in (copy / "checkpoints/4").rglob("d/*"):
        path.write_bytes(b"")
    said = []
    train(small(corpus), copy, log=silent, warn=said.append)
    (warning,) = [line for line in said if line.startswith("step 4 cannot be read")]
    assert "tensorstore_spec" not in warning
    assert len(warning) < 1000
    assert "Event loop is closed" not in capfd.readouterr().err
    assert saved_steps(copy)[-1] == 4


# Disks and keys.


def test_a_full_disk_under_the_curves_is_one_error_and_no_thread_waits(tmp_path):
    line = {"kind": "train", "step": 1, "tokens": 1, "members": {"student": {"hard": 1.0}}}
    writers = Writers(tmp_path, 0, None, {})

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

        flush = close = write

    writers._curves._file._py_recordio_writer._writer = Full()
    for _ in range(2):
        with pytest.raises(UserError, match=r"tensorboard: No space left on device; make room and start again"):
            writers.metrics(line)
    writers.close()


def test_wandb_without_a_key_names_both_ways_out(tmp_path, monkeypatch):
    import wandb

    def init(**_):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.\nmore")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(
        UserError, match=r"wandb\.project: .*No API key configured.*WANDB_API_KEY, or WANDB_MODE=offline"
    ):
        metrics.Writers(tmp_path, 0, "mine", {})


# Several processes.


def test_processes_with_different_configs_all_end(corpus, config_file, tmp_path):
    second = "--config.optimizer.learning_rate=1e-3"
    message = "optimizer.learning_rate is 0.0005 on process 0, but 0.001 on process 1"
    from launch.local import environment, free_port

    workdir, address = tmp_path / "run", f"localhost:{free_port()}"
    command = [sys.executable, "-m", "ctcd_jax", "train", "--config", f"{config_file}:student", "--workdir",
               str(workdir), f"--config.data.corpus={corpus}"]  # fmt: skip
    started = [
        subprocess.Popen(
            [*command, *([second] if index else [])],
            cwd=ROOT,
            env=environment(address, 2, index, []) | {"JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in started:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 2, said
        assert f"ctcd train: {message}; start every process of a run with the same command\n" in said
    assert not workdir.exists()
