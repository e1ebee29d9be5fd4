"""The paper: cohorts of models that teach each other, and what they minimise. Arrays and numbers only."""

from ctcd_jax.distill.cohort import Cohort, Edge, Member
from ctcd_jax.distill.fused import cohort_loss
from ctcd_jax.distill.objective import Outputs, cohort_terms

__all__ = ["Cohort", "Edge", "Member", "Outputs", "cohort_loss", "cohort_terms"]
