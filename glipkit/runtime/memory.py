"""How much memory is free, and whether an error says that there was too little."""

from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
# A container's own limit and use, in bytes, and the line of memory.stat that it could give back:
# of control groups version 2, then version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_bytes(device: torch.device) -> int | None:
    """Memory that could be taken now.

    Args:
        device: a GPU: what its driver has free and what PyTorch holds without using it. Otherwise
            what the system can give without swapping, within the limit of this container.

    Returns:
        Bytes; None where the system does not say.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    known = [_available(_MEMINFO), *(_left_in_group(*map(Path, paths[:2]), paths[2])
                                     for paths in _GROUPS)]  # fmt: skip
    return min((amount for amount in known if amount is not None), default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how PyTorch or Python say that there was not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # PyTorch's CPU allocator raises a plain RuntimeError.
    said = ("not enough memory", "DefaultCPUAllocator", "CUDA out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def _available(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024  # "MemAvailable:  123 kB"
    return None


def _left_in_group(limit: Path, used: Path, reclaimable: str) -> int | None:
    limit_words, used_words = "".join(_lines(limit)).strip(), "".join(_lines(used)).strip()
    if not (limit_words.isdigit() and used_words.isdigit()):  # "max": no limit
        return None
    cached = 0  # pages of files, which are dropped when memory is wanted
    for line in _lines(limit.parent / "memory.stat"):
        if line.split(" ")[0] == reclaimable:
            cached = int(line.split()[1])
    return max(int(limit_words) - int(used_words) + cached, 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # another system, or not ours to read
        return []
