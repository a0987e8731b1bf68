"""Plants and other things that bend: trees, flowers, ropes, flags, hoses, curtains, and what hangs and swings.

All but the hanging ones stand on z = 0 and are of the order of 1 high or wide. Hanging things have their origin, around
which they swing, at the upper end.
"""

from __future__ import annotations

import numpy as np

from diffvas.world.building import (
    ACROSS,
    UP,
    Figure,
    about,
    ball,
    bone,
    box,
    chain,
    loft,
    materials,
    plain,
    rigid,
    shaped,
    tube,
    vec,
)
from diffvas.world.spec import Limb, Material, Part, Texture


def greens(rng: np.random.Generator, count: int) -> tuple[Material, ...]:
    """Leaves, then bark and whatever else: mostly the colours of plants."""
    if rng.random() < 0.2:
        return materials(rng, count, 0.7)
    leaf = np.array([0.22, 0.45, 0.15]) * rng.uniform(0.5, 1.5) + np.array([rng.uniform(0, 0.35), 0, 0])
    bark = np.array([0.38, 0.27, 0.17]) * rng.uniform(0.5, 1.6)
    texture = Texture(
        "noise", (vec(np.clip(leaf, 0, 1)), vec(np.clip(leaf * 0.6, 0, 1))), 6.0, int(rng.integers(2**31))
    )
    return (Material(texture, 0.05, 0.1), plain(vec(np.clip(bark, 0, 1))), *materials(rng, max(0, count - 2), 0.5))[
        :count
    ]


def tree(rng: np.random.Generator) -> Figure:
    """A tree with a round, layered or bare crown, or a palm; its crown sways."""
    high, crown = rng.uniform(0.4, 1.2), rng.uniform(0.25, 0.5)
    trunk = tube(
        [(0, 0, 0), (rng.normal() * 0.04, 0, high * 0.5), (0, 0, high)],
        np.array([1.0, 0.75, 0.5]) * rng.uniform(0.04, 0.09),
        1,
    )
    style = rng.integers(4)
    leaves: list[Part] = []
    if style == 0:
        for k, s in enumerate((1.0, 0.8, 0.55)):
            leaves.append(shaped("lathe", (crown * s, 0, 0.01, crown * 1.2), (0, 0, k * 0.3 - 0.2), 0))
    elif style == 1:
        for _ in range(int(rng.integers(4, 9))):
            way = np.array([*rng.normal(size=2), rng.uniform(0.2, 1.2)]) * crown
            leaves.append(tube([(0, 0, -0.15), way * 0.6, way * 1.2], (0.03, 0.02, 0.006), 1))
    elif style == 2:
        for a in np.linspace(0, 2 * np.pi, int(rng.integers(5, 9)), endpoint=False):
            c, s, droop = np.cos(a) * crown, np.sin(a) * crown, rng.uniform(0.0, 0.5)
            rows = [(0, 0, 0, 0.02, 0.01), (c * 0.7, s * 0.7, 0.15, 0.09, 0.01), (c * 1.4, s * 1.4, -droop, 0.02, 0.01)]
            leaves.append(loft(rows, 0, 0.0))
    else:
        for _ in range(int(rng.integers(1, 5))):
            c = crown * rng.uniform(0.5, 1.0)
            where = (*(rng.normal(size=2) * crown * 0.5), rng.normal() * 0.15)
            leaves.append(shaped("blob", (c, c, c * rng.uniform(0.6, 1.1), 0.5, rng.integers(10**6)), where, 0))
    top = Limb(0, vec((0, 0, high)), tuple(leaves), swing=round(float(rng.uniform(0, 0.06)), 4))
    return (Limb(-1, (0.0, 0.0, 0.0), (trunk,)), top), greens(rng, 3)


def bush(rng: np.random.Generator) -> Figure:
    """A bush, hedge, rock or heap: low, wide and ragged."""
    wide = rng.uniform(0.3, 0.8)
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        c = rng.uniform(0.2, 0.4)
        size = (c * rng.uniform(0.8, 1.4), c, c * rng.uniform(0.7, 1.2), rng.uniform(0.2, 0.6), rng.integers(10**6))
        parts.append(shaped("blob", size, (rng.uniform(-1, 1) * wide, rng.normal() * 0.1, c * 0.8), 0))
    return rigid(parts), greens(rng, 2)


def flower(rng: np.random.Generator) -> Figure:
    """Flowers, reeds or grass, in a pot or not: stems that bend in the wind."""
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (shaped("lathe", (0.1, 0, 0.18, 0.22)),) if rng.random() < 0.6 else ())]
    heads = rng.random() < 0.7
    for _ in range(int(rng.integers(2, 6))):
        tall, tilt = rng.uniform(0.5, 1.0) / 3, rng.uniform(-0.18, 0.18)
        step = (0.0, rng.uniform(-0.3, 0.3) * tall, tall)
        stem = [[tube([(0, 0, 0), step], (0.018, 0.014), 0)] for _ in range(3)]
        leaf = loft([(0, 0, 0, 0.01, 0.005), (0.12, 0, 0.1, 0.05, 0.008), (0.25, 0, 0.06, 0.01, 0.005)], 0, 0.0)
        stem[int(rng.integers(3))].append(leaf)
        if heads:
            bloom = rng.uniform(0.06, 0.16)
            stem[2].append(
                shaped("lathe", (0.01, 0, bloom, bloom * 0.5, bloom * 0.8, bloom, 0.02, bloom * 0.7), step, 1)
            )
        where = (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), 0.15)
        limbs += chain(
            0,
            where,
            stem,
            step,
            len(limbs),
            axis=(0.0, -1.0, 0.0),
            angle=float(tilt),
            swing=float(rng.uniform(0.03, 0.15)),
        )
    stuff = greens(rng, 1)
    return tuple(limbs), (stuff[0], *materials(rng, 1, 0.3))


def cactus(rng: np.random.Generator) -> Figure:
    """A cactus or candelabrum: a column with upturned arms."""
    tall, thick = rng.uniform(0.7, 1.2), rng.uniform(0.08, 0.16)
    parts = [tube([(0, 0, 0), (0, 0, tall)], (thick, thick * 0.9))]
    for side in (1, -1)[: int(rng.integers(1, 3))]:
        low, out, up = rng.uniform(0.25, 0.55) * tall, side * rng.uniform(0.2, 0.35), rng.uniform(0.15, 0.5)
        way = [(0, 0, low), (out * 0.7, 0, low), (out, 0, low + 0.1), (out, 0, low + 0.1 + up)]
        parts.append(tube(way, (thick * 0.6,) * 4))
    return rigid(parts), greens(rng, 1)


def rope(rng: np.random.Generator) -> Figure:
    """A rope, scarf, ribbon or tentacle that stands up from the ground or trails, and waves along its length."""
    count, thick = int(rng.integers(5, 9)), rng.uniform(0.02, 0.07)
    step, flat = 1.1 / count, rng.random() < 0.4
    taper = rng.uniform(0.3, 1.0)
    up = rng.random() < 0.6
    way = np.array([0, 0, step]) if up else np.array([step, 0, 0])
    segments = []
    for k in range(count):
        r = thick * (1 - (1 - taper) * k / count)
        segments.append(
            [box((0.012, r * 4, step * 1.1), way / 2, k % 2) if flat and up else bone((0, 0, 0), way, r, k % 2)]
        )
    axis = (0.0, -1.0, 0.0) if up else UP
    root = [ball(thick * 1.5, (0, 0, thick), 0)] if up else []
    start = (0, 0, thick) if up else (-0.55, 0, thick)
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(root))]
    limbs += chain(
        0,
        start,
        segments,
        vec(way),
        1,
        axis=axis,
        swing=float(rng.uniform(0.15, 0.45)),
        angle=float(rng.normal() * 0.08),
        lag=float(rng.uniform(0.08, 0.2)),
    )
    stuff = materials(rng, 1, 0.5)
    return tuple(limbs), (stuff[0], stuff[0] if rng.random() < 0.6 else materials(rng, 1)[0])


def flag(rng: np.random.Generator) -> Figure:
    """A flag, banner or washing on a pole: strips that wave one after the other."""
    tall, pieces = rng.uniform(1.0, 1.5), int(rng.integers(4, 7))
    drop, wide = rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.9)
    step = wide / pieces
    shrink = rng.uniform(0.0, 0.9) if rng.random() < 0.3 else 0.0
    segments = [
        [box((step * 1.06, 0.012, drop * (1 - shrink * k / pieces)), (step / 2, 0, -drop / 2), 1)]
        for k in range(pieces)
    ]
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (bone((0, 0, 0), (0, 0, tall), 0.02, 0),))]
    limbs += chain(
        0, (0.02, 0, tall), segments, (step, 0, 0), 1, axis=UP, swing=float(rng.uniform(0.15, 0.4)), lag=0.17
    )
    return tuple(limbs), materials(rng, 2, 0.6)


def hose(rng: np.random.Generator) -> Figure:
    """A bent tube, arch, hook, spring or coil."""
    style, thick = rng.integers(3), rng.uniform(0.04, 0.12)
    if style == 0:
        knots = np.cumsum(rng.normal(size=(5, 3)) * [0.35, 0.2, 0.3], axis=0)
        t = np.linspace(0, 4, 17)
        points = np.stack([np.interp(t, range(5), knots[:, k]) for k in range(3)], 1)
        points = np.stack([np.convolve(np.pad(points[:, k], 2, "edge"), np.ones(5) / 5, "valid") for k in range(3)], 1)
    elif style == 1:
        t = np.linspace(0, 2 * np.pi * rng.uniform(1.5, 4), 40)
        thick *= 0.6
        points = np.stack([0.3 * np.cos(t), 0.3 * np.sin(t), t * rng.uniform(0.03, 0.06)], 1)
    else:
        t = np.linspace(0, np.pi * rng.uniform(0.8, 1.5), 12)
        points = np.stack([0.45 * np.cos(t), 0 * t, 0.3 + 0.6 * np.sin(t)], 1)
    points[:, 2] += thick - points[:, 2].min()
    return rigid([tube(points, [thick] * len(points))]), materials(rng, 1, 0.6)


def balloon(rng: np.random.Generator) -> Figure:
    """A balloon, kite or lantern on a string, or a bunch of them."""
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (ball(0.03, (0, 0, 0.03), 1),))]
    for k in range(int(rng.integers(1, 4))):
        size, lean = rng.uniform(0.14, 0.24), rng.uniform(-0.25, 0.25)
        step = (0.0, 0.0, 0.28)
        string = [[bone((0, 0, 0), step, 0.008, 1)] for _ in range(3)]
        if rng.random() < 0.75:
            string[2].append(ball((size * 0.85, size * 0.85, size), (0, 0, 0.28 + size), 0 if k % 2 == 0 else 2))
        else:
            kite = (0.01, 0, 0, size, size, 0, 2.4 * size, -size, size)
            string[2].append(shaped("polygon", kite, step, 0))
        axis = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0))[k % 2]
        limbs += chain(0, (0, 0, 0.03), string, step, len(limbs), axis=axis, angle=float(lean), swing=0.1)
    return tuple(limbs), materials(rng, 3, 0.3)


def hanging(rng: np.random.Generator) -> Figure:
    """Something on a rope or chain: a tyre, swing, lamp, sign, sack or bell; the origin is the fixed upper end."""
    long, pieces = rng.uniform(0.5, 1.0), 3
    step = (0.0, 0.0, -long / pieces)
    segments = [[bone((0, 0, 0), step, 0.015, 1)] for _ in range(pieces)]
    size, style = rng.uniform(0.15, 0.35), rng.integers(6)
    load = [
        [shaped("torus", (size, size * 0.35), (0, 0, -long / pieces - size), 0)],
        [box((size * 2, size, 0.05), (0, 0, -long / pieces - 0.03), 0)],
        [shaped("lathe", (size, -size, size * 0.4, 0), step, 0)],
        [box((size * 2, 0.05, size * 1.2), (0, 0, -long / pieces - size * 0.6), 0)],
        [shaped("lathe", (size * 0.5, -size * 2.5, size * 0.6, -size, size * 0.4, 0), step, 0)],
        [ball(size, (0, 0, -long / pieces - size), 0)],
    ][style]
    segments[-1] += load
    limbs = [Limb(-1, (0.0, 0.0, 0.0), ())]
    limbs += chain(
        0, (0, 0, 0), segments, step, 1, axis=(0.0, -1.0, 0.0), swing=float(rng.uniform(0.05, 0.35)), lag=0.04
    )
    return tuple(limbs), materials(rng, 2, 0.5)


def curtain(rng: np.random.Generator) -> Figure:
    """A curtain, sheet or vertical blind whose strips sway."""
    count, tall, wide = int(rng.integers(5, 10)), rng.uniform(1.0, 1.8), rng.uniform(0.1, 0.2)
    gap = rng.uniform(0.8, 1.3)
    span = count * wide * gap
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (bone((-span / 2, 0, tall), (span / 2, 0, tall), 0.025, 1),))]
    for k in range(count):
        strip = box((wide, 0.02, tall * 0.97), (0, 0, -tall * 0.485), 0, about(UP, float(rng.normal() * 0.4)))
        where = vec((-span / 2 + (k + 0.5) * wide * gap, 0, tall))
        limbs.append(Limb(0, where, (strip,), axis=ACROSS, swing=0.07, phase=round(k * 0.08, 3)))
    return tuple(limbs), materials(rng, 2, 0.7)
