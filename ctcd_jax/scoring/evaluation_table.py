"""The table of `ctcd evaluate`, aligned for a terminal and as Markdown, and what its figures are."""

from collections.abc import Sequence

from ctcd_jax.artifacts.scoring import Evaluation, frequencies_words, perplexity
from ctcd_jax.text_tables import aligned, markdown, number_text

NOTE = (
    "Loss in nats a masked token of the validation rows; 15 % of a row are masked, the same for every model; in "
    "brackets the 95 % interval over rows, which covers neither pre-training nor other texts. Perplexity is exp(loss). "
    "Unigram: the loss of knowing word frequencies alone, those of the training rows of the same corpus (each token "
    "counted once more than it occurs), on the same masked tokens; of a corpus that a model was not trained on, the "
    "model never saw them."
)


def as_text(lines: Sequence[Evaluation]) -> str:
    """Returns the table for a terminal, with what it says in words."""
    return "\n".join([aligned(_rows(lines)), *_findings(lines)])


def as_markdown(lines: Sequence[Evaluation]) -> str:
    """Returns the table as a document, with what it says in words and what its figures are."""
    parts = ["# Held-out text", markdown(_rows(lines), names=2), NOTE, *_findings(lines)]
    return "\n\n".join(parts) + "\n"


def _rows(lines: Sequence[Evaluation]) -> list[tuple[str, ...]]:
    backends = len({line["backend"] for line in lines}) > 1
    heads = ("model", "corpus", "loss", "perplexity", "accuracy", "unigram", "rows")
    rows = [
        (
            line["model"],
            line["corpus"],
            f"{line['loss']:.3f} [{line['loss_low']:.3f}, {line['loss_high']:.3f}]",
            number_text(perplexity(line["loss"]), 1),
            f"{line['accuracy']:.1%}",
            f"{line['unigram_loss']:.3f}",
            f"{line['rows']:,}",
        )
        for line in lines
    ]
    if backends:
        heads, rows = (*heads, "backend"), [(*row, line["backend"]) for row, line in zip(rows, lines, strict=True)]
    return [heads, *rows]


def _findings(lines: Sequence[Evaluation]) -> list[str]:
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        words = frequencies_words(line["unigram_loss"], line["loss"], line["loss_low"], line["loss_high"])
        found.setdefault(words, {})[f"{line['model']} on {line['corpus']}"] = None
    return [f"{words.capitalize()} (unigram): {', '.join(of)}." for words, of in found.items() if words]
