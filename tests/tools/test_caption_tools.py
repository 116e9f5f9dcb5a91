"""The tools on captions, as typed: phrases are judged after training and during it."""

import json
import runpy
import sys
from pathlib import Path

import captioned
import drawn
import pytest
import torch
import yaml
from launched import launched
from test_evaluation_tool import CONFIG, REPOSITORY, TINY, TOOL, write_task
from tiny_run import write_run

sys.path.insert(0, str(REPOSITORY / "tools"))
import test_grounding_net
import train_net

TASK = "captions.yaml"
# As published for Flickr30k (configs/flickr).
FLICKR = [
    *("TEST.MDETR_STYLE_AGGREGATE_CLASS_NUM", "100", "TEST.EVAL_TASK", "grounding"),
    *("MODEL.DYHEAD.FUSE_CONFIG.MLM_LOSS", "False"),
]
RECALL = {"R@1", "R@5", "R@10", "R@all"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn captions, a task file, and deterministic weights."""
    folder = tmp_path_factory.mktemp("home")
    spec = captioned.draw_captions(folder)
    entry = {"kind": "grounding", "ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    names = {"REGISTER": {"mine": entry}, "TEST": '("mine",)', "TRAIN": '("mine",)'}
    (folder / TASK).write_text(yaml.safe_dump({"DATASETS": names}))
    write_run(folder)
    return folder


def words(home: Path, out: Path, *more: str, task: str | Path = TASK) -> list[str]:
    return ["--config-file", str(CONFIG), "--task_config", str(home / task), *TINY,
            "--weight", str(home / "model_best.safetensors"),
            "MODEL.ATSS.INFERENCE_TH", "0.01", "OUTPUT_DIR", str(out), *more]  # fmt: skip


def read(out: Path, name: str, task: str = "captions/mine") -> dict | list:
    return json.loads((out / task / f"{name}.json").read_text())


def assert_same(first: Path, second: Path) -> None:
    """Equal but for float noise: kernels may add up in another order for another batch."""
    found = [read(out, "predictions") for out in (first, second)]
    assert len(found[0]) == len(found[1]) > 0
    scores = [torch.tensor([each["score"] for each in some]) for some in found]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
    metrics = [read(out, "results")["metrics"] for out in (first, second)]
    assert metrics[0] == metrics[1]


@pytest.fixture(scope="module")
def alone(home: Path) -> Path:
    """The answer to compare with: one picture at a time, in this process."""
    out = home / "alone"
    assert test_grounding_net.main(words(home, out, *FLICKR, "TEST.IMS_PER_BATCH", "1")) == 0
    return out


def test_results_say_what_was_judged(alone: Path) -> None:
    found = read(alone, "results")
    assert set(found["metrics"]) == RECALL
    assert (found["counts"]["phrases"], found["counts"]["captions"]) == (30, 15)
    assert found["protocol"]["metric"].startswith('phrase recall, "any" protocol')
    assert len(found["protocol"]["weights"]) == 64
    predictions = read(alone, "predictions")
    assert set(predictions[0]) == {"image_id", "phrase", "box", "score"}
    assert {each["image_id"] for each in predictions} <= set(range(100, 115))


def test_batches_change_nothing(
    home: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    line = words(home, tmp_path, "TEST.IMS_PER_BATCH", "4", "--save-pictures", "3")
    assert test_grounding_net.main(line) == 0  # TEST.EVAL_TASK is as the dataset is
    assert_same(alone, tmp_path)
    assert "Recall of 30 phrases in 15 captions" in capsys.readouterr().out
    assert len(list((tmp_path / "captions" / "mine" / "pictures").iterdir())) == 3


def test_resumed_without_the_model(home: Path, alone: Path, capsys: pytest.CaptureFixture) -> None:
    before = read(alone, "predictions")
    line = words(home, alone, *FLICKR, "TEST.IMS_PER_BATCH", "1", "--resume")
    assert test_grounding_net.main(line) == 0
    assert read(alone, "predictions") == before
    assert read(alone, "results")["timing"]["num_images"] == 0


@pytest.mark.slow
def test_two_processes_change_nothing(home: Path, alone: Path, tmp_path: Path) -> None:
    launched(TOOL, *words(home, tmp_path))
    assert_same(alone, tmp_path)
    assert read(tmp_path, "results")["timing"]["num_processes"] == 2


def test_captions_beside_classes(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = drawn.draw(tmp_path / "classes", num_images=4)
    write_task(tmp_path / "drawn.yaml", spec.ann_file, spec.img_dir)
    both = f"{home / TASK},{tmp_path / 'drawn.yaml'}"
    assert test_grounding_net.main(words(home, tmp_path, task=both)) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("AP75", "R@10", "captions/mine", "drawn/drawn"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["mean"]) == {"AP", "AP50", "AP75", "R@1", "R@5", "R@10"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["TEST.EVAL_TASK", "detection"], "captions, not classes"),
        (["DATASETS.FLICKR_GT_TYPE", "both"], "known: 'separate', 'merged'"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    assert test_grounding_net.main(words(home, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_published_command_on_real_pictures(
    home: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(REPOSITORY / "examples" / "link_shared_data.py"))
    script["link_all"](shared_data, tmp_path / "DATASET")
    monkeypatch.setenv("DATASET", str(tmp_path / "DATASET"))
    flickr = REPOSITORY / "configs" / "flickr"
    tasks = f"{flickr / 'test.yaml'},{flickr / 'val.yaml'}"
    line = words(home, tmp_path / "out", *FLICKR, task=tasks)
    assert test_grounding_net.main(line) == 0
    for split, phrases, captions in (("test", 32, 13), ("val", 34, 14)):
        found = read(tmp_path / "out", "results", f"{split}/flickr30k_{split}")
        assert (found["counts"]["phrases"], found["counts"]["captions"]) == (phrases, captions)
        assert found["failures"] == []


def test_the_protocol_of_merged_boxes(home: Path, alone: Path, tmp_path: Path) -> None:
    assert test_grounding_net.main(words(home, tmp_path, "DATASETS.FLICKR_GT_TYPE", "merged")) == 0
    found = read(tmp_path, "results")
    assert found["protocol"]["metric"].startswith('phrase recall, "merged" protocol')
    assert found["counts"] == read(alone, "results")["counts"]


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("flickr30k_mine", "finetune_refcoco_val", "is a referring expression"),
        ("refcoco_mine", "final_flickr_separateGT_val", "is a caption with phrases"),
        ("flickr30k_mine", "final_flickr_mergedGT_val", "set DATASETS.FLICKR_GT_TYPE merged"),
    ],
)
def test_a_file_of_another_suite_is_one_line(
    home: Path,
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    name: str,
    file: str,
    message: str,
) -> None:
    (path,) = shared_data.glob(f"*_mini/**/{file}.json")
    entry = {"ann_file": str(path), "img_dir": str(shared_data / "grounding_mini" / "images")}
    task = tmp_path / "task.yaml"
    task.write_text(
        yaml.safe_dump({"DATASETS": {"REGISTER": {name: entry}, "TEST": f'("{name}",)'}})
    )
    assert test_grounding_net.main(words(home, tmp_path, task=task)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert path.name in error
    assert "Traceback" not in error


def test_training_is_validated_on_captions(home: Path, tmp_path: Path) -> None:
    line = words(home, tmp_path, "TEST.DURING_TRAINING", "True")
    line += [*("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MAX_SIZE_TRAIN", "96"),
             *("AUGMENT.MULT_MIN_SIZE_TRAIN", "()", "SOLVER.IMS_PER_BATCH", "2"),
             *("SOLVER.MAX_EPOCH", "0", "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()"),
             *("SOLVER.WARMUP_ITERS", "0", "SOLVER.CHECKPOINT_PERIOD", "1"),
             *("SOLVER.USE_AMP", "False", "SOLVER.MODEL_EMA", "0.0")]  # fmt: skip
    assert train_net.main(line) == 0
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    judged = [entry for entry in lines if "R@1" in entry]
    assert [entry["step"] for entry in judged] == [1, 2]
    assert judged[-1]["best_R@1"] == max(entry["R@1"] for entry in judged)
    assert (tmp_path / "model_best.safetensors").is_file()
    trained = json.loads((tmp_path / "trained.json").read_text())
    assert trained["best_ap"] == judged[-1]["best_R@1"]
    assert set(read(tmp_path, "results", "best/mine")["metrics"]) == RECALL
