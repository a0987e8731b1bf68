"""Render a scene spec to a clip with exact amodal truth.

Every object is drawn alone, colour and depth in one pass, and the frame is put together from those layers by their
depth, which is what the depth buffer does with opaque things. So an object's visible part is a subset of its whole,
and has the same colours, by construction; and what stands still under a still camera is drawn only once. An object that
reaches beyond the frame is drawn with a wider lens, and the frame's part is cut out of that picture.
"""

from __future__ import annotations

import atexit
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvas.world.clip import SceneClip, canvas_padding
from diffvas.world.flow import Moment, forward_flow, poses
from diffvas.world.grading import apply_look
from diffvas.world.simulate import FAR, GL_HELP, NEAR, World, build_world, camera_at, import_mujoco
from diffvas.world.spec import SceneSpec

Array = np.ndarray
TRUTH = ("rgb", "content", "flow")  # what can be left out; ids, masks, depth and poses are always there
SHUTTER = 0.5  # the share of the time between two frames in which a blurred frame's shutter is open
SKY_BOX = 45.0  # metres; the sky is drawn nowhere nearer
OPENCV = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z with y up

_context: Any = None  # one OpenGL context per process: making one costs more than a clip's physics


def _gl_context() -> Any:
    """The process's OpenGL context, current in this thread; RuntimeError naming the packages where there is none."""
    global _context
    import_mujoco()
    try:
        from mujoco.rendering.classic.gl_context import GLContext

        if _context is None:
            _context = GLContext(64, 64)  # its own buffer is not used; pictures go to the scene's off-screen buffer
            atexit.register(_context.free)
        _context.make_current()
    except Exception as error:  # every backend fails in its own way
        raise RuntimeError(GL_HELP.format(reason=error)) from error
    return _context


def gl_driver() -> str:
    """OpenGL's driver and version, and MuJoCo's: with the same ones the same scene gives the same bytes.

    Raises:
        RuntimeError: MuJoCo or OpenGL is missing; says what to install.
    """
    _gl_context()
    from OpenGL import GL  # comes with MuJoCo

    names = [GL.glGetString(name).decode() for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    return "; ".join([*names, f"MuJoCo {import_mujoco().__version__}"])


@dataclass(frozen=True)
class _Box:
    """Rows top to bottom and columns left to right, ends excluded, in pixels of the frame; may reach beyond it."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, top: int, left: int, bottom: int, right: int) -> _Box:
        return _Box(max(self.top, top), max(self.left, left), min(self.bottom, bottom), min(self.right, right))

    @property
    def empty(self) -> bool:
        return self.top >= self.bottom or self.left >= self.right

    def slices(self, top: int = 0, left: int = 0) -> tuple[slice, slice]:
        """Where the box is in a picture whose first pixel is (top, left) of the frame."""
        return slice(self.top - top, self.bottom - top), slice(self.left - left, self.right - left)


@dataclass(frozen=True)
class _Layer:
    """An object alone: colours (h, w, 3) uint8 and reversed depth (h, w) float32, 0 where it is not, inside ``box``."""

    box: _Box
    colour: Array
    depth: Array


class _Painter:
    """Draws chosen geoms of a world in a frame."""

    def __init__(self, spec: SceneSpec, world: World) -> None:
        mujoco = import_mujoco()
        _gl_context()
        self.mujoco, self.spec, self.world = mujoco, spec, world
        self.size, self.pad = spec.size, canvas_padding(spec.size)
        self.wide_size = (self.size[0] + 2 * self.pad[0], self.size[1] + 2 * self.pad[1])
        self.scene = mujoco.MjvScene(world.model, maxgeom=world.model.ngeom + 50)
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE, mujoco.mjtRndFlag.mjRND_FOG):
            self.scene.flags[flag] = 0
        try:
            self.context = mujoco.MjrContext(world.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        except mujoco.FatalError as error:  # MuJoCo was imported before us, with a backend that has no display
            raise RuntimeError(GL_HELP.format(reason=error)) from error
        mujoco.mjr_resizeOffscreen(self.wide_size[1], self.wide_size[0], self.context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.context)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = (1, 0, 0, 0, 0, 0)
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.camera.fixedcamid = 0
        self.fov = 45.0

    def close(self) -> None:
        """Give back the scene's GPU memory."""
        self.context.free()

    def pose(self, moment: float) -> None:
        """Move everything, the camera too, to where it is at a frame, or between two of them."""
        model, data, world = self.world.model, self.world.data, self.world
        frame = int(moment)
        share = moment - frame
        data.qpos[:], data.qvel[:] = world.qpos[frame], 0
        data.mocap_pos[:], data.mocap_quat[:] = world.mocap_pos[frame], world.mocap_quat[frame]
        if share:
            velocity = np.zeros(model.nv)
            self.mujoco.mj_differentiatePos(model, velocity, 1.0, world.qpos[frame], world.qpos[frame + 1])
            self.mujoco.mj_integratePos(model, data.qpos, velocity, share)
            data.mocap_pos[:] += share * (world.mocap_pos[frame + 1] - world.mocap_pos[frame])
            near = np.sign((world.mocap_quat[frame] * world.mocap_quat[frame + 1]).sum(-1, keepdims=True))
            data.mocap_quat[:] += share * (near * world.mocap_quat[frame + 1] - world.mocap_quat[frame])
        position, quat, self.fov = camera_at(self.spec.camera, moment, self.spec.frames)
        model.cam_pos[0], model.cam_quat[0] = position, quat
        self.mujoco.mj_kinematics(model, data)
        self.mujoco.mj_comPos(model, data)
        self.mujoco.mj_camlight(model, data)

    def moment(self) -> Moment:
        """Camera and poses as they are now."""
        height, width = self.size
        focal = height / 2 / np.tan(np.deg2rad(self.fov) / 2)
        data = self.world.data
        camera = poses(data.cam_xpos[0], data.cam_xmat[0].reshape(3, 3) @ OPENCV)
        bodies = poses(data.xpos, data.xmat.reshape(-1, 3, 3))
        return Moment(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), camera, bodies)

    def boxes(self) -> Array:
        """(ngeom, 4) pixels top, left, bottom, right around each geom, infinite for what comes too near the camera."""
        model, data, now = self.world.model, self.world.data, self.moment()
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
        corners = model.geom_aabb[:, None, :3] + signs * model.geom_aabb[:, None, 3:]
        corners = corners @ data.geom_xmat.reshape(-1, 3, 3).transpose(0, 2, 1) + data.geom_xpos[:, None]
        inside = (corners - now.camera[:3, 3]) @ now.camera[:3, :3]
        far = np.maximum(inside[..., 2:], NEAR)
        xy = (inside[..., :2] / far) * now.intrinsics[0, 0] + now.intrinsics[:2, 2]
        low, high = xy.min(1) - 2, xy.max(1) + 2  # two pixels to spare for rounding
        close = inside[..., 2].min(1) < 2 * NEAR
        low[close], high[close] = -np.inf, np.inf
        return np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], 1)

    def draw(
        self, shown: Array, sky: bool, shadows: bool, box: _Box | None = None, colours: bool = True
    ) -> tuple[Array, Array]:
        """Colours (h, w, 3) uint8 and reversed depth (h, w) float32, 0 where nothing is, of the geoms in ``shown``.

        ``box`` (default: the frame) may reach beyond the frame, but not beyond the canvas. Without ``colours`` those
        are undefined.
        """
        mujoco, model, height = self.mujoco, self.world.model, self.size[0]
        box = box or _Box(0, 0, *self.size)
        wide = box != box.cut(0, 0, *self.size)
        size, pad = (self.wide_size, self.pad) if wide else (self.size, (0, 0))
        model.cam_fovy[0] = self.fov
        if wide:
            model.cam_fovy[0] = np.rad2deg(2 * np.arctan(np.tan(np.deg2rad(self.fov) / 2) * size[0] / height))
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = int(shadows)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = int(sky)
        model.geom_group[:] = np.where(shown, 0, 1)
        mujoco.mjv_updateScene(
            model, self.world.data, self.option, None, self.camera, mujoco.mjtCatBit.mjCAT_ALL.value, self.scene
        )
        mujoco.mjr_render(mujoco.MjrRect(0, 0, size[1], size[0]), self.scene, self.context)
        rows, columns = box.bottom - box.top, box.right - box.left
        colour = np.empty((rows, columns, 3), np.uint8)
        depth = np.empty((rows, columns), np.float32)
        part = mujoco.MjrRect(box.left + pad[1], height + pad[0] - box.bottom, columns, rows)
        mujoco.mjr_readPixels(colour if colours else None, depth, part, self.context)
        return colour[::-1], depth[::-1]

    def geoms_seen(self, shown: Array) -> tuple[Array, Array]:
        """Of the geoms in ``shown`` the one that is seen in each pixel of the frame, (H, W) int, -1 for none of them.

        And its reversed depth (H, W) float32.
        """
        flags, modes = self.scene.flags, self.mujoco.mjtRndFlag
        flags[modes.mjRND_SEGMENT] = flags[modes.mjRND_IDCOLOR] = 1
        colour, depth = self.draw(shown, sky=False, shadows=False)
        flags[modes.mjRND_SEGMENT] = flags[modes.mjRND_IDCOLOR] = 0
        number = colour[..., 0] + colour[..., 1].astype(np.int32) * 256 + colour[..., 2].astype(np.int32) * 65536
        names = np.concatenate([[-1], np.flatnonzero(shown)])  # MuJoCo numbers what it draws in the order of the model
        assert len(names) == self.scene.ngeom + 1
        return names[number], depth


def _metres(reversed_depth: Any) -> Any:
    """Distance along the camera axis of a reversed depth in [0, 1]."""
    far = 2 * FAR
    return far * NEAR / (NEAR + np.asarray(reversed_depth, np.float64) * (far - NEAR))


def _whole_millimetres(distance: Array) -> Array:
    """At most ``FAR``: nothing is lost that a depth network could tell, and it is stored in a quarter of the space."""
    return (np.round(np.minimum(distance, FAR) * 1000) / 1000).astype(np.float32)


def render_scene(spec: SceneSpec, truth: Collection[str] = TRUTH) -> SceneClip:
    """Render a scene: frames, depth, ids, flow, camera and poses, and every object alone.

    The same spec gives the same bytes on the same OpenGL driver. Without shadows and blur an object's visible pixels
    have exactly the same colours in ``frames_u8`` and in ``amodal_rgb_u8``. With ``spec.shadows`` the frame also has
    the shadows that others cast on it, and elsewhere differs by at most 3 of 255 (each light is rounded apart). With
    ``spec.look.blur_frames`` the frames are blurred by motion; masks, depth, flow and the objects alone are those of
    the middle of the exposure. The sky is at 60 m, which is also the largest depth.

    Args:
        truth: of ``TRUTH``; what is not in it is left out (see ``SceneClip``), which is faster.

    Raises:
        RuntimeError: MuJoCo or OpenGL is missing; says what to install.
        ValueError: the scene cannot be compiled, or an unknown ``truth``.
    """
    _gl_context()
    return render_world(spec, build_world(spec), truth)


def render_world(spec: SceneSpec, world: World, truth: Collection[str] = TRUTH) -> SceneClip:
    """``render_scene`` of a scene that was compiled before."""
    if not set(truth) <= set(TRUTH):
        raise ValueError(f"truth: expected some of {TRUTH}, got {sorted(set(truth) - set(TRUTH))}")
    painter = _Painter(spec, world)
    try:
        return _Rendering(spec, world, painter, truth).clip()
    finally:
        painter.close()


class _Rendering:
    """A clip in the making."""

    def __init__(self, spec: SceneSpec, world: World, painter: _Painter, truth: Collection[str]) -> None:
        self.spec, self.world, self.painter, self.truth = spec, world, painter, truth
        count, time, size = len(spec.objects), spec.frames, spec.size
        actors = (*spec.objects, *spec.props)
        self.still = np.array([True] + [actor.still for actor in actors])[world.owner + 1]
        self.scenery = (world.owner < 0) | (world.owner >= count)
        self.frames = np.empty((time if "rgb" in truth else 0, *size, 3), np.uint8)
        self.nearness = np.empty((time, *size), np.float32)
        self.ids = np.zeros((time, *size), np.uint8)
        self.canvas = np.zeros((count, time, *painter.wide_size), bool)
        self.colours = np.full((count, time if "content" in truth else 0, *size, 3), 255, np.uint8)
        self.in_front = np.zeros((time, count, count), np.int32)
        self.flow = np.empty((time - 1, *size, 2), np.float32) if "flow" in truth else None
        self.roots = [world.model.body(f"a{index}").id for index in range(count)]
        self.moments: list[Moment] = []
        self.backdrop: tuple[Array, Array] | None = None
        self.resting: dict[int, _Layer | None] = {}

    def clip(self) -> SceneClip:
        spec, (height, width), pad = self.spec, self.spec.size, self.painter.pad
        seen: Array | None = None
        for frame in range(spec.frames):
            self.painter.pose(frame)
            self.moments.append(self.painter.moment())
            if self.flow is not None and frame:
                assert seen is not None
                self.flow[frame - 1] = forward_flow(_metres(self.nearness[frame - 1]), seen, *self.moments[-2:])
            self._frame(frame)
            seen = self._bodies_seen(frame) if self.flow is not None and frame + 1 < spec.frames else None
        if "rgb" in self.truth and (spec.shadows or spec.look.blur_frames):
            self._draw_at_once()
        return SceneClip(
            frames_u8=apply_look(self.frames, spec),
            depth=_whole_millimetres(_metres(self.nearness)),
            instance_ids=self.ids,
            amodal_masks=self.canvas[:, :, pad[0] : pad[0] + height, pad[1] : pad[1] + width].copy(),
            amodal_rgb_u8=self.colours,
            name=spec.name,
            seed=spec.seed,
            flow=self.flow,
            canvas_masks=self.canvas,
            intrinsics=np.stack([m.intrinsics for m in self.moments]),
            camera_poses=np.stack([m.camera for m in self.moments]),
            object_poses=np.stack([m.bodies[self.roots] for m in self.moments], 1),
            in_front=self.in_front,
            kinds=tuple(actor.name for actor in spec.objects),
        )

    def _frame(self, frame: int) -> None:
        """Draw the backdrop, what moves in it, and every object alone, and put them together."""
        colour_too = "rgb" in self.truth
        painter, nearness = self.painter, self.nearness[frame]
        if self.backdrop is None or not self.spec.camera.still:
            self.backdrop = self._backdrop(colour_too)
        picture = self.frames[frame] if colour_too else np.empty((0, 0, 3), np.uint8)
        nearness[:] = self.backdrop[1]
        if colour_too:
            picture[:] = self.backdrop[0]
        if (self.scenery & ~self.still).any():
            colour, depth = painter.draw(self.scenery & ~self.still, sky=False, shadows=False, colours=colour_too)
            _lay(picture, nearness, colour, depth)
        boxes = painter.boxes()
        alone = np.zeros((len(self.spec.objects), *self.spec.size), np.float32)
        for index in range(len(alone)):
            layer = self._layer(index, boxes)
            if layer is None:
                continue
            whole, pad = layer.depth > 0, painter.pad
            self.canvas[index, frame][layer.box.slices(-pad[0], -pad[1])] = whole
            box = layer.box.cut(0, 0, *self.spec.size)
            if box.empty:
                continue
            at, inner = box.slices(), box.slices(layer.box.top, layer.box.left)
            depth, whole = layer.depth[inner], whole[inner]
            alone[index][at] = depth
            colour = layer.colour[inner]
            if "content" in self.truth:
                self.colours[index, frame][at][whole] = apply_look(colour[whole], self.spec)
            front = _lay(picture[at] if colour_too else picture, nearness[at], colour, depth)
            self.ids[frame][at][front] = index + 1
        self.in_front[frame] = _order(alone)

    def _backdrop(self, colour_too: bool) -> tuple[Array, Array]:
        """What rests behind the objects; the sky, which MuJoCo draws as a box of about 60 m, has no depth."""
        shown = self.scenery & self.still
        colour, depth = self.painter.draw(shown, sky=True, shadows=False, colours=colour_too)
        if _metres(depth.min()) > SKY_BOX:
            bare = self.painter.draw(shown, sky=False, shadows=False, colours=False)[1]
            depth = np.where(depth == bare, depth, np.float32(0))
        return colour, depth

    def _layer(self, index: int, boxes: Array) -> _Layer | None:
        """An object alone, or None where it is nowhere on the canvas; drawn once where nothing of it changes."""
        rests = self.spec.camera.still and self.spec.objects[index].still
        if rests and index in self.resting:
            return self.resting[index]
        shown, (height, width), pad = self.world.owner == index, self.spec.size, self.painter.pad
        edges = np.concatenate([boxes[shown, :2].min(0), boxes[shown, 2:].max(0)])
        edges = np.clip(np.nan_to_num(edges, posinf=1e6, neginf=-1e6), -1e6, 1e6)
        box = _Box(*np.floor(edges[:2]).astype(int).tolist(), *np.ceil(edges[2:]).astype(int).tolist())
        box = box.cut(-pad[0], -pad[1], height + pad[0], width + pad[1])
        layer = None
        if not box.empty:
            colours = bool({"rgb", "content"} & set(self.truth))
            layer = _Layer(box, *self.painter.draw(shown, False, self.spec.shadows, box, colours))
        if rests:
            self.resting[index] = layer
        return layer

    def _bodies_seen(self, frame: int) -> Array:
        """(H, W) int, the body in each pixel, -1 for the sky; 0, the world, stands for all that rests.

        Where surfaces touch, one picture may show the one and another picture the other: the layers are right, and the
        object's root stands for its part.
        """
        nearness, ids, count = self.nearness[frame], self.ids[frame].astype(int), len(self.spec.objects)
        bodies = np.where(nearness == 0, -1, 0)
        if self.still.all():
            return bodies
        geoms, depth = self.painter.geoms_seen(~self.still)
        owners = np.where(geoms < 0, -1, self.world.owner[geoms])
        bodies = np.where(ids > 0, np.array([0, *self.roots])[ids], bodies)
        own = (ids > 0) & (owners == ids - 1)
        scenery = (ids == 0) & (owners >= count) & (depth >= nearness * (1 - 1e-6))  # not behind what rests
        return np.where(own | scenery, self.world.model.geom_bodyid[geoms], bodies)

    def _draw_at_once(self) -> None:
        """Frames with everything in one picture: layers drawn apart cast no shadows on each other and do not blur."""
        everything, blur = np.ones(len(self.world.owner), bool), max(1, self.spec.look.blur_frames)
        offsets = ((np.arange(blur) + 0.5) / blur - 0.5) * SHUTTER
        for frame in range(self.spec.frames):
            total = np.zeros((*self.spec.size, 3), np.float32)
            for offset in offsets:
                self.painter.pose(float(np.clip(frame + offset, 0, self.spec.frames - 1)))
                total += self.painter.draw(everything, sky=True, shadows=self.spec.shadows)[0]
            self.frames[frame] = np.round(total / blur)


def _lay(frame: Array, nearness: Array, colour: Array, depth: Array) -> Array:
    """Draw a layer into a frame where it is nearer, in place; returns (h, w) bool, where it was.

    An empty ``frame`` is left alone.
    """
    front = depth > nearness
    if frame.size:
        frame[front] = colour[front]
    nearness[front] = depth[front]
    return front


def _order(alone: Array) -> Array:
    """(N, N) int: in how many pixels object i is in front of object j, from their reversed depths (N, H, W)."""
    count = len(alone)
    order = np.zeros((count, count), np.int32)
    for i in range(count):
        for j in range(i):
            both = (alone[i] > 0) & (alone[j] > 0)
            if both.any():  # of two surfaces at the same depth the later object is behind, as in the frame
                order[i, j] = (both & (alone[i] > alone[j])).sum()
                order[j, i] = both.sum() - order[i, j]
    return order
