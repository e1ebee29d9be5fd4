"""Figure 4 of the paper, as losses: teacher and student alone, in co-training with one-way distillation, and in CTCD.

    ctcd study figure4:tiny --out runs/studies --text books=text:a.txt --text novels=text:b.txt \\
        --text wiki=text:c.txt --text passages=text:d.txt
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size


def get_study(name="tiny"):
    of = size(name)
    arms = {
        "teacher": of.alone("teacher"),
        "student": of.alone("student"),
        "cotrain": of.method("cotrain_oneway", edges=1),
        "ctcd": of.method("ctcd", edges=2),
        # Alone for as long as CTCD computes.
        "long-teacher": of.alone("teacher", compute_of="ctcd"),
        "long-student": of.alone("student", compute_of="ctcd"),
    }
    teachers, students = ("teacher#teacher", "long-teacher#teacher"), ("student#student", "long-student#student")
    claims = [
        claim
        for at in ("last", "best")
        for claim in (
            Claim("CTCD makes the teacher better", "ctcd#teacher", teachers, at=at, paper="+1.80 or +1.88 GLUE"),
            Claim("CTCD makes the student better", "ctcd#student", students, at=at),
            Claim("CTCD's student beats the teacher alone", "ctcd#student", teachers, at=at, paper="+1.06 GLUE"),
            Claim("teaching back makes the teacher better", "ctcd#teacher", ("cotrain#teacher",), at=at),
            Claim("teaching back makes the student better", "ctcd#student", ("cotrain#student",), at=at),
        )
    ]
    title = "Does co-distillation make teacher and student better than training alone?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.seeds)
