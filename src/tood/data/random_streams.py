"""Random generators, one for each purpose, seeded by that purpose and some integers."""

import zlib

import numpy as np


def random_stream(purpose: str, *numbers: int) -> np.random.Generator:
    """A generator that depends on ``purpose`` and ``numbers`` (any integers) and on nothing else.

    Two purposes never share a stream, whatever their numbers.
    """
    words = [zlib.crc32(purpose.encode()), *(number % 2**64 for number in numbers)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
