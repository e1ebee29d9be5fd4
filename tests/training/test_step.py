"""The step: the laws of the cohort that need an optimizer, and the same numbers on any mesh and in parts."""

import re
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.training import step as step_module
from ctcd_jax.training.optimizer import learning_rate, make_optimizer
from ctcd_jax.training.sharding import gather, make_mesh, place_rows, tree_shardings
from ctcd_jax.training.state import LossScale, abstract_state, init_state, scratch_params
from ctcd_jax.training.step import make_train_step
from tests.training.helpers import CTCD, VOCABULARY, experiment, masker, one_device_mesh, rows, with_cohort

ONE_WAY = Cohort(CTCD.members, (Edge("teacher", "student"),))
ALONE = {name: Cohort({name: Member()}) for name in CTCD.members}


def run(setup, steps=3, mesh=None, frozen=None, batch=rows):
    """Returns the state after some steps and the loss of each."""
    mesh = mesh or one_device_mesh()
    state, step = init_state(setup, mesh), make_train_step(setup, masker(), mesh)
    losses = []
    for number in range(steps):
        state, metrics = step(state, frozen or {}, place_rows(batch(setup.batch_size, seed=number), mesh))
        losses.append(float(metrics["loss"]))
        assert bool(metrics["finite"])
    return jax.device_get(state.replace(key=0)), losses


@pytest.fixture(scope="module")
def reference():
    """`run(setup, steps)`, once for all tests that compare another run with it: what compiles is most of the time."""
    runs = {}

    def run_once(setup, steps=3):
        key = repr((setup, steps))
        if key not in runs:
            runs[key] = run(setup, steps)
        return runs[key]

    return run_once


def params_of(state):
    return {name: member.params for name, member in state.members.items()}


def assert_close(a, b, relative, floor=0.0):
    """Leaf by leaf, |a - b| <= relative * max(|b|, floor), in the 2-norm."""

    def compare(path, x, y):
        difference, size = np.linalg.norm(x - y), np.linalg.norm(y)
        assert difference <= relative * max(size, floor), (jax.tree_util.keystr(path), difference, size)

    jax.tree_util.tree_map_with_path(compare, a, b)


def hard(state, name):
    return float(state.window.hard[name].total)


@pytest.fixture(scope="module")
def ctcd_step():
    """The step of CTCD in float32 on one device, compiled once."""
    return make_train_step(experiment(), masker(), one_device_mesh())


# Law 2: a member without incoming edges trains as it would alone.


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_law_2_initial_parameters_do_not_depend_on_the_cohort(name):
    together = scratch_params(experiment(CTCD), name)
    alone = scratch_params(experiment(ALONE[name]), name)
    jax.tree.map(np.testing.assert_array_equal, together, alone)


def test_law_2_a_member_without_teachers_trains_as_alone():
    setup = experiment(ONE_WAY, dropout=0.1, clip_norm=0.5)
    together, _ = run(setup, steps=20)
    alone, _ = run(with_cohort(setup, ALONE["teacher"]), steps=20)
    assert hard(together, "teacher") == pytest.approx(hard(alone, "teacher"), rel=1e-5)
    assert_close(params_of(together)["teacher"], params_of(alone)["teacher"], 1e-4, floor=1e-2)


def test_law_2_first_update_is_that_of_training_alone():
    """With a gradient step instead of AdamW's, the update is the gradient: its first moment after one step."""
    setup = experiment(ONE_WAY, dropout=0.1)
    moments = [
        optax.tree_utils.tree_get(run(s, steps=1)[0].members["teacher"].opt_state, "mu")
        for s in (setup, with_cohort(setup, ALONE["teacher"]))
    ]
    assert_close(*moments, 1e-6, floor=1e-3 * float(optax.tree.norm(moments[1])))


def test_law_2_a_member_with_a_teacher_does_not_train_as_alone():
    setup = experiment(ONE_WAY)
    together, _ = run(setup, steps=5)
    alone, _ = run(with_cohort(setup, ALONE["student"]), steps=5)
    assert hard(together, "student") != pytest.approx(hard(alone, "student"), rel=1e-5)


def test_law_2_an_edge_of_weight_zero_changes_nothing():
    zero = Cohort(CTCD.members, (Edge("teacher", "student"), Edge("student", "teacher", weight=0.0)))
    (a, loss_a), (b, loss_b) = (run(experiment(cohort, dropout=0.1)) for cohort in (zero, ONE_WAY))
    assert loss_a == loss_b
    jax.tree.map(np.testing.assert_array_equal, params_of(a), params_of(b))


# Law 3: a frozen member costs a forward pass.


def frozen_setup():
    cohort = Cohort({"teacher": Member(trainable=False), "student": Member()}, (Edge("teacher", "student"),))
    setup = experiment(cohort, dropout=0.1)
    teacher = scratch_params(with_cohort(experiment(CTCD), ALONE["teacher"]), "teacher")
    return setup, {"teacher": teacher}


def test_law_3_a_frozen_member_is_neither_trained_nor_kept():
    setup, frozen = frozen_setup()
    state, _ = run(setup, frozen=frozen)
    assert set(state.members) == {"student"}
    assert set(state.window.hard) == {"student"}
    assert state.window.accuracy["teacher"].weight > 0


def test_law_3_a_frozen_member_has_no_backward_pass_and_no_dropout():
    """Counted in the compiled program: removing the teacher saves just the products of its forward pass."""
    setup, frozen = frozen_setup()

    def products(setup, frozen):
        mesh = one_device_mesh()
        step = make_train_step(setup, masker(), mesh)
        program = step.lower(init_state(setup, mesh), frozen, place_rows(rows(), mesh)).as_text()
        return program.count("stablehlo.dot_general"), program.count("threefry")

    with_teacher, alone = products(setup, frozen), products(with_cohort(setup, ALONE["student"]), {})
    layers = setup.models["teacher"].layers
    forward = layers * (2 + 2 + 2) + 1 + 1  # q+k+v, output; scores, mixture; up, down; the head and its decoder
    assert with_teacher[0] - alone[0] == forward
    assert with_teacher[1] == alone[1]


# Law 5: sums and weights.


@pytest.mark.parametrize(("parts", "positions"), [(4, "attended"), pytest.param(2, "masked", marks=pytest.mark.slow)])
def test_law_5_micro_batches_are_one_batch(parts, positions, reference):
    cohort = Cohort(CTCD.members, (Edge("teacher", "student", positions=positions), Edge("student", "teacher")))
    whole, losses = reference(experiment(cohort, b2=0.5))
    split, split_losses = run(experiment(cohort, b2=0.5, micro_batches=parts))
    np.testing.assert_allclose(split_losses, losses, rtol=1e-6)
    assert_close(params_of(split), params_of(whole), 1e-4, floor=1e-2)
    assert float(split.tokens) == float(whole.tokens)


@pytest.mark.parametrize(
    ("shape", "positions"),
    [
        ((1, 8), "masked"),
        ((2, 4), "attended"),
        pytest.param((8, 1), "attended", marks=pytest.mark.slow),
        pytest.param((2, 4), "masked", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_law_5_eight_devices_are_one(shape, positions, reference):
    cohort = Cohort(CTCD.members, (Edge("teacher", "student", positions=positions), Edge("student", "teacher")))
    setup = experiment(cohort)
    one, losses = reference(setup)
    eight, eight_losses = run(setup, mesh=make_mesh(*shape))
    np.testing.assert_allclose(eight_losses, losses, rtol=2e-6)
    moments = [optax.tree_utils.tree_get(s.members["student"].opt_state, "mu") for s in (eight, one)]
    assert_close(*moments, 1e-4, floor=1e-3 * float(optax.tree.norm(moments[1])))


def test_law_5_a_loss_in_chunks_is_the_same_on_eight_devices_and_waits_for_none_within_a_chunk(reference):
    cohort = Cohort(CTCD.members, (Edge("teacher", "student", positions="attended"), Edge("student", "teacher")))
    setup = experiment(cohort)
    chunked = replace(setup, train=replace(setup.train, loss_chunk=20))
    _, losses = reference(setup)
    mesh = make_mesh(8, 1)
    _, chunked_losses = run(chunked, mesh=mesh)
    np.testing.assert_allclose(chunked_losses, losses, rtol=2e-6)
    step = make_train_step(chunked, masker(), mesh)
    program = step.lower(init_state(chunked, mesh), {}, place_rows(rows(), mesh)).compile().as_text()
    bodies = re.findall(r"body=%?([\w.-]+)", program)
    texts = [re.search(rf"^%?{re.escape(body)} \(.*?^}}", program, re.MULTILINE | re.DOTALL)[0] for body in bodies]
    assert any("dot(" in text or "fusion(" in text for text in texts)
    assert not any("all-reduce" in text or "all-gather" in text for text in texts)
    assert "all-reduce" in program


def test_products_of_a_step_are_as_few_and_as_small_as_they_can_be(ctcd_step):
    """Every matrix product of a CTCD step, counted by the size of its result."""
    setup, mesh = experiment(), one_device_mesh()
    program = ctcd_step.lower(init_state(setup, mesh), {}, place_rows(rows(), mesh)).as_text()
    results = Counter(re.findall(r"stablehlo.dot_general.*-> tensor<([\dx]+)x(?:f32|bf16)>", program))
    layers, rows_, length, slots, hidden, wide = 2 + 1, 16, 24, 4, 16, 32
    tokens, predicted = f"{rows_}x{length}x", rows_ * slots
    # q, k and v are one product; the head and the vocabulary see the predicted positions alone.
    expected = Counter(
        {
            f"{tokens}{3 * hidden}": layers,
            f"{hidden}x{3 * hidden}": layers,
            f"{rows_}x2x{length}x{length}": 2 * layers,  # scores, and the gradient of the weights
            f"{rows_}x2x{length}x{hidden // 2}": 2 * layers,  # mixture, and the gradient of q
            f"{rows_}x2x{hidden // 2}x{length}": 2 * layers,  # the gradients of k and v: on CPUs by their smaller side
            f"{tokens}{hidden}": 5 * layers,  # output, down, and the gradients of what enters qkv, output, up
            f"{tokens}{wide}": 2 * layers,  # up, and the gradient of what enters down
            f"{hidden}x{hidden}": layers + 2,  # output, and both heads' transforms
            f"{hidden}x{wide}": 2 * layers,  # up, and down: on CPUs by its smaller side, and transposed then
            f"{rows_}x{slots}x{hidden}": 2 * 2,
            f"1x{predicted}x{VOCABULARY}": 2,
            f"1x{predicted}x{hidden}": 2,
            f"1x{hidden}x{VOCABULARY}": 2,
            f"1x1x{VOCABULARY}": 2,  # the gradients of the heads' biases: on CPUs a product with ones
        }
    )
    assert results == expected


def test_fsdp_splits_parameters_and_moments():
    mesh = make_mesh(1, 8)
    state = init_state(experiment(), mesh)
    kernel = state.members["teacher"].params["layer_0"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (kernel.shape[0] // 8, kernel.shape[1])
    moment = optax.tree_utils.tree_get(state.members["teacher"].opt_state, "mu")["embeddings"]["word"]
    assert moment.addressable_shards[0].data.shape == (moment.shape[0], moment.shape[1] // 8)


def test_kernels_are_gathered_in_the_dtype_of_the_products_which_changes_nothing(monkeypatch):
    """What a product rounds on every device may be rounded before it travels."""
    setup, mesh = experiment(dtype="bfloat16"), make_mesh(1, 8)

    def made():
        step = make_train_step(setup, masker(), mesh)
        text = step.lower(init_state(setup, mesh), {}, place_rows(rows(), mesh)).as_text()
        return run(setup, mesh=mesh)[0], len(re.findall(r"sharding_constraint.*: tensor<\w+xbf16>", text))

    narrow, in_bfloat16 = made()
    with monkeypatch.context() as patched:
        patched.setattr(step_module, "gather", lambda tree, whole, sharded, kernels: gather(tree, whole, sharded))
        wide, none = made()
    kernels = [path for path, _ in jax.tree.leaves_with_path(narrow.params) if path[-1].key == "kernel"]
    assert (in_bfloat16, none) == (2 * len(kernels), 0)  # a part of it, and the whole
    step, alone = make_train_step(setup, masker(), one_device_mesh()), init_state(setup, one_device_mesh())
    text = step.lower(alone, {}, place_rows(rows(), one_device_mesh())).as_text()
    assert not re.search(r"sharding_constraint.*: tensor<\w+xbf16>", text)  # where nothing travels nothing is rounded
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


def test_an_array_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="no sharding rule for 'new/table'"):
        tree_shardings({"new": {"table": jnp.zeros((4, 4))}}, one_device_mesh())


def test_the_old_state_is_donated(ctcd_step):
    setup, mesh = experiment(), one_device_mesh()
    state = init_state(setup, mesh)
    ctcd_step(state, {}, place_rows(rows(), mesh))
    assert state.members["teacher"].params["layer_0"]["up"]["kernel"].is_deleted()


def test_members_that_learn_from_each_other_learn():
    """CTCD on one batch, over and over: both hard losses fall."""
    setup = experiment(steps=60, learning_rate=1e-2)
    first, _ = run(setup, steps=1, batch=lambda count, seed: rows(count))
    many, _ = run(setup, steps=60, batch=lambda count, seed: rows(count))
    for name in CTCD.members:
        assert hard(many, name) / 60 < 0.95 * hard(first, name)


# The optimizer.


def test_schedule():
    settings = experiment(steps=100).optimizers["teacher"]
    rate = learning_rate(replace(settings, warmup_fraction=0.1), 100)
    values = [float(rate(n)) for n in range(101)]
    assert values[0] > 0
    assert max(values) == values[10] == pytest.approx(5e-4)
    assert values[100] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(np.diff(values[10:]), -5e-4 / 90, rtol=1e-3)
    constant = learning_rate(replace(settings, schedule="constant", warmup_fraction=0.0), 100)
    assert float(constant(0)) == float(constant(99)) == pytest.approx(5e-4)


def test_biases_and_layer_norms_are_not_decayed():
    setup = experiment(weight_decay=1.0, warmup_fraction=0.0)
    params = jax.tree.map(jnp.ones_like, scratch_params(setup, "teacher"))
    optimizer = make_optimizer(setup.optimizers["teacher"], 10)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(nothing, optimizer.init(params), params, norm=jnp.zeros(()))

    def check(path, update):
        vector = jax.tree_util.keystr(path, simple=True, separator="/").endswith(("bias", "scale"))
        assert (np.asarray(update) == 0).all() == vector

    jax.tree_util.tree_map_with_path(check, updates)


def test_each_member_is_clipped_by_its_own_norm():
    """Clipping the teacher hard must leave the student's gradient as it was."""
    loose, tight = experiment(ONE_WAY, clip_norm=1e9), experiment(ONE_WAY, clip_norm=1e9)
    tight.optimizers["teacher"] = replace(tight.optimizers["teacher"], clip_norm=1e-3)
    after = {key: run(setup, steps=1)[0] for key, setup in (("loose", loose), ("tight", tight))}
    norm = {
        (key, name): float(optax.tree.norm(optax.tree_utils.tree_get(state.members[name].opt_state, "mu")))
        for key, state in after.items()
        for name in CTCD.members
    }
    assert norm["tight", "teacher"] == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert norm["loose", "teacher"] > 1e-2
    assert norm["tight", "student"] == norm["loose", "student"]


# Low precision.


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_low_precision_follows_float32(dtype, reference):
    _, exact = reference(experiment(steps=10), steps=10)
    state, losses = run(experiment(steps=10, dtype=dtype), steps=10)
    np.testing.assert_allclose(losses, exact, rtol=5e-3)
    assert {leaf.dtype for leaf in jax.tree.leaves(params_of(state))} == {np.dtype("float32")}


def test_an_overflow_skips_one_members_update_and_halves_its_scale_alone():
    setup, mesh = experiment(dtype="float16"), one_device_mesh()
    state = init_state(setup, mesh)
    huge = state.members["student"].replace(
        loss_scale=LossScale(jnp.asarray(2.0**100, jnp.float32), jnp.zeros((), jnp.int32))
    )
    state = state.replace(members=state.members | {"student": huge})
    before = jax.device_get(params_of(state))
    state, metrics = make_train_step(setup, masker(), mesh)(state, {}, place_rows(rows(), mesh))
    assert bool(metrics["finite"])
    jax.tree.map(np.testing.assert_array_equal, params_of(state)["student"], before["student"])
    assert float(state.members["student"].loss_scale.scale) == 2.0**99
    moved = state.members["teacher"].params["layer_0"]["up"]["kernel"]
    assert (np.asarray(moved) != before["teacher"]["layer_0"]["up"]["kernel"]).any()
    assert int(state.members["teacher"].loss_scale.good_updates) == 1


def test_an_overflow_at_the_smallest_scale_is_reported():
    setup, mesh = experiment(dtype="float16"), one_device_mesh()
    state = init_state(setup, mesh)
    params = jax.tree.map(lambda x: x * jnp.inf, state.members["student"].params)
    scale = LossScale(jnp.asarray(1.0, jnp.float32), jnp.zeros((), jnp.int32))
    broken = state.replace(
        members=state.members | {"student": state.members["student"].replace(params=params, loss_scale=scale)}
    )
    after, metrics = make_train_step(setup, masker(), mesh)(broken, {}, place_rows(rows(), mesh))
    assert not bool(metrics["finite"])
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(after.window))


def test_a_loss_scale_grows_after_enough_good_updates():
    scale = LossScale(jnp.asarray(8.0), jnp.asarray(1999, jnp.int32)).update(jnp.asarray(True))
    assert (float(scale.scale), int(scale.good_updates)) == (16.0, 0)


def test_a_poisoned_parameter_is_reported(ctcd_step):
    setup, mesh = experiment(), one_device_mesh()
    state = init_state(setup, mesh)
    params = jax.tree.map(lambda x: x * jnp.nan, state.members["teacher"].params)
    poisoned = state.replace(members=state.members | {"teacher": state.members["teacher"].replace(params=params)})
    _, metrics = ctcd_step(poisoned, {}, place_rows(rows(), mesh))
    assert not bool(metrics["finite"])


# Memory: there is one state, not two.


def test_the_state_is_updated_in_place(ctcd_step):
    setup, mesh = experiment(), one_device_mesh()
    state, batch = init_state(setup, mesh), place_rows(rows(), mesh)
    memory = ctcd_step.lower(abstract_state(setup, mesh), {}, batch).compile().memory_analysis()
    arrays = [jax.random.key_data(leaf) if leaf is state.key else leaf for leaf in jax.tree.leaves(state)]
    assert memory.alias_size_in_bytes >= sum(leaf.nbytes for leaf in arrays)
    members = jax.tree.leaves(state.members)
    ctcd_step(state, {}, batch)
    assert all(leaf.is_deleted() for leaf in members)
