"""Options that name a folder of an object store: a local copy takes its place, and what is written there is sent."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ctcd_jax.arguments import file_path, located
from ctcd_jax.errors import UserError
from ctcd_jax.stores import fetched, is_remote, working_copy

# Of each verb, the folders that it writes to; `train` sees to its own, which is sent while it works.
WRITTEN = {"card": ("model",), "train": ("workdir",)} | dict.fromkeys(
    ("prepare", "export", "evaluate", "probe", "glue", "study", "bench"), ("out",)
)
FILES = {"inspect": ("html",), "latency": ("out", "keep_onnx"), "report": ("out",), "train": ("config",)}


@contextlib.contextmanager
def local(options, log: Callable[[str], None], warn: Callable[[str], None]) -> Iterator[None]:
    """Changes the options of a verb; when the block ends, what was written is sent.

    Args:
      options: of the command line; `parser` knows which are paths.
      log, warn: take a line.

    Raises:
      UserError: a single file is to be in a store, or as `fetched` and `working_copy`.
    """
    with contextlib.ExitStack() as sending:
        for action in options.parser.arguments_of(located, file_path):
            given = getattr(options, action.dest, None)
            places = given if isinstance(given, list) else [given]
            if not any(place is not None and is_remote(place) for place in places):
                continue
            if action.dest in FILES.get(options.verb, ()):
                name = (action.option_strings or [action.dest])[0]
                raise UserError(f"{name} {given}: a single file cannot be in a store; write it here and copy it")
            writes = action.dest in WRITTEN.get(options.verb, ())
            if writes and options.verb == "train":
                continue

            def here(place, writes=writes):
                if place is None or not is_remote(place):
                    return place
                if writes:
                    return sending.enter_context(working_copy(place, log, warn)).directory
                folder, mark, member = place.rpartition("#")
                return Path(f"{fetched(folder, warn)}#{member}") if mark else fetched(place, warn)

            changed = [here(place) for place in places]
            if action.type is located:
                changed = [place if place is None else str(place) for place in changed]
            setattr(options, action.dest, changed if isinstance(given, list) else changed[0])
        yield
