"""The metadata at the head of a model card: YAML as the Hugging Face hub reads it."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from ctcd_jax.errors import UserError

_INDEX = "model-index"
# The key with all that is indented below it or belongs to its list.
_INDEX_BLOCK = re.compile(rf"^{_INDEX}:.*\n(?:(?:[ \t-].*)?\n)*", re.MULTILINE)


def front(facts: dict, results: Sequence[dict]) -> str:
    """Returns the metadata of a new card. What is not known is not there: often the language, always the licence."""
    known = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["bert", "masked-language-modeling", "ctcd", *(["distillation"] if facts["edges"] else [])],
        "language": _language(facts),
        "base_model": facts["members"][facts["member"]].get("base_model"),
        "datasets": list(dict.fromkeys(s["hub"] for s in facts["corpus"].get("sources", ()) if "hub" in s)),
        _INDEX: _index(facts, results),
    }
    return _dump({key: value for key, value in known.items() if value})


def with_results(present: str, facts: dict, results: Sequence[dict], path: Path) -> str:
    """Returns YAML with these results; everything else in it, comments and other models' results included, stays.

    Raises:
      UserError: `present` is not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(present) or {}
        others = [model for model in content.get(_INDEX) or [] if model["name"] != facts["name"]]
    except (yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: its metadata is not what the hub reads ({reason}); mend it") from error
    models = [*_index(facts, results), *others]
    return _INDEX_BLOCK.sub("", present) + (_dump({_INDEX: models}) if models else "")


def _index(facts: dict, results: Sequence[dict]) -> list[dict]:
    return [{"name": facts["name"], "results": list(results)}] if results else []


def _language(facts: dict) -> str | None:
    """The language where it is known: what somebody chose, or English docstrings; the default `en` says nothing."""
    corpus = facts["corpus"]
    chosen = corpus.get("language", "en")
    if chosen != "en":
        return chosen
    kinds = {source["kind"] for source in corpus.get("sources", ())}
    return "en" if kinds == {"docstrings"} else None


def _dump(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
