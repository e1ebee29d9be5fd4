"""Does the answer change when every arm has the learning rate that suits it? With little text, and with much.

A cohort's loss begins its steep fall late, or never, at a rate that is too high for it, and the other studies have one
rate for all arms. Here teacher and student alone, the same for as long as CTCD computes, and CTCD choose theirs, each
from as many settings, on a seed that is left out. Tuning looks at each run's best step, and so do the claims. With
little text the weight decay is what `data:tiny` has chosen for all.
"""

from ctcd_jax.studies import Claim, Study
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, size

RATES = {
    "smoke": (1e-3, 3e-3),
    "tiny": (5e-4, 1e-3, 2e-3, 4e-3),
    "small": (2.5e-4, 5e-4, 1e-3, 2e-3),
    "paper": (1e-4, 2e-4, 5e-4, 1e-3),
}
SHARES = {"little": 16, "much": 1}


def get_study(name="tiny"):
    of = size(name)
    every = max(1, of.every // SHARES["little"])
    corpora = of.corpora(**{text: share * every for text, share in SHARES.items()})
    tune = {"optimizer.learning_rate": RATES[name]}
    arms, claims = {}, []
    for text in SHARES:
        fields = {"optimizer.weight_decay": 0.3} if text == "little" else {}
        common = {"fields": fields, "tune": tune}
        for member in ("teacher", "student"):
            arms[f"{member}-{text}"] = of.alone(member, text, **common)
        arms[f"ctcd-{text}"] = of.method("ctcd", text, edges=2, judged="student", **common)
        for member in ("teacher", "student"):
            arms[f"long-{member}-{text}"] = of.alone(member, text, compute_of=f"ctcd-{text}", **common)
        for member in ("teacher", "student"):
            alone = f"{member}-{text}#{member}", f"long-{member}-{text}#{member}"
            better = f"ctcd-{text}#{member}"
            says = f"with {text} text CTCD's {member} is better than alone"
            claims.append(Claim(says, better, alone, at="best"))
            claims.append(Claim(f"{says}, on other text", better, alone[:1], on="wiki", at="best"))
    title = "Does mutual teaching pay when every arm has its own learning rate?"
    note = "CTCD was tuned for its student, whose setting its teacher has, too."
    return Study(title, TEXTS, corpora, EVALUATIONS, arms, tuple(claims), of.seeds, note)
