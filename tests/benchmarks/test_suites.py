"""What the suites print and write."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ctcd_jax import benchmarks
from ctcd_jax.benchmarks import bench, blocks, cpu, data, gpu, interleaved, memory, steps
from ctcd_jax.cli import main
from ctcd_jax.errors import UserError
from tests.small import write_text

# Serves figures instead of work: {variant: (GFLOPs of a step, seconds of the rounds, warm-up included)}. Rivals begin
# with the rounds of their screening, in which the compiled layers are the fastest.
SAID = {
    "ctcd": (30, [9, 9, 1.0, 2.0, 1.2]),
    "teacher": (20, [9, 9, 0.8, 1.6, 0.8]),
    "student": (10, [9, 9, 0.2, 0.9, 0.4]),
    "oneway": (16, [9, 9, 0.45, 0.9, 0.8]),
    "torch-eager": (30, [9, 9, 1.5, 2.0, 1.5]),
    "torch-eager-full": (30, [9, 9, 3.0, 3.0, 3.0]),
    "torch-eager-fused": (30, [9, 9, 1.6, 1.6, 1.6]),
    "torch-compiled-layers": (30, [9, 9, 1.4, 1.3, 1.5, 9, 9, 1.4, 1.4, 1.4]),
    "torch-compiled": (30, [9, 9, 1.5, 1.7, 1.5]),
    "update": (None, [9, 9, 0.05, 0.05, 0.05]),
    "matmul": (50, [9, 9, 1.0, 1.0, 1.0]),
    "changed": (30, [9, 9, 0.9, 1.8, 1.1]),
}
WORKER = """
import json, sys
gflops, seconds, dtype = json.loads(sys.argv[1])
facts = {"threads": 2, "allocator": {"arena_max": 1}}
facts |= {"device": "abacus", "dtype": dtype, "compile_seconds": 3.0, "peak_bytes": 2e9, "sheet_flops": 1e11}
if gflops:
    facts |= {"tokens": 900, "predicted": 130, "flops": gflops * 1e9, "host_seconds": [0.012, 0.018, 0.024]}
print(json.dumps(facts | {"temporary_bytes": 1e6 * len(sys.argv[2])}), flush=True)
for line, value in zip(sys.stdin, seconds):
    print(value, flush=True)
"""
# Says how its threads wait: awake, it is slower.
WAITING = """
import json, os, sys
print(json.dumps({"policy": os.environ.get("OMP_WAIT_POLICY")}), flush=True)
for line in sys.stdin:
    print(0.7 if "OMP_WAIT_POLICY" in os.environ else 0.8, flush=True)
"""
COMMON = {"format", "suite", "command", "python", "versions", "processor", "cores", "load", "environment"}
COMMON |= {"device", "shapes", "variants", "ratios"}
PLANNED = COMMON | {"dtype", "not_measured"}
MEASURED = PLANNED | {"imposed"}


def python(program, *arguments):
    return [sys.executable, "-I", "-S", "-c", program, *arguments]  # starts in a third of the time


def fake(dtype, dying=()):
    """Returns a `blocks.command` whose workers say and take what SAID has; those in `dying` end at once."""

    def command(variant):
        if variant.label in dying:
            return python("raise SystemExit(3)")
        case = variant.case
        plain = replace(case, dropout=0.1, loss="fused", attention="auto") == case and case.length % 128 == 0
        name = variant.who if variant.who != "ours" else case.cohort if plain else "changed"
        said = (*SAID[name], "float32" if case.dtype == "float32" else dtype)
        return python(WORKER, json.dumps(said), "")

    return command


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(blocks, "command", fake("bfloat16"))
    monkeypatch.setattr(cpu, "command", lambda variant: python(WAITING))
    monkeypatch.setattr(cpu, "ROUNDS", 3)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(gpu, "ROUNDS", 3)
    monkeypatch.setattr(gpu, "FULL_ROUNDS", 3)
    monkeypatch.setattr(gpu, "command", lambda variant: blocks.command(variant))


def row(lines, text):
    """Returns the cells of the first printed row that begins so."""
    line = next(line for line in "\n".join(lines).splitlines() if line.startswith(text))
    return line.removeprefix(text).split()


def test_cpu(quick, tmp_path):
    lines = []
    result = bench("cpu", False, tmp_path / "made" / "here", lines.append)
    assert json.loads((tmp_path / "made" / "here" / "bench.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "made" / "here" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert set(result) == MEASURED | {"waiting"}
    assert (result["format"], result["command"], result["device"]) == (4, "ctcd bench --suite cpu", "abacus")
    assert result["variants"]["small/student"]["seconds"] == [0.2, 0.9, 0.4]
    assert result["variants"]["small/ctcd"]["limit_seconds"] == pytest.approx(30 / 50)
    assert result["shapes"]["small"]["rows"] == 16
    together, pipeline, torch, strongest, host = result["ratios"].values()
    assert together["rounds"] == pytest.approx([1.0, 2.0 / 2.5, 1.0])
    assert (together["peer"], together["same_objective"]) == (False, False)
    assert pipeline["rounds"] == pytest.approx([1.0 / 1.25, 2.0 / 2.5, 1.2 / 1.6])
    assert (pipeline["median"], pipeline["flops"]) == pytest.approx((0.8, 30 / 36))
    assert torch["rounds"] == pytest.approx([1.5, 1.0, 1.25])
    assert (torch["peer"], torch["same_objective"]) == (True, True)
    assert (strongest["rounds"], strongest["same_objective"]) == (pytest.approx([1.4, 0.7, 1.4 / 1.2]), True)
    assert host["rounds"] == pytest.approx([0.01, 0.015, 0.02])
    assert row(lines, "small: CTCD / one-way pipeline (teacher + one-way)") == [
        "0.800", "0.750", "0.800", "0.833", "1.30", "other",
    ]  # fmt: skip
    assert row(lines, "teacher alone") == [
        "800.0", "800.0", "1,600.0", "1,125", "20.0", "-", "50", "%", "3.0", "2,000",
    ]  # fmt: skip


def test_the_strongest_pytorch_is_found_by_trying_and_named(quick):
    lines = []
    result = bench("cpu", False, None, lines.append)
    winner, loser = (result["variants"][f"small/torch-{name}"] for name in ("compiled-layers", "eager-fused"))
    assert (winner["screening"], winner["seconds"]) == ([1.4, 1.3, 1.5], [1.4, 1.4, 1.4])
    assert (loser["screening"], loser["seconds"], "median" in loser) == ([1.6, 1.6, 1.6], [], False)
    assert result["ratios"]["small: strongest PyTorch / ours"]["fastest"] == winner["label"]
    assert row(lines, f"small: strongest PyTorch / ours ({winner['label']})")[:3] == ["1.167", "0.700", "1.400"]
    assert (
        "the fastest of these went on (medians of 3 rounds): PyTorch eager, gathered, fused AdamW 1,600.0 ms; "
        "PyTorch, torch.compile of the layers, fused AdamW 1,400.0 ms"
    ) in "\n".join(lines)
    assert lines[-1].startswith("--full also tries torch.compile of PyTorch's whole step")


def test_a_rival_that_cannot_run_is_named_and_eager_may_be_the_strongest(quick, monkeypatch):
    rivals = steps.PEERS["torch-eager-fused"], steps.PEERS["torch-compiled-layers"]
    monkeypatch.setattr(blocks, "command", fake("bfloat16", dying=rivals))
    lines = []
    result = bench("cpu", False, None, lines.append)
    assert f"not measured: {rivals[1]}: the worker 'torch-compiled-layers' ended with code 3; see above" in lines
    strongest = result["ratios"]["small: strongest PyTorch / ours"]
    assert (strongest["median"], strongest["fastest"]) == (pytest.approx(1.25), steps.PEERS["torch-eager"])


def test_pytorchs_threads_wait_as_is_best_here_and_it_is_said(quick, monkeypatch):
    given = {}

    def noting(commands, rounds, **options):
        given.update(options["environments"])
        return interleaved.interleave(commands, rounds, **options)

    monkeypatch.setattr(blocks, "interleave", noting)
    lines = []
    result = bench("cpu", False, None, lines.append)
    assert result["waiting"]["asleep"] == {"seconds": [0.7] * 3, "chosen": True}
    assert result["waiting"]["PyTorch's own way"] == {"seconds": [0.8] * 3, "chosen": False}
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    assert result["imposed"] == {"all": interleaved.ENVIRONMENT, "peers": passive, "ours": {}}
    waiting = {name: variables["OMP_WAIT_POLICY"] for name, variables in given.items() if variables}
    assert waiting == dict.fromkeys(("torch-eager", "torch-eager-fused", "torch-compiled-layers"), "PASSIVE")
    assert "asleep 700.0 ms, PyTorch's own way 800.0 ms: asleep (OMP_WAIT_POLICY PASSIVE)" in "\n".join(lines)
    assert lines[-2] == (
        "given to every process: XLA_PYTHON_CLIENT_PREALLOCATE=false JAX_ENABLE_COMPILATION_CACHE=false; allocator: "
        "arena_max=1; besides to ours: nothing, to PyTorch's: OMP_WAIT_POLICY=PASSIVE; threads: ours 2, PyTorch 2"
    )


def test_what_the_shell_says_of_threads_is_kept_noted_and_written(quick, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    lines = []
    result = bench("cpu", False, None, lines.append)
    assert (result["waiting"], result["imposed"]["peers"]) == ({}, {})
    assert result["environment"].items() >= {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "77"}.items()
    assert "OMP_WAIT_POLICY=ACTIVE is the shell's, and is left as it is" in lines
    assert "note: OMP_NUM_THREADS=77 holds PyTorch to that many threads, and not JAX; unset it to compare" in lines


def test_other_tokens_are_another_objective():
    ours, theirs = (
        blocks.WorkerMeasurements({"tokens": 900, "predicted": n, "dtype": "float32"}, [1.0]) for n in (130, 131)
    )
    block = cpu.small()
    compared = next(asked for asked in block.ratios if asked.above == ("torch-eager",))
    for each, same in ((ours, True), (theirs, False)):
        made = blocks.quotient(compared, block, {"ctcd": ours, "torch-eager": each})
        assert made["same_objective"] is same


def test_cpu_full_has_a_row_for_every_ratio(quick):
    result = bench("cpu", True, None, lambda line: None)
    assert result["command"] == "ctcd bench --suite cpu --full"
    eager, strongest = "PyTorch eager, gathered / ours", "strongest PyTorch / ours"
    host = "host's part (loader + dispatch) / step"
    assert set(result["ratios"]) > {
        "small: CTCD / (teacher + student)",
        "small: CTCD / one-way pipeline (teacher + one-way)",
        *(f"{block}: {name}" for block in ("small", "small-torch", "paper-torch") for name in (eager, strongest, host)),
        f"small-float32: {eager}",
        "small-attended: PyTorch eager / ours",
        "paper-parts: optimizers / CTCD",
    }
    assert result["ratios"][f"small-torch: {strongest}"]["rounds"] == pytest.approx([1.4, 0.7, 1.4 / 1.2])
    panels = {panel.title: [bar.label for bar in panel.bars] for panel in cpu.panels(result)}
    assert list(panels)[:2] == ["small: ms a step", "small-torch: ms a step"]
    assert steps.PEERS["torch-compiled-layers"] in panels["paper-torch: ms a step"]
    assert not {steps.PEERS[name] for name in ("torch-eager-fused", "torch-compiled")} & set(
        panels["paper-torch: ms a step"]
    )
    assert panels["ratios"] == list(result["ratios"])
    assert result["ratios"]["paper-removal: no dropout / CTCD"]["same_objective"] is False
    assert result["ratios"]["paper-removal: loss by autodiff / CTCD"]["rounds"] == pytest.approx([0.9, 0.9, 1.1 / 1.2])


def test_ctrl_c_keeps_the_blocks_that_are_done(quick, monkeypatch, tmp_path):
    done = []

    def interrupted(commands, rounds, **options):
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt
        return blocks_interleave(commands, rounds, **options)

    blocks_interleave = blocks.interleave
    monkeypatch.setattr(blocks, "interleave", interrupted)
    lines = []
    result = bench("cpu", True, tmp_path, lines.append)
    assert set(result["shapes"]) == {"small"}
    assert json.loads((tmp_path / "bench.json").read_text())["variants"].keys() == result["variants"].keys()
    assert any(line.startswith("stopped at small, against PyTorch") for line in lines)
    done[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        bench("cpu", False, None, lines.append)


def test_operations_are_a_limit_of_our_own_steps_alone(quick):
    *_, drawn = cpu.panels(bench("cpu", log=lambda line: None))
    limits = {bar.label: bar.limit for bar in drawn.bars}
    assert limits["small: CTCD / one-way pipeline (teacher + one-way)"] == pytest.approx(30 / 36)
    assert limits["small: PyTorch eager, gathered / ours"] is None


def test_what_fails_costs_no_other_its_figures(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(blocks, "command", fake("bfloat16", dying=("teacher alone",)))
    lines = []
    result = bench("cpu", False, tmp_path, lines.append)
    assert "ended with code 3" in result["not_measured"]["small/teacher"]
    assert result["ratios"]["small: CTCD / (teacher + student)"]["median"] is None
    assert result["ratios"]["small: PyTorch eager, gathered / ours"]["median"] == pytest.approx(1.25)
    assert row(lines, "small: CTCD / (teacher + student)")[:4] == ["-"] * 4


def test_nothing_measurable_is_one_line_and_no_file(quick, monkeypatch, tmp_path, capsys):
    dying = python("raise SystemExit(3)")
    monkeypatch.setattr(blocks, "command", lambda variant: dying)
    monkeypatch.setattr(cpu, "command", lambda variant: dying)
    monkeypatch.setattr(memory, "command", lambda variant: dying)
    monkeypatch.setattr(data, "environment", lambda log: [])
    for suite, line in (
        ("cpu", "ctcd bench: nothing could be measured: the worker 'torch-eager-fused' ended with code 3; see above; "),
        ("memory", "ctcd bench: nothing could be measured: the worker 'naive' ended with code 3; see above; "),
        ("data", "ctcd bench: --suite data: no docstrings in the modules of "),
    ):
        assert main(["bench", "--suite", suite, "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(line)
        assert error.count("\n") == 1
        assert not list(tmp_path.iterdir())


def test_without_our_own_steps_there_is_no_plot(quick, monkeypatch, tmp_path):
    labels = [variant.label for name, variant in cpu.small().variants.items() if name != "torch-eager"]
    monkeypatch.setattr(blocks, "command", fake("bfloat16", dying=labels))
    lines = []
    result = bench("cpu", False, tmp_path, lines.append)
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert set(result["variants"]) == {"small/torch-eager"}
    assert lines[-1] == f"{tmp_path / 'bench.png'} is not drawn: none of our own steps was measured"


def test_gpu(quick):
    lines = []
    result = bench("gpu", True, None, lines.append)
    assert [panel.title for panel in gpu.panels(result)] == [
        *(f"{key}: ms a step" for key in result["shapes"]),
        "ratios",
    ]
    assert set(result) == MEASURED | {"projection"}
    assert list(result["shapes"]) == [
        *("128", "128-torch", "128-removal", "128-attended", "512", "512-torch", "512-removal", "512-attended"),
        *("128x256", "128x512", "512x64", "512x128"),
    ]
    assert result["shapes"]["512-attended"]["positions"] == "attended"
    share = result["ratios"]["128: useful rate / matmul's (MFU)"]
    assert share["rounds"] == pytest.approx([30 / 50, 30 / 50 / 2, 30 / 50 / 1.2])
    assert result["ratios"]["128: useful rate / data sheet's (MFU)"]["median"] == pytest.approx(30 / 1.2 / 100)
    compiled = result["ratios"]["128-torch: strongest PyTorch / ours"]
    assert compiled["rounds"] == pytest.approx([1.4, 0.7, 1.4 / 1.2])
    # 7.5 G tokens at 900 / 1.2 s.
    assert result["projection"]["hours"]["128/ctcd"] == pytest.approx(7.5e9 / 750 / 3600)
    assert len(result["projection"]["hours"]) == 6
    assert "assumed" in lines[-1]


def test_gpu_needs_a_gpu(quick, monkeypatch):
    refusing = "import sys; from ctcd_jax.benchmarks.interleaved import refuse; refuse('JAX runs on cpu', sys.stdout)"
    monkeypatch.setattr(blocks, "command", lambda variant: [sys.executable, "-c", refusing])
    with pytest.raises(UserError, match="JAX runs on cpu"):
        bench("gpu", log=lambda line: None)


def test_memory(monkeypatch, tmp_path):
    # Temporaries in MB, by label.
    sizes = {"all positions, loss by autodiff": 1000, "all positions, closed form, 512 tokens at a time": 400}

    def command(variant):
        said = json.dumps((1, [], variant.case.dtype))
        return python(WORKER, said, "x" * sizes.get(variant.label, 700))

    monkeypatch.setattr(memory, "command", command)
    lines = []
    result = bench("memory", False, tmp_path, lines.append)
    assert set(result) == PLANNED
    assert (tmp_path / "bench.png").exists()
    assert result["variants"]["small/naive"]["temporary_bytes"] == 1e9
    chunked = result["ratios"]["small: chunked / naive"]
    assert (chunked["median"], chunked["same_objective"]) == (0.4, True)
    assert row(lines, "small: chunked / naive") == ["0.400", "same"]
    assert row(lines, "small: masked / naive") == ["0.700", "other"]
    assert set(bench("memory", True, log=lines.append)["shapes"]) == {"small", "paper"}


def test_data(monkeypatch, tmp_path):
    write_text(tmp_path / "text.txt", documents=200)
    documents = [part.split("\n") for part in (tmp_path / "text.txt").read_text().strip().split("\n\n")]
    monkeypatch.setattr(data, "environment", lambda log: documents)
    monkeypatch.setattr(data, "ROUNDS", 2)
    monkeypatch.setattr(data, "BATCHES", 3)
    monkeypatch.setattr(data, "PART_BYTES", 1)
    lines = []
    bench("data", False, tmp_path, lines.append)
    result = json.loads((tmp_path / "bench.json").read_text())
    assert (tmp_path / "bench.png").exists()
    assert set(result) == COMMON
    rounds = {name: len(variant["seconds"]) for name, variant in result["variants"].items()}
    assert rounds == {"load": 2, "tokenize": 2, "prepare": 2}
    quotient = result["ratios"]["speed of prepare / of encode_batch_fast"]
    assert quotient["rounds"][0] == pytest.approx(
        result["variants"]["tokenize"]["seconds"][0] / result["variants"]["prepare"]["seconds"][0]
    )
    assert result["shapes"]["paragraphs"] == 2000
    assert result["shapes"]["corpus_rows"] >= data.BATCH
    assert "rows/s" in lines[-1]


def test_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(benchmarks, "bench", lambda *arguments, log: seen.append(arguments))
    assert main(["bench"]) == 0
    assert main(["bench", "--suite", "gpu", "--full", "--out", "there"]) == 0
    assert seen == [("cpu", False, None), ("gpu", True, Path("there"))]


def test_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"no suite 'cpus' \(did you mean 'cpu'\?\)"):
        bench("cpus")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        bench("data", False, tmp_path / "file" / "out")


def test_our_steps_of_a_gpu_share_their_kernels_unless_the_shell_says_where_they_are(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=2")
    assert gpu._tuned_once("here") == {"XLA_FLAGS": f"--xla_gpu_autotune_level=2 {gpu.TUNED}=here"}
    monkeypatch.setenv("XLA_FLAGS", f"{gpu.TUNED}=there")
    assert gpu._tuned_once("here") == {}
    monkeypatch.delenv("XLA_FLAGS")
    assert gpu._tuned_once("here") == {"XLA_FLAGS": f"{gpu.TUNED}=here"}
