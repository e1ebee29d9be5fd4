"""Numbers that depend on what they are about and on nothing else: not on order, process or machine."""

import os
from hashlib import blake2b

HASH_RANGE = 2**64


def hash64(*key: str | int) -> int:
    """Returns a uniform number in [0, 2**64) that depends on `key` alone, the same on every machine."""
    text = "\0".join(map(str, key))
    try:
        data = text.encode("utf-8", "surrogateescape")  # a file name that is no valid UTF-8
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def portable(path: str) -> str:
    """Returns a path, or a text with one in it, as every locale spells it: UTF-8, and other bytes as surrogates.

    Under the locale "C", the very bytes of a name are other characters than elsewhere.
    """
    try:
        return os.fsencode(path).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it was not spelt by this locale
        return path
