"""What `ctcd study` leaves: a directory for each run, known by its content, and what came of all of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from ctcd_jax.artifacts.runs import METRICS
from ctcd_jax.errors import UserError
from ctcd_jax.files import json_sha256, read_json, read_json_lines
from ctcd_jax.kinds import AMOUNT, WHOLE, Each, mismatch

CELLS, CORPORA, RUN, LOG, CELL, LOCK = "cells", "corpora", "run", "log.txt", "cell.json", "lock"
EXPORTS, FAILED = "export", "failed.json"
STUDY, FINISHED, MODELS_CSV, SCORES_CSV, CURVES_CSV, PAGE = (
    "study.json", "finished.jsonl", "models.csv", "scores.csv", "curves.csv", "index.html"
)  # fmt: skip
CELL_FORMAT, STUDY_FORMAT = 2, 1
CURVE = ("arm", "member", "seed", "step", "loss")  # columns of curves.csv: held-out losses, nats a predicted token
KEY_DIGITS = 16


class CellFacts(TypedDict):
    """cell.json, written when a run of a study is finished; a line of finished.jsonl, where all of a study's are."""

    format: int
    key: str  # of its content
    content: dict[str, Any]  # what decides its figures: config, corpora by their hashes, teachers by their keys
    seconds: float  # of training, over all sessions
    device: str  # kind, as JAX names it
    devices: int
    dtype: str  # of the computation
    version: str  # of this package
    validation: list[dict[str, Any]]  # of metrics.jsonl, see `validation_lines`; corpora are known by `content_hash`


class Failure(TypedDict):
    """failed.json, in the folder of a run that failed when it was last tried."""

    reason: str
    diverged: bool  # its loss was no longer finite, which it will not be again


class ModelRow(TypedDict):
    """A member of a finished run on one text: a row of models.csv."""

    arm: str
    seed: int
    member: str
    on: str  # "held-out", or the name of a corpus
    at: str  # "last" or "best": the step of the lowest held-out loss
    step: int
    loss: float  # nats a predicted token
    accuracy: float  # share of the predicted tokens
    unigram: float  # nats: what word frequencies score


class ScoreRow(TypedDict):
    """What a model scores beside losses, at its last step: a row of scores.csv."""

    arm: str
    seed: int
    member: str
    on: str  # name of the data set
    finetuning: int | None  # seed of it; None: nothing was fine-tuned
    score: float  # per cent


class ArmFacts(TypedDict):
    """An arm in study.json. Tokens, FLOPs and seconds are of one seed."""

    config: str
    fields: dict[str, Any]
    chosen: dict[str, Any] | None  # of what was tuned; None: nothing was
    tried: int  # settings that were tuned over
    diverged: int  # of them
    steps: int  # as planned
    tokens: int  # real ones that each member is trained on: mean over the seeds, fewer where runs stopped early
    flops: float  # of all that had to be trained for it, its teachers too: mean over the seeds, as for `tokens`
    seconds: float | None  # mean over the finished runs; None: none is
    finished: int  # seeds
    failed: list[str]  # "seed N: reason", of when it was last tried
    method: dict[str, Any]  # `studies.cells.method` of its runs
    corpus_hash: str  # `Corpus.content_hash` of what it is trained on


class Difference(TypedDict):
    """One model's figure less another's, paired by seed. Of losses the smaller is better, of scores the greater."""

    better: str  # ARM#MEMBER that is claimed to be the better one
    than: str
    beyond: list[str]  # of two models, whose difference is taken off; empty: of none
    on: str
    at: str
    unit: str  # of losses "nats", of scores "points": per cent
    equal: list[str]  # of "tokens", "compute": in what both are alike
    tokens_ratio: float | None  # of the first to the second; None: one of their arms waits for tuning
    compute_ratio: float | None
    seeds: list[int]  # that both have
    each: list[float]  # of each of them
    mean: float | None  # None: fewer than two seeds
    low: float | None  # ends of the 95 % interval
    high: float | None
    p: float | None  # two-sided, of a paired t-test
    p_adjusted: float | None  # Holm's, over all differences of the study, those without results too
    detectable: float | None  # the smallest true difference that 8 of 10 such studies would see if it were the only one
    detectable_among_all: float | None  # the same for Holm's strictest step


class ClaimFacts(TypedDict):
    """A claim and what became of it."""

    says: str
    paper: str
    differences: list[Difference]
    verdicts: list[str]  # for each difference


class StudyFacts(TypedDict):
    """study.json."""

    format: int
    name: str
    title: str
    note: str
    seeds: int
    texts: dict[str, str]  # SPECs, without the folders
    corpora: dict[str, dict[str, Any]]  # {name: {"hash" (`Corpus.content_hash`), "train_tokens", "validation_tokens"}}
    evaluations: list[str]
    arms: dict[str, ArmFacts]
    waiting: dict[str, str]  # {arm that is not in `arms`: why none of its runs can begin}
    claims: list[ClaimFacts]
    cells: dict[str, str]  # {"ARM/seed-N": key}
    devices: list[str]
    version: str
    changes: NotRequired[list[str]]  # fields that were set in every arm


_LINE = {"step": WHOLE, "members": Each(dict), "corpora?": Each(dict)}
_KIND = {
    "key": str, "content": dict, "seconds": AMOUNT, "device": str, "devices": WHOLE, "dtype": str, "version": str,
    "validation": [_LINE],
}  # fmt: skip


def cell_key(content: Mapping[str, Any]) -> str:
    """Returns what a run with this content is known by, hexadecimal."""
    return json_sha256(content)[:KEY_DIGITS]


def validation_lines(run: Path, hash_of: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Returns of a run's "validation" lines what `CellFacts` has: what a study reads of them.

    That is the curves of the members, and further corpora at the last step and at the best of each member.

    Args:
      run: its directory.
      hash_of: gives the `content_hash` of a further corpus by the name of its folder; None where it is gone: what was
        measured on it is left out.
    """
    lines = [line for _, line in read_json_lines(run / METRICS)[0] if line["kind"] == "validation"]
    learns = [name for name, figures in lines[-1]["members"].items() if "hard" in figures]  # a frozen one has no loss
    best = [min(lines, key=lambda line: line["members"][name]["hard"]) for name in learns]
    looked_at = {line["step"] for line in (lines[-1], *best)}
    kept = []
    for line in lines:
        kept.append({name: line[name] for name in ("step", "members", "unigram")})
        if "corpora" in line and line["step"] in looked_at:
            found = {hash_of(name): figures for name, figures in line["corpora"].items()}
            kept[-1]["corpora"] = {known: figures for known, figures in found.items() if known}
    return kept


def read_cell(directory: Path) -> CellFacts | None:
    """Returns what is known of a finished run; None: it is not finished. Raises UserError for a damaged file."""
    path = directory / CELL
    if not path.is_file():
        return None
    otherwise = f"remove {directory}, so that it is run again"
    facts = read_json(path, otherwise)
    if fault := _fault(facts):
        raise UserError(f"{path}: {fault}; {otherwise}")
    return cast("CellFacts", facts)


def _fault(facts: dict[str, Any]) -> str:
    """Returns what is wrong with what is known of a finished run, "" if nothing is."""
    if (form := facts.get("format")) != CELL_FORMAT:
        return f"format {form!r:.60}, this version reads {CELL_FORMAT}"
    return mismatch(facts, _KIND)


def read_failure(directory: Path) -> Failure | None:
    """Returns why a run failed when it was last tried, None if it did not. Raises UserError for a damaged file."""
    path = directory / FAILED
    if not path.is_file():
        return None
    otherwise = "remove it, and the run is tried again"
    facts = read_json(path, otherwise)
    if fault := mismatch(facts, {"reason": str, "diverged": bool}):
        raise UserError(f"{path}: {fault}; {otherwise}")
    return cast("Failure", facts)


def read_finished(studies: Iterable[Path]) -> dict[str, CellFacts]:
    """Returns {key: what is known of a finished run} of studies that were run elsewhere.

    Args:
      studies: their folders, OUT/NAME of `ctcd study`.

    Raises:
      UserError: a file is missing or damaged, of another format, or the content of a line is not what its key is of.
    """
    found: dict[str, CellFacts] = {}
    for path in (study / FINISHED for study in studies):
        if not path.is_file():
            raise UserError(f"{path}: no such file; name the folder of a `ctcd study`")
        lines, damaged = read_json_lines(path)
        for number, facts in lines:
            if fault := _fault(facts):
                raise UserError(f"{path}:{number}: {fault}; copy the file again, or remove the line")
            if facts["key"] != cell_key(facts["content"]):
                damaged.append(number)
            else:
                found[facts["key"]] = cast("CellFacts", facts)
        if damaged:
            raise UserError(f"{path}:{damaged[0]}: damaged or edited; copy the file again, or remove the line")
    return found


def as_rows(rows: Sequence[ModelRow] | Sequence[ScoreRow], kind: type) -> list[list[Any]]:
    """Returns the rows of a CSV file, the head first.

    Args:
      rows: of one kind.
      kind: `ModelRow` or `ScoreRow`.
    """
    head = list(kind.__annotations__)
    return [head, *([cast("Mapping", row)[name] for name in head] for row in rows)]
