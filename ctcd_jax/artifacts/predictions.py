"""`predictions.npz` of a fine-tuned cell: what it answered on its development sets, and what would have been right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctcd_jax.files import writing_whole

# MNLI has a second development set; its arrays, its metrics and its tables end in this.
SECOND_SET = "_mismatched"


def write_predictions(path: Path, sets: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes the labels and the predictions, each [rows], of one development set or two."""
    arrays = {}
    for suffix, (labels, predictions) in zip(("", SECOND_SET), sets, strict=False):
        arrays |= {f"labels{suffix}": labels, f"predictions{suffix}": predictions}
    with writing_whole(path) as partial, partial.open("wb") as file:  # given a name, NumPy would add an ending to it
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns what was written of a development set, "" or `SECOND_SET`; of a damaged file any exception comes."""
    with np.load(path) as arrays:
        return arrays["labels" + suffix], arrays["predictions" + suffix]
