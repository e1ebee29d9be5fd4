"""Word frequencies as a baseline: a plain loop over the corpus says the same."""

import math
from collections import Counter

import numpy as np

from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.training.masking import Masker, validation_keys
from ctcd_jax.training.validation_masks import masked_validation, unigram_loss, unigram_nats


def test_unigram_loss_is_that_of_a_count_over_the_training_rows(corpus):
    corpus = Corpus.open(corpus)
    specials = set(corpus.special_ids.values())
    counts = Counter()
    for shard in corpus.shards("train"):
        counts.update(token for row in shard for token in row.tolist() if token not in specials)
    everything = sum(counts.values()) + corpus.vocab_size - len(specials)

    masker, batches = Masker(corpus.vocab_size, corpus.special_ids), ValidationBatches(corpus, 7)
    losses = []
    for index in range(len(batches)):
        batch = batches[index]
        labels = np.asarray(masker(validation_keys(batch["rows"]), batch["input_ids"]).row_labels)
        losses += [-math.log((counts[token] + 1) / everything) for token in labels[labels >= 0].tolist()]
    assert len(losses) > 100
    loss = unigram_loss(corpus)
    assert math.isclose(loss, math.fsum(losses) / len(losses), rel_tol=1e-12)
    assert loss < math.log(corpus.vocab_size)


def test_the_shares_are_those_of_the_ordinary_tokens(corpus):
    corpus = Corpus.open(corpus)
    shares = np.exp(-unigram_nats(corpus))
    assert math.isclose(shares.sum(), 1, rel_tol=1e-12)
    assert np.flatnonzero(shares == 0).tolist() == sorted(corpus.special_ids.values())


def test_the_masks_do_not_depend_on_the_batch(corpus):
    corpus = Corpus.open(corpus)
    rows = corpus.rows("validation")

    def labels(batch_size):
        found = np.concatenate([np.asarray(batch.row_labels) for batch in masked_validation(corpus, batch_size)])
        assert (found[rows:] == -100).all()
        return found[:rows]

    assert (labels(4) == labels(16)).all()
