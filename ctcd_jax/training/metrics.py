"""What a run writes of itself: `metrics.jsonl` (the same bytes however often it was interrupted) and `timing.jsonl`."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctcd_jax.artifacts.runs import METRICS, TIMING, MetricLine, TimingLine
from ctcd_jax.distill import Cohort
from ctcd_jax.distill.objective import Mean, Terms
from ctcd_jax.distill.schedules import weight_factors
from ctcd_jax.errors import warn
from ctcd_jax.files import disk_errors, read_json_lines, write_whole
from ctcd_jax.training.trackers import Figures, Tracker, start_trackers


def record(kind: str, step: int, tokens: int, terms: Terms, cohort: Cohort, steps: int) -> MetricLine:
    """Returns one line of `metrics.jsonl` from summed terms.

    {"kind": "train"|"validation", "step", "tokens" (real, cumulative), "loss" (what the cohort minimises, of these
    means), "members": {NAME: {"hard", "accuracy"}}, "edges": {"SOURCE->TARGET": {"soft", "soft_t1"}}, "agreement":
    {"A~B"}}; losses in nats, shares in [0, 1]. None where nothing was predicted: rows of special tokens alone, or an
    overflow in every step.

    Args:
      kind: "train" or "validation".
      step: updates done.
      tokens: real ones, cumulative.
      terms: summed over steps; every figure is a `Mean`.
      cohort: whose weights make the loss; those that change, as they were at the last step.
      steps: of the whole run.
    """
    line: MetricLine = {
        "kind": kind, "step": step, "tokens": tokens, "loss": None, "members": {}, "edges": {}, "agreement": {}
    }  # fmt: skip
    for group, figure in (("members", "accuracy"), ("members", "hard"), ("edges", "soft"), ("edges", "soft_t1")):
        for name, mean in getattr(terms, figure).items():
            line[group].setdefault(name, {})[figure] = _value(mean)
    line["agreement"] = {pair: _value(mean) for pair, mean in terms.agreement.items()}
    weighted = [(cohort.members[name].hard_weight, line["members"][name].get("hard")) for name in cohort.trainable]
    factors = weight_factors(cohort, np.float32(max(0, step - 1) / steps))
    weighted += [
        (edge.weight * float(factors.get(edge.name, 1.0)), line["edges"][edge.name]["soft"]) for edge in cohort.edges
    ]
    parts = [weight * value for weight, value in weighted if value is not None]
    if len(parts) == len(weighted):
        line["loss"] = sum(parts)
    return line


def _value(mean: Mean) -> float | None:
    return float(mean.total) / float(mean.weight) if mean.weight > 0 else None


def with_optimizers(line: MetricLine, rates: Mapping[str, float], gradient_norms: Mapping[str, float]) -> MetricLine:
    """Returns a "train" line with every trainable member's `learning_rate` and `gradient_norm` at its last step.

    The norm is that before clipping; None where it is not finite (an overflow, which the loss scale handles).

    Args:
      line: of `record`.
      rates: {member: learning rate}.
      gradient_norms: {member: norm}.
    """
    members = dict(line["members"])
    for name, rate in rates.items():
        norm = float(gradient_norms[name])
        gradient_norm = norm if math.isfinite(norm) else None
        members[name] = {**members[name], "learning_rate": float(rate), "gradient_norm": gradient_norm}
    return {**line, "members": members}


class Writers:
    """Writes the lines of a run from its first step, or again from `start`: what lies after it is cut off first.

    Only one process of a run has one. Every method raises UserError where the disk gives out.
    """

    def __init__(
        self,
        workdir: Path,
        start: int,
        projects: Mapping[str, str],
        config: Mapping[str, Any],
        warn: Callable[[str], None] = warn,
    ):
        """Takes `start`, `projects` and `config` as `start_trackers` does. Raises UserError as it does, too."""
        self._files = {name: workdir / name for name in (METRICS, TIMING)}
        for path in self._files.values():
            with disk_errors(path):
                cut_after(path, start, warn)
        self._trackers: list[Tracker] = []
        with contextlib.ExitStack() as started:
            for tracker in start_trackers(workdir, start, projects, config, self._written()):
                started.callback(tracker.close)
                self._trackers.append(tracker)
            self._started = started.pop_all()

    def metrics(self, line: MetricLine) -> None:
        self._append(METRICS, line)

    def timing(self, line: TimingLine) -> None:
        self._append(TIMING, line)

    def close(self) -> None:
        self._started.close()

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        with disk_errors(self._files[name]), self._files[name].open("a") as file:
            file.write(json.dumps(line) + "\n")
        for tracker in self._trackers:
            tracker.log(line["step"], figures(line))

    def _written(self) -> Iterator[tuple[int, Figures]]:
        for path in self._files.values():
            yield from ((line["step"], figures(line)) for line in read_lines(path))


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a line but its step, by what trackers call them.

    {"train/members/student/hard": 6.9}, and of a line of `timing.jsonl` {"timing/tokens_per_second": 51000.0}.
    """
    found: dict[str, float] = {}

    def walk(path: str, values: Mapping) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(f"{path}/{key}", value)
            elif isinstance(value, int | float) and key != "step":
                found[f"{path}/{key}"] = value

    walk(line.get("kind", "timing"), line)
    return found


def read_lines(path: Path, warn: Callable[[str], None] = warn) -> list[dict]:
    """Returns the records of `metrics.jsonl` or the lines of `timing.jsonl`; what is damaged is left out, and said."""
    return [line for _, line in _numbered(path, warn)]


def cut_after(path: Path, step: int, warn: Callable[[str], None] = warn) -> None:
    """Removes the lines of later steps, a last line that a kill cut short, and damaged lines, which are said.

    Args:
      path: of `metrics.jsonl` or `timing.jsonl`.
      step: the last to keep.
      warn: takes a line for each damaged one.
    """
    if not path.is_file():
        return
    kept = [number for number, line in _numbered(path, warn) if line["step"] <= step]
    lines = path.read_bytes().splitlines(keepends=True)
    write_whole(path, b"".join(lines[number - 1] for number in kept))


def last_seconds(workdir: Path, warn: Callable[[str], None] = warn) -> float:
    """Returns the training seconds that `timing.jsonl` has counted so far."""
    seconds = [line.get("seconds") for line in read_lines(workdir / TIMING, warn)]
    return next((value for value in reversed(seconds) if isinstance(value, int | float) and 0 <= value < math.inf), 0.0)


def _numbered(path: Path, warn: Callable[[str], None]) -> list[tuple[int, dict]]:
    lines, damaged = read_json_lines(path)
    of_metrics = path.name == METRICS
    good = [(number, line) for number, line in lines if _whole(line, of_metrics)]
    damaged = sorted(damaged + [number for number, line in lines if not _whole(line, of_metrics)])
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        warn(f"{path}: {len(damaged)} damaged and left out (line {numbers})")
    return good


def _whole(line: dict, of_metrics: bool) -> bool:
    """Whether a line of metrics.jsonl, or of timing.jsonl, has what its readers take for granted."""
    if not isinstance(line.get("step"), int):
        return False
    if not of_metrics:
        return True
    members = line.get("members")
    figures = isinstance(members, dict) and all(isinstance(values, dict) for values in members.values())
    return figures and isinstance(line.get("kind"), str) and isinstance(line.get("tokens"), int)
