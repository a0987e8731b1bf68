"""Which frames the networks see, and how their results are carried back to all frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.focus import Box
from diffvas.types import F32, U8, Bool

PAPER_FPS = 8.0  # at which the paper samples its training clips
FLOW_SIDE = 320  # pixels of the longer side at which motion is estimated


def check_model_fps(value: float | str) -> None:
    """Raise ValueError unless it is "auto", "all" or a finite number above 0."""
    if value in ("auto", "all"):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"model_fps: expected auto, all or a number above 0, got {value!r}")


def shots_of(cuts: Sequence[int], total: int) -> list[tuple[int, int]]:
    """(start, stop) of each shot, from the frames with which a new one begins.

    Raises:
        ValueError: cuts that do not ascend, or lie outside of the clip.
    """
    edges = [0, *cuts, total]
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"cuts: expected ascending frame numbers from 1 to {total - 1}, got {list(cuts)}")
    return list(pairwise(edges))


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames that the networks see.

    Attributes:
        at: (M,) numbers of these frames, ascending; each shot's first and last frame are among them.
        shots: (start, stop) of each shot, as positions in ``at``. times: seconds of every frame of the clip.
    """

    at: NDArray[np.int64]
    shots: list[tuple[int, int]]
    times: Sequence[float]

    @property
    def every_frame(self) -> bool:
        return len(self.at) == len(self.times)

    def share(self, position: int, frame: int) -> float:
        """How far a frame is on the way from the model's frame at ``position`` to the next one, 0 to 1."""
        a, b = self.times[self.at[position]], self.times[self.at[position + 1]]
        return (self.times[frame] - a) / (b - a) if b > a else 0.5


def plan_timeline(times: Sequence[float], cuts: Sequence[int], model_fps: float | str, length: int) -> Timeline:
    """Choose the frames that the networks see, evenly in time, shot by shot.

    Args:
        times: seconds of each frame. cuts: frames with which a new shot begins. length: frames of a window.
        model_fps: frames per second that the networks see; "all" of them; or "auto": all where a shot fits one window,
            otherwise as few as fit it into one, but no fewer than ``PAPER_FPS``.
    """
    check_model_fps(model_fps)
    at: list[int] = []
    shots = []
    for start, stop in shots_of(cuts, len(times)):
        begin = len(at)
        at += (start + _pick(np.asarray(times[start:stop]), model_fps, length)).tolist()
        shots.append((begin, len(at)))
    return Timeline(np.asarray(at, np.int64), shots, times)


def _pick(times: NDArray[np.float64], model_fps: float | str, length: int) -> NDArray[np.int64]:
    """Indices of a shot's frames, the first and the last among them."""
    count = len(times)
    span = float(times[-1] - times[0])
    if model_fps == "all" or count < 3 or span <= 0 or (model_fps == "auto" and count <= length):
        return np.arange(count)
    mean = span / (count - 1)
    rate = PAPER_FPS if model_fps == "auto" else float(model_fps)
    step = max(1, round(1 / (rate * mean)))
    if model_fps == "auto":
        step = min(step, max(1, math.ceil((count - 1) / max(1, length - 1))))
    if step == 1 and np.allclose(np.diff(times), mean, rtol=0.5):
        return np.arange(count)
    # by time, not by number: frame rates vary
    wanted = times[0] + np.arange(0, span + 0.5 * mean, step * mean)
    right = np.searchsorted(times, wanted).clip(1, count - 1)
    nearest = np.where(wanted - times[right - 1] <= times[right] - wanted, right - 1, right)
    return np.unique(np.concatenate([nearest, [0, count - 1]]))


class Motion:
    """How objects move from frame to frame, by the median optical flow of their visible pixels."""

    def __init__(self, size: tuple[int, int], ids: Sequence[int]) -> None:
        """For frames of (height, width)."""
        shrink = max(1.0, max(size) / FLOW_SIDE)
        self._size = (max(16, round(size[1] / shrink)), max(16, round(size[0] / shrink)))  # cv2's order
        self._scale = (size[1] / self._size[0], size[0] / self._size[1])
        flow: Any = cv2  # its stubs lack the class
        self._flow = flow.DISOpticalFlow_create(flow.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._before: U8 | None = None
        self._steps: dict[int, list[tuple[float, float]]] = {number: [] for number in ids}

    def add(self, frame: U8, masks: Sequence[Bool]) -> None:
        """The next frame (H, W, 3) and the objects' visible masks (H, W), in the order of the ids."""
        grey = cv2.cvtColor(cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        # from this frame to the one before, because it is this frame's pixels that are known to be visible
        back = None if self._before is None else self._flow.calc(grey, self._before, None)
        for steps, mask in zip(self._steps.values(), masks, strict=True):
            step = (0.0, 0.0)
            if back is not None and mask.any():
                small = cv2.resize(mask.astype(np.uint8), self._size, interpolation=cv2.INTER_AREA) > 0
                dx, dy = -np.median(back[small], axis=0) if small.any() else (0.0, 0.0)
                step = (float(dx) * self._scale[0], float(dy) * self._scale[1])
            steps.append(step)
        self._before = grey

    def paths(self) -> dict[int, F32]:
        """By object (T, 2) float32: where it has moved since the first frame, (x, y) in pixels."""
        return {i: np.cumsum(np.asarray(s, np.float64), axis=0).astype(np.float32) for i, s in self._steps.items()}


def move(image: F32, by: NDArray[np.floating], seen: Box, wanted: Box) -> F32:
    """(h, w[, C]), what a box shows of a thing, as another box shows it after the thing has moved by (x, y) pixels."""
    size = (image.shape[1], image.shape[0])
    # pixels of the new image to pixels of the old one; both in units in which pixel centres are at halves
    scale = np.array([wanted.size[1] / seen.size[1], wanted.size[0] / seen.size[0]])
    corner = np.array([wanted.left - seen.left, wanted.top - seen.top], np.float64) - np.asarray(by, np.float64)
    offset = corner * np.array(size) / np.array(seen.size[::-1]) + 0.5 * scale - 0.5
    if np.allclose(scale, 1) and np.allclose(offset, 0):
        return image
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)
