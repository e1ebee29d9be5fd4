"""Source `docstrings`: the English prose of a Python environment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from ctcd_jax.data import docstrings
from ctcd_jax.data.hashing import hash64, portable
from ctcd_jax.data.sources.base import Document, InputFile, Reading, Spec
from ctcd_jax.data.sources.files import expanded


def open_docstrings(spec: Spec, log: Callable[[str], None]) -> tuple[list[InputFile], Mapping[str, object]]:
    """Parses every module under the location; the text is kept (tens of megabytes).

    Parsing costs far more than keeping, and duplicates are found across modules.
    """
    roots = [Path(expanded(spec.location))] if spec.location else docstrings.interpreter_roots()
    for root in roots:
        if not root.is_dir():
            raise spec.error(f"{root} is not a directory; give one with Python code, or 'docstrings' alone")
    prose = docstrings.collect(roots, log)
    if prose.skipped:
        log(f"source '{spec.text}': {prose.skipped:,} modules do not parse and are left out")
    files = []
    for root, modules in zip(roots, prose.modules, strict=True):
        text = [line for path, paragraphs in modules.items() for line in (path, *paragraphs)]
        size = sum(map(len, text))
        files.append(InputFile(portable(root.name), size, f"{hash64(*text):x}", partial(_documents, root, modules)))
    return files, {"packages": prose.packages, "modules_skipped": prose.skipped}


def _documents(root: Path, modules: Mapping[str, Sequence[str]], reading: Reading) -> Iterator[Document]:
    for number, (path, paragraphs) in enumerate(modules.items()):
        reading.share = number / len(modules)
        reading.lines += len(paragraphs)
        place = partial("{}/{}".format, root, path)
        yield Document(portable(path), 0, [reading.characters(text, place) for text in paragraphs])
