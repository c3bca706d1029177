"""Findings that most images of a split share: refused with their likely cause, where single ones are notes."""

from collections.abc import Mapping
from statistics import median
from typing import Any, get_args

from tood.config.datasets import SharedKind
from tood.data.findings import Findings, plural
from tood.data.formats.records import RawDataset

_FEWEST = 3  # images; fewer show nothing


def refuse_shared(dataset: RawDataset, accepted: list[SharedKind], name: str, findings: Findings) -> None:
    """Add an error for every kind of finding that more than half of a split's images share, unless ``accepted``."""
    for kind in get_args(SharedKind):
        found = findings.shared(kind)
        if kind in accepted or len(found) < _FEWEST:
            continue
        for split in dataset.splits:
            paths = {str(split.path(image)) for image in split.images}
            having = {path: detail for path, detail in found.items() if path in paths}
            if len(having) >= _FEWEST and 2 * len(having) > len(paths):
                what, cause = _SAID[kind]
                cause = _why_resized(having) if kind == "other_size" else cause
                findings.error(
                    f"split '{split.name}'",
                    f"{len(having):,} of {plural(len(paths), 'image')} {what}; {cause}; if it is right, set "
                    f"'accept: [{kind}]' of data set '{name}'",
                )


def _why_resized(sizes: Mapping[str, Any]) -> str:
    """The likely cause of sizes that differ; a detail has the annotated size and the file's, (w, h) px each."""
    pairs = list(sizes.values())
    factors = [file[axis] / annotated[axis] for annotated, file in pairs for axis in (0, 1)]
    middle = median(factors)
    if all(annotated == file[::-1] for annotated, file in pairs):
        return "width and height are swapped in the annotations: swap them"
    if all(abs(factor - middle) <= 0.02 * middle for factor in factors):
        return (
            f"the pictures were scaled by {middle:.3g} after they were annotated: scale the boxes and sizes with them, "
            "or use the pictures as they were"
        )
    return "the annotations were made for other pictures, or for these at another size: use those pictures"


_SAID: dict[SharedKind, tuple[str, str]] = {
    "missing_labels": (
        "have no label file",
        "see that the labels are where they are looked for; an empty label file marks a picture as background",
    ),
    "other_size": ("have another size than their annotations say", ""),
    "beyond_edge": (
        "have boxes that reach far over the edge",
        (
            "the boxes may be written in another way (corners, centres, or from the top left) or for pictures of "
            "another size: correct them"
        ),
    ),
    "outside_image": (
        "have boxes wholly outside",
        "the boxes may be of pictures of another size, or of other pictures: correct them",
    ),
    "no_area": (
        "have boxes without area",
        "corners may be swapped, or width and height written in place of the second corner: correct them",
    ),
    "below_pixel": (
        "have boxes narrower or lower than a pixel",
        "the boxes may be fractions of the image; they must be in pixels: multiply them by its size",
    ),
    "repeated_boxes": (
        "have boxes that are given twice",
        "the annotations may have been exported or merged twice: keep each once",
    ),
}
"""What images with the finding have in common, and the likely cause with its remedy."""
