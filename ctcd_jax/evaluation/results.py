"""`results.jsonl`: one line a fine-tuned cell."""

import json
from pathlib import Path

from ctcd_jax.errors import UserError

FORMAT = 1


def read_results(path: Path) -> list[dict]:
    """Returns the lines of a `results.jsonl`, or none if the file is not there.

    Raises:
      UserError: a line is not JSON, or not of the format this version writes.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise UserError(f"{path}:{number}: not a line of JSON; remove it and run the cell again") from None
        if row.get("format") != FORMAT:
            raise UserError(f"{path}:{number}: format {row.get('format')!r}, this version reads {FORMAT}")
        rows.append(row)
    return rows


def append_result(path: Path, row: dict) -> None:
    """Adds one line in a single write, so that a run that is killed leaves whole lines behind."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(row).encode() + b"\n")
