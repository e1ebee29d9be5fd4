"""What the step suites share: variants that several blocks time, the tables, and the plot."""

from dataclasses import replace
from statistics import median

from ctcd_jax.benchmarks.blocks import Block, Ratio, Variant
from ctcd_jax.benchmarks.plot import Bar, Panel
from ctcd_jax.benchmarks.workload import Case
from ctcd_jax.text_tables import aligned

COHORTS = {
    "ctcd": "CTCD",
    "teacher": "teacher alone",
    "student": "student alone",
    "oneway": "one-way (frozen teacher + student)",
}
PEERS = {
    "torch-eager-full": "PyTorch eager, logits of all positions",
    "torch-eager": "PyTorch eager, masked positions gathered",
    "torch-eager-fused": "PyTorch eager, gathered, fused AdamW",
    "torch-compiled-layers": "PyTorch, torch.compile of the layers, fused AdamW",
    "torch-compiled": "PyTorch, torch.compile of the whole step, fused AdamW",
}
# The fastest of these is found by trying; it and eager PyTorch as its users would write it are what ours is held to.
QUICK_RIVALS = ("torch-eager-fused", "torch-compiled-layers")
RIVALS = (*QUICK_RIVALS, "torch-compiled")

HOST = Ratio("host's part (loader + dispatch) / step", ("ctcd",), (), kind="host")
# The paper's own figure: 3.0 GPU-days against 1.0 + 1.3.
TOGETHER = (
    Ratio("CTCD / (teacher + student)", ("ctcd",), ("teacher", "student")),
    Ratio("CTCD / one-way pipeline (teacher + one-way)", ("ctcd",), ("teacher", "oneway"), paper=3.0 / 2.3),
)


def strongest(rivals: tuple[str, ...]) -> Ratio:
    """The faster of eager PyTorch and the fastest of the rivals, as measured in this run."""
    return Ratio("strongest PyTorch / ours", ("torch-eager", *rivals), ("ctcd",), "fastest")


def cohorts(case: Case, *names: str) -> dict[str, Variant]:
    """Returns our steps of cohorts."""
    return {name: Variant(COHORTS[name], "ours", replace(case, cohort=name)) for name in names}


def peers(case: Case, *names: str) -> dict[str, Variant]:
    """Returns PyTorch's CTCD steps."""
    return {name: Variant(PEERS[name], name, case) for name in names}


def limit(case: Case) -> dict[str, Variant]:
    """Returns the matrix product whose rate is the limit."""
    return {"matmul": Variant("a large matrix product", "matmul", case)}


def changed(case: Case, **changes: tuple[str, dict]) -> dict[str, Variant]:
    """Returns our CTCD step with one thing changed each: {name: (label, fields of Case)}."""
    return {name: Variant(label, "ours", replace(case, **fields)) for name, (label, fields) in changes.items()}


def removals(*names_and_labels: tuple[str, str]) -> tuple[Ratio, ...]:
    """Returns the ratios of changed steps to the CTCD step: what a part costs, by removing it."""
    return tuple(Ratio(f"{label} / CTCD", (name,), ("ctcd",)) for name, label in names_and_labels)


def steps_text(block: Block, made: dict) -> str:
    """Returns the table of a block's steps."""
    sizes = made["shapes"]
    if sizes is None:
        return f"{block.title}: not measured"
    teacher, student = sizes["layers"]
    setting = (
        f"{block.title}: whole training steps on {sizes['device']}, {sizes['dtype']}: hidden {sizes['hidden']}, "
        f"{sizes['heads']} heads, {teacher} + {student} layers, vocabulary {sizes['vocabulary']:,}, {sizes['rows']} "
        f"rows x {sizes['length']} tokens ({sizes['tokens']:,} real, {sizes['predicted']:,} predicted)"
    )
    header = (
        "step",
        "median ms",
        "min",
        "max",
        "tokens/s",
        "GFLOP",
        "compiler's",
        "of matmul",
        "first step s",
        "peak MB",
    )
    timed = [variant for variant in made["variants"].values() if variant["seconds"]]
    lines = [setting, aligned([header, *(_row(variant) for variant in timed)])]
    screened = [variant for variant in made["variants"].values() if variant["screening"]]
    if screened:
        lines.append(
            f"the fastest of these went on (medians of {len(screened[0]['screening'])} rounds): "
            + "; ".join(f"{v['label']} {1e3 * median(v['screening']):,.1f} ms" for v in screened)
        )
    return "\n".join(lines)


def ratios_text(ratios: dict[str, dict]) -> str:
    """Returns the table of all ratios."""
    table: list[tuple[str, ...]] = [("ratio, round by round", "median", "min", "max", "by FLOPs", "paper", "objective")]
    for name, made in ratios.items():
        numbers = (_number(made[key], ".3f") for key in ("median", "min", "max", "flops"))
        objective = {True: "same", False: "other", None: "-"}[made["same_objective"]]
        name = f"{name} ({made['fastest']})" if made["fastest"] else name
        table.append((name, *numbers, _number(made["paper"], ".2f"), objective))
    return aligned(table)


def environment_text(result: dict) -> str:
    """Returns the line of what the processes were given, and how many threads compute in them."""
    every, ours, peers = (_variables(result["imposed"][whose]) for whose in ("all", "ours", "peers"))
    variants = result["variants"].values()
    allocator = next((v["allocator"] for v in variants if v.get("allocator")), {})
    threads = {
        whose: sorted({v["threads"] for v in variants if "threads" in v and v["who"].startswith("torch") == torch})
        for whose, torch in (("ours", False), ("PyTorch", True))
    }
    counted = ", ".join(f"{whose} {'/'.join(map(str, counts)) or '-'}" for whose, counts in threads.items())
    return (
        f"given to every process: {every}; allocator: {_variables(allocator)}; "
        f"besides to ours: {ours}, to PyTorch's: {peers}; threads: {counted}"
    )


def panels(result: dict) -> list[Panel]:
    """Returns a panel of times a block, each bar with its limit, and one of ratios."""
    made = []
    for key in result["shapes"]:
        named = {name: v for name, v in result["variants"].items() if name.startswith(f"{key}/")}
        bars = [
            Bar(
                v["label"],
                *(1e3 * v[k] for k in ("median", "min", "max")),
                peer=v["who"].startswith("torch"),
                limit=v["limit_seconds"] and 1e3 * v["limit_seconds"],
            )
            for v in named.values()
            if v["who"] != "matmul" and v["seconds"]
        ]
        made.append(Panel(f"{key}: ms a step", bars))
    bars = [
        # Of another library, operations are no limit.
        Bar(name, *(r[k] for k in ("median", "min", "max")), limit=None if r["peer"] else r["flops"])
        for name, r in result["ratios"].items()
        if r["rounds"]
    ]
    return [*made, Panel("ratios", bars)] if bars else made


def _variables(named: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in named.items()) or "nothing"


def _row(variant: dict) -> tuple[str, ...]:
    seconds = variant["median"]
    rate = variant["tokens"] / seconds if "tokens" in variant else None
    share = variant["limit_seconds"] and 100 * variant["limit_seconds"] / seconds
    return (
        variant["label"],
        *(f"{1e3 * variant[key]:,.1f}" for key in ("median", "min", "max")),
        _number(rate, ",.0f"),
        *(_number(variant.get(key), ",.1f", 1e-9) for key in ("flops", "compiler_flops")),
        _number(share, ".0f") + (" %" if share else ""),
        _number(variant.get("compile_seconds"), ".1f"),
        _number(variant.get("peak_bytes"), ",.0f", 1e-6),
    )


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "-" if value is None else format(scale * value, form)
