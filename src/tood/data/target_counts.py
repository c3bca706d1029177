"""What a training makes of a split's images and objects: how many are used, and why the others are not."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import DatasetConfig, drops_empty
from tood.config.images import ImagesConfig
from tood.data.findings import plural
from tood.data.input_sizes import SMALLEST_SIDE, Bounds, bounds_drawn, resized_sizes
from tood.data.split_table import SplitTable
from tood.data.tiled_split import LEAST_VISIBLE
from tood.data.training_targets import Fate, Presence, fates, without_empty

_NAMES = {
    Fate.OF_NO_IMAGE: "object",
    Fate.CROWD: "crowd region",
    Fate.IGNORED: "ignored object",
    Fate.WITHOUT_AREA: "object",
    Fate.THIN: "object",
    Fate.OUTSIDE: "object",
}
_WHY = {
    Fate.OF_NO_IMAGE: " of images left out",
    Fate.CROWD: "",
    Fate.IGNORED: "",
    Fate.WITHOUT_AREA: " without area",
    Fate.THIN: " below 1 px as annotated",
    Fate.OUTSIDE: " outside the image",
}


def use_of_empty(config: DatasetConfig, split: str) -> str:
    """What becomes of a split's images without objects, in a few words."""
    drops = drops_empty(config) if split == "train" else False
    if drops is None:
        return "used as background, unless a schedule says drop_empty"
    return "left out of training, for drop_empty is true" if drops else "used as background"


@dataclass(frozen=True, eq=False)
class InputBoxes:
    """Objects of a split as training has them at one size of images, in the order of the annotations."""

    boxes: NDArray[np.float32]
    """(N,4) xyxy px of the network's input, clipped to the image."""
    sizes: NDArray[np.int64]
    """(N,2) width and height px of the image after resizing."""

    @property
    def shorter_sides(self) -> NDArray[np.float32]:
        """(N,) px."""
        sides: NDArray[np.float32] = (self.boxes[:, 2:] - self.boxes[:, :2]).min(axis=1, initial=np.inf)
        return sides


def input_boxes(table: SplitTable, bounds: Bounds, *, mirrored: bool = False) -> InputBoxes:
    """All annotations of a split in images resized to ``bounds``.

    The same numbers as from ``transforms.transform``. Those of unknown images are arbitrary.
    """
    of_image, _, _ = table.locate_annotations()
    if not len(table.image_ids):
        return InputBoxes(np.zeros((len(of_image), 4), np.float32), np.zeros((len(of_image), 2), np.int64))
    old = np.stack([table.widths, table.heights], axis=1)
    new = resized_sizes(old, bounds)
    ratios = np.tile(new / old, 2).astype(np.float32)[of_image]
    x, y, w, h = table.annotations.boxes.T
    boxes = np.stack([x, y, x + w, y + h], axis=1).astype(np.float32) * ratios
    limits = np.tile(new, 2).astype(np.float32)[of_image]
    if mirrored:
        boxes[:, [2, 0]] = limits[:, :1] - boxes[:, [0, 2]]
    return InputBoxes(np.clip(boxes, 0, limits), new[of_image])


@dataclass(frozen=True)
class TileCount:
    """What the images of a training are tiles of."""

    size: int
    """Side px of a tile."""
    pictures: int
    unused: int
    """Tiles without objects that are left out."""


@dataclass(frozen=True)
class TargetCount:
    """Images and objects that a training uses. Objects by size are counted at the smallest and the largest size."""

    images: int
    background: int
    """Images in use without any target as annotated."""
    targets: tuple[int, int]
    vanishing: tuple[int, int]
    """Objects that are below 1 px in width or height after resizing only."""
    largest: float
    """Shorter side (px) of the largest object at the largest size; 0 without objects."""
    left_out: Mapping[Fate, int]
    """Annotations that are no targets, by why."""
    not_annotated: int
    small: int
    """Images that lack an annotation, and others with a side below 32 px: left out with ``drop_empty``."""
    drop_empty: bool
    sizes: tuple[Bounds, Bounds]
    tiles: TileCount | None = None
    """Where the images are tiles of pictures; objects are counted in each tile that has them."""

    @property
    def trains(self) -> bool:
        """Whether there is any target, at least at the largest size."""
        return self.targets[1] > 0

    def sentence(self) -> str:
        """As the first line of a training: ``205 images, 4,888 objects; left out: 3 objects below 1 px at ...``.

        With tiles it begins ``1,234 tiles of 640 px of 56 images (308 as background), 4,888 objects in them``.
        """
        most, least = self.targets[1], self.targets[0]
        objects = plural(most, "object") if most == least else f"{least:,} to {plural(most, 'object')}"
        background = f" ({self.background:,} as background)" if self.background else ""
        parts = self.reasons()
        if self.tiles is None:
            text = f"{plural(self.images, 'image')}{background}, {objects}"
        else:
            of = f"of {self.tiles.size} px of {plural(self.tiles.pictures, 'image')}"
            text = f"{plural(self.images, 'tile')} {of}{background}, {objects} in them"
        return f"{text}; left out: {', '.join(parts)}" if parts else text

    def reasons(self) -> list[str]:
        """What is left out and why, each as a few words."""
        parts = []
        few, many = sorted(self.vanishing)
        if many:
            at = (
                "at this size"
                if few == many
                else f"at shorter sides of {self.sizes[1].short} to {self.sizes[0].short} px"
            )
            counted = plural(many, "object") if few == many else f"{few:,} to {plural(many, 'object')}"
            parts.append(f"{counted} below 1 px {at}")
        parts += _described(self.left_out)
        if self.tiles is not None and self.tiles.unused:
            parts.append(
                f"{plural(self.tiles.unused, 'tile')} without objects (at most as many are used as have some) or with "
                f"less than {LEAST_VISIBLE:.0%} of one"
            )
        return parts + [f"{one} (drop_empty)" for one in self.emptiness() if self.drop_empty]

    def emptiness(self) -> list[str]:
        """The images that ``drop_empty`` leaves out, or would."""
        counts = {"without objects": self.not_annotated, "with a side below 32 px": self.small}
        kind = "image" if self.tiles is None else "tile"
        return [f"{plural(count, kind)} {which}" for which, count in counts.items() if count]


def count_targets(table: SplitTable, images: ImagesConfig, *, drop_empty: bool) -> TargetCount:
    """Count what a training on a split uses; files and sizes of all its images must be known."""
    present = Presence.of(table)
    used = without_empty(table) if drop_empty else table
    fate = fates(used)
    of_image, _, _ = used.locate_annotations()
    targets = fate == Fate.TARGET
    drawn = bounds_drawn(images)
    sides = {bounds: input_boxes(used, bounds).shorter_sides[targets] for bounds in set(drawn)}
    smallest, largest = (sides[bounds] for bounds in drawn)
    count = int(targets.sum())
    seen = tuple(int((sides >= SMALLEST_SIDE).sum()) for sides in (smallest, largest))
    return TargetCount(
        images=len(used.image_ids),
        background=len(used.image_ids) - len(np.unique(of_image[targets])),
        targets=(seen[0], seen[1]),
        vanishing=(count - seen[0], count - seen[1]),
        largest=float(largest.max(initial=0.0)),
        left_out=_counted(fate),
        not_annotated=int((~present.annotated).sum()),
        small=int((present.annotated & ~present.large).sum()),
        drop_empty=drop_empty,
        sizes=drawn,
        tiles=None if table.tiles is None else TileCount(table.tiles.size, table.tiles.pictures, table.tiles.unused),
    )


def why_no_targets(fate: NDArray[np.int64]) -> list[str]:
    """How many annotations (n,) are no targets and why, each as a few words."""
    return _described(_counted(fate))


def _counted(fate: NDArray[np.int64]) -> dict[Fate, int]:
    return {one: int((fate == one).sum()) for one in _NAMES}


def _described(counts: Mapping[Fate, int]) -> list[str]:
    return [f"{plural(count, _NAMES[fate])}{_WHY[fate]}" for fate, count in counts.items() if count]
