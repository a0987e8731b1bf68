"""Boxes that follow an object: they hold what is visible, stay where it was, and can leave the frame."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas import arrays
from diffvas.focus import Box, crop_each, extent, follow, paste_each, whole_frames

SIZE = (120, 200)


def middle(box: Box) -> tuple[float, float]:
    return (box.top + box.bottom) / 2, (box.left + box.right) / 2


def test_extent() -> None:
    mask = np.zeros((5, 7), bool)
    assert extent(mask) is None
    mask[1:3, 4] = True
    assert extent(mask) == (1, 3, 4, 5)


def test_boxes_follow_what_moves_and_grows() -> None:
    extents = [(40, 60 + t, 10 + 4 * t, 30 + 5 * t) for t in range(30)]
    boxes = follow(extents, SIZE, 2.0)
    for t in range(3, 27):
        top, bottom, left, right = extents[t]
        y, x = middle(boxes[t])
        assert abs(y - (top + bottom) / 2) < 3 and abs(x - (left + right) / 2) < 4
    sides = np.array([box.size[0] for box in boxes])
    assert (np.diff(sides) >= -1).all() and sides[-1] > 1.5 * sides[0], "it grows with the object"
    assert all(abs(box.size[0] - box.size[1]) <= 1 for box in boxes)


def test_a_box_stays_with_an_object_that_is_hidden() -> None:
    """Half hidden for a while: the box keeps the size and the place of the whole; then not seen at all."""
    whole = [(40, 80, 20 + 3 * t, 60 + 3 * t) for t in range(40)]
    extents: list[tuple[int, int, int, int] | None] = list(whole)
    for t in range(12, 18):
        extents[t] = (40, 80, whole[t][2], whole[t][2] + 8)
    for t in range(24, 30):
        extents[t] = None
    for t, box in enumerate(follow(extents, SIZE, 2.0)):
        y, x = middle(box)
        assert abs(y - 60) < 2 and abs(x - (40 + 3 * t)) < 6, t
        assert 78 <= box.size[0] <= 84


def test_a_whole_object_goes_straight_on_in_its_size_where_it_is_not_seen() -> None:
    extents = [(40, 60, 10 + 3 * t, 40 + 3 * t) if 8 <= t < 16 else None for t in range(24)]
    boxes = follow(extents, (100, 200), shares=[float(e is not None) for e in extents])
    for t in (0, 4, 8, 15, 19, 23):
        assert abs((boxes[t].left + boxes[t].right) / 2 - (25 + 3 * t)) < 3, t
        assert abs(boxes[t].size[0] - 60) <= 2, t
    partly = follow(extents, (100, 200))
    assert partly[0].size[0] < 55 and partly[23].size[0] < 55, "of an object that is not known whole it is forgotten"


def test_boxes_hold_all_that_is_visible() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        extents: list[tuple[int, int, int, int] | None] = []
        for _ in range(15):
            top, left = int(rng.integers(0, 100)), int(rng.integers(0, 180))
            size = rng.integers(1, 90, 2)
            shown = (top, min(top + int(size[0]), SIZE[0]), left, min(left + int(size[1]), SIZE[1]))
            extents.append(shown if rng.random() < 0.8 else None)
        extents[3] = (10, 20, 10, 20)
        for aspect in (0.5, 1.0, 2.0):
            for shown_now, box in zip(extents, follow(extents, SIZE, 1.2, aspect=aspect), strict=True):
                assert box.size[1] == pytest.approx(box.size[0] * aspect, abs=3)
                if shown_now is not None:
                    assert box.top <= shown_now[0] and box.bottom >= shown_now[1]
                    assert box.left <= shown_now[2] and box.right >= shown_now[3]


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_short_clips(frames: int) -> None:
    boxes = follow([(50, 60, 50, 60)] * frames, SIZE, 2.0)
    assert boxes == [boxes[0]] * frames and middle(boxes[0]) == (55, 55)
    assert boxes[0].size[0] >= 2 * 0.12 * SIZE[0], "a few pixels are not all that there is to see"


def test_nothing_seen_and_whole_frames() -> None:
    assert follow([None, None], SIZE) == whole_frames(2, SIZE) == [Box(0, 120, 0, 200)] * 2


def test_a_box_beyond_the_frame() -> None:
    box = Box(-2, 4, 6, 12)
    masks = np.ones((2, 8, 10), bool)
    depth = np.arange(80, dtype=np.float32).reshape(1, 8, 10)
    shown = box.crop(masks)
    assert shown.shape == (2, 6, 6) and shown[:, 2:, :4].all() and not shown[:, :2].any() and not shown[:, :, 4:].any()
    assert box.crop(depth)[0, 0, -1] == depth[0, 0, -1], "as at the border"
    assert np.array_equal(box.paste(shown, (8, 10)), Box(0, 4, 6, 10).paste(np.ones((2, 4, 4), bool), (8, 10)))
    assert not Box(20, 30, 0, 5).paste(np.ones((1, 10, 5), bool), (8, 10)).any()
    inside = Box(1, 3, 2, 5)
    assert np.shares_memory(inside.crop(masks), masks), "no copy where none is needed"
    assert inside.moved(np.array([2.4, -1.6])) == Box(-1, 1, 4, 7)


def test_cropping_and_pasting_each_frame() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    boxes = [Box(0, 8, t, t + 8) for t in range(3)]
    parts = crop_each(boxes, images, (8, 8), arrays.resize_u8)
    assert parts.dtype == np.uint8
    back = paste_each(boxes, list(parts), (20, 30))
    for t in range(3):
        assert np.array_equal(back[t, :8, t : t + 8], images[t, :8, t : t + 8]) and not back[t, 8:].any()
