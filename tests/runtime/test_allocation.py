"""Freed memory comes back without the system; whoever decided otherwise is obeyed."""

import os
import platform
import subprocess
import sys

import pytest

from glipkit.runtime.allocation import SWITCH

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is spoken to"
)

# Pages that are missing when 32 MiB are taken after others of twice the size were freed.
PROGRAM = """
import resource
import torch
from glipkit.runtime.allocation import keep_freed_memory
kept = keep_freed_memory()
for _ in range(8):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 23)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (32 << 20) // os.sysconf("SC_PAGE_SIZE")


def run(**environment: str) -> tuple[str, int]:
    others = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    others = {k: v for k, v in others.items() if k not in (SWITCH, "LD_PRELOAD")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=others | environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    kept, missing = done.stdout.split()
    return kept, int(missing)


def test_freed_memory_is_given_out_again() -> None:
    kept, missing = run(**{SWITCH: "1"})
    assert kept == "True"
    assert missing < PAGES / 100


@pytest.mark.parametrize(
    "decided",
    [
        {},
        {SWITCH: "1", "MALLOC_TOP_PAD_": "1"},
        {SWITCH: "1", "GLIBC_TUNABLES": "glibc.malloc.perturb=0"},
    ],
)
def test_whoever_decided_is_obeyed(decided: dict[str, str]) -> None:
    kept, missing = run(**decided)
    assert kept == "False"
    if SWITCH not in decided:
        assert missing > PAGES / 2048  # taken anew, in pages of 2 MiB at most
