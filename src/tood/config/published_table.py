"""Published results: numbers that papers and repositories report for the rows of a study, each with its source.

A table of them is ``params/published/<name>.yaml``; a study names it in its field ``published``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Config, PositiveFloat, PositiveInt, Share, refuse
from tood.config.blocks import block_file, load_block
from tood.config.messages import nearest

Percent = Annotated[float, Field(ge=1.0, le=100.0)]


class PublishedAlignment(Config):
    """How well scores and IoUs agree, as the TOOD paper's Table 6 counts it."""

    pcc: float = Field(ge=-1.0, le=1.0, description="Rank correlation over the 50 most confident, without NMS.")
    iou10: Share = Field(description="Mean IoU of the 10 most confident, without NMS.")
    correct: PositiveInt = Field(description="Boxes after NMS with an IoU of at least 0.5.")
    redundant: PositiveInt = Field(description="Further boxes on the same objects.")
    error: PositiveInt = Field(description="Boxes with an IoU between 0.1 and 0.5.")


class PublishedValue(Config):
    """What one source reports for a row. AP values are percent, as printed."""

    source: str = Field(description="Key below 'sources'.")
    split: Literal["val", "test-dev"] = Field(description="COCO val2017 (minival) or test-dev2017.")
    epochs: PositiveInt | None = Field(None, description="Length of the training; leave out where it is not known.")
    note: str = Field("", description="What else sets the value apart from the row's other ones.")
    AP: Percent
    AP50: Percent | None = None
    AP75: Percent | None = None
    APs: Percent | None = None
    APm: Percent | None = None
    APl: Percent | None = None
    head_parameters: PositiveFloat | None = Field(None, description="Millions.")
    parameters: PositiveFloat | None = Field(None, description="Millions, of the whole detector.")
    head_gflops: PositiveFloat | None = None
    gflops: PositiveFloat | None = Field(None, description="Of the whole detector.")
    alignment: PublishedAlignment | None = None

    @model_validator(mode="after")
    def _loose_overlaps_are_found_more_often(self) -> "PublishedValue":
        above = (
            (name, value)
            for name, value in (("AP", self.AP), ("AP75", self.AP75))
            if self.AP50 is not None and value is not None and value > self.AP50
        )
        refuse([f"AP50 {self.AP50} is below {name} {value}, which cannot be" for name, value in above])
        return self

    def fraction(self, name: str) -> float | None:
        """An AP value (AP, AP50, …) as a fraction, like measured values; None where not reported."""
        percent = getattr(self, name)
        return None if percent is None else float(percent) / 100


class PublishedRow(Config):
    """A row of a published table; the first value is the table's own, others are further sources of the same."""

    label: str = Field("", description="For readers, where the study has no row of this name.")
    values: list[PublishedValue] = Field(min_length=1)


class PublishedTable(Config):
    """A table of published numbers; its rows have the names of the study's."""

    name: str
    title: str
    dataset: str = Field(description="Data set that the numbers are for; beside results on another they say nothing.")
    sources: dict[str, str] = Field(min_length=1, description="Key to the words of the footnote.")
    notes: tuple[str, ...] = Field((), description="What a reader of the table must know.")
    rows: dict[str, PublishedRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _sources_are_there(self) -> "PublishedTable":
        lacking = (
            (name, value.source, nearest(value.source, self.sources).rstrip(".?"))
            for name, row in self.rows.items()
            for value in row.values
            if value.source not in self.sources
        )
        refuse([f"row '{name}' has the source '{key}', which 'sources' lacks{hint}" for name, key, hint in lacking])
        return self


def load_published(name: str, params: Path, named_in: str | None = None) -> PublishedTable:
    """The table of ``params/published/<name>.yaml``; ``named_in`` is where the user named it.

    Raises UserError if there is no such file, it is malformed, or its data set is unknown.
    """
    named_in = named_in or f"published numbers '{name}'"
    table: PublishedTable = load_block(params, "published", name, PublishedTable, named_in)
    block_file(params, "datasets", table.dataset, f"{params}/published/{name}.yaml: field 'dataset'")
    return table
