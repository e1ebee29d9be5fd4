"""A run's directory: its `config.json`, and the rule by which a run may be resumed."""

import json
import shutil
from pathlib import Path

from ml_collections import ConfigDict

from ctcd_jax.config import Experiment, resolved
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.files import write_json
from ctcd_jax.initial import read_run
from ctcd_jax.training.checkpoint import TOKENIZER
from ctcd_jax.training.provenance import PROVENANCE, write_provenance

# What a resumed run may change: where, how often, and which of two equal computations, never what is learnt. The corpus
# is compared by its hash, and `auto` dtype counts as what it resolved to.
MAY_CHANGE = (
    "mesh.",
    "wandb.",
    "data.corpus",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.dtype",
    "train.remat",
    "train.attention",
    "train.loss_chunk",
)


# What a run that was killed while it began has left behind.
OURS = (TOKENIZER, PROVENANCE, "config.json")


def open_run(config: ConfigDict, experiment: Experiment, corpus: Corpus, workdir: Path, writes: bool) -> dict:
    """Returns the content of `config.json`, which is written (with tokenizer and provenance) if the run is new.

    Args:
      writes: whether this process writes.

    Raises:
      UserError: the directory holds another run (the first differing field is named), or something else.
    """
    content = {"format": 1} | json.loads(config.to_json_best_effort()) | {"resolved": resolved(experiment, corpus)}
    path = workdir / "config.json"
    if path.is_file():
        check_same_run(read_run(workdir), content, path)
    elif writes and workdir.is_dir() and any(not p.name.startswith(OURS) for p in workdir.iterdir()):
        raise UserError(f"{workdir}: not empty and not a run (no config.json); use another --workdir")
    if writes:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            # config.json last: a directory that has it is complete.
            if not path.is_file():
                shutil.copytree(corpus.tokenizer_directory, workdir / TOKENIZER, dirs_exist_ok=True)
                write_provenance(workdir, corpus, experiment.sources)
            elif not (workdir / PROVENANCE).is_file():  # begun by an earlier version
                write_provenance(workdir, corpus, {})
            write_json(path, content)
        except OSError as error:
            raise UserError(f"{workdir}: cannot be written ({error.strerror}); use another --workdir") from error
    return content


def check_same_run(old: dict, new: dict, path: Path) -> None:
    """Raises UserError that names the first field in which a run differs from the one begun in its directory."""
    before, after = _comparable(old), _comparable(new)
    for field in sorted(before.keys() | after.keys(), key=lambda field: (field.startswith("resolved."), field)):
        if before.get(field) != after.get(field):
            raise UserError(
                f"{path}: this run was begun with {field.replace('resolved.dtype', 'train.dtype')} = "
                f"{before.get(field)}, not {after.get(field)}; "
                "use another --workdir, or that value to resume"
            )


def _without_place(init: str) -> str:
    """Drops the directory of an `init`: it may move, and the frozen copy has its own hash."""
    kind, _, rest = init.partition(":")
    return init if kind == "layers" else f"{kind}#{rest.partition('#')[2]}"


def _comparable(content: dict) -> dict:
    flat = {}

    def walk(prefix, value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            name = f"{prefix}[{key}]" if isinstance(key, int) else f"{prefix}.{key}".lstrip(".")
            if isinstance(inner, dict | list):
                walk(name, inner)
            elif name.startswith("members.") and name.endswith(".init"):
                flat[name] = _without_place(inner or "")
            elif not name.startswith(MAY_CHANGE):
                flat[name] = inner

    walk("", content)
    return flat
