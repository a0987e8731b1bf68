from __future__ import annotations

import numpy as np
import pytest

from diffvas.metrics import mean_colour_fill, psnr_inside, ssim_inside
from diffvas.metrics.content import _ssim_map


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(2, 24, 32, 3), dtype=np.uint8)


@pytest.fixture
def region() -> np.ndarray:
    inside = np.zeros((2, 24, 32), bool)
    inside[0, 4:16, 5:20] = True
    return inside


def test_psnr_by_hand() -> None:
    true = np.zeros((2, 2, 2, 3), np.uint8)
    pred = true.copy()
    region = np.zeros((2, 2, 2), bool)
    region[0, 0, 0] = region[1, 1, 1] = True
    pred[0, 0, 0] = 30  # squared error 900 on 3 of the region's 6 values: mean 450
    pred[0, 1, 1] = 255  # outside the region
    assert psnr_inside(pred, true, region) == pytest.approx(10 * np.log10(255**2 / 450))


def test_psnr_does_not_wrap_around_in_uint8() -> None:
    dark, bright = np.zeros((1, 1, 1, 3), np.uint8), np.full((1, 1, 1, 3), 255, np.uint8)
    region = np.ones((1, 1, 1), bool)
    assert psnr_inside(dark, bright, region) == psnr_inside(bright, dark, region) == pytest.approx(0.0)


def test_exact_content_and_empty_region(frames: np.ndarray, region: np.ndarray) -> None:
    assert psnr_inside(frames, frames, region) == float("inf")
    assert ssim_inside(frames, frames, region) == 1.0
    assert np.isnan(psnr_inside(frames, frames, np.zeros_like(region)))
    assert np.isnan(ssim_inside(frames, frames, np.zeros_like(region)))


def test_pixels_outside_the_region_have_no_influence(frames: np.ndarray, region: np.ndarray) -> None:
    noise = np.random.default_rng(1).integers(-20, 21, size=frames.shape)
    pred = np.clip(frames + noise, 0, 255).astype(np.uint8)
    other = np.where(region[..., None], pred, 255 - pred)
    assert ssim_inside(other, frames, region) == pytest.approx(ssim_inside(pred, frames, region), abs=1e-9)
    assert psnr_inside(other, frames, region) == psnr_inside(pred, frames, region)


def test_ssim_of_flat_colours_by_hand() -> None:
    # Without any variance only the luminance term is left: (2 a b + C1) / (a^2 + b^2 + C1).
    a, b, c1 = 100.0, 50.0, (0.01 * 255) ** 2
    true, pred = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 50, np.uint8)
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim_inside(pred, true, np.ones((1, 16, 16), bool)) == pytest.approx(expected, abs=1e-6)


def test_ssim_against_the_plain_definition(frames: np.ndarray) -> None:
    """Where the window is whole, compare with a direct sum over its 121 pixels."""
    pred = np.clip(frames // 2 + 60, 0, 255).astype(np.uint8)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / np.outer(weights, weights).sum()
    x, y = (image[0, 7:18, 10:21].astype(float) for image in (pred, frames))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("hw,hwc->c", window, values)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean((x - mx) ** 2), mean((y - my) ** 2), mean((x - mx) * (y - my))
    c1, c2 = 2.55**2, 7.65**2
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()

    # A region of one window: at its centre the masked window is the plain one.
    block = np.zeros((24, 32), bool)
    block[7:18, 10:21] = True
    values = _ssim_map(pred[0], frames[0], block)
    assert values.reshape(11, 11, 3)[5, 5].mean() == pytest.approx(expected, abs=1e-9)


def test_ssim_falls_with_noise(frames: np.ndarray, region: np.ndarray) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[None, None, :, None], frames.shape).copy()
    noise = np.random.default_rng(2).normal(size=frames.shape)
    scores = [ssim_inside(np.clip(smooth + s * noise, 0, 255).astype(np.uint8), smooth, region) for s in (0, 5, 20, 80)]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.3


def test_mean_colour_fill_by_hand() -> None:
    rgb = np.zeros((2, 1, 4, 3), np.uint8)
    rgb[0, 0] = [[10, 20, 30], [20, 40, 60], [200, 200, 200], [7, 7, 7]]
    rgb[1, 0] = 99
    modal = np.zeros((2, 1, 4), bool)
    modal[0, 0, :2] = True
    before = rgb.copy()
    filled = mean_colour_fill(rgb, modal)
    np.testing.assert_array_equal(filled[0, 0], [[10, 20, 30], [20, 40, 60], [15, 30, 45], [15, 30, 45]])
    np.testing.assert_array_equal(filled[1, 0], [[15, 30, 45]] * 4)  # nothing visible: the clip's colour
    np.testing.assert_array_equal(rgb, before)


def test_mean_colour_follows_the_frame() -> None:
    rgb = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (10, 90)])
    modal = np.zeros((2, 2, 2), bool)
    modal[:, 0, 0] = True
    filled = mean_colour_fill(rgb, modal)
    assert (filled[0] == 10).all()
    assert (filled[1] == 90).all()


def test_wrong_input_is_named(frames: np.ndarray, region: np.ndarray) -> None:
    with pytest.raises(ValueError, match="^pred_rgb: expected uint8"):
        psnr_inside(frames.astype(np.float32), frames, region)
    with pytest.raises(ValueError, match="^true_rgb: expected uint8"):
        ssim_inside(frames, frames[:, :-1], region)
    with pytest.raises(ValueError, match="^region: expected"):
        psnr_inside(frames, frames, region[0])
    with pytest.raises(ValueError, match="^rgb: expected"):
        mean_colour_fill(frames[:1], region)
    with pytest.raises(ValueError, match="^modal: expected the object to be visible"):
        mean_colour_fill(frames, np.zeros_like(region))
