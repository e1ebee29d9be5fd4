"""Minimal pairs: JSON Lines with `sentence_good` and `sentence_bad`, as BLiMP is kept (Warstadt et al. 2020)."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctcd_jax.data.sources.base import Reading
from ctcd_jax.data.sources.content import compression, head_of, no_text
from ctcd_jax.data.sources.lines import SUFFIXES, LineReader
from ctcd_jax.errors import UserError, warn

_PATTERNS = ("*.jsonl", *(f"*.jsonl{suffix}" for suffix in SUFFIXES))


@dataclass(frozen=True)
class Pair:
    """Two sentences, of which the first is the acceptable one, and FILE:LINE."""

    good: str
    bad: str
    place: str


@dataclass(frozen=True)
class Paradigm:
    """Pairs of one kind. Without `UID` and `linguistics_term` paradigm and phenomenon are called as their file."""

    name: str
    phenomenon: str
    pairs: list[Pair] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the pairs in order."""
        content = json.dumps([[pair.good, pair.bad] for pair in self.pairs])
        return hashlib.sha256(content.encode()).hexdigest()


def read_paradigms(folder: Path, most: int | None = None, warn: Callable[[str], None] = warn) -> list[Paradigm]:
    """Returns the paradigms of a folder in the order of its files, which may be compressed (gzip, xz, zstd, bz2).

    Args:
      folder: with files NAME.jsonl, NAME.jsonl.xz, ...
      most: pairs of each paradigm to take, the first ones; None for all. Every line is checked all the same.
      warn: called with a line about pairs whose sentences are equal, of which BLiMP has one: every model ties.

    Raises:
      UserError: there are none, or a line is no pair; it names FILE:LINE.
    """
    paths = sorted(path for pattern in _PATTERNS for path in folder.glob(pattern))
    if not paths:
        raise UserError(
            f"--data {folder}: no *.jsonl in it; give a folder of JSON Lines with sentence_good, sentence_bad"
        )
    paradigms: dict[str, Paradigm] = {}
    for path in paths:
        for name, phenomenon, pair in _pairs(path):
            known = paradigms.setdefault(name, Paradigm(name, phenomenon))
            if known.phenomenon != phenomenon:
                raise UserError(
                    f"{pair.place}: linguistics_term of '{name}' is '{phenomenon}', before '{known.phenomenon}'"
                )
            if most is None or len(known.pairs) < most:
                known.pairs.append(pair)
    if not paradigms:
        raise UserError(f"--data {folder}: no pair in its {len(paths)} files; give other ones")
    equal = [pair for paradigm in paradigms.values() for pair in paradigm.pairs if pair.good == pair.bad]
    if equal:
        warn(f"{equal[0].place}: sentence_good is sentence_bad, a tie for every model ({len(equal):,} such)")
    return list(paradigms.values())


def _pairs(path: Path) -> Iterator[tuple[str, str, Pair]]:
    """Yields (paradigm, phenomenon, pair) of each line that is not blank."""
    head, own = head_of(path), path.name.partition(".jsonl")[0]
    if problem := no_text(head):
        raise UserError(f"{path}: {problem}")
    lines = LineReader(path, compression(head), 0, None, Reading())
    for line in filter(None, lines):
        place = lines.place()
        if lines.reading.invalid_lines:
            raise UserError(f"{place}: not UTF-8; convert the file, e.g. with iconv")
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not a JSON object ({error}); each line must hold a whole one") from error
        if not isinstance(content, dict):
            raise UserError(f"{place}: a {type(content).__name__}, not a JSON object; each line must hold one")
        good, bad = (_text(content, name, place) for name in ("sentence_good", "sentence_bad"))
        names = [_text(content, name, place) if name in content else own for name in ("UID", "linguistics_term")]
        yield names[0], names[1], Pair(good, bad, place)


def _text(content: dict, name: str, place: str) -> str:
    if name not in content:
        raise UserError(f"{place}: no field '{name}'; there are: {', '.join(content) or 'none'}")
    text = content[name]
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{place}: {name} is {json.dumps(text)[:40]}, not a text")
    return text
