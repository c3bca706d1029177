"""Threads that wait for each other leave their cores to other computations."""

import subprocess
import sys

import pytest

from tood.cli.main import share_cores


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"GOMP_SPINCOUNT": "3000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_user_decided_stays(given: dict[str, str], wanted: dict[str, str]) -> None:
    share_cores(given)
    assert given == wanted


def test_it_is_said_before_pytorch_reads_it() -> None:
    code = "import sys, tood.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
