"""Finds what a report is made of: runs, fine-tuning results, zero-shot scores, latency files and exports."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ctcd_jax.artifacts.baselines import BASELINES, TaskBaselines
from ctcd_jax.artifacts.exports import MODEL_CONFIG, WEIGHTS, distinct_names
from ctcd_jax.artifacts.latency import LATENCY, Latency
from ctcd_jax.artifacts.reading import Export, LeftOut, Reader, Run
from ctcd_jax.artifacts.results import (
    CELLS,
    COMPARISON,
    RESULTS,
    ComparisonLine,
    Result,
    failed_cells,
    in_order,
)
from ctcd_jax.artifacts.runs import CHECKPOINTS, CONFIG, FROZEN, METRICS
from ctcd_jax.artifacts.scoring import EVALUATION, PROBE, Evaluation, PairScore
from ctcd_jax.errors import UserError, first_line, warn

# Large, and holding nothing that the files beside them do not say.
SKIPPED = {CHECKPOINTS, FROZEN, CELLS}


@dataclass(frozen=True)
class Results:
    """Fine-tuning.

    Attributes:
      rows: the lines of results.jsonl.
      comparison: those of comparison.csv; none where there is no such file.
      failed: why each cell without a result failed, by its folder, e.g. "student/mrpc/seed-0".
      baselines: those of baselines.json by task; none where there is no such file.
    """

    rows: list[Result]
    comparison: list[ComparisonLine]
    failed: dict[str, str]
    baselines: dict[str, TaskBaselines]


@dataclass(frozen=True)
class Artifacts:
    """Everything found, by the shortest end of its directory's path that is distinct among its kind.

    Attributes:
      evaluations, probes: the lines of evaluation.jsonl and of probe.jsonl.
      left_out: what was found, but could not be used.
    """

    runs: dict[str, Run]
    results: dict[str, Results]
    evaluations: dict[str, list[Evaluation]]
    probes: dict[str, list[PairScore]]
    latencies: dict[str, Latency]
    exports: dict[str, Export]
    left_out: list[LeftOut]


def collect(directories: Sequence[Path], warn: Callable[[str], None] = warn) -> Artifacts:
    """Searches `directories` and all below them, checkpoints excepted.

    A file that is damaged or of another format is left out, and said.

    Raises:
      UserError: a directory is missing or holds nothing to report, or nothing that was found can be used.
    """
    reader = Reader(warn)
    found: dict[Path, tuple[Path, set[str]]] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: {'not a' if directory.exists() else 'no such'} directory")
        below = list(_search(directory, reader))
        if not below and not reader.left_out:
            kinds = f"run, {', '.join((RESULTS, EVALUATION, PROBE, LATENCY))} or export"
            raise UserError(f"{directory}: nothing to report; it holds no {kinds}")
        # One directory may lie below another that was given too.
        found.update({path.resolve(): (path, files) for path, files in below})
    artifacts = _read(list(found.values()), reader)
    if not any(getattr(artifacts, field.name) for field in fields(artifacts) if field.name != "left_out"):
        raise UserError(nothing_good(reader.left_out) or f"{directories[0]}: nothing to report; no cell has run yet")
    return artifacts


def nothing_good(left_out: Sequence[LeftOut]) -> str:
    """Returns a line for when nothing is left but what was left out, "" where nothing was."""
    if not left_out:
        return ""
    more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
    return f"{left_out[0].path}: {left_out[0].reason}{more}; nothing else was found"


def is_skipped(name: str) -> bool:
    """Whether a directory is not searched; `ctcd export` works in NAME.partial."""
    return name in SKIPPED or name.startswith(".") or name.endswith(".partial")


def walk(directory: Path, reader: Reader) -> Iterator[tuple[Path, set[str]]]:
    """Yields (directory, names of the files in it), those first that come first by name.

    A directory that cannot be entered is left out, and said.
    """

    def refused(error: OSError) -> None:
        reader.leave_out(Path(error.filename), error.strerror or first_line(error))

    for parent, children, files in os.walk(directory, onerror=refused):
        children[:] = sorted(child for child in children if not is_skipped(child))
        yield Path(parent), set(files)


_RUN, _EXPORT = {CONFIG, METRICS}, {MODEL_CONFIG, WEIGHTS}
_KINDS = (_RUN, {RESULTS}, {EVALUATION}, {PROBE}, {LATENCY}, _EXPORT)


def _search(directory: Path, reader: Reader) -> Iterator[tuple[Path, set[str]]]:
    for path, files in walk(directory, reader):
        # By name alone: a link that leads nowhere is there, and cannot be read.
        if any(kind <= files for kind in _KINDS):
            yield path, files


def _read(found: Sequence[tuple[Path, set[str]]], reader: Reader) -> Artifacts:
    runs, results, evaluations, probes, latencies, exports = (
        distinct_names([path for path, files in found if kind <= files]) for kind in _KINDS
    )
    return Artifacts(
        {name: run for name, path in runs.items() if (run := reader.run(path)) is not None},
        {name: own for name, path in results.items() if (own := _results(path, reader)).rows or own.failed},
        {name: lines for name, path in evaluations.items() if (lines := reader.evaluations(path / EVALUATION))},
        {name: lines for name, path in probes.items() if (lines := reader.pair_scores(path / PROBE))},
        {name: made for name, path in latencies.items() if (made := reader.latency(path / LATENCY)) is not None},
        {name: made for name, path in exports.items() if (made := reader.export(path)) is not None},
        reader.left_out,
    )


def _results(path: Path, reader: Reader) -> Results:
    comparison = reader.comparison(path / COMPARISON)
    models = dict.fromkeys(line[end] for end in ("first", "second") for line in comparison)
    rows = in_order(reader.results(path / RESULTS), list(models))
    return Results(rows, comparison, reader.attempt(path, failed_cells) or {}, reader.baselines(path / BASELINES))
