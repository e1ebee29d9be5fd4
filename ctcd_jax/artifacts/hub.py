"""Models of the Hugging Face hub: fetched once, in whatever form their weights lie there."""

import re
from collections.abc import Sequence
from pathlib import Path

from ctcd_jax.errors import UserError, first_line

_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?:@[\w./-]+)?")
_CONFIG_AND_TOKENIZER = (
    "config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "*.model",  # SentencePiece
    "added_tokens.json",
    "special_tokens_map.json",
)
# As `transformers` takes them, the first that there are: most repositories hold the same weights in several forms.
_FORMS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)


def model_directories(models: Sequence[Path]) -> list[Path]:
    """Returns the directories of `--model`: what is written ORGANISATION/NAME[@REVISION] and is none, the hub may have.

    Raises:
      UserError: as `find_pretrained`.
    """
    return [
        find_pretrained(str(model), "--model ") if _ID.fullmatch(str(model)) and not model.exists() else model
        for model in models
    ]


def find_pretrained(name: str, said: str = "hf:") -> Path:
    """Returns a local directory for a directory's name or an id on the hub, fetching the latter.

    Args:
      name: a directory, or ID[@REVISION], a branch, tag or commit.
      said: what the error's line begins with, before the name.

    Raises:
      UserError: it is neither here nor to be had.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    model, _, revision = name.partition("@")

    def fetch(wanted: tuple[str, ...]) -> Path:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=list(wanted), etag_timeout=5))

    try:
        directory = fetch(_CONFIG_AND_TOKENIZER)
        for form in _FORMS:
            if (fetch(form) / form[0]).is_file():
                break
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{said}{name}: no such directory, and the hub gave nothing ({first_line(error)}); name a local one"
        ) from error
    return directory
