"""What is asked of `ctcd prepare`: all that decides the bytes of a corpus, apart from the text itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ctcd_jax.data.hashing import portable
from ctcd_jax.data.packing import PACKERS
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.ranges import COUNT, SHARE, Range

VOCAB_SIZE = 30_522
DOCUMENTS, SENTENCES = "documents", "sentences"

RANGES: Mapping[str, tuple[str, Range]] = {
    "length": ("the tokens of a row", Range(8, 2**15, whole=True)),
    "every": ("1 to keep every sentence, k to keep one in k", COUNT),
    "seed": ("the seed of the draws", Range(0, 2**63 - 1, whole=True)),
    "vocab_size": ("the tokens of the vocabulary to train", Range(1, 2**24, whole=True)),
    "validation": ("a share to hold out, e.g. 0.01", Range(0, 1, above=True, below=True)),
    "min_characters": ("the characters of the shortest sentence to keep", Range(0, whole=True)),
    "max_characters": ("the characters of the longest sentence to keep", Range(0, whole=True)),
    "max_unknown": ("a share of a sentence's tokens", SHARE),
}
"""Of every number: what to give, and which ones do."""


@dataclass(frozen=True)
class Recipe:
    """The arguments of `ctcd prepare`.

    Attributes:
      sources: SPECs, see `ctcd_jax.data.sources`.
      length: ids a row, specials included.
      packing: `sentence`, `packed` or `full`, see `ctcd_jax.data.packing`.
      every: keep one sentence in `every`, each by its own draw.
      seed: of the draws.
      tokenizer: a `vocab.txt`, a tokenizer directory or a hub id; None: one is trained.
      vocab_size: of the tokenizer to train; None: 30,522.
      cased: of the tokenizer to train.
      keep_accents: of the tokenizer to train, if it is not cased; a cased one always keeps them.
      validation: the share held out; of the held-out sentences 20,000 at most are used.
      validation_by: what is held out, `documents`, or single `sentences` where there is but one document or few.
      language: whose rules split paragraphs into sentences, a code such as "de"; English ones for an unknown code.
      min_characters, max_characters: shorter and longer sentences are dropped; max None: no limit.
      max_unknown: a sentence with a larger share of [UNK] among its tokens is dropped.
      deduplicate: of equal sentences (but for case), keep the first in the order of the sources.

    Raises:
      UserError: a value that does not do, named by its option.
    """

    sources: tuple[str, ...]
    length: int = 128
    packing: str = "packed"
    every: int = 1
    seed: int = 0
    tokenizer: str | None = None
    vocab_size: int | None = None
    cased: bool = False
    keep_accents: bool = False
    validation: float = 0.01
    validation_by: str = DOCUMENTS
    language: str = "en"
    min_characters: int = 1
    max_characters: int | None = None
    max_unknown: float = 1.0
    deduplicate: bool = False

    def __post_init__(self):
        if not self.sources:
            raise UserError("--source: give at least one, e.g. --source 'text:DIR/*.txt.xz'")
        for source in self.sources:
            if not isinstance(source, str):
                raise UserError(f"--source {source!r}: give a SPEC such as text:DIR/*.txt.xz")
        for name, allowed in (("packing", PACKERS), ("validation_by", (DOCUMENTS, SENTENCES))):
            value = getattr(self, name)
            if value not in list(allowed):
                raise UserError(f"{_option(name)}: unknown {value!r}{did_you_mean(str(value), allowed)}")
        for name, (what, numbers) in RANGES.items():
            value = getattr(self, name)
            if not (numbers.holds(value) or (value is None and _default(name) is None)):
                raise UserError(f"{_option(name)} {value}: give {what}; it must be {numbers}")
        for name in ("cased", "keep_accents", "deduplicate"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{_option(name)} {getattr(self, name)!r}: it is True or False")
        if not (isinstance(self.language, str) and self.language):
            raise UserError(f"--language {self.language!r}: give a code such as en or de")
        if not isinstance(self.tokenizer, str | None):
            raise UserError(f"--tokenizer {self.tokenizer!r}: give a vocab.txt, a tokenizer directory or a hub id")
        if self.tokenizer is not None and self.vocab_size is not None:
            raise UserError("--vocab-size: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.tokenizer is not None and self.cased:
            raise UserError("--cased: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.tokenizer is not None and self.keep_accents:
            raise UserError("--keep-accents: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.max_characters is not None and self.max_characters < max(1, self.min_characters):
            raise UserError(f"--max-characters {self.max_characters}: nothing is both this short and long enough")
        if self.tokenizer is None and self.vocab_size is None:
            object.__setattr__(self, "vocab_size", VOCAB_SIZE)

    @property
    def parts_are_independent(self) -> bool:
        """Whether a part's rows can be written before every other part is read."""
        return self.tokenizer is not None and not self.deduplicate

    def recorded(self) -> dict[str, Any]:
        """Returns what the manifest holds: the same whatever locale the paths in it were spelt by."""
        values: dict[str, Any] = asdict(self) | {"sources": [portable(source) for source in self.sources]}
        return values | {"tokenizer": self.tokenizer and portable(self.tokenizer)}

    def difference(self, recorded: Mapping[str, object]) -> tuple[str, object, object] | None:
        """Returns (field, there, here) of the first field in which a manifest's recipe differs, if there is one."""
        for name, here in self.recorded().items():
            there = recorded.get(name, _default(name))  # a corpus of an earlier version lacks the newer fields
            if there != here:
                return name, there, here
        return None


def _default(name: str) -> object:
    return next(field.default for field in fields(Recipe) if field.name == name)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
