"""From a configuration and files of words to the prompts of classes."""

import json
from pathlib import Path

import pytest
import yaml
from drawn import draw
from drawn import task_config as config
from yacs.config import CfgNode

from glipkit.data.build import build_test_sets
from glipkit.data.wording_test_set import WordingTestSet
from glipkit.grounding.tokenizer import Tokenizer
from glipkit.structures.prompts import ParallelPrompt

KNOWN = {
    "cat": {"wiki": "a small pet.", "gpt3": ["It purrs.", "It sleeps.", "It hunts."]},
    "dog": {"wiki": "it barks", "gpt3": ["It fetches."]},
    "owl": {"wiki": "a bird", "gpt3": ["It flies."]},
}
SAID = [
    {"prefix": "a ", "name": "kitten", "suffix": " that sleeps"},
    {"prefix": "", "name": "dog", "suffix": ""},
    {"prefix": "", "name": "owl", "suffix": ""},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATASET", str(tmp_path))
    draw(tmp_path, num_images=4)
    (tmp_path / "known.yaml").write_text(yaml.safe_dump(KNOWN))
    return tmp_path


def knowing(folder: Path, *overrides: str, **datasets: object) -> CfgNode:
    return config(
        folder, "GLIPKNOW.KNOWLEDGE_FILE", str(folder / "known.yaml"), *overrides, **datasets
    )


def test_descriptions_in_one_prompt(folder: Path, tokenizer: Tokenizer) -> None:
    cfg = knowing(folder, "GLIPKNOW.KNOWLEDGE_TYPE", "wiki")
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions == ("cat: a small pet. dog: it barks. owl: a bird",)
    assert test_set.prompts[0].num_phrases == 3
    told = test_set.fingerprint()["knowledge"]
    assert told["file"] == "known.yaml"
    assert told["kinds"] == ["wiki"]
    assert len(told["sha256"]) == 64


def test_two_kinds_and_their_number(folder: Path, tokenizer: Tokenizer) -> None:
    cfg = knowing(folder, "GLIPKNOW.WIKI_AND_GPT3", "True", "GLIPKNOW.GPT3_NUM", "2")
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions[0].startswith("cat: a small pet; It purrs; It sleeps. dog: it barks;")
    assert test_set.fingerprint()["knowledge"]["sentences"] == 2


def test_side_by_side_and_in_chunks(folder: Path, tokenizer: Tokenizer) -> None:
    overrides = ("GLIPKNOW.KNOWLEDGE_TYPE", "wiki", "GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True")
    (test_set,) = build_test_sets(knowing(folder, *overrides), tokenizer)
    (prompt,) = test_set.prompts
    assert isinstance(prompt, ParallelPrompt)
    assert test_set.captions == ("cat: a small pet\ndog: it barks\nowl: a bird",)
    told = test_set.fingerprint()
    assert told["knowledge"]["parallel_language_input"] == "first"
    other = knowing(folder, *overrides, "GLIPKNOW.LAN_FEATURE_AGG_TYPE", "mean")
    (by_mean,) = build_test_sets(other, tokenizer)
    assert by_mean.fingerprint()["prompts_sha256"] != told["prompts_sha256"]
    chunked = knowing(folder, *overrides, "TEST.CHUNKED_EVALUATION", "2")
    (parts,) = build_test_sets(chunked, tokenizer)
    assert [part.num_phrases for part in parts.prompts] == [2, 1]


def test_side_by_side_without_a_file(folder: Path, tokenizer: Tokenizer) -> None:
    cfg = config(folder, "GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True")
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions == ("cat\ndog\nowl",)
    assert test_set.fingerprint()["knowledge"] == {"parallel_language_input": "first"}


def test_names_of_the_configuration_are_looked_up(folder: Path, tokenizer: Tokenizer) -> None:
    renamed = [{"id": 3, "name": "Cat"}, {"id": 7, "name": "puppy"}, {"id": 11, "name": "owl"}]
    overrides = {"OVERRIDE_CATEGORY": json.dumps(renamed), "USE_OVERRIDE_CATEGORY": True}
    cfg = knowing(folder, "GLIPKNOW.KNOWLEDGE_TYPE", "wiki", **overrides)
    with pytest.raises(ValueError, match="no entry for 1 of 3 classes: 'puppy'"):
        build_test_sets(cfg, tokenizer)
    words = {"CAPTION_PROMPT": json.dumps(SAID), "USE_CAPTION_PROMPT": True}
    cfg = knowing(folder, "GLIPKNOW.KNOWLEDGE_TYPE", "wiki", **words)
    (test_set,) = build_test_sets(cfg, tokenizer)
    assert test_set.captions[0].startswith("a kitten that sleeps: a small pet. dog: it barks")


def test_wordings_are_runs_beside_the_configured_words(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "prompts.yaml").write_text("cat: ['{name}, furry', a small pet]\n")
    words = {"CAPTION_PROMPT": json.dumps(SAID), "USE_CAPTION_PROMPT": True}
    cfg = config(folder, "TEST.CHUNKED_EVALUATION", "2", **words)
    (test_set,) = build_test_sets(cfg, tokenizer, wordings=folder / "prompts.yaml")
    assert isinstance(test_set, WordingTestSet)
    assert [run.name for run in test_set.runs] == ["configured", "1", "2"]
    assert [run.test_set.captions for run in test_set.runs] == [
        ("a kitten that sleeps. dog", "owl"),
        ("kitten, furry. dog", "owl"),
        ("a small pet. dog", "owl"),
    ]
    # What several runs ask is asked once.
    asked = ("a kitten that sleeps. dog", "owl", "kitten, furry. dog", "a small pet. dog")
    assert test_set.captions == asked
    assert [prompt.num_phrases for prompt in test_set.prompts_of(0)] == [2, 1, 2, 2]
    assert test_set.phrases_of(test_set.runs[1]) == [range(3, 5), range(2, 3)]
    told = test_set.fingerprint()["wordings"]
    assert told["file"] == "prompts.yaml"
    assert told["runs"]["1"]["captions"] == ["kitten, furry. dog", "owl"]
    (alone,) = build_test_sets(cfg, tokenizer)
    assert test_set.runs[0].test_set.fingerprint() == alone.fingerprint()


def test_wordings_of_described_classes(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "prompts.yaml").write_text("'*': ['{name}', 'a {name}']\n")
    cfg = knowing(folder, "GLIPKNOW.KNOWLEDGE_TYPE", "wiki")
    (test_set,) = build_test_sets(cfg, tokenizer, wordings=folder / "prompts.yaml")
    assert test_set.captions[1] == "a cat: a small pet. a dog: it barks. a owl: a bird"
    assert test_set.fingerprint()["knowledge"]["kinds"] == ["wiki"]
