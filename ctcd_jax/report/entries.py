"""Models with all that was measured of them, the best first."""

from dataclasses import dataclass

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.pairs import Pairs, scores_of, summarised
from ctcd_jax.report.held_out import Corpora, HeldOut, find_corpora, held_out
from ctcd_jax.report.models import Model, find_models
from ctcd_jax.report.shapes import member_shapes
from ctcd_jax.report.speed import Speed, speed
from ctcd_jax.report.tuned import Scores, Tuned, fine_tuned


@dataclass(frozen=True)
class Entry:
    """A model and its figures, each None where it was not measured.

    Attributes:
      tuned: {folder of results: its scores there}.
      parameters: stored ones.
      bytes: of its files.
    """

    model: Model
    held_out: HeldOut | None
    pairs: Pairs | None
    tuned: dict[str, Tuned]
    speed: Speed | None
    parameters: int | None
    bytes: int | None


@dataclass(frozen=True)
class Findings:
    """What a report has found.

    Attributes:
      entries: models, the best first: by their fine-tuned mean, then by their held-out loss; by that alone where no
        fine-tuned model is above chance (`by_tuning`).
      scores: {folder of results: what is the same for all its models}, the folder with the most models first.
      corpora: that they were trained on.
    """

    entries: list[Entry]
    scores: dict[str, Scores]
    corpora: Corpora

    @property
    def main(self) -> tuple[str, Scores] | None:
        """The folder of results whose models are ranked; None without any."""
        return next(iter(self.scores.items()), None)

    def tuned(self, entry: Entry) -> tuple[str, Tuned] | None:
        """The folder and the scores by which a model is ranked: of the main one, or of one with the same columns."""
        if self.main is None:
            return None
        alike = [folder for folder, own in self.scores.items() if own.columns == self.main[1].columns]
        return next(((folder, entry.tuned[folder]) for folder in alike if folder in entry.tuned), None)

    def mean(self, entry: Entry) -> float | None:
        """The fine-tuned mean by which a model is ranked, in per cent; None where it has none."""
        found = self.tuned(entry)
        return found[1].mean if found else None

    @property
    def by_tuning(self) -> bool:
        """Whether fine-tuned means tell models apart: any is above chance on a task, or nothing says what chance is."""
        own = [found[1] for entry in self.entries if (found := self.tuned(entry))]
        return any(scores.above or not scores.tasks for scores in own)

    def on_text(self, corpus: str) -> list[Entry]:
        """The models whose held-out loss is on this corpus, the best first."""
        found = [entry for entry in self.entries if entry.held_out and entry.held_out.corpus == corpus]
        return sorted(found, key=lambda entry: entry.held_out.loss if entry.held_out else 0.0)

    @property
    def main_corpus(self) -> str | None:
        """The corpus on which most models have a held-out loss: losses on different corpora are not compared."""
        found = [entry.held_out.corpus for entry in self.entries if entry.held_out]
        return max(dict.fromkeys(found), key=found.count) if found else None


def findings(artifacts: Artifacts) -> Findings:
    """Returns the models of a report with their figures, ranked."""
    known = {folder: scores for folder, results in artifacts.results.items() if (scores := fine_tuned(results))}
    ranked = dict(sorted(known.items(), key=lambda item: -len(item[1].models)))
    models = [_entry(model, artifacts, ranked) for model in find_models(artifacts)]
    # A frozen member that nobody measured is another model's copy.
    entries = [own for own in models if own.model.export or own.held_out or own.pairs or own.tuned or own.speed]
    found = Findings(entries, ranked, find_corpora(artifacts))
    return Findings(_best_first(found), found.scores, found.corpora)


def _best_first(found: Findings) -> list[Entry]:
    corpora = [entry.held_out.corpus for entry in found.entries if entry.held_out]
    by_tuning = found.by_tuning or not corpora

    def place(entry: Entry) -> tuple:
        mean, text = found.mean(entry) if by_tuning else None, entry.held_out
        return (
            mean is None,
            -mean if mean is not None else 0.0,
            text is None,
            corpora.index(text.corpus) if text else 0,
            text.loss if text else 0.0,
        )

    return sorted(found.entries, key=place)


def _entry(model: Model, artifacts: Artifacts, scores: dict[str, Scores]) -> Entry:
    tuned = {
        folder: scores[folder].models[name]
        for folder, name in model.tuned_as.items()
        if folder in scores and name in scores[folder].models
    }
    pairs = summarised(scores_of(model.weights, artifacts)) if model.weights else None
    parameters, size = _size(model, artifacts)
    return Entry(model, held_out(model, artifacts), pairs, tuned, speed(model, artifacts), parameters, size)


def _size(model: Model, artifacts: Artifacts) -> tuple[int | None, int | None]:
    """(stored parameters, bytes of the files), as the export has them, or a latency.json, or a run's shapes say."""
    if model.export:
        return model.export.parameters, model.export.bytes
    for folder, name in model.timed_as.items():
        for entry in artifacts.latencies[folder]["models"]:
            if entry["name"] == name:
                return entry.get("stored_parameters"), entry.get("bytes")
    if model.run in artifacts.runs and model.member:
        return member_shapes(artifacts.runs[model.run].config)[model.member].get("parameters"), None
    return None, None
