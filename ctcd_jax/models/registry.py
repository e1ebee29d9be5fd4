"""The architectures that members may have: one file and one entry each. Nobody outside `models` names a class of one.

A shape (`Shape`) is a frozen dataclass and says by its type which architecture it is of; in JSON it says so by the key
`architecture`, without which it is a BERT's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from ctcd_jax.errors import did_you_mean
from ctcd_jax.models import bert, bert_checkpoint
from ctcd_jax.models.checkpoint_format import CheckpointFormat
from ctcd_jax.ranges import Range


class Shape(Protocol):
    """What every architecture's shape has; hashable, and equal where its fields are."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # it is a dataclass

    @property
    def vocab_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def intermediate(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def attention_dropout(self) -> float: ...


@dataclass(frozen=True)
class Architecture:
    """A kind of masked language model.

    Attributes:
      name: in `architecture` of a shape, and `model_type` of a Hugging Face config.json.
      shape: the dataclass; its fields are keyword arguments.
      ranges: of the numbers among them.
      module: (shape, dtype, attention, remat) -> a Flax module. `apply({"params": params}, input_ids, attention_mask,
        segment_ids)` gives logits; its method `outputs(input_ids, attention_mask, segment_ids, positions)` gives
        (hidden dtype[B, S, H], kernel float32[H, V], bias float32[V]) of the head's last product. It sows what signals
        may compare (`distill.signals`) into Flax's collection "intermediates".
      checkpoint: how Hugging Face keeps it.
      forward_flops: (shape, head_share) -> operations of one token's forward pass, the head on that share of them.
    """

    name: str
    shape: type
    ranges: Mapping[str, Range]
    module: Callable[..., nn.Module]
    checkpoint: CheckpointFormat
    forward_flops: Callable[[Any, float], float]


ARCHITECTURES = {
    "bert": Architecture(
        name="bert",
        shape=bert.BertConfig,
        ranges=bert.RANGES,
        module=bert.BertForMaskedLM,
        checkpoint=bert_checkpoint.FORMAT,
        forward_flops=bert.forward_flops,
    )
}
DEFAULT = "bert"


def architecture_of(shape: Shape) -> Architecture:
    """Returns the architecture that a shape is of. KeyError if none has such shapes."""
    return {architecture.shape: architecture for architecture in ARCHITECTURES.values()}[type(shape)]


def build(shape: Shape, dtype: jnp.dtype = jnp.float32, attention: str = "xla", remat: bool = False) -> nn.Module:
    """Returns the Flax module of a shape.

    Args:
      shape: of one of the `ARCHITECTURES`.
      dtype: of activations and matrix products.
      attention: of `attention.IMPLEMENTATIONS`.
      remat: whether the backward pass computes each layer again from its input instead of keeping what is within.
    """
    return architecture_of(shape).module(shape, dtype, attention, remat)


@cache  # a tenth of a second each, several times at every start
def abstract_params(shape: Shape) -> dict:
    """Returns the parameters' shapes and dtypes: a nested dict of `jax.ShapeDtypeStruct`."""
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    # Through the program of `init_params`, which is then not traced a second time.
    return jax.eval_shape(_initializer(shape), jax.eval_shape(lambda: jax.random.key(0)), ids, ids)["params"]


def parameter_count(shape: Shape) -> int:
    """Returns the number of parameters, head included, where tied weights count once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(shape)))


def init_params(shape: Shape, key: jax.Array) -> dict:
    """Returns random parameters, float32: a function of the shape and a typed key."""
    ids = jnp.zeros((1, 1), jnp.int32)
    return _initializer(shape)(key, ids, ids)["params"]


@cache  # members of one shape share a program
def _initializer(shape: Shape) -> Callable:
    return jax.jit(build(shape).init)


def sown_features(variables: Mapping, names: Sequence[str]) -> dict[str, jax.Array]:
    """Returns features by name, out of the collections that an `apply` has changed.

    A feature's name is the path at which a module sows it, e.g. "hidden_2" or "layer_0/attention/queries" of a BERT.

    Raises:
      ValueError: there is none of a name.
    """
    sown: dict[str, Any] = flatten_dict(variables.get("intermediates", {}), sep="/")
    if missing := sorted(set(names) - set(sown)):
        raise ValueError(f"no feature '{missing[0]}'{did_you_mean(missing[0], sown)}")
    return {name: sown[name][0] for name in names}


def forward_flops(shape: Shape, head_share: float = 1.0) -> float:
    """Returns the operations of one token's forward pass, with the MLM head on `head_share` of the tokens."""
    return architecture_of(shape).forward_flops(shape, head_share)


def shape_from_dict(fields: Mapping) -> Shape:
    """Returns the shape of its fields and `architecture` (absent: a BERT's).

    Raises:
      ValueError: an unknown architecture, or a number out of its range.
      TypeError: a field too many or too few.
    """
    fields = dict(fields)
    name = fields.pop("architecture", DEFAULT)
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture is '{name}', but this version knows {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name].shape(**fields)


def shape_to_dict(shape: Shape) -> dict:
    """Returns the fields of a shape, and `architecture` where it is another than BERT."""
    name = architecture_of(shape).name
    return asdict(shape) | ({} if name == DEFAULT else {"architecture": name})
