"""The shapes of the 3-D world as flat, moving silhouettes: no OpenGL, the same variety, views from all sides.

A sprite is an actor's limbs seen from far away. Its parts are convex pieces; their projected hulls, the nearest last,
are what a flat shape's polygons are.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from diffvas.world.building import bounds
from diffvas.world.families import FAMILIES, WALKING, pick_family
from diffvas.world.quaternions import matrices, rotation
from diffvas.world.spec import Actor, Motion
from diffvas.world.visibility import actor_points

Array = np.ndarray
STEPS = 48  # poses of a clip that are kept; more would not be seen in 25 frames


@dataclass(frozen=True)
class Sprite:
    """A silhouette that moves: like ``outlines.Shape`` it has ``limbs`` (one per piece) and ``polygons``.

    Attributes:
        corners: (STEPS, P, 2) float32 in local coordinates, about one unit tall, y down.
        pieces: first and last + 1 corner of each convex piece, those that are mostly farthest first.
    """

    corners: Array
    pieces: tuple[tuple[int, int], ...]

    @property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """One entry per piece."""
        return self.pieces

    def polygons(self, time: float) -> list[tuple[Array, bool]]:
        """Polygons in local coordinates at ``time`` in [0, 1], each with its hole flag."""
        corners = self.corners[round(time * (STEPS - 1))]
        return [(cv2.convexHull(corners[a:b])[:, 0], False) for a, b in self.pieces]


GROUPS = (
    ("person", 6.0),
    ("animal", 4.0),
    ("bird", 1.0),
    ("creature", 1.0),
    ("rider", 1.5),
    ("vehicle", 1.5),
    ("craft", 0.5),
    ("furniture", 1.5),
    ("small", 2.0),
    ("vessel", 1.0),
    ("plant", 0.8),
    ("soft", 0.8),
    ("body", 0.7),
    ("site", 0.3),
)


def sprite(rng: np.random.Generator, names: frozenset[str], groups: tuple[tuple[str, float], ...] = GROUPS) -> Sprite:
    """A sprite of a random family among ``names``, seen from a random side; some turn while they move."""
    family = FAMILIES[pick_family(rng, groups, names)]
    way = str(rng.choice([*WALKING, "rest", "rest"])) if family.walks else "fly" if family.flies else "rest"
    limbs, stuff = family.make(rng, way)
    low, high = bounds(limbs)
    actor = Actor("sprite", limbs, stuff, Motion((0.0, 0.0, 0.0), gait_hz=float(rng.uniform(0.8, 5.0))))
    times = np.linspace(0, 1, STEPS)
    side = float(rng.choice([0.0, np.pi]) + rng.normal() * 0.35) if rng.random() < 0.6 else float(rng.uniform(0, 6.3))
    turn = float(rng.normal() * 0.8) if rng.random() < 0.3 else 0.0
    yaw = side + turn * (times - 0.5)
    pitch = matrices(rotation(np.array([max(0.0, rng.normal() * 0.25), 0.0, 0.0])))
    if not family.walks and rng.random() < 0.25:  # what was knocked over or thrown
        pitch = pitch @ matrices(rotation(rng.normal(size=3)))
    quats = np.stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)], 1)
    points, sizes = actor_points(actor, (np.zeros((STEPS, 3)), quats), times)
    points = (points - [0, 0, (low[2] + high[2]) / 2]) @ pitch.T
    span = points[0].max(0) - points[0].min(0)
    size = 1 / max(float(span[2]), 0.6 * float(span[0]), 1e-3)
    middle = (points[0].max(0) + points[0].min(0))[[0, 2]] / 2
    corners = ((points[..., [0, 2]] - middle) * [size, -size]).astype(np.float32)
    ends = np.cumsum(sizes)
    far = np.add.reduceat(points[..., 1].mean(0), ends - sizes) / sizes
    return Sprite(corners, tuple((int(ends[k] - sizes[k]), int(ends[k])) for k in np.argsort(-far)))
