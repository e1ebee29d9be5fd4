"""Does a longer warm-up get every cohort to train, and what does mutual teaching give then?

At the other studies' rate a cohort's loss begins its steep fall late at some seeds, and one of five teachers never gets
past word frequencies; lower rates are worse for all (`rate`). Here a fifth of the steps is warm-up, not a twentieth;
what is trained alone may have either. Weight decay is what `data:tiny` has chosen for all. Claims are of the last step
alone, for each further comparison costs much of what could be seen.
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

WARMUP = 0.2


def get_study(name="tiny"):
    of = size(name)
    arms = {}
    for prefix, warmup in (("", {}), ("warm-", {"optimizer.warmup_fraction": WARMUP})):
        fields = {"optimizer.weight_decay": 0.3} | warmup
        for member in ("teacher", "student"):
            arms[f"{prefix}{member}"] = of.alone(member, fields=fields)
        arms[f"{prefix}ctcd"] = of.method("ctcd", edges=2, fields=fields)
    claims = []
    for member in ("teacher", "student"):
        better, alone = f"warm-ctcd#{member}", (f"warm-{member}#{member}", f"{member}#{member}")
        says = f"warmed up longer, CTCD's {member} is better than alone"
        claims += [
            Claim(says, better, alone),
            Claim(f"{says}, on other text", better, alone, on="wiki"),
            Claim(f"a longer warm-up makes CTCD's {member} better", better, (f"ctcd#{member}",)),
        ]
    says = "warmed up longer, CTCD's student beats the teacher alone"
    teachers = "warm-teacher#teacher", "teacher#teacher"
    claims.append(Claim(says, "warm-ctcd#student", teachers, paper="+1.06 GLUE"))
    title = "Does a longer warm-up get every cohort to train, and what does mutual teaching give then?"
    return Study(title, TEXTS, of.corpora(), EVALUATIONS, arms, tuple(claims), of.seeds)
