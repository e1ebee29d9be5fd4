"""`ctcd card`: what was measured of an exported model goes into its model card."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.artifacts.baselines import BASELINES, TaskBaselines
from ctcd_jax.artifacts.collect import walk
from ctcd_jax.artifacts.exports import named_exports, weights_digest
from ctcd_jax.artifacts.facts import FACTS, read_facts
from ctcd_jax.artifacts.latency import LATENCY, Latency
from ctcd_jax.artifacts.reading import Reader
from ctcd_jax.artifacts.results import RESULTS, Result
from ctcd_jax.artifacts.scoring import EVALUATION, PROBE, Evaluation, PairScore
from ctcd_jax.card import ExportMeasurements, write_card
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.report.card_sections import Timing, latency_section, model_index_results, scores_section
from ctcd_jax.report.card_zero_shot import held_out_section, pairs_section

_KINDS = (RESULTS, LATENCY, EVALUATION, PROBE)


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
      places: results.jsonl, evaluation.jsonl, probe.jsonl and latency.json files, or directories to search for them,
        checkpoints excepted. Of results.jsonl the baselines.json beside it is read, too.
      log: called with a line about each card.
      warn: called with a line about each file that is left out.

    Raises:
      UserError: a directory is no export, its weights have changed since, nothing is found of one, two results
        contradict each other, or a README.md was edited where it is generated. No card is written then, except that
        of a model before the one whose README.md is at fault.
    """
    reader = Reader(warn)
    found = _found(places, reader)
    measured = _Measured(
        [(path, reader.results(path)) for path in found[RESULTS]],
        {task: own for path in found[RESULTS] for task, own in reader.baselines(path.parent / BASELINES).items()},
        [line for path in found[EVALUATION] for line in reader.evaluations(path)],
        [line for path in found[PROBE] for line in reader.pair_scores(path)],
        list(_timed(found[LATENCY], reader)),
    )
    cards = []
    for name, directory in named_exports(models).items():
        facts, weights = read_facts(directory), weights_digest(directory)
        if weights != facts["weights"]:
            raise UserError(f"{directory}: not the weights that were exported; {FACTS} does not speak of them")
        own = measured.of(weights, facts["name"])
        if not any((own.rows, own.evaluations, own.pairs, own.timings)):
            first = f" (left out: {reader.left_out[0].path}: {reader.left_out[0].reason})" if reader.left_out else ""
            read = [f"{len(found[kind])} {kind}" for kind in _KINDS if found[kind] or kind in (RESULTS, LATENCY)]
            raise UserError(
                f"{name}: nothing there is of its weights ({weights[:12]}): {', '.join(read[:-1])} and {read[-1]} were "
                f"read{first}; run `ctcd glue`, `ctcd evaluate`, `ctcd probe` or `ctcd latency --out` on {directory}"
            )
        cards.append((directory, facts, own))
    for directory, facts, own in cards:
        try:
            write_card(directory, facts, ExportMeasurements(own.sections(), tuple(model_index_results(own.rows))))
        except (OverflowError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
            raise UserError(f"{directory / FACTS}: damaged ({reason}); export the model again") from error
        log(f"{directory / 'README.md'}: {own.counts()}")


@dataclass(frozen=True)
class _Own:
    """What was measured of one model."""

    rows: list[Result]
    baselines: dict[str, TaskBaselines]
    evaluations: list[Evaluation]
    pairs: list[PairScore]
    timings: list[Timing]

    def sections(self) -> tuple[str, ...]:
        parts = [held_out_section(self.evaluations)] if self.evaluations else []
        parts += [pairs_section(self.pairs)] if self.pairs else []
        parts += [scores_section(self.rows, self.baselines)] if self.rows else []
        return (*parts, *([latency_section(self.timings)] if self.timings else []))

    def counts(self) -> str:
        """Returns how much of each kind there is; the kinds that every earlier card had are named also at 0."""
        counts = [f"{len(self.rows)} fine-tuned cells, {sum(len(timing.rows) for timing in self.timings)} timings"]
        counts += [f"{len(self.evaluations)} held-out corpora"] if self.evaluations else []
        counts += [f"{len(self.pairs)} paradigms of minimal pairs"] if self.pairs else []
        return ", ".join(counts)


@dataclass(frozen=True)
class _Measured:
    """What was found, of all models.

    Attributes:
      scored: (results.jsonl, its good lines).
      baselines: by task.
      evaluations, pairs: lines.
      timed: contents of the files that say whose weights they timed.
    """

    scored: list[tuple[Path, list[Result]]]
    baselines: dict[str, TaskBaselines]
    evaluations: list[Evaluation]
    pairs: list[PairScore]
    timed: list[Latency]

    def of(self, weights: str, name: str) -> _Own:
        """Returns what is of these weights, each measurement once; of both backends of an evaluation JAX's counts."""
        lines = sorted((line for line in self.evaluations if line["weights"] == weights), key=_is_jax)
        evaluations = {line["corpus_hash"]: line for line in lines}
        pairs = {(line["paradigm"], line["data"]): line for line in self.pairs if line["weights"] == weights}
        rows, timings = _rows(self.scored, weights, name), _timings(self.timed, weights)
        return _Own(rows, self.baselines, list(evaluations.values()), list(pairs.values()), timings)


def _is_jax(line: Evaluation) -> bool:
    return line["backend"] == "jax"


def _found(places: Sequence[Path], reader: Reader) -> dict[str, list[Path]]:
    """Returns the files at `places` by what they are, each once."""
    files: dict[Path, Path] = {}
    for place in places:
        if not place.exists():
            raise UserError(f"--from {place}: no such file or directory")
        if place.is_file() and place.suffix not in (".jsonl", ".json"):
            raise UserError(f"--from {place}: neither {RESULTS} nor {LATENCY}; give one, or a directory")
        for path in [place] if place.is_file() else _search(place, reader):
            files.setdefault(Path(os.path.realpath(path)), path)  # of links in a ring `resolve` makes an error
    found: dict[str, list[Path]] = {kind: [] for kind in _KINDS}
    for path in files.values():
        # Results and timings may be called as one likes.
        usual = RESULTS if path.suffix == ".jsonl" else LATENCY
        found[path.name if path.name in (EVALUATION, PROBE) else usual].append(path)
    return found


def _search(directory: Path, reader: Reader) -> Iterator[Path]:
    for parent, files in walk(directory, reader):
        yield from (parent / name for name in _KINDS if name in files)


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
