"""tools/test_grounding_net.py with descriptions of classes, side by side, and several wordings."""

import json
import sys
from pathlib import Path

import drawn
import pytest
import torch
import yaml
from launched import launched
from tiny_run import CONFIG, TINY

from glipkit.config.load import load_config
from glipkit.engine.checkpoint import save_weights
from glipkit.modeling.build import build_model
from glipkit.modeling.fill import fill_model
from glipkit.programs.comparison import compare_results

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import test_grounding_net

KNOWN = {
    "cat": {"wiki": "a small pet", "gpt3": ["It purrs.", "It sleeps."]},
    "Dog": {"wiki": "it barks", "gpt3": ["It fetches."]},
    "owl": {"wiki": "a bird", "gpt3": ["It flies."]},
}
PROMPTS = {"cat": ["{name}", "{name}, furry and soft"], "owl": ["owl", "a bird of the night"]}
PARALLEL = ("GLIPKNOW.PARALLEL_LANGUAGE_INPUT", "True", "GLIPKNOW.LAN_FEATURE_AGG_TYPE", "mean")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    spec = drawn.draw(folder, num_images=4)
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    task = {"DATASETS": {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)'}}
    (folder / "drawn.yaml").write_text(yaml.safe_dump(task))
    (folder / "known.yaml").write_text(yaml.safe_dump(KNOWN))
    (folder / "prompts.yaml").write_text(yaml.safe_dump(PROMPTS))
    model = build_model(load_config([CONFIG], TINY))
    fill_model(model, seed=0)
    save_weights(model, folder / "tiny.safetensors")
    return folder


def words(home: Path, out: Path, *more: str) -> list[str]:
    flags = ["--config-file", str(CONFIG), "--task_config", str(home / "drawn.yaml")]
    return [
        *flags,
        "--weight",
        str(home / "tiny.safetensors"),
        *TINY,
        "OUTPUT_DIR",
        str(out),
        *more,
    ]


def knowing(home: Path, *more: str) -> tuple[str, ...]:
    return ("GLIPKNOW.KNOWLEDGE_FILE", str(home / "known.yaml"), *more)


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def run(home: Path, out: Path, *more: str) -> Path:
    assert test_grounding_net.main(words(home, out, *more)) == 0
    return out / "drawn" / "drawn"


def scores(folder: Path) -> torch.Tensor:
    found = json.loads((folder / "predictions.json").read_text())
    found.sort(key=lambda each: (each["image_id"], each["category_id"], -each["score"]))
    return torch.tensor([each["score"] for each in found])


def test_descriptions_change_answers_and_are_stated(home: Path, tmp_path: Path) -> None:
    told = knowing(home, "GLIPKNOW.WIKI_AND_GPT3", "True")
    joined = run(home, tmp_path / "joined", *told)
    beside = run(home, tmp_path / "beside", *told, *PARALLEL)
    protocol = [results(folder)["protocol"] for folder in (joined, beside)]
    assert protocol[0]["captions"][0].startswith("cat: a small pet; It purrs; It sleeps. dog: it")
    assert protocol[1]["captions"][0].startswith("cat: a small pet; It purrs; It sleeps\ndog: it")
    assert protocol[0]["knowledge"]["kinds"] == ["wiki", "gpt3"]
    assert protocol[1]["knowledge"]["parallel_language_input"] == "mean"
    assert len(scores(joined)) > 0
    assert scores(joined).shape != scores(beside).shape or not torch.allclose(
        scores(joined), scores(beside)
    )


def test_side_by_side_in_chunks_and_batches(home: Path, tmp_path: Path) -> None:
    told = (*knowing(home, "GLIPKNOW.KNOWLEDGE_TYPE", "wiki"), *PARALLEL)
    told += ("TEST.CHUNKED_EVALUATION", "2")
    one = run(home, tmp_path / "one", *told, "TEST.IMS_PER_BATCH", "1")
    four = run(home, tmp_path / "four", *told, "TEST.IMS_PER_BATCH", "4", "TEST.CHUNK_BATCH", "9")
    assert len(results(one)["protocol"]["captions"]) == 2
    torch.testing.assert_close(scores(one), scores(four), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_processes_and_batches_judge_described_wordings_alike(
    home: Path, tmp_path: Path
) -> None:
    more = ("--prompts", str(home / "prompts.yaml"), "TEST.CHUNKED_EVALUATION", "2")
    told = knowing(home, "GLIPKNOW.KNOWLEDGE_TYPE", "gpt3", "GLIPKNOW.GPT3_NUM", "1", *PARALLEL)
    one = run(home, tmp_path / "one", *more, *told, "TEST.IMS_PER_BATCH", "1")
    command = words(home, tmp_path / "two", *more, *told, "TEST.IMS_PER_BATCH", "8")
    launched(Path(test_grounding_net.__file__), *command, timeout=600)
    two = tmp_path / "two" / "drawn" / "drawn"
    for name in ("configured", "1", "2"):
        first, second = (folder / f"wording_{name}" for folder in (one, two))
        assert results(second)["timing"]["num_processes"] == 2
        assert results(first)["protocol"] == results(second)["protocol"]
        assert results(first)["metrics"] == pytest.approx(results(second)["metrics"])
        torch.testing.assert_close(scores(first), scores(second), rtol=1e-4, atol=1e-4)
    assert results(one)["details"]["best"] == results(two)["details"]["best"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("GLIPKNOW.KNOWLEDGE_TYPE", "wordnet"), "kinds gpt3, wiki, but 'wordnet' was asked"),
        ((), "but no kind was named"),
        (("GLIPKNOW.KNOWLEDGE_FILE", "nowhere.yaml"), "no knowledge file nowhere.yaml"),
        (("GLIPKNOW.KNOWLEDGE_FILE", str(CONFIG)), "expected class names"),
        (("--prompts", "nowhere.yaml"), "no file of prompts nowhere.yaml"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: tuple[str, ...], message: str
) -> None:
    told = () if "--prompts" in more else knowing(home)
    assert test_grounding_net.main(words(home, tmp_path, *told, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_wordings_side_by_side_are_wordings_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ("--prompts", str(home / "prompts.yaml"), "--report", "--save-pictures", "1")
    together = run(home, tmp_path / "together", *more)
    shown = capsys.readouterr().out
    assert "2 wordings: run i asks alternative i of every class" in shown
    assert "were chosen on these very pictures" in shown
    found = results(together)
    assert set(found["metrics"]) >= {"best_AP", "mean_AP", "deviation_AP", "upper_bound_AP"}
    best = found["details"]["best"]
    assert (together / f"wording_{best}" / "report.html").is_file()
    plain = run(home, tmp_path / "plain")
    said = [{"prefix": "", "name": "cat", "suffix": ", furry and soft"},
            {"prefix": "", "name": "dog", "suffix": ""},
            {"prefix": "", "name": "a bird of the night", "suffix": ""}]  # fmt: skip
    second = ("DATASETS.USE_CAPTION_PROMPT", "True", "DATASETS.CAPTION_PROMPT", json.dumps(said))
    alone = run(home, tmp_path / "alone", *second)
    for name, folder in (("configured", plain), ("1", plain), ("2", alone)):
        ours = together / f"wording_{name}"
        torch.testing.assert_close(scores(ours), scores(folder), rtol=1e-4, atol=1e-4)
        protocol = results(ours)["protocol"]
        assert protocol == results(folder)["protocol"]
    compared = compare_results(
        [together / "wording_1", together / "wording_2"], varied=("captions", "prompts_sha256")
    )
    assert compared.without is None  # its runs can be weighed, all of them together cannot
    assert "AP50" in [row.name for row in compared.metrics]
    assert len(compared.classes) == 3
    command = ["--config-file", str(together / "wording_2" / "config.yaml")]
    command += ["--weight", str(home / "tiny.safetensors"), "OUTPUT_DIR", str(tmp_path / "redone")]
    assert test_grounding_net.main(command) == 0
    redone = tmp_path / "redone" / "config" / "drawn"
    assert results(redone)["protocol"] == results(alone)["protocol"]
    again = words(home, tmp_path / "together", "--prompts", str(home / "prompts.yaml"), "--resume")
    assert test_grounding_net.main(again) == 0
    assert results(together)["timing"]["num_images"] == 0
    assert results(together)["metrics"] == found["metrics"]
