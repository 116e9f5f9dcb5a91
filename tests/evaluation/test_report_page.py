"""report.html: complete, safe, on its own; made with an evaluation and long after it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import drawn
import numpy as np
import pytest
from captioned import draw_captions
from evaluated import evaluated

from glipkit import evaluation_report
from glipkit.data.datasets.coco import load_coco
from glipkit.data.test_set import TestSet
from glipkit.evaluation.build import build_evaluator
from glipkit.evaluation.report import report_on, write_report
from glipkit.evaluation.report_pictures import extremes
from glipkit.evaluation.run import evaluate

VOID = {"meta", "img", "br", "line"}
EVIL = '</td><script>alert("x")</script><img src=x onerror=alert(1)> & "quoted" \'single\''


class Checker(HTMLParser):
    """Every tag closes in order; what was written is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def judged(folder: Path, test_set: TestSet) -> None:
    detector = drawn.KnowingDetector(test_set, mistakes=True)
    evaluate(
        detector, test_set, build_evaluator(test_set), output_dir=folder,
        depends_on={"weights": "abc"}, batch_size=4,
    )  # fmt: skip


@pytest.fixture
def evil(tmp_path: Path) -> TestSet:
    """A dataset whose names try to be markup."""
    spec = drawn.draw(tmp_path / "data")
    content = json.loads(spec.ann_file.read_text())
    content["categories"][0]["name"] = EVIL
    (spec.img_dir / "1.png").rename(spec.img_dir / "<b>&1.png")
    content["images"][1]["file_name"] = "<b>&1.png"
    spec.ann_file.write_text(json.dumps(content))
    return drawn.make_test_set(replace(spec, name='<i>drawn"'))


def test_report_says_everything_and_loads_nothing(evil: TestSet, tmp_path: Path) -> None:
    judged(tmp_path, evil)
    path = write_report(tmp_path, evil.dataset, num_pictures=6)
    assert path == tmp_path / "report.html"
    page = parsed(path)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "embed", "i", "b "} & set(names)
    assert names.count("h2") == 7
    assert names.count("img") == 6
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    text = path.read_text()
    assert "http" not in text
    assert not re.search(r"url\(|@import", text)
    assert EVIL in "".join(page.words)  # as words, not as markup
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    assert f"{metrics['AP50']:.3f}" in page.words
    assert "All 3, the lowest AP first" in text
    assert re.search(r"\b1 object,", text)
    assert not re.search(r"\b1 (objects|boxes)\b", text)
    assert "not of that evaluation" not in text  # both ways to count AP50 agree


def test_pictures_are_bounded_and_worst_come_first(evil: TestSet, tmp_path: Path) -> None:
    judged(tmp_path, evil)
    none = parsed(write_report(tmp_path, evil.dataset, num_pictures=0))
    assert "img" not in [tag for tag, _ in none.tags]
    many = write_report(tmp_path, evil.dataset, num_pictures=1000)
    assert [tag for tag, _ in parsed(many).tags].count("img") <= len(evil)
    errors = [float(e) for e in re.findall(r"error (\d\.\d\d),", many.read_text())]
    half = (len(errors) + 1) // 2
    assert errors[:half] == sorted(errors[:half], reverse=True)
    assert errors[half:] == sorted(errors[half:])
    assert min(errors[:half]) >= max(errors[half:])


def test_extremes_share_no_picture() -> None:
    errors = np.array([0.5, np.nan, 0.0, 1.0, 1.0])
    weights = np.array([1, 9, 1, 1, 5])
    assert extremes(errors, weights, 4) == ([4, 3], [2, 0])
    assert extremes(errors, weights, 1) == ([4], [])
    assert extremes(errors[1:2], weights, 4) == ([], [])
    assert extremes(errors[:1], weights, 4) == ([0], [])


def test_an_unreadable_picture_is_named(evil: TestSet, tmp_path: Path) -> None:
    judged(tmp_path, evil)
    for path in evil.dataset.img_dir.iterdir():
        path.write_bytes(b"no picture")
    text = write_report(tmp_path, evil.dataset).read_text()
    assert "of no known format" in text
    assert "data:image" not in text


def test_no_predictions_and_no_truth(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}]
    test_set = drawn.make_test_set(drawn.write(tmp_path / "data", images, []))
    drawn.Image.new("RGB", (30, 20)).save(tmp_path / "data" / "pictures" / "a.png")
    evaluate(
        drawn.KnowingDetector(test_set), test_set, build_evaluator(test_set),
        output_dir=tmp_path, depends_on={},
    )  # fmt: skip
    text = "".join(parsed(write_report(tmp_path, test_set.dataset)).words)
    assert "no object to find" in text
    assert "None to show" in text


def test_predictions_of_another_run_are_noticed(evil: TestSet, tmp_path: Path) -> None:
    judged(tmp_path, evil)
    (tmp_path / "predictions.json").write_text("[]")
    assert "not of that evaluation" in write_report(tmp_path, evil.dataset).read_text()


def test_folders_that_hold_no_such_evaluation(evil: TestSet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .*results.json; expected the folder"):
        write_report(tmp_path, evil.dataset)
    judged(tmp_path, evil)
    other = replace(evil.dataset, digest="0" * 64)
    with pytest.raises(ValueError, match="is not the file that"):
        write_report(tmp_path, other)
    results = json.loads((tmp_path / "results.json").read_text())
    results["metrics"] = {"R@1": 0.5}
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"R@1.*reports are made of detections"):
        write_report(tmp_path, evil.dataset)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        write_report(tmp_path, evil.dataset)


def test_command_finds_the_dataset_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = drawn.draw(tmp_path / "data")
    test_set = drawn.make_test_set(spec)
    judged(tmp_path, replace(test_set, dataset=load_coco(spec).first(7)))
    entry = {"ann_file": str(spec.ann_file), "img_dir": str(spec.img_dir)}
    names = {"REGISTER": {"drawn": entry}, "TEST": '("drawn",)'}
    config = Path(__file__).parents[2] / "configs" / "pretrain" / "glip_Swin_T_O365.yaml"
    task = json.dumps({"DATASETS": names, "TEST": {"SUBSET": 7}})
    (tmp_path / "task.yaml").write_text(task)
    cfg = evaluation_report.load_config([config, tmp_path / "task.yaml"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    assert evaluation_report.main([str(tmp_path), "--pictures", "2"]) == 0
    assert capsys.readouterr().out == f"written to {tmp_path / 'report.html'}\n"
    words = "".join(parsed(tmp_path / "report.html").words)
    assert "pictures7" in words

    assert evaluation_report.main([str(tmp_path / "data")]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(cfg.dump().replace("- drawn", "- coco_2017_val"))
    assert evaluation_report.main([str(tmp_path)]) == 2
    assert "config.yaml names coco_2017_val" in capsys.readouterr().err

    names["REGISTER"]["drawn"] = {**entry, "kind": "lvis"}
    (tmp_path / "task.yaml").write_text(json.dumps({"DATASETS": names}))
    cfg = evaluation_report.load_config([config, tmp_path / "task.yaml"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    content = json.loads(spec.ann_file.read_text())
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in content["categories"]:
        category["frequency"] = "f"
    spec.ann_file.write_text(json.dumps(content))
    assert evaluation_report.main([str(tmp_path)]) == 2
    assert "is about LVIS" in capsys.readouterr().err


def test_captions_get_no_report_later_either(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = draw_captions(tmp_path / "data")
    folder = evaluated(tmp_path / "judged", spec, mistakes=False)
    assert evaluation_report.main([str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder} holds figures other than average precision (R@1, R@5" in said
    (folder / "results.json").write_text('{"metrics": {}}')
    assert evaluation_report.main([str(folder)]) == 2
    assert "results.json has no dataset" in capsys.readouterr().err


def test_captions_get_no_report(
    evil: TestSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judged(tmp_path, evil)
    assert report_on(evil, tmp_path) == tmp_path / "report.html"
    captions = SimpleNamespace(dataset=object(), name="captions")
    assert report_on(captions, tmp_path) is None
    assert "captions: no report" in caplog.text
