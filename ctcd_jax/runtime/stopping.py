"""SIGTERM and Ctrl-C: a verb that resumes ends with code 75 whenever they come, and loses nothing that is finished.

Three phases. While the command starts (imports, which swallow exceptions or turn them into tracebacks) the process ends
at once: nothing has been written yet. While a stage works, `Stopped` is raised where the work is. A stage that has to
finish something first (a train step, and its checkpoint) asks instead.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from ctcd_jax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


def end_at_once(verb: str) -> None:
    """From now until a stage takes over, a signal ends the process with one line and code 75. Call before imports."""

    def handler(*_) -> None:
        os.write(2, f"ctcd {verb}: stopped; run the same command again to go on\n".encode())
        os._exit(EXIT_CODE)

    for number in SIGNALS:
        signal.signal(number, handler)


@contextlib.contextmanager
def raises_stopped(message: str) -> Iterator[None]:
    """Raises `Stopped(message)` in the block when a signal comes; a second signal does nothing more.

    Elsewhere than in the main thread nothing happens: whoever runs us there handles signals.
    """

    def handler(*_) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(message)

    with handling(handler):
        yield


@contextlib.contextmanager
def handling(handler: Callable, numbers=SIGNALS) -> Iterator[None]:
    """Sets a signal handler while the block runs, in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
