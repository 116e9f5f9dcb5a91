"""Descriptions of classes from a user's file: every form, and everything that is wrong with it."""

import json
import logging
from pathlib import Path

import pytest

from glipkit.grounding.knowledge import described, load_knowledge, plainly
from glipkit.grounding.word_files import WordFileError

BY_KIND = """
stingray:
  wiki: a flat, round fish.
  gpt3: [It has a long tail., "It hides in sand. ", It is grey.]
Traffic_Light:
  wiki: lamps that tell cars when to go
  gpt3: Red means stop.
"""


def write(tmp_path: Path, text: str, name: str = "known.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_one_kind_after_the_other(tmp_path: Path) -> None:
    known = load_knowledge(write(tmp_path, BY_KIND))
    assert known.kinds == ["gpt3", "wiki"]
    assert known.describe(["stingray"], kinds=["wiki"]) == ["a flat, round fish"]
    names = ["stingray", "Traffic_Light"]
    assert known.describe(names, kinds=["wiki", "gpt3"], sentences=2) == [
        "a flat, round fish; It has a long tail; It hides in sand",
        "lamps that tell cars when to go; Red means stop",
    ]
    (all_three,) = known.describe(["stingray"], kinds=["gpt3"])
    assert all_three.count("; ") == 2


@pytest.mark.parametrize(
    "records",
    [
        {"cat": {"wiki": "a pet"}, "dog": {"wiki": ["it", "barks"]}},
        [{"classname": "cat", "wiki": "a pet"}, {"classname": "dog", "wiki": ["it", "barks"]}],
    ],
)
def test_json_in_both_forms(tmp_path: Path, records: object) -> None:
    known = load_knowledge(write(tmp_path, json.dumps(records), "known.json"))
    assert known.describe(["dog", "cat"], kinds=["wiki"]) == ["it; barks", "a pet"]
    assert len(known.digest) == 64


def test_a_file_with_one_kind_needs_no_name_for_it(tmp_path: Path) -> None:
    known = load_knowledge(write(tmp_path, "cat: a pet\ndog: [it barks, it bites]"))
    assert known.describe(["dog"], kinds=[""]) == ["it barks; it bites"]
    with pytest.raises(WordFileError, match=r"no kinds.*'wiki' was asked.*KNOWLEDGE_TYPE empty"):
        known.describe(["dog"], kinds=["wiki"])


def test_an_unknown_or_unnamed_kind_names_the_known_ones(tmp_path: Path) -> None:
    known = load_knowledge(write(tmp_path, BY_KIND))
    with pytest.raises(WordFileError, match="kinds gpt3, wiki, but 'wordnet' was asked for"):
        known.describe(["stingray"], kinds=["wordnet"])
    with pytest.raises(WordFileError, match="kinds gpt3, wiki, but no kind was named"):
        known.describe(["stingray"], kinds=[""])


def test_names_in_another_case_are_found_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = load_knowledge(write(tmp_path, BY_KIND))
    with caplog.at_level(logging.INFO):
        found = known.describe(["STINGRAY", "traffic  light"], kinds=["wiki"])
    assert found == ["a flat, round fish", "lamps that tell cars when to go"]
    assert "2 classes are spelled in another case" in caplog.text
    both = load_knowledge(write(tmp_path, "Cat: a pet\ncat: a beast\nDOG: a\ndog_: b"))
    assert both.describe(["cat", "Cat"], kinds=[""]) == ["a beast", "a pet"]
    with pytest.raises(WordFileError, match="'Dog' could be any of 'DOG', 'dog_'"):
        both.describe(["Dog"], kinds=[""])


def test_a_remark_tells_classes_apart(tmp_path: Path) -> None:
    known = load_knowledge(write(tmp_path, "crane_(bird): it flies\ncrane (machine): it lifts"))
    names = ["crane (bird)", "crane_(machine)"]
    assert known.describe(names, kinds=[""]) == ["it flies", "it lifts"]
    with pytest.raises(WordFileError, match="no entry for 1 of 1 classes: 'crane'"):
        known.describe(["crane"], kinds=[""])


def test_all_classes_that_lack_something_are_named(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(30)]
    known = load_knowledge(write(tmp_path, "cat: a pet"))
    with pytest.raises(WordFileError, match="no entry for 30 of 31 classes") as raised:
        known.describe(["cat", *names], kinds=[""])
    assert all(repr(name) in str(raised.value) for name in names)
    text = "cat: {wiki: a pet}\ndog: {gpt3: it barks}\nowl: {gpt3: it flies, wiki: }"
    known = load_knowledge(write(tmp_path, text))
    with pytest.raises(WordFileError, match=r"does not say this kind.*'dog \(wiki\)'") as raised:
        known.describe(["cat", "dog", "owl", "fox"], kinds=["wiki"])  # everything at once
    assert "no entry for 1 of 4 classes: 'fox'; it does not" in str(raised.value)
    assert "; it has an empty description of 1 of 4 classes: 'owl'" in str(raised.value)
    with pytest.raises(WordFileError, match=r"empty description of 1 of 2 classes: 'owl'"):
        known.describe(["cat", "owl"], kinds=["wiki"])


@pytest.mark.parametrize("text", ['cat: ""', "cat: ' . '", "cat: []", "cat: [a pet, ~]"])
def test_an_empty_description_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WordFileError, match="empty description"):
        load_knowledge(write(tmp_path, text)).describe(["cat"], kinds=[""])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no knowledge file: expected class names"),
        ("just words", "is no knowledge file: expected class names"),
        ("[cat, dog]", "record 0 has no 'classname'"),
        ("[{classname: cat, wiki: a}, {classname: cat, wiki: b}]", "'cat' has two records"),
        ("cat: 7", "class 'cat': expected class names"),
        ("cat: {wiki: [{text: a pet}]}", "class 'cat': expected class names"),
        ("cat: {}", "class 'cat': expected class names"),
        ("no: an answer", "the class False is no text; put it into quotes"),
        ("cat: a pet\ncat: a beast", "'cat' stands twice in the same place"),
        ("cat: {wiki: a, wiki: b}", "'wiki' stands twice in the same place"),
        ("cat: {wiki: a, 'wiki': b}", "'wiki' stands twice in the same place"),
        ("cat: [a", "not even YAML"),
        ("!!map cat", "not even YAML"),
        ('{"images": [], "annotations": [{"id": 1}]}', "class 'annotations': expected class"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WordFileError, match=message) as raised:
        load_knowledge(write(tmp_path, text))
    assert "known.yaml" in str(raised.value)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no knowledge file .*nowhere\.yaml"):
        load_knowledge(tmp_path / "nowhere.yaml")
    (tmp_path / "other.yaml").write_text("cat: a pet", encoding="utf-16")
    with pytest.raises(WordFileError, match=r"other\.yaml.*not UTF-8 .*save it as UTF-8"):
        load_knowledge(tmp_path / "other.yaml")
    with pytest.raises(WordFileError, match="not even JSON"):
        load_knowledge(write(tmp_path, "{'cat': 1}", "known.json"))
    with pytest.raises(WordFileError, match="'cat' stands twice"):
        load_knowledge(write(tmp_path, '{"cat": "a", "cat": "b"}', "known.json"))


def test_what_several_classes_share_may_be_merged_in(tmp_path: Path) -> None:
    text = "ray: &ray {wiki: a flat fish, gpt3: It swims.}\nmanta:\n  <<: *ray\n  wiki: a large ray"
    known = load_knowledge(write(tmp_path, text))
    assert known.describe(["ray", "manta"], kinds=["wiki", "gpt3"]) == [
        "a flat fish; It swims",
        "a large ray; It swims",
    ]


def test_a_description_follows_the_name_and_is_not_looked_for() -> None:
    said = described(plainly(["bow_(weapon)"]), ["it shoots arrows"])
    assert said == [{"prefix": "", "name": "bow", "suffix": ": it shoots arrows"}]
    own = [{"prefix": "a ", "name": "ray", "suffix": ", flat "}]
    assert described(own, ["a fish"])[0]["suffix"] == ", flat: a fish"
