"""`ctcd study --plan`: what there is to run, and what it would cost."""

from collections.abc import Callable, Sequence

from ctcd_jax.artifacts.studies import read_cell
from ctcd_jax.config.file import load_config
from ctcd_jax.jobs.duration import duration
from ctcd_jax.studies.cells import Cell, is_settled, trials
from ctcd_jax.studies.definition import Study
from ctcd_jax.studies.running import State
from ctcd_jax.text_tables import aligned, counted


def plan_study(study: Study, state: State, log: Callable[[str], None]) -> None:
    """Prints the runs of a study, arm by arm, and how long those take that are missing.

    The time is in proportion to FLOPs: from the finished runs, or from a few steps of a missing one on this machine.

    Args:
      study: whose runs they are.
      state: of them.
      log: takes a line.
    """
    rows: list[tuple[str, ...]] = [
        ("arm", "runs", "finished", "steps", "tokens a run", "TFLOP a run", "with its teachers")
    ]
    waiting: list[Cell] = []  # for tuning to end; they cost about as much as a run that tunes them
    unknown = 0
    for name, arm in study.arms.items():
        own = [cell for cell in state.cells if cell.arm == name]
        if not own:
            tuned = len(trials(arm))
            rows.append((name, _runs_text(study.seeds + tuned, tuned), "0", "?", "?", "?", "after tuning"))
            unknown += study.seeds + tuned
            continue
        later = [own[0]] * study.seeds if own[-1].trial else []
        waiting += later
        runs = _runs_text(len(own) + len(later), len(trials(arm)))
        cell = own[-1]
        figures = f"{cell.steps:,}", f"{cell.tokens:,}", f"{cell.flops / 1e12:,.3g}", f"{cell.chain_flops / 1e12:,.3g}"
        rows.append((name, runs, f"{sum(map(is_settled, own))}", *figures))
    log(aligned(rows))
    missing = [*state.missing(), *waiting]
    flops = sum(cell.flops for cell in missing)
    total = len(state.runs) + len(waiting) + unknown
    line = f"{len(missing) + unknown} of {total} runs are missing: {flops / 1e12:,.3g} TFLOP, "
    line += f"{sum(cell.tokens for cell in missing):,} tokens"
    if unknown:
        line += f" and {counted(unknown, 'run')} whose cost is known after tuning"
    if missing:
        speed = _finished_speed(state.runs)
        source = "the finished ones" if speed else "a few steps here"
        line += f", {duration(flops / (speed or _timed_speed(missing)))} at the speed of {source}"
    log(line)


def _runs_text(runs: int, tuned: int) -> str:
    return f"{runs}" + (f", {tuned} of them to tune" if tuned else "")


def _timed_speed(missing: Sequence[Cell]) -> float:
    """Returns FLOP a second of a few steps of a run that starts from no other."""
    from ctcd_jax.training.plan import plan

    cell = next(cell for cell in missing if not cell.needs)
    low, high = plan(load_config(cell.spec, cell.overrides), log=lambda line: None)["seconds_per_step"]
    return cell.flops / cell.steps / ((low + high) / 2)


def _finished_speed(cells: Sequence[Cell]) -> float | None:
    """Returns FLOP a second over all runs that were finished here; None: none was."""
    known = [(cell.flops, found["seconds"]) for cell in cells if (found := read_cell(cell.directory))]
    seconds = sum(seconds for _, seconds in known)
    return sum(flops for flops, _ in known) / seconds if seconds > 0 else None
