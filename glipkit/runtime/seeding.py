"""Where random numbers come from: seeds, and the states of all generators to save and restore."""

import random
from typing import Any

import numpy as np
import torch

from glipkit.runtime.distributed import rank

_SEEDS = 1 << 32  # numpy takes no larger ones


def seed_rank(seed: int) -> None:
    """Seed every global generator of this process, differently on every rank.

    Call it once the random weights are drawn, which must be the same on all ranks.

    Args:
        seed: any integer.
    """
    # Neighbouring seeds of neighbouring ranks would meet (seed 1 on rank 0, seed 0 on rank 1).
    own = int(np.random.SeedSequence([seed % _SEEDS, rank()]).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)  # GPUs too


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """The state of every global generator of this process, as tensors and numbers.

    Args:
        device: where this process computes; a GPU's generator is included.
    """
    version, words, next_normal = random.getstate()
    kind, keys, position, has_normal, cached_normal = np.random.get_state()
    state = {
        "python": [version, torch.tensor(words), next_normal],
        "numpy": [
            kind,
            torch.from_numpy(keys.astype(np.int64)),
            position,
            has_normal,
            cached_normal,
        ],
        "torch": torch.get_rng_state(),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Continue the random numbers of `random_state` where they stood.

    Args:
        state: as `random_state` gave it. A GPU's generator is left alone where the state or
            `device` has none.
        device: where this process computes.
    """
    version, words, next_normal = state["python"]
    random.setstate((version, tuple(words.tolist()), next_normal))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
