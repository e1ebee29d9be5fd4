"""What every source of text gives: input files, each of which yields its documents as often as asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctcd_jax.errors import UserError


@dataclass(frozen=True)
class Document:
    """Text that belongs together; `path` (from the source's root: the same on every machine) and `number` name it."""

    path: str
    number: int
    paragraphs: Sequence[str]


@dataclass
class Reading:
    """One reading of an input file. All that a source reads becomes text here, and what was no text is counted.

    Attributes:
      strict: invalid UTF-8 is an error; else it is replaced and counted.
      lines: lines with text in them (of a table: values) so far.
      invalid_lines: of these, with invalid UTF-8.
      first_invalid: where the first one is, e.g. FILE:LINE.
      share: how much of the file has been read, 0 to 1; only progress bars look at it.
    """

    strict: bool = False
    lines: int = 0
    invalid_lines: int = 0
    first_invalid: str = ""
    share: float = 0.0

    def text(self, value: bytes, place: Callable[[], str]) -> str:
        """Returns `value` as text, without a byte order mark and surrounding white space.

        Args:
          place: says where it is from, e.g. FILE:LINE.

        Raises:
          UserError: for a NUL byte; if strict, for invalid UTF-8.
        """
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            self._invalid(f"not UTF-8 ({error.reason})", place)
            text = value.decode(errors="replace")
        if "\0" in text:
            raise UserError(
                f"{place()}: a NUL byte, which no text has; if it is UTF-16, convert it with `iconv -f UTF-16LE -t"
                " UTF-8`, if it is damaged, repair it or leave it out"
            )
        text = text.removeprefix("\ufeff").strip()
        self.lines += bool(text)
        return text

    def characters(self, text: str, place: Callable[[], str]) -> str:
        """Returns `text` with halves of surrogate pairs replaced: an escape may spell one, and no encoding writes it.

        Raises:
          UserError: for a NUL character and, if strict, for such a half.
        """
        if "\0" in text:
            raise UserError(f"{place()}: a NUL character, which no text has; repair it or leave it out")
        try:
            text.encode()
        except UnicodeEncodeError:
            self._invalid("not UTF-8 (half of a surrogate pair)", place)
            text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return text

    def _invalid(self, problem: str, place: Callable[[], str]) -> None:
        if self.strict:
            raise UserError(f"{place()}: {problem}; convert it, e.g. with iconv, or omit --strict")
        if not self.invalid_lines:
            self.first_invalid = place()
        self.invalid_lines += 1


@dataclass(frozen=True)
class StoredFile:
    """A file on this machine: its name from the source's root, and its `stamp` when the source was opened."""

    name: str
    path: Path
    stamp: str


@dataclass(frozen=True)
class InputFile:
    """What packing never crosses. It is sent to worker processes, so `documents` must be picklable.

    Attributes:
      name: from the source's root.
      size: in bytes as stored, or the nearest to it that is known: parts of a corpus and progress bars go by it.
      stamp: changes when the content does; a part of a corpus is made anew when a stamp in it has changed.
      documents: starts from the beginning each time.
      stored: of the files that the source is read from those that it lists, each being listed once; None where the
        stamp itself is of the content, and not of a file's time.
    """

    name: str
    size: int
    stamp: str
    documents: Callable[[Reading], Iterator[Document]]
    stored: Sequence[StoredFile] | None = None


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
    return [line for line in map(str.strip, text.replace("\r", "\n").split("\n")) if line]
