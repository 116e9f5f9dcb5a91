import json
import sys
from pathlib import Path

import yaml

from glipkit.data.shapeworld.vocabulary import SHAPES

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import tuning_nano

REPOSITORY = Path(__file__).parents[2]
KEPT = REPOSITORY / "benchmarks" / "results" / "nano" / "tuning.json"


def test_what_chooses_and_what_judges_are_other_pictures(tmp_path: Path) -> None:
    drawn = tuning_nano.draw(tmp_path / "drawn", train=20, val=20)
    path = tuning_nano.write_task(drawn, tmp_path / "task", tuning_nano.NEVER_READ)
    task = yaml.safe_load(path.read_text())
    found = {}
    for name, entry in task["DATASETS"]["REGISTER"].items():
        content = json.loads(Path(entry["ann_file"]).read_text())
        found[name] = {Path(entry["img_dir"]) / each["file_name"] for each in content["images"]}
        assert [each["name"] for each in content["categories"]] == list(
            tuning_nano.NEVER_READ.values()
        )
        ids = {each["id"] for each in content["images"]}
        assert {each["image_id"] for each in content["annotations"]} <= ids
        assert {each["category_id"] for each in content["annotations"]} <= set(range(1, 13))
        assert all(picture.exists() for picture in found[name])
    assert {name: len(each) for name, each in found.items()} == {"train": 20, "val": 10, "test": 10}
    assert not found["val"] & found["test"]


def test_every_shape_has_a_word_that_nano_never_read() -> None:
    assert set(tuning_nano.NEVER_READ) == set(SHAPES)
    for shape, word in tuning_nano.NEVER_READ.items():
        assert word in SHAPES[shape].unseen


def test_the_page_has_the_figures() -> None:
    report = json.loads(KEPT.read_text())
    page = (REPOSITORY / "docs" / "prompt_tuning.md").read_text()
    for name in ("RECIPE", "SEEDS"):
        assert report[name.lower()] == getattr(tuning_nano, name)
    assert report["words"] == tuning_nano.NEVER_READ
    assert f"| as it ships | | | | {report['AP before']:.3f} |" in page
    assert f"{report['AP of the words it was trained with']:.3f} under the words it was" in page
    runs = {(run["mode"], run["rate"]) for run in report["runs"]}
    assert runs == {(mode, rate) for mode, rates in tuning_nano.RATES.items() for rate in rates}
    for run in report["runs"]:
        ap = f"{run['mean']:.3f} ± {run['deviation']:.3f}"
        name = run["mode"] if " " in run["mode"] else f"`{run['mode']}`"
        trained = f"{run['trained_parameters']:,}"
        row = f"| {name} | {run['rate']:g} | {trained} | {run['bytes'] / 1e3:,.0f} kB | {ap} |"
        assert row in page
