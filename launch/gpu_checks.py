"""What `gpu_day.sh` reads off its runs, off a trace, and off the device itself; each prints its figures.

python launch/gpu_checks.py environment                       # one JSON object
python launch/gpu_checks.py same RUN RUN --within 0.01        # exit code 1 where losses differ by more
python launch/gpu_checks.py same RUN RUN                      # ... where a byte of metrics.jsonl differs
python launch/gpu_checks.py rates RUN...                      # tokens a second of each, and of the first to it
python launch/gpu_checks.py segments                          # 1 where a packed sentence sees another
python launch/gpu_checks.py kernels RUN --program HLO         # of `train.profile_steps`: what took the time
"""

import argparse
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "transformers", "tokenizers")
MATRIX_PRODUCTS = ("gemm", "cutlass", "cublas", "dot", "fmha", "flash", "nvjet", "sm90_xmma", "wgmma")
SHOWN = 12
# What a kernel belongs to, by the operations in it: the first that is found in them counts.
PARTS = {
    r" dot\(|custom-call\(.*gemm": "matrix products",
    r"threefry| xor\(": "random bits of dropout",
    r"/(attention_)?norm/": "LayerNorm, with the dropout and sum beside it",
    r"/attention/": "attention, without its products",
    r"/erf\"": "GELU",
    r"BertForMaskedLM": "the rest of the encoder",
    r"jvp\(": "losses and head, without their products",
}
REST = "clipping, AdamW and all else"


def environment() -> int:
    """Prints what figures depend on."""
    import jax

    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    driver = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    print(json.dumps({
        "devices": [device.device_kind for device in jax.devices()],
        "nvidia-smi": driver.splitlines(),
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
        "commit": _output("git", "describe", "--always", "--dirty"),
    }, indent=2))  # fmt: skip
    return 0


def _output(*command: str) -> str:
    """What a program says; "" where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def same(first: Path, second: Path, within: float | None) -> int:
    """Prints the largest difference of two runs' losses at equal steps.

    Args:
      first, second: workdirs.
      within: nats that losses may differ by; None: metrics.jsonl must be the same bytes.
    """
    texts = [(run / "metrics.jsonl").read_text() for run in (first, second)]
    losses = [
        {
            (line["kind"], line["step"], name): figures["hard"]
            for line in map(json.loads, text.splitlines())
            for name, figures in line["members"].items()
        }
        for text in texts
    ]
    shared = losses[0].keys() & losses[1].keys()
    if not shared:
        print(f"{first} and {second} have no step in common")
        return 1
    apart = {at: abs(losses[0][at] - losses[1][at]) for at in shared}
    kind, step, member = max(apart, key=apart.__getitem__)
    largest = apart[kind, step, member]
    print(
        f"{first.name} and {second.name}: losses at {len(shared)} points, at most {largest:.2e} nats apart ({member}, "
        f"{kind}, step {step}), bytes {'equal' if texts[0] == texts[1] else 'not equal'}"
    )
    if within is None:
        return int(texts[0] != texts[1])
    return int(losses[0].keys() != losses[1].keys() or not largest <= within)  # also where one is no number


def rates(runs: list[Path]) -> int:
    """Prints the median rate of each run: later sessions and first lines, which compile, count as others do."""
    found = {}
    for run in runs:
        lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
        measured = sorted(line["tokens_per_second"] for line in lines if line["tokens_per_second"])
        found[run.name] = measured[len(measured) // 2]
        peak = lines[-1].get("peak_bytes")
        memory = f", peak {peak / 1e6:,.0f} MB" if peak else ""
        mfu = lines[-1].get("mfu")
        share = f", MFU {mfu:.1%}" if mfu else ""
        against = found[run.name] / found[runs[0].name]
        print(f"{run.name}: {found[run.name]:,.0f} tokens/s ({against:.3f} of {runs[0].name}){memory}{share}")
    return 0


def segments() -> int:
    """Changes one sentence of packed rows and looks whether a logit of another moves, by every kind of attention."""
    import jax
    import jax.numpy as jnp

    from ctcd_jax.models.attention import cudnn_obstacle
    from ctcd_jax.models.bert import BertConfig
    from ctcd_jax.models.registry import build

    length, sentence = 128, 32
    shape = BertConfig(vocab_size=1000, layers=2, hidden=128, heads=2, intermediate=512, max_positions=length)
    ids = jax.random.randint(jax.random.key(0), (16, length), 10, 1000)
    changed = ids.at[:, sentence : 2 * sentence].set(7)
    own = jnp.repeat(jnp.arange(1, length // sentence + 1), sentence)[None].repeat(len(ids), 0)
    gpu = jax.devices()[0].platform == "gpu"
    leaks = 0
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        for attention in ("xla", "cudnn"):
            width = shape.hidden // shape.heads
            obstacle = cudnn_obstacle(dtype, length, width, drops=False) or (None if gpu else "attention needs a GPU")
            if attention == "cudnn" and obstacle:
                print(f"{dtype.__name__}, cudnn: not looked at: {obstacle}")
                continue
            model = build(shape, dtype, attention)
            variables = model.init(jax.random.key(1), ids, ids > 0, own)
            logits = jax.jit(lambda ids, model=model, variables=variables: model.apply(variables, ids, ids > 0, own))
            moved = jnp.any(logits(ids) != logits(changed), axis=(0, 2))
            others = (jnp.arange(length) < sentence) | (jnp.arange(length) >= 2 * sentence)
            leaked = bool(jnp.any(moved & others))
            leaks += leaked or not bool(jnp.any(moved))
            print(f"{dtype.__name__}, {attention}: other sentences {'MOVED' if leaked else 'bit-identical'}")
    return int(leaks > 0)


def kernels(run: Path, program: Path | None) -> int:
    """Prints what took the device's time between the traced steps.

    Args:
      run: a workdir with a trace.
      program: the step's as XLA has written it (`--xla_dump_to`), which says what part of the model a kernel is of.
    """
    from jax.profiler import ProfileData

    (trace,) = (run / "profile").rglob("*.xplane.pb")
    planes = list(ProfileData.from_file(str(trace)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    if not devices:
        print("no GPU in the trace; what stands below are this machine's threads, where one event holds others")
    seconds: Counter[str] = Counter()
    for plane in devices or [plane for plane in planes if plane.name == "/host:CPU"]:
        for line in plane.lines:
            if not devices or line.name.startswith("Stream"):
                for event in line.events:
                    seconds[event.name] += event.duration_ns / 1e9
    total = seconds.total()
    products = sum(spent for name, spent in seconds.items() if _is_product(name))
    print(f"{1e3 * total:,.1f} ms in {len(seconds)} kernels; by their names matrix products {products / total:.0%}")
    if program is not None and devices:
        part_of = _parts(program.read_text())
        parts: Counter[str] = Counter()
        for name, spent in seconds.items():
            parts[next(iter(PARTS.values())) if _is_product(name) else part_of.get(name, REST)] += spent
        _table(parts, total)
    _table(seconds, total)
    return 0


def _is_product(kernel: str) -> bool:
    return any(word in kernel.lower() for word in MATRIX_PRODUCTS)


def _table(seconds: Counter[str], total: float) -> None:
    for name, spent in seconds.most_common(SHOWN):
        print(f"{spent / total:6.1%} {1e3 * spent:10,.2f} ms  {name[:120]}")


def _parts(program: str) -> dict[str, str]:
    """Returns {kernel: what it is part of}; a kernel has the name of its fusion, with _ for what C++ does not allow."""
    computations = dict(re.findall(r"^%?([\w.-]+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    found = {}
    for name, called in re.findall(r"^ *(?:ROOT )?%?([\w.-]+) = .* fusion\(.*calls=%?([\w.-]+)", program, re.MULTILINE):
        text = computations.get(called, "")
        part = next((part for sign, part in PARTS.items() if re.search(sign, text)), REST)
        found[re.sub(r"[.-]", "_", name)] = part
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checks = parser.add_subparsers(dest="check", required=True)
    checks.add_parser("environment")
    checks.add_parser("segments")
    asked = checks.add_parser("same")
    asked.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    asked.add_argument("--within", type=float, metavar="NATS")
    checks.add_parser("rates").add_argument("runs", nargs="+", type=Path, metavar="RUN")
    traced = checks.add_parser("kernels")
    traced.add_argument("run", type=Path, metavar="RUN")
    traced.add_argument("--program", type=Path, metavar="HLO")
    options = parser.parse_args()
    match options.check:
        case "environment":
            return environment()
        case "same":
            return same(*options.runs, options.within)
        case "rates":
            return rates(options.runs)
        case "segments":
            return segments()
        case _:
            return kernels(options.run, options.program)


if __name__ == "__main__":
    sys.exit(main())
