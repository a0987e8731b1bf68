"""What a scene is played on: the view of the ground plan, the camera, the lights, the ground and the sky."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvas.world.building import box, materials, rigid, vec
from diffvas.world.spec import Actor, Camera, Light, Look, Material, Motion, Texture, Vec3

BLURRED = 0.0  # share of the clips with motion blur: costly, and amodal colours then differ from the frame's
SHADOWED = 0.03  # share of the clips with shadows: several times slower to render
VIEW = 2.4  # metres of height that the frame shows at the depth of the stage's middle


@dataclass(frozen=True)
class Stage:
    """The camera's view of the ground plan: x to the right, y away from the camera, (0, 0) in the middle."""

    reach: float  # distance of the camera from the middle
    pitch: float
    fov: float  # vertical, radians
    aspect: float
    aim: float  # height looked at, metres
    duration: float

    def height(self, y: float) -> float:
        """Height of the frame in metres at depth y."""
        return 2 * max(0.1, self.reach + y * np.cos(self.pitch)) * np.tan(self.fov / 2)

    def half_width(self, y: float) -> float:
        """Half the width of the frame in metres at depth y."""
        return self.height(y) * self.aspect / 2

    def lanes(self) -> tuple[float, float]:
        """Nearest and farthest depth at which the ground is well inside the frame (not at its top edge)."""
        camera = self.aim + self.reach * np.sin(self.pitch)
        rows = np.array([0.9, 0.0 if self.pitch > 0.2 else -1.0])  # 1 is the lower edge of the frame, -1 the upper
        down = np.arctan(rows * np.tan(self.fov / 2)) + self.pitch
        ahead = np.where(down > 0.01, camera / np.tan(np.maximum(down, 0.01)), np.inf) - self.reach * np.cos(self.pitch)
        near = float(np.clip(ahead[0], -0.25 * self.reach, 0.1 * self.reach))
        return near, float(np.clip(ahead[1], near + 0.25 * self.reach, 0.6 * self.reach))

    def bottom(self, y: float) -> float:
        """Height above the ground of the frame's lower edge at depth y (may be negative)."""
        ahead = self.reach * np.cos(self.pitch) + y
        return self.aim + self.reach * np.sin(self.pitch) - ahead * np.tan(self.pitch + self.fov / 2)


@dataclass(frozen=True)
class Meeting:
    """Where and when paths cross: a share of the half width, and a share of the clip."""

    across: float
    moment: float


def sample_camera(rng: np.random.Generator, stage: Stage, lead: Vec3 | None = None) -> Camera:
    """Still in a third of the cases; else it travels, follows ``lead`` (a displacement), orbits, zooms or trembles."""
    target = np.array([0.0, 0.0, stage.aim])
    position = target + stage.reach * np.array([0, -np.cos(stage.pitch), np.sin(stage.pitch)])
    position[2] = max(position[2], 0.15)
    fov = round(float(np.rad2deg(stage.fov)), 3)
    changes: dict[str, Any] = {}
    way = str(rng.choice(["still", "travel", "follow", "orbit", "zoom", "hold"], p=[0.34, 0.2, 0.14, 0.13, 0.08, 0.11]))
    if way == "hold" or (way != "still" and rng.random() < 0.5):
        changes["shake"] = round(float(rng.uniform(0.01, 0.1)), 4)
        changes["shake_seed"] = int(rng.integers(2**31))
    if way == "travel":
        changes["travel"] = vec(rng.normal(size=3) * [0.35, 0.15, 0.05] * VIEW / 2)
    elif way == "follow" and lead is not None:
        changes["travel"] = vec(np.asarray(lead) * rng.uniform(0.5, 1.0) * [1, 0.6, 0])
    elif way == "orbit":
        changes["orbit"] = round(float(rng.normal() * 0.35), 4)
    elif way == "zoom":
        changes["fov"] = (fov, round(fov * float(rng.uniform(0.7, 1.4)), 3))
    if rng.random() < 0.2:
        changes["roll"] = round(float(rng.normal() * 0.05), 4)
    return Camera(vec(position), vec(target), changes.pop("fov", (fov, fov)), **changes)


def sample_look(rng: np.random.Generator) -> Look:
    """Exposure and colour: close to neutral in a third of the clips, now and then dark, burnt out or tinted."""
    if rng.random() < 0.3:
        return Look()
    tint = np.exp(rng.normal(size=3) * 0.06) * [1 + (warm := rng.normal() * 0.06), 1.0, 1 - warm]
    return Look(
        round(float(np.exp(rng.normal() * 0.22)), 3),
        round(float(np.exp(rng.normal() * 0.18)), 3),
        vec(np.clip(tint, 0.7, 1.4)),
        int(rng.integers(3, 6)) if rng.random() < BLURRED else 0,
    )


def sample_lights(rng: np.random.Generator) -> tuple[Light, ...]:
    """One to three distant lights from above, mostly from behind the camera, the others weaker than the first."""
    lights = []
    for index in range(int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))):
        direction = np.array([rng.uniform(-1, 1), rng.uniform(-0.5, 1), -rng.uniform(0.3, 1.5)])
        tint = rng.uniform(0.85, 1.0, size=3) * rng.uniform(0.45, 0.9) * (1.0 if index == 0 else 0.35)
        lights.append(
            Light(vec(direction / np.linalg.norm(direction)), vec(tint), round(float(rng.uniform(0, 0.4)), 3))
        )
    return tuple(lights)


def sample_ground(rng: np.random.Generator, indoors: bool = False) -> Material:
    """A textured ground of two related tones: grass, soil and stone outdoors, boards, tiles and carpet indoors."""
    outdoors = ["noise", "noise", "grass", "grass", "patches", "bricks", "flat", "tiles", "clouds"]
    inside = ["planks", "wood", "tiles", "fabric", "plaid", "flat", "checker", "marble", "noise", "stripes"]
    kind = str(rng.choice(inside if indoors else outdoors))
    first = _muted(rng)
    if not indoors and rng.random() < 0.35:  # meadow
        first = vec(np.array([0.3, 0.42, 0.18]) * rng.uniform(0.5, 1.5))
    other = vec(np.clip(np.asarray(first) * rng.uniform(0.6, 1.3), 0, 1)) if rng.random() < 0.85 else _muted(rng)
    scale = round(float(rng.uniform(3, 12)), 2)
    return Material(Texture(kind, (first, other), scale, int(rng.integers(2**31))), 0.0, 0.0)


def sample_sky(rng: np.random.Generator) -> Texture:
    """A sky, clear or clouded, or a plain backdrop."""
    kind = str(rng.choice(["clouds", "clouds", "gradient", "gradient", "noise", "flat"]))
    first, second = _muted(rng), _muted(rng)
    if rng.random() < 0.6:
        first = vec(np.clip(np.array([0.4, 0.6, 0.88]) * rng.uniform(0.5, 1.15), 0, 1))
        second = vec(np.clip(np.array([0.9, 0.92, 0.95]) * rng.uniform(0.7, 1.05), 0, 1))
    return Texture(kind, (first, second), round(float(rng.uniform(2, 8)), 2), int(rng.integers(2**31)))


def sample_room(rng: np.random.Generator, stage: Stage) -> tuple[Actor, ...]:
    """A room: a wall behind, often walls at the sides, with a window, a door or pictures."""
    y = float(rng.uniform(0.75, 1.6)) * stage.reach
    half, tall = stage.half_width(y) * float(rng.uniform(0.9, 2.0)), stage.height(y) * float(rng.uniform(0.9, 2.0))
    parts = [box((2 * half + 0.2, 0.1, tall), (0, 0, tall / 2), 0)]
    deep = 1.6 * stage.reach
    sides = [s for s in (1, -1) if rng.random() < 0.6]
    parts += [box((0.1, deep, tall), (s * half, -deep / 2, tall / 2), 0) for s in sides]
    if rng.random() < 0.5:
        parts.append(box((2 * half, 0.14, 0.04 * tall), (0, 0, 0.02 * tall), 1))  # skirting
    for _ in range(int(rng.integers(0, 4))):
        wide, high = rng.uniform(0.15, 0.45) * half, rng.uniform(0.15, 0.45) * tall
        x, z = rng.uniform(-0.7, 0.7) * half, tall * rng.uniform(0.3, 0.7) if rng.random() < 0.7 else high / 2
        parts += [box((wide, 0.13, high), (x, 0, z), 1), box((wide * 0.88, 0.16, high * 0.88), (x, 0, z), 2)]
    wall = Material(Texture(str(rng.choice(["flat", "flat", "noise", "stripes", "bricks", "fabric", "wood"])),
                            (tone := _muted(rng, 0.45), vec(np.asarray(tone) * rng.uniform(0.8, 1.0))),
                            round(float(rng.uniform(3, 9)), 2), int(rng.integers(2**31))), 0.05, 0.1)  # fmt: skip
    return (Actor("room", rigid(parts), (wall, *materials(rng, 2, 0.4)), Motion(vec((0, y, 0)))),)


def _muted(rng: np.random.Generator, darkest: float = 0.15) -> Vec3:
    """A colour of grounds, walls and skies."""
    return vec(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.35), rng.uniform(darkest, 1.0)))
