"""Which tokens are predicted: exact counts, exact shares, and what the choice may depend on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.training.keys import named_key, root_key
from ctcd_jax.training.masking import Masker, train_keys, validation_keys
from tests.training.helpers import LENGTH, SPECIAL, VOCABULARY, masker, rows

KEY = root_key(0)


def mask(ids, step=0, seed=0, first_row=0, **changes):
    keys = train_keys(root_key(seed), jnp.asarray(step), first_row + jnp.arange(len(ids)))
    return jax.tree.map(np.asarray, jax.jit(masker(**changes).__call__)(keys, jnp.asarray(ids)))


def test_every_row_predicts_exactly_its_share():
    ids = np.zeros((LENGTH + 1, LENGTH), np.int32)
    for maskable in range(LENGTH - 1):
        ids[maskable, 0], ids[maskable, 1 : 1 + maskable] = SPECIAL["cls"], 7
    masked = mask(ids)
    slots = math.ceil(0.15 * LENGTH)
    assert masked.positions.shape == (LENGTH + 1, slots)
    for maskable in range(LENGTH - 1):
        expected = 0 if maskable == 0 else min(max(round(0.15 * maskable), 1), slots)
        assert (masked.row_labels[maskable] >= 0).sum() == expected
    assert (masked.row_labels[-2:] == -100).all()


def test_slots_hold_every_predicted_token_once():
    masked = mask(rows(64)["input_ids"])
    for labels, positions in zip(masked.row_labels, masked.positions, strict=True):
        assert len(set(positions)) == len(positions)
        assert (labels[positions] >= 0).sum() == (labels >= 0).sum() > 0


def test_special_tokens_are_neither_predicted_nor_drawn():
    ids = rows(2000)["input_ids"]
    ids[::7, 3] = SPECIAL["unk"]
    masked = mask(ids)
    predicted = masked.row_labels >= 0
    np.testing.assert_array_equal(masked.row_labels[predicted], ids[predicted])
    assert not np.isin(ids[predicted], list(SPECIAL.values())).any()
    np.testing.assert_array_equal(masked.input_ids[~predicted], ids[~predicted])
    seen = masked.input_ids[predicted]
    assert not np.isin(seen[seen != SPECIAL["mask"]], list(SPECIAL.values())).any()


def test_eighty_ten_ten():
    ids = rows(4000)["input_ids"]
    masked = mask(ids)
    predicted = masked.row_labels >= 0
    seen, original = masked.input_ids[predicted], ids[predicted]
    n = len(seen)
    ordinary = VOCABULARY - len(SPECIAL)
    # A random token is the original one time in `ordinary`.
    for share, expected in (
        ((seen == SPECIAL["mask"]).mean(), 0.8),
        ((seen == original).mean(), 0.1 + 0.1 / ordinary),
        (((seen != original) & (seen != SPECIAL["mask"])).mean(), 0.1 - 0.1 / ordinary),
    ):
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
    drawn = seen[(seen != original) & (seen != SPECIAL["mask"])]
    assert set(drawn) == set(range(5, VOCABULARY))


def test_tokens_are_chosen_uniformly():
    ids = np.tile(np.concatenate([[2], np.arange(5, 5 + LENGTH - 2), [3]]), (6000, 1))
    counts = (mask(ids).row_labels >= 0).sum(axis=0)[1:-1]
    expected = counts.mean()
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 50  # 21 degrees of freedom: exceeded once in 2,500 seeds


def test_smoothing_prefers_rare_tokens_in_proportion():
    """With one token a row to predict, its odds are count^-smoothing."""
    frequencies = np.full(VOCABULARY, 100)
    frequencies[10], frequencies[11] = 1, 10_000
    ids = np.zeros((20000, LENGTH), np.int32)
    ids[:, :4] = [2, 10, 11, 3]
    masked = mask(ids, frequencies=frequencies, smoothing=0.5)
    rare = (masked.row_labels[:, 1] == 10).mean()
    assert abs(rare - 100 / 101) < 4 * math.sqrt(0.01 * 0.99 / 20000)


def test_fresh_every_step_and_reproducible():
    ids = rows()["input_ids"]
    first, again, later, other = mask(ids), mask(ids), mask(ids, step=1), mask(ids, seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.labels != later.labels).any()
    assert (first.labels != other.labels).any()


def test_a_row_is_masked_alike_whatever_stands_beside_it():
    ids = rows(16)["input_ids"]
    whole, part = mask(ids), mask(ids[8:12], first_row=8)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[8:12], b), whole, part)


def test_validation_masks_depend_on_the_row_alone():
    ids = jnp.asarray(rows(8)["input_ids"])
    together = masker()(validation_keys(jnp.arange(8)), ids)
    alone = masker()(validation_keys(jnp.asarray([5])), ids[5:6])
    np.testing.assert_array_equal(together.labels[5], alone.labels[0])


def test_segments_are_read_off_the_unmasked_row():
    ids = np.asarray([[2, 9, 9, 3, 2, 8, 3, 2, 7, 7, 3, 0] + [0] * (LENGTH - 12)])
    masked = mask(ids)
    assert masked.segment_ids[0, :13].tolist() == [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 0, 0]
    assert masked.attention_mask[0].sum() == 11


@pytest.mark.parametrize(("length", "slots"), [(64, 10), (128, 20), (20, 3), (100, 15), (512, 77), (1, 1)])
def test_max_predictions(length, slots):
    assert Masker(10, SPECIAL).max_predictions(length) == slots


def test_named_keys_do_not_depend_on_the_process():
    """A golden value: `hash()` would change from process to process, and old runs could not be resumed."""
    assert jax.random.key_data(named_key(KEY, "masking")).tolist() == [1315086264, 2277723968]
