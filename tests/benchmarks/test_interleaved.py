"""Turns, ratios and the lines between parent and worker."""

import io
import sys

import pytest

from ctcd_jax.benchmarks import interleaved
from ctcd_jax.benchmarks.interleaved import Measured, interleave, python_module, ratio, serve
from ctcd_jax.errors import UserError

# Answers with its own number of steps so far, and notes every turn in a file that all workers share.
WORKER = """
import json, sys
name, notes = sys.argv[1:]
print(json.dumps({"name": name}), flush=True)
for count, line in enumerate(sys.stdin):
    with open(notes, "a") as file:
        file.write(name)
    print(count, flush=True)
"""


def test_workers_take_turns_and_warm_up_is_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(interleaved, "WARM_UP_ROUNDS", 1)
    notes = str(tmp_path / "notes")
    measured = interleave({name: [sys.executable, "-c", WORKER, name, notes] for name in "abc"}, rounds=3)
    assert (tmp_path / "notes").read_text() == "abccbaabccba"
    assert {name: m.facts["name"] for name, m in measured.items()} == {"a": "a", "b": "b", "c": "c"}
    assert all(m.seconds == [1, 2, 3] for m in measured.values())


def test_serve_compiles_before_it_is_ready():
    calls, answers = [], io.StringIO()
    serve(lambda: calls.append(1), {"device": "cpu"}, ["go\n", "go\n"], answers)
    ready, *seconds = answers.getvalue().splitlines()
    assert (ready, len(calls), len(seconds)) == ('{"device": "cpu"}', 3, 2)
    assert all(float(value) >= 0 for value in seconds)
    with pytest.raises(ValueError, match="told 'go', not 'stop"):
        serve(lambda: None, {}, ["stop\n"], answers)


def test_a_worker_that_dies_or_refuses_is_named(capfd):
    with pytest.raises(RuntimeError, match="worker 'a' ended with code 3"):
        interleave({"a": [sys.executable, "-c", "raise SystemExit(3)"]}, rounds=1)
    refusing = (
        "import sys; from ctcd_jax.benchmarks.interleaved import refuse; from ctcd_jax.errors import UserError; "
        "refuse(UserError('no such device'), sys.stdout)"
    )
    with pytest.raises(UserError, match="no such device"):
        interleave({"a": [sys.executable, "-c", refusing]}, rounds=1)


def test_ratios_are_taken_within_a_round():
    measured = {"x": Measured({}, [3.0, 8.0, 30.0]), "y": Measured({}, [1.0, 1.0, 10.0]), "z": Measured({}, [1, 3, 5])}
    # 3/2, 8/4, 30/15: the third round was slow for all, and its ratio is like the others.
    assert ratio(measured, ("x",), ("y", "z")) == {"rounds": [1.5, 2.0, 2.0], "median": 2.0, "min": 1.5, "max": 2.0}
    assert ratio(measured, ("y", "z"), ("x",))["rounds"] == pytest.approx([2 / 3, 0.5, 0.5])


def test_a_real_worker():
    command = python_module("ctcd_jax.benchmarks.worker", "student", "smoke")
    (measured,) = interleave({"student": command}, rounds=2).values()
    assert len(measured.seconds) == 2
    assert min(measured.seconds) > 0
    assert measured.facts["device"]
    assert 0 < measured.facts["predicted"] < measured.facts["tokens"] < measured.facts["flops"]
