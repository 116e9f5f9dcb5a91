"""tools/run_odinw.py, as typed: two small tasks, a tiny model, and all that can go wrong."""

import json
import os
import runpy
import shutil
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
from tiny_run import CONFIG, TINY, write_run

from glipkit.programs import odinw
from glipkit.runtime.locks import FolderLock

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "tools" / "run_odinw.py"
sys.path.insert(0, str(TOOL.parent))
import run_odinw  # noqa: E402

NAMES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 11, "name": "owl"}]
TRAINING = (
    *("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MAX_SIZE_TRAIN", "96", "SOLVER.USE_AMP", "False"),
    *("AUGMENT.MULT_MIN_SIZE_TRAIN", "()", "SOLVER.WARMUP_ITERS", "0"),
)


def write_task(path: Path, spec: drawn.DatasetSpec, names: list[dict] = NAMES) -> None:
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    datasets = {
        "REGISTER": {split: dict(entry) for split in ("train", "val", "test")},
        "OVERRIDE_CATEGORY": json.dumps(names),
        "TRAIN": '("train",)',
        "TEST": '("val",)',
    }
    path.write_text(yaml.safe_dump({"DATASETS": datasets}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, the second without a box to find in its test data, and weights."""
    folder = tmp_path_factory.mktemp("home")
    write_task(folder / "Drawn.yaml", drawn.draw(folder / "drawn", num_images=4))
    spec = drawn.draw(folder / "empty", num_images=3)
    content = json.loads(spec.ann_file.read_text())
    spec.ann_file.write_text(json.dumps({**content, "annotations": []}))
    write_task(folder / "Empty.yaml", spec)
    write_run(folder)
    return folder


def words(home: Path, out: Path, *more: str, tasks: tuple[str, ...] = ("Drawn", "Empty")) -> list:
    files = [str(home / f"{task}.yaml") for task in tasks]
    model = ["--weight", str(home / "model_best.safetensors"), "--config-file", str(CONFIG)]
    return ["--task_config", *files, *model, *TINY, *TRAINING, "OUTPUT_DIR", str(out), *more]


def stamps(out: Path) -> dict[str, int]:
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in out.rglob("odinw.json")}


def column(out: Path, mode: str) -> dict:
    (found,) = json.loads((out / mode / "summary.json").read_text())["columns"].values()
    return found


@pytest.fixture(scope="module")
def asked(home: Path) -> Path:
    """Both tasks zero-shot, never disturbed."""
    out = home / "asked"
    assert run_odinw.main(words(home, out)) == 0
    return out


def test_zero_shot_leaves_table_and_submission(home: Path, asked: Path) -> None:
    found = column(asked, "zero-shot")
    assert (found["tasks_counted"], found["tasks_asked"]) == (1, 2)
    assert found["without_boxes"] == ["zero-shot/Empty"]
    results = json.loads((asked / "zero-shot" / "Drawn" / "results.json").read_text())
    assert found["mean"]["mean"] == results["metrics"]["AP"]
    assert results["dataset"] == "test"
    said = json.loads((asked / "zero-shot" / "submission.json").read_text())
    assert said["Drawn"] == json.loads(
        (asked / "zero-shot" / "Drawn" / "predictions.json").read_text()
    )
    assert set(said) == {"Drawn", "Empty"}
    assert "| Drawn | Empty |" in (asked / "zero-shot" / "table.md").read_text()


def test_a_submission_scores_what_its_table_says(
    home: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = str(asked / "zero-shot" / "submission.json")
    assert run_odinw.main(words(home, tmp_path / "out", "--score", submission)) == 0
    table = (asked / "zero-shot" / "table.txt").read_text().splitlines()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:7] if line]
    assert rows == [line.split() for line in table[1:7] if line]
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_not_done_again_until_it_would_differ(
    home: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(asked, out)
    before = stamps(out)
    assert run_odinw.main(words(home, out, "DATALOADER.NUM_WORKERS", "0")) == 0
    assert stamps(out) == before
    assert "1 of 2" in capsys.readouterr().out

    result = out / "zero-shot" / "Drawn" / "odinw.json"
    result.write_text(result.read_text()[:100])  # half written
    (out / "zero-shot" / "Empty" / "predictions.json").write_text("[")
    assert run_odinw.main([*words(home, out), "--dry-run"]) == 0
    assert "begun  zero-shot/Drawn\nbegun  zero-shot/Empty\n2 jobs" in capsys.readouterr().out
    assert run_odinw.main(words(home, out)) == 0
    again = stamps(out)
    assert all(again[name] > before[name] for name in before)
    assert column(out, "zero-shot") == column(asked, "zero-shot")

    assert run_odinw.main(words(home, out, "MODEL.ATSS.DETECTIONS_PER_IMG", "3")) == 0
    assert all(stamps(out)[name] > again[name] for name in again)
    found = json.loads((out / "zero-shot" / "Drawn" / "predictions.json").read_text())
    assert len(found) <= 3 * 4


def test_a_dry_run_writes_nothing(home: Path, tmp_path: Path, capsys) -> None:
    line = words(home, tmp_path / "out", "--mode", "zero-shot,full", "--shots", "0,3", "--dry-run")
    assert run_odinw.main([*line, "--tasks", "drawn"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "new    zero-shot/Drawn",
        "new    full/Drawn/all_data/seed_3",
        *(f"new    full/Drawn/3_shot/seed_{seed}" for seed in (3, 30, 300)),
        "5 jobs: 0 done, 0 begun, 5 new, 0 fault",
    ]
    assert not (tmp_path / "out").exists()


def test_missing_folders_are_all_named_before_anything_runs(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Gone", "Lost"):
        missing = home / f"no_{name}"
        write_task(home / f"{name}.yaml", drawn.DatasetSpec(name, missing / "a.json", missing))
    line = words(home, tmp_path, tasks=("Gone", "Drawn", "Lost"))
    assert run_odinw.main(line) == 2
    said = capsys.readouterr().err
    assert "2 of 3 tasks cannot be run" in said
    assert "no_Gone" in said
    assert "no_Lost" in said
    assert not (tmp_path / "zero-shot").exists()
    assert run_odinw.main([*line, "--keep-going", "TEST.SUBSET", "2"]) == 2
    found = column(tmp_path, "zero-shot")
    assert (found["tasks_counted"], found["tasks_asked"]) == (1, 3)
    assert set(found["failed"]) == {"zero-shot/Gone", "zero-shot/Lost"}
    assert "1 of 3" in capsys.readouterr().out


def test_a_class_list_in_another_order_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = drawn.DatasetSpec("test", *(home / "drawn" / n for n in ("boxes.json", "pictures")))
    write_task(home / "Turned.yaml", spec, NAMES[::-1])
    assert run_odinw.main(words(home, tmp_path, tasks=("Turned",))) == 2
    said = capsys.readouterr().err
    assert "Turned: DATASETS.OVERRIDE_CATEGORY" in said
    assert "[11, 7, 3]" in said


def test_what_fails_on_the_way_is_left_out_if_asked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = drawn.draw(home / "broken", num_images=2)
    whole = (spec.img_dir / "1.png").read_bytes()
    (spec.img_dir / "1.png").write_bytes(b"no picture")
    write_task(home / "Broken.yaml", spec)
    line = words(home, tmp_path, "TEST.SUBSET", "2", tasks=("Broken", "Drawn"))
    assert run_odinw.main([*line, "--strict"]) == 2
    assert not (tmp_path / "zero-shot" / "Drawn").exists()
    assert run_odinw.main([*line, "--strict", "--keep-going"]) == 2
    found = column(tmp_path, "zero-shot")
    assert found["tasks_counted"] == 1
    assert "1.png" in found["failed"]["zero-shot/Broken"]

    assert run_odinw.main(line) == 0
    found = column(tmp_path, "zero-shot")
    assert found["with_unreadable_pictures"] == ["zero-shot/Broken"]
    assert run_odinw.main([*line, "--strict"]) == 2
    (spec.img_dir / "1.png").write_bytes(whole)
    assert run_odinw.main(line) == 0
    assert column(tmp_path, "zero-shot")["with_unreadable_pictures"] == []

    def judge(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(odinw, "judge", judge)
    line = words(home, tmp_path / "full", "TEST.SUBSET", "1")
    assert run_odinw.main(line) == 2
    assert not (tmp_path / "full" / "zero-shot" / "summary.json").exists()
    assert run_odinw.main([*line, "--keep-going"]) == 2
    assert len(column(tmp_path / "full", "zero-shot")["failed"]) == 2


def test_the_claim_of_a_killed_process_is_taken_over(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys, time; from pathlib import Path; from glipkit.runtime.locks import *\n"
    program += "lock = FolderLock(Path(sys.argv[1])); print(1, flush=True); time.sleep(600)"
    claim = tmp_path / ".claims" / "zero-shot" / "Drawn"
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(claim)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "1\n"
    waited = []

    def wait(seconds: float) -> None:
        waited.append(column(tmp_path, "zero-shot")["not_done"])
        other.kill()
        other.wait()

    monkeypatch.setattr(odinw.time, "sleep", wait)
    assert run_odinw.main(words(home, tmp_path, "TEST.SUBSET", "1")) == 0
    assert waited == [["zero-shot/Drawn"]]  # the other task was done first
    assert column(tmp_path, "zero-shot")["not_done"] == []
    FolderLock(claim).release()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--mode", "half"), "known: zero-shot, full"),
        (("--mode", "full", "--shots", "2"), "--recipe 2_200_4"),
        (("--mode", "full", "MODEL.LANGUAGE_BACKBONE.FREEZE", "True"), "contradict each other"),
        (("--shots", "x"), "--shots takes numbers"),
        (("--mode", "full", "--recipe", "x"), "--recipe takes SHOTS_EPOCHS_COPIES"),
        (("--mode", "zero-shot, full", "--split", "val"), "models of full are judged on test"),
        (("--tasks", "Drown"), "is no task here"),
        (("--weight", "missing.pth"), "missing.pth"),
        (("--split", "nowhere"), "unknown dataset 'nowhere'"),
    ],
)
def test_bad_input_is_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert run_odinw.main(words(home, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


TUNE = ("--mode", "language_prompt_v2", "--shots", "1", "--recipe", "1_2_1", "--seeds", "3,30",
        "--tasks", "Drawn")  # fmt: skip


def test_few_shots_are_trained_judged_and_handed_in_by_seed(home: Path, tmp_path: Path) -> None:
    assert run_odinw.main(words(home, tmp_path, *TUNE)) == 0
    found = column(tmp_path, "language_prompt_v2")
    assert set(found["tasks"]["Drawn"]["seeds"]) == {"3", "30"}
    said = json.loads((tmp_path / "language_prompt_v2" / "submission_1_shot.json").read_text())
    assert set(said["Drawn"]) == {"3", "30"}
    before = stamps(tmp_path)
    assert run_odinw.main(words(home, tmp_path, *TUNE)) == 0
    assert stamps(tmp_path) == before

    folder = tmp_path / "language_prompt_v2" / "Drawn" / "1_shot"
    steps = (folder / "seed_3" / "last.pt").stat().st_mtime_ns
    (folder / "seed_3" / "odinw.json").write_text("{")  # judged again, not trained again
    judged = folder / "seed_3" / "best" / "test"
    (judged / "predictions.json").write_text("")
    lines = (judged / "journal-0.jsonl").read_text().splitlines(keepends=True)
    (judged / "journal-0.jsonl").write_text("".join(lines[:2]))  # killed after one of 4 pictures
    assert run_odinw.main(words(home, tmp_path, *TUNE)) == 0
    assert json.loads((judged / "results.json").read_text())["timing"]["num_images"] == 3
    assert (folder / "seed_3" / "last.pt").stat().st_mtime_ns == steps
    assert column(tmp_path, "language_prompt_v2") == found

    more = ("SOLVER.BASE_LR", "0.01", "--seeds", "3", "--strict")
    picture = home / "drawn" / "pictures" / "0.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"no picture")
    assert run_odinw.main(words(home, tmp_path, *TUNE, *more)) == 2
    picture.write_bytes(whole)
    assert run_odinw.main(words(home, tmp_path, *TUNE, *more)) == 0
    assert sorted(each.name for each in folder.iterdir()) == ["seed_3", "seed_3.replaced_1",
                                                              "seed_30"]  # fmt: skip


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_goes_on(home: Path, tmp_path: Path) -> None:
    line = [*words(home, tmp_path, *TUNE), "--recipe", "1_30_1", "--seeds", "3"]
    line += ["SOLVER.CHECKPOINT_PER_EPOCH", "0.2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(TOOL), *line], env=environment)
    folder = tmp_path / "language_prompt_v2" / "Drawn" / "1_shot" / "seed_3"
    while not (folder / "last.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    assert run_odinw.main([*line, "--dry-run"]) == 0
    assert run_odinw.main(line) == 0
    assert "going on from step" in (tmp_path / "log.txt").read_text()
    assert not list(folder.parent.glob("*.replaced_*"))
    assert column(tmp_path, "language_prompt_v2")["tasks_counted"] == 1


@pytest.mark.slow
def test_two_processes_share_the_list(home: Path, asked: Path, tmp_path: Path) -> None:
    line = [sys.executable, str(TOOL), *words(home, tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) for _ in "12"
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]  # each has the whole table
    assert column(tmp_path, "zero-shot") == column(asked, "zero-shot")
    assert (tmp_path / "log.txt").read_text().count("job ") == 2


@pytest.mark.slow
def test_ranks_do_each_job_together(home: Path, asked: Path, tmp_path: Path) -> None:
    line = [*words(home, tmp_path, *TUNE), "--mode", "zero-shot,language_prompt_v2", "--seeds", "3"]
    said = launched(TOOL, *line)
    assert said.count("language_prompt_v2 1_shot") == 1  # one rank speaks
    alone = column(asked, "zero-shot")["tasks"]["Drawn"]
    assert column(tmp_path, "zero-shot")["tasks"]["Drawn"] == alone
    assert column(tmp_path, "language_prompt_v2")["tasks_counted"] == 1
    job, before = tmp_path / "zero-shot" / "Drawn", stamps(tmp_path)
    assert json.loads((job / "results.json").read_text())["timing"]["num_processes"] == 2

    (job / "journal-1.jsonl").write_text("no journal\n")  # both ranks begin anew
    (job / "odinw.json").unlink()
    launched(TOOL, *line)
    assert column(tmp_path, "zero-shot")["tasks"]["Drawn"] == alone
    again = stamps(tmp_path)
    changed = [name for name in before if again[name] != before[name]]
    assert changed == ["zero-shot/Drawn/odinw.json"]


@pytest.fixture
def real_suite(shared_data: Path, tmp_path: Path) -> list[str]:
    """Raccoons and blood cells as two tasks of ODinW-35, asked with glip-nano: quick settings."""
    script = runpy.run_path(str(REPOSITORY / "examples" / "link_shared_data.py"))
    script["link_all"](shared_data, tmp_path / "DATASET")
    nano = REPOSITORY / "glipkit" / "models" / "nano"
    if not (nano / "model.safetensors").is_file():
        pytest.skip("needs glip-nano, glipkit/models/nano, which this checkout does not have")
    sizes = [f"INPUT.{side}_SIZE_{use}" for side in ("MIN", "MAX") for use in ("TRAIN", "TEST")]
    return [
        *("--config-file", str(nano / "config.yaml"), "--weight", str(nano / "model.safetensors")),
        *("--suite", "35", "--tasks", "raccoon,bccd", "--shots", "3", "--recipe", "3_1_1"),
        *("--mode", "zero-shot,full,language_prompt_v2", "--seeds", "3,30"),
        *(word for size in sizes for word in (size, "256")),
        *("AUGMENT.MULT_MIN_SIZE_TRAIN", "()", "TEST.SUBSET", "6"),
        *("MODEL.LANGUAGE_BACKBONE.FREEZE", "False"),  # which nano's own file says for its training
        *("DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path / "out")),
    ]


@pytest.mark.slow
def test_two_real_tasks_interrupted_and_resumed(
    real_suite: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATASET", str(tmp_path / "DATASET"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, str(TOOL), *real_suite])
    while not list(out.rglob("last.pt")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "it was over before it could be interrupted"
    assert run_odinw.main([*real_suite, "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in planned[:2]] == ["done", "done"]
    assert planned[-1].startswith("10 jobs: ")
    assert run_odinw.main(real_suite) == 0
    table = capsys.readouterr().out
    assert "full 3_shot" in table
    assert "language_prompt_v2 3_shot" in table
    tasks = {"Raccoon_Raccoon.v2-raw.coco", "BCCD_BCCD.v3-raw.coco"}
    for mode, name in (("zero-shot", ""), ("full", "_3_shot"), ("language_prompt_v2", "_3_shot")):
        found = column(out, mode)
        assert found["tasks_counted"] == 2
        assert set(found["tasks"]) == tasks
        said = json.loads((out / mode / f"submission{name}.json").read_text())
        assert set(said) == tasks
        assert mode == "zero-shot" or all(set(seeds) == {"3", "30"} for seeds in said.values())
