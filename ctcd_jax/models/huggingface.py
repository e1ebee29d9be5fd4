"""BERT checkpoints to and from Hugging Face: the same tensors under other names, and the proof that nothing changed.

Reading and writing need only `safetensors`; only `parity` imports PyTorch.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.flax import load_file
from safetensors.numpy import save_file

from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json
from ctcd_jax.models.bert import BertConfig, BertForMaskedLM

# Hugging Face's name of each field of BertConfig.
FIELDS = {
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
}


def load_pretrained(directory: str | Path) -> tuple[BertConfig, dict]:
    """Reads a BERT with its MLM head from a Hugging Face directory.

    Returns:
      The configuration and the parameters: nested dict of numpy float32 arrays.

    Raises:
      UserError: no such directory or file, another architecture, a missing or misshapen tensor.
    """
    directory = Path(directory)
    config = read_config(directory / "config.json")
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; save the model with `save_pretrained` (safetensors) first")
    try:
        tensors = {_modern_name(name): np.asarray(value, np.float32) for name, value in load_file(weights).items()}
    except SafetensorError as error:
        raise UserError(f"{weights}: not a readable safetensors file ({error}); fetch or export it again") from error
    flat = {}
    for path, name, transpose in _tensor_names(config.layers):
        if name not in tensors:
            raise UserError(
                f"{weights}: no tensor '{name}'; a BertForMaskedLM checkpoint is needed (with its MLM head)"
            )
        flat[path] = np.ascontiguousarray(tensors[name].T) if transpose else tensors[name]
    _check_shapes(config, flat, weights)
    return config, unflatten_dict(flat)


def find_pretrained(name: str) -> Path:
    """Returns a local directory for a directory name or a hub id, fetching the latter.

    Raises UserError if it is neither here nor to be had.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["config.json", "model.safetensors", "tokenizer*", "vocab.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=5))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"hf:{name}: no such directory, and the hub gave nothing ({reason}); name a local one"
        ) from error


def save_pretrained(directory: str | Path, config: BertConfig, params: dict) -> None:
    """Writes `config.json` and `model.safetensors` for `BertForMaskedLM.from_pretrained(directory)` to load."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    flat = flatten_dict(params)
    tensors = {}
    for path, name, transpose in _tensor_names(config.layers):
        value = np.asarray(flat[path], np.float32)
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    description = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    } | {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}
    (directory / "config.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")


def parity(directory: str | Path, config: BertConfig, params: dict, input_ids: np.ndarray, pad_id: int) -> float:
    """Returns max |logit difference| over real tokens between these parameters here and `directory` in PyTorch.

    Both sides run in float32 on the CPU. Rows may be padded with `pad_id`.

    Args:
      input_ids: int[B, L].
    """
    import jax
    import torch
    from transformers import AutoModelForMaskedLM

    mask = (input_ids != pad_id).astype(np.int32)
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        ours = np.asarray(BertForMaskedLM(config).apply({"params": params}, input_ids, mask))
    model = AutoModelForMaskedLM.from_pretrained(directory).float().eval()
    with torch.no_grad():
        ids, attention = torch.from_numpy(input_ids.astype(np.int64)), torch.from_numpy(mask)
        theirs = model(input_ids=ids, attention_mask=attention).logits.numpy()
    return float(np.abs(ours - theirs)[mask != 0].max())


def read_config(path: Path) -> BertConfig:
    """Returns the shape that a Hugging Face `config.json` describes. Raises UserError unless it is a BERT's."""
    theirs = read_json(path, "name a Hugging Face model directory")
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for field, value in wanted.items():
        if theirs.get(field, value) != value:
            raise UserError(f"{path}: {field} is '{theirs[field]}', but only '{value}' is supported")
    defaults = {"max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    defaults |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    missing = [name for name in FIELDS.values() if name not in theirs and name not in defaults]
    if missing:
        raise UserError(f"{path}: no field '{missing[0]}'; a BERT configuration is needed")
    try:
        return BertConfig(**{ours: (defaults | theirs)[name] for ours, name in FIELDS.items()})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _modern_name(name: str) -> str:
    # Google's original release, still on the hub, names LayerNorm's parameters so.
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _tensor_names(layers: int) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """Yields (our path, Hugging Face's name, transposed?) of every tensor. PyTorch keeps kernels as (out, in)."""
    for ours, theirs in (("word", "word"), ("position", "position"), ("token_type", "token_type")):
        yield ("embeddings", ours), f"bert.embeddings.{theirs}_embeddings.weight", False
    yield from _norm(("embeddings", "norm"), "bert.embeddings.LayerNorm")
    for n in range(layers):
        ours, theirs = f"layer_{n}", f"bert.encoder.layer.{n}"
        for name in ("query", "key", "value"):
            yield from _dense((ours, "attention", name), f"{theirs}.attention.self.{name}")
        yield from _dense((ours, "attention", "output"), f"{theirs}.attention.output.dense")
        yield from _norm((ours, "attention_norm"), f"{theirs}.attention.output.LayerNorm")
        yield from _dense((ours, "up"), f"{theirs}.intermediate.dense")
        yield from _dense((ours, "down"), f"{theirs}.output.dense")
        yield from _norm((ours, "norm"), f"{theirs}.output.LayerNorm")
    yield from _dense(("head", "transform"), "cls.predictions.transform.dense")
    yield from _norm(("head", "norm"), "cls.predictions.transform.LayerNorm")
    yield ("head", "bias"), "cls.predictions.bias", False


def _dense(path, name):
    yield (*path, "kernel"), f"{name}.weight", True
    yield (*path, "bias"), f"{name}.bias", False


def _norm(path, name):
    yield (*path, "scale"), f"{name}.weight", False
    yield (*path, "bias"), f"{name}.bias", False


def _check_shapes(config: BertConfig, flat: dict, weights: Path) -> None:
    import jax
    import jax.numpy as jnp

    ids = jnp.zeros((1, 1), jnp.int32)
    expected = flatten_dict(jax.eval_shape(BertForMaskedLM(config).init, jax.random.key(0), ids, ids)["params"])
    for path, value in flat.items():
        if value.shape != expected[path].shape:
            raise UserError(
                f"{weights}: {'/'.join(path)} has shape {value.shape}, but config.json asks for {expected[path].shape}"
            )
