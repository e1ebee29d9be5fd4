"""Files that match a glob, and their lines, whatever they are compressed with."""

import glob
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import zstandard

from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec
from ctcd_jax.errors import UserError

RANGE_BYTES = 2**23
"""A longer plain file is read as several input files of this size, so that several processes can share it."""

_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".zst": lambda raw: _split_lines(_zstd_chunks(raw))}


def matching(spec: Spec, example: str) -> list[tuple[str, Path]]:
    """Returns (name from the glob's root, path) of the files at a spec's location, sorted by name.

    Raises:
      UserError: none matches.
    """
    pattern = os.path.expanduser(spec.location)
    paths = [Path(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    if not paths:
        raise spec.error(f"no file matches '{pattern}'; give a file or a glob such as '{example}'")
    root = _glob_root(pattern)
    return sorted((path.relative_to(root).as_posix(), path) for path in paths)


def stamp(path: Path) -> str:
    """Returns what changes when the file does."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def line_files(
    files: Iterable[tuple[str, Path]], documents: Callable[["LineReader", str], Iterator[Document]]
) -> list[InputFile]:
    """Returns the input files of text that is read by lines; `documents(lines, name)` makes documents of them.

    A plain file of more than `RANGE_BYTES` becomes several, NAME@0, NAME@1, ...: a line belongs to the one in which it
    begins.
    """
    found = []
    for name, path in files:
        size = path.stat().st_size
        if path.suffix in _OPENERS or size <= RANGE_BYTES:
            ranges = [(name, 0, None)]
        else:
            ranges = [(f"{name}@{i}", i * RANGE_BYTES, (i + 1) * RANGE_BYTES) for i in range(-(-size // RANGE_BYTES))]
        for part, start, stop in ranges:
            length = min(stop or size, size) - start
            found.append(InputFile(part, length, stamp(path), partial(_read, documents, path, part, start, stop)))
    return found


def _read(
    documents: Callable[["LineReader", str], Iterator[Document]],
    path: Path,
    name: str,
    start: int,
    stop: int | None,
    reading: Reading,
) -> Iterator[Document]:
    return documents(LineReader(path, start, stop, reading), name)


class LineReader:
    """The lines of a file that begin in [start, stop), as text without surrounding white space.

    Iterating raises UserError for a file that is damaged or cannot be read, and, if strict, for invalid UTF-8.
    """

    def __init__(self, path: Path, start: int, stop: int | None, reading: Reading):
        self._path, self._start, self._stop, self._reading = path, start, stop, reading
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self._path, "rb") as raw:
                size = os.fstat(raw.fileno()).st_size or 1
                lines = _OPENERS[self._path.suffix](raw) if self._path.suffix in _OPENERS else self._range(raw)
                for line in lines:
                    self._number += 1
                    if self._number % 1024 == 0:
                        self._reading.share = (raw.tell() - self._start) / (min(self._stop or size, size) - self._start)
                    yield self._decode(line).strip()
        except _DAMAGE as error:
            raise UserError(f"{self._path}: damaged, or not what its suffix says ({error}); fetch it again") from error
        except OSError as error:
            raise UserError(f"{self._path}: cannot be read ({error.strerror or error})") from error

    @property
    def place(self) -> str:
        """FILE:LINE of the line that was read last."""
        before = 0
        if self._start:
            with open(self._path, "rb") as raw:
                before = sum(1 for _ in _until(raw, self._start))
        return f"{self._path}:{before + self._number}"

    def _range(self, raw: BinaryIO) -> Iterator[bytes]:
        if self._start:  # the line that holds the byte before belongs to the range before
            raw.seek(self._start - 1)
            raw.readline()
        return raw if self._stop is None else _until(raw, self._stop)

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if self._reading.strict:
                raise UserError(
                    f"{self.place}: not UTF-8 ({error.reason}); convert the file, e.g. with iconv, or omit --strict"
                ) from error
            self._reading.invalid_lines += 1
            return line.decode("utf-8-sig", errors="replace")


def _until(raw: BinaryIO, stop: int) -> Iterator[bytes]:
    """Yields the lines that begin before `stop`."""
    position = raw.tell()
    while position < stop and (line := raw.readline()):
        yield line
        position += len(line)


def _glob_root(pattern: str) -> Path:
    """Returns the directory above the first part of `pattern` with a wildcard in it (or above the file it names)."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed])


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Reads several frames as one; a file cut short is an EOFError.

    (zstandard's own reader stops after the first frame, and takes a torn one for the end of the file.)
    """
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    while chunk := file.read(2**20):
        while chunk:
            if frame.eof:
                frame = decompressor.decompressobj()
            yield frame.decompress(chunk)
            chunk = frame.unused_data
    if not frame.eof:
        raise EOFError("it ends in the middle of a frame")


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
