"""Source `text`: a sentence or a paragraph a line, a blank line between documents."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from ctcd_jax.data.sources.base import Document, InputFile, Spec
from ctcd_jax.data.sources.files import line_files

DOCUMENT_LINES = 1000


def open_text(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Finds the files of a glob."""
    return line_files(spec, "text:DIR/*.txt.xz", text_documents, log), {}


def text_documents(lines: Iterable[str], name: str) -> Iterator[Document]:
    """Yields the documents of a file; one ends at a blank line, at the end and after 1,000 lines."""
    number, paragraphs = 0, []
    for line in lines:
        if line:
            paragraphs.append(line)
        if paragraphs and (not line or len(paragraphs) == DOCUMENT_LINES):
            yield Document(name, number, paragraphs)
            number, paragraphs = number + 1, []
    if paragraphs:
        yield Document(name, number, paragraphs)
