"""Where text comes from: a SPEC is opened into input files, each of which yields its documents as often as asked.

    SPEC = KIND[:LOCATION][,key=value ...]

text        LOCATION is a glob; plain, gzip, xz, zstd or bz2; a sentence or a paragraph a line. A document ends at a
            blank line, at the file's end or after 1,000 lines.
jsonl       LOCATION is a glob; an object a line, plain or compressed; a document is the string in `field`.
parquet     LOCATION is a glob; a document is the string in the column `field`.
hf          LOCATION is a data set of the Hugging Face hub, or a directory of one; `name`, `split`, `field`.
tfds        LOCATION is a data set prepared by tensorflow-datasets, by name or directory; `split`, `field`.
docstrings  LOCATION is a directory of Python code, by default the running interpreter's. An input file is such a
            directory; a document is a module.

Every kind takes `share=0.5` (keep each sentence with this probability) and `lines=sentences` (a line is a sentence:
do not split it). `field` is "text" and `split` is "train" unless given (for hf, its only split if there is but one).
What exists as it is written is meant literally, whatever characters are in it.
"""

import os
import re
from collections.abc import Callable, Mapping

from ctcd_jax.data.sources import environment, hub, jsonl, parquet, text, tfds
from ctcd_jax.data.sources.base import Document, InputFile, Reading, Source, Spec
from ctcd_jax.data.sources.files import expanded, split_glob
from ctcd_jax.errors import UserError, did_you_mean
from ctcd_jax.ranges import Range

__all__ = ["Document", "InputFile", "Reading", "Source", "open_source"]

Log = Callable[[str], None]

_COMMON_KEYS = ("share", "lines")
_LINES = ("paragraphs", "sentences")


def open_source(spec: str, log: Log = print) -> Source:
    """Opens `KIND[:LOCATION][,key=value ...]`; `log` is called with a line about what takes long.

    Raises:
      UserError: for an unknown kind or key, a value that does not do, or when nothing is at the location.
    """
    parsed = _parse(spec)
    _, opener = _KINDS[parsed.kind]
    files, details = opener(parsed, log)
    return Source(spec, files, _share(parsed), _sentence_lines(parsed), details)


def _parse(text_: str) -> Spec:
    kind, _, rest = text_.partition(":")
    location, keys = _split_keys(rest)
    if not rest:
        kind, keys = _split_keys(kind)
    if kind not in _KINDS:
        hint = did_you_mean(kind, _KINDS)
        if os.path.lexists(expanded(text_)):
            hint = f"; text in files is text:{text_}"
        elif kind in ("csv", "tsv"):
            hint = "; give a table as JSON Lines (jsonl:) or Parquet (parquet:)"
        raise UserError(f"source '{text_}': unknown kind '{kind}'{hint}")
    spec = Spec(text_, kind, location, keys)
    allowed = (*_KINDS[kind][0], *_COMMON_KEYS)
    for key in spec.keys:
        if key not in allowed:
            raise spec.error(f"{kind} knows no key '{key}'{did_you_mean(key, allowed)}")
    return spec


def _split_keys(text_: str) -> tuple[str, dict[str, str]]:
    """Returns (location, keys): the location is the longest beginning that exists, for a name may look like keys."""
    found = list(re.finditer(r",(\w+)=", text_))
    ends = [*(match.start() for match in found), len(text_)]
    first = next((n for n in range(len(found), 0, -1) if _exists(text_[: ends[n]], ends[n - 1])), 0)
    values = [text_[match.end() : end] for match, end in zip(found, ends[1:], strict=True)]
    names = [match[1] for match in found]
    return text_[: ends[first]], dict(zip(names[first:], values[first:], strict=True))


def _exists(location: str, key: int) -> bool:
    """Whether what is at `key` of a location is in the name of a file or directory."""
    root, _ = split_glob(expanded(location))
    return os.path.lexists(expanded(location)) or (len(root) > key and os.path.lexists(root))


def _share(spec: Spec) -> float:
    try:
        share = float(spec.keys.get("share", 1))
    except ValueError:
        share = 0.0
    if not Range(0, 1, above=True).holds(share):
        raise spec.error(f"share={spec.keys['share']} is not a number above 0 and at most 1")
    return share


def _sentence_lines(spec: Spec) -> bool:
    lines = spec.keys.get("lines", "paragraphs")
    if lines not in _LINES:
        raise spec.error(f"lines={lines} is unknown{did_you_mean(lines, _LINES)}")
    return lines == "sentences"


_Opened = tuple[list[InputFile], Mapping[str, object]]
"""The input files, and what goes into the manifest."""

_KINDS: Mapping[str, tuple[tuple[str, ...], Callable[[Spec, Log], _Opened]]] = {
    "text": ((), text.open_text),
    "jsonl": (("field",), jsonl.open_jsonl),
    "parquet": (("field",), parquet.open_parquet),
    "hf": (("name", "split", "field"), hub.open_hub),
    "tfds": (("split", "field"), tfds.open_tfds),
    "docstrings": ((), environment.open_docstrings),
}
