"""One-way distillation (Eq. 1, 2): a finished teacher, frozen, teaches a student (Table 1 "One-way Distil.").

    ctcd train --config configs/standalone.py:tiny-teacher --workdir runs/teacher --config.data.corpus=runs/corpus
    ctcd train --config configs/oneway.py:tiny --workdir runs/oneway --config.data.corpus=runs/corpus \\
        --config.members.teacher.init=run:runs/teacher#teacher

A student from the teacher's layers: --config.members.student.init=layers:teacher#0,2,4; its sizes come with them.
Paper: student 77.46 after 10 epochs, 78.39 after 20; 1 + 1.3 GPU-days (A100) for 10.
"""

from ctcd_jax.config import base_config, edge, member


def get_config(preset: str = "small"):
    config = base_config(preset)
    config.members.teacher = member(trainable=False)
    config.members.student = member(preset, "student")
    config.edges = (edge("teacher", "student"),)
    return config
