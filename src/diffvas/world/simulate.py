"""From a scene spec to a MuJoCo model and the pose of everything in every frame."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffvas.world.meshes import build_mesh
from diffvas.world.quaternions import from_axes, multiply, rotation
from diffvas.world.spec import Actor, Camera, Material, Motion, Part, Quat, SceneSpec
from diffvas.world.textures import paint

PHYSICS_STEP = 0.004  # seconds; small enough for stacks and throws, and still about 1 % of a clip's cost
FAR = 60.0  # metres; the sky is reported at this distance
NEAR = 0.02
TILE = 64  # texels; at 128x256 a sharper texture only aliases
GROUND_TILE = 256

GL_HELP = (
    "no OpenGL for rendering scenes ({reason}): on Debian install it with `apt-get install libegl1 libgl1-mesa-dri`, "
    "or set MUJOCO_GL to osmesa or glfw"
)


def import_mujoco() -> Any:
    """The mujoco module, set to render off screen.

    Raises:
        RuntimeError: MuJoCo or its OpenGL library is not installed; says what to install.
    """
    if sys.platform.startswith("linux"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco reads this when it is imported
    try:
        import mujoco
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mujoco"):
            raise RuntimeError("rendering scenes needs MuJoCo: pip install 'diffvas[world]'") from error
        raise RuntimeError(GL_HELP.format(reason=error)) from error
    except Exception as error:  # each OpenGL backend fails in its own way when its library is missing
        raise RuntimeError(GL_HELP.format(reason=error)) from error
    return mujoco


@dataclass
class World:
    """A compiled scene.

    Attributes:
        model, data: MuJoCo's.
        owner: (ngeom,) int, the actor of each geom: its index in ``objects + props``, or -1 for the ground.
        qpos: (T, nq), mocap_pos: (T, M, 3), mocap_quat: (T, M, 4): the poses in every frame.
    """

    model: Any
    data: Any
    owner: np.ndarray
    qpos: np.ndarray
    mocap_pos: np.ndarray
    mocap_quat: np.ndarray


def build_world(spec: SceneSpec) -> World:
    """Compile a scene and compute where everything is in every frame."""
    mujoco = import_mujoco()
    textures: list[np.ndarray] = []
    model = mujoco.MjModel.from_xml_string(scene_xml(spec, textures))
    for index, tile in enumerate(textures):
        _upload(model, index, tile)
    data = mujoco.MjData(model)
    names = [model.body(int(b)).name.split("/")[0] for b in model.geom_bodyid]
    owner = np.array([int(name[1:]) if name.startswith("a") else -1 for name in names])
    world = World(
        model,
        data,
        owner,
        np.zeros((spec.frames, model.nq)),
        np.zeros((spec.frames, model.nmocap, 3)),
        np.zeros((spec.frames, model.nmocap, 4)),
    )
    _simulate(mujoco, spec, world)
    return world


def _upload(model: Any, index: int, tile: np.ndarray) -> None:
    """Put our own texels where the compiler put one flat colour (cube textures: the same tile on six faces)."""
    start = int(model.tex_adr[index])
    size = int(model.tex_height[index]) * int(model.tex_width[index]) * 3
    model.tex_data[start : start + size] = np.resize(tile.reshape(-1), size)


def _simulate(mujoco: Any, spec: SceneSpec, world: World) -> None:
    model, data = world.model, world.data
    actors = (*spec.objects, *spec.props)
    duration = spec.frame_seconds * max(1, spec.frames - 1)
    paths = physics_paths(spec)
    for frame in range(spec.frames):
        for index, actor in enumerate(actors):
            if actor.motion.physics:
                start = int(model.joint(f"a{index}").qposadr[0])
                data.qpos[start : start + 7] = paths[index][frame]
            else:
                _pose(model, data, index, actor, frame * spec.frame_seconds, duration)
        world.qpos[frame], world.mocap_pos[frame], world.mocap_quat[frame] = data.qpos, data.mocap_pos, data.mocap_quat


def physics_paths(spec: SceneSpec) -> dict[int, np.ndarray]:
    """Where physics takes the actors that it moves: index in objects + props to (T, 7) position and quaternion.

    They are simulated among themselves and the solid things at rest, in a model without textures and without what
    moves by formula: its hinges would cost time, and long chains of them can make the simulation blow up.

    Raises:
        RuntimeError: physics moves something and MuJoCo is missing.
    """
    actors = (*spec.objects, *spec.props)
    moved = [k for k, actor in enumerate(actors) if actor.motion.physics]
    if not moved:
        return {}
    mujoco = import_mujoco()
    kept = [k for k, actor in enumerate(actors) if actor.motion.physics or (actor.solid and actor.still)]
    flat = replace(spec.sky, kind="flat")
    plain = replace(spec.ground, texture=flat)
    bare = tuple(replace(actors[k], materials=(plain,) * len(actors[k].materials)) for k in kept)
    model = mujoco.MjModel.from_xml_string(scene_xml(replace(spec, objects=bare, props=(), sky=flat, ground=plain), []))
    data = mujoco.MjData(model)
    places = {k: model.joint(f"a{kept.index(k)}") for k in moved}
    for k, joint in places.items():
        motion = actors[k].motion
        data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = (*motion.start, *motion.quat)
        data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = (*motion.velocity, *motion.spin)
    for number, k in enumerate(kept):
        if not actors[k].motion.physics:
            _pose(model, data, number, actors[k], 0.0, 1.0)
    hinges = model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE]
    model.dof_damping[hinges] = 1e6  # what rests does not sag
    steps = max(1, round(spec.frame_seconds / PHYSICS_STEP))
    model.opt.timestep = spec.frame_seconds / steps
    mujoco.mj_step(model, data, round(spec.warmup / model.opt.timestep))
    paths = {k: np.empty((spec.frames, 7)) for k in moved}
    for frame in range(spec.frames):
        for k, joint in places.items():
            paths[k][frame] = data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7]
        mujoco.mj_step(model, data, steps)
    return paths


def _pose(model: Any, data: Any, index: int, actor: Actor, time: float, duration: float) -> None:
    """Set an actor that moves by formula."""
    if not actor.motion.still:
        place = int(model.body_mocapid[model.body(f"a{index}").id])
        data.mocap_pos[place], data.mocap_quat[place] = pose_at(actor.motion, time, duration)
    for number, limb in enumerate(actor.limbs[1:], 1):
        phase = 2 * np.pi * (limb.cycles * actor.motion.gait_hz * time + limb.phase)
        turn = np.sin(phase)
        joint = model.joint(f"a{index}/{number}")
        data.qpos[joint.qposadr[0]] = limb.angle + limb.swing * turn + limb.bend * max(0.0, turn) + limb.roll * phase
        data.qvel[joint.dofadr[0]] = 0


def pose_at(motion: Motion, time: float, duration: float) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) in metres and orientation (4,) w-first of a motion by formula at ``time`` of a clip."""
    if motion.path == "return":
        travelled = duration * 0.25 * (1 - np.cos(2 * np.pi * time / duration))
    elif motion.path == "stop":  # full speed at both ends, none in the middle
        travelled = time + duration / (2 * np.pi) * np.sin(2 * np.pi * time / duration)
    else:
        travelled = time
    if motion.path == "arc" and abs(motion.spin[2]) > 1e-6:
        rate, (vx, vy, vz) = motion.spin[2], motion.velocity
        ahead, aside = np.sin(rate * time) / rate, (1 - np.cos(rate * time)) / rate  # of a velocity that turns
        way = np.array([ahead * vx - aside * vy, aside * vx + ahead * vy, vz * time])
    else:
        way = travelled * np.asarray(motion.velocity)
    wave = np.sin(2 * np.pi * (motion.wave_hz * time + motion.wave_phase))
    position = np.asarray(motion.start) + way + wave * np.asarray(motion.wave)
    turn = multiply(rotation(np.asarray(motion.spin) * time), rotation(np.asarray(motion.rock) * wave))
    return position, multiply(turn, np.asarray(motion.quat))


def camera_at(camera: Camera, frame: int, frames: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Position (3,), orientation (4,) and vertical field of view in degrees of the camera in a frame."""
    share = frame / max(1, frames - 1)
    shake = np.zeros(6)
    if camera.shake:
        rng = np.random.default_rng(camera.shake_seed)
        waves = rng.uniform(0.5, 3.0, size=(6, 2)), rng.uniform(0, 2 * np.pi, size=(6, 2))
        shake = camera.shake * np.sin(2 * np.pi * waves[0] * share + waves[1]).mean(axis=1)
    target = np.asarray(camera.target) + share * np.asarray(camera.travel)
    offset = np.asarray(camera.position) - np.asarray(camera.target)
    cos, sin = np.cos(camera.orbit * (share - 0.5)), np.sin(camera.orbit * (share - 0.5))
    offset = np.array([cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1], offset[2]])
    position = target + offset + shake[:3]
    back = position - (target + shake[3:])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    right, up = (
        np.cos(camera.roll) * right + np.sin(camera.roll) * up,
        np.cos(camera.roll) * up - np.sin(camera.roll) * right,
    )
    fov = camera.fov[0] + share * (camera.fov[1] - camera.fov[0])
    return position, from_axes(right, up, back), fov


def _numbers(values: Any) -> str:
    return " ".join(f"{float(v):.6g}" for v in values)


def scene_xml(spec: SceneSpec, textures: list[np.ndarray]) -> str:
    """MJCF of a scene; the tiles of its textures are appended to ``textures`` in the model's order."""
    actors = (*spec.objects, *spec.props)
    colliding = any(actor.motion.physics for actor in actors)
    assets: list[str] = []
    ground = _texture_xml("ground", "2d", paint(spec.ground.texture, GROUND_TILE), assets, textures)
    _texture_xml("sky", "skybox", paint(spec.sky, TILE), assets, textures)
    repeat = f'texrepeat="{spec.ground_repeat:.6g} {spec.ground_repeat:.6g}" texuniform="true"'
    assets.append(f'<material name="ground" texture="{ground}" {repeat} specular="0" reflectance="0"/>')
    bodies = []
    for index, actor in enumerate(actors):
        for number, material in enumerate(actor.materials):
            _material_xml(f"a{index}m{number}", material, assets, textures)
        bodies.append(_actor_xml(f"a{index}", actor, colliding, assets))
    lights = "".join(
        f'<light directional="true" dir="{_numbers(light.direction)}" '
        f'pos="{_numbers(-4 * np.asarray(light.direction))}" diffuse="{_numbers(light.colour)}" '
        f'specular="{_numbers([light.specular] * 3)}" castshadow="{str(spec.shadows and index == 0).lower()}"/>'
        for index, light in enumerate(spec.lights)
    )
    ambient = _numbers([spec.ambient] * 3)
    height, width = spec.size
    return f"""<mujoco><compiler angle="radian" autolimits="true"/>
<option timestep="{PHYSICS_STEP}" integrator="implicitfast"/>
<statistic extent="1" center="0 0 0.7" meansize="0.1"/>
<visual><global offwidth="{width}" offheight="{height}"/><map znear="{NEAR}" zfar="{FAR * 2}" shadowclip="5"/>
<quality offsamples="0" shadowsize="{2048 if spec.shadows else 0}" numslices="20" numstacks="12"/>
<headlight ambient="{ambient}" diffuse="0 0 0" specular="0 0 0"/></visual>
<asset>{"".join(assets)}</asset>
<worldbody><camera name="camera"/>{lights}
<geom type="plane" size="0 0 1" material="ground" friction="0.8"/>{"".join(bodies)}</worldbody></mujoco>"""


def _texture_xml(name: str, kind: str, tile: np.ndarray, assets: list[str], textures: list[np.ndarray]) -> str:
    side = len(tile)
    height = side if kind == "2d" else 6 * side
    assets.append(f'<texture name="{name}" type="{kind}" builtin="flat" width="{side}" height="{height}"/>')
    textures.append(tile)
    return name


def _material_xml(name: str, material: Material, assets: list[str], textures: list[np.ndarray]) -> None:
    shine = f'specular="{material.specular:.4g}" shininess="{material.shininess:.4g}"'
    if material.texture.kind == "flat":  # a plain colour needs no texture, and a texture costs time
        assets.append(f'<material name="{name}" rgba="{_numbers(material.texture.colours[0])} 1" {shine}/>')
        return
    texture = _texture_xml(name, "cube", paint(material.texture, TILE), assets, textures)
    assets.append(f'<material name="{name}" texture="{texture}" {shine}/>')


def _actor_xml(name: str, actor: Actor, colliding: bool, assets: list[str]) -> str:
    """Nested bodies of an actor. What moves by formula touches nothing: it would push with unlimited force."""
    motion = actor.motion
    solid = colliding and actor.solid and (motion.physics or motion.still)
    children: dict[int, list[int]] = {index: [] for index in range(len(actor.limbs))}
    for index, limb in enumerate(actor.limbs[1:], 1):
        children[limb.parent].append(index)

    def body(index: int) -> str:
        limb = actor.limbs[index]
        geoms = "".join(
            _geom_xml(f"{name}/{index}/{number}", f"{name}m", part, actor.scale, solid, assets)
            for number, part in enumerate(limb.parts)
        )
        inner = geoms + "".join(body(child) for child in children[index])
        if index == 0:
            place = f'pos="{_numbers(motion.start)}" quat="{_numbers(motion.quat)}"'
            if motion.physics:
                return f'<body name="{name}" {place}><freejoint name="{name}"/>{inner}</body>'
            mocap = "" if motion.still else ' mocap="true"'
            return f'<body name="{name}" {place}{mocap}>{inner}</body>'
        place = f'pos="{_numbers(np.asarray(limb.pivot) * actor.scale)}"'
        if motion.physics:  # a thing thrown about is stiff
            stiff: Quat = tuple(rotation(np.asarray(limb.axis) * limb.angle))
            return f'<body name="{name}/{index}" {place} quat="{_numbers(stiff)}">{inner}</body>'
        # A limb may hold other limbs only; a hinge needs some mass to turn.
        mass = '<inertial pos="0 0 0" mass="0.1" diaginertia="0.01 0.01 0.01"/>'
        return (
            f'<body name="{name}/{index}" {place}>{mass}<joint name="{name}/{index}" axis="{_numbers(limb.axis)}"/>'
            f"{inner}</body>"
        )

    return body(0)


def _geom_xml(name: str, material: str, part: Part, scale: float, solid: bool, assets: list[str]) -> str:
    touch = 'contype="1" conaffinity="1" friction="0.5"' if solid else 'contype="0" conaffinity="0"'
    place = (
        f'pos="{_numbers(np.asarray(part.pos) * scale)}" quat="{_numbers(part.quat)}" '
        f'material="{material}{part.material}" density="300" {touch}'
    )
    if part.mesh is None:
        size = [max(1e-4, s * scale) for s in part.size]
        return f'<geom type="{part.kind}" size="{_numbers(size)}" {place}/>'
    vertices, faces = build_mesh(part.mesh)
    text = " ".join(map(str, faces.reshape(-1).tolist()))
    # "shell" accepts what is not perfectly closed or is thin
    corners = _numbers((vertices * scale).reshape(-1))
    assets.append(f'<mesh name="{name}" inertia="shell" vertex="{corners}" face="{text}"/>')
    return f'<geom type="mesh" mesh="{name}" {place}/>'
