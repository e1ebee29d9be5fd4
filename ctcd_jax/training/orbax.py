"""What Orbax needs around it: directories taken literally, and errors that are one line."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path

from etils.epath import gpath

from ctcd_jax.errors import UserError, first_line


def quiet(hook: Callable) -> Callable:
    """A hook for exceptions that nobody can catch, which leaves out what reading a damaged checkpoint ends in.

    Orbax closes its event loop at the first failure, and each array still to come then says that it is closed.
    """
    if getattr(hook, "quiet", False):
        return hook

    def said(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    said.quiet = True
    return said


def reason(error: Exception) -> str:
    """The first line of an error without TensorStore's specification, which is a page of JSON."""
    return first_line(error).partition(" [tensorstore_spec")[0]


class LiteralPath(gpath.PosixGPath):
    """A directory that Orbax takes literally, whatever its name.

    Epath's own glob takes the directory for a part of the pattern: below one that has [ ] * or ? in its name Orbax
    finds nothing, or the files of another, and a checkpoint is saved that nobody can read.
    """

    def glob(self, pattern: str) -> Iterator[gpath.PosixGPath]:
        return (self / name for name in glob.iglob(pattern, root_dir=self))


class writing_errors:
    """Turns a failed write, which Orbax and TensorStore raise in many guises, into a UserError."""

    def __init__(self, directory: Path):
        self.directory = directory

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if error is None or isinstance(error, UserError):
            return
        text = str(error)
        for why in ("No space left on device", "File too large", "Disk quota exceeded", "Read-only file system"):
            if why in text:
                raise UserError(
                    f"{self.directory}: {why}; make room and start again, the steps saved before are whole"
                ) from error
