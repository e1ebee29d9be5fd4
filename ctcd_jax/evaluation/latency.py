"""What a model costs to serve: parameters, FLOPs a token, milliseconds a batch, and the ratio to a reference model."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import WEIGHTS, named_exports, quiet_loading, require_torch, stored_parameters

FORMAT = 1
WARM_UP_ROUNDS = 3


def latency(
    models: Sequence[Path],
    *,
    out: Path | None = None,
    batch_size: int = 32,
    length: int = 128,
    repeats: int = 30,
    log: Callable[[str], None] = print,
) -> dict:
    """Measures the encoder of each exported model in eager float32 PyTorch, on the GPU if there is one.

    Every round times one batch of every model, forwards and backwards through the list in turn, so that a machine that
    slows down slows all of them; the speed-up is the median over rounds of the reference's time divided by the model's.

    Args:
      models: exported directories; the first is the reference.
      out: where to write the result as JSON.
      batch_size: sequences a batch, without padding.
      length: tokens a sequence; shortened to the fewest positions any of the models has.
      repeats: timed rounds, after a few that are not timed.

    Returns:
      device, threads, torch, batch_size, length, rounds, reference and, for each of models: name, path, parameters
      (encoder), stored_parameters (with the MLM head), bytes, flops_per_token, median_ms, p95_ms,
      sequences_per_second, speedup.

    Raises:
      UserError: a directory is no export, PyTorch is missing, or a count is below 1.
    """
    require_torch()
    import torch

    for field, value in (("batch_size", batch_size), ("length", length), ("repeats", repeats)):
        if value < 1:
            raise UserError(f"latency: {field} {value}: give 1 or more")
    directories = named_exports(models)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoders = {name: load_encoder(directory).to(device) for name, directory in directories.items()}
    length = min(length, *(encoder.config.max_position_embeddings for encoder in encoders.values()))
    seconds = time_rounds(encoders, batch_size, length, repeats)
    reference = next(iter(encoders))
    result = {
        "format": FORMAT,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_size": batch_size,
        "length": length,
        "rounds": repeats,
        "reference": reference,
        "models": [
            {
                "name": name,
                "path": str(directories[name]),
                "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
                "stored_parameters": stored_parameters(directories[name]),
                "bytes": (directories[name] / WEIGHTS).stat().st_size,
                "flops_per_token": flops_per_token(encoder, length),
                **_statistics(seconds[name], seconds[reference], batch_size),
            }
            for name, encoder in encoders.items()
        ],
    }
    log(_text(result))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def load_encoder(directory: Path):
    """Returns the encoder as a float32 torch module in evaluation mode, without language-model head and pooler."""
    import torch
    from transformers import AutoModel

    with quiet_loading():
        encoder = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def flops_per_token(encoder, length: int) -> int:
    """Returns the matrix-multiplication FLOPs of a forward pass for each token of a sequence of `length`.

    A multiplication and an addition count as two: 2 x (weights of every linear layer) + layers x 4 x length x hidden,
    the second term being attention's two products (queries with keys, probabilities with values) over all heads.
    """
    from torch import nn

    weights = sum(module.weight.numel() for module in encoder.modules() if isinstance(module, nn.Linear))
    config = encoder.config
    return 2 * weights + config.num_hidden_layers * 4 * length * config.hidden_size


def time_rounds(encoders: dict, batch_size: int, length: int, rounds: int) -> dict[str, np.ndarray]:
    """Returns {name: float64[rounds]}, the seconds of one forward pass over a batch in each round."""
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    device = next(iter(encoders.values())).device
    vocabulary = min(encoder.config.vocab_size for encoder in encoders.values())
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (batch_size, length), generator=generator).to(device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with torch.inference_mode():
        for round_ in range(WARM_UP_ROUNDS + rounds):
            order = list(encoders) if round_ % 2 == 0 else list(reversed(encoders))
            for name in order:
                synchronize()
                started = time.perf_counter()
                encoders[name](input_ids=ids)
                synchronize()
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values[WARM_UP_ROUNDS:]) for name, values in seconds.items()}


def _statistics(seconds: np.ndarray, reference: np.ndarray, batch_size: int) -> dict[str, float]:
    median = float(np.median(seconds))
    return {
        "median_ms": 1000 * median,
        "p95_ms": 1000 * float(np.percentile(seconds, 95)),
        "sequences_per_second": batch_size / median,
        "speedup": float(np.median(reference / seconds)),
    }


def _text(result: dict) -> str:
    rows = [("model", "parameters", "stored", "MB", "MFLOPs/token", "median ms", "p95 ms", "sequences/s", "speed-up")]
    rows += [
        (
            model["name"],
            f"{model['parameters']:,}",
            f"{model['stored_parameters']:,}",
            f"{model['bytes'] / 1e6:.1f}",
            f"{model['flops_per_token'] / 1e6:.2f}",
            f"{model['median_ms']:.2f}",
            f"{model['p95_ms']:.2f}",
            f"{model['sequences_per_second']:.0f}",
            f"{model['speedup']:.2f}x",
        )
        for model in result["models"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in cells)
        for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
    ]
    setting = (
        f"{result['device']}, {result['threads']} threads, torch {result['torch']}, float32; "
        f"{result['batch_size']} sequences of {result['length']} tokens, {result['rounds']} rounds; "
        f"speed-up over {result['reference']}"
    )
    return "\n".join([setting, *lines])
