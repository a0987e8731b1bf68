"""How hidden an object is, in four classes; and a cheap picture of a scene that tells before anything is rendered.

The picture: every part of an actor is a few convex pieces, whose projected hulls are filled at low resolution in some
of the frames (OpenCV, no OpenGL), ordered by distance. One actor costs 1 to 3 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from diffvas.world.meshes import build_mesh
from diffvas.world.quaternions import matrices, turned
from diffvas.world.simulate import camera_at, pose_at
from diffvas.world.spec import Actor, Camera, Part

Array = np.ndarray
CLASSES = ("unhidden", "partly", "heavily", "vanishing")
BOUNDS = {"unhidden": (0.97, 1.0), "partly": (0.6, 0.97), "heavily": (0.0, 0.6)}
"""Mean visible fraction of the classes but for "vanishing": hidden altogether for a while, seen before or after."""
LEAST_AREA = 0.002  # of the frame, to count as present
ROWS = 80  # height of the cheap picture
MOMENTS = 9  # frames of a clip that it shows
SHIFT = 4
NEAREST = 0.05  # metres before the camera


def visibility_class(visible: Array, area: Array) -> str | None:
    """The class of an object clip.

    Args:
        visible: (T,) visible fraction of the object in each frame.
        area: (T,) its whole area inside the frame, as a share of the frame.

    Returns:
        One of ``CLASSES``; None where the object is present in fewer than an eighth of the frames, or never seen.
        "vanishing" needs less than 3 % visible in a twelfth of the frames, and more than 10 % in as many.
    """
    present = area >= LEAST_AREA
    few = max(1, len(area) // 12)
    seen = present & (visible > 0.1)
    if present.sum() < max(1, len(area) // 8) or seen.sum() < few:
        return None
    if (present & (visible < 0.03)).sum() >= few:
        return "vanishing"
    mean = float(visible[present].mean())
    return "unhidden" if mean >= 0.97 else "partly" if mean >= 0.6 else "heavily"


@dataclass(frozen=True)
class View:
    """The camera at chosen moments: frames (S,), position (S, 3), axes (S, 3, 3): right, up, back; focal (S,)."""

    frames: Array
    position: Array
    axes: Array
    focal: Array
    size: tuple[int, int]

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points (S, P, 3) to pixels x, y (S, P, 2) and depth (S, P)."""
        inside = (points - self.position[:, None]) @ np.swapaxes(self.axes, 1, 2)
        depth = np.maximum(-inside[..., 2], NEAREST)
        xy = inside[..., :2] / depth[..., None] * self.focal[:, None, None] * [1, -1]
        return xy + np.array(self.size[::-1]) / 2, -inside[..., 2]

    def place(self, moment: int, pixel: Sequence[float], depth: float) -> Array:
        """World point (3,) at a pixel (x, y) and depth at one of the moments."""
        height, width = self.size
        x, y = (pixel[0] - width / 2) / self.focal[moment], (height / 2 - pixel[1]) / self.focal[moment]
        return self.position[moment] + depth * (np.array([x, y, -1.0]) @ self.axes[moment])


def view_of(camera: Camera, size: tuple[int, int], frames: int) -> View:
    """The view of a camera over a clip of ``frames`` frames of ``size``, at low resolution."""
    chosen = np.unique(np.linspace(0, frames - 1, min(frames, MOMENTS)).round().astype(int))
    poses = [camera_at(camera, int(frame), frames) for frame in chosen]
    low = (ROWS, max(8, round(ROWS * size[1] / size[0])))
    focal = np.array([low[0] / 2 / np.tan(np.deg2rad(fov) / 2) for _, _, fov in poses])
    axes = np.stack([turned(quat, np.eye(3)) for _, quat, _ in poses])
    return View(chosen, np.stack([p for p, _, _ in poses]), axes, focal, low)


@dataclass(frozen=True)
class Layer:
    """One actor in the cheap picture: its mask at each moment as the bits of a whole number, with which hundreds of

    arrangements are compared in a millisecond; its share of the frame (S,), its box (S, 4) x0 y0 x1 y1 in pixels,
    which may reach beyond the frame, and its distance (S,) in metres.
    """

    bits: tuple[int, ...]
    area: Array
    box: Array
    distance: Array


Path = tuple[Array, Array]  # positions (S, 3) and orientations (S, 4) of an actor's root


def layer(actor: Actor, view: View, step: float, duration: float, fall: Array | None = None) -> Layer:
    """Draw an actor alone. ``step``: seconds between frames; ``fall``: where physics takes it (``physics_paths``)."""
    if fall is not None:
        path = fall[view.frames, :3], fall[view.frames, 3:]
    else:
        poses = [pose_at(actor.motion, float(f) * step, duration) for f in view.frames]
        path = np.stack([p for p, _ in poses]), np.stack([q for _, q in poses])
    times = None if actor.motion.physics else view.frames * step
    points, sizes = actor_points(actor, path, times)
    xy, depth = view.project(points)
    fixed = np.round((xy - 0.5).clip(-500, 1000) * (1 << SHIFT)).astype(np.int32)  # OpenCV's pixels centre on integers
    fixed = np.ascontiguousarray(fixed)
    mask = np.zeros((len(view.frames), *view.size), np.uint8)
    ends = np.cumsum(sizes)
    bounds = list(zip((ends - sizes).tolist(), ends.tolist(), strict=True))
    in_front = np.logical_and.reduceat(depth > NEAREST, ends - sizes, axis=1).tolist()
    for s, canvas in enumerate(mask):
        for (a, b), shown in zip(bounds, in_front[s], strict=True):
            if shown:
                cv2.fillConvexPoly(canvas, cv2.convexHull(fixed[s, a:b]), 1, shift=SHIFT)
    box = np.concatenate([xy.min(1), xy.max(1)], 1)
    packed = np.packbits(mask.reshape(len(mask), -1), axis=1)
    bits = tuple(int.from_bytes(row.tobytes(), "big") for row in packed)
    return Layer(bits, mask.mean((1, 2)), box, np.median(depth, axis=1))


def actor_points(actor: Actor, path: Path, times: Array | None) -> tuple[Array, Array]:
    """(S, P, 3) corners of all convex pieces in the world, and how many each piece has; stiff without ``times``."""
    frames: list[tuple[Array, Array]] = []
    out, sizes = [], []
    for limb in actor.limbs:
        if limb.parent < 0:
            origin, turn = path[0], matrices(path[1])
        else:
            base, parent = frames[limb.parent]
            origin = base + parent @ (np.asarray(limb.pivot) * actor.scale)
            turn = parent @ _hinge(np.asarray(limb.axis), _angles(limb, actor.motion.gait_hz, times))
        frames.append((origin, turn))
        for part in limb.parts:
            pieces = _pieces(part)
            sizes += [len(piece) for piece in pieces]
            corners = np.concatenate(pieces) * actor.scale
            out.append(origin[:, None] + corners @ np.swapaxes(turn, 1, 2))
    return np.concatenate(out, axis=1), np.array(sizes)


def _angles(limb: object, gait_hz: float, times: Array | None) -> Array:
    if times is None:
        return np.array([limb.angle])
    phase = 2 * np.pi * (limb.cycles * gait_hz * times + limb.phase)
    turn = np.sin(phase)
    return limb.angle + limb.swing * turn + limb.bend * np.maximum(0.0, turn) + limb.roll * phase


def _hinge(axis: Array, angles: Array) -> Array:
    """(S, 3, 3) rotations about one axis."""
    x, y, z = axis
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sine * skew + (1 - cosine) * (skew @ skew)


_SIGNS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
_GRID = np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T.astype(float)
_BALL = np.delete(_GRID, 13, axis=0) / np.linalg.norm(np.delete(_GRID, 13, axis=0), axis=1, keepdims=True)
_RING = np.stack([np.cos(t := np.arange(8) * np.pi / 4), np.sin(t), 0 * t], 1)


@lru_cache(maxsize=4096)
def _pieces(part: Part) -> tuple[Array, ...]:
    """Convex pieces (P, 3) of a part of scale 1, in the limb's frame."""
    a, b, c = part.size
    if part.mesh is not None:
        pieces = _mesh_pieces(part)
    elif part.kind == "box":
        pieces = [_SIGNS * (a, b, c)]
    elif part.kind == "capsule":
        pieces = [np.concatenate([_BALL * a + [0, 0, b], _BALL * a - [0, 0, b]])]
    elif part.kind == "cylinder":
        pieces = [np.concatenate([_RING * a * 1.04 + [0, 0, b], _RING * a * 1.04 - [0, 0, b]])]
    else:
        pieces = [_BALL * ((a, a, a) if part.kind == "sphere" else (a, b, c)) * 1.03]
    quat, pos = np.asarray(part.quat), np.asarray(part.pos)
    return tuple(turned(quat, piece) + pos for piece in pieces)


def _mesh_pieces(part: Part) -> list[Array]:
    vertices, faces = build_mesh(part.mesh)
    kind = part.mesh.kind
    if kind == "torus":  # rings of 8 vertices, 24 of them
        rings = vertices.reshape(24, 8, 3)
        return [rings[[k, k + 2, (k + 4) % 24]].reshape(-1, 3) for k in range(0, 24, 4)]
    if kind == "plate":
        walls = vertices.reshape(-1, 4, 3)
        count = len(walls)
        return [walls[[k, (k + 1) % count, (k + 2) % count]].reshape(-1, 3) for k in range(0, count, 2)]
    if kind in ("outline", "polygon"):  # triangles of the front, with the same ones of the back
        front = vertices[:, 1] < 0
        chosen = [face for face in faces if front[face].all()]
        back = np.array([1.0, -1.0, 1.0])
        step = 1 if len(chosen) <= 40 or kind == "polygon" else 2
        return [np.concatenate([vertices[face], vertices[face] * back]) for face in chosen[::step]]
    if kind == "loft" and len(vertices) > 50:  # may be bent: pieces along the spine
        rings = vertices[:-2].reshape(-1, 12, 3)
        return [_extreme(rings[k : k + 4].reshape(-1, 3)) for k in range(0, len(rings) - 1, 3)]
    return [_extreme(vertices)]


def _extreme(points: Array) -> Array:
    """The farthest points in 26 directions, which span nearly the convex hull."""
    if len(points) <= 26:
        return points
    return points[np.unique((points @ _BALL.T).argmax(0))]


def visible_fractions(layers: Sequence[Layer], count: int) -> tuple[Array, Array]:
    """(count, S) visible fraction and (count, S) area as a share of the frame, of the first ``count`` layers."""
    order = np.argsort([one.distance for one in layers], axis=0, kind="stable")
    area = np.stack([one.area for one in layers[:count]])
    visible = np.ones_like(area)
    for moment, nearest_first in enumerate(order.T.tolist()):
        covered = 0
        for index in nearest_first:
            bits = layers[index].bits[moment]
            if index < count and bits:
                visible[index, moment] = (bits & ~covered).bit_count() / bits.bit_count()
            covered |= bits
    return visible, area
