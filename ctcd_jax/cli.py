"""The front door: `ctcd VERB`, one verb a stage. It reads arguments, calls the stage and turns errors into exit codes.

0 finished, 2 user error (one line on stderr), 3 the loss is not finite, 75 stopped on request: run it again.
"""

import errno
import functools
import io
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

from ctcd_jax.errors import NonFinite, Stopped, UserError, did_you_mean, first_line, is_out_of_memory, shortened, warn
from ctcd_jax.options import make_parser
from ctcd_jax.options.remote import local
from ctcd_jax.runtime.allocator import keep_freed_memory
from ctcd_jax.runtime.no_devices import NO_DEVICES
from ctcd_jax.runtime.stopping import EXIT_CODE as STOPPED
from ctcd_jax.runtime.stopping import end_at_once
from ctcd_jax.stores import fetched

OUTSIDE, USER_ERROR, NON_FINITE, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 130, 141
RESUMABLE = ("prepare", "train", "glue", "evaluate", "probe", "study")
LESS_MEMORY = {
    "prepare": "lower --workers",
    "train": "lower data.batch_size or train.loss_chunk, raise train.micro_batches, or set train.remat=True",
    "glue": "lower --batch-size, --max-length or --jobs",
    "evaluate": "lower --batch-size",
    "latency": "lower --batch-size or --length",
    "probe": "lower --batch-size",
}

# Lines reach a log file when they are said, not when a buffer is full.
say = functools.partial(print, flush=True)


def command() -> int:
    """The `ctcd` command: `main` in a process of its own, whose allocator is therefore ours to set.

    Not where the tokenizer's threads work: they would wait for one another's allocations, at a third of their speed.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        cast("io.TextIOWrapper", stream).reconfigure(
            errors="backslashreplace"
        )  # a name or a bar that the locale cannot spell ends no work
    if sys.argv[1:2] and sys.argv[1] in RESUMABLE:
        end_at_once(sys.argv[1])
    if sys.argv[1:2] not in (["prepare"], ["bench"]):
        keep_freed_memory()
    return main()


def _open_closed_streams() -> None:
    """Lets what is said go nowhere where the caller has closed stdout or stderr (`>&-`); Python has None for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (open as long as the process)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    options, rest = make_parser().parse_known_args(arguments)
    for argument in rest:
        takes_overrides = options.verb in ("train", "study") or getattr(options, "config", None)
        if not (takes_overrides and argument.startswith(("--config.", "--noconfig."))):
            options.parser.unknown(argument)
    try:
        with local(options, say, warn):
            return RUN[options.verb](options, rest)
    except Stopped as stopped:
        say(stopped)
        return STOPPED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `ctcd ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        told = _told(options.verb, error)
        if told is None:
            raise
        _say_error(options.verb, told[0])
        return told[1]


def _say_error(verb: str, message: str) -> None:
    line = r"\n".join(message.splitlines())  # the name of a file may hold a line end
    print(f"ctcd {verb}: {shortened(line)}", file=sys.stderr)


def _told(verb: str, error: Exception) -> tuple[str, int] | None:
    """Returns the message that tells a user of an error, and the exit code; None for what no user can correct."""
    message, code = str(error), USER_ERROR
    if isinstance(error, NonFinite):
        code = NON_FINITE
    elif is_out_of_memory(error):
        message = f"out of memory ({first_line(error)}); {LESS_MEMORY.get(verb, 'use a machine with more')}"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}; free some, then run the same command again"
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, UserError):
        return None
    return message, code


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
    start = time.perf_counter()  # before the imports, which are a second or two of the start
    if not options.workdir and not (options.config and (options.show or options.plan)):
        options.parser.error("the following arguments are required: --workdir")
    if options.on is not None:
        return _plan_elsewhere(options, overrides)
    from ctcd_jax.config.file import load_config
    from ctcd_jax.training.run import config_of_run

    def config():
        if options.config:
            return load_config(options.config, overrides)
        return config_of_run(fetched(options.workdir, warn), overrides)

    if options.show:
        _show(options, config(), overrides)
        return 0
    from ctcd_jax.runtime.cluster import join
    from ctcd_jax.training.loop import train
    from ctcd_jax.training.plan import plan

    # First of all: whatever is wrong on one of several processes, the others are to hear of it.
    processes = join(say=functools.partial(_say_error, "train"))
    try:
        if options.plan:
            workdir = options.workdir and fetched(options.workdir, warn, new=True)
            plan(config(), log=say, workdir=workdir, change=options.change)
        else:
            train(config(), options.workdir, log=say, start=start, change=options.change)
    except Exception as error:
        if processes is None:
            raise
        if isinstance(error, BrokenPipeError):  # `... | head`
            processes.end("nobody reads what it prints any more", BROKEN_PIPE)
        if told := _told("train", error):
            processes.end(*told)
        processes.crash(error)
    return 0


def _plan_elsewhere(options, overrides) -> int:
    if not options.plan or not options.config:
        options.parser.error("--on TARGET goes with --plan and --config")
    os.environ |= NO_DEVICES
    from ctcd_jax.config.file import load_config
    from ctcd_jax.training.plan_elsewhere import plan_elsewhere

    plan_elsewhere(load_config(options.config, overrides), options.on, log=say)
    return 0


def _show(options, config, overrides) -> None:
    from ctcd_jax.config import check, load_config
    from ctcd_jax.config.show import config_rows, show
    from ctcd_jax.training.run import config_of_run

    check(config)
    before = load_config(options.config) if options.config else config_of_run(fetched(options.workdir, warn), ())
    rows = config_rows(config, before, overrides, "config file" if options.config else "the run")
    show(rows, log=say, width=shutil.get_terminal_size().columns if sys.stdout.isatty() else None)


def _export(options, _) -> int:
    from ctcd_jax.artifacts.exports import quiet_loading, require_torch
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.training.export import export

    require_torch()
    keep_programs(warn)
    with quiet_loading():
        export(options.workdir, options.member, options.out, options.step, log=say)
    return 0


def _evaluate(options, _) -> int:
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.scoring.evaluate import evaluate

    keep_programs(warn)
    given = {name: getattr(options, name) for name in ("backend", "batch_size") if hasattr(options, name)}
    evaluate(options.model, options.corpora, options.out, **given, log=say, warn=warn)
    return 0


def _probe(options, _) -> int:
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.scoring.probe import probe

    keep_programs(warn)
    given = {name: getattr(options, name) for name in ("pairs", "batch_size") if hasattr(options, name)}
    probe(options.model, options.data, options.out, **given, log=say, warn=warn)
    return 0


def _glue(options, _) -> int:
    from ctcd_jax.evaluation.finetune import GlueOptions, glue
    from ctcd_jax.evaluation.tasks.data import open_source
    from ctcd_jax.evaluation.tasks.tasks import own_task

    own = None
    if options.task:
        if options.tasks or not (options.columns and options.metric):
            raise UserError(f"--task {options.task}: give --columns and --metric with it, and no --tasks")
        own = own_task(options.task, options.columns, options.metric, options.positive)
    elif options.columns or options.metric or options.positive:
        raise UserError("--columns, --metric, --positive: name your task with --task")
    given = {field.name: getattr(options, field.name) for field in fields(GlueOptions) if hasattr(options, field.name)}
    names = options.tasks.split(",") if options.tasks else None
    source = open_source(options.data, own)
    glue(options.model, source, names, options.seeds, Path(options.out), GlueOptions(**given), log=say, warn=warn)
    return 0


def _study(options, overrides) -> int:
    # This process looks at the GPU and its runs work there: JAX would keep most of its memory for the first.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from ctcd_jax.runtime.compilation import keep_programs
    from ctcd_jax.studies.study import study

    for option, named in (("--text", options.texts), ("--data", options.data)):
        for name, given in Counter(name for name, _ in named).items():
            if given > 1:
                raise UserError(f"{option} {name}: given {given} times; give it once")
    keep_programs(warn)
    given = {"seeds": options.seeds, "changes": overrides, "share": options.shard, "jobs": options.jobs}
    given |= {"elsewhere": options.finished, "plan": options.plan}
    study(options.spec, options.out, dict(options.texts), dict(options.data), **given, log=say, warn=warn)
    return 0


def _verify(options, _) -> int:
    from ctcd_jax.studies.verify import verify

    return 0 if verify(options.workdir, options.study, log=say, warn=warn) else OUTSIDE


def _checkpoints(options, _) -> int:
    from ctcd_jax.training.saved import describe_checkpoints

    return 0 if describe_checkpoints(options.workdir, log=say) else OUTSIDE


def _latency(options, _) -> int:
    from ctcd_jax.latency import latency

    grid = ("batch_sizes", "lengths", "threads", "devices", "runtimes", "dtype", "rounds")
    given = {name: getattr(options, name) for name in grid if hasattr(options, name)}
    latency(options.model, out=options.out, keep_onnx=options.keep_onnx, **given, log=say, warn=warn)
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


RUN = {
    "prepare": _prepare,
    "inspect": _inspect,
    "train": _train,
    "checkpoints": _checkpoints,
    "export": _export,
    "evaluate": _evaluate,
    "probe": _probe,
    "glue": _glue,
    "latency": _latency,
    "study": _study,
    "verify": _verify,
    "card": _card,
    "report": _report,
    "bench": _bench,
}
