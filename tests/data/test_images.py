"""Every odd kind of picture becomes RGB, or an error with a name."""

import contextlib
import struct
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glipkit.data import images
from glipkit.data.images import ImageError, read_image, read_image_bytes


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.fixture
def picture() -> Image.Image:
    ramp = np.linspace(0, 255, 4 * 6 * 3).reshape(4, 6, 3)
    return Image.fromarray(ramp.astype(np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(tmp_path: Path, picture: Image.Image, mode: str) -> None:
    stored = picture.convert(mode)
    found = read_image(save(tmp_path / "a.png", stored), (4, 6))
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(stored.convert("RGB")))


def test_cmyk(tmp_path: Path) -> None:
    stored = Image.new("CMYK", (6, 4), (255, 0, 0, 0))  # cyan
    found = read_image(save(tmp_path / "a.jpg", stored, quality=100), (4, 6))
    np.testing.assert_allclose(np.asarray(found)[0, 0], [0, 255, 255], atol=3)


def test_transparency_is_dropped_not_blended(tmp_path: Path) -> None:
    stored = Image.new("RGBA", (2, 1), (200, 10, 30, 0))
    found = read_image(save(tmp_path / "a.png", stored))
    assert found.getpixel((0, 0)) == (200, 10, 30)


def test_palette_with_transparent_colours(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    stored = Image.new("P", (2, 1), 1)
    stored.putpalette([0, 0, 0, 9, 8, 7])
    found = read_image(save(tmp_path / "a.png", stored, transparency=b"\x00\x80"))
    assert found.getpixel((0, 0)) == (9, 8, 7)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    found = read_image(save(tmp_path / name, Image.fromarray(values)))
    assert np.asarray(found)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_values_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    values = np.array([[0, 70000]], dtype=np.int32)
    with pytest.raises(ImageError, match="from 0 to 70000; at most 16 bits"):
        read_image(save(tmp_path / "a.tif", Image.fromarray(values)))


def test_floating_point_is_refused(tmp_path: Path) -> None:
    values = np.array([[0, 0.5]], dtype=np.float32)
    with pytest.raises(ImageError, match="floating point pixels have no agreed range"):
        read_image(save(tmp_path / "a.tif", Image.fromarray(values)))


def test_one_pixel_wide(tmp_path: Path) -> None:
    found = read_image(save(tmp_path / "a.png", Image.new("L", (1, 3000))), (3000, 1))
    assert found.size == (1, 3000)


@pytest.fixture
def turned(tmp_path: Path, picture: Image.Image) -> Path:
    """A file of 4x6 (height x width) that a viewer shows as 6x4."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise
    return save(tmp_path / "turned.png", picture, exif=exif)


def test_exif_is_ignored_where_boxes_count_raw_pixels(turned: Path, picture: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(read_image(turned, (4, 6))), np.asarray(picture))


@pytest.mark.parametrize("expected_size", [(6, 4), None])
def test_exif_is_applied_otherwise(
    turned: Path, picture: Image.Image, expected_size: tuple[int, int] | None
) -> None:
    expected = np.asarray(picture.rotate(-90, expand=True))
    np.testing.assert_array_equal(np.asarray(read_image(turned, expected_size)), expected)


def test_size_that_the_annotations_do_not_know(tmp_path: Path, picture: Image.Image) -> None:
    path = save(tmp_path / "a.png", picture)
    with pytest.raises(ImageError, match=r"annotations say 8x9 .* the file has 4x6"):
        read_image(path, (8, 9))
    with pytest.raises(ImageError, match="annotations say 6x4"):  # turned, but no EXIF says so
        read_image(path, (6, 4))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_truncated(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cannot be read as a picture") as caught:
        read_image(path)
    assert caught.value.path == path


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow describes the wounds of a TIFF
@pytest.mark.parametrize("seed", range(20))
def test_damaged_never_escapes_as_another_error(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in ("a.png", "a.jpg", "a.gif", "a.tif"):
        noise = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        path = save(tmp_path / name, Image.fromarray(noise))
        content = bytearray(path.read_bytes())
        for position in random.integers(0, min(len(content), 400), 12):
            content[position] = random.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(ImageError):  # not every wound is deadly
            assert read_image(path).mode == "RGB"


def test_a_kind_of_picture_that_pillow_does_not_know(tmp_path: Path) -> None:
    header = struct.pack("<7I44x", 124, 0x1007, 4, 6, 0, 0, 0)
    no_pixels = struct.pack("<8I20x", 32, 1, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.dds").write_bytes(b"DDS " + header + no_pixels + bytes(64))
    with pytest.raises(ImageError, match="Unknown pixel format"):  # a NotImplementedError
        read_image(tmp_path / "a.dds")


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>404</html>"])
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read as a picture"):
        read_image(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_absurdly_large_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pgm"
    path.write_bytes(b"P5 20000 20000 255 ")  # a header is all there is
    with pytest.raises(ImageError, match="pixels that are allowed"):
        read_image(path)


def alone(code: str) -> str:
    """What a program says: outside pytest, which has filters of its own around every test."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_large_but_allowed_does_not_warn(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (5, 5)))
    code = (
        "from glipkit.data.images import Image, Path, read_image\n"
        "Image.MAX_IMAGE_PIXELS = 15\n"
        f"assert read_image(Path({str(path)!r})).size == (5, 5)\n"
    )
    assert alone(code) == ""


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_the_callers_rule_about_large_pictures_stays(first: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (5, 5)))
    theirs = "warnings.filterwarnings('error', category=Image.DecompressionBombWarning)\n"
    ours = "from glipkit.data.images import Path, read_image\n"
    code = (
        "import warnings\n"
        "from PIL import Image\n"
        f"{theirs + ours if first == 'theirs' else ours + theirs}"
        "Image.MAX_IMAGE_PIXELS = 15\n"
        f"for read in Image.open, read_image:\n"
        "    try:\n"
        f"        read(Path({str(path)!r}))\n"
        "    except (Image.DecompressionBombWarning, ValueError) as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    said = alone(code).splitlines()
    assert [line.split()[0] for line in said] == ["DecompressionBombWarning", "ImageError"]
    assert "a.png: refused by a warning filter of this program" in said[1]


def test_reading_in_threads_leaves_warnings_alone(tmp_path: Path) -> None:
    """`catch_warnings` puts filters back that another thread set in the meantime."""
    path = save(tmp_path / "a.png", Image.new("L", (5, 5)))
    entered, left = threading.Event(), threading.Event()

    def pause(image: Image.Image, *_: object) -> None:
        entered.set()
        assert left.wait(10)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
        patch.setattr(images, "_check_size", pause)
        reading = thread.submit(read_image, path)
        assert entered.wait(10)
        with warnings.catch_warnings():  # so that pytest gets back what it had
            warnings.simplefilter("error", DeprecationWarning)
            mine = warnings.filters[:]
            left.set()
            reading.result()
            assert warnings.filters == mine


def test_larger_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png", Image.new("L", (5, 5)))
    monkeypatch.setattr(images, "MAX_PIXELS", 20)
    with pytest.raises(ImageError, match="5x5 is more than the 20 pixels"):
        read_image(tmp_path / "a.png")


def test_bytes_are_read_as_files_are(tmp_path: Path, picture: Image.Image) -> None:
    data = save(tmp_path / "a.png", picture).read_bytes()
    found = read_image_bytes(data, Path("many.tsv:3"), (4, 6))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))
    for broken, message in (
        (data[:-30], r"many\.tsv:3: cannot be read as a picture"),
        (b"", r"many\.tsv:3: cannot be read as a picture: of no known format"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image_bytes(broken, Path("many.tsv:3"))
    with pytest.raises(ImageError, match=r"the annotations say 6x4 .*, the file has 4x6"):
        read_image_bytes(data, Path("many.tsv:3"), (6, 4))
