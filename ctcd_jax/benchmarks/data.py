"""Suite `data`: how fast rows come to the training step, and what `ctcd prepare` adds to tokenising alone.

The text is English that every machine has, the docstrings of the Python environment, written to files; the corpus is a
real one, made of it by `prepare`. Everything is read from the page cache: this measures code, not disks. `prepare` has
a process for each core, and the tokenizer alone a thread for each.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ctcd_jax.benchmarks.interleaved import WorkerMeasurements, ratio, spread
from ctcd_jax.benchmarks.plot import Bar, Panel
from ctcd_jax.data import Corpus, TrainBatches, docstrings, prepare
from ctcd_jax.data.parts import PART_BYTES
from ctcd_jax.data.tokenizer import load_tokenizer
from ctcd_jax.errors import UserError
from ctcd_jax.runtime.cores import available_cores
from ctcd_jax.text_tables import aligned

BATCH, LENGTH = 128, 128
BATCHES = 200  # a round
VOCABULARY = 8192
ROUNDS, FULL_ROUNDS = 3, 7
SENTENCES = 4096  # a batch for the tokenizer: as many as `prepare` gives it; all at once is half as fast


def suite(log: Callable[[str], None], full: bool) -> dict:
    """Measures, prints the table and returns device, shapes, variants and ratios; with `full`, in more rounds.

    Raises:
      UserError: there is no text to measure with.
    """
    log("collecting text")
    documents = environment(log)
    if not documents:
        raise UserError(
            f"--suite data: no docstrings in the modules of {sys.prefix}; run it where they are not stripped"
        )
    with tempfile.TemporaryDirectory(prefix="ctcd-bench-") as directory:
        result = measure(documents, Path(directory), FULL_ROUNDS if full else ROUNDS)
    log(text(result))
    return result


def environment(log: Callable[[str], None]) -> list[Sequence[str]]:
    """Returns the paragraphs of each module of the Python environment."""
    prose = docstrings.collect(docstrings.interpreter_roots(), log)
    return [paragraphs for modules in prose.modules for paragraphs in modules.values()]


def measure(documents: Sequence[Sequence[str]], directory: Path, rounds: int) -> dict:
    """Times loader, tokenizer and `prepare` in turn; returns what `bench.json` holds.

    Args:
      documents: the paragraphs of each; enough for a batch of rows.
      directory: an empty one for the text and the corpora.
      rounds: that count.
    """
    cores = available_cores()
    size = sum(len(paragraph) for document in documents for paragraph in document)
    documents = list(documents) * -(-cores * PART_BYTES // size)  # so that each core has a part of its own
    paragraphs = [paragraph for document in documents for paragraph in document]
    source = directory / "text"
    source.mkdir()
    for core in range(cores):
        text = "\n\n".join("\n".join(document) for document in documents[core::cores])
        (source / f"{core:03d}.txt").write_text(text + "\n", encoding="utf-8")
    # A corpus for the loader; its tokenizer is given to the ones that are timed, which then do not train another.
    _prepare(source, directory / "corpus", cores, vocab_size=VOCABULARY)
    corpus = Corpus.open(directory / "corpus")
    batches = TrainBatches(corpus, BATCH, seed=0)
    tokenizer = load_tokenizer(corpus.tokenizer_directory)

    def load(number: int) -> None:
        for step in range(number * BATCHES, (number + 1) * BATCHES):
            batches[step]

    def tokenize(number: int) -> None:
        for start in range(0, len(paragraphs), SENTENCES):
            tokenizer.encode_batch_fast(paragraphs[start : start + SENTENCES])

    variants = {
        "load": load,
        "tokenize": tokenize,
        "prepare": lambda number: _prepare(
            source, directory / f"corpus-{number}", cores, tokenizer=str(corpus.tokenizer_directory)
        ),
    }
    seconds = {name: [] for name in variants}
    for number in range(1 + rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run(number)
            seconds[name].append(time.perf_counter() - start)
    measured = {name: WorkerMeasurements({}, times[1:]) for name, times in seconds.items()}  # the first round warms up
    return {
        "device": "cpu",
        "shapes": {
            "batch": BATCH,
            "length": LENGTH,
            "batches": BATCHES,
            "corpus_rows": corpus.rows("train"),
            "text_bytes": sum(path.stat().st_size for path in source.iterdir()),
            "cores": cores,
            "paragraphs": len(paragraphs),
            "rounds": rounds,
        },
        "variants": {name: {"seconds": m.seconds, **spread(m.seconds)} for name, m in measured.items()},
        "ratios": {"speed of prepare / of encode_batch_fast": ratio(measured, ("tokenize",), ("prepare",))},
    }


def text(result: dict) -> str:
    """Returns the table as it is printed."""
    shapes = result["shapes"]
    rows, megabytes = shapes["batches"] * shapes["batch"], shapes["text_bytes"] / 1e6
    setting = (
        f"{shapes['paragraphs']:,} paragraphs, {megabytes:.2f} MB -> {shapes['corpus_rows']:,} rows of "
        f"{shapes['length']} tokens, packed; {shapes['cores']} cores, {shapes['rounds']} rounds"
    )
    table: list[tuple[str, ...]] = [("work", "median s", "min", "max", "rate")]
    for name, label, amount, unit in (
        ("load", f"loader, {shapes['batches']} batches of {shapes['batch']} rows, warm", rows, "rows/s"),
        ("tokenize", "tokenizers' encode_batch_fast alone", megabytes, "MB/s"),
        ("prepare", "ctcd prepare, tokenizer given, end to end", megabytes, "MB/s"),
    ):
        variant = result["variants"][name]
        rate = amount / variant["median"]
        figures = [f"{variant[key]:.3f}" for key in ("median", "min", "max")]
        table.append((label, *figures, f"{rate:,.0f} {unit}" if rate > 100 else f"{rate:.2f} {unit}"))
    quotient = result["ratios"]["speed of prepare / of encode_batch_fast"]
    last = "speed of prepare / of encode_batch_fast, round by round: {median:.2f} ({min:.2f} to {max:.2f})".format(
        **quotient
    )
    return "\n\n".join([setting, aligned(table), last])


def panels(result: dict) -> list[Panel]:
    """Returns the panel of `prepare` beside its peer and limit, the tokenizer alone."""
    megabytes = result["shapes"]["text_bytes"] / 1e6
    bars = []
    for name, label in (("tokenize", "encode_batch_fast alone"), ("prepare", "ctcd prepare")):
        median, longest, least = (megabytes / result["variants"][name][key] for key in ("median", "max", "min"))
        bars.append(Bar(label, median, longest, least, peer=name == "tokenize"))
    return [Panel("MB of text a second", bars)]


def _prepare(source: Path, out: Path, cores: int, **options) -> None:
    prepare([f"text:{source}/*.txt"], out, length=LENGTH, workers=cores, **options, log=lambda line: None)
