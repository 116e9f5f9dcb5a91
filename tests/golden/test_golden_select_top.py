"""components/select_top.npz: suppression over all levels, then the cap on what is reported."""

from pathlib import Path

import numpy as np
import torch

from glipkit.modeling.postprocess import best
from glipkit.ops.nms import nms


def test_suppress_and_cap(golden: Path) -> None:
    arrays = np.load(golden / "components" / "select_top.npz")
    given = {name: torch.from_numpy(arrays[name]) for name in ("boxes", "scores", "labels")}
    kept = nms(*given.values(), 0.6, plus_one=True)
    reported = best(given["scores"][kept][None], int(arrays["cap"]))[0] >= 0
    kept = kept[reported].sort().values
    for name, values in given.items():
        expected = torch.from_numpy(arrays[f"out_{name}"])
        torch.testing.assert_close(values[kept], expected, rtol=0, atol=0)
