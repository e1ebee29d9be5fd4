"""What is asked of `ctcd prepare`: all that decides the bytes of a corpus, apart from the text itself."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ctcd_jax.data.packing import PACKERS
from ctcd_jax.errors import UserError, did_you_mean

VOCAB_SIZE = 30_522
MIN_LENGTH = 8


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
      validation: the share of documents held out; of their sentences 20,000 at most are used.
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
    language: str = "en"
    min_characters: int = 1
    max_characters: int | None = None
    max_unknown: float = 1.0
    deduplicate: bool = False

    def __post_init__(self):
        if not self.sources:
            raise UserError("--source: give at least one, e.g. --source 'text:DIR/*.txt.xz'")
        if self.packing not in PACKERS:
            raise UserError(f"--packing: unknown {self.packing!r}{did_you_mean(self.packing, PACKERS)}")
        if self.length < MIN_LENGTH:
            raise UserError(f"--length {self.length}: a row needs at least {MIN_LENGTH} tokens")
        if self.every < 1:
            raise UserError(f"--every {self.every}: give 1 to keep every sentence, k to keep one in k")
        if not 0 < self.validation < 1:
            raise UserError(f"--validation {self.validation}: give a share of the documents between 0 and 1, e.g. 0.01")
        if self.tokenizer is not None and self.vocab_size is not None:
            raise UserError("--vocab-size: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.tokenizer is not None and self.cased:
            raise UserError("--cased: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.tokenizer is not None and self.keep_accents:
            raise UserError("--keep-accents: it is for training a tokenizer; leave it out or leave --tokenizer out")
        if self.max_characters is not None and self.max_characters < max(1, self.min_characters):
            raise UserError(f"--max-characters {self.max_characters}: nothing is both this short and long enough")
        if not 0 <= self.max_unknown <= 1:
            raise UserError(f"--max-unknown {self.max_unknown}: give a share of a sentence's tokens between 0 and 1")
        if self.tokenizer is None and self.vocab_size is None:
            object.__setattr__(self, "vocab_size", VOCAB_SIZE)

    @property
    def parts_are_independent(self) -> bool:
        """Whether a part's rows can be written before every other part is read."""
        return self.tokenizer is not None and not self.deduplicate

    def difference(self, recorded: Mapping[str, object]) -> tuple[str, object, object] | None:
        """Returns (field, there, here) of the first field in which a manifest's recipe differs, if there is one."""
        for field in fields(self):
            here = getattr(self, field.name)
            there = recorded.get(field.name, field.default)  # a corpus of an earlier version lacks the newer fields
            if there != (list(here) if isinstance(here, tuple) else here):
                return field.name, there, here
        return None
