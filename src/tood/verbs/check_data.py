"""``tood data check``: what is wrong with a data set, in plain words, and a sheet of samples."""

from pathlib import Path

from tood.data.check import check_dataset
from tood.data.contact_sheet import sample_grid
from tood.verbs.folders import PARAMS, RESULTS, Echo, dataset_folder
from tood.verbs.prepare_data import described


def check(name: str, mirror: Path | None, out: Path | None, echo: Echo) -> bool:
    """Say what was found and draw ``results/checks/<name>.png``; whether the data can be used as they are."""
    config, source = described(name, mirror)
    report = check_dataset(config, dataset_folder(config), mirror=source, params_root=PARAMS, echo=echo)
    for line in report.lines():
        echo(line)
    picture = out or RESULTS / "checks" / f"{name}.png"
    shown = sample_grid(report.dataset, picture)
    if shown:
        echo(f"{shown} samples with their boxes: {picture}")
    return report.ok
