"""Deep mutual learning (Zhang et al. 2018): two students of one size teach each other; no teacher at all.

    ctcd train --config configs/mutual.py:tiny --workdir runs/mutual --config.data.corpus=runs/corpus

Community KD without its teacher. The two differ in name, hence in initial weights and dropout.
"""

from ctcd_jax.config import base_config, edge, member


def get_config(preset: str = "small"):
    config = base_config(preset)
    config.members.student1 = member(preset, "student")
    config.members.student2 = member(preset, "student")
    config.edges = (edge("student1", "student2"), edge("student2", "student1"))
    return config
