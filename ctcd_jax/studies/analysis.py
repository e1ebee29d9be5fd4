"""What a study's finished runs say: a row a model, and for every claim the differences it is about and a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from ctcd_jax.artifacts.studies import ArmFacts, CellFacts, ClaimFacts, Difference, ModelRow
from ctcd_jax.data import Corpus
from ctcd_jax.evaluation.tables.intervals import LEVEL
from ctcd_jax.studies.cells import Cell, finished, method, trials
from ctcd_jax.studies.definition import BEST, HELD_OUT, LAST, Claim, Study
from ctcd_jax.studies.downstream import Scores
from ctcd_jax.studies.running import State
from ctcd_jax.studies.statistics import Paired, holm, paired

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
    """Returns what every arm is, costs, and how far it is; those whose tuning is not finished are left out."""
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
            "steps": cells[0].steps,
            "tokens": cells[0].tokens,
            "flops": cells[0].chain_flops,
            "seconds": fmean(found["seconds"] for found in done) if done else None,
            "finished": len(done),
            "method": method(cells[0].content),
            "corpus_hash": cells[0].content["resolved"]["corpus_hash"],
            "failed": [f"seed {cell.seed}: {state.failed[cell.key]}" for cell in cells if cell.key in state.failed],
        }
    return facts


def claim_facts(
    study: Study, rows: Sequence[ModelRow], scores: Scores, arms: Mapping[str, ArmFacts]
) -> list[ClaimFacts]:
    """Returns the claims with their differences and verdicts; p values are adjusted over all differences together.

    Args:
      study: whose claims they are.
      rows: of `model_rows`.
      scores: of `downstream.scored`.
      arms: of `arm_facts`.
    """
    losses: dict[tuple, dict[int, float]] = {}
    for row in rows:
        losses.setdefault((f"{row['arm']}#{row['member']}", row["on"], row["at"]), {})[row["seed"]] = row["loss"]
    means = losses | {(model, on, LAST): of for (model, on), of in scores.means().items()}

    def compare(claim: Claim, than: str) -> Difference:
        models = [(claim.better, 1), (than, -1), *zip(claim.beyond or (), (-1, 1), strict=False)]
        terms = [(means.get((model, claim.on, claim.at), {}), sign) for model, sign in models]
        seeds = sorted(set.intersection(*(set(of) for of, _ in terms)))
        if claim.on in study.scores:
            return _difference(claim, than, POINTS, seeds, scores.difference(claim.on, models), arms)
        found = paired([sum(sign * of[seed] for of, sign in terms) for seed in seeds])
        return _difference(claim, than, NATS, seeds, found, arms)

    claims = [[compare(claim, than) for than in claim.than] for claim in study.claims]
    tested = [difference for differences in claims for difference in differences if difference["p"] is not None]
    for difference, adjusted in zip(tested, holm([each["p"] or 0.0 for each in tested]), strict=True):
        difference["p_adjusted"] = adjusted
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
    claim: Claim, than: str, unit: str, seeds: list[int], found: Paired | None, arms: Mapping[str, ArmFacts]
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
        "seeds": seeds,
        "mean": found and found.mean,
        "low": found and found.low,
        "high": found and found.high,
        "p": found and found.p,
        "p_adjusted": None,
        "detectable": found and found.detectable,
    }
