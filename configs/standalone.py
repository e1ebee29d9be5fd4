"""Stand-alone: one model, no distillation (Figure 4, Table 1 "Original Teacher"). The baseline of everything else.

    ctcd train --config configs/standalone.py:tiny-student --workdir runs/student --config.data.corpus=runs/corpus
    ctcd train --config configs/standalone.py:tiny-teacher --workdir runs/teacher --config.data.corpus=runs/corpus

From a pre-trained model, with its sizes: --config.members.teacher.init=hf:DIR (standalone:tiny-teacher).
The member keeps its name, so its first weights, its data and its masks are those it has in CTCD. Paper, 10 epochs:
teacher 78.06 GLUE dev average, 1 GPU-day (A100).
"""

from ctcd_jax.config import base_config, member


def get_config(preset: str = "small-student"):
    size, _, name = preset.partition("-")
    config = base_config(size)
    config.members[name or "student"] = member(size, name or "student")
    return config
