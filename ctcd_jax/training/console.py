"""What a run says to people as it goes: a line at a time, and on a terminal a bar."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import jax
from tqdm import tqdm

from ctcd_jax.artifacts.runs import MemberFigures, MetricLine
from ctcd_jax.artifacts.scoring import perplexity
from ctcd_jax.jobs.duration import duration

WIDTH = 160  # columns that a line of the log should not exceed
_SPEED, _MFU = 30, 12  # of them for " | 51,000 tokens/s | ETA 1h20m", and for " | MFU 12.3%"


class Console:
    """Says the lines of a run.

    Where the names of members make the first line wider than WIDTH, they are shortened from then on, which is said; and
    where that does not suffice, agreement is left to the lines of validation.
    """

    def __init__(self, log: Callable[[str], None], steps: int, has_mfu: bool):
        """Takes what is called with each line, the steps of the whole run, and whether its lines have an MFU."""
        self._log, self._steps = log, steps
        self._room = WIDTH - _SPEED - (_MFU if has_mfu else 0)
        self._names: dict[str, str] | None = None  # of the members, as they are shown
        self._crowded = False  # even so

    def train(self, line: MetricLine, rate: float | None, mfu: float | None, eta: float | None) -> None:
        """Says a "train" line.

        Args:
          line: of metrics.jsonl.
          rate, mfu, eta: tokens a second, share of the peak, seconds to go, as for `progress`.
        """
        names = self._shown_names(line)
        far, fast = progress(line["step"], self._steps, rate, mfu, eta)
        self._log(_joined(far, describe(line, names, agreement=not self._crowded), fast))

    def validation(self, line: MetricLine) -> None:
        """Says a "validation" line, with one more for each further corpus."""
        names, place = self._shown_names(line), f"step {line['step']:,} validation"
        held_out = [describe_hard(line["members"], names, perplexity=True), _unigram(line.get("unigram"))]
        rest = [_soft(line, names), _agreement(line, names)]
        for parts in (held_out, rest) if self._crowded else (held_out + rest,):
            self._log(_joined(place, *parts))
        for name, found in line.get("corpora", {}).items():
            parts = [describe_hard(found["members"], names, perplexity=True), _unigram(found["unigram"])]
            self._log(_joined(f"{place} on {name}", *parts))

    def _shown_names(self, line: MetricLine) -> Mapping[str, str]:
        """{member: its short name}; {} where there is room for the names themselves."""
        if self._names is None:
            far, _ = progress(line["step"], self._steps, None, None, None)
            self._names = {}
            if len(_joined(far, describe(line))) > self._room:
                self._names = short_names(line["members"])
                self._crowded = len(_joined(far, describe(line, self._names))) > self._room
                self._log("in the log, " + ", ".join(f"{name} is {short}" for name, short in self._names.items()))
        return self._names


def describe(line: MetricLine, names: Mapping[str, str] = MappingProxyType({}), *, agreement: bool = True) -> str:
    """Returns a record as people read it: every hard loss, every soft loss, agreement.

    Args:
      line: of metrics.jsonl.
      names: {member: its short name}; {} for names in full.
      agreement: whether it is shown.
    """
    return _joined(
        describe_hard(line["members"], names), _soft(line, names), _agreement(line, names) if agreement else ""
    )


def describe_hard(members: Mapping[str, MemberFigures], names: Mapping[str, str], *, perplexity: bool = False) -> str:
    """Returns every hard loss, "hard teacher 4.2345 (perplexity 69) student 4.3 (74)"; "" where there is none.

    Args:
      members: of a line of metrics.jsonl.
      names: {member: its short name}; {} for names in full.
      perplexity: whether it is shown, too.
    """
    shown = []
    for name, figures in members.items():
        if "hard" in figures:
            loss = figures["hard"]
            text = f"{names.get(name, name)} {_shown(loss, _digits(names))}"
            if perplexity and loss is not None:
                text += f" ({'' if shown else 'perplexity '}{_perplexity(loss)})"
            shown.append(text)
    return f"hard {' '.join(shown)}" if shown else ""


def _soft(line: MetricLine, names: Mapping[str, str]) -> str:
    shown = [f"{_with(names, name)} {_shown(v['soft'], _digits(names))}" for name, v in line["edges"].items()]
    return f"soft {' '.join(shown)}" if shown else ""


def _agreement(line: MetricLine, names: Mapping[str, str]) -> str:
    pairs = line["agreement"]
    one = len(pairs) == 1  # which goes without saying
    shown = [("" if one else f"{_with(names, pair)} ") + _shown(value, ".1%") for pair, value in pairs.items()]
    return f"agree {' '.join(shown)}" if shown else ""


def _unigram(loss: float | None) -> str:
    return "" if loss is None else f"word frequencies {loss:.4f}"


def _perplexity(loss: float) -> str:
    value = perplexity(loss)
    return f"{value:,.0f}" if 10 <= value < 1e6 else f"{value:.3g}"


def _with(names: Mapping[str, str], text: str) -> str:
    """Returns an edge or a pair, "a->b#cosine" or "a~b", with short names."""
    first, mark, second, *signal = re.split(r"(->|~|#)", text)
    return "".join([names.get(first, first), mark, names.get(second, second), *signal])


def _joined(*parts: str) -> str:
    return " | ".join(filter(None, parts))


def _digits(names: Mapping[str, str]) -> str:
    return ".3f" if names else ".4f"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Returns {name: its first letters, as many as it takes, and its number}: s1 for student1."""
    names = list(names)
    for length in range(1, max(map(len, names)) + 1):
        short = {name: re.sub(rf"^(\D{{1,{length}}})\D*", r"\1", name) for name in names}
        if len(set(short.values())) == len(names):
            return short
    return {name: name for name in names}


def progress(
    step: int, steps: int, tokens_per_second: float | None, mfu: float | None, eta: float | None
) -> tuple[str, str]:
    """Returns (how far, how fast) for the log line; what is None is left out.

    Args:
      step: updates done.
      steps: of the whole run.
      tokens_per_second: real tokens.
      mfu: share of the devices' peak.
      eta: seconds.
    """
    speed = []
    if tokens_per_second is not None:
        speed.append(f"{tokens_per_second:,.0f} tokens/s")
    if mfu is not None:
        speed.append(f"MFU {mfu:.1%}")
    if eta is not None:
        speed.append(f"ETA {duration(eta)}")
    return f"step {step:,}/{steps:,} {step / steps:.0%}", " | ".join(speed)


class Bar:
    """A bar on a terminal that counts the steps that devices have finished, which the host is ahead of."""

    def __init__(self, steps: int, done: int, shown: bool):
        """Takes the steps of the whole run, those done, and whether there is a terminal."""
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=not shown)
        self._waiting = ThreadPoolExecutor(1) if shown else None

    def dispatched(self, result: jax.Array) -> None:
        """Counts a step as soon as `result`, which it makes, is there; the caller does not wait."""
        if self._waiting:
            self._waiting.submit(self._count, result)

    def show(self, text: str) -> None:
        """Shows `text` behind the bar."""
        self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Counts what is finished, and leaves the bar as it is."""
        if self._waiting:
            self._waiting.shutdown(cancel_futures=True)
        self._bar.close()

    def _count(self, result: jax.Array) -> None:
        result.block_until_ready()
        self._bar.update()


def above_the_bar(log: Callable[[str], None]) -> Callable[[str], None]:
    """Returns `log`, for lines that do not run into a bar."""

    def write(text: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            log(text)

    return write
