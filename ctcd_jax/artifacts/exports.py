"""Exported Hugging Face directories: what they are called and what they weigh."""

import contextlib
import hashlib
import importlib.util
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from ctcd_jax.artifacts.pickles import read_pickle
from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import file_sha256, is_inside, is_lfs_pointer, read_json

MODEL_CONFIG, WEIGHTS = "config.json", "model.safetensors"
# In the order in which `transformers` looks for them; an index names the shards of a model in several files.
_WEIGHTS = (WEIGHTS, f"{WEIGHTS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_MOST_LAYERS = 1000  # far more than any encoder has


def require_torch() -> None:
    """Raises UserError where the libraries of the `torch` extra are not installed."""
    for module in ("torch", "transformers", "accelerate", "scipy", "sklearn"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{module} is not installed; run: pip install 'ctcd-jax[torch]'")


def named_exports(models: Sequence[Path]) -> dict[str, Path]:
    """Returns {distinct name: directory} in the order given, each checked to hold a config and weights.

    Raises:
      UserError: a directory is given twice or is no export.
    """
    for directory in models:
        if not (directory / MODEL_CONFIG).is_file():
            raise UserError(f"--model {directory}: no config.json; give a directory written by `ctcd export`")
        weight_files(directory)
    return distinct_names(models)


def distinct_names(directories: Sequence[Path], taken: Collection[str] = ()) -> dict[str, Path]:
    """Returns {name: directory}; a name is the shortest end of the path that no other of `directories` shares.

    A model in the hub's cache is called as on the hub, ORGANISATION/NAME: its path ends in the hash of a commit.

    Args:
      taken: names that are something else's already.

    Raises:
      UserError: a directory is given twice.
    """
    parts = _name_parts(directories)
    names = {}
    for directory, own in zip(directories, parts, strict=True):
        others = [other for other in parts if other is not own]
        ends = ("/".join(own[-n:]) for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        name = next((end for end in ends if end not in taken), None)
        if name is None:
            raise UserError(f"{directory}: given twice; name each directory once")
        names[name] = directory
    return names


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns the name, or "name (2)" and so on where it is taken."""
    return next(each for each in chain([name], (f"{name} ({n})" for n in count(2))) if each not in taken)


def _name_parts(directories: Sequence[Path]) -> list[tuple[str, ...]]:
    paths = [directory.resolve().parts for directory in directories]
    named = [_on_the_hub(path, revision=False) for path in paths]
    counts = Counter(named)  # two revisions of one model are distinguished by theirs
    return [_on_the_hub(path, revision=counts[name] > 1) for path, name in zip(paths, named, strict=True)]


def _on_the_hub(parts: tuple[str, ...], revision: bool) -> tuple[str, ...]:
    """Returns .../models--ORGANISATION--NAME/snapshots/REVISION as .../"ORGANISATION/NAME", any other path as it is."""
    for index, (repository, snapshots, commit) in enumerate(zip(parts, parts[1:], parts[2:], strict=False)):
        if repository.startswith("models--") and snapshots == "snapshots":
            name = repository.removeprefix("models--").replace("--", "/")
            return *parts[:index], name + (f"@{commit[:8]}" if revision else ""), *parts[index + 3 :]
    return parts


def weight_files(directory: Path) -> list[Path]:
    """Returns the files that hold a model's weights, in the order of their names: one, or the shards of one.

    Raises:
      UserError: there is none, or a shard is missing.
    """
    path = next((directory / name for name in _WEIGHTS if (directory / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{directory}: no {WEIGHTS}, nor shards of it, nor pytorch_model.bin; give a directory written by "
            "`ctcd export` or `save_pretrained`"
        )
    if path.suffix != ".json":
        return [_fetched(path)]
    shards = read_json(path, "fetch the model again").get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{path}: names no shards; fetch the model again")
    if outside := [name for name in shards.values() if not is_inside(name)]:
        raise UserError(f"{path}: a shard is {outside[0]!r:.60}, and no file of the model; fetch the model again")
    files = [directory / name for name in sorted(set(shards.values()))]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"{missing[0]}: no such file, though {path.name} names it; fetch the model again")
    return [_fetched(file) for file in files]


def _fetched(path: Path) -> Path:
    if is_lfs_pointer(path):
        raise UserError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` in {path.parent}")
    return path


def require_tokenizer(directory: Path) -> None:
    """Raises UserError for a model without the files of a tokenizer: `transformers` would make up an empty one."""
    if not any((directory / file).is_file() for file in TOKENIZERS):
        raise UserError(f"--model {directory}: no tokenizer ({', '.join(TOKENIZERS)}); copy the model's own into it")


# What config.json says of the files and of who wrote them, and not of the model.
_OF_THE_FILE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def companions(directory: Path) -> dict[str, str]:
    """Returns SHA-256s (hex) of what makes another model of equal weights: its "tokenizer" and its "config"."""
    files = [directory / name for name in (*TOKENIZERS, "tokenizer_config.json", "added_tokens.json")]
    tokenizer = "\n".join(f"{file.name} {file_sha256(file)}" for file in files if file.is_file())
    config = read_json(directory / MODEL_CONFIG, "export the model again")
    said = {name: value for name, value in config.items() if name not in _OF_THE_FILE}
    texts = {"tokenizer": tokenizer, "config": json.dumps(said, sort_keys=True)}
    return {name: hashlib.sha256(content.encode()).hexdigest() for name, content in texts.items()}


def encoder_layers(directory: Path) -> int:
    """Returns the number of layers that the model's config.json states; UserError where it is not that of a model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        layers = AutoConfig.from_pretrained(directory).num_hidden_layers
    except (OverflowError, AttributeError, KeyError, OSError, TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, StrictDataclassError) else first_line(error)
        raise UserError(f"--model {directory}: its config.json is not that of an encoder ({reason})") from error
    require_buildable(directory, layers)
    return layers


def require_buildable(directory: Path, layers: object) -> None:
    """Raises UserError for a number of layers that no encoder has: transformers would begin to build them."""
    if not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        raise UserError(
            f"--model {directory}: its config.json is not that of an encoder (num_hidden_layers is {layers!r:.40})"
        )


def require_finite(directory: Path, model) -> None:
    """Raises UserError where a parameter of a PyTorch model, loaded from a directory, is NaN or infinite."""
    import torch

    wrong = [name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()]
    if wrong:
        raise UserError(
            f"--model {directory}: {len(wrong)} of its arrays hold values that are not finite, the first: {wrong[0]}; "
            "fetch or export the model again"
        )


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
    """Returns the SHA-256 (hex) of the weight file, which distinguishes two exports of one name.

    Of a model in several files it is that of their SHA-256s, in the order of their names.
    """
    digests = [file_sha256(file) for file in weight_files(directory)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


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
    """Returns the number of floating-point parameters in the weight files, where tied weights are stored once.

    Raises:
      UserError: a file is damaged.
    """
    return sum(_parameters(file) for file in weight_files(directory))


def _parameters(path: Path) -> int:
    from safetensors import SafetensorError, safe_open

    if path.suffix == ".bin":
        return _parameters_of_pickle(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (safe_open is no mapping)
            return sum(math.prod(part.get_shape()) for part in slices if "F" in part.get_dtype())
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); export the model again") from error


def _parameters_of_pickle(path: Path) -> int:
    tensors = read_pickle(path).values()
    return sum({tensor.data_ptr(): tensor.numel() for tensor in tensors if tensor.is_floating_point()}.values())
