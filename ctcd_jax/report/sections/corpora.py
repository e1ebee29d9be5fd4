"""The corpora that runs and exports were trained on, by their sources."""

from collections.abc import Iterator
from dataclasses import dataclass

from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.corpora import SplitCounts, source_name
from ctcd_jax.page import Html
from ctcd_jax.page.tables import Column, data_table, fixed
from ctcd_jax.report.held_out import corpus_hash, find_corpora


@dataclass(frozen=True)
class _Source:
    """A source of a corpus: what it is, and how many documents and sentences of it were read and kept."""

    name: str
    documents: int
    sentences: int
    kept: int


@dataclass(frozen=True)
class _Corpus:
    """What is known of a corpus."""

    sources: list[_Source]
    splits: dict[str, SplitCounts]
    vocabulary: int


def corpora(artifacts: Artifacts) -> list[Html]:
    """Returns a table of the corpora and one of their sources; nothing where no run and no export tells them."""
    found: dict[str, _Corpus] = dict(reversed(list(_found(artifacts))))
    if not found:
        return []
    names = find_corpora(artifacts).names
    columns = [
        Column("corpus", "corpus"),
        Column("sources", "sources"),
        Column("training rows", "train_rows", fixed(0)),
        Column("training tokens", "train_tokens", fixed(0)),
        Column("held-out rows", "validation_rows", fixed(0)),
        Column("held-out tokens", "validation_tokens", fixed(0)),
        Column("vocabulary", "vocabulary", fixed(0)),
        Column("manifest (SHA-256)", "manifest", lambda digest: digest[:12]),
    ]
    rows = []
    for digest, corpus in found.items():
        splits = [corpus.splits[split][count] for split in ("train", "validation") for count in ("rows", "tokens")]
        listed = ", ".join(source.name for source in corpus.sources)
        rows.append([names.get(digest, digest[:8]), listed, *splits, corpus.vocabulary, digest])
    counts = [Column(title, title, fixed(0)) for title in ("documents", "sentences", "kept")]
    sources = [
        (names.get(digest, digest[:8]), source.name, source.documents, source.sentences, source.kept)
        for digest, corpus in found.items()
        for source in corpus.sources
    ]
    heads = [Column("corpus", "corpus"), Column("source", "source")]
    return [
        data_table("corpora", columns, rows, "Corpora"),
        data_table("sources", [*heads, *counts], sources, "Their sources: what was read, and sentences kept", names=2),
    ]


def _found(artifacts: Artifacts) -> Iterator[tuple[str, _Corpus]]:
    """(SHA-256 of corpus.json, what is known of it), of runs and then of exports."""
    for run in artifacts.runs.values():
        if run.corpus and (digest := corpus_hash(run)):
            sources = [
                _Source(source_name(source["source"]), source["documents"], source["sentences"], source["kept"])
                for source in run.corpus["sources"]
            ]
            yield digest, _Corpus(sources, run.corpus["splits"], run.corpus["tokenizer"]["vocab_size"])
    for export in artifacts.exports.values():
        facts = export.facts["corpus"] if export.facts else {}
        if "splits" in facts and "sources" in facts and "tokenizer" in facts and "hash" in facts:
            sources = [
                _Source(
                    ": ".join(filter(None, (source["kind"], source.get("hub") or source.get("name")))),
                    source["documents"],
                    source["sentences"],
                    source["kept"],
                )
                for source in facts["sources"]
            ]
            yield facts["hash"], _Corpus(sources, facts["splits"], facts["tokenizer"]["vocab_size"])
