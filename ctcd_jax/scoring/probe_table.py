"""The table of `ctcd probe`: accuracy by phenomenon with intervals, aligned for a terminal and as Markdown."""

from collections.abc import Sequence

from ctcd_jax.artifacts.pairs import summarised
from ctcd_jax.artifacts.scoring import PairScore
from ctcd_jax.text_tables import aligned, counted, markdown

_ABREAST = 3  # models that fit a terminal

NOTE = (
    "Share of the minimal pairs, in per cent, whose acceptable sentence has the greater pseudo-log-likelihood (Salazar "
    "et al. 2020: each token masked by itself; a tie counts half); nothing is fine-tuned, and chance is 50. A "
    "phenomenon is the mean of its paradigms, 'all' the mean over all paradigms, as in BLiMP (Warstadt et al. 2020). "
    "In brackets 95 % intervals for other pairs of the same paradigms: Wilson's for each paradigm, the half-widths of "
    "the mean added in quadrature (Zou and Donner 2008). They do not cover pre-training. Word frequencies or the "
    "length of sentences alone lift some paradigms above chance."
)


def as_text(models: Sequence[Sequence[PairScore]]) -> str:
    """Returns the table for a terminal, three models abreast.

    Args:
      models: the lines of each, of the same paradigms in the same order.
    """
    parts = [models[start : start + _ABREAST] for start in range(0, len(models), _ABREAST)]
    return "\n\n".join(aligned(_rows(part)) for part in parts)


def as_markdown(models: Sequence[Sequence[PairScore]]) -> str:
    """Returns the table as a document, with what its figures are; `models` as for `as_text`."""
    pairs = sum(line["pairs"] for line in models[0])
    count = f"{pairs:,} pairs of {counted(len(models[0]), 'paradigm')}."
    unknown = filter(None, map(unknown_line, models))
    return "\n\n".join(["# Minimal pairs", markdown(_rows(models)), f"{count} {NOTE}", *unknown]) + "\n"


def unknown_line(lines: Sequence[PairScore]) -> str:
    """Says how many of a model's pairs have a word that its tokenizer does not know, "" if none has."""
    count = sum(line.get("unknown", 0) for line in lines)
    if not count:
        return ""
    pairs = sum(line["pairs"] for line in lines)
    return (
        f"{lines[0]['model']}: {count:,} of {pairs:,} pairs have a word that its tokenizer does not know; [UNK] is not "
        "scored"
    )


def _rows(models: Sequence[Sequence[PairScore]]) -> list[list[str]]:
    phenomena = list(dict.fromkeys(line["phenomenon"] for line in models[0]))
    rows = [["phenomenon", "paradigms", *(lines[0]["model"] for lines in models)]]
    for phenomenon in phenomena:
        chosen = [[line for line in lines if line["phenomenon"] == phenomenon] for lines in models]
        rows.append([phenomenon, f"{len(chosen[0])}", *map(_cell, chosen)])
    return [*rows, ["all", f"{len(models[0])}", *map(_cell, models)]]


def _cell(lines: Sequence[PairScore]) -> str:
    found = summarised(lines)
    assert found, "every model has the same paradigms"
    figures = (100 * share for share in (found.accuracy, found.low, found.high))
    return "{:.1f} [{:.1f}, {:.1f}]".format(*figures) + f" {found.against_chance}".rstrip()
