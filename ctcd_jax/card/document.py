"""`README.md`, the model card, and the peace between what is generated in it and what people add.

The generated part stands between two marks and is written anew each time. What stands above or below it stays as it
is, and so does the metadata, apart from the `model-index`, which holds the figures.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ctcd_jax.artifacts.facts import Facts
from ctcd_jax.artifacts.samples import Samples, read_samples
from ctcd_jax.card import metadata
from ctcd_jax.card.text import body
from ctcd_jax.errors import UserError
from ctcd_jax.files import write_whole

CARD = "README.md"

_BEGIN = "<!-- ctcd card: `ctcd card` writes from here to the end mark anew; add your text above or below -->"
_PART = re.compile(
    r"<!-- ctcd card: [^>]*-->\n(?P<part>.*?)<!-- ctcd card ends (?P<digest>[0-9a-f]+) -->\n?", re.DOTALL
)
_FRONT = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class ExportMeasurements:
    """What was measured of a model after its export.

    Attributes:
      sections: Markdown, each with its heading of level 3.
      results: entries of the hub's `model-index`: what the model scored on the hub's data sets.
    """

    sections: tuple[str, ...] = ()
    results: tuple[dict, ...] = ()


def write_card(directory: Path, facts: Facts, measured: ExportMeasurements = ExportMeasurements()) -> None:
    """Writes `README.md`, at once or not at all; of one that is there, only what is generated is replaced.

    Args:
      directory: of the export.
      facts: what `ctcd.json` holds.
      measured: what to show of it.

    Raises:
      UserError: the generated part of the present README.md was edited or is not there, it is no UTF-8, or its metadata
        is not YAML; or `samples.json` is damaged.
    """
    path = directory / CARD
    try:
        present = path.read_text(encoding="utf-8-sig") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    write_whole(path, updated(present, path, facts, measured, read_samples(directory)))


def updated(
    present: str | None, path: Path, facts: Facts, measured: ExportMeasurements, samples: Samples | None = None
) -> str:
    """Returns the new text of a card.

    Args:
      present: its present text; None if there is no card.
      path: of the card, for the errors.
      facts, measured: as for `write_card`.
      samples: the content of `samples.json`; None without one.
    """
    part = f"\n{body(facts, measured.sections, samples)}\n\n"
    generated = f"{_BEGIN}\n{part}<!-- ctcd card ends {_digest(part)} -->\n"
    if present is None:
        return f"---\n{metadata.front(facts, measured.results)}---\n\n{generated}"
    parts = list(_PART.finditer(present))
    if len(parts) != 1:
        raise UserError(f"{path}: not a card that ctcd wrote (its marks are gone); move it away to have one written")
    (found,) = parts
    if found["digest"] != _digest(found["part"]):
        raise UserError(
            f"{path}: edited between its marks; move what you wrote above or below them, or remove the file"
        )
    text = present[: found.start()] + generated + present[found.end() :]
    front = _FRONT.match(text)
    if front is None and re.match(r"---[ \t]*\n", text):
        raise UserError(f"{path}:1: its metadata has no end; add a line of --- below it")
    yaml = metadata.with_results(front["yaml"] if front else "", facts, measured.results, path)
    return (f"---\n{yaml}---\n" if yaml else "") + text[front.end() if front else 0 :]


def _digest(part: str) -> str:
    return hashlib.sha256(part.encode()).hexdigest()[:16]
