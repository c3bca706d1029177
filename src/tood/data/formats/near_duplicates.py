"""Near-duplicate pictures: frames of a film, and copies resized, compressed anew or augmented, as groups.

Drawn to both sides of a split, they would let a detector be scored on pictures that it has nearly seen in training.
Two pictures belong together if their gray values rise and fall from left to right at the same places of a coarse grid,
or if Roboflow named them as versions of one picture (``a_jpg.rf.<hash>.jpg``).
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tood.data.formats.headers import open_image

_SIDE = 16  # cells of the grid, each compared with its neighbour: 256 bits
_FAR = 32  # bits in which near duplicates may differ; of different photographs 68 and more do (BCCD, COCO)
_DECODED = (96, 96)  # px that suffice for the grid; JPEGs are decoded at an eighth to a half of their size for it
_BLOCK = 2048  # pictures that are compared with as many at once
_REMEMBERED = 100_000  # pictures of which the bits are kept
_VERSION = re.compile(r"(?P<source>.+)\.rf\.\w{8,}")

Labels = NDArray[np.int64]


def near_duplicates(pictures: Mapping[str, Path]) -> list[list[str]]:
    """The keys of pictures that belong together, one list for each group, also of one; sorted.

    A picture that cannot be decoded is grouped by its name alone.
    """
    keys = sorted(pictures)
    leaders = np.arange(len(keys))
    sources: dict[str, int] = {}
    for place, key in enumerate(keys):
        if found := _VERSION.fullmatch(PurePosixPath(pictures[key].name).stem):
            leaders[place] = sources.setdefault(found["source"], place)
    with ThreadPoolExecutor() as pool:
        rises = list(pool.map(_rises, [pictures[key] for key in keys]))
    places = np.array([place for place, one in enumerate(rises) if one is not None], np.int64)
    if len(places):
        _join_alike(leaders, places, np.stack([one for one in rises if one is not None]))
    groups: dict[int, list[str]] = {}
    for key, leader in zip(keys, leaders.tolist(), strict=True):
        groups.setdefault(leader, []).append(key)
    return list(groups.values())


def _rises(path: Path) -> NDArray[np.bool_] | None:
    try:
        state = path.stat()
        return np.frombuffer(_rises_of(str(path), state.st_size, state.st_mtime_ns), bool)
    except Exception:  # decoders of untrusted bytes raise nearly anything; reported where pictures are examined
        return None


@lru_cache(_REMEMBERED)
def _rises_of(path: str, size: int, modified_ns: int) -> bytes:
    """(256,) whether each cell of the grid is darker than the one to its right."""
    del size, modified_ns  # parts of the key under which the result is remembered
    with open_image(Path(path)) as image:
        image.draft("L", _DECODED)
        ImageOps.exif_transpose(image, in_place=True)
        gray = image.convert("F" if image.mode[0] in "IF" else "L")
        grid = np.asarray(gray.resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS), np.float32)
    rises: NDArray[np.bool_] = grid[:, 1:] > grid[:, :-1]
    return rises.tobytes()


def _join_alike(leaders: Labels, places: Labels, rises: NDArray[np.bool_]) -> None:
    """Join all pictures at ``places`` whose bits ``rises`` (N, 256) differ in few."""
    signs = rises.astype(np.float32) * 2 - 1
    least = signs.shape[1] - 2 * _FAR  # of the product of two rows of signs, which is equal minus different bits
    for start in range(0, len(signs), _BLOCK):
        for other in range(start, len(signs), _BLOCK):
            first, second = np.nonzero(signs[start : start + _BLOCK] @ signs[other : other + _BLOCK].T >= least)
            _join(leaders, places[start + first], places[other + second])


def _join(leaders: Labels, first: Labels, second: Labels) -> None:
    """Make the groups of each pair one; each place has the first place of its group as its leader."""
    while len(first):
        one, other = leaders[first], leaders[second]
        apart = one != other
        first, second = first[apart], second[apart]
        np.minimum.at(leaders, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while not np.array_equal(higher := leaders[leaders], leaders):
            leaders[:] = higher


def group_sizes(groups: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many groups are of several pictures, and how many pictures those are."""
    several = [len(group) for group in groups if len(group) > 1]
    return len(several), sum(several)
