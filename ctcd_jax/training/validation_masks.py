"""The masks of validation: the same for every run on a corpus, whatever the run trains with."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.training.masking import MaskedBatch, Masker, validation_keys

_ROWS = 256  # masked at once where only the masks are wanted


def mask_validation_rows(corpus: Corpus, input_ids: np.ndarray, rows: np.ndarray) -> MaskedBatch:
    """Masks validation rows as the loop does.

    Args:
      corpus: that they are from.
      input_ids: int[B, L].
      rows: int[B], their numbers in the split.
    """
    return _mask(corpus)(input_ids, rows)


def masked_validation(corpus: Corpus, batch_size: int) -> Iterator[MaskedBatch]:
    """Yields all validation rows once, masked as the loop masks them, in the order of `ValidationBatches`.

    Args:
      corpus: whose rows.
      batch_size: rows at once; the last ones of a length are filled up with rows of [PAD], where nothing is predicted.
    """
    mask, batches = _mask(corpus), ValidationBatches(corpus, batch_size)
    for index in range(len(batches)):
        batch = batches[index]
        yield mask(batch["input_ids"], batch["rows"])


def unigram_loss(corpus: Corpus) -> float:
    """Returns what a model that knows word frequencies alone scores on the validation rows, nats a predicted token.

    It is the mean of `unigram_nats` over the tokens that validation predicts; NaN where it predicts none.
    """
    nats, total, count = unigram_nats(corpus), 0.0, 0
    for batch in masked_validation(corpus, _ROWS):
        labels = np.asarray(batch.labels)
        predicted = labels[labels >= 0]
        total += float(nats[predicted].sum())
        count += len(predicted)
    return total / count if count else float("nan")


def unigram_nats(corpus: Corpus) -> np.ndarray:
    """Returns float64[V], minus the log of each token's share of the training rows.

    Tokens are counted once more than they occur, so that one that never does costs no infinity. The special tokens have
    no share, and infinity here: masking never chooses them, and every model soon knows it.
    """
    ordinary = np.setdiff1d(np.arange(corpus.vocab_size), list(corpus.special_ids.values()))
    counts = corpus.token_frequencies[ordinary] + 1
    nats = np.full(corpus.vocab_size, np.inf)
    nats[ordinary] = np.log(counts.sum()) - np.log(counts)
    return nats


def _mask(corpus: Corpus) -> Callable[[np.ndarray, np.ndarray], MaskedBatch]:
    return _mask_of(corpus.vocab_size, tuple(corpus.special_ids.items()))


@functools.cache
def _mask_of(
    vocab_size: int, special_ids: tuple[tuple[str, int], ...]
) -> Callable[[np.ndarray, np.ndarray], MaskedBatch]:
    """One program for all corpora of a tokenizer: it takes longer to make than to run."""
    masker = Masker(vocab_size, dict(special_ids))
    return jax.jit(lambda ids, rows: masker(validation_keys(rows), ids))
