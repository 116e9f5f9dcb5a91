"""tools/train_net.py and tools/finetune.py, as typed: a tiny model in every mode, and stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from launched import launched
from test_evaluation_tool import CONFIG, REPOSITORY, TINY, home, write_task  # noqa: F401

from glipkit.engine.tensor_files import read_tensors

sys.path.insert(0, str(REPOSITORY / "tools"))
import finetune
import test_grounding_net
import train_net

TRAINING = [
    *("INPUT.MIN_SIZE_TRAIN", "64", "INPUT.MAX_SIZE_TRAIN", "96"),
    *("AUGMENT.MULT_MIN_SIZE_TRAIN", "()", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_EPOCH", "0"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.USE_AMP", "False", "SOLVER.LOG_PERIOD", "1"),
    *("DATASETS.DISABLE_SHUFFLE", "True"),
]


def words(home: Path, out: Path, *more: str) -> list[str]:  # noqa: F811
    flags = ["--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml")]
    weight = ["--weight", str(home / "tiny.pth")]
    return [*flags, *weight, *TINY, *TRAINING, "OUTPUT_DIR", str(out), *more]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path)


def judged_weights(folder: Path) -> str:
    """The hash of the weights that the results below a folder are of."""
    results = json.loads((folder / "drawn" / "results.json").read_text())
    return results["protocol"]["weights"]


def assert_same_bits(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:  # noqa: F811
    """A run of four steps that was never disturbed."""
    out = home / "trained"
    assert train_net.main(words(home, out, "TEST.DURING_TRAINING", "True")) == 0
    return out


def test_a_run_leaves_weights_state_and_figures(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        *("model_best.safetensors", "model_final.safetensors", "model_final_ema.safetensors"),
        *("last.pt", "metrics.jsonl", "config.yaml", "run.json", "trained.json", "log.txt"),
    }
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss/total" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]
    assert all(line["loss/token"] > 0 for line in losses)
    assert [line["step"] for line in lines if "AP" in line] == [2, 4]
    assert json.loads((trained / "trained.json").read_text())["steps"] == 4
    assert (trained / "final" / "drawn" / "results.json").is_file()


def test_the_log_says_what_learns_from_what(trained: Path) -> None:
    log = (trained / "log.txt").read_text()
    assert "what training starts from" in log
    assert "trained, except class_logits" in log
    assert "tiny.pth" in log


def test_only_files_of_its_own_count_as_saved(home: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "model_best.safetensors").write_bytes(b"of another run, which was removed")
    line = words(home, tmp_path, "--skip-test", "SOLVER.MAX_ITER", "1", "SOLVER.MODEL_EMA", "0.0")
    assert train_net.main(line) == 0
    said = json.loads((tmp_path / "trained.json").read_text())
    size = (tmp_path / "model_final.safetensors").stat().st_size
    assert (said["best_step"], said["saved"]) == (None, {"model_final.safetensors": size})


def test_the_same_command_again_has_nothing_to_do(
    home: Path,  # noqa: F811
    trained: Path,
) -> None:
    before = (trained / "last.pt").stat().st_mtime_ns
    assert train_net.main(words(home, trained, "TEST.DURING_TRAINING", "True")) == 0
    assert (trained / "last.pt").stat().st_mtime_ns == before
    assert "nothing to do" in (trained / "log.txt").read_text()


def test_another_configuration_is_refused_by_name(
    home: Path,  # noqa: F811
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = words(home, trained, "TEST.DURING_TRAINING", "True", "SOLVER.BASE_LR", "0.5")
    assert train_net.main(changed) == 2
    said = capsys.readouterr().err
    assert "SOLVER.BASE_LR: then 0.0001, now 0.5" in said
    assert "--allow-changes" in said


def test_a_refused_change_leaves_the_run_as_it_was(
    home: Path,  # noqa: F811
    tmp_path: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probe = ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "linear_prob", "--skip-test", "--partial-weight")
    assert train_net.main(words(home, tmp_path, *probe)) == 0
    kept = ("run.json", "config.yaml", "base.safetensors", "tuned_final.safetensors")
    before = {name: (tmp_path / name).read_bytes() for name in kept}
    other = ("--weight", str(trained / "model_final.safetensors"), "--allow-changes")
    assert train_net.main(words(home, tmp_path, *probe, *other)) == 2
    assert "last.pt" in capsys.readouterr().err
    assert before == {name: (tmp_path / name).read_bytes() for name in kept}
    (tmp_path / "trained.json").write_text("{")
    assert train_net.main(words(home, tmp_path, *probe)) == 2
    assert "trained.json is damaged" in capsys.readouterr().err


def test_last_state_serves_as_checkpoint(home: Path, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    flags = ["--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml"), *TINY]
    last = ["--weight", str(trained / "last.pt"), "OUTPUT_DIR", str(tmp_path)]
    assert test_grounding_net.main([*flags, *last]) == 0
    one = json.loads((tmp_path / "drawn" / "drawn" / "results.json").read_text())
    two = json.loads((trained / "final" / "drawn" / "results.json").read_text())
    assert one["metrics"] == two["metrics"]
    assert one["protocol"]["weights"] == two["protocol"]["weights"]


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_bits(
    home: Path,  # noqa: F811
    trained: Path,
    tmp_path: Path,
) -> None:
    """SIGKILL to the whole group at random moments, the same command again each time."""
    command = [sys.executable, str(REPOSITORY / "tools" / "train_net.py")]
    command += words(
        home, tmp_path, "TEST.DURING_TRAINING", "True", "SOLVER.CHECKPOINT_PERIOD", "1"
    )
    chance, kills = random.Random(0), 0
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    for _ in range(3):
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline, seen = time.monotonic() + 300, (tmp_path / "last.pt").exists()
        stamp = (tmp_path / "last.pt").stat().st_mtime_ns if seen else 0
        while process.poll() is None and time.monotonic() < deadline:
            state = tmp_path / "last.pt"
            if state.exists() and state.stat().st_mtime_ns != stamp:  # it has come a step further
                time.sleep(chance.random() if kills else 0.0)  # the first kill must not be late
                break
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 1
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    straight = tmp_path / "straight"
    more = ("TEST.DURING_TRAINING", "True", "SOLVER.CHECKPOINT_PERIOD", "1")
    assert train_net.main(words(home, straight, *more)) == 0
    for name in ("model_final", "model_final_ema", "model_best"):
        assert_same_bits(tmp_path / f"{name}.safetensors", straight / f"{name}.safetensors")
    assert_same_bits(trained / "model_final.safetensors", straight / "model_final.safetensors")


@pytest.mark.slow
def test_two_processes_end_alike_with_copies_and_with_shards(home: Path, tmp_path: Path) -> None:  # noqa: F811
    tool = REPOSITORY / "tools" / "train_net.py"
    more = ("TEST.DURING_TRAINING", "True", "SOLVER.USE_EMA_FOR_MONITOR", "True")
    for kind in ("ddp", "fsdp"):
        line = words(home, tmp_path / kind, "SOLVER.PARALLEL", kind, *more)
        launched(tool, *line, timeout=600)
        assert judged_weights(tmp_path / kind / "final_ema") == judged_weights(
            tmp_path / kind / "validation"
        )
    for name in ("model_best", "model_final", "model_final_ema"):
        copies, shards = (weights(tmp_path / k / f"{name}.safetensors") for k in ("ddp", "fsdp"))
        torch.testing.assert_close(shards, copies, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "learns"),
    [
        ("linear_prob", {"predictor"}),
        ("language_prompt_v1", {"text_encoder"}),
        ("language_prompt_v2", {"prompt_offset"}),
        ("language_prompt_v3", {"predictor", "text_encoder"}),
        ("language_prompt_v4", {"predictor", "prompt_offset"}),
    ],
)
def test_fine_tuning_saves_what_it_tuned_and_loads_it_again(
    home: Path,  # noqa: F811
    tmp_path: Path,
    mode: str,
    learns: set[str],
) -> None:
    more = ("SOLVER.TUNING_HIGHLEVEL_OVERRIDE", mode, "SOLVER.BASE_LR", "0.05")
    line = words(home, tmp_path, *more, "TEST.DURING_TRAINING", "True", "SOLVER.LANG_LR", "0.05")
    assert finetune.main([*line, "--seeds", "3"]) == 0
    folder = tmp_path / "drawn" / "seed_3"
    tuned = folder / "tuned_best.safetensors"
    assert {name.split(".")[0] for name in weights(tuned)} == learns
    assert not (folder / "model_final.safetensors").exists()
    (run,) = json.loads((tmp_path / "summary.json").read_text())["runs"]
    # Loaded anew from base and tuned weights, the model is the one that was in memory.
    assert judged_weights(folder / "final") == judged_weights(folder / "validation")
    assert run["figures"]["best/drawn"] == pytest.approx(run["best_val"], abs=1e-6)
    judged = [
        *("--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml"), *TINY),
        *("--weight", str(home / "tiny.pth"), "--tuned", str(tuned)),
        *("OUTPUT_DIR", str(tmp_path / "again")),
    ]
    assert test_grounding_net.main(judged) == 0
    assert judged_weights(tmp_path / "again" / "drawn") == judged_weights(folder / "best")


def test_a_learnt_prompt_is_small(home: Path, tmp_path: Path) -> None:  # noqa: F811
    line = words(home, tmp_path, "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2")
    assert finetune.main([*line, "--skip-test"]) == 0
    tuned = tmp_path / "drawn" / "tuned_final.safetensors"
    (offset,) = weights(tuned).values()
    assert offset.shape == (7, 32)  # [CLS] cat . dog . owl [SEP]
    assert tuned.stat().st_size < 2000


def test_a_learnt_prompt_speaks_up_under_other_words(home: Path, tmp_path: Path) -> None:  # noqa: F811
    line = words(home, tmp_path, "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2")
    assert finetune.main([*line, "--skip-test", "TEST.DURING_TRAINING", "True"]) == 0
    names = '[{"id": 3, "name": "lion"}, {"id": 7, "name": "dog"}, {"id": 11, "name": "owl"}]'
    judged = [
        *("--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml"), *TINY),
        *("--weight", str(home / "tiny.pth"), "TEST.SUBSET", "2"),
        *("--tuned", str(tmp_path / "drawn" / "tuned_final.safetensors")),
    ]
    own, other = tmp_path / "own", tmp_path / "other"
    assert test_grounding_net.main([*judged, "OUTPUT_DIR", str(own)]) == 0
    assert "was learnt with" not in (own / "log.txt").read_text()
    assert "prompts, and a learned prompt" not in (own / "log.txt").read_text()
    few = ("TEST.CHUNKED_EVALUATION", "2", "OUTPUT_DIR", str(tmp_path / "few"))
    assert test_grounding_net.main([*judged, *few]) == 0
    assert "asks its 3 classes in 2 prompts" in (tmp_path / "few" / "log.txt").read_text()
    override = ("DATASETS.USE_OVERRIDE_CATEGORY", "True", "DATASETS.OVERRIDE_CATEGORY", names)
    assert test_grounding_net.main([*judged, *override, "OUTPUT_DIR", str(other)]) == 0
    assert "was learnt with 'cat. dog. owl'" in (other / "log.txt").read_text()


def test_what_cannot_teach_a_learned_prompt_is_said(home: Path, tmp_path: Path) -> None:  # noqa: F811
    line = words(home, tmp_path, "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2")
    line += ["--skip-test", "TEST.DURING_TRAINING", "True", "TEST.CHUNKED_EVALUATION", "2"]
    contrastive = "MODEL.DYHEAD.FUSE_CONFIG.USE_CONTRASTIVE_ALIGN_LOSS"
    assert train_net.main([*line, contrastive, "True"]) == 0
    said = (tmp_path / "log.txt").read_text()
    assert "asks its 3 classes in 2 prompts, and a learned prompt belongs" in said
    assert f"{contrastive} False leaves its loss out" in said


def test_tuned_weights_of_another_base_are_refused(
    home: Path,  # noqa: F811
    tmp_path: Path,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = words(home, tmp_path, "SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "language_prompt_v2")
    assert finetune.main([*line, "--skip-test"]) == 0
    judged = [
        *("--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml"), *TINY),
        *("--weight", str(trained / "model_final.safetensors")),
        *("--tuned", str(tmp_path / "drawn" / "tuned_final.safetensors")),
    ]
    assert test_grounding_net.main([*judged, "OUTPUT_DIR", str(tmp_path / "again")]) == 2
    assert "was tuned from other weights: from tiny.pth" in capsys.readouterr().err


def test_recipes_and_seeds_end_in_one_summary(
    home: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = words(home, tmp_path, "--seeds", "3,30", "--evaluate_only_best_on_test")
    line += ["--custom_shot_and_epoch_and_general_copy", "1_1_1,0_1_1"]
    line += ["SOLVER.TUNING_HIGHLEVEL_OVERRIDE", "linear_prob", "TEST.DURING_TRAINING", "True"]
    assert finetune.main(line) == 0
    said = capsys.readouterr().out
    assert "drawn/1_shot (mean)" in said
    assert "drawn/all_data (mean)" in said
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [run["name"] for run in summary["runs"]] == [
        *("drawn/1_shot/seed_3", "drawn/1_shot/seed_30"),
        *("drawn/all_data/seed_3", "drawn/all_data/seed_30"),
    ]
    assert summary["groups"]["drawn/1_shot"]["test"]["count"] == 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")}
    assert finetune.main(line) == 0  # all runs are finished: nothing is trained again
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("last.pt")}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("DATASETS.TRAIN", "()"), "DATASETS.TRAIN is ()"),
        (("DATASETS.TRAIN", "('nowhere',)"), "unknown dataset 'nowhere'"),
        (("--weight", "missing.pth"), "missing.pth"),
        (("SOLVER.ACCUMULATION", "2", "SOLVER.IMS_PER_BATCH", "3"), "SOLVER.ACCUMULATION"),
        (("SOLVER.USE_AUTOSTEP", "True"), "TEST.DURING_TRAINING"),
    ],
)
def test_bad_input_is_one_line(
    home: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    assert train_net.main(words(home, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert said in error
    assert "Traceback" not in error


def test_ranks_that_cannot_be_joined_are_one_line_too(
    home: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as caught:
        train_net.main(words(home, tmp_path, "--backend", "nccl"))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --backend nccl needs a GPU")
    assert "Traceback" not in error
