"""Where text comes from: a SPEC is opened into input files, each of which yields its documents as often as asked.

    SPEC = KIND[:LOCATION][,key=value ...]

text        LOCATION is a glob; plain, .gz, .xz or .zst; a sentence or a paragraph a line. An input file is a file; a
            document ends at a blank line, at the file's end or after 1,000 lines.
docstrings  LOCATION is a directory of Python code, by default the running interpreter's. An input file is such a
            directory; a document is a module.
"""

import glob
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import zstandard

from ctcd_jax.data import docstrings
from ctcd_jax.errors import UserError, did_you_mean

DOCUMENT_LINES = 1000

_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)


@dataclass(frozen=True)
class Document:
    """Text that belongs together; `path` (from the source's root: the same on every machine) and `number` name it."""

    path: str
    number: int
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class InputFile:
    """What packing never crosses. `documents()` starts from the beginning each time."""

    name: str
    documents: Callable[[], Iterator[Document]]


@dataclass(frozen=True)
class Source:
    """An opened SPEC; `details` goes into the manifest."""

    spec: str
    files: Sequence[InputFile]
    details: Mapping[str, object] = field(default_factory=dict)


def open_source(spec: str, log: Callable[[str], None] = print) -> Source:
    """Opens `KIND[:LOCATION][,key=value ...]`; what takes long tells `log` about it.

    Raises:
      UserError: for an unknown kind or key, or when nothing is at the location.
    """
    head, *pairs = re.split(r",(\w+)=", spec)
    kind, _, location = head.partition(":")
    if kind not in _KINDS:
        raise UserError(f"source {spec!r}: unknown kind {kind!r}{did_you_mean(kind, _KINDS)}")
    if pairs:
        raise UserError(f"source {spec!r}: {kind} knows no key {pairs[0]!r}; it takes a location alone")
    return _KINDS[kind](spec, location, log)


def _open_text(spec: str, pattern: str, log: Callable[[str], None]) -> Source:
    pattern = os.path.expanduser(pattern)
    paths = [Path(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    if not paths:
        raise UserError(
            f"source {spec!r}: no file matches {pattern!r}; give a file or a glob such as 'text:DIR/*.txt.xz'"
        )
    root = _glob_root(pattern)
    named = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return Source(spec, [InputFile(name, partial(_text_documents, path, name)) for name, path in named])


def _glob_root(pattern: str) -> Path:
    """Returns the directory above the first part of `pattern` with a wildcard in it (or above the file it names)."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed])


def _text_documents(path: Path, name: str) -> Iterator[Document]:
    number, lines = 0, []
    for line in _text_lines(path):
        if line:
            lines.append(line)
        if lines and (not line or len(lines) == DOCUMENT_LINES):
            yield Document(name, number, lines)
            number, lines = number + 1, []
    if lines:
        yield Document(name, number, lines)


def _text_lines(path: Path) -> Iterator[str]:
    """Yields the lines of `path` without surrounding white space."""
    opener = {".gz": gzip.open, ".xz": lzma.open, ".zst": _open_zstd}.get(path.suffix, open)
    number = 0
    try:
        with opener(path, "rb") as lines:
            for line in lines:
                number += 1
                yield line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not UTF-8 ({error.reason}); convert the file, e.g. with iconv"
        ) from error
    except _DAMAGE as error:
        raise UserError(f"{path}: damaged, or not what its suffix says ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def _open_zstd(path: Path, mode: str) -> Iterator[Iterator[bytes]]:
    """Like gzip.open, for lines: several frames are read as one, and a file cut short is an EOFError.

    (zstandard's own reader stops after the first frame, and takes a torn one for the end of the file.)
    """
    with open(path, mode) as file:
        yield _split_lines(_zstd_chunks(file))


def _zstd_chunks(file: BinaryIO) -> Iterator[bytes]:
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


def _open_docstrings(spec: str, location: str, log: Callable[[str], None]) -> Source:
    roots = [Path(location).expanduser()] if location else docstrings.interpreter_roots()
    for root in roots:
        if not root.is_dir():
            raise UserError(
                f"source {spec!r}: {root} is not a directory; give one with Python code, or 'docstrings' alone"
            )
    # Read once and kept (tens of megabytes): parsing costs far more, and duplicates are found across modules.
    prose = docstrings.collect(roots, log)
    files = [
        InputFile(root.name, partial(_module_documents, modules))
        for root, modules in zip(roots, prose.modules, strict=True)
    ]
    return Source(spec, files, {"packages": prose.packages, "modules_skipped": prose.skipped})


def _module_documents(modules: Mapping[str, Sequence[str]]) -> Iterator[Document]:
    for path, paragraphs in modules.items():
        yield Document(path, 0, paragraphs)


_KINDS: Mapping[str, Callable[[str, str, Callable[[str], None]], Source]] = {
    "text": _open_text,
    "docstrings": _open_docstrings,
}
