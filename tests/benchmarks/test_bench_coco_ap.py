"""The COCO benchmark compares figures that say something, and they are the same."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import coco_ap


def test_both_sides_find_the_same(tmp_path: Path) -> None:
    assert coco_ap.main(["--quick", "--json", str(tmp_path / "rows.json")]) == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["outputs_match"] is True
    assert row["difference"] <= 1e-12
    assert 0.05 < row["ap"] < 0.95
