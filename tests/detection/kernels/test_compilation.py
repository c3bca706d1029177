"""The kernels compile for a GPU."""

from collections.abc import Callable


def test_kernels_compile_without_a_gpu(run_file: Callable[..., None]) -> None:
    run_file("compiled_kernels.py", TRITON_INTERPRET="0")
