"""Folders as evaluations leave them, and `glipkit compare` asked about them."""

import json
from pathlib import Path

import pytest
from captioned import KnowingCaptions, caption_test_set
from drawn import KnowingDetector, make_test_set
from tiny_run import tiny_config

from glipkit.config.load import to_yaml
from glipkit.data.catalog import DatasetSpec
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.run import evaluate
from glipkit.shell.main import main

PROTOCOL = {"precision": "float32", "augmentation": None, "model": {"depths": [2, 2]}}


def evaluated(folder: Path, spec: DatasetSpec, *, mistakes: bool, **protocol: object) -> Path:
    """The folder of an evaluation, as the tool leaves it."""
    captions = spec.kind == "grounding"
    test_set = caption_test_set(spec) if captions else make_test_set(spec)
    knowing = (KnowingCaptions if captions else KnowingDetector)(test_set, mistakes=mistakes)
    depends_on = {**PROTOCOL, "weights": f"{mistakes:d}" * 64, **protocol}
    evaluate(knowing, test_set, build_evaluator(test_set), output_dir=folder, depends_on=depends_on)
    write_config(folder, spec)
    return folder


def write_config(folder: Path, spec: DatasetSpec) -> None:
    """What the tool was told."""
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir), "kind": spec.kind,
             "judged": spec.judged}  # fmt: skip
    words = [(f"DATASETS.REGISTER.{spec.name}.{key}", value) for key, value in entry.items()]
    words.append(("DATASETS.TEST", f"('{spec.name}',)"))
    cfg = tiny_config(*(word for pair in words for word in pair))
    (folder / "config.yaml").write_text(to_yaml(cfg))


def compared(capsys: pytest.CaptureFixture, *words: object) -> dict:
    assert main(["compare", *map(str, words), "--resamples", "50", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture, *words: object) -> str:
    assert main(["compare", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error
