"""Does bf16 autocast train like float32? Loss curves of both, against the spread between seeds.

    python benchmarks/number_formats.py [--steps 200] [--batch 4] [--seeds 4] [--methods tood atss gfl]

Runs of the study ``demo`` begin to train as it says (``tood data prepare shapes`` and ``tood pretrain light`` make
what they need), but at 128 pixels; TOOD's ATSS phase takes 30 % of the steps. A bf16 training and its float32 twin
share initial weights and batches, so what differs between them is rounding; what differs between seeds is chance.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tood.config.study import RunConfig, load_study
from tood.data.loader import train_batches
from tood.detection.training_batch import Progress
from tood.training.optim import LearningRate, build_optimiser, set_learning_rate
from tood.training.processes.distributed import Group
from tood.training.setup import prepare_training
from tood.training.step import step_gradient
from tood.verbs.folders import DATA, PARAMS
from tood.verbs.open_run import open_dataset

WINDOW = 20
"""Steps over which a curve is averaged: a single batch's loss says more about the batch than about training."""
_SIDE = 128

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Curves (S, W) of S seeds, each mean loss over W windows of steps."""

    float32: Curve
    bf16: Curve

    @property
    def distance(self) -> Curve:
        """(W,) how far a bf16 curve lies from its float32 twin, mean over seeds."""
        return np.asarray(np.abs(self.bf16 - self.float32).mean(axis=0))

    @property
    def spread(self) -> Curve:
        """(W,) how far float32 curves of two seeds lie apart, mean over all pairs."""
        pairs = itertools.combinations(self.float32, 2)
        return np.asarray(np.mean([np.abs(first - second) for first, second in pairs], axis=0))

    @property
    def within(self) -> NDArray[np.bool_]:
        """(W,) whether the mean bf16 curve lies between the lowest and the highest float32 curve."""
        mean = self.bf16.mean(axis=0)
        return np.asarray((mean >= self.float32.min(axis=0)) & (mean <= self.float32.max(axis=0)))


def configure(method: str, *, batch: int, seed: int) -> RunConfig:
    """A run of the study ``demo``, small."""
    config = load_study("demo", PARAMS).run(method)
    images = config.schedule.images.model_copy(update={"short": _SIDE, "long": _SIDE})
    schedule = config.schedule.model_copy(update={"images": images, "batch": batch, "milestones": []})
    return config.model_copy(update={"schedule": schedule, "seed": seed})


def loss_curve(config: RunConfig, *, steps: int, precision: str, device: torch.device) -> list[float]:
    """The total loss at each step of a training's beginning."""
    setup = prepare_training(config, open_dataset(config.dataset), DATA / "pretrained")
    detector, dataset = setup.detector.to(device).train(), setup.dataset
    optimiser = build_optimiser(detector, config.schedule)
    group = Group(rank=0, world=1, device=device)
    batch = config.schedule.batch
    losses: list[torch.Tensor] = []
    means: dict[str, torch.Tensor] = {}
    rate = LearningRate.of(config.schedule, steps, setup.fit.per_epoch)
    for epoch in range(-(-steps // setup.fit.per_epoch)):
        batches = train_batches(dataset, batch=batch, seed=config.seed, epoch=epoch, rank=0, world=1)
        for one in itertools.islice(batches, steps - len(losses)):
            set_learning_rate(optimiser, rate.at(len(losses)))
            optimiser.zero_grad(set_to_none=True)
            progress = Progress(epoch=epoch, step=len(losses), total_steps=steps)
            found = step_gradient(
                detector,
                setup.criterion,
                [images.to(device) for images in one],
                progress,
                group=group,
                precision=precision,
                means=means,
            )
            means = found.means
            if config.schedule.grad_clip is not None:
                torch.nn.utils.clip_grad_norm_(detector.parameters(), config.schedule.grad_clip)
            optimiser.step()
            losses.append(torch.stack(list(found.losses.values())).sum())
    return [float(loss) for loss in losses]


def compare(method: str, *, steps: int, batch: int, seeds: int, device: torch.device) -> Comparison:
    curves: dict[str, list[Curve]] = {"float32": [], "bf16": []}
    for seed in range(seeds):
        config = configure(method, batch=batch, seed=seed)
        for precision, found in curves.items():
            curve = np.array(loss_curve(config, steps=steps, precision=precision, device=device))
            found.append(curve[: steps // WINDOW * WINDOW].reshape(-1, WINDOW).mean(axis=1))
    return Comparison(np.stack(curves["float32"]), np.stack(curves["bf16"]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=["tood", "atss", "gfl"], help="runs of the study demo")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    if options.seeds < 2 or options.steps < WINDOW:
        parser.error(f"a spread needs at least 2 seeds, a curve at least {WINDOW} steps")
    print(f"{options.steps} steps of {options.batch} images, {options.seeds} seeds, means over {WINDOW} steps")
    within = True
    for method in options.methods:
        found = compare(
            method,
            steps=options.steps,
            batch=options.batch,
            seeds=options.seeds,
            device=torch.device(options.device),
        )
        print(f"\n{method}: float32 lowest, mean, highest; bf16 mean; distance of twins, of seeds")
        full = found.float32
        rows = zip(
            full.min(0), full.mean(0), full.max(0), found.bf16.mean(0), found.distance, found.spread, strict=True
        )
        for window, row in enumerate(rows, start=1):
            print(f"  step {window * WINDOW:>4}" + "".join(f"  {value:7.4f}" for value in row))
        ratio = found.distance.mean() / found.spread.mean()
        print(f"  bf16 mean within float32 in {found.within.sum()} of {found.within.size} windows; ", end="")
        print(f"distance of twins / of seeds {ratio:.3f}", flush=True)
        within = within and bool(found.within.all()) and ratio < 1
    print("\nbf16 stays within the spread of float32" if within else "\nbf16 leaves the spread of float32")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
