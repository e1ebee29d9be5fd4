"""Suite `cpu`: whole training steps on the device that JAX has, alone and against PyTorch.

Two questions. What does co-training cost, against training the two models one after the other, and against the
pipeline it replaces (a teacher alone, then a student distilled from it)? And what does a step cost here, against the
same step as a PyTorch user would write it?
"""

from collections.abc import Callable, Mapping

from ctcd_jax.benchmarks.interleaved import Measured, interleave, python_module, ratio, spread
from ctcd_jax.benchmarks.table import aligned
from ctcd_jax.benchmarks.workload import ROWS, VOCABULARY
from ctcd_jax.config import PRESETS
from ctcd_jax.evaluation.exports import require_torch

PRESET = "small"
ROUNDS = 7

VARIANTS = {
    "ctcd": "CTCD",
    "teacher": "teacher alone",
    "student": "student alone",
    "oneway": "one-way (frozen teacher + student)",
    "ctcd-torch": "CTCD in eager PyTorch, same objective",
}
# name: (numerator, denominator, the paper's own figure, 3.0 GPU-days against 1.0 + 1.3)
RATIOS = {
    "CTCD / (teacher + student)": (("ctcd",), ("teacher", "student"), None),
    "CTCD / one-way pipeline (teacher + one-way)": (("ctcd",), ("teacher", "oneway"), 3.0 / 2.3),
    "CTCD in eager PyTorch / ours": (("ctcd-torch",), ("ctcd",), None),
}


def suite(log: Callable[[str], None]) -> dict:
    """Measures, prints the table and returns device, dtype, shapes, variants and ratios.

    Raises:
      UserError: PyTorch is missing, or has no such device as JAX.
    """
    require_torch()
    log(f"{len(VARIANTS)} variants compile, each in a process of its own; then {ROUNDS} rounds in turn")
    measured = interleave({name: worker(name) for name in VARIANTS}, ROUNDS)
    result = figures(measured)
    log(text(result))
    return result


def worker(variant: str) -> list[str]:
    """Returns the command that serves a variant."""
    return python_module("ctcd_jax.benchmarks.worker", variant, PRESET)


def figures(measured: Mapping[str, Measured]) -> dict:
    """Returns what `bench.json` holds of the measurement; "flops" of a ratio is what the formula alone would give."""
    facts = measured["ctcd"].facts
    hidden, heads, intermediate, length = PRESETS[PRESET]["width"]
    ratios = {}
    for name, (above, below, paper) in RATIOS.items():
        flops = sum(measured[v].facts["flops"] for v in above) / sum(measured[v].facts["flops"] for v in below)
        ratios[name] = ratio(measured, above, below) | {"flops": flops, "paper": paper}
    return {
        "device": facts["device"],
        "dtype": facts["dtype"],
        "shapes": {
            "layers": PRESETS[PRESET]["layers"],
            "hidden": hidden,
            "heads": heads,
            "intermediate": intermediate,
            "vocabulary": VOCABULARY,
            "rows": ROWS,
            "length": length,
            "tokens": facts["tokens"],
            "predicted": facts["predicted"],
        },
        "variants": {
            name: {"seconds": m.seconds, **spread(m.seconds), "flops": m.facts["flops"]} for name, m in measured.items()
        },
        "ratios": ratios,
    }


def text(result: dict) -> str:
    """Returns the tables as they are printed."""
    shapes, tokens = result["shapes"], result["shapes"]["tokens"]
    teacher, student = shapes["layers"]
    setting = (
        f"whole training steps on {result['device']}, {result['dtype']}: hidden {shapes['hidden']}, {shapes['heads']} "
        f"heads, {teacher} + {student} layers, vocabulary {shapes['vocabulary']:,}, {shapes['rows']} rows x "
        f"{shapes['length']} tokens ({tokens:,} real, {shapes['predicted']:,} predicted)"
    )
    steps = [("step", "median s", "min", "max", "tokens/s", "GFLOP/s")]
    for name, variant in result["variants"].items():
        rates = (f"{tokens / variant['median']:,.0f}", f"{variant['flops'] / variant['median'] / 1e9:.1f}")
        steps.append((VARIANTS[name], *(f"{variant[key]:.3f}" for key in ("median", "min", "max")), *rates))
    quotients = [("ratio, round by round", "median", "min", "max", "by FLOPs", "paper")]
    for name, quotient in result["ratios"].items():
        paper = f"{quotient['paper']:.2f}" if quotient["paper"] else "-"
        quotients.append((name, *(f"{quotient[key]:.2f}" for key in ("median", "min", "max", "flops")), paper))
    return "\n\n".join([setting, aligned(steps), aligned(quotients)])
