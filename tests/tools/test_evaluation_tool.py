"""tools/test_grounding_net.py, as typed: one model, every way to ask, every way to go wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import drawn
import pytest
import torch
import yaml
from launched import launched

from glipkit.config.load import load_config
from glipkit.engine.checkpoint import save_weights
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "test_grounding_net.py"
sys.path.insert(0, str(TOOL.parent))
import test_grounding_net  # noqa: E402

CONFIG = REPOSITORY / "configs" / "pretrain" / "glip_Swin_T_O365_GoldG.yaml"
TINY = [
    *("MODEL.SWINT.EMBED_DIM", "16", "MODEL.SWINT.OUT_CHANNELS", "(16, 32, 64, 128)"),
    *("MODEL.SWINT.DEPTHS", "(1, 1, 1, 1)", "MODEL.SWINT.NUM_HEADS", "(1, 2, 2, 4)"),
    *("MODEL.BACKBONE.OUT_CHANNELS", "32", "MODEL.DYHEAD.CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_CONVS", "1", "MODEL.LANGUAGE_BACKBONE.LANG_DIM", "32"),
    *("MODEL.LANGUAGE_BACKBONE.NUM_LAYERS", "1", "MODEL.LANGUAGE_BACKBONE.NUM_HEADS", "4"),
    *("MODEL.LANGUAGE_BACKBONE.MLP_DIM", "64", "MODEL.DYHEAD.FUSE_CONFIG.EMBED_DIM", "64"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "96", "DATALOADER.NUM_WORKERS", "0"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset, a task file, and deterministic weights in the published layout."""
    folder = tmp_path_factory.mktemp("home")
    spec = drawn.draw(folder, num_images=14)
    write_task(folder / "drawn.yaml", spec.ann_file, spec.img_dir)
    model = build_model(load_config([CONFIG], TINY))
    fill_model(model, seed=0)
    save_weights(model, folder / "tiny.pth", layout="published")
    return folder


def write_task(path: Path, ann_file: Path, img_dir: Path, **datasets: object) -> None:
    entry = {"ann_file": str(ann_file), "img_dir": str(img_dir)}
    names = {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)', "TRAIN": '("drawn",)'}
    path.write_text(yaml.safe_dump({"DATASETS": names | datasets}))


def words(home: Path, out: Path, *more: str, weight: str = "tiny.pth") -> list[str]:
    """The command line; KEY VALUE pairs in `more` win, flags may stand among them."""
    flags = ["--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml")]
    return [*flags, "--weight", str(home / weight), *TINY, "OUTPUT_DIR", str(out), *more]


def run(home: Path, out: Path, *more: str, **settings: str) -> dict:
    assert test_grounding_net.main(words(home, out, *more, **settings)) == 0
    return results(out)


def results(out: Path) -> dict:
    return json.loads((out / "drawn" / "drawn" / "results.json").read_text())


def predictions(out: Path) -> list[dict]:
    found = json.loads((out / "drawn" / "drawn" / "predictions.json").read_text())
    return sorted(found, key=lambda each: (each["image_id"], each["category_id"], -each["score"]))


def assert_same_predictions(first: list[dict], second: list[dict]) -> None:
    """Equal but for float noise: kernels may add up in another order for another batch."""
    assert len(first) == len(second)
    keys = [[(each["image_id"], each["category_id"]) for each in each_list]
            for each_list in (first, second)]  # fmt: skip
    assert keys[0] == keys[1]
    scores = [torch.tensor([each["score"] for each in each_list]) for each_list in (first, second)]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def alone(home: Path) -> Path:
    """The answer to compare with: one picture at a time, in this process."""
    out = home / "alone"
    run(home, out, "TEST.IMS_PER_BATCH", "1")
    return out


def test_results_say_what_they_depend_on(alone: Path) -> None:
    found = results(alone)
    assert set(found["metrics"]) >= {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"}
    assert [each["name"] for each in found["per_class"]] == ["cat", "dog", "owl"]
    assert found["protocol"]["chunk_size"] == -1
    assert len(found["protocol"]["weights"]) == 64
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["timing"]["seconds_per_image"] > 0
    assert len(predictions(alone)) > 0
    config = load_config([alone / "drawn" / "drawn" / "config.yaml"])
    assert config.MODEL.SWINT.EMBED_DIM == 16


@pytest.mark.parametrize("more", [("TEST.IMS_PER_BATCH", "4"), ("DATALOADER.NUM_WORKERS", "1")])
def test_batches_and_workers_change_nothing(
    home: Path, alone: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    found = run(home, tmp_path, *more)
    assert_same_predictions(predictions(alone), predictions(tmp_path))
    assert found["metrics"] == pytest.approx(results(alone)["metrics"], abs=1e-3, nan_ok=True)


@pytest.mark.slow
def test_two_processes_change_nothing(home: Path, alone: Path, tmp_path: Path) -> None:
    said = launched(TOOL, *words(home, tmp_path))
    assert said.count("written to") == 1  # rank 0 speaks for both
    assert_same_predictions(predictions(alone), predictions(tmp_path))
    assert results(tmp_path)["timing"]["num_processes"] == 2


def test_chunks_are_asked_one_by_one(home: Path, alone: Path, tmp_path: Path) -> None:
    found = run(home, tmp_path, "TEST.CHUNKED_EVALUATION", "2")
    assert found["protocol"]["captions"] == ["cat. dog", "owl"]
    assert found["protocol"]["chunk_size"] == 2
    run(home, tmp_path / "whole", "TEST.CHUNKED_EVALUATION", "40")  # three names fit one prompt
    assert_same_predictions(predictions(alone), predictions(tmp_path / "whole"))


def test_our_own_format_gives_the_same(home: Path, alone: Path, tmp_path: Path) -> None:
    from glipkit.convert import convert

    convert(home / "tiny.pth", home / "tiny.safetensors", force=True)
    found = run(home, tmp_path, weight="tiny.safetensors")
    assert found["protocol"]["weights"] == results(alone)["protocol"]["weights"]
    assert_same_predictions(predictions(alone), predictions(tmp_path))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_low_precision_is_close_and_says_so(
    home: Path, alone: Path, tmp_path: Path, precision: str
) -> None:
    found = run(home, tmp_path, "TEST.PRECISION", precision)
    assert found["protocol"]["precision"] == precision
    assert found["protocol"]["weights"] == results(alone)["protocol"]["weights"]
    best = [max(each["score"] for each in predictions(out)) for out in (alone, tmp_path)]
    assert best[0] != best[1]  # it did compute in another precision
    assert best[1] == pytest.approx(best[0], rel=0.05)


def test_prompts_asked_together_give_the_same(home: Path, alone: Path, tmp_path: Path) -> None:
    several = ("TEST.CHUNKED_EVALUATION", "1")
    one_by_one = run(home, tmp_path / "a", *several, "TEST.CHUNK_BATCH", "1")
    together = run(home, tmp_path / "b", *several, "TEST.CHUNK_BATCH", "99")
    assert together["protocol"] == one_by_one["protocol"]  # no answer depends on it
    assert_same_predictions(predictions(tmp_path / "a"), predictions(tmp_path / "b"))


def test_what_this_machine_does_not_have_is_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = words(home, tmp_path, "TEST.CUDA_GRAPHS", "True", "--device", "cpu")
    assert test_grounding_net.main(argv) == 2
    assert "TEST.CUDA_GRAPHS is True, but the model is on cpu" in capsys.readouterr().err


def test_pictures_are_saved(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path, "--save-pictures", "3")
    folder = tmp_path / "drawn" / "drawn"
    assert len(list((folder / "pictures").glob("*.png"))) == 3
    assert (folder / "pictures.png").is_file()


def test_boxes_are_shown_from_the_score_that_is_asked(home: Path, tmp_path: Path) -> None:
    drawn = {}
    for score in ("0", "1"):
        run(home, tmp_path / score, "--save-pictures", "1", "--show-from", score)
        (path,) = (tmp_path / score / "drawn" / "drawn" / "pictures").glob("*.png")
        drawn[score] = path.read_bytes()
    assert drawn["0"] != drawn["1"]


def test_what_is_no_score_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert test_grounding_net.main(words(home, tmp_path, "--show-from", "3")) == 2
    assert "--show-from is a score from 0 to 1, got 3.0" in capsys.readouterr().err


def test_several_tasks_give_an_overview(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = drawn.draw(tmp_path, num_images=3)
    write_task(tmp_path / "other.yaml", spec.ann_file, spec.img_dir)
    argv = words(home, tmp_path / "out")
    argv[3] = f"{argv[3]},{tmp_path / 'other.yaml'}"
    assert test_grounding_net.main(argv) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["evaluations"]) == {"drawn/drawn", "other/drawn"}
    assert "mean" in capsys.readouterr().out


def test_a_test_set_without_pictures_does_not_end_the_others(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = drawn.draw(tmp_path, num_images=3)
    for path in spec.img_dir.iterdir():
        path.unlink()
    write_task(tmp_path / "blind.yaml", spec.ann_file, spec.img_dir)
    argv = words(home, tmp_path / "out")
    argv[3] = f"{tmp_path / 'blind.yaml'},{argv[3]}"
    assert test_grounding_net.main(argv) == 2
    assert (tmp_path / "out" / "drawn" / "drawn" / "results.json").exists()
    said = capsys.readouterr().err
    assert "1 of 2 test sets were not judged" in said
    assert "could be read: blind/drawn" in said


def test_broken_picture_is_named_and_counted(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = drawn.draw(tmp_path, num_images=5)
    (spec.img_dir / "2.png").write_bytes((spec.img_dir / "2.png").read_bytes()[:300])
    write_task(tmp_path / "drawn.yaml", spec.ann_file, spec.img_dir)
    argv = words(home, tmp_path / "out", "--task_config", str(tmp_path / "drawn.yaml"))
    assert test_grounding_net.main(argv) == 0
    (failure,) = results(tmp_path / "out")["failures"]
    assert failure["path"].endswith("2.png")
    assert "1 of 5 images could not be read" in capsys.readouterr().out
    assert test_grounding_net.main([*argv, "--strict"]) == 2
    assert "2.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["TEST.IMS_PER_BATCH", "two"], "TEST.IMS_PER_BATCH"),
        (["TEST.IMS_PER_BATHC", "2"], "TEST.IMS_PER_BATCH"),
        (["TEST.IMS_PER_BATCH"], "KEY VALUE"),
        (["--task_config", "nowhere.yaml"], "nowhere.yaml"),
        (["--weight", "nowhere.pth"], "nowhere.pth"),
        (["--weight", __file__], "test_evaluation_tool.py"),
        (["--device", "cuda:99"], "GPU"),
        (["TEST.EVAL_TASK", "grounding"], "captions"),
        (["DATASETS.TEST", "('drwan',)"], "drawn"),
        (["MODEL.DYHEAD.NUM_CONVS", "2"], "missing"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert test_grounding_net.main(words(home, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_partial_weights_are_an_explicit_wish(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tensors = torch.load(home / "tiny.pth", weights_only=True)["model"]
    del tensors["rpn.head.centerness.weight"]
    torch.save({"model": tensors}, home / "partial.pth")
    assert test_grounding_net.main(words(home, tmp_path, weight="partial.pth")) == 2
    error = capsys.readouterr().err
    assert "rpn.head.centerness.weight" in error
    assert "--partial-weight" in error
    found = [run(home, tmp_path, "--partial-weight", weight="partial.pth") for _ in range(2)]
    assert found[0]["protocol"]["weights"] == found[1]["protocol"]["weights"]  # seeded


def _picture_of(home: Path, image_id: int) -> Path:
    drawn_task = yaml.safe_load((home / "drawn.yaml").read_text())["DATASETS"]["REGISTER"]["drawn"]
    images = json.loads(Path(drawn_task["ann_file"]).read_text())["images"]
    names = {image["id"]: image["file_name"] for image in images}
    return Path(drawn_task["img_dir"]) / names[image_id]


@pytest.mark.slow
def test_interrupted_and_resumed_is_uninterrupted(home: Path, alone: Path, tmp_path: Path) -> None:
    # The picture that is read last is a pipe nobody writes to, so that no machine is too fast.
    lines = (alone / "drawn" / "drawn" / "journal-0.jsonl").read_text().splitlines()
    picture = _picture_of(home, json.loads(lines[-1])["image_id"])
    pixels = picture.read_bytes()
    picture.unlink()
    os.mkfifo(picture)
    command = [sys.executable, str(TOOL), *words(home, tmp_path, "TEST.IMS_PER_BATCH", "1")]
    journal = tmp_path / "drawn" / "drawn" / "journal-0.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if journal.is_file() and len(journal.read_text().splitlines()) >= 3:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.01)
    finally:
        picture.unlink()
        picture.write_bytes(pixels)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors[-3000:]
    assert "--resume" in errors
    assert "Traceback" not in errors
    before = len(journal.read_text().splitlines())
    found = run(home, tmp_path, "--resume", "TEST.IMS_PER_BATCH", "1")
    assert found["timing"]["num_images"] == 14 - (before - 1)  # the first line is a header
    assert predictions(tmp_path) == predictions(alone)
