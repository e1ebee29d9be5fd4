"""A study becomes runs: each known by its content, so that equal ones of several studies are one."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.artifacts.hub import find_pretrained
from ctcd_jax.artifacts.studies import CELLS, RUN, CellFacts, Failure, cell_key, read_cell, read_failure
from ctcd_jax.config import Experiment, resolve
from ctcd_jax.config.fields import without_defaults
from ctcd_jax.config.file import load_config
from ctcd_jax.config.init_spec import split_init, split_member
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.models.registry import shape_to_dict
from ctcd_jax.studies.definition import ARM_INIT, TUNING_SEED, Arm, Study
from ctcd_jax.training.flops import flops_per_token
from ctcd_jax.training.run import run_content

# What changes nothing that a study looks at.
_WITHOUT = {
    "": ("format", "mesh", "wandb", "trackio", "evaluation"),
    "data": ("corpus",),
    "train": ("log_every", "checkpoint_every", "keep_checkpoints", "keep_every", "deterministic", "profile_steps"),
}


@dataclass(frozen=True)
class Cell:
    """One run of a study; goes to another process.

    Attributes:
      arm, seed: of the study.
      trial: the setting that is tried, of an arm that is tuned, on the seed that is for it.
      key: of `content`.
      content: all that decides its figures.
      spec, overrides: of its config.
      directory: where it lies.
      needs: the runs whose members it starts from.
      trained: names of the members that learn.
      evaluated: {name of its folder: `content_hash`}, of the further corpora that it is evaluated on.
      elsewhere: what is known of it where another machine has run it; None: nothing.
      dtype: of its computation on this machine.
      steps: updates; `tokens` real ones; `flops` of itself: as planned, see `trained_share`.
    """

    arm: str
    seed: int
    trial: Mapping[str, Any] | None
    key: str
    content: Mapping[str, Any]
    spec: str
    overrides: tuple[str, ...]
    directory: Path
    needs: tuple["Cell", ...]
    trained: tuple[str, ...]
    evaluated: Mapping[str, str]
    elsewhere: CellFacts | None
    dtype: str
    steps: int
    tokens: int
    flops: float

    @property
    def chain(self) -> dict[str, "Cell"]:
        """Itself and all that had to be trained for it, each once, by their keys."""
        return {self.key: self} | {key: cell for needed in self.needs for key, cell in needed.chain.items()}

    @property
    def chain_flops(self) -> float:
        """Of the chain, as planned."""
        return sum(cell.flops for cell in self.chain.values())

    @property
    def title(self) -> str:
        """What the lines that are said of it begin with."""
        tried = ", ".join(f"{name}={value}" for name, value in (self.trial or {}).items())
        return f"{self.arm}  seed {self.seed}" + (f"  ({tried})" if tried else "")


def finished(cell: Cell) -> CellFacts | None:
    """Returns what is known of a run that has been trained to its end, here or elsewhere; None: it has not."""
    return read_cell(cell.directory) or cell.elsewhere


def failure(cell: Cell) -> Failure | None:
    """Returns why a run that is not finished failed when it was last tried here."""
    return None if finished(cell) else read_failure(cell.directory)


def is_settled(cell: Cell) -> bool:
    """Whether nothing is left to run: it is finished, here or elsewhere, or tries a setting that does not do."""
    return finished(cell) is not None or (cell.trial is not None and bool((why := failure(cell)) and why["diverged"]))


def trained_share(cell: Cell) -> float:
    """Returns how much of its steps a run was trained for: below 1 where it stopped early, 1 if it is not finished."""
    facts = finished(cell)
    return facts["validation"][-1]["step"] / cell.steps if facts else 1.0


def spent(cell: Cell) -> float:
    """Returns the floating-point operations of a run and of all that had to be trained for it, as it was trained."""
    return sum(trained_share(each) * each.flops for each in cell.chain.values())


def trials(arm: Arm) -> list[dict[str, Any]]:
    """Returns the settings that an arm is tuned over; none where it is not."""
    if not arm.tune:
        return []
    return [dict(zip(arm.tune, values, strict=True)) for values in product(*arm.tune.values())]


class Matrix:
    """The runs of a study, made on demand: what a run costs needs its corpus, what it starts from another run."""

    def __init__(
        self,
        study: Study,
        out: Path,
        corpora: Mapping[str, Corpus],
        data: Mapping[str, str],
        changes: Sequence[str] = (),
        chosen: Mapping[str, Mapping[str, Any] | None] | None = None,
        elsewhere: Mapping[str, CellFacts] = MappingProxyType({}),
    ):
        """Makes no run yet.

        Args:
          study: whose runs they are.
          out: the directory that studies share.
          corpora: of the study, by name.
          data: places by the names of `study.data`.
          changes: `--config.FIELD=VALUE`, in every arm.
          chosen: {arm: the setting that tuning has chosen}, of those arms that are tuned and have been.
          elsewhere: {key: facts} of runs that other machines have finished.
        """
        self._study, self._out, self._corpora, self._changes = study, out, corpora, tuple(changes)
        self._places = {name: data[name] for name in study.models}
        self._chosen, self._elsewhere = chosen or {}, elsewhere
        self._made: dict[tuple, tuple[Cell, Experiment]] = {}

    def tuning(self, arm: str) -> list[Cell]:
        """Returns the runs that choose the setting of an arm; none for an arm that is not tuned."""
        return [self.cell(arm, TUNING_SEED, trial) for trial in trials(self._study.arms[arm])]

    def is_settled(self, arm: str) -> bool:
        """Whether what is tuned of an arm, and of all that it starts from or is measured by, has been chosen."""
        described = self._study.arms[arm]
        return (not described.tune or arm in self._chosen) and all(map(self.is_settled, described.needs))

    def cell(self, arm: str, seed: int, trial: Mapping[str, Any] | None = None) -> Cell:
        """Returns a run.

        Args:
          arm: its name.
          seed: of the study.
          trial: the setting to try; None: the one that was chosen.

        Raises:
          UserError: its config does not do; the arm is named.
        """
        return self._cell(arm, seed, trial)[0]

    def _cell(self, name: str, seed: int, trial: Mapping[str, Any] | None = None) -> tuple[Cell, Experiment]:
        known = name, seed, json.dumps(trial, sort_keys=True)
        if known not in self._made:
            try:
                self._made[known] = self._make(name, seed, trial)
            except UserError as error:
                raise error if str(error).startswith("arms.") else UserError(f"arms.{name}: {error}") from error
        return self._made[known]

    def _make(self, name: str, seed: int, trial: Mapping[str, Any] | None) -> tuple[Cell, Experiment]:
        arm, corpus = self._study.arms[name], self._corpora[self._study.arms[name].corpus]
        fields = dict(arm.fields)
        for names, value in (trial if trial is not None else self._chosen.get(name) or {}).items():
            fields |= dict.fromkeys(names.split(","), value)
        weights: dict[str, str] = {}
        for member, name_of in _model_inits(fields, self._places):
            place = find_pretrained(self._places[name_of])
            weights[member] = weights_digest(place)
            fields[f"members.{member}.init"] = f"hf:{place}"
        needs: dict[str, Cell] = {}
        shapes = {}
        for member, (other, of) in _arm_inits(fields):
            needed, theirs = self._cell(other, seed)
            its, step = split_member(of)
            if its not in theirs.models:
                raise UserError(f"members.{member}.init: arm '{other}' has no member '{its}'")
            if step is not None and its not in theirs.cohort.trainable:
                raise UserError(f"members.{member}.init: '{its}' of arm '{other}' is frozen; leave @{step} out")
            if step == "best" and theirs.train.keep_best is None:
                raise UserError(f"members.{member}.init: arm '{other}' keeps no best step: its train.keep_best is None")
            needs[member] = needed
            shapes[member] = shape_to_dict(theirs.models[its])
            fields[f"members.{member}.init"] = f"run:{needed.directory / RUN}#{of}"
        fields |= {"seed": seed, "data.corpus": str(corpus.directory)}
        evaluated = [self._corpora[each] for each in self._study.evaluations]
        if evaluated:
            fields["evaluation.corpora"] = ",".join(str(each.directory) for each in evaluated)
        overrides = [*(f"--config.{field}={value}" for field, value in fields.items()), *self._changes]
        config = load_config(arm.config, overrides, warn=lambda line: None)
        experiment = resolve(config, corpus, None, shapes)
        if arm.compute_of is not None:
            other = self.cell(arm.compute_of, seed)
            before = {key: cell for needed in needs.values() for key, cell in needed.chain.items()}
            left = max(0.0, other.chain_flops - sum(cell.flops for cell in before.values()))
            steps = max(1, round(left / _flops(experiment, corpus) * experiment.train.steps))
            overrides += [f"--config.train.steps={steps}", "--config.train.epochs=None"]
            config = load_config(arm.config, overrides, warn=lambda line: None)
            experiment = resolve(config, corpus, None, shapes)
        known = {m: (cell.key, fields) for m, cell in needs.items()}
        content = _content(config, experiment, corpus, known, weights, evaluated)
        key = cell_key(content)
        cell = Cell(
            arm=name,
            seed=seed,
            trial=trial,
            key=key,
            content=content,
            spec=arm.config,
            overrides=tuple(overrides),
            directory=self._out / CELLS / key,
            needs=tuple(needs.values()),
            trained=experiment.cohort.trainable,
            evaluated={each.directory.name: each.content_hash for each in evaluated},
            dtype=experiment.train.dtype,
            elsewhere=None if self._study.scores else self._elsewhere.get(key),  # what is scored has to be here
            steps=experiment.train.steps,
            tokens=round(experiment.train.steps * experiment.batch_size * _tokens_a_row(corpus)),
            flops=_flops(experiment, corpus),
        )
        return cell, experiment


def method(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what runs of one arm have in common: their content without seeds, precision, corpus, and whose members
    exactly they start from.

    Args:
      content: of a cell, or of a run's config.json.
    """
    kept = copy.deepcopy(
        {key: value for key, value in content.items() if key not in ("seed", "evaluated_on", "history")}
    )
    _leave_out(kept)
    kept["train"].pop("dtype", None)
    for name in ("dtype", "corpus_hash", "tokenizer_hash"):
        kept["resolved"].pop(name, None)
    for member in kept["members"].values():
        kind, _, detail = split_init(member.get("init"))
        if kind in (ARM_INIT, "run"):
            member["init"] = f"{ARM_INIT}:#{detail}"
    return without_defaults(kept)


def _leave_out(content: dict[str, Any]) -> None:
    for section, names in _WITHOUT.items():
        for name in names:
            (content[section] if section else content).pop(name, None)


def _arm_inits(fields: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields (member, (arm, its member, with @best or without)) of the members that start from another arm's."""
    for field, value in list(fields.items()):
        section, _, rest = field.partition(".")
        if section == "members" and rest.endswith(".init"):
            kind, location, detail = split_init(value)
            if kind == ARM_INIT:
                yield rest.removesuffix(".init"), (location, detail)


def _model_inits(fields: Mapping[str, Any], models: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields (member, model) of the members that start from a model of the study."""
    for field, value in list(fields.items()):
        section, _, rest = field.partition(".")
        if section == "members" and rest.endswith(".init"):
            kind, location, _ = split_init(value)
            if kind == "hf" and location in models:
                yield rest.removesuffix(".init"), location


def _content(
    config: ConfigDict,
    experiment: Experiment,
    corpus: Corpus,
    needs: Mapping,
    weights: Mapping[str, str],
    evaluated: Sequence[Corpus],
) -> dict[str, Any]:
    """Returns all that decides what a study sees of a run, and nothing that says where something lies.

    Defaults are not said, so that a run is the same to versions with further fields; and dtype "auto", the default,
    asks for no precision in particular, so that machines with bfloat16 and without can share a study.
    """
    content: dict[str, Any] = json.loads(json.dumps(run_content(config, experiment, corpus)))
    _leave_out(content)
    content["resolved"]["corpus_hash"] = corpus.content_hash
    del content["resolved"]["dtype"]
    for member, (key, fields) in needs.items():
        of = split_init(fields[f"members.{member}.init"])[2]
        content["members"][member]["init"] = f"{ARM_INIT}:{key}#{of}"
    for member, digest in weights.items():
        content["members"][member]["init"] = f"hf:{digest}"
    return without_defaults(content) | {"evaluated_on": sorted(each.content_hash for each in evaluated)}


def _tokens_a_row(corpus: Corpus) -> float:
    return corpus.manifest["splits"]["train"]["tokens"] / corpus.rows("train")


def _flops(experiment: Experiment, corpus: Corpus) -> float:
    """Returns the floating-point operations of a whole run, a lower bound as `flops_per_token` is."""
    tokens = experiment.train.steps * experiment.batch_size * _tokens_a_row(corpus)
    return tokens * flops_per_token(experiment, experiment.masking_rate)
