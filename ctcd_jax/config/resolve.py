"""A finished ConfigDict and the corpus it names become an `Experiment`; what does not fit is one line.

What a field may hold, and the range of every number, is in `check`.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jax
import jax.numpy as jnp

from ctcd_jax.artifacts.runs import Resolved, ShapeFields
from ctcd_jax.config.builders import SIZES, base_config, edge, member
from ctcd_jax.config.check import LARGEST_INT32, check_fields, check_names
from ctcd_jax.config.init_spec import Init, parse_init, recorded_shape, source_config, split_init
from ctcd_jax.config.settings import (
    LEARNING_RATE_SCHEDULES,
    Experiment,
    OptimizerSettings,
    TrainSettings,
    member_optimizer,
)
from ctcd_jax.data import Corpus, TrainBatches
from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.files import expand_home
from ctcd_jax.models.attention import IMPLEMENTATIONS, cudnn_obstacle, on_platform
from ctcd_jax.models.registry import Shape, parameter_count, shape_from_dict, shape_to_dict
from ctcd_jax.ranges import COUNT
from ctcd_jax.runtime.hardware import Devices, default_dtype
from ctcd_jax.stores import fetched, is_remote

DTYPES = ("auto", "float32", "bfloat16", "float16")

# A ConfigDict, whose own annotations make of every field a union of all that one may be.
Config = Any


def resolve(
    config: Config,
    corpus: Corpus,
    devices: Devices | None = None,
    recorded: Mapping[str, Mapping] = MappingProxyType({}),
) -> Experiment:
    """Checks a config against the corpus and the devices it is for, and fills in what follows from them.

    Args:
      config: as `get_config` returns it, with overrides applied.
      corpus: that it names.
      devices: that the run is spread over; None for the first of this process.
      recorded: shapes of the members of a run that is resumed, {name: fields of its shape}: what its members started
        from need not be there any more.

    Raises:
      UserError: one line that names the field and the fix.
    """
    check(config)
    members = config.members.to_dict()
    sources = {name: _source(name, fields, members) for name, fields in members.items()}
    models = {}
    for name in _bases_first(sources):
        place = f"config.json: resolved.models.{name}"
        known = recorded_shape(place, recorded[name]) if name in recorded else None
        models[name] = _model(name, members[name], sources[name], models, corpus, known)
    devices = jax.devices()[:1] if devices is None else devices
    train = _train(config, corpus, devices[0].platform, _keep_best(config, models))
    if config.train.attention == "cudnn":
        _check_cudnn(models, members, train.dtype, corpus, devices[0].platform)
    _check_mesh(config, models, len(devices))
    return Experiment(
        seed=config.seed,
        cohort=_cohort(config, members),
        models={name: models[name] for name in members},
        sources=sources,
        optimizers={name: _optimizer(config, name) for name, fields in members.items() if fields["trainable"]},
        train=train,
        batch_size=config.data.batch_size,
        masking_rate=config.masking.rate,
        masking_smoothing=config.masking.smoothing,
        mesh=(config.mesh.data, config.mesh.fsdp),
        evaluation_corpora=_evaluation_corpora(config),
        projects={name: config[name].project for name in ("wandb", "trackio") if config[name].project},
    )


def check(config: Config) -> None:
    """Raises UserError for a field that is unknown, missing, of the wrong kind or out of its range."""
    check_fields(config, base_config("smoke"), member(), edge("a", "b"))
    check_names(config.members)


def _source(name: str, fields: dict, members: dict) -> Init:
    init = fields["init"]
    if split_init(init)[0] == "scratch" and not fields["trainable"]:
        raise UserError(
            f"members.{name}.init: a frozen member needs trained weights; "
            f"set --config.members.{name}.init=run:WORKDIR#MEMBER or =hf:DIR"
        )
    source = parse_init(name, init, members)
    if source.kind in ("hf", "run") and is_remote(source.location):
        source = replace(source, location=str(fetched(source.location)))
    return source


def _bases_first(sources: Mapping[str, Init]) -> list[str]:
    """Returns the members such that those whose layers are copied come before those that copy them."""
    order: list[str] = []
    while len(order) < len(sources):
        ready = [n for n, s in sources.items() if n not in order and (s.kind != "layers" or s.location in order)]
        if not ready:
            waiting = next(name for name in sources if name not in order)
            raise UserError(
                f"members.{waiting}.init: {sources[waiting]} leads in a circle; let one start from elsewhere"
            )
        order += ready
    return order


def _model(name: str, fields: dict, source: Init, models: dict, corpus: Corpus, known: Shape | None) -> Shape:
    """The member's shape: as configured, or as what it starts from; both must agree."""
    base = known if known and source.kind != "scratch" else source_config(source, models, corpus)
    sizes = {key: fields[key] for key in SIZES if fields[key] is not None}
    if base is None:
        missing = [key for key in SIZES if key not in sizes]
        if missing:
            raise UserError(f"members.{name}.{missing[0]} is not set, and a member from scratch needs it")
    else:
        for key, value in sizes.items():
            if value != getattr(base, key):
                raise UserError(f"members.{name}.{key} is {value}, but {source} has {getattr(base, key)}; leave it out")
        if base is known and base.vocab_size != corpus.vocab_size:
            raise UserError(
                f"data.corpus: {corpus.directory} has {corpus.vocab_size} tokens in its vocabulary, but the run was "
                f"begun with {base.vocab_size}; name the corpus it was begun with, or take another --workdir"
            )
        if base.vocab_size != corpus.vocab_size:
            raise UserError(
                f"members.{name}.init: {source} has {base.vocab_size} rows for tokens, but its own tokenizer, that of "
                f"the corpus {corpus.directory}, has {corpus.vocab_size}; give it more with resize_token_embeddings"
            )
    dropout = {key: fields[key] for key in ("dropout", "attention_dropout")}
    try:
        if base is None:
            model = shape_from_dict({"vocab_size": corpus.vocab_size} | sizes | dropout)
        else:
            model = replace(base, **dropout)
    except ValueError as error:
        raise UserError(f"members.{name}: {error}") from error
    if model.max_positions < corpus.max_length:
        raise UserError(
            f"members.{name}.max_positions is {model.max_positions}, but the corpus has rows of {corpus.max_length} "
            "tokens; raise it or prepare shorter rows with --length"
        )
    return model


def _cohort(config: Config, members: dict) -> Cohort:
    _check_that_all_learn(config, members)
    try:
        return Cohort(
            {name: Member(fields["trainable"], fields["hard_weight"]) for name, fields in members.items()},
            tuple(Edge(**fields.to_dict()) for fields in config.edges),
        )
    except ValueError as error:
        raise UserError(f"edges: {error}") from error


def _check_that_all_learn(config: Config, members: dict) -> None:
    taught = {edge.target for edge in config.edges if edge.weight > 0}
    for name, settings in members.items():
        if settings["trainable"] and settings["hard_weight"] == 0 and name not in taught:
            raise UserError(
                f"members.{name}.hard_weight is 0 and no edge teaches '{name}', so it would learn nothing; "
                "raise it, add an edge, or set trainable=False"
            )


def _optimizer(config: Config, name: str) -> OptimizerSettings:
    own = config.members[name].optimizer.to_dict()
    given = member_optimizer(config.optimizer.to_dict(), own)
    if (schedule := given["schedule"]) not in LEARNING_RATE_SCHEDULES:
        field = "optimizer.schedule" if own["schedule"] is None else f"members.{name}.optimizer.schedule"
        raise UserError(f"{field}: no schedule '{schedule}'{did_you_mean(schedule, LEARNING_RATE_SCHEDULES)}")
    return OptimizerSettings(**given)


def _keep_best(config: Config, models: Mapping[str, Shape]) -> str | None:
    """Returns the member whose best step is kept: of equally small ones the first in the order of their names."""
    asked, trained = config.train.keep_best, sorted(name for name in models if config.members[name].trainable)
    if asked is None and config.train.early_stopping is not None:
        raise UserError("train.early_stopping: it needs train.keep_best, the member whose validation loss decides")
    if asked == "auto":
        return min(trained, key=lambda name: parameter_count(models[name]), default=None)
    if asked is not None and asked not in trained:
        raise UserError(f"train.keep_best: no trainable member '{asked}'{did_you_mean(asked, [*trained, 'auto'])}")
    return asked


def _evaluation_corpora(config: Config) -> tuple[str, ...]:
    asked = config.evaluation.corpora or ()
    if not all(isinstance(place, str) for place in asked):
        raise UserError(f"evaluation.corpora is {asked!r}; it must be directories: --config.evaluation.corpora=DIR,DIR")
    return tuple(str(fetched(place)) if is_remote(place) else expand_home(place) for place in asked)


def _train(config: Config, corpus: Corpus, platform: str, keep_best: str | None) -> TrainSettings:
    train = config.train
    if (train.steps is None) == (train.epochs is None):
        raise UserError("train: set exactly one of train.steps and train.epochs")
    if train.dtype not in DTYPES:
        raise UserError(f"train.dtype: no dtype '{train.dtype}'{did_you_mean(train.dtype, DTYPES)}")
    if train.attention not in IMPLEMENTATIONS:
        raise UserError(f"train.attention: no attention '{train.attention}'"
                        + did_you_mean(train.attention, IMPLEMENTATIONS))  # fmt: skip
    epoch = TrainBatches(corpus, config.data.batch_size, config.seed).steps_per_epoch
    asked = train.epochs * epoch if train.steps is None else train.steps
    if asked > LARGEST_INT32:  # before it is rounded: infinity is no whole number
        raise UserError(
            f"train.epochs is {train.epochs}; that is {asked:.3g} steps, and {LARGEST_INT32:,} are the most"
        )
    steps = round(asked)
    if steps < 1:
        raise UserError(f"train.epochs is {train.epochs}; that is less than a step, of which an epoch has {epoch:,}")
    _check_profile(train.profile_steps, steps)
    dtype = default_dtype(platform) if train.dtype == "auto" else train.dtype
    attention = on_platform(train.attention, platform)
    found = {"steps": steps, "dtype": dtype, "attention": attention, "keep_best": keep_best}
    return TrainSettings(**{field.name: train[field.name] for field in fields(TrainSettings)} | found)


def _check_profile(asked: tuple | None, steps: int) -> None:
    if asked is None:
        return
    if len(asked) != 2 or not all(map(COUNT.holds, asked)) or not asked[0] < asked[1] <= steps:
        raise UserError(
            f"train.profile_steps is {asked!r}; it must be START,STOP, whole numbers with "
            f"0 < START < STOP <= {steps:,} (the run's steps), or None for no trace"
        )


def _check_cudnn(models: Mapping[str, Shape], members: dict, dtype: str, corpus: Corpus, platform: str) -> None:
    if platform != "gpu":
        raise UserError("train.attention: cuDNN's attention needs an NVIDIA GPU; use train.attention=auto")
    for name, model in models.items():
        drops = members[name]["trainable"] and model.attention_dropout > 0
        for length in corpus.lengths("train"):
            obstacle = cudnn_obstacle(jnp.dtype(dtype), length, model.hidden // model.heads, drops)
            if obstacle:
                raise UserError(f"train.attention: cuDNN's {obstacle} (members.{name}); or use train.attention=auto")


def _check_mesh(config: Config, models: Mapping[str, Shape], devices: int) -> None:
    data, fsdp = config.mesh.data, config.mesh.fsdp
    if devices % fsdp or (data != -1 and data * fsdp != devices):
        raise UserError(f"mesh: data x fsdp is {data} x {fsdp}, but there are {devices} devices; set mesh.data=-1 and "
                        "mesh.fsdp to a divisor")  # fmt: skip
    parts = devices * config.train.micro_batches
    if config.data.batch_size % parts:
        raise UserError(
            f"data.batch_size is {config.data.batch_size}; it must be a multiple of {parts} "
            f"({devices} devices x {config.train.micro_batches} micro-batches)"
        )
    for name, model in models.items():
        for key in ("hidden", "intermediate"):
            if getattr(model, key) % fsdp:
                raise UserError(
                    f"members.{name}.{key} is {getattr(model, key)}; it must be divisible by mesh.fsdp ({fsdp})"
                )


def resolved(experiment: Experiment, corpus: Corpus) -> Resolved:
    """What `config.json` keeps beside the config: enough to read the run's checkpoints without the corpus."""
    return {
        "steps": experiment.train.steps,
        "dtype": experiment.train.dtype,
        "corpus_hash": corpus.hash,
        "tokenizer_hash": corpus.tokenizer_hash,
        "models": {name: cast("ShapeFields", shape_to_dict(model)) for name, model in experiment.models.items()},
    }


def corpus_directory(config: Config) -> Path:
    """Returns `data.corpus`, after a look at all fields. Raises UserError if it is not set or a field is wrong."""
    check(config)  # before a corpus of gigabytes is read
    if not config.data.corpus:
        raise UserError("data.corpus is not set; name a directory made by `ctcd prepare`: --config.data.corpus=DIR")
    return fetched(expand_home(config.data.corpus))
