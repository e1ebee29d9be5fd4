"""What `--model` names: an exported directory or a hub id, or a member of a run, WORKDIR#MEMBER[@STEP|@best]."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.exports import MODEL_CONFIG, distinct_names, free_name
from ctcd_jax.artifacts.hub import find_pretrained
from ctcd_jax.config.init_spec import run_member_config, split_member
from ctcd_jax.errors import UserError
from ctcd_jax.files import json_sha256, read_json
from ctcd_jax.models.huggingface import load_pretrained, read_config
from ctcd_jax.models.registry import Shape, shape_to_dict
from ctcd_jax.training.checkpoint import load_member, member_step


@dataclass(frozen=True)
class Place:
    """Where a model lies: it is known by its shape and its tokenizer before its weights are read.

    Attributes:
      given: as it was given.
      recorded: what a line about it calls it: as it was given, a member of a run without its step.
      path: whose end is its name: its directory, or WORKDIR/MEMBER.
      shape: from its config.
      tokenizer: directory of its tokenizer.
      directory: its Hugging Face directory; None for a member of a run.
      step: of the run that was asked for, "best" for that of its best evaluation; None: the newest.
    """

    given: str
    recorded: str
    path: Path
    shape: Shape
    tokenizer: Path
    directory: Path | None
    step: int | Literal["best"] | None = None

    @property
    def shape_sha256(self) -> str:
        """What makes another model of equal parameters."""
        return json_sha256(shape_to_dict(self.shape))

    @property
    def exporting(self) -> str:
        """The command that makes a directory of a member of a run."""
        step = "" if self.step is None else f" --step {self.step}"
        return f"ctcd export --workdir {self.path.parent} --member {self.path.name}{step} --out DIR"

    def check_vocabulary(self, tokens: int, warn: Callable[[str], None]) -> None:
        """Raises UserError if the model has fewer tokens than its tokenizer has; `warn` is called if it has more."""
        rows = self.shape.vocab_size
        if rows < tokens:
            raise UserError(f"--model {self.given}: {rows:,} tokens, but {tokens:,} in its tokenizer; fetch it again")
        if rows > tokens:
            warn(f"--model {self.given}: {rows:,} rows for {tokens:,} tokens; the last {rows - tokens:,} are left out")

    def load(self) -> tuple[dict, int | None]:
        """Returns its parameters, host float32, and the step that they are of: None of a frozen member or a directory.

        Raises:
          UserError: they cannot be had.
        """
        if self.directory is not None:
            return load_pretrained(self.directory)[1], None
        workdir, member = self.path.parent, self.path.name
        step = member_step(workdir, member, self.step)
        return load_member(workdir, member, step)[1], step


def locate(model: str | Path) -> Place:
    """Returns the place of a model.

    Args:
      model: DIR, a hub id, or WORKDIR#MEMBER[@STEP|@best]; what is a directory as it is written is meant literally.

    Raises:
      UserError: there is none, it is a run of which no member is named, or the step is not saved.
    """
    given = str(model)
    workdir, mark, detail = given.rpartition("#")
    if mark and not Path(given).is_dir():
        return _member(given, Path(workdir), *split_member(detail))
    directory = find_pretrained(given)
    path = directory / MODEL_CONFIG
    if members := read_json(path, "give a model that `ctcd export` wrote, or WORKDIR#MEMBER").get("members"):
        names = " or ".join(f"'{given}#{member}'" for member in members)
        raise UserError(f"--model {given}: a run; name a member of it, {names}")
    return Place(given, given, directory, read_config(path), directory, directory)


def _member(given: str, workdir: Path, member: str, step: int | Literal["best"] | None) -> Place:
    shape = run_member_config(workdir, member)
    member_step(workdir, member, step)  # or it would be missed only after other models have been scored
    return Place(given, f"{workdir}#{member}", workdir / member, shape, workdir / TOKENIZER, None, step)


def named(places: Sequence[Place]) -> list[tuple[str, Place]]:
    """Returns (name, place) in the order given; one member of a run at several steps has one name.

    Raises:
      UserError: one is given twice.
    """
    known: dict[tuple, Place] = {}
    for place in places:
        if known.setdefault((place.path.resolve(), place.step), place) is not place:
            raise UserError(f"--model {place.given}: given twice; name each model once")
    names = {path: name for name, path in distinct_names(list(dict.fromkeys(path for path, _ in known))).items()}
    return [(names[path], place) for (path, _), place in known.items()]


def unused_name(name: str, identity: Hashable, known: Mapping[Any, str]) -> str:
    """Returns what a model or corpus is called in a folder: as before, else `name`, or "name (2)" if that is another's.

    Args:
      name: the end of its path.
      identity: that it is known by.
      known: {identity: name} of the folder.
    """
    if identity in known:
        return known[identity]
    return free_name(name, known.values())
