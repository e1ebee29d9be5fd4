"""Studies: many runs that answer a question. What a file of `configs/studies/` is written with."""

from ctcd_jax.studies.definition import Arm, Claim, Pairs, Study, StudyCorpus, Tasks

__all__ = ["Arm", "Claim", "Pairs", "Study", "StudyCorpus", "Tasks"]
