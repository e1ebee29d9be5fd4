"""From a run's checkpoint to a Hugging Face directory, with the proof that nothing was lost on the way."""

import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.exports import MODEL_CONFIG, WEIGHTS
from ctcd_jax.artifacts.facts import FORMAT, Facts, trained_positions, write_facts
from ctcd_jax.artifacts.runs import CHECKPOINTS, FROZEN, RunConfig
from ctcd_jax.artifacts.samples import write_samples
from ctcd_jax.card import write_card
from ctcd_jax.config.init_spec import read_run
from ctcd_jax.data.tokenizer import load_tokenizer, set_max_length, special_ids, tokenizer_hash
from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import file_sha256
from ctcd_jax.models.huggingface import parity, save_pretrained
from ctcd_jax.models.registry import Shape, parameter_count
from ctcd_jax.runtime.stopping import handling
from ctcd_jax.training.best import recorded_best
from ctcd_jax.training.checkpoint import load_member, saved_step
from ctcd_jax.training.provenance import card_facts
from ctcd_jax.training.samples import samples_of_run

# Above this the two frameworks do not compute the same model. Float32 rounding leaves it at about 1e-5.
TOLERANCE = 1e-4


def export(
    workdir: str | Path,
    member: str,
    out: str | Path,
    step: int | Literal["best"] | None = None,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> float:
    """Writes a member as a Hugging Face directory and returns the parity figure, max |logit difference|.

    Args:
      workdir: of the run.
      member: its name in the cohort.
      out: the new directory, or an empty one: config.json, model.safetensors, tokenizer files, README.md (model card),
        ctcd.json (what the card is made of) and, where the run's corpus is at hand, samples.json (what the model
        answers in a few held-out sentences).
      step: a saved step; "best" for that of the best evaluation (`train.keep_best`), None for the newest.
      log: called with each line of progress.
      warn: called with a line about what the card or the samples have to leave out.

    Raises:
      UserError: no such run, member or step; `out` is there already, cannot be written or is part of the run; or
        PyTorch computes something else. Nothing half-written is left.
    """
    workdir, out = Path(workdir), Path(out)
    run = read_run(workdir)
    trained = None
    if run["members"].get(member, {}).get("trainable"):
        trained = saved_step(workdir, step)  # once: a run that is still going saves more
        best = recorded_best(workdir, trained)
        if step == "best" and best:
            log(f"step {trained:,}: the best validation loss of '{best['member']}', {best['loss']:.4f}")
    elif step is not None and member in run["members"]:
        raise UserError(f"--step {step}: '{member}' is frozen, the same at every step; leave --step out")
    _check_place(out, workdir)
    config, params = load_member(workdir, member, trained)
    known = card_facts(run, workdir, member, trained, warn)
    if known["from_scratch"]:
        # Rows hold no sentence pairs, so token type 1 was never trained: as row 0 it is at least harmless.
        types = params["embeddings"]["token_type"]
        params["embeddings"]["token_type"] = np.broadcast_to(types[:1], types.shape)

    _check_tokenizer(workdir, run)
    with _written_whole(out) as partial:
        for file in (workdir / TOKENIZER).iterdir():
            shutil.copy(file, partial)
        set_max_length(partial, trained_positions(known))
        pad = special_ids(load_tokenizer(partial))["pad"]
        save_pretrained(partial, config, params, pad)
        difference = parity(partial, config, params, _rows(config, pad), pad)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{out}: PyTorch's logits differ by {difference:.1e}, more than {TOLERANCE:.0e}; not exported"
            )
        weights = partial / WEIGHTS
        facts: Facts = {
            "format": FORMAT,
            "name": out.resolve().name,
            **known,
            "parameters": parameter_count(config),
            "bytes": weights.stat().st_size,
            "weights": file_sha256(weights),
            "parity": difference,
        }
        write_facts(partial, facts)
        if samples := samples_of_run(run, partial, warn):
            write_samples(partial, samples)
        write_card(partial, facts)
    log(f"{out}: {member} of {workdir}; max |logit difference| to PyTorch {difference:.1e} (float32, CPU)")
    return difference


def _check_tokenizer(workdir: Path, run: RunConfig) -> None:
    """Raises UserError where the run's copy of the tokenizer has gone or changed: its ids would mean other words."""
    place, trained_with = workdir / TOKENIZER, run["resolved"]["tokenizer_hash"]
    if not place.is_dir() or tokenizer_hash(place) != trained_with:
        what = "is not the one that the run was trained with" if place.is_dir() else "is not there"
        raise UserError(f"{place}: the tokenizer {what}; copy `tokenizer` of the corpus into its place")


def _check_place(out: Path, workdir: Path) -> None:
    """Raises UserError unless `out` is a place for an export: empty or not there, and no part of the run."""
    place, own = out.resolve(), workdir.resolve()
    if place == own or any(place.is_relative_to(own / part) for part in (CHECKPOINTS, FROZEN, TOKENIZER)):
        raise UserError(f"--out {out}: part of the run {workdir}; choose another directory")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file; choose another name")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: not empty; choose another directory")


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Yields a directory to fill, which becomes `out` when the block ends well, and else disappears, SIGTERM included.

    Its name is this export's own: another one to the same place does not write into it. An `out` that is there (it may
    be the shell's own directory, a link or a mounted disk) stays, and is given the files.
    """
    target = Path(os.path.abspath(out))  # "." has no name
    name = f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
    partial = (target if target.is_dir() else target.parent) / name
    try:
        with handling(lambda number, _: sys.exit(128 + number), (signal.SIGTERM,)):
            partial.mkdir(parents=True)
            yield partial
            if partial.parent == target:
                for path in sorted(partial.iterdir(), key=lambda path: path.name == MODEL_CONFIG):
                    path.rename(target / path.name)  # config.json last: without it a directory is no model
            else:
                partial.rename(target)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # transformers', which means something else by it
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise UserError(f"--out {out}: cannot be written ({reason}); make room or choose another") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rows(config: Shape, pad: int) -> np.ndarray:
    """Random rows of many lengths: every position and most of the vocabulary."""
    rng = np.random.default_rng(0)
    length = min(config.max_positions, 128)
    rows = rng.integers(0, config.vocab_size, (8, length))
    rows[rows == pad] = (pad + 1) % config.vocab_size
    for row, keep in zip(rows, np.linspace(length, 1, len(rows)).astype(int), strict=True):
        row[keep:] = pad
    return rows
