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
        """Log the line for ``step`` steps done in the 0-based ``epoch``; without a speed before the first of them."""
        now = time.monotonic()
        self._printed = now
        line = f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}  step {step}/{self.steps}  loss {loss:.3f}  "
        line += self.evaluated
        done = step - self.started_step
        if done:
            elapsed = now - self._started
            speed = done * batch / max(1e-9, elapsed - self._paused)
            line += f"  {speed:.0f} images/s  {time_left(elapsed / done * (self.steps - step))} left"
        run_log(__name__, self.run).info("%s", line)
