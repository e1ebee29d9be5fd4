"""What the columns of a folder's own files are where nobody says: two (text and label), or four as CoLA has."""

import re
from collections.abc import Sequence
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.tasks.rows import Row, find_file, table_rows
from ctcd_jax.evaluation.tasks.tasks import Task


def infer_task(name: str, folder: Path) -> Task:
    """Returns the task `name` with the columns, the header and the classes that `folder`/train.tsv shows.

    Raises:
      UserError: it has another number of columns, a label that is not an integer (file:line), or one class.
    """
    path = find_file(folder, "train")
    rows = list(table_rows(path))
    if not rows:
        raise UserError(f"{path}: no rows; the file needs at least one example")
    width = len(rows[0].fields)
    if width not in (2, 4):
        raise UserError(
            f"{path}:1: {width} columns; give two (text and label), four as in CoLA, or --task and --columns"
        )
    text, label = (3, 1) if width == 4 else _two_columns(rows)
    header = width == 2 and not is_integer(rows[0].fields[label].strip())
    examples = rows[1:] if header else rows
    for row in examples:
        if len(row.fields) <= label or not is_integer(row.fields[label].strip()):
            raise UserError(f"{path}:{row.line}: the label in column {label + 1} must be an integer")
    classes = tuple(sorted({row.fields[label].strip() for row in examples}, key=int))
    if len(classes) < 2:
        raise UserError(
            f"{path}: only one class ({', '.join(classes)}) in column {label + 1}; a task needs two or more"
        )
    if width == 4:
        metrics = ("accuracy", "matthews")
    else:
        metrics = ("accuracy", "f1", "matthews") if len(classes) == 2 else ("accuracy",)
    return Task(name, folder.name, (text,), label, classes, metrics, header=header)


def _two_columns(rows: Sequence[Row]) -> tuple[int, int]:
    """(text, label): the label has more integers below a possible header row; the second column when they tie."""
    integers = [
        sum(len(row.fields) > column and is_integer(row.fields[column].strip()) for row in rows[1:])
        for column in (0, 1)
    ]
    return (1, 0) if integers[0] > integers[1] else (0, 1)


def is_integer(value: str) -> bool:
    """Whether a text is a whole number, as the labels of the user's own classes often are."""
    return re.fullmatch(r"[+-]?\d+", value) is not None
