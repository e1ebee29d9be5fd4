"""How Hugging Face keeps an architecture's models: names of fields and of tensors."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctcd_jax.ranges import Range

Tensor = tuple[tuple[str, ...], str, bool]
"""(our path, Hugging Face's name, transposed?). PyTorch keeps kernels as (out, in)."""


@dataclass(frozen=True)
class CheckpointFormat:
    """Names of what is in `config.json` and `model.safetensors`.

    Attributes:
      model_class: of transformers, which loads the directory.
      fields: Hugging Face's name of each field of the shape.
      defaults: what transformers takes where one of these is missing.
      ranges: of those fields.
      supported: fields that change what a model computes, and the values that are what is computed here; missing or
        null is the first.
      written: further fields of an exported config.json.
      tied: tensors that files may hold under a second name: {second: first}.
      unused: beginnings of the names of tensors that the logits do not depend on.
      owned: beginnings of the names of all others.
      tensors: number of layers -> every tensor.
      modern_name: an older name of a tensor -> today's.
      base: beginning of the names of all but the heads' tensors, which a file of the base model alone leaves out.
      fresh_head: shape -> {our path: float32 array} of the head that a model without one begins with.
    """

    model_class: str
    fields: Mapping[str, str]
    defaults: Mapping[str, object]
    ranges: Mapping[str, Range]
    supported: Mapping[str, tuple]
    written: Mapping[str, object]
    tied: Mapping[str, str]
    unused: tuple[str, ...]
    owned: tuple[str, ...]
    tensors: Callable[[int], Iterator[Tensor]]
    modern_name: Callable[[str], str]
    base: str
    fresh_head: Callable[[Any], Mapping[tuple[str, ...], np.ndarray]]
