"""A verb that resumes ends with code 75 whenever it is asked to stop: while it starts, and while it works."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ctcd_jax.errors import Stopped
from ctcd_jax.runtime.stopping import SIGNALS, handling, held_back, raises_stopped

STARTING = """
from ctcd_jax.runtime.stopping import end_at_once
end_at_once("train")
print("importing", flush=True)
try:
    while True:
        pass
except BaseException:  # as the imports of large libraries do
    while True:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_imports_ends_the_command_with_code_75(number):
    with subprocess.Popen(
        [sys.executable, "-c", STARTING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 75
    assert said == "ctcd train: stopped; run the same command again to go on\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_stage_is_no_exception_that_a_library_may_swallow(number):
    before = signal.getsignal(number)
    cleaned = []

    def work():
        with raises_stopped("the finished parts are kept"):
            try:
                signal.raise_signal(number)
            except Exception:
                pytest.fail("taken for a failure of the work it interrupts")
            finally:
                signal.raise_signal(number)  # a second one does not interrupt the cleaning up
                cleaned.append(True)

    with pytest.raises(Stopped, match="the finished parts are kept"):
        work()
    assert cleaned == [True]
    assert signal.getsignal(number) is before


class Broken(BaseException):
    pass


def test_what_a_handler_breaks_off_leaves_mask_and_handlers_as_they_were():
    """The signal comes at some moment, and another thread takes it: the main one's mask does not keep it off."""

    def breaks(*_):
        raise Broken

    def send(go, after):
        go.wait()
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGTERM)

    broken = 0
    with handling(breaks):
        for number in range(200):
            go, inside = threading.Event(), False
            sender = threading.Thread(target=send, args=(go, number * 1e-5))
            sender.start()
            try:
                go.set()
                while True:
                    with held_back():
                        inside = True
                        inside = False
            except Broken:
                broken += 1
            sender.join()
            assert not inside
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SIGNALS) == set()
            assert [signal.getsignal(number) for number in SIGNALS] == [breaks, breaks]
    assert broken == 200
