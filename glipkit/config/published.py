"""A configuration that scripts written for GLIP change in place, as they do there.

    from glipkit.config import cfg

    cfg.local_rank, cfg.num_gpus = 0, 1
    cfg.merge_from_file("configs/pretrain/glip_Swin_T_O365_GoldG.yaml")
    cfg.merge_from_list(["MODEL.WEIGHT", "MODEL/glip_tiny_model_o365_goldg_cc_sbu.pth"])

Everything else in glipkit takes what `load_config` returns, which is checked and frozen; `checked`
makes one of the other.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path

from yacs.config import CfgNode

from glipkit.config.checks import flatten
from glipkit.config.defaults import defaults
from glipkit.config.errors import ConfigError
from glipkit.config.legacy import LEGACY
from glipkit.config.load import report_unused
from glipkit.config.merge import SECTIONS, merge, parse_overrides, set_key
from glipkit.config.values import plausible
from glipkit.config.yaml_files import Setting, read_settings

_KEY = re.compile(r"[A-Z][A-Z0-9_]*")  # others in the root are a script's own: local_rank, num_gpus


class OpenConfig(CfgNode):
    """Every published key with its published default, to be written to.

    Also those without a meaning here, which scripts set all the same. Files and lists are read as
    `load_config` reads them; attributes can be anything until `checked` looks at them.
    """

    @classmethod
    def of_defaults(cls) -> "OpenConfig":
        """A fresh one, with published defaults."""
        cfg = cls()
        cfg.update(defaults())
        for key, value in LEGACY.items():
            if not isinstance(value, dict):
                _put(cfg, key, copy.deepcopy(value))
        return cfg

    def merge_from_file(self, cfg_filename: str | PathLike[str]) -> None:
        """Lay a YAML file over what is set.

        Raises:
            MissingFileError: the file is not there.
            ConfigError: it is not YAML, or has an unknown key or a value of the wrong type.
        """
        self._lay(read_settings(Path(cfg_filename), SECTIONS))

    def merge_from_list(self, cfg_list: Sequence[object]) -> None:
        """Lay ["KEY", value, "KEY", value, ...] over what is set.

        Raises:
            ConfigError: not pairs, an unknown key, or a value of the wrong type.
        """
        self._lay(parse_overrides(cfg_list))

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        """Lay all that another configuration has over what is set.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type.
        """
        self._lay(Setting(key, value, f"cfg.{key}") for key, value in flatten(cfg_other).items())

    def _lay(self, settings: Iterable[Setting]) -> None:
        if self.is_frozen():
            raise AttributeError("the configuration is frozen; call cfg.defrost() first")
        for setting in settings:
            try:
                if setting.key in LEGACY:
                    default = LEGACY[setting.key]
                    _put(self, setting.key, plausible(setting.key, setting.value, default))
                else:
                    set_key(self, setting.key, setting.value)
            except ConfigError as error:
                raise ConfigError(f"{setting.where}: {error}") from None


def checked(cfg: CfgNode) -> CfgNode:
    """The configuration that `load_config` would have made of the same settings.

    Args:
        cfg: an `OpenConfig`, or any other tree of the published keys, frozen or not.

    Returns:
        Checked and frozen, and without the keys that mean nothing here; `cfg` is left alone.

    Raises:
        ConfigError: an unknown key, a wrong type, an unsupported value, or a contradiction.
    """
    known = {**LEGACY, **flatten(defaults())}
    settings = [
        Setting(key, value, f"cfg.{key}")
        for key, value in flatten(cfg).items()
        if ("." in key or _KEY.fullmatch(key)) and not (key in known and known[key] == value)
    ]
    merged, unused = merge(settings)
    report_unused(unused)
    return merged


def _put(root: CfgNode, key: str, value: object) -> None:
    """Set a key whose sections may be missing."""
    *sections, name = key.split(".")
    node = root
    for section in sections:
        node = node.setdefault(section, CfgNode())
    node[name] = value


cfg = OpenConfig.of_defaults()
