"""Reading the small JSON files that describe runs and models."""

import json
from pathlib import Path

from ctcd_jax.errors import UserError


def read_json(path: Path, otherwise: str) -> dict:
    """Returns a JSON object.

    Args:
      otherwise: what to do if it cannot be had, the end of the error's line.

    Raises:
      UserError: no such file, or it does not hold a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {otherwise}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); {otherwise}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; {otherwise}")
    return content
