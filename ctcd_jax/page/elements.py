"""The parts of our pages: sections, tables, figures. Everything is inline; a page loads nothing and runs no script."""

import re
from collections.abc import Collection, Sequence

from ctcd_jax.page.markup import Html, document, element, join, style_sheet
from ctcd_jax.page.style import STYLE

MANY = 9  # columns; in a table with more of them, "mean ± deviation" takes two lines
LONG = 48  # characters; a column with more of them in a cell takes several lines
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte of a file's name


def page(title: str, lead: str, sections: Sequence[Html], rules: str = "", contents: Sequence[str] = ()) -> str:
    """Returns the whole document.

    Args:
      title, lead: text.
      sections: of `section`.
      rules: the page's own CSS.
      contents: titles of the sections that links at the top lead to.
    """
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        style_sheet(STYLE + rules),
    ]
    header = [element("h1", title), element("p", lead, class_="lead")]
    links = join(element("li", element("a", name, href=f"#{slug(name)}")) for name in contents)
    body = [element("header", *_lines(header))]
    body += [element("nav", element("ul", links), aria_label="Sections")] if contents else []
    body += [element("main", *_lines(sections))]
    return plain(document("\n", element("head", *_lines(head)), "\n", element("body", *_lines(body)), "\n"))


def _lines(parts: Sequence[Html]) -> Sequence[str]:
    return ["\n", join(parts, "\n"), "\n"]


def plain(text: str) -> str:
    """Returns text that UTF-8 can hold.

    Python gives the bytes of a file's name as surrogates where the locale cannot read them, and JSON can spell some.
    """
    known = _NO_BYTES.sub("\N{REPLACEMENT CHARACTER}", text)
    return known.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def section(title: str, *parts: Html) -> Html:
    """Returns a titled section."""
    inner = join((part for part in (element("h2", title), *parts) if part), "\n")
    return element("section", *_lines([inner]), id=slug(title))


def heading(text: str) -> Html:
    """Returns the title of a part of a section."""
    return element("h3", text)


def paragraph(text: str, style: str | None = None) -> Html:
    return element("p", text, class_=style)


def figure(title: str, svg: Html, caption: str = "", links: Sequence[Html] = ()) -> Html:
    """Returns a titled drawing.

    Args:
      title: text.
      svg: the drawing; its legend, if it has one, is part of it.
      caption: text.
      links: to its data.
    """
    below = element("figcaption", caption) if caption else ""
    return element("figure", heading(title), svg, below, downloads(links))


def grid(figures: Sequence[Html]) -> Html:
    return element("div", *figures, class_="grid") if figures else Html()


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """Returns the key to curves: (what one looks like, its name)."""
    return element("ul", *(element("li", *entry) for entry in entries), class_="legend")


def table(
    rows: Sequence[Sequence[str]],
    caption: str = "",
    names: int = 1,
    links: Sequence[Html] = (),
    words: Collection[int] = (),
    label: str = "",
) -> Html:
    """Returns a table of text.

    It scrolls sideways where it is too wide, also by keyboard: a region that can be focused, named by the caption. A
    cell may be Html.

    Args:
      rows: of equal length; the first heads the columns.
      caption: text.
      names: how many of the first columns head the rows.
      links: to its data.
      words: other columns that hold words, not figures.
      label: names it for who cannot see it, where the caption does not.
    """
    head, *body = rows
    label = label or caption or "Table of " + ", ".join(filter(None, head))
    wide = len(head) > MANY
    if wide:
        body = [
            [text if isinstance(text, Html) else text.replace("± ", "±\N{NO-BREAK SPACE}") for text in row]
            for row in body
        ]
    left = {*range(names), *words}
    long = {column for column in left if any(_is_long(row[column]) for row in body)}
    kinds = ["name long" if column in long else "name" if column in left else None for column in range(len(head))]
    headings = (element("th", text, class_=kind, scope="col") for text, kind in zip(head, kinds, strict=True))
    lines = (
        element(
            "tr",
            *(
                element("th", text, class_=kind, scope="row") if column < names else element("td", text, class_=kind)
                for column, (text, kind) in enumerate(zip(row, kinds, strict=True))
            ),
        )
        for row in body
    )
    made = element(
        "table",
        element("thead", element("tr", *headings)),
        element("tbody", *lines),
        aria_label=label,
        class_="wide" if wide else None,
    )
    above = paragraph(caption, "caption") if caption else ""
    return join([above, _region("div", made, label, class_="scroll"), downloads(links)])


def _is_long(cell: str) -> bool:
    return len(cell) > LONG and not isinstance(cell, Html)


def _region(tag: str, child: str, label: str, **attributes: str) -> Html:
    """What scrolls, and can be focused to do so by keyboard."""
    return element(tag, child, **attributes, role="region", tabindex=0, aria_label=label)


def downloads(links: Sequence[Html]) -> Html:
    return element("div", *links, class_="downloads") if links else Html()


def collapsed(title: str, text: str) -> Html:
    """Returns text that is shown on demand, as it is."""
    return folded(title, _region("pre", text, title))


def folded(title: str, part: Html) -> Html:
    """Returns a part that is shown on demand."""
    return element("details", element("summary", title), part)


def slug(text: str) -> str:
    """Returns `text` as it may stand in an id and in the name of a file: letters, digits and hyphens."""
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.") or "unnamed"
