"""Where members get their first parameters, and two mistakes that are caught here: a teacher that knows nothing, and
students that start as twins."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import jax
import numpy as np

from ctcd_jax.config import Experiment
from ctcd_jax.distill import Cohort, Member
from ctcd_jax.errors import warn
from ctcd_jax.models.huggingface import find_pretrained, load_pretrained
from ctcd_jax.training.checkpoint import FROZEN, load_frozen, load_member, save_frozen
from ctcd_jax.training.masking import Masker
from ctcd_jax.training.state import Params, scratch_params
from ctcd_jax.training.step import evaluation_step, fused_losses


def frozen_params(experiment: Experiment, workdir: Path, begun: bool, writes: bool) -> dict[str, dict]:
    """Returns the frozen members' parameters: from where the config says the first time, then from the run's copy.

    Args:
      begun: whether the run has saved a step, so that there must be a copy.
      writes: whether this process makes the copy.

    Raises:
      UserError: the copy has changed or is gone.
    """
    params = {}
    for name in experiment.cohort.frozen:
        if begun or (workdir / FROZEN / name).is_dir():
            params[name] = load_frozen(workdir, name)
            continue
        params[name] = source_params(experiment, name)
        if writes:
            save_frozen(workdir, name, experiment.models[name], params[name])
    return params


def trained_params(experiment: Experiment, frozen: Params) -> dict[str, dict]:
    """Returns the first parameters of the trainable members that do not start from scratch."""
    return {
        name: source_params(experiment, name, frozen)
        for name in experiment.cohort.trainable
        if experiment.sources[name].kind != "scratch"
    }


def source_params(
    experiment: Experiment, name: str, frozen: Params | None = None, warn: Callable[[str], None] = warn
) -> dict:
    """Returns a member's first parameters, as host float32 arrays, from where its `init` says.

    Args:
      frozen: parameters already loaded, for members that copy their layers.
      warn: is told of rows of the vocabulary that are left out.
    """
    source = experiment.sources[name]
    if source.kind == "hf":
        params = load_pretrained(find_pretrained(source.location))[1]
        return _without_padding(params, experiment.models[name].vocab_size, str(source), warn)
    if source.kind == "run":
        return load_member(source.location, source.member)[1]
    if source.kind == "layers":
        base = (frozen or {}).get(source.location) or source_params(experiment, source.location)
        kept = {key: value for key, value in base.items() if not key.startswith("layer_")}
        return kept | {f"layer_{new}": base[f"layer_{old}"] for new, old in enumerate(source.layers)}
    return jax.device_get(scratch_params(experiment, name))


def _without_padding(params: dict, vocab_size: int, source: str, warn: Callable[[str], None]) -> dict:
    """Leaves out the rows of a padded vocabulary that no token has."""
    rows = len(params["embeddings"]["word"])
    if rows > vocab_size:
        warn(f"{source}: {rows:,} rows for {vocab_size:,} tokens; the last {rows - vocab_size:,} are left out")
        params["embeddings"]["word"] = params["embeddings"]["word"][:vocab_size]
        params["head"]["bias"] = params["head"]["bias"][:vocab_size]
    return params


def warn_of_twins(experiment: Experiment, params: Params, warn: Callable[[str], None]) -> None:
    """Warns of two members that start equal and have nothing, not even dropout, to make them differ."""
    for a, b in combinations(params, 2):
        if experiment.models[a] != experiment.models[b]:
            continue
        dropout = experiment.models[a].dropout or experiment.models[a].attention_dropout
        equal = all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (params[a], params[b])), strict=True))
        if equal and not dropout:
            warn(f"'{a}' and '{b}' start equal and have no dropout: they will stay equal and cannot teach each other")


def probe(experiment: Experiment, masker: Masker, name: str, params: dict, batch: dict) -> tuple[float, float]:
    """Returns a member's MLM loss, in nats, on one validation batch, and that of knowing nothing, log V."""
    alone = replace(experiment, cohort=Cohort({name: Member()}))
    evaluate = jax.jit(partial(evaluation_step, alone, masker, fused_losses(alone, devices=1)))
    total, weight = evaluate({name: params}, batch)[f"hard/{name}"]
    return float(total / weight), math.log(experiment.models[name].vocab_size)


def report_probe(
    name: str, loss: float, uniform: float, log: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Prints what a frozen teacher knows; a silent random teacher is the classic failure of distillation."""
    log(f"frozen member '{name}': MLM loss {loss:.3f} on validation rows (knowing nothing: {uniform:.3f})")
    if loss > 0.9 * uniform:
        warn(f"frozen member '{name}' predicts hardly better than chance ({loss:.3f} of {uniform:.3f}): wrong weights?")
