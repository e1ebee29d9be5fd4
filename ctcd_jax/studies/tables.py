"""The claims of a study as text, for the console."""

from ctcd_jax.artifacts.studies import Difference, StudyFacts
from ctcd_jax.studies.page import difference_words, figure_text
from ctcd_jax.text_tables import aligned


def claims_text(facts: StudyFacts) -> str:
    """Returns a table of the claims: what was compared, the difference with its interval, and the verdict."""
    rows: list[tuple[str, ...]] = [("claim", "against", "with", "on", "difference", "would be seen", "verdict")]
    for claim in facts["claims"]:
        for difference, verdict in zip(claim["differences"], claim["verdicts"], strict=True):
            on = f"{difference['on']}, {difference['at']}"
            rows.append((f"{claim['says']}: {difference['better']}", difference["than"], difference_words(difference),
                         on, _interval(difference), figure_text(difference, difference["detectable_among_all"]),
                         verdict))  # fmt: skip
    return aligned(rows)


def _interval(difference: Difference) -> str:
    mean, low, high = difference["mean"], difference["low"], difference["high"]
    if mean is None or low is None or high is None:
        return f"{len(difference['seeds'])} seeds"
    shown = [figure_text(difference, value) for value in (mean, low, high)]
    return "{} [{}, {}] {unit}".format(*shown, unit=difference["unit"])
