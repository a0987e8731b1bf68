"""Things of the household that a hand could hold: vessels, tools, fruit, toys, bags, instruments.

All stand on z = 0 and are of the order of 1 high or wide.
"""

from __future__ import annotations

import numpy as np

from diffvas.world.building import (
    ACROSS,
    Figure,
    about,
    ball,
    bone,
    box,
    loft,
    material,
    materials,
    rigid,
    shaped,
    tube,
)
from diffvas.world.spec import Part


def vessel(rng: np.random.Generator) -> Figure:
    """Something turned on a lathe: bottle, vase, chess piece, pot; sometimes with a handle."""
    count = int(rng.integers(4, 9))
    height = np.linspace(0, rng.uniform(0.7, 1.3), count)
    radius = np.clip(0.22 + 0.16 * np.cumsum(rng.normal(size=count)) / np.sqrt(count), 0.05, 0.45)
    if rng.random() < 0.4:  # bottle: a wide body and a thin neck
        radius = np.where(np.arange(count) < count * 0.6, rng.uniform(0.18, 0.3), rng.uniform(0.05, 0.1))
    parts = [shaped("lathe", np.stack([radius, height], 1).reshape(-1))]
    if rng.random() < 0.35:
        ring = rng.uniform(0.12, 0.25)
        parts.append(shaped("torus", (ring, 0.035), (radius[count // 2], 0, height[count // 2]), 1))
    return rigid(parts), materials(rng, 2)


def cup(rng: np.random.Generator) -> Figure:
    """A cup, mug, jug or bowl: open at the top, with a handle, a saucer or what is in it."""
    low, rim, tall = rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.9)
    wall = 0.03
    profile = (low, 0, (low + rim) / 2 * rng.uniform(0.9, 1.2), tall / 2, rim, tall, rim - wall, tall, low - wall, 0.06)
    parts = [shaped("lathe", profile)]
    if rng.random() < 0.6:
        reach, a, b = rng.uniform(0.15, 0.3), tall * 0.2, tall * 0.8
        middle = (low + rim) / 2
        way = [(middle * 0.95, 0, b), (middle + reach, 0, b), (middle + reach, 0, a), (middle * 0.95, 0, a)]
        parts.append(tube(way, (0.035,) * 4, 0))
    if rng.random() < 0.2:
        parts.append(shaped("lathe", (low, 0.0, rim * 1.6, 0.05, rim * 1.55, 0.07, low, 0.02), (0, 0, 0), 1))
    if rng.random() < 0.3:
        parts += [
            bone((0, 0, 0.1), (*rng.uniform(-0.3, 0.3, 2), tall + rng.uniform(0.2, 0.5)), 0.02, 1) for _ in range(3)
        ]
    return rigid(parts), materials(rng, 2)


def goblet(rng: np.random.Generator) -> Figure:
    """A stemmed glass, a trophy or a candlestick."""
    foot, stem, bowl = rng.uniform(0.18, 0.3), rng.uniform(0.025, 0.05), rng.uniform(0.18, 0.35)
    a, b, c = 0.04, rng.uniform(0.35, 0.6), rng.uniform(0.8, 1.1)
    profile = (foot, 0, stem, a, stem, b, bowl, (b + c) / 2, bowl * rng.uniform(0.7, 1.1), c)
    parts = [shaped("lathe", profile)]
    if rng.random() < 0.35:
        parts += [
            tube(
                [(s * bowl * 0.8, 0, b + 0.1), (s * bowl * 1.5, 0, (b + c) / 2), (s * bowl * 0.8, 0, c - 0.05)],
                (0.02,) * 3,
            )
            for s in (1, -1)
        ]
    return rigid(parts), materials(rng, 1, 0.4)


def teapot(rng: np.random.Generator) -> Figure:
    """A teapot, kettle or watering can: a belly, a spout, a handle and a lid."""
    fat, tall = rng.uniform(0.28, 0.4), rng.uniform(0.35, 0.6)
    profile = (fat * 0.7, 0, fat, tall * 0.4, fat * 0.85, tall * 0.75, fat * 0.45, tall)
    out = rng.uniform(0.15, 0.4)
    spout = [(fat * 0.8, 0, tall * 0.3), (fat + out * 0.5, 0, tall * 0.5), (fat + out, 0, tall * rng.uniform(0.8, 1.2))]
    parts = [shaped("lathe", profile), tube(spout, (0.09, 0.06, 0.035)), ball(0.05, (0, 0, tall + 0.05), 1)]
    if rng.random() < 0.5:
        arc = [
            (-fat * 0.7, 0, tall * 0.8),
            (-fat * 0.4, 0, tall * 1.5),
            (fat * 0.4, 0, tall * 1.5),
            (fat * 0.7, 0, tall * 0.8),
        ]
    else:
        arc = [
            (-fat * 0.8, 0, tall * 0.75),
            (-fat * 1.5, 0, tall * 0.7),
            (-fat * 1.4, 0, tall * 0.3),
            (-fat * 0.9, 0, tall * 0.25),
        ]
    parts.append(tube(arc, (0.03,) * 4, 1))
    return rigid(parts), materials(rng, 2, 0.4)


def fruit(rng: np.random.Generator) -> Figure:
    """A banana, apple, pear, carrot, mushroom or bunch of grapes."""
    style = rng.integers(5)
    if style == 0:
        turn = np.linspace(-1.1, 1.1, 6)
        radii = 0.12 * np.array([0.35, 0.85, 1, 1, 0.8, 0.3])
        parts = [tube([(0.5 * np.sin(t), 0, 0.62 - 0.5 * np.cos(t)) for t in turn], radii)]
    elif style == 1:
        wide, top = rng.uniform(0.3, 0.45), rng.uniform(0.15, 0.35)
        parts = [
            shaped("lathe", (0.1, 0, wide, 0.25, wide, 0.45, top, 0.7, 0.08, 0.78)),
            bone((0, 0, 0.7), (0.05, 0, 0.95), 0.02, 1),
        ]
    elif style == 2:
        parts = [tube([(-0.6, 0, 0.1), (0, 0, 0.14), (0.4, 0, 0.16)], (0.02, 0.12, 0.16))]
        parts += [tube([(0.45, 0, 0.2), (0.8, y, 0.3 + abs(y))], (0.03, 0.01), 1) for y in (-0.2, 0.0, 0.2)]
    elif style == 3:
        cap = rng.uniform(0.3, 0.5)
        parts = [
            shaped("lathe", (0.14, 0, 0.1, 0.5)),
            shaped("lathe", (cap * 0.6, 0.4, cap, 0.45, cap * 0.7, 0.7, 0.05, 0.8), (0, 0, 0), 1),
        ]
    else:
        parts = [ball(0.13, (*rng.normal(size=2) * 0.08 * (1 + k / 6), 0.15 + 0.08 * k)) for k in range(9)]
        parts.append(bone((0, 0, 0.8), (0, 0, 1.05), 0.02, 1))
    return rigid(parts), materials(rng, 2, 0.4)


def tool(rng: np.random.Generator) -> Figure:
    """A hammer, saw, key, spanner, scissors, spoon or brush: something flat or long, standing on its end."""
    style, long = rng.integers(6), rng.uniform(0.7, 1.1)
    if style == 0:
        parts = [bone((0, 0, 0), (0, 0, long), 0.04), bone((-0.2, 0, long), (0.18, 0, long), 0.08, 1, "cylinder")]
    elif style == 1:
        blade = (
            [0.0, 0.3, 0.06, 0.3]
            + [v for k in range(8) for v in (0.1 + 0.05 * (k % 2), 0.35 + 0.08 * k)]
            + [0, long + 0.1]
        )
        parts = [shaped("polygon", (0.015, *blade), (0, 0, 0), 1), shaped("torus", (0.13, 0.04), (0.02, 0, 0.17))]
    elif style == 2:
        bits = [v for k in range(4) for v in (0.12, 0.1 * k, 0.04, 0.1 * k + 0.05)]
        shaft = (-0.03, 0, *bits, 0.03, long * 0.7, -0.03, long * 0.7)
        parts = [shaped("polygon", (0.03, *shaft)), shaped("torus", (0.14, 0.045), (0, 0, long * 0.7 + 0.14))]
    elif style == 3:
        parts = [
            tube(
                [(s * 0.25, 0, 0.1), (0, 0, long * 0.5), (-s * rng.uniform(0.05, 0.25), 0, long)], (0.03, 0.04, 0.01), 1
            )
            for s in (1, -1)
        ]
        parts += [shaped("torus", (0.12, 0.035), (s * 0.25, 0, 0.12)) for s in (1, -1)]
    elif style == 4:
        parts = [tube([(0, 0, 0), (0, 0, long)], (0.03, 0.04)), ball((0.14, 0.06, 0.2), (0, 0, long + 0.1), 1)]
    else:
        teeth = (
            0.14,
            0.0,
            0.1,
            0.1,
            -0.1,
            0.1,
            -0.14,
            0.0,
            -0.18,
            0.15,
            -0.05,
            0.25,
            -0.05,
            long,
            0.05,
            long,
            0.05,
            0.25,
            0.18,
            0.15,
        )
        parts = [shaped("polygon", (0.03, *teeth))]
    return rigid(parts), materials(rng, 2, 0.3)


def bag(rng: np.random.Generator) -> Figure:
    """A suitcase, handbag, basket, sack or bucket."""
    wide, deep, tall = rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.35), rng.uniform(0.35, 0.9)
    style = rng.integers(4)
    if style == 0:
        parts = [shaped("superquadric", (wide / 2, deep / 2, tall / 2, 0.25, 0.25), (0, 0, tall / 2))]
    elif style == 1:
        parts = [
            loft(
                [
                    (0, 0, 0, deep * 0.6, wide * 0.5),
                    (0, 0, tall * 0.5, deep * 0.55, wide * 0.55),
                    (0, 0, tall, 0.03, wide * 0.35),
                ],
                0,
                0.1,
            )
        ]
    elif style == 2:
        parts = [shaped("lathe", (wide * 0.35, 0, wide * 0.5, tall, wide * 0.46, tall, wide * 0.3, 0.05))]
    else:
        parts = [
            shaped("blob", (wide / 2, deep, tall / 2, 0.25, rng.integers(10**6)), (0, 0, tall / 2)),
            ball(0.1, (0, 0, tall + 0.03), 1),
        ]
    if style < 3:
        arc = [
            (-wide * 0.3, 0, tall * 0.95),
            (-wide * 0.2, 0, tall * 1.3),
            (wide * 0.2, 0, tall * 1.3),
            (wide * 0.3, 0, tall * 0.95),
        ]
        parts.append(tube(arc, (0.02,) * 4, 1))
    return rigid(parts), materials(rng, 2, 0.6)


def books(rng: np.random.Generator) -> Figure:
    """Books, boxes or plates: a pile, or a row that leans."""
    parts, level = [], 0.0
    if rng.random() < 0.5:
        for k in range(int(rng.integers(2, 8))):
            thick = rng.uniform(0.04, 0.16)
            turn = about((0, 0, 1), float(rng.normal() * 0.3))
            parts.append(
                box(
                    (rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.55), thick),
                    (*rng.normal(size=2) * 0.03, level + thick / 2),
                    k % 3,
                    turn,
                )
            )
            level += thick
    else:
        x, lean = -0.4, float(rng.uniform(-0.25, 0.25))
        for k in range(int(rng.integers(3, 8))):
            thick, tall = rng.uniform(0.05, 0.14), rng.uniform(0.4, 0.8)
            parts.append(box((thick, 0.4, tall), (x, 0, tall / 2), k % 3, about((0, 1, 0), lean)))
            x += thick * 1.05
    return rigid(parts), materials(rng, 3, 0.5)


def plush(rng: np.random.Generator) -> Figure:
    """A teddy bear, doll or snowman: a toy of round parts, sitting or standing."""
    fat, head = rng.uniform(0.2, 0.3), rng.uniform(0.16, 0.28)
    limb = rng.uniform(0.07, 0.12)
    parts: list[Part] = [
        ball((fat * 0.85, fat, fat * 1.2), (0, 0, 0.35)),
        ball(head, (0.03, 0, 0.4 + fat + head * 0.8)),
    ]
    high = 0.4 + fat + head * 0.8
    ear, spread = head * rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.0)
    for s in (1, -1):
        parts.append(ball((ear * 0.5, ear, ear * rng.uniform(1, 3)), (0, s * head * spread, high + head * 0.8), 1))
        parts.append(
            tube([(0, s * fat * 0.9, 0.5), (0.12, s * (fat + 0.15), rng.uniform(0.2, 0.7))], (limb, limb * 0.9))
        )
        parts.append(
            tube([(0.05, s * fat * 0.6, 0.15), (rng.uniform(0.05, 0.4), s * fat * 0.8, limb)], (limb * 1.2, limb * 1.1))
        )
    parts.append(ball((head * 0.45, head * 0.4, head * 0.35), (head * 0.9, 0, high - head * 0.2), 1))
    return rigid(parts), materials(rng, 2, 0.4)


def instrument(rng: np.random.Generator) -> Figure:
    """A guitar or violin, a drum, a horn, a racket, a clock."""
    style = rng.integers(4)
    if style == 0:
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = 0.24 + 0.05 * np.cos(2 * turn) - 0.05 * np.sin(turn) - 0.03 * np.cos(4 * turn)
        body = np.stack([radius * np.cos(turn), 0.3 + 1.1 * radius * np.sin(turn)], 1)
        parts = [
            shaped("polygon", (0.06, *body.reshape(-1))),
            box((0.06, 0.05, 0.6), (0, 0, 0.8), 1),
            box((0.11, 0.04, 0.14), (0, 0, 1.12), 1),
        ]
    elif style == 1:
        parts = [
            shaped("lathe", (0.4, 0, 0.4, rng.uniform(0.3, 0.6))),
            shaped("lathe", (0.43, 0.25, 0.43, 0.35), (0, 0, 0), 1),
        ]
        parts += [bone((s * 0.1, 0, 0.5), (s * 0.5, 0, 0.9), 0.02, 1) for s in (1, -1)]
    elif style == 2:
        turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        rim = np.stack(
            [0.26 * np.cos(turn), 0.72 + 0.34 * np.sin(turn), 0.22 * np.cos(turn), 0.72 + 0.3 * np.sin(turn)], 1
        )
        parts = [shaped("plate", (0.025, *rim.reshape(-1))), bone((0, 0, 0), (0, 0, 0.4), 0.035, 1)]
        parts += [bone((x, 0, 0.5), (x, 0, 0.94), 0.006, 1) for x in (-0.1, 0.0, 0.1)]
        parts += [bone((-0.2, 0, z), (0.2, 0, z), 0.006, 1) for z in (0.62, 0.72, 0.82)]
    else:
        parts = [bone((0, -0.05, 0.45), (0, 0.05, 0.45), 0.4, 0, "cylinder")]
        parts += [bone((0, -0.07, 0.45), (x, -0.07, z), 0.02, 1) for x, z in ((0.2, 0.6), (-0.05, 0.75))]
        parts += [bone((s * 0.2, 0, 0.1), (s * 0.3, 0, 0.0), 0.03, 1) for s in (1, -1)]
    return rigid(parts), materials(rng, 2, 0.5)


def device(rng: np.random.Generator) -> Figure:
    """A screen, laptop, telephone, radio or camera on a tripod."""
    wide, tall = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.6)
    style = rng.integers(4)
    if style == 0:
        parts = [
            box((wide, 0.05, tall), (0, 0, tall / 2 + 0.18)),
            box((wide * 0.92, 0.06, tall * 0.88), (0, -0.005, tall / 2 + 0.18), 1),
        ]
        parts += [bone((0, 0, 0), (0, 0, 0.2), 0.03), box((0.3, 0.2, 0.03), (0, 0, 0.015))]
    elif style == 1:
        lid = about(ACROSS, float(rng.uniform(-0.5, 0.1)))
        parts = [
            box((wide, wide * 0.7, 0.04), (0, 0, 0.02)),
            box((wide, 0.03, wide * 0.65), (0, wide * 0.4, wide * 0.33), 1, lid),
        ]
    elif style == 2:
        parts = [
            shaped("superquadric", (wide / 2, 0.12, tall / 2, 0.2, 0.2), (0, 0, tall / 2)),
            bone((wide * 0.4, 0, tall), (wide * 0.6, 0, tall + 0.4), 0.012, 1),
        ]
        parts += [
            bone((s * wide * 0.25, -0.1, tall / 2), (s * wide * 0.25, -0.15, tall / 2), tall * 0.28, 1, "cylinder")
            for s in (1, -1)
        ]
    else:
        parts = [box((0.25, 0.15, 0.17), (0, 0, 0.95)), bone((0, -0.05, 0.95), (0, -0.25, 0.95), 0.07, 1, "cylinder")]
        parts += [bone((0, 0, 0.88), (0.35 * np.cos(a), 0.35 * np.sin(a), 0), 0.018, 1) for a in (0.5, 2.6, 4.7)]
    return rigid(parts), materials(rng, 2, 0.3)


def letter(rng: np.random.Generator) -> Figure:
    """A letter, arrow, cross, crescent or cog cut from a board: notched outlines with meaning."""
    half, style = rng.uniform(0.05, 0.2), rng.integers(5)
    w = rng.uniform(0.12, 0.22)
    if style == 0:
        points = [(-0.4, 0), (0.4, 0), (0.4, w), (-0.4 + w, w), (-0.4 + w, 1), (-0.4, 1)]
    elif style == 1:
        points = [(-w, 0), (w, 0), (w, 0.5), (0.45, 0.5), (0, 1), (-0.45, 0.5), (-w, 0.5)]
    elif style == 2:
        points = [
            (-w, 0),
            (w, 0),
            (w, 0.5 - w),
            (0.5, 0.5 - w),
            (0.5, 0.5 + w),
            (w, 0.5 + w),
            (w, 1),
            (-w, 1),
            (-w, 0.5 + w),
            (-0.5, 0.5 + w),
            (-0.5, 0.5 - w),
            (-w, 0.5 - w),
        ]
    elif style == 3:
        turn = np.linspace(0.6, 2 * np.pi - 0.6, 14)
        thin = rng.uniform(0.5, 0.8)
        points = [
            *((0.5 * np.cos(t), 0.5 + 0.5 * np.sin(t)) for t in turn),
            *((0.5 * thin * np.cos(t), 0.5 + 0.5 * thin * np.sin(t)) for t in turn[::-1]),
        ]
    else:
        teeth = int(rng.integers(6, 12))
        turn = np.linspace(0, 2 * np.pi, 4 * teeth, endpoint=False)
        radius = np.where(np.arange(4 * teeth) % 4 < 2, 0.5, 0.38)
        points = list(np.stack([radius * np.cos(turn), 0.5 + radius * np.sin(turn)], 1))
    return rigid([shaped("polygon", (half, *np.asarray(points).reshape(-1)))]), (material(rng, 0.6),)
