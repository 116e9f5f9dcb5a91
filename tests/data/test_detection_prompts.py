"""Captions made from labels: they fit, they say what they mean, and bad settings are refused."""

import logging
import pickle

import pytest

from glipkit.data.class_draw import ClassDraw
from glipkit.data.detection_prompts import (
    DetectionPrompt,
    DetectionPrompts,
    draws_classes,
    make_detection_prompts,
)
from glipkit.data.randomness import SampleRandom
from glipkit.grounding.captions import clean_name
from glipkit.grounding.tokenizer import Tokenizer

WORDS = ["bow_(weapon)", "hot-air_balloon", "T-shirt", "cab_(taxi)", "egg yolk", "Band_Aid", "x"]
MANY = {i: f"{WORDS[i % 7]}_{i}" if i % 3 else f"number {i} {WORDS[i % 7]}" for i in range(400)}
PETS = {1: "cat", 2: "dog", 3: "sea_lion"}


def chance(*key: int) -> SampleRandom:
    return SampleRandom.of(key)


def said(drawn: DetectionPrompt) -> list[str]:
    """What stands at the spans."""
    caption = drawn.prompt.caption
    return [caption[start:end] for phrase in drawn.prompt.phrases for start, end in phrase.spans]


SETTINGS = {
    "published": {"num_negatives": 85, "control": (0, 0, 0.5, 0)},
    "everything": {},
    "mixed, with prefix": {
        "num_negatives": 85,
        "control": (0.2, 0.2, 0.2, 0),
        "add_prefix": True,
        "add_prefix_advanced": True,
    },
    "few labels": {"num_negatives": 85, "max_labels": 30},
    "without full stop": {"separator": " "},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_draw_fits_and_spells_its_classes(tokenizer: Tokenizer, settings: dict) -> None:
    prompts = make_detection_prompts(MANY, tokenizer, sampled=True, **settings)
    longest = 0
    for seed in range(150):
        random = chance(1, seed)
        labels = random.python.choices(range(400), k=random.python.choice([0, 1, 5, 30, 200]))
        drawn = prompts.draw(labels, random)
        assert said(drawn) == [clean_name(MANY[label]) for label in drawn.labels]
        assert len(set(drawn.labels)) == len(drawn.labels) > 0
        if len(set(labels)) <= 5:
            assert set(labels) <= set(drawn.labels)
        longest = max(longest, tokenizer.count(drawn.prompt.caption) - 2)
        if seed < 20:
            assert tokenizer(drawn.prompt).phrase_tokens.any(dim=1).all()
    assert longest <= 254
    assert longest > 235, "the captions are not filled"


def test_a_draw_depends_on_its_chance_alone(tokenizer: Tokenizer) -> None:
    prompts = make_detection_prompts(MANY, tokenizer, sampled=True, control=(0, 0, 0.5, 0))
    first = prompts.draw([3, 1, 3], chance(7))
    other = prompts.draw([3, 1, 3], chance(8))
    copied = pickle.loads(pickle.dumps(prompts))  # as into a loader process
    assert copied.draw([3, 1, 3], chance(7)) == first != other


def test_absent_classes_come_from_the_list_of_the_picture(tokenizer: Tokenizer) -> None:
    prompts = make_detection_prompts(MANY, tokenizer, sampled=True)
    drawn = prompts.draw([5, 9], chance(1), absent=[20, 21, 22])
    assert set(drawn.labels) == {5, 9, 20, 21, 22}
    assert set(prompts.draw([5], chance(1), absent=[]).labels) == {5}


@pytest.mark.parametrize("absent", [None, [], [7]])
def test_a_picture_without_boxes_has_a_caption(
    tokenizer: Tokenizer, absent: list[int] | None
) -> None:
    prompts = make_detection_prompts(MANY, tokenizer, sampled=True, control=(0, 1, 0, 0))
    drawn = prompts.draw([], chance(1), absent)
    assert len(drawn.labels) == 1
    assert not absent or drawn.labels == (7,)


def test_one_sided_captions_begin_differently(tokenizer: Tokenizer) -> None:
    def caption(labels: list[int], control: tuple[float, ...]) -> str:
        prompts = make_detection_prompts(
            PETS,
            tokenizer,
            sampled=True,
            control=control,
            add_prefix=True,
            add_prefix_advanced=True,
        )
        return prompts.draw(labels, chance(1)).prompt.caption

    everything, nothing = (0, 0, 1, 0), (0, 1, 0, 0)
    assert caption([1], nothing) == "object detection query : cat"
    assert caption([], everything).startswith("object detection query : ")
    assert caption([1], everything).startswith("object detection : ")


def test_order_is_drawn_or_that_of_the_ids(tokenizer: Tokenizer) -> None:
    fixed = make_detection_prompts(PETS, tokenizer, sampled=False, disable_shuffle=True)
    assert fixed.draw([2], chance(1)).prompt.caption == "cat. dog. sea lion"
    drawn = make_detection_prompts(PETS, tokenizer, sampled=False)
    orders = {drawn.draw([2], chance(seed)).labels for seed in range(40)}
    assert len(orders) == 6
    assert fixed.draw([], chance(1)).name_spans == ((0, 3), (5, 8), (10, 18))


def test_fixed_order_leaves_out_the_background_of_sampled_data_only(tokenizer: Tokenizer) -> None:
    def caption(classes: dict[int, str], **settings: bool) -> str:
        prompts = make_detection_prompts(classes, tokenizer, disable_shuffle=True, **settings)
        return prompts.draw([1], chance(1)).prompt.caption

    with_background = {0: "__background__", **PETS}
    assert caption(with_background, sampled=True) == "cat. dog. sea lion"
    assert caption(PETS, sampled=True) == "cat. dog. sea lion"
    assert caption(PETS, sampled=False, safeguard=True) == "cat. dog. sea lion"
    assert caption(with_background, sampled=False) == " background . cat. dog. sea lion"


def test_safeguard_draws_without_control_prefix_and_limit(tokenizer: Tokenizer) -> None:
    prompts = make_detection_prompts(
        PETS,
        tokenizer,
        sampled=False,
        safeguard=True,
        control=(1, 0, 0, 0),
        max_labels=1,
        add_prefix=True,
    )
    drawn = prompts.draw([2], chance(1))
    assert sorted(drawn.labels) == [1, 2, 3]
    assert not drawn.prompt.caption.startswith("object")


@pytest.mark.parametrize("shuffle", [False, True])
def test_names_beyond_the_limit_are_cut_and_named_once(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture, shuffle: bool
) -> None:
    with caplog.at_level(logging.WARNING, "glipkit.data.detection_prompts"):
        prompts = make_detection_prompts(
            MANY, tokenizer, sampled=False, disable_shuffle=not shuffle
        )
        for seed in range(20):
            assert_cut_as_the_text_encoder_cuts(prompts, tokenizer, seed)
    assert len(caplog.records) == 1
    assert "SPECIAL_SAFEGUARD_FOR_COCO_GROUNDING" in caplog.text


def assert_cut_as_the_text_encoder_cuts(
    prompts: DetectionPrompts, tokenizer: Tokenizer, seed: int
) -> None:
    drawn = prompts.draw([0], chance(seed))
    caption, count = drawn.prompt.caption, len(drawn.labels)
    assert said(drawn) == [clean_name(MANY[label]) for label in drawn.labels]
    end = drawn.prompt.phrases[-1].spans[0][1]
    assert tokenizer.count(caption[:end]) <= 256
    next_name = caption[end + 2 :].split(". ")[0]
    assert tokenizer.count(caption[: end + 2] + next_name) > 256
    assert tokenizer(drawn.prompt, truncate=True).phrase_tokens.any(dim=1).sum() == count < 400


def test_other_words_for_classes(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    words = [{"prefix": "a ", "name": name, "suffix": "!"} for name in ("cat", "dog", "seal")]
    for shuffle in (True, False):
        prompts = make_detection_prompts(
            PETS,
            tokenizer,
            sampled=False,
            disable_shuffle=not shuffle,
            caption_prompts=words,
        )
        drawn = prompts.draw([1], chance(3))
        assert sorted(said(drawn)) == ["cat", "dog", "seal"]
        assert sorted(drawn.prompt.caption.split(". ")) == ["a cat!", "a dog!", "a seal!"]
    assert not caplog.records
    make_detection_prompts(PETS, tokenizer, sampled=True, caption_prompts=words)
    assert "CAPTION_PROMPT is not used" in caplog.text


@pytest.mark.parametrize(
    ("classes", "settings", "complaint"),
    [
        ({}, {}, "no class name"),
        ({1: "cat", 2: "(small)"}, {}, "'\\(small\\)' has no words"),
        ({1: "cat", 2: "\u200b"}, {}, "has no words"),
        ({1: "cat " * 300}, {}, "Describe it in fewer words"),
        ({1: "cat " * 253}, {}, "room for 253"),
        (PETS, {"separator": ""}, "SEPARATION_TOKENS"),
        (PETS, {"separator": "and"}, "SEPARATION_TOKENS"),
        (PETS, {"control": (0.5, 0.5)}, "2 numbers"),
        (PETS, {"control": (0.5, 0.5, 0.5, 0)}, "sum to 1 at most"),
        (PETS, {"control": (-0.1, 0, 0, 0)}, r"in \[0, 1\]"),
        (PETS, {"control": (float("nan"), 0, 0, 0)}, r"in \[0, 1\]"),
        (PETS, {"control": (0, 0, 0.5, 0.1)}, "must be 0"),
        (PETS, {"add_prefix_advanced": True}, "ADD_DET_PROMPT is False"),
    ],
)
def test_bad_settings(
    tokenizer: Tokenizer, classes: dict[int, str], settings: dict, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_detection_prompts(classes, tokenizer, sampled=True, **settings)


@pytest.mark.parametrize("sampled", [True, False])
def test_unknown_labels(tokenizer: Tokenizer, sampled: bool) -> None:
    prompts = make_detection_prompts(PETS, tokenizer, sampled=sampled)
    with pytest.raises(ValueError, match=r"labels \[17\] are not ids"):
        prompts.draw([1, 17], chance(1))


def test_absent_present_classes_are_discarded() -> None:
    """Among four drawn of five, the present ones leave fewer than four."""
    draw = ClassDraw(dict.fromkeys(range(5), 1), 254, num_negatives=4)
    sizes = {len(draw([0, 1], chance(seed)).labels) for seed in range(50)}
    assert sizes == {4, 5}


def test_which_data_draw_their_classes() -> None:
    assert draws_classes("tsv", "coco")
    assert draws_classes("lvis", "lvis")
    assert draws_classes("coco", "object365")
    assert not draws_classes("coco", "coco")
    assert not draws_classes("coco", "")
