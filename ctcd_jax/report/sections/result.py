"""The result: what came out in one sentence, and every model in one table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ctcd_jax import page
from ctcd_jax.artifacts.scoring import perplexity
from ctcd_jax.page import Html
from ctcd_jax.page.tables import MISSING, download, fixed
from ctcd_jax.report.entries import Entry, Findings
from ctcd_jax.report.verdict import against_text, count_text, in_words, loss_text
from ctcd_jax.text_tables import number_text

MOST_ROWS = 12  # of the table that is open; all of more stand in a folded one
_HEADS = ("model", "held_out_loss", "loss_low", "loss_high", "perplexity", "accuracy", "corpus", "minimal_pairs")
_HEADS += ("pairs_low", "pairs_high", "fine_tuned", "difference", "difference_low", "difference_high", "tasks_above")
_HEADS += ("tasks", "speedup", "parameters", "bytes", "in_words")


@dataclass(frozen=True)
class _Shown:
    """A column of the page: what it shows of a model, and of the baselines by their names."""

    heading: str
    show: Callable[[Entry], str | None]
    baselines: dict[str, str]


def result(found: Findings) -> list[Html]:
    """Returns the table of all models, those that know nothing of language below them, and what the figures are."""
    if not found.entries:
        return []
    columns = [column for column in _columns(found) if any(column.show(entry) for entry in found.entries)]
    names = dict.fromkeys(name for column in columns for name in column.baselines)
    entries, below = found.entries[:MOST_ROWS], [_baseline(name, columns) for name in names]
    link = download("result", _HEADS, [_values(found, entry) for entry in found.entries])
    parts = [_table("Models, the best first", entries, columns, below, [link])]
    if len(entries) < len(found.entries):
        count = len(found.entries)
        whole = _table(f"All {count} models, the best first", found.entries, columns, below, [])
        parts.append(page.folded(f"All {count} models: the {len(entries)} best are above", whole))
    return [*parts, page.paragraph(" ".join(_notes(found)), "note")]


def _table(
    caption: str, entries: list[Entry], columns: list[_Shown], below: list[list[str]], links: list[Html]
) -> Html:
    head = ["model", *(column.heading for column in columns)]
    shown = [[column.show(entry) for column in columns] for entry in entries]
    rows = [
        [entry.model.name, *(MISSING if cell is None else cell for cell in cells)]
        for entry, cells in zip(entries, shown, strict=True)
    ]
    words = {index for index, title in enumerate(head) if title == "in words"}
    return page.table([head, *rows, *below], caption, links=links, words=words)


def _baseline(name: str, columns: list[_Shown]) -> list[str]:
    return [name, *(column.baselines.get(name, "") for column in columns)]


def _columns(found: Findings) -> Iterator[_Shown]:
    unigrams = {_frequencies(found, corpus): nats for corpus, nats in _unigrams(found).items()}
    yield _Shown(
        "held-out loss",
        lambda entry: loss_text(entry.held_out) if entry.held_out else None,
        {name: number_text(nats, 3) for name, nats in unigrams.items()},
    )
    yield _Shown(
        "perplexity",
        lambda entry: number_text(perplexity(entry.held_out.loss), 1) if entry.held_out else None,
        {name: number_text(perplexity(nats), 1) for name, nats in unigrams.items()},
    )
    if len({entry.held_out.corpus for entry in found.entries if entry.held_out}) > 1:
        names = found.corpora.names
        yield _Shown("on", lambda entry: names.get(entry.held_out.corpus) if entry.held_out else None, {})
    yield _Shown("minimal pairs, %", _pairs, {"chance": "50.00"})
    means = {own.name: number_text(own.mean) for own in found.main[1].baselines} if found.main else {}
    yield _Shown("fine-tuned mean, %", lambda entry: _number(found.mean(entry)), means)
    reference = found.main[1].reference if found.main else None
    yield _Shown(
        f"points against {reference}",
        lambda entry: against_text(found, entry) if reference and found.tuned(entry) else None,
        {},
    )
    yield _Shown("tasks above chance", lambda entry: _above(found, entry), {})
    yield _Shown("speed-up", lambda entry: fixed(2, "×")(entry.speed.speedup) if entry.speed else None, {})
    yield _Shown("parameters", lambda entry: count_text(entry.parameters) if entry.parameters else None, {})
    yield _Shown("MB", lambda entry: fixed(1, scale=1e-6)(entry.bytes) if entry.bytes else None, {})
    yield _Shown("in words", lambda entry: in_words(found, entry), {})


def _pairs(entry: Entry) -> str | None:
    own = entry.pairs
    return own and f"{number_text(100 * own.accuracy)} [{number_text(100 * own.low)}, {number_text(100 * own.high)}]"


def _above(found: Findings, entry: Entry) -> str | None:
    own = found.tuned(entry)
    return f"{own[1].above} of {own[1].tasks}" if own and own[1].tasks else None


def _number(value: float | None) -> str | None:
    return None if value is None else number_text(value)


def _unigrams(found: Findings) -> dict[str, float]:
    corpora = dict.fromkeys(entry.held_out.corpus for entry in found.entries if entry.held_out)
    return {corpus: found.corpora.unigrams[corpus] for corpus in corpora if corpus in found.corpora.unigrams}


def _frequencies(found: Findings, corpus: str) -> str:
    several = len(_unigrams(found)) > 1
    return "word frequencies" + (f", {found.corpora.names[corpus]}" if several else "")


def _values(found: Findings, entry: Entry) -> list:
    text, pairs, tuned, own = entry.held_out, entry.pairs, found.tuned(entry), None
    difference = tuned[1].difference if tuned else None
    if difference:
        own = difference.interval
    values = [entry.model.name]
    values += [text.loss, text.low, text.high, perplexity(text.loss), text.accuracy] if text else [None] * 5
    values += [found.corpora.names.get(text.corpus) if text else None]
    values += [pairs.accuracy, pairs.low, pairs.high] if pairs else [None] * 3
    values += [found.mean(entry), difference and difference.value, own and own.low, own and own.high]
    values += [tuned[1].above, tuned[1].tasks] if tuned else [None] * 2
    return [*values, entry.speed and entry.speed.speedup, entry.parameters, entry.bytes, in_words(found, entry)]


def _notes(found: Findings) -> Iterator[str]:
    if any(entry.model.is_member for entry in found.entries):
        yield "RUN#MEMBER: a member of a run without an export below these directories, at its last validation."
    if any(entry.model.is_at_a_step for entry in found.entries):
        yield "RUN#MEMBER@STEP: such a member at another step, which `ctcd evaluate` was asked for."
    if any(entry.held_out for entry in found.entries):
        yield (
            "Held-out loss: nats a masked token of validation rows, whose masks are the same for every model; lower is "
            "better."
        )
        if any(entry.held_out and entry.held_out.low is not None for entry in found.entries):
            yield "In brackets its 95 % interval over rows."
        if _unigrams(found):
            yield "Word frequencies: what the frequencies of the corpus's own training rows score on the same tokens."
    if any(entry.pairs for entry in found.entries):
        yield "Minimal pairs: mean over paradigms, with the 95 % interval over pairs."
    if found.main:
        folder, scores = found.main
        yield (
            f"Fine-tuned: {scores.title.split(' (')[0]}, development sets, of {folder}/results.jsonl. The intervals of "
            "the differences are explained under Fine-tuning."
        )
        others = [name for name, own in found.scores.items() if own.columns != scores.columns]
        if others:
            yield f"With other tasks, and below: {', '.join(others)}."
        if any(own.tasks for entry in found.entries for own in entry.tuned.values()):
            yield (
                "Above chance: better than the constant answer by more than the 95 % interval over examples and seeds."
            )
    references = list(dict.fromkeys(entry.speed.reference for entry in found.entries if entry.speed))
    if references:
        yield f"Speed-up over {' or '.join(references)}."
