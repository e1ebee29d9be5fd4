"""Everything a run needs to go on: the trainable members, each with its optimizer, and the window of the log line."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from ctcd_jax.config import Experiment
from ctcd_jax.distill import Cohort, cohort_terms
from ctcd_jax.distill.features import init_edges
from ctcd_jax.distill.objective import Mean, Terms
from ctcd_jax.models.registry import abstract_params, init_params
from ctcd_jax.training.keys import named_key, root_key
from ctcd_jax.training.optimizer import make_optimizer
from ctcd_jax.training.sharding import place, placed, replicated, tree_shardings

# Updates without overflow after which a loss scale is doubled (Micikevicius et al. 2018).
GROWTH_INTERVAL = 2000

Params = Mapping[str, dict]


class LossScale(struct.PyTreeNode):
    """Dynamic loss scaling of one member, for float16: gradients too small for its range are lifted into it."""

    scale: jax.Array
    good_updates: jax.Array

    @classmethod
    def create(cls) -> "LossScale":
        return cls(scale=jnp.asarray(2.0**15, jnp.float32), good_updates=jnp.zeros((), jnp.int32))

    def update(self, finite: jax.Array) -> "LossScale":
        """Halves the scale after an overflow, doubles it after GROWTH_INTERVAL updates without one."""
        grown = self.good_updates + 1 >= GROWTH_INTERVAL
        scale = jnp.where(finite, jnp.where(grown, self.scale * 2, self.scale), jnp.maximum(self.scale / 2, 1.0))
        return LossScale(scale, jnp.where(finite & ~grown, self.good_updates + 1, 0))


class LearnerState(struct.PyTreeNode):
    """A trainable member, or an edge that owns parameters. `loss_scale` is None unless it is a member, in float16."""

    params: dict
    opt_state: optax.OptState
    loss_scale: LossScale | None


class TrainState(struct.PyTreeNode):
    """The state of a run, all of which is saved.

    Attributes:
      step: int32, updates done.
      key: the run's typed random key; every stream is derived from it by name and step.
      members: the trainable members by name. Frozen ones are kept apart: they never change.
      window: sums since the last log line, float32.
      tokens: int32, real tokens since the last log line, or since the host last took them over.
      edges: the edges that own parameters, by name.
    """

    step: jax.Array
    key: jax.Array
    members: dict[str, LearnerState]
    window: Terms
    tokens: jax.Array
    edges: dict[str, LearnerState] = struct.field(default_factory=dict)

    @property
    def learners(self) -> dict[str, LearnerState]:
        """Everything that is trained, by name."""
        return self.members | self.edges

    @property
    def params(self) -> Params:
        """The parameters of the learners, by name."""
        return {name: learner.params for name, learner in self.learners.items()}


def init_state(experiment: Experiment, mesh: Mesh, params: Params | None = None) -> TrainState:
    """Returns the state before the first step, sharded over the mesh.

    Args:
      experiment: the members and their optimizers.
      mesh: of devices.
      params: initial parameters of the members that do not start from scratch; the whole arrays, on every process.
    """
    given = params or {}
    start = {name: given.get(name) or scratch_params(experiment, name) for name in experiment.cohort.trainable}
    start = {name: place(tree, tree_shardings(tree, mesh)) for name, tree in start.items()}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(experiment, mesh))
    return jax.jit(partial(_new_state, experiment), out_shardings=shardings)(start)


def abstract_state(experiment: Experiment, mesh: Mesh) -> TrainState:
    """Returns the state's shapes, dtypes and shardings without computing it: what a checkpoint is restored into."""
    params = {name: abstract_params(experiment.models[name]) for name in experiment.cohort.trainable}
    shapes = jax.eval_shape(partial(_new_state, experiment), params)

    return jax.tree.map(placed, shapes, tree_shardings(shapes, mesh))


def abstract_frozen(experiment: Experiment, mesh: Mesh) -> Params:
    """Returns the shapes, dtypes and shardings of the frozen members' parameters: every device has them whole."""
    whole = replicated(mesh)
    return {
        name: jax.tree.map(lambda leaf: placed(leaf, whole), abstract_params(experiment.models[name]))
        for name in experiment.cohort.frozen
    }


def scratch_params(experiment: Experiment, name: str) -> dict:
    """Returns a member's random initial parameters: a function of (seed, name, shape) alone, whatever its cohort."""
    return init_params(experiment.models[name], named_key(root_key(experiment.seed), f"init/{name}"))


def reset_window(state: TrainState) -> TrainState:
    """Empties the sums of the log line."""
    return state.replace(window=jax.tree.map(jnp.zeros_like, state.window), tokens=jnp.zeros_like(state.tokens))


def _new_state(experiment: Experiment, params: Params) -> TrainState:
    cohort, key = experiment.cohort, root_key(experiment.seed)

    def learner(tree: dict, member: str) -> LearnerState:
        optimizer = make_optimizer(experiment.optimizers[member], experiment.train.steps)
        return LearnerState(tree, optimizer.init(tree), None)

    members = {name: learner(tree, name) for name, tree in params.items()}
    if experiment.train.dtype == "float16":
        members = {name: member.replace(loss_scale=LossScale.create()) for name, member in members.items()}
    keys = {edge.name: named_key(key, f"init/{edge.name}") for edge in cohort.feature_edges}
    owned = init_edges(cohort, keys, experiment.models)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        members=members,
        window=no_terms(cohort),
        tokens=jnp.zeros((), jnp.int32),
        edges={edge.name: learner(owned[edge.name], edge.target) for edge in cohort.edges if edge.name in owned},
    )


def no_terms(cohort: Cohort) -> Terms:
    """Returns the sums of no token at all."""
    outputs = {name: jax.ShapeDtypeStruct((1, 2), jnp.float32) for name in cohort.members}
    labels, weights = jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.float32)
    terms = jax.eval_shape(partial(cohort_terms, cohort), outputs, labels, weights)
    terms = jax.tree.map(lambda _: jnp.zeros((), jnp.float32), terms)
    nothing = Mean(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
    return replace(terms, soft=terms.soft | {edge.name: nothing for edge in cohort.feature_edges})
