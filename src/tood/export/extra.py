"""The extra ``export``: packages that only exporting needs, and one sentence where they are missing."""

from collections.abc import Sequence
from importlib.util import find_spec

from tood.io.errors import UserError

TO_WRITE = ("onnx", "onnxscript", "onnxruntime")
TO_RUN = ("onnxruntime",)


def require(packages: Sequence[str], purpose: str) -> None:
    """UserError, which says what ``purpose`` needs, unless all packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{purpose}: needs {' and '.join(missing)}, which {verb} not installed; install the extra with: "
            "pip install '.[export]'"
        )
