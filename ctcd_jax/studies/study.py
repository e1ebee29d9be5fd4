"""`ctcd study`: arms x seeds -> models, differences, a verdict for every claim, and a page."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ctcd_jax import __version__
from ctcd_jax.artifacts.studies import (
    CURVE,
    CURVES_CSV,
    FINISHED,
    LOCK,
    MODELS_CSV,
    PAGE,
    SCORES_CSV,
    STUDY,
    STUDY_FORMAT,
    ModelRow,
    ScoreRow,
    StudyFacts,
    as_rows,
    read_finished,
)
from ctcd_jax.data import Corpus
from ctcd_jax.errors import Stopped, UserError, warn
from ctcd_jax.files import locked, write_json, write_whole
from ctcd_jax.runtime.stopping import stops_between
from ctcd_jax.studies.analysis import arm_facts, claim_facts, compared, model_rows, waiting
from ctcd_jax.studies.cells import Matrix, finished, is_settled
from ctcd_jax.studies.corpora import prepare_corpora
from ctcd_jax.studies.definition import Study
from ctcd_jax.studies.downstream import Scores, check_data, check_folders, scored
from ctcd_jax.studies.loading import load_study
from ctcd_jax.studies.page import Curves, study_page
from ctcd_jax.studies.plan import plan_study
from ctcd_jax.studies.running import State, look, run_missing
from ctcd_jax.studies.tables import claims_text

Log = Callable[[str], None]


def study(
    spec: str,
    out: str | Path,
    texts: Mapping[str, str],
    data: Mapping[str, str] = MappingProxyType({}),
    seeds: int | None = None,
    changes: Sequence[str] = (),
    share: tuple[int, int] = (0, 1),
    jobs: int = 1,
    elsewhere: Sequence[str | Path] = (),
    plan: bool = False,
    log: Log = print,
    warn: Log = warn,
) -> StudyFacts | None:
    """Runs what is missing of a study and writes what comes of it into OUT/NAME; returns the content of study.json.

    Runs and corpora lie beside it, below OUT/cells and OUT/corpora, known by their content: studies that share `out`
    share them, and whatever was killed goes on where it was.

    Args:
      spec: FILE[:SIZE], see `load_study`.
      out: the directory that studies share.
      texts: {name: SPEC of `ctcd prepare`}, of all that the study asks for.
      data: {name: place}, of all data sets and models that the study asks for.
      seeds: of pre-training, instead of the study's own number.
      changes: `--config.FIELD=VALUE`, set in every arm.
      share: (i, n): run every n-th seed alone, from the i-th.
      jobs: runs at once, in processes that share the devices; 0: one, in this process, to be debugged.
      elsewhere: folders of studies, OUT/NAME, whose finished runs are taken as they are.
      plan: say what there is to run and what it would cost, and return None.
      log, warn: take a line.

    Raises:
      UserError: something in the study or an argument does not do.
      Stopped: on request; what is finished is kept.
    """
    name, described = load_study(spec)
    if seeds is not None:
        described = replace(described, seeds=seeds)
    check_data(described, data)
    scores_here = not (plan or share[0])  # once is enough: all shares see the same models
    if scores_here:
        check_folders(described, data)
    out = Path(out)
    if elsewhere and described.scores:
        raise UserError("--finished: this study scores its models, so all its runs have to be made here")
    known = read_finished(map(Path, elsewhere))
    corpora = prepare_corpora(described, texts, data, out, log, warn)

    def make(chosen: Mapping) -> Matrix:
        return Matrix(described, out, corpora, data, changes, chosen, known)

    state = look(described, make)
    if known:
        taken = sum(cell.elsewhere is not None for cell in state.runs)
        log(f"{taken} of {len(known)} runs that are finished elsewhere are this study's, and are taken from there")
    if plan:
        plan_study(described, state, log)
        return None
    place = out / name
    place.mkdir(parents=True, exist_ok=True)
    index, count = share
    part = f" (share {index}/{count})" if count > 1 else ""
    with locked(place / f"{LOCK}-{index}", f"{place}{part}", warn=warn), stops_between(_STOPPED) as check:
        try:
            state = run_missing(described, make, state, share, jobs, check, log)
        except Stopped:  # what is finished can be looked at
            if not described.scores:  # else what was scored before would be gone from the page
                _write(place, name, described, texts, corpora, look(described, make), Scores(), changes)
            raise
    scores = Scores()
    if described.scores and not scores_here:
        facts = None
        log(f"{place}: share 0 scores the models and writes what comes of them; run it when all others are done")
    else:
        scores = scored(described, [cell for cell, _ in compared(state)], data, place, log, warn)
        facts = _write(place, name, described, texts, corpora, state, scores, changes)
        log(f"{claims_text(facts)}\n{place}: {PAGE}, {STUDY}, {FINISHED}, {MODELS_CSV}, {SCORES_CSV}, {CURVES_CSV}")
    missing = [cell for cell in state.runs if not is_settled(cell)]
    if failed := [state.failed[cell.key] for cell in missing if cell.key in state.failed]:
        raise UserError(
            f"{len(failed)} of {len(state.runs)} runs failed, the first: {failed[0]}; see the logs below {out}, then "
            "run the same command again"
        )
    if scores.failed:
        raise UserError(scores.failed[0])
    if missing:
        log(f"{len(missing)} runs are left to other shares, or wait for them: when they are done, run it again")
    elif blocked := waiting(described, state):
        name, why = next(iter(blocked.items()))
        raise UserError(f"arms.{name}: {why}; no setting can be chosen, give it others")
    return facts


_STOPPED = "stopped on request; the finished runs are kept, run the same command again to go on"


def _write(
    place: Path,
    name: str,
    described: Study,
    texts: Mapping[str, str],
    corpora: Mapping[str, Corpus],
    state: State,
    scores: Scores,
    changes: Sequence[str],
) -> StudyFacts:
    rows = model_rows(described, state, corpora)
    arms = arm_facts(described, state)
    known = [found for cell in state.runs if (found := finished(cell))]
    splits = {each: corpus.manifest["splits"] for each, corpus in corpora.items()}
    facts: StudyFacts = {
        "format": STUDY_FORMAT,
        "name": name,
        "title": described.title,
        "note": described.note,
        "seeds": described.seeds,
        "texts": {each: _without_folders(spec) for each, spec in texts.items()},
        "corpora": {
            each: {
                "hash": corpus.content_hash,
                "train_tokens": splits[each]["train"]["tokens"],
                "validation_tokens": splits[each]["validation"]["tokens"],
            }
            for each, corpus in corpora.items()
        },
        "evaluations": list(described.evaluations),
        "arms": arms,
        "waiting": waiting(described, state),
        "claims": claim_facts(described, rows, scores, arms),
        "cells": {f"{cell.arm}/seed-{cell.seed}": cell.key for cell in state.cells if cell.trial is None},
        "devices": sorted({f"{found['devices']} x {found['device']}, {found['dtype']}" for found in known}),
        "version": __version__,
    }
    if changes:
        facts["changes"] = list(changes)
    curves = _curves(state)
    write_json(place / STUDY, facts)
    write_whole(place / FINISHED, "".join(json.dumps(found) + "\n" for found in known))
    write_whole(place / MODELS_CSV, _csv(as_rows(rows, ModelRow)))
    write_whole(place / SCORES_CSV, _csv(as_rows(scores.rows, ScoreRow)))
    points = [
        [*model.split("#"), seed, step, loss]
        for model, of_seeds in curves.items()
        for seed, line in of_seeds.items()
        for step, loss in line
    ]
    write_whole(place / CURVES_CSV, _csv([CURVE, *points]))
    write_whole(place / PAGE, study_page(facts, rows, scores.rows, curves))
    return facts


def _without_folders(spec: str) -> str:
    """Returns a SPEC with the last part of its path alone: where it lies is nobody's concern who reads of a study."""
    kind, _, place = spec.partition(":")
    return f"{kind}:{os.path.basename(place.rstrip('/'))}"


def _curves(state: State) -> Curves:
    curves: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for cell, facts in compared(state):
        for member in cell.trained:
            points = [(line["step"], line["members"][member]["hard"]) for line in facts["validation"]]
            curves.setdefault(f"{cell.arm}#{member}", {})[cell.seed] = points
    return curves


def _csv(rows: Sequence[Sequence]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
