"""Numbers that depend on what they are about and on nothing else: not on order, process or machine."""

from hashlib import blake2b

HASH_RANGE = 2**64


def hash64(*key: str | int) -> int:
    """Returns a uniform number in [0, 2**64) that depends on `key` alone, the same on every machine."""
    return int.from_bytes(blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest(), "big")
