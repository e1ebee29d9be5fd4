"""The last stage of preparing: sampled sentences -> ids -> packed rows -> shards of both splits."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from tokenizers import Tokenizer

from ctcd_jax.data.packing import PACKERS, row_lengths
from ctcd_jax.data.progress import watch
from ctcd_jax.data.sentences import Sampling
from ctcd_jax.data.shards import ShardWriter
from ctcd_jax.data.sources import InputFile
from ctcd_jax.data.tokenizer import special_ids, vocabulary_size
from ctcd_jax.data.validation import HeldOut

_BATCH_SENTENCES = 4096


def write_rows(
    directory: Path,
    files: Sequence[InputFile],
    held_out: Sequence[HeldOut],
    *,
    sampling: Sampling,
    tokenizer: Tokenizer,
    packing: str,
    length: int,
    dropped: Counter[str],
    log: Callable[[str], None],
) -> dict[str, ShardWriter]:
    """Writes the shards of both splits, and counts what is left out in `dropped`, by reason.

    Training is written first: it tells which held-out sentences are not held out after all.
    """
    specials = special_ids(tokenizer)
    writers = {
        split: ShardWriter(directory, split, row_lengths(packing, length), vocabulary_size(tokenizer), specials["pad"])
        for split in ("train", "validation")
    }

    def write(split: str, documents: Iterable[Sequence[str]]) -> None:
        ids = _tokenized(documents, tokenizer, dropped)
        for row in PACKERS[packing](ids, length, specials["cls"], specials["sep"], dropped):
            writers[split].add(row)

    seen = _Seen({sentence.lower() for document in held_out for sentence in document.sentences})
    for number, file in enumerate(files, start=1):
        label = f"writing {file.name} ({number} of {len(files)})"
        write("train", watch(seen.noting(training_documents(file, sampling)), label, "documents", log))
    for _, documents in groupby(held_out, key=lambda document: document.file):
        write("validation", seen.removed((document.sentences for document in documents), dropped))
    for writer in writers.values():
        writer.close()
    return writers


def training_documents(file: InputFile, sampling: Sampling) -> Iterator[list[str]]:
    """Yields the sampled sentences of each document that is not held out, if there are any."""
    for document in file.documents():
        if not sampling.holds_out(document):
            sentences = [sentence for keep, sentence in sampling.draws(document) if keep]
            if sentences:
                yield sentences


@dataclass
class _Seen:
    """Which of the held-out sentences, in lower case, training has, too."""

    held_out: set[str]
    found: set[str] = field(default_factory=set)

    def noting(self, documents: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """Yields the training documents, noting what of the held-out is in them."""
        for sentences in documents:
            self.found.update(self.held_out.intersection(sentence.lower() for sentence in sentences))
            yield sentences

    def removed(self, documents: Iterable[Sequence[str]], dropped: Counter[str]) -> Iterator[Sequence[str]]:
        """Yields the held-out documents without what training has."""
        for sentences in documents:
            kept = [sentence for sentence in sentences if sentence.lower() not in self.found]
            dropped["validation_in_training"] += len(sentences) - len(kept)
            yield kept


def _tokenized(
    documents: Iterable[Sequence[str]], tokenizer: Tokenizer, dropped: Counter[str]
) -> Iterator[list[list[int]]]:
    """Yields for each document the ids of its sentences, without specials; a sentence that has none is dropped.

    Documents are encoded many at a time, because the tokenizer spreads a batch over the cores.
    """
    for batch in _document_batches(documents):
        encodings = iter(
            tokenizer.encode_batch_fast([s for document in batch for s in document], add_special_tokens=False)
        )
        for document in batch:
            ids = [next(encodings).ids for _ in document]
            kept = [sentence for sentence in ids if sentence]
            dropped["no_tokens"] += len(ids) - len(kept)
            yield kept


def _document_batches(documents: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_SENTENCES:
            yield batch
            batch, size = [], 0
    yield batch
