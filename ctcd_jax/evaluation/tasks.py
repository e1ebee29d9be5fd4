"""Tasks in GLUE's TSV form: where the files lie, which column is what, and how a model is scored."""

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Task:
    """What must be known of a task to read and score it.

    Columns are header names, or zero-based positions. `classes` lists the labels as they stand in the file, in the
    order of their class ids; None makes it a regression. The first of `metrics` is the headline.
    """

    name: str
    folder: str
    sentences: tuple[str | int, ...]
    label: str | int
    classes: tuple[str, ...] | None
    metrics: tuple[str, ...]
    header: bool = True

    @property
    def headline(self) -> str:
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the classifier: one logit a class, or one score."""
        return len(self.classes) if self.classes else 1


# In the order of the paper's Table 2, with its metrics.
TASKS = {
    task.name: task
    for task in (
        Task("sst2", "SST-2", ("sentence",), "label", ("0", "1"), ("accuracy",)),
        Task("cola", "CoLA", (3,), 1, ("0", "1"), ("matthews",), header=False),
        Task("stsb", "STS-B", ("sentence1", "sentence2"), "score", None, ("pearson", "spearman")),
        Task("mrpc", "MRPC", ("#1 String", "#2 String"), "Quality", ("0", "1"), ("f1", "accuracy")),
        Task("rte", "RTE", ("sentence1", "sentence2"), "label", ("entailment", "not_entailment"), ("accuracy",)),
    )
}


@dataclass(frozen=True)
class Split:
    """One file of a task: one or two columns of text, and per row a class id (int) or a score (float)."""

    sentences: tuple[list[str], ...]
    labels: list[int] | list[float]

    def __len__(self) -> int:
        return len(self.labels)


def find_task(data: Path, name: str) -> Task:
    """Returns the task that `name` means under the folder `data`, whatever its case, hyphens and underscores.

    A name that is none of `TASKS` is a folder of the user's own with train.tsv and dev.tsv: four columns as CoLA's, or
    two columns (text and integer label, in either order, with or without a header row).

    Raises:
      UserError: `data` has no such folder, or its files fit neither form.
    """
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    known = TASKS.get(_plain(name))
    wanted = _plain(known.folder if known else name)
    folders = {_plain(path.name): path.name for path in sorted(data.iterdir()) if path.is_dir()}
    if wanted not in folders:
        raise UserError(f"--tasks {name}: no such task in {data}{did_you_mean(_plain(name), folders)}")
    return known or _infer_task(_plain(name), data / folders[wanted])


def read_split(data: Path, task: Task, split: str) -> Split:
    """Reads `split` ("train" or "dev") of a task from `data`/FOLDER/SPLIT.tsv, or .tsv.gz.

    Raises:
      UserError: the file is missing or empty, lacks a column, or a label is not what the task expects (file:line).
    """
    path = _tsv(_folder(data, task), split)
    rows = _rows(path)
    names = next(rows, (0, []))[1] if task.header else None
    columns = [_position(path, names, column) for column in (*task.sentences, task.label)]
    sentences, labels = tuple([] for _ in task.sentences), []
    for line, row in rows:
        if len(row) <= max(columns):
            raise UserError(f"{path}:{line}: {len(row)} columns, column {max(columns) + 1} is needed")
        for texts, column in zip(sentences, columns[:-1], strict=True):
            texts.append(row[column])
        labels.append(_label(task, row[columns[-1]], f"{path}:{line}"))
    if not labels:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    return Split(sentences, labels)


def _infer_task(name: str, folder: Path) -> Task:
    path = _tsv(folder, "train")
    rows = list(_rows(path))
    if not rows:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    width = len(rows[0][1])
    if width not in (2, 4):
        raise UserError(f"{path}:1: {width} columns; give two (text and label) or four as in CoLA")
    text, label = (3, 1) if width == 4 else _two_columns(rows)
    header = width == 2 and not _is_integer(rows[0][1][label])
    examples = rows[1:] if header else rows
    for line, row in examples:
        if len(row) <= label or not _is_integer(row[label]):
            raise UserError(f"{path}:{line}: the label in column {label + 1} must be an integer")
    classes = tuple(sorted({row[label] for _, row in examples}, key=int))
    if len(classes) < 2:
        raise UserError(
            f"{path}: only one class ({', '.join(classes)}) in column {label + 1}; a task needs two or more"
        )
    if width == 4:
        metrics = ("accuracy", "matthews")
    else:
        metrics = ("accuracy", "f1", "matthews") if len(classes) == 2 else ("accuracy",)
    return Task(name, folder.name, (text,), label, classes, metrics, header)


def _two_columns(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int]:
    """(text, label): the label has more integers below a possible header row; the second column when they tie."""
    integers = [sum(len(row) > column and _is_integer(row[column]) for _, row in rows[1:]) for column in (0, 1)]
    return (1, 0) if integers[0] > integers[1] else (0, 1)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number from 1, fields) of a TSV without quoting, less empty lines and a byte-order mark."""
    opener = gzip.open if path.suffix == ".gz" else open
    # newline="\n": only that ends a row. A stray carriage return or an odd quotation mark is text in GLUE.
    with opener(path, "rt", encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line := line.rstrip("\r\n"):
                yield number, line.split("\t")


def _folder(data: Path, task: Task) -> Path:
    return next(
        (path for path in sorted(data.iterdir()) if _plain(path.name) == _plain(task.folder)), data / task.folder
    )


def _tsv(folder: Path, split: str) -> Path:
    for path in (folder / f"{split}.tsv", folder / f"{split}.tsv.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder / split}.tsv: no such file (nor .tsv.gz); a task needs train.tsv and dev.tsv")


def _position(path: Path, names: list[str] | None, column: str | int) -> int:
    if names is None or isinstance(column, int):
        return column
    if column not in names:
        raise UserError(f"{path}:1: no column {column!r} in the header{did_you_mean(column, names)}")
    return names.index(column)


def _label(task: Task, value: str, place: str) -> int | float:
    if task.classes is None:
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise UserError(f"{place}: score {value!r} of {task.name} is not a number")
        return score
    if value not in task.classes:
        raise UserError(f"{place}: label {value!r} of {task.name} is none of {', '.join(task.classes)}")
    return task.classes.index(value)


def _is_integer(value: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", value) is not None


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
