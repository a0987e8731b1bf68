"""Small helpers to write down actors: bones between two points, rotations, colours, and how large an actor is."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diffvas.world.meshes import build_mesh
from diffvas.world.quaternions import multiply, rotation, turned
from diffvas.world.spec import Limb, Material, Mesh, Part, Quat, Texture, Vec3

Figure = tuple[tuple[Limb, ...], tuple[Material, ...]]
ACROSS: Vec3 = (1.0, 0.0, 0.0)
UP: Vec3 = (0.0, 0.0, 1.0)
PATTERNS = (
    *("noise",) * 4,
    *("fabric", "patches", "stripes") * 2,
    *("gradient", "spots", "plaid", "marble", "wood", "checker", "grass", "tiles"),
)


def vec(values: Any) -> Vec3:
    """Three plain floats, rounded so that a scene's JSON stays short."""
    x, y, z = (round(float(v), 5) for v in values)
    return (x, y, z)


def about(axis: Sequence[float], angle: float) -> Quat:
    """Quaternion of a turn of ``angle`` radians about a unit axis."""
    half = np.sin(angle / 2)
    w, x, y, z = (round(float(v), 6) for v in (np.cos(angle / 2), *(half * a for a in axis)))
    return (w, x, y, z)


def box(size: Sequence[float], pos: Sequence[float], material: int = 0, turn: Quat = (1.0, 0.0, 0.0, 0.0)) -> Part:
    """A box of full (not half) lengths."""
    return Part("box", vec(np.asarray(size) / 2), vec(pos), turn, material)


def ball(
    axes: float | Sequence[float], pos: Sequence[float], material: int = 0, turn: Quat = (1.0, 0.0, 0.0, 0.0)
) -> Part:
    """A sphere (one radius) or an ellipsoid (three half axes)."""
    if isinstance(axes, Sequence):
        return Part("ellipsoid", vec(axes), vec(pos), turn, material)
    return Part("sphere", vec((axes, 0, 0)), vec(pos), turn, material)


def bone(a: Sequence[float], b: Sequence[float], radius: float, material: int = 0, kind: str = "capsule") -> Part:
    """A capsule or cylinder from point a to point b."""
    start, end = np.asarray(a, float), np.asarray(b, float)
    way = end - start
    length = max(1e-4, float(np.linalg.norm(way)))
    axis = np.cross([0.0, 0.0, 1.0], way / length)
    sine = float(np.linalg.norm(axis))
    axis = axis / sine if sine > 1e-6 else np.array([1.0, 0.0, 0.0])
    turn = about(list(axis), float(np.arctan2(sine, way[2] / length)))
    return Part(kind, vec((radius, length / 2, 0)), vec((start + end) / 2), turn, material)


def shaped(
    kind: str,
    numbers: Sequence[float],
    pos: Sequence[float] = (0, 0, 0),
    material: int = 0,
    turn: Quat = (1.0, 0.0, 0.0, 0.0),
) -> Part:
    """A part with a mesh recipe."""
    recipe = Mesh(kind, tuple(round(float(n), 5) for n in numbers))
    return Part("mesh", (0.0, 0.0, 0.0), vec(pos), turn, material, recipe)


def loft(sections: Sequence[Sequence[float]], material: int = 0, round_ends: float = 1.0) -> Part:
    """A skin over sections (x, y, z, half width, half depth) along a spine; see ``meshes``."""
    return shaped("loft", (round_ends, *np.asarray(sections, float).reshape(-1)), (0, 0, 0), material)


def tube(points: Sequence[Sequence[float]], radii: Sequence[float], material: int = 0) -> Part:
    """A round tube of changing radius along points (x, y, z)."""
    return loft([(*point, r, r) for point, r in zip(points, radii, strict=True)], material)


def chain(
    parent: int,
    pivot: Sequence[float],
    segments: Sequence[Sequence[Part]],
    step: Sequence[float],
    first: int,
    *,
    axis: Vec3,
    angle: float = 0.0,
    swing: float = 0.0,
    lag: float = 0.12,
    cycles: float = 1.0,
) -> list[Limb]:
    """Limbs that hang one from the next, ``step`` apart, each lagging behind the last: ropes, tails, flags, stems.

    ``first`` is the index that the first of them will have in its actor.
    """
    limbs = []
    for index, parts in enumerate(segments):
        limbs.append(
            Limb(
                parent if index == 0 else first + index - 1,
                vec(pivot if index == 0 else step),
                tuple(parts),
                axis=axis,
                angle=round(float(angle), 4),
                swing=round(float(swing), 4),
                phase=round(-lag * index, 4),
                cycles=cycles,
            )
        )
    return limbs


def rigid(parts: Sequence[Part]) -> tuple[Limb, ...]:
    """The limbs of a thing without joints."""
    return (Limb(-1, (0.0, 0.0, 0.0), tuple(parts)),)


def ride(mount: tuple[Limb, ...], rider: tuple[Limb, ...], seat: Sequence[float], shift: int) -> tuple[Limb, ...]:
    """One actor of two: the rider's root sits on the mount's at ``seat``; its materials follow at ``shift``."""
    offset = len(mount)
    moved = []
    for index, limb in enumerate(rider):
        parts = tuple(replace(part, material=part.material + shift) for part in limb.parts)
        parent = 0 if index == 0 else limb.parent + offset
        moved.append(replace(limb, parent=parent, parts=parts, pivot=vec(seat) if index == 0 else limb.pivot))
    return (*mount, *moved)


def bounds(limbs: tuple[Limb, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (3,) of an actor of scale 1 with its hinges at ``angle``."""
    frames: list[tuple[np.ndarray, np.ndarray]] = []
    corners = []
    for limb in limbs:
        origin, turn = (np.zeros(3), np.array([1.0, 0, 0, 0])) if limb.parent < 0 else frames[limb.parent]
        here = origin + turned(turn, np.asarray(limb.pivot, float))
        turn = multiply(turn, rotation(np.asarray(limb.axis) * limb.angle))
        frames.append((here, turn))
        for part in limb.parts:
            whole = multiply(turn, np.asarray(part.quat))
            corners.append(here + turned(turn, np.asarray(part.pos)) + turned(whole, _hull(part)))
    points = np.concatenate(corners)
    return points.min(axis=0), points.max(axis=0)


def _hull(part: Part) -> np.ndarray:
    """(V, 3) points around a part."""
    if part.mesh is not None:
        return build_mesh(part.mesh)[0]
    a, b, c = part.size
    half = {
        "box": (a, b, c),
        "ellipsoid": (a, b, c),
        "sphere": (a, a, a),
        "capsule": (a, a, a + b),
        "cylinder": (a, a, b),
    }[part.kind]
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    if part.kind == "box":
        return signs * half
    return np.concatenate([np.eye(3), -np.eye(3)]) * half


def colour(rng: np.random.Generator, vivid: float | None = None) -> Vec3:
    """A colour as things have them: mostly muted, earthy or grey, a third vivid; ``vivid`` fixes the saturation."""
    if vivid is None:
        kind = rng.random()
        if kind < 0.3:  # paint, plastic
            hue, saturation, value = rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.35, 1.0)
        elif kind < 0.6:  # wood, leather, soil, sand, brick
            hue, saturation, value = rng.uniform(0.02, 0.14), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.85)
        elif kind < 0.8:  # cloth
            hue, saturation, value = rng.random(), rng.uniform(0.1, 0.45), rng.uniform(0.2, 0.9)
        else:  # metal, stone, black and white
            hue, saturation, value = rng.random(), rng.uniform(0, 0.1), rng.uniform(0.05, 1.0)
        return vec(colorsys.hsv_to_rgb(hue, saturation, value))
    return vec(colorsys.hsv_to_rgb(rng.random(), vivid, rng.uniform(0.2, 1.0)))


def skin(rng: np.random.Generator) -> Vec3:
    """A colour of human skin."""
    share = rng.random()
    return vec(np.array([0.95, 0.78, 0.66]) * (1 - share) + np.array([0.30, 0.19, 0.13]) * share)


def plain(shade: Vec3, shine: float = 0.15) -> Material:
    """A material of one colour."""
    return Material(Texture("flat", (shade, shade)), round(shine, 3), 0.3)


def material(rng: np.random.Generator, textured: float = 0.5, shade: Vec3 | None = None) -> Material:
    """A random material, with a pattern in ``textured`` of the cases."""
    first = colour(rng) if shade is None else shade
    shine = float(rng.uniform(0, 0.6))
    if rng.random() >= textured:
        return plain(first, shine)
    other = colour(rng) if rng.random() < 0.5 else vec(np.clip(np.asarray(first) * rng.uniform(0.4, 1.6), 0, 1))
    kind = str(rng.choice(PATTERNS))
    texture = Texture(kind, (first, other), round(float(rng.uniform(1, 6)), 2), int(rng.integers(2**31)))
    return Material(texture, round(shine, 3), round(float(rng.uniform(0.1, 0.8)), 3))


def materials(rng: np.random.Generator, count: int, textured: float = 0.5) -> tuple[Material, ...]:
    """Random materials."""
    return tuple(material(rng, textured) for _ in range(count))
