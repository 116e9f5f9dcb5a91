"""The developers' pictures under published names, as examples/link_shared_data.py lays them out."""

import runpy
from itertools import islice
from pathlib import Path

import pytest

from glipkit.config.load import load_config
from glipkit.data.catalog import find_dataset
from glipkit.data.datasets.coco import load_coco
from glipkit.data.datasets.grounding import load_grounding
from glipkit.data.training.build import build_train_loader
from glipkit.grounding.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
GLIP_T = ROOT / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"


@pytest.fixture
def linked(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = runpy.run_path(str(ROOT / "examples" / "link_shared_data.py"))
    monkeypatch.setenv("DATASET", str(tmp_path))
    for _ in range(2):  # again does no harm
        script["link_all"](shared_data, tmp_path)
    return tmp_path


def test_published_names(linked: Path) -> None:
    for name, samples in (
        ("flickr30k_train", 15),
        ("flickr30k_val", 14),
        ("flickr30k_entities_val", 14),
        ("refexp_all_val", 37),
        ("refcoco_val", 37),
    ):
        source = load_grounding(find_dataset(name))
        assert len(source) == samples
        assert source.path(0).is_file()
    for name, pictures in (("coco_grounding_train", 27), ("coco_2017_val", 33)):
        assert len(load_coco(find_dataset(name, suffix="_grounding"))) == pictures


def test_what_is_there_stays(
    linked: Path, shared_data: Path, capsys: pytest.CaptureFixture
) -> None:
    own = linked / "coco" / "train2017"
    own.unlink()
    own.mkdir()
    runpy.run_path(str(ROOT / "examples" / "link_shared_data.py"))["link_all"](shared_data, linked)
    assert own.is_dir()
    assert not own.is_symlink()
    assert f"{own} is there already" in capsys.readouterr().out


def test_captions_and_classes_in_one_training_run(linked: Path) -> None:
    overrides = ["DATASETS.TRAIN", '("flickr30k_train", "coco_grounding_train")',
                 "AUGMENT.MULT_MIN_SIZE_TRAIN", "(96,)", "SOLVER.IMS_PER_BATCH", "6",
                 "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
    tokenizer = Tokenizer.load("bert-base-uncased")
    loader = build_train_loader(load_config([GLIP_T], overrides), tokenizer, rank=0, world_size=1)
    assert loader.num_images == 42
    for batch in islice(loader.batches(0), loader.steps_per_epoch):
        assert not batch.failures
        for target, tokens in zip(batch.targets, batch.prompts.phrase_tokens):
            assert len(target) > 0
            assert bool(tokens[target.box_phrases.any(dim=0)].any(dim=1).all())  # words are found
