import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import resource_tracker, util
from pathlib import Path

import pytest

from ctcd_jax.errors import Stopped
from ctcd_jax.jobs.pool import run_jobs
from ctcd_jax.runtime.stopping import raises_stopped


def double(job, progress):
    """What a worker does here: `job` is a number, or the name of a way to go wrong."""
    print(f"at {job} in {os.environ.get('PLACE')}")
    os.system("echo from below")  # written by another program, as by a library in C
    if job == "raise":
        raise ValueError("no such\nthing")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    if job == "exit":
        os._exit(7)
    progress(0.5)
    time.sleep(0.2)  # so that no process does all the work
    return 2 * job, os.getpid(), os.environ.get("PLACE")


def sleep(job, progress):
    print(os.getpid(), flush=True)
    time.sleep(60)


def run(tmp_path, jobs, environments):
    outcomes = run_jobs(double, jobs, environments, lambda running: None, log_of=lambda job: tmp_path / f"{job}.txt")
    return {outcome.job: outcome for outcome in outcomes}


def test_a_job_that_fails_or_dies_takes_only_itself_along(tmp_path):
    outcomes = run(tmp_path, [1, "raise", 2, "die", 3, "exit", 4], [{"PLACE": "a"}])
    assert [outcomes[job].result[0] for job in (1, 2, 3, 4)] == [2, 4, 6, 8]
    assert outcomes["raise"].error == "ValueError: no such thing"
    assert outcomes["die"].error == "its process was killed by SIGKILL, as the system does when memory runs out"
    assert outcomes["exit"].error == "its process ended with code 7"
    log = (tmp_path / "raise.txt").read_text()
    assert log.startswith("at raise in a\n")
    assert "from below" in log
    assert "Traceback" in log


def test_each_process_has_its_variables_and_keeps_them_for_all_its_jobs(tmp_path):
    outcomes = run(tmp_path, list(range(8)), [{"PLACE": "a"}, {"PLACE": "b"}])
    places = {(pid, place) for _, pid, place in (outcome.result for outcome in outcomes.values())}
    assert len({pid for pid, _ in places}) == len(places)  # no process has had both
    assert {place for _, place in places} == {"a", "b"}
    assert os.getpid() not in {pid for pid, _ in places}


def test_a_process_in_which_a_job_failed_is_not_used_again(tmp_path):
    """As a GPU's error would fail every job that follows."""
    outcomes = run(tmp_path, [1, "raise", 2], [{}])
    assert outcomes[1].result[1] != outcomes[2].result[1]


def test_a_signal_to_the_whole_group_is_the_parents_to_answer(tmp_path):
    assert run(tmp_path, ["term"], [{}])["term"].error is None


def test_a_parent_that_is_killed_takes_its_processes_along(tmp_path):
    script = (
        "from test_pool import run_jobs, sleep; from pathlib import Path\n"
        f"list(run_jobs(sleep, [1], [{{}}], lambda running: None, log_of=lambda job: Path({str(tmp_path)!r}) / 'log'))"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    parent = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": paths})
    began = time.monotonic()
    while not (tmp_path / "log").exists():
        assert time.monotonic() - began < 60
        time.sleep(0.05)
    child = int((tmp_path / "log").read_text() or _wait_for(tmp_path / "log"))
    parent.kill()
    parent.wait()
    while _runs(child):
        assert time.monotonic() - began < 60
        time.sleep(0.05)


def _wait_for(path):
    while not (text := path.read_text()):
        time.sleep(0.05)
    return text


def _runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_without_processes_the_jobs_run_here(tmp_path, capsys):
    seen = []
    outcomes = run_jobs(double, [1, "raise", 2], [], seen.append)
    assert [(job, result and result[1], error) for job, result, error in outcomes] == [
        (1, os.getpid(), None),
        ("raise", None, "ValueError: no such thing"),
        (2, os.getpid(), None),
    ]
    assert seen == [{0: 0.5}, {2: 0.5}]
    assert "Traceback" in capsys.readouterr().err


def test_whoever_stops_leaves_no_process_behind(tmp_path):
    import multiprocessing

    began = time.monotonic()

    def stop(done):
        if time.monotonic() - began > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_jobs(sleep, [1, 2], [{}, {}], stop, log_of=lambda job: tmp_path / f"{job}"))
    assert multiprocessing.active_children() == []


def chatter(job, progress):
    print("x" * 100_000)
    if job == "fail":
        raise ValueError("no such thing")
    return 2 * job


def test_a_log_that_cannot_be_written_loses_no_result_and_no_reason(tmp_path, capfd):
    """/dev/full takes nothing, as a full disk does; a log in a folder that is not there cannot be opened."""
    places = {1: Path("/dev/full"), "fail": Path("/dev/full"), 2: tmp_path / "none" / "log", 3: tmp_path / "log"}
    outcomes = run_jobs(chatter, list(places), [{}], lambda running: None, log_of=places.get)
    found = {job: (result, error) for job, result, error in outcomes}
    assert found[3] == (6, None)
    assert found[1] in [(2, None), (None, "OSError: [Errno 28] No space left on device")]
    assert found["fail"][1] in ["ValueError: no such thing", "OSError: [Errno 28] No space left on device"]
    assert found[2] == (None, f"{tmp_path}/none/log: No such file or directory")
    assert (tmp_path / "log").read_text() == "x" * 100_000 + "\n"
    assert "xxx" not in capfd.readouterr().out  # nor does what is left over reach the terminal


SIGNALLED = """
import sys, time
from test_pool import run_jobs, sleep
from pathlib import Path
from ctcd_jax.errors import Stopped
from ctcd_jax.runtime.stopping import raises_stopped
try:
    with raises_stopped("stopped"):
        print("ready", flush=True)
        list(run_jobs(sleep, [1, 2], [{}, {}], lambda running: None, log_of=lambda job: Path(sys.argv[1]) / str(job)))
except Stopped as stopped:
    print(stopped)
"""


@pytest.mark.parametrize("after", [0.0, 0.05, 0.4])
def test_ctrl_c_while_the_processes_start_is_one_line_and_leaves_none_behind(tmp_path, after):
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    parent = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout.readline() == "ready\n"
    time.sleep(after)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    said, errors = parent.communicate(timeout=30)
    assert (said, errors, parent.returncode) == ("stopped\n", "", 0)
    began = time.monotonic()
    while _group_runs(parent.pid):
        assert time.monotonic() - began < 30
        time.sleep(0.05)


def test_a_signal_that_another_thread_takes_breaks_no_start_off(tmp_path, monkeypatch, capfd):
    """Which thread takes it is the system's choice, and the main one's mask does not stop its handler."""
    ended, ours = threading.Event(), util.spawnv_passfds

    def start(*args):
        pid = ours(*args)
        started.append(pid)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # the other thread has taken it now, and any handler has been called
        return pid

    resource_tracker.ensure_running()  # it is started likewise
    started = []
    monkeypatch.setattr(util, "spawnv_passfds", start)
    other = threading.Thread(target=ended.wait)
    other.start()
    try:
        with pytest.raises(Stopped), raises_stopped("stopped"):
            list(run_jobs(sleep, [1, 2], [{}, {}], lambda running: None, log_of=lambda job: tmp_path / f"{job}"))
    finally:
        ended.set()
        other.join()
    assert len(started) == 1
    assert not _runs(started[0])
    assert capfd.readouterr().err == ""


def _group_runs(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
