"""What the sources of tables share (parquet, hf, tfds): the check of the column, and its values as documents."""

import importlib
from collections.abc import Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from ctcd_jax.data.sources.base import Document, Reading, Spec, paragraphs
from ctcd_jax.errors import UserError

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 1024


def library(spec: Spec, name: str) -> ModuleType:
    """Imports a module of the extra `hub`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise spec.error(f"{error.name or name} is not installed: pip install 'ctcd-jax[hub]'") from error


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """Returns the message for a split or a field that does not exist.

    Args:
      what: "split" or "field".
      name: that was asked for.
      known: those that there are.
    """
    return f"no {what} '{name}'; there are: {', '.join(map(str, known))}"


def check_type(spec: Spec, field: str, type_: "pyarrow.DataType", file: str = "") -> None:
    """Raises UserError if a column does not hold strings (or nothing but nulls).

    Args:
      spec: the source.
      field: name of the column.
      type_: of the column.
      file: which the error names; "" for none.
    """
    if not _is_text(type_):
        raise spec.error(f"{file}{': ' if file else ''}field '{field}' holds {type_}, not strings")


def texts(column: "pyarrow.ChunkedArray | pyarrow.Array", place: str) -> Iterator[bytes | None]:
    """Yields a column's values as they are stored: pyarrow does not check that strings are valid UTF-8."""
    import pyarrow

    if not _is_text(column.type):
        raise UserError(f"{place}: the field holds {column.type}, not strings")
    yield from column.cast(pyarrow.large_binary()).to_pylist()


def documents(name: str, values: Iterable[bytes | str | None], place: str, reading: Reading) -> Iterator[Document]:
    """Yields a document for each of the rows that has text in it, numbered by row.

    Args:
      name: of the input file.
      values: of the column, a row each.
      place: what errors name, before the row's number.
      reading: decodes and checks the text.

    Raises:
      UserError: as `Reading.text`.
    """
    for number, value in enumerate(values):
        stored = value if isinstance(value, bytes) else (value or "").encode("utf-8", "surrogatepass")
        kept = paragraphs(reading.text(stored, partial("{}, row {}".format, place, number)))
        if kept:
            yield Document(name, number, kept)


def _is_text(type_: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(type_):
        return _is_text(type_.value_type)
    # A column of nulls alone has a type of its own, and they are no text.
    return any(is_(type_) for is_ in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))
