"""What a saved step of a run consists of, byte by byte: the SHA-256 of its files, written down when it is whole.

Orbax restores an array of which a bit has flipped without a word.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256, read_json, write_json

DIGESTS, DIGESTS_FORMAT = "sha256.json", 1
LISTED = "_CHECKPOINT_METADATA"  # Orbax takes a directory for a saved step that has this in it
_TIMES = ("init_timestamp_nsecs", "commit_timestamp_nsecs")
_MOST_NAMES = 5
ASIDE = ".unreadable"  # what the directory of a step ends in that could not be read


def seal(step: Path) -> None:
    """Writes down the SHA-256 of all files of a saved step into its `sha256.json`.

    Args:
      step: its directory, which nobody writes to any more.

    Raises:
      OSError: the disk gives out.
    """
    write_json(step / DIGESTS, {"format": DIGESTS_FORMAT, "files": _digests(step)})


def is_sealed(step: Path) -> bool:
    """Whether it was written down what a saved step consists of; a run killed at once after saving has not done so."""
    return (step / DIGESTS).is_file()


def is_listed(step: Path) -> bool:
    """Whether Orbax can read what it looks at of every step when it opens a directory of them."""
    try:
        content = json.loads((step / LISTED).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    times = [content.get(name) for name in _TIMES] if isinstance(content, dict) else [""]
    return all(isinstance(time, int | None) for time in times)


def set_aside(step: Path) -> Path:
    """Renames the directory of a step, out of Orbax's sight, and returns where it is now."""
    places = (step.with_name(f"{step.name}{f'.{n}' if n > 1 else ''}{ASIDE}") for n in count(1))
    return step.rename(next(place for place in places if not place.exists()))


def damage(step: Path) -> list[str]:
    """Returns what is not as it was when a saved step was sealed, a few words each.

    Of one that never was sealed it is whether it is a whole step.

    Args:
      step: its directory.
    """
    if not is_sealed(step):
        return [] if (step / LISTED).is_file() else ["it is empty, or a kill cut it short"]
    try:
        sealed = read_json(step / DIGESTS, "")
    except UserError:
        return [f"{DIGESTS} is damaged"]
    files = sealed.get("files")
    if sealed.get("format") != DIGESTS_FORMAT or not isinstance(files, dict):
        return [f"{DIGESTS} is damaged, or of a later version"]
    here = _digests(step)
    return [
        f"{name} {'has changed' if name in here else 'is missing'}"
        for name, digest in files.items()
        if here.get(name) != digest
    ]


def damage_text(found: Sequence[str]) -> str:
    """Returns what `damage` has found as one text; of many files the first few, and how many more there are."""
    more = [f"and {len(found) - _MOST_NAMES:,} more files"] if len(found) > _MOST_NAMES else []
    return "; ".join([*found[:_MOST_NAMES], *more])


def _digests(step: Path) -> dict[str, str]:
    """Returns {file, with "/" between folders: SHA-256}, but for the digests themselves."""
    files = sorted(path for path in step.rglob("*") if path.is_file() and path != step / DIGESTS)
    with ThreadPoolExecutor() as threads:  # hashing does not hold Python's lock
        found = list(threads.map(file_sha256, files))
    return {path.relative_to(step).as_posix(): digest for path, digest in zip(files, found, strict=True)}
