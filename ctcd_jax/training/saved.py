"""`ctcd checkpoints`: the saved steps of a run, how large they are, and whether each is what was saved."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ctcd_jax.artifacts.checkpoints import ASIDE, damage, damage_text, is_sealed
from ctcd_jax.artifacts.runs import CHECKPOINTS
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.errors import UserError
from ctcd_jax.text_tables import aligned
from ctcd_jax.training.best import recorded_best
from ctcd_jax.training.checkpoint import saved_steps

_LOOK_AGAIN = 1.0  # seconds in which the removal of a step gets on
NOT_SEALED = "its files are not written down: it is being saved, a kill came then, or an earlier version saved it"


def describe_checkpoints(workdir: str | Path, log: Callable[[str], None] = print) -> bool:
    """Prints a line for each saved step of a run and for each that was set aside; returns whether none is damaged.

    Every file is read. A run may go on meanwhile: a step that it removes just then is left out.

    Args:
      workdir: of the run.
      log: takes the table.

    Raises:
      UserError: there is no run, or it has saved no step.
    """
    workdir = Path(workdir)
    read_run(workdir)
    directory, steps = workdir / CHECKPOINTS, _all_steps(workdir)
    aside = sorted(directory.glob(f"*{ASIDE}"))
    if not steps and not aside:
        raise UserError(f"{directory}: no step is saved there; train first")
    best = recorded_best(workdir, steps[-1]) if steps else None
    rows: list[tuple[str, ...]] = [("step", "bytes", "saved", "state")]
    whole = True
    for step in steps:
        place = directory / str(step)
        try:
            found = _lasting_damage(place)
            size, saved = _size(place), datetime.fromtimestamp(place.stat().st_mtime)
        except FileNotFoundError:
            continue
        state = f"DAMAGED: {damage_text(found)}" if found else "as it was saved" if is_sealed(place) else NOT_SEALED
        if best and best["step"] == step:
            state += f"; the best of '{best['member']}', {best['loss']:.4f} nats"
        whole = whole and not found
        rows.append((f"{step:,}", f"{size:,}", f"{saved:%Y-%m-%d %H:%M:%S}", state))
    for place in aside:
        name = place.name.removesuffix(ASIDE)
        rows.append((name, f"{_size(place):,}", "", f"set aside, for it could not be read: remove {place}"))
    log(aligned(rows))
    return whole


def _all_steps(workdir: Path) -> list[int]:
    """The saved steps, and directories of which nothing is left that would make them one."""
    places = (workdir / CHECKPOINTS).glob("*/")
    return sorted({*saved_steps(workdir), *(int(place.name) for place in places if place.name.isdecimal())})


def _lasting_damage(place: Path) -> list[str]:
    """Returns what `damage` finds of a step once its files stay what they are: it may be being removed, or saved.

    Raises:
      FileNotFoundError: it has been removed.
    """
    found, files, before = damage(place), _names(place), None
    while (found or not is_sealed(place)) and files != before:
        time.sleep(_LOOK_AGAIN)
        if not place.is_dir():
            raise FileNotFoundError(place)
        found, files, before = damage(place), _names(place), files
    return found


def _names(place: Path) -> set[Path]:
    return set(place.rglob("*"))


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
