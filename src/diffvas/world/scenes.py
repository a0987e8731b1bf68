"""Scenes from named presets: who is in them, where they stand, how they move and what hides them.

Everything is chosen relative to the picture: a thing's height is a share of the frame's height at its depth, and paths
are led through common meeting points, so that things do hide each other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffvas.world import figures, shapes
from diffvas.world.building import about, bounds, vec
from diffvas.world.figures import Figure
from diffvas.world.presets import MAKERS, MIX, PHYSICS, PRESETS, WALKERS, Preset, pick
from diffvas.world.quaternions import multiply
from diffvas.world.shapes import UP
from diffvas.world.spec import Actor, Motion, Quat, SceneSpec, Vec3
from diffvas.world.stage import VIEW, Meeting, Stage, sample_camera, sample_ground, sample_lights, sample_sky


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
    kind = pick(rng, MIX) if preset == "mixed" else preset
    look = PRESETS[kind]
    step = float(rng.uniform(0.035, 0.07 if kind == "tabletop" else 0.1))
    fov = float(np.deg2rad(rng.uniform(22, 58)))
    stage = Stage(
        VIEW / 2 / np.tan(fov / 2),
        float(rng.uniform(*look.pitch)),
        fov,
        size[1] / size[0],
        float(rng.uniform(*look.aim)) * VIEW,
        step * max(1, frames - 1),
    )
    meetings = [
        Meeting(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.25, 0.75))) for _ in range(int(rng.integers(1, 3)))
    ]
    objects = _cast(rng, look, stage, meetings)
    props = (*_screens(rng, look, stage, meetings), *_scenery(rng, look, stage))
    return SceneSpec(
        name=f"{preset}-0000000",
        seed=0,
        size=size,
        frames=frames,
        frame_seconds=round(step, 4),
        objects=objects,
        props=props,
        camera=sample_camera(rng, stage),
        lights=sample_lights(rng),
        ambient=round(float(rng.uniform(0.28, 0.55)), 3),
        ground=sample_ground(rng),
        sky=sample_sky(rng),
        ground_repeat=round(float(rng.uniform(0.1, 0.6)), 3),
        warmup=0.8 if rng.random() < 0.3 else 0.0,
        notes={"preset": kind},
    )


def _cast(rng: np.random.Generator, look: Preset, stage: Stage, meetings: list[Meeting]) -> tuple[Actor, ...]:
    """Three to five objects in lanes of different depth, most of them led through a meeting point."""
    count = int(rng.integers(3, 6))
    near, far = stage.lanes()
    lanes = np.linspace(near, far, count) + rng.uniform(-0.05, 0.05, size=count) * stage.reach
    big = rng.uniform(0.85, 1.2)
    actors = []
    for lane in rng.permutation(lanes):
        kind, way = pick(rng, look.cast), pick(rng, look.ways)
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


def _actor(
    rng: np.random.Generator,
    kind: str,
    way: str,
    stage: Stage,
    y: float,
    share: float,
    meeting: Meeting | None,
    widest: float = 0.62,
) -> Actor:
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


def _motion(
    rng: np.random.Generator, kind: str, way: str, stage: Stage, y: float, yaw: float, scale: float, meeting: Meeting
) -> Motion:
    clip, half = stage.duration, stage.half_width(y)
    spot = np.array([(meeting.across + rng.normal() * 0.12) * half, y, 0.0])
    moment = float(np.clip(meeting.moment + rng.normal() * 0.08, 0.05, 0.95)) * clip
    quat = about(UP, yaw)
    if way in PHYSICS:
        return _thrown(rng, way, stage, spot, quat, moment, half)
    hz = float(rng.uniform(0.4, 1.6)) / clip
    gait = float(rng.uniform(0.8, 3.0)) / clip
    rest = Motion(
        vec(spot), quat, wave_hz=round(hz, 4), wave_phase=round(float(rng.random()), 4), gait_hz=round(gait, 4)
    )
    if way == "rest":
        return rest
    if way == "spin":
        axis = np.array([0, 0, 1.0]) if kind in WALKERS or rng.random() < 0.5 else rng.normal(size=3)
        turn = axis / np.linalg.norm(axis) * rng.uniform(1.0, 5.0) / clip * rng.choice([-1, 1])
        return replace(rest, spin=vec(turn))
    if way == "sway":
        lift = (0.0 if kind in WALKERS else rng.uniform(0, 0.3)) * stage.height(y)
        wave = np.array([rng.uniform(0.2, 0.9) * half, 0, 0.4 * lift])
        return replace(
            rest,
            wave=vec(wave),
            rock=vec(rng.normal(size=3) * 0.35 * (lift > 0)),
            start=vec(np.add(spot, [0, 0, lift])),
        )
    return _travel(rng, kind, way, stage, rest, spot, moment, yaw, scale)


def _travel(
    rng: np.random.Generator,
    kind: str,
    way: str,
    stage: Stage,
    rest: Motion,
    spot: np.ndarray,
    moment: float,
    yaw: float,
    scale: float,
) -> Motion:
    """Walk, drive or fly through ``spot`` at ``moment``."""
    clip, half = stage.duration, stage.half_width(float(spot[1]))
    length = rng.uniform(0.5, 2.3) * half if way != "toward" else rng.uniform(0.1, 0.4) * stage.reach
    if way == "return":
        length *= 1.4
    velocity = np.array([np.cos(yaw), np.sin(yaw), 0]) * length / clip
    wave: Vec3 = (
        (0.0, 0.0, round(0.02 * scale, 4)) if kind in ("person", "quadruped", "rider", "bird") else (0.0, 0.0, 0.0)
    )
    speed = float(np.linalg.norm(velocity))
    gait = speed / (scale * {"person": 0.95, "car": 1.0, "bicycle": 1.4}.get(kind, 1.1))
    if way == "fly":
        low, tall = max(0.0, stage.bottom(float(spot[1]))), stage.height(float(spot[1]))
        spot = np.add(spot, [0, 0, low + rng.uniform(0.1, 0.5) * tall])
        velocity[2] = rng.normal() * 0.2 * tall / clip
        wave = vec((0, 0, rng.uniform(0, 0.12) * tall))
        gait = rng.uniform(2.0, 6.0) / clip
    gait = min(gait, 7.0 / clip)  # more than seven strides a clip would flicker
    spin = (0.0, 0.0, 0.0)
    if way == "fly" and kind != "bird" and rng.random() < 0.8:
        spin = vec(rng.normal(size=3) * 1.8 / clip)
    gone = {
        "return": clip * 0.25 * (1 - np.cos(2 * np.pi * moment / clip)),
        "stop": moment + clip / (2 * np.pi) * np.sin(2 * np.pi * moment / clip),
    }.get(way, moment)
    return replace(
        rest,
        start=vec(spot - velocity * gone),
        velocity=vec(velocity),
        wave=wave,
        spin=spin,
        wave_hz=round(2 * gait if way != "fly" else 1.0 / clip, 4),
        gait_hz=round(gait, 4),
        path=way if way in ("return", "stop") else "steady",
    )


def _thrown(
    rng: np.random.Generator, way: str, stage: Stage, spot: np.ndarray, quat: Quat, moment: float, half: float
) -> Motion:
    """An initial state for physics that passes the meeting point at about the right time."""
    tumble = rng.normal(size=3)
    tumble *= rng.uniform(0, np.pi) / np.linalg.norm(tumble)
    angle = float(np.linalg.norm(tumble))
    tilted = multiply(np.array(about(list(tumble / angle), angle)), np.array(quat))
    turned: Quat = tuple(round(float(q), 6) for q in tilted)
    speed = float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.8) * half / stage.duration)
    if way == "slide":
        return Motion(
            vec(np.add(spot, [-1.2 * speed * moment, 0, 0.02])),
            quat,
            velocity=vec((1.7 * speed, rng.normal() * 0.1, 0)),
            spin=vec((0, 0, rng.normal() * 2)),
            physics=True,
        )
    if way == "drop":
        return Motion(
            vec(np.add(spot, [0, 0, rng.uniform(0.1, 0.6) * stage.height(float(spot[1]))])),
            turned,
            velocity=vec((rng.normal() * 0.2, 0, 0)),
            spin=vec(rng.normal(size=3) * 1.5),
            physics=True,
        )
    up = rng.uniform(1.0, 4.0)
    return Motion(
        vec(np.add(spot, [-speed * moment, 0, rng.uniform(0.1, 0.7)])),
        turned,
        velocity=vec((speed, rng.normal() * 0.2, up)),
        spin=vec(rng.normal(size=3) * 3),
        physics=True,
    )


def _screens(rng: np.random.Generator, look: Preset, stage: Stage, meetings: list[Meeting]) -> tuple[Actor, ...]:
    """Occluders in front of the objects, the nearest of them passing by the camera."""
    actors = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.34, 0.38, 0.2, 0.08]))):
        near = float(rng.uniform(-0.62, -0.2))
        y = near * stage.reach
        way = pick(rng, (("rest", 5), ("cross", 3), ("sway", 1), ("fly", 1)))
        kind = pick(rng, look.screens)
        meeting = meetings[int(rng.integers(len(meetings)))] if rng.random() < 0.75 else None
        actor = _actor(rng, kind, way, stage, y, float(rng.uniform(0.4, 1.1)), meeting, widest=0.4)
        start = actor.motion.start
        # Near the camera the ground is below the frame; what should hide something must be lifted into view.
        lift = max(0.0, stage.bottom(y)) + float(rng.uniform(-0.1, 0.25)) * stage.height(y) if way != "fly" else 0.0
        actors.append(
            replace(actor, motion=replace(actor.motion, start=vec((start[0], start[1], start[2] + max(0.0, lift)))))
        )
    return tuple(actors)


def _scenery(rng: np.random.Generator, look: Preset, stage: Stage) -> tuple[Actor, ...]:
    """Things far behind, which do not move; sometimes a wall."""
    actors = []
    for _ in range(int(rng.integers(0, 6))):
        y = float(rng.uniform(0.75, 2.2)) * stage.reach
        where = Meeting(float(rng.uniform(-0.95, 0.95)), 0.5)
        actors.append(_actor(rng, pick(rng, look.scenery), "rest", stage, y, float(rng.uniform(0.15, 0.8)), where))
    if rng.random() < 0.35:
        y = float(rng.uniform(0.75, 2.5)) * stage.reach
        wide, tall = 3 * stage.half_width(y), float(rng.uniform(0.4, 2.0)) * stage.height(y)
        part = shapes.box((2 * wide, 0.1, tall), (0, 0, tall / 2))
        actors.append(Actor("wall", shapes.rigid([part]), shapes.materials(rng, 1, 0.9), Motion(vec((0, y, 0)))))
    return tuple(actors)
