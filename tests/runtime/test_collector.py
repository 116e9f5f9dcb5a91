import gc
import runpy
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from glipkit.runtime.collector import collector_paused

REPOSITORY = Path(__file__).parents[2]
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))


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
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    with collector_paused():
        came = Cycle()
        assert any(each is came for each in gc.get_objects(generation=0))
    assert any(each is came for each in gc.get_objects(generation=2))
    gone = weakref.ref(came)
    del came
    gc.collect()
    assert gone() is None


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


PROGRAMS = ("glipkit/__main__.py", "examples/demo.py", *(f"tools/{path.name}" for path in TOOLS))


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_skip_it_and_what_they_call_does_not(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable] = []
    monkeypatch.setattr("atexit.register", lambda function, *_: at_exit.append(function))
    monkeypatch.setattr("sys.argv", [program, "--help"])
    for name, is_program in (("called from Python", False), ("__main__", True)):
        with suppress(SystemExit):
            names = runpy.run_path(str(REPOSITORY / program), run_name=name)
            names["main"]()
        assert (gc.freeze in at_exit) == is_program


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["glipkit; glipkit.load", "glipkit.programs.training"])
def test_what_is_big_comes_without_a_search_of_everything(imports: str) -> None:
    """Seven times, without `collector_paused`; torch, which tools import first, is not ours."""
    code = (
        "import gc, torch\n"
        "searched = []\n"
        "gc.callbacks.append(lambda phase, about: searched.append(about['generation']))\n"
        f"import {imports}\n"
        "print(searched.count(2))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "0\n"
