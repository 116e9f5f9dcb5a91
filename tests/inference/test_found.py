"""What was found, and everything people do with it."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glipkit.inference.asked import Asked
from glipkit.inference.found import Found, FoundBox
from glipkit.structures.detections import Detections
from glipkit.visualize import phrase_color

BOXES = [[10.0, 20.0, 50.5, 60.25], [0.1, 0.2, 30.0, 40.0], [5.0, 5.0, 9.0, 9.0]]
ASKED = Asked((), ("a cat. a dog. a wolf",), ("a cat", "a dog", "a wolf"), 1,
              (((0, 5),), ((7, 12),), ((14, 20),)), (0, 0, 0))  # fmt: skip


def answer(**changes) -> Found:
    """Three boxes, given worst first."""
    values = {
        "boxes": torch.tensor(BOXES[::-1]),
        "scores": torch.tensor([0.3, 0.5, 0.9]),
        "phrase_ids": torch.tensor([1, 0, 1]),
        "phrases": ASKED.wanted,
        "picture": Image.new("RGB", (120, 90), (100, 100, 100)),
        "source": "street.jpg",
        "asked": ASKED,
    }
    return Found(**{**values, **changes})


def nothing(**changes) -> Found:
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    return answer(**empty, phrase_ids=torch.zeros(0, dtype=torch.int64), **changes)


def same(a: Found, b: Found) -> bool:
    names = ("boxes", "scores", "phrase_ids")
    tracks = [None if each.track_ids is None else each.track_ids.tolist() for each in (a, b)]
    return (
        all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
        and tracks[0] == tracks[1]
        and (a.phrases, a.source, a.size, a.asked) == (b.phrases, b.source, b.size, b.asked)
    )


def test_the_best_comes_first() -> None:
    found = answer(track_ids=torch.tensor([3, 2, 1]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.boxes.tolist() == torch.tensor(BOXES).tolist()
    assert found.labels == ["a dog", "a cat", "a dog"]
    assert found.track_ids.tolist() == [1, 2, 3]
    assert found.size == (120, 90)


def test_a_list_of_boxes() -> None:
    found = answer()
    assert len(found) == 3
    assert next(iter(found)) == FoundBox((10.0, 20.0, 50.5, 60.25), 0.9, "a dog")
    assert found[-1] == FoundBox((5.0, 5.0, 9.0, 9.0), 0.3, "a dog", None)
    assert found[torch.tensor(1).item()].label == "a cat"
    assert found[:2].labels == ["a dog", "a cat"]
    assert found[found.scores > 0.8].labels == ["a dog"]
    assert found[[1]].labels == ["a cat"]
    assert found[found.scores.argmin()] == found[2]
    assert found[(0, 2)].labels == found[torch.tensor([True, False, True])].labels == ["a dog"] * 2
    assert len(found[[]]) == len(nothing()[nothing().scores > 0.5]) == 0
    with pytest.raises(IndexError):
        found[3]
    for wrong in (True, 1.0, [0.5], "a cat", None, torch.zeros(2, 2).long(), [[0, 1]]):
        with pytest.raises(TypeError, match="by a number, a slice, a list of numbers or a mask"):
            found[wrong]
    assert not nothing()
    assert list(nothing()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(3, 5)}, r"boxes must have shape \(3, 4\), got \(3, 5\)"),
        ({"scores": torch.zeros(2)}, r"scores must have shape \(3,\), got \(2,\)"),
        ({"track_ids": torch.zeros(2)}, "track_ids must have shape"),
        ({"phrase_ids": torch.tensor([0, 1, 2])}, "phrase_ids index 2 phrases"),
        ({"scores": torch.tensor([0.1, 0.2, torch.nan])}, "not finite"),
        ({"picture": None}, "needs the picture or its size"),
        ({"picture": None, "size": (120,)}, r"size is \(width, height\).*got \(120,\)"),
        ({"picture": None, "size": (0, 90)}, r"from 1 on, got \(0, 90\)"),
        ({"size": (90, 120)}, r"picture is \(120, 90\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer(**changes)


def test_it_never_changes() -> None:
    found = answer()
    with pytest.raises(FrozenInstanceError):
        found.scores = torch.zeros(3)
    tracked = replace(found, track_ids=torch.tensor([4, 5, 6]))
    assert found.track_ids is None
    assert [each.track_id for each in tracked] == [4, 5, 6]


def test_thresholds() -> None:
    found = answer()
    assert found.above(0.5).scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.above({"a dog": 0.4}).labels == ["a dog", "a cat"]
    assert found.above({"a dog": 1, "a cat": 0.6}).labels == []
    assert len(found.above(0)) == 3
    assert len(nothing().above(0.5)) == 0
    with pytest.raises(
        ValueError, match=r"thresholds for \['dog'\], asked was \['a cat', 'a dog'\]"
    ):
        found.above({"dog": 0.4})
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], got 50"):
        found.above(50)
    with pytest.raises(TypeError, match=r"got '0\.5'"):
        found.above("0.5")


def test_repr_is_short() -> None:
    assert repr(answer()) == "<Found 3 in street.jpg (120x90): 'a dog' 0.90, 0.30; 'a cat' 0.50>"
    assert repr(nothing()) == "<Found 0 in street.jpg (120x90): nothing of 'a cat', 'a dog'>"
    many = answer(
        boxes=torch.zeros(9, 4), scores=torch.ones(9), phrase_ids=torch.ones(9, dtype=torch.int64),
        source=None,
    )  # fmt: skip
    assert repr(many) == "<Found 9 (120x90): 'a dog' 1.00, 1.00, 1.00 and 6 more>"


def test_draw_shows_all_boxes_unless_told() -> None:
    found = answer()
    assert found.draw().getpixel((50, 40)) == phrase_color(1)
    few = found.draw(score_threshold=0.6)
    assert few.tobytes() == found.above(0.6).draw().tobytes() != found.draw().tobytes()
    assert found.picture.getpixel((50, 40)) == (100, 100, 100)
    with pytest.raises(ValueError, match="no picture to draw on"):
        answer(picture=None, size=(120, 90)).draw()


def test_truth_is_drawn_by_phrases_beside_tracked_boxes_too() -> None:
    found = answer()
    truth = Detections(found.boxes[:1], found.scores[:1], found.phrase_ids[:1], (90, 120))
    tracked = replace(found, track_ids=torch.tensor([7, 8, 9]))
    assert tracked.draw(truth=truth).tobytes() == found.draw(truth=truth).tobytes()
    assert tracked.draw().tobytes() != found.draw().tobytes()


def test_save_by_suffix(tmp_path: Path) -> None:
    found = answer()
    for name in ("new/folder/out.jpg", "out.PNG", "out.webp"):
        path = found.save(tmp_path / name)
        assert path == tmp_path / name
        with Image.open(path) as image:
            assert image.size == (120, 90)
            assert image.convert("RGB").tobytes() != found.picture.tobytes()
    found.save(str(tmp_path / "out.json"))
    assert same(Found.from_json(json.loads((tmp_path / "out.json").read_text())), found)
    found.above(1).save(tmp_path / "out.PNG")  # replaces
    with Image.open(tmp_path / "out.PNG") as image:
        assert image.tobytes() == found.picture.tobytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_names_of_files_that_are_no_text_are_saved(tmp_path: Path) -> None:
    found = answer(source="caf\udce9/\u732b.jpg")  # Latin-1 on a disk that others read as UTF-8
    text = found.save(tmp_path / "out.json").read_bytes().decode()
    assert '"caf\\udce9/\u732b.jpg"' in text
    assert same(Found.from_json(json.loads(text)), found)


def test_save_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    for name in ("out.xyz", "out", "out.mp4"):
        with pytest.raises(ValueError, match=r"must end in \.json or \.bmp"):
            answer().save(tmp_path / name)
    with pytest.raises(ValueError, match="no picture"):
        answer(picture=None, size=(120, 90)).save(tmp_path / "out.jpg")
    assert not list(tmp_path.iterdir())


def test_json_round_trip() -> None:
    tracks = torch.tensor([1, -1, 2])
    empty = nothing(track_ids=torch.zeros(0, dtype=torch.int64))
    for found in (answer(), answer(track_ids=tracks), nothing(), empty):
        text = json.dumps(found.to_json())
        back = Found.from_json(json.loads(text))
        assert same(back, found)
        assert back.picture is None
    data = answer().to_json()
    assert data["size"] == [120, 90]
    assert data["boxes"][0] == {
        "label": "a dog", "phrase_id": 1, "score": 0.9, "box": [10.0, 20.0, 50.5, 60.25],
    }  # fmt: skip
    assert data["asked"]["phrases"][2]["wanted"] is False
    assert Found.from_json(data, Image.new("RGB", (120, 90))).draw().size == (120, 90)


def test_json_that_does_not_say_whether_it_is_tracked() -> None:
    for found in (answer(), answer(track_ids=torch.tensor([1, -1, 2])), nothing()):
        data = found.to_json()
        del data["tracked"]
        assert same(Found.from_json(data), found)
    data = answer(track_ids=torch.tensor([1, -1, 2])).to_json()
    del data["tracked"], data["boxes"][1]["track_id"]
    with pytest.raises(ValueError, match="track_id"):
        Found.from_json(data)


ROW = {"label": "a dog", "phrase_id": 1, "score": 0.9, "box": [10.0, 20.0, 50.5, 60.25]}


@pytest.mark.parametrize(
    "damage",
    [
        *({"boxes": None}, {"boxes": [{"box": [1, 2]}]}, {"size": 3}, {"asked": {}}),
        {"boxes": [ROW | {"track_id": 3}, ROW], "tracked": True},
        {"boxes": [ROW | {"phrase_id": 0.5}]},
        {"boxes": [ROW | {"phrase_id": float("nan")}]},
        {"boxes": [ROW | {"track_id": 1.5}], "tracked": True},
        {"size": "12"},
    ],
)
def test_json_of_another_form_is_refused(damage: dict) -> None:
    with pytest.raises(ValueError, match=r"expected|must have shape"):
        Found.from_json({**answer().to_json(), **damage})


def test_coco_results() -> None:
    results = json.loads(json.dumps(answer().to_coco(7)))
    assert results[0] == {
        "image_id": 7, "category_id": 2, "bbox": [10.0, 20.0, 41.5, 41.25], "score": 0.9,
    }  # fmt: skip
    ids = {"a cat": 17, "a dog": 18, "a cow": 21}
    mapped = answer().to_coco(category_ids=ids)
    assert [each["category_id"] for each in mapped] == [18, 17, 18]
    tracked = answer(track_ids=torch.tensor([3, 2, 1])).to_coco()
    assert [each["track_id"] for each in tracked] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"none for \['a cat'\]"):
        answer().to_coco(category_ids={"a dog": 18})
    assert nothing().to_coco() == []
    numbers = answer().to_coco(np.int64(7), {"a cat": np.int32(17), "a dog": 18, "a cow": 21})
    assert json.loads(json.dumps(numbers)) == answer().to_coco(7, ids)
    assert answer().to_coco("000007")[0]["image_id"] == "000007"
    with pytest.raises(TypeError, match=r"expected a whole number, got 7\.5"):
        answer().to_coco(7.5)


def test_pandas() -> None:
    pytest.importorskip("pandas", reason="pandas (glipkit[pandas]) is not installed")
    table = answer(track_ids=torch.tensor([3, 2, 1])).to_pandas()
    assert list(table.columns) == [
        "label", "phrase_id", "score", "x1", "y1", "x2", "y2", "source", "track_id",
    ]  # fmt: skip
    assert table.iloc[0].to_dict() == {
        "label": "a dog", "phrase_id": 1, "score": 0.9, "x1": 10.0, "y1": 20.0, "x2": 50.5,
        "y2": 60.25, "source": "street.jpg", "track_id": 1,
    }  # fmt: skip
    empty = nothing().to_pandas()
    assert len(empty) == 0
    assert list(empty.columns) == list(table.columns)[:-1]
    for text in ("label", "source"):
        assert empty[text].str.upper().tolist() == []


def test_supervision() -> None:
    supervision = pytest.importorskip(
        "supervision", reason="supervision (glipkit[supervision]) is not installed"
    )
    detections = answer(track_ids=torch.tensor([3, 2, 1])).to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist() == torch.tensor(BOXES).tolist()
    assert detections.class_id.tolist() == [1, 0, 1]
    assert detections.tracker_id.tolist() == [1, 2, 3]
    assert detections.confidence.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert detections[detections.confidence > 0.4].data["class_name"].tolist() == ["a dog", "a cat"]
    assert len(nothing().to_supervision()) == 0


@pytest.mark.parametrize("package", ["pandas", "supervision"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'glipkit\[{package}\]'"):
        getattr(answer(), f"to_{package}")()


def test_copies() -> None:
    found = answer(track_ids=torch.tensor([3, 2, 1]))
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), copy.copy(found)):
        assert same(twin, found)
        assert twin.picture.tobytes() == found.picture.tobytes()


def test_notebooks_show_a_small_picture(tmp_path: Path) -> None:
    found = answer(picture=Image.new("RGB", (3000, 100)))
    (tmp_path / "shown.png").write_bytes(found._repr_png_())
    with Image.open(tmp_path / "shown.png") as image:
        assert image.size == (1024, 34)
    assert answer(picture=None, size=(120, 90))._repr_png_() is None
