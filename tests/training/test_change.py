"""Extending a run, and repairing one: what `--change` allows, keeps and says, and that it can be done again."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ctcd_jax.cli import main
from ctcd_jax.config import OptimizerSettings
from ctcd_jax.config.file import load_config, recorded_config
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.errors import NonFinite, UserError
from ctcd_jax.training import history, loop, train
from ctcd_jax.training.checkpoint import load_member, saved_steps
from ctcd_jax.training.optimizer import learning_rate
from ctcd_jax.training.plan import plan
from tests.small import config

ROOT = Path(__file__).parents[2]


def small(corpus, steps=8, **changes):
    """A student alone, with dropout, so that a wrong key would show."""
    made = config(corpus, ("student",), steps=steps, log_every=2, eval_every=4, checkpoint_every=4)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        made[section][key] = value
    return made


def go(settings, workdir, **options):
    said = []
    train(settings, workdir, log=said.append, **options)
    return said


@pytest.fixture(scope="module")
def extended(corpus, tmp_path_factory):
    """A run of 8 steps that went on to 12, and what was said then."""
    workdir = tmp_path_factory.mktemp("extended") / "run"
    go(small(corpus), workdir)
    return workdir, go(small(corpus, 12), workdir, change=True)


def contents(workdir):
    params = load_member(workdir, "student")[1]
    return [(workdir / name).read_bytes() for name in ("metrics.jsonl", "config.json")], params


def assert_same(a, b):
    (files, params), (others, theirs) = contents(a), contents(b)
    assert files == others
    jax.tree.map(np.testing.assert_array_equal, params, theirs)


def test_a_finished_run_goes_on_and_says_how(extended):
    workdir, said = extended
    lines = [json.loads(text) for text in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert "resumed at step 8 of 12" in said
    assert "changed from step 8 on: train.steps 8 -> 12" in said
    rate = float(learning_rate(OptimizerSettings(learning_rate=3e-3), 12)(8))
    assert f"learning rate at step 8: student 0 -> {rate:.3g} (the schedule of 12 steps, entered there)" in said
    run = read_run(workdir)
    assert run["train"]["steps"] == run["resolved"]["steps"] == 12
    assert run["history"] == [{"from_step": 8, "changed": {"train.steps": [8, 12]}}]


def test_the_optimizer_goes_on_where_it_was(extended):
    """Its count decides the rate, and its moments the direction: both are those of 12 updates in a row."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(extended[0] / "checkpoints") as manager:
        state = manager.restore(12, args=ocp.args.Composite(state=ocp.args.PyTreeRestore())).state
    counts = [
        int(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state["members"]["student"]["opt_state"])
        if "count" in jax.tree_util.keystr(path)
    ]
    assert counts == [12] * len(counts)
    assert counts


@pytest.mark.slow
def test_the_same_history_gives_the_same_bytes_whatever_was_killed(extended, corpus, tmp_path, monkeypatch):
    go(small(corpus), tmp_path / "run")

    class Killed(Exception):
        pass

    step = loop.make_train_step

    def make(*arguments):
        compute, left = step(*arguments), [2]

        def killed(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return compute(*arguments)

        return killed

    monkeypatch.setattr(loop, "make_train_step", make)
    with pytest.raises(Killed):
        go(small(corpus, 12), tmp_path / "run", change=True)
    monkeypatch.undo()
    assert saved_steps(tmp_path / "run")[-1] == 8
    go(small(corpus, 12), tmp_path / "run")  # the change is known now
    assert_same(tmp_path / "run", extended[0])


def test_a_change_that_is_not_asked_for_or_not_one_is_refused(extended, corpus, tmp_path):
    workdir = extended[0]
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(
        UserError, match=r"begun with train\.steps = 12, not 16; add --change to go on with it from step 12"
    ):
        go(small(corpus, 16), workdir)
    with pytest.raises(UserError, match=r"begun with optimizer\.learning_rate = 0\.003, not 0\.1; add --change"):
        go(small(corpus, 12, optimizer__learning_rate=0.1), workdir)
    with pytest.raises(UserError, match=r"begun with masking\.rate = 0\.15, not 0\.2; --change is for train\.steps"):
        go(small(corpus, 16, masking__rate=0.2), workdir, change=True)
    with pytest.raises(UserError, match=r"train\.steps: 10 are fewer than the 12 that .* has done"):
        go(small(corpus, 10), workdir, change=True)
    with pytest.raises(UserError, match="no run to change; leave out --change"):
        go(small(corpus), tmp_path / "none", change=True)
    assert not (tmp_path / "none").exists()
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.slow
def test_epochs_can_be_changed_too(extended, corpus, tmp_path):
    import shutil

    shutil.copytree(extended[0], tmp_path / "run")
    longer = small(corpus, None, train__epochs=0.26)
    said = []
    plan(longer, said.append, workdir=tmp_path / "run", change=True)
    assert any(line.startswith("of these 12 steps are done: 1 to go") for line in said)
    with pytest.raises(UserError, match="add --change"):
        plan(longer, said.append, workdir=tmp_path / "run")
    go(longer, tmp_path / "run", change=True)
    assert read_run(tmp_path / "run")["history"][-1] == {
        "from_step": 12,
        "changed": {"train.epochs": [None, 0.26], "train.steps": [12, None], "resolved.steps": [12, 13]},
    }


@pytest.mark.slow
def test_a_run_that_diverged_is_mended_as_its_message_says(corpus, tmp_path):
    """By clipping, and in float16 and back, whose state holds loss scales that float32's does not."""
    workdir = tmp_path / "run"
    go(small(corpus, 4), workdir)
    with pytest.raises(
        NonFinite, match=r"step 4, is kept\. Go on from it with --change and a lower --config\.optim"
    ) as said:
        go(small(corpus, 8, optimizer__learning_rate=1e36), workdir, change=True)
    assert "--config.train.dtype=float32" not in str(said.value)  # which it is
    go(small(corpus, 8, optimizer__clip_norm=1.0, train__dtype="float16"), workdir, change=True)
    mended = {"optimizer.clip_norm": [5.0, 1.0], "train.steps": [4, 8], "train.dtype": ["float32", "float16"]}
    assert read_run(workdir)["history"] == [{"from_step": 4, "changed": mended}]  # nothing was learnt at a rate of 1e36
    go(small(corpus, 10, optimizer__clip_norm=1.0), workdir, change=True)
    assert saved_steps(workdir) == [8, 10]
    assert [entry["from_step"] for entry in read_run(workdir)["history"]] == [4, 8]


@pytest.mark.slow
def test_without_a_saved_step_the_run_begins_again(corpus, tmp_path):
    diverging = small(corpus, optimizer__learning_rate=1e36)
    with pytest.raises(NonFinite, match="no step had been saved, so the run begins again"):
        go(diverging, tmp_path / "run")
    said = go(small(corpus, 4), tmp_path / "run")
    assert said[0] == f"{tmp_path / 'run'}: no step had been saved; the run begins afresh"
    assert "history" not in read_run(tmp_path / "run")


# The history, without a run.


def test_changes_at_the_same_step_are_one(corpus):
    first = history.with_change([], 8, {"train.steps": [8, 12], "optimizer.b1": [0.9, 0.8]})
    assert history.with_change(first, 8, {"train.steps": [12, 16], "optimizer.b1": [0.8, 0.9]}) == [
        {"from_step": 8, "changed": {"train.steps": [8, 16]}}
    ]


def test_going_on_from_an_earlier_step_moves_the_change_there():
    changes = [
        {"from_step": 4, "changed": {"optimizer.b1": [0.9, 0.8]}},
        {"from_step": 8, "changed": {"train.steps": [8, 12]}},
    ]
    assert history.going_on_from(changes, 6) == [changes[0], changes[1] | {"from_step": 6}]
    assert history.going_on_from(changes, 2) == [
        {"from_step": 2, "changed": {"optimizer.b1": [0.9, 0.8], "train.steps": [8, 12]}}
    ]


def test_settings_at_a_step_are_those_it_was_trained_with():
    content = {
        "train": {"steps": 12},
        "resolved": {"steps": 12, "dtype": "float32"},
        "optimizer": {"b1": 0.8},
        "history": [
            {"from_step": 4, "changed": {"optimizer.b1": [0.9, 0.8], "train.dtype": ["float16", "float32"]}},
            {"from_step": 8, "changed": {"train.steps": [8, 12]}},
        ],
    }
    content["train"]["dtype"] = "float32"
    at = {step: history.settings_at(content, step) for step in (4, 8, 9)}
    assert [at[step]["resolved"] for step in at] == [
        {"steps": 8, "dtype": "float16"}, {"steps": 8, "dtype": "float32"}, {"steps": 12, "dtype": "float32"},
    ]  # fmt: skip
    assert [at[step]["optimizer"]["b1"] for step in at] == [0.9, 0.8, 0.8]
    assert [history.dtype_at(content["history"], step, "float32") for step in (3, 4, 5)] == [
        "float16",
        "float16",
        "float32",
    ]


# `ctcd train --workdir DIR` alone.


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.py")))
def test_a_recorded_config_is_the_one_that_was_recorded(name):
    content = json.loads(load_config(f"{ROOT}/configs/{name}.py:paper").to_json_best_effort())
    assert json.dumps(json.loads(recorded_config(content).to_json_best_effort())) == json.dumps(content)


def test_a_recorded_config_takes_overrides():
    content = json.loads(load_config(f"{ROOT}/configs/ctcd.py:smoke").to_json_best_effort())
    overrides = ["--config.train.epochs=2", "--config.edges[1].weight=7"]
    changed = recorded_config(content, [*overrides, "--config.members.student.optimizer.learning_rate=1e-3"])
    assert (changed.train.steps, changed.train.epochs, changed.edges[1].weight) == (None, 2.0, 7.0)
    assert changed.members.student.optimizer.learning_rate == 1e-3
    with pytest.raises(UserError, match="did you mean 'train'"):
        recorded_config(content, ["--config.trian.steps=3"])
    with pytest.raises(UserError, match=r"--config\.train\.steps=many"):
        recorded_config(content, ["--config.train.steps=many"])


def test_the_workdir_alone_resumes(extended, capsys, tmp_path):
    assert main(["train", "--workdir", str(extended[0])]) == 0
    assert "resumed at step 12 of 12" in capsys.readouterr().out
    assert main(["train", "--workdir", str(extended[0]), "--config.seed=1"]) == 2
    assert "begun with seed = 0, not 1" in capsys.readouterr().err
    assert main(["train", "--workdir", str(tmp_path / "none")]) == 2
    assert "no run to go on with; name the config of a new one with --config" in capsys.readouterr().err


# Signals.


def test_a_signal_during_the_first_compilation_ends_it_at_once(corpus, config_file, tmp_path):
    """The compilation is one that nothing interrupts: a sleep that, as XLA does, leaves signals to the main thread."""
    code = f"""
import ctypes, os, signal, sys, threading
from ctcd_jax.training import loop
def make(*_):
    def step(*_):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        ctypes.CDLL(None).usleep(60_000_000)
    return step
loop.make_train_step = make
from ctcd_jax.cli import command
sys.argv = ["ctcd", "train", "--config", {str(config_file)!r}, "--workdir", {str(tmp_path / "run")!r},
            "--config.data.corpus={corpus}"]
sys.exit(command())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 75, done.stderr
    assert done.stderr.endswith("ctcd train: stopped; run the same command again to go on\n")
