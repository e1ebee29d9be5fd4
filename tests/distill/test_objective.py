"""The objective against numbers worked out by hand, and its first law."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctcd_jax.distill import Cohort, Edge, Member, cohort_loss, cohort_terms, objective
from tests.distill.helpers import CTCD, EVERY_EDGE, PAIR, random_outputs

# Two classes: softmax([log 3, 0]) = (3/4, 1/4) and softmax([0, 0]) = (1/2, 1/2).
TEACHER = jnp.asarray([[math.log(3), 0.0]])
STUDENT = jnp.asarray([[0.0, 0.0]])
ONE = (jnp.asarray([0]), jnp.ones(1))


def soft(edge, name="soft"):
    terms = cohort_terms(Cohort(PAIR, (edge,)), {"t": TEACHER, "s": STUDENT}, *ONE)
    return float(getattr(terms, name)["t->s"].total)


KL_TS = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
KL_ST = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
# At temperature 2 the teacher's odds are sqrt(3).
WARM = math.sqrt(3) / (1 + math.sqrt(3))
KL_WARM = WARM * math.log(WARM / 0.5) + (1 - WARM) * math.log((1 - WARM) / 0.5)
JS = (
    0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)
    + 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375)
) / 2  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, KL_TS),
        ({"divergence": "reverse_kl"}, KL_ST),
        ({"divergence": "jensen_shannon"}, JS),
        ({"temperature": 2.0}, KL_WARM),
        ({"temperature": 2.0, "tau_squared": True}, 4 * KL_WARM),
        ({"weight": 4.0}, KL_TS),
    ],
)
def test_soft_loss_of_one_token(options, expected):
    assert soft(Edge("t", "s", **options)) == pytest.approx(expected, rel=1e-5)


def test_soft_t1_is_comparable_between_temperatures():
    for options in ({}, {"temperature": 2.0}, {"temperature": 5.0, "tau_squared": True}):
        assert soft(Edge("t", "s", **options), "soft_t1") == pytest.approx(KL_TS, rel=1e-5)


def test_hard_loss_accuracy_and_agreement():
    logits = {
        "t": jnp.log(jnp.asarray([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])),
        "s": jnp.log(jnp.asarray([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7]])),
    }
    labels, weights = jnp.asarray([0, 1, -100, 2]), jnp.asarray([1.0, 1.0, 1.0, 0.0])
    terms = cohort_terms(Cohort(PAIR, CTCD), logits, labels, weights)
    assert float(terms.hard["t"][0]) == pytest.approx(-math.log(0.7) - math.log(0.8), rel=1e-5)
    assert float(terms.hard["s"][0]) == pytest.approx(-math.log(0.6) - math.log(0.3), rel=1e-5)
    assert [float(x) for x in terms.accuracy["t"]] == [2, 2]
    assert [float(x) for x in terms.accuracy["s"]] == [1, 2]
    assert [float(x) for x in terms.agreement["t~s"]] == [1, 2]


def test_masked_edges_average_over_predicted_tokens_and_attended_edges_over_real_ones():
    rng = np.random.default_rng(0)
    outputs = {name: jnp.asarray(rng.normal(size=(5, 7)), jnp.float32) for name in PAIR}
    labels, weights = jnp.asarray([3, -100, 6, 1, -100]), jnp.asarray([1.0, 1.0, 1.0, 0.0, 0.0])
    each = objective.divergence(Edge("t", "s"), outputs["t"], outputs["s"])
    for positions, where in (("masked", [0, 2]), ("attended", [0, 1, 2])):
        cohort = Cohort(PAIR, (Edge("t", "s", positions=positions),))
        total, weight = cohort_terms(cohort, outputs, labels, weights).soft["t->s"]
        assert float(weight) == len(where)
        assert float(total) == pytest.approx(float(each[jnp.asarray(where)].sum()), rel=1e-6)


def test_the_loss_is_equation_4():
    loss, metrics = cohort_loss(
        Cohort({"t": Member(hard_weight=2.0), "s": Member()}, (Edge("t", "s", weight=3.0), Edge("s", "t", weight=4.0))),
        {"t": TEACHER, "s": STUDENT},
        *ONE,
    )
    assert float(loss) == pytest.approx(2 * -math.log(0.75) + -math.log(0.5) + 3 * KL_TS + 4 * KL_ST, rel=1e-5)
    assert float(metrics.soft["t->s"]) == pytest.approx(KL_TS, rel=1e-5)


def test_a_frozen_member_has_no_hard_loss():
    terms = cohort_terms(Cohort({"t": Member(False), "s": Member()}, CTCD[:1]), {"t": TEACHER, "s": STUDENT}, *ONE)
    assert set(terms.hard) == {"s"}


@pytest.mark.parametrize("edge", EVERY_EDGE, ids=lambda e: f"{e.divergence}-{e.positions}-{e.temperature}")
def test_law_1_no_gradient_reaches_the_source(edge):
    outputs, labels, weights = random_outputs(count=50)
    cohort = Cohort(PAIR, (edge,))

    def soft_loss(outputs):
        return cohort_terms(cohort, outputs, labels, weights).soft["t->s"][0]

    gradient = jax.grad(soft_loss)(outputs)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["t"]))
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradient["s"]))


def test_extreme_logits_stay_finite():
    outputs = {"t": jnp.asarray([[1e4, -1e4, 0.0]]), "s": jnp.asarray([[-1e4, 1e4, 0.0]])}
    for divergence in ("forward_kl", "reverse_kl", "jensen_shannon"):
        cohort = Cohort(PAIR, (Edge("t", "s", divergence=divergence), Edge("s", "t", divergence=divergence)))
        loss, gradient = jax.value_and_grad(lambda o, c=cohort: cohort_loss(c, o, *ONE)[0])(outputs)
        assert np.isfinite(loss)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_nothing_to_predict_is_a_loss_of_zero():
    loss, _ = cohort_loss(
        Cohort(PAIR, CTCD), {"t": TEACHER, "s": STUDENT}, jnp.asarray([-100]), jnp.zeros(1)
    )  # fmt: skip
    assert float(loss) == 0


def test_law_4_one_vocabulary():
    with pytest.raises(ValueError, match=r"different vocabularies: {'t': 2, 's': 3}"):
        cohort_terms(Cohort(PAIR), {"t": TEACHER, "s": jnp.zeros((1, 3))}, *ONE)


def test_outputs_must_be_the_members():
    with pytest.raises(ValueError, match=r"outputs are of \['t'\]"):
        cohort_terms(Cohort(PAIR), {"t": TEACHER}, *ONE)
