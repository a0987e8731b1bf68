"""Examples that teach ``finish`` what shapes there are: moments of objects of which other moments show hardly more.

What no frame shows can only be guessed by one who has seen many shapes, and an object of a rendered scene, with all
that the pipelines say of it, costs seconds. Here shapes of the flat world, or whole objects of rendered scenes, are
drawn in a box around them, with things in front that mostly go along with them, the ground before them, and things
behind. All that ``finish`` sees is worked out as the pipelines do it; but in place of what the first stage says there
are the votes of the other moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffvas import arrays
from diffvas.data.augment import spoil_depth, spoil_mask
from diffvas.data.examples import SceneSource, candidates, open_scenes
from diffvas.focus import Box, crop_each, extent
from diffvas.pipelines.finish import BY_DEPTH, COLOURS, UNTOLD
from diffvas.pipelines.sight import Seen
from diffvas.shape_memory import HINT
from diffvas.train.pixels import pack_bits, pack_signed
from diffvas.types import F32, Bool
from diffvas.world.flat import SPRITES, Actor, draw, family_tables, moving_layer
from diffvas.world.outlines import sample_shape
from diffvas.world.sprites import sprite

CLIP = 25  # frames that the moments are taken from
AWAY = (-8, -5, -2, 2, 5, 8)  # frames to the other moments
MOMENTS = 4  # that know of each other; the first one is shown
CANVAS, TALL = 192, 60.0  # pixels of the picture's side, and of an object's height
EXPAND = (1.35, 1.9)  # side of the box in sides of what is known of the object
KNOWN = 0.7  # how often the box is around what the moments show of the object, not around all of it
OFF_CENTRE = 0.06  # of the box's side, how far its middle is off
WALL = 0.35  # how often what is in front is all to one side of a line
GOES_ALONG = 0.7  # how often what is in front hides the same part at all moments
GROUND, BORDER = 0.7, 0.15  # how often there is ground before the object, and the frame's border near it
LEAST_HIDDEN, LEAST_VISIBLE = 16, 12  # pixels
PLAIN = 0.1  # how often nothing needs to be hidden
TRIES = 1000  # at one object; of shapes of the flat world a few are enough

USES = 3  # objects that are drawn of a rendered scene, which takes long to read
TALLER = (0.8, 1.3)  # height of a rendered object in ``TALL``, or its width if that is more

Masks = NDArray[np.bool_]  # (MOMENTS, h, w)
Draw = Callable[[list[int], np.random.Generator], Masks]  # whole objects, in the middle of the canvas, at some times


def shape_moments(
    size: tuple[int, int], rng: np.random.Generator, whole_object: Draw | None = None
) -> tuple[Bool, Bool, F32, Bool]:
    """One object at ``MOMENTS`` times of a clip: modal and amodal masks, depth, and what is in the frame.

    Args:
        size: (h, w) of the box. whole_object: draws it; by default one of the flat world.

    Returns:
        modal, amodal: (MOMENTS, h, w) bool, amodal as far as it is in the frame. depth: float32 in [0, 1], 1 = near.
        inside: bool.

    Raises:
        ValueError: ``whole_object`` draws none that will do.
    """
    for _ in range(TRIES):
        plain, first = rng.random() < PLAIN, int(rng.integers(CLIP))
        away = rng.choice(AWAY, MOMENTS - 1, replace=False)
        times = [first, *np.clip(first + away, 0, CLIP - 1).tolist()]
        whole = (whole_object or _flat_object)(times, rng)
        if not whole.any((1, 2)).all():
            continue
        inside = _inside(whole, rng)
        amodal = whole & inside
        over = [_thing(whole[0], times, rng) for _ in range(int(rng.integers(1, 3)))]
        behind = [_thing(whole[0], times, rng) for _ in range(int(rng.integers(0, 3)))]
        modal = amodal & ~np.any(over, 0)
        if not modal.any():
            continue
        depth = _depth(amodal, over, behind, rng)
        boxes = _boxes(modal if rng.random() < KNOWN else whole, rng)
        modal, amodal, inside = (
            crop_each(boxes, m, size, arrays.resize_masks_area) >= 0.5 for m in (modal, amodal, inside)
        )
        hidden = int((amodal[0] & ~modal[0]).sum())
        if modal[0].sum() < LEAST_VISIBLE or (hidden < LEAST_HIDDEN and not plain):
            continue
        modal = spoil_mask(modal, rng)
        depth = arrays.normalise_depth(crop_each(boxes, depth, size, arrays.resize_float))
        return modal, amodal | modal, spoil_depth(depth, rng), inside
    raise ValueError(f"scenes: expected objects that are all in the picture, got none in {TRIES} tries")


def shape_example(
    size: tuple[int, int], count: int, by_depth: float, key: list[int], scenes: str = ""
) -> dict[str, torch.Tensor]:
    """What ``finish`` is taught by, of ``count`` objects at one moment each; see ``pixel_material.finish_example``.

    Args:
        by_depth: how often depth is told; else nothing tells what is in front. scenes: a folder of rendered scenes
            whose objects are drawn; "" for those of the flat world.

    Raises:
        ValueError: there are no such scenes, or none with an object to draw.
    """
    rng = np.random.default_rng(key)
    draw = _SceneObjects(_scenes(scenes), key) if scenes else None
    mode = BY_DEPTH if rng.random() < by_depth else UNTOLD
    rows = []
    for _ in range(count):
        modal, amodal, depth, inside = shape_moments(size, rng, draw)
        seen = Seen(modal, depth if mode == BY_DEPTH else None, inside)
        guess = np.where(modal[0], 1, seen.recalled[0] / HINT)
        rows.append((np.concatenate([2 * guess[None] - 1, seen.known[0, :-COLOURS]]), modal[0], amodal[0]))
    maps, modals, amodals = (np.stack(part) for part in zip(*rows, strict=True))
    return {
        "maps": pack_signed(maps),
        "mode": torch.tensor([mode]),
        "modal": pack_bits(modals),
        "amodal": pack_bits(amodals),
        "weight": torch.ones(count),
    }


def _layer(covers: bool, tall: float, rng: np.random.Generator) -> Actor:
    """A shape that objects (or what hides them) have in training, ``tall`` pixels high or so."""
    names, targets, hiding, _ = family_tables("train")
    shape = sprite(rng, names) if rng.random() < SPRITES else sample_shape(rng, hiding if covers else targets)
    return moving_layer(rng, shape, (CANVAS, CANVAS), CLIP, 1.0, tall / CANVAS)


def _drawn(actor: Actor, path: NDArray[np.floating], times: list[int]) -> Masks:
    """A layer on a path (CLIP, 2) of its own."""
    actor = replace(actor, place=path)
    return np.stack([draw(actor, t, CLIP, (CANVAS, CANVAS), False)[0].astype(bool) for t in times])


def _flat_object(times: list[int], rng: np.random.Generator) -> Masks:
    """A shape of the flat world, in the middle at all moments."""
    return _drawn(_layer(False, TALL, rng), np.full((CLIP, 2), CANVAS / 2) + rng.normal(0, 0.5, (CLIP, 2)), times)


@lru_cache(maxsize=2)
def _scenes(folder: str) -> SceneSource:
    try:
        return open_scenes(folder, CLIP, colour=False, split="train")
    except ValueError as error:
        raise ValueError(f"scenes: {str(error).removeprefix('source: ')}") from error


class _SceneObjects:
    """Whole objects of rendered scenes, also of what other things hide and what lies beyond the frame.

    Args:
        scenes: where they are from. key: of all scenes that are drawn.
    """

    def __init__(self, scenes: SceneSource, key: list[int]) -> None:
        self._scenes, self._key = scenes, key
        self._read, self._left = 0, 0
        self._objects: list[Bool] = []

    def __call__(self, times: list[int], rng: np.random.Generator) -> Masks:
        """An object at ``times``, each time in the middle; nothing if it is away then, or goes on beyond the canvas."""
        if not self._left:
            self._objects, self._left = self._next(), USES
        self._left -= 1
        masks = self._objects[int(rng.integers(len(self._objects)))]
        some = masks[np.minimum(times, len(masks) - 1)]
        extents = [e for e in map(extent, some) if e is not None]
        if len(extents) < len(times) or _edges(some).any():
            return np.zeros((len(times), CANVAS, CANVAS), bool)
        tall = max(max(bottom - top, right - left) for top, bottom, left, right in extents)
        half = round(CANVAS * tall / (2 * TALL * float(rng.uniform(*TALLER))))
        middles = [((top + bottom) // 2, (left + right) // 2) for top, bottom, left, right in extents]
        boxes = [Box(y - half, y + half, x - half, x + half) for y, x in middles]
        whole = crop_each(boxes, some, (CANVAS, CANVAS), arrays.resize_masks_area) >= 0.5
        return np.asarray(whole[..., ::-1] if rng.random() < 0.5 else whole)

    def _next(self) -> list[Bool]:
        for _ in range(100):
            scene = self._scenes(np.random.SeedSequence([*self._key, self._read]))
            self._read += 1
            if scene.canvas_masks is None:
                raise ValueError(f"scenes: expected clips with masks beyond the frame, got {scene.name!r} without")
            found = [scene.canvas_masks[index] for index, _ in candidates(scene)]
            if found:
                return found
        raise ValueError("scenes: no object to draw in 100 scenes")


def _edges(masks: Bool) -> Bool:
    """What lies in the outermost pixels of (N, h, w)."""
    return np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1)


def _thing(on: Bool, times: list[int], rng: np.random.Generator) -> Masks:
    """Something that lies over the object, or behind it, at all moments.

    Args:
        on: (CANVAS, CANVAS), the object at the first moment.
    """
    ys, xs = np.nonzero(on)
    spot = int(rng.integers(len(ys)))
    drift = rng.normal(size=2) * (0.0 if rng.random() < GOES_ALONG else 0.025 * TALL)
    path = np.array([xs[spot], ys[spot]]) + drift * (np.arange(CLIP)[:, None] - times[0])
    if rng.random() < WALL:
        rows, columns = np.mgrid[:CANVAS, :CANVAS]
        angle = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.15)
        return np.stack([(columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) > 0 for x, y in path[times]])
    return _drawn(_layer(True, TALL * float(rng.uniform(0.25, 1.5)), rng), path, times)


def _inside(whole: Masks, rng: np.random.Generator) -> Masks:
    """What is in the frame, whose border runs through the object now and then."""
    inside = np.ones_like(whole)
    if rng.random() < BORDER:
        turns = int(rng.integers(4))
        for mask, there in zip(inside, whole, strict=True):
            rows = np.flatnonzero(np.rot90(there, turns).any(1))
            np.rot90(mask, turns)[: round(float(rng.normal(0, 2) + np.quantile(rows, 0.3)))] = False
    return inside


def _boxes(known: Masks, rng: np.random.Generator) -> list[Box]:
    """Boxes around what is known of the object: what any moment shows lies about there at all of them."""
    around = extent(np.asarray(known.any(0)))
    assert around is not None
    top, bottom, left, right = around
    side = max(bottom - top, right - left, 8) * float(np.exp(rng.uniform(*np.log(EXPAND))))
    middle = np.array([(top + bottom) / 2, (left + right) / 2]) + rng.uniform(-OFF_CENTRE, OFF_CENTRE, 2) * side
    corners = middle - side / 2 + rng.normal(0, 0.015, (len(known), 2)) * side
    return [Box(y, y + round(side), x, x + round(side)) for y, x in corners.round().astype(int).tolist()]


def _depth(amodal: Masks, over: list[Masks], behind: list[Masks], rng: np.random.Generator) -> F32:
    """Relative depth of what is seen: far things, the ground, the object, what is in front; larger = nearer."""
    own, far = rng.uniform(0.35, 0.65), rng.uniform(0.0, 0.2)
    feet, slope = np.flatnonzero(amodal.any((0, 2)))[-1], rng.uniform(0.3, 1.5) / (1.6 * TALL)
    ground = (
        np.clip(own + (np.arange(CANVAS) - feet) * slope, far, 1) if rng.random() < GROUND else np.full(CANVAS, far)
    )
    depth = np.tile(ground[:, None], (len(amodal), 1, CANVAS))
    for one in behind:
        depth[one] = np.clip(depth[one], rng.uniform(far, own - 0.06), own - 0.04)
    relief = cv2.resize(rng.normal(0, 0.01, (4, 4)), (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
    depth = np.where(amodal, own + relief, depth)
    for one in over:
        depth[one] = rng.uniform(own + 0.04, 1.0)
    return depth.astype(np.float32)
