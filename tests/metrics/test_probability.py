"""Brier score, reliability and risk-coverage by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas.metrics import ProbabilityScore
from diffvas.metrics.probability import question_window


def score(p: list, truth: list, **kwargs) -> dict:
    one = ProbabilityScore()
    one.update(np.array(p, float), np.array(truth, bool), **kwargs)
    return one.compute()


def test_brier_and_calibration_by_hand() -> None:
    result = score([1, 0, 0.5, 0.5], [1, 0, 1, 0])
    assert result["brier"] == (0.25 + 0.25) / 4
    assert result["ece"] == 0.0
    assert result["pixels"] == 4
    assert [(b["low"], b["share"], b["pixels"]) for b in result["reliability"]] == [
        (0, 0, 1),
        (0.5, 0.5, 2),
        (0.9, 1, 1),
    ]
    assert score([0.9] * 4, [1, 1, 0, 0])["ece"] == pytest.approx(0.4)
    assert score([1 / 3] * 3, [1, 0, 0])["brier"] == pytest.approx((4 / 9 + 1 / 9 + 1 / 9) / 3)


def test_risk_coverage_by_hand() -> None:
    """Surest first: right, right, wrong, right; risks 0, 0, 1/3, 1/4 with each pixel's error spread over its place."""
    result = score([1.0, 0.9, 0.2, 0.6], [1, 1, 1, 1])
    np.testing.assert_allclose(result["risk_coverage"], [[0.25, 0], [0.5, 0], [0.75, 1 / 3], [1, 0.25]])
    # integral over 3rd: (n - 2)/n from 2 to 3; over the 4th: 1/n from 3 to 4
    expected = (1 - 2 * np.log(3 / 2) + np.log(4 / 3)) / 4
    assert result["aurc"] == pytest.approx(expected)


def test_risk_does_not_depend_on_the_order_within_a_tie() -> None:
    assert score([0.7, 0.7], [1, 0])["aurc"] == pytest.approx(0.5)
    assert score([0.7, 0.7], [0, 1])["aurc"] == pytest.approx(0.5)
    assert score([0.0, 1.0], [1, 0])["aurc"] == 1.0
    assert score([0.0, 1.0], [0, 1])["aurc"] == 0.0


def test_adding_and_regions() -> None:
    rng = np.random.default_rng(0)
    p, truth, region = rng.random((2, 9, 9)), rng.random((2, 9, 9)) < 0.5, rng.random((2, 9, 9)) < 0.7
    whole, parts = ProbabilityScore(), ProbabilityScore()
    whole.update(p[region], truth[region])
    for t in range(2):
        one = ProbabilityScore()
        one.update(p[t], truth[t], region[t])
        parts.add(one)
    assert whole.compute()["brier"] == pytest.approx(np.mean((p - truth)[region] ** 2))
    assert parts.compute()["aurc"] == whole.compute()["aurc"]
    empty = ProbabilityScore().compute()
    assert np.isnan(empty["brier"]) and empty["pixels"] == 0 and empty["reliability"] == []


def test_levels_are_probabilities_in_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    levels, truth, region = rng.integers(0, 8, (9, 9)), rng.random((9, 9)) < 0.5, rng.random((9, 9)) < 0.7
    fast, plain = ProbabilityScore(), ProbabilityScore()
    fast.update_levels(levels.astype(np.uint8), 7, truth, region)
    plain.update(levels / 7, truth, region)
    np.testing.assert_array_equal(fast.totals, plain.totals)
    np.testing.assert_array_equal(fast.hits, plain.hits)
    assert fast.squared_error == pytest.approx(plain.squared_error)
    with pytest.raises(ValueError, match="levels: expected 0 to 3, got 7"):
        fast.update_levels(np.array([7], np.uint8), 3, np.array([True]), np.array([True]))
    with pytest.raises(ValueError, match="shape"):
        fast.update_levels(levels, 7, truth[:3], region)


def test_question_window_is_the_doubled_box_within_the_frame() -> None:
    assert question_window(np.array([0.0, 8, 4, 5]), (20, 20)) == (slice(5, 16), slice(0, 6))
    assert question_window(np.array([15.0, 18, 4, 2]), (20, 20)) == (slice(17, 20), slice(13, 20))
    rows, cols = question_window(np.zeros(4), (20, 20))
    assert rows.stop - rows.start == cols.stop - cols.start == 0


def test_bad_probabilities() -> None:
    with pytest.raises(ValueError, match="1 NaN and 2 values outside"):
        score([np.nan, 1.5, -0.1, 0.5], [0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"shape \(2,\) like the truth, got \(3,\)"):
        score([0, 0, 0], [0, 0])
