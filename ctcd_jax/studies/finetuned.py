"""Differences of models that were pre-trained and then fine-tuned from several seeds each, on the same examples."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ctcd_jax.artifacts.results import Result
from ctcd_jax.evaluation.tables.intervals import LEVEL, interval, p_value, t_quantile
from ctcd_jax.evaluation.tables.predictions import resample
from ctcd_jax.studies.statistics import Paired, detectable_errors

_DRAWS = 0  # seed of the bootstrap over examples


def finetuned_difference(
    results: Sequence[Result], folder: Path, count: int, terms: Sequence[tuple[Mapping[int, str], int]]
) -> tuple[dict[int, float], Paired | None]:
    """Returns the signed sum of models' mean scores in points of per cent, paired by both kinds of seeds.

    The interval covers other pre-training seeds, fine-tuning seeds and examples (`evaluation.tables.intervals`); its p
    value is that of the level at which it ends at 0. A model's score is the mean over all columns of all tasks, as the
    paper has it.

    Args:
      results: lines of the results.jsonl of `folder`.
      folder: where their predictions are.
      count: of the tasks: where one has no line at all, nothing is compared.
      terms: ({pre-training seed: SHA-256 of the weights}, sign) of each model.

    Returns:
      {pre-training seed: difference} of those that are compared, see `_common`, and what can be said of their mean,
      None for fewer than two.
    """
    rows = {(row["weights"], row["task"], row["seed"]): row for row in results}
    tasks = list(dict.fromkeys(row["task"] for row in results))
    if len(tasks) < count:
        return {}, None
    seeds, tunings = _common(rows, tasks, [models for models, _ in terms])
    if not seeds:
        return {}, None
    names = [weights for models, _ in terms for weights in (models[seed] for seed in seeds)]
    values, drawn, examples = [], [], []
    for task in tasks:
        used = {name: {seed: rows[name, task, seed] for seed in tunings} for name in names}
        found = resample(task, used, folder, _DRAWS)
        for metric in next(iter(next(iter(used.values())).values()))["metrics"]:
            scores = {(name, seed): row["metrics"][metric] for name, of in used.items() for seed, row in of.items()}
            values.append(_signed(scores, terms, seeds, tunings))
            again = {(name, seed): found.scores.get((name, seed, (task, metric))) for name, seed in scores}
            if all(each is not None for each in again.values()):
                drawn.append(_signed(again, terms, seeds, tunings))
                examples.append(found.examples[task, metric])
    differences = np.mean(values, axis=0)
    resampled = np.mean(drawn, axis=0) if len(drawn) == len(values) else None
    fewest = min(examples) if resampled is not None else 0
    by_seed = dict(zip(seeds, differences.mean(axis=1).tolist(), strict=True))
    ends = interval(differences, resampled, fewest) if len(seeds) > 1 else None
    if ends is None:
        return by_seed, None
    mean, half = float(differences.mean()), (ends.high - ends.low) / 2
    # In standard errors of the seeds, as if all of the width came from them: a little too large where examples are few.
    error = half / t_quantile(len(seeds) - 1, LEVEL)
    p = p_value(differences, resampled, fewest)
    return by_seed, Paired(mean, ends.low, ends.high, p, error * detectable_errors(len(seeds)))


def _common(
    rows: Collection[tuple[str, str, int]], tasks: Sequence[str], models: Sequence[Mapping[int, str]]
) -> tuple[list[int], list[int]]:
    """Returns the pre-training and the fine-tuning seeds of which all models have all tasks.

    Where cells have failed there is more than one choice, fewer of the ones or of the others: the one that keeps most.

    Args:
      rows: (weights, task, fine-tuning seed) of what there is.
      tasks: their names.
      models: {pre-training seed: weights} of each.
    """
    whole: dict[int, frozenset[int]] = {}
    for seed in sorted(set.intersection(*map(set, models))):
        each = [{tuning for own, of, tuning in rows if (own, of) == (m[seed], task)} for m in models for task in tasks]
        whole[seed] = frozenset(set.intersection(*each)) if each else frozenset()
    choices: set[frozenset[int]] = set()
    for has in whole.values():  # all intersections of some of them
        choices |= {has, *(has & other for other in choices)}
    kept = [([seed for seed, has in whole.items() if has >= choice], sorted(choice)) for choice in choices if choice]
    # Of one pre-training nothing can be told; of as many cells rather more pre-trainings.
    return max(
        kept, key=lambda both: (len(both[0]) > 1, len(both[0]) * len(both[1]), len(both[0]), both), default=([], [])
    )


def _signed(scores: Mapping, terms: Sequence[tuple[Mapping[int, str], int]], seeds, tunings) -> np.ndarray:
    """Returns float[P, F, ...]: points of per cent."""
    each = [
        sign * np.array([[scores[models[seed], tuning] for tuning in tunings] for seed in seeds])
        for models, sign in terms
    ]
    return 100 * np.sum(each, axis=0)
