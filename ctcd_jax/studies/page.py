"""The page of a study: the answer first, then what it is made of."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev

from ctcd_jax import page
from ctcd_jax.artifacts.scoring import frequencies_beside
from ctcd_jax.artifacts.studies import ArmFacts, ClaimFacts, Difference, ModelRow, ScoreRow, StudyFacts
from ctcd_jax.evaluation.tables.intervals import LEVEL
from ctcd_jax.page import Html
from ctcd_jax.page.intervals import Row, interval_chart
from ctcd_jax.page.plots import COLOURS, Series, line_chart, swatch
from ctcd_jax.page.tables import MISSING, Column, data_table, fixed
from ctcd_jax.studies.analysis import NATS, POINTS
from ctcd_jax.studies.definition import BEST, HELD_OUT, LAST
from ctcd_jax.studies.statistics import POWER, paired
from ctcd_jax.text_tables import counted, number_text

NAMED = 6  # models that are named where many are meant

Curves = Mapping[str, Mapping[int, Sequence[tuple[int, float]]]]
"""{ARM#MEMBER: {seed: (step, held-out loss), ...}}"""


def study_page(facts: StudyFacts, rows: Sequence[ModelRow], scores: Sequence[ScoreRow], curves: Curves) -> str:
    """Returns the page.

    Args:
      facts: of `study.json`.
      rows: of `models.csv`.
      scores: of `scores.csv`.
      curves: of the finished runs.
    """
    parts = {"Answer": _answer(facts, rows)}
    if rows:
        parts |= {"Models": _models(facts, rows, scores), "Curves": [_curves(curves)]}
    parts["Arms"] = _arms(facts)
    sections = [page.section(title, *content) for title, content in parts.items()]
    return page.page(facts["title"], lead(facts), sections, contents=list(parts))


def lead(facts: StudyFacts) -> str:
    """Returns how far the study is and what can be said, in two sentences."""
    arms = len(facts["arms"]) + len(facts["waiting"])
    asked = facts["seeds"] * arms
    finished = sum(arm["finished"] for arm in facts["arms"].values())
    counts: dict[str, int] = {}
    for claim in facts["claims"]:
        for verdict in claim["verdicts"]:
            counts[verdict] = counts.get(verdict, 0) + 1
    verdicts = ", ".join(f"{count}: {verdict}" for verdict, count in counts.items())
    said = f" Of the comparisons: {verdicts}." if counts else ""
    missing = "" if finished == asked else " What is missing is under Arms, and verdicts are without it."
    return f"{finished} of {asked} runs are finished ({arms} arms, {facts['seeds']} seeds).{missing}{said}"


def difference_words(difference: Difference) -> str:
    """Returns in what two models are alike, e.g. "equal tokens; 2.6 x the compute"."""
    words = []
    for name, ratio in (("tokens", difference["tokens_ratio"]), ("compute", difference["compute_ratio"])):
        if ratio is not None:
            words.append(f"equal {name}" if name in difference["equal"] else f"{ratio:.2g} × the {name}")
    return "; ".join(words)


def figure_text(difference: Difference, value: float | None) -> str:
    """Returns a figure of a difference in its unit, a dash for None."""
    return MISSING if value is None else number_text(value, 4 if difference["unit"] == NATS else 2)


def _better(difference: Difference) -> int:
    """In how many seeds the difference is as claimed."""
    sign = -1 if difference["unit"] == NATS else 1
    return sum(sign * each > 0 for each in difference["each"])


def _seeds_text(difference: Difference) -> str:
    if not difference["seeds"]:
        return "no seed"
    verb = "gains more" if difference["beyond"] else "better"
    return f"{verb} in {_better(difference)} of {counted(len(difference['seeds']), 'seed')}"


def _name(difference: Difference) -> str:
    name = f"{difference['better']} − {difference['than']}"
    return f"({name}) − ({' − '.join(difference['beyond'])})" if difference["beyond"] else name


def _answer(facts: StudyFacts, rows: Sequence[ModelRow]) -> Iterator[Html]:
    columns = (
        Column("claim", "claim"),
        Column("verdict", "verdict", lambda verdict: verdict.removesuffix(" at this size")),
        Column("compared", "comparison"),
        Column("", "compared"),
        Column("", "equal"),
        Column("", "on"),
        Column(f"difference, {LEVEL:.0%} interval", "interval"),
        Column("", "difference"),
        Column("", "unit"),
        Column("", "low"),
        Column("", "high"),
        Column("p, adjusted", "p_adjusted", lambda p: f"{p:.3f}" if p >= 0.001 else "< 0.001"),
        Column("would be seen, alone / among all", "would_be_seen"),
        Column("", "detectable"),
        Column("", "detectable_among_all"),
        Column("", "seeds"),
        Column("", "seeds_as_claimed"),
        Column("", "paper"),
    )
    yield data_table("claims", columns, list(_claim_rows(facts["claims"])), names=1)
    drawn = [difference for claim in facts["claims"] for difference in claim["differences"]]
    figures = []
    for unit, side in ((NATS, "left"), (POINTS, "right")):
        chart = [
            Row(f"{_name(of)}, {of['on']}, {of['at']}", of["each"], of["mean"], of["low"], of["high"], index)
            for index, of in enumerate(drawn)
            if of["mean"] is not None and of["unit"] == unit
        ]
        if chart:
            label = f"{unit}; {side} of 0 the first is better"
            svg = interval_chart("Differences with their intervals", chart, label, zero=True)
            figures.append(page.figure(f"Differences in {unit}", svg, "Small dots are seeds."))
    yield page.grid(figures)
    yield page.paragraph(
        "Of losses (nats) a negative difference says that the claimed model is the better one, of scores (points of "
        "per cent) a positive one. Intervals and p values are of paired t statistics over pre-training seeds, for "
        "fine-tuned scores over fine-tuning seeds and examples, too. p is adjusted over all these comparisons (Holm), "
        "those without results and those that turn out to be the same included; intervals are not widened for being "
        f"many. Beside them stands the true difference that a study of as many seeds sees with probability {POWER:g}: "
        "if it were the only comparison, and among all, whatever the others say. Compute counts every model that had "
        "to be trained, teachers too.",
        "note",
    )
    if facts["note"]:
        yield page.paragraph(facts["note"], "note")
    if said := _little_learnt(rows):
        yield page.paragraph(said, "note")


def _little_learnt(rows: Sequence[ModelRow]) -> str:
    """Names the models that stayed where training begins: one of five seeds widens an interval past all use."""
    bests = [row for row in rows if (row["on"], row["at"]) == (HELD_OUT, BEST)]
    little = [row for row in bests if frequencies_beside(row["unigram"], row["loss"])]
    if not little:
        return ""
    named = [f"{row['arm']}#{row['member']} of seed {row['seed']}, {row['loss']:.3f} nats of {row['unigram']:.3f}"
             for row in little[:NAMED]]  # fmt: skip
    others = f"; and {counted(len(little) - NAMED, 'other')}" if len(little) > NAMED else ""
    return (
        f"{len(little):,} of {counted(len(bests), 'model')} never left word frequencies behind, even at the best step, "
        f"and may be what makes an interval wide: {'; '.join(named)}{others}."
    )


def _claim_rows(claims: Sequence[ClaimFacts]) -> Iterator[list]:
    for claim in claims:
        for difference, verdict in zip(claim["differences"], claim["verdicts"], strict=True):
            low, high = difference["low"], difference["high"]
            mean = figure_text(difference, difference["mean"])
            name, alike = _name(difference), difference_words(difference)
            on = f"{difference['on']}, {difference['at']} step"
            seeds = _seeds_text(difference)
            paper = claim["paper"] and f"the paper's: {claim['paper']}"
            seen = [figure_text(difference, difference[which]) for which in ("detectable", "detectable_among_all")]
            yield [
                claim["says"], verdict, f"{name} ({'; '.join(filter(None, (alike, on, seeds, paper)))})",
                name, alike, on,
                None if low is None else f"{mean} ({figure_text(difference, low)} to {figure_text(difference, high)})",
                mean, difference["unit"], low, high, difference["p_adjusted"],
                None if low is None else " / ".join(seen), difference["detectable"], difference["detectable_among_all"],
                len(difference["seeds"]), _better(difference), claim["paper"] or None,
            ]  # fmt: skip


def _models(facts: StudyFacts, rows: Sequence[ModelRow], scores: Sequence[ScoreRow]) -> Iterator[Html]:
    texts = [HELD_OUT, *facts["evaluations"]]
    models = list(dict.fromkeys((row["arm"], row["member"]) for row in rows))
    columns = [Column("model", "model"), Column("seeds", "seeds")]
    for on in texts:
        columns += [Column(f"{on}, {at} step", f"{on}_{at}") for at in (LAST, BEST)]
    scored = list(dict.fromkeys(score["on"] for score in scores))
    columns += [Column(f"{on}, %", on) for on in scored]
    body = []
    for arm, member in models:
        own = [row for row in rows if (row["arm"], row["member"]) == (arm, member)]
        cells = [
            _mean([row["loss"] for row in own if (row["on"], row["at"]) == (on, at)])
            for on in texts
            for at in (LAST, BEST)
        ]
        mine = [score for score in scores if (score["arm"], score["member"]) == (arm, member)]
        cells += [_mean([score["score"] for score in mine if score["on"] == on]) for on in scored]
        body.append([f"{arm}#{member}", len({row["seed"] for row in own}), *cells])
    yield data_table("models", columns, body, "Loss in nats a masked token, mean ± standard deviation over seeds.")
    figures = []
    for at in (LAST, BEST):
        chart = []
        for index, (arm, member) in enumerate(models):
            values = [row["loss"] for row in rows
                      if (row["arm"], row["member"], row["on"], row["at"]) == (arm, member, HELD_OUT, at)]  # fmt: skip
            found = paired(values)
            mean = fmean(values)
            chart.append(Row(f"{arm}#{member}", values, mean, found and found.low, found and found.high, index))
        made = page.figure(
            f"Held-out loss at the {at} step",
            interval_chart(f"Held-out loss of every model at its {at} step", chart, "nats a masked token"),
            "Small dots are seeds; bars are 95 % intervals of the mean.",
        )
        figures.append(made)
    yield page.grid(figures)
    yield page.paragraph(
        "The best step is that of the model's own lowest held-out loss; losses on other texts are of that step.",
        "note",
    )


def _mean(values: Sequence[float]) -> str | None:
    if not values:
        return None
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"


def _curves(curves: Curves) -> Html:
    shown = list(curves.items())
    figures = []
    for start in range(0, len(shown), COLOURS):
        series = []
        for index, (name, of_seeds) in enumerate(shown[start : start + COLOURS]):
            steps = sorted(set.intersection(*(({step for step, _ in points}) for points in of_seeds.values())))
            means = [(float(step), fmean(dict(points)[step] for points in of_seeds.values())) for step in steps]
            series.append(Series(name, means, index, bold=True, marked=True))
        entries = [(swatch(curve.colour), curve.name) for curve in series]
        chart = line_chart(f"curves{start}", "Held-out loss over training", series, "step", "nats", skip_start=0.2)
        figures.append(page.figure("Held-out loss, mean over seeds", page.join([chart, page.legend(entries)])))
    return page.grid(figures)


def _arms(facts: StudyFacts) -> Iterator[Html]:
    columns = (
        Column("arm", "arm"),
        Column("config", "config"),
        Column("fields", "fields"),
        Column("tuning", "tuning"),
        Column("steps", "steps", "{:,}".format),
        Column("tokens", "tokens", "{:,}".format),
        Column("TFLOP in all", "flops", fixed(1, scale=1e-12)),
        Column("minutes a run", "seconds", fixed(1, scale=1 / 60)),
        Column("finished", "finished"),
        Column("failed", "failed"),
    )
    yield data_table("arms", columns, [_arm_row(name, arm, facts["seeds"]) for name, arm in facts["arms"].items()])
    for name, why in facts["waiting"].items():
        yield page.paragraph(f"No run of {name} has begun: {why}.", "note")
    trained = ", ".join(f"{name} ({each['train_tokens']:,} tokens, {each['validation_tokens']:,} held out)"
                        for name, each in facts["corpora"].items())  # fmt: skip
    texts = ", ".join(f"{name} = {spec}" for name, spec in facts["texts"].items())
    devices = ", ".join(facts["devices"]) or "nothing yet"
    yield page.paragraph(f"Corpora: {trained}. Texts: {texts}. On {devices}; version {facts['version']}.", "note")


def _arm_row(name: str, arm: ArmFacts, seeds: int) -> list:
    chosen = arm["chosen"]
    tuning = "not tuned"
    if arm["tried"]:
        settings = ", ".join(f"{field} = {value}" for field, value in (chosen or {}).items())
        diverged = f", {arm['diverged']} of which diverged" if arm["diverged"] else ""
        tuning = f"{settings}: best of {arm['tried']}{diverged}"
    fields = ", ".join(f"{field}={value}" for field, value in arm["fields"].items()) or None
    return [
        name, arm["config"], fields, tuning, arm["steps"], arm["tokens"], arm["flops"], arm["seconds"],
        f"{arm['finished']} of {seeds}", "; ".join(arm["failed"]) or None,
    ]  # fmt: skip
