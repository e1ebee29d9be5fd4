"""Files that match a glob, and the input files that are made of those that are read by lines."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ctcd_jax.data.hashing import hash64, portable
from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec, StoredFile
from ctcd_jax.data.sources.content import compression, head_of, no_text
from ctcd_jax.data.sources.lines import SUFFIXES, LineReader
from ctcd_jax.errors import UserError

RANGE_BYTES = 2**23
"""A longer plain file is read as several input files of this size, so that several processes can share it."""


def expanded(location: str) -> str:
    """Returns a location with `~` replaced by the home directory, unless something is called that."""
    return location if os.path.lexists(location) else os.path.expanduser(location)


def matching(spec: Spec, example: str) -> list[tuple[str, Path]]:
    """Returns (name from the glob's root, path) of the files at a spec's location, sorted by name.

    What exists as it is written is meant literally, and so are the directories a glob begins with.

    Raises:
      UserError: none matches.
    """
    location = expanded(spec.location)
    if os.path.isfile(location):
        return [(portable(os.path.basename(location)), Path(location))]
    root, pattern = split_glob(location)
    found = (Path(root, path) for path in glob.glob(pattern, root_dir=root or None, recursive=True))
    paths = [path for path in found if path.is_file()]
    if not paths:
        what = ", which is a directory" if os.path.isdir(location) else ""
        raise spec.error(f"no file matches '{location}'{what}; give a file or a glob such as '{example}'")
    return sorted((portable(path.relative_to(root).as_posix()), path) for path in paths)


def stamp(path: Path) -> str:
    """Returns what changes when the file does: its size, a colon, and when it was last written."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def common_stamp(files: Sequence[StoredFile]) -> str:
    """Returns what changes when one of several files does, or its name."""
    return f"{hash64(*(text for file in files for text in (file.name, file.stamp))):x}"


def line_files(
    spec: Spec,
    example: str,
    documents: Callable[[LineReader, str], Iterator[Document]],
    log: Callable[[str], None],
) -> list[InputFile]:
    """Returns the input files of text that is read by lines.

    A plain file of more than `RANGE_BYTES` becomes several, NAME@0, NAME@1, ...: a line belongs to the one in which it
    begins.

    Args:
      spec: the source.
      example: a location that would do, for the error.
      documents: (lines, name of the input file) -> its documents.
      log: called with a line about files whose suffix says nothing of their compression.

    Raises:
      UserError: no file matches, or one holds something else than text; the line says what.
    """
    found, unnamed = [], []
    for name, path in matching(spec, example):
        head = head_of(path)
        named = SUFFIXES.get(path.suffix)
        compressed = compression(head) or named
        if problem := no_text(head):
            raise UserError(f"{path}: {problem}")
        if compressed != named:
            unnamed.append(f"{name} ({compressed})")
        stored = StoredFile(name, path, stamp(path))
        size = path.stat().st_size
        if compressed or size <= RANGE_BYTES:
            ranges = [(name, 0, None)]
        else:
            ranges = [(f"{name}@{i}", i * RANGE_BYTES, (i + 1) * RANGE_BYTES) for i in range(-(-size // RANGE_BYTES))]
        for part, start, stop in ranges:
            length = min(stop or size, size) - start
            read = partial(_read, documents, path, compressed, part, start, stop)
            found.append(InputFile(part, length, stored.stamp, read, () if start else (stored,)))
    if unnamed:
        more = f" and {len(unnamed) - 1:,} more" if len(unnamed) > 1 else ""
        log(f"source '{spec.text}': decompressing {unnamed[0]}{more}, although the name does not say so")
    return found


def _read(
    documents: Callable[[LineReader, str], Iterator[Document]],
    path: Path,
    compressed: str | None,
    name: str,
    start: int,
    stop: int | None,
    reading: Reading,
) -> Iterator[Document]:
    return documents(LineReader(path, compressed, start, stop, reading), name)


def split_glob(location: str) -> tuple[str, str]:
    """Returns (root, the pattern below it): the root is what has no wildcard in it, or exists although it has."""
    parts = Path(location).parts
    root = Path()
    for number, part in enumerate(parts[:-1]):
        if glob.has_magic(part) and not os.path.lexists(root / part):
            return str(root), str(Path(*parts[number:]))
        root /= part
    return str(root), parts[-1] if parts else ""
