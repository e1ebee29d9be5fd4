"""A run's directory: its `config.json`, and the rule by which a run is begun, resumed or changed."""

import errno
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import jax
from ml_collections import ConfigDict

from ctcd_jax.artifacts.corpora import TOKENIZER
from ctcd_jax.artifacts.runs import (
    CHECKPOINTS,
    CONFIG,
    FROZEN,
    LOCK,
    METRICS,
    PROVENANCE,
    RUN_FORMAT,
    TIMING,
    RunConfig,
    ShapeFields,
)
from ctcd_jax.config import Experiment, resolved
from ctcd_jax.config.builders import SIZES
from ctcd_jax.config.file import recorded_config
from ctcd_jax.config.init_spec import read_run, reading, split_init, split_member
from ctcd_jax.data import Corpus
from ctcd_jax.errors import UserError
from ctcd_jax.files import write_json
from ctcd_jax.runtime.distributed import directory_identity, gather, together
from ctcd_jax.training.checkpoint import saved_steps
from ctcd_jax.training.history import IN_WORDS, MENDABLE, Changed, with_change
from ctcd_jax.training.profiling import PROFILE
from ctcd_jax.training.provenance import write_provenance
from ctcd_jax.training.trackers import TRACKER_FILES

# What a resumed run may change: where, how often, and which of two equal computations, never what is learnt. The corpus
# is compared by its hash, and `auto` dtype counts as what it resolved to.
MAY_CHANGE = (
    "mesh.",
    "wandb.",
    "trackio.",
    "evaluation.",
    "data.corpus",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.keep_best",
    "train.dtype",
    "train.remat",
    "train.deterministic",
    "train.attention",
    "train.loss_chunk",
    "train.profile_steps",
)

_SIZE = re.compile(rf"members\.[^.]+\.({'|'.join(SIZES)})")

# What a run that was killed while it began has left behind, and what others put into a new directory: a log that the
# shell or the scheduler began to write, the file system's own.
RUN_FILES = (TOKENIZER, PROVENANCE, CONFIG, LOCK)
HARMLESS_NAMES, HARMLESS_ENDS = ("lost+found", "nohup.out"), (".log", ".out", ".err")


@dataclass(frozen=True)
class OpenedRun:
    """A run that may go on.

    Attributes:
      content: of config.json.
      before: the content as it was found, None where the run begins.
      changed: what this command changed, {field: [before, after]}.
    """

    content: RunConfig
    before: RunConfig | None = None
    changed: Changed = field(default_factory=dict)


def open_corpus(directory: str | Path) -> Corpus:
    """Opens the corpus of a run on every process, and verifies it. All must call it.

    The files are read once a host: processes that see one directory share them out. Another host may have a copy of its
    own, and reads all of it.

    Raises:
      UserError: as `Corpus.open` on any process, on every process.
    """
    corpus = together(lambda: Corpus.open(directory, verify=False))
    identities = gather(directory_identity(corpus.directory))
    own = jax.process_index()
    sharing = [process for process, identity in enumerate(identities) if identity == identities[own]]
    together(lambda: corpus.verify(sharing.index(own), len(sharing)))
    return corpus


def run_content(config: ConfigDict, experiment: Experiment, corpus: Corpus) -> RunConfig:
    """Returns the content of a new run's `config.json`.

    Args:
      config: the finished config.
      experiment: what it resolves to.
      corpus: that it names.
    """
    asked = json.loads(config.to_json_best_effort())
    return cast("RunConfig", {"format": RUN_FORMAT} | asked | {"resolved": resolved(experiment, corpus)})


def existing_run(workdir: Path) -> RunConfig | None:
    """Returns the content of a directory's `config.json`, None if it holds no run. Raises UserError as `read_run`."""
    return read_run(workdir) if (workdir / CONFIG).is_file() else None


def config_of_run(workdir: str | Path, overrides: Sequence[str]) -> ConfigDict:
    """Returns the config that a run was begun with, with overrides applied. Raises UserError where there is no run."""
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(f"{workdir}: there is no run to go on with; name the config of a new one with --config")
    with reading(path):
        return recorded_config(read_run(workdir), overrides)


def known_shapes(before: RunConfig | None, config: ConfigDict, workdir: Path) -> Mapping[str, ShapeFields]:
    """Returns the shapes of the members, {name: fields of its shape}, that need no longer be asked of their source.

    Once a step is saved, it need not be there any more; before, a run begins with what its config says now.

    Args:
      before: the content of its config.json; None if there is no run.
      config: of now.
      workdir: of the run.
    """
    if before is None:
        return {}
    models = before["resolved"]["models"]
    if saved_steps(workdir):
        return models
    members: Any = config.members
    with reading(workdir / CONFIG):
        inits = {name: member["init"] for name, member in before["members"].items()}
    return {
        name: models[name]
        for name, member in members.items()
        if name in models and inits.get(name) == member.get("init")
    }


def check_place(workdir: Path) -> None:
    """Raises UserError for a directory that is somebody else's, or whose name Orbax cannot write to."""
    place = str(workdir.resolve())
    if "\\" in place or any("\ud800" <= letter <= "\udfff" for letter in place):
        raise UserError(f"{place!a}: checkpoints cannot be written below a \\ or bytes that are not UTF-8; "
                        "use another --workdir")  # fmt: skip
    if (workdir / CONFIG).is_file() or not workdir.is_dir():
        return
    for entry in sorted(path.name for path in workdir.iterdir()):
        harmless = entry in HARMLESS_NAMES or entry.endswith(HARMLESS_ENDS) or entry.startswith(".")
        # Also what a run that was to begin afresh had written before, when the disk gave out in between.
        earlier = entry in (CHECKPOINTS, FROZEN, METRICS, TIMING, PROFILE, *TRACKER_FILES) and not saved_steps(workdir)
        if not (harmless or earlier or entry.startswith(RUN_FILES)):
            raise UserError(f"{workdir}: not empty and not a run ('{entry}', and no {CONFIG}); use another --workdir")


def check_processes(content: RunConfig, change: bool) -> None:
    """Raises UserError, on every process, if one of them has another config, code path or corpus. All must call it."""
    own = _flat(content, ("wandb.", "trackio.", "data.corpus"), _without_place) | {"--change": change}
    first, *others = map(json.loads, gather(json.dumps(own)))
    for number, other in enumerate(others, start=1):
        if different := _differing(first, other):
            name = different[0]
            raise UserError(
                f"{name.removeprefix('resolved.')} is {first.get(name)} on process 0, but {other.get(name)} on process "
                f"{number}; start every process of a run with the same command"
            )


def changes(before: RunConfig, content: RunConfig, workdir: Path, change: bool) -> Changed:
    """Returns what a config changes in a run of which a step is saved, {field: [before, after]}.

    Args:
      before: the content of the run's config.json.
      content: the same, made of the config of now.
      workdir: of the run.
      change: whether `--change` was given.

    Raises:
      UserError: it may not, or was not asked to (`--change`); the line names the first field.
    """
    path, step = workdir / CONFIG, saved_steps(workdir)[-1]
    with reading(path):
        old = _flat(json.loads(recorded_config(before).to_json_best_effort()) | {"resolved": before["resolved"]})
    new = _flat(content)
    # A size that is left to `init` is compared as what it came to.
    left = {name for name in old if _SIZE.fullmatch(name) and None in (old[name], new.get(name))}
    different = [name for name in _differing(old, new) if name not in left]
    for name in sorted(different, key=lambda name: bool(MENDABLE.fullmatch(name))):
        said = f"{path}: this run was begun with {_said(name)} = {old.get(name)}, not {new.get(name)}; "
        if not MENDABLE.fullmatch(name):
            limit = f"--change is for {IN_WORDS}; " if change else ""
            raise UserError(f"{said}{limit}use another --workdir, or that value to resume")
        if not change:
            raise UserError(
                f"{said}add --change to go on with it from step {step:,}, or use another --workdir, or that value to "
                "resume"
            )
    changed = {_said(name): [old.get(name), new.get(name)] for name in different}
    if (steps := content["resolved"]["steps"]) < step:
        raise UserError(f"train.steps: {steps:,} are fewer than the {step:,} that {workdir} has done; ask for more")
    if isinstance(new["train.steps"], int) and isinstance(old["train.steps"], int):
        changed.pop("resolved.steps", None)  # it says the same
    return changed


def open_run(
    content: RunConfig, corpus: Corpus, experiment: Experiment, workdir: Path, change: bool, log: Callable[[str], None]
) -> OpenedRun:
    """Begins a run, or checks that it may go on.

    Of a run that has saved no step nothing is lost: it begins afresh with what the config says now. Of another nothing
    is written here: its `config.json` follows when it has been restored.

    Args:
      content: of config.json, made of the config of now; its history is filled in.
      corpus: that the run is trained on.
      experiment: what the config resolves to.
      workdir: of the run; made if it is not there.
      change: whether `--change` was given.
      log: called with each line about what is resumed or changed.

    Raises:
      UserError: the directory holds another run (the first differing field is named), or cannot be written.
    """
    before = existing_run(workdir)
    steps, changed = saved_steps(workdir), {}
    history = (before or {}).get("history", [])
    if before and steps:
        changed = changes(before, content, workdir, change)
        if changed:
            history = with_change(history, steps[-1], changed)
        if history:
            content["history"] = history
    try:
        if before and steps:
            if not (workdir / PROVENANCE).is_file():  # begun by an earlier version
                write_provenance(workdir, corpus, {})
            return OpenedRun(content, before, changed)
        differs = before is not None and _flat(before, init_as=str) != _flat(content, init_as=str)
        if before is None or differs or not (workdir / PROVENANCE).is_file():
            if differs:
                log(f"{workdir}: no step had been saved; the run begins afresh")
            (workdir / CONFIG).unlink(missing_ok=True)  # written last: a directory that has it is complete
            for directory in (TOKENIZER, FROZEN):
                shutil.rmtree(workdir / directory, ignore_errors=True)
            shutil.copytree(corpus.tokenizer_directory, workdir / TOKENIZER)
            write_provenance(workdir, corpus, experiment.sources)
        write_json(workdir / CONFIG, content)
    except OSError as error:
        fix = "make room and start again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "use another --workdir"
        raise UserError(f"{workdir}: cannot be written ({error.strerror}); {fix}") from error
    return OpenedRun(content, before, changed)


def share(opened: OpenedRun | None) -> OpenedRun:
    """Returns what the leading process opened, on every process. All must call it."""
    if opened and jax.process_count() == 1:
        return opened
    text = json.dumps([opened.content, opened.before, opened.changed]) if opened else ""
    return OpenedRun(*json.loads(gather(text)[0]))


def _said(name: str) -> str:
    return name.replace("resolved.dtype", "train.dtype")


def _differing(old: Mapping, new: Mapping) -> list[str]:
    """Returns the fields that differ, those of the config before what was resolved from it."""
    fields = sorted(old.keys() | new.keys(), key=lambda name: (name.startswith("resolved."), name))
    return [name for name in fields if old.get(name) != new.get(name)]


def _without_place(init: str | None) -> str:
    """Drops the directory of an `init`: it may move, or lie elsewhere on another machine."""
    kind, _, detail = split_init(init)
    return f"{kind}#{detail}" if kind in ("hf", "run") else init or kind


def _what_weights_do_not_say(init: str | None) -> str:
    """Drops the directory and the step of an `init`: what a run began with is known by its weights (`members`)."""
    kind, _, detail = split_init(init)
    return f"{kind}#{split_member(detail)[0]}" if kind == "run" else _without_place(init)


def _flat(
    content: Mapping[str, Any],
    leave_out: tuple[str, ...] = MAY_CHANGE,
    init_as: Callable[[str | None], str] = _what_weights_do_not_say,
) -> dict:
    """Returns {dotted field: value} of what counts in a comparison.

    Args:
      init_as: gives what counts of an `init`.
    """
    flat = {}

    def walk(prefix, value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            name = f"{prefix}[{key}]" if isinstance(key, int) else f"{prefix}.{key}".lstrip(".")
            if isinstance(inner, dict | list):
                walk(name, inner)
            elif name.startswith("members.") and name.endswith(".init"):
                flat[name] = init_as(inner)
            elif not name.startswith(leave_out):
                flat[name] = inner

    walk("", {name: value for name, value in content.items() if name not in ("format", "history")})
    return flat
