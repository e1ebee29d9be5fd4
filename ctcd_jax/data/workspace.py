"""`OUT.partial`: where a corpus is made by one process, or by shards, until it appears as OUT."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ctcd_jax.errors import Stopped, UserError
from ctcd_jax.files import locked
from ctcd_jax.runtime.stopping import raises_stopped

_LOCK = "lock"


@contextmanager
def made_workspace(out: Path, shard: tuple[int, int] | None, keep: bool, log: Callable[[str], None]) -> Iterator[Path]:
    """Yields the directory, which nobody else works in (but other shards) and in which signals raise `Stopped`.

    Whatever ends the block, finished parts are kept until `out` is there, and nothing else is, unless `keep`.

    Args:
      out: the corpus that is being made; the workspace is beside it.
      shard: (index, count) where several machines share the work, else None.
      keep: whether other files are kept, too.
      log: called with a line about the finished parts that an error leaves behind.

    Raises:
      UserError: it cannot be made or written to; another process is at work there.
      Stopped: with how much is kept in its line.
    """
    workspace = out.with_name(out.name + ".partial")
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made ({error.strerror}); choose another directory") from error
    try:
        with _locked(out, workspace, shard), _said(out, workspace, log), raises_stopped("stopped"):
            try:
                yield workspace
            finally:
                if not shard:
                    _tidy(workspace, everything=out.exists() or not (keep or finished_parts(workspace)))
    finally:
        if shard:
            _tidy_after_shard(out, workspace)


@contextmanager
def _said(out: Path, workspace: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Says what is kept when the work ends early, and in a line what keeps it from writing."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        path = str(error.filename or "")
        where = path if path and not path.startswith(str(out)) else f"--out {out}: cannot be written"
        raise UserError(f"{where} ({error.strerror}); correct that and run the same command again") from error
    except Stopped:
        finished = finished_parts(workspace)
        kept = f"{finished:,} finished parts are kept in {workspace}; " if finished else ""
        raise Stopped(f"stopped; {kept}run the same command again to go on") from None
    except BaseException:
        if finished := finished_parts(workspace):
            log(f"{workspace}: {finished:,} finished parts are kept; the same command goes on with them")
        raise


def finished_parts(workspace: Path) -> int:
    """Returns how many parts have been read."""
    return sum(path.suffix != ".tmp" for path in workspace.glob("read-*"))


@contextmanager
def _locked(out: Path, workspace: Path, shard: tuple[int, int] | None) -> Iterator[None]:
    """A shard shares the work with others, but not with another process that does the same one."""
    with ExitStack() as stack:
        stack.enter_context(locked(workspace / _LOCK, f"--out {out}", shared=bool(shard)))
        if shard:
            own = workspace / f"{_LOCK}-{shard[0]}-of-{shard[1]}"
            stack.enter_context(locked(own, f"--shard {shard[0]}/{shard[1]} of --out {out}"))
            stack.callback(own.unlink, missing_ok=True)
        yield


def _tidy(workspace: Path, everything: bool) -> None:
    """Removes what nobody else can be using: the caller has the workspace for itself."""
    if everything:
        shutil.rmtree(workspace, ignore_errors=True)
        return
    if not workspace.is_dir():
        return
    for lock in workspace.glob(f"{_LOCK}*"):
        lock.unlink(missing_ok=True)
    for torn in workspace.glob("*.tmp"):
        shutil.rmtree(torn, ignore_errors=True)
    if not any(workspace.iterdir()):
        workspace.rmdir()


def _tidy_after_shard(out: Path, workspace: Path) -> None:
    """Leaves a workspace without parts to other shards, if there are any, and else removes it."""
    if workspace.is_dir() and all(path.name.startswith(_LOCK) for path in workspace.iterdir()):
        with suppress(UserError), locked(workspace / _LOCK, f"--out {out}"):
            shutil.rmtree(workspace, ignore_errors=True)
