"""`ctcd.json`: the facts of an export that its card is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from ctcd_jax.artifacts.corpora import SplitCounts
from ctcd_jax.artifacts.runs import Change, EdgeConfig, MaskingFields, ShapeFields
from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json, write_json
from ctcd_jax.kinds import AMOUNT, FIGURE, WHOLE, Each, mismatch
from ctcd_jax.ranges import COUNT, SHARE, Range

FACTS = "ctcd.json"
FORMAT = 1


class FromScratch(TypedDict):
    """A member began with random weights."""

    kind: Literal["scratch"]


class FromHub(TypedDict):
    """With those of a Hugging Face directory."""

    kind: Literal["hf"]
    model: str  # id on the hub, or the directory's name
    fresh_head: NotRequired[bool]  # True: it had no MLM head, and one was made; absent: it had


class FromRun(TypedDict):
    """With those of a member of a run."""

    kind: Literal["run"]
    run: str  # the directory's name
    member: str
    step: NotRequired[int]  # the saved step, where it is recorded
    steps: NotRequired[int]  # how many the run was to do, where that is recorded


class FromLayers(TypedDict):
    """With layers of a member of its own run."""

    kind: Literal["layers"]
    member: str
    layers: Sequence[int]  # indices


Start = FromScratch | FromHub | FromRun | FromLayers


class FactsMember(TypedDict):
    """A member of the run that the model is of."""

    layers: int
    hidden: int
    start: Start
    trainable: bool
    hard_weight: float
    base_model: NotRequired[str]  # id on the hub of the model it descends from


class FactsSource(TypedDict):
    """A source of the corpus, without the place it lay in."""

    kind: str  # of the SPEC
    options: dict[str, str]  # of the SPEC
    name: NotRequired[str]  # of the file or directory; not of docstrings, nor with `hub`
    hub: NotRequired[str]  # id on the hub
    revision: NotRequired[str]  # commit there
    documents: int
    sentences: int
    kept: int  # sentences


class FactsTokenizer(TypedDict):
    """The corpus's tokenizer."""

    name: str | None  # of the directory or on the hub; None: trained on the corpus
    cased: bool
    keep_accents: bool
    vocab_size: int
    hash: str  # SHA-256 (hex), see `data.tokenizer.tokenizer_hash`


class FactsCorpus(TypedDict, total=False):
    """The corpus; `hash` alone for a run of an earlier version, nothing for a frozen member."""

    hash: str  # SHA-256 (hex) of corpus.json
    sources: list[FactsSource]
    splits: dict[str, SplitCounts]  # of train and validation
    dropped: dict[str, int]  # sentences by reason
    length: int  # ids a row
    packing: str  # of `data.packing.PACKERS`
    every: int  # one sentence in so many was taken
    seed: int
    validation: float  # share held out
    language: str  # code
    deduplicate: bool
    validation_by: str  # "documents" or "sentences"
    tokenizer: FactsTokenizer


class Optimizer(TypedDict):
    """Of the member; see `config.OptimizerSettings`."""

    learning_rate: float  # peak
    warmup_fraction: float  # share of all steps
    schedule: str  # "linear", "cosine" or "constant"
    b1: float
    b2: float
    eps: float
    weight_decay: float
    clip_norm: float | None  # None: not clipped


class FactsTraining(TypedDict):
    """What the run did to the model until `step`."""

    step: int  # updates done
    steps: int  # updates to be done
    batch_size: int  # rows
    seed: int
    dtype: str  # of the computation
    masking: MaskingFields
    optimizer: Optimizer
    tokens: NotRequired[int]  # real ones trained on; absent: no line of metrics.jsonl is of this step
    history: NotRequired[list[Change]]  # before `step`; absent: the run was never changed


class HeldOut(TypedDict):
    """Of the validation rows, whose masks are the same for every run."""

    step: int
    loss: float | None  # nats a predicted token
    accuracy: float | None  # share of the predicted tokens
    unigram: NotRequired[
        float | None
    ]  # nats of word frequencies on the same tokens; a run of an earlier version lacks it


class RunFacts(TypedDict):
    """What the run knows of a member: the facts of an export, without those of its files."""

    version: str  # of this package
    run: str  # name of the run's directory
    member: str
    model: ShapeFields
    members: dict[str, FactsMember]
    edges: list[EdgeConfig]  # those that weigh something
    from_scratch: bool  # see `MemberStart`
    earlier_rows: NotRequired[int]  # `rows` of `MemberStart`; exports of an earlier version lack it
    training: FactsTraining | None  # None for a frozen member
    corpus: FactsCorpus
    held_out: NotRequired[HeldOut]  # absent: not evaluated at this step


class Facts(RunFacts):
    """ctcd.json."""

    format: int
    name: str  # of the export's directory
    parameters: int
    bytes: int  # of the weight file
    weights: str  # SHA-256 (hex) of the weight file
    parity: float  # max |logit difference| to PyTorch, float32 on the CPU


_NUMBER = Range()
_START = {"kind": str, "model?": str, "fresh_head?": bool, "run?": str, "member?": str, "layers?": [WHOLE]}
_SPLIT = {"sentences": WHOLE, "rows": COUNT, "tokens": WHOLE}
_SOURCE = {"kind": str, "name?": str, "hub?": str, "revision?": str, "options": Each(str)}
_OPTIMIZER = {"learning_rate": _NUMBER, "warmup_fraction": _NUMBER, "schedule": str, "b1": _NUMBER, "b2": _NUMBER}
_OPTIMIZER |= {"eps": _NUMBER, "weight_decay": _NUMBER, "clip_norm": (_NUMBER, None)}
KIND = {
    "name": str,
    "version": str,
    "run": str,
    "member": str,
    "model": dict.fromkeys(("layers", "hidden", "heads", "intermediate", "max_positions", "vocab_size"), COUNT)
    | {"dropout": SHARE, "attention_dropout": SHARE},
    "members": Each(
        {"layers": COUNT, "hidden": COUNT, "start": _START, "trainable": bool, "hard_weight": _NUMBER}
        | {"base_model?": str}
    ),
    "edges": [
        {"source": str, "target": str, "weight": _NUMBER, "temperature": _NUMBER, "tau_squared": bool}
        | {"divergence": str, "positions": str, "schedule?": str, "begin?": SHARE, "end?": SHARE}
    ],
    "from_scratch": bool,
    "earlier_rows?": WHOLE,
    "training": (
        None,
        {"step": WHOLE, "steps": COUNT, "batch_size": COUNT, "seed": WHOLE, "dtype": str, "tokens?": WHOLE}
        | {"masking": {"rate": SHARE, "smoothing": _NUMBER}, "optimizer": _OPTIMIZER},
    ),
    "corpus": {
        "hash?": str,
        "sources?": [_SOURCE | dict.fromkeys(("documents", "sentences", "kept"), WHOLE)],
        "splits?": {"train": _SPLIT, "validation": _SPLIT},
        "length?": COUNT,
        "language?": str,
    },
    "held_out?": {"step": WHOLE, "loss": (FIGURE, None), "accuracy": (FIGURE, None), "unigram?": (FIGURE, None)},
    "parameters": COUNT,
    "bytes": COUNT,
    "weights": str,
    "parity": AMOUNT,
}
# What there is besides, where the corpus has `splits`.
_CORPUS = {"packing": str, "every": COUNT, "seed": WHOLE, "validation": SHARE, "length": COUNT, "sources": list}
_CORPUS |= {"validation_by?": str}
_CORPUS |= {"tokenizer": {"name": (str, None), "cased": bool, "keep_accents?": bool, "vocab_size": COUNT}}


def trained_positions(facts: RunFacts) -> int:
    """Returns how many of a model's positions were trained: those of the longest rows that any of its runs had, or all
    of a model that came from elsewhere."""
    positions = facts["model"]["max_positions"]
    longest = max(facts["corpus"].get("length", 0), facts.get("earlier_rows", 0))
    return min(longest or positions, positions) if facts["from_scratch"] else positions


def write_facts(directory: Path, facts: Facts) -> None:
    """Writes `ctcd.json`."""
    write_json(directory / FACTS, facts)


def read_facts(directory: Path) -> Facts:
    """Returns the content of `ctcd.json`.

    Raises:
      UserError: there is none, its format is unknown, or a fact is missing or not of its kind.
    """
    path, fix = directory / FACTS, "export the model again with `ctcd export`, which writes it"
    facts = read_json(path, fix)
    if facts.get("format") != FORMAT:
        raise UserError(f"{path}: format {facts.get('format')!r:.60}, this version reads {FORMAT}")
    fault = mismatch(facts, KIND)
    if not fault and facts["training"]:
        fault = mismatch(facts["corpus"], {"hash": str}, "corpus")
    if not fault and "splits" in facts["corpus"]:
        fault = mismatch(facts["corpus"], _CORPUS, "corpus")
    if not fault and facts["member"] not in facts["members"]:
        fault = f"member '{facts['member']}' is not in members"
    if fault:
        raise UserError(f"{path}: {fault}; {fix}")
    return cast("Facts", facts)
