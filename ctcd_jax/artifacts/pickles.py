"""PyTorch's own weight files, `pytorch_model.bin`: pickles, of which nothing but tensors is loaded."""

import importlib.util
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd_jax.errors import UserError, first_line

if TYPE_CHECKING:
    import torch


def read_pickle(path: Path) -> dict[str, "torch.Tensor"]:
    """Returns {name: tensor on the CPU}; tensors that are tied share their memory.

    Raises:
      UserError: PyTorch is not installed, the file is damaged, or it holds something else.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"{path}: torch is not installed, which reads this file; run: pip install 'ctcd-jax[torch]'")
    import torch

    try:
        # Files from before PyTorch 1.6 are no archives, and cannot be mapped into memory.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: damaged ({first_line(error)}); fetch the model again") from error
    tensors = content if isinstance(content, dict) else {}
    other = next((name for name, value in tensors.items() if not isinstance(value, torch.Tensor)), None)
    if other is not None or not tensors:
        found = f"'{other}' is a {type(tensors[other]).__name__}" if tensors else f"a {type(content).__name__}"
        raise UserError(f"{path}: {found}, not tensors by name; write the model with save_pretrained")
    return tensors
