"""The rows of TSV, CSV and JSONL files, any of them gzipped, read strictly: what is malformed is named FILE:LINE."""

import contextlib
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ctcd_jax.errors import UserError
from ctcd_jax.files import is_lfs_pointer

ENDINGS = (".tsv", ".csv", ".jsonl")
# A field of RFC 4180 and what ends it. A quotation mark inside a field is doubled, and the field quoted.
_CSV_FIELD = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)(?:,|\r?\n|\r|\Z)')
_LINE_END = re.compile(r"\r\n|\r|\n")


class Row(NamedTuple):
    """A row of a table: the line where it begins (from 1), its fields, and the text that they were read from."""

    line: int
    fields: list[str]
    source: str


def find_file(folder: Path, split: str) -> Path:
    """Returns FOLDER/SPLIT with one of `ENDINGS`, perhaps .gz."""
    for ending in ENDINGS:
        for path in (folder / f"{split}{ending}", folder / f"{split}{ending}.gz"):
            if path.is_file():
                return path
    raise UserError(f"{folder / split}.tsv: no such file (nor .csv, .jsonl, with or without .gz)")


def kind(path: Path) -> str:
    """Returns ".tsv", ".csv" or ".jsonl", of a gzipped file the ending before ".gz"."""
    return Path(path.name.removesuffix(".gz")).suffix


def table_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a TSV or CSV file, less empty lines and a byte-order mark; only CSV knows quotes.

    Raises:
      UserError: the file cannot be read, or a line (FILE:LINE) is not UTF-8, or a quotation mark is stray.
    """
    if kind(path) == ".csv":
        yield from _csv_rows(path)
        return
    for number, line in _lines(path):
        if text := line.rstrip("\r\n"):
            yield Row(number, text.split("\t"), text)


def json_objects(path: Path) -> Iterator[tuple[int, dict]]:
    """Yields (line number from 1, object) of a JSONL file, less empty lines.

    Raises:
      UserError: the file cannot be read, or a line (FILE:LINE) is not UTF-8 or not a JSON object.
    """
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise UserError(f"{path}:{number}: not a JSON object; give one a line")
        yield number, fields


def swallowed_line(row: Row, label: int, is_label: Callable[[str], bool]) -> int | None:
    """Returns the line of another row inside a quoted field of `row`, None if there is none.

    Two stray quotation marks make one field of the rows between them, which is legal CSV. Such a field gives itself
    away by a line of its own that is a row: as many columns as `row`, and a label where the label belongs.

    Args:
      row: of a CSV file.
      label: the label's column.
      is_label: whether a text is a label of this file.
    """
    lines = _LINE_END.split(row.source.rstrip("\r\n"))
    if len(lines) < 2:
        return None
    quoted = next(index for index, field in enumerate(row.fields) if "\n" in field or "\r" in field)
    # The first line's label is the field's only if it follows the quotation mark, the last line's if it precedes.
    first, last = (0 if label > quoted else 1), (len(lines) - 1 if label > quoted else len(lines))
    for index in range(first, last):
        columns = lines[index].split(",")
        if len(columns) == len(row.fields) and is_label(columns[label].strip(' "')):
            return row.line + index
    return None


def _csv_rows(path: Path) -> Iterator[Row]:
    taken: list[tuple[int, str]] = []  # the lines of the row that is being read

    def lines() -> Iterator[str]:
        for number, line in _lines(path):
            taken.append((number, line))
            yield line

    csv.field_size_limit(2**31 - 1)  # a document may be a field; the module's own limit is 131,072 characters
    reader = csv.reader(lines(), strict=True)
    while True:
        taken.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            _refuse_stray_marks(path, taken)
            raise UserError(f"{path}:{taken[0][0]}: cannot be read ({error}); {_REMEDY}") from error
        _refuse_stray_marks(path, taken)
        if fields:
            yield Row(taken[0][0], fields, "".join(line for _, line in taken))


def _refuse_stray_marks(path: Path, taken: list[tuple[int, str]]) -> None:
    source = "".join(line for _, line in taken)
    position = 0
    while '"' in source and position < len(source):
        field = _CSV_FIELD.match(source, position)
        if field is None:
            line = taken[0][0] + len(_LINE_END.findall(source, 0, position))
            raise UserError(
                f"{path}:{line}: a stray quotation mark in the field that begins here; in CSV a text with one is "
                'quoted and the mark doubled ("so ""good"""), a .tsv knows no quotes'
            )
        position = field.end()


_REMEDY = "give UTF-8, whole, and gzipped only if it is called .gz"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yields (number from 1, line with its end).

    In a TSV only "\n" ends a line, a stray carriage return is text; but where there is no "\n" at all, "\r" does. CSV
    and JSONL have none in what they do not quote.
    """
    tabs = kind(path) == ".tsv"
    if is_lfs_pointer(path):
        raise UserError(f"{path}: a Git LFS pointer, not the data; run `git lfs pull`")
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    with _readable(path), opener(path, "rb") as file:
        for data in file:
            whole = tabs and (number > 0 or data.endswith(b"\n"))
            for line in [data] if whole else data.splitlines(keepends=True):
                number += 1
                yield number, _text(line, f"{path}:{number}", first=number == 1)


def _text(line: bytes, place: str, first: bool) -> str:
    if b"\0" in line:
        raise UserError(f"{place}: a NUL byte, which no text has (UTF-16?); {_REMEDY}")
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: cannot be read ({error}); {_REMEDY}") from error


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: cannot be read ({reason}); {_REMEDY}") from error
