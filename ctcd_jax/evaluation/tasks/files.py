"""Tasks in files: GLUE's TSV folders, and the user's own TSV, CSV or JSONL files, any of them gzipped."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.evaluation.tasks.inference import infer_task, is_integer
from ctcd_jax.evaluation.tasks.rows import Row, find_file, json_objects, kind, swallowed_line, table_rows
from ctcd_jax.evaluation.tasks.tasks import TASKS, Task, plain


@dataclass(frozen=True)
class Split:
    """Examples: one or two columns of text, and per row a class id (int) or a score (float).

    `skipped` counts rows of the official file that lack columns; `notes` are lines on what else was not taken as it is.
    """

    sentences: tuple[list[str], ...]
    labels: list[int] | list[float]
    skipped: int = 0
    notes: tuple[str, ...] = ()

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
        return known or infer_task(plain(name), folders[wanted])

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
        places = [(f"{path}:{line}", row[-1]) for line, row in _examples(path, self.task) if row]
        if not places:
            raise UserError(f"{path}: no rows; the file needs at least one example")
        labels = [_trimmed(label, place) for place, label in places]
        counts = Counter(labels)
        if _has_no_header(path, self.task) and counts[labels[0]] == 1 and len(counts) > 2:
            raise UserError(
                f"{places[0][0]}: no other row has the label {labels[0]!r}; if it is a header, give --columns by name, "
                "else leave the row out"
            )
        classes = tuple(sorted(counts, key=int if all(map(is_integer, counts)) else str))
        if len(classes) < 2:
            raise UserError(f"{path}: only one class ({', '.join(classes)}) in column {self.task.label!r}")
        if "f1" in self.task.metrics and len(classes) > 2:
            raise UserError(f"--metric f1: {path} has {len(classes)} classes, F1 is for two; give f1_macro")
        if positive := self.task.positive:
            if positive not in classes:
                raise UserError(f"--positive {positive}: no such class in {path}{did_you_mean(positive, classes)}")
            classes = (*(name for name in classes if name != positive), positive)
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
    sentences, labels = tuple([] for _ in task.sentences), []
    skipped = trimmed = empty = 0
    for line, row in _examples(path, task):
        if row is None:
            skipped += 1
            continue
        for texts, text in zip(sentences, row[:-1], strict=True):
            texts.append(text)
        label = _trimmed(row[-1], f"{path}:{line}")
        hint = "" if labels or not _has_no_header(path, task) else "; if it is a header, give --columns by name"
        labels.append(label_of(task, label, f"{path}:{line}", hint))
        trimmed += label != row[-1]
        empty += not all(text.strip() for text in row[:-1])
    if not labels:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    notes = []
    if _header_is_guessed(task):
        notes.append("the first row is taken as a header")
    if trimmed:
        notes.append(f"labels with blanks around them, which are trimmed: {trimmed:,}")
    if empty and task.name not in TASKS:
        notes.append(f"rows with an empty text: {empty:,}")
    return Split(sentences, labels, skipped, tuple(notes))


def label_of(task: Task, value: str, place: str, hint: str = "") -> int | float:
    """Returns the class id or the score that `value` stands for.

    Args:
      task: names the classes, or the interval of the scores.
      value: as it stands in the file.
      place: what an error names.
      hint: end of an error's line.
    """
    if task.classes is None:
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise UserError(f"{place}: score {value!r} of {task.name} is not a number{hint}")
        if task.interval and not task.interval[0] <= score <= task.interval[1]:
            raise UserError(
                f"{place}: score {value} of {task.name} is not from {task.interval[0]:g} to {task.interval[1]:g}"
            )
        return score
    if value not in task.classes:
        raise UserError(f"{place}: label {value!r} of {task.name} is none of {', '.join(task.classes)}{hint}")
    return task.classes.index(value)


def _examples(path: Path, task: Task) -> Iterator[tuple[int, list[str] | None]]:
    """Yields (line number from 1, texts and label); None for a row that lacks columns where the task has such."""
    wanted = (*task.sentences, task.label)
    if kind(path) == ".jsonl":
        for line, fields in json_objects(path):
            yield line, [_field(fields, column, f"{path}:{line}") for column in wanted]
        return
    rows = table_rows(path)
    header = next(rows, None) if task.header else None
    columns = [_position(path, header.fields if header else None, column) for column in wanted]
    if header and _header_is_guessed(task) and header.fields[columns[-1]].strip() in (task.classes or ()):
        raise UserError(f"{path}:{header.line}: an example, where train has a header; give both files one, or neither")
    if kind(path) == ".csv":
        rows = _refuse_swallowed(path, task, list(rows), columns[-1])
    width = len(header.fields) if header else None
    for line, row, _ in rows:
        width = width or len(row)
        if len(row) <= max(columns):
            if not task.short_rows:
                raise UserError(f"{path}:{line}: {len(row)} columns, column {max(columns) + 1} is needed")
            yield line, None
        elif len(row) == width or task.name in TASKS:
            yield line, [row[column] for column in columns]
        else:
            before = "the header" if header else "the first row"
            more = "; in CSV a text with a comma in it is quoted" if kind(path) == ".csv" else ""
            raise UserError(f"{path}:{line}: {len(row)} columns, {before} has {width}{more}")


def _refuse_swallowed(path: Path, task: Task, rows: list[Row], label: int) -> list[Row]:
    """Returns `rows`. Raises UserError where two stray quotation marks have made one field of several rows."""
    labels = set(task.classes or ()) or {row.fields[label].strip() for row in rows if len(row.fields) > label}
    for row in rows:
        if found := swallowed_line(row, label, _is_number if task.classes is None else labels.__contains__):
            raise UserError(
                f"{path}:{row.line}: a quoted field that begins here holds line {found}, which is a row of its own; "
                "remove the stray quotation marks"
            )
    return rows


def _field(fields: dict, column: str | int, place: str) -> str:
    if column not in fields:
        raise UserError(f"{place}: no field {column!r}{did_you_mean(str(column), fields)}")
    value = fields[column]
    if value is None:
        raise UserError(f"{place}: field {column!r} is null; give a value or leave the line out")
    if isinstance(value, dict | list):
        raise UserError(f"{place}: field {column!r} is neither a text nor a number")
    return value if isinstance(value, str) else json.dumps(value)


def _trimmed(label: str, place: str) -> str:
    label = label.strip()
    if not label:
        raise UserError(f"{place}: the label is empty; give one or leave the row out")
    if "\n" in label or "\r" in label:
        raise UserError(f"{place}: the label runs over several lines")
    return label


def _has_no_header(path: Path, task: Task) -> bool:
    return not task.header and kind(path) != ".jsonl"


def _header_is_guessed(task: Task) -> bool:
    """Whether `infer_task` has found a header, rather than the user or GLUE said that there is one."""
    return task.header and isinstance(task.label, int)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise UserError(f"--data {path}: no such folder")
    return [below for below in sorted(path.iterdir()) if below.is_dir()]


def _position(path: Path, names: list[str] | None, column: str | int) -> int:
    if names is None or isinstance(column, int):
        return cast("int", column)
    if column not in names:
        more = "" if len(names) > 1 else "; columns of a .tsv are separated by tabs, of a .csv by commas"
        raise UserError(f"{path}:1: no column {column!r} in the header{did_you_mean(column, names)}{more}")
    if names.count(column) > 1:
        raise UserError(f"{path}:1: {names.count(column)} columns are called {column!r}; rename one")
    return names.index(column)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
