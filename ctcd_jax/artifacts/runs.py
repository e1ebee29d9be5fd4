"""A run's directory: what its files are called, and what is in those that other stages read.

The types say what this version writes. A run of an earlier version may lack keys, and a file that was edited by hand
anything: who reads one checks it (`reading.Reader.run` for pages, `config.init_spec.read_run` to go on with a run).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from ctcd_jax.artifacts.corpora import ManifestSummary

CONFIG, METRICS, TIMING, PROVENANCE = "config.json", "metrics.jsonl", "timing.jsonl", "provenance.json"
CHECKPOINTS, FROZEN, LOCK = "checkpoints", "frozen", "lock"
RUN_FORMAT, PROVENANCE_FORMAT = 1, 1  # of config.json, provenance.json


class ShapeFields(TypedDict):
    """A model's shape. Counts, but for the last three."""

    vocab_size: int
    layers: int
    hidden: int
    heads: int
    intermediate: int
    max_positions: int
    token_types: int
    dropout: float  # share, in [0, 1]
    attention_dropout: float  # share, in [0, 1]
    layer_norm_eps: float
    architecture: NotRequired[str]  # of `models.registry.ARCHITECTURES`; absent: "bert"


class MaskingFields(TypedDict):
    """`masking`."""

    rate: float  # share of the tokens, in (0, 1)
    smoothing: float  # 0: uniform; more: rare tokens are predicted more often


class MemberConfig(TypedDict):
    """`members.NAME` as it was asked for; a size is None where `init` gives it."""

    layers: int | None
    hidden: int | None
    heads: int | None
    intermediate: int | None
    max_positions: int | None  # tokens
    dropout: float  # share, in [0, 1]
    attention_dropout: float  # share, in [0, 1]
    trainable: bool
    hard_weight: float  # of its own loss in what is minimised
    init: str | None  # an `init_spec`; None: scratch
    optimizer: dict[str, Any]  # fields of `config.OptimizerSettings`; None: as the run has it


class EdgeConfig(TypedDict):
    """An entry of `edges`; see `distill.Edge`."""

    source: str  # member that teaches
    target: str  # member that learns
    weight: float
    temperature: float
    tau_squared: bool  # whether the loss is multiplied by temperature^2
    divergence: str  # of `distill.cohort.DIVERGENCES`
    positions: str  # of `distill.cohort.POSITIONS`
    signal: str  # "logits", or of `distill.signals.SIGNALS`
    schedule: str  # of `distill.cohort.SCHEDULES`
    begin: float  # share of the steps
    end: float  # share of the steps


def schedule_words(edge: Mapping[str, Any]) -> str:
    """Returns when an edge teaches, e.g. "linear, from 25 % of the steps to 100 %"; "" where that is always.

    Args:
      edge: an `EdgeConfig`, of an earlier version, too.
    """
    schedule, begin, end = edge.get("schedule", "constant"), edge.get("begin", 0.0), edge.get("end", 1.0)
    if (schedule, begin, end) == ("constant", 0.0, 1.0):
        return ""
    return f"{schedule}, from {100 * begin:g} % of the steps to {100 * end:g} %"


class DataFields(TypedDict):
    """`data`."""

    corpus: str | None  # directory
    batch_size: int  # rows, of all devices together


class Resolved(TypedDict):
    """`resolved`: what the config came to on its corpus."""

    steps: int
    dtype: str  # of the computation
    corpus_hash: str  # SHA-256 (hex) of corpus.json
    tokenizer_hash: str  # SHA-256 (hex), see `data.tokenizer.tokenizer_hash`
    models: dict[str, ShapeFields]  # by member


class Change(TypedDict):
    """An entry of `history`: what `ctcd train --change` changed."""

    from_step: int  # newest saved step then; the change holds for later ones
    changed: dict[str, Sequence[Any]]  # {dotted field: [before, after]}


class RunConfig(TypedDict):
    """config.json. Sections that no stage looks into are as `config.builders.base_config` has them."""

    format: int
    seed: int
    data: DataFields
    train: dict[str, Any]  # as asked for; `resolved` has what became of steps and dtype
    optimizer: dict[str, Any]  # fields of `config.OptimizerSettings`
    masking: MaskingFields
    mesh: dict[str, int]  # devices along each axis; -1: all that the other leaves
    wandb: dict[str, str | None]
    trackio: dict[str, str | None]
    evaluation: dict[str, Any]
    members: dict[str, MemberConfig]
    edges: list[EdgeConfig]
    resolved: Resolved
    history: NotRequired[list[Change]]  # by from_step; absent: never changed


class MemberFigures(TypedDict, total=False):
    """Of a member in a line of metrics.jsonl; None where nothing was predicted. A frozen member has no loss."""

    hard: float | None  # nats a predicted token
    accuracy: float | None  # share of the predicted tokens
    learning_rate: float  # of the line's last step; "train" alone, as the next
    gradient_norm: float | None  # before clipping, at the line's last step; None: not finite


class EdgeFigures(TypedDict):
    """Of an edge in a line of metrics.jsonl; None where nothing was predicted."""

    soft: float | None  # its loss, without its weight; in nats for logits
    soft_t1: NotRequired[float | None]  # of edges of logits: the divergence at temperature 1, in nats


class CorpusFigures(TypedDict):
    """Of a further corpus in a "validation" line of metrics.jsonl: on its own validation rows."""

    unigram: float | None  # nats: of its own training rows' word frequencies
    members: dict[str, MemberFigures]


class MetricLine(TypedDict):
    """A line of metrics.jsonl: the mean over the steps since the line before ("train"), or of the validation rows."""

    kind: str  # "train" or "validation"
    step: int  # updates done
    tokens: int  # real ones trained on so far
    loss: float | None  # what the cohort minimises; None where a part of it is
    members: dict[str, MemberFigures]
    edges: dict[str, EdgeFigures]  # by "SOURCE->TARGET", and "#SIGNAL" after it where that is not logits
    agreement: dict[str, float | None]  # by "A~B": share of predicted tokens with equal argmax
    # "validation" alone, from here on
    unigram: NotRequired[float | None]  # what word frequencies alone score, nats; see `validation_masks.unigram_loss`
    corpora: NotRequired[dict[str, CorpusFigures]]  # of `evaluation.corpora`, by the end of the directory; absent: none


class TimingLine(TypedDict):
    """A line of timing.jsonl."""

    step: int  # updates done
    seconds: float  # of training, over all sessions so far
    tokens_per_second: float | None  # real tokens, since the line before; None where a session's first step is all
    mfu: float | None  # share of the devices' peak; None where that is not known
    eta_seconds: float | None  # None as above
    device: str  # kind, as JAX names it
    devices: int
    peak_bytes: int | None  # of memory, on the fullest device; None where the platform does not say


class Best(TypedDict):
    """The best evaluation so far of the member that `train.keep_best` names."""

    member: str
    step: int  # updates done; that step is kept
    loss: float  # its validation loss there, nats
    since: int  # evaluations after it, none of them better


class CheckpointMeta(TypedDict):
    """The "meta" of a saved step: what its state does not hold."""

    tokens: int  # real ones seen that the state does not count any more
    best: NotRequired[Best]  # as of this step; absent: there is none
    leaves: NotRequired[dict[str, str]]  # {path: SHA-256 (hex) of its bytes}, of arrays that one process saw whole
    sha256: NotRequired[str]  # of all else that is here; absent, as `leaves`: an earlier version saved it


class MemberStart(TypedDict):
    """What the weights that a member started from are known for."""

    from_scratch: bool  # all that trained them were runs of this project, on rows of single sentences
    rows: int  # tokens of the longest rows that trained them; 0: none did
    step: NotRequired[int]  # of a run's member: the saved step they are of
    steps: NotRequired[int]  # of a run's member: how many that run was to do
    fresh_head: NotRequired[bool]  # of a Hugging Face model: True where it had no MLM head
    weights: NotRequired[str]  # SHA-256 (hex), see `training.members.weights_sha256`; in provenance.json alone


class Provenance(TypedDict, total=False):
    """provenance.json; empty for a run of an earlier version, which has none."""

    format: int
    corpus: ManifestSummary
    base_models: dict[str, str]  # {member: id on the hub of the model it descends from}
    starts: dict[str, MemberStart]  # of the members that do not start from scratch
