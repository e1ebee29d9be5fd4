"""`sources.json`: the files a corpus was made of, their stamps and SHA-256, to notice that they have changed since.

Stamps have times in them, so this is a file of its own: `corpus.json`, and its hash, depend on the text alone. Nobody
but `ctcd prepare` looks at it, and without it a corpus is as good.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ctcd_jax.artifacts.corpora import Manifest
from ctcd_jax.data.hashing import portable
from ctcd_jax.data.shape import Optional, problem
from ctcd_jax.data.sources import InputFile, Source, open_source
from ctcd_jax.data.sources.files import stamp
from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256, read_json, write_json

FORMAT = 2
STAMPS = "sources.json"

Stamps = Sequence[Mapping[str, str]]
"""A file each: "name", "stamp" and "sha256", without which the stamp is itself of the content."""

_SHAPE = {
    "format": int,
    "sources": [{"source": str, "files": [{"name": str, "stamp": str, "sha256": Optional(str)}]}],
}


def file_stamps(file: InputFile) -> Stamps:
    """Returns the stamps of what an input file was read from.

    Raises:
      UserError: a file has changed since the source was opened.
    """
    if file.stored is None:
        return [{"name": file.name, "stamp": file.stamp}]
    found = []
    for stored in file.stored:
        found.append({"name": stored.name, "stamp": stored.stamp, "sha256": file_sha256(stored.path)})
        if stamp(stored.path) != stored.stamp:
            raise UserError(f"{stored.path}: it was changed while it was read; run the same command again")
    return found


def write_stamps(directory: Path, sources: Sequence[Source], stamps: Sequence[Stamps]) -> None:
    """Writes `sources.json`: for each source the stamps of all that it was read from."""
    found = [{"source": portable(source.spec), "files": files} for source, files in zip(sources, stamps, strict=True)]
    write_json(directory / STAMPS, {"format": FORMAT, "sources": found})


def check_unchanged(
    directory: Path, specs: Sequence[str], manifest: Manifest, log: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Compares the sources of a corpus with what they were; those of the hub are pinned to a revision.

    A file with another time is compared by its content: it may be another machine's copy. What cannot be compared is
    said: a source that is no longer there, or a corpus of another version.

    Args:
      directory: of the corpus.
      specs: the sources as they are given now.
      manifest: the content of `corpus.json`.
      log: called with a line where nothing was recorded to compare with, or contents were compared.
      warn: called with a line about a source that cannot be compared.

    Raises:
      UserError: a file was added, removed or changed; the line names it.
    """
    path = directory / STAMPS
    if not path.is_file():
        log(f"{directory}: it has no {STAMPS}, so whether its sources have changed since is unknown")
        return
    content = read_json(path, _ADVICE)
    if found := problem(content, {"format": int}):
        raise UserError(f"{path}: damaged ({found}); {_ADVICE}")
    if content["format"] != FORMAT:
        log(f"{path}: of another version, so whether the sources have changed since is unknown")
        return
    if found := problem(content, _SHAPE):
        raise UserError(f"{path}: damaged ({found}); {_ADVICE}")
    for spec, then, made in zip(specs, content["sources"], manifest["sources"], strict=False):
        if "revision" in made:
            continue
        try:
            change, read = _compare(then["files"], open_source(spec, lambda line: None).files)
        except (UserError, OSError) as error:
            warn(f"{directory}: whether this has changed since is unknown: {error}")
            continue
        if change:
            raise UserError(
                f"--out {directory}: source '{spec}' is not what it was prepared from: {change}; choose another"
                " directory or delete it"
            )
        if read:
            log(f"{directory}: source '{spec}': other times than then, but the same bytes (files compared: {read:,})")


_ADVICE = "delete it, and changes of the sources are no longer looked for"


def _compare(then: Stamps, files: Sequence[InputFile]) -> tuple[str, int]:
    """Returns the first difference in words, and how many more there are, or ""; and how many files had to be read."""
    before = {file["name"]: file for file in then}
    stored = {one.name: one for file in files for one in file.stored or ()}
    now = {name: one.stamp for name, one in stored.items()}
    now |= {file.name: file.stamp for file in files if file.stored is None}
    changes = [f"{name} is gone" for name in before if name not in now]
    changes += [f"{name} is new" for name in now if name not in before]
    read = 0
    for name in (name for name in now if name in before and now[name] != before[name]["stamp"]):
        same_size = now[name].partition(":")[0] == before[name]["stamp"].partition(":")[0]
        if name in stored and same_size and file_sha256(stored[name].path) == before[name].get("sha256"):
            read += 1
        else:
            changes.append(f"{name} has changed")
    more = f" (and {len(changes) - 1:,} more)" if len(changes) > 1 else ""
    return (changes[0] + more if changes else ""), read
