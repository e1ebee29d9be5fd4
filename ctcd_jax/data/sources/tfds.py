"""Source `tfds`: a data set that tensorflow-datasets has prepared, read without TensorFlow and without the network."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec, StoredFile
from ctcd_jax.data.sources.files import common_stamp, expanded, stamp
from ctcd_jax.data.sources.tables import BATCH_ROWS, documents, library, no_such
from ctcd_jax.errors import UserError, one_line
from ctcd_jax.files import is_lfs_pointer

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

RANGE_EXAMPLES = 100_000
"""A split is read as several input files of at most this many examples."""

_PREPARE = "prepare it where there is a network, with download_and_prepare(file_format='array_record')"


def open_tfds(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Finds a split; nothing is downloaded or prepared."""
    library(spec, "tensorflow_datasets")
    directory = _directory(spec)
    split, field = spec.keys.get("split", "train"), spec.keys.get("field", "text")
    try:
        builder = _builder(directory)
    except Exception as error:  # whatever the library raises for a file that is not what it should be
        raise spec.error(f"{directory} is not a prepared data set ({one_line(error)})") from error
    _check(spec, builder, split, field)
    parts = [(Path(part.filename), part) for part in builder.info.splits[split].file_instructions]
    if pointer := next((path for path, _ in parts if is_lfs_pointer(path)), None):
        raise spec.error(f"{pointer} is a Git LFS pointer and not the file itself; fetch that with `git lfs pull`")
    try:
        stored = [StoredFile(path.name, path, stamp(path)) for path, _ in parts]
        size = sum(path.stat().st_size * part.take // part.examples_in_shard for path, part in parts)
    except OSError as error:
        raise spec.error(f"{error.filename} cannot be read ({error.strerror}); fetch the whole directory") from error
    version = common_stamp(stored)
    rows = sum(part.take for _, part in parts)
    starts = range(0, rows, RANGE_EXAMPLES)
    files = []
    for k, start in enumerate(starts):
        examples = range(start, min(start + RANGE_EXAMPLES, rows))
        name = f"{split}-{k:05d}"
        found = _Range(directory, split, version, examples, field, name, f"source '{spec.text}': {name}")
        files.append(InputFile(name, size * len(examples) // rows, version, found.documents, stored[k :: len(starts)]))
    return files, {"rows": rows, "name": builder.info.full_name}


@dataclass(frozen=True)
class _Range:
    """Goes to other processes instead of what is open; `place` is what its errors name."""

    directory: Path
    split: str
    version: str
    examples: range
    field: str
    name: str
    place: str

    def documents(self, reading: Reading) -> Iterator[Document]:
        return documents(self.name, self._values(reading), self.place, reading)

    def _values(self, reading: Reading) -> Iterator[bytes | str]:
        try:
            source = _examples(self.directory, self.split, self.version)
            for start in range(0, len(self.examples), BATCH_ROWS):
                for example in source.__getitems__(self.examples[start : start + BATCH_ROWS]):
                    yield example[self.field]
                reading.share = min((start + BATCH_ROWS) / len(self.examples), 1.0)
        except Exception as error:  # as in open_tfds
            raise UserError(f"{self.place}: cannot be read ({one_line(error)}); fetch it again") from error


def _directory(spec: Spec) -> Path:
    """Returns the directory with the `features.json`."""
    if not spec.location:
        raise spec.error("give a data set's name or the directory it was prepared in, e.g. tfds:wiki40b/en")
    location = Path(expanded(spec.location))
    if location.is_dir():
        # What is called NAME lies in NAME/VERSION or NAME/CONFIG/VERSION.
        found = [path.parent for levels in ("", "*/", "*/*/") for path in location.glob(levels + "features.json")]
        if len(found) == 1:
            return found[0].resolve()
        if found:
            raise spec.error(f"several data sets are prepared in it; give one: {', '.join(map(str, sorted(found)))}")
        raise spec.error(f"no data set is prepared in it, for there is no features.json; {_PREPARE}")
    from tensorflow_datasets.core import constants, read_only_builder

    try:
        return Path(read_only_builder.builder_from_files(spec.location, data_dir=constants.DATA_DIR).data_dir)
    except Exception as error:  # as in open_tfds
        raise spec.error(
            f"no such directory, and not prepared in {constants.DATA_DIR} either (TFDS_DATA_DIR); "
            f"{_PREPARE}, and give the directory"
        ) from error


def _builder(directory: Path) -> "DatasetBuilder":
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory)


def _check(spec: Spec, builder: "DatasetBuilder", split: str, field: str) -> None:
    from tensorflow_datasets.core.features import FeaturesDict
    from tensorflow_datasets.core.file_adapters import FileFormat

    info = builder.info
    if not info.available_file_formats() & FileFormat.with_random_access():
        raise spec.error(
            f"it is stored as {info.file_format and info.file_format.value}, which has no random access; {_PREPARE}"
        )
    try:
        _ = info.splits[split]
    except (KeyError, ValueError) as error:  # ValueError: this may be "train[:10%]", too
        raise spec.error(no_such("split", split, info.splits)) from error
    fields = dict(info.features.items()) if isinstance(info.features, FeaturesDict) else {}
    if field not in fields:
        raise spec.error(no_such("field", field, sorted(fields)))
    feature = fields[field]
    if feature.shape != () or feature.np_dtype not in (object, str, bytes):
        raise spec.error(f"field '{field}' holds {one_line(ValueError(repr(feature)))}, not strings")


@lru_cache(maxsize=4)
def _examples(directory: Path, split: str, version: str) -> Any:
    """Returns a data source of TFDS: a sequence of examples, several at once by `__getitems__`."""
    builder: Any = _builder(directory)  # a decorator hides the arguments from type checkers
    return builder.as_data_source(split)
