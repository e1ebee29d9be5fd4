"""Edges that teach later, shorter or less and less: the factor of their weight, in the losses and in the step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.distill import Cohort, Edge, Member, fused, objective
from ctcd_jax.distill.objective import denominators
from ctcd_jax.distill.schedules import weight_factor, weight_factors
from ctcd_jax.training import init_state, make_train_step
from ctcd_jax.training.metrics import record
from ctcd_jax.training.sharding import place_rows
from tests.distill.helpers import PAIR, random_outputs
from tests.training.helpers import experiment, masker, one_device_mesh, rows


@pytest.mark.parametrize(
    ("options", "expected"),  # at 0, 1/4, 1/2, 3/4 of the steps and just before their end
    [
        ({}, (1, 1, 1, 1, 1)),
        ({"begin": 0.25}, (0, 1, 1, 1, 1)),
        ({"end": 0.5}, (1, 1, 0, 0, 0)),
        ({"schedule": "linear"}, (1, 0.75, 0.5, 0.25, 0)),
        ({"schedule": "linear", "begin": 0.5}, (0, 0, 1, 0.5, 0)),
        ({"schedule": "cosine", "end": 0.5}, (1, 0.5, 0, 0, 0)),
    ],
)
def test_the_factor_of_a_weight(options, expected):
    edge = Edge("t", "s", **options)
    found = [float(weight_factor(edge, jnp.float32(done))) for done in (0, 0.25, 0.5, 0.75, 1 - 1e-6)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert edge.scheduled == bool(options)


def test_edges_that_do_not_change_cost_nothing():
    cohort = Cohort(PAIR, (Edge("t", "s"), Edge("s", "t", schedule="linear")))
    assert set(weight_factors(cohort, jnp.float32(0))) == {"s->t"}


@pytest.mark.parametrize("positions", ["masked", "attended"])
def test_a_factor_is_a_factor_of_the_weight(positions):
    """In the fused losses and in their definition, with every gradient."""

    def cohort(weight):
        return Cohort(PAIR, (Edge("t", "s", weight=weight, temperature=2.0, positions=positions), Edge("s", "t")))

    outputs, labels, weights = random_outputs()
    totals = denominators(labels, weights)

    def value(losses, weight, factors, outputs):
        each, _ = losses(cohort(weight), outputs, labels, weights, totals, factors)
        return sum(each.values()), each

    for losses in (objective.cohort_losses, fused.cohort_losses):
        found, expected = (
            jax.jit(jax.grad(partial(value, losses, weight, factors), has_aux=True))(outputs)
            for weight, factors in ((3.0, {"t->s": jnp.float32(0.25)}), (0.75, {}))
        )
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, expected)


def test_a_run_learns_from_an_edge_when_it_has_begun():
    """Four steps, from the third on: as without the edge before, and as with it all along after none of its steps."""

    def states(*edges):
        setup = experiment(Cohort({"teacher": Member(), "student": Member()}, edges), steps=4, learning_rate=1e-2)
        mesh = one_device_mesh()
        state, step = init_state(setup, mesh), make_train_step(setup, masker(), mesh)
        for _ in range(4):
            state, _ = step(state, {}, place_rows(rows(), mesh))
            yield jax.device_get(jax.tree.leaves(state.members["student"].params))

    late = states(Edge("teacher", "student", weight=8.0, begin=0.5))
    equal = [all(map(np.array_equal, ours, theirs)) for ours, theirs in zip(late, states(), strict=True)]
    assert equal == [True, True, False, False]


def test_the_loss_of_a_line_has_the_weights_of_its_last_step():
    cohort = Cohort(PAIR, (Edge("t", "s", weight=4.0, schedule="linear"),))
    terms = objective.Terms(
        accuracy={name: objective.Mean(1.0, 4.0) for name in PAIR},
        hard={name: objective.Mean(8.0, 4.0) for name in PAIR},
        soft={"t->s": objective.Mean(2.0, 4.0)},
        soft_t1={"t->s": objective.Mean(2.0, 4.0)},
    )
    for step, factor in ((1, 1.0), (6, 0.5), (10, 0.1)):
        assert record("train", step, 0, terms, cohort, 10)["loss"] == pytest.approx(4 + 4 * factor * 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linaer"}, r"edge t->s: no schedule 'linaer' \(did you mean 'linear'"),
        ({"begin": 0.5, "end": 0.5}, r"edge t->s: it begins at 0\.5 of the steps and ends at 0\.5"),
        ({"begin": -0.1}, r"edge t->s: begin is -0\.1"),
        ({"end": 1.5}, r"edge t->s: end is 1\.5"),
    ],
)
def test_what_is_no_schedule_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Edge("t", "s", **options)
