"""The best moment of a run: it is kept, recovered and exported, and a run may end some evaluations after it."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from ctcd_jax.config import edge, member, resolve
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.models.huggingface import load_pretrained
from ctcd_jax.training import held_out, loop, train
from ctcd_jax.training.best import evaluated, going_on, recorded_best
from ctcd_jax.training.checkpoint import load_member, saved_step, saved_steps
from ctcd_jax.training.export import export
from ctcd_jax.training.members import weights_sha256
from ctcd_jax.training.provenance import read_provenance
from tests.small import config

LOSSES = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.2, 10: 4.1, 12: 4.6}


def small(corpus, steps=12, **changes):
    often = {"log_every": 2, "eval_every": 2, "checkpoint_every": 5, "keep_checkpoints": 1}
    return config(corpus, ("student",), steps=steps, **(often | changes))


@pytest.fixture(scope="module", autouse=True)
def losses():
    """Makes the student's validation loss at a step that of LOSSES: one that is best in the middle."""
    record = held_out.record

    def made(kind, step, *rest):
        line = record(kind, step, *rest)
        if kind == "validation":
            line["members"]["student"]["hard"] = LOSSES[step]
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "record", made)
        yield


def go(settings, workdir, **options):
    said = []
    train(settings, workdir, log=said.append, **options)
    return said


def validations(workdir):
    lines = [json.loads(text) for text in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == "validation"]


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run of 8 steps, the fourth of which was its best."""
    workdir = tmp_path_factory.mktemp("best") / "run"
    go(small(corpus, steps=8), workdir)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "copy"))


def die_after(monkeypatch, step):
    """Kills the run when it comes to save after `step`."""
    save = loop.Checkpoints.save

    def save_or_die(checkpoints, at, *state):
        if at > step:
            raise KeyboardInterrupt
        save(checkpoints, at, *state)

    monkeypatch.setattr(loop.Checkpoints, "save", save_or_die)


def test_evaluations_are_counted_from_the_best():
    best = None
    for step, loss in LOSSES.items():
        best = evaluated(best, "student", step, loss)
    assert best == {"member": "student", "step": 4, "loss": 4.0, "since": 4}
    assert evaluated(best, "student", 14, None) == {**best, "since": 5}
    assert evaluated(best, "student", 14, float("nan")) == {**best, "since": 5}
    assert evaluated(None, "student", 14, float("nan")) is None
    assert going_on(best, "teacher", 12, []) is None
    assert going_on(best, "student", 12, [{"from_step": 4, "changed": {}}]) == best
    assert going_on(best, "student", 12, [{"from_step": 12, "changed": {}}]) == {**best, "since": 0}


def test_multiples_of_a_number_of_steps_stay(corpus, tmp_path):
    settings = small(corpus, steps=8, checkpoint_every=1, keep_every=3, keep_best=None)
    go(settings, tmp_path / "run")
    assert saved_steps(tmp_path / "run") == [3, 6, 8]


def test_the_best_step_is_kept_and_exported_also_when_the_run_was_killed(run, corpus, tmp_path, monkeypatch):
    killed = tmp_path / "killed"
    with monkeypatch.context() as dies:
        die_after(dies, 6)
        with pytest.raises(KeyboardInterrupt):
            go(small(corpus, steps=8), killed)
    assert "resumed at step 5 of 8" in go(small(corpus, steps=8), killed)
    for workdir in (run, killed):
        assert saved_steps(workdir) == [4, 8]
        assert recorded_best(workdir, 8) == {"member": "student", "step": 4, "loss": 4.0, "since": 2}
    assert (run / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()

    said = []
    export(killed, "student", tmp_path / "out", "best", log=said.append)
    assert "step 4: the best validation loss of 'student', 4.0000" in said
    _, exported = load_pretrained(tmp_path / "out")
    ours = load_member(run, "student", 4)[1]
    ours["embeddings"]["token_type"] = exported["embeddings"]["token_type"]  # its row 1 was never trained
    jax.tree.map(np.testing.assert_array_equal, exported, ours)
    assert json.loads((tmp_path / "out" / "ctcd.json").read_text())["training"]["step"] == 4


@pytest.mark.parametrize(("step", "taken"), [("@best", 4), ("@8", 8), ("", 8)])
def test_a_member_of_another_run_starts_from_the_step_that_is_named(run, corpus, tmp_path, step, taken):
    settings = small(corpus, steps=2)
    settings.members.student = member(init=f"run:{run}#student{step}")
    workdir, warned = tmp_path / "run", []
    go(settings, workdir, warn=warned.append)
    settings.members.student.init = f"run:{run}#student@{taken}"  # the same weights by another name
    assert "resumed at step 2 of 2" in go(settings, workdir, warn=warned.append)
    assert {line.split(" than ")[0] for line in warned} == {"'student' predicts worse"}  # of its loss, which is made up
    start = read_provenance(workdir)["starts"]["student"]
    assert (start["step"], start["weights"]) == (taken, weights_sha256(load_member(run, "student", taken)[1]))
    export(workdir, "student", tmp_path / "out", log=lambda line: None)
    card = (tmp_path / "out/README.md").read_text()
    assert "member `student` of run `run`" in card
    assert ("of run `run` at step 4 of 8" in card) == (taken == 4)


def test_whose_best_step_it_is_and_that_its_run_was_not_finished_are_said(corpus, copy, tmp_path):
    both = config(corpus, steps=6, log_every=2, eval_every=2, checkpoint_every=2)
    go(both, tmp_path / "both")
    shutil.rmtree(copy / "checkpoints/8")
    settings = small(corpus, steps=2)
    settings.members.teacher = member(trainable=False, init=f"run:{tmp_path}/both#teacher@best")
    settings.members.student = member(init=f"run:{copy}#student@best")
    settings.edges = (edge("teacher", "student"),)
    said = []
    go(settings, tmp_path / "run", warn=said.append)
    teacher, student = (f"members.{name}.init: {settings.members[name].init} is" for name in ("teacher", "student"))
    assert [line for line in said if "init" in line] == [
        f"{teacher} as of step 4, the best of 'student' (train.keep_best)",
        f"{student} of a run that stopped at step 4 of 8",
    ]
    settings.members.teacher.init = f"run:{tmp_path}/run#teacher@2"
    with pytest.raises(UserError, match=r"'teacher' is frozen there, .*; leave @2 out"):
        go(settings, tmp_path / "next")
    settings.members.teacher.init = f"run:{tmp_path}/run#teacher"
    go(settings, tmp_path / "next")
    settings.members.teacher.init += "@2"
    go(settings, tmp_path / "next", warn=said.append)
    assert any(line.endswith(f"goes on with run:{tmp_path}/run#teacher, which it began with") for line in said)


def test_a_best_step_that_has_changed_is_not_taken(copy):
    place = copy / "checkpoints/8/meta/metadata"
    place.write_text(place.read_text().replace('"step": 4', '"step": 8'))
    with pytest.raises(UserError, match=r"no best step there: .* or step 8 is damaged; saved are \[4, 8\]"):
        saved_step(copy, "best")


def test_a_step_that_was_not_kept_is_one_line_also_where_a_member_starts_from_it(run, corpus, tmp_path):
    settings = small(corpus, steps=2)
    settings.members.student = member(init=f"run:{run}#student@5")
    with pytest.raises(UserError, match=r"checkpoints: no step 5 there; saved are \[4, 8\]"):
        go(settings, tmp_path / "run")


def test_a_run_that_ends_early_is_finished_and_goes_on_with_change(corpus, tmp_path):
    workdir, settings = tmp_path / "run", small(corpus, early_stopping=2)
    ended = (
        "ended early, at step 8 of 12: 'student' has been no better in 2 evaluations than at step 4 (4.0000). "
        "To go on nevertheless: --change --config.train.early_stopping=None"
    )
    assert ended in go(settings, workdir)
    assert validations(workdir) == [2, 4, 6, 8]
    assert saved_steps(workdir) == [4, 8]
    before = (workdir / "metrics.jsonl").read_bytes()
    assert ended in go(settings, workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"begun with train\.early_stopping = 2, not 9; add --change"):
        go(small(corpus, early_stopping=9), workdir)
    # A change counts evaluations anew.
    said = go(small(corpus, early_stopping=2, steps=14), workdir, change=True)
    assert any(line.startswith("ended early, at step 12 of 14") for line in said)


def test_once_no_best_step_is_asked_for_none_is_kept(corpus, copy):
    assert saved_step(copy, "best") == 4
    said = go(small(corpus, steps=10, keep_best=None), copy, change=True)
    assert "train.keep_best is None: step 4, the best of 'student', is not kept longer" in said
    with pytest.raises(UserError, match=r"no best step there: train\.keep_best was None, .* saved are \[10\]"):
        saved_step(copy, "best")


def test_a_best_step_that_was_removed_is_said_and_replaced(corpus, copy):
    shutil.rmtree(copy / "checkpoints/4")
    said = []
    train(small(corpus, steps=10), copy, log=lambda _: None, change=True, warn=said.append)
    assert said[0] == "step 4, the best of 'student', is no longer there; the next best is kept"
    assert said[1].startswith("'student' overfits: from step 4 to 10")
    assert recorded_best(copy, 10)["step"] == 10


def test_the_smallest_trained_member_is_the_one_unless_another_is_named(corpus):
    made, opened = config(corpus), Corpus.open(corpus)
    assert resolve(made, opened).train.keep_best == "student"
    made.train.keep_best = "teacher"
    assert resolve(made, opened).train.keep_best == "teacher"
    made.train.keep_best = "studnet"
    with pytest.raises(
        UserError, match=r"train\.keep_best: no trainable member 'studnet' \(did you mean 'student'\?\)"
    ):
        resolve(made, opened)
    made.train.keep_best, made.train.early_stopping = None, 3
    with pytest.raises(UserError, match=r"train\.early_stopping: it needs train\.keep_best"):
        resolve(made, opened)
