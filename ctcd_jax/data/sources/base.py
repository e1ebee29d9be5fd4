"""What every source of text gives: input files, each of which yields its documents as often as asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ctcd_jax.errors import UserError


@dataclass(frozen=True)
class Document:
    """Text that belongs together; `path` (from the source's root: the same on every machine) and `number` name it."""

    path: str
    number: int
    paragraphs: Sequence[str]


@dataclass
class Reading:
    """One reading of an input file.

    Attributes:
      strict: invalid UTF-8 is an error; else it is replaced and counted.
      invalid_lines: lines with invalid UTF-8 so far.
      share: how much of the file has been read, 0 to 1; only progress bars look at it.
    """

    strict: bool = False
    invalid_lines: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class InputFile:
    """What packing never crosses. It is sent to worker processes, so `documents` must be picklable.

    Attributes:
      name: from the source's root.
      size: in bytes as stored, or the nearest to it that is known: parts of a corpus and progress bars go by it.
      stamp: changes when the content does; a part of a corpus is made anew when a stamp in it has changed.
      documents: starts from the beginning each time.
    """

    name: str
    size: int
    stamp: str
    documents: Callable[[Reading], Iterator[Document]]


@dataclass(frozen=True)
class Source:
    """An opened SPEC.

    Attributes:
      share: each sentence is kept with this probability, apart from `--every`.
      sentence_lines: a line is a sentence, and not to be split.
      details: goes into the manifest.
    """

    spec: str
    files: Sequence[InputFile]
    share: float = 1.0
    sentence_lines: bool = False
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """`KIND:LOCATION[,key=value ...]`, taken apart; errors begin with it as it was written."""

    text: str
    kind: str
    location: str
    keys: Mapping[str, str]

    def error(self, message: str) -> UserError:
        """Returns the one line that says what is wrong with this source."""
        return UserError(f"source '{self.text}': {message}")


def paragraphs(text: str) -> list[str]:
    """Returns the lines of a document's text that are not blank, without the white space around them."""
    return [line for line in map(str.strip, text.split("\n")) if line]
