"""When should members teach each other? From the start, later, or less and less (the paper: always).

Five seeds, though it is a sweep: seeds differ most in when a cohort's loss begins its steep fall, and that is what a
later beginning may change. Claims are of the last step alone, for each further comparison costs much of what could be
seen.
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

WHEN = {
    "from-25": {"begin": 0.25},
    "from-50": {"begin": 0.5},
    "fading": {"schedule": "linear"},
    "first-half": {"schedule": "linear", "end": 0.5},
}


def get_study(name="tiny"):
    of = size(name)
    arms = {"teacher": of.alone("teacher"), "student": of.alone("student"), "ctcd": of.method("ctcd", edges=2)}
    for when, changed in WHEN.items():
        fields = {f"edges[{edge}].{field}": value for edge in range(2) for field, value in changed.items()}
        arms[when] = of.method("ctcd", edges=2, fields=fields)
    claims = [
        Claim(f"{when} is better for the {member}", f"{when}#{member}", (f"ctcd#{member}", f"{member}#{member}"))
        for when in WHEN
        for member in ("teacher", "student")
    ]
    title = "When should members teach each other?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.seeds)
