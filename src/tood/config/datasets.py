"""Data set configuration: download source, annotation format, splits."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from tood.config.base import Config, GeneratedImages, Share, refuse
from tood.config.blocks import load_block
from tood.config.upstream import Source

TRAINING_SPLITS = ("train", "val")
"""The splits that a training reads: it trains on the first and is watched on the second."""


def _each_once(names: list[str]) -> list[str]:
    counts = Counter(names)
    blank = ["a class has a blank name"] if any(not name.strip() for name in counts) else []
    refuse([*blank, *(f"class '{name}' is listed {count} times" for name, count in counts.items() if count > 1)])
    return names


Classes = Annotated[list[str], Field(min_length=1), AfterValidator(_each_once)]


class Draw(Config):
    """Splits drawn by seed from one pool of images, or out of a split that is given."""

    val: Share = 0.2
    test: Share = 0.0
    seed: int = 0
    out_of: str | None = Field(None, description="The split, among 'splits', out of which the others are drawn.")
    together: Literal["near_duplicates"] | None = Field(
        None, description="Pictures that go to one side: frames of a film, resized or augmented copies."
    )

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "Draw":
        if self.val + self.test >= 1.0:
            raise ValueError("val + test must leave images to train on (be below 1)")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are drawn."""
        return tuple(name for name, share in (("val", self.val), ("test", self.test)) if share > 0)


SharedKind = Literal[
    "missing_labels", "other_size", "beyond_edge", "outside_image", "no_area", "below_pixel", "repeated_boxes"
]
"""Findings that are noted of single images and refused where most images share them."""


DuplicateRule = Literal["keep", "first", "refuse"]
"""What becomes of a picture under two annotations or in two splits."""


class TileConfig(Config):
    """Cutting of pictures into tiles, so that small objects in large pictures are large enough for the detector."""

    size: Annotated[int, Field(ge=64, le=65536)] = Field(640, description="Side of a tile in px of the picture.")
    overlap: Annotated[float, Field(ge=0.05, le=0.5)] = Field(
        0.2, description="Share of a tile's side that neighbours have in common at least."
    )


class _OnDisk(Config):
    """Fields shared by data sets that exist as files."""

    name: str
    source: Source | None = Field(None, description="Upstream; leave out for data that is already on disk.")
    root: str | None = Field(None, description="Folder of data that is already on disk.")
    duplicates: DuplicateRule | None = Field(
        None,
        description=(
            "A picture under two annotations or in two splits: keep both, keep the first, or refuse the data. By "
            "default one's own data are refused, and published ones (those with a source) kept as published."
        ),
    )
    rename: dict[str, str] = Field(
        {}, description="Class names as the files write them and as they are meant; a name given for itself is right."
    )
    accept: list[SharedKind] = Field(
        [], description="Findings that are right for this data set although most images share them."
    )
    tile: TileConfig | None = Field(
        None, description="Train, evaluate and predict on tiles of the pictures; left out, on whole pictures."
    )

    @model_validator(mode="after")
    def _has_one_origin_and_splits(self) -> "_OnDisk":
        problems = self._splits_problems()
        if (self.source is None) == (self.root is None):
            problems.insert(0, "give either 'root' (a folder on disk) or 'source' (where to download it)")
        refuse(problems)
        return self

    def _splits_problems(self) -> list[str]:
        return []


LossRule = Literal["refuse", "drop"]
"""What becomes of a picture that cannot be used."""


class _Annotated(_OnDisk):
    """Fields shared by data sets that can be trained on."""

    unreadable: LossRule = Field(
        "refuse", description="Pictures that cannot be decoded: refuse the data, or drop them with their annotations."
    )
    missing: LossRule = Field(
        "refuse", description="Pictures that are annotated but not there: refuse the data, or drop their annotations."
    )
    drop_empty: bool | None = Field(
        None,
        description="Train without images that have no annotation or a side below 32 px; left out, own data ('root') "
        "keep them and data with a 'source' do as the schedule says.",
    )


def _draw_problems(splits: Collection[str] | None, draw: Draw | None) -> list[str]:
    """What is wrong with splits of which some are given and others drawn; a pool alone is looked at elsewhere."""
    if draw is None:
        return []
    if splits is None:
        return ["field 'draw.out_of' is for data with 'splits'; leave it out"] if draw.out_of is not None else []
    if draw.out_of is None:
        return ["give either 'splits' or 'draw', or say by 'draw.out_of' out of which split the others are drawn"]
    problems = [f"'draw' draws the split '{name}', which 'splits' has too" for name in draw.names if name in splits]
    if draw.out_of not in splits:
        problems.append(f"field 'draw.out_of' is '{draw.out_of}', which 'splits' does not have")
    return problems or ([] if draw.names else ["field 'draw' draws nothing; raise 'draw.val' or leave it out"])


class CocoSplit(Config):
    images: str = Field(description="Folder of images below the root.")
    annotations: str = Field(description="COCO json below the root.")


class CocoDataset(_Annotated):
    format: Literal["coco"]
    splits: dict[str, CocoSplit] | None = None
    images: str | None = Field(None, description="Folder of images when the splits are drawn.")
    annotations: str | None = Field(None, description="COCO json when the splits are drawn.")
    draw: Draw | None = None
    leave_out: list[int | str] = Field(
        [], description="Categories, by name or id, that are no classes here; their objects are not used."
    )
    without_folders: bool = Field(
        False, description="Of each file_name the last part counts, as where folders of another machine are before it."
    )

    def _splits_problems(self) -> list[str]:
        drawn = self.draw is not None and self.images is not None and self.annotations is not None
        fits = self.splits is not None or drawn
        problems = [] if fits else ["give either 'splits' or all of 'images', 'annotations' and 'draw'"]
        return problems + _draw_problems(self.splits, self.draw)


class VocFolders(Config):
    images: str = Field(description="Folder of images below the root.")
    annotations: str = Field(description="Folder of their XML files below the root.")


def _by_shape(value: Any) -> Any:
    """A mapping is folders, anything else the path of a list: what is wrong is said of the one that it looks like."""
    if isinstance(value, dict):
        return VocFolders.model_validate(value)
    if not isinstance(value, str | VocFolders):
        raise PydanticKnownError("string_type")
    return value


VocSplit = Annotated[str | VocFolders, BeforeValidator(_by_shape)]


def _one_or_several(value: Any) -> Any:
    """Like :func:`_by_shape`, for a path or a list of paths."""
    if not isinstance(value, str | list) or any(not isinstance(one, str) for one in value):
        raise PydanticKnownError("string_type")
    return value


YoloSplit = Annotated[str | list[str], BeforeValidator(_one_or_several)]


class VocDataset(_Annotated):
    format: Literal["voc"]
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    splits: dict[str, VocSplit] | None = Field(
        None, description="Split name to a file of image stems, or to folders of its own."
    )
    draw: Draw | None = None
    classes: Classes | None = Field(None, description="Classes in label order; found in the files otherwise.")
    difficult: Literal["keep", "crowd", "drop"] = Field(
        "crowd",
        description="Objects marked difficult: ordinary, unused and ignored in evaluation, or left out.",
    )

    def _splits_problems(self) -> list[str]:
        problems = _draw_problems(self.splits, self.draw)
        return problems if self.splits is not None or self.draw is not None else ["give either 'splits' or 'draw'"]


RowKind = Literal["box", "polygon", "pose", "box_and_number"]
"""Rows of YOLO's label files: a box; the corners of an outline or turned box; a box and keypoints; a box and further
numbers that do not matter here (a confidence, a track)."""


class YoloDataset(_Annotated):
    format: Literal["yolo"]
    splits: dict[str, YoloSplit] | None = Field(
        None, description="Split name to a folder of images or a list file, or to several."
    )
    images: str | None = Field(None, description="Folder of images when the splits are drawn.")
    labels: str | None = Field(
        None, description="Folder of the label files of 'images', where its name does not follow from that."
    )
    draw: Draw | None = None
    classes: Classes | None = Field(None, description="Class names by index; read from data.yaml otherwise.")
    rows: RowKind | None = Field(
        None, description="What a row of a label file holds, where data.yaml and the rows themselves do not decide it."
    )

    def _splits_problems(self) -> list[str]:
        drawn = self.images is not None and self.draw is not None
        fits = drawn if self.splits is None else (self.images is None) == (self.labels is None)
        problems = [] if fits else ["give either 'splits' or both 'images' and 'draw'; 'labels' needs 'images'"]
        return problems + _draw_problems(self.splits, self.draw)


class ShapesSplit(Config):
    images: GeneratedImages
    seed: int


class ShapesDataset(Config):
    """The embedded, generated data set."""

    format: Literal["shapes"]
    name: str
    size: Annotated[int, Field(ge=64, le=1024)] = Field(128, description="Longer side of an image in pixels.")
    splits: dict[str, ShapesSplit]

    @model_validator(mode="after")
    def _splits_differ(self) -> "ShapesDataset":
        if len({split.seed for split in self.splits.values()}) < len(self.splits):
            raise ValueError("every split needs a seed of its own, or splits would share their pictures")
        return self


class ImageList(Config):
    images: str = Field(description="Folder of images below the root.")
    listing: str = Field(description="COCO json below the root that lists images and categories.")


class ImagesDataset(_OnDisk):
    """Images without annotations to run detection on, such as the test sets of challenges."""

    format: Literal["images"]
    splits: dict[str, ImageList] = Field(min_length=1)


DatasetConfig = Annotated[
    CocoDataset | VocDataset | YoloDataset | ShapesDataset | ImagesDataset, Field(discriminator="format")
]


def drops_empty(config: DatasetConfig) -> bool | None:
    """Whether training leaves out images without objects, as the data set has it; None where the schedule decides."""
    if not isinstance(config, _Annotated):
        return None
    return False if config.drop_empty is None and config.root is not None else config.drop_empty


def drops(config: DatasetConfig, loss: Literal["unreadable", "missing"]) -> bool | None:
    """Whether pictures that cannot be used for that reason are left out; None where the data set has no such choice."""
    if not isinstance(config, _Annotated):
        return None
    return (config.unreadable if loss == "unreadable" else config.missing) == "drop"


def tile_of(config: DatasetConfig) -> TileConfig | None:
    """How the pictures of a data set are cut into tiles; None where they are used as a whole."""
    return None if isinstance(config, ShapesDataset) else config.tile


def training_splits(config: DatasetConfig) -> set[str]:
    """Of the splits given in a data set's configuration, the ones that a training depends on."""
    pool = None if isinstance(config, ShapesDataset | ImagesDataset) or config.draw is None else config.draw.out_of
    return set(config.splits or ()) & {*TRAINING_SPLITS, pool}


def split_names(config: DatasetConfig) -> tuple[str, ...]:
    """The splits that a data set will have once it is prepared."""
    given = ("train",) if config.splits is None else tuple(config.splits)
    draw = None if isinstance(config, ShapesDataset | ImagesDataset) else config.draw
    return given if draw is None else (*given, *draw.names)


def load_dataset(name: str, params: Path, named_in: str | None = None) -> DatasetConfig:
    """The data set described by ``params/datasets/<name>.yaml``; ``named_in`` is where the user named it."""
    config: DatasetConfig = load_block(params, "datasets", name, DatasetConfig, named_in or f"data set '{name}'")
    return config
