"""Pictures that are missing, broken, of another size, or in two files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sick_datasets import draw_pictures, first, harmed, healthy, healthy_captions, renamed, write

from glipkit.data.doctor.examine import Examination, compare, examine
from glipkit.data.doctor.findings import Finding


def finding(examined: Examination, code: str) -> Finding:
    return next(each for each in examined.findings if each.code == code)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", healthy())


def test_whole_dataset_has_nothing(tmp_path: Path, pictures: Path) -> None:
    path = write(tmp_path, healthy())
    assert examine(path, pictures=pictures).findings == ()
    assert examine(path).findings == ()  # it finds the folder itself
    assert examine(path).facts["pictures_folder"] == str(pictures)


def test_missing_pictures_and_where_they_may_be(tmp_path: Path, pictures: Path) -> None:
    (pictures / "1.png").unlink()
    (pictures / "2.png").rename(pictures / "2.PNG")
    names = [f"train\\{n}.png" for n in range(1, 13)]
    content = healthy()
    content["images"][3]["file_name"] = names[3]
    examined = examine(write(tmp_path, content), pictures=pictures)
    missing = finding(examined, "picture-missing")
    assert missing.count == 3
    assert "(there is 2.PNG)" in " ".join(missing.examples)
    assert f"(there is {pictures / '4.png'})" in " ".join(missing.examples)


@pytest.mark.parametrize("place", ["val2017", "."])
def test_pictures_of_lvis_are_found_as_they_are_judged(tmp_path: Path, place: str) -> None:
    content = healthy()
    folder = draw_pictures(tmp_path / "pictures", content)
    (tmp_path / "coco").mkdir()
    folder.rename(tmp_path / "coco" / place if place != "." else tmp_path / "images")
    for image in content["images"]:
        url = f"http://images.cocodataset.org/val2017/{image['file_name']}"
        image |= {"coco_url": url, "neg_category_ids": [], "not_exhaustive_category_ids": []}
        image["file_name"] = f"COCO_val2014_{image['file_name']}"  # as v0.5 has it
    for category in content["categories"]:
        category["frequency"] = "f"
    path = write(tmp_path, content)
    examined = examine(path, pictures=tmp_path / "coco") if place != "." else examine(path)
    assert [each.code for each in examined.findings] == ["labels-partial"]
    assert len(examined.seen) == 12


def test_broken_and_cut_off_pictures(tmp_path: Path, pictures: Path) -> None:
    (pictures / "1.png").write_text("<html>not found</html>")
    whole = (pictures / "2.png").read_bytes()
    (pictures / "2.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "3.png").write_bytes(b"")
    broken = finding(examine(write(tmp_path, healthy())), "picture-broken")
    assert broken.count == 3


def test_sizes(tmp_path: Path, pictures: Path) -> None:
    Image.new("RGB", (80, 120)).save(pictures / "1.png")
    Image.new("RGB", (240, 160)).save(pictures / "2.png")
    examined = examine(write(tmp_path, healthy()))
    assert finding(examined, "size-swapped").examples[0].startswith("1.png")
    assert finding(examined, "size-differs").examples == (
        "2.png: the file says 120x80, it has 240x160",
    )


def test_pictures_that_are_to_be_turned(tmp_path: Path, pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(3).integers(0, 255, (120, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "1.png", exif=exif)  # 120x80 once turned
    examined = examine(write(tmp_path, healthy()))
    assert [each.code for each in examined.findings] == ["size-turned"]


def test_same_picture_under_two_names(tmp_path: Path, pictures: Path) -> None:
    (pictures / "2.png").write_bytes((pictures / "1.png").read_bytes())
    assert finding(examine(write(tmp_path, healthy())), "picture-twice").examples == (
        "2.png = 1.png",
    )


def test_captions_of_one_picture_are_looked_at_once(tmp_path: Path) -> None:
    content = harmed(first("images", 4, file_name="1.png"), healthy_captions())
    folder = draw_pictures(tmp_path / "pictures", content)
    (folder / "1.png").unlink()
    examined = examine(write(tmp_path, content), pictures=folder)
    assert finding(examined, "picture-missing").count == 1


def test_two_files_that_share_pictures(tmp_path: Path, pictures: Path) -> None:
    other = draw_pictures(tmp_path / "other", healthy())
    for number in range(4, 13):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(other / f"{number}.png")
    path = write(tmp_path, healthy())
    a, b = examine(path, pictures=pictures), examine(path, pictures=other)
    (shared,) = compare(a, b)
    assert (shared.code, shared.count, shared.severity) == ("shared-pictures", 3, "error")


def test_two_files_without_pictures_are_compared_by_names(tmp_path: Path) -> None:
    a = examine(write(tmp_path, healthy(), "a.json"))
    b = examine(write(tmp_path, harmed(renamed("cat"), healthy()), "b.json"))
    found = {each.code: each for each in compare(a, b)}
    assert found.keys() == {"shared-names", "classes-renamed", "classes-missing"}
    assert found["shared-names"].count == 12
    assert found["classes-renamed"].examples == ("1: 'red circle', 'cat'",)
