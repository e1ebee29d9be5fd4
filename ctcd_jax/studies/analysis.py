"""What a study's finished runs say: a row a model, and for every claim the differences it is about and a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from ctcd_jax.artifacts.studies import ArmFacts, CellFacts, ClaimFacts, Difference, ModelRow
from ctcd_jax.data import Corpus
from ctcd_jax.evaluation.tables.intervals import LEVEL
from ctcd_jax.studies.cells import Cell, failure, finished, is_settled, method, spent, trained_share, trials
from ctcd_jax.studies.definition import BEST, HELD_OUT, LAST, Claim, Study
from ctcd_jax.studies.downstream import Scores
from ctcd_jax.studies.running import State
from ctcd_jax.studies.statistics import Paired, holm, paired, signed_by_seed, stricter

NATS, POINTS = "nats", "points"
HOLDS, OPPOSITE, UNKNOWN = "holds here", "does not hold here", "cannot be told at this size"
# Steps and the rounding of a row's tokens: what differs by no more is equal.
_EQUAL = 0.02


def model_rows(study: Study, state: State, corpora: Mapping[str, Corpus]) -> list[ModelRow]:
    """Returns a row for each member that has learnt in a finished run, each text, and its last and its best step.

    Args:
      study: whose runs they are; those for tuning are left out.
      state: of them.
      corpora: of the study, by name.
    """
    return [row for cell, facts in compared(state) for row in _rows(study, cell, facts, corpora)]


def compared(state: State) -> list[tuple[Cell, CellFacts]]:
    """Returns the finished runs that something is said of, those for tuning left out, with what is known of them."""
    return [
        (cell, facts)
        for cell in state.cells
        if cell.trial is None and cell.seed > 0 and (facts := finished(cell)) is not None
    ]


def _rows(study: Study, cell: Cell, facts: CellFacts, corpora: Mapping[str, Corpus]) -> Iterator[ModelRow]:
    lines = facts["validation"]
    for member in cell.trained:
        best = min(lines, key=lambda line: line["members"][member]["hard"])
        for at, line in ((LAST, lines[-1]), (BEST, best)):
            texts = {HELD_OUT: line} | {name: line["corpora"][corpora[name].content_hash] for name in study.evaluations}
            for on, figures in texts.items():
                of = figures["members"][member]
                yield {
                    "arm": cell.arm, "seed": cell.seed, "member": member, "on": on, "at": at, "step": line["step"],
                    "loss": of["hard"], "accuracy": of["accuracy"], "unigram": figures["unigram"],
                }  # fmt: skip


def arm_facts(study: Study, state: State) -> dict[str, ArmFacts]:
    """Returns what every arm is, costs, and how far it is; those of `waiting` are left out."""
    facts: dict[str, ArmFacts] = {}
    for name, arm in study.arms.items():
        cells = [cell for cell in state.cells if cell.arm == name and cell.trial is None and cell.seed > 0]
        if not cells:
            continue
        done = [found for cell in cells if (found := finished(cell))]
        facts[name] = {
            "config": arm.config,
            "fields": dict(arm.fields),
            "chosen": state.chosen.get(name),
            "tried": len(trials(arm)),
            "diverged": sum(failure(cell) is not None for cell in state.cells if cell.arm == name and cell.trial),
            "steps": cells[0].steps,
            "tokens": round(fmean(trained_share(cell) * cell.tokens for cell in cells)),
            "flops": fmean(map(spent, cells)),
            "seconds": fmean(found["seconds"] for found in done) if done else None,
            "finished": len(done),
            "method": method(cells[0].content),
            "corpus_hash": cells[0].content["resolved"]["corpus_hash"],
            "failed": [f"seed {cell.seed}: {why['reason']}" for cell in cells if (why := failure(cell))],
        }
    return facts


def waiting(study: Study, state: State) -> dict[str, str]:
    """Returns {arm: why none of its runs can begin}: it, or what it needs, is still tuned."""
    begun = {cell.arm for cell in state.cells if cell.trial is None}
    reasons = {}
    for name in (name for name in study.arms if name not in begun):
        tuning = [cell for cell in state.cells if cell.arm == name]
        tried = f"{sum(map(is_settled, tuning))} of {len(tuning)} settings are tried"
        failed = [f"{cell.title} failed: {why['reason']}" for cell in tuning if (why := failure(cell))]
        others = [other for other in study.arms[name].needs if other not in begun]
        reasons[name] = "; ".join([tried, *failed]) if tuning else f"waits for {', '.join(others)}"
    return reasons


def claim_facts(
    study: Study, rows: Sequence[ModelRow], scores: Scores, arms: Mapping[str, ArmFacts]
) -> list[ClaimFacts]:
    """Returns the claims with their differences and verdicts.

    p values are adjusted over all differences of the study, with results or not yet. Those that turn out to be the same
    (a run whose last step is its best) count all the same: which they are is known only afterwards.

    Args:
      study: whose claims they are.
      rows: of `model_rows`.
      scores: of `downstream.scored`.
      arms: of `arm_facts`.
    """
    means: dict[tuple, dict[int, float]] = {}
    for row in rows:
        means.setdefault((f"{row['arm']}#{row['member']}", row["on"], row["at"]), {})[row["seed"]] = row["loss"]

    def compare(claim: Claim, than: str) -> Difference:
        models = [(claim.better, 1), (than, -1), *zip(claim.beyond or (), (-1, 1), strict=False)]
        terms = [(means.get((model, claim.on, claim.at), {}), sign) for model, sign in models]
        if claim.on in study.scores:
            return _difference(claim, than, POINTS, *scores.difference(claim.on, models), arms)
        by_seed = signed_by_seed(terms)
        return _difference(claim, than, NATS, by_seed, paired(list(by_seed.values())), arms)

    claims = [[compare(claim, than) for than in claim.than] for claim in study.claims]
    family = [difference for differences in claims for difference in differences]
    for difference, adjusted in zip(family, holm([each["p"] for each in family]), strict=True):
        difference["p_adjusted"] = adjusted
        if (alone := difference["detectable"]) is not None:
            difference["detectable_among_all"] = alone * stricter(len(difference["seeds"]), len(family))
    return [
        {"says": claim.says, "paper": claim.paper, "differences": found, "verdicts": [verdict(each) for each in found]}
        for claim, found in zip(study.claims, claims, strict=True)
    ]


def verdict(difference: Difference) -> str:
    """Returns what a difference says of the claim that its first model is the better one."""
    if difference["p_adjusted"] is None or difference["p_adjusted"] > 1 - LEVEL or difference["mean"] is None:
        return UNKNOWN
    return HOLDS if (difference["mean"] < 0) == (difference["unit"] == NATS) else OPPOSITE


def _difference(
    claim: Claim, than: str, unit: str, by_seed: Mapping[int, float], found: Paired | None, arms: Mapping[str, ArmFacts]
) -> Difference:
    first, second = (arms.get(model.partition("#")[0]) for model in (claim.better, than))
    tokens = first["tokens"] / second["tokens"] if first and second else None
    compute = first["flops"] / second["flops"] if first and second else None
    ratios = (("tokens", tokens), ("compute", compute))
    return {
        "better": claim.better,
        "than": than,
        "beyond": list(claim.beyond or ()),
        "on": claim.on,
        "at": claim.at,
        "unit": unit,
        "equal": [name for name, ratio in ratios if ratio is not None and abs(ratio - 1) <= _EQUAL],
        "tokens_ratio": tokens,
        "compute_ratio": compute,
        "seeds": list(by_seed),
        "each": list(by_seed.values()),
        "mean": found and found.mean,
        "low": found and found.low,
        "high": found and found.high,
        "p": found and found.p,
        "p_adjusted": None,
        "detectable": found and found.detectable,
        "detectable_among_all": None,
    }
