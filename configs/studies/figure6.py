"""Figure 6 of the paper, as losses: does a longer training help CTCD more than one-way distillation, and than none?"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size


def get_study(name="tiny"):
    of = size(name)
    arms = {}
    for longer, suffix in ((1, ""), (2, "-2x")):
        arms[f"teacher{suffix}"] = of.alone("teacher", longer=longer)
        arms[f"student{suffix}"] = of.alone("student", longer=longer)
        finished = {"members.teacher.init": "arm:teacher#teacher"}
        arms[f"oneway{suffix}"] = of.method("oneway", edges=1, longer=longer, fields=finished)
        arms[f"ctcd{suffix}"] = of.method("ctcd", edges=2, longer=longer)
    claims = [
        Claim(f"length helps CTCD's {member} more than the {member} {other}", f"ctcd-2x#{member}", (f"ctcd#{member}",),
              (f"{arm}-2x#{member}", f"{arm}#{member}"), at=at, paper=paper)
        for at in ("last", "best")
        for member, other, arm, paper in (
            ("student", "taught one-way", "oneway", "CoLA +11.21 against +0.07"),
            ("student", "alone", "student", ""),
            ("teacher", "alone", "teacher", ""),
        )
    ]  # fmt: skip
    title = "Does a longer training help CTCD more than others?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.sweep_seeds)
