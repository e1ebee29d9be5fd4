"""What the paper leaves open: temperature, positions, and the direction of the divergence (Eq. 1 or 5).

Claims are of the last step alone: with three seeds each further comparison costs much of what could be seen.
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

CHANGES = {
    "tau-2": {"temperature": 2.0, "tau_squared": True},
    "tau-4": {"temperature": 4.0, "tau_squared": True},
    "attended": {"positions": "attended"},
    "reverse": {"divergence": "reverse_kl"},
}


def get_study(name="tiny"):
    of = size(name)
    arms = {"teacher": of.alone("teacher"), "student": of.alone("student"), "ctcd": of.method("ctcd", edges=2)}
    for change, changed in CHANGES.items():
        fields = {f"edges[{edge}].{field}": value for edge in range(2) for field, value in changed.items()}
        arms[change] = of.method("ctcd", edges=2, fields=fields)
    claims = [
        Claim(f"{change} is better for the {member}", f"{change}#{member}", (f"ctcd#{member}",))
        for change in CHANGES
        for member in ("teacher", "student")
    ]
    title = "Temperature, positions, direction: what should members compare, and how?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.sweep_seeds)
