"""The quickstart's runs from five seeds: what `ctcd verify` holds a new installation's runs against.

    ctcd study quickstart --out runs/studies --text "docs=docstrings:$(python -c 'import sysconfig; \\
        print(sysconfig.get_path("stdlib"))')"
"""

from ctcd_jax.studies import Arm, Claim, Study, StudyCorpus

# As in launch/quickstart.sh.
FIELDS = {"data.batch_size": 32, "train.steps": 1000, "train.eval_every": 250, "train.checkpoint_every": 250}
TEACHER, STUDENT = {"members.teacher.layers": 4}, {"members.student.layers": 2}
AS_PRINTED = {"weight": 1, "temperature": 1, "tau_squared": False}


def get_study():
    def edges(count):
        return {f"edges[{edge}].{field}": value for edge in range(count) for field, value in AS_PRINTED.items()}

    taught = {"members.teacher.init": "arm:teacher#teacher"}
    arms = {
        "teacher": Arm("standalone:smoke-teacher", "docs", FIELDS | TEACHER),
        "student": Arm("standalone:smoke-student", "docs", FIELDS | STUDENT),
        "longer": Arm("standalone:smoke-student", "docs", FIELDS | STUDENT | {"train.steps": 3000}),
        "oneway": Arm("oneway:smoke", "docs", FIELDS | STUDENT | taught | edges(1)),
        "ctcd": Arm("ctcd:smoke", "docs", FIELDS | TEACHER | STUDENT | edges(2)),
    }
    claims = (
        Claim("CTCD makes the teacher better", "ctcd#teacher", ("teacher#teacher",), paper="+1.80 or +1.88 GLUE"),
        Claim("CTCD makes the student better", "ctcd#student", ("student#student", "longer#student")),
        Claim("CTCD's student beats one-way's", "ctcd#student", ("oneway#student",), paper="+0.48 GLUE"),
        Claim("CTCD's student beats the teacher alone", "ctcd#student", ("teacher#teacher",), paper="+1.06 GLUE"),
    )
    corpora = {"docs": StudyCorpus("docs", {"length": 64, "vocab_size": 2048, "validation": 0.3})}
    title = "The quickstart, from five seeds"
    return Study(title, {"docs": "docstrings of Python's standard library"}, corpora, (), arms, claims)
