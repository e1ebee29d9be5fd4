"""Files that stages leave to each other: read whole or not at all, written whole or not at all, by one at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ctcd_jax.errors import UserError, warn


class Busy(UserError):
    """Another process holds the lock that is asked for."""


def expand_home(text: str) -> str:
    """Returns a path with the home directory for a `~` at its start, also after a kind: `~/a`, `run:~/a`, `hf:~/a`.

    A shell does so only at the start of a word, not after `=`. What names no home directory stays as it is.
    """
    kind = re.match("[a-z]+:", text)
    start = kind.end() if kind else 0
    return text[:start] + os.path.expanduser(text[start:])


def read_json(path: Path, otherwise: str) -> dict:
    """Returns a JSON object.

    Args:
      otherwise: what to do if it cannot be had, the end of the error's line.

    Raises:
      UserError: no such file, or it does not hold a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {otherwise}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); {otherwise}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; {otherwise}")
    return content


def read_json_lines(path: Path) -> tuple[list[tuple[int, dict]], list[int]]:
    """Returns ([(line number from 1, JSON object)], the numbers of the lines that are damaged).

    A file that is not there has no lines. A last line without an end is neither: whoever writes it is at work, or was
    killed.
    """
    data = path.read_bytes() if path.exists() else b""
    good, damaged = [], []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            good.append((number, content))
        else:
            damaged.append(number)
    return good, damaged


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is there completely or as it was before, whoever is killed when; text as UTF-8, "\\n" ends.

    OSError as `open` raises it.
    """
    with writing_whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Yields a file to write, which gets the name `path` when the block ends well, and else disappears.

    Its name is the process's own, so that two processes do not write into one another's.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        partial.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # `write` does not say which file it could not write
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises a UserError that names `path` where the disk gives out under what the block writes there."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make room and start again") from error


@contextlib.contextmanager
def writing_directory(directory: Path) -> Iterator[Path]:
    """Yields a directory to fill, which gets its name when the block ends well, and else disappears.

    Where another process has made the same meanwhile, that one stays.
    """
    partial = directory.with_name(f"{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in filter(Path.is_file, partial.rglob("*")):
            with path.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        try:
            partial.rename(directory)
        except OSError:
            if not directory.is_dir():  # else another process has just made the same
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Writes a JSON object as `write_whole` does, in ASCII: a path that is no valid UTF-8 can be in it, too.

    Args:
      path: of the file.
      content: what JSON can hold.
      indent: spaces a level; None for a single line.
    """
    write_whole(path, json.dumps(content, indent=indent) + "\n")


def json_sha256(content: Any) -> str:
    """Returns the SHA-256 (hex) of what JSON makes of `content`, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_inside(name: str) -> bool:
    """Whether a name that a file gives of another stays below the folder that both are of: it may come from anybody."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git leaves in its place where Git LFS has not fetched it; False if there is no file."""
    start = b"version https://git-lfs"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


@contextlib.contextmanager
def locked(
    path: Path, what: str, *, shared: bool = False, wait: bool = False, warn: Callable[[str], None] = warn
) -> Iterator[None]:
    """Holds a lock while the block runs, so that no second process does the same work at the same place.

    The lock is the kernel's, on the file `path`, which stays: a killed process leaves no lock behind. Its first line
    says who holds it. Where the file system has no locks, a warning says so and the work goes on.

    Args:
      path: the lock file; its directory must exist.
      what: the place in words, the beginning of the error's line, e.g. "runs/ctcd".
      shared: others may hold it, too, if theirs is also shared.
      wait: until whoever holds it has finished.
      warn: called with the line where the file system has no locks.

    Raises:
      Busy: another process holds it, and it is not waited for; the line names its host and process.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            holder = file.readline().strip() or "another process"
            raise Busy(f"{what}: {holder} is at work there; wait until it has finished, or stop it") from error
        except OSError as error:
            warn(f"{what}: its file system has no locks ({error.strerror}); see that no second process works there")
        file.truncate(0)
        others = " (or another like it)" if shared else ""
        file.write(f"process {os.getpid()} on {socket.gethostname()}{others}\n")
        file.flush()
        yield
