"""One seed, many independent random streams, each with a name.

A stream depends on its name alone, never on how many numbers were drawn elsewhere. That is what lets a
run that was killed continue with the same shuffles and the same augmentations.
"""

import hashlib
import struct

import numpy as np


def stream_seed(seed: int, *name: str | int) -> int:
    """Derive the seed of a named stream, for example `stream_seed(0, "order", epoch)`.

    Returns:
        A non-negative integer below 2**63, the range that torch and NumPy generators accept.
    """
    return int.from_bytes(_digest(8, seed, name), "big") >> 1


def fractions(seed: int, *name: str | int) -> tuple[float, ...]:
    """Return eight numbers in [0, 1) under a name: all that a stream of so few has, much cheaper than a generator."""
    return tuple((number >> 11) * 2.0**-53 for number in struct.unpack("<8Q", _digest(64, seed, name)))


def _digest(num_bytes: int, seed: int, name: tuple[str | int, ...]) -> bytes:
    text = "/".join([str(seed), *map(str, name)])
    return hashlib.blake2b(text.encode(), digest_size=num_bytes).digest()


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the generator of a named stream, at its beginning."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *name)))
