"""A verb that resumes ends with code 75 whenever it is asked to stop: while it starts, and while it works."""

import signal
import subprocess
import sys

import pytest

from ctcd_jax.errors import Stopped
from ctcd_jax.runtime.stopping import raises_stopped

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
