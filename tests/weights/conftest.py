"""Methods by name."""

from collections.abc import Callable

import pytest

from tood.config.method import MethodConfig

METHODS = {
    "tood": {"head": {"kind": "task_aligned"}, "criterion": {"kind": "task_aligned"}},
    "atss": {
        "head": {"kind": "parallel", "boxes": "delta", "centerness": True},
        "criterion": {"kind": "focal"},
    },
}


@pytest.fixture(scope="session")
def method_named() -> Callable[[str], MethodConfig]:
    return lambda name: MethodConfig.model_validate({"name": name, **METHODS[name]})
