"""`ctcd card`: what was measured of an exported model goes into its model card."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ctcd_jax.card import Measured, read_facts, write_card
from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.artifacts import is_skipped
from ctcd_jax.evaluation.card_sections import Timing, latency_section, model_index_results, scores_section
from ctcd_jax.evaluation.exports import named_exports, weights_digest
from ctcd_jax.evaluation.results import RESULTS, read_results
from ctcd_jax.files import read_json

LATENCY = "latency.json"


def card(models: Sequence[Path], places: Sequence[Path], log: Callable[[str], None] = print) -> None:
    """Writes the README.md of exported models anew, with the scores and timings that are found of their weights.

    The card is a function of `ctcd.json` and of what is found now: give all places at once.

    Args:
      models: exported directories.
      places: results.jsonl and latency.json files, or directories to search for them, checkpoints excepted.

    Raises:
      UserError: a directory is no export, its weights have changed since, nothing is found of one, two results
        contradict each other, or a README.md was edited where it is generated. No card is written then, except that
        of a model before the one whose README.md is at fault.
    """
    results, latencies = _found(places)
    timed = list(_timed(latencies, log))
    cards = []
    for name, directory in named_exports(models).items():
        facts, weights = read_facts(directory), weights_digest(directory)
        if weights != facts["weights"]:
            raise UserError(f"{directory}: not the weights that were exported; ctcd.json does not speak of them")
        rows, timings = _rows(results, weights, facts["name"]), _timings(timed, weights)
        if not rows and not timings:
            raise UserError(
                f"{name}: nothing there is of its weights ({weights[:12]}): {len(results)} {RESULTS} and "
                f"{len(latencies)} {LATENCY} were read; run `ctcd glue` or `ctcd latency --out` on {directory}"
            )
        cards.append((directory, facts, rows, timings))
    for directory, facts, rows, timings in cards:
        sections = ([scores_section(rows)] if rows else []) + ([latency_section(timings)] if timings else [])
        write_card(directory, facts, Measured(tuple(sections), tuple(model_index_results(rows))))
        log(f"{directory / 'README.md'}: {len(rows)} fine-tuned cells, {sum(len(t.rows) for t in timings)} timings")


def _found(places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Returns the results and the latency files at `places`, each once."""
    files: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"--from {place}: no such file or directory")
        if place.is_file() and place.suffix not in (".jsonl", ".json"):
            raise UserError(f"--from {place}: neither {RESULTS} nor {LATENCY}; give one, or a directory")
        for path in [place] if place.is_file() else _search(place):
            files.setdefault(path.resolve(), path)
    results = [path for path in files.values() if path.suffix == ".jsonl"]
    return results, [path for path in files.values() if path.suffix == ".json"]


def _search(directory: Path) -> Iterator[Path]:
    for parent, children, names in os.walk(directory):
        children[:] = sorted(child for child in children if not is_skipped(child))
        yield from (Path(parent, name) for name in (LATENCY, RESULTS) if name in names)


def _rows(results: Sequence[Path], weights: str, name: str) -> list[dict]:
    """Returns the lines about these weights, each cell once; `model` becomes `name`, whatever it was called there."""
    cells: dict[str, tuple[dict, Path]] = {}
    for path in results:
        for row in read_results(path):
            if row.get("weights") != weights:
                continue
            cell = json.dumps([row["task"], row["seed"], row["hyperparameters"], row.get("intermediate")])
            known, where = cells.get(cell, (row, path))
            if known["metrics"] != row["metrics"] and where != path:
                raise UserError(
                    f"{path}: its {row['task']} of seed {row['seed']} is not that of {where}; give one of them"
                )
            cells[cell] = row | {"model": name}, path  # within one file the last counts
    return [row for row, _ in cells.values()]


def _timed(latencies: Sequence[Path], log: Callable[[str], None]) -> Iterator[dict]:
    """Yields the contents of the files that say whose weights they timed."""
    for path in latencies:
        content = read_json(path, "run `ctcd latency --out` again")
        if content.get("format") == 1:
            log(f"{path}: left out; its format, 1, does not say whose weights were timed")
        elif content.get("format") == 2:
            yield content
        else:
            raise UserError(f"{path}: format {content.get('format')!r}, this version reads 2")


def _timings(timed: Sequence[dict], weights: str) -> list[Timing]:
    timings = []
    for content in timed:
        # One directory may have been timed under two names; a copy of a file says nothing new.
        for model in content["models"]:
            rows = [row for row in content["measurements"] if row["model"] == model["name"]]
            timing = Timing(content, model, rows)
            if model.get("weights") == weights and rows and timing not in timings:
                timings.append(timing)
    return timings
