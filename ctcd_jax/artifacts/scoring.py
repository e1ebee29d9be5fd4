"""What models score without fine-tuning: on held-out text (`evaluation.jsonl`) and on minimal pairs (`probe.jsonl`)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, cast

from ctcd_jax.artifacts.lines import checked_lines
from ctcd_jax.errors import warn
from ctcd_jax.kinds import AMOUNT, WHOLE, mismatch
from ctcd_jax.ranges import COUNT, SHARE

EVALUATION, PROBE, TABLE, LOCK = "evaluation.jsonl", "probe.jsonl", "table.md", "lock"
EVALUATION_FORMAT, PROBE_FORMAT = 1, 1
LARGEST_LOSS = 700.0  # nats; the exponential of more is no float


def frequencies_words(unigram: float | None, loss: float, low: float | None = None, high: float | None = None) -> str:
    """Returns "no better than word frequencies", "worse than word frequencies", or "" for a model that is better.

    Args:
      unigram: what word frequencies score on the same tokens, nats; None where that is unknown.
      loss: the model's, nats.
      low, high: its interval, where it has one; without, a model is at most no better.
    """
    if unigram is None or (loss if high is None else high) < unigram:
        return ""
    return f"{'worse' if low is not None and low > unigram else 'no better'} than word frequencies"


def frequencies_beside(unigram: float | None, loss: float) -> str:
    """Returns "worse" or (by less than a twentieth) "hardly better" than word frequencies, "" for a better model.

    That is where losses lie on the plateau that training begins with, and where those of a failed training stay.

    Args:
      unigram: what word frequencies score on the same tokens, nats; None where that is unknown.
      loss: the model's, nats.
    """
    if unigram is None or not loss > 0.95 * unigram:
        return ""
    return "worse" if loss > unigram else "hardly better"


class Evaluation(TypedDict):
    """A line of evaluation.jsonl: a model on the validation rows of a corpus, each row under masks of its own."""

    format: int
    model: str  # its name in this folder; known by `parameters`
    path: str  # as it was given, a run's member without its step
    parameters: str  # SHA-256 (hex), see `training.members.weights_sha256`
    shape: str  # SHA-256 (hex) of its shape, which makes another model of equal parameters
    weights: str | None  # SHA-256 (hex) of the weight files of an exported model; None: a run's member
    step: int | None  # of the run's member; None: it is frozen, or no run's
    corpus: str  # its name in this folder; known by `corpus_hash`
    corpus_hash: str  # SHA-256 (hex) of corpus.json
    rows: int
    predicted: int  # masked tokens
    loss: float  # nats a predicted token
    loss_low: float  # ends of the 95 % interval over rows, nats
    loss_high: float
    accuracy: float  # share of the predicted tokens
    unigram_loss: float  # nats: of the training rows' token frequencies, on the same tokens
    backend: str  # "jax" or "torch"


class PairScore(TypedDict):
    """A line of probe.jsonl: a model on the minimal pairs of one paradigm, by pseudo-log-likelihood."""

    format: int
    model: str  # its name in this folder; known by `weights`
    path: str  # as it was given
    weights: str  # SHA-256 (hex) of the weight files
    tokenizer: str  # SHA-256 (hex), as the next: see `exports.companions`
    config: str  # what makes another model of equal weights
    data: str  # SHA-256 (hex) of the pairs that were scored
    paradigm: str  # BLiMP's UID, or the name of the file
    phenomenon: str  # BLiMP's linguistics_term, or the name of the file
    pairs: int
    correct: int  # good sentence the likelier
    ties: int  # counted as half correct
    unknown: int  # pairs with a word that the tokenizer does not know
    backend: str  # "jax" or "torch"


_TEXTS = {"model": str, "path": str, "backend": str}
_EVALUATION = _TEXTS | {"parameters": str, "shape?": str, "weights": (str, None), "step?": (WHOLE, None)}
_EVALUATION |= {"corpus": str, "corpus_hash": str, "rows": COUNT, "predicted": COUNT, "accuracy": SHARE}
_EVALUATION |= dict.fromkeys(("loss", "loss_low", "loss_high", "unigram_loss"), AMOUNT)
_PAIR_SCORE = _TEXTS | {"weights": str, "tokenizer?": str, "config?": str, "data": str, "paradigm": str}
_PAIR_SCORE |= {"phenomenon": str, "pairs": COUNT, "correct": WHOLE, "ties": WHOLE, "unknown?": WHOLE}


def read_evaluations(path: Path, warn: Callable[[str], None] = warn) -> list[Evaluation]:
    """Returns the lines of an `evaluation.jsonl`, as `lines.checked_lines`; none if the file is not there."""
    return [cast("Evaluation", row) for _, row in checked_lines(path, evaluation_fault, warn)]


def read_pair_scores(path: Path, warn: Callable[[str], None] = warn) -> list[PairScore]:
    """Returns the lines of a `probe.jsonl`, as `lines.checked_lines`; none if the file is not there."""
    return [cast("PairScore", row) for _, row in checked_lines(path, pair_score_fault, warn)]


def perplexity(loss: float) -> float:
    """Returns among how many equally likely words a loss in nats is as good as choosing; infinity beyond a float."""
    return math.exp(loss) if loss < LARGEST_LOSS else math.inf


def evaluation_fault(row: dict) -> str:
    """Returns what is wrong with a line of an `evaluation.jsonl`, "" if nothing is."""
    if fault := _format_fault(row, EVALUATION_FORMAT) or mismatch(row, _EVALUATION):
        return fault
    return "" if row["loss_low"] <= row["loss"] <= row["loss_high"] else "loss is outside its interval"


def pair_score_fault(row: dict) -> str:
    """Returns what is wrong with a line of a `probe.jsonl`, "" if nothing is."""
    if fault := _format_fault(row, PROBE_FORMAT) or mismatch(row, _PAIR_SCORE):
        return fault
    return "" if row["correct"] + row["ties"] <= row["pairs"] else "correct and ties are more than pairs"


def _format_fault(row: dict, readable: int) -> str:
    return "" if row.get("format") == readable else f"format {row.get('format')!r:.60}, this version reads {readable}"
