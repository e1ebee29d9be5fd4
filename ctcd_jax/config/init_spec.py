"""A member's first weights: `scratch`, `hf:DIR_OR_ID`, `run:WORKDIR#MEMBER[@STEP]` or `layers:MEMBER#0,2,4`."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.exports import MODEL_CONFIG
from ctcd_jax.artifacts.hub import find_pretrained
from ctcd_jax.artifacts.runs import CONFIG, RUN_FORMAT, RunConfig
from ctcd_jax.data import Corpus
from ctcd_jax.data.tokenizer import tokenizer_hash
from ctcd_jax.errors import UserError, did_you_mean, first_line
from ctcd_jax.files import read_json
from ctcd_jax.models.huggingface import read_config
from ctcd_jax.models.registry import Shape, shape_from_dict

KINDS = ("scratch", "hf", "run", "layers")


@dataclass(frozen=True)
class Init:
    """A parsed `init`. `location` is the directory (hf, run) or the member (layers) it names.

    Attributes:
      kind: one of KINDS.
      location: directory or member; "" for scratch.
      member: of the run ("run").
      step: of the run; "best" for that of its best evaluation (`train.keep_best`), None for the newest.
      layers: indices of the copied layers ("layers").
    """

    kind: str
    location: str = ""
    member: str = ""
    step: int | Literal["best"] | None = None
    layers: tuple[int, ...] = ()

    def __str__(self):
        step = "" if self.step is None else f"@{self.step}"
        detail = self.member + step or ",".join(map(str, self.layers))
        return self.kind + (f":{self.location}" if self.location else "") + (f"#{detail}" if detail else "")


def split_init(init: str | None) -> tuple[str, str, str]:
    """Returns (kind, location, detail) of `KIND:LOCATION#DETAIL`, "" for what is not given; None is `scratch`."""
    kind, _, rest = (init or "scratch").partition(":")
    if kind == "hf" or "#" not in rest:  # a directory may have a # in its name
        return kind, rest, ""
    location, _, detail = rest.rpartition("#")
    return kind, location, detail


def split_member(detail: str) -> tuple[str, int | Literal["best"] | None]:
    """Returns (member, step) of MEMBER, MEMBER@best or MEMBER@1000, what may follow `run:WORKDIR#`."""
    member, _, step = detail.rpartition("@")
    if member and step == "best":
        return member, "best"
    return (member, int(step)) if member and step.isdecimal() else (detail, None)


def parse_init(name: str, init: str | None, members: Mapping) -> Init:
    """Parses `members.NAME.init`, None being `scratch`. Raises UserError that names the field.

    Args:
      name: of the member.
      init: the field's value.
      members: all members by name, of which `layers:` names one.
    """
    field = f"members.{name}.init"
    kind, location, detail = split_init(init)
    if kind not in KINDS:
        raise UserError(f"{field}: no kind '{kind}' in '{init}'{did_you_mean(kind, KINDS)}")
    if kind == "scratch":
        return Init("scratch")
    if not location:
        raise UserError(f"{field}: '{init}' names nothing after '{kind}:'")
    if kind == "hf":
        return Init("hf", location)
    if kind == "run":
        if not detail:
            raise UserError(f"{field}: '{init}' names no member; write run:WORKDIR#MEMBER")
        return Init("run", location, *split_member(detail))
    if location not in members or location == name:
        others = [other for other in members if other != name]
        raise UserError(f"{field}: no other member '{location}'{did_you_mean(location, others)}")
    if not all(part.strip().isdigit() for part in detail.split(",")):
        raise UserError(f"{field}: '{init}' names no layers; write e.g. layers:{location}#0,2,4")
    return Init("layers", location, layers=tuple(int(part) for part in detail.split(",")))


def source_config(source: Init, models: Mapping[str, Shape], corpus: Corpus) -> Shape | None:
    """Returns the shape that a source gives, None for scratch. Raises UserError if its tokenizer is not the corpus's.

    A vocabulary that was padded (to a multiple of 64, say) counts without the rows beyond the tokenizer's ids.

    Args:
      source: the parsed `init`.
      models: shapes of the members that `layers:` may name.
      corpus: with whose tokenizer the members are trained.
    """
    if source.kind == "scratch":
        return None
    if source.kind == "layers":
        base = models[source.location]
        beyond = [n for n in source.layers if n >= base.layers]
        if beyond:
            raise UserError(f"{source}: there is no layer {beyond[0]}; '{source.location}' has {base.layers}")
        return replace(base, layers=len(source.layers))
    if source.kind == "hf":
        directory = find_pretrained(source.location)
        config, tokenizer = read_config(directory / MODEL_CONFIG), directory
    else:
        config, tokenizer = run_member_config(source.location, source.member), Path(source.location) / TOKENIZER
    theirs = tokenizer_hash(tokenizer)
    if theirs != corpus.tokenizer_hash:
        raise UserError(
            f"{source}: its tokenizer ({theirs[:12]}) is not that of the corpus {corpus.directory} "
            f"({corpus.tokenizer_hash[:12]}); prepare the corpus with --tokenizer {tokenizer}"
        )
    return replace(config, vocab_size=min(config.vocab_size, corpus.vocab_size))


def read_run(workdir: str | Path) -> RunConfig:
    """Returns a run's `config.json`. Raises UserError if there is none, its format is unknown, or it is damaged."""
    path = Path(workdir) / CONFIG
    run = read_json(path, "name the --workdir of a `ctcd train` run")
    if run.get("format") != RUN_FORMAT:
        raise UserError(
            f"{path}: format {run.get('format')!r:.60} is unknown to this version, which reads format {RUN_FORMAT}"
        )
    with reading(path):
        if "models" not in run.get("resolved", {}):
            raise UserError(f"{path}: not the config of a run; name the --workdir of a `ctcd train` run")
        for name, model in run["resolved"]["models"].items():
            recorded_shape(f"{path}: resolved.models.{name}", model)
            parse_init(name, run["members"][name]["init"], run["members"])
        int(run["seed"])
        for part in ("data", "train", "optimizer", "masking"):
            run[part].items()
        for edge in run["edges"]:
            _ = edge["weight"], edge["source"], edge["target"]
        for entry in run.get("history", []):
            _ = int(entry["from_step"]), entry["changed"].items()
    return cast("RunConfig", run)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises a UserError that names the file where the block finds that its JSON is not what was written into it."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{path}: damaged ({reason}); restore it, or use another --workdir") from error


def run_member_config(workdir: str | Path, member: str) -> Shape:
    """Returns the shape of a member of a run. Raises UserError if there is no such member."""
    models = read_run(workdir)["resolved"]["models"]
    if member not in models:
        raise UserError(f"{workdir}: the run has no member '{member}'{did_you_mean(member, models)}")
    return recorded_shape(f"{Path(workdir) / CONFIG}: resolved.models.{member}", models[member])


def recorded_shape(place: str, fields: Mapping) -> Shape:
    """Returns the shape that a run's `config.json` holds at `place`. Raises UserError if it is none."""
    try:
        return shape_from_dict(fields)
    except (TypeError, ValueError) as error:
        raise UserError(f"{place} is damaged ({error}); restore it, or use another --workdir") from error
