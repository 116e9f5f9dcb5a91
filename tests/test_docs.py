"""Every page of docs/: its links lead somewhere, its commands exist, and what can run here does.

A block of code below `<!-- run -->` is run by a test, in the order of the page, in a folder with
configs/, glipkit/ and tools/ of the checkout; one below `<!-- file: NAME -->` is a file there.
"""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from test_readme import TOOLS, check_glipkit, strip_launcher

from glipkit.engine import launch
from glipkit.inference.known import KNOWN
from glipkit.shell import main as shell

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
# Pages that go on from what another one made: its blocks up to the file come first.
GOES_ON = {
    "knowledge.md": "training_on_your_data.md",
    "prompt_tuning.md": "training_on_your_data.md",
    "augmentation.md": "training_on_your_data.md",
    "comparing.md": "training_on_your_data.md",
}
RUNS = ("quickstart.md", "training_on_your_data.md", "prompt_tuning.md", "knowledge.md",
        "checkpoints.md", "operators.md", "deployment.md", "augmentation.md",
        "comparing.md")  # fmt: skip

_BLOCK = re.compile(
    r"(?:<!-- (?P<said>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL
)


class Block(NamedTuple):
    """Some code of a page."""

    language: str
    text: str
    said: str  # the comment before it


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text()
    return [Block(m["language"], m["text"], m["said"] or "") for m in _BLOCK.finditer(text)]


def commands(block: Block) -> Iterator[list[str]]:
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def every_command() -> list[tuple[str, str]]:
    return [
        (page, shlex.join(words))
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for words in commands(block)
    ]


@pytest.mark.parametrize(("page", "command"), every_command(), ids=lambda text: text[:60])
def test_command_of_a_page_is_understood(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = strip_launcher(shlex.split(command))
    if words[0] == "glipkit":
        check_glipkit(words[1:])
    elif words[:2] == ["python", "-m"]:
        assert callable(importlib.import_module(words[2]).main)
    elif words[:2] == ["python", "tools/download_odinw.py"]:
        monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
        importlib.import_module("download_odinw").make_parser().parse_args(words[2:])
    elif words[0] == "python" and words[1] in (*TOOLS, "tools/run_odinw.py"):
        monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
        tool = importlib.import_module(Path(words[1]).stem)
        args = launch.parse(tool.make_parser(), words[2:])
        assert len(args.opts) % 2 == 0
    elif words[0] == "make":
        assert f"\n{words[1]}:" in (REPOSITORY / "Makefile").read_text()
    else:
        assert words[:2] in (["pip", "install"], ["git", "clone"]), f"{page}: nobody checks this"


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_is_code(page: str) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, page, "exec")
        elif block.language == "yaml":
            assert yaml.safe_load(block.text)
        else:
            assert block.language == "bash", f"{page}: {block.language}"
    assert (DOCS / page).read_text().count("```") == 2 * len(blocks(page))


def heading_anchors(text: str) -> set[str]:
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text()
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        path = DOCS / name if name else DOCS / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in heading_anchors(path.read_text()), f"{page}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert all(f"]({page})" in index for page in PAGES if page != "README.md")


def test_published_models_are_all_in_the_table() -> None:
    text = (DOCS / "checkpoints.md").read_text()
    for name, model in KNOWN.items():
        assert f"`{name}`" in text or f'"{name}"' in text
        assert Path(model.weights).name in text or name == "nano"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type the commands in."""
    for name in ("configs", "glipkit", "tools"):
        (tmp_path / name).symlink_to(REPOSITORY / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    for variable in ("DATASET", "GLIPKIT_MODELS"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def run_command(words: list[str]) -> int:
    if words[0] == "glipkit":
        return shell.main(words[1:])
    if words[:2] == ["python", "-m"]:
        return importlib.import_module(words[2]).main(words[3:])
    assert words[0] == "python"
    return importlib.import_module(Path(words[1]).stem).main(words[2:])


def run_block(block: Block, names: dict, folder: Path) -> None:
    if block.said.startswith("file: "):
        (folder / block.said.removeprefix("file: ")).write_text(block.text)
    elif block.said == "run" and block.language == "python":
        exec(compile(block.text, "a page", "exec"), names)
    elif block.said == "run":
        for words in commands(block):
            assert run_command(words) == 0, shlex.join(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNS)
def test_page_runs(page: str, checkout: Path) -> None:
    shipped = KNOWN["nano"].config_file.with_name("model.safetensors")
    if "nano" in (DOCS / page).read_text() and not shipped.is_file():
        pytest.skip("needs glip-nano, glipkit/models/nano, which this checkout does not have")
    names: dict = {}
    if before := GOES_ON.get(page):
        for block in blocks(before):
            run_block(block, names, checkout)
            if block.said.startswith("file: "):
                break
    for block in blocks(page):
        run_block(block, names, checkout)
