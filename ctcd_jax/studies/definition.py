"""A study as data: arms, seeds, what is evaluated, and what is claimed of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ctcd_jax.config.init_spec import split_init, split_member
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.errors import UserError, did_you_mean

ARM_INIT = "arm"  # `init=arm:NAME#MEMBER`: the member of another arm's run of the same seed
TUNING_SEED = 0  # left out of all that is said
HELD_OUT = "held-out"  # the validation rows of the corpus that an arm is trained on
LAST, BEST = "last", "best"  # step at which a member is judged


@dataclass(frozen=True)
class StudyCorpus:
    """A corpus of a study.

    Attributes:
      text: name of the text it is made of, `Study.texts`.
      recipe: fields of `data.recipe.Recipe` but its sources and its tokenizer.
      tokenizer: name of the corpus or of the model (`Study.models`) whose tokenizer it takes; None: it trains its own.
    """

    text: str
    recipe: Mapping[str, Any]
    tokenizer: str | None = None


@dataclass(frozen=True)
class Arm:
    """What is compared: a config, changed.

    Attributes:
      config: FILE[:PRESET], as for `ctcd train --config`.
      corpus: name of the corpus it is trained on.
      fields: of the config, {dotted name: value}; an init may be arm:NAME#MEMBER[@best], or hf:NAME of `Study.models`.
      tune: {dotted name, or several with commas: values}: all combinations are tried on `TUNING_SEED`, and the one with
        the lowest held-out loss of `judged` at its best step is taken for all other seeds.
      judged: the member that tuning looks at; None where the arm trains one.
      compute_of: name of an arm: this one is given as many steps as make both cost the same in all, as planned.
    """

    config: str
    corpus: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    tune: Mapping[str, tuple] = field(default_factory=dict)
    judged: str | None = None
    compute_of: str | None = None

    @property
    def teachers(self) -> tuple[tuple[str, str], ...]:
        """The arms whose members this one starts from, with these members: MEMBER or MEMBER@best."""
        inits = [value for name, value in self.fields.items() if name.startswith("members.") and name.endswith(".init")]
        return tuple((arm, detail) for kind, arm, detail in map(split_init, inits) if kind == ARM_INIT)

    @property
    def needs(self) -> tuple[str, ...]:
        """The arms that have to be known before this one: its teachers, and the one whose compute it is given."""
        return (*(arm for arm, _ in self.teachers), *filter(None, [self.compute_of]))


@dataclass(frozen=True)
class Pairs:
    """Minimal pairs, which every model is asked about without fine-tuning.

    Attributes:
      meaning: what the folder is to hold, in words.
      first: so many pairs of each paradigm; None: all.
    """

    meaning: str
    first: int | None = None


@dataclass(frozen=True)
class Tasks:
    """Tasks that every model is fine-tuned on.

    Attributes:
      meaning: what the folder is to hold, in words.
      tasks: their names.
      seeds: of fine-tuning.
      options: fields of `evaluation.finetune.GlueOptions`.
    """

    meaning: str
    tasks: tuple[str, ...]
    seeds: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """That one model is better than others.

    Attributes:
      says: the claim, in words.
      better: ARM#MEMBER.
      than: ARM#MEMBER, each compared by itself: e.g. at equal tokens and at equal compute.
      beyond: (ARM#MEMBER, ARM#MEMBER): not the difference itself counts, but by how much it exceeds that of these two.
      on: what the verdict is about, `HELD_OUT`, the name of a corpus, or of what models are scored on (`LAST` alone).
      at: `LAST` or `BEST`, the step of each run at which its held-out loss was lowest.
      paper: the paper's number for it, e.g. "+1.06 GLUE".
    """

    says: str
    better: str
    than: tuple[str, ...]
    beyond: tuple[str, str] | None = None
    on: str = HELD_OUT
    at: str = LAST
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question, and what has to be run to answer it. Raises UserError, in one line, for what does not fit together.

    Attributes:
      title: the question.
      texts: {name: what it is to be, in words}; whoever runs the study says where it lies.
      corpora: by name, those that others take the tokenizer of first.
      evaluations: names of the corpora that everything is evaluated on, beside the held-out rows of its own.
      arms: by name.
      claims: in the order in which they are told.
      scores: {name: what models are scored on beside losses}; whoever runs the study says where it lies.
      models: {name: which pre-trained model it is to be, in words}; whoever runs the study says where it lies.
      seeds: of pre-training, 1 to this number.
      note: what else a reader should know.
    """

    title: str
    texts: Mapping[str, str]
    corpora: Mapping[str, StudyCorpus]
    evaluations: tuple[str, ...]
    arms: Mapping[str, Arm]
    claims: tuple[Claim, ...]
    seeds: int = 5
    note: str = ""
    scores: Mapping[str, Pairs | Tasks] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, str]:
        """What whoever runs it says the place of, beside texts: {name: what it is to be}."""
        return {name: asked.meaning for name, asked in self.scores.items()} | dict(self.models)

    def __post_init__(self):
        if self.seeds < 2:
            raise UserError(f"seeds: {self.seeds}; at least 2, or nothing can be said of chance")
        known_fields = {field.name for field in fields(Recipe)} - {"sources", "tokenizer"}
        earlier: list[str] = []
        for name, corpus in self.corpora.items():
            _known(f"corpora.{name}.text", corpus.text, self.texts)
            for key in corpus.recipe:
                _known(f"corpora.{name}.recipe", key, known_fields)
            if corpus.tokenizer is not None:
                _known(f"corpora.{name}.tokenizer", corpus.tokenizer, [*earlier, *self.models])
            earlier.append(name)
        for name in self.evaluations:
            _known("evaluations", name, self.corpora)
        for name, arm in self.arms.items():
            _known(f"arms.{name}.corpus", arm.corpus, self.corpora)
            for other in arm.needs:
                _known(f"arms.{name}", other, self.arms)
            for _, detail in arm.teachers:
                if isinstance(split_member(detail)[1], int):  # a run is not known by what it keeps
                    raise UserError(f"arms.{name}: '{detail}': of every run the last step and '@best' alone are kept")
            self._require_order(name, ())
        for number, claim in enumerate(self.claims):
            if not claim.than:
                raise UserError(f"claims[{number}].than: names nothing that '{claim.better}' is compared with")
            if claim.beyond is not None and len(claim.beyond) != 2:
                raise UserError(f"claims[{number}].beyond: {len(claim.beyond)} models; it is the difference of two")
            for model in (claim.better, *claim.than, *(claim.beyond or ())):
                if "#" not in model:
                    raise UserError(f"claims[{number}]: '{model}' names no member; write ARM#MEMBER")
                _known(f"claims[{number}]", model.partition("#")[0], self.arms)
            _known(f"claims[{number}].on", claim.on, (HELD_OUT, *self.evaluations, *self.scores))
            _known(f"claims[{number}].at", claim.at, (LAST,) if claim.on in self.scores else (LAST, BEST))

    def _require_order(self, name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UserError(
                f"arms.{name}: {' -> '.join([*above, name])} leads in a circle; let one start from elsewhere"
            )
        for other in self.arms[name].needs:
            if other in self.arms:
                self._require_order(other, (*above, name))


def _known(place: str, name: str, known: Iterable[str]) -> None:
    if name not in (names := list(known)):
        raise UserError(f"{place}: there is no '{name}'{did_you_mean(name, names)}")
