"""What other frames' finished masks say of each one."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas.carried import carry

T, SIDE = 7, 64


def drifting(step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A disc with a bar on it that drifts to the right, (T, SIDE, SIDE) bool; and its left part, which is visible."""
    y, x = np.mgrid[:SIDE, :SIDE]
    whole = np.stack(
        [
            ((y - 30) ** 2 + (x - at) ** 2 < 150) | ((abs(y - 30) < 5) & (x > at - 20) & (x < at + 22))
            for at in 24 + step * np.arange(T)
        ]
    )
    return whole, whole & (x[None] < (24 + step * np.arange(T))[:, None, None])


@pytest.mark.parametrize("step", [0, 2])
def test_a_frame_that_doubts_hears_what_the_others_say(step: int) -> None:
    whole, modal = drifting(step)
    soft = np.where(whole, 0.95, 0.05).astype(np.float32)
    soft[3] = np.where(modal[3], 0.95, 0.5)
    says, many = carry(soft, modal, None).transpose(1, 0, 2, 3)
    hidden = whole[3] & ~modal[3]
    assert says[3][hidden].mean() > 0.7, "the bar at the right is there, wherever the object has drifted"
    assert says[3][~whole[3]].mean() < -0.8
    assert says.min() >= -1 and says.max() <= 1 and many.min() >= 0 and many.max() < 1
    assert (many[:, 20:40, 20:40] > 0.5).all(), "several that fit"


def test_a_frame_does_not_hear_itself() -> None:
    whole, modal = drifting(0)
    soft = np.where(whole, 0.95, 0.05).astype(np.float32)
    before = carry(soft, modal, None)
    odd = soft.copy()
    odd[3, 50:56, 50:56] = 0.95
    after = carry(odd, modal, None)
    np.testing.assert_allclose(after[3, 0, 48:58, 48:58], before[3, 0, 48:58, 48:58], atol=0.05)
    assert after[2, 0, 52:54, 52:54].min() > before[2, 0, 52:54, 52:54].max() + 0.1, "its neighbours do"


def test_nearer_frames_count_more() -> None:
    whole, modal = drifting(0)
    soft = np.where(whole, 0.95, 0.05).astype(np.float32)
    for lying in (1, 6):
        one = soft.copy()
        one[lying, 6:14, 24:32] = 0.95
        says = carry(one, modal, None)[:, 0, 8:12, 26:30].mean((1, 2))
        away = np.abs(np.arange(T) - lying)
        assert says[away == 1].max() > says[away == 4].max()


def test_who_has_no_say() -> None:
    whole, modal = drifting(0)
    soft = np.where(whole, 0.95, 0.05).astype(np.float32)
    told = np.ones(T, bool)
    told[4] = False
    lies = soft.copy()
    lies[4] = 0.95
    np.testing.assert_allclose(carry(lies, modal, None, told)[3], carry(soft, modal, None, told)[3], atol=1e-6)
    assert not carry(soft, modal, None, np.zeros(T, bool)).any()
    assert not carry(soft[:1], modal[:1], None).any(), "there is no other"
    assert not carry(soft * 0 + 0.5, modal & False, None).any(), "nobody knows anything"
    inside = np.ones_like(modal)
    inside[:, :, 40:] = False
    beyond = carry(soft, modal, inside)[:, 1, :, 44:]
    assert beyond.max() < 0.05, "of what is beyond the frame nobody says anything"
