"""``resize_shapes*``: sizes of resized and padded images."""

from pathlib import Path

from reference_check.folder import read_json
from reference_check.rows import Report, UnsupportedError


def check_resize_shapes(folder: Path, stem: str, report: Report) -> None:
    try:
        from tood.data.transforms import resized_size
    except ImportError as error:
        raise UnsupportedError(f"tood.data.transforms.resized_size is missing: {error}") from error
    reference = read_json(folder / f"{stem}.json")
    long_edge, divisor = reference["long_edge"], reference["pad_divisor"]
    wrong = {"size": 0, "scale": 0, "padded size": 0}
    total = 0
    for row in reference["rows"]:
        width, height = row["w"], row["h"]
        for key, expected in row.items():
            if not key.startswith("short_"):
                continue
            total += 1
            new_w, new_h = resized_size(width, height, int(key.removeprefix("short_")), long_edge)
            padded = [-(-side // divisor) * divisor for side in (new_w, new_h)]
            wrong["size"] += (new_w, new_h) != (expected["new_w"], expected["new_h"])
            wrong["scale"] += (new_w / width, new_h / height) != (expected["scale_w"], expected["scale_h"])
            wrong["padded size"] += padded != [expected["pad_w"], expected["pad_h"]]
    for quantity, count in wrong.items():
        report.count(f"{quantity} of {total} resizes", count, total)
