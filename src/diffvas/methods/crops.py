"""A box around the object, windows of time: how methods with a fixed frame size see a clip of any size and length."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from diffvas import arrays
from diffvas.focus import fit_aspect, focus_box
from diffvas.methods.base import Answer, ObjectInput
from diffvas.pipelines.completion import in_view, shrink_masks
from diffvas.pipelines.windows import blend_windows, plan_windows
from diffvas.types import F32, Bool

# (modal (t, h, w) bool, depth (t, h, w) float32 in [0, 1], number of the window) -> (t, h, w) float32 in [0, 1]
Network = Callable[[Bool, F32, int], F32]


def predict_in_box(clip: ObjectInput, size: tuple[int, int], frames: int, network: Network, threshold: float) -> Answer:
    """Soft masks of what is in the focus box, put back into the frame.

    Args:
        clip: with depth. size: (height, width) that the network sees. frames: at most so many at a time.
        network: called once per window, in order.
        threshold: of the soft masks, at the clip's own size.
    """
    assert clip.depth is not None
    if not clip.modal.any():
        return Answer.nothing(clip)
    box = fit_aspect(focus_box(clip.modal), size[1] / size[0], clip.size)
    modal = shrink_masks(np.ascontiguousarray(box.crop(clip.modal)), size)
    near = arrays.resize_float(np.ascontiguousarray(box.crop(clip.depth)), size)
    depth = arrays.normalise_depth(near)
    windows = plan_windows(in_view(modal), frames)
    results = [network(modal[at], depth[at], number) for number, at in enumerate(windows)]
    small = blend_windows(len(modal), windows, results)
    height, width = box.size
    soft = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in small])
    whole = box.paste(np.clip(soft, 0.0, 1.0), clip.size)
    return Answer(whole >= threshold, whole)
