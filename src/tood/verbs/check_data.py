"""``tood data check``: problems of a data set as sentences, and a contact sheet of sample images."""

import logging
from pathlib import Path

from tood.data.check import check_dataset
from tood.data.contact_sheet import sample_grid
from tood.verbs.check_in_study import check_in_study, study_on
from tood.verbs.folders import PARAMS, RESULTS, dataset_folder
from tood.verbs.prepare_data import dataset_and_mirror

log = logging.getLogger(__name__)


def check(name: str, mirror: Path | None, out: Path | None, study: str | None = None) -> bool:
    """Log the findings and draw ``results/checks/<name>.png``; returns whether the data can be used as they are.

    With a ``study`` also what it would make of them at the sizes of its runs.
    """
    config, source = dataset_and_mirror(name, mirror)
    used_by = None if study is None else study_on(study, config)
    report = check_dataset(config, dataset_folder(config), mirror=source, params_root=PARAMS)
    for line in report.lines():
        log.info(line)
    picture = out or RESULTS / "checks" / f"{name}.png"
    shown = sample_grid(report.dataset, picture)
    if shown:
        log.info("%d samples with their boxes: %s", shown, picture)
    if used_by is None:
        return report.ok
    in_study = check_in_study(used_by, report.dataset)
    for line in in_study.lines():
        log.info(line)
    return report.ok and in_study.ok
