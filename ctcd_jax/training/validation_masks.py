"""The masks of validation: the same for every run on a corpus, whatever the run trains with."""

import jax
import numpy as np

from ctcd_jax.data import Corpus
from ctcd_jax.training.masking import MaskedBatch, Masker, validation_keys


def mask_validation_rows(corpus: Corpus, input_ids: np.ndarray, rows: np.ndarray) -> MaskedBatch:
    """Masks validation rows as the loop does.

    Args:
      corpus: that they are from.
      input_ids: int[B, L].
      rows: int[B], their numbers in the split.
    """
    masker = Masker(corpus.vocab_size, corpus.special_ids)
    return jax.jit(lambda ids, rows: masker(validation_keys(rows), ids))(input_ids, rows)
