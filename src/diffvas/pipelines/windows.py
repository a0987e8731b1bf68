"""Cutting a clip of any length into windows, and putting results together again."""

from __future__ import annotations

import numpy as np


def plan_windows(visible: np.ndarray, length: int = 25, overlap: int | None = None) -> list[np.ndarray]:
    """Frame numbers of each window, in order.

    Windows of ``length`` consecutive frames overlap by ``overlap``; the last one ends at the last frame. A window in
    which the object is never seen has nothing to go by: its outer frames are replaced by the nearest frames with the
    object in view, before and after, up to a sixth of the window on each side.

    Args:
        visible: (T,) bool, whether the object is seen in a frame.
        length: frames of a window, 1 or more.
        overlap: 0 to ``length - 1``; a third of the window where None, which is 8 of 25.

    Returns:
        int arrays of ``min(length, T)`` frame numbers each, increasing. How many there are depends on T alone.

    Raises:
        ValueError: a ``length`` below 1, or an ``overlap`` that leaves no way forward.
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1 frame, got {length}")
    overlap = length // 3 if overlap is None else overlap
    if not 0 <= overlap < length:
        raise ValueError(f"overlap: expected 0 to {length - 1} frames, got {overlap}")
    total = len(visible)
    if total <= length:
        return [np.arange(total)]
    starts = [*range(0, total - length, length - overlap), total - length]
    seen = np.flatnonzero(visible)
    context = min(max(1, length // 6), (length - 1) // 2)
    windows = []
    for start in starts:
        frames = np.arange(start, start + length)
        if context and not visible[frames].any():
            before, after = seen[seen < start][-context:], seen[seen >= start + length][:context]
            inner = np.linspace(start, start + length - 1, length - len(before) - len(after)).round().astype(int)
            frames = np.concatenate([before, inner, after])
        windows.append(frames)
    return windows


def blend_windows(total: int, windows: list[np.ndarray], results: list[np.ndarray]) -> np.ndarray:
    """Cross-fade windows into one clip.

    Args:
        total: frames of the clip. windows: from ``plan_windows``. results: (len(window), ...) float32 each.

    Returns:
        (total, ...) float32; where windows overlap, a mean weighted by the distance to each window's end. Frames that
        no window holds (dropped from a window without the object) take the nearest frame that one does.
    """
    value = np.zeros((total, *results[0].shape[1:]), np.float32)
    weight = np.zeros(total, np.float32)
    for frames, result in zip(windows, results, strict=True):
        n = len(frames)
        ramp = np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32) + 1
        for k, frame in enumerate(frames):
            value[frame] += ramp[k] * result[k]
            weight[frame] += ramp[k]
    held = np.flatnonzero(weight)
    value[held] /= weight[held].reshape(-1, *[1] * (value.ndim - 1))
    for frame in np.flatnonzero(weight == 0):
        value[frame] = value[held[np.argmin(np.abs(held - frame))]]
    return value
