"""Vehicles on wheels, on water and in the air.

All stand on z = 0, look along +x and are of the order of 1 high or long.
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
    loft,
    materials,
    ride,
    rigid,
    shaped,
    tube,
    vec,
)
from diffvas.world.figures import person
from diffvas.world.spec import Limb, Part


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


def motorbike(rng: np.random.Generator) -> Figure:
    """A motor bicycle or scooter, mostly with somebody on it."""
    radius, reach, wide = rng.uniform(0.15, 0.23), rng.uniform(0.36, 0.44), rng.uniform(0.04, 0.08)
    seat = np.array([-0.12, 0, rng.uniform(0.48, 0.56)])
    bar = np.array([0.24, 0, seat[2] + rng.uniform(0.12, 0.25)])
    body = [
        loft(
            [
                (-reach, 0, seat[2] * 0.9, 0.05, 0.03),
                (-0.1, 0, seat[2] * 0.92, 0.08, 0.05),
                (0.2, 0, seat[2], 0.07, 0.09),
            ],
            0,
        ),
        ball((0.2, 0.09, 0.13), (0, 0, radius + 0.06), 2),
        bone(bar, (reach, 0, radius), 0.02, 1),
        bone(np.add(bar, (0, -0.2, 0)), np.add(bar, (0, 0.2, 0)), 0.015, 1),
        ball((0.05, 0.06, 0.06), np.add(bar, (0.08, 0, -0.06)), 2),
        bone((-reach, 0, radius), (0, 0, radius + 0.02), 0.03, 1),
    ]
    if rng.random() < 0.4:  # shield and case
        body.append(shaped("polygon", (0.14, 0.18, 0.3, 0.3, 0.3, 0.36, 0.75, 0.3, 0.85), (0, 0, 0), 0))
        body.append(box((0.2, 0.24, 0.2), (-reach - 0.02, 0, seat[2] + 0.1), 0))
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(body))]
    limbs += [_wheel(float(radius), (x, 0.0, radius), float(wide), 1) for x in (reach, -reach)]
    paint = materials(rng, 3, 0.2)
    if rng.random() < 0.25:
        return tuple(limbs), paint
    human, clothes = person(rng, "ride")
    human = tuple(Limb(x.parent, x.pivot, x.parts, x.axis, x.angle) for x in human)  # feet rest
    return ride(tuple(limbs), human, np.add(seat, [0, 0, 0.09]), len(paint)), (*paint, *clothes)


def cart(rng: np.random.Generator) -> Figure:
    """A wagon, trailer, trolley or barrow on two to four wheels, loaded or empty."""
    long, wide, high = rng.uniform(0.6, 1.4), rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.5)
    radius = rng.uniform(0.08, 0.3)
    floor = radius + rng.uniform(0.0, 0.15)
    body = [box((long, wide, 0.05), (0, 0, floor), 0)]
    body += [box((long, 0.04, high), (0, y * wide / 2, floor + high / 2), 0) for y in (-1, 1)]
    body += [box((0.04, wide, high), (x * long / 2, 0, floor + high / 2), 0) for x in (-1, 1)]
    body.append(bone((long / 2, 0, floor), (long / 2 + 0.4, 0, floor + rng.uniform(-0.1, 0.5)), 0.025, 1))
    if rng.random() < 0.6:
        heap = (long * 0.45, wide * 0.45, rng.uniform(0.15, 0.4), 0.3, rng.integers(10**6))
        body.append(shaped("blob", heap, (0, 0, floor + high * 0.7), 3))
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(body))]
    axles = (0.0,) if radius > 0.2 else (-0.32, 0.32)
    limbs += [_wheel(float(radius), (x * long, y * (wide / 2 + 0.04), radius), 0.06, 1) for x in axles for y in (-1, 1)]
    return tuple(limbs), materials(rng, 4, 0.5)


def digger(rng: np.random.Generator) -> Figure:
    """A tractor or excavator: a cabin, big wheels and an arm that works."""
    radius, small = rng.uniform(0.2, 0.32), rng.uniform(0.12, 0.22)
    body = [
        box((0.8, 0.4, 0.25), (0.1, 0, radius + 0.1), 0),
        box((0.32, 0.38, 0.42), (-0.2, 0, radius + 0.42), 3),
        box((0.4, 0.42, 0.04), (-0.2, 0, radius + 0.65), 0),
        bone((0.3, 0.12, radius + 0.2), (0.3, 0.12, radius + 0.55), 0.02, 1),
    ]
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(body))]
    for x, r in ((-0.25, radius), (0.4, small)):
        limbs += [_wheel(float(r), (x, y * 0.26, float(r)), 0.12, 1) for y in (-1, 1)]
    if rng.random() < 0.7:
        boom, dip = rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.55)
        limbs.append(
            Limb(0, vec((0.45, 0, radius + 0.2)), (bone((0, 0, 0), (boom * 0.6, 0, boom), 0.04, 0),), swing=0.2)
        )
        bucket = shaped("polygon", (0.15, 0.0, 0.0, 0.22, 0.05, 0.2, -0.15, 0.02, -0.12), (0, 0, -dip), 2)
        limbs.append(
            Limb(
                len(limbs) - 1, vec((boom * 0.6, 0, boom)), (bone((0, 0, 0), (0, 0, -dip), 0.03, 0), bucket), swing=0.4
            )
        )
    return tuple(limbs), materials(rng, 4, 0.2)


def boat(rng: np.random.Generator) -> Figure:
    """A rowing boat, a sailing boat or a ship."""
    long, wide, deep = rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.3), rng.uniform(0.12, 0.25)
    hull = loft(
        [
            (-long, 0, deep, wide * 0.7, deep * 0.8),
            (0, 0, deep, wide, deep),
            (long * 0.7, 0, deep * 1.1, wide * 0.6, deep * 0.9),
            (long, 0, deep * 1.4, 0.02, deep * 0.5),
        ],
        0,
        0.0,
    )
    parts = [hull]
    style = rng.integers(3)
    if style == 0:  # sails
        tall, base = rng.uniform(0.8, 1.5), deep * 1.8
        parts.append(bone((0.1, 0, deep), (0.1, 0, base + tall), 0.015, 1))
        main = (0.008, 0.08, base + 0.05, -long * rng.uniform(0.6, 0.95), base + 0.08, 0.08, base + tall * 0.97)
        jib = (0.008, 0.13, base + 0.05, long * 0.9, base, 0.13, base + tall * rng.uniform(0.6, 0.9))
        parts += [shaped("polygon", sail, (0, 0, 0), 2, about(UP, float(rng.normal() * 0.25))) for sail in (main, jib)]
    elif style == 1:  # decks
        level = deep * 1.8
        for k in range(int(rng.integers(1, 4))):
            size = (long * (0.9 - 0.22 * k), wide * (1.3 - 0.2 * k), rng.uniform(0.1, 0.2))
            parts.append(box(size, (-long * 0.15, 0, level + size[2] / 2), 1 + k % 2))
            level += size[2]
        parts.append(bone((-long * 0.3, 0, level), (-long * 0.33, 0, level + 0.25), 0.06, 3, "cylinder"))
    else:
        parts += [bone((0, 0, deep * 1.9), (-0.15, s * 0.5, deep * 0.6), 0.015, 1) for s in (1, -1)]
        parts.append(ball((0.09, 0.13, 0.2), (-0.1, 0, deep * 2 + 0.15), 2))
        parts.append(ball(0.08, (-0.1, 0, deep * 2 + 0.42), 3))
    return rigid(parts), materials(rng, 4, 0.4)


def plane(rng: np.random.Generator) -> Figure:
    """An aeroplane, glider or rocket."""
    long, fat, span = rng.uniform(0.5, 0.8), rng.uniform(0.05, 0.12), rng.uniform(0.4, 0.9)
    z, sweep, chord = 0.25, rng.uniform(0.0, 0.4), rng.uniform(0.08, 0.2)
    rows = [(-1.0, 0.3, 0.5), (-0.5, 0.8, 0.1), (0.3, 1.0, 0.0), (0.8, 0.7, 0.0), (1.0, 0.2, -0.1)]
    parts = [loft([(x * long, 0, z + up * fat, fat * w, fat * w) for x, w, up in rows], 0)]
    for s in (1, -1):
        wing = [(0, 0, z, 0.02, chord), (-sweep, s * span, z + 0.05, 0.01, chord * rng.uniform(0.3, 0.9))]
        parts.append(loft([(x, y, h, d, w) for x, y, h, w, d in wing], 1, 0.3))
        parts.append(
            loft(
                [
                    (-long * 0.85, 0, z + 0.05, chord * 0.6, 0.01),
                    (-long * 0.95, s * span * 0.35, z + 0.05, chord * 0.4, 0.01),
                ],
                1,
                0.3,
            )
        )
        if rng.random() < 0.5:
            parts.append(bone((chord, s * span * 0.4, z - 0.04), (-0.05, s * span * 0.4, z - 0.04), 0.04, 2))
    fin = (0.012, -long * 0.7, z, -long * 1.02, z, -long * 1.05, z + rng.uniform(0.2, 0.35), -long * 0.92, z + 0.22)
    parts.append(shaped("polygon", fin, (0, 0, 0), 1))
    return rigid(parts), materials(rng, 3, 0.3)


def helicopter(rng: np.random.Generator) -> Figure:
    """A helicopter with turning blades."""
    fat, tail, z = rng.uniform(0.15, 0.22), rng.uniform(0.5, 0.8), 0.35
    parts = [
        loft(
            [(-0.25, 0, z, fat * 0.7, fat * 0.7), (0.05, 0, z, fat, fat), (0.3, 0, z - 0.03, fat * 0.7, fat * 0.7)], 0
        ),
        tube([(-0.2, 0, z + 0.05), (-0.2 - tail, 0, z + 0.12)], (0.07, 0.025), 0),
        shaped("polygon", (0.01, -tail - 0.1, z + 0.1, -tail - 0.3, z + 0.35, -tail - 0.2, z + 0.05), (0, 0, 0), 1),
        bone((0, 0, z), (0, 0, z + fat + 0.12), 0.02, 1),
    ]
    parts += [bone((-0.25, s * 0.15, 0.03), (0.3, s * 0.15, 0.03), 0.015, 1) for s in (1, -1)]
    parts += [bone((x, s * 0.15, 0.03), (x, s * 0.08, z - fat * 0.7), 0.012, 1) for s in (1, -1) for x in (-0.12, 0.15)]
    blades = tuple(box((1.5, 0.06, 0.012), (0, 0, 0), 2, about(UP, k * np.pi / 2)) for k in range(2))
    limbs = (
        Limb(-1, (0.0, 0.0, 0.0), tuple(parts)),
        Limb(0, vec((0, 0, z + fat + 0.13)), blades, axis=UP, roll=1.0, cycles=2.3),
    )
    return limbs, materials(rng, 3, 0.3)
