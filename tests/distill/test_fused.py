"""The fused losses against their definition: value, terms and gradient, for every kind of edge, however divided."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.distill import Cohort, Edge, Member, Outputs, cohort_loss, fused, objective
from ctcd_jax.distill.objective import denominators
from tests.distill.helpers import CTCD, EVERY_EDGE, PAIR, random_outputs

# A frozen teacher, two students that teach each other, every divergence, three temperatures, both kinds of positions.
COMMUNITY = Cohort(
    {"t": Member(trainable=False), "s1": Member(hard_weight=0.5), "s2": Member()},
    (
        Edge("t", "s1", temperature=2.0, tau_squared=True, divergence="reverse_kl"),
        Edge("t", "s2", weight=3.0, positions="attended"),
        Edge("s1", "s2", temperature=2.0, divergence="jensen_shannon", positions="attended"),
        Edge("s2", "s1", weight=0.5, temperature=3.0, tau_squared=True),
    ),
)


def compare(cohort, outputs, labels, weights, relative=1e-5, **division):
    """The fused function against the definition; every member's loss counts differently, as loss scales make it."""
    scales = {name: 2.0**number for number, name in enumerate(cohort.trainable)}
    totals = denominators(labels, weights)

    def value(losses, outputs):
        each, terms = losses(cohort, outputs, labels, weights, totals)
        return sum(scales[name] * loss for name, loss in each.items()), (each, terms)

    results = []
    for losses in (objective.cohort_losses, partial(fused.cohort_losses, **division)):
        results.append(jax.jit(jax.grad(partial(value, losses), has_aux=True))(outputs))
    (expected, (losses, terms)), (gradient, (fused_losses, fused_terms)) = results
    for name, loss in losses.items():
        assert float(fused_losses[name]) == pytest.approx(float(loss), rel=relative), name
    jax.tree.map(partial(np.testing.assert_allclose, rtol=relative, atol=1e-6), fused_terms, terms)
    for name in cohort.members:
        for a, b in zip(jax.tree.leaves(gradient[name]), jax.tree.leaves(expected[name]), strict=True):
            assert a.dtype == b.dtype
            a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
            assert np.linalg.norm(a - b) <= relative * np.linalg.norm(b), name


@pytest.mark.parametrize("edge", EVERY_EDGE, ids=lambda e: f"{e.divergence}-{e.positions}-{e.temperature}")
def test_equals_the_definition_for_every_kind_of_edge(edge):
    compare(Cohort(PAIR, (edge,)), *random_outputs())
    compare(Cohort(PAIR, (edge, replace(edge, source="s", target="t", weight=4.0))), *random_outputs(seed=1), chunk=50)


@pytest.mark.parametrize(
    ("count", "chunk", "groups"),
    [(120, None, 1), (120, 120, 1), (120, 1000, 1), (120, 40, 1), (119, 40, 1), (7, 3, 1), (1, 1, 1), (120, 7, 8)],
)
def test_however_the_tokens_are_divided(count, chunk, groups):
    compare(COMMUNITY, *random_outputs(count, members=COMMUNITY.members), chunk=chunk, groups=groups)


def test_chunks_of_padding_alone_and_a_batch_of_it():
    outputs, labels, weights = random_outputs()
    compare(Cohort(PAIR, CTCD), outputs, labels, weights * (jnp.arange(120) < 30), chunk=20)
    losses, _ = fused.cohort_losses(Cohort(PAIR, CTCD), outputs, labels, 0 * weights, denominators(labels, 0 * weights))
    assert [float(loss) for loss in losses.values()] == [0, 0]


def test_one_member_without_edges():
    compare(Cohort({"s": Member()}), *random_outputs(members=["s"]), chunk=50)


@pytest.mark.parametrize(("dtype", "relative"), [(jnp.bfloat16, 1e-2), (jnp.float16, 1e-3)])
def test_low_precision_is_as_close_as_its_products_allow(dtype, relative):
    compare(Cohort(PAIR, CTCD), *random_outputs(dtype=dtype), relative=relative)


def test_float16_gradients_of_a_large_batch_do_not_vanish():
    # The mean over 40,000 tokens of p - y is below float16's least number for most of the vocabulary.
    outputs, labels, weights = random_outputs(40_000, vocabulary=501, dtype=jnp.float16)
    wide = {name: Outputs(o.hidden.astype(jnp.float32), o.head) for name, o in outputs.items()}
    cohort = Cohort(PAIR, CTCD)
    gradients = [
        jax.grad(lambda o: cohort_loss(cohort, o, labels, weights)[0])(each)["s"].head[0] for each in (outputs, wide)
    ]
    assert np.linalg.norm(gradients[0] - gradients[1]) < 1e-3 * np.linalg.norm(gradients[1])


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_extreme_logits(divergence):
    cohort = Cohort(PAIR, (Edge("t", "s", divergence=divergence), Edge("s", "t", divergence=divergence)))
    logits = {"t": [1e4, -1e4, 0.0], "s": [-1e4, 1e4, 0.0]}
    outputs = {name: Outputs(jnp.ones((1, 1)), (jnp.zeros((1, 3)), jnp.asarray(z))) for name, z in logits.items()}
    token = jnp.asarray([0]), jnp.ones(1)
    compare(cohort, outputs, *token)
    loss, gradient = jax.value_and_grad(lambda outputs: cohort_loss(cohort, outputs, *token)[0])(outputs)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_an_infinite_logit_counts_where_a_token_is_real_and_only_there():
    outputs, labels, weights = random_outputs()
    labels, weights = labels.at[:2].set(1), weights.at[0].set(0).at[1].set(1)
    for row, finite in ((0, True), (1, False)):
        broken = outputs | {"s": outputs["s"]._replace(hidden=outputs["s"].hidden.at[row].set(jnp.inf))}
        loss, gradient = jax.value_and_grad(lambda o: cohort_loss(Cohort(PAIR, CTCD), o, labels, weights)[0])(broken)
        assert bool(np.isfinite(loss)) == finite
        assert bool(np.isfinite(gradient["t"].head[0]).all()) == finite


@pytest.mark.parametrize("edge", EVERY_EDGE[::3], ids=lambda e: f"{e.divergence}-{e.positions}-{e.temperature}")
def test_law_1_no_gradient_reaches_the_source(edge):
    outputs, labels, weights = random_outputs()
    cohort = Cohort({"t": Member(hard_weight=0.0), "s": Member()}, (edge,))
    gradient = jax.grad(lambda outputs: cohort_loss(cohort, outputs, labels, weights)[0])(outputs)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["t"]))
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradient["s"]))


def test_no_array_of_all_logits_exists_in_the_compiled_program():
    count, vocabulary = 4096, 509
    outputs, labels, weights = random_outputs(count, vocabulary)
    totals = denominators(labels, weights)

    def compiled(chunk):
        def loss(outputs):
            losses, _ = fused.cohort_losses(Cohort(PAIR, CTCD), outputs, labels, weights, totals, chunk=chunk)
            return sum(losses.values())

        return jax.jit(jax.grad(loss)).lower(outputs).compile()

    whole, chunked = compiled(None), compiled(256)
    assert largest_array(whole.as_text()) == count * vocabulary
    assert largest_array(chunked.as_text()) < count * vocabulary / 4
    temporaries = [program.memory_analysis().temp_size_in_bytes for program in (whole, chunked)]
    assert temporaries[1] < temporaries[0] / 4


def largest_array(program: str) -> int:
    """Returns the number of elements of the largest array that a compiled program names."""
    shapes = re.findall(r"\b(?:f32|bf16|f16|s32|u32|pred|u8)\[([\d,]+)\]", program)
    return max(int(np.prod([int(size) for size in shape.split(",")])) for shape in shapes)


def test_logits_are_computed_once():
    outputs, labels, weights = random_outputs(256, vocabulary=97)
    loss = jax.jit(jax.grad(lambda o: cohort_loss(Cohort(PAIR, CTCD), o, labels, weights)[0]))
    products = [line for line in loss.lower(outputs).as_text().splitlines() if "stablehlo.dot_general" in line]
    # Of each member: the logits, and the gradients of the hidden states, the head and (on CPUs, by ones) its bias.
    assert len(products) == 8
    assert sum("tensor<1x1x256xf32>" in line for line in products) == 2


def test_what_cannot_be_divided_or_compared_is_refused():
    outputs, labels, weights = random_outputs(10)
    totals = denominators(labels, weights)
    with pytest.raises(ValueError, match="10 tokens cannot be divided into 3 equal groups"):
        fused.cohort_losses(Cohort(PAIR, CTCD), outputs, labels, weights, totals, groups=3)
    with pytest.raises(ValueError, match=r"outputs are of \['t'\]"):
        fused.cohort_losses(Cohort(PAIR, CTCD), {"t": outputs["t"]}, labels, weights, totals)
