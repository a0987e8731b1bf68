"""Steadiness of masks, the best of K samples, intervals, flicker of content: by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas.metrics import SteadyScore, paired_difference, steadiness, temporal_psnr_inside, true_motion
from diffvas.metrics import rle as runs
from diffvas.metrics.intervals import sign_test, wilson_interval
from diffvas.metrics.topk import best_per_clip, best_per_frame, curve, expected_best
from diffvas.metrics.video import boundary_length, shift


def square(*corners: tuple[int, int], side: int = 4) -> list[dict]:
    masks = np.zeros((len(corners), 20, 20), bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + side, x : x + side] = True
    return runs.encode_masks(masks)


def test_a_mask_that_moves_with_the_object_is_steady() -> None:
    truth = square((2, 2), (4, 5), (4, 5))
    assert true_motion(truth) == [(2, 3), (0, 0)]
    moving = steadiness(truth, true_motion(truth))
    np.testing.assert_array_equal(moving.consistency, [1, 1])
    np.testing.assert_array_equal(moving.jitter, [0, 0])


def test_a_mask_that_jumps_is_not() -> None:
    truth = square((2, 2), (2, 2), (2, 2))
    jumpy = steadiness(square((2, 2), (2, 3), (12, 12)), true_motion(truth))
    np.testing.assert_allclose(jumpy.consistency, [12 / 20, 0])
    np.testing.assert_allclose(jumpy.jitter, [8 / 12, 32 / 12])  # a 4 x 4 square has 12 boundary pixels


def test_steady_score_sets_the_truth_beside_the_prediction() -> None:
    truth = square((2, 2), (2, 2), (2, 2))
    score = SteadyScore()
    score.update(square((2, 2), (2, 3), (2, 3)), truth)
    result = score.compute()
    assert result["consistency"] == (12 / 20 + 1) / 2 and result["consistency_truth"] == 1
    assert result["jitter"] == pytest.approx(8 / 12 / 2) and result["jitter_truth"] == 0
    assert np.isnan(SteadyScore().compute()["jitter"])


def test_frames_without_motion_say_nothing() -> None:
    nothing = runs.empty((20, 20))
    truth = [square((2, 2))[0], nothing, square((2, 2))[0]]
    values = steadiness(truth, true_motion(truth))
    assert np.isnan(values.consistency).all() and np.isnan(values.jitter).all()
    still = square((2, 2), (2, 2))
    both_empty = steadiness([nothing, nothing], true_motion(still))
    assert (both_empty.consistency[0], both_empty.jitter[0]) == (1.0, 0.0)
    with pytest.raises(ValueError, match="expected 1 shifts for 2 masks, got 2"):
        steadiness(still, [(0, 0)] * 2)
    assert steadiness(still[:1], []).consistency.shape == (0,)


def test_shift_and_boundary() -> None:
    mask = np.zeros((3, 3), bool)
    mask[0, 0] = True
    assert shift(mask, 2, 1)[2, 1] and shift(mask, 2, 1).sum() == 1
    assert not shift(mask, -1, 0).any() and not shift(mask, 5, 0).any()
    assert boundary_length(np.ones((4, 4), bool)) == 0  # the frame's edge is no boundary
    assert boundary_length(mask) == 1


def test_best_of_k_by_hand() -> None:
    values = np.array([[0.2, 0.8], [0.6, 0.6], [0.9, 0.0]])
    np.testing.assert_array_equal(best_per_frame(values, 1), [0.2, 0.8])
    np.testing.assert_array_equal(best_per_frame(values, 3), [0.9, 0.8])
    np.testing.assert_array_equal(best_per_clip(values, 3), [0.6, 0.6])
    np.testing.assert_allclose(expected_best(values, 1), values.mean(axis=0))
    np.testing.assert_allclose(expected_best(values, 2), [(0.6 + 0.9 + 0.9) / 3, (0.8 + 0.8 + 0.6) / 3])
    np.testing.assert_allclose(expected_best(values, 3), [0.9, 0.8])
    with pytest.raises(ValueError, match="k: expected 1 to 3"):
        best_per_frame(values, 4)


def test_top_k_curve_never_falls_and_bounds_the_clip() -> None:
    rng = np.random.default_rng(0)
    points = curve([rng.random((5, 7)), rng.random((6, 3)), np.zeros((5, 0))])
    assert [p["k"] for p in points] == [1, 2, 3, 4, 5]
    for name in ("per_frame", "per_clip", "expected"):
        assert (np.diff([p[name] for p in points]) >= 0).all()
    assert all(p["per_frame"] >= p["per_clip"] for p in points)
    assert curve([]) == []


def test_paired_difference() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(30)
    a = [np.full(3, h) + 0.1 for h in hard]
    b = [np.full(3, h) for h in hard]
    # What makes a clip hard cancels: the interval is a point, though the clips differ widely.
    np.testing.assert_allclose(paired_difference(a, b, rng=np.random.default_rng(1)), [0.1, 0.1, 0.1])
    difference, low, high = paired_difference(
        [np.array([1.0]), np.array([])], [np.array([0.0]), np.array([0.5])], rng=rng
    )
    assert difference == 0.75 and low <= difference <= high
    assert np.isnan(paired_difference([np.array([])], [np.array([1.0])], rng=rng)).all()
    with pytest.raises(ValueError, match="2 clips like a, got 1"):
        paired_difference([hard, hard], [hard], rng=rng)


def test_shares_of_votes() -> None:
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == pytest.approx(1.0)
    assert np.isnan(wilson_interval(0, 0)).all()
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(3, 3) == 1.0


def test_flicker_of_content() -> None:
    true = np.full((3, 4, 4, 3), 100, np.uint8)
    region = np.ones((3, 4, 4), bool)
    constant, flicker = true + 20, true.copy()
    flicker[1] += 10
    assert temporal_psnr_inside(constant, true, region) == np.inf
    assert temporal_psnr_inside(flicker, true, region) == pytest.approx(20 * np.log10(255 / 10))
    region[1] = False
    assert np.isnan(temporal_psnr_inside(flicker, true, region))
