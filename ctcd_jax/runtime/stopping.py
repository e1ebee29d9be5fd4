"""SIGTERM and Ctrl-C: a verb that resumes ends with code 75 whenever they come, and loses nothing that is finished.

Three phases. While the command starts (imports, which swallow exceptions or turn them into tracebacks) the process ends
at once: nothing has been written yet. While a stage works, `Stopped` is raised where the work is. A stage that has to
finish something first (a train step, and its checkpoint) asks instead.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ctcd_jax.errors import Stopped

Result = TypeVar("Result")

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
def stops_between(message: str) -> Iterator[Callable[[], None]]:
    """Gives a function that raises `Stopped(message)` once a signal has come, for the block to call between two steps.

    For work whose steps are short. What a handler raises while Python runs a hook of a library is lost, and JAX has one
    for the garbage collector: a stage of JAX that is stopped by `raises_stopped` may go on as if nobody had asked.
    """
    asked = []

    def check() -> None:
        if asked:
            raise Stopped(message)

    with handling(lambda *_: asked.append(True)):
        yield check


@contextlib.contextmanager
def handling(handler: Callable, numbers=SIGNALS) -> Iterator[None]:
    """Sets a signal handler while the block runs, in the main thread only, and not in a worker: its parent stops it."""
    if threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process():
        yield
        return
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            before[number] = signal.getsignal(number)
            signal.signal(number, handler)
        yield
    finally:
        try:
            _set_handlers(before)
        except BaseException:  # of one that is back already
            _set_handlers(before)
            raise


def _set_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Lets no signal break the block off: handlers are called before it or after it.

    A process that is started in it hears of no signal until it unblocks them itself.
    """
    came = []
    # First and last the handlers, of which nothing in between can be broken off then. The mask, unlike them, is passed
    # on; it is of this thread alone: a signal that another one takes is handled in the main one all the same.
    with handling(lambda number, _: came.append(number)):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number in came:
        signal.raise_signal(number)


def interruptible(function: Callable[[Callable[[Iterable], Iterator]], Result]) -> Result:
    """Returns `function(watched)`, called in a thread: a signal that comes while it is in native code need not wait.

    Args:
      function: passes what it iterates over through `watched`, by which it ends soon after it is no longer waited for.
    """
    abandoned, result = threading.Event(), Future()

    def watched(items: Iterable) -> Iterator:
        for item in items:
            if abandoned.is_set():
                raise KeyboardInterrupt
            yield item

    def call() -> None:
        try:
            result.set_result(function(watched))
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        return result.result()
    finally:
        abandoned.set()
        thread.join(1.0)
