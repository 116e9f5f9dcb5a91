"""Steps of a small but whole GLIP, on any number of processes: `python whole_steps.py FOLDER`."""

import sys
from pathlib import Path
from typing import Any

import torch
from sure import without_chance
from tiny import CHANNELS, TEXT_DIM, tiny_glip
from torch import Tensor

from glipkit.data.train_batch import TrainBatch
from glipkit.engine.parallel import copy_whole, is_sharded, on_main, wrap
from glipkit.engine.step import Stepper
from glipkit.modeling.atss import ATSSAssigner
from glipkit.modeling.criterion import Criterion
from glipkit.modeling.head.contrastive import ContrastiveAlignment
from glipkit.modeling.head.masked_language import MaskedLanguageHead
from glipkit.modeling.learner import Learner
from glipkit.runtime import distributed
from glipkit.structures.images import ImageBatch
from glipkit.structures.prompts import TokenizedPrompt, batch_prompts
from glipkit.structures.targets import GroundingTarget

CPU = torch.device("cpu")
SIZE = (64, 96)
WORDS = 1100
CASES = [
    (kind, dtype, recompute)
    for kind in ("ddp", "fsdp")
    for dtype, recompute in (
        (torch.float32, False),
        (torch.float64, False),
        (torch.float64, True),
    )
]


def learner(dtype: torch.dtype, recompute: bool = False) -> Learner:
    """With every kind of loss, and nothing drawn by chance."""
    torch.manual_seed(1)
    criterion = Criterion(
        ATSSAssigner(),
        contrastive=ContrastiveAlignment(CHANNELS, text_dim=TEXT_DIM),
        masked_language=MaskedLanguageHead(TEXT_DIM, vocabulary_size=WORDS),
    )
    return without_chance(Learner(tiny_glip(recompute=recompute), criterion)).to(dtype)


def batch(dtype: torch.dtype) -> TrainBatch:
    """Two pictures that have little in common: two boxes and one, seven words and five."""
    chance = torch.Generator().manual_seed(2)
    prompts = []
    for length in (7, 5):
        tokens = torch.zeros(2, length, dtype=torch.int64)
        tokens[0, 1:3], tokens[1, 3] = 1, 1
        ids = torch.arange(1000, 1000 + length)
        prompts.append(TokenizedPrompt(ids, ids > 0, tokens))
    both = batch_prompts(prompts, multiple=1)
    hidden = torch.full_like(both.token_ids, -100)
    hidden[0, 1:3], hidden[1, 3] = 1002, 1050
    boxes = torch.tensor([[5.2, 8.1, 70.3, 60.4], [60.5, 3.7, 95.1, 41.3]])
    alone = torch.tensor([[11.3, 12.2, 90.1, 57.4]])
    return TrainBatch(
        ImageBatch(torch.randn(2, 3, *SIZE, dtype=dtype, generator=chance), (SIZE, SIZE)),
        both,
        (
            GroundingTarget(boxes, torch.eye(2).bool(), 1),
            GroundingTarget(alone, torch.tensor([[False, True]]), 2),
        ),
        hidden,
    )


def steps(kind: str, dtype: torch.dtype, recompute: bool, *, pieces: int = 1) -> dict[str, Any]:
    """Three steps; on rank 0: the losses of each, the gradients of the first, the last weights."""
    own = learner(dtype, recompute)
    module = wrap(own, kind, device=CPU)
    optimizer = torch.optim.AdamW((p for p in own.parameters() if p.requires_grad), lr=1e-4)
    stepper = Stepper(module, optimizer, device=CPU, pieces=pieces, clip_norm=1.0)
    share = batch(dtype).split(distributed.world_size())[distributed.rank()]
    losses, norms, gradients = [], [], {}
    for number in range(3):
        report = stepper(share)
        assert not report.broken
        losses.append(report.losses)
        norms.append(report.grad_norm)
        if number == 0:
            gradients = _copied({n: p.grad for n, p in own.named_parameters() if p.requires_grad})
    plain = learner(dtype, recompute)
    copy_whole(own, plain)
    return {
        "losses": losses,
        "norms": norms,
        "gradients": gradients,
        "weights": _copied(dict(own.state_dict())),
        "plain": _copied(dict(plain.state_dict())),
        "sharded": is_sharded(module),
        "local share": sum(_local(p).numel() for p in own.parameters())
        / sum(p.numel() for p in own.parameters()),
    }


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor | None]:
    return {name: t if t is None else t.clone() for name, t in on_main(tensors).items()}


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def main() -> None:
    """All cases, one after the other."""
    torch.set_num_threads(1)
    distributed.init("gloo")
    results = [steps(*case) for case in CASES]
    if distributed.is_main():
        torch.save(results, Path(sys.argv[1]) / "results.pt")
    distributed.shutdown()


if __name__ == "__main__":
    main()
