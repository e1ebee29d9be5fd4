"""The metadata at the head of a model card: YAML as the Hugging Face hub reads it."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from ctcd_jax.artifacts.facts import Facts
from ctcd_jax.errors import UserError, first_line

_INDEX = "model-index"
# The key with all that is indented below it or belongs to its list.
_INDEX_BLOCK = re.compile(rf"^(['\"]?){_INDEX}\1[ \t]*:.*\n(?:(?:[ \t-].*)?\n)*", re.MULTILINE)
# A card's metadata begins in its second line.
_FIRST_LINE = 2


def front(facts: Facts, results: Sequence[dict]) -> str:
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


def with_results(present: str, facts: Facts, results: Sequence[dict], path: Path) -> str:
    """Returns YAML with these results; everything else in it, comments and other models' results included, stays.

    Args:
      present: the YAML of the card.
      facts: what `ctcd.json` holds; "name" says which entry is replaced.
      results: entries of the hub's `model-index`.
      path: of the card, for the errors.

    Raises:
      UserError: `present` is not YAML, or not a mapping that can be extended line by line; the error names the line.
    """
    try:
        content = yaml.safe_load(present) or {}
        others = [model for model in content.get(_INDEX) or [] if model["name"] != facts["name"]]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = _FIRST_LINE + (mark.line if mark else 0)
        reason = getattr(error, "problem", None) or first_line(error)
        raise UserError(f"{path}:{line}: its metadata is not what the hub reads ({reason}); correct it") from error
    except (OverflowError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}:{_index_line(present)}: its metadata is not what the hub reads ({first_line(error)}); correct it"
        ) from error
    models = [*_index(facts, results), *others]
    text = _INDEX_BLOCK.sub("", present) + (_dump({_INDEX: models}) if models else "")
    wanted = {key: value for key, value in content.items() if key != _INDEX} | ({_INDEX: models} if models else {})
    # It was cut by lines, so that comments stay; where that does not give what is wanted (braces around all of it, a
    # list over several lines, an alias into what was cut), nothing is written.
    if _loaded(text) != repr(wanted):
        raise UserError(
            f"{path}:{_index_line(present)}: its metadata is not written so that {_INDEX} can be replaced; write each "
            f"key on a line of its own without braces, or remove {_INDEX}"
        )
    return text


def _loaded(text: str) -> str:
    try:
        return repr(yaml.safe_load(text) or {})
    except yaml.YAMLError:
        return ""


def _index_line(present: str) -> int:
    """The line of the card in which the key of the results stands; else the first of the metadata."""
    lines = present.splitlines()
    return _FIRST_LINE + next((number for number, line in enumerate(lines) if _INDEX in line), 0)


def _index(facts: Facts, results: Sequence[dict]) -> list[dict]:
    return [{"name": facts["name"], "results": list(results)}] if results else []


def _language(facts: Facts) -> str | None:
    """The language where it is known: what somebody chose, or English docstrings; the default `en` says nothing."""
    corpus = facts["corpus"]
    chosen = corpus.get("language", "en")
    if chosen != "en":
        return chosen
    kinds = {source["kind"] for source in corpus.get("sources", ())}
    return "en" if kinds == {"docstrings"} else None


def _dump(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
