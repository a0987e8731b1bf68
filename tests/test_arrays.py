"""Conversions: exact both ways, and refusing what they cannot convert."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffvas import arrays
from diffvas.arrays import (
    composite_on_white,
    depth_to_signed,
    from_signed,
    masks_to_signed,
    normalise_depth,
    resize_float,
    resize_masks_area,
    resize_masks_nearest,
    resize_u8,
    to_signed,
    working_size,
)


def test_signed_and_back_is_exact_for_every_level() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    signed = to_signed(levels)
    assert signed.shape == (1, 3, 16, 16) and signed.dtype == torch.float32
    assert (float(signed.min()), float(signed.max())) == (-1.0, 1.0)
    assert np.array_equal(from_signed(signed), levels)
    assert np.array_equal(from_signed(signed.to(torch.float64)), levels)


def test_signed_keeps_channels_and_leading_axes() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    signed = to_signed(frames)
    assert signed.shape == (2, 3, 3, 4, 5)
    assert float(signed[1, 2, 0, 3, 4]) == pytest.approx(frames[1, 2, 3, 4, 0] / 127.5 - 1)
    assert to_signed(frames[0, 0]).shape == (3, 4, 5)
    assert np.array_equal(to_signed(frames[:, :, ::-1]).numpy(), signed.numpy()[..., ::-1, :])


def test_from_signed_rounds_and_clamps() -> None:
    x = torch.tensor([-7.0, -1.0, -0.9962, 0.0, 1.0, 9.0]).reshape(1, 1, 6).repeat(3, 1, 1)
    assert from_signed(x)[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="^x: expected numbers, got NaN"):
        from_signed(x * float("nan"))
    with pytest.raises(ValueError, match="^x: expected shape"):
        from_signed(torch.zeros(4, 5, 5))


def test_signed_refuses_other_arrays() -> None:
    with pytest.raises(ValueError, match="^frames_u8: expected dtype uint8, got float32"):
        to_signed(np.zeros((4, 5, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^frames_u8: expected shape"):
        to_signed(np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(ValueError, match="^masks: expected dtype bool, got uint8"):
        masks_to_signed(np.zeros((4, 5), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^depth: expected values in \[0, 1\]"):
        depth_to_signed(np.full((1, 4, 5), 1.01, np.float32))
    with pytest.raises(ValueError, match=r"^depth: expected values in \[0, 1\]"):
        depth_to_signed(np.full((1, 4, 5), np.nan, np.float32))


def test_masks_and_depth_become_grey() -> None:
    mask = np.zeros((2, 4, 5), bool)
    mask[0, 1, 2] = True
    signed = masks_to_signed(mask)
    assert signed.shape == (2, 3, 4, 5) and signed[0, :, 1, 2].tolist() == [1.0] * 3
    assert int((signed == -1).sum()) == 3 * (mask.size - 1)
    depth = np.linspace(0, 1, 40, dtype=np.float32).reshape(2, 4, 5)
    grey = depth_to_signed(depth)
    assert grey.shape == (2, 3, 4, 5) and np.allclose(grey[:, 1].numpy(), depth * 2 - 1)
    assert masks_to_signed(mask[0]).shape == (3, 4, 5)


def test_composite_on_white() -> None:
    rgb = np.full((1, 2, 2, 3), 7, np.uint8)
    mask = np.array([[[True, False], [False, False]]])
    out = composite_on_white(rgb, mask)
    assert out.dtype == np.uint8 and out[0, 0, 0].tolist() == [7, 7, 7] and (out[0, 1] == 255).all()
    with pytest.raises(ValueError, match="^mask: expected shape"):
        composite_on_white(rgb, mask[:, :1])


def test_resizing_keeps_means_and_ranges() -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    assert np.abs(resize_u8(frames, (20, 30)) - frames.reshape(2, 20, 2, 30, 2, 3).mean((2, 4))).max() <= 0.5 + 1e-6
    same = resize_u8(frames, (40, 60))
    assert np.array_equal(same, frames) and not np.shares_memory(same, frames)
    assert resize_u8(frames, (81, 33)).shape == (2, 81, 33, 3)
    x = rng.random((2, 8, 8), dtype=np.float32)
    grown = resize_float(x, (19, 23))
    assert grown.dtype == np.float32 and grown.min() >= x.min() and grown.max() <= x.max()
    for size in ((0, 5), (5, -1)):
        with pytest.raises(ValueError, match="^size: expected"):
            resize_float(x, size)


def test_mask_coverage_is_the_share_of_area() -> None:
    masks = np.zeros((1, 4, 4), bool)
    masks[0, :2, :1] = True
    assert resize_masks_area(masks, (2, 2))[0].tolist() == [[0.5, 0.0], [0.0, 0.0]]


def test_nearest_masks_take_pixel_centres() -> None:
    masks = np.zeros((1, 3, 3), bool)
    masks[0, 1, 1] = True
    assert resize_masks_nearest(masks, (1, 1)).tolist() == [[[True]]]
    assert resize_masks_nearest(masks, (9, 9))[0, 3:6, 3:6].all()
    assert int(resize_masks_nearest(masks, (9, 9)).sum()) == 9
    rng = np.random.default_rng(2)
    noise = rng.random((2, 17, 23)) > 0.5
    # growing by whole factors and back loses nothing, and a mirrored mask gives the mirrored result
    assert np.array_equal(resize_masks_nearest(resize_masks_nearest(noise, (51, 69)), (17, 23)), noise)
    odd = resize_masks_nearest(noise, (51, 69))
    assert np.array_equal(resize_masks_nearest(noise[:, :, ::-1], (51, 69)), odd[:, :, ::-1])


def test_normalised_depth_spans_the_clip() -> None:
    depth = np.array([[[2.0, 4.0]], [[6.0, 3.0]]])
    assert normalise_depth(depth).tolist() == [[[0.0, 0.5]], [[1.0, 0.25]]]
    assert normalise_depth(depth).dtype == np.float32
    assert (normalise_depth(np.full((2, 3, 4), 7.5)) == 0.5).all()
    huge = np.array([[[-1.7e308, 1.7e308]]])
    assert normalise_depth(huge).tolist() == [[[0.0, 1.0]]]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="^depth: expected finite values, got 1"):
            normalise_depth(np.array([[[0.0, bad]]]))
    with pytest.raises(ValueError, match="^depth: expected shape"):
        normalise_depth(np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((720, 1280), (128, 224)),
        ((1280, 720), (224, 128)),
        ((800, 1280), (160, 224)),
        ((524, 640), (160, 192)),
        ((128, 256), (128, 256)),
        ((500, 500), (192, 192)),
        ((1, 1), (192, 192)),
    ],
)
def test_working_size(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*source) == expected


def test_working_size_rules_hold_everywhere() -> None:
    rng = np.random.default_rng(3)
    for height, width in rng.integers(1, 4000, (200, 2)).tolist():
        h, w = working_size(height, width)
        assert h % 32 == 0 and w % 32 == 0 and 0 < h * w <= 1.15 * 128 * 256
        assert working_size(width, height) == (w, h)
    assert working_size(256, 512, area=256 * 512, multiple=64) == (256, 512)
    with pytest.raises(ValueError, match="^height, width"):
        working_size(0, 5)
    with pytest.raises(ValueError, match="^area"):
        working_size(5, 5, area=10)


def test_constant_depth_with_gaps_is_the_middle_and_no_depth_is_refused() -> None:
    for shape in ((1, 1, 5), (1, 5, 1), (2, 6, 6)):
        constant = np.full(shape, 4.0)
        constant[0, 0, 0] = np.nan
        filled = arrays.clean_depth(constant)
        assert (filled == 4).all() and (arrays.normalise_depth(filled) == 0.5).all()
    with pytest.raises(ValueError, match="^depth: expected at least one finite value"):
        arrays.clean_depth(np.full((1, 2, 2), np.nan))
    for depth in (np.zeros((2, 2)), np.zeros((0, 2, 2)), np.zeros((1, 2, 2), bool), np.full((1, 2, 2), "x")):
        with pytest.raises(ValueError, match="^depth: expected numbers of shape"):
            arrays.clean_depth(depth)
