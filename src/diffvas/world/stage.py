"""What a scene is played on: the view of the ground plan, the camera, the lights, the ground and the sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvas.world.building import colour, vec
from diffvas.world.spec import Camera, Light, Material, Texture

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


def sample_camera(rng: np.random.Generator, stage: Stage) -> Camera:
    """Still in two cases of five; else it travels, orbits, zooms or trembles."""
    target = np.array([0.0, 0.0, stage.aim])
    position = target + stage.reach * np.array([0, -np.cos(stage.pitch), np.sin(stage.pitch)])
    position[2] = max(position[2], 0.15)
    fov = round(float(np.rad2deg(stage.fov)), 3)
    changes: dict[str, Any] = {}
    way = rng.random()
    if way > 0.4:
        changes["shake"] = round(float(rng.choice([0.0, rng.uniform(0.01, 0.08)])), 4)
        changes["shake_seed"] = int(rng.integers(2**31))
    if 0.4 < way <= 0.65:
        changes["travel"] = vec(rng.normal(size=3) * [0.35, 0.15, 0.05] * VIEW / 2)
    elif 0.65 < way <= 0.82:
        changes["orbit"] = round(float(rng.normal() * 0.35), 4)
    elif 0.82 < way <= 0.92:
        changes["fov"] = (fov, round(fov * float(rng.uniform(0.75, 1.3)), 3))
    return Camera(vec(position), vec(target), changes.pop("fov", (fov, fov)), **changes)


def sample_lights(rng: np.random.Generator) -> tuple[Light, ...]:
    """One or two distant lights from above and behind the camera, the second weaker."""
    lights = []
    for index in range(int(rng.integers(1, 3))):
        direction = np.array([rng.uniform(-1, 1), rng.uniform(-0.2, 1), -rng.uniform(0.4, 1.5)])
        tint = rng.uniform(0.75, 1.0, size=3) * rng.uniform(0.4, 0.8) * (1.0 if index == 0 else 0.4)
        lights.append(
            Light(vec(direction / np.linalg.norm(direction)), vec(tint), round(float(rng.uniform(0, 0.4)), 3))
        )
    return tuple(lights)


def sample_ground(rng: np.random.Generator) -> Material:
    """A textured ground, mostly of two related tones."""
    kind = str(rng.choice(["noise", "noise", "grass", "planks", "bricks", "checker", "flat", "stripes"]))
    first = colour(rng, 0.25)
    other = vec(np.clip(np.asarray(first) * rng.uniform(0.55, 1.3), 0, 1)) if rng.random() < 0.8 else colour(rng, 0.3)
    return Material(
        Texture(kind, (first, other), round(float(rng.uniform(3, 12)), 2), int(rng.integers(2**31))), 0.0, 0.0
    )


def sample_sky(rng: np.random.Generator) -> Texture:
    """A sky of one or two colours."""
    kind = str(rng.choice(["gradient", "noise", "flat"]))
    return Texture(
        kind, (colour(rng, 0.2), colour(rng, 0.3)), round(float(rng.uniform(2, 8)), 2), int(rng.integers(2**31))
    )
