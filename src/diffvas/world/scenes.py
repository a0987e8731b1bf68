"""Scenes from named presets: who is in them, where they stand, how they move.

Everything is chosen relative to the picture: a thing's size is a share of the frame's height at its depth, and paths
are led through common meeting points. ``occlusion`` then sees to it that things are as hidden as the preset wants.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

import numpy as np

from diffvas.world.building import UP, about, bounds, box, materials, rigid, vec
from diffvas.world.families import FAMILIES, WALKING, Family, allowed, pick_family
from diffvas.world.occlusion import CARRIED, design
from diffvas.world.presets import MIX, PHYSICS, PRESETS, Preset, pick
from diffvas.world.quaternions import multiply, turned
from diffvas.world.simulate import pose_at
from diffvas.world.spec import Actor, Motion, Quat, SceneSpec, Vec3
from diffvas.world.stage import (
    SHADOWED,
    VIEW,
    Meeting,
    Stage,
    sample_camera,
    sample_ground,
    sample_lights,
    sample_look,
    sample_room,
    sample_sky,
)

NAMES = (*PRESETS, "mixed", "demo")
CARRIABLE = (("small", 3.0), ("vessel", 1.0), ("body", 1.0), ("board", 0.7), ("furniture", 0.5))


def sample_scene(
    preset: str, rng: np.random.Generator, size: tuple[int, int], frames: int, families: str = "all"
) -> SceneSpec:
    """A random scene of a preset.

    Args:
        preset: "street", "field", "tabletop", "room", "air", "mixed" (one of these at random) or "demo" (always the
            same scene).
        rng: the only source of chance.
        size: (height, width) in pixels.
        frames: number of frames.
        families: the shapes in it. "train": none of ``families.HELD_OUT``, be it as object or occluder; "heldout":
            every object is of a held-out family, occluders and scenery may be of any; "all". No matter for "demo".

    Raises:
        ValueError: an unknown preset or set of families, or a size or number of frames that cannot be rendered.
        RuntimeError: MuJoCo is missing, which a scene with falling things needs already here.
    """
    names = allowed(families)
    if preset not in NAMES:
        near = difflib.get_close_matches(str(preset), NAMES, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"preset: expected one of {NAMES}, got {preset!r}{hint}")
    if preset == "demo":
        from diffvas.world.demo_scene import demo_scene

        return demo_scene(size, frames)
    if frames < 1 or min(size) < 8:  # the spec refuses these too, but only once there is one
        raise ValueError(f"size, frames: expected at least 8 x 8 pixels and 1 frame, got {size!r}, {frames!r}")
    kind = pick(rng, MIX) if preset == "mixed" else preset
    look = PRESETS[kind]
    stage = _stage(rng, kind, size, frames)
    meetings = [
        Meeting(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.25, 0.75))) for _ in range(int(rng.integers(1, 3)))
    ]
    others = names if families != "heldout" else allowed("all")
    objects = _cast(rng, look, stage, meetings, names)
    indoors = bool(rng.random() < look.indoors)
    lead = np.asarray(objects[0].motion.velocity) * stage.duration * (objects[0].motion.path == "steady")
    spec = SceneSpec(
        name=f"{preset}-0000000",
        seed=0,
        size=size,
        frames=frames,
        frame_seconds=round(stage.duration / max(1, frames - 1), 4),
        objects=objects,
        props=_scenery(rng, look, stage, others, indoors),
        camera=sample_camera(rng, stage, vec(lead)),
        lights=sample_lights(rng),
        ambient=round(float(rng.uniform(0.36, 0.62)), 3),
        ground=sample_ground(rng, indoors),
        sky=sample_sky(rng),
        ground_repeat=round(float(rng.uniform(0.1, 0.6)), 3),
        warmup=0.8 if rng.random() < 0.3 else 0.0,
        shadows=bool(rng.random() < SHADOWED),
        look=sample_look(rng),
        notes={"preset": kind, "families": families},
    )
    return design(rng, spec, look, others)


def _stage(rng: np.random.Generator, kind: str, size: tuple[int, int], frames: int) -> Stage:
    look = PRESETS[kind]
    step = round(float(rng.uniform(0.035, 0.07 if kind == "tabletop" else 0.1)), 4)
    fov = float(np.deg2rad(rng.uniform(18, 65)))
    pitch, aim = float(rng.uniform(*look.pitch)), float(rng.uniform(*look.aim)) * VIEW
    return Stage(VIEW / 2 / np.tan(fov / 2), pitch, fov, size[1] / size[0], aim, step * max(1, frames - 1))


def _cast(
    rng: np.random.Generator, look: Preset, stage: Stage, meetings: list[Meeting], names: frozenset[str]
) -> tuple[Actor, ...]:
    """Three to six objects in lanes of different depth, most of them led through a meeting point."""
    count = int(rng.choice([3, 4, 5, 6], p=[0.25, 0.35, 0.28, 0.12]))
    near, far = stage.lanes()
    lanes = np.linspace(near, far, count) + rng.uniform(-0.05, 0.05, size=count) * stage.reach
    big = rng.uniform(0.55, 1.1)
    actors: list[Actor] = []
    for lane in rng.permutation(lanes):
        way = pick(rng, look.ways)
        share = float(np.clip(big * rng.lognormal(-0.35, 0.3), 0.22, 1.1))
        meeting = meetings[int(rng.integers(len(meetings)))] if rng.random() < 0.65 else None
        if way == "carry" and "person" in names:
            actors += _carried(rng, stage, float(lane), share, meeting, names)
            continue
        name = pick_family(rng, look.cast, names)
        actors.append(_actor(rng, name, way, stage, float(lane), share, meeting, look.grounded))
    return _apart(actors)


def _apart(actors: list[Actor]) -> tuple[Actor, ...]:
    """What physics moves is lifted until it starts above the ground and clear of all it can bump into.

    Bodies that begin inside each other are thrown apart with absurd force.
    """
    boxes: list[tuple[np.ndarray, np.ndarray]] = []
    out = []
    for actor in sorted(actors, key=lambda one: one.motion.physics):
        if not (actor.motion.physics or actor.still):
            out.append(actor)
            continue
        low, high = bounds(actor.limbs)
        corners = np.stack(np.meshgrid(*np.stack([low, high], 1)), -1).reshape(-1, 3) * actor.scale
        corners = turned(np.asarray(actor.motion.quat), corners) + np.asarray(actor.motion.start)
        low, high = corners.min(0), corners.max(0)
        up = np.array([0.0, 0.0, max(0.0, 0.02 - float(low[2])) if actor.motion.physics else 0.0])
        for below, above in sorted(boxes, key=lambda box: float(box[1][2])) if actor.motion.physics else ():
            if (low + up < above).all() and (below < high + up).all():
                up[2] = float(above[2] - low[2]) + 0.02
        boxes.append((low + up, high + up))
        start = vec(np.asarray(actor.motion.start) + up)
        out.append(replace(actor, motion=replace(actor.motion, start=start)) if up[2] else actor)
    return tuple(out)


def _fitting(rng: np.random.Generator, family: Family, way: str, grounded: bool) -> str:
    """A way of moving that suits the family."""
    if family.hangs:
        return "hang"
    if family.rolls:
        return way if way in (*PHYSICS, "rest") else "roll"
    if way in ("roll", "carry"):
        way = "cross" if family.walks else "slide" if grounded else "fly"
    if family.flies and way in WALKING and not (family.walks and rng.random() < 0.3):
        return "fly"
    if grounded and not family.walks and way in WALKING and rng.random() < 0.6:
        return "rest"  # few chairs walk; some are dragged
    return way


def _actor(
    rng: np.random.Generator,
    name: str,
    way: str,
    stage: Stage,
    y: float,
    share: float,
    meeting: Meeting | None,
    grounded: bool = True,
    widest: float = 0.42,
) -> Actor:
    """One actor: its shape, its size (``share`` of the frame's height at depth y) and its motion."""
    family = FAMILIES[name]
    way = _fitting(rng, family, way, grounded)
    limbs, stuff = family.make(rng, way)
    low, high = bounds(limbs)
    extent = high - low
    yaw = _yaw(rng, family, way)
    across = abs(np.cos(yaw)) * extent[0] + abs(np.sin(yaw)) * extent[1]
    tall = max(float(extent[2]), 0.7 * float(across))
    scale = min(share * stage.height(y) / tall, 2 * widest * stage.half_width(y) / max(across, 1e-3))
    scale = round(float(scale), 4)
    meeting = meeting or Meeting(float(rng.uniform(-0.8, 0.8)), float(rng.uniform(0, 1)))
    motion = _motion(rng, family, way, stage, y, yaw, scale, meeting)
    if not motion.physics and not family.hangs:  # feet on the ground also where the figure sits or floats
        motion = replace(motion, start=vec(np.asarray(motion.start) - [0, 0, low[2] * scale]))
    return Actor(name, limbs, stuff, motion, scale)


def _carried(
    rng: np.random.Generator, stage: Stage, y: float, share: float, meeting: Meeting | None, names: frozenset[str]
) -> list[Actor]:
    """Somebody who walks with a thing in the arms, and the thing."""
    family = FAMILIES["person"]
    limbs, stuff = family.make(rng, "carry")
    yaw = _yaw(rng, family, "cross")
    scale = round(min(share, 0.9) * stage.height(y), 4)
    meeting = meeting or Meeting(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.3, 0.7)))
    motion = _motion(rng, family, "cross", stage, y, yaw, scale, meeting)
    name = pick_family(rng, CARRIABLE, names)
    load, paint = FAMILIES[name].make(rng, "rest")
    low, high = bounds(load)
    size = round(float(rng.uniform(0.25, 0.55)) * scale / float((high - low).max()), 4)
    front = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    ahead = (0.14 * scale + 0.5 * size * float((high - low)[0])) * front
    lift = rng.uniform(0.42, 0.62) * scale - (low[2] + high[2]) / 2 * size
    held = replace(motion, start=vec(np.asarray(motion.start) + ahead + [0, 0, lift]), gait_hz=0.0)
    return [
        Actor("person", limbs, stuff, motion, scale),
        Actor(name + CARRIED, load, paint, held, size),
    ]


def _yaw(rng: np.random.Generator, family: Family, way: str) -> float:
    """Where the front points: along the path, else anywhere with a liking for the side view."""
    side = float(rng.choice([0.0, np.pi]))
    if way in ("cross", "return", "stop", "fly", "roll"):
        return side + float(rng.normal() * 0.3)
    if way == "arc":
        return float(rng.uniform(0, 2 * np.pi))
    if way == "toward":
        return float(rng.choice([-np.pi / 2, np.pi / 2]) + rng.normal() * 0.35)
    if family.faces:
        return float(rng.normal() * 0.35)
    return side + float(rng.normal() * 0.5) if rng.random() < 0.5 else float(rng.uniform(0, 2 * np.pi))


def _motion(
    rng: np.random.Generator,
    family: Family,
    way: str,
    stage: Stage,
    y: float,
    yaw: float,
    scale: float,
    meeting: Meeting,
) -> Motion:
    clip, half = stage.duration, stage.half_width(y)
    spot = np.array([(meeting.across + rng.normal() * 0.12) * half, y, 0.0])
    moment = float(np.clip(meeting.moment + rng.normal() * 0.08, 0.05, 0.95)) * clip
    quat = about(UP, yaw)
    if way in PHYSICS:
        return _thrown(rng, way, stage, spot, quat, moment, half)
    hz = float(rng.uniform(0.4, 1.6)) / max(clip, 1e-3)
    gait = float(rng.uniform(0.8, 3.0)) / max(clip, 1e-3)
    rest = Motion(
        vec(spot), quat, wave_hz=round(hz, 4), wave_phase=round(float(rng.random()), 4), gait_hz=round(gait, 4)
    )
    if family.group in ("vehicle", "rider"):  # no wheels that turn on the spot
        rest = replace(rest, gait_hz=0.0)
    if way == "rest":
        return rest
    if way == "hang":
        top = max(0.0, stage.bottom(y)) + rng.uniform(0.8, 1.15) * stage.height(y)
        rock = vec(rng.normal(size=3) * [0.15, 0.45, 0.2])
        return replace(rest, start=vec((spot[0], y, top)), rock=rock, quat=about(UP, yaw))
    if way == "spin":
        axis = np.array([0, 0, 1.0]) if family.walks or rng.random() < 0.5 else rng.normal(size=3)
        turn = axis / np.linalg.norm(axis) * rng.uniform(1.0, 5.0) / max(clip, 1e-3) * rng.choice([-1, 1])
        return replace(rest, spin=vec(turn))
    if way == "sway":
        lift = (0.0 if family.walks else rng.uniform(0, 0.3)) * stage.height(y)
        wave = np.array([rng.uniform(0.2, 0.9) * half, 0, 0.4 * lift])
        return replace(
            rest,
            wave=vec(wave),
            rock=vec(rng.normal(size=3) * 0.35 * (lift > 0)),
            start=vec(np.add(spot, [0, 0, lift])),
        )
    return _travel(rng, family, way, stage, rest, spot, moment, yaw, scale)


STRIDE = {"person": 0.95, "vehicle": 1.0, "rider": 1.2}  # metres at scale 1 per cycle of the gait


def _travel(
    rng: np.random.Generator,
    family: Family,
    way: str,
    stage: Stage,
    rest: Motion,
    spot: np.ndarray,
    moment: float,
    yaw: float,
    scale: float,
) -> Motion:
    """Walk, drive, roll or fly through ``spot`` at ``moment``."""
    clip, half = max(stage.duration, 1e-3), stage.half_width(float(spot[1]))
    length = rng.uniform(0.5, 2.3) * half if way != "toward" else rng.uniform(0.1, 0.4) * stage.reach
    if way == "return":
        length *= 1.4
    velocity = np.array([np.cos(yaw), np.sin(yaw), 0]) * length / clip
    wave: Vec3 = (0.0, 0.0, 0.0)
    if family.group in ("person", "animal", "rider", "bird") and way != "fly":  # the body rises twice a stride
        wave = (0.0, 0.0, round(0.02 * scale, 4))
    speed = float(np.linalg.norm(velocity))
    gait = speed / (scale * STRIDE.get(family.group, 1.1))
    spin = (0.0, 0.0, 0.0)
    if way == "fly":
        low, tall = max(0.0, stage.bottom(float(spot[1]))), stage.height(float(spot[1]))
        spot = np.add(spot, [0, 0, low + rng.uniform(0.1, 0.5) * tall])
        velocity[2] = rng.normal() * 0.2 * tall / clip
        wave = vec((0, 0, rng.uniform(0, 0.12) * tall))
        gait = rng.uniform(2.0, 6.0) / clip
        if not family.flies and rng.random() < 0.8:
            spin = vec(rng.normal(size=3) * 1.8 / clip)
    elif way == "roll":
        spin = vec(np.cross([0.0, 0.0, 1.0], velocity) / (0.5 * scale))
    elif way == "arc":
        spin = vec((0, 0, rng.choice([-1, 1]) * rng.uniform(0.6, 2.6) / clip))
    gait = min(gait, 7.0 / clip)  # more than seven strides a clip would flicker
    motion = replace(
        rest,
        start=(0.0, 0.0, 0.0),
        velocity=vec(velocity),
        wave=wave,
        spin=spin,
        wave_hz=round(2 * gait if way != "fly" else 1.0 / clip, 4),
        gait_hz=round(gait, 4),
        path=way if way in ("return", "stop", "arc") else "steady",
    )
    gone, _ = pose_at(replace(motion, wave=(0.0, 0.0, 0.0)), moment, clip)
    return replace(motion, start=vec(spot - gone))


def _thrown(
    rng: np.random.Generator, way: str, stage: Stage, spot: np.ndarray, quat: Quat, moment: float, half: float
) -> Motion:
    """An initial state for physics that passes the meeting point at about the right time."""
    tumble = rng.normal(size=3)
    tumble *= rng.uniform(0, np.pi) / np.linalg.norm(tumble)
    angle = float(np.linalg.norm(tumble))
    tilted = multiply(np.array(about(list(tumble / angle), angle)), np.array(quat))
    pose: Quat = tuple(round(float(q), 6) for q in tilted)
    speed = float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.8) * half / max(stage.duration, 0.1))
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
            pose,
            velocity=vec((rng.normal() * 0.2, 0, 0)),
            spin=vec(rng.normal(size=3) * 1.5),
            physics=True,
        )
    up = rng.uniform(1.0, 4.0)
    return Motion(
        vec(np.add(spot, [-speed * moment, 0, rng.uniform(0.1, 0.7)])),
        pose,
        velocity=vec((speed, rng.normal() * 0.2, up)),
        spin=vec(rng.normal(size=3) * 3),
        physics=True,
    )


def _scenery(
    rng: np.random.Generator, look: Preset, stage: Stage, names: frozenset[str], indoors: bool
) -> tuple[Actor, ...]:
    """Things far behind, which do not move; indoors a room around them, outdoors sometimes a wall or a row of them."""
    actors = []
    for _ in range(int(rng.integers(0, 4 if indoors else 6))):
        y = float(rng.uniform(0.72, 1.0 if indoors else 2.2)) * stage.reach
        where = Meeting(float(rng.uniform(-0.95, 0.95)), 0.5)
        name = pick_family(rng, look.scenery, names)
        actors.append(_actor(rng, name, "rest", stage, y, float(rng.uniform(0.15, 0.8)), where))
    if indoors:
        return (*actors, *sample_room(rng, stage))
    if rng.random() < 0.3:
        y = float(rng.uniform(0.9, 2.5)) * stage.reach
        for _ in range(int(rng.integers(1, 4))):
            wide, tall = rng.uniform(0.4, 2.5) * stage.half_width(y), rng.uniform(0.4, 1.6) * stage.height(y)
            part = box((wide, 0.1, tall), (0, 0, tall / 2))
            x = rng.uniform(-1, 1) * stage.half_width(y)
            actors.append(Actor("wall", rigid([part]), materials(rng, 1, 0.9), Motion(vec((x, y, 0)))))
    return tuple(actors)
