"""Settings that differ are named one by one."""

from glipkit.runtime.settings import differences, flatten_settings


def test_nested_settings_become_dotted_keys() -> None:
    assert flatten_settings({"a": {"b": 1, "c": {}}, "d": (2,)}) == {"a.b": 1, "a.c": {}, "d": (2,)}


def test_what_went_through_json_is_the_same() -> None:
    assert differences({"a": [1, 2], "b.c": None}, {"a": (1, 2)}) == {}


def test_each_difference_shows_both_values() -> None:
    found = differences(
        {"a": {"x": 1, "y": 2}, "old": "o"}, {"a": {"x": 1, "y": 3}, "long": "z" * 999}
    )
    assert list(found) == ["a.y", "long", "old"]
    assert found["a.y"] == "then 2, now 3"
    assert found["old"] == 'then "o", now null'
    assert len(found["long"]) < 300
