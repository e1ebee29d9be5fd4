"""`ctcd card`: what was measured of an exported model goes into its model card."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ctcd_jax.artifacts.collect import walk
from ctcd_jax.artifacts.exports import named_exports, weights_digest
from ctcd_jax.artifacts.facts import FACTS, read_facts
from ctcd_jax.artifacts.latency import LATENCY, Latency
from ctcd_jax.artifacts.reading import Reader
from ctcd_jax.artifacts.results import RESULTS, Result
from ctcd_jax.card import ExportMeasurements, write_card
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.report.card_sections import Timing, latency_section, model_index_results, scores_section


def card(
    models: Sequence[Path],
    places: Sequence[Path],
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> None:
    """Writes the README.md of exported models anew, with the scores and timings that are found of their weights.

    The card is a function of `ctcd.json` and of what is found now: give all places at once. What is damaged or of
    another format is left out.

    Args:
      models: exported directories.
      places: results.jsonl and latency.json files, or directories to search for them, checkpoints excepted.
      log: called with a line about each card.
      warn: called with a line about each file that is left out.

    Raises:
      UserError: a directory is no export, its weights have changed since, nothing is found of one, two results
        contradict each other, or a README.md was edited where it is generated. No card is written then, except that
        of a model before the one whose README.md is at fault.
    """
    reader = Reader(warn)
    results, latencies = _found(places, reader)
    scored = [(path, reader.results(path)) for path in results]
    timed = list(_timed(latencies, reader))
    cards = []
    for name, directory in named_exports(models).items():
        facts, weights = read_facts(directory), weights_digest(directory)
        if weights != facts["weights"]:
            raise UserError(f"{directory}: not the weights that were exported; {FACTS} does not speak of them")
        rows, timings = _rows(scored, weights, facts["name"]), _timings(timed, weights)
        if not rows and not timings:
            first = f" (left out: {reader.left_out[0].path}: {reader.left_out[0].reason})" if reader.left_out else ""
            raise UserError(
                f"{name}: nothing there is of its weights ({weights[:12]}): {len(results)} {RESULTS} and "
                f"{len(latencies)} {LATENCY} were read{first}; run `ctcd glue` or `ctcd latency --out` on {directory}"
            )
        cards.append((directory, facts, rows, timings))
    for directory, facts, rows, timings in cards:
        sections = ([scores_section(rows)] if rows else []) + ([latency_section(timings)] if timings else [])
        try:
            write_card(directory, facts, ExportMeasurements(tuple(sections), tuple(model_index_results(rows))))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
            raise UserError(f"{directory / FACTS}: damaged ({reason}); export the model again") from error
        log(f"{directory / 'README.md'}: {len(rows)} fine-tuned cells, {sum(len(t.rows) for t in timings)} timings")


def _found(places: Sequence[Path], reader: Reader) -> tuple[list[Path], list[Path]]:
    """Returns the results and the latency files at `places`, each once."""
    files: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"--from {place}: no such file or directory")
        if place.is_file() and place.suffix not in (".jsonl", ".json"):
            raise UserError(f"--from {place}: neither {RESULTS} nor {LATENCY}; give one, or a directory")
        for path in [place] if place.is_file() else _search(place, reader):
            files.setdefault(Path(os.path.realpath(path)), path)  # of links in a ring `resolve` makes an error
    results = [path for path in files.values() if path.suffix == ".jsonl"]
    return results, [path for path in files.values() if path.suffix == ".json"]


def _search(directory: Path, reader: Reader) -> Iterator[Path]:
    for parent, files in walk(directory, reader):
        yield from (parent / name for name in (LATENCY, RESULTS) if name in files)


def _rows(scored: Sequence[tuple[Path, list[Result]]], weights: str, name: str) -> list[Result]:
    """Returns the lines about these weights, each cell once; `model` becomes `name`, whatever it was called there.

    Args:
      scored: (results.jsonl, its good lines).
    """
    cells: dict[str, tuple[Result, Path]] = {}
    for path, rows in scored:
        for row in rows:
            if row.get("weights") != weights:
                continue
            cell = json.dumps([row["task"], row["seed"], row["hyperparameters"], row.get("intermediate")])
            known, where = cells.get(cell, (row, path))
            if known["metrics"] != row["metrics"] and where != path:
                raise UserError(
                    f"{path}: its {row['task']} of seed {row['seed']} is not that of {where}; give one of them"
                )
            cells[cell] = {**row, "model": name}, path  # within one file the last counts
    return [row for row, _ in cells.values()]


def _timed(latencies: Sequence[Path], reader: Reader) -> Iterator[Latency]:
    """Yields the contents of the files that say whose weights they timed."""
    for path in latencies:
        content = reader.latency(path)
        if content is None:
            continue
        if any(model.get("weights") for model in content["models"]):
            yield content
        else:
            reader.leave_out(path, "it does not say whose weights were timed; run `ctcd latency --out` again")


def _timings(timed: Sequence[Latency], weights: str) -> list[Timing]:
    timings = []
    for content in timed:
        # One directory may have been timed under two names; a copy of a file says nothing new.
        for model in content["models"]:
            rows = [row for row in content["measurements"] if row["model"] == model["name"]]
            timing = Timing(content, model, rows)
            if model.get("weights") == weights and rows and timing not in timings:
                timings.append(timing)
    return timings
