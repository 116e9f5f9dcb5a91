"""The LVIS benchmark judges what it says it judges."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import lvis_ap


def test_pictures_are_judged_and_their_cost_is_told() -> None:
    found = lvis_ap.alone(4)
    assert (found["pictures"], found["detections"]) == (4, 4 * lvis_ap.PER_IMAGE)
    assert 0.05 < found["ap"] < 0.95
    assert found["gib_at_most"] >= found["gib_with_file_loaded"] > 0
    assert found["seconds_to_take"] > 0
    assert lvis_ap.alone(4)["ap"] == pytest.approx(found["ap"], abs=0)  # from seeds
