"""Suite `gpu`: the CTCD step at the paper's size on one GPU, against its parts, its variants and PyTorch.

Rates are of real tokens, by formula; the limits are the measured rate of a large product and the data sheet's.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

from ctcd_jax.artifacts.exports import require_torch
from ctcd_jax.benchmarks.blocks import Block, Ratio, Variant, command, run
from ctcd_jax.benchmarks.interleaved import interleave
from ctcd_jax.benchmarks.steps import (
    HOST,
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
from ctcd_jax.errors import UserError

__all__ = ["panels", "suite"]

ROUNDS, FULL_ROUNDS = 10, 20
TUNED = "--xla_gpu_per_fusion_autotune_cache_dir"
PAPER = Case(preset="paper", dtype="bfloat16", backend="gpu")
ROWS = {128: 128, 512: 32}  # by length
MORE_ROWS = {128: (256, 512), 512: (64, 128)}
# The paper's run. It does not say how many tokens a sentence has; 25 is assumed.
RUN = {"sentences": 30e6, "tokens_per_sentence": 25, "epochs": 10}

SHARE = Ratio("useful rate / matmul's (MFU)", ("ctcd",), ("matmul",), "rate")
SHEET = Ratio("useful rate / data sheet's (MFU)", ("ctcd",), ("matmul",), "sheet")


def suite(log: Callable[[str], None], full: bool) -> dict:
    """Measures, prints the tables and returns what `blocks.run` does, and "projection", the hours of the paper's run.

    Raises:
      UserError: JAX has no GPU, or PyTorch is missing.
    """
    require_torch()
    _, refused = interleave({"matmul": command(limit(PAPER)["matmul"])}, rounds=0, warm_up=0)
    if refused:
        raise UserError(refused["matmul"])
    made = [block for length in ROWS for block in blocks(length)]
    made += [rows(length, count) for length in ROWS for count in MORE_ROWS[length]] if full else []
    with TemporaryDirectory(prefix="ctcd-bench-") as tuned:
        result = run(made, FULL_ROUNDS if full else ROUNDS, log, steps_text, for_ours=_tuned_once(tuned))
    log(ratios_text(result["ratios"]))
    log(environment_text(result))
    result["projection"] = projection(result["variants"])
    run_text = "{sentences:.0f} sentences x {tokens_per_sentence} tokens (assumed) x {epochs} epochs".format(**RUN)
    for name, hours in result["projection"]["hours"].items():
        log(f"{name}: {hours:.1f} hours for the paper's run ({run_text})")
    return result


def _tuned_once(directory: str) -> dict[str, str]:
    """Returns the variables with which all our steps take the kernels that XLA has timed and chosen for the first.

    Choosing takes about a minute a step, and two steps that differ in a part should not differ in another's kernels.
    "first step" then is that of a later start, but for the first.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if TUNED in flags:
        return {}
    return {"XLA_FLAGS": f"{flags} {TUNED}={directory}".strip()}


def blocks(length: int) -> tuple[Block, ...]:
    """The blocks of one length: against its parts, against PyTorch, by removal, and at all positions."""
    case = replace(PAPER, length=length, rows=ROWS[length])
    key = f"{length}"
    together = cohorts(case, "ctcd", "teacher", "student", "oneway") | limit(case)
    against = cohorts(case, "ctcd") | peers(case, "torch-eager-full", "torch-eager", *RIVALS) | limit(case)
    eager = Ratio("PyTorch eager, gathered / ours", ("torch-eager",), ("ctcd",))
    naive = Ratio("PyTorch eager, all logits / ours", ("torch-eager-full",), ("ctcd",))
    return (
        Block(key, f"length {length}", together, (*TOGETHER, SHARE, SHEET, HOST)),
        Block(
            f"{key}-torch",
            f"length {length}, against PyTorch",
            against,
            (naive, eager, strongest(RIVALS)),
            RIVALS,
        ),
        removal(key, f"length {length}, by removal", case),
        attended(key, replace(case, positions="attended")),
    )


def removal(key: str, title: str, case: Case) -> Block:
    """The dense loss, XLA's attention, no dropout, the optimizer alone.

    Args:
      key, title: of the block.
      case: the step that parts are taken from, one at a time.
    """
    labels = {"dense": "loss by autodiff", "xla": "XLA's attention", "dropless": "no dropout"}
    variants = cohorts(case, "ctcd") | changed(
        case,
        dense=(labels["dense"], {"loss": "dense"}),
        xla=(labels["xla"], {"attention": "xla"}),
        dropless=(labels["dropless"], {"dropout": 0.0}),
    )
    variants |= {"update": Variant("the optimizers alone", "update", case)} | limit(case)
    optimizer = Ratio("optimizers / CTCD", ("update",), ("ctcd",))
    return Block(f"{key}-removal", title, variants, (*removals(*labels.items()), optimizer))


def attended(key: str, case: Case) -> Block:
    """Soft losses at every real token."""
    variants = cohorts(case, "ctcd") | changed(case, dense=("loss by autodiff", {"loss": "dense"}))
    variants |= peers(case, "torch-eager-full", "torch-compiled") | limit(case)
    ratios = (
        *removals(("dense", "loss by autodiff")),
        Ratio("PyTorch eager, all logits / ours", ("torch-eager-full",), ("ctcd",)),
        Ratio("torch.compile of the whole step / ours", ("torch-compiled",), ("ctcd",)),
        SHARE,
    )
    return Block(f"{key}-attended", f"length {case.length}, soft losses at all positions", variants, ratios)


def rows(length: int, count: int) -> Block:
    """A larger batch, if it fits."""
    case = replace(PAPER, length=length, rows=count)
    variants = cohorts(case, "ctcd") | limit(case)
    return Block(f"{length}x{count}", f"length {length}, {count} rows", variants, (SHARE, SHEET))


def projection(variants: dict) -> dict:
    """Returns the paper's run and {"hours": {variant: hours}} at the rate of the CTCD step of each length and batch."""
    tokens = RUN["sentences"] * RUN["tokens_per_sentence"] * RUN["epochs"]
    hours = {
        name: tokens / (variant["tokens"] / variant["median"]) / 3600
        for name, variant in variants.items()
        if name.endswith("/ctcd") and "-" not in name
    }
    return RUN | {"hours": hours}
