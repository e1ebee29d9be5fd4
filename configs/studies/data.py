"""Does mutual teaching pay where text is scarce and epochs are many? One to a sixteenth of the text at equal steps.

Held against what else keeps a model from learning little text by heart: stopping at the best moment (every claim is
told of the best step, too), more dropout and weight decay, and one or three teachers that were stopped early, as
they were at the best step (of three that of the first). On the smallest corpus the weight decay and the dropout of
the main arms are tuned, over as many settings each; what is tuned is compared with what is tuned, the rest with the
rest. At equal compute `figure4` has the smallest corpus.
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

SHARES = (1, 4, 8, 16)


def get_study(name="tiny"):
    of = size(name)
    corpora = of.corpora(**{f"text-{share}": share * max(1, of.every // SHARES[-1]) for share in SHARES})
    arms = {}
    for share in SHARES:
        corpus = f"text-{share}"
        arms[f"teacher-{share}"] = of.alone("teacher", corpus)
        arms[f"student-{share}"] = of.alone("student", corpus)
        arms[f"ctcd-{share}"] = of.method("ctcd", corpus, edges=2)
    scarce = SHARES[-1]
    arms["stopped-teacher"] = of.alone("teacher", f"text-{scarce}", fields=_stopped("teacher"))
    arms["oneway"] = of.method(
        "oneway", f"text-{scarce}", edges=1, fields={"members.teacher.init": "arm:stopped-teacher#teacher@best"}
    )
    arms["stopped-teachers"] = of.method("ensemble", f"text-{scarce}", suffix="-teachers", fields=_stopped("teacher1"))
    taught = {f"edges[{n}].weight": 1 / 3 for n in range(3)}
    taught |= {f"members.teacher{n}.init": f"arm:stopped-teachers#teacher{n}@best" for n in (1, 2, 3)}
    arms["ensemble"] = of.method("ensemble", f"text-{scarce}", edges=3, fields=taught)
    for member in ("teacher", "student"):
        arms[f"tuned-{member}"] = of.alone(member, f"text-{scarce}", tune=_tuned(member))
    arms["tuned-ctcd"] = of.method(
        "ctcd", f"text-{scarce}", edges=2, tune=_tuned("teacher", "student"), judged="student"
    )
    claims = []
    for at in ("last", "best"):
        for share in SHARES:
            for member in ("teacher", "student"):
                says = f"with 1/{share} of the text CTCD's {member} is better than alone"
                claims.append(Claim(says, f"ctcd-{share}#{member}", (f"{member}-{share}#{member}",), at=at))
        says = "the less text, the more it pays"
        claims.append(Claim(says, f"ctcd-{scarce}#student", (f"student-{scarce}#student",),
                            ("ctcd-1#student", "student-1#student"), at=at))  # fmt: skip
        says = "with little text CTCD beats the strongest plain remedies"
        claims.append(Claim(says, f"ctcd-{scarce}#student", ("oneway#student", "ensemble#student"), at=at))
        claims.append(Claim(says, "tuned-ctcd#student", ("tuned-student#student",), at=at))
        claims.append(Claim(says, "tuned-ctcd#teacher", ("tuned-teacher#teacher",), at=at))
    title = "Does mutual teaching pay where text is scarce?"
    note = "CTCD was tuned for its student, whose setting its teacher has, too."
    return Study(title, TEXTS, corpora, EVALUATIONS, arms, tuple(claims), of.seeds, note)


def _stopped(member):
    # Three evaluations: on the plateau of word frequencies the loss rises now and then, which is no overfitting.
    return {"train.keep_best": member, "train.early_stopping": 3}


def _tuned(*members):
    """Four settings: weight decay by dropout, which a cohort's members share."""
    return {"optimizer.weight_decay": (0.1, 0.3), ",".join(f"members.{each}.dropout" for each in members): (0.1, 0.3)}
