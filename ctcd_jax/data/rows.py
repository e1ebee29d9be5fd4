"""The second stage of a part of a corpus: its sentences -> rows of token ids. As the first, it is done once for all."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ctcd_jax.data.packing import PACKERS, row_lengths
from ctcd_jax.data.parts import Part, ReadPart
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.data.shards import RowFiles, RowWriter
from ctcd_jax.data.tasks import Progress
from ctcd_jax.data.tokenizer import load_tokenizer, special_ids, tokenize, vocabulary_size
from ctcd_jax.files import writing_directory


@dataclass(frozen=True)
class RowTask:
    """How the rows of a part are made.

    Attributes:
      key: names the result.
      tokenizer: a directory.
      duplicates: a file with bool[all training sentences of all parts], or None.
      first: the part's first sentence in it.
    """

    key: str
    part: Part
    tokenizer: Path
    duplicates: Path | None
    first: int


def write_part(directory: Path, task: RowTask, recipe: Recipe, progress: Progress) -> None:
    """Writes the rows of a part that has been read into `directory/KEY`, unless they are there.

    Args:
      directory: of all parts, read and written.
      task: the part, and what its rows are made with.
      recipe: how rows are packed.
      progress: counts the sentences that are done.
    """
    if (directory / task.key).is_dir():
        return
    read = ReadPart(directory, task.part)
    duplicate = None
    if task.duplicates:
        every = np.load(task.duplicates, mmap_mode="r")
        duplicate = np.asarray(every[task.first : task.first + read.training["sentences"]])
    with writing_directory(directory / task.key) as partial:
        files = read.files(duplicate)
        kept, dropped = write_rows(
            partial, files, recipe, task.tokenizer, lambda count: progress.at(progress.done + count, count)
        )
        if duplicate is not None:
            dropped["duplicates"] = int(duplicate.sum())
        counts = {"kept": kept, "dropped": dropped}
        (partial / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def written(directory: Path, task: RowTask) -> tuple[RowFiles, Counter[str], Counter[str]]:
    """Returns the rows that `write_part` left, how many documents and sentences are in them, and what was dropped."""
    counts = json.loads((directory / task.key / "counts.json").read_text(encoding="utf-8"))
    return RowFiles(directory / task.key), Counter(counts["kept"]), Counter(counts["dropped"])


def write_rows(
    directory: Path,
    files: Iterable[Iterable[Sequence[str]]],
    recipe: Recipe,
    tokenizer: Path,
    count: Callable[[int], None] = lambda sentences: None,
) -> tuple[Counter[str], Counter[str]]:
    """Tokenizes and packs the documents of each file into `directory`.

    Returns how many documents and sentences there were, and how many of these were dropped, by reason.

    Args:
      directory: of the part.
      files: of each input file the documents, lists of sentences.
      recipe: how rows are packed.
      tokenizer: its directory.
      count: called with numbers of sentences that are done.
    """
    loaded = _tokenizer(tokenizer)
    specials = special_ids(loaded)
    writer = RowWriter(directory, row_lengths(recipe.packing, recipe.length), vocabulary_size(loaded), specials)
    kept, dropped = Counter(documents=0, sentences=0), Counter()

    def counted(documents: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        for sentences in documents:
            kept.update(documents=1, sentences=len(sentences))
            yield sentences

    for documents in files:
        ids = tokenize(counted(documents), loaded, recipe.max_unknown, dropped, count)
        for row in PACKERS[recipe.packing](ids, recipe.length, specials["cls"], specials["sep"], dropped):
            writer.add(row)
    writer.close()
    return kept, dropped


_tokenizer = lru_cache(maxsize=1)(load_tokenizer)
