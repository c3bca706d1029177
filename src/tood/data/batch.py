"""Batches: network inputs of one padded size with their objects."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.backbone import PixelsConfig
from tood.data.dataset import Sample
from tood.data.input_sizes import padded_size
from tood.data.normalisation import normalise, normalise_padded


@dataclass(frozen=True, eq=False)
class Batch:
    """B network inputs of one padded size with their objects in G slots."""

    images: Tensor
    """(B,3,H,W) zero padded right and bottom to multiples of 32; float32, or uint8 until ``normalised``."""
    sizes: Tensor
    """(B,2) int64 (height, width) before padding."""
    scales: Tensor
    """(B,2) float32 (width, height) factors from the original to the resized image."""
    original_sizes: Tensor
    """(B,2) int64 (height, width)"""
    image_ids: Tensor
    """(B,) int64"""
    boxes: Tensor
    """(B,G,4) float32 xyxy px of the resized image."""
    labels: Tensor
    """(B,G) int64, 0 in empty slots."""
    valid: Tensor
    """(B,G) bool, false in empty slots."""
    group: Tensor
    """(B,) int64 which of the step's groups an image belongs to; images of one follow each other."""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in self._tensors()})

    def normalised(self, pixels: PixelsConfig) -> "Batch":
        """With images as the network takes them, made where they are; those that are already stay as they are."""
        if self.images.dtype != torch.uint8:
            return self
        return dataclasses.replace(self, images=normalise_padded(self.images, self.sizes, pixels))

    def split(self, parts: int) -> list["Batch"]:
        """Equal shares of the images in their order, at the padded size and with the slots of the whole."""
        return self.pieces(-(-len(self.images) // parts))

    def pieces(self, most: int) -> list["Batch"]:
        """The same in parts of so many images, of which the last may have fewer; groups stay whole if so many are."""
        pieces = zip(*(value.split(most) for _, value in self._tensors()), strict=True)
        return [Batch(*tensors) for tensors in pieces]

    def clone(self) -> "Batch":
        return Batch(**{name: value.clone() for name, value in self._tensors()})

    def copy_(self, other: "Batch") -> None:
        """Take over the values of a batch of the same shapes."""
        torch._foreach_copy_(self.tensors(), other.tensors())

    def pin_memory(self) -> "Batch":
        return Batch(**{name: value.pin_memory() for name, value in self._tensors()})

    def tensors(self) -> list[Tensor]:
        """Its fields in their order."""
        return [value for _, value in self._tensors()]

    @classmethod
    def of_tensors(cls, tensors: Sequence[Tensor]) -> tuple["Batch", ...]:
        """Batches from their fields, those of one after those of the other."""
        count = len(dataclasses.fields(cls))
        return tuple(cls(*tensors[start : start + count]) for start in range(0, len(tensors), count))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


def collate(
    samples: Sequence[Sample],
    pixels: PixelsConfig,
    padded: tuple[int, int] | None = None,
    group: Sequence[int] | None = None,
    *,
    for_gpu: bool = False,
) -> Batch:
    """Normalise samples, then pad them with zeros to ``padded`` (width, height) px; all of one ``group`` by default.

    The size is by default the smallest multiple of 32 in each direction that fits them all. With ``for_gpu`` images
    are left to be normalised there, to where a quarter of the memory is then copied, and there are so many slots
    (``rounded_slots``) that few shapes occur.
    """
    sizes = torch.tensor([sample.image.shape[-2:] for sample in samples])
    original = torch.tensor([sample.original_size for sample in samples])
    width, height = padded or padded_size(int(sizes[:, 1].max()), int(sizes[:, 0].max()))
    objects = max(len(sample.labels) for sample in samples)
    slots = rounded_slots(objects) if for_gpu else objects
    images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8 if for_gpu else torch.float32)
    boxes = torch.zeros(len(samples), slots, 4)
    labels = torch.zeros(len(samples), slots, dtype=torch.int64)
    valid = torch.zeros(len(samples), slots, dtype=torch.bool)
    for row, sample in enumerate(samples):
        part = images[row, :, : sizes[row, 0], : sizes[row, 1]]
        if for_gpu:
            part.copy_(sample.image)
        else:
            normalise(sample.image, pixels, out=part)
        count = len(sample.labels)
        boxes[row, :count], labels[row, :count], valid[row, :count] = sample.boxes, sample.labels, True
    scales = (sizes.double() / original.double()).float().flip(1)
    image_ids = torch.tensor([sample.image_id for sample in samples])
    of_group = torch.tensor([0] * len(samples) if group is None else group)
    return Batch(images, sizes, scales, original, image_ids, boxes, labels, valid, of_group)


def rounded_slots(objects: int) -> int:
    """The next power of two, at least 8; no loss depends on slots that are empty."""
    return max(8, 1 << max(0, objects - 1).bit_length())
