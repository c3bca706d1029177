"""How two rows were trained differently, beyond their method: what else could explain a difference in AP."""

from tood.reporting.flat_settings import differing, with_same_keys
from tood.reporting.run_folder import RunFolder

_COMPARED = ("schedule", "backbone", "fitted")
_NAMES = ("schedule.name", "backbone.name")
_CIRCUMSTANCES = {
    "epochs": "epochs",
    "steps": "steps",
    "effective_batch": "images a step",
    "learning_rate": "learning rate",
    "precision": "precision",
}


def unlike_settings(reference: RunFolder, other: RunFolder) -> tuple[str, ...]:
    """Settings of schedule and backbone, and circumstances of the training, as ``name: reference's -> other's``."""
    configs = [run.config() for run in (reference, other)]
    # What a schedule came to is not on record for trainings of early versions.
    parts = [part for part in _COMPARED if part != "fitted" or all(config.get(part) for config in configs)]
    tables = with_same_keys([{part: config.get(part) or {} for part in parts} for config in configs])
    settings = [f"{key}: {tables[0][key]} -> {tables[1][key]}" for key in differing(tables) if key not in _NAMES]
    first, second = reference.training(), other.training()
    circumstances = [
        f"{text}: {getattr(first, name)} -> {getattr(second, name)}"
        for name, text in _CIRCUMSTANCES.items()
        if None not in (getattr(first, name), getattr(second, name)) and getattr(first, name) != getattr(second, name)
    ]
    return (*circumstances, *settings)
