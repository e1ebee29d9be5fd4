import json
import multiprocessing
import threading

import pytest

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.results import append_result, locked, read_results

ROWS = [
    {"format": 1, "model": model, "task": "rte", "seed": 0, "metrics": {"accuracy": 0.5}, "hyperparameters": {}}
    for model in ("teacher", "student")
]


def test_lines_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    for line in ROWS:
        append_result(path, line)
    assert read_results(path) == ROWS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"format": 3}', "1: format 3"),
        ('{"form', "1: not a line of JSON"),
        ("3", "1: not a result"),
        ('{"format": 2, "model": "m"}', "1: not a result"),
    ],
)
def test_a_foreign_or_damaged_line_is_named(tmp_path, line, message):
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n" + json.dumps(ROWS[0]) + "\n")
    with pytest.raises(UserError, match=message):
        read_results(path)


def test_a_torn_last_line_is_left_out_and_the_next_takes_its_place(tmp_path):
    path = tmp_path / "results.jsonl"
    append_result(path, ROWS[0])
    with path.open("a") as file:
        file.write(json.dumps(ROWS[-1])[:30])
    assert read_results(path) == [ROWS[0]]
    append_result(path, ROWS[-1])
    assert read_results(path) == [ROWS[0], ROWS[-1]]


def _append_many(path, worker):
    for number in range(200):
        append_result(path, ROWS[0] | {"model": worker, "seed": number, "text": "x" * 500})


def test_processes_that_share_a_file_lose_no_line(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(path, worker)) for worker in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = {(row["model"], row["seed"]) for row in read_results(path)}
    assert found == {(worker, number) for worker in range(3) for number in range(200)}


def test_a_line_waits_for_whoever_holds_the_lock(tmp_path):
    path = tmp_path / "results.jsonl"
    writer = threading.Thread(target=append_result, args=(path, ROWS[0]))
    with locked(path):
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert read_results(path) == []
    writer.join()
    assert read_results(path) == [ROWS[0]]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("ctcd_jax.evaluation.results.fcntl.flock", refuse)
    with pytest.raises(UserError, match=r"results\.jsonl: its file system has no locks .*; give another --out"):
        append_result(tmp_path / "results.jsonl", ROWS[0])
