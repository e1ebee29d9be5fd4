"""What a cohort minimises (Lee et al. 2023, Eq. 1-5): pure functions of the members' predictions.

For one token with label y, and p_m = softmax(z_m) of member m:

    hard loss of m               -log p_m(y)
    soft loss of s->t, Eq. 1     D(StopG(p_s^tau), p_t^tau) = sum_k p_s^tau(k) log(p_s^tau(k) / p_t^tau(k))

    loss = sum_m hard_weight_m * mean(hard_m) + sum_e weight_e * mean(soft_e)

Every term is a `Mean`, a (sum, weight) pair: it is added up over chunks, micro-batches and devices, and divided once.

The objective is a sum of parts, each of which gives ({member: what it minimises}, `Terms`). Predictions are one part,
defined here and computed by `fused`; edges that compare something else are another (`features`); `add_parts` adds them.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ctcd_jax.distill.cohort import Cohort, Edge
from ctcd_jax.ops import accumulator, linear

LOG_2 = math.log(2.0)

Losses = dict[str, jax.Array]


class Mean(NamedTuple):
    """A mean that is not divided yet, float32 scalars."""

    total: jax.Array
    weight: jax.Array

    @classmethod
    def of(cls, values: jax.Array, weights: jax.Array) -> "Mean":
        """Returns that of values[...], each counted by its weight; one without weight need not be finite."""
        # `where`, not a product: 0 * inf is NaN.
        return cls(jnp.sum(jnp.where(weights > 0, values * weights, 0)), jnp.sum(weights))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Terms:
    """The terms of the loss, and figures to watch.

    Attributes:
      accuracy: {member: predicted tokens that are its argmax}; no gradient.
      agreement: {"A~B": predicted tokens on which two members' argmax is equal}; no gradient.
      hard: {trainable member: its masked-language-model loss}, nats.
      soft: {edge: its divergence}, nats for logits; with tau^2, where the edge asks for it, but without its weight.
      soft_t1: {edge of logits: the divergence at temperature 1, comparable between runs}, nats; no gradient.
    """

    accuracy: dict[str, Mean] = field(default_factory=dict)
    agreement: dict[str, Mean] = field(default_factory=dict)
    hard: dict[str, Mean] = field(default_factory=dict)
    soft: dict[str, Mean] = field(default_factory=dict)
    soft_t1: dict[str, Mean] = field(default_factory=dict)


class Outputs(NamedTuple):
    """What one forward pass of a member gives the cohort.

    Its predictions are left before the last matrix product: logits = hidden @ kernel + bias.

    Attributes:
      hidden: float[N, H].
      head: (kernel float[H, V], bias float[V]).
      features: {name: float[B, L, ...]}, those that the cohort's edges ask for, see `features.needed_features`.
    """

    hidden: jax.Array
    head: tuple[jax.Array, jax.Array]
    features: Mapping[str, jax.Array] = {}


def add_parts(parts: Iterable[tuple[Losses, Terms]]) -> tuple[Losses, Terms]:
    """Returns the objective, of its parts: the sum of what each member minimises, and the terms of all."""
    losses: Losses = {}
    terms = Terms()
    for part, of_part in parts:
        losses |= {name: losses[name] + loss if name in losses else loss for name, loss in part.items()}
        terms = Terms(*(getattr(terms, kind.name) | getattr(of_part, kind.name) for kind in fields(Terms)))
    return losses, terms


def add_losses(losses: Losses) -> jax.Array:
    """Returns what a cohort minimises, of what its members do: Eq. 4 for CTCD, Eq. 5 for Community KD."""
    return functools.reduce(jnp.add, losses.values())


def cohort_losses(
    cohort: Cohort,
    outputs: Mapping[str, jax.Array | Outputs],
    labels: jax.Array,
    weights: jax.Array,
    totals: Mapping[str, jax.Array],
    factors: Mapping[str, jax.Array] = MappingProxyType({}),
) -> tuple[Losses, Terms]:
    """Returns what each trainable member minimises (`member_losses`) and the terms of `cohort_terms`, as arithmetic for
    autodiff on whole logits. This is the definition; `fused.cohort_losses` computes the same from `Outputs`, faster.

    Args:
      cohort, outputs, labels, weights: as for `cohort_terms`.
      totals: `denominators` of the whole batch, of which these tokens may be a part.
      factors: {edge: factor of its weight}, `schedules.weight_factors`.
    """
    terms = cohort_terms(cohort, outputs, labels, weights)
    return member_losses(cohort, terms, totals, factors), terms


def cohort_terms(
    cohort: Cohort, outputs: Mapping[str, jax.Array | Outputs], labels: jax.Array, weights: jax.Array
) -> Terms:
    """Returns the terms that follow from predictions; `hard` and `soft` make up their part of the loss.

    Args:
      cohort: who learns from whom.
      outputs: of every member, logits float[N, V] or `Outputs`.
      labels: int[N], -100 where nothing is predicted.
      weights: float[N], 1 = a real token.

    Hard losses and "masked" edges average over weight * (label >= 0), "attended" edges over weight.

    Raises:
      ValueError: outputs of other members than the cohort's, or of different vocabularies.
    """
    check_outputs(cohort, outputs)
    logits = {name: _logits(output) for name, output in outputs.items()}
    # StopG: whoever teaches is a constant. Of predictions, gradients between members are cut here and nowhere else.
    constant = {name: jax.lax.stop_gradient(value) for name, value in logits.items()}
    predicted = weights * (labels >= 0)
    target = jnp.maximum(labels, 0)
    position_weights = {"masked": predicted, "attended": weights}

    terms = Terms()
    for name in cohort.trainable:
        log_p = jax.nn.log_softmax(logits[name])
        terms.hard[name] = Mean.of(-jnp.take_along_axis(log_p, target[:, None], axis=-1)[:, 0], predicted)
    for edge in cohort.logit_edges:
        soft = divergence(edge, constant[edge.source], logits[edge.target])
        terms.soft[edge.name] = Mean.of(soft, position_weights[edge.positions])
        if edge.temperature != 1 or edge.tau_squared:
            plain = Edge(edge.source, edge.target, divergence=edge.divergence)
            soft = divergence(plain, constant[edge.source], constant[edge.target])
        terms.soft_t1[edge.name] = Mean.of(jax.lax.stop_gradient(soft), position_weights[edge.positions])
    guesses = {name: jnp.argmax(value, axis=-1) for name, value in constant.items()}
    for name in cohort.members:
        terms.accuracy[name] = Mean.of(guesses[name] == labels, predicted)
    for a, b in combinations(cohort.members, 2):
        terms.agreement[f"{a}~{b}"] = Mean.of(guesses[a] == guesses[b], predicted)
    return terms


def denominators(labels: jax.Array, weights: jax.Array) -> dict[str, jax.Array]:
    """Returns the number of predicted ("masked") and of real ("attended") tokens, at least 1: what means divide by."""
    masked = jnp.sum(weights * (labels >= 0))
    return {"masked": jnp.maximum(masked, 1), "attended": jnp.maximum(jnp.sum(weights), 1)}


def member_losses(
    cohort: Cohort,
    terms: Terms,
    denominators: Mapping[str, jax.Array],
    factors: Mapping[str, jax.Array] = MappingProxyType({}),
) -> Losses:
    """Returns what each trainable member minimises: its hard loss and its incoming edges, weighted and normalised.

    By StopG, a member's gradient is that of its own entry alone. Their sum is the loss of Eq. 4 for CTCD, of Eq. 5 for
    Community KD.

    Args:
      cohort: who learns from whom, and the weights.
      terms: sums; of the whole batch or of a part of it.
      denominators: of the whole batch, by positions.
      factors: {edge: factor of its weight}; of others it is 1.
    """
    losses = {}
    for name in cohort.trainable:
        loss = cohort.members[name].hard_weight * terms.hard[name].total / denominators["masked"]
        for edge in cohort.logit_edges:
            if edge.target == name:
                weight = edge.weight * factors.get(edge.name, 1.0)
                loss += weight * terms.soft[edge.name].total / denominators[edge.positions]
        losses[name] = loss
    return losses


def divergence(edge: Edge, source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns float[N], nats: the divergence of two members' predictions, times tau^2 where the edge asks for it.

    Args:
      edge: gives the kind of divergence and the temperature.
      source, target: logits float[N, V].
    """
    log_p = jax.nn.log_softmax(source / edge.temperature)
    log_r = jax.nn.log_softmax(target / edge.temperature)
    if edge.divergence == "forward_kl":
        value = kl(log_p, log_r)
    elif edge.divergence == "reverse_kl":
        value = kl(log_r, log_p)
    else:
        log_m = jnp.logaddexp(log_p, log_r) - LOG_2
        value = (kl(log_p, log_m) + kl(log_r, log_m)) / 2
    return value * edge.temperature**2 if edge.tau_squared else value


def kl(log_p: jax.Array, log_r: jax.Array) -> jax.Array:
    """Returns float[N]: sum_k p(k) log(p(k) / r(k)) of log-probabilities float[N, V]."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_r), axis=-1)


def _logits(output: jax.Array | Outputs) -> jax.Array:
    if not isinstance(output, Outputs):
        return output.astype(accumulator(output.dtype))
    return linear(output.hidden, *output.head, accumulator(output.hidden.dtype))


def check_outputs(cohort: Cohort, outputs: Mapping[str, jax.Array | Outputs]) -> None:
    """Raises ValueError if the outputs are not of the cohort's members, or of different vocabularies."""
    if set(outputs) != set(cohort.members):
        raise ValueError(f"outputs are of {sorted(outputs)}, but the cohort has {sorted(cohort.members)}")
    sizes = {name: (o.head[0] if isinstance(o, Outputs) else o).shape[-1] for name, o in outputs.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"members have different vocabularies: {sizes}")
