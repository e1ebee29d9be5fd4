"""Extending and repairing a run: which fields `ctcd train --change` may change, and the history that is kept of it.

config.json   {..., "history": [{"from_step": 2000, "changed": {"train.steps": [2000, 4000]}}]}

The current values stand at the top level. A change holds from the step on that was the newest saved one: a second run
that trains to the same step and is changed alike ends with the same bytes.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ctcd_jax.artifacts.runs import Change, RunConfig
from ctcd_jax.config import Experiment, OptimizerSettings
from ctcd_jax.config.settings import member_optimizer
from ctcd_jax.training.optimizer import learning_rate
from ctcd_jax.training.sharding import place
from ctcd_jax.training.state import LossScale, TrainState

MENDABLE = re.compile(
    r"train\.(steps|epochs|dtype|early_stopping)|resolved\.(steps|dtype)|(members\.[^.]+\.)?optimizer\..+"
)
IN_WORDS = "train.steps, train.epochs, train.early_stopping, train.dtype and the fields of optimizer"

# {field of config.json: [before, after]}
Changed = Mapping[str, Sequence]


def with_change(history: Sequence[Change], step: int, changed: Changed) -> list[Change]:
    """Returns a history with one change more; nothing was learnt between two of the same step.

    Args:
      history: the changes so far, in their order.
      step: from which on it holds.
      changed: {field: [before, after]}.
    """
    return _merged([*history, {"from_step": step, "changed": dict(changed)}])


def going_on_from(history: Sequence[Change], step: int) -> list[Change]:
    """Returns the history of a run that goes on from an earlier step than its newest: later changes hold from there."""
    return _merged([{**entry, "from_step": min(entry["from_step"], step)} for entry in history])


def dtype_at(history: Sequence[Change], step: int, now: str) -> str:
    """Returns the compute dtype of the update that led to `step`, which decides what the saved state is made of.

    Args:
      history: the run's changes.
      step: updates done.
      now: the compute dtype of the newest config.
    """
    later = (entry["changed"] for entry in history if entry["from_step"] >= step)
    return next((changed["train.dtype"][0] for changed in later if "train.dtype" in changed), now)


def settings_at(content: RunConfig, step: int) -> RunConfig:
    """Returns the content of config.json as it was while the update that led to `step` was made."""
    content = copy.deepcopy(content)
    for entry in reversed(content.get("history", [])):
        if entry["from_step"] < step:
            break
        for field, (before, _) in entry["changed"].items():
            *path, last = field.split(".")
            place: Any = content
            for part in path:
                place = place[part]
            place[last] = before
            if field in ("train.steps", "train.dtype") and before is not None:
                content["resolved"][last] = before
    return content


def with_dtype(experiment: Experiment, dtype: str) -> Experiment:
    """The same run in another compute dtype."""
    return replace(experiment, train=replace(experiment.train, dtype=dtype))


def adapted(state: TrainState, abstract: TrainState) -> TrainState:
    """Returns a state of another compute dtype in the form of `abstract`: float16 alone has loss scales."""

    def member(state, abstract):
        if (state.loss_scale is None) == (abstract.loss_scale is None):
            return state
        if abstract.loss_scale is None:
            return state.replace(loss_scale=None)
        return state.replace(
            loss_scale=place(LossScale.create(), jax.tree.map(lambda leaf: leaf.sharding, abstract.loss_scale))
        )

    return state.replace(members={name: member(own, abstract.members[name]) for name, own in state.members.items()})


def describe_change(old: RunConfig, new: RunConfig, changed: Changed, step: int) -> list[str]:
    """Returns the lines of the log that say what a change means.

    Args:
      old, new: the content of config.json before and after.
      changed: {field: [before, after]}.
      step: from which on it holds.
    """
    fields = ", ".join(f"{field} {before} -> {after}" for field, (before, after) in changed.items())
    before, after = _rates(old, step), _rates(new, step)
    rates = ", ".join(f"{name} {before[name]:.3g} -> {rate:.3g}" for name, rate in after.items())
    return [
        f"changed from step {step:,} on: {fields}",
        f"learning rate at step {step:,}: {rates} (the schedule of {new['resolved']['steps']:,} steps, entered there)",
    ]


def _rates(content: RunConfig, step: int) -> dict[str, float]:
    rates = {}
    for name, member in content["members"].items():
        if member["trainable"]:
            settings = OptimizerSettings(**member_optimizer(content["optimizer"], member["optimizer"]))
            rates[name] = np.asarray(learning_rate(settings, content["resolved"]["steps"])(step)).item()
    return rates


def _merged(history: Sequence[Change]) -> list[Change]:
    """Joins entries of the same step; what was changed there and back again was never changed."""
    by_step: dict[int, dict] = {}
    for entry in history:
        changed = by_step.setdefault(entry["from_step"], {})
        for field, (before, after) in entry["changed"].items():
            changed[field] = [changed.get(field, [before])[0], after]
    kept = {
        step: {field: values for field, values in changed.items() if values[0] != values[1]}
        for step, changed in by_step.items()
    }
    return [{"from_step": step, "changed": changed} for step, changed in sorted(kept.items()) if changed]
