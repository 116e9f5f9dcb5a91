"""Scripts and tools in several processes, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",  # of each: they share the cores
    "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
}


def command(script: Path, *words: str | Path, processes: int = 2) -> list[str]:
    """The command line that runs a script in so many processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc_per_node={processes}", str(script), *map(str, words)]


def launch(
    script: Path, *words: str | Path, processes: int = 2, timeout: int = 600
) -> subprocess.CompletedProcess:
    """Run a script in several processes and wait; what it says is kept, and how it ends."""
    return subprocess.run(
        command(script, *words, processes=processes),
        env=ENVIRONMENT, timeout=timeout, capture_output=True, text=True, check=False,
    )  # fmt: skip


def launched(script: Path, *words: str | Path, processes: int = 2, timeout: int = 600) -> str:
    """What a script says in several processes, which all must end well."""
    done = launch(script, *words, processes=processes, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
