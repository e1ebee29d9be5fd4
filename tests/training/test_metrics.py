"""Records where nothing was predicted: no figure, rather than a loss of 0."""

import json

from ctcd_jax.training.metrics import Writers, describe, flatten, record

TERMS = {
    "hard/student": (0.0, 0.0),
    "accuracy/student": (0.0, 0.0),
    "hard/teacher": (6.0, 2.0),
    "accuracy/teacher": (1.0, 2.0),
    "soft/teacher->student": (0.0, 0.0),
    "agreement/student~teacher": (0.0, 0.0),
}


def test_a_term_of_weight_zero_is_none_and_not_zero():
    line = record("train", 5, 100, TERMS)
    assert line["members"] == {
        "student": {"hard": None, "accuracy": None},
        "teacher": {"hard": 3.0, "accuracy": 0.5},
    }
    assert line["edges"] == {"teacher->student": {"soft": None}}
    assert line["agreement"] == {"student~teacher": None}


def test_people_read_a_dash_and_curves_have_no_point(tmp_path):
    line = record("train", 5, 100, TERMS)
    assert describe(line) == "hard student - teacher 3.0000 | soft teacher->student - | agree student~teacher -"
    assert flatten(line) == [("members/teacher/hard", 3.0), ("members/teacher/accuracy", 0.5)]
    writers = Writers(tmp_path, 0, None, {})
    writers.metrics(line)
    writers.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == line
