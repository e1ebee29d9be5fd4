"""Where text comes from: a SPEC is opened into input files, each of which yields its documents as often as asked.

    SPEC = KIND[:LOCATION][,key=value ...]

text        LOCATION is a glob; plain, .gz, .xz or .zst; a sentence or a paragraph a line. A document ends at a blank
            line, at the file's end or after 1,000 lines.
jsonl       LOCATION is a glob; an object a line, plain or compressed; a document is the string in `field`.
parquet     LOCATION is a glob; a document is the string in the column `field`.
hf          LOCATION is a data set of the Hugging Face hub, or a directory of one; `name`, `split`, `field`.
tfds        LOCATION is a data set prepared by tensorflow-datasets, by name or directory; `split`, `field`.
docstrings  LOCATION is a directory of Python code, by default the running interpreter's. An input file is such a
            directory; a document is a module.

Every kind takes `share=0.5` (keep each sentence with this probability) and `lines=sentences` (a line is a sentence:
do not split it). `field` is "text" and `split` is "train" unless given (for hf, its only split if there is but one).
"""

import re
from collections.abc import Callable, Mapping

from ctcd_jax.data.sources import environment, hub, jsonl, parquet, text, tfds
from ctcd_jax.data.sources.base import Document, InputFile, Reading, Source, Spec
from ctcd_jax.errors import UserError, did_you_mean

__all__ = ["Document", "InputFile", "Reading", "Source", "open_source"]

Log = Callable[[str], None]

_COMMON_KEYS = ("share", "lines")
_LINES = ("paragraphs", "sentences")


def open_source(spec: str, log: Log = print) -> Source:
    """Opens `KIND[:LOCATION][,key=value ...]`; what takes long tells `log` about it.

    Raises:
      UserError: for an unknown kind or key, a value that does not do, or when nothing is at the location.
    """
    parsed = _parse(spec)
    _, opener = _KINDS[parsed.kind]
    files, details = opener(parsed, log)
    return Source(spec, files, _share(parsed), _sentence_lines(parsed), details)


def _parse(text_: str) -> Spec:
    head, *pairs = re.split(r",(\w+)=", text_)
    kind, _, location = head.partition(":")
    if kind not in _KINDS:
        raise UserError(f"source '{text_}': unknown kind '{kind}'{did_you_mean(kind, _KINDS)}")
    spec = Spec(text_, kind, location, dict(zip(pairs[::2], pairs[1::2], strict=True)))
    allowed = (*_KINDS[kind][0], *_COMMON_KEYS)
    for key in spec.keys:
        if key not in allowed:
            raise spec.error(f"{kind} knows no key '{key}'{did_you_mean(key, allowed)}")
    return spec


def _share(spec: Spec) -> float:
    try:
        share = float(spec.keys.get("share", 1))
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
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
