"""What every verb of the command line takes, and says of itself.

Where a stage has the default, the option has none, and its help says {default}: see `Parser`.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ctcd_jax import __version__
from ctcd_jax.arguments import Parser, count_list, file_path, located, name_list, number, saved_step, share_of_work
from ctcd_jax.ranges import COUNT, Range

MOST_PROCESSES = 4096


def make_parser() -> Parser:
    """Returns the parser of the command: what it parses has `verb`, and `parser`, that of the verb."""
    parser = Parser(
        prog="ctcd",
        description="Train language models together and let them teach each other (Lee et al. 2023).",
        epilog="Exit codes: 0 finished, 2 user error (one line says what), 3 the loss is not finite, "
        "75 stopped on request: run the same command again to go on.",
    )
    parser.add_argument("--version", action="version", version=f"ctcd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    _prepare_arguments(verbs)

    verb = _verb(verbs, "inspect", "a corpus -> what is in it", "Colours are left out where NO_COLOR is set.")
    verb.add_argument("directory", type=located, metavar="DIR", help="of `ctcd prepare`")
    verb.add_argument(
        "--html", type=located, metavar="FILE", help="also write it as a page that opens without a network"
    )
    verb.add_argument(
        "--rows",
        type=number(Range(0, whole=True)),
        default=3,
        metavar="N",
        help="validation rows to show (default %(default)s)",
    )

    verb = _verb(
        verbs,
        "train",
        "a corpus -> a trained cohort; resumes by itself",
        "Every field of the config can be set on the command line: --config.optimizer.learning_rate=1e-3, "
        "--config.edges[0].weight=4. The same command goes on with a run that was stopped or killed, and so does "
        "--workdir alone. --change extends a run (--config.train.steps, --config.train.epochs) or repairs one whose "
        "loss is no longer finite (--config.optimizer.*, --config.train.dtype), from its newest saved step on.",
    )
    verb.add_argument(
        "--config",
        type=located,
        metavar="FILE[:PRESET]",
        help="mine.py:tiny, or one that is shipped, ctcd:tiny (default: that of the run)",
    )
    verb.add_argument(
        "--workdir",
        type=located,
        metavar="DIR",
        help="checkpoints, metrics.jsonl, TensorBoard; --show and --plan of a --config need none",
    )
    verb.add_argument("--change", action="store_true", help="let the config extend or repair the run that is there")
    verb.add_argument("--plan", action="store_true", help="say what the run would cost, and stop")
    verb.add_argument(
        "--show", action="store_true", help="say every field of the config, its meaning and its value, and stop"
    )

    verb = _verb(verbs, "export", "a member of a run -> a Hugging Face model, parity proven")
    verb.add_argument("--workdir", required=True, type=located, metavar="DIR", help="of `ctcd train`")
    verb.add_argument("--member", required=True, metavar="NAME", help="e.g. student")
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the model to write")
    verb.add_argument(
        "--step",
        type=saved_step,
        metavar="N",
        help="a saved step, or best: that of the lowest validation loss, see train.keep_best (default: the newest)",
    )

    _evaluate_arguments(verbs)
    _probe_arguments(verbs)
    _glue_arguments(verbs)

    verb = _verb(
        verbs,
        "latency",
        "exported models -> parameters, FLOPs, milliseconds",
        "The first model is the reference of the speed-ups. Every combination of the lists is measured; the first of "
        "them (eager, where that is measured) is the one that reports show.",
        _latency_defaults,
    )
    _models(verb, _ANY_ENCODER)
    verb.add_argument(
        "--out",
        type=file_path,
        metavar="FILE",
        help="also write the figures as JSON; `card` and `report` search for latency.json",
    )
    verb.add_argument(
        "--keep-onnx",
        type=file_path,
        metavar="DIR",
        help="keep the ONNX files that were checked and measured, NAME.onnx; with --runtime onnx",
    )
    grid = verb.add_argument_group(
        "what to measure", "Lists, such as 1,8,32; every combination.", argument_default=argparse.SUPPRESS
    )
    grid.add_argument(
        "--batch-size", dest="batch_sizes", type=count_list, metavar="N,N", help="rows (default {default})"
    )
    grid.add_argument(
        "--length",
        dest="lengths",
        type=count_list,
        metavar="N,N",
        help="tokens a sequence (default: {default} at most)",
    )
    grid.add_argument("--threads", type=count_list, metavar="N,N", help="on the CPU (default: one a core)")
    grid.add_argument(
        "--device", dest="devices", type=name_list, metavar="A,B", help="cpu, cuda (default: cuda if there is a GPU)"
    )
    grid.add_argument(
        "--runtime",
        dest="runtimes",
        type=name_list,
        metavar="A,B",
        help="eager, compile, onnx (CPU only); default {default}",
    )
    grid.add_argument("--dtype", metavar="T", help="float32, bfloat16 or float16 (default {default})")
    grid.add_argument(
        "--rounds", type=number(COUNT), metavar="N", help="timed batches of each model (default {default})"
    )

    verb = _verb(
        verbs,
        "card",
        "exported models and what was measured of them -> their model cards",
        "Each README.md is written anew from ctcd.json, which `ctcd export` wrote, and from the scores and timings of "
        "the model's own weights that are found now: name all places at once. What you wrote above or below the marks "
        "in README.md stays, and so does your metadata.",
    )
    _models(verb)
    verb.add_argument(
        "--from",
        action="append",
        required=True,
        type=file_path,
        metavar="PLACE",
        dest="places",
        help="results.jsonl, evaluation.jsonl, probe.jsonl, latency.json, or a directory that is searched for them; "
        "may be given several times",
    )

    verb = _verb(verbs, "report", "runs and results -> one HTML page that opens without a network")
    verb.add_argument(
        "directories", nargs="+", type=located, metavar="DIR", help="searched for runs, results, latency files, exports"
    )
    verb.add_argument("--out", required=True, type=located, metavar="FILE", help="report.html")

    verb = _verb(
        verbs,
        "bench",
        "how fast it is here, and against what",
        "Whole steps in separate, interleaved processes; medians; ratios pair by pair.",
    )
    verb.add_argument("--suite", default="cpu", choices=("cpu", "gpu", "memory", "data"), help="default %(default)s")
    verb.add_argument("--full", action="store_true", help="more shapes, dtypes and opponents; many minutes")
    verb.add_argument("--out", type=located, metavar="DIR", help="also write bench.json and bench.png")
    return parser


def _glue_arguments(verbs):
    verb = _verb(
        verbs,
        "glue",
        "exported models -> fine-tuned scores; resumes by itself",
        "Tasks: mnli, qqp, qnli, sst2, cola, stsb, mrpc, rte (the default, as far as --data has them), wnli, or any "
        "folder of --data with train.tsv and dev.tsv; or one task of your own with --task, --columns and --metric.",
        _matrix_defaults,
    )
    _models(verb, _ANY_ENCODER)
    verb.add_argument(
        "--data", required=True, type=located, metavar="WHERE", help="folder of TSV folders, hf[:ID], tfds[:DIR]"
    )
    verb.add_argument("--tasks", metavar="A,B", help="e.g. cola,sst2")
    verb.add_argument(
        "--seeds",
        type=number(Range(1, 10_000, whole=True)),
        default=3,
        metavar="N",
        help="runs of each task (default %(default)s)",
    )
    verb.add_argument(
        "--out", required=True, type=located, metavar="DIR", help="results.jsonl, table.md, table.csv, cells/"
    )
    own = verb.add_argument_group("a task of your own: train and dev as .tsv, .csv or .jsonl in --data")
    own.add_argument("--task", metavar="NAME", help="what to call it")
    own.add_argument("--columns", metavar="C,C", help="one or two texts and the label, by name or position: text,label")
    own.add_argument(
        "--metric", metavar="M,M", help="accuracy, f1, f1_macro, matthews; or, for scores, pearson, spearman"
    )
    own.add_argument("--positive", metavar="CLASS", help="of F1 (default: the last of the two in order)")
    tuning = verb.add_argument_group(
        "hyper-parameters, one set for all tasks and models", argument_default=argparse.SUPPRESS
    )
    tuning.add_argument(
        "--epochs", type=number(Range(0, above=True)), metavar="N", help="default {default}; 0.5: half of the examples"
    )
    tuning.add_argument("--learning-rate", type=number(Range(0, above=True)), metavar="R", help="default {default}")
    tuning.add_argument("--batch-size", type=number(COUNT), metavar="N", help="default {default}")
    tuning.add_argument(
        "--max-length", type=number(Range(8, whole=True)), metavar="N", help="tokens an example (default {default})"
    )
    tuning.add_argument(
        "--grid", action="append", metavar="F=V,V", help="learning_rate=1e-4,3e-4: the best on dev is reported as such"
    )
    tuning.add_argument("--intermediate", metavar="TASK", help="start RTE, MRPC, STS-B from TASK's encoder, e.g. mnli")
    work = verb.add_argument_group("the work", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--jobs",
        type=number(Range(0, MOST_PROCESSES, whole=True)),
        metavar="N",
        help="cells at once (default: one a GPU or core; 0: debug here)",
    )
    work.add_argument("--shard", type=share_of_work, metavar="I/N", help="do one share of N of the cells, 0/N to N-1/N")
    work.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        help="default: bfloat16 or float16 on GPUs, else float32",
    )
    work.add_argument(
        "--keep-models", action="store_true", help="keep each fine-tuned model for transformers.pipeline, in OUT/cells/"
    )
    work.add_argument("--compile", dest="compiled", action="store_true", help="use torch.compile")


def _prepare_arguments(verbs):
    verb = _verb(
        verbs,
        "prepare",
        "text -> a corpus of token rows; resumes by itself",
        "SPEC is KIND:LOCATION[,key=value ...]: text:'wiki/*.txt.xz' (one sentence or paragraph a line, a blank line "
        "between documents; plain, .gz, .xz, .zst, .bz2), jsonl:GLOB, parquet:GLOB, hf:ID_OR_DIRECTORY, "
        "tfds:NAME_OR_DIRECTORY (all with field=, the last two with split=, hf with name=) or docstrings (the English "
        "prose of this Python environment). share=0.5 keeps each sentence of a source with this "
        "probability; lines=sentences says that a line is a sentence.",
        _recipe_defaults,
    )
    verb.add_argument("--source", action="append", metavar="SPEC", help="may be given several times")
    verb.add_argument(
        "--config", type=located, metavar="FILE", help="a recipe, mine.py or corpora/wiki_books, instead of options"
    )
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the corpus to make")
    recipe = verb.add_argument_group("the recipe", argument_default=argparse.SUPPRESS)
    recipe.add_argument("--length", type=int, metavar="N", help="tokens a row (default {default})")
    recipe.add_argument(
        "--packing",
        metavar="MODE",
        help="sentence (one a row), packed (several, which do not see each other) or full (running text); default "
        "{default}",
    )
    recipe.add_argument("--every", type=int, metavar="K", help="keep 1 sentence in K (default {default}; the paper: 4)")
    recipe.add_argument("--seed", type=int, metavar="S", help="of the sampling (default {default})")
    recipe.add_argument("--tokenizer", metavar="T", help="a vocab.txt, a tokenizer directory or a hub id")
    recipe.add_argument("--vocab-size", type=int, metavar="V", help="train a WordPiece of V tokens (default {default})")
    recipe.add_argument("--cased", action="store_true", help="train it on text as it is, not in lower case")
    recipe.add_argument("--keep-accents", action="store_true", help="train it in lower case, but with accents")
    recipe.add_argument("--validation", type=float, metavar="F", help="share of documents held out (default {default})")
    recipe.add_argument(
        "--validation-by", metavar="UNIT", help="hold out documents or single sentences (default {default})"
    )
    recipe.add_argument(
        "--language", metavar="L", help="whose rules split paragraphs into sentences (default {default})"
    )
    recipe.add_argument("--min-characters", type=int, metavar="N", help="drop shorter sentences")
    recipe.add_argument("--max-characters", type=int, metavar="N", help="drop longer sentences")
    recipe.add_argument("--max-unknown", type=float, metavar="F", help="drop sentences with more [UNK] than this share")
    recipe.add_argument("--deduplicate", action="store_true", help="keep the first of equal sentences, case apart")
    work = verb.add_argument_group("the work; it does not change a byte of the corpus")
    work.add_argument(
        "--workers",
        type=number(Range(1, MOST_PROCESSES, whole=True)),
        metavar="N",
        help="processes (default: one a core)",
    )
    shard = work.add_mutually_exclusive_group()
    shard.add_argument("--shard", type=share_of_work, metavar="I/N", help="do one share of N of the work, 0/N to N-1/N")
    shard.add_argument("--finalize", action="store_true", help="put together what the shards have done")
    work.add_argument("--strict", action="store_true", help="stop at invalid UTF-8 instead of replacing it")


def _evaluate_arguments(verbs):
    verb = _verb(
        verbs,
        "evaluate",
        "models on held-out text -> loss, perplexity, accuracy; resumes by itself",
        "Every model on the validation rows of every corpus, under the masks of training's own validation, in float32. "
        "Beside the loss stands that of knowing word frequencies alone. What is in --out already is not run again.",
        _evaluate_defaults,
    )
    verb.add_argument(
        "--model",
        action="append",
        required=True,
        type=located,
        metavar="DIR|WORKDIR#MEMBER",
        help="of `ctcd export`, another BERT of Hugging Face's, or a run's member at its newest step, also while it is "
        "trained; may be given several times",
    )
    verb.add_argument(
        "--corpus",
        dest="corpora",
        action="append",
        required=True,
        type=file_path,
        metavar="DIR",
        help="of `ctcd prepare`, with the model's tokenizer; may be given several times",
    )
    verb.add_argument("--out", type=file_path, metavar="DIR", help="also write evaluation.jsonl and table.md")
    work = verb.add_argument_group("the work; figures differ by rounding alone", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--backend", choices=("jax", "torch"), help="torch: an export in PyTorch's BertForMaskedLM (default {default})"
    )
    work.add_argument("--batch-size", type=number(COUNT), metavar="N", help="rows at once (default {default})")


def _evaluate_defaults() -> dict[str, Any]:
    from ctcd_jax.scoring.evaluate import evaluate

    return {name: parameter.default for name, parameter in inspect.signature(evaluate).parameters.items()}


def _probe_arguments(verbs):
    verb = _verb(
        verbs,
        "probe",
        "exported models on minimal pairs -> accuracy without fine-tuning; resumes by itself",
        "A model's choice is the sentence with the greater pseudo-log-likelihood: every token masked by itself. All of "
        "BLiMP is 67,000 pairs and, with BERT's vocabulary, 1.3 million masked sentences. A paradigm that is in --out "
        "already is not run again.",
        _probe_defaults,
    )
    _models(verb)
    verb.add_argument(
        "--data",
        required=True,
        type=file_path,
        metavar="DIR",
        help="*.jsonl, compressed or not, of sentence_good and sentence_bad, with UID and linguistics_term or without",
    )
    verb.add_argument("--out", required=True, type=file_path, metavar="DIR", help="probe.jsonl and table.md")
    work = verb.add_argument_group("the work", argument_default=argparse.SUPPRESS)
    work.add_argument(
        "--pairs", type=number(COUNT), metavar="N", help="the first N of each paradigm (default: all of them)"
    )
    work.add_argument(
        "--batch-size", type=number(COUNT), metavar="N", help="masked sentences at once (default {default})"
    )


def _probe_defaults() -> dict[str, Any]:
    from ctcd_jax.scoring.probe import probe

    return {name: parameter.default for name, parameter in inspect.signature(probe).parameters.items()}


def _recipe_defaults() -> dict[str, Any]:
    from ctcd_jax.data.recipe import VOCAB_SIZE, Recipe

    return {field.name: field.default for field in fields(Recipe)} | {"vocab_size": VOCAB_SIZE}


def _matrix_defaults() -> dict[str, object]:
    from ctcd_jax.evaluation.finetune import GlueOptions

    return {field.name: field.default for field in fields(GlueOptions)}


def _latency_defaults() -> dict[str, Any]:
    from ctcd_jax.latency import latency
    from ctcd_jax.latency.encoders import DEFAULT_LENGTH

    parameters = inspect.signature(latency).parameters
    return {name: parameter.default for name, parameter in parameters.items()} | {"lengths": DEFAULT_LENGTH}


def _verb(verbs, name: str, summary: str, more: str = "", stage_defaults: Callable[[], Mapping[str, object]] = dict):
    description = f"{summary[0].upper()}{summary[1:]}. {more}"
    verb = verbs.add_parser(name, help=summary, description=description, stage_defaults=stage_defaults)
    verb.set_defaults(parser=verb)
    return verb


_ANY_ENCODER = "of `ctcd export`, of any encoder that transformers' AutoModel loads, or its id on the hub"


def _models(verb, which: str = "of `ctcd export`"):
    text = f"{which}; may be given several times"
    verb.add_argument("--model", action="append", required=True, type=file_path, metavar="DIR", help=text)
