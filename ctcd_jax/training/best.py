"""The best moment of a run: after which evaluation a member's loss was lowest, and that it has not been since.

It is saved with every step, so that a run which goes on from one knows what was best up to there, whatever came later.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ctcd_jax.artifacts.runs import CHECKPOINTS, Best, Change, CheckpointMeta
from ctcd_jax.config import TrainSettings
from ctcd_jax.files import json_sha256
from ctcd_jax.kinds import FIGURE, WHOLE, mismatch

# Where Orbax keeps the "meta" of a step.
_META = "meta/metadata"
_KIND = {"best?": {"member": str, "step": WHOLE, "loss": FIGURE, "since": WHOLE}}


def evaluated(best: Best | None, member: str, step: int, loss: float | None) -> Best | None:
    """Returns the best evaluation after one more.

    Args:
      best: before it; None: there was none.
      member: whose loss counts.
      step: updates done.
      loss: in nats; None, or not finite, is no better than any.
    """
    if loss is not None and math.isfinite(loss) and (best is None or loss < best["loss"]):
        return {"member": member, "step": step, "loss": loss, "since": 0}
    return {**best, "since": best["since"] + 1} if best else None


def going_on(best: Best | None, member: str | None, step: int, history: Sequence[Change]) -> Best | None:
    """Returns the best evaluation that a session goes on with.

    Args:
      best: as of the step.
      member: whose loss counts now; another's best is nothing to it.
      step: that the session goes on from.
      history: of the run: evaluations without a better loss are counted anew where something was changed.
    """
    if best is None or best["member"] != member:
        return None
    changed = any(entry["from_step"] == step for entry in history)
    return {**best, "since": 0} if changed else best


def ends_early(best: Best | None, settings: TrainSettings) -> bool:
    """Whether there were as many evaluations without a better loss as `train.early_stopping` allows."""
    return settings.early_stopping is not None and best is not None and best["since"] >= settings.early_stopping


def describe_end(best: Best, settings: TrainSettings, step: int) -> str:
    """Returns the line of the log about a run that ends early.

    Args:
      best: evaluation so far.
      settings: of the run.
      step: updates done.
    """
    return (
        f"ended early, at step {step:,} of {settings.steps:,}: '{best['member']}' has been no better in "
        f"{best['since']} evaluations than at step {best['step']:,} ({best['loss']:.4f}). To go on nevertheless: "
        "--change --config.train.early_stopping=None"
    )


class Kept:
    """Orbax's policy: the newest steps are kept, and of each the best so far, for a run may go on from any of them."""

    def __init__(self, newest: int, every: int | None, best: dict[int, int]):
        """Keeps also multiples of `every`, if it is given; `best`: {step: the best step so far}."""
        self._newest, self._every, self.best = newest, every, best

    def should_preserve(self, checkpoints: Sequence, *, context) -> list[bool]:
        del context
        newest = [checkpoint.step for checkpoint in checkpoints][-self._newest :]
        kept = {*newest, *(self.best[step] for step in newest if step in self.best)}
        every = self._every or math.inf  # no step but 0 is a multiple of that
        return [checkpoint.step in kept or checkpoint.step % every == 0 for checkpoint in checkpoints]


def recorded_best(workdir: Path, step: int) -> Best | None:
    """Returns the best evaluation as of a saved step; None where the step, maybe of an earlier version, has none."""
    try:
        meta = json.loads((workdir / CHECKPOINTS / str(step) / _META).read_bytes())
    except (OSError, ValueError, RecursionError):  # a damaged step is dealt with where its state is read
        return None
    if not isinstance(meta, dict) or mismatch(meta, _KIND):
        return None
    digest = meta.pop("sha256", None)  # earlier versions wrote none
    return cast("CheckpointMeta", meta).get("best") if digest in (None, json_sha256(meta)) else None
