"""`predictions/TASK.csv`: what every cell answered, as text that can be published beside `results.jsonl`.

A line an example: its label, then a column for each cell, headed by the path that `results.jsonl` gives for the cell's
predictions. Class ids are whole numbers; the scores of a regression have the digits that give the same float32 again.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.errors import UserError

FOLDER = "predictions"
_LABEL = "label"


@dataclass(frozen=True)
class PredictionTable:
    """Answers to one development set.

    Attributes:
      labels: int64[N] class ids or float64[N] scores.
      predictions: {the cell's path in results.jsonl: int64[N] or float32[N]}.
    """

    labels: np.ndarray
    predictions: dict[str, np.ndarray]


def table_path(folder: Path, task: str, suffix: str = "") -> Path:
    """Returns where the table of a task lies.

    Args:
      folder: of `results.jsonl`.
      task: its name.
      suffix: of a second development set.
    """
    return folder / FOLDER / f"{task}{suffix}.csv"


def as_kept(predictions: np.ndarray) -> np.ndarray:
    """Returns class ids as int64 and scores as float32: what comes of them must not depend on where they were read."""
    return predictions.astype(np.int64 if predictions.dtype.kind in "iub" else np.float32)


def table_text(table: PredictionTable) -> str:
    """Returns the CSV of a table; equal tables give equal text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_LABEL, *table.predictions])
    columns = [table.labels, *table.predictions.values()]
    writer.writerows(zip(*([str(value) for value in column] for column in columns), strict=True))
    return file.getvalue()


def read_table(path: Path) -> PredictionTable:
    """Reads what `table_text` wrote.

    Raises:
      UserError: a line is not of such a table.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(path, 1) from error
    if len(lines) < 2 or lines[0][:1] != [_LABEL] or len(set(lines[0])) < len(lines[0]):
        raise _damaged(path, 1)
    for number, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise _damaged(path, number)
    if not text.endswith("\n"):  # a number may be cut
        raise _damaged(path, len(lines))
    labels, *predictions = (
        _numbers(path, column, np.float32 if place else np.float64)
        for place, column in enumerate(zip(*lines[1:], strict=True))
    )
    return PredictionTable(labels, dict(zip(lines[0][1:], predictions, strict=True)))


def _numbers(path: Path, column: Sequence[str], kind: type) -> np.ndarray:
    if all(map(str.isdecimal, column)):
        return np.array(column, dtype=np.int64)
    for number, text in enumerate(column, start=2):
        try:
            finite = np.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            raise _damaged(path, number)
    return np.array(column, dtype=np.float64).astype(kind)


def _damaged(path: Path, line: int) -> UserError:
    return UserError(f"{path}:{line}: damaged; restore the file, or delete it where cells/ still has the predictions")
