"""Where members get their first parameters, and the mistakes that are caught here: a teacher that is not the one that a
run began with, or knows nothing, and students that start as twins."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from ctcd_jax.artifacts.hub import find_pretrained
from ctcd_jax.artifacts.runs import FROZEN, MemberStart
from ctcd_jax.artifacts.scoring import frequencies_beside
from ctcd_jax.config import Experiment
from ctcd_jax.config.init_spec import Init, read_run
from ctcd_jax.distill import Cohort, Member
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.models.huggingface import Pretrained, read_pretrained
from ctcd_jax.training.best import recorded_best
from ctcd_jax.training.checkpoint import load_member, saved_steps
from ctcd_jax.training.frozen import load_frozen, save_frozen
from ctcd_jax.training.masking import Masker
from ctcd_jax.training.provenance import read_provenance, record_starts, start_facts
from ctcd_jax.training.run import OpenedRun
from ctcd_jax.training.state import Params, scratch_params
from ctcd_jax.training.step import evaluation_step, fused_losses


@dataclass(frozen=True)
class InitialWeights:
    """What the members of a run begin with. Dicts are by member name.

    Attributes:
      frozen: parameters of the frozen members, host float32 arrays.
      trained: those of the trainable members that do not start from scratch.
      starts: what the leading process knows of all these: `start_facts`, and "weights", see `weights_sha256`.
    """

    frozen: dict[str, dict]
    trained: dict[str, dict]
    starts: dict[str, MemberStart]


def load_initial_weights(
    experiment: Experiment, workdir: Path, primary: bool, warn: Callable[[str], None]
) -> InitialWeights:
    """Loads what the members of a run begin with from where the config says; the leading process keeps the frozen ones.

    Raises UserError where that is not to be had, unless the run had been begun and kept its copy.

    Args:
      experiment: the members and their sources.
      workdir: of the run.
      primary: whether this process is the leading one.
      warn: called with a line about what a source lacks or has too much of.
    """
    frozen, trained, starts = {}, {}, {}
    known = read_provenance(workdir).get("starts", {})
    for name in (*experiment.cohort.frozen, *experiment.cohort.trainable):
        source, freezes = experiment.sources[name], name in experiment.cohort.frozen
        if source.kind == "scratch":
            continue
        try:
            facts = start_facts(experiment.sources, name, warn)
            params = source_params(experiment, name, frozen, facts.get("step"), warn)
        except UserError:
            if not (freezes and name in known and (workdir / FROZEN / name).is_dir()):
                raise
            frozen[name], starts[name] = load_frozen(workdir, name), known[name]
            continue
        (frozen if freezes else trained)[name] = params
        if primary:
            starts[name] = facts | {"weights": weights_sha256(params)}
            if source.kind == "run" and (said := _taken(source, facts)):
                warn(f"members.{name}.init: {source} {said}")
            if freezes:
                save_frozen(workdir, name, experiment.models[name], params)
    if primary:
        record_starts(workdir, starts)
    return InitialWeights(frozen, trained, starts)


def _taken(source: Init, facts: MemberStart) -> str:
    """Says of a run's step what its name does not: whose best it is, and that the run had not come to its end."""
    if "step" not in facts or "steps" not in facts or isinstance(source.step, int):
        return ""
    if source.step is None:
        return f"stopped at step {facts['step']:,} of {facts['steps']:,}" if facts["step"] < facts["steps"] else ""
    workdir = Path(source.location)
    newest = saved_steps(workdir)[-1]
    best, patience = recorded_best(workdir, newest), read_run(workdir)["train"].get("early_stopping")
    said = []
    if best and best["member"] != source.member:
        said.append(f"is as of step {facts['step']:,}, the best of '{best['member']}' (train.keep_best)")
    if newest < facts["steps"] and not (best and patience and best["since"] >= patience):
        said.append(f"is of a run that stopped at step {newest:,} of {facts['steps']:,}")
    return ", and ".join(said)


def source_params(
    experiment: Experiment,
    name: str,
    frozen: Params | None = None,
    step: int | None = None,
    warn: Callable[[str], None] = warn,
    freezes: bool | None = None,
) -> dict:
    """Returns a member's first parameters, as host float32 arrays, from where its `init` says.

    Args:
      experiment: the members and their sources.
      name: of the member.
      frozen: parameters already loaded, for members that copy their layers.
      step: the saved step of the run that it starts from; None for the one that its source names.
      warn: called with a line about what a checkpoint lacks, and what of it is left out.
      freezes: whether they will never be trained; None: as the member says.

    Raises:
      UserError: the source is not to be had, or has no MLM head although it will never be trained.
    """
    source = experiment.sources[name]
    freezes = name in experiment.cohort.frozen if freezes is None else freezes
    if source.kind == "hf":
        read = read_pretrained(find_pretrained(source.location))
        if read.fresh_head and freezes:
            raise UserError(
                f"members.{name}.init: {source} has no MLM head, and a frozen member needs a trained one; train it "
                f"first, `ctcd train --config standalone:small-teacher --config.members.teacher.init={source}`, and "
                "then name that run, run:WORKDIR#teacher"
            )
        return _said(read, experiment.models[name].vocab_size, str(source), warn)
    if source.kind == "run":
        return load_member(source.location, source.member, source.step if step is None else step)[1]
    if source.kind == "layers":
        base = (frozen or {}).get(source.location)
        if base is None:  # which says for itself what it lacks
            base = source_params(experiment, source.location, warn=lambda line: None, freezes=freezes)
        kept = {key: value for key, value in base.items() if not key.startswith("layer_")}
        return kept | {f"layer_{new}": base[f"layer_{old}"] for new, old in enumerate(source.layers)}
    return jax.device_get(scratch_params(experiment, name))


def _said(read: Pretrained, vocab_size: int, source: str, warn: Callable[[str], None]) -> dict:
    """Returns the parameters of a checkpoint without the rows of its vocabulary that no token has, and says what it
    lacks and what of it is left out."""
    params = read.params
    if read.fresh_head:
        warn(
            f"{source}: no MLM head in it; it begins with a fresh one (the identity over the word embeddings) and can "
            "predict nothing before it is trained"
        )
    if read.left_out:
        modules = list(dict.fromkeys(tensor.rpartition(".")[0] for tensor in read.left_out))
        more = f" and {len(modules) - 3} more" if len(modules) > 3 else ""
        warn(
            f"{source}: {len(read.left_out)} tensors are left out, which a masked language model has no place for "
            f"({', '.join(modules[:3])}{more})"
        )
    rows = len(params["embeddings"]["word"])
    if rows > vocab_size:
        warn(f"{source}: {rows:,} rows for {vocab_size:,} tokens; the last {rows - vocab_size:,} are left out")
        params["embeddings"]["word"] = params["embeddings"]["word"][:vocab_size]
        params["head"]["bias"] = params["head"]["bias"][:vocab_size]
    return params


def check_sources(
    experiment: Experiment, workdir: Path, opened: OpenedRun, frozen: Params, warn: Callable[[str], None]
) -> None:
    """Compares what the config names as the members' beginning with what the run began with, by their weights.

    A source may have moved. One that has gone cannot be compared: the run goes on with what it began with.

    Args:
      experiment: the members and their sources.
      workdir: of the run.
      opened: the run; where a source that has gone is named otherwise than it was, its `content` keeps the name it had.
      frozen: the run's own copies.
      warn: called with a line about each source that has gone.

    Raises:
      UserError: a member is to start from other weights now.
    """
    starts, before = read_provenance(workdir).get("starts", {}), opened.before or opened.content
    for name, source in experiment.sources.items():
        was, settings = before["members"][name]["init"], opened.content["members"][name]
        same_name = settings["init"] == was
        here = Path(source.location).is_dir()
        if source.kind not in ("hf", "run") or (same_name and not here):
            continue
        theirs = weights_sha256(frozen[name]) if name in frozen else starts.get(name, {}).get("weights")
        if theirs is None:  # begun by an earlier version
            continue
        try:
            now = weights_sha256(source_params(experiment, name, warn=lambda line: None))  # said when it began
        except UserError as error:
            if not same_name:
                settings["init"] = was
                warn(f"members.{name}.init: {first_line(error)}; the run goes on with {was}, which it began with")
            continue
        if now != theirs and same_name:
            warn(
                f"members.{name}.init: {source} holds other weights ({now[:12]}) than when this run began "
                f"({theirs[:12]}), and it goes on with those"
            )
        elif now != theirs:
            raise UserError(
                f"members.{name}.init: {source} holds other weights ({now[:12]}) than {was}, which this run began with "
                f"({theirs[:12]}); use that to resume, or another --workdir"
            )


def weights_sha256(params: Mapping) -> str:
    """Returns the SHA-256 (hex) of parameters: of their names, shapes and values, however they are stored."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(dict(params), sep="/").items()):
        digest.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def warn_of_twins(experiment: Experiment, params: Params, warn: Callable[[str], None]) -> None:
    """Warns of two members that start equal and have nothing, not even dropout, to make them differ.

    Args:
      experiment: the members' shapes.
      params: first parameters of the members that do not start from scratch.
      warn: called with a line about each such pair.
    """
    for a, b in combinations(params, 2):
        if experiment.models[a] != experiment.models[b]:
            continue
        dropout = experiment.models[a].dropout or experiment.models[a].attention_dropout
        equal = all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (params[a], params[b])), strict=True))
        if equal and not dropout:
            warn(f"'{a}' and '{b}' start equal and have no dropout: they will stay equal and cannot teach each other")


def probe(experiment: Experiment, masker: Masker, name: str, params: dict, batch: dict) -> tuple[float, float]:
    """Returns a member's MLM loss, in nats, on one validation batch, and that of knowing nothing, log V.

    Args:
      experiment: which the member is part of.
      masker: of the corpus.
      name: of the member.
      params: its parameters.
      batch: of validation, {"input_ids": int32[B, L], ...}.
    """
    alone = replace(experiment, cohort=Cohort({name: Member()}))
    evaluate = jax.jit(partial(evaluation_step, alone, masker, fused_losses(alone, jax.devices()[:1])))
    total, weight = evaluate({name: params}, batch).hard[name]
    return float(total / weight), math.log(experiment.models[name].vocab_size)


def report_probe(
    name: str,
    loss: float,
    uniform: float,
    unigram: float | None,
    log: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Prints what a frozen teacher knows; a silent random teacher is the classic failure of distillation.

    Args:
      name: of the member.
      loss: its MLM loss, nats.
      uniform: that of knowing nothing, nats.
      unigram: that of knowing word frequencies alone, nats; None where no row predicts anything.
      log: called with all of them.
      warn: called with a line about a member that knows hardly more than word frequencies.
    """
    known = uniform if unigram is None else unigram
    log(
        f"frozen member '{name}': MLM loss {loss:.3f} on validation rows (word frequencies: {known:.3f}, "
        f"knowing nothing: {uniform:.3f})"
    )
    if how := frequencies_beside(known, loss):
        warn(
            f"frozen member '{name}' predicts {how} than word frequencies do ({loss:.3f} of {known:.3f}): "
            "wrong weights, or trained too little to teach"
        )
