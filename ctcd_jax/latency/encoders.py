"""Exported models as PyTorch encoders: loading, what they are made of, and the batches they are given."""

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctcd_jax.artifacts.exports import (
    quiet_loading,
    require_buildable,
    require_finite,
    stored_parameters,
    usable_positions,
    weight_files,
    weights_digest,
)
from ctcd_jax.artifacts.latency import LatencyModel
from ctcd_jax.errors import UserError, first_line

if TYPE_CHECKING:
    import torch

DEFAULT_LENGTH = 128


def load_encoder(directory: Path):
    """Returns the encoder as a float32 torch module in evaluation mode, without language-model head and pooler.

    Raises:
      UserError: transformers cannot load it, or it is no encoder of text.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    try:
        with quiet_loading():
            require_buildable(directory, getattr(AutoConfig.from_pretrained(directory), "num_hidden_layers", 1))
            encoder = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"--model {directory}: transformers cannot load it ({first_line(error)})") from error
    config = encoder.config
    if config.is_encoder_decoder or getattr(config, "vocab_size", None) is None:
        raise UserError(f"--model {directory}: a {config.model_type} is no encoder of text, such as bert or distilbert")
    require_finite(directory, encoder)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = torch.nn.Identity()  # some models call it without asking whether it is there
    return encoder.requires_grad_(False)  # the counter of FLOPs would follow the gradients, and fails at some models


def facts(name: str, directory: Path, encoder, lengths: Sequence[int]) -> LatencyModel:
    """Returns what is the same in every setting; `bytes` is the size of the weight files.

    Args:
      name, directory: of the model.
      encoder: the PyTorch module.
      lengths: tokens a sequence at which FLOPs a token are counted.
    """
    return {
        "name": name,
        "path": str(directory),
        "weights": weights_digest(directory),
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "stored_parameters": stored_parameters(directory),
        "bytes": sum(file.stat().st_size for file in weight_files(directory)),
        "flops_per_token": {str(length): flops_per_token(encoder, length) for length in lengths},
    }


def flops_per_token(encoder, length: int) -> int:
    """Returns the FLOPs of the matrix products of a forward pass, for each token of a sequence of `length`.

    A multiplication and an addition count as two. For BERT this is 2 x (weights of the linear layers) + layers x 4 x
    length x hidden, the second term being attention's two products. Counted while the model runs, for in other
    architectures layers share weights (ALBERT) or attend to a window.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    ids = random_ids([encoder], 1, length)
    # The backend that is made of plain products, for PyTorch does not know the cost of every fused one.
    with counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    return round(counter.get_total_flops() / length)


def positions(encoder) -> int | None:
    """Returns the longest sequence the encoder takes, None where nothing limits it."""
    return usable_positions(encoder.config)


def checked_lengths(
    encoders: Mapping, directories: Mapping[str, Path], lengths: Sequence[int] | None, log: Callable[[str], None]
) -> list[int]:
    """Returns the lengths to measure, in tokens.

    Args:
      encoders: by name.
      directories: by name, for the error.
      lengths: those asked for; None for 128, or as many as every model takes.
      log: called with a line where that is less than 128.

    Raises:
      UserError: a model has fewer positions than a length that was asked for.
    """
    limits = {name: positions(encoder) for name, encoder in encoders.items()}
    limits = {name: count for name, count in limits.items() if count is not None}
    if lengths is None:
        length = min([DEFAULT_LENGTH, *limits.values()])
        if length < DEFAULT_LENGTH:
            shortest = min(limits, key=limits.__getitem__)
            log(f"{length} tokens a sequence, not {DEFAULT_LENGTH}: {shortest} has no more positions")
        return [length]
    for name, count in limits.items():
        if max(lengths) > count:
            raise UserError(
                f"--length {max(lengths)}: {name} has {count} positions (max_position_embeddings in "
                f"{directories[name] / 'config.json'}); give {count} or less"
            )
    return list(lengths)


def random_ids(encoders: Sequence, batch_size: int, length: int) -> "torch.Tensor":
    """Returns the same int64[batch_size, length] each time, on the CPU.

    Args:
      encoders: whose vocabularies all have these tokens, and none of which pads with one.
      batch_size: sequences.
      length: tokens a sequence.
    """
    import torch

    configs = [encoder.config for encoder in encoders]
    padding = {config.pad_token_id for config in configs}
    known = torch.tensor([token for token in range(min(c.vocab_size for c in configs)) if token not in padding])
    return known[torch.randint(len(known), (batch_size, length), generator=torch.Generator().manual_seed(0))]


def cpu_name() -> str:
    """Returns the processor's name as its maker gives it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
