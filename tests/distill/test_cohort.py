"""Which graphs are cohorts, and what is said of those that are not."""

import pytest

from ctcd_jax.distill import Cohort, Edge, Member

PAIR = {"teacher": Member(), "student": Member()}


def test_defaults_are_the_papers():
    edge = Edge("teacher", "student")
    assert (edge.weight, edge.temperature, edge.divergence, edge.positions) == (1.0, 1.0, "forward_kl", "masked")
    assert (Member().trainable, Member().hard_weight) == (True, 1.0)


def test_an_edge_of_weight_zero_is_gone():
    cohort = Cohort(PAIR, (Edge("teacher", "student"), Edge("student", "teacher", weight=0.0, positions="attended")))
    assert [edge.name for edge in cohort.edges] == ["teacher->student"]
    assert cohort.positions == "masked"


def test_members_are_split_by_whether_they_learn():
    cohort = Cohort({"t": Member(trainable=False), "a": Member(), "b": Member()}, (Edge("t", "a"), Edge("a", "b")))
    assert cohort.trainable == ("a", "b")
    assert cohort.frozen == ("t",)


def test_equal_cohorts_hash_alike():
    assert hash(Cohort(dict(PAIR), (Edge("teacher", "student"),))) == hash(Cohort(PAIR, (Edge("teacher", "student"),)))
    assert Cohort(PAIR) != Cohort(PAIR, (Edge("teacher", "student"),))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cohort(PAIR, (Edge("techer", "student"),)), r"no member 'techer' \(did you mean 'teacher'\?\)"),
        (lambda: Cohort(PAIR, (Edge("teacher", "x"),)), r"no member 'x' \(known: student, teacher\)"),
        (lambda: Cohort(PAIR | {"teacher": Member(False)}, (Edge("student", "teacher"),)), "'teacher' is frozen"),
        (lambda: Cohort(PAIR, (Edge("teacher", "student"),) * 2), "is there 2 times"),
        (lambda: Cohort({"teacher": Member(False)}), "no member is trainable"),
        (lambda: Edge("a", "a"), "cannot teach itself"),
        (lambda: Edge("a", "b", temperature=0), r"edge a->b: temperature is 0; it must be a number above 0"),
        (lambda: Edge("a", "b", weight=-1), r"edge a->b: weight is -1; it must be a number at least 0"),
        (lambda: Edge("a", "b", weight=float("nan")), r"edge a->b: weight is nan; it must be a number at least 0"),
        (lambda: Edge("a", "b", temperature=float("inf")), r"edge a->b: temperature is inf; it must be a number above"),
        (lambda: Edge("a", "b", temperature=None), r"edge a->b: temperature is None; it must be a number above 0"),
        (lambda: Member(hard_weight=-1), r"member: hard_weight is -1; it must be a number at least 0"),
        (lambda: Edge("a", "b", divergence=3), "no divergence '3'"),
        (lambda: Edge("a", "b", divergence="forward-kl"), "did you mean 'forward_kl'"),
        (lambda: Edge("a", "b", positions="all"), "no positions 'all'"),
        (lambda: Edge("a", "b", signal="hidden"), "no signal 'hidden'"),
    ],
)
def test_what_cannot_be_trained_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
