"""One real run of every stage, small: what tests of reports, cards and graphs take their inputs from, and vary."""

import copy
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.small import config


@dataclass(frozen=True)
class Smoke:
    """A folder with `runs/ctcd`, `student` (an export), `glue` and `latency.json`, and what is in them."""

    root: Path

    def read(self, name: str) -> dict[str, Any]:
        """The content of a JSON file, e.g. "runs/ctcd/config.json"."""
        return json.loads((self.root / name).read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a JSON Lines file, e.g. "runs/ctcd/metrics.jsonl"."""
        return [json.loads(line) for line in (self.root / name).read_text().splitlines()]


# {file: its content, or its lines}, of the one real run; filled by the fixture `smoke`.
REAL: dict[str, Any] = {}


def varied(real: dict, **changes) -> dict:
    """A copy of what was really written, with changes; a key that is not there is a mistake of the test."""
    assert changes.keys() <= real.keys(), changes.keys() - real.keys()
    return copy.deepcopy(real) | changes


@pytest.fixture(scope="session")
def smoke(corpus, tmp_path_factory) -> Smoke:
    """Shared by all processes of pytest-xdist: the first makes it, the others wait."""
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "smoke"
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            partial = root.with_suffix(".partial")
            _make(corpus, partial)
            partial.rename(root)
    made = Smoke(root)
    files = ("runs/ctcd/config.json", "runs/ctcd/provenance.json", "student/ctcd.json", "latency.json")
    REAL.update({name: made.read(name) for name in files})
    REAL.update(
        {name: made.lines(name) for name in ("runs/ctcd/metrics.jsonl", "runs/ctcd/timing.jsonl", "glue/results.jsonl")}
    )
    return made


def _make(corpus: Path, root: Path) -> None:
    """A student that starts from a layer of its teacher, exported, fine-tuned from two seeds, and timed."""
    from ctcd_jax.evaluation.finetune import GlueOptions, glue
    from ctcd_jax.evaluation.tasks.files import Folder
    from ctcd_jax.latency import latency
    from ctcd_jax.training import train
    from ctcd_jax.training.export import export

    settings = config(corpus, steps=4, log_every=2, eval_every=2, checkpoint_every=4)
    settings.members.student.init = "layers:teacher#1"
    for size in ("layers", "hidden", "heads", "intermediate", "max_positions"):
        settings.members.student[size] = None
    train(settings, root / "runs" / "ctcd", log=_silent)
    export(root / "runs" / "ctcd", "student", root / "student", log=_silent)
    export(root / "runs" / "ctcd", "teacher", root / "teacher", log=_silent)
    models = [root / "student", root / "teacher"]
    _write_task(root / "data" / "MRPC")
    options = GlueOptions(epochs=1, batch_size=8, max_length=16, jobs=0)
    glue(models, Folder(root / "data"), ["mrpc"], 2, root / "glue", options, log=_silent, warn=_silent)
    latency(
        models, out=root / "latency.json", batch_sizes=[1], lengths=[16], threads=[1], devices=["cpu"], rounds=1,
        log=_silent,
    )  # fmt: skip


def _write_task(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{n % 2}\tthe cat sees the dog\tthe {'cat' if n % 2 else 'bird'} sees it" for n in range(16)]
        (folder / f"{split}.tsv").write_text("\n".join(["Quality\t#1 String\t#2 String", *rows, ""]))


def _silent(text: str) -> None:
    del text
