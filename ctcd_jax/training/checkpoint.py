"""What a run keeps of its steps: WORKDIR/checkpoints/STEP/, by Orbax, the state, and as "meta" a `CheckpointMeta`.

Nothing is restored that is not what was saved: leaves have digests in "meta", and files in `sha256.json`.
"""

import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp

from ctcd_jax.artifacts.checkpoints import DIGESTS, LISTED, damage, damage_text, is_listed, is_sealed, seal, set_aside
from ctcd_jax.artifacts.runs import CHECKPOINTS, FROZEN, Best, CheckpointMeta
from ctcd_jax.config.init_spec import run_member_config
from ctcd_jax.distill.objective import Mean, Terms
from ctcd_jax.errors import UserError, is_out_of_memory, warn
from ctcd_jax.files import json_sha256
from ctcd_jax.models.registry import Shape, abstract_params
from ctcd_jax.runtime.distributed import gather, on_leader
from ctcd_jax.training.best import Kept, recorded_best
from ctcd_jax.training.frozen import load_frozen
from ctcd_jax.training.orbax import LiteralPath, quiet, reason, writing_errors
from ctcd_jax.training.sealing import Sealer, as_numbers, changed_leaves, leaf_digests
from ctcd_jax.training.sharding import placed
from ctcd_jax.training.state import TrainState

_REWRITING = 0.5  # seconds


class Saved(NamedTuple):
    """What was saved of a step: its state, the real tokens that it does not count any more, and the best so far."""

    step: int
    state: TrainState
    tokens: int
    best: Best | None


class Checkpoints:
    """The saved steps of a run, newest last. Saving goes on in the background; `close` waits for it.

    Every method raises UserError where the disk gives out; the steps saved before stay readable.
    """

    def __init__(
        self,
        workdir: Path,
        keep: int,
        every: int | None = None,
        on_saved: Callable[[], None] = lambda: None,
        warn: Callable[[str], None] = warn,
    ):
        """Opens the directory; what a kill has left half-done there is cleared away. All processes of a run call it.

        Args:
          workdir: of the run.
          keep: how many of the newest steps are kept; with each the best that it knows of.
          every: multiples of it are kept, too; None: none for that.
          on_saved: called in the background after each step that is whole.
          warn: called with a line about each step that is set aside, for Orbax would open no other beside it.

        Raises:
          UserError: there are steps, and no such file of any can be read.
        """
        # What fails is raised here; Orbax and asyncio would log it once more, with pages of traceback.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = quiet(sys.unraisablehook)
        best = {step: found["step"] for step in saved_steps(workdir) if (found := recorded_best(workdir, step))}
        self._kept = Kept(keep, every, best)
        # A step cut short by a kill is never listed; its remains are cleared away here.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept, cleanup_tmp_directories=True, create=True
        )
        self.directory = (workdir / CHECKPOINTS).resolve()
        on_leader(lambda: _set_unlisted_aside(workdir, warn))
        self._manager = ocp.CheckpointManager(LiteralPath(self.directory), options=options)
        self._sealer = Sealer(self._manager.is_saving_in_progress, on_saved)

    @property
    def newest(self) -> int | None:
        """The newest saved step."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, tokens: int, best: Best | None = None) -> None:
        """Saves a state, unless its step is saved already.

        Args:
          step: updates done.
          state: on the devices.
          tokens: real tokens seen that the state does not count any more.
          best: evaluation so far; its step is kept as long as this one.
        """
        if self._manager.latest_step() == step:
            return
        self._check_room(state)
        saved = _as_saved(state)
        meta: CheckpointMeta = {"tokens": tokens}
        if best:
            meta["best"], self._kept.best[step] = best, best["step"]
        leads = jax.process_index() == 0  # its "meta" is the one that is written
        meta["leaves"] = leaf_digests(saved) if leads else {}
        meta["sha256"] = json_sha256(meta)
        args = ocp.args.Composite(state=ocp.args.StandardSave(saved), meta=ocp.args.JsonSave(meta))
        with writing_errors(self.directory):
            self._sealer.finish()
            if not self._manager.save(step, args=args, force=True):
                raise UserError(f"{self.directory}: step {step} was not saved because a later one is there; remove it")
            if leads:
                self._sealer.begin(self.directory / str(step))

    def restore(self, abstract: Callable[[int], TrainState], warn: Callable[[str], None]) -> Saved | None:
        """Returns the newest readable step, or None if nothing was saved.

        A step that cannot be read (Orbax raises bare Exceptions), or is not what was saved, is set aside as
        STEP.unreadable if an older one is. So does a run of several processes, but where Orbax fails on one of them:
        the others may wait for it.

        Args:
          abstract: what the state of a step is made of.
          warn: called with a line about each step that is set aside, and one that cannot be checked.

        Raises:
          UserError: no step can be read.
        """
        unreadable = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            wanted = ocp.args.StandardRestore(_as_saved(abstract(step)))
            args = ocp.args.Composite(state=wanted, meta=ocp.args.JsonRestore())
            try:
                _check_files(self.directory / str(step))
                restored: Any = self._manager.restore(step, args=args)
                _check_content(restored)
            except Exception as error:
                if is_out_of_memory(error):  # nothing is wrong with what is saved
                    raise
                unreadable[step] = error
                if jax.process_count() > 1 and not isinstance(error, _Damaged):  # which all raise together
                    break
                continue
            for bad, error in unreadable.items():
                # Out of Orbax's sight: while a later step exists, it silently saves no earlier one.
                on_leader(lambda bad=bad: set_aside(self.directory / str(bad)))
                warn(f"step {bad} cannot be read ({reason(error)}); going on from step {step}")
            self._manager.reload()
            if not is_sealed(self.directory / str(step)):
                self._seal_late(step, restored.meta, warn)
            best = restored.meta.get("best")
            if best and best["step"] not in self._manager.all_steps():
                warn(
                    f"step {best['step']:,}, the best of '{best['member']}', is no longer there; the next best is kept"
                )
                best = None
            return Saved(step, _from_saved(restored.state), restored.meta["tokens"], best)
        if unreadable:
            newest, worst = max(unreadable), min(unreadable)
            older = [step for step in self._manager.all_steps() if step < worst]
            what = (
                f"{self.directory / str(worst)} to go on from step {max(older)}"
                if older
                else f"{self.directory} to begin again"
            )
            raise UserError(
                f"{self.directory / str(newest)}: cannot be read ({reason(unreadable[newest])}); remove {what}"
            )
        return None

    def _seal_late(self, step: int, meta: CheckpointMeta, warn: Callable[[str], None]) -> None:
        """Seals a step whose run was killed before it could: its arrays are those that were saved."""
        if "leaves" not in meta:
            warn(f"step {step} was saved by an earlier version: whether it is as it was saved cannot be told")
        elif jax.process_count() == 1:  # else nobody has held all arrays against their digests
            with writing_errors(self.directory):
                seal(self.directory / str(step))

    def reached_preemption(self, step: int) -> bool:
        """Whether any process of a distributed run was asked to stop; the same answer on all of them."""
        return jax.distributed.is_initialized() and self._manager.reached_preemption(step)

    def _check_room(self, state: TrainState) -> None:
        # Before, not after: a write that fails halfway is reported by a dozen threads, each with its traceback.
        needed = sum(as_numbers(leaf).nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"{self.directory}: no room for a checkpoint of {needed:,} bytes ({free:,} are free); make room and "
                "start again, the steps saved before are whole"
            )

    def close(self) -> None:
        """Waits until everything is on disk."""
        with writing_errors(self.directory):
            try:
                self._manager.wait_until_finished()
            finally:
                self._sealer.finish()
                self._manager.close()


class _Damaged(Exception):
    """A step is not what was saved."""


def _check_files(step: Path) -> None:
    """Raises _Damaged on every process unless the files of a step are as they were sealed. All must call it."""
    found = damage(step) if jax.process_index() == 0 else []  # read once, not by every process
    if said := gather(damage_text(found))[0]:
        raise _Damaged(said)


def _check_content(restored: Any) -> None:
    """Raises _Damaged on every process unless "meta" and the state's leaves are what was saved. All must call it.

    Steps of earlier versions do not say what that was.
    """
    meta = dict(restored.meta)
    digest = meta.pop("sha256", None)
    said = _changed(restored)
    if digest is not None and digest != json_sha256(meta):
        said = "meta has changed"
    if found := list(filter(None, gather(said))):
        raise _Damaged(found[0])


def _changed(restored: Any) -> str:
    """Says which arrays of a restored step, or of the part that was restored, are not what was saved; "" if all are."""
    changed = changed_leaves(restored.state, restored.meta.get("leaves", {}))
    return f"{len(changed)} arrays are not as they were saved, the first: {changed[0]}" if changed else ""


def _as_saved(state: TrainState) -> dict:
    """Returns the tree whose paths are the names in a checkpoint: those of format 1, and edges where there are any."""
    tree: dict[str, Any] = {field.name: getattr(state, field.name) for field in fields(state)}
    tree["window"] = {
        f"{kind.name}/{name}": tuple(mean)
        for kind in fields(Terms)
        for name, mean in getattr(state.window, kind.name).items()
    }
    return tree if state.edges else {name: part for name, part in tree.items() if name != "edges"}


def _from_saved(tree: dict[str, Any]) -> TrainState:
    window = {kind.name: {} for kind in fields(Terms)}
    for term, mean in tree["window"].items():
        kind, _, name = term.partition("/")
        window[kind][name] = Mean(*mean)
    return TrainState(**{**tree, "window": Terms(**window)})


def load_member(workdir: str | Path, member: str, step: int | Literal["best"] | None = None) -> tuple[Shape, dict]:
    """Returns the shape and the parameters (host float32) of a member of a run, trainable or frozen.

    Args:
      workdir: of the run.
      member: its name in the cohort.
      step: as for `saved_step`; None of a frozen member, which is the same at every step.

    Raises:
      UserError: no such run, member or step; or what is saved cannot be read.
    """
    workdir = Path(workdir)
    config = run_member_config(workdir, member)
    step, directory = member_step(workdir, member, step), (workdir / CHECKPOINTS).resolve()
    if step is None:
        return config, load_frozen(workdir, member)
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = jax.tree.map(lambda leaf: placed(leaf, one_device), abstract_params(config))
    item = {"members": {member: {"params": wanted}}}
    args = ocp.args.PyTreeRestore(
        item=item, partial_restore=True, restore_args=ocp.checkpoint_utils.construct_restore_args(item)
    )
    if _unlisted(workdir):
        time.sleep(_REWRITING)  # a run that is going on may just be writing it anew
    if unlisted := _unlisted(workdir):
        raise UserError(f"{directory / str(unlisted[0])}: {LISTED} is damaged; move {unlisted[0]} to another place")
    with ocp.CheckpointManager(LiteralPath(directory)) as manager:
        try:
            if found := damage(directory / str(step)):
                raise _Damaged(damage_text(found))
            restored = manager.restore(step, args=ocp.args.Composite(state=args, meta=ocp.args.JsonRestore()))
            if changed := _changed(restored):
                raise _Damaged(changed)
        except Exception as error:  # Orbax raises bare Exceptions
            if is_out_of_memory(error):
                raise
            raise UserError(f"{directory / str(step)}: cannot be read ({reason(error)}); use another step") from error
    return config, jax.device_get(restored.state["members"][member]["params"])


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps of which a run has saved its state, ascending.

    Orbax takes every directory that ends in _NUMBER for one; here it is a number, with what Orbax writes last in it, or
    what was written when it was whole: it may be damaged.
    """
    places = (path.parent for name in (LISTED, DIGESTS) for path in (workdir / CHECKPOINTS).glob(f"*/{name}"))
    return sorted({int(place.name) for place in places if place.name.isdecimal()})


def _unlisted(workdir: Path) -> list[int]:
    """Returns the steps that keep Orbax from opening any, latest first."""
    steps, directory = reversed(saved_steps(workdir)), workdir / CHECKPOINTS
    return [
        step for step in steps if (directory / str(step) / LISTED).is_file() and not is_listed(directory / str(step))
    ]


def _set_unlisted_aside(workdir: Path, warn: Callable[[str], None]) -> None:
    directory, unlisted = workdir / CHECKPOINTS, _unlisted(workdir)
    if unlisted and len(unlisted) == len(saved_steps(workdir)):
        raise UserError(f"{directory / str(unlisted[0])}: {LISTED} is damaged; remove {directory} to begin again")
    for step in unlisted:
        warn(f"step {step} cannot be read ({LISTED} is damaged); it is now {set_aside(directory / str(step))}")


def member_step(workdir: Path, member: str, step: int | Literal["best"] | None = None) -> int | None:
    """Returns the step at which a member is read: that of `saved_step`, None of a frozen one.

    Args:
      workdir: of the run.
      member: its name in the cohort.
      step: as for `saved_step`.

    Raises:
      UserError: it was not saved, or a step of a frozen member is asked for, which is the same at every one.
    """
    if not (workdir / FROZEN / member).is_dir():
        return saved_step(workdir, step)
    if step is not None:
        raise UserError(f"{workdir}: '{member}' is frozen there, the same at every step; leave @{step} out")
    return None


def saved_step(workdir: Path, step: int | Literal["best"] | None = None) -> int:
    """Returns `step`, for "best" that of the best evaluation, for None the newest saved one.

    Raises:
      UserError: it was not saved.
    """
    directory, saved = (workdir / CHECKPOINTS).resolve(), saved_steps(workdir)
    if not saved:
        raise UserError(f"{directory}: no checkpoint there; train first")
    if step == "best":
        best = recorded_best(workdir, saved[-1])
        if best is None:
            raise UserError(
                f"{directory}: no best step there: train.keep_best was None, nothing was evaluated yet, or step "
                f"{saved[-1]} is damaged; saved are {saved}"
            )
        step = best["step"]
    if step is not None and step not in saved:
        raise UserError(f"{directory}: no step {step} there; saved are {saved}")
    return saved[-1] if step is None else step
