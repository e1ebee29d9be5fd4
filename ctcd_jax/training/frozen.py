"""Frozen members, copied once into the run that they teach: WORKDIR/frozen/NAME/ and the SHA-256 of the weights."""

import glob
import shutil
from pathlib import Path

from ctcd_jax.artifacts.exports import WEIGHTS
from ctcd_jax.artifacts.runs import FROZEN
from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256, writing_directory
from ctcd_jax.models.huggingface import load_pretrained, save_pretrained
from ctcd_jax.models.registry import Shape
from ctcd_jax.training.orbax import writing_errors


def save_frozen(workdir: Path, name: str, config: Shape, params: dict) -> None:
    """Keeps a frozen member with the hash of its weights.

    Args:
      workdir: of the run.
      name: of the member.
      config: its shape.
      params: nested dicts of float32.
    """
    directory = workdir / FROZEN / name
    # What a run has left that was killed before it saved a step.
    for torn in directory.parent.glob(f"{glob.escape(name)}.*.tmp"):
        shutil.rmtree(torn, ignore_errors=True)
    with writing_errors(directory), writing_directory(directory) as partial:
        save_pretrained(partial, config, params)
        (partial / "model.sha256").write_text(file_sha256(partial / WEIGHTS) + "\n")
        if directory.is_dir():
            shutil.rmtree(directory)


def load_frozen(workdir: Path, name: str) -> dict:
    """Returns the parameters of a frozen member. Raises UserError if the copy is not the one that was made."""
    directory = workdir / FROZEN / name
    weights, recorded = directory / WEIGHTS, directory / "model.sha256"
    if not weights.is_file() or not recorded.is_file() or file_sha256(weights) != recorded.read_text().strip():
        raise UserError(f"{weights}: the frozen copy of '{name}' has changed; a run cannot go on with another teacher")
    return load_pretrained(directory)[1]
