"""Tasks in files: GLUE's TSV folders, and the user's own TSV, CSV or JSONL files, any of them gzipped."""

import contextlib
import csv
import dataclasses
import gzip
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.evaluation.tasks import TASKS, Task, plain

ENDINGS = (".tsv", ".csv", ".jsonl")


@dataclass(frozen=True)
class Split:
    """Examples: one or two columns of text, and per row a class id (int) or a score (float).

    `skipped` counts rows of the official file that lack columns.
    """

    sentences: tuple[list[str], ...]
    labels: list[int] | list[float]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def characters(self) -> int:
        """Returns the length of all texts, to which the time of a pass over them is nearly in proportion."""
        return sum(len(text) for texts in self.sentences for text in texts)


@dataclass(frozen=True)
class Folder:
    """A folder with a folder for each task, in it train.tsv and dev.tsv (MNLI: dev_matched.tsv, dev_mismatched.tsv)."""

    path: Path

    def names(self) -> list[str]:
        """Returns which of GLUE's tasks are there."""
        folders = {plain(path.name) for path in _folders(self.path)}
        return [name for name, task in TASKS.items() if plain(task.folder) in folders]

    def find(self, name: str) -> Task:
        """Returns the task that `name` means here, whatever its case, hyphens and underscores.

        A name that is none of `TASKS` is a folder of the user's own with train.tsv and dev.tsv: four columns as CoLA's,
        or two columns (text and integer label, in either order, with or without a header row).

        Raises:
          UserError: there is no such folder, or its files fit neither form.
        """
        known = TASKS.get(plain(name))
        wanted = plain(known.folder if known else name)
        folders = {plain(path.name): path for path in _folders(self.path)}
        if wanted not in folders:
            raise UserError(f"--tasks {name}: no such task in {self.path}{did_you_mean(plain(name), folders)}")
        return known or _infer_task(plain(name), folders[wanted])

    def read(self, task: Task, split: str) -> Split:
        """Reads `split` of a task from FOLDER/SPLIT.tsv, or .tsv.gz.

        Raises:
          UserError: the file is missing or empty, lacks a column, or a label is not what the task expects (file:line).
        """
        folders = (path for path in _folders(self.path) if plain(path.name) == plain(task.folder))
        return read_file(find_file(next(folders, self.path / task.folder), split), task)


@dataclass(frozen=True)
class OwnFiles:
    """The files of one task of the user's own: train and dev, each .tsv, .csv or .jsonl, in `path` or `path`/NAME."""

    path: Path
    task: Task

    def names(self) -> list[str]:
        return [self.task.name]

    def find(self, name: str) -> Task:
        """Returns the task with the classes of its training file.

        Raises:
          UserError: as `read`; or the file has fewer than two classes, or not two for F1.
        """
        if self.task.classes is None:
            return self.task
        path = find_file(self._folder(), "train")
        values = {row[-1] for _, row in _examples(path, self.task)}
        integers = all(_is_integer(value) for value in values)
        classes = tuple(sorted(values, key=int if integers else str))
        if len(classes) < 2:
            raise UserError(f"{path}: only one class ({', '.join(classes)}) in column {self.task.label!r}")
        if "f1" in self.task.metrics and len(classes) > 2:
            raise UserError(f"--metric f1: {path} has {len(classes)} classes, F1 is for two; give accuracy")
        return dataclasses.replace(self.task, classes=classes)

    def read(self, task: Task, split: str) -> Split:
        return read_file(find_file(self._folder(), split), task)

    def _folder(self) -> Path:
        below = next((path for path in _folders(self.path) if plain(path.name) == self.task.name), None)
        return below or self.path


def read_file(path: Path, task: Task) -> Split:
    """Reads one file of a task.

    Raises:
      UserError: the file is empty, lacks a column, or a label is not what the task expects (file:line).
    """
    sentences, labels, skipped = tuple([] for _ in task.sentences), [], 0
    for line, row in _examples(path, task):
        if row is None:
            skipped += 1
            continue
        for texts, text in zip(sentences, row[:-1], strict=True):
            texts.append(text)
        labels.append(label_of(task, row[-1], f"{path}:{line}"))
    if not labels:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    return Split(sentences, labels, skipped)


def label_of(task: Task, value: str, place: str) -> int | float:
    """Returns the class id or the score that `value` stands for; `place` is what an error names."""
    if task.classes is None:
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise UserError(f"{place}: score {value!r} of {task.name} is not a number")
        if task.interval and not task.interval[0] <= score <= task.interval[1]:
            raise UserError(
                f"{place}: score {value} of {task.name} is not from {task.interval[0]:g} to {task.interval[1]:g}"
            )
        return score
    if value not in task.classes:
        raise UserError(f"{place}: label {value!r} of {task.name} is none of {', '.join(task.classes)}")
    return task.classes.index(value)


def find_file(folder: Path, split: str) -> Path:
    """Returns FOLDER/SPLIT with one of `ENDINGS`, perhaps .gz."""
    for ending in ENDINGS:
        for path in (folder / f"{split}{ending}", folder / f"{split}{ending}.gz"):
            if path.is_file():
                return path
    raise UserError(f"{folder / split}.tsv: no such file (nor .csv, .jsonl, with or without .gz)")


def _examples(path: Path, task: Task) -> Iterator[tuple[int, list[str] | None]]:
    """Yields (line number from 1, texts and label); None for a row that lacks columns where the task has such."""
    with _readable(path):
        yield from _chosen(path, task)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"{path}: cannot be read ({reason}); give UTF-8, whole, and gzipped only if it is called .gz"
        ) from error


def _chosen(path: Path, task: Task) -> Iterator[tuple[int, list[str] | None]]:
    wanted = (*task.sentences, task.label)
    if _kind(path) == ".jsonl":
        for line, fields in _objects(path):
            yield line, [_field(fields, column, f"{path}:{line}") for column in wanted]
        return
    rows = _rows(path)
    names = next(rows, (0, []))[1] if task.header else None
    columns = [_position(path, names, column) for column in wanted]
    for line, row in rows:
        if len(row) > max(columns):
            yield line, [row[column] for column in columns]
        elif task.short_rows:
            yield line, None
        else:
            raise UserError(f"{path}:{line}: {len(row)} columns, column {max(columns) + 1} is needed")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number from 1, fields), less empty lines and a byte-order mark; only CSV knows quotes."""
    with _open(path) as file:
        if _kind(path) == ".csv":
            reader = csv.reader(file)
            yield from ((reader.line_num, row) for row in reader if row)
            return
        for number, line in enumerate(file, start=1):
            if line := line.rstrip("\r\n"):
                yield number, line.split("\t")


def _objects(path: Path) -> Iterator[tuple[int, dict]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except ValueError:
                fields = None
            if not isinstance(fields, dict):
                raise UserError(f"{path}:{number}: not a JSON object; give one a line")
            yield number, fields


def _field(fields: dict, column: str | int, place: str) -> str:
    if column not in fields:
        raise UserError(f"{place}: no field {column!r}{did_you_mean(str(column), fields)}")
    value = fields[column]
    if value is None:
        raise UserError(f"{place}: field {column!r} is null; give a value or leave the line out")
    return value if isinstance(value, str) else json.dumps(value)


def _open(path: Path) -> io.TextIOBase:
    # newline="\n": only that ends a row of a TSV. A stray carriage return or an odd quotation mark is text in GLUE.
    newline = "" if _kind(path) == ".csv" else "\n"
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline=newline)


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"--data {path}: no such folder")
    return [below for below in sorted(path.iterdir()) if below.is_dir()]


def _position(path: Path, names: list[str] | None, column: str | int) -> int:
    if names is None or isinstance(column, int):
        return column
    if column not in names:
        raise UserError(f"{path}:1: no column {column!r} in the header{did_you_mean(column, names)}")
    return names.index(column)


def _infer_task(name: str, folder: Path) -> Task:
    path = find_file(folder, "train")
    with _readable(path):
        rows = list(_rows(path))
    if not rows:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    width = len(rows[0][1])
    if width not in (2, 4):
        raise UserError(
            f"{path}:1: {width} columns; give two (text and label), four as in CoLA, or --task and --columns"
        )
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
    return Task(name, folder.name, (text,), label, classes, metrics, header=header)


def _two_columns(rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int]:
    """(text, label): the label has more integers below a possible header row; the second column when they tie."""
    integers = [sum(len(row) > column and _is_integer(row[column]) for _, row in rows[1:]) for column in (0, 1)]
    return (1, 0) if integers[0] > integers[1] else (0, 1)


def _is_integer(value: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", value) is not None
