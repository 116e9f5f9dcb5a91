"""The stream agrees with json.load, wherever the blocks end."""

import hashlib
import json
from pathlib import Path

import pytest

from glipkit.data.datasets import json_stream
from glipkit.data.datasets.json_stream import JsonArrays, json_objects

CONTENT = {
    "info": {"deep": [1, 2, {"er": None}], "text": 'a "]}, b'},
    "version": -12.5e3,
    "images": [{"id": number, "caption": 'é😀"\\n]}{[' * number} for number in range(9)],
    "nothing": [],
    "annotations": [],
    "categories": [{"id": 1, "nan": 0.25}],
}
TEXT = json.dumps(CONTENT, ensure_ascii=False, indent=1)


def write(folder: Path, text: str) -> Path:
    (folder / "a.json").write_text(text, encoding="utf-8")
    return folder / "a.json"


@pytest.mark.parametrize("block", [1, 2, 3, 50, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_agrees_with_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    path = write(tmp_path, json.dumps(CONTENT, ensure_ascii=block % 2 == 0, indent=indent))
    reader = JsonArrays(path, ("images", "annotations", "categories"))
    found = list(reader)
    assert found == [
        *(("images", each) for each in CONTENT["images"]),
        ("categories", CONTENT["categories"][0]),
    ]
    assert reader.keys == list(CONTENT)
    assert reader.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("entries", [CONTENT["images"], []], ids=["some", "none"])
def test_one_array_agrees_with_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, entries: list[dict]
) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    assert list(json_objects(write(tmp_path, json.dumps(entries)))) == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": []}', r"a\.json is not a list of objects"),
        ("[1]", r"a\.json is not a list of objects"),
        ('[{"id": 1}, ', "the file ends too early"),
        ('[{"id": 1}] 7', "something follows the end of the array"),
        ('[{"id": 1,}]', "not valid JSON at character 10"),
        ("", "is not a list of objects"),
    ],
)
def test_other_things_than_one_array(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(json_objects(write(tmp_path, text)))


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"images": [{"id": 1}]}')
    assert list(JsonArrays(path, ("images",))) == [("images", {"id": 1})]


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("[1]", r"begins with '\['"),
        *(
            (TEXT[:length], "the file ends too early")
            for length in (10, 90, 200, 300, len(TEXT) - 1)
        ),
        (TEXT + "x", rf"at character {len(TEXT):,}: something follows"),
        ('{"images": [{} {}]}', r"at character 15: expected ','"),
        ('{"images": [{},]}', "Expecting value"),
        ('{"a" 1}', r"at character 5: expected ':'"),
        ("{3: 4}", "expected a key in quotes"),
        ('{"images": 3}', r"'images' is not a list of objects"),
        ('{"images": [3]}', r"'images' is not a list of objects"),
    ],
)
def test_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, block: int
) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", block)
    with pytest.raises(ValueError, match=message) as caught:
        list(JsonArrays(write(tmp_path, text), ("images",)))
    assert "a.json" in str(caught.value)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"images": [{"a": "\xff"}]}')
    with pytest.raises(ValueError, match="not UTF-8"):
        list(JsonArrays(tmp_path / "a.json", ("images",)))


def test_a_broken_entry_does_not_pull_the_whole_file_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", 16)
    monkeypatch.setattr(json_stream, "_LONGEST", 100)
    path = write(tmp_path, '{"images": [{"id" 1},' + '{"id": 1},' * 1000 + "{}")  # no end either
    with pytest.raises(ValueError, match="at character 18: Expecting ':'"):
        list(JsonArrays(path, ("images",)))
