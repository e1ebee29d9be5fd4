"""`OUT.partial` is one process's, or its shards', and is left in order however the work ends."""

import errno
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import time
import traceback
from itertools import count
from pathlib import Path

import pytest

from ctcd_jax.data import prepare
from ctcd_jax.data.tasks import run_tasks
from ctcd_jax.errors import UserError
from ctcd_jax.files import locked
from ctcd_jax.runtime.stopping import interruptible
from tests.data.conftest import documents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make(library, vocabulary, tmp_path):
    def make(out="out", **options):
        options = {"tokenizer": str(vocabulary), "length": 48, "validation": 0.2, "log": lambda line: None} | options
        return prepare([f"text:{library}/**/*.txt"], tmp_path / out, **options)

    return make


def test_two_at_one_place_are_distinguished(make, tmp_path):
    (tmp_path / "out.partial").mkdir()
    own = rf"process {os.getpid()} on \S+"
    with locked(tmp_path / "out.partial/lock", "another"):
        for options in ({}, {"finalize": True}, {"shard": (0, 2)}):
            with pytest.raises(UserError, match=rf"^--out \S+/out: {own} is at work there; wait until"):
                make(**options)
    assert (tmp_path / "out.partial").is_dir()  # it is the other's
    make()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_shards_share_the_place_but_not_their_share(make, tmp_path):
    (tmp_path / "out.partial").mkdir()
    with (
        locked(tmp_path / "out.partial/lock", "another", shared=True),
        locked(tmp_path / "out.partial/lock-0-of-2", "another"),
    ):
        with pytest.raises(UserError, match=r"^--shard 0/2 of --out \S+: process \d+ on \S+ is at work there"):
            make(shard=(0, 2))
        make(shard=(1, 2))
        with pytest.raises(UserError, match=r"^--out \S+/out: process \d+ on \S+ \(or another like it\) is at work"):
            make(finalize=True)
    make(shard=(0, 2))
    make(finalize=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_shard_that_fails_leaves_nothing(make, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise UserError("not today")

    monkeypatch.setattr("ctcd_jax.data.parts.document_sentences", fail)
    with pytest.raises(UserError, match="not today"):
        make(shard=(0, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("file", "content"), [("sentences.zst", 300), ("hashes.npy", 0), ("counts.json", 0)])
def test_a_finished_part_that_a_power_cut_damaged_is_read_again(make, tmp_path, monkeypatch, file, content):
    monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", 1)
    expected = make("whole")
    for share in range(2):
        make(shard=(share, 2))
    damaged = next((tmp_path / "out.partial").glob("read-*")) / file
    damaged.write_bytes(damaged.read_bytes()[:content])
    warned = []
    found = make(finalize=False, warn=warned.append)
    assert found["splits"] == expected["splits"]
    assert warned == [f"{damaged.parent}: damaged; its files are read again"]


def test_a_recipe_that_cannot_be_keeps_the_text_that_was_read(make, tmp_path):
    for share in range(2):
        make(shard=(share, 2), tokenizer=None, vocab_size=8)
    with pytest.raises(UserError, match="--vocab-size 8: this text's characters alone take"):
        make(finalize=True, tokenizer=None, vocab_size=8)
    kept = {path.name.partition("-")[0] for path in (tmp_path / "out.partial").iterdir()}
    assert "read" in kept
    assert kept <= {"read", "lock"}
    make(finalize=True, tokenizer=None, vocab_size=200)


def no_room(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_several_processes_need_no_shared_memory(make, monkeypatch):
    """Semaphores are files in /dev/shm, which a container may lack."""
    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", no_room)
    monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", 1)
    assert make("two", workers=2) == make("one", workers=1)


def test_processes_that_cannot_be_started_are_one_line_and_one_works(make, monkeypatch):
    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", no_room)
    monkeypatch.setattr("ctcd_jax.data.parts.PART_BYTES", 1)
    with pytest.raises(UserError) as caught:
        make(workers=2)
    assert str(caught.value) == (
        "--workers 2: a process cannot be started (No space left on device); run the same command again, with fewer"
        " workers"
    )
    make(workers=1)


def test_a_file_elsewhere_that_fails_is_not_blamed_on_out(make, monkeypatch):
    def gone(*arguments, **options):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/elsewhere/a.txt")

    monkeypatch.setattr("ctcd_jax.data.parts.document_sentences", gone)
    with pytest.raises(UserError, match=r"^/elsewhere/a\.txt \(No such file or directory\); correct that"):
        make()


def test_work_in_a_thread_returns_raises_and_ends():
    assert interruptible(lambda watched: sum(watched(range(10)))) == 45
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda watched: 1 / 0)
    ended = []

    def endless(watched):
        try:
            for _ in watched(count()):
                time.sleep(0.001)
        finally:
            ended.append(True)

    def stop(*_):
        raise KeyError("stopped")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyError):
            interruptible(endless)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended == [True]


def slow(task, progress):
    time.sleep(60)


def mistaken(task, progress):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"user": UserError("no such thing"), "bug": KeyError("x"), "odd": Odd(1, 2)}[task]


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised_here(workers):
    """With the traceback it had in its process, if it is no user's error; one that cannot be sent is told in words."""
    for task, kind, text in (("user", UserError, "^no such thing"), ("bug", KeyError, "x"), ("odd", Exception, "1")):
        with pytest.raises(kind, match=text) as caught:
            run_tasks(mistaken, [task, task], workers, label="x", units=lambda task: 1.0, log=print)
        told = "".join(traceback.format_exception(caught.value))
        assert "in mistaken" in told
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_ends_all_with_one_line():
    with pytest.raises(UserError) as caught:
        run_tasks(mistaken, ["die", "die"], 2, label="x", units=lambda task: 1.0, log=print)
    assert str(caught.value) == (
        "--workers 2: a job failed: its process was killed by SIGKILL, as the system does when memory runs out; run the"
        " same command again, with fewer workers"
    )


def test_workers_are_deaf_to_signals_and_end_with_an_error():
    """A signal to all processes of a job is their parent's business alone."""
    workers = []

    def say(line):
        workers.extend(multiprocessing.active_children())
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
            os.kill(worker.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert all(worker.is_alive() for worker in workers)
        raise InterruptedError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctcd_jax.data.tasks._LINE_EVERY", 0.0)
        patch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
        with pytest.raises(InterruptedError):
            run_tasks(slow, [1, 2], 2, label="x", units=float, log=say)
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)


STOPPED = """
import sys, time
from ctcd_jax import cli
from ctcd_jax.data import parts
parts.PART_BYTES = 1
if __name__ == "__main__":
    sys.exit(cli.command())
"""


def start(script, out, text, vocabulary, workers):
    command = [sys.executable, script, "prepare", "--source", f"text:{text}/*.txt", "--tokenizer", vocabulary]
    command += ["--out", out, "--workers", workers]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        list(map(str, command)), env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


@pytest.mark.parametrize(
    ("number", "workers", "when"),
    [(signal.SIGTERM, 1, "starting"), (signal.SIGINT, 2, "starting"), (signal.SIGTERM, 2, "in the middle"),
     (signal.SIGINT, 1, "in the middle")],
)  # fmt: skip
def test_a_signal_ends_it_with_code_75_and_finished_parts_are_kept(tmp_path, vocabulary, number, workers, when):
    (tmp_path / "script.py").write_text(STOPPED)
    text, out = tmp_path / "text", tmp_path / "out"
    text.mkdir()
    numbers = count()
    for name in "ab":
        (text / f"{name}.txt").write_text(documents(numbers, 8, 10))
    with (text / "c.txt").open("w") as file:
        for _ in range(400 if when == "in the middle" else 1):
            file.write(documents(numbers, 100, 10) + "\n")
    process = start(tmp_path / "script.py", out, text, vocabulary, workers)
    if when == "in the middle":
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("out.partial/read-" + "?" * 16))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    else:
        assert process.stdout.readline().startswith("opening")
    os.killpg(process.pid, number)  # as a terminal and a scheduler do
    said, complained = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "Traceback" not in said + complained
    lines = (said + complained).splitlines()
    if when == "in the middle":
        assert lines[-1] == f"stopped; 2 finished parts are kept in {out}.partial; run the same command again to go on"
        assert len(list((tmp_path / "out.partial").iterdir())) == 2
    else:
        assert "stopped; " in lines[-1]
        assert lines[-1].endswith("run the same command again to go on")
        assert not list(tmp_path.glob("out.partial/*.tmp"))
