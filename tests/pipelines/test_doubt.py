"""Parts that nothing is sure of are dropped: in one frame, across frames, in streams and for several samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from diffvas.pipelines import amodal
from diffvas.pipelines.completion import complete
from diffvas.pipelines.doubt import REACH, settle
from diffvas.types import F32, Clip
from factories import FRAMES, make_scene
from pixel_nets import model_with_nets

LEVEL, SURE = 0.45, 0.85


def settled(soft: F32, modal: np.ndarray) -> F32:
    """(K, T, h, w) of (K, T, h, w)."""
    frames = ((t, soft[:, t], modal[t]) for t in range(len(modal)))
    found = list(settle(frames, LEVEL, SURE))
    assert [t for t, _ in found] == list(range(len(modal)))
    return np.stack([maps for _, maps in found], 1)


def scene(frames: int, samples: int = 1) -> tuple[F32, np.ndarray]:
    """Soft masks of zeros, and a visible square."""
    modal = np.zeros((frames, 16, 16), bool)
    modal[:, 6:10, 6:10] = True
    return np.zeros((samples, frames, 16, 16), np.float32), modal


def test_a_half_sure_part_goes_and_a_sure_one_stays() -> None:
    soft, modal = scene(1)
    soft[0, 0, 6:10, 6:10] = 0.6  # visible: stays as it is
    soft[0, 0, 6:10, 11:14] = 0.7  # all half sure
    soft[0, 0, 2:6, 6:10] = 0.6
    soft[0, 0, 2:4, 6:10] = 0.9  # half of it sure, which is more than a fifth
    before = soft.copy()
    out = settled(soft, modal)
    assert (out[0, 0, 6:10, 11:14] < LEVEL).all()
    kept = np.ones((16, 16), bool)
    kept[6:10, 11:14] = False
    np.testing.assert_array_equal(out[0, 0][kept], before[0, 0][kept])
    np.testing.assert_array_equal(soft, before)  # what comes in is not changed


def test_frames_with_nothing_visible_stay_as_they_are() -> None:
    soft, modal = scene(2 * REACH + 3)
    modal[REACH + 1 :] = False
    soft[0, :, 6:10, 11:14] = 0.7
    out = settled(soft, modal)
    assert (out[0, : REACH + 1, 6:10, 11:14] < LEVEL).all()
    np.testing.assert_array_equal(out[0, REACH + 1 :], soft[0, REACH + 1 :])


def test_too_few_sure_pixels_are_not_enough() -> None:
    soft, modal = scene(1)
    soft[0, 0, 2:6, 6:11] = 0.6
    soft[0, 0, 2, 6:9] = 0.95  # 3 of 20
    assert (settled(soft, modal)[0, 0] < LEVEL).all()


@pytest.mark.parametrize("away", [0, REACH, REACH + 1])
def test_a_sure_part_speaks_for_its_place_a_few_frames_away(away: int) -> None:
    soft, modal = scene(2 * REACH + 4)
    at = REACH + 1
    soft[0, at, 6:10, 10:14] = 0.9
    soft[0, at + away, 6:10, 12:16] = np.maximum(soft[0, at + away, 6:10, 12:16], 0.6)
    soft[0, at + away, 0:3, 0:3] = 0.6  # elsewhere: nobody speaks for it
    out = settled(soft, modal)
    assert (out[0, at + away, 6:10, 12:14] >= LEVEL).all() == (away <= REACH)
    assert (out[0, at + away, 0:3, 0:3] < LEVEL).all()


def test_samples_do_not_speak_for_each_other_and_empty_clips_pass() -> None:
    soft, modal = scene(3, samples=2)
    soft[:, :, 6:10, 10:14] = 0.6
    soft[1, 1, 6:10, 10:14] = 0.9
    out = settled(soft, modal)
    assert (out[0, :, 6:10, 10:14] < LEVEL).all() and (out[1, :, 6:10, 10:14] >= LEVEL).all()
    assert list(settle(iter(()), LEVEL, SURE)) == []


def test_frames_go_out_as_soon_as_nothing_changes_them() -> None:
    soft, modal = scene(20)
    taken = 0

    def frames() -> Iterator[tuple[int, F32, np.ndarray]]:
        nonlocal taken
        for t in range(20):
            taken += 1
            yield t, soft[:, t], modal[t]

    for t, _ in settle(frames(), LEVEL, SURE):
        assert taken == min(t + REACH + 1, 20)


@pytest.mark.parametrize("depth", [True, False])
def test_only_masks_without_depth_are_settled(depth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_scene()
    clip, modal = Clip(spec.frames_u8[:FRAMES], 8.0), spec.modal_mask(0)[:FRAMES]
    asked = []

    def spy(frames: Iterator[tuple[object, F32, np.ndarray]], level: float, sure: float) -> Iterator[object]:
        asked.append((level, sure))
        return settle(frames, level, sure)

    monkeypatch.setattr(amodal, "settle", spy)
    model = replace(model_with_nets("front", "finish"), sure=0.7)
    known = np.asarray(spec.depth[:FRAMES], np.float32) if depth else None
    complete(clip, modal, model=model, depth=known)
    assert asked == ([] if depth else [(model.threshold, 0.7)])
