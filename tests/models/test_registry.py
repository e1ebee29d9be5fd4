"""An architecture is one file and one entry: here another one is trained beside a BERT, which knows nothing of it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.models import BertConfig, bert, registry
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.sharding import place_rows
from tests.training.helpers import LENGTH, VOCABULARY, experiment, masker, one_device_mesh, rows


@dataclass(frozen=True)
class BagConfig:
    """The shape of a model that sees, at every token, that token and the mean of its row."""

    vocab_size: int
    hidden: int
    layers: int = 1
    heads: int = 1
    intermediate: int = 1
    max_positions: int = LENGTH
    dropout: float = 0.0
    attention_dropout: float = 0.0


class Bag(nn.Module):
    config: BagConfig
    dtype: jnp.dtype = jnp.float32
    attention: str = "xla"
    remat: bool = False

    @nn.compact
    def outputs(self, input_ids, attention_mask, segment_ids=None, positions=None, *, deterministic=True):
        width, vocabulary = self.config.hidden, self.config.vocab_size
        tokens = self.param("kernel", nn.initializers.normal(0.02), (vocabulary, width))[input_ids]
        real = (attention_mask != 0)[..., None]
        hidden = (tokens + jnp.sum(tokens * real, axis=1, keepdims=True) / jnp.sum(real, axis=1, keepdims=True)) / 2
        if positions is not None:
            hidden = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
        head = self.param("head_kernel", nn.initializers.normal(0.02), (width, vocabulary))
        return hidden.astype(self.dtype), head, self.param("bias", nn.initializers.zeros, (vocabulary,))

    def __call__(self, input_ids, attention_mask, segment_ids=None):
        hidden, kernel, bias = self.outputs(input_ids, attention_mask, segment_ids)
        return hidden @ kernel + bias


@pytest.fixture
def bag(monkeypatch):
    known = registry.ARCHITECTURES["bert"]
    made = replace(
        known,
        name="bag",
        shape=BagConfig,
        module=Bag,
        forward_flops=lambda shape, head_share: 2.0 * head_share * shape.hidden * shape.vocab_size,
    )
    monkeypatch.setitem(registry.ARCHITECTURES, "bag", made)
    return BagConfig(VOCABULARY, 8)


def test_another_architecture_learns_beside_a_bert_and_from_it(bag):
    cohort = Cohort({"teacher": Member(), "student": Member()}, (Edge("teacher", "student"),))
    setup = experiment(cohort, learning_rate=1e-2)
    setup = replace(setup, models=setup.models | {"student": bag})
    mesh = one_device_mesh()
    state, step = init_state(setup, mesh), make_train_step(setup, masker(), mesh)
    assert set(state.members["student"].params) == {"kernel", "head_kernel", "bias"}
    losses = []
    for _ in range(10):
        state, result = step(state, {}, place_rows(rows(), mesh))
        losses.append(float(result["loss"]))
    assert losses[-1] < losses[0]
    expected = 3 * (registry.forward_flops(setup.models["teacher"], 0.5) + 2 * 0.5 * 8 * VOCABULARY)
    assert flops_per_token(setup, 0.5) == expected


def test_a_shape_goes_through_json(bag):
    shape = BertConfig(VOCABULARY, 1, 16, 2, 32, LENGTH)
    assert "architecture" not in registry.shape_to_dict(shape)
    assert registry.shape_to_dict(bag)["architecture"] == "bag"
    for each in (shape, bag):
        assert registry.shape_from_dict(registry.shape_to_dict(each)) == each
        assert jax.tree.structure(registry.abstract_params(each)) == jax.tree.structure(
            registry.init_params(each, jax.random.key(0))
        )
    with pytest.raises(ValueError, match="architecture is 'gpt', but this version knows bert, bag"):
        registry.shape_from_dict({"architecture": "gpt"})
    assert registry.architecture_of(shape).shape is bert.BertConfig
