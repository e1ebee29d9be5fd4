"""GLUE from the Hugging Face hub (`nyu-mll/glue` or a copy of it) and from what TFDS has prepared (`glue/...`).

Both name columns and label ids alike: `Task.fields`, and a `label` that counts in the order of `Task.classes`.
"""

import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode

from ctcd_jax.data.hub_access import check_reachable
from ctcd_jax.data.sources.tables import BATCH_ROWS
from ctcd_jax.errors import UserError, did_you_mean, one_line
from ctcd_jax.evaluation.tasks.files import Split, label_of
from ctcd_jax.evaluation.tasks.tasks import DEFAULT_TASKS, TASKS, Task, plain


@dataclass(frozen=True)
class Hub:
    """A data set of the hub, or a folder that `datasets.load_dataset` reads, with a configuration for each task."""

    location: str

    def names(self) -> Sequence[str]:
        folder = Path(self.location).expanduser()
        if not folder.is_dir():
            return DEFAULT_TASKS
        _library("datasets")
        import datasets

        try:
            there = datasets.get_dataset_config_names(str(folder))
        except Exception as error:  # as in `read`
            raise UserError(
                f"--data hf:{self.location}: {one_line(error)}; give a folder as nyu-mll/glue is"
            ) from error
        return [name for name in TASKS if name in there]

    def find(self, name: str) -> Task:
        return _known(name)

    def read(self, task: Task, split: str) -> Split:
        """Downloads (once; `datasets` keeps it) and reads a split.

        Raises:
          UserError: it cannot be had, or a row is not what the task expects.
        """
        _library("datasets")
        import datasets

        place = f"--data hf:{self.location}: {task.name}, {_split(split)}"
        folder = Path(self.location).expanduser()
        try:
            if not folder.is_dir() and not is_offline_mode():  # else `datasets` looks among what it has kept
                check_reachable()
            # What is kept of folders is distinguished by name, not by content: streams are not kept.
            location, streaming = (str(folder), True) if folder.is_dir() else (self.location, False)
            table = datasets.load_dataset(location, task.name, split=_split(split), streaming=streaming)
            rows = list(table)
        except Exception as error:  # whatever the readers of a dozen formats and the network raise
            raise UserError(f"{place}: {one_line(error)}; give a folder of GLUE's TSV files, or hf:FOLDER") from error
        return _gather(task, rows, place)


@dataclass(frozen=True)
class Tfds:
    """What TFDS has prepared as array_record: `directory` holds glue/TASK/VERSION; empty means TFDS's own place."""

    directory: str

    def names(self) -> Sequence[str]:
        return [name for name in TASKS if self._versions(name)]

    def find(self, name: str) -> Task:
        return _known(name)

    def read(self, task: Task, split: str) -> Split:
        """Reads a split; nothing is downloaded or prepared.

        Raises:
          UserError: it was not prepared so that it can be read, or a row is not what the task expects.
        """
        directory = self._prepared(task)
        import tensorflow_datasets as tfds

        place = f"--data tfds: {directory}, {_split(split)}"
        try:
            builder: Any = tfds.builder_from_directory(directory)  # a decorator hides the arguments from type checkers
            source = builder.as_data_source(_split(split))
            rows = [row for start in range(0, len(source), BATCH_ROWS) for row in _batch(source, start)]
        except Exception as error:  # whatever the library raises for a file that is not what it should be
            raise UserError(f"{place}: cannot be read ({one_line(error)}); {_PREPARE}") from error
        return _gather(task, rows, place)

    def _prepared(self, task: Task) -> Path:
        found = self._versions(task.name)
        if not found:
            raise UserError(f"--data tfds: no glue/{task.name}/VERSION/features.json in {self._root()}; {_PREPARE}")
        return max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])

    def _versions(self, name: str) -> list[Path]:
        return [path.parent for path in self._root().glob(f"glue/{name}/*/features.json")]

    def _root(self) -> Path:
        _library("tensorflow_datasets")
        from tensorflow_datasets.core import constants

        return Path(self.directory or constants.DATA_DIR).expanduser()


_PREPARE = "prepare glue/TASK where there is a network, with download_and_prepare(file_format='array_record')"
_SPLITS = {"dev": "validation", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"}


def _split(name: str) -> str:
    return _SPLITS.get(name, name)


def _batch(source, start: int) -> list[Mapping]:
    return source.__getitems__(range(start, min(start + BATCH_ROWS, len(source))))


def _gather(task: Task, rows: Sequence[Mapping], place: str) -> Split:
    if not rows:
        raise UserError(f"{place}: no rows")
    for name in (*task.fields, "label"):
        if name not in rows[0]:
            raise UserError(f"{place}: no column {name!r}{did_you_mean(name, rows[0])}")
    sentences = tuple(
        [_text(row[field], f"{place}:{number}", field) for number, row in enumerate(rows)] for field in task.fields
    )
    return Split(sentences, [_label(task, row["label"], f"{place}:{number}") for number, row in enumerate(rows)])


def _text(value: object, place: str, field: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: {field} is not UTF-8 ({error.reason}); correct it") from error
    if not isinstance(value, str):
        raise UserError(f"{place}: {field} is {value!r}, not text; correct it or leave the row out")
    return value


def _label(task: Task, value, place: str) -> int | float:
    if task.classes is None or isinstance(value, str):
        return label_of(task, str(value), place)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{place}: label {value!r} of {task.name} is no class; give its number or its name")
    if not 0 <= int(value) < len(task.classes):
        raise UserError(f"{place}: label {value} of {task.name} is not from 0 to {len(task.classes) - 1}")
    return int(value)


def _known(name: str) -> Task:
    if plain(name) not in TASKS:
        raise UserError(f"--tasks {name}: no such task{did_you_mean(plain(name), TASKS)}")
    return TASKS[plain(name)]


def _library(module: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UserError(f"{module} is not installed; run: pip install 'ctcd-jax[hub]'")
