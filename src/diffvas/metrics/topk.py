"""Top-K: what a method gets when the best of K samples is taken, per frame (the paper) and per clip.

The best per frame may jump from one sample to another inside a clip, which no video could show; the best per clip keeps
one sample throughout. Both are reported. They use the truth to choose, so they bound a method, they do not measure it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def best_per_frame(values: F64, k: int) -> F64:
    """(T,) the best of the first ``k`` samples in each frame, from (K, T) values."""
    return _first(values, k).max(axis=0)


def best_per_clip(values: F64, k: int) -> F64:
    """(T,) the values of that one of the first ``k`` samples whose mean is highest, from (K, T) values."""
    first = _first(values, k)
    return first[int(first.mean(axis=1).argmax())] if first.shape[1] else first[0]


def expected_best(values: F64, k: int) -> F64:
    """(T,) the mean, over all choices of ``k`` of the K samples, of the best one in each frame.

    It has no luck of the draw in it: of n values in ascending order, the i-th is the best of comb(i, k - 1) choices.
    """
    count = len(_first(values, k))
    total = len(values)
    assert count == k
    weights = np.array([comb(i, k - 1) for i in range(total)], np.float64) / comb(total, k)
    return np.asarray(weights @ np.sort(values, axis=0))


def _first(values: F64, k: int) -> F64:
    if values.ndim != 2 or not 1 <= k <= len(values):
        raise ValueError(f"k: expected 1 to {len(values)} of the samples in values (K, T), got {k}")
    return values[:k]


def curve(clips: Sequence[F64]) -> list[dict[str, float]]:
    """Means over all frames for K = 1, 2, ... up to the fewest samples that any clip has.

    Args:
        clips: (K_i, T_i) values of the frames that count; clips without any such frame are left out.

    Returns:
        one dict per K: k, per_frame and per_clip (of the first K samples), expected (over all choices of K).
    """
    filled = [clip for clip in clips if clip.shape[1]]
    if not filled:
        return []
    points = []
    for k in range(1, min(len(clip) for clip in filled) + 1):
        point: dict[str, float] = {"k": k}
        for name, best in (("per_frame", best_per_frame), ("per_clip", best_per_clip), ("expected", expected_best)):
            point[name] = float(np.concatenate([best(clip, k) for clip in filled]).mean())
        points.append(point)
    return points
