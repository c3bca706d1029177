"""Digests of all code, for commands that are forked: they find them computed, as they find libraries imported."""

from tood.config.parts import ASSIGNERS, CRITERIA
from tood.workflow.code_digest import VERBS, code_behind, package_file

for _part in {name.rpartition(":")[0] for name in (*ASSIGNERS.values(), *CRITERIA.values())}:
    for _verb in VERBS:
        code_behind(_verb, [package_file(_part)])
