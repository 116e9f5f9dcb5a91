"""`glipkit detect` on a detector that knows colours."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from films import ColourDetector, film, scene
from PIL import Image

import glipkit
from glipkit.engine.tensor_files import write_tensors
from glipkit.inference.found import Found
from glipkit.inference.video import read_video, video_facts
from glipkit.shell.answers import copy_names
from glipkit.shell.main import main

WORDS = ["--text", "red square . blue square"]


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ColourDetector:
    """What is loaded, in an empty folder."""
    colours = ColourDetector()
    monkeypatch.setattr(glipkit, "load", lambda *_, **__: colours, raising=False)
    monkeypatch.chdir(tmp_path)
    return colours


def no_load(*_: Any, **__: Any) -> None:
    raise AssertionError("a model was loaded in vain")


def pictures(*names: str) -> None:
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene({"red": (4 + 8 * number, 20)}).save(name)


def detect(*words: str, out: str = "found") -> int:
    return main(["detect", *words, "--out", out])


def lines(out: str = "found") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "found.jsonl").read_text().splitlines()]


def state(out: str = "found") -> dict[str, Any]:
    return json.loads(Path(out, "detect.json").read_text())


def test_answers_copies_and_table(capsys: pytest.CaptureFixture) -> None:
    pictures("in/1.jpg", "in/2.png")
    assert detect("in", *WORDS) == 0
    assert [line["source"] for line in lines()] == ["in/1.jpg", "in/2.png"]
    assert [len(line["boxes"]) for line in lines()] == [1, 1]
    again = Found.from_json(lines()[1])
    assert again.labels == ["red square"]
    assert Image.open("found/pictures/1.jpg").size == (96, 64)
    assert lines()[1]["drawn"] == "pictures/2.png"
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["phrase", "boxes", "pictures", "best", "score"]
    assert said[1].split() == ["red", "square", "2", "2", "0.80"]
    assert said[2].split() == ["blue", "square", "0", "0", "-"]
    assert state()["finished"] is True


def test_same_names_in_different_folders_stay_apart() -> None:
    pictures("a/1.png", "b/1.png", "b/c/1.png")
    assert detect("a", "b", *WORDS) == 0
    drawn = sorted(str(p.relative_to("found/pictures")) for p in Path("found").rglob("*.png"))
    assert drawn == ["a/1.png", "b/1.png", "b/c/1.png"]


def test_copies_never_share_a_name(tmp_path: Path) -> None:
    names = copy_names([Path(n) for n in ("x/a.gif", "x/a.gif.png", "x/A.GIF.png", "x/v.avi")])
    assert len({name.lower() for name in names.values()}) == 4
    assert names[Path("x/v.avi")] == "v.avi.mp4"


def test_unreadable_pictures_are_named_counted_and_status_1(
    capsys: pytest.CaptureFixture,
) -> None:
    pictures("in/1.png", "in/3.png")
    Path("in/2.png").write_text("no picture")
    assert detect("in", *WORDS) == 1
    assert len(lines()) == 2
    captured = capsys.readouterr()
    assert "1 could not be read:\n  in/2.png" in captured.out
    assert state()["unreadable"][0]["file"] == "in/2.png"
    assert detect("in", *WORDS, "--strict", "--overwrite") == 2
    assert "in/2.png" in capsys.readouterr().err


def test_what_is_gone_before_its_turn_is_named_too(capsys: pytest.CaptureFixture) -> None:
    pictures("in/1.png", "in/2.png")
    Path("in/0.png").symlink_to("nowhere")
    Path("in/film.mp4").symlink_to("nowhere")
    assert detect("in", *WORDS) == 1
    assert [line["file"] for line in lines()] == ["in/1.png", "in/2.png"]
    unreadable = {each["file"]: each["reason"] for each in state()["unreadable"]}
    assert unreadable == {"in/0.png": "no such file", "in/film.mp4": "no such file"}
    assert detect("in", *WORDS, "--strict") == 2
    assert "in/0.png: no such file" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pictures("in/1.png", "in/deep/2.png")
    scan = os.scandir

    def refuse(folder: str) -> object:
        if str(folder).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert detect("in", *WORDS, "--strict") == 2
        assert not Path("found").exists()
        assert detect("in", *WORDS) == 1
    assert [each["file"] for each in state()["unreadable"]] == ["in/deep"]
    assert "in/deep: the folder cannot be read" in capsys.readouterr().out


def test_same_call_goes_on(detector: ColourDetector, capsys: pytest.CaptureFixture) -> None:
    pictures("in/1.png", "in/2.png")
    assert detect("in", *WORDS) == 0
    with Path("found/found.jsonl").open("a") as file:
        file.write('{"file": "in/0.png"}\n')
        file.write('{"file": "in/0.png", "phrases": [], "boxes": [], "drawn": 5}\n')
        for foreign in (
            {"boxes": [7]},
            {"boxes": [{"label": "a", "score": 0.5, "track_id": None}]},
            {"phrases": [[]]},
        ):
            line = {"file": "in/0.png", "phrases": [], "boxes": [], "drawn": None, **foreign}
            file.write(json.dumps(line) + "\n")
        file.write('{"torn": ')
    pictures("in/3.png")
    assert detect("in", *WORDS) == 0
    assert [line["file"] for line in lines()] == ["in/1.png", "in/2.png", "in/3.png"]
    assert detector.batches == [2, 1]
    assert "2 were done before" in capsys.readouterr().out
    assert detect("in", *WORDS) == 0
    assert detector.batches == [2, 1]


def test_a_picture_that_was_replaced_is_looked_at_again(
    detector: ColourDetector, capsys: pytest.CaptureFixture
) -> None:
    pictures("in/1.png", "in/2.png")
    assert detect("in", *WORDS) == 0
    before = {line["file"]: line for line in lines()}
    scene({"red": (30, 8)}).save("in/1.png")
    assert detect("in", *WORDS) == 0
    after = {line["file"]: line for line in lines()}
    assert after.keys() == before.keys()
    assert after["in/1.png"]["boxes"] != before["in/1.png"]["boxes"]
    assert after["in/1.png"]["drawn"] == before["in/1.png"]["drawn"]
    assert after["in/2.png"] == before["in/2.png"]
    assert detector.batches == [2, 1]
    captured = capsys.readouterr()
    assert "1 file done again: changed since" in captured.err
    assert "1 picture in " in captured.out
    Path("in/2.png").unlink()  # nothing is there to look at again
    assert detect("in", *WORDS) == 0
    assert len(lines()) == 2
    assert detector.batches == [2, 1]


def test_a_video_that_was_replaced_is_looked_at_again(
    detector: ColourDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(Path("clip.mp4"), num_frames=3)
    assert detect("clip.mp4", *WORDS) == 0
    film(Path("clip.mp4"), num_frames=5)
    with monkeypatch.context() as patch:
        patch.setattr(detector, "_look", _interrupt)
        assert detect("clip.mp4", *WORDS) == 130
    assert (lines(), state()["videos_done"]) == ([], [])
    assert detect("clip.mp4", *WORDS) == 0
    assert [line["frame"] for line in lines()] == [*range(5)]
    assert detect("clip.mp4", *WORDS) == 0
    assert state()["videos_done"] == ["clip.mp4"]
    assert len(lines()) == 5


def _interrupt(*_: Any) -> Found:
    raise KeyboardInterrupt


def test_answers_of_before_stamps_are_believed(detector: ColourDetector) -> None:
    pictures("in/1.png")
    assert detect("in", *WORDS) == 0
    (line,) = lines()
    del line["stamp"]
    Path("found/found.jsonl").write_text(json.dumps(line) + "\n")
    pictures("in/1.png")
    assert detect("in", *WORDS) == 0
    assert detector.batches == [1]


def test_a_film_that_lost_a_line_is_looked_at_again(
    detector: ColourDetector, capsys: pytest.CaptureFixture
) -> None:
    film(Path("clip.mp4"), num_frames=3)
    assert detect("clip.mp4", *WORDS) == 0
    before, found = lines(), Path("found/found.jsonl")
    first, second, third = found.read_text().splitlines(keepends=True)
    found.write_text(first + second[:20] + "\n" + third)
    assert detect("clip.mp4", *WORDS) == 0
    assert lines() == before
    assert "1 file done again: changed since, or not all of its lines" in capsys.readouterr().err
    asked = sum(detector.batches)
    assert detect("clip.mp4", *WORDS) == 0
    assert sum(detector.batches) == asked


def test_what_is_done_again_is_drawn_in_its_place() -> None:
    pictures("in/sub/a.png")
    assert detect("in", *WORDS) == 0
    pictures("in/b.png")  # now "sub" would tell them apart
    scene({"red": (30, 8)}).save("in/sub/a.png")
    assert detect("in", *WORDS) == 0
    copies = {str(path.relative_to("found")) for path in Path("found").rglob("*.png")}
    assert copies == {line["drawn"] for line in lines()} == {"pictures/a.png", "pictures/b.png"}


def test_another_call_is_refused_unless_told(capsys: pytest.CaptureFixture) -> None:
    pictures("in/1.png", "other/9.png")
    assert detect("in", *WORDS) == 0
    assert detect("in", "--text", "blue square") == 2
    assert "text: then" in capsys.readouterr().err
    assert detect("other", *WORDS, "--overwrite") == 0
    assert [line["file"] for line in lines()] == ["other/9.png"]
    assert [path.name for path in Path("found/pictures").iterdir()] == ["9.png"]


def test_other_weights_behind_the_same_name_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pictures("in/1.png")
    run = Path("run")
    run.mkdir()
    (run / "config.yaml").write_text("MODEL: {}\n")
    weights = run / "model_final.safetensors"
    write_tensors({"a": torch.zeros(3)}, weights)
    assert detect("in", *WORDS, "--model", "run") == 0
    then = state()["call"]["model_sha256"]["weights"]
    assert detect("in", *WORDS, "--model", "run") == 0  # the same weights: goes on
    write_tensors({"a": torch.ones(3)}, weights)
    capsys.readouterr()
    assert detect("in", *WORDS, "--model", "run") == 2
    said = capsys.readouterr().err
    assert f'model_sha256.weights: then "{then}", now' in said
    assert "--overwrite" in said
    assert detect("in", *WORDS, "--model", "run", "--overwrite") == 0
    (run / "config.yaml").write_text("MODEL: {BACKBONE: {}}\n")
    assert detect("in", *WORDS, "--model", "run") == 2
    assert "model_sha256.config" in capsys.readouterr().err


def test_a_call_that_found_nothing_out_is_in_nobodys_way(
    detector: ColourDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("the weights do not fit")

    pictures("in/1.png")
    monkeypatch.setattr(glipkit, "load", refuse)
    assert detect("in", *WORDS) == 2
    monkeypatch.setattr(glipkit, "load", lambda *_, **__: detector)
    assert detect("in", *WORDS) == 0


def test_files_that_are_not_ours_are_left_alone(capsys: pytest.CaptureFixture) -> None:
    pictures("in/1.png", "pictures/holiday.png")
    assert detect("in", *WORDS, "--overwrite", out=".") == 2
    assert "not of a glipkit detect" in capsys.readouterr().err
    assert Path("pictures/holiday.png").is_file()


def test_own_copies_are_not_looked_at_again() -> None:
    pictures("1.png")
    assert detect(".", *WORDS) == 0
    assert detect(".", *WORDS) == 0
    assert len(lines()) == 1


def test_names_from_flags_and_files(detector: ColourDetector) -> None:
    pictures("1.png")
    Path("names.txt").write_text("red square\n\nblue, very blue square\n")
    assert detect("1.png", "--names-file", "names.txt") == 0
    assert lines()[0]["phrases"] == ["red square", "blue, very blue square"]
    assert detect("1.png", "--names", "red square, blue square", out="other") == 0
    assert lines("other")[0]["phrases"] == ["red square", "blue square"]


def test_thresholds_and_negatives_reach_the_detector(detector: ColourDetector) -> None:
    pictures("1.png")
    assert detect("1.png", *WORDS, "--threshold", "0.25", "--negative", "green square") == 0
    assert detector.options[-1]["threshold"] == 0.25
    assert detector.options[-1]["negative_prompts"] == ["green square"]
    each = ["--threshold", "red square=0.2", "--threshold", "blue square=0.4"]
    assert detect("1.png", *WORDS, *each, out="other") == 0
    assert detector.options[-1]["threshold"] == {"red square": 0.2, "blue square": 0.4}


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """What the command says to a line that it refuses, before a model is loaded."""

    def run(*words: str, out: str = "found") -> str:
        pictures("1.png")
        monkeypatch.setattr(glipkit, "load", no_load)
        assert detect("1.png", *words, out=out) == 2
        assert not Path("found").exists()
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threshold", "2"], "from 0 to 1"),
        (["--threshold", "red=x"], "from 0 to 1"),
        (["--threshold", "0.1", "--threshold", "red=0.2"], "one number for all"),
        (["--threshold", "nan"], "from 0 to 1"),
        (["--threshold", "=0.5"], "got '=0.5'"),
        (["--threshold", "red=0.5", "--threshold", "red=0.1"], "names 'red' twice"),
        (["--threshold", "green square=0.3"], "'green square', which is not asked for"),
        (["--every", "0"], "at least 1"),
        (["--batch-size", "0"], "--batch-size is at least 1"),
        (["--negative", " "], "negative prompt 0, ' ', has no words"),
        (["--negative", "Red  Square"], "both wanted and a negative prompt: red square"),
        (["--device", "tpu"], "glipkit runs on cpu"),
        (["--model", "nanno"], "unknown model 'nanno'"),
        (["--model", "glip-l"], "not on this machine"),
    ],
)
def test_wrong_flags(words: list[str], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(*WORDS, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", ""], "no words to look for"),
        (["--text", " \t "], "no words to look for"),
        (["--text", "a cat . ?"], "has no words"),
        (["--names", " , "], "holds no name"),
        (["--names", "cat,(x)"], "no words to look for"),
        (["--names-file", "none.txt"], "no file of names"),
    ],
)
def test_texts_without_words(words: list[str], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(*words)


def test_no_folder_at_all_is_not_the_one_we_are_in(capsys: pytest.CaptureFixture) -> None:
    """`--out "$OUT"` in a script that never set it."""
    pictures("1.png")
    with pytest.raises(SystemExit, match="2"):
        detect("1.png", *WORDS, out="")
    assert "--out: it is empty" in capsys.readouterr().err


def test_a_folder_that_takes_no_files_is_named(refused: Callable[..., str]) -> None:
    said = refused(*WORDS, out="1.png/found")
    assert "nothing can be written to --out" in said
    assert "1.png/found" in said


def test_nothing_to_look_at(capsys: pytest.CaptureFixture) -> None:
    Path("empty").mkdir()
    assert detect("empty", *WORDS) == 2
    assert "no pictures in empty" in capsys.readouterr().err
    assert detect("none.jpg", *WORDS) == 2
    assert not Path("found").exists()


def test_explain_says_how_words_were_read_and_scores(capsys: pytest.CaptureFixture) -> None:
    pictures("1.png")
    assert detect("1.png", *WORDS, "--explain") == 0
    said = capsys.readouterr().out
    assert "'red square' at best 0.800, 1 reported" in said
    assert "'blue square' nowhere" in said


def test_without_pictures() -> None:
    pictures("1.png")
    assert detect("1.png", *WORDS, "--no-pictures") == 0
    assert not Path("found/pictures").exists()
    assert lines()[0]["drawn"] is None


def test_video(capsys: pytest.CaptureFixture) -> None:
    clip = film(Path("clip.mp4"), num_frames=12, rate=10)
    pictures("1.png")
    assert detect("1.png", str(clip), *WORDS, "--track", "--every", "3") == 0
    frames = lines()[1:]
    assert [line["frame"] for line in frames] == [0, 3, 6, 9]
    assert [line["time"] for line in frames] == pytest.approx([0, 0.3, 0.6, 0.9], abs=0.01)
    assert {line["boxes"][0]["track_id"] for line in frames} == {1}
    annotated = list(read_video(Path("found/pictures/clip.mp4")))
    assert len(annotated) == 4
    assert annotated[-1].time == pytest.approx(0.9, abs=0.02)
    assert video_facts(Path("found/pictures/clip.mp4")).frames == 4
    assert "objects" in capsys.readouterr().out
    assert state()["videos_done"] == ["clip.mp4"]


def test_pictures_after_a_video_are_other_objects() -> None:
    film(Path("clip.mp4"), num_frames=3)  # ends at x = 14
    scene({"red": (14, 20)}).save("still.png")
    assert detect("clip.mp4", "still.png", *WORDS, "--track") == 0
    assert [line["boxes"][0]["track_id"] for line in lines()] == [0, 0, 0, 1]


def test_a_film_that_came_later_has_other_objects() -> None:
    film(Path("in/a.mp4"), num_frames=3)
    assert detect("in", *WORDS, "--track") == 0
    film(Path("in/b.mp4"), num_frames=3)
    assert detect("in", *WORDS, "--track") == 0
    assert [line["boxes"][0]["track_id"] for line in lines()] == [0, 0, 0, 1, 1, 1]


def test_same_words_from_another_folder_are_another_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pictures("here/1.png", "there/1.png")
    out = str(tmp_path / "found")
    monkeypatch.chdir("here")
    assert detect("1.png", *WORDS, out=out) == 0
    monkeypatch.chdir("../there")
    assert detect("1.png", *WORDS, out=out) == 2
    assert "working_folder: then" in capsys.readouterr().err
    whole = str(tmp_path / "here" / "1.png")  # names that mean the same everywhere
    assert detect(whole, *WORDS, out=str(tmp_path / "other")) == 0
    monkeypatch.chdir("../here")
    assert detect(whole, *WORDS, out=str(tmp_path / "other")) == 0


def test_pictures_that_came_later_replace_no_copy() -> None:
    pictures("in/deep/1.png")
    assert detect("in", *WORDS) == 0
    pictures("in/1.png", "in/2.png")
    assert detect("in", *WORDS) == 0
    drawn = {line["file"]: line["drawn"] for line in lines()}
    assert drawn == {
        "in/deep/1.png": "pictures/1.png",
        "in/1.png": "pictures/1_2.png",
        "in/2.png": "pictures/2.png",
    }
    assert all(Path("found", name).is_file() for name in drawn.values())


def test_a_killed_call_leaves_no_drafts() -> None:
    pictures("1.png")
    assert detect("1.png", *WORDS) == 0
    draft = Path("found/pictures/.clip.mp4.999999.tmp")
    draft.write_bytes(b"half a video")
    assert detect("1.png", *WORDS) == 0
    assert not draft.exists()


def test_interrupted_video_is_done_anew(
    detector: ColourDetector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    film(Path("clip.mp4"), num_frames=12)
    pictures("a.png")
    look, seen = detector._look, []

    def interrupt(*args: Any) -> Found:
        seen.append(args)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return look(*args)

    monkeypatch.setattr(detector, "_look", interrupt)
    assert detect("a.png", "clip.mp4", *WORDS) == 130
    assert "5 pictures are done and kept in found/found.jsonl" in capsys.readouterr().err
    assert [line.get("frame") for line in lines()] == [None, 0, 1, 2, 3]
    assert not Path("found/pictures/clip.mp4").exists()
    monkeypatch.setattr(detector, "_look", look)
    assert detect("a.png", "clip.mp4", *WORDS) == 0
    assert [line.get("frame") for line in lines()] == [None, *range(12)]
