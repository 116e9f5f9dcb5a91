"""What is set: every key with its default, and how files and overrides are merged."""

from glipkit.config.defaults import defaults
from glipkit.config.load import (
    ConfigError,
    Task,
    expand_task_files,
    load_config,
    load_tasks,
    to_yaml,
)
from glipkit.config.published import cfg, checked

__all__ = [
    "ConfigError",
    "Task",
    "cfg",
    "checked",
    "defaults",
    "expand_task_files",
    "load_config",
    "load_tasks",
    "to_yaml",
]
