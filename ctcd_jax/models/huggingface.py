"""Checkpoints to and from Hugging Face: the same tensors under other names, and the proof that nothing changed.

Only `parity` and weights in PyTorch's own format (`pytorch_model.bin`) need PyTorch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from ctcd_jax.artifacts.exports import MODEL_CONFIG, WEIGHTS
from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json
from ctcd_jax.models.checkpoint_format import CheckpointFormat
from ctcd_jax.models.registry import ARCHITECTURES, DEFAULT, Shape, abstract_params, architecture_of, build
from ctcd_jax.models.stored_tensors import floats, is_floating, stored_tensors


@dataclass(frozen=True)
class Pretrained:
    """A model as it was read.

    Attributes:
      shape: of the model.
      params: nested dict of numpy float32 arrays.
      fresh_head: whether the checkpoint has no MLM head, so that this one knows nothing yet.
      left_out: names of tensors that a masked language model has no place for: a pooler, a classifier.
    """

    shape: Shape
    params: dict
    fresh_head: bool
    left_out: tuple[str, ...]


def load_pretrained(directory: str | Path) -> tuple[Shape, dict]:
    """Reads a model with its MLM head from a Hugging Face directory.

    Returns:
      The shape and the parameters: nested dict of numpy float32 arrays.

    Raises:
      UserError: as `read_pretrained`, or it has no MLM head.
    """
    read = read_pretrained(directory)
    if read.fresh_head:
        raise UserError(
            f"{directory}: no MLM head; train a member that starts from it, members.NAME.init=hf:{directory}, and take "
            "that one"
        )
    return read.shape, read.params


def read_pretrained(directory: str | Path) -> Pretrained:
    """Reads a model from a Hugging Face directory; one without an MLM head is given a fresh one.

    Raises:
      UserError: no such directory or file, another architecture, a missing, misshapen or left-over tensor, or one whose
        values are not finite floating-point numbers.
    """
    directory = Path(directory)
    shape = read_config(directory / MODEL_CONFIG)
    form = architecture_of(shape).checkpoint
    tensors, place = stored_tensors(directory, form)
    head = form.fresh_head(shape)
    names = {path: name for path, name, _ in form.tensors(shape.layers)}
    fresh = tensors.keys().isdisjoint({names[path] for path in head} | form.tied.keys())
    if not fresh:
        _check_tied(form, tensors, read_json(directory / MODEL_CONFIG, ""), place)
    parts = {".".join(name.split(".")[:2]) for name in tensors}
    flat = dict(head) if fresh else {}
    for path, name, transpose in form.tensors(shape.layers):
        if path in flat:
            continue
        if name not in tensors:
            raise UserError(
                f"{place}: no tensor '{name}'; a BERT of {shape.layers} layers is needed, as config.json says it is; "
                f"this one has {', '.join(sorted(parts)) or 'nothing'}"
            )
        value = floats(name, tensors.pop(name), place)
        flat[path] = np.ascontiguousarray(value.T) if transpose else value
    _check_shapes(shape, flat, place)
    for name in tensors:
        if name.startswith(form.owned) and not name.startswith(form.unused):
            raise UserError(
                f"{place}: tensor '{name}' has no place in a BERT of {shape.layers} layers, as config.json says it "
                f"is; only what {form.model_class} computes is supported"
            )
    # What is not floating-point is no parameter: the numbers of the positions, say.
    left_out = tuple(sorted(name for name, value in tensors.items() if is_floating(value)))
    return Pretrained(shape, unflatten_dict(flat), fresh, left_out)


def save_pretrained(directory: str | Path, config: Shape, params: dict, pad_id: int | None = None) -> None:
    """Writes `config.json` and `model.safetensors` for `AutoModelForMaskedLM.from_pretrained(directory)` to load.

    Args:
      directory: made if it is not there.
      config: the shape.
      params: nested dicts of arrays of any float dtype; float32 is written.
      pad_id: of the tokenizer. Fine-tuning never changes the embedding of this token; None: it changes all.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    architecture, flat = architecture_of(config), flatten_dict(params)
    form, tensors = architecture.checkpoint, {}
    for path, name, transpose in form.tensors(config.layers):
        value = np.asarray(flat[path], np.float32)
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    description = {
        "architectures": [form.model_class],
        "model_type": architecture.name,
        "pad_token_id": pad_id,
        "tie_word_embeddings": True,
        **form.written,
        **{theirs: getattr(config, ours) for ours, theirs in form.fields.items()},
    }
    (directory / MODEL_CONFIG).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")


def parity(directory: str | Path, config: Shape, params: dict, input_ids: np.ndarray, pad_id: int) -> float:
    """Returns max |logit difference| over real tokens between these parameters here and `directory` in PyTorch.

    Both sides run in float32 on the CPU.

    Args:
      directory: as `save_pretrained` wrote it.
      config: the shape.
      params: nested dicts of float32.
      input_ids: int[B, L].
      pad_id: the token that rows are padded with.
    """
    import jax
    import torch
    from transformers import AutoModelForMaskedLM

    mask = (input_ids != pad_id).astype(np.int32)
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        ours = np.asarray(build(config).apply({"params": params}, input_ids, mask))
    model = AutoModelForMaskedLM.from_pretrained(directory).float().eval()
    with torch.no_grad():
        ids, attention = torch.from_numpy(input_ids.astype(np.int64)), torch.from_numpy(mask)
        theirs = model(input_ids=ids, attention_mask=attention).logits.numpy()
    return float(np.abs(ours - theirs)[mask != 0].max())


def read_config(path: Path) -> Shape:
    """Returns the shape that a Hugging Face `config.json` describes.

    Raises:
      UserError: no such file, it is of no architecture in the registry, or it asks for what is computed otherwise here.
    """
    theirs = read_json(path, "name a Hugging Face model directory")
    architecture = ARCHITECTURES.get(str(theirs.get("model_type")), ARCHITECTURES[DEFAULT])
    form = architecture.checkpoint
    for field, values in form.supported.items():
        value = theirs.get(field)
        if value is not None and value not in values:
            shown = f"'{value}'" if isinstance(value, str) else value
            only = f"'{values[0]}'" if isinstance(values[0], str) else values[0]
            raise UserError(f"{path}: {field} is {shown}, but only {only} is supported")
    fields = {**form.defaults, **theirs}
    missing = [name for name in form.fields.values() if name not in fields]
    if missing:
        raise UserError(f"{path}: no field '{missing[0]}'; a BERT configuration is needed")
    for name, allowed in form.ranges.items():
        allowed.check(f"{path}: {name}", fields[name])
    try:
        return architecture.shape(**{ours: fields[name] for ours, name in form.fields.items()})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_tied(form: CheckpointFormat, tensors: dict, config: dict, weights: Path) -> None:
    """Takes the second names of tied tensors out of `tensors`. Raises UserError if they are not the same tensor."""
    decoder = next(iter(form.tied))
    if config.get("tie_word_embeddings") is False and decoder not in tensors:
        raise UserError(
            f"{weights}: tie_word_embeddings is false in config.json, but there is no '{decoder}'; fetch the "
            "model again"
        )
    for second, first in form.tied.items():
        if second not in tensors:
            continue
        value = tensors.pop(second)
        if first not in tensors:
            tensors[first] = value
        elif not np.array_equal(tensors[first], value):
            raise UserError(
                f"{weights}: '{second}' is not '{first}'; only a model whose head shares the word embeddings is "
                "supported (tie_word_embeddings)"
            )


def _check_shapes(config: Shape, flat: dict, weights: Path) -> None:
    expected: dict[Any, Any] = flatten_dict(abstract_params(config))
    for path, value in flat.items():
        if value.shape != expected[path].shape:
            raise UserError(
                f"{weights}: {'/'.join(path)} has shape {value.shape}, but config.json asks for {expected[path].shape}"
            )
