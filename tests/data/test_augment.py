"""Faults of real inputs: of the same shape, never of the truth, never more than can be learned from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffvas.data import augment
from diffvas.data.augment import pick_times, spoil_depth, spoil_mask

Array = np.ndarray


def disc(frames: int = 9) -> Array:
    y, x = np.mgrid[:48, :64]
    return np.stack([(y - 24) ** 2 + (x - 20 - 2 * t) ** 2 < 144 for t in range(frames)])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


FAULTS = [
    augment.move_border,
    augment.ragged_border,
    augment.punch_holes,
    augment.lose_frames,
    augment.delay_frames,
    spoil_mask,
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("modal", [disc(), disc(1), np.zeros((4, 48, 64), bool), np.ones((3, 8, 8), bool)])
def test_masks_stay_masks(fault: Callable[[Array, np.random.Generator], Array], modal: Array) -> None:
    before = modal.copy()
    for seed in range(10):
        out = fault(modal, rng(seed))
        assert out.shape == modal.shape and out.dtype == np.bool_
        assert np.array_equal(out, fault(modal, rng(seed)))
    assert np.array_equal(modal, before), "the truth was changed"


def test_a_spoiled_mask_is_never_empty() -> None:
    dot = np.zeros((3, 16, 16), bool)
    dot[1, 8, 8] = True
    assert all(spoil_mask(dot, rng(seed)).any() for seed in range(300))


def test_most_masks_are_left_as_they_are() -> None:
    modal = disc()
    kept = np.mean([np.array_equal(spoil_mask(modal, rng(seed)), modal) for seed in range(300)])
    assert kept == pytest.approx(0.75 * 0.85 * 0.9 * 0.92 * 0.94, abs=0.12)


def test_ragged_borders_are_borders() -> None:
    modal = disc()
    for seed in range(20):
        out = augment.ragged_border(modal, rng(seed))
        iou = (out & modal).sum() / (out | modal).sum()
        assert 0.7 < iou < 1.0
        assert not np.array_equal(out[0] ^ modal[0], out[-1] ^ modal[-1]), "it should differ from frame to frame"


def test_lost_and_late_frames() -> None:
    modal = disc()
    for seed in range(20):
        lost = augment.lose_frames(modal, rng(seed))
        empty = ~lost.any((1, 2))
        assert 1 <= empty.sum() <= 2 and np.array_equal(lost[~empty], modal[~empty])
        late = augment.delay_frames(modal, rng(seed))
        behind = [next(k for k in range(3) if np.array_equal(late[t], modal[max(t - k, 0)])) for t in range(9)]
        assert set(behind) <= {0, 1, 2}


@pytest.mark.parametrize("fault", [spoil_depth, augment.warp_depth, augment.flatten_depth])
def test_depth_stays_finite(fault: Callable[[Array, np.random.Generator], Array]) -> None:
    depth = np.linspace(0, 1, 5 * 24 * 32, dtype=np.float32).reshape(5, 24, 32)
    for given in (depth, np.full((5, 24, 32), 0.5, np.float32), depth[:1]):
        for seed in range(20):
            out = fault(given, rng(seed))
            assert out.shape == given.shape and np.isfinite(out).all()
            if fault is spoil_depth:
                assert out.dtype == np.float32 and 0 <= out.min() and out.max() <= 1


def test_times() -> None:
    kinds = {"forward": 0, "fast": 0, "slow": 0}
    for seed in range(500):
        times = pick_times(25, 9, rng(seed))
        steps = np.diff(times)
        assert len(times) == 9 and 0 <= times.min() and times.max() < 25
        assert (steps >= 0).all() or (steps <= 0).all(), "time goes one way"
        kinds["forward"] += bool(steps.sum() > 0)
        kinds["fast"] += bool((abs(steps) > 1).any())
        kinds["slow"] += bool((steps == 0).any())
    assert kinds["forward"] == pytest.approx(250, abs=40)
    assert kinds["fast"] == pytest.approx(150, abs=40) and kinds["slow"] == pytest.approx(50, abs=25)
    assert pick_times(4, 25, rng()).shape == (4,), "cut to what there is"
    assert pick_times(1, 25, rng()).tolist() == [0]
    assert all(sorted(pick_times(5, 1, rng(seed)))[0] in range(5) for seed in range(50))
