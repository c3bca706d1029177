"""Free memory: that of the machine, or less where a control group limits it."""

from pathlib import Path

import psutil
import pytest

from tood.io import free_memory as module
from tood.io.free_memory import free_memory

MB = 1_000_000


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (
            {"memory.max": 90 * MB, "memory.current": 60 * MB, "memory.stat": f"anon 5\ninactive_file {20 * MB}"},
            50 * MB,
        ),
        ({"memory.max": "max", "memory.current": 60 * MB, "memory.stat": "anon 5"}, None),
        (
            {
                "memory.limit_in_bytes": 90 * MB,
                "memory.usage_in_bytes": 60 * MB,
                "memory.stat": f"total_inactive_file {MB}",
            },
            31 * MB,
        ),
        ({"memory.max": 60 * MB, "memory.current": 61 * MB, "memory.stat": "anon 5"}, 0),
    ],
)
def test_a_control_group_leaves_what_it_has_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, object], left: int | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(module, "_own_folders", lambda: {tmp_path, tmp_path / "none"})
    machine = psutil.virtual_memory().available
    assert free_memory() == left if left is not None else free_memory() > machine / 2


def test_the_groups_around_a_process_are_looked_at() -> None:
    found = module._own_folders()
    assert Path("/sys/fs/cgroup") in found
    assert all(folder.is_relative_to("/sys/fs/cgroup") for folder in found)
