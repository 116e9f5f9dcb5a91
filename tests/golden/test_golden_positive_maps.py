"""components/positive_maps.npz: phrases of free captions, as tokens and as training targets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from glipkit.grounding.alignment import normalised
from glipkit.grounding.captions import free_prompt
from glipkit.grounding.tokenizer import Tokenizer


@pytest.mark.parametrize("case", ["free", "multi_span", "span_with_spaces", "unicode", "truncated"])
def test_phrases_of_free_captions(golden: Path, case: str) -> None:
    text = json.loads((golden / "components" / "text.json").read_text())[f"pm.{case}"]
    maps = np.load(golden / "components" / "positive_maps.npz")[case]
    prompt = free_prompt(text["caption"], text["spans"])
    tokenizer = Tokenizer.load("bert-base-uncased")

    tokens = tokenizer(prompt, pad_to=256, truncate=case == "truncated")

    assert tokens.token_ids[tokens.token_mask].tolist() == text["ids"]
    assert [row.nonzero()[:, 0].tolist() for row in tokens.phrase_tokens] == text["nonzero"]
    torch.testing.assert_close(
        normalised(tokens.phrase_tokens), torch.from_numpy(maps), rtol=1e-6, atol=0
    )
