"""Masked language modelling on the device: which tokens are predicted, and what stands in their place.

Per row, n = clip(round(rate * maskable), 1, max_predictions) tokens without replacement, where max_predictions =
ceil(rate * length); of these 80 % become [MASK], 10 % a random ordinary token, 10 % stay (Devlin et al. 2019). Special
tokens are neither chosen nor drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.config import Experiment
from ctcd_jax.data import Corpus
from ctcd_jax.data.packing import segment_ids
from ctcd_jax.training.keys import named_key, root_key

# Validation masks depend on the row alone, not on the run: every run is measured on the same ones.
VALIDATION_KEY_SEED = 0


class MaskedBatch(NamedTuple):
    """A masked batch.

    Attributes:
      input_ids: int32[B, L], what the models see.
      positions: int32[B, S], S = `max_predictions` positions of a row that hold all its predicted tokens.
      labels: int32[B, S], the original token at each of them; -100 at spare ones, whose tokens are not predicted.
      attention_mask: bool[B, L], True for real tokens.
      segment_ids: int32[B, L], 1, 2, ... for the sentences of a row, read off their [CLS]; 0 for padding.
    """

    input_ids: jax.Array
    positions: jax.Array
    labels: jax.Array
    attention_mask: jax.Array
    segment_ids: jax.Array

    @property
    def row_labels(self) -> jax.Array:
        """int32[B, L]: the label of every token of a row, -100 where nothing is predicted."""
        nothing = jnp.full(self.input_ids.shape, -100, jnp.int32)
        rows = jnp.arange(len(nothing))[:, None]
        return nothing.at[rows, self.positions].set(self.labels)


@dataclass(frozen=True, eq=False)
class Masker:
    """Masks rows of token ids.

    Attributes:
      vocab_size: V.
      special_ids: ids of "pad", "unk", "cls", "sep" and "mask".
      rate: share of the maskable tokens that are predicted.
      frequencies: int[V], how often each token occurs in the corpus; needed for smoothing alone.
      smoothing: a token is chosen with probability proportional to frequency^-smoothing, so that rare ones are
        predicted more often (DistilBERT's script: 0.7); 0 is uniform.
    """

    vocab_size: int
    special_ids: Mapping[str, int]
    rate: float = 0.15
    frequencies: np.ndarray | None = None
    smoothing: float = 0.0

    def max_predictions(self, length: int) -> int:
        """The most tokens that a row of `length` predicts."""
        return math.ceil(round(self.rate * length, 6))

    def __call__(self, keys: jax.Array, input_ids: jax.Array) -> MaskedBatch:
        """Masks int[B, L] rows, one key[B] a row."""
        input_ids = jnp.asarray(input_ids, jnp.int32)
        masked, positions, labels = jax.vmap(self._mask_row)(keys, input_ids)
        segments = segment_ids(input_ids, self.special_ids)
        real = input_ids != self.special_ids["pad"]
        return MaskedBatch(masked, positions, labels, real, segments.astype(jnp.int32))

    def _mask_row(self, key, ids):
        length = ids.shape[0]
        max_predictions = self.max_predictions(length)
        choose, act, draw = jax.random.split(key, 3)
        special = jnp.asarray(sorted(self.special_ids.values()), jnp.int32)
        maskable = ~jnp.isin(ids, special)
        # A table rather than arithmetic: the rounding is then Python's, exactly, on every backend.
        counts = [0] + [min(max(round(self.rate * n), 1), max_predictions) for n in range(1, length + 1)]
        chosen = jnp.arange(max_predictions) < jnp.asarray(counts, jnp.int32)[maskable.sum()]

        # The largest k of log-weight + Gumbel noise are k draws without replacement (uniform without weights).
        scores = jax.random.gumbel(choose, (length,)) + self._log_weights()[ids]
        _, positions = jax.lax.top_k(jnp.where(maskable, scores, -jnp.inf), max_predictions)
        original = ids[positions]
        labels = jnp.where(chosen, original, -100)

        ordinary = jnp.asarray(np.setdiff1d(np.arange(self.vocab_size), list(self.special_ids.values())), jnp.int32)
        random = ordinary[jax.random.randint(draw, (max_predictions,), 0, ordinary.shape[0])]
        fate = jax.random.uniform(act, (max_predictions,))
        replacement = jnp.where(fate < 0.8, self.special_ids["mask"], jnp.where(fate < 0.9, random, original))
        return ids.at[positions].set(jnp.where(chosen, replacement, original)), positions, labels

    def _log_weights(self):
        if self.smoothing == 0:
            return jnp.zeros(self.vocab_size)
        counts = np.maximum(np.asarray(self.frequencies, np.float64), 1)
        return jnp.asarray(-self.smoothing * np.log(counts), jnp.float32)


def train_keys(key: jax.Array, step: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns key[B]: a function of (seed, step, row) alone.

    Args:
      key: of the run, made of its seed.
      step: int, updates done before.
      rows: int[B], numbers in the global batch.
    """
    of_step = jax.random.fold_in(named_key(key, "masking"), step)
    return jax.vmap(lambda row: jax.random.fold_in(of_step, row))(rows)


def validation_keys(rows: jax.Array) -> jax.Array:
    """Returns key[B] for rows int[B] of the validation set: a function of the row alone."""
    key = named_key(root_key(VALIDATION_KEY_SEED), "validation")
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def make_masker(experiment: Experiment, corpus: Corpus) -> Masker:
    """Returns the masker of a run on a corpus."""
    return Masker(
        corpus.vocab_size,
        corpus.special_ids,
        rate=experiment.masking_rate,
        frequencies=corpus.token_frequencies,
        smoothing=experiment.masking_smoothing,
    )
