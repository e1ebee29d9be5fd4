"""What a config file is written with: functions that make the config of a run, a member, an edge and a corpus.

What each field of the first three means, and its default, is in `fields`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ctcd_jax.config.fields import FIELDS
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.errors import UserError, did_you_mean

SIZES = ("layers", "hidden", "heads", "intermediate", "max_positions")

# layers teacher/student; hidden, heads, feed-forward, positions; rows a batch; steps or epochs; log, evaluate, save
PRESETS = {
    "smoke": {"layers": (2, 1), "width": (64, 2, 256, 64), "rows": 16, "steps": 60, "every": (10, 30, 30)},
    "tiny": {"layers": (6, 4), "width": (128, 2, 512, 64), "rows": 64, "steps": 2000, "every": (50, 500, 250)},
    "small": {"layers": (6, 4), "width": (256, 4, 1024, 128), "rows": 64, "epochs": 10.0, "every": (100, 2000, 1000)},
    "paper": {"layers": (6, 4), "width": (768, 12, 3072, 512), "rows": 128, "epochs": 10.0, "every": (100, 5000, 2000)},
}
# Narrow models want a higher rate than the paper's, 5e-4 at hidden 768 (docs/SIZING.md); `small` has not been tuned.
LEARNING_RATES = {"smoke": 3e-3, "tiny": 2e-3}


def base_config(preset: str) -> ConfigDict:
    """Returns a run of a preset's size, without members yet: every field with its default.

    Where the paper is silent the defaults are those of the DistilBERT training script, whose corpus and baseline it
    uses (docs/REPRODUCTION.md). Raises UserError for an unknown preset.
    """
    size = _preset(preset)
    log_every, eval_every, checkpoint_every = size["every"]
    given = {
        "data.batch_size": size["rows"],
        **{f"train.{name}": size[name] for name in ("steps", "epochs") if name in size},
        "train.log_every": log_every,
        "train.eval_every": eval_every,
        "train.checkpoint_every": checkpoint_every,
    }
    if preset in LEARNING_RATES:
        given["optimizer.learning_rate"] = LEARNING_RATES[preset]
    config = _with_defaults("", given)
    for section in dict.fromkeys(name.partition(".")[0] for name in FIELDS if "." in name):
        if section not in ("members", "edges"):
            config[section] = _with_defaults(f"{section}.", given)
    keep_preset(config, preset, given)
    config.members = ConfigDict()
    config.edges = ()
    return config


def member(preset: str | None = None, size: str = "student", **changes) -> ConfigDict:
    """Returns the config of a member.

    Args:
      preset: of `PRESETS`; None where `init` gives the shape.
      size: "teacher" or "student": which of the preset's shapes.
      changes: any field: layers, hidden, heads, intermediate, max_positions, dropout, attention_dropout, trainable,
        hard_weight, init, optimizer.

    Raises:
      UserError: an unknown preset, size or field.
    """
    config = _with_defaults("members.", {})
    config.optimizer = _with_defaults("members.optimizer.", {})
    if preset is not None:
        if size not in ("teacher", "student"):
            raise UserError(f"no size '{size}' in a preset{did_you_mean(size, ('teacher', 'student'))}")
        chosen = _preset(preset)
        given = dict(zip(SIZES, (chosen["layers"][size == "student"], *chosen["width"]), strict=True))
        config.update(given)
        keep_preset(config, preset, {f"members.{name}": value for name, value in given.items()})
    return _changed(config, changes, "member")


def _preset(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UserError(f"no preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def edge(source: str, target: str, **changes) -> ConfigDict:
    """Returns the config of an edge, with DistilBERT's softening: temperature 2 and tau^2.

    Args:
      source, target: names of members; the target learns from the source.
      changes: any other field of `distill.Edge`.
    """
    config = _with_defaults("edges.", {"edges.source": source, "edges.target": target})
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


def from_preset(config: ConfigDict) -> tuple[str, Mapping[str, Any]]:
    """Returns the preset that a run or a member was made of and what that gave, {field: value}; ("", {}) for none.

    It is known of what `base_config` and `member` returned, until that is copied.
    """
    return getattr(config, "_from_preset", ("", {}))


def keep_preset(config: ConfigDict, preset: str, given: Mapping[str, Any]) -> None:
    """Lets `from_preset` say where a config's values come from.

    Args:
      config: of a run or a member.
      preset: its name, "" for none.
      given: what it gave, {field: value}.
    """
    object.__setattr__(config, "_from_preset", (preset, given))  # beside the fields: it is none


def _with_defaults(prefix: str, given: Mapping[str, Any]) -> ConfigDict:
    """Returns the fields of a section with their defaults, or what is `given` for them by their full names."""
    made = {}
    for name, field in FIELDS.items():
        section, last = name[: len(prefix)], name[len(prefix) :]
        if section == prefix and "." not in last:
            value = given.get(name, field.default)
            made[last] = placeholder(field.kind) if value is None else value
    return ConfigDict(made)


def _changed(config, changes, kind):
    for key, value in changes.items():
        if key not in config:
            raise UserError(f"{kind}: no field '{key}'{did_you_mean(key, config)}")
        if isinstance(value, dict):
            _changed(config[key], value, kind)
        else:
            config[key] = value
    return config
