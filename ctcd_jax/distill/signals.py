"""What an edge may compare beside predictions: a file and an entry in `SIGNALS` each, and nothing else changes.

The edges of a signal are a part of the objective (`features.feature_losses`): the part is a sum over them of the mean
of the signal's values, and StopG is applied there, not by the signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

if TYPE_CHECKING:
    from ctcd_jax.distill.cohort import Edge

LOGITS = "logits"  # the predictions themselves, whose edges `objective` defines and `fused` computes

Features = Mapping[str, jax.Array]


class Rows(NamedTuple):
    """What is known of a batch's tokens without a model.

    Attributes:
      attention_mask: bool[B, L], True for real tokens.
      segment_ids: int32[B, L], 1, 2, ... for the sentences of a row; 0 for padding.
    """

    attention_mask: jax.Array
    segment_ids: jax.Array


def no_params(edge: Edge, key: jax.Array, source: Any, target: Any) -> dict:
    """The parameters of an edge that owns none. Arguments as for `Signal.init`."""
    del edge, key, source, target
    return {}


@dataclass(frozen=True)
class Signal:
    """A quantity that a target can learn from its source. All functions are pure and traced.

    Attributes:
      features: (shape of a member) -> names of the features (`Outputs.features`) that it needs of both ends.
      weights: (edge, Rows) -> float[...], how much each value counts. It does not depend on a model, so that the
        weights of a whole batch are known before its first micro-batch.
      values: (edge, params, source's features, target's features, Rows) -> float32[...], what the target minimises,
        one for each weight. Values and their gradients are finite, also where the weight is 0.
      init: (edge, key, source's shape, target's shape) -> the parameters that an edge owns, e.g. a projection between
        two widths: nested dicts of float32. They are trained with the target, by its optimizer, and never exported.
    """

    features: Callable[[Any], tuple[str, ...]]
    weights: Callable[[Edge, Rows], jax.Array]
    values: Callable[[Edge, dict, Features, Features, Rows], jax.Array]
    init: Callable[[Edge, jax.Array, Any, Any], dict] = no_params


SIGNALS: dict[str, Signal] = {}
