"""The front door: `ctcd VERB`, one verb a stage. It reads arguments, calls the stage and turns errors into exit codes.

0 finished, 2 the user can mend it (one line on stderr), 3 the loss is not finite, 75 stopped on request: run it again.
"""

import argparse
import errno
import functools
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ctcd_jax import __version__
from ctcd_jax.arguments import Parser, count_list, file_path, located, name_list, number, share_of_work
from ctcd_jax.errors import NonFinite, Stopped, UserError, did_you_mean, first_line, is_out_of_memory, warn
from ctcd_jax.ranges import COUNT, Range
from ctcd_jax.runtime.allocator import keep_freed_memory
from ctcd_jax.runtime.stopping import EXIT_CODE as STOPPED
from ctcd_jax.runtime.stopping import end_at_once

USER_ERROR, NON_FINITE, INTERRUPTED, BROKEN_PIPE = 2, 3, 130, 141
RESUMABLE = ("prepare", "train", "glue")
MOST_PROCESSES = 4096
LESS_MEMORY = {
    "prepare": "lower --workers",
    "train": "lower data.batch_size or train.loss_chunk, raise train.micro_batches, or set train.remat=True",
    "glue": "lower --batch-size, --max-length or --jobs",
    "latency": "lower --batch-size or --length",
}

# Lines reach a log file when they are said, not when a buffer is full.
say = functools.partial(print, flush=True)


def command() -> int:
    """The `ctcd` command: `main` in a process of its own, whose allocator is therefore ours to set.

    Not where the tokenizer's threads work: they would wait for one another's allocations, at a third of their speed.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name or a bar that the locale cannot spell ends no work
    if sys.argv[1:2] and sys.argv[1] in RESUMABLE:
        end_at_once(sys.argv[1])
    if sys.argv[1:2] not in (["prepare"], ["bench"]):
        keep_freed_memory()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    for argument in rest:
        takes_overrides = options.verb == "train" or getattr(options, "config", None)
        if not (takes_overrides and argument.startswith(("--config.", "--noconfig."))):
            options.parser.unknown(argument)
    try:
        return options.run(options, rest)
    except UserError as error:
        return _fail(options, error, USER_ERROR)
    except NonFinite as error:
        return _fail(options, error, NON_FINITE)
    except Stopped as stopped:
        say(stopped)
        return STOPPED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `ctcd ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if is_out_of_memory(error):
            advice = LESS_MEMORY.get(options.verb, "use a machine with more")
            return _fail(options, f"out of memory ({first_line(error)}); {advice}", USER_ERROR)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(options, f"{error.strerror}; free some, then run the same command again", USER_ERROR)
        if isinstance(error, OSError) and error.filename is not None:
            return _fail(options, f"{error.filename}: {error.strerror}", USER_ERROR)
        raise


def _fail(options, message, code: int) -> int:
    line = r"\n".join(str(message).splitlines())  # the name of a file may hold a line end
    print(f"ctcd {options.verb}: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ctcd",
        description="Train language models together and let them teach each other (Lee et al. 2023).",
        epilog="Exit codes: 0 finished, 2 something to mend (one line says what), 3 the loss is not finite, "
        "75 stopped on request: run the same command again to go on.",
    )
    parser.add_argument("--version", action="version", version=f"ctcd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    _prepare_arguments(verbs)

    verb = _verb(verbs, "inspect", _inspect, "a corpus -> what is in it", "Colours are left out where NO_COLOR is set.")
    verb.add_argument("directory", type=located, metavar="DIR", help="of `ctcd prepare`")
    verb.add_argument(
        "--html", type=located, metavar="FILE", help="also write it as a page that opens without a network"
    )
    verb.add_argument(
        "--rows", type=number(Range(0, whole=True)), default=3, metavar="N", help="validation rows to show (default 3)"
    )

    verb = _verb(
        verbs,
        "train",
        _train,
        "a corpus -> a trained cohort; resumes by itself",
        "Every field of the config can be set on the command line: --config.optimizer.learning_rate=1e-3, "
        "--config.edges[0].weight=4. The same command goes on with a run that was stopped or killed, and so does "
        "--workdir alone. --change extends a run (--config.train.steps, --config.train.epochs) or mends one whose loss "
        "is no longer finite (--config.optimizer.*, --config.train.dtype), from its newest saved step on.",
    )
    verb.add_argument(
        "--config",
        type=located,
        metavar="FILE[:PRESET]",
        help="mine.py:tiny, or one that is shipped, ctcd:tiny (default: that of the run)",
    )
    verb.add_argument(
        "--workdir", required=True, type=located, metavar="DIR", help="checkpoints, metrics.jsonl, TensorBoard"
    )
    verb.add_argument("--change", action="store_true", help="let the config extend or mend the run that is there")
    verb.add_argument("--plan", action="store_true", help="say what the run would cost, and stop")

    verb = _verb(verbs, "export", _export, "a member of a run -> a Hugging Face model, parity proven")
    verb.add_argument("--workdir", required=True, type=located, metavar="DIR", help="of `ctcd train`")
    verb.add_argument("--member", required=True, metavar="NAME", help="e.g. student")
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the model to write")
    verb.add_argument("--step", type=number(COUNT), metavar="N", help="a saved step (default: the newest)")

    _glue_arguments(verbs)

    verb = _verb(
        verbs,
        "latency",
        _latency,
        "exported models -> parameters, FLOPs, milliseconds",
        "The first model is the reference of the speed-ups. Every combination of the lists is measured; the first of "
        "them (eager, where that is measured) is the one that plots and reports show.",
    )
    _models(verb)
    verb.add_argument(
        "--out",
        type=file_path,
        metavar="FILE",
        help="also write the figures as JSON; `card` and `report` search for latency.json",
    )
    verb.add_argument(
        "--results",
        type=file_path,
        metavar="DIR",
        help="of `ctcd glue`: also draw quality against latency",
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
    grid.add_argument("--batch-size", dest="batch_sizes", type=count_list, metavar="N,N", help="rows (default 32,1)")
    grid.add_argument(
        "--length", dest="lengths", type=count_list, metavar="N,N", help="tokens a sequence (default: 128 at most)"
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
        help="eager (default), compile, onnx (CPU only)",
    )
    grid.add_argument("--dtype", metavar="T", help="float32 (the default), bfloat16 or float16")
    grid.add_argument("--rounds", type=number(COUNT), metavar="N", help="timed batches of each model (default 30)")

    verb = _verb(
        verbs,
        "card",
        _card,
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
        help="results.jsonl, latency.json, or a directory that is searched for them; may be given several times",
    )

    verb = _verb(verbs, "report", _report, "runs and results -> one HTML page that opens without a network")
    verb.add_argument(
        "directories", nargs="+", type=located, metavar="DIR", help="searched for runs, results, latency files, exports"
    )
    verb.add_argument("--out", required=True, type=located, metavar="FILE", help="report.html")

    verb = _verb(
        verbs,
        "bench",
        _bench,
        "how fast it is here, and against what",
        "Whole steps in separate, interleaved processes; medians; ratios pair by pair.",
    )
    verb.add_argument("--suite", default="cpu", choices=("cpu", "gpu", "memory", "data"), help="default cpu")
    verb.add_argument("--full", action="store_true", help="measure everything that has a target; many minutes")
    verb.add_argument("--out", type=located, metavar="DIR", help="also write bench.json and bench.png")
    return parser


def _glue_arguments(verbs):
    verb = _verb(
        verbs,
        "glue",
        _glue,
        "exported models -> fine-tuned scores; resumes by itself",
        "Tasks: mnli, qqp, qnli, sst2, cola, stsb, mrpc, rte (the default, as far as --data has them), wnli, or any "
        "folder of --data with train.tsv and dev.tsv; or one task of your own with --task, --columns and --metric.",
    )
    _models(verb)
    verb.add_argument(
        "--data", required=True, type=located, metavar="WHERE", help="folder of TSV folders, hf[:ID], tfds[:DIR]"
    )
    verb.add_argument("--tasks", metavar="A,B", help="e.g. cola,sst2")
    verb.add_argument(
        "--seeds",
        type=number(Range(1, 10_000, whole=True)),
        default=3,
        metavar="N",
        help="runs of each task (default 3)",
    )
    verb.add_argument(
        "--out", required=True, type=located, metavar="DIR", help="results.jsonl, table.md, table.csv, cells/"
    )
    own = verb.add_argument_group("a task of your own: train and dev as .tsv, .csv or .jsonl in --data")
    own.add_argument("--task", metavar="NAME", help="what to call it")
    own.add_argument("--columns", metavar="C,C", help="one or two texts and the label, by name or position: text,label")
    own.add_argument("--metric", metavar="M,M", help="accuracy, f1, matthews; or, for scores, pearson, spearman")
    own.add_argument("--positive", metavar="CLASS", help="of F1 (default: the last of the two in order)")
    tuning = verb.add_argument_group(
        "hyper-parameters, one set for all tasks and models", argument_default=argparse.SUPPRESS
    )
    tuning.add_argument("--epochs", type=number(COUNT), metavar="N", help="default 3")
    tuning.add_argument("--learning-rate", type=number(Range(0, above=True)), metavar="R", help="default 1e-4")
    tuning.add_argument("--batch-size", type=number(COUNT), metavar="N", help="default 32")
    tuning.add_argument(
        "--max-length", type=number(Range(8, whole=True)), metavar="N", help="tokens an example (default 128)"
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
    work.add_argument("--compile", dest="compiled", action="store_true", help="use torch.compile")


def _prepare_arguments(verbs):
    verb = _verb(
        verbs,
        "prepare",
        _prepare,
        "text -> a corpus of token rows; resumes by itself",
        "SPEC is KIND:LOCATION[,key=value ...]: text:'wiki/*.txt.xz' (one sentence or paragraph a line, a blank line "
        "between documents; plain, .gz, .xz, .zst, .bz2), jsonl:GLOB, parquet:GLOB, hf:ID_OR_DIRECTORY, "
        "tfds:NAME_OR_DIRECTORY (all with field=, the last two with split=, hf with name=) or docstrings (the English "
        "prose of this Python environment). share=0.5 keeps each sentence of a source with this "
        "probability; lines=sentences says that a line is a sentence.",
    )
    verb.add_argument("--source", action="append", metavar="SPEC", help="may be given several times")
    verb.add_argument(
        "--config", type=located, metavar="FILE", help="a recipe, mine.py or corpora/wiki_books, instead of options"
    )
    verb.add_argument("--out", required=True, type=located, metavar="DIR", help="the corpus to make")
    recipe = verb.add_argument_group("the recipe", argument_default=argparse.SUPPRESS)
    recipe.add_argument("--length", type=int, metavar="N", help="tokens a row (default 128)")
    recipe.add_argument(
        "--packing",
        metavar="MODE",
        help="sentence (one a row), packed (several, which do not see each other; the default) or full (running text)",
    )
    recipe.add_argument("--every", type=int, metavar="K", help="keep 1 sentence in K (default 1; the paper: 4)")
    recipe.add_argument("--seed", type=int, metavar="S", help="of the sampling (default 0)")
    recipe.add_argument("--tokenizer", metavar="T", help="a vocab.txt, a tokenizer directory or a hub id")
    recipe.add_argument("--vocab-size", type=int, metavar="V", help="train a WordPiece of V tokens (default 30522)")
    recipe.add_argument("--cased", action="store_true", help="train it on text as it is, not in lower case")
    recipe.add_argument("--keep-accents", action="store_true", help="train it in lower case, but with accents")
    recipe.add_argument("--validation", type=float, metavar="F", help="share of documents held out (default 0.01)")
    recipe.add_argument("--validation-by", metavar="UNIT", help="hold out documents (the default) or single sentences")
    recipe.add_argument("--language", metavar="L", help="whose rules split paragraphs into sentences (default en)")
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


def _verb(verbs, name, run, summary, more=""):
    description = f"{summary[0].upper()}{summary[1:]}. {more}"
    verb = verbs.add_parser(name, help=summary, description=description)
    verb.set_defaults(run=run, parser=verb)
    return verb


def _models(verb):
    text = "of `ctcd export`; may be given several times"
    verb.add_argument("--model", action="append", required=True, type=file_path, metavar="DIR", help=text)


def _prepare(options, overrides) -> int:
    from ctcd_jax.data import prepare
    from ctcd_jax.data.recipe import Recipe
    from ctcd_jax.runtime.cores import available_cores

    known = [field.name for field in fields(Recipe)]
    given = {name: getattr(options, name) for name in known if hasattr(options, name)}
    if options.config:
        if given or options.source:
            name = next(iter(given), "source").replace("_", "-")
            raise UserError(f"--{name}: a recipe is given with --config; set its fields with --config.NAME=VALUE")
        from ctcd_jax.config.file import load_config

        given = load_config(os.path.expanduser(options.config), overrides).to_dict()
        for name in given:
            if name not in known:
                raise UserError(f"--config {options.config}: a recipe has no field '{name}'{did_you_mean(name, known)}")
        if not isinstance(given.get("sources"), dict):
            raise UserError(f"--config {options.config}: no sources; make the recipe with recipe({{NAME: SPEC}})")
        given["sources"] = tuple(given["sources"].values())
    else:
        given["sources"] = tuple(options.source or ())
    work = {name: getattr(options, name) for name in ("shard", "finalize", "strict")}
    workers = available_cores() if options.workers is None else options.workers
    prepare(out=options.out, workers=workers, **work, **given, log=say, warn=warn)
    return 0


def _inspect(options, _) -> int:
    from ctcd_jax.inspection.corpus import inspect
    from ctcd_jax.training.validation_masks import mask_validation_rows

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = max(60, shutil.get_terminal_size((100, 24)).columns) if sys.stdout.isatty() else 100
    inspect(options.directory, mask_validation_rows, options.html, options.rows, log=say, colour=colour, width=width)
    return 0


def _train(options, overrides) -> int:
    began = time.perf_counter()  # before the imports, which are a second or two of the start
    from ctcd_jax.config.file import load_config
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.runtime.distributed import start_processes
    from ctcd_jax.training.loop import train
    from ctcd_jax.training.plan import plan
    from ctcd_jax.training.run import config_of_run

    config = load_config(options.config, overrides) if options.config else config_of_run(options.workdir, overrides)
    start_processes()
    keep_programs(warn)
    if options.plan:
        plan(config, log=say, workdir=options.workdir, change=options.change)
    else:
        train(config, options.workdir, log=say, start=began, change=options.change)
    return 0


def _export(options, _) -> int:
    from ctcd_jax.artifacts.exports import quiet_loading, require_torch
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.training.export import export

    require_torch()
    keep_programs(warn)
    with quiet_loading():
        export(options.workdir, options.member, options.out, options.step, log=say)
    return 0


def _glue(options, _) -> int:
    from ctcd_jax.evaluation.finetune import Options, glue
    from ctcd_jax.evaluation.tasks.data import open_source
    from ctcd_jax.evaluation.tasks.tasks import own_task

    own = None
    if options.task:
        if options.tasks or not (options.columns and options.metric):
            raise UserError(f"--task {options.task}: give --columns and --metric with it, and no --tasks")
        own = own_task(options.task, options.columns, options.metric, options.positive)
    elif options.columns or options.metric or options.positive:
        raise UserError("--columns, --metric, --positive: name your task with --task")
    given = {field.name: getattr(options, field.name) for field in fields(Options) if hasattr(options, field.name)}
    names = options.tasks.split(",") if options.tasks else None
    source = open_source(options.data, own)
    glue(options.model, source, names, options.seeds, Path(options.out), Options(**given), log=say, warn=warn)
    return 0


def _latency(options, _) -> int:
    from ctcd_jax.latency import latency

    grid = ("batch_sizes", "lengths", "threads", "devices", "runtimes", "dtype", "rounds")
    given = {name: getattr(options, name) for name in grid if hasattr(options, name)}
    places = {"out": options.out, "results": options.results, "keep_onnx": options.keep_onnx}
    latency(options.model, **places, **given, log=say, warn=warn)
    return 0


def _card(options, _) -> int:
    from ctcd_jax.report.card import card

    card(options.model, options.places, log=say, warn=warn)
    return 0


def _report(options, _) -> int:
    from ctcd_jax.report.report import report

    report([Path(directory) for directory in options.directories], Path(options.out), log=say, warn=warn)
    return 0


def _bench(options, _) -> int:
    from ctcd_jax.benchmarks import bench

    bench(options.suite, options.full, Path(options.out) if options.out else None, log=say)
    return 0
