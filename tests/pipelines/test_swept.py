"""Where the object is seen to pass: what stands there is behind it, wherever the camera looks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diffvas.focus import Box, whole_frames
from diffvas.pipelines.swept import CLOSE, camera_steps, swept

T, H, W = 9, 64, 96
SIDE = 16


def wall(width: int = 256) -> np.ndarray:
    """Soft noise, full of corners."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((H, width)), (0, 0), 1.5)
    return np.asarray(cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def walk(pan: float = 0.0, grey: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Frames and visible masks: a white square walks 5 pixels a frame along a wall, behind a black post that stands at
    columns 40 to 48 of it; the camera pans by ``pan`` pixels a frame."""
    scene = wall() if grey is None else grey
    frames, modal = np.zeros((T, H, W, 3), np.uint8), np.zeros((T, H, W), bool)
    for t in range(T):
        picture, mask = scene.copy(), np.zeros(scene.shape, bool)
        mask[24 : 24 + SIDE, 10 + 5 * t : 10 + 5 * t + SIDE] = True
        mask[:, 40:48] = False
        picture[mask] = 255
        picture[:, 40:48] = 0
        left = round(pan * t)
        frames[t], modal[t] = picture[:, left : left + W, None], mask[:, left : left + W]
    return frames, modal


def test_what_is_covered_later_or_earlier() -> None:
    frames, modal = walk()
    shown, boxes = np.ones(modal.shape, bool), whole_frames(T, (H, W))
    told = swept(frames, modal, shown, boxes)
    assert told.dtype == np.float32 and told.shape == modal.shape and 0 <= told.min() and told.max() <= 1
    assert not told[modal].any(), "what shows the object itself is not behind it"
    assert not told[:, :, 40:48].any(), "nobody walks in front of the post"
    last = 10 + 5 * (T - 1) + SIDE
    assert (told[0, 26:38, 50 : last - 2] == 1).all(), "where the square will be"
    assert (told[-1, 26:38, 12:38] == 1).all(), "and where it was"
    assert not told[:, :22].any() and not told[:, :, last:].any()


@pytest.mark.parametrize("pan", [2.0, 5.0])
def test_a_camera_that_pans(pan: float) -> None:
    """Boxes follow the square, or the whole frame is looked at: the answer is the still camera's."""
    frames, modal = walk(pan)
    shown = np.ones(modal.shape, bool)
    told = swept(frames, modal, shown, whole_frames(T, (H, W)))
    still = swept(*walk(), shown, whole_frames(T, (H, W)))
    for t in range(T):
        left = round(pan * t)
        np.testing.assert_allclose(told[t, :, : W - left], still[t, :, left:], atol=0.4)
        assert np.abs(told[t, :, : W - left] - still[t, :, left:]).mean() < 0.01
    steps = camera_steps(frames, modal, shown, whole_frames(T, (H, W)))
    for step in steps:
        np.testing.assert_allclose(step, [[1, 0, -pan], [0, 1, 0], [0, 0, 1]], atol=0.1)


def test_boxes_of_any_size_and_place() -> None:
    frames, modal = walk(2.0)
    boxes = [Box(t % 3, 48 + t % 3, 2 * t, 72 + 2 * t) for t in range(T)]
    size = (64, 96)
    cut = np.stack([cv2.resize(box.crop(f[None])[0], size[::-1]) for box, f in zip(boxes, frames, strict=True)])
    seen = np.stack(
        [
            cv2.resize(box.crop(m[None])[0].astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
            for box, m in zip(boxes, modal, strict=True)
        ]
    )
    told = swept(cut, seen, np.ones(seen.shape, bool), boxes)
    whole = swept(frames, modal, np.ones(modal.shape, bool), whole_frames(T, (H, W)))
    for t, box in enumerate(boxes):
        expected = cv2.resize(box.crop(whole[t : t + 1])[0], size[::-1])
        assert np.abs(told[t] - expected)[:, : 96 - 24].mean() < 0.04


def test_nothing_to_go_by() -> None:
    """A wall without corners: the camera is taken to stand still, in the frame and not in the boxes."""
    frames, modal = walk(grey=np.full((H, 256), 90, np.uint8))
    frames[:, :, 40:48] = 90
    boxes = [Box(0, H, t, W + t) for t in range(T)]
    shown = np.ones(modal.shape, bool)
    steps = camera_steps(frames, modal, np.zeros_like(shown), boxes)
    for step in steps:
        np.testing.assert_allclose(step, [[1, 0, -1], [0, 1, 0], [0, 0, 1]], atol=1e-9)
    assert not swept(frames[:1], modal[:1], shown[:1], boxes[:1]).any()
    assert not swept(frames, np.zeros_like(modal), shown, boxes).any()


def test_small_shakes_do_not_add_up() -> None:
    frames, modal = walk()
    rng = np.random.default_rng(1)
    noisy = np.clip(frames + rng.normal(0, 3, frames.shape), 0, 255).astype(np.uint8)
    for step in camera_steps(noisy, modal, np.ones(modal.shape, bool), whole_frames(T, (H, W))):
        np.testing.assert_array_equal(step, np.eye(3), err_msg=f"corners stay within {CLOSE} pixels")
