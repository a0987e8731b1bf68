"""2-D shapes of the flat world: polygons, blobs, holes, and figures whose limbs move.

A shape is a list of parts in local coordinates (about one unit tall, y down). Drawing a shape at a phase of its
motion gives polygons; the renderer moves them to pixels. Everything is sampled from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Limb:
    """One moving part: a capsule or polygon that hangs from a joint of another part.

    Attributes:
        parent: index of the part it hangs from, or -1 for the shape's own origin.
        anchor: (2,) joint position in the parent's coordinates.
        outline: (P, 2) polygon in the part's own coordinates, the joint at the origin.
        angle: rest angle in radians; swing: amplitude in radians; rate: swings per clip; phase: in radians.
        hole: True where the polygon is cut out of what was drawn before it.
    """

    parent: int
    anchor: tuple[float, float]
    outline: Array
    angle: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0
    hole: bool = False


@dataclass(frozen=True)
class Shape:
    """Parts in drawing order; later parts cover earlier ones."""

    limbs: list[Limb] = field(default_factory=list)

    def polygons(self, time: float) -> list[tuple[Array, bool]]:
        """Polygons in local coordinates at ``time`` in [0, 1], each with its hole flag."""
        frames: list[tuple[float, Array]] = []
        out = []
        for limb in self.limbs:
            base_angle, base = (0.0, np.zeros(2)) if limb.parent < 0 else frames[limb.parent]
            origin = base + rotation(base_angle) @ np.asarray(limb.anchor)
            angle = base_angle + limb.angle + limb.swing * np.sin(2 * np.pi * limb.rate * time + limb.phase)
            frames.append((angle, origin))
            out.append((limb.outline @ rotation(angle).T + origin, limb.hole))
        return out


def rotation(angle: float) -> Array:
    """(2, 2) rotation matrix; positive angles turn x towards y."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def ellipse(a: float, b: float, n: int = 20) -> Array:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([a * np.cos(t), b * np.sin(t)], 1)


def box(x0: float, y0: float, x1: float, y1: float) -> Array:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def capsule(length: float, start: float, end: float) -> Array:
    """A limb that hangs down from the origin, its half width going from ``start`` to ``end``."""
    t = np.linspace(0, np.pi, 7)
    top = np.stack([start * np.cos(t), -start * np.sin(t)], 1)
    low = np.stack([-end * np.cos(t), length + end * np.sin(t)], 1)
    return np.concatenate([top, low])


def blob(rng: np.random.Generator, harmonics: int = 6, rough: float = 0.5) -> Array:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    r = np.ones_like(t)
    for k in range(1, harmonics + 1):
        r += rough * rng.normal() / (k + 0.5) * np.cos(k * t + rng.uniform(0, 2 * np.pi)) * 0.6
    r = np.clip(r, 0.25, 2.2)
    aspect = np.exp(rng.normal(0, 0.35))
    xy = np.stack([r * np.cos(t) * aspect, r * np.sin(t) / aspect], 1)
    return xy / (2 * np.abs(xy).max())


def polygon(rng: np.random.Generator) -> Array:
    n = int(rng.integers(3, 9))
    t = np.sort(rng.uniform(0, 2 * np.pi, n)) if rng.random() < 0.5 else np.arange(n) * 2 * np.pi / n
    r = np.where(np.arange(n) % 2 == 0, 1.0, rng.uniform(0.4, 1.0)) if rng.random() < 0.4 else np.ones(n)
    aspect = np.exp(rng.normal(0, 0.4))
    xy = np.stack([r * np.cos(t) * aspect, r * np.sin(t) / aspect], 1)
    return xy / (2 * np.abs(xy).max())


# --- families -------------------------------------------------------------------------------------------------


def simple(rng: np.random.Generator) -> Shape:
    """One outline: blob, polygon, ellipse or box."""
    kind = rng.integers(4)
    if kind == 0:
        outline = blob(rng, rough=rng.uniform(0.2, 0.8))
    elif kind == 1:
        outline = polygon(rng)
    elif kind == 2:
        outline = ellipse(0.5, rng.uniform(0.2, 0.5), 32)
    else:
        outline = box(-rng.uniform(0.15, 0.5), -0.5, rng.uniform(0.15, 0.5), 0.5)
    return Shape([Limb(-1, (0, 0), outline)])


def _clothing(
    rng: np.random.Generator, hip_y: float, torso: float, head: float, wide: float, rate: float, phase: float
) -> list[Limb]:
    """What a figure may wear or carry: a skirt or coat, a hat, hair or a backpack."""
    limbs: list[Limb] = []
    if rng.random() < 0.4:  # skirt, coat
        limbs.append(
            Limb(
                -1,
                (0, hip_y - torso * 0.3),
                np.array(
                    [
                        [-wide * 0.8, 0],
                        [wide * 0.8, 0],
                        [wide * 1.6, torso * rng.uniform(0.5, 1.2)],
                        [-wide * 1.6, torso * rng.uniform(0.5, 1.2)],
                    ]
                ),
                0,
                0.05,
                rate,
                phase,
            )
        )
    if rng.random() < 0.3:  # hat, hair, backpack
        limbs.append(
            Limb(
                -1,
                (rng.uniform(-wide, wide), hip_y - torso - head * rng.uniform(0, 2)),
                ellipse(head * rng.uniform(0.6, 1.5), head * rng.uniform(0.5, 1.5)),
            )
        )
    return limbs


def biped(rng: np.random.Generator) -> Shape:
    """A standing, walking, running or sitting figure with varied proportions and clothing-like volumes."""
    leg = rng.uniform(0.36, 0.5)
    torso = rng.uniform(0.28, 0.38)
    head = rng.uniform(0.06, 0.1)
    wide = rng.uniform(0.07, 0.15)
    thick = rng.uniform(0.03, 0.065)
    hip_y = 0.5 - leg
    side = rng.random() < 0.6
    swing = rng.choice([0.0, rng.uniform(0.15, 0.4), rng.uniform(0.4, 0.8)])
    rate = rng.uniform(1.0, 4.0)
    phase = rng.uniform(0, 2 * np.pi)
    spread = 0.02 if side else wide * 0.6
    sit = rng.random() < 0.15
    limbs: list[Limb] = []

    def leg_pair(sign: float) -> None:
        limbs.append(
            Limb(
                -1,
                (sign * spread, hip_y),
                capsule(leg / 2, thick * 1.3, thick),
                -1.4 if sit else 0.0,
                swing,
                rate,
                phase + (0 if sign > 0 else np.pi),
            )
        )
        parent = len(limbs) - 1
        limbs.append(
            Limb(
                parent,
                (0, leg / 2),
                capsule(leg / 2 - thick, thick, thick * 0.8),
                1.4 if sit else 0.15,
                swing * 0.6,
                rate,
                phase + (0 if sign > 0 else np.pi) + 1.2,
            )
        )
        limbs.append(Limb(len(limbs) - 1, (0, leg / 2 - thick), box(-thick, -thick * 0.3, thick * 2.2, thick), 0.0))

    def arm(sign: float) -> None:
        lift = rng.choice([0.0, rng.uniform(-2.6, -0.5)], p=[0.75, 0.25])
        at = sign * (wide * 0.2 if side else wide * 0.95)
        limbs.append(
            Limb(
                -1,
                (at, hip_y - torso * 0.92),
                capsule(torso * 0.5, thick * 0.9, thick * 0.75),
                lift - sign * rng.uniform(0, 0.3),
                swing * 0.9,
                rate,
                phase + (np.pi if sign > 0 else 0),
            )
        )
        limbs.append(
            Limb(
                len(limbs) - 1,
                (0, torso * 0.5),
                capsule(torso * 0.45, thick * 0.7, thick * 0.6),
                -rng.uniform(0.0, 0.9),
                swing * 0.3,
                rate,
                phase,
            )
        )

    arm(-1)
    leg_pair(-1)
    leg_pair(1)
    limbs.append(Limb(-1, (0, hip_y), box(-wide * 0.8, -torso, wide * 0.8, thick), 0, 0.04, rate, phase))
    limbs.append(Limb(-1, (0, hip_y - torso * 0.55), ellipse(wide, torso * 0.55), 0, 0.04, rate, phase))
    limbs.append(Limb(-1, (0, hip_y - torso - head * 0.9), ellipse(head * 0.85, head * 1.15), 0, 0.1, 1, phase))
    limbs += _clothing(rng, hip_y, torso, head, wide, rate, phase)
    arm(1)
    return Shape(limbs)


def quadruped(rng: np.random.Generator) -> Shape:
    """Horse, dog, giraffe, sheep and their relatives, facing right."""
    body = rng.uniform(0.28, 0.42)
    girth = rng.uniform(0.1, 0.2)
    leg = rng.uniform(0.2, 0.5)
    thick = rng.uniform(0.02, 0.05)
    neck = rng.uniform(0.08, 0.45) if rng.random() < 0.8 else rng.uniform(0.4, 0.7)
    neck_angle = np.pi - rng.uniform(0.2, 1.2)
    swing = rng.choice([0.0, rng.uniform(0.15, 0.35), rng.uniform(0.35, 0.7)])
    rate = rng.uniform(1.0, 4.0)
    phase = rng.uniform(0, 2 * np.pi)
    limbs: list[Limb] = []
    for k, (at, shift) in enumerate([(-0.8, 0.0), (0.8, np.pi * 0.9), (-0.72, np.pi), (0.72, 0.3)]):
        limbs.append(
            Limb(-1, (at * body, girth * 0.4), capsule(leg * 0.5, thick * 1.6, thick), 0.0, swing, rate, phase + shift)
        )
        limbs.append(
            Limb(
                len(limbs) - 1,
                (0, leg * 0.5),
                capsule(leg * 0.5, thick, thick * 0.8),
                0.2 if k % 2 == 0 else -0.1,
                swing * 0.6,
                rate,
                phase + shift + 1.0,
            )
        )
        limbs.append(Limb(len(limbs) - 1, (0, leg * 0.5), box(-thick, -thick * 0.4, thick * 1.6, thick * 0.8)))
    limbs.append(Limb(-1, (0, 0), ellipse(body, girth), rng.uniform(-0.1, 0.1), 0.04, rate, phase))
    limbs.append(Limb(-1, (-body * 0.7, 0), ellipse(girth * 1.05, girth * 1.05)))
    limbs.append(Limb(-1, (body * 0.7, -girth * 0.1), ellipse(girth * 1.05, girth * 1.05)))
    limbs.append(
        Limb(-1, (body * 0.8, -girth * 0.3), capsule(neck, girth * 0.75, girth * 0.4), -neck_angle, 0.08, rate, phase)
    )
    at = len(limbs) - 1
    head = rng.uniform(0.1, 0.2)
    limbs.append(Limb(at, (0, neck), capsule(head, girth * 0.45, girth * 0.28), rng.uniform(0.9, 1.9), 0.08, 1, phase))
    if rng.random() < 0.6:
        limbs.append(
            Limb(
                at, (0, neck + girth * 0.3), capsule(head * rng.uniform(0.3, 1.0), 0.015, 0.01), rng.uniform(-0.9, 0.9)
            )
        )
    limbs.append(
        Limb(
            -1,
            (-body * 1.05, -girth * 0.4),
            capsule(rng.uniform(0.1, 0.35), thick, thick * 0.5),
            rng.uniform(0.1, 1.6),
            0.3,
            rng.uniform(0.5, 3),
            phase,
        )
    )
    if rng.random() < 0.25:  # rider or load
        limbs.append(Limb(-1, (0, -girth * 1.3), ellipse(rng.uniform(0.06, 0.12), rng.uniform(0.1, 0.22))))
        limbs.append(Limb(-1, (0, -girth * 1.3 - 0.22), ellipse(0.05, 0.06)))
    return Shape(limbs)


def bird(rng: np.random.Generator) -> Shape:
    body = rng.uniform(0.2, 0.35)
    wing = rng.uniform(0.3, 0.7)
    beat = rng.uniform(0.2, 1.1)
    rate = rng.uniform(0.5, 5)
    tri = np.array([[-0.1, 0], [0.12, 0], [rng.uniform(-0.2, 0.1), wing], [-0.15, wing * 0.8]])
    limbs = [
        Limb(-1, (0, -0.02), tri, np.pi + rng.uniform(-0.4, 0.8), beat, rate),
        Limb(-1, (0, 0), ellipse(body, body * rng.uniform(0.35, 0.6))),
        Limb(-1, (body * 0.95, -body * 0.25), ellipse(body * 0.35, body * 0.32)),
        Limb(-1, (body * 1.25, -body * 0.22), np.array([[0, -0.03], [0.12, 0.01], [0, 0.04]])),
        Limb(
            -1,
            (-body * 0.8, 0),
            np.array([[0, -0.05], [-0.25, -0.1], [-0.28, 0.06], [0, 0.05]]),
            rng.uniform(-0.5, 0.5),
        ),
        Limb(-1, (0, 0), tri * 0.95, rng.uniform(-1.0, 0.5) if rng.random() < 0.5 else np.pi + 0.5, beat, rate, 0.3),
    ]
    return Shape(limbs)


def vehicle(rng: np.random.Generator) -> Shape:
    long = rng.uniform(0.35, 0.5)
    high = rng.uniform(0.1, 0.2)
    cab = rng.uniform(0.08, 0.25)
    wheel = rng.uniform(0.06, 0.1)
    x0, x1 = np.sort(rng.uniform(-long, long, 2))
    limbs = [
        Limb(-1, (0, 0), box(-long, -high, long, high)),
        Limb(-1, (0, -high), np.array([[x0 - 0.08, 0], [x0, -cab], [x1, -cab], [x1 + 0.08, 0]])),
    ]
    for at in (-0.65, 0.65) if rng.random() < 0.7 else (-0.7, 0.0, 0.7):
        limbs.append(Limb(-1, (at * long, high), ellipse(wheel, wheel)))
    return Shape(limbs)


def cycle(rng: np.random.Generator) -> Shape:
    """Two wheels with a frame and sometimes a rider."""
    r = rng.uniform(0.14, 0.2)
    gap = rng.uniform(0.2, 0.28)
    rim = rng.uniform(0.02, 0.05)
    limbs: list[Limb] = []
    for at in (-gap, gap):
        limbs.append(Limb(-1, (at, 0.3), ellipse(r, r, 28)))
        limbs.append(Limb(-1, (at, 0.3), ellipse(r - rim, r - rim, 28), hole=rng.random() < 0.7))
    for at, angle in ((-gap, 2.3), (gap, -2.8), (0.0, 2.8), (-gap, -1.6)):
        limbs.append(Limb(-1, (at, 0.3), capsule(rng.uniform(0.25, 0.4), rim * 0.8, rim * 0.8), angle))
    if rng.random() < 0.7:
        lean = rng.uniform(0.1, 0.9)
        limbs.append(Limb(-1, (-0.08, 0.0), capsule(0.3, 0.09, 0.1), np.pi + lean))
        limbs.append(Limb(len(limbs) - 1, (0, 0.4), ellipse(0.07, 0.08)))
        limbs.append(Limb(len(limbs) - 2, (0, 0.27), capsule(0.3, 0.04, 0.03), -np.pi + 0.6))
        for phase in (0.0, np.pi):
            limbs.append(Limb(-1, (-0.08, 0.02), capsule(0.18, 0.06, 0.045), -0.5, 0.5, 3, phase))
            limbs.append(Limb(len(limbs) - 1, (0, 0.18), capsule(0.17, 0.045, 0.035), 0.6, 0.5, 3, phase + 1))
    return Shape(limbs)


def furniture(rng: np.random.Generator) -> Shape:
    """Tables, chairs, shelves, lamps: boxes on legs."""
    top = rng.uniform(0.2, 0.5)
    at = rng.uniform(-0.35, 0.2)
    slab = rng.uniform(0.03, 0.15)
    leg = rng.uniform(0.015, 0.06)
    limbs = [Limb(-1, (0, at), box(-top, 0, top, slab))]
    for x in np.linspace(-top + leg, top - leg, int(rng.integers(1, 5))):
        limbs.append(Limb(-1, (x, at), box(-leg, 0, leg, 0.5 - at)))
    if rng.random() < 0.5:
        limbs.append(Limb(-1, (-top, at), box(0, -rng.uniform(0.15, 0.4), rng.uniform(0.05, top * 2), 0.02)))
    if rng.random() < 0.3:
        limbs.append(Limb(-1, (rng.uniform(-top, top), at), blob(rng) * rng.uniform(0.2, 0.5) + np.array([0, -0.12])))
    return Shape(limbs)


def lathe(rng: np.random.Generator) -> Shape:
    """Bottles, cups, vases, lamps: a profile mirrored about its axis, sometimes with a handle."""
    y = np.linspace(-0.5, 0.5, int(rng.integers(5, 12)))
    r = np.clip(np.abs(0.22 + np.cumsum(rng.normal(0, 0.07, len(y)))), 0.05, 0.45)
    outline = np.concatenate([np.stack([r, y], 1), np.stack([-r[::-1], y[::-1]], 1)])
    limbs = []
    if rng.random() < 0.3:
        limbs += [
            Limb(-1, (float(r.max()), 0), ellipse(0.16, 0.2)),
            Limb(-1, (float(r.max()), 0), ellipse(0.1, 0.14), hole=True),
        ]
    return Shape([*limbs, Limb(-1, (0, 0), outline)])


def tree(rng: np.random.Generator) -> Shape:
    limbs = [Limb(-1, (0, 0.5), capsule(rng.uniform(0.5, 0.9), rng.uniform(0.03, 0.1), 0.02), np.pi)]
    for _ in range(int(rng.integers(2, 8))):
        limbs.append(
            Limb(
                0,
                (0, rng.uniform(0.25, 0.9)),
                capsule(rng.uniform(0.15, 0.45), 0.025, 0.01),
                rng.uniform(-1.3, 1.3),
                rng.uniform(0, 0.1),
                1,
                rng.uniform(0, 6),
            )
        )
        if rng.random() < 0.6:
            limbs.append(Limb(len(limbs) - 1, (0, 0.3), blob(rng) * rng.uniform(0.2, 0.5)))
    return Shape(limbs)


def compound(rng: np.random.Generator) -> Shape:
    """A few random outlines stuck together, some swinging: what no family foresees."""
    limbs = [Limb(-1, (0, 0), blob(rng) * rng.uniform(0.5, 1.0))]
    for _ in range(int(rng.integers(1, 6))):
        part = [blob(rng) * 0.5, polygon(rng) * 0.5, capsule(rng.uniform(0.1, 0.5), 0.07, 0.04)][int(rng.integers(3))]
        limbs.append(
            Limb(
                int(rng.integers(-1, len(limbs))),
                tuple(rng.uniform(-0.25, 0.25, 2)),
                part,
                rng.uniform(-np.pi, np.pi),
                rng.choice([0, rng.uniform(0, 0.8)]),
                rng.uniform(0.5, 3),
                rng.uniform(0, 6),
            )
        )
    return Shape(limbs)


def fence(rng: np.random.Generator) -> Shape:
    """Bars and rails: an occluder with gaps."""
    n = int(rng.integers(2, 7))
    bar = rng.uniform(0.02, 0.5 / n)
    limbs = [Limb(-1, (x, 0), box(-bar, -0.5, bar, 0.5)) for x in np.linspace(-0.9, 0.9, n)]
    for y in rng.uniform(-0.45, 0.45, int(rng.integers(0, 3))):
        limbs.append(Limb(-1, (0, y), box(-1, -0.03, 1, 0.03)))
    return Shape(limbs)


def plate(rng: np.random.Generator) -> Shape:
    """A plate with holes: ring, frame, window."""
    limbs = [Limb(-1, (0, 0), box(-0.5, -0.5, 0.5, 0.5) if rng.random() < 0.5 else ellipse(0.5, 0.5, 32))]
    for _ in range(int(rng.integers(1, 4))):
        limbs.append(Limb(-1, tuple(rng.uniform(-0.2, 0.2, 2)), ellipse(*rng.uniform(0.08, 0.3, 2)), hole=True))
    return Shape(limbs)


OBJECTS = {
    biped: 5.0,
    quadruped: 4.0,
    bird: 1.5,
    vehicle: 1.5,
    cycle: 1.5,
    furniture: 1.5,
    lathe: 1.5,
    tree: 0.7,
    compound: 2.0,
    simple: 2.0,
    plate: 0.5,
}
OCCLUDERS = {
    simple: 4.0,
    biped: 3.0,
    quadruped: 1.0,
    vehicle: 1.0,
    furniture: 1.0,
    tree: 1.5,
    compound: 2.0,
    fence: 1.0,
    plate: 0.7,
    lathe: 1.0,
}


def sample_shape(rng: np.random.Generator, families: dict) -> Shape:
    """One shape from ``families`` (function -> weight), mirrored at random by the renderer, not here."""
    makers = list(families)
    weights = np.array([families[m] for m in makers])
    return makers[int(rng.choice(len(makers), p=weights / weights.sum()))](rng)
