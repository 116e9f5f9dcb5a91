"""Fixtures every test may use: seeds, devices, words, golden numbers; which tests begin."""

import signal
from pathlib import Path

import pytest
import torch

from glipkit.grounding.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "data"
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


# A shell that starts the tests in the background lets them ignore Ctrl-C, and every process that
# they start would ignore it too: tests of interruptions would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long: else one of several workers ends long after the rest."""
    if hasattr(config, "workerinput"):  # of pytest-xdist, as `make test` runs
        long = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device an operator runs on; CUDA is left out where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; this machine has none")
    return request.param


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers (see its README.md)."""
    return GOLDEN


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """BERT's, which keeps nothing of what it reads."""
    return Tokenizer.load("bert-base-uncased")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures with real labels; they are not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the pictures of {SHARED_DATA}, which are not shipped")
    return SHARED_DATA
