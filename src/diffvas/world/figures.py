"""Articulated figures: people, four-legged animals and birds, of many proportions, standing, walking or sitting.

All stand on z = 0, look along +x and are about 1 high; hinges turn about (0, -1, 0), so that a positive angle swings
a leg forward.
"""

from __future__ import annotations

import numpy as np

from diffvas.world.building import about, ball, bone, box, colour, material, plain, ride, shaped, skin, vec
from diffvas.world.spec import Limb, Material, Part

Figure = tuple[tuple[Limb, ...], tuple[Material, ...]]
ACROSS = (1.0, 0.0, 0.0)


def person(rng: np.random.Generator, pose: str | None = None) -> Figure:
    """A biped. Poses: walk, run, stand, wave, sit, ride (the root is then at the seat instead of the ground)."""
    pose = pose or str(rng.choice(["walk", "walk", "walk", "run", "stand", "wave", "sit"]))
    girth = rng.uniform(0.75, 1.45)
    head = rng.uniform(0.062, 0.085) * (1.25 if rng.random() < 0.25 else 1.0)
    hip = rng.uniform(0.44, 0.53)
    neck = 1.0 - 2.35 * head
    seat = 0.0 if pose == "ride" else (hip * 0.52 if pose == "sit" else hip)
    rise = seat - hip
    leg_r, arm_r = rng.uniform(0.034, 0.05) * girth, rng.uniform(0.022, 0.034) * girth
    shoulder, hips = rng.uniform(0.10, 0.135) * girth, rng.uniform(0.05, 0.075) * girth
    lean = {"run": -0.2, "ride": -0.35}.get(pose, 0.0) * rng.uniform(0.2, 1.6)
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (ball((0.07 * girth, hips + leg_r * 0.7, 0.06), (0, 0, seat), 1),))]
    trunk = _trunk(rng, girth, shoulder, hips, neck - hip, head)
    limbs.append(Limb(0, vec((0, 0, seat)), tuple(trunk), angle=round(lean + rng.normal() * 0.04, 4)))
    for side, phase in ((1, 0.0), (-1, 0.5)):
        _arm(rng, limbs, pose, (0, side * shoulder, neck - hip - 0.03), arm_r, phase)
        _leg(rng, limbs, pose, (0, side * hips, hip + rise), hip, leg_r, phase)
    hair = vec(np.array([0.3, 0.2, 0.12]) * rng.uniform(0.2, 2.5))
    # 0 top, 1 trousers, 2 skin, 3 hair or hat, 4 shoes
    return tuple(limbs), (
        material(rng, 0.5),
        material(rng, 0.25),
        plain(skin(rng)),
        plain(hair),
        plain(colour(rng, 0.2)),
    )


def _trunk(
    rng: np.random.Generator, girth: float, shoulder: float, hips: float, height: float, head: float
) -> list[Part]:
    """Chest, belly, neck, head and what is worn, above the hips."""
    deep = rng.uniform(0.05, 0.075) * girth
    parts = [
        ball((deep, shoulder * 0.95, height * 0.36), (0, 0, height * 0.66)),
        ball((deep * rng.uniform(0.9, 1.5), hips + 0.03, height * 0.4), (0.01, 0, height * 0.3)),
        bone((0, -shoulder * 0.8, height - 0.035), (0, shoulder * 0.8, height - 0.035), 0.03 * girth),
        bone((0, 0, height - 0.03), (0.01, 0, height + head * 0.6), head * 0.5, 2),
        ball((head * 0.95, head * 0.8, head * 1.15), (0.015, 0, height + head * 1.25), 2),
    ]
    top = height + head * 1.25
    style = rng.integers(5)
    if style == 0:
        parts.append(
            shaped(
                "lathe",
                (head * 1.6, 0, head * 1.6, 0.01, head * 0.9, 0.012, head * 0.75, head * 0.9),
                (0, 0, top + head * 0.45),
                3,
            )
        )
    elif style <= 2:
        parts.append(ball((head, head * 0.9, head), (-0.012, 0, top + head * 0.3), 3))
    elif style == 3:
        parts += [
            ball((head, head * 0.9, head), (-0.012, 0, top + head * 0.3), 3),
            bone((-head * 0.7, 0, top), (-head, 0, top - rng.uniform(2, 4) * head), head * 0.5, 3),
        ]
    if rng.random() < 0.25:  # backpack
        parts.append(box((0.1, shoulder * 1.5, height * 0.6), (-deep - 0.04, 0, height * 0.6), 4))
    if rng.random() < 0.3:  # coat, skirt or dress
        wide, drop = rng.uniform(0.09, 0.17), rng.uniform(0.1, 0.32)
        parts.append(shaped("lathe", (wide, -drop, hips + 0.045, 0.02, hips + 0.03, 0.1), (0, 0, 0), 0))
    return parts


def _arm(
    rng: np.random.Generator,
    limbs: list[Limb],
    pose: str,
    pivot: tuple[float, float, float],
    radius: float,
    phase: float,
) -> None:
    upper, lower = rng.uniform(0.15, 0.18), rng.uniform(0.14, 0.17)
    out = np.sign(pivot[1]) * rng.uniform(0.01, 0.05)
    swing = {"walk": 0.45, "run": 0.9, "wave": 0.15}.get(pose, 0.06) * rng.uniform(0.6, 1.3)
    angle, elbow = rng.normal() * 0.12, rng.uniform(0.1, 0.5)
    elbow += {"run": 1.1, "sit": 0.6, "ride": 0.4}.get(pose, 0.0)
    angle += {"sit": 0.3, "ride": 0.9}.get(pose, 0.0)
    bend = 0.3
    if (pose == "wave" and rng.random() < 0.7) or rng.random() < 0.08:
        angle, elbow, swing, bend = rng.uniform(1.2, 3.0), rng.uniform(0, 0.8), 0.3, 0.6
    limbs.append(
        Limb(
            1,
            vec(pivot),
            (bone((0, 0, 0), (0, out, -upper), radius * 1.2),),
            angle=round(float(angle), 4),
            swing=round(float(-swing), 4),
            phase=phase,
        )
    )
    hand = [
        bone((0, 0, 0), (0, 0, -lower), radius, int(rng.choice([0, 2]))),
        ball(radius * 1.35, (0, 0, -lower - 0.02), 2),
    ]
    if rng.random() < 0.12:  # something carried
        hand.append(box(rng.uniform(0.05, 0.2, size=3), (0, 0, -lower - 0.12), 4))
    limbs.append(
        Limb(
            len(limbs) - 1,
            vec((0, out, -upper)),
            tuple(hand),
            angle=round(float(elbow), 4),
            bend=bend,
            phase=phase + 0.5,
        )
    )


def _leg(
    rng: np.random.Generator,
    limbs: list[Limb],
    pose: str,
    pivot: tuple[float, float, float],
    hip: float,
    radius: float,
    phase: float,
) -> None:
    thigh, shin = 0.5 * hip, 0.5 * hip - 0.025
    swing = {"walk": 0.5, "run": 0.8}.get(pose, 0.0) * rng.uniform(0.8, 1.2)
    bend = {"walk": 0.6, "run": 1.3}.get(pose, 0.0)
    angle, knee = {"sit": (1.45, -1.4), "ride": (1.0, -1.2)}.get(pose, (rng.normal() * 0.06, -0.06))
    if pose == "ride":
        swing, bend = 0.45, 0.5
    limbs.append(
        Limb(
            0,
            vec(pivot),
            (bone((0, 0, 0), (0, 0, -thigh), radius * 1.25, 1),),
            angle=round(float(angle), 4),
            swing=round(float(swing), 4),
            phase=phase,
        )
    )
    foot = [bone((0, 0, 0), (0, 0, -shin), radius, 1), ball((0.065, 0.028, 0.025), (0.035, 0, -shin), 4)]
    limbs.append(
        Limb(
            len(limbs) - 1, vec((0, 0, -thigh)), tuple(foot), angle=round(float(knee), 4), bend=-bend, phase=phase + 0.2
        )
    )


SPECIES = {  # body length, leg length, belly radius, neck length, neck angle from level, head length, tail length
    "horse": (0.62, 0.52, 0.135, 0.36, 0.9, 0.24, 0.4),
    "dog": (0.75, 0.48, 0.14, 0.20, 0.9, 0.24, 0.36),
    "cat": (0.80, 0.42, 0.13, 0.12, 0.6, 0.16, 0.6),
    "cow": (0.85, 0.45, 0.21, 0.22, 0.45, 0.27, 0.4),
    "giraffe": (0.42, 0.46, 0.10, 0.52, 1.15, 0.15, 0.3),
    "elephant": (0.75, 0.48, 0.26, 0.10, 0.5, 0.24, 0.3),
    "sheep": (0.72, 0.36, 0.24, 0.14, 0.7, 0.2, 0.1),
    "pig": (0.85, 0.26, 0.22, 0.08, 0.3, 0.22, 0.1),
}


def quadruped(rng: np.random.Generator, species: str | None = None, gait: str | None = None) -> Figure:
    """A four-legged animal with jittered proportions; gaits: walk, trot, gallop, stand, graze."""
    species = species or str(rng.choice(list(SPECIES)))
    gait = gait or str(rng.choice(["walk", "walk", "trot", "gallop", "stand", "graze"]))
    length, leg, belly, neck, rise, head, tail = np.asarray(SPECIES[species]) * rng.uniform(0.82, 1.2, size=7)
    back, half = leg + belly * 0.6, length / 2
    body = [
        bone((-half * 0.75, 0, back), (half * 0.75, 0, back + rng.normal() * 0.02), belly * 0.85),
        ball((belly * 1.05, belly * 0.9, belly * rng.uniform(1.0, 1.2)), (half * 0.62, 0, back)),
        ball((belly * 1.1, belly * 0.9, belly * rng.uniform(1.0, 1.15)), (-half * 0.65, 0, back + 0.01)),
        ball((half * 0.7, belly * 0.95, belly), (0, 0, back - belly * rng.uniform(0, 0.25))),
    ]
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(body))]
    if gait == "graze":
        rise = -0.5 * rng.uniform(0.6, 1.4)
    _neck_and_head(rng, limbs, species, (half * 0.85, 0, back + belly * 0.35), neck, float(rise), head, belly)
    swish = Limb(
        0,
        vec((-half - belly * 0.4, 0, back + belly * 0.4)),
        (bone((0, 0, 0), (-tail * 0.35, 0, -tail * 0.6 * rng.uniform(-0.7, 1.2)), rng.uniform(0.015, 0.035), 1),),
        axis=(0.0, 0.0, 1.0),
        swing=0.35,
        cycles=1.0,
    )
    limbs.append(swish)
    phases = {"walk": (0, 0.5, 0.75, 0.25), "trot": (0, 0.5, 0.5, 0), "gallop": (0.0, 0.12, 0.5, 0.62)}.get(gait)
    thick = rng.uniform(0.9, 1.25) * {"elephant": 1.9, "cow": 1.15, "giraffe": 0.75}.get(species, 1.0)
    for index, (x, side) in enumerate(((0.68, 1), (0.68, -1), (-0.72, 1), (-0.72, -1))):
        swing = {"walk": 0.38, "trot": 0.48, "gallop": 0.75}.get(gait, 0.0) * rng.uniform(0.9, 1.1)
        spot = (x * half, side * belly * 0.55, leg + belly * 0.35)
        _animal_leg(limbs, spot, thick, swing, phases[index] if phases else 0.0, x > 0)
    coat = material(rng, 0.6, vec(np.array([0.45, 0.32, 0.22]) * rng.uniform(0.3, 2.0)) if rng.random() < 0.6 else None)
    return tuple(limbs), (coat, plain(colour(rng, 0.3)), plain(colour(rng, 0.1)))


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
    parts = [bone((0, 0, 0), tip * 0.5, wide * 1.15), bone(tip * 0.45, tip, wide * 0.9)]
    if species == "horse" or rng.random() < 0.1:  # mane
        parts.append(
            bone(np.add(tip * 0.1, [-wide, 0, wide * 0.4]), np.add(tip, [-wide, 0, wide * 0.3]), wide * 0.4, 1)
        )
    limbs.append(Limb(0, vec(root), tuple(parts), swing=0.06, cycles=2.0))
    nose = (
        np.array([np.cos(rise - 1.25), 0, np.sin(rise - 1.25)]) * head if rise > 0 else np.array([0.5, 0, -0.8]) * head
    )
    face = [ball(wide * rng.uniform(0.95, 1.2), (0, 0, 0)), bone((0, 0, 0), nose * 0.8, wide * 0.62)]
    ear = wide * rng.uniform(0.5, 1.6) * (2.2 if species == "elephant" else 1.0)
    for side in (1, -1):
        face.append(
            ball(
                (ear * 0.3, ear * 0.45, ear),
                (-wide * 0.3, side * wide * 0.8, wide * 0.8),
                1,
                about(ACROSS, -side * rng.uniform(0, 1.2)),
            )
        )
    if species == "elephant":
        face.append(bone(nose * 0.8, nose * 0.8 + [0.08, 0, -rng.uniform(0.2, 0.4)], wide * 0.35))
    elif species == "cow" or rng.random() < 0.12:  # horns
        face += [
            bone((0, s * wide * 0.6, wide * 0.6), (0.02, s * wide * 1.6, wide * 1.6), wide * 0.16, 2) for s in (1, -1)
        ]
    limbs.append(Limb(1, vec(tip), tuple(face), swing=0.08, phase=0.25))


def _animal_leg(
    limbs: list[Limb], spot: tuple[float, float, float], thick: float, swing: float, phase: float, front: bool
) -> None:
    """Two segments that fold backwards in front and forwards behind, as knees and hocks seem to."""
    upper, lower = spot[2] * 0.52, spot[2] * 0.48
    slant = 0.0 if front else -0.18
    limbs.append(
        Limb(
            0,
            vec(spot),
            (
                bone((0, 0, 0), (slant * upper, 0, -upper), 0.046 * thick),
                ball((0.06 * thick, 0.045 * thick, upper * 0.5), (0, 0, -upper * 0.2)),
            ),
            swing=round(float(swing), 4),
            phase=phase,
        )
    )
    foot = (
        bone((0, 0, 0), (-slant * 0.5 * lower, 0, -lower + 0.02), 0.028 * thick),
        ball((0.042 * thick, 0.034 * thick, 0.03), (-slant * 0.5 * lower + 0.01, 0, -lower + 0.025), 2),
    )
    limbs.append(
        Limb(
            len(limbs) - 1,
            vec((slant * upper, 0, -upper)),
            foot,
            bend=round(float(-1.7 * swing), 4),
            phase=phase + 0.2,
            angle=0.0 if front else 0.1,
        )
    )


def bird(rng: np.random.Generator, flying: bool | None = None) -> Figure:
    """A bird: flapping in the air, or a wader, duck, hen or ostrich on its feet."""
    flying = bool(rng.random() < 0.55) if flying is None else flying
    long, fat = rng.uniform(0.22, 0.34), rng.uniform(0.08, 0.16)
    leg = 0.06 if flying else rng.uniform(0.1, 0.55)
    neck, rise = rng.uniform(0.05, 0.4), rng.uniform(0.2, 0.6) if flying else rng.uniform(0.7, 1.5)
    middle = leg + fat
    root = [
        ball((long, fat, fat * rng.uniform(0.8, 1.1)), (0, 0, middle)),
        shaped(
            "outline",
            (0.012, -long * 0.8, -0.03, -long * 0.8, 0.03, -long * 1.7, 0.08, -long * 1.8, 0.0, -long * 1.7, -0.06),
            (0, 0, middle),
            1,
            about(ACROSS, float(rng.uniform(0.3, 1.57))),
        ),
    ]
    limbs = [Limb(-1, (0.0, 0.0, 0.0), tuple(root))]
    tip = np.array([np.cos(rise), 0, np.sin(rise)]) * (neck + 0.05)
    skull = rng.uniform(0.045, 0.075)
    head = [
        bone((0, 0, 0), tip, skull * 0.6),
        ball(skull, tip),
        bone(tip, np.add(tip, [skull + rng.uniform(0.05, 0.16), 0, -0.02]), skull * 0.3, 2),
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


def rider(rng: np.random.Generator) -> Figure:
    """Somebody on a horse."""
    mount, coats = quadruped(rng, "horse", str(rng.choice(["walk", "trot", "gallop"])))
    body = mount[0].parts[0]
    top = body.pos[2] + body.size[0]
    human, clothes = person(rng, "ride")
    return ride(mount, human, (0.0, 0.0, top + 0.02), len(coats)), (*coats, *clothes)
