"""Held-out sentences with hidden words, and what each export holds likely in their places, side by side."""

from collections.abc import Iterator, Sequence

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts
from ctcd_jax.artifacts.samples import Guess, HiddenToken, SampleRow, sentence
from ctcd_jax.page import Html, element, join
from ctcd_jax.page.tables import MISSING, download
from ctcd_jax.report.held_out import find_corpora
from ctcd_jax.text_tables import counted

OPEN_ROWS = 3  # sentences of a corpus that are shown at once
MOST_MODELS = 6  # side by side; the CSV has all


def sample_predictions(artifacts: Artifacts) -> list[Html]:
    """Returns the sentences of every corpus; nothing where no export has a samples.json."""
    corpora: dict[str, dict[str, list[SampleRow]]] = {}
    for name, export in artifacts.exports.items():
        if export.samples:
            corpora.setdefault(export.samples["corpus_hash"], {})[name] = export.samples["rows"]
    names = find_corpora(artifacts).names
    parts = []
    for digest, models in corpora.items():
        title = names.get(digest, digest[:8])
        parts += [page.heading(f"corpus {title}")] if len(corpora) > 1 else []
        sentences = list(_sentences(models))
        parts += sentences[:OPEN_ROWS]
        if more := sentences[OPEN_ROWS:]:
            parts.append(page.folded(counted(len(more), "more sentence"), join(more, "\n")))
        parts.append(page.downloads([download(f"samples-{title}", _HEADS, _values(models))]))
        if len(models) > MOST_MODELS:
            parts.append(page.paragraph(f"{MOST_MODELS} of {len(models)} exports; the CSV has all.", "note"))
    note = (
        "Held-out sentences, the same for every export of a corpus. [1], [2], ...: hidden words, and below the five "
        "tokens that each model holds likeliest there, with their probabilities; bold where it is the hidden one."
    )
    return [page.paragraph(note, "note"), *parts] if parts else []


_HEADS = ("row", "place", "hidden", "model", "rank", "token", "probability")


def _sentences(models: dict[str, list[SampleRow]]) -> Iterator[Html]:
    """The rows with a table each: hidden words down, models across."""
    shown = dict(list(models.items())[:MOST_MODELS])
    for first in next(iter(shown.values())):
        rows = {name: _same(first, rows) for name, rows in shown.items()}
        table = [["hidden", *shown]]
        for place, hidden in enumerate(first["hidden"]):
            cells = [_ranked(row["hidden"][place]) if row else MISSING for row in rows.values()]
            table.append([f"[{place + 1}] {hidden['token']}", *cells])
        words = " ".join(sentence(first))
        label = f"Row {first['row']}: {words}"
        yield join([page.paragraph(words, "quoted"), page.table(table, words=range(len(shown) + 1), label=label)])


def _same(row: SampleRow, rows: Sequence[SampleRow]) -> SampleRow | None:
    """The row of another export with the same words hidden; None where there is none: other versions choose others."""
    places = [hidden["position"] for hidden in row["hidden"]]
    fitting = (
        other
        for other in rows
        if other["tokens"] == row["tokens"] and [hidden["position"] for hidden in other["hidden"]] == places
    )
    return next(fitting, None)


def _ranked(hidden: HiddenToken) -> Html:
    return element("ol", *(_guess(guess, hidden["token"]) for guess in hidden["guesses"]), class_="ranked")


def _guess(guess: Guess, truth: str) -> Html:
    text = f"{guess['token']} {100 * guess['probability']:.1f} %"
    return element("li", element("b", text) if guess["token"] == truth else text)


def _values(models: dict[str, list[SampleRow]]) -> Iterator[tuple]:
    for name, rows in models.items():
        for row in rows:
            for place, hidden in enumerate(row["hidden"], start=1):
                for rank, guess in enumerate(hidden["guesses"], start=1):
                    yield row["row"], place, hidden["token"], name, rank, guess["token"], guess["probability"]
