"""The configuration that scripts written for GLIP change in place."""

import logging
from pathlib import Path

import pytest
from yacs.config import CfgNode

from glipkit.config import ConfigError, load_config
from glipkit.config import cfg as shared
from glipkit.config.published import OpenConfig, checked

CONFIGS = Path(__file__).parents[2] / "configs"
GLIP_T = CONFIGS / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"


def script(*words: object) -> OpenConfig:
    """What the published examples do before they build the demo."""
    cfg = OpenConfig.of_defaults()
    cfg.local_rank = 0
    cfg.num_gpus = 1
    cfg.merge_from_file(str(GLIP_T))
    cfg.merge_from_list(["MODEL.WEIGHT", "MODEL/glip.pth"])
    cfg.merge_from_list(list(words))
    return cfg


def test_a_script_of_glip_gives_what_load_config_gives() -> None:
    cfg = script("MODEL.DEVICE", "cpu", "TEST.IMS_PER_BATCH", 2)
    wanted = load_config(
        [GLIP_T],
        ["MODEL.WEIGHT", "MODEL/glip.pth", "MODEL.DEVICE", "cpu", "TEST.IMS_PER_BATCH", "2"],
    )
    assert checked(cfg) == wanted
    assert checked(cfg).is_frozen()
    assert not cfg.is_frozen()
    assert checked(wanted) == wanted  # what load_config made passes, too
    assert checked(cfg.clone()) == wanted


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_every_file_can_be_merged(path: Path) -> None:
    cfg = script()
    cfg.merge_from_file(path)
    assert checked(cfg) == load_config([GLIP_T, path], ["MODEL.WEIGHT", cfg.MODEL.WEIGHT])


def test_attributes_may_be_set() -> None:
    cfg = script()
    cfg.MODEL.ATSS.INFERENCE_TH = 0.2
    cfg.MODEL.RETINANET.DETECTIONS_PER_IMG = 300  # means nothing here, and is there
    cfg.DATASETS.TEST = ("val",)
    cfg.DATASETS.REGISTER.val = CfgNode({"ann_file": "a.json", "img_dir": "b"})
    made = checked(cfg)
    assert made.MODEL.ATSS.INFERENCE_TH == 0.2
    assert made.DATASETS.REGISTER.val.ann_file == "a.json"


def test_what_means_nothing_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        checked(script("MODEL.RETINANET.DETECTIONS_PER_IMG", "300"))
    assert "mean nothing here: MODEL.RETINANET.DETECTIONS_PER_IMG" in caplog.text


def test_mistakes_are_found() -> None:
    with pytest.raises(ConfigError, match=r"override MODEL.ATTS.NMS_TH.*did you mean"):
        script("MODEL.ATTS.NMS_TH", "0.5")
    with pytest.raises(ConfigError, match=r"MODEL.DEVICE must be a string"):
        script("MODEL.DEVICE", 3)
    cfg = script()
    cfg.MODEL.ATSS.INFERENCE_THR = 0.2
    with pytest.raises(ConfigError, match=r"cfg.MODEL.ATSS.INFERENCE_THR.*did you mean"):
        checked(cfg)
    cfg = script()
    cfg.MODEL.ATSS.NMS_TH = "high"
    with pytest.raises(ConfigError, match=r"MODEL.ATSS.NMS_TH must be a number"):
        checked(cfg)


def test_a_frozen_one_is_not_written_to() -> None:
    cfg = script()
    cfg.freeze()
    with pytest.raises(AttributeError, match="frozen"):
        cfg.merge_from_list(["MODEL.DEVICE", "cpu"])
    cfg.defrost()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.DEVICE == "cpu"


def test_other_configurations_can_be_merged() -> None:
    cfg = OpenConfig.of_defaults()
    cfg.merge_from_other_cfg(load_config([GLIP_T], ["MODEL.DEVICE", "cpu"]))
    assert checked(cfg).MODEL.DYHEAD.NUM_CONVS == 6
    assert cfg.MODEL.DEVICE == "cpu"


def test_the_shared_one_starts_with_published_defaults() -> None:
    assert isinstance(shared, OpenConfig)
    fresh = OpenConfig.of_defaults()
    fresh.MODEL.DEVICE = "cpu"
    assert shared.MODEL.DEVICE == "cuda"  # nothing is shared between two
    assert shared.MODEL.RETINANET.NUM_CLASSES == 81
