"""Votes of other frames: found where masks fit, silent where nobody knows, and never against what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas import shape_memory
from diffvas.shape_memory import APART, HINT, NEIGHBOURS, PICKED, SINGLY, Memory, find_fits, in_grey, votes

SIZE = 96


def remember(modal: np.ndarray, free: np.ndarray | None, inside: np.ndarray | None = None) -> np.ndarray:
    """What stage 1 is told."""
    return in_grey(votes(modal, free, inside), modal, free, inside)


def figure(turn: float = 0.0, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """(96, 96) bool: an L of 40 x 40 pixels with arms 14 wide, about the middle of the image."""
    ys, xs = np.mgrid[:SIZE, :SIZE] - 47.5
    x, y = xs - shift[0], ys - shift[1]
    a = np.deg2rad(turn)
    u, v = np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y
    square = (abs(u) < 20) & (abs(v) < 20)
    return np.asarray(square & ((u < -6) | (v > 6)))


def test_hidden_parts_come_back() -> None:
    """Half of it is behind a wall in the middle frames; where depth tells of the wall, and where it does not."""
    modal = np.stack([figure(shift=(t, 0)) for t in range(9)])
    whole = modal.copy()
    wall = np.zeros_like(modal)
    wall[3:6, :, 48:] = True
    modal &= ~wall
    for free in (wall, None):
        told = remember(modal, free)
        assert told.shape == modal.shape and told.dtype == np.float32 and 0 <= told.min() <= told.max() <= 1
        assert (told[modal] == 1).all() and told[~modal].max() <= HINT
        for t in (3, 4, 5):
            hidden = whole[t] & ~modal[t]
            found = (told[t] > 0.4 * HINT) & ~modal[t]
            assert (found & hidden).sum() / (found | hidden).sum() > (0.9 if free is not None else 0.7)
    clear = remember(modal, wall)
    assert not clear[~modal & ~wall].any(), "not where something farther is seen"


def test_turned_and_shifted_masks_are_laid_over_each_other() -> None:
    first, second = figure(), figure(10, (8, -6))
    there = np.stack([first, second]).astype(np.float32)
    fit = find_fits(there, 1 - there)[0][1]
    assert fit.turn == 10 and abs(fit.shift[0] - 8) <= 1.5 and abs(fit.shift[1] + 6) <= 1.5 and fit.iou > 0.85
    assert find_fits(there, 1 - there)[1][1].iou == 1


def test_pairs_agree_on_where_the_object_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table goes sideways behind a wall with a slit through which one leg is seen, any of the three."""
    ys, xs = np.mgrid[:SIZE, :SIZE]
    offsets = np.array([0, 0, 0, 2, 4, 6, 8, 10, 12, 12, 12])
    legs = [np.min([abs(xs - 34 - offset - 16 * k) for k in range(3)], 0) < 4 for offset in offsets]
    tops = [abs(xs - 50 - offset) < 24 for offset in offsets]
    whole = np.stack(legs) & (ys > 40) & (ys < 70) | np.stack(tops) & (ys > 30) & (ys <= 40)
    walls = np.zeros_like(whole)
    walls[4:8] = (abs(xs - 50) > 12) | (abs(ys - 55) > 8)
    there = (whole & ~walls).astype(np.float32)
    absent = (~whole & ~walls).astype(np.float32)

    def error() -> float:
        fits = find_fits(there, absent)
        away = [fit.shift[0] - (offsets[t] - offsets[s]) for s, row in fits.items() for t, fit in row.items()]
        return float(np.abs(away).mean())

    together = error()
    monkeypatch.setattr(shape_memory, "STRAY", 0.0)
    alone = error()
    assert together < 0.75 and alone > 2


def test_what_is_hidden_in_a_frame_counts_neither_way(monkeypatch: pytest.MonkeyPatch) -> None:
    modal = np.stack([figure()] * 4)
    modal[1:] &= np.arange(SIZE)[None, None] < 48
    free = np.zeros_like(modal)
    free[1:, :, 48:] = True
    behind = figure() & ~modal[1]
    bent = votes(modal, free)
    np.testing.assert_allclose(bent.agree[1][behind], bent.known[1][behind], rtol=0.01, err_msg="a border is blended")
    monkeypatch.setattr(shape_memory, "bend", lambda seen, unseen, there, absent: (seen, unseen))
    rigid = votes(modal, free)
    np.testing.assert_allclose(rigid.agree[1][behind], rigid.known[1][behind])
    for memory in (bent, rigid):
        assert memory.known[1][behind].max() < 0.6 * memory.known[1][modal[1]].min(), "one frame of four knows"


def test_who_is_half_sure_counts_half() -> None:
    modal = np.zeros((5, 64, 64), bool)
    modal[:, 20:44, 16:48] = True
    modal[1:, :, 32:] = False
    hidden = (2, slice(24, 40), slice(36, 44))  # seen in the first frame only
    shares = []
    for likely in (0.0, 0.5, 0.9, 1.0):
        free = np.zeros(modal.shape, np.float32)
        free[1:, :, 32:] = likely
        shares.append(float(votes(modal, free).share[hidden].mean()))
    assert shares == sorted(shares) and shares[0] < 0.3 and shares[-1] > 0.95
    assert shares[0] + 0.05 < shares[1] < shares[2] - 0.05
    sure = votes(modal, free.astype(bool))
    np.testing.assert_array_equal(votes(modal, free).share, sure.share, err_msg="certainty is what bool says")


def test_beyond_the_frame_nobody_knows() -> None:
    modal = np.stack([figure()] * 3)
    inside = np.ones_like(modal)
    inside[1, :, :60] = False
    modal &= inside
    told = remember(modal, ~modal, inside)
    assert not told[~inside].any()
    assert told[1][figure() & inside[1]].min() == 1


def test_little_or_nothing_to_go_by() -> None:
    empty = np.zeros((3, 32, 32), bool)
    assert not remember(empty, None).any() and not remember(empty, ~empty).any()
    speck = empty.copy()
    speck[0, 3, 4] = True
    assert np.array_equal(remember(speck, None), speck.astype(np.float32)), "a speck has no vote"
    one = np.ones((1, 40, 24), bool)
    assert np.array_equal(remember(one, None), one.astype(np.float32))


def test_any_size() -> None:
    rng = np.random.default_rng(0)
    for size in ((32, 64), (288, 512), (96, 96)):
        modal = rng.random((2, *size)) < 0.5
        assert remember(modal, ~modal).shape == modal.shape


def test_single_frames_are_shown_one_by_one() -> None:
    """What is seen counts 1, what is known to be elsewhere -1, what may be hidden 0; times how well the frames fit."""
    modal = np.stack([figure()] * 20)
    modal[10, :, 30:] = False
    free = np.zeros(modal.shape, bool)
    free[10, :, 30:] = True
    free[12, :10] = True
    memory = votes(modal, free)
    assert memory.singly.shape == (20, SINGLY, *modal.shape[1:]) and np.abs(memory.singly).max() <= 1
    for place, away in enumerate(NEIGHBOURS, PICKED):
        said = memory.singly[10, place]
        assert (said[figure()] > 0.5).all(), "they see what is hidden here"
        outside = ~figure()
        if away == 2:
            assert not said[:10][outside[:10]].any(), "nothing is known where something nearer is seen there"
            outside[:10] = False
        assert (said[outside] < -0.5).all()
    assert not memory.singly[0, PICKED].any(), "there is no frame eight before the first"
    picked = [memory.singly[10, k] for k in range(PICKED)]
    assert all((said[figure()] > 0.5).all() for said in picked), "the frame itself says nothing to itself"
    few = votes(modal[9:11], free[9:11]).singly
    assert few[1, 0].any() and not few[1, 1:PICKED].any(), f"frames less than {APART} apart say the same"
    assert not Memory.empty((2, 4, 4)).singly.any()
