"""Suite `memory`: the temporaries that XLA plans for a CTCD step, by what makes them smaller. Nothing runs.

The naive step stores the logits of both members at all positions. Its peer has no such figure in PyTorch, which plans
nothing.
"""

from collections.abc import Callable
from dataclasses import asdict

from ctcd_jax.benchmarks.blocks import Variant, command, nothing
from ctcd_jax.benchmarks.interleaved import interleave
from ctcd_jax.benchmarks.plot import Bar, Panel
from ctcd_jax.benchmarks.steps import changed
from ctcd_jax.benchmarks.workload import Case
from ctcd_jax.errors import UserError
from ctcd_jax.text_tables import aligned

CHUNK = 512  # tokens
SMALL = Case(dtype="float32")
PAPER = Case(preset="paper", rows=8, dtype="float32")


def suite(log: Callable[[str], None], full: bool) -> dict:
    """Compiles, prints the table and returns device, dtype, shapes, variants and ratios; with `full`, two sizes.

    Raises:
      UserError: nothing could be compiled.
    """
    result = {"device": None, "dtype": "float32", "shapes": {}, "variants": {}, "ratios": {}, "not_measured": {}}
    for case in (SMALL, PAPER) if full else (SMALL,):
        asked = variants(case)
        log(f"{case.preset}: {len(asked)} variants compile, one after another")
        made = {}
        for name, variant in asked.items():
            measured, refused = interleave({name: command(variant)}, rounds=0, warm_up=0)
            if refused:
                log(f"not measured: {variant.label}: {refused[name]}")
                result["not_measured"][f"{case.preset}/{name}"] = refused[name]
                continue
            facts = dict(measured[name].facts)
            result["device"] = facts.pop("device")
            made[name] = {"label": variant.label, "case": asdict(variant.case), "seconds": [], **facts}
        result["shapes"][case.preset] = {"rows": case.rows, "length": case.length}
        result["variants"] |= {f"{case.preset}/{name}": variant for name, variant in made.items()}
        result["ratios"] |= {f"{case.preset}: {name}": value for name, value in ratios(made).items()}
    if not result["variants"]:
        raise UserError(nothing(result["not_measured"]))
    log(text(result))
    return result


def variants(case: Case) -> dict[str, Variant]:
    """Returns the steps to compile."""
    every = {"positions": "attended"}
    made = changed(
        case,
        naive=("all positions, loss by autodiff", every | {"loss": "dense"}),
        fused=("all positions, closed form", every),
        chunked=(f"all positions, closed form, {CHUNK} tokens at a time", every | {"loss_chunk": CHUNK}),
        remat=("the same, layers computed again", every | {"loss_chunk": CHUNK, "remat": True}),
        masked=("masked positions (another objective)", {}),
    )
    return {name: Variant(variant.label, "compiled", variant.case) for name, variant in made.items()}


def ratios(made: dict[str, dict]) -> dict[str, dict]:
    """Returns the ratios of temporaries to the naive step's."""
    found = {}
    for name in ("chunked", "fused", "remat", "masked"):
        if {"naive", name} <= set(made):
            value = made[name]["temporary_bytes"] / made["naive"]["temporary_bytes"]
            found[f"{name} / naive"] = {"median": value, "same_objective": name != "masked"}
    return found


def text(result: dict) -> str:
    """Returns the tables as they are printed."""
    steps = [("temporaries of a CTCD step, float32", "MB", "compile s")]
    for name, variant in result["variants"].items():
        size = f"{variant['temporary_bytes'] / 1e6:,.0f}"
        steps.append((f"{name.split('/')[0]}: {variant['label']}", size, f"{variant['compile_seconds']:.1f}"))
    table = [("ratio", "value", "objective")]
    for name, made in result["ratios"].items():
        table.append((name, f"{made['median']:.3f}", "same" if made["same_objective"] else "other"))
    return "\n\n".join([aligned(steps), aligned(table)])


def panels(result: dict) -> list[Panel]:
    """Returns a panel a size: the naive step is the peer."""
    made = []
    for preset in result["shapes"]:
        named = {n.split("/")[1]: v for n, v in result["variants"].items() if n.startswith(f"{preset}/")}
        bars = []
        for name, variant in named.items():
            size = variant["temporary_bytes"] / 1e6
            bars.append(Bar(variant["label"], size, size, size, peer=name == "naive"))
        made.append(Panel(f"{preset}: MB of temporaries", bars))
    return made
