"""Scenes from named presets: who is in them, where they stand, how they move and what hides them.

Everything is chosen relative to the picture: a thing's height is a share of the frame's height at its depth, and paths
are led through common meeting points, so that things do hide each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffvas.world import figures, shapes
from diffvas.world.building import about, bounds, colour, vec
from diffvas.world.figures import Figure
from diffvas.world.shapes import UP
from diffvas.world.simulate import multiply
from diffvas.world.spec import Actor, Camera, Light, Material, Motion, Quat, SceneSpec, Texture, Vec3

Weights = tuple[tuple[str, float], ...]
VIEW = 2.4  # metres of height that the frame shows at the depth of the stage's middle

MAKERS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "person": figures.person, "quadruped": figures.quadruped, "bird": figures.bird, "rider": figures.rider,
    "simple": shapes.simple, "solid": shapes.solid, "outline": shapes.outline, "vessel": shapes.vessel,
    "stack": shapes.stack, "chair": shapes.chair, "table": shapes.table, "lamp": shapes.lamp, "car": shapes.car,
    "bicycle": shapes.bicycle, "tree": shapes.tree, "post": shapes.post, "board": shapes.board, "fence": shapes.fence,
    "arch": shapes.arch,
}
WALKERS = ("person", "quadruped", "rider", "bicycle", "car")
PHYSICS = ("drop", "throw", "slide")


@dataclass(frozen=True)
class Preset:
    """A family of scenes: how often each kind of actor and of motion occurs, and the camera's downward angle."""

    cast: Weights
    ways: Weights
    pitch: tuple[float, float]
    aim: tuple[float, float]  # height of the point looked at, as a share of VIEW
    screens: Weights = (("post", 2), ("board", 3), ("fence", 1.5), ("arch", 1), ("tree", 1), ("stack", 1), ("outline", 1.5),
                        ("solid", 1), ("car", 0.5), ("table", 0.5), ("person", 1))
    scenery: Weights = (("tree", 2), ("board", 2), ("post", 1), ("fence", 1), ("lamp", 1), ("stack", 1), ("car", 0.5))


PRESETS = {
    "street": Preset(
        cast=(("person", 5), ("quadruped", 4), ("rider", 1), ("bicycle", 1.5), ("car", 1.5), ("bird", 1.5), ("chair", 0.5),
              ("stack", 0.5), ("vessel", 0.5)),
        ways=(("cross", 5), ("return", 1.2), ("stop", 1), ("toward", 1), ("rest", 2), ("spin", 0.7)),
        pitch=(0.0, 0.2), aim=(0.32, 0.46)),
    "tabletop": Preset(
        cast=(("simple", 2), ("solid", 2), ("outline", 2), ("vessel", 3), ("stack", 2), ("chair", 1), ("lamp", 0.7), ("car", 1),
              ("quadruped", 1), ("bird", 0.5), ("person", 0.5)),
        ways=(("drop", 3), ("throw", 3), ("slide", 3), ("rest", 2), ("spin", 0.5), ("cross", 0.7)),
        pitch=(0.2, 0.65), aim=(0.12, 0.3)),
    "room": Preset(
        cast=(("person", 4), ("chair", 2.5), ("table", 1.5), ("lamp", 1), ("vessel", 1), ("quadruped", 1.5), ("stack", 1),
              ("bird", 0.5)),
        ways=(("cross", 3), ("return", 1), ("stop", 1), ("rest", 3), ("spin", 1), ("sway", 1), ("toward", 0.7)),
        pitch=(0.05, 0.4), aim=(0.28, 0.42)),
    "air": Preset(
        cast=(("outline", 3), ("bird", 3), ("solid", 2), ("simple", 1), ("stack", 2), ("vessel", 1), ("quadruped", 1),
              ("person", 1), ("chair", 1)),
        ways=(("fly", 5), ("sway", 2), ("spin", 2), ("return", 1)),
        pitch=(-0.1, 0.3), aim=(0.4, 0.6)),
}
MIX = (("street", 0.42), ("tabletop", 0.26), ("room", 0.18), ("air", 0.14))


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


def sample_scene(preset: str, rng: np.random.Generator, size: tuple[int, int], frames: int) -> SceneSpec:
    """A random scene of a preset.

    Args:
        preset: "street", "tabletop", "room", "air", "mixed" (one of these at random) or "demo" (always the same scene).
        rng: the only source of chance.
        size: (height, width) in pixels.
        frames: number of frames.

    Raises:
        ValueError: an unknown preset, or a size or number of frames that cannot be rendered.
    """
    if preset == "demo":
        from diffvas.world.demo_scene import demo_scene

        return demo_scene(size, frames)
    if preset not in (*PRESETS, "mixed"):
        raise ValueError(f"preset: expected one of {(*PRESETS, 'mixed', 'demo')}, got {preset!r}")
    kind = _pick(rng, MIX) if preset == "mixed" else preset
    look = PRESETS[kind]
    step = float(rng.uniform(0.035, 0.07 if kind == "tabletop" else 0.1))
    fov = float(np.deg2rad(rng.uniform(22, 58)))
    stage = Stage(VIEW / 2 / np.tan(fov / 2), float(rng.uniform(*look.pitch)), fov, size[1] / size[0],
                  float(rng.uniform(*look.aim)) * VIEW, step * max(1, frames - 1))
    meetings = [Meeting(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.25, 0.75))) for _ in range(int(rng.integers(1, 3)))]
    objects = _cast(rng, look, stage, meetings)
    props = (*_screens(rng, look, stage, meetings), *_scenery(rng, look, stage))
    return SceneSpec(
        name=f"{preset}-0000000", seed=0, size=size, frames=frames, frame_seconds=round(step, 4), objects=objects, props=props,
        camera=_camera(rng, stage), lights=_lights(rng), ambient=round(float(rng.uniform(0.28, 0.55)), 3),
        ground=_ground(rng), sky=_sky(rng), ground_repeat=round(float(rng.uniform(0.1, 0.6)), 3),
        warmup=0.8 if rng.random() < 0.3 else 0.0, notes={"preset": kind})


def _pick(rng: np.random.Generator, weights: Weights) -> str:
    shares = np.array([w for _, w in weights])
    return weights[int(rng.choice(len(weights), p=shares / shares.sum()))][0]


def _cast(rng: np.random.Generator, look: Preset, stage: Stage, meetings: list[Meeting]) -> tuple[Actor, ...]:
    """Three to five objects in lanes of different depth, most of them led through a meeting point."""
    count = int(rng.integers(3, 6))
    near, far = stage.lanes()
    lanes = np.linspace(near, far, count) + rng.uniform(-0.05, 0.05, size=count) * stage.reach
    big = rng.uniform(0.85, 1.2)
    actors = []
    for lane in rng.permutation(lanes):
        kind, way = _pick(rng, look.cast), _pick(rng, look.ways)
        if kind == "bird" and way in ("cross", "return", "toward", "stop"):
            way = "fly"
        share = float(np.clip(big * rng.lognormal(-0.4, 0.26), 0.42, 1.2))
        meeting = meetings[int(rng.integers(len(meetings)))] if rng.random() < 0.65 else None
        actors.append(_actor(rng, kind, way, stage, float(lane), share, meeting))
    return tuple(actors)


def _figure(rng: np.random.Generator, kind: str, way: str) -> Figure:
    """A thing in a pose that fits how it moves."""
    moving = way in ("cross", "return", "stop", "toward")
    if kind == "person":
        poses = ["walk", "walk", "walk", "run"] if moving else ["stand", "wave", "sit", "stand", "walk", "run"]
        return figures.person(rng, str(rng.choice(poses)))
    if kind == "quadruped":
        gaits = ["walk", "walk", "trot", "gallop"] if moving else ["stand", "graze", "stand", "walk", "gallop"]
        return figures.quadruped(rng, None, str(rng.choice(gaits)))
    if kind == "bird":
        return figures.bird(rng, way == "fly")
    return MAKERS[kind](rng)


def _actor(rng: np.random.Generator, kind: str, way: str, stage: Stage, y: float, share: float, meeting: Meeting | None,
           widest: float = 0.62) -> Actor:
    """One actor: its shape, its size (``share`` of the frame's height at depth y) and its motion."""
    limbs, stuff = _figure(rng, kind, way)
    low, high = bounds(limbs)
    extent = high - low
    yaw = _yaw(rng, kind, way)
    across = abs(np.cos(yaw)) * extent[0] + abs(np.sin(yaw)) * extent[1]
    if kind in ("car", "table", "rider", "bicycle", "fence"):
        share *= 0.8
    scale = min(share * stage.height(y) / extent[2], 2 * widest * stage.half_width(y) / max(across, 1e-3))
    scale = round(float(scale), 4)
    meeting = meeting or Meeting(float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0, 1)))
    motion = _motion(rng, kind, way, stage, y, yaw, scale, meeting)
    if not motion.physics:  # feet on the ground also where the figure sits or floats
        motion = replace(motion, start=vec(np.asarray(motion.start) - [0, 0, low[2] * scale]))
    return Actor(kind, limbs, stuff, motion, scale)


def _yaw(rng: np.random.Generator, kind: str, way: str) -> float:
    """Where the front points: along the path, else anywhere with a liking for the side view."""
    side = float(rng.choice([0.0, np.pi]))
    if way in ("cross", "return", "stop", "fly"):
        return side + float(rng.normal() * 0.3)
    if way == "toward":
        return float(rng.choice([-np.pi / 2, np.pi / 2]) + rng.normal() * 0.35)
    if kind in ("outline", "board", "fence", "arch"):
        return float(rng.normal() * 0.35)
    return side + float(rng.normal() * 0.5) if rng.random() < 0.5 else float(rng.uniform(0, 2 * np.pi))


def _motion(rng: np.random.Generator, kind: str, way: str, stage: Stage, y: float, yaw: float, scale: float,
            meeting: Meeting) -> Motion:
    clip, half = stage.duration, stage.half_width(y)
    spot = np.array([(meeting.across + rng.normal() * 0.12) * half, y, 0.0])
    moment = float(np.clip(meeting.moment + rng.normal() * 0.08, 0.05, 0.95)) * clip
    quat = about(UP, yaw)
    if way in PHYSICS:
        return _thrown(rng, way, stage, spot, quat, moment, half)
    hz = float(rng.uniform(0.4, 1.6)) / clip
    gait = float(rng.uniform(0.8, 3.0)) / clip
    rest = Motion(vec(spot), quat, wave_hz=round(hz, 4), wave_phase=round(float(rng.random()), 4), gait_hz=round(gait, 4))
    if way == "rest":
        return rest
    if way == "spin":
        axis = np.array([0, 0, 1.0]) if kind in WALKERS or rng.random() < 0.5 else rng.normal(size=3)
        turn = axis / np.linalg.norm(axis) * rng.uniform(1.0, 5.0) / clip * rng.choice([-1, 1])
        return replace(rest, spin=vec(turn))
    if way == "sway":
        lift = (0.0 if kind in WALKERS else rng.uniform(0, 0.3)) * stage.height(y)
        wave = np.array([rng.uniform(0.2, 0.9) * half, 0, 0.4 * lift])
        return replace(rest, wave=vec(wave), rock=vec(rng.normal(size=3) * 0.35 * (lift > 0)),
                       start=vec(spot + [0, 0, lift]))
    return _travel(rng, kind, way, stage, rest, spot, moment, yaw, scale)


def _travel(rng: np.random.Generator, kind: str, way: str, stage: Stage, rest: Motion, spot: np.ndarray, moment: float,
            yaw: float, scale: float) -> Motion:
    """Walk, drive or fly through ``spot`` at ``moment``."""
    clip, half = stage.duration, stage.half_width(float(spot[1]))
    length = rng.uniform(0.5, 2.3) * half if way != "toward" else rng.uniform(0.1, 0.4) * stage.reach
    if way == "return":
        length *= 1.4
    velocity = np.array([np.cos(yaw), np.sin(yaw), 0]) * length / clip
    wave: Vec3 = (0.0, 0.0, round(0.02 * scale, 4)) if kind in ("person", "quadruped", "rider", "bird") else (0.0, 0.0, 0.0)
    speed = float(np.linalg.norm(velocity))
    gait = speed / (scale * {"person": 0.95, "car": 1.0, "bicycle": 1.4}.get(kind, 1.1))
    if way == "fly":
        low, tall = max(0.0, stage.bottom(float(spot[1]))), stage.height(float(spot[1]))
        spot = spot + [0, 0, low + rng.uniform(0.1, 0.5) * tall]
        velocity[2] = rng.normal() * 0.2 * tall / clip
        wave = vec((0, 0, rng.uniform(0, 0.12) * tall))
        gait = rng.uniform(2.0, 6.0) / clip
    gait = min(gait, 7.0 / clip)  # more than seven strides a clip would flicker
    spin = (0.0, 0.0, 0.0)
    if way == "fly" and kind != "bird" and rng.random() < 0.8:
        spin = vec(rng.normal(size=3) * 1.8 / clip)
    gone = {"return": clip * 0.25 * (1 - np.cos(2 * np.pi * moment / clip)),
            "stop": moment + clip / (2 * np.pi) * np.sin(2 * np.pi * moment / clip)}.get(way, moment)
    return replace(rest, start=vec(spot - velocity * gone), velocity=vec(velocity), wave=wave, spin=spin,
                   wave_hz=round(2 * gait if way != "fly" else 1.0 / clip, 4), gait_hz=round(gait, 4),
                   path=way if way in ("return", "stop") else "steady")


def _thrown(rng: np.random.Generator, way: str, stage: Stage, spot: np.ndarray, quat: Quat, moment: float,
            half: float) -> Motion:
    """An initial state for physics that passes the meeting point at about the right time."""
    tumble = rng.normal(size=3)
    tumble *= rng.uniform(0, np.pi) / np.linalg.norm(tumble)
    angle = float(np.linalg.norm(tumble))
    tilted = multiply(np.array(about(list(tumble / angle), angle)), np.array(quat))
    turned: Quat = tuple(round(float(q), 6) for q in tilted)  # type: ignore[assignment]
    speed = float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.8) * half / stage.duration)
    if way == "slide":
        return Motion(vec(spot + [-1.2 * speed * moment, 0, 0.02]), quat, velocity=vec((1.7 * speed, rng.normal() * 0.1, 0)),
                      spin=vec((0, 0, rng.normal() * 2)), physics=True)
    if way == "drop":
        return Motion(vec(spot + [0, 0, rng.uniform(0.1, 0.6) * stage.height(float(spot[1]))]), turned, velocity=vec((rng.normal() * 0.2, 0, 0)),
                      spin=vec(rng.normal(size=3) * 1.5), physics=True)
    up = rng.uniform(1.0, 4.0)
    return Motion(vec(spot + [-speed * moment, 0, rng.uniform(0.1, 0.7)]), turned, velocity=vec((speed, rng.normal() * 0.2, up)),
                  spin=vec(rng.normal(size=3) * 3), physics=True)


def _screens(rng: np.random.Generator, look: Preset, stage: Stage, meetings: list[Meeting]) -> tuple[Actor, ...]:
    """Occluders in front of the objects, the nearest of them passing by the camera."""
    actors = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.34, 0.38, 0.2, 0.08]))):
        near = float(rng.uniform(-0.62, -0.2))
        y = near * stage.reach
        way = _pick(rng, (("rest", 5), ("cross", 3), ("sway", 1), ("fly", 1)))
        kind = _pick(rng, look.screens)
        meeting = meetings[int(rng.integers(len(meetings)))] if rng.random() < 0.75 else None
        actor = _actor(rng, kind, way, stage, y, float(rng.uniform(0.4, 1.1)), meeting, widest=0.4)
        start = actor.motion.start
        # Near the camera the ground is below the frame; what should hide something must be lifted into view.
        lift = max(0.0, stage.bottom(y)) + float(rng.uniform(-0.1, 0.25)) * stage.height(y) if way != "fly" else 0.0
        actors.append(replace(actor, motion=replace(actor.motion, start=vec((start[0], start[1], start[2] + max(0.0, lift))))))
    return tuple(actors)


def _scenery(rng: np.random.Generator, look: Preset, stage: Stage) -> tuple[Actor, ...]:
    """Things far behind, which do not move; sometimes a wall."""
    actors = []
    for _ in range(int(rng.integers(0, 6))):
        y = float(rng.uniform(0.75, 2.2)) * stage.reach
        where = Meeting(float(rng.uniform(-0.95, 0.95)), 0.5)
        actors.append(_actor(rng, _pick(rng, look.scenery), "rest", stage, y, float(rng.uniform(0.15, 0.8)), where))
    if rng.random() < 0.35:
        y = float(rng.uniform(0.75, 2.5)) * stage.reach
        wide, tall = 3 * stage.half_width(y), float(rng.uniform(0.4, 2.0)) * stage.height(y)
        part = shapes.box((2 * wide, 0.1, tall), (0, 0, tall / 2))
        # A cube texture covers a box once, so a wall is built of panels
        actors.append(Actor("wall", shapes.rigid([part]), shapes.materials(rng, 1, 0.9), Motion(vec((0, y, 0)))))
    return tuple(actors)


def _camera(rng: np.random.Generator, stage: Stage) -> Camera:
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


def _lights(rng: np.random.Generator) -> tuple[Light, ...]:
    lights = []
    for index in range(int(rng.integers(1, 3))):
        direction = np.array([rng.uniform(-1, 1), rng.uniform(-0.2, 1), -rng.uniform(0.4, 1.5)])
        tint = rng.uniform(0.75, 1.0, size=3) * rng.uniform(0.4, 0.8) * (1.0 if index == 0 else 0.4)
        lights.append(Light(vec(direction / np.linalg.norm(direction)), vec(tint), round(float(rng.uniform(0, 0.4)), 3)))
    return tuple(lights)


def _ground(rng: np.random.Generator) -> Material:
    kind = str(rng.choice(["noise", "noise", "grass", "planks", "bricks", "checker", "flat", "stripes"]))
    first = colour(rng, 0.25)
    other = vec(np.clip(np.asarray(first) * rng.uniform(0.55, 1.3), 0, 1)) if rng.random() < 0.8 else colour(rng, 0.3)
    return Material(Texture(kind, (first, other), round(float(rng.uniform(3, 12)), 2), int(rng.integers(2**31))), 0.0, 0.0)


def _sky(rng: np.random.Generator) -> Texture:
    kind = str(rng.choice(["gradient", "noise", "flat"]))
    return Texture(kind, (colour(rng, 0.2), colour(rng, 0.3)), round(float(rng.uniform(2, 8)), 2), int(rng.integers(2**31)))
