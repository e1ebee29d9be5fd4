"""Files of a JSON object a line that stages append to: read line by line, each checked, and written whole."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ctcd_jax import files
from ctcd_jax.errors import UserError

_SAID = 5  # of the lines that are left out, one by one


def checked_lines(
    path: Path, fault: Callable[[dict], str], warn: Callable[[str], None]
) -> list[tuple[int, dict[str, Any]]]:
    """Returns the objects of a file, each with its number, from 1; none if the file is not there.

    A torn last line is left out. So is a line that is damaged or in which `fault` finds something, and `warn` is called
    with which: one such line hides no other.

    Args:
      path: of the file.
      fault: returns what is wrong with an object, "" if nothing is.
      warn: takes a line.
    """
    good, damaged = files.read_json_lines(path)
    faults = dict.fromkeys(damaged, "not a line of JSON")
    for number, row in good:
        if found := fault(row):
            faults[number] = found
    for number in sorted(faults)[:_SAID]:
        warn(f"{path}:{number}: {faults[number]}; left out")
    if len(faults) > _SAID:
        warn(f"{path}: {len(faults) - _SAID:,} more lines like these; left out")
    return [(number, row) for number, row in good if number not in faults]


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one line, whole: under the lock, for several processes may share the file; in place of a torn last line."""
    with locked(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        kept = file.read().rfind(b"\n") + 1
        if kept < size:
            file.truncate(kept)
        line = memoryview(json.dumps(row).encode() + b"\n")
        while line:  # a disk that is nearly full takes a part of it, and says why at the next
            line = line[file.write(line) :]
        os.fsync(file.fileno())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Holds the lock of such a file, which is made if it is not there, and gives it open to read and append.

    Raises:
      UserError: its file system has no locks.
    """
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"{path}: its file system has no locks ({error.strerror}); give another --out") from error
        yield file
