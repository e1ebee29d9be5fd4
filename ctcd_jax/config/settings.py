"""A run, resolved and typed: what the rest of the code sees. Nothing below this module knows a ConfigDict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctcd_jax.config.init_spec import Init
from ctcd_jax.distill import Cohort
from ctcd_jax.models.registry import Shape
from ctcd_jax.ranges import SHARE, Range, require

LEARNING_RATE_SCHEDULES = ("linear", "cosine", "constant")
OPTIMIZER_RANGES = {
    "learning_rate": Range(0, above=True),
    "warmup_fraction": SHARE,  # 0: none
    "b1": Range(0, 1, below=True),
    "b2": Range(0, 1, below=True),
    "eps": Range(1e-30),  # float32 has nothing much smaller, and Adam divides by it where a gradient is 0
    "weight_decay": Range(0),  # 0: none
    "clip_norm": Range(0, above=True, off="None for no clipping"),
}


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW of one member.

    Attributes:
      learning_rate: its peak, after the warm-up.
      warmup_fraction: share of all steps during which the learning rate rises linearly.
      schedule: how the learning rate falls after the warm-up: "linear" or "cosine" to 0, or "constant".
      b1, b2: AdamW's rates of decay of the first and the second moment (Loshchilov & Hutter 2019).
      eps: AdamW's, added to the denominator.
      weight_decay: AdamW's; biases and LayerNorm are not decayed.
      clip_norm: the gradient of a member is scaled down to this norm; None: it is not.

    Raises ValueError for an unknown schedule, or a number out of its range.
    """

    learning_rate: float = 5e-4
    warmup_fraction: float = 0.05
    schedule: str = "linear"
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.0
    clip_norm: float | None = 5.0

    def __post_init__(self):
        if self.schedule not in LEARNING_RATE_SCHEDULES:
            raise ValueError(
                f"optimizer: no schedule {self.schedule!r}; there are {', '.join(LEARNING_RATE_SCHEDULES)}"
            )
        off = {"clip_norm"} if self.clip_norm is None else set()
        require("optimizer: ", self, {name: OPTIMIZER_RANGES[name] for name in OPTIMIZER_RANGES.keys() - off})


def member_optimizer(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a member's optimizer: its own where it has any, else the run's.

    Args:
      common: `config.optimizer`.
      own: `config.members.NAME.optimizer`, None where it leaves the field to the run.
    """
    return {**common, **{name: value for name, value in own.items() if value is not None}}


@dataclass(frozen=True)
class TrainSettings:
    """`config.train`, resolved: the number of steps and what computes them (dtype, attention) are known.

    Attributes:
      keep_every: saved steps that are multiples of it are kept for good; None: none is.
      keep_best: the trainable member whose best step is kept; None: nobody's.
      early_stopping: evaluations in a row without a better loss of that member that end the run; None: it is not ended.
      attention: of `models.attention.IMPLEMENTATIONS`; never "auto" but for GPUs.
      profile_steps: how many steps are done where the trace begins and where it ends; None for no trace.
    """

    steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    keep_checkpoints: int
    dtype: str
    micro_batches: int
    remat: bool = False
    deterministic: bool = False
    attention: str = "xla"
    loss_chunk: int | None = None
    profile_steps: tuple[int, int] | None = None
    keep_every: int | None = None
    keep_best: str | None = None
    early_stopping: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A run, resolved and checked. Dicts are by member name.

    Attributes:
      evaluation_corpora: directories of further corpora that are evaluated on.
      projects: of the trackers that are asked for, by "wandb" and "trackio" (`training.trackers`).
    """

    seed: int
    cohort: Cohort
    models: Mapping[str, Shape]
    sources: Mapping[str, Init]
    optimizers: Mapping[str, OptimizerSettings]
    train: TrainSettings
    batch_size: int
    masking_rate: float = 0.15
    masking_smoothing: float = 0.0
    mesh: tuple[int, int] = (-1, 1)
    evaluation_corpora: tuple[str, ...] = ()
    projects: Mapping[str, str] = field(default_factory=dict)
