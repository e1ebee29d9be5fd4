"""The schema of a run: every field and its default, and the typed `Experiment` the rest of the code sees.

A config file starts from `experiment(preset)` and adds `member(...)` and `edge(...)`; `resolve` turns the finished
ConfigDict and the corpus it names into an `Experiment`. What a field may hold, and the range of every number, is in
`config_check`. Nothing below this module knows a ConfigDict.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ctcd_jax.config_check import LARGEST_INT32, OPTIMIZER_RANGES, check_fields
from ctcd_jax.data import Corpus, TrainBatches
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.distill import Cohort, Edge, Member
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.files import expand_home
from ctcd_jax.hardware import default_dtype
from ctcd_jax.initial import Source, parse_init, recorded_shape, source_config
from ctcd_jax.models import BertConfig
from ctcd_jax.models.attention import IMPLEMENTATIONS, cudnn_obstacle
from ctcd_jax.ranges import require

DTYPES = ("auto", "float32", "bfloat16", "float16")
SCHEDULES = ("linear", "cosine", "constant")
SIZES = ("layers", "hidden", "heads", "intermediate", "max_positions")

# layers teacher/student; hidden, heads, feed-forward, positions; rows a batch; steps or epochs; log, evaluate, save
PRESETS = {
    "smoke": {"layers": (2, 1), "width": (64, 2, 256, 64), "rows": 16, "steps": 60, "every": (10, 30, 30)},
    "tiny": {"layers": (6, 4), "width": (128, 2, 512, 64), "rows": 64, "steps": 2000, "every": (50, 500, 250)},
    "small": {"layers": (6, 4), "width": (256, 4, 1024, 128), "rows": 64, "epochs": 10.0, "every": (100, 2000, 1000)},
    "paper": {"layers": (6, 4), "width": (768, 12, 3072, 512), "rows": 128, "epochs": 10.0, "every": (100, 5000, 2000)},
}


def experiment(preset: str) -> ConfigDict:
    """Returns a run of a preset's size, without members yet: every field with its default.

    Where the paper is silent the defaults are those of the DistilBERT training script, whose corpus and baseline it
    uses (docs/REPRODUCTION.md). Raises UserError for an unknown preset.
    """
    if preset not in PRESETS:
        raise UserError(f"no preset '{preset}'{did_you_mean(preset, PRESETS)}")
    size = PRESETS[preset]
    log_every, eval_every, checkpoint_every = size["every"]
    config = ConfigDict()
    config.seed = 0
    # corpus: directory of `ctcd prepare`; batch_size: rows of the global batch.
    config.data = ConfigDict({"corpus": placeholder(str), "batch_size": size["rows"]})
    config.train = ConfigDict(
        {
            "steps": placeholder(int),  # exactly one of steps and epochs
            "epochs": placeholder(float),
            "log_every": log_every,
            "eval_every": eval_every,
            "checkpoint_every": checkpoint_every,
            "keep_checkpoints": 2,
            "dtype": "auto",  # auto: bfloat16 on accelerators and CPUs that multiply it in hardware, else float32
            "micro_batches": 1,
            "remat": False,  # keep only the layers' inputs and compute the rest again (docs/SPEED.md)
            "attention": "auto",  # auto: cuDNN's where its conditions hold (docs/SPEED.md), else XLA's
            "loss_chunk": placeholder(int),  # tokens whose logits exist at once; None: chosen by their size
        }
    )
    config.train.update({name: size[name] for name in ("steps", "epochs") if name in size})
    config.optimizer = ConfigDict(asdict(OptimizerSettings()))
    config.masking = ConfigDict({"rate": 0.15, "smoothing": 0.0})  # smoothing: 0.7 predicts rare tokens more often
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})  # data -1: all devices that fsdp leaves
    config.wandb = ConfigDict({"project": placeholder(str)})  # None: no Weights & Biases
    config.members = ConfigDict()
    config.edges = ()
    return config


def member(preset: str | None = None, size: str = "student", **changes) -> ConfigDict:
    """Returns a member of a preset's `size` ("teacher" or "student"); without a preset, of what it starts from.

    Args:
      changes: any field: layers, hidden, heads, intermediate, max_positions, dropout, attention_dropout, trainable,
        hard_weight, init, optimizer.
    """
    fresh = {name: placeholder(int) for name in SIZES}
    config = ConfigDict(
        fresh
        | {
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "trainable": True,
            "hard_weight": 1.0,
            "init": placeholder(str),  # scratch | hf:DIR_OR_ID | run:WORKDIR#MEMBER | layers:MEMBER#0,2,4
            # None: as config.optimizer says
            "optimizer": {f.name: placeholder(type(f.default)) for f in fields(OptimizerSettings)},
        }
    )
    if preset is not None:
        if size not in ("teacher", "student"):
            raise UserError(f"no size '{size}' in a preset{did_you_mean(size, ('teacher', 'student'))}")
        chosen = PRESETS[preset]
        widths = zip(("hidden", "heads", "intermediate", "max_positions"), chosen["width"], strict=True)
        config.update({"layers": chosen["layers"][("teacher", "student").index(size)]} | dict(widths))
    return _changed(config, changes, "member")


def edge(source: str, target: str, **changes) -> ConfigDict:
    """Returns an edge with DistilBERT's softening, temperature 2 and tau^2; fields are those of `distill.Edge`."""
    config = ConfigDict(asdict(Edge(source, target, temperature=2.0, tau_squared=True)))
    return _changed(config, changes, "edge")


def recipe(sources: Mapping[str, str], **changes) -> ConfigDict:
    """Returns the arguments of `ctcd prepare --config`: every field of `data.recipe.Recipe`, with its default.

    Args:
      sources: SPECs by a name of your choice, by which the command line replaces one: --config.sources.books=text:...
        A ConfigDict is sorted, so they are taken in the order of their names.
      changes: any other field.
    """
    optional = {"tokenizer": str, "vocab_size": int, "max_characters": int}
    defaults = {
        field.name: placeholder(optional[field.name]) if field.name in optional else field.default
        for field in fields(Recipe)
        if field.name != "sources"
    }
    return _changed(ConfigDict({"sources": dict(sources), **defaults}), changes, "recipe")


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW of one member.

    Attributes:
      learning_rate: peak, after the warm-up.
      warmup_fraction: share of all steps during which the rate rises linearly.
      schedule: how it falls afterwards: "linear" or "cosine" to 0, or "constant".
      b1, b2, eps, weight_decay: AdamW's (Loshchilov & Hutter 2019). Biases and LayerNorm are not decayed.
      clip_norm: the member's gradient is scaled down to this norm; None: it is not.

    Raises ValueError for a number out of its range.
    """

    learning_rate: float = 5e-4
    warmup_fraction: float = 0.05
    schedule: str = "linear"
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.0
    clip_norm: float | None = 5.0

    def __post_init__(self):
        off = {"clip_norm"} if self.clip_norm is None else set()
        require("optimizer: ", self, {name: OPTIMIZER_RANGES[name] for name in OPTIMIZER_RANGES.keys() - off})


@dataclass(frozen=True)
class TrainSettings:
    """`config.train`, resolved: the number of steps and the compute dtype are known."""

    steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    keep_checkpoints: int
    dtype: str
    micro_batches: int
    remat: bool = False
    attention: str = "auto"
    loss_chunk: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A run, resolved and checked. Dicts are by member name."""

    seed: int
    cohort: Cohort
    models: Mapping[str, BertConfig]
    sources: Mapping[str, Source]
    optimizers: Mapping[str, OptimizerSettings]
    train: TrainSettings
    batch_size: int
    masking_rate: float = 0.15
    masking_smoothing: float = 0.0
    mesh: tuple[int, int] = (-1, 1)
    wandb_project: str | None = None


def resolve(
    config: ConfigDict, corpus: Corpus, devices: int = 1, begun: Mapping[str, dict] | None = None
) -> Experiment:
    """Checks a config against the corpus and the number of devices, and fills in what follows from them.

    Args:
      begun: shapes of the members of a run that is resumed, {name: fields of BertConfig}: what its members started from
        need not be there any more.

    Raises:
      UserError: one line that names the field and the fix.
    """
    check(config)
    members = config.members.to_dict()
    sources = {name: _source(name, fields, members) for name, fields in members.items()}
    models = {}
    for name in _bases_first(sources):
        known = recorded_shape(f"config.json: resolved.models.{name}", begun[name]) if name in (begun or {}) else None
        models[name] = _model(name, members[name], sources[name], models, corpus, known)
    train = _train(config, corpus)
    if train.attention == "cudnn":
        _check_cudnn(models, members, train.dtype, corpus)
    _check_mesh(config, models, devices)
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
        wandb_project=config.wandb.project,
    )


def check(config: ConfigDict) -> None:
    """Raises UserError for a field that is unknown, missing, of the wrong kind or out of its range."""
    check_fields(config, experiment("smoke"), member(), edge("a", "b"))


def _changed(config, changes, kind):
    for key, value in changes.items():
        if key not in config:
            raise UserError(f"{kind}: no field '{key}'{did_you_mean(key, config)}")
        if isinstance(value, dict):
            _changed(config[key], value, kind)
        else:
            config[key] = value
    return config


def _source(name: str, fields: dict, members: dict) -> Source:
    init = fields["init"] or ("scratch" if fields["trainable"] else None)
    if init in (None, "scratch") and not fields["trainable"]:
        raise UserError(
            f"members.{name}.init: a frozen member needs trained weights; "
            f"set --config.members.{name}.init=run:WORKDIR#MEMBER or =hf:DIR"
        )
    return parse_init(name, init, members)


def _bases_first(sources: Mapping[str, Source]) -> list[str]:
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


def _model(
    name: str, fields: dict, source: Source, models: dict, corpus: Corpus, known: BertConfig | None
) -> BertConfig:
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
        if base.vocab_size != corpus.vocab_size:
            raise UserError(
                f"members.{name}.init: {source} has {base.vocab_size} rows for tokens, but its own tokenizer, that of "
                f"the corpus {corpus.directory}, has {corpus.vocab_size}; give it more with resize_token_embeddings"
            )
    dropout = {key: fields[key] for key in ("dropout", "attention_dropout")}
    try:
        if base is None:
            model = BertConfig(vocab_size=corpus.vocab_size, **sizes, **dropout)
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


def _cohort(config: ConfigDict, members: dict) -> Cohort:
    _check_that_all_learn(config, members)
    try:
        return Cohort(
            {name: Member(fields["trainable"], fields["hard_weight"]) for name, fields in members.items()},
            tuple(Edge(**fields.to_dict()) for fields in config.edges),
        )
    except ValueError as error:
        raise UserError(f"edges: {error}") from error


def _check_that_all_learn(config: ConfigDict, members: dict) -> None:
    taught = {edge.target for edge in config.edges if edge.weight > 0}
    for name, settings in members.items():
        if settings["trainable"] and settings["hard_weight"] == 0 and name not in taught:
            raise UserError(
                f"members.{name}.hard_weight is 0 and no edge teaches '{name}', so it would learn nothing; "
                "raise it, add an edge, or set trainable=False"
            )


def _optimizer(config: ConfigDict, name: str) -> OptimizerSettings:
    own = {key: value for key, value in config.members[name].optimizer.items() if value is not None}
    settings = OptimizerSettings(**(config.optimizer.to_dict() | own))
    if settings.schedule not in SCHEDULES:
        field = f"members.{name}.optimizer.schedule" if "schedule" in own else "optimizer.schedule"
        raise UserError(f"{field}: no schedule '{settings.schedule}'{did_you_mean(settings.schedule, SCHEDULES)}")
    return settings


def _train(config: ConfigDict, corpus: Corpus) -> TrainSettings:
    train = config.train
    if (train.steps is None) == (train.epochs is None):
        raise UserError("train: set exactly one of train.steps and train.epochs")
    if train.dtype not in DTYPES:
        raise UserError(f"train.dtype: no dtype '{train.dtype}'{did_you_mean(train.dtype, DTYPES)}")
    if train.attention not in IMPLEMENTATIONS:
        raise UserError(f"train.attention: no attention '{train.attention}'"
                        + did_you_mean(train.attention, IMPLEMENTATIONS))  # fmt: skip
    epoch = TrainBatches(corpus, config.data.batch_size, config.seed).steps_per_epoch
    steps = round(train.epochs * epoch) if train.steps is None else train.steps
    if steps < 1:
        raise UserError(f"train.epochs is {train.epochs}; that is less than a step, of which an epoch has {epoch:,}")
    if steps > LARGEST_INT32:
        raise UserError(f"train.epochs is {train.epochs}; that is {steps:,} steps, and {LARGEST_INT32:,} are the most")
    dtype = default_dtype() if train.dtype == "auto" else train.dtype
    rest = {f.name: train[f.name] for f in fields(TrainSettings) if f.name not in ("steps", "dtype")}
    return TrainSettings(steps=steps, dtype=dtype, **rest)


def _check_cudnn(models: Mapping[str, BertConfig], members: dict, dtype: str, corpus: Corpus) -> None:
    for name, model in models.items():
        drops = members[name]["trainable"] and model.attention_dropout > 0
        for length in corpus.lengths("train"):
            obstacle = cudnn_obstacle(jnp.dtype(dtype), length, model.hidden // model.heads, drops)
            if obstacle:
                raise UserError(f"train.attention: cuDNN's {obstacle} (members.{name}); or use train.attention=auto")


def _check_mesh(config: ConfigDict, models: Mapping[str, BertConfig], devices: int) -> None:
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


def resolved(experiment: Experiment, corpus: Corpus) -> dict:
    """What `config.json` keeps beside the config: enough to read the run's checkpoints without the corpus."""
    return {
        "steps": experiment.train.steps,
        "dtype": experiment.train.dtype,
        "corpus_hash": corpus.hash,
        "tokenizer_hash": corpus.tokenizer_hash,
        "models": {name: asdict(model) for name, model in experiment.models.items()},
    }


def corpus_directory(config: ConfigDict) -> Path:
    """Returns `data.corpus`, after a look at all fields. Raises UserError if it is not set or a field is wrong."""
    check(config)  # before a corpus of gigabytes is read
    if not config.data.corpus:
        raise UserError("data.corpus is not set; name a directory made by `ctcd prepare`: --config.data.corpus=DIR")
    return Path(expand_home(config.data.corpus))
