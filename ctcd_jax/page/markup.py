"""The element builder: all HTML and SVG of our pages is made here, so that no text gets into one unescaped."""

from collections.abc import Iterable
from html import escape

_CHILDLESS = frozenset({"circle", "meta", "path", "rect"})


class Html(str):
    """Markup of this module's functions. Whatever is done with it as a string makes text of it, which is escaped."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: object) -> Html:
    """Returns an element; children that are no Html, and all values of attributes, are text and are escaped.

    Args:
      tag: name of the element.
      children: what it holds.
      attributes: in names "_" stands for "-", and one at the end is dropped (`class_`); None leaves one out.
    """
    named = ((name.removesuffix("_").replace("_", "-"), value) for name, value in attributes.items())
    opened = "".join([tag, *(f' {name}="{escape(str(value))}"' for name, value in named if value is not None)])
    return Html(f"<{opened}/>" if tag in _CHILDLESS and not children else f"<{opened}>{join(children)}</{tag}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Returns the parts one after another; those that are no Html are text and are escaped."""
    return Html(escape(between).join(part if isinstance(part, Html) else escape(part) for part in parts))


def style_sheet(css: str) -> Html:
    """Returns a <style> element, in which a browser knows no escapes.

    Raises:
      ValueError: `css` would end it.
    """
    if "</" in css:
        raise ValueError("'</' in a style sheet ends its element")
    return Html(f"<style>{css}</style>")


def document(*children: str) -> Html:
    """Returns a whole page, in English."""
    return Html(f"<!doctype html>\n{element('html', *children, lang='en')}\n")
