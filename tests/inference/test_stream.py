"""Streams: every picture once, in order, in bounded memory, whatever the source."""

import gc
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from films import ColourDetector, film, scene
from PIL import Image

from glipkit.data.images import ImageError
from glipkit.inference.asked import Texts
from glipkit.inference.frames import read_frames
from glipkit.inference.stream import ahead, stream
from glipkit.inference.tracking import IouTracker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures, 0.png to 10.png, and something that is none."""
    for number in range(11):
        scene({"red": (4 * number, 20)}).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_folder_in_natural_order_and_equal_batches(folder: Path) -> None:
    detector = ColourDetector()
    found = list(stream(detector, folder, "red square", batch_size=4))
    assert [Path(each.source).name for each in found] == [f"{n}.png" for n in range(11)]
    assert [each.boxes[0, 0].item() for each in found] == [4 * n for n in range(11)]
    assert detector.batches == [4, 4, 3]


def test_pattern_list_and_pictures_of_all_kinds(folder: Path) -> None:
    names = [Path(f.source).name for f in stream(ColourDetector(), f"{folder}/1*.png", "red")]
    assert names == ["1.png", "10.png"]
    mixed = [folder / "3.png", scene({"red": (40, 8)}), np.asarray(scene({"red": (12, 8)}))]
    found = list(stream(ColourDetector(), mixed, "red square"))
    assert [each.boxes[0, 0].item() for each in found] == [12, 40, 12]
    assert [each.source for each in found] == [str(folder / "3.png"), "picture 1", "picture 2"]
    one = list(stream(ColourDetector(), np.asarray(scene({"red": (12, 8)})), "red square"))
    assert len(one) == 1


def test_entries_of_a_folder_are_paths(folder: Path) -> None:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:2]
    for source in (entries, iter(entries)):
        found = list(stream(ColourDetector(), source, "red"))
        assert [each.source for each in found] == [f"{folder}/0.png", f"{folder}/1.png"]
    (found,) = stream(ColourDetector(), entries[0], "red")
    assert found.source == f"{folder}/0.png"


def test_what_no_picture_can_be_is_refused(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"in a mapping; pass list\(pictures\.values\(\)\)"):
        stream(ColourDetector(), {"0.png": folder / "0.png"}, "red")
    seen = stream(ColourDetector(), iter(["https://example.org/a.png"]), "red")
    with pytest.raises(ValueError, match=r"https://example\.org/a\.png is an address"):
        next(seen)


def test_blue_first_arrays_are_turned(folder: Path) -> None:
    array = np.asarray(scene({"red": (40, 8)}))[:, :, ::-1]
    (found,) = stream(ColourDetector(), [array], "red square", bgr=True)
    assert len(found) == 1
    (found,) = stream(ColourDetector(), [array], "red square")
    assert len(found) == 0


def test_unreadable_picture_is_left_out_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "5.png").write_bytes(b"not a picture")
    failures: list[ImageError] = []
    with caplog.at_level(logging.WARNING):
        found = list(stream(ColourDetector(), folder, "red square", failures=failures))
    assert len(found) == 10
    assert [error.path.name for error in failures] == ["5.png"]
    assert "5.png" in caplog.text


def test_folders_and_patterns_of_any_iterable_are_looked_into(folder: Path) -> None:
    def paths() -> Iterator[str | Path]:
        yield folder
        yield f"{folder}/1*.png"
        yield folder / "0.png"

    found = [Path(each.source).name for each in stream(ColourDetector(), paths(), "red square")]
    assert found == [*(f"{number}.png" for number in range(11)), "1.png", "10.png", "0.png"]


def test_what_an_iterable_brings_and_is_not_there_is_named(folder: Path) -> None:
    """ "[1]" makes patterns of names that browsers give."""
    (folder / "empty").mkdir()
    gone = [f"{folder}/gone[1].png", f"{folder}/empty", f"{folder}/gone.png"]
    failures: list[ImageError] = []
    frames = read_frames(iter([f"{folder}/1.png", *gone, f"{folder}/2.png"]), failures=failures)
    assert [frame.path.name for frame in frames] == ["1.png", "2.png"]
    assert [str(error.path) for error in failures] == gone
    with pytest.raises(ImageError, match="no pictures match"):
        list(read_frames(iter(gone), strict=True))


def test_what_has_no_name_is_named_by_its_number(folder: Path) -> None:
    failures: list[ImageError] = []
    items = iter([(folder / "0.png").read_bytes(), b"bad", b""])
    (found,) = stream(ColourDetector(), items, "red square", failures=failures)
    assert found.source == "picture 0"
    assert [str(error.path) for error in failures] == ["picture 1", "picture 2"]
    with pytest.raises(TypeError, match="picture 1 is a NoneType"):
        list(stream(ColourDetector(), iter([Image.new("RGB", (4, 4)), None]), "red square"))


def test_strict_stops_at_an_unreadable_picture(folder: Path) -> None:
    (folder / "5.png").write_bytes(b"not a picture")
    seen = stream(ColourDetector(), folder, "red square", strict=True, batch_size=1)
    for number in range(5):
        assert Path(next(seen).source).name == f"{number}.png"
    with pytest.raises(ImageError, match=r"5\.png"):
        next(seen)


def test_wrong_arguments_are_said_at_once(folder: Path) -> None:
    detector = ColourDetector()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stream(detector, folder / "nowhere", "red")
    for count in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match="every"):
            stream(detector, folder, "red", every=count)
        with pytest.raises(ValueError, match="batch_size"):
            stream(detector, folder, "red", batch_size=count)
    with pytest.raises(TypeError, match="track is True, False or an IouTracker, got 'yes'"):
        stream(detector, folder, "red", track="yes")
    with pytest.raises(TypeError, match="one text per picture"):
        stream(detector, folder, Texts(["red", "blue"]))


def test_options_reach_the_detector(folder: Path) -> None:
    detector = ColourDetector()
    list(stream(detector, folder / "0.png", "red", threshold=0.3, negative_prompts=["blue"]))
    assert detector.options == [{"threshold": 0.3, "negative_prompts": ["blue"], "batch_size": 4}]


def test_pictures_are_decoded_ahead_by_another_thread_but_not_far() -> None:
    made: list[int] = []
    makers: set[int] = set()

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            makers.add(threading.get_ident())
            yield number

    ready = ahead(numbers(), 3)
    assert next(ready) == 0
    while len(made) < 4:  # the thread goes on until three wait
        threading.Event().wait(0.01)
    assert max(made) <= 4
    ready.close()
    assert threading.get_ident() not in makers
    assert len(made) <= 5


def test_no_picture_outlives_its_turn() -> None:
    alive: list[weakref.ref] = []

    def pictures() -> Iterator[Image.Image]:
        for number in range(60):
            picture = scene({"red": (number, 20)})
            alive.append(weakref.ref(picture))
            yield picture

    most = 0
    for found in stream(ColourDetector(), pictures(), "red square", batch_size=2):
        assert len(found) == 1
        most = max(most, sum(ref() is not None for ref in alive))
    gc.collect()
    assert most <= 8


def test_what_the_source_raises_comes_out_in_its_place() -> None:
    def broken() -> Iterator[Image.Image]:
        yield scene({})
        raise RuntimeError("the camera is gone")

    seen = stream(ColourDetector(), broken(), "red", batch_size=1)
    next(seen)
    with pytest.raises(RuntimeError, match="camera"):
        next(seen)


def test_tracking_numbers_objects(folder: Path) -> None:
    found = list(stream(ColourDetector(), folder, "red square . blue square", track=True))
    assert {each.track_ids.tolist()[0] for each in found} == {0}
    tracker = IouTracker()
    list(stream(ColourDetector(), folder, "red square", track=tracker))
    again = list(stream(ColourDetector(), folder, "red square", track=tracker))
    assert again[0].track_ids.tolist() == [1]  # far from where it was: another, with a new number


def test_video_frames_have_times_and_numbers(tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", num_frames=12, rate=10)
    found = list(stream(ColourDetector(), clip, "red square", every=5, track=True))
    assert [each.source for each in found] == [
        f"{clip}#t=0.00s frame 0",
        f"{clip}#t=0.50s frame 5",
        f"{clip}#t=1.00s frame 10",
    ]
    lefts = [each.boxes[0, 0].item() for each in found]
    assert lefts == pytest.approx([8, 23, 38], abs=2)


def test_a_new_video_begins_new_objects(tmp_path: Path) -> None:
    first, second = film(tmp_path / "a.mp4", 3), film(tmp_path / "b.mp4", 3)
    found = list(stream(ColourDetector(), [first, second], "red square", track=True))
    assert [each.track_ids.tolist() for each in found] == [[0]] * 3 + [[1]] * 3
    again = list(stream(ColourDetector(), [first, first], "red square", track=True))
    assert [each.track_ids.tolist() for each in again] == [[0]] * 3 + [[1]] * 3


def test_closing_early_ends_the_thread_and_the_video(tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", 30)
    before = set(threading.enumerate())  # other tests may not have ended theirs
    seen = stream(ColourDetector(), clip, "red square")
    next(seen)
    (reader,) = set(threading.enumerate()) - before
    assert reader.name.startswith("glipkit-ahead")
    seen.close()
    assert not reader.is_alive()
