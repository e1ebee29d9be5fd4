"""Text -> batches. This layer knows text only: no model, no loss, no config."""

from ctcd_jax.data.corpus import Corpus
from ctcd_jax.data.loader import TrainBatches, ValidationBatches, prefetch
from ctcd_jax.data.prepare import prepare
from ctcd_jax.data.tokenizer import tokenizer_hash

__all__ = ["Corpus", "TrainBatches", "ValidationBatches", "prefetch", "prepare", "tokenizer_hash"]
