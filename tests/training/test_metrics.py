"""Records where nothing was predicted: no figure, rather than a loss of 0."""

import json
from dataclasses import replace

import pytest

from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.distill.objective import Mean, Terms
from ctcd_jax.training.console import describe
from ctcd_jax.training.metrics import Writers, figures, record, with_optimizers

COHORT = Cohort({"teacher": Member(hard_weight=2.0), "student": Member()}, (Edge("teacher", "student", weight=4.0),))
TERMS = Terms(
    hard={"student": Mean(0.0, 0.0), "teacher": Mean(6.0, 2.0)},
    accuracy={"student": Mean(0.0, 0.0), "teacher": Mean(1.0, 2.0)},
    soft={"teacher->student": Mean(0.0, 0.0)},
    agreement={"student~teacher": Mean(0.0, 0.0)},
)


def test_a_term_of_weight_zero_is_none_and_not_zero():
    line = record("train", 5, 100, TERMS, COHORT, 20)
    assert line["members"] == {
        "student": {"hard": None, "accuracy": None},
        "teacher": {"hard": 3.0, "accuracy": 0.5},
    }
    assert line["edges"] == {"teacher->student": {"soft": None}}
    assert line["agreement"] == {"student~teacher": None}


def test_the_loss_is_that_of_the_cohort():
    hard = TERMS.hard | {"student": Mean(4.0, 2.0)}
    terms = replace(TERMS, hard=hard, soft={"teacher->student": Mean(1.0, 2.0)})
    assert record("train", 5, 100, TERMS, COHORT, 20)["loss"] is None
    line = record("train", 5, 100, terms, COHORT, 20)
    assert line["loss"] == pytest.approx(2 * 3.0 + 2.0 + 4 * 0.5)
    assert figures(line)["train/loss"] == line["loss"]


def test_a_gradient_that_overflowed_has_no_norm():
    line = record("train", 5, 100, TERMS, COHORT, 20)
    line = with_optimizers(line, {"teacher": 1e-3, "student": 5e-4}, {"teacher": 2.0, "student": float("inf")})
    assert line["members"]["teacher"] == {"hard": 3.0, "accuracy": 0.5, "learning_rate": 1e-3, "gradient_norm": 2.0}
    assert line["members"]["student"]["gradient_norm"] is None


def test_people_read_a_dash_and_curves_have_no_point(tmp_path):
    line = record("train", 5, 100, TERMS, COHORT, 20)
    assert describe(line) == "hard student - teacher 3.0000 | soft teacher->student - | agree -"
    assert figures(line) == {
        "train/tokens": 100,
        "train/members/teacher/hard": 3.0,
        "train/members/teacher/accuracy": 0.5,
    }
    writers = Writers(tmp_path, 0, {}, {})
    writers.metrics(line)
    writers.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == line
