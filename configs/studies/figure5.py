"""Section 5.2 and Figure 5 of the paper, as losses: how much whose loss counts, on the teacher's and student's side."""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

# hard weight : soft weight, of the teacher (beta) and of the student (alpha); 1:1 is CTCD as printed.
RATIOS = ((1.0, 2.0), (1.0, 4.0), (4.0, 4.0))


def get_study(name="tiny"):
    of = size(name)
    arms = {"teacher": of.alone("teacher"), "student": of.alone("student"), "ctcd": of.method("ctcd", edges=2)}
    for member in ("teacher", "student"):  # alone for as long as CTCD computes
        arms[f"long-{member}"] = of.alone(member, compute_of="ctcd")
    for hard, soft in RATIOS:
        for side, member, edge in (("beta", "teacher", 1), ("alpha", "student", 0)):
            fields = {f"members.{member}.hard_weight": hard, f"edges[{edge}].weight": soft}
            arms[f"{side}-{hard:g}-{soft:g}"] = of.method("ctcd", edges=2, fields=fields)
    claims = [
        claim
        for at in ("last", "best")
        for claim in (
            Claim("more of the student's opinion helps the teacher", "beta-1-4#teacher", ("ctcd#teacher",), at=at,
                  paper="78.42 -> 79.86 GLUE"),
            Claim("and makes it better than alone", "beta-1-4#teacher",
                  ("teacher#teacher", "long-teacher#teacher"), at=at, paper="+1.80 GLUE"),
            Claim("more of the teacher's opinion helps the student", "alpha-1-4#student", ("ctcd#student",), at=at),
            Claim("and makes it better than alone", "alpha-1-4#student",
                  ("student#student", "long-student#student"), at=at),
        )
    ]  # fmt: skip
    title = "How much should each listen to the other?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.sweep_seeds)
