"""The lines of a file of text, whatever it is compressed with and whatever ends them."""

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from ctcd_jax.data.sources.base import Reading
from ctcd_jax.data.sources.content import HEAD_BYTES, compression, no_text
from ctcd_jax.errors import UserError

SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bz2"}

_CHUNK = 2**20
_OPENERS = {"gzip": gzip.open, "xz": lzma.open, "bz2": bz2.open}
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class LineReader:
    """The lines of a file that begin in [start, stop), as text without surrounding white space.

    A line ends with "\\n", "\\r\\n" or "\\r". Iterating raises UserError for a file that is damaged, cannot be read or
    is no text, and, if strict, for invalid UTF-8.

    Attributes:
      reading: counts the lines.
    """

    def __init__(self, path: Path, compressed: str | None, start: int, stop: int | None, reading: Reading):
        self.reading = reading
        self._path, self._compressed, self._start, self._stop = path, compressed, start, stop
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self._path, "rb") as raw:
                size = os.fstat(raw.fileno()).st_size or 1
                for line in self._lines(raw):
                    self._number += 1
                    if self._number % 1024 == 0:
                        done = (raw.tell() - self._start) / (min(self._stop or size, size) - self._start)
                        self.reading.share = min(done, 1.0)
                    yield self.reading.text(line, self.place)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        except OSError as error:
            if error.errno is None:  # of bz2
                raise self._damaged(error) from error
            raise UserError(f"{self._path}: cannot be read ({error.strerror})") from error

    def place(self) -> str:
        """Returns FILE:LINE of the line that was read last."""
        before = 0
        if self._start:
            with open(self._path, "rb") as raw:
                before = sum(1 for _ in _until(split_lines(_chunks(raw)), 0, self._start))
        return f"{self._path}:{before + self._number}"

    def _lines(self, raw: BinaryIO) -> Iterator[bytes]:
        if self._compressed:
            return split_lines(self._checked(_decompressed(raw, self._compressed)))
        # The line that holds the byte before `start` belongs to the range before.
        position = max(self._start - 1, 0)
        raw.seek(position)
        lines = split_lines(_chunks(raw))
        if self._start:
            position += len(next(lines, b""))
        return lines if self._stop is None else _until(lines, position, self._stop)

    def _checked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yields what is inside a compressed file, if it is text."""
        for number, chunk in enumerate(chunks):
            head = chunk[:HEAD_BYTES]
            if not number and (again := compression(head)):
                raise UserError(f"{self._path}: compressed ({again}) twice; decompress it once")
            if not number and (problem := no_text(head)):
                raise UserError(f"{self._path}: what is compressed in it is {problem}")
            yield chunk

    def _damaged(self, error: Exception) -> UserError:
        return UserError(f"{self._path}: damaged, or not what its name says ({error}); fetch it again")


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines with their ends, which are "\\n", "\\r\\n" or "\\r", wherever the chunks are cut."""
    unfinished: list[bytes] = []  # the line that the next chunk may go on with; "\r" at its end may be half of "\r\n"
    for chunk in chunks:
        if unfinished and not unfinished[-1].endswith(b"\r") and b"\n" not in chunk and b"\r" not in chunk:
            unfinished.append(chunk)
            continue
        lines = b"".join((*unfinished, chunk)).splitlines(keepends=True)
        unfinished = [] if not lines or lines[-1].endswith(b"\n") else [lines.pop()]
        yield from lines
    if unfinished:
        yield b"".join(unfinished)


def _until(lines: Iterable[bytes], position: int, stop: int) -> Iterator[bytes]:
    """Yields the lines that begin before `stop`; the first one begins at `position`."""
    if position < stop:
        for line in lines:
            yield line
            position += len(line)
            if position >= stop:
                break


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _decompressed(file: BinaryIO, how: str) -> Iterator[bytes]:
    return _zstd_chunks(file) if how == "zstd" else _chunks(_OPENERS[how](file))


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Reads several frames as one; a file cut short is an EOFError.

    (zstandard's own reader stops after the first frame, and takes a torn one for the end of the file.)
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)  # what `zstd --long=31` writes, too
    frame = decompressor.decompressobj()
    while chunk := file.read(_CHUNK):
        while chunk:
            if frame.eof:
                frame = decompressor.decompressobj()
            yield frame.decompress(chunk)
            chunk = frame.unused_data
    if not frame.eof:
        raise EOFError("it ends in the middle of a frame")
