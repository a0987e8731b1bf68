"""What depth says about where an object can be hidden: only behind something nearer than itself."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas import arrays

# of the clip's depth range: what is this little behind the object's depth may still be in front of parts of it
TOLERANCE = 0.02
LARGEST = 256  # pixels of the longer side at which an object's own depth, which is smooth, is worked out


def object_depth(depth: NDArray[np.float32], modal: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The object's own depth everywhere, carried on from its visible pixels.

    Args:
        depth: (T, H, W) float32, relative inverse depth, 1 = near. modal: (T, H, W) bool, True somewhere.

    Returns:
        (T, H, W) float32: near visible pixels their depth, smoothed; far from them the frame's median; in frames
        without any, the median of the frames around, interpolated in time.
    """
    frames, height, width = modal.shape
    inner = np.stack([cv2.erode(m.astype(np.uint8), np.ones((3, 3), np.uint8)) for m in modal]).astype(bool)
    inner = np.where(inner.any((1, 2), keepdims=True), inner, modal)  # borders of depth maps bleed into one another
    seen = np.flatnonzero(inner.any((1, 2)))
    medians = np.array([np.median(depth[t][inner[t]]) for t in seen])
    middle = np.interp(np.arange(frames), seen, medians)
    out = np.empty(depth.shape, np.float32)
    spread = 0.1 * max(height, width)
    for t in range(frames):
        on = inner[t].astype(np.float32)
        mass = cv2.GaussianBlur(on, (0, 0), spread)
        near = cv2.GaussianBlur(depth[t] * on, (0, 0), spread)
        out[t] = (near + 0.02 * middle[t]) / (mass + 0.02)
    return out


def may_be_hidden(depth: NDArray[np.floating], modal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(T, H, W) bool, True where something at least as near as the object is seen, which may stand in front of it.

    Args:
        depth: (T, H, W) float, larger = nearer, any unit. modal: (T, H, W) bool, True somewhere.
    """
    relative = arrays.normalise_depth(depth)
    height, width = modal.shape[1:]
    shrink = max(height, width) / LARGEST
    if shrink <= 1:
        return np.asarray(relative >= object_depth(relative, modal) - TOLERANCE)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    coverage = arrays.resize_masks_area(modal, size)
    small = coverage >= 0.5 if (coverage >= 0.5).any() else coverage > 0
    own = arrays.resize_float(object_depth(arrays.resize_float(relative, size), small), (height, width))
    return np.asarray(relative >= own - TOLERANCE)
