"""A corpus that is there: whether it is what was asked for, and what there is to say of it."""

from collections.abc import Callable
from pathlib import Path

from ctcd_jax.artifacts.corpora import MANIFEST, TOKENIZER, Manifest
from ctcd_jax.data.corpus import read_manifest
from ctcd_jax.data.recipe import Recipe
from ctcd_jax.data.stamps import check_unchanged
from ctcd_jax.data.tokenizer import tokenizer_hash
from ctcd_jax.data.totals import counted
from ctcd_jax.errors import UserError

Log = Callable[[str], None]

MAX_UNKNOWN = 0.01
"""Of the training tokens: WordPiece vocabularies of a text leave far less than this, so it is said."""


def already_prepared(out: Path, recipe: Recipe, strict: bool, log: Log, warn: Log) -> Manifest:
    """Returns the manifest of the corpus in `out`, if it is what would be made now.

    Args:
      out: the directory.
      recipe: what is to be made.
      strict: whether invalid UTF-8, which was left out, is an error.
      log: called with the line that nothing is to be done.
      warn: called with a line about what can no longer be compared.

    Raises:
      UserError: it is not, or is no corpus; the line says what differs.
    """
    if not (out / MANIFEST).is_file():
        raise UserError(f"--out {out}: exists and is not a prepared corpus; choose another directory")
    manifest = read_manifest(out)
    if difference := recipe.difference(manifest["recipe"]):
        name, there, here = difference
        raise UserError(
            f"--out {out}: was prepared with {name} = {there}, not {here}; choose another directory or delete it"
        )
    for source in manifest["sources"]:
        if strict and (invalid := source.get("invalid_lines")):
            raise UserError(
                f"--strict: {out} was prepared without it, and {invalid:,} lines of"
                f" {source['source']} were not UTF-8; delete it and prepare it again, or omit --strict"
            )
    if recipe.tokenizer and not _is_tokenizer_of(out, recipe.tokenizer, warn):
        raise UserError(
            f"--out {out}: was prepared with another tokenizer than {recipe.tokenizer} is now; choose another directory"
            " or delete it"
        )
    check_unchanged(out, recipe.sources, manifest, log, warn)
    log(f"{out}: already prepared")
    return manifest


def _is_tokenizer_of(out: Path, tokenizer: str, warn: Log) -> bool:
    there = tokenizer_hash(out / TOKENIZER)
    try:
        return tokenizer_hash(tokenizer) == there
    except UserError as error:
        warn(f"{out}: whether its tokenizer has changed since is unknown: {error}")
        return True


def say_what_came_out(manifest: Manifest, log: Log, warn: Log) -> None:
    """Says how large the splits are and what was left out, by reason.

    Args:
      manifest: the content of `corpus.json`.
      log: called with each line.
      warn: called with a line about many [UNK].
    """
    for split, counts in manifest["splits"].items():
        cut = f", {counts['cut_rows']:,} rows with part of a sentence only" if counts["cut_rows"] else ""
        log(f"{split}: {counts['rows']:,} rows, {counts['tokens']:,} tokens, {counts['padding']:.1%} padding{cut}")
    if manifest["dropped"]:
        log(f"left out: {counted(manifest['dropped'])}")
    unknown = manifest["splits"]["train"]["unknown"]
    if unknown > MAX_UNKNOWN:
        warn(
            f"{unknown:.1%} of the training tokens are [UNK]: this vocabulary is not made for this text; choose another"
            " --tokenizer, or train one with a larger --vocab-size"
        )
