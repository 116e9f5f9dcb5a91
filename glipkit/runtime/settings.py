"""What a result depends on, kept beside it, and where it differs from what is asked now."""

import json
from collections.abc import Mapping
from typing import Any


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Mappings inside become dotted keys, so that a difference is as small as it is."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = flatten_settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {}
        flat |= inner or {f"{prefix}{key}": value}
    return flat


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Which settings are not what they were.

    Args:
        then: settings as JSON gave them back.
        now: settings, nested or flat, of what JSON can hold; a tuple equals a list,
            and None equals a setting that is not there.

    Returns:
        Dotted key -> "then ..., now ...", in alphabetical order.
    """
    then, now = flatten_settings(then), flatten_settings(json.loads(json.dumps(now)))
    return {
        key: f"then {_shown(then.get(key))}, now {_shown(now.get(key))}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    }


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
