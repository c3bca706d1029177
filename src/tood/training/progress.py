"""Progress line of a training, logged every few seconds."""

import time
from dataclasses import dataclass, field

from tood.io.console import run_log
from tood.io.count_line import time_left


@dataclass
class ProgressLine:
    """Logs epoch, step, loss, speed and the time left of a training."""

    run: str
    epochs: int
    steps: int
    interval: float = 5.0
    started_step: int = 0
    _started: float = field(default_factory=time.monotonic)
    _printed: float = field(default_factory=time.monotonic)
    _paused: float = 0.0
    evaluated: str = "AP50 –"

    def due(self) -> bool:
        return time.monotonic() - self._printed >= self.interval

    def pause(self, seconds: float) -> None:
        """Time that was not training (evaluation), left out of the speed."""
        self._paused += seconds

    def show(self, *, step: int, epoch: int, loss: float, batch: int) -> None:
        """Log the line for ``step`` steps done in the 0-based ``epoch``."""
        now = time.monotonic()
        self._printed = now
        done = max(1, step - self.started_step)
        elapsed = now - self._started
        training = max(1e-9, elapsed - self._paused)
        left = elapsed / done * (self.steps - step)
        speed = done * batch / training
        run_log(__name__, self.run).info(
            "epoch %d/%d  step %d/%d  loss %.3f  %s  %.0f images/s  %s left",
            min(epoch + 1, self.epochs),
            self.epochs,
            step,
            self.steps,
            loss,
            self.evaluated,
            speed,
            time_left(left),
        )
