"""What a cohort minimises (Lee et al. 2023, Eq. 1-5): pure functions of the members' predictions.

For one token with label y, and p_m = softmax(z_m) of member m:

    hard loss of m               -log p_m(y)
    soft loss of s->t, Eq. 1     D(StopG(p_s^tau), p_t^tau) = sum_k p_s^tau(k) log(p_s^tau(k) / p_t^tau(k))

    loss = sum_m hard_weight_m * mean(hard_m) + sum_e weight_e * mean(soft_e)

Every term is a (sum, weight) pair: it is added up over chunks, micro-batches and devices, and divided once.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ctcd_jax.distill.cohort import Cohort, Edge
from ctcd_jax.ops import accumulator, linear

LOG_2 = math.log(2.0)

Terms = dict[str, tuple[jax.Array, jax.Array]]
Losses = dict[str, jax.Array]


class Outputs(NamedTuple):
    """A member's predictions before the last matrix product: logits = hidden @ kernel + bias.

    Attributes:
      hidden: float[N, H].
      head: (kernel float[H, V], bias float[V]).
    """

    hidden: jax.Array
    head: tuple[jax.Array, jax.Array]


def cohort_losses(
    cohort: Cohort,
    outputs: Mapping[str, jax.Array | Outputs],
    labels: jax.Array,
    weights: jax.Array,
    totals: Mapping[str, jax.Array],
) -> tuple[Losses, Terms]:
    """Returns what each trainable member minimises (`member_losses`) and the terms of `cohort_terms`, as arithmetic for
    autodiff on whole logits. This is the definition; `fused.cohort_losses` computes the same from `Outputs`, faster.
    """
    terms = cohort_terms(cohort, outputs, labels, weights)
    return member_losses(cohort, terms, totals), terms


def cohort_terms(
    cohort: Cohort, outputs: Mapping[str, jax.Array | Outputs], labels: jax.Array, weights: jax.Array
) -> Terms:
    """Returns the terms of the loss, and figures to watch, as {name: (sum, weight)}, all float32 scalars.

    `hard/MEMBER` and `soft/SOURCE->TARGET` (with tau^2, where the edge asks for it, but without the edge's
    weight) make up the loss. `accuracy/MEMBER`, `agreement/A~B` (predicted tokens on which two members' argmax is
    equal) and `soft_t1/SOURCE->TARGET` (the divergence at temperature 1, comparable between runs) carry no gradient.

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
    # StopG: whoever teaches is a constant. This is the only place where gradients between members are cut.
    constant = {name: jax.lax.stop_gradient(value) for name, value in logits.items()}
    predicted = weights * (labels >= 0)
    target = jnp.maximum(labels, 0)
    position_weights = {"masked": predicted, "attended": weights}

    def term(values, weight):
        # `where`, not a product: 0 * inf is NaN.
        return jnp.sum(jnp.where(weight > 0, values * weight, 0)), jnp.sum(weight)

    terms = {}
    for name in cohort.trainable:
        log_p = jax.nn.log_softmax(logits[name])
        terms[f"hard/{name}"] = term(-jnp.take_along_axis(log_p, target[:, None], axis=-1)[:, 0], predicted)
    for edge in cohort.edges:
        soft = divergence(edge, constant[edge.source], logits[edge.target])
        terms[f"soft/{edge.name}"] = term(soft, position_weights[edge.positions])
        if edge.temperature != 1 or edge.tau_squared:
            plain = Edge(edge.source, edge.target, divergence=edge.divergence)
            soft = divergence(plain, constant[edge.source], constant[edge.target])
        terms[f"soft_t1/{edge.name}"] = term(jax.lax.stop_gradient(soft), position_weights[edge.positions])
    guesses = {name: jnp.argmax(value, axis=-1) for name, value in constant.items()}
    for name in cohort.members:
        terms[f"accuracy/{name}"] = term(guesses[name] == labels, predicted)
    for a, b in combinations(cohort.members, 2):
        terms[f"agreement/{a}~{b}"] = term(guesses[a] == guesses[b], predicted)
    return terms


def denominators(labels: jax.Array, weights: jax.Array) -> dict[str, jax.Array]:
    """Returns the number of predicted ("masked") and of real ("attended") tokens, at least 1: what means divide by."""
    masked = jnp.sum(weights * (labels >= 0))
    return {"masked": jnp.maximum(masked, 1), "attended": jnp.maximum(jnp.sum(weights), 1)}


def member_losses(cohort: Cohort, terms: Terms, denominators: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns what each trainable member minimises: its hard loss and its incoming edges, weighted and normalised.

    By StopG, a member's gradient is that of its own entry alone.
    """
    losses = {}
    for name in cohort.trainable:
        loss = cohort.members[name].hard_weight * terms[f"hard/{name}"][0] / denominators["masked"]
        for edge in cohort.edges:
            if edge.target == name:
                loss += edge.weight * terms[f"soft/{edge.name}"][0] / denominators[edge.positions]
        losses[name] = loss
    return losses


def weigh(cohort: Cohort, terms: Terms, denominators: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the loss: Eq. 4 for CTCD, Eq. 5 for Community KD. Terms may be of a part of the denominators' batch."""
    return sum(member_losses(cohort, terms, denominators).values())


def divergence(edge: Edge, source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns float[N], nats: the edge's divergence between two members' logits float[N, V] (times tau^2 if asked)."""
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
