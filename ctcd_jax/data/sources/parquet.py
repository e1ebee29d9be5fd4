"""Source `parquet`: files with a document in each row of a column."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec, StoredFile
from ctcd_jax.data.sources.content import compression, head_of, no_text
from ctcd_jax.data.sources.files import matching, stamp
from ctcd_jax.data.sources.tables import BATCH_ROWS, check_type, documents, library, no_such, texts
from ctcd_jax.errors import UserError, one_line

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def open_parquet(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Finds the files of a glob and checks the column in each one's footer."""
    library(spec, "pyarrow.parquet")
    field = spec.keys.get("field", "text")
    files, rows = [], 0
    for name, path in matching(spec, "parquet:DIR/*.parquet"):
        with _opened(path) as file:
            if field not in file.schema_arrow.names:
                raise spec.error(f"{name}: {no_such('field', field, file.schema_arrow.names)}")
            if (count := file.schema_arrow.names.count(field)) > 1:
                raise spec.error(f"{name}: {count} columns are called '{field}'; rename one")
            check_type(spec, field, file.schema_arrow.field(field).type, name)
            rows += file.metadata.num_rows
        stored, read = StoredFile(name, path, stamp(path)), partial(_documents, path, name, field)
        files.append(InputFile(name, path.stat().st_size, stored.stamp, read, (stored,)))
    return files, {"rows": rows}


def _documents(path: Path, name: str, field: str, reading: Reading) -> Iterator[Document]:
    return documents(name, _values(path, field, reading), str(path), reading)


def _values(path: Path, field: str, reading: Reading) -> Iterator[bytes | None]:
    import pyarrow

    with _opened(path) as file:
        done, rows = 0, file.metadata.num_rows
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[field]):
                yield from texts(batch.column(0), str(path))
                done += batch.num_rows
                reading.share = done / rows
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


@contextmanager
def _opened(path: Path) -> "Iterator[ParquetFile]":
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with ExitStack() as opened:
        try:
            # Opened here: by a name that is no UTF-8, Arrow finds nothing.
            file = ParquetFile(opened.enter_context(path.open("rb")))
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        yield file


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(f"{path}: cannot be read ({error.strerror})")
    head = head_of(path)
    if not head.startswith(b"PAR1") and (what := no_text(head)):
        return UserError(f"{path}: {what}")
    if compressed := compression(head):
        return UserError(f"{path}: compressed ({compressed}); decompress it")
    return UserError(f"{path}: damaged, or not parquet ({one_line(error)}); fetch it again")
