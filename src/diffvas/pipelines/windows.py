"""Cutting a clip of any length into windows, and putting results together again."""

from __future__ import annotations

import numpy as np


def plan_windows(visible: np.ndarray, length: int = 25, overlap: int = 8) -> list[np.ndarray]:
    """Frame numbers of each window, in order.

    Windows of ``length`` consecutive frames overlap by ``overlap``; the last one ends at the last frame. A window in
    which the object is never seen has nothing to go by: its outer frames are replaced by the nearest frames with the
    object in view, before and after.

    Args:
        visible: (T,) bool, whether the object is seen in a frame; True at least once.

    Returns:
        int arrays of ``min(length, T)`` frame numbers each, non-decreasing.
    """
    total = len(visible)
    if total <= length:
        return [np.arange(total)]
    starts = list(range(0, total - length, length - overlap)) + [total - length]
    windows = []
    for start in starts:
        frames = np.arange(start, start + length)
        if not visible[frames].any():
            seen = np.flatnonzero(visible)
            before, after = seen[seen < start][-4:], seen[seen >= start + length][:4]
            inner = np.linspace(start, start + length - 1, length - len(before) - len(after)).round().astype(int)
            frames = np.concatenate([before, inner, after])
        windows.append(frames)
    return windows


def blend_windows(total: int, windows: list[np.ndarray], results: list[np.ndarray]) -> np.ndarray:
    """Cross-fade windows into one clip.

    Args:
        total: frames of the clip. windows: from ``plan_windows``. results: (len(window), ...) float32 each.

    Returns:
        (total, ...) float32; where windows overlap, a mean weighted by the distance to each window's end. Frames that no
        window holds (dropped from a window without the object) take the nearest frame that one does.
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
