"""From a run's checkpoint to a Hugging Face directory, with the proof that nothing was lost on the way."""

import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from ctcd_jax.card import write_card, write_facts
from ctcd_jax.data.tokenizer import load_tokenizer, special_ids
from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256
from ctcd_jax.initial import read_run
from ctcd_jax.models import BertConfig
from ctcd_jax.models.huggingface import parity, save_pretrained
from ctcd_jax.training.checkpoint import TOKENIZER, load_member, saved_step
from ctcd_jax.training.provenance import card_facts, recorded_start

# Above this the two frameworks do not compute the same model. Float32 rounding leaves it at about 1e-5.
TOLERANCE = 1e-4


def export(
    workdir: str | Path, member: str, out: str | Path, step: int | None = None, log: Callable[[str], None] = print
) -> float:
    """Writes a member as a Hugging Face directory and returns the parity figure, max |logit difference|.

    Args:
      workdir: of the run.
      member: its name in the cohort.
      out: the new directory: config.json, model.safetensors, tokenizer files, README.md (model card) and ctcd.json
        (what the card is made of).
      step: a saved step; None for the newest.

    Raises:
      UserError: no such run, member or step; `out` is there already; or PyTorch computes something else.
    """
    workdir, out = Path(workdir), Path(out)
    run = read_run(workdir)
    trained = None
    if run["members"].get(member, {}).get("trainable"):
        step = trained = saved_step(workdir, step)  # once: a run that is still going saves more
    config, params = load_member(workdir, member, step)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: not empty; remove it or choose another --out")
    if recorded_start(run, workdir, member)["from_scratch"]:
        # Rows hold no sentence pairs, so token type 1 was never trained: as row 0 it is at least harmless.
        types = params["embeddings"]["token_type"]
        params["embeddings"]["token_type"] = np.broadcast_to(types[:1], types.shape)

    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(workdir / TOKENIZER, partial)
    save_pretrained(partial, config, params)
    pad = special_ids(load_tokenizer(partial))["pad"]
    difference = parity(partial, config, params, _rows(config, pad), pad)
    if not difference <= TOLERANCE:
        shutil.rmtree(partial)
        raise UserError(f"{out}: PyTorch's logits differ by {difference:.1e}, more than {TOLERANCE:.0e}; not exported")
    weights = partial / "model.safetensors"
    facts = {
        "name": out.resolve().name,
        **card_facts(run, workdir, member, trained),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "bytes": weights.stat().st_size,
        "weights": file_sha256(weights),
        "parity": difference,
    }
    write_facts(partial, facts)
    write_card(partial, facts)
    if out.exists():
        out.rmdir()
    partial.rename(out)
    log(f"{out}: {member} of {workdir}; max |logit difference| to PyTorch {difference:.1e} (float32, CPU)")
    return difference


def _rows(config: BertConfig, pad: int) -> np.ndarray:
    """Random rows of many lengths: every position and most of the vocabulary."""
    rng = np.random.default_rng(0)
    length = min(config.max_positions, 128)
    rows = rng.integers(0, config.vocab_size, (8, length))
    rows[rows == pad] = (pad + 1) % config.vocab_size
    for row, keep in zip(rows, np.linspace(length, 1, len(rows)).astype(int), strict=True):
        row[keep:] = pad
    return rows
