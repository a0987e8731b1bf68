"""Whether masks hold still: temporal consistency and boundary jitter, after the object's own motion is taken out.

Motion is compensated by the whole-pixel shift of the true mask's centre between two frames, for the prediction and the
truth alike. A method cannot win by moving with its own errors, and the truth's own value says how much of a change is
the object changing its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from diffvas.metrics import rle as runs
from diffvas.metrics.rle import Rle

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Steadiness:
    """Of T masks, one value per pair of consecutive frames, (T - 1,) float64; nan where the truth gives no motion.

    Attributes:
        consistency: IoU of the mask and the moved mask before; 1 when both are empty.
        jitter: mean travel of the boundary in pixels, |difference of the two| / length of the boundary.
    """

    consistency: F64
    jitter: F64


def centre(mask: Bool) -> F64 | None:
    """(2,) float64 mean row and column of the object's pixels; None where there are none."""
    total = int(np.count_nonzero(mask))
    if not total:
        return None
    rows, cols = mask.sum(axis=1), mask.sum(axis=0)
    return np.array([rows @ np.arange(len(rows)), cols @ np.arange(len(cols))]) / total


def shift(mask: Bool, rows: int, cols: int) -> Bool:
    """The mask moved down and right by whole pixels; what leaves the frame is lost, what comes in is background."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    if abs(rows) < height and abs(cols) < width:
        kept = mask[max(-rows, 0) : height - max(rows, 0), max(-cols, 0) : width - max(cols, 0)]
        out[max(rows, 0) : height + min(rows, 0), max(cols, 0) : width + min(cols, 0)] = kept
    return out


def boundary_length(mask: Bool) -> int:
    """Object pixels with a 4-neighbour that is not the object's; the frame's edge is no boundary."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return int(np.count_nonzero(mask & ~inner))


def true_motion(amodal: Sequence[Rle]) -> list[tuple[int, int] | None]:
    """(rows, columns) that the true mask's centre moves by from each frame to the next, rounded to whole pixels.

    None where one of the two is empty.
    """
    centres = [centre(runs.decode(mask)) for mask in amodal]
    steps: list[tuple[int, int] | None] = []
    for a, b in pairwise(centres):
        step = None if a is None or b is None else np.floor(b - a + 0.5).astype(int)
        steps.append(None if step is None else (int(step[0]), int(step[1])))
    return steps


def steadiness(masks: Sequence[Rle], motion: Sequence[tuple[int, int] | None]) -> Steadiness:
    """How little a mask changes from frame to frame beyond the given motion.

    Args:
        masks: T run-length masks of one size: a prediction, or the truth itself.
        motion: T - 1 shifts, see :func:`true_motion`.

    Raises:
        ValueError: another number of shifts.
    """
    if len(motion) != len(masks) - 1:
        raise ValueError(f"motion: expected {len(masks) - 1} shifts for {len(masks)} masks, got {len(motion)}")
    consistency = np.full(len(motion), np.nan)
    jitter = np.full(len(motion), np.nan)
    before = runs.decode(masks[0])
    for t, step in enumerate(motion):
        after = runs.decode(masks[t + 1])
        if step is not None:
            moved = shift(before, *step)
            union, inter = np.count_nonzero(moved | after), np.count_nonzero(moved & after)
            consistency[t] = inter / union if union else 1.0
            length = max(boundary_length(after), boundary_length(moved))
            jitter[t] = (union - inter) / length if length else float(union > inter)
        before = after
    return Steadiness(consistency, jitter)


@dataclass
class SteadyScore:
    """Collects clips and averages how steady they are, beside the truth itself.

    Attributes:
        clips: of the predictions and of the truths, in the order of the updates.
    """

    clips: list[tuple[Steadiness, Steadiness]] = field(default_factory=list)

    def update(self, masks: Sequence[Rle], amodal: Sequence[Rle]) -> tuple[Steadiness, Steadiness]:
        """Add one clip's T predicted and true masks; return the steadiness of both."""
        motion = true_motion(amodal)
        pair = steadiness(masks, motion), steadiness(amodal, motion)
        self.clips.append(pair)
        return pair

    def compute(self) -> dict[str, float]:
        """consistency, jitter, consistency_truth, jitter_truth: means over all pairs of frames; nan without any."""
        out = {}
        for i, suffix in enumerate(("", "_truth")):
            for name in ("consistency", "jitter"):
                values = np.concatenate([*(getattr(pair[i], name) for pair in self.clips), np.empty(0)])
                values = values[~np.isnan(values)]
                out[f"{name}{suffix}"] = float(values.mean()) if values.size else float("nan")
        return out
