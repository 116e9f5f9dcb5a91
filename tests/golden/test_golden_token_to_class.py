"""components/token_to_class.npz: token probabilities to class scores, four ways."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glipkit.grounding.alignment import phrase_scores


def counts(labels_to_tokens: dict[str, list[int]]) -> Tensor:
    rows = torch.zeros(len(labels_to_tokens), 256, dtype=torch.int64)
    for row, tokens in zip(rows, labels_to_tokens.values()):
        row[tokens] = 1
    return rows


@pytest.mark.parametrize("key", ["MEAN", "MAX", "ONEHOT", "v2.MEAN", "v2.MAX", "v2.POWER"])
def test_scores(golden: Path, key: str) -> None:
    arrays = np.load(golden / "components" / "token_to_class.npz")
    positive_map = json.loads(arrays["positive_map_json"].item())
    scores = phrase_scores(
        torch.from_numpy(arrays["token_probs"]), counts(positive_map), key.removeprefix("v2.")
    )
    expected = torch.from_numpy(arrays[key])
    if key != "ONEHOT":
        # The reference has a column for every possible label, and zeros for those not asked.
        columns = [int(label) - 1 for label in positive_map]
        rest = [column for column in range(expected.shape[-1]) if column not in columns]
        assert not expected[..., rest].any()
        expected = expected[..., columns]
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-7)
