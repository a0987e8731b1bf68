"""Render a scene spec to a clip with exact amodal truth.

Every object is drawn alone, colour and depth in one pass, and the frame is put together from those layers by their
depth, which is what the depth buffer does with opaque things. So an object's visible part is a subset of its whole,
and has the same colours, by construction; and what stands still under a still camera is drawn only once.
"""

from __future__ import annotations

import atexit
from typing import Any

import numpy as np

from diffvas.world.clip import SceneClip
from diffvas.world.simulate import FAR, GL_HELP, NEAR, World, build_world, camera_at, import_mujoco
from diffvas.world.spec import SceneSpec

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


class _Painter:
    """Draws chosen geoms of a world in a frame."""

    def __init__(self, spec: SceneSpec, world: World) -> None:
        mujoco = import_mujoco()
        _gl_context()
        self.mujoco, self.spec, self.world = mujoco, spec, world
        self.scene = mujoco.MjvScene(world.model, maxgeom=world.model.ngeom + 50)
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE, mujoco.mjtRndFlag.mjRND_FOG):
            self.scene.flags[flag] = 0
        self.context = mujoco.MjrContext(world.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.context)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.rect = mujoco.MjrRect(0, 0, spec.size[1], spec.size[0])
        self.option = mujoco.MjvOption()
        self.option.geomgroup[:] = (1, 0, 0, 0, 0, 0)
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.camera.fixedcamid = 0

    def close(self) -> None:
        """Give back the scene's GPU memory."""
        self.context.free()

    def pose(self, frame: int) -> None:
        """Move everything, the camera too, to where it is in a frame."""
        model, data = self.world.model, self.world.data
        data.qpos[:], data.qvel[:] = self.world.qpos[frame], 0
        data.mocap_pos[:], data.mocap_quat[:] = self.world.mocap_pos[frame], self.world.mocap_quat[frame]
        position, quat, fov = camera_at(self.spec.camera, frame, self.spec.frames)
        model.cam_pos[0], model.cam_quat[0], model.cam_fovy[0] = position, quat, fov
        self.mujoco.mj_kinematics(model, data)
        self.mujoco.mj_comPos(model, data)
        self.mujoco.mj_camlight(model, data)

    def draw(self, shown: np.ndarray, sky: bool, shadows: bool) -> tuple[np.ndarray, np.ndarray]:
        """Colours (H, W, 3) uint8 and reversed depth (H, W) float32, 0 where nothing is, of the geoms in ``shown``."""
        mujoco, model = self.mujoco, self.world.model
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = int(shadows)
        model.geom_group[:] = np.where(shown, 0, 1)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = int(sky)
        mujoco.mjv_updateScene(
            model, self.world.data, self.option, None, self.camera, mujoco.mjtCatBit.mjCAT_ALL.value, self.scene
        )
        colour = np.empty((*self.spec.size, 3), np.uint8)
        depth = np.empty(self.spec.size, np.float32)
        mujoco.mjr_render(self.rect, self.scene, self.context)
        mujoco.mjr_readPixels(colour, depth, self.rect, self.context)
        return colour[::-1], depth[::-1]


def _metres(reversed_depth: np.ndarray) -> np.ndarray:
    """Distance along the camera axis of a reversed depth in [0, 1], in whole millimetres, at most ``FAR``."""
    far = 2 * FAR
    distance = far * NEAR / (NEAR + reversed_depth.astype(np.float64) * (far - NEAR))
    # Whole millimetres lose nothing a depth network could tell, and are stored in a quarter of the space.
    return (np.round(np.minimum(distance, FAR) * 1000) / 1000).astype(np.float32)


def render_scene(spec: SceneSpec) -> SceneClip:
    """Render a scene: frames, depth, instance ids, and for every object alone its amodal mask and colours.

    The same spec gives the same bytes on the same OpenGL driver. Without shadows an object's visible pixels have
    exactly the same colours in ``frames_u8`` and in ``amodal_rgb_u8``; with ``spec.shadows`` the frame also has the
    shadows that others cast on it. The sky is at 60 m, which is also the largest depth.

    Raises:
        RuntimeError: MuJoCo or OpenGL is missing; says what to install.
        ValueError: the scene cannot be compiled.
    """
    _gl_context()
    world = build_world(spec)
    painter = _Painter(spec, world)
    try:
        return _render(spec, world, painter)
    finally:
        painter.close()


def _render(spec: SceneSpec, world: World, painter: _Painter) -> SceneClip:
    count, (height, width) = len(spec.objects), spec.size
    frames = np.empty((spec.frames, height, width, 3), np.uint8)
    nearness = np.empty((spec.frames, height, width), np.float32)
    ids = np.zeros((spec.frames, height, width), np.uint8)
    amodal = np.empty((count, spec.frames, height, width), bool)
    colours = np.full((count, spec.frames, height, width, 3), 255, np.uint8)
    actors = (*spec.objects, *spec.props)
    still = np.array([True] + [actor.still for actor in actors])[world.owner + 1]
    scenery = (world.owner < 0) | (world.owner >= count)
    backdrop: tuple[np.ndarray, np.ndarray] | None = None
    for frame in range(spec.frames):
        painter.pose(frame)
        if backdrop is None or not spec.camera.still:
            backdrop = painter.draw(scenery & still, sky=True, shadows=False)
        frames[frame], nearness[frame] = backdrop
        if (scenery & ~still).any():
            colour, depth = painter.draw(scenery & ~still, sky=False, shadows=False)
            _lay(frames[frame], nearness[frame], colour, depth)
        for index in range(count):
            colour, depth = painter.draw(world.owner == index, sky=False, shadows=spec.shadows)
            whole = depth > 0
            amodal[index, frame] = whole
            colours[index, frame][whole] = colour[whole]
            ids[frame][_lay(frames[frame], nearness[frame], colour, depth)] = index + 1
        if spec.shadows:  # layers drawn apart cast no shadows on each other
            frames[frame] = painter.draw(np.ones(len(world.owner), bool), sky=True, shadows=True)[0]
    return SceneClip(frames, _metres(nearness), ids, amodal, colours, spec.name, spec.seed)


def _lay(frame: np.ndarray, nearness: np.ndarray, colour: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Draw a layer into a frame where it is nearer, in place; returns (H, W) bool, where it was."""
    front = depth > nearness
    frame[front] = colour[front]
    nearness[front] = depth[front]
    return front
