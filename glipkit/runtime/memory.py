"""How much memory of a GPU is free, and whether an error says that there was too little."""

import torch

# How a plain RuntimeError says it: of PyTorch's CPU allocator, of CUDA's driver, of cuBLAS and
# cuDNN, which take memory beside PyTorch's allocator, and of C++.
_SAID = (
    *("not enough memory", "DefaultCPUAllocator", "CUDA out of memory"),
    *("CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "std::bad_alloc"),
)


def free_bytes(device: torch.device) -> int | None:
    """Memory that could be taken now.

    Args:
        device: a GPU.

    Returns:
        Bytes that its driver has free and that PyTorch holds without using them; None of what is
        no GPU.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how PyTorch or Python say that there was not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
