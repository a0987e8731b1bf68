"""Masks that are bent until they meet: limbs that swing, and nothing where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffvas.elastic import GRID, bend, blur, warp

SIZE = 96


def leg(degrees: float) -> np.ndarray:
    """(96, 96) bool: a body with a leg that hangs from it and is swung to a side."""
    y, x = np.mgrid[:SIZE, :SIZE] - np.array([36.0, 48.0])[:, None, None]
    a = np.deg2rad(degrees)
    along, across = np.cos(a) * y + np.sin(a) * x, np.cos(a) * x - np.sin(a) * y
    return np.asarray(((np.abs(x) < 24) & (np.abs(y) < 10)) | ((np.abs(across) < 5) & (along > 0) & (along < 46)))


def tensors(*masks: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(mask[None].astype(np.float32)) for mask in masks]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_hidden_foot_follows_the_leg_that_is_seen() -> None:
    source, target, wall = leg(0), leg(9), np.zeros((SIZE, SIZE), bool)
    wall[66:] = True
    seen, unseen = bend(*tensors(source, ~source, target & ~wall, ~target & ~wall))
    rigid, bent = (iou(mask & wall, target & wall) for mask in (source, seen[0].numpy() > 0.5))
    assert rigid < 0.3 and bent > 0.55, (rigid, bent)
    assert iou((seen[0].numpy() > 0.5) & ~wall, target & ~wall) > 0.93
    both = (seen + unseen)[0]
    assert both.min() >= 0 and both.max() <= 1 + 1e-5, "every pixel stays the object's or not"


def test_nothing_shifts_where_nothing_tells() -> None:
    source, nothing = leg(0), np.zeros((SIZE, SIZE), bool)
    for there, absent in ((nothing, nothing), (source, ~source)):
        seen, unseen = bend(*tensors(source, ~source, there, absent))
        np.testing.assert_allclose(seen[0], source, atol=1e-3)
        np.testing.assert_allclose(unseen[0], ~source, atol=1e-3)


def test_frames_do_not_mix() -> None:
    pairs = [tensors(leg(0), ~leg(0), leg(d), ~leg(d)) for d in (-8, 0, 8)]
    together = bend(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
    for k, pair in enumerate(pairs):
        np.testing.assert_allclose(together[0][k], bend(*pair)[0][0], atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (96, 40), (200, 150)])
def test_any_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    parts = [torch.from_numpy(rng.random((3, *size)).astype(np.float32)) for _ in range(4)]
    for bent in bend(*parts):
        assert bent.shape == (3, *size) and bool(bent.isfinite().all())


def test_larger_pictures_bend_alike() -> None:
    def bent(times: int) -> torch.Tensor:
        source, target = (np.kron(leg(degrees), np.ones((times, times), bool)) for degrees in (0, 9))
        return bend(*tensors(source, ~source, target, ~target))[0][0]

    one, three = bent(1), bent(3)
    assert SIZE > GRID
    np.testing.assert_allclose(F.avg_pool2d(three[None], 3)[0], one, atol=0.35)
    assert iou(F.avg_pool2d(three[None], 3)[0].numpy() > 0.5, one.numpy() > 0.5) > 0.97


def test_blur_is_a_convolution_with_a_gaussian() -> None:
    image, sigma = torch.rand(2, 20, 31), 2.0
    at = torch.arange(-6, 7)
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    plain = F.conv2d(image[:, None], (kernel[:, None] * kernel)[None, None], padding=6)[:, 0]
    np.testing.assert_allclose(blur(image, sigma), plain, atol=1e-5)


def test_warp_takes_from_where_it_is_told() -> None:
    image = torch.rand(1, 2, 9, 12)
    field = torch.zeros(1, 2, 9, 12)
    field[:, 0], field[:, 1] = 3, -2
    out = warp(image, field)
    np.testing.assert_allclose(out[..., 2:, :-3], image[..., :-2, 3:], atol=1e-5)
    assert not out[..., :2, :].any() and not out[..., -3:].any(), "nothing comes from beyond the borders"
