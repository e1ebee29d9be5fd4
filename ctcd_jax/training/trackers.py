"""Where a run's figures are drawn: TensorBoard, and if asked for Weights & Biases and Trackio.

`metrics.jsonl` and `timing.jsonl` are the record, of which a tracker is a view: it gets every number that they do.
"""

import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from ctcd_jax.errors import UserError, first_line
from ctcd_jax.files import disk_errors, write_whole

TENSORBOARD, WANDB_ID, TRACKIO_NAME = "tensorboard", "wandb.id", "trackio.name"

# What a run's trackers write into its directory; Trackio's own place is elsewhere.
TRACKER_FILES = (TENSORBOARD, "wandb", WANDB_ID, TRACKIO_NAME)

Figures = Mapping[str, float]
"""{"train/members/student/hard": 6.9}: numbers of one step by the path that they are drawn under."""


class Tracker(Protocol):
    """Draws the figures of one run. That of a run which goes on from a step shows no later step twice."""

    def log(self, step: int, figures: Figures) -> None:
        """Adds figures of a step; there may be others of the same step, under other paths."""

    def close(self) -> None:
        """Returns when everything is where it is kept, or on its way there."""


def start_trackers(
    workdir: Path,
    start: int,
    projects: Mapping[str, str],
    config: Mapping[str, Any],
    earlier: Iterable[tuple[int, Figures]],
) -> Iterator[Tracker]:
    """Starts the trackers of a run, one by one.

    Args:
      workdir: of the run.
      start: the step that the run goes on from, 0 for one that begins.
      projects: those of the trackers that are asked for, by "wandb" and "trackio".
      config: what they say of the run, the content of its `config.json`.
      earlier: (step, figures) of what had been logged up to `start`, of which Trackio's run is made anew.

    Raises:
      UserError: one of them is not installed or does not start.
    """
    if "wandb" in projects:
        yield Wandb(projects["wandb"], workdir, config)
    if "trackio" in projects:
        yield Trackio(projects["trackio"], workdir, config, earlier)
    yield TensorBoard(workdir / TENSORBOARD, start)


class TensorBoard:
    """TensorBoard's file of events, written where the caller is.

    tensorboardX's own SummaryWriter hands the events to a thread. Where the disk is full that thread dies with a
    traceback, and whoever hands it more waits for ever.
    """

    def __init__(self, directory: Path, start: int):
        tensorboard = _tensorboard()
        self._event, self._scalar = tensorboard.proto.event_pb2.Event, tensorboard.summary.scalar
        self._directory, self._failed = directory, False
        session = tensorboard.proto.event_pb2.SessionLog
        with self._writing():
            directory.mkdir(exist_ok=True)
            self._file = tensorboard.event_file_writer.EventsWriter(str(directory / "events"))
            self._write(step=start + 1, file_version="brain.Event:2")
            # What an interrupted session drew after the step that this one goes on from is hidden.
            self._write(step=start + 1, session_log=session(status=session.START))

    def log(self, step: int, figures: Figures) -> None:
        with self._writing():
            for name, value in figures.items():
                self._write(step=step, summary=self._scalar(name, value))
            self._file.flush()

    def close(self) -> None:
        if not self._failed:  # else it would fail again, on the way out of the first failure
            with self._writing():
                self._file.close()

    def _write(self, **content) -> None:
        self._file.write_event(self._event(wall_time=time.time(), **content))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with disk_errors(self._directory):
                yield
        except UserError:
            self._failed = True
            raise


def _tensorboard() -> Any:
    """Returns tensorboardX, imported without PyTorch.

    It imports that where it is installed, which takes two seconds, to take tensors that it is never given.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = cast("Any", None)  # to the import system: not there
    try:
        import tensorboardX
        import tensorboardX.event_file_writer
        import tensorboardX.proto.event_pb2
        import tensorboardX.summary
    finally:
        if hidden:
            del sys.modules["torch"]
    return tensorboardX


class Wandb:
    """A run of Weights & Biases, which a resumed run continues: what it has of later steps, it takes no second time.

    WANDB_MODE=offline is wandb's own switch.
    """

    def __init__(self, project: str, workdir: Path, config: Mapping[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise UserError(_not_installed("wandb")) from error
        name = _kept(workdir / WANDB_ID, secrets.token_hex(4))
        try:
            self._run = wandb.init(project=project, id=name, resume="allow", dir=str(workdir), config=dict(config))
        except wandb.Error as error:
            raise UserError(
                f"wandb.project: Weights & Biases does not start ({first_line(error)}); set WANDB_API_KEY, or "
                "WANDB_MODE=offline to keep the curves here"
            ) from error

    def log(self, step: int, figures: Figures) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of Trackio, kept on this machine, among its others: TRACKIO_DIR, Trackio's own switch, says where.

    Trackio would add what it is given to what it has. A resumed run is therefore deleted there and drawn again from the
    run's own files, which also brings back what a kill took from Trackio's queue. That can be done on this machine
    alone; `trackio sync` publishes a project. While a run is under way Trackio never fails, but warns of what it could
    not keep.
    """

    def __init__(self, project: str, workdir: Path, config: Mapping[str, Any], earlier: Iterable[tuple[int, Figures]]):
        try:
            import trackio
        except ImportError as error:
            raise UserError(_not_installed("trackio")) from error
        _check_place(trackio)
        name = _kept(workdir / TRACKIO_NAME, f"{workdir.resolve().name}-{secrets.token_hex(4)}")
        self._trackio = trackio
        try:
            _delete_run(trackio, project, name)
            self._run = trackio.init(project=project, name=name, config=dict(config), embed=False)
        except Exception as error:  # of any kind: a project's name, a database of a later version
            raise UserError(f"trackio.project: Trackio does not start ({first_line(error)})") from error
        for step, figures in earlier:
            self.log(step, figures)

    def log(self, step: int, figures: Figures) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._trackio.finish()


def _delete_run(trackio, project: str, name: str) -> None:
    try:
        runs = trackio.Api().runs(project)
    except ValueError:  # there is no such project yet
        return
    for run in runs:
        if run.name == name:
            run.delete()


def _check_place(trackio) -> None:
    """Raises UserError unless Trackio keeps runs where they can be replaced, and the place can be written."""
    for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        if os.environ.get(variable):
            raise UserError(
                f"trackio.project: {variable} is set, and a run that is resumed can be replaced on this machine alone; "
                "unset it, and publish with `trackio sync`"
            )
    place = trackio.TRACKIO_DIR
    if trackio.utils.get_storage_mode() != "sqlite":
        raise UserError(
            f"trackio.project: {place} is on a network's file system, where Trackio cannot replace a run that is "
            "resumed; set TRACKIO_DIR to a local directory"
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise UserError(
            f"trackio.project: {place} cannot be written ({error.strerror}); set TRACKIO_DIR to a directory that can"
        ) from error


def _not_installed(package: str) -> str:
    return f"{package}.project is set, but {package} is not installed: pip install 'ctcd-jax[{package}]'"


def _kept(path: Path, fresh: str) -> str:
    """Returns what a run is called by a tracker: as its first session wrote it down, else `fresh`."""
    if not path.is_file():
        with disk_errors(path):
            write_whole(path, fresh)
    return path.read_text()
