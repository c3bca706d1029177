"""Averaged weights: the numbers of a plain loop, buffers of the detector, and a state to continue from."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from tood.config.schedule import EmaConfig
from tood.training.ema import AveragedDetector, averaged


def net() -> nn.Module:
    """With a frozen layer and live statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).double()
    model[0].requires_grad_(False)
    return model.train()


def move(model: nn.Module, step: int) -> None:
    """A step of some training."""
    draw = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))
    model(torch.randn(2, 2, 4, 4, generator=draw, dtype=torch.float64))


def trained(average: AveragedDetector, model: nn.Module, steps: range) -> None:
    for step in steps:
        move(model, step)
        average.update(step)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9998])
def test_averages_are_those_of_a_plain_loop(decay: float) -> None:
    model = net()
    average = AveragedDetector(model, EmaConfig(decay=decay))  # type: ignore[arg-type]
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(1, 41):
        move(model, step)
        average.update(step)
        kept = min(decay, step / (step + 9))
        expected = [
            kept * old + (1 - kept) * new.detach() for old, new in zip(expected, model.parameters(), strict=True)
        ]
    found = average.as_it_is()
    assert not found.training
    for own, wanted in zip(found.parameters(), expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-12)
        assert not own.requires_grad
    if decay == 0.0:
        assert all(torch.equal(own, last) for own, last in zip(found.parameters(), model.parameters(), strict=True))
    assert all(torch.equal(own, last) for own, last in zip(found.buffers(), model.buffers(), strict=True))
    assert int(found[1].num_batches_tracked) == 40  # type: ignore[index]
    assert model.training


def test_a_state_continues_to_the_same_bits_and_takes_the_frozen_weights_along() -> None:
    whole, stopped = net(), net()
    one, other = (AveragedDetector(model, EmaConfig(decay=0.9)) for model in (whole, stopped))  # type: ignore[arg-type]
    trained(one, whole, range(1, 13))
    trained(other, stopped, range(1, 6))
    state, weights = deepcopy(other.state()), deepcopy(stopped.state_dict())
    assert set(state) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    again = net()
    nn.init.zeros_(again[0].weight)  # as if its initial values were drawn otherwise
    resumed = AveragedDetector(again, EmaConfig(decay=0.9))  # type: ignore[arg-type]
    again.load_state_dict(weights)
    resumed.load(state)
    trained(resumed, again, range(6, 13))
    assert equal(resumed.as_it_is().state_dict(), one.as_it_is().state_dict())
    assert equal(dict(again.state_dict()), dict(whole.state_dict()))


def test_nothing_is_averaged_unless_asked_for() -> None:
    assert averaged(net(), None) is None  # type: ignore[arg-type]
    assert isinstance(averaged(net(), EmaConfig()), AveragedDetector)  # type: ignore[arg-type]
