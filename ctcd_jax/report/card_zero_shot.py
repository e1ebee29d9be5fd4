"""The part of a model card on what the model knows without fine-tuning, as Markdown."""

from collections.abc import Sequence

from ctcd_jax.artifacts.pairs import Pairs, summarised
from ctcd_jax.artifacts.scoring import Evaluation, PairScore, frequencies_words, perplexity
from ctcd_jax.text_tables import markdown, number_text


def held_out_section(lines: Sequence[Evaluation]) -> str:
    """Returns the model's loss on the validation rows of every corpus.

    Args:
      lines: of evaluation.jsonl, all of this model, each corpus once.
    """
    shown = [["corpus", "loss, 95 % interval", "perplexity", "accuracy", "word frequencies"]]
    shown += [
        [
            f"`{line['corpus']}`",
            f"{line['loss']:.4f} [{line['loss_low']:.4f}, {line['loss_high']:.4f}]",
            number_text(perplexity(line["loss"]), 1),
            f"{line['accuracy']:.1%}",
            f"{line['unigram_loss']:.4f}",
        ]
        for line in lines
    ]
    notes = [
        "Masked tokens of validation rows, nats a token. Word frequencies: what those of the corpus's own training "
        "rows score on the same tokens."
    ]
    for line in lines:
        if words := frequencies_words(line["unigram_loss"], line["loss"], line["loss_low"], line["loss_high"]):
            notes.append(f"On `{line['corpus']}` it is {words}.")
    return "\n\n".join(["### Held-out text", " ".join(notes), markdown(shown)])


def pairs_section(lines: Sequence[PairScore]) -> str:
    """Returns the model's accuracy on minimal pairs, by phenomenon.

    Args:
      lines: of probe.jsonl, all of this model, each paradigm once.
    """
    phenomena = dict.fromkeys(line["phenomenon"] for line in lines)
    groups = [(f"`{name}`", [line for line in lines if line["phenomenon"] == name]) for name in phenomena]
    shown = [["phenomenon", "accuracy, 95 % interval", "paradigms", "pairs"]]
    shown += [_row(name, summarised(group)) for name, group in [*groups, ("**mean over paradigms**", list(lines))]]
    note = (
        "Zero-shot, in per cent: how often the good sentence of a pair has the higher pseudo-log-likelihood. Ties are "
        "half right, intervals over pairs, chance is 50; word frequencies alone lift some paradigms above it."
    )
    return "\n\n".join(["### Minimal pairs", note, markdown(shown)])


def _row(name: str, pairs: Pairs | None) -> list[str]:
    assert pairs is not None  # no group is empty
    ends = f"[{number_text(100 * pairs.low)}, {number_text(100 * pairs.high)}]"
    chance = f", {pairs.against_chance}" if pairs.against_chance else ""
    return [name, f"{number_text(100 * pairs.accuracy)} {ends}{chance}", str(pairs.paradigms), f"{pairs.pairs:,}"]
