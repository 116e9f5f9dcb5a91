"""What a value must be: one key, one type, whether it comes from YAML or from a shell."""

import ast
import json
import math
from collections.abc import Mapping, Sequence

from glipkit.config.errors import ConfigError

# Elements of sequences whose default does not show them.
_ELEMENTS: dict[str, type] = {
    "DATASETS.TRAIN": str,
    "DATASETS.TEST": str,
    "DATASETS.CONTROL_PROB": float,
    "AUGMENT.MULT_MIN_SIZE_TRAIN": int,
    "SOLVER.STEPS": float,
}

# Lists of records: field -> type, and what stands in for a field that is left out.
_RECORDS: dict[str, dict[str, type]] = {
    "DATASETS.OVERRIDE_CATEGORY": {"id": int, "name": str},
    "DATASETS.CAPTION_PROMPT": {"prefix": str, "name": str, "suffix": str},
}
_LEFT_OUT = {"prefix": "", "suffix": ""}

_SINGULAR = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
_PLURAL = {int: "integers, like (800,)", float: "numbers, like (0.5,)", str: 'names, like ("val",)'}
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def typed(key: str, value: object, default: object) -> object:
    """The value in the type that its key asks for.

    Strings may spell any Python literal, as in GLIP's files (`("val",)`, `1e-4`); an integer may
    stand for a number, a list for a tuple, a tuple of one number for the number.

    Args:
        key: full name, for the message.
        value: from YAML, or a word of the command line.
        default: shows the type; None means that any string, or nothing, may be given.

    Raises:
        ConfigError: the value is of another type; the message does not say where it stands.
    """
    if key in _RECORDS:
        return _records(key, value)
    if default is None or isinstance(default, str):
        text = _unquoted(value) if isinstance(value, str) else value
        if default is None and (text is None or str(text).lower() in ("none", "null")):
            return None
        return _expect(key, text, str)
    literal = _literal(value) if isinstance(value, str) else value
    if isinstance(default, Mapping):
        if isinstance(literal, Mapping):
            return literal
        raise ConfigError(f"{key} must be a mapping, got {_shown(value)}")
    if isinstance(default, Sequence):
        return _sequence(key, literal, default)
    if isinstance(literal, list | tuple) and len(literal) == 1:
        literal = literal[0]  # (800,): a choice of one
    return _expect(key, literal, type(default))


def plausible(key: str, value: object, default: object) -> object:
    """The same for a key that means nothing here: elements of sequences are not looked at."""
    if isinstance(default, Sequence) and not isinstance(default, str):
        literal = _literal(value) if isinstance(value, str) else value
        if not isinstance(literal, list | tuple):
            raise ConfigError(f"{key} must be a tuple, got {_shown(value)}")
        return tuple(literal)
    if default is None:
        return value
    return typed(key, value, default)


def dataset_entry(name: str, value: object) -> dict[str, object]:
    """The fields of one data set of DATASETS.REGISTER.

    Raises:
        ConfigError: they are not a mapping of names to plain values.
    """
    key = f"DATASETS.REGISTER.{name}"
    if not isinstance(value, Mapping):
        example = '{img_dir: "folder", ann_file: "file.json"}'
        raise ConfigError(f"{key} must be a mapping like {example}, got {_shown(value)}")
    for field, content in value.items():
        if not isinstance(field, str) or not isinstance(content, str | bool | int | float | None):
            raise ConfigError(f"{key}.{field} must be a plain value, got {_shown(content)}")
    return dict(value)


def _literal(text: str) -> object:
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # not a literal: a word


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        literal = _literal(text)
        return literal if isinstance(literal, str) else text
    return text


def _expect(key: str, value: object, kind: type) -> object:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ConfigError(f"{key} must be {_SINGULAR[kind]}, got {_shown(value)}")
    return value


def _sequence(key: str, value: object, default: Sequence) -> tuple:
    kind = _ELEMENTS.get(key) or type(default[0])
    if kind is tuple:  # a row of rows
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} must be a tuple of tuples, got {_shown(value)}")
        return tuple(_sequence(f"{key}[{i}]", row, default[0]) for i, row in enumerate(value))
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} must be a tuple of {_PLURAL[kind]}, got {_shown(value)}")
    return tuple(_expect(f"{key}[{i}]", element, kind) for i, element in enumerate(value))


def _records(key: str, value: object) -> tuple[dict[str, object], ...] | None:
    """Records as plain dicts, from a JSON string, a Python literal or YAML."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:  # not JSON, or absurd
            text, value = value, _literal(value)
            if isinstance(value, str):
                raise ConfigError(f"{key} is not valid JSON: {error}; got {_shown(text)}") from None
    if value is None:
        return None
    fields = _RECORDS[key]
    if not isinstance(value, list | tuple) or not value:
        names = ", ".join(fields)
        raise ConfigError(f"{key} must be a list of records ({names}), got {_shown(value)}")
    return tuple(_record(f"{key}[{i}]", record, fields) for i, record in enumerate(value))


def _record(key: str, record: object, fields: dict[str, type]) -> dict[str, object]:
    if not isinstance(record, Mapping):
        raise ConfigError(f"{key} must be a mapping with {', '.join(fields)}, got {_shown(record)}")
    complete = {name: _LEFT_OUT[name] for name in fields if name in _LEFT_OUT} | dict(record)
    for name, kind in fields.items():
        if name not in complete:
            raise ConfigError(f"{key} has no field {name!r}; it has {', '.join(map(str, record))}")
        _expect(f"{key}.{name}", complete[name], kind)
    return complete


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({type(value).__name__})"
