"""A part of a corpus, the unit of parallel and resumable work: a few neighbouring input files, in two stages.

`read_part`        input files -> sentences, kept and clean, in a compressed text file; held-out documents; their counts
`rows.write_part`  that text file -> rows of token ids

The result of a stage is a directory that appears under its name when it is complete. The name is a hash of all that
the result depends on, so whoever finds it there need not make it again, whatever process or machine made it.
"""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import zstandard

from ctcd_jax.data.hashing import hash64, portable
from ctcd_jax.data.recipe import SENTENCES, Recipe
from ctcd_jax.data.sentences import Sampling, document_sentences
from ctcd_jax.data.sources import Document, InputFile, Reading, Source
from ctcd_jax.data.tasks import Progress
from ctcd_jax.data.validation import HeldOut, ValidationPool
from ctcd_jax.files import writing_directory

PART_BYTES = 2**22
"""Input files are taken together until a part has this many bytes, as stored."""

MAX_VALIDATION_SENTENCES = 20_000

_FILE_END = "\f"  # a line of its own; a blank line ends a document; no sentence holds either


@dataclass(frozen=True)
class PartFile:
    """An input file, its place (source, file) by number, and what its source says about it."""

    place: tuple[int, int]
    file: InputFile
    share: float
    sentence_lines: bool


@dataclass(frozen=True)
class Part:
    """`key` names the result of reading it; if `bound` is given, the first with a draw below it is held out alone."""

    key: str
    files: Sequence[PartFile]
    bound: int | None = None

    @property
    def size(self) -> int:
        """In bytes as stored, or nearly."""
        return sum(part.file.size for part in self.files)

    def holding_out_one_below(self, bound: int) -> "Part":
        """Returns the part for which `bound`, and not the recipe, says what is held out, and that it is one alone."""
        return replace(self, key=f"read-{hash64(self.key, bound):016x}", bound=bound)


def plan_parts(sources: Sequence[Source], recipe: Recipe) -> list[Part]:
    """Returns the parts in the order of the input. They depend on the input and the recipe alone."""
    asked = (
        "read",
        importlib.metadata.version("sentencex"),
        recipe.seed,
        recipe.every,
        recipe.validation,
        recipe.validation_by,
        recipe.language,
        recipe.min_characters,
        recipe.max_characters,
    )
    parts, files = [], []

    def finish_part() -> None:
        if files:
            # The whole SPEC: `field=` or `name=` decide what is read of the very same file.
            specs = [portable(sources[f.place[0]].spec) for f in files]
            known = [item for f in files for item in (*f.place, f.file.name, f.file.stamp, f.share, f.sentence_lines)]
            known += specs
            parts.append(Part(f"read-{hash64(*map(str, asked), *map(str, known)):016x}", tuple(files)))
            files.clear()

    for s, source in enumerate(sources):
        for f, file in enumerate(source.files):
            files.append(PartFile((s, f), file, source.share, source.sentence_lines))
            if sum(part.file.size for part in files) >= PART_BYTES:
                finish_part()
    finish_part()
    return parts


def read_part(directory: Path, part: Part, recipe: Recipe, strict: bool, progress: Progress) -> None:
    """Reads a part into `directory/KEY`, unless it is there.

    Args:
      directory: of all parts.
      part: the input files.
      recipe: which of their sentences are kept.
      strict: whether invalid UTF-8 is an error.
      progress: counts the units and sentences that have been read.

    Raises:
      UserError: a file that cannot be read; with `strict`, one with invalid UTF-8.
    """
    if (directory / part.key).is_dir():
        return
    with writing_directory(directory / part.key) as partial:
        reader = _Reader(recipe, part.bound)
        hashes = []
        with zstandard.open(partial / "sentences.zst", "wb") as text:
            for part_file in part.files:
                for sentences in reader.training_documents(part_file, strict, progress):
                    text.write("".join(f"{sentence}\n" for sentence in (*sentences, "")).encode())
                    hashes.append(np.fromiter(map(sentence_hash, sentences), np.uint64, len(sentences)))
                text.write(f"{_FILE_END}\n".encode())
        np.save(partial / "hashes.npy", np.concatenate([np.empty(0, np.uint64), *hashes]))
        counts = {
            "bytes": {name: (partial / name).stat().st_size for name in ("sentences.zst", "hashes.npy")},
            "sources": {str(source): counts for source, counts in reader.sources.items()},
            "invalid": reader.invalid,
            "training": reader.training,
            "dropped": reader.dropped,
            "smallest_draw": reader.smallest_draw,
            "pool": reader.pool.to_json(),
        }
        (partial / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def sentence_hash(sentence: str) -> int:
    """Returns the hash by which two sentences count as equal, their case apart."""
    return hash64(sentence.lower())


def is_whole(directory: Path, part: Part) -> bool:
    """Whether what `read_part` left is all there: a power cut may leave files that are cut short, or empty."""
    place = directory / part.key
    try:
        counts = json.loads((place / "counts.json").read_text(encoding="utf-8"))
        return all((place / name).stat().st_size == size for name, size in counts["bytes"].items())
    except (OverflowError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


class ReadPart:
    """What `read_part` left.

    Attributes:
      part: of which it is the result.
      sources: {source by number: Counter of documents, sentences, kept, lines, invalid_lines}.
      invalid: (source by number, input file, its lines of invalid UTF-8, where the first is) of each file with such.
      training: Counter of documents and sentences, before duplicates are dropped.
      dropped: Counter of sentences by reason.
      smallest_draw: of what could be held out and is not, or None.
      pool: the held-out documents.
    """

    def __init__(self, directory: Path, part: Part):
        self.part = part
        self._directory = directory / part.key
        counts = json.loads((self._directory / "counts.json").read_text(encoding="utf-8"))
        self.sources = {int(source): Counter(found) for source, found in counts["sources"].items()}
        self.invalid = [tuple(found) for found in counts["invalid"]]
        self.training, self.dropped = Counter(counts["training"]), Counter(counts["dropped"])
        self.smallest_draw: int | None = counts["smallest_draw"]
        self.pool = ValidationPool.from_json(counts["pool"])

    @cached_property
    def hashes(self) -> np.ndarray:
        """uint64[n], mapped: `sentence_hash` of each training sentence, in order."""
        return np.load(self._directory / "hashes.npy", mmap_mode="r" if self.training["sentences"] else None)

    def files(self, duplicate: np.ndarray | None = None) -> Iterator[Iterator[list[str]]]:
        """Yields for each input file its training documents, each the list of its sentences.

        `duplicate`, bool[n], says which sentences to leave out. A file's documents must be taken before the next file.
        """
        with zstandard.open(self._directory / "sentences.zst", "rt", encoding="utf-8", newline="\n") as text:
            lines = (line[:-1] for line in text)
            kept = None if duplicate is None else iter(~duplicate)
            for first in lines:
                yield self._documents(first, lines, kept)

    @staticmethod
    def _documents(line: str, lines: Iterator[str], kept: Iterator[bool] | None) -> Iterator[list[str]]:
        sentences = []
        while line != _FILE_END:
            if line:
                if kept is None or next(kept):
                    sentences.append(line)
            elif sentences:
                yield sentences
                sentences = []
            line = next(lines)


class _Reader:
    """Turns documents into clean, sampled sentences of one of the splits, and counts."""

    def __init__(self, recipe: Recipe, bound: int | None):
        self._recipe = recipe
        self._sampling = Sampling(recipe.seed, recipe.every, recipe.validation, bound)
        self.sources: dict[int, Counter[str]] = {}
        self.invalid: list[tuple[int, str, int, str]] = []
        self.smallest_draw: int | None = None
        self._at_most_one = bound is not None
        self.training: Counter[str] = Counter(documents=0, sentences=0)
        self.dropped: Counter[str] = Counter()
        self.pool = ValidationPool(MAX_VALIDATION_SENTENCES)

    def training_documents(self, part_file: PartFile, strict: bool, progress: Progress) -> Iterator[list[str]]:
        """Yields the kept sentences of each document that are not held out, if there are any."""
        reading, source = Reading(strict), part_file.place[0]
        counts = self.sources.setdefault(source, Counter(documents=0, sentences=0, kept=0))
        before = progress.done
        for d, document in enumerate(part_file.file.documents(reading)):
            sentences = list(document_sentences(document, self._recipe.language, part_file.sentence_lines))
            kept = [(i, s) for i, s in enumerate(sentences) if self._keeps(document, i, s, part_file.share)]
            counts.update(documents=1, sentences=len(sentences), kept=len(kept))
            progress.at(before + part_file.file.size * reading.share, len(sentences))
            if training := self._not_held_out(document, (*part_file.place, d), kept):
                self.training.update(documents=1, sentences=len(training))
                yield training
        counts.update(lines=reading.lines, invalid_lines=reading.invalid_lines)
        if reading.invalid_lines:
            self.invalid.append((source, part_file.file.name, reading.invalid_lines, reading.first_invalid))
        progress.at(before + part_file.file.size)

    def _not_held_out(
        self, document: Document, place: tuple[int, ...], sentences: Sequence[tuple[int, str]]
    ) -> list[str]:
        """Offers what is held out to the pool, and returns the rest of the (number, sentence)s."""
        if self._recipe.validation_by == SENTENCES:
            units = [(number, (*place, number), [sentence]) for number, sentence in sentences]
        else:
            units = [(None, place, [sentence for _, sentence in sentences])] if sentences else []
        rest = []
        for number, unit, texts in units:
            draw = self._sampling.holdout_draw(document, number)
            # Files of one name in two sources have the same draws.
            if self._sampling.holds_out(document, number) and not (self._at_most_one and self.pool.documents()):
                self.pool.offer(draw, HeldOut(unit, texts))
            else:
                rest += texts
                self.smallest_draw = draw if self.smallest_draw is None else min(draw, self.smallest_draw)
        return rest

    def _keeps(self, document, number: int, sentence: str, share: float) -> bool:
        if len(sentence) < self._recipe.min_characters:
            self.dropped["too_few_characters"] += 1
        elif self._recipe.max_characters is not None and len(sentence) > self._recipe.max_characters:
            self.dropped["too_many_characters"] += 1
        elif not self._sampling.keeps(document, number, share):
            self.dropped["not_sampled"] += 1
        else:
            return True
        return False
