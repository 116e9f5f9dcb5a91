"""How strongly each place of a picture answers a token, as a picture."""

import numpy as np
from PIL import Image
from torch import Tensor

# From nothing to the highest score: dark violet, red, orange, pale yellow. Lightness only rises, so
# that the order survives every kind of colour blindness and a grey print.
RAMP = ((38, 20, 84), (122, 33, 112), (209, 66, 74), (247, 145, 48), (252, 236, 150))
FAINT = 0.1  # where no score is higher, the picture stays dim: there is nothing to see
_QUIET = 0.45  # the picture beneath is grey and this bright
_OPACITY = 0.9  # of the highest score


def heat_picture(picture: Image.Image, scores: Tensor) -> Image.Image:
    """A token's scores over a dimmed picture, brightest where they are highest.

    Args:
        picture: RGB.
        scores: (H, W) in [0, 1], covering the picture.

    Returns:
        RGB, of the picture's size. Scores are shown in proportion to `brightest`.
    """
    share = (scores / brightest(scores)).float().cpu().numpy()
    smooth = Image.fromarray(share).resize(picture.size, Image.Resampling.BICUBIC)
    strength = np.asarray(smooth).clip(0, 1)  # bicubic overshoots a little

    stops = np.linspace(0, 1, len(RAMP))
    ramp = np.asarray(RAMP, dtype=np.float32)
    colors = np.stack([np.interp(strength, stops, ramp[:, i]) for i in range(3)], axis=-1)
    opacity = (_OPACITY * np.sqrt(strength))[..., None]
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] * _QUIET
    return Image.fromarray((grey * (1 - opacity) + colors * opacity).astype(np.uint8))


def brightest(scores: Tensor) -> float:
    """The score that is shown brightest: the highest, but no less than `FAINT`."""
    return max(float(scores.max()), FAINT)
