"""What K samples say together: one mask, how sure it is, and which frames a person should look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from diffvas.types import Bool

OUTPUTS = ("consensus", "best", "mean-shape")


def check_output(output: str) -> None:
    """Raise ValueError unless it is one of ``OUTPUTS``."""
    if output not in OUTPUTS:
        raise ValueError(f"output: expected one of {', '.join(OUTPUTS)}, got {output!r}")


def sample_levels(threshold: float, count: int, *, spread: bool) -> list[float]:
    """Where the soft masks of ``count`` samples are cut; the first at the threshold.

    A model finished for one step says nearly the same from any noise: its doubt is in the greys, not among the samples.
    With ``spread`` the others are cut at levels that fill 0 to 1 evenly (van der Corput 1935), half of them below the
    threshold: a pixel of probability p is in about a share p of the masks, and each mask claims more or less of
    all that is doubtful.
    """
    if not spread:
        return [threshold] * count
    levels = []
    for k in range(1, count + 1):
        u, base = 0.0, 0.5
        while k:
            u, k, base = u + base * (k & 1), k >> 1, base / 2
        levels.append(2 * u * threshold if u <= 0.5 else threshold + (2 * u - 1) * (1 - threshold))
    return levels


def iou(a: Bool, b: Bool) -> float:
    """Intersection over union; 1 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def expected_iou(mask: Bool, samples: Iterable[Bool]) -> float:
    """The mean IoU of a mask with the samples: what it would score if the truth were one of them.

    Args:
        mask: (H, W) bool. samples: K of the same shape.
    """
    return float(np.mean([iou(mask, sample) for sample in samples]))


def mean_shape(masks: Sequence[Bool]) -> Bool:
    """The mean of masks (H, W) as shapes: where the mean of their signed distances to the outline is not negative.

    Unlike a vote it does not tear thin parts that the samples have at different places. (Shape-based averaging,
    Rohlfing and Maurer 2007.)
    """
    total = np.zeros(masks[0].shape, np.float32)
    reach = float(max(masks[0].shape))
    for mask in masks:
        inside = mask.astype(np.uint8)
        if not inside.any():
            total -= reach
        elif inside.all():
            total += reach
        else:
            # half a pixel off each, so that the outline lies between the pixels
            total += cv2.distanceTransform(inside, cv2.DIST_L2, 5) - 0.5 * inside
            total -= cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) - 0.5 * (1 - inside)
    return np.asarray(total >= 0)


class Medoid:
    """Finds the sample that agrees best with the others over many frames."""

    def __init__(self, count: int) -> None:
        self._sums = np.zeros((count, count))

    def add(self, samples: Sequence[Bool]) -> None:
        """The K masks of one frame."""
        for i, first in enumerate(samples):
            for j in range(i):
                value = iou(first, samples[j])
                self._sums[i, j] += value
                self._sums[j, i] += value

    @property
    def best(self) -> int:
        """The sample with the highest mean IoU with the others; the first of equals."""
        return int(self._sums.sum(1).round(9).argmax())


def as_ranges(frames: Sequence[int]) -> str:
    """Frame numbers in words: "3-7, 12"."""
    parts: list[list[int]] = []
    for frame in frames:
        if parts and parts[-1][-1] == frame - 1:
            parts[-1][-1:] = [parts[-1][-1], frame] if len(parts[-1]) == 1 else [frame]
        else:
            parts.append([frame])
    return ", ".join("-".join(map(str, part)) for part in parts)
