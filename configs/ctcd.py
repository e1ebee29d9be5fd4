"""CTCD: co-training and co-distillation (section 3, Eq. 4). Teacher and student learn together and from each other.

    ctcd train --config configs/ctcd.py:tiny --workdir runs/ctcd --config.data.corpus=runs/corpus

The paper's best weights (section 5.2) are 1 : 1 : 1 : 4, so the teacher's soft loss counts four times. Paper, 10
epochs: student 77.94, teacher 79.86 GLUE dev average, against 78.06 for the teacher alone; 3 GPU-days (A100).
"""

from ctcd_jax.config import edge, experiment, member


def get_config(preset: str = "small"):
    config = experiment(preset)
    config.members.teacher = member(preset, "teacher")
    config.members.student = member(preset, "student")
    config.edges = (edge("teacher", "student", weight=1.0), edge("student", "teacher", weight=4.0))
    return config
