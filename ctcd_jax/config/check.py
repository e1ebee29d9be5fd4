"""What the fields of a run's config may hold: a number has a range, everything else the kind of its default.

The schema itself, every field with its default, is in `fields`; here is its check, one line for every mistake.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ctcd_jax.config.fields import FIELDS
from ctcd_jax.config.settings import OPTIMIZER_RANGES
from ctcd_jax.distill.cohort import EDGE_RANGES, MEMBER_RANGES
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.models.registry import ARCHITECTURES, DEFAULT
from ctcd_jax.ranges import COUNT, Range

LARGEST_INT32 = 2**31 - 1  # a step's number is one, on the device

SHAPE_RANGES = ARCHITECTURES[DEFAULT].ranges

# Every number of `config.base_config`, `member` and `edge`, by its field; a member's optimizer is an `optimizer`.
RANGES: Mapping[str, Range] = {
    "seed": Range(0, 2**32 - 1, whole=True),  # what a threefry key takes without dropping bits
    "data.batch_size": COUNT,
    "train.steps": Range(1, LARGEST_INT32, whole=True),
    "train.epochs": Range(0, above=True),
    "train.log_every": COUNT,
    "train.eval_every": COUNT,
    "train.checkpoint_every": COUNT,
    "train.keep_checkpoints": COUNT,
    "train.keep_every": Range(1, whole=True, off="None to keep none for that"),
    "train.early_stopping": Range(1, whole=True, off="None to train all steps"),
    "train.micro_batches": COUNT,
    "train.loss_chunk": Range(1, whole=True, off="None to have it chosen"),
    "masking.rate": Range(0, 1, above=True, below=True),
    "masking.smoothing": Range(0, 10),  # 0: every token is as likely; at 10, none that is 100 times as frequent
    "mesh.data": Range(-1, whole=True),  # -1: what fsdp leaves; that the product is the devices is checked with them
    "mesh.fsdp": COUNT,
    **{f"optimizer.{name}": allowed for name, allowed in OPTIMIZER_RANGES.items()},
    **{
        f"members.{name}": SHAPE_RANGES[name] for name in ("layers", "hidden", "heads", "intermediate", "max_positions")
    },
    **{f"members.{name}": SHAPE_RANGES[name] for name in ("dropout", "attention_dropout")},
    **{f"members.{name}": allowed for name, allowed in MEMBER_RANGES.items()},
    **{f"edges.{name}": allowed for name, allowed in EDGE_RANGES.items()},
}

MADE_BY = {"members.": "make the member with member(preset)", "edges.": "make the edge with edge(source, target)"}

KINDS = {bool: "True or False", str: "text in quotes", tuple: "numbers in brackets"}


def check_names(members: Mapping) -> None:
    """Raises UserError for a member whose name cannot be that of a directory, of a figure or of an end of an edge."""
    for name in members:
        if not name or any(mark in name for mark in "/\\#~@") or "->" in name or name in (".", ".."):
            raise UserError(f"members: '{name}' is no name; use letters, digits, - and _")


def check_fields(config: ConfigDict, schema: ConfigDict, member: ConfigDict, edge: ConfigDict) -> None:
    """Raises UserError for the first field that is unknown, missing, of another kind or out of its range.

    Args:
      config: of a run.
      schema, member, edge: every field with its default, of a run, a member and an edge.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(f"config is {_kind(config)}; get_config must return what base_config(preset) made")
    _check_section(config, schema, "", "")
    members: Any = config.members
    edges: Any = config.edges
    if not members:
        raise UserError("members: there are none; add one, e.g. config.members.student = member(preset)")
    for name, settings in members.items():
        _require_section(settings, f"members.{name}", "make it with member(preset)")
        _check_section(settings, member, f"members.{name}.", "members.")
    if not isinstance(edges, tuple | list):
        raise UserError(f"edges is {_kind(edges)}; it must be a tuple: config.edges = (edge(source, target),)")
    for number, settings in enumerate(edges):
        if not isinstance(settings, ConfigDict):
            raise UserError(
                f"edges: each must be an edge(source, target), and edges[{number}] is {_kind(settings)}; "
                "change one with --config.edges[0].weight=4"
            )
        _check_section(settings, edge, f"edges[{number}].", "edges.")


def _check_section(config, schema, place, kind) -> None:
    """Checks the fields of a section. `place` is how the user calls it, `kind` how RANGES does."""
    for key in config:
        if key not in schema:
            raise UserError(f"{place}{key}: no such field{did_you_mean(key, schema)}")
    for key in schema:
        field = place + key
        if key not in config:
            raise UserError(f"{field} is missing; {MADE_BY.get(kind, 'start from base_config(preset)')}")
        value, default = config[key], schema[key]
        if field == "edges":
            continue
        if isinstance(default, ConfigDict):
            _require_section(value, field, "change its fields, not the section")
            if field != "members":
                _check_section(value, default, f"{field}.", f"{key}.")
        elif value is None:
            if default is not None and not FIELDS[kind + key].optional:
                usual = FIELDS[kind + key].default  # None where the preset, or whoever makes the section, has one
                fix = "give it a value" if usual is None else f"its default is {usual!r}"
                raise UserError(f"{field} is None, and it must be set; {fix}")
        elif kind + key in RANGES:
            RANGES[kind + key].check(field, value)
        elif not isinstance(value, schema.get_type(key)):
            raise UserError(f"{field} is {value!r}; it must be {KINDS[schema.get_type(key)]}")


def _require_section(value, field, advice) -> None:
    if not isinstance(value, ConfigDict):
        raise UserError(f"{field} is {_kind(value)}; {advice}")


def _kind(value) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
