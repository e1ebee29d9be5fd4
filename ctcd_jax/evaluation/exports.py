"""Exported Hugging Face directories: what they are called and what they weigh."""

import contextlib
import hashlib
import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctcd_jax.errors import UserError

WEIGHTS = "model.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


def require_torch() -> None:
    """Raises UserError where the libraries of the `torch` extra are not installed."""
    for module in ("torch", "transformers", "accelerate", "sklearn", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{module} is not installed; run: pip install 'ctcd-jax[torch]'")


def named_exports(models: Sequence[Path]) -> dict[str, Path]:
    """Returns {distinct name: directory} in the order given, each checked to hold a config and weights.

    Raises:
      UserError: a directory is given twice or is no export.
    """
    for directory in models:
        for file in ("config.json", WEIGHTS):
            if not (directory / file).is_file():
                raise UserError(f"--model {directory}: no {file}; give a directory written by `ctcd export`")
    return distinct_names(models)


def distinct_names(directories: Sequence[Path]) -> dict[str, Path]:
    """Returns {name: directory}; a name is the shortest end of the path that no other of `directories` shares.

    Raises:
      UserError: a directory is given twice.
    """
    parts = [directory.resolve().parts for directory in directories]
    names = {}
    for directory, own in zip(directories, parts, strict=True):
        others = [other for other in parts if other is not own]
        length = next((n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others)), None)
        if length is None:
            raise UserError(f"{directory}: given twice; name each directory once")
        names["/".join(own[-length:])] = directory
    return names


def require_tokenizer(directory: Path) -> None:
    """Raises UserError for a model without the files of a tokenizer: `transformers` would make up an empty one."""
    if not any((directory / file).is_file() for file in TOKENIZERS):
        raise UserError(f"--model {directory}: no tokenizer ({', '.join(TOKENIZERS)}); copy the model's own into it")


def encoder_layers(directory: Path) -> int:
    """Returns the number of layers that the model's config.json states; UserError where it is not that of a model."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory).num_hidden_layers
    except (AttributeError, KeyError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--model {directory}: its config.json is not that of an encoder ({reason})") from error


# Their positions are counted from `pad_token_id` + 1 on: the first rows of the table are never an example's.
_POSITIONS_AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


def usable_positions(config) -> int | None:
    """Returns how many tokens an input may have by a `transformers` config; None where nothing there bounds it."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.model_type in _POSITIONS_AFTER_PADDING:
        return positions - (config.pad_token_id or 0) - 1
    return positions


def weights_digest(directory: Path) -> str:
    """Returns the SHA-256 (hex) of the weight file: two exports of one name are told apart by it."""
    with (directory / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides what `from_pretrained` says of heads that are new or not used (here they always are), and its bar."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def stored_parameters(directory: Path) -> int:
    """Returns the number of floating-point parameters in the weight file, where tied weights are stored once.

    Raises:
      UserError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, framework="numpy") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (safe_open is no mapping)
            return sum(math.prod(part.get_shape()) for part in slices if "F" in part.get_dtype())
    except SafetensorError as error:
        raise UserError(f"{directory / WEIGHTS}: damaged ({error}); export the model again") from error
