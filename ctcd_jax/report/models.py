"""Which models a report is about: the same weights are one model, whatever exports, scores and timings call it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.exports import free_name
from ctcd_jax.artifacts.facts import Facts
from ctcd_jax.artifacts.reading import Export, Run
from ctcd_jax.artifacts.scoring import Evaluation


@dataclass
class Model:
    """An exported model, one that was only measured here, or a member of a run that has no export.

    Attributes:
      name: distinct on the page.
      weights: SHA-256 (hex) of its files; None for a run's member, and where no file says.
      export: None where there is none below the directories.
      run, member: which run's member it is, as the page calls the run; None where that is not known.
      step: at which it was only evaluated, where no export is of it; None: the run's last, or the export's.
      tuned_as: {folder of results: what it is called there}.
      timed_as: {folder of latencies: what it is called there}.
      parameters: SHA-256s (hex) under which evaluation.jsonl knows it.
    """

    name: str
    weights: str | None = None
    export: Export | None = None
    run: str | None = None
    member: str | None = None
    step: int | None = None
    tuned_as: dict[str, str] = field(default_factory=dict)
    timed_as: dict[str, str] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)

    @property
    def is_at_a_step(self) -> bool:
        """Whether it is a member of a run at another step than its last, that no export is of."""
        return self.weights is None and self.run is not None and self.step is not None

    @property
    def is_member(self) -> bool:
        """Whether it is no more than a member of a run, at its last step: nothing to be deployed as it lies there."""
        return self.weights is None and self.run is not None and self.step is None


def find_models(artifacts: Artifacts) -> list[Model]:
    """Returns the models of everything found: exports, what was only measured, members without an export."""
    found = _Found()
    for name, export in artifacts.exports.items():
        model = found.model(name, export.weights, "")
        model.export = export
        if export.facts:
            model.run, model.member = _origin(export.facts, artifacts.runs), export.facts["member"]
    for folder, results in artifacts.results.items():
        for row in results.rows:
            found.model(row["model"], row.get("weights"), folder).tuned_as[folder] = row["model"]
    for folder, content in artifacts.latencies.items():
        for entry in content["models"]:
            found.model(entry["name"], entry.get("weights"), folder).timed_as[folder] = entry["name"]
    for folder, scores in artifacts.probes.items():
        for score in scores:
            found.model(score["model"], score["weights"], folder)
    exported = {(model.run, model.member) for model in found.models}
    members = [
        Model(f"{name}#{member}", run=name, member=member)
        for name, run in artifacts.runs.items()
        for member in run.config["members"]
        if (name, member) not in exported
    ]
    others: list[Model] = []  # members at a step that no export is of and that is not their run's end
    for folder, lines in artifacts.evaluations.items():
        for line in lines:
            own = found.model(line["model"], line["weights"], folder) if line["weights"] else None
            again = (model for model in others if line["parameters"] in model.parameters)
            model = own or next(again, None) or _evaluated(line, artifacts.runs, [*found.models, *members])
            if model is None:
                run, member = _run_of(line, artifacts.runs), line["path"].rpartition("#")[2]
                name = f"{run}#{member}@{line['step']}" if run and line.get("step") else line["model"]
                taken = {other.name for other in others}
                name = free_name(f"{folder}/{name}" if name in taken else name, taken)
                model = Model(name, run=run, member=member, step=line.get("step"))
                others.append(model)
            model.parameters.add(line["parameters"])
    return found.named() + members + others


class _Found:
    """Models by their weights; where either side does not say which they are, the name decides."""

    def __init__(self):
        self.models: list[Model] = []
        self._folders: list[str] = []

    def model(self, name: str, weights: str | None, folder: str) -> Model:
        for model in self.models:
            both = weights and model.weights
            if model.weights == weights if both else model.name == name:
                model.weights = model.weights or weights
                return model
        self.models.append(Model(name, weights))
        self._folders.append(folder)
        return self.models[-1]

    def named(self) -> list[Model]:
        """Returns the models, those that share a name called by what tells them apart."""
        shared = Counter(model.name for model in self.models)
        for model, folder in zip(self.models, self._folders, strict=True):
            if shared[model.name] > 1 and folder:
                model.name = f"{folder}/{model.name}"
        shared = Counter(model.name for model in self.models)
        for model in self.models:
            if shared[model.name] > 1 and model.weights:
                model.name += f" ({model.weights[:8]})"
        return self.models


def _origin(facts: Facts, runs: Mapping[str, Run]) -> str | None:
    """The run that an export is of, by all that its ctcd.json says of it; None where there is not exactly one."""
    fitting = [name for name, run in runs.items() if _fits(facts, run)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(facts: Facts, run: Run) -> bool:
    config, training, held_out = run.config, facts["training"], facts.get("held_out")
    resolved = config.get("resolved", {})
    same = [run.folder == facts["run"], facts["member"] in config["members"]]
    same += [resolved["corpus_hash"] == facts["corpus"].get("hash")] if training and "corpus_hash" in resolved else []
    same += [config["seed"] == training["seed"]] if training and "seed" in config else []
    if all(same) and held_out and held_out["loss"] is not None:
        lines = [line for line in run.lines("validation") if line["step"] == held_out["step"]]
        figures = [line.get("members", {}).get(facts["member"], {}).get("hard") for line in lines]
        return not figures or held_out["loss"] in figures
    return all(same)


def _evaluated(line: Evaluation, runs: Mapping[str, Run], models: Sequence[Model]) -> Model | None:
    """The model that a line of evaluation.jsonl calls WORKDIR#MEMBER, at its step; None unless there is just one."""
    member = line["path"].rpartition("#")[2]
    names = _runs_of(line, runs)
    fitting = [model for model in models if model.member == member and model.run in names]
    if len(names) > 1:  # the step of a member would tell what its folder's name does not
        fitting = [model for model in fitting if not model.is_member]
    fitting = [model for model in fitting if _is_at(model, line.get("step"), runs)]
    return fitting[0] if len(fitting) == 1 else None


def _runs_of(line: Evaluation, runs: Mapping[str, Run]) -> list[str]:
    """The runs whose folder and member a line of evaluation.jsonl names."""
    workdir, _, member = line["path"].rpartition("#")
    return [
        name
        for name, run in runs.items()
        if workdir and run.folder == PurePath(workdir).name and member in run.config["members"]
    ]


def _run_of(line: Evaluation, runs: Mapping[str, Run]) -> str | None:
    """The one run that a line names; None where there is not exactly one."""
    names = _runs_of(line, runs)
    return names[0] if len(names) == 1 else None


def _is_at(model: Model, step: int | None, runs: Mapping[str, Run]) -> bool:
    """Whether a model is what was evaluated at a step, as far as steps say.

    A member stands for the end of its run. The last validation may be a little before it: a run that is stopped saves.
    """
    if not model.is_member:
        return _step(model) == step
    run = runs[model.run or ""]
    validated = [line["step"] for line in run.lines("validation")]
    return step is None or step >= (validated[-1] if validated else run.config.get("resolved", {}).get("steps", 0))


def _step(model: Model) -> int | None:
    """The step that an export is of; None where it is not known, or of a frozen member."""
    training = model.export.facts["training"] if model.export and model.export.facts else None
    return training["step"] if training else None
