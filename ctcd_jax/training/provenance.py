"""What a run remembers for the model cards of its exports, and the facts that such a card is made of.

WORKDIR/provenance.json   {"format": 1, "corpus": the manifest without its long lists, "base_models": {member: hub id}}

Directories are named by their last component alone: a card is published, and where things lay is nobody's business.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ctcd_jax import __version__
from ctcd_jax.data import Corpus
from ctcd_jax.data.manifest import summary
from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json, write_json
from ctcd_jax.initial import Source, parse_init
from ctcd_jax.training.metrics import METRICS

PROVENANCE = "provenance.json"
FORMAT = 1


def write_provenance(workdir: Path, corpus: Corpus, sources: Mapping[str, Source]) -> None:
    """Writes a run's `provenance.json`.

    Args:
      sources: where each member starts; {} where that can no longer be told, for what they started from may have moved.
    """
    base_models = {name: base for name in sources if (base := _base_model(sources, name))}
    content = {"format": FORMAT, "corpus": summary(corpus.manifest), "base_models": base_models}
    write_json(workdir / PROVENANCE, content)


def read_provenance(workdir: Path) -> dict:
    """Returns a run's `provenance.json`, {} for a run of an earlier version. Raises UserError for a later format."""
    path = workdir / PROVENANCE
    if not path.is_file():
        return {}
    content = read_json(path, "run `ctcd train` again without it")
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: format {content.get('format')!r}, this version reads {FORMAT}")
    return content


def from_scratch(run: dict, member: str) -> bool:
    """Whether a member's parameters come from this run alone, directly or as layers of one that does."""
    kind, _, rest = (run["members"][member]["init"] or "scratch").partition(":")
    return kind == "scratch" or (kind == "layers" and from_scratch(run, rest.partition("#")[0]))


def card_facts(run: dict, workdir: Path, member: str, step: int | None) -> dict:
    """Returns what is known of a member of a run before it is exported.

    Args:
      run: its config.json.
      step: updates done; None for a frozen member, which this run did not train.
    """
    known = read_provenance(workdir)
    base_models = known.get("base_models", {})
    facts = {
        "version": __version__,
        "run": _last(workdir),
        "member": member,
        "model": run["resolved"]["models"][member],
        "members": {name: _member(run, name, base_models.get(name)) for name in run["members"]},
        "edges": [edge for edge in run["edges"] if edge["weight"] != 0],
        "from_scratch": from_scratch(run, member),
        "training": None,
        "corpus": {},
    }
    if step is None:
        return facts
    facts["training"] = _training(run, member, step)
    facts["corpus"] = {"hash": run["resolved"]["corpus_hash"]} | _corpus(known.get("corpus"))
    lines = [line for line in _metrics(workdir) if line["step"] == step]
    if lines:
        facts["training"]["tokens"] = lines[-1]["tokens"]
    held_out = [line["members"][member] for line in lines if line["kind"] == "validation"]
    if held_out and held_out[-1]["hard"] is not None:  # None where nothing was predicted
        facts["held_out"] = {"step": step, "loss": held_out[-1]["hard"], "accuracy": held_out[-1]["accuracy"]}
    return facts


def _base_model(sources: Mapping[str, Source], name: str) -> str | None:
    """The hub's model that a member descends from, if it descends from one. Asked while its source is still there."""
    source = sources[name]
    if source.kind == "hf":
        return _cached_hub_id(source.location) or (None if Path(source.location).is_dir() else source.location)
    if source.kind == "layers":
        return _base_model(sources, source.location)
    if source.kind == "run":
        return read_provenance(Path(source.location)).get("base_models", {}).get(source.member)
    return None


def _member(run: dict, name: str, base_model: str | None) -> dict:
    settings, shape = run["members"][name], run["resolved"]["models"][name]
    source = parse_init(name, settings["init"] or "scratch", run["members"])
    start: dict = {"kind": source.kind}
    if source.kind == "hf":
        start["model"] = base_model or _cached_hub_id(source.location) or _last(source.location)
    elif source.kind == "run":
        start |= {"run": _last(source.location), "member": source.member}
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


def _metrics(workdir: Path) -> list[dict]:
    path = workdir / METRICS
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # A run that was killed may leave a torn last line.
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


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
        "tokenizer": {
            "name": recipe["tokenizer"] and _last(recipe["tokenizer"]),
            "cased": recipe["cased"],
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
