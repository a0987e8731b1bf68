"""Things without a life of their own: simple bodies, furniture, vessels, vehicles, trees, and what stands in the way.

All stand on z = 0 and are of the order of 1 high or wide; vehicles look along +x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffvas.world.building import about, ball, bone, box, materials, ride, rigid, shaped, vec
from diffvas.world.figures import ACROSS, Figure, person
from diffvas.world.spec import Limb, Part

UP = (0.0, 0.0, 1.0)


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
    """A cut-out: a star-shaped outline of lobes and spikes, extruded."""
    count = int(rng.integers(14, 40))
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    if rng.random() < 0.6:
        radius = 1 + sum(rng.uniform(-0.3, 0.3) * np.sin(k * turn + rng.uniform(0, 6.3)) for k in range(1, 7))
    else:
        radius = np.where(np.arange(count) % 2 == 0, 1.0, rng.uniform(0.35, 0.8)) * rng.uniform(0.75, 1.2, size=count)
    radius = np.maximum(radius, 0.2) * 0.5
    wide = rng.uniform(0.6, 1.4)
    points = np.stack([wide * radius * np.cos(turn), radius * np.sin(turn)], 1)
    points[:, 1] -= points[:, 1].min()
    return rigid([shaped("outline", (rng.uniform(0.03, 0.3), *points.reshape(-1)))]), materials(rng, 1, 0.8)


def vessel(rng: np.random.Generator) -> Figure:
    """Something turned on a lathe: bottle, vase, cup, chess piece; sometimes with a handle."""
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


def _wheel(radius: float, pos: tuple[float, float, float], wide: float, tyre: int) -> Limb:
    """A turning wheel; the box makes the turning visible."""
    parts = (
        Part("cylinder", vec((radius, wide / 2, 0)), quat=about(ACROSS, np.pi / 2), material=tyre),
        box((radius * 1.3, wide * 1.1, radius * 0.25), (0, 0, 0), 2),
        ball(radius * 0.35, (0, 0, 0), 2),
    )
    return Limb(0, vec(pos), parts, axis=(0.0, 1.0, 0.0), roll=1.0)


def car(rng: np.random.Generator) -> Figure:
    """A car, van, bus, truck or pickup."""
    long, wide = rng.uniform(1.5, 2.1), rng.uniform(0.65, 0.85)
    radius = rng.uniform(0.14, 0.2)
    low, belt = radius * 0.8, rng.uniform(0.38, 0.5)
    style = rng.integers(4)
    h, top = long / 2, belt + rng.uniform(0.22, 0.34)
    front = {0: 0.55, 1: 0.85, 2: 0.92, 3: 0.9}[int(style)] * h
    rear = {0: rng.uniform(-0.95, -0.6) * h, 1: -0.98 * h, 2: -0.99 * h, 3: 0.25 * h}[int(style)]
    if style in (1, 2):
        top = belt + rng.uniform(0.35, 0.7)
    slope = rng.uniform(0.05, 0.25)
    body = [
        box((long, wide, belt - low), (0, 0, (belt + low) / 2), 0),
        shaped(
            "outline", (wide * 0.46, rear, belt, front, belt, front - slope, top, rear + slope * 0.6, top), (0, 0, 0), 0
        ),
        shaped(
            "outline",
            (
                wide * 0.47,
                rear + 0.1,
                belt + 0.03,
                front - 0.08,
                belt + 0.03,
                front - slope - 0.04,
                top - 0.05,
                rear + slope * 0.6 + 0.05,
                top - 0.05,
            ),
            (0, 0, 0),
            3,
        ),
    ]
    if style == 3 and rng.random() < 0.6:  # load
        body.append(box((long * 0.55, wide * 0.95, rng.uniform(0.2, 0.6)), (-h * 0.42, 0, belt + 0.2), 2))
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(body))]
    limbs += [_wheel(float(radius), (x * h * 0.62, y * wide * 0.45, radius), 0.12, 1) for x in (-1, 1) for y in (-1, 1)]
    return tuple(limbs), materials(rng, 4, 0.2)


def bicycle(rng: np.random.Generator) -> Figure:
    """A bicycle or motor bicycle, mostly with somebody on it."""
    radius, reach, thin = rng.uniform(0.2, 0.26), rng.uniform(0.33, 0.4), rng.uniform(0.012, 0.022)
    seat, bar = np.array([-0.14, 0, 0.56]), np.array([0.27, 0, 0.6])
    crank, rear, front = np.array([-0.02, 0, radius]), np.array([-reach, 0, radius]), np.array([reach, 0, radius])
    parts = [
        bone(a, b, thin, 0)
        for a, b in (
            (crank, seat),
            (crank, bar * 0.95),
            (rear, crank),
            (rear, seat),
            (bar, front),
            (seat, bar * [1, 1, 0.92]),
        )
    ]
    parts += [
        bone(np.add(bar, [0, -0.2, 0.03]), np.add(bar, [0, 0.2, 0.03]), thin, 1),
        ball((0.1, 0.05, 0.03), np.add(seat, [0, 0, 0.03]), 1),
    ]
    if rng.random() < 0.3:  # motor
        parts += [ball((0.22, 0.1, 0.12), (0, 0, radius + 0.08), 2), ball((0.16, 0.08, 0.09), (0.1, 0, 0.5), 0)]
    tyre = rng.uniform(0.015, 0.04)
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(parts))]
    for hub in (rear, front):
        spokes = [
            bone(hub * 0 + [0, 0, -radius], [0, 0, radius], 0.006, 1),
            bone([-radius, 0, 0], [radius, 0, 0], 0.006, 1),
        ]
        limbs.append(
            Limb(0, vec(hub), (shaped("torus", (radius, tyre), (0, 0, 0), 1), *spokes), axis=(0.0, 1.0, 0.0), roll=1.0)
        )
    paint = materials(rng, 3, 0.2)
    if rng.random() < 0.15:
        return tuple(limbs), paint
    human, clothes = person(rng, "ride")
    return ride(tuple(limbs), human, np.add(seat, [0, 0, 0.08]), len(paint)), (*paint, *clothes)


def tree(rng: np.random.Generator) -> Figure:
    """A tree, a bush or a potted plant."""
    high, crown = rng.uniform(0.3, 1.2), rng.uniform(0.25, 0.5)
    parts = [bone((0, 0, 0), (rng.normal() * 0.05, 0, high), rng.uniform(0.03, 0.08), 1)]
    if rng.random() < 0.3:
        parts += [
            shaped("lathe", (crown * s, 0, 0.01, crown * 1.2), (0, 0, high + k * 0.3 - 0.2), 0)
            for k, s in enumerate((1.0, 0.8, 0.55))
        ]
    else:
        for _ in range(int(rng.integers(1, 5))):
            c = crown * rng.uniform(0.5, 1.0)
            where = (*(rng.normal(size=2) * crown * 0.5), high + rng.normal() * 0.15)
            parts.append(shaped("blob", (c, c, c * rng.uniform(0.6, 1.1), 0.5, rng.integers(10**6)), where, 0))
    if rng.random() < 0.3:
        parts.append(shaped("lathe", (0.12, 0, 0.2, 0.25), (0, 0, 0), 2))
    return rigid(parts), materials(rng, 3, 0.7)


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


Maker = Callable[[np.random.Generator], Figure]
TOYS: tuple[Maker, ...] = (simple, solid, outline, vessel, vessel, stack, chair, lamp)
FURNITURE: tuple[Maker, ...] = (chair, chair, table, lamp, vessel, stack, tree)
SCREENS: tuple[Maker, ...] = (post, post, board, board, fence, arch, tree, stack, outline, solid)
