"""Constants shared by all processes of a study: environment variables and exit statuses."""

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
"""File in which one of several processes leaves its error for the launcher to report."""
PASSING = ".passing"
"""Suffix of that file for an error after which the processes are started again."""
GRAPHS = "TOOD_GRAPHS"
"""0: record no CUDA graphs."""
SYSTEM_FILE = "system.csv"
"""In a run's folder: the load of the machine while it trained."""

BUG = 1
USER_ERROR = 2
TRY_AGAIN = os.EX_TEMPFAIL
"""75 (EX_TEMPFAIL): the same command may succeed when it is repeated."""
INTERRUPTED = 128 + signal.SIGINT
"""130, the shell's status after Ctrl-C."""


def status_of_signal(number: int) -> int:
    """The exit status that a shell reports for a process ended by a signal: 143 for SIGTERM."""
    return 128 + number
