"""A split as read from its own format, as columns: what its prepared table will hold."""

from collections.abc import Sequence

import numpy as np

from tood.data.columns import Annotations, Texts
from tood.data.formats.records import Category, RawSplit
from tood.data.split_table import SplitTable


def raw_table(split: RawSplit, categories: Sequence[Category]) -> SplitTable:
    """The table of a split before it is prepared, without images of unknown size; its folder stands for the file."""
    images = sorted((one for one in split.images if min(one.width, one.height) > 0), key=lambda image: image.id)
    classes = sorted(categories, key=lambda category: category.id)
    boxes = split.boxes
    return SplitTable(
        source=str(split.folder),
        category_ids=np.array([category.id for category in classes], np.int64),
        classes=tuple(category.name for category in classes),
        image_ids=np.array([image.id for image in images], np.int64),
        file_names=Texts.of(image.file_name for image in images),
        widths=np.array([image.width for image in images], np.int64),
        heights=np.array([image.height for image in images], np.int64),
        annotations=Annotations(
            image_ids=np.array([box.image_id for box in boxes], np.int64),
            category_ids=np.array([box.category_id for box in boxes], np.int64),
            boxes=np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4),
            areas=np.array([box.area for box in boxes], np.float64),
            crowd=np.array([box.crowd for box in boxes], bool),
            ignored=np.array([box.ignore for box in boxes], bool),
        ),
    )
