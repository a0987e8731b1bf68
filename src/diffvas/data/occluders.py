"""Shapes of the flat world that pass over an object of any clip, rendered or real, or sit on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from diffvas.data.clutter import leaves
from diffvas.world.clip import SceneClip
from diffvas.world.families import allowed
from diffvas.world.flat import COVERS, SPRITES, Actor, draw, moving_layer, paint
from diffvas.world.outlines import sample_shape
from diffvas.world.sprites import sprite

Array = np.ndarray
NEARER = 0.8  # of the least distance of the object: where pasted things stand


def boxes(masks: Array) -> Array:
    """(T, 4) float: centre x, centre y, width, height of each frame's mask; empty frames take the nearest frame's."""
    out = np.full((len(masks), 4), np.nan)
    for t, mask in enumerate(masks):
        ys, xs = np.nonzero(mask)
        if len(ys):
            out[t] = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2, np.ptp(xs) + 1, np.ptp(ys) + 1
    seen = np.flatnonzero(~np.isnan(out[:, 0]))
    nearest = seen[np.abs(np.arange(len(masks))[:, None] - seen).argmin(1)]
    return out[nearest]


def pass_over(
    rng: np.random.Generator, masks: Array, make: Callable[[tuple[float, float], float], Actor]
) -> list[Actor]:
    """One or two shapes that pass over the object, scaled to its box.

    They are sampled as if the object's box, enlarged, were the whole picture, and then carried along with the object
    by a random share of its own motion: some stand still in the picture, some stay in front of it.

    Args:
        masks: (T, H, W) bool, not empty. make: (size (h, w) in pixels, share of its height) -> a shape for all frames.
    """
    frames, box = len(masks), boxes(masks)
    wide, high = np.median(box[:, 2:], axis=0) * 1.2
    actors = []
    for _ in range(int(rng.integers(1, 3))):
        actor = make((high, wide), float(rng.uniform(0.3, 1.0)))
        meeting = box[int(frames * rng.uniform(0.3, 0.7)), :2]
        share = rng.choice([0.0, rng.uniform(0, 1), 1.0])
        path = meeting + share * (box[:, :2] - meeting)
        actors.append(replace(actor, place=actor.place + path - (wide / 2, high / 2)))
    return actors


def covered_by(actors: list[Actor], frames: int, size: tuple[int, int]) -> Array:
    """(T, H, W) bool, where occluders are."""
    covered = np.zeros((frames, *size), bool)
    for t in range(frames):
        for actor in actors:
            covered[t] |= draw(actor, t, frames, size, False)[0].astype(bool)
    return covered


def paint_over(pictures: Array, actors: list[Actor]) -> Array:
    """The frames (T, H, W, 3) uint8 with the occluders in them."""
    out = pictures.copy()
    size = (out.shape[1], out.shape[2])
    for t in range(len(out)):
        for actor in actors:
            mask, parts = draw(actor, t, len(out), size, True)
            assert parts is not None
            on = mask.astype(bool)
            out[t][on] = paint(actor, t, size, parts)[on]
    return out


def paste_over(scene: SceneClip, index: int, rng: np.random.Generator) -> SceneClip:
    """The scene with things pasted over object ``index`` that are nearer than it; what it was, where they would leave
    too little of it to be seen.

    Training pictures that are not of one world only: things in front look otherwise than what they hide.
    """
    modal = scene.modal_mask(index)
    if not modal.any():
        return scene
    frames, names = len(modal), allowed("train")

    def make(box: tuple[float, float], big: float) -> Actor:
        shape = sprite(rng, names) if rng.random() < SPRITES else sample_shape(rng, COVERS)
        return moving_layer(rng, shape, box, frames, 1.0, big)

    return _cover(scene, index, pass_over(rng, modal, make))


def sit_on(scene: SceneClip, index: int, rng: np.random.Generator) -> SceneClip:
    """The scene with one to three small things that sit on object ``index`` and go along with it, like birds on a
    feeder: what they hide is seen in no frame."""
    modal = scene.modal_mask(index)
    seen = np.flatnonzero(modal.any((1, 2)))
    if not len(seen):
        return scene
    frames, box, names = len(modal), boxes(modal), allowed("train")
    wide, high = np.median(box[:, 2:], axis=0)
    actors = []
    for _ in range(int(rng.integers(1, 4))):
        shape = sprite(rng, names) if rng.random() < SPRITES else sample_shape(rng, COVERS)
        actor = moving_layer(rng, shape, (high, wide), frames, 1.0, float(rng.uniform(0.12, 0.4)))
        at = int(rng.choice(seen))
        ys, xs = np.nonzero(modal[at])
        spot = int(rng.integers(len(ys)))
        hop = (actor.place - actor.place[at]) * float(rng.choice([0.0, 0.0, rng.uniform(0, 0.2)]))
        texture = leaves(rng, actor.texture.shape[:2]) if rng.random() < 0.5 else actor.texture
        place = np.array([xs[spot], ys[spot]]) + box[:, :2] - box[at, :2] + hop
        actors.append(replace(actor, place=place, texture=texture))
    return _cover(scene, index, actors)


def _cover(scene: SceneClip, index: int, actors: list[Actor]) -> SceneClip:
    """The scene with nearer things in it; what it was, where they would leave too little of object ``index``."""
    modal = scene.modal_mask(index)
    covered = covered_by(actors, len(modal), (modal.shape[1], modal.shape[2]))
    if ((modal & ~covered).sum((1, 2)) > 20).sum() < 3:
        return scene
    near = NEARER * np.array([d[m].min() if m.any() else d.min() for d, m in zip(scene.depth, modal, strict=True)])
    return replace(
        scene,
        frames_u8=paint_over(scene.frames_u8, actors) if len(scene.frames_u8) else scene.frames_u8,
        depth=np.where(covered, np.minimum(scene.depth, near[:, None, None]), scene.depth).astype(np.float32),
        instance_ids=np.where(covered, 0, scene.instance_ids).astype(np.uint8),
    )
