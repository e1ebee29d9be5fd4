"""What a run says of itself before its first step, and after its last."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import jax
from jax.sharding import Mesh

from ctcd_jax.artifacts.runs import MetricLine, schedule_words
from ctcd_jax.artifacts.scoring import frequencies_beside
from ctcd_jax.config import Experiment
from ctcd_jax.data import Corpus, TrainBatches
from ctcd_jax.distill import Edge
from ctcd_jax.models.registry import parameter_count
from ctcd_jax.text_tables import counted


def describe_run(experiment: Experiment, corpus: Corpus, batches: TrainBatches, mesh: Mesh) -> list[str]:
    """Returns a line for every member, one for the edges, and one for the corpus and the machine.

    Args:
      experiment: of the run.
      corpus: that it reads.
      batches: of that corpus.
      mesh: that it trains on.
    """
    steps = experiment.train.steps
    return [
        *describe_members(experiment),
        f"corpus {corpus.directory}: {corpus.rows('train'):,} rows; {steps:,} steps of "
        f"{experiment.batch_size} rows = {epochs(steps, batches)}; "
        f"{experiment.train.dtype} on {jax.device_count()} x {jax.devices()[0].device_kind}, mesh {dict(mesh.shape)}",
    ]


def describe_members(experiment: Experiment) -> list[str]:
    """Returns a line for every member and one for the edges."""
    lines = []
    for name, model in experiment.models.items():
        kind = "frozen" if name in experiment.cohort.frozen else "trainable"
        lines.append(
            f"{name}: {model.layers} layers, hidden {model.hidden}, {parameter_count(model):,} parameters, {kind}"
        )
    if experiment.cohort.edges:
        lines.append("edges: " + ", ".join(map(_described, experiment.cohort.edges)))
    return lines


def _described(edge: Edge) -> str:
    when = schedule_words(asdict(edge))
    return f"{edge.name} x {edge.weight:g}" + (f" ({when})" if when else "")


def epochs(steps: int, batches: TrainBatches) -> str:
    """Returns how often `steps` go through the rows, and what an epoch leaves out."""
    text = f"{steps / batches.steps_per_epoch:.2f} epochs"
    if left := batches.left_out:
        text += f" (each leaves out {left:,} row{'s' if left > 1 else ''}, others every time: they fill no batch)"
    return text


def describe_little_learnt(line: MetricLine, members: Iterable[str], lowest: Mapping[str, float]) -> list[str]:
    """Returns a line for every member that never knew more than word frequencies by much, and what may help.

    Args:
      line: the last validation's.
      members: that were trained.
      lowest: {member: lowest validation loss of the run, nats}. Who was better once has learnt, and overfits.
    """
    lines, known = [], line.get("unigram")
    for name in members:
        loss = line["members"][name].get("hard")
        if loss is None or not frequencies_beside(known, min(loss, lowest.get(name, loss))):
            continue
        lines.append(
            f"'{name}' predicts {frequencies_beside(known, loss)} than word frequencies do ({loss:.3f} of {known:.3f} "
            f"nats) after {counted(line['step'], 'step')}. What may help: more steps, another learning rate, or a "
            "longer warm-up (optimizer.warmup_fraction)"
        )
    return lines
