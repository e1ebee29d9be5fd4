"""Docstrings of the package's public functions, read from the source: nothing is imported."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ctcd_jax"
NOT_YET = ("artifacts", "evaluation", "jobs", "training/metrics.py", "training/trackers.py")
MANY = 3

_CROSS_REFERENCE = re.compile(r"\b[Aa]rg(ument)?s\s+as\s+for\s+`")
_SECTION = re.compile(r"^Args:\n((?:(?:  .*)?\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"^  (\w[\w, ]*):", re.MULTILINE)


def public_functions(source, prefix=""):
    """Yields (qualified name, definition) of functions and of methods; of nested functions none."""
    for node in source.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node


def parameters(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    names = [each.arg for each in named if each]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def faults(source):
    """Returns what is wrong with the `Args:` of the functions of a module's text, one line each."""
    found: list[str] = []
    for name, function in public_functions(ast.parse(source)):
        wanted, text = parameters(function), ast.get_docstring(function) or ""
        section = _SECTION.search(text)
        given = [each for entry in _ENTRY.findall(section[1]) for each in entry.split(", ")] if section else []
        missing = [] if len(wanted) < MANY or _CROSS_REFERENCE.search(text) else set(wanted) - set(given)
        found += [f"{name}: no '{each}' in Args" for each in wanted if each in missing]
        found += [f"{name}: Args has '{each}', which is no parameter" for each in given if each not in wanted]
    return found


def test_functions_of_three_or_more_parameters_say_what_each_is():
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.is_relative_to(PACKAGE / "configs")]
    checked = [path for path in modules if not path.relative_to(PACKAGE).as_posix().startswith(NOT_YET)]
    assert len(checked) > 100
    assert [f"{path.relative_to(PACKAGE)}: {fault}" for path in checked for fault in faults(path.read_text())] == []


def test_what_counts_as_a_fault():
    def of(docstring, signature="a, b, *c"):
        return faults(f'def f({signature}):\n    """{docstring}"""')

    assert of("Adds.") == ["f: no 'a' in Args", "f: no 'b' in Args", "f: no 'c' in Args"]
    assert of("Adds.\n\n    Args:\n      a, b: terms.\n        More: of it.\n      c: int[N].\n    ") == []
    assert of("Adds.\n\n    Args:\n      a: a term.\n\n    Returns:\n      b: it.\n    ")[0] == "f: no 'b' in Args"
    assert of("Adds. Args as for `add`.") == []
    assert of("Adds.", "self, a, b") == []
    assert of("Adds.\n\n    Args:\n      z: gone.\n    ", "a") == ["f: Args has 'z', which is no parameter"]
    assert faults("class _A:\n    def f(self, a, b, c): ...\ndef _f(a, b, c): ...") == []
    assert faults("class A:\n    def f(self, a, b, c): ...") == [f"A.f: no '{name}' in Args" for name in "abc"]
