"""What models score without fine-tuning: on held-out text (`evaluation.jsonl`) and on minimal pairs (`probe.jsonl`)."""

from typing import TypedDict

EVALUATION, PROBE, TABLE = "evaluation.jsonl", "probe.jsonl", "table.md"
EVALUATION_FORMAT, PROBE_FORMAT = 1, 1


class Evaluation(TypedDict):
    """A line of evaluation.jsonl: a model on the validation rows of a corpus, each row under masks of its own."""

    format: int
    model: str  # its name in this folder; known by `parameters`
    path: str  # as it was given
    parameters: str  # SHA-256 (hex), see `training.members.weights_sha256`
    weights: str | None  # SHA-256 (hex) of the weight files of an exported model; None: a run's member
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
    data: str  # SHA-256 (hex) of the pairs that were scored
    paradigm: str  # BLiMP's UID, or the name of the file
    phenomenon: str  # BLiMP's linguistics_term, or the name of the file
    pairs: int
    correct: int  # good sentence the likelier
    ties: int  # counted as half correct
    backend: str  # "jax" or "torch"
