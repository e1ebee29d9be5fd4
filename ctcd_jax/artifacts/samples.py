"""`samples.json` of an export: what the model answers in a few held-out rows, the same for all exports of a corpus."""

from pathlib import Path
from typing import TypedDict, cast

from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json, write_json
from ctcd_jax.kinds import WHOLE, mismatch
from ctcd_jax.ranges import SHARE

SAMPLES, FORMAT = "samples.json", 1
CUT = "…"


class Guess(TypedDict):
    """A token that a model holds possible in a place."""

    token: str
    probability: float  # in [0, 1]


class HiddenToken(TypedDict):
    """A place where [MASK] stands."""

    position: int  # in `tokens` of its row
    token: str  # that was there
    guesses: list[Guess]  # the likeliest first


class SampleRow(TypedDict):
    """A sentence of a validation row."""

    row: int  # its number in the split
    tokens: list[str]  # as the model sees them; `CUT` at an end stands for more
    hidden: list[HiddenToken]  # in the order of their positions


class Samples(TypedDict):
    """samples.json."""

    format: int
    corpus_hash: str  # SHA-256 (hex) of corpus.json
    rows: list[SampleRow]


_GUESS = {"token": str, "probability": SHARE}
_ROW = {"row": WHOLE, "tokens": [str], "hidden": [{"position": WHOLE, "token": str, "guesses": [_GUESS]}]}
_KIND = {"corpus_hash": str, "rows": [_ROW]}


def write_samples(directory: Path, samples: Samples) -> None:
    """Writes `samples.json`."""
    write_json(directory / SAMPLES, samples, indent=None)


def read_samples(directory: Path) -> Samples | None:
    """Returns the content of `samples.json`, None where there is none: the corpus was not there, or no corpus is.

    Raises:
      UserError: it is damaged, or of a format that this version does not read.
    """
    path, fix = directory / SAMPLES, "export the model again, or remove the file"
    if not path.is_file():
        return None
    content = read_json(path, fix)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: format {content.get('format')!r:.60}, this version reads {FORMAT}; {fix}")
    fault = mismatch(content, _KIND)
    for row in [] if fault else content["rows"]:
        if any(hidden["position"] >= len(row["tokens"]) for hidden in row["hidden"]):
            fault = f"row {row['row']} hides more than it holds"
    if fault:
        raise UserError(f"{path}: {fault}; {fix}")
    return cast("Samples", content)


def sentence(row: SampleRow) -> list[str]:
    """Returns the words of a row, pieces of words joined; hidden places stand alone as "[1]", "[2]", ..."""
    numbers = {hidden["position"]: f"[{number}]" for number, hidden in enumerate(row["hidden"], start=1)}
    words: list[str] = []
    for position, token in enumerate(row["tokens"]):
        if position in numbers:
            words.append(numbers[position])
        elif token.startswith("##") and words and position - 1 not in numbers:
            words[-1] += token.removeprefix("##")
        else:
            words.append(token)
    return words
