"""The corpora of a study: prepared once, shared by all studies below one directory."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.studies import CORPORA, LOCK
from ctcd_jax.data import Corpus, prepare
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import json_sha256, locked
from ctcd_jax.runtime.cores import available_cores
from ctcd_jax.studies.definition import Study


def prepare_corpora(
    study: Study,
    texts: Mapping[str, str],
    data: Mapping[str, str],
    out: Path,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> dict[str, Corpus]:
    """Returns the corpora of a study by name, made where they are not there yet.

    Args:
      study: whose corpora they are.
      texts: SPECs by the names of `study.texts`.
      data: places by the names of `study.data`.
      out: the directory that studies share.
      log, warn: take a line.

    Raises:
      UserError: a text is not given, or one that the study does not know; or as `prepare`.
    """
    for name, meaning in study.texts.items():
        if name not in texts:
            raise UserError(f"--text {name}=SPEC: not given; it is to be {meaning}")
    for name in texts:
        if name not in study.texts:
            raise UserError(f"--text {name}: the study has no such text; its texts are {', '.join(study.texts)}")
    place = out / CORPORA
    place.mkdir(parents=True, exist_ok=True)
    made: dict[str, Corpus] = {}
    with locked(place / LOCK, str(place), wait=True, warn=warn):  # the shares of an array begin together
        for name, corpus in study.corpora.items():
            recipe = dict(corpus.recipe)
            if corpus.tokenizer is not None:
                own = corpus.tokenizer not in study.models
                place_of = made[corpus.tokenizer].directory / TOKENIZER if own else data[corpus.tokenizer]
                recipe["tokenizer"] = str(place_of)
            directory = place / f"{name}-{json_sha256([texts[corpus.text], recipe])[:8]}"
            prepare([texts[corpus.text]], directory, workers=available_cores(), **recipe, log=log, warn=warn)
            made[name] = Corpus.open(directory)
    return made
