"""Every field of a run: what it means, the kind of its values, and its default.

`builders` makes configs of this table, `check` reads what may be None from it, and `ctcd train --show` prints it.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args, get_type_hints

from ctcd_jax.config.settings import OptimizerSettings
from ctcd_jax.distill import Edge, Member


@dataclass(frozen=True)
class Field:
    """A field of a config.

    Attributes:
      meaning: in a line for users, without a full stop.
      kind: type of its values.
      default: None for none: the field is `optional`, or the preset, or whoever makes the section, gives the value.
      optional: whether it may be None.
    """

    meaning: str
    kind: type
    default: Any = None
    optional: bool = False


def _described(section: str, described: type, **defaults) -> dict[str, Field]:
    """Returns the fields of a dataclass, with the meanings that its docstring has for its attributes.

    Args:
      section: of the config.
      described: the dataclass.
      defaults: those that differ from its own.
    """
    # Python's -OO strips docstrings, and with them the meanings.
    _, _, attributes = (inspect.getdoc(described) or "").partition("Attributes:\n")
    entries = re.findall(r"^  (\w[\w, ]*): (.*(?:\n    .*)*)", attributes, re.MULTILINE)
    meanings = {name: " ".join(text.split()).rstrip(".") for names, text in entries for name in names.split(", ")}
    made = {}
    for name, hint in get_type_hints(described).items():
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        made[f"{section}.{name}"] = Field(meanings.get(name, ""), *(kinds or [hint]), optional=bool(kinds))
    own = {field.name: None if field.default is MISSING else field.default for field in fields(described)}
    return {
        key: Field(field.meaning, field.kind, (own | defaults)[key.rpartition(".")[2]], field.optional)
        for key, field in made.items()
    }


_OPTIMIZER = _described("optimizer", OptimizerSettings)
_EITHER = "of steps and epochs exactly one is set"
_AS_INIT = "None: as what init names has it"

# By section, members and edges being one each; in the order in which they are shown.
FIELDS: Mapping[str, Field] = {
    "seed": Field("of the first weights, the order of the rows, the masks and dropout", int, 0),
    "data.corpus": Field("directory made by ctcd prepare", str, optional=True),
    "data.batch_size": Field("rows of a step, those of all devices together", int),
    "train.steps": Field(f"updates of the parameters; {_EITHER}", int, optional=True),
    "train.epochs": Field(f"passes over the corpus; {_EITHER}", float, optional=True),
    "train.log_every": Field("steps from one line of the log to the next", int),
    "train.eval_every": Field("steps from one evaluation on the held-out rows to the next", int),
    "train.checkpoint_every": Field("steps from one checkpoint to the next", int),
    "train.keep_checkpoints": Field("checkpoints that are kept, the newest ones", int, 2),
    "train.keep_every": Field(
        "saved steps that are multiples of it stay, too, for a study of the course of training; None: none for that",
        int,
        optional=True,
    ),
    "train.keep_best": Field(
        "member whose step of the lowest validation loss is kept beside the newest; auto: the smallest that is "
        "trained, for that is the one people deploy; None: the newest steps alone",
        str,
        "auto",
        optional=True,
    ),
    "train.early_stopping": Field(
        "evaluations in a row without a better loss of that member that end the run; None: it is not ended",
        int,
        optional=True,
    ),
    "train.dtype": Field(
        "of the computation: float32, bfloat16, float16, or auto: bfloat16 on accelerators and on CPUs that multiply "
        "it in hardware, else float32",
        str,
        "auto",
    ),
    "train.micro_batches": Field("parts of a batch that are computed one after the other, to save memory", int, 1),
    "train.remat": Field(
        "keep only the layers' inputs and compute the rest again in the backward pass, to save memory", bool, False
    ),
    "train.deterministic": Field(
        "compile for GPUs so that a run gives the same bytes each time, which is slower; elsewhere it changes nothing",
        bool,
        False,
    ),
    "train.attention": Field("xla, cudnn, or auto: cuDNN's where its conditions hold, else XLA's", str, "auto"),
    "train.loss_chunk": Field(
        "tokens of a device whose logits exist at once; None: chosen by their size", int, optional=True
    ),
    "train.profile_steps": Field(
        "START,STOP: a trace of the steps from START done to STOP done, in WORKDIR/profile; None: of none",
        tuple,
        optional=True,
    ),
    **_OPTIMIZER,
    "masking.rate": Field("share of the tokens that are predicted", float, 0.15),
    "masking.smoothing": Field(
        "0: every token is as likely to be predicted; more (DistilBERT: 0.7): rare tokens are more likely", float, 0.0
    ),
    "evaluation.corpora": Field(
        "DIR,DIR: further corpora that are evaluated on, prepared with the same tokenizer", tuple, (), optional=True
    ),
    "mesh.data": Field("devices that share the rows of a batch; -1: all that fsdp leaves", int, -1),
    "mesh.fsdp": Field("devices that share parameters and the optimizer's state", int, 1),
    "wandb.project": Field(
        "of Weights & Biases, where the figures are drawn beside TensorBoard; None: not there", str, optional=True
    ),
    "trackio.project": Field(
        "of Trackio, where the figures are drawn beside TensorBoard; None: not there", str, optional=True
    ),
    "members.layers": Field(f"encoder layers; {_AS_INIT}", int, optional=True),
    "members.hidden": Field(f"width of the hidden states; {_AS_INIT}", int, optional=True),
    "members.heads": Field(f"attention heads a layer; {_AS_INIT}", int, optional=True),
    "members.intermediate": Field(f"width of the feed-forward layers; {_AS_INIT}", int, optional=True),
    "members.max_positions": Field(f"tokens of the longest row; {_AS_INIT}", int, optional=True),
    "members.dropout": Field("share of the hidden units that are dropped in training; 0: none", float, 0.1),
    "members.attention_dropout": Field("share of the attention that is dropped in training; 0: none", float, 0.1),
    **_described("members", Member),
    "members.init": Field(
        "first weights: scratch, hf:DIR_OR_ID, run:WORKDIR#MEMBER[@STEP|@best] or layers:MEMBER#0,2,4; None: scratch",
        str,
        optional=True,
    ),
    **{
        f"members.{name}": Field(f"of this member alone; None: as {name} says", field.kind, optional=True)
        for name, field in _OPTIMIZER.items()
    },
    # DistilBERT's softening.
    **_described("edges", Edge, temperature=2.0, tau_squared=True),
}


def without_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a config says beyond the defaults of `FIELDS`: the same for versions that know further fields.

    Args:
      content: sections of a config, as config.json has them, and anything else, which stays.
    """
    return _beyond(content, "")


def _beyond(section: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found = {}
    for name, value in section.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            below = {member: _beyond(each, "members.") for member, each in value.items()} if key == "members" else (
                _beyond(value, f"{key}.")
            )  # fmt: skip
            if below:
                found[name] = below
        elif key == "edges":
            found[name] = [_beyond(edge, "edges.") for edge in value]
        elif key not in FIELDS or value != FIELDS[key].default:
            found[name] = value
    return found
