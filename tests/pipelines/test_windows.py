"""Windows over clips of any length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from diffvas.pipelines.windows import blend_windows, plan_windows


def test_windows_of_sixty_frames() -> None:
    windows = plan_windows(np.ones(60, bool))
    assert [(int(w[0]), int(w[-1])) for w in windows] == [(0, 24), (17, 41), (34, 58), (35, 59)]


@pytest.mark.parametrize("total", [1, 2, 5, 24, 25, 26, 60, 101])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 25])
def test_windows_cover_everything(total: int, length: int) -> None:
    windows = plan_windows(np.ones(total, bool), length)
    assert {len(w) for w in windows} == {min(length, total)}
    assert sorted({int(f) for w in windows for f in w}) == list(range(total))
    assert all((np.diff(w) == 1).all() for w in windows)
    overlap = length // 3
    assert all(b[0] - a[0] <= length - overlap for a, b in pairwise(windows))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 25])
def test_windows_without_the_object_borrow_frames_with_it(length: int) -> None:
    visible = np.zeros(100, bool)
    visible[[0, 1, 2, 3, 4, 95, 96, 97, 98, 99]] = True
    windows = plan_windows(visible, length)
    assert len(windows) == len(plan_windows(np.ones(100, bool), length)), "the number depends on T alone"
    for window in windows:
        assert len(window) == length
        assert (np.diff(window) > 0).all()
        assert length < 3 or visible[window].any()
    if length == 25:
        lost = next(w for w in windows if 10 < w[10] < 60 and w[4] - w[3] > 1)
        assert lost[:4].tolist() == [1, 2, 3, 4] and lost[-4:].tolist() == [95, 96, 97, 98]


def test_an_object_that_is_never_seen_is_no_reason_to_fail() -> None:
    windows = plan_windows(np.zeros(60, bool))
    assert sorted({int(f) for w in windows for f in w}) == list(range(60))


@pytest.mark.parametrize(
    ("length", "overlap", "message"),
    [
        (0, None, "length: expected at least 1 frame, got 0"),
        (5, 5, "overlap: expected 0 to 4 frames, got 5"),
        (5, -1, "overlap: expected 0 to 4 frames, got -1"),
    ],
)
def test_bad_windows(length: int, overlap: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_windows(np.ones(9, bool), length, overlap)


def test_cross_fade_by_hand() -> None:
    windows = [np.array([0, 1, 2]), np.array([1, 2, 3])]
    blended = blend_windows(4, windows, [np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)])
    assert blended.dtype == np.float32
    np.testing.assert_allclose(blended[:, 0], [0, 1 / 3, 2 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize("total", [1, 7, 60])
def test_blending_what_agrees_changes_nothing(total: int) -> None:
    value = np.random.default_rng(0).random((total, 3, 2)).astype(np.float32)
    windows = plan_windows(np.ones(total, bool), 5)
    np.testing.assert_allclose(blend_windows(total, windows, [value[w] for w in windows]), value, rtol=1e-5)


def test_frames_that_no_window_holds_take_the_nearest() -> None:
    blended = blend_windows(6, [np.array([1, 4])], [np.array([10.0, 40.0], np.float32)])
    assert blended.tolist() == [10, 10, 10, 40, 40, 40]
