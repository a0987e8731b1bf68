"""Plain bodies, furniture, and what stands in the way.

All stand on z = 0 and are of the order of 1 high or wide.
"""

from __future__ import annotations

import numpy as np

from diffvas.world.building import ACROSS, UP, Figure, about, ball, bone, box, loft, materials, rigid, shaped, vec
from diffvas.world.spec import Limb, Part


def simple(rng: np.random.Generator) -> Figure:
    """One primitive."""
    a, b, c = rng.uniform(0.25, 0.6, size=3)
    parts = [
        box((2 * a, 2 * b, 2 * c), (0, 0, c)),
        ball(float(c), (0, 0, c)),
        ball((float(a), float(b), float(c)), (0, 0, c)),
        bone((0, 0, 0), (0, 0, 2 * c), float(a), kind="cylinder"),
        bone((-a, 0, b * 0.6), (a, 0, b * 0.6), float(b * 0.6)),
        shaped("torus", (c, c * rng.uniform(0.15, 0.4)), (0, 0, c * 1.2)),
        shaped("lathe", (a, 0, 0.001, 2 * c)),
    ]
    return rigid([parts[rng.integers(len(parts))]]), materials(rng, 1, 0.7)


def solid(rng: np.random.Generator) -> Figure:
    """A superquadric or a lumpy stone."""
    a, b, c = rng.uniform(0.25, 0.6, size=3)
    if rng.random() < 0.5:
        part = shaped("superquadric", (a, b, c, rng.uniform(0.15, 2.2), rng.uniform(0.15, 2.2)), (0, 0, c))
    else:
        part = shaped("blob", (a, b, c, rng.uniform(0.2, 0.6), rng.integers(10**6)), (0, 0, c * 1.2))
    return rigid([part]), materials(rng, 1, 0.7)


def outline(rng: np.random.Generator) -> Figure:
    """A cut-out of soft lobes, extruded."""
    turn = np.linspace(0, 2 * np.pi, int(rng.integers(16, 40)), endpoint=False)
    radius = 1 + sum(rng.uniform(-0.3, 0.3) * np.sin(k * turn + rng.uniform(0, 6.3)) for k in range(1, 7))
    radius = np.maximum(radius, 0.2) * 0.5
    points = np.stack([rng.uniform(0.6, 1.4) * radius * np.cos(turn), radius * np.sin(turn)], 1)
    points[:, 1] -= points[:, 1].min()
    return rigid([shaped("outline", (rng.uniform(0.03, 0.3), *points.reshape(-1)))]), materials(rng, 1, 0.8)


def stack(rng: np.random.Generator) -> Figure:
    """A random pile or cross of primitives: no known thing, but with many notches."""
    parts: list[Part] = []
    level = 0.0
    for index in range(int(rng.integers(2, 6))):
        a, b, c = rng.uniform(0.08, 0.38, size=3)
        shift = rng.uniform(-0.2, 0.2, size=2)
        tilt = about(ACROSS, float(rng.uniform(-0.5, 0.5)))
        kind = rng.integers(4)
        where = (shift[0], shift[1], level + c)
        parts.append(
            [
                box((2 * a, 2 * b, 2 * c), where, index % 3, tilt),
                ball((float(a), float(b), float(c)), where, index % 3),
                bone(
                    (shift[0] - a, shift[1], level + c), (shift[0] + a, shift[1], level + c), float(c * 0.7), index % 3
                ),
                bone((*shift, level), (*shift, level + 2 * c), float(a), index % 3, "cylinder"),
            ][kind]
        )
        level += 1.7 * c if rng.random() < 0.75 else 0.0
    return rigid(parts), materials(rng, 3)


def chair(rng: np.random.Generator) -> Figure:
    """A chair, stool, bench or armchair."""
    wide, deep, seat = rng.uniform(0.4, 1.1), rng.uniform(0.4, 0.5), rng.uniform(0.38, 0.5)
    thin = rng.uniform(0.02, 0.045)
    parts = [box((deep, wide, rng.uniform(0.03, 0.14)), (0, 0, seat), 0)]
    for x in (-1, 1):
        for y in (-1, 1):
            parts.append(bone((x * deep * 0.44, y * wide * 0.46, 0), (x * deep * 0.44, y * wide * 0.46, seat), thin, 1))
    back = rng.uniform(0.35, 0.6)
    style = rng.integers(4)
    if style == 0:
        parts.append(box((0.05, wide, back), (-deep / 2, 0, seat + back / 2), 0))
    elif style <= 2:
        parts += [
            bone((-deep / 2, y * wide * 0.46, seat), (-deep / 2 - 0.05, y * wide * 0.46, seat + back), thin, 1)
            for y in np.linspace(-1, 1, int(rng.integers(2, 6)))
        ]
        parts.append(box((0.05, wide, rng.uniform(0.05, 0.2)), (-deep / 2 - 0.04, 0, seat + back), 1))
    if rng.random() < 0.35:
        parts += [box((deep, 0.06, 0.05), (0, y * wide / 2, seat + 0.22), 1) for y in (-1, 1)]
        parts += [
            bone((deep * 0.4, y * wide / 2, seat), (deep * 0.4, y * wide / 2, seat + 0.22), thin, 1) for y in (-1, 1)
        ]
    return rigid(parts), materials(rng, 2, 0.4)


def table(rng: np.random.Generator) -> Figure:
    """A table, sometimes laid with things."""
    wide, deep, high = rng.uniform(0.7, 1.6), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.8)
    thin = rng.uniform(0.025, 0.05)
    if rng.random() < 0.3:
        parts = [
            bone((0, 0, high), (0, 0, high + 0.04), wide / 2, 0, "cylinder"),
            bone((0, 0, 0), (0, 0, high), 0.05, 1),
            bone((0, 0, 0), (0, 0, 0.03), wide * 0.3, 1, "cylinder"),
        ]
    else:
        parts = [box((wide, deep, 0.06), (0, 0, high), 0)]
        parts += [
            bone((x * wide * 0.45, y * deep * 0.45, 0), (x * wide * 0.45, y * deep * 0.45, high), thin, 1)
            for x in (-1, 1)
            for y in (-1, 1)
        ]
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.3, 0.3) * wide, rng.uniform(-0.3, 0.3) * deep
        c = rng.uniform(0.06, 0.16)
        parts.append(
            box((c, c, 2 * c), (x, y, high + c), 2) if rng.random() < 0.5 else ball(float(c), (x, y, high + c), 2)
        )
    return rigid(parts), materials(rng, 3, 0.4)


def lamp(rng: np.random.Generator) -> Figure:
    """A lamp, a street light or a sign post."""
    high, foot = rng.uniform(0.9, 1.5), rng.uniform(0.1, 0.25)
    parts = [
        bone((0, 0, 0), (0, 0, high), rng.uniform(0.015, 0.04), 0),
        bone((0, 0, 0), (0, 0, 0.05), foot, 0, "cylinder"),
    ]
    style = rng.integers(4)
    if style == 0:
        parts.append(shaped("lathe", (foot * 1.6, 0, foot * rng.uniform(0.5, 1.0), 0.3), (0, 0, high - 0.1), 1))
    elif style == 1:
        parts += [bone((0, 0, high), (0.35, 0, high + 0.1), 0.02), ball((0.15, 0.06, 0.05), (0.4, 0, high + 0.08), 1)]
    elif style == 2:
        parts.append(bone((-0.02, 0, high), (0.02, 0, high), rng.uniform(0.15, 0.3), 1, "cylinder"))
    else:
        parts.append(box((0.04, rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.4)), (0, 0, high), 1))
    return rigid(parts), materials(rng, 2, 0.4)


def post(rng: np.random.Generator) -> Figure:
    """A post or column, high enough to leave the frame at the top."""
    radius = float(rng.uniform(0.04, 0.2))
    part = (
        bone((0, 0, 0), (0, 0, 3), radius, 0, "cylinder")
        if rng.random() < 0.6
        else box((radius * 2, radius * 2, 3), (0, 0, 1.5))
    )
    return rigid([part]), materials(rng, 1, 0.7)


def board(rng: np.random.Generator) -> Figure:
    """A board, wall piece, sign or crate."""
    wide, high = rng.uniform(0.4, 1.3), rng.uniform(0.35, 1.3)
    parts = [box((wide, rng.uniform(0.03, 0.4), high), (0, 0, high / 2 + rng.choice([0.0, 0.0, 0.4])))]
    if rng.random() < 0.3:
        parts.append(bone((0, 0, 0), (0, 0, high), 0.03, 1))
    return rigid(parts), materials(rng, 2, 0.8)


def fence(rng: np.random.Generator) -> Figure:
    """Slats or a grid, through which one sees pieces of what is behind."""
    count, step, high = int(rng.integers(4, 12)), rng.uniform(0.12, 0.35), rng.uniform(0.5, 1.3)
    slat = step * rng.uniform(0.15, 0.6)
    span = (count - 1) * step
    parts = [box((slat, 0.03, high), (k * step - span / 2, 0, high / 2), 0) for k in range(count)]
    parts += [box((span + slat, 0.03, 0.06), (0, 0.02, high * s), 1) for s in (0.25, 0.8)]
    return rigid(parts), materials(rng, 2, 0.4)


def arch(rng: np.random.Generator) -> Figure:
    """A gate, a window frame or a ring to look through."""
    wide, high, thick = rng.uniform(0.6, 1.4), rng.uniform(0.8, 1.4), rng.uniform(0.08, 0.25)
    if rng.random() < 0.3:
        return rigid([shaped("torus", (wide / 2, thick * 0.6), (0, 0, wide / 2 + thick))]), materials(rng, 1, 0.7)
    parts = [box((thick, 0.1, high), (s * wide / 2, 0, high / 2)) for s in (-1, 1)]
    parts.append(box((wide + thick, 0.1, thick), (0, 0, high)))
    return rigid(parts), materials(rng, 1, 0.7)


def star(rng: np.random.Generator) -> Figure:
    """A spiky cut-out: a star, sun, splash or leaf."""
    count = 2 * int(rng.integers(4, 14))
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = np.where(np.arange(count) % 2 == 0, 1.0, rng.uniform(0.3, 0.75)) * rng.uniform(0.75, 1.2, size=count) * 0.5
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
    points[:, 1] -= points[:, 1].min()
    return rigid([shaped("outline", (rng.uniform(0.03, 0.3), *points.reshape(-1)))]), materials(rng, 1, 0.8)


def stool(rng: np.random.Generator) -> Figure:
    """A stool, bar stool, side table or pouf."""
    wide, seat, legs = rng.uniform(0.18, 0.32), rng.uniform(0.35, 0.9), int(rng.integers(1, 5))
    parts = [bone((0, 0, seat), (0, 0, seat + rng.uniform(0.03, 0.15)), wide, 0, "cylinder")]
    if legs == 1:
        parts += [bone((0, 0, 0), (0, 0, seat), 0.03, 1), bone((0, 0, 0), (0, 0, 0.03), wide * 0.8, 1, "cylinder")]
    elif legs == 2:
        parts = [shaped("superquadric", (wide, wide, seat / 2, rng.uniform(0.2, 0.6), 1), (0, 0, seat / 2))]
    else:
        feet = [(1.15 * wide * np.cos(a), 1.15 * wide * np.sin(a), 0) for a in np.linspace(0.4, 6.7, legs + 1)[:-1]]
        parts += [bone(foot, (0.7 * foot[0], 0.7 * foot[1], seat), 0.025, 1) for foot in feet]
    return rigid(parts), materials(rng, 2, 0.5)


def sofa(rng: np.random.Generator) -> Figure:
    """A sofa, armchair or bed, with cushions."""
    wide, deep, seat = rng.uniform(0.7, 1.9), rng.uniform(0.6, 0.8), rng.uniform(0.25, 0.4)
    back, arm = rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.18)
    round_edges = rng.uniform(0.15, 0.5)

    def pad(x: float, y: float, z: float, where: tuple[float, float, float], stuff: int = 0) -> Part:
        return shaped("superquadric", (x / 2, y / 2, z / 2, round_edges, round_edges), where, stuff)

    parts = [pad(deep, wide, seat, (0, 0, seat / 2)), pad(0.18, wide, seat + back, (-deep / 2, 0, (seat + back) / 2))]
    parts += [pad(deep, arm, seat + 0.2, (0, s * wide / 2, (seat + 0.2) / 2)) for s in (1, -1)]
    for _ in range(int(rng.integers(0, 4))):
        y = rng.uniform(-0.4, 0.4) * wide
        parts.append(pad(0.14, 0.3, 0.3, (-deep * 0.25, y, seat + 0.14), 1))
    return rigid(parts), materials(rng, 2, 0.5)


def shelf(rng: np.random.Generator) -> Figure:
    """A shelf, rack or bookcase with things on it, open or with a back."""
    wide, tall, deep = rng.uniform(0.5, 1.2), rng.uniform(0.7, 1.6), rng.uniform(0.2, 0.35)
    levels = int(rng.integers(2, 6))
    parts = [box((0.04, deep, tall), (s * wide / 2, 0, tall / 2), 0) for s in (1, -1)]
    parts += [box((wide, deep, 0.035), (0, 0, tall * k / levels + 0.02), 0) for k in range(levels + 1)]
    if rng.random() < 0.4:
        parts.append(box((wide, 0.02, tall), (0, deep / 2, tall / 2), 0))
    room = tall / levels
    for k in range(levels):
        for _ in range(int(rng.integers(0, 4))):
            a, high = rng.uniform(0.04, 0.12), rng.uniform(0.3, 0.85) * room / 2
            where = (rng.uniform(-0.42, 0.42) * wide, 0, room * k + 0.04 + high)
            stuff = int(rng.integers(1, 3))
            part = box((2 * a, 0.15, 2 * high), where, stuff)
            parts.append(
                part
                if rng.random() < 0.6
                else bone(np.subtract(where, (0, 0, high)), np.add(where, (0, 0, high)), float(a), stuff, "cylinder")
            )
    return rigid(parts), materials(rng, 3, 0.4)


def cabinet(rng: np.random.Generator) -> Figure:
    """A cupboard, chest of drawers, fridge, oven, bin or telephone box."""
    wide, tall, deep = rng.uniform(0.35, 1.0), rng.uniform(0.5, 1.3), rng.uniform(0.3, 0.5)
    parts = [box((wide, deep, tall), (0, 0, tall / 2 + 0.05), 0)]
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    for k in range(rows):
        for j in range(columns):
            x, z = ((j + 0.5) / columns - 0.5) * wide, (k + 0.5) * tall / rows + 0.05
            parts.append(box((wide / columns * 0.88, 0.03, tall / rows * 0.86), (x, -deep / 2, z), 1))
            parts.append(ball(0.02, (x + wide / columns * 0.3, -deep / 2 - 0.03, z), 2))
    parts += [
        bone((x * wide * 0.42, y * deep * 0.4, 0), (x * wide * 0.42, y * deep * 0.4, 0.08), 0.03, 2)
        for x in (1, -1)
        for y in (1, -1)
    ]
    return rigid(parts), materials(rng, 3, 0.4)


def wheel(rng: np.random.Generator) -> Figure:
    """Something round that rolls about its y axis, its origin in the middle: ball, tyre, barrel, wheel, coin."""
    style, radius = rng.integers(5), 0.5
    if style == 0:
        parts = [ball(radius, (0, 0, 0))]
    elif style == 1:
        tube = rng.uniform(0.2, 0.4)
        parts = [shaped("torus", (radius * (1 - tube), radius * tube), (0, 0, 0))]
    elif style == 2:
        half = rng.uniform(0.3, 0.6)
        barrel = (radius * 0.8, -half, radius, 0, radius * 0.8, half)
        parts = [shaped("lathe", barrel, (0, 0, 0), 0, about(ACROSS, np.pi / 2))]
        parts += [shaped("torus", (radius * 0.9, 0.03), (0, s * half * 0.6, 0), 1) for s in (1, -1)]
    elif style == 3:
        spokes = int(rng.integers(2, 6))
        parts = [shaped("torus", (radius * 0.9, radius * 0.1), (0, 0, 0)), ball(0.1, (0, 0, 0), 1)]
        parts += [
            bone((-0.45 * np.cos(a), 0, -0.45 * np.sin(a)), (0.45 * np.cos(a), 0, 0.45 * np.sin(a)), 0.03, 1)
            for a in np.pi * np.arange(spokes) / spokes
        ]
    else:
        half = rng.uniform(0.03, 0.15)
        parts = [bone((0, -half, 0), (0, half, 0), radius, 0, "cylinder"), box((0.5, 2.2 * half, 0.15), (0, 0, 0), 1)]
    return rigid(parts), materials(rng, 2, 0.8)


def crate(rng: np.random.Generator) -> Figure:
    """Crates, boxes or bales, alone or piled up."""
    parts = []
    for k in range(int(rng.integers(1, 5))):
        a, b, c = rng.uniform(0.3, 0.6, size=3)
        where = (rng.normal() * 0.25, rng.normal() * 0.08, c / 2 + (0.45 * (k // 2)))
        parts.append(box((a, b, c), where, k % 2, about(UP, float(rng.normal() * 0.3))))
    return rigid(parts), materials(rng, 2, 0.7)


def lattice(rng: np.random.Generator) -> Figure:
    """Crossed bars: a grid, trellis, ladder, scaffold or climbing frame."""
    wide, high, thin = rng.uniform(0.4, 1.4), rng.uniform(0.6, 1.5), rng.uniform(0.01, 0.04)
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(2, 7))
    slant = rng.uniform(0.1, 0.4) * wide if rng.random() < 0.3 else 0.0
    parts = [bone((x - slant, 0, 0), (x + slant, 0, high), thin, 0) for x in np.linspace(-wide / 2, wide / 2, columns)]
    if slant:
        parts += [
            bone((x + slant, 0, 0), (x - slant, 0, high), thin, 0) for x in np.linspace(-wide / 2, wide / 2, columns)
        ]
    else:
        parts += [bone((-wide / 2, 0, z), (wide / 2, 0, z), thin, 1) for z in np.linspace(0.05, high, rows)]
    return rigid(parts), materials(rng, 2, 0.4)


def hole(rng: np.random.Generator) -> Figure:
    """A plate with a hole: a window, a frame, a ring of any outline, a wall with a breach."""
    count = 24
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    power = rng.choice([1.0, 0.3])  # round or squarish
    shape = np.stack(
        [np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power, np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power],
        1,
    )
    wobble = (
        1
        + rng.uniform(0, 0.3) * sum(rng.normal() * np.sin(k * turn + rng.uniform(0, 6.3)) / k for k in range(2, 5)) / 2
    )
    inner = shape * np.clip(wobble, 0.5, 1.5)[:, None] * rng.uniform(0.25, 0.75)
    size = np.array([rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.8)])
    outer_shape = shape if rng.random() < 0.6 else shape / np.maximum(np.abs(shape).max(axis=1, keepdims=True), 1e-3)
    outer, inner = outer_shape * size, np.clip(inner, -0.92, 0.92) * size
    lift = np.array([0.0, size[1]])
    corners = np.concatenate([outer + lift, inner + lift], 1)
    return rigid([shaped("plate", (rng.uniform(0.02, 0.12), *corners.reshape(-1)))]), materials(rng, 1, 0.8)


def tent(rng: np.random.Generator) -> Figure:
    """A tent, hut, booth, parasol or roof on posts."""
    wide, deep, eaves, top = rng.uniform(0.5, 1.0), rng.uniform(0.5, 0.9), rng.uniform(0.0, 0.8), rng.uniform(0.3, 0.6)
    style = rng.integers(3)
    if style == 0:
        parts = [
            shaped("lathe", (wide, eaves + 0.5, 0.02, eaves + 0.5 + top)),
            bone((0, 0, 0), (0, 0, eaves + 0.6), 0.025, 1),
        ]
    else:
        roof = (deep / 2, -wide * 0.55, eaves, wide * 0.55, eaves, 0, eaves + top)
        parts = [shaped("outline", roof)]
        if style == 1 and eaves > 0.2:
            parts += [
                bone((x * wide / 2, y * deep * 0.45, 0), (x * wide / 2, y * deep * 0.45, eaves), 0.03, 1)
                for x in (1, -1)
                for y in (1, -1)
            ]
        elif eaves > 0.1:
            parts += [
                box((wide, deep * 0.9, eaves), (0, 0, eaves / 2), 1),
                box((wide * 0.25, deep * 0.95, eaves * 0.7), (0, 0, eaves * 0.35), 2),
            ]
    return rigid(parts), materials(rng, 3, 0.6)


def gate(rng: np.random.Generator) -> Figure:
    """A door, shutter or barrier that opens and closes on its hinge."""
    wide, high = rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.2)
    posts = [bone((s * wide / 2, 0, 0), (s * wide / 2, 0, high * 1.05), 0.04, 1) for s in (1, -1)]
    if rng.random() < 0.5:
        leaf, axis = [box((wide * 0.95, 0.04, high * 0.95), (wide * 0.48, 0, high / 2), 0)], UP
        where = (-wide / 2, 0, 0.02)
    else:
        leaf, axis, where = (
            [box((wide * 1.4, 0.05, 0.08), (wide * 0.7, 0, 0), 0)],
            (0.0, -1.0, 0.0),
            (-wide / 2, -0.06, high * 0.8),
        )
    limbs = (Limb(-1, (0.0, 0.0, 0.0), tuple(posts)), Limb(0, vec(where), tuple(leaf), axis=axis, angle=0.5, swing=0.5))
    return limbs, materials(rng, 2, 0.6)


def statue(rng: np.random.Generator) -> Figure:
    """A bust or figure of stone on a block."""
    base, tall = rng.uniform(0.2, 0.35), rng.uniform(0.2, 0.6)
    parts = [box((2 * base, 2 * base, tall), (0, 0, tall / 2), 1)]
    rows = [(0, base * 0.9, base * 0.6), (0.15, base * 1.1, base * 0.6), (0.28, base * 0.5, base * 0.4)]
    parts += [
        loft([(0, 0, tall + z, w, d) for z, w, d in rows], 0, 0.3),
        ball((0.11, 0.1, 0.14), (0.02, 0, tall + 0.42), 0),
    ]
    return rigid(parts), materials(rng, 2, 0.7)
