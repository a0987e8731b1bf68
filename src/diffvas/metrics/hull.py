"""The convex hull baseline: the amodal mask a person would draw with a rubber band.

Source: the `Convex` row of the paper's tables; one hull per frame over all visible pixels of the object.
"""

from __future__ import annotations

import cv2
import numpy as np

from diffvas.metrics.mask import check_masks


def convex_hull_mask(mask: np.ndarray) -> np.ndarray:
    """Fill the convex hull of one mask.

    Args:
        mask: (H, W) bool, True where the object is visible.

    Returns:
        (H, W) bool, a superset of `mask` with the same bounding box. The hull is that of the pixel centres, so one
        pixel stays one pixel and a straight row of pixels stays that row; a pixel that a slanted edge crosses is in.
        An empty mask stays empty.
    """
    points = cv2.findNonZero(mask.astype(np.uint8))
    if points is None:
        return np.zeros(mask.shape, dtype=bool)
    canvas = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(canvas, cv2.convexHull(points), 1)
    return canvas.astype(bool)


def convex_hull_masks(masks: np.ndarray) -> np.ndarray:
    """Convex hull of every frame's mask, each frame on its own.

    Args:
        masks: (T, H, W) bool, True where the object is visible.

    Returns:
        (T, H, W) bool, in each frame a superset of the mask. A frame without any visible pixel stays empty: the
        baseline has no memory, so it misses fully hidden frames.

    Raises:
        ValueError: `masks` is not a (T, H, W) bool array.
    """
    check_masks("masks", masks)
    return np.stack([convex_hull_mask(mask) for mask in masks])
