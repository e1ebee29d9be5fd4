"""What models know without fine-tuning: held-out text of every corpus, and minimal pairs by phenomenon."""

from collections.abc import Iterator

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.pairs import Pairs, summarised
from ctcd_jax.artifacts.scoring import PairScore, frequencies_words, perplexity
from ctcd_jax.page import Html
from ctcd_jax.page.tables import MISSING, Column, data_table, download, fixed, percent
from ctcd_jax.report.held_out import is_finite

_FIGURES = (
    Column("loss", "loss", fixed(4)),
    Column("low", "loss_low", fixed(4)),
    Column("high", "loss_high", fixed(4)),
    Column("perplexity", "perplexity", fixed(1)),
    Column("accuracy", "accuracy", percent),
    Column("word frequencies", "unigram_loss", fixed(4)),
    Column("", "backend"),
)
_WORDS = Column("in words", "in_words")


def held_out_text(artifacts: Artifacts) -> list[Html]:
    """Returns the lines of evaluation.jsonl, and what runs measured of further corpora as they trained."""
    parts = []
    for folder, lines in artifacts.evaluations.items():
        figures = _FIGURES
        if len({line["backend"] for line in lines}) > 1:
            figures = (*_FIGURES[:-1], Column("backend", "backend"))
        columns = [Column("model", "model"), Column("corpus", "corpus"), *figures, _WORDS]
        rows = [
            (
                line["model"],
                line["corpus"],
                *(line["loss"], line["loss_low"], line["loss_high"], perplexity(line["loss"])),
                *(line["accuracy"], line["unigram_loss"], line["backend"]),
                frequencies_words(line["unigram_loss"], line["loss"], line["loss_low"], line["loss_high"]) or None,
            )
            for line in sorted(lines, key=lambda line: line["corpus"])
        ]
        parts += [
            page.heading(f"{folder}/evaluation.jsonl"),
            data_table(f"{folder}-evaluation", columns, rows, names=2),
        ]
    rows = list(_further(artifacts))
    columns = [Column("model", "model"), Column("corpus", "corpus"), *_FIGURES[:1], *_FIGURES[3:6], _WORDS]
    if rows:
        caption = "Further corpora at the last validation of the runs"
        parts.append(data_table("further-corpora", columns, rows, caption, names=2))
    note = (
        "Nats a masked token of each corpus's validation rows. Low and high: 95 % interval over rows. Word "
        "frequencies: what the frequencies of that corpus's own training rows score on the same tokens."
    )
    return [*parts, page.paragraph(note, "note")] if parts else []


def _further(artifacts: Artifacts) -> Iterator[tuple]:
    for name, run in artifacts.runs.items():
        lines = [line for line in run.lines("validation") if line.get("corpora")]
        for corpus, figures in (lines[-1].get("corpora") or {}).items() if lines else ():
            unigram = figures.get("unigram")
            for member, own in figures["members"].items():
                loss = own.get("hard")
                if is_finite(loss):
                    words = frequencies_words(unigram, loss) or None
                    yield f"{name}#{member}", corpus, loss, perplexity(loss), own.get("accuracy"), unigram, words


def minimal_pairs(artifacts: Artifacts) -> list[Html]:
    """Returns the accuracy of every model by phenomenon, each folder of scores for itself."""
    parts = []
    for folder, scores in artifacts.probes.items():
        models = list(dict.fromkeys(line["model"] for line in scores))
        rows = [["overall", *(_cell(summarised(_of(scores, model))) for model in models)]]
        values = [_values("overall", model, summarised(_of(scores, model))) for model in models]
        for phenomenon in dict.fromkeys(line["phenomenon"] for line in scores):
            own = [line for line in scores if line["phenomenon"] == phenomenon]
            rows.append([phenomenon, *(_cell(summarised(_of(own, model))) for model in models)])
            values += [_values(phenomenon, model, summarised(_of(own, model))) for model in models]
        parts += [page.heading(f"{folder}/probe.jsonl"), _pairs_table(folder, models, rows, values)]
    note = (
        "Zero-shot: the share of pairs whose good sentence has the higher pseudo-log-likelihood, in per cent, the mean "
        "over paradigms, with its 95 % interval over pairs; ties are half right. Chance is 50, and word frequencies or "
        "the length of sentences alone lift some paradigms above it: that does not show that grammar was learnt."
    )
    return [*parts, page.paragraph(note, "note")] if parts else []


def _pairs_table(folder: str, models: list[str], rows: list[list[str]], values: list[tuple]) -> Html:
    heads = ("phenomenon", "model", "accuracy", "low", "high", "paradigms", "pairs")
    link = download(f"{folder}-minimal-pairs", heads, [value for value in values if value[2] is not None])
    return page.table([["phenomenon", *models], *rows], links=[link])


def _of(scores: list[PairScore], model: str) -> list[PairScore]:
    """A model's lines, each paradigm once: the last counts."""
    return list({line["paradigm"]: line for line in scores if line["model"] == model}.values())


def _cell(pairs: Pairs | None) -> str:
    if pairs is None:
        return MISSING
    shown = fixed(1, scale=100)
    chance = f", {pairs.against_chance}" if pairs.against_chance else ""
    return f"{shown(pairs.accuracy)} [{shown(pairs.low)}, {shown(pairs.high)}]{chance}"


def _values(phenomenon: str, model: str, pairs: Pairs | None) -> tuple:
    if pairs is None:
        return phenomenon, model, None, None, None, None, None
    return phenomenon, model, pairs.accuracy, pairs.low, pairs.high, pairs.paradigms, pairs.pairs
