"""Mask scores against tables worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffvas.metrics import StrictScore, bootstrap_interval, iou, occluded_iou, strict_frames


def row(text: str) -> np.ndarray:
    """A (1, W) mask from a picture of it: '#' is True."""
    return np.array([[character == "#" for character in text]])


def clip(*rows: str) -> np.ndarray:
    """A (T, 1, W) clip, one picture per frame."""
    return np.stack([row(text) for text in rows])


@pytest.mark.parametrize(
    ("p", "g", "expected"),
    [
        ("....", "....", 1.0),  # nothing there, nothing claimed
        ("#...", "....", 0.0),  # false positive only
        ("....", "#...", 0.0),  # total miss
        ("#...", "#...", 1.0),  # one pixel
        ("#...", ".#..", 0.0),  # one pixel beside it
        ("##..", ".##.", 1 / 3),
        ("####", "#...", 1 / 4),
    ],
)
def test_iou(p: str, g: str, expected: float) -> None:
    assert iou(row(p), row(g)) == expected


@pytest.mark.parametrize(
    ("p", "g", "m", "expected"),
    [
        ("##..", "####", "##..", 0.0),  # the modal mask alone finds nothing hidden
        ("###.", "####", "##..", 1 / 2),
        ("####", "####", "##..", 1.0),
        ("####", "###.", "##..", 1 / 2),  # one hidden pixel found, one claimed wrongly
        ("..##", "####", "##..", 1.0),  # missing visible pixels do not matter here
        ("###.", "##..", "##..", 0.0),  # nothing hidden, something claimed
        ("##..", "##..", "##..", 1.0),  # nothing hidden, nothing claimed
    ],
)
def test_occluded_iou(p: str, g: str, m: str, expected: float) -> None:
    assert occluded_iou(row(p), row(g), row(m)) == expected


def test_iou_rejects_shapes_that_would_broadcast() -> None:
    with pytest.raises(ValueError, match="one shape"):
        iou(np.ones((1, 4), bool), np.ones((3, 4), bool))
    with pytest.raises(ValueError, match="bool"):
        iou(np.ones((3, 4), np.uint8), np.ones((3, 4), np.uint8))


def test_strict_frames_by_hand() -> None:
    #            half hidden  total miss  nothing hidden  fully hidden  out of the picture
    amodal = clip("####....", "####....", "####....", "####....", "........")
    modal = clip("##......", "##......", "####....", "........", "........")
    pred = clip("..##....", "##......", "........", "..####..", "........")
    scores = strict_frames(pred, amodal, modal)
    np.testing.assert_array_equal(scores.hidden_area, [2, 2, 0, 4, 0])
    np.testing.assert_array_equal(scores.counted, [True, True, False, True, False])
    np.testing.assert_array_equal(scores.fully_hidden, [False, False, False, True, False])
    # The modal mask is added first: frames 0 and 2 are perfect although the prediction left visible pixels out.
    np.testing.assert_array_equal(scores.iou, [1.0, 0.5, 1.0, 1 / 3, 1.0])
    np.testing.assert_array_equal(scores.iou_occ, [1.0, 0.0, 1.0, 1 / 3, 1.0])


@pytest.mark.parametrize(("hidden", "counted"), [(0, False), (4, False), (5, True)])
def test_hidden_area_threshold_is_inclusive(hidden: int, counted: bool) -> None:
    amodal = np.zeros((1, 100, 100), bool)  # 0.05 % of 10,000 pixels is 5
    amodal[0, 0, :hidden] = True
    amodal[0, 5, 5] = True
    modal = np.zeros_like(amodal)
    modal[0, 5, 5] = True
    assert strict_frames(modal, amodal, modal).counted[0] == counted


def test_compute_averages_over_frames_and_over_clips() -> None:
    score = StrictScore()
    # Three frames, hidden parts: found, missed, none.
    score.update(
        pred=clip("####", "##..", "####"), amodal=clip("####", "####", "####"), modal=clip("##..", "##..", "####")
    )
    # One fully hidden frame, missed.
    score.update(pred=clip("...."), amodal=clip("####"), modal=clip("...."))
    # A clip without hidden area.
    score.update(pred=clip("##.."), amodal=clip("##.."), modal=clip("##.."))
    result = score.compute()
    assert result["miou"] == pytest.approx((1 + 0.5 + 1 + 0 + 1) / 5)
    assert result["miou_clip"] == pytest.approx((2.5 / 3 + 0 + 1) / 3)
    assert result["miou_occ"] == pytest.approx((1 + 0 + 0) / 3)
    assert result["miou_occ_clip"] == pytest.approx((0.5 + 0) / 2)
    assert result["miou_occ_fully_hidden"] == 0.0
    counts = {key: result[key] for key in ("clips", "frames", "clips_occ", "frames_occ", "frames_fully_hidden")}
    assert counts == {"clips": 3, "frames": 5, "clips_occ": 2, "frames_occ": 3, "frames_fully_hidden": 1}
    assert result["miou_occ_low"] <= result["miou_occ"] <= result["miou_occ_high"]
    json.dumps(result, allow_nan=False)


def test_compute_of_nothing_says_so() -> None:
    result = StrictScore().compute()
    assert result["frames"] == result["frames_occ"] == result["clips"] == 0
    assert all(np.isnan(result[key]) for key in ("miou", "miou_occ", "miou_clip", "miou_occ_clip", "miou_low"))


def test_total_misses_lower_the_mean() -> None:
    score = StrictScore()
    score.update(clip("####"), clip("####"), clip("##.."))
    before = score.compute()["miou_occ"]
    score.update(clip("##.."), clip("####"), clip("##.."))
    assert (before, score.compute()["miou_occ"]) == (1.0, 0.5)


def test_bootstrap_resamples_clips_not_frames() -> None:
    rng = np.random.default_rng(3)
    # Two clips of 1,000 equal frames: the mean of a draw is 0, 1/2 or 1, whatever the number of frames.
    low, high = bootstrap_interval([np.zeros(1000), np.ones(1000)], rng=rng)
    assert (low, high) == (0.0, 1.0)
    assert bootstrap_interval([np.full(5, 0.25)], rng=rng) == (0.25, 0.25)
    assert np.isnan(bootstrap_interval([np.empty(0)], rng=rng)).all()
    # Long and short clips: a draw divides by its own number of frames.
    assert bootstrap_interval([np.ones(1), np.ones(7), np.ones(100)], rng=rng) == (1.0, 1.0)


def test_bootstrap_covers_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, size=400)
    low, high = bootstrap_interval([values[i : i + 1] for i in range(400)], rng=np.random.default_rng(1))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.002)
    assert high == pytest.approx(values.mean() + half, abs=0.002)


def test_equal_scores_give_equal_intervals() -> None:
    rng = np.random.default_rng(5)
    score = StrictScore()
    for _ in range(6):
        amodal, modal = rng.random((2, 3, 8, 8)) < 0.5
        score.update(amodal & (rng.random((3, 8, 8)) < 0.7), amodal | modal, modal)
    np.testing.assert_equal(score.compute(), score.compute())  # equal, nan included


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pred", np.zeros((2, 4, 5), bool)),
        ("pred", np.zeros((2, 4, 4), np.uint8)),
        ("modal", np.zeros((1, 4, 4), bool)),
        ("amodal", np.zeros((4, 4), bool)),
        ("amodal", np.zeros((0, 4, 4), bool)),
    ],
)
def test_wrong_arrays_are_named(name: str, value: np.ndarray) -> None:
    arguments = {key: np.zeros((2, 4, 4), bool) for key in ("pred", "amodal", "modal")} | {name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        strict_frames(**arguments)
