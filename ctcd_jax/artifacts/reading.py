"""Reads what stages left behind, for reports and cards: what is damaged or foreign is left out, and said.

One bad file must not hide the good ones, so nothing here raises for what is in a file. What is returned has been
checked: every key that a reader of it may ask for is there, and of its kind.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ctcd_jax.artifacts.baselines import TaskBaselines, read_baselines
from ctcd_jax.artifacts.corpora import ManifestSummary
from ctcd_jax.artifacts.exports import MODEL_CONFIG, WEIGHTS, stored_parameters, weight_files, weights_digest
from ctcd_jax.artifacts.facts import FACTS, Facts, read_facts
from ctcd_jax.artifacts.latency import READABLE, Latency, as_latest
from ctcd_jax.artifacts.results import ComparisonLine, Result, name_by_weights, read_comparison, result_fault
from ctcd_jax.artifacts.runs import (
    CONFIG,
    METRICS,
    PROVENANCE,
    PROVENANCE_FORMAT,
    RUN_FORMAT,
    TIMING,
    MetricLine,
    RunConfig,
    TimingLine,
)
from ctcd_jax.artifacts.samples import SAMPLES, Samples, read_samples
from ctcd_jax.artifacts.scoring import Evaluation, PairScore, evaluation_fault, pair_score_fault
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import read_json, read_json_lines
from ctcd_jax.kinds import AMOUNT, FIGURE, WHOLE, Digits, Each, mismatch
from ctcd_jax.ranges import COUNT, SHARE, Range

Read = TypeVar("Read")

_NAMED_LINES = 3

_NUMBER, _POSITIVE = Range(), Range(0, above=True)
_SHAPE = ("vocab_size", "layers", "hidden", "heads", "intermediate", "max_positions", "token_types")
_RUN = {
    "members": Each({"layers?": (COUNT, None), "hidden?": (COUNT, None), "trainable?": bool, "hard_weight?": _NUMBER}),
    "edges?": (
        [
            {"source": str, "target": str, "weight?": _NUMBER, "temperature?": _NUMBER, "tau_squared?": bool}
            | {"divergence?": str, "positions?": str, "signal?": str}
            | {"schedule?": str, "begin?": SHARE, "end?": SHARE}
        ],
        None,
    ),
    "data?": {"corpus?": (str, None), "batch_size?": (COUNT, None)},
    "train?": {"steps?": (COUNT, None)},
    "resolved?": {"steps?": (COUNT, None), "corpus_hash?": str, "models?": Each(dict.fromkeys(_SHAPE, COUNT))},
    "seed?": WHOLE,
}
_SPLIT = {"rows": WHOLE, "tokens": WHOLE}
_SOURCE = {"source": str, "documents": WHOLE, "sentences": WHOLE, "kept": WHOLE}
_CORPUS = {"sources": [_SOURCE], "splits": {"train": _SPLIT, "validation": _SPLIT}, "tokenizer": {"vocab_size": COUNT}}
_PROVENANCE = {"corpus?": (_CORPUS, None)}
_VALUES = Each(Each((FIGURE, None)))
_METRIC = {"kind": str, "step": WHOLE, "tokens": AMOUNT}
_METRIC |= {"members?": _VALUES, "edges?": _VALUES, "agreement?": Each((FIGURE, None)), "unigram?": (FIGURE, None)}
_METRIC["corpora?"] = (Each({"unigram?": (FIGURE, None), "members": _VALUES}), None)
_TIMING = {"seconds": AMOUNT, "tokens_per_second?": (AMOUNT, None), "mfu?": (AMOUNT, None)}
_TIMING |= {"device?": str, "devices?": (COUNT, None)}
_SIZES = {"path?": str, "parameters": COUNT, "stored_parameters?": COUNT, "bytes?": COUNT}
_GENERAL = {"torch": str, "rounds": COUNT, "reference": str}
_LATENCY = {
    1: _GENERAL
    | {"device": str, "threads": (COUNT, None), "batch_size": COUNT, "length": COUNT}
    | {
        "models": [
            {"name": str, "flops_per_token": AMOUNT, "median_ms": _POSITIVE, "p95_ms": _POSITIVE}
            | {"sequences_per_second": AMOUNT, "speedup": AMOUNT}
            | _SIZES
        ]
    },
    2: _GENERAL
    | {
        "cpu?": str,
        "models": [{"name": str, "weights?": (str, None), "flops_per_token": Each(AMOUNT)} | _SIZES],
        "measurements": [
            {"model": str, "device": str, "threads": (COUNT, None), "runtime": str, "dtype": str}
            | {"batch_size": COUNT, "length": COUNT, "p50_ms": _POSITIVE, "p95_ms": _POSITIVE}
            | {"sequences_per_second": AMOUNT, "tokens_per_second": AMOUNT, "speedup": (AMOUNT, None)}
        ],
        "onnx_differences?": Each(AMOUNT),
        "left_out?": [{"model": str, "runtime?": (str, None), "reason": str}],
    },
}


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
      folder: the last part of its directory, by which exports know it.
      config: config.json.
      metrics, timing: the lines of metrics.jsonl and timing.jsonl.
      corpus: what provenance.json says of the corpus; None for a run of an earlier version.
    """

    folder: str
    config: RunConfig
    metrics: list[MetricLine]
    timing: list[TimingLine]
    corpus: ManifestSummary | None

    def lines(self, kind: str) -> list[MetricLine]:
        """Returns the metric lines of a kind, "train" or "validation"."""
        return [line for line in self.metrics if line["kind"] == kind]


@dataclass(frozen=True)
class Export:
    """An exported Hugging Face directory.

    Attributes:
      config: its config.json.
      parameters: stored ones.
      bytes: of the weight files.
      weights: SHA-256 (hex) of them.
      facts: its ctcd.json; None where there is none, or where it is of other weights.
      samples: its samples.json; None where there is none.
    """

    config: dict[str, Any]
    parameters: int
    bytes: int
    weights: str
    facts: Facts | None = None
    samples: Samples | None = None


@dataclass(frozen=True)
class LeftOut:
    """A file, or lines of it, that could not be used, and why."""

    path: str
    reason: str


class Reader:
    """Reads files and keeps what was left out, in `left_out`; each is said by `warn` as it is found."""

    def __init__(self, warn: Callable[[str], None] = warn):
        self.left_out: list[LeftOut] = []
        self._warn = warn

    def leave_out(self, path: Path, reason: str) -> None:
        """Notes that `path` is left out."""
        entry = LeftOut(str(path), reason)
        if entry not in self.left_out:
            self.left_out.append(entry)
            self._warn(f"{path}: left out: {reason}")

    def attempt(self, path: Path, read: Callable[[Path], Read]) -> Read | None:
        """Returns what `read` makes of a file or directory; None if it cannot, which is noted."""
        try:
            return read(path)
        except OSError as error:
            self.leave_out(Path(error.filename or path), error.strerror or first_line(error))
        except (UserError, csv.Error, ValueError) as error:
            place, reason = path, first_line(error)
            for file in (*(path / name for name in (MODEL_CONFIG, WEIGHTS)), path):
                if reason.startswith(f"{file}: "):
                    place, reason = file, reason.removeprefix(f"{file}: ")
            self.leave_out(place, reason)
        return None

    def run(self, directory: Path) -> Run | None:
        """Returns a training run; its config must be whole, of the other files the good lines count."""
        config = self.attempt(directory / CONFIG, run_config)
        if config is None:
            return None
        metrics = self._lines(directory / METRICS, lambda line: mismatch(line, _METRIC))
        timing = self._lines(directory / TIMING, lambda line: mismatch(line, _TIMING))
        corpus = self.attempt(directory / PROVENANCE, _corpus) if (directory / PROVENANCE).is_file() else None
        lines = cast("list[MetricLine]", metrics), cast("list[TimingLine]", timing)
        return Run(directory.resolve().name, config, *lines, corpus)

    def results(self, path: Path) -> list[Result]:
        """Returns the good lines of a results.jsonl; a model is called by the first name of its weights."""
        rows = cast("list[Result]", self._lines(path, result_fault))
        name_by_weights(rows)
        return rows

    def latency(self, path: Path) -> Latency | None:
        """Returns the content of a latency.json, in its latest format."""
        return self.attempt(path, _latency)

    def comparison(self, path: Path) -> list[ComparisonLine]:
        """Returns the lines of a comparison.csv; none where there is no such file."""
        return (self.attempt(path, read_comparison) or []) if path.is_file() else []

    def baselines(self, path: Path) -> dict[str, TaskBaselines]:
        """Returns the baselines of a baselines.json, by task; none where there is no such file."""

        def damaged(text: str) -> None:
            self.leave_out(path, text.removeprefix(f"{path}: ").removesuffix("; left out"))

        return read_baselines(path, damaged)

    def evaluations(self, path: Path) -> list[Evaluation]:
        """Returns the good lines of an evaluation.jsonl."""
        return cast("list[Evaluation]", self._lines(path, evaluation_fault))

    def pair_scores(self, path: Path) -> list[PairScore]:
        """Returns the good lines of a probe.jsonl."""
        return cast("list[PairScore]", self._lines(path, pair_score_fault))

    def export(self, directory: Path) -> Export | None:
        """Returns an export; without the facts of a ctcd.json that is damaged or speaks of other weights."""
        made = self.attempt(directory, _export)
        if made is None or not (directory / FACTS).is_file():
            return made
        facts = self.attempt(directory / FACTS, lambda path: read_facts(path.parent))
        if facts is not None and facts["weights"] != made.weights:
            self.leave_out(directory / FACTS, "it speaks of other weights than those beside it")
            return made
        samples = self.attempt(directory / SAMPLES, lambda path: read_samples(path.parent))
        return replace(made, facts=facts, samples=samples)

    def _lines(self, path: Path, fault: Callable[[dict], str]) -> list[dict]:
        """Returns the objects of a JSON Lines file in which `fault` finds nothing."""
        if path.is_symlink() and not path.exists():
            self.leave_out(path, "a link that leads nowhere")
            return []
        lines, damaged = self.attempt(path, read_json_lines) or ([], [])
        faults = dict.fromkeys(damaged, "not a JSON object") | {
            number: found for number, line in lines if (found := fault(line))
        }
        if faults:
            numbers = sorted(faults)
            named = [f"line {number} ({faults[number]})" for number in numbers[:_NAMED_LINES]]
            more = [f"{len(numbers) - _NAMED_LINES} more"] if len(numbers) > _NAMED_LINES else []
            self.leave_out(path, ", ".join([*named, *more]))
        return [line for number, line in lines if number not in faults]


def run_config(path: Path) -> RunConfig:
    """Returns a run's config.json. Raises UserError if it is damaged, or not of `ctcd train`."""
    config = read_json(path, "restore the file")
    _check_format(path, config, (RUN_FORMAT,))
    fault = mismatch(config, _RUN) or ("" if config["members"] else "members is empty")
    names = config.get("members")
    for edge in [] if fault else config.get("edges") or []:
        for end in ("source", "target"):
            if edge[end] not in names:
                fault = f"an edge's {end} '{edge[end]}' is no member"
        if edge["source"] == edge["target"]:
            fault = f"an edge from '{edge['source']}' to itself"
    if fault:
        raise UserError(f"{path}: not the config of a run of `ctcd train`: {fault}")
    return cast("RunConfig", config)


def _check_format(path: Path, content: dict, formats: Sequence[int]) -> None:
    found = content.get("format")
    if isinstance(found, bool) or found not in formats:
        known = " and ".join(map(str, formats))
        raise UserError(f"{path}: format {found!r:.60}, this version reads {known}")


def _corpus(path: Path) -> ManifestSummary | None:
    content = read_json(path, "restore the file")
    _check_format(path, content, (PROVENANCE_FORMAT,))
    if fault := mismatch(content, _PROVENANCE):
        raise UserError(f"{path}: {fault}")
    return content.get("corpus")


def _latency(path: Path) -> Latency:
    found = read_json(path, "run `ctcd latency --out` again")
    _check_format(path, found, READABLE)
    if fault := mismatch(found, _LATENCY[found["format"]]):
        raise UserError(f"{path}: {fault}; run `ctcd latency --out` again")
    content = as_latest(found)
    names = {model["name"] for model in content["models"]}
    keys = [key for model in content["models"] for key in model["flops_per_token"]]
    fault = next(filter(None, (mismatch(key, Digits(), "a key of flops_per_token") for key in keys)), "")
    if not content["measurements"]:
        fault = "measurements is empty"
    for row in content["measurements"]:
        if row["model"] not in names:
            fault = f"'{row['model']}' was measured, but is not in models"
    if fault:
        raise UserError(f"{path}: {fault}; run `ctcd latency --out` again")
    return content


def _export(directory: Path) -> Export:
    config = read_json(directory / MODEL_CONFIG, "export the model again")
    size = sum(file.stat().st_size for file in weight_files(directory))
    return Export(config, stored_parameters(directory), size, weights_digest(directory))
