"""Pictures that are busier than a renderer's: leaves upon leaves behind the objects of a scene.

Rendered backgrounds are smooth, and a network that has seen nothing else takes whatever is busy for a thing in front.
The dead-leaves model (Matheron 1968; as training pictures: Baradad et al. 2021) has the statistics of natural pictures:
shapes of all sizes, their number falling with the cube of their size, that hide each other.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from diffvas.types import U8
from diffvas.world.clip import SceneClip

Array = np.ndarray
SHIFT = 3  # bits of a pixel's fraction in OpenCV's outlines
MARGIN = 96  # pixels that a background may move within a clip
SHADE = 0.6  # how much of the scene's own light and shadow stays on a new background


def leaves(rng: np.random.Generator, size: tuple[int, int]) -> U8:
    """(h, w, 3) uint8: shapes of all sizes upon each other, in a few colours, some of them blurred in the end."""
    height, width = size
    base = rng.uniform(0, 255, (int(rng.integers(2, 6)), 3))
    base = base.mean(1, keepdims=True) + rng.uniform(0.1, 1) * (base - base.mean(1, keepdims=True))
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = base[0]
    least, most = rng.uniform(1.5, 5), max(size) * rng.uniform(0.1, 0.4)
    count = int(rng.integers(150, 1200) * max(1.0, height * width / 256**2))
    radius = 1 / np.sqrt(1 / least**2 - rng.random(count) * (1 / least**2 - 1 / most**2))
    centres = rng.random((count, 2)) * [width, height]
    slim, turns = rng.uniform(0.08, 1, count) ** rng.uniform(0.5, 2), rng.uniform(0, 180, count)
    colours = base[rng.integers(0, len(base), count)] + rng.normal(0, rng.uniform(5, 40), (count, 1))
    colours += rng.normal(0, rng.uniform(2, 15), (count, 3))
    square = rng.random() < 0.3
    for at, r, share, turn, colour in zip(centres, radius, slim, turns, colours.clip(0, 255), strict=True):
        if square:
            corners = cv2.boxPoints((at.tolist(), (2 * r, 2 * r * share), turn))
            cv2.fillConvexPoly(picture, np.round(corners * (1 << SHIFT)).astype(np.int32), colour.tolist(), shift=SHIFT)
        else:
            middle, axes = np.round(at * (1 << SHIFT)).astype(int), np.round(r * np.array([1, share]) * (1 << SHIFT))
            cv2.ellipse(
                picture, middle.tolist(), axes.astype(int).tolist(), turn, 0, 360, colour.tolist(), -1, shift=SHIFT
            )
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 2.5)))
    return picture


def clutter(scene: SceneClip, rng: np.random.Generator) -> SceneClip:
    """The scene with another background, which moves and is lit as the old one was; the truth stays."""
    if not len(scene.frames_u8):
        return scene
    frames, size = scene.frames_u8, scene.frames_u8.shape[1:3]
    behind = scene.instance_ids == 0
    picture = leaves(rng, (size[0] + 2 * MARGIN, size[1] + 2 * MARGIN))
    path = _path(frames, behind)
    share, out = float(rng.uniform(0.6, 1)), frames.copy()
    for t, frame in enumerate(frames):
        shift = np.array([[1, 0, path[t, 0] - MARGIN], [0, 1, path[t, 1] - MARGIN]], np.float32)
        moved = cv2.warpAffine(picture, shift, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        light = cv2.GaussianBlur(frame, (0, 0), 2).mean(-1, dtype=np.float32) + 16
        light = 1 - SHADE + SHADE * light / light.mean()
        made = share * moved * light[..., None] + (1 - share) * frame
        out[t][behind[t]] = made.clip(0, 255).astype(np.uint8)[behind[t]]
    return replace(scene, frames_u8=out)


def _path(frames: Array, behind: Array) -> Array:
    """(T, 2) float: how far the background has moved since the first frame, (x, y) in pixels, within ``MARGIN``."""
    seeker = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    path = np.zeros((len(frames), 2))
    for t in range(1, len(frames)):
        both = behind[t] & behind[t - 1]
        step = np.median(seeker.calc(grey[t - 1], grey[t], None)[both], 0) if both.any() else np.zeros(2)
        path[t] = path[t - 1] + step
    return path.clip(-MARGIN, MARGIN)
