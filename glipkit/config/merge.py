"""Settings laid over the defaults, one by one; the last one wins."""

import difflib
import re
from collections.abc import Iterable, Sequence

from yacs.config import CfgNode

from glipkit.config.checks import check, flatten
from glipkit.config.checks_training import check_training
from glipkit.config.defaults import defaults
from glipkit.config.errors import ConfigError
from glipkit.config.legacy import ALWAYS, LEGACY
from glipkit.config.values import dataset_entry, plausible, typed
from glipkit.config.yaml_files import Setting

_REGISTER = "DATASETS.REGISTER"
_DEFAULTS = flatten(defaults())
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")

# Keys that hold other keys.
SECTIONS = frozenset(
    key.rsplit(".", level)[0]
    for key in (*_DEFAULTS, *LEGACY)
    for level in range(1, key.count(".") + 1)
)


def parse_overrides(words: Sequence[str]) -> list[Setting]:
    """KEY VALUE KEY VALUE ..., as typed after the flags of a tool.

    Raises:
        ConfigError: not pairs.
    """
    flags = [word for word in words[::2] if str(word).startswith("--")]
    if flags:
        raise ConfigError(f"{flags[0]!r} is not known as a flag, and no KEY of a KEY VALUE pair")
    glued = [word for word in words[::2] if "=" in str(word)]
    if glued:
        key, _, value = str(glued[0]).partition("=")
        raise ConfigError(f"overrides are pairs KEY VALUE; write {key} {value}, not {glued[0]}")
    if len(words) % 2:
        odd = next((w for w in words[::2] if not _KEY.fullmatch(str(w))), None)
        where = f"no KEY is called {odd!r}" if odd else f"{words[-1]} has no VALUE"
        raise ConfigError(
            f"overrides are pairs KEY VALUE, but {where}: got {len(words)} words: "
            f"{' '.join(map(str, words))}"
        )
    return [
        Setting(key, value, f"override {key} {value}")
        for key, value in zip(words[::2], words[1::2])
    ]


def merge(
    settings: Iterable[Setting], *, training: bool = False
) -> tuple[CfgNode, dict[str, object]]:
    """Lay settings over the defaults.

    Args:
        settings: from files and overrides, in order.
        training: check what only a training run reads, too.

    Returns:
        The checked, frozen tree; and the keys without a meaning here that were given a value
        other than the published default, with that value.

    Raises:
        ConfigError: an unknown key, a wrong type, an unsupported value, or a contradiction.
    """
    cfg, unused, where = defaults(), {}, {}
    for setting in settings:
        try:
            if setting.key in LEGACY:
                unused[setting.key] = plausible(setting.key, setting.value, LEGACY[setting.key])
            else:
                set_key(cfg, setting.key, setting.value)
                where[setting.key] = setting.where
        except ConfigError as error:
            raise ConfigError(f"{setting.where}: {error}") from None
    check(cfg, where)
    if training:
        check_training(flatten(cfg), where)
    cfg.freeze()
    unusual = {
        key: value
        for key, value in unused.items()
        if value not in (LEGACY[key], ALWAYS.get(key, LEGACY[key]))
    }
    return cfg, unusual


def set_key(cfg: CfgNode, key: str, value: object) -> None:
    """Give a key a value of its type.

    Args:
        cfg: the tree, which is changed.
        key: with dots.
        value: of the key's type, or text that is read as such.

    Raises:
        ConfigError: an unknown key, or a wrong type; the message does not say where it stands.
    """
    if key == _REGISTER or key.startswith(_REGISTER + "."):
        _register(cfg.DATASETS.REGISTER, key[len(_REGISTER) + 1 :], value)
        return
    if key not in _DEFAULTS:
        raise ConfigError(_unknown(key))
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    node[name] = typed(key, value, _DEFAULTS[key])


def _register(register: CfgNode, path: str, value: object) -> None:
    """Add data sets, or fields of one. A data set's name may hold dots, a field's may not."""
    if path:
        name, _, field = path.rpartition(".")
        if not name:
            raise ConfigError(
                f"{_REGISTER} takes a data set and a field: {_REGISTER}.{path}.ann_file"
            )
        value = {name: {field: value}}
    if value is None:  # `REGISTER:` with nothing below
        return
    if not isinstance(value, dict):
        raise ConfigError(f"{_REGISTER} must map names of data sets to their fields, got {value!r}")
    for name, fields in value.items():
        known = register.get(str(name), CfgNode(new_allowed=True))
        known.update(dataset_entry(str(name), fields))
        register[str(name)] = known


def _unknown(key: str) -> str:
    if key in SECTIONS:
        inside = sorted(k for k in _DEFAULTS if k.startswith(key + "."))
        return f"{key} is a section; keys in it: {', '.join(inside) or 'none that means anything'}"
    message = f"unknown key {key}"
    nearest = difflib.get_close_matches(key.upper(), [*_DEFAULTS, *LEGACY, *SECTIONS], n=1)
    return f"{message}; did you mean {nearest[0]}?" if nearest else message
