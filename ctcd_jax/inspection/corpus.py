"""Shows what is in a prepared corpus: `ctcd inspect`."""

import os
from collections.abc import Callable
from pathlib import Path

from ctcd_jax.data import Corpus
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.errors import UserError
from ctcd_jax.inspection.examples import MaskRows, example_rows
from ctcd_jax.inspection.html import render
from ctcd_jax.inspection.text import as_text
from ctcd_jax.inspection.words import describe, lead


def inspect(
    directory: str | Path,
    mask_rows: MaskRows,
    html: str | Path | None = None,
    rows: int = 3,
    log: Callable[[str], None] = print,
    *,
    colour: bool = False,
    width: int = 100,
) -> None:
    """Says what a corpus was made of and what came out, without reading its training rows or comparing checksums.

    Args:
      directory: of `ctcd prepare`.
      mask_rows: masks validation rows as a run would.
      html: a file to write the same to, as one page that opens without a network. The same corpus gives the same bytes.
      rows: how many validation rows to show.
      log: called with the text.
      colour: with ANSI codes.
      width: where lines are broken.

    Raises:
      UserError: no corpus, a file of it is missing, or an argument does not do.
    """
    if rows < 0:
        raise UserError(f"--rows {rows}: give how many validation rows to show, 0 or more")
    html = html and os.path.expanduser(html)
    if html and not Path(html).parent.is_dir():
        raise UserError(f"--html {html}: there is no directory {Path(html).parent}; make it first")
    corpus = Corpus.open(directory, verify=False)
    tokenizer = load_tokenizer(corpus.tokenizer_directory)
    sections = describe(corpus, tokenizer, example_rows(corpus, rows, tokenizer, mask_rows))
    log(f"{directory}: {lead(corpus)}")
    log(as_text(sections, colour, width))
    if html:
        Path(html).write_text(
            render(f"Corpus {Path(directory).resolve().name}", lead(corpus), sections), encoding="utf-8"
        )
        log(f"\n{html}: the same as a page")
