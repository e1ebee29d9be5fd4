"""The kit of which pages are made: elements of HTML, drawings, tables with their values as CSV, and one style."""

from ctcd_jax.page.elements import (
    collapsed,
    downloads,
    figure,
    folded,
    grid,
    heading,
    legend,
    page,
    paragraph,
    plain,
    section,
    slug,
    table,
)
from ctcd_jax.page.markup import Html, element, join

__all__ = [
    "Html",
    "collapsed",
    "downloads",
    "element",
    "figure",
    "folded",
    "grid",
    "heading",
    "join",
    "legend",
    "page",
    "paragraph",
    "plain",
    "section",
    "slug",
    "table",
]
