"""Exponential moving average of a detector's weights, which is evaluated and kept instead of the last weights."""

import copy

import torch
from torch import Tensor

from tood.config.schedule import EmaConfig
from tood.detection.detector import Detector

_GROWTH = 9  # the average looks back over about a ninth of the steps that were done


class AveragedDetector:
    """A copy of a detector with the average of its trained weights; buffers are the detector's last."""

    def __init__(self, detector: Detector, config: EmaConfig) -> None:
        self.detector = copy.deepcopy(detector).requires_grad_(False).eval()
        self._decay = config.decay
        trained = [name for name, parameter in detector.named_parameters() if parameter.requires_grad]
        own, source = dict(self.detector.named_parameters()), dict(detector.named_parameters())
        self._names = trained
        self._average = [own[name].data for name in trained]
        self._weights = [source[name] for name in trained]
        self._source = detector

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after ``step`` steps (from 1). Nothing here waits for the device."""
        weight = 1.0 - min(self._decay, step / (step + _GROWTH))
        torch._foreach_lerp_(self._average, [parameter.data for parameter in self._weights], weight)

    def as_it_is(self) -> Detector:
        """The averaged detector, with the buffers that the detector has now."""
        for own, last in zip(self.detector.buffers(), self._source.buffers(), strict=True):
            own.copy_(last)
        return self.detector

    def state(self) -> dict[str, Tensor]:
        """The averages by the names of the parameters."""
        return dict(zip(self._names, self._average, strict=True))

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of :meth:`state`; what is not averaged is the detector's."""
        self.detector.load_state_dict(self._source.state_dict())
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(state[name])


def averaged(detector: Detector, config: EmaConfig | None) -> AveragedDetector | None:
    """None where the schedule averages nothing."""
    return None if config is None else AveragedDetector(detector, config)
