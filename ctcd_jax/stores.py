"""Artifacts on object stores (gs://, s3://, all that fsspec knows): worked on in a copy, fetched before, sent after.

What stages rely on (locks, whole files under a new name, appended lines, a resume to the byte) a file system has and a
store has not. So a store's folder has a copy below `copies()`, beside a record of what both held when they were last
alike. Files of which others say that they are whole are sent last: whoever is killed while sending leaves a store from
which the stage goes on.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ctcd_jax.errors import UserError, first_line, warn
from ctcd_jax.files import Busy, is_inside, locked, read_json, write_json, writing_whole

Log = Callable[[str], None]

EXTRAS = {"gs": "gs", "gcs": "gs", "s3": "s3"}  # scheme: of `pip install 'ctcd-jax[...]'`
# They say of other files that they are whole, or what they must be.
_SEALS = ("sha256.json", "corpus.json", "ctcd.json", "study.json")
_SAVED = "_CHECKPOINT_METADATA"  # by which Orbax, and we, know a finished step
# Locks, and what is not finished yet, of ours and of Orbax.
_TRIAL = "trial.partial"
_OWN_PARTS, _OWN_ENDS = (".orbax-checkpoint-tmp", "orbax-checkpoint-tmp-"), (".partial", ".tmp")
_WHOLE_AT_ONCE = 2**26  # bytes up to which a file is read at once: it may be appended to meanwhile


def is_remote(place: str | os.PathLike) -> bool:
    """Whether a place is a folder of a store: SCHEME://BUCKET/PATH."""
    return "://" in str(place)


def copies() -> Path:
    """Returns where copies lie: $XDG_CACHE_HOME/ctcd_jax/stores, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctcd_jax" / "stores"


def fetched(place: str | Path, warn: Log = warn, new: bool = False) -> Path:
    """Returns the local directory of a place: itself, or the copy of a store's folder, brought up to date.

    What a stage is at work on in this copy is taken as it is there.

    Args:
      place: a path, or a folder of a store.
      warn: takes a line.
      new: whether there may be nothing yet.

    Raises:
      UserError: the store's folder is empty or cannot be read, or fsspec lacks the library for it.
    """
    if not is_remote(place):
        return Path(place)
    copy = Copy(str(place))
    with copy.fetching(warn):
        try:
            with locked(copy.work_lock, copy.place, warn=warn):
                found = copy.fetch(warn)
        except Busy:
            found = True
    if not (found or new):
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
      UserError: another process works in the copy, or the store cannot be read or written. Then the work lies in the
        copy, and the same command on the same machine goes on with it.
    """
    copy = Copy(place)
    with contextlib.ExitStack() as working:
        with copy.fetching(warn):
            working.enter_context(locked(copy.work_lock, place, warn=warn))
            copy.fetch(warn)
            copy.require_writable()
            copy.begin()
        log(f"{place}: worked on in {copy.directory}, and sent from there")
        try:
            with copy.sender(warn):
                yield copy
        except BaseException:  # which is what the user is to hear of
            copy.try_to_send(warn, ended=True)
            raise
        copy.send(ended=True)


class Copy:
    """A local copy of a store's folder, and what is known of both.

    The record holds of every file what it was in the store and here when both were alike, whether there is work here
    that has not been sent, and what was being sent.
    """

    def __init__(self, place: str):
        """Reads nothing yet. Raises UserError for a store that fsspec has no library for."""
        self.place = place
        scheme, _, path = place.partition("://")
        path = path.rstrip("/")
        if not is_inside(path) or not scheme.isalnum() or path != str(PurePosixPath(path)):
            raise UserError(f"{place!r:.200}: not a folder of a store; write e.g. gs://BUCKET/PATH")
        # A folder below another has a copy of its own beside that one's.
        box = f"{quote(path, safe='')[:150]}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
        self._box = copies() / scheme / box
        self.directory = self._box / PurePosixPath(path).name
        self._record = self._box / "record.json"
        self.work_lock = self._box / "work.lock"
        self._store, self._root = _store(place)
        self._asked = threading.Event()

    def fetching(self, warn: Log = warn):
        """Returns a context in which no other process fetches; it waits for one that does."""
        self._box.mkdir(parents=True, exist_ok=True)
        return locked(self._box / "fetch.lock", self.place, wait=True, warn=warn)

    def fetch(self, warn: Log = warn) -> bool:
        """Makes the copy what the store's folder is; returns whether there is anything. `fetching` and `work_lock` are
        held.

        Work that was not sent is kept, and goes on: unless the store has changed since, by another machine's work. Then
        the copy is set aside, and `warn` says where.
        """
        there, record = self._listed(), self._read()
        files, keeps = record["files"], record["unsent"]
        if keeps and (changed := _changed(there, record)):
            aside = _free(self.directory)
            self.directory.rename(aside)
            files, keeps = {}, False
            self._write(files, unsent=False)
            warn(f"{self.place}: another machine has changed {changed[0]} meanwhile; what was not sent from here is "
                 f"set aside as {aside}")  # fmt: skip
        if not keeps:
            for name in files.keys() - there.keys():
                self._remove(name)
            files = {name: kept for name, kept in files.items() if name in there}
        try:
            for name, signature in there.items():
                kept, path = files.get(name), self.directory / name
                is_here = kept and kept["there"] == signature and kept["here"] == _stamp(path)
                if is_here or (keeps and path.exists()):
                    continue
                with contextlib.suppress(FileNotFoundError):  # an old step that its run has just removed
                    self._get(name, path)
                    files[name] = {"there": signature, "here": _stamp(path)}
        finally:  # what has arrived need not come again
            self._write(files, unsent=keeps, sending=record["sending"] if keeps else {})
        return bool(there)

    def require_writable(self) -> None:
        """Writes a file there and removes it, for hours of work should not be what finds out that nothing can be sent.

        Raises:
          UserError: the bucket is not there, or may not be written.
        """
        place = self._at(_TRIAL)
        try:
            self._call("pipe_file", place, b"written to see whether it can be")
            with contextlib.suppress(UserError):  # some buckets keep what they have; nobody lists this
                self._call("rm_file", place)
        except FileNotFoundError as error:  # as they say of a bucket that is not there
            raise UserError(f"{self.place}: cannot be written: {first_line(error)}") from error

    def begin(self) -> None:
        """Writes down that there is work here from now on."""
        record = self._read()
        self._write(record["files"], unsent=True, sending=record["sending"])

    def send(self, ended: bool = False) -> None:
        """Sends what has changed since, and removes there what was removed here.

        Args:
          ended: whether nothing more will change.

        Raises:
          UserError: the store cannot be written, or another machine has written the same files.
        """
        record, there = self._read(), self._listed()
        files = record["files"]
        here = {name: stamp for name, path in self._own_files() if (stamp := _stamp(path))}
        new = [name for name in sorted(here, key=_rank) if name not in files or files[name]["here"] != here[name]]
        sent_before = (files.keys() | record["sending"].keys()) & there.keys()
        gone = sorted(sent_before - here.keys(), key=_rank, reverse=True)
        if changed := [name for name in _changed(there, record) if name in {*new, *gone}]:
            raise UserError(
                f"{self.place}: another machine has changed {changed[0]} meanwhile; what is here stays in "
                f"{self.directory}; see that one works there at a time"
            )
        self._write(files, unsent=True, sending={name: here[name][0] for name in new} | dict.fromkeys(gone))
        for name in new:
            self._put(name, self.directory / name)
        for name in gone:
            with contextlib.suppress(FileNotFoundError):
                self._call("rm_file", self._at(name))
        there = self._listed()
        for name in new:
            if name not in there and (self.directory / name).exists():
                raise UserError(f"{self.place}: {name} was sent and is not there")
        alike = {name: {"there": there[name], "here": here[name]} for name in here if name in there}
        self._write(alike, unsent=not ended)

    def try_to_send(self, warn: Log = warn, ended: bool = False) -> None:
        """Sends what has changed; where the store gives out, `warn` says so, and what is next sent has it, too."""
        try:
            self.send(ended)
        except UserError as error:
            warn(f"not sent: {error}")

    def send_soon(self) -> None:
        """Asks the `sender` to send what there is now."""
        self._asked.set()

    @contextlib.contextmanager
    def sender(self, warn: Log = warn) -> Iterator[None]:
        """Sends in the background whenever `send_soon` asks for it, once for all that was asked meanwhile."""
        ended = False

        def work() -> None:
            while True:
                self._asked.wait()
                self._asked.clear()
                if ended:
                    return
                self.try_to_send(warn)

        thread = threading.Thread(target=work, name="send")
        thread.start()
        try:
            yield
        finally:
            ended = True
            self._asked.set()
            thread.join()

    def _own_files(self) -> Iterator[tuple[str, Path]]:
        for folder, folders, names in os.walk(self.directory):
            folders[:] = [
                each for each in folders if not (each.endswith(_OWN_ENDS) or any(part in each for part in _OWN_PARTS))
            ]
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
        # What a console or a mounted bucket leaves for a folder is no file, and a trial's was not removed for a kill.
        names = {name: facts for name, facts in names.items() if name and not name.endswith(("/", _TRIAL))}
        for name in names:
            if not is_inside(name):
                raise UserError(f"{self.place}: a file there is called {name!r:.100}, and is none of the folder")
        return {name: _signature(facts) for name, facts in names.items()}

    def _get(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as partial:
            self._call("get_file", self._at(name), str(partial))

    def _put(self, name: str, path: Path) -> None:
        """Sends a file, unless it is gone: an old step is removed while the new one is sent."""
        try:
            content = path.read_bytes() if path.stat().st_size <= _WHOLE_AT_ONCE else None
        except FileNotFoundError:
            return
        try:
            if content is None:
                self._call("put_file", str(path), self._at(name))
            else:
                self._call("pipe_file", self._at(name), content)
        except FileNotFoundError as error:
            if path.exists():  # as they say of a bucket that is not there
                raise UserError(f"{self.place}: cannot be written: {first_line(error)}") from error

    def _remove(self, name: str) -> None:
        """Removes a file, and the folders that it leaves empty: Orbax takes one for a step."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.directory or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

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
        """Returns the record; one of a copy that somebody has removed says nothing."""
        if not (self._record.is_file() and self.directory.is_dir()):
            return {"files": {}, "unsent": False, "sending": {}}
        return read_json(self._record, "remove it, and the copy beside it")

    def _write(self, files: Mapping, unsent: bool, sending: Mapping | None = None) -> None:
        write_json(self._record, {"place": self.place, "unsent": unsent, "sending": sending or {}, "files": files})


def _changed(there: Mapping[str, str], record: Mapping[str, Any]) -> list[str]:
    """Returns the names of files in the store that are not as they were, and that we did not send ourselves.

    Args:
      there: {name: signature}, as listed.
      record: of the copy. What it was sending when it was cut off is ours if it has the size that was sent, and what it
        was removing (None) if it is gone.
    """
    known = {name: kept["there"] for name, kept in record["files"].items()}
    ours = {name for name, size in record["sending"].items() if there.get(name, "None").split("-")[0] == str(size)}
    return sorted(
        name for name in known.keys() | there.keys() if known.get(name) != there.get(name) and name not in ours
    )


def _rank(name: str) -> tuple[int, str]:
    """The order of sending: what a step is read with, its arrays, that it is saved, that it is whole."""
    last = PurePosixPath(name).name
    return 3 if last in _SEALS else 2 if last == _SAVED else int(name.startswith("checkpoints/")), name


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
    except Exception as error:  # some connect at once
        raise UserError(f"{place}: {first_line(error)}") from error


def _signature(facts: Mapping[str, Any]) -> str:
    """Returns the size of a file in a store, and what changes with its content: stores name it differently."""
    known = ("etag", "ETag", "generation", "md5Hash", "LastModified", "updated", "mtime", "created")
    return "-".join([str(facts.get("size")), *(str(facts[name]) for name in known if facts.get(name))][:2])


def _stamp(path: Path) -> list[int] | None:
    """Returns what tells a file that was written again, its size first; None where there is none."""
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
