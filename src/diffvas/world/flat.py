"""The flat world: 2-D figures in layers, with exact amodal truth, at thousands of object clips a minute.

No physics and no GL: silhouettes that move in front of one another, cheap enough to be drawn while a model trains.
Depth is the layer's distance with a slight slope, which after normalisation is what a depth network gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from diffvas.world.clip import SceneClip
from diffvas.world.families import allowed
from diffvas.world.outlines import OBJECTS, OCCLUDERS, Shape, cycle, furniture, sample_shape
from diffvas.world.silhouettes import creature, fish, garment, hand, leaf, letter, snake, star, tool
from diffvas.world.sprites import Sprite, sprite

Array = np.ndarray
TARGETS = {**OBJECTS, hand: 1.0, fish: 0.7, snake: 0.5, garment: 0.7, tool: 1.0, letter: 0.4, star: 0.3, leaf: 0.6,
           creature: 2.0}  # fmt: skip
COVERS = {**OCCLUDERS, hand: 2.0, leaf: 1.5, garment: 0.5, letter: 0.7, creature: 0.7, snake: 0.5, star: 0.3}
"""2-D families and their weights, of what is hidden and of what hides."""
HELD_OUT = frozenset({cycle, furniture, star})
"""2-D families that the set "train" leaves out, besides the ``families.HELD_OUT`` of the sprites."""
SPRITES = 0.45  # share of the layers that show a shape of the 3-D world
SHIFT = 4  # cv2 draws polygons in fixed point with this many fractional bits


@dataclass(frozen=True)
class Actor:
    """One moving layer.

    Attributes:
        shape: what it looks like.
        place: (T, 2) x, y of its origin in pixels; scale: (T,) pixels per unit; turn: (T,) radians.
        flip: -1 or 1, mirrors x. distance: (T,) layer depth. texture: (64, 64, 3) uint8. shades: (P,) per part.
    """

    shape: Shape | Sprite
    place: Array
    scale: Array
    turn: Array
    flip: int
    distance: Array
    texture: Array
    shades: Array


def smooth_path(rng: np.random.Generator, frames: int, dims: int, bend: float) -> Array:
    """(T, dims) zero-mean-free wobble: two slow sines per axis with amplitude about ``bend``."""
    t = np.linspace(0, 1, frames)[:, None]
    out = np.zeros((frames, dims))
    for k in (1, 2):
        out += (
            bend
            / k
            * rng.normal(size=dims)
            * np.sin(np.pi * k * t * rng.uniform(0.5, 1.5) + rng.uniform(0, 2 * np.pi, dims))
        )
    return out


def sample_texture(rng: np.random.Generator) -> Array:
    """(64, 64, 3) uint8: flat, gradient, stripes, checks, spots or noise in a few related colours."""
    low = rng.uniform(20, 235) + rng.normal(0, 40, 3)
    high = low + rng.normal(0, 50) + rng.normal(0, 25, 3)
    if rng.random() < 0.5:
        low = np.clip(low + rng.normal(0, 40, 3), 0, 255)
    kind = rng.integers(5)
    y, x = np.mgrid[0:64, 0:64] / 64.0
    angle = rng.uniform(0, np.pi)
    u = x * np.cos(angle) + y * np.sin(angle)
    if kind == 0:
        m = u
    elif kind == 1:
        m = (np.sin(u * 2 * np.pi * rng.uniform(2, 8)) > 0).astype(float)
    elif kind == 2:
        f = rng.uniform(2, 5)
        m = ((np.floor(x * f) + np.floor(y * f)) % 2).astype(float)
    elif kind == 3:
        m = cv2.resize(rng.random((int(rng.integers(3, 10)),) * 2), (64, 64), interpolation=cv2.INTER_CUBIC)
    else:
        m = np.full((64, 64), rng.uniform(0, 1))
    m = np.clip(m + rng.normal(0, 0.03, m.shape), 0, 1)[..., None]
    return (low * (1 - m) + high * m).clip(0, 255).astype(np.uint8)


def sample_background(rng: np.random.Generator, size: tuple[int, int], table: dict = OBJECTS) -> Array:
    """(H, W, 3) uint8: a sky and a ground, or a wall, with low-frequency noise and still things far away."""
    h, w = size
    small = rng.uniform(60, 220, 3) + rng.normal(0, 18, (6, 8, 1)) + rng.normal(0, 6, (6, 8, 3))
    image = cv2.resize(small.astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.6:
        horizon = int(h * rng.uniform(0.3, 0.8))
        ground = cv2.resize((rng.uniform(30, 200, 3) + rng.normal(0, 20, (8, 12, 1))).astype(np.float32), (w, h))
        image[horizon:] = ground[horizon:]
    for _ in range(int(rng.integers(0, 5))):  # still things far away
        shape = sample_shape(rng, table).polygons(0.0)
        at, scale = rng.uniform(0, 1, 2) * (w, h), rng.uniform(0.15, 0.6) * h
        colour = rng.uniform(20, 235, 3).tolist()
        for outline, hole in shape:
            if not hole:
                cv2.fillPoly(image, [np.round(outline * scale + at).astype(np.int32)], colour)
    return image.clip(0, 255).astype(np.uint8)


def sample_actor(
    rng: np.random.Generator, size: tuple[float, float], frames: int, layer: float, families: dict, big: float
) -> Actor:
    """One layer at distance ``layer``, its height a share ``big`` of the frame, on a path that crosses the frame.

    ``families``: 2-D families and their weights.
    """
    return moving_layer(rng, sample_shape(rng, families), size, frames, layer, big)


def moving_layer(
    rng: np.random.Generator, shape: Shape | Sprite, size: tuple[float, float], frames: int, layer: float, big: float
) -> Actor:
    """``sample_actor`` of a given shape."""
    h, w = size
    t = np.linspace(0, 1, frames)[:, None]
    middle = np.array([w * rng.uniform(0.2, 0.8), h * rng.uniform(0.35, 0.65)])
    speed = rng.choice([0.0, 0.15, 0.5, 1.0], p=[0.2, 0.3, 0.35, 0.15]) * rng.normal(1, 0.3)
    angle = rng.normal(0, 0.3) + (np.pi if rng.random() < 0.5 else 0)
    drift = np.array([w * np.cos(angle), h * 0.5 * np.sin(angle)]) * speed
    place = middle + (t - rng.uniform(0.3, 0.7)) * drift + smooth_path(rng, frames, 2, 0.04 * h)
    pixels = h * big * (w / h) ** 0.25
    grow = np.exp((t[:, 0] - 0.5) * rng.normal(0, 0.2) + smooth_path(rng, frames, 1, 0.03)[:, 0])
    spin = rng.choice([0.0, 1.0], p=[0.75, 0.25]) * rng.normal(0, 1.5)
    turn = rng.normal(0, 0.12) + t[:, 0] * spin + smooth_path(rng, frames, 1, 0.05)[:, 0]
    return Actor(
        shape,
        place,
        pixels * grow,
        turn,
        -1 if rng.random() < 0.5 else 1,
        layer / grow,
        sample_texture(rng),
        rng.uniform(0.7, 1.15, len(shape.limbs)),
    )


def draw(actor: Actor, frame: int, frames: int, size: tuple[int, int], part_map: bool) -> tuple[Array, Array | None]:
    """(H, W) uint8 mask 0/1 of the whole layer in one frame, and with ``part_map`` the (H, W) index of the top part."""
    h, w = size
    mask = np.zeros((h, w), np.uint8)
    parts = np.zeros((h, w), np.uint8) if part_map else None
    c, s = np.cos(actor.turn[frame]), np.sin(actor.turn[frame])
    matrix = actor.scale[frame] * np.array([[c, -s], [s, c]]) @ np.diag([actor.flip, 1.0])
    polygons = actor.shape.polygons(frame / max(frames - 1, 1))
    ends = np.cumsum([len(outline) for outline, _ in polygons]).tolist()
    points = np.concatenate([outline for outline, _ in polygons]) @ matrix.T + actor.place[frame]
    fixed = np.round(points.clip(-4000, 4000) * (1 << SHIFT)).astype(np.int32)
    for k, (outline, hole) in enumerate(polygons):
        corners = [fixed[ends[k] - len(outline) : ends[k]]]
        cv2.fillPoly(mask, corners, 0 if hole else 1, shift=SHIFT)
        if parts is not None and not hole:
            cv2.fillPoly(parts, corners, k, shift=SHIFT)
    return mask, parts


def paint(actor: Actor, frame: int, size: tuple[int, int], parts: Array) -> Array:
    """(H, W, 3) uint8: the layer's texture, carried by its motion, shaded by part."""
    h, w = size
    c, s = np.cos(actor.turn[frame]), np.sin(actor.turn[frame])
    scale = actor.scale[frame] * 1.6 / 64
    matrix = scale * np.array([[c, -s], [s, c]]) @ np.diag([actor.flip, 1.0])
    offset = actor.place[frame] - matrix @ np.array([32, 32])
    rgb = cv2.warpAffine(
        actor.texture, np.column_stack([matrix, offset]), (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(rgb * actor.shades[parts][..., None], 0, 255).astype(np.uint8)


def family_tables(families: str) -> tuple[frozenset[str], dict, dict, dict]:
    """Sprite names and 2-D tables of targets, of covers and of things far away, for a set of families."""
    names, every = allowed(families), allowed("all")
    if families == "all":
        return every, TARGETS, COVERS, OBJECTS
    if families == "heldout":
        return names, {make: TARGETS[make] for make in TARGETS if make in HELD_OUT}, COVERS, OBJECTS
    return (names, *({make: t[make] for make in t if make not in HELD_OUT} for t in (TARGETS, COVERS, OBJECTS)))


def sample_actors(rng: np.random.Generator, size: tuple[int, int], frames: int, families: str = "all") -> list[Actor]:
    """Two to six layers, nearest last; nearer layers are drawn from occluders more often.

    With ``families`` "heldout" the farther half of the layers is of held-out families.
    """
    count = int(rng.integers(2, 7))
    layers = np.sort(rng.uniform(2.0, 12.0, count))[::-1]
    pan = smooth_path(rng, frames, 2, 0.06 * size[1]) * rng.choice([0.0, 1.0]) + np.linspace(-0.5, 0.5, frames)[
        :, None
    ] * (rng.normal(0, 0.15, 2) * size[1] * rng.choice([0.0, 1.0]))
    names, targets, covers, _ = family_tables(families)
    cover_names = allowed("all") if families == "heldout" else names
    actors = []
    for k, layer in enumerate(layers):
        target = k < max(1, count // 2)
        big = rng.uniform(0.3, 1.1) if target else rng.uniform(0.25, 1.2)
        if rng.random() < SPRITES:
            shape = sprite(rng, names if target else cover_names)
        else:
            shape = sample_shape(rng, targets if target else covers)
        actor = moving_layer(rng, shape, size, frames, float(layer), big)
        actors.append(replace(actor, place=actor.place + pan * (4.0 / layer + 0.3)))
    return actors


def flat_scene(
    seed: int | list[int],
    size: tuple[int, int] = (128, 256),
    frames: int = 25,
    *,
    colour: bool = True,
    families: str = "all",
) -> SceneClip:
    """One clip of the flat world; the same seed gives the same clip.

    Args:
        seed: entropy for ``numpy.random.SeedSequence``.
        size: (height, width) in pixels.
        frames: T.
        colour: False leaves RGB out (zero-size arrays), which is several times faster; the masks are the
            same (the slope of the depth is not: the background is drawn before it).
        families: "train", "heldout" or "all"; see ``sample_actors``.

    Raises:
        ValueError: another set of families.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    h, w = size
    actors = sample_actors(rng, size, frames, families)
    background = sample_background(rng, size, family_tables(families)[3]) if colour else None
    slope = rng.uniform(0.0, 0.6)
    n = len(actors)
    ids = np.zeros((frames, h, w), np.uint8)
    far = 14.0 - slope * 10 * np.linspace(0, 1, h, dtype=np.float32)[:, None]
    depth = np.broadcast_to(far, (frames, h, w)).copy()
    amodal = np.zeros((n, frames, h, w), bool)
    rgb = np.zeros((frames, h, w, 3) if colour else (0, h, w, 3), np.uint8)
    alone = np.full((n, frames, h, w, 3) if colour else (n, 0, h, w, 3), 255, np.uint8)
    for t in range(frames):
        if background is not None:
            rgb[t] = background
        for i, actor in enumerate(actors):
            mask, parts = draw(actor, t, frames, size, colour)
            on = mask.astype(bool)
            amodal[i, t] = on
            ids[t][on] = i + 1
            depth[t][on] = actor.distance[t]
            if parts is not None:
                painted = paint(actor, t, size, parts)
                alone[i, t][on] = painted[on]
                rgb[t][on] = painted[on]
    name = "flat-" + "-".join(str(s) for s in (seed if isinstance(seed, list) else [seed]))
    return SceneClip(rgb, depth, ids, amodal, alone, name, seed if isinstance(seed, int) else seed[-1])
