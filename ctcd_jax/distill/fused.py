"""The cohort's losses and their gradients in one pass over the tokens, without autodiff and without stored logits.

`objective.cohort_losses` is the definition; this is the same function for members given as `Outputs`, made for speed.
With p_m = softmax(z_m / tau) and label y, the gradient of each loss with respect to its learner's logits is known:

    hard loss of m                p_m - y                                       (tau = 1)
    forward_kl     s->t           (p_t - p_s) / tau
    reverse_kl     s->t           p_t (log(p_t / p_s) - D(p_t, p_s)) / tau
    jensen_shannon s->t           p_t (log(p_t / m) - KL(p_t, m)) / (2 tau),    m = (p_s + p_t) / 2

so logits and every softmax are computed once, a learner's gradient is one array however many teach it, and both matrix
products of the head's backward pass follow at once, while the logits are there. Nothing needs them a second time:
taking the tokens in chunks saves the memory of the logits and recomputes nothing. StopG needs no marking here; a
teacher's logits only appear as constants of its learner's gradient.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ctcd_jax.distill import objective
from ctcd_jax.distill.cohort import Cohort
from ctcd_jax.distill.objective import (
    LOG_2,
    Losses,
    Mean,
    Outputs,
    Terms,
    add_losses,
    check_outputs,
    denominators,
    member_losses,
)
from ctcd_jax.ops import accumulator, linear, over_rows, sum_rows

CHUNK = 1024  # tokens of `cohort_loss` whose logits exist at once: 125 MB a member at a vocabulary of 30,522


def cohort_loss(
    cohort: Cohort, outputs: Mapping[str, jax.Array | Outputs], labels: jax.Array, weights: jax.Array
) -> tuple[jax.Array, Terms]:
    """Returns the loss of a whole batch, a scalar, and `cohort_terms` with means for its sums. Arguments as for
    `cohort_terms`.

    If every output is `Outputs`, gradients are in closed form and no [N, V] array is stored; if one is logits, all are
    computed by autodiff of `objective.cohort_losses`. The numbers are the same.
    """
    totals = denominators(labels, weights)
    unfinished = {name: output for name, output in outputs.items() if isinstance(output, Outputs)}
    if len(unfinished) == len(outputs):
        losses, terms = cohort_losses(cohort, unfinished, labels, weights, totals, chunk=CHUNK)
    else:
        losses, terms = objective.cohort_losses(cohort, outputs, labels, weights, totals)
    means = jax.tree.map(lambda m: m.total / jnp.maximum(m.weight, 1), terms, is_leaf=lambda m: isinstance(m, Mean))
    return add_losses(losses), means


def cohort_losses(
    cohort: Cohort,
    outputs: Mapping[str, Outputs],
    labels: jax.Array,
    weights: jax.Array,
    totals: Mapping[str, jax.Array],
    factors: Mapping[str, jax.Array] = MappingProxyType({}),
    chunk: int | None = None,
    groups: int = 1,
) -> tuple[Losses, Terms]:
    """Returns what each trainable member minimises, and every term of `objective.cohort_terms` (a constant).

    Value and gradient are those of `objective.cohort_losses`. Differentiable once, with respect to the members' hidden
    states and heads.

    Args:
      cohort: who learns from whom.
      outputs: of every member, hidden float[N, H] and head; H may differ, V may not.
      labels: int[N], -100 where nothing is predicted.
      weights: float[N], 1 = a real token.
      totals: `objective.denominators` of the whole batch, of which these tokens may be a part.
      factors: {edge: factor of its weight}, `schedules.weight_factors`.
      chunk: tokens of a group whose logits exist at once; None for all of them.
      groups: equal, contiguous parts of the tokens whose gradients are added up last. As many as devices share the
        tokens: then no chunk makes a device wait for the others.

    Raises:
      ValueError: outputs of other members than the cohort's, or of different vocabularies; groups do not divide N.
    """
    check_outputs(cohort, outputs)
    size, rest = divmod(labels.shape[0], groups)
    if rest:
        raise ValueError(f"{labels.shape[0]} tokens cannot be divided into {groups} equal groups")
    chunks = -(-size // chunk) if chunk else 1

    def split(x, fill=0):
        x = x.reshape(groups, size, *x.shape[1:])
        padding = [(0, 0)] * x.ndim
        padding[1] = (0, -size % chunks)
        x = jnp.pad(x, padding, constant_values=fill)
        return jnp.moveaxis(x.reshape(groups, chunks, -1, *x.shape[2:]), 1, 0)  # [chunk, group, token, ...]

    split_outputs = {name: Outputs(split(output.hidden), output.head) for name, output in outputs.items()}
    trainable = {name: split_outputs[name] for name in cohort.trainable}
    frozen = {name: split_outputs[name] for name in cohort.frozen}
    return _losses(cohort, trainable, frozen, split(labels, fill=-100), split(weights), dict(totals), dict(factors))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _losses(cohort, trainable, frozen, labels, weights, totals, factors):
    terms, _ = _sums(cohort, trainable, frozen, labels, weights, totals, factors, differentiate=False)
    return member_losses(cohort, terms, totals, factors), terms


def _losses_forward(cohort, trainable, frozen, labels, weights, totals, factors):
    terms, gradients = _sums(cohort, trainable, frozen, labels, weights, totals, factors, differentiate=True)
    like = {name: jnp.zeros((), output.hidden.dtype) for name, output in trainable.items()}
    return (member_losses(cohort, terms, totals, factors), terms), (gradients, like, totals)


def _losses_backward(cohort, saved, cotangents):
    gradients, like, totals = saved
    trainable = {}
    for name in cohort.trainable:
        # Only now are gradients as small as a mean's, and a float16 run's loss scale is in the cotangent.
        factor = cotangents[0][name] / totals["masked"]
        gradient = jax.tree.map(lambda g, factor=factor: g * factor, gradients[name])
        kernel, bias = (jnp.sum(by_group, axis=0) for by_group in gradient.head)
        trainable[name] = Outputs(gradient.hidden.astype(like[name].dtype), (kernel.T, bias))
    return trainable, None, None, None, None, None


_losses.defvjp(_losses_forward, _losses_backward)


def _sums(
    cohort, trainable, frozen, labels, weights, totals, factors, differentiate
) -> tuple[Terms, dict[str, Outputs]]:
    """Returns the terms, and the learners' gradients times `totals["masked"]`, in (at least) float32.

    Those of heads are (float[G, V, H], float[G, V]), a part a group: the kernel's as that of the embedding which it is
    tied to. So the sum over groups, which is one over devices, is followed by nothing but the sum with the gradient of
    the embedding's other use, and XLA lets the two travel as one (its pass "all-reduce-reassociate").
    """
    outputs = trainable | frozen
    kernels = {name: output.head[0].astype(output.hidden.dtype) for name, output in outputs.items()}

    def of_chunk(chunk) -> tuple[tuple[Terms, dict], dict]:
        hidden, labels, weights = chunk
        logits = {
            name: linear(x, kernels[name], outputs[name].head[1], accumulator(x.dtype)) for name, x in hidden.items()
        }
        flat = {name: z.reshape(-1, z.shape[-1]) for name, z in logits.items()}
        terms, logit_gradients = _token_sums(
            cohort, flat, labels.reshape(-1), weights.reshape(-1), totals, factors, labels.shape[0]
        )
        if not differentiate:
            return (terms, {}), {}
        head_gradients, hidden_gradients = {}, {}
        for name in cohort.trainable:
            exact = logit_gradients[name].reshape(logits[name].shape)
            gradient = exact.astype(kernels[name].dtype)
            head_gradients[name] = (over_rows(gradient, hidden[name], groups=1), sum_rows(exact))
            hidden_gradients[name] = jax.lax.dot_general(
                gradient, kernels[name], (((2,), (1,)), ((), ())), preferred_element_type=accumulator(gradient.dtype)
            )
        return (terms, head_gradients), hidden_gradients

    chunks = ({name: output.hidden for name, output in outputs.items()}, labels, weights)
    by_group, hidden_gradients = _sum_over_chunks(of_chunk, chunks)
    terms, head_gradients = jax.tree.map(lambda x: jnp.sum(x, axis=0), by_group[0]), by_group[1]
    return terms, {name: Outputs(hidden, head_gradients[name]) for name, hidden in hidden_gradients.items()}


def _sum_over_chunks(of_chunk, chunks):
    """Returns (sum of the first results, all the second results stacked) of `of_chunk` over the leading axis."""
    first = jax.tree.map(lambda x: x[0], chunks)
    if jax.tree.leaves(chunks)[0].shape[0] == 1:
        total, each = of_chunk(first)
        return total, jax.tree.map(lambda x: x[None], each)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_chunk, first)[0])

    def body(total, chunk):
        part, each = of_chunk(chunk)
        return jax.tree.map(jnp.add, total, part), each

    return jax.lax.scan(body, zero, chunks)


def _token_sums(cohort, logits, labels, weights, totals, factors, groups) -> tuple[Terms, dict[str, jax.Array]]:
    """Returns the terms of T tokens, a sum a group, and of each learner d(loss) / d(logits [T, V]) times
    `totals["masked"]`."""
    predicted = weights * (labels >= 0)
    position_weights = {"masked": predicted, "attended": weights}
    index = jax.lax.broadcasted_iota(labels.dtype, next(iter(logits.values())).shape, 1)
    target_ids = jnp.maximum(labels, 0)[:, None]
    largest = {name: jnp.max(z, axis=-1) for name, z in logits.items()}
    soften = cache(lambda name, temperature: softened(logits[name], largest[name], temperature))
    difference = cache(lambda a, b: logits[a] - logits[b])

    def diverge(kind, source, target, temperature):
        # One difference serves an edge and its reverse, at every temperature.
        first, second = sorted((source, target))
        factor = (1 if source == first else -1) / temperature
        return divergence(
            kind, soften(source, temperature), soften(target, temperature), difference(first, second), factor
        )

    def mean(values, weight):
        counted = jnp.where(weight > 0, values * weight, 0)
        return Mean(*(jnp.sum(x.reshape(groups, -1), axis=1) for x in (counted, weight)))

    terms, logit_gradients = Terms(), {}
    for name in cohort.trainable:
        p = soften(name, 1.0)
        surprise = p.log_total - jnp.take_along_axis(logits[name], target_ids, axis=-1)[:, 0]
        terms.hard[name] = mean(surprise, predicted)
        weight = cohort.members[name].hard_weight * predicted
        logit_gradients[name] = p.times(weight) - jnp.where(index == target_ids, weight[:, None], 0)
    for edge in cohort.logit_edges:
        weight = position_weights[edge.positions]
        scale = edge.temperature**2 if edge.tau_squared else 1.0
        value, gradient = diverge(edge.divergence, edge.source, edge.target, edge.temperature)
        terms.soft[edge.name] = mean(value * scale, weight)
        terms.soft_t1[edge.name] = mean(diverge(edge.divergence, edge.source, edge.target, 1.0)[0], weight)
        scaled = edge.weight * scale * factors.get(edge.name, 1.0)
        share = scaled / edge.temperature * totals["masked"] / totals[edge.positions]
        logit_gradients[edge.target] += gradient(share * weight)
    # Two plain reductions: the one over pairs that `jnp.argmax` makes is eight times slower on CPUs.
    guesses = {
        name: jnp.min(jnp.where(z == largest[name][:, None], index, z.shape[-1]), axis=-1) for name, z in logits.items()
    }
    for name in cohort.members:
        terms.accuracy[name] = mean(guesses[name] == labels, predicted)
    for a, b in combinations(cohort.members, 2):
        terms.agreement[f"{a}~{b}"] = mean(guesses[a] == guesses[b], predicted)
    # A token without weight may have logits that are not finite.
    return terms, {name: jnp.where((weights > 0)[:, None], gradient, 0) for name, gradient in logit_gradients.items()}


class Softened(NamedTuple):
    """p = softmax(z / tau) of T tokens in parts: p = exp / total, log p = z / tau - log_total.

    Attributes:
      exp: float[T, V], exp((z - max z) / tau).
      total: float[T], its sum.
      log_total: float[T], log(sum(exp(z / tau))).
    """

    exp: jax.Array
    total: jax.Array
    log_total: jax.Array

    def times(self, weight: jax.Array) -> jax.Array:
        """Returns weight[T] * p, without p."""
        return (weight / self.total)[:, None] * self.exp


def softened(logits: jax.Array, largest: jax.Array, temperature: float) -> Softened:
    """Returns the softmax at a temperature.

    Args:
      logits: float[T, V].
      largest: float[T], the largest of each row.
      temperature: that logits are divided by.
    """
    exp = jnp.exp((logits - largest[:, None]) / temperature)
    total = jnp.sum(exp, axis=-1)
    return Softened(exp, total, jnp.log(total) + largest / temperature)


def divergence(
    kind: str, p: Softened, r: Softened, difference: jax.Array, factor: float
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Returns the divergence float[T], in nats, and its gradient with respect to the target's softened logits.

    Args:
      kind: of `cohort.DIVERGENCES`.
      p: of the source.
      r: of the target.
      difference, factor: float[T, V] and a number, whose product is the source's softened logits less the target's.

    Returns:
      The value, and a function that gives float[T, V]: weight[T] times the gradient.
    """
    offset = r.log_total - p.log_total  # log p - log r = factor * difference + offset
    if kind == "forward_kl":
        value = factor * jnp.sum(p.exp * difference, axis=-1) / p.total + offset
        return value, lambda weight: r.times(weight) - p.times(weight)
    if kind == "reverse_kl":
        value = -factor * jnp.sum(r.exp * difference, axis=-1) / r.total - offset
        return value, lambda weight: -r.times(weight) * (factor * difference + (offset + value)[:, None])
    log_ratio = factor * difference + offset[:, None]
    # log(p / m) = log 2 - log(1 + r / p), and log(r / m) likewise
    of_source = jnp.sum(p.exp * (LOG_2 - jax.nn.softplus(-log_ratio)), axis=-1) / p.total
    log_r_m = LOG_2 - jax.nn.softplus(log_ratio)
    of_target = jnp.sum(r.exp * log_r_m, axis=-1) / r.total
    return (of_source + of_target) / 2, lambda weight: r.times(weight / 2) * (log_r_m - of_target[:, None])
