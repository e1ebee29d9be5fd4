"""Suite `cpu`: whole training steps on the CPU, alone and against PyTorch.

What does co-training cost, against training the two models one after the other, and against the pipeline it replaces (a
teacher alone, then a student distilled from it)? What does a step cost, against the same step in PyTorch? And, with
`--full`, what do its parts cost, by removing them?
"""

from collections.abc import Callable

from ctcd_jax.artifacts.exports import require_torch
from ctcd_jax.benchmarks.blocks import Block, Ratio, Variant, command, run
from ctcd_jax.benchmarks.environment import waiting
from ctcd_jax.benchmarks.steps import (
    HOST,
    QUICK_RIVALS,
    RIVALS,
    TOGETHER,
    changed,
    cohorts,
    environment_text,
    limit,
    panels,
    peers,
    ratios_text,
    removals,
    steps_text,
    strongest,
)
from ctcd_jax.benchmarks.workload import Case

__all__ = ["panels", "suite"]

ROUNDS = 5

SMALL = Case(backend="cpu")
PAPER = Case(preset="paper", rows=8, backend="cpu")
FLOAT32 = Case(dtype="float32", backend="cpu")
ATTENDED = Case(positions="attended", backend="cpu")

# The peer as its users would write it, with masked positions gathered.
EAGER = Ratio("PyTorch eager, gathered / ours", ("torch-eager",), ("ctcd",))


def suite(log: Callable[[str], None], full: bool) -> dict:
    """Measures, prints the tables and returns what `blocks.run` does, and "waiting", how PyTorch's threads wait best.

    Raises:
      UserError: PyTorch is missing.
    """
    require_torch()
    for_peers, tried = waiting(command(peers(SMALL, "torch-eager-fused")["torch-eager-fused"]), log)
    blocks = (small(), *everything()) if full else (small(),)
    result = run(blocks, ROUNDS, log, steps_text, for_peers)
    log(ratios_text(result["ratios"]))
    log(environment_text(result))
    if not full:
        log("--full also tries torch.compile of PyTorch's whole step, which compiles for a minute or more")
    return result | {"waiting": tried}


def small() -> Block:
    """The block of every run."""
    variants = cohorts(SMALL, "ctcd", "teacher", "student", "oneway")
    variants |= peers(SMALL, "torch-eager", *QUICK_RIVALS) | limit(SMALL)
    ratios = (*TOGETHER, EAGER, strongest(QUICK_RIVALS), HOST)
    return Block("small", "small", variants, ratios, QUICK_RIVALS)


def everything() -> tuple[Block, ...]:
    """The blocks of `--full` besides; "auto" is bfloat16 where the CPU has matrix units for it."""
    shapes = {"small": SMALL, "paper": PAPER}
    in_float32 = cohorts(FLOAT32, "ctcd") | peers(FLOAT32, "torch-eager") | limit(FLOAT32)
    attended = cohorts(ATTENDED, "ctcd") | peers(ATTENDED, "torch-eager-full") | limit(ATTENDED)
    naive = Ratio("PyTorch eager / ours", ("torch-eager-full",), ("ctcd",))
    return (
        *(against_torch(key, case) for key, case in shapes.items()),
        Block("small-float32", "small in float32", in_float32, (EAGER,)),
        Block("small-attended", "small, soft losses at all positions", attended, (naive,)),
        *(block for key, case in shapes.items() for block in profile(key, case)),
    )


def against_torch(key: str, case: Case) -> Block:
    """Every peer against ours."""
    variants = cohorts(case, "ctcd") | peers(case, "torch-eager-full", "torch-eager", *RIVALS) | limit(case)
    ratios = (
        Ratio("PyTorch eager, all logits / ours", ("torch-eager-full",), ("ctcd",)),
        EAGER,
        strongest(RIVALS),
        HOST,
    )
    return Block(f"{key}-torch", f"{key}, against PyTorch", variants, ratios, RIVALS)


def profile(key: str, case: Case) -> tuple[Block, Block]:
    """What parts of the CTCD step cost, by removing or changing them; two blocks, for the memory that they take."""
    dropless, dense = "no dropout", "loss by autodiff"
    removed = changed(case, dropless=(dropless, {"dropout": 0.0}), dense=(dense, {"loss": "dense"}))
    short = "as many tokens in rows a quarter as long"
    parts = changed(case, short=(short, {"rows": case.rows * 4, "length": case.length // 4}))
    parts |= {"update": Variant("the optimizers alone", "update", case)}
    optimizer = Ratio("optimizers / CTCD", ("update",), ("ctcd",))
    always = cohorts(case, "ctcd") | limit(case)
    return (
        Block(
            f"{key}-removal",
            f"{key}, without dropout or closed form",
            always | removed,
            removals(("dropless", dropless), ("dense", dense)),
        ),
        Block(
            f"{key}-parts",
            f"{key}, attention and optimizers",
            always | parts,
            (*removals(("short", short)), optimizer),
        ),
    )
