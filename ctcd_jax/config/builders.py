"""What a config file is written with: every field of a run, of a member, an edge and a corpus, and its default."""

from collections.abc import Mapping
from dataclasses import asdict, fields

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ctcd_jax.config.settings import OptimizerSettings
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.distill import Edge
from ctcd_jax.errors import UserError, did_you_mean

SIZES = ("layers", "hidden", "heads", "intermediate", "max_positions")

# layers teacher/student; hidden, heads, feed-forward, positions; rows a batch; steps or epochs; log, evaluate, save
PRESETS = {
    "smoke": {"layers": (2, 1), "width": (64, 2, 256, 64), "rows": 16, "steps": 60, "every": (10, 30, 30)},
    "tiny": {"layers": (6, 4), "width": (128, 2, 512, 64), "rows": 64, "steps": 2000, "every": (50, 500, 250)},
    "small": {"layers": (6, 4), "width": (256, 4, 1024, 128), "rows": 64, "epochs": 10.0, "every": (100, 2000, 1000)},
    "paper": {"layers": (6, 4), "width": (768, 12, 3072, 512), "rows": 128, "epochs": 10.0, "every": (100, 5000, 2000)},
}


def base_config(preset: str) -> ConfigDict:
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
            # The step with the lowest validation loss of this member is kept beside the newest ones. "auto": of the
            # smallest that is trained, for that is the one people deploy; None: the newest steps alone are kept
            "keep_best": "auto",
            "early_stopping": placeholder(
                int
            ),  # ends after so many evaluations in a row that are no better; None: never
            "dtype": "auto",  # auto: bfloat16 on accelerators and CPUs that multiply it in hardware, else float32
            "micro_batches": 1,
            "remat": False,  # keep only the layers' inputs and compute the rest again (docs/SPEED.md)
            "attention": "auto",  # auto: cuDNN's where its conditions hold (docs/SPEED.md), else XLA's
            "loss_chunk": placeholder(int),  # tokens whose logits exist at once; None: chosen by their size
            # (START, STOP): a trace of the steps from START done to STOP done, in WORKDIR/profile; None: of none
            "profile_steps": placeholder(tuple),
        }
    )
    config.train.update({name: size[name] for name in ("steps", "epochs") if name in size})
    config.optimizer = ConfigDict(asdict(OptimizerSettings()))
    config.masking = ConfigDict({"rate": 0.15, "smoothing": 0.0})  # smoothing: 0.7 predicts rare tokens more often
    config.evaluation = ConfigDict({"corpora": ()})  # further corpora to evaluate on, prepared with the same tokenizer
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})  # data -1: all devices that fsdp leaves
    # project: None for none of it; TensorBoard is always there
    config.wandb = ConfigDict({"project": placeholder(str)})  # Weights & Biases
    config.trackio = ConfigDict({"project": placeholder(str)})
    config.members = ConfigDict()
    config.edges = ()
    return config


def member(preset: str | None = None, size: str = "student", **changes) -> ConfigDict:
    """Returns the config of a member.

    Args:
      preset: of `PRESETS`; None where `init` gives the shape.
      size: of `SIZES`: which of the preset's shapes.
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
    """Returns the config of an edge, with DistilBERT's softening: temperature 2 and tau^2.

    Args:
      source, target: names of members; the target learns from the source.
      changes: any other field of `distill.Edge`.
    """
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


def _changed(config, changes, kind):
    for key, value in changes.items():
        if key not in config:
            raise UserError(f"{kind}: no field '{key}'{did_you_mean(key, config)}")
        if isinstance(value, dict):
            _changed(config[key], value, kind)
        else:
            config[key] = value
    return config
