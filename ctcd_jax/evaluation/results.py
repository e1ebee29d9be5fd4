"""`results.jsonl`: one line a finished cell of the fine-tuning matrix, appended by any number of processes."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ctcd_jax.errors import UserError

FORMAT = 2
READABLE = (1, 2)  # 1 lacks what says how a cell was computed, and its predictions
RESULTS = "results.jsonl"
# Below its folder: cells/MODEL/TASK/seed-N/. `failed` is one line, there while the cell has no result.
CELLS, PREDICTIONS, LOG, FAILED = "cells", "predictions.npz", "log.txt", "failed"
_NEEDED = ("model", "task", "seed", "metrics", "hyperparameters")


def read_results(path: Path) -> list[dict]:
    """Returns the lines of a `results.jsonl`, or none if the file is not there; a torn last line is left out.

    Raises:
      UserError: a line is not JSON, or not of a format this version reads.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise UserError(f"{path}:{number}: not a line of JSON; remove it and run the cell again") from None
        if not isinstance(row, dict) or (row.get("format") in READABLE and any(name not in row for name in _NEEDED)):
            raise UserError(f"{path}:{number}: not a result; remove it and run the cell again")
        if row.get("format") not in READABLE:
            raise UserError(f"{path}:{number}: format {row.get('format')!r}, this version reads 1 and 2")
        rows.append(row)
    return rows


def in_order(rows: Sequence[dict], models: Sequence[str]) -> list[dict]:
    """Returns the lines of `models` in their order, then the others as they are: lines stand as cells were finished."""
    places = {model: place for place, model in enumerate(models)}
    return sorted(rows, key=lambda row: places.get(row["model"], len(places)))


def failed_cells(folder: Path) -> dict[str, str]:
    """Returns {MODEL/TASK/seed-N: why it failed, a line} of the cells that have failed and not run since."""
    files = [path for path in sorted((folder / CELLS).rglob(FAILED)) if path.is_file()]
    return {
        path.parent.relative_to(folder / CELLS).as_posix(): next(
            iter(path.read_text(encoding="utf-8", errors="replace").splitlines()), "no reason given"
        )
        for path in files
    }


def append_result(path: Path, row: dict) -> None:
    """Adds one line, whole: under the lock, for the jobs of an array share the file; in place of a torn last line."""
    with locked(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        kept = file.read().rfind(b"\n") + 1
        if kept < size:
            file.truncate(kept)
        file.write(json.dumps(row).encode() + b"\n")
        os.fsync(file.fileno())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Holds the lock of a `results.jsonl`, which is made if it is not there, and gives it open to read and append.

    Raises:
      UserError: its file system has no locks.
    """
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"{path}: its file system has no locks ({error.strerror}); give another --out") from error
        yield file
