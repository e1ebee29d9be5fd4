"""What a run is asked at every evaluation: the validation rows of its corpus, and those of other corpora."""

import math
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
from jax.sharding import Mesh

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.runs import CorpusFigures, MetricLine
from ctcd_jax.config import Experiment
from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.distill.objective import Terms
from ctcd_jax.errors import UserError
from ctcd_jax.training.masking import Masker
from ctcd_jax.training.metrics import record
from ctcd_jax.training.run import open_corpus
from ctcd_jax.training.sharding import place_rows
from ctcd_jax.training.step import make_evaluation
from ctcd_jax.training.validation_masks import unigram_loss


def open_others(experiment: Experiment, corpus: Corpus) -> dict[str, Corpus]:
    """Opens the corpora of `evaluation.corpora`, {last part of its directory: corpus}. All processes call it.

    Args:
      experiment: of the run.
      corpus: that it is trained on.

    Raises:
      UserError: one is not there or damaged, was prepared with another tokenizer, or has rows too long for a member; or
        two are called the same.
    """
    others: dict[str, Corpus] = {}
    for place in experiment.evaluation_corpora:
        name = os.path.basename(os.path.abspath(place))
        if name in others:
            raise UserError(f"evaluation.corpora: {others[name].directory} and {place} are both called '{name}'; "
                            "rename or link one")  # fmt: skip
        try:
            other = open_corpus(place)
        except UserError as error:
            raise UserError(f"evaluation.corpora: {error}") from error
        if other.tokenizer_hash != corpus.tokenizer_hash:
            raise UserError(
                f"evaluation.corpora: the tokenizer of {place} ({other.tokenizer_hash[:12]}) is not that of "
                f"{corpus.directory} ({corpus.tokenizer_hash[:12]}); prepare it with --tokenizer "
                f"{corpus.directory / TOKENIZER}"
            )
        for member, shape in experiment.models.items():
            if shape.max_positions < other.max_length:
                raise UserError(
                    f"evaluation.corpora: {place} has rows of {other.max_length} tokens, and '{member}' has "
                    f"{shape.max_positions} positions; prepare shorter rows with --length"
                )
        others[name] = other
    return others


class HeldOut:
    """The validation rows of a corpus, under masks that depend on nothing but the row."""

    def __init__(self, corpus: Corpus, batch_size: int, mesh: Mesh):
        """Takes `batch_size` rows a batch over all processes."""
        part = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        self._corpus, self._mesh = corpus, mesh
        self._batches = ValidationBatches(corpus, batch_size, **part)

    def batches(self):
        """Yields the batches, on the devices."""
        return (place_rows(self._batches[index], self._mesh) for index in range(len(self._batches)))

    @cached_property
    def unigram(self) -> float | None:
        """What word frequencies alone score, nats; None where nothing is predicted."""
        loss = unigram_loss(self._corpus)
        return loss if math.isfinite(loss) else None


class Evaluation:
    """All that a run is asked.

    Attributes:
      masker: of the rows: always 15 %, chosen uniformly, whatever the run trains with, so that every run answers the
        same questions.
      own: the rows of the run's own corpus.
    """

    def __init__(self, experiment: Experiment, corpus: Corpus, others: Mapping[str, Corpus], mesh: Mesh):
        """Takes `others` as `open_others` returns them."""
        self.masker = Masker(corpus.vocab_size, corpus.special_ids)
        self.own = HeldOut(corpus, experiment.batch_size, mesh)
        self._others = {name: HeldOut(other, experiment.batch_size, mesh) for name, other in others.items()}
        self._cohort, self._steps = experiment.cohort, experiment.train.steps
        self._evaluate = make_evaluation(experiment, self.masker, mesh)

    def line(self, params: Mapping[str, Any], step: int, tokens: int) -> MetricLine:
        """Returns the "validation" line of metrics.jsonl.

        Args:
          params: of all members, and of the edges that own any.
          step: updates done.
          tokens: real ones, cumulative.
        """

        def asked(rows: HeldOut) -> MetricLine:
            terms: Terms = jax.device_get(self._evaluate(params, rows.batches()))
            return {**record("validation", step, tokens, terms, self._cohort, self._steps), "unigram": rows.unigram}

        line = asked(self.own)
        if self._others:
            line["corpora"] = {name: _figures(asked(rows)) for name, rows in self._others.items()}
        return line


def _figures(line: MetricLine) -> CorpusFigures:
    return {"unigram": line.get("unigram"), "members": line["members"]}
