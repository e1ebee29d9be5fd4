"""English prose that is on every machine: the docstrings of the Python environment, parsed, never imported.

A docstring is kept once, however many modules carry it. Of each, only paragraphs that read as English survive:
doctests, parameter tables, directives, literal blocks, signatures and headings fall away.
"""

import ast
import gc
import importlib.metadata
import inspect
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ctcd_jax.jobs.progress import watch

_SKIPPED_DIRECTORIES = {"__pycache__", "test", "tests", "idle_test", "site-packages", "dist-packages"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

_BULLET = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)])\s+")
_UNDERLINE = re.compile(r"([-=~^\"'`#*+.])\1{2,}$")
_ROLE = re.compile(r":[\w:.-]+:`~?\.?([^`<]+?)(?:\s*<[^`>]*>)?`")
_MARKUP = re.compile(r"`+_*|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")
_SENTENCE = re.compile(r"[A-Z\"'(].*[.!?][\"')]*$")
_CODE = re.compile(r"://|>>>|->|=>|==|::|\w\(\w*=|[{}\\|<>=@#~\[\]]|\w\.\w+\(|\b(?:self|args|kwargs)\b")
_FUNCTION_WORD = re.compile(
    r"\b(?:the|an?|of|to|is|are|and|in|for|that|this|be|it|if|with|or|as|by|not|from|on)\b", re.IGNORECASE
)
_MIN_WORDS = 6
_MIN_LETTERS = 0.9


@dataclass(frozen=True)
class Docstrings:
    """What `collect` found: for each root its modules in order of their paths, each with its paragraphs."""

    modules: Sequence[Mapping[str, Sequence[str]]]
    packages: Mapping[str, str]
    skipped: int


def interpreter_roots() -> list[Path]:
    """Returns the directories of the running interpreter's standard library and installed packages."""
    paths = sysconfig.get_paths()
    return [Path(path) for path in dict.fromkeys(paths[name] for name in ("stdlib", "purelib", "platlib"))]


def collect(roots: Sequence[Path], log: Callable[[str], None] = print) -> Docstrings:
    """Reads the docstrings of every module under `roots`; `skipped` counts those that do not parse."""
    seen: set[bytes] = set()
    modules, skipped = [], 0
    for root in roots:
        found = {}
        for path in watch(_module_paths(root), f"parsing {root.name}", "modules", log):
            docstrings = _docstrings(root / path)
            if docstrings is None:
                skipped += 1
                continue
            paragraphs = [paragraph for text in _unseen(docstrings, seen) for paragraph in prose_paragraphs(text)]
            if paragraphs:
                found[path] = paragraphs
        modules.append(found)
    return Docstrings(modules, _packages(roots), skipped)


def prose_paragraphs(docstring: str) -> list[str]:
    """Returns the paragraphs of a cleaned docstring that are English prose, each joined to one line, without markup."""
    joined = (_MARKUP.sub("", _ROLE.sub(r"\1", text)) for text in _paragraphs(docstring))
    return [text for text in joined if _is_prose(text)]


def _module_paths(root: Path) -> list[str]:
    paths = []
    for directory, children, files in os.walk(root):
        children[:] = [name for name in children if name not in _SKIPPED_DIRECTORIES]
        paths += [(Path(directory) / name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    return sorted(paths)


def _docstrings(path: Path) -> list[str] | None:
    """Returns the cleaned docstrings of a module in order, or None if it is not a module this interpreter can read."""
    try:
        source = path.read_bytes()
    except OSError:  # an editor's lock is a link that leads nowhere
        return None
    if b'"""' not in source and b"'''" not in source:
        return []
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree is many objects and no cycles: collecting meanwhile costs a quarter of the time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(source)
        return [text for node in _documented(tree) if (text := ast.get_docstring(node, clean=False))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    finally:
        if collecting:
            gc.enable()


def _documented(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yields the module, classes and functions in `node`, outer before inner; expressions are not entered."""
    if isinstance(node, _DOCUMENTED):
        yield node
    for block in ("body", "orelse", "handlers", "finalbody"):
        children = getattr(node, block, ())
        for child in children if isinstance(children, list) else ():
            yield from _documented(child)


def _unseen(docstrings: Sequence[str], seen: set[bytes]) -> Iterator[str]:
    for docstring in map(inspect.cleandoc, docstrings):
        digest = blake2b(docstring.encode(errors="replace"), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield docstring


def _paragraphs(docstring: str) -> Iterator[str]:
    """Yields runs of lines of one indentation, joined; code, directives and headings end a run and are left out."""
    run: list[str] = []
    indentation, literal = 0, None  # literal: the indentation whose deeper lines are code or a directive's
    doctest = False  # until a blank line
    for line in docstring.expandtabs().split("\n"):
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if (doctest and text) or (literal is not None and (not text or depth > literal)):
            continue
        doctest, literal = text.startswith(">>>"), None
        bullet = _BULLET.match(text)
        if not text or depth != indentation or bullet:
            yield " ".join(run)
            run = []
        if not text or doctest or _UNDERLINE.match(text):
            run = []
        elif text.startswith(".. "):
            literal = depth
        else:
            indentation = depth + (bullet.end() if bullet else 0)
            run.append(text[bullet.end() if bullet else 0 :])
            if text.endswith("::"):
                literal = depth
    yield " ".join(run)


def _is_prose(text: str) -> bool:
    words = text.split()
    if len(words) < _MIN_WORDS or not _SENTENCE.match(text) or _CODE.search(text):
        return False
    letters = sum(character.isalpha() or character.isspace() or character in ".,;'\"-" for character in text)
    return letters >= _MIN_LETTERS * len(text) and _FUNCTION_WORD.search(text) is not None


def _packages(roots: Sequence[Path]) -> dict[str, str]:
    installed = importlib.metadata.distributions(path=[str(root) for root in roots])
    versions = {distribution.name: distribution.version for distribution in installed if distribution.name}
    return {"python": platform.python_version()} | dict(sorted(versions.items()))
