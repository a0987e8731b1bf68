"""Animals that walk, fly, swim and crawl.

All stand on z = 0, look along +x and are about 1 high or long; hinges turn about (0, -1, 0) unless they say otherwise,
so that a positive angle swings a leg forward.
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
    colour,
    loft,
    material,
    materials,
    plain,
    shaped,
    tube,
    vec,
)
from diffvas.world.spec import Limb, Part

SPECIES = {  # body length, leg length, belly radius, neck length, neck angle from level, head length, tail length
    "horse": (0.62, 0.52, 0.135, 0.36, 0.9, 0.24, 0.4),
    "dog": (0.75, 0.48, 0.14, 0.20, 0.9, 0.24, 0.36),
    "cat": (0.80, 0.42, 0.13, 0.12, 0.6, 0.16, 0.6),
    "cow": (0.85, 0.45, 0.21, 0.22, 0.45, 0.27, 0.4),
    "giraffe": (0.42, 0.46, 0.10, 0.52, 1.15, 0.15, 0.3),
    "elephant": (0.75, 0.48, 0.26, 0.10, 0.5, 0.24, 0.3),
    "sheep": (0.72, 0.36, 0.24, 0.14, 0.7, 0.2, 0.1),
    "pig": (0.85, 0.26, 0.22, 0.08, 0.3, 0.22, 0.1),
    "deer": (0.60, 0.54, 0.12, 0.30, 1.0, 0.18, 0.08),
    "goat": (0.66, 0.44, 0.16, 0.22, 0.9, 0.2, 0.12),
    "bear": (0.85, 0.34, 0.25, 0.12, 0.3, 0.24, 0.05),
    "lion": (0.85, 0.42, 0.16, 0.16, 0.6, 0.22, 0.5),
    "camel": (0.66, 0.52, 0.15, 0.42, 0.7, 0.2, 0.3),
    "rabbit": (0.70, 0.22, 0.22, 0.06, 0.9, 0.24, 0.07),
    "hound": (1.05, 0.22, 0.13, 0.16, 0.7, 0.26, 0.4),  # long and low
}
TUFT = {"elephant": 1.9, "cow": 1.2, "giraffe": 0.75, "bear": 1.7, "camel": 0.9, "deer": 0.75, "rabbit": 1.1}
COATS = (
    (0.45, 0.32, 0.22),
    (0.75, 0.62, 0.45),
    (0.2, 0.18, 0.17),
    (0.6, 0.58, 0.55),
    (0.9, 0.87, 0.8),
    (0.6, 0.3, 0.13),
)


def quadruped(rng: np.random.Generator, species: str | None = None, gait: str | None = None) -> Figure:
    """A four-legged animal with jittered proportions; gaits: walk, trot, gallop, stand, graze, sit."""
    species = species or str(rng.choice(list(SPECIES)))
    gait = gait or str(rng.choice(["walk", "walk", "trot", "gallop", "stand", "graze", "sit"]))
    length, leg, belly, neck, rise, head, tail = np.asarray(SPECIES[species]) * rng.uniform(0.82, 1.2, size=7)
    back, half = leg + belly * 0.6, length / 2
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(_barrel(rng, species, half, back, belly)))]
    if gait == "graze":
        rise = -0.5 * rng.uniform(0.6, 1.4)
    _neck_and_head(rng, limbs, species, (half * 0.8, 0, back + belly * 0.3), neck, float(rise), head, belly)
    _tail(rng, limbs, (-half - belly * 0.35, 0, back + belly * 0.35), tail, species in ("horse", "lion", "cow"))
    phases = {"walk": (0, 0.5, 0.75, 0.25), "trot": (0, 0.5, 0.5, 0), "gallop": (0.0, 0.12, 0.5, 0.62)}.get(gait)
    thick = rng.uniform(0.9, 1.25) * TUFT.get(species, 1.0)
    for index, (x, side) in enumerate(((0.68, 1), (0.68, -1), (-0.72, 1), (-0.72, -1))):
        swing = {"walk": 0.38, "trot": 0.48, "gallop": 0.75}.get(gait, 0.0) * rng.uniform(0.9, 1.1)
        spot = (x * half, side * belly * 0.55, leg + belly * 0.35)
        fold = (1.1, -1.9) if gait == "sit" and x < 0 else (0.0, 0.0)
        _animal_leg(limbs, spot, thick, swing, phases[index] if phases else 0.0, x > 0, fold)
    if gait == "sit":  # the rump sinks: everything turns about the front feet
        limbs = _pitched(limbs, float(rng.uniform(0.35, 0.55)), (half * 0.68, 0.0, 0.0))
    tone = vec(np.clip(np.array(COATS[int(rng.integers(len(COATS)))]) * rng.uniform(0.6, 1.2), 0, 1))
    coat = material(rng, 0.45, tone if rng.random() < 0.88 else None)
    return tuple(limbs), (coat, plain(colour(rng, 0.3)), plain(colour(rng, 0.1)))


def _barrel(rng: np.random.Generator, species: str, half: float, back: float, belly: float) -> list[Part]:
    """The trunk: rump, flank, belly and chest as one skin, and what the species carries on it."""
    sag, tuck = belly * rng.uniform(0.0, 0.2), rng.uniform(0.75, 1.0)
    rows = [(-1.12, 0.02, 0.62, 0.6), (-0.85, 0.0, 0.95, 0.95), (-0.35, -0.2, 0.95, tuck), (0.2, -0.5, 1.0, 1.0)]
    rows += [(0.65, 0.0, 0.95, 1.12), (0.95, 0.3, 0.7, 0.8)]
    parts = [loft([(x * half, 0, back + s * sag, belly * a, belly * b) for x, s, a, b in rows], 0)]
    if species == "camel":
        parts += [ball((half * 0.3, belly * 0.5, belly * 0.75), (x * half, 0, back + belly), 0) for x in (-0.35, 0.3)]
    if species == "sheep":
        parts.append(
            shaped("blob", (half * 1.15, belly * 1.15, belly * 1.2, 0.2, rng.integers(10**6)), (0, 0, back), 0)
        )
    if species in ("horse", "camel", "elephant") and rng.random() < 0.2:  # saddle cloth
        parts.append(box((half * 0.7, belly * 2.05, belly * 1.1), (0, 0, back + belly * 0.3), 1))
    return parts


def _tail(
    rng: np.random.Generator, limbs: list[Limb], root: tuple[float, float, float], tail: float, tuft: bool
) -> None:
    """Three pieces that swish, the outer behind the inner."""
    drop, thin = rng.uniform(-0.5, 1.2), rng.uniform(0.012, 0.03)
    step = np.array([-np.cos(drop), 0, -np.sin(drop)]) * tail / 3
    pieces = [[bone((0, 0, 0), step, thin * w)] for w in (1.3, 1.0, 0.8)]
    if tuft:
        pieces[2].append(ball((0.035, 0.035, 0.07), step, 1, about((0, 1, 0), float(drop))))
    limbs += chain(0, root, pieces, vec(step), len(limbs), axis=UP, swing=float(rng.uniform(0.1, 0.3)))


def _pitched(limbs: list[Limb], angle: float, about_point: tuple[float, float, float]) -> list[Limb]:
    """The whole figure turned nose up about a point; a fixed limb takes the root's place."""
    middle = np.asarray(about_point)
    moved = [Limb(-1, (0.0, 0.0, 0.0), ()), Limb(0, vec(middle), (), angle=0.0)]
    turn = Limb(0, vec(middle), tuple(_shift(part, -middle) for part in limbs[0].parts), angle=round(angle, 4))
    moved[1] = turn
    for limb in limbs[1:]:
        pivot = np.asarray(limb.pivot) - (middle if limb.parent == 0 else 0)
        moved.append(
            Limb(
                limb.parent + 1, vec(pivot), limb.parts, limb.axis,
                limb.angle - (angle if limb.parent == 0 and limb.pivot[0] > 0 and limb.pivot[2] < middle[2] else 0),
                limb.swing, limb.bend, limb.phase, limb.cycles, limb.roll,
            )
        )  # fmt: skip
    return moved


def _shift(part: Part, way: np.ndarray) -> Part:
    return Part(part.kind, part.size, vec(np.asarray(part.pos) + way), part.quat, part.material, part.mesh)


def _neck_and_head(
    rng: np.random.Generator,
    limbs: list[Limb],
    species: str,
    root: tuple[float, float, float],
    neck: float,
    rise: float,
    head: float,
    belly: float,
) -> None:
    tip = np.array([np.cos(rise), 0, np.sin(rise)]) * neck
    wide = belly * rng.uniform(0.38, 0.5)
    skin = [(*(tip * s), wide * w, wide * w * 1.15) for s, w in ((-0.25, 1.7), (0.2, 1.3), (0.6, 1.0), (1.0, 0.9))]
    parts = [loft(skin)]
    if species == "horse" or rng.random() < 0.1:  # mane
        parts.append(
            bone(np.add(tip * 0.1, [-wide, 0, wide * 0.4]), np.add(tip, [-wide, 0, wide * 0.3]), wide * 0.4, 1)
        )
    if species == "lion" and rng.random() < 0.6:
        parts.append(ball((wide * 1.6, wide * 2.0, wide * 2.1), tip * 0.8, 1))
    limbs.append(Limb(0, vec(root), tuple(parts), swing=0.06, cycles=2.0))
    nose = (
        np.array([np.cos(rise - 1.25), 0, np.sin(rise - 1.25)]) * head if rise > 0 else np.array([0.5, 0, -0.8]) * head
    )
    blunt = rng.uniform(0.45, 0.75)
    skull = [(*(nose * s), wide * w, wide * w) for s, w in ((-0.15, 0.85), (0.2, 1.0), (0.55, 0.75), (0.95, blunt))]
    face = [loft(skull)]
    ear = wide * rng.uniform(0.5, 1.6) * {"elephant": 1.7, "rabbit": 1.8}.get(species, 1.0)
    for side in (1, -1):
        face.append(
            ball(
                (ear * 0.3, ear * 0.45, ear),
                (-wide * 0.3, side * wide * 0.8, wide * (0.1 if species == "elephant" else 0.8)),
                1,
                about(ACROSS, -side * rng.uniform(0, 1.2)),
            )
        )
    if species == "elephant":
        trunk = rng.uniform(0.2, 0.4)
        bend = [nose * 0.8, nose * 0.9 + [0.06, 0, -trunk * 0.5], nose * 0.9 + [rng.uniform(0, 0.2), 0, -trunk]]
        face.append(tube(bend, (wide * 0.45, wide * 0.35, wide * 0.25)))
        face += [
            tube([nose * 0.7 + [0, s * wide * 0.5, 0], nose * 0.9 + [0.1, s * wide * 0.6, 0.0]], (0.02, 0.008), 2)
            for s in (1, -1)
        ]
    elif species in ("deer", "goat", "cow") or rng.random() < 0.08:
        _horns(rng, face, species, wide)
    limbs.append(Limb(len(limbs) - 1, vec(tip), tuple(face), swing=0.08, phase=0.25))


def _horns(rng: np.random.Generator, face: list[Part], species: str, wide: float) -> None:
    tall = wide * rng.uniform(1.0, 2.2)
    for s in (1, -1):
        base, tip = (
            np.array([0, s * wide * 0.5, wide * 0.6]),
            np.array([-wide * 0.4, s * wide * 1.3, wide * 0.6 + tall]),
        )
        middle = (base + tip) / 2 + [0, s * wide * rng.uniform(0, 0.6), 0]
        face.append(tube([base, middle, tip], (wide * 0.18, wide * 0.14, wide * 0.05), 2))
        if species == "deer":
            face += [
                tube([middle, np.add(middle, (wide * k, s * wide * 0.4, tall * 0.4))], (wide * 0.1, wide * 0.04), 2)
                for k in (-0.5, 0.6)
            ]


def _animal_leg(
    limbs: list[Limb],
    spot: tuple[float, float, float],
    thick: float,
    swing: float,
    phase: float,
    front: bool,
    fold: tuple[float, float],
) -> None:
    """Two segments that fold backwards in front and forwards behind, as knees and hocks seem to."""
    upper, lower = spot[2] * 0.52, spot[2] * 0.48
    slant = 0.0 if front else -0.18
    rows = [(0.1, 0.06), (-0.25, 0.066), (-0.7, 0.045), (-1.0, 0.034)]
    thigh = loft([(slant * upper * -z, 0, z * upper, 0.8 * r * thick, r * thick) for z, r in rows])
    limbs.append(Limb(0, vec(spot), (thigh,), swing=round(float(swing), 4), phase=phase, angle=fold[0]))
    end = -slant * 0.5 * lower
    shank = tube([(0, 0, 0), (end, 0, -lower + 0.02)], (0.033 * thick, 0.024 * thick))
    foot = (shank, ball((0.042 * thick, 0.034 * thick, 0.03), (end + 0.01, 0, -lower + 0.025), 2))
    limbs.append(
        Limb(
            len(limbs) - 1,
            vec((slant * upper, 0, -upper)),
            foot,
            bend=round(float(-1.7 * swing), 4),
            phase=phase + 0.2,
            angle=round(fold[1] + (0.0 if front else 0.1), 4),
        )
    )


def bird(rng: np.random.Generator, flying: bool | None = None) -> Figure:
    """A bird: flapping in the air, or a wader, duck or hen on its feet."""
    flying = bool(rng.random() < 0.55) if flying is None else flying
    long, fat = rng.uniform(0.22, 0.34), rng.uniform(0.08, 0.16)
    leg = 0.06 if flying else rng.uniform(0.1, 0.45)
    neck, rise = rng.uniform(0.05, 0.4), rng.uniform(0.2, 0.6) if flying else rng.uniform(0.7, 1.5)
    middle = leg + fat
    fan, tilt = rng.uniform(0.03, 0.12), float(rng.uniform(0.3, 1.57))
    tail = (0.012, -long * 0.7, -0.03, -long * 0.7, 0.03, -long * 1.7, fan, -long * 1.8, 0.0, -long * 1.7, -fan)
    rows = [(-1.05, 0.25, 0.05), (-0.5, 0.8, 0.0), (0.1, 1.0, -0.05), (0.6, 0.85, 0.0), (0.95, 0.5, 0.1)]
    root = [
        loft([(x * long, 0, middle + z * fat, fat * w, fat * w) for x, w, z in rows]),
        shaped("polygon", tail, (0, 0, middle), 1, about(ACROSS, tilt)),
    ]
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(root))]
    tip = np.array([np.cos(rise), 0, np.sin(rise)]) * (neck + 0.05)
    skull = rng.uniform(0.045, 0.075)
    bend = tip * 0.5 + [rng.uniform(-0.3, 0.3) * neck, 0, 0]
    head = [
        tube([(0, 0, 0), bend, tip], (min(fat * 0.5, skull * 1.1), skull * 0.6, skull * 0.6)),
        ball(skull, tip),
        tube([tip, np.add(tip, [skull + rng.uniform(0.05, 0.16), 0, -0.02])], (skull * 0.4, 0.008), 2),
    ]
    limbs.append(Limb(0, vec((long * 0.8, 0, middle + fat * 0.3)), tuple(head), swing=0.1, cycles=1.0))
    span, chord = rng.uniform(0.35, 0.7), rng.uniform(0.08, 0.14)
    for side in (1, -1):
        if flying:
            _wings(limbs, side, span, chord, (0.02, side * fat * 0.5, middle + fat * 0.4))
        else:
            wing = ball((long * 0.85, 0.03, fat * 0.6), (-0.04, side * fat * 0.85, middle + 0.02), 1)
            limbs.append(Limb(0, (0.0, 0.0, 0.0), (wing,)))
            shank = (
                bone((0, 0, 0), (0, 0, -leg), rng.uniform(0.012, 0.03), 2),
                ball((0.05, 0.03, 0.012), (0.03, 0, -leg), 2),
            )
            limbs.append(Limb(0, vec((0, side * fat * 0.4, leg)), shank, swing=0.45, phase=0.25 * side))
    return tuple(limbs), (material(rng, 0.4), material(rng, 0.4), plain(vec((0.9, rng.uniform(0.3, 0.7), 0.1))))


def _wings(limbs: list[Limb], side: int, span: float, chord: float, root: tuple[float, float, float]) -> None:
    """One wing of two pieces, the outer lagging behind the inner."""
    axis = (float(side), 0.0, 0.0)
    inner = ball((chord, span * 0.36, 0.018), (0, side * span * 0.32, 0), 1)
    outer = ball((chord * 0.8, span * 0.36, 0.014), (-0.03, side * span * 0.3, 0), 1)
    limbs.append(Limb(0, vec(root), (inner,), axis=axis, angle=0.15, swing=0.75))
    limbs.append(Limb(len(limbs) - 1, vec((0, side * span * 0.6, 0)), (outer,), axis=axis, swing=0.6, phase=-0.2))


def biped_beast(rng: np.random.Generator, penguin: bool = False) -> Figure:
    """An animal on two legs: with a long tail for balance, as saurians and kangaroos have it, or a penguin."""
    fat, hip = rng.uniform(0.12, 0.2), rng.uniform(0.35, 0.5)
    lean = rng.uniform(0.15, 0.7) if not penguin else 1.45
    if penguin:
        hip, fat = 0.2, rng.uniform(0.16, 0.22)
    way = np.array([np.cos(lean), 0, np.sin(lean)])
    long = rng.uniform(0.35, 0.5) if not penguin else 0.55
    body = loft(
        [
            (*(way * s * long + [0, 0, hip + 0.05]), fat * w, fat * w)
            for s, w in ((-0.2, 0.8), (0.15, 1), (0.6, 0.8), (1, 0.45))
        ]
    )
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (body,))]
    tip, skull = way * long + [0, 0, hip + 0.05], rng.uniform(0.06, 0.1)
    snout = rng.uniform(0.1, 0.25) if not penguin else 0.1
    rows = [
        (0, 0, 0, skull, skull),
        (skull, 0, 0.05, skull, skull),
        (skull + snout, 0, 0.02, 0.02 if penguin else skull * 0.6, 0.02 if penguin else skull * 0.5),
    ]
    limbs.append(Limb(0, vec(tip), (loft(rows, 2 if penguin else 0), ball(skull, (0, 0, 0.03))), swing=0.1))
    tail = rng.uniform(0.4, 0.8) if not penguin else 0.1
    radii = fat * np.array([0.75, 0.5, 0.3, 0.12])
    segments = [[tube([(0, 0, 0), (-tail / 3, 0, 0)], (radii[k], radii[k + 1]))] for k in range(3)]
    limbs += chain(
        0, way * -0.15 * long + [0, 0, hip + 0.05], segments, (-tail / 3, 0, 0), len(limbs), axis=UP, swing=0.2
    )
    for side, phase in ((1, 0.0), (-1, 0.5)):
        thigh = loft([(0, 0, 0.03, 0.06, 0.09), (0.04, 0, -hip * 0.5, 0.04, 0.05)])
        limbs.append(Limb(0, vec((0, side * fat * 0.6, hip)), (thigh,), swing=0.45, phase=phase))
        shank = (
            tube([(0.04, 0, 0), (0, 0, -hip * 0.5 + 0.02)], (0.045, 0.025)),
            ball((0.09, 0.04, 0.02), (0.05, 0, -hip * 0.5 + 0.02), 2),
        )
        limbs.append(Limb(len(limbs) - 1, vec((0, 0, -hip * 0.5)), shank, bend=-0.6, phase=phase + 0.2))
        reach = rng.uniform(0.12, 0.25) if not penguin else 0.32
        arm = (
            ball((0.04, 0.02, reach / 2), (0, 0, -reach / 2), 1)
            if penguin
            else tube([(0, 0, 0), (0.06, 0, -reach)], (0.035, 0.02))
        )
        limbs.append(
            Limb(
                0, vec(way * 0.75 * long + [0, side * fat * 0.8, hip + 0.05]), (arm,), angle=0.1, swing=0.2, phase=phase
            )
        )
    return tuple(limbs), (material(rng, 0.5), material(rng, 0.3), plain(colour(rng, 0.2)))


def fish(rng: np.random.Generator) -> Figure:
    """A fish or dolphin: a body of four pieces that bends from side to side, fins and a tail."""
    tall, flat = rng.uniform(0.08, 0.24), rng.uniform(0.35, 0.9)
    stations, heights = (0.45, 0.15, -0.12, -0.34, -0.5), tall * np.array([0.35, 1.0, 0.85, 0.45, 0.2])
    heights *= rng.uniform(0.85, 1.15, size=5)
    level = float(heights.max()) + 0.02

    def piece(k: int) -> Part:
        rows = [
            (x - stations[k], 0, 0, h * flat, h)
            for x, h in ((stations[k], heights[k]), (stations[k + 1], heights[k + 1]))
        ]
        middle = (
            (stations[k] + stations[k + 1]) / 2 - stations[k],
            0,
            0,
            *(0.5 * (heights[k] + heights[k + 1]) * np.array([flat, 1.0])),
        )
        return loft([rows[0], middle, rows[1]], 0, 0.6)

    fin, sweep = rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.2)
    back = shaped(
        "polygon",
        (0.01, 0.1, 0, -0.25, 0, -0.2 - sweep * 0.3, fin + tall * 0.9, -0.05, fin * 0.8 + tall * 0.9),
        (-0.1, 0, 0),
        1,
    )
    root = [Limb(-1, (0.0, 0.0, 0.0), ()), Limb(0, (stations[0], 0.0, level), (piece(0), back), axis=UP, swing=0.08)]
    for side in (1, -1):
        root.append(
            Limb(
                1,
                vec((-0.25, side * tall * flat * 0.8, -tall * 0.3)),
                (ball((0.05, 0.08, 0.012), (-0.03, side * 0.06, 0), 1),),
                axis=(1.0, 0.0, 0.0),
                swing=0.4,
            )
        )
    body = [[piece(1)], [piece(2)], [piece(3)]]
    fork = shaped("polygon", (0.01, 0.03, 0, -sweep, tall, -sweep * 0.6, 0, -sweep, -tall), (-0.16, 0, 0), 1)
    body[2].append(fork)
    pivots = [(stations[k + 1] - stations[k], 0.0, 0.0) for k in range(4)]
    for k, parts in enumerate(body):
        parent = 1 if k == 0 else len(root) - 1
        root.append(
            Limb(
                parent,
                pivots[k],
                tuple(parts),
                axis=UP,
                swing=round(0.14 + 0.08 * k, 3),
                phase=round(-0.13 * (k + 1), 3),
            )
        )
    return tuple(root), (material(rng, 0.7), material(rng, 0.4))


def snake(rng: np.random.Generator) -> Figure:
    """A snake, worm or caterpillar: a chain that winds over the ground."""
    count, thick = int(rng.integers(5, 10)), rng.uniform(0.03, 0.09)
    step = 1.2 / count
    segments = [[bone((0, 0, 0), (-step, 0, 0), thick * (1.0 if k < count - 2 else 0.7), k % 2)] for k in range(count)]
    segments[0].append(ball((thick * 1.8, thick * 1.3, thick), (thick * 0.8, 0, 0), 0))
    limbs = [Limb(-1, (0.0, 0.0, 0.0), ())]
    limbs += chain(
        0, (0.6, 0, thick), segments, (-step, 0, 0), 1, axis=UP, swing=float(rng.uniform(0.3, 0.6)), lag=0.16
    )
    skin = material(rng, 0.8)
    return tuple(limbs), (skin, skin if rng.random() < 0.7 else material(rng, 0.3))


def crawler(rng: np.random.Generator) -> Figure:
    """Something with many or short legs: turtle, crab, spider, beetle, lizard."""
    pairs, spread = int(rng.integers(2, 5)), rng.uniform(0.2, 0.55)
    long, wide, tall = rng.uniform(0.2, 0.45), rng.uniform(0.12, 0.3), rng.uniform(0.06, 0.2)
    lift = rng.uniform(0.05, 0.25)
    root = [
        ball((long, wide, tall), (0, 0, lift + tall * 0.5)),
        ball(rng.uniform(0.05, 0.12), (long + 0.04, 0, lift + tall * 0.6), 1),
    ]
    if rng.random() < 0.3:
        root.append(
            tube(
                [(-long, 0, lift + tall * 0.4), (-long - 0.2, 0, lift), (-long - 0.4, 0.05, lift * 0.6)],
                (tall * 0.5, 0.03, 0.01),
                1,
            )
        )
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(root))]
    thin, knee = rng.uniform(0.012, 0.05), rng.uniform(0.0, 0.3)
    for k, x in enumerate(np.linspace(0.7, -0.7, pairs)):
        for side in (1, -1):
            bend = [(0, 0, 0), (x * 0.1, side * spread * 0.5, knee), (x * 0.2, side * spread, -lift + thin)]
            leg = tube(bend, (thin * 1.2, thin, thin * 0.7), 1)
            phase = 0.5 * ((k + (side > 0)) % 2)
            limbs.append(Limb(0, vec((x * long, side * wide * 0.7, lift)), (leg,), axis=UP, swing=0.3, phase=phase))
    return tuple(limbs), (material(rng, 0.7), material(rng, 0.3))


def butterfly(rng: np.random.Generator) -> Figure:
    """A butterfly, moth, bat or dragonfly: broad wings of any outline on a thin body."""
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (tube([(0.2, 0, 0.3), (0, 0, 0.3), (-0.25, 0, 0.3)], (0.03, 0.04, 0.015), 1),))]
    turn = np.linspace(-1.4, 1.7, 9)
    radius = rng.uniform(0.22, 0.6, size=9)
    radius[4] *= rng.uniform(0.4, 1.0)
    for side in (1, -1):
        points = np.stack([radius * np.sin(turn), radius * np.cos(turn)], 1)
        corners = np.concatenate([[[-0.05, 0.0], [0.05, 0.0]], points[::-1]])
        wing = shaped("outline", (0.006, *corners.reshape(-1)), (0, 0, 0), 0, about(ACROSS, -side * np.pi / 2))
        limbs.append(Limb(0, (0.0, 0.02 * side, 0.31), (wing,), axis=(float(side), 0.0, 0.0), angle=0.3, swing=0.9))
    return tuple(limbs), materials(rng, 2, 0.8)
