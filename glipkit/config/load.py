"""Defaults, files and overrides become a checked, frozen cfg; task files become tasks."""

import glob
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yacs.config import CfgNode

from glipkit.config.checks import flatten
from glipkit.config.errors import ConfigError, MissingFileError
from glipkit.config.legacy import INSTEAD
from glipkit.config.merge import SECTIONS, merge, parse_overrides
from glipkit.config.yaml_files import Setting, read_settings, to_yaml

__all__ = [
    "ConfigError",
    "MissingFileError",
    "Task",
    "expand_task_files",
    "load_config",
    "load_tasks",
    "to_yaml",
]

logger = logging.getLogger(__name__)

# May differ between tasks that share a model: nothing reads them when the model is built.
_PER_TASK = frozenset(
    {
        "MODEL.ATSS.INFERENCE_TH",
        "MODEL.ATSS.PRE_NMS_TOP_N",
        "MODEL.ATSS.NMS_TH",
        "MODEL.ATSS.DETECTIONS_PER_IMG",
        "MODEL.ATSS.REG_LOSS_WEIGHT",
        "MODEL.DYHEAD.SCORE_AGG",
        "MODEL.DYHEAD.TOPK",
    }
)
# One per run, whatever is asked in it.
_PER_RUN = ("OUTPUT_DIR", "TENSORBOARD_EXP", "TEST.PRECISION")


@dataclass(frozen=True, slots=True)
class Task:
    """One task file, merged over the model's configuration."""

    name: str  # unique in a run, and fit for a folder name
    cfg: CfgNode  # frozen


def load_config(
    files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    training: bool = False,
    quiet: bool = False,
) -> CfgNode:
    """Merge defaults, files and overrides; later ones win.

    Args:
        files: YAML files.
        overrides: KEY VALUE KEY VALUE ..., as typed after the flags of a tool.
        training: refuse what a training run could not use, too; evaluation never reads it.
        quiet: do not log which keys mean nothing here; for files that come with glipkit.

    Returns:
        The whole tree of keys, checked and frozen.

    Raises:
        MissingFileError: a file is not there.
        ConfigError: a file that cannot be read, an unknown key, a value of the wrong type, an
            unsupported value, or a contradiction; the message says where it stands.
    """
    settings = [setting for file in files for setting in _read(file)]
    cfg, unused = merge(settings + parse_overrides(overrides), training=training)
    if not quiet:
        report_unused(unused)
    return cfg


def load_tasks(
    config_file: str | Path,
    task_files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    training: bool = False,
    quiet: bool = False,
) -> list[Task]:
    """One cfg per task file: the model's file, then the task's, then the overrides.

    Args:
        config_file: YAML file of the model.
        task_files: YAML files as `expand_task_files` gives them; none: the model's file says what
            to do, and is the one task.
        overrides: KEY VALUE pairs for all of them.
        training: as for `load_config`.
        quiet: do not log which keys mean nothing here; for files that were loaded before.

    Raises:
        ConfigError: as `load_config`, or two task files describe different models or outputs.
    """
    model, given = _read(config_file), parse_overrides(overrides)
    paths = [Path(file) for file in task_files] or [Path(config_file)]
    merged = []
    for path in paths:
        task = _read(path) if task_files else []
        merged.append(merge(model + task + given, training=training))
    if not quiet:
        report_unused(dict.fromkeys(key for _, unused in merged for key in unused))
    cfgs = [cfg for cfg, _ in merged]
    _refuse_two_models(paths, cfgs)
    return [Task(name, cfg) for name, cfg in zip(_unique_names(paths), cfgs)]


def expand_task_files(values: Sequence[str]) -> list[Path]:
    """The files that the words of `--task_config` name.

    Each word may hold several files, separated by commas, and patterns (`'configs/*/*.yaml'`).

    Returns:
        The files in the order given, those of a pattern sorted; a file named twice stands once.

    Raises:
        MissingFileError: a file is not there, or nothing fits a pattern.
    """
    files: dict[Path, Path] = {}  # absolute -> as given
    for word in (part.strip() for value in values for part in str(value).split(",")):
        if not word:
            continue
        if Path(word).is_file():
            found = [word]
        elif glob.has_magic(word):
            found = sorted(name for name in glob.glob(word, recursive=True) if Path(name).is_file())
            if not found:
                raise MissingFileError(f"no file fits the task pattern {word!r} ({Path.cwd()})")
        elif Path(word).is_dir():
            raise MissingFileError(
                f"{word} is a folder; give its files: '{word.rstrip('/')}/*.yaml'"
            )
        else:
            raise MissingFileError(f"task file {word!r} not found (looked in {Path.cwd()})")
        for name in found:
            files.setdefault(Path(name).absolute(), Path(name))
    return list(files.values())


def _read(file: str | Path) -> list[Setting]:
    return read_settings(Path(file), SECTIONS)


def report_unused(keys: Iterable[str]) -> None:
    """Say in one line which of the given keys mean nothing here."""
    if keys:
        words = (f"{key} (here: {INSTEAD[key]})" if key in INSTEAD else key for key in keys)
        logger.warning("these keys mean nothing here: %s", ", ".join(words))


def _refuse_two_models(paths: Sequence[Path], cfgs: Sequence[CfgNode]) -> None:
    flat = [flatten(cfg) for cfg in cfgs]
    shared = [key for key in flat[0] if key.startswith("MODEL.") and key not in _PER_TASK]
    for key in (*shared, *_PER_RUN):
        for path, values in zip(paths, flat):
            if values[key] != flat[0][key]:
                raise ConfigError(
                    f"{paths[0]} and {path} contradict each other: {key} is {flat[0][key]!r} in "
                    f"the one and {values[key]!r} in the other, but they share a run and a model; "
                    "run them one at a time, or set the key as an override"
                )


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """File stems; where two are equal, with as many folders before them as tell them apart."""
    absolute = [path.absolute() for path in paths]
    twice = [str(path) for path, count in Counter(absolute).items() if count > 1]
    if twice:
        raise ConfigError(f"task files given twice: {', '.join(twice)}")
    parts = [path.with_suffix("").parts for path in absolute]
    depths = [1] * len(paths)
    while True:
        names = ["_".join(part[-depth:]) for part, depth in zip(parts, depths)]
        counts = Counter(names)
        longer = [
            depth + (counts[name] > 1 and depth < len(part))
            for part, name, depth in zip(parts, names, depths)
        ]
        if longer == depths:
            return names
        depths = longer
