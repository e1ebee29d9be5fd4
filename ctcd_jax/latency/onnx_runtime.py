"""ONNX Runtime: encoders exported to ONNX, checked against PyTorch, and run on the CPU."""

import importlib.util
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctcd_jax.artifacts.latency import OnnxFile
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import file_sha256, writing_whole
from ctcd_jax.latency.encoders import random_ids
from ctcd_jax.latency.left_out import LeftOutModels
from ctcd_jax.latency.runtimes import Calls

if TYPE_CHECKING:
    import torch

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3  # of the last hidden state, in float32


def require_onnx() -> None:
    """Raises UserError where the libraries of the `onnx` extra are not installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--runtime onnx: {package} is not installed; run: pip install 'ctcd-jax[onnx]'")


def export_all(
    encoders: Mapping,
    shapes: Sequence[tuple[int, int]],
    folder: Path,
    left_out: LeftOutModels,
    log: Callable[[str], None],
    keep: Path | None = None,
) -> tuple[dict[str, Path], dict[str, float], dict[str, OnnxFile]]:
    """Writes every encoder as an ONNX file that takes any batch size and length, and compares it with PyTorch.

    One that cannot be exported, or whose outputs differ by more than the tolerance, is left out.

    Args:
      encoders: float32, on the CPU.
      shapes: (batch size, length) pairs to compare at.
      folder: for the files while they are measured.
      left_out: gets those that are left out.
      log: called with a line about each file.
      keep: a directory that gets a copy of each, NAME.onnx.

    Returns:
      {name: file}, {name: the greatest |difference| of the last hidden state}, and of what is kept {name: its file and
      SHA-256}.
    """
    files, differences, kept = {}, {}, {}
    for number, (name, encoder) in enumerate(encoders.items()):
        start = time.perf_counter()
        own = folder / str(number)
        own.mkdir()
        path = own / f"{Path(name).name}.onnx"
        with left_out.unless_it_runs(name, "onnx"):
            export(name, encoder, path)
            differences[name] = check(name, encoder, session(path), shapes)
            files[name] = path
            log(
                f"{name}: exported to ONNX in {time.perf_counter() - start:.1f} s; its last hidden state differs from "
                f"PyTorch's by at most {differences[name]:.1e}"
            )
        if keep is not None and name in files:
            kept[name] = _keep(own, keep / f"{name}.onnx")
            log(f"{name}: {kept[name]['file']}")
    return files, differences, kept


def _keep(folder: Path, path: Path) -> OnnxFile:
    """Copies an ONNX file to `path`, and the weights beside it that one of more than 2 GB has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        with writing_whole(path.with_name(file.name)) as partial:
            shutil.copyfile(file, partial)
    return {"file": str(path), "sha256": file_sha256(path)}


def export(name: str, encoder, path: Path) -> None:
    """Writes input_ids, attention_mask int64[batch, length] -> last_hidden_state float32[batch, length, hidden].

    Args:
      name: of the model, for the error.
      encoder: float32, on the CPU.
      path: of the ONNX file.
    """
    import torch

    ids = random_ids([encoder], 2, 8)
    any_size = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                _last_hidden_state(encoder),
                (ids, torch.ones_like(ids)),
                dynamo=True,
                dynamic_shapes=(any_size, any_size),
                input_names=["input_ids", "attention_mask"],
                output_names=["last_hidden_state"],
                verbose=False,
            )
            program.save(path)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--runtime onnx: {name} cannot be exported to ONNX ({first_line(error)}); leave onnx out"
        ) from error


def check(name: str, encoder, runner, shapes: Sequence[tuple[int, int]]) -> float:
    """Returns the greatest |difference| of ONNX Runtime's last hidden state from PyTorch's, at padded batches' tokens.

    Args:
      name: of the model, for the error.
      encoder: float32, on the CPU.
      runner: ONNX Runtime's session of the exported file.
      shapes: (batch size, length) pairs to compare at.

    Raises:
      UserError: it is above the tolerance.
    """
    import torch

    worst = 0.0
    for batch_size, length in shapes:
        ids, mask = padded_batch(encoder, batch_size, length)
        with torch.inference_mode():
            expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        # What stands at padding nobody reads, and no two ways of computing it need agree there.
        real = mask.numpy() == 1
        worst = np.maximum(worst, np.max(np.abs(run(runner, ids, mask)() - expected)[real]))  # a NaN stays
    if not worst <= TOLERANCE:
        raise UserError(
            f"--runtime onnx: the last hidden state of {name} differs from PyTorch's by {worst:.1e}, more than "
            f"{TOLERANCE:.0e}; leave onnx out"
        )
    return float(worst)


def padded_batch(encoder, batch_size: int, length: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Returns (ids, mask) int64[batch_size, length]: the first row is half padding, the others have less and less.

    Args:
      encoder: whose tokens are taken.
      batch_size: sequences.
      length: tokens a sequence, padding included.
    """
    import torch

    ids = random_ids([encoder], batch_size, length)
    padding = (length // 2) * torch.arange(batch_size, 0, -1) // batch_size
    mask = (torch.arange(length) < length - padding[:, None]).long()
    return torch.where(mask == 1, ids, encoder.config.pad_token_id or 0), mask


def onnx_calls(files: Mapping[str, Path], threads: int, ids: "torch.Tensor") -> Calls:
    """Returns {name: runs a batch without padding}.

    Args:
      files: {name: ONNX file}.
      threads: of the CPU, for each.
      ids: int64[B, L].
    """
    return {name: run(session(path, threads), ids, ids.new_ones(ids.shape)) for name, path in files.items()}


def session(path: Path, threads: int = 1):
    """Returns an ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads that spin after a run would take the cores from the model whose turn is next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(runner, ids: "torch.Tensor", mask: "torch.Tensor") -> Callable[[], np.ndarray]:
    """Returns what runs a batch and returns the last hidden state, float32[B, L, H].

    Args:
      runner: ONNX Runtime's session.
      ids: int64[B, L].
      mask: int64[B, L], 1 where the token is real.
    """
    known = {entry.name for entry in runner.get_inputs()}
    given = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    inputs = {name: values for name, values in given.items() if name in known}
    return lambda: runner.run(["last_hidden_state"], inputs)[0]


def _last_hidden_state(encoder):
    import torch

    class LastHiddenState(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask):
            return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return LastHiddenState().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter says of libraries that nobody needs here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
