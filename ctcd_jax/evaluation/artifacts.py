"""Finds and reads what a report is made of: runs, fine-tuning results, latency files and exports."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.evaluation.exports import WEIGHTS, distinct_names, stored_parameters
from ctcd_jax.evaluation.measurements import as_latest
from ctcd_jax.evaluation.results import CELLS, RESULTS, failed_cells, in_order, read_results
from ctcd_jax.files import read_json

RUN_FORMATS, LATENCY_FORMATS = (1,), (1, 2)
# Large, and holding nothing that the files beside them do not say.
SKIPPED = {"checkpoints", "frozen", CELLS}


@dataclass(frozen=True)
class Run:
    """A training run: its config and the lines of metrics.jsonl and timing.jsonl."""

    config: dict
    metrics: list[dict]
    timing: list[dict]

    def lines(self, kind: str) -> list[dict]:
        """Returns the metric lines of a kind, "train" or "validation"."""
        return [line for line in self.metrics if line["kind"] == kind]


@dataclass(frozen=True)
class Results:
    """Fine-tuning.

    Attributes:
      rows: the lines of results.jsonl.
      comparison: those of comparison.csv; none where there is no such file.
      failed: why each cell without a result failed, by its folder, e.g. "student/mrpc/seed-0".
    """

    rows: list[dict]
    comparison: list[dict[str, str]]
    failed: dict[str, str]


@dataclass(frozen=True)
class Export:
    """An exported Hugging Face directory: its config.json and the size of its weights."""

    config: dict
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Artifacts:
    """Everything found, by the shortest end of its directory's path that is distinct among its kind."""

    runs: dict[str, Run]
    results: dict[str, Results]
    latencies: dict[str, dict]
    exports: dict[str, Export]


def collect(directories: Sequence[Path]) -> Artifacts:
    """Searches `directories` and all below them, checkpoints excepted.

    Raises:
      UserError: a directory is missing or holds nothing to report, or a file is damaged or of another format.
    """
    found = []
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such directory")
        below = [path for path in _walk(directory) if any(_is_kind(path, kind) for kind in _KINDS)]
        if not below:
            raise UserError(f"{directory}: nothing to report; it holds no run, results.jsonl, latency.json or export")
        found += below
    # One directory may lie below another that was given too.
    unique = list({path.resolve(): path for path in found}.values())
    runs, results, latencies, exports = (
        distinct_names([path for path in unique if _is_kind(path, kind)]) for kind in _KINDS
    )
    return Artifacts(
        {name: _run(path) for name, path in runs.items()},
        {name: found for name, path in results.items() if (found := _results(path)).rows or found.failed},
        {name: as_latest(_json(path / "latency.json", LATENCY_FORMATS)) for name, path in latencies.items()},
        {name: _export(path) for name, path in exports.items()},
    )


_KINDS = (("config.json", "metrics.jsonl"), (RESULTS,), ("latency.json",), ("config.json", WEIGHTS))


def _is_kind(path: Path, files: Iterable[str]) -> bool:
    return all((path / file).is_file() for file in files)


def is_skipped(name: str) -> bool:
    """Whether a directory is not searched; `ctcd export` works in NAME.partial."""
    return name in SKIPPED or name.startswith(".") or name.endswith(".partial")


def _walk(directory: Path) -> Iterator[Path]:
    for parent, children, _ in os.walk(directory):
        children[:] = sorted(child for child in children if not is_skipped(child))
        yield Path(parent)


def _run(path: Path) -> Run:
    timing = _json_lines(path / "timing.jsonl") if (path / "timing.jsonl").exists() else []
    return Run(_json(path / "config.json", RUN_FORMATS), _json_lines(path / "metrics.jsonl"), timing)


def _results(path: Path) -> Results:
    comparison: list[dict[str, str]] = []
    if (path / "comparison.csv").is_file():
        with (path / "comparison.csv").open(encoding="utf-8", newline="") as file:
            comparison = list(csv.DictReader(file))
    models = dict.fromkeys(line[end] for end in ("first", "second") for line in comparison)
    return Results(in_order(read_results(path / RESULTS), list(models)), comparison, failed_cells(path))


def _export(path: Path) -> Export:
    config = read_json(path / "config.json", "export the model again")
    return Export(config, stored_parameters(path), (path / WEIGHTS).stat().st_size)


def _json(path: Path, formats: Sequence[int]) -> dict:
    content = read_json(path, "write the file again")
    if content.get("format") not in formats:
        known = " and ".join(map(str, formats))
        raise UserError(f"{path}: format {content.get('format')!r}, this version reads {known}")
    return content


def _json_lines(path: Path) -> list[dict]:
    """Reads whole lines only: a run that is still going, or was killed, may leave a torn last one."""
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError:
        raise UserError(f"{path}: a line is not JSON; resume the run, or restore the file") from None
