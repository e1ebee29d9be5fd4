"""Reversed distillation (Eq. 3 alone): a finished small model, frozen, teaches the large one.

    ctcd train --config configs/standalone.py:tiny-student --workdir runs/student --config.data.corpus=runs/corpus
    ctcd train --config configs/reversed.py:tiny --workdir runs/reversed --config.data.corpus=runs/corpus \\
        --config.members.student.init=run:runs/student#student

The paper's first finding, that the weak teach the strong, taken by itself.
"""

from ctcd_jax.config import base_config, edge, member


def get_config(preset: str = "small"):
    config = base_config(preset)
    config.members.teacher = member(preset, "teacher")
    config.members.student = member(trainable=False)
    config.edges = (edge("student", "teacher"),)
    return config
