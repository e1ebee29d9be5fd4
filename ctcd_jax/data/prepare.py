"""Text -> a prepared corpus: a directory with `corpus.json`, `tokenizer/`, `train-*.npy` and `validation-*.npy`.

The work is cut into parts (`ctcd_jax.data.parts`): all are read; what concerns all of them together is decided (which
documents are held out, which sentences are duplicates, the vocabulary); the rows of each are written; the corpus is put
together. What is finished stays in `OUT.partial` until the corpus is there, so a killed run goes on where it was. The
same recipe over the same text gives the same bytes, by any number of processes and after any number of interruptions.
"""

import importlib.metadata
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import cast

from ctcd_jax.artifacts.corpora import MANIFEST, TOKENIZER, Manifest
from ctcd_jax.data.duplicates import mark_duplicates
from ctcd_jax.data.finished import already_prepared, say_what_came_out
from ctcd_jax.data.hashing import hash64
from ctcd_jax.data.manifest import make_manifest, manifest_json
from ctcd_jax.data.parts import Part, ReadPart, is_whole, plan_parts, read_part
from ctcd_jax.data.recipe import SENTENCES, Recipe
from ctcd_jax.data.rows import RowTask, write_part, write_rows, written
from ctcd_jax.data.shards import RowFiles, SplitFiles
from ctcd_jax.data.sources import Source, open_source
from ctcd_jax.data.stamps import write_stamps
from ctcd_jax.data.tasks import run_tasks
from ctcd_jax.data.tokenizer import load_tokenizer, save_tokenizer, tokenizer_hash, train_wordpiece
from ctcd_jax.data.totals import HeldOutFilter, PartTotals, check_utf8, counted, merge, tokenizer_sentences
from ctcd_jax.data.workspace import made_workspace
from ctcd_jax.errors import UserError, warn
from ctcd_jax.files import writing_directory
from ctcd_jax.ranges import COUNT
from ctcd_jax.runtime.stopping import interruptible

Log = Callable[[str], None]


def prepare(
    sources: Sequence[str],
    out: str | Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] | None = None,
    finalize: bool = False,
    strict: bool = False,
    log: Log = print,
    warn: Log = warn,
    **recipe,
) -> Manifest | None:
    """Prepares a corpus in `out` and returns its manifest, the content of `corpus.json`.

    Args:
      sources: SPECs, see `ctcd_jax.data.sources`.
      out: the directory to make. If it holds a corpus of the same recipe, whose sources have not changed since, nothing
        is done.
      workers: processes; they share out the parts.
      shard: (i, n): do only every n-th part, from the i-th, and return None. n such calls, anywhere `out` is seen, and
        one with `finalize` make the corpus.
      finalize: the shards have been done; their absence is an error.
      strict: invalid UTF-8 is an error; else it is replaced and counted, and said.
      log: called with each line of progress.
      warn: called with a line about what a user should know although the work goes on.
      recipe: fields of `ctcd_jax.data.recipe.Recipe`: length, packing, every, ...

    Raises:
      UserError: if an argument, a source or `out` does not do, or another process is at work there. Nothing
        half-written is left; finished parts are, for the same command to go on.
      Stopped: on SIGTERM or Ctrl-C; finished parts are kept.
    """
    made = Recipe(tuple(sources), **recipe)
    if not COUNT.holds(workers):
        raise UserError(f"--workers {workers}: give the number of processes, 1 or more")
    if shard and not 0 <= shard[0] < shard[1]:
        raise UserError(f"--shard {shard[0]}/{shard[1]}: give i/n with i from 0 to n - 1")
    out = Path(os.path.expanduser(out))
    if out.exists():
        return already_prepared(out, made, strict, log, warn)
    if made.tokenizer:
        load_tokenizer(made.tokenizer)  # its errors come before an hour's reading
    log(f"opening {', '.join(made.sources)}")
    opened = [open_source(spec, log) for spec in made.sources]
    with made_workspace(out, shard, finalize, log) as workspace:
        if out.exists():  # another process has just finished it
            return already_prepared(out, made, strict, log, warn)
        preparation = _Preparation(made, opened, workspace, workers, strict, log, warn, of_shards=finalize)
        if shard:
            preparation.make_shard(*shard)
            return None
        if finalize:
            preparation.check_shards()
        manifest = preparation.make(out)
    say_what_came_out(manifest, log, warn)
    return manifest


class _Preparation:
    """The stages of making one corpus; each leaves alone what is finished."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[Source],
        workspace: Path,
        workers: int,
        strict: bool,
        log: Log,
        warn: Log,
        of_shards: bool,
    ):
        self.recipe, self.sources, self.workspace = recipe, sources, workspace
        self.workers, self.strict, self.log, self.warn = workers, strict, log, warn
        self.of_shards = of_shards
        self.parts = plan_parts(sources, recipe)

    def make_shard(self, index: int, count: int) -> None:
        """Does every `count`-th part, from the `index`-th."""
        mine = self.parts[index::count]
        self._read(mine)
        if self.recipe.parts_are_independent:
            self._write(self._row_tasks(self._given_tokenizer(), None)[index::count])
        self.log(f"shard {index}/{count} is done; after all {count}, run the same command with --finalize instead")

    def check_shards(self) -> None:
        """Raises UserError if a shard has not done what shards can do."""
        done = [part.key for part in self.parts]
        if self.recipe.parts_are_independent:
            done = [task.key for task in self._row_tasks(self._given_tokenizer(), None)]
        missing = sum(not (self.workspace / key).is_dir() for key in done)
        if missing:
            raise UserError(
                f"--finalize: {missing:,} of {len(self.parts):,} parts are missing; run every --shard i/n to its end"
                " first, with the same options over the same files"
            )

    def make(self, out: Path) -> Manifest:
        """Does what is left of the work, and returns the manifest."""
        self._clear({part.key for part in self.parts}, "read-")
        reads, whole = self._read_all()
        if not whole.held_out:
            reads, whole = self._hold_out_one(reads)
        with self._own_errors():
            duplicates = self._mark_duplicates(reads)
            tokenizer = self._given_tokenizer() if self.recipe.tokenizer else self._trained_tokenizer(reads, duplicates)
        tasks = self._row_tasks(tokenizer, duplicates)
        self._clear({task.key for task in tasks}, "rows-")
        self._write(tasks)
        train = [written(self.workspace, task) for task in tasks]
        validation = self._write_validation(whole, reads, tokenizer)
        splits = {
            "train": (SplitFiles([rows for rows, _, _ in train]), sum((kept for _, kept, _ in train), Counter())),
            "validation": (SplitFiles([validation[0]]), validation[1]),
        }
        dropped = sum((dropped for _, _, dropped in (*train, validation)), whole.dropped)
        with self._own_errors():
            for split, (files, _) in splits.items():
                if not sum(files.rows.values()):
                    if split == "validation" and dropped["validation_in_training"]:
                        raise UserError(
                            f"--validation {self.recipe.validation}: every sentence that was held out is in the"
                            f" training text, too ({counted(dropped)}); hold out more, use another --seed, or leave the"
                            " repeated documents out"
                        )
                    raise UserError(
                        f"--packing {self.recipe.packing}: not one {split} row came out, because of what was dropped"
                        f" ({counted(dropped)})"
                    )
        return self._assemble(out, tokenizer, splits, whole.sources, dropped)

    def _read_all(self) -> tuple[list[ReadPart], PartTotals]:
        self._read(self.parts)
        reads = [ReadPart(self.workspace, part) for part in self.parts]
        with self._own_errors():
            whole = merge(reads, self.recipe, len(self.sources))
        try:
            check_utf8(self.recipe, reads, whole.sources, self.strict, self.warn)
        except UserError:
            self._clear({read.part.key for read in reads if not read.invalid}, "read-")  # these files will be others
            raise
        return reads, whole

    def _hold_out_one(self, reads: Sequence[ReadPart]) -> tuple[list[ReadPart], PartTotals]:
        """Where chance has held out nothing of a little text, holds out what it came nearest to."""
        draws = {number: read.smallest_draw for number, read in enumerate(reads) if read.smallest_draw is not None}
        nearest = min(draws, key=draws.__getitem__)
        self.parts[nearest] = self.parts[nearest].holding_out_one_below(draws[nearest] + 1)
        self._read(self.parts)
        reads = [ReadPart(self.workspace, part) for part in self.parts]
        whole = merge(reads, self.recipe, len(self.sources))
        unit, kept = self.recipe.validation_by, sum(counts["kept"] for counts in whole.sources)
        sentences = sum(len(document.sentences) for document in whole.held_out)
        self.warn(
            f"--validation {self.recipe.validation} of so few {unit} is less than one: one is held out nevertheless,"
            f" {sentences / kept:.1%} of the sentences"
            + ("" if unit == SENTENCES else "; --validation-by sentences holds out single sentences")
        )
        return reads, whole

    def _read(self, parts: Sequence[Part]) -> None:
        there = [part for part in parts if (self.workspace / part.key).is_dir()]
        for part in (part for part in there if not is_whole(self.workspace, part)):
            self.warn(f"{self.workspace / part.key}: damaged; its files are read again")
            shutil.rmtree(self.workspace / part.key)
        missing = [part for part in parts if not (self.workspace / part.key).is_dir()]
        function = partial(read_part, self.workspace, recipe=self.recipe, strict=self.strict)
        run_tasks(function, missing, self.workers, label="reading", units=lambda part: part.size, log=self.log)

    def _write(self, tasks: Sequence[RowTask]) -> None:
        missing = [task for task in tasks if not (self.workspace / task.key).is_dir()]
        function = partial(write_part, self.workspace, recipe=self.recipe)
        run_tasks(function, missing, self.workers, label="writing", units=self._sentences, log=self.log)

    def _sentences(self, task: RowTask) -> int:
        return ReadPart(self.workspace, task.part).training["sentences"]

    def _mark_duplicates(self, reads: Sequence[ReadPart]) -> Path | None:
        if not self.recipe.deduplicate:
            return None
        self.log("looking for duplicates")
        path = self.workspace / "duplicates.npy"
        mark_duplicates([read.hashes for read in reads], path)
        return path

    def _given_tokenizer(self) -> Path:
        """Of a recipe that names one."""
        tokenizer = load_tokenizer(
            cast("str", self.recipe.tokenizer), warn=lambda line: None
        )  # said when it was first opened
        directory = self.workspace / f"tokenizer-{hash64(tokenizer.to_str(), self.recipe.length):016x}"
        if not directory.is_dir():
            with writing_directory(directory) as partial_:
                save_tokenizer(tokenizer, partial_, self.recipe.length)
        return directory

    def _trained_tokenizer(self, reads: Sequence[ReadPart], duplicates: Path | None) -> Path:
        version = importlib.metadata.version("tokenizers")
        recipe = self.recipe
        asked = (version, recipe.vocab_size, recipe.cased, recipe.keep_accents, recipe.length, recipe.deduplicate)
        key = hash64("trained", *map(str, asked), *(part.key for part in self.parts))
        directory = self.workspace / f"tokenizer-{key:016x}"
        if not directory.is_dir():
            self.log("training the tokenizer")
            tokenizer = interruptible(
                lambda watched: train_wordpiece(
                    lambda: watched(tokenizer_sentences(reads, duplicates)),
                    cast("int", recipe.vocab_size),  # which a recipe has where it names no tokenizer
                    recipe.cased,
                    False if recipe.keep_accents else None,
                    self.log,
                    self.warn,
                )
            )
            with writing_directory(directory) as partial_:
                save_tokenizer(tokenizer, partial_, self.recipe.length)
        return directory

    def _row_tasks(self, tokenizer: Path, duplicates: Path | None) -> list[RowTask]:
        asked = (tokenizer_hash(tokenizer), self.recipe.packing, self.recipe.length, self.recipe.max_unknown)
        others = [part.key for part in self.parts] if duplicates else []
        tasks, first = [], 0
        for part in self.parts:
            key = f"rows-{hash64(part.key, *map(str, asked), *others):016x}"
            tasks.append(RowTask(key, part, tokenizer, duplicates, first))
            if duplicates:
                first += ReadPart(self.workspace, part).training["sentences"]
        return tasks

    def _write_validation(
        self, whole: PartTotals, reads: Sequence[ReadPart], tokenizer: Path
    ) -> tuple[RowFiles, Counter[str], Counter[str]]:
        """Writes the held-out sentences that training does not have."""
        directory = self.workspace / "validation"
        shutil.rmtree(directory, ignore_errors=True)
        dropped: Counter[str] = Counter()
        unseen = HeldOutFilter(whole.held_out, reads, self.recipe.deduplicate, dropped)
        files = (
            unseen.documents(documents) for _, documents in groupby(whole.held_out, key=lambda document: document.file)
        )
        with writing_directory(directory) as partial_:
            kept, more = write_rows(partial_, files, self.recipe, tokenizer)
        return RowFiles(directory), kept, dropped + more

    def _assemble(
        self,
        out: Path,
        tokenizer: Path,
        splits: Mapping[str, tuple[SplitFiles, Counter[str]]],
        sources: Sequence[Counter[str]],
        dropped: Counter[str],
    ) -> Manifest:
        directory = self.workspace / "corpus"
        shutil.rmtree(directory, ignore_errors=True)
        with writing_directory(directory) as partial_:
            shutil.copytree(tokenizer, partial_ / TOKENIZER)
            shards = {split: files.write(partial_, split) for split, (files, _) in splits.items()}
            found = list(zip(self.sources, sources, strict=True))
            manifest = make_manifest(self.recipe, found, partial_ / TOKENIZER, splits, shards, dropped)
            write_stamps(partial_, self.sources, self.log)
            (partial_ / MANIFEST).write_text(manifest_json(manifest), encoding="utf-8")
        os.replace(directory, out)
        return manifest

    def _clear(self, wanted: set[str], prefix: str) -> None:
        """Removes what a killed process, or a run of another recipe, has left."""
        for path in (*self.workspace.glob(f"{prefix}*"), *self.workspace.glob("*.tmp")):
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """What goes wrong here is corrected by another recipe: of this one, only what shards have read is kept."""
        try:
            yield
        except UserError:
            if self.of_shards:
                self._clear(set(), "rows-")
                self._clear(set(), "tokenizer-")
            else:
                shutil.rmtree(self.workspace, ignore_errors=True)
            raise
