"""Appends to plans.jsonl what `plan_elsewhere` finds, for every case that is not there and has its compiler installed.

    python results/plan/plans.py CORPUS BERT

CORPUS has rows of 128 tokens; BERT is a directory of a model of BERT-base's shape, the frozen teacher of Community KD.
"""

import json
import os
import sys
from itertools import product
from pathlib import Path

from ctcd_jax.runtime.no_devices import NO_DEVICES

os.environ |= NO_DEVICES

from ctcd_jax.config.file import load_config
from ctcd_jax.errors import UserError
from ctcd_jax.training.plan_elsewhere import plan_elsewhere

PLANS = Path(__file__).with_name("plans.jsonl")
# Target: meshes (fsdp) and rows. Every device of a 16x16 slice needs a row, so the paper's 128 are too few there.
TARGETS = {
    "a100-80:1": ((1,), 128),
    "a100-80:8": ((1, 8), 128),
    "a100-80:64": ((1, 8, 64), 128),
    "h100:8": ((1, 8), 128),
    "v5e:4x4": ((1, 16), 128),
    "v5e:16x16": ((1, 256), 256),
}
WITHOUT_DROPOUT = ("a100-80:1", "h100:8")  # of attention: then cuDNN's kernel is taken


def cases():
    """Yields (preset, target, fsdp, rows, attention dropout)."""
    for preset, (target, (meshes, rows)) in product(("ctcd", "community"), TARGETS.items()):
        for fsdp in meshes:
            yield preset, target, fsdp, rows, 0.1
        if preset == "ctcd" and target in WITHOUT_DROPOUT:
            yield preset, target, 1, rows, 0.0


def main(corpus: str, bert: str) -> None:
    there = [json.loads(line)["case"] for line in PLANS.open()] if PLANS.exists() else []
    for case in cases():
        preset, target, fsdp, rows, dropout = case
        if list(case) in there:
            continue
        members = ("teacher", "student") if preset == "ctcd" else ("student1", "student2")
        changes = {"data.corpus": corpus, "data.batch_size": rows, "mesh.fsdp": fsdp}
        if preset == "community":
            changes["members.teacher.init"] = f"hf:{bert}"
        if not dropout:
            changes |= {f"members.{member}.attention_dropout": dropout for member in members}
        print(*case, flush=True)
        overrides = [f"--config.{name}={value}" for name, value in changes.items()]
        try:
            found = plan_elsewhere(load_config(f"{preset}:paper", overrides), target)
        except UserError as error:  # another compiler is for it, or this one refuses
            print(f"left out: {error}", flush=True)
            continue
        found["collectives"] = [each._asdict() for each in found["collectives"]]
        with PLANS.open("a") as plans:
            plans.write(json.dumps({"case": case} | found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
