"""How much a method's probabilities are worth: Brier score, reliability curve, risk-coverage curve.

A probability comes from K samples (the share that have the pixel) or from the method itself. Which pixels are asked is
the caller's choice, and must not depend on the prediction: far from the object every method is right and sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 10_000
"""Probabilities are counted in steps of 1 / 10,000; the Brier score is of the values before that rounding."""


def check_probabilities(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """``values`` as float64; ValueError if some are NaN or outside [0, 1]."""
    array = np.asarray(values, np.float64)
    bad = ~((array >= 0) & (array <= 1))
    if bad.any():
        nans = int(np.isnan(array).sum())
        outside = int(bad.sum()) - nans
        raise ValueError(f"{name}: expected probabilities from 0 to 1, got {nans} NaN and {outside} values outside")
    return array


def question_window(box: NDArray[np.float64], size: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels that probabilities are judged on: the true box, twice as wide and high.

    The pixels in it that are visible are left out of the judgement: they are given.

    Args:
        box: (4,) x, y, width, height of the true amodal mask, in whole pixels.
        size: (height, width) of the frame.

    Returns:
        slices within the frame; of no pixels where the box is empty.
    """
    x, y, wide, tall = (int(v) for v in box)
    rim_x, rim_y = (wide + 1) // 2, (tall + 1) // 2
    rows = slice(max(y - rim_y, 0), min(y + tall + rim_y, int(size[0])))
    return rows, slice(max(x - rim_x, 0), min(x + wide + rim_x, int(size[1])))


@dataclass
class ProbabilityScore:
    """Collects pixels and says how good their probabilities are.

    Attributes:
        totals, hits: (LEVELS + 1,) int64, pixels and true pixels by rounded probability.
        squared_error: the sum of (p - truth)^2.
    """

    totals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS + 1, np.int64))
    hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LEVELS + 1, np.int64))
    squared_error: float = 0.0

    def update(
        self, probability: NDArray[Any], truth: NDArray[np.bool_], region: NDArray[np.bool_] | None = None
    ) -> None:
        """Add pixels.

        Args:
            probability: (...) in [0, 1].
            truth: (...) bool of the same shape.
            region: (...) bool, the pixels that are asked; None = all.

        Raises:
            ValueError: NaN, values outside [0, 1], or shapes that differ.
        """
        p = check_probabilities("probability", probability)
        if p.shape != truth.shape or (region is not None and region.shape != truth.shape):
            raise ValueError(f"probability: expected shape {truth.shape} like the truth, got {p.shape}")
        p, true = (p.ravel(), truth.ravel()) if region is None else (p[region], truth[region])
        level = np.rint(p * LEVELS).astype(np.int64)
        self.totals += np.bincount(level, minlength=LEVELS + 1)
        self.hits += np.bincount(level[true], minlength=LEVELS + 1)
        self.squared_error += float(np.sum((p - true) ** 2))

    def update_levels(
        self, levels: NDArray[Any], top: int, truth: NDArray[np.bool_], region: NDArray[np.bool_]
    ) -> None:
        """The same for probabilities that are whole numbers of ``top``-ths: votes of K samples, or 8-bit pictures.

        Args:
            levels: (...) unsigned whole numbers from 0 to ``top``; the probability is levels / top.
            top: 1 or more.
            truth, region: (...) bool of the same shape.
        """
        if levels.shape != truth.shape or region.shape != truth.shape:
            raise ValueError(f"levels: expected shape {truth.shape} like the truth, got {levels.shape}")
        both = np.bincount((levels.astype(np.uint16) * 2 + truth)[region], minlength=2 * top + 2)
        if len(both) > 2 * top + 2:
            raise ValueError(f"levels: expected 0 to {top}, got {(len(both) - 1) // 2}")
        misses, hits = both[0::2], both[1::2]
        p = np.arange(top + 1) / top
        place = np.rint(p * LEVELS).astype(np.int64)
        np.add.at(self.totals, place, hits + misses)
        np.add.at(self.hits, place, hits)
        self.squared_error += float(hits @ (1 - p) ** 2 + misses @ p**2)

    def add(self, other: ProbabilityScore) -> None:
        """Add what another one has collected."""
        self.totals, self.hits = self.totals + other.totals, self.hits + other.hits
        self.squared_error += other.squared_error

    def compute(self, bins: int = 10) -> dict[str, Any]:
        """brier, ece, aurc, pixels, ``reliability`` and ``risk_coverage``; nan without pixels.

        Returns:
            brier: mean of (p - truth)^2; 0 is best, 0.25 is what 0.5 everywhere gets.
            ece: expected calibration error, |share of true pixels - mean probability| weighted by the bins' pixels.
            aurc: area under the risk-coverage curve, see :func:`risk_coverage`.
            reliability: one dict per bin with pixels: low, high, probability (mean), share (of true pixels), pixels.
            risk_coverage: about a hundred points [coverage, risk].
        """
        pixels = int(self.totals.sum())
        if not pixels:
            nan = float("nan")
            return {"brier": nan, "ece": nan, "aurc": nan, "pixels": 0, "reliability": [], "risk_coverage": []}
        curve = reliability(self.totals, self.hits, bins)
        coverage, risk, area = risk_coverage(self.totals, self.hits)
        picked = np.unique(np.searchsorted(coverage, np.linspace(0, 1, 101)).clip(max=len(coverage) - 1))
        return {
            "brier": self.squared_error / pixels,
            "ece": sum(abs(b["share"] - b["probability"]) * b["pixels"] for b in curve) / pixels,
            "aurc": area,
            "pixels": pixels,
            "reliability": curve,
            "risk_coverage": [[float(coverage[i]), float(risk[i])] for i in picked],
        }


def reliability(totals: NDArray[np.int64], hits: NDArray[np.int64], bins: int = 10) -> list[dict[str, float]]:
    """The reliability curve from counts by level: in each bin of probability, how often the pixel was the object's.

    Bins are equally wide and closed below; the last one is closed on both sides.
    """
    levels = np.arange(len(totals))
    which = np.minimum(levels * bins // (len(totals) - 1), bins - 1)
    pixels = np.bincount(which, totals, bins)
    true = np.bincount(which, hits, bins)
    mass = np.bincount(which, totals * (levels / (len(totals) - 1)), bins)
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "probability": float(mass[i] / pixels[i]),
            "share": float(true[i] / pixels[i]),
            "pixels": int(pixels[i]),
        }
        for i in range(bins)
        if pixels[i]
    ]


def risk_coverage(
    totals: NDArray[np.int64], hits: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Share of wrong pixels among the surest ones, over how many are kept (El-Yaniv and Wiener, 2010).

    A pixel's answer is p >= 0.5 and its confidence max(p, 1 - p). Pixels of equal confidence are kept or left
    together; between two such steps their errors are spread evenly, so that the order within a tie does not matter.

    Returns:
        coverage, risk: one point per confidence that occurs, surest first, the last at coverage 1.
        area: under the curve from coverage 0 to 1 (the surest pixels' own risk up to the first point). 0 is best.
    """
    levels = np.arange(len(totals))
    top = len(totals) - 1
    errors = np.where(2 * levels >= top, totals - hits, hits)
    confidence = np.maximum(levels, top - levels)
    kept = np.bincount(confidence, totals, top + 1)[::-1]
    wrong = np.bincount(confidence, errors, top + 1)[::-1]
    wrong, kept = wrong[kept > 0], kept[kept > 0]
    ends, faults = np.cumsum(kept), np.cumsum(wrong)
    # Within a tie risk(n) = (F + r (n - N)) / n, with r the tie's own error rate: its integral is closed.
    starts, before = ends - kept, faults - wrong
    rate = wrong / kept
    ahead = before - rate * starts
    logs = np.log(ends / np.where(starts > 0, starts, ends))
    area = float(np.sum(rate * kept + ahead * logs) / ends[-1])
    return ends / ends[-1], faults / ends, area
