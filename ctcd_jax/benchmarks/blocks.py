"""A block: variants that are timed together, and ratios of their times.

Blocks run one after another, so that few processes live at once, and one that fails costs no other its figures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from tempfile import TemporaryDirectory

from ctcd_jax.benchmarks.interleaved import ENVIRONMENT, WorkerMeasurements, interleave, python_module, ratio, spread
from ctcd_jax.benchmarks.workload import VOCABULARY, Case
from ctcd_jax.config import PRESETS
from ctcd_jax.errors import UserError

NOT_MEASURED = {"rounds": [], "median": None, "min": None, "max": None}


@dataclass(frozen=True)
class Variant:
    """A worker's work: `who` of `worker.WORKERS`, and on what."""

    label: str
    who: str
    case: Case


@dataclass(frozen=True)
class Ratio:
    """A quotient of times, taken round by round.

    Attributes:
      name: as printed.
      above, below: variants whose seconds are added up.
      kind: "time": above / below. "fastest": the same, of the one of `above` with the least median; those that were
        left out or screened out do not count. "rate": of useful operations (by formula) a second, above / below.
        "sheet": the same, below being the data sheet's peak. "host": the host's part of a step of `above`.
      paper: the paper's own figure.
    """

    name: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    kind: str = "time"
    paper: float | None = None


@dataclass(frozen=True)
class Block:
    """Variants by name; every block's "ctcd" stands for its shape and dtype, and its "matmul" is the limit.

    Of the variants that are `rivals` only the fastest goes through the rounds; see `interleaved.interleave`.
    """

    key: str
    title: str
    variants: Mapping[str, Variant]
    ratios: tuple[Ratio, ...]
    rivals: tuple[str, ...] = ()


def run(
    blocks: Sequence[Block],
    rounds: int,
    log: Callable[[str], None],
    show: Callable[[Block, dict], str],
    for_peers: Mapping[str, str] | None = None,
    for_ours: Mapping[str, str] | None = None,
) -> dict:
    """Measures the blocks, and logs what `show` makes of each when it is done. Ctrl-C ends it after the last whole one.

    Args:
      blocks: in the order in which they are measured.
      rounds: of each block, every one a step of each of its variants.
      log: called with each line of progress, and with what `show` returns.
      show: (block, its part of the result) -> text.
      for_peers: variables for PyTorch's workers, besides those that every worker is given.
      for_ours: the same for all others.

    Returns:
      device, dtype (of the first block), imposed {"all", "peers", "ours": variables}, shapes {block: ...}, variants
      {"block/variant": ...}, ratios {"block: name": ...} and not_measured {"block/variant": reason}.

    Raises:
      UserError: nothing could be measured.
    """
    result = {"device": None, "dtype": None, "imposed": {"all": ENVIRONMENT}}
    result["imposed"] |= {"peers": dict(for_peers or {}), "ours": dict(for_ours or {})}
    result |= {"shapes": {}, "variants": {}, "ratios": {}, "not_measured": {}}
    for block in blocks:
        log(
            f"{block.title}: {len(block.variants)} variants, each in a process of its own; then {rounds} rounds in turn"
        )
        try:
            measured, refused = _measure(block, rounds, for_peers or {}, for_ours or {})
        except RuntimeError as error:
            measured, refused = {}, dict.fromkeys(block.variants, str(error))
        except KeyboardInterrupt:
            if not result["variants"]:
                raise
            log(f"stopped at {block.title}: what was measured before is kept")
            break
        for name, reason in refused.items():
            log(f"not measured: {block.variants[name].label}: {reason}")
        made = figures(block, measured)
        if "ctcd" in measured:
            facts = measured["ctcd"].facts
            result["device"], result["dtype"] = result["device"] or facts["device"], result["dtype"] or facts["dtype"]
            result["shapes"][block.key] = shapes(block, facts)
        result["variants"] |= {f"{block.key}/{name}": made["variants"][name] for name in measured}
        result["ratios"] |= {f"{block.key}: {name}": value for name, value in made["ratios"].items()}
        result["not_measured"] |= {f"{block.key}/{name}": reason for name, reason in refused.items()}
        log(show(block, made | {"shapes": result["shapes"].get(block.key)}) + "\n")
    if not result["variants"]:
        raise UserError(nothing(result["not_measured"]))
    return result


def nothing(not_measured: Mapping[str, str]) -> str:
    """Returns the line of a suite that has no figure to show: its reasons, each once."""
    return f"nothing could be measured: {'; '.join(dict.fromkeys(not_measured.values()))}"


def _measure(block: Block, rounds: int, for_peers: Mapping[str, str], for_ours: Mapping[str, str]):
    with TemporaryDirectory(prefix="ctcd-bench-", ignore_cleanup_errors=True) as empty:
        # The time to compile is one of the figures, of PyTorch's too: nothing compiled before is found.
        theirs = {**for_peers, "TORCHINDUCTOR_CACHE_DIR": empty}
        return interleave(
            {name: command(variant) for name, variant in block.variants.items()},
            rounds,
            rivals=block.rivals,
            environments={n: theirs if v.who.startswith("torch") else for_ours for n, v in block.variants.items()},
        )


def command(variant: Variant) -> list[str]:
    """Returns the command that serves a variant."""
    return python_module("ctcd_jax.benchmarks.worker", variant.who, variant.case.written())


def figures(block: Block, measured: Mapping[str, WorkerMeasurements]) -> dict:
    """Returns the block's variants and ratios, as they are in `bench.json`.

    A variant's "limit_seconds" is what its operations, by formula, would take at the measured rate of a large matrix
    product. A ratio's "flops" is what the formula alone would give.
    """
    rate = _rate(measured["matmul"]) if "matmul" in measured else None
    variants = {}
    for name, each in measured.items():
        facts, times, variant = each.facts, each.seconds, block.variants[name]
        flops = facts.get("flops")
        variants[name] = {
            "label": variant.label,
            "who": variant.who,
            "case": asdict(variant.case),
            "seconds": times,
            "screening": each.screening,
            **(spread(times) if times else {}),
            **{key: value for key, value in facts.items() if key != "device"},
            "limit_seconds": flops / rate if rate and flops else None,
        }
    return {"variants": variants, "ratios": {r.name: quotient(r, block, measured) for r in block.ratios}}


def quotient(asked: Ratio, block: Block, measured: Mapping[str, WorkerMeasurements]) -> dict:
    """Returns a ratio's rounds, spread, quotient by formula, whether another library has a part in it, and so on.

    Args:
      asked: the quotient.
      block: whose variants it names.
      measured: by variant; what could not be measured is missing.
    """
    timed = {name: each for name, each in measured.items() if each.seconds}
    fastest = None
    if asked.kind == "fastest" and (able := [name for name in asked.above if name in timed]):
        fastest = min(able, key=lambda name: median(timed[name].seconds))
        asked = replace(asked, above=(fastest,))
    names = (*asked.above, *asked.below)
    rounds = _rounds(asked, timed) if set(names) <= set(timed) else []
    made = {"rounds": rounds, **spread(rounds)} if rounds else dict(NOT_MEASURED)
    workers = [block.variants[name].who for name in names]
    whole = asked.kind in ("time", "fastest") and "update" not in workers
    return made | {
        "fastest": fastest and block.variants[fastest].label,
        "flops": _by_formula(asked, measured) if rounds else None,
        "paper": asked.paper,
        "peer": any(who.startswith("torch") for who in workers),
        "same_objective": len({_objective(name, block, timed) for name in names}) == 1 if whole else None,
    }


def shapes(block: Block, facts: dict) -> dict:
    """Returns the sizes of a block's models and batch."""
    case = block.variants["ctcd"].case
    hidden, heads, intermediate, _ = PRESETS[case.preset]["width"]
    return {
        "layers": PRESETS[case.preset]["layers"],
        "hidden": hidden,
        "heads": heads,
        "intermediate": intermediate,
        "vocabulary": VOCABULARY,
        "rows": case.rows,
        "length": case.length,
        "positions": case.positions,
        "tokens": facts["tokens"],
        "predicted": facts["predicted"],
        "device": facts["device"],
        "dtype": facts["dtype"],
    }


def _objective(name: str, block: Block, measured: Mapping[str, WorkerMeasurements]) -> tuple:
    """What is minimised, and, as far as the worker said it, the numbers of real and of predicted tokens."""
    facts = measured[name].facts if name in measured else {}
    return block.variants[name].case.objective, facts.get("tokens"), facts.get("predicted")


def _rounds(asked: Ratio, measured) -> list[float]:
    first = measured[asked.above[0]]
    if asked.kind == "host":
        return [host / median(first.seconds) for host in first.facts["host_seconds"]]
    if asked.kind == "sheet":
        peak = measured[asked.below[0]].facts["sheet_flops"]
        return [first.facts["flops"] / seconds / peak for seconds in first.seconds] if peak else []
    if asked.kind == "rate":
        useful = first.facts["flops"] / measured[asked.below[0]].facts["flops"]
        return [useful / times for times in ratio(measured, asked.above, asked.below)["rounds"]]
    return ratio(measured, asked.above, asked.below)["rounds"]


def _by_formula(asked: Ratio, measured) -> float | None:
    flops = {name: measured[name].facts.get("flops") for name in (*asked.above, *asked.below)}
    if asked.kind not in ("time", "fastest") or None in flops.values():
        return None
    return sum(flops[name] for name in asked.above) / sum(flops[name] for name in asked.below)


def _rate(matmul: WorkerMeasurements) -> float:
    return matmul.facts["flops"] / median(matmul.seconds)
