"""The tensors of a Hugging Face directory, in whatever files and under whatever names people have them."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.flax import load_file

from ctcd_jax.artifacts.exports import weight_files
from ctcd_jax.artifacts.pickles import read_pickle
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.models.checkpoint_format import CheckpointFormat

# What `DataParallel` puts before the name of every tensor of the model that it wraps.
_WRAPPED = "module."


def stored_tensors(directory: Path, form: CheckpointFormat) -> tuple[dict[str, Any], Path]:
    """Returns ({name: array of any dtype}, what to call their place): the weight file or, of several, the directory.

    The names are today's names in the architecture's model with its head.

    Raises:
      UserError: no weights there, a shard is missing, or a file is damaged.
    """
    files = weight_files(directory)
    tensors: dict[str, Any] = {}
    for file in files:
        tensors |= _of_pickle(file) if file.suffix == ".bin" else _of_safetensors(file)
    if all(name.startswith(_WRAPPED) for name in tensors):
        tensors = {name.removeprefix(_WRAPPED): value for name, value in tensors.items()}
    tensors = {form.modern_name(name): value for name, value in tensors.items()}
    if not any(name.startswith(form.base) for name in tensors):
        parts = _parts_of_base(form)
        tensors = {form.base * name.startswith(parts) + name: value for name, value in tensors.items()}
    return tensors, files[0] if len(files) == 1 else directory


def floats(name: str, value: Any, place: Path) -> np.ndarray:
    """Returns a tensor as float32. Raises UserError unless it holds finite floating-point numbers.

    Args:
      name: of the tensor, for the error.
      value: an array.
      place: that it was read from, for the error.
    """
    if not is_floating(value):
        raise UserError(f"{place}: '{name}' is {value.dtype}; quantised weights are not supported")
    value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise UserError(f"{place}: '{name}' has values that are not finite; fetch or export the model again")
    return value


def is_floating(value: Any) -> bool:
    """Whether an array holds floating-point numbers, bfloat16 included."""
    return jnp.issubdtype(value.dtype, jnp.floating)


def _parts_of_base(form: CheckpointFormat) -> tuple[str, ...]:
    """Returns the beginnings of names in a file of the base model alone: "embeddings.", "encoder.", "pooler."."""
    names = [*(name for _, name, _ in form.tensors(1)), *form.unused]
    inner = (name.removeprefix(form.base) for name in names if name.startswith(form.base))
    return tuple(sorted({f"{name.partition('.')[0]}." for name in inner}))


def _of_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        reason = first_line(error)
        raise UserError(f"{path}: not a readable safetensors file ({reason}); fetch or export it again") from error


def _of_pickle(path: Path) -> dict[str, np.ndarray]:
    tensors = read_pickle(path)
    # NumPy has no bfloat16.
    return {name: (value.float() if value.is_floating_point() else value).numpy() for name, value in tensors.items()}
