"""What a synthetic 3-D scene consists of: frozen dataclasses that know nothing of a simulator or a renderer.

A scene is a camera, lights, a ground, a sky and actors. Actors that are *objects* get an id and amodal truth; *props*
are scenery and occluders without an id. Lengths are in metres, times in seconds, angles in radians unless a name says
otherwise; the world's z axis points up and an actor's own x axis points forward.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any

Vec3 = tuple[float, float, float]
Quat = tuple[float, float, float, float]  # w, x, y, z

PART_KINDS = ("box", "sphere", "capsule", "cylinder", "ellipsoid", "mesh")
PATH_KINDS = ("steady", "return", "stop", "arc")


@dataclass(frozen=True)
class Texture:
    """A procedural pattern of two colours (components in [0, 1]); ``seed`` feeds the noise, ``scale`` its grain."""

    kind: str
    colours: tuple[Vec3, Vec3]
    scale: float = 4.0
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """A texture and how it shines; both numbers are in [0, 1]."""

    texture: Texture
    specular: float = 0.2
    shininess: float = 0.3


@dataclass(frozen=True)
class Mesh:
    """A mesh by its recipe: ``diffvas.world.meshes`` turns the kind and its numbers into triangles."""

    kind: str
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """One rigid shape in the frame of its limb.

    ``size`` follows MuJoCo: box and ellipsoid half axes; sphere (radius, 0, 0); capsule and cylinder
    (radius, half length, 0) along z; ignored for a mesh, which carries its own size.
    """

    kind: str
    size: Vec3
    pos: Vec3 = (0.0, 0.0, 0.0)
    quat: Quat = (1.0, 0.0, 0.0, 0.0)
    material: int = 0
    mesh: Mesh | None = None


@dataclass(frozen=True)
class Limb:
    """Parts that turn together around a hinge at ``pivot`` (in the parent limb's frame).

    With p = 2 pi (cycles * gait_hz * t + phase) the hinge angle is angle + swing sin(p) + bend max(0, sin(p)) + roll p.
    Limb 0 of an actor is its root (parent -1); it has no hinge.
    """

    parent: int
    pivot: Vec3
    parts: tuple[Part, ...]
    axis: Vec3 = (0.0, -1.0, 0.0)
    angle: float = 0.0
    swing: float = 0.0
    bend: float = 0.0
    phase: float = 0.0
    cycles: float = 1.0
    roll: float = 0.0


@dataclass(frozen=True)
class Motion:
    """How an actor moves: by physics from an initial state, or by formula.

    By formula, position = start + velocity * s(t) + wave * sin(2 pi (wave_hz t + wave_phase)); s(t) is t
    ("steady"), goes there and back once during the clip ("return"), or slows to a halt in its middle ("stop").
    With "arc" the velocity turns with ``spin`` about z, so that a walker goes along a bend and faces where it goes.
    The orientation is ``quat``, turned by ``spin`` * t and by ``rock`` * sin(2 pi (wave_hz t + wave_phase)), both
    world rotation vectors.
    With ``physics``, velocity and spin are the initial linear and angular velocity.
    """

    start: Vec3
    quat: Quat = (1.0, 0.0, 0.0, 0.0)
    velocity: Vec3 = (0.0, 0.0, 0.0)
    spin: Vec3 = (0.0, 0.0, 0.0)
    wave: Vec3 = (0.0, 0.0, 0.0)
    rock: Vec3 = (0.0, 0.0, 0.0)
    wave_hz: float = 0.0
    wave_phase: float = 0.0
    gait_hz: float = 0.0
    path: str = "steady"
    physics: bool = False

    @property
    def still(self) -> bool:
        """True when nothing of this motion changes over time (limbs apart)."""
        moving = (*self.velocity, *self.spin, *self.wave, *self.rock)
        return not self.physics and not any(moving)


@dataclass(frozen=True)
class Actor:
    """A thing in the scene: limbs, the materials its parts refer to, a scale and a motion.

    ``solid`` False keeps what physics moves from bumping into it: an occluder must not change what it hides.
    """

    name: str
    limbs: tuple[Limb, ...]
    materials: tuple[Material, ...]
    motion: Motion
    scale: float = 1.0
    solid: bool = True

    @property
    def still(self) -> bool:
        """True when the actor looks the same in every frame."""
        limbs_still = self.motion.gait_hz == 0 or not any(x.swing or x.bend or x.roll for x in self.limbs)
        return self.motion.still and limbs_still


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking from ``position`` at ``target``; the other numbers are changes over the whole clip.

    ``travel`` moves position and target, ``orbit`` turns the position around the target, ``shake`` is the amplitude
    of a slow random hand motion, ``fov`` the vertical field of view in degrees at the first and the last frame,
    ``roll`` a constant tilt in radians.
    """

    position: Vec3
    target: Vec3
    fov: tuple[float, float]
    travel: Vec3 = (0.0, 0.0, 0.0)
    orbit: float = 0.0
    shake: float = 0.0
    shake_seed: int = 0
    roll: float = 0.0

    @property
    def still(self) -> bool:
        """True when the picture of a resting scene does not change."""
        return not (any(self.travel) or self.orbit or self.shake or self.fov[0] != self.fov[1])


@dataclass(frozen=True)
class Light:
    """A distant light: the direction it shines in, and its colour in [0, 1]."""

    direction: Vec3
    colour: Vec3
    specular: float = 0.3


@dataclass(frozen=True)
class Look:
    """What the camera's electronics make of the light; applied by ``diffvas.world.grading.apply_look``.

    Attributes:
        exposure: brightness factor, more than 0; above 1 bright parts clip. gamma: exponent, below 1 lifts the shadows.
        tint: gain of red, green and blue. blur_frames: how many moments of an open shutter a frame averages; 0 = none.
    """

    exposure: float = 1.0
    gamma: float = 1.0
    tint: Vec3 = (1.0, 1.0, 1.0)
    blur_frames: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where a number cannot be applied."""
        for name, values in (("exposure", (self.exposure,)), ("gamma", (self.gamma,)), ("tint", self.tint)):
            if not all(0 < v < float("inf") for v in values):
                raise ValueError(f"look.{name}: expected more than 0, got {getattr(self, name)!r}")
        if self.blur_frames < 0:
            raise ValueError(f"look.blur_frames: expected 0 or more, got {self.blur_frames!r}")


@dataclass(frozen=True)
class SceneSpec:
    """A whole scene, enough to render the same clip again.

    Attributes:
        size: (height, width) in pixels.
        frame_seconds: time between two frames; ``warmup`` is simulated before the first one.
        objects: actors with an id and amodal truth, ids 1, 2, ... in this order (at most 254).
        props: actors without an id.
        shadows: let the first light cast shadows; several times slower, and an object alone is not shaded by others.
        look: exposure and colour of the clip.
    """

    name: str
    seed: int
    size: tuple[int, int]
    frames: int
    frame_seconds: float
    objects: tuple[Actor, ...]
    props: tuple[Actor, ...]
    camera: Camera
    lights: tuple[Light, ...]
    ambient: float
    ground: Material
    sky: Texture
    ground_repeat: float = 0.5
    warmup: float = 0.0
    shadows: bool = False
    look: Look = field(default_factory=Look)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where a number cannot be rendered."""
        if len(self.size) != 2 or min(self.size) < 8:
            raise ValueError(f"size: expected (height, width) of at least 8 pixels each, got {self.size!r}")
        if self.frames < 1:
            raise ValueError(f"frames: expected 1 or more, got {self.frames!r}")
        if not 1 <= len(self.objects) <= 254:
            raise ValueError(f"objects: expected 1 to 254 actors, got {len(self.objects)}")
        if self.frame_seconds <= 0:
            raise ValueError(f"frame_seconds: expected more than 0, got {self.frame_seconds!r}")
        for actor in (*self.objects, *self.props):
            _check_actor(actor)

    def to_json(self) -> str:
        """The scene as JSON text; ``from_json`` gives back an equal scene."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> SceneSpec:
        """A scene from ``to_json``'s text; ValueError where it is not one."""
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"text: expected the JSON of a scene, got {text[:40]!r} ({error})") from error
        return _from_plain(SceneSpec, value, "scene")


def _check_actor(actor: Actor) -> None:
    if actor.motion.path not in PATH_KINDS:
        raise ValueError(f"motion.path of {actor.name!r}: expected one of {PATH_KINDS}, got {actor.motion.path!r}")
    for index, limb in enumerate(actor.limbs):
        if not (limb.parent == -1 if index == 0 else 0 <= limb.parent < index):
            raise ValueError(f"limbs of {actor.name!r}: limb {index} must follow its parent, got parent {limb.parent}")
        for part in limb.parts:
            if part.kind not in PART_KINDS or (part.kind == "mesh") != (part.mesh is not None):
                raise ValueError(
                    f"parts of {actor.name!r}: expected a kind of {PART_KINDS} (mesh with its recipe), "
                    f"got {part.kind!r}"
                )
            if not 0 <= part.material < len(actor.materials):
                raise ValueError(
                    f"materials of {actor.name!r}: expected an index below {len(actor.materials)}, got {part.material}"
                )


def _from_plain(kind: Any, value: Any, where: str) -> Any:
    """Plain JSON values back into the annotated type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        needed = [
            f.name
            for f in dataclasses.fields(kind)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        missing = sorted(set(needed) - set(value))
        if unknown or missing:
            raise ValueError(f"{where}: expected {kind.__name__}'s fields, got unknown {unknown}, missing {missing}")
        return kind(**{key: _from_plain(hints[key], item, f"{where}.{key}") for key, item in value.items()})
    if origin is tuple:
        if not isinstance(value, list) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise ValueError(f"{where}: expected a list for {kind}, got {value!r:.60}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_from_plain(k, v, where) for k, v in zip(inner, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _from_plain(next(a for a in args if a is not type(None)), value, where)
    return float(value) if kind is float else value
