from __future__ import annotations

import cv2
import numpy as np
import pytest

from diffvas.metrics import convex_hull_mask, convex_hull_masks


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "hull"),
    [
        (picture("....", "....", "...."), picture("....", "....", "....")),  # empty
        (picture("....", "..#.", "...."), picture("....", "..#.", "....")),  # one pixel
        (picture("#..#", "....", "...."), picture("####", "....", "....")),  # two ends of a row
        (picture("#...", "....", "#..."), picture("#...", "#...", "#...")),  # two ends of a column
        (picture("#...", "....", "..#."), picture("#...", ".#..", "..#.")),  # a diagonal
        (picture("#..#", "....", "#..#"), picture("####", "####", "####")),  # four corners
        (picture("#...", "#...", "####"), picture("#...", "###.", "####")),  # an L: (2, 1) is nearest to the slant
    ],
)
def test_hull_by_hand(mask: np.ndarray, hull: np.ndarray) -> None:
    np.testing.assert_array_equal(convex_hull_mask(mask), hull)


def test_hull_fills_the_notch_of_a_large_l() -> None:
    mask = np.zeros((41, 41), bool)
    mask[:, 0] = mask[40, :] = True
    rows, columns = np.indices(mask.shape)
    hull = convex_hull_mask(mask)
    assert hull[columns <= rows].all()
    assert not hull[columns > rows].any()


def test_hull_is_a_superset_with_the_same_box() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((300, 19, 23)) < rng.uniform(0, 0.05, size=(300, 1, 1))
    hulls = convex_hull_masks(masks)
    assert hulls.dtype == np.bool_
    assert (hulls | ~masks).all()
    assert hulls.sum() > 3 * masks.sum()
    for axis in (1, 2):
        np.testing.assert_array_equal(hulls.any(axis=axis), _between_first_and_last(masks.any(axis=axis)))


def _between_first_and_last(lines: np.ndarray) -> np.ndarray:
    """(T, N) bool: True from each row's first True to its last."""
    return np.maximum.accumulate(lines, axis=1) & np.maximum.accumulate(lines[:, ::-1], axis=1)[:, ::-1]


def _exact_hull(mask: np.ndarray) -> np.ndarray:
    """Plain twin: a pixel belongs to the hull when no line through two mask pixels separates it from the mask."""
    points = np.argwhere(mask)
    inside = np.ones(mask.shape, bool)
    rows, columns = np.indices(mask.shape)
    for first in points:
        for second in points:
            (y, x), (dy, dx) = first, second - first
            side = dx * (points[:, 0] - y) - dy * (points[:, 1] - x)
            if (first != second).any() and (side >= 0).all():
                inside &= dx * (rows - y) - dy * (columns - x) >= 0
    return inside


def test_hull_against_a_plain_twin() -> None:
    """Every pixel whose centre is in the hull is there, and none that is more than a pixel away from it."""
    rng = np.random.default_rng(1)
    compared = 0
    for mask in rng.random((40, 24, 24)) < 0.02:
        points = np.argwhere(mask)
        if len(points) < 3 or np.linalg.matrix_rank(points[1:] - points[0]) < 2:
            continue
        exact, hull = _exact_hull(mask), convex_hull_mask(mask)
        assert (hull | ~exact).all()
        assert (cv2.dilate(exact.astype(np.uint8), np.ones((3, 3))).astype(bool) | ~hull).all()
        compared += 1
    assert compared > 30


def test_frames_do_not_see_each_other() -> None:
    masks = np.zeros((3, 8, 8), bool)
    masks[0, 0, 0] = masks[2, 7, 7] = True
    np.testing.assert_array_equal(convex_hull_masks(masks), masks)


@pytest.mark.parametrize("masks", [np.zeros((8, 8), bool), np.zeros((1, 8, 8), np.uint8), np.zeros((0, 8, 8), bool)])
def test_wrong_masks_are_named(masks: np.ndarray) -> None:
    with pytest.raises(ValueError, match="^masks: expected"):
        convex_hull_masks(masks)
