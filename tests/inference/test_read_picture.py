"""A picture in any form, and everything that is none."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glipkit.data.images import ImageError
from glipkit.inference.pictures import picture_source, read_picture

NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(NOISE).permute(2, 0, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(NOISE).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


FORMS = {
    "path": lambda path: path,
    "text": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "memory file": lambda path: io.BytesIO(path.read_bytes()),
    "pillow": Image.open,
    "numpy": lambda path: NOISE,
    "numpy, four channels": lambda path: np.dstack([NOISE, NOISE[..., 0]]),
    "numpy, not contiguous": lambda path: np.asfortranarray(NOISE),
    "tensor": lambda path: TENSOR,
    "tensor, four channels": lambda path: torch.cat([TENSOR, TENSOR[:1]]),
    "tensor, floating point": lambda path: TENSOR / 255,
    "tensor, half": lambda path: (TENSOR / 255).half(),
    "tensor that learns": lambda path: (TENSOR / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, path: Path) -> None:
    found = read_picture(FORMS[form](path))
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), NOISE)


def test_nothing_that_was_given_changes(path: Path) -> None:
    array, tensor, image = NOISE.copy(), TENSOR.clone(), Image.open(path)
    read = [np.asarray(read_picture(each)).copy() for each in (array, tensor, image)]
    array[:], tensor[:] = 0, 0
    for each in read:
        np.testing.assert_array_equal(each, NOISE)
    assert image.size == (7, 5)
    with path.open("rb") as file:
        read_picture(file)
        assert not file.closed
        assert read_picture(file).size == (7, 5)  # from its beginning again


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_modes_of_pillow(mode: str) -> None:
    image = Image.new(mode, (4, 3))
    assert read_picture(image).mode == "RGB"


def test_gray_arrays() -> None:
    for gray in (NOISE[..., 0], NOISE[..., :1], TENSOR[:1]):
        found = np.asarray(read_picture(gray))
        np.testing.assert_array_equal(found, np.repeat(NOISE[..., :1], 3, axis=2))


def test_bgr_is_said_of_arrays_alone(path: Path) -> None:
    for bgr in (NOISE[..., ::-1], TENSOR.flip(0), np.dstack([NOISE[..., ::-1], NOISE[..., 0]])):
        np.testing.assert_array_equal(np.asarray(read_picture(bgr, bgr=True)), NOISE)
    np.testing.assert_array_equal(np.asarray(read_picture(path, bgr=True)), NOISE)


def test_files_and_pillow_are_turned_as_a_viewer_would(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(path, exif=exif)
    upright = np.rot90(NOISE, -1)
    for form in (path, path.read_bytes(), Image.open(path)):
        np.testing.assert_array_equal(np.asarray(read_picture(form)), upright)


def test_source(path: Path) -> None:
    assert picture_source(path) == picture_source(str(path)) == str(path)
    assert picture_source(Image.open(path)) == str(path)
    with path.open("rb") as file:
        assert picture_source(file) == str(path)
    (entry,) = os.scandir(os.fsencode(path.parent))
    assert picture_source(entry) == str(path)
    for other in (NOISE, TENSOR, b"bytes", io.BytesIO(), Image.new("L", (1, 1))):
        assert picture_source(other) is None


WRONG = {
    "address": ("https://example.org/a.jpg", ValueError, "nothing is fetched here: download it"),
    "data address": ("data:image/png;base64,AAAA", ValueError, "nothing is fetched here"),
    "empty path": ("  ", ValueError, "path of the picture is empty"),
    "base64": ("iVBORw0KGgo" * 500, ImageError, "^.{80}: cannot be opened: .*as bytes, base64.b64"),
    "missing": ("gone.jpg", ImageError, r"gone\.jpg: no such file"),
    "none": (None, TypeError, "NoneType; expected a path, .*cv2.imread gives None"),
    "number": (3, TypeError, "the picture is a int; expected a path, bytes"),
    "list": ([NOISE], TypeError, "list of pictures holds pictures"),
    "generator": ((each for each in [NOISE]), TypeError, r"list\(pictures\), or the iterator to"),
    "text file": (io.StringIO("a"), TypeError, "opened as text; open it with mode 'rb'"),
    "not a picture": (b"hello", ImageError, "the picture: cannot be read as a picture"),
    "empty": (b"", ImageError, "cannot be read as a picture"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), ImageError, "0x4 .*has no pixels"),
    "no pixels, gray": (np.zeros((4, 0), np.uint8), ImageError, "4x0 .*has no pixels"),
    "no pixels, tensor": (torch.zeros(3, 4, 0), ImageError, "4x0 .*has no pixels"),
    "no pixels, pillow": (Image.new("RGB", (0, 3)), ImageError, "3x0 .*has no pixels"),
    "floats": (NOISE / 255, ImageError, r"expected an array of uint8.*got float64.*\* 255"),
    "channels first": (NOISE.transpose(2, 0, 1), ImageError, r"channels come last.*transpose"),
    "channels last": (TENSOR.permute(1, 2, 0), ImageError, r"channels come first.*permute"),
    "two channels": (NOISE[..., :2], ImageError, r"got shape \(5, 7, 2\)$"),
    "batch": (NOISE[None], ImageError, r"is a batch; pass list\(batch\)"),
    "batch of tensors": (TENSOR[None], ImageError, r"is a batch; pass list\(batch\)"),
    "whole numbers": (TENSOR.long(), ImageError, "or floating point from 0 to 1, got torch.int64"),
    "normalised": (TENSOR / 100 - 1, ImageError, "from 0 to 1, got -.*before any normalisation"),
    "not a number": (torch.full((3, 2, 2), torch.nan), ImageError, "from 0 to 1, got nan"),
    "range of 255": (TENSOR.float(), ImageError, "expected a tensor of values from 0 to 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_picture(case: str) -> None:
    given, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        read_picture(given)


def test_folders_and_damage_are_named(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ImageError, match=r"is a folder, where one picture.*detector\.stream"):
        read_picture(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"film")
    with pytest.raises(ImageError, match=r"clip\.mp4: is a video, where one .*detector\.stream"):
        read_picture(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match=r"noise\.png: cannot be read as a picture"):
        read_picture(path)
    with pytest.raises(ImageError, match=r"noise\.png: cannot be read as a picture"):
        read_picture(Image.open(path))  # which has not been decoded yet


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # of Image.open here
def test_too_large_is_refused_by_the_header(tmp_path: Path) -> None:
    bomb = b"P5 20000 6000 255 "  # a header is all there is
    (tmp_path / "bomb.pgm").write_bytes(bomb)
    huge = np.broadcast_to(np.uint8(0), (20000, 6000, 3))
    tensor = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, 20000, 6000)
    for form in (tmp_path / "bomb.pgm", bomb, Image.open(io.BytesIO(bomb)), huge, tensor):
        with pytest.raises(ImageError, match="more than the 100,000,000 pixels that are allowed"):
            read_picture(form)
    with pytest.raises(ImageError, match="5x7 is more than the 34 pixels"):
        read_picture(NOISE, max_pixels=34)
    half_a_billion = b"P5 25000 20000 255 "  # Pillow's own limit speaks first
    with pytest.raises(ImageError, match="more than the 100,000,000 pixels"):
        read_picture(half_a_billion)


def test_a_name_is_used_where_a_picture_has_none() -> None:
    with pytest.raises(ImageError, match="picture 3: cannot be read"):
        read_picture(b"hello", name="picture 3")
