"""When a training step hands freed memory back, and that it computes nothing otherwise."""

import platform

import pytest
import torch
from tiny import tiny_glip
from torch import nn

from glipkit.engine import freed_memory
from glipkit.engine.freed_memory import hand_back_between_parts
from glipkit.runtime.allocation import SWITCH, hand_back


class Judged(nn.Module):
    """A learner as far as this needs one: a model, and losses of what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_glip()

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        text = self.model.encode_text(ids, torch.ones_like(ids, dtype=torch.bool))
        output = self.model.ground(self.model.encode_image(pixels), text)
        return {"token": sum(level.token_logits.sum() for level in output.levels)}


def test_a_step_hands_back_four_times_and_changes_no_gradient(monkeypatch):
    moments = []
    monkeypatch.setattr(freed_memory, "hand_back", lambda: moments.append(len(moments)))
    learner = Judged().eval()  # no chance
    pixels, ids = torch.randn(1, 3, 64, 64), torch.arange(1000, 1006)[None]

    def gradients() -> list[torch.Tensor | None]:
        learner.zero_grad()
        learner(pixels, ids)["token"].backward()
        return [p.grad for p in learner.parameters()]

    before = gradients()
    assert not moments
    hand_back_between_parts(learner)
    torch.testing.assert_close(gradients(), before, rtol=0, atol=0)
    assert moments == [0, 1, 2, 3]
    with torch.no_grad():
        learner(pixels, ids)
    assert len(moments) == 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc hands memory back")
def test_kept_memory_is_not_handed_back(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    assert hand_back()
    monkeypatch.setenv(SWITCH, "1")
    assert not hand_back()
