"""The part of the objective that comes from edges of other signals than logits: features of both ends, compared."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from ctcd_jax.distill.cohort import Cohort
from ctcd_jax.distill.objective import Losses, Mean, Outputs, Terms
from ctcd_jax.distill.signals import SIGNALS, Rows


def needed_features(cohort: Cohort, name: str, shape: Any) -> tuple[str, ...]:
    """Returns the names of the features that the edges of a member compare.

    Args:
      cohort: whose edges count.
      name, shape: of the member.
    """
    signals = {edge.signal for edge in cohort.feature_edges if name in (edge.source, edge.target)}
    return tuple(sorted({feature for signal in signals for feature in SIGNALS[signal].features(shape)}))


def init_edges(cohort: Cohort, keys: Mapping[str, jax.Array], shapes: Mapping[str, Any]) -> dict[str, dict]:
    """Returns {edge: its parameters} of the edges that own any.

    Args:
      cohort: whose edges count.
      keys: a typed key for each of `cohort.feature_edges`, by name.
      shapes: of the members.
    """
    params = {
        edge.name: SIGNALS[edge.signal].init(edge, keys[edge.name], shapes[edge.source], shapes[edge.target])
        for edge in cohort.feature_edges
    }
    return {name: tree for name, tree in params.items() if tree}


def feature_denominators(cohort: Cohort, rows: Rows) -> dict[str, jax.Array]:
    """Returns {edge: what its mean divides by}, at least 1: the weights of a whole batch, added up."""
    return {
        edge.name: jnp.maximum(jnp.sum(SIGNALS[edge.signal].weights(edge, rows)), 1) for edge in cohort.feature_edges
    }


def feature_losses(
    cohort: Cohort,
    outputs: Mapping[str, Outputs],
    rows: Rows,
    totals: Mapping[str, jax.Array],
    params: Mapping[str, dict],
    factors: Mapping[str, jax.Array] = MappingProxyType({}),
) -> tuple[Losses, Terms]:
    """Returns what each target minimises because of these edges, and `Terms` with their `soft`.

    Args:
      cohort: who learns from whom.
      outputs: of the members, with the features of `needed_features`.
      rows: the tokens, of which there may be more in the batch.
      totals: `feature_denominators` of the whole batch.
      params: by edge, of those that own parameters; other names in it are not looked at.
      factors: {edge: factor of its weight}, `schedules.weight_factors`.
    """
    losses: Losses = {}
    soft = {}
    for edge in cohort.feature_edges:
        signal = SIGNALS[edge.signal]
        source = jax.lax.stop_gradient(outputs[edge.source].features)  # StopG: whoever teaches is a constant
        values = signal.values(edge, params.get(edge.name, {}), source, outputs[edge.target].features, rows)
        mean = Mean.of(values, signal.weights(edge, rows))
        weight = edge.weight * factors.get(edge.name, 1.0)
        losses[edge.target] = losses.get(edge.target, 0.0) + weight * mean.total / totals[edge.name]
        soft[edge.name] = mean
    return losses, Terms(soft=soft)
