"""A signal is one file and one entry: here a student learns its teacher's mean hidden state through a projection.

Nothing outside this file knows of it. The edge owns the projection, which is trained like a member, saved with the run
and never exported.
"""

import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.tree_utils import tree_get

from ctcd_jax.config.builders import edge as configured_edge
from ctcd_jax.config.file import load_config
from ctcd_jax.distill import Cohort, Edge, Member, signals
from ctcd_jax.distill.signals import Rows, Signal
from ctcd_jax.models.registry import build
from ctcd_jax.training import init_state, make_train_step, train
from ctcd_jax.training.masking import train_keys
from ctcd_jax.training.sharding import make_mesh, place_rows
from tests.training.helpers import experiment, masker, one_device_mesh, rows

NAME = "teacher->student#mean_hidden"


def features(shape):
    return (f"hidden_{shape.layers}",)


def one_a_row(edge, rows: Rows):
    return jnp.any(rows.attention_mask, axis=1).astype(jnp.float32)  # an empty row fills up a batch of validation


def distance(edge, params, source, target, rows: Rows):
    """float32[B]: the squared distance between the rows' means over real tokens, the target's projected."""
    real = rows.attention_mask[..., None]

    def mean(states):
        (hidden,) = states.values()
        return jnp.sum(hidden.astype(jnp.float32) * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)

    return jnp.sum((mean(source) - mean(target) @ params["kernel"]) ** 2, axis=-1)


def projection(edge, key, source, target):
    return {"kernel": 0.02 * jax.random.normal(key, (target.hidden, source.hidden))}


@pytest.fixture(scope="module", autouse=True)
def mean_hidden():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(signals.SIGNALS, "mean_hidden", Signal(features, one_a_row, distance, projection))
        yield


def setup(edges=None, **options):
    """A narrow student that learns from a wider teacher by logits and by the signal."""
    edges = edges or (Edge("teacher", "student"), Edge("teacher", "student", weight=2.0, signal="mean_hidden"))
    cohort = Cohort({"teacher": Member(), "student": Member()}, edges)
    made = experiment(cohort, learning_rate=1e-2, clip_norm=None, **options)
    return replace(made, models=made.models | {"student": replace(made.models["student"], hidden=8)})


def run(made, steps=2, mesh=None):
    """Returns the states after each step, on the host, and their results."""
    mesh = mesh or one_device_mesh()
    state, step = init_state(made, mesh), make_train_step(made, masker(), mesh)
    states, results = [], []
    for _ in range(steps):
        state, result = step(state, {}, place_rows(rows(), mesh))
        states.append(jax.device_get(state.replace(key=0)))
        results.append(jax.device_get(result))
    return states, results


@pytest.fixture(scope="module")
def reference(mean_hidden):
    return run(setup(), steps=8)


def pair(state):
    return tuple(map(float, state.window.soft[NAME]))


def moment(learner):
    """The gradient of the first step: Adam's first moment after it, which is (1 - b1) times that."""
    return jax.tree.map(lambda mu: 10 * mu, tree_get(learner.opt_state, "mu"))


def test_its_mean_is_that_of_the_members_last_layers(reference):
    """In numpy, over what `encode` returns: neither the features nor the objective have a part in it."""
    made = setup()
    start = init_state(made, one_device_mesh())
    batch = masker()(train_keys(start.key, 0, jnp.arange(16)), jnp.asarray(rows()["input_ids"]))
    means = {}
    for name, member in start.members.items():
        encode = jax.jit(partial(build(made.models[name]).apply, method="encode"))
        hidden = encode({"params": member.params}, batch.input_ids, batch.attention_mask, batch.segment_ids)
        pairs = zip(np.asarray(hidden), np.asarray(batch.attention_mask), strict=True)
        means[name] = np.stack([row[real].mean(axis=0) for row, real in pairs])
    projected = means["student"] @ np.asarray(start.edges[NAME].params["kernel"])
    difference = means["teacher"] - projected
    first = reference[0][0]
    assert pair(first) == pytest.approx(((difference**2).sum(), 16), rel=1e-4)
    gradient = -2 * 2.0 / 16 * means["student"].T @ difference  # of the edge's weight times the mean
    np.testing.assert_allclose(moment(first.edges[NAME])["kernel"], gradient, rtol=1e-3, atol=1e-5)
    assert set(first.window.soft_t1) == {"teacher->student"}


def test_the_student_and_the_projection_learn_from_it_and_the_teacher_does_not(reference):
    (first, *_, last), results = reference
    (without, *_), _ = run(setup((Edge("teacher", "student"),)), steps=1)
    assert without.edges == {}

    def gradient(state, name):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(moment(state.members[name]))])

    np.testing.assert_allclose(gradient(first, "teacher"), gradient(without, "teacher"), rtol=1e-3, atol=1e-7)
    assert not np.allclose(gradient(first, "student"), gradient(without, "student"), rtol=1e-3, atol=1e-7)
    assert all(result["gradient_norms"][NAME] > 0 for result in results)
    assert not np.allclose(first.edges[NAME].params["kernel"], last.edges[NAME].params["kernel"], atol=1e-3)


def test_devices_and_micro_batches_change_nothing(reference):
    found, _ = run(setup(micro_batches=2), mesh=make_mesh(4, 2, jax.devices()[:8]))
    expected = reference[0]
    for ours, theirs in zip(found, expected, strict=False):
        assert pair(ours) == pytest.approx(pair(theirs), rel=1e-4)
    gradients = [moment(states[0].edges[NAME])["kernel"] for states in (found, expected)]
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-5)


def test_an_overflow_of_float16_skips_the_projection_as_it_skips_its_target():
    made = setup(dtype="float16")
    mesh = one_device_mesh()
    state, step = init_state(made, mesh), make_train_step(made, masker(), mesh)
    before = jax.device_get(state.edges[NAME].params)
    scale = state.members["student"].loss_scale.replace(scale=jnp.float32(jnp.inf))
    members = state.members | {"student": state.members["student"].replace(loss_scale=scale)}
    after, result = step(state.replace(members=members), {}, place_rows(rows(), mesh))
    assert bool(result["finite"])
    np.testing.assert_array_equal(after.edges[NAME].params["kernel"], before["kernel"])
    assert after.edges[NAME].loss_scale is None


@pytest.mark.slow
def test_a_run_with_it_is_configured_resumed_and_exported_like_any_other(corpus, tmp_path, monkeypatch):
    config = load_config("ctcd:smoke")
    config.edges = (*config.edges, configured_edge("teacher", "student", signal="mean_hidden"))
    config.data.corpus = str(corpus)
    config.train.update({"steps": 4, "log_every": 2, "eval_every": 4, "checkpoint_every": 2})
    record = train(config, tmp_path / "run", log=lambda line: None)
    assert record["edges"][NAME].keys() == {"soft"}
    whole = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    assert train(config, tmp_path / "run", log=lambda line: None) == record
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == whole
