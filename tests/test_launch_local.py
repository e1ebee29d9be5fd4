"""The launcher of several processes, as far as it decides anything before it starts them."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "launch/local.py"


@pytest.fixture
def local():
    spec = importlib.util.spec_from_file_location("launch_local", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("0,1", ["0", "1"]),
        ("-1", []),
        ("", []),
        ("1, 0", ["1", "0"]),
        ("0,-1,1", ["0"]),
        ("GPU-8e,GPU-1", ["GPU-8e", "GPU-1"]),
    ],
)
def test_the_gpus_that_cuda_would_see(visible, gpus, local, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.visible_gpus() == gpus


def test_hidden_gpus_stay_hidden_and_are_not_shared(local, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert local.environment("localhost:1", 2, 0, local.visible_gpus())["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_process_that_is_killed_is_named_and_takes_the_others_with_it(local, capsys):
    started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(3)]
    started[1].kill()
    assert local.wait(started, []) == 128 + 9
    assert [process.returncode for process in started] == [-9, -9, -9]
    assert capsys.readouterr().err == "process 1 was ended by SIGKILL, and so are the others\n"


def test_processes_that_a_signal_ends_before_they_have_begun_are_stopped(local, capsys):
    started = [subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"]) for seconds in (60, 1)]
    started[0].terminate()
    assert local.wait(started, [signal.SIGTERM]) == 75
    assert [process.returncode for process in started] == [-15, 0]
    assert capsys.readouterr().err == ""


def test_a_signal_that_comes_while_they_start_reaches_all(local, monkeypatch):
    """Each is one that would go on for a minute; the signal comes after the first has been started."""
    started = []

    class Started(subprocess.Popen):
        def __init__(self, command, env):
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], env=env)
            started.append(self)
            if len(started) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(local.subprocess, "Popen", Started)
    monkeypatch.setattr(sys, "argv", ["local.py", "--processes", "3", "--", "train"])
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert local.main() == 75
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert [process.returncode for process in started] == [-15, -15, -15]


@pytest.mark.parametrize("processes", ["0", "-2"])
def test_a_number_of_processes_that_is_none(processes):
    command = [sys.executable, SCRIPT, "--processes", processes, "--", "train"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"--processes is {processes}; it must be a whole number at least 1" in done.stderr
