"""`sources.json`: the files a corpus was made of and their stamps, to notice that they have changed since.

Stamps have times in them, so this is a file of its own: `corpus.json`, and its hash, depend on the text alone. Nobody
but `ctcd prepare` looks at it, and without it a corpus is as good.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ctcd_jax.artifacts.corpora import Manifest
from ctcd_jax.data.hashing import portable
from ctcd_jax.data.shape import problem
from ctcd_jax.data.sources import Source, open_source
from ctcd_jax.errors import UserError
from ctcd_jax.files import read_json, write_json

FORMAT = 1
STAMPS = "sources.json"


def write_stamps(directory: Path, sources: Sequence[Source]) -> None:
    """Writes the stamp of each input file of each source."""
    found = [
        {"source": portable(source.spec), "files": {file.name: file.stamp for file in source.files}}
        for source in sources
    ]
    write_json(directory / STAMPS, {"format": FORMAT, "sources": found})


def check_unchanged(
    directory: Path, specs: Sequence[str], manifest: Manifest, log: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Compares the sources of a corpus with what they were; those of the hub are pinned to a revision.

    What cannot be compared is said: a source that is no longer there, or a corpus of an earlier version.

    Args:
      directory: of the corpus.
      specs: the sources as they are given now.
      manifest: the content of `corpus.json`.
      log: called with a line where nothing was recorded to compare with.
      warn: called with a line about a source that cannot be compared.

    Raises:
      UserError: a file was added, removed or changed; the line names it.
    """
    path = directory / STAMPS
    if not path.is_file():
        log(f"{directory}: it has no {STAMPS}, so whether its sources have changed since is unknown")
        return
    content = read_json(path, "delete it, and changes of the sources are no longer looked for")
    if found := problem(content, {"format": int, "sources": [{"source": str, "files": {}}]}):
        raise UserError(f"{path}: damaged ({found}); delete it, and changes of the sources are no longer looked for")
    for spec, then, made in zip(specs, content["sources"], manifest["sources"], strict=False):
        if "revision" in made:
            continue
        try:
            now = {file.name: file.stamp for file in open_source(spec, lambda line: None).files}
        except (UserError, OSError) as error:
            warn(f"{directory}: whether this has changed since is unknown: {error}")
            continue
        if change := _change(then["files"], now):
            raise UserError(
                f"--out {directory}: source '{spec}' is not what it was prepared from: {change}; choose another"
                f" directory or delete it (or delete {path}, if the text is the same and only its time is new)"
            )


def _change(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns the first difference in words, and how many more there are; "" for none."""
    changes = [f"{name} is gone" for name in then if name not in now]
    changes += [f"{name} is new" for name in now if name not in then]
    changes += [f"{name} has changed" for name in now if name in then and now[name] != then[name]]
    more = f" (and {len(changes) - 1:,} more)" if len(changes) > 1 else ""
    return changes[0] + more if changes else ""
