"""The examples of a task as a model takes them: tokenised once for all cells that share them, and kept compactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ctcd_jax.artifacts.exports import companions, usable_positions
from ctcd_jax.evaluation.tasks.data import TaskData
from ctcd_jax.evaluation.tasks.files import Split

CACHE_BYTES = 2**28  # all of GLUE takes two thirds of it
_ROWS = 10_000  # tokenised at once: as lists they take a kilobyte each


@dataclass(frozen=True, eq=False)
class Encoded(Sequence):
    """A split's examples; `rows[i]` is {"input_ids": [...], ..., "labels": label}.

    Attributes:
      values: {what the model takes: integers[tokens of all rows]}.
      ends: int64[rows], where each row ends in these.
      labels: class ids or scores.
      cut: how many examples were longer than they may be.
    """

    values: Mapping[str, np.ndarray]
    ends: np.ndarray
    labels: Sequence[float]
    cut: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict:
        label = self.labels[row]  # an IndexError past the end
        start = self.ends[row - 1] if row else 0
        return {**{key: flat[start : self.ends[row]].tolist() for key, flat in self.values.items()}, "labels": label}

    @property
    def lengths(self) -> np.ndarray:
        """int64[rows], in tokens."""
        return np.diff(self.ends, prepend=0)

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return self.ends.nbytes + sum(flat.nbytes for flat in self.values.values())


_cache: dict[tuple, tuple[Encoded, ...]] = {}  # the one used last is the last


def encode_task(directory: Path, data: TaskData, longest: int) -> tuple[Encoded, ...]:
    """Returns `encode` of each split, training first: from memory where the same was asked for before.

    The same is the same examples, tokenizer and length, by their content. What was used longest ago is given up when
    all together take more than `CACHE_BYTES`.

    Args:
      directory: of the model, with its tokenizer.
      data: the task and its examples.
      longest: tokens that a row has at most, with its special tokens.
    """
    key = (data.digest, *companions(directory).values(), longest)
    found = _cache.pop(key, None) or tuple(encode(directory, split, longest) for split in (data.train, *data.dev))
    _cache[key] = found
    while len(_cache) > 1 and sum(rows.nbytes for splits in _cache.values() for rows in splits) > CACHE_BYTES:
        del _cache[next(iter(_cache))]
    return found


def encode(directory: Path, split: Split, longest: int) -> Encoded:
    """Returns each row as the model in `directory` takes it, with its label.

    Args:
      directory: of the model, with its tokenizer.
      split: the examples.
      longest: tokens that a row has at most, with its special tokens.
    """
    tokenizer: Any = load_tokenizer(directory)  # to type checkers, more than two texts might be given
    parts: dict[str, list[np.ndarray]] = {}
    lengths, cut = [], 0
    for start in range(0, len(split), _ROWS):
        texts = [column[start : start + _ROWS] for column in split.sentences]
        encoded = tokenizer(*texts, truncation=True, max_length=longest)
        for key, rows in encoded.items():
            flat = np.fromiter(chain.from_iterable(rows), np.int64)
            parts.setdefault(key, []).append(flat.astype(np.min_scalar_type(int(flat.max(initial=0)))))
        lengths += map(len, encoded["input_ids"])
        cut += _cut(tokenizer, texts, lengths[start:], longest)
    values = {key: np.concatenate(flats) for key, flats in parts.items()}
    return Encoded(values, np.cumsum(lengths, dtype=np.int64), split.labels, cut)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Returns a model's tokenizer, to which "[SEP]" in a text is four characters of text and nothing more."""
    return AutoTokenizer.from_pretrained(directory, split_special_tokens=True)


def applied_length(directory: Path, wanted: int) -> int:
    """Returns how many tokens an example may have: `wanted`, or what the model or its tokenizer takes if that is less.

    Args:
      wanted: `max_length` of the settings.
    """
    positions = usable_positions(AutoConfig.from_pretrained(directory))
    # A tokenizer without a limit states one of 1e30.
    return min(wanted, positions or wanted, load_tokenizer(directory).model_max_length)


def _cut(tokenizer: Any, texts: Sequence[Sequence[str]], lengths: Sequence[int], longest: int) -> int:
    """Counts the examples that had to be cut: only those that are now as long as they may be can have been."""
    full = [index for index, length in enumerate(lengths) if length >= longest]
    if not full:
        return 0
    encoded = tokenizer(*([column[index] for index in full] for column in texts), verbose=False)
    return sum(length > longest for length in map(len, encoded["input_ids"]))
