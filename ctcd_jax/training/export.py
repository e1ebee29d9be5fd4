"""From a run's checkpoint to a Hugging Face directory, with the proof that nothing was lost on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctcd_jax.data.tokenizer import load_tokenizer, special_ids
from ctcd_jax.errors import UserError
from ctcd_jax.initial import read_run
from ctcd_jax.models import BertConfig
from ctcd_jax.models.huggingface import parity, save_pretrained
from ctcd_jax.training.checkpoint import TOKENIZER, load_member, saved_step
from ctcd_jax.training.metrics import METRICS

# Above this the two frameworks do not compute the same model. Float32 rounding leaves it at about 1e-5.
TOLERANCE = 1e-4


def export(
    workdir: str | Path, member: str, out: str | Path, step: int | None = None, log: Callable[[str], None] = print
) -> float:
    """Writes a member as a Hugging Face directory and returns the parity figure, max |logit difference|.

    Args:
      workdir: of the run.
      member: its name in the cohort.
      out: the new directory: config.json, model.safetensors, tokenizer files, README.md (model card).
      step: a saved step; None for the newest.

    Raises:
      UserError: no such run, member or step; `out` is there already; or PyTorch computes something else.
    """
    workdir, out = Path(workdir), Path(out)
    run = read_run(workdir)
    config, params = load_member(workdir, member, step)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: not empty; remove it or choose another --out")
    if from_scratch(run, member):
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
        raise UserError(f"{out}: PyTorch's logits differ by {difference:.1e}, more than {TOLERANCE:.0e}; not exported")
    trained = saved_step(workdir, step) if run["members"][member]["trainable"] else None
    (partial / "README.md").write_text(model_card(run, workdir, member, config, trained, difference))
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


def from_scratch(run: dict, member: str) -> bool:
    """Whether a member's parameters come from this run alone, directly or as layers of one that does."""
    kind, _, rest = (run["members"][member]["init"] or "scratch").partition(":")
    return kind == "scratch" or (kind == "layers" and from_scratch(run, rest.partition("#")[0]))


def model_card(run: dict, workdir: Path, member: str, config: BertConfig, step: int | None, difference: float) -> str:
    """Returns the export's README.md: what it is and how it was trained, with measured figures only.

    Args:
      step: updates done; None for a frozen member, which this run did not train.
    """
    edges = [f"{e['source']} -> {e['target']} (weight {e['weight']:g})" for e in run["edges"]]
    cohort = ", ".join(f"{n} ({m['layers']} layers)" for n, m in run["resolved"]["models"].items())
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags: [bert, fill-mask, ctcd, distillation]",
        "---",
        "",
        f"# {member}: BERT, {config.layers} layers, hidden {config.hidden}",
        "",
        "Trained with `ctcd_jax` (Co-Training and Co-Distillation, Lee et al., Findings of EMNLP 2023).",
        "",
        f"* Cohort: {cohort}",
        f"* Who teaches whom: {'; '.join(edges) or 'nobody, trained alone'}",
        f"* Steps: {step:,} of {run['resolved']['steps']:,}, of {run['data']['batch_size']} rows, seed {run['seed']}"
        if step is not None
        else f"* Frozen in this run; it came from `{run['members'][member]['init']}`",
        f"* Corpus: `{run['resolved']['corpus_hash'][:12]}` (hash of its manifest)",
        *_validation_lines(workdir, member, step),
        f"* Parity with the training code: max |logit difference| {difference:.1e} (float32, CPU)",
        "* Not trained: the pooler; fine-tuning initialises it",
        *(["* Not trained: token type 1, a copy of type 0 (no sentence pairs)"] if from_scratch(run, member) else []),
        "",
        "```python",
        "from transformers import AutoModelForMaskedLM, AutoTokenizer",
        "",
        "tokenizer = AutoTokenizer.from_pretrained(DIRECTORY)",
        "model = AutoModelForMaskedLM.from_pretrained(DIRECTORY)",
        "```",
        "",
    ]
    return "\n".join(lines)


def _validation_lines(workdir: Path, member: str, step: int | None) -> list[str]:
    path = workdir / METRICS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    found = [line for line in lines if line["kind"] == "validation" and line["step"] == step]
    if not found:
        return []
    figures = found[-1]["members"][member]
    return [
        f"* Held-out masked tokens (step {found[-1]['step']:,}): loss {figures['hard']:.4f} nats, "
        f"accuracy {figures['accuracy']:.1%}"
    ]
