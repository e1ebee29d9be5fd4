"""What differs between the runs: the fields of their configs that are not the same in all."""

from collections.abc import Iterator, Mapping
from typing import Any

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.reading import Run
from ctcd_jax.page import Html
from ctcd_jax.page.tables import MISSING, download

MOST_COLUMNS = 4  # of runs; more runs stand in rows
# Where things lie and what they are called elsewhere; `resolved` says what came of steps, dtype and corpus.
_NOT_COMPARED = ("format", "data.corpus", "wandb", "trackio", "train.dtype", "train.steps", "train.epochs", "history")
_RESOLVED = ("steps", "dtype", "corpus_hash")


def differs(artifacts: Artifacts) -> list[Html]:
    """Returns a table of the fields that differ; nothing for a single run."""
    runs = artifacts.runs
    if len(runs) < 2:
        return []
    configs = {name: dict(_fields(run)) for name, run in runs.items()}
    named = dict.fromkeys(field for config in configs.values() for field in config)
    fields = [field for field in named if _differs([config[field] for config in configs.values() if field in config])]
    if not fields:
        return [page.paragraph(f"Nothing: the configs of the {len(runs)} runs are the same.")]
    # Long names may break at their dots.
    shown = [["run", *(field.replace(".", ".\u200b") for field in fields)]]
    shown += [[name, *(_text(config, field) for field in fields)] for name, config in configs.items()]
    lines = [[name, *(config.get(field) for field in fields)] for name, config in configs.items()]
    link = download("differences-of-configs", ["run", *fields], lines)
    if len(runs) <= MOST_COLUMNS:
        shown = [list(row) for row in zip(*shown, strict=True)]
        shown[0][0] = "field"
    note = "All other fields are the same in every run that has them; To reproduce has the whole of each config.json."
    table = page.table(shown, "Fields of config.json", links=[link], words=range(len(shown[0])))
    return [table, page.paragraph(note, "note")]


def _differs(values: list) -> bool:
    """Whether two runs have different values: a run without a member or an edge has none of its fields."""
    return len({repr(value) for value in values}) > 1


def _fields(run: Run) -> Iterator[tuple[str, Any]]:
    """The fields of a config by their dotted names, members and edges by theirs, and what was resolved."""
    config, edges = run.config, run.config.get("edges") or []
    resolved = config.get("resolved", {})
    yield "members", ", ".join(config["members"])
    yield "edges", ", ".join(_edge(edge) for edge in edges) or "none"
    for field in _RESOLVED:
        value = resolved.get(field)
        yield field.replace("_hash", ""), value[:8] if field == "corpus_hash" and value else value
    if changes := config.get("history"):
        yield "changed", "; ".join(f"after step {change['from_step']}" for change in changes)
    rest = {key: value for key, value in config.items() if key not in ("edges", "resolved")}
    for field, value in _flat(rest):
        if not field.startswith(_NOT_COMPARED):
            yield field, value
    for edge in edges:
        for field, value in edge.items():
            if field not in ("source", "target", "signal"):
                yield f"{_edge(edge)} {field}", value


def _flat(content: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _edge(edge: Mapping) -> str:
    signal = edge.get("signal", "logits")
    return f"{edge['source']} → {edge['target']}{'' if signal == 'logits' else f' ({signal})'}"


def _text(config: Mapping[str, Any], field: str) -> str:
    """A value as text; a dash for a run that has no such field."""
    value = config.get(field, MISSING)
    return f"{value:g}" if isinstance(value, float) else str(value)
