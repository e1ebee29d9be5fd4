"""`ctcd.json`: the facts of an export that its card is made of."""

from pathlib import Path

from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json, write_json
from ctcd_jax.kinds import AMOUNT, FIGURE, WHOLE, Each, mismatch
from ctcd_jax.ranges import COUNT, SHARE, Range

FACTS = "ctcd.json"
FORMAT = 1

_NUMBER = Range()
_START = {"kind": str, "model?": str, "run?": str, "member?": str, "layers?": [WHOLE]}
_SPLIT = {"sentences": WHOLE, "rows": COUNT, "tokens": WHOLE}
_SOURCE = {"kind": str, "name?": str, "hub?": str, "revision?": str, "options": Each(str)}
_OPTIMIZER = {"learning_rate": _NUMBER, "warmup_fraction": _NUMBER, "schedule": str, "b1": _NUMBER, "b2": _NUMBER}
_OPTIMIZER |= {"eps": _NUMBER, "weight_decay": _NUMBER, "clip_norm": (_NUMBER, None)}
KIND = {
    "name": str,
    "version": str,
    "run": str,
    "member": str,
    "model": dict.fromkeys(("layers", "hidden", "heads", "intermediate", "max_positions", "vocab_size"), COUNT)
    | {"dropout": SHARE, "attention_dropout": SHARE},
    "members": Each(
        {"layers": COUNT, "hidden": COUNT, "start": _START, "trainable": bool, "hard_weight": _NUMBER}
        | {"base_model?": str}
    ),
    "edges": [
        {"source": str, "target": str, "weight": _NUMBER, "temperature": _NUMBER, "tau_squared": bool}
        | {"divergence": str, "positions": str}
    ],
    "from_scratch": bool,
    "training": (
        None,
        {"step": WHOLE, "steps": COUNT, "batch_size": COUNT, "seed": WHOLE, "dtype": str, "tokens?": WHOLE}
        | {"masking": {"rate": SHARE, "smoothing": _NUMBER}, "optimizer": _OPTIMIZER},
    ),
    "corpus": {
        "hash?": str,
        "sources?": [_SOURCE | dict.fromkeys(("documents", "sentences", "kept"), WHOLE)],
        "splits?": {"train": _SPLIT, "validation": _SPLIT},
        "length?": COUNT,
        "language?": str,
    },
    "held_out?": {"step": WHOLE, "loss": (FIGURE, None), "accuracy": (FIGURE, None)},
    "parameters": COUNT,
    "bytes": COUNT,
    "weights": str,
    "parity": AMOUNT,
}
# What there is besides, where the corpus has `splits`.
_CORPUS = {"packing": str, "every": COUNT, "seed": WHOLE, "validation": SHARE, "length": COUNT, "sources": list}
_CORPUS |= {"validation_by?": str}
_CORPUS |= {"tokenizer": {"name": (str, None), "cased": bool, "keep_accents?": bool, "vocab_size": COUNT}}


def write_facts(directory: Path, facts: dict) -> None:
    """Writes `ctcd.json`."""
    write_json(directory / FACTS, {"format": FORMAT} | facts)


def read_facts(directory: Path) -> dict:
    """Returns the content of `ctcd.json`.

    Raises:
      UserError: there is none, its format is unknown, or a fact is missing or not of its kind.
    """
    path, fix = directory / FACTS, "export the model again with `ctcd export`, which writes it"
    facts = read_json(path, fix)
    if facts.get("format") != FORMAT:
        raise UserError(f"{path}: format {facts.get('format')!r}, this version reads {FORMAT}")
    fault = mismatch(facts, KIND)
    if not fault and facts["training"]:
        fault = mismatch(facts["corpus"], {"hash": str}, "corpus")
    if not fault and "splits" in facts["corpus"]:
        fault = mismatch(facts["corpus"], _CORPUS, "corpus")
    if not fault and facts["member"] not in facts["members"]:
        fault = f"member '{facts['member']}' is not in members"
    if fault:
        raise UserError(f"{path}: {fault}; {fix}")
    return facts
