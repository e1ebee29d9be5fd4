"""How Hugging Face keeps a BertForMaskedLM."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ctcd_jax.models.checkpoint_format import CheckpointFormat, Tensor
from ctcd_jax.ranges import COUNT, Range

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
# What transformers takes where a field of FIELDS is missing.
_DEFAULTS = {
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
# Fields that change what a model computes, and the values that are what is computed here. Missing or null is the first.
_SUPPORTED = {
    "model_type": ("bert",),
    "hidden_act": ("gelu", "gelu_python"),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({}, []),
    "quantization_config": (None,),
}
_RANGES = dict.fromkeys(FIELDS.values(), COUNT) | {
    "hidden_dropout_prob": Range(0, 1, below=True),
    "attention_probs_dropout_prob": Range(0, 1, below=True),
    "layer_norm_eps": Range(0, 1, above=True),
}
# The decoder's weight and bias are the word embeddings and the head's bias: files may hold them under both names.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# Nothing that the MLM head's logits depend on.
_UNUSED = ("bert.pooler.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")


def tensors(layers: int) -> Iterator[Tensor]:
    """Yields every tensor of a BERT with its MLM head."""
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


def modern_name(name: str) -> str:
    # Google's original release, still on the hub, names LayerNorm's parameters so.
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def fresh_head(shape: Any) -> Mapping[tuple[str, ...], np.ndarray]:
    """An MLM head that changes least of what the encoder says: a transform that is the identity, no bias.

    A random transform would throw away how the last layer's states lie to the word embeddings, which the head shares.
    """
    zeros, ones = np.zeros(shape.hidden, np.float32), np.ones(shape.hidden, np.float32)
    return {
        ("head", "transform", "kernel"): np.eye(shape.hidden, dtype=np.float32),
        ("head", "transform", "bias"): zeros,
        ("head", "norm", "scale"): ones,
        ("head", "norm", "bias"): zeros,
        ("head", "bias"): np.zeros(shape.vocab_size, np.float32),
    }


FORMAT = CheckpointFormat(
    model_class="BertForMaskedLM",
    fields=FIELDS,
    defaults=_DEFAULTS,
    ranges=_RANGES,
    supported=_SUPPORTED,
    written={"hidden_act": "gelu", "initializer_range": 0.02},
    tied=_TIED,
    unused=_UNUSED,
    owned=("bert.", "cls.predictions."),
    tensors=tensors,
    modern_name=modern_name,
    base="bert.",
    fresh_head=fresh_head,
)
