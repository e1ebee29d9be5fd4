"""BERT for masked language modelling (Devlin et al. 2019) in Flax linen, parameter for parameter Hugging Face's.

`apply` is pure and parameters are plain nested dicts, so one step can hold any number of models. Parameters are
float32; `dtype` is what activations and matrix products use; softmax, LayerNorm statistics and logits are always (at
least) float32.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from ctcd_jax.models.attention import attend
from ctcd_jax.ops import dropout, gelu, layer_norm, linear, lookup
from ctcd_jax.ranges import Range, require

INIT = nn.initializers.normal(stddev=0.02)

# Far beyond any BERT, and small enough that arrays of it can be counted.
SIZE = Range(1, 2**20, whole=True)

RANGES = {
    "vocab_size": Range(1, 2**31 - 1, whole=True),
    "layers": Range(1, 1000, whole=True),
    "hidden": SIZE,
    "heads": SIZE,
    "intermediate": SIZE,
    "max_positions": SIZE,
    "token_types": SIZE,
    "dropout": Range(0, 1, below=True),  # 0: none
    "attention_dropout": Range(0, 1, below=True),
    "layer_norm_eps": Range(0, above=True),
}


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT. Raises ValueError if `heads` does not divide `hidden` or a number is out of its range."""

    vocab_size: int
    layers: int
    hidden: int
    heads: int
    intermediate: int
    max_positions: int
    token_types: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12

    def __post_init__(self):
        require("", self, RANGES)
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be divisible by heads ({self.heads})")


class BertForMaskedLM(nn.Module):
    """Post-LayerNorm BERT encoder, exact GELU, MLM head with tied embeddings.

    `apply({"params": params}, input_ids, attention_mask)` gives logits float[B, L, V]; deterministic unless asked
    (`deterministic=False, rngs={"dropout": key}`). Sown into "intermediates": hidden_N float[B, L, H], N = 0 the
    embeddings, else of the N-th layer, and layer_N/attention/{queries,keys,values} float[B, L, heads, H / heads].

    Attributes:
      config: the shape.
      dtype: of activations and matrix products.
      attention: of `attention.IMPLEMENTATIONS`.
      remat: whether the backward pass computes each layer again from its input instead of keeping what is within.
    """

    config: BertConfig
    dtype: jnp.dtype = jnp.float32
    attention: str = "xla"
    remat: bool = False

    def setup(self):
        config = self.config
        self.embeddings = Embeddings(config, self.dtype)
        layer = nn.remat(Layer, static_argnums=(3,)) if self.remat else Layer
        self.layer = [layer(config, self.dtype, self.attention) for _ in range(config.layers)]
        self.head = Head(config, self.dtype)

    def __call__(self, input_ids, attention_mask, segment_ids=None, token_type_ids=None, *, deterministic=True):
        """Returns logits float[B, L, V].

        Args:
          input_ids: int[B, L].
          attention_mask: [B, L], nonzero where the token is real.
          segment_ids: int[B, L] or None. Attention stays within tokens of equal id and positions restart with each
            segment, so several sentences share a row without seeing each other.
          token_type_ids: int[B, L] or None for all zeros.
          deterministic: False to drop out; then `rngs={"dropout": key}` is needed.
        """
        hidden = self.encode(input_ids, attention_mask, segment_ids, token_type_ids, deterministic=deterministic)
        hidden, kernel, bias = self.predict(hidden)
        return linear(hidden, kernel, bias, jnp.promote_types(self.dtype, jnp.float32))

    def encode(self, input_ids, attention_mask, segment_ids=None, token_type_ids=None, *, deterministic=True):
        """Returns the last layer's hidden states, dtype[B, L, H]; arguments as for `__call__`."""
        length = input_ids.shape[-1]
        if length > self.config.max_positions:
            raise ValueError(f"rows of {length} tokens, but the model has {self.config.max_positions} positions")
        mask = (attention_mask != 0)[:, None, None, :]
        positions = jnp.broadcast_to(jnp.arange(length), input_ids.shape)
        if segment_ids is not None:
            mask = mask & (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]
            positions -= segment_starts(segment_ids)
        hidden = self.embeddings(input_ids, positions, token_type_ids, deterministic)
        self.sow("intermediates", "hidden_0", hidden)
        for number, layer in enumerate(self.layer, start=1):
            hidden = layer(hidden, mask, deterministic)
            self.sow("intermediates", f"hidden_{number}", hidden)
        return hidden

    def predict(self, hidden):
        """Returns (transformed dtype[..., H], kernel[H, V], bias[V]); logits are transformed @ kernel + bias.

        They are left apart so that a loss can apply the head to part of the positions, or in chunks.
        """
        transformed, bias = self.head(hidden)
        return transformed, self.embeddings.word.T, bias

    def outputs(self, input_ids, attention_mask, segment_ids, positions=None, *, deterministic=True):
        """Returns `predict` at some positions of each row: one forward pass of training.

        Args:
          input_ids, attention_mask, segment_ids, deterministic: as for `__call__`.
          positions: int[B, S]; None for all L.
        """
        hidden = self.encode(input_ids, attention_mask, segment_ids, deterministic=deterministic)
        if positions is not None:
            hidden = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
        return self.predict(hidden)


def forward_flops(config: BertConfig, head_share: float = 1.0) -> float:
    """Returns the operations of one token's forward pass, with the MLM head on `head_share` of the tokens."""
    layer = 4 * config.hidden**2 + 2 * config.hidden * config.intermediate
    head = config.hidden**2 + config.hidden * config.vocab_size
    return 2.0 * (config.layers * layer + head_share * head)


def segment_starts(segment_ids: jax.Array) -> jax.Array:
    """Returns int[B, L]: for every token, the index at which its segment begins."""
    index = jnp.broadcast_to(jnp.arange(segment_ids.shape[-1]), segment_ids.shape)
    begins = jnp.concatenate(
        [jnp.ones_like(segment_ids[:, :1], bool), segment_ids[:, 1:] != segment_ids[:, :-1]], axis=1
    )
    return jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


class Embeddings(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    def setup(self):
        config = self.config
        self.word = self.param("word", INIT, (config.vocab_size, config.hidden))
        self.position = self.param("position", INIT, (config.max_positions, config.hidden))
        self.token_type = self.param("token_type", INIT, (config.token_types, config.hidden))
        self.norm = LayerNorm(config, self.dtype)
        self.drop = Dropout(config.dropout)

    def __call__(self, input_ids, positions, token_type_ids, deterministic):
        types = self.token_type[0] if token_type_ids is None else lookup(self.token_type, token_type_ids)
        return self.drop(
            self.norm(lookup(self.word, input_ids) + lookup(self.position, positions) + types), deterministic
        )


class Layer(nn.Module):
    """One encoder layer: attention, then feed-forward, each added to its input and normalised."""

    config: BertConfig
    dtype: jnp.dtype
    implementation: str

    def setup(self):
        config = self.config
        self.attention = Attention(config, self.dtype, self.implementation)
        self.attention_norm = LayerNorm(config, self.dtype)
        self.up = Dense(config.hidden, config.intermediate, self.dtype)
        self.down = Dense(config.intermediate, config.hidden, self.dtype)
        self.norm = LayerNorm(config, self.dtype)
        self.drop = Dropout(config.dropout)

    def __call__(self, hidden, mask, deterministic):
        attended = self.attention(hidden, mask, deterministic)
        hidden = self.attention_norm(hidden + self.drop(attended, deterministic))
        expanded = gelu(self.up(hidden))
        return self.norm(hidden + self.drop(self.down(expanded), deterministic))


class Attention(nn.Module):
    """Multi-head self-attention; dropout acts on the attention probabilities."""

    config: BertConfig
    dtype: jnp.dtype
    implementation: str

    def setup(self):
        self.query, self.key, self.value, self.output = (
            Dense(self.config.hidden, self.config.hidden, self.dtype) for _ in range(4)
        )
        self.drop = Dropout(self.config.attention_dropout)

    def __call__(self, hidden, mask, deterministic):
        # One product of three times the width is faster than three; the parameters stay three, as in checkpoints.
        projections = (self.query, self.key, self.value)
        kernel = jnp.concatenate([dense.kernel for dense in projections], axis=1)
        bias = jnp.concatenate([dense.bias for dense in projections])
        together = linear(hidden, kernel, bias, self.dtype)
        query, key, value = jnp.split(together.reshape(*hidden.shape[:2], 3 * self.config.heads, -1), 3, axis=2)
        for name, part in (("queries", query), ("keys", key), ("values", value)):
            self.sow("intermediates", name, part)
        drops = not deterministic and self.config.attention_dropout > 0
        drop = partial(self.drop, deterministic=False) if drops else None
        mixed = attend(query, key, value, mask, drop, self.implementation)
        return self.output(mixed.reshape(hidden.shape))


class Head(nn.Module):
    """The MLM head up to its tied decoder: returns the transformed hidden states and the decoder's bias."""

    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden):
        hidden = gelu(Dense(self.config.hidden, self.config.hidden, self.dtype, name="transform")(hidden))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.config.vocab_size,))
        return LayerNorm(self.config, self.dtype, name="norm")(hidden), bias


class Dense(nn.Module):
    inputs: int
    outputs: int
    dtype: jnp.dtype

    def setup(self):
        self.kernel = self.param("kernel", INIT, (self.inputs, self.outputs))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.outputs,))

    def __call__(self, x):
        return linear(x, self.kernel, self.bias, self.dtype)


class Dropout(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        return x if deterministic or self.rate == 0 else dropout(self.make_rng("dropout"), x, self.rate)


class LayerNorm(nn.Module):
    config: BertConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones_init(), (self.config.hidden,))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.config.hidden,))
        return layer_norm(x, scale, bias, self.config.layer_norm_eps, self.dtype)
