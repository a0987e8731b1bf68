"""Busy backgrounds: they change what is behind, move as it did, and leave the truth alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffvas.data.clutter import clutter, leaves
from factories import make_scene


def test_leaves_are_busy_and_repeatable() -> None:
    for seed in range(6):
        picture = leaves(np.random.default_rng(seed), (60, 80))
        assert picture.shape == (60, 80, 3) and picture.dtype == np.uint8
        assert (np.abs(np.diff(picture.astype(int), axis=1)).max(-1) > 3).mean() > 0.02
        np.testing.assert_array_equal(picture, leaves(np.random.default_rng(seed), (60, 80)))
    assert not np.array_equal(leaves(np.random.default_rng(0), (60, 80)), picture)


def test_only_the_background_changes() -> None:
    scene = make_scene()
    made = clutter(scene, np.random.default_rng(3))
    behind = scene.instance_ids == 0
    np.testing.assert_array_equal(made.frames_u8[~behind], scene.frames_u8[~behind])
    assert (made.frames_u8[behind] != scene.frames_u8[behind]).any(-1).mean() > 0.9
    for name in ("depth", "instance_ids", "amodal_masks", "amodal_rgb_u8"):
        assert getattr(made, name) is getattr(scene, name)
    bare = replace(scene, frames_u8=scene.frames_u8[:0])
    assert clutter(bare, np.random.default_rng(0)) is bare


def test_the_new_background_moves_as_the_old_one_did() -> None:
    """A camera that pans by three pixels a frame over a textured wall."""
    wall = leaves(np.random.default_rng(1), (96, 160))
    frames = np.stack([wall[:, 3 * t : 3 * t + 128] for t in range(6)])
    ids = np.zeros(frames.shape[:3], np.uint8)
    scene = replace(make_scene(), frames_u8=frames, instance_ids=ids)
    made = clutter(scene, np.random.default_rng(5)).frames_u8.astype(float)
    inner = made[:, 16:-16, 32:-32]

    def apart(pixels: int) -> float:
        return float(np.abs(inner[5, :, : -16 or None] - inner[0, :, pixels : inner.shape[2] - 16 + pixels]).mean())

    assert min(range(0, 17), key=apart) in range(14, 17)  # five steps of three
    assert apart(15) < 0.6 * apart(0)
