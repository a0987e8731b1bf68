"""Whether an object that is not visible has left the frame, or is hidden in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffvas.pipelines import completion
from diffvas.pipelines.sight import Seen
from diffvas.types import Bool, Clip
from pixel_nets import model_with_nets

T, H, W = 12, 64, 64


def seen_of(whole: Bool, wall: Bool, inside: Bool, by_depth: bool = True) -> Seen:
    depth = np.where(wall, 1.0, np.where(whole, 0.5, 0.0)).astype(np.float32)
    return Seen(whole & ~wall & inside, depth if by_depth else None, inside)


def block(left: np.ndarray) -> Bool:
    """(T, H, W): one of 20 x 16 pixels in a box that follows it only so far, its left edge per frame."""
    x, y = np.arange(W), np.arange(H)[:, None]
    return np.stack([(y >= 22) & (y < 42) & (x >= at) & (x < at + 16) for at in left])


NOTHING = np.zeros((T, H, W), bool)


def frame_from(edge: np.ndarray) -> Bool:
    """(T, H, W): what is in the frame, whose left edge is at these columns of the boxes."""
    return np.broadcast_to(np.arange(W) >= edge[:, None, None], (T, H, W)).copy()


@pytest.mark.parametrize("by_depth", [False, True])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_walking_out_of_the_frame_and_in(by_depth: bool, order: slice) -> None:
    inside = frame_from(np.clip(4 * np.arange(T) - 2, 0, 44))[order]  # the box goes along, past the frame's edge
    seen = seen_of(block(np.full(T, 24)), NOTHING, inside, by_depth)
    visible = seen.modal.any((1, 2))
    assert 0 < visible.sum() < T
    np.testing.assert_array_equal(seen.gone, ~visible)


def test_hidden_whole_is_not_gone() -> None:
    wall = NOTHING.copy()
    wall[4:8, :, 10:60] = True
    seen = seen_of(block(np.full(T, 24)), wall, np.ones((T, H, W), bool))
    assert not seen.modal[4:8].any() and not seen.gone.any()
    # also where the frame ends in the box, and cuts the object off there
    seen = seen_of(block(np.full(T, 24)), wall, frame_from(np.full(T, 28)))
    assert not seen.modal[4:8].any() and not seen.gone.any()


def test_every_frame_is_told_by_itself() -> None:
    edge = np.zeros(T, int)
    edge[3], edge[4:6] = 34, 44  # out of the frame, and then hidden in it
    wall = NOTHING.copy()
    wall[6:8, :, 10:60] = True
    seen = seen_of(block(np.full(T, 24)), wall, frame_from(edge))
    assert not seen.modal[4:8].any() and seen.modal[[3, 8]].any((1, 2)).all()
    np.testing.assert_array_equal(np.flatnonzero(seen.gone), [4, 5])


def test_hidden_at_the_edge_of_the_frame_is_not_gone_while_half_of_it_is_inside() -> None:
    wall = NOTHING.copy()
    wall[4:8, :, 10:60] = True
    seen = seen_of(block(np.full(T, 24)), wall, frame_from(np.where(wall.any((1, 2)), 32, 0)))
    assert not seen.modal[4:8].any() and not seen.gone.any()


def test_edges() -> None:
    inside = frame_from(np.full(T, 20))
    assert not Seen(NOTHING, None, inside).gone.any()
    assert not Seen(block(np.full(T, 30)), None, inside).gone.any()
    assert not replace(seen_of(block(np.full(T, 24)), NOTHING, inside), inside=None).gone.any()


@pytest.mark.parametrize("by_depth", [False, True])
def test_nothing_is_drawn_where_it_has_left(by_depth: bool) -> None:
    whole = np.zeros((T, 48, 80), bool)
    for t in range(T):
        whole[t, 16:32, max(0, 40 - 8 * t) : max(0, 60 - 8 * t)] = True
    clip = Clip(np.random.default_rng(0).integers(0, 256, (*whole.shape, 3), dtype=np.uint8))
    depth = np.where(whole, 1.0, 0.5).astype(np.float32) if by_depth else None
    model = replace(model_with_nets("front", "finish"), focus=1.6, frames=T, depth_rule=False)
    away = ~whole.any((1, 2))
    assert away.sum() == 4
    results = {}
    for memory in (False, True):
        one = replace(model, memory=memory, content=None)
        results[memory] = completion.complete(clip, whole, model=one, depth=depth).objects[0].amodal_masks
    assert results[False][away].any(), "random networks draw something everywhere, or this tests nothing"
    assert not results[True][away].any() and results[True][~away].any((1, 2)).all()


def test_with_a_margin_it_is_followed_onto_the_canvas() -> None:
    whole = np.zeros((T, 48, 80), bool)
    for t in range(T):
        whole[t, 16:32, max(0, 40 - 8 * t) : max(0, 60 - 8 * t)] = True
    away = ~whole.any((1, 2))
    clip = Clip(np.random.default_rng(0).integers(0, 256, (*whole.shape, 3), dtype=np.uint8))
    model = replace(model_with_nets("front", "finish"), focus=1.6, frames=T, memory=True, content=None)
    drawn = completion.complete(clip, whole, model=model, margin=0.5).objects[0].amodal_masks
    assert drawn[away].any(), "random networks draw something wherever they are asked"
