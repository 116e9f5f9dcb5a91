"""Flickr30K and RefCOCO over real pictures, with glip-nano and the commands as published."""

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from launched import ENVIRONMENT, launched
from test_caption_tools import FLICKR

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "test_grounding_net.py"
NANO = REPOSITORY / "glipkit" / "models" / "nano"
TASKS = ("flickr/val", "flickr/entities_val", "refcoco/refcoco_val")
SUITES = ("val/flickr30k_val", "entities_val/flickr30k_entities_val", "refcoco_val/refcoco_val")

sys.path.insert(0, str(REPOSITORY / "tools"))
sys.path.append(str(REPOSITORY / "benchmarks"))
import agreement  # noqa: E402
import test_grounding_net  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (NANO / "model.safetensors").is_file(), reason="needs the weights of glip-nano"
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _linked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The developers' pictures under the published names."""
    root = tmp_path_factory.mktemp("DATASET")
    script = runpy.run_path(str(REPOSITORY / "examples" / "link_shared_data.py"))
    script["link_all"](shared_data, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASET", str(root))
        patch.setitem(ENVIRONMENT, "DATASET", str(root))
        yield


def words(out: Path, *more: str) -> list[str]:
    tasks = ",".join(str(REPOSITORY / "configs" / f"{task}.yaml") for task in TASKS)
    return ["--config-file", str(NANO / "config.yaml"), "--task_config", tasks,
            "--weight", str(NANO / "model.safetensors"), "--device", "cpu", *FLICKR,
            "INPUT.MIN_SIZE_TEST", "256", "INPUT.MAX_SIZE_TEST", "320",
            "MODEL.ATSS.INFERENCE_TH", "0.01", "DATALOADER.NUM_WORKERS", "0",
            "OUTPUT_DIR", str(out), *more]  # fmt: skip


def read(out: Path, suite: str, name: str = "results") -> dict | list:
    return json.loads((out / suite / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def alone(_linked: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture at a time, in this process, on one thread as in `launched` ones."""
    out, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert test_grounding_net.main(words(out, "TEST.IMS_PER_BATCH", "1")) == 0
    finally:
        torch.set_num_threads(threads)
    return out


def test_both_forms_of_flickr_give_the_same_figures(alone: Path) -> None:
    mdetr, original = (read(alone, suite) for suite in SUITES[:2])
    assert mdetr["metrics"] == original["metrics"]
    assert {"R@1", "R@5", "R@10", "R@all", "R@1/animals", "R@1/clothing"} <= set(mdetr["metrics"])
    assert mdetr["metrics"]["R@all"] > 0  # photographs are not what nano has learnt
    for found in (mdetr, original):
        assert (found["counts"]["phrases"], found["counts"]["captions"]) == (34, 14)
        assert found["failures"] == []
        assert '"any" protocol' in found["protocol"]["metric"]
    assert original["counts"]["phrases_without_box"] > 0  # MDETR's files do not list these
    predictions = [read(alone, suite, "predictions") for suite in SUITES[:2]]
    assert predictions[0] == predictions[1]
    assert len(predictions[0]) > 100


def test_referring_expressions(alone: Path) -> None:
    found = read(alone, SUITES[2])
    assert set(found["metrics"]) == {"P@1", "P@5", "P@10"}
    assert found["metrics"]["P@1"] <= found["metrics"]["P@5"] <= found["metrics"]["P@10"]
    assert found["metrics"]["P@10"] > 0
    assert found["counts"] == {"expressions": 37, "expressions_without_box": 0}
    assert found["protocol"]["metric"].startswith("referring expressions, P@1 (accuracy)")
    summary = json.loads((alone / "summary.json").read_text())
    assert set(summary["mean"]) == {"R@1", "R@5", "R@10", "P@1", "P@5", "P@10"}


def test_batches_change_no_figure(alone: Path, tmp_path: Path) -> None:
    assert test_grounding_net.main(words(tmp_path, "TEST.IMS_PER_BATCH", "4")) == 0
    for suite in SUITES:
        assert read(tmp_path, suite)["metrics"] == read(alone, suite)["metrics"]
        lists = (read(out, suite, "predictions") for out in (tmp_path, alone))
        assert agreement.compare(*lists).share_alone <= 0.01  # what stands at the threshold


def test_two_processes_change_nothing_in_the_suites(alone: Path, tmp_path: Path) -> None:
    launched(TOOL, *words(tmp_path, "TEST.IMS_PER_BATCH", "2"), timeout=1200)
    for suite in SUITES:
        found = read(tmp_path, suite)
        assert found["metrics"] == read(alone, suite)["metrics"]
        assert found["timing"]["num_processes"] == 2
        assert read(tmp_path, suite, "predictions") == read(alone, suite, "predictions")


def test_the_other_protocol_is_judged_without_asking_again(alone: Path, tmp_path: Path) -> None:
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    more = ["TEST.IMS_PER_BATCH", "1", "DATASETS.FLICKR_GT_TYPE", "merged", "--resume"]
    assert test_grounding_net.main(words(tmp_path, *more)) == 0
    for suite in SUITES:
        assert read(tmp_path, suite)["timing"]["num_images"] == 0
        assert read(tmp_path, suite, "predictions") == read(alone, suite, "predictions")
    merged, original = (read(tmp_path, suite) for suite in SUITES[:2])
    assert merged["metrics"] == original["metrics"] != read(alone, SUITES[0])["metrics"]
    assert '"merged" protocol' in merged["protocol"]["metric"]
