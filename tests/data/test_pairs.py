"""Stage-2 pairs: hidden enough or not used, frames without the object handled, truth that is really seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffvas.data import pairs
from diffvas.data.pairs import make_pair, occlude, place_outline, visible_share
from diffvas.world.clip import SceneClip
from factories import FRAMES, HEIGHT, WIDTH, make_scene

Array = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def box(frames: int = 6, present: range | None = None) -> Array:
    mask = np.zeros((frames, 40, 60), bool)
    for t in present or range(frames):
        mask[t, 10:30, 15:45] = True
    return mask


def whole_scene() -> SceneClip:
    """The shared scene without the plate, so that the ball is in full view."""
    scene = make_scene()
    ids = np.where(scene.amodal_masks[0], 1, 0).astype(np.uint8)
    frames = np.where(scene.amodal_masks[0][..., None], scene.amodal_rgb_u8[0], np.uint8(120)).astype(np.uint8)
    return replace(
        scene,
        frames_u8=frames,
        instance_ids=ids,
        amodal_masks=scene.amodal_masks[:1],
        amodal_rgb_u8=scene.amodal_rgb_u8[:1],
    )


def test_visible_share_by_hand() -> None:
    amodal, modal = box(4, range(2)), box(4, range(2))
    modal[0, 10:20] = False  # half of it in one of the two frames in which it is there
    assert visible_share(modal, amodal) == pytest.approx(0.75)
    assert visible_share(amodal, amodal) == 1.0
    assert visible_share(np.zeros_like(amodal), np.zeros_like(amodal)) == 1.0, "no mean of nothing"


def test_outlines_come_over_the_target() -> None:
    target, outline = box(), box(3)
    areas = []
    for seed in range(40):
        placed = place_outline(outline, target, rng(seed))
        assert placed.shape == target.shape and (placed & target).any()
        areas.append(placed.sum((1, 2)).max())
    assert max(areas) > 2 * min(areas), "sizes should differ"
    assert not place_outline(np.zeros_like(outline), target, rng()).any()
    assert not place_outline(outline, np.zeros_like(target), rng()).any()


def test_hidden_enough_or_not_at_all() -> None:
    target = box(6, range(1, 5))
    for seed in range(30):
        left = occlude(target, [box(9)], rng(seed))
        assert left is not None and not (left & ~target).any()
        assert pairs.LEAST <= visible_share(left, target) <= pairs.MOST
    assert occlude(target, [], rng()) is None
    assert occlude(target, [np.zeros((3, 40, 60), bool)], rng()) is None
    dot = np.zeros((6, 40, 60), bool)
    dot[:, 0, 0] = True
    assert occlude(target, [dot], rng(), most=0.0, least=0.0) is None, "a target that cannot be reached ends"


def test_a_pair_knows_the_colours_of_what_is_hidden() -> None:
    scene = whole_scene()
    example = make_pair(scene, make_scene(), rng(3), spoil=False)
    assert example is not None
    assert np.array_equal(example.amodal, scene.amodal_masks[0])
    assert visible_share(example.modal, example.amodal) <= pairs.MOST
    hidden = example.amodal & ~example.modal
    assert hidden.any() and np.array_equal(example.alone_u8[hidden], scene.frames_u8[hidden])
    assert (example.alone_u8[~example.amodal] == 255).all()
    again = make_pair(scene, make_scene(), rng(3), spoil=False)
    assert again is not None and np.array_equal(again.modal, example.modal)
    cropped = make_pair(scene, make_scene(), rng(3), size=(32, 32))
    assert cropped is not None and cropped.frames_u8.shape == (FRAMES, 32, 32, 3)


def test_objects_that_are_hidden_already_are_no_pairs() -> None:
    scene = make_scene()
    ball = replace(scene, amodal_masks=scene.amodal_masks[:1], amodal_rgb_u8=scene.amodal_rgb_u8[:1])
    assert (HEIGHT, WIDTH) == ball.depth.shape[1:]
    assert make_pair(ball, scene, rng()) is None
