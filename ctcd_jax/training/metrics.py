"""What a run says: `metrics.jsonl` (the same bytes however often it was interrupted), `timing.jsonl`, TensorBoard, and
a line for people."""

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ctcd_jax.duration import duration
from ctcd_jax.errors import UserError
from ctcd_jax.files import write_whole

METRICS, TIMING, TENSORBOARD = "metrics.jsonl", "timing.jsonl", "tensorboard"


def record(kind: str, step: int, tokens: int, terms: Mapping[str, tuple[float, float]]) -> dict:
    """Returns one line of `metrics.jsonl` from the summed terms of `cohort_terms`.

    {"kind": "train"|"validation", "step", "tokens" (real, cumulative), "members": {NAME: {"hard", "accuracy"}},
    "edges": {"SOURCE->TARGET": {"soft", "soft_t1"}}, "agreement": {"A~B"}}; losses in nats, shares in [0, 1].
    None where nothing was predicted: rows of special tokens alone, or an overflow in every step.
    """
    line = {"kind": kind, "step": step, "tokens": tokens, "members": {}, "edges": {}, "agreement": {}}
    for name, (total, weight) in terms.items():
        group, _, key = name.partition("/")
        value = float(total) / float(weight) if weight > 0 else None
        if group == "agreement":
            line["agreement"][key] = value
        else:
            line["edges" if group.startswith("soft") else "members"].setdefault(key, {})[group] = value
    return line


def describe(line: dict) -> str:
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

    Only one process of a run has one.
    """

    def __init__(self, workdir: Path, start: int, wandb_project: str | None, config: dict):
        self._files = {name: workdir / name for name in (METRICS, TIMING)}
        for path in self._files.values():
            cut_after(path, start)
        self._tensorboard = _summary_writer()(str(workdir / TENSORBOARD), purge_step=start + 1)
        self._wandb = _start_wandb(wandb_project, workdir, config) if wandb_project else None

    def metrics(self, line: dict) -> None:
        """Appends a record, and its figures to TensorBoard and Weights & Biases as `kind/group/name`."""
        self._append(METRICS, line)
        figures = {f"{line['kind']}/{name}": value for name, value in flatten(line)}
        for name, value in figures.items():
            self._tensorboard.add_scalar(name, value, line["step"])
        self._tensorboard.flush()
        if self._wandb:
            self._wandb.log(figures, step=line["step"])

    def timing(self, line: dict) -> None:
        self._append(TIMING, line)

    def close(self) -> None:
        self._tensorboard.close()
        if self._wandb:
            self._wandb.finish()

    def _append(self, name: str, line: dict) -> None:
        try:
            with self._files[name].open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{self._files[name]}: {error.strerror}; make room and start again") from error


def flatten(line: dict) -> list[tuple[str, float]]:
    """Returns the figures of a record that are there, with their paths, e.g. ("members/student/hard", 6.9)."""

    def walk(path: str, value, give: Callable):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}/{key}" if path else key, inner, give)
        elif path.count("/") and value is not None:
            give((path, value))

    found: list[tuple[str, float]] = []
    walk("", line, found.append)
    return found


def cut_after(path: Path, step: int) -> None:
    """Removes the lines of later steps, and a last line that a kill cut short."""
    if not path.is_file():
        return
    kept = []
    for text in path.read_text().splitlines(keepends=True):
        if text.endswith("\n") and json.loads(text)["step"] <= step:
            kept.append(text)
    write_whole(path, "".join(kept))


def last_seconds(workdir: Path) -> float:
    """Returns the training seconds that `timing.jsonl` has counted so far."""
    path = workdir / TIMING
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1])["seconds"] if lines else 0.0


def _summary_writer() -> type:
    """Returns tensorboardX's writer, without PyTorch.

    tensorboardX imports it where it is installed, which takes two seconds, to take tensors that it is never given.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


def _start_wandb(project: str, workdir: Path, config: dict):
    try:
        import wandb
    except ImportError as error:
        raise UserError("wandb.project is set, but wandb is not installed: pip install 'ctcd-jax[wandb]'") from error
    # The run's id is kept, so that a resumed run continues its curves. WANDB_MODE=offline is wandb's own switch.
    path = workdir / "wandb.id"
    if not path.is_file():
        path.write_text(secrets.token_hex(4))
    return wandb.init(project=project, id=path.read_text(), resume="allow", dir=str(workdir), config=config)
