"""A study that names images for an evaluation server ends with a file for each of its runs."""

import json
import re
import zipfile

import numpy as np
import yaml
from PIL import Image
from tiny_project import Project


def test_a_study_with_a_submission_writes_it_for_every_run(finished: Project) -> None:
    files = finished.folder / "files"
    files.mkdir()
    shapes = json.loads((finished.folder / "data/shapes/annotations/val.json").read_text())
    Image.fromarray(np.full((50, 64, 3), 90, np.uint8)).save(files / "one.png")
    listing = {
        "images": [{"id": 7, "file_name": "one.png", "width": 64, "height": 50}],
        "categories": shapes["categories"],
    }
    (files / "list.json").write_text(json.dumps(listing))
    pictures = {"format": "images", "root": "files", "splits": {"test": {"images": ".", "listing": "list.json"}}}
    (finished.folder / "params/datasets/pictures.yaml").write_text(yaml.safe_dump(pictures))
    finished.edit("studies/demo", submission="pictures")
    plan = finished.snakemake("-n", "--quiet", "host")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", plan, re.MULTILINE))
    assert (jobs["submit"], jobs["prepare_submission_data"]) == ("2", "1")
    assert "train" not in jobs
    archive = "results/demo/atss/detections_test_atss_results.zip"
    finished.snakemake(archive)
    with zipfile.ZipFile(finished.folder / archive) as packed:
        results = json.loads(packed.read("detections_test_atss_results.json"))
    assert {one["image_id"] for one in results} <= {7}
    assert {one["category_id"] for one in results} <= {category["id"] for category in shapes["categories"]}
