"""The live view's line."""

import pytest

from tood.training import progress
from tood.training.progress import ProgressLine


def test_a_continued_training_has_no_speed_before_its_first_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    line = ProgressLine("atss", epochs=3, steps=30, started_step=10, _started=100.0, _printed=100.0)
    line.evaluated = "AP 0.200 AP50 0.400"
    caplog.set_level("INFO", logger="tood")
    now[0] += 7  # its last evaluation, done again
    line.pause(7)
    line.show(step=10, epoch=0, loss=1.5, batch=4)
    now[0] += 20
    line.show(step=20, epoch=1, loss=1.25, batch=4)
    assert caplog.messages == [
        "epoch 1/3  step 10/30  loss 1.500  AP 0.200 AP50 0.400",
        "epoch 2/3  step 20/30  loss 1.250  AP 0.200 AP50 0.400  2 images/s  27s left",
    ]
