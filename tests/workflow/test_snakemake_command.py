"""What the command line of Snakemake asks for is known before anything is refused."""

import pytest

from tood.workflow.snakemake_command import snakemake_command


@pytest.mark.parametrize(
    ("words", "targets", "only_lint", "trains"),
    [
        ("/bin/snakemake --cores all --config study=demo gpu=0", set(), False, True),
        ("snakemake data/shapes/dataset.json -n --config study=demo", {"data/shapes/dataset.json"}, False, False),
        ("snakemake --cores 2 a.json data/b.json", {"a.json", "data/b.json"}, False, True),
        ("/lib/snakemake/__main__.py --lint", set(), True, True),
        ("snakemake --no-such-option", set(), False, True),
        ("pytest a.json", set(), False, True),
    ],
)
def test_targets_and_lint_are_recognised(words: str, targets: set[str], only_lint: bool, trains: bool) -> None:
    found = snakemake_command(words.split())
    assert (set(found.targets), found.only_lint, found.trains) == (targets, only_lint, trains)
