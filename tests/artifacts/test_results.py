import contextlib
import json
import math
import multiprocessing
import threading

import pytest

from ctcd_jax.artifacts.reading import Reader
from ctcd_jax.artifacts.results import append_result, claimed, locked, numbered_results, read_results
from ctcd_jax.errors import UserError

ROWS = [
    {"format": 1, "model": model, "task": "rte", "seed": 0, "metrics": {"accuracy": 0.5}, "value": 0.5}
    | {"hyperparameters": {}}
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
        ('{"format": 3}', "2: format 3, this version reads 1 and 2; left out"),
        ('{"form', "2: not a line of JSON; left out"),
        ("3", "2: not a line of JSON; left out"),
        ('{"format": 2, "model": "m"}', "2: task is missing; left out"),
        (json.dumps(ROWS[0] | {"metrics": None}), "2: metrics is null, not an object; left out"),
        (
            json.dumps(ROWS[0] | {"metrics": {"accuracy": math.nan}}),
            "2: metrics.accuracy is nan, not a number; left out",
        ),
        ("\xff\x00", "2: not a line of JSON; left out"),
    ],
)
def test_a_foreign_or_damaged_line_is_named_and_hides_no_other(tmp_path, line, message):
    path = tmp_path / "results.jsonl"
    lines = [json.dumps(ROWS[0]), line, json.dumps(ROWS[1]), ""]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    warned = []
    assert read_results(path, warned.append) == ROWS
    assert warned == [f"{path}:{message}"]
    assert [number for number, _ in numbered_results(path, warned.append)] == [1, 3]


def test_a_file_of_nothing_but_foreign_lines_is_said_in_a_few(tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    path.write_text('{"format": 3}\n' * 1000)
    assert read_results(path) == []
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert said[-1] == f"WARNING: {path}: 995 more lines like these; left out"


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
        append_result(path, ROWS[0] | {"model": f"{worker}", "seed": number, "text": "x" * 500})


def test_processes_that_share_a_file_lose_no_line(tmp_path):
    path = tmp_path / "results.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(path, worker)) for worker in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = {(row["model"], row["seed"]) for row in read_results(path)}
    assert found == {(f"{worker}", number) for worker in range(3) for number in range(200)}


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

    monkeypatch.setattr("ctcd_jax.artifacts.lines.fcntl.flock", refuse)
    with pytest.raises(UserError, match=r"results\.jsonl: its file system has no locks .*; give another --out"):
        append_result(tmp_path / "results.jsonl", ROWS[0])


def test_a_disk_that_takes_a_part_of_a_line_says_why(tmp_path, monkeypatch):
    """As a nearly full one does: the first write is short, the second fails."""
    path = tmp_path / "results.jsonl"
    append_result(path, ROWS[0])
    real, calls = locked, []

    class Nearly:
        def __init__(self, file):
            self._file = file

        def write(self, line):
            calls.append(len(line))
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
            return self._file.write(line[:10])

        def __getattr__(self, name):
            return getattr(self._file, name)

    @contextlib.contextmanager
    def nearly(path):
        with real(path) as file:
            yield Nearly(file)

    monkeypatch.setattr("ctcd_jax.artifacts.lines.locked", nearly)
    with pytest.raises(OSError, match="No space left"):
        append_result(path, ROWS[1])
    monkeypatch.undo()
    assert read_results(path) == [ROWS[0]]
    append_result(path, ROWS[1])
    assert read_results(path) == ROWS


def _hold(out, shard, held, end):
    with claimed(out, shard):
        held.set()
        end.wait(60)


def test_a_folder_is_one_processs_or_that_of_an_array_each_with_its_share(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, (1, 3), held, end))
    process.start()
    assert held.wait(60)
    with claimed(tmp_path, (0, 3)):
        pass
    with (
        pytest.raises(UserError, match=rf"{tmp_path}, share 1/3: process {process.pid} on .* is at work there"),
        claimed(tmp_path, (1, 3)),
    ):
        pass
    with (
        pytest.raises(UserError, match=rf"{tmp_path}: process \d+ on .* is at work there; wait until"),
        claimed(tmp_path, (0, 1)),
    ):
        pass
    with (
        pytest.raises(UserError, match=rf"{tmp_path} in 3 shares: process \d+ on .* is at work there"),
        claimed(tmp_path, (0, 4)),
    ):
        pass
    end.set()
    process.join()
    for shard in ((0, 4), (0, 1)):
        with claimed(tmp_path, shard):
            pass


def test_equal_weights_are_one_model_by_its_first_name(tmp_path):
    """As in a file that was merged from two folders."""
    path = tmp_path / "results.jsonl"
    rows = [ROWS[0] | {"model": name, "weights": weights} for name, weights in (("a", "1"), ("b/a", "1"), ("c", "2"))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for found in (read_results(path), Reader().results(path)):
        assert [row["model"] for row in found] == ["a", "a", "c"]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"precision": ["x"]}, "precision"),
        ({"majority": "x"}, "majority"),
        ({"predictions": 5}, "predictions"),
        ({"metrics": {"bleu": 0.5}}, "metrics.bleu is no metric that this version knows"),
        ({"metrics": {"accuracy": 10**400}}, "a number beyond"),
    ],
)
def test_a_line_that_no_table_could_take_is_left_out(fields, fault, tmp_path):
    path, warned = tmp_path / "results.jsonl", []
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0] | fields, ROWS[1])))
    assert len(read_results(path, warned.append)) == 1
    assert fault in warned[0]
