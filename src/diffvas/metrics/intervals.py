"""Intervals for comparing: the difference of two methods on the same clips, and the share of wins in a vote."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def paired_difference(
    a: Sequence[F64],
    b: Sequence[F64],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float, float]:
    """Mean of all values of ``a`` less that of ``b``, with a percentile interval that resamples clips in pairs.

    Both methods are drawn from the same clips in every resample, so what makes a clip hard for both cancels. The two
    may count different frames of a clip (as protocols do that drop misses).

    Args:
        a, b: one float array per clip or group of clips, in the same order; arrays may be empty.
        rng: the source of randomness.
        level: probability inside the interval.
        resamples: number of bootstrap draws.

    Returns:
        (difference, low, high); nan where one of the two has no values.

    Raises:
        ValueError: different numbers of clips.
    """
    if len(a) != len(b):
        raise ValueError(f"b: expected {len(a)} clips like a, got {len(b)}")
    sums = np.array([[x.sum(), y.sum()] for x, y in zip(a, b, strict=True)]).reshape(-1, 2)
    counts = np.array([[x.size, y.size] for x, y in zip(a, b, strict=True)]).reshape(-1, 2)
    kept = counts.any(axis=1)
    sums, counts = sums[kept], counts[kept]
    if not len(sums) or not counts.sum(axis=0).all():
        return float("nan"), float("nan"), float("nan")
    means = sums.sum(axis=0) / counts.sum(axis=0)
    draws = rng.integers(len(sums), size=(resamples, len(sums)))
    drawn = counts[draws].sum(axis=1)
    full = drawn.all(axis=1)  # a draw without a single value of one method says nothing of it
    drawn_means = sums[draws].sum(axis=1)[full] / drawn[full]
    low, high = np.quantile(drawn_means[:, 0] - drawn_means[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(means[0] - means[1]), float(low), float(high)


def wilson_interval(wins: float, votes: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share (95 % by default); nan without votes. Ties may count as half wins."""
    if not votes:
        return float("nan"), float("nan")
    share, extra = wins / votes, z * z / votes
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * sqrt(share * (1 - share) / votes + extra / (4 * votes))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact probability of a split at least as uneven, if both were as likely; 1.0 without votes."""
    votes, least = wins + losses, min(wins, losses)
    tail = sum(comb(votes, i) for i in range(least + 1))
    return min(1.0, 2 * tail / 2**votes)
