"""What stands in front of an object, told from colour alone: for clips without depth.

A small network looks at the frame and at four others, at where the object is visible in them, at where it passes in any
other (``swept.py``), and at what other frames say of its shape. It sees more of the frames than the other networks do,
a rim around their boxes: what hides something often stands on the ground a good way below it. It gives the probability
that something at least as near as the object is seen at a pixel, which is what ``order.may_be_hidden`` reads off a
depth map. Everything that depth is used for is then done with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box
from diffvas.pipelines.swept import swept
from diffvas.types import F32, U8, Bool

AWAY = (4, 10)  # frames before and after that are looked at too
STEP_AWAY = 2  # frames to where motion is sought
FASTEST = 16.0  # pixels in that time, what is faster counts as this
INPUTS = 4 * (1 + 2 * len(AWAY)) + 2 + 4 + 1
SIDEWAYS = (22, 24)  # channels that change their sign where the picture is mirrored
RIM = 0.25  # of a box's sides, what is seen of the frame around it
STEP = 8  # pixels, whole steps of a network of three levels on pixels folded in twos


def wide_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of what the network sees where the others see (h, w): with the rim, which is whole steps of its levels."""
    rows, columns = (STEP * math.ceil(RIM * side / STEP) for side in size)
    return size[0] + 2 * rows, size[1] + 2 * columns


def middle(wide: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(N, h, w, ...): what the other networks see of (N, H, W, ...)."""
    rows, columns = (wide.shape[1] - size[0]) // 2, (wide.shape[2] - size[1]) // 2
    return wide[:, rows : rows + size[0], columns : columns + size[1]]


def surround(own: NDArray[Any], size: tuple[int, int], value: float = 0) -> NDArray[Any]:
    """(N, H, W) of ``size``: what the other networks see (N, h, w), and one value in the rim."""
    rows, columns = ((wide - side) // 2 for wide, side in zip(size, own.shape[1:3], strict=True))
    return np.pad(own, ((0, 0), (rows, rows), (columns, columns)), constant_values=value)


def front_input(
    rgb: U8, modal: Bool, recalled: F32, inside: Bool, passed: F32, at: NDArray[np.integer] | None = None
) -> torch.Tensor:
    """(N, 27, H, W) float32 in [-1, 1]: what the network sees of each frame.

    Args:
        rgb: (T, H, W, 3) uint8, in boxes that follow the object, with their rims (:func:`wide_size`).
        modal: (T, h, w) bool, what is visible; all of it is within the boxes.
        recalled: (T, h, w) float32 in [0, 1], what other frames say of the shape (``shape_memory.in_grey``) with
            nothing known of what is in front. inside: (T, H, W) bool, what is in the frame.
        passed: (T, H, W) float32 in [0, 1], where other frames show the object (``swept.py``).
        at: (N,) frame numbers; None = all.
    """
    size = (rgb.shape[1], rgb.shape[2])
    modal, recalled = surround(modal, size), surround(recalled, size)
    here = np.arange(len(rgb)) if at is None else at
    aways = [0, *(sign * away for away in AWAY for sign in (-1, 1))]
    looks = [np.clip(here + away, 0, len(rgb) - 1) for away in aways]
    parts = [np.concatenate([rgb[t].transpose(0, 3, 1, 2) / np.float32(255), modal[t, None]], 1) for t in looks]
    parts.insert(3, np.stack([recalled[here], inside[here]], 1))
    pictures = 2 * np.concatenate(parts, 1, dtype=np.float32) - 1
    return torch.from_numpy(np.concatenate([pictures, motion(rgb, modal, here), 2 * passed[here, None] - 1], 1))


def motion(rgb: U8, modal: Bool, at: NDArray[np.integer]) -> F32:
    """(N, 4, H, W) float32 in [-1, 1]: how all moves against the object, (x, y) to a frame before and to one after.

    What is nearer moves faster where the camera moves, and what passes in front moves otherwise than the object does.
    Optical flow: Kroeger et al. 2016.

    Args:
        rgb: (T, H, W, 3) uint8. modal: (T, H, W) bool. at: (N,) frame numbers.
    """
    seeker = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = {int(t): cv2.cvtColor(rgb[t], cv2.COLOR_RGB2GRAY) for t in _near(at, len(rgb))}
    out = np.zeros((len(at), 4, *rgb.shape[1:3]), np.float32)
    for row, t in enumerate(at.tolist()):
        for first, then in ((0, t - STEP_AWAY), (2, t + STEP_AWAY)):
            if not 0 <= then < len(rgb):
                continue
            flow = seeker.calc(grey[t], grey[then], None)
            own = np.median(flow[modal[t]], 0) if modal[t].any() else np.zeros(2, np.float32)
            out[row, first : first + 2] = ((flow - own) / FASTEST).clip(-1, 1).transpose(2, 0, 1)
    return out


def _near(at: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    near = np.concatenate([at - STEP_AWAY, at, at + STEP_AWAY])
    return np.unique(near[(near >= 0) & (near < count)])


def look_passed(rgb: U8, modal: Bool, inside: Bool, boxes: Sequence[Box]) -> F32:
    """(T, H, W) float32 in [0, 1]: :func:`swept.swept` of an object in boxes with rims.

    Args:
        rgb, modal, inside: see ``front_input``. boxes: (T,), with their rims.
    """
    return swept(rgb, surround(modal, (rgb.shape[1], rgb.shape[2])), inside, boxes)


def in_front(net: PixelNet, rgb: U8, modal: Bool, recalled: F32, inside: Bool, boxes: Sequence[Box]) -> F32:
    """(T, h, w) float32 in [0, 1], how likely something at least as near as the object is seen, in the boxes without
    their rims; see ``front_input`` and ``look_passed``."""
    passed = look_passed(rgb, modal, inside, boxes)
    wide = net.likely_both_ways(front_input(rgb, modal, recalled, inside, passed), 0, SIDEWAYS)
    return np.ascontiguousarray(middle(wide, (modal.shape[1], modal.shape[2])))


def pseudo_depth(front: F32, modal: Bool) -> F32:
    """(T, h, w) float32 in [0, 1], 1 = near: three layers, the object in the middle, as the networks know depth."""
    return np.asarray(np.where(modal, 0.5, front), np.float32)
