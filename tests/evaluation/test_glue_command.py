"""`ctcd glue` as a user runs it: stopped and gone on with, as a job array, on a task of one's own, and mistaken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctcd_jax.cli import main

ROOT = Path(__file__).parents[2]


def lines(out):
    path = out / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def reviews(tmp_path):
    """A task of one's own: CSV with quotes, two classes by name."""
    for split, count in (("train", 96), ("dev", 20)):
        rows = [f'"the cat, {"good" if n % 2 else "bad"}",{n},{"yes" if n % 2 else "no"}\n' for n in range(count)]
        path = tmp_path / "reviews" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("review,number,liked\n" + "".join(rows))
    return tmp_path / "reviews"


def arguments(models, reviews, out, *more):
    own = ["--task", "likes", "--columns", "review,liked", "--metric", "accuracy,matthews"]
    named = [argument for model in models for argument in ("--model", str(model))]
    return ["glue", *named, "--data", str(reviews), *own, "--out", str(out), "--epochs", "1", *map(str, more)]


@pytest.mark.slow
def test_a_matrix_asked_to_stop_keeps_its_cells_and_goes_on(models, reviews, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ctcd_jax", *arguments(models, reviews, out, "--seeds", 40, "--jobs", 1)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not lines(out) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "run the same command again to go on" in said
    kept = lines(out)
    assert 0 < len(kept) < 80

    with (out / "results.jsonl").open("a") as file:
        file.write(kept[0][:40])  # as a machine leaves it that loses power
    seeds = max(json.loads(line)["seed"] for line in kept) + 1
    assert main(arguments(models, reviews, out, "--seeds", seeds, "--jobs", 0)) == 0
    assert lines(out)[: len(kept)] == kept
    assert len(lines(out)) == 2 * seeds


@pytest.mark.parametrize("verb", ["glue", "study"])
def test_a_job_array_passes_its_share_and_is_queued_again_when_it_was_stopped(tmp_path, verb):
    """With `srun` and `scontrol` replaced by commands that say how they were called."""
    for name, text in (("srun", 'echo "$@"\nexit ${CODE}'), ("scontrol", 'echo scontrol "$@"')):
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_MIN": "1",
        "SLURM_ARRAY_TASK_COUNT": "8",
        "SLURM_CPUS_PER_TASK": "4",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    for code, more in ((0, ""), (2, ""), (75, "scontrol requeue 12_3\n")):
        done = subprocess.run(
            ["bash", str(ROOT / f"launch/slurm/{verb}.sbatch"), "--out", "runs/there"],
            env=os.environ | slurm | {"CODE": str(code)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code
        assert done.stdout == f"--cpus-per-task=4 .venv/bin/ctcd {verb} --out runs/there --shard 2/8\n{more}"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "cola"], "--task likes: give --columns and --metric with it, and no --tasks"),
        (["--columns", "review,likes"], "train.csv:1: no column 'likes' in the header (did you mean 'liked'?)"),
        (["--grid", "learning_rate=high"], "'high' is no number above 0"),
        (["--metric", "pearson"], "train.csv:2: score 'no' of likes is not a number"),
    ],
)
def test_mistakes_are_one_line_and_code_2(models, reviews, tmp_path, capsys, more, message):
    assert main(arguments(models[1:], reviews, tmp_path / "out", *more)) == 2
    said = capsys.readouterr().err
    assert said.startswith("ctcd glue: ")
    assert message in said
    assert said.count("\n") == 1
