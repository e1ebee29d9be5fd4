"""One step of a whole cohort: every member's forward pass, every loss and every update in one jitted function.

Read `distill/cohort.py` (who teaches whom) and `distill/objective.py` (Eq. 1-5) first; this is where batches, models
and losses meet. There is no branch on the method: a method is a cohort.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ctcd_jax.config import Experiment
from ctcd_jax.distill import Cohort, Outputs, fused
from ctcd_jax.distill.features import feature_denominators, feature_losses, needed_features
from ctcd_jax.distill.objective import Losses, Mean, Terms, add_losses, add_parts, denominators
from ctcd_jax.distill.schedules import weight_factors
from ctcd_jax.distill.signals import Rows
from ctcd_jax.models.registry import build, sown_features
from ctcd_jax.runtime.hardware import Devices
from ctcd_jax.training.keys import named_key
from ctcd_jax.training.masking import MaskedBatch, Masker, train_keys, validation_keys
from ctcd_jax.training.optimizer import make_optimizer
from ctcd_jax.training.sharding import batch_sharding, gather, replicated
from ctcd_jax.training.state import LearnerState, LossScale, Params, TrainState, abstract_state

# Bytes of logits that a device holds at once, unless `train.loss_chunk` says how many tokens'. On CPUs less is faster,
# too: the CTCD step of `small` with 64 rows takes 1.08 times as long with all of its 310 MB (2 cores).
LOGITS_BYTES, LOGITS_BYTES_ON_CPU = 2**30, 2**27


def train_step(
    experiment: Experiment, masker: Masker, losses, shardings, state: TrainState, frozen: Params, batch: dict
) -> tuple[TrainState, dict[str, Any]]:
    """One update of every learner: of each trainable member, and of each edge that owns parameters.

    Args:
      experiment: the cohort, the models and the optimizers.
      masker: of the corpus.
      losses: `fused.cohort_losses`, with chunk and groups bound, or `objective.cohort_losses`.
      shardings: of the learners' parameters while computing, and of their gradients: (whole, {learner: tree}).
      state: before the step.
      frozen: parameters of the frozen members.
      batch: "input_ids" int[B, L], unmasked.

    Returns:
      The state after it, and {"finite": bool, "loss": float32, "gradient_norms": {learner: float32}}. `finite`
      is False if a loss or gradient is not finite. With float16 that is an overflow, which the member's loss scale
      handles, until the scale has nothing left to give. The norms are those before clipping.
    """
    whole, sharded = shardings
    cohort, steps = experiment.cohort, experiment.train.steps
    rows = jnp.arange(batch["input_ids"].shape[0])
    masked = masker(train_keys(state.key, state.step, rows), batch["input_ids"])
    # All masks are drawn and all denominators known before the first micro-batch, so k micro-batches are one batch.
    totals = batch_denominators(cohort, masked)
    factors = weight_factors(cohort, state.step.astype(jnp.float32) / steps)
    scales = {name: m.loss_scale.scale if m.loss_scale else 1.0 for name, m in state.members.items()}

    def micro_step(params: Params, part: MaskedBatch, number: jax.Array) -> tuple[dict, tuple[Losses, Terms]]:
        frozen_outputs = {name: member_outputs(experiment, name, frozen[name], part) for name in cohort.frozen}

        def loss_fn(params):
            # Parameters are gathered where they are used, and only there (FSDP); without fsdp this does nothing.
            params = {
                name: gather(tree, whole, sharded[name], experiment.train.dtype if name in state.members else None)
                for name, tree in params.items()
            }
            trainable_outputs = {
                name: member_outputs(experiment, name, params[name], part, dropout_key(state, name, number))
                for name in cohort.trainable
            }
            each, terms = objective(cohort, losses, frozen_outputs | trainable_outputs, part, totals, params, factors)
            # A member's gradient is that of its own loss, so a scale of its own is exact.
            return sum(scales[name] * loss for name, loss in each.items()), (each, terms)

        with jax.sharding.use_abstract_mesh(whole.mesh.abstract_mesh):  # which `ops.lookup` asks for
            return jax.grad(loss_fn, has_aux=True)(params)

    gradients, (each, terms) = accumulate(micro_step, state.params, masked, experiment.train.micro_batches)
    loss = add_losses(each)

    updated, norms, finite = {}, {}, []
    member_of = {name: name for name in state.members} | {edge.name: edge.target for edge in cohort.feature_edges}
    for name, learner in state.learners.items():
        optimizer = make_optimizer(experiment.optimizers[member_of[name]], steps)
        scale = state.members[member_of[name]].loss_scale
        updated[name], norms[name], ok = update(learner, gradients[name], optimizer, scale)
        finite.append(ok)
    if experiment.train.dtype == "float16":  # an overflow of the forward pass must not spoil the log line
        terms = jax.tree.map(_without_overflow, terms, is_leaf=lambda term: isinstance(term, Mean))
    else:
        finite.append(jnp.isfinite(loss))
    after = TrainState(
        step=state.step + 1,
        key=state.key,
        members={name: updated[name] for name in state.members},
        window=jax.tree.map(jnp.add, state.window, terms),
        tokens=state.tokens + jnp.sum(masked.attention_mask, dtype=jnp.int32),
        edges={name: updated[name] for name in state.edges},
    )
    return after, {"finite": jnp.all(jnp.stack(finite)), "loss": loss, "gradient_norms": norms}


def member_outputs(
    experiment: Experiment, name: str, params: dict, part: MaskedBatch, key: jax.Array | None = None
) -> Outputs:
    """One member's forward pass: what the cohort needs of it, where it needs it.

    Args:
      experiment: which the member is part of.
      name: of the member.
      params: its parameters.
      part: the batch, or a micro-batch of it.
      key: of dropout; None for none.
    """
    settings, shape = experiment.train, experiment.models[name]
    model = build(shape, jnp.dtype(settings.dtype), settings.attention, settings.remat)
    needed = needed_features(experiment.cohort, name, shape)
    (hidden, kernel, bias), sown = model.apply(
        {"params": params},
        part.input_ids,
        part.attention_mask,
        part.segment_ids,
        part.positions if experiment.cohort.positions == "masked" else None,
        deterministic=key is None,
        rngs=None if key is None else {"dropout": key},
        method="outputs",
        mutable=["intermediates"] if needed else [],
    )
    return Outputs(hidden.reshape(-1, hidden.shape[-1]), (kernel, bias), sown_features(sown, needed))


def objective(
    cohort: Cohort,
    losses,
    outputs: Mapping[str, Outputs],
    part: MaskedBatch,
    totals: Mapping,
    params: Params,
    factors: Mapping[str, jax.Array] = MappingProxyType({}),
) -> tuple[Losses, Terms]:
    """Returns what each trainable member minimises on a part of a batch, and every term.

    Args:
      cohort, losses: as for `train_step`.
      outputs: of every member, on this part.
      part: the tokens.
      totals: `batch_denominators` of the whole batch.
      params: of the edges that own any, by name, among others.
      factors: of the edges' weights, by name.
    """
    predictions = losses(cohort, outputs, *targets(cohort, part), totals, factors)
    return add_parts((predictions, feature_losses(cohort, outputs, signal_rows(part), totals, params, factors)))


def targets(cohort: Cohort, part: MaskedBatch) -> tuple[jax.Array, jax.Array]:
    """Returns (labels int[N], weights float32[N]) of the tokens that `member_outputs` gives, in its order."""
    labels, real = part.row_labels, part.attention_mask
    if cohort.positions == "masked":
        labels, real = part.labels, jnp.take_along_axis(part.attention_mask, part.positions, axis=1)
    return labels.reshape(-1), real.reshape(-1).astype(jnp.float32)


def signal_rows(part: MaskedBatch) -> Rows:
    """Returns what edges of other signals than logits know of a part of a batch."""
    return Rows(part.attention_mask, part.segment_ids)


def batch_denominators(cohort: Cohort, masked: MaskedBatch) -> dict[str, jax.Array]:
    """Returns what the means of a whole batch divide by: `denominators` and `feature_denominators`."""
    return denominators(*targets(cohort, masked)) | feature_denominators(cohort, signal_rows(masked))


def dropout_key(state: TrainState, name: str, micro_batch: jax.Array) -> jax.Array:
    """A function of (seed, member, step, micro-batch): another member more or less changes nobody's dropout.

    Args:
      state: gives seed and step.
      name: of the member.
      micro_batch: int, its number in the step.
    """
    of_step = jax.random.fold_in(named_key(state.key, f"dropout/{name}"), state.step)
    return jax.random.fold_in(of_step, micro_batch)


def accumulate(micro_step, params: Params, masked: MaskedBatch, parts: int) -> tuple[dict, tuple[Losses, Terms]]:
    """Returns gradients, losses and terms summed over micro-batches, each of which all devices share.

    Args:
      micro_step: (params, micro-batch, its number) -> (gradients, (losses, terms)).
      params: what gradients are taken of.
      masked: the batch.
      parts: micro-batches; divides the rows.
    """
    if parts == 1:
        return micro_step(params, masked, jnp.zeros((), jnp.int32))
    # Every micro-batch takes each parts-th row: contiguous ones would lie on a few devices only.
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), masked)

    def body(total, numbered):
        return jax.tree.map(jnp.add, total, micro_step(params, *numbered)), None

    first = jax.tree.map(lambda x: x[0], split)
    zero = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(micro_step, params, first, jnp.zeros((), jnp.int32))
    )
    return jax.lax.scan(body, zero, (split, jnp.arange(parts)))[0]


def update(
    learner: LearnerState, gradients: dict, optimizer: optax.GradientTransformationExtraArgs, scale: LossScale | None
) -> tuple[LearnerState, jax.Array, jax.Array]:
    """Returns the learner after one update, the norm of its gradient before clipping, and whether the update is sound.

    With a loss scale, an overflow skips this learner's update (and nobody else's) and is sound, unless the scale is 1.
    Parameters that float16 cannot hold are not sound: every pass through them would overflow, whatever the scale.

    Args:
      learner: before it.
      gradients: of its parameters, times the scale.
      optimizer: of `make_optimizer`.
      scale: of the member that minimises the loss: the learner's own, or for an edge its target's, which changes there.
    """
    if scale:
        gradients = jax.tree.map(lambda g: g / scale.scale, gradients)
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(norm)
    updates, opt_state = optimizer.update(gradients, learner.opt_state, learner.params, norm=norm)
    params: Any = optax.apply_updates(learner.params, updates)
    if not scale:
        return LearnerState(params, opt_state, None), norm, finite
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), (params, opt_state), (learner.params, learner.opt_state)
    )
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(params)]))
    fits = largest <= jnp.finfo(jnp.float16).max
    after = learner.loss_scale and scale.update(finite)
    return LearnerState(params, opt_state, after), norm, fits & (finite | (scale.scale > 1))


def _without_overflow(term: Mean) -> Mean:
    return jax.tree.map(partial(jnp.where, jnp.isfinite(term.total)), term, jax.tree.map(jnp.zeros_like, term))


def evaluation_step(experiment: Experiment, masker: Masker, losses, params: Params, batch: dict) -> Terms:
    """Returns the terms of one validation batch, without dropout.

    Args:
      experiment, masker, losses: as for `train_step`.
      params: of all members, and of the edges that own any.
      batch: "input_ids" int[B, L] and "rows" int[B], their numbers in the split.
    """
    cohort = experiment.cohort
    masked = masker(validation_keys(batch["rows"]), batch["input_ids"])
    outputs = {name: member_outputs(experiment, name, params[name], masked) for name in cohort.members}
    return objective(cohort, losses, outputs, masked, batch_denominators(cohort, masked), params)[1]


def fused_losses(experiment: Experiment, devices: Devices):
    """Returns `fused.cohort_losses` for tokens shared by `devices`, with a bounded size of logits on each."""
    vocabulary = next(iter(experiment.models.values())).vocab_size
    limit = LOGITS_BYTES_ON_CPU if devices[0].platform == "cpu" else LOGITS_BYTES
    fits = limit // (4 * vocabulary * len(experiment.models))
    return partial(fused.cohort_losses, chunk=experiment.train.loss_chunk or max(1, fits), groups=len(devices))


# Sums by atomic additions, and kernels chosen by timing them, differ from run to run. What XLA cannot compile without
# them it refuses.
_DETERMINISTIC = {"xla_gpu_deterministic_ops": True}


def _compiler_options(experiment: Experiment, mesh: Mesh) -> dict[str, bool]:
    on_gpus = mesh.devices.flat[0].platform == "gpu"
    return _DETERMINISTIC if experiment.train.deterministic and on_gpus else {}


def make_train_step(experiment: Experiment, masker: Masker, mesh: Mesh, losses=None):
    """Returns `train_step` compiled for the mesh, (state, frozen, batch) -> (state, result). The state is donated.

    Args:
      experiment: what is trained.
      masker: of the corpus.
      mesh: of devices.
      losses: another function with the meaning of `fused.cohort_losses`, e.g. `objective.cohort_losses`.
    """
    state = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(experiment, mesh))
    losses = losses or fused_losses(experiment, list(mesh.devices.flat))
    step = partial(train_step, experiment, masker, losses, (replicated(mesh), state.params))
    return jax.jit(
        step,
        in_shardings=(state, replicated(mesh), batch_sharding(mesh)),
        out_shardings=(state, replicated(mesh)),
        donate_argnums=0,
        compiler_options=_compiler_options(experiment, mesh),
    )


def make_evaluation(experiment: Experiment, masker: Masker, mesh: Mesh):
    """Returns the compiled sum of `evaluation_step` over batches: (params, batches) -> terms.

    The sum is taken inside the program, so that each batch waits for the one before: many programs at once, each with
    its own collectives, can starve one another on a machine with more devices than cores.

    Args:
      experiment: what is evaluated.
      masker: of the corpus.
      mesh: of devices.
    """
    step = jax.jit(partial(evaluation_step, experiment, masker, fused_losses(experiment, list(mesh.devices.flat))))

    def add(params: Params, batch: dict, sums: Terms) -> Terms:
        return jax.tree.map(jnp.add, sums, step(params, batch))

    shardings = (None, batch_sharding(mesh), replicated(mesh))
    options = _compiler_options(experiment, mesh)
    add = jax.jit(add, in_shardings=shardings, out_shardings=replicated(mesh), compiler_options=options)

    def evaluate(params: Params, batches: Iterable[dict]) -> Terms:
        sums = None
        for batch in batches:
            if sums is None:
                sums = jax.tree.map(lambda term: np.zeros(term.shape, term.dtype), jax.eval_shape(step, params, batch))
            sums = add(params, batch, sums)
        if sums is None:
            raise ValueError("there are no batches to evaluate on")
        return sums

    return evaluate
