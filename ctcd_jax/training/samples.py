"""What an export answers in a few held-out sentences: some words hidden, and its likeliest tokens in their places."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from ctcd_jax.artifacts.exports import quiet_loading
from ctcd_jax.artifacts.runs import RunConfig
from ctcd_jax.artifacts.samples import CUT, FORMAT, Guess, HiddenToken, SampleRow, Samples
from ctcd_jax.data import Corpus, ValidationBatches
from ctcd_jax.data.packing import segment_ids
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.errors import UserError, warn
from ctcd_jax.inspection.examples import spread, token_text

ROWS, GUESSES = 8, 5
MOST_TOKENS = 40  # of a sentence that are shown
HIDDEN = 0.15  # share of them


def samples_of_run(run: RunConfig, directory: Path, warn: Callable[[str], None] = warn) -> Samples | None:
    """Returns the samples of an export on its run's corpus; None where that is no longer there, which is said.

    Args:
      run: its config.json.
      directory: with the export's config.json and weights.
      warn: takes a line where there are no samples.
    """
    place = run["data"]["corpus"]
    try:
        corpus = Corpus(cast("str", place))  # no run is without
        if corpus.hash != run["resolved"]["corpus_hash"]:
            raise UserError(f"corpus {place}: not the one that the run was trained on")
        return sample_predictions(corpus, directory)
    except (UserError, OSError) as error:
        warn(f"no sample predictions in the export: {error}")
        return None


def sample_predictions(corpus: Corpus, directory: Path) -> Samples:
    """Returns the likeliest tokens of a model in the first sentences of `ROWS` rows spread over the validation split.

    Rows and hidden places depend on the corpus alone. Sentences of a row do not see each other in training, so that
    each is given to the model by itself. Computed by PyTorch in float32 on the CPU: what whoever loads the export gets.

    Args:
      corpus: to take the rows from.
      directory: of the export.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    with quiet_loading():
        model = AutoModelForMaskedLM.from_pretrained(directory).float().eval()
    text = partial(token_text, load_tokenizer(corpus.tokenizer_directory))
    batches = ValidationBatches(corpus, 1)  # batch n is row n
    rows = []
    for number in spread(corpus.rows("validation"), ROWS):
        ids = batches[number]["input_ids"][0]
        ids = ids[segment_ids(ids, corpus.special_ids) == 1]
        shown, hidden = _choose(ids, corpus, number)
        if not len(hidden):
            continue
        seen = ids.copy()
        seen[hidden] = corpus.special_ids["mask"]
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(seen[None].astype(np.int64))).logits[0]
        chances = logits.softmax(-1).numpy()
        rows.append(_row(number, ids, seen, shown, chances, text))
    return {"format": FORMAT, "corpus_hash": corpus.hash, "rows": rows}


def _choose(ids: np.ndarray, corpus: Corpus, number: int) -> tuple[range, np.ndarray]:
    """Returns the places of a sentence that are shown, and those of them, ascending, that are hidden.

    Args:
      ids: int[n], from [CLS] to [SEP].
      corpus: that they are from.
      number: of the row, which decides what is hidden.
    """
    shown = range(1, min(len(ids) - 1, 1 + MOST_TOKENS))
    ordinary = [place for place in shown if ids[place] not in corpus.special_ids.values()]
    count = min(len(ordinary), max(1, round(HIDDEN * len(ordinary))))
    return shown, np.sort(np.random.default_rng(number).choice(np.array(ordinary, int), count, replace=False))


def _row(
    number: int, ids: np.ndarray, seen: np.ndarray, shown: range, chances: np.ndarray, text: Callable[[int], str]
) -> SampleRow:
    """Returns a sentence with what the model answers.

    Args:
      number: of the row in the split.
      ids: int[n], the sentence.
      seen: int[n], what the model sees of it.
      shown: places that are shown.
      chances: float32[n, V].
      text: what a token is shown as.
    """
    hidden: list[HiddenToken] = []
    for position, place in enumerate(shown):
        if seen[place] != ids[place]:
            best = np.argsort(-chances[place], kind="stable")[:GUESSES].tolist()
            guesses: list[Guess] = [
                {"token": text(token), "probability": round(float(chances[place, token]), 6)} for token in best
            ]
            hidden.append({"position": position, "token": text(int(ids[place])), "guesses": guesses})
    tokens = [text(int(seen[place])) for place in shown]
    return {"row": number, "tokens": [*tokens, *([CUT] if shown.stop < len(ids) - 1 else [])], "hidden": hidden}
