"""Things pasted over objects: what they hide, and that everything else stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffvas.data.occluders import paste_over, sit_on
from factories import make_scene


def test_pasted_things_hide_and_are_nearer() -> None:
    scene = make_scene()
    changed = 0
    for seed in range(20):
        pasted = paste_over(scene, 0, np.random.default_rng(seed))
        if pasted is scene:
            continue
        changed += 1
        covered = pasted.depth != scene.depth
        before, after = scene.modal_mask(0), pasted.modal_mask(0)
        assert not (after & ~before).any() and not (after & covered).any()
        assert (pasted.depth[covered] < scene.depth[covered]).all()
        lost = before & ~after
        assert (pasted.instance_ids[lost] == 0).all()
        for t in np.flatnonzero(lost.any((1, 2)) & after.any((1, 2))):
            assert pasted.depth[t][lost[t]].max() < scene.depth[t][before[t]].min()
        same = ~covered & (pasted.instance_ids == scene.instance_ids)
        np.testing.assert_array_equal(pasted.frames_u8[same], scene.frames_u8[same])
        assert np.array_equal(pasted.amodal_masks, scene.amodal_masks)
        again = paste_over(scene, 0, np.random.default_rng(seed))
        assert np.array_equal(again.instance_ids, pasted.instance_ids)
    assert changed >= 5


def test_an_object_that_is_nowhere_stays_so() -> None:
    scene = make_scene()
    gone = replace(scene, instance_ids=np.zeros_like(scene.instance_ids))
    assert paste_over(gone, 0, np.random.default_rng(0)) is gone


def test_scenes_without_colours_keep_none() -> None:
    scene = make_scene()
    bare = replace(scene, frames_u8=scene.frames_u8[:0])
    assert all(not len(paste_over(bare, 0, np.random.default_rng(seed)).frames_u8) for seed in range(5))


def test_what_sits_on_an_object_hides_the_same_of_it_in_all_frames() -> None:
    scene = make_scene()
    whole = scene.amodal_masks[0]
    alone = replace(scene, instance_ids=np.where(whole, 1, 0).astype(np.uint8))
    changed = 0
    for seed in range(20):
        made = sit_on(alone, 0, np.random.default_rng(seed))
        if made is alone:
            continue
        changed += 1
        lost = whole & ~made.modal_mask(0)
        covered = made.depth != alone.depth
        assert lost.any() and (covered & whole == lost).all() and not (made.modal_mask(0) & ~whole).any()
        shared = lost.all(0).sum() / max(lost.sum((1, 2)).max(), 1)
        assert shared > 0.2
        assert (lost.sum((1, 2)) < 0.8 * whole.sum((1, 2))).any()
    assert changed >= 8


def test_nothing_sits_on_what_is_nowhere() -> None:
    scene = make_scene()
    gone = replace(scene, instance_ids=np.zeros_like(scene.instance_ids))
    assert sit_on(gone, 0, np.random.default_rng(0)) is gone
