"""`ctcd verify`: whether a run trains as the runs of a study did, from other seeds and on another machine."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from ctcd_jax.artifacts.runs import METRICS
from ctcd_jax.artifacts.studies import CURVE, CURVES_CSV, STUDY, STUDY_FORMAT
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.evaluation.tables.intervals import t_quantile
from ctcd_jax.files import read_json
from ctcd_jax.kinds import Digits, Each, mismatch
from ctcd_jax.studies.cells import method
from ctcd_jax.text_tables import aligned
from ctcd_jax.training.metrics import read_lines

LEVEL = 0.99
# Nats that rounding in another order, or in bfloat16, may add up to; what five seeds do not show.
_ROUNDING = 0.02
_NO_STUDY = "name the folder of a `ctcd study`"
# What is read of study.json here, and of an arm's method in `method`.
_METHOD = {
    "train": dict, "data": dict, "resolved": dict, "members": Each({"init?": (str, None)}), "edges?": [dict],
}  # fmt: skip
_STUDY = {"arms": Each({"method": _METHOD, "corpus_hash": str})}


class Point(NamedTuple):
    """A validation of a run beside those of the study's seeds at the same step, nats."""

    member: str
    step: int
    loss: float
    unigram: float  # what word frequencies score
    low: float
    high: float

    @property
    def within(self) -> bool:
        return self.low <= self.loss <= self.high


def verify(
    workdir: str | Path, study: str | Path, log: Callable[[str], None] = print, warn: Callable[[str], None] = warn
) -> bool:
    """Returns whether the newest validation loss of each member lies in the band of a study's seeds; prints all.

    The arm is that of the same method: all that decides what is learnt but the seed, the precision of the computation
    and, which is warned of, the corpus. The band at a step is where another run of the arm lies with a probability of
    99 %, if losses of seeds scatter normally. Of the many steps of a run the newest decides alone, so that a run that
    trains well is not refused for being looked at often.

    Args:
      workdir: of the run; it may still be trained.
      study: folder of study.json and curves.csv.
      log, warn: take a line.

    Raises:
      UserError: no run or no study there, no arm of it is of the run's method, or none of its steps was evaluated.
    """
    workdir, study = Path(workdir), Path(study)
    run = read_run(workdir)
    arms = _arms(study / STUDY)
    arm = _arm(method(json.loads(json.dumps(run))), arms, workdir, study)
    if (here := _corpus_content(run)) is None:
        warn(f"{workdir}: its corpus is no longer at {run['data']['corpus']}; whether it is the study's is unknown")
    elif here != (there := arms[arm]["corpus_hash"]):
        warn(f"{workdir}: another corpus ({here[:12]}) than the study's ({there[:12]}); losses may differ for that")
    points = list(_points(workdir, arm, study / CURVES_CSV, warn))
    if not points:
        raise UserError(f"{workdir}: no step has been evaluated that the study evaluated, too; train it further")
    rows = [("member", "step", "held-out loss", f"{LEVEL:.0%} of {arm}'s runs lie in", "")]
    rows += [
        (point.member, f"{point.step:,}", f"{point.loss:.4f}", f"[{point.low:.4f}, {point.high:.4f}]",
         "" if point.within else "outside")
        for point in points
    ]  # fmt: skip
    log(aligned(rows))
    newest = {point.member: point for point in points}.values()
    for point in newest:
        if point.low <= point.unigram <= point.high:
            warn(
                f"{point.member}, step {point.step:,}: the seeds of {arm} are so far apart that even word frequencies "
                f"({point.unigram:.4f}) lie in the band; that the run does says little"
            )
    outside = [f"{point.member}'s loss at step {point.step:,}" for point in newest if not point.within]
    log(
        f"{workdir} trains as {study}'s {arm} did"
        if not outside
        else f"{workdir} does not train as {study}'s {arm} did: outside lies {' and '.join(outside)}"
    )
    return not outside


def _arms(path: Path) -> dict[str, Any]:
    facts = read_json(path, _NO_STUDY)
    if facts.get("format") != STUDY_FORMAT:
        raise UserError(f"{path}: format {facts.get('format')!r:.60}, this version reads {STUDY_FORMAT}")
    if fault := mismatch(facts, _STUDY) or ("" if facts["arms"] else "arms is empty"):
        raise UserError(f"{path}: {fault}; copy the file again")
    return facts["arms"]


def _corpus_content(run: Mapping[str, Any]) -> str | None:
    try:
        corpus = Corpus(run["data"]["corpus"])
    except UserError:
        return None
    return corpus.content_hash if corpus.hash == run["resolved"]["corpus_hash"] else None


def _arm(own: Mapping[str, Any], arms: Mapping[str, Mapping], workdir: Path, study: Path) -> str:
    # Of a study that another version has written, too: `method` leaves out what needs not be said.
    differing = {name: list(_differences(own, method(arm["method"]))) for name, arm in arms.items()}
    nearest = min(differing, key=lambda name: len(differing[name]))
    if differing[nearest]:
        raise UserError(
            f"{workdir}: no arm of {study} is of its method; the nearest, '{nearest}', differs in "
            f"{', '.join(differing[nearest][:3])}"
        )
    return nearest


def _differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            name
            for key in sorted(ours.keys() | theirs.keys())
            for name in _differences(ours.get(key), theirs.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if ours == theirs else [place]


def _points(workdir: Path, arm: str, curves: Path, warn: Callable[[str], None]) -> Sequence[Point]:
    known: dict[tuple[str, int], list[float]] = {}
    for row in _curves(curves):
        if row["arm"] == arm:
            known.setdefault((row["member"], int(row["step"])), []).append(float(row["loss"]))
    points = []
    for line in read_lines(workdir / METRICS, warn):
        for member, figures in line["members"].items() if line["kind"] == "validation" else ():
            losses = known.get((member, line["step"]), [])
            if len(losses) > 1 and figures.get("hard") is not None:
                mean, half = fmean(losses), _half_width(losses) + _ROUNDING
                unigram = line.get("unigram") or math.inf  # runs of earlier versions do not say it
                points.append(Point(member, line["step"], figures["hard"], unigram, mean - half, mean + half))
    return points


def _curves(path: Path) -> Iterator[dict[str, str]]:
    """Yields the lines of curves.csv, "step" a whole number and "loss" a number, as text."""
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if missing := sorted(set(CURVE) - set(reader.fieldnames or ())):
            raise UserError(f"{path}: no column '{missing[0]}'; copy the file again")
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            if missing := [name for name in CURVE if row.get(name) is None]:
                raise UserError(f"{where}: {missing[0]} is missing; copy the file again")
            if not Digits().holds(row["step"]):
                raise UserError(f"{where}: step is {row['step']!r:.40}, not a whole number; copy the file again")
            if not _is_number(row["loss"]):
                raise UserError(f"{where}: loss is {row['loss']!r:.40}, not a number; copy the file again")
            yield row
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {_NO_STUDY}") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); copy the file again") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _half_width(losses: Sequence[float]) -> float:
    """Half the interval in which one more run lies with probability `LEVEL`."""
    count = len(losses)
    return t_quantile(count - 1, LEVEL) * stdev(losses) * math.sqrt(1 + 1 / count)
