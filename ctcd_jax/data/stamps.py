"""`sources.json`: the files a corpus was made of, their stamps and SHA-256, to notice that they have changed since.

Stamps have times in them, so this is a file of its own: `corpus.json`, and its hash, depend on the text alone. Nobody
but `ctcd prepare` looks at it, and without it a corpus is as good.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ctcd_jax.artifacts.corpora import Manifest
from ctcd_jax.data.hashing import portable
from ctcd_jax.data.shape import Optional, problem
from ctcd_jax.data.sources import InputFile, Source, open_source
from ctcd_jax.data.sources.base import StoredFile
from ctcd_jax.data.sources.files import stamp
from ctcd_jax.errors import UserError
from ctcd_jax.files import file_sha256, read_json, write_json

FORMAT = 2
STAMPS = "sources.json"

Log = Callable[[str], None]
Stamps = Sequence[dict[str, str]]
"""A file each: "name", "stamp" and "sha256", without which the stamp is itself of the content."""

_SHAPE = {
    "format": int,
    "sources": [{"source": str, "files": [{"name": str, "stamp": str, "sha256": Optional(str)}]}],
}
_ADVICE = "delete it, and changes of the sources are no longer looked for"
_MUCH = 2**30  # bytes: it takes a second to hash them


def write_stamps(directory: Path, sources: Sequence[Source], log: Log) -> None:
    """Writes `sources.json` when all sources have been read.

    Args:
      directory: of the corpus.
      sources: as they were opened.
      log: takes a line where there is much to hash.

    Raises:
      UserError: a file has changed since its source was opened, or can no longer be read.
    """
    stored = [one for source in sources for one in _stored(source.files)]
    _check_times(stored)
    digests = _digests([one.path for one in stored], log)
    _check_times(stored)  # so what was hashed is what was read
    found = [_stamps(source.files) for source in sources]
    for source, files in zip(sources, found, strict=True):
        paths = {one.name: one.path for one in _stored(source.files)}
        for file in files:
            if file["name"] in paths:
                file["sha256"] = digests[paths[file["name"]]]
    _write(directory, [source.spec for source in sources], found)


def check_unchanged(directory: Path, specs: Sequence[str], manifest: Manifest, log: Log, warn: Log) -> None:
    """Compares the sources of a corpus with what they were; those of the hub are pinned to a revision.

    A file with another time is compared by its content: it may be another machine's copy. Where all are the same, their
    times are written down, so that they need not be read again. What cannot be compared is said: a source that cannot
    be opened, or a corpus of another version.

    Args:
      directory: of the corpus.
      specs: the sources as they are given now.
      manifest: the content of `corpus.json`.
      log: called with a line where contents were compared.
      warn: called with a line about what cannot be compared.

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
        warn(f"{path}: of another version, so whether the sources have changed since is unknown")
        return
    found = problem(content, _SHAPE)
    if found or len(content["sources"]) != len(specs):
        raise UserError(f"{path}: damaged ({found or 'not of all sources'}); {_ADVICE}")
    renewed, compared = [], 0
    for spec, source, made in zip(specs, content["sources"], manifest["sources"], strict=True):
        then = now = source["files"]
        if "revision" not in made:
            try:
                files = open_source(spec, lambda line: None).files
                now = _renewed(then, files, log)
            except _Changed as change:
                raise UserError(
                    f"--out {directory}: source '{spec}' is not what it was prepared from: {change}; choose another"
                    " directory or delete it"
                ) from change
            except (UserError, OSError) as error:
                warn(f"{directory}: whether this has changed since is unknown: {error}")
        compared += sum(one != other for one, other in zip(then, now, strict=True))
        renewed.append(now)
    if compared:
        log(f"{directory}: of {compared:,} files of its sources the time is another, and the content the same")
        with contextlib.suppress(OSError):  # a corpus that may not be written to is compared again the next time
            _write(directory, specs, renewed)


class _Changed(Exception):
    """A source is not what it was; says what differs first, and in how many places more."""

    def __init__(self, changes: Sequence[str]):
        super().__init__(changes[0] + (f" (and {len(changes) - 1:,} more)" if len(changes) > 1 else ""))


def _renewed(then: Stamps, files: Sequence[InputFile], log: Log) -> Stamps:
    """Returns the stamps of a source whose content is what it was; files that have another time are read.

    Raises:
      _Changed: it is not what it was.
      UserError: a file cannot be read.
    """
    now = _stamps(files)
    before, after = Counter(file["name"] for file in then), Counter(file["name"] for file in now)
    if changes := [f"{name} is gone" for name in before - after] + [f"{name} is new" for name in after - before]:
        raise _Changed(changes)
    pairs = [(old, new) for old, new in zip(then, now, strict=True) if old["stamp"] != new["stamp"]]
    # Of another size they need not be read; and a stamp that is of the content has none in it.
    if changes := [f"{old['name']} has changed" for old, new in pairs if _size(old) != _size(new)]:
        raise _Changed(changes)
    paths = {one.name: one.path for one in _stored(files)}
    digests = _digests([paths[old["name"]] for old, _ in pairs], log)
    if changes := [
        f"{old['name']} has changed" for old, _ in pairs if old.get("sha256") != digests[paths[old["name"]]]
    ]:
        raise _Changed(changes)
    return [old | {"stamp": new["stamp"]} for old, new in zip(then, now, strict=True)]


def _stamps(files: Sequence[InputFile]) -> list[dict[str, str]]:
    """Returns the names and stamps of what a source is read from, by name; the files are not read."""
    found = [(one.name, one.stamp) for one in _stored(files)]
    found += [(file.name, file.stamp) for file in files if file.stored is None]
    return [{"name": name, "stamp": stamped} for name, stamped in sorted(found)]


def _stored(files: Sequence[InputFile]) -> list[StoredFile]:
    return [one for file in files for one in file.stored or ()]


def _size(file: Mapping[str, str]) -> str:
    return file["stamp"].partition(":")[0]


def _check_times(stored: Sequence[StoredFile]) -> None:
    for one in stored:
        with _reading(one.path):
            if stamp(one.path) != one.stamp:
                raise UserError(f"{one.path}: it was changed while it was read; run the same command again")


def _digests(paths: Sequence[Path], log: Log) -> dict[Path, str]:
    """Returns the SHA-256 of files; what two sources share is read once."""
    found: dict[Path, str] = {}
    for path in paths:
        if path not in found:
            with _reading(path):
                if path.stat().st_size > _MUCH:
                    log(f"hashing {path}")
                found[path] = file_sha256(path)
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _write(directory: Path, specs: Sequence[str], stamps: Sequence[Stamps]) -> None:
    found = [{"source": portable(spec), "files": files} for spec, files in zip(specs, stamps, strict=True)]
    write_json(directory / STAMPS, {"format": FORMAT, "sources": found})
