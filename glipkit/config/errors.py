"""What a configuration file or an override can get wrong."""


class ConfigError(ValueError):
    """A file, a key or a value that cannot be used; the message says which, where and why."""


class MissingFileError(ConfigError, FileNotFoundError):
    """A configuration file that is not there."""
