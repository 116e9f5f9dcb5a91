"""GLIPKNOW.*: what is served, what contradicts itself, and that nothing is trained with it."""

from pathlib import Path

import pytest

from glipkit.config.errors import ConfigError
from glipkit.config.load import load_config

GLIP_T = Path(__file__).parents[2] / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
FILE = ("GLIPKNOW.KNOWLEDGE_FILE", "known.yaml")


def test_published_keys_are_served() -> None:
    cfg = load_config(
        [GLIP_T],
        [
            *FILE,
            *("GLIPKNOW.KNOWLEDGE_TYPE", "gpt3", "GLIPKNOW.GPT3_NUM", "3"),
            *("GLIPKNOW.WIKI_AND_GPT3", "True", "GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True"),
            *("GLIPKNOW.LAN_FEATURE_AGG_TYPE", "mean"),
            *("GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN", "20"),  # of training; evaluation reads on
        ],
    )
    assert cfg.GLIPKNOW.KNOWLEDGE_FILE == "known.yaml"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("GLIPKNOW.KNOWLEDGE_TYPE", "wiki"), "KNOWLEDGE_TYPE.*KNOWLEDGE_FILE.*no file"),
        (("GLIPKNOW.WIKI_AND_GPT3", "True"), "WIKI_AND_GPT3.*KNOWLEDGE_FILE.*no file"),
        (
            (*FILE, "GLIPKNOW.WIKI_AND_GPT3", "True", "GLIPKNOW.KNOWLEDGE_TYPE", "wordnet"),
            "WIKI_AND_GPT3.*KNOWLEDGE_TYPE is 'wordnet'",
        ),
        (("GLIPKNOW.GPT3_NUM", "0"), "GPT3_NUM is 0.*at least 1"),
        (("GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN", "0"), "-1 or at least 1"),
        (("GLIPKNOW.LAN_FEATURE_AGG_TYPE", "last"), "known: 'first', 'mean'"),
        (
            (
                *("GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True"),
                *("MODEL.LANGUAGE_BACKBONE.MASK_SPECIAL", "True"),
            ),
            r"MASK_SPECIAL.*LAN_FEATURE_AGG_TYPE.*first token is \[CLS\]",
        ),
    ],
)
def test_contradictions_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config([GLIP_T], overrides)


@pytest.mark.parametrize(
    "override",
    [
        FILE,
        ("GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True"),
        ("GLIPKNOW.MAX_NUM_CLASSES_PER_BATCH_TRAIN", "20"),
    ],
)
def test_nothing_is_trained_with_descriptions(override: tuple[str, str]) -> None:
    left_out = {"GLIPKNOW.KNOWLEDGE_FILE": "''", "GLIPKNOW.PARALLEL_LANGUAGE_INPUT": "False"}
    todo = f"set it to {left_out.get(override[0], '-1')} here, train with the names alone"
    with pytest.raises(ConfigError, match=rf"{override[0]}.*does not train with desc.*{todo}"):
        load_config([GLIP_T], override, training=True)
