"""Source `jsonl`: a JSON object a line, a document in each."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ctcd_jax.data.sources.base import Document, InputFile, Spec, paragraphs
from ctcd_jax.data.sources.files import line_files
from ctcd_jax.data.sources.lines import LineReader
from ctcd_jax.errors import UserError


def open_jsonl(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Finds the files of a glob; what is in them is looked at when they are read."""
    documents = partial(jsonl_documents, field=spec.keys.get("field", "text"))
    return line_files(spec, "jsonl:DIR/*.jsonl.zst", documents, log), {}


def jsonl_documents(lines: LineReader, name: str, field: str) -> Iterator[Document]:
    """Yields the documents of a file, numbered by record: a null or blank one counts and is left out.

    Args:
      lines: of the file.
      name: of the input file.
      field: whose string is the text.

    Raises:
      UserError: for a line that is not an object with a string or null in `field`.
    """
    for number, line in enumerate(line for line in lines if line):
        kept = paragraphs(_text(line, field, lines))
        if kept:
            yield Document(name, number, kept)


def _text(line: str, field: str, lines: LineReader) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _no_object(lines, str(error)) from error
    if not isinstance(record, dict):
        raise _no_object(lines, f"a {type(record).__name__}")
    if field not in record:
        raise UserError(f"{lines.place()}: no field '{field}'; there are: {', '.join(record)}")
    text = record[field]
    if not isinstance(text, str | None):
        raise UserError(f"{lines.place()}: field '{field}' is a {type(text).__name__}, not a string")
    return lines.reading.characters(text or "", lines.place)


def _no_object(lines: LineReader, problem: str) -> UserError:
    return UserError(
        f"{lines.place()}: not a JSON object ({problem}); each line must hold a whole one: `jq -c . FILE > NEW` puts"
        " objects on lines, `jq -c '.[]' FILE > NEW` those of an array"
    )
