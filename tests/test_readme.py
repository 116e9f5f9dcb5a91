"""Every command in README.md and DATASET.md is one that exists and understands its words."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from glipkit.config.load import expand_task_files, load_tasks
from glipkit.data.shapeworld.world import World
from glipkit.engine import launch

REPOSITORY = Path(__file__).parents[1]
PAGES = ("README.md", "DATASET.md", "CONTRIBUTING.md", "benchmarks/README.md", "csrc/README.md")

TOOLS = ("tools/test_grounding_net.py", "tools/train_net.py", "tools/finetune.py")


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line in a bash block, continuation lines joined."""
    found = []
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    found.append((page, shlex.join(words)))
    return found


def strip_launcher(words: list[str]) -> list[str]:
    """The program and its arguments, without environment settings or the process launcher."""
    while "=" in words[0]:
        words = words[1:]
    if words[0] == "torchrun":
        words = ["python", *[word for word in words[1:] if not word.startswith("--nproc")]]
    return words


def check_make(words: list[str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in words:
        if not target.startswith("-") and "=" not in target:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


def check_tool(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    tool = importlib.import_module(Path(words[0]).stem)
    args = launch.parse(tool.make_parser(), words[1:])
    files = expand_task_files(args.task_config)
    assert files
    training = tool.__name__ != "test_grounding_net"
    assert len(load_tasks(args.config_file, files, args.opts, training=training)) == len(files)


def check_glipkit(words: list[str]) -> None:
    command = importlib.import_module(f"glipkit.shell.flags.{words[0]}")
    parser = argparse.ArgumentParser(prog=words[0])
    command.add_arguments(parser)
    parser.parse_args(words[1:])


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda text: text[:60])
def test_command_is_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = strip_launcher(shlex.split(command))
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "python" and words[1] in TOOLS:
        check_tool(words[1:], monkeypatch)
    elif words[:2] == ["python", "-m"]:
        module = importlib.import_module(words[2])
        assert callable(module.main)
    elif words[0] in ("python", ".venv/bin/python"):
        assert (REPOSITORY / words[1]).is_file(), f"{page} names {words[1]}"
    elif words[0] in ("pip", ".venv/bin/pip"):
        assert words[1] == "install"
    elif words[0] == "glipkit":
        check_glipkit(words[1:])
    elif words[0].endswith(("pytest", "pre-commit")):
        for path in (word for word in words[1:] if word.startswith("tests")):
            assert (REPOSITORY / path.split("::")[0]).exists(), f"{page} names {path}"
    else:
        assert words[0] in ("git", "cd"), f"{page} has a command nobody checks: {command}"


@pytest.mark.slow
def test_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of README, in the order of the page, about a picture that is drawn here."""
    monkeypatch.chdir(tmp_path)
    picture, _ = World(seed=1).draw("val", 0)
    picture.save("street.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 2
    assert names["found"].source == "street.jpg"
    assert (tmp_path / "out.jpg").is_file()


def test_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        for target in re.findall(r"\]\((?!http|#)([^)#]+)\)", text):
            assert (REPOSITORY / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_readme_begins_with_the_two_commands() -> None:
    head = (REPOSITORY / "README.md").read_text().split("## ")[0]
    assert "make demo" in head
    assert "make test" in head


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_are_importable(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    assert callable(importlib.import_module(Path(tool).stem).main)
