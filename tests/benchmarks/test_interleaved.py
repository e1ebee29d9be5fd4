"""Turns, ratios and the lines between parent and worker."""

import io
import json
import sys

import pytest

from ctcd_jax.benchmarks.interleaved import WorkerMeasurements, interleave, python_module, ratio, serve
from ctcd_jax.benchmarks.workload import Case
from ctcd_jax.runtime.cores import available_cores

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


def test_workers_take_turns_and_warm_up_is_not_counted(tmp_path):
    notes = str(tmp_path / "notes")
    commands = {name: [sys.executable, "-c", WORKER, name, notes] for name in "abc"}
    measured, refused = interleave(commands, rounds=3, warm_up=1)
    assert not refused
    assert (tmp_path / "notes").read_text() == "abccbaabccba"
    assert {name: m.facts["name"] for name, m in measured.items()} == {"a": "a", "b": "b", "c": "c"}
    assert all(m.seconds == [1, 2, 3] for m in measured.values())


def test_serve_compiles_before_it_reports():
    calls, answers = [], io.StringIO()
    serve(lambda: calls.append(1), lambda: {"steps before": len(calls)}, ["go\n", "go\n"], answers)
    ready, *seconds = answers.getvalue().splitlines()
    facts = json.loads(ready)
    assert facts["steps before"] == 1
    assert facts["compile_seconds"] >= 0
    assert (len(calls), len(seconds)) == (3, 2)
    assert all(float(value) >= 0 for value in seconds)
    with pytest.raises(ValueError, match="requests are 'go', not 'stop"):
        serve(lambda: None, dict, ["stop\n"], answers)


def test_the_fastest_rival_alone_goes_on(tmp_path):
    notes = str(tmp_path / "notes")
    commands = {name: [sys.executable, "-c", WORKER, name, notes] for name in "asf"}
    # Steps of the slow one take a minute longer, by its own account.
    commands["s"][2] = WORKER.replace("print(count,", "print(60 + count,")
    measured, refused = interleave(commands, rounds=1, warm_up=1, rivals="sf")
    assert not refused
    assert (tmp_path / "notes").read_text() == "sffssffs" + "affa"
    assert {name: (m.seconds, m.screening) for name, m in measured.items()} == {
        "a": ([1], []),
        "s": ([], [61, 62, 63]),
        "f": ([5], [1, 2, 3]),
    }
    measured, _ = interleave({"f": commands["f"]}, rounds=1, warm_up=1, rivals="sf")
    assert (measured["f"].seconds, measured["f"].screening) == ([1], [])


def test_a_worker_has_variables_of_its_own(monkeypatch):
    names = ("A", "B", "XLA_PYTHON_CLIENT_PREALLOCATE")
    program = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {names}}}))"
    monkeypatch.setenv("A", "shell")
    monkeypatch.setenv("B", "shell")
    commands = {name: [sys.executable, "-c", program] for name in "xy"}
    measured, _ = interleave(commands, rounds=0, warm_up=0, environments={"x": {"A": "own"}})
    imposed = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert measured["x"].facts == {"A": "own", "B": "shell"} | imposed
    assert measured["y"].facts == {"A": "shell", "B": "shell"} | imposed


def test_who_cannot_take_a_step_says_why():
    def step():
        raise OSError("no compiler\nand much more")

    answers = io.StringIO()
    serve(step, dict, ["go\n"], answers)
    assert json.loads(answers.getvalue()) == {"error": "its first step failed: OSError: no compiler"}


def test_who_cannot_start_is_left_out(tmp_path):
    refusing = "import sys; from ctcd_jax.benchmarks.interleaved import refuse; refuse('no such device', sys.stdout)"
    commands = {
        "dies": [sys.executable, "-c", "raise SystemExit(3)"],
        "refuses": [sys.executable, "-c", refusing],
        "serves": [sys.executable, "-c", WORKER, "serves", str(tmp_path / "notes")],
    }
    measured, refused = interleave(commands, rounds=1)
    assert list(measured) == ["serves"]
    assert refused == {"dies": "the worker 'dies' ended with code 3; see above", "refuses": "no such device"}


def test_a_worker_that_ends_in_the_middle_is_named():
    with pytest.raises(RuntimeError, match="worker 'a' ended with code 0"):
        interleave({"a": [sys.executable, "-c", "print('{}', flush=True)"]}, rounds=1)


def test_ratios_are_taken_within_a_round():
    measured = {
        "x": WorkerMeasurements({}, [3.0, 8.0, 30.0]),
        "y": WorkerMeasurements({}, [1.0, 1.0, 10.0]),
        "z": WorkerMeasurements({}, [1, 3, 5]),
    }
    # 3/2, 8/4, 30/15: the third round was slow for all, and its ratio is like the others.
    assert ratio(measured, ("x",), ("y", "z")) == {"rounds": [1.5, 2.0, 2.0], "median": 2.0, "min": 1.5, "max": 2.0}
    assert ratio(measured, ("y", "z"), ("x",))["rounds"] == pytest.approx([2 / 3, 0.5, 0.5])


CACHED = {"JAX_ENABLE_COMPILATION_CACHE": "true"}  # how long compilation takes is not tested


def worker(who, **fields):
    case = Case(preset="smoke", rows=4, length=64, backend="cpu", **fields)
    return python_module("ctcd_jax.benchmarks.worker", who, case.written())


@pytest.mark.slow
def test_real_workers():
    commands = {"student": worker("ours", cohort="student"), "update": worker("update"), "limit": worker("matmul")}
    commands |= {"torch": worker("torch-eager")}
    meant = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    measured, refused = interleave(
        commands, rounds=2, environments=dict.fromkeys(commands, CACHED) | {"torch": CACHED | meant}
    )
    assert not refused
    assert all(len(m.seconds) == 2 and min(m.seconds) > 0 for m in measured.values())
    facts = {name: m.facts for name, m in measured.items()}
    assert all(said["device"] == "cpu" and said["compile_seconds"] > 0 for said in facts.values())
    ours = facts["student"]
    assert 0 < ours["predicted"] < ours["tokens"] < ours["flops"]
    assert ours["flops"] / 2 < ours["compiler_flops"] < 4 * ours["flops"]
    assert ours["temporary_bytes"] > 0
    assert ours["peak_bytes"] > 1e8
    assert len(ours["host_seconds"]) > 1
    assert (facts["torch"]["tokens"], facts["torch"]["predicted"]) == (ours["tokens"], ours["predicted"])
    # Both sides have the same allocator and variables, but for what was meant for one of them.
    assert ours["allocator"] == facts["torch"]["allocator"]
    assert ours["allocator"]["mmap_max"] == 0 or sys.platform != "linux"
    assert facts["torch"]["environment"] == ours["environment"] | meant
    assert (ours["threads"], facts["torch"]["threads"]) == (available_cores(), 1)
    assert facts["limit"]["flops"] == 2 * 2048**3


@pytest.mark.slow
def test_a_real_worker_that_compiles_alone_or_has_no_gpu():
    measured, _ = interleave(
        {"chunked": worker("compiled", loss_chunk=64)}, rounds=0, warm_up=0, environments={"chunked": CACHED}
    )
    assert measured["chunked"].facts["temporary_bytes"] > 0
    on_gpu = python_module("ctcd_jax.benchmarks.worker", "matmul", Case(backend="gpu").written())
    _, refused = interleave({"matmul": on_gpu}, rounds=0, warm_up=0)
    assert "JAX runs on cpu" in refused["matmul"]
