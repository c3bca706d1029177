"""Names, on one line, of the packages that ``benchmarks/gpu.sh`` needs and this Python does not have."""

from importlib.util import find_spec

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "triton": "triton",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "timm": "timm",
    "typer": "typer",
    "pandas": "pandas",
    "pycocotools": "pycocotools",
    "psutil": "psutil",
    "filelock": "filelock",
    "defusedxml": "defusedxml",
    "matplotlib": "matplotlib",
}
"""Of this project's dependencies those that training, evaluation and prediction import."""


def main() -> None:
    print(" ".join(package for module, package in PACKAGES.items() if find_spec(module) is None))


if __name__ == "__main__":
    main()
