"""The day with a GPU, rehearsed on the CPU: all parts but the benchmark, and one that fails ends no other."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctcd_jax.cli import main
from tests.small import write_text

ROOT = Path(__file__).parents[1]


def day(*arguments, **environment):
    command = ["bash", "launch/gpu_day.sh", "--dry", *map(str, arguments)]
    given = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)


def results(out):
    """{part: its result}, as the table has them."""
    rows = [line.split("|") for line in (out / "README.md").read_text().splitlines() if line.startswith("|")]
    return {row[1].strip(): row[2].strip() for row in rows[2:]}


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """What `gpu_wheels.sh` leaves, but for the wheels."""
    place = tmp_path_factory.mktemp("kit")
    write_text(place / "text.txt", 400, 0)
    (place / "text").mkdir()
    for seed, name in enumerate(("books", "novels", "wiki", "passages")):
        write_text(place / f"text/{name}.txt", 120, seed)
    recipe = ["--length", "64", "--vocab-size", "300", "--validation", "0.1", "--validation-by", "sentences"]
    assert main(["prepare", "--source", f"text:{place}/text.txt", "--out", str(place / "corpus-smoke"), *recipe]) == 0
    rows = [f"{number}\tthe cat sees {number}\ta cat is there\t{kind}" for number in range(40)
            for kind in ("entailment", "not_entailment")]  # fmt: skip
    (place / "glue/RTE").mkdir(parents=True)
    for split in ("train", "dev"):
        text = "\n".join(["index\tsentence1\tsentence2\tlabel", *rows, ""])
        (place / "glue/RTE" / f"{split}.tsv").write_text(text)
    return place


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(kit, tmp_path):
    done = day(kit, tmp_path)
    found = results(tmp_path)
    speed = found.pop("speed")
    texts = {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}
    assert set(found.values()) == {"done"}, {name: texts[name][-2000:] for name in found if found[name] != "done"}
    assert done.returncode == 0, done.stderr
    assert speed == "left out: it needs a GPU"
    assert list(found) == ["environment", "runs", "profile", "numerics", "resume", "train", "finetuning", "studies"]
    assert json.loads(texts["environment"].partition("\n")[2])["devices"]
    assert "gpu and cpu: losses at" in texts["runs"]
    assert "bfloat16, xla: other sentences bit-identical" in texts["numerics"]
    assert texts["resume"].count("bytes equal") == 2
    assert texts["resume"].count("stopped at step") == texts["resume"].count("resumed at step") == 2
    assert "ms  " in texts["profile"]
    assert (tmp_path / "latency.json").is_file()
    assert len((tmp_path / "studies/figure4-smoke/finished.jsonl").read_text().splitlines()) == 12
    assert (tmp_path / "glue/table.md").is_file()
    assert len((tmp_path / "evaluation/evaluation.jsonl").read_text().splitlines()) == 5


@pytest.mark.slow
def test_a_part_that_fails_or_finds_no_time_is_said_and_the_others_run(kit, tmp_path):
    broken = tmp_path / "kit"
    shutil.copytree(kit / "corpus-smoke", broken / "corpus-smoke")
    (broken / "corpus-smoke/corpus.json").unlink()
    done = day(broken, tmp_path / "out", "profile", "environment")
    assert done.returncode == 1
    assert results(tmp_path / "out") == {"environment": "done", "profile": "FAILED (2)"}
    assert "corpus.json" in (tmp_path / "out/profile.txt").read_text()
    assert day(broken, tmp_path / "late", "environment", MINUTES="0").returncode == 0
    assert results(tmp_path / "late") == {"environment": "left out: no time was left"}


@pytest.fixture
def checks():
    spec = importlib.util.spec_from_file_location("gpu_checks", ROOT / "launch/gpu_checks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def two_runs(tmp_path):
    for name, loss in (("one", 3.0), ("two", 3.25)):
        (tmp_path / name).mkdir()
        lines = [{"kind": "train", "step": step, "members": {"student": {"hard": loss if step == 20 else 4.0}}}
                 for step in (10, 20)]  # fmt: skip
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        rates = [{"tokens_per_second": rate, "mfu": None} for rate in (None, 100 * loss, 100 * loss, 7.0)]
        (tmp_path / name / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rates))
    return tmp_path / "one", tmp_path / "two"


def test_losses_are_compared_at_equal_steps(checks, two_runs, capsys):
    one, two = two_runs
    assert checks.same(one, two, 0.3) == 0
    assert "at most 2.50e-01 nats apart (student, train, step 20), bytes not equal" in capsys.readouterr().out
    assert checks.same(one, two, 0.2) == 1
    assert checks.same(one, two, None) == 1
    assert checks.same(one, one, None) == 0
    (two / "metrics.jsonl").write_text("")
    assert checks.same(one, two, 9.0) == 1


def test_rates_are_held_against_the_first(checks, two_runs, capsys):
    assert checks.rates(list(two_runs)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one: 300 tokens/s (1.000 of one)", "two: 325 tokens/s (1.083 of one)"
    ]  # fmt: skip


def test_a_kernel_belongs_to_what_its_operations_are_of(checks):
    program = """HloModule jit_train_step

%fused_gelu.1 (p.0: bf16[8,4]) -> f32[4] {
  %p.0 = bf16[8,4]{1,0} parameter(0)
  ROOT %reduce.2 = f32[4]{0} reduce(%p.0), metadata={op_name="jit(train_step)/BertForMaskedLM.encode/layer_3/erf"}
}

%gemm_fusion_dot.2_computation (p.1: bf16[8,4]) -> f32[8,8] {
  ROOT %dot.1 = f32[8,8]{1,0} dot(%p.1, %p.1), metadata={op_name="jit(train_step)/layer_3/attention/dot_general"}
}

ENTRY %main (a: bf16[8,4]) -> f32[4] {
  %gemm_fusion_dot.2 = f32[8,8]{1,0} fusion(%a), kind=kCustom, calls=%gemm_fusion_dot.2_computation
  ROOT %input_reduce_fusion.141 = f32[4]{0} fusion(%a), kind=kInput, calls=%fused_gelu.1, metadata={op_name="x"}
}
"""
    assert checks._parts(program) == {"gemm_fusion_dot_2": "matrix products", "input_reduce_fusion_141": "GELU"}
