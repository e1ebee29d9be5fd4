"""What a run remembers of where it comes from, and the facts that the model card of an export is made of.

WORKDIR/provenance.json   {"format": 1, "corpus": the manifest without its long lists, "base_models": {member: hub id},
                           "starts": {member: see `start_facts`}}

Directories are named by their last component alone: a card is published, and where things lay is nobody's business.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ctcd_jax import __version__
from ctcd_jax.card import read_facts
from ctcd_jax.config.init_spec import Init, parse_init, read_run, reading
from ctcd_jax.data import Corpus
from ctcd_jax.data.manifest import summary
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import file_sha256, read_json, write_json
from ctcd_jax.kinds import WHOLE, Each, mismatch
from ctcd_jax.models.huggingface import find_pretrained
from ctcd_jax.ranges import COUNT
from ctcd_jax.training.checkpoint import saved_step
from ctcd_jax.training.history import settings_at
from ctcd_jax.training.metrics import METRICS, read_lines

PROVENANCE = "provenance.json"
FORMAT = 1
KIND = {
    "starts?": Each({"from_scratch": bool, "rows": WHOLE}),
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
    content = {"format": FORMAT, "corpus": summary(corpus.manifest), "base_models": base_models}
    write_json(workdir / PROVENANCE, content)


def read_provenance(workdir: Path) -> dict:
    """Returns a run's `provenance.json`, {} for a run of an earlier version.

    Raises UserError for a later format, or if it is damaged.
    """
    path = workdir / PROVENANCE
    if not path.is_file():
        return {}
    content = read_json(path, "run `ctcd train` again without it")
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: format {content.get('format')!r}, this version reads {FORMAT}")
    if fault := mismatch(content, KIND):
        raise UserError(f"{path}: damaged ({fault}); restore it")
    return content


def record_starts(workdir: Path, starts: Mapping[str, dict]) -> None:
    """Writes what the members that do not start from scratch started from into a run's `provenance.json`."""
    write_json(workdir / PROVENANCE, read_provenance(workdir) | {"starts": dict(starts)})


def start_facts(sources: Mapping[str, Init], name: str) -> dict:
    """Returns what is known of the weights that a member starts from. Asked while their source is still there.

    {"from_scratch": whether all that trained them were runs of this project, with rows of single sentences,
    "rows": ids of the longest rows that they were trained on, 0 for none;
    and of a member that a run trained: "step": the saved step they are of, "steps": how many the run was to do}
    """
    source = sources[name]
    if source.kind == "scratch":
        return {"from_scratch": True, "rows": 0}
    if source.kind == "layers":
        base = start_facts(sources, source.location)
        return {key: base[key] for key in ("from_scratch", "rows")}
    return _of_export(find_pretrained(source.location)) if source.kind == "hf" else _of_run(source)


def recorded_start(run: dict, workdir: Path, member: str) -> dict:
    """Returns `start_facts` as the run recorded them, or as its sources still tell them.

    Args:
      run: its config.json.
      workdir: of the run.
      member: its name in the cohort.
    """
    recorded = read_provenance(workdir).get("starts", {})
    if member in recorded:
        return recorded[member]
    sources = {name: parse_init(name, run["members"][name]["init"], run["members"]) for name in run["members"]}
    try:
        return start_facts(sources, member)
    except UserError:  # a run of an earlier version, whose source has gone
        return {"from_scratch": False, "rows": 0}


def card_facts(run: dict, workdir: Path, member: str, step: int | None, warn: Callable[[str], None] = warn) -> dict:
    """Returns what is known of a member of a run before it is exported.

    Args:
      run: its config.json.
      workdir: of the run.
      member: its name in the cohort.
      step: updates done; None for a frozen member, which this run did not train.
      warn: called with a line about each line of metrics.jsonl that is damaged.

    Raises:
      UserError: config.json or provenance.json is damaged.
    """
    known = read_provenance(workdir)
    with reading(workdir / (PROVENANCE if known else "config.json")):
        return _card_facts(run, known, workdir, member, step, warn)


def _card_facts(run: dict, known: dict, workdir: Path, member: str, step: int | None, warn) -> dict:
    base_models = known.get("base_models", {})
    start = recorded_start(run, workdir, member)
    facts = {
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
    facts["corpus"] = {"hash": run["resolved"]["corpus_hash"]} | _corpus(known.get("corpus"))
    lines = [line for line in read_lines(workdir / METRICS, warn) if line["step"] == step]
    if lines:
        facts["training"]["tokens"] = lines[-1]["tokens"]
    held_out = [line["members"].get(member, {}) for line in lines if line["kind"] == "validation"]
    if held_out and held_out[-1].get("hard") is not None:  # None where nothing was predicted
        facts["held_out"] = {"step": step, "loss": held_out[-1]["hard"], "accuracy": held_out[-1]["accuracy"]}
    if history := run.get("history"):
        facts["training"]["history"] = [entry for entry in history if entry["from_step"] < step]
    return facts


def _of_run(source: Init) -> dict:
    workdir = Path(source.location)
    run = read_run(workdir)
    start = recorded_start(run, workdir, source.member)
    if not run["members"][source.member]["trainable"]:
        return {key: start[key] for key in ("from_scratch", "rows")}
    # Where an earlier version did not write it down, nothing is said of positions that were never trained.
    longest = run["resolved"]["models"][source.member]["max_positions"]
    if corpus := read_provenance(workdir).get("corpus"):
        longest = corpus["recipe"]["length"]
    return {
        "from_scratch": start["from_scratch"],
        "rows": max(start["rows"], longest),
        "step": saved_step(workdir),
        "steps": run["resolved"]["steps"],
    }


def _of_export(directory: Path) -> dict:
    """Of a Hugging Face directory: an export of ours says in `ctcd.json` what it is, if it still is that."""
    try:
        facts = read_facts(directory)
        if facts["from_scratch"] and facts["weights"] == file_sha256(directory / "model.safetensors"):
            rows = max(facts["corpus"].get("length", 0), facts.get("earlier_rows", 0))
            return {"from_scratch": True, "rows": rows or facts["model"]["max_positions"]}
    except (UserError, KeyError, TypeError, AttributeError, OSError):
        pass  # anybody's model
    return {"from_scratch": False, "rows": 0}


def _base_model(sources: Mapping[str, Init], name: str) -> str | None:
    """The hub's model that a member descends from, if it descends from one. Asked while its source is still there."""
    source = sources[name]
    if source.kind == "hf":
        return _cached_hub_id(source.location) or (None if Path(source.location).is_dir() else source.location)
    if source.kind == "layers":
        return _base_model(sources, source.location)
    if source.kind == "run":
        return read_provenance(Path(source.location)).get("base_models", {}).get(source.member)
    return None


def _member(run: dict, name: str, base_model: str | None, recorded: dict) -> dict:
    settings, shape = run["members"][name], run["resolved"]["models"][name]
    source = parse_init(name, settings["init"], run["members"])
    start: dict = {"kind": source.kind}
    if source.kind == "hf":
        start["model"] = base_model or _cached_hub_id(source.location) or _last(source.location)
    elif source.kind == "run":
        start |= {"run": _last(source.location), "member": source.member}
        start |= {key: recorded[key] for key in ("step", "steps") if key in recorded}
    elif source.kind == "layers":
        start |= {"member": source.location, "layers": source.layers}
    member = {key: shape[key] for key in ("layers", "hidden")} | {"start": start}
    member |= {key: settings[key] for key in ("trainable", "hard_weight")}
    return member | ({"base_model": base_model} if base_model else {})


def _training(run: dict, member: str, step: int) -> dict:
    own = run["members"][member]["optimizer"]
    return {
        "step": step,
        "steps": run["resolved"]["steps"],
        "batch_size": run["data"]["batch_size"],
        "seed": run["seed"],
        "dtype": run["resolved"]["dtype"],
        "masking": run["masking"],
        "optimizer": run["optimizer"] | {key: value for key, value in own.items() if value is not None},
    }


def _corpus(manifest: dict | None) -> dict:
    if manifest is None:
        return {}
    recipe, tokenizer = manifest["recipe"], manifest["tokenizer"]
    taken = ("length", "packing", "every", "seed", "validation", "language", "deduplicate")
    return {
        "sources": [_source(source) for source in manifest["sources"]],
        "splits": manifest["splits"],
        "dropped": manifest["dropped"],
        **{key: recipe[key] for key in taken},
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


def _source(source: dict) -> dict:
    """A source of the manifest without the place it lay in; only one of the hub has a revision."""
    head, *options = re.split(r",(\w+)=", source["source"])
    kind, _, location = head.partition(":")
    found = {"kind": kind, "options": dict(zip(options[::2], options[1::2], strict=True))}
    if "revision" in source:
        found |= {"hub": location, "revision": source["revision"]}
    elif kind != "docstrings":
        found["name"] = location if kind == "tfds" and not _is_path(location) else _last(location)
    return found | {count: source[count] for count in ("documents", "sentences", "kept")}


def _cached_hub_id(location: str) -> str | None:
    """The id of a model in the hub's cache, whose own directory is named after a commit."""
    found = re.search(r"models--([^/]+)/snapshots/[^/]+/*$", os.path.abspath(location))
    return found and found[1].replace("--", "/", 1)


def _is_path(location: str) -> bool:
    return location.startswith(("/", "~", "."))


def _last(place: str | Path) -> str:
    return os.path.basename(os.path.abspath(place))
