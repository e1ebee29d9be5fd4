"""`ctcd evaluate`: models on the validation rows of corpora, each row under masks of its own."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctcd_jax.artifacts.exports import distinct_names, require_torch, weights_digest
from ctcd_jax.artifacts.lines import append_line
from ctcd_jax.artifacts.scoring import EVALUATION, EVALUATION_FORMAT, LOCK, TABLE, Evaluation, read_evaluations
from ctcd_jax.data import Corpus
from ctcd_jax.data.tokenizer import tokenizer_hash
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import locked, write_whole
from ctcd_jax.jobs.progress import watch
from ctcd_jax.runtime.stopping import stops_between
from ctcd_jax.scoring.evaluation_table import as_markdown, as_text
from ctcd_jax.scoring.heldout import RowSums, jax_scorer, ratio_interval, row_sums, torch_scorer
from ctcd_jax.scoring.models import Place, locate, named, unused_name
from ctcd_jax.training.masking import MaskedBatch
from ctcd_jax.training.members import weights_sha256
from ctcd_jax.training.validation_masks import masked_validation, unigram_loss


def evaluate(
    models: Sequence[str | Path],
    corpora: Sequence[Path],
    out: Path | None = None,
    backend: str = "jax",
    batch_size: int = 32,
    *,
    log: Callable[[str], None] = print,
    warn: Callable[[str], None] = warn,
) -> list[Evaluation]:
    """Returns what each model scores on the validation rows of each corpus, and prints the table.

    The masks are those of the validation in training, which depend on the row alone; everything is computed in float32.

    Args:
      models: as `models.locate` takes them.
      corpora: directories of `ctcd prepare`, made with the models' tokenizer.
      out: folder of `evaluation.jsonl` and `table.md`; what is finished there is not run again. None: print alone.
      backend: "jax", or "torch" for exported models.
      batch_size: rows at once.
      log, warn: take a line.

    Raises:
      UserError: a model or corpus cannot be had, they do not go together, or another process is at work in `out`.
    """
    opened = {name: Corpus.open(path) for name, path in distinct_names(corpora).items()}
    places = named([locate(model) for model in models])
    if backend == "torch":
        require_torch()
    for _, place in places:
        _check_backend(place, backend)
        _check_corpora(place, list(opened.values()), warn)
    with _folder(out, warn) as (known, check):
        work = _Work(opened, functools.cache(unigram_loss), backend, batch_size, known, out, check, log)
        asked: list[Evaluation] = []
        for name, place in places:
            lines = list(work.of_model(name, place))
            if same := next((line for line in asked if _model(line) == _model(lines[0])), None):
                warn(f"--model {place.given}: has the parameters of {same['path']}, which stands for both")
            else:
                asked += lines
        if out is not None:
            keys = set(map(_key, asked))
            write_whole(out / TABLE, as_markdown([*asked, *(line for line in known if _key(line) not in keys)]))
    log(as_text(asked) + (f"\n{out}: {TABLE}, {EVALUATION}" if out else ""))
    return asked


@dataclass(frozen=True)
class _Work:
    """How models are evaluated; `known` are the lines that are finished, in the file of `out` or here alone."""

    corpora: Mapping[str, Corpus]
    unigram: Callable[[Corpus], float]
    backend: str
    batch_size: int
    known: list[Evaluation]
    out: Path | None
    check: Callable[[], None]  # raises Stopped once that was asked for
    log: Callable[[str], None]

    def of_model(self, name: str, place: Place) -> Iterator[Evaluation]:
        """Yields the line of each corpus, evaluated now unless it is known."""
        params, step = place.load()
        parameters, shape = weights_sha256(params), place.shape_sha256
        names = {_model(line): line["model"] for line in self.known}
        own = unused_name(name if step is None else f"{name}@{step}", (parameters, shape), names)
        weights = None if place.directory is None else weights_digest(place.directory)
        finished = {_key(line): line for line in self.known}
        for label, corpus in self.corpora.items():
            if known := finished.get((parameters, shape, corpus.hash, self.backend)):
                yield known
                continue
            sums = self._row_sums(place, params, corpus, f"{own} on {label}")
            loss, low, high = _interval(sums, corpus, place)
            line: Evaluation = {
                "format": EVALUATION_FORMAT,
                "model": own,
                "path": place.recorded,
                "parameters": parameters,
                "shape": shape,
                "weights": weights,
                "step": step,
                "corpus": unused_name(label, corpus.hash, {line["corpus_hash"]: line["corpus"] for line in self.known}),
                "corpus_hash": corpus.hash,
                "rows": len(sums.predicted),
                "predicted": int(sums.predicted.sum()),
                "loss": loss,
                "loss_low": low,
                "loss_high": high,
                "accuracy": float(sums.right.sum() / sums.predicted.sum()),
                "unigram_loss": self.unigram(corpus),
                "backend": self.backend,
            }
            if self.out is not None:
                append_line(self.out / EVALUATION, line)
            self.known.append(line)
            yield line

    def _row_sums(self, place: Place, params: dict, corpus: Corpus, label: str) -> RowSums:
        if self.backend == "jax":
            scorer = jax_scorer(place.shape, params, corpus.vocab_size)
        else:
            scorer = torch_scorer(place.tokenizer, corpus.vocab_size)
        batches = watch(masked_validation(corpus, self.batch_size), label, "batches", self.log)
        return row_sums(scorer, self._checked(batches))

    def _checked(self, batches: Iterable[MaskedBatch]) -> Iterator[MaskedBatch]:
        for batch in batches:
            self.check()
            yield batch


def _interval(sums: RowSums, corpus: Corpus, place: Place) -> tuple[float, float, float]:
    rows, tokens = len(sums.predicted), int(sums.predicted.sum())
    if rows < 2 or not tokens:
        raise UserError(
            f"{corpus.directory}: {rows} validation rows with {tokens} masked tokens are too few for an interval; "
            "prepare it with a larger --validation"
        )
    if not np.isfinite(sums.nats).all():
        raise UserError(f"--model {place.given}: its loss on {corpus.directory} is not finite; it cannot be used")
    return ratio_interval(sums.nats, sums.predicted)


def _check_backend(place: Place, backend: str) -> None:
    if backend == "torch" and place.directory is None:
        raise UserError(f"--model {place.given}: --backend torch takes exports; `{place.exporting}`, or leave it out")


def _check_corpora(place: Place, corpora: Sequence[Corpus], warn: Callable[[str], None]) -> None:
    """Raises UserError unless a model can be evaluated on all of the corpora, before any of them is begun."""
    model, hash_of_model = f"--model {place.given}", tokenizer_hash(place.tokenizer)
    for corpus in corpora:
        if hash_of_model != corpus.tokenizer_hash:
            raise UserError(
                f"{model}: its tokenizer ({hash_of_model[:12]}) is not that of the corpus {corpus.directory} "
                f"({corpus.tokenizer_hash[:12]}); prepare the text with --tokenizer {place.tokenizer}"
            )
        longest, positions = max(corpus.lengths("validation")), place.shape.max_positions
        if longest > positions:
            raise UserError(
                f"{model}: {positions} positions, but {corpus.directory} has rows of {longest} tokens; prepare the "
                f"text with --length {positions}"
            )
    place.check_vocabulary(corpora[0].vocab_size, warn)


@contextmanager
def _folder(out: Path | None, warn: Callable[[str], None]) -> Iterator[tuple[list[Evaluation], Callable[[], None]]]:
    """Yields the lines of a folder, which is ours while the block runs, none without one; and `_Work.check`."""
    if out is None:
        with stops_between("stopped on request; with --out, what is finished would be kept") as check:
            yield [], check
        return
    out.mkdir(parents=True, exist_ok=True)
    message = "stopped on request; the finished figures are kept, run the same command again to go on"
    with locked(out / LOCK, str(out), warn=warn), stops_between(message) as check:
        yield read_evaluations(out / EVALUATION, warn), check


def _model(line: Evaluation) -> tuple:
    return line["parameters"], line.get("shape")


def _key(line: Evaluation) -> tuple:
    return *_model(line), line["corpus_hash"], line["backend"]
