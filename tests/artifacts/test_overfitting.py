"""Overfitting is said once, and only where both losses say so."""

import itertools

from ctcd_jax.artifacts.overfitting import Overfitting, teach_each_other


def lines(trained, held_out):
    for step, (train, validation) in enumerate(zip(trained, held_out, strict=True), start=1):
        for kind, loss in (("train", train), ("validation", validation)):
            yield {"kind": kind, "step": 100 * step, "members": {"student": {"hard": loss}, "teacher": {}}}


def said(lines, earlier=(), taught=False):
    watch = Overfitting(earlier, taught)
    return [text for line in lines if (text := watch.take(line))]


WORSE = list(lines([5.0, 4.5, 4.0, 3.6, 3.3, 3.0], [5.2, 5.1, 5.15, 5.25, 5.4, 5.6]))


def test_it_is_said_at_the_third_evaluation_after_the_best_and_once():
    (text,) = said(WORSE)
    assert "'student' overfits: from step 200 to 500 its validation loss rose from 5.100 to 5.400, while" in text
    assert "training loss fell from 4.500 to 3.300" in text
    assert text.endswith("more text, or members that teach each other (ctcd)")
    assert said(WORSE, taught=True)[0].endswith("optimizer.weight_decay=0.1, more text")


def test_a_session_that_goes_on_says_it_if_and_only_if_the_one_before_did_not():
    for cut in range(len(WORSE) + 1):
        before, after = said(WORSE[:cut]), said(WORSE[cut:], WORSE[:cut])
        assert len(before) + len(after) == 1


def test_what_is_not_overfitting_is_not_said():
    assert not said(lines([5.0] * 6, [5.2, 5.1, 5.15, 5.25, 5.4, 5.6]))  # the training loss does not fall: divergence
    assert not said(lines([5.0, 4.9, 4.8, 4.7, 4.6, 4.5], [5.2, 5.1, 5.11, 5.12, 5.13, 5.14]))  # hardly a rise
    assert not said(lines([5.0, 4.9, 4.8, 4.7, 4.6, 4.5], [5.2, 5.1, 5.3, 5.05, 5.4, 5.5]))  # better in between
    assert not said(lines([None] * 6, [5.2, 5.1, 5.3, 5.5, 5.6, 5.8]))
    frozen = itertools.repeat({"kind": "validation", "step": 100, "members": {"teacher": {}}}, 5)
    assert not said(frozen)


def test_members_teach_each_other_where_an_edge_has_its_reverse():
    assert teach_each_other([("teacher", "student"), ("student", "teacher")])
    assert not teach_each_other([("teacher", "student1"), ("teacher", "student2")])
    assert not teach_each_other([])
