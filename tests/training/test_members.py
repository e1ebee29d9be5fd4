"""What members start from: known by its weights, whatever it is called, and remembered when it has gone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ctcd_jax.artifacts.runs import PROVENANCE
from ctcd_jax.config import edge, member
from ctcd_jax.config.init_spec import Init, read_run
from ctcd_jax.errors import UserError
from ctcd_jax.training import train
from ctcd_jax.training.checkpoint import load_member
from ctcd_jax.training.export import export
from ctcd_jax.training.frozen import load_frozen
from ctcd_jax.training.members import weights_sha256
from ctcd_jax.training.provenance import card_facts, read_provenance, start_facts
from tests.small import config


def alone(corpus, seed, steps=2):
    made = config(corpus, ("teacher",), steps=steps, log_every=2, eval_every=2, checkpoint_every=1)
    made.seed = seed
    return made


def one_way(corpus, init, steps=2):
    made = config(corpus, (), steps=steps, log_every=2, eval_every=2, checkpoint_every=2)
    made.members.teacher = member(trainable=False, init=init)
    made.members.student = member(init="layers:teacher#0")
    made.edges = (edge("teacher", "student"),)
    return made


def go(settings, workdir):
    said = []
    train(settings, workdir, log=said.append, warn=said.append)
    return said


@pytest.fixture(scope="module")
def teachers(corpus, tmp_path_factory):
    places = [tmp_path_factory.mktemp("teachers") / name for name in ("first", "second")]
    for seed, place in enumerate(places):
        go(alone(corpus, seed), place)
    return places


@pytest.fixture(scope="module")
def taught(corpus, teachers, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("taught") / "run"
    go(one_way(corpus, f"run:{teachers[0]}#teacher"), workdir)
    return workdir


@pytest.fixture
def copy(taught, tmp_path):
    return Path(shutil.copytree(taught, tmp_path / "copy"))


def test_weights_are_known_by_what_they_are():
    tree = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": np.zeros(2, np.float32)}
    same = {"c": np.zeros(2, np.float32), "a": {"b": np.asfortranarray(tree["a"]["b"])}}
    assert weights_sha256(tree) == weights_sha256(same)
    assert weights_sha256(tree) != weights_sha256(same | {"c": np.float32([0, 1])})
    assert weights_sha256(tree) != weights_sha256(same | {"d": np.zeros(2, np.float32)})
    assert weights_sha256({"a": np.zeros((2, 3))}) != weights_sha256({"a": np.zeros((3, 2))})


def test_another_teacher_is_refused_however_often_it_is_named(corpus, teachers, copy):
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"members\.teacher\.init: run:.*second#teacher holds other weights"
        ) as said:
            go(one_way(corpus, f"run:{teachers[1]}#teacher"), copy)
        assert f"than run:{teachers[0]}#teacher, which this run began with" in str(said.value)
    assert "resumed at step 2 of 2" in go(one_way(corpus, f"run:{teachers[0]}#teacher"), copy)


def test_a_teacher_may_move_change_kind_of_file_or_go(corpus, teachers, copy, tmp_path):
    moved = shutil.copytree(teachers[0], tmp_path / "moved")
    assert "resumed at step 2 of 2" in go(one_way(corpus, f"run:{moved}#teacher"), copy)
    assert read_run(copy)["members"]["teacher"]["init"] == f"run:{moved}#teacher"
    shutil.rmtree(moved)
    assert not [line for line in go(one_way(corpus, f"run:{moved}#teacher"), copy) if "init" in line]
    said = go(one_way(corpus, "run:/elsewhere#teacher"), copy)
    assert any(line.endswith(f"the run goes on with run:{moved}#teacher, which it began with") for line in said)
    assert read_run(copy)["members"]["teacher"]["init"] == f"run:{moved}#teacher"  # what the card will name


def test_a_teacher_that_learned_on_in_its_place_is_said(corpus, teachers, copy, tmp_path):
    place = Path(shutil.copytree(teachers[0], tmp_path / "place"))
    go(one_way(corpus, f"run:{place}#teacher"), copy)
    shutil.rmtree(place)
    shutil.copytree(teachers[1], place)
    said = go(one_way(corpus, f"run:{place}#teacher"), copy)
    assert any("place#teacher holds other weights" in line for line in said)
    assert weights_sha256(load_frozen(copy, "teacher")) == weights_sha256(load_member(teachers[0], "teacher")[1])


def test_before_the_first_save_the_teacher_is_the_one_named_now(corpus, teachers, copy):
    shutil.rmtree(copy / "checkpoints")
    go(one_way(corpus, f"run:{teachers[1]}#teacher"), copy)
    theirs = weights_sha256(load_member(teachers[1], "teacher")[1])
    assert weights_sha256(load_frozen(copy, "teacher")) == theirs
    assert read_provenance(copy)["starts"]["teacher"]["weights"] == theirs


def test_an_unfinished_teacher_is_said_and_stands_on_the_card(corpus, teachers, tmp_path):
    place = Path(shutil.copytree(teachers[0], tmp_path / "killed"))
    shutil.rmtree(place / "checkpoints/2")
    said = go(one_way(corpus, f"run:{place}#teacher"), tmp_path / "run")
    assert f"members.teacher.init: run:{place}#teacher stopped at step 1 of 2" in said
    export(tmp_path / "run", "student", tmp_path / "out", log=said.append)
    assert "member `teacher` of run `killed` at step 1 of 2 |" in (tmp_path / "out/README.md").read_text()


def test_what_a_run_trained_from_scratch_is_known_through_runs_layers_and_exports(corpus, taught, teachers, tmp_path):
    """Token type 1 was never trained: every export has row 0 there, also of what started from such members."""
    for name in ("student", "teacher"):
        export(taught, name, tmp_path / name, log=lambda _: None)
        from ctcd_jax.models.huggingface import load_pretrained

        types = load_pretrained(tmp_path / name)[1]["embeddings"]["token_type"]
        np.testing.assert_array_equal(types[0], types[1])
        assert "Not trained: token type 1, a copy of type 0" in (tmp_path / name / "README.md").read_text()
    facts = json.loads((tmp_path / "student/ctcd.json").read_text())
    assert (facts["from_scratch"], facts["earlier_rows"]) == (True, 32)
    assert "came with the weights that it started from" in (tmp_path / "student/README.md").read_text()
    go(one_way(corpus, f"hf:{tmp_path / 'teacher'}", steps=2), tmp_path / "run")
    shutil.rmtree(tmp_path / "teacher")
    for name in ("teacher", "student"):
        facts = card_facts(read_run(tmp_path / "run"), tmp_path / "run", name, None)
        assert (facts["from_scratch"], facts["earlier_rows"]) == (True, 32)


def test_a_run_of_an_earlier_version_asks_its_source_while_that_is_there(taught, copy):
    known = read_provenance(copy)
    del known["starts"]
    (copy / PROVENANCE).write_text(json.dumps(known))
    run = read_run(copy)
    assert card_facts(run, copy, "student", None)["from_scratch"]
    run["members"]["teacher"]["init"] = "run:/gone#teacher"
    assert not card_facts(run, copy, "student", None)["from_scratch"]


def test_an_export_whose_facts_are_damaged_is_taken_for_a_stranger_and_that_is_said(taught, tmp_path):
    export(taught, "student", tmp_path / "student", log=lambda _: None)
    sources, said = {"teacher": Init("hf", str(tmp_path / "student"))}, []
    assert start_facts(sources, "teacher", said.append) == {"from_scratch": True, "rows": 32}
    assert said == []
    (tmp_path / "student/ctcd.json").write_text('{"format": 1}')
    assert not start_facts(sources, "teacher", said.append)["from_scratch"]
    assert said[0].startswith(f"{tmp_path}/student: taken for a model that is not of this project: {tmp_path}/student/")
