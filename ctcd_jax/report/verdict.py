"""What came out, in words: the best model against the reference, and against what knows nothing."""

from collections.abc import Iterator

from ctcd_jax.artifacts.scoring import frequencies_words, perplexity
from ctcd_jax.evaluation.tables.comparison import Difference, difference_text
from ctcd_jax.page.tables import millions
from ctcd_jax.report.entries import Entry, Findings
from ctcd_jax.report.held_out import HeldOut
from ctcd_jax.report.tuned import reversed_
from ctcd_jax.text_tables import number_text


def verdict(found: Findings) -> str:
    """Returns the result in a few sentences; "" without fine-tuned means and held-out losses.

    By the first where any model is above chance, else by the second.
    """
    ranked = [entry for entry in found.entries if found.mean(entry) is not None]
    if ranked and (found.by_tuning or found.main_corpus is None):
        sentences = [_by_fine_tuning(found, ranked), *_against_nothing(found, ranked), _served(ranked[0])]
    elif found.main_corpus is not None:
        best_first = sorted(ranked, key=lambda entry: -(found.mean(entry) or 0.0))
        tuned = list(_against_nothing(found, best_first, f" ({_title(found)})")) if ranked else []
        tuned[:1] = [f"Fine-tuned, {line[0].lower()}{line[1:]}" for line in tuned[:1]]
        sentences = [*_by_held_out(found, found.on_text(found.main_corpus)), *tuned]
    else:
        return ""
    return " ".join(filter(None, sentences))


def _by_fine_tuning(found: Findings, ranked: list[Entry]) -> str:
    best = ranked[0]
    (folder, own), title = _tuned(found, best), _title(found)
    name, mean = best.model.name, f"{number_text(found.mean(best) or 0.0)} %"
    if len(ranked) == 1:
        return f"Fine-tuned, {name} scores {mean} ({title})."
    reference = found.scores[folder].reference
    held = next((entry for entry in ranked if entry.model.tuned_as.get(folder) == reference), None)
    if held is None or held is best:  # the best is the reference itself: the next best is held against it
        held = next(entry for entry in ranked if entry is not best)
        theirs = held.tuned.get(folder)
        difference = reversed_(theirs.difference) if theirs and theirs.difference else None
    else:
        difference = own.difference
    other = f"{held.model.name}{', the reference' if held.model.tuned_as.get(folder) == reference else ''}"
    score = f"{number_text(found.mean(held) or 0.0)} %"
    if difference is None or difference.interval is None:
        return (
            f"Fine-tuned, {name} has the highest score, {mean} ({title}), and {other} has {score}; there is no "
            "interval of the difference, so it may be chance."
        )
    gap = _points(difference)
    if difference.interval.low > 0:
        return f"Fine-tuned, {name} is the best: {mean} ({title}), {gap}, against {other} ({score})."
    return f"Fine-tuned, {name} ({mean}, {title}) and {other} ({score}) cannot be told apart: {gap}."


def _points(difference: Difference) -> str:
    own = difference.interval
    ends = f", 95 % interval [{number_text(own.low)}, {number_text(own.high)}]" if own else ""
    return f"{number_text(difference.value, plus='+')} points{ends}"


def _against_nothing(found: Findings, ranked: list[Entry], title: str = "") -> Iterator[str]:
    """What the fine-tuned models are worth beside the constant answer and a bag of words.

    Args:
      found: all that was.
      ranked: the fine-tuned models, the best first.
      title: of the means, where it has not been said yet.
    """
    best = ranked[0]
    folder, own = _tuned(found, best)
    if own.tasks:
        above = [entry for entry in ranked if _tuned(found, entry)[1].above]
        if not above:
            who = "It is not" if len(ranked) == 1 else "No model is"
            many = "the task" if own.tasks == 1 else "any task"
            yield f"{who} above chance on {many}."
        elif own.above < own.tasks:
            yield f"{best.model.name} is above chance on {own.above} of {own.tasks} tasks."
    mean = found.mean(best) or 0.0
    for baseline in found.scores[folder].baselines:
        if mean <= baseline.mean:
            yield f"The {baseline.name} has {number_text(baseline.mean)} %{title}."
            title = ""


def _served(best: Entry) -> str:
    facts = [f"{count_text(best.parameters)} parameters" if best.parameters else ""]
    if best.speed and best.speed.reference != best.model.name:
        unsteady = " (unsteady)" if not best.speed.steady else ""
        facts.append(f"{number_text(best.speed.speedup)} times the speed of {best.speed.reference}{unsteady}")
    return f"{best.model.name} has {' and '.join(filter(None, facts))}." if any(facts) else ""


def count_text(parameters: int) -> str:
    """Returns a number of parameters, in millions where it is worth it."""
    return millions(parameters) if parameters >= 1e5 else f"{parameters:,}"


def _by_held_out(found: Findings, ranked: list[Entry]) -> Iterator[str]:
    best, *others = ranked
    own = best.model.run, best.model.member
    others = [entry for entry in others if own[0] is None or (entry.model.run, entry.model.member) != own]
    text = _text(best)
    corpus = found.corpora.names.get(text.corpus)
    where = f"On held-out text{f' of {corpus}' if corpus else ''}"
    unigram = found.corpora.unigrams.get(text.corpus)
    frequencies = "" if unigram is None else f" Word frequencies alone score {number_text(unigram, 3)}."
    figure = f"{loss_text(text)} nats (perplexity {number_text(perplexity(text.loss), 1)})"
    if _beside_frequencies(text, unigram):
        yield (
            f"{where} no model is better than word frequencies: the best, {best.model.name}, has a loss of {figure}."
            f"{frequencies}"
        )
        return
    yield f"{where} {best.model.name} has the lowest loss: {figure}.{frequencies}"
    alike = [entry for entry in others if entry.parameters == best.parameters and entry.parameters is not None]
    if not others:
        return
    held = (alike or others)[0]
    which = "The next best of its size" if alike else "The next best"
    second = _text(held)
    yield f"{which}, {held.model.name}, has {loss_text(second)}{_apart(text, second)}."


def _apart(first: HeldOut, second: HeldOut) -> str:
    """Whether two losses on the same text differ, as far as the intervals say."""
    if first.high is None or second.low is None:
        return "; there are no intervals (`ctcd evaluate` gives them), so the difference may be chance"
    overlap = first.high >= second.low
    return "; the intervals overlap: the two cannot be told apart" if overlap else "; the intervals do not overlap"


def _beside_frequencies(text: HeldOut, unigram: float | None) -> str:
    return frequencies_words(unigram, text.loss, text.low, text.high)


def loss_text(text: HeldOut) -> str:
    """Returns "4.229 [4.201, 4.257]", without the interval where there is none."""
    if text.low is None or text.high is None:
        return number_text(text.loss, 3)
    return f"{number_text(text.loss, 3)} [{number_text(text.low, 3)}, {number_text(text.high, 3)}]"


def in_words(found: Findings, entry: Entry) -> str:
    """Returns what the figures of a model do not say by themselves, by "; "."""
    said = []
    text, tuned = entry.held_out, found.tuned(entry)
    if text:
        said.append(_beside_frequencies(text, found.corpora.unigrams.get(text.corpus)))
    if text and text.best:
        said.append(f"its run was better at step {text.best[0]:,} ({number_text(text.best[1], 3)})")
    if entry.pairs and entry.pairs.against_chance:
        said.append(f"minimal pairs {entry.pairs.against_chance}")
    if tuned and tuned[1].tasks and not tuned[1].above:
        said.append("fine-tuned at chance")
    if tuned and tuned[1].difference and (own := tuned[1].difference.interval) and own.low <= 0 <= own.high:
        said.append(f"cannot be told apart from {found.scores[tuned[0]].reference}")
    if entry.speed and not entry.speed.steady:
        said.append("speed-up unsteady")
    return "; ".join(filter(None, said))


def against_text(found: Findings, entry: Entry) -> str:
    """Returns the difference to the reference, e.g. "+1.00 [−1.00, 3.00]"; "reference" for the reference itself."""
    tuned = found.tuned(entry)
    if tuned is None:
        return "–"
    folder, own = tuned
    if entry.model.tuned_as.get(folder) == found.scores[folder].reference:
        return "reference"
    return difference_text(own.difference, 0)


def _tuned(found: Findings, entry: Entry):
    own = found.tuned(entry)
    assert own is not None
    return own


def _title(found: Findings) -> str:
    return found.main[1].title.split(" (")[0] if found.main else ""


def _text(entry: Entry) -> HeldOut:
    assert entry.held_out is not None
    return entry.held_out
