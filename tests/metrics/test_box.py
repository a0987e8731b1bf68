"""Amodal boxes by hand, and Track-AP on small cases."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas.metrics import BoxScore, Track, box_iou, boxes_from_canvas, convex_hull_masks, track_ap
from diffvas.metrics import rle as runs
from diffvas.metrics.box import box_union, canvas_padding, check_boxes, mask_boxes
from diffvas.metrics.trackap import average_precision, track_iou


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),  # one pixel
        ((0, 0, 2, 2), (1, 1, 2, 2), 1 / 7),
        ((0, 0, 2, 2), (2, 0, 2, 2), 0.0),  # side by side
        ((-10, -5, 20, 10), (0, 0, 10, 5), 50 / 200),  # leaves the image
        ((0, 0, 0, 0), (0, 0, 4, 4), 0.0),  # total miss
        ((0, 0, 0, 0), (5, 5, 0, 0), 0.0),  # nothing and nothing
    ],
)
def test_box_iou(a: tuple, b: tuple, expected: float) -> None:
    assert box_iou(np.array([a], float), np.array([b], float))[0] == expected


def test_ap_is_strictly_above() -> None:
    score = BoxScore()
    score.update(
        [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 3, 1], [0, 0, 1, 1]],
        [[0, 0, 4, 1], [0, 0, 2, 1], [0, 0, 4, 1], [0, 0, 1, 1]],
    )
    result = score.compute(resamples=20)
    assert (result["ap25"], result["ap50"], result["ap75"]) == (0.75, 0.5, 0.25)
    assert result["miou"] == (0.25 + 0.5 + 0.75 + 1) / 4
    assert (result["clips"], result["frames"]) == (1, 4)
    assert np.isnan(BoxScore().compute()["ap25"])


def test_boxes_from_the_padded_canvas() -> None:
    size = (8, 12)
    assert canvas_padding(size) == (2, 3)
    canvas = np.zeros((3, 12, 18), bool)
    canvas[0, 0:4, 1:6] = True  # begins above and left of the image
    canvas[2, 5, 7] = True  # one pixel at (4, 3) in the image, beside the modal box
    modal = np.array([[0, 0, 3, 2], [1, 1, 2, 2], [6, 1, 2, 2]], float)
    boxes = boxes_from_canvas(runs.encode_masks(canvas), size, modal)
    np.testing.assert_array_equal(boxes, [[-2, -2, 5, 4], [1, 1, 2, 2], [4, 1, 4, 3]])
    with pytest.raises(ValueError, match=r"canvas' size \[12, 18\], got \[8, 12\] in frame 0"):
        boxes_from_canvas([runs.empty(size)], size, modal[:1])


def test_box_union_ignores_boxes_without_area() -> None:
    nothing, some = np.zeros((1, 4)), np.array([[5.0, 6, 2, 3]])
    np.testing.assert_array_equal(box_union(nothing, some), some)
    np.testing.assert_array_equal(box_union(some, nothing), some)
    np.testing.assert_array_equal(box_union(nothing, nothing), nothing)


def test_a_hull_never_changes_a_box() -> None:
    """So Modal, Convex and ConvexR must get the same numbers on TAO-Amodal."""
    rng = np.random.default_rng(0)
    masks = rng.random((20, 30, 40)) < rng.choice([0.0, 0.001, 0.01, 0.3], (20, 1, 1))
    hulls = convex_hull_masks(masks)
    assert hulls.sum() > masks.sum()
    np.testing.assert_array_equal(mask_boxes(runs.encode_masks(masks)), mask_boxes(runs.encode_masks(hulls)))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, float("nan"), 1]], "1 NaN or infinite"),
        ([[0, 0, -1, 1]], "widths and heights of 0 or more, got -1"),
        ([[0, 0, 1]], "shape"),
        ([[0, 0, 1, "x"]], r"expected \(T, 4\) numbers"),
        ([[0, 0, 1, 1], None], r"expected \(T, 4\) numbers"),
    ],
)
def test_bad_boxes(boxes: list, message: str) -> None:
    with pytest.raises(ValueError, match=f"frame 3: .*{message}"):
        check_boxes("frame 3", boxes)


def track(boxes: dict, score: float = 1.0, video: int = 1, category: int = 1) -> Track:
    return Track(video, category, boxes, score)


def test_track_iou_sums_over_time() -> None:
    a = track({0: (0, 0, 2, 2), 1: (0, 0, 2, 2)})
    b = track({1: (0, 0, 2, 1), 2: (0, 0, 2, 2)})
    assert track_iou(a, b) == 2 / (8 + 6 - 2)
    assert track_iou(a, a) == 1.0
    assert track_iou(a, track({0: (0, 0, 2, 2)}, video=2)) == 0.0


def test_track_ap_by_hand() -> None:
    true = [track({0: (0, 0, 10, 10)}), track({0: (50, 50, 10, 10)})]
    wrong = track({0: (80, 0, 10, 10)}, 0.9)
    found = [track({0: (0, 0, 10, 10)}, 0.8), track({0: (50, 50, 10, 6)}, 0.7)]
    assert track_ap(found, true, (0.5,))["ap50"] == 1.0
    # A surer wrong one first: precision 0, 1/2, 2/3; interpolated, 2/3 at every recall.
    assert track_ap([*found, wrong], true, (0.5,))["ap50"] == pytest.approx(2 / 3)
    # At 0.75 the second is wrong: recall stops at 1/2, which 51 of 101 places reach.
    assert track_ap(found, true)["ap75"] == pytest.approx(51 / 101)
    # A second detection of the same track is an error, whatever its overlap.
    twice = [found[0], track({0: (0, 0, 10, 10)}, 0.75)]
    assert track_ap(twice, true, (0.5,))["ap"] == pytest.approx(51 / 101)
    assert track_ap([], true)["ap"] == 0.0
    assert np.isnan(track_ap(found, [])["ap"])


def test_track_ap_is_a_mean_over_classes() -> None:
    true = [track({0: (0, 0, 9, 9)}), track({0: (0, 0, 9, 9)}, category=2)]
    assert track_ap([true[0]], true, (0.5,))["ap"] == 0.5
    assert np.isnan(average_precision(np.zeros(3, bool), 0))
    with pytest.raises(ValueError, match="score"):
        track({}, float("nan"))
