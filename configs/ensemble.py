"""Distillation from an ensemble: three finished teachers, frozen, teach one student together.

    ctcd train --config configs/ensemble.py:tiny-teachers --workdir runs/teachers --config.data.corpus=runs/corpus
    ctcd train --config configs/ensemble.py:tiny --workdir runs/ensemble --config.data.corpus=runs/corpus \\
        --config.members.teacher1.init=run:runs/teachers#teacher1 \\
        --config.members.teacher2.init=run:runs/teachers#teacher2 \\
        --config.members.teacher3.init=run:runs/teachers#teacher3

The teachers differ in name, hence in initial weights and dropout, and learn side by side without an edge between them.
With a third of the weight on each edge the student's gradient is that of the mean of their three predictions, where
the divergence is `forward_kl`.
"""

from ctcd_jax.config import base_config, edge, member
from ctcd_jax.errors import UserError

TEACHERS = ("teacher1", "teacher2", "teacher3")


def get_config(preset: str = "small"):
    size, dash, alone = preset.partition("-")
    if dash and alone != "teachers":
        raise UserError(f"no preset '{preset}' of ensemble: {size} or {size}-teachers")
    config = base_config(size)
    for name in TEACHERS:
        config.members[name] = member(size, "teacher") if alone else member(trainable=False)
    if not alone:
        config.members.student = member(size, "student")
        config.edges = tuple(edge(name, "student", weight=1 / len(TEACHERS)) for name in TEACHERS)
    return config
