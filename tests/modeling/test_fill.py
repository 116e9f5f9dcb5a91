"""The fill rule; that it is the golden one shows in tests/golden/test_forward.py too."""

from pathlib import Path

import numpy as np
import pytest

from glipkit.modeling.fill import fill_value, sample_indices, synthetic_image, unit_noise


def test_pictures_are_the_golden_ones(golden: Path) -> None:
    inputs = np.load(golden / "inputs_seed0.npz")
    for index in range(2):
        expected = inputs[f"image{index}"]
        np.testing.assert_array_equal(synthetic_image(*expected.shape[:2], index), expected)


def test_noise_follows_the_written_rule() -> None:
    # Written out once from WEIGHT_FILL.md: crc32("a") = 0xe8b7be43, Philox key with seed 1.
    words = np.random.Philox(key=0xE8B7BE43 | (1 << 32)).random_raw(2)
    halves = [int(words[0]) & 0xFFFFFFFF, int(words[0]) >> 32, int(words[1]) & 0xFFFFFFFF]
    expected = [((half + 0.5) / 2**31 - 1) * 3**0.5 for half in halves]
    np.testing.assert_allclose(unit_noise("a", (3,), 1), expected, rtol=1e-15)


def test_noise_has_unit_variance_and_depends_on_name_and_seed() -> None:
    noise = unit_noise("x", (100, 1000), 0)
    assert noise.dtype == np.float64
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert not np.allclose(noise, unit_noise("y", (100, 1000), 0))
    assert not np.allclose(noise, unit_noise("x", (100, 1000), 1))


@pytest.mark.parametrize(
    ("name", "shape", "offset", "scale"),
    [
        ("rpn.head.bias0", (1,), -3.5, 0.1),
        ("backbone.body.layers.0.blocks.0.attn.relative_position_bias_table", (169, 3), 0, 0.5),
        ("backbone.body.norm1.weight", (192,), 1, 0.1),
        ("backbone.body.norm1.bias", (192,), 0, 0.05),
        ("backbone.body.patch_embed.proj.weight", (96, 3, 4, 4), 0, 48**-0.5),
        ("rpn.head.dyhead_tower.1.attention.output.dense.weight", (8, 16), 0, 0.25 / 4),
        ("language_backbone.body.model.encoder.layer.0.attention.output.dense.weight", (8, 16), 0,
         0.2 / 4),
        ("language_backbone.body.model.encoder.layer.0.output.dense.weight", (8, 16), 0, 0.25 / 4),
    ],
)  # fmt: skip
def test_rules(name: str, shape: tuple[int, ...], offset: float, scale: float) -> None:
    expected = offset + scale * unit_noise(name, shape, 3)
    values = fill_value(name, shape, 3)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-8)


def test_samples_step_oddly() -> None:
    np.testing.assert_array_equal(sample_indices(5, 8), np.arange(5))
    np.testing.assert_array_equal(sample_indices(20, 5), [0, 3, 6, 9, 12])
    np.testing.assert_array_equal(sample_indices(17, 5), [0, 3, 6, 9, 12])
    assert sample_indices(9, 5).max() == 4
