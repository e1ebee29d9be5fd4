"""What a run says: `metrics.jsonl` (the same bytes however often it was interrupted), `timing.jsonl`, TensorBoard, and
a line for people."""

import contextlib
import json
import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ctcd_jax.artifacts.runs import METRICS, TENSORBOARD, TIMING, MetricLine, TimingLine
from ctcd_jax.distill import Cohort
from ctcd_jax.distill.objective import Mean, Terms
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import read_json_lines, write_whole
from ctcd_jax.jobs.duration import duration


def record(kind: str, step: int, tokens: int, terms: Terms, cohort: Cohort) -> MetricLine:
    """Returns one line of `metrics.jsonl` from summed terms.

    {"kind": "train"|"validation", "step", "tokens" (real, cumulative), "loss" (what the cohort minimises, of these
    means), "members": {NAME: {"hard", "accuracy"}}, "edges": {"SOURCE->TARGET": {"soft", "soft_t1"}}, "agreement":
    {"A~B"}}; losses in nats, shares in [0, 1]. None where nothing was predicted: rows of special tokens alone, or an
    overflow in every step.
    """
    line: MetricLine = {
        "kind": kind, "step": step, "tokens": tokens, "loss": None, "members": {}, "edges": {}, "agreement": {}
    }  # fmt: skip
    for group, figure in (("members", "accuracy"), ("members", "hard"), ("edges", "soft"), ("edges", "soft_t1")):
        for name, mean in getattr(terms, figure).items():
            line[group].setdefault(name, {})[figure] = _value(mean)
    line["agreement"] = {pair: _value(mean) for pair, mean in terms.agreement.items()}
    weighted = [(cohort.members[name].hard_weight, line["members"][name].get("hard")) for name in cohort.trainable]
    weighted += [(edge.weight, line["edges"][edge.name]["soft"]) for edge in cohort.edges]
    parts = [weight * value for weight, value in weighted if value is not None]
    if len(parts) == len(weighted):
        line["loss"] = sum(parts)
    return line


def _value(mean: Mean) -> float | None:
    return float(mean.total) / float(mean.weight) if mean.weight > 0 else None


def with_optimizers(line: MetricLine, rates: Mapping[str, float], gradient_norms: Mapping[str, float]) -> MetricLine:
    """Returns a "train" line with every trainable member's `learning_rate` and `gradient_norm` at its last step.

    The norm is that before clipping; None where it is not finite (an overflow, which the loss scale handles).
    """
    members = dict(line["members"])
    for name, rate in rates.items():
        norm = float(gradient_norms[name])
        gradient_norm = norm if math.isfinite(norm) else None
        members[name] = {**members[name], "learning_rate": float(rate), "gradient_norm": gradient_norm}
    return {**line, "members": members}


def describe(line: MetricLine) -> str:
    """Returns a record as people read it: every hard loss, every soft loss, agreement."""
    hard = " ".join(f"{name} {_shown(v['hard'], '.4f')}" for name, v in line["members"].items() if "hard" in v)
    soft = " ".join(f"{name} {_shown(v['soft'], '.4f')}" for name, v in line["edges"].items())
    agreement = " ".join(f"{pair} {_shown(value, '.1%')}" for pair, value in line["agreement"].items())
    return " | ".join(
        part for part in (f"hard {hard}", soft and f"soft {soft}", agreement and f"agree {agreement}") if part
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def progress(step: int, steps: int, tokens_per_second: float, mfu: float | None, eta: float) -> tuple[str, str]:
    """Returns (how far, how fast) for the log line."""
    speed = f"{tokens_per_second:,.0f} tokens/s"
    if mfu is not None:
        speed += f" | MFU {mfu:.1%}"
    return f"step {step:,}/{steps:,} {step / steps:.0%}", f"{speed} | ETA {duration(eta)}"


class Writers:
    """Writes the lines of a run from its first step, or again from `start`: what lies after it is cut off first.

    Only one process of a run has one. Every method raises UserError where the disk gives out.
    """

    def __init__(
        self,
        workdir: Path,
        start: int,
        wandb_project: str | None,
        config: Mapping[str, Any],
        warn: Callable[[str], None] = warn,
    ):
        self._files = {name: workdir / name for name in (METRICS, TIMING)}
        for path in self._files.values():
            with _disk_errors(path):
                cut_after(path, start, warn)
        self._wandb = _start_wandb(wandb_project, workdir, config) if wandb_project else None
        self._curves = _Curves(workdir / TENSORBOARD, start + 1)

    def metrics(self, line: MetricLine) -> None:
        """Appends a record, and its figures to TensorBoard and Weights & Biases as `kind/group/name`."""
        self._append(METRICS, line)
        figures = {f"{line['kind']}/{name}": value for name, value in flatten(line)}
        self._curves.add(line["step"], figures)
        if self._wandb:
            self._wandb.log(figures, step=line["step"])

    def timing(self, line: TimingLine) -> None:
        self._append(TIMING, line)

    def close(self) -> None:
        self._curves.close()
        if self._wandb:
            self._wandb.finish()

    def _append(self, name: str, line: Mapping) -> None:
        with _disk_errors(self._files[name]), self._files[name].open("a") as file:
            file.write(json.dumps(line) + "\n")


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make room and start again") from error


class _Curves:
    """TensorBoard's file of events, written where the caller is.

    tensorboardX's own SummaryWriter hands the events to a thread. Where the disk is full that thread dies with a
    traceback, and whoever hands it more waits for ever.
    """

    def __init__(self, directory: Path, purge_step: int):
        tensorboard = _tensorboard()
        self._event, self._scalar = tensorboard.proto.event_pb2.Event, tensorboard.summary.scalar
        self._directory, self._failed = directory, False
        session = tensorboard.proto.event_pb2.SessionLog
        with self._writing():
            directory.mkdir(exist_ok=True)
            self._file = tensorboard.event_file_writer.EventsWriter(str(directory / "events"))
            self._write(step=purge_step, file_version="brain.Event:2")
            # What an interrupted session drew after the step that this one goes on from is hidden.
            self._write(step=purge_step, session_log=session(status=session.START))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        with self._writing():
            for name, value in figures.items():
                self._write(step=step, summary=self._scalar(name, value))
            self._file.flush()

    def close(self) -> None:
        if not self._failed:  # else it would fail again, on the way out of the first failure
            with self._writing():
                self._file.close()

    def _write(self, **content) -> None:
        self._file.write_event(self._event(wall_time=time.time(), **content))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with _disk_errors(self._directory):
                yield
        except UserError:
            self._failed = True
            raise


def flatten(line: MetricLine) -> list[tuple[str, float]]:
    """Returns the figures of a record that are there, with their paths, e.g. ("members/student/hard", 6.9)."""

    def walk(path: str, value, give: Callable):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}/{key}" if path else key, inner, give)
        elif (path.count("/") or path == "loss") and value is not None:
            give((path, value))

    found: list[tuple[str, float]] = []
    walk("", line, found.append)
    return found


def read_lines(path: Path, warn: Callable[[str], None] = warn) -> list[dict]:
    """Returns the records of `metrics.jsonl` or the lines of `timing.jsonl`; what is damaged is left out, and said."""
    return [line for _, line in _numbered(path, warn)]


def cut_after(path: Path, step: int, warn: Callable[[str], None] = warn) -> None:
    """Removes the lines of later steps, a last line that a kill cut short, and damaged lines, which are said."""
    if not path.is_file():
        return
    kept = [number for number, line in _numbered(path, warn) if line["step"] <= step]
    lines = path.read_bytes().splitlines(keepends=True)
    write_whole(path, b"".join(lines[number - 1] for number in kept))


def last_seconds(workdir: Path, warn: Callable[[str], None] = warn) -> float:
    """Returns the training seconds that `timing.jsonl` has counted so far."""
    seconds = [line.get("seconds") for line in read_lines(workdir / TIMING, warn)]
    return next((value for value in reversed(seconds) if isinstance(value, int | float) and 0 <= value < math.inf), 0.0)


def _numbered(path: Path, warn: Callable[[str], None]) -> list[tuple[int, dict]]:
    lines, damaged = read_json_lines(path)
    of_metrics = path.name == METRICS
    good = [(number, line) for number, line in lines if _whole(line, of_metrics)]
    damaged = sorted(damaged + [number for number, line in lines if not _whole(line, of_metrics)])
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        warn(f"{path}: {len(damaged)} damaged and left out (line {numbers})")
    return good


def _whole(line: dict, of_metrics: bool) -> bool:
    """Whether a line of metrics.jsonl, or of timing.jsonl, has what its readers take for granted."""
    if not isinstance(line.get("step"), int):
        return False
    if not of_metrics:
        return True
    members = line.get("members")
    figures = isinstance(members, dict) and all(isinstance(values, dict) for values in members.values())
    return figures and isinstance(line.get("kind"), str) and isinstance(line.get("tokens"), int)


def _tensorboard() -> Any:
    """Returns tensorboardX, imported without PyTorch.

    It imports that where it is installed, which takes two seconds, to take tensors that it is never given.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = cast("Any", None)  # to the import system: not there
    try:
        import tensorboardX
        import tensorboardX.event_file_writer
        import tensorboardX.proto.event_pb2
        import tensorboardX.summary
    finally:
        if hidden:
            del sys.modules["torch"]
    return tensorboardX


def _start_wandb(project: str, workdir: Path, config: Mapping[str, Any]):
    try:
        import wandb
    except ImportError as error:
        raise UserError("wandb.project is set, but wandb is not installed: pip install 'ctcd-jax[wandb]'") from error
    # The run's id is kept, so that a resumed run continues its curves. WANDB_MODE=offline is wandb's own switch.
    path = workdir / "wandb.id"
    if not path.is_file():
        path.write_text(secrets.token_hex(4))
    try:
        return wandb.init(project=project, id=path.read_text(), resume="allow", dir=str(workdir), config=dict(config))
    except wandb.Error as error:
        raise UserError(
            f"wandb.project: Weights & Biases does not start ({first_line(error)}); set WANDB_API_KEY, or "
            "WANDB_MODE=offline to keep the curves here"
        ) from error
