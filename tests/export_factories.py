"""Completions to export: an ordinary one and the edges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from diffvas.types import Clip, Completion, ObjectCompletion


def make_completion(
    ids: tuple[int, ...] = (1, 4),
    size: tuple[int, int] = (51, 67),
    frames: int = 3,
    *,
    probability: bool = True,
    content: bool = True,
    hidden: bool = True,
) -> Completion:
    """Overlapping objects of smooth colours on noise, gone in the last frame where there are several frames."""
    height, width = size
    rng = np.random.default_rng(0)
    clip = Clip(rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8), fps=12.0, name="rocks & sons")
    y, x = np.mgrid[:height, :width]
    objects = []
    for i, object_id in enumerate(ids):
        top, left = (7 * i) % height, (11 * i) % width
        amodal = np.zeros((frames, *size), bool)
        amodal[: max(1, frames - 1)] = (y >= top) & (y < top + 18) & (x >= left) & (x < left + 31)
        modal = amodal & (x < left + 20) if hidden else amodal.copy()
        colour = np.stack([(3 * x + 40 * i) % 200, 255 - 2 * y % 200, np.full_like(x, (90 + i) % 256)], -1)
        rgba = np.zeros((*amodal.shape, 4), np.uint8)
        rgba[amodal] = np.broadcast_to(np.dstack([colour, np.full_like(x, 255)]), rgba.shape)[amodal]
        rgba[modal, :3] = clip.frames_u8[modal]
        share = np.where(amodal, np.float32(0.6), np.float32(0.2)) if probability else None
        objects.append(ObjectCompletion(object_id, modal, amodal, share, rgba if content else None))
    return Completion(clip, tuple(objects), {"model": "tiny", "seed": 5})


EDGES: dict[str, Callable[[], Completion]] = {
    "ordinary": make_completion,
    "one frame": partial(make_completion, frames=1),
    "one pixel": partial(make_completion, ids=(1,), size=(1, 1), frames=1),
    "one row": partial(make_completion, ids=(1,), size=(1, 40)),
    "nothing hidden": partial(make_completion, hidden=False, probability=False),
    "many objects": partial(make_completion, ids=tuple(range(1, 13)), size=(20, 30), frames=2),
    "only masks": partial(make_completion, content=False),
    "even": partial(make_completion, size=(48, 64)),
}
