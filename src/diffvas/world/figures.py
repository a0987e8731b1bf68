"""People: of all builds, dressed and loaded, who walk, run, sit, ride, reach, carry, bend, squat and dance.

They stand on z = 0, look along +x and are about 1 high; hinges turn about (0, -1, 0), so that a positive angle swings
a leg forward and leans a trunk back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffvas.world.animals import quadruped
from diffvas.world.building import (
    ACROSS,
    Figure,
    about,
    ball,
    bone,
    box,
    colour,
    loft,
    material,
    plain,
    ride,
    shaped,
    skin,
    tube,
    vec,
)
from diffvas.world.spec import Limb, Part

TOP, LEGS, SKIN, HAIR, SHOES = range(5)  # the materials of a person


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians: rest angle and swing of arm and leg, bends of elbow and knee, the trunk's lean.

    ``seat`` is the height of the hips as a share of their height when standing, 0 where something carries them.
    """

    arm: float = 0.0
    elbow: float = 0.25
    arm_swing: float = 0.06
    leg: float = 0.0
    knee: float = -0.06
    leg_swing: float = 0.0
    knee_bend: float = 0.0
    lean: float = 0.0
    seat: float = 1.0
    alike: bool = False  # both arms do the same


POSES = {
    "walk": Pose(arm_swing=0.45, leg_swing=0.5, knee_bend=0.6),
    "run": Pose(elbow=1.4, arm_swing=0.9, leg_swing=0.8, knee_bend=1.3, lean=-0.2),
    "stand": Pose(),
    "wave": Pose(arm_swing=0.15),
    "sit": Pose(arm=0.3, elbow=0.9, leg=1.45, knee=-1.4, seat=0.52),
    "ride": Pose(arm=0.9, elbow=0.7, leg=1.0, knee=-1.2, leg_swing=0.45, knee_bend=0.5, lean=-0.35, seat=0.0),
    "reach": Pose(arm=1.9, elbow=0.3, arm_swing=0.35, lean=-0.1, alike=True),
    "carry": Pose(arm=0.55, elbow=1.0, arm_swing=0.03, leg_swing=0.45, knee_bend=0.55, lean=0.06, alike=True),
    "push": Pose(arm=1.1, elbow=0.35, arm_swing=0.03, leg_swing=0.45, knee_bend=0.55, lean=-0.15, alike=True),
    "bend": Pose(arm=0.9, elbow=0.2, arm_swing=0.3, leg=0.1, knee=-0.2, lean=-1.1, seat=0.97, alike=True),
    "squat": Pose(arm=0.9, elbow=0.4, arm_swing=0.1, leg=1.75, knee=-2.3, lean=-0.5, seat=0.42),
    "kneel": Pose(arm=0.4, elbow=0.6, arm_swing=0.1, leg=0.1, knee=-1.65, lean=-0.1, seat=0.56),
    "dance": Pose(arm=1.4, elbow=0.6, arm_swing=0.9, leg=0.1, knee=-0.15, leg_swing=0.35, knee_bend=0.5),
}
MOVING = ("walk", "walk", "walk", "walk", "run", "run")
RESTING = ("stand", "stand", "wave", "sit", "sit", "reach", "bend", "squat", "kneel", "dance", "walk", "run")


def person(rng: np.random.Generator, pose: str | None = None) -> Figure:
    """A biped in one of ``POSES``; with "ride" the root is at the seat instead of on the ground."""
    pose = pose or str(rng.choice(MOVING + RESTING))
    how = POSES[pose]
    child = rng.random() < 0.2
    girth = rng.uniform(0.8, 1.3) * (1.15 if child else 1.0)
    head = rng.uniform(0.06, 0.075) * (rng.uniform(1.2, 1.5) if child else 1.0)
    hip = rng.uniform(0.46, 0.53) - (0.05 if child else 0.0)
    chest = 1.0 - 2.35 * head - hip
    seat = hip * how.seat
    leg_r, arm_r = rng.uniform(0.034, 0.046) * girth, rng.uniform(0.022, 0.031) * girth
    shoulder, hips = rng.uniform(0.095, 0.125) * girth, rng.uniform(0.045, 0.065) * girth
    lean = how.lean * rng.uniform(0.6, 1.4) + rng.normal() * 0.04
    pelvis = ball((0.065 * girth, hips + leg_r * 0.8, 0.065), (0, 0, seat), LEGS)
    limbs = [Limb(-1, (0.0, 0.0, 0.0), (pelvis,))]
    trunk = _trunk(rng, girth, shoulder, hips + leg_r, chest) + _head(rng, chest, head)
    limbs.append(Limb(0, vec((0, 0, seat)), (*trunk, *_worn(rng, shoulder, chest, head)), angle=round(lean, 4)))
    short_trousers, short_sleeves = rng.random() < 0.25, rng.random() < 0.4
    wide_legs = rng.uniform(1.2, 1.6) if rng.random() < 0.25 else 1.0
    load = _load(rng, girth) if pose not in ("carry", "push") else []
    for side, phase in ((1, 0.0), (-1, 0.5)):
        held = load if side == (1 if rng.random() < 0.5 else -1) else []
        pivot = (0.0, side * shoulder, chest - 0.03)
        _arm(rng, limbs, how, pose, pivot, arm_r, 0.0 if how.alike else phase, held, SKIN if short_sleeves else TOP)
        shin = SKIN if short_trousers else LEGS
        _leg(rng, limbs, how, (0.0, side * hips, seat), hip, leg_r, phase, shin, wide_legs)
    if rng.random() < 0.3 and pose not in ("sit", "squat", "kneel", "ride"):
        limbs.append(_skirt(rng, hips + leg_r, seat, hip, girth))
    hair = vec(np.clip(np.array([0.3, 0.2, 0.12]) * rng.uniform(0.2, 2.5), 0, 1))
    top = material(rng, 0.5)
    trousers = top if rng.random() < 0.12 else material(rng, 0.25)
    return tuple(limbs), (top, trousers, plain(skin(rng)), plain(hair), plain(colour(rng, 0.2)))


def _trunk(rng: np.random.Generator, girth: float, shoulder: float, hips: float, chest: float) -> list[Part]:
    """One skin from the hips over waist and chest to the neck, sometimes in a coat that hangs below the hips."""
    deep, waist = rng.uniform(0.052, 0.072) * girth, rng.uniform(0.68, 1.0)
    paunch = rng.uniform(0.9, 1.5)
    coat = rng.random() < 0.25
    low = -rng.uniform(0.08, 0.3) if coat else -0.02
    loose = 1.12 if coat else 1.0
    rows = [(low, hips * rng.uniform(1.0, 1.35 if coat else 1.02), deep * 1.05), (0.1 * chest, hips, deep)]
    rows += [(0.4 * chest, hips * waist, deep * paunch * 0.9), (0.72 * chest, shoulder * 0.95, deep * 1.12)]
    rows += [(0.9 * chest, shoulder, deep * 0.85), (chest, shoulder * 0.5, deep * 0.55)]
    return [loft([(0.0, 0.0, z, w * loose, d * loose) for z, w, d in rows], TOP, 0.4)]


def _head(rng: np.random.Generator, chest: float, head: float) -> list[Part]:
    """Neck, skull, hair and what is on it."""
    top = chest + head * 1.25
    parts = [
        bone((0, 0, chest - 0.03), (0.01, 0, chest + head * 0.6), head * 0.45, SKIN),
        ball((head * 0.95, head * 0.8, head * 1.15), (0.015, 0, top), SKIN),
    ]
    cap = ball((head, head * 0.9, head), (-0.012, 0, top + head * 0.3), HAIR)
    style = str(rng.choice(["bald", "short", "short", "bob", "long", "tail", "bun", "wild", "brim", "hood", "peak"]))
    if style != "bald" and style != "brim":
        parts.append(cap)
    if style in ("bob", "long"):
        fall = rng.uniform(0.8, 1.5) if style == "bob" else rng.uniform(2.0, 4.0)
        rows = [(0.3, 0.95, 0.6), (-0.4, 1.05, 0.6), (-fall, rng.uniform(0.6, 1.2), 0.35)]
        parts.append(loft([(-head * 0.5, 0, top + z * head, head * w, head * d) for z, w, d in rows], HAIR, 0.5))
    elif style == "tail":
        tip = (-head * rng.uniform(1.2, 2.5), 0, top - rng.uniform(0.5, 4) * head)
        parts.append(
            tube(
                [(-head * 0.7, 0, top + head * 0.4), (-head * 1.4, 0, top), tip],
                head * np.array([0.3, 0.4, 0.15]),
                HAIR,
            )
        )
    elif style == "bun":
        parts.append(ball(head * rng.uniform(0.4, 0.7), (-head * 0.7, 0, top + head * rng.uniform(0.3, 1.2)), HAIR))
    elif style == "wild":
        bush = head * rng.uniform(1.2, 1.6)
        parts.append(
            shaped("blob", (bush, bush, bush, 0.2, rng.integers(10**6)), (-head * 0.25, 0, top + head * 0.4), HAIR)
        )
    elif style == "brim":
        brim = rng.uniform(1.3, 2.2)
        crown = (head * brim, 0, head * brim, 0.01, head * 0.9, 0.012, head * 0.75, head * rng.uniform(0.5, 1.1))
        parts.append(shaped("lathe", crown, (0, 0, top + head * 0.45), HAIR))
    elif style == "hood":
        parts.append(ball((head * 1.1, head * 1.05, head * 1.4), (-head * 0.3, 0, top), TOP))
    elif style == "peak":
        parts.append(ball((head * 0.9, head * 0.7, head * 0.08), (head * 0.9, 0, top + head * 0.5), HAIR))
    return parts


def _worn(rng: np.random.Generator, shoulder: float, chest: float, head: float) -> list[Part]:
    """What is carried on the trunk: a backpack, a cape, a shoulder bag."""
    pick = rng.random()
    if pick < 0.15:
        size = (rng.uniform(0.07, 0.14), shoulder * rng.uniform(1.2, 1.8), chest * rng.uniform(0.45, 0.8))
        half = 0.5 * np.asarray(size)
        return [shaped("superquadric", (*half, 0.4, 0.4), (-0.065 - half[0], 0, chest * 0.6), SHOES)]
    if pick < 0.22:
        fall = rng.uniform(0.3, 1.2)
        rows = [(chest * 0.95, shoulder * 0.7), (chest * 0.4, shoulder * 1.1), (chest * (0.7 - fall), shoulder * 1.4)]
        return [loft([(-0.08 - 0.04 * k, 0, z, w, 0.015) for k, (z, w) in enumerate(rows)], HAIR, 0.2)]
    if pick < 0.3:
        side = float(rng.choice([-1.0, 1.0]))
        bag = box((rng.uniform(0.1, 0.2), 0.06, rng.uniform(0.1, 0.18)), (0, side * (shoulder + 0.02), 0.0), SHOES)
        return [bag, bone((0, side * shoulder, 0.05), (0, -side * shoulder * 0.3, chest), 0.008, SHOES)]
    return []


def _load(rng: np.random.Generator, girth: float) -> list[Part]:
    """Something in a hand, in the frame of a hanging hand: a bag, a case, a stick, an umbrella, a ball."""
    pick = rng.random()
    if pick < 0.1:
        size = rng.uniform(0.05, 0.2, size=3)
        return [box(size, (0, 0, -0.05 - size[2] / 2), SHOES)]
    if pick < 0.16:
        long = rng.uniform(0.3, 0.7)
        return [bone((-long * 0.3, 0, 0), (long * 0.7, 0, rng.uniform(-0.3, 0.1)), 0.01, SHOES)]
    if pick < 0.2:
        wide = rng.uniform(0.2, 0.4) * girth
        canopy = (wide, 0.0, wide * 0.75, wide * 0.3, wide * 0.25, wide * 0.45)
        return [
            shaped("lathe", canopy, (0.45, 0, 0.25), HAIR, about((0, 1, 0), np.pi / 2)),
            bone((0, 0, 0), (0.6, 0, 0.25), 0.008, SHOES),
        ]
    if pick < 0.24:
        return [ball(rng.uniform(0.05, 0.1), (0.03, 0, -0.06), SHOES)]
    return []


def _skirt(rng: np.random.Generator, hips: float, seat: float, hip: float, girth: float) -> Limb:
    """A skirt or long dress that sways with the stride."""
    drop, flare = hip * rng.uniform(0.3, 0.95), rng.uniform(0.02, 0.14)
    rows = [(0.07, hips * 0.85, 0.06 * girth), (-0.05, hips * 1.08, 0.08 * girth)]
    rows += [(-drop, hips + flare, 0.08 * girth + flare)]
    return Limb(0, vec((0, 0, seat)), (loft([(0.0, 0.0, z, w, d) for z, w, d in rows], TOP, 0.1),), swing=0.06)


def _arm(
    rng: np.random.Generator,
    limbs: list[Limb],
    how: Pose,
    pose: str,
    pivot: tuple[float, float, float],
    radius: float,
    phase: float,
    held: list[Part],
    sleeve: int,
) -> None:
    upper, lower = rng.uniform(0.15, 0.175), rng.uniform(0.135, 0.16)
    side = np.sign(pivot[1])
    out = side * rng.uniform(0.01, 0.05)
    swing, angle, elbow, bend = how.arm_swing * rng.uniform(0.6, 1.3), how.arm, how.elbow, 0.3
    angle += rng.normal() * (0.12 if not how.alike else 0.03)
    elbow += rng.uniform(-0.15, 0.25)
    axis = (0.0, -1.0, 0.0)
    raised = (pose == "wave" and rng.random() < 0.7) or (pose not in ("carry", "push") and rng.random() < 0.06)
    if raised:
        angle, elbow, swing, bend = rng.uniform(1.2, 3.0), rng.uniform(0, 0.8), 0.3, 0.6
    if pose == "dance" or (raised and rng.random() < 0.5):  # sideways
        axis = (float(side), 0.0, 0.0)
    r = radius * (1.15 if sleeve == TOP else 1.0)
    arm = tube([(0, 0, 0.01), (0, out * 0.5, -upper * 0.5), (0, out, -upper)], (r * 1.35, r * 1.25, r * 0.95), TOP)
    limbs.append(Limb(1, vec(pivot), (arm,), axis=axis, angle=round(angle, 4), swing=round(-swing, 4), phase=phase))
    hand = [
        tube([(0, 0, 0), (0, 0, -lower * 0.4), (0, 0, -lower)], (r * 0.95, r * 1.0, radius * 0.7), sleeve),
        ball((radius * 0.9, radius * 0.6, radius * 1.6), (0, 0, -lower - 0.02), SKIN),
    ]
    hand += [Part(p.kind, p.size, vec(np.add(p.pos, (0, 0, -lower - 0.03))), p.quat, p.material, p.mesh) for p in held]
    limbs.append(
        Limb(
            len(limbs) - 1,
            vec((0, out, -upper)),
            tuple(hand),
            axis=axis,
            angle=round(elbow, 4),
            bend=bend if not how.alike else 0.05,
            phase=phase + 0.5,
        )
    )


def _leg(
    rng: np.random.Generator,
    limbs: list[Limb],
    how: Pose,
    pivot: tuple[float, float, float],
    hip: float,
    radius: float,
    phase: float,
    shin_material: int,
    wide: float,
) -> None:
    thigh, shin = 0.5 * hip, 0.5 * hip - 0.025
    angle, knee = how.leg + rng.normal() * 0.06, how.knee
    if how.seat == 1.0 and how.leg == 0.0 and how.leg_swing == 0.0 and rng.random() < 0.3:
        angle += rng.normal() * 0.2
    upper = tube([(0, 0, 0), (0, 0, -thigh * 0.4), (0, 0, -thigh)], radius * np.array([1.4, 1.3, 0.95 * wide]), LEGS)
    limbs.append(
        Limb(
            0,
            vec(pivot),
            (upper,),
            angle=round(float(angle), 4),
            swing=round(float(how.leg_swing * rng.uniform(0.8, 1.2)), 4),
            phase=phase,
        )
    )
    hem = 0.62 if shin_material == SKIN else 0.7 * wide
    calf = tube(
        [(0, 0, 0), (-0.008, 0, -shin * 0.35), (0, 0, -shin)], radius * np.array([0.95, 1.05, hem]), shin_material
    )
    shoe = loft(
        [
            (-0.025, 0, -shin + 0.005, 0.024, 0.03),
            (0.03, 0, -shin, 0.028, 0.026),
            (0.085, 0, -shin - 0.008, 0.024, 0.016),
        ],
        SHOES,
    )
    limbs.append(
        Limb(
            len(limbs) - 1,
            vec((0, 0, -thigh)),
            (calf, shoe),
            angle=round(float(knee), 4),
            bend=-how.knee_bend,
            phase=phase + 0.2,
        )
    )


def rider(rng: np.random.Generator, mount: str = "horse") -> Figure:
    """Somebody on a horse, or on another animal of ``SPECIES``."""
    beast, coats = quadruped(rng, mount, str(rng.choice(["walk", "trot", "gallop"])))
    low, high = beast[0].parts[0].mesh.numbers[3::5], beast[0].parts[0].mesh.numbers[5::5]
    top = max(z + deep for z, deep in zip(low, high, strict=True))
    human, clothes = person(rng, "ride")
    return ride(beast, human, (0.0, 0.0, top + 0.02), len(coats)), (*coats, *clothes)


def fallen(rng: np.random.Generator) -> Figure:
    """Somebody who lies on the ground."""
    limbs, stuff = person(rng, "stand")
    turn = about((0, 1, 0), float(rng.choice([-1, 1]) * np.pi / 2))
    root = Limb(-1, (0.0, 0.0, 0.0), ())
    tilt = 2 * np.arctan2(turn[2], turn[0])
    moved = [root, Limb(0, (0.0, 0.0, 0.12), limbs[0].parts, axis=(0.0, 1.0, 0.0), angle=round(float(tilt), 4))]
    moved += [
        Limb(x.parent + 1, x.pivot, x.parts, x.axis, x.angle, x.swing, x.bend, x.phase, x.cycles, x.roll)
        for x in limbs[1:]
    ]
    return tuple(moved), stuff


def walker_with_wheels(rng: np.random.Generator) -> Figure:
    """Somebody who pushes a pram, a trolley, a barrow or a wheelchair."""
    human, clothes = person(rng, "push")
    long, wide, high = rng.uniform(0.25, 0.45), rng.uniform(0.2, 0.3), rng.uniform(0.2, 0.4)
    base, radius = rng.uniform(0.15, 0.3), rng.uniform(0.05, 0.12)
    x = 0.32 + long / 2
    body = [
        shaped("superquadric", (long / 2, wide / 2, high / 2, 0.3, 0.3), (x, 0, base + high / 2), 5),
        bone((0.26, 0, 0.62), (x - long * 0.3, 0, base), 0.012, 6),
    ]
    if rng.random() < 0.5:
        body.append(ball((long * 0.3, wide * 0.5, high * 0.5), (x - long * 0.2, 0, base + high), 5))
    for dx in (-0.4, 0.4):
        for side in (-1, 1):
            hub = (x + dx * long, side * wide * 0.5, radius)
            body.append(Part("cylinder", vec((radius, 0.015, 0)), vec(hub), about(ACROSS, np.pi / 2), 6))
            body.append(bone(hub, (x + dx * long * 0.5, side * wide * 0.3, base + 0.05), 0.01, 6))
    return (*human, Limb(0, (0.0, 0.0, 0.0), tuple(body))), (*clothes, material(rng, 0.5), plain((0.15, 0.15, 0.16)))
