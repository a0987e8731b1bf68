"""Convex and ConvexR: the convex hull of what is visible, and the hull only where something stands in front.

Source: the rows of these names in the paper's tables, and the public code of deocclusion (Zhan et al., CVPR 2020),
whose order by hulls is ``order="hull"``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.methods.base import Answer, ObjectInput, Rule, check_parts
from diffvas.metrics.hull import convex_hull_mask, convex_hull_masks
from diffvas.types import F32, Bool

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
BAND = np.ones((7, 7), np.uint8)  # how far from the other object depth is compared: 3 pixels


class Convex(Rule):
    """One convex hull per frame over all visible pixels; it has no memory, so fully hidden frames stay empty."""

    name = "convex"

    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """The hulls; see ``Method``."""
        return Answer(convex_hull_masks(clip.modal))


@dataclass(frozen=True)
class ConvexROptions:
    """``order``: how it is found out which of two touching objects is in front; see ``ORDERS``."""

    order: str = "hull"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got '{self.order}'")


class ConvexR(Rule):
    """The hull's pixels inside the visible mask, or those of an object that directly or by way of others hides it."""

    name = "convexr"
    kind = ConvexROptions
    needs = frozenset({"others"})
    uses = frozenset({"others", "depth"})

    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """The cut hulls; see ``Method``.

        Raises:
            ValueError: no other objects' masks, or no depth where the order comes from depth.
        """
        check_parts(self, clip)
        if self.options.order == "depth" and clip.depth is None:
            raise ValueError(f"clip: expected depth for convexr by order depth, got '{clip.name}' without")
        assert clip.others is not None
        masks = np.zeros(clip.modal.shape, bool)
        for t, modal in enumerate(clip.modal):
            if not modal.any():
                continue
            ids = [int(i) for i in np.unique(clip.others[t]) if i]
            seen = np.stack([modal, *(clip.others[t] == i for i in ids)])
            in_front = frame_order(seen, None if clip.depth is None else clip.depth[t], self.options.order)
            front = hiders(in_front, 0)
            masks[t] = convex_hull_mask(modal) & (modal | seen[front].any(0))
        return Answer(masks)


def frame_order(seen: Bool, depth: F32 | None, order: str) -> NDArray[np.bool_]:
    """(N, N) bool: [i, j] where object i is in front of object j and they touch.

    Args:
        seen: (N, H, W) bool, the visible masks of one frame. depth: (H, W) float32, 1 = near. order: of ``ORDERS``.
    """
    count = len(seen)
    in_front = np.zeros((count, count), bool)
    grown = [cv2.dilate(mask.astype(np.uint8), CROSS) > 0 for mask in seen]
    for i in range(count):
        for j in range(i + 1, count):
            if (grown[i] & seen[j]).any():
                lead = ORDERS[order](seen[i], seen[j], depth)
                in_front[i, j], in_front[j, i] = lead > 0, lead < 0
    return in_front


def hiders(in_front: NDArray[np.bool_], index: int) -> list[int]:
    """The objects in front of ``index``, and those in front of these, and so on."""
    found: list[int] = []
    waiting = [index]
    while waiting:
        for i in np.flatnonzero(in_front[:, waiting.pop()]).tolist():
            if i != index and i not in found:
                found.append(i)
                waiting.append(i)
    return sorted(found)


def by_hull(a: Bool, b: Bool, depth: F32 | None = None) -> float:
    """Above 0 where ``a`` is in front of ``b``: more of ``a`` lies in what ``b``'s hull adds than the other way round,
    for what is hidden has a dent. All masks (H, W) bool."""
    return float((convex_hull_mask(b) & ~b & a).sum()) - float((convex_hull_mask(a) & ~a & b).sum())


def by_depth(a: Bool, b: Bool, depth: F32 | None) -> float:
    """Above 0 where ``a`` is nearer than ``b`` along their common border: medians of what is within 3 pixels."""
    assert depth is not None
    near_b = a & (cv2.dilate(b.astype(np.uint8), BAND) > 0)
    near_a = b & (cv2.dilate(a.astype(np.uint8), BAND) > 0)
    return float(np.median(depth[near_b])) - float(np.median(depth[near_a]))


# an order learned from data, such as PCNet-M's, is one more line here
ORDERS: dict[str, Callable[[Bool, Bool, F32 | None], float]] = {"hull": by_hull, "depth": by_depth}
