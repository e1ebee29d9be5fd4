"""What ends a command other than its success, what is said on the way, and the hint that goes with an error."""

import difflib
import errno
import sys
from collections.abc import Iterable


class UserError(Exception):
    """What a user can correct.

    The message is one line that names the field or file and the fix; `ctcd` prints it without a traceback and exits
    with code 2.
    """


class NonFinite(Exception):
    """The loss or a gradient is no longer finite; the last good checkpoint is kept. Exit code 3."""


class Stopped(BaseException):
    """Asked to stop (SIGTERM, Ctrl-C), and what is finished is saved. Exit code 75: run the same command to go on.

    Not an Exception: it comes from a signal handler, in the middle of anything, and no `except Exception` may take it
    for a failure of what it interrupts.
    """


def warn(text: str) -> None:
    """Says on stderr, in a line of its own, what a user should know although the work goes on.

    This is the one way to say a warning. A function that warns takes `warn` as an argument, this being the default.
    """
    print(f"WARNING: {text}", file=sys.stderr, flush=True)


def shortened(line: str, most: int = 1000) -> str:
    """Returns a line without its middle if it has more than `most` characters: a file may hold pages."""
    return line if len(line) <= most else f"{line[: most - 200]} ... {line[-190:]}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type where it has none: messages are one line here."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def one_line(error: BaseException, lines: int | None = 2) -> str:
    """Returns the gist of a library's message in one line: some go on for pages, with examples of code.

    Args:
      lines: how many are taken of it, empty ones apart; None for all.
    """
    said = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = " ".join(said[:lines]) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:296]} ..."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory gave out: Python's, the system's, JAX's (XLA) or PyTorch's, on any device.

    The last two are known by their text, so that neither is imported for it.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, RuntimeError):  # as both of theirs are
        return False
    said = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "can't allocate memory")
    return any(text in str(error) for text in said)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the name nearest to `name`, or " (known: a, b)" when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(known)})"
