"""Source `hf`: a data set of the Hugging Face hub, streamed, or a directory that `datasets` wrote or can read."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import huggingface_hub
from huggingface_hub.errors import RepositoryNotFoundError

from ctcd_jax.data.hashing import portable
from ctcd_jax.data.hub_access import check_reachable
from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec, StoredFile
from ctcd_jax.data.sources.files import common_stamp, expanded, stamp
from ctcd_jax.data.sources.tables import BATCH_ROWS, check_type, documents, library, no_such, texts
from ctcd_jax.errors import UserError, one_line
from ctcd_jax.files import is_lfs_pointer

if TYPE_CHECKING:
    from datasets import IterableDataset

SHARD_ROWS = 200_000
"""A data set that `save_to_disk` wrote is one table; it is read as several input files of at most this many rows."""

NOMINAL_BYTES = 2**25
"""The size of an input file where nobody says how large it is."""

_HUB = "hf://datasets/"


def open_hub(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Finds the shards of a split; each is an input file. A data set of the hub is pinned to its newest commit."""
    library(spec, "datasets")
    data = _locate(spec)
    try:
        splits = _splits(data)
        name = spec.keys.get("split") or ("train" if len(splits) > 1 else next(iter(splits)))
        if name not in splits:
            raise spec.error(no_such("split", name, splits))
        split, field = splits[name], spec.keys.get("field", "text")
        if data.revision is None:
            _check_fetched(spec, map(Path, split.files))
        _check_field(spec, split.dataset, field)
        sizes = _sizes(data, split)
    except UserError:
        raise
    except Exception as error:  # whatever the readers of a dozen formats and the network raise
        if data.revision is None:
            _check_fetched(spec, Path(data.location).rglob("*"))
        raise spec.error(_why(error, data)) from error
    stored = _stored(Path(data.location), split.files) if data.revision is None else None
    stamp_ = data.version if stored is None else common_stamp(stored)
    files = []
    for i, size in enumerate(sizes):
        rows = split.rows and split.rows / len(sizes)
        path = split.files[i] if len(split.files) == len(sizes) else ""
        shard = _Shard(data, name, i, field, rows, size, f"source '{spec.text}': {name}-{i:05d}", str(path))
        files.append(InputFile(shard.name, size, stamp_, shard.documents, stored and stored[i :: len(sizes)]))
    log(f"{spec.location}: {len(files)} shards" + (f" of revision {data.revision}" if data.revision else ""))
    details = {"revision": data.revision, "rows": split.rows}
    return files, {key: value for key, value in details.items() if value is not None}


class _Data(NamedTuple):
    """What `datasets` opens: a directory, or a revision of a data set of the hub; `version` is that of its content."""

    location: str
    config: str | None
    revision: str | None
    version: str


class _Split(NamedTuple):
    """`rows` where it is known, and the files the split consists of."""

    dataset: "IterableDataset"
    rows: int | None
    files: Sequence[str]


@dataclass(frozen=True)
class _Shard:
    """Goes to other processes instead of what is open.

    Attributes:
      rows: About how many, where it is known.
      size: In bytes, about.
      place: What its errors name.
      file: The file it is, if it is one.
    """

    data: _Data
    split: str
    index: int
    field: str
    rows: float | None
    size: int
    place: str
    file: str

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:05d}"

    def documents(self, reading: Reading) -> Iterator[Document]:
        return documents(self.name, self._values(reading), self.place, reading)

    def _values(self, reading: Reading) -> Iterator[bytes | None]:
        try:
            dataset = _splits(self.data)[self.split].dataset
            shard = dataset.shard(num_shards=dataset.num_shards, index=self.index).select_columns([self.field])
            done, whole = 0, self.rows or self.size or 1
            # In Arrow, which is tens of times faster than by row.
            tables = shard.with_format("arrow").iter(batch_size=BATCH_ROWS)
            for table in cast("Iterator[Any]", tables):
                yield from texts(table.column(0), self.place)
                done += table.num_rows if self.rows else table.nbytes
                reading.share = min(done / whole, 1.0)
        except UserError:
            raise
        except Exception as error:  # as in open_hub
            raise UserError(
                f"{self.place}: {self.file or 'it'} cannot be read ({one_line(error)}); try again, or fetch it first"
            ) from error


def _locate(spec: Spec) -> _Data:
    if not spec.location:
        raise spec.error("give a data set of the hub or a directory, e.g. hf:wikimedia/wikipedia,name=20231101.en")
    config, directory = spec.keys.get("name"), Path(expanded(spec.location))
    if directory.is_dir():
        # A relative path could be taken for the name of a format: "text", "json".
        directory = directory.resolve()
        return _Data(str(directory), config, None, common_stamp(_stored(directory, _contents(directory))))
    try:
        check_reachable()
    except OSError as error:
        raise spec.error(
            f"no such directory, and the hub cannot be reached ({error}); "
            "fetch the data elsewhere and give hf:DIRECTORY, parquet:GLOB or text:GLOB"
        ) from error
    try:
        revision = huggingface_hub.HfApi().dataset_info(spec.location).sha
    except RepositoryNotFoundError as error:
        raise spec.error(
            "no such directory, and the hub has no such data set, or not for you: log in with `hf auth login`"
        ) from error
    except Exception as error:  # whatever the hub's client raises
        raise spec.error(f"no such directory, and at the hub: {one_line(error)}") from error
    return _Data(f"{_HUB}{spec.location}", config, revision, cast("str", revision))  # the hub's are all at a commit


def _contents(directory: Path) -> list[Path]:
    """Returns all files of a directory but hidden ones, which `datasets` does not read either."""
    found = (path for path in directory.rglob("[!.]*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(directory).parts))


def _stored(directory: Path, files: Sequence[str | Path]) -> list[StoredFile]:
    """Returns the files of a split or, where they are in archives, all files of the directory."""
    paths = [Path(file) for file in files]
    if not paths or not all(path.is_file() for path in paths):
        paths = _contents(directory)
    return [StoredFile(portable(os.path.relpath(path, directory)), path, stamp(path)) for path in paths]


def _check_fetched(spec: Spec, files: Iterable[Path]) -> None:
    """Raises UserError if Git LFS has not fetched one of the files: some formats would take its pointer for text."""
    if pointer := next((path for path in sorted(files) if is_lfs_pointer(path)), None):
        raise spec.error(f"{pointer} is a Git LFS pointer and not the file itself; fetch that with `git lfs pull`")


@lru_cache(maxsize=4)  # opening one of the hub is a dozen requests
def _splits(data: _Data) -> Mapping[str, _Split]:
    import datasets

    datasets.disable_progress_bars()
    huggingface_hub.utils.disable_progress_bars()
    if data.revision is None and any(Path(data.location, x).is_file() for x in ("dataset_dict.json", "state.json")):
        return _saved(data)
    return _streamed(data)


def _saved(data: _Data) -> Mapping[str, _Split]:
    """Returns what `save_to_disk` wrote."""
    import datasets

    loaded = datasets.load_from_disk(data.location)
    parts = loaded if isinstance(loaded, datasets.DatasetDict) else {loaded.split or "train": loaded}
    splits = {}
    for name, part in parts.items():
        shards = max(1, -(-len(part) // SHARD_ROWS))
        files = [file["filename"] for file in part.cache_files]
        splits[str(name)] = _Split(part.to_iterable_dataset(num_shards=shards), len(part), files)
    return splits


def _streamed(data: _Data) -> Mapping[str, _Split]:
    """Returns what consists of data files, here or at the hub; a shard is a file."""
    import datasets

    builder = datasets.load_dataset_builder(data.location, data.config, revision=data.revision)
    splits = {}
    parts: Mapping[str, Any] = cast("Any", builder.as_streaming_dataset())  # of all splits
    for name, part in parts.items():
        said = (builder.info.splits or {}).get(name)
        files = (builder.config.data_files or {}).get(name, ())
        splits[str(name)] = _Split(part, (said and said.num_examples) or None, files)
    return splits


def _sizes(data: _Data, split: _Split) -> list[int]:
    """Returns the sizes of the shards: of the files, if there are as many, else all the same."""
    if data.revision is None:
        sizes = [Path(file).stat().st_size for file in split.files]
    else:
        names = [file.removeprefix(f"{data.location}@{data.revision}/") for file in split.files]
        found: list[Any] = huggingface_hub.HfApi().get_paths_info(
            data.location.removeprefix(_HUB), names, revision=data.revision, repo_type="dataset"
        )
        by_name = {file.path: file.size for file in found}
        sizes = [by_name[name] for name in names]
    shards = split.dataset.num_shards
    if len(sizes) == shards:
        return sizes
    return [sum(sizes) // shards or NOMINAL_BYTES] * shards


def _check_field(spec: Spec, dataset: "IterableDataset", field: str) -> None:
    known = dataset.features or next(iter(dataset.take(1)), {field: None})
    if field not in known:
        raise spec.error(no_such("field", field, known))
    if dataset.features:
        check_type(spec, field, dataset.features.arrow_schema.field(field).type)


def _why(error: Exception, data: _Data) -> str:
    if data.revision is None and glob.has_magic(data.location):
        return (
            f"{one_line(error)}; `datasets` takes the * ? [ in a directory's name for a pattern: rename it, or give its"
            " files as parquet:, jsonl: or text:"
        )
    if isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error):
        return (
            "it is a program that makes the data, and `datasets` runs none any more; "
            "name one that consists of parquet, JSON or text files"
        )
    return one_line(error)
