"""Pseudo-log-likelihood of sentences (Salazar et al. 2020): each token masked by itself, what it was scored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ctcd_jax.models.registry import Shape, build
from ctcd_jax.ops import linear

_STEP = 4  # lengths are rounded up to multiples of this, each a program of its own
_REST = 32  # sentences in the batches that end a length, so that little is computed for nothing

Sentence = tuple[int, ...]
"""Token ids without [CLS] and [SEP]."""


def pseudo_log_likelihoods(
    shape: Shape,
    params: dict,
    sentences: Sequence[Sentence],
    special_ids: Mapping[str, int],
    vocab_size: int,
    batch_size: int,
    look: Callable[[int, int], None] = lambda copies, tokens: None,
) -> dict[Sentence, float]:
    """Returns the sum over a sentence's tokens of log p(token | the sentence with this token masked), in nats.

    Special tokens are not scored: [CLS] and [SEP], which are put around, nor [UNK], for which no model is trained.
    Equal sentences are scored once, so that their sums are equal to the last bit.

    Args:
      shape, params: of the model; float32.
      sentences: of at least one token, which fit the model's positions with [CLS] and [SEP].
      special_ids: of "pad", "unk", "cls", "sep" and "mask".
      vocab_size: V of the tokenizer; a padded vocabulary counts without its rows beyond.
      batch_size: masked sentences at once.
      look: called after each batch with the masked sentences and the tokens in it.
    """
    distinct = list(dict.fromkeys(sentences))
    sums = np.zeros(len(distinct))
    for numbers, ids, positions in _copies(distinct, shape.max_positions, special_ids, batch_size):
        targets = ids[np.arange(len(ids)), positions]
        real = numbers >= 0
        log_p = np.asarray(_log_probabilities(shape, vocab_size, params, ids, positions, targets, _marks(special_ids)))
        np.add.at(sums, numbers[real], log_p[real].astype(np.float64))
        look(int(real.sum()), int((ids[real] != special_ids["pad"]).sum()))
    return dict(zip(distinct, sums.tolist(), strict=True))


def _copies(
    sentences: Sequence[Sentence], most: int, special_ids: Mapping[str, int], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields batches of sentences, one for each token to mask: (number int[B], ids int32[B, L], position int32[B]).

    Sentences are together by length. Where a batch is filled up, the number is -1.
    """
    lengths = np.array([min(-(-(len(sentence) + 2) // _STEP) * _STEP, most) for sentence in sentences])
    for length in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == length).tolist()
        rows = np.full((len(members), length), special_ids["pad"], np.int32)
        for row, member in zip(rows, members, strict=True):
            row[: len(sentences[member]) + 2] = (special_ids["cls"], *sentences[member], special_ids["sep"])
        row, position = np.nonzero(~np.isin(rows, list(special_ids.values())))
        start = 0
        while start < len(row):
            size = batch_size if len(row) - start >= batch_size else min(_REST, batch_size)
            missing = max(0, start + size - len(row))
            part = slice(start, start + size)
            padded_row, padded_position = (np.pad(each[part], (0, missing)) for each in (row, position))
            numbers = np.pad(np.asarray(members)[row[part]], (0, missing), constant_values=-1)
            yield numbers, rows[padded_row], padded_position.astype(np.int32)
            start += size


def _marks(special_ids: Mapping[str, int]) -> tuple[int, int]:
    return special_ids["pad"], special_ids["mask"]


@partial(jax.jit, static_argnums=(0, 1, 6))
def _log_probabilities(shape: Shape, vocab_size: int, params: dict, ids, positions, targets, marks: tuple[int, int]):
    """float32[B]: log p of `targets` at `positions`, where [MASK] stands."""
    pad, mask = marks
    masked = ids.at[jnp.arange(len(ids)), positions].set(mask)
    outputs: Any = build(shape).apply(
        {"params": params}, masked, ids != pad, None, positions[:, None], method="outputs"
    )
    hidden, kernel, bias = outputs
    logits = linear(hidden[:, 0], kernel[:, :vocab_size], bias[:vocab_size], jnp.float32)
    return jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
