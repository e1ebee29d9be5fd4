"""What a run remembers of where it comes from, and the facts that the model card of an export is made of.

WORKDIR/provenance.json   {"format": 1, "corpus": the manifest without its long lists, "base_models": {member: hub id},
                           "starts": {member: see `start_facts`}}

Directories are named by their last component alone: a card is published, and where things lay is nobody's business.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ctcd_jax import __version__
from ctcd_jax.artifacts.corpora import ManifestSummary, SourceCounts
from ctcd_jax.artifacts.exports import WEIGHTS
from ctcd_jax.artifacts.facts import (
    FACTS,
    FactsCorpus,
    FactsMember,
    FactsSource,
    FactsTraining,
    FromHub,
    FromRun,
    Optimizer,
    RunFacts,
    Start,
    read_facts,
    trained_positions,
)
from ctcd_jax.artifacts.hub import find_pretrained
from ctcd_jax.artifacts.runs import (
    CONFIG,
    METRICS,
    PROVENANCE,
    PROVENANCE_FORMAT,
    MemberStart,
    Provenance,
    RunConfig,
)
from ctcd_jax.config.init_spec import Init, parse_init, read_run, reading
from ctcd_jax.config.settings import member_optimizer
from ctcd_jax.data import Corpus
from ctcd_jax.data.manifest import summary
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import file_sha256, read_json, write_json
from ctcd_jax.kinds import WHOLE, Each, mismatch
from ctcd_jax.models.huggingface import read_pretrained
from ctcd_jax.ranges import COUNT
from ctcd_jax.training.checkpoint import saved_step
from ctcd_jax.training.history import settings_at
from ctcd_jax.training.metrics import read_lines

_KIND = {
    "starts?": Each({"from_scratch": bool, "rows": WHOLE, "fresh_head?": bool}),
    "corpus?": ({"recipe": {"length": COUNT}}, None),
    "base_models?": Each((str, None)),
}


def write_provenance(workdir: Path, corpus: Corpus, sources: Mapping[str, Init]) -> None:
    """Writes a run's `provenance.json`.

    Args:
      workdir: of the run.
      corpus: that it is trained on.
      sources: where each member starts; {} where that is no longer known, for what they started from may have moved.
    """
    base_models = {name: base for name in sources if (base := _base_model(sources, name))}
    content: Provenance = {"format": PROVENANCE_FORMAT, "corpus": summary(corpus.manifest), "base_models": base_models}
    write_json(workdir / PROVENANCE, content)


def read_provenance(workdir: Path) -> Provenance:
    """Returns a run's `provenance.json`, {} for a run of an earlier version.

    Raises UserError for a later format, or if it is damaged.
    """
    path = workdir / PROVENANCE
    if not path.is_file():
        return {}
    content = read_json(path, "run `ctcd train` again without it")
    if content.get("format") != PROVENANCE_FORMAT:
        raise UserError(f"{path}: format {content.get('format')!r:.60}, this version reads {PROVENANCE_FORMAT}")
    if fault := mismatch(content, _KIND):
        raise UserError(f"{path}: damaged ({fault}); restore it")
    return cast("Provenance", content)


def record_starts(workdir: Path, starts: Mapping[str, MemberStart]) -> None:
    """Writes what the members that do not start from scratch started from into a run's `provenance.json`."""
    write_json(workdir / PROVENANCE, read_provenance(workdir) | {"starts": dict(starts)})


def start_facts(sources: Mapping[str, Init], name: str, warn: Callable[[str], None] = warn) -> MemberStart:
    """Returns what is known of the weights that a member starts from. Asked while their source is still there.

    {"from_scratch": whether all that trained them were runs of this project, with rows of single sentences,
    "rows": ids of the longest rows that they were trained on, 0 for none;
    and of a member that a run trained: "step": the saved step they are of, "steps": how many the run was to do}

    Args:
      sources: where each member starts.
      name: of the member.
      warn: called with a line about an export of ours whose `ctcd.json` cannot be read.
    """
    source = sources[name]
    if source.kind == "scratch":
        return {"from_scratch": True, "rows": 0}
    if source.kind == "layers":
        base = start_facts(sources, source.location, warn)
        return {"from_scratch": base["from_scratch"], "rows": base["rows"]}
    return _of_export(find_pretrained(source.location), warn) if source.kind == "hf" else _of_run(source)


def recorded_start(run: RunConfig, workdir: Path, member: str, warn: Callable[[str], None] = warn) -> MemberStart:
    """Returns `start_facts` as the run recorded them, or as its sources still tell them.

    Args:
      run: its config.json.
      workdir: of the run.
      member: its name in the cohort.
      warn: as of `start_facts`.
    """
    recorded = read_provenance(workdir).get("starts", {})
    if member in recorded:
        return recorded[member]
    sources = {name: parse_init(name, run["members"][name]["init"], run["members"]) for name in run["members"]}
    try:
        return start_facts(sources, member, warn)
    except UserError:  # a run of an earlier version, whose source has gone
        return {"from_scratch": False, "rows": 0}


def card_facts(
    run: RunConfig, workdir: Path, member: str, step: int | None, warn: Callable[[str], None] = warn
) -> RunFacts:
    """Returns what is known of a member of a run before it is exported.

    Args:
      run: its config.json.
      workdir: of the run.
      member: its name in the cohort.
      step: updates done; None for a frozen member, which this run did not train.
      warn: called with a line about what is damaged, of metrics.jsonl or of what the member started from.

    Raises:
      UserError: config.json or provenance.json is damaged.
    """
    known = read_provenance(workdir)
    with reading(workdir / (PROVENANCE if known else CONFIG)):
        return _card_facts(run, known, workdir, member, step, warn)


def _card_facts(
    run: RunConfig, known: Provenance, workdir: Path, member: str, step: int | None, warn: Callable[[str], None]
) -> RunFacts:
    base_models = known.get("base_models", {})
    start = recorded_start(run, workdir, member, warn)
    facts: RunFacts = {
        "version": __version__,
        "run": _last(workdir),
        "member": member,
        "model": run["resolved"]["models"][member],
        "members": {
            name: _member(run, name, base_models.get(name), known.get("starts", {}).get(name, {}))
            for name in run["members"]
        },
        "edges": [edge for edge in run["edges"] if edge["weight"] != 0],
        "from_scratch": start["from_scratch"],
        "earlier_rows": start["rows"],
        "training": None,
        "corpus": {},
    }
    if step is None:
        return facts
    facts["training"] = _training(settings_at(run, step), member, step)
    facts["corpus"] = {"hash": run["resolved"]["corpus_hash"], **_corpus(known.get("corpus"))}
    lines = [line for line in read_lines(workdir / METRICS, warn) if line["step"] == step]
    if lines:
        facts["training"]["tokens"] = lines[-1]["tokens"]
    validations = [line for line in lines if line["kind"] == "validation"]
    held_out = [line["members"].get(member, {}) for line in validations]
    if held_out and held_out[-1].get("hard") is not None:  # None where nothing was predicted
        facts["held_out"] = {"step": step, "loss": held_out[-1]["hard"], "accuracy": held_out[-1]["accuracy"]}
        if "unigram" in validations[-1]:
            facts["held_out"]["unigram"] = validations[-1]["unigram"]
    if history := run.get("history"):
        facts["training"]["history"] = [entry for entry in history if entry["from_step"] < step]
    return facts


def _of_run(source: Init) -> MemberStart:
    workdir = Path(source.location)
    run = read_run(workdir)
    start = recorded_start(run, workdir, source.member)
    if not run["members"][source.member]["trainable"]:
        return {"from_scratch": start["from_scratch"], "rows": start["rows"]}
    # Where an earlier version did not write it down, nothing is said of positions that were never trained.
    longest = run["resolved"]["models"][source.member]["max_positions"]
    if corpus := read_provenance(workdir).get("corpus"):
        longest = corpus["recipe"]["length"]
    return {
        "from_scratch": start["from_scratch"],
        "rows": max(start["rows"], longest),
        "step": saved_step(workdir, source.step),
        "steps": run["resolved"]["steps"],
    }


def _of_export(directory: Path, warn: Callable[[str], None]) -> MemberStart:
    """Of a Hugging Face directory: an export of ours says in `ctcd.json` what it is, if it still is that."""
    if (directory / FACTS).is_file() and (directory / WEIGHTS).is_file():
        try:
            facts = read_facts(directory)
            if facts["from_scratch"] and facts["weights"] == file_sha256(directory / WEIGHTS):
                return {"from_scratch": True, "rows": trained_positions(facts)}
        except (UserError, OSError) as error:
            warn(f"{directory}: taken for a model that is not of this project: {error}")
    start: MemberStart = {"from_scratch": False, "rows": 0}
    if read_pretrained(directory).fresh_head:
        start["fresh_head"] = True
    return start


def _base_model(sources: Mapping[str, Init], name: str) -> str | None:
    """The hub's model that a member descends from, if it descends from one. Asked while its source is still there."""
    source = sources[name]
    if source.kind == "hf":
        here = Path(source.location).is_dir()
        return _cached_hub_id(source.location) or (None if here else source.location.partition("@")[0])
    if source.kind == "layers":
        return _base_model(sources, source.location)
    if source.kind == "run":
        return read_provenance(Path(source.location)).get("base_models", {}).get(source.member)
    return None


def _member(run: RunConfig, name: str, base_model: str | None, recorded: Mapping[str, Any]) -> FactsMember:
    settings, shape = run["members"][name], run["resolved"]["models"][name]
    source = parse_init(name, settings["init"], run["members"])
    member: FactsMember = {
        "layers": shape["layers"],
        "hidden": shape["hidden"],
        "start": _start(source, base_model, recorded),
        "trainable": settings["trainable"],
        "hard_weight": settings["hard_weight"],
    }
    if base_model:
        member["base_model"] = base_model
    return member


def _start(source: Init, base_model: str | None, recorded: Mapping[str, Any]) -> Start:
    if source.kind == "hf":
        model = base_model or _cached_hub_id(source.location) or _last(source.location)
        hub: FromHub = {"kind": "hf", "model": model}
        if recorded.get("fresh_head"):
            hub["fresh_head"] = True
        return hub
    if source.kind == "run":
        start: FromRun = {"kind": "run", "run": _last(source.location), "member": source.member}
        for key in ("step", "steps"):
            if key in recorded:
                start[key] = recorded[key]
        return start
    if source.kind == "layers":
        return {"kind": "layers", "member": source.location, "layers": source.layers}
    return {"kind": "scratch"}


def _training(run: RunConfig, member: str, step: int) -> FactsTraining:
    optimizer = member_optimizer(run["optimizer"], run["members"][member]["optimizer"])
    return {
        "step": step,
        "steps": run["resolved"]["steps"],
        "batch_size": run["data"]["batch_size"],
        "seed": run["seed"],
        "dtype": run["resolved"]["dtype"],
        "masking": run["masking"],
        "optimizer": cast("Optimizer", optimizer),
    }


def _corpus(manifest: ManifestSummary | None) -> FactsCorpus:
    if manifest is None:
        return {}
    recipe, tokenizer = manifest["recipe"], manifest["tokenizer"]
    return {
        "sources": [_source(source) for source in manifest["sources"]],
        "splits": manifest["splits"],
        "dropped": manifest["dropped"],
        "length": recipe["length"],
        "packing": recipe["packing"],
        "every": recipe["every"],
        "seed": recipe["seed"],
        "validation": recipe["validation"],
        "language": recipe["language"],
        "deduplicate": recipe["deduplicate"],
        # An earlier version had neither this nor keep_accents.
        "validation_by": recipe.get("validation_by", "documents"),
        "tokenizer": {
            "name": recipe["tokenizer"] and _last(recipe["tokenizer"]),
            "cased": recipe["cased"],
            "keep_accents": recipe.get("keep_accents", False),
            "vocab_size": tokenizer["vocab_size"],
            "hash": tokenizer["hash"],
        },
    }


def _source(source: SourceCounts) -> FactsSource:
    """A source of the manifest without the place it lay in; only one of the hub has a revision."""
    head, *options = re.split(r",(\w+)=", source["source"])
    kind, _, location = head.partition(":")
    found = {"kind": kind, "options": dict(zip(options[::2], options[1::2], strict=True))}
    if "revision" in source:
        found |= {"hub": location, "revision": source["revision"]}
    elif kind != "docstrings":
        found["name"] = location if kind == "tfds" and not _is_path(location) else _last(location)
    return cast("FactsSource", found | {count: source[count] for count in ("documents", "sentences", "kept")})


def _cached_hub_id(location: str) -> str | None:
    """The id of a model in the hub's cache, whose own directory is named after a commit."""
    found = re.search(r"models--([^/]+)/snapshots/[^/]+/*$", os.path.abspath(location))
    return found and found[1].replace("--", "/", 1)


def _is_path(location: str) -> bool:
    return location.startswith(("/", "~", "."))


def _last(place: str | Path) -> str:
    return os.path.basename(os.path.abspath(place))
