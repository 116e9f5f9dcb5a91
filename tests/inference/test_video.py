"""Videos: frames with their times, upright; damaged ones named."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from films import SIZE, film, scene

from glipkit.data.images import ImageError
from glipkit.inference.frames import read_frames
from glipkit.inference.video import VideoWriter, read_video, video_facts


def written(path: Path, codec: str, *, num_frames: int, turn: int = 0, rate: int = 5) -> Path:
    """A red square on its way, by PyAV alone; skips where that is not installed."""
    av = pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate)
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        track.width, track.height, track.pix_fmt = *SIZE, pixels
        if turn:
            track.set_display_rotation(turn)  # degrees counterclockwise
        for number in range(num_frames):
            frame = av.VideoFrame.from_image(scene({"red": (8 + number, 8)}))
            frame.pts = number
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def test_frames_and_times_survive_the_round_trip(tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", num_frames=7, rate=5)
    frames = list(read_video(clip))
    assert [frame.number for frame in frames] == list(range(7))
    assert [frame.time for frame in frames] == pytest.approx([n / 5 for n in range(7)], abs=0.01)
    assert {frame.picture.size for frame in frames} == {SIZE}
    assert video_facts(clip).frames == 7


def test_every_nth_frame(tmp_path: Path) -> None:
    clip = film(tmp_path / "clip.mp4", num_frames=7)
    assert [frame.number for frame in read_video(clip, every=3)] == [0, 3, 6]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    """The clock of a transport stream runs already when the film begins."""
    av = pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    path = written(tmp_path / "clip.ts", "mpeg2video", num_frames=5, rate=25)
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    times = [frame.time for frame in read_video(path)]
    assert times[:3] == pytest.approx([0, 0.04, 0.08], abs=0.001)


def test_odd_sides_are_made_even(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    with VideoWriter(tmp_path / "odd.mp4", rate=Fraction(5)) as writer:
        for _ in range(3):
            writer.add(scene({"red": (8, 8)}).resize((95, 63)), None)
    assert {frame.picture.size for frame in read_video(tmp_path / "odd.mp4")} == {(96, 64)}


def test_turned_video_comes_upright(tmp_path: Path) -> None:
    path = written(tmp_path / "turned.mp4", "libx264", num_frames=3, turn=90)
    picture = next(iter(read_video(path))).picture
    assert picture.size == SIZE[::-1]
    red = picture.getpixel((16, picture.height - 16))  # upper left before, now lower left
    assert red[0] > 150 > red[2]


def test_nothing_is_left_of_a_video_that_failed(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")

    def fail() -> None:
        with VideoWriter(tmp_path / "clip.mp4", rate=Fraction(5)) as writer:
            writer.add(scene({}), 0.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_video_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut would leave an empty file that looks done."""
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    flushed = []
    monkeypatch.setattr(
        "glipkit.inference.video.flush_to_disk",
        lambda path: flushed.append((path, (tmp_path / "clip.mp4").exists())),
    )
    with VideoWriter(tmp_path / "clip.mp4", rate=Fraction(5)) as writer:
        writer.add(scene({}), 0.0)
    (draft, named), (folder, named_after) = flushed
    assert (draft.parent, draft.suffix, named) == (tmp_path, ".tmp", False)
    assert (folder, named_after) == (tmp_path, True)


def test_what_is_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    with pytest.raises(ImageError, match="no such file"):
        list(read_video(tmp_path / "none.mp4"))
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    with pytest.raises(ImageError, match="cannot be read as a video"):
        list(read_video(text))


def test_cut_off_video_yields_what_is_there_and_then_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.avi", "mjpeg", num_frames=20)
    whole = path.read_bytes()
    assert len(list(read_video(path, every=7))) == 3
    for part in (0.5, 0.6, 0.7, 0.8):  # some of these lie between two frames, others in one
        path.write_bytes(whole[: int(part * len(whole))])
        failures: list[ImageError] = []
        frames = [frame.number for frame in read_frames(path, failures=failures)]
        assert 0 < len(frames) < 20
        assert [f"breaks off after frame {frames[-1]}" in str(e) for e in failures] == [True]


def test_playlist_leads_nowhere_else(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV (pip install 'glipkit[video]')")
    listing = tmp_path / "list.m4v"
    listing.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ImageError, match=r"list\.m4v"):
        list(read_video(listing))


def test_missing_pyav_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"glipkit\[video\]"):
        next(iter(read_video(tmp_path / "clip.mp4")))
