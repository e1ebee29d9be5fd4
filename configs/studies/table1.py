"""Table 1 of the paper, as losses: one-way distillation and CTCD, once and twice as long, against training alone."""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size


def get_study(name="tiny"):
    of = size(name)
    finished = {"members.teacher.init": "arm:teacher#teacher"}
    arms = {
        "teacher": of.alone("teacher"),
        "student": of.alone("student"),
        "oneway": of.method("oneway", edges=1, fields=finished),
        "ctcd": of.method("ctcd", edges=2),
        "student-2x": of.alone("student", longer=2),
        "oneway-2x": of.method("oneway", edges=1, longer=2, fields=finished),
        "ctcd-2x": of.method("ctcd", edges=2, longer=2),
        # For as long as the other computes: one-way distillation with the teacher that it needs, CTCD with its own.
        "student-as-oneway": of.alone("student", compute_of="oneway"),
        "ctcd-as-oneway": of.method("ctcd", edges=2, compute_of="oneway"),
        "teacher-as-ctcd-2x": of.alone("teacher", compute_of="ctcd-2x"),
    }
    claims = [
        claim
        for at in ("last", "best")
        for claim in (
            Claim("CTCD's student beats one-way's", "ctcd#student", ("oneway#student",), at=at, paper="+0.48 GLUE"),
            Claim("trained for as much compute, too", "ctcd-as-oneway#student", ("oneway#student",), at=at),
            Claim("at twice the length, too", "ctcd-2x#student", ("oneway-2x#student",), at=at, paper="+0.73 GLUE"),
            Claim("CTCD's student beats the teacher alone", "ctcd-2x#student",
                  ("teacher#teacher", "teacher-as-ctcd-2x#teacher"), at=at, paper="+1.06 GLUE"),
            Claim("one-way distillation makes the student better", "oneway#student",
                  ("student#student", "student-as-oneway#student"), at=at),
            Claim("length helps CTCD more than one-way distillation", "ctcd-2x#student", ("ctcd#student",),
                  ("oneway-2x#student", "oneway#student"), at=at),
        )
    ]  # fmt: skip
    title = "Is CTCD's student better than one taught by a finished teacher?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.seeds)
