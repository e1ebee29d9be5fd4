"""`results.jsonl`: one line a finished cell of the fine-tuning matrix, appended by any number of processes."""

import fcntl
import json
import os
from pathlib import Path

from ctcd_jax.errors import UserError

FORMAT = 2
READABLE = (1, 2)  # 1 lacks what says how a cell was computed, and its predictions


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
        if row.get("format") not in READABLE:
            raise UserError(f"{path}:{number}: format {row.get('format')!r}, this version reads {FORMAT}")
        rows.append(row)
    return rows


def append_result(path: Path, row: dict) -> None:
    """Adds one line, whole: under a lock, for the jobs of an array share the file, and in place of a torn last line."""
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        kept = file.read().rfind(b"\n") + 1
        if kept < size:
            file.truncate(kept)
        file.write(json.dumps(row).encode() + b"\n")
        os.fsync(file.fileno())
