"""What a study's finished models score beside losses: on minimal pairs, and on tasks after fine-tuning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.artifacts.pairs import summarised
from ctcd_jax.artifacts.studies import EXPORTS, RUN, ScoreRow
from ctcd_jax.errors import UserError
from ctcd_jax.studies.cells import Cell
from ctcd_jax.studies.definition import Pairs, Study, Tasks
from ctcd_jax.training.export import export

Log = Callable[[str], None]
Models = Mapping[str, tuple[Cell, str, Path]]
"""{SHA-256 of its weights: (the run, the member, where it lies)}"""


def check_data(study: Study, data: Mapping[str, str]) -> None:
    """Raises UserError unless every data set of a study has a place, and only those."""
    for name, scored in study.scores.items():
        if name not in data:
            raise UserError(f"--data {name}=PLACE: not given; it is to be {scored.meaning}")
    for name in data:
        if name not in study.scores:
            known = f"its data sets are {', '.join(study.scores)}" if study.scores else "it has none"
            raise UserError(f"--data {name}: the study has no such data set; {known}")


def score_rows(
    study: Study, cells: Sequence[Cell], data: Mapping[str, str], place: Path, log: Log, warn: Log
) -> list[ScoreRow]:
    """Returns what every member that has learnt scores on every data set, at its last step.

    What has been exported, scored or fine-tuned before is not done again.

    Args:
      study: whose data sets they are.
      cells: finished runs.
      data: {name: place}, as `check_data` wants them.
      place: folder of the study; each data set has one below it.
      log, warn: take a line.

    Raises:
      UserError: a place does not hold what it should; or as `export`, `probe` and `glue`.
    """
    if not study.scores or not cells:
        return []
    models: dict[str, tuple[Cell, str, Path]] = {}
    for cell in cells:
        for member in cell.trained:
            directory = cell.directory / EXPORTS / member
            if not directory.is_dir():
                export(cell.directory / RUN, member, directory, log=lambda line: None)
            models[weights_digest(directory)] = cell, member, directory
    rows: list[ScoreRow] = []
    for name, scored in study.scores.items():
        make = _pairs if isinstance(scored, Pairs) else _tasks
        for weights, finetuning, score in make(scored, models, data[name], place / name, log, warn):
            cell, member, _ = models[weights]
            rows.append({"arm": cell.arm, "seed": cell.seed, "member": member, "on": name, "finetuning": finetuning,
                         "score": score})  # fmt: skip
    return rows


def _pairs(
    scored: Pairs, models: Models, data: str, place: Path, log: Log, warn: Log
) -> Iterator[tuple[str, int | None, float]]:
    from ctcd_jax.scoring.probe import probe

    directories = [directory for _, _, directory in models.values()]
    lines = probe(directories, Path(data), place, scored.first, log=log, warn=warn)
    for weights in models:
        if found := summarised([line for line in lines if line["weights"] == weights]):
            yield weights, None, 100 * found.accuracy


def _tasks(
    scored: Tasks, models: Models, data: str, place: Path, log: Log, warn: Log
) -> Iterator[tuple[str, int | None, float]]:
    """Yields the mean over all columns of all tasks, as the paper averages, for each fine-tuning seed."""
    from ctcd_jax.evaluation.finetune import GlueOptions, glue
    from ctcd_jax.evaluation.tasks.data import open_source

    options, source = GlueOptions(**scored.options), open_source(data, None)
    directories = [directory for _, _, directory in models.values()]
    results = glue(directories, source, scored.tasks, scored.seeds, place, options, log=log, warn=warn)
    for weights in models:
        for seed in range(scored.seeds):
            own = [row for row in results if (row["weights"], row["seed"]) == (weights, seed)]
            if len(own) == len(scored.tasks):
                yield weights, seed, 100 * fmean(value for row in own for value in row["metrics"].values())
