"""What the processes of a study have to agree on: environment variables and exit statuses."""

import os
import signal

MIRROR = "TOOD_MIRROR"
"""Folder that replaces downloads; the workflow hands it to its rules."""
WORKFLOW = "TOOD_WORKFLOW"
"""Process id of the Snakemake that runs the rules."""
LAUNCHER = "TOOD_LAUNCHER"
"""Process id of the command that started torchrun."""
MEETING = "TOOD_MEETING"
"""Folder of this machine in which the processes of one launch find each other."""
RAISED = "TOOD_RAISED"
"""File in which a process of several leaves the sentence that its launcher says."""

BUG = 1
USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL
"""75: what the same command may get over when it is repeated."""
INTERRUPTED = 128 + signal.SIGINT
"""130, as a shell has it."""


def status_of_signal(number: int) -> int:
    """The exit status of a process that a signal ended, as a shell has it: 143 for SIGTERM."""
    return 128 + number
