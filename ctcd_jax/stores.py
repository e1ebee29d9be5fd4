"""Artifacts on object stores (gs://, s3://, all that fsspec knows): worked on in a copy, fetched before, sent after.

What stages rely on (locks, whole files under a new name, appended lines, a resume to the byte) a file system has and a
store has not. So a store's folder has a copy below `copies()`, beside a record of what both held when they were last
alike. Files of which others say that they are whole are sent last: whoever is killed while sending leaves a store from
which the stage goes on.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import is_inside, locked, read_json, write_json, writing_whole

Log = Callable[[str], None]

EXTRAS = {"gs": "gs", "gcs": "gs", "s3": "s3"}  # scheme: of `pip install 'ctcd-jax[...]'`
# They say of other files that they are whole, or what they must be.
_LAST = ("sha256.json", "corpus.json", "ctcd.json", "study.json")
# Locks, and what is not finished yet, of ours and of Orbax.
_OWN_PARTS, _OWN_ENDS = (".orbax-checkpoint-tmp", "orbax-checkpoint-tmp-"), (".partial", ".tmp")
_WHOLE_AT_ONCE = 2**26  # bytes up to which a file is read at once: it may be appended to meanwhile


def is_remote(place: str | os.PathLike) -> bool:
    """Whether a place is a folder of a store: SCHEME://BUCKET/PATH."""
    return "://" in str(place)


def copies() -> Path:
    """Returns where copies lie: $XDG_CACHE_HOME/ctcd_jax/stores, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctcd_jax" / "stores"


def fetched(place: str | Path, warn: Log = warn) -> Path:
    """Returns the local directory of a place: itself, or the copy of a store's folder, brought up to date.

    Args:
      place: a path, or a folder of a store.
      warn: takes a line.

    Raises:
      UserError: the store's folder is empty or cannot be read, or fsspec lacks the library for it.
    """
    if not is_remote(place):
        return Path(place)
    copy = Copy(str(place))
    if not copy.fetch(warn):
        raise UserError(f"{place}: there is nothing")
    return copy.directory


@contextlib.contextmanager
def working_copy(place: str, log: Log = print, warn: Log = warn) -> Iterator["Copy"]:
    """Yields the copy of a store's folder to work in; when the block ends, however it ends, what has changed is sent.

    Args:
      place: the folder; it need not be there yet.
      log: called with the line that says where the copy is.
      warn: called with what could not be done, where the work goes on without it.

    Raises:
      UserError: the store cannot be read or written. Then the work lies in the copy, and the same command on the same
        machine goes on with it.
    """
    copy = Copy(place)
    copy.fetch(warn)
    log(f"{place}: worked on in {copy.directory}, and sent from there")
    copy.begin()
    try:
        yield copy
    except BaseException:  # which is what the user is to hear of
        copy.try_to_send(warn)
        raise
    copy.send(ended=True)


class Copy:
    """A local copy of a store's folder.

    Its record, `DIRECTORY.store.json`, holds of every file what it was in the store and here when both were alike, and
    whether there is work here that has not been sent.
    """

    def __init__(self, place: str):
        """Reads nothing yet. Raises UserError for a store that fsspec has no library for."""
        self.place = place
        scheme, _, path = place.partition("://")
        if not is_inside(path) or not scheme.isalnum():
            raise UserError(f"{place!r:.200}: not a folder of a store; write e.g. gs://BUCKET/PATH")
        self.directory = copies() / scheme / PurePosixPath(path)
        self._record = self.directory.with_name(self.directory.name + ".store.json")
        self._lock = self.directory.with_name(self.directory.name + ".store.lock")
        self._store, self._root = _store(place)

    def fetch(self, warn: Log = warn) -> bool:
        """Makes the copy what the store's folder is; returns whether there is anything.

        Work that was not sent is kept, and goes on: unless the store has changed since, by another machine's work. Then
        the copy is set aside, and `warn` says where.
        """
        self.directory.parent.mkdir(parents=True, exist_ok=True)  # itself a stage may make, whole
        with locked(self._lock, str(self.directory), wait=True, warn=warn):
            there, record = self._listed(), self._read()
            files = record["files"]
            alike = {name: kept["there"] for name, kept in files.items()} == there
            if alike and record["unsent"]:
                return True
            if record["unsent"]:
                aside = _free(self.directory)
                self.directory.rename(aside)
                warn(f"{self.place} has changed since; what was not sent from here is set aside as {aside}")
                files = {}
            for name in files.keys() - there.keys():
                (self.directory / name).unlink(missing_ok=True)
            files = {name: kept for name, kept in files.items() if name in there}
            for name, signature in there.items():
                kept, path = files.get(name), self.directory / name
                if not kept or kept["there"] != signature or kept["here"] != _stamp(path):
                    with contextlib.suppress(FileNotFoundError):  # an old step that its run has just removed
                        self._get(name, path)
                        files[name] = {"there": signature, "here": _stamp(path)}
            self._write(files, unsent=False)
            return bool(there)

    def begin(self) -> None:
        """Writes down that there is work here from now on."""
        self._write(self._read()["files"], unsent=True)

    def send(self, ended: bool = False) -> None:
        """Sends what has changed since, and removes there what was removed here.

        Args:
          ended: whether nothing more will change.

        Raises:
          UserError: the store cannot be written.
        """
        files = self._read()["files"]
        here = {name: _stamp(path) for name, path in self._own_files()}
        for name in sorted(here, key=lambda name: (PurePosixPath(name).name in _LAST, name)):
            if name in files and files[name]["here"] == here[name]:
                continue
            with contextlib.suppress(FileNotFoundError):  # an old step that was removed meanwhile
                self._put(name, self.directory / name)
        for name in files.keys() - here.keys():
            with contextlib.suppress(FileNotFoundError):
                self._call("rm_file", self._at(name))
        there = self._listed()
        self._write({n: {"there": there[n], "here": here[n]} for n in here if n in there}, unsent=not ended)

    def try_to_send(self, warn: Log = warn) -> None:
        """Sends what has changed; where the store gives out, `warn` says so, and what is next sent has it, too."""
        try:
            self.send()
        except UserError as error:
            warn(f"not sent: {error}")

    def _own_files(self) -> Iterator[tuple[str, Path]]:
        for folder, folders, names in os.walk(self.directory):
            folders[:] = [each for each in folders if not any(part in each for part in _OWN_PARTS)]
            for name in names:
                path = Path(folder, name)
                if not (name.endswith(_OWN_ENDS) or name == "lock" or name.startswith("lock-")):
                    yield path.relative_to(self.directory).as_posix(), path

    def _listed(self) -> dict[str, str]:
        """Returns {name below the folder: what the store says of the file's content}."""
        start = self._root.rstrip("/") + "/"
        try:
            found = self._call("find", self._root, detail=True)
        except FileNotFoundError:
            return {}
        names = {path[len(start) :]: facts for path, facts in found.items() if path.startswith(start)}
        for name in names:
            if not is_inside(name):
                raise UserError(f"{self.place}: a file there is called {name!r:.100}, and is none of the folder")
        return {name: _signature(facts) for name, facts in names.items()}

    def _get(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as partial:
            self._call("get_file", self._at(name), str(partial))

    def _put(self, name: str, path: Path) -> None:
        if path.stat().st_size <= _WHOLE_AT_ONCE:
            self._call("pipe_file", self._at(name), path.read_bytes())
        else:
            self._call("put_file", str(path), self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _call(self, method: str, *arguments, **options) -> Any:
        try:
            return getattr(self._store, method)(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:  # of as many kinds as there are libraries
            raise UserError(f"{self.place}: {type(error).__name__}: {first_line(error)}") from error

    def _read(self) -> dict[str, Any]:
        if not self._record.is_file():
            return {"files": {}, "unsent": False}
        return read_json(self._record, "remove it, and the copy beside it")

    def _write(self, files: dict[str, Any], unsent: bool) -> None:
        write_json(self._record, {"place": self.place, "unsent": unsent, "files": files})


def _store(place: str) -> tuple[Any, str]:
    """Returns fsspec's file system, which sees what others have changed, and the path in it."""
    import fsspec

    scheme = place.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(place, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        fix = f"pip install 'ctcd-jax[{extra}]'" if extra else first_line(error)
        raise UserError(f"{place}: the library for {scheme}:// is missing; {fix}") from error
    except ValueError as error:
        raise UserError(f"{place}: {first_line(error)}") from error


def _signature(facts: dict[str, Any]) -> str:
    """Returns the size of a file in a store, and what changes with its content: stores name it differently."""
    known = ("etag", "ETag", "generation", "md5Hash", "LastModified", "updated", "mtime", "created")
    return "-".join([str(facts.get("size")), *(str(facts[name]) for name in known if facts.get(name))][:2])


def _stamp(path: Path) -> list[int] | None:
    """Returns what tells a file that was written again; None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _free(directory: Path) -> Path:
    """Returns a name beside `directory` that nothing has."""
    number = 1
    while (free := directory.with_name(f"{directory.name}.unsent-{number}")).exists():
        number += 1
    return free
