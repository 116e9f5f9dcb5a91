import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from glipkit.runtime.collector import collector_paused


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    was_on = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_left_as_it_was_found(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    with suppress(ImportError), collector_paused():
        assert not gc.isenabled()
        raise ImportError("broken")
    assert gc.isenabled() == was_on


def test_what_came_meanwhile_is_old_and_can_still_be_collected() -> None:
    with collector_paused():
        came = [[] for _ in range(1000)]
        assert any(each is came for each in gc.get_objects(generation=0))
    assert any(each is came for each in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0


def test_what_the_program_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with collector_paused():
        pass
    assert gc.get_freeze_count() == frozen > 0


@pytest.mark.parametrize("is_skipped", [True, False])
def test_the_last_search_can_be_left_out(is_skipped: bool) -> None:
    """Only the search: what the program registered itself still runs."""
    code = (
        "import atexit\n"
        "from glipkit.runtime.collector import skip_last_collection\n"
        f"{'skip_last_collection();' * 2 * is_skipped}\n"
        "atexit.register(print, 'registered')\n"
        "class Loud:\n"
        "    def __del__(self): print('collected')\n"
        "loud = Loud(); loud.itself = loud; del loud\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["registered"] + ["collected"] * (not is_skipped)
