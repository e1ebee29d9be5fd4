"""What there is to say about a corpus, in sections of blocks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from tokenizers import Tokenizer

from ctcd_jax.artifacts.corpora import Manifest, SourceCounts
from ctcd_jax.data import Corpus
from ctcd_jax.inspection.blocks import Block, Curve, Examples, Facts, Histogram, Note, Section, Table
from ctcd_jax.inspection.examples import ExampleRow, token_text
from ctcd_jax.inspection.facts import token_lengths, trained_positions, vocabulary

PACKINGS = {
    "sentence": "one sentence a row",
    "packed": "several whole sentences a row, which do not see each other",
    "full": "running text of one document a row",
}

DROPPED = {
    "not_sampled": "sentences that were not drawn (every, share)",
    "too_few_characters": "sentences shorter than min_characters",
    "too_many_characters": "sentences longer than max_characters",
    "duplicates": "sentences that had occurred before",
    "too_many_unknown": "sentences with more [UNK] than max_unknown",
    "no_tokens": "sentences without a token",
    "short_sentences": "sentences too short for a row of their own",
    "short_document_ends": "rows: ends of documents too short for one",
    "validation_surplus": "held-out sentences, more than validation takes",
    "validation_in_training": "held-out sentences that training has, too",
}

HASH_DIGITS = 12
_COUNTED = {"source", "files", "documents", "sentences", "kept", "lines", "invalid_lines"}


def describe(corpus: Corpus, tokenizer: Tokenizer, examples: Sequence[ExampleRow]) -> list[Section]:
    """Returns all there is to say; what is empty, or was not counted by an earlier version, is left out.

    Args:
      corpus: to describe.
      tokenizer: of the corpus.
      examples: rows to show.
    """
    manifest = corpus.manifest
    sections = [
        Section("Recipe", [Facts(list(_recipe(corpus, tokenizer)))]),
        Section("Sources", list(_sources(manifest["sources"]))),
        Section("Splits", list(_splits(corpus))),
        Section("Left out", _dropped(manifest["dropped"])),
        Section("Lengths", [*_lengths(manifest), *_positions(manifest)]),
        Section("Vocabulary", list(_vocabulary(corpus, tokenizer))),
        Section("Validation rows", _examples(examples)),
    ]
    return [section for section in sections if section.blocks]


def lead(corpus: Corpus) -> str:
    """Returns the corpus in a sentence."""
    train, validation = (corpus.manifest["splits"][split] for split in ("train", "validation"))
    return (
        f"{train['tokens']:,} tokens in {train['rows']:,} training rows of at most {corpus.max_length}, and "
        f"{validation['rows']:,} validation rows."
    )


def _recipe(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    recipe = corpus.manifest["recipe"]
    every, packing = recipe["every"], recipe["packing"]
    yield "rows", f"{recipe['length']} tokens, packing {packing}: {PACKINGS[packing]}"
    yield "sampling", f"{'every sentence' if every == 1 else f'1 sentence in {every}'}, seed {recipe['seed']}"
    yield "validation", f"{_percent(recipe['validation'])} of the {recipe.get('validation_by', 'documents')} held out"
    yield "filters", ", ".join(_filters(recipe)) or "none"
    if recipe.get("language"):
        yield "language", recipe["language"]
    if recipe["tokenizer"]:
        yield "tokenizer", recipe["tokenizer"]
    else:
        case = "cased" if recipe.get("cased") else "in lower case"
        case += ", accents kept" if recipe.get("keep_accents") else ""
        yield "tokenizer", f"trained on this text {case}, {recipe['vocab_size']:,} tokens asked for"
    yield "vocabulary", f"{corpus.vocab_size:,} ids"
    yield "special ids", ", ".join(f"{token_text(tokenizer, n)} {n}" for n in sorted(corpus.special_ids.values()))
    yield "tokenizer hash", corpus.tokenizer_hash[:HASH_DIGITS]
    yield "corpus hash", corpus.hash[:HASH_DIGITS]


def _filters(recipe: Mapping) -> Iterator[str]:
    if (least := recipe.get("min_characters", 1)) > 1:
        yield f"sentences of at least {least} characters"
    if limit := recipe.get("max_characters"):
        yield f"sentences of at most {limit} characters"
    if (unknown := recipe.get("max_unknown", 1.0)) < 1:
        yield f"at most {_percent(unknown)} [UNK] a sentence"
    if recipe.get("deduplicate"):
        yield "duplicate sentences dropped"


def _sources(sources: Sequence[SourceCounts]) -> Iterator[Block]:
    invalid = any(source.get("invalid_lines") for source in sources)
    head = ["source", "files", "documents", "sentences", "kept", "share kept"]
    rows = [head + ["invalid UTF-8 lines"] * invalid]
    for source in sources:
        counts = [f"{source[name]:,}" for name in head[1:5]] + [_percent(source["kept"] / source["sentences"])]
        rows.append([source["source"], *counts] + [f"{source.get('invalid_lines', 0):,}"] * invalid)
    yield Table(rows)
    for source in sources:
        if details := ", ".join(f"{name} {value}" for name, value in source.items() if name not in _COUNTED):
            yield Note(f"{source['source']}: {details}")


def _splits(corpus: Corpus) -> Iterator[Block]:
    rows = [["split", "documents", "sentences", "rows", "tokens", "padding", "shards", "size"]]
    for split, counts in corpus.manifest["splits"].items():
        shards = corpus.manifest["shards"][split]
        size = sum((corpus.directory / shard["file"]).stat().st_size for shard in shards)
        numbers = [f"{counts[name]:,}" for name in rows[0][1:5]]
        rows.append([split, *numbers, _percent(counts["padding"]), str(len(shards)), _bytes(size)])
    yield Table(rows)
    splits = tuple(corpus.manifest["splits"])
    lengths = sorted({length for split in splits for length in corpus.lengths(split)})
    if len(lengths) > 1:
        yield Table(
            [["rows of", *splits]]
            + [[f"{length} tokens", *(f"{corpus.rows(split, length):,}" for split in splits)] for length in lengths]
        )


def _dropped(dropped: Mapping[str, int]) -> list[Block]:
    if not dropped:
        return []
    return [Facts([(f"{count:,}", DROPPED.get(reason, reason.replace("_", " "))) for reason, count in dropped.items()])]


def _lengths(manifest: Manifest) -> Iterator[Block]:
    for thing in ("row", "segment"):
        if counts := manifest.get(f"{thing}_tokens"):  # an earlier version did not count them
            found = token_lengths(counts)
            note = f"{found.total:,} training {thing}s: {found.mean:.1f} tokens on average, median {found.median}."
            yield Histogram(f"Tokens a {thing}", note, "tokens", f"% of {thing}s", found.bars)


def _positions(manifest: Manifest) -> Iterator[Block]:
    if segment_tokens := manifest.get("segment_tokens"):
        found = trained_positions(segment_tokens)
        last = len(found.trained) - 1
        note = (
            "Positions start again with each segment, so only long segments train the late ones: position "
            f"{last} is trained {found.last_ratio:.2g} times as often as position 0. {_never(found.never, last)}"
        )
        yield Histogram("Trained positions", note, "position", "% of position 0", found.bars)


def _never(never: int, last: int) -> str:
    if never > 1:
        return f"{never} positions, {last + 1 - never} to {last}, are never trained."
    return f"Position {last} alone is never trained." if never else "Every position is trained."


def _vocabulary(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[Block]:
    found = vocabulary(corpus.token_frequencies, corpus.special_ids)
    yield Note("Of the training rows; the five special ids are not counted, but for [UNK].")
    yield Facts(
        [
            ("ordinary ids", f"{found.ordinary:,}"),
            ("never seen", _of(found.never, found.ordinary)),
            *((f"fewer than {n} times", _of(count, found.ordinary)) for n, count in found.rarer.items()),
            ("[UNK]", f"{_percent(found.unknown)} of the tokens"),
            *((f"{share} % of the tokens", f"{count:,} ids") for share, count in found.coverage.items()),
        ]
    )
    columns = [
        [(token_text(tokenizer, number), f"{count:,}") for number, count in some]
        for some in (found.frequent, found.rarest)
    ]
    rows = [[*left, *right] for left, right in zip_longest(*columns, fillvalue=("", ""))]
    yield Table([["most frequent", "times", "rarest seen", "times"], *rows])
    if len(found.curve) > 1:
        points = [(math.log10(rank), math.log10(count)) for rank, count in found.curve]
        yield Curve("How often the tokens occur, by rank", "log₁₀ of the rank", "log₁₀ of how often", points)


def _examples(examples: Sequence[ExampleRow]) -> list[Block]:
    if not examples:
        return []
    return [Note("Every run is asked for the same of their tokens, whatever it trains with."), Examples(examples)]


def _of(count: int, total: int) -> str:
    return f"{count:,} ({_percent(count / total)})"


def _percent(share: float) -> str:
    """Two digits at least, and a very small share is not nothing."""
    return f"{100 * share:.1f} %" if share >= 0.01 or not share else f"{100 * share:.2g} %"


def _bytes(size: int) -> str:
    return next(
        (f"{size / unit:.1f} {name}" for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= unit),
        f"{size} B",
    )
