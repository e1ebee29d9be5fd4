"""What no text can get out of: the element builder, and that nothing else makes HTML."""

import ast
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ctcd_jax
from ctcd_jax.page.markup import Html, document, element, join, style_sheet

HOSTILE = """'"><script>&</script>"""


class Read(HTMLParser):
    """The tags, attributes and texts that a browser would find."""

    def __init__(self, markup):
        super().__init__()
        self.found = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.found.append(data)


def test_text_and_attributes_are_read_as_they_were_given():
    made = element("p", HOSTILE, element("b", HOSTILE), title=HOSTILE, class_=Html("<"))
    assert Read(made).found == [("p", {"title": HOSTILE, "class": "<"}), HOSTILE, ("b", {}), HOSTILE]


def test_markup_is_passed_on_and_what_is_made_of_it_as_a_string_is_not():
    inner = element("b", "x")
    assert element("p", inner, join([inner, "<"], ">")) == "<p><b>x</b><b>x</b>&gt;&lt;</p>"
    for text in (f"{inner}", inner + "", "" + inner, inner * 1, "".join([inner]), inner.strip(), inner[:]):
        assert element("p", text) == "<p>&lt;b&gt;x&lt;/b&gt;</p>"


def test_names_of_attributes_and_elements_without_content():
    assert element("path", class_="a", stroke_dasharray=None, aria_label=0) == '<path class="a" aria-label="0"/>'
    assert element("td") == "<td></td>"
    assert element("path", element("title", "t")) == "<path><title>t</title></path>"
    assert document(element("body")) == '<!doctype html>\n<html lang="en"><body></body></html>\n'


def test_a_style_sheet_cannot_end_its_element():
    assert style_sheet('a > b { c: "d" }') == '<style>a > b { c: "d" }</style>'
    with pytest.raises(ValueError, match="'</'"):
        style_sheet("</style><script>")


def test_nothing_but_the_builder_makes_html():
    """No module has a way to escape by hand, or to call a text HTML, so that none can forget to."""
    package = Path(ctcd_jax.__file__).parent
    offences, makes_html = [], []
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    used = [alias.name for alias in names]
                case ast.ImportFrom(module=module):
                    used = [module or ""]
                case ast.Call(func=ast.Name(id="Html") | ast.Attribute(attr="Html"), args=[_, *_]):
                    used = ["Html(...)"]
                case _:
                    continue
            wrong = {"html", "html.entities", "markupsafe", "xml.sax.saxutils", "cgi", "Html(...)"} & set(used)
            (makes_html if name == "page/markup.py" else offences).extend((name, one) for one in sorted(wrong))
    assert not offences
    assert {one for _, one in makes_html} == {"html", "Html(...)"}  # what is looked for is found where it is
