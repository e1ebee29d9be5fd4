"""A run's directory: whose it is, what may be in it, that one works there at a time, and what is damaged in it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256, locked
from ctcd_jax.runtime.distributed import directory_identity
from ctcd_jax.training import train
from ctcd_jax.training.checkpoint import load_member, saved_steps
from ctcd_jax.training.metrics import cut_after, last_seconds
from ctcd_jax.training.run import check_place, config_of_run, open_corpus
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
    assert re.search(r" has changed; and \d+ more files\)", warning)
    assert "Event loop is closed" not in capfd.readouterr().err
    assert saved_steps(copy)[-1] == 4


# Runs of earlier versions.


def test_a_run_from_before_a_field_that_may_change_was_there_goes_on(corpus, copy):
    content = json.loads((copy / "config.json").read_text())
    del content["trackio"], content["train"]["profile_steps"]
    (copy / "config.json").write_text(json.dumps(content))
    said = []
    train(small(corpus), copy, log=said.append)
    train(config_of_run(copy, []), copy, log=said.append)
    assert said.count("resumed at step 4 of 4") == 2


# Several processes.


def processes(workdir, config_file, corpus, *own):
    """Starts the processes of a run; `own` are more arguments of each."""
    from launch.local import environment, free_port

    address = f"localhost:{free_port()}"
    command = [sys.executable, "-m", "ctcd_jax", "train", "--config", f"{config_file}:student", "--workdir",
               str(workdir), f"--config.data.corpus={corpus}"]  # fmt: skip
    return [
        subprocess.Popen(
            [*command, *more],
            cwd=ROOT,
            env=environment(address, len(own), index, []) | {"JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, more in enumerate(own)
    ]


def refusals(*arguments):
    """Returns what the `processes` say on stderr, which end with code 2."""
    started = processes(*arguments)
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], said
    return said


@pytest.mark.parametrize("failing", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_of_one_process_ends_the_other_with_the_same_line(failing, corpus, config_file, tmp_path):
    own = [[], []]
    own[failing] = ["--config", "missing.py"]
    for said in refusals(tmp_path / "run", config_file, corpus, *own):
        assert said.endswith("ctcd train: --config missing.py: no such file\n")


@pytest.mark.slow
def test_a_process_that_dies_is_named_and_ends_the_others(corpus, config_file, tmp_path):
    started = processes(tmp_path / "run", config_file, corpus, *[["--config.train.steps=100000"]] * 2)
    until = time.monotonic() + 120
    while not (tmp_path / "run/metrics.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    started[1].kill()
    said = started[0].communicate(timeout=60)[1]
    assert started[0].returncode == 1
    assert said.endswith(
        f"ctcd train: process 1 on {socket.gethostname()} has died: no sign of it for 30 s; see its log\n"
    )


def test_processes_with_different_configs_all_end(corpus, config_file, tmp_path):
    second = "--config.optimizer.learning_rate=1e-3"
    message = "optimizer.learning_rate is 0.003 on process 0, but 0.001 on process 1"
    for said in refusals(tmp_path / "run", config_file, corpus, [], [second]):
        assert f"ctcd train: {message}; start every process of a run with the same command\n" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_damaged_shard_that_one_process_finds_ends_all(corpus, config_file, tmp_path):
    damaged = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    file = list(damaged.glob("validation-*.npy"))[-1]
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    for said in refusals(tmp_path / "run", config_file, damaged, [], []):
        assert f"ctcd train: {file}: its checksum is not the one in corpus.json; prepare the corpus again\n" in said


@pytest.mark.parametrize(
    ("hosts", "shares"),
    [("a", [(0, 1)]), ("aaa", [(0, 3), (1, 3), (2, 3)]), ("abab", [(0, 2), (0, 2), (1, 2), (1, 2)])],
)
def test_every_shard_is_read_once_a_host(corpus, monkeypatch, hosts, shares):
    found = []
    monkeypatch.setattr(Corpus, "verify", lambda self, index, count: found.append((index, count)))
    monkeypatch.setattr("ctcd_jax.training.run.gather", lambda text: list(hosts))
    for process in range(len(hosts)):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        open_corpus(corpus)
    assert found == shares


def test_shares_of_a_corpus_are_all_of_it(corpus, monkeypatch):
    read = []
    monkeypatch.setattr("ctcd_jax.data.corpus.file_sha256", lambda path: read.append(path.name) or file_sha256(path))
    opened = Corpus.open(corpus, verify=False)
    assert read == []
    for index in range(3):
        opened.verify(index, 3)
    assert sorted(read) == sorted(path.name for path in Path(corpus).glob("*.npy"))


def test_only_one_and_the_same_directory_is_known_as_such(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "b").mkdir()
    assert directory_identity(tmp_path / "a") == directory_identity(tmp_path / "link")
    assert directory_identity(tmp_path / "a") != directory_identity(tmp_path / "b")
