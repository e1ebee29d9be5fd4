import pytest

from ctcd_jax.data.docstrings import prose_paragraphs
from ctcd_jax.data.sources import Reading, open_source

LOUD = '''
"""This module raises when it is imported, and nobody should."""
raise RuntimeError("imported")

if True:
    class A:
        """The first class of this small package."""

        async def f(self):
            """Wait for the answer of the other side."""
            def g():
                """Only the inner function knows about this."""
'''


def test_modules_are_parsed_and_not_imported(tmp_path):
    package = tmp_path / "package"
    (package / "tests").mkdir(parents=True)
    (package / "loud.py").write_text(LOUD)
    (package / "again.py").write_text(LOUD.replace("first class", "second class"))
    (package / "broken.py").write_text('"""A docstring that nobody will ever read."""\ndef (')
    (package / ".#loud.py").symlink_to("somebody@somewhere.1:2")  # as an editor leaves it
    (package / "data.txt").write_text("This is not a module of the package.")
    (package / "tests" / "test_loud.py").write_text('"""The tests of the package are skipped."""')

    source = open_source(f"docstrings:{tmp_path}", log=lambda line: None)
    [file] = source.files
    documents = {document.path: list(document.paragraphs) for document in file.documents(Reading())}
    assert documents == {
        "package/again.py": [
            "This module raises when it is imported, and nobody should.",
            "The second class of this small package.",
            "Wait for the answer of the other side.",
            "Only the inner function knows about this.",
        ],
        "package/loud.py": ["The first class of this small package."],  # the others were read before
    }
    assert source.details["modules_skipped"] == 2
    assert source.details["packages"]["python"]


@pytest.mark.parametrize(
    ("docstring", "paragraphs"),
    [
        ("The sum of the\nnumbers.", []),
        ("Return the sum of ``numbers`` in\n:class:`~a.List`.", ["Return the sum of numbers in a.List."]),
        (">>> The first of all the lines.\nThe output of all the lines.\n\nThe text after the blank line.",
         ["The text after the blank line."]),
        ("See https://example.com for the rest of it.", []),
        ("Parameters\n----------\nx : int\n    The number of the rows to read.", ["The number of the rows to read."]),
        (".. note::\n\n   This is in the body of a directive.\n\nThis is the text after the directive.",
         ["This is the text after the directive."]),
        ("This is how it is called::\n\n    This is the code of the example.", []),
        ("Args:\n  x: The number of the rows to read.", []),
        ("- The first of the two points\n  goes over two lines.\n- The second of the two points does not.",
         ["The first of the two points goes over two lines.", "The second of the two points does not."]),
    ],
)  # fmt: skip
def test_only_english_prose_is_kept(docstring, paragraphs):
    assert prose_paragraphs(docstring) == paragraphs
