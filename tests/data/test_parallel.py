"""The same corpus, byte for byte, by any number of processes and after any number of interruptions."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from ctcd_jax.data import parts as parts_module
from ctcd_jax.data import prepare
from ctcd_jax.data.duplicates import mark_duplicates
from ctcd_jax.errors import UserError
from tests.data.conftest import documents

FILES = 7
RECIPES = {
    "given tokenizer": {"packing": "packed"},
    "trained tokenizer": {"tokenizer": None, "vocab_size": 300, "packing": "sentence", "every": 2},
    "without duplicates": {"packing": "full", "deduplicate": True},
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """Seven files of which the last two repeat sentences of the first two."""
    root = tmp_path_factory.mktemp("shelf")
    numbers = count()
    for name in range(FILES - 2):
        (root / f"{name}.txt").write_text(documents(numbers, 8, 10), encoding="utf-8")
    (root / "5.txt").write_text((root / "0.txt").read_text().upper())
    (root / "6.txt").write_text((root / "1.txt").read_text() + documents(numbers, 3, 10))
    return root


@pytest.fixture
def one_file_a_part(monkeypatch):
    monkeypatch.setattr(parts_module, "PART_BYTES", 1)


def content(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def rows(directory: Path) -> dict[str, bytes]:
    """What does not depend on where the text lay."""
    return {name: data for name, data in content(directory).items() if name.endswith(".npy")}


def make(shelf, vocabulary, out, **options) -> Path:
    options = {"tokenizer": str(vocabulary), "length": 40, "validation": 0.2, "log": lambda line: None} | options
    prepare([f"text:{shelf}/*.txt*"], out, **options)
    return out


@pytest.mark.usefixtures("one_file_a_part")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_workers_and_shards_do_not_change_a_byte(shelf, vocabulary, tmp_path, recipe):
    alone = content(make(shelf, vocabulary, tmp_path / "alone", **recipe))
    assert alone == content(make(shelf, vocabulary, tmp_path / "workers", workers=3, **recipe))
    for shard in (2, 0, 1):
        make(shelf, vocabulary, tmp_path / "shards", shard=(shard, 3), **recipe)
    assert alone == content(make(shelf, vocabulary, tmp_path / "shards", finalize=True, workers=2, **recipe))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "shards", "workers"]


def test_how_files_are_grouped_does_not_change_a_row(shelf, vocabulary, tmp_path, monkeypatch):
    """So that a corpus does not depend on PART_BYTES, whatever a later version makes of it."""
    together = content(make(shelf, vocabulary, tmp_path / "together"))
    monkeypatch.setattr(parts_module, "PART_BYTES", 1)
    assert together == content(make(shelf, vocabulary, tmp_path / "apart"))


@pytest.mark.usefixtures("one_file_a_part")
def test_a_shard_does_its_share_and_finalize_wants_all_of_them(shelf, vocabulary, tmp_path):
    out = tmp_path / "out"
    for number, done in ((0, 4), (1, 7)):
        with pytest.raises(UserError, match=r"--finalize: \d of 7 parts are missing; run every --shard"):
            make(shelf, vocabulary, out, finalize=True)
        other = tmp_path / "out.partial" / "read-another.1.tmp"  # a shard at work, which an error elsewhere spares
        other.mkdir(parents=True, exist_ok=True)
        with pytest.raises(UserError, match="--shard 2/2"):
            make(shelf, vocabulary, out, shard=(2, 2))
        assert other.is_dir()
        make(shelf, vocabulary, out, shard=(number, 2))
        finished = [path.name for path in (tmp_path / "out.partial").iterdir() if path.suffix != ".tmp"]
        assert sum(name.startswith("read-") for name in finished) == done
        assert sum(name.startswith("rows-") for name in finished) == done  # nothing is left for the last step to do
    make(shelf, vocabulary, out, finalize=True)


@pytest.mark.usefixtures("one_file_a_part")
def test_a_part_is_made_anew_when_its_file_has_changed(vocabulary, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    numbers = count()
    for name in "abc":
        (shelf / f"{name}.txt").write_text(documents(numbers, 8, 10))
    make(shelf, vocabulary, tmp_path / "out", shard=(0, 1))
    partial = tmp_path / "out.partial"
    before = {path.name: path.stat().st_mtime_ns for path in partial.glob("r*")}
    (shelf / "b.txt").write_text(documents(numbers, 9, 10))
    make(shelf, vocabulary, tmp_path / "out", shard=(0, 1))
    after = {path.name: path.stat().st_mtime_ns for path in partial.glob("r*")}
    assert len(before) == 6  # a, b and c, read and written
    assert {name: after.get(name) for name in before} == before  # a shard removes nothing: another may be using it
    assert len(after) == 8
    assert content(make(shelf, vocabulary, tmp_path / "out")) == content(make(shelf, vocabulary, tmp_path / "fresh"))


@pytest.mark.usefixtures("one_file_a_part")
def test_a_damaged_file_costs_only_its_own_part(shelf, vocabulary, tmp_path):
    copy = tmp_path / "shelf"
    copy.mkdir()
    for path in shelf.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "3.txt.gz").write_bytes(b"not a gzip file")
    lines = []
    with pytest.raises(UserError, match=r"3\.txt\.gz: damaged"):
        make(copy, vocabulary, tmp_path / "out", log=lines.append)
    assert "4 finished parts are kept; the same command goes on with them" in lines[-1]
    partial = tmp_path / "out.partial"
    assert len(list(partial.iterdir())) == len(list(partial.glob("read-" + "?" * 16))) == 4  # of 0.txt to 3.txt
    (copy / "3.txt.gz").unlink()
    assert rows(make(copy, vocabulary, tmp_path / "out")) == rows(make(shelf, vocabulary, tmp_path / "alone"))


KILLED = """
import sys
from ctcd_jax.data import parts, prepare
parts.PART_BYTES = 1
if __name__ == "__main__":
    shelf, vocabulary, out = sys.argv[1:]
    prepare([f"text:{shelf}/*.txt"], out, tokenizer=vocabulary, length=40, validation=0.2, deduplicate=True, workers=2)
"""


def start(script: Path, *arguments, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, script, *map(str, arguments)], env=environment, **options)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(shelf, vocabulary, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    start_time = time.monotonic()
    assert start(script, shelf, vocabulary, tmp_path / "alone").wait() == 0
    whole = time.monotonic() - start_time
    out, rng = tmp_path / "out", random.Random(0)
    for _ in range(12):
        before = {path.name: path.stat().st_ino for path in (tmp_path / "out.partial").glob("r*-" + "?" * 16)}
        process = start(script, shelf, vocabulary, out)
        time.sleep(rng.uniform(0.3, 1.1) * whole)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        if out.exists():
            break
        after = {path.name: path.stat().st_ino for path in (tmp_path / "out.partial").glob("r*-" + "?" * 16)}
        assert {name: after.get(name) for name in before} == before  # what was finished was not made again
    assert start(script, shelf, vocabulary, out).wait() == 0
    assert content(out) == content(tmp_path / "alone")


def test_workers_end_with_their_parent(shelf, vocabulary, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = start(script, shelf, vocabulary, tmp_path / "out")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not (workers := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


BIG = """
import resource
import sys
from ctcd_jax.data import prepare
if __name__ == "__main__":
    source, vocabulary, out = sys.argv[1:]
    prepare([f"text:{source}"], out, tokenizer=vocabulary, length=128, workers=2, log=lambda line: None)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_a_worker_stays_below_700_mb(vocabulary, tmp_path):
    (tmp_path / "big.txt").write_text(documents(count(), 60_000, 20))  # 130 MB, four ranges
    (tmp_path / "run.py").write_text(BIG)
    process = start(tmp_path / "run.py", tmp_path / "big.txt", vocabulary, tmp_path / "out", stdout=subprocess.PIPE)
    # Told by the process whose workers they are: what a child of this one takes begins with what this one holds.
    told, _ = process.communicate()
    assert process.returncode == 0
    assert 0 < int(told) < 700 * 1024


@pytest.mark.parametrize("partition", [1, 50, 10**6])
def test_duplicates_are_all_but_the_first_whatever_the_partition(tmp_path, monkeypatch, partition):
    monkeypatch.setattr("ctcd_jax.data.duplicates.PARTITION", partition)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 200, dtype=np.uint64)
    parts = [rng.choice(values, size) for size in (300, 0, 100)]
    mark_duplicates(parts, tmp_path / "duplicates.npy")
    seen, expected = set(), []
    for value in np.concatenate(parts).tolist():
        expected.append(value in seen)
        seen.add(value)
    assert np.load(tmp_path / "duplicates.npy").tolist() == expected
