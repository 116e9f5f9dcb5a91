"""components/od_to_grounding.json: labels become captions, seeded as the reference was."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from glipkit.data.class_draw import ClassDraw
from glipkit.data.detection_prompts import DetectionPrompt, make_detection_prompts
from glipkit.data.randomness import SampleRandom
from glipkit.grounding.tokenizer import Tokenizer

SAMPLED = ["coco", "coco_few_negatives", "coco_one_neg_one_pos", "max_num_labels"]


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict:
    return json.loads((golden / "components" / "od_to_grounding.json").read_text())


@pytest.fixture(scope="module")
def coco_names(golden: Path) -> list[str]:
    return json.loads((golden / "components" / "text.json").read_text())["coco80"]["names"]


def with_background(names: list[str]) -> dict[int, str]:
    return dict(enumerate(["__background__", *names]))


def long_names() -> dict[int, str]:
    """The classes of the overflow cases: six LVIS names, and forty that are long."""
    short = ["bow_(weapon)", "cab_(taxi)", "crock_pot", "hot-air_balloon", "egg_yolk"]
    long = [f"long_category_name_number_{i}_with_many_words_(here)" for i in range(40)]
    return with_background([*short, "baseball_glove", *long])


def seeded(seed: int) -> SampleRandom:
    """What random.seed(seed), np.random.seed(seed) leave behind."""
    return SampleRandom(random.Random(seed), np.random.RandomState(seed))


def spans_of(drawn: DetectionPrompt) -> dict[str, list[int]]:
    spans = (phrase.spans for phrase in drawn.prompt.phrases)
    return {str(label): list(span) for label, (span,) in zip(drawn.labels, spans, strict=True)}


@pytest.mark.parametrize("group", [*SAMPLED, "long_names_overflow"])
def test_sampled_captions(
    recorded: dict, coco_names: list[str], tokenizer: Tokenizer, group: str
) -> None:
    classes = long_names() if group == "long_names_overflow" else with_background(coco_names)
    for case in recorded[group]:
        prefix, prefix_advanced = case["detection_prompt"]
        prompts = make_detection_prompts(
            classes,
            tokenizer,
            sampled=True,
            num_negatives=case["random_sample_neg"],
            control=case["control_prob"],
            max_labels=case["max_num_labels"],
            add_prefix=prefix,
            add_prefix_advanced=prefix_advanced,
            max_tokens=case["max_seq_length"] + 2,
        )
        drawn = prompts.draw(case["labels_in"], seeded(case["seed"]))
        assert drawn.prompt.caption == case["caption"]
        assert spans_of(drawn) == case["label_to_positions"]
        kept = [label for label in case["labels_in"] if label in drawn.phrase_of]
        assert kept == case["kept_labels_after_overflow"]
        boxes = [list(drawn.prompt.phrases[drawn.phrase_of[label]].spans[0]) for label in kept]
        assert [[span] for span in boxes] == case["tokens_positive"]
        assert tokenizer.count(drawn.prompt.caption) == case["num_tokens"]


def test_how_many_absent_classes_are_asked_for(recorded: dict) -> None:
    """3000 draws of one stream: half of them ask for all 85, the others for 1 to 85 alike."""
    expected = recorded["statistics_num_negatives_requested"]
    classes = dict.fromkeys(range(1000), 0)  # words without length: every draw fits the caption
    draw = ClassDraw(classes, 254, num_negatives=85, control=(0, 0, 0.5, 0))
    chance = SampleRandom.of([3])
    counts = np.array([len(draw([], chance).labels) for _ in range(expected["draws"])])
    assert (counts.min(), counts.max()) == (expected["min"], expected["max"])
    others = counts[counts < 85]
    # Three standard deviations of 3000 draws: 0.027, and 1.9 of 1500.
    assert (counts == 85).mean() == pytest.approx(expected["fraction_equal_85"], abs=0.03)
    assert others.mean() == pytest.approx(expected["mean_of_others"], abs=2)


def test_all_classes_in_order(recorded: dict, coco_names: list[str], tokenizer: Tokenizer) -> None:
    classes = dict(enumerate(coco_names, start=1))
    prompts = make_detection_prompts(classes, tokenizer, sampled=False, disable_shuffle=True)
    assert_complete(prompts.draw([3, 1, 3], seeded(0)), [3, 1, 3], recorded["simple_coco"])


def test_all_classes_with_a_beginning(recorded: dict, tokenizer: Tokenizer) -> None:
    classes = {1: "cat", 2: "dog_(pet)", 3: "sea_lion"}
    prompts = make_detection_prompts(
        classes, tokenizer, sampled=False, disable_shuffle=True, add_prefix=True
    )
    assert_complete(prompts.draw([3, 1, 3], seeded(0)), [3, 1, 3], recorded["simple_prompt"])


def test_all_classes_in_other_words(recorded: dict, tokenizer: Tokenizer) -> None:
    said = [
        {"prefix": "a ", "name": "cat_x", "suffix": " pet"},
        {"prefix": "", "name": "dog", "suffix": ""},
        {"prefix": "the ", "name": "seal ", "suffix": ", wet"},
    ]
    prompts = make_detection_prompts(
        {1: "cat", 2: "dog", 3: "seal"},
        tokenizer,
        sampled=False,
        disable_shuffle=True,
        caption_prompts=said,
    )
    assert_complete(
        prompts.draw([3, 1, 3], seeded(0)), [3, 1, 3], recorded["simple_caption_prompt"]
    )


def assert_complete(drawn: DetectionPrompt, labels: list[int], expected: dict) -> None:
    assert drawn.prompt.caption == expected["caption"]
    spans = [drawn.prompt.phrases[drawn.phrase_of[label]].spans for label in labels]
    assert [[list(span) for span in each] for each in spans] == expected["tokens_positive"]
