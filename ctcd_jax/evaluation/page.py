"""The report's HTML: its style sheet, tables and figures. Everything is inline; the page loads nothing."""

from collections.abc import Sequence
from html import escape

# The Okabe-Ito palette, safe for colour-blind readers; its yellow is too pale on paper and its black unseen at night.
STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #22252a; --quiet: #63686f; --rule: #dddcd6; --wash: #f3f2ed;
  --c0: #0072b2; --c1: #d55e00; --c2: #00805e; --c3: #b4558c; --c4: #8a6d00; --c5: #3b93c4; --c6: #22252a;
  --c7: #8c5a2b; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e4df; --quiet: #9da2a8; --rule: #34383d;
  --wash: #1e2124; --c0: #56a8e0; --c1: #f08a3c; --c2: #35c39a; --c3: #e08bbd; --c4: #e0c040; --c5: #93cdf0;
  --c6: #e4e4df; --c7: #c89a6a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.75rem; font-weight: 650; letter-spacing: -0.015em; line-height: 1.2; margin: 0 0 0.6rem; }
h2 { font-size: 1.2rem; font-weight: 650; margin: 3rem 0 0.4rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 0.95rem; font-weight: 600; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
p { margin: 0.4rem 0 0.8rem; max-width: 44rem; }
.lead { font-size: 1.08rem; }
.note, figcaption, caption { color: var(--quiet); font-size: 0.85rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 2rem 2.5rem;
  margin: 1rem 0; }
figure { margin: 0; min-width: 0; max-width: 32rem; }
figcaption { margin-top: 0.3rem; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.25rem 1.4rem; padding: 0; margin: 0.8rem 0 0;
  font-size: 0.9rem; }
.legend span { display: inline-block; width: 1.3rem; border-top: 3px solid; vertical-align: 0.26em;
  margin-right: 0.45rem; }
.legend .dashed { border-top-style: dashed; }
.chart text { font-size: 13px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
.chart .end, .chart .mark { font-weight: 600; }
.chart .mark { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.chart path { fill: none; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .axis { stroke: var(--quiet); stroke-width: 1; }
.chart .thin { stroke-width: 1.1; opacity: 0.55; stroke-linejoin: round; }
.chart .bar { fill: var(--c0); }
.chart .bold { stroke-width: 2.6; stroke-linejoin: round; stroke-linecap: round; }
.cohort text { font-size: 13px; fill: var(--ink); text-anchor: middle; }
.cohort .edges text { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.cohort .name { font-weight: 650; font-size: 15px; }
.cohort .detail { fill: var(--quiet); }
.cohort .weight { font-weight: 600; }
.cohort rect { fill: var(--wash); stroke: var(--c0); stroke-width: 1.6; }
.cohort .frozen rect { fill: none; stroke: var(--quiet); stroke-dasharray: 5 4; }
.cohort .edge { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.cohort .tip { fill: var(--ink); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.4rem; }
th, td { padding: 0.35rem 0 0.35rem 1.1rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
.name { text-align: left; }
th:first-child { padding-left: 0; }
thead th { color: var(--quiet); font-weight: 500; border-bottom-color: var(--quiet); vertical-align: bottom; }
thead th { white-space: normal; max-width: 8.5rem; }
tbody th { font-weight: 400; }
tbody th:first-child { font-weight: 600; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { background: var(--wash); padding: 0.8rem 1rem; overflow-x: auto; font-size: 0.8rem; line-height: 1.45; }
@media (max-width: 30rem) { .chart text { font-size: 15px; } .cohort text { font-size: 14px; } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, lead: str, sections: Sequence[str], style: str = "") -> str:
    """Returns the whole document; `title` and `lead` are text, `sections` HTML, `style` the page's own rules."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Returns a titled section of HTML parts."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def paragraph(text: str, style: str = "") -> str:
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def figure(title: str, svg: str, caption: str = "") -> str:
    """Returns a titled drawing; `svg` is HTML, the rest text."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{svg}{below}</figure>"


def grid(figures: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def legend(names: Sequence[str], colours: int) -> str:
    """Returns the key to curves coloured in the order of `names`, dashed where the colours have come round."""
    items = (
        f'<li><span{" class=dashed" if index >= colours else ""} style="border-color:var(--c{index % colours})"></span>'
        f"{escape(name)}</li>"
        for index, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def table(rows: Sequence[Sequence[str]], caption: str = "", names: int = 1) -> str:
    """Returns a table of text: the first row heads the columns, the first `names` columns head the rows."""
    head, *body = rows
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    headings = "".join(
        f'<th scope="col"{" class=name" if column < names else ""}>{escape(cell)}</th>'
        for column, cell in enumerate(head)
    )
    lines = "".join(
        "<tr>"
        + "".join(f'<th scope="row" class="name">{escape(cell)}</th>' for cell in row[:names])
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[names:])
        + "</tr>"
        for row in body
    )
    return f'<div class="scroll"><table>{above}<thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div>'


def collapsed(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
