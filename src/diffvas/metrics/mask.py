"""Mask scores: IoU, IoU of the hidden part, and the `strict` protocol that every headline number uses.

Notation: prediction P, true amodal mask G, true modal (visible) mask M; all bool, True on the object.
    IoU     = |P & G| / |P | G|
    IoU_occ = IoU(P \\ M, G \\ M)
IoU is exact (no epsilon). Two empty masks agree perfectly, so their IoU is defined as 1: an object that is out of the
picture and predicted to be out of the picture is right, and one false pixel there brings the frame to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

HIDDEN_SHARE = 0.0005
"""A frame counts in mIoU_occ when its hidden area is at least this share of the frame's pixels (0.05 %)."""


def check_masks(name: str, masks: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
    """Raise ValueError unless `masks` is a non-empty (T, H, W) bool array (of `shape`, if given)."""
    dtype = getattr(masks, "dtype", type(masks).__name__)
    if dtype != np.bool_ or masks.ndim != 3 or 0 in masks.shape:
        raise ValueError(f"{name}: expected a (T, H, W) bool array with no empty axis, got {dtype} {np.shape(masks)}")
    if shape is not None and masks.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {masks.shape}")


def iou(p: np.ndarray, g: np.ndarray) -> float:
    """Exact intersection over union of two bool masks of one shape; 1.0 when both are empty.

    Raises:
        ValueError: the two are not bool arrays of one shape.
    """
    if p.dtype != np.bool_ or g.dtype != np.bool_ or p.shape != g.shape:
        raise ValueError(f"p, g: expected two bool masks of one shape, got {p.dtype} {p.shape} and {g.dtype} {g.shape}")
    union = int(np.count_nonzero(p | g))
    return int(np.count_nonzero(p & g)) / union if union else 1.0


def occluded_iou(p: np.ndarray, g: np.ndarray, m: np.ndarray) -> float:
    """IoU(p \\ m, g \\ m): how well the hidden part is found. 1.0 when nothing is hidden and nothing is claimed."""
    if m.dtype != np.bool_ or m.shape != g.shape:
        raise ValueError(f"m: expected a bool mask of shape {g.shape}, got {m.dtype} {m.shape}")
    return iou(p & ~m, g & ~m)


@dataclass(frozen=True, eq=False)
class FrameScores:
    """What a protocol says of every frame of one object in one clip; all arrays are (T,).

    Attributes:
        iou: float64, IoU of the whole object; only the frames in `scored` enter an average.
        iou_occ: float64, IoU of the hidden parts; only the frames in `counted` enter an average.
        hidden_area: int64, |G \\ M| in pixels.
        counted: bool, frames of mIoU_occ. In `strict` rules: hidden area of at least 0.05 % of the frame.
        fully_hidden: bool, `counted` frames in which no pixel of the object is visible.
        scored: bool, frames of mIoU. In `strict` rules: all.
    """

    iou: np.ndarray
    iou_occ: np.ndarray
    hidden_area: np.ndarray
    counted: np.ndarray
    fully_hidden: np.ndarray
    scored: np.ndarray


def strict_frames(pred: np.ndarray, amodal: np.ndarray, modal: np.ndarray) -> FrameScores:
    """Score one object in one clip, frame by frame, in `strict` rules.

    Args:
        pred: (T, H, W) bool, predicted amodal masks at the ground truth's own size. The modal mask is added to them
            before scoring: what is seen is known, and a method is not judged on whether it repeats it.
        amodal: (T, H, W) bool, true amodal masks.
        modal: (T, H, W) bool, true visible masks.

    Raises:
        ValueError: one of the three is not a (T, H, W) bool array, or their shapes differ.
    """
    check_masks("amodal", amodal)
    check_masks("modal", modal, amodal.shape)
    check_masks("pred", pred, amodal.shape)
    whole = pred | modal
    hidden_area = np.count_nonzero(amodal & ~modal, axis=(1, 2)).astype(np.int64)
    counted = hidden_area >= HIDDEN_SHARE * amodal.shape[1] * amodal.shape[2]
    return FrameScores(
        iou=np.array([iou(p, g) for p, g in zip(whole, amodal, strict=True)]),
        iou_occ=np.array([occluded_iou(p, g, m) for p, g, m in zip(whole, amodal, modal, strict=True)]),
        hidden_area=hidden_area,
        counted=counted,
        fully_hidden=counted & ~modal.any(axis=(1, 2)),
        scored=np.ones(len(amodal), bool),
    )


def bootstrap_interval(
    groups: Sequence[np.ndarray], *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over all values, resampling whole groups (clips).

    Frames of one clip are alike, so resampling frames would give an interval that is far too narrow.

    Args:
        groups: one float array per clip; empty ones are left out.
        rng: the source of randomness.
        level: probability inside the interval, in (0, 1).
        resamples: number of bootstrap draws.

    Returns:
        (low, high), or (nan, nan) when there are no values.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected a probability between 0 and 1, got {level}")
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    filled = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not filled:
        return float("nan"), float("nan")
    sums = np.array([group.sum() for group in filled])
    counts = np.array([len(group) for group in filled])
    draws = rng.integers(len(filled), size=(resamples, len(filled)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _mean(groups: Sequence[np.ndarray]) -> float:
    """Mean over all values of all groups; nan when there are none."""
    values = np.concatenate([*groups, np.empty(0)])
    return float(values.mean()) if values.size else float("nan")


def _clip_mean(groups: Sequence[np.ndarray]) -> float:
    """Mean over the non-empty groups of each group's own mean; nan when there are none."""
    return _mean([np.array([group.mean() for group in groups if group.size])])


def average_clips(
    clips: Sequence[FrameScores],
    *,
    rng: np.random.Generator | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    groups: Sequence[str] | None = None,
) -> dict[str, float | int]:
    """Averages over clips; an average over no frames is nan, and its N says so.

    Args:
        clips: per-frame scores.
        rng: randomness of the bootstrap; by default a fresh generator with seed 0, so that equal scores give equal
            tables.
        level: probability inside the `_low` to `_high` intervals.
        resamples: bootstrap draws.
        groups: one name per clip; clips of one name (objects of one scene) are resampled together. None = each alone.

    Returns:
        miou, miou_occ, miou_occ_fully_hidden: means over frames, in [0, 1].
        miou_clip, miou_occ_clip: means over clips of each clip's mean.
        miou_low, miou_high, miou_occ_low, miou_occ_high: intervals of the means over frames, clips resampled.
        clips, frames, clips_occ, frames_occ, frames_fully_hidden: the N behind each of them.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    every = [clip.iou[clip.scored] for clip in clips]
    hidden = [clip.iou_occ[clip.counted] for clip in clips]
    gone = [clip.iou_occ[clip.fully_hidden] for clip in clips]
    low, high = bootstrap_interval(pool(every, groups), rng=rng, level=level, resamples=resamples)
    occ_low, occ_high = bootstrap_interval(pool(hidden, groups), rng=rng, level=level, resamples=resamples)
    return {
        "miou": _mean(every),
        "miou_low": low,
        "miou_high": high,
        "miou_clip": _clip_mean(every),
        "miou_occ": _mean(hidden),
        "miou_occ_low": occ_low,
        "miou_occ_high": occ_high,
        "miou_occ_clip": _clip_mean(hidden),
        "miou_occ_fully_hidden": _mean(gone),
        "clips": len(clips),
        "frames": sum(len(values) for values in every),
        "clips_occ": sum(bool(len(values)) for values in hidden),
        "frames_occ": sum(len(values) for values in hidden),
        "frames_fully_hidden": sum(len(values) for values in gone),
    }


def pool(values: Sequence[np.ndarray], groups: Sequence[str] | None) -> list[np.ndarray]:
    """The values (N_i,) of every clip joined by the clips' groups, in the order in which groups first come."""
    if groups is None:
        return list(values)
    joined: dict[str, list[np.ndarray]] = {}
    for value, group in zip(values, groups, strict=True):
        joined.setdefault(group, []).append(value)
    return [np.concatenate(parts) for parts in joined.values()]


@dataclass
class StrictScore:
    """Collects clips under the `strict` protocol and averages them.

    Every frame counts in mIoU; every frame with at least 0.05 % of its pixels hidden counts in mIoU_occ, total misses
    with 0 and fully hidden frames included. One `update` per object and clip.

    Attributes:
        clips: per-frame scores in the order of the updates.
    """

    clips: list[FrameScores] = field(default_factory=list)

    def update(self, pred: np.ndarray, amodal: np.ndarray, modal: np.ndarray) -> FrameScores:
        """Add one object of one clip (see `strict_frames` for shapes and errors) and return its per-frame scores."""
        scores = strict_frames(pred, amodal, modal)
        self.clips.append(scores)
        return scores

    def compute(
        self, *, rng: np.random.Generator | None = None, level: float = 0.95, resamples: int = 2000
    ) -> dict[str, float | int]:
        """Averages over everything seen so far; see :func:`average_clips`."""
        return average_clips(self.clips, rng=rng, level=level, resamples=resamples)
