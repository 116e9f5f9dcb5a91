"""Alternatives of class names from a user's file: how they become runs, and what is refused."""

from pathlib import Path

import pytest

from glipkit.grounding.word_files import WordFileError
from glipkit.grounding.wordings import as_text, load_wordings

NAMES = ["stingray", "sea star"]
PLAIN = [{"prefix": "", "name": name, "suffix": ""} for name in NAMES]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prompts.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def said(tmp_path: Path, text: str, configured: list[dict] = PLAIN) -> list[list[str]]:
    runs = load_wordings(write(tmp_path, text)).runs(NAMES, configured)
    return [[as_text(each) for each in run] for run in runs]


def test_run_i_asks_alternative_i_of_every_class(tmp_path: Path) -> None:
    text = "stingray: ['{name}', '{name}, flat and round']\nsea star: [starfish, a star]"
    assert said(tmp_path, text) == [
        ["stingray", "starfish"],
        ["stingray, flat and round", "a star"],
    ]


def test_a_place_for_the_name_says_what_is_looked_for(tmp_path: Path) -> None:
    text = "stingray: ['a {name}, flat', 'a flat fish', {name: ray, suffix: ' (grey)'}]"
    runs = load_wordings(write(tmp_path, text)).runs(NAMES, PLAIN)
    assert [run[0] for run in runs] == [
        {"prefix": "a ", "name": "stingray", "suffix": ", flat"},
        {"prefix": "", "name": "a flat fish", "suffix": ""},
        {"prefix": "", "name": "ray", "suffix": " (grey)"},
    ]
    record = "stingray: {prefix: 'a ', name: '{name}', suffix: ', flat'}"
    ((own, _),) = load_wordings(write(tmp_path, record)).runs(NAMES, PLAIN)
    assert own == runs[0][0]
    write(tmp_path, text)
    configured = [{"prefix": "the ", "name": "manta", "suffix": "!"}, PLAIN[1]]
    first, *_ = load_wordings(write(tmp_path, text)).runs(NAMES, configured)
    assert as_text(first[0]) == "a manta, flat"


def test_one_alternative_stands_in_every_run_and_others_are_as_configured(tmp_path: Path) -> None:
    assert said(tmp_path, "stingray: [ray, flat fish, manta]\nSea_Star: starfish") == [
        ["ray", "starfish"],
        ["flat fish", "starfish"],
        ["manta", "starfish"],
    ]
    configured = [PLAIN[0], {"prefix": "a ", "name": "star", "suffix": " in the sea"}]
    assert said(tmp_path, "stingray: [ray, manta]", configured) == [
        ["ray", "a star in the sea"],
        ["manta", "a star in the sea"],
    ]


def test_a_template_for_every_class_that_is_not_named(tmp_path: Path) -> None:
    text = "'*': ['{name}', 'a photo of a {name}']\nstingray: [ray, flat ray]"
    assert said(tmp_path, text) == [
        ["ray", "sea star"],
        ["flat ray", "a photo of a sea star"],
    ]


def test_different_numbers_of_alternatives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WordFileError, match=r"\(stingray 3, sea star 2\).*run i asks"):
        said(tmp_path, "stingray: [a, b, c]\nsea star: [d, e]")


def test_classes_that_there_are_not_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(WordFileError, match="2 classes that there are not: 'stingrey', 'shark'"):
        said(tmp_path, "stingrey: [a, b]\nshark: c\nsea star: d")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no file of prompts: expected class names"),
        ("[ray, manta]", "is no file of prompts: expected class names"),
        ("stingray: []", "'stingray' has no alternative"),
        ("stingray: [ray, 7]", "'stingray', alternative 2: expected"),
        ("stingray: [ray, ' ']", "alternative 2 is empty"),
        ("stingray: {name: ''}", "alternative 1 is empty"),
        ("stingray: {suffix: flat}", "alternative 1: a record has a name"),
        ("stingray: {name: ray, sufix: flat}", "alternative 1: a record has a name"),
        ("stingray: 'a {class}'", "the one placeholder is {name}"),
        ("stingray: 'a { name }'", "the one placeholder is {name}"),
        ("stingray: {name: 'a {name}'}", "in a record the whole name"),
        ("stingray: {prefix: '{name} ', name: ray}", "in a record the whole name"),
        ("stingray: '{name} or {name}'", "the one placeholder is {name}, once"),
        ("1: ray", "the class 1 is no text"),
        ("stingray: a\nstingray: b", "stands twice"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WordFileError, match=message) as raised:
        load_wordings(write(tmp_path, text))
    assert "prompts.yaml" in str(raised.value)
