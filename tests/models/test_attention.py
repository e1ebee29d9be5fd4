"""Attention: the XLA form against the textbook, and when cuDNN's is taken (what cuDNN computes needs a GPU)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.models.attention import IMPLEMENTATIONS, attend, on_platform


def random(seed, dtype=jnp.float32, length=6, heads=2, width=8):
    return jax.random.normal(jax.random.key(seed), (3, length, heads, width)).astype(dtype)


def test_xla_is_the_textbook():
    query, key, value = (random(seed) for seed in range(3))
    mask = jax.random.bernoulli(jax.random.key(3), 0.7, (3, 1, 6, 6)) | jnp.eye(6, dtype=bool)
    scores = np.einsum("bqnd,bknd->bnqk", query, key) / np.sqrt(8)
    weights = np.exp(np.where(mask, scores, -np.inf))
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("bnqk,bknd->bqnd", weights, value)
    np.testing.assert_allclose(attend(query, key, value, mask), expected, atol=1e-6)
    halved = attend(query, key, value, mask, drop=lambda weights: weights / 2)
    np.testing.assert_allclose(halved, expected / 2, atol=1e-6)


def test_a_query_that_may_see_nothing_is_finite():
    query = random(0)
    assert np.isfinite(attend(query, query, query, jnp.zeros((3, 1, 6, 6), bool))).all()


@pytest.mark.parametrize(
    ("change", "drops", "obstacle"),
    [
        ({}, False, None),
        ({"dtype": jnp.float16}, False, None),
        ({"dtype": jnp.float32}, False, "bfloat16 or float16, not float32"),
        ({}, True, "set attention_dropout=0"),
        ({"width": 12}, False, "multiple of 8 dimensions, 128 at most, not 12"),
        ({"width": 136}, False, "not 136"),
        ({"length": 7}, False, "even number of tokens, not 7"),
    ],
)
def test_conditions_of_cudnn(monkeypatch, change, drops, obstacle):
    calls = []

    def cudnn(query, key, value, mask, implementation):
        calls.append(implementation)
        return query

    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
    query = random(0, **({"dtype": jnp.bfloat16} | change))
    mask = jnp.ones((3, 1, 1, query.shape[1]), bool)
    drop = (lambda weights: weights) if drops else None
    attend(query, query, query, mask, drop, "auto")
    if obstacle is None:
        assert calls == ["cudnn"]
        return
    assert not calls
    with pytest.raises(ValueError, match=obstacle):
        attend(query, query, query, mask, drop, "cudnn")
    attend(query, query, query, mask, drop, "xla")
    assert not calls


def test_there_is_a_choice_on_gpus_only():
    chosen = {platform: [on_platform(name, platform) for name in IMPLEMENTATIONS] for platform in ("cpu", "gpu", "tpu")}
    assert chosen == {"cpu": ["xla", "xla", "cudnn"], "gpu": ["auto", "xla", "cudnn"], "tpu": ["xla", "xla", "cudnn"]}
