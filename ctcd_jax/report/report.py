"""One HTML page that shows what ran and what came of it, readable without a network: `ctcd report`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax import page
from ctcd_jax.artifacts.collect import Artifacts, collect
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import write_whole
from ctcd_jax.page import Html
from ctcd_jax.page.tables import Column, data_table
from ctcd_jax.report.entries import findings
from ctcd_jax.report.sections.corpora import corpora
from ctcd_jax.report.sections.cost import cost, to_reproduce
from ctcd_jax.report.sections.differs import differs
from ctcd_jax.report.sections.finetuning import fine_tuning
from ctcd_jax.report.sections.result import result
from ctcd_jax.report.sections.samples import sample_predictions
from ctcd_jax.report.sections.serving import exports, latency
from ctcd_jax.report.sections.training import cohorts, curves, last_validation
from ctcd_jax.report.sections.zero_shot import held_out_text, minimal_pairs
from ctcd_jax.report.verdict import verdict
from ctcd_jax.text_tables import counted

TITLE = "Co-training and co-distillation"
MOST_NAMES = 8  # of runs in the sentence that says what was found


def left_out(artifacts: Artifacts) -> list[Html]:
    rows = [(entry.path, entry.reason) for entry in artifacts.left_out]
    columns = [Column("file", "file"), Column("why", "why")]
    note = "Found, but damaged, unreadable or of another program or version; nothing of it is on this page."
    return [page.paragraph(note, "note"), data_table("left-out", columns, rows, "Left out")] if rows else []


SECTIONS = {
    "Left out": left_out,
    "What differs": differs,
    "What ran": cohorts,
    "Training curves": curves,
    "Sample predictions": sample_predictions,
    "Cost": cost,
    "Last validation": last_validation,
    "Held-out text": held_out_text,
    "Minimal pairs": minimal_pairs,
    "Fine-tuning": fine_tuning,
    "Latency": latency,
    "Exported checkpoints": exports,
    "Corpora": corpora,
    "To reproduce": to_reproduce,
}


def report(
    directories: Sequence[Path],
    out: Path,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> Path:
    """Writes a self-contained HTML page on all runs, results, latency files and exports below `directories`.

    What is damaged or foreign is left out, which the page says. The same artifacts give the same bytes: the page bears
    no date.

    Args:
      directories: looked through at every depth.
      out: the HTML file.
      log: called with a line when the page is written.
      warn: called with a line about each artifact that is left out.

    Raises:
      UserError: a directory holds nothing to report, nothing that was found can be used, or `out` is a directory.
    """
    if out.is_dir():
        raise UserError(f"--out {out}: a directory; give a file, such as {out / 'report.html'}")
    artifacts = collect(directories, warn)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, render(artifacts))
    log(f"{out}: {page.plain(lead(artifacts))}")
    return out


def render(artifacts: Artifacts) -> str:
    """Returns the page as HTML; sections without anything to show are left out."""
    found = findings(artifacts)
    parts = {"Result": [*result(found), page.paragraph(lead(artifacts), "note")]}
    parts |= {title: shown for title, section in SECTIONS.items() if (shown := section(artifacts))}
    sections = [page.section(title, *shown) for title, shown in parts.items()]
    return page.page(TITLE, verdict(found) or lead(artifacts), sections, contents=list(parts))


def lead(artifacts: Artifacts) -> str:
    """Returns what was found in one sentence."""
    parts = []
    if artifacts.runs:
        more = f" and {len(artifacts.runs) - MOST_NAMES} more" if len(artifacts.runs) > MOST_NAMES else ""
        named = ", ".join(list(artifacts.runs)[:MOST_NAMES])
        parts.append(f"{counted(len(artifacts.runs), 'training run')} ({named}{more})")
    if rows := [row for results in artifacts.results.values() for row in results.rows]:
        models = len({row.get("weights") or row["model"] for row in rows})
        tasks, seeds = (len({row[key] for row in rows}) for key in ("task", "seed"))
        parts.append(f"{counted(models, 'model')} fine-tuned on {counted(tasks, 'task')} from {counted(seeds, 'seed')}")
    if failed := sum(len(results.failed) for results in artifacts.results.values()):
        parts.append(f"{counted(failed, 'cell')} that failed")
    timed = [model for content in artifacts.latencies.values() for model in content["models"]]
    if measured := {model.get("weights") or model["name"] for model in timed}:
        parts.append(f"the latency of {counted(len(measured), 'model')}")
    if artifacts.exports:
        parts.append(counted(len(artifacts.exports), "exported checkpoint"))
    if artifacts.left_out:
        parts.append(f"{counted(len(artifacts.left_out), 'file')} left out")
    return f"This page reports {'; '.join(parts)}."
