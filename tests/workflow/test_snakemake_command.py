"""What the command line of Snakemake asks for is known before anything is refused."""

import pytest

from tood.workflow.snakemake_command import snakemake_command


@pytest.mark.parametrize(
    ("words", "targets", "only_lint"),
    [
        ("/bin/snakemake --cores all --config study=demo gpu=0", set(), False),
        ("snakemake data/shapes/dataset.json -n --config study=demo", {"data/shapes/dataset.json"}, False),
        ("snakemake --cores 2 a.json b.json", {"a.json", "b.json"}, False),
        ("/lib/snakemake/__main__.py --lint", set(), True),
        ("snakemake --no-such-option", set(), False),
        ("pytest a.json", set(), False),
    ],
)
def test_targets_and_lint_are_recognised(words: str, targets: set[str], only_lint: bool) -> None:
    found = snakemake_command(words.split())
    assert (set(found.targets), found.only_lint) == (targets, only_lint)
