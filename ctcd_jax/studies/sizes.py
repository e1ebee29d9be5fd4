"""What the studies of `configs/studies/` have in common: the sizes that each can be run at, their texts and corpora."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.studies.definition import Arm, StudyCorpus

TEXTS = {
    "books": "the text that is trained on, novels for example",
    "novels": "other text of that kind",
    "wiki": "text of another kind",
    "passages": "text of a third kind",
}
TRAIN, VOCABULARY = "train", "vocabulary"
EVALUATIONS = ("novels", "wiki", "passages")


@dataclass(frozen=True)
class Size:
    """A size of studies.

    Attributes:
      preset: of the configs.
      vocabulary: tokens of the tokenizer, which is trained on `vocabulary_every` of the books.
      length: tokens a row.
      every: one sentence in so many is kept, of which half is held out.
      fields: of every arm.
      seeds: of pre-training, in studies with the main claims; `sweep_seeds` in most of the others.
    """

    preset: str
    vocabulary: int
    length: int
    every: int
    vocabulary_every: int
    evaluation_every: int
    fields: Mapping[str, Any]
    seeds: int = 5
    sweep_seeds: int = 3

    def corpora(self, **every: int) -> dict[str, StudyCorpus]:
        """Returns the corpora of a study: the tokenizer's, those to train on, and those of `EVALUATIONS`.

        Args:
          every: {name: one sentence in so many}, of those to train on; none: `TRAIN` alone.
        """
        shared = {"length": self.length}
        held_out = shared | {"validation": 0.5, "validation_by": "sentences"}
        made = {
            VOCABULARY: StudyCorpus("books", shared | {"every": self.vocabulary_every, "vocab_size": self.vocabulary})
        }
        for name, kept in (every or {TRAIN: self.every}).items():
            made[name] = StudyCorpus("books", held_out | {"every": kept}, VOCABULARY)
        for name in EVALUATIONS:
            recipe = held_out | {"every": self.evaluation_every, "validation": 0.9}
            made[name] = StudyCorpus(name, recipe, VOCABULARY)
        return made

    def alone(self, member: str, corpus: str = TRAIN, *, compute_of: str | None = None, **more) -> Arm:
        """Returns the arm of a member that is trained alone.

        Args:
          member: "teacher" or "student".
          corpus: that it is trained on.
          compute_of: see `Arm`.
          more: other fields of `Arm`; its `fields` are added to the size's.
        """
        return self.method("standalone", corpus, suffix=f"-{member}", compute_of=compute_of, **more)

    def method(
        self, config: str, corpus: str = TRAIN, *, edges: int = 0, longer: int = 1, suffix: str = "", **more
    ) -> Arm:
        """Returns the arm of a config, with the edges of Eq. 2 and 4 as printed: weight 1, temperature 1.

        Args:
          config: name of the config.
          corpus: that it is trained on.
          edges: how many edges the config has.
          longer: by how much it is trained longer than the size's other arms.
          suffix: of the preset.
          more: other fields of `Arm`; its `fields` are added to the size's.
        """
        fields = dict(self.fields) | {
            f"train.{name}": longer * value
            for name in ("steps", "epochs")
            if (value := self.fields.get(f"train.{name}"))
        }
        for number in range(edges):
            printed = {"weight": 1.0, "temperature": 1.0, "tau_squared": False}
            fields |= {f"edges[{number}].{name}": value for name, value in printed.items()}
        fields |= more.pop("fields", {})
        return Arm(f"{config}:{self.preset}{suffix}", corpus, fields, **more)


# The paper's corpus is large and seen ten times; what is scarce at `tiny` is its text, which makes its many epochs.
SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "smoke": Size(
            "smoke", 300, 32, 2, 1, 2, {"train.steps": 6, "train.eval_every": 2, "data.batch_size": 8}, 2, 2
        ),
        "tiny": Size(
            "tiny", 4096, 64, 32, 4, 64,
            {"train.steps": 1500, "train.eval_every": 150, "train.checkpoint_every": 150,
             "optimizer.weight_decay": 0.1},
        ),
        "small": Size("small", 30522, 128, 1, 1, 16, {"train.epochs": 10, "train.eval_every": 1000}),
        "paper": Size("paper", 30522, 128, 1, 1, 1, {"train.epochs": 10, "train.eval_every": 5000}),
    }
)  # fmt: skip


def size(name: str) -> Size:
    """Returns a size of `SIZES`. Raises UserError for an unknown one."""
    if name not in SIZES:
        raise UserError(f"no size '{name}'{did_you_mean(name, SIZES)}")
    return SIZES[name]
