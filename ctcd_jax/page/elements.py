"""HTML of our pages: sections, tables, figures. Everything is inline; a page loads nothing and runs no script."""

import re
from collections.abc import Collection, Sequence
from html import escape

from ctcd_jax.page.style import STYLE

MANY = 9  # columns; in a table with more of them, "mean ± deviation" takes two lines
LONG = 48  # characters; a column with more of them in a cell takes several lines
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte of a file's name


def page(title: str, lead: str, sections: Sequence[str], style: str = "", contents: Sequence[str] = ()) -> str:
    """Returns the whole document.

    Args:
      title, lead: text.
      sections: HTML of `section`.
      style: the page's own rules.
      contents: titles of the sections that links at the top lead to.
    """
    links = "".join(f'<li><a href="#{slug(name)}">{escape(name)}</a></li>' for name in contents)
    return plain(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n</header>\n'
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if contents else "")
        + "<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def plain(text: str) -> str:
    """Returns text that UTF-8 can hold.

    Python gives the bytes of a file's name as surrogates where the locale cannot read them, and JSON can spell some.
    """
    known = _NO_BYTES.sub("\N{REPLACEMENT CHARACTER}", text)
    return known.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def section(title: str, *parts: str) -> str:
    """Returns a titled section of HTML parts."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{slug(title)}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>'


def heading(text: str) -> str:
    """Returns the title of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, style: str = "") -> str:
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def figure(title: str, svg: str, caption: str = "", links: Sequence[str] = ()) -> str:
    """Returns a titled drawing; `svg` (with a legend, if it has one of its own) and `links` are HTML, the rest text."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{svg}{below}{downloads(links)}</figure>"


def grid(figures: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Returns the key to curves: (what one looks like, HTML; its name, text)."""
    return f'<ul class="legend">{"".join(f"<li>{swatch}{escape(name)}</li>" for swatch, name in entries)}</ul>'


def table(
    rows: Sequence[Sequence[str]],
    caption: str = "",
    names: int = 1,
    links: Sequence[str] = (),
    words: Collection[int] = (),
) -> str:
    """Returns a table of text: the first row heads the columns, the first `names` columns head the rows.

    It scrolls sideways where it is too wide, also by keyboard: a region that can be focused, named by the caption.

    Args:
      links: to its data.
      words: other columns that hold words, not figures.
    """
    head, *body = rows
    label = escape(caption or "Table of " + ", ".join(filter(None, head)))
    wide = len(head) > MANY
    if wide:
        body = [[text.replace("± ", "±\N{NO-BREAK SPACE}") for text in row] for row in body]
    left = {*range(names), *words}
    long = {column for column in left if any(len(row[column]) > LONG for row in body)}
    kinds = ["name long" if column in long else "name" if column in left else "" for column in range(len(head))]
    headings = "".join(_cell("th", text, kind, "col") for text, kind in zip(head, kinds, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(_cell("th", text, kind, "row") for text, kind in zip(row[:names], kinds, strict=False))
        + "".join(_cell("td", text, kind) for text, kind in zip(row[names:], kinds[names:], strict=True))
        + "</tr>"
        for row in body
    )
    above = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return (
        f'{above}<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f'<table aria-label="{label}"{_class("wide" if wide else "")}>'
        f"<thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div>{downloads(links)}"
    )


def _cell(tag: str, text: str, kind: str, scope: str = "") -> str:
    return f"<{tag}{_class(kind)}{f' scope={scope}' if scope else ''}>{escape(text)}</{tag}>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def downloads(links: Sequence[str]) -> str:
    return f'<div class="downloads">{"".join(links)}</div>' if links else ""


def collapsed(title: str, text: str) -> str:
    """Returns text that is shown on demand, as it is."""
    return folded(title, f'<pre role="region" tabindex="0" aria-label="{escape(title)}">{escape(text)}</pre>')


def folded(title: str, html: str) -> str:
    """Returns HTML that is shown on demand."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def slug(text: str) -> str:
    """Returns `text` as it may stand in an id and in the name of a file: letters, digits and hyphens."""
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.") or "unnamed"
