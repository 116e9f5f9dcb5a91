"""From a YAML file to a list of settings that know where they stand, and back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from yacs.config import CfgNode

from glipkit.config.errors import ConfigError, MissingFileError

# Below these keys a file may name what it likes.
FREE = frozenset({"DATASETS.REGISTER"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One key, the value somebody gave it, and where."""

    key: str
    value: object
    where: str  # "file:line", or the override as typed


def read_settings(path: Path, sections: frozenset[str]) -> list[Setting]:
    """What a YAML file sets, in its order.

    Args:
        path: the file; UTF-8.
        sections: keys that hold other keys; anything else is a key with a value.

    Raises:
        MissingFileError: no file there.
        ConfigError: not YAML, not a mapping of keys, or a key that stands twice in it.
    """
    try:
        loader = yaml.SafeLoader(_text(path))
        root = loader.get_single_node()
        if root is None:
            raise ConfigError(f"{path} is empty; expected sections like MODEL, DATASETS, TEST")
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path} must hold KEY: value lines, it holds a {root.id}")
        _refuse_repeated_keys(path, root, seen=set())
        return list(_walk(path, loader, root, "", sections))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error


def to_yaml(cfg: CfgNode) -> str:
    """The whole tree as YAML; `load_config` reads the same values back from it."""
    return cfg.dump(allow_unicode=True, width=100)


def _text(path: Path) -> str:
    if path.is_dir():
        raise MissingFileError(f"{path} is a folder; expected a YAML file")
    if not path.is_file():
        raise MissingFileError(f"configuration file {path} not found (looked in {Path.cwd()})")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error}); expected a YAML file") from error


def _walk(
    path: Path, loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, sections: frozenset
) -> Iterator[Setting]:
    loader.flatten_mapping(node)  # YAML's own merge key, <<
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key must be a word, not a {name.id}")
        key = prefix + name.value
        if key not in sections or key in FREE:
            yield Setting(key, loader.construct_object(value, deep=True), where)
        elif isinstance(value, yaml.MappingNode):
            yield from _walk(path, loader, value, key + ".", sections)
        elif loader.construct_object(value, deep=True) is not None:  # `TEST:` with nothing below
            raise ConfigError(f"{where}: {key} is a section, it holds keys and no value of its own")


def _refuse_repeated_keys(path: Path, node: yaml.Node, seen: set[int]) -> None:
    """YAML readers keep the last of two equal keys and say nothing; the first would be lost."""
    if id(node) in seen:  # an alias may point back at its own parent
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for element in node.value:
            _refuse_repeated_keys(path, element, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, value in node.value:
            text, line = str(name.value), name.start_mark.line + 1
            if text in lines and text != "<<":
                raise ConfigError(
                    f"{path}:{line}: {text} stands twice in the same section, first in line "
                    f"{lines[text]}; keep one"
                )
            lines[text] = line
            _refuse_repeated_keys(path, value, seen)
