"""What a study's finished models score beside losses: on minimal pairs, and on tasks after fine-tuning."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ctcd_jax.artifacts.exports import weights_digest
from ctcd_jax.artifacts.pairs import summarised
from ctcd_jax.artifacts.results import Result
from ctcd_jax.artifacts.studies import EXPORTS, RUN, ScoreRow
from ctcd_jax.errors import UserError
from ctcd_jax.studies.cells import Cell
from ctcd_jax.studies.definition import Pairs, Study, Tasks
from ctcd_jax.studies.finetuned import finetuned_difference
from ctcd_jax.studies.statistics import Paired, paired, signed_by_seed
from ctcd_jax.training.export import export

Log = Callable[[str], None]
Models = Mapping[str, tuple[Cell, str, Path]]
"""{SHA-256 of its weights: (the run, the member, where it lies)}"""


def check_data(study: Study, data: Mapping[str, str]) -> None:
    """Raises UserError unless every data set and model of a study has a place, and only those."""
    for name, meaning in study.data.items():
        if name not in data:
            raise UserError(f"--data {name}=PLACE: not given; it is to be {meaning}")
    for name in data:
        if name not in study.data:
            known = f"it asks for {', '.join(study.data)}" if study.data else "it asks for none"
            raise UserError(f"--data {name}: the study has no such data; {known}")


def check_folders(study: Study, data: Mapping[str, str]) -> None:
    """Raises UserError where what models are to be scored on is not there: now, not when all of them are trained."""
    for name, asked in study.scores.items():
        named = isinstance(asked, Tasks) and data[name].partition(":")[0] in ("hf", "tfds")
        if not (named or Path(data[name]).is_dir()):
            raise UserError(f"--data {name}={data[name]}: no such folder; it is to be {asked.meaning}")


@dataclass(frozen=True)
class Scores:
    """What models score.

    Attributes:
      rows: of scores.csv.
      weights: {ARM#MEMBER: {seed: SHA-256 of its weights}}.
      tuned: {name of the tasks: (lines of results.jsonl, its folder, how many tasks there are)}.
      failed: what kept models from being scored, a line each.
    """

    rows: list[ScoreRow] = field(default_factory=list)
    weights: dict[str, dict[int, str]] = field(default_factory=dict)
    tuned: dict[str, tuple[list[Result], Path, int]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def means(self) -> dict[tuple[str, str], dict[int, float]]:
        """Returns {(ARM#MEMBER, name of the data set): {seed: mean over fine-tuning seeds}}."""
        found: dict[tuple[str, str], dict[int, list[float]]] = {}
        for row in self.rows:
            of = found.setdefault((f"{row['arm']}#{row['member']}", row["on"]), {})
            of.setdefault(row["seed"], []).append(row["score"])
        return {key: {seed: fmean(values) for seed, values in of.items()} for key, of in found.items()}

    def difference(self, on: str, models: Sequence[tuple[str, int]]) -> tuple[dict[int, float], Paired | None]:
        """Returns the signed sum of models' scores on a data set, by seed, and what can be said of its mean.

        Of the seeds that all models have; None for fewer than two.

        Args:
          on: name of the data set.
          models: (ARM#MEMBER, sign).
        """
        if on in self.tuned:
            return finetuned_difference(*self.tuned[on], [(self.weights.get(name, {}), sign) for name, sign in models])
        means = self.means()
        terms = [(means.get((name, on), {}), sign) for name, sign in models]
        by_seed = signed_by_seed(terms)
        return by_seed, paired(list(by_seed.values()))


def scored(study: Study, cells: Sequence[Cell], data: Mapping[str, str], place: Path, log: Log, warn: Log) -> Scores:
    """Returns what every member that has learnt scores on every data set, at its last step.

    What has been exported, scored or fine-tuned before is not done again. What cannot be scored does not stop the rest.

    Args:
      study: whose data sets they are.
      cells: finished runs.
      data: {name: place}, as `check_data` wants them.
      place: folder of the study; each data set has one below it.
      log, warn: take a line.

    Raises:
      UserError: as `export`.
    """
    found = Scores()
    if not study.scores or not cells:
        return found
    models: dict[str, tuple[Cell, str, Path]] = {}
    owners: dict[str, list[tuple[Cell, str]]] = {}  # arms may have a run in common
    for cell in cells:
        for member in cell.trained:
            directory = cell.directory / EXPORTS / member
            if not directory.is_dir():
                export(cell.directory / RUN, member, directory, log=lambda line: None, warn=warn)
            weights = weights_digest(directory)
            models[weights] = cell, member, directory
            owners.setdefault(weights, []).append((cell, member))
            found.weights.setdefault(f"{cell.arm}#{member}", {})[cell.seed] = weights
    for name, asked in study.scores.items():
        figures: list[tuple[str, int | None, float]] = []
        try:
            if isinstance(asked, Pairs):
                figures = list(_pairs(asked, models, data[name], place / name, log, warn))
            else:
                results, failed = _fine_tuned(asked, models, data[name], place / name, log, warn)
                found.failed.extend(f"{name}: {said}" for said in failed)
                found.tuned[name] = results, place / name, len(asked.tasks)
                figures = list(_means(asked, models, results))
        except UserError as error:
            found.failed.append(f"{name}: {error}")
        for weights, finetuning, score in figures:
            for cell, member in owners[weights]:
                found.rows.append({"arm": cell.arm, "seed": cell.seed, "member": member, "on": name,
                                   "finetuning": finetuning, "score": score})  # fmt: skip
    return found


def _pairs(
    asked: Pairs, models: Models, data: str, place: Path, log: Log, warn: Log
) -> Iterator[tuple[str, int | None, float]]:
    from ctcd_jax.scoring.probe import probe

    directories = [directory for _, _, directory in models.values()]
    lines = probe(directories, Path(data), place, asked.first, log=log, warn=warn)
    for weights in models:
        if found := summarised([line for line in lines if line["weights"] == weights]):
            yield weights, None, 100 * found.accuracy


def _fine_tuned(
    asked: Tasks, models: Models, data: str, place: Path, log: Log, warn: Log
) -> tuple[list[Result], list[str]]:
    """Returns the lines of the cells that have one, and what is to be said of those that failed."""
    from ctcd_jax.evaluation.finetune import FailedCells, GlueOptions, glue
    from ctcd_jax.evaluation.tasks.data import open_source

    directories = [directory for _, _, directory in models.values()]
    options = GlueOptions(**asked.options)
    source = open_source(data, None)
    try:
        return glue(directories, source, asked.tasks, asked.seeds, place, options, log=log, warn=warn), []
    except FailedCells as error:
        return error.results, [str(error)]


def _means(asked: Tasks, models: Models, results: Sequence[Result]) -> Iterator[tuple[str, int | None, float]]:
    """Yields the mean over all columns of all tasks, as the paper averages, for each fine-tuning seed."""
    for weights in models:
        for seed in range(asked.seeds):
            own = [row for row in results if (row["weights"], row["seed"]) == (weights, seed)]
            if len(own) == len(asked.tasks):
                yield weights, seed, 100 * fmean(value for row in own for value in row["metrics"].values())
