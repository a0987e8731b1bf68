"""Track-AP as TAO and LVIS define it, over amodal boxes: detected tracks with scores and classes, free association.

This is not the "AP" of TAO-Amodal's `reference` protocol (``box.BoxScore``), in which the association is given.

The IoU of two tracks is the sum of their intersections over the sum of their unions, over all frames in which either is
present (Yang et al. 2019; Dave et al. 2020). Per class and threshold, detections are matched greedily in order of their
scores, and precision is interpolated at 101 recalls; classes without a true track do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffvas.metrics.box import check_boxes

F64 = NDArray[np.float64]

IOU_THRESHOLDS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Track:
    """Boxes of one object in one video.

    Attributes:
        video: id of the video. category: class. boxes: by frame number, (x, y, width, height).
        score: of a detection, higher = surer; of no use in a true track.
    """

    video: int
    category: int
    boxes: Mapping[int, Sequence[float]]
    score: float = 1.0

    def __post_init__(self) -> None:
        check_boxes("boxes", list(self.boxes.values()) or np.zeros((0, 4)))
        if not np.isfinite(self.score):
            raise ValueError(f"score: expected a finite number, got {self.score}")


def track_iou(a: Track, b: Track) -> float:
    """Sum of intersections over sum of unions, over all frames of both; 0 for tracks of different videos."""
    if a.video != b.video:
        return 0.0
    inter = total = 0.0
    for frame, (x, y, w, h) in a.boxes.items():
        total += w * h
        other = b.boxes.get(frame)
        if other is not None:
            wide = min(x + w, other[0] + other[2]) - max(x, other[0])
            tall = min(y + h, other[1] + other[3]) - max(y, other[1])
            inter += max(wide, 0.0) * max(tall, 0.0)
    total += sum(w * h for _, _, w, h in b.boxes.values())
    return inter / (total - inter) if total > inter else 0.0


def average_precision(hits: NDArray[np.bool_], positives: int) -> float:
    """101-point interpolated AP of detections in order of their scores; nan without positives."""
    if not positives:
        return float("nan")
    found = np.cumsum(hits)
    recall, precision = found / positives, found / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _hits(ious: F64, threshold: float) -> NDArray[np.bool_]:
    """Which detections (rows, surest first) take a true track (columns) that none before them took."""
    free = np.ones(ious.shape[1], bool)
    hits = np.zeros(len(ious), bool)
    for i, row in enumerate(ious):
        reachable = np.where(free, row, -1.0)
        best = int(reachable.argmax()) if len(row) else -1
        if best >= 0 and reachable[best] >= threshold:
            free[best], hits[i] = False, True
    return hits


def track_ap(
    detected: Sequence[Track], true: Sequence[Track], thresholds: Sequence[float] = IOU_THRESHOLDS
) -> dict[str, float]:
    """Track-AP: ``ap`` over all thresholds, and ``ap50``, ``ap75`` where they are among them; nan without true tracks.

    Args:
        detected: tracks with scores, any order.
        true: the truth.
        thresholds: of the track IoU, reached or passed.
    """
    table = []
    for category in sorted({track.category for track in true}):
        wanted = [track for track in true if track.category == category]
        given = sorted((t for t in detected if t.category == category), key=lambda t: -t.score)
        ious = np.array([[track_iou(d, t) for t in wanted] for d in given]).reshape(len(given), len(wanted))
        table.append([average_precision(_hits(ious, threshold), len(wanted)) for threshold in thresholds])
    means = np.mean(table, axis=0) if table else np.full(len(thresholds), np.nan)
    out = {"ap": float(np.mean(means))}
    for name, threshold in (("ap50", 0.50), ("ap75", 0.75)):
        near = [float(m) for m, t in zip(means, thresholds, strict=True) if abs(t - threshold) < 1e-9]
        if near:
            out[name] = near[0]
    return out
