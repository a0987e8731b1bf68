"""What a generator of synthetic video hands over: one scene clip with exact amodal truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SceneClip:
    """A rendered clip and everything that is true about the objects in it.

    Object ``i`` (``0 <= i < N``) has the id ``i + 1`` in ``instance_ids``; id 0 is the background.

    Attributes:
        frames_u8: (T, H, W, 3) uint8 RGB, what the camera sees.
        depth: (T, H, W) float32 distance along the camera axis, in metres (flat scenes: in layers).
        instance_ids: (T, H, W) uint8, 0 = background, ``i + 1`` = object ``i``.
        amodal_masks: (N, T, H, W) bool, True on the whole object, hidden parts included, inside the frame.
        amodal_rgb_u8: (N, T, H, W, 3) uint8, the object rendered alone under the same light; white outside
            its amodal mask.
        name: unique within a data set, for example ``"tabletop-0000042"``.
        seed: the seed from which this clip can be made again.
    """

    frames_u8: np.ndarray
    depth: np.ndarray
    instance_ids: np.ndarray
    amodal_masks: np.ndarray
    amodal_rgb_u8: np.ndarray
    name: str
    seed: int

    def modal_mask(self, index: int) -> np.ndarray:
        """(T, H, W) bool, True where object ``index`` is visible."""
        return self.instance_ids == index + 1

    def visible_fraction(self, index: int) -> np.ndarray:
        """(T,) float32, visible area over amodal area; 1 where the object is out of the frame."""
        modal = self.modal_mask(index).sum((1, 2))
        amodal = self.amodal_masks[index].sum((1, 2))
        return np.where(amodal > 0, modal / np.maximum(amodal, 1), 1.0).astype(np.float32)
