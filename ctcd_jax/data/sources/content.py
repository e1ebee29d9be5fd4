"""What a file is, recognised by its first bytes: a name may promise anything."""

import re
from pathlib import Path

from ctcd_jax.errors import UserError

HEAD_BYTES = 512

_COMPRESSED = {
    "gzip": rb"\x1f\x8b\x08",
    "xz": rb"\xfd7zXZ\x00",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",
    "bz2": rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)",
}

_ICONV = "convert it with `iconv -f {} -t UTF-8 FILE > NEW`"
_NO_TEXT = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer and not the file itself; fetch that with `git lfs pull`",
    ),
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", f"UTF-32 and not UTF-8; {_ICONV.format('UTF-32')}"),
    (rb"\xff\xfe|\xfe\xff", f"UTF-16 and not UTF-8; {_ICONV.format('UTF-16')}"),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a zip archive (or an office document, which is one); unpack it"),
    (rb".{257}ustar", "a tar archive; unpack it"),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "an archive; unpack it"),
    (rb"\x04\x22\x4d\x18|\x1f\x9d|LZIP", "compressed in a way that is not supported; use gzip, xz, zstd or bz2"),
    (rb"%PDF-", "a PDF; take the text out, e.g. with `pdftotext`"),
    (rb"PAR1", "a parquet file; read it as parquet:LOCATION"),
    (rb"ARROW1", "an Arrow file; read its directory as hf:DIRECTORY"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|\{\\rtf", "a word processor's document; save it as plain text"),
)


def compression(head: bytes) -> str | None:
    """Returns what a file that begins with `head` is compressed with: gzip, xz, zstd, bz2, or None."""
    return next((name for name, magic in _COMPRESSED.items() if re.match(magic, head)), None)


def no_text(head: bytes) -> str | None:
    """Returns what a file that begins with `head` is and what to do, if it is known to be no plain text."""
    return next((what for magic, what in _NO_TEXT if re.match(magic, head, re.DOTALL)), None)


def head_of(path: Path) -> bytes:
    """Returns the first `HEAD_BYTES` of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
