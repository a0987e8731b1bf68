"""Boxes around the object, windows of time: how methods with a fixed frame size see a clip of any size and length."""

from __future__ import annotations

from collections.abc import Callable

import cv2

from diffvas import arrays
from diffvas.focus import crop_each, extent, follow, paste_each
from diffvas.methods.base import Answer, ObjectInput
from diffvas.pipelines.completion import cut_coverage, in_view
from diffvas.pipelines.windows import blend_windows, plan_windows
from diffvas.types import F32, Bool

# (modal (t, h, w) bool, depth (t, h, w) float32 in [0, 1], number of the window) -> (t, h, w) float32 in [0, 1]
Network = Callable[[Bool, F32, int], F32]


def predict_in_box(clip: ObjectInput, size: tuple[int, int], frames: int, network: Network, threshold: float) -> Answer:
    """Soft masks of what is in the boxes that follow the object, put back into the frames.

    Args:
        clip: with depth. size: (height, width) that the network sees. frames: at most so many at a time.
        network: called once per window, in order.
        threshold: of the soft masks, at the clip's own size.
    """
    assert clip.depth is not None
    if not clip.modal.any():
        return Answer.nothing(clip)
    boxes = follow([extent(mask) for mask in clip.modal], clip.size, aspect=size[1] / size[0])
    modal = cut_coverage(crop_each(boxes, clip.modal, size, arrays.resize_masks_area))
    depth = arrays.normalise_depth(crop_each(boxes, clip.depth, size, arrays.resize_float))
    windows = plan_windows(in_view(modal), frames)
    results = [network(modal[at], depth[at], number) for number, at in enumerate(windows)]
    small = blend_windows(len(modal), windows, results)
    grown = (cv2.resize(s, box.size[::-1], interpolation=cv2.INTER_LINEAR) for box, s in zip(boxes, small, strict=True))
    whole = paste_each(boxes, [one.clip(0.0, 1.0) for one in grown], clip.size)
    return Answer(whole >= threshold, whole)
