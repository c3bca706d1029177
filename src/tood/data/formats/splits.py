"""Train, val and test splits drawn by seed."""

import hashlib
from collections.abc import Iterable

from tood.config.datasets import Draw
from tood.data.findings import Findings, plural


def draw_splits(keys: Iterable[str], draw: Draw, findings: Findings, where: object) -> dict[str, list[str]]:
    """Divide images into train, val and test by the rank of a hash of (seed, key).

    The same keys and seed give the same splits in whatever order the files were found and on any machine, and
    adding images moves few of the others. Every split asked for gets at least one image; too few images for
    that is an error. Keys come back sorted.
    """
    ranked = sorted(set(keys), key=lambda key: (_rank(draw.seed, key), key))
    shares = {"val": draw.val, "test": draw.test}
    counts = {name: max(1, round(share * len(ranked))) for name, share in shares.items() if share > 0}
    if sum(counts.values()) >= len(ranked):
        splits = ", ".join(["train", *counts])
        findings.error(where, f"{plural(len(ranked), 'image')} cannot be divided into {splits}; add images")
        return {}
    drawn: dict[str, list[str]] = {}
    start = 0
    for name, count in counts.items():
        drawn[name] = sorted(ranked[start : start + count])
        start += count
    return {"train": sorted(ranked[start:]), **drawn}


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogateescape")).digest()
