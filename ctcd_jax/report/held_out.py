"""How well models predict masked words of held-out text: each on the corpus that it was trained on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.reading import Run
from ctcd_jax.artifacts.scoring import Evaluation
from ctcd_jax.report.models import Model


@dataclass(frozen=True)
class HeldOut:
    """A model on the validation rows of a corpus.

    Attributes:
      corpus: SHA-256 (hex) of its corpus.json; "" where it is not known.
      loss: nats a predicted token.
      low, high: ends of the 95 % interval over rows; None where it was not evaluated by `ctcd evaluate`.
      accuracy: share of the predicted tokens; None where it is not recorded.
      best: (step, loss) of the run's best validation, where it was better at another step; else None.
    """

    corpus: str
    loss: float
    low: float | None = None
    high: float | None = None
    accuracy: float | None = None
    best: tuple[int, float] | None = None


@dataclass(frozen=True)
class Corpora:
    """What is known of the corpora.

    Attributes:
      names: {hash: what the page calls it}.
      unigrams: {hash: nats that the frequencies of its words score on its validation rows}.
    """

    names: dict[str, str]
    unigrams: dict[str, float]


def find_corpora(artifacts: Artifacts) -> Corpora:
    """Returns the corpora of all runs, exports and evaluations."""
    names, unigrams = {}, {}
    for run in artifacts.runs.values():
        if found := corpus_hash(run):
            path = run.config.get("data", {}).get("corpus")
            names.setdefault(found, path.rstrip("/").rpartition("/")[2] if path else found[:8])
            if known := [value for line in run.lines("validation") if is_finite(value := line.get("unigram"))]:
                unigrams.setdefault(found, known[-1])
    for line in _evaluations(artifacts):
        names.setdefault(line["corpus_hash"], line["corpus"])
        unigrams.setdefault(line["corpus_hash"], line["unigram_loss"])
    for export in artifacts.exports.values():
        if export.facts and (found := export.facts["corpus"].get("hash")):
            names.setdefault(found, found[:8])
            known = export.facts.get("held_out", {}).get("unigram")
            if known is not None:
                unigrams.setdefault(found, known)
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    return Corpora({key: f"{name} ({key[:8]})" if name in twice else name for key, name in names.items()}, unigrams)


def held_out(model: Model, artifacts: Artifacts) -> HeldOut | None:
    """Returns the figure of a model on its own corpus; of one whose corpus is not known, on the first it was tried on.

    That of `ctcd evaluate`, which has an interval; else what the export says of its step, or the run's last validation.
    """
    run = artifacts.runs.get(model.run or "")
    facts = model.export.facts if model.export else None
    own = (facts["corpus"].get("hash") if facts else None) or (corpus_hash(run) if run else "")
    best = _best(run, model.member) if run else None
    lines = [line for line in _evaluations(artifacts) if is_of(line, model)]
    for line in lines:
        if own in ("", line["corpus_hash"]):
            ends = line["loss"], line["loss_low"], line["loss_high"]
            return HeldOut(line["corpus_hash"], *ends, line["accuracy"], _earlier(best, line["loss"]))
    if facts:
        found = facts.get("held_out")
        if found is None or not is_finite(found["loss"]):
            return None
        return HeldOut(own or "", found["loss"], accuracy=found["accuracy"], best=_earlier(best, found["loss"]))
    for line in reversed(run.lines("validation") if run and model.is_member else []):
        figures = line.get("members", {}).get(model.member or "", {})
        if is_finite(loss := figures.get("hard")):
            return HeldOut(own or "", loss, accuracy=figures.get("accuracy"), best=_earlier(best, loss))
    return None


def is_of(line: Evaluation, model: Model) -> bool:
    """Whether a line of evaluation.jsonl is about a model."""
    return line["weights"] == model.weights if line["weights"] else line["parameters"] in model.parameters


def corpus_hash(run: Run) -> str:
    """Returns the SHA-256 (hex) of a run's corpus.json; "" for a run of an earlier version, which lacks it."""
    return run.config.get("resolved", {}).get("corpus_hash") or ""


def is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _evaluations(artifacts: Artifacts) -> Iterator[Evaluation]:
    """Every line, those of JAX first: where a model has both, the figures are the same but for rounding."""
    lines = [line for found in artifacts.evaluations.values() for line in found]
    yield from sorted(lines, key=lambda line: line["backend"] != "jax")


def _best(run: Run, member: str | None) -> tuple[int, float] | None:
    figures = (
        (line["step"], line.get("members", {}).get(member or "", {}).get("hard")) for line in run.lines("validation")
    )
    return min(((step, loss) for step, loss in figures if is_finite(loss)), key=lambda found: found[1], default=None)


def _earlier(best: tuple[int, float] | None, loss: float) -> tuple[int, float] | None:
    """The best validation of the run where it was better than what the model has, by more than rounding."""
    return best if best and best[1] < loss - 1e-4 else None
